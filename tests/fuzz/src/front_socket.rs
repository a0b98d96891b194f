//! The signer's event loop, and fronts that say anything. The model beside it knows what workers and keys have really said: whatever is given must be owed to that, and must stand in the inventory.
//!
//! Input: steps of a byte for what happens and a byte for who or which; a packet as it stands has its length in two bytes, and then itself.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use ussh_core::certificate::Certificate;
use ussh_core::keys::PrivateKey;
use ussh_core::login_proof::{self, signed_data};
use ussh_os::process;
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::channel::{Channel, ChannelError, decode, encode};
use usshca_ipc::front::{Delivery, FromSigner, Purpose, ToSigner, Verb, Wish};
use usshca_ipc::host::{HostAnswer, HostAsk};
use usshca_ipc::signer::{Control, FromSignerControl, KeySetup, PolicyText, SignerSetup};
use usshca_ipc::worker::{Spoken, Statement, StatementReply};

const POLICY: &str = r#"
admins = { users = ["root1"] }
[[rule]]
name = "machines"
groups = ["machines"]
authentication = ["publickey"]
modes = ["inject", "client-key"]
validity_seconds = 600
principals = ["%u"]
[[rule]]
name = "both"
groups = ["both"]
authentication = ["publickey+pam"]
validity_seconds = 600
principals = ["%u"]
[[rule]]
name = "people"
modes = ["inject", "client-key"]
validity_seconds = 600
principals = ["%u"]
"#;
/// Who there is, and the group of each; a key of each is registered, but for the first one's.
const PEOPLE: [(&str, &str); 4] =
    [("alice", "staff"), ("machine", "machines"), ("two", "both"), ("root1", "ca-admins")];
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));
/// Steps of one input.
const MAX_STEPS: usize = 48;
/// Inputs before the next signer.
const ROUND: u32 = 500;

/// What really happened in one attempt.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    user: usize,
    pam: bool,
    key: bool,
}

/// A message of the signer's that is to be signed.
struct Asked {
    attempt: u32,
    purpose: Purpose,
    key: Vec<u8>,
    message: Vec<u8>,
}

struct Connection {
    number: u64,
    from: String,
    front: Channel<ToSigner, FromSigner>,
    attempts: BTreeMap<u32, Attempt>,
    last: u32,
    asked: Option<Asked>,
    /// Keys that proved themselves to be certified, by attempt.
    possessed: BTreeMap<u32, BTreeSet<Vec<u8>>>,
    open: BTreeSet<u64>,
    in_parts: bool,
}

/// A signer in a thread.
struct World {
    control: Option<Channel<Control, FromSignerControl>>,
    thread: Option<JoinHandle<Result<(), String>>>,
    _state: tempfile::TempDir,
    keys: Vec<PrivateKey>,
    /// Whose they were ever: user and wire form.
    registered: BTreeSet<(String, Vec<u8>)>,
    next_connection: u64,
    /// What came: serial, user and address.
    issued: BTreeMap<u64, (String, String)>,
    /// Of hosts.
    others: BTreeSet<u64>,
    signatures: Vec<Vec<u8>>,
    inputs: u32,
    /// Something was administered: what the next input finds is not what it would find alone.
    is_changed: bool,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// No certificate, no row and no answer but for what a worker said or a key signed.
pub fn front_socket(data: &[u8]) {
    // Whatever this one breaks, the next has a world of its own.
    let mut world = WORLD.take().unwrap_or_else(World::new);
    world.play(data);
    world.account();
    world.inputs += 1;
    if world.inputs < ROUND && !world.is_changed {
        WORLD.set(Some(world));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.control = None;
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(Ok(())))), "{ended:?}");
        }
    }
}

fn put_key(dir: &Path, name: &str) {
    let path = dir.join(name);
    fs::write(&path, PrivateKey::generate_ed25519().unwrap().to_openssh(name).unwrap().as_bytes()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
}

/// In memory, where there is such a place: what is on disk when is tried elsewhere.
fn new_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    folder
}

