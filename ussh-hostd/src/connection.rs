//! The processes of one sshd connection: the one that ran open_session (the monitor), sshd's children of it, and their terminals.
//!
//! Every process is held by pidfd, by what told it from others when it was opened (its start time, or that it is the monitor's child), so that nothing here ever reaches another one that got the same number.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ussh_os::cgroup::Cgroup;
use ussh_os::process::ProcessHandle;
use ussh_os::process_tree::parent_of;
use ussh_os::sshd_connection::numbers_of_sshd_children;
use ussh_os::terminal;

use crate::last_word::LastWord;
use crate::programs::{Programs, Share};
use crate::spool::ConnectionId;

/// So long sshd is left alone while its programs are stopped: none of these is to be nobody's child before it is found, and nobody is to keep a connection by starting others without end.
const SSHD_WAITS: Duration = Duration::from_secs(1);

/// One of sshd's own processes.
#[derive(Clone, Debug)]
pub struct SshdProcess {
    pub pid: u32,
    process: Arc<ProcessHandle>,
}

impl SshdProcess {
    /// Whether it is the one that has this number now.
    pub fn is(&self, pid: u32) -> bool {
        self.pid == pid && !has_ended(&self.process)
    }
}

/// A connection's processes.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    monitor: Arc<ProcessHandle>,
    /// sshd's children that were seen so far.
    children: Vec<SshdProcess>,
    /// What the session had running when its end was begun.
    programs: Programs,
    /// SIGKILL was sent, although the programs' may be on its way.
    is_sshd_killed: bool,
}

impl Connection {
    /// Holds the process.
    /// # Errors
    /// `NotFound`: it has ended; others as the kernel says.
    pub fn open(id: ConnectionId) -> io::Result<Self> {
        Ok(Connection {
            id,
            monitor: Arc::new(ProcessHandle::open(id.pid, id.start_time)?),
            children: Vec::new(),
            programs: Programs::default(),
            is_sshd_killed: false,
        })
    }

    /// To poll on: readable when the monitor has ended.
    pub fn monitor(&self) -> &ProcessHandle {
        &self.monitor
    }

    /// The sshd children seen so far that still live.
    pub fn children(&self) -> impl Iterator<Item = &ProcessHandle> {
        self.children.iter().map(|child| &*child.process).filter(|process| !has_ended(process))
    }

    /// Whether the monitor has ended.
    pub fn monitor_ended(&self) -> bool {
        has_ended(&self.monitor)
    }

    /// Looks for sshd's children and holds them, so that they can be reached after the monitor has ended.
    pub fn hold_children(&mut self) {
        for pid in numbers_of_sshd_children(self.id.pid) {
            if self.children.iter().any(|child| child.is(pid)) {
                continue;
            }
            let Ok(process) = ProcessHandle::open_any(pid).map(Arc::new) else { continue };
            let child = SshdProcess { pid, process };
            // Still the monitor's child while both live: it was this connection's all along.
            if parent_of(pid) == Some(self.id.pid) && child.is(pid) && !self.monitor_ended() {
                self.children.push(child);
            }
        }
    }

