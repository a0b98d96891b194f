//! One key of the CA's, wherever it is held: a file, plain or encrypted, read at the start into locked memory; or an ssh-agent, asked for each signature.
//!
//! Of a key NAME in the state folder: `NAME` is the private key; or `NAME.agent` says in which agent it is (TOML: `socket = "/run/…"`) and `NAME.pub` which key it is.
//! The agent runs as the signer's own account, and is asked from within the sandbox: a connection is made when it is needed and kept.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ussh_core::agent::{Agent, AgentError};
use ussh_core::keys::{KeyError, PrivateKey, PublicKey, SigningKey};
use ussh_os::agent_socket::connect_as;
use ussh_os::locked::{Locked, scrub_stack};
use ussh_os::process;
use usshca_ipc::signer::Secret;

use crate::log;
use crate::state::{StateError, StateFolder};

/// How long an agent may take to connect and to sign: meanwhile nobody else is served.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an agent that did not answer in time is not asked again.
const QUIET: Duration = Duration::from_secs(10);
/// From one look at whether an agent still holds a key to the next.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long such a look may take.
const LOOK_PATIENCE: Duration = Duration::from_millis(500);
/// Longest way down that a signature takes, in bytes of stack, unoptimised.
const SIGNING: usize = 64 * 1024;
/// Likewise for reading a key.
const LOADING: usize = 512 * 1024;

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum CaKeyError {
    /// The file.
    #[error("{0}")]
    State(#[from] StateError),
    /// Not a key in OpenSSH's format.
    #[error("{name}: {source}")]
    Key {
        /// Which.
        name: String,
        /// What is wrong.
        source: KeyError,
    },
    /// Encrypted, and not to be opened.
    #[error("{name} is encrypted, {}", if *wrong { "and the passphrase is wrong" } else { "and there is no passphrase" })]
    Passphrase {
        /// Which.
        name: String,
        /// There was one.
        wrong: bool,
    },
    /// RSA (its private operations leak time), or a key that a person must touch.
    #[error("{name}: a CA key must be Ed25519 or ECDSA, not {kind}")]
    Kind {
        /// Which.
        name: String,
        /// OpenSSH's short name of its type.
        kind: &'static str,
    },
    /// NAME.agent cannot be understood.
    #[error("{name}.agent: {problem}")]
    Agent {
        /// Which.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Memory that cannot be locked.
    #[error("{name}: its memory cannot be locked: {source} (RLIMIT_MEMLOCK; systemd: LimitMEMLOCK=)")]
    Memory {
        /// Which.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// One key in two roles.
    #[error("{0} and {1} are the same key: each needs its own")]
    Same(&'static str, &'static str),
    /// What was left of a change of the feed key.
    #[error("feed_key: {0}")]
    Handover(String),
}

/// A key of the CA's.
#[derive(Debug)]
pub struct CaKey {
    public: PublicKey,
    holder: Holder,
}

#[derive(Debug)]
enum Holder {
    Memory(Locked<PrivateKey>),
    Agent(Box<AgentHolder>),
}

#[derive(Debug)]
struct AgentHolder {
    name: String,
    socket: PathBuf,
    line: Mutex<Line>,
}

/// The connection with an agent.
#[derive(Debug, Default)]
struct Line {
    agent: Option<Agent>,
    /// It is not asked before.
    quiet_until: Option<Instant>,
    /// When it was last looked at, and what was wrong with it then.
    looked: Option<(Instant, Option<String>)>,
}

/// NAME.agent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentFile {
    socket: PathBuf,
}

impl CaKey {
    /// Loads the key of this name.
    /// # Errors
    /// [`CaKeyError`]
    pub fn load(state: &StateFolder, name: &str, passphrases: &[Secret]) -> Result<Self, CaKeyError> {
        let loaded = Self::load_leaving_copies(state, name, passphrases);
        let key = Self::after_wiping(name, loaded)?;
        match key.public.short_type() {
            "ED25519" | "ECDSA" => Ok(key),
            kind => Err(CaKeyError::Kind { name: name.to_owned(), kind }),
        }
    }

    /// A key that is at hand; the memory it comes from is the caller's to wipe.
    /// # Errors
    /// [`CaKeyError::Memory`]
    pub fn of_private(name: &str, key: PrivateKey) -> Result<Self, CaKeyError> {
        let held = hold(name, key);
        Self::after_wiping(name, held)
    }

    /// The public half is read anew once the stack is wiped: it is a choice of types of different sizes, and what fills the gap of a small one, a move carries along. That was private once.
    fn after_wiping(name: &str, held: Result<(Vec<u8>, Holder), CaKeyError>) -> Result<Self, CaKeyError> {
        scrub_stack::<LOADING>();
        let (blob, holder) = held?;
        let public = PublicKey::from_blob(&blob).map_err(|source| CaKeyError::Key { name: name.to_owned(), source })?;
        Ok(CaKey { public, holder })
    }

    #[inline(never)]
    fn load_leaving_copies(
        state: &StateFolder,
        name: &str,
        passphrases: &[Secret],
    ) -> Result<(Vec<u8>, Holder), CaKeyError> {
        let agent_file = format!("{name}.agent");
        let is_agents = state.file(&agent_file).symlink_metadata().is_ok();
        if is_agents { of_agent(state, name, &agent_file) } else { of_file(state, name, passphrases) }
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    /// Why nothing can be signed by it now; an agent is looked at every half a minute.
    pub fn trouble(&self) -> Option<String> {
        match &self.holder {
            Holder::Memory(_) => None,
            Holder::Agent(agent) => agent.trouble(&self.public, LOOK_PATIENCE),
        }
    }

    /// For people: where it is held.
    pub fn held(&self) -> String {
        match &self.holder {
            Holder::Memory(_) => "file".to_owned(),
            Holder::Agent(agent) => format!("agent {}", agent.socket.display()),
        }
    }

    /// Whether it is a file of the state.
    pub fn is_file(&self) -> bool {
        matches!(self.holder, Holder::Memory(_))
    }
}

#[inline(never)]
fn hold(name: &str, key: PrivateKey) -> Result<(Vec<u8>, Holder), CaKeyError> {
    let blob = key.public_key().to_blob();
    let locked = Locked::new(key).map_err(|source| CaKeyError::Memory { name: name.to_owned(), source })?;
    Ok((blob, Holder::Memory(locked)))
}

fn of_file(state: &StateFolder, name: &str, passphrases: &[Secret]) -> Result<(Vec<u8>, Holder), CaKeyError> {
    let text = state.secret(name)?;
    let key = open(&text, passphrases);
    drop(text);
    let key = key.map_err(|source| {
        let wrong = source == KeyError::WrongPassphrase;
        if wrong || source == KeyError::Encrypted {
            return CaKeyError::Passphrase { name: name.to_owned(), wrong };
        }
        CaKeyError::Key { name: name.to_owned(), source }
    })?;
    hold(name, key)
}

fn of_agent(state: &StateFolder, name: &str, file: &str) -> Result<(Vec<u8>, Holder), CaKeyError> {
    let agent = |problem: String| CaKeyError::Agent { name: name.to_owned(), problem };
    let text = state.secret(file)?;
    let AgentFile { socket } = toml::from_str(&text).map_err(|e| agent(e.message().to_owned()))?;
    if !socket.is_absolute() {
        return Err(agent("socket must be an absolute path".to_owned()));
    }
    let public = public_key(state, name)?;
    let holder = AgentHolder { name: name.to_owned(), socket, line: Mutex::default() };
    // It may come later; to revoke it takes no agent.
    if let Some(trouble) = holder.trouble(&public, PATIENCE) {
        log::warning(&trouble);
    }
    Ok((public.to_blob(), Holder::Agent(Box::new(holder))))
}

impl SigningKey for CaKey {
    fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.holder {
            Holder::Memory(key) => {
                let signature = key.sign(message);
                scrub_stack::<SIGNING>();
                signature
            }
            Holder::Agent(agent) => agent.sign(&self.public, message).map_err(KeyError::Holder),
        }
    }
}

impl TryFrom<PrivateKey> for CaKey {
    type Error = CaKeyError;
    fn try_from(key: PrivateKey) -> Result<Self, CaKeyError> {
        Self::of_private("key", key)
    }
}

impl AgentHolder {
    /// One try on the connection that there is, and one on a new one: an agent that was restarted is found again.
    fn sign(&self, key: &PublicKey, message: &[u8]) -> Result<Vec<u8>, String> {
        let signed = self.ask(PATIENCE, |agent| agent.sign(key.blob(), message, 0));
        // An agent refuses in one and the same way what it does not hold and what it may not do.
        let signed = match signed {
            Err(_) if self.lists(key, PATIENCE) == Ok(false) => Err(self.lacks(key)),
            signed => signed,
        };
        // Somebody was refused for it, or is not any more: that need not wait for the next look.
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let had_trouble = line.looked.as_ref().is_some_and(|(_, found)| found.is_some());
        match &signed {
            Err(why) => line.looked = Some((Instant::now(), Some(self.no_signature(why)))),
            Ok(_) if had_trouble => line.looked = Some((Instant::now(), None)),
            Ok(_) => {}
        }
        drop(line);
        signed
    }

    fn no_signature(&self, why: &str) -> String {
        format!("{}: {why}: nothing is signed by it until that is mended", self.name)
    }

    fn lists(&self, key: &PublicKey, patience: Duration) -> Result<bool, String> {
        let identities = self.ask(patience, Agent::list)?;
        Ok(identities.iter().any(|one| one.blob == key.blob()))
    }

    /// Why it signs nothing by this key, as of its last look.
    fn trouble(&self, key: &PublicKey, patience: Duration) -> Option<String> {
        let looked = self.line.lock().unwrap_or_else(PoisonError::into_inner).looked.clone();
        if let Some((at, found)) = looked
            && at.elapsed() < LOOK_EVERY
        {
            return found;
        }
        let found = match self.lists(key, patience) {
            Ok(true) => None,
            Ok(false) => Some(self.lacks(key)),
            Err(why) => Some(why),
        };
        let found = found.map(|why| self.no_signature(&why));
        self.line.lock().unwrap_or_else(PoisonError::into_inner).looked = Some((Instant::now(), found.clone()));
        found
    }

    fn lacks(&self, key: &PublicKey) -> String {
        format!("the agent at {} does not hold the key {}", self.socket.display(), key.fingerprint())
    }

    /// An agent that is silent for as long as a signature may take is not asked for a while; one that has not answered a mere look in its shorter time may still sign.
    fn ask<T>(&self, patience: Duration, question: impl Fn(&mut Agent) -> Result<T, AgentError>) -> Result<T, String> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if line.quiet_until.is_some_and(|until| now < until) {
            return Err(self.failed("did not answer in time a moment ago"));
        }
        line.quiet_until = None;
        let deadline = now + patience;
        loop {
            let (mut agent, is_new) = match line.agent.take() {
                Some(agent) => (agent, false),
                None => (self.connect(deadline)?, true),
            };
            agent.set_deadline(deadline);
            match question(&mut agent) {
                Ok(answer) => {
                    line.agent = Some(agent);
                    return Ok(answer);
                }
                Err(AgentError::Refused) => {
                    line.agent = Some(agent);
                    return Err(self.failed("refused"));
                }
                Err(AgentError::Io(_)) if !is_new => {}
                Err(AgentError::Timeout) => {
                    if patience >= PATIENCE {
                        line.quiet_until = Some(Instant::now() + QUIET);
                    }
                    return Err(self.failed(&format!("did not answer within {} s", patience.as_secs_f32())));
                }
                Err(e) => return Err(self.failed(&e.to_string())),
            }
        }
    }

    fn connect(&self, deadline: Instant) -> Result<Agent, String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let own = process::effective_uid();
        let connected = connect_as(own, process::real_gid(), &[], &self.socket, left);
        let (stream, _) = connected.map_err(|e| self.failed(&format!("cannot be reached: {e}")))?;
        Ok(Agent::new(stream, left))
    }

    fn failed(&self, how: &str) -> String {
        format!("the agent at {}, which holds {}, {how}", self.socket.display(), self.name)
    }
}

