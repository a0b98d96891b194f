//! The policy's text: TOML, unknown names are errors, every error says its line.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::{Effect, MAX_NAME, Policy, PrincipalTerm, Rule, Subjects, Terms, is_principal};

/// Longest validity, in seconds: 366 days.
const MAX_VALIDITY: u64 = 366 * 86_400;
/// Longest backdating, in seconds: one day.
const MAX_BACKDATE: u64 = 86_400;
/// Default backdating, in seconds.
const DEFAULT_BACKDATE: u64 = 60;
/// Most entries of one list.
const MAX_LIST: usize = 256;
/// Most principals of one rule: a row of the inventory must fit into one packet.
const MAX_PRINCIPALS: usize = 64;
/// Longest command, in bytes.
const MAX_COMMAND: usize = 4096;
/// Extensions that sshd knows (auth-options.c `cert_option_list`).
const SSHD_EXTENSIONS: [&str; 6] = [
    "no-touch-required",
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
];
/// What a rule gives that names none: all that changes nothing on the user's own machine.
const DEFAULT_EXTENSIONS: [&str; 4] =
    ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"];

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, an unknown name, a name that is missing, or a value of the wrong type.
    #[error("line {line}: {problem}")]
    Syntax {
        /// From 1.
        line: usize,
        /// One line of text.
        problem: String,
    },
    /// A value that makes no sense.
    #[error("line {line}: rule \"{rule}\": {problem}")]
    Value {
        /// From 1.
        line: usize,
        /// The rule's name.
        rule: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// No rule at all.
    #[error("there is no [[rule]], so that nobody would get a certificate")]
    NoRules,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyText {
    #[serde(default)]
    rule: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: Spanned<String>,
    users: Option<Spanned<Vec<String>>>,
    groups: Option<Spanned<Vec<String>>>,
    deny: Option<Spanned<bool>>,
    validity_seconds: Option<Spanned<u64>>,
    backdate_seconds: Option<Spanned<u64>>,
    principals: Option<Spanned<Vec<String>>>,
    extensions: Option<Spanned<Vec<String>>>,
    force_command: Option<Spanned<String>>,
    source_address: Option<Spanned<Vec<String>>>,
    confirm: Option<Spanned<bool>>,
}

/// A problem and the byte of the text at which it stands.
struct Problem {
    at: usize,
    text: String,
}

fn problem<T>(at: usize, text: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { at, text: text.into() })
}

impl Policy {
    /// Parses and checks.
    /// # Errors
    /// [`PolicyError`]
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let parsed: PolicyText = toml::from_str(text).map_err(|e| syntax_error(text, &e))?;
        if parsed.rule.is_empty() {
            return Err(PolicyError::NoRules);
        }
        let mut rules: Vec<Rule> = Vec::with_capacity(parsed.rule.len());
        for rule in parsed.rule {
            let name = rule.name.get_ref().clone();
            let checked = check_name(&rule.name, &rules).and_then(|()| rule.check());
            let rule =
                checked.map_err(|p| PolicyError::Value { line: line_of(text, p.at), rule: name, problem: p.text })?;
            rules.push(rule);
        }
        Ok(Policy { rules })
    }
}

/// In one line: it goes to the log as well, where a picture of the place would be escaped.
fn syntax_error(text: &str, error: &toml::de::Error) -> PolicyError {
    let line = line_of(text, error.span().map_or(0, |span| span.start));
    PolicyError::Syntax { line, problem: error.message().trim().replace('\n', "; ") }
}

/// The line, from 1, in which a byte stands.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|b| *b == b'\n').count()
}

fn check_name(name: &Spanned<String>, before: &[Rule]) -> Result<(), Problem> {
    let text = name.get_ref();
    let at = name.span().start;
    if text.is_empty() || text.len() > 64 || !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return problem(at, "name must be 1 to 64 printable ASCII characters");
    }
    if before.iter().any(|r| r.name == *text) {
        return problem(at, "there is another rule of this name above");
    }
    Ok(())
}

impl RuleText {
    fn check(self) -> Result<Rule, Problem> {
        let subjects = subjects(self.users.as_ref(), self.groups.as_ref())?;
        let effect = match &self.deny {
            Some(deny) if *deny.get_ref() => {
                self.nothing_granted()?;
                Effect::Deny
            }
            _ => Effect::Grant(self.terms()?),
        };
        Ok(Rule { name: self.name.into_inner(), subjects, effect })
    }

    /// A rule that denies and grants at once is a mistake in one of the two.
    fn nothing_granted(&self) -> Result<(), Problem> {
        let given = [
            self.validity_seconds.as_ref().map(|v| v.span()),
            self.backdate_seconds.as_ref().map(|v| v.span()),
            self.principals.as_ref().map(|v| v.span()),
            self.extensions.as_ref().map(|v| v.span()),
            self.force_command.as_ref().map(|v| v.span()),
            self.source_address.as_ref().map(|v| v.span()),
            self.confirm.as_ref().map(|v| v.span()),
        ];
        match given.into_iter().flatten().next() {
            None => Ok(()),
            Some(span) => problem(span.start, "has deny = true, and grants something all the same"),
        }
    }

