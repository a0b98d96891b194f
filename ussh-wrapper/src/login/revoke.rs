//! The panic button: `ssh CA revoke-mine`, by the same ssh as a login, with no agent forwarded.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use super::explained::ended;
use super::heard::{Cause, Ear, LIMITS};
use super::{LoginError, Prompting, known_hosts, login_arguments};
use crate::config::{CaAddress, CaUser, Config};
use crate::exec::{ExecError, find_ssh};

/// Has the first CA that answers revoke all certificates of this user; it says which on stderr.
/// # Errors
/// [`LoginError`]
pub fn revoke_all(config: &Config, user: &CaUser, uid: u32) -> Result<(), LoginError> {
    let known_hosts = known_hosts::check(&config.known_hosts, uid)?;
    let mut last = LoginError::NoCa;
    for ca in &config.cas {
        match revoke_at(config, ca, user, &known_hosts) {
            Err(error) if error.is_ca_failure() => {
                if config.cas.len() > 1 {
                    eprintln!("ussh: {error}");
                }
                last = error;
            }
            other => return other,
        }
    }
    Err(last)
}

fn revoke_at(config: &Config, ca: &CaAddress, user: &CaUser, known_hosts: &str) -> Result<(), LoginError> {
    let prompting = Prompting::of_this_process();
    eprintln!("ussh: revoking the certificates of {} at {ca}", user.as_str());
    // ssh wants it to be there, though it is not used. Of two values of a keyword the first counts.
    let login = login_arguments(config, ca, user, known_hosts, Path::new("/dev/null"), prompting);
    let program = find_ssh()?;
    let output = Stdio::from(io::stderr().as_fd().try_clone_to_owned()?);
    let mut command = Command::new(&program);
    command.args(["-o", "ForwardAgent=no", "-o", "IdentityAgent=none"]).args(login).arg("revoke-mine");
    command.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
    prompting.tell(&mut command);
    let mut child = command.spawn().map_err(|source| ExecError::Failed { path: program, source })?;
    let ear = Ear::listen(&mut child, ca, LIMITS);
    let status = child.wait();
    let heard = ear.map(Ear::heard).unwrap_or_default();
    let status = status?;
    if let Some(program) = heard.no_ca {
        return Err(LoginError::NoUsshca { ca: ca.clone(), program });
    }
    if status.success() {
        return Ok(());
    }
    if heard.was_given_up {
        return Err(LoginError::Silent { ca: ca.clone() });
    }
    if status.code() == Some(255) {
        match heard.cause() {
            Some(Cause::NoAnswer(reason)) => return Err(LoginError::NoAnswer { ca: ca.clone(), reason }),
            Some(Cause::NotProven(trouble)) => {
                return Err(LoginError::NotProven { ca: ca.clone(), trouble, known_hosts: config.known_hosts.clone() });
            }
            None => {}
        }
    }
    Err(ended(ca, user, prompting, status, &heard))
}
