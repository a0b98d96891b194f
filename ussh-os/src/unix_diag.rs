//! What the kernel knows of Unix sockets and tells nowhere else: which socket is at the other end of a connection (sock_diag(7), net/unix/diag.c).
//!
//! Sockets are named by their inode, as in `/proc/PID/fd/N -> socket:[INODE]`. Questions are answered for the network namespace of this process.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto,
};

/// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const HEADER: usize = 16;
/// linux/unix_diag.h `struct unix_diag_msg`
const MESSAGE: usize = 16;
const UDIAG_SHOW_NAME: u32 = 0x01;
const UDIAG_SHOW_PEER: u32 = 0x04;
const UDIAG_SHOW_ICONS: u32 = 0x08;
/// linux/unix_diag.h, the numbers of attributes.
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_ICONS: u16 = 3;
/// net/tcp_states.h
const TCP_LISTEN: u8 = 10;
/// Bits of an attribute's type that are none of its number (linux/netlink.h NLA_F_NESTED, NLA_F_NET_BYTEORDER).
const ATTRIBUTE_FLAGS: u16 = 0xc000;
/// The kernel answers with a page at most (net/unix/diag.c `unix_diag_get_exact`).
const ANSWER: usize = 64 * 1024;

/// Where a connection stands on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherEnd {
    /// Accepted: the socket of whoever accepted it.
    Accepted(u32),
    /// Nobody has accepted it yet, or whoever did has closed it.
    Nobody,
}

/// The socket of `stream` itself.
/// # Errors
/// fstat failed.
pub fn inode_of(stream: &UnixStream) -> io::Result<u32> {
    // get_next_ino() gives 32 bits (fs/inode.c).
    u32::try_from(nix::sys::stat::fstat(stream)?.st_ino).map_err(io::Error::other)
}

/// The other end of the connected socket `inode`.
/// # Errors
/// The kernel cannot be asked (no unix_diag), or knows no such socket.
pub fn other_end(inode: u32) -> io::Result<OtherEnd> {
    let answer = ask(inode, UDIAG_SHOW_PEER)?;
    let peer =
        attribute(&answer, UNIX_DIAG_PEER).and_then(|value| value.first_chunk().copied()).map(u32::from_ne_bytes);
    Ok(match peer {
        None | Some(0) => OtherEnd::Nobody,
        Some(peer) => OtherEnd::Accepted(peer),
    })
}

/// The connected sockets that wait to be accepted by the listening socket `inode`; none for another kind of socket.
/// # Errors
/// As [`other_end`].
pub fn waiting_at(inode: u32) -> io::Result<Vec<u32>> {
    let answer = ask(inode, UDIAG_SHOW_ICONS)?;
    let waiting = attribute(&answer, UNIX_DIAG_ICONS).unwrap_or_default();
    Ok(waiting.chunks_exact(4).filter_map(|one| Some(u32::from_ne_bytes(*one.first_chunk()?))).collect())
}

/// Where the socket `inode` was bound, if it is a listening stream socket in a file system; the path may hold something else since.
/// # Errors
/// As [`other_end`].
pub fn listening_path(inode: u32) -> io::Result<Option<PathBuf>> {
    let Answer { kind, state, attributes } = ask_all(inode, UDIAG_SHOW_NAME)?;
    let name = attribute(&attributes, UNIX_DIAG_NAME).unwrap_or_default();
    // The length that bind() was called with counts, and may have counted the NUL behind a path (net/unix/af_unix.c `unix_mkname_bsd`). An abstract name begins with one.
    let path = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_listener = i32::from(kind) == libc::SOCK_STREAM && state == TCP_LISTEN && path.starts_with(b"/");
    Ok(is_listener.then(|| PathBuf::from(OsStr::from_bytes(path))))
}

/// What a Unix socket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// It listens.
    pub listens: bool,
    /// It is a stream, and not datagrams or packets.
    pub is_stream: bool,
    /// Its name, or that of the listener that accepted it; empty: none. An abstract one begins with a NUL.
    pub name: Vec<u8>,
    /// The same of the other end, if it is connected.
    pub peer_name: Vec<u8>,
}

