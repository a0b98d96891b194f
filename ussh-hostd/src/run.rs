//! `run`: one loop that waits for the next moment at which anything is due, or for whatever happens before it.
//!
//! Process: the daemon, root. It holds every connection of the spool by its pidfd, feeds what happens to that connection's state machine (`session`) and does what it says.
//! Down, it locks nobody out; started again, it knows every session from the files.

mod acts;

mod freezing;

mod glass;

mod unfinished;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use ussh_core::break_glass::make_folder;
use ussh_core::certificate::Certificate;
use ussh_core::clock::UnixTime;
use ussh_core::decision::Accepted;
use ussh_core::record::SessionRecord;
use ussh_os::births::Births;
use ussh_os::notify::Notify;
use ussh_os::process;

use self::freezing::Frozen;
use self::unfinished::Unfinished;
use crate::cell::{Cell, Killed};
use crate::chores::Chores;
use crate::config::Config;
use crate::connection::{Connection, Told};
use crate::cut_short;
use crate::look::{Answer, Lookers, NotRenewed};
use crate::report::{Report, Severity, span};
use crate::running;
use crate::session::{Event, Now, Session};
use crate::spool::{ConnectionId, Found, Spool};
use crate::start::{RunError, lock, raise_descriptor_limit};
use crate::terms::LoginTerms;
use crate::trust::{Reload, TrustStore};
use crate::trust_note;
use crate::watch::{Asked, Changes, ClockChange, FileWatch, SCAN_EVERY_WHILE_BROKEN, Signals};

/// From one look to the next whether sshd has passed a last message on: it takes some 100 µs.
const LAST_WORD_EVERY: Duration = Duration::from_millis(2);

/// From one look to the next at programs none of which can be held, for want of a descriptor.
const UNHELD_EVERY: Duration = Duration::from_millis(100);

