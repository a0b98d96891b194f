//! All that a session runs is gone through, to hold it or to kill it: one process after the other, parents before children, so that it can be left at any point and gone on with.
//!
//! What it costs is one look at each process, and at each of its threads, for these have children of their own; nowhere are all that are known asked whether they live.

use std::io;
use std::time::{Duration, Instant};

use nix::libc::{SIGKILL, SIGSTOP};
use ussh_os::cgroup::Cgroup;
use ussh_os::process::ProcessHandle;
use ussh_os::process_tree::{children_of_thread, threads_of};

use super::{Opened, Program, Programs};
use crate::connection::SshdProcess;
use crate::descriptors::Handle;

/// How often all that is stopped is looked through for children that were on their way.
const SWEEPS: usize = 16;

/// Most that are sought before the signals go out. Whoever has more, or starts them as fast as they are looked at, has the rest found when it is killed.
const MOST_SOUGHT: usize = 16_384;

/// Most that are stopped before any is killed.
///
/// As long as none is killed, whoever starts others as fast as they are looked at comes to an end of what his account or the host may run (RLIMIT_NPROC, pid_max, a cgroup's pids.max), and then each
/// of them is stopped. Where he may run more than this he is not to live by it: what is stopped, and has all its children known, is killed, and the walk begins anew with the rest.
#[derive(Clone, Copy, Debug)]
pub struct MostStopped(pub usize);

impl Default for MostStopped {
    fn default() -> Self {
        MostStopped(131_072)
    }
}

/// So many are dying at one time: each takes its share of the processors from those who are to end meanwhile.
const DYING: usize = 32;
/// So long the next one waits for one of them to be gone: it may sleep in the kernel.
const MAY_DIE: Duration = Duration::from_millis(20);
/// And so long at one time, before others are seen to.
const A_LITTLE: Duration = Duration::from_millis(1);
/// So long after the walk began nobody waits for any.
const MAY_ALL_DIE: Duration = Duration::from_secs(10);

/// How far to go before giving way to others.
#[derive(Clone, Copy, Debug)]
pub enum Share {
    /// To the end.
    All,
    /// So many looks, at some 20 to 50 µs.
    Looks(usize),
    /// For so long.
    Until(Instant),
}

