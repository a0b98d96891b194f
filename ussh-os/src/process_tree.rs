//! Which process is which, and whose child: read from /proc, which is the kernel's word.
//!
//! A process number alone means little: it may have been given to another process since. [`ProcessId`] adds the start time.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::process::{ProcessHandle, Stat, start_time};

/// Names a process: unique within one boot. A connection of sshd's is named by the process that ran open_session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// Process ID.
    pub pid: u32,
    /// Field 22 of /proc/PID/stat, clock ticks since boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this number now.
    /// # Errors
    /// No such process.
    pub fn of(pid: u32) -> std::io::Result<Self> {
        Ok(ProcessId { pid, start_time: start_time(pid)? })
    }

    /// From `<pid>-<start_time>`.
    pub fn parse(stem: &str) -> Option<Self> {
        let (pid, start_time) = stem.split_once('-')?;
        let id = ProcessId { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? };
        // One spelling only: no signs, no leading zeros.
        (id.stem() == stem).then_some(id)
    }

    /// `<pid>-<start_time>`: what files of this process are called.
    pub fn stem(self) -> String {
        format!("{}-{}", self.pid, self.start_time)
    }

    /// Whether it may still be there: it counts as gone only where the kernel says so, and not where it cannot be asked (no descriptor is left).
    pub fn may_live(self) -> bool {
        start_time(self.pid).map_or_else(|e| e.kind() != io::ErrorKind::NotFound, |t| t == self.start_time)
    }

    /// Whether that very process is still there.
    pub fn lives(self) -> bool {
        start_time(self.pid).is_ok_and(|t| t == self.start_time)
    }
}

impl std::fmt::Display for ProcessId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pid {}", self.pid)
    }
}

/// A process that is told from any other that gets its number.
#[derive(Debug)]
pub struct HeldProcess {
    /// Which.
    pub id: ProcessId,
    handle: ProcessHandle,
}

impl HeldProcess {
    /// Holds it.
    /// # Errors
    /// `NotFound`: it has ended; others as the kernel says.
    pub fn open(id: ProcessId) -> io::Result<Self> {
        Ok(HeldProcess { id, handle: ProcessHandle::open(id.pid, id.start_time)? })
    }

    /// Whether it has ended. One that cannot be asked counts as ended: it proves nothing.
    pub fn has_ended(&self) -> bool {
        self.handle.wait_end(Duration::ZERO).unwrap_or(true)
    }

    /// To signal it.
    pub fn handle(&self) -> &ProcessHandle {
        &self.handle
    }
}

/// Most processes above this one that are looked at: a shell in a shell in a make is ten deep. At some 15 µs each.
pub const MAX_ANCESTORS: usize = 256;

/// How often the look is taken again where something has ended meanwhile.
const LOOKS: usize = 8;

/// Why it cannot be said what a process descends from.
#[derive(Debug, thiserror::Error)]
pub enum NoAncestors {
    /// /proc is that of another pid namespace: its numbers are none of ours.
    #[error("/proc is not that of this process's pid namespace")]
    OtherNamespace,
    /// More than [`MAX_ANCESTORS`].
    #[error("more than {MAX_ANCESTORS} processes are above this one")]
    TooMany,
    /// Each look found something else.
    #[error("the processes above this one come and go")]
    Unsteady,
    /// /proc cannot be read.
    #[error("/proc: {0}")]
    Unreadable(io::Error),
}

/// The nearest process that this one descends from of which `what` knows something; `None`: of none of them.
///
/// The look is taken twice: a parent that is the same number in both looks was the same process in between (its number is not given away while it lives, and when it dies its children
/// get another, older parent), so that there was a moment at which all of this was so. That somebody descends from a process is never brought about later: when parents
/// die, their children go to one who stands above them already (PR_SET_CHILD_SUBREAPER) or to the first process; and whoever traces a process does not become its parent (proc(5), `real_parent`).
/// # Errors
/// [`NoAncestors`], or what `what` says.
pub fn find_ancestor<T, E: From<NoAncestors>>(
    what: impl FnMut(ProcessId) -> Result<Option<T>, E>,
) -> Result<Option<(ProcessId, T)>, E> {
    let me = Stat::of_self().map_err(|error| match error.kind() == io::ErrorKind::NotFound {
        true => NoAncestors::OtherNamespace,
        false => NoAncestors::Unreadable(error),
    })?;
    if me.pid != std::process::id() {
        return Err(NoAncestors::OtherNamespace.into());
    }
    find_above(me.pid, what)
}

