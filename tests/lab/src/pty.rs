//! A command on a terminal, and what a person would see and type there.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::{Doing, LabError, Result};
use crate::journal::Watched;
use crate::process::Running;
use crate::wait::locked;
use crate::wire::Status;

/// What was shown on a terminal.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    shown: Mutex<Shown>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Shown {
    bytes: Vec<u8>,
    /// The last process has let go of the terminal.
    closed: bool,
}

impl Screen {
    /// Takes what the terminal shows until nobody has it open any more.
    fn follow(&self, mut master: File) {
        let mut chunk = vec![0_u8; 16 * 1024];
        // The end of a terminal is an error, EIO.
        while let Ok(length @ 1..) = master.read(&mut chunk) {
            locked(&self.shown).bytes.extend_from_slice(chunk.get(..length).unwrap_or_default());
            self.changed.notify_all();
        }
        locked(&self.shown).closed = true;
        self.changed.notify_all();
    }
}

impl Watched for Screen {
    fn printed(&self) -> String {
        String::from_utf8_lossy(&locked(&self.shown).bytes).replace('\r', "")
    }
}

/// A command on a terminal of its host. It is killed when this goes.
#[derive(Debug)]
pub struct Pty {
    running: Running,
    keyboard: File,
    screen: Arc<Screen>,
    /// Up to where `expect` has matched, bytes.
    read: Mutex<usize>,
}

impl Pty {
    pub(crate) fn new(running: Running, master: File, screen: Arc<Screen>) -> Result<Self> {
        let reader = master.as_fd().try_clone_to_owned().doing("copying a terminal")?;
        let follower = Arc::clone(&screen);
        std::thread::Builder::new()
            .name("lab terminal".to_owned())
            .spawn(move || follower.follow(File::from(reader)))
            .doing("starting a thread")?;
        Ok(Pty { running, keyboard: master, screen, read: Mutex::default() })
    }

    /// Its process ID inside of its host.
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// Waits until `text` is shown, after what was expected before. Returns what was shown up to it.
    ///
    /// # Errors
    /// If it is not shown within `timeout`, or the terminal closes first.
    pub fn expect(&self, text: &str, timeout: Duration) -> Result<String> {
        self.expect_any(&[text], timeout).map(|(_, before)| before)
    }

    /// Waits until one of `texts` is shown: the place in the list of the one that came first, and what was shown up to it.
    ///
    /// # Errors
    /// If none is shown within `timeout`, or the terminal closes first.
    pub fn expect_any(&self, texts: &[&str], timeout: Duration) -> Result<(usize, String)> {
        let deadline = Instant::now() + timeout;
        let mut read = locked(&self.read);
        let mut shown = locked(&self.screen.shown);
        loop {
            let unread = shown.bytes.get(*read..).unwrap_or_default();
            if let Some((at, which, length)) = first_of(texts, unread) {
                let before = String::from_utf8_lossy(unread.get(..at).unwrap_or_default()).replace('\r', "");
                *read += at + length;
                return Ok((which, before));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if shown.closed || left.is_zero() {
                let seen = String::from_utf8_lossy(unread).replace('\r', "");
                let end = if shown.closed { " (the terminal was closed)" } else { "" };
                return Err(self.running.timeout(format!("{texts:?}{end}"), timeout, seen));
            }
            shown = self.screen.changed.wait_timeout(shown, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Types `text`.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn send(&self, text: &str) -> Result<()> {
        (&self.keyboard).write_all(text.as_bytes()).doing(format!("typing into `{}`", self.running.title()))
    }

    /// Waits for the end of the command.
    ///
    /// # Errors
    /// If it does not end within `timeout`.
    pub fn expect_exit(&self, timeout: Duration) -> Result<Status> {
        let status = self.running.status_within(timeout)?;
        status.ok_or_else(|| self.running.timeout("the end".to_owned(), timeout, self.screen.printed()))
    }

    /// All that was shown until now, without carriage returns.
    pub fn transcript(&self) -> String {
        self.screen.printed()
    }

    /// Sends a signal to the process group of the command.
    ///
    /// # Errors
    /// If the host cannot be asked.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.running.signal(signal)
    }

    /// Waits until no process has the terminal open any more: then the transcript is whole.
    ///
    /// # Errors
    /// If one has it open after `timeout`.
    pub fn expect_close(&self, timeout: Duration) -> Result<()> {
        let shown = locked(&self.screen.shown);
        let (shown, _) = self
            .screen
            .changed
            .wait_timeout_while(shown, timeout, |shown| !shown.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if shown.closed {
            return Ok(());
        }
        drop(shown);
        Err(LabError::Timeout {
            what: format!("the terminal of `{}` to close", self.running.title()),
            after: timeout,
            seen: self.screen.printed(),
        })
    }
}

/// Place, index and length of the text that comes first.
fn first_of(texts: &[&str], within: &[u8]) -> Option<(usize, usize, usize)> {
    let place = |text: &str| match text.len() {
        0 => Some(0),
        length => within.windows(length).position(|window| window == text.as_bytes()),
    };
    let found = texts.iter().enumerate().filter_map(|(which, text)| Some((place(text)?, which, text.len())));
    found.min_by_key(|(at, which, _)| (*at, *which))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn finds_the_text_that_is_shown_first() {
        assert_eq!(first_of(&["denied", "assword:"], b"Password: denied"), Some((1, 1, 8)));
        assert_eq!(first_of(&["x", ""], b"abc"), Some((0, 1, 0)));
        assert_eq!(first_of(&["Password"], b"Passw"), None);
    }
}
