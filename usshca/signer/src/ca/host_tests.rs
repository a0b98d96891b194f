#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64ct::Encoding;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::enroll::{Claims, Exchange, Granted, Verb, answer, hello, read_proof};
use ussh_core::keys::PrivateKey;
use ussh_core::revoked::RevokedKeys;
use usshca_ipc::admin::Entry;
use usshca_ipc::host::Host;
use usshca_ipc::signer::PolicyText;

use super::*;
use crate::ca_keys::CaKeys;
use crate::inventory::{Inventory, Lifted, Outcome};
use crate::policy::Policy;

const POLICY: &str = "[[rule]]\nname = \"all\"\nvalidity_seconds = 600\nprincipals = [\"%u\"]\n";
const NONCE: [u8; NONCE_LEN] = [9; NONCE_LEN];
const DAY: u64 = 86_400;

#[derive(Clone)]
struct TestClock(Arc<AtomicU64>);

impl Clock for TestClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::Relaxed))
    }
}

struct World {
    _dir: tempfile::TempDir,
    clock: TestClock,
    ca: Ca,
    host_ca_text: String,
}

fn policy(text: &str) -> Policy {
    let file = PolicyText { name: "policy.toml".into(), folder: String::new(), text: text.into() };
    Policy::of(&[file]).unwrap()
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock(Arc::new(AtomicU64::new(SystemClock.now().0)));
    let host_ca = key();
    let host_ca_text = host_ca.to_openssh("").unwrap().to_string();
    let keys = CaKeys { user: Arc::new(key().try_into().unwrap()), host: host_ca.try_into().unwrap() };
    let inventory = Inventory::create(&dir.path().join("inventory.db")).unwrap();
    let ca = Ca::new(keys, policy(POLICY), inventory, Box::new(clock.clone()));
    World { _dir: dir, clock, ca, host_ca_text }
}

fn key() -> PrivateKey {
    PrivateKey::generate_ed25519().unwrap()
}

fn copies(keys: &[&PrivateKey]) -> Vec<PrivateKey> {
    keys.iter().map(|key| PrivateKey::from_openssh(&key.to_openssh("").unwrap()).unwrap()).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn peer(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 4711)
}

const HOME: &str = "192.0.2.10";

impl World {
    fn token(&mut self, of: &[&str]) -> String {
        self.ca.make_host_token(&names(of), 3600, "admin uid 0").unwrap().secret.to_text().to_string()
    }

    /// Both halves of the protocol, without what carries it.
    fn run(&mut self, mut exchange: Exchange, from: &str) -> Result<Granted, String> {
        let verb = exchange.verb();
        let proof = read_proof(exchange.prove(hello(verb, &NONCE).as_bytes()).unwrap().as_bytes()).unwrap();
        let proven = Claims { verb, nonce: &NONCE, names: &proof.names }.verify(&proof).unwrap();
        let granted = match verb {
            Verb::Enroll => self.ca.enroll(&proven, &NONCE, peer(from)),
            Verb::Renew | Verb::Report | Verb::Krl | Verb::BreakGlass => self.ca.renew(&proven, &NONCE, peer(from)),
        };
        let granted = granted.map_err(|refused| refused.for_host())?;
        for serial in &granted.serials {
            let noted = self
                .ca
                .turn(
                    Vec::new(),
                    &[crate::ca::OutcomeOf { serial: *serial, user: String::new(), outcome: Outcome::Delivered }],
                    &[],
                )
                .noted;
            assert!(noted.iter().all(Result::is_ok), "{noted:?}");
        }
        let line = answer(ussh_core::enroll::Answer::Granted(granted.grant));
        Ok(exchange.granted(line.as_bytes(), self.clock.now()).unwrap())
    }

    fn enroll(&mut self, token: &str, asked: &[&str], keys: &[&PrivateKey]) -> Result<Granted, String> {
        let token = HostToken::parse(token).unwrap();
        self.run(Exchange::enroll(token, names(asked), copies(keys)), HOME)
    }

    fn renew(&mut self, asked: &[&str], keys: &[&PrivateKey]) -> Result<Granted, String> {
        let host_ca = self.ca.public_keys().1;
        self.run(Exchange::renew(host_ca, names(asked), copies(keys)), HOME)
    }

