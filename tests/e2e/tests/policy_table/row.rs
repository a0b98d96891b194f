//! The table's rows, read.

/// One row: a question, and what comes of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Of the section that it stands in.
    pub way: Way,
    pub user: String,
    pub source: String,
    /// Of the day, in the policy's time zone.
    pub hour: u64,
    /// What stands behind `ssh -A ca`.
    pub asks: String,
    /// Empty: none.
    pub rule: String,
    pub outcome: Outcome,
}

/// How somebody comes: by what proof, and whose key is to be certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// `pam`, `publickey`, `publickey+pam` or `none`
    pub by: String,
    /// `inject` or `client-key`
    pub mode: String,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    /// Part of what the user reads.
    Refused(String),
    /// Not even let in: why, in the inventory's words.
    Denied(String),
    Certificate(Expected),
}

#[derive(Clone, Debug)]
pub struct Expected {
    /// From the request to the end.
    pub seconds: u64,
    pub principals: Vec<String>,
    pub extensions: Vec<String>,
    pub critical_options: Vec<String>,
}

const USUAL: &str = "permit-agent-forwarding permit-port-forwarding permit-pty permit-user-rc";

impl Row {
    pub fn all(text: &str) -> Vec<Self> {
        let mut way = Way { by: "pam".to_owned(), mode: "inject".to_owned() };
        let mut rows = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix('[').and_then(|head| head.strip_suffix(']')) {
                Some(head) => {
                    let (by, mode) = head.split_once(", ").unwrap_or_else(|| panic!("no section: {line}"));
                    way = Way { by: by.to_owned(), mode: mode.to_owned() };
                }
                None => rows.push(Self::read(&way, line).unwrap_or_else(|| panic!("no row: {line}"))),
            }
        }
        rows
    }

    fn read(way: &Way, line: &str) -> Option<Self> {
        let mut cells = line.split('|').map(|cell| match cell.trim() {
            "-" => "",
            text => text,
        });
        let mut next = || cells.next().map(str::to_owned);
        let (user, source, hour, asks, rule, first) = (next()?, next()?, next()?, next()?, next()?, next()?);
        let outcome = match first.split_once(": ") {
            Some(("refused", said)) => Outcome::Refused(said.to_owned()),
            Some(("denied", why)) => Outcome::Denied(why.to_owned()),
            Some(_) => return None,
            None => {
                let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
                let (principals, extensions, critical) = (words(next()?), next()?, next()?);
                let extensions = words(if extensions == "usual" { USUAL.to_owned() } else { extensions });
                let critical_options = critical.split(", ").filter(|o| !o.is_empty()).map(str::to_owned).collect();
                Outcome::Certificate(Expected {
                    seconds: first.parse().ok()?,
                    principals,
                    extensions,
                    critical_options,
                })
            }
        };
        next().is_none().then_some(Row {
            way: way.clone(),
            user,
            source,
            hour: hour.parse().ok()?,
            asks,
            rule,
            outcome,
        })
    }

    /// What is asked for, as options of `usshca explain`.
    pub fn explain_options(&self) -> Vec<String> {
        let Way { by, mode } = &self.way;
        let mut options = vec![format!("--auth={by}"), format!("--mode={mode}"), "--key-type=ed25519".to_owned()];
        let (asks, reason) = match self.asks.split_once("reason=") {
            None => (self.asks.as_str(), None),
            Some((before, rest)) => {
                // A reason goes on to the next word that is a wish.
                let end = rest.find(" principals=").unwrap_or(rest.len());
                (if end == rest.len() { before } else { &rest[end..] }, Some(&rest[..end]))
            }
        };
        options.push(format!("--reason='{}'", reason.unwrap_or_default()));
        for word in asks.split_whitespace() {
            match word.split_once('=').unwrap() {
                ("for", time) => options.push(format!("--for={time}")),
                ("principals", names) => options.extend(names.split(',').map(|name| format!("--principal='{name}'"))),
                other => panic!("{other:?}"),
            }
        }
        options
    }
}
