//! What a session had running when its end was begun: everything that descends from its sshd processes at that moment.
//!
//! sshd ends only itself and its terminals; a program without a terminal would go on. A program that has left the session before (forked twice, so that init is
//! its parent: daemons, tmux, `at`, the user's service manager) is not found by its parents, and goes on, unless the session's group says whose it is (`kill_user_processes`).
//! See docs/sessions.md.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use nix::libc::{SIGCONT, SIGHUP, SIGKILL, SIGSTOP};
use ussh_os::cgroup::Cgroup;
use ussh_os::process::{ProcessHandle, Stat};
use ussh_os::process_tree::{children_of, threads_of};

use crate::connection::has_ended;
use crate::descriptors::{Budget, Handle, MAX_HELD};
use crate::spool::ConnectionId;

/// How often all that is stopped is looked through for children that were on their way.
const SWEEPS: usize = 16;

/// What a session had running.
#[derive(Debug, Default)]
pub struct Programs {
    found: Vec<Program>,
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
    fn signal(&self, signal: i32) {
        let _: Option<io::Result<()>> = match &self.handle {
            Some(handle) => Some(handle.process.signal(signal)),
            None => self.held_again().ok().map(|process| process.signal(signal)),
        };
    }
}

impl Programs {
    /// Those of `account` are counted together with its other sessions'.
    pub fn count_for(&mut self, account: u32) {
        self.account = Some(account);
    }

    /// Finds and holds what descends from `root`, which is held as `handle`, but for those `left_out`; this very process is never among them.
    pub fn hold(&mut self, root: ConnectionId, handle: &ProcessHandle, left_out: &[ConnectionId]) {
        self.hold_nearest(usize::MAX, root, handle, left_out);
    }

    /// Only so many of them, the nearest to `root`.
    pub fn hold_nearest(&mut self, most: usize, root: ConnectionId, handle: &ProcessHandle, left_out: &[ConnectionId]) {
        let mut children: BTreeMap<u32, Vec<Opened>> = BTreeMap::new();
        for opened in self.open(nearest_descendants(root.pid, most), left_out) {
            children.entry(opened.parent).or_default().push(opened);
        }
        if has_ended(handle) {
            return;
        }
        // A number may have gone to another process before it was opened. Who lives now, was asked for its parent while it was held, and descends so from those of the session that live, always did.
        let sshd = left_out.iter().filter(|id| id.may_live()).map(|id| id.pid);
        let held = self.living_ids().map(|id| id.pid);
        let mut parents: Vec<u32> = std::iter::once(root.pid).chain(sshd).chain(held).collect();
        while let Some(parent) = parents.pop() {
            for opened in children.remove(&parent).unwrap_or_default() {
                parents.push(opened.program.id.pid);
                self.found.push(opened.program);
            }
        }
    }

    /// Finds and holds what is in a group that is the session's, but for those `left_out`.
    /// # Errors
    /// The group cannot be read.
    pub fn hold_all_in(&mut self, group: &Cgroup, left_out: &[ConnectionId]) -> io::Result<()> {
        let opened = self.open(group.processes()?, left_out);
        // Nobody comes to a group but by birth: who lives and is in it has been there all along.
        let still = group.processes()?;
        let own = opened.into_iter().map(|opened| opened.program).filter(|program| still.contains(&program.id.pid));
        self.found.extend(own);
        Ok(())
    }

