//! What an earlier run of this daemon had begun with a session whose record is gone by now: it is finished here.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use ussh_os::process::ProcessHandle;

use super::Daemon;
use super::freezing::strange;
use crate::begun::Whole;
use crate::cell::{Cell, Killed};
use crate::connection::{Connection, has_ended};
use crate::programs::{Programs, Share};
use crate::report::Severity;
use crate::spool::ConnectionId;

/// A session that is left over.
#[derive(Debug)]
pub(super) struct Unfinished {
    /// sshd's own process, if it has not ended yet.
    pub(super) connection: Option<Connection>,
    /// What it had running.
    pub(super) programs: Programs,
    /// When its grace is over (elapsed); `None`: SIGKILL was sent.
    pub(super) kill_at: Option<Duration>,
    /// Where all that is in it is to end.
    pub(super) whole: Option<Whole>,
}

impl Unfinished {
    /// What of it lives, to poll on: one program at a time, for they may be thousands.
    pub(super) fn processes(&self) -> impl Iterator<Item = &ProcessHandle> {
        let connection = self.connection.iter();
        let monitor = connection.clone().map(Connection::monitor).filter(|monitor| !has_ended(monitor));
        monitor.chain(connection.flat_map(Connection::children)).chain(self.programs.last())
    }

    /// Goes on with killing it; what sshd has left, when the programs are through.
    pub(super) fn go_on(&mut self, share: Share) -> io::Result<()> {
        self.programs.go_on(share);
        match &mut self.connection {
            Some(connection) if !self.programs.is_being_killed() => connection.kill(),
            _ => Ok(()),
        }
    }
}

impl Daemon {
    /// If an earlier run had begun to end this session: what it had running is held again, and what is left of its grace given.
    pub(super) fn end_begun(&mut self, id: ConnectionId) -> Option<Duration> {
        let (begun, ago) = self.spool.begun(id).filter(|(begun, _)| begun.boot_id == self.boot_id)?;
        let (end, held) = (begun.end?, self.held.get_mut(&id)?);
        held.connection.hold_again(end.programs());
        held.ending_since = Some(self.started.elapsed());
        self.report.line(Severity::Notice, &format!("Going on with the end of a session: {}", held.who()));
        Some(end.grace_left(ago))
    }

    /// Those of `begun` that nobody holds: they have no record any more.
    pub(super) fn take_up_unfinished(&mut self, begun: &BTreeSet<ConnectionId>) {
        for id in begun {
            if self.held.contains_key(id) || self.unfinished.contains_key(id) {
                continue;
            }
            let Some((begun, ago)) = self.spool.begun(*id).filter(|(begun, _)| begun.boot_id == self.boot_id) else {
                self.forget_files(*id);
                continue;
            };
            // Its client has gone meanwhile, or its sshd: nothing could thaw it any more.
            if let Some(cell) = begun.frozen.and_then(|path| Cell::left_behind(*id, &path)) {
                self.end_frozen(*id, &cell);
            }
            let mut programs = Programs::default();
            let (mut left, mut whole) = (Duration::ZERO, None);
            if let Some(end) = begun.end {
                left = end.grace_left(ago);
                programs.hold_again(end.programs());
                whole = end.whole.filter(|_| self.config.kill_user_processes);
            }
            let kill_at = Some(self.started.elapsed().saturating_add(left));
            let unfinished = Unfinished { connection: Connection::open(*id).ok(), programs, kill_at, whole };
            self.unfinished.insert(*id, unfinished);
        }
    }

    /// Sends what is due to them, and forgets those that are gone.
    pub(super) fn finish(&mut self) {
        let now = self.started.elapsed();
        let mut gone = Vec::new();
        for (id, unfinished) in &mut self.unfinished {
            if unfinished.kill_at.is_none() && !unfinished.programs.is_being_walked() {
                unfinished.programs.let_go_of_dead();
            }
            // One that there was no descriptor for is held as soon as it is the last.
            unfinished.programs.let_go();
            if !unfinished.programs.are_left() && unfinished.processes().next().is_none() {
                gone.push(*id);
            } else if unfinished.kill_at.take_if(|at| *at <= now).is_some() {
                let detail = format!("Killing what is left of a session whose end an earlier run had begun: {id}");
                self.report.line(Severity::Warning, &detail);
                unfinished.programs.begin_to_kill();
            }
        }
        for id in gone {
            if let Some(whole) = self.unfinished.remove(&id).and_then(|unfinished| unfinished.whole) {
                self.end_whole(id, &whole);
            }
            self.forget_files(id);
        }
    }

    /// SIGKILL to all that had left a session and lives on, sshd and what was held having ended; and the group away.
    fn end_whole(&mut self, id: ConnectionId, whole: &Whole) {
        let Some(cell) = Cell::noted(id, whole) else { return };
        let ended = match cell.stranger(id) {
            Ok(None) => {
                let count = cell.group().processes().map_or(0, |all| all.len());
                cell.kill_all().map(|()| count).map_err(|e| format!("cgroup: {e}"))
            }
            Ok(Some(pid)) => Err(strange(pid)),
            // Nobody was in it any more, and it was taken away.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(e) => Err(format!("cgroup: {e}")),
        };
        match ended {
            Ok(0) => {}
            Ok(count) => {
                let detail = format!("Ended {count} remaining processes, whose connection is gone: {id}");
                self.report.line(Severity::Notice, &detail);
            }
            Err(why) => {
                let detail = format!("What had left the session goes on: {id}: {why}");
                self.report.line(Severity::Warning, &detail);
                return self.leave(id, &cell, Killed::Nothing);
            }
        }
        self.leave(id, &cell, Killed::All);
    }

    /// SIGKILL to what stands still, and the group away.
    fn end_frozen(&mut self, id: ConnectionId, cell: &Cell) {
        let count = cell.count();
        if let Err(e) = cell.kill() {
            self.report.line(Severity::Error, &format!("Cannot end what is frozen of {id}: {e}"));
        }
        if count > 0 {
            let detail = format!("Ended {count} frozen processes, whose connection is gone: {id}");
            self.report.line(Severity::Notice, &detail);
        }
        self.leave(id, cell, Killed::Frozen);
    }
}
