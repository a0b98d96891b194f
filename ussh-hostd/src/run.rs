//! `run`: one loop that waits for the next moment at which anything is due, or for whatever happens before it.
//!
//! The steps of a connection are its modules, in their order: it is taken up, noted if it is by break-glass, judged and renewed; what its state machine says is done (`acts`), among that
//! that it stands still (`freezing`) or ends (`ending`), and its group is taken away (`leaving`); `unfinished` is what an earlier run has left half done.
//!
//! Process: the daemon, root. It holds every connection of the spool by its pidfd, feeds what happens to that connection's state machine (`session`) and does what it says.
//! Down, it locks nobody out; started again, it knows every session from the files.

mod taking_up;

mod glass;

mod judging;

mod renewing;

mod acts;

mod freezing;

mod ending;

mod leaving;

mod unfinished;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use ussh_core::break_glass::make_folder;
use ussh_core::certificate::Certificate;
use ussh_core::record::SessionRecord;
use ussh_os::births::Births;
use ussh_os::notify::Notify;
use ussh_os::process;

use self::freezing::Frozen;
use self::leaving::Leaving;
use self::unfinished::Unfinished;
use crate::cell::Cell;
use crate::chores::Chores;
use crate::config::Config;
use crate::connection::{Connection, Told};
use crate::cut_short;
use crate::look::{Lookers, NotRenewed};
use crate::report::{Report, Severity};
use crate::running;
use crate::session::{Event, Now, Session};
use crate::spool::{ConnectionId, Spool};
use crate::start::{RunError, lock, raise_descriptor_limit};
use crate::terms::LoginTerms;
use crate::trust::TrustStore;
use crate::watch::{Asked, Changes, ClockChange, FileWatch, Signals};

/// From one look to the next whether sshd has passed a last message on: it takes some 100 µs.
const LAST_WORD_EVERY: Duration = Duration::from_millis(2);

/// From one look to the next at programs none of which can be held, for want of a descriptor.
const UNHELD_EVERY: Duration = Duration::from_millis(100);

/// Runs until SIGTERM or SIGINT; `path` is the configuration's, if it is not the usual one.
/// # Errors
/// [`RunError`]
pub fn run(config: &Config, path: Option<&Path>) -> Result<(), RunError> {
    if process::effective_uid() != 0 {
        return Err(RunError::NotRoot);
    }
    // Before any thread is started, so that all of them have the signals blocked.
    let signals = Signals::take()?;
    let spool = Spool::new(&config.spool);
    spool.make().map_err(|source| RunError::File { path: config.spool.clone(), source })?;
    let _lock = lock(&config.lock_file())?;
    raise_descriptor_limit();
    // sshd waits for it at boot.
    cut_short::undo_at_start(config, &Report::new());
    // Beside the lock, and for as long as that is held.
    let file = config.running_file();
    running::write(config).map_err(|source| RunError::File { path: file, source })?;
    let mut daemon = Daemon::new(config, path, spool)?;
    daemon.notify.ready();
    daemon.serve(&signals)
}

/// A connection that is held.
#[derive(Debug)]
struct Held {
    /// Without the certificate's text, which is not kept beside what was read from it.
    record: SessionRecord,
    /// The certificate of the login; `None`: there was none.
    login: Option<Arc<Certificate>>,
    /// The one it lives by: that of the login, or the newest that was proved since.
    current: Option<Arc<Certificate>>,
    connection: Connection,
    /// The process that ran open_session has ended; what is left is waited for.
    is_closed: bool,
    session: Session,
    /// What a newer one must still allow; `None` without a login's certificate.
    terms: Option<LoginTerms>,
    /// When its end was begun (elapsed).
    ending_since: Option<Duration>,
    /// The last message on its terminals, until it is passed on.
    last_word: Option<Told>,
    /// What is to end with it is held and remembered: the signals may go out.
    is_end_prepared: bool,
    /// It has so many programs that others' ends come first.
    is_crowd: bool,
    /// And they are being found, in turns.
    is_sought: bool,
    /// Why the last look found nothing: reported when it changes.
    last_reason: Option<NotRenewed>,
    /// Its cgroup, if it has got one.
    cell: Option<Cell>,
    /// Its programs stand still.
    frozen: Option<Frozen>,
    /// It was opened by a break-glass certificate.
    break_glass: bool,
    /// And that is on disk.
    noted: std::cell::Cell<bool>,
    /// Its sshd processes whose children are seen to, and those that are being let go.
    births: Vec<Births>,
}

impl Held {
    fn who(&self) -> String {
        let from = if self.record.rhost.is_empty() { "an unknown address" } else { &self.record.rhost };
        format!("user {} from {from} pid {}", self.record.user, self.record.pid)
    }
}

