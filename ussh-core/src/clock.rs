//! Time as certificates know it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whole seconds since the Unix epoch, as in a certificate's `valid_after` and `valid_before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// `valid_before` of a certificate that never expires (draft-miller-ssh-cert: 2^64-1).
    pub const FOREVER: UnixTime = UnixTime(u64::MAX);

    /// The last second of the year 9999: ISO 8601 has four digits.
    const LAST_SHOWN: u64 = 253_402_300_799;
}

/// For people: `2026-01-31T12:00:00Z` (ISO 8601, UTC); beyond the year 9999 `forever`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 24 * 60 * 60;
        if self.0 > Self::LAST_SHOWN {
            return f.write_str("forever");
        }
        let (day, second) = (self.0 / DAY, self.0 % DAY);
        // Years begin with March here, so that the odd day is their last; 719,468 days lie between the March of the year 0 and 1970, 146,097 make 400 years.
        let shifted = day + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Five months from March on have 153 days, as have the next five.
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = 400 * era + year_of_era + next;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
    }
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
    fn a_time_is_shown_in_utc() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_769_860_800, "2026-01-31T12:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (UnixTime::LAST_SHOWN, "9999-12-31T23:59:59Z"),
            (UnixTime::LAST_SHOWN + 1, "forever"),
            (u64::MAX, "forever"),
        ] {
            assert_eq!(UnixTime(seconds).to_string(), shown);
        }
        // Day by day from 1970 to 2400: each is the next in the calendar.
        let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for number in 0..157_054 {
            let shown = UnixTime(number * 86_400 + 3_661).to_string();
            assert_eq!(shown, format!("{year:04}-{month:02}-{day:02}T01:01:01Z"));
            let days = match month {
                2 if is_leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > days {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

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
