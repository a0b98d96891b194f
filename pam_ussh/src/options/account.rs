//! Options of `account`: those of `auth`, and who passes without a certificate.

use super::line::{Options, Source};
use super::{AuthOptions, Config, Facility, OptionError};

/// Options of a line in `account`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountOptions {
    /// What a certificate must be like, and how the agent is asked.
    pub auth: AuthOptions,
    /// Members of this group pass, logged.
    pub exempt_group: Option<String>,
}

impl AccountOptions {
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
        let mut given = Options::collect(Facility::Account, service, arguments, source)?;
        let exempt_group = given.text("account_exempt_group");
        let options = AccountOptions { auth: AuthOptions::take(&mut given)?, exempt_group };
        given.finish()?;
        Ok(options)
    }
}
