#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use ussh_core::ca_file::TrustedCas;
use ussh_core::clock::UnixTime;
use ussh_core::keys::PrivateKey;
use ussh_os::process::effective_uid;

use super::*;
use crate::test_support::{Ca, from_now, honest, record_of, serve_agent, this_process};

fn look(ca: &Ca, revoked: &[u64]) -> Look {
    let (current, _) = ca.issue("alice", 1, 60);
    let terms = LoginTerms::new(current.clone(), &record_of(this_process(), Some(&current)));
    Look {
        terms,
        id: this_process(),
        uid: effective_uid(),
        needed_by: Instant::now().checked_add(Duration::from_secs(60)),
        current,
        trust: Arc::new(ca.trust(revoked)),
        context: ChallengeContext {
            host: "web1".into(),
            service: "ussh-hostd".into(),
            user: "alice".into(),
            ruser: String::new(),
            tty: String::new(),
            now: from_now(0),
        },
        timeout: Duration::from_secs(3),
    }
}

/// There is no second connection.
fn never_again(_: Duration) -> Result<Agent, AgentError> {
    Err(AgentError::Io("gone".into()))
}

/// Asks an agent that holds `keys`.
fn ask(look: &Look, keys: Vec<(Certificate, PrivateKey)>, sign: fn(&PrivateKey, &[u8]) -> Vec<u8>) -> Answer {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let agent = std::thread::spawn(move || serve_agent(theirs, &keys, sign));
    let answer = look.ask_agent(&mut Agent::new(ours, look.timeout), &never_again, look.timeout, &SystemClock);
    agent.join().unwrap();
    answer
}

#[test]
fn finds_the_newest_certificate_of_the_lineage_and_its_key() {
    let ca = Ca::new();
    let look = look(&ca, &[]);
    let keys = vec![ca.issue("alice", 2, 600), ca.issue("bob", 3, 9000), ca.issue("alice", 4, 900)];
    let accepted = ask(&look, keys, honest).unwrap();
    assert_eq!(accepted.certificate.certificate().serial(), 4);
    assert!(accepted.proof.is_for(&accepted.certificate));
}

#[test]
fn certificate_that_ends_no_later_is_not_newer() {
    let ca = Ca::new();
    let look = look(&ca, &[]);
    for seconds in [30, -10] {
        assert_eq!(ask(&look, vec![ca.issue("alice", 2, seconds)], honest).unwrap_err(), NotRenewed::NothingNewer);
    }
    let same = (look.current.clone(), PrivateKey::generate_ed25519().unwrap());
    assert_eq!(ask(&look, vec![same], honest).unwrap_err(), NotRenewed::NothingNewer);
    assert_eq!(ask(&look, vec![], honest).unwrap_err(), NotRenewed::NothingNewer);
}

#[test]
fn certificate_of_another_lineage_renews_nothing() {
    let ca = Ca::new();
    let look = look(&ca, &[]);
    for key_id in ["bob", "Alice", "alice "] {
        assert_eq!(ask(&look, vec![ca.issue(key_id, 2, 600)], honest).unwrap_err(), NotRenewed::NothingNewer);
    }
    // Another CA, even one that is trusted.
    let other = Ca::new();
    let cas = TrustedCas::from_keys(vec![ca.0.public_key(), other.0.public_key()]);
    let both = Look { trust: Arc::new(Trust::new(cas, None)), ..look };
    assert_eq!(ask(&both, vec![other.issue("alice", 2, 600)], honest).unwrap_err(), NotRenewed::NothingNewer);
}

#[test]
fn revoked_certificate_renews_nothing_and_hides_no_good_one() {
    let ca = Ca::new();
    let look = look(&ca, &[2]);
    let revoked = ask(&look, vec![ca.issue("alice", 2, 600)], honest).unwrap_err();
    assert_eq!(revoked, NotRenewed::NotAccepted("certificate is revoked".into()));
    let accepted = ask(&look, vec![ca.issue("alice", 2, 900), ca.issue("alice", 3, 600)], honest).unwrap();
    assert_eq!(accepted.certificate.certificate().serial(), 3);
}

#[test]
fn certificate_that_allows_less_than_the_login_renews_nothing_and_hides_no_good_one() {
    let ca = Ca::new();
    let look = look(&ca, &[]);
    let lesser = || ca.issue_with("alice", 2, 900, &["bob"], &[]);
    let refused = ask(&look, vec![lesser()], honest).unwrap_err();
    assert!(matches!(&refused, NotRenewed::NotAccepted(why) if why.contains("principal")), "{refused:?}");
    let elsewhere = ca.issue_with("alice", 3, 900, &["alice"], &[("source-address", "203.0.113.9/32")]);
    let refused = ask(&look, vec![elsewhere], honest).unwrap_err();
    assert!(matches!(&refused, NotRenewed::NotAccepted(why) if why.contains("source-address")), "{refused:?}");
    let accepted = ask(&look, vec![lesser(), ca.issue("alice", 4, 600)], honest).unwrap();
    assert_eq!(accepted.certificate.certificate().serial(), 4);
}

