//! Policy: who may have which certificate. Rules in order, the first that matches decides, and without one there is none.
//!
//! Trusted: the policy's text, and the account and groups of a kept statement. No word of the front's gets here.

mod parse;

use std::collections::BTreeSet;

pub use self::parse::PolicyError;

/// Longest account name or principal, in bytes.
pub const MAX_NAME: usize = 256;

/// The rules, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    name: String,
    subjects: Subjects,
    effect: Effect,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subjects {
    Everybody,
    Listed { users: Vec<String>, groups: Vec<String> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
    Deny,
    Grant(Terms),
}

/// What a certificate under a rule is like.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    validity_seconds: u64,
    backdate_seconds: u64,
    principals: Vec<PrincipalTerm>,
    extensions: Vec<String>,
    force_command: Option<String>,
    source_address: Option<String>,
    confirm: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PrincipalTerm {
    /// `%u`: the canonical account name.
    Account,
    Literal(String),
}

/// What somebody gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The rule that decided.
    pub rule: String,
    /// Seconds from now to the certificate's end.
    pub validity_seconds: u64,
    /// Seconds before now at which it starts, for clocks that are behind.
    pub backdate_seconds: u64,
    /// At least one, no two alike.
    pub principals: Vec<String>,
    /// Names of flag extensions, no two alike.
    pub extensions: Vec<String>,
    /// The only command that sshd runs.
    pub force_command: Option<String>,
    /// sshd takes the certificate from these networks only; comma-separated.
    pub source_address: Option<String>,
    /// The agent asks before each use.
    pub confirm: bool,
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
}

impl PolicyRefusal {
    /// The rule that refused, or nothing.
    pub fn rule(&self) -> &str {
        match self {
            PolicyRefusal::Denied { rule } => rule,
            PolicyRefusal::NoRule | PolicyRefusal::Name => "",
        }
    }
}

impl Policy {
    /// Every group that a rule is about, once.
    pub fn groups(&self) -> BTreeSet<&str> {
        let listed = self.rules.iter().flat_map(|rule| match &rule.subjects {
            Subjects::Everybody => &[][..],
            Subjects::Listed { groups, .. } => groups,
        });
        listed.map(String::as_str).collect()
    }

    /// Decides for an account, by its canonical name and its groups.
    /// # Errors
    /// [`PolicyRefusal`]
    pub fn decide(&self, user: &str, groups: &[String]) -> Result<Grant, PolicyRefusal> {
        if !is_principal(user) {
            return Err(PolicyRefusal::Name);
        }
        let rule = self.rules.iter().find(|r| r.subjects.include(user, groups)).ok_or(PolicyRefusal::NoRule)?;
        match &rule.effect {
            Effect::Deny => Err(PolicyRefusal::Denied { rule: rule.name.clone() }),
            Effect::Grant(terms) => Ok(terms.grant(&rule.name, user)),
        }
    }
}

impl Subjects {
    fn include(&self, user: &str, groups: &[String]) -> bool {
        match self {
            Subjects::Everybody => true,
            Subjects::Listed { users, groups: listed } => {
                users.iter().any(|u| u == user) || listed.iter().any(|g| groups.contains(g))
            }
        }
    }
}

impl Terms {
    fn grant(&self, rule: &str, user: &str) -> Grant {
        let mut principals: Vec<String> = Vec::new();
        for term in &self.principals {
            let name = match term {
                PrincipalTerm::Account => user,
                PrincipalTerm::Literal(name) => name,
            };
            if !principals.iter().any(|p| p == name) {
                principals.push(name.to_owned());
            }
        }
        Grant {
            rule: rule.to_owned(),
            validity_seconds: self.validity_seconds,
            backdate_seconds: self.backdate_seconds,
            principals,
            extensions: self.extensions.clone(),
            force_command: self.force_command.clone(),
            source_address: self.source_address.clone(),
            confirm: self.confirm,
        }
    }
}

/// Printable ASCII, no blank, no comma (OpenSSH before 10.3 splits at it: CVE-2026-35414), no pattern, no quote.
pub fn is_principal(name: &str) -> bool {
    let fit = |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b'*' | b'?' | b'!' | b'"' | b'\'' | b'`');
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(fit)
}

#[cfg(test)]
mod tests;
