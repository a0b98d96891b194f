//! SOCK_SEQPACKET Unix sockets: one message is one packet, descriptors and sender credentials ride along.
//!
//! Untrusted: every packet that comes. Descriptors nobody expects are closed, not kept.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::stat::{Mode, fchmod};
use zeroize::Zeroizing;

use crate::agent_socket::{Peer, peer_of_fd};

/// Longest packet, in bytes.
pub const MAX_PACKET: usize = 192 * 1024;

/// Most descriptors in one packet.
const MAX_DESCRIPTORS: usize = 4;

/// One end.
#[derive(Debug)]
pub struct SeqPacket {
    fd: OwnedFd,
}

/// One packet that came.
#[derive(Debug)]
pub struct Packet {
    /// The bytes; empty = the other end is closed.
    pub data: Zeroizing<Vec<u8>>,
    /// Descriptors that came along (SCM_RIGHTS), close-on-exec; at most 4.
    pub descriptors: Vec<OwnedFd>,
    /// The sender as the kernel attests it (SCM_CREDENTIALS), if [`SeqPacket::attest_sender`] was on when it was sent.
    /// `None` too for a sender in a pid namespace that cannot be seen from here.
    pub sender: Option<Peer>,
}

impl SeqPacket {
    /// A connected pair, close-on-exec, with send and receive buffers large enough for [`MAX_PACKET`].
    /// # Errors
    /// As the kernel says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self::with_buffers(a)?, Self::with_buffers(b)?))
    }

    /// From a descriptor that is one.
    /// # Errors
    /// It is no connected SOCK_SEQPACKET socket.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        demand_seqpacket(&fd, false)?;
        Ok(SeqPacket { fd })
    }

    /// Turns SO_PASSCRED on: every packet sent from now on says who sent it.
    /// # Errors
    /// As the kernel says.
    pub fn attest_sender(&self) -> io::Result<()> {
        Ok(socket::setsockopt(&self.fd, sockopt::PassCred, &true)?)
    }

    /// Blocking or not.
    /// # Errors
    /// As the kernel says.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        let mut flags = OFlag::from_bits_retain(fcntl(&self.fd, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_NONBLOCK, on);
        fcntl(&self.fd, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    /// Sends one packet (MSG_NOSIGNAL) with descriptors. Without any it is send(2): sandboxed processes have no sendmsg(2), with which descriptors travel.
    /// # Errors
    /// InvalidInput for an empty packet (it would read as the end), above [`MAX_PACKET`] or with more than 4 descriptors; as the kernel says.
    pub fn send(&self, data: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if data.is_empty() || data.len() > MAX_PACKET || descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let (socket, flags) = (self.fd.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
        loop {
            let sent = if raw.is_empty() {
                socket::send(socket, data, flags)
            } else {
                socket::sendmsg::<()>(socket, &[IoSlice::new(data)], &[ControlMessage::ScmRights(&raw)], flags, None)
            };
            match sent {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(sent) if sent == data.len() => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            }
        }
    }

    /// Receives one packet. A truncated one is an error and its descriptors are closed.
    /// # Errors
    /// As the kernel says; WouldBlock when non-blocking; InvalidData for a packet above [`MAX_PACKET`] or with more than 4 descriptors.
    pub fn receive(&self) -> io::Result<Packet> {
        self.receive_with(0)
    }

    /// Receives one packet within `timeout` (poll).
    /// # Errors
    /// TimedOut; as [`SeqPacket::receive`].
    pub fn receive_within(&self, timeout: Duration) -> io::Result<Packet> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if !wait_readable(self.fd.as_fd(), deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // Someone else who holds this socket may have been quicker.
            match self.receive_with(libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// SO_PEERCRED: who made or connected the other end.
    /// # Errors
    /// As the kernel says.
    pub fn peer(&self) -> io::Result<Peer> {
        peer_of_fd(self.fd.as_fd())
    }

    /// The descriptor itself.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    fn with_buffers(fd: OwnedFd) -> io::Result<Self> {
        // The kernel caps both at net.core.[rw]mem_max, whose default is enough for MAX_PACKET.
        socket::setsockopt(&fd, sockopt::SndBuf, &(2 * MAX_PACKET))?;
        socket::setsockopt(&fd, sockopt::RcvBuf, &(2 * MAX_PACKET))?;
        Ok(SeqPacket { fd })
    }

    fn receive_with(&self, flags: libc::c_int) -> io::Result<Packet> {
        let length = self.next_length(flags)?;
        if length > MAX_PACKET {
            // Take it off the queue all the same, or it would stand there for ever. Without a control buffer the kernel drops its descriptors.
            receive_raw(self.fd.as_fd(), &mut [0], flags)?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "packet too long"));
        }
        let mut data = Zeroizing::new(vec![0; length]);
        let received = receive_raw(self.fd.as_fd(), &mut data, flags)?;
        if received.truncated || received.descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "packet truncated"));
        }
        data.truncate(received.length);
        Ok(Packet { data, descriptors: received.descriptors, sender: received.sender })
    }

    /// Length of the packet at the head of the queue, without taking it.
    fn next_length(&self, flags: libc::c_int) -> io::Result<usize> {
        loop {
            let peek = MsgFlags::from_bits_retain(flags) | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
            match socket::recv(self.fd.as_raw_fd(), &mut [], peek) {
                Err(Errno::EINTR) => {}
                other => return Ok(other?),
            }
        }
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
    /// As the kernel says; AddrInUse if something answers there, or if what lies there is no socket.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        let fd = new_socket(SockFlag::empty())?;
        // The file is born with the socket's own mode (unix_bind_bsd): at no moment does it allow more than `mode`.
        fchmod(&fd, Mode::from_bits_truncate(mode))?;
        let address = UnixAddr::new(path)?;
        match socket::bind(fd.as_raw_fd(), &address) {
            Err(Errno::EADDRINUSE) => {
                remove_dead_socket(path, &address)?;
                socket::bind(fd.as_raw_fd(), &address)?;
            }
            other => other?,
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        socket::listen(&fd, Backlog::MAXCONN)?;
        Ok(SeqPacketListener { fd })
    }

    /// From a listening descriptor.
    /// # Errors
    /// It is no listening SOCK_SEQPACKET socket.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        demand_seqpacket(&fd, true)?;
        Ok(SeqPacketListener { fd })
    }

    /// Accepts one.
    /// # Errors
    /// As the kernel says.
    pub fn accept(&self) -> io::Result<SeqPacket> {
        loop {
            match socket::accept4(self.fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                // SAFETY: accept4 succeeded: the descriptor is new and nobody else's (accept(2)).
                Ok(raw) => return SeqPacket::with_buffers(unsafe { OwnedFd::from_raw_fd(raw) }),
            }
        }
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
pub fn connect(path: &Path) -> io::Result<SeqPacket> {
    let fd = new_socket(SockFlag::empty())?;
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    SeqPacket::with_buffers(fd)
}

/// Waits until `fd` is readable or at its end; false: not before `deadline` (`None`: no deadline).
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                // poll counts whole milliseconds: round up, or the last one is spent spinning.
                let milliseconds = left.as_nanos().div_ceil(1_000_000);
                PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(0) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
        }
    }
}

