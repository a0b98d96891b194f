//! A front that says anything: messages with random contents, messages with bytes changed, bytes that are no message, descriptors.
//!
//! The model beside it knows what the supervisor, the workers and the keys have really said. Whatever the signer gives must be owed to that, and the inventory must be what was given.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;

use ussh_core::certificate::Certificate;
use ussh_core::enroll::{self, Claims, NONCE_LEN};
use ussh_core::keys::PrivateKey;
use usshca_ipc::admin::{CertificateKind, Cursor, Find, Reply, Request, Revoke, Supposed};
use usshca_ipc::channel::{decode, encode};
use usshca_ipc::front::{Delivery, Ending, FromSigner, Purpose, ToSigner, Verb, Wish};
use usshca_ipc::host::{HostAnswer, HostAsk};

use crate::harness::{FrontEnd, Signer, Worker, answer, new_key, signed};

const POLICY: &str = r#"
admins = { users = ["root1"], from = ["192.0.2.0/25"] }
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
/// Who there is, and the group of each.
const PEOPLE: [(&str, &str); 5] =
    [("alice", "staff"), ("bob", "staff"), ("machine", "machines"), ("two", "both"), ("root1", "ca-admins")];
const HOST_VERBS: [enroll::Verb; 4] =
    [enroll::Verb::Enroll, enroll::Verb::Renew, enroll::Verb::Report, enroll::Verb::Krl];
/// Messages to a signer before the next one is started.
const ROUND: u32 = 1_500;

/// Numbers that look random and are the same for the same seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// What really happened in one attempt.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    user: usize,
    pam: bool,
    /// A registered key of the user signed the signer's message.
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
    front: FrontEnd,
    attempts: BTreeMap<u32, Attempt>,
    last_attempt: u32,
    asked: Option<Asked>,
    /// The key that proved itself to be certified, by attempt.
    possessed: BTreeMap<u32, Vec<u8>>,
    open: BTreeSet<u64>,
    /// Something was owed that has parts.
    in_parts: bool,
    /// For a host, if one was asked for.
    nonce: Option<[u8; NONCE_LEN]>,
}

impl Connection {
    fn could_be_answered(&self, message: &ToSigner) -> bool {
        match message {
            ToSigner::Prove { .. } => self.asked.is_some(),
            ToSigner::Certify { attempt, .. } => self.possessed.contains_key(attempt),
            ToSigner::Outcome { serial, .. } => self.open.contains(serial),
            ToSigner::Issue { attempt, .. }
            | ToSigner::Challenge { attempt, .. }
            | ToSigner::Demands { attempt, .. }
            | ToSigner::Mine { attempt, .. }
            | ToSigner::Ends { attempt, .. }
            | ToSigner::Admin { attempt, .. } => self.attempts.contains_key(attempt),
            // Of one part, most of the time.
            ToSigner::More => false,
            ToSigner::Host(HostAsk::Hello { .. }) => self.nonce.is_none(),
            ToSigner::Host(HostAsk::Prove(_)) => self.nonce.is_some(),
            _ => true,
        }
    }
}

