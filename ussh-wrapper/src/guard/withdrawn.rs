//! Which ssh may have a question put to the person: one at a time, and none that only asks and hangs up. A host that is taken over could bury another's question in such.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Most questions of one ssh that are withdrawn within [`WITHIN`], before it is put off.
pub const MAX_WITHDRAWN: usize = 3;
/// For how long a withdrawal counts, and for how long it is put off then.
pub const WITHIN: Duration = Duration::from_secs(60);

/// By ssh process.
#[derive(Debug, Default)]
pub struct Askers(HashMap<i32, Asker>);

#[derive(Debug, Default)]
struct Asker {
    is_asking: bool,
    withdrawn: Vec<Instant>,
}

impl Asker {
    fn forget(&mut self, now: Instant) {
        self.withdrawn.retain(|at| now.saturating_duration_since(*at) < WITHIN);
    }
}

/// Why a question is not put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPut {
    /// Another of this ssh is open.
    Open,
    /// Too many of them were withdrawn lately.
    Withdrawn,
}

impl Askers {
    /// Begins a question of this ssh's.
    /// # Errors
    /// [`NotPut`]
    pub fn begin(&mut self, process: i32, now: Instant) -> Result<(), NotPut> {
        self.0.values_mut().for_each(|asker| asker.forget(now));
        self.0.retain(|_, asker| asker.is_asking || !asker.withdrawn.is_empty());
        let asker = self.0.entry(process).or_default();
        if asker.is_asking {
            return Err(NotPut::Open);
        }
        if asker.withdrawn.len() >= MAX_WITHDRAWN {
            return Err(NotPut::Withdrawn);
        }
        asker.is_asking = true;
        Ok(())
    }

    /// It is over. `was_withdrawn`: whoever asked hung up before it was answered.
    pub fn end(&mut self, process: i32, was_withdrawn: bool, now: Instant) {
        let asker = self.0.entry(process).or_default();
        asker.is_asking = false;
        asker.forget(now);
        if was_withdrawn {
            asker.withdrawn.push(now);
            if asker.withdrawn.len() >= MAX_WITHDRAWN {
                // Put off for as long again from here.
                asker.withdrawn.fill(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_at_a_time_and_whoever_withdrew_three_is_put_off_for_a_minute_and_no_other() {
        let (mut askers, begun) = (Askers::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(askers.begin(1, at(0)), Ok(()));
        assert_eq!(askers.begin(1, at(0)), Err(NotPut::Open));
        askers.end(1, true, at(0));
        for second in [10, 20] {
            assert_eq!(askers.begin(1, at(second)), Ok(()));
            askers.end(1, true, at(second));
        }
        assert_eq!(askers.begin(1, at(21)), Err(NotPut::Withdrawn));
        assert_eq!(askers.begin(2, at(21)), Ok(()), "another ssh");
        assert_eq!(askers.begin(1, at(79)), Err(NotPut::Withdrawn));
        assert_eq!(askers.begin(1, at(80)), Ok(()));
        // What was answered counts for nothing, and what was withdrawn a minute ago neither.
        for second in 80..200 {
            askers.end(1, second % 30 == 0, at(second));
            assert_eq!(askers.begin(1, at(second)), Ok(()), "{second}");
        }
        askers.end(1, false, at(200));
        askers.end(2, false, at(200));
        assert_eq!(askers.begin(3, at(400)), Ok(()));
        assert_eq!(askers.0.len(), 1, "the others are forgotten");
    }
}
