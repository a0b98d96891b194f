//! What the CA's processes read: what people type on the command line, what they and PAM say to each other, and the messages between the processes.

use std::cell::LazyCell;
use std::collections::VecDeque;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use ussh_os::pam_application::{Conversation, PamMessage};
use ussh_os::seqpacket::SeqPacket;
use usshca_front::channel::Channel;
use usshca_front::login::{Answer, Login, Step};
use usshca_front::transport::Hangup;
use usshca_front::{session, text, wish, words};
use usshca_ipc::channel::{Channel as Blocking, decode, encode};
use usshca_ipc::front::{FromSigner, FromSupervisor, FrontSetup, MAX_REASON, MAX_WISHES, ToSigner, ToSupervisor};
use usshca_ipc::worker::{FromWorker, Spoken, StatementReply, ToWorker, WorkerSetup};
use usshca_ipc::{admin, signer};
use usshca_pam::conversation::ByFront;
use zeroize::Zeroizing;

/// PAM's longest answer, in bytes (PAM_MAX_RESP_SIZE without its NUL).
const MAX_ANSWER: usize = 511;
/// Longest text that OpenSSH's client shows of an instruction, in bytes.
const MAX_INSTRUCTION: usize = 1000;

/// `ssh ca WORDS`: understood the same way each time, within its bounds; what is said of it steers no terminal.
pub fn command(data: &[u8]) {
    assert_eq!(session::understood(data), session::understood(data));
    assert_harmless(&text::unknown_command(data));
    let Ok(line) = std::str::from_utf8(data) else { return };
    match wish::parse(line) {
        Some(Ok(order)) => {
            let wish = order.wish;
            assert!(wish.reason.len() <= MAX_REASON && wish.principals.len() <= MAX_WISHES);
            assert!(wish.validity_seconds != Some(0));
            assert!(wish.principals.iter().all(|name| !name.is_empty() && !name.contains([',', ' '])));
        }
        Some(Err(why)) => assert_harmless(&text::wrong_wish(&why)),
        None => {}
    }
}

fn assert_harmless(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
}

/// Any message of any channel: read to its end or not at all, and written as it was read.
pub fn ipc(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 15 {
        0 => round_trip::<FromWorker>(data),
        1 => round_trip::<ToWorker>(data),
        2 => round_trip::<WorkerSetup>(data),
        3 => round_trip::<Spoken>(data),
        4 => round_trip::<StatementReply>(data),
        5 => round_trip::<ToSupervisor>(data),
        6 => round_trip::<FromSupervisor>(data),
        7 => round_trip::<ToSigner>(data),
        8 => round_trip::<FromSigner>(data),
        9 => round_trip::<FrontSetup>(data),
        10 => round_trip::<admin::Request>(data),
        11 => round_trip::<admin::Reply>(data),
        12 => round_trip::<signer::Control>(data),
        13 => round_trip::<signer::FromSignerControl>(data),
        _ => round_trip::<signer::SignerSetup>(data),
    }
}

fn round_trip<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(message) = decode::<T>(data) else { return };
    let written = encode(&message).unwrap();
    let again = decode::<T>(&written).unwrap();
    assert_eq!(*encode(&again).unwrap(), *written);
    let mut longer = written.to_vec();
    longer.push(0);
    assert!(decode::<T>(&longer).is_err(), "a message with something behind it");
}

/// The worker's side: the first byte says how many prompts and texts PAM has, the rest is what the front answers. PAM gets one answer a prompt, each as long as it takes, or none.
pub fn worker(data: &[u8]) {
    let Some((first, reply)) = data.split_first() else { return };
    let (prompts, texts) = (usize::from(first & 7), usize::from(first >> 5));
    let mut messages = vec![PamMessage::PromptEchoOff("Password: ".to_owned()); prompts];
    messages.extend(vec![PamMessage::Info("Welcome".to_owned()); texts]);
    let (near, far) = SeqPacket::pair().unwrap();
    if far.send(reply, &[]).is_err() {
        return;
    }
    half_close(&far);
    let answers = ByFront::new(Rc::new(Blocking::new(near)), Rc::default()).converse(&messages);
    if let Some(answers) = answers {
        assert_eq!(answers.len(), prompts);
        assert!(answers.iter().all(|answer| answer.len() <= MAX_ANSWER && !answer.contains('\0')));
    }
}

/// The other end hears that nothing more comes, and may still speak.
fn half_close(socket: &SeqPacket) {
    UnixStream::from(socket.as_fd().try_clone_to_owned().unwrap()).shutdown(Shutdown::Write).unwrap();
}

