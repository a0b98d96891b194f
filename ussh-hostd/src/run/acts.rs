//! What the daemon does when a session's state machine says so. Here it tells people; the rest are steps of their own: it asks the agent (`renewing`), has the session stand still (`freezing`) or ends it (`ending`).

use std::time::Duration;

use super::Daemon;
use super::freezing::{Unfreezable, not_to_be_frozen};
use crate::config::{AtEnd, Timing};
use crate::report::{Severity, on_terminal, span};
use crate::session::Action;
use crate::spool::ConnectionId;

impl Daemon {
    pub(super) fn act(&mut self, id: ConnectionId, action: Action) {
        match action {
            Action::Look => self.look(id),
            Action::Warn { left } => self.warn(id, left),
            Action::WarnOfLimit { left } => self.warn_of_limit(id, left),
            Action::Prolong => self.prolong(id),
            Action::Overdue => self.overdue(id),
            Action::Freeze => self.freeze(id),
            Action::GoOn => self.go_on(id),
            Action::Watch => self.watch_frozen(id),
            Action::Announce(cause) => self.announce(id, &cause),
            Action::Terminate => self.terminate(id),
            Action::Kill => self.begin_to_kill(id),
            Action::KillItself => self.kill(id, "SIGKILL to its child", |c| c.kill_monitor()),
        }
    }

    fn warn(&self, id: ConnectionId, left: Duration) {
        let left = left.max(Duration::from_secs(1));
        let Some((held, certificate)) = self.certified(id) else { return };
        let timing = &self.config.timing;
        let freezes = timing.at_end == AtEnd::Freeze;
        // What cannot be asked now is seen at the end.
        let unfreezable = freezes.then(|| not_to_be_frozen(id, held.record.uid).ok().flatten()).flatten();
        let (text, reason) = warning(left, timing, unfreezable.as_ref());
        let told = held.connection.tell(Some(held.record.uid), &on_terminal(&text));
        let detail = format!("{}: {reason} and is not renewed; terminals told: {}", held.who(), told.terminals());
        self.report.certificate(Severity::Info, "Warning session of", certificate, &detail);
    }

    fn warn_of_limit(&self, id: ConnectionId, left: Duration) {
        let Some(held) = self.held.get(&id) else { return };
        let text = format!("this session ends in {}: it may last no longer here.", span(left));
        let told = held.connection.tell(Some(held.record.uid), &on_terminal(&text));
        let line =
            format!("Warning session of {}: ends in {}; terminals told: {}", held.who(), span(left), told.terminals());
        self.report.line(Severity::Info, &line);
    }

    fn prolong(&mut self, id: ConnectionId) {
        let Some((held, certificate)) = self.certified(id) else { return };
        let left = Duration::from_secs(certificate.valid_before().0).saturating_sub(self.now().wall);
        let detail = format!("{}: good for another {}", held.who(), span(left));
        self.report.certificate(Severity::Info, "Renewed session with", certificate, &detail);
        self.thaw(id);
    }

    fn overdue(&mut self, id: ConnectionId) {
        let Some((held, certificate)) = self.certified(id) else { return };
        let text = "your certificate has run out. This session goes on, and the log says so. For a new certificate run `ussh --login` on your own machine now.";
        let told = held.connection.tell(Some(held.record.uid), &on_terminal(text));
        let detail = format!("{}: it has run out and is not renewed; terminals told: {}", held.who(), told.terminals());
        self.report.certificate(Severity::Warning, "Letting go on a session of", certificate, &detail);
        // It was frozen under another configuration.
        self.thaw(id);
    }

    /// Its end was not to come yet.
    fn go_on(&mut self, id: ConnectionId) {
        let Some((held, certificate)) = self.certified(id) else { return };
        let end = Duration::from_secs(certificate.valid_before().0).saturating_add(self.config.timing.end_after);
        let left = span(end.saturating_sub(self.now().wall));
        let detail = format!("{}: the clock was ahead, and the session's end is to come in {left}", held.who());
        self.report.certificate(Severity::Notice, "Going on with session of", certificate, &detail);
        self.thaw(id);
    }
}

/// The text for the terminals, and what the log says.
fn warning(left: Duration, timing: &Timing, unfreezable: Option<&Unfreezable>) -> (String, String) {
    let Some(why) = unfreezable else {
        let (sentence, reason) = time_left(left, timing);
        return (format!("{sentence} {}", what_to_do(timing)), reason);
    };
    let timing = Timing { at_end: AtEnd::End, ..timing.clone() };
    let (sentence, reason) = time_left(left, &timing);
    let to_do = match why {
        Unfreezable::NoAgent => {
            "It cannot stand still or be renewed: it has no forwarded agent. Save your work, and connect again with `ussh`."
                .to_owned()
        }
        Unfreezable::Forwards(_) => format!("It cannot stand still: {why}. {}", what_to_do(&timing)),
    };
    (format!("{sentence} {to_do}"), reason)
}