/// The same of a process that lives all the while.
fn find_above<T, E: From<NoAncestors>>(
    pid: u32,
    mut what: impl FnMut(ProcessId) -> Result<Option<T>, E>,
) -> Result<Option<(ProcessId, T)>, E> {
    for _ in 0..LOOKS {
        let (mut seen, mut found) = (Vec::new(), None);
        let first = walk_up(pid, |stat| {
            // Itself is none of its ancestors.
            if !seen.is_empty() {
                let id = ProcessId { pid: stat.pid, start_time: stat.start_time };
                found = what(id)?.map(|what| (id, what));
            }
            seen.push(stat);
            Ok::<bool, E>(found.is_none())
        });
        match first {
            Ok(true) => {}
            Ok(false) => continue,
            Err(Stop::No(error)) => return Err(error.into()),
            Err(Stop::Told(error)) => return Err(error),
        }
        let (mut before, mut is_same) = (seen.iter(), true);
        let second = walk_up(pid, |stat| {
            is_same = before.next() == Some(&stat);
            Ok::<bool, NoAncestors>(is_same && before.len() > 0)
        });
        match second {
            Ok(true) if is_same && before.len() == 0 => return Ok(found),
            Ok(_) => {}
            Err(Stop::No(error) | Stop::Told(error)) => return Err(error.into()),
        }
    }
    Err(NoAncestors::Unsteady.into())
}

enum Stop<E> {
    No(NoAncestors),
    Told(E),
}

/// A process and those above it, nearest first, while `goes_on` says so. `false`: one of them has ended meanwhile.
fn walk_up<E>(pid: u32, mut goes_on: impl FnMut(Stat) -> Result<bool, E>) -> Result<bool, Stop<E>> {
    let mut next = pid;
    for _ in 0..=MAX_ANCESTORS {
        let stat = match Stat::of(next) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Stop::No(NoAncestors::Unreadable(error))),
        };
        next = stat.parent;
        if !goes_on(stat).map_err(Stop::Told)? || next == 0 {
            return Ok(true);
        }
    }
    Err(Stop::No(NoAncestors::TooMany))
}

/// Children of `pid` at this moment.
pub fn children_of(pid: u32) -> Vec<u32> {
    threads_of(pid).into_iter().flat_map(|thread| children_of_thread(pid, thread)).collect()
}

/// Threads of `pid` at this moment, the first one among them.
pub fn threads_of(pid: u32) -> Vec<u32> {
    let folder = format!("/proc/{pid}/task");
    // Most have the first one alone, and to hear that costs a fifth of what it costs to list them.
    let is_alone = std::fs::metadata(&folder).is_ok_and(|m| m.nlink() == LINKS_OF_A_FOLDER + 1);
    if is_alone { vec![pid] } else { numbers_in(&folder).collect() }
}

/// And one more for each thread, in /proc/PID/task (fs/proc/base.c, proc_task_getattr).
const LINKS_OF_A_FOLDER: u64 = 2;

/// Children of one thread of `pid` at this moment: each thread has its own.
pub fn children_of_thread(pid: u32, thread: u32) -> Vec<u32> {
    let folder = format!("/proc/{pid}/task/{thread}");
    let mut list = String::new();
    // Most have few, or none, and a file would be asked for its size first, which this one has not.
    let read = |file: File| file.take(u64::MAX).read_to_string(&mut list);
    match File::open(format!("{folder}/children")).and_then(read) {
        Ok(_) => list.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect(),
        // Without CONFIG_PROC_CHILDREN there is no such file, and every process is asked for its parent: once, for the first thread.
        Err(_) if thread == pid && std::path::Path::new(&folder).exists() => {
            numbers_in("/proc").filter(|p| parent_of(*p) == Some(pid)).collect()
        }
        // It has ended.
        Err(_) => Vec::new(),
    }
}

/// A process with all those below it that run its own image still: forked, and nothing executed since, neither by them nor by those in between.
pub fn with_mere_forks(process: ProcessId) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([process.pid]);
    let mut to_ask = vec![process.pid];
    while let Some(pid) = to_ask.pop() {
        let forks = children_of(pid).into_iter().filter(|child| Stat::of(*child).is_ok_and(|stat| stat.is_mere_fork));
        to_ask.extend(forks.filter(|child| found.insert(*child)));
    }
    // The number may have been somebody else's.
    if process.lives() { found } else { BTreeSet::new() }
}

pub(crate) fn numbers_in(folder: &str) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Parent of `pid` at this moment.
pub fn parent_of(pid: u32) -> Option<u32> {
    Some(Stat::of(pid).ok()?.parent)
}

/// Whether a process is of the same pid namespace as this one, so that numbers mean the same to both.
/// # Errors
/// It has ended, or may not be looked at.
pub fn shares_pid_namespace(pid: u32) -> io::Result<bool> {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/pid"));
    Ok(namespace("self")? == namespace(&pid.to_string())?)
}

/// Whether two processes run the same program file.
pub fn run_same_program(one: u32, other: u32) -> bool {
    program_of(one).is_some_and(|program| program_of(other) == Some(program))
}