impl World {
    fn new() -> Self {
        let state = new_folder();
        ["user_ca", "host_ca", "feed_key"].iter().for_each(|name| put_key(state.path(), name));
        let uid = process::effective_uid();
        let setup = SignerSetup {
            state: state.path().to_owned(),
            policy: vec![PolicyText { name: "policy.toml".into(), folder: String::new(), text: POLICY.into() }],
            admin_uids: vec![uid],
            worker_uid: uid,
            listens: false,
            creates: true,
            only_policy: false,
            keys: KeySetup { ca_name: "ca".into(), feed_valid_seconds: 86_400, ..KeySetup::default() },
            side_job: None,
        };
        let (ours, theirs) = SeqPacket::pair().unwrap();
        // Before anything is said to it.
        theirs.attest_sender().unwrap();
        let thread = std::thread::spawn(move || usshca_signer::serve_here(&setup, theirs));
        let mut world = World {
            control: Some(Channel::new(ours)),
            thread: Some(thread),
            _state: state,
            keys: (1..=5).map(|seed| PrivateKey::ed25519_from_seed(&[seed; 32]).unwrap()).collect(),
            registered: BTreeSet::new(),
            next_connection: 1,
            issued: BTreeMap::new(),
            others: BTreeSet::new(),
            signatures: Vec::new(),
            inputs: 0,
            is_changed: false,
        };
        for (number, (user, _)) in PEOPLE.iter().enumerate().skip(1) {
            let (user, public_key) = ((*user).to_owned(), world.keys[number].public_key().to_blob());
            let request =
                Request::KeyRegister { user: user.clone(), public_key: public_key.clone(), comment: String::new() };
            assert!(matches!(world.admin(&request), Reply::KeyRegistered { .. }));
            world.registered.insert((user, public_key));
        }
        world
    }

    /// What the signer tells the supervisor is of no interest here, but must not pile up.
    fn announce(&self, message: &Control, end: &SeqPacket) {
        let control = self.control.as_ref().unwrap();
        while control.receive(Some(Duration::ZERO)).is_ok() {}
        control.send_with(message, &[end.as_fd()]).unwrap();
    }

    fn admin(&self, request: &Request) -> Reply {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        self.announce(&Control::NewAdmin, &theirs);
        let admin = Channel::<Request, Reply>::new(ours);
        admin.send(request).unwrap();
        admin.receive(PATIENCE).unwrap().message
    }

    fn connect(&mut self) -> Connection {
        let number = self.next_connection;
        self.next_connection += 1;
        let from = format!("192.0.2.{}", number % 250 + 1);
        let (front, theirs) = SeqPacket::pair().unwrap();
        let peer = format!("{from}:22").parse().unwrap();
        self.announce(&Control::NewFront { connection: number, peer }, &theirs);
        Connection {
            number,
            from,
            front: Channel::new(front),
            attempts: BTreeMap::new(),
            last: 0,
            asked: None,
            possessed: BTreeMap::new(),
            open: BTreeSet::new(),
            in_parts: false,
        }
    }

    fn play(&mut self, data: &[u8]) {
        let mut steps = Steps(data);
        // The second one is there for its statements to be stolen.
        let mut connections = [self.connect(), self.connect()];
        let mut here = 0;
        for _ in 0..MAX_STEPS {
            let Some((what, which)) = steps.next() else { return };
            let connection = &mut connections[here];
            let goes_on = match what % 16 {
                0 => {
                    here = 1 - here;
                    true
                }
                1 | 2 => self.work(connection, what % 16 == 1, which),
                3..6 => match self.message(connection, what % 16, which) {
                    Some(message) => self.talk(connection, &encode(&message).unwrap()),
                    None => true,
                },
                6 => self.prove(connection, which),
                7 => self.outcome(connection, which),
                8 => {
                    let all = [Verb::WhoAmI, Verb::List, Verb::Krl, Verb::Revoke];
                    let message = ToSigner::Mine { attempt: connection.last, verb: all[usize::from(which % 4)] };
                    self.talk(connection, &encode(&message).unwrap())
                }
                // An administrator's question as it stands.
                9 => {
                    let Some(packet) = steps.packet(which) else { return };
                    let Ok(request) = decode::<Request>(packet) else { continue };
                    let message = ToSigner::Admin { attempt: connection.last, request: Box::new(request) };
                    self.talk(connection, &encode(&message).unwrap())
                }
                _ => {
                    let Some(packet) = steps.packet(which) else { return };
                    // A packet of no bytes is an end.
                    packet.is_empty() || self.talk(connection, packet)
                }
            };
            if !goes_on {
                connections[here] = self.connect();
            }
        }
    }

