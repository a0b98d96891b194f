#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
//! A login against a scripted supervisor and worker.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use usshca_ipc::channel::Channel as Blocking;

use super::*;

/// The other ends.
struct Scene {
    login: Login,
    supervisor: Blocking<FromSupervisor, ToSupervisor>,
    client: Option<TcpStream>,
}

type WorkerEnd = Blocking<FromWorker, ToWorker>;

fn scene() -> Scene {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let (ours, theirs) = SeqPacket::pair().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let login = Login::new(Channel::new(ours).unwrap(), Hangup::watch(&server).unwrap(), 3, deadline);
    Scene { login, supervisor: Blocking::new(theirs), client: Some(client) }
}

impl Scene {
    /// Lies ready before it is asked for.
    fn offer_worker(&self, attempt: u32) -> WorkerEnd {
        let (front, worker) = SeqPacket::pair().unwrap();
        self.supervisor.send_with(&FromSupervisor::Worker { attempt }, &[front.as_fd()]).unwrap();
        Blocking::new(worker)
    }
}

fn typed(answers: &[&[u8]]) -> Vec<Answer> {
    answers.iter().map(|a| Zeroizing::new(a.to_vec())).collect()
}

fn password() -> FromWorker {
    FromWorker::Converse(vec![Message::Info("Welcome".into()), Message::PromptEchoOff("Password: ".into())])
}

fn ask(text: &str, prompts: &[(&str, bool)]) -> Step {
    Step::Ask { text: text.into(), prompts: prompts.iter().map(|(p, e)| ((*p).to_owned(), *e)).collect() }
}

const PASSED: FromWorker = FromWorker::Passed { user: String::new() };
const FAILED: FromWorker = FromWorker::Failed { unavailable: false };

/// The supervisor escapes them, once.
#[test]
fn another_name_is_handed_to_the_log_as_typed_and_on_one_line() {
    assert_eq!(of_one_line("a\u{1b}[2J\\ é\nforged"), "a\u{1b}[2J\\ é\u{1a}forged");
    assert_eq!(of_one_line(&"x".repeat(5000)).len(), MAX_FIELD);
}

/// No worker is asked about it, and so nobody else tells the signer.
#[tokio::test]
async fn an_impossible_name_is_kept_for_the_inventory_once_and_as_far_as_it_is_shown() {
    let long = "é".repeat(200);
    for (typed, kept) in [("evil\n\u{1b}[2J", "evil\n\u{1b}[2J"), ("", ""), (&long, &"é".repeat(128))] {
        let mut s = scene();
        assert_eq!(s.login.begin(typed).await.unwrap(), Step::Reject { again: false });
        assert!(!s.login.takes(typed));
        assert_eq!((s.login.take_impossible().as_deref(), s.login.take_impossible()), (Some(kept), None));
    }
    let mut s = scene();
    assert!(s.login.takes("alice") && s.login.take_impossible().is_none());
}

#[tokio::test]
async fn prompts_are_asked_and_answers_reach_the_worker() {
    let mut s = scene();
    let worker = s.offer_worker(1);
    worker.send(&password()).unwrap();
    assert_eq!(s.login.begin("alice").await.unwrap(), ask("", &[("Welcome\nPassword: ", false)]));
    assert_eq!(s.supervisor.receive(None).unwrap().message, ToSupervisor::StartWorker { user: "alice".into() });
    worker.send(&FromWorker::Passed { user: "alice".into() }).unwrap();
    assert!(s.login.passed().is_none());
    assert_eq!(s.login.answer(typed(&[b"secret"])).await.unwrap(), Step::Accept);
    assert_eq!(worker.receive(None).unwrap().message.answers, ["secret"]);
    assert_eq!(
        s.login.passed(),
        Some(&Passed { attempt: 1, user: "alice".into(), text: String::new(), pam: true, key: None })
    );
}

#[tokio::test]
async fn nothing_is_accepted_before_the_worker_says_so() {
    let mut s = scene();
    assert_eq!(s.login.answer(vec![]).await.unwrap(), Step::Reject { again: false });
    assert_eq!(s.login.begin("alice").await.unwrap(), Step::Reject { again: false });
    assert!(s.login.passed().is_none());
}

