//! What a front can get for a user whom a worker only looked up: nothing, but for the signature of that user's registered key over this signer's message, made for this connection.

use ussh_core::keys::PublicKey;
use ussh_core::login_proof::{self, signed_data};
use usshca_ipc::front::{MAX_KNOWS, Makes, Purpose, Verb, Way};

use super::*;

const KEYS: &str = r#"
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
key_types = ["ed25519-sk", "ecdsa"]
validity_seconds = 600
principals = ["%u"]
[[rule]]
name = "kiosks"
groups = ["kiosks"]
from = ["192.0.2.9"]
authentication = ["none"]
validity_seconds = 600
principals = ["%u"]
[[rule]]
name = "staff"
groups = ["staff"]
validity_seconds = 600
principals = ["%u"]
"#;

pub(super) fn keyed() -> World {
    world_where(own_uid(), vec![own_uid()], |server| {
        let text = PolicyText { name: "policy.toml".into(), folder: String::new(), text: KEYS.into() };
        server.ca.set_policy(Policy::of(&[text]).unwrap());
    })
}

pub(super) fn new_key() -> PrivateKey {
    PrivateKey::generate_ed25519().unwrap()
}

impl World {
    pub(super) fn register(&self, user: &str, key: &PrivateKey) {
        let (user, public_key) = (user.to_owned(), key.public_key().to_blob());
        let request = Request::KeyRegister { user, public_key, comment: String::new() };
        assert_eq!(ask(&self.admin(), request), Reply::KeyRegistered { already: false });
    }

    /// A front for whose attempt 1 somebody was looked up, and nothing more.
    pub(super) fn looked_up(&self, connection: u64, user: &str, group: &str) -> FrontEnd {
        let front = self.front(connection);
        let (ours, theirs) = SeqPacket::pair().unwrap();
        theirs.attest_sender().unwrap();
        let news = Control::NewLookup {
            connection,
            attempt: 1,
            worker_pid: own_pid(),
            user: user.to_owned(),
            patience_seconds: 60,
        };
        self.control.send_with(&news, &[theirs.as_fd()]).unwrap();
        assert_eq!(state(&Channel::new(ours), user, &[group]), StatementReply::Kept);
        front
    }
}

pub(super) fn say(front: &FrontEnd, message: &ToSigner) -> FromSigner {
    front.send(message).unwrap();
    front.receive(PATIENCE).unwrap().message
}

fn challenge(front: &FrontEnd, purpose: Purpose, key: &PublicKey) -> FromSigner {
    say(front, &ToSigner::Challenge { attempt: 1, purpose, key: key.to_blob() })
}

fn message(front: &FrontEnd, purpose: Purpose, key: &PublicKey) -> Vec<u8> {
    match challenge(front, purpose, key) {
        FromSigner::Challenge { message } => message,
        other => panic!("{other:?}"),
    }
}

/// By `signer`, as if the message were for its key.
pub(super) fn signature(message: &[u8], purpose: Purpose, key: &PublicKey, signer: &PrivateKey) -> Vec<u8> {
    let purpose = match purpose {
        Purpose::Login => login_proof::Purpose::Login,
        Purpose::ClientKey => login_proof::Purpose::ClientKey,
    };
    signer.sign(&signed_data(message, key, purpose).unwrap()).unwrap()
}

pub(super) fn prove(front: &FrontEnd, purpose: Purpose, key: &PrivateKey) -> FromSigner {
    let message = message(front, purpose, &key.public_key());
    let signature = signature(&message, purpose, &key.public_key(), key);
    say(front, &ToSigner::Prove { signature })
}

fn refusal(reply: FromSigner) -> String {
    match reply {
        FromSigner::Refused { message } => message,
        other => panic!("{other:?}"),
    }
}

fn newest(world: &World) -> Entry {
    world.rows().remove(0)
}

#[test]
fn the_signature_of_a_registered_key_is_the_proof() {
    let world = keyed();
    let key = new_key();
    world.register("ci", &key);
    let front = world.looked_up(1, "ci", "machines");
    assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
    assert!(matches!(issue(&front, 1), FromSigner::Issued { .. }));
    let row = newest(&world);
    assert_eq!(row.authenticated, format!("publickey {}", key.public_key().fingerprint()));
    assert_eq!((row.key_id.as_str(), row.rule.as_str()), ("ci", "machines"));
}

