//! The person at the key, and agents that are told the challenge in clear.

use super::*;

#[derive(Default)]
struct Watcher {
    touches: Cell<u32>,
    hints: Cell<u32>,
}

impl Person for Watcher {
    fn before_touch(&self) {
        self.touches.set(self.touches.get() + 1);
    }
    fn waiting(&self) {
        self.hints.set(self.hints.get() + 1);
    }
}

#[test]
fn a_person_is_told_before_a_touch_and_once_when_it_takes_longer() {
    let world = World::new();
    let fido = || {
        let key = SoftFido::new();
        (template(&key.public_key()).sign(&world.ca).unwrap(), key)
    };
    let ((first, _), (second, key)) = (fido(), fido());
    type Answering = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;
    let slowly = |answer: Answering| {
        move |data: &[u8], _: u32| {
            std::thread::sleep(HINT_AFTER + Duration::from_millis(100));
            Answer::Frame(answer(data))
        }
    };
    let agent = SoftAgent::default()
        .with(first.blob(), slowly(Box::new(|_| frame::failure())))
        .with(second.blob(), slowly(Box::new(move |data| frame::signature(&key.sign(data, 1)))));
    let (context, clock, watcher) = (context(), FixedClock(NOW), Watcher::default());
    let asking = Asking { person: &watcher, ..Asking::new(&context, PATIENCE, &clock) };
    assert!(decide(&mut agent.start(), &demand(&world.cas), &asking).is_ok());
    assert_eq!((watcher.touches.get(), watcher.hints.get()), (2, 1));

    let (key, certificate) = world.good();
    let agent = SoftAgent::default().with_key(certificate.blob(), key);
    let watcher = Watcher::default();
    let asking = Asking { person: &watcher, ..asking };
    assert!(decide(&mut agent.start(), &demand(&world.cas), &asking).is_ok());
    assert_eq!((watcher.touches.get(), watcher.hints.get()), (0, 0), "a key that answers at once");
}

/// An agent with one identity that claims the extension in its comment, and answers it by `answer`; asked for an SSHSIG, it signs it.
fn clear(
    certificate: &Certificate,
    pem: &str,
    answer: impl Fn(ChallengeMessage, &PrivateKey) -> Vec<u8> + Send + 'static,
) -> Agent {
    let (blob, key) = (certificate.blob().to_vec(), PrivateKey::from_openssh(pem).unwrap());
    scripted(Duration::from_secs(10), move |mut stream| {
        while let Some(payload) = receive(&mut stream) {
            let frame = match Request::parse(&payload) {
                Request::List => frame::identities(&[Identity {
                    blob: blob.clone(),
                    comment: b"key of alice challenge@ussh".to_vec(),
                }]),
                Request::Challenge { blob: asked, message, .. } => {
                    assert_eq!(asked, blob);
                    answer(message, &key)
                }
                Request::Sign { data, .. } => frame::signature(&key.sign(&data).unwrap()),
                other => panic!("{other:?}"),
            };
            std::io::Write::write_all(&mut stream, &frame).unwrap();
        }
    })
}

#[test]
fn an_agent_that_is_told_the_challenge_in_clear_proves_the_same() {
    let world = World::new();
    let (key, certificate) = world.good();
    let digest = certificate.digest();
    let mut agent = clear(&certificate, &key.to_openssh("").unwrap(), move |message, key| {
        assert_eq!(message.context, context());
        assert_eq!(message.certificate_digest, digest);
        assert_eq!(message.to_string(), "web1: sudo as alice on /dev/pts/3");
        frame::clear_signature(&key.sign(&message.signed_data()).unwrap())
    });
    let accepted = world.decide(&mut agent).unwrap();
    assert!(accepted.proof.is_for(&accepted.certificate));
}

#[test]
fn an_agent_that_declines_signs_another_text_or_by_another_key_proves_nothing() {
    let world = World::new();
    let (key, certificate) = world.good();
    let pem = key.to_openssh("").unwrap();
    let bad = || vec![NotAccepted::BadProof(KeyError::BadSignature)];
    type Answering = Box<dyn Fn(ChallengeMessage, &PrivateKey) -> Vec<u8> + Send>;
    let cases: Vec<(Answering, Vec<NotAccepted>)> = vec![
        (Box::new(|_, _| frame::extension_failure()), vec![NotAccepted::AgentRefused]),
        (Box::new(|m, k| frame::clear_signature(&k.sign(&[&m.signed_data()[..], b"x"].concat()).unwrap())), bad()),
        (Box::new(|m, _| frame::clear_signature(&new_key().sign(&m.signed_data()).unwrap())), bad()),
        (Box::new(|_, _| frame::clear_signature(b"")), bad()),
        (
            Box::new(|m, k| frame::signature(&k.sign(&m.signed_data()).unwrap())),
            vec![NotAccepted::Agent(AgentError::Malformed)],
        ),
        (Box::new(|_, _| frame::success()), vec![NotAccepted::Agent(AgentError::Malformed)]),
    ];
    for (answer, expected) in cases {
        assert_eq!(reasons(world.decide(&mut clear(&certificate, &pem, answer))), expected);
    }
}