#[tokio::test]
async fn refuses_too_few_too_many_and_impossible_answers() {
    let long = [b'a'; 512];
    let cases: [&[&[u8]]; 5] = [&[], &[b"a", b"b"], &[b"\xff"], &[b"a\0b"], &[&long]];
    for answers in cases {
        let mut s = scene();
        let worker = s.offer_worker(1);
        worker.send(&password()).unwrap();
        s.login.begin("alice").await.unwrap();
        worker.send(&PASSED).unwrap();
        assert_eq!(s.login.answer(typed(answers)).await.unwrap(), Step::Reject { again: true });
        assert!(s.login.passed().is_none());
    }
}

#[tokio::test]
async fn three_attempts_and_no_more() {
    let mut s = scene();
    for attempt in 1..=3 {
        let worker = s.offer_worker(attempt);
        worker.send(&password()).unwrap();
        assert!(matches!(s.login.begin("alice").await.unwrap(), Step::Ask { .. }), "{attempt}");
        worker.send(&FAILED).unwrap();
        assert_eq!(s.login.answer(typed(&[b"wrong"])).await.unwrap(), Step::Reject { again: true });
    }
    let worker = s.offer_worker(4);
    worker.send(&PASSED).unwrap();
    assert_eq!(s.login.begin("alice").await.unwrap(), Step::Reject { again: false });
}

#[tokio::test]
async fn refuses_another_user_in_the_same_connection() {
    let mut s = scene();
    let worker = s.offer_worker(1);
    worker.send(&password()).unwrap();
    s.login.begin("alice").await.unwrap();
    let second = s.offer_worker(2);
    second.send(&PASSED).unwrap();
    assert_eq!(s.login.begin("bob").await.unwrap(), Step::Reject { again: false });
    assert_eq!(s.login.begin("alice").await.unwrap(), Step::Reject { again: false });
}

#[tokio::test]
async fn text_alone_is_shown_without_an_answer_to_the_worker() {
    let mut s = scene();
    let worker = s.offer_worker(1);
    worker.send(&FromWorker::Converse(vec![Message::Info("Touch your key".into())])).unwrap();
    assert_eq!(s.login.begin("alice").await.unwrap(), ask("Touch your key", &[]));
    worker.send(&PASSED).unwrap();
    assert_eq!(s.login.answer(vec![]).await.unwrap(), Step::Accept);
    assert!(worker.receive(Some(Duration::from_millis(1))).is_err(), "the text was answered");
}

#[tokio::test]
async fn text_that_is_followed_at_once_costs_no_round_trip() {
    let mut s = scene();
    let worker = s.offer_worker(1);
    worker.send(&FromWorker::Converse(vec![Message::Error("Your password expires in 2 days".into())])).unwrap();
    worker.send(&PASSED).unwrap();
    assert_eq!(s.login.begin("alice").await.unwrap(), Step::Accept);
    assert_eq!(s.login.passed().unwrap().text, "Your password expires in 2 days");
}

#[tokio::test]
async fn last_words_are_shown_before_the_rejection() {
    let mut s = scene();
    let worker = s.offer_worker(1);
    worker.send(&FromWorker::Converse(vec![Message::Error("Account locked".into())])).unwrap();
    worker.send(&FAILED).unwrap();
    assert_eq!(s.login.begin("alice").await.unwrap(), ask("Account locked", &[]));
    assert_eq!(s.login.answer(vec![]).await.unwrap(), Step::Reject { again: true });
}

#[tokio::test]
async fn a_worker_that_breaks_down_or_a_supervisor_that_refuses_is_told_truthfully_and_ends_it() {
    let mut s = scene();
    drop(s.offer_worker(1));
    assert_eq!(s.login.begin("alice").await.unwrap(), ask(text::UNAVAILABLE, &[]));
    assert_eq!(s.login.answer(vec![]).await.unwrap(), Step::Reject { again: false });

    let mut s = scene();
    s.supervisor.send(&FromSupervisor::Refused { message: "Too busy.".into() }).unwrap();
    assert_eq!(s.login.begin("alice").await.unwrap(), ask("Too busy.", &[]));
    assert_eq!(s.login.answer(vec![]).await.unwrap(), Step::Reject { again: false });
}

#[tokio::test]
async fn a_client_that_goes_away_while_pam_works_is_noticed() {
    let mut s = scene();
    let worker = s.offer_worker(1);
    let client = s.client.take();
    let gone = tokio::spawn(async move { s.login.begin("alice").await.is_err() });
    drop(client);
    assert!(gone.await.unwrap());
    assert!(matches!(worker.receive(Some(Duration::from_secs(10))), Err(ChannelError::Closed)));
}

