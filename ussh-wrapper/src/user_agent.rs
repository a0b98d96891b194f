//! The agent that `SSH_AUTH_SOCK` names, taken only if it is the user's own.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ussh_core::agent::{Agent, AgentError, Constraints, Identity};
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::PrivateKey;
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
    /// It was tried with a key that is good for nothing.
    #[error("the agent at SSH_AUTH_SOCK={path} ({program}) takes no certificate: {source}")]
    TakesNoKey {
        /// Value of the variable.
        path: PathBuf,
        /// Its program.
        program: String,
        /// What it said.
        source: AgentError,
    },
    /// It lists nothing and takes nothing.
    #[error("the agent at SSH_AUTH_SOCK={path} is locked: what is in it can be neither seen nor removed")]
    Locked {
        /// Value of the variable.
        path: PathBuf,
    },
    /// The guarded agent itself, which is for hosts.
    #[error(
        "SSH_AUTH_SOCK={path} is the guarded agent of `ussh`, which is for hosts: it signs no login and takes no key"
    )]
    Guarded {
        /// Value of the variable.
        path: PathBuf,
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
            | AgentProblem::TakesNoKey { .. }
            | AgentProblem::Locked { .. }
            | AgentProblem::Guarded { .. }
            | AgentProblem::Files(_)
            | AgentProblem::ClientKey(_)
            | AgentProblem::KeyMissing { .. }
            | AgentProblem::Broken { .. } => false,
        }
    }
}

impl AgentProblem {
    /// Whether a certificate has no place there, and ssh itself may still have use for what is there. Somebody else's agent is none of these, and no agent a reason to start one.
    pub fn is_no_place(&self) -> bool {
        match self {
            AgentProblem::NotStarted(_)
            | AgentProblem::TakesNone { .. }
            | AgentProblem::TakesNoKey { .. }
            | AgentProblem::Locked { .. }
            | AgentProblem::Guarded { .. }
            | AgentProblem::Files(_)
            | AgentProblem::KeyMissing { .. }
            | AgentProblem::Broken { .. } => true,
            AgentProblem::NotSet
            | AgentProblem::Unreachable { .. }
            | AgentProblem::WrongUser { .. }
            | AgentProblem::ClientKey(_) => false,
        }
    }
}

/// Name of the socket of the agent that we start, in the user's folder for this login.
const OWN: &str = "ssh-agent";
/// Names of the sockets that systemd keeps for a user's ssh-agent, in the runtime folder: Debian's, and others'.
const SYSTEMD: [&str; 2] = ["openssh_agent", "ssh-agent.socket"];

/// How long a key that is only tried may stay, seconds.
const TRIAL_SECONDS: u32 = 5;

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

/// A key that nobody knows, with a certificate of a CA that nobody knows.
fn trial() -> Option<(PrivateKey, Certificate)> {
    let (key, ca) = (PrivateKey::generate_ed25519().ok()?, PrivateKey::generate_ed25519().ok()?);
    let now = SystemClock.now().0;
    let template = CertificateTemplate {
        public_key: key.public_key(),
        serial: 1,
        kind: CertificateKind::User,
        key_id: "trial".into(),
        principals: vec!["trial".into()],
        valid_after: UnixTime(now),
        valid_before: UnixTime(now.saturating_add(TRIAL_SECONDS.into())),
        critical_options: Vec::new(),
        extensions: Vec::new(),
    };
    let certificate = template.sign(&ca).ok()?;
    Some((key, certificate))
}

