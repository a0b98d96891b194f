//! The cgroup of one session: all that it runs is in it, whatever it forks and whoever becomes its parent, and inside of it what stands still.
//!
//! Where logind makes a scope of each session that is the one. Elsewhere it is `ussh-sessions/PID-STARTTIME` below the group in which sshd left the session, made when the session's record appears, before its
//! user's first program has run; a session that was there before gets one when it is frozen, with what descends from its sshd then. sshd's own processes are in it too, and stay when the programs go to the inner
//! group, `ussh-frozen`, to be stopped: somebody must pass on what the agent says. Nobody but root can leave either.
//!
//! Nothing here waits for the programs: a system call may take as long as its caller likes, and who makes one stops, or ends, on his way out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::libc::SIGKILL;
use ussh_os::cgroup::Cgroup;
use ussh_os::process::ProcessHandle;
use ussh_os::process_tree::{parent_of, threads_of, with_mere_forks};
use ussh_os::sshd_connection::effective_uid_of;

use crate::begun::Whole;
use crate::connection::has_ended;
use crate::programs::descendants_of;
use crate::spool::ConnectionId;

/// Holds a group for each session.
const FOLDER: &str = "ussh-sessions";
/// In a session's group: what stands still, or has done so before.
const INNER: &str = "ussh-frozen";
/// sshd's programs of one connection and the one that listens (OpenSSH 10 has one of each kind).
const SSHD: [&str; 3] = ["sshd", "sshd-session", "sshd-auth"];
/// How long who ends a session by hand waits for what was killed to be gone.
const GONE: Duration = Duration::from_millis(250);
/// How often what a session forks meanwhile is looked for while it is brought in.
const ROUNDS: usize = 16;
/// How many are held at one time while they are moved.
const HELD_AT_ONCE: usize = 128;

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

    /// Stops all that is in it but for `sshd`, soon (see [`Cell::stands_still`]); how many processes were told to.
    /// # Errors
    /// As the kernel says; it is as before then.
    pub fn freeze(&self, sshd: &BTreeSet<u32>) -> io::Result<usize> {
        let frozen = self.inner.make().and_then(|()| self.inner.freeze()).and_then(|()| {
            self.gather(sshd)?;
            Ok(self.count())
        });
        if frozen.is_err() {
            // The first error is the one to tell.
            let _ = self.thaw();
        }
        frozen
    }

    /// Whether all that was told to stand still does by now: what is in a system call stops when it comes out of that.
    /// # Errors
    /// As the kernel says.
    pub fn stands_still(&self) -> io::Result<bool> {
        self.inner.wait_frozen(Duration::ZERO)
    }

    /// Brings what is in it, but for `sshd`, to what stands still; how many that were.
    /// # Errors
    /// As the kernel says.
    pub fn gather(&self, sshd: &BTreeSet<u32>) -> io::Result<usize> {
        if self.free(sshd)?.is_empty() {
            return Ok(0);
        }
        // Told to stop, none of them begins to fork, not even one that is in a system call (its fork fails, and is made anew once it may go on): only forks that have begun come to their end.
        self.group.freeze()?;
        let gathered = self.bring_all_in(sshd);
        self.group.thaw()?;
        gathered
    }

    /// Until a look finds nobody. Then there is nobody: one that is moved has its children where it is by then, and the kernel moves nobody in the midst of a birth. Who is moved is told to stop where he comes to,
    /// as he was before, whether he has come to that yet or not.
    fn bring_all_in(&self, sshd: &BTreeSet<u32>) -> io::Result<usize> {
        let mut count = 0;
        for _ in 0..ROUNDS {
            let free: Vec<u32> = self.free(sshd)?.into_iter().collect();
            if free.is_empty() {
                break;
            }
            for some in free.chunks(HELD_AT_ONCE) {
                count += self.bring_in(some)?;
            }
        }
        Ok(count)
    }

    /// By their numbers, which another process may get as soon as one has been killed and waited for. Who was held before he was found in the group, and lives after the move, had his all the while.
    fn bring_in(&self, found: &[u32]) -> io::Result<usize> {
        let mut held = hold(found)?;
        let inside = self.group.processes()?;
        held.retain(|pid, _| inside.contains(pid));
        self.inner.take_all(held.keys().copied())?;
        let ended: Vec<u32> = held.iter().filter(|(_, process)| has_ended(process)).map(|(pid, _)| *pid).collect();
        ended.iter().try_for_each(|pid| self.give_back(*pid))?;
        Ok(held.len() - ended.len())
    }

    /// Whoever has this number by now was born a moment ago: he belongs where his parent is.
    fn give_back(&self, pid: u32) -> io::Result<()> {
        if !self.inner.processes()?.contains(&pid) {
            return Ok(());
        }
        parent_of(pid).map_or(Ok(()), |parent| Cgroup::of(parent)?.take(pid))
    }

    fn free(&self, sshd: &BTreeSet<u32>) -> io::Result<BTreeSet<u32>> {
        let mut free = self.outside()?;
        free.retain(|pid| !sshd.contains(pid));
        let headless = self.headless(&free)?;
        Ok(free.difference(&headless).copied().collect())
    }

    /// What the kernel does not count to what stands still.
    fn outside(&self) -> io::Result<BTreeSet<u32>> {
        let all = self.group.processes()?;
        // In this order: what was outside at the first look, and is not at the second, was moved by us.
        let still = self.inner.processes()?;
        Ok(all.difference(&still).copied().collect())
    }

    /// Those of them that stand still all the same: their first thread has ended, where it was then, and all others were moved.
    fn headless(&self, outside: &BTreeSet<u32>) -> io::Result<BTreeSet<u32>> {
        let moved = if outside.is_empty() { BTreeSet::new() } else { self.inner.threads()? };
        let is_moved = |pid: u32| {
            let mut others = threads_of(pid).into_iter().filter(|thread| *thread != pid).peekable();
            others.peek().is_some() && others.all(|thread| moved.contains(&thread))
        };
        Ok(outside.iter().copied().filter(|pid| !moved.is_empty() && is_moved(*pid)).collect())
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
        self.inner.kill()?;
        let outside: Vec<u32> = self.headless(&self.outside()?)?.into_iter().collect();
        for some in outside.chunks(HELD_AT_ONCE) {
            let held = hold(some)?;
            // Whoever has its number now, it is held.
            for pid in self.headless(&some.iter().copied().collect())? {
                if let Some(process) = held.get(&pid)
                    && let Err(e) = process.signal(SIGKILL)
                    && !has_ended(process)
                {
                    return Err(e);
                }
            }
        }
        Ok(())
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

    /// How many were told to stand still, and live.
    pub fn count(&self) -> usize {
        let headless = self.outside().and_then(|outside| self.headless(&outside));
        self.inner.processes().map_or(0, |all| all.len()) + headless.map_or(0, |all| all.len())
    }

    /// Takes it away once sshd has ended, unless somebody lives in it: what the session has left behind stays where it is, until it ends too. Whether it is gone; one of logind's is left to that.
    pub fn leave(&self) -> bool {
        // Removed with the next one that is made beside it, if nobody does before.
        let inner = self.inner.remove();
        let group = if is_scope(&self.group) { Ok(()) } else { self.group.remove() };
        inner.and(group).is_ok()
    }

    /// The same when all of it was killed, which is waited for.
    pub fn leave_killed(&self) {
        // What does not end by SIGKILL within it sleeps in the kernel.
        let _ = self.group.wait_empty(GONE);
        self.leave();
    }
}

/// Those of them that there are.
fn hold(pids: &[u32]) -> io::Result<BTreeMap<u32, ProcessHandle>> {
    let held = pids.iter().map(|pid| (*pid, ProcessHandle::open_any(*pid)));
    let is_gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    held.filter(|(_, process)| !process.as_ref().is_err_and(is_gone))
        .map(|(pid, process)| Ok((pid, process?)))
        .collect()
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
