//! Options of `session`: the record of a connection.

use super::line::{Facet, Options};
use super::{Facility, OptionError};

/// What becomes of a session whose record cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolFailure {
    /// It is refused.
    Refuse,
    /// It goes on unwatched.
    Allow,
}

/// Options of a line in `session`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// `spool_failure=refuse|allow`
    pub spool_failure: SpoolFailure,
    /// More in the log.
    pub debug: bool,
}

impl Facet for SessionOptions {
    const FACILITY: Facility = Facility::Session;

    fn take(given: &mut Options) -> Result<Self, OptionError> {
        let choices = [("refuse", SpoolFailure::Refuse), ("allow", SpoolFailure::Allow)];
        Ok(SessionOptions {
            spool_failure: given.choice("spool_failure", "refuse or allow", &choices)?.unwrap_or(SpoolFailure::Refuse),
            debug: given.flag("debug").unwrap_or(false),
        })
    }
}
