//! Connecting to a user's agent socket as that user, from a process that is root (sudo, su, sshd, ussh-hostd).
//!
//! Untrusted: the path, what lies there, and how long it takes to get there (a FUSE folder of the user's may hang for ever).
//!
//! A short-lived child takes on the user's identity and calls connect() on its copy of our descriptor (`connecting_child`): the socket behind both is one. So this process never
//! changes its own credentials and cannot fail to get them back, and a lookup that hangs ends for us at the deadline.
//! One that must get through where the host has no process left for a child changes those of one thread of its own instead ([`connect_as_or_here`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::getresuid;

use crate::connecting_child::ConnectingChild;
use crate::file_identity::{FileIdentity, known_socket};

/// Who is at the other end, by SO_PEERCRED, at the time of its listen().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process ID (0: in another pid namespace).
    pub pid: i32,
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not absolute, too long for sun_path, holds NUL, or an abstract name.
    #[error("not a usable socket path")]
    Path,
    /// connect() failed, as that user.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The host has no process for the child.
    #[error("no process could be started: {0}")]
    NoChild(std::io::Error),
    /// The one who listens is not that user.
    #[error("the agent belongs to uid {0}")]
    WrongPeer(u32),
    /// Not in time.
    #[error("no connection in time")]
    Timeout,
}

/// Connects with uid's full identity (uid, gid, supplementary groups `groups`, no capability): a short-lived child does it.
/// Leaves no child, handler, mask or credential changed behind. The peer's uid must be `uid`.
/// When the caller already runs as uid with no privilege, or uid is root and so is the caller, it just connects.
/// # Errors
/// [`ConnectError`]
pub fn connect_as(
    uid: u32,
    gid: u32,
    groups: &[u32],
    path: &Path,
    timeout: Duration,
) -> Result<(UnixStream, Peer), ConnectError> {
    let deadline = Instant::now() + timeout;
    start_connecting(uid, gid, groups, path)?.finish(deadline)
}

/// [`connect_as`], and where no child can be started this very thread connects, being that user to the file system alone (`file_identity`): the listener sees this process's own user, and
/// no file system is asked for the way. So one whose entries change without the kernel's knowing (of a network, FUSE) may not be reached.
/// # Errors
/// [`ConnectError`]
pub fn connect_as_or_here(
    uid: u32,
    gid: u32,
    groups: &[u32],
    path: &Path,
    timeout: Duration,
) -> Result<(UnixStream, Peer), ConnectError> {
    match connect_as(uid, gid, groups, path, timeout) {
        Err(ConnectError::NoChild(_)) => connect_here(uid, gid, groups, path, Instant::now() + timeout),
        made => made,
    }
}

fn connect_here(
    uid: u32,
    gid: u32,
    groups: &[u32],
    path: &Path,
    deadline: Instant,
) -> Result<(UnixStream, Peer), ConnectError> {
    let (_, fd) = (address_of(path)?, new_socket()?);
    let user = FileIdentity::take_on(uid, gid, groups)?;
    let connected = connect_as_known(&fd, path, deadline);
    drop(user);
    connected?;
    of_user(fd, uid)
}

fn connect_as_known(fd: &OwnedFd, path: &Path, deadline: Instant) -> Result<(), ConnectError> {
    let known = known_socket(path)?;
    let by_descriptor = format!("/proc/self/fd/{}", known.as_raw_fd());
    connect_within(fd, &address_of(Path::new(&by_descriptor))?, deadline)
}

/// [`connect_as`] in two parts: the child connects while this process does something else. A drop of what it gives ends the child.
/// # Errors
/// [`ConnectError`]
pub fn start_connecting(uid: u32, gid: u32, groups: &[u32], path: &Path) -> Result<Connecting, ConnectError> {
    let address = address_of(path)?;
    let fd = new_socket()?;
    let way = if is_only(uid)? {
        Way::Directly(address)
    } else {
        Way::ByChild(ConnectingChild::start(fd.as_raw_fd(), address, uid, gid, groups)?)
    };
    Ok(Connecting { way, fd, uid })
}

/// A connection that is being made.
#[derive(Debug)]
#[must_use]
pub struct Connecting {
    // Dropped before the descriptor: until the child has ended, it may look at its number.
    way: Way,
    fd: OwnedFd,
    uid: u32,
}

