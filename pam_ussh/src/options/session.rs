//! Options of `session`: the record of a connection.

use super::line::{Options, Source};
use super::{Config, Facility, OptionError};

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

impl SessionOptions {
    /// From the arguments as libpam splits them (`None`: one was no text), and from the file for what they leave open.
    /// # Errors
    /// [`OptionError`]
    pub fn parse(service: &str, arguments: Option<&[String]>) -> Result<Self, OptionError> {
        Self::parse_from(service, arguments, Source::Usual)
    }

    /// As [`Self::parse`], with this file whatever `config=` says; `None`: with none.
    /// # Errors
    /// [`OptionError`]
    pub fn parse_with(
        service: &str,
        arguments: Option<&[String]>,
        config: Option<&Config>,
    ) -> Result<Self, OptionError> {
        Self::parse_from(service, arguments, Source::Read(config))
    }

    fn parse_from(service: &str, arguments: Option<&[String]>, source: Source<'_>) -> Result<Self, OptionError> {
        let mut given = Options::collect(Facility::Session, service, arguments, source)?;
        let choices = [("refuse", SpoolFailure::Refuse), ("allow", SpoolFailure::Allow)];
        let options = SessionOptions {
            spool_failure: given.choice("spool_failure", "refuse or allow", &choices)?.unwrap_or(SpoolFailure::Refuse),
            debug: given.flag("debug").unwrap_or(false),
        };
        given.finish()?;
        Ok(options)
    }
}
