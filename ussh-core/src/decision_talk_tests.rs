//! The talk of a decision over more than one connection, with keys that hang and agents that lie about the extension.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::cell::RefCell;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::tests::{World, reasons};
use super::*;
use crate::agent::{Constraints, MAX_FRAME, frame};
use crate::challenge::ChallengeMessage;
use crate::clock::{FixedClock, UnixTime};
use crate::keys::{KeyError, PrivateKey};
use crate::test_agents::{
    Answer, NOW, RealAgent, Served, SoftAgent, SoftFido, context, demand, hang, new_key, scripted, template,
};

/// Long enough for a signature on a busy machine, short enough to wait for.
const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(60);
/// What is bounded by a few [`SHORT`]s is back by then, on a busy machine too.
const SOON: Duration = Duration::from_secs(15);

const PATIENT: Patience = Patience { total: LONG, touch: LONG, overall: None };
const SHORT_TOUCH: Patience = Patience { touch: SHORT, ..PATIENT };

/// With one connection and no more, unless there is a way to others.
fn ask(
    world: &World,
    agent: &mut Agent,
    patience: Patience,
    reconnect: Option<&Reconnect<'_>>,
) -> Result<Accepted, DecisionError> {
    let (context, clock) = (context(), FixedClock(NOW));
    decide(agent, &demand(&world.cas), &Asking { reconnect, ..Asking::new(&context, patience, &clock) })
}

fn older(seconds: u64) -> impl FnOnce(&mut crate::issue::CertificateTemplate) {
    move |template| template.valid_after = UnixTime(1_700_000_000 - seconds)
}

/// With as many connections as it takes.
fn ask_with(world: &World, served: &Served, patience: Patience) -> Result<Accepted, DecisionError> {
    ask(world, &mut served.connect(), patience, Some(&|_| Ok(served.connect())))
}

