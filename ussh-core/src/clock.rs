//! Time as certificates know it.

use serde::{Deserialize, Serialize};

/// Whole seconds since the Unix epoch, as in a certificate's `valid_after` and `valid_before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// `valid_before` of a certificate that never expires (draft-miller-ssh-cert: 2^64-1).
    pub const FOREVER: UnixTime = UnixTime(u64::MAX);
}

/// Where "now" comes from; tests put their own.
pub trait Clock {
    /// The present, seconds since the Unix epoch.
    fn now(&self) -> UnixTime;
}

/// The machine's wall clock (CLOCK_REALTIME). A clock before 1970 reads as 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        UnixTime(since.map_or(0, |d| d.as_secs()))
    }
}

/// A clock that stands still.
#[derive(Clone, Copy, Debug)]
pub struct FixedClock(pub UnixTime);

impl Clock for FixedClock {
    fn now(&self) -> UnixTime {
        self.0
    }
}