    fn terms(&self) -> Result<Terms, Problem> {
        let at = self.name.span().start;
        let Some(validity) = &self.validity_seconds else {
            return problem(at, "validity_seconds is missing (or deny = true)");
        };
        let Some(principals) = &self.principals else {
            return problem(at, "principals is missing; [\"%u\"] is the account's own name");
        };
        Ok(Terms {
            validity_seconds: bounded(validity, "validity_seconds", 1, MAX_VALIDITY)?,
            backdate_seconds: match &self.backdate_seconds {
                None => DEFAULT_BACKDATE,
                Some(value) => bounded(value, "backdate_seconds", 0, MAX_BACKDATE)?,
            },
            principals: parse_principals(principals)?,
            extensions: match &self.extensions {
                None => DEFAULT_EXTENSIONS.map(str::to_owned).to_vec(),
                Some(list) => parse_extensions(list)?,
            },
            force_command: self.force_command.as_ref().map(parse_command).transpose()?,
            source_address: self.source_address.as_ref().map(parse_networks).transpose()?,
            confirm: self.confirm.as_ref().is_some_and(|c| *c.get_ref()),
        })
    }
}

/// A list that is there and empty would turn "nobody in particular" into "everybody".
fn subjects(users: Option<&Spanned<Vec<String>>>, groups: Option<&Spanned<Vec<String>>>) -> Result<Subjects, Problem> {
    if users.is_none() && groups.is_none() {
        return Ok(Subjects::Everybody);
    }
    let names = |key: &str, list: Option<&Spanned<Vec<String>>>| match list {
        None => Ok(Vec::new()),
        Some(list) => {
            let at = list.span().start;
            let names = list.get_ref();
            if names.is_empty() {
                return problem(at, format!("{key} is an empty list; leave it out if the rule is for everybody"));
            }
            if names.len() > MAX_LIST
                || names.iter().any(|n| n.is_empty() || n.len() > MAX_NAME || n.contains(char::is_control))
            {
                return problem(
                    at,
                    format!("{key} must hold names, {MAX_LIST} at most, each of {MAX_NAME} bytes at most"),
                );
            }
            Ok(names.clone())
        }
    };
    Ok(Subjects::Listed { users: names("users", users)?, groups: names("groups", groups)? })
}

fn bounded(value: &Spanned<u64>, key: &str, low: u64, high: u64) -> Result<u64, Problem> {
    let number = *value.get_ref();
    if (low..=high).contains(&number) {
        return Ok(number);
    }
    problem(value.span().start, format!("{key} must be {low} to {high}"))
}

fn parse_principals(list: &Spanned<Vec<String>>) -> Result<Vec<PrincipalTerm>, Problem> {
    let at = list.span().start;
    if list.get_ref().is_empty() {
        return problem(at, "principals is empty; [\"%u\"] is the account's own name");
    }
    if list.get_ref().len() > MAX_PRINCIPALS {
        return problem(at, format!("more than {MAX_PRINCIPALS} principals"));
    }
    let term = |name: &String| match name.as_str() {
        "%u" => Ok(PrincipalTerm::Account),
        // Other letters may get a meaning one day.
        n if n.contains('%') => problem(at, format!("\"{n}\": % stands for nothing but in \"%u\" alone")),
        n if is_principal(n) => Ok(PrincipalTerm::Literal(n.to_owned())),
        n => problem(at, format!("\"{}\" cannot be a principal", ussh_core::escape::escape(n.as_bytes(), 64))),
    };
    list.get_ref().iter().map(term).collect()
}

fn parse_extensions(list: &Spanned<Vec<String>>) -> Result<Vec<String>, Problem> {
    let at = list.span().start;
    let names = list.get_ref();
    for (index, name) in names.iter().enumerate() {
        let foreign = name.contains('@') && is_principal(name) && !name.ends_with("@ussh");
        if !SSHD_EXTENSIONS.contains(&name.as_str()) && !foreign {
            let known = SSHD_EXTENSIONS.join(", ");
            let name = ussh_core::escape::escape(name.as_bytes(), 64);
            return problem(at, format!("\"{name}\" is no extension; sshd knows {known}; others have an @"));
        }
        if names.iter().take(index).any(|n| n == name) {
            return problem(at, format!("the extension \"{name}\" stands there twice"));
        }
    }
    if names.len() > MAX_LIST {
        return problem(at, format!("more than {MAX_LIST} extensions"));
    }
    Ok(names.clone())
}

fn parse_command(command: &Spanned<String>) -> Result<String, Problem> {
    let text = command.get_ref();
    if text.trim().is_empty() || text.len() > MAX_COMMAND || text.contains(char::is_control) {
        return problem(command.span().start, "force_command must be one line of text");
    }
    Ok(text.clone())
}

/// sshd refuses a network with bits set behind its prefix (addrmatch.c `addr_match_cidr_list`), at every login: so it is refused here, once.
fn parse_networks(list: &Spanned<Vec<String>>) -> Result<String, Problem> {
    let at = list.span().start;
    if list.get_ref().is_empty() || list.get_ref().len() > MAX_LIST {
        return problem(at, "source_address must hold networks; leave it out to allow all");
    }
    let network = |text: &String| {
        let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        match parsed {
            Some(net) if net.trunc() == net => Ok(net.to_string()),
            Some(net) => problem(at, format!("\"{text}\" has bits set behind its prefix; try \"{}\"", net.trunc())),
            None => {
                let text = ussh_core::escape::escape(text.as_bytes(), 64);
                problem(at, format!("\"{text}\" is no network such as \"10.0.0.0/8\" or \"2001:db8::/32\""))
            }
        }
    };
    let networks: Vec<String> = list.get_ref().iter().map(network).collect::<Result<_, _>>()?;
    Ok(networks.join(","))
}
