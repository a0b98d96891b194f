//! The messages between a test, the processes of its lab and their hosts, and the socket that carries them.
//!
//! Each message is one packet of a Unix socket, with descriptors beside it. A closed socket is a message too: whoever
//! holds the other end is gone, and what was made for it goes as well.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The digest of the sources that library and helper must share.
pub(crate) const SOURCES: &str = env!("USSH_LAB_SOURCES");

/// Environment variable in every process of a lab: its identifier.
pub const MARK: &str = "USSH_LAB";

/// Longest message, bytes.
const MAX_MESSAGE: usize = 128 * 1024;

/// Most descriptors beside one message.
const MAX_DESCRIPTORS: usize = 8;

/// From the test to its lab.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum LabRequest {
    /// Descriptors: the host's request channel, its log.
    AddHost(HostSpec),
    /// The host of this name is ended and what it held is removed before the reply.
    RemoveHost(String),
}

/// From the lab to the test.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum LabReply {
    /// The lab's network stands. Carries [`SOURCES`].
    Up(String),
    /// Descriptor: the host's root folder.
    HostUp,
    /// Nothing of the host is left.
    HostRemoved,
    /// In plain words.
    Failed(String),
}

/// One host to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostSpec {
    /// Its name, which is also its host name.
    pub name: String,
    /// The folder under its writable layer.
    pub base: PathBuf,
    /// On the lab's bridge, /24.
    pub address: Ipv4Addr,
    /// Folders and files of the machine that it sees, read only.
    pub binds: Vec<Bind>,
}

/// A file or folder of the machine, seen read only in a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the machine.
    pub source: PathBuf,
    /// In the host; made when missing.
    pub target: PathBuf,
}

/// Between the lab's init and a host's init while the host is made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Handshake {
    /// To the host. Descriptors: its request channel, its log.
    Make(HostSpec),
    /// From the host: its network namespace waits for a link.
    Namespaced,
    /// To the host: the link is there.
    Linked,
    /// From the host. Descriptor: its root folder.
    Up,
    /// From the host, in plain words.
    Failed(String),
}

/// From the test to a host: run this.
/// Descriptors: a channel for [`RunReply`] and [`RunControl`]; then, unless there is a terminal, stdin, stdout, stderr.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunRequest {
    pub argv: Vec<String>,
    pub user: String,
    /// Added to a login's environment.
    pub env: BTreeMap<String, String>,
    /// None: the user's home.
    pub cwd: Option<String>,
    /// On a new terminal.
    pub terminal: bool,
}

/// About one command that runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RunReply {
    /// Process ID inside the host. Descriptor, if a terminal was asked for: its master side.
    Started(i32),
    /// It was sent what the test asked for.
    Signalled,
    /// The last message.
    Ended(Status),
    /// The last message too.
    Failed(String),
}

/// To one command that runs. Closing the channel kills its process group.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RunControl {
    /// This signal number to its process group.
    Signal(i32),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// With this exit code.
    Exited(i32),
    /// By this signal number.
    Signaled(i32),
    /// Its host went down with it.
    HostGone,
}

impl Status {
    /// Exit code 0.
    pub fn success(self) -> bool {
        self == Status::Exited(0)
    }

    /// The exit code as a shell counts it: 128 and the signal number for a killed command.
    pub fn code(self) -> i32 {
        match self {
            Status::Exited(code) => code,
            Status::Signaled(signal) => 128 + signal,
            Status::HostGone => 128 + 9,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Status::Exited(code) => write!(out, "exit {code}"),
            Status::Signaled(signal) => write!(out, "signal {signal}"),
            Status::HostGone => write!(out, "host gone"),
        }
    }
}

/// One end of a packet socket.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Two joined ends, both closed on exec.
    pub(crate) fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(one), Channel(other)))
    }

    /// The channel that this process was started with as its standard input.
    pub(crate) fn from_stdin() -> io::Result<Channel> {
        Ok(Channel(io::stdin().as_fd().try_clone_to_owned()?))
    }

    pub(crate) fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(io::Error::other("message too long: pass large data as standard input"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors"));
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message; `None` when the other end is gone.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0_u8; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => other?,
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("message cut off"));
        }
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                descriptors.extend(passed);
            }
        }
        let message = bytes.get(..received.bytes).unwrap_or_default();
        Ok(Some((postcard::from_bytes(message).map_err(io::Error::other)?, descriptors)))
    }

    /// As [`Channel::receive`], but an error of kind `TimedOut` after `timeout`.
    pub(crate) fn receive_within<T: DeserializeOwned>(
        &self,
        timeout: Duration,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        if !readable(self.0.as_fd(), timeout)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.receive()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Channel(socket)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

/// Whether `descriptor` has something to read, or has ended, before `timeout` is over.
pub(crate) fn readable(descriptor: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
    let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&timeout)))?;
    Ok(ready > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn carries_a_message_with_its_descriptor() {
        let (near, far) = Channel::pair().unwrap();
        near.send(&RunControl::Signal(15), &[io::stderr().as_fd()]).unwrap();
        let (RunControl::Signal(signal), descriptors) = far.receive::<RunControl>().unwrap().unwrap();
        assert_eq!((signal, descriptors.len()), (15, 1));
    }

    #[test]
    fn reports_a_closed_end_and_a_silent_one_apart() {
        let (near, far) = Channel::pair().unwrap();
        let silent = far.receive_within::<RunControl>(Duration::from_millis(1)).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        drop(near);
        assert!(far.receive_within::<RunControl>(Duration::from_millis(1)).unwrap().is_none());
    }

    #[test]
    fn refuses_a_message_that_does_not_fit_a_packet() {
        let (near, _far) = Channel::pair().unwrap();
        let long = LabRequest::RemoveHost("x".repeat(MAX_MESSAGE));
        assert!(near.send(&long, &[]).is_err());
    }
}