    fn report(&mut self, key: &PrivateKey, from: &str) -> Result<(String, Option<u64>), String> {
        let claims = Claims { verb: Verb::Report, nonce: &NONCE, names: &[] };
        let proven = claims.verify(&claims.sign(None, &copies(&[key])).unwrap()).unwrap();
        self.ca.report(&proven, peer(from)).map_err(|refused| refused.for_host())
    }

    fn break_glass(&mut self, key: &PrivateKey, notes: &[String]) -> Result<String, String> {
        let claims = Claims { verb: Verb::BreakGlass, nonce: &NONCE, names: notes };
        let proven = claims.verify(&claims.sign(None, &copies(&[key])).unwrap()).unwrap();
        self.ca.record_break_glass(&proven, peer(HOME)).map(|(host, _)| host).map_err(|refused| refused.for_host())
    }

    fn krl(&mut self, key: &PrivateKey) -> Vec<u8> {
        let claims = Claims { verb: Verb::Krl, nonce: &NONCE, names: &[] };
        let proven = claims.verify(&claims.sign(None, &copies(&[key])).unwrap()).unwrap();
        self.ca.krl_for_host(&proven, peer(HOME)).unwrap()
    }

    fn host(&mut self, name: &str) -> Host {
        self.ca.inventory().host(name).unwrap().unwrap()
    }

    fn rows(&mut self) -> Vec<Entry> {
        self.ca.inventory().list(u64::MAX, 500).unwrap()
    }

    fn pass(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }

    fn revokes(&mut self, granted: &Granted) -> Vec<bool> {
        let krl = RevokedKeys::parse(&self.ca.krl().unwrap()).unwrap();
        granted.certificates.iter().map(|certificate| krl.revokes(certificate)).collect()
    }
}

#[test]
fn a_token_gives_each_key_a_certificate_and_the_host_a_place_in_the_inventory() {
    let mut world = world();
    let token = world.token(&["web1", "web1.example.com"]);
    let (one, two) = (key(), key());
    let granted = world.enroll(&token, &["web1.example.com", "web1"], &[&one, &two]).unwrap();
    let now = world.clock.now().0;
    assert_eq!(granted.certificates.len(), 2);
    for (certificate, key) in granted.certificates.iter().zip([&one, &two]) {
        assert_eq!(certificate.key_id(), b"web1");
        assert_eq!(certificate.principals(), [b"web1".to_vec(), b"web1.example.com".to_vec()]);
        assert_eq!(certificate.public_key(), &key.public_key());
        assert_eq!((certificate.valid_after().0, certificate.valid_before().0), (now - 300, now + 90 * DAY));
    }
    let (user_ca, host_ca) = world.ca.public_keys();
    assert_eq!((granted.user_ca, granted.host_ca), (vec![user_ca], host_ca.clone()));
    assert_eq!(granted.known_hosts, format!("@cert-authority * {}", host_ca.to_openssh("host CA")));
    let host = world.host("web1");
    assert_eq!((host.enrolled, host.enrolled_by.as_str()), (now, "token 1"));
    assert_eq!((host.seen, host.seen_from.as_deref(), host.removed), (Some(now), Some(HOME), None));
    assert_eq!((host.keys.len(), host.valid_before()), (2, Some(now + 90 * DAY)));
    assert_eq!(host.principals(), ["web1", "web1.example.com"]);
    for row in world.rows() {
        assert_eq!((row.kind.as_str(), row.authenticated.as_str(), row.from.as_str()), ("host", "token 1", HOME));
        assert_eq!(row.outcome, "delivered");
    }
    assert_eq!(world.rows().len(), 2);
}

