//! Agents that lie, stall and break off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{Agent, AgentError, Identity, LOOK_EVERY, MAX_FRAME, MAX_IDENTITIES, Waiting, frame};
use crate::test_agents::{hang, receive, scripted};
use crate::wire::WireWrite;

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(10);
/// A call with [`SHORT`] patience is back by then, on a busy machine too.
const SOON: Duration = Duration::from_secs(5);

/// What `list` says of an agent that sends these bytes and then waits.
fn list_of(answer: Vec<u8>) -> Result<Vec<Identity>, AgentError> {
    let mut agent = scripted(LONG, move |mut stream| {
        receive(&mut stream);
        stream.write_all(&answer).unwrap();
        hang(stream);
    });
    agent.list()
}

fn assert_times_out(mut agent: Agent) {
    let start = Instant::now();
    assert_eq!(agent.list(), Err(AgentError::Timeout));
    assert!(start.elapsed() >= SHORT && start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn lists_what_the_agent_holds_whatever_the_bytes() {
    let identities = vec![
        Identity { blob: b"no key at all".to_vec(), comment: b"\xff\xfe\0\n".to_vec() },
        Identity { blob: Vec::new(), comment: Vec::new() },
    ];
    assert_eq!(list_of(frame::identities(&identities)), Ok(identities));
}

#[test]
fn a_mute_agent_times_out() {
    assert_times_out(scripted(SHORT, hang));
}

#[test]
fn an_agent_that_does_not_even_read_times_out() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut agent = Agent::new(ours, SHORT);
    let start = Instant::now();
    let large = vec![0; MAX_FRAME - 100];
    let mut result = Ok(Vec::new());
    // The kernel buffers some: until it is full a write succeeds and the read waits.
    for _ in 0..8 {
        result = agent.sign(b"", &large, 0);
    }
    assert!(result.is_err());
    assert!(start.elapsed() < SOON);
    drop(theirs);
}

#[test]
fn an_agent_that_reads_slowly_does_not_stretch_the_deadline() {
    use std::io::Read;
    let patience = Duration::from_millis(400);
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    // The kernel's buffer is full, and gets room for a little more each time before a single wait would run out.
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[0; 4096]).is_ok() {}
    std::thread::spawn(move || {
        let mut some = vec![0; 40_000];
        while theirs.read(&mut some).is_ok_and(|n| n > 0) {
            std::thread::sleep(patience / 2);
        }
    });
    let mut agent = Agent::new(ours, patience);
    let start = Instant::now();
    assert_eq!(agent.sign(b"", &vec![0; MAX_FRAME - 100], 0), Err(AgentError::Timeout));
    assert!(start.elapsed() < patience * 5 / 2, "{:?}", start.elapsed());
}