impl Share {
    fn is_used_up(self, looks: usize) -> bool {
        match self {
            Share::All => false,
            Share::Looks(most) => looks >= most,
            Share::Until(end) => Instant::now() >= end,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// All is found and held, and nothing else happens to it.
    Hold,
    /// All is found and stopped.
    Stop,
    /// And is killed now.
    Kill,
}

/// How far it has come.
#[derive(Debug)]
pub struct Walk {
    pub task: Task,
    began: Instant,
    /// The last one of them.
    killed_at: Instant,
    /// sshd's own processes: their children are the session's, they themselves are not.
    sshd: Vec<SshdProcess>,
    /// The next of those that are found, to be asked for its children. When they are killed: all before it are to be killed yet.
    next: usize,
    /// Only so many of the first ones are to be killed now, of which all children are known.
    first: Option<usize>,
    /// To be asked for their children, each with its process.
    threads: Vec<(u32, u32)>,
    /// Numbers to be looked at. Whose they are is seen then: they may have been given to others meanwhile.
    children: Vec<u32>,
    /// The same, of those in the session's group.
    members: Vec<u32>,
    group: Option<Cgroup>,
    /// Held, and the session's if they are in its group still.
    unsure: Vec<Program>,
    /// For so many descriptors.
    room: usize,
    /// So many are known when no more are sought.
    most: usize,
    /// Something was found in this pass.
    has_news: bool,
    sweeps: usize,
}

impl Walk {
    fn new(task: Task, programs: &Programs, sshd: Vec<SshdProcess>) -> Self {
        Walk {
            task,
            began: Instant::now(),
            killed_at: Instant::now(),
            threads: sshd.iter().flat_map(|sshd| threads_with(sshd.pid)).collect(),
            sshd,
            next: 0,
            first: None,
            children: Vec::new(),
            members: Vec::new(),
            group: None,
            unsure: Vec::new(),
            room: programs.budget.of_session.saturating_sub(programs.held()),
            most: programs.found.len().saturating_add(MOST_SOUGHT),
            has_news: false,
            sweeps: 0,
        }
    }

    fn is_sshd(&self, pid: u32) -> bool {
        self.sshd.iter().any(|sshd| sshd.is(pid))
    }

    /// Of those that are found, only so many are left.
    pub fn are_left(&mut self, many: usize) {
        self.next = self.next.min(many);
        self.first = self.first.map(|first| first.min(many));
    }
}

impl Programs {
    /// Begins to find and hold what descends from `sshd`; see [`Programs::go_on`].
    pub fn begin_to_hold(&mut self, sshd: Vec<SshdProcess>) {
        self.unseen = 0;
        self.walk = Some(Walk::new(Task::Hold, self, sshd));
    }

    /// And what is in the session's group, after that.
    /// # Errors
    /// The group cannot be read.
    pub fn and_all_in(&mut self, group: &Cgroup) -> io::Result<()> {
        let members = group.processes()?;
        if let Some(walk) = &mut self.walk {
            walk.members = members.into_iter().collect();
            walk.group = Some(group.clone());
        }
        Ok(())
    }

    /// Begins to kill what lives still, and what it has started since; see [`Programs::go_on`]. One that is begun goes on.
    pub fn begin_to_kill(&mut self) {
        if !self.is_being_killed() {
            self.walk = None;
            // Of an earlier time that they were killed.
            self.let_go_of_dead();
            self.unseen = 0;
            self.walk = Some(Walk::new(Task::Stop, self, Vec::new()));
        }
    }

    /// Goes on with what was begun.
    pub fn go_on(&mut self, share: Share) {
        let Some(mut walk) = self.walk.take() else { return };
        let (mut is_through, mut looks) = (false, 0);
        // One look at least.
        while !is_through && (looks == 0 || !share.is_used_up(looks)) {
            is_through = self.step(&mut walk);
            looks += 1;
        }
        self.settle(&mut walk);
        self.walk = Some(walk).filter(|_| !is_through);
    }

    /// Whether what was begun is not through yet.
    pub fn is_being_walked(&self) -> bool {
        self.walk.is_some()
    }

    /// The same, if they are to be killed.
    pub fn is_being_killed(&self) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.task != Task::Hold)
    }

    /// How long ago it was begun; `None`: it is through.
    pub fn walked_for(&self) -> Option<Duration> {
        self.walk.as_ref().map(|walk| walk.began.elapsed())
    }

    /// One look; whether that was the last.
    fn step(&mut self, walk: &mut Walk) -> bool {
        if let Some(child) = walk.children.pop() {
            self.look_at(walk, child);
        } else if let Some((pid, thread)) = walk.threads.pop() {
            walk.children = children_of_thread(pid, thread);
        } else {
            return match walk.task {
                Task::Hold => self.hold_on(walk),
                Task::Stop => self.stop_on(walk),
                Task::Kill => self.kill_on(walk),
            };
        }
        false
    }

    fn hold_on(&mut self, walk: &mut Walk) -> bool {
        if self.found.len() >= walk.most {
            return true;
        }
        if !self.ask_next(walk) {
            let Some(member) = walk.members.pop() else { return true };
            self.look_at(walk, member);
        }
        false
    }

    fn stop_on(&mut self, walk: &mut Walk) -> bool {
        if self.ask_next(walk) {
            if walk.next >= self.most_stopped.0 {
                walk.first.get_or_insert(walk.next);
            }
        } else if walk.has_news && walk.sweeps < SWEEPS {
            // All of them again, for who was about to be born.
            (walk.next, walk.has_news) = (0, false);
            walk.sweeps += 1;
        } else {
            walk.task = Task::Kill;
            (walk.next, walk.killed_at) = (walk.first.unwrap_or(self.found.len()), Instant::now());
        }
        false
    }

