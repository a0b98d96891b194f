//! Single values of the policy's text.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::civil::Weekday;
use toml::Spanned;
use ussh_core::escape::escape;

use super::conditions::Subjects;
use super::question::KeyKind;
use super::terms::{PrincipalTerm, SourceAddress};
use super::{MAX_NAME, is_principal};

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
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
/// A table of lists of names.
pub type Table = BTreeMap<String, Spanned<Vec<String>>>;

/// A problem and the byte of the text at which it stands.
#[derive(Debug)]
pub struct Problem {
    pub at: usize,
    pub text: String,
}

impl Problem {
    pub fn at<T>(value: &Spanned<T>, text: impl Into<String>) -> Self {
        Problem { at: value.span().start, text: text.into() }
    }
}

pub fn problem<T>(at: usize, text: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { at, text: text.into() })
}

/// Somebody else's word, in a sentence of ours.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escape(text.as_bytes(), 64))
}

/// A list that is there and empty would turn "nobody in particular" into "everybody".
pub fn subjects(
    users: Option<&Spanned<Vec<String>>>,
    groups: Option<&Spanned<Vec<String>>>,
) -> Result<Subjects, Problem> {
    if users.is_none() && groups.is_none() {
        return Ok(Subjects::Everybody);
    }
    let list = |key, list: Option<&Spanned<Vec<String>>>| list.map_or(Ok(Vec::new()), |list| names(key, list));
    Ok(Subjects::Listed { users: list("users", users)?, groups: list("groups", groups)? })
}

fn names(key: &str, list: &Spanned<Vec<String>>) -> Result<Vec<String>, Problem> {
    let names = list.get_ref();
    if names.is_empty() {
        return Err(Problem::at(list, format!("{key} is an empty list; leave it out if the rule is for everybody")));
    }
    let fit = |name: &String| !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control);
    if names.len() > MAX_LIST || !names.iter().all(fit) {
        let text = format!("{key} must hold names, {MAX_LIST} at most, each of {MAX_NAME} bytes at most");
        return Err(Problem::at(list, text));
    }
    Ok(names.clone())
}

pub fn bounded(value: &Spanned<u64>, key: &str, low: u64, high: u64) -> Result<u64, Problem> {
    let number = *value.get_ref();
    if (low..=high).contains(&number) {
        return Ok(number);
    }
    Err(Problem::at(value, format!("{key} must be {low} to {high}")))
}

