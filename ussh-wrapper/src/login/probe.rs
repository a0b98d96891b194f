//! Whether a CA answers and proves itself, for `ussh --why`: ssh goes there as for a login, and offers nothing.

use std::path::Path;
use std::process::{Command, Stdio};

use ussh_core::escape::escape;

use super::heard::Cause;
use super::{LoginError, known_hosts};
use crate::certificates::Judge;
use crate::config::{CaAddress, Config};
use crate::exec::find_ssh;
use crate::login::{Prompting, login_arguments};

/// Asks it for nothing.
/// # Errors
/// [`LoginError`]: as a login there would end.
pub fn probe(config: &Config, ca: &CaAddress, judge: &Judge, uid: u32) -> Result<(), LoginError> {
    let known_hosts = known_hosts::check(&config.known_hosts, uid)?;
    // ssh wants it to be there, though it is not used.
    let nowhere = Path::new("/dev/null");
    let login = login_arguments(config, ca, judge.user(), &known_hosts, nowhere, Prompting::Impossible);
    // Of two values of a keyword ssh takes the first. A CA that asks nothing would let us in: there it is only asked who we are.
    let first = ["ForwardAgent=no", "IdentityAgent=none", "PreferredAuthentications=none"];
    let arguments = first.iter().flat_map(|option| ["-o", option]).map(str::to_owned).chain(login);
    let mut command = Command::new(find_ssh()?);
    command.args(arguments).arg("whoami").env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    match Cause::find(&said) {
        Some(Cause::NoAnswer(reason)) => Err(LoginError::NoAnswer { ca: ca.clone(), reason }),
        Some(Cause::NotProven(trouble)) => {
            Err(LoginError::NotProven { ca: ca.clone(), trouble, known_hosts: config.known_hosts.clone() })
        }
        // It has proved itself, and wants more than nothing.
        None if said.contains("Permission denied (") => Ok(()),
        None => {
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("ssh does not say why");
            Err(LoginError::NoAnswer { ca: ca.clone(), reason: escape(last.trim().as_bytes(), 200) })
        }
    }
}
