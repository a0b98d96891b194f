//! The guarded agent in front of a real ssh-agent, driven over its socket as the CA would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use ussh_core::agent::{
    Agent, AgentError, Constraints, Identity, frame, injected_comment, parse_identities, parse_signature,
};
use ussh_core::ca_file::TrustedCas;
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::{Clock, FixedClock, SystemClock, UnixTime};
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::{FidoDemand, PrivateKey, PublicKey};
use ussh_core::sshsig;

use super::*;
use crate::certificates::Judge;
use crate::config::CaUser;
use crate::files::Files;
use crate::keeper::{Keeper, OwnKey};
use crate::user_agent::UserAgent;

const HOUR: u64 = 3600;

fn now() -> u64 {
    SystemClock.now().0
}

/// A real ssh-agent of the test's own.
struct RealAgent {
    process: Child,
    folder: TempDir,
}

impl RealAgent {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(folder.path().join("real"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It listens before it tells where.
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("SSH_AUTH_SOCK="), "{line}");
        RealAgent { process, folder }
    }
    fn socket(&self) -> PathBuf {
        self.folder.path().join("real")
    }
    fn connect(&self) -> Agent {
        connect(&self.socket())
    }
    fn blobs(&self) -> Vec<Vec<u8>> {
        self.connect().list().unwrap().into_iter().map(|identity| identity.blob).collect()
    }
    /// What `ssh-add` says.
    fn ssh_add(&self, arguments: &[&str]) -> String {
        let output = Command::new("ssh-add").args(arguments).env("SSH_AUTH_SOCK", self.socket()).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(socket: &Path) -> Agent {
    Agent::new(UnixStream::connect(socket).unwrap(), Duration::from_secs(10))
}

/// A CA, and what it makes.
struct Ca(PrivateKey);

/// A key with its certificate.
struct Pair {
    key: PrivateKey,
    certificate: Certificate,
}

impl Ca {
    fn new() -> Self {
        Ca(PrivateKey::generate_ed25519().unwrap())
    }
    fn issue(&self, kind: CertificateKind, key_id: &str, valid_after: u64, valid_before: u64) -> Pair {
        let key = PrivateKey::generate_ed25519().unwrap();
        let template = CertificateTemplate {
            public_key: key.public_key(),
            serial: 7,
            kind,
            key_id: key_id.to_owned(),
            principals: vec!["alice".to_owned()],
            valid_after: UnixTime(valid_after),
            valid_before: UnixTime(valid_before),
            critical_options: vec![],
            extensions: vec![],
        };
        let certificate = template.sign(&self.0).unwrap();
        Pair { key, certificate }
    }
    fn issue_now(&self, key_id: &str) -> Pair {
        self.issue(CertificateKind::User, key_id, now() - 60, now() + HOUR)
    }
}

fn lifetime(seconds: u32) -> Constraints {
    Constraints { lifetime_seconds: Some(seconds), confirm: false }
}

impl Pair {
    fn add_to(&self, agent: &mut Agent, constraints: &Constraints) -> Result<(), AgentError> {
        agent.add_certificate(&self.certificate, &self.key, "from the CA", constraints)
    }
    fn blob(&self) -> Vec<u8> {
        self.certificate.blob().to_vec()
    }
}

/// Runs `as_ca` with the socket that the CA would see, then gives what the guard noted.
fn guarded_at<T: Send>(
    clock: Box<dyn Clock>,
    real: &RealAgent,
    ca: &Ca,
    as_ca: impl FnOnce(&Path) -> T + Send,
) -> (T, CaSide) {
    let uid = nix::unistd::getuid().as_raw();
    let user = CaUser::try_from("alice".to_owned()).unwrap();
    let judge = Judge::new(TrustedCas::from_keys(vec![ca.0.public_key()]), user, Some(60));
    let side = CaSide::new(UserAgent::at(real.socket()), judge, clock);
    let mut guard = Guard::open(side, PrivateDirectory::under(real.folder.path()).unwrap(), uid).unwrap();
    let socket = guard.socket();
    let (end, end_of_client) = UnixStream::pair().unwrap();
    let (wake, _never) = UnixStream::pair().unwrap();
    let result = std::thread::scope(|scope| {
        let client = scope.spawn(move || {
            let _hangs_up_also_on_panic = end_of_client;
            as_ca(&socket)
        });
        guard.serve(end.as_fd(), wake.as_fd(), &mut || panic!("nobody wakes it")).unwrap();
        client.join().unwrap()
    });
    (result, guard.into_side())
}

fn guarded<T: Send>(real: &RealAgent, ca: &Ca, as_ca: impl FnOnce(&Path) -> T + Send) -> (T, CaSide) {
    guarded_at(Box::new(SystemClock), real, ca, as_ca)
}

#[test]
fn takes_a_key_with_a_certificate_of_our_ca() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    let pair = ca.issue_now("alice");
    let (added, side) = guarded(&real, &ca, |socket| pair.add_to(&mut connect(socket), &lifetime(60)));
    assert_eq!(added, Ok(()));
    assert_eq!(real.blobs(), [pair.blob()]);
    assert!(side.last_not_added().is_none());
    assert!(real.ssh_add(&["-L"]).starts_with("ssh-ed25519-cert-v01@openssh.com "));
}

#[test]
fn lists_only_what_was_added_in_this_login() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    ca.issue_now("bob").add_to(&mut real.connect(), &lifetime(60)).unwrap();
    let pair = ca.issue_now("alice");
    let (lists, _) = guarded(&real, &ca, |socket| {
        let before = connect(socket).list().unwrap();
        pair.add_to(&mut connect(socket), &lifetime(60)).unwrap();
        (before, connect(socket).list().unwrap())
    });
    assert_eq!(lists, (vec![], vec![Identity { blob: pair.blob(), comment: b"from the CA".to_vec() }]));
    assert_eq!(real.blobs().len(), 2);
}

