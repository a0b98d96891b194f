//! The agent that `SSH_AUTH_SOCK` names, taken only if it is the user's own.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ussh_core::agent::{Agent, AgentError};
use ussh_os::agent_socket::{ConnectError, connect_as};
use ussh_os::process;

use crate::exec::find_program;
use crate::guard::{Home, is_private};

/// How long the agent may take for one round of questions.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Where the user's agent listens. Each [`UserAgent::connect`] looks anew who does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAgent {
    path: PathBuf,
}

/// Why there is no agent to work with.
#[derive(Debug, thiserror::Error)]
pub enum AgentProblem {
    /// The variable is missing or empty.
    #[error("no ssh-agent: SSH_AUTH_SOCK is not set")]
    NotSet,
    /// Nobody answers there.
    #[error("no ssh-agent answers at SSH_AUTH_SOCK={path}: {source}")]
    Unreachable {
        /// Value of the variable.
        path: PathBuf,
        /// Why not.
        source: ConnectError,
    },
    /// Somebody else's agent: keys would go to the wrong person.
    #[error("the agent at SSH_AUTH_SOCK={path} belongs to uid {owner}, not to you")]
    WrongUser {
        /// Value of the variable.
        path: PathBuf,
        /// Who listens there.
        owner: u32,
    },
    /// None ran, and none could be started.
    #[error("no ssh-agent runs, and none could be started: {0}")]
    NotStarted(String),
    /// One that takes no certificates, or keeps keys for ever: nobody is asked for a password in vain.
    #[error("the agent at SSH_AUTH_SOCK={path} is {program}, which takes no certificates")]
    TakesNone {
        /// Value of the variable.
        path: PathBuf,
        /// Its program.
        program: String,
    },
    /// No agent, but files.
    #[error("{0}")]
    Files(String),
    /// The file that `client_key` names is no public key.
    #[error("`client_key`: {0}")]
    ClientKey(String),
    /// The user's own key is not in it.
    #[error("the key of `client_key` ({fingerprint}) is not in the agent at SSH_AUTH_SOCK={path}")]
    KeyMissing {
        /// Value of the variable.
        path: PathBuf,
        /// Of the key.
        fingerprint: String,
    },
    /// It answers, but not as an agent does.
    #[error("the agent at SSH_AUTH_SOCK={path} does not work: {source}")]
    Broken {
        /// Value of the variable.
        path: PathBuf,
        /// What it did.
        source: AgentError,
    },
}

impl AgentProblem {
    /// Whether nobody listens at all, so that one may be started.
    pub fn is_no_agent(&self) -> bool {
        match self {
            AgentProblem::NotSet => true,
            AgentProblem::Unreachable { source: ConnectError::Io(error), .. } => {
                matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
            }
            AgentProblem::Unreachable { .. }
            | AgentProblem::WrongUser { .. }
            | AgentProblem::NotStarted(_)
            | AgentProblem::TakesNone { .. }
            | AgentProblem::Files(_)
            | AgentProblem::ClientKey(_)
            | AgentProblem::KeyMissing { .. }
            | AgentProblem::Broken { .. } => false,
        }
    }
}

/// Name of the socket of the agent that we start, in the user's folder for this login.
const OWN: &str = "ssh-agent";
/// Names of the sockets that systemd keeps for a user's ssh-agent, in the runtime folder: Debian's, and others'.
const SYSTEMD: [&str; 2] = ["openssh_agent", "ssh-agent.socket"];

/// GnuPG's agent.
const GPG_AGENT: &str = "gpg-agent";
/// The name of its socket for ssh, wherever that lies (agent/gpg-agent.c).
const GPG_SOCKET: &str = "S.gpg-agent.ssh";

/// Where an agent may listen that the environment does not name.
fn others() -> impl Iterator<Item = UserAgent> {
    let uid = process::real_uid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| is_private(path, uid));
    let systemd = runtime.into_iter().flat_map(|folder| SYSTEMD.map(|name| folder.join(name)));
    let own = Home::open(uid).ok().map(|home| home.folder().join(OWN));
    systemd.chain(own).filter(|path| path.exists()).map(UserAgent::at)
}

