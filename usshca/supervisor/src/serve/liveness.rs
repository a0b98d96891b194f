//! Whether the signer still hears: it is asked again and again, and one that gives no answer for long is to be killed. A process that hangs (in a `close`, on a disk) does
//! not end, and while it holds the inventory no other one can take its place.

use std::time::{Duration, Instant};

/// From an answer to the next question.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// From a question that could not be put, since the queue is full, to the next try.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take. The signer does one thing at a time, and each takes milliseconds, or as long as the disk takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before [`Liveness::next_instant`].
    Nothing,
    /// To ask: [`Liveness::asked`] or [`Liveness::not_asked`] is to be told.
    Ask,
    /// It hangs.
    Kill,
}

/// The questions to one signer.
#[derive(Debug)]
pub struct Liveness {
    /// When it is asked again.
    ask_at: Instant,
    /// A question is on its way.
    asked: bool,
    /// Since when it should have been heard of.
    silent_since: Option<Instant>,
}

impl Liveness {
    /// Of a signer that was heard of at `now`.
    pub fn new(now: Instant) -> Self {
        Liveness { ask_at: now + ASK_EVERY, asked: false, silent_since: None }
    }

    /// What is due, once all that has come was heard.
    pub fn due(&self, now: Instant) -> Due {
        if self.silent_since.is_some_and(|since| now >= since + PATIENCE) {
            Due::Kill
        } else if !self.asked && now >= self.ask_at {
            Due::Ask
        } else {
            Due::Nothing
        }
    }

    /// When something is due.
    pub fn next_instant(&self) -> Instant {
        let killed = self.silent_since.map(|since| since + PATIENCE);
        let asks = (!self.asked).then_some(self.ask_at);
        // It waits for an answer, or for the next question: one of them is always there.
        killed.into_iter().chain(asks).min().unwrap_or(self.ask_at)
    }

    /// The question is on its way.
    pub fn asked(&mut self, now: Instant) {
        self.asked = true;
        self.silent_since.get_or_insert(now);
    }

    /// There was no room for the question, since it takes nothing from the queue.
    pub fn not_asked(&mut self, now: Instant) {
        self.ask_at = now + TRY_EVERY;
        self.silent_since.get_or_insert(now);
    }

    /// It has answered. False: it was not asked.
    pub fn answered(&mut self, now: Instant) -> bool {
        let asked = self.asked;
        *self = Liveness::new(now);
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn it_is_asked_once_and_again_after_the_answer() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        assert_eq!((liveness.due(start), liveness.next_instant()), (Due::Nothing, start + ASK_EVERY));
        let first = start + ASK_EVERY;
        assert_eq!(liveness.due(first), Due::Ask);
        liveness.asked(first);
        assert_eq!((liveness.due(first), liveness.next_instant()), (Due::Nothing, first + PATIENCE));
        let answer = first + PATIENCE - MOMENT;
        assert!(liveness.answered(answer));
        assert_eq!((liveness.due(answer), liveness.next_instant()), (Due::Nothing, answer + ASK_EVERY));
        assert_eq!(liveness.due(first + PATIENCE), Due::Nothing);
        assert!(!liveness.answered(answer), "an answer to no question");
    }

    #[test]
    fn one_that_gives_no_answer_is_killed() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.asked(start);
        assert_eq!(liveness.due(start + PATIENCE - MOMENT), Due::Nothing);
        assert_eq!(liveness.due(start + PATIENCE), Due::Kill);
    }

    #[test]
    fn one_whose_queue_stays_full_is_tried_again_and_killed_in_the_same_time() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        let mut now = start + ASK_EVERY;
        while liveness.due(now) == Due::Ask {
            liveness.not_asked(now);
            assert_eq!(liveness.due(now), Due::Nothing);
            now = liveness.next_instant();
        }
        assert_eq!((liveness.due(now), now), (Due::Kill, start + ASK_EVERY + PATIENCE));
    }

    #[test]
    fn one_that_reads_again_is_asked_and_its_time_is_not_longer() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.not_asked(start);
        liveness.asked(start + TRY_EVERY);
        assert_eq!(liveness.next_instant(), start + PATIENCE);
        assert!(liveness.answered(start + TRY_EVERY));
        assert_eq!(liveness.due(start + PATIENCE), Due::Ask);
    }
}
