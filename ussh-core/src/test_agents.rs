//! What the tests share beside `testing`: agents that follow a script, the real ssh-agent, and what is asked of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::agent::{Agent, Identity, Request, frame};
use crate::ca_file::TrustedCas;
use crate::certificate::{Certificate, CertificateKind};
use crate::challenge::{ChallengeContext, ChallengeMessage};
use crate::clock::UnixTime;
use crate::issue::CertificateTemplate;
use crate::keys::{PrivateKey, PublicKey};
use crate::verdict::{CriticalOptions, Demand, PrincipalDemand, VerifiedCertificate, verify};
use crate::wire::{Reader, WireWrite};

/// The tests' present: inside of every template's validity.
pub const NOW: UnixTime = UnixTime(1_700_000_500);

pub fn new_key() -> PrivateKey {
    PrivateKey::generate_ed25519().unwrap()
}

/// A certificate's content for alice, valid around [`NOW`].
pub fn template(key: &PublicKey) -> CertificateTemplate {
    CertificateTemplate {
        public_key: key.clone(),
        serial: 7,
        kind: CertificateKind::User,
        key_id: "alice".into(),
        principals: vec!["alice".into()],
        valid_after: UnixTime(1_700_000_000),
        valid_before: UnixTime(1_700_001_000),
        critical_options: Vec::new(),
        extensions: Vec::new(),
    }
}

pub fn demand(cas: &TrustedCas) -> Demand<'_> {
    Demand {
        cas,
        kind: CertificateKind::User,
        now: NOW,
        principals: PrincipalDemand::User("alice", None),
        critical_options: CriticalOptions::Refuse { origin: None },
        revoked: None,
        max_validity: None,
        max_age: None,
    }
}

pub fn verified(certificate: &Certificate) -> VerifiedCertificate {
    let cas = TrustedCas::from_keys(vec![certificate.ca().clone()]);
    verify(certificate, &demand(&cas)).unwrap()
}

pub fn context() -> ChallengeContext {
    ChallengeContext {
        host: "web1".into(),
        service: "sudo".into(),
        user: "alice".into(),
        ruser: "alice".into(),
        tty: "/dev/pts/3".into(),
        now: NOW,
    }
}

/// A FIDO key in software: an Ed25519 key that signs as PROTOCOL.u2f says.
pub struct SoftFido {
    key: PrivateKey,
}

impl SoftFido {
    pub fn new() -> Self {
        SoftFido { key: new_key() }
    }

    pub fn public_key(&self) -> PublicKey {
        let plain = self.key.public_key().to_blob();
        let mut reader = Reader::new(&plain);
        reader.string().unwrap();
        let mut blob = Vec::new();
        blob.put_string(b"sk-ssh-ed25519@openssh.com");
        blob.put_string(reader.string().unwrap());
        blob.put_string(b"ssh:");
        PublicKey::from_blob(&blob).unwrap()
    }

    pub fn sign(&self, data: &[u8], flags: u8) -> Vec<u8> {
        use sha2::{Digest, Sha256};
        let mut signed = Sha256::digest(b"ssh:").to_vec();
        signed.put_byte(flags);
        signed.put_u32(9);
        signed.extend_from_slice(&Sha256::digest(data));
        let plain = self.key.sign(&signed).unwrap();
        let mut reader = Reader::new(&plain);
        reader.string().unwrap();
        let mut signature = Vec::new();
        signature.put_string(b"sk-ssh-ed25519@openssh.com");
        signature.put_string(reader.string().unwrap());
        signature.put_byte(flags);
        signature.put_u32(9);
        signature
    }
}

/// A client of an agent that follows `script` in a thread of its own.
pub fn scripted(patience: Duration, script: impl FnOnce(UnixStream) + Send + 'static) -> Agent {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || script(theirs));
    Agent::new(ours, patience)
}

/// Reads one payload; `None` at the end.
pub fn receive(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(payload)
}