impl UserAgent {
    /// The one that `SSH_AUTH_SOCK` names. Where nobody listens there: the one that systemd keeps for the user, or that `ussh` has started for this login.
    /// # Errors
    /// [`AgentProblem::NotSet`]
    pub fn from_environment() -> Result<Self, AgentProblem> {
        let named = Self::named_by_environment();
        if named.as_ref().is_ok_and(|agent| !agent.connect().is_err_and(|problem| problem.is_no_agent())) {
            return named;
        }
        others().find(|agent| agent.connect().is_ok()).map_or(named, Ok)
    }
    /// The system's ssh-agent, started now, once for this login: later ones find it by [`UserAgent::from_environment`].
    /// # Errors
    /// [`AgentProblem::NotStarted`]
    pub fn start() -> Result<Self, AgentProblem> {
        let failed = |error: &dyn std::fmt::Display| AgentProblem::NotStarted(error.to_string());
        let home = Home::open(process::real_uid()).map_err(|error| failed(&error))?;
        let _one_at_a_time = home.lock().map_err(|error| failed(&error))?;
        if let Some(agent) = others().find(|agent| agent.connect().is_ok()) {
            return Ok(agent);
        }
        let agent = UserAgent::at(home.folder().join(OWN));
        // Of one that was killed.
        let _ = std::fs::remove_file(&agent.path);
        let program = find_program("ssh-agent").map_err(|error| failed(&error))?;
        let mut command = Command::new(program);
        command.arg("-a").arg(&agent.path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It listens before it leaves its parent (ssh-agent.c).
        let status = command.status().map_err(|error| failed(&error))?;
        if !status.success() {
            return Err(failed(&status));
        }
        drop(agent.connect()?);
        let path = agent.path.display();
        eprintln!("ussh: no ssh-agent ran: started one. Plain ssh finds it by: export SSH_AUTH_SOCK={path}");
        Ok(agent)
    }
    /// Whether it is one that takes no certificates. GnuPG's would make a key of its own of what it is given, ask for a passphrase, and keep it on disk without the certificate (agent/command-ssh.c, `ssh_handler_add_identity`).
    /// # Errors
    /// [`AgentProblem::TakesNone`]
    pub fn takes_certificates(&self) -> Result<(), AgentProblem> {
        match self.program() {
            Some(program) if program == GPG_AGENT => Err(AgentProblem::TakesNone { path: self.path.clone(), program }),
            _ => Ok(()),
        }
    }
    /// Who listens there: the program's name, as the kernel has it. GnuPG's has become another process since it began to listen, or is still to be started: it is known by its socket's name.
    pub fn program(&self) -> Option<String> {
        if self.path.file_name().is_some_and(|name| name == GPG_SOCKET) {
            return Some(GPG_AGENT.to_owned());
        }
        let groups = process::groups().ok()?;
        let (_, peer) = connect_as(process::real_uid(), process::real_gid(), &groups, &self.path, PATIENCE).ok()?;
        let name = std::fs::read_to_string(format!("/proc/{}/comm", peer.pid)).ok()?;
        Some(ussh_core::escape::escape(name.trim_end().as_bytes(), 32))
    }
    /// The one that `SSH_AUTH_SOCK` names, and no other; nothing is opened yet.
    /// # Errors
    /// [`AgentProblem::NotSet`]
    pub fn named_by_environment() -> Result<Self, AgentProblem> {
        match std::env::var_os("SSH_AUTH_SOCK") {
            Some(path) if !path.is_empty() => Ok(UserAgent::at(PathBuf::from(path))),
            _ => Err(AgentProblem::NotSet),
        }
    }
    /// The one at this socket.
    pub fn at(path: PathBuf) -> Self {
        UserAgent { path }
    }
    /// Its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Connects; the process that listens must run as the user.
    /// # Errors
    /// [`AgentProblem`]
    pub fn connect(&self) -> Result<Agent, AgentProblem> {
        let unreachable = |source| AgentProblem::Unreachable { path: self.path.clone(), source };
        let groups = process::groups().map_err(|source| unreachable(source.into()))?;
        match connect_as(process::real_uid(), process::real_gid(), &groups, &self.path, PATIENCE) {
            Ok((stream, _peer)) => Ok(Agent::new(stream, PATIENCE)),
            Err(ConnectError::WrongPeer(owner)) => Err(AgentProblem::WrongUser { path: self.path.clone(), owner }),
            Err(source) => Err(unreachable(source)),
        }
    }
    /// Names this agent in an error of a talk with it.
    pub fn broken(&self, source: AgentError) -> AgentProblem {
        AgentProblem::Broken { path: self.path.clone(), source }
    }
}