/// What the Unix socket `inode` is for.
/// # Errors
/// As [`other_end`]; `NotFound`: it is no Unix socket of this network namespace.
pub fn use_of(inode: u32) -> io::Result<Use> {
    let Answer { kind, state, attributes } = ask_all(inode, UDIAG_SHOW_NAME | UDIAG_SHOW_PEER)?;
    let name = |attributes: &[u8]| attribute(attributes, UNIX_DIAG_NAME).unwrap_or_default().to_vec();
    let peer = attribute(&attributes, UNIX_DIAG_PEER).and_then(|value| value.first_chunk().copied());
    let peer_name = match peer.map(u32::from_ne_bytes).filter(|peer| *peer != 0).map(|peer| ask(peer, UDIAG_SHOW_NAME))
    {
        Some(Ok(peer)) => name(&peer),
        // It has closed meanwhile, or there is none.
        Some(Err(e)) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => Vec::new(),
    };
    let listens = state == TCP_LISTEN;
    Ok(Use { listens, is_stream: i32::from(kind) == libc::SOCK_STREAM, name: name(&attributes), peer_name })
}

/// What the kernel says of one socket.
#[derive(Debug)]
struct Answer {
    /// SOCK_STREAM, …
    kind: u8,
    /// As TCP's.
    state: u8,
    attributes: Vec<u8>,
}

/// The attributes of the answer.
fn ask(inode: u32, show: u32) -> io::Result<Vec<u8>> {
    Ok(ask_all(inode, show)?.attributes)
}

fn ask_all(inode: u32, show: u32) -> io::Result<Answer> {
    let kernel =
        socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    sendto(kernel.as_raw_fd(), &request(inode, show), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    receive(&kernel, inode)
}

/// `struct nlmsghdr`, then `struct unix_diag_req`: one socket, in any state, whatever its cookie.
fn request(inode: u32, show: u32) -> Vec<u8> {
    let mut request = Vec::with_capacity(40);
    request.extend(40_u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    for word in [u32::MAX, inode, show, u32::MAX, u32::MAX] {
        request.extend(word.to_ne_bytes());
    }
    request
}

/// The kernel answers while it is asked: it is there already.
fn receive(kernel: &OwnedFd, inode: u32) -> io::Result<Answer> {
    let mut answer = vec![0; ANSWER];
    loop {
        let (length, from) = recvfrom::<NetlinkAddr>(kernel.as_raw_fd(), &mut answer)?;
        // Port 0 is the kernel; what anybody else sends here is no answer.
        if from.is_some_and(|from| from.pid() == 0) {
            answer.truncate(length);
            return parse(&answer, inode);
        }
    }
}

fn parse(answer: &[u8], inode: u32) -> io::Result<Answer> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let half = |at: usize| answer.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes);
    let word = |at: usize| answer.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    match half(4).ok_or_else(malformed)? {
        SOCK_DIAG_BY_FAMILY if word(HEADER + 4) == Some(inode) => {
            let &[_family, kind, state] = answer.get(HEADER..).and_then(|m| m.first_chunk()).ok_or_else(malformed)?;
            let attributes = answer.get(HEADER + MESSAGE..).ok_or_else(malformed)?.to_vec();
            Ok(Answer { kind, state, attributes })
        }
        NLMSG_ERROR => {
            let error = word(HEADER).ok_or_else(malformed)?.cast_signed();
            Err(io::Error::from_raw_os_error(error.saturating_neg()))
        }
        _ => Err(malformed()),
    }
}

