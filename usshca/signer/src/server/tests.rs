#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
//! The real event loop, over real sockets, in a thread.

mod hosts;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::keys::PrivateKey;
use usshca_ipc::admin::{Entry, Reply, Request, Revoke, Revoked};
use usshca_ipc::front::{Delivery, FromSigner, ToSigner, Wish};
use usshca_ipc::worker::{Spoken, Statement, StatementReply};

use super::*;
use crate::ca_keys::CaKeys;
use crate::inventory::Inventory;
use usshca_ipc::signer::KeySetup;

const POLICY: &str = "[[rule]]\nname=\"staff\"\ngroups=[\"staff\"]\nvalidity_seconds=600\nprincipals=[\"%u\"]\n";

fn policy() -> Vec<PolicyText> {
    vec![PolicyText { name: "policy.toml".into(), folder: String::new(), text: POLICY.into() }]
}

const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

type FrontEnd = Channel<ToSigner, FromSigner>;
type WorkerEnd = Channel<Spoken, StatementReply>;
type AdminEnd = Channel<Request, Reply>;

struct World {
    dir: tempfile::TempDir,
    control: Channel<Control, FromSignerControl>,
    thread: JoinHandle<Result<(), ServeError>>,
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

fn own_uid() -> u32 {
    ussh_os::process::effective_uid()
}

fn world() -> World {
    world_with(own_uid(), vec![own_uid()])
}

fn world_with(worker_uid: u32, admin_uids: Vec<u32>) -> World {
    world_where(worker_uid, admin_uids, |_| {})
}

fn world_where(worker_uid: u32, admin_uids: Vec<u32>, change: fn(&mut Server)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = SeqPacket::pair().unwrap();
    theirs.attest_sender().unwrap();
    let keys = CaKeys {
        user: Arc::new(PrivateKey::generate_ed25519().unwrap().try_into().unwrap()),
        host: PrivateKey::generate_ed25519().unwrap().try_into().unwrap(),
    };
    let setup = SignerSetup {
        state: dir.path().to_owned(),
        policy: policy(),
        admin_uids,
        worker_uid,
        listens: true,
        only_policy: false,
        side_job: None,
        creates: true,
        keys: KeySetup::default(),
    };
    let listener = SeqPacketListener::bind(&dir.path().join("admin.sock"), 0o600).unwrap();
    let database = dir.path().join("inventory.db");
    let thread = std::thread::spawn(move || {
        let inventory = Inventory::create(&database).unwrap();
        let ca = Ca::new(keys, Policy::of(&policy()).unwrap(), inventory, Box::new(SystemClock));
        let mut server = Server::new(ca, &setup, Channel::new(theirs), Some(listener)).unwrap();
        change(&mut server);
        server.run()
    });
    World { dir, control: Channel::new(ours), thread }
}

impl World {
    fn front(&self, connection: u64) -> FrontEnd {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        let peer = format!("192.0.2.{connection}:22").parse().unwrap();
        self.control.send_with(&Control::NewFront { connection, peer }, &[theirs.as_fd()]).unwrap();
        Channel::new(ours)
    }

    fn worker(&self, connection: u64, attempt: u32, worker_pid: i32) -> WorkerEnd {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        // As the supervisor does: what is sent before the signer has its end is attested too.
        theirs.attest_sender().unwrap();
        self.control
            .send_with(
                &Control::NewWorker {
                    connection,
                    attempt,
                    worker_pid,
                    user: "somebody".to_owned(),
                    patience_seconds: 60,
                },
                &[theirs.as_fd()],
            )
            .unwrap();
        Channel::new(ours)
    }

    /// All that was said on the control channel before has been taken in when the answer is there.
    fn hears(&self) {
        self.control.send(&Control::Hears).unwrap();
        loop {
            match self.control.receive(PATIENCE).unwrap().message {
                FromSignerControl::LoggedIn { .. } | FromSignerControl::Counts(_) | FromSignerControl::Changed => {}
                other => return assert_eq!(other, FromSignerControl::Hears),
            }
        }
    }

    fn admin(&self) -> AdminEnd {
        Channel::new(ussh_os::seqpacket::connect(&self.dir.path().join("admin.sock")).unwrap())
    }

