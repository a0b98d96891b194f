//! What the policy says of host certificates.

use toml::Spanned;

use super::values::{Problem, bounded};
use crate::ca::is_host_name;

/// What was before there was a policy for it: 90 days, in seconds.
const DEFAULT_VALIDITY: u64 = 90 * 86_400;
/// Longest validity of a host certificate, in seconds: ten years.
pub const MAX_HOST_VALIDITY: u64 = 3653 * 86_400;
/// Most wildcards.
const MAX_WILDCARDS: usize = 256;

/// `host_validity_seconds` and `host_wildcards`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPolicy {
    /// Seconds from now to a host certificate's end.
    pub validity_seconds: u64,
    /// Names with a `*` that a host certificate may hold, letter for letter. OpenSSH 10.3 and later let such a host pass for every name that fits.
    pub wildcards: Vec<String>,
}

impl HostPolicy {
    pub(super) fn read(
        validity: Option<&Spanned<u64>>,
        wildcards: Option<&Spanned<Vec<String>>>,
    ) -> Result<HostPolicy, Problem> {
        let validity = validity.map(|value| bounded(value, "host_validity_seconds", 60, MAX_HOST_VALIDITY));
        Ok(HostPolicy {
            validity_seconds: validity.transpose()?.unwrap_or(DEFAULT_VALIDITY),
            wildcards: wildcards.map(read_wildcards).transpose()?.unwrap_or_default(),
        })
    }
}

/// `*.` and a name of two labels or more: `*.com` would be everybody's.
fn read_wildcards(list: &Spanned<Vec<String>>) -> Result<Vec<String>, Problem> {
    let fits = |name: &String| {
        let rest = name.strip_prefix("*.");
        rest.is_some_and(|rest| is_host_name(rest) && rest.trim_matches('.').contains('.'))
    };
    let names = list.get_ref();
    if names.is_empty() || names.len() > MAX_WILDCARDS || !names.iter().all(fits) {
        let text = "host_wildcards must hold names such as \"*.example.com\": one * as the first label, and two labels behind it, in small letters";
        return Err(Problem::at(list, text));
    }
    Ok(names.clone())
}
