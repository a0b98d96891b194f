#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

use std::cell::Cell;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use super::*;
use crate::agent::{Constraints, Request, frame};
use crate::ca_file::TrustedCas;
use crate::certificate::CertificateKind;
use crate::challenge::ChallengeMessage;
use crate::clock::{FixedClock, UnixTime};
use crate::issue::CertificateTemplate;
use crate::keys::{KeyError, PrivateKey};
use crate::test_agents::{
    Answer, NOW, RealAgent, SoftAgent, SoftFido, context, demand, hang, new_key, receive, scripted, template,
};

const PATIENCE: Patience = patience(Duration::from_secs(10), Duration::from_secs(10));

const fn patience(total: Duration, touch: Duration) -> Patience {
    Patience { total, touch, overall: None }
}

/// As the callers ask who have nothing more to say.
fn ask(
    agent: &mut Agent,
    demand: &Demand<'_>,
    patience: Patience,
    clock: &dyn Clock,
) -> Result<Accepted, DecisionError> {
    decide(agent, demand, &Asking::new(&context(), patience, clock))
}

pub(super) struct World {
    ca: PrivateKey,
    pub(super) cas: TrustedCas,
}

impl World {
    pub(super) fn new() -> Self {
        let ca = new_key();
        let cas = TrustedCas::from_keys(vec![ca.public_key()]);
        World { ca, cas }
    }

    /// A key and a good certificate, but for what `change` does.
    pub(super) fn pair(&self, change: impl FnOnce(&mut CertificateTemplate)) -> (PrivateKey, Certificate) {
        let key = new_key();
        let mut template = template(&key.public_key());
        change(&mut template);
        (key, template.sign(&self.ca).unwrap())
    }

    pub(super) fn good(&self) -> (PrivateKey, Certificate) {
        self.pair(|_| {})
    }

    fn decide(&self, agent: &mut Agent) -> Result<Accepted, DecisionError> {
        ask(agent, &demand(&self.cas), PATIENCE, &FixedClock(NOW))
    }

    pub(super) fn certify(&self, template: CertificateTemplate) -> Certificate {
        template.sign(&self.ca).unwrap()
    }

    pub(super) fn accepted(&self, agent: SoftAgent) -> Certificate {
        let accepted = self.decide(&mut agent.start()).unwrap();
        assert!(accepted.proof.is_for(&accepted.certificate));
        accepted.certificate.certificate().clone()
    }

    pub(super) fn reasons(&self, agent: SoftAgent) -> Vec<NotAccepted> {
        reasons(self.decide(&mut agent.start()))
    }
}

pub(super) fn reasons(result: Result<Accepted, DecisionError>) -> Vec<NotAccepted> {
    match result {
        Err(DecisionError::NoneAccepted(tried)) => tried.into_iter().map(|t| t.reason).collect(),
        other => panic!("{other:?}"),
    }
}

