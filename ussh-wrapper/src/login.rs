//! Getting a certificate: the system's `ssh` to the CA, with the guarded agent forwarded in place of the user's own.

mod command;
mod known_hosts;
mod signals;

pub use command::{Prompting, login_arguments};
pub use known_hosts::KnownHostsError;

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use ussh_core::agent::Identity;
use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock};
use ussh_os::process::{self, ProcessHandle};

use crate::certificates::{Judge, NotGood, readable_certificate};
use crate::config::{CA_VARIABLE, CaAddress, CaUser, Config, SYSTEM_FILE};
use crate::exec::{ExecError, find_ssh};
use crate::guard::{CaSide, Guard, GuardError, HomeError, NotAdded, PrivateDirectory};
use crate::user_agent::{AgentProblem, UserAgent};
use signals::Signals;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Nobody to ask.
    #[error("no CA is configured ({CA_VARIABLE}, or `ca` in {SYSTEM_FILE})")]
    NoCa,
    /// The CA could not prove itself.
    #[error("{0}")]
    KnownHosts(#[from] KnownHostsError),
    /// None of several CAs takes a connection.
    #[error("none of the CAs answers: {0}")]
    Unreachable(String),
    /// No ssh.
    #[error("{0}")]
    Ssh(#[from] ExecError),
    /// The guarded agent could not be set up or broke.
    #[error("{0}")]
    Guard(#[from] GuardError),
    /// The user's agent is gone.
    #[error("{0}")]
    Agent(#[from] AgentProblem),
    /// `ssh` to the CA failed and no certificate came.
    #[error("the login at the CA {ca} as {user} failed ({status})")]
    Failed {
        /// The CA.
        ca: CaAddress,
        /// The name used there.
        user: String,
        /// How ssh ended.
        status: String,
        /// Whether somebody could be asked.
        prompting: Prompting,
    },
    /// The CA let the user in, but gave no certificate; it says why itself.
    #[error("the CA {ca} let {user} in, but gave no certificate")]
    NotGiven {
        /// The CA.
        ca: CaAddress,
        /// The name used there.
        user: String,
    },
    /// The CA was content, but no good certificate is in the agent.
    #[error("the CA {ca} was content, but no good certificate has come{reason}")]
    NothingCame {
        /// The CA.
        ca: CaAddress,
        /// Empty, or why one that came was not taken.
        reason: String,
        /// Whether that one was for another account.
        somebody_elses: bool,
    },
    /// Somebody else asked for us, and got none.
    #[error("another ussh has asked in the meantime: {0}")]
    Shared(String),
    /// Somebody else asks, and gets no answer.
    #[error("another ussh has been asking for a certificate for {} minutes, and nobody answers it", .0.as_secs() / 60)]
    WaitedInVain(Duration),
    /// The file by which one waits for another.
    #[error("{0}")]
    Line(HomeError),
    /// The user, or somebody else, wants us to end.
    #[error("interrupted")]
    Interrupted(i32),
}

impl LoginError {
    /// Whether another who asked the same at the same moment would get the same answer.
    pub fn concerns_all(&self) -> bool {
        match self {
            LoginError::Unreachable(_)
            | LoginError::Failed { .. }
            | LoginError::NotGiven { .. }
            | LoginError::NothingCame { .. } => true,
            LoginError::NoCa
            | LoginError::KnownHosts(_)
            | LoginError::Ssh(_)
            | LoginError::Guard(_)
            | LoginError::Agent(_)
            | LoginError::Shared(_)
            | LoginError::WaitedInVain(_)
            | LoginError::Line(_)
            | LoginError::Interrupted(_) => false,
        }
    }
}

impl From<io::Error> for LoginError {
    fn from(error: io::Error) -> Self {
        LoginError::Guard(error.into())
    }
}

/// Logs in at the first CA that answers; gives the certificate that has come.
/// # Errors
/// [`LoginError`]
pub fn log_in(config: &Config, agent: &UserAgent, judge: &Judge) -> Result<Certificate, LoginError> {
    let uid = process::real_uid();
    if config.cas.is_empty() {
        return Err(LoginError::NoCa);
    }
    let known_hosts = known_hosts::check(&config.known_hosts, uid)?;
    let ssh = find_ssh()?;
    let user = judge.user();
    let ca = first_that_answers(&config.cas, Duration::from_secs(config.connect_timeout_seconds.into()))?;
    eprintln!("ussh: logging in at {ca} as {}", user.as_str());

    let side = CaSide::new(agent.clone(), judge.clone(), Box::new(SystemClock));
    let guard = Guard::open(side, PrivateDirectory::new(uid)?, uid)?;
    let prompting = Prompting::of_this_process();
    let arguments = login_arguments(config, ca, user, &known_hosts, &guard.socket(), prompting);
    let (status, side) = run(&ssh, &arguments, guard)?;
    if std::env::var_os("USSH_DEBUG").is_some() {
        let (requests, refused) = side.counts();
        eprintln!("ussh: debug: the CA asked the guarded agent {requests} times, {refused} refused");
    }
    match good_among(side.added(), agent, judge)? {
        Some(certificate) => {
            if let Some(reason) = side.last_not_added() {
                eprintln!("ussh: the CA {ca} also offered a key that was not taken: {reason}");
            }
            Ok(certificate)
        }
        None => Err(explain(ca, user, prompting, status, &side)),
    }
}

/// One CA is left to ssh, which says best what is wrong with it. Of several the first is taken that accepts a connection.
fn first_that_answers(cas: &[CaAddress], patience: Duration) -> Result<&CaAddress, LoginError> {
    if let [only] = cas {
        return Ok(only);
    }
    let mut failures = Vec::new();
    for ca in cas {
        match answers(ca, patience) {
            Ok(()) => return Ok(ca),
            Err(error) => failures.push(format!("{ca}: {error}")),
        }
    }
    Err(LoginError::Unreachable(failures.join(", ")))
}

fn answers(ca: &CaAddress, patience: Duration) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (ca.host(), ca.port()).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Runs ssh and serves the guarded agent to it until it ends.
fn run(ssh: &Path, arguments: &[String], mut guard: Guard) -> Result<(io::Result<ExitStatus>, CaSide), LoginError> {
    // Private keys pass through this process. ssh is dumpable again by its exec.
    nix::sys::prctl::set_dumpable(false).map_err(io::Error::from)?;
    let mut child = spawn(ssh, arguments)?;
    let attended = attend(&child, &mut guard);
    if attended.is_err() {
        // Without its agent it would only ask for a password in vain.
        let _ = child.kill();
    }
    let status = child.wait();
    // The socket and its folder go before a signal can end us.
    let side = guard.into_side();
    match attended?.end()? {
        Some(signal) => Err(LoginError::Interrupted(signal)),
        None => Ok((status, side)),
    }
}

/// Until ssh has ended; the signals are still blocked then.
fn attend(child: &Child, guard: &mut Guard) -> Result<Signals, LoginError> {
    // Only now: a child inherits blocked signals, and ssh must get its Ctrl-C.
    let signals = Signals::block()?;
    let opened = process::start_time(child.id()).and_then(|start| ProcessHandle::open(child.id(), start));
    match opened {
        Ok(handle) => {
            guard.serve(handle.as_fd(), signals.as_fd(), &mut || signals.pass_on(&handle))?;
        }
        // It has ended already, and was reaped because our parent had us ignore SIGCHLD.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(signals)
}

fn spawn(ssh: &Path, arguments: &[String]) -> Result<Child, LoginError> {
    // The CA's words must not get into the output of the command that the user is running.
    let output = Stdio::from(io::stderr().as_fd().try_clone_to_owned()?);
    let mut command = Command::new(ssh);
    command.args(arguments).env_remove("SSH_AUTH_SOCK").stdin(Stdio::null()).stdout(output);
    // Left alone it would go on asking at the terminal, with nobody to take a certificate, while the next in line asks too. By this signal it gives the terminal back as it was.
    process::end_with_parent(&mut command, Signal::SIGTERM as i32);
    command.spawn().map_err(|source| ExecError::Failed { path: ssh.to_path_buf(), source }.into())
}

/// Looks again: only what this login brought counts, and only if it is really in the agent now.
/// However short its life is: asking the same CA again would bring no better one.
fn good_among(added: &[Identity], agent: &UserAgent, judge: &Judge) -> Result<Option<Certificate>, LoginError> {
    let listed = agent.connect()?.list().map_err(|error| agent.broken(error))?;
    let now = SystemClock.now();
    let came = |certificate: &Certificate| added.iter().any(|identity| identity.blob == certificate.blob());
    Ok(listed
        .iter()
        .filter_map(readable_certificate)
        .find(|certificate| came(certificate) && judge.verify(certificate, now).is_ok()))
}

fn explain(
    ca: &CaAddress,
    user: &CaUser,
    prompting: Prompting,
    status: io::Result<ExitStatus>,
    side: &CaSide,
) -> LoginError {
    let ca = ca.clone();
    match (status, side.last_not_added()) {
        (_, Some(reason)) => {
            let somebody_elses = matches!(reason, NotAdded::NotGood(NotGood::SomebodyElses { .. }));
            let reason = format!("; the one it offered was not taken: {reason}");
            LoginError::NothingCame { ca, reason, somebody_elses }
        }
        // 255 is ssh's own, anything else comes from the session at the CA.
        (Ok(status), None) if status.code().is_some_and(|code| !matches!(code, 0 | 255)) => {
            LoginError::NotGiven { ca, user: user.as_str().to_owned() }
        }
        (Ok(status), None) if !status.success() => {
            LoginError::Failed { ca, user: user.as_str().to_owned(), status: status.to_string(), prompting }
        }
        (_, None) => LoginError::NothingCame { ca, reason: String::new(), somebody_elses: false },
    }
}

#[cfg(test)]
mod tests;
