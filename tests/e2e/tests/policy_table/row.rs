//! The table's rows, read.

/// One row: a question, and what comes of it.
#[derive(Clone, Debug)]
pub struct Row {
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

#[derive(Clone, Debug)]
pub enum Outcome {
    /// Part of what the user reads.
    Refused(String),
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
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| Self::read(line).unwrap_or_else(|| panic!("no row: {line}"))).collect()
    }

    fn read(line: &str) -> Option<Self> {
        let mut cells = line.split('|').map(|cell| match cell.trim() {
            "-" => "",
            text => text,
        });
        let mut next = || cells.next().map(str::to_owned);
        let (user, source, hour, asks, rule, first) = (next()?, next()?, next()?, next()?, next()?, next()?);
        let outcome = match first.strip_prefix("refused: ") {
            Some(said) => Outcome::Refused(said.to_owned()),
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
        next().is_none().then_some(Row { user, source, hour: hour.parse().ok()?, asks, rule, outcome })
    }

    /// What is asked for, as options of `usshca explain`.
    pub fn explain_options(&self) -> Vec<String> {
        let mut options = Vec::new();
        let (asks, reason) = match self.asks.split_once("reason=") {
            None => (self.asks.as_str(), None),
            Some((before, rest)) => {
                // A reason goes on to the next word that is a wish.
                let end = rest.find(" principals=").unwrap_or(rest.len());
                (if end == rest.len() { before } else { &rest[end..] }, Some(&rest[..end]))
            }
        };
        options.extend(reason.map(|reason| format!("--reason='{reason}'")));
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