/// One or more of a few words, each once.
pub fn choices<T: PartialEq>(
    list: &Spanned<Vec<String>>,
    key: &str,
    known: &[&str],
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Problem> {
    let mut chosen = Vec::new();
    for name in list.get_ref() {
        match read(name) {
            Some(choice) if !chosen.contains(&choice) => chosen.push(choice),
            Some(_) => return Err(Problem::at(list, format!("{key}: {} stands there twice", quoted(name)))),
            None => return Err(Problem::at(list, format!("{key}: {} is none of {}", quoted(name), known.join(", ")))),
        }
    }
    if chosen.is_empty() { Err(Problem::at(list, format!("{key} is an empty list"))) } else { Ok(chosen) }
}

pub fn key_types(list: &Spanned<Vec<String>>) -> Result<Vec<KeyKind>, Problem> {
    choices(list, "key_types", &KeyKind::names(), KeyKind::from_name)
}

/// `08:00-18:00`, up to `24:00`; over midnight if it ends before it begins.
pub fn hours(text: &Spanned<String>) -> Result<(u16, u16), Problem> {
    let minute = |text: &str| -> Option<u16> {
        let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
        let (hour, minute) = (number(hour)?, number(minute)?);
        (hour < 24 && minute < 60 || (hour, minute) == (24, 0)).then_some(hour * 60 + minute)
    };
    let span = text.get_ref().split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    // From 24:00 there is nothing, and from a time to itself there is nothing or everything.
    let span = span.filter(|(from, to)| from != to && *from < 24 * 60);
    span.ok_or_else(|| Problem::at(text, "hours must be as \"08:00-18:00\", or \"22:00-06:00\" over midnight"))
}

pub fn days(list: &Spanned<Vec<String>>) -> Result<Vec<Weekday>, Problem> {
    let day = |name: &str| DAYS.iter().find(|(known, _)| *known == name).map(|(_, day)| *day);
    choices(list, "days", &DAYS.map(|(name, _)| name), day)
}

pub fn principals(list: &Spanned<Vec<String>>) -> Result<Vec<PrincipalTerm>, Problem> {
    let names = list.get_ref();
    if names.is_empty() {
        return Err(Problem::at(list, "principals is empty; [\"%u\"] is the account's own name"));
    }
    if names.len() > MAX_PRINCIPALS {
        return Err(Problem::at(list, format!("more than {MAX_PRINCIPALS} principals")));
    }
    names.iter().map(|name| principal(name).map_err(|text| Problem::at(list, text))).collect()
}

fn principal(name: &str) -> Result<PrincipalTerm, String> {
    let (prefix, suffix, account) = match name.split_once("%u") {
        Some((prefix, suffix)) => (prefix, suffix, true),
        None => (name, "", false),
    };
    // Other letters may get a meaning one day.
    if prefix.contains('%') || suffix.contains('%') {
        return Err(format!("{}: % stands for nothing but once in %u, the account's name", quoted(name)));
    }
    match account {
        _ if !is_principal(&format!("{prefix}x{suffix}")) => Err(format!("{} cannot be a principal", quoted(name))),
        true => Ok(PrincipalTerm::Account { prefix: prefix.to_owned(), suffix: suffix.to_owned() }),
        false if is_principal(name) => Ok(PrincipalTerm::Literal(name.to_owned())),
        false => Err(format!("{} cannot be a principal", quoted(name))),
    }
}

/// `{ ops = ["deploy"] }`: what the members of a group get besides.
pub fn group_principals(table: &Spanned<Table>) -> Result<Vec<(String, Vec<PrincipalTerm>)>, Problem> {
    if table.get_ref().is_empty() || table.get_ref().len() > MAX_LIST {
        return Err(Problem::at(table, format!("group_principals must name 1 to {MAX_LIST} groups")));
    }
    let entry = |(group, list): (&String, &Spanned<Vec<String>>)| {
        if group.is_empty() || group.len() > MAX_NAME || group.contains(char::is_control) {
            return Err(Problem::at(list, format!("{} is no group", quoted(group))));
        }
        Ok((group.clone(), principals(list)?))
    };
    let entries: Vec<_> = table.get_ref().iter().map(entry).collect::<Result<_, _>>()?;
    let all: usize = entries.iter().map(|(_, terms)| terms.len()).sum();
    if all > MAX_PRINCIPALS {
        return Err(Problem::at(table, format!("more than {MAX_PRINCIPALS} principals in all")));
    }
    Ok(entries)
}

/// `[host_groups]`: the principals by which the hosts of a group let people in (their AuthorizedPrincipalsFile).
#[derive(Debug)]
pub struct Named(BTreeMap<String, Vec<PrincipalTerm>>);

impl Named {
    pub fn new(table: &Table) -> Result<Self, Problem> {
        let named = table.iter().map(|(name, list)| Ok((name.clone(), principals(list)?)));
        named.collect::<Result<_, _>>().map(Named)
    }

    /// Of several host groups.
    pub fn principals_of(&self, hosts: &Spanned<Vec<String>>) -> Result<Vec<PrincipalTerm>, Problem> {
        if self.0.is_empty() {
            return Err(Problem::at(hosts, "hosts names host groups, and there are none: [host_groups] defines them"));
        }
        let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let found = choices(hosts, "hosts", &known, |name| self.0.get_key_value(name).map(|(key, _)| key.clone()))?;
        Ok(found.iter().filter_map(|name| self.0.get(name)).flatten().cloned().collect())
    }
}

pub fn extensions(list: &Spanned<Vec<String>>) -> Result<Vec<String>, Problem> {
    let names = list.get_ref();
    for (index, name) in names.iter().enumerate() {
        let foreign = name.contains('@') && is_principal(name) && !name.ends_with("@ussh");
        if !SSHD_EXTENSIONS.contains(&name.as_str()) && !foreign {
            let known = SSHD_EXTENSIONS.join(", ");
            let text = format!("{} is no extension; sshd knows {known}; others have an @", quoted(name));
            return Err(Problem::at(list, text));
        }
        if names.iter().take(index).any(|n| n == name) {
            return Err(Problem::at(list, format!("the extension {} stands there twice", quoted(name))));
        }
    }
    if names.len() > MAX_LIST {
        return Err(Problem::at(list, format!("more than {MAX_LIST} extensions")));
    }
    Ok(names.clone())
}

pub fn command(command: &Spanned<String>) -> Result<String, Problem> {
    let text = command.get_ref();
    if text.trim().is_empty() || text.len() > MAX_COMMAND || text.contains(char::is_control) {
        return Err(Problem::at(command, "force_command must be one line of text"));
    }
    Ok(text.clone())
}

/// Networks, or `%client` alone.
pub fn source_address(list: &Spanned<Vec<String>>) -> Result<SourceAddress, Problem> {
    match list.get_ref().as_slice() {
        [client] if client == "%client" => Ok(SourceAddress::Client),
        several if several.iter().any(|one| one == "%client") => Err(Problem::at(
            list,
            "\"%client\" stands alone: with it a certificate is good from the caller's address and from nowhere else",
        )),
        _ => {
            let networks: Vec<String> = networks(list)?.iter().map(IpNet::to_string).collect();
            Ok(SourceAddress::Networks(networks.join(",")))
        }
    }
}

/// sshd refuses a network with bits set behind its prefix (addrmatch.c `addr_match_cidr_list`), at every login: so it is refused here, once.
pub fn networks(list: &Spanned<Vec<String>>) -> Result<Vec<IpNet>, Problem> {
    if list.get_ref().is_empty() || list.get_ref().len() > MAX_LIST {
        return Err(Problem::at(list, "must hold networks; leave it out to allow all"));
    }
    let network = |text: &String| {
        let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        match parsed {
            Some(net) if net.trunc() == net => Ok(net),
            Some(net) => {
                Err(Problem::at(list, format!("\"{text}\" has bits set behind its prefix; try \"{}\"", net.trunc())))
            }
            None => {
                let text = format!("{} is no network such as \"10.0.0.0/8\" or \"2001:db8::/32\"", quoted(text));
                Err(Problem::at(list, text))
            }
        }
    };
    list.get_ref().iter().map(network).collect()
}
