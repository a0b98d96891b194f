//! Sessions that may not last: those by break-glass, and those without a certificate.

use std::time::Duration;

use ussh_core::break_glass::{Note, read_keys_apart};
use ussh_core::certificate::Certificate;
use ussh_core::record::SessionRecord;
use ussh_os::process;

use super::Daemon;
use crate::report::Severity;
use crate::session::Now;

impl Daemon {
    /// Whether it is by the break-glass CA, as far as the files have ever said; its own file alone does, while another one is broken. A user CA's key in that file stays a user CA's.
    pub(super) fn is_break_glass(&self, login: &Certificate) -> bool {
        let cas = self.trust.for_sessions().map(|trust| trust.cas());
        if cas.is_some_and(|cas| cas.is_user_ca(login.ca())) {
            return false;
        }
        let read = || read_keys_apart(&self.config.break_glass.ca_file, &self.config.ca_file);
        cas.is_some_and(|cas| cas.is_break_glass(login.ca())) || read().is_ok_and(|(keys, _)| keys.contains(login.ca()))
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
        let whole = match login {
            Some(login) => Some(self.config.break_glass.limit).filter(|_| self.is_break_glass(login)),
            // Also of one whose certificate cannot be read: that is refused, whatever is said here.
            None => self.config.without_certificate_limit,
        }?;
        Some(left(whole, record, self.now().wall))
    }
}

/// What is left of a limit. A session is as old as the wall clock says or, if that is more, as its connection is by the clock since boot: whoever sets the wall clock back has no more of it after a restart of ours.
fn left(whole: Duration, record: &SessionRecord, now: Duration) -> Duration {
    let by_wall = now.saturating_sub(Duration::from_secs(record.opened.0));
    // Without that clock there is the other one alone.
    let since_boot = process::age(record.start_time).unwrap_or_default();
    whole.saturating_sub(by_wall.max(since_boot))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_core::clock::UnixTime;

    use super::*;
    use crate::test_support::{from_now, record_of, this_process};

    #[test]
    fn a_session_that_was_opened_by_a_clock_that_was_ahead_is_as_old_as_its_connection() {
        let (now, ahead) = (Duration::from_secs(from_now(0).0), from_now(1_000_000));
        // Started with the machine, which has been up for longer than this.
        let old = SessionRecord { start_time: 0, opened: ahead, ..record_of(this_process(), None) };
        assert_eq!(left(Duration::from_secs(1), &old, now), Duration::ZERO);
        let new = SessionRecord { opened: ahead, ..record_of(this_process(), None) };
        let whole = Duration::from_secs(1_000_000);
        assert!((whole / 2..=whole).contains(&left(whole, &new, now)));
        // The wall clock counts too: it may have gone on while the machine was another one's image.
        let opened = UnixTime(from_now(0).0 - 600_000);
        assert!(left(whole, &SessionRecord { opened, ..new }, now) <= Duration::from_secs(400_000));
    }
}