fn new_socket(flags: SockFlag) -> io::Result<OwnedFd> {
    Ok(socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags | SockFlag::SOCK_CLOEXEC, None)?)
}

fn demand_seqpacket(fd: &OwnedFd, listening: bool) -> io::Result<()> {
    let kind = socket::getsockopt(fd, sockopt::SockType)?;
    let local: Result<UnixAddr, Errno> = socket::getsockname(fd.as_raw_fd());
    if kind != SockType::SeqPacket || local.is_err() || socket::getsockopt(fd, sockopt::AcceptConn)? != listening {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the expected kind of socket"));
    }
    Ok(())
}

/// Removes the socket file of a process that is gone.
fn remove_dead_socket(path: &Path, address: &UnixAddr) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let probe = new_socket(SockFlag::SOCK_NONBLOCK)?;
    match socket::connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => std::fs::remove_file(path),
        // It answers, or it is of another type, or its queue is full: all signs of life.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// What recvmsg gave.
struct Received {
    length: usize,
    descriptors: Vec<OwnedFd>,
    sender: Option<Peer>,
    truncated: bool,
}

/// Room for the control messages that are asked for: 4 descriptors and one ucred. In u64 for the alignment of cmsghdr (cmsg(3)).
const CONTROL_WORDS: usize = {
    // SAFETY: CMSG_SPACE only computes (cmsg(3)).
    let bytes = unsafe {
        libc::CMSG_SPACE((MAX_DESCRIPTORS * size_of::<RawFd>()) as u32)
            + libc::CMSG_SPACE(size_of::<libc::ucred>() as u32)
    };
    (bytes as usize).div_ceil(size_of::<u64>())
};