/// ssh-add adds both; ssh-agent reads the plain one in half of the time.
#[test]
fn a_key_that_is_listed_plain_too_signs_by_its_plain_name() {
    let world = World::new();
    let (key, certificate) = world.pair(|_| ());
    let key = Arc::new(key);
    let told: Arc<Mutex<Vec<&str>>> = Arc::default();
    // A word that is noted when it is asked, and whether it signs with the key, with another, or not at all.
    let signer = |word: &'static str, how: Signs| {
        let (told, key) = (Arc::clone(&told), Arc::clone(&key));
        move |data: &[u8], _| {
            told.lock().unwrap().push(word);
            Answer::Frame(match how {
                Signs::Well => frame::signature(&key.sign(data).unwrap()),
                Signs::WithAnother => frame::signature(&new_key().sign(data).unwrap()),
                Signs::Not => frame::failure(),
            })
        }
    };
    let plain = key.public_key();
    for (named, how, expected, good) in [
        (&plain, Signs::Well, &["plain"][..], true),
        // Refused: perhaps it is constrained, and the certificate is not.
        (&plain, Signs::Not, &["plain", "certificate"], true),
        // It signs, and what it signs proves nothing.
        (&plain, Signs::WithAnother, &["plain"], false),
        (&new_key().public_key(), Signs::Well, &["certificate"], true),
    ] {
        told.lock().unwrap().clear();
        let agent = SoftAgent::default().with(named.blob(), signer("plain", how));
        let mut agent = agent.with(certificate.blob(), signer("certificate", Signs::Well)).start();
        let answer = ask(&mut agent, &demand(&world.cas), PATIENCE, &FixedClock(NOW));
        assert_eq!(*told.lock().unwrap(), expected);
        match answer {
            Ok(accepted) => assert!(good && *accepted.certificate.certificate() == certificate),
            Err(DecisionError::NoneAccepted(tried)) => {
                assert!(!good && matches!(tried[..], [Tried { reason: NotAccepted::BadProof(_), .. }]), "{tried:?}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[derive(Clone, Copy)]
enum Signs {
    Well,
    WithAnother,
    Not,
}

#[test]
fn accepts_a_good_certificate_whose_key_the_agent_holds() {
    let world = World::new();
    let (key, certificate) = world.good();
    assert_eq!(world.accepted(SoftAgent::default().with_key(certificate.blob(), key)), certificate);
}

#[test]
fn among_wanted_certificates_no_other_is_asked_told_or_accepted() {
    let world = World::new();
    let (key, wanted) = world.good();
    let (other_key, other) = world.pair(|t| t.serial = 1234);
    let (_, refused) = world.pair(|t| t.valid_before = NOW);
    let decide = |is_wanted: &dyn Fn(&Certificate) -> bool, agent: SoftAgent| {
        let (context, clock) = (context(), FixedClock(NOW));
        let asking = Asking { wanted: is_wanted, ..Asking::new(&context, PATIENCE, &clock) };
        super::decide(&mut agent.start(), &demand(&world.cas), &asking)
    };
    let agent = SoftAgent::default().with_untouchable(other.blob()).with_key(wanted.blob(), key);
    let accepted = decide(&|c| *c == wanted, agent).unwrap();
    assert_eq!(*accepted.certificate.certificate(), wanted);
    let agent = SoftAgent::default().with_key(other.blob(), other_key).with_untouchable(refused.blob());
    assert_eq!(reasons(decide(&|c| *c == wanted, agent)), []);
}

#[test]
fn an_empty_agent_and_one_with_plain_keys_hold_no_certificate() {
    let world = World::new();
    assert_eq!(world.reasons(SoftAgent::default()), []);
    let plain = new_key().public_key().to_blob();
    assert_eq!(world.reasons(SoftAgent::default().with_untouchable(&plain).with_untouchable(b"")), []);
}

#[test]
fn refuses_another_keys_signature() {
    let world = World::new();
    let (_, certificate) = world.good();
    let agent = SoftAgent::default().with_key(certificate.blob(), new_key());
    assert_eq!(world.reasons(agent), [NotAccepted::BadProof(KeyError::BadSignature)]);
}

#[test]
fn refuses_a_signature_made_for_an_earlier_challenge() {
    let world = World::new();
    let (key, certificate) = world.good();
    let mut first = None;
    let mut agent = SoftAgent::default()
        .with(certificate.blob(), move |data, _| {
            let signature = first.get_or_insert_with(|| key.sign(data).unwrap());
            Answer::Frame(frame::signature(signature))
        })
        .start();
    assert!(world.decide(&mut agent).is_ok());
    assert_eq!(reasons(world.decide(&mut agent)), [NotAccepted::BadProof(KeyError::BadSignature)]);
}

#[test]
fn refuses_a_malformed_signature_and_an_answer_of_another_type() {
    let world = World::new();
    for (answer, reason) in [
        (frame::signature(b""), NotAccepted::BadProof(KeyError::BadSignature)),
        (frame::signature(&[0xff; 83]), NotAccepted::BadProof(KeyError::BadSignature)),
        (frame::success(), NotAccepted::Agent(AgentError::Malformed)),
        (frame::identities(&[]), NotAccepted::Agent(AgentError::Malformed)),
        (frame::failure(), NotAccepted::AgentRefused),
    ] {
        let (_, certificate) = world.good();
        let agent = SoftAgent::default().with(certificate.blob(), move |_, _| Answer::Frame(answer.clone()));
        assert_eq!(world.reasons(agent), [reason]);
    }
}

#[test]
fn no_signature_is_asked_for_a_certificate_that_is_refused() {
    let world = World::new();
    let (_, expired) = world.pair(|t| t.valid_before = NOW);
    let (_, bob) = world.pair(|t| t.principals = vec!["bob".into()]);
    let (_, host) = world.pair(|t| t.kind = CertificateKind::Host);
    let foreign = World::new().good().1;
    let agent = SoftAgent::default()
        .with_untouchable(expired.blob())
        .with_untouchable(bob.blob())
        .with_untouchable(host.blob())
        .with_untouchable(foreign.blob());
    assert_eq!(
        world.reasons(agent),
        [
            NotAccepted::Refused(Refusal::Expired { valid_before: NOW, now: NOW }),
            NotAccepted::Refused(Refusal::PrincipalNotListed("alice, the user's own".into())),
            NotAccepted::Refused(Refusal::WrongKind),
            NotAccepted::Refused(Refusal::UntrustedCa { fingerprint: foreign.ca().fingerprint() }),
        ]
    );
}

#[test]
fn a_good_identity_behind_bad_ones_is_found() {
    let world = World::new();
    let (key, good) = world.pair(|t| t.valid_after = UnixTime(1_699_999_000));
    let (_, refused) = world.good();
    let (_, wrong) = world.good();
    let (_, odd) = world.good();
    let (_, expired) = world.pair(|t| t.valid_before = NOW);
    let mut unknown = Vec::new();
    crate::wire::WireWrite::put_string(&mut unknown, b"ssh-future-cert-v09@openssh.com");
    let agent = SoftAgent::default()
        .with_untouchable(b"\xff\xff\xff\xff no blob at all")
        .with_untouchable(&good.blob()[..good.blob().len() / 2])
        .with_untouchable(&unknown)
        .with_untouchable(&new_key().public_key().to_blob())
        .with_untouchable(expired.blob())
        .with_refusal(refused.blob())
        .with_key(wrong.blob(), new_key())
        .with(odd.blob(), |_, _| Answer::Frame(frame::success()))
        .with_key(good.blob(), key);
    assert_eq!(world.accepted(agent), good);
}

#[test]
fn a_good_identity_is_found_at_the_end_of_2048() {
    let world = World::new();
    let (key, good) = world.good();
    let mut agent = SoftAgent::default();
    for n in 0..2047_u32 {
        let mut blob = Vec::new();
        crate::wire::WireWrite::put_string(&mut blob, b"ssh-ed25519-cert-v01@openssh.com");
        blob.extend_from_slice(&n.to_be_bytes());
        agent = agent.with_untouchable(&blob);
    }
    assert_eq!(world.accepted(agent.with_key(good.blob(), key)), good);
}

#[test]
fn a_certificate_that_cannot_be_read_is_told() {
    let world = World::new();
    let (_, certificate) = world.good();
    let agent = SoftAgent::default().with_untouchable(&certificate.blob()[..100]);
    let Err(DecisionError::NoneAccepted(tried)) = world.decide(&mut agent.start()) else { panic!() };
    assert!(matches!(&tried[..], [Tried { certificate: None, reason: NotAccepted::Refused(Refusal::Malformed(_)) }]));
}

#[test]
fn the_newest_is_asked_first_and_fido_keys_last() {
    let world = World::new();
    let (asked, order) = mpsc::channel();
    let note = |name: &'static str| {
        let asked = asked.clone();
        move |_: &[u8], _: u32| {
            asked.send(name).unwrap();
            Answer::Frame(frame::failure())
        }
    };
    let at = |seconds: u64| world.pair(|t| t.valid_after = UnixTime(1_700_000_000 + seconds)).1;
    let mut fido = template(&SoftFido::new().public_key());
    fido.valid_after = UnixTime(1_700_000_400);
    let fido = fido.sign(&world.ca).unwrap();
    let agent = SoftAgent::default()
        .with(fido.blob(), note("fido"))
        .with(at(100).blob(), note("old"))
        .with(at(300).blob(), note("new"))
        .with(at(200).blob(), note("middle"));
    assert_eq!(world.reasons(agent).len(), 4);
    drop(asked);
    assert_eq!(order.try_iter().collect::<Vec<_>>(), ["new", "middle", "old", "fido"]);
}

#[test]
fn a_touched_fido_key_is_accepted_and_an_untouched_one_is_not() {
    let world = World::new();
    for (flags, touched) in [(1, true), (0, false)] {
        let key = SoftFido::new();
        let certificate = template(&key.public_key()).sign(&world.ca).unwrap();
        let agent = SoftAgent::default()
            .with(certificate.blob(), move |data, _| Answer::Frame(frame::signature(&key.sign(data, flags))));
        if touched {
            assert_eq!(world.accepted(agent), certificate);
        } else {
            assert_eq!(world.reasons(agent), [NotAccepted::BadProof(KeyError::NoUserPresence)]);
        }
    }
}

#[test]
fn at_most_eight_signatures_are_asked_for() {
    let world = World::new();
    let mut agent = SoftAgent::default();
    for _ in 0..MAX_SIGNATURES {
        agent = agent.with_refusal(world.good().1.blob());
    }
    let (key, older) = world.pair(|t| t.valid_after = UnixTime(1_699_999_000));
    let reasons = world.reasons(agent.with_key(older.blob(), key));
    assert_eq!(reasons[..8], vec![NotAccepted::AgentRefused; 8]);
    assert_eq!(reasons[8..], [NotAccepted::TooManyCandidates]);
}

#[test]
fn the_eighth_candidate_is_still_asked() {
    let world = World::new();
    let mut agent = SoftAgent::default();
    for _ in 1..MAX_SIGNATURES {
        agent = agent.with_refusal(world.good().1.blob());
    }
    let (key, older) = world.pair(|t| t.valid_after = UnixTime(1_699_999_000));
    assert_eq!(world.accepted(agent.with_key(older.blob(), key)), older);
}

#[test]
fn one_certificate_listed_many_times_is_one_candidate() {
    let world = World::new();
    let (_, certificate) = world.good();
    let mut agent = SoftAgent::default();
    for _ in 0..20 {
        agent = agent.with_refusal(certificate.blob());
    }
    assert_eq!(world.reasons(agent), [NotAccepted::AgentRefused]);
}

/// A clock that moves on after each look.
struct Moving(Cell<u64>);

impl Clock for Moving {
    fn now(&self) -> UnixTime {
        let now = self.0.get();
        self.0.set(now + 1000);
        UnixTime(now)
    }
}

#[test]
fn a_certificate_that_runs_out_while_the_key_is_touched_is_refused() {
    let world = World::new();
    let (key, certificate) = world.good();
    let end = certificate.valid_before();
    let decide_at = |now: UnixTime, key: PrivateKey| {
        let mut agent = SoftAgent::default().with_key(certificate.blob(), key).start();
        ask(&mut agent, &demand(&world.cas), PATIENCE, &Moving(Cell::new(now.0)))
    };
    let pem = key.to_openssh("").unwrap();
    assert!(decide_at(UnixTime(end.0 - 1), key).is_ok());
    assert_eq!(
        reasons(decide_at(end, PrivateKey::from_openssh(&pem).unwrap())),
        [NotAccepted::Refused(Refusal::Expired { valid_before: end, now: end })]
    );
}

#[test]
fn a_mute_agent_costs_the_total_patience_and_no_more() {
    let world = World::new();
    let patience = patience(Duration::from_millis(150), Duration::from_secs(60));
    let mut agent = scripted(Duration::from_secs(60), hang);
    let start = Instant::now();
    let result = ask(&mut agent, &demand(&world.cas), patience, &FixedClock(NOW));
    assert!(matches!(result, Err(DecisionError::Agent(AgentError::Timeout))));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_agent_that_never_signs_costs_the_touch_patience_once() {
    let world = World::new();
    let patience = patience(Duration::from_secs(60), Duration::from_millis(150));
    let agent = (0..4).fold(SoftAgent::default(), |agent, _| agent.with(world.good().1.blob(), |_, _| Answer::Silence));
    let start = Instant::now();
    let result = ask(&mut agent.start(), &demand(&world.cas), patience, &FixedClock(NOW));
    let reasons = reasons(result);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(reasons[0], NotAccepted::Agent(AgentError::Timeout));
    assert!(reasons[1..].iter().all(|r| matches!(r, NotAccepted::Agent(AgentError::Io(_)))));
    assert_eq!(reasons.len(), 4, "what was not asked any more is told too");
}

#[test]
fn a_person_has_longer_than_the_total_patience() {
    let world = World::new();
    let (key, certificate) = world.good();
    let patience = patience(Duration::from_secs(2), Duration::from_secs(20));
    let agent = SoftAgent::default().with(certificate.blob(), move |data, _| {
        std::thread::sleep(Duration::from_millis(2200));
        Answer::Frame(frame::signature(&key.sign(data).unwrap()))
    });
    assert!(ask(&mut agent.start(), &demand(&world.cas), patience, &FixedClock(NOW)).is_ok());
}

#[test]
fn an_agent_that_breaks_off_ends_it() {
    let world = World::new();
    let (key, good) = world.pair(|t| t.valid_after = UnixTime(1_699_999_000));
    let agent = SoftAgent::default().with_untouchable(world.good().1.blob()).with_key(good.blob(), key);
    let reasons = world.reasons(agent);
    assert!(matches!(&reasons[..], [NotAccepted::Agent(AgentError::Io(_)), NotAccepted::Agent(AgentError::Io(_))]));
}

#[test]
fn an_agent_that_does_not_list_could_not_be_asked() {
    let world = World::new();
    for (answer, error) in [(frame::failure(), AgentError::Refused), (frame::success(), AgentError::Malformed)] {
        let mut agent = scripted(Duration::from_secs(10), move |mut stream| {
            receive(&mut stream);
            std::io::Write::write_all(&mut stream, &answer).unwrap();
        });
        assert!(matches!(world.decide(&mut agent), Err(DecisionError::Agent(e)) if e == error));
    }
}

#[test]
fn rsa_keys_are_asked_for_sha2_and_others_for_nothing_special() {
    let world = World::new();
    let folder = RealAgent::start();
    let rsa = folder.keygen("rsa", &["-t", "rsa", "-b", "2048"]);
    for (key, expected) in [(rsa, RSA_SHA2_512), (new_key(), 0)] {
        let certificate = template(&key.public_key()).sign(&world.ca).unwrap();
        let agent = SoftAgent::default().with(certificate.blob(), move |data, flags| {
            assert_eq!(flags, expected);
            Answer::Frame(frame::signature(&key.sign(data).unwrap()))
        });
        assert_eq!(world.accepted(agent), certificate);
    }
}

#[test]
fn ssh_agent_proves_what_it_holds_and_nothing_after_removal() {
    let world = World::new();
    let ssh_agent = RealAgent::start();
    let mut agent = ssh_agent.connect();
    let (old_key, old) = world.pair(|t| t.valid_after = UnixTime(1_699_999_000));
    let (key, certificate) = world.good();
    agent.add_certificate(&old, &old_key, "old", &Constraints::default()).unwrap();
    agent.add_certificate(&certificate, &key, "new", &Constraints::default()).unwrap();
    assert_eq!(world.decide(&mut agent).unwrap().certificate.certificate(), &certificate);
    agent.remove(certificate.blob()).unwrap();
    assert_eq!(world.decide(&mut agent).unwrap().certificate.certificate(), &old);
    agent.remove(old.blob()).unwrap();
    assert_eq!(reasons(world.decide(&mut agent)), []);
}

#[test]
fn ssh_agent_proves_every_type_of_key_that_it_holds() {
    let world = World::new();
    let ssh_agent = RealAgent::start();
    for (name, kind) in [
        ("ed25519", &["-t", "ed25519"][..]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa2048", &["-t", "rsa", "-b", "2048"]),
        ("rsa3072", &["-t", "rsa", "-b", "3072"]),
    ] {
        let key = ssh_agent.keygen(name, kind);
        let certificate = world.certify(template(&key.public_key()));
        std::fs::write(ssh_agent.folder().join(format!("{name}-cert.pub")), certificate.to_openssh("")).unwrap();
        ssh_agent.run("ssh-add", &["-q", name], b"");
        let accepted = world.decide(&mut ssh_agent.connect()).expect(name);
        assert_eq!(*accepted.certificate.certificate(), certificate, "{name}");
        ssh_agent.run("ssh-add", &["-q", "-D"], b"");
    }
}

#[test]
fn a_fido_key_shows_a_touch_and_where_the_certificate_demands_it_its_user() {
    let world = World::new();
    let folder = RealAgent::start();
    let presence = NotAccepted::BadProof(KeyError::NoUserPresence);
    let verification = NotAccepted::BadProof(KeyError::NoUserVerification);
    for (inner, pem) in [
        ("ed25519", new_key().to_openssh("").unwrap()),
        ("p256", folder.keygen("p256", &["-t", "ecdsa", "-b", "256"]).to_openssh("").unwrap()),
    ] {
        for (verify_required, flags, refusal) in [
            (false, 1, None),
            (false, 5, None),
            (false, 0, Some(&presence)),
            (false, 4, Some(&presence)),
            (true, 5, None),
            (true, 1, Some(&verification)),
            (true, 4, Some(&presence)),
        ] {
            let key = crate::testing::SoftFido::new(PrivateKey::from_openssh(&pem).unwrap());
            let mut template = template(&key.public);
            if verify_required {
                template.critical_options.push(crate::certificate::CertificateOption::flag("verify-required"));
            }
            let certificate = world.certify(template);
            let agent = SoftAgent::default()
                .with(certificate.blob(), move |data, _| Answer::Frame(frame::signature(&key.sign(data, flags))));
            match refusal {
                None => assert_eq!(world.accepted(agent), certificate, "{inner} {flags}"),
                Some(refusal) => assert_eq!(world.reasons(agent), std::slice::from_ref(refusal), "{inner} {flags}"),
            }
        }
    }
}

#[test]
fn one_listing_and_one_signature_are_two_questions() {
    let world = World::new();
    let (key, good) = world.good();
    let (_, expired) = world.pair(|t| t.valid_before = NOW);
    let served = SoftAgent::default().with_untouchable(expired.blob()).with_key(good.blob(), key).serve();
    assert!(world.decide(&mut served.connect()).is_ok());
    assert_eq!(served.asked(), [11, 13]);
}

/// Connections to agents, one after the other.
fn connections(agents: Vec<SoftAgent>) -> impl Fn(Duration) -> Result<Agent, AgentError> {
    let agents = std::cell::RefCell::new(agents.into_iter());
    move |_| agents.borrow_mut().next().map(SoftAgent::start).ok_or_else(|| AgentError::Io("no more".into()))
}

#[test]
fn a_key_that_hangs_or_breaks_off_costs_only_itself() {
    let world = World::new();
    let (key, good) = world.pair(|t| t.valid_after = UnixTime(1_699_999_000));
    let (hanging, closing) = (world.good().1, world.good().1);
    let pem = key.to_openssh("").unwrap();
    let agent = || {
        SoftAgent::default()
            .with(hanging.blob(), |_, _| Answer::Silence)
            .with_untouchable(closing.blob())
            .with_key(good.blob(), PrivateKey::from_openssh(&pem).unwrap())
    };
    let reconnect = connections(vec![agent(), agent()]);
    let (context, clock) = (context(), FixedClock(NOW));
    let patience = patience(Duration::from_secs(20), Duration::from_millis(200));
    let asking = Asking { reconnect: Some(&reconnect), ..Asking::new(&context, patience, &clock) };
    let start = Instant::now();
    let accepted = decide(&mut agent().start(), &demand(&world.cas), &asking).unwrap();
    assert_eq!(*accepted.certificate.certificate(), good);
    assert!((Duration::from_millis(200)..Duration::from_secs(10)).contains(&start.elapsed()));
}

#[test]
fn all_signatures_together_have_an_end_too() {
    let world = World::new();
    let certificates: Vec<_> = (0..4).map(|_| world.good().1).collect();
    let agent =
        || certificates.iter().fold(SoftAgent::default(), |agent, one| agent.with(one.blob(), |_, _| Answer::Silence));
    let reconnect = connections((0..4).map(|_| agent()).collect());
    let (context, clock) = (context(), FixedClock(NOW));
    let patience = Patience {
        overall: Some(Duration::from_millis(300)),
        ..patience(Duration::from_secs(20), Duration::from_millis(200))
    };
    let asking = Asking { reconnect: Some(&reconnect), ..Asking::new(&context, patience, &clock) };
    let start = Instant::now();
    let reasons = reasons(decide(&mut agent().start(), &demand(&world.cas), &asking));
    assert_eq!(reasons, vec![NotAccepted::Agent(AgentError::Timeout); 4]);
    assert!(start.elapsed() < Duration::from_millis(2000), "{:?}", start.elapsed());
}

#[test]
fn a_signature_of_the_ca_that_does_not_verify_costs_no_signature_of_the_agent() {
    let world = World::new();
    let (key, good) = world.pair(|t| t.valid_after = UnixTime(1_699_999_000));
    let mut agent = SoftAgent::default();
    for _ in 0..=MAX_SIGNATURES {
        let mut blob = world.good().1.blob().to_vec();
        *blob.last_mut().unwrap() ^= 1;
        agent = agent.with_untouchable(&blob);
    }
    assert_eq!(world.accepted(agent.with_key(good.blob(), key)), good);
}

#[path = "decision_person_tests.rs"]
mod person;

/// As if `world`'s CA had signed it: the last byte of the signature is another.
fn forged(world: &World, change: impl FnOnce(&mut CertificateTemplate)) -> (PrivateKey, Certificate) {
    let (key, certificate) = world.pair(change);
    let mut blob = certificate.blob().to_vec();
    *blob.last_mut().unwrap() ^= 1;
    (key, Certificate::parse(&blob).unwrap())
}

const BAD_CA_SIGNATURE: NotAccepted = NotAccepted::Refused(Refusal::BadCaSignature(KeyError::BadSignature));

#[test]
fn the_last_candidate_s_ca_is_judged_while_the_agent_signs_and_counts_all_the_same() {
    let world = World::new();
    let (key, certificate) = forged(&world, |_| {});
    let agent = SoftAgent::default().with_key(certificate.blob(), key);
    assert_eq!(world.reasons(agent), [BAD_CA_SIGNATURE]);
    // What the CA did not sign is refused for that, whatever the agent says.
    let (_, certificate) = forged(&world, |_| {});
    assert_eq!(world.reasons(SoftAgent::default().with_refusal(certificate.blob())), [BAD_CA_SIGNATURE]);
    assert_eq!(world.reasons(SoftAgent::default().with_untouchable(certificate.blob())), [BAD_CA_SIGNATURE]);
}

#[test]
fn no_signature_is_asked_for_a_forged_certificate_that_could_hide_another_or_wants_a_touch() {
    let world = World::new();
    let mut agent = SoftAgent::default();
    for _ in 0..=MAX_SIGNATURES {
        agent = agent.with_untouchable(forged(&world, |t| t.valid_after = NOW).1.blob());
    }
    let (key, good) = world.good();
    let mut agent = agent.with_key(good.blob(), key).start();
    let demand = demand(&world.cas);
    let accepted = ask(&mut agent, &demand, PATIENCE, &FixedClock(NOW)).unwrap();
    assert_eq!(accepted.certificate.certificate(), &good);

    let fido = SoftFido::new();
    let (_, certificate) = forged(&world, |t| t.public_key = fido.public_key());
    let served = SoftAgent::default().with_untouchable(certificate.blob()).serve();
    let asked = ask(&mut served.connect(), &demand, PATIENCE, &FixedClock(NOW));
    assert!(matches!(asked, Err(DecisionError::NoneAccepted(_))), "{asked:?}");
    assert_eq!(served.asked(), [11], "listed, and no more");
}