    /// Those that are not known yet; whose they are is still to be seen. Held as far as there is room.
    fn open(&mut self, found: impl IntoIterator<Item = u32>, left_out: &[ConnectionId]) -> Vec<Opened> {
        let known = self.living_ids().chain(left_out.iter().copied().filter(|id| id.may_live())).map(|id| id.pid);
        let known: BTreeSet<u32> = known.chain([std::process::id()]).collect();
        let mut room = self.budget.of_session.saturating_sub(self.held());
        self.unseen = 0;
        let mut all: Vec<Opened> = Vec::new();
        for pid in found.into_iter().filter(|pid| !known.contains(pid)) {
            let mut opened = Opened::new(pid);
            if opened.is_err()
                && let Some(held) = all.iter_mut().rfind(|opened| opened.program.handle.is_some())
            {
                // No descriptor: one that is held already need not be.
                held.program.handle = None;
                room = 0;
                opened = Opened::new(pid);
            }
            match opened {
                Ok(Some((process, mut opened))) => {
                    let slot = (room > 0).then(|| self.budget.take(self.account, &process)).flatten();
                    room = room.saturating_sub(usize::from(slot.is_some()));
                    opened.program.handle = slot.map(|slot| Handle { process, slot: Some(slot) });
                    all.push(opened);
                }
                Ok(None) => {}
                Err(_) => self.unseen += 1,
            }
        }
        all
    }

    fn living_ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.alive().map(|program| program.id)
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
                self.found.push(Program { handle, ..program });
            } else if id.may_live() {
                self.found.push(program);
            }
        }
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
        // One of each session may be held beyond all bounds: somebody must be waited for.
        if let Some(last) = self.found.last_mut().filter(|last| last.handle.is_none()) {
            last.handle = last.held_again().ok().map(|process| Handle { process, slot: None });
        }
        self.last()
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
    pub fn living(&self) -> impl Iterator<Item = &ProcessHandle> {
        self.alive().filter_map(|program| program.handle.as_ref()).map(|handle| &handle.process)
    }

    /// SIGHUP, as a terminal that goes away would send it (without one nobody else does), and SIGCONT, so that a stopped one takes it.
    pub fn hang_up(&self) {
        for program in self.alive() {
            program.signal(SIGHUP);
            program.signal(SIGCONT);
        }
    }

    /// SIGKILL to what lives still, and to what it has started since.
    pub fn kill(&mut self) {
        let (mut from, mut sweeps) = (0, 0);
        while sweeps < SWEEPS {
            let so_far = self.found.len();
            let news = self.found.get(from..).unwrap_or_default();
            // Stopped, so that nothing new is started behind the look.
            news.iter().for_each(|program| program.signal(SIGSTOP));
            let parents = self.living_from(from);
            let young = self.open(parents.into_iter().flat_map(children_of), &[]);
            // A child of one that is held, or is the same still, and lives: it was this session's all along.
            let parents = self.living_from(from);
            let own = young.into_iter().filter(|opened| parents.contains(&opened.parent));
            self.found.extend(own.map(|opened| opened.program));
            let found = self.found.len() > so_far;
            if !found && from == 0 {
                break;
            }
            // Each generation in turn; then all of them again, for who was about to be born.
            from = if found { so_far } else { 0 };
            sweeps += usize::from(from == 0);
        }
        self.alive().for_each(|program| program.signal(SIGKILL));
    }

    /// Those that live, without the first ones.
    fn living_from(&self, first: usize) -> BTreeSet<u32> {
        let programs = self.found.get(first..).unwrap_or_default();
        programs.iter().filter(|program| !program.has_ended()).map(|program| program.id.pid).collect()
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

/// Process IDs at this moment, parents before children.
pub(crate) fn descendants_of(root: u32) -> BTreeSet<u32> {
    nearest_descendants(root, usize::MAX).into_iter().collect()
}

/// The nearest of them, as many as `most`; those of so many threads, too, as each of them is asked for its children.
pub(crate) fn nearest_descendants(root: u32, most: usize) -> Vec<u32> {
    let (mut found, mut known, mut threads) = (Vec::new(), BTreeSet::new(), 0_u64);
    let mut to_ask = VecDeque::from([root]);
    while let Some(pid) = to_ask.pop_front() {
        if most < usize::MAX {
            threads += threads_of(pid);
            if usize::try_from(threads).map_or(true, |threads| threads > most) {
                return found;
            }
        }
        for child in children_of(pid) {
            if found.len() >= most {
                return found;
            }
            if known.insert(child) {
                found.push(child);
                to_ask.push_back(child);
            }
        }
    }
    found
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
