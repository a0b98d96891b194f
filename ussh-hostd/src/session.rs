//! When a session is warned, asked and ended: a state machine without input or output, so that every case can be tried with made-up clocks.
//!
//! A session lives until its certificate's `valid_before`, and where the configuration says so for some time after it, in which a newer certificate still counts. The end is kept on two clocks, the wall clock and the time that has passed since the end was set; the
//! earlier one counts, so that a clock set back prolongs nothing. Before each warning, and repeatedly in the last stretch, the session's own agent is looked at;
//! only a look that found nothing warns, or one that has no answer in the time that a look may take. At the end nothing is waited for, but for one case: a session for whose agent no look was even begun before (this daemon was
//! down, the clock jumped) gets one look first. A look that waits for its turn or for an answer at the end counts as a no. A clock that was ahead and is right
//! again gives back what it took: a session that stands still, or is let go on, whose end is to come by both clocks lives as before.

use std::time::Duration;

use ussh_core::clock::UnixTime;
use ussh_core::verdict::Refusal;

use crate::config::{AtEnd, Timing};

/// Longest default for the stretch before the end in which the agent is asked.
const MAX_DEFAULT_WINDOW: Duration = Duration::from_secs(60);
/// Shortest and longest time from one look to the next.
const LOOK_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);
/// Longest wait for the last message on the terminals to be passed on, before SIGTERM: sshd may be stopped, and its client may take no more.
pub const LAST_WORD: Duration = Duration::from_millis(250);
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

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the Unix epoch; may jump.
    pub wall: Duration,
    /// Since the daemon's start; never goes back.
    pub elapsed: Duration,
}

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its certificate ran out, and its agent had no newer one.
    Expired,
    /// The same, and it was to be frozen, which could not be done: why.
    NotFrozen(String),
    /// The verdict on its certificate is no longer a yes.
    Refused(Refusal),
    /// It has lasted as long as one of its kind may.
    TimeLimit,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time went by.
    Time,
    /// A look found a certificate that is good until `valid_before`, with proof.
    Renewed {
        /// Of the new certificate.
        valid_before: UnixTime,
    },
    /// A look found nothing, or could not be made.
    NotRenewed,
    /// Files changed, and the verdict on the session's certificate is now a no (time apart).
    Refused(Refusal),
    /// An earlier run of the daemon has begun its end, and this much of its grace is left.
    EndBegun {
        /// From SIGTERM, which it gets again, to SIGKILL.
        grace: Duration,
    },
    /// The last message has left for the client, or there is no terminal that it could have been shown on.
    LastWordOut,
    /// It could not be frozen, or cannot be kept so.
    NotFrozen(String),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the session's agent.
    Look,
    /// Tell the terminals how long is left.
    Warn {
        /// Until the session's end.
        left: Duration,
    },
    /// Tell the terminals how long is left of the time that it may last.
    WarnOfLimit {
        /// Until the end.
        left: Duration,
    },
    /// The end moved.
    Prolong,
    /// Tell the terminals and the log that the certificate has run out, and that the session goes on all the same.
    Overdue,
    /// Stop the session's processes.
    Freeze,
    /// Its end is still to come: the clock was ahead. What was stopped goes on, and the log is told.
    GoOn,
    /// See that a frozen session is held by it: nothing runs, and sshd carries nothing.
    Watch,
    /// Tell the terminals and the log that this is the end.
    Announce(Cause),
    /// SIGTERM to the process that ran open_session.
    Terminate,
    /// SIGKILL to its sshd child, or to itself if it has none.
    Kill,
    /// SIGKILL to itself: its sshd child is gone and it lives still.
    KillItself,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Good, as far as known.
    Live,
    /// Past its end, and the one look that it still gets has until then (elapsed).
    LastLook { until: Duration },
    /// Past its end, which the configuration lets pass with a warning; the next look is at `look_at` (elapsed), the one after that `gap` later and more.
    Overdue { look_at: Duration, gap: Duration },
    /// Past its end, and its processes stand still since then; the next look is at `look_at`, the next watch at `watch_at` (all elapsed).
    Frozen { since: Duration, look_at: Duration, watch_at: Duration },
    /// The terminals are told; SIGTERM when sshd has passed that on, at `terminate_at` (elapsed) in any case, and SIGKILL when `grace` has passed after it.
    Announced { terminate_at: Duration, grace: Duration },
    /// SIGTERM sent; SIGKILL at `kill_at` (elapsed).
    Terminated { kill_at: Duration },
    /// SIGKILL sent to the child; to itself at `again_at` (elapsed), and so on.
    Killed { again_at: Duration },
}

