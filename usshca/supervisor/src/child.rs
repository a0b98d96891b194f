//! Child processes: held by pidfd, reaped by pid, their output taken in and logged line by line.

use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde::Serialize;
use ussh_os::process::{ProcessHandle, start_time};
use usshca_ipc::channel::encode;

/// Most lines of one process that are logged; a process that says more is drained in silence.
const MAX_LINES: usize = 50;
/// Longest line that is kept, in bytes.
const MAX_LINE: usize = 1024;
/// Most that is read of one process's log in one turn, in bytes: the others wait meanwhile.
const MAX_TURN: usize = 64 * 1024;
/// Most processes that are looked for beneath one.
const MAX_FAMILY: usize = 256;
/// How often it is looked whether one has stopped.
const MAX_LOOKS: u32 = 1000;
/// A process that has said more than this in all, in bytes, is up to no good.
const MAX_LOG: usize = 1 << 20;

/// A child that has not been reaped yet, so that its pid is its own.
pub struct Child {
    child: std::process::Child,
    handle: ProcessHandle,
}

impl Child {
    /// Takes hold of a child that was just spawned.
    /// # Errors
    /// There is no pidfd to be had; the child is killed then.
    pub fn new(mut child: std::process::Child) -> io::Result<Self> {
        match start_time(child.id()).and_then(|time| ProcessHandle::open(child.id(), time)) {
            Ok(handle) => Ok(Child { child, handle }),
            Err(e) => {
                // Already gone is just as well.
                let _ = child.kill();
                let _ = child.wait();
                Err(e)
            }
        }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it; it is reaped later.
    pub fn kill(&mut self) {
        // The only error is that it has ended.
        let _ = self.child.kill();
    }

    /// Kills it, whatever it has started and what those have: what a PAM module runs (pam_exec puts it into a session of its own) ends with its worker. A worker is a subreaper, so that what
    /// has lost its parent hangs together with it too. One that ends by itself takes along its process group alone ([`Self::kill_rest`]): what left that has become init's then.
    pub fn kill_family(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()).map(Pid::from_raw) else { return };
        // It was not reaped, so that the number is its own. Stopped, nobody makes more of them, nor reaps one whose number could be another's then.
        let mut family = vec![pid];
        let mut next = 0;
        while let Some(member) = family.get(next).copied().filter(|_| family.len() < MAX_FAMILY) {
            next += 1;
            let _ = kill(member, Signal::SIGSTOP);
            wait_until_stopped(member);
            let mut found = children(member);
            found.retain(|child| !family.contains(child));
            family.extend(found);
        }
        let _ = killpg(pid, Signal::SIGKILL);
        for member in family {
            let _ = kill(member, Signal::SIGKILL);
        }
    }

    /// Kills what is left of its process group, once it has ended and before it is reaped: until then the number is its own.
    pub fn kill_rest(&self) {
        if let Ok(pid) = i32::try_from(self.child.id()).map(Pid::from_raw) {
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }

    /// How it has ended, if it has; it is not reaped.
    pub fn peek(&self) -> Option<WaitStatus> {
        let pid = i32::try_from(self.child.id()).map(Pid::from_raw).ok()?;
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(pid), flags).ok().filter(|status| *status != WaitStatus::StillAlive)
    }

    /// Reaps it if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end until `deadline`, then kills it; reaps it.
    pub fn end_by(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        if !self.handle.wait_end(left).unwrap_or(false) {
            self.kill();
        }
        // A killed process ends.
        let _ = self.child.wait();
    }
}

/// A signal that is sent is not yet obeyed; a process that waits for a disk never is.
fn wait_until_stopped(pid: Pid) {
    let state = |pid: Pid| -> Option<String> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may hold anything (proc(5)).
        Some(stat.rsplit_once(')')?.1.trim_start().get(..1)?.to_owned())
    };
    for _ in 0..MAX_LOOKS {
        match state(pid).as_deref() {
            Some("R" | "S") => std::thread::yield_now(),
            _ => return,
        }
    }
}

/// By proc(5), /proc/PID/task/TID/children.
fn children(pid: Pid) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<i32> = lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok())
        .collect();
    pids.into_iter().map(Pid::from_raw).collect()
}