#[test]
fn refuses_certificates_that_are_not_good_user_certificates_of_our_ca() {
    let (real, ca, other) = (RealAgent::start(), Ca::new(), Ca::new());
    let cases = [
        ("another CA's", other.issue_now("alice"), "is not trusted"),
        ("somebody else's", ca.issue_now("mallory"), "its key ID is \"mallory\", not \"alice\""),
        ("another spelling's", ca.issue_now("Alice"), "its key ID is \"Alice\", not \"alice\""),
        ("an alias's", ca.issue_now("alice@example.com"), "not \"alice\""),
        ("a host certificate", ca.issue(CertificateKind::Host, "web1", now() - 60, now() + HOUR), "wrong type"),
        ("expired", ca.issue(CertificateKind::User, "alice", now() - HOUR, now() - 1), "has expired"),
        ("not yet valid", ca.issue(CertificateKind::User, "alice", now() + HOUR, now() + 2 * HOUR), "not yet valid"),
    ];
    for (name, pair, reason) in cases {
        let (added, side) = guarded(&real, &ca, |socket| pair.add_to(&mut connect(socket), &lifetime(60)));
        assert_eq!(added, Err(AgentError::Refused), "{name}");
        let noted = side.last_not_added().unwrap().to_string();
        assert!(noted.contains(reason), "{name}: {noted}");
    }
    assert_eq!(real.blobs(), Vec::<Vec<u8>>::new());
}