#[test]
fn a_token_is_used_once_in_its_time_for_its_names() {
    let mut world = world();
    let ask = "Ask the people who run the CA for a new token (usshca host token).";
    let used = world.token(&["web1"]);
    world.enroll(&used, &[], &[&key()]).unwrap();
    world.pass(5);
    let refused = world.enroll(&used, &[], &[&key()]).unwrap_err();
    assert_eq!(refused, format!("This token was used before, 5 s ago. {ask}"));
    let token = world.token(&["web2"]);
    for other in [&["web3"][..], &["web2", "web3"], &["web1", "web2"]] {
        let refused = world.enroll(&token, other, &[&key()]).unwrap_err();
        assert_eq!(refused, format!("This token is for other names: web2. {ask}"));
    }
    world.pass(3599);
    world.enroll(&token, &["web2"], &[&key()]).unwrap();
    let late = world.token(&["web4"]);
    world.pass(3600);
    let refused = world.enroll(&late, &[], &[&key()]).unwrap_err();
    assert_eq!(refused, format!("This token expired 0 s ago. {ask}"));
    let revoked = world.token(&["web5"]);
    assert_eq!(world.ca.revoke_host_token(4, "a").unwrap(), TokenRevocation::Done);
    assert_eq!(world.enroll(&revoked, &[], &[&key()]).unwrap_err(), format!("This token was revoked. {ask}"));
    for (id, expected) in [(4, TokenRevocation::Useless), (1, TokenRevocation::Useless), (9, TokenRevocation::Unknown)]
    {
        assert_eq!(world.ca.revoke_host_token(id, "a").unwrap(), expected);
    }
    // Each of them stands in the inventory, and none is a certificate.
    let refusals: Vec<String> = world.rows().into_iter().filter(|row| row.serial == 0).map(|row| row.outcome).collect();
    assert_eq!(refusals.len(), 6);
    assert!(refusals.iter().all(|outcome| outcome.starts_with("refused: This token ")), "{refusals:?}");
    assert_eq!(world.ca.inventory().hosts("", 10).unwrap().len(), 2);
}

#[test]
fn a_token_of_another_ca_is_not_known_and_leaves_no_row() {
    let (mut world, mut other) = (world(), world());
    let token = other.token(&["web1"]);
    world.token(&["web1"]);
    let refused = world.enroll(&token, &[], &[&key()]).unwrap_err();
    assert!(refused.starts_with("The CA does not know this token. Ask "), "{refused}");
    assert_eq!(world.rows(), []);
}

#[test]
fn what_is_kept_of_a_token_is_no_token() {
    let mut world = world();
    let text = world.token(&["web1"]);
    let seed = text.strip_prefix("ussh-host-").unwrap();
    let database = std::fs::read(world._dir.path().join("inventory.db-wal")).unwrap();
    let holds = |what: &[u8]| database.windows(what.len()).any(|window| window == what);
    let bytes = base64ct::Base64UrlUnpadded::decode_vec(seed).unwrap();
    assert!(!holds(&seed.as_bytes()[..20]) && !holds(&bytes[..16]));
    let fingerprint = HostToken::parse(&text).unwrap().key().unwrap().public_key().fingerprint();
    assert!(holds(fingerprint.as_bytes()));
}

#[test]
fn tokens_are_listed_as_long_as_they_can_be_used() {
    let mut world = world();
    let first = world.token(&["web1"]);
    world.token(&["web2"]);
    world.ca.make_host_token(&names(&["web3"]), 60, "a").unwrap();
    world.ca.make_host_token(&names(&["web4"]), 7 * DAY, "a").unwrap();
    world.enroll(&first, &[], &[&key()]).unwrap();
    world.ca.revoke_host_token(2, "a").unwrap();
    let open = |world: &mut World| {
        let now = world.clock.now();
        let open = world.ca.inventory().open_tokens(now, u64::MAX, 10).unwrap();
        open.into_iter().map(|token| token.id).collect::<Vec<_>>()
    };
    assert_eq!(open(&mut world), [4, 3]);
    world.pass(60);
    assert_eq!(open(&mut world), [4]);
    for life in [0, 7 * DAY + 1] {
        assert!(matches!(world.ca.make_host_token(&names(&["web1"]), life, "a"), Err(Refused::Host(_))));
    }
}

