//! Policy: who may have which certificate. Rules in order, the first that matches decides, and without one there is none.
//!
//! Trusted: the policy's text, and the facts in a [`Question`]. In the order in which a request goes through it: what is asked (`question`), whom and when a rule is about
//! (`conditions`), what it demands and gives (`terms`). `parse` makes it from its text, and `lint` finds what an administrator cannot have meant.

mod admins;
mod conditions;
mod hosts;
mod lint;
mod parse;
mod question;
mod terms;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::tz::TimeZone;
use ussh_core::escape::escape_word;

pub use self::admins::{Admins, NoAdmin};
pub use self::conditions::Mismatch;
use self::conditions::{Conditions, Subjects};
pub use self::hosts::{HostPolicy, MAX_HOST_VALIDITY};
pub use self::parse::PolicyError;
pub use self::question::{KeyKind, Mode, Proofs, Question};
use self::terms::Terms;
pub use self::terms::{Demands, Grant};

/// Longest account name or principal, in bytes.
pub const MAX_NAME: usize = 256;

/// The rules, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    zone: TimeZone,
    rules: Vec<Rule>,
    hosts: HostPolicy,
    admins: Option<Admins>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    name: String,
    /// Where it stands: file and line, for people.
    place: String,
    conditions: Conditions,
    effect: Effect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
    Deny,
    Grant(Box<Terms>),
}

/// Why somebody gets nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefusal {
    /// No rule is about this account.
    #[error("no rule of the policy matches")]
    NoRule,
    /// A rule with `deny = true`.
    #[error("the rule denies")]
    Denied {
        /// Which.
        rule: String,
    },
    /// The name could not stand in a certificate.
    #[error("the account name cannot be a principal")]
    Name,
    /// Not proved in a way that the rule takes.
    #[error("the rule demands authentication by {demanded}")]
    Authentication {
        /// Which.
        rule: String,
        /// Its `authentication`.
        demanded: String,
    },
    /// Who makes the key.
    #[error("the rule does not allow the mode {mode}")]
    Mode {
        /// Which.
        rule: String,
        /// What was asked for.
        mode: &'static str,
    },
    /// The client's key.
    #[error("the rule does not allow keys of the type {kind}")]
    KeyType {
        /// Which.
        rule: String,
        /// What was asked for.
        kind: &'static str,
    },
    /// Of a key that the CA was to make.
    #[error("the CA makes no keys of the type {kind}: one can only be the user's own, in the mode client-key")]
    NotMade {
        /// Which.
        rule: String,
        /// What was asked for.
        kind: &'static str,
    },
    /// None was given.
    #[error("the rule demands a reason")]
    Reason {
        /// Which.
        rule: String,
    },
    /// Longer than the rule allows, or not at all.
    #[error("the rule allows a validity of 1 to {most} seconds")]
    Validity {
        /// Which.
        rule: String,
        /// Seconds.
        most: u64,
    },
    /// One that the rule does not give.
    #[error("a principal was asked for that the rule does not give: {}", shown(names))]
    Principal {
        /// Which.
        rule: String,
        /// Those that it does not give, as they were asked for.
        names: Vec<String>,
    },
    /// The account is in none of the groups that the rule maps to principals.
    #[error("the rule has no principal for this account")]
    NoPrincipal {
        /// Which.
        rule: String,
    },
}

impl PolicyRefusal {
    /// The rule that refused, or nothing.
    pub fn rule(&self) -> &str {
        match self {
            PolicyRefusal::Denied { rule }
            | PolicyRefusal::Authentication { rule, .. }
            | PolicyRefusal::Mode { rule, .. }
            | PolicyRefusal::KeyType { rule, .. }
            | PolicyRefusal::NotMade { rule, .. }
            | PolicyRefusal::Reason { rule }
            | PolicyRefusal::Validity { rule, .. }
            | PolicyRefusal::Principal { rule, .. }
            | PolicyRefusal::NoPrincipal { rule } => rule,
            PolicyRefusal::NoRule | PolicyRefusal::Name => "",
        }
    }
}

/// The first of them, for a row and a line: they are what a user typed, and may be many.
fn shown(names: &[String]) -> String {
    const MOST: usize = 3;
    let first: Vec<String> = names.iter().take(MOST).map(|name| escape_word(name.as_bytes(), 64)).collect();
    let more = names.len().saturating_sub(MOST);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", first.join(", "))
}

/// A rule that was looked at before the one that decided, and why it was not it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed<'a> {
    /// The rule.
    pub rule: &'a str,
    /// Its first condition that did not hold.
    pub mismatch: Mismatch,
}

