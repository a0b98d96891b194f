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
use usshca_ipc::signer::{Control, FromSignerControl, KeySetup, PolicyText, Secret, SignerSetup};
use usshca_ipc::worker::{Spoken, Statement, StatementReply};

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
    start_with(state, policy, creates, only_policy, KeySetup::default())
}

fn start_with(state: &Path, policy: &str, creates: bool, only_policy: bool, keys: KeySetup) -> Signer {
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
        keys,
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
        self.control.send_with(
            &Control::NewWorker {
                connection,
                attempt: 1,
                worker_pid,
                user: "somebody".to_owned(),
                patience_seconds: 60,
            },
            &[theirs.as_fd()],
        )?;
        drop(theirs);
        let worker = Channel::<Spoken, StatementReply>::new(worker);
        worker.send(&Spoken::Passed(Statement { user: "alice".into(), uid: 1000, groups: vec![] }))?;
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
    let named = reader.said();
    assert!(
        matches!(&named, FromSignerControl::PolicyName { is_group: true, name, place } if name == "dev" && place.contains(": rule \"")),
        "{named:?}"
    );
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

const SESAME: &str = "open sesame";

fn keys_with(passphrases: &[&str]) -> KeySetup {
    let passphrases = passphrases.iter().map(|text| Secret((*text).to_owned())).collect();
    KeySetup { passphrases, ..KeySetup::default() }
}

fn encrypt(state: &Path, name: &str) {
    let path = state.join(name);
    let args = ["-q", "-p", "-P", "", "-N", SESAME, "-f"];
    assert!(std::process::Command::new("ssh-keygen").args(args).arg(path).status().unwrap().success());
}

#[test]
fn an_encrypted_key_needs_its_passphrase() {
    let state = state();
    started(state.path()).end();
    encrypt(state.path(), "user_ca");
    for (passphrases, wrong) in [(&[][..], false), (&["nonsense"], true)] {
        let signer = start_with(state.path(), POLICY, false, false, keys_with(passphrases));
        assert_eq!(signer.said(), FromSignerControl::NeedsPassphrase { key: "user_ca".into(), wrong });
    }
    let signer = start_with(state.path(), POLICY, false, false, keys_with(&["nonsense", SESAME]));
    assert_eq!(signer.said(), FromSignerControl::Ready);
    let front = signer.passed(1).unwrap();
    ask(&front).unwrap();
    issued(&front).unwrap();
    drop(front);
    signer.end();
}

/// Where in the process's memory the bytes are: address, and whether those pages are locked.
fn found(pid: u32, needle: &[u8]) -> Vec<(u64, bool)> {
    use std::os::unix::fs::FileExt;
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut regions: Vec<(u64, u64, bool)> = Vec::new();
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap();
        let range = first.split_once('-').map(|(a, b)| (u64::from_str_radix(a, 16), u64::from_str_radix(b, 16)));
        if let Some((Ok(start), Ok(end))) = range {
            regions.push((start, end, false));
        } else if let Some(flags) = line.strip_prefix("VmFlags: ") {
            regions.last_mut().unwrap().2 = flags.split(' ').any(|flag| flag == "lo");
        }
    }
    let mut found = Vec::new();
    for (start, end, locked) in regions {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // Not all of them can be read ([vvar]).
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            let hits = bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
            found.extend(hits.map(|(at, _)| (start + at as u64, locked)));
        }
    }
    found
}

/// The secret half of an Ed25519 key, as it stands in OpenSSH's format: 32 bytes, before the public ones.
fn seed(state: &Path, name: &str) -> Vec<u8> {
    let text = fs::read_to_string(state.join(name)).unwrap();
    let key = PrivateKey::from_openssh(&text).unwrap();
    let blob: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let out = std::process::Command::new("sh").arg("-c").arg(format!("echo {blob} | base64 -d")).output().unwrap();
    let public = &key.public_key().to_blob()[19..];
    // Once in the public part, once behind the secret half; there the length of both stands before it.
    let at = out.stdout.windows(36).rposition(|window| window.ends_with(public) && window[..4] == [0, 0, 0, 32]);
    let private = at.unwrap() + 36 + 4;
    assert_eq!(&out.stdout[private + 32..private + 64], public);
    out.stdout[private..private + 32].to_vec()
}