/// `struct nlattr`: length with its own four bytes, type, value, padding to a multiple of four.
fn attribute(mut attributes: &[u8], number: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let value = attributes.get(4..length)?;
        if kind & !ATTRIBUTE_FLAGS == number {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn inode(socket: impl AsFd) -> u32 {
        nix::sys::stat::fstat(socket.as_fd()).unwrap().st_ino.try_into().unwrap()
    }

    #[test]
    fn tells_who_is_at_the_other_end_before_and_after_it_is_accepted() {
        let path = std::env::temp_dir().join(format!("ussh-os-diag-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mine = inode_of(&stream).unwrap();
        assert_eq!(other_end(mine).unwrap(), OtherEnd::Nobody);
        assert_eq!(waiting_at(inode(&listener)).unwrap(), [mine]);

        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(other_end(mine).unwrap(), OtherEnd::Accepted(inode(&accepted)));
        assert_eq!(waiting_at(inode(&listener)).unwrap(), []);
        assert_eq!(waiting_at(mine).unwrap(), [], "it does not listen");

        drop(accepted);
        assert_eq!(other_end(mine).unwrap(), OtherEnd::Nobody);
    }

    #[test]
    fn tells_where_a_stream_socket_listens_and_nothing_of_any_other() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram};

        let folder = std::env::temp_dir().join(format!("ussh-os-diag-paths-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        // As long as an address can be: 107 bytes and a NUL.
        let longest = folder.join("x".repeat(106 - folder.as_os_str().len()));
        for path in [folder.join("with space\nand a line"), longest] {
            let listener = UnixListener::bind(&path).unwrap();
            assert_eq!(listening_path(inode(&listener)).unwrap(), Some(path.clone()));
            let stream = UnixStream::connect(&path).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(listening_path(inode(&stream)).unwrap(), None);
            assert_eq!(listening_path(inode(&accepted)).unwrap(), None, "it has the listener's name");
        }
        let datagrams = UnixDatagram::bind(folder.join("datagrams")).unwrap();
        assert_eq!(listening_path(inode(&datagrams)).unwrap(), None);
        // What listens there is not asked as an agent is.
        let flags = SockFlag::SOCK_CLOEXEC;
        let packets = socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        socket::bind(packets.as_raw_fd(), &socket::UnixAddr::new(&folder.join("packets")).unwrap()).unwrap();
        socket::listen(&packets, socket::Backlog::new(1).unwrap()).unwrap();
        assert_eq!(listening_path(inode(&packets)).unwrap(), None);
        let name = SocketAddr::from_abstract_name(format!("/ussh-os-diag-{}", std::process::id())).unwrap();
        let hidden = UnixListener::bind_addr(&name).unwrap();
        assert_eq!(listening_path(inode(&hidden)).unwrap(), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn tells_what_a_socket_is_for() {
        let path = std::env::temp_dir().join(format!("ussh-os-diag-use-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        let here = path.as_os_str().as_bytes();
        // bind() may have counted the NUL behind the path.
        let clean = |socket: u32| {
            let Use { listens, name, peer_name, is_stream } = use_of(socket).unwrap();
            let cut = |name: Vec<u8>| name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            assert!(is_stream);
            (listens, cut(name), cut(peer_name))
        };
        assert_eq!(clean(inode(&listener)), (true, here.to_vec(), vec![]));
        assert_eq!(clean(inode(&accepted)), (false, here.to_vec(), vec![]));
        assert_eq!(clean(inode(&stream)), (false, vec![], here.to_vec()));
        assert_eq!(clean(inode(&one)), (false, vec![], vec![]));
        let network = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(use_of(inode(&network)).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error() {
        let (one, _other) = UnixStream::pair().unwrap();
        let gone = inode_of(&one).unwrap();
        drop(one);
        assert_eq!(other_end(gone).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_malformed_answer_is_an_error_and_no_attribute_is_found_in_junk() {
        assert!(parse(&[], 1).is_err());
        assert!(parse(&[0; 15], 1).is_err());
        assert!(parse(&[0; 64], 1).is_err(), "neither an answer nor an error");
        let mut answer = [0; HEADER + MESSAGE];
        answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        answer[HEADER + 4..HEADER + 8].copy_from_slice(&7_u32.to_ne_bytes());
        assert!(parse(&answer, 7).is_ok());
        assert!(parse(&answer, 8).is_err(), "of another socket");
        for junk in [&[][..], &[4], &[0, 0, 0, 0], &[3, 0, 2, 0], &[200, 0, 2, 0, 1], &[8, 0, 2, 0, 1, 2, 3]] {
            assert_eq!(attribute(junk, UNIX_DIAG_PEER), None, "{junk:?}");
        }
        let two = [6, 0, 9, 0, 7, 7, 0, 0, 8, 0, 2, 0, 1, 2, 3, 4];
        assert_eq!(attribute(&two, UNIX_DIAG_PEER), Some(&[1, 2, 3, 4][..]));
        let marked = (UNIX_DIAG_PEER | ATTRIBUTE_FLAGS).to_ne_bytes();
        let nested = [8, 0, marked[0], marked[1], 5, 6, 7, 8];
        assert_eq!(attribute(&nested, UNIX_DIAG_PEER), Some(&[5, 6, 7, 8][..]));
    }
}