/// So many sessions begin at one moment at the most; more are there at a start of the daemon, which has no time for a look after each.
const FEW_LOGINS: usize = 16;

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
    /// Told about already: not held, but there.
    unreadable: BTreeSet<ConnectionId>,
    foreign: BTreeSet<String>,
    next_scan: Duration,
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
            unreadable: BTreeSet::new(),
            foreign: BTreeSet::new(),
            next_scan: Duration::ZERO,
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
            while let Some(asked) = signals.next() {
                match asked {
                    Asked::Stop => {
                        self.notify.stopping();
                        self.report.line(Severity::Info, &self.farewell());
                        return Ok(());
                    }
                    Asked::Reload => {
                        self.trust.forget_seen();
                        self.compare_configuration();
                        self.next_scan = Duration::ZERO;
                    }
                    // Answered below, with whatever else has come.
                    Asked::Attention => {}
                }
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
        }
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

    /// Waits for the next thing that happens, at most until the next thing that is due.
    fn wait(&self, signals: &Signals) -> Result<Ready, RunError> {
        let now = self.now();
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
        for kill_at in self.unfinished.values().filter_map(|u| u.kill_at) {
            timeout = timeout.min(kill_at.saturating_sub(now.elapsed));
        }

        let mut fds =
            vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(self.clock.as_fd(), PollFlags::POLLIN)];
        fds.push(PollFd::new(self.lookers.bell().as_fd(), PollFlags::POLLIN));
        fds.extend(self.chores.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.files.as_fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        for unfinished in self.unfinished.values() {
            fds.extend(unfinished.processes().map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
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
        let is_due = |held: &Held| held.session.wake_in(now) == Some(Duration::ZERO);
        let due: Vec<ConnectionId> = self.held.iter().filter(|(_, held)| is_due(held)).map(|(id, _)| *id).collect();
        let (crowds, others): (Vec<_>, Vec<_>) = due.into_iter().partition(|id| self.is_crowd(*id));
        for id in others {
            self.happened(id, Event::Time);
        }
        self.pass_last_words_on();
        // One at a time, and last: what has come due meanwhile comes first again.
        match crowds.first() {
            Some(id) => self.happened(*id, Event::Time),
            None => self.pass_last_word_of_a_crowd_on(),
        }
    }

    fn is_crowd(&self, id: ConnectionId) -> bool {
        self.held.get(&id).is_some_and(|held| held.is_crowd)
    }

    /// Goes on with the sessions whose last message is out. After all that is due: one may be the client of another one that ends now too, whose programs are held before it hangs up.
    fn pass_last_words_on(&mut self) {
        let is_out = |held: &mut Held| !held.is_crowd && held.last_word.take_if(|told| told.is_out()).is_some();
        let out: Vec<ConnectionId> =
            self.held.iter_mut().filter_map(|(id, held)| is_out(held).then_some(*id)).collect();
        // What takes time before the first signal: each session that closes takes part of the processors from those that still wait for theirs.
        for id in &out {
            self.prepare_end(*id);
        }
        // Whoever is signalled together is killed together.
        let now = self.now();
        for id in out {
            self.happened_at(now, id, Event::LastWordOut);
        }
    }

    /// One with so many programs that it would keep all others waiting: each of those gets its signals first, as long as this one may wait for its last message.
    ///
    /// What is given up: by then another session's end may have closed a client that ran in this one. Its nearest programs, shells and clients among them, are held since it was told, and what those
    /// start is found when they are killed; only what a farther one leaves behind that ends by itself in between is not reached, and to leave a session is open to each program at any time.
    /// All that descends from its own sshd is held, as with any other, before that is signalled.
    fn pass_last_word_of_a_crowd_on(&mut self) {
        if self.held.values().any(|held| !held.is_crowd && held.last_word.is_some()) {
            return;
        }
        let is_out = |held: &Held| held.last_word.as_ref().is_some_and(Told::is_out);
        let Some(id) = self.held.iter().find(|(_, held)| is_out(held)).map(|(id, _)| *id) else { return };
        self.prepare_end(id);
        self.happened(id, Event::LastWordOut);
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

    /// Reads the CA file and the revocation list if they have changed, and judges every session by them.
    fn reload_trust(&mut self) {
        let reload = self.trust.reload();
        if !matches!(reload, Reload::Unchanged) {
            let note = self.config.trust_note();
            if let Err(e) = trust_note::write(&note, self.trust.problem()) {
                self.report.line(Severity::Error, &format!("{}: {e}", note.display()));
            }
        }
        if self.trust.problem().is_some() {
            self.next_scan = self.next_scan.min(self.started.elapsed() + SCAN_EVERY_WHILE_BROKEN);
        }
        match reload {
            Reload::Unchanged => {}
            Reload::Broken(problem) => {
                self.report.line(Severity::Error, &format!("Renewing no session until this is mended: {problem}"));
            }
            Reload::Changed => {
                self.report.line(Severity::Info, "Read the CA file and the revocation list");
                let ids: Vec<ConnectionId> = self.held.keys().copied().collect();
                for id in ids {
                    self.judge(id);
                }
            }
        }
    }

    /// Both the certificate of the login and the one the session lives by must be good, time apart.
    fn judge(&mut self, id: ConnectionId) {
        let Some(trust) = self.trust.for_sessions() else { return };
        let now = UnixTime(self.now().wall.as_secs());
        let Some(held) = self.held.get(&id) else { return };
        let is_same = |c: &&Arc<Certificate>| held.login.as_ref().is_some_and(|login| Arc::ptr_eq(login, c));
        let renewed = held.current.as_ref().filter(|c| !is_same(c));
        let certificates = held.login.as_ref().into_iter().chain(renewed);
        let refusal = certificates.filter_map(|c| trust.verdict_time_apart(c, now).err()).next();
        if let Some(refusal) = refusal {
            self.happened(id, Event::Refused(refusal));
        }
    }

    /// Takes up new connections and drops files of those that are gone.
    fn scan(&mut self) {
        let scan_every = self.files.scan_every();
        let broken = self.trust.problem().is_some();
        self.next_scan =
            self.started.elapsed() + if broken { scan_every.min(SCAN_EVERY_WHILE_BROKEN) } else { scan_every };
        let listing = match self.spool.list_and_clean() {
            Ok(listing) => listing,
            Err(e) => return self.report.line(Severity::Error, &format!("{}: {e}", self.spool.folder().display())),
        };
        for name in listing.foreign.difference(&self.foreign) {
            self.report.line(Severity::Warning, &format!("Not one of ours, left alone in the spool: {name}"));
        }
        self.foreign = listing.foreign;
        self.unreadable.retain(|id| listing.connections.contains(id));
        let new: Vec<ConnectionId> = listing.connections.into_iter().filter(|id| !self.held.contains_key(id)).collect();
        new.iter().for_each(|id| self.enclose(*id));
        let are_few = new.len() <= FEW_LOGINS;
        for id in new {
            self.take_up(id);
            if are_few {
                self.enclose_who_has_come();
            }
        }
        self.note_break_glass();
        self.take_up_unfinished(&listing.begun);
    }

    /// What takes milliseconds for one session must not keep another from its group meanwhile.
    fn enclose_who_has_come(&self) {
        let listing = self.spool.list().map(|listing| listing.connections).unwrap_or_default();
        listing.iter().filter(|id| !self.held.contains_key(id)).for_each(|id| self.enclose(*id));
    }

    fn take_up(&mut self, id: ConnectionId) {
        let mut record = match self.spool.read(id, &self.boot_id) {
            Ok(Found::Live(record)) => *record,
            Ok(Found::OtherBoot) => return self.forget_files(id),
            Err(e) => return self.cannot_hold(id, &e.to_string()),
        };
        let connection = match Connection::open(id) {
            Ok(mut connection) => {
                connection.count_for(record.uid);
                connection
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.forget_files(id),
            Err(e) => return self.cannot_hold(id, &e.to_string()),
        };
        let login = record.certificate.take().as_deref().map(Certificate::from_openssh);
        // One that cannot be read is a refusal, not a session without a certificate.
        let malformed = login.as_ref().and_then(|l| l.as_ref().err().cloned());
        let login = login.and_then(Result::ok).map(Arc::new);
        let terms = login.as_ref().map(|login| LoginTerms::new(Arc::clone(login), &record));
        // A renewal that an earlier version took may allow less than the login.
        let allowed = |c: &Certificate| terms.as_ref().is_some_and(|terms| terms.allow(c).is_ok());
        let current = login.as_ref().map(|login| {
            let newest = self.spool.current(id, login);
            if newest != **login && allowed(&newest) { Arc::new(newest) } else { Arc::clone(login) }
        });
        let mut session = Session::new(self.now(), current.as_ref().map(|c| c.valid_before()), &self.config.timing);
        let limit = self.limit_of(&record, login.as_deref());
        if let Some(left) = limit {
            session = session.limited(self.now(), left);
        }
        let break_glass = login.as_ref().is_some_and(|login| self.is_break_glass(login));
        let held = Held {
            record,
            login,
            current,
            terms,
            connection,
            is_closed: false,
            session,
            ending_since: None,
            last_word: None,
            is_end_prepared: false,
            is_crowd: false,
            last_reason: None,
            cell: None,
            frozen: None,
            births: Vec::new(),
            break_glass,
            noted: std::cell::Cell::new(false),
        };
        let who = held.who();
        match &held.current {
            Some(certificate) => self.report.certificate(Severity::Info, "Watching session of", certificate, &who),
            None if malformed.is_some() => {}
            None => {
                let what = limit.map_or_else(|| "left alone".to_owned(), |left| format!("for another {}", span(left)));
                self.report.line(Severity::Info, &format!("Session without a certificate, {what}: {who}"));
            }
        }
        self.unreadable.remove(&id);
        self.held.insert(id, held);
        self.confine(id);
        match (malformed, self.end_begun(id)) {
            (Some(e), _) => self.happened(id, Event::Refused(e.into())),
            (None, Some(grace)) => self.happened(id, Event::EndBegun { grace }),
            (None, None) => self.judge(id),
        }
    }

    fn cannot_hold(&mut self, id: ConnectionId, why: &str) {
        if self.unreadable.insert(id) {
            self.report.line(Severity::Error, &format!("Session of {id} cannot be watched: {why}"));
        }
    }

    fn forget_files(&self, id: ConnectionId) {
        if let Err(e) = self.spool.remove(id) {
            self.report.line(Severity::Error, &format!("Cannot remove the record of {id}: {e}"));
        }
    }

    fn take_answers(&mut self) {
        for (id, answer) in self.lookers.answers() {
            self.take_answer(id, answer);
        }
    }

    fn take_answer(&mut self, id: ConnectionId, answer: Answer) {
        let event = match answer.and_then(|accepted| self.accept_renewal(id, &accepted)) {
            Ok(valid_before) => Event::Renewed { valid_before },
            Err(reason) => {
                self.note_reason(id, reason);
                Event::NotRenewed
            }
        };
        self.happened(id, event);
    }

    /// An agent that is not there, or has nothing new, is no event; anything else is reported once.
    fn note_reason(&mut self, id: ConnectionId, reason: NotRenewed) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let quiet = matches!(reason, NotRenewed::NothingNewer | NotRenewed::NoAgent);
        if !quiet && held.last_reason.as_ref() != Some(&reason) {
            self.report.line(Severity::Info, &format!("Session not renewed: {}: {reason}", held.who()));
        }
        held.last_reason = Some(reason);
    }

    /// The worker judged by the files and the clock as they were: both are looked at again here, with the proof and the lineage.
    fn accept_renewal(&mut self, id: ConnectionId, accepted: &Accepted) -> Result<UnixTime, NotRenewed> {
        let trust = self.trust_for_renewals()?;
        let now = UnixTime(self.now().wall.as_secs());
        let held = self.held.get_mut(&id).ok_or(NotRenewed::NoAgent)?;
        let newer = accepted.certificate.certificate();
        let verified = trust.verdict(newer, now).map_err(|e| NotRenewed::NotAccepted(e.to_string()))?;
        let lineage =
            held.current.as_ref().is_some_and(|c| newer.same_lineage(c) && newer.valid_before() > c.valid_before());
        let terms = held.terms.as_ref().ok_or(NotRenewed::NothingNewer)?;
        terms.allow(newer).map_err(|e| NotRenewed::NotAccepted(e.to_string()))?;
        if !accepted.proof.is_for(&verified) || !lineage || held.session.is_ending() {
            return Err(NotRenewed::NothingNewer);
        }
        if let Err(e) = self.spool.set_renewed(id, newer) {
            self.report.line(Severity::Error, &format!("Renewal of {id} is not remembered over a restart: {e}"));
        }
        held.current = Some(Arc::new(newer.clone()));
        Ok(newer.valid_before())
    }

    /// Ends of processes: forget the connection, when nothing of sshd is left of it.
    fn take_ends(&mut self, ended: BTreeSet<ConnectionId>) {
        for id in ended {
            let Some(held) = self.held.get_mut(&id).filter(|held| held.connection.monitor_ended()) else { continue };
            held.is_closed = true;
            if held.connection.children().next().is_some() {
                // The monitor died before its child: the child would carry the forwards on.
                if let Err(e) = held.connection.kill_children() {
                    self.report.line(Severity::Error, &format!("Cannot end what is left of {}: {e}", held.who()));
                }
                continue;
            }
            if held.connection.program_to_wait_for().is_some() || held.connection.programs().are_left() {
                // Hung up on, and killed after the grace.
                continue;
            }
            let took = held.ending_since.map(|since| self.started.elapsed().saturating_sub(since).as_millis());
            let killed = self.leave_cell(id);
            if let Some((held, took)) = self.held.remove(&id).zip(took) {
                let programs = ended_with_it(held.connection.programs().count(), killed);
                self.report.line(Severity::Info, &format!("Session ended after {took} ms, {programs}: {}", held.who()));
            }
            self.forget_files(id);
        }
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

/// Of a session whose processes have all ended, as far as they were its own when its end was begun.
fn ended_with_it(programs: usize, killed: Killed) -> String {
    let many = match programs {
        0 => "no process".to_owned(),
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    };
    let left = match killed {
        Killed::All => "and all that had left it",
        Killed::Frozen => "and all that was frozen",
        Killed::Nothing => "programs that had left it before are not touched",
    };
    format!("{many} with it; {left}")
}

/// What came in, besides what is looked at anyway.
struct Ready {
    clock: bool,
    /// Connections of which a process has ended.
    ended: BTreeSet<ConnectionId>,
}