    /// A worker speaks for this connection.
    fn work(&mut self, connection: &mut Connection, authenticates: bool, which: u8) -> bool {
        let user = usize::from(which) % PEOPLE.len();
        let (name, group) = PEOPLE[user];
        connection.last += 1;
        let (number, attempt) = (connection.number, connection.last);
        let worker_pid = i32::try_from(std::process::id()).unwrap();
        let (user_typed, patience_seconds) = (name.to_owned(), 60);
        let news = if authenticates {
            Control::NewWorker { connection: number, attempt, worker_pid, user: user_typed, patience_seconds }
        } else {
            Control::NewLookup { connection: number, attempt, worker_pid, user: user_typed, patience_seconds }
        };
        let (ours, theirs) = SeqPacket::pair().unwrap();
        theirs.attest_sender().unwrap();
        self.announce(&news, &theirs);
        drop(theirs);
        let ours = Channel::<Spoken, StatementReply>::new(ours);
        let statement = Statement { user: name.to_owned(), uid: 1000, groups: vec![group.to_owned()] };
        let is_kept = ours.send(&Spoken::Passed(statement)).is_ok()
            && ours.receive(PATIENCE).is_ok_and(|reply| reply.message == StatementReply::Kept);
        if is_kept {
            connection.attempts.insert(attempt, Attempt { user, pam: authenticates, key: false });
        }
        true
    }

    fn message(&self, connection: &Connection, what: u8, which: u8) -> Option<ToSigner> {
        let key = &self.keys[usize::from(which) % self.keys.len()];
        let public_key = key.public_key().to_blob();
        let attempt = if which & 0x80 == 0 { connection.last } else { connection.last.checked_sub(1)? };
        Some(match what {
            3 => ToSigner::Issue { attempt, public_key, wish: Wish::default() },
            4 => ToSigner::Certify { attempt, public_key, wish: Wish::default() },
            _ => {
                let purpose = if which & 0x40 == 0 { Purpose::Login } else { Purpose::ClientKey };
                ToSigner::Challenge { attempt, purpose, key: public_key }
            }
        })
    }

    /// By the key that was asked, by another one, or by what was signed before.
    fn prove(&mut self, connection: &mut Connection, which: u8) -> bool {
        let Some(asked) = &connection.asked else { return true };
        let all = self.keys.len();
        let right = self.keys.iter().position(|key| key.public_key().blob() == asked.key);
        let signature = match usize::from(which) % (all + 2) {
            old if old == all => self.signatures.last().cloned(),
            other if other > all || Some(other) == right => right.and_then(|key| signed(asked, &self.keys[key])),
            other => signed(asked, &self.keys[other]),
        };
        let Some(signature) = signature else { return true };
        self.signatures.truncate(16);
        self.signatures.push(signature.clone());
        self.talk(connection, &encode(&ToSigner::Prove { signature }).unwrap())
    }

    fn outcome(&mut self, connection: &mut Connection, which: u8) -> bool {
        let any = self.issued.keys().next_back().copied().unwrap_or(7);
        let serial = connection.open.first().copied().filter(|_| which & 2 == 0).unwrap_or(any);
        let delivery = if which & 1 == 0 { Delivery::Delivered } else { Delivery::Refused("no".to_owned()) };
        self.talk(connection, &encode(&ToSigner::Outcome { serial, delivery }).unwrap())
    }

    /// One packet and what comes of it; whether the connection goes on.
    fn talk(&mut self, connection: &mut Connection, packet: &[u8]) -> bool {
        if connection.front.socket().send(packet, &[]).is_err() {
            return false;
        }
        let reply = match connection.front.receive(PATIENCE) {
            Ok(received) => Some(received.message),
            Err(ChannelError::Io(e)) if e.kind() == std::io::ErrorKind::TimedOut => panic!("no answer to {packet:?}"),
            Err(_) => None,
        };
        let Ok(message) = decode::<ToSigner>(packet) else {
            assert_eq!(reply, None, "an answer to what is no message: {packet:?}");
            return false;
        };
        let goes_on = reply.as_ref().is_some_and(|reply| {
            self.judge(connection, &message, reply);
            !matches!(reply, FromSigner::Refused { message } if message == "The CA refuses this request.")
        });
        // Used up, whatever came of it.
        if let ToSigner::Issue { attempt, .. } | ToSigner::Certify { attempt, .. } | ToSigner::Ends { attempt, .. } =
            message
        {
            connection.attempts.remove(&attempt);
            connection.possessed.remove(&attempt);
        }
        if matches!(message, ToSigner::Prove { .. }) {
            connection.asked = None;
        }
        goes_on
    }