impl UserAgent {
    /// The one that `SSH_AUTH_SOCK` names. Where nobody listens there: the one that systemd keeps for the user, or that `ussh` has started for this login.
    /// # Errors
    /// [`AgentProblem::NotSet`], [`AgentProblem::Guarded`]
    pub fn from_environment() -> Result<Self, AgentProblem> {
        let named = Self::named_by_environment();
        if let Ok(agent) = &named
            && agent.is_guarded()
        {
            return Err(AgentProblem::Guarded { path: agent.path.clone() });
        }
        if named.as_ref().is_ok_and(|agent| !agent.connect().is_err_and(|problem| problem.is_no_agent())) {
            return named;
        }
        others().find(|agent| agent.connect().is_ok()).map_or(named, Ok)
    }
    /// Those that the user has beside this one, if they answer: the one that `ussh` has started for this login, or systemd's.
    pub fn others_than(this: Option<&Self>) -> Vec<Self> {
        let real = |agent: &UserAgent| agent.path.canonicalize().unwrap_or_else(|_| agent.path.clone());
        let known = this.map(real);
        let mut all: Vec<_> = others().filter(|agent| Some(real(agent)) != known && agent.connect().is_ok()).collect();
        all.dedup_by_key(|agent| real(agent));
        all
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
    /// Whether it is our own process in front of one. By its place, and not by what it says: it is to cost nothing.
    fn is_guarded(&self) -> bool {
        let is_named = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"agent."));
        if !is_named(&self.path) {
            return false;
        }
        // The name that the written ssh_config has is a link.
        let Ok(real) = self.path.canonicalize() else { return false };
        let is_home = |folder: &Path| {
            Home::open(process::real_uid())
                .is_ok_and(|home| home.folder().canonicalize().is_ok_and(|own| own == folder))
        };
        is_named(&real) && real.parent().is_some_and(is_home)
    }
    /// The same of one that is forwarded from elsewhere, by what it lists.
    pub fn is_guarded_by(&self, listed: &[Identity]) -> bool {
        let is_certificate = |identity: &&Identity| Certificate::is_certificate_blob(&identity.blob);
        let mut certificates = listed.iter().filter(is_certificate).peekable();
        certificates.peek().is_some() && certificates.all(Identity::takes_clear_challenges)
    }
    /// Tries it with a key and certificate that nobody knows: better now than after the password. A locked agent looks like an empty one, and some take no certificates, or none with a lifetime.
    /// # Errors
    /// [`AgentProblem`]
    pub fn try_out(&self) -> Result<(), AgentProblem> {
        let refused = |source| AgentProblem::TakesNoKey {
            path: self.path.clone(),
            program: self.program().unwrap_or_else(|| "unknown".to_owned()),
            source,
        };
        self.takes_certificates()?;
        // That it cannot be made says nothing of the agent.
        let Some((key, certificate)) = trial() else { return Ok(()) };
        let mut agent = self.connect()?;
        let constraints = Constraints { lifetime_seconds: Some(TRIAL_SECONDS), confirm: false };
        agent.add_certificate(&certificate, &key, "ussh: a trial", &constraints).map_err(refused)?;
        // It goes by itself as well.
        let _ = agent.remove(certificate.blob());
        Ok(())
    }
    /// Whether what it has listed is all that is in it: a locked one lists nothing (ssh-agent.c `process_message`), and takes no key.
    /// # Errors
    /// [`AgentProblem::Locked`]
    pub fn check_unlocked(&self, listed: &[Identity]) -> Result<(), AgentProblem> {
        if !listed.is_empty() {
            return Ok(());
        }
        match self.try_out() {
            // One of another program may just take no certificates: then none is in it.
            Err(AgentProblem::TakesNoKey { path, program, source: AgentError::Refused })
                if ["ssh-agent", "unknown"].contains(&program.as_str()) =>
            {
                Err(AgentProblem::Locked { path })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
    /// Who listens there: the program's name, as the kernel has it. GnuPG's has become another process since it began to listen, or is still to be started: it is known by its socket's name.
    pub fn program(&self) -> Option<String> {
        // Whatever it is called here.
        let real = self.path.canonicalize();
        if real.as_ref().unwrap_or(&self.path).file_name().is_some_and(|name| name == GPG_SOCKET) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn an_agent_that_is_forwarded_guarded_is_known_by_all_its_certificates() {
        let (_, certificate) = trial().unwrap();
        let key = PrivateKey::generate_ed25519().unwrap().public_key();
        let identity = |blob: &[u8], comment: &str| Identity { blob: blob.to_vec(), comment: comment.into() };
        let guarded = identity(certificate.blob(), "ussh alice serial 1 challenge@ussh");
        let plain = identity(certificate.blob(), "ussh alice serial 1");
        let bare = identity(key.blob(), "alice@laptop");
        let agent = UserAgent::at("/nowhere".into());
        assert!(agent.is_guarded_by(&[guarded.clone(), bare.clone()]));
        for listed in [vec![], vec![bare], vec![guarded, plain]] {
            assert!(!agent.is_guarded_by(&listed), "{listed:?}");
        }
    }
}
