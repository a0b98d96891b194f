//! What `ssh -G` makes of the host.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use ussh_core::escape::escape;

use super::MAX_SHOWN;
use crate::exec::find_ssh;

/// A host as ssh sees it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// As it was given.
    pub(super) given: std::ffi::OsString,
    /// The name that ssh connects to.
    pub(super) name: String,
    pub(super) port: String,
    /// Who logs in there.
    pub(super) user: String,
    /// Whether a `[[host]]` table names it, or there is none.
    pub(super) is_ours: bool,
    options: Vec<(String, String)>,
}

impl Host {
    /// What ssh says of it, if it is nothing good.
    pub(super) fn resolve(given: &OsStr) -> Result<Self, String> {
        if given.is_empty() {
            return Err("it is empty".to_owned());
        }
        let ssh = find_ssh().map_err(|error| error.to_string())?;
        let output = Command::new(ssh).args(["-G", "--"]).arg(given).stdin(Stdio::null()).output();
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            // All that ssh says of some names is how it is to be called.
            let last =
                said.lines().last().filter(|_| !said.starts_with("usage: ")).unwrap_or("it is no name of a host");
            return Err(escape(last.as_bytes(), MAX_SHOWN));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let options: Vec<(String, String)> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(keyword, value)| (keyword.to_owned(), escape(value.as_bytes(), MAX_SHOWN)))
            .collect();
        let mut host = Host {
            given: given.to_owned(),
            name: String::new(),
            port: String::new(),
            user: String::new(),
            is_ours: true,
            options,
        };
        let value = |keyword| host.value(keyword).unwrap_or_default().to_owned();
        (host.name, host.port, host.user) = (value("hostname"), value("port"), value("user"));
        Ok(host)
    }
    /// The first value of a keyword (in small letters); escaped, and cut at some length.
    pub(super) fn value(&self, keyword: &str) -> Option<&str> {
        self.options.iter().find(|(name, _)| name == keyword).map(|(_, value)| value.as_str())
    }
    /// Whether ssh goes there by way of something else.
    pub(super) fn is_indirect(&self) -> bool {
        ["proxyjump", "proxycommand"].iter().any(|keyword| self.value(keyword).is_some_and(|value| value != "none"))
    }
}
