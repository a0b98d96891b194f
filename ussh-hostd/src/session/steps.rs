//! What each event does to a session: from one phase to the next, and what is to be done about it.

use std::time::Duration;

use ussh_core::clock::UnixTime;
use ussh_core::verdict::Refusal;

use super::{Action, Cause, LAST_WORD, Now, Phase, Session};
use crate::config::AtEnd;

/// Shortest and longest time from one look to the next.
const LOOK_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);
/// Longest time from SIGTERM to SIGKILL where the certificate is refused: sshd closes the session within milliseconds, and its user has no claim to more.
const GRACE_OF_REFUSED: Duration = Duration::from_millis(500);
/// Shortest and longest time from one look to the next after the end.
const OVERDUE_LOOK_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(60);
/// Shortest and longest time from one look at a frozen session's agent to the next, and what part of the time that it has been frozen for.
const FROZEN_LOOK_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(15);
const FROZEN_LOOK_PART: u64 = 30;
/// From one watch of a frozen session to the next.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// From one report on a process that SIGKILL does not end to the next.
const STUCK_EVERY: Duration = Duration::from_secs(60);

impl Session {
    pub(super) fn on_time(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(left) = self.limit.filter(|_| !self.is_ending()).map(|limit| limit.left(now)) {
            if left.is_zero() {
                return self.begin_end(now, Cause::TimeLimit);
            }
            let before = self.limit_warnings.len();
            self.limit_warnings.retain(|w| *w < left);
            if self.limit_warnings.len() < before {
                actions.push(Action::WarnOfLimit { left });
            }
        }
        actions.extend(self.on_time_of_certificate(now));
        actions
    }

    fn on_time_of_certificate(&mut self, now: Now) -> Vec<Action> {
        let mut actions = self.take_back_end(now);
        actions.extend(self.on_time_in_phase(now));
        actions
    }

    /// The wall clock was ahead when the end was reached, and is right again. Where it was reached by the other clock too, nothing comes back.
    fn take_back_end(&mut self, now: Now) -> Vec<Action> {
        if !self.is_past_end() || !self.is_good(now) {
            return Vec::new();
        }
        match std::mem::replace(&mut self.phase, Phase::Live) {
            Phase::Overdue { .. } | Phase::Frozen { .. } => vec![Action::GoOn],
            // Nobody was told.
            Phase::LastLook { .. }
            | Phase::Live
            | Phase::Announced { .. }
            | Phase::Terminated { .. }
            | Phase::Killed { .. } => Vec::new(),
        }
    }

    fn on_time_in_phase(&mut self, now: Now) -> Vec<Action> {
        match self.phase {
            Phase::Live => match self.left(now) {
                None => Vec::new(),
                Some(left) if left.is_zero() => self.reach_end(now),
                Some(left) => self.approach_end(now, left),
            },
            Phase::LastLook { until } if now.elapsed >= until => self.expire(now),
            Phase::Overdue { look_at, gap } if now.elapsed >= look_at && !self.looking => {
                let gap = gap.saturating_mul(2).min(*OVERDUE_LOOK_EVERY.end());
                self.phase = Phase::Overdue { look_at: now.elapsed.saturating_add(gap), gap };
                self.look()
            }
            Phase::Frozen { since, look_at, watch_at } => self.stand_still(now, since, look_at, watch_at),
            Phase::Announced { terminate_at, grace } if now.elapsed >= terminate_at => self.terminate(now, grace),
            Phase::Terminated { kill_at } if now.elapsed >= kill_at => {
                self.phase = Phase::Killed { again_at: now.elapsed.saturating_add(self.timing.grace) };
                vec![Action::Kill]
            }
            Phase::Killed { again_at } if now.elapsed >= again_at => {
                self.phase = Phase::Killed { again_at: now.elapsed.saturating_add(STUCK_EVERY) };
                vec![Action::Kill, Action::KillItself]
            }
            Phase::LastLook { .. }
            | Phase::Overdue { .. }
            | Phase::Announced { .. }
            | Phase::Terminated { .. }
            | Phase::Killed { .. } => Vec::new(),
        }
    }

    fn approach_end(&mut self, now: Now, left: Duration) -> Vec<Action> {
        let before = self.warnings.len();
        self.warnings.retain(|w| *w < left);
        let warn = self.warnings.len() < before;
        if warn {
            // Half of what is left has to do for whoever is to read it.
            let patience = self.timing.agent_timeout.min(left / 2);
            self.warn_at.get_or_insert(now.elapsed.saturating_add(patience));
        }
        let mut actions = Vec::new();
        if self.warn_at.take_if(|warn_at| now.elapsed >= *warn_at).is_some() {
            actions.push(Action::Warn { left });
        }
        let in_window = left <= self.window && now.elapsed >= self.next_look;
        if (warn || in_window) && !self.looking {
            actions.extend(self.look());
        }
        actions
    }