struct Daemon {
    config: Config,
    /// Where it was read; `None`: the usual place.
    path: Option<PathBuf>,
    report: Report,
    spool: Spool,
    boot_id: String,
    host: String,
    started: Instant,
    trust: TrustStore,
    files: FileWatch,
    clock: ClockChange,
    lookers: Lookers,
    chores: Chores,
    held: BTreeMap<ConnectionId, Held>,
    /// Of an earlier run, and without a record.
    unfinished: BTreeMap<ConnectionId, Unfinished>,
    /// Groups of sessions that are gone.
    leaving: Vec<Leaving>,
    /// Told about already: not held, but there.
    unreadable: BTreeSet<ConnectionId>,
    foreign: BTreeSet<String>,
    next_scan: Duration,
    /// Of those that take turns, the last one that had its own.
    last_turn: Option<ConnectionId>,
    /// The service manager, which starts anew what does not come round.
    notify: Notify,
}

impl Daemon {
    fn new(config: &Config, path: Option<&Path>, spool: Spool) -> Result<Self, RunError> {
        let trust = TrustStore::new(config);
        let notes = config.break_glass_folder();
        // One that cannot be made cannot be written to either, and pam_ussh says so when there is something to write.
        let _ = make_folder(&notes);
        let files = FileWatch::new(spool.folder(), trust.watched(), &notes);
        Ok(Daemon {
            config: config.clone(),
            path: path.map(Path::to_owned),
            report: Report::new(),
            boot_id: process::boot_id()?,
            host: process::host_name(),
            started: Instant::now(),
            trust,
            files,
            clock: ClockChange::new()?,
            lookers: Lookers::new()?,
            chores: Chores::new(config, path),
            held: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            leaving: Vec::new(),
            unreadable: BTreeSet::new(),
            foreign: BTreeSet::new(),
            next_scan: Duration::ZERO,
            last_turn: None,
            notify: Notify::new(None),
            spool,
        })
    }

    fn serve(&mut self, signals: &Signals) -> Result<(), RunError> {
        self.reload_trust();
        self.scan();
        self.chores.look(self.now(), &self.report);
        self.report.line(
            Severity::Info,
            &format!("Watching {} sessions in {}", self.held.len(), self.spool.folder().display()),
        );
        if !self.files.is_complete() {
            self.report.line(Severity::Warning, "Not all folders can be watched: looking for changes every 2 seconds");
        }
        loop {
            self.pass_time();
            self.notify.alive(Instant::now());
            let ready = self.wait(signals)?;
            if self.is_told_to_stop(signals) {
                self.notify.stopping();
                self.report.line(Severity::Info, &self.farewell());
                return Ok(());
            }
            if ready.clock {
                self.clock.take()?;
                self.report.line(Severity::Notice, "The clock was set");
            }
            self.take_answers();
            self.take_changes();
            self.attend_births();
            self.take_ends(ready.ended);
            self.finish();
            self.remove_emptied();
        }
    }

    /// Does what signals ask for, up to one that says to stop.
    fn is_told_to_stop(&mut self, signals: &Signals) -> bool {
        while let Some(asked) = signals.next() {
            match asked {
                Asked::Stop => return true,
                Asked::Reload => {
                    self.trust.forget_seen();
                    self.compare_configuration();
                    self.next_scan = Duration::ZERO;
                }
                // Answered with whatever else has come.
                Asked::Attention => {}
            }
        }
        false
    }

    /// It is read at the start alone: sessions live by its times already.
    fn compare_configuration(&self) {
        match Config::load(self.path.as_deref()) {
            Ok(config) if config == self.config => {}
            Ok(_) => self.report.line(Severity::Warning, &format!("Not applied: {}", running::CHANGED)),
            Err(e) => {
                let text = format!("The configuration is not valid any more, and not applied: {e}");
                self.report.line(Severity::Error, &text);
            }
        }
    }

