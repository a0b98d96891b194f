//! Which process is which, and whose child: read from /proc, which is the kernel's word.
//!
//! A process number alone means little: it may have been given to another process since. [`ProcessId`] adds the start time.

use std::os::unix::fs::MetadataExt;

use crate::process::start_time;

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

/// Children of `pid` at this moment.
pub fn children_of(pid: u32) -> Vec<u32> {
    // Each thread has its own. The file needs CONFIG_PROC_CHILDREN; without it every process is asked for its parent.
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        match std::fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(list.split_ascii_whitespace().filter_map(|p| p.parse::<u32>().ok())),
            // The thread has ended, or the kernel has no such file.
            Err(_) if thread.path().exists() => {
                return all_processes().filter(|p| parent_of(*p) == Some(pid)).collect();
            }
            Err(_) => {}
        }
    }
    children
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Parent of `pid` at this moment.
pub fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may hold anything: what counts comes after the last bracket.
    let after = stat.iter().rposition(|b| *b == b')')?;
    let fields = std::str::from_utf8(stat.get(after..)?).ok()?;
    fields.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// Whether two processes run the same program file.
pub fn run_same_program(one: u32, other: u32) -> bool {
    program_of(one).is_some_and(|program| program_of(other) == Some(program))
}

/// Device and inode of the program that a process runs.
fn program_of(pid: u32) -> Option<(u64, u64)> {
    let m = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((m.dev(), m.ino()))
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
    fn knows_a_child_its_parent_and_what_it_runs() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let (me, pid) = (std::process::id(), child.id());
        let (parent, listed, same) = (parent_of(pid), children_of(me).contains(&pid), run_same_program(me, pid));
        assert!(all_processes().any(|p| p == pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(parent, Some(me));
        assert!(listed);
        assert!(!same && run_same_program(me, me));
        assert!(!run_same_program(pid, pid), "what has ended runs nothing");
    }
}