/// Waits until the client is gone.
pub fn hang(mut stream: UnixStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

/// What a scripted identity does when it is to sign.
pub enum Answer {
    /// This frame.
    Frame(Vec<u8>),
    /// Nothing, ever, on this connection.
    Silence,
    /// The connection is closed.
    Close,
}

/// Answers what is to be signed, and the flags.
type Signer = Box<dyn FnMut(&[u8], u32) -> Answer + Send>;
/// Answers a challenge in clear, and the flags.
type ClearSigner = Box<dyn FnMut(&ChallengeMessage, u32) -> Answer + Send>;

struct Held {
    blob: Vec<u8>,
    comment: &'static [u8],
    sign: Signer,
    /// `None`: the agent does not know `challenge@ussh`.
    clear: Option<ClearSigner>,
}

/// Comment of an identity whose agent says that it takes challenges in clear.
const SAYS_SO: &[u8] = b"\xff\x00\n challenge@ussh";

/// An agent with identities that sign as they like. Comments are not UTF-8.
#[derive(Default)]
pub struct SoftAgent {
    identities: Vec<Held>,
}

impl SoftAgent {
    pub fn with(self, blob: &[u8], sign: impl FnMut(&[u8], u32) -> Answer + Send + 'static) -> Self {
        self.hold(blob, b"\xff\x00\n", Box::new(sign), None)
    }

    /// One that says it knows `challenge@ussh`, and answers the message in clear.
    pub fn with_clear(self, blob: &[u8], clear: impl FnMut(&ChallengeMessage, u32) -> Answer + Send + 'static) -> Self {
        self.hold(blob, SAYS_SO, Box::new(|_, _| Answer::Close), Some(Box::new(clear)))
    }

    /// One that says so too, in an agent that does not know it.
    pub fn with_claim(self, blob: &[u8], sign: impl FnMut(&[u8], u32) -> Answer + Send + 'static) -> Self {
        self.hold(blob, SAYS_SO, Box::new(sign), None)
    }

    fn hold(mut self, blob: &[u8], comment: &'static [u8], sign: Signer, clear: Option<ClearSigner>) -> Self {
        self.identities.push(Held { blob: blob.to_vec(), comment, sign, clear });
        self
    }

    /// An honest identity.
    pub fn with_key(self, blob: &[u8], key: PrivateKey) -> Self {
        self.with(blob, move |data, _| Answer::Frame(frame::signature(&key.sign(data).unwrap())))
    }

    /// One that refuses.
    pub fn with_refusal(self, blob: &[u8]) -> Self {
        self.with(blob, |_, _| Answer::Frame(frame::failure()))
    }

    /// One that must not be asked.
    pub fn with_untouchable(self, blob: &[u8]) -> Self {
        self.with(blob, |_, _| Answer::Close)
    }

    /// A connection to it, the only one.
    pub fn start(self) -> Agent {
        self.serve().connect()
    }

    /// Takes as many connections as there are.
    pub fn serve(self) -> Served {
        Served { identities: Arc::new(Mutex::new(self.identities)), asked: Arc::default() }
    }
}

/// A [`SoftAgent`] at work.
pub struct Served {
    identities: Arc<Mutex<Vec<Held>>>,
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Served {
    pub fn connect(&self) -> Agent {
        let (identities, asked) = (Arc::clone(&self.identities), Arc::clone(&self.asked));
        scripted(Duration::from_secs(10), move |mut stream| {
            while let Some(payload) = receive(&mut stream) {
                asked.lock().unwrap().push(payload[0]);
                // Not held while it is silent: other connections are served.
                let answer = answer(&mut identities.lock().unwrap(), &payload);
                match answer {
                    Answer::Frame(frame) => {
                        if stream.write_all(&frame).is_err() {
                            return;
                        }
                    }
                    Answer::Silence => return hang(stream),
                    Answer::Close => return,
                }
            }
        })
    }

    /// The numbers of all messages that have come, on all connections.
    pub fn asked(&self) -> Vec<u8> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(identities: &mut [Held], payload: &[u8]) -> Answer {
    match Request::parse(payload) {
        Request::List => {
            let list: Vec<_> = (identities.iter())
                .map(|held| Identity { blob: held.blob.clone(), comment: held.comment.to_vec() })
                .collect();
            Answer::Frame(frame::identities(&list))
        }
        Request::Sign { blob, data, flags } => {
            let held = identities.iter_mut().find(|held| held.blob == blob).unwrap();
            (held.sign)(&data, flags)
        }
        Request::Challenge { blob, message, flags } => {
            let held = identities.iter_mut().find(|held| held.blob == blob).unwrap();
            held.clear.as_mut().map_or_else(|| Answer::Frame(frame::failure()), |clear| clear(&message, flags))
        }
        other => panic!("{other:?}"),
    }
}

/// OpenSSH's ssh-agent, in a folder of its own; ends with the value.
pub struct RealAgent {
    child: Child,
    folder: tempfile::TempDir,
}

impl RealAgent {
    pub fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), &[])
    }

    /// In this folder, with these variables in its environment.
    pub fn start_with(folder: tempfile::TempDir, environment: &[(&str, &Path)]) -> Self {
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(folder.path().join("agent")).stdout(Stdio::null()).stderr(Stdio::null());
        command.envs(environment.iter().copied());
        let agent = RealAgent { child: command.spawn().expect("ssh-agent"), folder };
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(agent.socket()).is_err() {
            assert!(Instant::now() < deadline, "ssh-agent does not listen");
            std::thread::yield_now();
        }
        agent
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// A folder to write into.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn connect(&self) -> Agent {
        Agent::new(UnixStream::connect(self.socket()).unwrap(), Duration::from_secs(10))
    }

    /// Runs a program with this agent; must succeed; gives what it printed.
    pub fn run(&self, program: &str, arguments: &[&str], input: &[u8]) -> String {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(self.folder())
            .env("SSH_AUTH_SOCK", self.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A key made by ssh-keygen, its file named `name` in the folder.
    pub fn keygen(&self, name: &str, kind: &[&str]) -> PrivateKey {
        let file = self.folder().join(name);
        loop {
            self.run("ssh-keygen", &[&["-q", "-N", "", "-C", "", "-f", name], kind].concat(), b"");
            match PrivateKey::from_openssh(&std::fs::read_to_string(&file).unwrap()) {
                Ok(key) => return key,
                // ssh-key reads no P-256 key whose number is shorter than 32 bytes: one in 256.
                Err(_) => {
                    assert!(kind.contains(&"ecdsa"), "{kind:?}");
                    std::fs::remove_file(&file).unwrap();
                }
            }
        }
    }
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
