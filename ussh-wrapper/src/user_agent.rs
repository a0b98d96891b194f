//! The agent that `SSH_AUTH_SOCK` names, taken only if it is the user's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ussh_core::agent::{Agent, AgentError};
use ussh_os::agent_socket::{ConnectError, connect_as};
use ussh_os::process;

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
    /// It answers, but not as an agent does.
    #[error("the agent at SSH_AUTH_SOCK={path} does not work: {source}")]
    Broken {
        /// Value of the variable.
        path: PathBuf,
        /// What it did.
        source: AgentError,
    },
}

impl UserAgent {
    /// The one that `SSH_AUTH_SOCK` names; nothing is opened yet.
    /// # Errors
    /// [`AgentProblem::NotSet`]
    pub fn from_environment() -> Result<Self, AgentProblem> {
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
