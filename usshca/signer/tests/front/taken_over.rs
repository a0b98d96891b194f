//! A front process that somebody has taken over, and that holds what is its own: one channel, and the statements of its own connection.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ussh_core::certificate::Certificate;
use usshca_ipc::admin::{Cursor, Reply, Request, Revoke};
use usshca_ipc::front::{Delivery, FromSigner, Purpose, ToSigner, Verb, Wish};

use usshca_ipc::signer::FromSignerControl;

use crate::harness::{FrontEnd, Signer, SlowAgent, Worker, answer, new_key, prove, say, signed};

const POLICY: &str = r#"
admins = { users = ["root1"] }
[[rule]]
name = "machines"
groups = ["machines"]
authentication = ["publickey"]
validity_seconds = 600
principals = ["%u"]
[[rule]]
name = "all"
validity_seconds = 600
principals = ["%u"]
"#;

fn passed(signer: &Signer, connection: u64, user: &str) -> FrontEnd {
    let front = signer.front(connection, "192.0.2.1".parse().unwrap());
    assert_eq!(signer.state((connection, 1), Worker::Authenticates, user, &[]), Ok(true));
    front
}

fn issue(attempt: u32) -> ToSigner {
    ToSigner::Issue { attempt, public_key: new_key().public_key().to_blob(), wish: Wish::default() }
}

#[track_caller]
fn refused_and_closed(front: &FrontEnd, message: &ToSigner) {
    let reply = say(front, message);
    let Some(FromSigner::Refused { message: words }) = &reply else { panic!("{message:?}: {reply:?}") };
    assert_eq!(words, "The CA refuses this request.");
    assert!(say(front, &ToSigner::Ways).is_none(), "the channel is open");
}