struct World {
    random: Random,
    signer: Signer,
    /// With the user of whom each is registered, if any.
    keys: Vec<(PrivateKey, Option<usize>)>,
    next_connection: u64,
    /// What came: serial, user and address.
    issued: BTreeMap<u64, (String, String)>,
    hosts: BTreeSet<u64>,
    /// Signatures that were made, to be brought again.
    signatures: Vec<Vec<u8>>,
    counts: BTreeMap<&'static str, u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let signer = Signer::start(POLICY);
        let owners = [Some(0), Some(2), Some(3), Some(4), None, None];
        let keys: Vec<_> = owners.into_iter().map(|owner| (new_key(), owner)).collect();
        for (key, owner) in keys.iter().filter_map(|(key, owner)| Some((key, (*owner)?))) {
            signer.register(PEOPLE[owner].0, key);
        }
        World {
            random: Random(seed),
            signer,
            keys,
            next_connection: 1,
            issued: BTreeMap::new(),
            hosts: BTreeSet::new(),
            signatures: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    fn connect(&mut self) -> Connection {
        let number = self.next_connection;
        self.next_connection += 1;
        // The upper half of the network is not the administrators'.
        let from = format!("192.0.2.{}", 1 + self.random.below(250));
        let front = self.signer.front(number, from.parse().unwrap());
        let mut connection = Connection {
            number,
            from,
            front,
            attempts: BTreeMap::new(),
            last_attempt: 0,
            asked: None,
            possessed: BTreeMap::new(),
            open: BTreeSet::new(),
            in_parts: false,
            nonce: None,
        };
        if !self.random.one_in(4) {
            self.work(&mut connection);
        }
        connection
    }

    /// The supervisor starts a worker, and PAM says something, or a process that is no worker does.
    fn work(&mut self, connection: &mut Connection) {
        let attempt = connection.last_attempt + 1;
        let user = self.random.below(PEOPLE.len());
        let (name, group) = PEOPLE[user];
        let worker = if self.random.one_in(2) { Worker::Authenticates } else { Worker::LooksUp };
        if self.random.one_in(8) {
            let kept = self.signer.state_from(1, (connection.number, attempt), worker, name, &[group]);
            assert_ne!(kept, Ok(true), "a statement of somebody who is no worker");
        } else if self.signer.state((connection.number, attempt), worker, name, &[group]) == Ok(true) {
            connection.attempts.insert(attempt, Attempt { user, pam: worker == Worker::Authenticates, key: false });
        }
        connection.last_attempt = attempt;
    }

    fn attempt(&mut self, connection: &Connection) -> u32 {
        match self.random.below(16) {
            0 => u32::try_from(self.random.next() >> 32).unwrap(),
            1 => 0,
            2..14 => connection.last_attempt,
            _ => u32::try_from(self.random.below(connection.last_attempt as usize + 2)).unwrap(),
        }
    }

    fn public_key(&mut self) -> Vec<u8> {
        match self.random.below(12) {
            0 => self.random.bytes(200),
            1 => new_key().public_key().to_blob(),
            _ => {
                let which = self.random.below(self.keys.len());
                self.keys[which].0.public_key().to_blob()
            }
        }
    }

    fn serial(&mut self) -> u64 {
        let known: Vec<u64> = self.issued.keys().copied().collect();
        if known.is_empty() || self.random.one_in(4) { self.random.next() } else { *self.random.of(&known) }
    }

    fn text(&mut self) -> String {
        match self.random.below(4) {
            0 => String::from_utf8_lossy(&self.random.bytes(600)).into_owned(),
            1 => String::new(),
            _ => self.random.of(&PEOPLE).0.to_owned(),
        }
    }

    fn wish(&mut self) -> Wish {
        if !self.random.one_in(5) {
            return Wish::default();
        }
        let validity_seconds = self.random.one_in(2).then(|| self.random.next() >> self.random.below(64));
        let principals = (0..self.random.below(4)).map(|_| self.text()).collect();
        Wish { validity_seconds, principals, reason: self.text() }
    }

    fn request(&mut self) -> Request {
        let limit = u32::try_from(self.random.below(1000)).unwrap();
        match self.random.below(20) {
            12 => Request::Find {
                find: Box::new(Find { user: Some(self.text()), from: Some(self.text()), ..Find::default() }),
                cursor: Cursor { before: self.random.next(), floor: self.random.one_in(2).then(|| self.random.next()) },
                limit,
            },
            13 => Request::HostToken { principals: vec![self.text()], life_seconds: self.random.next() >> 50 },
            14 => Request::HostTokenRevoke { id: self.random.below(20) as u64 },
            15 => Request::HostRemove { name: self.text(), reason: self.text() },
            16 => Request::FeedKeyRotate { to: self.random.one_in(2).then(|| self.public_key()) },
            17 => Request::FeedKeyHandedOver { manifest: self.random.bytes(200), signature: self.random.bytes(100) },
            18 => Request::Feed { valid_seconds: Some(self.random.next()), signed: self.random.one_in(2) },
            19 => Request::Recorded { since: 0, cursor: Cursor::NEWEST },
            0 => Request::List { before: self.random.next(), limit },
            1 => Request::Revoke { what: self.revocation(), reason: self.text() },
            2 => Request::Lift { act: self.random.below(20) as u64 },
            3 => Request::Revocations { before: u64::MAX, limit },
            4 => Request::Krl,
            5 => Request::HostSign {
                public_key: self.public_key(),
                principals: vec![if self.random.one_in(2) { "web1".to_owned() } else { self.text() }],
                validity_seconds: self.random.one_in(2).then(|| self.random.next() >> 40),
                take_key: false,
            },
            6 => Request::Keys,
            7 => Request::Show { serial: self.serial() },
            8 => Request::Explain(Box::new(Supposed {
                user: self.text(),
                groups: vec![self.text()],
                source: "192.0.2.1".parse().unwrap(),
                time: Some(self.random.next()),
                authentication: "pam".into(),
                mode: self.text(),
                key_type: "ed25519".into(),
                wish: self.wish(),
                reason_if_demanded: false,
            })),
            // Not of the people: who owns which key is what the model rests on.
            9 => {
                Request::KeyRegister { user: "nobody-else".into(), public_key: self.public_key(), comment: self.text() }
            }
            10 => Request::KeyList { user: None, before: u64::MAX, limit },
            _ => Request::KeyRemove { fingerprint: self.text() },
        }
    }

    /// Not of a key that the model counts on.
    fn revocation(&mut self) -> Revoke {
        match self.random.below(4) {
            0 => Revoke::Serial(self.serial()),
            1 => Revoke::User(self.text()),
            2 => Revoke::KeyId { kind: CertificateKind::Host, key_id: self.text() },
            _ => Revoke::Key(new_key().public_key().fingerprint()),
        }
    }

    fn signature(&mut self, connection: &Connection) -> Vec<u8> {
        let key = self.random.below(self.keys.len());
        let made = match (&connection.asked, self.random.below(8)) {
            (_, 0) => Some(self.random.bytes(120)),
            (_, 1) if !self.signatures.is_empty() => Some(self.random.of(&self.signatures).clone()),
            (Some(asked), 2) => signed(&asked.message, asked.purpose, &self.keys[key].0),
            (Some(asked), _) => {
                let right = self.keys.iter().find(|(key, _)| key.public_key().to_blob() == asked.key);
                right.and_then(|(key, _)| signed(&asked.message, asked.purpose, key))
            }
            (None, _) => None,
        };
        let made = made.unwrap_or_else(|| self.random.bytes(120));
        self.signatures.push(made.clone());
        made
    }

    /// Mostly what could be answered: else most connections would be over before anything was earned on them.
    fn message(&mut self, connection: &Connection) -> ToSigner {
        loop {
            let message = self.any_message(connection);
            if connection.could_be_answered(&message) || self.random.one_in(20) {
                return message;
            }
        }
    }

    fn any_message(&mut self, connection: &Connection) -> ToSigner {
        let attempt = self.attempt(connection);
        let purpose = if self.random.one_in(2) { Purpose::Login } else { Purpose::ClientKey };
        match self.random.below(27) {
            24 => ToSigner::Host(HostAsk::Hello { verb: *self.random.of(&HOST_VERBS) }),
            25 => {
                // No host's key, and no token that there is.
                let mut nonce = [0; NONCE_LEN];
                nonce.copy_from_slice(&connection.nonce.unwrap_or_default());
                let verb = *self.random.of(&HOST_VERBS);
                let token = new_key();
                let token = self.random.one_in(2).then_some(&token);
                let names = [self.text()];
                let proof = Claims { verb, nonce: &nonce, names: &names }.sign(token, &[new_key()]).unwrap();
                ToSigner::Host(HostAsk::Prove(proof))
            }
            26 => ToSigner::Feed { offset: self.random.next() >> self.random.below(64) },
            16..20 => {
                let (attempt, public_key) = match connection.possessed.first_key_value() {
                    Some((attempt, key)) => (*attempt, key.clone()),
                    None => (attempt, self.public_key()),
                };
                ToSigner::Certify { attempt, public_key, wish: self.wish() }
            }
            20..24 => ToSigner::Prove { signature: self.signature(connection) },
            0..3 => ToSigner::Issue { attempt, public_key: self.public_key(), wish: self.wish() },
            3 => {
                let delivery = if self.random.one_in(2) { Delivery::Delivered } else { Delivery::Refused(self.text()) };
                let serial = match connection.open.first() {
                    Some(own) if !self.random.one_in(4) => *own,
                    _ => self.serial(),
                };
                ToSigner::Outcome { serial, delivery }
            }
            4 if self.random.one_in(4) => ToSigner::Ways,
            5 if self.random.one_in(4) => ToSigner::Knows { user: self.text(), key: self.public_key() },
            6 if self.random.one_in(4) => ToSigner::Impossible { user: self.text() },
            6 if self.random.one_in(4) => {
                let how = *self.random.of(&[Ending::Help, Ending::NoAgent, Ending::Command, Ending::OnlyThere]);
                ToSigner::Ends { attempt, how, typed: self.text().into_bytes() }
            }
            6 => ToSigner::Demands { attempt, by_key: self.random.one_in(2) },
            7 | 8 => ToSigner::Challenge { attempt, purpose, key: self.public_key() },
            9 | 10 => ToSigner::Prove { signature: self.signature(connection) },
            11 => {
                let proved = connection.possessed.get(&attempt).cloned();
                let public_key = proved.unwrap_or_else(|| self.public_key());
                ToSigner::Certify { attempt, public_key, wish: self.wish() }
            }
            4 | 5 | 12 => {
                let verb = *self.random.of(&[Verb::WhoAmI, Verb::List, Verb::Krl, Verb::Revoke]);
                ToSigner::Mine { attempt, verb }
            }
            13 | 14 => ToSigner::Admin { attempt, request: Box::new(self.request()) },
            _ => ToSigner::More,
        }
    }

    /// Bytes of a message, some of them changed; or no message at all. Never none: a packet of no bytes is an end.
    fn packet(&mut self, connection: &Connection) -> Vec<u8> {
        let mut bytes = encode(&self.message(connection)).unwrap().to_vec();
        match self.random.below(40) {
            0 => {
                let at = self.random.below(bytes.len());
                bytes[at] ^= 1 << self.random.below(8);
            }
            1 => bytes.truncate(1 + self.random.below(bytes.len())),
            2 => bytes.extend(self.random.bytes(40)),
            3 => bytes = self.random.bytes(2000),
            4 if self.random.one_in(4) => bytes = vec![self.random.next().to_le_bytes()[0]; 100_000],
            _ => {}
        }
        if bytes.is_empty() { vec![0xff] } else { bytes }
    }

    /// One packet and what comes of it; whether the connection goes on.
    fn talk(&mut self, connection: &mut Connection) -> bool {
        let packet = self.packet(connection);
        let file = self.random.one_in(30).then(|| File::open("/dev/null").unwrap());
        let descriptors: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        if connection.front.socket().send(&packet, &descriptors).is_err() {
            return false;
        }
        let Ok(message) = decode::<ToSigner>(&packet) else {
            assert_eq!(answer(&connection.front), None, "an answer to what is no message: {packet:?}");
            self.count("no message");
            return false;
        };
        let was_asked = match &message {
            ToSigner::Prove { .. } | ToSigner::Challenge { .. } => connection.asked.take(),
            _ => None,
        };
        let Some(reply) = answer(&connection.front) else {
            // Only what no front of ours does ends without a word, and that is what it was told.
            self.forget(connection, &message);
            return false;
        };
        self.judge(connection, &message, was_asked, &reply);
        self.forget(connection, &message);
        !matches!(&reply, FromSigner::Refused { message } if message == "The CA refuses this request.")
    }

    /// A statement is used up, whatever comes of it.
    fn forget(&mut self, connection: &mut Connection, message: &ToSigner) {
        if let ToSigner::Issue { attempt, .. } | ToSigner::Certify { attempt, .. } | ToSigner::Ends { attempt, .. } =
            message
        {
            connection.attempts.remove(attempt);
            connection.possessed.remove(attempt);
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Whatever is given must be owed.
    fn judge(&mut self, connection: &mut Connection, message: &ToSigner, asked: Option<Asked>, reply: &FromSigner) {
        let of = |attempt: &u32| connection.attempts.get(attempt).copied();
        match (message, reply) {
            (_, FromSigner::Refused { .. }) | (ToSigner::Host(_), FromSigner::Host(HostAnswer::Refused { .. })) => {
                self.count("refused");
            }
            (ToSigner::Host(HostAsk::Hello { .. }), FromSigner::Host(HostAnswer::Nonce { nonce })) => {
                connection.nonce = Some(*nonce);
                self.count("nonce");
            }
            (ToSigner::Feed { .. }, FromSigner::Feed { .. }) => self.count("feed"),
            (ToSigner::Issue { attempt, public_key, .. }, FromSigner::Issued { certificate, .. }) => {
                let attempt = of(attempt).expect("a certificate for a statement that there is not");
                self.owed(connection, attempt, public_key, certificate);
                self.count("issued");
            }
            (ToSigner::Certify { attempt, public_key, .. }, FromSigner::Issued { certificate, .. }) => {
                assert_eq!(connection.possessed.get(attempt), Some(public_key), "the key did not prove itself");
                let attempt = of(attempt).expect("a certificate for a statement that there is not");
                self.owed(connection, attempt, public_key, certificate);
                self.count("certified");
            }
            (ToSigner::Outcome { serial, .. }, FromSigner::Noted) => {
                assert!(connection.open.remove(serial), "the fate of {serial} was not its to tell");
                self.count("noted");
            }
            (ToSigner::Challenge { attempt, purpose, key }, FromSigner::Challenge { message }) => {
                assert!(of(attempt).is_some(), "a challenge for nobody");
                let (attempt, purpose) = (*attempt, *purpose);
                connection.asked = Some(Asked { attempt, purpose, key: key.clone(), message: message.clone() });
                self.count("challenged");
            }
            (ToSigner::Prove { signature }, FromSigner::Proved) => {
                let asked = asked.expect("proved without a challenge");
                let (key, owner) = self.keys.iter().find(|(key, _)| key.public_key().to_blob() == asked.key).unwrap();
                assert_eq!(Some(signature), signed(&asked.message, asked.purpose, key).as_ref(), "not its signature");
                let attempt = connection.attempts.get_mut(&asked.attempt).unwrap();
                let is_own = *owner == Some(attempt.user);
                assert!(asked.purpose == Purpose::ClientKey || is_own, "another's key let somebody in");
                attempt.key |= is_own;
                if asked.purpose == Purpose::ClientKey {
                    connection.possessed.insert(asked.attempt, asked.key);
                }
                self.count("proved");
            }
            (ToSigner::Mine { attempt, .. }, FromSigner::You { user, .. }) => {
                let attempt = of(attempt).unwrap();
                assert_eq!(user, PEOPLE[attempt.user].0);
                assert!(attempt.pam || attempt.key, "nobody proved to be {user}");
                self.count("who");
            }
            (
                ToSigner::Mine { attempt, .. },
                FromSigner::Yours { .. } | FromSigner::RevokedYours { .. } | FromSigner::Krl { .. },
            ) => {
                let attempt = of(attempt).unwrap();
                assert!(attempt.pam || attempt.key, "nobody proved to be {}", PEOPLE[attempt.user].0);
                if let FromSigner::Yours { rows, .. } = reply {
                    assert!(rows.iter().all(|row| row.key_id == PEOPLE[attempt.user].0), "another's rows: {rows:?}");
                }
                connection.in_parts = true;
                self.count("mine");
            }
            (ToSigner::Admin { attempt, .. }, FromSigner::Admin(reply)) => {
                let attempt = of(attempt).expect("administration by nobody");
                assert!(attempt.pam && PEOPLE[attempt.user].0 == "root1", "administration by {attempt:?}");
                let last: u8 = connection.from.rsplit('.').next().unwrap().parse().unwrap();
                assert!(last < 128, "administration from {}", connection.from);
                let is_machines = matches!(
                    &**reply,
                    Reply::Feed { .. }
                        | Reply::FeedKey { .. }
                        | Reply::Recorded { .. }
                        | Reply::Lost(_)
                        | Reply::Latest { .. }
                );
                assert!(!is_machines, "what is for the machine alone: {reply:?}");
                if let Reply::HostCertificate { serial, .. } = &**reply {
                    assert!(self.hosts.insert(*serial));
                }
                connection.in_parts = true;
                self.count("administered");
            }
            (ToSigner::More, FromSigner::Yours { .. } | FromSigner::Krl { .. } | FromSigner::Admin(_)) => {
                assert!(connection.in_parts, "a part of what was never owed");
                self.count("more");
            }
            (ToSigner::Demands { attempt, .. }, FromSigner::Demands { .. }) => assert!(of(attempt).is_some()),
            (ToSigner::Ways, FromSigner::Ways { .. })
            | (ToSigner::Knows { .. }, FromSigner::Known(_) | FromSigner::KnownRevoked) => self.count("asked"),
            (ToSigner::Ends { attempt, .. }, FromSigner::Noted) => {
                assert!(of(attempt).is_some(), "the end of nobody's login");
                self.count("ended");
            }
            (ToSigner::Impossible { .. }, FromSigner::Noted) => self.count("impossible"),
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
    fn account(self) -> BTreeMap<&'static str, u32> {
        self.signer.hears();
        let rows = self.signer.rows();
        let mut users = 0;
        for row in rows.iter().filter(|row| row.serial != 0) {
            match row.kind.as_str() {
                "user" => {
                    let (user, from) = self.issued.get(&row.serial).unwrap_or_else(|| panic!("{row:?} was not given"));
                    assert_eq!((&row.key_id, &row.from), (user, from));
                    users += 1;
                }
                _ => assert!(self.hosts.contains(&row.serial), "{row:?} was not given"),
            }
        }
        assert_eq!(users, self.issued.len());
        for act in self.signer.revocations() {
            let by = act.by.as_str();
            assert!(by.starts_with("user ") || by.starts_with("admin root1 from 192.0.2."), "{act:?}");
        }
        self.signer.end();
        self.counts
    }
}

/// `messages` of them, from a front that is another one when the signer has had enough of it.
fn fuzz(seed: u64, messages: u32) -> BTreeMap<&'static str, u32> {
    eprintln!("seed {seed:#x}");
    let mut world = World::new(seed);
    // Those that stay open beside the one that speaks: their statements are there to be stolen.
    let mut others: Vec<Connection> = Vec::new();
    let mut connection = world.connect();
    for _ in 0..messages {
        if world.random.one_in(6) {
            world.work(&mut connection);
        }
        let goes_on = world.talk(&mut connection);
        if !goes_on || world.random.one_in(40) {
            if goes_on && others.len() < 16 {
                others.push(connection);
            }
            let take = !others.is_empty() && world.random.one_in(4);
            connection = if take { others.swap_remove(0) } else { world.connect() };
        }
    }
    drop((connection, others));
    world.account()
}

#[test]
fn whatever_a_front_says_it_gets_nothing_but_what_workers_and_keys_have_earned() {
    let rounds = if std::env::var_os("USSH_SOAK").is_some() { 60 } else { 4 };
    let mut all: BTreeMap<&'static str, u32> = BTreeMap::new();
    for round in 0..rounds {
        for (what, count) in fuzz(0x5eed_0000_0001 + round * 0x9e37_79b9, ROUND) {
            *all.entry(what).or_default() += count;
        }
    }
    println!("{all:?}");
    // It is no test if nothing is ever granted, or nothing ever refused.
    for what in [
        "ended",
        "impossible",
        "issued",
        "certified",
        "noted",
        "proved",
        "who",
        "mine",
        "administered",
        "refused",
        "no message",
    ] {
        assert!(all.get(what).is_some_and(|count| *count >= 5), "{what}: {all:?}");
    }
}
