//! Other programs, with a deadline and a bound on what they say: `ssh` to the CA, `sshd -t`, the command of an `exec:` feed.
//!
//! Each has an empty environment but for `PATH`, no shell, no terminal, and a process group of its own, which is killed as a whole when the program hangs, says too much, or is not waited for.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;
use ussh_core::escape::escape;
use ussh_os::detached::set_apart;
use ussh_os::process::{ProcessHandle, start_time};

/// Where programs are looked for that a program starts.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most that is kept of what a program says on stderr, bytes.
const MAX_STDERR: usize = 16 * 1024;
/// Longest part of it in a message, bytes.
const MAX_TOLD: usize = 512;
/// Read at once, bytes.
const PIECE: usize = 64 * 1024;

/// Bounds of a program.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From its start to its end.
    pub time: Duration,
    /// Of its stdout.
    pub bytes: usize,
}

/// Why a program gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// Its path.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("{program} took longer than {} s", time.as_secs())]
    Slow {
        /// Its path.
        program: String,
        /// Its bound.
        time: Duration,
    },
    /// It said too much.
    #[error("{program} gave more than {max} bytes")]
    Huge {
        /// Its path.
        program: String,
        /// Its bound.
        max: usize,
    },
    /// It failed.
    #[error("{program} failed ({status}){}", after_colon(said))]
    Failed {
        /// Its path.
        program: String,
        /// How.
        status: ExitStatus,
        /// What it said on stderr, escaped and cut.
        said: String,
    },
    /// It could not be read from, or waited for.
    #[error("{program}: {source}")]
    Io {
        /// Its path.
        program: String,
        /// Why.
        source: io::Error,
    },
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// What a program has said when it has ended.
#[derive(Debug)]
pub struct Ended {
    program: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All that it said that was not taken before.
    pub stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ended {
    /// Its last words on stderr, in one line for a message, escaped.
    pub fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let all = lines.join("; ");
        // The reason stands at the end.
        let start = all.len().saturating_sub(MAX_TOLD);
        let start = (start..=all.len()).find(|at| all.is_char_boundary(*at)).unwrap_or(0);
        escape(all.get(start..).unwrap_or_default().as_bytes(), MAX_TOLD)
    }

    /// The end of what it said on stderr, as it was said.
    pub fn stderr(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// All of its stdout, if it ended well.
    /// # Errors
    /// [`ChildError::Failed`]
    pub fn ok(self) -> Result<Vec<u8>, ChildError> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        Err(ChildError::Failed { said: self.said(), status: self.status, program: self.program })
    }
}

