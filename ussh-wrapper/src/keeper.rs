//! Who keeps key and certificate: the user's agent, or files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ussh_core::agent::{Identity, injected_comment};
use ussh_core::certificate::Certificate;
use ussh_core::keys::PublicKey;

use crate::config::{Config, KeepIn};
use crate::files::{Files, FilesError};
use crate::user_agent::{AgentProblem, UserAgent};
use crate::user_file;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The user's agent.
    Agent(UserAgent),
    /// Files of the user's.
    Files(Files),
    /// The key is the user's own, in the agent; its certificate in a file.
    OwnKey(OwnKey),
}

/// A key of the user's own, which the CA certifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKey {
    /// The agent that holds it.
    pub agent: UserAgent,
    /// Where the certificate lies.
    pub files: Files,
    /// The public half.
    pub key: PublicKey,
}

impl OwnKey {
    /// The certificate, if it is this key's.
    pub fn certificate(&self) -> Option<Certificate> {
        self.files.certificate().filter(|certificate| *certificate.public_key() == self.key)
    }
    /// Whether the agent lists the key.
    /// # Errors
    /// [`AgentProblem`]
    pub fn is_there(&self) -> Result<bool, AgentProblem> {
        let listed = self.agent.connect()?.list().map_err(|error| self.agent.broken(error))?;
        Ok(listed.iter().any(|identity| identity.blob == self.key.blob()))
    }
}

fn public_key(path: &Path, uid: u32) -> Result<PublicKey, AgentProblem> {
    let wrong = |why: String| AgentProblem::ClientKey(why);
    let file = user_file::read(path, uid).and_then(|file| user_file::text(path, file));
    let text = file.map_err(|error| wrong(error.to_string()))?;
    PublicKey::from_openssh(text.trim()).map_err(|error| wrong(format!("{}: {error}", path.display())))
}

fn identity_of(certificate: &Certificate) -> Identity {
    let user = String::from_utf8_lossy(certificate.key_id());
    let comment = injected_comment(&user, certificate.serial()).into_bytes();
    Identity { blob: certificate.blob().to_vec(), comment }
}

impl From<UserAgent> for Keeper {
    fn from(agent: UserAgent) -> Self {
        Keeper::Agent(agent)
    }
}

impl Keeper {
    /// The one that the configuration means; `agent` gives the user's.
    /// # Errors
    /// [`AgentProblem`]
    pub fn of(
        config: &Config,
        uid: u32,
        agent: impl FnOnce() -> Result<UserAgent, AgentProblem>,
    ) -> Result<Self, AgentProblem> {
        let no_files = |error: FilesError| AgentProblem::Files(error.to_string());
        match (&config.client_key, config.keep_in) {
            (Some(path), _) => {
                let key = public_key(path, uid)?;
                Ok(Keeper::OwnKey(OwnKey { agent: agent()?, files: Files::of_own_key(uid).map_err(no_files)?, key }))
            }
            (None, KeepIn::Files) => Ok(Keeper::Files(Files::of_user(uid).map_err(no_files)?)),
            (None, KeepIn::Agent) => Ok(agent()?.into()),
        }
    }
    /// What it holds.
    /// # Errors
    /// [`AgentProblem`]. Files that cannot be read hold nothing.
    pub fn list(&self) -> Result<Vec<Identity>, AgentProblem> {
        match self {
            Keeper::Agent(agent) => agent.connect()?.list().map_err(|error| agent.broken(error)),
            Keeper::Files(files) => Ok(files.certificate().iter().map(identity_of).collect()),
            // Without its key it is good for nothing.
            Keeper::OwnKey(own) if !own.is_there()? => Ok(Vec::new()),
            Keeper::OwnKey(own) => Ok(own.certificate().iter().map(identity_of).collect()),
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
            Keeper::OwnKey(own) => own.files.remove().map_err(|error| AgentProblem::Files(error.to_string())).map(drop),
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
            Keeper::OwnKey(own) => own.agent.path().to_path_buf(),
        }
    }
    /// What SSH_AUTH_SOCK is to be for ssh, if not what it is.
    pub fn agent(&self) -> Option<&UserAgent> {
        match self {
            Keeper::Agent(agent) | Keeper::OwnKey(OwnKey { agent, .. }) => Some(agent),
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
            // A certificate without a key in a file is no reason for ssh to leave out its default keys; it finds the key in the agent (sshconnect2.c `sign_and_send_pubkey`).
            Keeper::OwnKey(own) if own.certificate().is_none() => Vec::new(),
            Keeper::OwnKey(own) => {
                vec!["-o".into(), OsString::from(format!("CertificateFile={}", own.files.certificate_file().display()))]
            }
            Keeper::Files(files) if files.certificate().is_none() => Vec::new(),
            Keeper::Files(files) => {
                let own = files.key().display().to_string();
                let all = std::iter::once(own).chain(defaults());
                all.flat_map(|file| [OsString::from("-o"), OsString::from(format!("IdentityFile={file}"))]).collect()
            }
        }
    }
}
