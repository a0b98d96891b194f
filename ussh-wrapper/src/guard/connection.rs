//! One connection to the guarded agent: requests in, answers out, in pieces as they come.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ussh_core::agent::MAX_FRAME;
use zeroize::Zeroizing;

/// How long ssh may take to make room for an answer: it reads at once, unless the CA sends requests and takes no answers.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a request may take from its first byte to its last.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// A connection and the request that is coming in on it. Requests may hold a private key: they are wiped.
pub struct Connection {
    stream: UnixStream,
    length: [u8; 4],
    length_read: usize,
    payload: Zeroizing<Vec<u8>>,
    payload_read: usize,
    /// Longest payload, bytes.
    limit: usize,
    /// When the request that is coming in must be complete; none between requests.
    deadline: Option<Instant>,
}

/// What one look at a connection gave.
pub enum Incoming {
    /// The request is not complete yet.
    Partial,
    /// A payload of 1 to [`MAX_FRAME`] bytes.
    Request(Zeroizing<Vec<u8>>),
    /// It ended, or went wrong.
    Closed,
}

impl Connection {
    /// Takes an accepted stream.
    /// # Errors
    /// The socket's options could not be set.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        Self::with_limit(stream, MAX_FRAME)
    }

    /// Takes an accepted stream; a payload longer than `limit` bytes ends the connection.
    /// # Errors
    /// The socket's options could not be set.
    pub fn with_limit(stream: UnixStream, limit: usize) -> io::Result<Self> {
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        Ok(Connection {
            stream,
            length: [0; 4],
            length_read: 0,
            payload: Zeroizing::default(),
            payload_read: 0,
            limit: limit.min(MAX_FRAME),
            deadline: None,
        })
    }

    /// When the request that is coming in must be complete; `None`: there is none.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Reads once; to be called when the stream is readable, it does not wait then.
    pub fn receive(&mut self) -> Incoming {
        let read = if self.length_read < self.length.len() { self.read_length() } else { self.read_payload() };
        match read {
            Ok(0) => Incoming::Closed,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Incoming::Partial,
            Err(_) => Incoming::Closed,
            Ok(_) if self.length_read == self.length.len() && self.payload_read == self.payload.len() => {
                self.length_read = 0;
                self.payload_read = 0;
                self.deadline = None;
                Incoming::Request(std::mem::take(&mut self.payload))
            }
            Ok(_) => {
                self.deadline = self.deadline.or_else(|| Instant::now().checked_add(REQUEST_PATIENCE));
                Incoming::Partial
            }
        }
    }

    /// Sends an answer, a whole frame.
    /// # Errors
    /// The other side is gone or does not read.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame)
    }

    fn read_length(&mut self) -> io::Result<usize> {
        let read = self.stream.read(self.length.get_mut(self.length_read..).unwrap_or_default())?;
        self.length_read += read;
        if self.length_read == self.length.len() {
            match usize::try_from(u32::from_be_bytes(self.length)) {
                // Made in one piece: a vector that grows leaves copies behind.
                Ok(length) if (1..=self.limit).contains(&length) => self.payload = Zeroizing::new(vec![0; length]),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok(read)
    }

    fn read_payload(&mut self) -> io::Result<usize> {
        let read = self.stream.read(self.payload.get_mut(self.payload_read..).unwrap_or_default())?;
        self.payload_read += read;
        Ok(read)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
