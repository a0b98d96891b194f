//! A blocking client: no threads, no signal handlers, and every call ends by its deadline whatever the agent does.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::message::{ClearAnswer, parse_clear_answer, parse_identities, parse_signature, parse_success};
use super::{AgentError, Constraints, Identity, MAX_FRAME, frame};
use crate::certificate::Certificate;
use crate::keys::PrivateKey;

/// Bytes given to the kernel at once. On a Unix socket it splits larger writes and lets SO_SNDTIMEO run for each part
/// anew (af_unix.c `unix_stream_sendmsg`): a slow reader would stretch the deadline.
const WRITE_CHUNK: usize = 4096;

/// Bytes read at once: most answers come whole.
const READ_CHUNK: usize = 4096;

/// A connected agent. Every call ends by the deadline set last.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    deadline: Instant,
    /// What the agent has said beyond the answer that was read.
    unread: Vec<u8>,
    /// What the socket's timeouts stand at: few waits need another.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// The listing was asked for ahead of time.
    is_asked_to_list: bool,
    /// A round trip broke off: what comes next on the stream would be the answer to an older question.
    broken: bool,
}

/// What happens while an answer is waited for. The deadline holds whatever these do, but for the time that they take themselves.
pub trait Waiting {
    /// When to be [told](Waiting::told), if there is no answer by then.
    fn notice(&self) -> Option<Instant> {
        None
    }
    /// The whole question is with the agent: what is to be done anyway can be done while it works.
    fn asked(&self) {}
    /// Told once, at [`Waiting::notice`].
    fn told(&self) {}
    /// Asked when a signal has come, and every [`LOOK_EVERY`] (a signal that the host has blocked only waits), whatever comes from the agent meanwhile: whether the wait shall end.
    fn interrupted(&self) -> bool {
        false
    }
}

/// How often [`Waiting::interrupted`] is asked.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Nobody cares.
struct Patiently;

impl Waiting for Patiently {}

impl Agent {
    /// Takes a connected stream, blocking or not. Whose agent it is is the caller's to know.
    pub fn new(stream: UnixStream, patience: Duration) -> Self {
        let deadline = after(patience);
        Agent {
            stream,
            deadline,
            unread: Vec::new(),
            read_timeout: None,
            write_timeout: None,
            is_asked_to_list: false,
            broken: false,
        }
    }

    /// Sets the instant by which every further call must be done.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Lists.
    /// # Errors
    /// [`AgentError`]
    pub fn list(&mut self) -> Result<Vec<Identity>, AgentError> {
        self.list_waiting(&Patiently)
    }

    /// Lists, and lets `waiting` know.
    /// # Errors
    /// [`AgentError`]
    pub fn list_waiting(&mut self, waiting: &dyn Waiting) -> Result<Vec<Identity>, AgentError> {
        if !std::mem::take(&mut self.is_asked_to_list) {
            return parse_identities(&self.exchange(&frame::list(), waiting)?);
        }
        let answer = self.receive(waiting);
        self.broken = answer.is_err();
        parse_identities(&answer?)
    }

    /// Sends the question of the next [`Agent::list`], which must be the next call: the agent answers it while something else is done.
    /// If it cannot be sent, that call sends it again and says why not.
    pub fn ask_to_list(&mut self) {
        self.is_asked_to_list = !self.broken && self.send(&frame::list(), &Patiently).is_ok();
    }

    /// Signs. The agent may ask a person first: give it the time.
    /// # Errors
    /// [`AgentError`]
    pub fn sign(&mut self, blob: &[u8], data: &[u8], flags: u32) -> Result<Vec<u8>, AgentError> {
        self.sign_waiting(blob, data, flags, &Patiently)
    }

    /// Signs, and lets `waiting` know.
    /// # Errors
    /// [`AgentError`]
    pub fn sign_waiting(
        &mut self,
        blob: &[u8],
        data: &[u8],
        flags: u32,
        waiting: &dyn Waiting,
    ) -> Result<Vec<u8>, AgentError> {
        parse_signature(&self.exchange(&frame::sign(blob, data, flags), waiting)?)
    }

    /// Sends a challenge in clear; the agent makes the SSHSIG of it itself.
    /// # Errors
    /// [`AgentError`]
    pub fn sign_clear(
        &mut self,
        blob: &[u8],
        message: &[u8],
        flags: u32,
        waiting: &dyn Waiting,
    ) -> Result<ClearAnswer, AgentError> {
        parse_clear_answer(&self.exchange(&frame::clear_challenge(blob, message, flags), waiting)?)
    }