#[test]
fn a_host_renews_its_own_keys_for_the_names_that_it_has() {
    let mut world = world();
    let (one, two) = (key(), key());
    let token = world.token(&["web1", "www"]);
    let first = world.enroll(&token, &[], &[&one, &two]).unwrap();
    world.pass(60 * DAY);
    let again = world.renew(&["www", "web1"], &[&one]).unwrap();
    assert_eq!(again.certificates[0].principals(), first.certificates[0].principals());
    let now = world.clock.now().0;
    assert_eq!(again.certificates[0].valid_before().0, now + 90 * DAY);
    let row = world.rows().remove(0);
    assert_eq!(row.authenticated, format!("host key {}", one.public_key().fingerprint()));
    // The other key's is the first to end.
    assert_eq!(world.host("web1").valid_before(), Some(now + 30 * DAY));
    world.renew(&[], &[&one, &two]).unwrap();
    for more in [&["web1", "www", "admin"][..], &["admin"], &["web1"], &["*"]] {
        let refused = world.renew(more, &[&one]).unwrap_err();
        assert!(refused.starts_with("A host is renewed for the names that it has: web1, www. "), "{refused}");
        assert!(world.rows()[0].outcome.starts_with("refused: A host is renewed for the names "));
    }
    // After the certificate's end it is still this host.
    world.pass(400 * DAY);
    world.renew(&[], &[&one]).unwrap();
}

#[test]
fn only_a_hosts_present_keys_renew_it() {
    let mut world = world();
    let (web1, web2, nobodys) = (key(), key(), key());
    let token = world.token(&["web1"]);
    world.enroll(&token, &[], &[&web1]).unwrap();
    let token = world.token(&["web2"]);
    world.enroll(&token, &[], &[&web2]).unwrap();
    let count = world.rows().len();
    let refused = world.renew(&[], &[&nobodys]).unwrap_err();
    assert!(refused.starts_with("The CA knows no host with the key SHA256:"), "{refused}");
    assert_eq!(world.rows().len(), count, "anybody has a key: it is in the log, and not in the inventory");
    let fingerprint = |key: &PrivateKey| key.public_key().fingerprint();
    for (other, keys) in [(&web2, [&web1, &web2]), (&nobodys, [&web1, &nobodys])] {
        let refused = world.renew(&[], &keys).unwrap_err();
        assert!(
            refused.starts_with(&format!("The key {} is none of the host web1's.", fingerprint(other))),
            "{refused}"
        );
    }
    // Enrolled again with another key: the machine was set up anew.
    let token = world.token(&["web1"]);
    let new = key();
    world.enroll(&token, &[], &[&new]).unwrap();
    world.renew(&[], &[&new]).unwrap();
    let refused = world.renew(&[], &[&web1]).unwrap_err();
    assert!(refused.starts_with("The host web1 was enrolled again without the key SHA256:"), "{refused}");
    assert_eq!(world.report(&web1, HOME).unwrap_err(), refused);
    let host = world.host("web1");
    assert_eq!((host.keys.len(), host.present_keys().count()), (2, 1));
}

#[test]
fn a_key_is_one_hosts() {
    let mut world = world();
    let shared = key();
    let token = world.token(&["web1"]);
    world.enroll(&token, &[], &[&shared]).unwrap();
    let token = world.token(&["web2"]);
    let refused = world.enroll(&token, &[], &[&key(), &shared]).unwrap_err();
    assert!(refused.contains("belongs to the host web1. Each host has keys of its own"), "{refused}");
    assert!(world.ca.inventory().host("web2").unwrap().is_none());
    // The token was not used up by that.
    world.enroll(&token, &[], &[&key()]).unwrap();
    world.ca.remove_host("web1", "a", "").unwrap();
    let token = world.token(&["web3"]);
    world.enroll(&token, &[], &[&shared]).unwrap();
    world.renew(&[], &[&shared]).unwrap();
    let host_ca = world.host_ca_text.clone();
    let token = world.token(&["web4"]);
    let refused = world.enroll(&token, &[], &[&PrivateKey::from_openssh(&host_ca).unwrap()]).unwrap_err();
    assert!(refused.contains("a CA's own"), "{refused}");
}

