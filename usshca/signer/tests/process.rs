//! The signer as a process: how it starts, what it gives up, and what a kill leaves behind.
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use ussh_core::certificate::Certificate;
use ussh_core::keys::PrivateKey;
use ussh_os::process::{self, ChildSetup};
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::channel::{Channel, ChannelError, encode};
use usshca_ipc::front::{FromSigner, ToSigner, Wish};
use usshca_ipc::signer::{Control, FromSignerControl, PolicyText, SignerSetup};
use usshca_ipc::worker::{Statement, StatementReply};

const POLICY: &str = "[[rule]]\nname=\"all\"\nvalidity_seconds=600\nprincipals=[\"%u\"]\n";
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

struct Signer {
    child: Child,
    control: Channel<Control, FromSignerControl>,
}

type FrontEnd = Channel<ToSigner, FromSigner>;

fn state() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    for name in ["user_ca", "host_ca"] {
        put_key(dir.path(), name, &PrivateKey::generate_ed25519().unwrap());
    }
    dir
}

fn put_key(dir: &Path, name: &str, key: &PrivateKey) {
    let path = dir.join(name);
    fs::write(&path, key.to_openssh(name).unwrap().as_bytes()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
}

/// As the CA does: only the first signer on a state makes the inventory.
fn start(state: &Path, policy: &str) -> Signer {
    start_as(state, policy, !state.join("inventory.db").exists())
}

fn start_as(state: &Path, policy: &str, creates: bool) -> Signer {
    start_for(state, policy, creates, false)
}

fn start_for(state: &Path, policy: &str, creates: bool, only_policy: bool) -> Signer {
    let (ours, theirs) = SeqPacket::pair().unwrap();
    let uid = process::effective_uid();
    let setup = SignerSetup {
        state: state.to_owned(),
        policy: vec![PolicyText { name: "policy.toml".into(), folder: String::new(), text: policy.into() }],
        admin_uids: vec![uid],
        worker_uid: uid,
        listens: false,
        creates,
        only_policy,
        side_job: None,
    };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&encode(&setup).unwrap()).unwrap();
    file.rewind().unwrap();
    let setup =
        ChildSetup { descriptors: vec![theirs.into_fd(), file.into()], die_with_parent: true, ..ChildSetup::default() };
    let child = process::spawn(Path::new(env!("CARGO_BIN_EXE_usshca-signer")), &[], &[], setup).unwrap();
    Signer { child, control: Channel::new(ours) }
}

fn started(state: &Path) -> Signer {
    let signer = start(state, POLICY);
    assert_eq!(signer.said(), FromSignerControl::Ready);
    signer
}

fn failure(state: &Path, policy: &str) -> String {
    failed(start(state, policy))
}

fn failed(mut signer: Signer) -> String {
    let said = signer.said();
    assert!(!signer.child.wait().unwrap().success());
    match said {
        FromSignerControl::Failed(why) | FromSignerControl::Busy(why) => why,
        other => panic!("{other:?}"),
    }
}

impl Signer {
    fn said(&self) -> FromSignerControl {
        self.control.receive(PATIENCE).unwrap().message
    }

    fn admin(&self) -> Channel<Request, Reply> {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        self.control.send_with(&Control::NewAdmin, &[theirs.as_fd()]).unwrap();
        Channel::new(ours)
    }

    /// A front with a kept statement; an error if the signer died meanwhile.
    fn passed(&self, connection: u64) -> Result<FrontEnd, ChannelError> {
        let (front, theirs) = SeqPacket::pair()?;
        let peer = "192.0.2.1:1".parse().unwrap();
        self.control.send_with(&Control::NewFront { connection, peer }, &[theirs.as_fd()])?;
        let (worker, theirs) = SeqPacket::pair()?;
        theirs.attest_sender()?;
        let worker_pid = i32::try_from(std::process::id()).unwrap();
        self.control.send_with(&Control::NewWorker { connection, attempt: 1, worker_pid }, &[theirs.as_fd()])?;
        drop(theirs);
        let worker = Channel::<Statement, StatementReply>::new(worker);
        worker.send(&Statement { user: "alice".into(), uid: 1000, groups: vec![] })?;
        assert_eq!(worker.receive(PATIENCE)?.message, StatementReply::Kept);
        Ok(Channel::new(front))
    }

    fn end(mut self) {
        drop(self.control);
        assert!(self.child.wait().unwrap().success());
    }
}

fn ask(front: &FrontEnd) -> Result<(), ChannelError> {
    let public_key = PrivateKey::generate_ed25519().unwrap().public_key().to_blob();
    front.send(&ToSigner::Issue { attempt: 1, public_key, wish: Wish::default() })
}

