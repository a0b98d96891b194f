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
use std::time::{Duration, Instant};

use crate::agent::{Agent, Identity, Request, frame};
use crate::ca_file::TrustedCas;
use crate::certificate::{Certificate, CertificateKind};
use crate::challenge::ChallengeContext;
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
    /// Nothing, ever.
    Silence,
    /// The connection is closed.
    Close,
}

type Signer = Box<dyn FnMut(&[u8], u32) -> Answer + Send>;

/// An agent with identities that sign as they like. Comments are not UTF-8.
#[derive(Default)]
pub struct SoftAgent {
    identities: Vec<(Vec<u8>, Signer)>,
}

impl SoftAgent {
    pub fn with(mut self, blob: &[u8], signer: impl FnMut(&[u8], u32) -> Answer + Send + 'static) -> Self {
        self.identities.push((blob.to_vec(), Box::new(signer)));
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

    pub fn start(mut self) -> Agent {
        scripted(Duration::from_secs(10), move |mut stream| {
            while let Some(payload) = receive(&mut stream) {
                let answer = match Request::parse(&payload) {
                    Request::List => {
                        let comment = b"\xff\x00\n".to_vec();
                        let list: Vec<_> = (self.identities.iter())
                            .map(|(blob, _)| Identity { blob: blob.clone(), comment: comment.clone() })
                            .collect();
                        Answer::Frame(frame::identities(&list))
                    }
                    Request::Sign { blob, data, flags } => {
                        let (_, signer) = self.identities.iter_mut().find(|(b, _)| *b == blob).unwrap();
                        signer(&data, flags)
                    }
                    other => panic!("{other:?}"),
                };
                match answer {
                    Answer::Frame(frame) => stream.write_all(&frame).unwrap(),
                    Answer::Silence => return hang(stream),
                    Answer::Close => return,
                }
            }
        })
    }
}

/// OpenSSH's ssh-agent, in a folder of its own; ends with the value.
pub struct RealAgent {
    child: Child,
    folder: tempfile::TempDir,
}

impl RealAgent {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(folder.path().join("agent")).stdout(Stdio::null()).stderr(Stdio::null());
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
        self.run("ssh-keygen", &[&["-q", "-N", "", "-C", "", "-f", name], kind].concat(), b"");
        PrivateKey::from_openssh(&std::fs::read_to_string(self.folder().join(name)).unwrap()).unwrap()
    }
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
