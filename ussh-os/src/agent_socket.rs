//! Connecting to a user's agent socket as that user, from a process that is root (sudo, su, sshd, ussh-hostd).

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

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
    /// The one who listens is not that user.
    #[error("the agent belongs to uid {0}")]
    WrongPeer(u32),
    /// Not in time.
    #[error("no connection in time")]
    Timeout,
}

/// Connects with uid's full identity (uid, gid, supplementary groups `groups`, no capability): a short-lived child does it and passes the descriptor back,
/// or raw per-thread credential calls; never libc's process-wide ones. Leaves no child, handler, mask or credential changed behind. The peer's uid must be `uid`.
/// When the caller already runs as uid with no privilege, it just connects.
/// # Errors
/// [`ConnectError`]
pub fn connect_as(uid: u32, gid: u32, groups: &[u32], path: &Path, timeout: Duration) -> Result<(UnixStream, Peer), ConnectError> {
    let _ = (uid, gid, groups, path, timeout);
    todo!()
}

/// SO_PEERCRED of a connected stream.
/// # Errors
/// getsockopt failed.
pub fn peer_of(stream: &UnixStream) -> std::io::Result<Peer> {
    let _ = stream;
    todo!()
}