#[test]
fn refuses_a_plain_key_and_every_other_kind_of_request() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    let pair = ca.issue_now("alice");
    pair.add_to(&mut real.connect(), &lifetime(600)).unwrap();
    let plain_add = {
        let mut payload = vec![17];
        for field in [&b"ssh-ed25519"[..], &[7; 32], &[7; 64], b"comment"] {
            payload.extend_from_slice(&u32::try_from(field.len()).unwrap().to_be_bytes());
            payload.extend_from_slice(field);
        }
        payload
    };
    let remove_of_foreign = frame::remove(&pair.blob())[4..].to_vec();
    let sign = frame::sign(&pair.blob(), b"data", 0)[4..].to_vec();
    let session_bind = [&[27][..], &24_u32.to_be_bytes(), b"session-bind@openssh.com", &[0; 13]].concat();
    let mut requests = vec![
        plain_add,
        remove_of_foreign,
        sign,
        session_bind,
        vec![19],
        vec![9],
        vec![1],
        vec![11, 0],
        [&[22][..], &[0, 0, 0, 1, b'x']].concat(),
    ];
    // Every message number with nothing behind it, but the listing.
    requests.extend((0..=255).filter(|number| *number != 11).map(|number| vec![number]));
    for batch in requests.chunks(200) {
        let (answers, side) = guarded(&real, &ca, |socket| {
            let mut agent = connect(socket);
            batch.iter().map(|request| agent.pass_on(request).unwrap().to_vec()).collect::<Vec<_>>()
        });
        assert!(answers.iter().all(|answer| answer == &[5]), "{answers:?}");
        assert_eq!(side.counts(), (batch.len() as u32, batch.len() as u32));
    }
    assert_eq!(real.blobs(), [pair.blob()], "nothing was added, removed or locked");
}

#[test]
fn refuses_to_sign_even_with_the_key_that_was_added() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    let pair = ca.issue_now("alice");
    let (signed, _) = guarded(&real, &ca, |socket| {
        pair.add_to(&mut connect(socket), &lifetime(60)).unwrap();
        connect(socket).sign(&pair.blob(), b"data", 0)
    });
    assert_eq!(signed, Err(AgentError::Refused));
    assert!(real.connect().sign(&pair.blob(), b"data", 0).is_ok(), "the agent itself would have");
}

#[test]
fn removes_what_was_added_in_this_login_and_nothing_else() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    let (old, new) = (ca.issue_now("bob"), ca.issue_now("alice"));
    old.add_to(&mut real.connect(), &lifetime(60)).unwrap();
    let (results, side) = guarded(&real, &ca, |socket| {
        let mut agent = connect(socket);
        new.add_to(&mut agent, &lifetime(60)).unwrap();
        [agent.remove(&old.blob()), agent.remove(&new.blob()), agent.remove(&new.blob())]
    });
    assert_eq!(results, [Err(AgentError::Refused), Ok(()), Err(AgentError::Refused)]);
    assert_eq!(side.added(), []);
    assert_eq!(real.blobs(), [old.blob()]);
}

#[test]
fn a_new_certificate_replaces_older_ones_that_were_injected_in_its_lineage_only() {
    let (real, ca, other) = (RealAgent::start(), Ca::new(), Ca::new());
    let older = ca.issue(CertificateKind::User, "alice", now() - HOUR, now() + HOUR);
    let expired = ca.issue(CertificateKind::User, "alice", now() - HOUR, now() - 1);
    let newer = ca.issue(CertificateKind::User, "alice", now() - 5, now() + HOUR);
    let bobs = ca.issue(CertificateKind::User, "bob", now() - HOUR, now() + HOUR);
    let foreign = other.issue(CertificateKind::User, "alice", now() - HOUR, now() + HOUR);
    for pair in [&older, &expired, &newer, &bobs, &foreign] {
        let user = String::from_utf8(pair.certificate.key_id().to_vec()).unwrap();
        let comment = injected_comment(&user, pair.certificate.serial());
        real.connect().add_certificate(&pair.certificate, &pair.key, &comment, &Constraints::default()).unwrap();
    }
    // A key of alice's own that was certified, as ssh-add adds it.
    let own = ca.issue(CertificateKind::User, "alice", now() - HOUR, now() + HOUR);
    real.connect().add_certificate(&own.certificate, &own.key, "alice@laptop", &Constraints::default()).unwrap();
    let (first, second) = (ca.issue_now("alice"), ca.issue_now("alice"));
    guarded(&real, &ca, |socket| {
        first.add_to(&mut connect(socket), &lifetime(60)).unwrap();
        second.add_to(&mut connect(socket), &lifetime(60)).unwrap();
    });
    let mut wanted = [&newer, &bobs, &foreign, &own, &first, &second].map(Pair::blob);
    let mut left = real.blobs();
    wanted.sort();
    left.sort();
    assert_eq!(left, wanted);
}

