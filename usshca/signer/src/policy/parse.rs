//! The policy's text: TOML, unknown names are errors, every error says its file and line.

use jiff::tz::TimeZone;
use serde::Deserialize;
use toml::Spanned;
use usshca_ipc::signer::PolicyText;

use super::admins::{Admins, AdminsText};
use super::conditions::{Conditions, When};
use super::hosts::HostPolicy;
use super::question::{KeyKind, Mode, Proofs};
use super::terms::Terms;
use super::values::{
    self, Named, Problem, Table, bounded, choices, command, days, extensions, hours, networks, principals, problem,
    source_address, subjects,
};
use super::{Effect, Policy, Rule};

/// Longest validity, in seconds: 366 days.
const MAX_VALIDITY: u64 = 366 * 86_400;
/// Longest backdating, in seconds: one day.
const MAX_BACKDATE: u64 = 86_400;
/// Default backdating, in seconds.
const DEFAULT_BACKDATE: u64 = 60;
/// Most rules in all.
const MAX_RULES: usize = 10_000;
/// What a rule gives that names none: all that changes nothing on the user's own machine.
const DEFAULT_EXTENSIONS: [&str; 4] =
    ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"];
/// Kinds of keys that a rule takes that names none. Not RSA: it is slow for everybody who meets the certificate.
const DEFAULT_KEY_TYPES: [KeyKind; 4] = [KeyKind::Ed25519, KeyKind::Ecdsa, KeyKind::SkEd25519, KeyKind::SkEcdsa];

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, an unknown name, a name that is missing, or a value of the wrong type.
    #[error("{file}: line {line}: {problem}")]
    Syntax {
        /// As people know it.
        file: String,
        /// From 1.
        line: usize,
        /// One line of text.
        problem: String,
    },
    /// A value that makes no sense.
    #[error("{file}: line {line}: {}{problem}", in_rule(rule))]
    Value {
        /// As people know it.
        file: String,
        /// From 1.
        line: usize,
        /// The rule's name; empty: it stands in no rule.
        rule: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// No rule at all.
    #[error("{file}: there is no [[rule]], so that nobody would get a certificate")]
    NoRules {
        /// As people know it.
        file: String,
    },
}