#[test]
fn to_be_looked_up_is_no_proof() {
    let world = keyed();
    world.register("ci", &new_key());
    for (connection, group) in [(1, "machines"), (2, "staff"), (3, "both"), (4, "kiosks")] {
        let front = world.looked_up(connection, "ci", group);
        refusal(issue(&front, 1));
        assert!(newest(&world).outcome.starts_with("refused: "), "{group}");
        assert_eq!(newest(&world).authenticated, "none");
    }
}

#[test]
fn nothing_is_enough_from_the_network_that_the_rule_names() {
    let world = keyed();
    assert!(matches!(issue(&world.looked_up(9, "kiosk", "kiosks"), 1), FromSigner::Issued { .. }));
    refusal(issue(&world.looked_up(8, "kiosk", "kiosks"), 1));
    assert_eq!(newest(&world).outcome, "refused: no rule of the policy matches");
    let ways = |connection| say(&keyed().front(connection), &ToSigner::Ways);
    assert_eq!(ways(9), FromSigner::Ways { publickey: true, none: true });
    assert_eq!(ways(8), FromSigner::Ways { publickey: true, none: false });
}

#[test]
fn a_key_that_is_not_registered_for_this_user_is_asked_nothing() {
    let world = keyed();
    let (key, others) = (new_key(), new_key());
    world.register("bob", &others);
    let front = world.looked_up(1, "ci", "machines");
    for unknown in [&key, &others] {
        assert_eq!(
            refusal(challenge(&front, Purpose::Login, &unknown.public_key())),
            "This key is not registered for you."
        );
    }
    assert_eq!(
        say(&front, &ToSigner::Knows { user: "bob".into(), key: others.public_key().to_blob() }),
        FromSigner::Known(true)
    );
    for (user, key) in [("ci", others.public_key().to_blob()), ("bob", b"junk".to_vec())] {
        assert_eq!(say(&front, &ToSigner::Knows { user: user.into(), key }), FromSigner::Known(false));
    }
}

#[test]
fn another_keys_signature_proves_nothing() {
    let world = keyed();
    let (key, other) = (new_key(), new_key());
    world.register("ci", &key);
    world.register("bob", &other);
    let front = world.looked_up(1, "ci", "machines");
    let message = message(&front, Purpose::Login, &key.public_key());
    let signature = signature(&message, Purpose::Login, &key.public_key(), &other);
    assert!(refusal(say(&front, &ToSigner::Prove { signature })).contains("bad signature"));
    refusal(issue(&front, 1));
}

#[test]
fn a_signature_is_good_once_and_for_the_last_message_only() {
    let world = keyed();
    let key = new_key();
    world.register("ci", &key);
    let front = world.looked_up(1, "ci", "machines");
    let first = message(&front, Purpose::Login, &key.public_key());
    let second = message(&front, Purpose::Login, &key.public_key());
    let of = |message: &[u8]| signature(message, Purpose::Login, &key.public_key(), &key);
    refusal(say(&front, &ToSigner::Prove { signature: of(&first) }));
    // That took the second one along.
    let reply = say(&front, &ToSigner::Prove { signature: of(&second) });
    assert_refused_and_closed(&front, &reply);

    let front = world.looked_up(2, "ci", "machines");
    let third = message(&front, Purpose::Login, &key.public_key());
    assert_eq!(say(&front, &ToSigner::Prove { signature: of(&third) }), FromSigner::Proved);
    let reply = say(&front, &ToSigner::Prove { signature: of(&third) });
    assert_refused_and_closed(&front, &reply);
}

#[test]
fn a_signature_for_another_connection_or_purpose_proves_nothing() {
    let world = keyed();
    let key = new_key();
    world.register("ci", &key);
    let (one, other) = (world.looked_up(1, "ci", "machines"), world.looked_up(2, "ci", "machines"));
    let theirs = message(&one, Purpose::Login, &key.public_key());
    let _ours = message(&other, Purpose::Login, &key.public_key());
    let stolen = signature(&theirs, Purpose::Login, &key.public_key(), &key);
    assert!(refusal(say(&other, &ToSigner::Prove { signature: stolen })).contains("bad signature"));

    let _ours = message(&other, Purpose::Login, &key.public_key());
    let plain = key.sign(b"login@ussh").unwrap();
    assert!(refusal(say(&other, &ToSigner::Prove { signature: plain })).contains("bad signature"));
}

