//! A blocking client: no threads, no signal handlers, and every call ends by its deadline whatever the agent does.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::message::{parse_identities, parse_signature, parse_success};
use super::{AgentError, Constraints, Identity, MAX_FRAME, frame};
use crate::certificate::Certificate;
use crate::keys::PrivateKey;

/// Bytes given to the kernel at once. On a Unix socket it splits larger writes and lets SO_SNDTIMEO run for each part
/// anew (af_unix.c `unix_stream_sendmsg`): a slow reader would stretch the deadline.
const WRITE_CHUNK: usize = 4096;

/// A connected agent. Every call ends by the deadline set last.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    deadline: Instant,
    /// A round trip broke off: what comes next on the stream would be the answer to an older question.
    broken: bool,
}

impl Agent {
    /// Takes a connected stream, blocking or not. Whose agent it is is the caller's to know.
    pub fn new(stream: UnixStream, patience: Duration) -> Self {
        Agent { stream, deadline: after(patience), broken: false }
    }

    /// Sets the instant by which every further call must be done.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Lists.
    /// # Errors
    /// [`AgentError`]
    pub fn list(&mut self) -> Result<Vec<Identity>, AgentError> {
        parse_identities(&self.round_trip(&frame::list())?)
    }

    /// Signs. The agent may ask a person first: give it the time.
    /// # Errors
    /// [`AgentError`]
    pub fn sign(&mut self, blob: &[u8], data: &[u8], flags: u32) -> Result<Vec<u8>, AgentError> {
        parse_signature(&self.round_trip(&frame::sign(blob, data, flags))?)
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
        if self.broken {
            return Err(AgentError::Io("given up before".into()));
        }
        if frame.len() > 4 + MAX_FRAME {
            return Err(AgentError::TooLarge);
        }
        let answer = self.send(frame).and_then(|()| self.receive());
        self.broken = answer.is_err();
        answer
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), AgentError> {
        // A stream that does not block would turn the waits below into a spin.
        self.stream.set_nonblocking(false).map_err(io_error)?;
        let mut rest = frame;
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(self.time_left()?)).map_err(io_error)?;
            // std sends with MSG_NOSIGNAL on a Unix socket (seen with strace, Rust 1.95): sudo gets no SIGPIPE from us.
            match self.stream.write(rest.get(..WRITE_CHUNK).unwrap_or(rest)) {
                Ok(0) => return Err(closed()),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(e) if is_retry(&e) => {}
                Err(e) => return Err(io_error(e)),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        let mut length = [0; 4];
        self.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| AgentError::TooLarge)?;
        match length {
            0 => return Err(AgentError::Malformed),
            1..=MAX_FRAME => {}
            _ => return Err(AgentError::TooLarge),
        }
        let mut payload = Zeroizing::new(vec![0; length]);
        self.read_exact(&mut payload)?;
        Ok(payload)
    }

    fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<(), AgentError> {
        while !buffer.is_empty() {
            self.stream.set_read_timeout(Some(self.time_left()?)).map_err(io_error)?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(closed()),
                Ok(n) => buffer = std::mem::take(&mut buffer).get_mut(n..).unwrap_or_default(),
                Err(e) if is_retry(&e) => {}
                Err(e) => return Err(io_error(e)),
            }
        }
        Ok(())
    }

    /// Until the deadline: asked before every system call, so that an agent that sends byte by byte gains nothing.
    fn time_left(&self) -> Result<Duration, AgentError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(AgentError::Timeout) } else { Ok(left) }
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
