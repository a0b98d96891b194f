//! Sessions that may not last: those by break-glass, and those without a certificate.

use std::time::Duration;

use ussh_core::break_glass::{Note, read_keys};
use ussh_core::certificate::Certificate;
use ussh_core::record::SessionRecord;

use super::Daemon;
use crate::report::Severity;
use crate::session::Now;

impl Daemon {
    /// Whether it is by the break-glass CA, as far as the files have ever said; its own file alone does, while another one is broken.
    pub(super) fn is_break_glass(&self, login: &Certificate) -> bool {
        let is_known = self.trust.for_sessions().is_some_and(|trust| trust.cas().is_break_glass(login.ca()));
        is_known || read_keys(&self.config.break_glass.ca_file).is_ok_and(|keys| keys.contains(login.ca()))
    }

    /// Sees that each use is noted on disk: pam_ussh has done it, unless the disk was full; and has whoever is to know told of what is new.
    pub(super) fn note_break_glass(&mut self) {
        let folder = self.config.break_glass_folder();
        for held in self.held.values().filter(|held| held.break_glass && !held.noted.get()) {
            let Some(login) = &held.login else { continue };
            match Note::of(&held.record, login).put(&folder) {
                Ok(is_new) => {
                    held.noted.set(true);
                    let severity = if is_new { Severity::Alert } else { Severity::Notice };
                    self.report.certificate(severity, "BREAK-GLASS session of", login, &held.who());
                    self.chores.tell_now(Now { wall: Duration::ZERO, elapsed: self.started.elapsed() });
                }
                Err(e) => {
                    let text = format!("{}: cannot be noted in {}: {e}", held.who(), folder.display());
                    self.report.certificate(Severity::Alert, "BREAK-GLASS session of", login, &text);
                }
            }
        }
    }

    /// How long a session may last from now on; `None`: as long as its certificate.
    pub(super) fn limit_of(&self, record: &SessionRecord, login: Option<&Certificate>) -> Option<Duration> {
        // A certificate that cannot be read is refused.
        let whole = match login {
            Some(login) => Some(self.config.break_glass.limit).filter(|_| self.is_break_glass(login)),
            None => self.config.without_certificate_limit.filter(|_| record.certificate.is_none()),
        }?;
        // One that was opened in the future has just been opened.
        Some(whole.saturating_sub(self.now().wall.saturating_sub(Duration::from_secs(record.opened.0))))
    }
}
