//! Every verb for everybody, by `authorisation.txt`: a cell is one connection and one question.

use std::time::{Duration, Instant};

use ussh_core::certificate::Certificate;
use ussh_core::enroll::{self, Claims, HostToken};
use ussh_core::keys::PrivateKey;
use usshca_ipc::admin::{Cursor, Find, Reply, Request, Revoke, Supposed};
use usshca_ipc::front::{FromSigner, Purpose, ToSigner, Verb, Wish};
use usshca_ipc::host::{HostAnswer, HostAsk};

use crate::harness::{FrontEnd, MANY, Signer, Worker, new_key, prove, say};

const TABLE: &str = include_str!("authorisation.txt");

/// An administrator's login is old after a second, so that the test need not wait for ten minutes.
const POLICY: &str = r#"
admins = { groups = ["ca-admins"], users = ["robot"], from = ["192.0.2.0/24"], login_seconds = LOGIN }

[[rule]]
name = "machines"
groups = ["machines"]
authentication = ["publickey"]
validity_seconds = 600
principals = ["%u"]

[[rule]]
name = "staff"
modes = ["inject", "client-key"]
validity_seconds = 600
principals = ["%u"]
"#;

/// What the questions are about, made before.
struct Ground {
    signer: Signer,
    /// A certificate that an administrator may revoke.
    serial: u64,
    /// A revocation that may be lifted.
    act: u64,
    /// A registered key that may be removed.
    fingerprint: String,
    machine: PrivateKey,
    robot: PrivateKey,
    web1: PrivateKey,
    web2: PrivateKey,
    /// A token that may be revoked.
    token: u64,
    next: std::cell::Cell<u64>,
}

/// Somebody on a connection of their own, in attempt 1.
struct Seat {
    front: FrontEnd,
    /// The connection's address.
    from: String,
    /// With which it would sign as a host.
    host: PrivateKey,
    since: Instant,
}

fn ground(login_seconds: u32) -> Ground {
    let signer = Signer::start(&POLICY.replace("LOGIN", &login_seconds.to_string()));
    let (machine, robot, other) = (new_key(), new_key(), new_key());
    signer.register("machine", &machine);
    signer.register("robot", &robot);
    signer.register("carol", &other);
    let fingerprint = other.public_key().fingerprint();
    let (web1, web2) = (new_key(), new_key());
    let (serial, act, token, next) = (0, 0, 0, 1.into());
    let mut ground = Ground { signer, serial, act, fingerprint, machine, robot, web1, web2, token, next };
    for (name, key) in [("web1", &ground.web1), ("web2", &ground.web2), ("web3", &new_key())] {
        let front = ground.seat("nobody").front;
        let granted = host(&front, enroll::Verb::Enroll, Some(&ground.token(name).1), key, &[]);
        assert!(matches!(granted, Some(FromSigner::Host(HostAnswer::Granted { .. }))), "{granted:?}");
    }
    ground.token = ground.token("web4").0;
    let victor = ground.seat("victor");
    ground.serial = match say(&victor.front, &issue(&new_key())).unwrap() {
        FromSigner::Issued { certificate, .. } => Certificate::parse(&certificate).unwrap().serial(),
        other => panic!("{other:?}"),
    };
    match ground.signer.admin(&Request::Revoke { what: Revoke::Key(key_fingerprint()), reason: "first".into() }) {
        Reply::Revoked(Some(done)) => ground.act = done.act,
        other => panic!("{other:?}"),
    }
    ground
}

fn key_fingerprint() -> String {
    new_key().public_key().fingerprint()
}

fn issue(key: &PrivateKey) -> ToSigner {
    ToSigner::Issue { attempt: 1, public_key: key.public_key().to_blob(), wish: Wish::default() }
}

/// A copy: the agent's keys are not to be had twice.
fn copy(key: &PrivateKey) -> PrivateKey {
    PrivateKey::from_openssh(&key.to_openssh("").unwrap()).unwrap()
}

/// What a host gets for a proof over the signer's nonce.
fn host(
    front: &FrontEnd,
    verb: enroll::Verb,
    token: Option<&PrivateKey>,
    key: &PrivateKey,
    names: &[&str],
) -> Option<FromSigner> {
    let Some(FromSigner::Host(HostAnswer::Nonce { nonce })) = say(front, &ToSigner::Host(HostAsk::Hello { verb }))
    else {
        panic!("no nonce");
    };
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let proof = Claims { verb, nonce: &nonce, names: &names }.sign(token, &[copy(key)]).unwrap();
    say(front, &ToSigner::Host(HostAsk::Prove(proof)))
}