fn issued(front: &FrontEnd) -> Result<Certificate, ChannelError> {
    match front.receive(PATIENCE)?.message {
        FromSigner::Issued { certificate, .. } => Ok(Certificate::parse(&certificate).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn rows(signer: &Signer) -> Vec<(u64, String)> {
    let admin = signer.admin();
    let mut all = Vec::new();
    let mut before = u64::MAX;
    loop {
        admin.send(&Request::List { before, limit: 500 }).unwrap();
        match admin.receive(PATIENCE).unwrap().message {
            Reply::List(rows) if rows.is_empty() => return all,
            Reply::List(rows) => {
                before = rows.last().unwrap().row;
                all.extend(rows.into_iter().map(|r| (r.serial, r.outcome)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn it_gives_up_its_privilege_and_works_without() {
    let state = state();
    let signer = started(state.path());
    let status = fs::read_to_string(format!("/proc/{}/status", signer.child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    let front = signer.passed(1).unwrap();
    ask(&front).unwrap();
    assert_eq!(issued(&front).unwrap().key_id(), b"alice");
    let admin = signer.admin();
    admin.send(&Request::Krl).unwrap();
    assert!(matches!(admin.receive(PATIENCE).unwrap().message, Reply::Krl { more: false, .. }));
    signer.end();
}

#[test]
fn a_second_signer_on_the_same_state_refuses_until_the_first_is_gone() {
    let state = state();
    let first = started(state.path());
    assert!(failure(state.path(), POLICY).contains("another signer"));
    assert!(matches!(start(state.path(), POLICY).said(), FromSignerControl::Busy(_)));
    // To read a policy it needs no state.
    let grouped = POLICY.replace("validity", "groups=[\"dev\"]\nvalidity");
    let mut reader = start_for(state.path(), &grouped, false, true);
    assert_eq!(reader.said(), FromSignerControl::PolicyGroup("dev".into()));
    assert_eq!(reader.said(), FromSignerControl::PolicyGood);
    assert!(reader.child.wait().unwrap().success());
    let broken = start_for(state.path(), "x", false, true).said();
    assert!(
        matches!(&broken, FromSignerControl::Failed(why) if why.starts_with("policy.toml: line 1: ")),
        "{broken:?}"
    );
    first.end();
    started(state.path()).end();
}

#[test]
fn it_says_why_it_cannot_serve() {
    let state = state();
    assert!(failure(state.path(), "[[rule]]\nname = 1").contains("line 2"));
    fs::set_permissions(state.path(), Permissions::from_mode(0o755)).unwrap();
    assert!(failure(state.path(), POLICY).contains("0700"));
    fs::set_permissions(state.path(), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(state.path().join("host_ca"), Permissions::from_mode(0o644)).unwrap();
    assert!(failure(state.path(), POLICY).contains("0600"));
    let same = PrivateKey::generate_ed25519().unwrap();
    put_key(state.path(), "user_ca", &same);
    put_key(state.path(), "host_ca", &same);
    assert!(failure(state.path(), POLICY).contains("the same key"));
    fs::remove_file(state.path().join("user_ca")).unwrap();
    assert!(failure(state.path(), POLICY).contains("user_ca"));
    assert!(failure(&state.path().join("none"), POLICY).contains("none"));
}

#[test]
fn it_ends_with_its_supervisor() {
    let state = state();
    let signer = started(state.path());
    let front = signer.passed(1).unwrap();
    signer.end();
    assert!(matches!(front.receive(PATIENCE), Err(ChannelError::Closed)));
}

/// Many fronts ask at once, and the signer is killed after a number of answers that differs from round to round, in the midst of the others' work.
#[test]
fn after_a_kill_everything_that_left_is_in_the_inventory() {
    let state = state();
    let mut known = BTreeSet::new();
    for round in 0..10 {
        let mut signer = started(state.path());
        let fronts: Vec<FrontEnd> = (1..=20).map(|n| signer.passed(n).unwrap()).collect();
        for front in &fronts {
            ask(front).unwrap();
        }
        for front in fronts.iter().take(round) {
            assert!(known.insert(issued(front).unwrap().serial()));
        }
        signer.child.kill().unwrap();
        signer.child.wait().unwrap();
        // What it had sent before it died counts as well.
        for front in fronts.iter().skip(round) {
            if let Ok(certificate) = issued(front) {
                assert!(known.insert(certificate.serial()), "a serial twice");
            }
        }
        let again = started(state.path());
        let rows = rows(&again);
        let serials: BTreeSet<u64> = rows.iter().map(|(serial, _)| *serial).collect();
        assert_eq!(serials.len(), rows.len(), "a serial twice");
        for serial in &known {
            let (_, outcome) = rows.iter().find(|(s, _)| s == serial).unwrap();
            assert!(outcome == "signed" || outcome.starts_with("undelivered"), "{outcome}");
        }
        assert!(
            rows.iter()
                .all(|(_, outcome)| outcome == "signed" || outcome == "reserved" || outcome.starts_with("undelivered"))
        );
        again.end();
    }
    let file = File::open(state.path().join("inventory.db")).unwrap();
    assert!(file.metadata().unwrap().len() > 0);
}

#[test]
fn a_signer_whose_inventory_is_lost_says_so_and_makes_no_new_one() {
    let state = state();
    started(state.path()).end();
    started(state.path()).end();
    fs::remove_file(state.path().join("inventory.db")).unwrap();
    let why = failed(start_as(state.path(), POLICY, false));
    assert!(why.contains("inventory is missing") && why.contains("backup"), "{why}");
    assert!(!state.path().join("inventory.db").exists());
}

#[test]
fn started_by_hand_it_says_who_starts_it() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_usshca-signer")).arg("--help").output().unwrap();
    assert_eq!(out.status.code(), Some(64));
    assert!(String::from_utf8(out.stderr).unwrap().contains("`usshca serve`"));
}
