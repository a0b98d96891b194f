//! Waiting for a condition instead of for a time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{LabError, Result};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Looks at `condition` until it gives a value.
///
/// # Errors
/// [`LabError::Timeout`], naming `what`, if it gives none within `timeout`.
pub fn wait_for<T>(timeout: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(LabError::Timeout { what: what.to_owned(), after: timeout, seen: String::new() });
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Looks at `condition` until it is true.
///
/// # Errors
/// [`LabError::Timeout`], naming `what`, if it is not true within `timeout`.
pub fn wait_until(timeout: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(timeout, what, || condition().then_some(()))
}

/// How often a test tries something that chance has a part in: `usual`, or `soak` times under `make soak` (USSH_SOAK=1).
pub fn rounds(usual: u32, soak: u32) -> u32 {
    if std::env::var_os("USSH_SOAK").is_some_and(|value| value == "1") { soak } else { usual }
}

/// A lock that a panicking test cannot spoil: what a failing test leaves is what the report must show.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn returns_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        wait_until(Duration::from_secs(10), "the third look", || {
            looks += 1;
            looks == 3
        })
        .unwrap();
    }

    #[test]
    fn names_what_did_not_come() {
        let error = wait_until(Duration::ZERO, "rain", || false).unwrap_err();
        assert!(error.to_string().contains("rain"), "{error}");
    }
}