/// Only the agent itself can show what it was told: it drops the key by itself when the time has come.
#[test]
fn a_key_without_a_lifetime_leaves_the_agent_at_its_certificates_end() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    // For the guard it is two seconds before the end.
    let pair = ca.issue(CertificateKind::User, "alice", now() - 60, now() + HOUR);
    let clock = FixedClock(UnixTime(pair.certificate.valid_before().0 - 2));
    for constraints in [Constraints::default(), lifetime(u32::MAX)] {
        guarded_at(Box::new(clock), &real, &ca, |socket| pair.add_to(&mut connect(socket), &constraints).unwrap());
        assert_eq!(real.blobs(), [pair.blob()], "{constraints:?}");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !real.blobs().is_empty() {
            assert!(Instant::now() < deadline, "{constraints:?}: still there");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn confirmation_that_the_ca_asked_for_is_kept() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    let pair = ca.issue_now("alice");
    let constraints = Constraints { lifetime_seconds: None, confirm: true };
    guarded(&real, &ca, |socket| pair.add_to(&mut connect(socket), &constraints).unwrap());
    assert_eq!(real.connect().sign(&pair.blob(), b"data", 0), Err(AgentError::Refused), "nobody is there to confirm");
}

#[test]
fn stops_answering_after_too_many_requests() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    let pair = ca.issue_now("alice");
    let (late, side) = guarded(&real, &ca, |socket| {
        let mut agent = connect(socket);
        for _ in 0..256 {
            agent.list().unwrap();
        }
        [agent.list().map(|_| ()), pair.add_to(&mut agent, &lifetime(60))]
    });
    assert_eq!(late, [Err(AgentError::Refused), Err(AgentError::Refused)]);
    assert_eq!(side.counts(), (258, 2));
    assert!(real.blobs().is_empty());
}

#[test]
fn stops_adding_after_too_many_keys() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    let (results, _) = guarded(&real, &ca, |socket| {
        (0..17).map(|_| ca.issue_now("alice").add_to(&mut connect(socket), &lifetime(60))).collect::<Vec<_>>()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 16);
    assert_eq!(real.blobs().len(), 16);
}

#[test]
fn hangs_up_on_a_frame_over_the_cap_and_on_an_empty_one() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    guarded(&real, &ca, |socket| {
        for length in [0, 256 * 1024 + 1, u32::MAX] {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.write_all(&length.to_be_bytes()).unwrap();
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "{length}");
        }
    });
}

#[test]
fn a_request_in_single_bytes_is_answered_while_others_go_on() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    guarded(&real, &ca, |socket| {
        let mut slow = UnixStream::connect(socket).unwrap();
        for byte in frame::list() {
            slow.write_all(&[byte]).unwrap();
            assert_eq!(connect(socket).list(), Ok(vec![]));
        }
        let mut answer = [0; 9];
        slow.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0, 0, 0, 5, 12, 0, 0, 0, 0]);
    });
}

#[test]
fn connections_beyond_the_cap_are_closed_at_once_and_the_others_go_on() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    guarded(&real, &ca, |socket| {
        let mut idle: Vec<Agent> = (0..16).map(|_| connect(socket)).collect();
        for agent in &mut idle {
            assert_eq!(agent.list(), Ok(vec![]));
        }
        for _ in 0..3 {
            let mut surplus = UnixStream::connect(socket).unwrap();
            surplus.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            assert_eq!(surplus.read(&mut [0; 1]).unwrap(), 0);
        }
        assert_eq!(idle[0].list(), Ok(vec![]));
        idle.pop();
        // It looks at connections before it takes new ones.
        assert_eq!(connect(socket).list(), Ok(vec![]), "there is room again");
    });
}