fn serial(reply: Option<FromSigner>) -> u64 {
    match reply {
        Some(FromSigner::Issued { certificate, .. }) => Certificate::parse(&certificate).unwrap().serial(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn statements_of_other_connections_and_attempts_are_nothing_to_it() {
    let signer = Signer::start(POLICY);
    let _admin = passed(&signer, 1, "root1");
    let admin = |attempt| ToSigner::Admin { attempt, request: Box::new(Request::Keys) };
    let key = new_key().public_key().to_blob();
    let mut connection = 2;
    for attempt in [0, 1, 2, u32::MAX] {
        for message in [
            issue(attempt),
            admin(attempt),
            ToSigner::Demands { attempt, by_key: true },
            ToSigner::Mine { attempt, verb: Verb::WhoAmI },
            ToSigner::Mine { attempt, verb: Verb::Revoke },
            ToSigner::Certify { attempt, public_key: key.clone(), wish: Wish::default() },
            ToSigner::Challenge { attempt, purpose: Purpose::Login, key: key.clone() },
        ] {
            let front = signer.front(connection, "192.0.2.2".parse().unwrap());
            refused_and_closed(&front, &message);
            connection += 1;
        }
    }
    assert!(signer.rows().is_empty() && signer.revocations().is_empty());
    signer.end();
}

#[test]
fn a_statement_is_used_up_by_an_issue_for_administration_too() {
    let signer = Signer::start(POLICY);
    for again in [issue(1), ToSigner::Admin { attempt: 1, request: Box::new(Request::Keys) }] {
        let front = passed(&signer, if matches!(again, ToSigner::Admin { .. }) { 2 } else { 1 }, "root1");
        let keys = ToSigner::Admin { attempt: 1, request: Box::new(Request::Keys) };
        assert!(matches!(say(&front, &keys), Some(FromSigner::Admin(_))));
        serial(say(&front, &issue(1)));
        refused_and_closed(&front, &again);
    }
    assert_eq!(signer.rows().len(), 2);
    signer.end();
}

#[test]
fn the_fate_of_another_connections_certificate_is_not_its_to_tell() {
    let signer = Signer::start(POLICY);
    let alice = passed(&signer, 1, "alice");
    let of_alice = serial(say(&alice, &issue(1)));
    let bob = passed(&signer, 2, "bob");
    refused_and_closed(&bob, &ToSigner::Outcome { serial: of_alice, delivery: Delivery::Refused("no".into()) });
    assert_eq!(signer.rows()[0].outcome, "signed");
    assert_eq!(
        say(&alice, &ToSigner::Outcome { serial: of_alice, delivery: Delivery::Delivered }),
        Some(FromSigner::Noted)
    );
    signer.end();
}

#[test]
fn the_panic_button_is_for_its_own_users_certificates() {
    let signer = Signer::start(POLICY);
    let alice = passed(&signer, 1, "alice");
    let of_alice = serial(say(&alice, &issue(1)));
    let bob = passed(&signer, 2, "bob");
    let revoke = ToSigner::Mine { attempt: 1, verb: Verb::Revoke };
    assert_eq!(say(&bob, &revoke), Some(FromSigner::RevokedYours { certificates: 0 }));
    assert!(signer.rows().iter().all(|row| row.serial != of_alice || row.revoked.is_none()));
    let by_admin = Request::Revoke { what: Revoke::Serial(of_alice), reason: String::new() };
    let reply = say(&bob, &ToSigner::Admin { attempt: 1, request: Box::new(by_admin) });
    assert!(
        matches!(&reply, Some(FromSigner::Refused { message }) if message.contains("none of this CA's")),
        "{reply:?}"
    );
    assert!(signer.rows().iter().all(|row| row.revoked.is_none()));
    signer.end();
}

#[test]
fn a_signature_of_another_connection_proves_nothing() {
    let signer = Signer::start(POLICY);
    let key = new_key();
    signer.register("machine", &key);
    let looked_up = |connection| {
        let front = signer.front(connection, "192.0.2.1".parse().unwrap());
        assert_eq!(signer.state((connection, 1), Worker::LooksUp, "machine", &["machines"]), Ok(true));
        front
    };
    let challenge = ToSigner::Challenge { attempt: 1, purpose: Purpose::Login, key: key.public_key().to_blob() };
    let (first, second) = (looked_up(1), looked_up(2));
    let Some(FromSigner::Challenge { message }) = say(&first, &challenge) else { panic!() };
    let signature = signed(&message, Purpose::Login, &key).unwrap();
    assert!(matches!(say(&second, &challenge), Some(FromSigner::Challenge { .. })));
    let reply = say(&second, &ToSigner::Prove { signature: signature.clone() });
    assert!(matches!(&reply, Some(FromSigner::Refused { message }) if message.contains("signature")), "{reply:?}");
    // Where it belongs, once.
    assert_eq!(say(&first, &ToSigner::Prove { signature: signature.clone() }), Some(FromSigner::Proved));
    refused_and_closed(&first, &ToSigner::Prove { signature });
    let third = looked_up(3);
    assert_eq!(prove(&third, 1, Purpose::Login, &key), Some(FromSigner::Proved));
    serial(say(&third, &issue(1)));
    signer.end();
}

#[test]
fn it_says_more_where_there_is_none_once() {
    let signer = Signer::start(POLICY);
    let front = passed(&signer, 1, "root1");
    refused_and_closed(&front, &ToSigner::More);
    signer.end();
}

/// How many of them were answered before the channel was closed.
fn answered(front: &FrontEnd, message: &ToSigner, most: usize) -> usize {
    (0..most).take_while(|_| !matches!(say(front, message), None | Some(FromSigner::Refused { .. }))).count()
}

#[test]
fn the_feed_may_be_asked_for_a_bounded_number_of_times_and_the_supervisor_hears_of_it_once() {
    let signer = Signer::start(POLICY);
    let front = signer.front(1, "192.0.2.1".parse().unwrap());
    assert_eq!(answered(&front, &ToSigner::Feed { offset: u64::MAX }, 100), 16);
    assert!(say(&front, &ToSigner::Ways).is_none(), "the channel is open");
    let told = signer.told();
    assert_eq!(told.iter().filter(|told| matches!(told, FromSignerControl::Served { connection: 1 })).count(), 1);
    signer.end();
}

#[test]
fn keys_may_be_tried_a_bounded_number_of_times() {
    let signer = Signer::start(POLICY);
    let front = signer.front(1, "192.0.2.1".parse().unwrap());
    assert_eq!(signer.state((1, 1), Worker::LooksUp, "alice", &["machines"]), Ok(true));
    let key = new_key().public_key().to_blob();
    let challenge = ToSigner::Challenge { attempt: 1, purpose: Purpose::Login, key };
    let unregistered = (0..1000).take_while(|_| {
        matches!(say(&front, &challenge), Some(FromSigner::Refused { message }) if message.starts_with("This key is not registered"))
    });
    assert_eq!(unregistered.count(), 64);
    assert!(say(&front, &ToSigner::Ways).is_none(), "the channel is open");
    signer.end();
}

/// Each is a line of the log.
#[test]
fn what_takes_a_proof_may_be_asked_without_one_a_bounded_number_of_times() {
    let signer = Signer::start(POLICY);
    let administers = ToSigner::Admin { attempt: 1, request: Box::new(Request::Krl) };
    let mine = ToSigner::Mine { attempt: 1, verb: Verb::WhoAmI };
    for (connection, question) in [(1, administers), (2, mine)] {
        let front = signer.front(connection, "192.0.2.1".parse().unwrap());
        assert_eq!(signer.state((connection, 1), Worker::LooksUp, "alice", &["machines"]), Ok(true));
        let refused = (0..1000).take_while(|_| {
            matches!(say(&front, &question), Some(FromSigner::Refused { message }) if message != "The CA refuses this request.")
        });
        assert_eq!(refused.count(), 64, "{question:?}");
        assert!(say(&front, &ToSigner::Ways).is_none(), "the channel is open");
    }
    signer.end();
}

#[test]
fn names_that_are_asked_for_are_bounded_and_the_longest_row_is_replayed() {
    let signer = Signer::start(POLICY);
    let groups: Vec<String> = (0..4096).map(|number| format!("{number:0>256}")).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let ask = |connection: u64, length: usize, groups: &[&str]| {
        let front = signer.front(connection, "192.0.2.1".parse().unwrap());
        assert_eq!(signer.state((connection, 1), Worker::Authenticates, "alice", groups), Ok(true));
        let wish = Wish { principals: vec!["n".repeat(length); 64], reason: "r".repeat(256), ..Wish::default() };
        let message = ToSigner::Issue { attempt: 1, public_key: new_key().public_key().to_blob(), wish };
        match say(&front, &message) {
            Some(FromSigner::Refused { message }) => message,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(1, 257, &[]), "The CA refuses this request.");
    assert_ne!(ask(2, 256, &groups[..700]), "The CA refuses this request.");
    let recorded = Request::Recorded { since: 0, cursor: Cursor { before: u64::MAX, floor: None } };
    let Reply::Recorded { rows, .. } = signer.admin(&recorded) else { panic!() };
    let lengths: Vec<usize> = rows.iter().map(|row| row.supposed.wish.principals.concat().len()).collect();
    assert_eq!(lengths, [64 * 256]);
    signer.end();
}

#[test]
fn an_agent_that_takes_long_for_each_signature_lets_the_signer_answer_the_supervisor() {
    let agent = SlowAgent::start(Duration::from_millis(300));
    let signer = Signer::start_with_agent(POLICY, &agent);
    let fronts: Vec<FrontEnd> = (1..=20).map(|connection| passed(&signer, connection, "alice")).collect();
    for front in &fronts {
        front.send(&issue(1)).unwrap();
    }
    let mut longest = Duration::ZERO;
    while agent.signed() < fronts.len() {
        let asked = Instant::now();
        signer.hears();
        longest = longest.max(asked.elapsed());
    }
    // Two seconds of a turn, and the signatures that were begun.
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    let serials: BTreeSet<u64> = fronts.iter().map(|front| serial(answer(front))).collect();
    assert_eq!(serials.len(), 20);
    signer.end();
}