#[test]
fn what_is_revoked_is_not_renewed_until_that_is_undone_or_the_host_enrolls_anew() {
    let mut world = world();
    let host = key();
    let token = world.token(&["web1"]);
    let granted = world.enroll(&token, &[], &[&host]).unwrap();
    let fingerprint = host.public_key().fingerprint();
    let ways = [
        Revoke::Serial(granted.certificates[0].serial()),
        Revoke::Host("web1".into()),
        Revoke::Key(fingerprint.clone()),
        Revoke::KeyId { kind: usshca_ipc::admin::CertificateKind::Host, key_id: "web1".into() },
    ];
    for way in ways {
        let Revocation::Done { act, .. } = world.ca.revoke(way.clone(), "a", "").unwrap() else {
            panic!("{way:?}");
        };
        let refused = world.renew(&[], &[&host]).unwrap_err();
        let expected = format!("The key {fingerprint} of the host web1 is revoked, or its last certificate is. Ask ");
        assert!(refused.starts_with(&expected), "{way:?}: {refused}");
        assert!(world.report(&host, HOME).unwrap_err().starts_with(&expected));
        world.ca.lift(act, "a").unwrap();
        assert!(world.report(&host, HOME).is_ok(), "{way:?}");
    }
    // A user of that name is somebody else.
    let user = Revoke::KeyId { kind: usshca_ipc::admin::CertificateKind::User, key_id: "web1".into() };
    world.ca.revoke(user, "a", "").unwrap();
    world.renew(&[], &[&host]).unwrap();
    world.ca.revoke(Revoke::Host("web1".into()), "a", "stolen").unwrap();
    let token = world.token(&["web1"]);
    world.enroll(&token, &[], &[&host]).unwrap();
    world.renew(&[], &[&host]).unwrap();
}

#[test]
fn a_host_that_is_removed_has_no_certificate_no_renewal_and_no_token() {
    let mut world = world();
    let (web1, web2) = (key(), key());
    let token = world.token(&["web1", "www"]);
    let first = world.enroll(&token, &[], &[&web1]).unwrap();
    let token = world.token(&["web2", "web1.example.com", "www"]);
    let second = world.enroll(&token, &[], &[&web2]).unwrap();
    let renewed = world.renew(&[], &[&web1]).unwrap();
    let pending = world.token(&["web1"]);
    let others = world.token(&["web10"]);
    assert_eq!(world.ca.remove_host("web1", "admin uid 0", "scrapped").unwrap(), Some(2));
    assert_eq!((world.revokes(&first), world.revokes(&renewed)), (vec![true], vec![true]));
    assert_eq!(world.revokes(&second), [false], "a name that both have revokes one of them only");
    let refused = world.renew(&[], &[&web1]).unwrap_err();
    assert!(refused.starts_with("The host web1 was removed from the CA. Ask "), "{refused}");
    assert!(world.enroll(&pending, &[], &[&key()]).unwrap_err().starts_with("This token was revoked."));
    world.enroll(&others, &[], &[&key()]).unwrap();
    world.renew(&[], &[&web2]).unwrap();
    let host = world.host("web1");
    assert_eq!((host.removed, host.removed_by.as_deref()), (Some(world.clock.now().0), Some("admin uid 0")));
    assert_eq!(world.ca.remove_host("web1", "admin uid 0", "").unwrap(), Some(0));
    assert_eq!(world.ca.remove_host("web9", "admin uid 0", "").unwrap(), None);
    // A new token brings it back.
    let token = world.token(&["web1"]);
    world.enroll(&token, &[], &[&web1]).unwrap();
    assert_eq!(world.host("web1").removed, None);
}

#[test]
fn a_removed_hosts_key_is_not_good_again_when_its_name_goes_to_another_machine() {
    let mut world = world();
    let (old, new) = (key(), key());
    let sign = |world: &mut World, key: &PrivateKey| {
        let public_key = key.public_key().to_blob();
        let request =
            HostRequest { public_key, principals: names(&["web1"]), validity_seconds: Some(3600), take_key: false };
        world.ca.issue_host(&request, "admin uid 0").unwrap();
    };
    sign(&mut world, &old);
    // Its certificate is over, so that there is none to revoke.
    world.pass(DAY);
    assert_eq!(world.ca.remove_host("web1", "a", "stolen").unwrap(), Some(0));
    sign(&mut world, &new);
    assert!(world.renew(&[], &[&old]).is_err());
    assert!(world.report(&old, HOME).is_err());
    world.renew(&[], &[&new]).unwrap();
}