/// What stays from one input to the next.
struct Ground {
    runtime: Runtime,
    tcp: TcpStream,
    _client: TcpStream,
}

thread_local! {
    static GROUND: LazyCell<Ground> = LazyCell::new(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (tcp, _) = listener.accept().unwrap();
        Ground { runtime: Builder::new_current_thread().enable_all().build().unwrap(), tcp, _client: client }
    });
}

/// The front's side: a worker that says what it likes, and a client that answers as it likes.
///
/// A byte: how many packets of the worker follow, each with its length in two bytes; then the client's answers: 0xff ends a round, 0xfe an answer.
pub fn relay(data: &[u8]) {
    let Some((packets, typed)) = packets(data) else { return };
    GROUND.with(|ground| ground.runtime.block_on(talk(ground, &packets, typed)));
}

/// The worker's packets, and the rest.
fn packets(data: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let (count, mut rest) = data.split_first()?;
    let mut packets = Vec::new();
    for _ in 0..count % 16 {
        let (length, after) = rest.split_at_checked(2)?;
        let (packet, after) = after.split_at_checked(usize::from(u16::from_le_bytes(length.try_into().ok()?)))?;
        packets.push(packet);
        rest = after;
    }
    Some((packets, rest))
}

async fn talk(ground: &Ground, packets: &[&[u8]], typed: &[u8]) {
    let (ours, supervisor) = SeqPacket::pair().unwrap();
    let (front, worker) = SeqPacket::pair().unwrap();
    let supervisor = Blocking::<FromSupervisor, ToSupervisor>::new(supervisor);
    supervisor.send_with(&FromSupervisor::Worker { attempt: 1 }, &[front.as_fd()]).unwrap();
    drop(front);
    let sent = packets.iter().take_while(|packet| worker.send(packet, &[]).is_ok()).count();
    half_close(&worker);
    let worker = Blocking::<FromWorker, ToWorker>::new(worker);
    worker.socket().set_nonblocking(true).unwrap();
    let says_passed = |packet: &&[u8]| matches!(decode::<FromWorker>(packet), Ok(FromWorker::Passed { .. }));
    let may_pass = packets[..sent].iter().any(says_passed);

    let deadline = Instant::now() + Duration::from_secs(60);
    let hangup = Hangup::watch(&ground.tcp).unwrap();
    let mut login = Login::new(Channel::new(ours).unwrap(), hangup, 3, deadline);
    let mut asked = VecDeque::new();
    let mut rounds = typed.split(|byte| *byte == 0xff);
    let mut step = login.begin("alice").await.unwrap();
    // Text in parts needs rounds of its own.
    for _ in 0..512 {
        match &step {
            Step::Accept => {
                assert!(may_pass && login.passed().is_some(), "let in although no worker said so");
                return;
            }
            Step::Reject { .. } => {
                assert!(login.passed().is_none());
                assert!(!matches!(login.answer(Vec::new()).await.unwrap(), Step::Accept));
                return;
            }
            Step::Ask { text, prompts } => {
                assert_harmless(text);
                assert!(text.len() <= MAX_INSTRUCTION, "OpenSSH's client would cut it");
                prompts.iter().for_each(|(prompt, _)| assert_harmless(prompt));
                if !prompts.is_empty() {
                    asked.push_back(prompts.len());
                }
                step = login.answer(answers(prompts.len(), &mut rounds)).await.unwrap();
                // (A front that has given up leaves an error before its last words.)
                if let Ok(received) = worker.receive(None).or_else(|_| worker.receive(None)) {
                    let ToWorker { answers } = &received.message;
                    assert_eq!(Some(answers.len()), asked.pop_front());
                    assert!(answers.iter().all(|answer| answer.len() <= MAX_ANSWER && !answer.contains('\0')));
                }
            }
        }
    }
    panic!("no end");
}

/// Nothing for text alone, as clients do.
fn answers<'a>(prompts: usize, rounds: &mut impl Iterator<Item = &'a [u8]>) -> Vec<Answer> {
    if prompts == 0 {
        return Vec::new();
    }
    let round = rounds.next().unwrap_or_default();
    round.split(|byte| *byte == 0xfe).map(|answer| Zeroizing::new(answer.to_vec())).collect()
}

/// PAM's words: nothing of them is lost in parts, and nothing steers a terminal.
pub fn pam_words(data: &[u8]) {
    let text = words::harmless(&String::from_utf8_lossy(data));
    assert_harmless(&text);
    let parts = words::instructions(&text);
    assert!(parts.iter().all(|part| part.len() <= MAX_INSTRUCTION));
    let letters = |text: &str| text.replace('\n', "");
    assert_eq!(letters(&parts.concat()), letters(&text));
}
