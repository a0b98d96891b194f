//! Whether a CA answers and proves itself, for `ussh --why`: ssh goes there as for a login, and offers nothing.

use std::path::Path;
use std::process::{Command, Stdio};

use ussh_core::escape::escape;

use super::heard::{Cause, no_usshca};
use super::{LoginError, known_hosts};
use crate::certificates::Judge;
use crate::config::{CaAddress, Config};
use crate::exec::find_ssh;
use crate::login::{Missing, Prompting, login_arguments};

/// Asks it for nothing.
/// # Errors
/// [`LoginError`]: as a login there would end.
pub fn probe(config: &Config, ca: &CaAddress, judge: &Judge, uid: u32) -> Result<(), LoginError> {
    let known_hosts = known_hosts::check(&config.known_hosts, uid)?;
    // ssh wants it to be there, though it is not used.
    let nowhere = Path::new("/dev/null");
    let login =
        login_arguments(config, ca, judge.user(), &known_hosts, nowhere, Prompting::Impossible(Missing::Program));
    // Of two values of a keyword ssh takes the first. A CA that asks nothing would let us in: there it is only asked who we are.
    let first = ["ForwardAgent=no", "IdentityAgent=none", "PreferredAuthentications=none", "LogLevel=DEBUG1"];
    let arguments = first.iter().flat_map(|option| ["-o", option]).map(str::to_owned).chain(login);
    let mut command = Command::new(find_ssh()?);
    command.args(arguments).arg("whoami").env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
    let output = command.output()?;
    let all = String::from_utf8_lossy(&output.stderr);
    let said =
        all.lines().filter(|line| !line.starts_with("debug1: ")).fold(String::new(), |all, line| all + line + "\n");
    let program = program(&all);
    if output.status.success() && program.is_none() {
        return Ok(());
    }
    match Cause::find(&said) {
        Some(Cause::NoAnswer(reason)) => Err(LoginError::NoAnswer { ca: ca.clone(), reason }),
        Some(Cause::NotProven(trouble)) => {
            Err(LoginError::NotProven { ca: ca.clone(), trouble, known_hosts: config.known_hosts.clone() })
        }
        None if program.is_some() && (output.status.success() || said.contains("Permission denied (")) => {
            Err(LoginError::NoUsshca { ca: ca.clone(), program: program.unwrap_or_default() })
        }
        // It has proved itself, and wants more than nothing.
        None if said.contains("Permission denied (") => Ok(()),
        None => {
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("ssh does not say why");
            Err(LoginError::NoAnswer { ca: ca.clone(), reason: escape(last.trim().as_bytes(), 200) })
        }
    }
}

/// What answers, where that is certain not to be a CA: ssh says how it has announced itself (kex.c `kex_exchange_identification`).
fn program(said: &str) -> Option<String> {
    let announced =
        said.lines().find_map(|line| line.split_once("remote software version ").map(|(_, program)| program))?;
    no_usshca(announced.trim_end_matches('\r'))
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn what_is_no_ca_is_known_by_how_it_announces_itself() {
        let says = |program: &str| {
            format!(
                "debug1: Connecting\r\ndebug1: Remote protocol version 2.0, remote software version {program}\r\nx\n"
            )
        };
        assert_eq!(program(&says("usshca")), None);
        assert_eq!(program(&says("OpenSSH_9.2p1 Debian-2")), Some("OpenSSH_9.2p1 Debian-2".to_owned()));
        assert_eq!(program("ssh: connect to host ca port 22: Connection refused\n"), None);
    }
}
