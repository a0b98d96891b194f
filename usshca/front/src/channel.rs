//! The channels to supervisor, worker and signer, asynchronously.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::channel::ChannelError;

/// A channel on which `Out` is sent and `In` is received.
pub struct Channel<Out, In> {
    inner: usshca_ipc::channel::Channel<Out, In>,
    /// The same socket by a descriptor of its own, for tokio to wait on. Not a byte goes through it, so that its being no stream does not matter.
    ready: tokio::net::UnixStream,
}

impl<Out: Serialize, In: DeserializeOwned> Channel<Out, In> {
    /// Over a socket, within a runtime.
    /// # Errors
    /// As the kernel says.
    pub fn new(socket: SeqPacket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let ready = UnixStream::from(socket.as_fd().try_clone_to_owned()?);
        Ok(Channel {
            inner: usshca_ipc::channel::Channel::new(socket),
            ready: tokio::net::UnixStream::from_std(ready)?,
        })
    }

    /// Sends.
    /// # Errors
    /// [`ChannelError`]
    pub async fn send(&self, message: &Out) -> Result<(), ChannelError> {
        self.when(Interest::WRITABLE, || self.inner.send(message)).await
    }

    /// Receives. Safe to give up half-way: a message is taken whole or not at all.
    /// # Errors
    /// [`ChannelError`]
    pub async fn receive(&self) -> Result<(In, Vec<OwnedFd>), ChannelError> {
        let received = self.when(Interest::READABLE, || self.inner.receive(None)).await?;
        Ok((received.message, received.descriptors))
    }

    /// Asks and waits for the answer, with everything else in this thread standing still.
    /// # Errors
    /// [`ChannelError`]; a timeout is `Io(TimedOut)`.
    pub fn ask_now(&self, question: &Out, patience: Duration) -> Result<In, ChannelError> {
        self.inner.send(question)?;
        self.inner.receive(Some(patience)).map(|received| received.message)
    }

    /// Tries whenever the socket is ready, until it does not say "would block".
    async fn when<T>(
        &self,
        interest: Interest,
        attempt: impl Fn() -> Result<T, ChannelError>,
    ) -> Result<T, ChannelError> {
        loop {
            self.ready.ready(interest).await?;
            let tried = self.ready.try_io(interest, || match attempt() {
                Err(ChannelError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
                other => Ok(other),
            });
            match tried {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other?,
            }
        }
    }
}
