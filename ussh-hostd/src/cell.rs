//! The cgroup of one session: all that it runs is in it, whatever it forks and whoever becomes its parent, and inside of it what stands still.
//!
//! Where logind makes a scope of each session that is the one. Elsewhere it is `ussh-sessions/PID-STARTTIME` below the group in which sshd left the session, made when the session's record appears, before its
//! user's first program has run; a session that was there before gets one when it is frozen, with what descends from its sshd then. sshd's own processes are in it too, and stay when the programs go to the inner
//! group, `ussh-frozen`, to be stopped: somebody must pass on what the agent says. Nobody but root can leave either.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use ussh_os::cgroup::Cgroup;
use ussh_os::process_tree::{parent_of, with_mere_forks};
use ussh_os::sshd_connection::effective_uid_of;

use crate::begun::Whole;
use crate::programs::descendants_of;
use crate::spool::ConnectionId;

/// Holds a group for each session.
const FOLDER: &str = "ussh-sessions";
/// In a session's group: what stands still, or has done so before.
const INNER: &str = "ussh-frozen";
/// sshd's programs of one connection and the one that listens (OpenSSH 10 has one of each kind).
const SSHD: [&str; 3] = ["sshd", "sshd-session", "sshd-auth"];
/// Longest wait for processes to stand still, or to be gone: they do it on their way out of the kernel, where some sleep long.
const STILL: Duration = Duration::from_millis(250);
/// How often what a session forks meanwhile is looked for while it is brought in.
const ROUNDS: usize = 16;

/// A session's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    group: Cgroup,
    inner: Cgroup,
}

/// What of it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// It goes on.
    Nothing,
    /// What stood still.
    Frozen,
    /// All of it.
    All,
}

/// What came of stopping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Processes that were told to stand still.
    pub processes: usize,
    /// All of them do.
    pub all: bool,
}

impl Cell {
    fn new(group: Cgroup) -> Self {
        let inner = group.child(INNER);
        Cell { group, inner }
    }

    /// The one of a connection; `None`: it has none.
    /// # Errors
    /// There are no cgroups here, or no such process.
    pub fn find(id: ConnectionId) -> io::Result<Option<Self>> {
        let at = Cgroup::of(id.pid)?;
        Ok((is_own(&at, id) || (is_scope(&at) && !is_shared(&at, id))).then(|| Cell::new(at)))
    }

