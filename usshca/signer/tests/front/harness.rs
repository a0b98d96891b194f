//! The supervisor's, the workers' and the fronts' ends of a real signer.

use std::fs::{self, Permissions};
use std::io::{Read, Seek, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ussh_core::keys::PrivateKey;
use ussh_core::login_proof::{self, signed_data};
use ussh_os::process::{self, ChildSetup};
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::admin::{Entry, RegisteredKey, Reply, Request, Revocation};
use usshca_ipc::channel::{Channel, encode};
use usshca_ipc::front::{FromSigner, Purpose, ToSigner};
use usshca_ipc::signer::{Control, FromSignerControl, KeySetup, PolicyText, SignerSetup};
use usshca_ipc::worker::{Spoken, Statement, StatementReply};

pub const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));
/// As soon as the signer's process takes it.
pub const MANY: u32 = 500;

pub type FrontEnd = Channel<ToSigner, FromSigner>;

/// A signer at work.
pub struct Signer {
    child: Child,
    control: Channel<Control, FromSignerControl>,
    _state: tempfile::TempDir,
}

fn put_key(dir: &Path, name: &str) {
    put(dir, name, new_key().to_openssh(name).unwrap().as_bytes());
}

fn put(dir: &Path, name: &str, content: &[u8]) {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
}

/// An agent with one key, which takes its time for each signature.
pub struct SlowAgent {
    key: Arc<PrivateKey>,
    dir: tempfile::TempDir,
    signed: Arc<AtomicUsize>,
}

impl SlowAgent {
    pub fn start(takes: Duration) -> SlowAgent {
        let (key, signed) = (Arc::new(new_key()), Arc::new(AtomicUsize::new(0)));
        let agent = SlowAgent { key, dir: tempfile::tempdir().unwrap(), signed };
        let listener = UnixListener::bind(agent.socket()).unwrap();
        let (key, signed) = (Arc::clone(&agent.key), Arc::clone(&agent.signed));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (key, signed) = (Arc::clone(&key), Arc::clone(&signed));
                std::thread::spawn(move || serve_agent(stream.unwrap(), &key, &signed, takes));
            }
        });
        agent
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// How many signatures it has made.
    pub fn signed(&self) -> usize {
        self.signed.load(Ordering::SeqCst)
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn serve_agent(mut stream: UnixStream, key: &PrivateKey, signed: &AtomicUsize, takes: Duration) {
    let length = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    loop {
        let mut size = [0; 4];
        if stream.read_exact(&mut size).is_err() {
            return;
        }
        let mut request = vec![0; length(&size)];
        stream.read_exact(&mut request).unwrap();
        let reply = if request[0] == 11 {
            [&[12][..], &1u32.to_be_bytes(), &string(&key.public_key().to_blob()), &string(b"c")].concat()
        } else {
            std::thread::sleep(takes);
            let data = &request[5 + length(&request[1..])..];
            let signature = key.sign(&data[4..4 + length(data)]).unwrap();
            signed.fetch_add(1, Ordering::SeqCst);
            [&[14][..], &string(&signature)].concat()
        };
        if stream.write_all(&string(&reply)).is_err() {
            return;
        }
    }
}

pub fn new_key() -> PrivateKey {
    PrivateKey::generate_ed25519().unwrap()
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// What a worker is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    Authenticates,
    LooksUp,
}

impl Signer {
    /// On a new state.
    pub fn start(policy: &str) -> Signer {
        Self::start_where(policy, |state| put_key(state, "user_ca"))
    }

    /// Its key for users is in an agent.
    pub fn start_with_agent(policy: &str, agent: &SlowAgent) -> Signer {
        Self::start_where(policy, |state| {
            put(state, "user_ca.agent", format!("socket = \"{}\"\n", agent.socket().display()).as_bytes());
            put(state, "user_ca.pub", agent.key.public_key().to_openssh("x").as_bytes());
        })
    }

    fn start_where(policy: &str, user_ca: impl Fn(&Path)) -> Signer {
        let state = tempfile::tempdir().unwrap();
        fs::set_permissions(state.path(), Permissions::from_mode(0o700)).unwrap();
        user_ca(state.path());
        put_key(state.path(), "host_ca");
        put_key(state.path(), "feed_key");
        let (ours, theirs) = SeqPacket::pair().unwrap();
        let uid = process::effective_uid();
        let setup = SignerSetup {
            state: state.path().to_owned(),
            policy: vec![PolicyText { name: "policy.toml".into(), folder: String::new(), text: policy.into() }],
            admin_uids: vec![uid],
            worker_uid: uid,
            listens: false,
            creates: true,
            only_policy: false,
            keys: KeySetup { ca_name: "ca".into(), feed_valid_seconds: 86_400, ..KeySetup::default() },
            side_job: None,
        };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&encode(&setup).unwrap()).unwrap();
        file.rewind().unwrap();
        let descriptors = vec![theirs.into_fd(), file.into()];
        let setup = ChildSetup { descriptors, die_with_parent: true, ..ChildSetup::default() };
        let child = process::spawn(Path::new(env!("CARGO_BIN_EXE_usshca-signer")), &[], &[], setup).unwrap();
        let signer = Signer { child, control: Channel::new(ours), _state: state };
        assert_eq!(signer.control.receive(PATIENCE).unwrap().message, FromSignerControl::Ready);
        signer
    }

    /// It has taken in all that the supervisor said before, and lives.
    pub fn hears(&self) {
        self.control.send(&Control::Hears).unwrap();
        while self.control.receive(PATIENCE).unwrap().message != FromSignerControl::Hears {}
    }

    /// What it has told the supervisor.
    pub fn told(&self) -> Vec<FromSignerControl> {
        self.control.send(&Control::Hears).unwrap();
        let next = || self.control.receive(PATIENCE).unwrap().message;
        std::iter::from_fn(|| Some(next()).filter(|told| *told != FromSignerControl::Hears)).collect()
    }

    /// Takes what the signer tells the supervisor, and what is of no interest here.
    fn drain(&self) {
        while self.control.receive(Some(Duration::ZERO)).is_ok() {}
    }

    /// A connection from this address.
    pub fn front(&self, connection: u64, from: IpAddr) -> FrontEnd {
        self.drain();
        let (front, theirs) = SeqPacket::pair().unwrap();
        let peer = (from, 22).into();
        self.control.send_with(&Control::NewFront { connection, peer }, &[theirs.as_fd()]).unwrap();
        Channel::new(front)
    }

    /// A worker's statement, as the supervisor announces the worker; whether it is kept. `Err`: the signer does not talk to this worker.
    pub fn state(
        &self,
        (connection, attempt): (u64, u32),
        worker: Worker,
        user: &str,
        groups: &[&str],
    ) -> Result<bool, ()> {
        self.state_from(own_pid(), (connection, attempt), worker, user, groups)
    }

    /// The same, announced as another process's.
    pub fn state_from(
        &self,
        worker_pid: i32,
        (connection, attempt): (u64, u32),
        worker: Worker,
        user: &str,
        groups: &[&str],
    ) -> Result<bool, ()> {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        theirs.attest_sender().unwrap();
        let news = match worker {
            Worker::Authenticates => Control::NewWorker {
                connection,
                attempt,
                worker_pid,
                user: "somebody".to_owned(),
                patience_seconds: 60,
            },
            Worker::LooksUp => Control::NewLookup {
                connection,
                attempt,
                worker_pid,
                user: "somebody".to_owned(),
                patience_seconds: 60,
            },
        };
        self.control.send_with(&news, &[theirs.as_fd()]).unwrap();
        drop(theirs);
        let ours = Channel::<Spoken, StatementReply>::new(ours);
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        ours.send(&Spoken::Passed(Statement { user: user.to_owned(), uid: 1000, groups })).map_err(drop)?;
        let reply = ours.receive(PATIENCE).map_err(drop)?;
        Ok(reply.message == StatementReply::Kept)
    }

    /// What an administrator at the machine asks.
    pub fn admin(&self, request: &Request) -> Reply {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        self.control.send_with(&Control::NewAdmin, &[theirs.as_fd()]).unwrap();
        let admin = Channel::<Request, Reply>::new(ours);
        admin.send(request).unwrap();
        admin.receive(PATIENCE).unwrap().message
    }

    /// All rows.
    pub fn rows(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let before = all.last().map_or(u64::MAX, |row| row.row);
            match self.admin(&Request::List { before, limit: MANY }) {
                Reply::List(rows) if rows.is_empty() => return all,
                Reply::List(rows) => all.extend(rows),
                other => panic!("{other:?}"),
            }
        }
    }

    /// All revocations.
    pub fn revocations(&self) -> Vec<Revocation> {
        let mut all: Vec<Revocation> = Vec::new();
        loop {
            let before = all.last().map_or(u64::MAX, |act| act.id);
            match self.admin(&Request::Revocations { before, limit: MANY }) {
                Reply::Revocations(acts) if acts.is_empty() => return all,
                Reply::Revocations(acts) => all.extend(acts),
                other => panic!("{other:?}"),
            }
        }
    }

    /// All registered keys.
    pub fn registered_keys(&self) -> Vec<RegisteredKey> {
        match self.admin(&Request::KeyList { user: None, before: u64::MAX, limit: MANY }) {
            Reply::RegisteredKeys(keys) => keys,
            other => panic!("{other:?}"),
        }
    }

    pub fn register(&self, user: &str, key: &PrivateKey) {
        let (user, public_key) = (user.to_owned(), key.public_key().to_blob());
        let registered = self.admin(&Request::KeyRegister { user, public_key, comment: String::new() });
        assert!(matches!(registered, Reply::KeyRegistered { .. }), "{registered:?}");
    }

    pub fn end(mut self) {
        drop(self.control);
        assert!(self.child.wait().unwrap().success());
    }
}