/// What the terminals and the log are told of a session that has `left`, of which `end_after` may lie past its certificate's end.
fn time_left(left: Duration, timing: &Timing) -> (String, String) {
    let of_certificate = left.saturating_sub(timing.end_after);
    let (until, after) = (span(of_certificate), span(timing.end_after.min(left)));
    let has_run_out = of_certificate.is_zero();
    let runs_out = if has_run_out { "has run out".to_owned() } else { format!("runs out in {until}") };
    let then = match (timing.at_end, timing.end_after.is_zero(), has_run_out) {
        (AtEnd::End, true, _) => ", and this session with it".to_owned(),
        (AtEnd::End, false, true) => format!("; a new one still counts for {after}"),
        (AtEnd::End, false, false) => format!("; a new one still counts for {after} after that"),
        (AtEnd::Freeze, true, _) => ", and this session stands still then".to_owned(),
        (AtEnd::Freeze, false, true) => format!(", and this session stands still in {after}"),
        (AtEnd::Freeze, false, false) => format!(", and this session stands still {after} after that"),
        (AtEnd::Warn, ..) => "; this session goes on, but the log says that it has none".to_owned(),
    };
    let reason = if has_run_out { format!("has run out, has {after} left") } else { runs_out.clone() };
    (format!("your certificate {runs_out}{then}."), reason)
}

/// What to do about it.
fn what_to_do(timing: &Timing) -> &'static str {
    match timing.at_end {
        AtEnd::End | AtEnd::Freeze => "To go on, run `ussh --login` on your own machine now.",
        AtEnd::Warn => "For a new one run `ussh --login` on your own machine now.",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_os::sshd_forwards::Forward;

    use super::*;
    use crate::config::Config;

    #[test]
    fn who_cannot_be_frozen_is_told_that_the_session_ends_and_what_to_do() {
        let timing = |end_after: u64| Timing {
            at_end: AtEnd::Freeze,
            end_after: Duration::from_secs(end_after),
            ..Config::parse("", std::path::Path::new("x")).unwrap().timing
        };
        let told =
            |end_after, why: Option<Unfreezable>| warning(Duration::from_secs(9), &timing(end_after), why.as_ref()).0;
        assert_eq!(
            told(0, Some(Unfreezable::NoAgent)),
            "your certificate runs out in 9 s, and this session with it. It cannot stand still or be renewed: it has no forwarded agent. Save your work, and connect again with `ussh`."
        );
        let forwards = told(60, Some(Unfreezable::Forwards(Forward::Tunnel)));
        assert!(
            forwards.starts_with(
                "your certificate has run out; a new one still counts for 9 s. It cannot stand still: it has "
            ),
            "{forwards}"
        );
        assert!(forwards.ends_with(". To go on, run `ussh --login` on your own machine now."), "{forwards}");
        assert!(told(0, None).contains(", and this session stands still then. To go on, run"));
    }

    #[test]
    fn what_is_left_is_told_by_both_ends_and_by_what_comes_then() {
        let secs = Duration::from_secs;
        for (at_end, left, end_after, sentence, reason) in [
            (AtEnd::End, 60, 0, "runs out in 1 min, and this session with it.", "runs out in 1 min"),
            (AtEnd::End, 60, 60, "has run out; a new one still counts for 1 min.", "has run out, has 1 min left"),
            (AtEnd::End, 90, 60, "runs out in 30 s; a new one still counts for 1 min after that.", "runs out in 30 s"),
            (AtEnd::Freeze, 60, 0, "runs out in 1 min, and this session stands still then.", "runs out in 1 min"),
            (AtEnd::Freeze, 9, 60, "has run out, and this session stands still in 9 s.", "has run out, has 9 s left"),
            (
                AtEnd::Freeze,
                90,
                60,
                "runs out in 30 s, and this session stands still 1 min after that.",
                "runs out in 30 s",
            ),
            (
                AtEnd::Warn,
                60,
                0,
                "runs out in 1 min; this session goes on, but the log says that it has none.",
                "runs out in 1 min",
            ),
            (
                AtEnd::Warn,
                60,
                60,
                "has run out; this session goes on, but the log says that it has none.",
                "has run out, has 1 min left",
            ),
        ] {
            let timing = Timing {
                at_end,
                end_after: secs(end_after),
                ..Config::parse("", std::path::Path::new("x")).unwrap().timing
            };
            let told = time_left(secs(left), &timing);
            assert_eq!(told, (format!("your certificate {sentence}"), reason.to_owned()));
        }
    }
}