#[tokio::test]
async fn text_stands_before_the_prompt_that_it_explains() {
    for text in ["You are required to change it".to_owned(), "Grüße".to_owned(), "line\n".repeat(4000)] {
        let mut s = scene();
        let worker = s.offer_worker(1);
        let messages = vec![Message::Info(text.clone()), Message::PromptEchoOff("Password: ".into())];
        worker.send(&FromWorker::Converse(messages)).unwrap();
        let prompt = format!("{}\nPassword: ", text.trim_end());
        assert_eq!(s.login.begin("alice").await.unwrap(), ask("", &[(&prompt, false)]));
    }
}

#[tokio::test]
async fn long_text_alone_comes_in_as_many_rounds_as_it_takes() {
    let mut s = scene();
    let worker = s.offer_worker(1);
    let text: String = (0..300).map(|n| format!("line {n}\n")).collect();
    worker.send(&FromWorker::Converse(vec![Message::Info(text.clone())])).unwrap();
    worker.send(&FAILED).unwrap();
    let mut shown = String::new();
    let mut step = s.login.begin("alice").await.unwrap();
    while let Step::Ask { text, prompts } = &step {
        assert!(prompts.is_empty() && text.len() < 1000);
        shown += &format!("{text}\n");
        step = s.login.answer(vec![]).await.unwrap();
    }
    assert_eq!((shown, step), (text, Step::Reject { again: true }));
}

#[tokio::test]
async fn a_worker_that_says_nothing_is_waited_for_until_the_deadline_and_the_user_is_told() {
    let mut s = scene();
    s.login.deadline = Instant::now() + Duration::from_millis(20);
    let _worker = s.offer_worker(1);
    assert_eq!(s.login.begin("alice").await.unwrap(), ask(text::TOO_LONG, &[]));
    assert_eq!(s.login.answer(vec![]).await.unwrap(), Step::Reject { again: false });
}

fn found(attempt: u32) -> Option<Found> {
    Some(Found { attempt, user: "alice".into(), text: String::new() })
}

#[tokio::test]
async fn a_lookup_lets_nobody_in_by_itself() {
    let mut s = scene();
    let worker = s.offer_worker(1);
    worker.send(&FromWorker::Passed { user: "alice".into() }).unwrap();
    assert_eq!(s.login.look_up("alice").await.unwrap(), found(1));
    assert_eq!(s.supervisor.receive(None).unwrap().message, ToSupervisor::StartLookup { user: "alice".into() });
    assert!(s.login.passed().is_none());
    assert_eq!(s.login.answer(vec![]).await.unwrap(), Step::Reject { again: false });
}

#[tokio::test]
async fn a_lookup_that_fails_breaks_down_or_asks_something_finds_nobody() {
    for message in [Some(FAILED), Some(FromWorker::Failed { unavailable: true }), Some(password()), None] {
        let mut s = scene();
        let worker = s.offer_worker(1);
        if let Some(message) = &message {
            worker.send(message).unwrap();
        }
        // Too late: what comes after a question counts for nothing.
        let _ = worker.send(&PASSED);
        if message.is_none() {
            s = scene();
            drop(s.offer_worker(1));
        }
        assert_eq!(s.login.look_up("alice").await.unwrap(), None, "{message:?}");
    }
}

#[tokio::test]
async fn lookups_are_counted_apart_from_attempts_and_end() {
    let mut s = scene();
    for attempt in 1..=4 {
        let worker = s.offer_worker(attempt);
        worker.send(&FromWorker::Passed { user: "alice".into() }).unwrap();
        assert_eq!(s.login.look_up("alice").await.unwrap(), found(attempt));
    }
    // Not asked any more: a fifth worker would have to be waited for.
    assert_eq!(s.login.look_up("alice").await.unwrap(), None);
    assert_eq!(s.login.look_up("bob").await.unwrap(), None, "another user");
    let worker = s.offer_worker(5);
    worker.send(&password()).unwrap();
    assert!(matches!(s.login.begin("alice").await.unwrap(), Step::Ask { .. }));
}

#[tokio::test]
async fn a_key_that_is_half_of_it_is_remembered_until_pam_has_let_in() {
    let mut s = scene();
    s.login.claim(b"key".to_vec());
    assert!(s.login.passed().is_none());
    let worker = s.offer_worker(1);
    worker.send(&FromWorker::Passed { user: "alice".into() }).unwrap();
    assert_eq!(s.login.begin("alice").await.unwrap(), Step::Accept);
    let passed = s.login.passed().unwrap();
    assert_eq!((passed.pam, passed.key.as_deref()), (true, Some(&b"key"[..])));
}
