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
use ussh_os::process_tree::children_of;

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

/// The nearest of them, as many as `most`.
pub(crate) fn nearest_descendants(root: u32, most: usize) -> Vec<u32> {
    let (mut found, mut known) = (Vec::new(), BTreeSet::new());
    let mut to_ask = VecDeque::from([root]);
    while let Some(pid) = to_ask.pop_front() {
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use ussh_os::process::start_time;

    use super::*;
    use crate::connection::Connection;

    const PATIENCE: Duration = Duration::from_secs(10);
    /// So many descriptors that 2 of them are for one session, and 4 for one account's.
    const TWO_OF_A_SESSION: usize = 16;

    /// A process in the monitor's place that runs `script` in a shell, and the numbers that the script writes.
    fn session(script: &str, numbers: usize) -> (Child, Connection, Vec<(u32, ProcessHandle)>) {
        let mut monitor = Command::new("/usr/bin/env")
            // As sshd leaves it, whatever started this test (nohup).
            .args(["perl", "-e", "$SIG{HUP} = 'DEFAULT'; system('/bin/sh', '-c', $ARGV[0]); sleep 60", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(monitor.stdout.take().unwrap()).lines().take(numbers);
        let held = lines.map(|line| {
            let pid: u32 = line.unwrap().parse().unwrap();
            (pid, ProcessHandle::open(pid, start_time(pid).unwrap()).unwrap())
        });
        let held = held.collect();
        let id = ConnectionId::of(monitor.id()).unwrap();
        (monitor, Connection::open(id).unwrap(), held)
    }

    /// A child of `parent` other than `known`, as soon as there is one and it runs its own program: a shell whose child is killed between vfork and exec may wait for ever.
    fn wait_for_child(parent: u32, known: &[u32]) -> (u32, ProcessHandle) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let runs_sleep = |pid: &u32| {
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"))
            };
            if let Some(child) = children_of(parent).into_iter().find(|pid| !known.contains(pid) && runs_sleep(pid)) {
                return (child, ProcessHandle::open(child, start_time(child).unwrap()).unwrap());
            }
            assert!(std::time::Instant::now() < deadline, "no further child");
            std::thread::yield_now();
        }
    }

    /// The daemon's, that may have so many descriptors.
    fn with_descriptors(connection: &mut Connection, budget: &Budget, account: u32) {
        connection.count_for(account);
        connection.programs_mut().budget = budget.clone();
    }

    /// A session of `many` programs that heed nothing but SIGKILL; all of them.
    fn crowd(many: usize) -> (Child, Connection, Vec<(u32, ProcessHandle)>) {
        let script = format!("trap '' HUP TERM; for i in $(seq {many}); do sleep 71 >&- & echo $!; done; wait");
        session(&script, many)
    }

    #[test]
    fn what_there_is_no_descriptor_for_is_ended_all_the_same() {
        let (monitor, mut connection, all) = crowd(20);
        // Of one session 2.
        with_descriptors(&mut connection, &Budget::whatever_number(TWO_OF_A_SESSION), 1);
        connection.hold_programs();
        assert_eq!((connection.programs().count(), connection.programs().held()), (21, 2));
        assert!(connection.programs().not_held().unwrap().starts_with("19 of 21 "));
        connection.programs().hang_up();
        end(monitor);
        assert!(connection.program_to_wait_for().is_some(), "they are waited for");
        connection.kill().unwrap();
        for (pid, program) in &all {
            assert!(program.wait_end(PATIENCE).unwrap(), "{pid} lives on");
        }
        // The shell itself is not among these.
        while let Some(program) = connection.program_to_wait_for() {
            assert!(program.wait_end(PATIENCE).unwrap());
        }
        assert!(!connection.programs().are_left());
        assert_eq!(connection.programs().count(), 21);
    }

    #[test]
    fn an_accounts_sessions_leave_descriptors_for_others() {
        let budget = Budget::whatever_number(TWO_OF_A_SESSION);
        let hold = |account| {
            let (monitor, mut connection, all) = crowd(3);
            with_descriptors(&mut connection, &budget, account);
            connection.hold_programs();
            (connection.programs().held(), (monitor, connection, all))
        };
        let end_all = |(monitor, mut connection, all): (Child, Connection, Vec<(u32, ProcessHandle)>)| {
            end(monitor);
            connection.kill().unwrap();
            assert!(all.iter().all(|(_, program)| program.wait_end(PATIENCE).unwrap()));
        };
        let (held, crowds): (Vec<_>, Vec<_>) = [1, 1, 1, 2].map(hold).into_iter().unzip();
        assert_eq!(held, [2, 2, 0, 2], "of one account 4, of another one there is room");
        crowds.into_iter().for_each(end_all);
        let (held, crowd) = hold(1);
        assert_eq!(held, 2, "as soon as they are let go");
        end_all(crowd);
    }

    #[test]
    fn what_is_known_by_number_alone_is_never_somebody_else() {
        let (monitor, mut connection, all) = crowd(1);
        with_descriptors(&mut connection, &Budget::of(0), 1);
        connection.hold_programs();
        assert_eq!(connection.programs().held(), 0);
        for program in &mut connection.programs_mut().found {
            program.id.start_time += 1;
        }
        connection.programs().hang_up();
        connection.programs_mut().kill();
        assert!(!connection.programs().any_lives(), "gone, as far as anybody knows");
        assert!(all.iter().all(|(_, program)| !has_ended(program)));
        end(monitor);
        all.iter().for_each(|(_, program)| program.signal(SIGKILL).unwrap());
    }

    fn end(mut monitor: Child) {
        monitor.kill().unwrap();
        monitor.wait().unwrap();
    }

    #[test]
    fn descendants_end_with_the_session_although_they_have_no_terminal() {
        let (monitor, mut connection, held) =
            session("echo $$; sleep 61 >&- & echo $!; sleep 62 >&- & echo $!; wait", 3);
        connection.hold_programs();
        connection.programs().hang_up();
        assert_eq!(connection.programs().count(), 3, "the shell and both of its children");
        end(monitor);
        for (pid, program) in held {
            assert!(program.wait_end(PATIENCE).unwrap(), "{pid} lives on");
        }
        assert_eq!(connection.programs().living().count(), 0);
    }

    #[test]
    fn sshds_own_child_is_left_to_sshd() {
        // A fork of the monitor runs its program, as sshd's child does; what that runs is the session's.
        let script = "$| = 1; $SIG{HUP} = 'DEFAULT'; unless (fork) { unless (fork) { exec 'sleep', 68 } print \"$$\\n\"; sleep 69 } sleep 70";
        let mut monitor = Command::new("perl").args(["-e", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(monitor.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child: u32 = line.trim().parse().unwrap();
        let id = ConnectionId::of(monitor.id()).unwrap();
        let mut connection = Connection::open(id).unwrap();
        connection.hold_programs();
        let programs: Vec<u32> = connection.programs().found.iter().map(|program| program.id.pid).collect();
        assert_eq!(programs, children_of(child));
        connection.programs().hang_up();
        assert!(connection.programs().found[0].handle.as_ref().unwrap().process.wait_end(PATIENCE).unwrap());
        assert_eq!(connection.children().count(), 1, "still there");
        connection.kill_children().unwrap();
        end(monitor);
    }

    #[test]
    fn what_ignores_the_hangup_or_is_stopped_is_killed_with_what_it_started_since() {
        let script = "trap '' HUP; sleep 61 >&- & echo $!; kill -STOP $!; echo $$; sleep 63; sleep 64";
        let (monitor, mut connection, held) = session(script, 2);
        let (stopped_pid, stopped) = &held[0];
        let (shell, _) = held[1];
        let (running_pid, running) = wait_for_child(shell, &[*stopped_pid]);
        connection.hold_programs();
        connection.programs().hang_up();
        end(monitor);
        // Its running child ends, and it starts the next one, which nobody has seen yet.
        let first = connection.programs().count();
        running.signal(SIGKILL).unwrap();
        let (_, next) = wait_for_child(shell, &[*stopped_pid, running_pid]);
        assert!(connection.programs().living().count() >= 2, "the hangup was ignored");
        connection.kill().unwrap();
        assert!(connection.programs().count() > first);
        for program in [stopped, &held[1].1, &next] {
            assert!(program.wait_end(PATIENCE).unwrap());
        }
    }

    #[test]
    fn what_has_left_the_session_before_is_not_reached() {
        let (monitor, mut connection, held) = session("(sleep 65 >&- & echo $!); sleep 66 >&-", 1);
        let (left, handle) = &held[0];
        let deadline = std::time::Instant::now() + PATIENCE;
        while descendants_of(monitor.id()).contains(left) && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        connection.hold_programs();
        connection.programs().hang_up();
        connection.kill().unwrap();
        end(monitor);
        assert!(!has_ended(handle), "only the session's own");
        handle.signal(SIGKILL).unwrap();
    }

    #[test]
    fn what_was_held_by_an_earlier_run_is_held_again_by_its_start_time_and_killed() {
        let (monitor, mut connection, held) = session("trap '' HUP; echo $$; sleep 66 >&- & echo $!; wait; wait", 2);
        connection.hold_programs();
        let mut again: Vec<ConnectionId> = connection.programs().ids().collect();
        let program = *again.iter().find(|id| id.pid == held[1].0).unwrap();
        // Its number was given to another one.
        let init = ConnectionId { pid: 1, start_time: u64::MAX };
        again.extend([init, program]);
        end(monitor);
        let mut programs = Programs::default();
        programs.hold_again(again.into_iter());
        assert_eq!(programs.count(), 2, "each once, and nobody else");
        programs.kill();
        for (_, program) in held {
            assert!(program.wait_end(PATIENCE).unwrap());
        }
    }

    #[test]
    fn nothing_is_held_for_a_session_that_is_gone() {
        let (monitor, mut connection, held) = session("echo $$; trap '' HUP; exec sleep 67 >&-", 1);
        end(monitor);
        connection.hold_programs();
        connection.programs().hang_up();
        assert_eq!(connection.programs().count(), 0);
        held[0].1.signal(SIGKILL).unwrap();
    }
}
