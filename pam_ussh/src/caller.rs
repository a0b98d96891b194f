//! Who asks, and the agent that this person offers.
//!
//! The environment only hints where to ask: the connection is made with the caller's own rights and only to a process of the caller's own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ussh_core::agent::Agent;
use ussh_os::account::Account;
use ussh_os::agent_socket::{ConnectError, connect_as};
use ussh_os::pam_module::environ_variable;
use ussh_os::process;

use crate::answer::{Denial, Subject};
use crate::options::AuthOptions;

/// The person on this side: the real user of the process that called PAM.
#[derive(Debug)]
pub struct Caller {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    socket: PathBuf,
}

impl Caller {
    /// Finds out.
    /// # Errors
    /// [`Denial`]
    pub fn find(options: &AuthOptions, subject: &Subject) -> Result<Self, Denial> {
        let uid = process::real_uid();
        if uid == 0 {
            demand_root_in_person(subject)?;
        }
        let socket = match &options.agent_socket {
            Some(path) => path.clone(),
            None => environ_variable("SSH_AUTH_SOCK")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
                .ok_or(Denial::NoAgent)?,
        };
        let groups = process::groups().map_err(|error| Denial::Unavailable(format!("groups: {error}")))?;
        Ok(Caller { uid, gid: process::real_gid(), groups, socket })
    }

    /// Connects, within `timeout`. Gives the agent and what is left of the time.
    /// # Errors
    /// [`Denial`]
    pub fn connect(&self, timeout: Duration) -> Result<(Agent, Duration), Denial> {
        let start = Instant::now();
        let (stream, _) = connect_as(self.uid, self.gid, &self.groups, &self.socket, timeout)
            .map_err(|error| self.no_connection(&error))?;
        let left = timeout.saturating_sub(start.elapsed());
        Ok((Agent::new(stream, left), left))
    }

    fn no_connection(&self, error: &ConnectError) -> Denial {
        Denial::AgentUnreachable(format!("{}: {error}", shown(&self.socket)))
    }
}

/// Real uid 0 is root at work, or a daemon that acts for somebody far away, whose agent is not to be found here: a certificate in root's own agent must not speak for
/// that person. sudo, su and doas say who called them (PAM_RUSER), and nobody calls them from afar (PAM_RHOST).
fn demand_root_in_person(subject: &Subject) -> Result<(), Denial> {
    let no_person = || {
        Denial::Misconfigured(format!(
            "{} runs as root for somebody else: an agent cannot be asked here",
            subject.service
        ))
    };
    if subject.rhost.as_deref().is_some_and(|rhost| !rhost.is_empty()) {
        return Err(no_person());
    }
    let name = subject.ruser.as_deref().filter(|name| !name.is_empty()).ok_or_else(no_person)?;
    match Account::by_name(name) {
        Ok(Some(account)) if account.uid == 0 => Ok(()),
        Ok(_) => Err(no_person()),
        Err(error) => Err(Denial::Unavailable(format!("account {name}: {error}"))),
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