#[derive(Debug)]
enum Way {
    Directly(UnixAddr),
    ByChild(ConnectingChild),
}

impl Connecting {
    /// The connection, by the deadline. The peer's uid must be the one that was named.
    /// # Errors
    /// [`ConnectError`]
    pub fn finish(self, deadline: Instant) -> Result<(UnixStream, Peer), ConnectError> {
        match self.way {
            Way::Directly(address) => connect_within(&self.fd, &address, deadline)?,
            Way::ByChild(child) => child.finish(deadline)?,
        }
        of_user(self.fd, self.uid)
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(io::Error::from)
}

/// A connection that is made, if it leads to that user.
fn of_user(connected: OwnedFd, uid: u32) -> Result<(UnixStream, Peer), ConnectError> {
    let stream = UnixStream::from(connected);
    let peer = peer_of(&stream)?;
    if peer.uid != uid {
        return Err(ConnectError::WrongPeer(peer.uid));
    }
    Ok((stream, peer))
}

/// SO_PEERCRED of a connected stream.
/// # Errors
/// getsockopt failed.
pub fn peer_of(stream: &UnixStream) -> std::io::Result<Peer> {
    peer_of_fd(stream.as_fd())
}

pub(crate) fn peer_of_fd(fd: BorrowedFd<'_>) -> io::Result<Peer> {
    let credentials = socket::getsockopt(&fd, sockopt::PeerCredentials)?;
    Ok(Peer { pid: credentials.pid(), uid: credentials.uid(), gid: credentials.gid() })
}

fn address_of(path: &Path) -> Result<UnixAddr, ConnectError> {
    if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
        return Err(ConnectError::Path);
    }
    UnixAddr::new(path).map_err(|_| ConnectError::Path)
}

/// Whether this process is nobody but uid already: no other user ID to go back to, and (unless it is root itself) no capability.
fn is_only(uid: u32) -> io::Result<bool> {
    let ids = getresuid()?;
    if [ids.real, ids.effective, ids.saved].iter().any(|id| id.as_raw() != uid) {
        return Ok(false);
    }
    Ok(uid == 0 || caps::read(None, caps::CapSet::Effective).map_err(io::Error::other)?.is_empty())
}

