//! What becomes of logins that nobody passed: a row for each, and no more rows than there may be.

use ussh_core::clock::UnixTime;
use ussh_core::keys::PublicKey;
use usshca_ipc::front::{Ending, MAX_TYPED, Purpose, Verb};
use usshca_ipc::worker::PamRefusal;

use super::super::refused_logins::RefusedLogins;
use super::proofs::{keyed, new_key, prove, say};
use super::*;
use crate::inventory::refused_logins::RefusedLogin;

/// What the refused logins among the rows say: who, from where, how, why, how often. The newest first.
fn refused(world: &World) -> Vec<(String, String, String, String, u64)> {
    let rows = world.rows().into_iter().filter(|row| row.authenticated.contains("(tried "));
    rows.map(|row| (row.key_id, row.from, row.authenticated, row.outcome, row.count)).collect()
}

fn wait_for(world: &World, count: usize) -> Vec<(String, String, String, String, u64)> {
    let start = std::time::Instant::now();
    loop {
        let rows = refused(world);
        if rows.len() >= count {
            return rows;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{rows:?}");
        std::thread::yield_now();
    }
}

fn row(
    user: &str,
    from: &str,
    authenticated: &str,
    outcome: &str,
    count: u64,
) -> (String, String, String, String, u64) {
    (user.to_owned(), from.to_owned(), authenticated.to_owned(), format!("refused: {outcome}"), count)
}

#[test]
fn a_refusal_of_pam_is_a_row_and_the_same_again_is_counted_in_it() {
    let world = world();
    let _front = world.front(1);
    for attempt in 1..=3 {
        let worker = world.worker(1, attempt, own_pid());
        worker.send(&Spoken::Refused(PamRefusal::Authentication)).unwrap();
        assert_closed(&worker);
    }
    let expected = row("somebody", "192.0.2.1", "none (tried pam)", "PAM: authentication failed", 3);
    assert_eq!(refused(&world), [expected]);
    let shown = match ask(&world.admin(), Request::ShowRow { row: world.rows()[0].row }) {
        Reply::Shown(shown) => shown.entry,
        other => panic!("{other:?}"),
    };
    assert_eq!((shown.key_id.as_str(), shown.count), ("somebody", 3));
}

#[test]
fn a_worker_that_ends_without_a_word_was_a_login_that_was_refused() {
    let world = world();
    let _front = world.front(1);
    drop(world.worker(1, 1, own_pid()));
    assert_eq!(wait_for(&world, 1), [row("somebody", "192.0.2.1", "none (tried pam)", "PAM: broke down", 1)]);
}

#[test]
fn the_word_of_somebody_else_than_the_worker_is_not_taken_as_the_reason() {
    let world = world();
    let _front = world.front(1);
    let worker = world.worker(1, 1, own_pid() + 1);
    worker.send(&Spoken::Refused(PamRefusal::UnknownUser)).unwrap();
    assert_closed(&worker);
    assert_eq!(refused(&world), [row("somebody", "192.0.2.1", "none (tried pam)", "PAM: statement not taken", 1)]);
}

#[test]
fn whoever_leaves_before_pam_has_decided_leaves_a_row() {
    let world = world();
    let front = world.front(1);
    let _worker = world.worker(1, 1, own_pid());
    world.hears();
    drop(front);
    assert_eq!(
        wait_for(&world, 1),
        [row("somebody", "192.0.2.1", "none (tried pam)", "left before PAM had decided", 1)]
    );
}

#[test]
fn who_passed_and_got_a_certificate_leaves_no_refusal() {
    let world = world();
    let front = world.passed(1);
    let number = serial(&issue(&front, 1));
    assert_eq!(outcome(&front, number, Delivery::Delivered), FromSigner::Noted);
    drop(front);
    world.hears();
    assert_eq!(refused(&world), []);
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn a_key_that_is_not_registered_is_a_row_once_the_connection_ends() {
    let world = keyed();
    let key = new_key();
    let front = world.front(1);
    let knows = ToSigner::Knows { user: "ci".into(), key: key.public_key().to_blob() };
    assert_eq!(say(&front, &knows), FromSigner::Known(false));
    assert_eq!(refused(&world), []);
    drop(front);
    assert_eq!(wait_for(&world, 1), [row("ci", "192.0.2.1", "none (tried publickey)", "key not registered", 1)]);
    assert_eq!(world.rows()[0].fingerprint, key.public_key().fingerprint());
}

#[test]
fn a_proof_that_fails_is_a_row_with_the_key_that_was_to_prove_it() {
    let world = keyed();
    let (key, other) = (new_key(), new_key());
    world.register("ci", &key);
    let front = world.looked_up(1, "ci", "machines");
    for (purpose, tried) in [(Purpose::Login, "publickey"), (Purpose::ClientKey, "client-key")] {
        let named: PublicKey = key.public_key();
        let challenge = ToSigner::Challenge { attempt: 1, purpose, key: named.to_blob() };
        let FromSigner::Challenge { message } = say(&front, &challenge) else { panic!() };
        let signed = super::proofs::signature(&message, purpose, &named, &other);
        assert!(matches!(say(&front, &ToSigner::Prove { signature: signed }), FromSigner::Refused { .. }));
        let authenticated = format!("none (tried {tried})");
        assert_eq!(refused(&world)[0], row("ci", "192.0.2.1", &authenticated, "key did not prove itself", 1));
        assert_eq!(world.rows()[0].fingerprint, named.fingerprint());
    }
    let stranger = ToSigner::Challenge { attempt: 1, purpose: Purpose::Login, key: other.public_key().to_blob() };
    assert!(matches!(say(&front, &stranger), FromSigner::Refused { .. }));
    assert_eq!(refused(&world)[0], row("ci", "192.0.2.1", "none (tried publickey)", "key not registered", 1));
    drop(front);
    world.hears();
    assert_eq!(refused(&world).len(), 3);
}

#[test]
fn an_account_for_which_nothing_was_proved_is_a_row() {
    let world = keyed();
    drop(world.looked_up(1, "paula", "staff"));
    assert_eq!(wait_for(&world, 1), [row("paula", "192.0.2.1", "none (tried none)", "nothing proved", 1)]);
}

#[test]
fn who_was_let_in_by_a_key_and_asked_for_nothing_was_refused_nothing() {
    let world = keyed();
    for (connection, user, group) in [(1, "ci", "machines"), (2, "bea", "both")] {
        let key = new_key();
        world.register(user, &key);
        let front = world.looked_up(connection, user, group);
        let knows = ToSigner::Knows { user: user.into(), key: key.public_key().to_blob() };
        assert_eq!(say(&front, &knows), FromSigner::Known(true));
        say(&front, &ToSigner::Demands { attempt: 1, by_key: true });
    }
    // Of the other the rule demands PAM besides.
    assert_eq!(wait_for(&world, 1), [row("bea", "192.0.2.2", "none (tried publickey)", "nothing proved", 1)]);
}

/// Public keys are public: whoever is looked up because a rule lets people in with nothing, and then shows somebody's key and does not sign, was not let in.
#[test]
fn a_registered_key_that_was_offered_and_did_not_sign_lets_nobody_in() {
    let world = keyed();
    let key = new_key();
    world.register("ci", &key);
    for (connection, offered_first) in [(1, false), (2, true)] {
        let knows = ToSigner::Knows { user: "ci".into(), key: key.public_key().to_blob() };
        let front = world.looked_up(connection, "ci", "machines");
        let demands = ToSigner::Demands { attempt: 1, by_key: false };
        for question in if offered_first { [&knows, &demands] } else { [&demands, &knows] } {
            assert!(!matches!(say(&front, question), FromSigner::Refused { .. }));
        }
        drop(front);
        let connections = usize::try_from(connection).unwrap();
        let from = format!("192.0.2.{connection}");
        assert_eq!(wait_for(&world, connections)[0], row("ci", &from, "none (tried publickey)", "nothing proved", 1));
    }
    assert_eq!(world.rows()[0].fingerprint, key.public_key().fingerprint());
}

#[test]
fn a_login_that_comes_to_nothing_is_a_row_that_says_why() {
    let world = world();
    let endings = [
        (Ending::NoAgent, "no agent was forwarded"),
        (Ending::AgentSilent, "the agent did not answer"),
        (Ending::KeyNotInAgent, "the key is not in the agent"),
        (Ending::NoRegisteredKey, "no registered key is in the agent"),
        (Ending::RegisteredKeyRevoked, "the registered key in the agent is revoked"),
        (Ending::AgentDidNotSign, "the agent did not sign"),
        (Ending::NoPublicKey, "no public key was given"),
        (Ending::Command, "no such command: \"rm\\x22\\x0a x\""),
        (Ending::OnlyThere, "only at the CA's machine: \"rm\\x22\\x0a x\""),
    ];
    // Of the others it is nobody's business.
    let typed = b"rm\"\n x".to_vec();
    for ((how, why), connection) in endings.into_iter().zip(1..) {
        let front = world.passed(connection);
        assert_eq!(say(&front, &ToSigner::Ends { attempt: 1, how, typed: typed.clone() }), FromSigner::Noted);
        let from = format!("192.0.2.{connection}");
        assert_eq!(refused(&world)[0], row("alice", &from, "pam (tried pam)", why, 1));
        // Nothing more comes of that statement.
        assert!(matches!(issue(&front, 1), FromSigner::Refused { .. }));
        drop(front);
        world.hears();
    }
    assert_eq!(refused(&world).len(), endings.len());
    // Nobody has said why.
    drop(world.passed(100));
    assert_eq!(
        wait_for(&world, endings.len() + 1)[0],
        row("alice", "192.0.2.100", "pam (tried pam)", "nothing was asked for", 1)
    );
}

#[test]
fn a_login_that_had_an_answer_was_refused_nothing() {
    let world = world();
    for (question, connection) in [
        ToSigner::Ends { attempt: 1, how: Ending::Help, typed: vec![] },
        ToSigner::Mine { attempt: 1, verb: Verb::WhoAmI },
        ToSigner::Feed { offset: 0 },
        ToSigner::Admin { attempt: 1, request: Box::new(Request::Keys) },
    ]
    .into_iter()
    .zip(1..)
    {
        let front = world.passed(connection);
        say(&front, &question);
        drop(front);
        world.hears();
    }
    assert_eq!(refused(&world), []);
    // More of a command than a front of ours tells.
    let front = world.passed(8);
    let ends = ToSigner::Ends { attempt: 1, how: Ending::Command, typed: vec![b'x'; MAX_TYPED + 1] };
    assert!(matches!(say(&front, &ends), FromSigner::Refused { .. }));
    assert_closed(&front);
    // The end of what nobody began.
    let front = world.front(9);
    let ends = ToSigner::Ends { attempt: 1, how: Ending::NoAgent, typed: vec![] };
    assert!(matches!(say(&front, &ends), FromSigner::Refused { .. }));
    assert_closed(&front);
    assert_eq!(refused(&world), []);
}

#[test]
fn a_key_that_let_somebody_in_stands_in_the_row_of_a_login_that_comes_to_nothing() {
    let world = keyed();
    let key = new_key();
    world.register("ci", &key);
    let front = world.looked_up(1, "ci", "machines");
    say(&front, &ToSigner::Knows { user: "ci".into(), key: key.public_key().to_blob() });
    assert_eq!(say(&front, &ToSigner::Ends { attempt: 1, how: Ending::NoAgent, typed: vec![] }), FromSigner::Noted);
    assert_eq!(refused(&world), [row("ci", "192.0.2.1", "none (tried publickey)", "no agent was forwarded", 1)]);
    assert_eq!(world.rows()[0].fingerprint, key.public_key().fingerprint());
}

#[test]
fn an_impossible_name_is_one_row_of_its_connection() {
    let world = world();
    let front = world.front(1);
    for user in ["evil\n\u{1b}[2J", "another\0"] {
        assert_eq!(say(&front, &ToSigner::Impossible { user: user.into() }), FromSigner::Noted);
    }
    drop(front);
    world.hears();
    assert_eq!(refused(&world), [row("evil\\x0a\\x1b[2J", "192.0.2.1", "none (tried none)", "impossible name", 1)]);
    let front = world.front(2);
    assert!(matches!(say(&front, &ToSigner::Impossible { user: "x".repeat(257) }), FromSigner::Refused { .. }));
    assert_closed(&front);
}

/// OpenSSH's client begins with nothing, always.
#[test]
fn what_pam_says_to_somebody_with_nothing_is_a_row_only_if_nothing_comes_after_it() {
    let world = keyed();
    let looks_up = |connection, attempt| {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        theirs.attest_sender().unwrap();
        let news = Control::NewLookup {
            connection,
            attempt,
            worker_pid: own_pid(),
            user: "dora".to_owned(),
            patience_seconds: 60,
        };
        world.control.send_with(&news, &[theirs.as_fd()]).unwrap();
        drop(theirs);
        let worker: WorkerEnd = Channel::new(ours);
        worker.send(&Spoken::Refused(PamRefusal::PasswordExpired)).unwrap();
        assert_closed(&worker);
    };
    // She changes it, and gets her certificate.
    let front = world.front(1);
    looks_up(1, 1);
    assert_eq!(state(&world.worker(1, 2, own_pid()), "dora", &["staff"]), StatementReply::Kept);
    let number = serial(&issue(&front, 2));
    assert_eq!(outcome(&front, number, Delivery::Delivered), FromSigner::Noted);
    drop(front);
    world.hears();
    assert_eq!(refused(&world), []);
    // She does not.
    let front = world.front(2);
    looks_up(2, 1);
    let worker = world.worker(2, 2, own_pid());
    worker.send(&Spoken::Refused(PamRefusal::PasswordNotChanged)).unwrap();
    assert_closed(&worker);
    drop(front);
    world.hears();
    let changed = row("somebody", "192.0.2.2", "none (tried pam)", "PAM: password not changed", 1);
    assert_eq!(refused(&world), std::slice::from_ref(&changed));
    // She has nothing else, as a machine.
    let front = world.front(3);
    looks_up(3, 1);
    assert_eq!(refused(&world), std::slice::from_ref(&changed));
    drop(front);
    assert_eq!(
        wait_for(&world, 2),
        [row("dora", "192.0.2.3", "none (tried none)", "PAM: password expired", 1), changed]
    );
}

#[test]
fn a_registered_key_that_is_revoked_is_called_so_and_not_unknown() {
    let world = keyed();
    let key = new_key();
    let fingerprint = key.public_key().fingerprint();
    world.register("ci", &key);
    world.register("bea", &new_key());
    for (user, key) in [("bea", &new_key()), ("ci", &key)] {
        let what = Revoke::Key(key.public_key().fingerprint());
        assert!(
            matches!(ask(&world.admin(), Request::Revoke { what, reason: String::new() }), Reply::Revoked(_)),
            "{user}"
        );
    }
    let knows = |front: &FrontEnd, user: &str| {
        say(front, &ToSigner::Knows { user: user.into(), key: key.public_key().to_blob() })
    };
    let front = world.looked_up(1, "ci", "machines");
    assert_eq!(knows(&front, "ci"), FromSigner::KnownRevoked);
    assert_eq!(knows(&front, "bea"), FromSigner::Known(false), "of another it is as any key");
    let challenge = ToSigner::Challenge { attempt: 1, purpose: Purpose::Login, key: key.public_key().to_blob() };
    match say(&front, &challenge) {
        FromSigner::Refused { message } => assert!(message.contains("revoked"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(&world)[0].3, "refused: key revoked");
    match issue(&front, 1) {
        FromSigner::Refused { message } => assert!(message.contains(&format!("{fingerprint} is revoked")), "{message}"),
        other => panic!("{other:?}"),
    }
    let demanded = "refused: the rule demands authentication by publickey";
    assert_eq!(world.rows()[0].outcome, format!("{demanded}, and the registered key {fingerprint} is revoked"));
    // One that has a good key as well has not come with it.
    assert!(matches!(issue(&world.looked_up(2, "bea", "machines"), 1), FromSigner::Refused { .. }));
    assert_eq!(world.rows()[0].outcome, demanded);
    // Offered, and nothing else.
    let front = world.front(3);
    assert_eq!(knows(&front, "ci"), FromSigner::KnownRevoked);
    drop(front);
    assert_eq!(wait_for(&world, 2)[0], row("ci", "192.0.2.3", "none (tried publickey)", "key revoked", 1));
    assert_eq!(world.rows()[0].fingerprint, fingerprint);
}

/// Removed or revoked between its proof and the certificate.
#[test]
fn a_registered_key_that_is_taken_back_after_its_proof_gives_no_certificate() {
    let world = keyed();
    for (connection, user) in [(1, "ci"), (2, "cj")] {
        let key = new_key();
        world.register(user, &key);
        let front = world.looked_up(connection, user, "machines");
        assert_eq!(prove(&front, Purpose::Login, &key), FromSigner::Proved);
        let fingerprint = key.public_key().fingerprint();
        let revoked =
            if connection == 1 { String::new() } else { format!(", and the registered key {fingerprint} is revoked") };
        if connection == 1 {
            assert_eq!(
                ask(&world.admin(), Request::KeyRemove { fingerprint }),
                Reply::KeyRemoved { user: user.into() }
            );
        } else {
            let what = Revoke::Key(fingerprint);
            assert!(matches!(ask(&world.admin(), Request::Revoke { what, reason: String::new() }), Reply::Revoked(_)));
        }
        assert!(matches!(issue(&front, 1), FromSigner::Refused { .. }));
        let row = world.rows().remove(0);
        assert_eq!(row.outcome, format!("refused: the rule demands authentication by publickey{revoked}"));
        assert_eq!((row.key_id.as_str(), row.authenticated.as_str()), (user, "none"));
    }
}

/// Keys of whoever has the front prove themselves as often as they like.
#[test]
fn proofs_of_keys_do_not_keep_a_pass_of_pam_alive() {
    let world = world_where(own_uid(), vec![own_uid()], |server| {
        server.statement_life = Duration::from_millis(400);
        server.challenge_life = Duration::from_millis(400);
    });
    let front = world.passed(1);
    let start = std::time::Instant::now();
    let last = loop {
        let key = new_key();
        let challenge =
            ToSigner::Challenge { attempt: 1, purpose: Purpose::ClientKey, key: key.public_key().to_blob() };
        let message = match say(&front, &challenge) {
            FromSigner::Challenge { message } => message,
            FromSigner::Refused { message } => break message,
            other => panic!("{other:?}"),
        };
        let signature = super::proofs::signature(&message, Purpose::ClientKey, &key.public_key(), &key);
        match say(&front, &ToSigner::Prove { signature }) {
            FromSigner::Proved => {}
            FromSigner::Refused { message } => break message,
            other => panic!("{other:?}"),
        }
        assert!(start.elapsed() < Duration::from_secs(10), "a pass of PAM is kept alive");
    };
    assert!(last.contains("too long since you logged in"), "{last}");
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert!(matches!(issue(&front, 1), FromSigner::Refused { .. }));
    assert_eq!(refused(&world)[0].3, "refused: too late");
}

fn login(user: &str, source: &str) -> RefusedLogin {
    let (user, source) = (user.to_owned(), source.to_owned());
    let (network, authenticated) = (source.clone(), "none (tried pam)".to_owned());
    RefusedLogin {
        user,
        source,
        network,
        authenticated,
        fingerprint: String::new(),
        reason: "PAM: authentication failed",
        typed: String::new(),
    }
}

#[test]
fn a_flood_waits_in_bounded_memory_and_every_one_is_counted() {
    let mut waiting = RefusedLogins::default();
    for n in 0..100_000_u32 {
        waiting.note(login(&format!("name{n}"), "192.0.2.1"), UnixTime(1));
    }
    assert!(waiting.len() <= 40, "{}", waiting.len());
    for n in 0..100_000_u32 {
        waiting.note(login("root", &std::net::Ipv4Addr::from(n).to_string()), UnixTime(1));
    }
    assert!(waiting.len() <= 1100, "{}", waiting.len());
    assert_eq!(waiting.total(), 200_000);
}

#[test]
fn refusals_of_one_moment_stand_in_the_order_in_which_they_came() {
    let world = keyed();
    for (connection, user) in [(1, "zoe"), (2, "mel"), (3, "ann")] {
        let front = world.front(connection);
        say(&front, &ToSigner::Knows { user: user.into(), key: new_key().public_key().to_blob() });
        drop(front);
        world.hears();
    }
    let names: Vec<_> = wait_for(&world, 3).into_iter().map(|row| row.0).collect();
    assert_eq!(names, ["ann", "mel", "zoe"], "the newest first");
}

#[test]
fn a_long_name_is_cut_in_its_row() {
    let world = keyed();
    for (connection, user) in [(1, "x".repeat(200)), (2, "y".repeat(64))] {
        let front = world.front(connection);
        say(&front, &ToSigner::Knows { user, key: new_key().public_key().to_blob() });
        drop(front);
        world.hears();
    }
    let names: Vec<_> = wait_for(&world, 2).into_iter().map(|row| row.0).collect();
    assert_eq!(names, ["y".repeat(64), "x".repeat(61) + "..."]);
}

#[test]
fn what_could_not_be_written_is_not_tried_again_by_each_who_reads() {
    let world = world();
    let full = "CREATE TRIGGER full BEFORE INSERT ON certificate BEGIN SELECT RAISE(ABORT, 'full'); END";
    // Up, with its database.
    world.hears();
    let database = rusqlite::Connection::open(world.dir.path().join("inventory.db")).unwrap();
    database.execute_batch(full).unwrap();
    let _front = world.front(1);
    let worker = world.worker(1, 1, own_pid());
    worker.send(&Spoken::Refused(PamRefusal::Authentication)).unwrap();
    assert_closed(&worker);
    // Who reads has it written, and that fails.
    assert_eq!(refused(&world), []);
    database.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(refused(&world), [], "it is not due for seconds");
    // It is not lost for that: the end does not wait.
    let _dir = world.end();
    let count = "SELECT count(*) FROM certificate WHERE state = 'refused'";
    assert_eq!(database.query_row(count, [], |row| row.get(0)), Ok(1));
}
