//! A command that was started.

use std::io::{Error, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::command::{Capture, Output, content};
use crate::error::{Doing, LabError, Result};
use crate::host::Host;
use crate::journal::{Journal, Watched};
use crate::wait::{locked, wait_until};
use crate::wire::{Channel, RunControl, RunReply, Status};

/// How long host init may take to start a command. It does nothing that waits.
const START: Duration = Duration::from_secs(20);

/// The test's end of a command. Dropping it closes the channel, and host init kills the command's process group.
#[derive(Debug)]
pub(crate) struct Running {
    pid: i32,
    title: String,
    channel: Channel,
    ended: Mutex<Option<Status>>,
    journal: Arc<Journal>,
    entry: u64,
}

impl Running {
    /// Waits for the word that the command runs; with it, its terminal if it was to have one.
    pub(crate) fn begin(
        host: &Host,
        channel: Channel,
        title: String,
        output: Arc<dyn Watched>,
    ) -> Result<(Self, Option<OwnedFd>)> {
        let reply = channel.receive_within::<RunReply>(START).doing(format!("starting `{title}`"))?;
        let (pid, terminal) = match reply {
            Some((RunReply::Started(pid), mut descriptors)) => (pid, descriptors.pop()),
            Some((RunReply::Failed(why), _)) => return Err(LabError::setup(format!("starting `{title}`: {why}"))),
            Some((RunReply::Ended(status), _)) => return Err(LabError::setup(format!("`{title}`: {status}"))),
            Some((RunReply::Signalled, _)) | None => {
                return Err(LabError::setup(format!("starting `{title}`: the host is gone")));
            }
        };
        let journal = Arc::clone(&host.inner.journal);
        let entry = journal.begin(title.clone(), output);
        Ok((Running { pid, title, channel, ended: Mutex::default(), journal, entry }, terminal))
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended, if it does within `timeout`.
    pub(crate) fn status_within(&self, timeout: Duration) -> Result<Option<Status>> {
        let mut ended = locked(&self.ended);
        if ended.is_none() {
            match self.channel.receive_within::<RunReply>(timeout) {
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => return Err(error).doing(format!("waiting for `{}`", self.title)),
                Ok(reply) => self.note_end(&mut ended, reply.map(|(reply, _)| reply)),
            }
        }
        Ok(*ended)
    }

    /// Returns when the signal was sent: what is done next finds a stopped process stopped.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let mut ended = locked(&self.ended);
        // It has ended, if there is nothing to signal any more: its status may still be there to be read.
        let is_over = |error: &Error| matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        let sent = self.channel.send(&RunControl::Signal(signal as i32), &[]);
        match sent.and_then(|()| self.channel.receive_within::<RunReply>(START)) {
            Ok(Some((RunReply::Signalled, _))) => Ok(()),
            Ok(reply) => {
                self.note_end(&mut ended, reply.map(|(reply, _)| reply));
                Ok(())
            }
            Err(error) if is_over(&error) => Ok(()),
            Err(error) => Err(error).doing(format!("signalling `{}`", self.title)),
        }
    }

    /// The last message, or none because the host is gone.
    fn note_end(&self, ended: &mut Option<Status>, reply: Option<RunReply>) {
        let status = match reply {
            Some(RunReply::Ended(status)) => status,
            Some(RunReply::Started(_) | RunReply::Signalled | RunReply::Failed(_)) | None => Status::HostGone,
        };
        if ended.is_none() {
            *ended = Some(status);
            self.journal.end(self.entry, status);
        }
    }

    pub(crate) fn timeout(&self, what: String, after: Duration, seen: String) -> LabError {
        LabError::Timeout { what: format!("{what} of `{}`", self.title), after, seen }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.status_within(Duration::ZERO) {
            self.journal.end(self.entry, Status::Signaled(Signal::SIGKILL as i32));
        }
    }
}

/// A command in the background. It is killed when this goes.
#[derive(Debug)]
pub struct Process {
    running: Running,
    capture: Arc<Capture>,
}

impl Process {
    pub(crate) fn new(running: Running, capture: Arc<Capture>) -> Self {
        Process { running, capture }
    }

    /// Its process ID inside of its host.
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// What it has written to standard output until now.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&content(&self.capture.stdout)).into_owned()
    }

    /// What it has written to standard error until now.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&content(&self.capture.stderr)).into_owned()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the host cannot be asked.
    pub fn status(&self) -> Result<Option<Status>> {
        self.running.status_within(Duration::ZERO)
    }

    /// Waits until `text` is in what it has written.
    ///
    /// # Errors
    /// If that is not so within `timeout`, or the command ends without it.
    pub fn wait_for_output(&self, text: &str, timeout: Duration) -> Result<()> {
        let mut ended = false;
        let waited = wait_until(timeout, text, || {
            // In this order: what it wrote before its end must be seen.
            let over = !matches!(self.status(), Ok(None));
            let there = self.capture.printed().contains(text);
            ended = over && !there;
            there || over
        });
        match waited {
            Ok(()) if !ended => Ok(()),
            Ok(()) | Err(_) => Err(self.running.timeout(format!("output {text:?}"), timeout, self.capture.printed())),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `timeout`: then it is killed.
    pub fn wait(&self, timeout: Duration) -> Result<Output> {
        match self.running.status_within(timeout)? {
            Some(status) => Ok(self.output(status)),
            None => {
                self.signal(Signal::SIGKILL)?;
                Err(self.running.timeout("the end".to_owned(), timeout, self.capture.printed()))
            }
        }
    }

    /// Sends a signal to its process group, and returns when it has been sent.
    ///
    /// # Errors
    /// If the host cannot be asked.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.running.signal(signal)
    }

    /// Kills its process group and waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub fn kill(&self) -> Result<Output> {
        self.signal(Signal::SIGKILL)?;
        self.wait(START)
    }

    fn output(&self, status: Status) -> Output {
        Output {
            command: self.running.title().to_owned(),
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
            stdout_bytes: content(&self.capture.stdout),
        }
    }
}
