//! What a session had running when its end was begun: everything that descends from its sshd processes at that moment.
//!
//! sshd ends only itself and its terminals; a program without a terminal would go on. A program that has left the session before (forked twice, so that init is
//! its parent: daemons, tmux, `at`, the user's service manager) is not found by its parents, and goes on, unless the session's group says whose it is (`kill_user_processes`).
//! See docs/sessions.md.

mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use nix::libc::{SIGCONT, SIGHUP};
use ussh_os::cgroup::Cgroup;
use ussh_os::process::{ProcessHandle, Stat, is_dead};
use ussh_os::process_tree::children_of;

use self::walk::Walk;
pub use self::walk::{MostStopped, Share};
use crate::connection::{SshdProcess, has_ended};
use crate::descriptors::{Budget, Handle, MAX_HELD};
use crate::spool::ConnectionId;

/// What a session had running.
#[derive(Debug, Default)]
pub struct Programs {
    found: Vec<Program>,
    /// Where among them the newest one of each number is.
    places: BTreeMap<u32, usize>,
    /// They are being found or killed.
    walk: Option<Walk>,
    most_stopped: MostStopped,
    /// Found before, and let go since they have ended.
    ended: usize,
    /// Whose descriptors are counted together.
    account: Option<u32>,
    budget: Budget,
    /// That could not even be looked at, the last time.
    unseen: usize,
}

/// One of them. Without a handle it is held again for each signal: number and start time say whether it is still the same.
#[derive(Debug)]
struct Program {
    id: ConnectionId,
    handle: Option<Handle>,
}

impl Program {
    /// # Errors
    /// `NotFound`: it has ended; others: nobody can say.
    fn held_again(&self) -> io::Result<ProcessHandle> {
        ProcessHandle::open(self.id.pid, self.id.start_time)
    }

    fn has_ended(&self) -> bool {
        match &self.handle {
            Some(handle) => has_ended(&handle.process),
            // One that nobody has waited for has its number still.
            None => {
                self.held_again().map_or_else(|e| e.kind() == io::ErrorKind::NotFound, |process| has_ended(&process))
            }
        }
    }

    /// One that ends meanwhile, or that the kernel does not let us reach, is seen by the caller: it counts as living or not.
    fn signal(&self, signals: &[i32]) {
        let send = |process: &ProcessHandle| {
            for signal in signals {
                let _: io::Result<()> = process.signal(*signal);
            }
        };
        match &self.handle {
            Some(handle) => send(&handle.process),
            None => {
                if let Ok(process) = self.held_again() {
                    send(&process);
                }
            }
        }
    }
}

impl Programs {
    /// Those of `account` are counted together with its other sessions'.
    pub fn count_for(&mut self, account: u32) {
        self.account = Some(account);
    }

    /// Finds and holds what descends from `sshd`, which are the session's own; this very process is never among them.
    pub fn hold(&mut self, sshd: Vec<SshdProcess>) {
        self.begin_to_hold(sshd);
        self.go_on(Share::All);
    }

    /// And what is in a group that is the session's.
    /// # Errors
    /// The group cannot be read.
    pub fn hold_all_in(&mut self, group: &Cgroup, sshd: Vec<SshdProcess>) -> io::Result<()> {
        self.begin_to_hold(sshd);
        let read = self.and_all_in(group);
        self.go_on(Share::All);
        read
    }

    fn alive(&self) -> impl Iterator<Item = &Program> {
        self.found.iter().filter(|program| !program.has_ended())
    }

    fn held(&self) -> usize {
        self.found.iter().filter(|program| program.handle.is_some()).count()
    }

    /// Holds what an earlier run of this daemon held, as far as it lives still.
    pub fn hold_again(&mut self, programs: impl Iterator<Item = ConnectionId>) {
        let mut room = self.budget.of_session.saturating_sub(self.held());
        let mut known: BTreeSet<ConnectionId> = self.found.iter().map(|program| program.id).collect();
        for id in programs.filter(|id| id.pid != std::process::id()) {
            if !known.insert(id) {
                continue;
            }
            let program = Program { id, handle: None };
            if let Ok(process) = program.held_again() {
                let slot = (room > 0).then(|| self.budget.take(self.account, &process)).flatten();
                room = room.saturating_sub(usize::from(slot.is_some()));
                let handle = slot.map(|slot| Handle { process, slot: Some(slot) });
                self.add(Program { handle, ..program });
            } else if id.may_live() {
                self.add(program);
            }
        }
    }

    fn add(&mut self, program: Program) {
        self.places.insert(program.id.pid, self.found.len());
        self.found.push(program);
    }

