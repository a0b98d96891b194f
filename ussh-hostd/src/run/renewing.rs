//! Renewing a session: its own agent is asked for a newer certificate (`look`), and what comes back is judged anew before it counts.
//!
//! Untrusted input: the certificate that the agent has shown. The worker that asked is this process; its verdict may be out of date.

use std::sync::Arc;
use std::time::Instant;

use ussh_core::challenge::ChallengeContext;
use ussh_core::clock::UnixTime;
use ussh_core::decision::Accepted;

use super::Daemon;
use crate::look::{Answer, Look, NotRenewed};
use crate::report::Severity;
use crate::session::Event;
use crate::spool::ConnectionId;
use crate::trust::Trust;

impl Daemon {
    fn trust_for_renewals(&self) -> Result<Arc<Trust>, NotRenewed> {
        if self.chores.feed_refuses() {
            return Err(NotRenewed::Failed("the feed is stale".into()));
        }
        let unusable = || NotRenewed::Failed("the CA file or the revocation list is not usable".into());
        self.trust.for_renewals().ok_or_else(unusable)
    }

    pub(super) fn look(&mut self, id: ConnectionId) {
        let trust = match self.trust_for_renewals() {
            Ok(trust) => trust,
            Err(why) => return self.take_answer(id, Err(why)),
        };
        let Some(held) = self.held.get(&id) else { return };
        let (Some(current), Some(terms)) = (held.current.as_deref().cloned(), held.terms.clone()) else {
            return self.take_answer(id, Err(NotRenewed::NothingNewer));
        };
        let now = self.now();
        let context = ChallengeContext {
            host: self.host.clone(),
            service: "ussh-hostd".into(),
            user: held.record.user.clone(),
            ruser: String::new(),
            tty: String::new(),
            now: UnixTime(now.wall.as_secs()),
        };
        let (uid, timeout) = (held.record.uid, self.config.timing.agent_timeout);
        let needed_by = held.session.asks_for_its_end_in(now).and_then(|left| Instant::now().checked_add(left));
        let look = Look { id, uid, needed_by, current, terms, trust, context, timeout };
        self.lookers.begin(look);
    }

    pub(super) fn take_answers(&mut self) {
        for (id, answer) in self.lookers.answers() {
            self.take_answer(id, answer);
        }
    }

    fn take_answer(&mut self, id: ConnectionId, answer: Answer) {
        let event = match answer.and_then(|accepted| self.accept_renewal(id, &accepted)) {
            Ok(valid_before) => Event::Renewed { valid_before },
            Err(reason) => {
                self.note_reason(id, reason);
                Event::NotRenewed
            }
        };
        self.happened(id, event);
    }

    /// An agent that is not there, or has nothing new, is no event; anything else is reported once.
    fn note_reason(&mut self, id: ConnectionId, reason: NotRenewed) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let quiet = matches!(reason, NotRenewed::NothingNewer | NotRenewed::NoAgent);
        if !quiet && held.last_reason.as_ref() != Some(&reason) {
            self.report.line(Severity::Info, &format!("Session not renewed: {}: {reason}", held.who()));
        }
        held.last_reason = Some(reason);
    }

    /// The worker judged by the files and the clock as they were: both are looked at again here, with the proof and the lineage.
    fn accept_renewal(&mut self, id: ConnectionId, accepted: &Accepted) -> Result<UnixTime, NotRenewed> {
        let trust = self.trust_for_renewals()?;
        let now = UnixTime(self.now().wall.as_secs());
        let held = self.held.get_mut(&id).ok_or(NotRenewed::NoAgent)?;
        let newer = accepted.certificate.certificate();
        let verified = trust.verdict(newer, now).map_err(|e| NotRenewed::NotAccepted(e.to_string()))?;
        let lineage =
            held.current.as_ref().is_some_and(|c| newer.same_lineage(c) && newer.valid_before() > c.valid_before());
        let terms = held.terms.as_ref().ok_or(NotRenewed::NothingNewer)?;
        terms.allow(newer).map_err(|e| NotRenewed::NotAccepted(e.to_string()))?;
        if !accepted.proof.is_for(&verified) || !lineage || held.session.is_ending() {
            return Err(NotRenewed::NothingNewer);
        }
        if let Err(e) = self.spool.set_renewed(id, newer) {
            self.report.line(Severity::Error, &format!("Renewal of {id} is not remembered over a restart: {e}"));
        }
        held.current = Some(Arc::new(newer.clone()));
        Ok(newer.valid_before())
    }
}