/// The end of a session on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    wall: Duration,
    elapsed: Duration,
    /// The certificate's own, by the wall clock.
    valid_before: Duration,
}

impl End {
    /// Until then by whichever clock is nearer; zero: reached.
    fn left(self, now: Now) -> Duration {
        self.wall.saturating_sub(now.wall).min(self.elapsed.saturating_sub(now.elapsed))
    }
}

/// One session's state.
#[derive(Clone, Debug)]
pub struct Session {
    timing: Timing,
    /// `None`: no certificate, or one that never expires.
    end: Option<End>,
    /// Beyond which nothing carries it, whatever becomes of certificates.
    limit: Option<End>,
    /// Warnings of it to come, longest first.
    limit_warnings: Vec<Duration>,
    phase: Phase,
    /// Warnings to come, longest first.
    warnings: Vec<Duration>,
    /// A warning is due as soon as the look that is under way finds nothing, and then (elapsed) in any case: it may wait long for its turn.
    warn_at: Option<Duration>,
    /// How long before the end the looks begin.
    window: Duration,
    /// A look is under way.
    looking: bool,
    /// A look has ended since the end was set.
    looked: bool,
    /// No look before this (elapsed).
    next_look: Duration,
}

impl Session {
    /// A session that lives until `valid_before`; `None`: without a certificate, left alone but for [`Session::limited`].
    pub fn new(now: Now, valid_before: Option<UnixTime>, timing: &Timing) -> Self {
        let mut session = Session {
            timing: timing.clone(),
            end: None,
            limit: None,
            limit_warnings: Vec::new(),
            phase: Phase::Live,
            warnings: Vec::new(),
            warn_at: None,
            window: Duration::ZERO,
            looking: false,
            looked: false,
            next_look: now.elapsed,
        };
        if let Some(end) = valid_before {
            session.set_end(now, end);
        }
        session
    }

    /// It lasts for another `left` at most, and no renewal and no policy makes that more.
    #[must_use]
    pub fn limited(mut self, now: Now, left: Duration) -> Self {
        let wall = now.wall.saturating_add(left);
        self.limit = Some(End { wall, elapsed: now.elapsed.saturating_add(left), valid_before: wall });
        self.limit_warnings = self.warning_times(left);
        self
    }

    /// Takes what happened, says what to do, in this order.
    pub fn on(&mut self, now: Now, event: Event) -> Vec<Action> {
        match event {
            Event::Time => self.on_time(now),
            Event::Renewed { valid_before } => self.on_renewed(now, valid_before),
            Event::NotRenewed => self.on_not_renewed(now),
            Event::Refused(refusal) => self.on_refused(now, refusal),
            Event::EndBegun { grace } => self.terminate(now, grace),
            Event::LastWordOut => self.on_last_word_out(now),
            Event::NotFrozen(why) => self.on_not_frozen(now, why),
        }
    }

    /// How long until [`Event::Time`] has to come; `None`: never by itself.
    pub fn wake_in(&self, now: Now) -> Option<Duration> {
        let limit = self.limit.filter(|_| !self.is_ending()).map(|limit| {
            let left = limit.left(now);
            self.limit_warnings.first().map_or(left, |warning| left.saturating_sub(*warning))
        });
        [limit, self.wake_by_certificate_in(now)].into_iter().flatten().min()
    }

    fn wake_by_certificate_in(&self, now: Now) -> Option<Duration> {
        if self.is_past_end() && self.is_good(now) {
            return Some(Duration::ZERO);
        }
        match self.phase {
            Phase::Live => {
                let left = self.left(now)?;
                let warning = self.warnings.first().map(|w| left.saturating_sub(*w));
                let warn = self.warn_at.map(|warn_at| warn_at.saturating_sub(now.elapsed));
                let look = (!self.looking)
                    .then(|| left.saturating_sub(self.window).max(self.next_look.saturating_sub(now.elapsed)));
                [Some(left), warning, warn, look].into_iter().flatten().min()
            }
            Phase::LastLook { until } => Some(until.saturating_sub(now.elapsed)),
            Phase::Overdue { look_at, .. } => (!self.looking).then(|| look_at.saturating_sub(now.elapsed)),
            Phase::Frozen { look_at, watch_at, .. } => {
                let next = if self.looking { watch_at } else { look_at.min(watch_at) };
                Some(next.saturating_sub(now.elapsed))
            }
            Phase::Announced { terminate_at, .. } => Some(terminate_at.saturating_sub(now.elapsed)),
            Phase::Terminated { kill_at } => Some(kill_at.saturating_sub(now.elapsed)),
            Phase::Killed { again_at } => Some(again_at.saturating_sub(now.elapsed)),
        }
    }