    fn reach_end(&mut self, now: Now) -> Vec<Action> {
        if self.looked || self.looking {
            return self.expire(now);
        }
        self.phase = Phase::LastLook { until: now.elapsed.saturating_add(self.timing.agent_timeout) };
        self.look()
    }

    fn stand_still(&mut self, now: Now, since: Duration, look_at: Duration, watch_at: Duration) -> Vec<Action> {
        let (mut look_at, mut watch_at, mut actions) = (look_at, watch_at, Vec::new());
        if now.elapsed >= watch_at {
            watch_at = now.elapsed.saturating_add(WATCH_EVERY);
            actions.push(Action::Watch);
        }
        if now.elapsed >= look_at && !self.looking {
            let part = now.elapsed.saturating_sub(since).as_secs() / FROZEN_LOOK_PART;
            let gap = Duration::from_secs(part).clamp(*FROZEN_LOOK_EVERY.start(), *FROZEN_LOOK_EVERY.end());
            look_at = now.elapsed.saturating_add(gap);
            actions.extend(self.look());
        }
        self.phase = Phase::Frozen { since, look_at, watch_at };
        actions
    }

    fn look(&mut self) -> Vec<Action> {
        self.looking = true;
        vec![Action::Look]
    }

    pub(super) fn on_renewed(&mut self, now: Now, valid_before: UnixTime) -> Vec<Action> {
        let later = self.end.is_some_and(|end| Duration::from_secs(valid_before.0) > end.valid_before);
        let good = Duration::from_secs(valid_before.0) > now.wall;
        if !later || !good {
            return self.on_not_renewed(now);
        }
        self.looking = false;
        if self.is_ending() {
            return Vec::new();
        }
        self.set_end(now, valid_before);
        vec![Action::Prolong]
    }

    pub(super) fn on_not_renewed(&mut self, now: Now) -> Vec<Action> {
        self.looking = false;
        self.looked = true;
        let left = self.left(now).unwrap_or(Duration::ZERO);
        self.next_look = now.elapsed.saturating_add((left / 5).clamp(*LOOK_EVERY.start(), *LOOK_EVERY.end()));
        match self.phase {
            Phase::LastLook { .. } if left.is_zero() => self.expire(now),
            Phase::Live if self.warn_at.take().is_some() => vec![Action::Warn { left }],
            // Of the first, time takes the end back.
            Phase::LastLook { .. }
            | Phase::Live
            | Phase::Overdue { .. }
            | Phase::Frozen { .. }
            | Phase::Announced { .. }
            | Phase::Terminated { .. }
            | Phase::Killed { .. } => Vec::new(),
        }
    }

    pub(super) fn on_not_frozen(&mut self, now: Now, why: String) -> Vec<Action> {
        if matches!(self.phase, Phase::Frozen { .. }) { self.begin_end(now, Cause::NotFrozen(why)) } else { Vec::new() }
    }

    pub(super) fn on_refused(&mut self, now: Now, refusal: Refusal) -> Vec<Action> {
        if self.is_ending() { Vec::new() } else { self.begin_end(now, Cause::Refused(refusal)) }
    }

    pub(super) fn on_last_word_out(&mut self, now: Now) -> Vec<Action> {
        match self.phase {
            Phase::Announced { grace, .. } => self.terminate(now, grace),
            Phase::Live
            | Phase::LastLook { .. }
            | Phase::Overdue { .. }
            | Phase::Frozen { .. }
            | Phase::Terminated { .. }
            | Phase::Killed { .. } => Vec::new(),
        }
    }

    pub(super) fn terminate(&mut self, now: Now, grace: Duration) -> Vec<Action> {
        self.phase = Phase::Terminated { kill_at: now.elapsed.saturating_add(grace) };
        vec![Action::Terminate]
    }

    /// The session's end, without a newer certificate.
    fn expire(&mut self, now: Now) -> Vec<Action> {
        match self.timing.at_end {
            AtEnd::End => self.begin_end(now, Cause::Expired),
            AtEnd::Warn => {
                let gap = *OVERDUE_LOOK_EVERY.start();
                self.phase = Phase::Overdue { look_at: now.elapsed.saturating_add(gap), gap };
                vec![Action::Overdue]
            }
            AtEnd::Freeze => {
                let next = now.elapsed.saturating_add(*FROZEN_LOOK_EVERY.start());
                self.phase = Phase::Frozen { since: now.elapsed, look_at: next, watch_at: next };
                vec![Action::Freeze]
            }
        }
    }

    fn begin_end(&mut self, now: Now, cause: Cause) -> Vec<Action> {
        let grace = match cause {
            Cause::Expired | Cause::NotFrozen(_) | Cause::TimeLimit => self.timing.grace,
            Cause::Refused(_) => self.timing.grace.min(GRACE_OF_REFUSED),
        };
        self.phase = Phase::Announced { terminate_at: now.elapsed.saturating_add(LAST_WORD), grace };
        vec![Action::Announce(cause)]
    }
}