#[test]
fn a_signature_that_comes_too_late_proves_nothing() {
    let world = world_where(own_uid(), vec![own_uid()], |server| server.challenge_life = Duration::ZERO);
    let key = new_key();
    world.register("alice", &key);
    let front = world.looked_up(1, "alice", "staff");
    assert!(refusal(prove(&front, Purpose::Login, &key)).contains("Log in again"));
}

#[test]
fn a_key_that_is_removed_meanwhile_proves_nothing() {
    let world = keyed();
    let key = new_key();
    world.register("ci", &key);
    let front = world.looked_up(1, "ci", "machines");
    let message = message(&front, Purpose::Login, &key.public_key());
    let fingerprint = key.public_key().fingerprint();
    assert_eq!(ask(&world.admin(), Request::KeyRemove { fingerprint }), Reply::KeyRemoved { user: "ci".into() });
    let signature = signature(&message, Purpose::Login, &key.public_key(), &key);
    assert_eq!(refusal(say(&front, &ToSigner::Prove { signature })), "This key is not registered for you.");
    refusal(issue(&front, 1));
}

#[test]
fn where_pam_is_demanded_a_key_is_not_enough_and_where_both_are_neither_is_alone() {
    let world = keyed();
    let key = new_key();
    world.register("alice", &key);
    let front = world.looked_up(1, "alice", "staff");
    assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
    assert!(refusal(issue(&front, 1)).contains("prove who you are by pam"));

    let front = world.looked_up(2, "alice", "both");
    assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
    assert!(refusal(issue(&front, 1)).contains("by publickey+pam"));

    let ecdsa = || PrivateKey::generate_ecdsa_p256().unwrap().public_key().to_blob();
    let both = |connection| {
        let front = world.front(connection);
        let worker = world.worker(connection, 1, own_pid());
        assert_eq!(state(&worker, "alice", &["both"]), StatementReply::Kept);
        front
    };
    let order = || ToSigner::Issue { attempt: 1, public_key: ecdsa(), wish: Wish::default() };
    assert!(refusal(say(&both(3), &order())).contains("by publickey+pam"));
    let front = both(4);
    let demands = FromSigner::Demands { ways: vec![Way { pam: true, publickey: true }], makes: vec![Makes::Ecdsa] };
    assert_eq!(say(&front, &ToSigner::Demands { attempt: 1, by_key: false }), demands);
    assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
    assert!(matches!(say(&front, &order()), FromSigner::Issued { .. }));
    assert_eq!(newest(&world).authenticated, format!("publickey+pam {}", key.public_key().fingerprint()));
}

fn certify(front: &FrontEnd, key: &PrivateKey) -> FromSigner {
    say(front, &ToSigner::Certify { attempt: 1, public_key: key.public_key().to_blob(), wish: Wish::default() })
}

#[test]
fn a_registered_key_that_is_to_be_certified_proves_its_user_as_well() {
    let world = keyed();
    let key = new_key();
    world.register("ci", &key);
    let front = world.looked_up(1, "ci", "machines");
    assert_eq!(prove(&front, Purpose::ClientKey, &key), FromSigner::Proved);
    match certify(&front, &key) {
        FromSigner::Issued { certificate, .. } => {
            assert_eq!(*Certificate::parse(&certificate).unwrap().public_key(), key.public_key());
        }
        other => panic!("{other:?}"),
    }
    // One statement, one certificate: in this mode too.
    let reply = certify(&front, &key);
    assert_refused_and_closed(&front, &reply);
}

#[test]
fn a_key_that_is_only_the_callers_own_is_no_login() {
    let world = keyed();
    let key = new_key();
    let front = world.looked_up(1, "ci", "machines");
    assert_eq!(prove(&front, Purpose::ClientKey, &key), FromSigner::Proved);
    assert!(refusal(certify(&front, &key)).contains("by publickey"));
    assert_eq!(newest(&world).fingerprint, key.public_key().fingerprint());
}

