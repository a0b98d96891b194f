//! Who keeps key and certificate: the user's agent, or files.

use std::ffi::OsString;
use std::path::PathBuf;

use ussh_core::agent::{Identity, injected_comment};

use crate::files::Files;
use crate::user_agent::{AgentProblem, UserAgent};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The user's agent.
    Agent(UserAgent),
    /// Files of the user's.
    Files(Files),
}

impl From<UserAgent> for Keeper {
    fn from(agent: UserAgent) -> Self {
        Keeper::Agent(agent)
    }
}

impl Keeper {
    /// What it holds.
    /// # Errors
    /// [`AgentProblem`]. Files that cannot be read hold nothing.
    pub fn list(&self) -> Result<Vec<Identity>, AgentProblem> {
        match self {
            Keeper::Agent(agent) => agent.connect()?.list().map_err(|error| agent.broken(error)),
            Keeper::Files(files) => {
                let identity = |certificate: ussh_core::certificate::Certificate| {
                    let user = String::from_utf8_lossy(certificate.key_id());
                    let comment = injected_comment(&user, certificate.serial()).into_bytes();
                    Identity { blob: certificate.blob().to_vec(), comment }
                };
                Ok(files.certificate().map(identity).into_iter().collect())
            }
        }
    }
    /// Removes these certificates.
    /// # Errors
    /// [`AgentProblem`]
    pub fn remove(&self, blobs: &[&[u8]]) -> Result<(), AgentProblem> {
        match self {
            Keeper::Agent(agent) => {
                let mut connection = agent.connect()?;
                blobs.iter().try_for_each(|blob| connection.remove(blob)).map_err(|error| agent.broken(error))
            }
            Keeper::Files(files) => {
                let held = self.list()?;
                let is_named = |identity: &Identity| blobs.contains(&identity.blob.as_slice());
                // A key with no certificate beside it is no less the user's.
                if held.is_empty() || held.iter().any(is_named) {
                    files.remove().map_err(|error| AgentProblem::Files(error.to_string()))?;
                }
                Ok(())
            }
        }
    }
    /// By which it is told apart from others: the agent's socket, the key's file.
    pub fn place(&self) -> PathBuf {
        match self {
            Keeper::Agent(agent) => agent.path().to_path_buf(),
            Keeper::Files(files) => files.key(),
        }
    }
    /// What SSH_AUTH_SOCK is to be for ssh, if not what it is.
    pub fn agent(&self) -> Option<&UserAgent> {
        match self {
            Keeper::Agent(agent) => Some(agent),
            Keeper::Files(_) => None,
        }
    }
    /// Whether it is files that are not there (yet).
    pub fn is_empty(&self) -> bool {
        matches!(self, Keeper::Files(files) if files.certificate().is_none())
    }
    /// What `ssh` is told of it. With an IdentityFile given, ssh leaves out those that it tries by itself: `defaults`, which are put behind it.
    pub fn options(&self, defaults: impl FnOnce() -> Vec<String>) -> Vec<OsString> {
        match self {
            Keeper::Agent(_) => Vec::new(),
            Keeper::Files(files) if files.certificate().is_none() => Vec::new(),
            Keeper::Files(files) => {
                let own = files.key().display().to_string();
                let all = std::iter::once(own).chain(defaults());
                all.flat_map(|file| [OsString::from("-o"), OsString::from(format!("IdentityFile={file}"))]).collect()
            }
        }
    }
}