    fn rows(&self) -> Vec<Entry> {
        match ask(&self.admin(), Request::List { before: u64::MAX, limit: 500 }) {
            Reply::List(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    fn row(&self, serial: u64) -> Entry {
        self.rows().into_iter().find(|r| r.serial == serial).unwrap()
    }

    /// Waits until the newest row reads like this: what a closed channel leads to comes a moment later.
    fn wait_for_outcome(&self, serial: u64, outcome: &str) {
        let start = std::time::Instant::now();
        while self.row(serial).outcome != outcome {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", self.row(serial));
            std::thread::yield_now();
        }
    }

    /// The control channel's end ends the loop.
    fn end(self) -> tempfile::TempDir {
        drop(self.control);
        self.thread.join().unwrap().unwrap();
        self.dir
    }

    /// A front whose user has passed in attempt 1.
    fn passed(&self, connection: u64) -> FrontEnd {
        let front = self.front(connection);
        let worker = self.worker(connection, 1, own_pid());
        assert_eq!(state(&worker, "alice", &["staff"]), StatementReply::Kept);
        front
    }
}

fn state(worker: &WorkerEnd, user: &str, groups: &[&str]) -> StatementReply {
    let groups = groups.iter().map(|&g| g.to_owned()).collect();
    worker.send(&Spoken::Passed(Statement { user: user.to_owned(), uid: 1000, groups })).unwrap();
    worker.receive(PATIENCE).unwrap().message
}

fn issue(front: &FrontEnd, attempt: u32) -> FromSigner {
    let public_key = PrivateKey::generate_ed25519().unwrap().public_key().to_blob();
    front.send(&ToSigner::Issue { attempt, public_key, wish: Wish::default() }).unwrap();
    front.receive(PATIENCE).unwrap().message
}

fn serial(reply: &FromSigner) -> u64 {
    match reply {
        FromSigner::Issued { certificate, .. } => Certificate::parse(certificate).unwrap().serial(),
        other => panic!("{other:?}"),
    }
}

fn outcome(front: &FrontEnd, serial: u64, delivery: Delivery) -> FromSigner {
    front.send(&ToSigner::Outcome { serial, delivery }).unwrap();
    front.receive(PATIENCE).unwrap().message
}

fn ask(admin: &AdminEnd, request: Request) -> Reply {
    admin.send(&request).unwrap();
    admin.receive(PATIENCE).unwrap().message
}

fn assert_closed<Out: serde::Serialize, In: serde::de::DeserializeOwned + std::fmt::Debug>(channel: &Channel<Out, In>) {
    match channel.receive(PATIENCE) {
        Err(ChannelError::Closed) => {}
        // Closed with unread data.
        Err(ChannelError::Io(e)) if e.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

fn assert_refused_and_closed(front: &FrontEnd, reply: &FromSigner) {
    assert!(matches!(reply, FromSigner::Refused { .. }), "{reply:?}");
    assert_closed(front);
}

#[test]
fn a_statement_an_issue_an_outcome() {
    let world = world();
    let front = world.passed(7);
    let issued = issue(&front, 1);
    match &issued {
        FromSigner::Issued { certificate, lifetime_seconds, confirm, rule, comment } => {
            let certificate = Certificate::parse(certificate).unwrap();
            assert_eq!(certificate.key_id(), b"alice");
            assert_eq!(certificate.principals(), [b"alice".to_vec()]);
            assert!((595..=600).contains(lifetime_seconds), "{lifetime_seconds}");
            assert_eq!((*confirm, rule.as_str()), (false, "staff"));
            assert_eq!(*comment, format!("ussh alice serial {}", certificate.serial()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.row(serial(&issued)).outcome, "signed");
    assert_eq!(outcome(&front, serial(&issued), Delivery::Delivered), FromSigner::Noted);
    let row = world.row(serial(&issued));
    assert_eq!((row.outcome.as_str(), row.from.as_str()), ("delivered", "192.0.2.7"));
    drop(front);
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn the_supervisor_hears_that_it_is_heard_whatever_else_is_going_on() {
    let world = world();
    world.hears();
    let front = world.passed(1);
    world.hears();
    assert!(matches!(issue(&front, 1), FromSigner::Issued { .. }));
    world.hears();
}

/// What others had it told may have taken all the room: a supervisor that is not answered ends a healthy signer.
#[test]
fn the_supervisor_hears_it_late_where_there_was_no_room_for_the_answer() {
    let world = world_where(own_uid(), vec![own_uid()], |server| {
        rustix::net::sockopt::set_socket_send_buffer_size(server.control.socket(), 1).unwrap();
    });
    let _fronts: Vec<FrontEnd> = (1..=32).map(|connection| world.passed(connection)).collect();
    world.control.send(&Control::Hears).unwrap();
    // In order: once this front is served, the question was taken.
    let front = world.front(33);
    front.send(&ToSigner::Ways).unwrap();
    assert!(matches!(front.receive(PATIENCE).unwrap().message, FromSigner::Ways { .. }));
    let mut logins = 0;
    loop {
        match world.control.receive(PATIENCE).unwrap().message {
            FromSignerControl::LoggedIn { .. } => logins += 1,
            FromSignerControl::Hears => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(logins < 32, "there was room");
    world.hears();
}

#[test]
fn a_front_without_a_statement_gets_nothing() {
    let world = world();
    let front = world.front(1);
    let reply = issue(&front, 1);
    assert_refused_and_closed(&front, &reply);
    // A worker that is there but has not spoken is no statement.
    let front = world.front(2);
    let worker = world.worker(2, 1, own_pid());
    let reply = issue(&front, 1);
    assert_refused_and_closed(&front, &reply);
    assert_closed(&worker);
    // Nobody had passed, and that is what stands there.
    let [row] = world.rows().try_into().unwrap();
    assert_eq!((row.serial, row.outcome.as_str()), (0, "refused: left before PAM had decided"));
}

#[test]
fn a_statement_is_good_for_one_issue() {
    let world = world();
    let front = world.passed(1);
    let first = serial(&issue(&front, 1));
    let reply = issue(&front, 1);
    assert_refused_and_closed(&front, &reply);
    world.wait_for_outcome(first, "undelivered: the connection ended before the delivery was confirmed");
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn a_statement_whose_issue_was_refused_is_used_up() {
    let world = world();
    let front = world.passed(1);
    front.send(&ToSigner::Issue { attempt: 1, public_key: b"junk".to_vec(), wish: Wish::default() }).unwrap();
    assert!(matches!(front.receive(PATIENCE).unwrap().message, FromSigner::Refused { .. }));
    let reply = issue(&front, 1);
    assert_refused_and_closed(&front, &reply);
}

#[test]
fn a_statement_is_good_for_a_bounded_time() {
    let world = world_where(own_uid(), vec![own_uid()], |server| server.statement_life = Duration::ZERO);
    let front = world.passed(1);
    match issue(&front, 1) {
        FromSigner::Refused { message } => assert!(message.contains("Log in again"), "{message}"),
        other => panic!("{other:?}"),
    }
    let [row] = world.rows().try_into().unwrap();
    assert_eq!(
        (row.serial, row.authenticated.as_str(), row.outcome.as_str()),
        (0, "pam (tried pam)", "refused: too late")
    );
}

#[test]
fn a_statement_is_good_on_its_connection_and_for_its_attempt_only() {
    let world = world();
    let _passed = world.passed(1);
    let other = world.front(2);
    let reply = issue(&other, 1);
    assert_refused_and_closed(&other, &reply);
    let front = world.passed(3);
    let reply = issue(&front, 2);
    assert_refused_and_closed(&front, &reply);
    assert!(world.rows().is_empty());
}

#[test]
fn a_second_attempt_may_pass_after_a_first_that_did_not() {
    let world = world();
    let front = world.front(1);
    drop(world.worker(1, 1, own_pid()));
    let worker = world.worker(1, 2, own_pid());
    assert_eq!(state(&worker, "alice", &["staff"]), StatementReply::Kept);
    assert_ne!(serial(&issue(&front, 2)), 0);
}

#[test]
fn a_statement_from_another_pid_is_not_taken() {
    let world = world();
    let front = world.front(1);
    let worker = world.worker(1, 1, own_pid() + 1);
    assert_eq!(state(&worker, "alice", &["staff"]), StatementReply::Rejected);
    assert_closed(&worker);
    let reply = issue(&front, 1);
    assert_refused_and_closed(&front, &reply);
}

#[test]
fn a_statement_from_another_uid_is_not_taken() {
    let world = world_with(own_uid() + 1, vec![own_uid()]);
    let front = world.front(1);
    let worker = world.worker(1, 1, own_pid());
    assert_eq!(state(&worker, "alice", &["staff"]), StatementReply::Rejected);
    let reply = issue(&front, 1);
    assert_refused_and_closed(&front, &reply);
}

#[test]
fn a_worker_speaks_once() {
    let world = world();
    let _front = world.front(1);
    let worker = world.worker(1, 1, own_pid());
    assert_eq!(state(&worker, "alice", &["staff"]), StatementReply::Kept);
    assert_closed(&worker);
    let again = worker.send(&Spoken::Passed(Statement { user: "root".into(), uid: 0, groups: vec![] }));
    assert!(again.is_err());
}

#[test]
fn statements_without_a_usable_account_are_not_taken() {
    let world = world();
    for (connection, user) in [(1, String::new()), (2, "a".repeat(257))] {
        let _front = world.front(connection);
        let worker = world.worker(connection, 1, own_pid());
        assert_eq!(state(&worker, &user, &[]), StatementReply::Rejected);
    }
}

#[test]
fn an_attempt_is_announced_once_and_in_order() {
    let world = world();
    let front = world.passed(1);
    for attempt in [1, 0] {
        assert_closed(&world.worker(1, attempt, own_pid()));
    }
    assert_closed(&world.worker(99, 1, own_pid()));
    assert_ne!(serial(&issue(&front, 1)), 0);
}

#[test]
fn outcomes_are_for_own_serials_and_once() {
    let world = world();
    let (one, two) = (world.passed(1), world.passed(2));
    let (first, second) = (serial(&issue(&one, 1)), serial(&issue(&two, 1)));
    let reply = outcome(&two, first, Delivery::Delivered);
    assert_refused_and_closed(&two, &reply);
    assert_eq!(world.row(first).outcome, "signed");
    world.wait_for_outcome(second, "undelivered: the connection ended before the delivery was confirmed");
    let no_agent = Delivery::Refused("no agent\x1b was forwarded".into());
    assert_eq!(outcome(&one, first, no_agent), FromSigner::Noted);
    assert_eq!(world.row(first).outcome, "undelivered: no agent\\x1b was forwarded");
    let reply = outcome(&one, first, Delivery::Delivered);
    assert_refused_and_closed(&one, &reply);
    assert_eq!(world.row(first).outcome, "undelivered: no agent\\x1b was forwarded");
    let three = world.front(3);
    let reply = outcome(&three, first + 1000, Delivery::Delivered);
    assert_refused_and_closed(&three, &reply);
}

#[test]
fn an_outcome_sent_just_before_the_end_counts() {
    let world = world();
    let front = world.passed(1);
    let number = serial(&issue(&front, 1));
    front.send(&ToSigner::Outcome { serial: number, delivery: Delivery::Delivered }).unwrap();
    drop(front);
    world.wait_for_outcome(number, "delivered");
}

#[test]
fn a_front_that_talks_nonsense_is_closed_and_the_others_go_on() {
    let world = world();
    let good = world.passed(1);
    for nonsense in [&b"\xff\xff\xff"[..], b"\x00", &[0; 4096]] {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        let peer = "192.0.2.1:1".parse().unwrap();
        world.control.send_with(&Control::NewFront { connection: 9, peer }, &[theirs.as_fd()]).unwrap();
        drop(theirs);
        ours.send(nonsense, &[]).unwrap();
        assert_closed(&Channel::<ToSigner, FromSigner>::new(ours));
    }
    assert_ne!(serial(&issue(&good, 1)), 0);
}

#[test]
fn a_connection_is_announced_once() {
    let world = world();
    let front = world.passed(1);
    assert_closed(&world.front(1));
    assert_ne!(serial(&issue(&front, 1)), 0);
}

#[test]
fn policy_refuses_and_the_front_may_try_again() {
    let world = world();
    let front = world.front(1);
    let worker = world.worker(1, 1, own_pid());
    assert_eq!(state(&worker, "mallory", &["visitors"]), StatementReply::Kept);
    match issue(&front, 1) {
        FromSigner::Refused { message } => assert!(message.contains("policy"), "{message}"),
        other => panic!("{other:?}"),
    }
    let worker = world.worker(1, 2, own_pid());
    assert_eq!(state(&worker, "alice", &["staff"]), StatementReply::Kept);
    let number = serial(&issue(&front, 2));
    let rows = world.rows();
    assert_eq!(rows.iter().map(|r| r.serial).collect::<Vec<_>>(), [number, 0]);
    assert_eq!(rows[1].outcome, "refused: no rule of the policy matches");
}

#[test]
fn what_is_open_when_the_supervisor_ends_is_noted() {
    let world = world();
    let front = world.passed(1);
    let number = serial(&issue(&front, 1));
    let dir = world.end();
    let row =
        Inventory::open(&dir.path().join("inventory.db"), SystemClock.now()).unwrap().find(number).unwrap().unwrap();
    assert_eq!(row.entry.outcome, "undelivered: the CA stopped before the delivery was confirmed");
}

#[test]
fn administrators_are_those_named_and_nobody_else() {
    let world = world_with(own_uid(), vec![own_uid() + 1]);
    let stranger = world.admin();
    // It may be gone before it could ask.
    let _ = stranger.send(&Request::Keys);
    assert_closed(&stranger);
}

#[test]
fn what_is_yet_to_be_issued_cannot_be_revoked_by_time() {
    let world = world();
    let admin = world.admin();
    let now = ussh_core::clock::Clock::now(&ussh_core::clock::SystemClock).0;
    let before = |time| {
        let what = Revoke::Before { kind: usshca_ipc::admin::CertificateKind::User, time };
        ask(&admin, Request::Revoke { what, reason: String::new() })
    };
    let Reply::Refused(why) = before(now + 3600) else { panic!("taken") };
    assert!(why.starts_with("only what was issued up to now can be revoked"), "{why}");
    assert!(matches!(before(now), Reply::Revoked(Some(_))));
}

#[test]
fn administrators_list_show_revoke_and_sign_hosts() {
    let world = world();
    let front = world.passed(1);
    let number = serial(&issue(&front, 1));
    let admin = world.admin();
    match ask(&admin, Request::Show { serial: number }) {
        Reply::Shown(shown) => {
            assert_eq!(shown.entry.serial, number);
            assert_eq!(Certificate::from_openssh(&shown.certificate.unwrap()).unwrap().serial(), number);
            assert_eq!(shown.revoked_by, None);
        }
        other => panic!("{other:?}"),
    }
    let revoke = |serial| ask(&admin, Request::Revoke { what: Revoke::Serial(serial), reason: "lost".into() });
    assert_eq!(revoke(number), Reply::Revoked(Some(Revoked { act: 1, certificates: 1, held: 0 })));
    assert_eq!(revoke(number), Reply::Revoked(None));
    assert!(matches!(revoke(number + 1), Reply::Refused(_)));
    assert!(matches!(revoke(0), Reply::Refused(_)));
    let long = Request::Revoke { what: Revoke::Serial(number), reason: "x".repeat(1025) };
    assert!(matches!(ask(&admin, long), Reply::Refused(_)));
    match ask(&admin, Request::Show { serial: number }) {
        Reply::Shown(shown) => {
            assert_eq!(shown.revoked_by, Some(format!("admin uid {}", own_uid())));
            assert_eq!(shown.revocation_reason.as_deref(), Some("lost"));
        }
        other => panic!("{other:?}"),
    }
    let host = Request::HostSign {
        public_key: PrivateKey::generate_ed25519().unwrap().public_key().to_blob(),
        principals: vec!["web1".into()],
        validity_seconds: Some(60),
        take_key: false,
    };
    match ask(&admin, host) {
        Reply::HostCertificate { line, serial, taken_from: None } => {
            let certificate = Certificate::from_openssh(&line).unwrap();
            assert_eq!((certificate.serial(), certificate.key_id()), (serial, &b"web1"[..]));
            assert_eq!(world.row(serial).kind, "host");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(ask(&admin, Request::Keys), Reply::Keys { .. }));
}

/// Root on a host has its key: by it they would be the user, and whoever has the user's would be the host.
#[test]
fn a_key_is_a_users_or_a_hosts_and_not_both() {
    let world = world();
    let admin = world.admin();
    let (of_user, of_host) = (PrivateKey::generate_ed25519().unwrap(), PrivateKey::generate_ed25519().unwrap());
    let register = |key: &PrivateKey| {
        let public_key = key.public_key().to_blob();
        ask(&admin, Request::KeyRegister { user: "bob".into(), public_key, comment: String::new() })
    };
    let sign = |key: &PrivateKey| {
        let (public_key, principals) = (key.public_key().to_blob(), vec!["web5".into()]);
        ask(&admin, Request::HostSign { public_key, principals, validity_seconds: None, take_key: false })
    };
    assert_eq!(register(&of_user), Reply::KeyRegistered { already: false });
    let refused = sign(&of_user);
    let why = "no host certificate: this key is registered for the user bob";
    assert!(matches!(&refused, Reply::Refused(said) if said.starts_with(why)), "{refused:?}");
    assert!(matches!(sign(&of_host), Reply::HostCertificate { .. }));
    let refused = register(&of_host);
    assert!(matches!(&refused, Reply::Refused(said) if said.starts_with("this key is host web5's")), "{refused:?}");
    // What is not the one any more may become the other.
    let fingerprint = of_user.public_key().fingerprint();
    assert_eq!(ask(&admin, Request::KeyRemove { fingerprint }), Reply::KeyRemoved { user: "bob".into() });
    assert!(matches!(sign(&of_user), Reply::HostCertificate { .. }));
    let removed = Request::HostRemove { name: "web5".into(), reason: String::new() };
    assert!(matches!(ask(&admin, removed), Reply::HostRemoved { .. }));
}

#[test]
fn an_administrator_who_comes_over_the_control_channel_is_served() {
    let world = world();
    let (ours, theirs) = SeqPacket::pair().unwrap();
    world.control.send_with(&Control::NewAdmin, &[theirs.as_fd()]).unwrap();
    assert!(matches!(ask(&Channel::new(ours), Request::Keys), Reply::Keys { .. }));
}

#[test]
fn a_long_krl_comes_in_chunks_to_a_slow_reader_and_holds_nobody_up() {
    let world = world();
    // It has made its tables when it answers.
    assert!(world.rows().is_empty());
    let mut inventory = rusqlite::Connection::open(world.dir.path().join("inventory.db")).unwrap();
    let transaction = inventory.transaction().unwrap();
    // None beside another: such ones would be a range.
    for number in (1..=120_000).step_by(2) {
        transaction
            .execute(
                "INSERT INTO certificate (serial, kind, key_id, principals, fingerprint, valid_after, valid_before, asked, source, authenticated, rule, state, revoked)
                 VALUES (?1, 'user', 'x', 'x', '', 0, 9999999999, 0, '', '', '', 'signed', 5)",
                [number],
            )
            .unwrap();
    }
    transaction.commit().unwrap();
    let admin = world.admin();
    admin.send(&Request::Krl).unwrap();
    // Others are served while it does not read.
    let front = world.passed(1);
    assert_ne!(serial(&issue(&front, 1)), 0);
    let mut krl = Vec::new();
    let mut chunks = 0;
    loop {
        match admin.receive(PATIENCE).unwrap().message {
            Reply::Krl { chunk, more } => {
                krl.extend_from_slice(&chunk);
                chunks += 1;
                if !more {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(chunks, krl.len().div_ceil(128 * 1024));
    assert!(chunks > 2, "{chunks}");
    assert!(ussh_core::revoked::RevokedKeys::parse(&krl).is_ok());
    // And it is asked on as before.
    assert!(matches!(ask(&admin, Request::Keys), Reply::Keys { .. }));
}

#[test]
fn the_supervisor_alone_speaks_on_the_control_channel() {
    let world = world();
    // A message without its descriptor, and one with two, change nothing.
    let peer = "192.0.2.1:1".parse().unwrap();
    world.control.send(&Control::NewFront { connection: 1, peer }).unwrap();
    let (a, b) = SeqPacket::pair().unwrap();
    let message = Control::NewFront { connection: 2, peer };
    world.control.send_with(&message, &[a.as_fd(), b.as_fd()]).unwrap();
    let front = world.passed(1);
    assert_ne!(serial(&issue(&front, 1)), 0);
}

mod proofs;
mod refused_logins;