/// Device and inode of the program that a process runs, as the kernel has them (AT_STATX_DONT_SYNC): it may lie in a file system of its user's own, which nobody is to wait for.
fn program_of(pid: u32) -> Option<(u32, u32, u64)> {
    let path = CString::new(format!("/proc/{pid}/exe")).ok()?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: a system call with a path that ends and room for what it writes (statx(2)).
    let result = unsafe {
        libc::statx(libc::AT_FDCWD, path.as_ptr(), libc::AT_STATX_DONT_SYNC, libc::STATX_INO, found.as_mut_ptr())
    };
    // SAFETY: all zeroes is a valid statx, whatever of it the kernel has written.
    let found = unsafe { found.assume_init() };
    (result == 0).then_some((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_process_has_one_name() {
        let id = ProcessId { pid: 7, start_time: 42 };
        assert_eq!(ProcessId::parse(&id.stem()), Some(id));
        for other in ["7", "7-", "-42", "07-42", "7-042", "+7-42", "7-42-", "7-42 ", "a-b"] {
            assert_eq!(ProcessId::parse(other), None, "{other}");
        }
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.lives());
        assert!(!ProcessId { start_time: me.start_time + 1, ..me }.lives());
    }

    #[test]
    fn threads_are_all_told_whether_there_are_others_than_the_first_or_not() {
        let mut alone = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(threads_of(alone.id()), [alone.id()]);
        alone.kill().unwrap();
        alone.wait().unwrap();
        assert_eq!(threads_of(alone.id()), [0; 0], "it is gone");
        let (me, other) =
            (std::process::id(), std::thread::spawn(|| (nix::unistd::gettid(), threads_of(std::process::id()))));
        let (other, told) = other.join().unwrap();
        assert!([me, other.as_raw().unsigned_abs()].iter().all(|thread| told.contains(thread)), "{told:?}");
    }

    /// All above a process.
    fn above(pid: u32) -> Result<Vec<u32>, NoAncestors> {
        let mut all = Vec::new();
        let nothing: Option<(ProcessId, ())> = find_above(pid, |id| {
            all.push(id.pid);
            Ok::<_, NoAncestors>(None)
        })?;
        assert!(nothing.is_none());
        Ok(all)
    }

    /// A shell script, whose last line of output is the number of a process.
    struct Script(std::process::Child, u32);

    impl Script {
        fn start(script: &str) -> Self {
            use std::io::BufRead;
            use std::process::Stdio;
            let mut command = std::process::Command::new("sh");
            let mut child = command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            Script(child, line.trim().parse().unwrap())
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            // Whoever waits for its input ends.
            drop(self.0.stdin.take());
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn finds_what_it_descends_from_nearest_first() {
        let me = std::process::id();
        let above = above(me).unwrap();
        assert_eq!(above.first(), Some(&std::os::unix::process::parent_id()));
        assert_eq!(parent_of(*above.last().unwrap()), Some(0), "the last one has no parent");
        for pair in above.windows(2) {
            assert_eq!(parent_of(pair[0]), Some(pair[1]));
        }
        assert!(!above.contains(&me), "it is none of its own");
        let parent = find_ancestor(|id| Ok::<_, NoAncestors>((id.pid == above[0]).then_some("that"))).unwrap();
        assert_eq!(parent, Some((ProcessId::of(above[0]).unwrap(), "that")));
        let told = find_ancestor(|_| Err::<Option<()>, _>(NoAncestors::TooMany));
        assert!(matches!(told, Err(NoAncestors::TooMany)));
    }

    #[test]
    fn one_that_was_left_to_another_process_descends_no_more_from_who_is_gone() {
        let below = Script::start("sh -c 'echo $$; read x'; true");
        assert_eq!(above(below.1).unwrap()[..2], [below.0.id(), std::process::id()]);
        // The one in between ends at once; this very process is no subreaper.
        let left = Script::start("exec 3<&0; sh -c 'sh -c \"read x <&3; true\" & echo $!'; read x");
        while parent_of(left.1).is_some_and(|parent| above(parent).is_ok_and(|all| all.contains(&left.0.id()))) {
            std::thread::yield_now();
        }
        assert!(!above(left.1).unwrap().contains(&std::process::id()));
    }

    #[test]
    fn what_comes_and_goes_is_not_believed() {
        let below = Script::start("sh -c 'echo $$; read x'; true");
        let told = find_above(below.1, |_| Ok::<_, NoAncestors>(Some(())));
        assert_eq!(told.unwrap().map(|(id, ())| id.pid), Some(below.0.id()), "it stands still");
        let gone = find_above(u32::MAX, |_| Ok::<Option<()>, NoAncestors>(None));
        assert!(matches!(gone, Err(NoAncestors::Unsteady)));
        let left = Script::start("exec 3<&0; sh -c 'sh -c \"read x <&3; true\" & echo $!; read x'; read x");
        let pid = left.1;
        let mut first = None;
        let found = find_above(pid, |id| {
            if first.is_none() {
                first = Some(id);
                // Between the first look and the second, the parent ends.
                HeldProcess::open(id).unwrap().handle().signal(libc::SIGKILL).unwrap();
                while parent_of(pid) == Some(id.pid) {
                    std::thread::yield_now();
                }
                return Ok::<_, NoAncestors>(Some(()));
            }
            Ok(None)
        });
        assert!(found.unwrap().is_none(), "what the first look found is not so any more");
    }

    #[test]
    fn too_many_above_are_an_error() {
        // Each shell waits for the next.
        let deep = format!(
            "f() {{ if [ $1 -le {MAX_ANCESTORS} ]; then (f $(($1+1)); true); else exec sh -c 'echo $$; read x'; fi; }}; f 0"
        );
        assert!(matches!(above(Script::start(&deep).1), Err(NoAncestors::TooMany)));
    }
}