/// By the number of acts a database from before is known to be old, and what was taken back is not good again unnoticed.
#[test]
fn a_revoked_token_and_a_removed_host_are_acts_of_the_inventory() {
    let mut world = world();
    let acts = |world: &World| -> i64 {
        let database = rusqlite::Connection::open(world._dir.path().join("inventory.db")).unwrap();
        database.query_row("SELECT acts FROM ca", [], |row| row.get(0)).unwrap()
    };
    world.token(&["web1"]);
    let before = acts(&world);
    let now = world.clock.now();
    world.ca.inventory().revoke_host_token(1, now, "a").unwrap();
    assert_eq!(acts(&world), before + 1);
    let token = world.token(&["web2"]);
    world.enroll(&token, &[], &[&key()]).unwrap();
    // Its certificate is over: there is none to revoke.
    world.pass(400 * DAY);
    let before = acts(&world);
    assert_eq!(world.ca.remove_host("web2", "a", "").unwrap(), Some(0));
    assert_eq!(acts(&world), before + 1);
}

/// As a revocation by time, which is lifted later: what a removed host has stays revoked.
#[test]
fn a_removal_revokes_what_another_revocation_holds_already() {
    let mut world = world();
    let token = world.token(&["web1"]);
    let certificate = world.enroll(&token, &[], &[&key()]).unwrap().certificates.remove(0);
    let by_name = Revoke::Host("web1".into());
    let Revocation::Done { act, .. } = world.ca.revoke(by_name, "a", "").unwrap() else { panic!() };
    assert_eq!(world.ca.remove_host("web1", "a", "scrapped").unwrap(), Some(0), "none more than before");
    assert_eq!(world.ca.lift(act, "a").unwrap(), Lifted::Done { certificates: 0, held: 1 });
    let row = world.ca.inventory().find(certificate.serial()).unwrap().unwrap();
    assert_eq!(row.revocation_reason.as_deref(), Some("scrapped"));
    // Asked again, nothing is left to do.
    assert_eq!(world.ca.remove_host("web1", "a", "").unwrap(), Some(0));
    assert_eq!(world.ca.inventory().revocations(u64::MAX, 9).unwrap().len(), 2);
}

#[test]
fn two_addresses_that_use_one_key_in_turn_are_a_clone_and_a_move_is_none() {
    let mut world = world();
    let host = key();
    let token = world.token(&["web1"]);
    world.enroll(&token, &[], &[&host]).unwrap();
    let cloned = |world: &mut World| world.host("web1").cloned_at;
    for address in [HOME, "192.0.2.20", "192.0.2.20", "2001:db8::1", "192.0.2.20", "2001:db8::1"] {
        world.pass(600);
        world.report(&host, address).unwrap();
        assert_eq!(cloned(&mut world), None, "{address}");
    }
    world.pass(600);
    world.report(&host, HOME).unwrap();
    assert_eq!(cloned(&mut world).as_deref(), Some("192.0.2.10 and 192.0.2.20"));
    assert_eq!(world.host("web1").cloned, Some(world.clock.now().0));
    // It is shown, and goes on.
    world.renew(&[], &[&host]).unwrap();
    let token = world.token(&["web1"]);
    world.enroll(&token, &[], &[&key()]).unwrap();
    assert_eq!(cloned(&mut world), None);

    // Back after a day is a move too.
    let mobile = key();
    let token = world.token(&["web2"]);
    world.enroll(&token, &[], &[&mobile]).unwrap();
    for address in [HOME, "192.0.2.30", HOME] {
        world.report(&mobile, address).unwrap();
        world.pass(DAY);
    }
    assert_eq!(world.host("web2").cloned, None);
}

#[test]
fn a_host_that_asks_on_and_on_has_to_wait() {
    let mut world = world();
    let host = key();
    let token = world.token(&["web1"]);
    world.enroll(&token, &[], &[&host]).unwrap();
    for _ in 1..MAX_PER_HOUR {
        world.renew(&[], &[&host]).unwrap();
    }
    let refused = world.renew(&[], &[&host]).unwrap_err();
    assert_eq!(refused, "This key was given 10 certificates within an hour. Try again later.");
    world.pass(3600);
    world.renew(&[], &[&host]).unwrap();
}