impl Ground {
    /// A new token's number and key.
    fn token(&self, name: &str) -> (u64, PrivateKey) {
        let request = Request::HostToken { principals: vec![name.into()], life_seconds: 3600 };
        match self.signer.admin(&request) {
            Reply::HostToken { secret, token } => (token.id, HostToken::parse(secret.reveal()).unwrap().key().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn seat(&self, who: &str) -> Seat {
        let connection = self.next.replace(self.next.get() + 1);
        let from = if who == "elsewhere" {
            format!("198.51.100.{}", connection % 250)
        } else {
            format!("192.0.2.{}", connection % 250)
        };
        let front = self.signer.front(connection, from.parse().unwrap());
        let at = (connection, 1);
        let (pam, looks_up) = (Worker::Authenticates, Worker::LooksUp);
        let stated = match who {
            "anonymous" => {
                // Another connection's statement for the same attempt is not this one's.
                let other = self.next.replace(self.next.get() + 1);
                let _front = self.signer.front(other, from.parse().unwrap());
                self.signer.state((other, 1), pam, "root1", &["ca-admins"])
            }
            "named" => self.signer.state(at, looks_up, "alice", &["staff"]),
            "named-admin" => self.signer.state(at, looks_up, "root1", &["ca-admins"]),
            "victor" => self.signer.state(at, pam, "victor", &["staff"]),
            "user" => self.signer.state(at, pam, "alice", &["staff"]),
            "keyed" => self.signer.state(at, looks_up, "machine", &["machines"]),
            "keyed-admin" => self.signer.state(at, looks_up, "robot", &["machines"]),
            "admin" | "elsewhere" | "stale" => self.signer.state(at, pam, "root1", &["ca-admins"]),
            "nobody" | "host" | "other-host" => Ok(true),
            other => panic!("{other}"),
        };
        assert_eq!(stated, Ok(true));
        let key = match who {
            "keyed" => Some(&self.machine),
            "keyed-admin" => Some(&self.robot),
            _ => None,
        };
        if let Some(key) = key {
            assert_eq!(prove(&front, 1, Purpose::Login, key), Some(FromSigner::Proved));
        }
        let host = match who {
            "host" => copy(&self.web1),
            "other-host" => copy(&self.web2),
            _ => new_key(),
        };
        Seat { front, from, host, since: Instant::now() }
    }

    fn request(&self, verb: &str) -> Request {
        match verb {
            "list" => Request::List { before: u64::MAX, limit: MANY },
            "show" => Request::Show { serial: self.serial },
            "revoke" => Request::Revoke { what: Revoke::Serial(self.serial), reason: "by ssh".into() },
            "undo" => Request::Lift { act: self.act },
            "revocations" => Request::Revocations { before: u64::MAX, limit: MANY },
            "krl" => Request::Krl,
            "keys" => Request::Keys,
            "explain" => Request::Explain(Box::new(Supposed {
                user: "alice".into(),
                groups: vec![],
                source: "192.0.2.1".parse().unwrap(),
                time: None,
                authentication: "pam".into(),
                mode: "inject".into(),
                key_type: "ed25519".into(),
                wish: Wish::default(),
                reason_if_demanded: false,
            })),
            "host-sign" => Request::HostSign {
                public_key: new_key().public_key().to_blob(),
                principals: vec!["web1".into()],
                validity_seconds: Some(3600),
                take_key: false,
            },
            "key-register" => Request::KeyRegister {
                user: "mallory".into(),
                public_key: new_key().public_key().to_blob(),
                comment: String::new(),
            },
            "key-list" => Request::KeyList { user: None, before: u64::MAX, limit: MANY },
            "find" => {
                let find = Box::new(Find { user: Some("victor".into()), ..Find::default() });
                Request::Find { find, cursor: Cursor::NEWEST, limit: MANY }
            }
            "host-token" => Request::HostToken { principals: vec!["web9".into()], life_seconds: 60 },
            "host-tokens" => Request::HostTokens { before: u64::MAX, limit: MANY },
            "host-token-revoke" => Request::HostTokenRevoke { id: self.token },
            "host-list" => Request::Hosts { after: String::new(), limit: MANY },
            "host-show" => Request::HostShow { name: "web1".into() },
            "host-remove" => Request::HostRemove { name: "web3".into(), reason: "by ssh".into() },
            "replay" => Request::Recorded { since: 0, cursor: Cursor::NEWEST },
            "lost" => Request::Lost,
            "latest" => Request::Latest,
            "feed" => Request::Feed { valid_seconds: None, signed: true },
            "feed-key" => Request::FeedKey,
            "feed-key-rotate" => Request::FeedKeyRotate { to: None },
            "feed-key-handed-over" => Request::FeedKeyHandedOver { manifest: vec![1], signature: vec![1] },
            "key-remove" => Request::KeyRemove { fingerprint: self.fingerprint.clone() },
            other => panic!("{other}"),
        }
    }

    /// What comes of it, as the table has it.
    fn ask(&self, seat: &Seat, verb: &str) -> String {
        let mine = |verb| say(&seat.front, &ToSigner::Mine { attempt: 1, verb });
        let reply = match verb {
            "issue" => say(&seat.front, &issue(&new_key())),
            "sign" => {
                let key = new_key();
                match prove(&seat.front, 1, Purpose::ClientKey, &key) {
                    Some(FromSigner::Proved) => {
                        let public_key = key.public_key().to_blob();
                        say(&seat.front, &ToSigner::Certify { attempt: 1, public_key, wish: Wish::default() })
                    }
                    other => other,
                }
            }
            "whoami" => mine(Verb::WhoAmI),
            "list" => mine(Verb::List),
            "revoke-mine" => mine(Verb::Revoke),
            "krl" => mine(Verb::Krl),
            "host-enroll" => host(&seat.front, enroll::Verb::Enroll, Some(&new_key()), &seat.host, &[]),
            "host-renew" => host(&seat.front, enroll::Verb::Renew, None, &seat.host, &[]),
            "host-renew-web1" => host(&seat.front, enroll::Verb::Renew, None, &seat.host, &["web1"]),
            "host-report" => host(&seat.front, enroll::Verb::Report, None, &seat.host, &[]),
            "host-krl" => host(&seat.front, enroll::Verb::Krl, None, &seat.host, &[]),
            "feed" => say(&seat.front, &ToSigner::Feed { offset: 0 }),
            admin => {
                let request = Box::new(self.request(admin.strip_prefix("admin-").unwrap()));
                say(&seat.front, &ToSigner::Admin { attempt: 1, request })
            }
        };
        let cell = cell(verb, reply);
        if cell == "closed" {
            assert!(say(&seat.front, &ToSigner::Ways).is_none(), "the channel is open");
        }
        cell
    }
}

fn cell(verb: &str, reply: Option<FromSigner>) -> String {
    let message = match reply {
        Some(FromSigner::Refused { message } | FromSigner::Host(HostAnswer::Refused { message })) => message,
        Some(reply) => return if is_answer(verb, &reply) { "ok".to_owned() } else { format!("{reply:?}") },
        None => return "nothing".to_owned(),
    };
    let reasons = [
        ("closed", "The CA refuses this request."),
        ("proof", "does not know yet that it is you"),
        ("rule", "wants you to prove who you are by pam"),
        ("mode", "policy certifies no key of your own"),
        ("admins", "You are none of this CA's administrators."),
        ("network", "not administered from your address"),
        ("pam", "Administration takes a login by PAM"),
        ("stale", "You logged in too long ago"),
        ("machine", "This is done at the CA's machine alone."),
        ("token", "The CA does not know this token."),
        ("unknown", "The CA knows no host with the key"),
        ("names", "A host is renewed for the names that it has"),
        ("nobody", "its policy names nobody for that"),
    ];
    reasons
        .iter()
        .find(|(_, words)| message.contains(words))
        .map_or(message.clone(), |(reason, _)| (*reason).to_owned())
}

/// An answer to this question, and not to another.
fn is_answer(verb: &str, reply: &FromSigner) -> bool {
    let reply = match (verb, reply) {
        ("issue" | "sign", FromSigner::Issued { .. })
        | ("whoami", FromSigner::You { .. })
        | ("list", FromSigner::Yours { .. })
        | ("revoke-mine", FromSigner::RevokedYours { .. })
        | ("krl", FromSigner::Krl { .. })
        | ("host-renew" | "host-renew-web1", FromSigner::Host(HostAnswer::Granted { .. }))
        | ("host-report", FromSigner::Host(HostAnswer::Reported { .. }))
        | ("host-krl", FromSigner::Host(HostAnswer::Krl { .. }))
        | ("feed", FromSigner::Feed { .. }) => return true,
        (_, FromSigner::Admin(reply)) => reply,
        _ => return false,
    };
    matches!(
        (verb, &**reply),
        ("admin-list", Reply::List(_))
            | ("admin-show", Reply::Shown(_))
            | ("admin-revoke", Reply::Revoked(Some(_)))
            | ("admin-undo", Reply::Lifted { already: false, .. })
            | ("admin-revocations", Reply::Revocations(_))
            | ("admin-krl", Reply::Krl { .. })
            | ("admin-keys", Reply::Keys { .. })
            | ("admin-explain", Reply::Explained(_))
            | ("admin-host-sign", Reply::HostCertificate { .. })
            | ("admin-key-register", Reply::KeyRegistered { already: false })
            | ("admin-key-list", Reply::RegisteredKeys(_))
            | ("admin-key-remove", Reply::KeyRemoved { .. })
            | ("admin-find", Reply::Found { .. })
            | ("admin-host-token", Reply::HostToken { .. })
            | ("admin-host-tokens", Reply::HostTokens(_))
            | ("admin-host-token-revoke", Reply::HostTokenRevoked)
            | ("admin-host-list", Reply::Hosts(_))
            | ("admin-host-show", Reply::Host(_))
            | ("admin-host-remove", Reply::HostRemoved { .. })
    )
}

struct Table {
    people: Vec<&'static str>,
    rows: Vec<(&'static str, Vec<&'static str>)>,
}

/// The head is the last line of comment.
fn table() -> Table {
    let is_comment = |line: &&&str| line.starts_with('#');
    let lines: Vec<&str> = TABLE.lines().filter(|line| !line.trim().is_empty()).collect();
    let head = lines.iter().take_while(is_comment).last().unwrap();
    let people: Vec<&str> = head.split_ascii_whitespace().skip(1).collect();
    let rows: Vec<(&str, Vec<&str>)> = lines
        .iter()
        .skip_while(is_comment)
        .map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next().unwrap(), words.collect())
        })
        .collect();
    assert!(people.len() >= 11 && rows.len() >= 37 && rows.iter().all(|(_, cells)| cells.len() == people.len()));
    Table { people, rows }
}

