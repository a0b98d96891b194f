//! Lists of principals: from the PAM line, and from files in sshd's AuthorizedPrincipalsFile format.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::escape::{MAX_FIELD, escape_word};

/// Principals of which a certificate must hold at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrincipalList {
    entries: Vec<Entry>,
    file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Vec<u8>,
    /// Options stood before the name (from=, command=): nobody here would enforce them.
    has_options: bool,
}

impl PrincipalList {
    /// `a,b,c` of a PAM line. `None` if any name is empty.
    pub fn from_comma_list(list: &str) -> Option<Self> {
        let names: Vec<_> = list.split(',').map(|n| n.as_bytes().to_vec()).collect();
        if names.iter().any(Vec::is_empty) { None } else { Some(Self::from_names(names)) }
    }

    /// sshd's file format (auth2-pubkeyfile.c `auth_check_principals_line`): one per line, comments.
    /// A line with options is one that we cannot honour (no force-command, no from=): it permits nobody, and a plain line of the same name below it does not either,
    /// because for sshd the first line that matches decides.
    pub fn parse_file(text: &[u8]) -> Self {
        let entries = text.split(|b| *b == b'\n').filter_map(parse_line).collect();
        PrincipalList { entries, file: None }
    }

    /// From names at hand.
    pub fn from_names(names: Vec<Vec<u8>>) -> Self {
        let plain = |name| Entry { name, has_options: false };
        PrincipalList { entries: names.into_iter().map(plain).collect(), file: None }
    }

    /// The same, of this file.
    #[must_use]
    pub fn of_file(self, path: &Path) -> Self {
        PrincipalList { file: Some(path.to_owned()), ..self }
    }

    /// What it demands, for the log: its file, or else its names, escaped and at most [`MAX_FIELD`] bytes of either.
    pub(crate) fn demand(&self) -> String {
        let Some(path) = &self.file else {
            let names: Vec<&[u8]> = self.entries.iter().map(|entry| entry.name.as_slice()).collect();
            return format!("one of {}", escape_word(&names.join(&b','), MAX_FIELD));
        };
        let permits = if self.is_empty() { ", which permits nobody" } else { "" };
        format!("one of those in {}{permits}", escape_word(path.as_os_str().as_bytes(), MAX_FIELD))
    }

    /// Whether a certificate with these principals is let through: the first line that names one of them decides. Exact bytes, case matters, no patterns.
    pub fn permits(&self, principals: &[Vec<u8>]) -> bool {
        let mut lines = self.entries.iter();
        let decides = lines.find(|e| !e.name.is_empty() && principals.contains(&e.name));
        decides.is_some_and(|e| !e.has_options)
    }

    /// Exact bytes, case matters, no patterns.
    pub fn contains(&self, principal: &[u8]) -> bool {
        let decides = self.entries.iter().find(|e| !e.name.is_empty() && e.name == principal);
        decides.is_some_and(|e| !e.has_options)
    }

    /// Holds no name that could let anybody through.
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|e| e.has_options || e.name.is_empty())
    }
}

/// `None` for a blank line or a comment.
fn parse_line(line: &[u8]) -> Option<Entry> {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let line = line.split(|b| *b == b'#').next().unwrap_or_default();
    let start = line.iter().position(|b| !blank(b))?;
    let end = line.iter().rposition(|b| !blank(b))?;
    let line = line.get(start..=end)?;
    let (has_options, name) = match line.iter().rposition(blank) {
        Some(last) => (true, line.get(last + 1..)?),
        None => (false, line),
    };
    Some(Entry { name: name.to_vec(), has_options })
}

#[cfg(test)]
mod tests;
