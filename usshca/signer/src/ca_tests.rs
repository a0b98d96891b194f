#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ussh_core::certificate::CertificateKind;
use ussh_core::keys::PrivateKey;
use ussh_core::revoked::RevokedKeys;
use usshca_ipc::admin::{self, Revoke};
use usshca_ipc::front::Wish;
use usshca_ipc::signer::PolicyText;

use super::revoking::revocation_line;
use super::users::issued_detail;
use super::*;
use crate::inventory::{KRL_MARGIN, Outcome, Revocation};
use crate::policy::{MAX_HOST_VALIDITY, Mode, Proofs};

const POLICY: &str = r#"
[[rule]]
name = "no root"
users = ["root"]
deny = true
[[rule]]
name = "dev"
groups = ["dev"]
validity_seconds = 600
backdate_seconds = 30
principals = ["%u", "web"]
extensions = ["permit-pty"]
force_command = "/usr/bin/id"
source_address = ["10.0.0.0/8"]
confirm = true
[[rule]]
name = "staff"
groups = ["staff"]
validity_seconds = 3600
principals = ["%u"]
"#;

/// A clock that tests turn.
#[derive(Clone)]
struct TestClock(Arc<AtomicU64>);

impl Clock for TestClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::Relaxed))
    }
}

fn policy(text: &str) -> Policy {
    let file = PolicyText { name: "policy.toml".into(), folder: String::new(), text: text.into() };
    Policy::of(&[file]).unwrap()
}

struct World {
    dir: tempfile::TempDir,
    clock: TestClock,
    ca: Ca,
}

fn keys() -> CaKeys {
    CaKeys {
        user: Arc::new(PrivateKey::generate_ed25519().unwrap().try_into().unwrap()),
        host: PrivateKey::generate_ed25519().unwrap().try_into().unwrap(),
    }
}

fn world() -> World {
    // Of today: ssh-keygen and our own checks have the real clock.
    let clock = TestClock(Arc::new(AtomicU64::new(ussh_core::clock::SystemClock.now().0)));
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::create(&dir.path().join("inventory.db")).unwrap();
    let ca = Ca::new(keys(), policy(POLICY), inventory, Box::new(clock.clone()));
    World { dir, clock, ca }
}

impl World {
    fn issue(&mut self, user: &str, groups: &[&str]) -> Result<IssuedUser, Refused> {
        let key = PrivateKey::generate_ed25519().unwrap().public_key();
        self.issue_for(user, groups, key.blob())
    }

    fn issue_for(&mut self, user: &str, groups: &[&str], key: &[u8]) -> Result<IssuedUser, Refused> {
        let passed = Passed {
            user: user.into(),
            groups: groups.iter().map(|&g| g.to_owned()).collect(),
            proofs: Proofs { pam: true, publickey: false },
            key: None,
            login_time: self.clock.now(),
        };
        self.issue_wish(&passed, key, &Wish::default())
    }

    fn issue_wish(&mut self, passed: &Passed, key: &[u8], wish: &Wish) -> Result<IssuedUser, Refused> {
        let peer = "192.0.2.9:4711".parse().unwrap();
        self.ca.issue_user(passed, &UserRequest { public_key: key, mode: Mode::Inject, wish, peer, connection: 1 })
    }