    /// The last ones first: those whose parent ends before them may be let go on by the kernel (SIGCONT to a process group that is left an orphan).
    fn kill_on(&mut self, walk: &mut Walk) -> bool {
        if let Some(last) = walk.next.checked_sub(1) {
            let before = self.found.get(last.saturating_add(DYING)).and_then(|program| program.handle.as_ref());
            let is_dying = before.is_some_and(|handle| !handle.process.wait_end(A_LITTLE).unwrap_or(true));
            if is_dying && walk.killed_at.elapsed() < MAY_DIE && walk.began.elapsed() < MAY_ALL_DIE {
                return false;
            }
            (walk.next, walk.killed_at) = (last, Instant::now());
            if let Some(program) = self.found.get(last) {
                program.signal(&[SIGKILL]);
            }
            return false;
        }
        let Some(killed) = walk.first.take() else { return true };
        self.forget_first(killed);
        (walk.task, walk.sweeps, walk.has_news) = (Task::Stop, 0, false);
        false
    }

    /// They are killed, and nobody waits for them.
    fn forget_first(&mut self, many: usize) {
        self.ended += self.found.drain(..many.min(self.found.len())).count();
        self.find_places();
    }

    /// Has the next one asked for its children; false: there is none.
    fn ask_next(&mut self, walk: &mut Walk) -> bool {
        let is_to_be = walk.first.is_none_or(|first| walk.next < first);
        let Some(program) = self.found.get(walk.next).filter(|_| is_to_be) else { return false };
        if walk.task == Task::Stop {
            // So that nothing new is started behind the look.
            program.signal(&[SIGSTOP]);
        }
        walk.threads.extend(threads_with(program.id.pid));
        walk.next += 1;
        true
    }

    /// Holds it, as far as there is room, if it is new and the session's.
    fn look_at(&mut self, walk: &mut Walk, pid: u32) {
        if pid == std::process::id() || walk.is_sshd(pid) || self.has(pid) {
            return;
        }
        match self.open(walk, pid) {
            Ok(Some((process, opened))) => self.take(walk, process, opened),
            Ok(None) => {}
            Err(_) => self.unseen += 1,
        }
    }

    fn open(&mut self, walk: &mut Walk, pid: u32) -> io::Result<Option<(ProcessHandle, Opened)>> {
        let opened = Opened::new(pid);
        if opened.is_err()
            && let Some(held) = self.found.iter_mut().rfind(|program| program.handle.is_some())
        {
            // No descriptor: one that is held already need not be.
            held.handle = None;
            walk.room = 0;
            return Opened::new(pid);
        }
        opened
    }

    fn take(&mut self, walk: &mut Walk, process: ProcessHandle, opened: Opened) {
        let Opened { mut program, parent } = opened;
        // A number may have gone to another process before it was opened. Who lives now, was asked for its parent while it was held, and is the child of one that is held, or is the same still, and lives, was this session's all along.
        let is_own = self.has(parent) || walk.is_sshd(parent);
        if !is_own && walk.group.is_none() {
            return;
        }
        let slot = (walk.room > 0).then(|| self.budget.take(self.account, &process)).flatten();
        walk.room = walk.room.saturating_sub(usize::from(slot.is_some()));
        program.handle = slot.map(|slot| Handle { process, slot: Some(slot) });
        if is_own {
            walk.has_news = true;
            self.add(program);
        } else {
            walk.unsure.push(program);
        }
    }

    /// Nobody comes to a group but by birth: who lives and is in it has been there all along.
    fn settle(&mut self, walk: &mut Walk) {
        if walk.unsure.is_empty() {
            return;
        }
        let still = walk.group.as_ref().and_then(|group| group.processes().ok()).unwrap_or_default();
        for program in walk.unsure.drain(..).filter(|program| still.contains(&program.id.pid)) {
            if !program.has_ended() && !self.has(program.id.pid) {
                self.add(program);
            }
        }
    }
}

fn threads_with(pid: u32) -> impl Iterator<Item = (u32, u32)> {
    threads_of(pid).into_iter().map(move |thread| (pid, thread))
}
