//! What a rule demands and gives.

use super::question::{KeyKind, Mode, Proofs};
use super::{PolicyRefusal, Question, is_principal};

/// Of a rule that grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Any of these ways to prove who one is; the first is the one that is asked for.
    pub authentication: Vec<Proofs>,
    pub reason_required: bool,
    pub modes: Vec<Mode>,
    /// The first that the CA can make is what it makes.
    pub key_types: Vec<KeyKind>,
    pub max_certificates: Option<u32>,
    pub validity_seconds: u64,
    pub max_validity_seconds: u64,
    pub backdate_seconds: u64,
    pub principals: Vec<PrincipalTerm>,
    /// Principals for the members of a group.
    pub group_principals: Vec<(String, Vec<PrincipalTerm>)>,
    pub extensions: Vec<String>,
    pub force_command: Option<String>,
    pub source_address: Option<SourceAddress>,
    pub confirm: bool,
    pub agent_lifetime_seconds: Option<u64>,
}

/// A principal, or how to make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalTerm {
    /// Before and behind the canonical account name, `%u`.
    Account {
        prefix: String,
        suffix: String,
    },
    Literal(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAddress {
    /// `%client`: where the request came from.
    Client,
    /// Comma-separated.
    Networks(String),
}

/// What a rule that grants demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demands<'a> {
    /// Any of these ways to prove who one is, or more than one of them.
    pub authentication: &'a [Proofs],
    /// Who makes the key.
    pub modes: &'a [Mode],
    /// Kinds of keys.
    pub key_types: &'a [KeyKind],
    /// A reason must be given.
    pub reason_required: bool,
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
    /// The agent drops it after so many seconds, if that is before its end.
    pub agent_lifetime_seconds: Option<u64>,
    /// Most certificates of this user that are good at one time, this one included.
    pub max_certificates: Option<u32>,
}

impl PrincipalTerm {
    fn name(&self, user: &str) -> String {
        match self {
            PrincipalTerm::Account { prefix, suffix } => format!("{prefix}{user}{suffix}"),
            PrincipalTerm::Literal(name) => name.clone(),
        }
    }
}

impl Terms {
    /// What the request must have.
    pub fn demands(&self) -> Demands<'_> {
        Demands {
            authentication: &self.authentication,
            modes: &self.modes,
            key_types: &self.key_types,
            reason_required: self.reason_required,
        }
    }

    /// What there is for this request under the rule.
    /// # Errors
    /// What the rule demands and the request has not.
    pub fn grant(&self, rule: &str, question: &Question<'_>) -> Result<Grant, PolicyRefusal> {
        self.check_demands(rule, question)?;
        let named = |why: fn(String) -> PolicyRefusal| why(rule.to_owned());
        let validity_seconds = question.wish.validity_seconds.unwrap_or(self.validity_seconds);
        if !(1..=self.max_validity_seconds).contains(&validity_seconds) {
            return Err(PolicyRefusal::Validity { rule: rule.to_owned(), most: self.max_validity_seconds });
        }
        let all = self.principals(question).map_err(named)?;
        let principals = match question.wish.principals.as_slice() {
            [] => all,
            asked if asked.iter().all(|name| all.contains(name)) => {
                all.into_iter().filter(|name| asked.contains(name)).collect()
            }
            asked => {
                let names = asked.iter().filter(|name| !all.contains(name)).cloned().collect();
                return Err(PolicyRefusal::Principal { rule: rule.to_owned(), names });
            }
        };
        Ok(Grant {
            rule: rule.to_owned(),
            validity_seconds,
            backdate_seconds: self.backdate_seconds,
            principals,
            extensions: self.extensions.clone(),
            force_command: self.force_command.clone(),
            source_address: self.source_address.as_ref().map(|source| match source {
                SourceAddress::Client => ipnet::IpNet::from(question.source.to_canonical()).to_string(),
                SourceAddress::Networks(networks) => networks.clone(),
            }),
            confirm: self.confirm,
            agent_lifetime_seconds: self.agent_lifetime_seconds,
            max_certificates: self.max_certificates,
        })
    }

    fn check_demands(&self, rule: &str, question: &Question<'_>) -> Result<(), PolicyRefusal> {
        let rule = || rule.to_owned();
        if !self.authentication.iter().any(|demanded| question.proofs.satisfy(*demanded)) {
            let ways: Vec<String> = self.authentication.iter().map(Proofs::to_string).collect();
            return Err(PolicyRefusal::Authentication { rule: rule(), demanded: ways.join(" or ") });
        }
        if !self.modes.contains(&question.mode) {
            return Err(PolicyRefusal::Mode { rule: rule(), mode: question.mode.name() });
        }
        if question.mode == Mode::Inject && !question.key_kind.is_made() {
            return Err(PolicyRefusal::NotMade { rule: rule(), kind: question.key_kind.name() });
        }
        if !self.key_types.contains(&question.key_kind) {
            return Err(PolicyRefusal::KeyType { rule: rule(), kind: question.key_kind.name() });
        }
        if self.reason_required && question.wish.reason.trim().is_empty() {
            return Err(PolicyRefusal::Reason { rule: rule() });
        }
        Ok(())
    }

    /// All that the rule gives to this account.
    fn principals(&self, question: &Question<'_>) -> Result<Vec<String>, fn(String) -> PolicyRefusal> {
        let mapped = self.group_principals.iter().filter(|(group, _)| question.groups.contains(group));
        let terms = self.principals.iter().chain(mapped.flat_map(|(_, terms)| terms));
        let mut names: Vec<String> = Vec::new();
        for term in terms {
            let name = term.name(question.user);
            if !is_principal(&name) {
                return Err(|_| PolicyRefusal::Name);
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() { Err(|rule| PolicyRefusal::NoPrincipal { rule }) } else { Ok(names) }
    }
}