#[test]
fn key_material_is_in_locked_memory_alone_that_no_dump_holds() {
    if process::effective_uid() != 0 {
        return;
    }
    let state = state();
    let secrets: Vec<_> = ["user_ca", "host_ca"].map(|name| seed(state.path(), name)).into();
    started(state.path()).end();
    encrypt(state.path(), "host_ca");
    let signer = start_with(state.path(), POLICY, false, false, keys_with(&[SESAME]));
    assert_eq!(signer.said(), FromSignerControl::Ready);
    let front = signer.passed(1).unwrap();
    ask(&front).unwrap();
    issued(&front).unwrap();
    let pid = signer.child.id();
    for secret in &secrets {
        let found = found(pid, secret);
        // As it was read, and once it has signed in the form in which it signs.
        assert!((1..=2).contains(&found.iter().filter(|(_, locked)| *locked).count()), "{found:?}");
        assert_eq!(found.iter().filter(|(_, locked)| !*locked).count(), 0, "{found:?}");
    }
    assert_eq!(found(pid, SESAME.as_bytes()), []);
    // The search finds what is there.
    assert_ne!(found(pid, b"validity_seconds"), []);

    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    let locked: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(locked >= 8, "two keys, a page each: {locked} kB");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
    drop(front);
    signer.end();
}

/// A real ssh-agent that holds a key; it dies with this.
struct RealAgent {
    child: Child,
    socket: std::path::PathBuf,
}

impl RealAgent {
    fn start(socket: &Path) -> Self {
        let _ = fs::remove_file(socket);
        let child = std::process::Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let agent = RealAgent { child, socket: socket.to_owned() };
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            assert!(std::time::Instant::now() < end, "no ssh-agent");
            std::thread::yield_now();
        }
        agent
    }

    fn add(&self, key: &Path) {
        let added =
            std::process::Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).status();
        assert!(added.unwrap().success());
    }

    fn signal(&self, signal: i32) {
        let pid = self.child.id();
        process::ProcessHandle::open(pid, process::start_time(pid).unwrap()).unwrap().signal(signal).unwrap();
    }
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn refused(front: &FrontEnd) -> String {
    match front.receive(PATIENCE).unwrap().message {
        FromSigner::Refused { message } => message,
        other => panic!("{other:?}"),
    }
}

fn last_outcome(signer: &Signer) -> String {
    rows(signer)[0].1.clone()
}

#[test]
fn a_key_in_an_agent_signs_and_an_agent_that_is_away_hangs_or_lacks_it_refuses() {
    let state = state();
    started(state.path()).end();
    let elsewhere = tempfile::tempdir().unwrap();
    let (socket, key) = (elsewhere.path().join("agent"), elsewhere.path().join("user_ca"));
    let public =
        PrivateKey::from_openssh(&fs::read_to_string(state.path().join("user_ca")).unwrap()).unwrap().public_key();
    fs::rename(state.path().join("user_ca"), &key).unwrap();
    fs::write(state.path().join("user_ca.pub"), public.to_openssh("")).unwrap();
    fs::write(state.path().join("user_ca.agent"), format!("socket = {:?}\n", socket.display().to_string())).unwrap();
    fs::set_permissions(state.path().join("user_ca.agent"), Permissions::from_mode(0o600)).unwrap();

    // Nobody there yet: it starts, and says so to who asks.
    let signer = started(state.path());
    let try_it = |connection| {
        let front = signer.passed(connection).unwrap();
        let since = std::time::Instant::now();
        ask(&front).unwrap();
        (front, since)
    };
    let no = |connection, why: &str| {
        let (front, since) = try_it(connection);
        let said = refused(&front);
        assert!(said.contains("cannot issue certificates at the moment"), "{said}");
        let outcome = last_outcome(&signer);
        assert!(outcome.starts_with("refused: ") && outcome.contains(why), "{outcome}");
        since.elapsed()
    };
    let yes = |connection| {
        let (front, _) = try_it(connection);
        let certificate = issued(&front).unwrap();
        assert_eq!(*certificate.ca(), public);
    };
    no(1, "cannot be reached");

    let agent = RealAgent::start(&socket);
    // It is there, and has no such key.
    no(2, "refused");
    agent.add(&key);
    yes(3);
    // On the connection that there is.
    yes(4);
    drop(agent);
    no(5, "cannot be reached");
    // Another agent at the same place is found, from within the sandbox.
    let agent = RealAgent::start(&socket);
    agent.add(&key);
    yes(6);
    // One that hangs holds nobody up for longer than its patience, and the next one not at all.
    agent.signal(19);
    let first = no(7, "did not answer within 3 s");
    assert!(first < Duration::from_secs(6), "{first:?}");
    let second = no(8, "a moment ago");
    assert!(second < Duration::from_secs(1), "{second:?}");
    agent.signal(18);
    signer.end();
}