    /// Whether one of them has this number now: of one that was let go, or has ended, it may be another's.
    fn has(&self, pid: u32) -> bool {
        let newest = self.places.get(&pid).and_then(|place| self.found.get(*place));
        newest.is_some_and(|program| program.id.pid == pid && !program.has_ended())
    }

    /// Who they are, as far as they are remembered over a restart.
    pub fn ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.found.iter().map(|program| program.id).take(MAX_HELD)
    }

    /// How many were found.
    pub fn count(&self) -> usize {
        self.ended + self.found.len()
    }

    /// What there was no descriptor for, for the log; `None`: all are held.
    pub fn not_held(&self) -> Option<String> {
        let without = self.found.len() - self.held();
        let unseen = self.unseen;
        (without + unseen > 0).then(|| {
            let named =
                format!("{without} of {} processes are not held, but known by number and start time", self.found.len());
            let blind = format!("; {unseen} could not even be looked at (raise LimitNOFILE= of ussh-hostd)");
            if unseen == 0 { named } else { named + &blind }
        })
    }

    /// Lets go of those that have ended, as far as the next one that lives, and gives that: as long as there is one, nobody need look at the others.
    pub fn let_go(&mut self) -> Option<&ProcessHandle> {
        while self.found.pop_if(|program| program.has_ended()).is_some() {
            self.ended += 1;
        }
        if let Some(walk) = &mut self.walk {
            walk.are_left(self.found.len());
        }
        // One of each session may be held beyond all bounds: somebody must be waited for.
        if let Some(last) = self.found.last_mut().filter(|last| last.handle.is_none()) {
            last.handle = last.held_again().ok().map(|process| Handle { process, slot: None });
        }
        self.last()
    }

    /// Waits no longer for those of which nothing runs any more, but whose end is never told: somebody traces one of their threads, from another session perhaps.
    pub fn let_go_of_dead(&mut self) {
        let so_far = self.found.len();
        self.found.retain(|program| program.has_ended() || !is_dead(program.id.pid));
        self.ended += so_far - self.found.len();
        self.find_places();
    }

    fn find_places(&mut self) {
        self.places = self.found.iter().enumerate().map(|(place, program)| (program.id.pid, place)).collect();
    }

    /// The one that is waited for.
    pub fn last(&self) -> Option<&ProcessHandle> {
        self.found.last().and_then(|program| program.handle.as_ref()).map(|handle| &handle.process)
    }

    /// Whether there may be some that live, although none of them can be held: as long as [`Programs::let_go`] gives none.
    pub fn are_left(&self) -> bool {
        !self.found.is_empty()
    }

    /// Whether any lives.
    pub fn any_lives(&self) -> bool {
        self.alive().next().is_some()
    }

    /// Those that still live and are held.
    #[cfg(test)]
    pub fn living(&self) -> impl Iterator<Item = &ProcessHandle> {
        self.alive().filter_map(|program| program.handle.as_ref()).map(|handle| &handle.process)
    }

    /// SIGHUP, as a terminal that goes away would send it (without one nobody else does), and SIGCONT, so that a stopped one takes it.
    pub fn hang_up(&self) {
        self.found.iter().for_each(|program| program.signal(&[SIGHUP, SIGCONT]));
    }

    /// SIGKILL to what lives still, and to what it has started since: all at once, however long it takes.
    #[cfg(test)]
    pub fn kill(&mut self) {
        self.begin_to_kill();
        self.go_on(Share::All);
    }
}

/// A process of which nobody has said yet whose it is.
struct Opened {
    program: Program,
    parent: u32,
}

impl Opened {
    /// `None`: it has ended. What is asked about it is asked while it is held.
    /// # Errors
    /// It cannot be looked at: no descriptor is left.
    fn new(pid: u32) -> io::Result<Option<(ProcessHandle, Self)>> {
        let look = || {
            let process = ProcessHandle::open_any(pid)?;
            Stat::of(pid).map(|stat| (process, stat))
        };
        let (process, Stat { parent, start_time, .. }) = match look() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
            Ok(found) => found,
        };
        let program = Program { id: ConnectionId { pid, start_time }, handle: None };
        Ok((!has_ended(&process)).then_some((process, Opened { program, parent })))
    }
}

/// Process IDs at this moment.
pub(crate) fn descendants_of(root: u32) -> BTreeSet<u32> {
    let (mut found, mut to_ask) = (BTreeSet::new(), vec![root]);
    while let Some(pid) = to_ask.pop() {
        to_ask.extend(children_of(pid).into_iter().filter(|child| found.insert(*child)));
    }
    found
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