    /// What the session had running, held by [`Connection::hold_programs`].
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    #[cfg(test)]
    pub(crate) fn programs_mut(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// The next program to be waited for; see [`Programs::let_go`].
    pub fn program_to_wait_for(&mut self) -> Option<&ProcessHandle> {
        self.programs.let_go()
    }

    /// Holds everything that descends from the monitor but sshd's own children. To be called before the monitor ends: afterwards they are nobody's children.
    pub fn hold_programs(&mut self) {
        let sshd = self.hold_sshd();
        self.programs.hold(sshd);
    }

    /// The same, and all that is in the session's group, whoever its parent is; in steps: [`Programs::is_being_walked`] until [`Connection::go_on`] has come to the end.
    /// # Errors
    /// The group cannot be read: what descends from the monitor is held all the same.
    pub fn begin_to_hold(&mut self, group: Option<&Cgroup>) -> io::Result<()> {
        let sshd = self.hold_sshd();
        self.programs.begin_to_hold(sshd);
        group.map_or(Ok(()), |group| self.programs.and_all_in(group))
    }

    /// sshd's own processes, which are not the session's programs.
    fn hold_sshd(&mut self) -> Vec<SshdProcess> {
        self.hold_children();
        let monitor = SshdProcess { pid: self.id.pid, process: Arc::clone(&self.monitor) };
        self.children.iter().cloned().chain([monitor]).collect()
    }

    /// Whose it is: what is held for one account's sessions is counted together.
    pub fn count_for(&mut self, account: u32) {
        self.programs.count_for(account);
    }

    /// Holds what an earlier run of this daemon held: it may have left its parents since.
    pub fn hold_again(&mut self, programs: impl Iterator<Item = ConnectionId>) {
        self.programs.hold_again(programs);
    }

    /// Holds all that is in the session's group, too, whoever its parent is.
    /// # Errors
    /// The group cannot be read.
    pub fn hold_all_in(&mut self, group: &Cgroup) -> io::Result<()> {
        let sshd = self.hold_sshd();
        self.programs.hold_all_in(group, sshd)
    }

    /// SIGTERM to the monitor: it closes the PAM session, the terminal and the forwards.
    /// # Errors
    /// As the kernel says.
    pub fn terminate(&self) -> io::Result<()> {
        unless_gone(self.monitor.signal(nix::libc::SIGTERM))
    }

    /// SIGKILL to what the session had running and to sshd's children: the monitor then closes the session by itself. Without one (root's login up to 9.7 has none) to the monitor.
    /// # Errors
    /// As the kernel says.
    pub fn kill(&mut self) -> io::Result<()> {
        self.begin_to_kill();
        self.go_on(Share::All)
    }

    /// The same in steps: [`Programs::is_being_killed`] until [`Connection::go_on`] has come to the end. One that is begun goes on.
    pub fn begin_to_kill(&mut self) {
        self.is_sshd_killed &= self.programs.is_being_killed();
        self.programs.begin_to_kill();
    }

    /// Goes on with what was begun.
    /// # Errors
    /// As the kernel says.
    pub fn go_on(&mut self, share: Share) -> io::Result<()> {
        let kills = self.programs.is_being_killed();
        self.programs.go_on(share);
        let waits = self.programs.walked_for().is_some_and(|time| time < SSHD_WAITS);
        if !kills || waits || self.is_sshd_killed {
            return Ok(());
        }
        self.is_sshd_killed = true;
        self.hold_children();
        if self.children().next().is_none() {
            return self.kill_monitor();
        }
        self.kill_children()
    }

    /// SIGKILL to sshd's children.
    /// # Errors
    /// As the kernel says.
    pub fn kill_children(&self) -> io::Result<()> {
        self.children().try_for_each(|child| unless_gone(child.signal(nix::libc::SIGKILL)))
    }

    /// SIGKILL to the monitor: leaves utmp behind, so only when nothing else ends it.
    /// # Errors
    /// As the kernel says.
    pub fn kill_monitor(&self) -> io::Result<()> {
        unless_gone(self.monitor.signal(nix::libc::SIGKILL))
    }

    /// Writes to every terminal of the connection that is the user's; `None`: nobody knows who that is.
    pub fn tell(&self, owner: Option<u32>, text: &str) -> Told {
        // The monitor holds its child's terminals as well, and reads them only if there is no child.
        let mut readers = BTreeMap::new();
        for pid in std::iter::once(self.id.pid).chain(numbers_of_sshd_children(self.id.pid)) {
            readers.extend(terminal::ptys_of(pid).unwrap_or_default().into_iter().map(|number| (number, pid)));
        }
        if self.monitor_ended() {
            return Told::default();
        }
        let told = readers.into_iter().filter_map(|(number, reader)| {
            let last_word = LastWord::before_writing(reader);
            terminal::write_to_pty(number, owner, text).is_ok().then_some(last_word)
        });
        Told { last_words: told.collect() }
    }
}

/// Terminals that took a message.
#[derive(Debug, Default)]
pub struct Told {
    /// Of each, what tells when it has been passed on.
    last_words: Vec<Option<LastWord>>,
}

impl Told {
    /// How many.
    pub fn terminals(&self) -> usize {
        self.last_words.len()
    }

    /// Whether it is passed on everywhere, as far as it ever will be.
    pub fn is_out(&self) -> bool {
        self.last_words.iter().flatten().all(|word| word.is_out())
    }
}

pub(crate) fn has_ended(handle: &ProcessHandle) -> bool {
    // A pidfd that cannot be polled is not taken for an ended process.
    handle.wait_end(Duration::ZERO).unwrap_or(false)
}

fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn ended_process_is_not_held() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let id = ConnectionId::of(child.id()).unwrap();
        let held = Connection::open(id).unwrap();
        assert!(!held.monitor_ended());
        assert!(Connection::open(ConnectionId { start_time: id.start_time + 1, ..id }).is_err());
        held.kill_monitor().unwrap();
        child.wait().unwrap();
        assert!(held.monitor_ended());
        held.terminate().unwrap();
        assert!(Connection::open(id).is_err());
    }
}