#[test]
fn certificate_that_never_runs_out_renews_nothing_and_hides_no_good_one() {
    let ca = Ca::new();
    let look = look(&ca, &[]);
    let for_ever = || ca.issue_until(UnixTime::FOREVER, "alice", 2, &["alice"], &[]);
    let refused = ask(&look, vec![for_ever()], honest).unwrap_err();
    assert!(matches!(&refused, NotRenewed::NotAccepted(why) if why.contains("never runs out")), "{refused:?}");
    let accepted = ask(&look, vec![for_ever(), ca.issue("alice", 3, 600)], honest).unwrap();
    assert_eq!(accepted.certificate.certificate().serial(), 3);
}

#[test]
fn ca_that_is_no_longer_trusted_renews_nothing() {
    let ca = Ca::new();
    let look = Look { trust: Arc::new(Ca::new().trust(&[])), ..look(&ca, &[]) };
    let refused = ask(&look, vec![ca.issue("alice", 2, 600)], honest).unwrap_err();
    assert!(matches!(&refused, NotRenewed::NotAccepted(why) if why.contains("not trusted")), "{refused:?}");
}

#[test]
fn certificate_without_its_key_renews_nothing() {
    let ca = Ca::new();
    let look = look(&ca, &[]);
    let stolen = (ca.issue("alice", 2, 600).0, PrivateKey::generate_ed25519().unwrap());
    let refused = ask(&look, vec![stolen], honest).unwrap_err();
    assert_eq!(refused, NotRenewed::NotAccepted("challenge: bad signature".into()));
    let other_data = ask(&look, vec![ca.issue("alice", 3, 600)], |key, _| key.sign(b"something else").unwrap());
    assert_eq!(other_data.unwrap_err(), NotRenewed::NotAccepted("challenge: bad signature".into()));
}

#[test]
fn agent_that_hangs_has_nothing() {
    let ca = Ca::new();
    let look = look(&ca, &[]);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let began = Instant::now();
    let patience = Duration::from_millis(200);
    let answer = look.ask_agent(&mut Agent::new(ours, patience), &never_again, patience, &SystemClock);
    assert!(matches!(answer, Err(NotRenewed::NoAnswer(_))));
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn key_that_hangs_hides_no_good_certificate() {
    let ca = Ca::new();
    let look = look(&ca, &[]);
    let (hangs, good) = (ca.issue("alice", 2, 900), ca.issue("alice", 3, 600));
    let serve = |keys: Vec<(Certificate, PrivateKey)>, sign: fn(&PrivateKey, &[u8]) -> Vec<u8>| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || serve_agent(theirs, &keys, sign));
        Agent::new(ours, look.timeout)
    };
    let copy =
        |(c, k): &(Certificate, PrivateKey)| (c.clone(), PrivateKey::from_openssh(&k.to_openssh("").unwrap()).unwrap());
    let mut first = serve(vec![copy(&hangs), copy(&good)], |_, _| {
        std::thread::sleep(Duration::from_secs(60));
        Vec::new()
    });
    let both = RefCell::new(Some(vec![hangs, good]));
    let reconnect = |_| Ok(serve(both.take().unwrap(), honest));
    let began = Instant::now();
    let accepted = look.ask_agent(&mut first, &reconnect, look.timeout, &SystemClock).unwrap();
    assert_eq!(accepted.certificate.certificate().serial(), 3);
    assert!(began.elapsed() < look.timeout);
}

/// A listening socket of this process, where sshd would put it.
fn listen_in(folder: &Path) -> (UnixListener, std::path::PathBuf) {
    let inner = folder.join("ssh-abcdefghij");
    std::fs::create_dir(&inner).unwrap();
    let path = inner.join("agent.1");
    (UnixListener::bind(&path).unwrap(), path)
}

// One test for both: each sees all sockets of this process.
#[test]
fn asks_the_process_that_holds_the_socket_and_nobody_who_took_its_path() {
    let ca = Ca::new();
    let folder = tempfile::tempdir().unwrap();
    let (listener, path) = listen_in(folder.path());
    let keys = vec![ca.issue("alice", 2, 600)];
    let agent = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve_agent(stream, &keys, honest);
        listener
    });
    let accepted = look(&ca, &[]).make().unwrap();
    assert_eq!(accepted.certificate.certificate().serial(), 2);
    let _listener = agent.join().unwrap();

    std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
    let mut impostor = std::process::Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(&path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while UnixStream::connect(&path).is_err() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let answer = look(&ca, &[]).make();
    impostor.kill().unwrap();
    impostor.wait().unwrap();
    assert_eq!(answer.unwrap_err(), NotRenewed::NoAnswer("another process listens at the agent's path".into()));
}

const BEFORE: Place = Place { uid: 7, is_past_end: false };

/// So many looks at agents of that user's, before their sessions' ends, that never come to an end.
fn occupy(lookers: &mut Lookers, uid: u32, looks: usize) {
    for _ in 0..looks {
        lookers.running.take(Place { uid, ..BEFORE });
    }
}

fn nobody(ca: &Ca, uid: u32) -> Look {
    Look { id: ConnectionId { pid: u32::MAX, start_time: 1 }, uid, ..look(ca, &[]) }
}

