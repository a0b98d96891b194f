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

    pub(super) fn users(&self) -> &[String] {
        match &self.subjects {
            Subjects::Everybody => &[],
            Subjects::Listed { users, .. } => users,
        }
    }

    pub(super) fn groups(&self) -> &[String] {
        match &self.subjects {
            Subjects::Everybody => &[],
            Subjects::Listed { groups, .. } => groups,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use usshca_ipc::signer::PolicyText;

    use super::super::{Policy, PolicyError};
    use super::*;

    fn policy(admins: &str) -> Result<Policy, PolicyError> {
        let text = format!("{admins}\n[[rule]]\nname=\"all\"\nvalidity_seconds=60\nprincipals=[\"%u\"]\n");
        Policy::of(&[PolicyText { name: "policy.toml".into(), folder: String::new(), text }])
    }

    fn admit(admins: &str, user: &str, groups: &[&str], from: &str) -> Result<(), NoAdmin> {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        policy(admins).unwrap().admins().ok_or(NoAdmin::Nobody)?.admit(user, &groups, from.parse().unwrap())
    }

    #[test]
    fn they_are_those_whom_the_policy_names_from_where_it_takes_them() {
        assert_eq!(admit("", "root", &["root"], "127.0.0.1"), Err(NoAdmin::Nobody));
        let named = "admins = { users = [\"alice\"], groups = [\"ops\"], from = [\"10.0.0.0/8\", \"::1\"] }";
        assert_eq!(admit(named, "alice", &[], "10.1.2.3"), Ok(()));
        assert_eq!(admit(named, "bob", &["dev", "ops"], "::ffff:10.1.2.3"), Ok(()));
        assert_eq!(admit(named, "bob", &["dev"], "10.1.2.3"), Err(NoAdmin::Subject));
        assert_eq!(admit(named, "ops", &["alice"], "10.1.2.3"), Err(NoAdmin::Subject));
        assert_eq!(admit(named, "alice", &[], "11.1.2.3"), Err(NoAdmin::Source));
        let table = "[admins]\nusers = [\"alice\"]";
        assert_eq!(admit(table, "alice", &[], "11.1.2.3"), Ok(()));
        assert!(policy(named).unwrap().groups().contains("ops"), "`usshca check` looks for it");
        assert_eq!(policy(named).unwrap().admins().unwrap().login_seconds, 600);
    }

    #[test]
    fn what_would_make_everybody_one_or_for_longer_is_refused() {
        for (admins, words) in [
            ("admins = {}", "line 1: admins must name users or groups"),
            ("admins = { from = [\"10.0.0.0/8\"] }", "admins must name users or groups"),
            ("admins = { users = [] }", "users is an empty list"),
            ("admins = { users = [\"a\"], from = [] }", "must hold networks"),
            ("admins = { users = [\"a\"], login_seconds = 601 }", "login_seconds must be 1 to 600"),
            ("admins = { users = [\"a\"], login_seconds = 0 }", "login_seconds must be 1 to 600"),
            ("admins = { users = [\"a\"], all = true }", "unknown field `all`"),
            ("admins = [\"a\"]", "invalid type"),
        ] {
            let error = policy(admins).unwrap_err().to_string();
            assert!(error.contains(words), "{admins}: {error}");
        }
    }
}