impl AsFd for Child {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Drop for Child {
    /// No child outlives what is known of it.
    fn drop(&mut self) {
        if self.try_wait().is_none() {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// A message as a file in memory, for a child to read to its end.
/// # Errors
/// As the kernel says.
pub fn setup_file<T: Serialize>(message: &T) -> io::Result<OwnedFd> {
    let bytes = encode(message).map_err(io::Error::other)?;
    let mut file = File::from(memfd_create(c"setup", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}

/// The reading end of what a child says.
pub struct LogPipe {
    /// `None` once nothing more is read.
    pipe: Option<PipeReader>,
    partial: Vec<u8>,
    lines: usize,
    /// Bytes so far.
    read: usize,
}

impl LogPipe {
    /// The pipe, and its writing end for the child.
    /// # Errors
    /// As the kernel says.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (pipe, writer) = io::pipe()?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((LogPipe { pipe: Some(pipe), partial: Vec::new(), lines: 0, read: 0 }, writer.into()))
    }

    /// Whether more may come.
    pub fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// To wait on, while it is open.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Whether it has said so much that it is to be killed.
    pub fn is_excessive(&self) -> bool {
        self.read > MAX_LOG
    }

    /// Nothing more is read.
    pub fn close(&mut self) {
        self.pipe = None;
    }

    /// Reads what is there, 64 KiB at most, and hands over each line, raw.
    pub fn drain(&mut self, mut each: impl FnMut(&str)) {
        let mut buffer = [0; 4096];
        let end = self.read.saturating_add(MAX_TURN);
        while let Some(pipe) = self.pipe.as_mut().filter(|_| self.read < end) {
            match pipe.read(&mut buffer) {
                Ok(0) => {
                    self.pipe = None;
                    self.take(b"\n", &mut each);
                }
                Ok(n) => {
                    self.read = self.read.saturating_add(n);
                    self.take(buffer.get(..n).unwrap_or_default(), &mut each);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(&str)) {
        for &byte in bytes {
            if byte != b'\n' {
                if self.partial.len() < MAX_LINE {
                    self.partial.push(byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.partial);
            if line.is_empty() || self.lines > MAX_LINES {
                continue;
            }
            self.lines += 1;
            if self.lines > MAX_LINES {
                each("(it says more; no longer logged)");
            } else {
                each(&String::from_utf8_lossy(&line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn lines(said: &[u8]) -> (Vec<String>, bool) {
        let (mut log, writer) = LogPipe::new().unwrap();
        let mut out = Vec::new();
        log.drain(|l| out.push(l.to_owned()));
        assert!(out.is_empty() && log.is_open());
        File::from(writer).write_all(said).unwrap();
        log.drain(|l| out.push(l.to_owned()));
        (out, log.is_open())
    }

    #[test]
    fn lines_come_out_one_by_one_the_last_one_too() {
        assert_eq!(lines(b"one\n\ntwo\nlast"), (vec!["one".into(), "two".into(), "last".into()], false));
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let mut said = vec![b'x'; 5000];
        said.extend_from_slice(b"\nnext\n");
        let (out, _) = lines(&said);
        assert_eq!((out[0].len(), out[1].as_str()), (MAX_LINE, "next"));
    }

    #[test]
    fn a_process_that_talks_without_end_is_drained_in_silence() {
        let (out, _) = lines(&b"a\n".repeat(1000));
        assert_eq!(out.len(), MAX_LINES + 1);
    }

    #[test]
    fn a_process_that_writes_without_end_holds_nobody_up_and_is_found_out() {
        let (mut log, writer) = LogPipe::new().unwrap();
        let endless = std::thread::spawn(move || {
            let mut writer = File::from(writer);
            // Until the reading end is gone.
            while writer.write_all(&[b'a'; 4096]).is_ok() {}
        });
        let mut turns = 0;
        while !log.is_excessive() {
            let before = log.read;
            log.drain(|_| {});
            assert!(log.read - before <= MAX_TURN);
            turns += usize::from(log.read > before);
        }
        assert!(turns >= MAX_LOG / MAX_TURN && log.is_open(), "{turns}");
        drop(log);
        endless.join().unwrap();
    }

    #[test]
    fn a_setup_is_read_to_its_end() {
        let fd = setup_file(&("alice", 7_u32)).unwrap();
        let mut bytes = Vec::new();
        File::from(fd).read_to_end(&mut bytes).unwrap();
        assert_eq!(usshca_ipc::channel::decode::<(String, u32)>(&bytes).unwrap(), ("alice".to_owned(), 7));
    }

    /// Not in a test's own process group, as the CA's children.
    fn shell(script: &str) -> (Child, Vec<u32>) {
        use std::io::BufRead;
        use std::os::unix::process::CommandExt;
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let out = io::BufReader::new(child.stdout.take().unwrap());
        let pids = out.lines().take(2).map(|line| line.unwrap().parse().unwrap()).collect();
        (Child::new(child).unwrap(), pids)
    }

    fn is_gone(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    }

    fn wait_until_gone(pids: &[u32]) {
        let end = Instant::now() + std::time::Duration::from_secs(10);
        while !pids.iter().all(|pid| is_gone(*pid)) {
            assert!(Instant::now() < end, "{pids:?} are still there");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_a_child_has_started_is_killed_with_it_in_a_session_of_its_own_too() {
        let inner = "echo $$; sleep 60 & echo $!; wait";
        let (mut held, pids) = shell(&format!("setsid sh -c '{inner}' & wait"));
        assert!(pids.len() == 2 && !pids.iter().any(|pid| is_gone(*pid)));
        held.kill_family();
        wait_until_gone(&pids);
    }

    #[test]
    fn what_is_left_of_a_child_that_ended_is_killed_before_it_is_reaped() {
        let (mut held, pids) = shell("echo $$; sleep 60 >&2 & echo $!; kill -SEGV $$");
        let end = Instant::now() + std::time::Duration::from_secs(10);
        while held.peek().is_none() {
            assert!(Instant::now() < end);
        }
        assert!(matches!(held.peek(), Some(WaitStatus::Signaled(_, Signal::SIGSEGV, _))), "{:?}", held.peek());
        assert!(!is_gone(pids[1]));
        held.kill_rest();
        wait_until_gone(&pids[1..]);
        assert!(held.try_wait().is_some());
    }

    #[test]
    fn a_child_is_killed_with_its_handle() {
        let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id();
        let mut held = Child::new(child).unwrap();
        assert!(held.try_wait().is_none());
        drop(held);
        assert!(start_time(pid).is_err());
    }
}