#[test]
fn an_administrator_enters_a_host_key_by_key() {
    let mut world = world();
    let (one, two) = (key(), key());
    let sign = |world: &mut World, key: &PrivateKey, of: &[&str]| {
        let public_key = key.public_key().to_blob();
        let request = HostRequest { public_key, principals: names(of), validity_seconds: None, take_key: false };
        world.ca.issue_host(&request, "admin uid 0")
    };
    let take = |world: &mut World, key: &PrivateKey, of: &[&str]| {
        let public_key = key.public_key().to_blob();
        let request = HostRequest { public_key, principals: names(of), validity_seconds: None, take_key: true };
        world.ca.issue_host(&request, "admin uid 0")
    };
    let now = world.clock.now().0;
    let certificate = sign(&mut world, &one, &["web1", "www"]).unwrap();
    assert_eq!(certificate.valid_before().0, now + 90 * DAY);
    sign(&mut world, &two, &["web1"]).unwrap();
    let host = world.host("web1");
    assert_eq!((host.keys.len(), host.enrolled_by.as_str(), host.seen), (2, "admin uid 0", None));
    assert_eq!(host.principals(), ["web1", "www"]);
    assert_eq!(world.renew(&[], &[&two]).unwrap().certificates[0].principals(), [b"web1".to_vec()]);
    // A refusal enters nobody.
    assert!(sign(&mut world, &key(), &["web3", "*"]).is_err());
    assert!(world.ca.inventory().host("web3").unwrap().is_none());
    // An administrator may give a key to another host, by saying so; the old one has it no more.
    let refused = sign(&mut world, &two, &["web2"]).unwrap_err();
    assert!(refused.to_string().starts_with("this key is host web1's, and"), "{refused}");
    assert!(world.ca.inventory().host("web2").unwrap().is_none());
    assert_eq!((world.host("web1").keys.len(), world.rows()[0].serial), (2, 0), "and the refusal is a row");
    take(&mut world, &two, &["web2"]).unwrap();
    assert_eq!((world.host("web1").keys.len(), world.host("web2").keys.len()), (1, 1));
    assert_eq!(world.report(&two, HOME).unwrap().0, "web2");
}

#[test]
fn policy_says_how_long_and_which_wildcards() {
    let mut world = world();
    let with = format!("host_validity_seconds = 3600\nhost_wildcards = [\"*.example.com\"]\n{POLICY}");
    let host = key();
    let refused = world.ca.make_host_token(&names(&["web1", "*.example.com"]), 60, "a").unwrap_err();
    assert!(refused.to_string().contains("no wildcards but"), "{refused}");
    world.ca.set_policy(policy(&with));
    let token = world.token(&["web1", "*.example.com"]);
    let granted = world.enroll(&token, &[], &[&host]).unwrap();
    assert_eq!(granted.certificates[0].principals(), [b"web1".to_vec(), b"*.example.com".to_vec()]);
    assert_eq!(granted.certificates[0].valid_before().0, world.clock.now().0 + 3600);
    for wrong in [&["*.example.com"][..], &["web1", "*.example.org"], &["web1", "*"], &["web1", "a.*.example.com"]] {
        assert!(world.ca.make_host_token(&names(wrong), 60, "a").is_err(), "{wrong:?}");
    }
    // Taken back: what was given under it is given no more.
    let token = world.token(&["web2", "*.example.com"]);
    world.ca.set_policy(policy(POLICY));
    for refused in [world.renew(&[], &[&host]).unwrap_err(), world.enroll(&token, &[], &[&key()]).unwrap_err()] {
        assert!(refused.starts_with("\"*.example.com\" is no host name"), "{refused}");
    }
}

