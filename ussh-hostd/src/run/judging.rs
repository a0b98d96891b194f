//! The verdict on each session, by the CA file and the revocation list as they are now: whoever is refused ends, whatever the clock says.
//!
//! Broken files end nobody: the last state that was whole stays in force, and no session is renewed meanwhile (`trust`).

use std::sync::Arc;

use ussh_core::certificate::Certificate;
use ussh_core::clock::UnixTime;

use super::Daemon;
use crate::report::Severity;
use crate::session::Event;
use crate::spool::ConnectionId;
use crate::trust::Reload;
use crate::trust_note;
use crate::watch::SCAN_EVERY_WHILE_BROKEN;

impl Daemon {
    /// Reads the CA file and the revocation list if they have changed, and judges every session by them.
    pub(super) fn reload_trust(&mut self) {
        let reload = self.trust.reload();
        if !matches!(reload, Reload::Unchanged) {
            let note = self.config.trust_note();
            if let Err(e) = trust_note::write(&note, self.trust.problem()) {
                self.report.line(Severity::Error, &format!("{}: {e}", note.display()));
            }
        }
        if self.trust.problem().is_some() {
            self.next_scan = self.next_scan.min(self.started.elapsed() + SCAN_EVERY_WHILE_BROKEN);
        }
        match reload {
            Reload::Unchanged => {}
            Reload::Broken(problem) => {
                self.report.line(Severity::Error, &format!("Renewing no session until this is mended: {problem}"));
            }
            Reload::Changed => {
                self.report.line(Severity::Info, "Read the CA file and the revocation list");
                let ids: Vec<ConnectionId> = self.held.keys().copied().collect();
                for id in ids {
                    self.judge(id);
                }
            }
        }
    }

    /// Both the certificate of the login and the one the session lives by must be good, time apart.
    pub(super) fn judge(&mut self, id: ConnectionId) {
        let Some(trust) = self.trust.for_sessions() else { return };
        let now = UnixTime(self.now().wall.as_secs());
        let Some(held) = self.held.get(&id) else { return };
        let is_same = |c: &&Arc<Certificate>| held.login.as_ref().is_some_and(|login| Arc::ptr_eq(login, c));
        let renewed = held.current.as_ref().filter(|c| !is_same(c));
        let certificates = held.login.as_ref().into_iter().chain(renewed);
        let refusal = certificates.filter_map(|c| trust.verdict_time_apart(c, now).err()).next();
        if let Some(refusal) = refusal {
            self.happened(id, Event::Refused(refusal));
        }
    }
}