    fn now(&self) -> Now {
        Now { wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), elapsed: self.started.elapsed() }
    }

    /// How long until the next thing is due, whatever happens before.
    fn due_in(&self, now: Now) -> Duration {
        if self.somebody_takes_turns() {
            return Duration::ZERO;
        }
        let due = self.held.values().filter_map(|h| h.session.wake_in(now)).min();
        let scan = self.next_scan.saturating_sub(now.elapsed);
        let chore = self.chores.wake_in(now).unwrap_or(scan);
        let mut timeout = due.map_or(scan, |d| d.min(scan)).min(chore);
        if self.held.values().any(|h| h.last_word.is_some()) {
            timeout = timeout.min(LAST_WORD_EVERY);
        }
        if let Some(next) = self.notify.next_instant() {
            timeout = timeout.min(next.saturating_duration_since(Instant::now()));
        }
        for next in self.leaving.iter().map(Leaving::next) {
            timeout = timeout.min(next.saturating_sub(now.elapsed));
        }
        for kill_at in self.unfinished.values().filter_map(|u| u.kill_at) {
            timeout = timeout.min(kill_at.saturating_sub(now.elapsed));
        }
        timeout
    }

    /// Waits for the next thing that happens, at most until the next thing that is due.
    fn wait(&self, signals: &Signals) -> Result<Ready, RunError> {
        let mut timeout = self.due_in(self.now());
        let mut fds =
            vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(self.clock.as_fd(), PollFlags::POLLIN)];
        fds.push(PollFd::new(self.lookers.bell().as_fd(), PollFlags::POLLIN));
        fds.extend(self.chores.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.files.as_fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        for unfinished in self.unfinished.values() {
            let before = fds.len();
            fds.extend(unfinished.processes().map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
            if fds.len() == before {
                timeout = timeout.min(UNHELD_EVERY);
            }
        }
        // One call tells of all processes: each that ends would have all others asked one by one.
        let (of_others, mut owners, mut ended) = (fds.len(), Vec::with_capacity(self.held.len()), BTreeSet::new());
        for (id, held) in &self.held {
            let before = fds.len();
            if held.is_closed {
                // One program at a time: they may be thousands.
                let left = held.connection.children().chain(held.connection.programs().last());
                fds.extend(left.map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
                if fds.len() == before {
                    ended.insert(*id);
                    // Of those that are left none can be held to be waited for.
                    let is_over = !held.connection.programs().are_left();
                    timeout = timeout.min(if is_over { Duration::ZERO } else { UNHELD_EVERY });
                }
            } else {
                fds.push(PollFd::new(held.connection.monitor().as_fd(), PollFlags::POLLIN));
            }
            owners.resize(owners.len() + fds.len() - before, *id);
        }
        match ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let has_come = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        ended.extend(fds.iter().skip(of_others).zip(owners).filter(|(fd, _)| has_come(fd)).map(|(_, id)| id));
        Ok(Ready { clock: fds.get(1).is_some_and(has_come), ended })
    }

    fn pass_time(&mut self) {
        let now = self.now();
        if now.elapsed >= self.next_scan {
            self.files.mend();
            self.reload_trust();
            self.scan();
            self.chores.look(now, &self.report);
        }
        if self.chores.pass_time(now, &self.report) {
            self.chores.look(now, &self.report);
        }
        // A crowd that is told has its signals when its turn comes.
        let takes_turns = |held: &Held| held.is_crowd && held.last_word.is_some();
        let is_due = |held: &Held| held.session.wake_in(now) == Some(Duration::ZERO) && !takes_turns(held);
        let due: Vec<ConnectionId> = self.held.iter().filter(|(_, held)| is_due(held)).map(|(id, _)| *id).collect();
        for id in due {
            let is_told = self.held.get(&id).is_some_and(|held| held.last_word.is_some());
            if !is_told || self.prepare_end(id) {
                self.happened(id, Event::Time);
            }
        }
        self.pass_last_words_on();
        // Last: what has come due meanwhile comes first again.
        self.take_turns();
    }

    fn take_changes(&mut self) {
        let changes = self.files.take();
        if changes == Changes::ALL {
            // The folder itself may have gone.
            if let Err(e) = self.spool.make() {
                self.report.line(Severity::Error, &format!("{}: {e}", self.spool.folder().display()));
            }
            self.files.mend();
        }
        if changes.trust {
            self.reload_trust();
        }
        if changes.spool {
            self.scan();
        }
        if changes.glass {
            self.chores.tell_now(self.now());
        }
    }

    /// A session, and the certificate that it lives by.
    fn certified(&self, id: ConnectionId) -> Option<(&Held, &Arc<Certificate>)> {
        let held = self.held.get(&id)?;
        Some((held, held.current.as_ref()?))
    }

    /// Feeds one event to one session, and does what it says.
    fn happened(&mut self, id: ConnectionId, event: Event) {
        self.happened_at(self.now(), id, event);
    }

    fn happened_at(&mut self, now: Now, id: ConnectionId, event: Event) {
        let Some(held) = self.held.get_mut(&id) else { return };
        for action in held.session.on(now, event) {
            self.act(id, action);
        }
    }
}

/// What came in, besides what is looked at anyway.
struct Ready {
    clock: bool,
    /// Connections of which a process has ended.
    ended: BTreeSet<ConnectionId>,
}