    fn rows(&mut self) -> Vec<usshca_ipc::admin::Entry> {
        self.ca.inventory().list(u64::MAX, 500).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// `ssh-keygen -Q`: true = revoked.
    fn ssh_keygen_revokes(&self, krl: &[u8], certificate: &Certificate) -> bool {
        let krl = self.write("krl", krl);
        let cert = self.write("c-cert.pub", certificate.to_openssh("x").as_bytes());
        let out = Command::new("ssh-keygen").arg("-Q").arg("-f").args([&krl, &cert]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(said.contains("REVOKED"), !out.status.success(), "{out:?}");
        assert!(said.contains("REVOKED") || said.contains(": ok"), "{out:?}");
        !out.status.success()
    }
}

fn ssh_keygen_l(path: &Path) -> String {
    let Output { status, stdout, stderr } =
        Command::new("ssh-keygen").env("TZ", "UTC").arg("-Lf").arg(path).output().unwrap();
    assert!(status.success(), "{stderr:?}");
    String::from_utf8(stdout).unwrap()
}

#[test]
fn ssh_keygen_reads_in_the_certificate_what_policy_says() {
    let mut world = world();
    let issued = world.issue("alice", &["dev"]).unwrap();
    let path = world.write("id-cert.pub", issued.certificate.to_openssh("alice").as_bytes());
    let text = ssh_keygen_l(&path);
    let has = |line: &str| assert!(text.lines().any(|l| l.trim() == line), "{line} in\n{text}");
    has("Type: ssh-ed25519-cert-v01@openssh.com user certificate");
    has("Key ID: \"alice\"");
    has(&format!("Serial: {}", issued.certificate.serial()));
    has("alice");
    has("web");
    has("force-command /usr/bin/id");
    has("source-address 10.0.0.0/8");
    has("permit-pty");
    has(&format!("Signing CA: ED25519 {} (using ssh-ed25519)", world.ca.public_keys().0.fingerprint()));
    assert!(text.contains("login-time@ussh"), "{text}");
    assert!(!text.contains("permit-X11"), "{text}");
    let certificate = &issued.certificate;
    let now = world.clock.now().0;
    assert_eq!((certificate.valid_after().0, certificate.valid_before().0), (now - 30, now + 600));
    assert_eq!(certificate.login_time().0, now);
    assert_eq!((issued.lifetime_seconds, issued.confirm, issued.rule.as_str()), (600, true, "dev"));
    let row = world.rows().remove(0);
    assert_eq!((row.serial, row.outcome.as_str(), row.rule.as_str()), (certificate.serial(), "signed", "dev"));
    assert_eq!((row.from.as_str(), row.authenticated.as_str(), row.kind.as_str()), ("192.0.2.9", "pam", "user"));
    assert_eq!(row.principals, ["alice", "web"]);
    assert_eq!(row.fingerprint, certificate.public_key().fingerprint());
}

#[test]
fn refusals_are_rows_with_their_reason_and_tell_the_user_no_rule() {
    let mut world = world();
    for (user, groups, reason, rule) in [
        ("root", &["staff"][..], "refused: the rule denies", "no root"),
        ("dave", &["other"][..], "refused: no rule of the policy matches", ""),
        ("a,b", &["staff"][..], "refused: the account name cannot be a principal", ""),
    ] {
        let refused = world.issue(user, groups).unwrap_err();
        assert!(!refused.for_user().contains("no root"));
        let row = world.rows().remove(0);
        assert_eq!((row.serial, row.key_id.as_str()), (0, user));
        assert_eq!((row.outcome.as_str(), row.rule.as_str()), (reason, rule));
    }
    assert!(world.issue("carol", &["staff"]).is_ok());
}

#[test]
fn refuses_keys_that_are_none_and_the_cas_own() {
    let mut world = world();
    let (user_ca, host_ca) = world.ca.public_keys();
    for blob in [user_ca.blob(), host_ca.blob()] {
        assert!(matches!(world.issue_for("carol", &["staff"], blob), Err(Refused::CaKey)));
    }
    let certificate = world.issue("carol", &["staff"]).unwrap().certificate;
    for blob in [&b""[..], b"junk", certificate.blob()] {
        assert!(matches!(world.issue_for("carol", &["staff"], blob), Err(Refused::Key(_))));
    }
    assert_eq!(world.rows().len(), 6);
}

#[test]
fn refuses_when_the_clock_is_behind_the_newest_row() {
    let mut world = world();
    world.issue("carol", &["staff"]).unwrap();
    world.clock.0.fetch_sub(1, Ordering::Relaxed);
    let refused = world.issue("carol", &["staff"]).unwrap_err();
    assert!(matches!(refused, Refused::Inventory(InventoryError::ClockBehind { .. })));
    assert!(refused.for_user().contains("clock"), "{}", refused.for_user());
    assert!(world.rows()[0].outcome.starts_with("refused: the CA's clock is behind"), "{:?}", world.rows()[0]);
    // Another try at the same time is refused too: the row of the refusal is no new "newest".
    assert!(world.issue("carol", &["staff"]).is_err());
    world.clock.0.fetch_add(1, Ordering::Relaxed);
    assert!(world.issue("carol", &["staff"]).is_ok());
}

/// The order of an issue: a key that cannot sign has its row all the same.
#[test]
fn the_row_is_there_before_the_key_signs() {
    let mut world = world();
    let template = CertificateTemplate {
        public_key: PrivateKey::generate_ed25519().unwrap().public_key(),
        serial: 0,
        kind: CertificateKind::User,
        key_id: "carol".into(),
        principals: vec![],
        valid_after: UnixTime(1),
        valid_before: UnixTime(2),
        critical_options: vec![],
        extensions: vec![],
    };
    let asked = Asked {
        kind: Kind::User,
        key_id: "carol".into(),
        fingerprint: String::new(),
        asked: world.clock.now(),
        source: "x".into(),
        authenticated: "pam".into(),
        rule: "r".into(),
        reason: String::new(),
        request: None,
    };
    assert!(matches!(world.ca.reserve_sign_commit(template, &asked), Err(Refused::Sign(_))));
    let rows = world.rows();
    assert_eq!(rows.len(), 1);
    assert_ne!(rows[0].serial, 0);
    assert!(rows[0].outcome.starts_with("refused: refused to sign: no principals"), "{:?}", rows[0]);
}

#[test]
fn what_the_user_says_that_it_is_for_stands_in_the_row_and_at_the_end_of_the_log_line() {
    let mut world = world();
    let passed = |group: &str| Passed {
        user: "carol".into(),
        groups: vec![group.to_owned()],
        proofs: Proofs { pam: true, publickey: false },
        key: None,
        login_time: world.clock.now(),
    };
    let (staff, nobody) = (passed("staff"), passed("nobody"));
    let key = PrivateKey::generate_ed25519().unwrap().public_key();
    let wish = Wish { reason: "für \\ 7\x1b".into(), ..Wish::default() };
    world.issue_wish(&staff, key.blob(), &wish).unwrap();
    world.issue_wish(&nobody, key.blob(), &wish).unwrap_err();
    world.issue("carol", &["staff"]).unwrap();
    let reasons: Vec<String> = world.rows().into_iter().map(|row| row.reason).collect();
    assert_eq!(reasons, ["", "für \\ 7\x1b", "für \\ 7\x1b"]);
    let line = |reason| issued_detail("carol", "192.0.2.9:4711".parse().unwrap(), "staff", reason);
    assert_eq!(line(""), "for carol from 192.0.2.9:4711 rule \"staff\"");
    assert_eq!(line("x\" rule \"admins"), "for carol from 192.0.2.9:4711 rule \"staff\" reason \"x' rule 'admins\"");
}

#[test]
fn nothing_leaves_when_the_signed_certificate_cannot_be_recorded() {
    let mut world = world();
    let sabotage = rusqlite::Connection::open(world.dir.path().join("inventory.db")).unwrap();
    sabotage
        .execute_batch(
            "CREATE TRIGGER full BEFORE UPDATE ON certificate WHEN new.state = 'signed' BEGIN SELECT RAISE(ABORT, 'disk full'); END",
        )
        .unwrap();
    let refused = world.issue("carol", &["staff"]).unwrap_err();
    assert!(refused.for_user().contains("at the moment"), "{}", refused.for_user());
    let reserved = world.rows().into_iter().find(|r| r.serial != 0).unwrap();
    assert_eq!(reserved.outcome, "reserved");
    // And nothing is signed when the row cannot be written at all.
    sabotage
        .execute_batch("CREATE TRIGGER none BEFORE INSERT ON certificate BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        .unwrap();
    let count = world.rows().len();
    assert!(matches!(world.issue("carol", &["staff"]), Err(Refused::Inventory(_))));
    assert_eq!(world.rows().len(), count);
}

/// What many ask at once.
struct Crowd {
    passed: Vec<Passed>,
    keys: Vec<Vec<u8>>,
    wish: Wish,
}

impl Crowd {
    fn of(users: &[(&str, &str)], now: UnixTime) -> Self {
        let passed = |(user, group): &(&str, &str)| Passed {
            user: (*user).to_owned(),
            groups: vec![(*group).to_owned()],
            proofs: Proofs { pam: true, publickey: false },
            key: None,
            login_time: now,
        };
        let key = |_: &(&str, &str)| PrivateKey::generate_ed25519().unwrap().public_key().to_blob();
        Crowd {
            passed: users.iter().map(passed).collect(),
            keys: users.iter().map(key).collect(),
            wish: Wish::default(),
        }
    }

    fn requests(&self) -> Vec<(&Passed, UserRequest<'_>)> {
        let peer = "192.0.2.9:4711".parse().unwrap();
        let (mode, wish) = (Mode::Inject, &self.wish);
        let of = |(passed, key)| (passed, UserRequest { public_key: key, mode, wish, peer, connection: 1 });
        self.passed.iter().zip(self.keys.iter().map(Vec::as_slice)).map(of).collect()
    }
}

#[test]
fn what_is_asked_at_once_is_answered_one_by_one() {
    let mut world = world();
    let mut crowd = Crowd::of(
        &[("carol", "staff"), ("root", "staff"), ("dora", "staff"), ("a,b", "staff"), ("erik", "dev")],
        world.clock.now(),
    );
    crowd.keys[2] = b"junk".to_vec();
    let first = world.ca.turn(vec![], &[], &crowd.requests());
    let why: Vec<_> = first.decided.iter().map(|d| d.as_ref().err().map(ToString::to_string)).collect();
    assert!(why[0].is_none() && why[4].is_none(), "{why:?}");
    assert_eq!(why[1].as_deref(), Some("the rule denies"));
    assert!(why[2].as_ref().unwrap().contains("the key cannot be certified"));
    assert!(why[3].as_ref().unwrap().contains("cannot be a principal"));
    // Nothing has left yet, and all of it is on disk.
    let outcomes: Vec<_> = world.rows().into_iter().rev().map(|row| (row.key_id, row.outcome)).collect();
    assert_eq!(outcomes[0], ("carol".to_owned(), "reserved".to_owned()));
    assert_eq!(outcomes[1], ("root".to_owned(), "refused: the rule denies".to_owned()));
    assert_eq!(outcomes[4], ("erik".to_owned(), "reserved".to_owned()));

    let signed = first.decided.into_iter().filter_map(Result::ok).collect();
    let next = Crowd::of(&[("frida", "staff")], world.clock.now());
    let second = world.ca.turn(
        signed,
        &[OutcomeOf { serial: 12345, user: String::new(), outcome: Outcome::Delivered }],
        &next.requests(),
    );
    let issued: Vec<_> = second.issued.iter().map(|i| i.as_ref().unwrap()).collect();
    let names: Vec<_> = issued.iter().map(|i| (i.user.as_str(), i.certificate.key_id(), i.rule.as_str())).collect();
    assert_eq!(names, [("carol", &b"carol"[..], "staff"), ("erik", b"erik", "dev")]);
    assert!(matches!(second.noted[..], [Err(InventoryError::State { .. })]));
    assert!(matches!(second.decided[..], [Ok(_)]));
    for issued in issued {
        let row = world.ca.inventory().find(issued.certificate.serial()).unwrap().unwrap();
        assert_eq!((row.entry.outcome.as_str(), row.entry.key_id), ("signed", issued.user.clone()));
        assert_eq!(row.certificate.as_deref(), Some(issued.certificate.blob()));
    }
}

#[test]
fn nobody_is_given_a_certificate_that_is_revoked_already() {
    let mut world = world();
    let user_ca = Revoke::Ca { kind: admin::CertificateKind::User, fingerprint: String::new() };
    let key_id = Revoke::KeyId { kind: admin::CertificateKind::User, key_id: "alice".into() };
    for (what, others_too) in [(key_id, false), (user_ca, true)] {
        world.issue("alice", &["dev"]).unwrap();
        let Revocation::Done { act, .. } = world.ca.revoke(what.clone(), "a", "").unwrap() else { panic!("{what:?}") };
        assert!(matches!(world.issue("alice", &["dev"]), Err(Refused::KeyIdRevoked)), "{what:?}");
        assert_eq!(matches!(world.issue("carol", &["staff"]), Err(Refused::KeyIdRevoked)), others_too, "{what:?}");
        world.ca.lift(act, "a").unwrap();
        world.issue("alice", &["dev"]).unwrap();
    }
    // By name only what there is so far.
    world.ca.revoke(Revoke::User("alice".into()), "a", "").unwrap();
    world.issue("alice", &["dev"]).unwrap();
}

#[test]
fn two_who_ask_at_once_do_not_share_the_last_place() {
    let mut world = world();
    world.ca.set_policy(policy(
        &POLICY.replace("validity_seconds = 3600", "validity_seconds = 3600\nmax_certificates = 1"),
    ));
    let crowd = Crowd::of(&[("carol", "staff"), ("carol", "staff")], world.clock.now());
    let turned = world.ca.turn(vec![], &[], &crowd.requests());
    assert!(matches!(turned.decided[..], [Ok(_), Err(Refused::TooMany { most: 1, next: Some(_) })]), "{turned:?}");
}

#[test]
fn when_a_turn_cannot_be_written_everybody_in_it_is_told_so_and_nothing_leaves() {
    let mut world = world();
    let crowd = Crowd::of(&[("carol", "staff"), ("dora", "staff")], world.clock.now());
    let first = world.ca.turn(vec![], &[], &crowd.requests());
    let sabotage = rusqlite::Connection::open(world.dir.path().join("inventory.db")).unwrap();
    let trigger = "CREATE TRIGGER full BEFORE UPDATE ON certificate WHEN new.key_id = 'dora' BEGIN SELECT RAISE(ROLLBACK, 'disk full'); END";
    sabotage.execute_batch(trigger).unwrap();
    let signed = first.decided.into_iter().filter_map(Result::ok).collect();
    let second = world.ca.turn(signed, &[], &crowd.requests());
    let refused = second.issued.iter().map(|i| i.as_ref().unwrap_err());
    let refused: Vec<_> = refused.chain(second.decided.iter().map(|d| d.as_ref().unwrap_err())).collect();
    assert_eq!(refused.len(), 4);
    for refused in refused {
        assert!(refused.for_user().contains("at the moment"), "{refused}");
    }
    assert!(world.rows().iter().all(|row| row.outcome == "reserved") && world.rows().len() == 2);
    sabotage.execute_batch("DROP TRIGGER full").unwrap();
    assert!(world.issue("carol", &["staff"]).is_ok());
}

#[test]
fn when_a_turn_cannot_even_be_begun_everybody_in_it_is_told_so_and_nothing_leaves() {
    let mut world = world();
    let crowd = Crowd::of(&[("carol", "staff"), ("dora", "staff")], world.clock.now());
    let first = world.ca.turn(vec![], &[], &crowd.requests());
    let sabotage = rusqlite::Connection::open(world.dir.path().join("inventory.db")).unwrap();
    sabotage.execute_batch("ALTER TABLE ca RENAME TO ca_elsewhere").unwrap();
    let signed = first.decided.into_iter().filter_map(Result::ok).collect();
    let second = world.ca.turn(
        signed,
        &[OutcomeOf { serial: 1, user: String::new(), outcome: Outcome::Delivered }],
        &crowd.requests(),
    );
    let refused = second.issued.iter().map(|i| i.as_ref().unwrap_err());
    let refused: Vec<_> = refused.chain(second.decided.iter().map(|d| d.as_ref().unwrap_err())).collect();
    assert_eq!(refused.len(), 4);
    for refused in refused {
        assert!(refused.to_string().contains("no such table: ca"), "{refused}");
    }
    assert!(matches!(second.noted[..], [Err(InventoryError::Together(_))]));
    sabotage.execute_batch("ALTER TABLE ca_elsewhere RENAME TO ca").unwrap();
    assert!(world.rows().iter().all(|row| row.outcome == "reserved") && world.rows().len() == 2);
}

#[test]
fn ssh_keygen_finds_in_the_krl_what_was_revoked_and_nothing_else() {
    let mut world = world();
    let empty = world.ca.krl().unwrap();
    let certificates: Vec<_> = (0..3).map(|_| world.issue("carol", &["staff"]).unwrap().certificate).collect();
    let host_key = PrivateKey::generate_ed25519().unwrap().public_key();
    let request = |name: &str| HostRequest {
        public_key: host_key.blob().to_vec(),
        principals: vec![name.into()],
        validity_seconds: Some(3600),
        take_key: true,
    };
    let hosts =
        [world.ca.issue_host(&request("web1"), "a").unwrap(), world.ca.issue_host(&request("web2"), "a").unwrap()];
    for certificate in certificates.iter().chain(&hosts) {
        assert!(!world.ssh_keygen_revokes(&empty, certificate));
    }
    assert!(matches!(
        world.ca.revoke(Revoke::Serial(certificates[1].serial()), "admin", "lost").unwrap(),
        Revocation::Done { certificates: 1, .. }
    ));
    assert!(matches!(
        world.ca.revoke(Revoke::Serial(hosts[0].serial()), "admin", "").unwrap(),
        Revocation::Done { certificates: 1, .. }
    ));
    assert_eq!(world.ca.revoke(Revoke::Serial(certificates[1].serial()), "admin", "").unwrap(), Revocation::Already);
    assert_eq!(world.ca.revoke(Revoke::Serial(1), "admin", "").unwrap(), Revocation::Unknown);
    let krl = world.ca.krl().unwrap();
    let revoked: Vec<bool> = certificates.iter().chain(&hosts).map(|c| world.ssh_keygen_revokes(&krl, c)).collect();
    assert_eq!(revoked, [false, true, false, true, false]);
    let (first, second) = (RevokedKeys::parse(&empty).unwrap(), RevokedKeys::parse(&krl).unwrap());
    assert!(second.version() > first.version());
    assert!(second.revokes(&certificates[1]) && !second.revokes(&certificates[0]));
    // Over, and an hour more: no longer listed.
    world.clock.0.fetch_add(3600 + KRL_MARGIN, Ordering::Relaxed);
    let later = world.ca.krl().unwrap();
    assert!(!world.ssh_keygen_revokes(&later, &certificates[1]));
}

#[test]
fn a_serial_of_one_ca_revokes_nothing_of_the_other() {
    let mut world = world();
    let user = world.issue("carol", &["staff"]).unwrap().certificate;
    world.ca.revoke(Revoke::Serial(user.serial()), "admin", "").unwrap();
    let krl = world.ca.krl().unwrap();
    let template = CertificateTemplate {
        public_key: PrivateKey::generate_ed25519().unwrap().public_key(),
        serial: user.serial(),
        kind: CertificateKind::Host,
        key_id: "web1".into(),
        principals: vec!["web1".into()],
        valid_after: UnixTime(1),
        valid_before: UnixTime::FOREVER,
        critical_options: vec![],
        extensions: vec![],
    };
    let host = template.sign(&world.ca.keys.host).unwrap();
    assert!(world.ssh_keygen_revokes(&krl, &user) && !world.ssh_keygen_revokes(&krl, &host));
}

#[test]
fn host_certificates_are_checked_and_recorded() {
    let mut world = world();
    let key = PrivateKey::generate_ed25519().unwrap().public_key();
    let good = HostRequest {
        public_key: key.blob().to_vec(),
        principals: vec!["web1".into(), "web1.example.com".into(), "2001:db8::1".into()],
        validity_seconds: Some(86_400),
        take_key: false,
    };
    let certificate = world.ca.issue_host(&good, "admin uid 0").unwrap();
    let text = ssh_keygen_l(&world.write("h-cert.pub", certificate.to_openssh("web1").as_bytes()));
    assert!(text.contains("ssh-ed25519-cert-v01@openssh.com host certificate"), "{text}");
    assert!(text.contains(&format!("Signing CA: ED25519 {}", world.ca.public_keys().1.fingerprint())), "{text}");
    assert!(text.contains("web1.example.com") && text.contains("Critical Options: (none)"), "{text}");
    let row = world.rows().remove(0);
    assert_eq!((row.kind.as_str(), row.from.as_str(), row.authenticated.as_str()), ("host", "admin", "admin uid 0"));
    assert_eq!((row.key_id.as_str(), row.outcome.as_str()), ("web1", "signed"));

    for name in ["", "*", "web*", "we?b", "!web", "web,1", "Web1", "web 1", "-web", "wéb", "web1\n", "web/1"] {
        let request = HostRequest { principals: vec!["web1".into(), name.into()], ..good.clone() };
        assert!(matches!(world.ca.issue_host(&request, "a"), Err(Refused::Host(_))), "{name:?}");
        assert!(world.rows()[0].outcome.starts_with("refused: "), "{name:?}");
    }
    for validity_seconds in [0, MAX_HOST_VALIDITY + 1, u64::MAX] {
        let request = HostRequest { validity_seconds: Some(validity_seconds), ..good.clone() };
        assert!(matches!(world.ca.issue_host(&request, "a"), Err(Refused::Host(_))), "{validity_seconds}");
    }
    let none = HostRequest { principals: vec![], ..good.clone() };
    assert!(matches!(world.ca.issue_host(&none, "a"), Err(Refused::Host(_))));
    let own = HostRequest { public_key: world.ca.public_keys().1.blob().to_vec(), ..good };
    assert!(matches!(world.ca.issue_host(&own, "a"), Err(Refused::CaKey)));
}

#[test]
fn a_revocation_reads_well_in_the_log() {
    let done = Revocation::Done { act: 3, certificates: 1, held: 0 };
    let held = Revocation::Done { act: 3, certificates: 2, held: 1 };
    for (done, reason, expected) in [
        (held, "", "Revoked serial 7 (revocation 3, 2 certificates, 1 of them revoked before) by admin uid 0"),
        (done, "lost", "Revoked serial 7 (revocation 3, 1 certificates) by admin uid 0: lost"),
        (done, "", "Revoked serial 7 (revocation 3, 1 certificates) by admin uid 0"),
        (Revocation::Already, "", "Revoked before: serial 7; asked again by admin uid 0"),
        (Revocation::Unknown, "lost", "Not revoked: there is no certificate for serial 7; asked by admin uid 0: lost"),
    ] {
        assert_eq!(revocation_line(&Revoke::Serial(7), "admin uid 0", reason, done), expected);
    }
}