/// Of what only administrators change.
fn changed_by_admins(signer: &Signer) -> (usize, usize, usize) {
    let revocations = signer.revocations().iter().filter(|act| !act.by.starts_with("user ")).count();
    (
        revocations,
        signer.registered_keys().len(),
        signer.rows().iter().filter(|row| row.authenticated.starts_with("admin ")).count(),
    )
}

#[test]
fn every_verb_is_for_those_of_the_table_and_refused_to_all_others_for_the_reason_in_it() {
    let table = table();
    let (fresh, short) = (ground(600), ground(1));
    let mut wrong = Vec::new();
    let mut cells = 0;
    for (column, who) in table.people.iter().enumerate() {
        let ground = if *who == "stale" { &short } else { &fresh };
        let seats: Vec<Seat> = table.rows.iter().map(|_| ground.seat(who)).collect();
        if let Some(last) = seats.last().filter(|_| *who == "stale") {
            while last.since.elapsed() < Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let before = changed_by_admins(&ground.signer);
        for (seat, (verb, cells_of_verb)) in seats.iter().zip(&table.rows) {
            let got = ground.ask(seat, verb);
            cells += 1;
            if got != cells_of_verb[column] {
                wrong.push(format!("{verb} by {who}: {got} instead of {}", cells_of_verb[column]));
            }
            if *verb == "admin-revoke" && *who == "admin" {
                let by = ground.signer.revocations()[0].by.clone();
                assert_eq!(by, format!("admin root1 from {}", seat.from));
            }
        }
        if *who != "admin" {
            assert_eq!(changed_by_admins(&ground.signer), before, "{who} has changed something");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cells, table.people.len() * table.rows.len());
    let rows = fresh.signer.rows();
    let hosts: Vec<_> = rows.iter().filter(|row| row.authenticated.starts_with("admin ")).collect();
    assert!(
        hosts.len() == 1 && hosts[0].kind == "host" && hosts[0].authenticated.starts_with("admin root1 from 192.0.2."),
        "{hosts:?}"
    );
    fresh.signer.end();
    short.signer.end();
}

#[test]
fn without_a_word_in_the_policy_nobody_administers_over_ssh() {
    let policy = POLICY.lines().filter(|line| !line.starts_with("admins")).collect::<Vec<_>>().join("\n");
    let signer = Signer::start(&policy);
    let front = signer.front(1, "192.0.2.1".parse().unwrap());
    // Not even root.
    assert_eq!(signer.state((1, 1), Worker::Authenticates, "root", &["root", "ca-admins"]), Ok(true));
    let reply = say(&front, &ToSigner::Admin { attempt: 1, request: Box::new(Request::Keys) });
    assert_eq!(cell("admin-keys", reply), "nobody");
    signer.end();
}