#[test]
fn an_agent_that_sends_byte_by_byte_does_not_stretch_the_deadline() {
    assert_times_out(scripted(SHORT, |mut stream| {
        receive(&mut stream);
        let many = vec![Identity { blob: vec![1; 1000], comment: Vec::new() }; 100];
        for byte in frame::identities(&many) {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }));
}

#[test]
fn a_slow_but_honest_agent_is_heard() {
    let identities = vec![Identity { blob: b"k".to_vec(), comment: b"c".to_vec() }];
    let answer = frame::identities(&identities);
    let mut agent = scripted(LONG, move |mut stream| {
        receive(&mut stream);
        for byte in answer {
            stream.write_all(&[byte]).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(agent.list(), Ok(identities));
}

#[test]
fn a_stream_that_does_not_block_is_waited_for() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let same = ours.try_clone().unwrap();
    std::thread::spawn(move || {
        receive(&mut theirs);
        std::thread::sleep(Duration::from_millis(50));
        theirs.write_all(&frame::identities(&[])).unwrap();
    });
    assert_eq!(Agent::new(ours, LONG).list(), Ok(Vec::new()));
    // Waited for, not asked again and again.
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", same.as_raw_fd())).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    assert_eq!(i32::from_str_radix(flags, 8).unwrap() & libc::O_NONBLOCK, 0);
}

#[test]
fn an_endless_agent_is_read_to_the_end_of_one_frame_only() {
    let mut agent = scripted(LONG, |mut stream| {
        receive(&mut stream);
        stream.write_all(&frame::identities(&[])).unwrap();
        while stream.write_all(&[0xff; 4096]).is_ok() {}
    });
    assert_eq!(agent.list(), Ok(Vec::new()));
    assert_eq!(agent.list(), Err(AgentError::TooLarge));
}

#[test]
fn refuses_a_frame_over_the_cap_before_reading_it() {
    for length in [MAX_FRAME as u32 + 1, u32::MAX] {
        assert_eq!(list_of(length.to_be_bytes().to_vec()), Err(AgentError::TooLarge));
    }
}

#[test]
fn takes_a_frame_of_exactly_the_cap() {
    let identity = Identity { blob: vec![7; MAX_FRAME - 1 - 4 - 4 - 4], comment: Vec::new() };
    let frame = frame::identities(std::slice::from_ref(&identity));
    assert_eq!(frame.len(), 4 + MAX_FRAME);
    assert_eq!(list_of(frame), Ok(vec![identity]));
}

#[test]
fn refuses_to_send_a_frame_over_the_cap() {
    let mut agent = scripted(LONG, hang);
    assert_eq!(agent.sign(b"", &vec![0; MAX_FRAME], 0), Err(AgentError::TooLarge));
}

#[test]
fn refuses_an_empty_frame() {
    assert_eq!(list_of(vec![0; 4]), Err(AgentError::Malformed));
}

#[test]
fn refuses_an_answer_of_the_wrong_type() {
    assert_eq!(list_of(frame::success()), Err(AgentError::Malformed));
    assert_eq!(list_of(frame::signature(b"s")), Err(AgentError::Malformed));
    assert_eq!(list_of(frame::failure()), Err(AgentError::Refused));
    for old in [30, 102, 28] {
        assert_eq!(list_of(frame::wrap(&[old])), Err(AgentError::Refused));
    }
}

#[test]
fn takes_2048_identities_and_refuses_one_more() {
    let one = Identity { blob: b"blob".to_vec(), comment: Vec::new() };
    let most = vec![one; MAX_IDENTITIES + 1];
    assert_eq!(list_of(frame::identities(&most[1..])).unwrap().len(), MAX_IDENTITIES);
    assert_eq!(list_of(frame::identities(&most)), Err(AgentError::TooLarge));
}

#[test]
fn refuses_a_count_that_the_frame_does_not_hold() {
    for count in [2, 2048] {
        let mut payload = vec![12];
        payload.put_u32(count);
        payload.put_string(b"blob");
        payload.put_string(b"comment");
        assert_eq!(list_of(frame::wrap(&payload)), Err(AgentError::Malformed));
    }
}

#[test]
fn bytes_behind_the_last_identity_hide_none() {
    let identities = vec![Identity { blob: b"blob".to_vec(), comment: b"comment".to_vec() }];
    let frame = frame::identities(&identities);
    for junk in [&[0][..], &[0xff; 5000]] {
        assert_eq!(list_of(frame::wrap(&[&frame[4..], junk].concat())), Ok(identities.clone()));
    }
}

#[test]
fn an_agent_that_says_more_than_it_was_asked_is_known_to() {
    let mut agent = scripted(LONG, |mut stream| {
        receive(&mut stream);
        stream.write_all(&[frame::identities(&[]), frame::failure()].concat()).unwrap();
        hang(stream);
    });
    assert!(!agent.is_ahead());
    assert_eq!(agent.list(), Ok(Vec::new()));
    assert!(agent.is_ahead());
}

#[test]
fn a_large_answer_in_many_pieces_is_read_whole() {
    let identities: Vec<_> =
        (0..=255).map(|n| Identity { blob: vec![n; 850], comment: vec![!n; usize::from(n)] }).collect();
    let frame = frame::identities(&identities);
    assert!(frame.len() > MAX_FRAME * 9 / 10 && frame.len() <= MAX_FRAME);
    let mut agent = scripted(LONG, move |mut stream| {
        receive(&mut stream);
        for piece in frame.chunks(7001) {
            stream.write_all(piece).unwrap();
        }
    });
    assert_eq!(agent.list(), Ok(identities));
}

struct Impatient;

impl Waiting for Impatient {
    fn interrupted(&self) -> bool {
        true
    }
}

#[test]
fn a_wait_is_interrupted_although_bytes_keep_coming() {
    let mut agent = scripted(LONG, |mut stream| {
        receive(&mut stream);
        // Ever sooner than a single wait would run out.
        for byte in frame::wrap(&[12; 2000]) {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(LOOK_EVERY / 10);
        }
    });
    let start = Instant::now();
    assert_eq!(agent.list_waiting(&Impatient), Err(AgentError::Interrupted));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_wait_is_interrupted_although_the_agent_does_not_even_read() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[0; 4096]).is_ok() {}
    let start = Instant::now();
    assert_eq!(Agent::new(ours, LONG).list_waiting(&Impatient), Err(AgentError::Interrupted));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    drop(theirs);
}

#[test]
fn an_agent_that_closes_is_an_error_at_once() {
    for answer in [&b""[..], &[0, 0, 0], &[0, 0, 0, 9, 12, 0]] {
        let mut agent = scripted(LONG, move |mut stream| {
            receive(&mut stream);
            stream.write_all(answer).unwrap();
        });
        assert!(matches!(agent.list(), Err(AgentError::Io(_))));
    }
}

#[test]
fn writing_to_a_closed_agent_is_an_error() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(matches!(Agent::new(ours, LONG).list(), Err(AgentError::Io(_))));
}

#[test]
fn after_a_timeout_a_late_answer_is_not_taken_for_the_next() {
    let mut agent = scripted(SHORT, |mut stream| {
        receive(&mut stream);
        std::thread::sleep(SHORT * 2);
        let _ = stream.write_all(&frame::identities(&[]));
        hang(stream);
    });
    assert_eq!(agent.list(), Err(AgentError::Timeout));
    std::thread::sleep(SHORT * 2);
    agent.set_deadline(Instant::now() + LONG);
    assert!(matches!(agent.list(), Err(AgentError::Io(_))));
}

#[test]
fn no_time_left_asks_nothing() {
    let mut agent = scripted(Duration::ZERO, |mut stream| assert_eq!(receive(&mut stream), None));
    assert_eq!(agent.list(), Err(AgentError::Timeout));
}

#[test]
fn a_patience_beyond_the_clock_asks_nothing() {
    let mut agent = scripted(Duration::MAX, hang);
    assert_eq!(agent.list(), Err(AgentError::Timeout));
}

#[test]
fn passes_a_payload_on_as_it_is() {
    let mut agent = scripted(LONG, |mut stream| {
        let payload = receive(&mut stream).unwrap();
        stream.write_all(&frame::wrap(&payload)).unwrap();
    });
    assert_eq!(agent.pass_on(&[200, 1, 2, 3]).unwrap().as_slice(), [200, 1, 2, 3]);
}

#[test]
fn a_listing_that_was_asked_for_ahead_is_asked_for_once() {
    let identities = vec![Identity { blob: b"one".to_vec(), comment: Vec::new() }];
    let answer = frame::identities(&identities);
    let mut agent = scripted(LONG, move |mut stream| {
        for _ in 0..2 {
            assert_eq!(receive(&mut stream).unwrap(), [11]);
            stream.write_all(&answer).unwrap();
        }
        hang(stream);
    });
    agent.ask_to_list();
    assert_eq!(agent.list().as_ref(), Ok(&identities));
    assert_eq!(agent.list(), Ok(identities));
}

#[test]
fn the_answer_to_a_listing_asked_for_ahead_is_never_that_to_another_question() {
    let mut agent = scripted(LONG, |mut stream| {
        receive(&mut stream);
        stream.write_all(&frame::signature(b"none of it")).unwrap();
        hang(stream);
    });
    agent.ask_to_list();
    assert!(matches!(agent.sign(b"", b"", 0), Err(AgentError::Io(_))));
    assert!(agent.is_broken());
}

#[test]
fn a_listing_that_cannot_be_asked_for_ahead_says_why_when_it_is_waited_for() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let mut agent = Agent::new(ours, LONG);
    agent.ask_to_list();
    let Err(AgentError::Io(why)) = agent.list() else { panic!("listed") };
    assert!(why.contains("Broken pipe"), "{why}");
}