/// `NAME.pub`.
pub fn public_key(state: &StateFolder, name: &str) -> Result<PublicKey, CaKeyError> {
    let file = format!("{name}.pub");
    let text = state.public(&file)?;
    PublicKey::from_openssh(text.trim_end()).map_err(|source| CaKeyError::Key { name: file, source })
}

/// Tries each passphrase; one of another key does no harm.
fn open(text: &str, passphrases: &[Secret]) -> Result<PrivateKey, KeyError> {
    let mut result = PrivateKey::from_openssh(text);
    for Secret(passphrase) in passphrases {
        if !matches!(result, Err(KeyError::Encrypted | KeyError::WrongPassphrase)) {
            break;
        }
        result = PrivateKey::from_openssh_encrypted(text, passphrase);
    }
    result
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Answers each request with an empty list, and takes this long for it.
    fn slow_agent(socket: &std::path::Path, time: Duration) {
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut length = [0; 4];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut request = vec![0; u32::from_be_bytes(length) as usize];
                        stream.read_exact(&mut request).unwrap();
                        thread::sleep(time);
                        // SSH_AGENT_IDENTITIES_ANSWER, none.
                        let _ = stream.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]);
                    }
                });
            }
        });
    }

    #[test]
    fn an_agent_too_slow_for_a_look_still_signs() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        slow_agent(&socket, LOOK_PATIENCE + LOOK_PATIENCE / 2);
        let holder = AgentHolder { name: "user_ca".to_owned(), socket, line: Mutex::default() };
        let key = PrivateKey::generate_ed25519().unwrap().public_key();
        assert!(holder.trouble(&key, LOOK_PATIENCE).unwrap().contains("did not answer within"));
        assert_eq!(holder.lists(&key, PATIENCE), Ok(false), "it is asked all the same");
    }
}