#[test]
fn a_stock_agent_under_the_extensions_name_is_asked_for_an_sshsig() {
    let world = World::new();
    let (key, certificate) = world.good();
    let mut agent = clear(&certificate, &key.to_openssh("").unwrap(), |_, _| frame::failure());
    assert!(world.decide(&mut agent).is_ok());

    let ssh_agent = RealAgent::start();
    ssh_agent.connect().add_certificate(&certificate, &key, "mine challenge@ussh", &Constraints::default()).unwrap();
    assert!(world.decide(&mut ssh_agent.connect()).is_ok(), "ssh-agent answers an extension that it does not know");
}

#[test]
fn a_message_is_read_to_its_last_byte_or_not_at_all() {
    let world = World::new();
    let verified = verify(&world.good().1, &demand(&world.cas)).unwrap();
    let challenge = Challenge::new(verified.certificate(), &context()).unwrap();
    let message = challenge.message();
    assert_eq!(ChallengeMessage::parse(message).unwrap().signed_data(), challenge.signed_data());
    for end in 0..message.len() {
        assert_eq!(ChallengeMessage::parse(&message[..end]), None);
    }
    assert_eq!(ChallengeMessage::parse(&[message, &[0]].concat()), None);
    let other_version = [&[2], &message[1..]].concat();
    assert_eq!(ChallengeMessage::parse(&other_version), None);
    let long = ChallengeContext { user: "u".repeat(crate::challenge::MAX_NAME + 1), ..context() };
    assert_eq!(ChallengeMessage::parse(Challenge::new(verified.certificate(), &long).unwrap().message()), None);
    let odd = ChallengeContext { user: "eve\x1b[2J\nroot".into(), ruser: "mallory".into(), ..context() };
    let shown =
        ChallengeMessage::parse(Challenge::new(verified.certificate(), &odd).unwrap().message()).unwrap().to_string();
    assert_eq!(shown, "web1: sudo as eve\\x1b[2J\\x0aroot, asked by mallory on /dev/pts/3");
}

/// Gives up at the given look.
struct GivesUp {
    looks: Cell<usize>,
    hints: Cell<usize>,
}

impl GivesUp {
    fn at(look: usize) -> Self {
        GivesUp { looks: Cell::new(look), hints: Cell::new(0) }
    }
}

impl Person for GivesUp {
    fn waiting(&self) {
        self.hints.set(self.hints.get() + 1);
    }

    fn gave_up(&self) -> bool {
        self.looks.set(self.looks.get() - 1);
        self.looks.get() == 0
    }
}

#[test]
fn a_person_who_gives_up_ends_it_without_any_signal_and_no_other_key_is_asked() {
    let world = World::new();
    let (_, mute) = world.pair(|t| t.valid_after = UnixTime(1_699_999_999));
    let (_, older) = world.pair(|t| t.valid_after = UnixTime(1_699_999_000));
    let agent = SoftAgent::default()
        .with(mute.blob(), |_, _| Answer::Silence)
        .with(older.blob(), |_, _| panic!("the person has given up"));
    let (context, clock, person) = (context(), FixedClock(NOW), GivesUp::at(3));
    let asking = Asking { person: &person, ..Asking::new(&context, PATIENCE, &clock) };
    let start = Instant::now();
    let reasons = reasons(decide(&mut agent.start(), &demand(&world.cas), &asking));
    assert_eq!(reasons, [NotAccepted::Agent(AgentError::Interrupted)]);
    assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < Duration::from_secs(8));
    assert_eq!((person.looks.get(), person.hints.get()), (0, 0), "before any hint");
}

#[test]
fn a_person_may_give_up_while_the_agent_lists() {
    let (world, context, clock, person) = (World::new(), context(), FixedClock(NOW), GivesUp::at(2));
    let asking = Asking { person: &person, ..Asking::new(&context, PATIENCE, &clock) };
    let result = decide(&mut scripted(Duration::from_secs(60), hang), &demand(&world.cas), &asking);
    assert!(matches!(result, Err(DecisionError::Agent(AgentError::Interrupted))), "{result:?}");
}