    /// Whatever is given must be owed.
    fn judge(&mut self, connection: &mut Connection, message: &ToSigner, reply: &FromSigner) {
        let of = |attempt: &u32| connection.attempts.get(attempt).copied();
        match (message, reply) {
            (ToSigner::Challenge { attempt, purpose, key }, FromSigner::Challenge { message }) => {
                assert!(of(attempt).is_some(), "a challenge for nobody");
                let (attempt, purpose, key, message) = (*attempt, *purpose, key.clone(), message.clone());
                connection.asked = Some(Asked { attempt, purpose, key, message });
            }
            (ToSigner::Challenge { .. }, FromSigner::Refused { .. }) => connection.asked = None,
            (_, FromSigner::Refused { .. }) | (ToSigner::Host(_), FromSigner::Host(HostAnswer::Refused { .. })) => {}
            (ToSigner::Host(HostAsk::Hello { .. }), FromSigner::Host(HostAnswer::Nonce { .. })) => {}
            (ToSigner::Feed { .. }, FromSigner::Feed { .. })
            | (ToSigner::Ways, FromSigner::Ways { .. })
            | (ToSigner::Knows { .. }, FromSigner::Known(_) | FromSigner::KnownRevoked)
            | (ToSigner::Impossible { .. }, FromSigner::Noted) => {}
            (ToSigner::Ends { attempt, .. }, FromSigner::Noted) => assert!(of(attempt).is_some()),
            (ToSigner::Demands { attempt, .. }, FromSigner::Demands { .. }) => assert!(of(attempt).is_some()),
            (ToSigner::Issue { attempt, public_key, .. }, FromSigner::Issued { certificate, .. }) => {
                let attempt = of(attempt).expect("a certificate for a statement that there is not");
                self.owed(connection, attempt, public_key, certificate);
            }
            (ToSigner::Certify { attempt, public_key, .. }, FromSigner::Issued { certificate, .. }) => {
                let proved = connection.possessed.get(attempt).is_some_and(|keys| keys.contains(public_key));
                assert!(proved, "the key did not prove itself");
                let attempt = of(attempt).expect("a certificate for a statement that there is not");
                self.owed(connection, attempt, public_key, certificate);
            }
            (ToSigner::Outcome { serial, .. }, FromSigner::Noted) => {
                assert!(connection.open.remove(serial), "the fate of {serial} was not its to tell");
            }
            (ToSigner::Prove { signature }, FromSigner::Proved) => {
                let asked = connection.asked.take().expect("proved without a challenge");
                let key =
                    self.keys.iter().find(|key| key.public_key().blob() == asked.key).expect("a key that is ours");
                assert_eq!(Some(signature), signed(&asked, key).as_ref(), "not its signature");
                let attempt = connection.attempts.get_mut(&asked.attempt).unwrap();
                let is_own = self.registered.contains(&(PEOPLE[attempt.user].0.to_owned(), asked.key.clone()));
                assert!(asked.purpose == Purpose::ClientKey || is_own, "another's key let somebody in");
                attempt.key |= is_own;
                if asked.purpose == Purpose::ClientKey {
                    connection.possessed.entry(asked.attempt).or_default().insert(asked.key);
                }
            }
            (
                ToSigner::Mine { attempt, .. },
                FromSigner::You { .. }
                | FromSigner::Yours { .. }
                | FromSigner::RevokedYours { .. }
                | FromSigner::Krl { .. },
            ) => {
                let attempt = of(attempt).expect("somebody's own without anybody");
                let name = PEOPLE[attempt.user].0;
                assert!(attempt.pam || attempt.key, "nobody proved to be {name}");
                if let FromSigner::You { user, .. } = reply {
                    assert_eq!(user, name);
                }
                if let FromSigner::Yours { rows, .. } = reply {
                    assert!(rows.iter().all(|row| row.key_id == name), "{rows:?}");
                }
                self.is_changed |= matches!(reply, FromSigner::RevokedYours { .. });
                connection.in_parts = true;
            }
            (ToSigner::Admin { attempt, request }, FromSigner::Admin(reply)) => {
                let attempt = of(attempt).expect("administration by nobody");
                assert!(attempt.pam && PEOPLE[attempt.user].0 == "root1", "administration by {attempt:?}");
                let is_machines = matches!(
                    &**reply,
                    Reply::Feed { .. }
                        | Reply::FeedKey { .. }
                        | Reply::Recorded { .. }
                        | Reply::Lost(_)
                        | Reply::Latest { .. }
                );
                assert!(!is_machines, "what is for the machine alone: {reply:?}");
                match (&**request, &**reply) {
                    (_, Reply::HostCertificate { serial, .. }) => assert!(self.others.insert(*serial)),
                    (Request::KeyRegister { user, public_key, .. }, Reply::KeyRegistered { .. }) => {
                        self.registered.insert((user.clone(), public_key.clone()));
                    }
                    _ => {}
                }
                self.is_changed = true;
                connection.in_parts = true;
            }
            (ToSigner::More, FromSigner::Yours { .. } | FromSigner::Krl { .. } | FromSigner::Admin(_)) => {
                assert!(connection.in_parts, "a part of what was never owed");
            }
            (message, reply) => panic!("{message:?}: {reply:?}"),
        }
    }

