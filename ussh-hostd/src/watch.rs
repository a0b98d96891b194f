//! What wakes the daemon: signals, changed files, a clock that was set. Ends of processes and answers of agents are polled on beside it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use ussh_core::break_glass::service_of;

/// Between two scans that nothing has asked for: a net under inotify (symbolic links to other folders, lost events).
const SCAN_EVERY: Duration = Duration::from_secs(60);
/// The same where inotify cannot be had.
const SCAN_EVERY_WITHOUT_INOTIFY: Duration = Duration::from_secs(2);
/// The same while the trusted files are not usable: what is mended need not be in a folder that is watched.
pub const SCAN_EVERY_WHILE_BROKEN: Duration = Duration::from_secs(2);
/// How far off the clock's alarm is set: only its cancellation is of interest.
const FAR_OFF: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A signal that asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGCHLD: a child has ended, or a process that is seen to waits for an answer.
    Attention,
}

/// Signals as readable events. They are blocked in this thread and in all that it starts later.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Takes SIGTERM, SIGINT, SIGHUP and SIGCHLD; a SIGPIPE is an error of write() only.
    /// # Errors
    /// As the kernel says.
    pub fn take() -> nix::Result<Self> {
        let mask: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect();
        mask.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next one, if any has come.
    pub fn next(&self) -> Option<Asked> {
        let signal = self.0.read_signal().ok().flatten()?;
        let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
        Some(match Signal::try_from(number) {
            Ok(Signal::SIGHUP) => Asked::Reload,
            Ok(Signal::SIGCHLD) => Asked::Attention,
            _ => Asked::Stop,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An alarm that goes off when the wall clock is set.
#[derive(Debug)]
pub struct ClockChange(TimerFd);

impl ClockChange {
    /// Armed.
    /// # Errors
    /// As the kernel says.
    pub fn new() -> nix::Result<Self> {
        let timer =
            ClockChange(TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?);
        timer.arm()?;
        Ok(timer)
    }

    fn arm(&self) -> nix::Result<()> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        self.0.set(Expiration::OneShot(TimeSpec::from_duration(since + FAR_OFF)), flags)
    }

    /// Takes note of a change, and waits for the next one.
    /// # Errors
    /// As the kernel says.
    pub fn take(&self) -> nix::Result<()> {
        match self.0.wait() {
            Ok(()) | Err(Errno::EAGAIN) => self.arm(),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for ClockChange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What may have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In the spool.
    pub spool: bool,
    /// Beside one of the trusted files.
    pub trust: bool,
    /// Break-glass was used where no session was opened.
    pub glass: bool,
}

impl Changes {
    /// Look at everything.
    pub const ALL: Changes = Changes { spool: true, trust: true, glass: true };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Spool,
    Trust,
    Notes,
}

/// Changes of files, by inotify.
#[derive(Debug)]
pub struct FileWatch {
    spool: PathBuf,
    files: Vec<PathBuf>,
    notes: PathBuf,
    inotify: Option<Inotify>,
    roles: BTreeMap<WatchDescriptor, Vec<Role>>,
    /// Every folder could be watched.
    complete: bool,
}

impl FileWatch {
    /// Watches the spool, the folders of the trusted files, and the one of break-glass's notes.
    pub fn new<'a>(spool: &Path, files: impl Iterator<Item = &'a Path>, notes: &Path) -> Self {
        let mut watch = FileWatch {
            spool: spool.into(),
            files: files.map(Path::to_owned).collect(),
            notes: notes.into(),
            inotify: None,
            roles: BTreeMap::new(),
            complete: false,
        };
        watch.start();
        watch
    }

    /// Whether inotify does its work. Without it scans come often.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// How long to go without a scan.
    pub fn scan_every(&self) -> Duration {
        if self.complete { SCAN_EVERY } else { SCAN_EVERY_WITHOUT_INOTIFY }
    }

    /// To poll on.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Takes the events that have come.
    pub fn take(&mut self) -> Changes {
        let mut changes = Changes::default();
        while let Some(inotify) = &self.inotify {
            match inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        let lost = AddWatchFlags::IN_IGNORED
                            | AddWatchFlags::IN_Q_OVERFLOW
                            | AddWatchFlags::IN_MOVE_SELF
                            | AddWatchFlags::IN_DELETE_SELF;
                        if event.mask.intersects(lost) {
                            self.start();
                            return Changes::ALL;
                        }
                        for role in self.roles.get(&event.wd).into_iter().flatten() {
                            match role {
                                Role::Spool => changes.spool = true,
                                Role::Trust => changes.trust = true,
                                // Of sessions the spool tells.
                                Role::Notes => changes.glass |= event.name.as_deref().is_some_and(is_use_elsewhere),
                            }
                        }
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return changes,
                Err(_) => {
                    self.inotify = None;
                    self.complete = false;
                    return Changes::ALL;
                }
            }
        }
        changes
    }

    /// Begins anew where something could not be watched.
    pub fn mend(&mut self) {
        if !self.complete {
            self.start();
        }
    }

    fn start(&mut self) {
        self.roles.clear();
        self.complete = false;
        self.inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        let Some(inotify) = &self.inotify else { return };
        let gone = AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        // A file counts when it is whole: renamed into place, or closed by its writer.
        let placed = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
        let removed = AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ATTRIB;

        let mut watched = vec![(inotify.add_watch(&self.spool, gone | AddWatchFlags::IN_MOVED_TO), Role::Spool)];
        for file in &self.files {
            // Where the name is, and where the file itself is.
            let real = file.canonicalize().unwrap_or_else(|_| file.clone());
            for folder in [file.parent(), real.parent()].into_iter().flatten() {
                watched.push((inotify.add_watch(folder, gone | placed | removed), Role::Trust));
            }
        }
        self.complete = watched.iter().all(|(result, _)| result.is_ok());
        // Where there never was break-glass it may be missing: a scan finds what comes then.
        watched.push((inotify.add_watch(&self.notes, gone | AddWatchFlags::IN_MOVED_TO), Role::Notes));
        for (wd, role) in watched {
            if let Ok(wd) = wd {
                self.roles.entry(wd).or_default().push(role);
            }
        }
    }
}

/// Whether this is the name of the note of a use that opened no session.
fn is_use_elsewhere(name: &OsStr) -> bool {
    name.to_str().and_then(|name| name.strip_suffix(".json")).is_some_and(|id| service_of(id).is_some())
}
