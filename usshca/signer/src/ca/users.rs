//! User certificates: one transaction a turn for what was signed before and for what is decided now.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ussh_core::audit;
use ussh_core::certificate::Certificate;
use ussh_core::clock::UnixTime;
use ussh_core::issue::IssueError;
use ussh_os::syslog::Severity;

use super::decision::{Decided, asked, decide_user};
use super::{Ca, Passed, Reserved, UserRequest, log_refusal};
use crate::counts;
use crate::inventory::{Asked, Batch, InventoryError, Kind, Outcome};
use crate::log;
use crate::refused::Refused;
use crate::signing::Ordered;

/// What became of a certificate's delivery.
#[derive(Clone, Debug)]
pub struct OutcomeOf {
    /// The certificate's.
    pub serial: u64,
    /// Whose it is, for the log; of a host's: nothing.
    pub user: String,
    /// What.
    pub outcome: Outcome,
}

/// A user certificate that is signed and on disk.
#[derive(Clone, Debug)]
pub struct IssuedUser {
    /// Whose.
    pub user: String,
    /// The certificate.
    pub certificate: Certificate,
    /// Seconds until it ends.
    pub lifetime_seconds: u32,
    /// The agent asks before each use.
    pub confirm: bool,
    /// The rule that decided.
    pub rule: String,
}

impl Ca {
    /// Issues one user certificate, with nobody beside. Everything in it but the key comes from the statement and from policy; a wish can only make less of it.
    /// # Errors
    /// [`Refused`]; a refusal is a row of the inventory too.
    #[cfg(test)]
    pub fn issue_user(&mut self, passed: &Passed, request: &UserRequest<'_>) -> Result<IssuedUser, Refused> {
        let decided = self.turn(Vec::new(), &[], &[(passed, *request)]).decided;
        let reserved = decided.into_iter().collect::<Result<Vec<_>, _>>()?;
        let done = self.turn(reserved, &[], &[]).issued;
        done.into_iter().next().unwrap_or(Err(Refused::Inventory(InventoryError::GivenUp)))
    }