impl Policy {
    /// What it says of host certificates.
    pub fn hosts(&self) -> &HostPolicy {
        &self.hosts
    }

    /// Who may administer the CA over ssh; `None`: nobody.
    pub fn admins(&self) -> Option<&Admins> {
        self.admins.as_ref()
    }

    /// Every group that it names, once.
    pub fn groups(&self) -> BTreeSet<&str> {
        let listed = self.rules.iter().map(|rule| &rule.conditions.subjects);
        let listed = listed.flat_map(|subjects| match subjects {
            Subjects::Everybody => &[][..],
            Subjects::Listed { groups, .. } => groups,
        });
        let mapped = self.rules.iter().flat_map(|rule| match &rule.effect {
            Effect::Deny => &[][..],
            Effect::Grant(terms) => &terms.group_principals,
        });
        let admins = self.admins.iter().flat_map(Admins::groups);
        listed.chain(mapped.map(|(group, _)| group)).chain(admins).map(String::as_str).collect()
    }

    /// How many rules it has, those of included files too.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Every user and every group that it names, once each, with the first place where it stands. Groups are told from users by `true`.
    pub fn names(&self) -> BTreeMap<(bool, &str), String> {
        let mut names = BTreeMap::new();
        for rule in &self.rules {
            let place = || format!("{}: rule \"{}\"", rule.place, rule.name);
            let mapped = match &rule.effect {
                Effect::Deny => &[][..],
                Effect::Grant(terms) => &terms.group_principals,
            };
            let (users, groups) = match &rule.conditions.subjects {
                Subjects::Everybody => (&[][..], &[][..]),
                Subjects::Listed { users, groups } => (&users[..], &groups[..]),
            };
            let groups = groups.iter().chain(mapped.iter().map(|(group, _)| group)).map(|name| (true, name.as_str()));
            for name in users.iter().map(|name| (false, name.as_str())).chain(groups) {
                names.entry(name).or_insert_with(place);
            }
        }
        let admins = self.admins.iter().flat_map(|admins| {
            let groups = admins.groups().iter().map(|name| (true, name.as_str()));
            admins.users().iter().map(|name| (false, name.as_str())).chain(groups)
        });
        for name in admins {
            names.entry(name).or_insert_with(|| "[admins]".to_owned());
        }
        names
    }

    /// Decides.
    /// # Errors
    /// [`PolicyRefusal`]
    pub fn decide(&self, question: &Question<'_>) -> Result<Grant, PolicyRefusal> {
        if !is_principal(question.user) {
            return Err(PolicyRefusal::Name);
        }
        let rule = self.rules.iter().find(|rule| self.mismatch(rule, question).is_none());
        let rule = rule.ok_or(PolicyRefusal::NoRule)?;
        match &rule.effect {
            Effect::Deny => Err(PolicyRefusal::Denied { rule: rule.name.clone() }),
            Effect::Grant(terms) => terms.grant(&rule.name, question),
        }
    }

    /// What the rule that decides demands; `None`: there is no such rule, or it denies. Proofs, mode, key and wish of the question count for nothing.
    pub fn demands(&self, question: &Question<'_>) -> Option<Demands<'_>> {
        match &self.rules.iter().find(|rule| self.mismatch(rule, question).is_none())?.effect {
            Effect::Deny => None,
            Effect::Grant(terms) => Some(terms.demands()),
        }
    }

    /// Every way to prove who one is that a rule takes from somebody who comes from this address, whoever and whenever.
    pub fn ways_from(&self, source: IpAddr) -> impl Iterator<Item = Proofs> + '_ {
        let rules = self.rules.iter().filter(move |rule| rule.conditions.may_come_from(source));
        rules
            .flat_map(|rule| match &rule.effect {
                Effect::Deny => &[][..],
                Effect::Grant(terms) => &terms.authentication,
            })
            .copied()
    }

    /// The rules before the one that decides, and why each was not it.
    pub fn passed_over(&self, question: &Question<'_>) -> Vec<Passed<'_>> {
        let mismatch = |rule: &'_ Rule| self.mismatch(rule, question);
        self.rules.iter().map_while(|rule| Some(Passed { rule: &rule.name, mismatch: mismatch(rule)? })).collect()
    }

    fn mismatch(&self, rule: &Rule, question: &Question<'_>) -> Option<Mismatch> {
        rule.conditions.mismatch(question, &self.zone)
    }
}

/// Printable ASCII, no blank, no comma (OpenSSH before 10.3 splits at it: CVE-2026-35414), no pattern, no quote.
pub fn is_principal(name: &str) -> bool {
    let fit = |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b'*' | b'?' | b'!' | b'"' | b'\'' | b'`');
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(fit)
}

#[cfg(test)]
mod tests;
