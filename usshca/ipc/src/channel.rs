//! Typed messages over a packet socket.

use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ussh_os::agent_socket::Peer;
use ussh_os::seqpacket::SeqPacket;

/// Why nothing could be said or heard.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket.
    #[error("channel: {0}")]
    Io(#[from] std::io::Error),
    /// The other end is gone.
    #[error("channel: closed by the other end")]
    Closed,
    /// Not a message of this channel, or with bytes behind it.
    #[error("channel: malformed message")]
    Malformed,
}

/// What came, with what came along.
#[derive(Debug)]
pub struct Received<T> {
    /// The message.
    pub message: T,
    /// Descriptors (SCM_RIGHTS).
    pub descriptors: Vec<OwnedFd>,
    /// Kernel-attested sender, if asked for.
    pub sender: Option<Peer>,
}

/// A channel on which `Out` is sent and `In` is received.
#[derive(Debug)]
pub struct Channel<Out, In> {
    socket: SeqPacket,
    _types: PhantomData<fn(Out) -> In>,
}

impl<Out: Serialize, In: DeserializeOwned> Channel<Out, In> {
    /// Over a socket.
    pub fn new(socket: SeqPacket) -> Self {
        Channel { socket, _types: PhantomData }
    }
    /// The socket, to poll on.
    pub fn socket(&self) -> &SeqPacket {
        &self.socket
    }
    /// Sends.
    /// # Errors
    /// [`ChannelError`]
    pub fn send(&self, message: &Out) -> Result<(), ChannelError> {
        self.send_with(message, &[])
    }
    /// Sends with descriptors.
    /// # Errors
    /// [`ChannelError`]
    pub fn send_with(&self, message: &Out, descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        self.socket.send(&encode(message)?, descriptors)?;
        Ok(())
    }
    /// Waits for one message; `None`: as long as it takes.
    /// # Errors
    /// [`ChannelError`]; a timeout is `Io(TimedOut)`.
    pub fn receive(&self, timeout: Option<Duration>) -> Result<Received<In>, ChannelError> {
        let packet = match timeout {
            Some(t) => self.socket.receive_within(t)?,
            None => self.socket.receive()?,
        };
        if packet.data.is_empty() {
            return Err(ChannelError::Closed);
        }
        Ok(Received { message: decode(&packet.data)?, descriptors: packet.descriptors, sender: packet.sender })
    }
}

/// A message as bytes (wiped on drop: it may hold a password).
/// # Errors
/// [`ChannelError::Malformed`]
pub fn encode<T: Serialize>(message: &T) -> Result<zeroize::Zeroizing<Vec<u8>>, ChannelError> {
    postcard::to_stdvec(message).map(zeroize::Zeroizing::new).map_err(|_| ChannelError::Malformed)
}

/// Bytes as a message, to the last byte.
/// # Errors
/// [`ChannelError::Malformed`]
pub fn decode<T: DeserializeOwned>(data: &[u8]) -> Result<T, ChannelError> {
    match postcard::take_from_bytes(data) {
        Ok((message, [])) => Ok(message),
        _ => Err(ChannelError::Malformed),
    }
}