    /// Whether a call broke off, so that all further ones fail.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether the agent has said more than it was asked: the next answer to be read would be no answer to the next question.
    pub fn is_ahead(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Adds a key with its certificate.
    /// # Errors
    /// [`AgentError`]
    pub fn add_certificate(
        &mut self,
        certificate: &Certificate,
        key: &PrivateKey,
        comment: &str,
        constraints: &Constraints,
    ) -> Result<(), AgentError> {
        let frame = frame::add_certificate(certificate, key, comment, constraints).map_err(AgentError::Key)?;
        parse_success(&self.round_trip(&frame)?)
    }

    /// Removes.
    /// # Errors
    /// [`AgentError`]
    pub fn remove(&mut self, blob: &[u8]) -> Result<(), AgentError> {
        parse_success(&self.round_trip(&frame::remove(blob))?)
    }

    /// Sends a payload as it is (an add of somebody else's, for instance), reads one answer, gives its payload.
    /// # Errors
    /// [`AgentError`]
    pub fn pass_on(&mut self, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        let frame = Zeroizing::new(frame::wrap(payload));
        self.round_trip(&frame)
    }

    /// Sends a frame, reads one answer, gives its payload (1 ..= MAX_FRAME bytes). After a call that broke off in the
    /// middle of a frame or ran out of time the connection is of no more use: all further calls fail.
    /// # Errors
    /// [`AgentError`]
    pub fn round_trip(&mut self, frame: &[u8]) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        self.exchange(frame, &Patiently)
    }

    fn exchange(&mut self, frame: &[u8], waiting: &dyn Waiting) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        // The next answer would be that to the listing.
        self.broken |= self.is_asked_to_list;
        if self.broken {
            return Err(AgentError::Io("given up before".into()));
        }
        if frame.len() > 4 + MAX_FRAME {
            return Err(AgentError::TooLarge);
        }
        let sent = self.send(frame, waiting);
        if sent.is_ok() {
            waiting.asked();
        }
        let answer = sent.and_then(|()| self.receive(waiting));
        self.broken = answer.is_err();
        answer
    }

    fn send(&mut self, frame: &[u8], waiting: &dyn Waiting) -> Result<(), AgentError> {
        if self.write_timeout.is_none() {
            // A stream that does not block would turn the waits below into a spin.
            self.stream.set_nonblocking(false).map_err(io_error)?;
        }
        let mut rest = frame;
        while !rest.is_empty() {
            let wait = self.time_left()?.min(LOOK_EVERY);
            if self.write_timeout != Some(wait) {
                self.stream.set_write_timeout(Some(wait)).map_err(io_error)?;
                self.write_timeout = Some(wait);
            }
            // std sends with MSG_NOSIGNAL on a Unix socket (seen with strace, Rust 1.95): sudo gets no SIGPIPE from us.
            match self.stream.write(rest.get(..WRITE_CHUNK).unwrap_or(rest)) {
                Ok(0) => return Err(closed()),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(e) if is_retry(&e) && waiting.interrupted() => return Err(AgentError::Interrupted),
                Err(e) if is_retry(&e) => {}
                Err(e) => return Err(io_error(e)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, waiting: &dyn Waiting) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        let mut notice = waiting.notice();
        let mut look_at = after(LOOK_EVERY);
        let mut chunk = Zeroizing::new([0; READ_CHUNK]);
        let mut received = Zeroizing::new(std::mem::take(&mut self.unread));
        loop {
            if let Some(length) = payload_length(&received)? {
                let end = length.saturating_add(4);
                if received.len() >= end {
                    self.unread = received.split_off(end);
                    received.drain(..4);
                    return Ok(received);
                }
            }
            let left = self.time_left()?;
            let now = Instant::now();
            if look_at <= now {
                look_at = after(LOOK_EVERY);
                if waiting.interrupted() {
                    return Err(AgentError::Interrupted);
                }
            }
            if notice.is_some_and(|at| at <= now) {
                notice = None;
                waiting.told();
                continue;
            }
            let until_notice = notice.map_or(left, |at| at.saturating_duration_since(now));
            let wait = left.min(until_notice).min(LOOK_EVERY);
            if self.read_timeout != Some(wait) {
                self.stream.set_read_timeout(Some(wait)).map_err(io_error)?;
                self.read_timeout = Some(wait);
            }
            match self.stream.read(chunk.as_mut_slice()) {
                Ok(0) => return Err(closed()),
                Ok(n) => received.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) if is_retry(&e) => look_at = Instant::now(),
                Err(e) => return Err(io_error(e)),
            }
        }
    }

    /// Until the deadline: asked before every system call, so that an agent that sends byte by byte gains nothing.
    fn time_left(&self) -> Result<Duration, AgentError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(AgentError::Timeout) } else { Ok(left) }
    }
}

/// What a frame's first four bytes say, once they are there.
fn payload_length(received: &[u8]) -> Result<Option<usize>, AgentError> {
    let Some(length) = received.first_chunk() else { return Ok(None) };
    match usize::try_from(u32::from_be_bytes(*length)).map_err(|_| AgentError::TooLarge)? {
        0 => Err(AgentError::Malformed),
        length @ 1..=MAX_FRAME => Ok(Some(length)),
        _ => Err(AgentError::TooLarge),
    }
}

/// The instant that lies `patience` ahead; one that the clock cannot hold is now.
pub(crate) fn after(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience).unwrap_or(now)
}

/// A signal, or the socket's own timeout, which is the deadline to within its rounding: the loop looks at the clock.
fn is_retry(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn closed() -> AgentError {
    AgentError::Io("closed by the agent".into())
}

fn io_error(e: io::Error) -> AgentError {
    AgentError::Io(e.to_string())
}
