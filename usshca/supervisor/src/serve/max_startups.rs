//! sshd's MaxStartups: connections that have not logged in are dropped at random once there are many of them, and all of them beyond a limit.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Most that `full` may be.
const MOST: u32 = 10_000;

/// `start:rate:full`, or `full` alone (sshd_config(5), MaxStartups).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MaxStartups {
    /// Below so many that have not logged in nobody is dropped, 1 ..= full.
    start: u32,
    /// From there on each newcomer is dropped with this probability in percent, 1 ..= 100, which grows to 100 at `full`.
    rate: u32,
    /// From so many on every newcomer is dropped, at most 10000.
    full: u32,
}

impl MaxStartups {
    /// What holds without a word in the configuration. `start` is more than one source may have (max_connections_per_source): one alone never makes others be dropped.
    pub const DEFAULT: Self = MaxStartups { start: 100, rate: 30, full: 200 };

    /// Whether a newcomer is to be dropped while `waiting` others have not logged in. `dice`: 0 ..= 99, each as likely (sshd.c, should_drop_connection).
    pub fn drops(self, waiting: usize, dice: u32) -> bool {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        if waiting < self.start {
            return false;
        }
        if waiting >= self.full || self.rate == 100 {
            return true;
        }
        // full > waiting >= start, so that nothing is divided by zero; all of it fits: 100 * 10000.
        let more = (100 - self.rate) * (waiting - self.start) / (self.full - self.start);
        dice < self.rate + more
    }

    /// Whether so many are all that there may be.
    pub fn is_full(self, waiting: usize) -> bool {
        u32::try_from(waiting).is_ok_and(|waiting| waiting >= self.full)
    }
}

impl FromStr for MaxStartups {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "must be \"start:rate:full\" as in sshd_config, or \"full\": start at most full, rate 1 to 100 (percent), full 1 to 10000";
        let number = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if plain { part.parse::<u32>().map_err(|_| WRONG) } else { Err(WRONG) }
        };
        let parts = text.split(':').map(number).collect::<Result<Vec<u32>, _>>()?;
        let limits = match *parts.as_slice() {
            [full] => MaxStartups { start: full, rate: 100, full },
            [start, rate, full] => MaxStartups { start, rate, full },
            _ => return Err(WRONG),
        };
        let good = (1..=limits.full).contains(&limits.start)
            && (1..=100).contains(&limits.rate)
            && (1..=MOST).contains(&limits.full);
        if good { Ok(limits) } else { Err(WRONG) }
    }
}

impl TryFrom<String> for MaxStartups {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for MaxStartups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.start, self.rate, self.full)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn of(text: &str) -> MaxStartups {
        text.parse().unwrap()
    }

    /// How many of the hundred equally likely newcomers are dropped.
    fn percent(limits: &str, waiting: usize) -> usize {
        (0..100).filter(|dice| of(limits).drops(waiting, *dice)).count()
    }

    #[test]
    fn the_probability_grows_from_rate_at_start_to_all_at_full_as_sshds_does() {
        let at = |waiting| percent("10:30:100", waiting);
        assert_eq!((at(0), at(9), at(10), at(55), at(99), at(100), at(5000)), (0, 0, 30, 65, 99, 100, 100));
    }

    #[test]
    fn one_number_drops_nobody_below_it_and_everybody_from_it_on() {
        assert_eq!((percent("7", 6), percent("7", 7)), (0, 100));
        assert!(!of("7").is_full(6) && of("7").is_full(7));
    }

    #[test]
    fn a_hundred_percent_and_a_start_that_is_full_are_sharp_limits() {
        assert_eq!((percent("3:100:10", 2), percent("3:100:10", 3)), (0, 100));
        assert_eq!((percent("5:1:5", 4), percent("5:1:5", 5)), (0, 100));
    }

    #[test]
    fn refuses_what_sshd_refuses_and_what_makes_no_sense() {
        for wrong in [
            "",
            "0",
            "10:30",
            "10:0:100",
            "10:101:100",
            "11:30:10",
            "0:30:10",
            "1:2:3:4",
            "a:30:100",
            "+1",
            "10: 30:100",
            "1:30:10001",
            "99999999999",
        ] {
            assert!(wrong.parse::<MaxStartups>().is_err(), "{wrong}");
        }
        assert_eq!(of("10:30:100").to_string(), "10:30:100");
    }
}