#[test]
fn no_key_is_certified_that_did_not_prove_itself() {
    let world = keyed();
    let (key, own, other) = (new_key(), new_key(), new_key());
    world.register("ci", &key);
    // None did; a login is no such proof; another one did.
    let front = world.looked_up(1, "ci", "machines");
    let reply = certify(&front, &key);
    assert_refused_and_closed(&front, &reply);
    let front = world.looked_up(2, "ci", "machines");
    assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
    let reply = certify(&front, &key);
    assert_refused_and_closed(&front, &reply);
    let front = world.looked_up(3, "ci", "machines");
    assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
    assert_eq!(prove(&front, Purpose::ClientKey, &own), FromSigner::Proved);
    let reply = certify(&front, &other);
    assert_refused_and_closed(&front, &reply);
    assert!(world.rows().is_empty());
    let front = world.looked_up(4, "ci", "machines");
    assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
    assert_eq!(prove(&front, Purpose::ClientKey, &own), FromSigner::Proved);
    assert!(matches!(certify(&front, &own), FromSigner::Issued { .. }));
}

#[test]
fn a_revoked_key_is_not_certified() {
    let world = keyed();
    let (key, own) = (new_key(), new_key());
    world.register("ci", &key);
    let what = Revoke::Key(own.public_key().fingerprint());
    assert!(matches!(ask(&world.admin(), Request::Revoke { what, reason: String::new() }), Reply::Revoked(Some(_))));
    let front = world.looked_up(1, "ci", "machines");
    assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
    assert_eq!(prove(&front, Purpose::ClientKey, &own), FromSigner::Proved);
    assert!(refusal(certify(&front, &own)).contains("revoked"));
    assert_eq!(newest(&world).outcome, "refused: the key is revoked");
}

#[test]
fn a_front_asks_about_a_bounded_number_of_keys() {
    let world = keyed();
    let front = world.front(1);
    let question = || ToSigner::Knows { user: "ci".into(), key: vec![] };
    for _ in 0..MAX_KNOWS {
        assert_eq!(say(&front, &question()), FromSigner::Known(false));
    }
    let reply = say(&front, &question());
    assert_refused_and_closed(&front, &reply);
}

#[test]
fn what_is_somebodys_is_told_to_whoever_proved_to_be_them_and_to_nobody_else() {
    let world = keyed();
    let key = new_key();
    world.register("ci", &key);
    let verbs = [Verb::WhoAmI, Verb::List, Verb::Revoke, Verb::Krl];
    let mine = |front: &FrontEnd, verb| say(front, &ToSigner::Mine { attempt: 1, verb });
    // Before anybody was named, and after a look-up alone.
    for (connection, verb) in (1..).zip(verbs) {
        let front = world.front(connection);
        let reply = mine(&front, verb);
        assert_refused_and_closed(&front, &reply);
        let front = world.looked_up(connection + 10, "ci", "machines");
        assert!(refusal(mine(&front, verb)).contains("must prove it"), "{verb:?}");
    }
    // A key is not enough where the rule wants PAM, and another user's rows are nobody's business.
    let alice = world.passed(21);
    let hers = serial(&issue(&alice, 1));
    world.register("alice", &new_key());
    let front = world.looked_up(22, "ci", "staff");
    assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
    for verb in verbs {
        assert!(refusal(mine(&front, verb)).contains("must prove it"), "{verb:?}");
    }
    let front = world.looked_up(23, "ci", "machines");
    assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
    assert_eq!(mine(&front, Verb::List), FromSigner::Yours { rows: vec![], more: false });
    assert_eq!(mine(&front, Verb::Revoke), FromSigner::RevokedYours { certificates: 0 });
    assert!(matches!(mine(&front, Verb::Krl), FromSigner::Krl { more: false, .. }));
    assert!(matches!(mine(&front, Verb::WhoAmI), FromSigner::You { user, .. } if user == "ci"));
    assert_eq!(world.row(hers).revoked, None);
    let reply = say(&front, &ToSigner::More);
    assert_refused_and_closed(&front, &reply);
}
