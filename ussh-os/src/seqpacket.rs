//! SOCK_SEQPACKET Unix sockets: one message is one packet, descriptors and sender credentials ride along.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::agent_socket::Peer;

/// Longest packet, in bytes.
pub const MAX_PACKET: usize = 192 * 1024;

/// One end.
#[derive(Debug)]
pub struct SeqPacket {
    fd: OwnedFd,
}

/// One packet that came.
#[derive(Debug)]
pub struct Packet {
    /// The bytes; empty = the other end is closed.
    pub data: zeroize::Zeroizing<Vec<u8>>,
    /// Descriptors that came along (SCM_RIGHTS), close-on-exec; at most 4.
    pub descriptors: Vec<OwnedFd>,
    /// The sender as the kernel attests it (SCM_CREDENTIALS), if [`SeqPacket::attest_sender`] is on.
    pub sender: Option<Peer>,
}

impl SeqPacket {
    /// A connected pair, close-on-exec, with send and receive buffers large enough for [`MAX_PACKET`].
    /// # Errors
    /// As the kernel says.
    pub fn pair() -> std::io::Result<(Self, Self)> {
        todo!()
    }
    /// From a descriptor that is one.
    /// # Errors
    /// It is no SOCK_SEQPACKET socket.
    pub fn from_fd(fd: OwnedFd) -> std::io::Result<Self> {
        Ok(SeqPacket { fd })
    }
    /// Turns SO_PASSCRED on: every packet then says who sent it.
    /// # Errors
    /// As the kernel says.
    pub fn attest_sender(&self) -> std::io::Result<()> {
        todo!()
    }
    /// Blocking or not.
    /// # Errors
    /// As the kernel says.
    pub fn set_nonblocking(&self, on: bool) -> std::io::Result<()> {
        let _ = on;
        todo!()
    }
    /// Sends one packet (MSG_NOSIGNAL) with descriptors.
    /// # Errors
    /// InvalidInput above [`MAX_PACKET`]; as the kernel says.
    pub fn send(&self, data: &[u8], descriptors: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let _ = (data, descriptors);
        todo!()
    }
    /// Receives one packet. A truncated one is an error and its descriptors are closed.
    /// # Errors
    /// As the kernel says; WouldBlock when non-blocking.
    pub fn receive(&self) -> std::io::Result<Packet> {
        todo!()
    }
    /// Receives one packet within `timeout` (poll).
    /// # Errors
    /// TimedOut; as [`SeqPacket::receive`].
    pub fn receive_within(&self, timeout: std::time::Duration) -> std::io::Result<Packet> {
        let _ = timeout;
        todo!()
    }
    /// SO_PEERCRED: who made or connected the other end.
    /// # Errors
    /// As the kernel says.
    pub fn peer(&self) -> std::io::Result<Peer> {
        todo!()
    }
    /// The descriptor itself.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for SeqPacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A listening SOCK_SEQPACKET socket at a path.
#[derive(Debug)]
pub struct SeqPacketListener {
    fd: OwnedFd,
}

impl SeqPacketListener {
    /// Binds (an old socket file there is removed first if nothing answers on it), with `mode` on the file.
    /// # Errors
    /// As the kernel says; AddrInUse if something answers there.
    pub fn bind(path: &std::path::Path, mode: u32) -> std::io::Result<Self> {
        let _ = (path, mode);
        todo!()
    }
    /// From a listening descriptor.
    /// # Errors
    /// It is no SOCK_SEQPACKET socket.
    pub fn from_fd(fd: OwnedFd) -> std::io::Result<Self> {
        Ok(SeqPacketListener { fd })
    }
    /// Accepts one.
    /// # Errors
    /// As the kernel says.
    pub fn accept(&self) -> std::io::Result<SeqPacket> {
        todo!()
    }
    /// The descriptor itself.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for SeqPacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Connects to a path.
/// # Errors
/// As the kernel says.
pub fn connect(path: &std::path::Path) -> std::io::Result<SeqPacket> {
    let _ = path;
    todo!()
}