    /// One that was frozen before this daemon began: whether it is to stay so. If not, it is to be thawed, or, past its end, goes through that as any other.
    pub fn stays_frozen(&mut self, now: Now) -> bool {
        let stays = self.timing.at_end == AtEnd::Freeze && self.left(now).is_some_and(|left| left.is_zero());
        if stays {
            self.phase = Phase::Frozen { since: now.elapsed, look_at: now.elapsed, watch_at: now.elapsed };
        }
        stays
    }

    /// Whether its end is still to come.
    pub fn is_good(&self, now: Now) -> bool {
        !self.left(now).is_some_and(|left| left.is_zero())
    }

    /// Until its end, for whose sake its agent is asked; `None`: that is past, and it stands still or is let go on.
    pub fn asks_for_its_end_in(&self, now: Now) -> Option<Duration> {
        match self.phase {
            Phase::Overdue { .. } | Phase::Frozen { .. } => None,
            Phase::Live
            | Phase::LastLook { .. }
            | Phase::Announced { .. }
            | Phase::Terminated { .. }
            | Phase::Killed { .. } => self.left(now),
        }
    }

    /// Whether its end was reached, and not begun.
    fn is_past_end(&self) -> bool {
        matches!(self.phase, Phase::LastLook { .. } | Phase::Overdue { .. } | Phase::Frozen { .. })
    }

    /// Whether its end has been begun.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Announced { .. } | Phase::Terminated { .. } | Phase::Killed { .. })
    }

    /// From SIGTERM to SIGKILL: what is left of it; before SIGTERM all of it.
    pub fn grace_left(&self, now: Now) -> Duration {
        match self.phase {
            Phase::Announced { grace, .. } => grace,
            Phase::Terminated { kill_at } => kill_at.saturating_sub(now.elapsed),
            Phase::Live
            | Phase::LastLook { .. }
            | Phase::Overdue { .. }
            | Phase::Frozen { .. }
            | Phase::Killed { .. } => Duration::ZERO,
        }
    }

    /// Until the end by whichever clock is nearer; zero: reached.
    fn left(&self, now: Now) -> Option<Duration> {
        Some(self.end?.left(now))
    }

    /// Those that lie in the past already are left out; but nobody goes without a warning.
    fn warning_times(&self, left: Duration) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.timing.warn_before.iter().copied().filter(|w| *w < left).collect();
        if times.is_empty() {
            times.push(left.saturating_mul(3) / 10);
        }
        times
    }

    fn set_end(&mut self, now: Now, valid_before: UnixTime) {
        self.phase = Phase::Live;
        self.looked = false;
        self.warn_at = None;
        self.next_look = now.elapsed;
        self.warnings.clear();
        if valid_before == UnixTime::FOREVER {
            self.end = None;
            return;
        }
        let valid_before = Duration::from_secs(valid_before.0);
        let wall = valid_before.saturating_add(self.timing.end_after);
        let left = wall.saturating_sub(now.wall);
        self.end = Some(End { wall, elapsed: now.elapsed.saturating_add(left), valid_before });
        // Looks begin before the certificate's end: whoever renews in time is never past it.
        let before = valid_before.saturating_sub(now.wall).saturating_mul(3) / 10;
        self.window =
            self.timing.look_before.unwrap_or(before.min(MAX_DEFAULT_WINDOW)).saturating_add(self.timing.end_after);
        self.warnings = self.warning_times(left);
    }

    fn on_time(&mut self, now: Now) -> Vec<Action> {
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

    fn on_renewed(&mut self, now: Now, valid_before: UnixTime) -> Vec<Action> {
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

    fn on_not_renewed(&mut self, now: Now) -> Vec<Action> {
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

    fn on_not_frozen(&mut self, now: Now, why: String) -> Vec<Action> {
        if matches!(self.phase, Phase::Frozen { .. }) { self.begin_end(now, Cause::NotFrozen(why)) } else { Vec::new() }
    }

    fn on_refused(&mut self, now: Now, refusal: Refusal) -> Vec<Action> {
        if self.is_ending() { Vec::new() } else { self.begin_end(now, Cause::Refused(refusal)) }
    }

    fn on_last_word_out(&mut self, now: Now) -> Vec<Action> {
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

    fn terminate(&mut self, now: Now, grace: Duration) -> Vec<Action> {
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

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