#[test]
fn a_signature_that_hangs_spends_its_own_deadline_only() {
    let world = World::new();
    let (key, good) = world.pair(older(1000));
    let served = SoftAgent::default()
        .with(world.good().1.blob(), |_, _| Answer::Silence)
        .with(world.good().1.blob(), |_, _| Answer::Silence)
        .with_key(good.blob(), key)
        .serve();
    let start = Instant::now();
    let accepted = ask_with(&world, &served, SHORT_TOUCH).unwrap();
    assert_eq!(*accepted.certificate.certificate(), good);
    assert!(accepted.proof.is_for(&accepted.certificate));
    assert!(start.elapsed() >= 2 * SHORT && start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(served.asked(), [11, 13, 11, 13, 11, 13], "each fresh connection shows that the agent is free");
}

#[test]
fn an_agent_that_breaks_off_or_answers_nonsense_hides_no_good_identity() {
    let world = World::new();
    let too_large = u32::try_from(MAX_FRAME).unwrap() + 1;
    let odd: [Vec<u8>; 6] = [
        vec![0; 4],
        too_large.to_be_bytes().to_vec(),
        frame::success(),
        frame::wrap(&[14]),
        // An answer too many: the second would pass for the next one's.
        [frame::success(), frame::failure()].concat(),
        [frame::failure(), frame::signature(b"late")].concat(),
    ];
    for answer in odd.into_iter().map(Some).chain([None]) {
        let (key, good) = world.pair(older(1000));
        let what = format!("{answer:?}");
        let served = SoftAgent::default()
            .with(world.good().1.blob(), move |_, _| answer.clone().map_or(Answer::Close, Answer::Frame))
            .with_key(good.blob(), key)
            .serve();
        let accepted = ask_with(&world, &served, PATIENT).expect(&what);
        assert_eq!(*accepted.certificate.certificate(), good);
        assert_eq!(served.asked(), [11, 13, 11, 13], "{what}");
    }
}

#[test]
fn an_agent_that_refuses_or_signs_wrongly_is_asked_on_on_the_same_connection() {
    let world = World::new();
    let (key, good) = world.pair(older(1000));
    let served = SoftAgent::default()
        .with_refusal(world.good().1.blob())
        .with_key(world.good().1.blob(), new_key())
        .with_key(good.blob(), key)
        .serve();
    assert!(ask_with(&world, &served, PATIENT).is_ok());
    assert_eq!(served.asked(), [11, 13, 13, 13]);
}

#[test]
fn without_a_second_connection_what_comes_behind_a_broken_one_is_told_as_not_asked() {
    let world = World::new();
    let (key, good) = world.pair(older(1000));
    for (answer, patience) in [(Answer::Silence, SHORT_TOUCH), (Answer::Close, PATIENT)] {
        let pem = key.to_openssh("").unwrap();
        let mut answer = Some(answer);
        let mut agent = SoftAgent::default()
            .with(world.good().1.blob(), move |_, _| answer.take().unwrap())
            .with_key(good.blob(), PrivateKey::from_openssh(&pem).unwrap())
            .start();
        let reasons = reasons(ask(&world, &mut agent, patience, None));
        assert_eq!(reasons.len(), 2);
        assert!(matches!(reasons[0], NotAccepted::Agent(AgentError::Timeout | AgentError::Io(_))), "{reasons:?}");
        assert!(matches!(reasons[1], NotAccepted::Agent(AgentError::Io(_))), "{reasons:?}");
    }
}

#[test]
fn a_second_connection_that_fails_is_tried_once() {
    let world = World::new();
    let mut agent =
        (0..4).fold(SoftAgent::default(), |agent, _| agent.with(world.good().1.blob(), |_, _| Answer::Close)).start();
    let tried = RefCell::new(Vec::new());
    let reconnect = |patience| {
        tried.borrow_mut().push(patience);
        Err(AgentError::Io("no such file".into()))
    };
    let reasons = reasons(ask(&world, &mut agent, PATIENT, Some(&reconnect)));
    assert_eq!(reasons[1..], vec![NotAccepted::Agent(AgentError::Io("no such file".into())); 3]);
    assert!(matches!(tried.borrow()[..], [patience] if patience <= PATIENT.total), "{tried:?}");
}

#[test]
fn an_agent_that_answers_nothing_more_costs_what_is_left_of_the_total() {
    let world = World::new();
    let mut agent =
        (0..4).fold(SoftAgent::default(), |agent, _| agent.with(world.good().1.blob(), |_, _| Answer::Close)).start();
    let connections = Cell::new(0);
    let reconnect = |_| {
        connections.set(connections.get() + 1);
        Ok(scripted(LONG, hang))
    };
    let patience = Patience { total: SHORT, touch: LONG, overall: None };
    let start = Instant::now();
    let reasons = reasons(ask(&world, &mut agent, patience, Some(&reconnect)));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(reasons[1..], vec![NotAccepted::Agent(AgentError::Timeout); 3]);
    assert_eq!(connections.get(), 1);
}

#[test]
fn new_connections_share_the_time_for_all_but_signatures() {
    let world = World::new();
    let served = (0..MAX_SIGNATURES)
        .fold(SoftAgent::default(), |agent, _| agent.with(world.good().1.blob(), |_, _| Answer::Close))
        .serve();
    let given = RefCell::new(Vec::new());
    let reconnect = |patience| {
        given.borrow_mut().push(patience);
        std::thread::sleep(SHORT);
        Ok(served.connect())
    };
    let patience = Patience { total: SHORT * 5 / 2, ..PATIENT };
    let reasons = reasons(ask(&world, &mut served.connect(), patience, Some(&reconnect)));
    assert_eq!(reasons.last(), Some(&NotAccepted::Agent(AgentError::Timeout)));
    let given = given.into_inner();
    assert!((2..=3).contains(&given.len()) && given[1] <= given[0] - SHORT, "{given:?}");
}

#[test]
fn the_time_for_the_whole_decision_bounds_the_listing_too() {
    let patience = Patience { overall: Some(SHORT), ..PATIENT };
    let start = Instant::now();
    let result = ask(&World::new(), &mut scripted(LONG, hang), patience, None);
    assert!(matches!(result, Err(DecisionError::Agent(AgentError::Timeout))), "{result:?}");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn the_time_for_the_whole_decision_bounds_all_signatures_together() {
    let world = World::new();
    let served = (0..MAX_SIGNATURES)
        .fold(SoftAgent::default(), |agent, _| agent.with(world.good().1.blob(), |_, _| Answer::Silence))
        .serve();
    let patience = Patience { total: LONG, touch: SHORT, overall: Some(SHORT * 5 / 2) };
    let start = Instant::now();
    let reasons = reasons(ask_with(&world, &served, patience));
    assert!(start.elapsed() >= SHORT * 5 / 2 && start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(reasons, vec![NotAccepted::Agent(AgentError::Timeout); MAX_SIGNATURES]);
    assert!(served.asked().iter().filter(|number| **number == 13).count() <= 3, "{:?}", served.asked());
}

#[test]
fn eight_signatures_that_hang_are_all_that_are_asked_for() {
    let world = World::new();
    let served = (0..MAX_SIGNATURES + 2)
        .fold(SoftAgent::default(), |agent, _| agent.with(world.good().1.blob(), |_, _| Answer::Close))
        .serve();
    let reasons = reasons(ask_with(&world, &served, PATIENT));
    assert_eq!(reasons[MAX_SIGNATURES..], vec![NotAccepted::TooManyCandidates; 2]);
    assert_eq!(served.asked().iter().filter(|number| **number == 13).count(), MAX_SIGNATURES);
}

/// ssh-agent waits for somebody to confirm, through a program that ends when it is told to; meanwhile it serves nobody else.
#[test]
fn an_ssh_agent_that_waits_for_a_person_costs_no_more_than_the_deadlines() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (askpass, gate) = (folder.path().join("askpass"), folder.path().join("gate"));
    let made = std::process::Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(made.success());
    // Reads the gate: comes back when somebody opens it for writing, and says no.
    std::fs::write(&askpass, format!("#!/bin/sh\nread answer < {}\nexit 1\n", gate.display())).unwrap();
    std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).unwrap();
    let require = Path::new("force");
    let ssh_agent = RealAgent::start_with(
        folder,
        &[("SSH_ASKPASS", &askpass), ("SSH_ASKPASS_REQUIRE", require), ("DISPLAY", Path::new(":0"))],
    );
    let (good_key, good) = world.pair(older(1000));
    let (key, confirmed) = world.good();
    let mut agent = ssh_agent.connect();
    let confirm = Constraints { lifetime_seconds: None, confirm: true };
    agent.add_certificate(&confirmed, &key, "", &confirm).unwrap();
    agent.add_certificate(&good, &good_key, "", &Constraints::default()).unwrap();

    let patience = Patience { total: 3 * SHORT, touch: SHORT, overall: None };
    let connections = Cell::new(0);
    let reconnect = |_| {
        connections.set(connections.get() + 1);
        Ok(ssh_agent.connect())
    };
    let start = Instant::now();
    let reasons = reasons(ask(&world, &mut agent, patience, Some(&reconnect)));
    assert_eq!(reasons, [NotAccepted::Agent(AgentError::Timeout), NotAccepted::Agent(AgentError::Timeout)]);
    assert!(start.elapsed() >= 2 * SHORT && start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(connections.get(), 1);

    // Each time somebody says no, the next certificate passes.
    let opened = gate.clone();
    std::thread::spawn(move || {
        loop {
            // Fails as long as nobody reads, and when the folder is gone.
            let gate = std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&opened);
            match gate {
                Ok(mut gate) => drop(gate.write_all(b"no\n")),
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return,
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let mut agent = ssh_agent.connect();
    let accepted = ask(&world, &mut agent, PATIENT, None).unwrap();
    assert_eq!(*accepted.certificate.certificate(), good);
}

/// Signs after this time.
fn slowly(key: PrivateKey, after: Duration) -> impl FnMut(&[u8], u32) -> Answer + Send + 'static {
    move |data, _| {
        std::thread::sleep(after);
        Answer::Frame(frame::signature(&key.sign(data).unwrap()))
    }
}

/// Takes its time whenever it is told something.
struct SlowToHear(Duration);

impl Person for SlowToHear {
    fn before_touch(&self) {
        std::thread::sleep(self.0);
    }
    fn waiting(&self) {
        std::thread::sleep(self.0);
    }
}

#[test]
fn a_person_who_hears_slowly_gives_the_agent_no_time() {
    let world = World::new();
    let fido = SoftFido::new();
    let touched = world.certify(template(&fido.public_key()));
    let (key, good) = world.good();
    let agents = [
        SoftAgent::default().with(good.blob(), slowly(key, Duration::from_millis(1500))),
        SoftAgent::default().with(touched.blob(), move |data, _| Answer::Frame(frame::signature(&fido.sign(data, 1)))),
    ];
    let (context, clock) = (context(), FixedClock(NOW));
    for agent in agents {
        let patience = Patience { touch: Duration::from_millis(1300), ..PATIENT };
        let asking = Asking { person: &SlowToHear(Duration::from_secs(2)), ..Asking::new(&context, patience, &clock) };
        let reasons = reasons(decide(&mut agent.start(), &demand(&world.cas), &asking));
        assert_eq!(reasons, [NotAccepted::Agent(AgentError::Timeout)]);
    }
}

/// Gives up when this is so.
struct GivesUpWhen<F>(F);

impl<F: Fn() -> bool> Person for GivesUpWhen<F> {
    fn gave_up(&self) -> bool {
        self.0()
    }
}

#[test]
fn who_gives_up_while_the_agent_is_silent_on_a_second_connection_too_is_heard() {
    let world = World::new();
    let served = SoftAgent::default()
        .with(world.good().1.blob(), |_, _| Answer::Close)
        .with_untouchable(world.pair(older(20)).1.blob())
        .serve();
    let mut agent = served.connect();
    let connected = Cell::new(false);
    let reconnect = |_| {
        connected.set(true);
        Ok(scripted(LONG, hang))
    };
    let (context, clock) = (context(), FixedClock(NOW));
    let person = GivesUpWhen(|| connected.get());
    let asking = Asking { person: &person, reconnect: Some(&reconnect), ..Asking::new(&context, PATIENT, &clock) };
    let start = Instant::now();
    let reasons = reasons(decide(&mut agent, &demand(&world.cas), &asking));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(reasons[1..], [NotAccepted::Agent(AgentError::Interrupted)]);
}

/// What an honest agent does that is told the message.
fn honest(blob: &[u8], key: PrivateKey) -> impl FnMut(&ChallengeMessage, u32) -> Answer + Send + 'static {
    let blob = blob.to_vec();
    move |message, _| {
        assert!(message.is_for(&blob) && !message.is_for(&blob[1..]));
        Answer::Frame(frame::clear_signature(&key.sign(&message.signed_data()).unwrap()))
    }
}

#[test]
fn an_agent_that_says_so_is_told_the_challenge_in_clear_and_proves_the_same() {
    let world = World::new();
    let (key, good) = world.good();
    let served = SoftAgent::default().with_clear(good.blob(), honest(good.blob(), key)).serve();
    let accepted = ask_with(&world, &served, PATIENT).unwrap();
    assert!(accepted.proof.is_for(&accepted.certificate));
    assert_eq!(served.asked(), [11, 27]);
}

#[test]
fn an_agent_that_says_so_and_does_not_know_it_signs_in_the_ordinary_way() {
    let world = World::new();
    let (key, good) = world.good();
    let sign = move |data: &[u8], _| Answer::Frame(frame::signature(&key.sign(data).unwrap()));
    let served = SoftAgent::default().with_claim(good.blob(), sign).serve();
    assert!(ask_with(&world, &served, PATIENT).is_ok());
    assert_eq!(served.asked(), [11, 27, 13]);
}

#[test]
fn both_questions_to_such_an_agent_are_one_signature() {
    let world = World::new();
    let served = (0..MAX_SIGNATURES + 1)
        .fold(SoftAgent::default(), |agent, _| {
            agent.with_claim(world.good().1.blob(), |_, _| Answer::Frame(frame::failure()))
        })
        .serve();
    let reasons = reasons(ask_with(&world, &served, PATIENT));
    assert_eq!(reasons[..MAX_SIGNATURES], vec![NotAccepted::AgentRefused; MAX_SIGNATURES]);
    assert_eq!(reasons[MAX_SIGNATURES..], [NotAccepted::TooManyCandidates]);
    let both = [27, 13].repeat(MAX_SIGNATURES);
    assert_eq!(served.asked(), [&[11][..], &both].concat());
}

#[test]
fn both_questions_to_such_an_agent_have_one_deadline() {
    let world = World::new();
    let (key, good) = world.good();
    let mut agent = SoftAgent::default().with_claim(good.blob(), slowly(key, 2 * SHORT)).start();
    let start = Instant::now();
    let reasons = reasons(ask(&world, &mut agent, SHORT_TOUCH, None));
    assert_eq!(reasons, [NotAccepted::Agent(AgentError::Timeout)]);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn an_agent_that_answers_the_challenge_with_something_else_hides_none() {
    let world = World::new();
    let mut other_name = vec![29];
    crate::wire::WireWrite::put_string(&mut other_name, b"query");
    crate::wire::WireWrite::put_string(&mut other_name, b"signature");
    for answer in [frame::wrap(&other_name), frame::signature(b"signature"), frame::success()] {
        let (key, good) = world.pair(older(1000));
        let served = SoftAgent::default()
            .with_clear(world.good().1.blob(), move |_, _| Answer::Frame(answer.clone()))
            .with_clear(good.blob(), honest(good.blob(), key))
            .serve();
        assert!(ask_with(&world, &served, PATIENT).is_ok());
        assert_eq!(served.asked(), [11, 27, 11, 27]);
    }
}

#[test]
fn flags_and_fido_rules_are_the_same_in_clear() {
    let world = World::new();
    let rsa = RealAgent::start().keygen("rsa", &["-t", "rsa", "-b", "2048"]);
    let certificate = world.certify(template(&rsa.public_key()));
    let mut answer = honest(certificate.blob(), rsa);
    let agent = SoftAgent::default().with_clear(certificate.blob(), move |message, flags| {
        assert_eq!(flags, RSA_SHA2_512);
        answer(message, flags)
    });
    assert_eq!(world.accepted(agent), certificate);

    let key = SoftFido::new();
    let certificate = world.certify(template(&key.public_key()));
    let agent = SoftAgent::default().with_clear(certificate.blob(), move |message, flags| {
        assert_eq!(flags, 0);
        Answer::Frame(frame::clear_signature(&key.sign(&message.signed_data(), 0)))
    });
    assert_eq!(world.reasons(agent), [NotAccepted::BadProof(KeyError::NoUserPresence)]);
}