    /// The same; it is made, and all that the session has running brought in, if there is none.
    /// # Errors
    /// As the kernel says.
    pub fn find_or_make(id: ConnectionId) -> io::Result<Self> {
        if let Some(cell) = Cell::find(id)? {
            return Ok(cell);
        }
        let folder = Cgroup::of(id.pid)?.child(FOLDER);
        let cell = Cell::new(folder.child(&id.stem()));
        cell.group.make()?;
        cell.group.take(id.pid)?;
        for _ in 0..ROUNDS {
            let inside = cell.group.processes()?;
            let outside: Vec<u32> = descendants_of(id.pid).difference(&inside).copied().collect();
            if outside.is_empty() {
                break;
            }
            cell.group.take_all(outside)?;
        }
        remove_abandoned(&folder);
        // What was taken by its number was this session's if that still lives.
        if id.lives() { Ok(cell) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// The one at `path`, in which a session stands still whose sshd is gone; `None`: nothing stands still there.
    pub fn left_behind(id: ConnectionId, path: &Path) -> Option<Self> {
        let cell = Cell::new(Cgroup::at(path).ok()?);
        ((is_own(&cell.group, id) || is_scope(&cell.group)) && cell.is_frozen()).then_some(cell)
    }

    /// The one that was noted, if that very group is there still: logind may have given its scope's name to another session since.
    pub fn noted(id: ConnectionId, whole: &Whole) -> Option<Self> {
        let group = Cgroup::at(&whole.group).ok()?;
        let is_its = is_own(&group, id) || is_scope(&group);
        (is_its && group.inode().ok() == Some(whole.inode)).then(|| Cell::new(group))
    }

    /// All of it, to be noted.
    /// # Errors
    /// It is not there.
    pub fn whole(&self) -> io::Result<Whole> {
        Ok(Whole { group: self.path().into(), inode: self.group.inode()? })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.group.path()
    }

    /// Lets sshd go on, which a daemon that was killed while it brought something in has left stopped with the rest.
    /// # Errors
    /// As the kernel says.
    pub fn free_sshd(&self) -> io::Result<()> {
        if self.group.is_told_to_stop() { self.group.thaw() } else { Ok(()) }
    }

    /// Whether it was told to stand still.
    pub fn is_frozen(&self) -> bool {
        self.inner.is_told_to_stop()
    }

    /// The whole of it.
    pub fn group(&self) -> &Cgroup {
        &self.group
    }

    /// One in it that is not the session's, if there is any: an sshd of root's that somebody started anew from the session, with all that came over it since, or this very process.
    /// Stopping or ending all of it would lock everybody out. What the session's own sshd has forked is its own as long as it executes nothing: a program on its way, and `internal-sftp`, which is root's in a session of root's.
    /// # Errors
    /// As the kernel says.
    pub fn stranger(&self, id: ConnectionId) -> io::Result<Option<u32>> {
        let inside = self.group.processes()?;
        let own = with_mere_forks(id);
        let others = inside.into_iter().filter(|pid| !own.contains(pid));
        let is_stranger = |pid: &u32| *pid == std::process::id() || is_sshd_of_root(*pid);
        Ok(others.into_iter().find(is_stranger))
    }

    /// Stops all that is in it but for `sshd`.
    /// # Errors
    /// As the kernel says; it is as before then.
    pub fn freeze(&self, sshd: &BTreeSet<u32>) -> io::Result<Stopped> {
        let frozen = self.inner.make().and_then(|()| self.inner.freeze()).and_then(|()| {
            self.gather(sshd)?;
            let all = self.inner.wait_frozen(STILL)?;
            Ok(Stopped { processes: self.inner.processes()?.len(), all })
        });
        if frozen.is_err() {
            // The first error is the one to tell.
            let _ = self.thaw();
        }
        frozen
    }

    /// Brings what is in it, but for `sshd`, to what stands still; how many that were.
    /// # Errors
    /// As the kernel says.
    pub fn gather(&self, sshd: &BTreeSet<u32>) -> io::Result<usize> {
        if self.free(sshd)?.is_empty() {
            return Ok(0);
        }
        // While nobody in it can move nothing is forked behind the look, and no number goes to anybody else.
        self.group.freeze()?;
        let gathered = self.group.wait_frozen(STILL).and_then(|_| {
            let free = self.free(sshd)?;
            let count = free.len();
            self.inner.take_all(free)?;
            Ok(count)
        });
        self.group.thaw()?;
        gathered
    }

    fn free(&self, sshd: &BTreeSet<u32>) -> io::Result<BTreeSet<u32>> {
        let still = self.inner.processes()?;
        Ok(self.group.processes()?.into_iter().filter(|pid| !still.contains(pid) && !sshd.contains(pid)).collect())
    }

    /// Brings a process in that was born by sshd and has not run yet.
    /// # Errors
    /// As the kernel says.
    pub fn take_newborn(&self, pid: u32) -> io::Result<()> {
        self.inner.take(pid)
    }

    /// Lets it go on.
    /// # Errors
    /// As the kernel says.
    pub fn thaw(&self) -> io::Result<()> {
        self.free_sshd()?;
        if self.inner.exists() { self.inner.thaw() } else { Ok(()) }
    }

    /// SIGKILL to what stands still.
    /// # Errors
    /// As the kernel says.
    pub fn kill(&self) -> io::Result<()> {
        self.inner.kill()
    }

    /// SIGKILL to all that is in it; sshd has ended.
    /// # Errors
    /// As the kernel says.
    pub fn kill_all(&self) -> io::Result<()> {
        match self.group.kill() {
            // Nobody was in it any more, and it was taken away.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// How many stand still.
    pub fn count(&self) -> usize {
        self.inner.processes().map_or(0, |all| all.len())
    }

    /// Takes it away once sshd has ended, unless somebody lives in it: what the session has left behind stays where it is, until it ends too. What was killed is waited for.
    pub fn leave(&self, killed: Killed) {
        // What does not end by SIGKILL within it sleeps in the kernel.
        let _ = match killed {
            Killed::Nothing => Ok(true),
            Killed::Frozen => self.inner.wait_empty(STILL),
            Killed::All => self.group.wait_empty(STILL),
        };
        // Removed with the next one that is made beside it, if not now.
        let _ = self.inner.remove();
        if !is_scope(&self.group) {
            let _ = self.group.remove();
        }
    }
}

/// One that is made here.
fn is_own(group: &Cgroup, id: ConnectionId) -> bool {
    group.name() == id.stem() && group.parent().is_some_and(|parent| parent.name() == FOLDER)
}

/// logind's, of one session (systemd's naming, logind-session.c `session_start_scope`).
fn is_scope(group: &Cgroup) -> bool {
    group.name().strip_prefix("session-").is_some_and(|rest| rest.ends_with(".scope"))
}

/// Whether the sshd that listens is in it too: somebody started that from a session, and all its connections are in there unless they were moved.
fn is_shared(group: &Cgroup, id: ConnectionId) -> bool {
    parent_of(id.pid).is_none_or(|listener| Cgroup::of(listener).is_ok_and(|its| its == *group))
}

/// By its file's name: after an upgrade the one that runs and the one that listens may be two files.
fn is_sshd_of_root(pid: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe"));
    let name = program.as_ref().ok().and_then(|program| program.file_name()?.to_str()).unwrap_or_default();
    SSHD.contains(&name.trim_end_matches(" (deleted)")) && effective_uid_of(pid) == Some(0)
}

fn remove_abandoned(folder: &Cgroup) {
    for group in folder.children() {
        if ConnectionId::parse(group.name()).is_some_and(|id| !id.lives()) {
            // Somebody who was left behind may live in it still.
            let _ = group.remove();
        }
    }
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