fn in_rule(rule: &str) -> String {
    if rule.is_empty() {
        String::new()
    } else {
        format!("rule \"{}\": ", ussh_core::escape::escape(rule.as_bytes(), 64))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MainText {
    time_zone: Option<Spanned<String>>,
    host_validity_seconds: Option<Spanned<u64>>,
    host_wildcards: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    host_groups: Table,
    admins: Option<Spanned<AdminsText>>,
    #[serde(default)]
    rule: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IncludedText {
    #[serde(default)]
    rule: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    include: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    // Whom and when it is about.
    users: Option<Spanned<Vec<String>>>,
    groups: Option<Spanned<Vec<String>>>,
    from: Option<Spanned<Vec<String>>>,
    hours: Option<Spanned<String>>,
    days: Option<Spanned<Vec<String>>>,
    deny: Option<Spanned<bool>>,
    // What it demands.
    authentication: Option<Spanned<Vec<String>>>,
    reason_required: Option<Spanned<bool>>,
    modes: Option<Spanned<Vec<String>>>,
    key_types: Option<Spanned<Vec<String>>>,
    max_certificates: Option<Spanned<u64>>,
    // What it gives.
    validity_seconds: Option<Spanned<u64>>,
    max_validity_seconds: Option<Spanned<u64>>,
    backdate_seconds: Option<Spanned<u64>>,
    principals: Option<Spanned<Vec<String>>>,
    group_principals: Option<Spanned<Table>>,
    hosts: Option<Spanned<Vec<String>>>,
    extensions: Option<Spanned<Vec<String>>>,
    force_command: Option<Spanned<String>>,
    source_address: Option<Spanned<Vec<String>>>,
    confirm: Option<Spanned<bool>>,
    agent_lifetime_seconds: Option<Spanned<u64>>,
}

impl Policy {
    /// Parses and checks the first file, and at its `[[rule]] include = "FOLDER"` the others of that folder, in the order in which they are given.
    /// # Errors
    /// [`PolicyError`]
    pub fn of(files: &[PolicyText]) -> Result<Self, PolicyError> {
        let Some((main, included)) = files.split_first() else {
            return Err(PolicyError::NoRules { file: "the policy".to_owned() });
        };
        let text: MainText = read(main)?;
        let value = |rule: &str| {
            let rule = rule.to_owned();
            move |problem: Problem| value_error(main, rule, problem)
        };
        let zone = text.time_zone.as_ref().map_or(Ok(TimeZone::UTC), time_zone).map_err(value(""))?;
        let admins = text.admins.as_ref().map(Admins::of).transpose().map_err(value(""))?;
        let host_groups = Named::new(&text.host_groups).map_err(value(""))?;
        let hosts = HostPolicy::read(text.host_validity_seconds.as_ref(), text.host_wildcards.as_ref());
        let hosts = hosts.map_err(value(""))?;
        let mut reader = Reader { host_groups, rules: Vec::new() };
        for rule in &text.rule {
            let Some(folder) = &rule.include else {
                reader.add(main, rule)?;
                continue;
            };
            rule.nothing_but_include().map_err(value(""))?;
            let mut files = included.iter().filter(|file| file.folder == *folder.get_ref()).peekable();
            if files.peek().is_none() {
                return Err(value("")(Problem::at(folder, "there is no file *.toml in this folder beside the policy")));
            }
            for file in files {
                for rule in &read::<IncludedText>(file)?.rule {
                    if let Some(nested) = &rule.include {
                        let problem = Problem::at(nested, "an included file cannot include");
                        return Err(value_error(file, String::new(), problem));
                    }
                    reader.add(file, rule)?;
                }
            }
        }
        if reader.rules.is_empty() {
            return Err(PolicyError::NoRules { file: main.name.clone() });
        }
        Ok(Policy { zone, rules: reader.rules, hosts, admins })
    }
}

fn read<'a, T: Deserialize<'a>>(file: &'a PolicyText) -> Result<T, PolicyError> {
    // In one line: it goes to the log as well, where a picture of the place would be escaped.
    toml::from_str(&file.text).map_err(|error| PolicyError::Syntax {
        file: file.name.clone(),
        line: line_of(&file.text, error.span().map_or(0, |span| span.start)),
        problem: error.message().trim().replace('\n', "; "),
    })
}

fn value_error(file: &PolicyText, rule: String, problem: Problem) -> PolicyError {
    PolicyError::Value { file: file.name.clone(), line: line_of(&file.text, problem.at), rule, problem: problem.text }
}

/// The line, from 1, in which a byte stands.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|b| *b == b'\n').count()
}

fn time_zone(name: &Spanned<String>) -> Result<TimeZone, Problem> {
    TimeZone::get(name.get_ref())
        .map_err(|_| Problem::at(name, "time_zone must be a name such as \"Europe/Berlin\" or \"UTC\""))
}

/// Rules as they come, from whichever file.
struct Reader {
    host_groups: Named,
    rules: Vec<Rule>,
}

impl Reader {
    fn add(&mut self, file: &PolicyText, text: &RuleText) -> Result<(), PolicyError> {
        let name = text.name.as_ref().map_or("", |name| name.get_ref());
        let error = |problem| value_error(file, name.to_owned(), problem);
        let rule = self.rule(file, text, name).map_err(error)?;
        self.rules.push(rule);
        Ok(())
    }

    fn rule(&self, file: &PolicyText, text: &RuleText, name: &str) -> Result<Rule, Problem> {
        let Some(spanned) = &text.name else {
            return problem(text.start(), "the rule has no name");
        };
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err(Problem::at(spanned, "name must be 1 to 64 printable ASCII characters"));
        }
        if let Some(other) = self.rules.iter().find(|rule| rule.name == name) {
            return Err(Problem::at(spanned, format!("there is another rule of this name ({})", other.place)));
        }
        if self.rules.len() >= MAX_RULES {
            return Err(Problem::at(spanned, format!("more than {MAX_RULES} rules")));
        }
        let conditions = Conditions {
            subjects: subjects(text.users.as_ref(), text.groups.as_ref())?,
            from: text.from.as_ref().map(networks).transpose()?,
            when: When {
                hours: text.hours.as_ref().map(hours).transpose()?,
                days: text.days.as_ref().map_or(Ok(Vec::new()), days)?,
            },
        };
        let effect = match &text.deny {
            Some(deny) if *deny.get_ref() => {
                text.nothing_granted()?;
                Effect::Deny
            }
            _ => Effect::Grant(Box::new(text.terms(&conditions, &self.host_groups)?)),
        };
        let place = format!("{}:{}", file.name, line_of(&file.text, spanned.span().start));
        Ok(Rule { name: name.to_owned(), place, conditions, effect })
    }
}

impl RuleText {
    /// Where anything of it stands: of the first thing named.
    fn start(&self) -> usize {
        let conditions = [starts(&self.users), starts(&self.groups), starts(&self.from), starts(&self.days)];
        let others = [starts(&self.hours), starts(&self.deny), starts(&self.include), starts(&self.name)];
        conditions.into_iter().chain(others).chain(self.granted()).flatten().min().unwrap_or(0)
    }

    fn granted(&self) -> [Option<usize>; 16] {
        [
            starts(&self.authentication),
            starts(&self.reason_required),
            starts(&self.modes),
            starts(&self.key_types),
            starts(&self.max_certificates),
            starts(&self.validity_seconds),
            starts(&self.max_validity_seconds),
            starts(&self.backdate_seconds),
            starts(&self.principals),
            starts(&self.group_principals),
            starts(&self.hosts),
            starts(&self.extensions),
            starts(&self.force_command),
            starts(&self.source_address),
            starts(&self.confirm),
            starts(&self.agent_lifetime_seconds),
        ]
    }

    /// A rule that denies and grants at once is a mistake in one of the two.
    fn nothing_granted(&self) -> Result<(), Problem> {
        match self.granted().into_iter().flatten().min() {
            None => Ok(()),
            Some(at) => problem(at, "has deny = true, and grants or demands something all the same"),
        }
    }

    fn nothing_but_include(&self) -> Result<(), Problem> {
        let conditions = [starts(&self.users), starts(&self.groups), starts(&self.from), starts(&self.days)];
        let others = [starts(&self.hours), starts(&self.deny), starts(&self.name)];
        match conditions.into_iter().chain(others).chain(self.granted()).flatten().min() {
            None => Ok(()),
            Some(at) => problem(at, "a rule that includes a folder says nothing else"),
        }
    }

    fn terms(&self, conditions: &Conditions, host_groups: &Named) -> Result<Terms, Problem> {
        let at = self.start();
        let Some(validity) = &self.validity_seconds else {
            return problem(at, "validity_seconds is missing (or deny = true)");
        };
        let validity_seconds = bounded(validity, "validity_seconds", 1, MAX_VALIDITY)?;
        let most = |value| bounded(value, "max_validity_seconds", validity_seconds, MAX_VALIDITY);
        let lifetime = |value| bounded(value, "agent_lifetime_seconds", 1, MAX_VALIDITY);
        let mut names = self.principals.as_ref().map_or(Ok(Vec::new()), principals)?;
        let group_principals = self.group_principals.as_ref().map_or(Ok(Vec::new()), values::group_principals)?;
        if let Some(hosts) = &self.hosts {
            names.extend(host_groups.principals_of(hosts)?);
        }
        if names.is_empty() && group_principals.is_empty() {
            return problem(at, "principals is missing; [\"%u\"] is the account's own name");
        }
        let mut terms = Terms {
            authentication: vec![Proofs { pam: true, publickey: false }],
            reason_required: self.reason_required.as_ref().is_some_and(|value| *value.get_ref()),
            modes: vec![Mode::Inject],
            key_types: DEFAULT_KEY_TYPES.to_vec(),
            max_certificates: None,
            validity_seconds,
            max_validity_seconds: self.max_validity_seconds.as_ref().map_or(Ok(validity_seconds), most)?,
            backdate_seconds: match &self.backdate_seconds {
                None => DEFAULT_BACKDATE,
                Some(value) => bounded(value, "backdate_seconds", 0, MAX_BACKDATE)?,
            },
            principals: names,
            group_principals,
            extensions: match &self.extensions {
                None => DEFAULT_EXTENSIONS.map(str::to_owned).to_vec(),
                Some(list) => extensions(list)?,
            },
            force_command: self.force_command.as_ref().map(command).transpose()?,
            source_address: self.source_address.as_ref().map(source_address).transpose()?,
            confirm: self.confirm.as_ref().is_some_and(|value| *value.get_ref()),
            agent_lifetime_seconds: self.agent_lifetime_seconds.as_ref().map(lifetime).transpose()?,
        };
        self.demands(conditions, &mut terms)?;
        Ok(terms)
    }

    fn demands(&self, conditions: &Conditions, terms: &mut Terms) -> Result<(), Problem> {
        if let Some(list) = &self.authentication {
            terms.authentication = choices(list, "authentication", &Proofs::names(), Proofs::from_name)?;
            let none = terms.authentication.iter().any(|proofs| !proofs.pam && !proofs.publickey);
            let narrow = conditions.from.as_ref().is_some_and(|nets| nets.iter().all(|net| net.prefix_len() > 0));
            if none && !narrow {
                let text = "authentication \"none\" needs from = [\"…\"]: the networks whose word is enough";
                return Err(Problem::at(list, text));
            }
        }
        if let Some(list) = &self.modes {
            terms.modes = choices(list, "modes", &Mode::names(), Mode::from_name)?;
        }
        if let Some(list) = &self.key_types {
            terms.key_types = values::key_types(list)?;
            let makes = |kind: &KeyKind| matches!(kind, KeyKind::Ed25519 | KeyKind::Ecdsa);
            if terms.modes.contains(&Mode::Inject) && !terms.key_types.iter().any(makes) {
                return Err(Problem::at(
                    list,
                    "the mode \"inject\" needs \"ed25519\" or \"ecdsa\": the CA makes no other keys",
                ));
            }
        }
        if let Some(most) = &self.max_certificates {
            let most = bounded(most, "max_certificates", 1, 10_000)?;
            terms.max_certificates = u32::try_from(most).ok();
        }
        Ok(())
    }
}

fn starts<T>(value: &Option<Spanned<T>>) -> Option<usize> {
    value.as_ref().map(|value| value.span().start)
}
