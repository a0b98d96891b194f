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

/// A span of time as people write it: `90`, `90s`, `15m`, `8h`, `1d`, `2w`, in seconds. Digits and one unit: no sign, no space. Not 0, which would let nothing pass.
pub fn seconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_with_one_unit_and_nothing_else() {
        let good = [("1", 1), ("90s", 90), ("15m", 900), ("8h", 28800), ("1d", 86400), ("1w", 604_800)];
        for (text, value) in good {
            assert_eq!(seconds(text), Some(value), "{text}");
        }
        let bad = ["", "0", "0h", "m", "-1", "+1", " 1", "1 ", "1y", "1hh", "1h30m", "1.5h", "1H", "é", "٣"];
        for text in bad.into_iter().chain(["99999999999999999999", "18446744073709551615d"]) {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