/// connect() in this very process. A listener whose queue is full makes it wait, at most until the deadline (SO_SNDTIMEO, socket(7)).
fn connect_within(fd: &OwnedFd, address: &UnixAddr, deadline: Instant) -> Result<(), ConnectError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnectError::Timeout);
        }
        // Zero would mean "for ever".
        let microseconds = i64::try_from(left.as_micros().max(1)).unwrap_or(i64::MAX);
        let limit = TimeVal::new(microseconds / 1_000_000, microseconds % 1_000_000);
        socket::setsockopt(fd, sockopt::SendTimeout, &limit).map_err(io::Error::from)?;
        match socket::connect(fd.as_raw_fd(), address) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(ConnectError::Timeout),
            Err(errno) => return Err(io::Error::from(errno).into()),
            Ok(()) => {
                socket::setsockopt(fd, sockopt::SendTimeout, &TimeVal::new(0, 0)).map_err(io::Error::from)?;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use nix::unistd::geteuid;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    const LONG: Duration = Duration::from_secs(10);
    const ALICE: u32 = 61001;
    const BOB: u32 = 61002;
    const TEAM: u32 = 61003;

    struct Folder(PathBuf);
    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ussh-os-agent-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Folder(path)
        }
        /// Listens with the given owner and mode of the file; the peer is this process.
        fn listener(&self, name: &str, uid: u32, gid: u32, mode: u32) -> (UnixListener, PathBuf) {
            let path = self.0.join(name);
            let listener = UnixListener::bind(&path).unwrap();
            chown(&path, Some(uid), Some(gid)).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            (listener, path)
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// What must not have changed afterwards.
    fn state() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let keep = [
            "Uid:",
            "Gid:",
            "Groups:",
            "SigBlk:",
            "SigIgn:",
            "SigCgt:",
            "CapInh:",
            "CapPrm:",
            "CapEff:",
            "CapBnd:",
            "CapAmb:",
            "NoNewPrivs:",
        ];
        status.lines().filter(|line| keep.iter().any(|k| line.starts_with(k))).collect::<Vec<_>>().join("\n")
    }

    fn children() -> String {
        let id = std::process::id();
        std::fs::read_to_string(format!("/proc/{id}/task/{}/children", nix::unistd::gettid())).unwrap()
    }

    fn root() -> bool {
        geteuid().is_root()
    }

    #[test]
    fn refuses_unusable_paths() {
        for path in ["", "agent.sock", "\0abstract", "/tmp/a\0b", &format!("/{}", "a".repeat(200))] {
            let result = connect_as(geteuid().as_raw(), 0, &[], Path::new(path), LONG);
            assert!(matches!(result, Err(ConnectError::Path)), "{path:?}: {result:?}");
        }
    }

    #[test]
    fn connects_as_oneself() {
        let folder = Folder::new("self");
        let path = folder.0.join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let uid = geteuid().as_raw();
        let (_, peer) = connect_as(uid, 0, &[], &path, LONG).unwrap();
        assert_eq!(peer.uid, uid);
        assert_eq!(peer.pid as u32, std::process::id());
    }

    #[test]
    fn the_user_reaches_only_what_the_user_may() {
        if !root() {
            return;
        }
        the_user_reaches_only_what_the_user_may_by("modes", |groups, path| {
            connect_as(ALICE, ALICE, groups, path, LONG)
        });
        the_user_reaches_only_what_the_user_may_by("modes-here", |groups, path| {
            connect_here(ALICE, ALICE, groups, path, Instant::now() + LONG)
        });
    }

    /// /proc's own links lead anywhere: into the user's mount namespaces, where file systems are as he likes.
    #[test]
    fn nobody_s_open_folder_is_a_way_for_a_thread_of_ours() {
        if !root() {
            return;
        }
        let folder = Folder::new("magic");
        let (_listener, own) = folder.listener("own", ALICE, 0, 0o600);
        let (through, linked) = (folder.0.join("through"), folder.0.join("linked"));
        let cwd = format!("/proc/{}/cwd", std::process::id());
        let elsewhere = std::env::current_dir().unwrap();
        let up = "../".repeat(elsewhere.components().count());
        std::os::unix::fs::symlink(format!("{cwd}/{up}{}", own.display()), &through).unwrap();
        std::os::unix::fs::symlink("own", &linked).unwrap();
        // A link that is read for the first time has its time of access written.
        let was_read =
            |link: &Path| std::fs::symlink_metadata(link).is_ok_and(|m| m.accessed().unwrap() > m.modified().unwrap());
        let deadline = Instant::now() + LONG;
        while !was_read(&linked) && Instant::now() < deadline {
            assert!(linked.exists());
        }
        let here = |path: &Path| connect_here(ALICE, ALICE, &[], path, Instant::now() + LONG);
        assert!(connect_as(0, 0, &[], &through, LONG).is_ok(), "it leads there");
        assert!(matches!(here(&linked), Err(ConnectError::WrongPeer(0))), "an ordinary link does");
        let refused = here(&through);
        assert!(matches!(refused, Err(ConnectError::Io(_))), "{refused:?}");
    }

    type Connect = fn(&[u32], &Path) -> Result<(UnixStream, Peer), ConnectError>;

    fn the_user_reaches_only_what_the_user_may_by(name: &str, connect: Connect) {
        let folder = Folder::new(name);
        let denied = |path: &Path, groups: &[u32]| match connect(groups, path) {
            Err(ConnectError::Io(error)) => error.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        };
        // Whoever gets through meets us, uid 0: WrongPeer says that the connection itself was made.
        let reached = |path: &Path, groups: &[u32]| matches!(connect(groups, path), Err(ConnectError::WrongPeer(0)));
        let before = state();

        let (_a, own) = folder.listener("own", ALICE, 0, 0o600);
        assert!(reached(&own, &[]));
        let (_b, other) = folder.listener("other", BOB, 0, 0o600);
        assert!(denied(&other, &[]));
        let (_c, roots) = folder.listener("roots", 0, 0, 0o600);
        assert!(denied(&roots, &[]), "no capability of ours may open it");
        let (_d, teams) = folder.listener("teams", 0, TEAM, 0o660);
        assert!(denied(&teams, &[]));
        assert!(denied(&teams, &[BOB]));
        assert!(reached(&teams, &[BOB, TEAM]));
        let (_e, primary) = folder.listener("primary", 0, ALICE, 0o660);
        assert!(reached(&primary, &[]));
        let (_f, root_group) = folder.listener("root-group", 0, 0, 0o660);
        assert!(denied(&root_group, &[]), "none of our own groups may open it");

        assert!(
            matches!(connect(&[], &folder.0.join("none")), Err(ConnectError::Io(e)) if e.kind() == io::ErrorKind::NotFound)
        );
        assert_eq!(state(), before);
        assert_eq!(children(), "");
    }

    #[test]
    fn the_user_s_own_agent_is_accepted_and_sees_the_user() {
        if !root() {
            return;
        }
        let folder = Folder::new("own-agent");
        std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o700)).unwrap();
        chown(&folder.0, Some(ALICE), Some(ALICE)).unwrap();
        let path = folder.0.join("s");
        let id = ALICE.to_string();
        let mut agent = std::process::Command::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "ssh-agent", "-D", "-a"])
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // ssh-agent prints its socket once it listens.
        let mut first = [0u8; 1];
        io::Read::read_exact(agent.stdout.as_mut().unwrap(), &mut first).unwrap();
        let result = connect_as(ALICE, ALICE, &[], &path, LONG);
        agent.kill().unwrap();
        agent.wait().unwrap();
        let (stream, peer) = result.unwrap();
        assert_eq!((peer.uid, peer.pid as u32), (ALICE, agent.id()));
        assert!(stream.write_timeout().unwrap().is_none());
    }

    #[test]
    fn a_connection_that_is_given_up_leaves_no_child_and_nothing_changed() {
        if !root() {
            return;
        }
        let folder = Folder::new("given-up");
        let (listener, path) = folder.listener("s", ALICE, 0, 0o600);
        let before = state();
        // One that has connected already, and one that waits for a place in the queue.
        // SAFETY: listen(2) on an open descriptor: shortens the queue.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let first = start_connecting(ALICE, ALICE, &[], &path).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert_eq!(peer_of(&stream).unwrap().uid, ALICE);
        let _queued = UnixStream::connect(&path).unwrap();
        let second = start_connecting(ALICE, ALICE, &[], &path).unwrap();
        drop(first);
        assert_ne!(children(), "", "the second one's");
        drop(second);
        assert_eq!((state(), children()), (before, String::new()));
    }

    #[test]
    fn the_listener_sees_the_user_without_capabilities() {
        if !root() {
            return;
        }
        let folder = Folder::new("seen");
        let (listener, path) = folder.listener("s", ALICE, 0, 0o600);
        assert!(matches!(connect_as(ALICE, BOB, &[], &path, LONG), Err(ConnectError::WrongPeer(0))));
        let (stream, _) = listener.accept().unwrap();
        let peer = peer_of(&stream).unwrap();
        assert_eq!((peer.uid, peer.gid), (ALICE, BOB));
    }

    #[test]
    fn a_listener_that_does_not_accept_costs_the_timeout_only() {
        let folder = Folder::new("full");
        let (listener, path) = folder.listener("s", ALICE, 0, 0o666);
        // SAFETY: listen(2) on an open descriptor: shortens the queue.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let _first = UnixStream::connect(&path).unwrap();
        let before = state();
        let users = if root() { vec![ALICE, 0] } else { vec![geteuid().as_raw()] };
        for uid in users {
            let start = Instant::now();
            let result = connect_as(uid, uid, &[], &path, Duration::from_millis(60));
            assert!(matches!(result, Err(ConnectError::Timeout)), "{uid}: {result:?}");
            assert!(start.elapsed() >= Duration::from_millis(55) && start.elapsed() < Duration::from_secs(5));
        }
        if root() {
            let deadline = Instant::now() + Duration::from_millis(60);
            assert!(matches!(connect_here(ALICE, ALICE, &[], &path, deadline), Err(ConnectError::Timeout)));
            assert!(Instant::now() < deadline + Duration::from_secs(5));
        }
        assert_eq!(state(), before);
        assert_eq!(children(), "");
    }
}