/// recvmsg(2). nix's wrapper gives up on a truncated control buffer without closing the descriptors that did arrive: these are always taken here.
fn receive_raw(fd: BorrowedFd<'_>, data: &mut [u8], flags: libc::c_int) -> io::Result<Received> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: msghdr is plain data for which all zeroes is a valid value (recvmsg(2)).
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(&control);

    let length = loop {
        // SAFETY: the header points to one iovec over `data` and to `control`, with their true lengths, all alive during the call (recvmsg(2)).
        let result = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags | libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(result) {
            Ok(length) => break length,
            Err(_) if Errno::last() == Errno::EINTR => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
    };

    let mut received = Received {
        length,
        descriptors: Vec::new(),
        sender: None,
        truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
    };
    // SAFETY: the kernel has filled `header` and `control` (cmsg(3)).
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a pointer to a whole cmsghdr inside of `control` (cmsg(3)).
    while let Some(message) = unsafe { next.as_ref() } {
        // SAFETY: `message` is a header inside of `control` (cmsg(3)).
        let payload = unsafe { libc::CMSG_DATA(message) };
        // SAFETY: CMSG_LEN only computes (cmsg(3)).
        let payload_length = message.cmsg_len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for index in 0..payload_length / size_of::<RawFd>() {
                    // SAFETY: SCM_RIGHTS holds an array of descriptors of that length (unix(7)); read_unaligned because the payload's alignment is not promised.
                    let raw = unsafe { payload.cast::<RawFd>().add(index).read_unaligned() };
                    // SAFETY: the kernel has just installed this descriptor for us and tells nobody else (unix(7)).
                    received.descriptors.push(unsafe { OwnedFd::from_raw_fd(raw) });
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if payload_length >= size_of::<libc::ucred>() => {
                // SAFETY: SCM_CREDENTIALS holds one ucred (unix(7)), and its length was checked.
                let sender = unsafe { payload.cast::<libc::ucred>().read_unaligned() };
                // pid 0 is what the kernel says of a packet that was queued before SO_PASSCRED was on: that attests nothing.
                received.sender =
                    (sender.pid > 0).then_some(Peer { pid: sender.pid, uid: sender.uid, gid: sender.gid });
            }
            _ => {}
        }
        // SAFETY: `header` is as the kernel filled it, and `message` lies in it (cmsg(3)).
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use std::io::{Read, Write};

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn a_packet_is_one_message() {
        let (a, b) = SeqPacket::pair().unwrap();
        a.send(b"one", &[]).unwrap();
        a.send(b"two", &[]).unwrap();
        assert_eq!(b.receive().unwrap().data.as_slice(), b"one");
        let second = b.receive().unwrap();
        assert_eq!(second.data.as_slice(), b"two");
        assert!(second.descriptors.is_empty());
        assert_eq!(second.sender, None);
        drop(a);
        assert!(b.receive().unwrap().data.is_empty());
    }

    #[test]
    fn the_longest_packet_passes_and_a_longer_one_does_not() {
        let (a, b) = SeqPacket::pair().unwrap();
        let longest = vec![7u8; MAX_PACKET];
        a.send(&longest, &[]).unwrap();
        assert_eq!(b.receive().unwrap().data.as_slice(), longest);
        assert_eq!(a.send(&vec![7u8; MAX_PACKET + 1], &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(a.send(b"", &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_hostile_long_packet_is_an_error_and_the_next_one_is_read() {
        let (a, b) = SeqPacket::pair().unwrap();
        let long = vec![7u8; MAX_PACKET + 1];
        socket::send(a.as_fd().as_raw_fd(), &long, MsgFlags::empty()).unwrap();
        a.send(b"next", &[]).unwrap();
        assert_eq!(b.receive().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(b.receive().unwrap().data.as_slice(), b"next");
    }

    #[test]
    fn descriptors_ride_along_close_on_exec() {
        let (a, b) = SeqPacket::pair().unwrap();
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        a.send(b"take this", &[far.as_fd()]).unwrap();
        drop(far);
        let mut packet = b.receive().unwrap();
        assert_eq!(packet.descriptors.len(), 1);
        let fd = packet.descriptors.pop().unwrap();
        assert_eq!(fcntl(&fd, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
        let mut stream = std::os::unix::net::UnixStream::from(fd);
        stream.write_all(b"hello").unwrap();
        drop(stream);
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn too_many_descriptors_are_an_error_and_none_leaks() {
        let (a, b) = SeqPacket::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(a.send(b"x", &[null.as_fd(); 5]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        for (count, attest) in [(5, false), (12, false), (13, false), (200, false), (5, true), (200, true)] {
            if attest {
                b.attest_sender().unwrap();
            }
            let raw = vec![null.as_raw_fd(); count];
            socket::sendmsg::<()>(
                a.as_fd().as_raw_fd(),
                &[IoSlice::new(b"x")],
                &[ControlMessage::ScmRights(&raw)],
                MsgFlags::empty(),
                None,
            )
            .unwrap();
            let kind = b.receive().unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::InvalidData, "{count} {attest}");
        }
        // Other tests of this process open descriptors too: 200 leaked ones would stand out all the same.
        assert!(open_descriptors() < 200);
    }

    #[test]
    fn the_kernel_attests_the_sender() {
        let (a, b) = SeqPacket::pair().unwrap();
        b.attest_sender().unwrap();
        a.send(b"who am I", &[a.as_fd()]).unwrap();
        let packet = b.receive().unwrap();
        let sender = packet.sender.unwrap();
        assert_eq!(sender.pid as u32, std::process::id());
        assert_eq!(sender.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(packet.descriptors.len(), 1);
        assert_eq!(b.peer().unwrap().pid as u32, std::process::id());
    }

    #[test]
    fn a_packet_queued_before_attestation_names_nobody() {
        let (a, b) = SeqPacket::pair().unwrap();
        a.send(b"early", &[]).unwrap();
        b.attest_sender().unwrap();
        assert_eq!(b.receive().unwrap().sender, None);
    }

    #[test]
    fn receive_within_gives_up_in_time() {
        let (a, b) = SeqPacket::pair().unwrap();
        let start = Instant::now();
        let error = b.receive_within(Duration::from_millis(30)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(30));
        a.send(b"x", &[]).unwrap();
        assert_eq!(b.receive_within(Duration::ZERO).unwrap().data.as_slice(), b"x");
        b.set_nonblocking(true).unwrap();
        assert_eq!(b.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn other_sockets_are_refused() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(SeqPacket::from_fd(stream.into()).is_err());
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(SeqPacketListener::from_fd(tcp.into()).is_err());
        assert!(SeqPacket::from_fd(std::fs::File::open("/dev/null").unwrap().into()).is_err());
        let (a, b) = SeqPacket::pair().unwrap();
        assert!(SeqPacketListener::from_fd(a.into_fd()).is_err());
        assert!(SeqPacket::from_fd(b.into_fd()).is_ok());
    }

    #[test]
    fn listener_takes_over_a_dead_socket_file_only() {
        let folder = std::env::temp_dir().join(format!("ussh-os-seqpacket-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("admin");

        let listener = SeqPacketListener::bind(&path, 0o660).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
        assert_eq!(SeqPacketListener::bind(&path, 0o660).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let client = connect(&path).unwrap();
        // The bind above that was refused had knocked first.
        let _knock = listener.accept().unwrap();
        let server = listener.accept().unwrap();
        client.send(b"hello", &[]).unwrap();
        assert_eq!(server.receive().unwrap().data.as_slice(), b"hello");

        drop(listener);
        let again = SeqPacketListener::bind(&path, 0o600).unwrap();
        assert!(SeqPacketListener::from_fd(again.into_fd()).is_ok());

        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"not a socket").unwrap();
        assert_eq!(SeqPacketListener::bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
