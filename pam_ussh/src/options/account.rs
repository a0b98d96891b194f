//! Options of `account`: those of `auth`, and who passes without a certificate.

use super::line::{Facet, Options};
use super::{AuthOptions, Facility, OptionError};

/// Options of a line in `account`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountOptions {
    /// What a certificate must be like, and how the agent is asked.
    pub auth: AuthOptions,
    /// Members of this group pass, logged.
    pub exempt_group: Option<String>,
}

impl Facet for AccountOptions {
    const FACILITY: Facility = Facility::Account;

    fn take(given: &mut Options) -> Result<Self, OptionError> {
        let exempt_group = given.text("account_exempt_group");
        Ok(AccountOptions { auth: AuthOptions::take(given)?, exempt_group })
    }
}
