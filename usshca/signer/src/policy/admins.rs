//! Who may administer the CA over ssh: nobody, unless the policy names somebody.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::conditions::{Subjects, contains};
use super::values::{Problem, bounded, networks, problem, subjects};

/// Longest time between a login and what an administrator asks by it, in seconds; and what it is if the policy says nothing.
const MOST_LOGIN_SECONDS: u64 = 600;

/// `[admins]` as it stands in the policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminsText {
    users: Option<Spanned<Vec<String>>>,
    groups: Option<Spanned<Vec<String>>>,
    from: Option<Spanned<Vec<String>>>,
    login_seconds: Option<Spanned<u64>>,
}

/// Those whom it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admins {
    subjects: Subjects,
    from: Option<Vec<IpNet>>,
    /// How long ago an administrator's login may be, in seconds.
    pub login_seconds: u64,
}

/// Why somebody is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAdmin {
    /// The policy has no `admins`.
    #[error("the policy names no administrators")]
    Nobody,
    /// `users`, `groups`
    #[error("the policy names others as administrators")]
    Subject,
    /// `from`
    #[error("the policy takes administrators from other networks")]
    Source,
}

impl Admins {
    pub(super) fn of(text: &Spanned<AdminsText>) -> Result<Self, Problem> {
        let AdminsText { users, groups, from, login_seconds } = text.get_ref();
        let subjects = subjects(users.as_ref(), groups.as_ref())?;
        if subjects == Subjects::Everybody {
            return problem(text.span().start, "admins must name users or groups: not everybody administers the CA");
        }
        Ok(Admins {
            subjects,
            from: from.as_ref().map(networks).transpose()?,
            login_seconds: match login_seconds {
                None => MOST_LOGIN_SECONDS,
                Some(value) => bounded(value, "login_seconds", 1, MOST_LOGIN_SECONDS)?,
            },
        })
    }

    /// Whether this account is one, from this address.
    /// # Errors
    /// [`NoAdmin`]
    pub fn admit(&self, user: &str, groups: &[String], source: IpAddr) -> Result<(), NoAdmin> {
        if !self.subjects.include(user, groups) {
            return Err(NoAdmin::Subject);
        }
        match &self.from {
            Some(from) if !contains(from, source) => Err(NoAdmin::Source),
            _ => Ok(()),
        }
    }

    pub(super) fn groups(&self) -> &[String] {
        match &self.subjects {
            Subjects::Everybody => &[],
            Subjects::Listed { groups, .. } => groups,
        }
    }
}