#[test]
fn every_look_is_answered_once() {
    let ca = Ca::new();
    let mut lookers = Lookers::new().unwrap();
    for uid in 0..100 {
        lookers.begin(nobody(&ca, uid));
    }
    let mut answers = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while answers.len() < 100 && Instant::now() < deadline {
        let mut bell = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(lookers.bell()), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut bell, 1000u16).unwrap();
        answers.extend(lookers.answers());
    }
    assert_eq!(answers.len(), 100);
    assert!(answers.iter().all(|(_, answer)| matches!(answer, Err(NotRenewed::NoAgent))));
    assert!(lookers.running == Running::default() && lookers.waiting.is_empty());
}

#[test]
fn one_users_looks_leave_room_for_others() {
    let ca = Ca::new();
    let mut lookers = Lookers::new().unwrap();
    occupy(&mut lookers, 1000, MAX_LOOKS_PER_UID);
    lookers.begin(nobody(&ca, 1000));
    lookers.begin(nobody(&ca, 1001));
    assert_eq!(lookers.waiting.len(), 1);
    assert_eq!(lookers.waiting[0].uid, 1000);
    assert!(lookers.running.of(1001) == 1);
}

#[test]
fn many_users_whose_agents_hang_leave_room_for_one_who_is_asked_for_the_first_time() {
    let ca = Ca::new();
    let mut lookers = Lookers::new().unwrap();
    // None of them is started in this test, which would come to an end.
    let hanging = |uid| Place { uid, ..BEFORE };
    for uid in (0..8).cycle().take(8 * 14) {
        if lookers.running.has_room_for(hanging(uid)) {
            lookers.running.take(hanging(uid));
        }
    }
    assert_eq!(lookers.running.all(), MAX_LOOKS - KEPT_FOR_FIRST);
    lookers.begin(nobody(&ca, 0));
    lookers.begin(nobody(&ca, 1001));
    assert_eq!(lookers.waiting.iter().map(|look| look.uid).collect::<Vec<_>>(), [0]);
    assert_eq!(lookers.running.of(1001), 1, "it is asked at once");
}

#[test]
fn looks_of_sessions_past_their_end_leave_room_for_those_before_it() {
    let ca = Ca::new();
    let mut lookers = Lookers::new().unwrap();
    for uid in 0..MAX_LOOKS_PAST_END as u32 {
        lookers.running.take(Place { uid, is_past_end: true });
    }
    lookers.begin(Look { needed_by: None, ..nobody(&ca, 1000) });
    lookers.begin(nobody(&ca, 1001));
    assert_eq!(lookers.waiting.iter().map(|look| look.uid).collect::<Vec<_>>(), [1000]);
    assert_eq!(lookers.running.of(1001), 1);
    lookers.running.leave(Place { uid: 0, is_past_end: true });
    lookers.start_waiting();
    assert!(lookers.waiting.is_empty(), "there is a place again");
}

#[test]
fn nearest_end_comes_first_of_users_with_as_many_looks_and_what_is_past_it_last() {
    let ca = Ca::new();
    let mut lookers = Lookers::new().unwrap();
    occupy(&mut lookers, 1, 2);
    let now = Instant::now();
    let ending_in = |uid, seconds: Option<u64>| {
        let needed_by = seconds.map(|seconds| now + Duration::from_secs(seconds));
        Look { needed_by, ..nobody(&ca, uid) }
    };
    let looks = [(2, None), (1, Some(1)), (3, Some(300)), (4, Some(5)), (5, None), (6, Some(60))];
    lookers.waiting = looks.map(|(uid, seconds)| ending_in(uid, seconds)).into();
    let mut turns = Vec::new();
    while let Some(position) = lookers.next() {
        turns.push(lookers.waiting.remove(position).uid);
    }
    assert_eq!(turns, [4, 6, 3, 1, 2, 5]);
}

#[test]
fn look_of_an_ended_session_does_not_stand_before_others() {
    let ca = Ca::new();
    let mut lookers = Lookers::new().unwrap();
    occupy(&mut lookers, 1000, MAX_LOOKS_PER_UID);
    let other = Look { id: ConnectionId { pid: u32::MAX, start_time: 2 }, ..nobody(&ca, 1000) };
    let (ended, lives) = (nobody(&ca, 1000), other);
    let (gone, left) = (ended.id, lives.id);
    lookers.begin(ended);
    lookers.begin(lives);
    lookers.forget(gone);
    assert_eq!(lookers.waiting.iter().map(|look| look.id).collect::<Vec<_>>(), [left]);
}

#[test]
fn worker_that_dies_answers_all_the_same() {
    let lookers = Lookers::new().unwrap();
    let id = this_process();
    drop(Reply { to: lookers.send.clone(), bell: Arc::clone(&lookers.bell), id, place: BEFORE, answer: None });
    let (answered, place, answer) = lookers.receive.try_recv().unwrap();
    assert_eq!((answered, place), (id, BEFORE));
    assert!(matches!(answer, Err(NotRenewed::Failed(_))));
}
