//! Where the person sits whose agent answers: for certificates with source-address.
//!
//! An address comes only from the record that our own session hook wrote in sshd's monitor, and only if an sshd process of that very connection holds the other end of the
//! connection to the agent: the agent then is at the other end of sshd's own, wherever its socket lies and whatever the user calls it. Everything else has no origin: an
//! ssh-agent of this host, a socket that the user forwards by other means, a session without a record.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

use ussh_core::record::{RecordError, SessionRecord};
use ussh_core::verdict::Origin;
use ussh_os::agent_socket::Peer;
use ussh_os::process_tree::{HeldProcess, ProcessId};
use ussh_os::sshd_connection::{NotCarried, carrier_of, monitors_of};

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
    /// No sshd of a recorded connection.
    #[error("pid {0} serves no recorded connection")]
    NoRecord(u32),
    /// The record is another user's.
    #[error("the connection is of uid {0}")]
    OtherUid(u32),
    /// The connection's sshd is not who answers.
    #[error("{0}")]
    NotCarried(#[from] NotCarried),
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
        let pid = u32::try_from(self.peer.pid).ok().filter(|pid| *pid != 0).ok_or(NotCarried::NotSeen)?;
        let (monitor, record) = self.record_of(ProcessId::of(pid).map_err(|_| NotCarried::NotSeen)?)?;
        let monitor = HeldProcess::open(monitor).map_err(|_| NotCarried::Ended)?;
        if record.uid != self.uid {
            return Err(NoOrigin::OtherUid(record.uid));
        }
        carrier_of(&monitor, self.peer, self.inode.get())?;
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

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