    /// A certificate for exactly the one whom the worker passed, or who signed the signer's message.
    fn owed(&mut self, connection: &mut Connection, attempt: Attempt, public_key: &[u8], certificate: &[u8]) {
        let certificate = Certificate::parse(certificate).unwrap();
        let (user, group) = PEOPLE[attempt.user];
        let enough = match group {
            "machines" => attempt.key,
            "both" => attempt.key && attempt.pam,
            _ => attempt.pam,
        };
        assert!(enough, "a certificate for {user} after {attempt:?}");
        assert_eq!(certificate.key_id(), user.as_bytes());
        assert_eq!(certificate.principals(), [user.as_bytes()]);
        assert_eq!(certificate.public_key().blob(), public_key);
        let serial = certificate.serial();
        let new = self.issued.insert(serial, (user.to_owned(), connection.from.clone())).is_none();
        assert!(new && connection.open.insert(serial), "serial {serial} twice");
    }

    /// The inventory holds what was given, with the kernel's word on where it went, and nothing else.
    fn account(&self) {
        if self.issued.is_empty() {
            return;
        }
        let Reply::List(rows) = self.admin(&Request::List { before: u64::MAX, limit: 200 }) else { panic!("no list") };
        let all: BTreeMap<u64, _> = rows.iter().filter(|row| row.serial != 0).map(|row| (row.serial, row)).collect();
        for (serial, row) in &all {
            match self.issued.get(serial) {
                Some((user, from)) => assert_eq!((&row.key_id, &row.from), (user, from)),
                None => assert!(self.others.contains(serial), "{row:?} was not given"),
            }
        }
        let (serial, _) = self.issued.last_key_value().unwrap();
        assert!(all.contains_key(serial), "serial {serial} was given and is not there");
    }
}

/// A signature over a message of the signer's.
fn signed(asked: &Asked, key: &PrivateKey) -> Option<Vec<u8>> {
    let purpose = match asked.purpose {
        Purpose::Login => login_proof::Purpose::Login,
        Purpose::ClientKey => login_proof::Purpose::ClientKey,
    };
    // By whomever: the message is about the key that was asked.
    let right = ussh_core::keys::PublicKey::from_blob(&asked.key).ok()?;
    key.sign(&signed_data(&asked.message, &right, purpose)?).ok()
}

/// What is left of an input.
struct Steps<'a>(&'a [u8]);

impl<'a> Steps<'a> {
    fn next(&mut self) -> Option<(u8, u8)> {
        let ([what, which], rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some((*what, *which))
    }

    /// Its length is the byte before and the next one.
    fn packet(&mut self, low: u8) -> Option<&'a [u8]> {
        let (high, rest) = self.0.split_first()?;
        let (packet, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, *high])))?;
        self.0 = rest;
        Some(packet)
    }
}
