//! Publishing the feed: every so often, and at once after a revocation. A short-lived process of our own does it (`usshca publish`), as an administrator would: neither a slow disk nor a slow signer
//! keeps the supervisor from its work.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ussh_os::process::{self, ChildSetup};
use usshca_ipc::layout::Layout;

use crate::child::{Child, LogPipe};
use crate::log;
use crate::prepare::Base;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// From a failure to the next try.
const RETRY: Duration = Duration::from_secs(60);
/// From one feed to the next, even if revocations come one after the other: their versions are seconds.
const PAUSE: Duration = Duration::from_secs(1);

/// How an error of it begins, which the next one that succeeds has mended.
const NOT_PUBLISHED: &str = "feed: not published";

/// Publishes, if the configuration says where to.
pub struct Publisher {
    folder: PathBuf,
    every: Duration,
    due: Instant,
    /// The last one was started then.
    last: Option<Instant>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    deadline: Instant,
    /// A line, at its end.
    said: LogPipe,
}

impl Publisher {
    /// `None`: the configuration names no folder. The first one is due at once.
    pub fn new(base: &Base, now: Instant) -> Option<Self> {
        let folder = base.config.publish.clone()?;
        let every = Duration::from_secs(base.config.publish_every_seconds);
        Some(Publisher { folder, every, due: now, last: None, running: None })
    }

    /// The end of the process that is at work.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.child.as_fd())
    }

    /// When [`Self::advance`] has something to do even if nothing happens. `is_up`: there is a signer to ask.
    pub fn next_instant(&self, is_up: bool) -> Option<Instant> {
        match &self.running {
            Some(running) => Some(running.deadline),
            None => is_up.then_some(self.due),
        }
    }

    /// Looks at what has happened, and goes on from there. `changed`: something was revoked or lifted.
    pub fn advance(&mut self, base: &Base, is_up: bool, changed: bool, now: Instant) {
        if changed {
            let earliest = self.last.map_or(now, |last| last + PAUSE);
            self.due = self.due.min(earliest.max(now));
        }
        self.see_to_running(now);
        if self.running.is_some() || !is_up || now < self.due {
            return;
        }
        self.last = Some(now);
        self.due = now + jittered(self.every, RandomState::new().hash_one(now));
        match start(&base.layout, &self.folder) {
            Ok((child, said)) => self.running = Some(Running { child, deadline: now + PATIENCE, said }),
            Err(e) => {
                log::error(&format!("{NOT_PUBLISHED}: {e}"));
                self.due = now + RETRY;
            }
        }
    }

    fn see_to_running(&mut self, now: Instant) {
        let Some(Running { child, deadline, said }) = &mut self.running else { return };
        let status = child.try_wait();
        let is_late = status.is_none() && now >= *deadline;
        if status.is_none() && !is_late {
            return;
        }
        let mut lines = Vec::new();
        said.drain(|line| lines.push(line.to_owned()));
        let line = lines.join(" ");
        if is_late {
            child.kill();
        }
        self.running = None;
        match status {
            // It says which version, or that there is a draft.
            Some(status) if status.success() => {
                log::settled(NOT_PUBLISHED);
                return log::info(&format!("feed: {line}"));
            }
            Some(status) if line.is_empty() => {
                log::error(&format!("{NOT_PUBLISHED} to {}: {status}", self.folder.display()))
            }
            Some(_) => log::error(&format!("{NOT_PUBLISHED} to {}: {line}", self.folder.display())),
            None => log::error(&format!("{NOT_PUBLISHED} to {}: takes too long: killed", self.folder.display())),
        }
        self.due = self.due.min(now + RETRY);
    }
}

fn start(layout: &Layout, folder: &Path) -> std::io::Result<(Child, LogPipe)> {
    let (said, writer) = LogPipe::new()?;
    let program = std::env::current_exe()?;
    let dir = layout.config.parent().filter(|_| *layout != Layout::system());
    let (dir, folder) = (dir.map(|dir| dir.display().to_string()), folder.display().to_string());
    let mut arguments = vec!["publish", "--by-daemon", &folder];
    if let Some(dir) = &dir {
        arguments.extend(["--dir", dir]);
    }
    let setup = ChildSetup { descriptors: vec![writer], die_with_parent: true, ..ChildSetup::default() };
    Ok((Child::new(process::spawn(&program, &arguments, &[], setup)?)?, said))
}

/// 90 to 100 % of it, so that many CAs (and their readers) do not all work at one time.
fn jittered(every: Duration, random: u64) -> Duration {
    let tenth = every / 10;
    let parts = u32::try_from(random % 1000).unwrap_or(0);
    every - tenth * parts / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_is_due_within_the_last_tenth_of_the_time() {
        let every = Duration::from_secs(1000);
        assert_eq!(jittered(every, 0), every);
        assert_eq!(jittered(every, 999), Duration::from_millis(900_100));
        assert!((0..5000).all(|random| (Duration::from_secs(900)..=every).contains(&jittered(every, random))));
    }
}