#[test]
fn a_host_that_asks_for_the_krl_without_end_does_not_raise_its_version() {
    let mut world = world();
    let token = world.token(&["web1"]);
    let one = key();
    world.enroll(&token, &[], &[&one]).unwrap();
    let first = world.krl(&one);
    for _ in 0..100 {
        assert!(world.krl(&one) == first && world.ca.krl().unwrap() == first, "users and administrators get the same");
    }
    let version = |krl: &[u8]| RevokedKeys::parse(krl).unwrap().version().unwrap();
    assert_eq!(world.ca.inventory().latest().unwrap().1, version(&first));

    // What was revoked, and what was lifted, is in the next one.
    let lost = key().public_key();
    let Revocation::Done { act, .. } = world.ca.revoke(Revoke::Key(lost.fingerprint()), "test", "").unwrap() else {
        panic!("not revoked")
    };
    let second = world.krl(&one);
    assert!(RevokedKeys::parse(&second).unwrap().revokes_key(&lost) && version(&second) > version(&first));
    world.ca.lift(act, "test").unwrap();
    let third = world.krl(&one);
    assert!(!RevokedKeys::parse(&third).unwrap().revokes_key(&lost) && version(&third) > version(&second));

    // It does not grow old.
    world.pass(59);
    assert_eq!(world.krl(&one), third);
    world.pass(1);
    let fourth = RevokedKeys::parse(&world.krl(&one)).unwrap();
    assert!(fourth.version() > Some(version(&third)) && fourth.generated() == Some(world.clock.now()));
    // A clock that was set back makes none that is of the future.
    world.clock.0.fetch_sub(10, Ordering::Relaxed);
    assert_eq!(RevokedKeys::parse(&world.krl(&one)).unwrap().generated(), Some(world.clock.now()));
}

/// A note as a host writes it.
fn note_of(id: &str, key_id: &str) -> String {
    let note = Note {
        version: 1,
        id: id.into(),
        user: "root".into(),
        from: "192.0.2.1".into(),
        key_id: key_id.into(),
        serial: "7".into(),
        key: "SHA256:k".into(),
        ca: "SHA256:c".into(),
        opened: UnixTime(5),
    };
    note.to_json()
}

#[test]
fn break_glass_is_a_row_once_under_the_name_of_the_host_that_proved_itself() {
    let mut world = world();
    let (web1, web2, nobodys) = (key(), key(), key());
    for (name, host) in [("web1", &web1), ("web2", &web2)] {
        let token = world.token(&[name]);
        world.enroll(&token, &[], &[host]).unwrap();
    }
    let first = [note_of("b-1-2", "alice")];
    assert_eq!(world.break_glass(&web1, &first).unwrap(), "web1");
    // Sent again, since the answer was lost; with another one, and as another story of the same.
    world.break_glass(&web1, &[note_of("b-1-2", "mallory"), note_of("b-3-4", "bob")]).unwrap();
    let mut told: Vec<String> = world.host("web1").break_glass.into_iter().map(|one| one.key_id).collect();
    told.sort();
    assert_eq!(told, ["alice", "bob"]);
    // The same words from another host are about that host.
    assert_eq!(world.break_glass(&web2, &first).unwrap(), "web2");
    assert_eq!((world.host("web1").break_glass.len(), world.host("web2").break_glass.len()), (2, 1));
    let refused = world.break_glass(&nobodys, &[note_of("b-5-6", "eve")]).unwrap_err();
    assert!(refused.starts_with("The CA knows no host with the key SHA256:"), "{refused}");
}

#[test]
fn break_glass_reports_are_bounded() {
    let mut world = world();
    let host = key();
    let token = world.token(&["web1"]);
    world.enroll(&token, &[], &[&host]).unwrap();
    let many: Vec<String> = (0..9).map(|n| note_of(&format!("b-{n}-1"), "alice")).collect();
    for wrong in
        [&[][..], &many, &["{}".to_owned()], &[note_of("../x", "alice")], &[note_of("a-1-1", &"x".repeat(4096))]]
    {
        assert!(world.break_glass(&host, wrong).unwrap_err().contains("1 to 8 notes"), "{wrong:?}");
    }
    for n in 0..MAX_NOTES_PER_DAY {
        world.break_glass(&host, &[note_of(&format!("b-{n}-2"), "alice")]).unwrap();
    }
    let refused = world.break_glass(&host, &[note_of("b-1-3", "alice")]).unwrap_err();
    assert!(refused.contains("within a day"), "{refused}");
    world.pass(86_401);
    world.break_glass(&host, &[note_of("b-1-3", "alice")]).unwrap();
}
