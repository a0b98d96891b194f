//! Times for people: ISO 8601, UTC.

use std::time::{Duration, SystemTime};

/// The last second of the year 9999: ISO 8601 has four digits.
const LAST: u64 = 253_402_300_799;

/// `2026-01-31T12:00:00Z`; beyond the year 9999 `forever`.
pub fn utc(seconds: u64) -> String {
    if seconds > LAST {
        return "forever".to_owned();
    }
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_iso_8601_in_utc_to_the_end_of_time() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(1_769_860_800), "2026-01-31T12:00:00Z");
        assert_eq!(utc(LAST), "9999-12-31T23:59:59Z");
        assert_eq!(utc(LAST + 1), "forever");
        assert_eq!(utc(u64::MAX), "forever");
    }
}