/// What is said to it; nothing: it closed the channel.
pub fn say(front: &FrontEnd, message: &ToSigner) -> Option<FromSigner> {
    front.send(message).ok()?;
    answer(front)
}

/// The next answer; nothing: it closed the channel.
pub fn answer(front: &FrontEnd) -> Option<FromSigner> {
    let received = front.receive(PATIENCE);
    if let Err(usshca_ipc::channel::ChannelError::Io(e)) = &received {
        assert_ne!(e.kind(), std::io::ErrorKind::TimedOut, "the signer does not answer");
    }
    received.ok().map(|received| received.message)
}

/// A signature over a message of the signer's.
pub fn signed(message: &[u8], purpose: Purpose, key: &PrivateKey) -> Option<Vec<u8>> {
    let purpose = match purpose {
        Purpose::Login => login_proof::Purpose::Login,
        Purpose::ClientKey => login_proof::Purpose::ClientKey,
    };
    key.sign(&signed_data(message, &key.public_key(), purpose)?).ok()
}

/// A key proves itself, as it should.
pub fn prove(front: &FrontEnd, attempt: u32, purpose: Purpose, key: &PrivateKey) -> Option<FromSigner> {
    let challenge = ToSigner::Challenge { attempt, purpose, key: key.public_key().to_blob() };
    match say(front, &challenge)? {
        FromSigner::Challenge { message } => {
            say(front, &ToSigner::Prove { signature: signed(&message, purpose, key).unwrap() })
        }
        other => Some(other),
    }
}
