//! What a session had running when its end was begun: everything that descends from its sshd processes at that moment.
//!
//! sshd ends only itself and its terminals; a program without a terminal would go on. A program that has left the session before (forked twice, so that init is
//! its parent: daemons, tmux, `at`, the user's service manager) is not found by its parents, and goes on, unless the session's group says whose it is (`kill_user_processes`).
//! See docs/sessions.md.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use nix::libc::{SIGCONT, SIGHUP, SIGKILL, SIGSTOP};
use nix::sys::resource::{Resource, getrlimit};
use ussh_os::cgroup::Cgroup;
use ussh_os::process::{ProcessHandle, Stat};
use ussh_os::process_tree::children_of;

use crate::connection::has_ended;
use crate::spool::ConnectionId;

/// Most that are held for one session, each of which costs a descriptor, and what part of all descriptors.
const MAX_HELD: u64 = 8192;
const PART_OF_DESCRIPTORS: u64 = 8;
/// How often all that is stopped is looked through for children that were on their way.
const SWEEPS: usize = 16;

/// Processes held by pidfd.
#[derive(Debug, Default)]
pub struct Programs {
    held: Vec<(ConnectionId, ProcessHandle)>,
    /// Held before, and let go since they have ended.
    ended: usize,
}

impl Programs {
    /// Finds and holds what descends from `root`, which is held as `handle`, but for those `left_out`; this very process is never among them.
    pub fn hold(&mut self, root: ConnectionId, handle: &ProcessHandle, left_out: &[ConnectionId]) {
        let mut children: BTreeMap<u32, Vec<Opened>> = BTreeMap::new();
        for opened in self.open(descendants_of(root.pid), left_out) {
            children.entry(opened.parent).or_default().push(opened);
        }
        if has_ended(handle) {
            return;
        }
        // A number may have gone to another process before it was opened. Who lives now, was asked for its parent while it was held, and descends so from those of the session that live, always did.
        let sshd = left_out.iter().filter(|id| id.lives()).map(|id| id.pid);
        let held = self.living_ids().map(|id| id.pid);
        let mut parents: Vec<u32> = std::iter::once(root.pid).chain(sshd).chain(held).collect();
        while let Some(parent) = parents.pop() {
            for opened in children.remove(&parent).unwrap_or_default() {
                parents.push(opened.id.pid);
                self.held.push((opened.id, opened.handle));
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
        let own = opened.into_iter().filter(|opened| still.contains(&opened.id.pid));
        self.held.extend(own.map(|opened| (opened.id, opened.handle)));
        Ok(())
    }

    /// Those that are not held yet; whose they are is still to be seen.
    fn open(&self, found: impl IntoIterator<Item = u32>, left_out: &[ConnectionId]) -> Vec<Opened> {
        let known = self.living_ids().chain(left_out.iter().copied().filter(|id| id.lives())).map(|id| id.pid);
        let known: BTreeSet<u32> = known.chain([std::process::id()]).collect();
        let room = most_held().saturating_sub(self.held.len());
        let strangers = found.into_iter().filter(|pid| !known.contains(pid));
        strangers.filter_map(Opened::new).take(room).collect()
    }

    fn living_ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.held.iter().filter(|(_, handle)| !has_ended(handle)).map(|(id, _)| *id)
    }

    /// Holds what an earlier run of this daemon held, as far as it lives still.
    pub fn hold_again(&mut self, programs: impl Iterator<Item = ConnectionId>) {
        for id in programs.take(most_held()) {
            let is_known = id.pid == std::process::id() || self.held.iter().any(|(held, _)| *held == id);
            if let Some(handle) = (!is_known).then(|| ProcessHandle::open(id.pid, id.start_time).ok()).flatten() {
                self.held.push((id, handle));
            }
        }
    }

    /// Who they are.
    pub fn ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.held.iter().map(|(id, _)| *id)
    }

    /// How many were held.
    pub fn count(&self) -> usize {
        self.ended + self.held.len()
    }

    /// Lets go of those that have ended, as far as the next one that lives, and gives that: as long as there is one, nobody need look at the others.
    pub fn let_go(&mut self) -> Option<&ProcessHandle> {
        while self.held.pop_if(|(_, handle)| has_ended(handle)).is_some() {
            self.ended += 1;
        }
        self.last()
    }

    /// The one that is waited for.
    pub fn last(&self) -> Option<&ProcessHandle> {
        self.held.last().map(|(_, handle)| handle)
    }

    /// Those that still live.
    pub fn living(&self) -> impl Iterator<Item = &ProcessHandle> {
        self.held.iter().map(|(_, handle)| handle).filter(|handle| !has_ended(handle))
    }

    /// SIGHUP, as a terminal that goes away would send it (without one nobody else does), and SIGCONT, so that a stopped one takes it.
    pub fn hang_up(&self) {
        for program in self.living() {
            signal(program, SIGHUP);
            signal(program, SIGCONT);
        }
    }

    /// SIGKILL to what lives still, and to what it has started since.
    pub fn kill(&mut self) {
        let (mut from, mut sweeps) = (0, 0);
        while sweeps < SWEEPS {
            let so_far = self.held.len();
            let news = self.held.get(from..).unwrap_or_default();
            // Stopped, so that nothing new is started behind the look.
            news.iter().for_each(|(_, handle)| signal(handle, SIGSTOP));
            let parents = || news.iter().filter(|(_, handle)| !has_ended(handle)).map(|(id, _)| id.pid);
            let young = self.open(parents().flat_map(children_of), &[]);
            // A child of one that is held and lives: it was this session's all along.
            let parents: BTreeSet<u32> = parents().collect();
            let own = young.into_iter().filter(|opened| parents.contains(&opened.parent));
            let own: Vec<_> = own.map(|opened| (opened.id, opened.handle)).collect();
            self.held.extend(own);
            let found = self.held.len() > so_far;
            if !found && from == 0 {
                break;
            }
            // Each generation in turn; then all of them again, for who was about to be born.
            from = if found { so_far } else { 0 };
            sweeps += usize::from(from == 0);
        }
        self.living().for_each(|program| signal(program, SIGKILL));
    }
}

/// A process that is held before anybody knows whose it is.
struct Opened {
    id: ConnectionId,
    parent: u32,
    handle: ProcessHandle,
}

impl Opened {
    /// `None`: it has ended.
    fn new(pid: u32) -> Option<Self> {
        let handle = ProcessHandle::open_any(pid).ok()?;
        let Stat { parent, start_time, .. } = Stat::of(pid).ok()?;
        (!has_ended(&handle)).then_some(Opened { id: ConnectionId { pid, start_time }, parent, handle })
    }
}

fn most_held() -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(now, _)| now);
    usize::try_from((descriptors / PART_OF_DESCRIPTORS).min(MAX_HELD)).unwrap_or(0)
}

/// One that ends meanwhile, or that the kernel does not let us reach, is seen by the caller: it counts as living or not.
fn signal(program: &ProcessHandle, signal: i32) {
    let _: io::Result<()> = program.signal(signal);
}

/// Process IDs at this moment, parents before children.
pub(crate) fn descendants_of(root: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut to_ask = vec![root];
    while let Some(pid) = to_ask.pop() {
        to_ask.extend(children_of(pid).into_iter().filter(|child| found.insert(*child)));
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
        let programs: Vec<u32> = connection.programs().held.iter().map(|(id, _)| id.pid).collect();
        assert_eq!(programs, children_of(child));
        connection.programs().hang_up();
        assert!(connection.programs().held[0].1.wait_end(PATIENCE).unwrap());
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
