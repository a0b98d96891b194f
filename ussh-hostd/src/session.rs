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

mod steps;

/// Longest default for the stretch before the end in which the agent is asked.
const MAX_DEFAULT_WINDOW: Duration = Duration::from_secs(60);
/// Longest wait for the last message on the terminals to be passed on, before SIGTERM: sshd may be stopped, and its client may take no more.
pub const LAST_WORD: Duration = Duration::from_millis(250);

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
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
