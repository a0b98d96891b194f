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
        self.agent.check_unlocked(&listed)?;
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

/// Whether ssh has put it into an agent out of our files: a key alone, with the comment that it has there ([`injected_comment`]).
pub fn is_copy(identity: &Identity) -> bool {
    let words = std::str::from_utf8(&identity.comment).ok().and_then(|comment| comment.strip_prefix("ussh "));
    let serial = words.and_then(|words| words.rsplit_once(" serial ")).map(|(_, serial)| serial);
    serial.is_some_and(|serial| serial.parse::<u64>().is_ok()) && !Certificate::is_certificate_blob(&identity.blob)
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
    /// [`AgentProblem`]. Files that cannot be read hold nothing, unless it is others who could change them.
    pub fn list(&self) -> Result<Vec<Identity>, AgentProblem> {
        if let Keeper::Files(files) | Keeper::OwnKey(OwnKey { files, .. }) = self {
            files.check().map_err(|error| AgentProblem::Files(error.to_string()))?;
        }
        match self {
            Keeper::Agent(agent) => agent.connect()?.list().map_err(|error| agent.broken(error)),
            Keeper::Files(files) => Ok(files.certificate().iter().map(identity_of).collect()),
            // Without its key it is good for nothing.
            Keeper::OwnKey(own) if !own.is_there()? => Ok(Vec::new()),
            Keeper::OwnKey(own) => Ok(own.certificate().iter().map(identity_of).collect()),
        }
    }
    /// Whether there is a place for what a login brings: better now than after the password.
    /// # Errors
    /// [`AgentProblem::Files`]
    pub fn make_room(&self) -> Result<(), AgentProblem> {
        match self {
            Keeper::Agent(_) => Ok(()),
            Keeper::Files(files) | Keeper::OwnKey(OwnKey { files, .. }) => {
                files.make_room().map_err(|error| AgentProblem::Files(error.to_string()))
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
            Keeper::OwnKey(own) => {
                own.files.remove().failure.map_or(Ok(()), |error| Err(AgentProblem::Files(error.to_string())))
            }
            Keeper::Files(files) => {
                let mut removed = blobs.iter().map(|blob| files.remove_one(blob).map(drop));
                removed.try_for_each(|removed| removed.map_err(|error| AgentProblem::Files(error.to_string())))
            }
        }
    }
    /// By which it is told apart from others: the agent's socket, the key's file.
    pub fn place(&self) -> PathBuf {
        match self {
            Keeper::Agent(agent) => agent.path().to_path_buf(),
            Keeper::Files(files) => files.place(),
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
    /// What `ssh` is told of it. With an IdentityFile and a CertificateFile given, ssh leaves out others: `others`, options that are put behind these.
    pub fn options(&self, others: impl FnOnce() -> Vec<String>) -> Vec<OsString> {
        match self {
            Keeper::Agent(_) => Vec::new(),
            // A certificate without a key in a file is no reason for ssh to leave out its default keys; it finds the key in the agent (sshconnect2.c `sign_and_send_pubkey`).
            Keeper::OwnKey(own) if own.certificate().is_none() => Vec::new(),
            Keeper::OwnKey(own) => {
                vec![
                    "-o".into(),
                    OsString::from(format!("CertificateFile={}", own.files.own_certificate_file().display())),
                ]
            }
            Keeper::Files(files) => {
                let Some(own) = files.key() else { return Vec::new() };
                let own = own.display();
                let first = [
                    // Named by itself it is what ssh tries first, before all that an agent holds (sshconnect2.c `pubkey_prepare`).
                    format!("CertificateFile={own}-cert.pub"),
                    format!("IdentityFile={own}"),
                    // ssh would give it to whatever agent runs, without its certificate and for ever (sshconnect.c `maybe_add_key_to_agent`).
                    "AddKeysToAgent=no".to_owned(),
                ];
                first.into_iter().chain(others()).flat_map(|option| ["-o".into(), option.into()]).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ussh_core::keys::PrivateKey;

    use super::*;

    #[test]
    fn a_copy_of_ours_is_a_key_alone_with_our_comment() {
        let blob = PrivateKey::generate_ed25519().unwrap().public_key().to_blob();
        for (comment, wanted) in [
            (&b"ussh alice serial 7"[..], true),
            (b"ussh alice serial x serial 18446744073709551615", true),
            (b"ussh alice serial", false),
            (b"ussh alice serial x", false),
            (b"alice@laptop", false),
            (b"my ussh alice serial 7", false),
            (b"ussh \xff serial 7", false),
            (b"", false),
        ] {
            assert_eq!(is_copy(&Identity { blob: blob.clone(), comment: comment.to_vec() }), wanted, "{comment:?}");
        }
    }
}