    /// One transaction for all that is to be written now: what was signed in the turn before, outcomes, and the decisions about new requests. What was reserved is signed
    /// after it is on disk, and may leave after the next turn. Of each list there is an answer for each entry, in order. Everything in a certificate but the key comes from
    /// the statement and from policy; a wish can only make less of it.
    pub fn turn(
        &mut self,
        signed: Vec<SignedUser>,
        outcomes: &[OutcomeOf],
        requests: &[(&Passed, UserRequest<'_>)],
    ) -> Turned {
        let now = self.now();
        let own = self.own_keys();
        let Ca { keys, signing, policy, inventory, clock, .. } = self;
        let (reserved, ordered): (Vec<Reserved>, Vec<Ordered>) =
            signed.into_iter().map(|SignedUser { reserved, ordered }| (reserved, ordered)).unzip();
        let mut certificates = Vec::with_capacity(ordered.len());
        let written = inventory.batch(|batch| {
            let noted = outcomes.iter().map(|of| batch.note_outcome(of.serial, &of.outcome)).collect();
            let decided = requests
                .iter()
                .map(|(passed, request)| decide_user(policy, &own, batch, passed, request, now))
                .collect();
            // Last: until here they are signed beside.
            certificates.extend(ordered.iter().map(Ordered::certificate));
            let issued = reserved
                .iter()
                .zip(&certificates)
                .map(|(reserved, certificate)| record_signature(batch, reserved.serial, certificate))
                .collect();
            Written { issued, noted, decided }
        });
        let written = written.unwrap_or_else(|e| Written::failed(e, reserved.len(), outcomes, requests, now));
        // None was asked for if the transaction could not even be begun: each is told that.
        certificates.resize(reserved.len(), Err(IssueError::Template("was not asked for")));
        // Nothing is lost by a kill but what one may lose between any commit and its line.
        let held = log::hold();
        outcomes.iter().zip(&written.noted).for_each(|(of, noted)| log_outcome(of, noted));
        let issued = written.issued.into_iter().zip(reserved).zip(certificates);
        let issued = issued.map(|((written, reserved), certificate)| {
            let certificate = written.and_then(|()| Ok(certificate?));
            finish_user(certificate, reserved, clock.now())
        });
        let issued = issued.collect();
        drop(held);
        let mut templates = Vec::new();
        let decided = written.decided.into_iter().zip(requests).map(|((asked, decided), (_, request))| {
            let (template, reserved) = decided.inspect_err(|refused| log_refusal_of(request, &asked, refused))?;
            templates.push(template);
            Ok(reserved)
        });
        let decided: Vec<Result<Reserved, Refused>> = decided.collect();
        let mut ordered = signing.begin(&keys.user, templates);
        let decided = decided.into_iter().map(|decided| {
            let reserved = decided?;
            // There is one for each.
            let ordered = ordered.next().ok_or(IssueError::Template("was not signed"))?;
            Ok(SignedUser { ordered, reserved })
        });
        Turned { issued, noted: written.noted, decided: decided.collect() }
    }

    /// Those that may go into the next turn, and those that are left for later: an agent's signatures are waited for one after the other, and nobody is served meanwhile. There
    /// is one at least among the first.
    pub fn split_signed(&self, mut signed: Vec<SignedUser>, patience: Duration) -> (Vec<SignedUser>, Vec<SignedUser>) {
        if self.keys.user.is_file() {
            return (signed, Vec::new());
        }
        let deadline = Instant::now() + patience;
        let done = signed.iter().take_while(|signed| signed.ordered.is_done_by(deadline)).count();
        let later = signed.split_off(done);
        (signed, later)
    }
}

/// A user certificate that is signed while it waits for the next turn, in which it is written: it must not leave before.
#[derive(Debug)]
pub struct SignedUser {
    ordered: Ordered,
    reserved: Reserved,
}

/// The answers of a turn.
#[derive(Debug)]
pub struct Turned {
    /// What was signed in the turn before and is on disk now.
    pub issued: Vec<Result<IssuedUser, Refused>>,
    /// Whether the outcomes are.
    pub noted: Vec<Result<(), InventoryError>>,
    /// What was reserved and is being signed, or why nothing is; a refusal is a row of the inventory too.
    pub decided: Vec<Result<SignedUser, Refused>>,
}

/// What a turn's transaction did.
struct Written {
    issued: Vec<Result<(), Refused>>,
    noted: Vec<Result<(), InventoryError>>,
    decided: Vec<Decided>,
}

impl Written {
    /// Nothing.
    fn failed(
        error: InventoryError,
        signed: usize,
        outcomes: &[OutcomeOf],
        requests: &[(&Passed, UserRequest<'_>)],
        now: UnixTime,
    ) -> Self {
        let error = Arc::new(error);
        let shared = || InventoryError::shared(&error);
        let decided =
            |(passed, request): &(&Passed, UserRequest<'_>)| (asked(passed, request, now), Err(shared().into()));
        Written {
            issued: (0..signed).map(|_| Err(shared().into())).collect(),
            noted: outcomes.iter().map(|_| Err(shared())).collect(),
            decided: requests.iter().map(decided).collect(),
        }
    }
}

fn record_signature(
    batch: &mut Batch<'_>,
    serial: u64,
    signed: &Result<Certificate, IssueError>,
) -> Result<(), Refused> {
    match signed {
        Ok(certificate) => Ok(batch.mark_signed(serial, certificate.blob())?),
        // The row stands there in any case, and nothing was signed.
        Err(e) => Ok(batch.mark_unsigned(serial, &e.to_string())?),
    }
}

/// The user's own words come last and in quotes, which they cannot close.
pub(super) fn issued_detail(user: &str, peer: SocketAddr, rule: &str, reason: &str) -> String {
    let said = if reason.is_empty() { String::new() } else { format!(" reason \"{}\"", reason.replace('"', "'")) };
    format!("for {user} from {peer} rule \"{rule}\"{said}")
}

fn finish_user(
    certificate: Result<Certificate, Refused>,
    reserved: Reserved,
    now: UnixTime,
) -> Result<IssuedUser, Refused> {
    let Reserved { serial, user, peer, connection, authenticated, mode, grant, reason } = reserved;
    let certificate = certificate.inspect_err(|refused| {
        let line = format!("Refusing a certificate to \"{user}\" from {peer}: serial {serial}: {refused}");
        let (source, whole, number) = (peer.ip().to_canonical().to_string(), peer.to_string(), connection.to_string());
        let more = [("user", &*user), ("connection", &*number), ("peer", &*whole), ("rule", &*grant.rule)];
        log::refusal(&line, &user, &source, &refused.to_string(), &more);
        counts::refused();
    })?;
    let detail = issued_detail(&user, peer, &grant.rule, &reason);
    let (peer, connection) = (peer.to_string(), connection.to_string());
    let fields = [
        ("user", &*user),
        ("rule", &*grant.rule),
        ("peer", &*peer),
        ("connection", &*connection),
        ("authenticated", &*authenticated),
        ("mode", mode.name()),
    ];
    log::decision(&audit::certificate_line("Issued", &certificate, &detail), "issued", &certificate, &fields);
    counts::issued(Kind::User, now);
    let left = certificate.valid_before().0.saturating_sub(now.0);
    let left = left.min(grant.agent_lifetime_seconds.unwrap_or(left));
    Ok(IssuedUser {
        user,
        certificate,
        // Not 0: an agent takes that as "for ever".
        lifetime_seconds: u32::try_from(left).unwrap_or(u32::MAX).max(1),
        confirm: grant.confirm,
        rule: grant.rule,
    })
}

/// A user's.
fn log_refusal_of(request: &UserRequest<'_>, asked: &Asked, refused: &Refused) {
    let (connection, peer) = (request.connection.to_string(), request.peer.to_string());
    let more = [("user", &*asked.key_id), ("connection", &*connection), ("peer", &*peer), ("rule", &*asked.rule)];
    log_refusal(asked, refused, &more.into_iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>());
}

fn log_outcome(of: &OutcomeOf, noted: &Result<(), InventoryError>) {
    let OutcomeOf { serial, user, outcome } = of;
    let number = serial.to_string();
    let fields = |event, reason| {
        let fields = [("event", event), ("serial", &*number), ("user", user), ("reason", reason)];
        fields.into_iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>()
    };
    match (noted, outcome) {
        (Ok(()), Outcome::Delivered) => {
            log::event(Severity::Info, &format!("serial {serial} delivered"), &fields("delivered", ""));
        }
        (Ok(()), Outcome::Undelivered(why)) => {
            log::event(Severity::Warning, &format!("serial {serial} undelivered: {why}"), &fields("undelivered", why));
        }
        (Err(e), _) => log::warning(&format!("the outcome of serial {serial} could not be noted: {e}")),
    }
}