#[test]
fn half_a_request_is_waited_for_five_seconds_and_an_idle_connection_for_ever() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    guarded(&real, &ca, |socket| {
        let mut idle = connect(socket);
        assert_eq!(idle.list(), Ok(vec![]));
        let begun = Instant::now();
        let slow = [&[0, 0][..], &[0, 0, 0, 9], &[0, 0, 0, 9, 11, 0]].map(|half| {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(half).unwrap();
            stream
        });
        for mut stream in slow {
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
            assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
        }
        idle.set_deadline(Instant::now() + Duration::from_secs(10));
        assert_eq!(idle.list(), Ok(vec![]));
    });
}

#[test]
fn a_user_agent_that_is_gone_refuses_the_add() {
    let (mut real, ca) = (RealAgent::start(), Ca::new());
    real.process.kill().unwrap();
    real.process.wait().unwrap();
    let pair = ca.issue_now("alice");
    let (added, side) = guarded(&real, &ca, |socket| pair.add_to(&mut connect(socket), &lifetime(60)));
    assert_eq!(added, Err(AgentError::Refused));
    assert!(matches!(side.last_not_added(), Some(NotAdded::NoAgent(_))));
}

#[test]
fn an_unprintable_comment_is_refused() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    let pair = ca.issue_now("alice");
    let long = "x".repeat(1025);
    let (results, _) = guarded(&real, &ca, |socket| {
        ["\x1b]0;x\x07", "a\nb", long.as_str(), "José"].map(|comment| {
            connect(socket).add_certificate(&pair.certificate, &pair.key, comment, &lifetime(60)).is_ok()
        })
    });
    assert_eq!(results, [false, false, false, true]);
}

/// A clock that the test sets.
#[derive(Clone)]
struct SetClock(std::sync::Arc<std::sync::atomic::AtomicU64>);

impl Clock for SetClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
}

#[test]
fn a_certificate_that_has_counted_is_judged_again_for_each_connection() {
    let (real, ca, other) = (RealAgent::start(), Ca::new(), Ca::new());
    let (pair, forged) = (ca.issue_now("alice"), {
        // Of the same CA by name; its signature's last byte is another.
        let mut blob = ca.issue_now("alice").certificate.blob().to_vec();
        *blob.last_mut().unwrap() ^= 1;
        Certificate::parse(&blob).unwrap()
    });
    pair.add_to(&mut real.connect(), &lifetime(60)).unwrap();
    let rules = |ca: &Ca, user: &str| {
        let user = CaUser::try_from(user.to_owned()).unwrap();
        let judge = Judge::new(TrustedCas::from_keys(vec![ca.0.public_key()]), user, None);
        Rules { judge, confirm: crate::config::Patterns::default() }
    };
    let clock = SetClock(std::sync::Arc::new(now().into()));
    let set = |time: u64| clock.0.store(time, std::sync::atomic::Ordering::Relaxed);
    let journal = journal::Journal::at(real.folder.path().join("log"));
    let side = HostSide::new(UserAgent::at(real.socket()), rules(&ca, "alice"), Box::new(clock.clone()), journal);
    let listed = || Talk::new(&side, 1, None).answer(&[11]);
    let (one, none) = (listed(), frame::identities(&[]));
    assert!(one.windows(pair.blob().len()).any(|window| window == pair.blob()));
    assert_eq!(listed(), one, "once more");

    side.set_rules(rules(&other, "alice"));
    assert_eq!(listed(), none, "another CA is trusted now");
    side.set_rules(rules(&ca, "bob"));
    assert_eq!(listed(), none, "it is another user's now");
    side.set_rules(rules(&ca, "alice"));
    assert_eq!(listed(), one);
    set(now() + 2 * HOUR);
    assert_eq!(listed(), none, "it has expired");
    set(now());
    assert_eq!(listed(), one);

    // What counted says nothing on another certificate.
    let verified = side.verify(&rules(&ca, "alice"), [forged, pair.certificate.clone()].into_iter());
    assert_eq!(verified.iter().map(|one| one.certificate().blob()).collect::<Vec<_>>(), [pair.blob()]);
}

