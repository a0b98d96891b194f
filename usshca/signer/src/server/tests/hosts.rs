//! What a front may say for a host, and how often.

use ussh_core::enroll::{Claims, HostToken, NONCE_LEN, Proof, Verb};
use usshca_ipc::host::{Host, HostAnswer, HostAsk};

use super::*;

fn host(front: &FrontEnd, ask: HostAsk) -> FromSigner {
    front.send(&ToSigner::Host(ask)).unwrap();
    front.receive(PATIENCE).unwrap().message
}

fn nonce(front: &FrontEnd, verb: Verb) -> [u8; NONCE_LEN] {
    match host(front, HostAsk::Hello { verb }) {
        FromSigner::Host(HostAnswer::Nonce { nonce }) => nonce,
        other => panic!("{other:?}"),
    }
}

fn proof(verb: Verb, nonce: &[u8; NONCE_LEN], token: Option<&PrivateKey>, key: &PrivateKey) -> Proof {
    let key = PrivateKey::from_openssh(&key.to_openssh("").unwrap()).unwrap();
    Claims { verb, nonce, names: &[] }.sign(token, &[key]).unwrap()
}

fn key() -> PrivateKey {
    PrivateKey::generate_ed25519().unwrap()
}

fn granted(answer: FromSigner) -> Vec<u64> {
    match answer {
        FromSigner::Host(HostAnswer::Granted { serials, .. }) => serials,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_refused(answer: &FromSigner, why: &str) {
    match answer {
        FromSigner::Host(HostAnswer::Refused { message }) => assert!(message.contains(why), "{message}"),
        other => panic!("{other:?}"),
    }
}

impl World {
    fn token(&self, name: &str) -> PrivateKey {
        let request = Request::HostToken { principals: vec![name.into()], life_seconds: 3600 };
        match ask(&self.admin(), request) {
            Reply::HostToken { secret, .. } => HostToken::parse(secret.reveal()).unwrap().key().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn enrolled(&self, front: &FrontEnd, name: &str, key: &PrivateKey) -> u64 {
        let token = self.token(name);
        let nonce = nonce(front, Verb::Enroll);
        granted(host(front, HostAsk::Prove(proof(Verb::Enroll, &nonce, Some(&token), key))))[0]
    }

    fn known(&self, name: &str) -> Host {
        match ask(&self.admin(), Request::HostShow { name: name.into() }) {
            Reply::Host(host) => *host,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_host_enrolls_by_way_of_a_front_and_the_address_is_the_kernels() {
    let world = world();
    let front = world.front(7);
    let key = key();
    let serial = world.enrolled(&front, "web1", &key);
    // It is held to the limits of those who have not logged in no more.
    assert_eq!(world.control.receive(PATIENCE).unwrap().message, FromSignerControl::LoggedIn { connection: 7 });
    assert_eq!(world.row(serial).outcome, "signed");
    assert_eq!(outcome(&front, serial, Delivery::Delivered), FromSigner::Noted);
    assert_eq!(world.row(serial).outcome, "delivered");
    assert_eq!((world.row(serial).from.as_str(), world.row(serial).authenticated.as_str()), ("192.0.2.7", "token 1"));
    let known = world.known("web1");
    assert_eq!((known.seen_from.as_deref(), known.keys[0].serial), (Some("192.0.2.7"), serial));

    // Without a word on the outcome it is not taken for delivered.
    let front = world.front(8);
    let nonce = nonce(&front, Verb::Renew);
    let serial = granted(host(&front, HostAsk::Prove(proof(Verb::Renew, &nonce, None, &key))))[0];
    drop(front);
    world.wait_for_outcome(serial, "undelivered: the connection ended before the delivery was confirmed");
}

#[test]
fn a_nonce_is_for_one_proof_on_its_own_connection() {
    let world = world();
    let key = key();
    let one = world.front(1);
    world.enrolled(&one, "web1", &key);
    // A second proof, or a second nonce, on the same connection.
    let again = host(&one, HostAsk::Hello { verb: Verb::Renew });
    assert_refused_and_closed(&one, &again);
    let two = world.front(2);
    let nonce_of_two = nonce(&two, Verb::Renew);
    let made = proof(Verb::Renew, &nonce_of_two, None, &key);
    // Brought on another connection, whose nonce is another one.
    let three = world.front(3);
    nonce(&three, Verb::Renew);
    assert_refused(&host(&three, HostAsk::Prove(made.clone())), "is not good for this: bad signature");
    // For another verb than the nonce was asked for.
    let four = world.front(4);
    nonce(&four, Verb::Report);
    assert_refused(&host(&four, HostAsk::Prove(made.clone())), "bad signature");
    let five = world.front(5);
    let early = host(&five, HostAsk::Prove(made.clone()));
    assert_refused_and_closed(&five, &early);
    assert_eq!(granted(host(&two, HostAsk::Prove(made.clone()))).len(), 1);
    let replayed = host(&two, HostAsk::Prove(made));
    assert_refused_and_closed(&two, &replayed);
    assert_eq!(world.rows().len(), 2);
}

#[test]
fn a_host_is_no_user_and_a_user_no_host() {
    let world = world();
    let key = key();
    let front = world.front(1);
    let serial = world.enrolled(&front, "web1", &key);
    let reply = issue(&front, 1);
    assert_refused_and_closed(&front, &reply);
    // What was not told of is noted as such, and by nobody else.
    world.wait_for_outcome(serial, "undelivered: the connection ended before the delivery was confirmed");
    let front = world.passed(2);
    let nonce = nonce(&front, Verb::Enroll);
    let stranger = proof(Verb::Enroll, &nonce, Some(&PrivateKey::generate_ed25519().unwrap()), &key);
    assert_refused(&host(&front, HostAsk::Prove(stranger)), "The CA does not know this token.");
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn strangers_who_guess_are_not_listened_to_any_more_and_keep_no_host_at_their_address_out() {
    let world = world();
    let known = key();
    world.enrolled(&world.front(1), "web1", &known);
    let peer = "198.51.100.1:22".parse().unwrap();
    let from_there = |connection: u64| -> FrontEnd {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        world.control.send_with(&Control::NewFront { connection, peer }, &[theirs.as_fd()]).unwrap();
        Channel::new(ours)
    };
    for connection in 100..120 {
        let front = from_there(connection);
        let nonce = nonce(&front, Verb::Enroll);
        let guess = proof(Verb::Enroll, &nonce, Some(&key()), &key());
        assert_refused(&host(&front, HostAsk::Prove(guess)), "The CA does not know this token.");
    }
    let late = from_there(200);
    let late_nonce = nonce(&late, Verb::Enroll);
    let guess = proof(Verb::Enroll, &late_nonce, Some(&key()), &key());
    assert_refused(&host(&late, HostAsk::Prove(guess)), "Too many hosts that the CA does not know were refused");
    // A host of the CA's, and one with a token, at the same address.
    let renewing = from_there(201);
    let its_nonce = nonce(&renewing, Verb::Renew);
    assert_eq!(granted(host(&renewing, HostAsk::Prove(proof(Verb::Renew, &its_nonce, None, &known)))).len(), 1);
    world.enrolled(&from_there(202), "web2", &key());
    // Each of these connections has come for something: no user at that address pays for it.
    let mut served = Vec::new();
    while let Ok(received) = world.control.receive(Some(Duration::from_millis(200))) {
        if let FromSignerControl::Served { connection } = received.message {
            served.push(connection);
        }
    }
    assert_eq!(served, (100..120).chain([200]).collect::<Vec<_>>());
}

#[test]
fn a_host_gets_the_krl_in_pieces_and_a_stranger_gets_none() {
    let world = world();
    let key_of_host = key();
    world.enrolled(&world.front(1), "web1", &key_of_host);
    let inventory = rusqlite::Connection::open(world.dir.path().join("inventory.db")).unwrap();
    inventory
        .execute_batch(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 2 FROM n WHERE x < 60000)
             INSERT INTO certificate (serial, kind, key_id, principals, fingerprint, valid_after, valid_before, asked, source, authenticated, rule, state, revoked)
             SELECT x, 'user', 'x', 'x', '', 0, 9999999999, 0, '', '', '', 'signed', 5 FROM n",
        )
        .unwrap();
    let front = world.front(2);
    let nonce_here = nonce(&front, Verb::Krl);
    front.send(&ToSigner::Host(HostAsk::Prove(proof(Verb::Krl, &nonce_here, None, &key_of_host)))).unwrap();
    let (mut krl, mut pieces) = (Vec::new(), 0);
    loop {
        match front.receive(PATIENCE).unwrap().message {
            FromSigner::Host(HostAnswer::Krl { chunk, more }) => {
                assert!(!more || chunk.len() % 3 == 0);
                krl.extend(chunk);
                pieces += 1;
                if !more {
                    break;
                }
                // One that is slow to ask is not overrun.
                assert!(front.receive(Some(Duration::ZERO)).is_err(), "it comes unasked");
                front.send(&ToSigner::More).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(pieces > 2 && ussh_core::revoked::RevokedKeys::parse(&krl).is_ok(), "{pieces}");
    let front = world.front(3);
    let nonce = nonce(&front, Verb::Krl);
    let stranger = proof(Verb::Krl, &nonce, None, &key());
    assert_refused(&host(&front, HostAsk::Prove(stranger)), "The CA knows no host with the key SHA256:");
}

#[test]
fn administrators_list_show_and_remove_hosts_and_see_no_token_twice() {
    let world = world();
    let admin = world.admin();
    let made = ask(&admin, Request::HostToken { principals: vec!["web1".into()], life_seconds: 60 });
    assert!(format!("{made:?}").contains("Secret(***)"), "{made:?}");
    match ask(&admin, Request::HostTokens { before: u64::MAX, limit: 10 }) {
        Reply::HostTokens(tokens) => {
            assert_eq!((tokens.len(), tokens[0].id, tokens[0].names.as_slice()), (1, 1, &["web1".to_owned()][..]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ask(&admin, Request::HostTokenRevoke { id: 1 }), Reply::HostTokenRevoked);
    for (id, why) in [(1, "token 1 cannot be used any more"), (2, "there is no token 2")] {
        let reply = ask(&admin, Request::HostTokenRevoke { id });
        assert!(matches!(&reply, Reply::Refused(text) if text.contains(why)), "{reply:?}");
    }
    for n in [3, 1, 2] {
        world.enrolled(&world.front(n), &format!("web{n}"), &key());
    }
    let names = |after: &str, limit| match ask(&admin, Request::Hosts { after: after.into(), limit }) {
        Reply::Hosts(hosts) => hosts.into_iter().map(|host| host.name).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(names("", 2), ["web1", "web2"]);
    assert_eq!(names("web2", 2), ["web3"]);
    let remove = |name: &str| ask(&admin, Request::HostRemove { name: name.into(), reason: String::new() });
    assert_eq!(remove("web2"), Reply::HostRemoved { certificates: 1 });
    assert_eq!(world.known("web2").removed_by, Some(format!("admin uid {}", own_uid())));
    assert!(matches!(remove("web9"), Reply::Refused(why) if why.contains("usshca host list")));
}
