//! Times for people: ISO 8601, UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ussh_core::escape::{MAX_FIELD, escape};

use crate::failure::Failure;

/// The last second of the year 9999: ISO 8601 has four digits.
const LAST: u64 = 253_402_300_799;

/// `2026-01-31T12:00:00Z`; beyond the year 9999 `forever`.
pub fn utc(seconds: u64) -> String {
    if seconds > LAST {
        return "forever".to_owned();
    }
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// `2026-01-31T12:00:00Z`, with or without the Z: always UTC.
/// # Errors
/// It is no such time.
pub fn parse_utc(option: &str, text: &str) -> Result<u64, Failure> {
    let time = humantime::parse_rfc3339_weak(text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    time.map(|since| since.as_secs()).ok_or_else(|| {
        let text = escape(text.as_bytes(), MAX_FIELD);
        Failure::usage(format!("{option} {text}: must be as 2026-01-31T12:00:00Z (UTC)"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_vague() {
        assert_eq!(parse_utc("--at", "2026-01-31T12:00:00Z").unwrap(), 1_769_860_800);
        assert_eq!(parse_utc("--at", "2026-01-31 12:00:00").unwrap(), 1_769_860_800);
        for text in ["", "now", "2026-01-31", "12:00", "1969-12-31T23:59:59Z", "2026-01-31T12:00:00+01:00"] {
            assert!(parse_utc("--at", text).is_err(), "{text}");
        }
    }

    #[test]
    fn is_iso_8601_in_utc_to_the_end_of_time() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(1_769_860_800), "2026-01-31T12:00:00Z");
        assert_eq!(utc(LAST), "9999-12-31T23:59:59Z");
        assert_eq!(utc(LAST + 1), "forever");
        assert_eq!(utc(u64::MAX), "forever");
    }
}
