//! Commands on a host.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, OFlags, SeekFrom, fcntl_setfl, memfd_create, seek};

use crate::error::{Doing, LabError, Result, section};
use crate::host::Host;
use crate::journal::Watched;
use crate::process::{Process, Running};
use crate::pty::Pty;
use crate::wait::locked;
use crate::wire::{Channel, RunRequest, Status};

/// How long a command may take unless it is told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A command to be run: as root, in the user's home, with nothing on standard input, unless it is told otherwise.
#[derive(Debug)]
pub struct Command<'host> {
    host: &'host Host,
    argv: Vec<String>,
    user: String,
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    stdin: Vec<u8>,
    timeout: Duration,
}

impl<'host> Command<'host> {
    pub(crate) fn new(host: &'host Host, argv: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Command {
            host,
            argv: argv.into_iter().map(|word| word.as_ref().to_owned()).collect(),
            user: "root".to_owned(),
            env: BTreeMap::new(),
            cwd: None,
            stdin: Vec::new(),
            timeout: PATIENCE,
        }
    }

    /// Run as this user, as a login of theirs would.
    #[must_use]
    pub fn user(mut self, name: &str) -> Self {
        name.clone_into(&mut self.user);
        self
    }

    /// Adds a variable to the environment of a login.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Run in this folder.
    #[must_use]
    pub fn cwd(mut self, folder: &str) -> Self {
        self.cwd = Some(folder.to_owned());
        self
    }

    /// What the command reads.
    #[must_use]
    pub fn stdin(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.stdin = content.into();
        self
    }

    /// How long [`Command::run`] waits.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it to its end. What it leaves in the background is not waited for.
    ///
    /// # Errors
    /// If it could not be started, or took too long (then it is killed). An exit code is not an error:
    /// see [`Output::ok`].
    pub fn run(self) -> Result<Output> {
        let timeout = self.timeout;
        self.spawn()?.wait(timeout)
    }

    /// Starts it in the background. It is killed when the returned handle goes.
    ///
    /// # Errors
    /// If it could not be started.
    pub fn spawn(self) -> Result<Process> {
        let capture = Arc::new(Capture::new()?);
        let stdin = memory_file()?;
        (&stdin).write_all(&self.stdin).doing("filling standard input")?;
        seek(&stdin, SeekFrom::Start(0)).doing("filling standard input")?;
        let (near, far) = Channel::pair().doing("making a channel")?;
        let beside = [far.as_fd(), stdin.as_fd(), capture.stdout.as_fd(), capture.stderr.as_fd()];
        self.host.ask(&self.request(false), &beside)?;
        drop(far);
        let (running, _) = Running::begin(self.host, near, self.title(), capture.clone())?;
        Ok(Process::new(running, capture))
    }

    /// Starts it on a terminal. It is killed when the returned handle goes.
    ///
    /// # Errors
    /// If it could not be started.
    pub fn terminal(self) -> Result<Pty> {
        let screen = Arc::default();
        let (running, master) = self.on_terminal(Arc::clone(&screen) as Arc<dyn Watched>)?;
        Pty::new(running, File::from(master), screen)
    }

    /// Runs it to its end on a terminal that is joined to this program's: a person types, and sees what it shows.
    ///
    /// # Errors
    /// If it could not be started, or this program's terminal is lost.
    pub fn attach(self) -> Result<Status> {
        let (running, master) = self.on_terminal(Arc::new(Unwatched))?;
        crate::attach::attach(&running, master)
    }

    fn on_terminal(&self, output: Arc<dyn Watched>) -> Result<(Running, OwnedFd)> {
        let (near, far) = Channel::pair().doing("making a channel")?;
        self.host.ask(&self.request(true), &[far.as_fd()])?;
        drop(far);
        let (running, master) = Running::begin(self.host, near, self.title(), output)?;
        Ok((running, master.ok_or_else(|| LabError::setup("no terminal came with the command"))?))
    }

    /// Starts it in the background as part of the host: it lives until [`Host::stop_service`], and what it prints is in
    /// the host's logs. A service of that name that runs already is killed first.
    ///
    /// # Errors
    /// If it could not be started.
    pub fn service(self, name: &str) -> Result<Arc<Process>> {
        let host = self.host;
        host.forget_service(name)?;
        let process = Arc::new(self.spawn()?);
        locked(&host.inner.services).insert(name.to_owned(), Arc::clone(&process));
        Ok(process)
    }

    fn request(&self, terminal: bool) -> RunRequest {
        RunRequest {
            argv: self.argv.clone(),
            user: self.user.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            terminal,
        }
    }

    /// As a shell with the usual prompt would show it.
    fn title(&self) -> String {
        let sign = if self.user == "root" { '#' } else { '$' };
        let words: Vec<String> = self.argv.iter().map(|word| quoted(word)).collect();
        format!("{}@{}{sign} {}", self.user, self.host.name(), words.join(" "))
    }
}

fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_=+./:@,%".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What a command that has ended left.
#[derive(Clone, Debug)]
pub struct Output {
    /// `alice@web1$ sudo id`.
    pub command: String,
    /// How it ended.
    pub status: Status,
    /// What it wrote, where it is not UTF-8 with replacement characters.
    pub stdout: String,
    /// As `stdout`.
    pub stderr: String,
    /// What it wrote.
    pub stdout_bytes: Vec<u8>,
}

impl Output {
    /// Exit code 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// This output, if the command succeeded.
    ///
    /// # Errors
    /// [`LabError::Failed`] with all of it, if it did not.
    pub fn ok(self) -> Result<Output> {
        if self.success() { Ok(self) } else { Err(LabError::Failed(Box::new(self))) }
    }

    /// This output, if the command failed by itself: with an exit code that is not 0.
    ///
    /// # Errors
    /// [`LabError::Failed`] with all of it, if it succeeded or was killed.
    pub fn refused(self) -> Result<Output> {
        match self.status {
            Status::Exited(code) if code != 0 => Ok(self),
            Status::Exited(_) | Status::Signaled(_) | Status::HostGone => Err(LabError::Failed(Box::new(self))),
        }
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.command, self.status)?;
        write!(out, "{}{}", section("stdout", &self.stdout), section("stderr", &self.stderr))
    }
}

/// Where a command writes: files in memory. Unlike with pipes, nothing waits for what it leaves in the background.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) stdout: File,
    pub(crate) stderr: File,
}

impl Capture {
    fn new() -> Result<Self> {
        Ok(Capture { stdout: memory_file()?, stderr: memory_file()? })
    }
}

impl Watched for Capture {
    fn printed(&self) -> String {
        let bytes = [content(&self.stdout), content(&self.stderr)].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What a person sees: nobody else looks.
#[derive(Debug)]
struct Unwatched;

impl Watched for Unwatched {
    fn printed(&self) -> String {
        String::new()
    }
}

/// A file that is in no folder, of which several processes may write lines: for the kernel their one position in such a file is no reason to let one wait for the other.
pub(crate) fn memory_file() -> Result<File> {
    let file: OwnedFd = memfd_create("ussh-lab", MemfdFlags::CLOEXEC).doing("making a file in memory")?;
    fcntl_setfl(&file, OFlags::APPEND).doing("making a file in memory")?;
    Ok(File::from(file))
}

/// All of a file that others are writing: its position is theirs, so it is left alone.
pub(crate) fn content(file: &File) -> Vec<u8> {
    let mut content = Vec::new();
    let mut chunk = vec![0_u8; 64 * 1024];
    while let Ok(length @ 1..) = file.read_at(&mut chunk, content.len() as u64) {
        content.extend_from_slice(chunk.get(..length).unwrap_or_default());
    }
    content
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn reads_a_file_without_moving_its_writer() {
        let file = memory_file().unwrap();
        (&file).write_all(b"one ").unwrap();
        assert_eq!(content(&file), b"one ");
        (&file).write_all(b"two").unwrap();
        assert_eq!(content(&file), b"one two");
    }

    #[test]
    fn what_two_write_at_once_is_all_there() {
        const LINES: usize = 100_000;
        let file = memory_file().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..LINES).for_each(|_| (&file).write_all(b"line\n").unwrap()));
            }
        });
        assert_eq!(content(&file).len(), 2 * LINES * "line\n".len());
    }

    #[test]
    fn quotes_what_a_shell_would_not_take_as_one_word() {
        assert_eq!(quoted("user@web1"), "user@web1");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