#[test]
fn a_key_of_the_users_own_proves_itself_to_the_ca_and_signs_nothing_else() {
    let (real, ca) = (RealAgent::start(), Ca::new());
    let key_file = real.folder.path().join("mine");
    let keygen = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key_file).status();
    assert!(keygen.unwrap().success());
    real.ssh_add(&["-q", key_file.to_str().unwrap()]);
    ca.issue_now("alice").add_to(&mut real.connect(), &lifetime(60)).unwrap();
    let line = std::fs::read_to_string(key_file.with_extension("pub")).unwrap();
    let key = PublicKey::from_openssh(line.trim()).unwrap();
    let files = Files::of_own_key(nix::unistd::getuid().as_raw()).unwrap();
    let own = OwnKey { agent: UserAgent::at(real.socket()), files, key: key.clone() };
    let user = CaUser::try_from("alice".to_owned()).unwrap();
    let judge = Judge::new(TrustedCas::from_keys(vec![ca.0.public_key()]), user, Some(60));
    let mut side = CaSide::new(Keeper::OwnKey(own), judge, Box::new(SystemClock));

    let listed = parse_identities(&side.answer(&frame::list()[4..])[4..]).unwrap();
    assert_eq!(
        listed.iter().map(|identity| &identity.blob[..]).collect::<Vec<_>>(),
        [key.blob()],
        "the other is not shown"
    );
    let proof = sshsig::signed_data("login@ussh", b"message");
    let mut sign = |blob: &[u8], data: &[u8]| parse_signature(&side.answer(&frame::sign(blob, data, 0)[4..])[4..]);
    key.verify(&proof, &sign(key.blob(), &proof).unwrap(), FidoDemand::Presence).unwrap();
    let other = real.blobs().into_iter().find(|blob| blob != key.blob()).unwrap();
    assert_eq!(sign(&other, &proof), Err(AgentError::Refused), "a key that is not the one");
    let longer = [&proof[..], b"x"].concat();
    let login = [&[0, 0, 0, 32][..], &[7; 32], b"\x32\0\0\0\x05alice"].concat();
    for data in [
        &sshsig::signed_data("file", b"message")[..],
        &sshsig::signed_data("pam-ussh@ussh", b"message"),
        &sshsig::signed_data("login@ussh2", b"message"),
        &proof[..proof.len() - 1],
        &longer,
        &login,
        b"",
        b"SSHSIG",
    ] {
        assert_eq!(sign(key.blob(), data), Err(AgentError::Refused), "{data:?}");
    }
    let pair = ca.issue_now("alice");
    let add = frame::add_certificate(&pair.certificate, &pair.key, "", &lifetime(60)).unwrap();
    for request in [
        &add[4..],
        &frame::remove(key.blob())[4..],
        &frame::sign(key.blob(), &proof, 1)[4..],
        &[19],
        &[9],
        &[22, 0, 0, 0, 0],
        &[27, 0, 0, 0, 0],
        &[],
    ] {
        assert_eq!(side.answer(request), frame::failure(), "{request:?}");
    }
    assert_eq!(real.blobs().len(), 2);

    // A CA needs one; the first was above.
    for count in [2, 3] {
        let again = parse_signature(&side.answer(&frame::sign(key.blob(), &proof, 0)[4..])[4..]);
        key.verify(&proof, &again.unwrap(), FidoDemand::Presence).unwrap_or_else(|error| panic!("{count}: {error}"));
    }
    assert_eq!(side.answer(&frame::sign(key.blob(), &proof, 0)[4..]), frame::failure(), "the fourth");
}
