//! What is found, and how it is shown: for people, and as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; what it tells may be meant.
    Note,
    /// A check could not be made.
    Unchecked,
    /// It works, and is a trap.
    Warning,
    /// It lets in who should not be, or keeps out who should.
    Error,
}

impl Severity {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Unchecked => "not checked",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In which file.
    pub file: String,
    /// In which line, from 1; none for the file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// How much it matters.
    pub severity: Severity,
    /// Its name, for scripts; `--help` lists them.
    pub rule: &'static str,
    /// What is so.
    pub what: String,
    /// Why that matters.
    pub why: String,
    /// What to write or do instead.
    pub instead: String,
    /// The way through the stack that shows it: what each module returns, and what comes of that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<String>,
}

impl Finding {
    /// For people, with a newline at the end. `others`: stacks, beside the one that it is shown with, in which the same was found.
    pub fn text(&self, others: &[&str]) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let (file, severity, what) = (shown(&self.file), self.severity.name(), shown(&self.what));
        let mut text = format!("{file}{line}: {severity}: {what} [{}]\n", self.rule);
        let mut add = |head: &str, body: &str| {
            if !body.is_empty() {
                let _ = writeln!(text, "    {head:<9} {}", shown(body));
            }
        };
        add("why:", &self.why);
        for (step, head) in self.run.iter().zip(std::iter::once("shown by:").chain(std::iter::repeat(""))) {
            add(head, step);
        }
        add("instead:", &self.instead);
        add("also in:", &others.join(", "));
        text
    }
}

/// How it ends, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// 0: nothing found but notes; the line is valid; the certificate is accepted.
    Good,
    /// 3: nothing found, and something could not be checked.
    Unchecked,
    /// 1: an error or a warning; the line is not valid; no certificate is accepted.
    Bad,
}

impl Verdict {
    /// Of findings.
    pub fn of(findings: &[Finding]) -> Self {
        Verdict::of_all(findings.iter().map(|finding| finding.severity))
    }

    /// Of what was found, by how much each matters.
    pub fn of_all(severities: impl Iterator<Item = Severity>) -> Self {
        match severities.max() {
            None | Some(Severity::Note) => Verdict::Good,
            Some(Severity::Unchecked) => Verdict::Unchecked,
            Some(Severity::Warning | Severity::Error) => Verdict::Bad,
        }
    }

    /// Exit status.
    pub fn status(self) -> u8 {
        match self {
            Verdict::Good => 0,
            Verdict::Bad => 1,
            Verdict::Unchecked => 3,
        }
    }
}

/// Printable on a terminal: stack files, certificates and agents may hold anything.
pub fn shown(text: &str) -> String {
    ussh_core::escape::escape(text.as_bytes(), 2048)
}
