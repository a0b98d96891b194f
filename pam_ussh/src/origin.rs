//! Where the person sits whose agent answers: for certificates with source-address.
//!
//! An address comes only from the record that our own session hook wrote in sshd's monitor, and only if an sshd process of that very connection holds the other end of the
//! connection to the agent: the agent then is at the other end of sshd's own, wherever its socket lies and whatever the user calls it. Everything else has no origin: an
//! ssh-agent of this host, a socket that the user forwards by other means, a session without a record.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ussh_core::record::{RecordError, SessionRecord};
use ussh_core::verdict::Origin;
use ussh_os::agent_socket::Peer;
use ussh_os::process::ProcessHandle;
use ussh_os::process_tree::ProcessId;
use ussh_os::sshd_connection::{holds_other_end, monitors_of};

use crate::records::{self, Found};

/// The origin of one connection to an agent.
#[derive(Clone, Copy)]
pub struct AgentOrigin<'a> {
    /// Whose records count: the caller's real user ID.
    pub uid: u32,
    /// Who listened: a hint where to look, no more.
    pub peer: Peer,
    /// Inode of our end of the connection that is in use.
    pub inode: &'a Cell<u32>,
    /// Where records lie.
    pub spool: &'a Path,
    /// What is told of it.
    pub debug: &'a dyn Fn(&str),
    /// Whether it is told already: an agent may list hundreds of certificates that ask for an origin, and the lines of the log are counted.
    pub is_told: &'a Cell<bool>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
enum NoOrigin {
    /// It runs in another pid namespace, or has ended.
    #[error("the agent's process is not to be seen here")]
    NotSeen,
    /// No sshd of a recorded connection.
    #[error("pid {0} serves no recorded connection")]
    NoRecord(u32),
    /// The record is another user's.
    #[error("the connection is of uid {0}")]
    OtherUid(u32),
    /// The number tells of sshd, the kernel does not.
    #[error("pid {0} is sshd's, but does not hold the agent's socket")]
    NotHeld(u32),
    /// It ended while it was looked at.
    #[error("the connection has ended")]
    Ended,
    /// A host name, or none.
    #[error("the record has no address")]
    NoAddress,
    /// It is for root to read: the module can, a tool of the user's cannot.
    #[error("record of {0}: {1}")]
    Hidden(ProcessId, std::io::Error),
    /// It could not be found out.
    #[error("{0}")]
    Unavailable(String),
}

impl Origin for AgentOrigin<'_> {
    fn address(&self) -> Result<IpAddr, String> {
        let found = self.find();
        if !self.is_told.replace(true) {
            match &found {
                Ok((address, monitor)) => (self.debug)(&format!("origin is {address}, by the record of {monitor}")),
                Err(why) => (self.debug)(&format!("no origin: {why}")),
            }
        }
        found.map(|(address, _)| address).map_err(|why| why.to_string())
    }
}

impl std::fmt::Debug for AgentOrigin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentOrigin").field("uid", &self.uid).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl AgentOrigin<'_> {
    /// Whether there may be one that this process may not read.
    pub(crate) fn is_hidden(&self) -> bool {
        matches!(self.find(), Err(NoOrigin::Hidden(..)))
    }

    fn find(&self) -> Result<(IpAddr, ProcessId), NoOrigin> {
        let pid = u32::try_from(self.peer.pid).ok().filter(|pid| *pid != 0).ok_or(NoOrigin::NotSeen)?;
        let sshd = Held::open(ProcessId::of(pid).map_err(|_| NoOrigin::NotSeen)?)?;
        let (monitor, record) = self.record_of(sshd.id)?;
        let monitor = Held::open(monitor)?;
        if record.uid != self.uid {
            return Err(NoOrigin::OtherUid(record.uid));
        }
        match holds_other_end(pid, self.inode.get()) {
            Ok(true) => {}
            Ok(false) => return Err(NoOrigin::NotHeld(pid)),
            Err(error) => return Err(NoOrigin::Unavailable(format!("sock_diag: {error}"))),
        }
        are_still(&sshd, &monitor)?;
        let address = record.rhost.parse().map_err(|_| NoOrigin::NoAddress)?;
        Ok((address, monitor.id))
    }

    /// The record of the connection that a process serves: as a child of the monitor, or (root's login up to OpenSSH 9.7) as the monitor.
    fn record_of(&self, sshd: ProcessId) -> Result<(ProcessId, SessionRecord), NoOrigin> {
        for monitor in monitors_of(sshd) {
            match records::read(self.spool, monitor) {
                Ok(Found::Live(record)) => return Ok((monitor, *record)),
                Ok(Found::Nothing) => {}
                Err(RecordError::Io(error)) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(NoOrigin::Hidden(monitor, error));
                }
                Err(error) => return Err(NoOrigin::Unavailable(format!("record of {monitor}: {error}"))),
            }
        }
        Err(NoOrigin::NoRecord(sshd.pid))
    }
}

/// All that was read is of these two processes only if they have lived all the while, and are still what they were to each other.
fn are_still(sshd: &Held, monitor: &Held) -> Result<(), NoOrigin> {
    let is_so = monitors_of(sshd.id).contains(&monitor.id) && !sshd.has_ended() && !monitor.has_ended();
    if is_so { Ok(()) } else { Err(NoOrigin::Ended) }
}

/// A process that is told from any other that gets its number.
struct Held {
    id: ProcessId,
    handle: ProcessHandle,
}

impl Held {
    fn open(id: ProcessId) -> Result<Self, NoOrigin> {
        let handle = ProcessHandle::open(id.pid, id.start_time).map_err(|_| NoOrigin::Ended)?;
        Ok(Held { id, handle })
    }

    /// One that cannot be asked counts as ended: it proves nothing.
    fn has_ended(&self) -> bool {
        self.handle.wait_end(Duration::ZERO).unwrap_or(true)
    }
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