/// A program with an empty environment.
pub fn program(path: &str, arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

/// Runs it to its end, with nothing to read.
/// # Errors
/// [`ChildError`], never `Failed`.
pub fn run(command: &mut Command, bounds: Bounds) -> Result<Ended, ChildError> {
    Running::start(command, bounds)?.finish()
}

/// A program that runs. Dropped, it and its process group are killed.
#[derive(Debug)]
pub struct Running {
    program: String,
    child: Child,
    handle: ProcessHandle,
    bounds: Bounds,
    deadline: Instant,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    taken: usize,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts it.
    /// # Errors
    /// [`ChildError::Start`]
    pub fn start(command: &mut Command, bounds: Bounds) -> Result<Self, ChildError> {
        let name = Path::new(command.get_program()).display().to_string();
        let failed = |source| ChildError::Start { program: name.clone(), source };
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = set_apart(piped).spawn().map_err(failed)?;
        // Not waited for yet: the number is still this child's.
        let handle = start_time(child.id()).and_then(|start| ProcessHandle::open(child.id(), start));
        let handle = handle.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        });
        let deadline = Instant::now() + bounds.time;
        Ok(Running {
            handle: handle.map_err(failed)?,
            program: name.clone(),
            child,
            bounds,
            deadline,
            stdout: Vec::new(),
            stderr: Vec::new(),
            taken: 0,
            status: None,
        })
    }

    /// Writes to its stdin: less than a pipe holds (64 KiB) at a time, or this may wait for the program.
    /// # Errors
    /// [`ChildError::Io`]
    pub fn say(&mut self, text: &str) -> Result<(), ChildError> {
        let written = self.child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(text.as_bytes()));
        written.map_err(|source| self.io(source))
    }

    /// The next line of its stdout, with its end. `None`: it says no more; [`Running::finish`] tells how it ended.
    /// # Errors
    /// [`ChildError`]
    pub fn line(&mut self) -> Result<Option<Vec<u8>>, ChildError> {
        let mut looked = 0;
        loop {
            if let Some(at) = self.stdout.iter().skip(looked).position(|byte| *byte == b'\n') {
                let rest = self.stdout.split_off(looked + at + 1);
                return Ok(Some(std::mem::replace(&mut self.stdout, rest)));
            }
            looked = self.stdout.len();
            if !self.listen()? {
                return Ok(None);
            }
        }
    }

    /// Closes its stdin and waits for its end.
    /// # Errors
    /// [`ChildError`], never `Failed`.
    pub fn finish(mut self) -> Result<Ended, ChildError> {
        drop(self.child.stdin.take());
        while self.listen()? {}
        let left = self.deadline.saturating_duration_since(Instant::now());
        if !self.handle.wait_end(left).map_err(|e| self.io(e))? {
            return Err(self.slow());
        }
        let status = self.child.wait().map_err(|e| self.io(e))?;
        self.status = Some(status);
        let (stdout, stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        Ok(Ended { program: self.program.clone(), status, stdout, stderr })
    }

    /// Waits until it says more; false: it has closed both.
    fn listen(&mut self) -> Result<bool, ChildError> {
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let (stdout, stderr) = (&self.child.stdout, &self.child.stderr);
        fds.extend(stdout.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        fds.extend(stderr.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        if fds.is_empty() {
            return Ok(false);
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        match ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None) {
            Ok(0) => return Err(self.slow()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(self.io(e.into())),
        }
        let most = self.bounds.bytes.saturating_sub(self.taken);
        let mut piece = Vec::new();
        let ended = self.child.stdout.as_mut().map(|pipe| read_what_is_there(pipe, &mut piece)).transpose();
        if ended.map_err(|e| self.io(e))? == Some(true) {
            self.child.stdout = None;
        }
        if piece.len() > most {
            return Err(ChildError::Huge { program: self.program.clone(), max: self.bounds.bytes });
        }
        self.taken += piece.len();
        self.stdout.append(&mut piece);
        let ended = self.child.stderr.as_mut().map(|pipe| read_what_is_there(pipe, &mut piece)).transpose();
        if ended.map_err(|e| self.io(e))? == Some(true) {
            self.child.stderr = None;
        }
        self.stderr.append(&mut piece);
        let surplus = self.stderr.len().saturating_sub(MAX_STDERR);
        self.stderr.drain(..surplus);
        Ok(true)
    }

    fn slow(&self) -> ChildError {
        ChildError::Slow { program: self.program.clone(), time: self.bounds.time }
    }

    fn io(&self, source: io::Error) -> ChildError {
        ChildError::Io { program: self.program.clone(), source }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Before it is waited for, its number is its own, and so is its group's. Afterwards what it left behind in its group is out of reach.
        if self.status.is_none() {
            if let Ok(group) = i32::try_from(self.child.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// One read of a pipe that may have nothing yet; true: its other end is closed.
fn read_what_is_there(pipe: &mut (impl Read + AsFd), to: &mut Vec<u8>) -> io::Result<bool> {
    let flags = OFlag::from_bits_truncate(fcntl(pipe.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(pipe.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    to.resize(PIECE, 0);
    match pipe.read(to) {
        Ok(n) => {
            to.truncate(n);
            Ok(n == 0)
        }
        Err(e) => {
            to.clear();
            if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) { Ok(false) } else { Err(e) }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    const BOUNDS: Bounds = Bounds { time: Duration::from_secs(20), bytes: 100_000 };

    fn sh(script: &str) -> Command {
        program("/bin/sh", ["-c", script])
    }

    #[test]
    fn what_it_says_and_how_it_ends_is_told() {
        let ended = run(&mut sh("echo out; echo one >&2; echo 'tw\ro' >&2; exit 3"), BOUNDS).unwrap();
        assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(3), &b"out\n"[..]));
        let told = ended.ok().unwrap_err().to_string();
        assert!(told.starts_with("/bin/sh failed (exit status: 3): one; tw") && !told.contains('\r'), "{told}");
    }

    #[test]
    fn lines_come_one_by_one() {
        let mut running = Running::start(&mut sh("echo hello; read word; echo \"$word$word\""), BOUNDS).unwrap();
        assert_eq!(running.line().unwrap().unwrap(), b"hello\n");
        running.say("ab\n").unwrap();
        assert_eq!(running.line().unwrap().unwrap(), b"abab\n");
        assert_eq!(running.line().unwrap(), None);
        assert!(running.finish().unwrap().status.success());
    }

    #[test]
    fn nothing_of_our_environment_is_passed_on() {
        let ended = run(&mut program("/usr/bin/env", [""; 0]), BOUNDS).unwrap();
        let names = String::from_utf8(ended.stdout).unwrap();
        let mut names: Vec<&str> = names.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH"]);
    }

    #[test]
    fn one_that_has_no_end_or_says_too_much_is_killed_with_what_it_started() {
        let quick = Bounds { time: Duration::from_millis(300), ..BOUNDS };
        let mut running = Running::start(&mut sh("sleep 60 & echo $!; wait"), quick).unwrap();
        let line = String::from_utf8(running.line().unwrap().unwrap()).unwrap();
        let pid: u32 = line.trim().parse().unwrap();
        let child = ProcessHandle::open(pid, start_time(pid).unwrap()).unwrap();
        assert!(matches!(running.finish(), Err(ChildError::Slow { .. })));
        assert!(child.wait_end(BOUNDS.time).unwrap(), "its child lives on");

        let error = run(&mut sh("exec cat /dev/zero"), BOUNDS).unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh gave more than 100000 bytes");
        // It has closed both of its pipes, and lives.
        assert!(matches!(run(&mut sh("exec >&- 2>&-; sleep 60"), quick), Err(ChildError::Slow { .. })));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut program("/nonexistent/x", [""; 0]), BOUNDS).unwrap_err();
        assert!(error.to_string().starts_with("cannot run /nonexistent/x: No such file"), "{error}");
    }
}
