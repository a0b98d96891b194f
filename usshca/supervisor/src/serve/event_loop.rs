//! The supervisor's loop: wait for something to happen, see to all that has.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ussh_os::notify::Notify;

use crate::admin::utc;
use crate::child::LogPipe;
use crate::failure::Failure;
use crate::log;
use crate::prepare::PAM_GAP;
use crate::serve::Ground;
use crate::serve::connection::Connection;
use crate::serve::counters::Counters;
use crate::serve::desk::Desk;
use crate::serve::doors::Throttling;
use crate::serve::penalties::Penalties;
use crate::serve::publisher::Publisher;
use crate::serve::signer::Signer;
use crate::serve::source::Named;
use crate::serve::turned_away::Leaving;
use crate::serve::turns::Departed;
use crate::serve::watch::{Token, Watch};
use crate::serve::worker::Worker;

/// How long connections may go on once the CA is told to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long a killed process may take to be gone before that is logged again.
pub const REAP_PATIENCE: Duration = Duration::from_secs(10);

/// All that the supervisor knows.
pub struct EventLoop {
    pub(super) ground: Ground,
    /// Empty once it is stopping.
    pub(super) listeners: Vec<TcpListener>,
    signals: SignalFd,
    pub(super) signer: Signer,
    publisher: Option<Publisher>,
    /// By number.
    pub(super) connections: BTreeMap<u64, Connection>,
    /// Those that have ended and whose last workers have not, by number.
    pub(super) departed: BTreeMap<u64, Departed>,
    /// By a number of their own.
    pub(super) workers: BTreeMap<u64, Worker>,
    pub(super) watch: Watch,
    pub(super) last_connection: u64,
    pub(super) last_worker: u64,
    /// Sources that were over their limit.
    pub(super) named: Named,
    pub(super) penalties: Penalties,
    pub(super) throttling: Throttling,
    pub(super) leaving: Leaving,
    /// Given up for a moment, so that a few more connections can be accepted and told that there are no descriptors.
    pub(super) spares: Vec<OwnedFd>,
    /// Nothing is accepted before.
    pub(super) accept_after: Option<Instant>,
    /// Set once it is stopping: when what still runs is killed.
    pub(super) stop_by: Option<Instant>,
    pub(super) counters: Counters,
    /// For metrics and status.
    desk: Desk,
    /// The service manager.
    notify: Notify,
    /// Descriptors on which something has happened at the last wake-up, but for those behind `watch`.
    happened: Vec<RawFd>,
}

impl EventLoop {
    /// Takes over listeners and signer; SIGTERM, SIGINT and SIGHUP come to the loop from here on.
    pub fn new(
        ground: Ground,
        listeners: Vec<TcpListener>,
        signer: Signer,
        desk: Desk,
        notify: Notify,
    ) -> Result<Self, Failure> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.add(Signal::SIGHUP);
        let failed = |e: Errno| Failure::internal(format!("signals: {e}"));
        mask.thread_block().map_err(failed)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
        let publisher = Publisher::new(&ground.base, Instant::now());
        let penalties = Penalties::new(ground.base.config.penalties.terms());
        Ok(EventLoop {
            publisher,
            ground,
            listeners,
            signals,
            signer,
            connections: BTreeMap::new(),
            departed: BTreeMap::new(),
            workers: BTreeMap::new(),
            watch: Watch::new().map_err(|e| Failure::internal(format!("epoll: {e}")))?,
            last_connection: 0,
            last_worker: 0,
            named: Named::default(),
            penalties,
            throttling: Throttling::default(),
            leaving: Leaving::default(),
            spares: Vec::new(),
            accept_after: None,
            stop_by: None,
            counters: Counters::new(),
            desk,
            notify,
            happened: Vec::new(),
        })
    }

    /// Runs until it is told to end and all connections have ended.
    pub fn run(mut self) -> Result<(), Failure> {
        self.notify.ready();
        while !self.is_done() {
            let ready = self.wait().map_err(|e| Failure::internal(format!("poll: {e}")))?;
            self.round(&ready, Instant::now());
        }
        self.signer.finish();
        log::info("stopped");
        Ok(())
    }

    fn round(&mut self, ready: &[Token], now: Instant) {
        self.hear_signals(now);
        self.signer.advance(&self.ground.base, now);
        self.note_logins();
        self.see_to(ready, now);
        // What the signer has said while connections were seen to is heard as well.
        self.publish(now);
        self.accept(now);
        self.serve_desk(now);
        self.notify.alive(now);
    }

    fn is_done(&self) -> bool {
        self.stop_by.is_some_and(|by| self.connections.is_empty() && self.workers.is_empty() || Instant::now() >= by)
    }

    /// Waits for descriptors or for the next deadline; gives whose turn it is.
    fn wait(&mut self) -> io::Result<Vec<Token>> {
        let now = Instant::now();
        let mut watched: Vec<BorrowedFd<'_>> = vec![self.watch.as_fd(), self.signals.as_fd()];
        if self.accepts(now) {
            watched.extend(self.listeners.iter().map(AsFd::as_fd));
        }
        watched.extend(self.signer.descriptors());
        watched.extend(self.publisher.as_ref().and_then(Publisher::descriptor));
        let mut fds: Vec<PollFd<'_>> = watched.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        fds.extend(self.desk.descriptors().map(|(fd, flags)| PollFd::new(fd, flags)));
        match poll(&mut fds, self.timeout(now)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let happened = fds.iter().filter(|fd| fd.any() == Some(true)).map(|fd| fd.as_fd().as_raw_fd()).collect();
        self.happened = happened;
        let is_watch = self.happened.contains(&self.watch.as_fd().as_raw_fd());
        let mut ready = if is_watch { self.watch.ready()? } else { Vec::new() };
        // Whoever is late has its turn too.
        let now = Instant::now();
        ready.extend(self.workers.iter().filter(|(_, w)| now >= w.deadline).map(|(n, _)| Token::Worker(*n)));
        ready.extend(self.connections.iter().filter(|(_, c)| now >= c.deadline).map(|(n, _)| Token::Connection(*n)));
        ready.sort_unstable();
        ready.dedup();
        Ok(ready)
    }

    fn timeout(&self, now: Instant) -> PollTimeout {
        let next = self.connections.values().map(|c| c.deadline);
        let next = next.chain(self.workers.values().map(|w| w.deadline));
        let next = next.chain(self.signer.next_instant()).chain(self.accept_after).chain(self.stop_by);
        let next = next.chain(self.desk.next_instant()).chain(self.notify.next_instant());
        let is_up = self.signer.generation().is_some();
        let next = next.chain(self.publisher.as_ref().and_then(|publisher| publisher.next_instant(is_up)));
        let next = next.chain(self.leaving.next_instant()).min();
        // Whole milliseconds, rounded up: rounded down, the last one would be spent spinning.
        next.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(now).as_nanos().div_ceil(1_000_000);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        })
    }

    fn publish(&mut self, now: Instant) {
        let (is_up, changed) = (self.signer.generation().is_some(), self.signer.take_changed());
        if let Some(publisher) = self.publisher.as_mut().filter(|_| self.stop_by.is_none()) {
            publisher.advance(&self.ground.base, is_up, changed, now);
        }
    }

    fn hear_signals(&mut self, now: Instant) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if u32::try_from(Signal::SIGHUP as i32) == Ok(signal.ssi_signo) {
                self.notify.reloading();
                match self.ground.base.policy() {
                    Ok(policy) => self.signer.offer(policy),
                    Err(failure) => {
                        log::error(&format!("policy: the one before stays in force: {}", failure.message));
                    }
                }
                self.read_host_identity();
                self.look_at_pam();
                self.notify.ready();
            } else if self.stop_by.is_none() {
                log::info(&format!("told to stop: {} connections may finish", self.connections.len()));
                self.notify.stopping();
                self.listeners.clear();
                self.stop_by = Some(now + STOP_PATIENCE);
            }
        }
    }

    /// The stack is libpam's to read, anew for each login; what is to be said of it is said as at the start.
    fn look_at_pam(&self) {
        self.is_pam_service_there();
        self.ground.base.pam_warnings().iter().for_each(|warning| log::warning(warning));
    }

    /// Looked at before each login too: without it PAM would ask the service `other`, and nobody has said that that may decide who gets a certificate.
    pub(super) fn is_pam_service_there(&self) -> bool {
        match self.ground.base.pam_gap() {
            None => {
                log::settled(PAM_GAP);
                true
            }
            Some(gap) => {
                log::error(&format!("{PAM_GAP}{gap}: nobody is let in by it (usshca check says what may stand there)"));
                false
            }
        }
    }

    /// The CA machine's own host certificate, as it is by now: new connections are shown it.
    fn read_host_identity(&mut self) {
        match self.ground.base.host_identity() {
            Ok(host) => {
                if host.certificate != self.ground.host.certificate {
                    let end =
                        host.valid_before.map_or_else(|| "for ever".to_owned(), |end| format!("until {}", utc(end)));
                    log::info(&format!("host certificate: another one is shown from now on, valid {end}"));
                }
                log::settled("host certificate: ");
                self.ground.host = host;
            }
            Err(failure) => {
                log::error(&format!("host certificate: the one before is shown on: {}", failure.message));
            }
        }
    }

    /// Only the signer's word makes a connection one that has logged in: the front's would be worth nothing, and a worker may have been there for less.
    pub(super) fn note_logins(&mut self) {
        for number in self.signer.take_logged_in() {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.conduct.logged_in = true;
            } else if let Some(departed) = self.departed.get_mut(&number) {
                departed.conduct.logged_in = true;
            }
        }
        for number in self.signer.take_served() {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.conduct.served = true;
            } else if let Some(departed) = self.departed.get_mut(&number) {
                departed.conduct.served = true;
            }
        }
    }

    fn see_to(&mut self, ready: &[Token], now: Instant) {
        for token in ready {
            match *token {
                Token::Worker(number) => {
                    if let Some(worker) = self.workers.remove(&number)
                        && let Some(worker) = self.see_to_worker(worker, now)
                    {
                        self.workers.insert(number, worker);
                    }
                }
                Token::Connection(number) => {
                    if let Some(connection) = self.connections.remove(&number)
                        && let Some(connection) = self.see_to_front(connection, now)
                    {
                        self.connections.insert(number, connection);
                    }
                }
            }
        }
    }

    fn serve_desk(&mut self, now: Instant) {
        if self.desk.has_to_do(&self.happened, now) {
            let report = self.report(now);
            self.desk.serve(&report, now);
        }
    }
}

/// Why a process is to be killed, if it is.
pub fn is_to_be_killed(now: Instant, deadline: Instant, log: &LogPipe) -> Option<&'static str> {
    if log.is_open() && log.is_excessive() {
        return Some("says too much");
    }
    (now >= deadline).then_some("takes too long")
}

/// A limit of the configuration.
pub fn limit(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::net::SocketAddr;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use usshca_ipc::channel::Channel;
    use usshca_ipc::signer::{Control, FromSignerControl};

    use super::*;
    use crate::child::{Child, LogPipe};
    use crate::prepare::HostIdentity;
    use crate::serve::source::Source;
    use crate::serve::worker::{Asker, Worker};
    use crate::serve::{connection, signer, turns};

    const MANY: u64 = 40;

    /// A loop with [`MANY`] connections from one address whose fronts have all ended well, and the signer's end of its channel.
    fn many_that_ended(dir: &std::path::Path) -> (EventLoop, Channel<FromSignerControl, Control>, Vec<Token>) {
        let host = HostIdentity { key: String::new().into(), certificate: String::new(), valid_before: None };
        let ground = Ground { base: signer::tests::base(dir), host };
        let status = std::os::unix::net::UnixListener::bind(dir.join("status.sock")).unwrap();
        let desk = Desk::of(status);
        let (signer, theirs) = signer::tests::up();
        let mut event_loop = EventLoop::new(ground, Vec::new(), signer, desk, Notify::default()).unwrap();
        for number in 1..=MANY {
            // It ends with the pipe that it reads.
            let mut front = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            drop(front.stdin.take());
            let connection = connection::tests::connection(number, peer(), front);
            let mut fds = [PollFd::new(connection.front.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PollTimeout::from(10_000_u16)), Ok(1), "it ends");
            event_loop.connections.insert(number, connection);
        }
        (event_loop, theirs, (1..=MANY).map(Token::Connection).collect())
    }

    fn peer() -> SocketAddr {
        ([192, 0, 2, 1], 22).into()
    }

    fn say_all_is_well(theirs: &Channel<FromSignerControl, Control>) {
        for connection in 1..=MANY {
            let message = match connection % 2 {
                0 => FromSignerControl::LoggedIn { connection },
                _ => FromSignerControl::Served { connection },
            };
            theirs.send(&message).unwrap();
        }
    }

    fn is_punished(event_loop: &mut EventLoop) -> bool {
        assert!(event_loop.connections.is_empty() && event_loop.departed.is_empty(), "all were seen to");
        event_loop.penalties.left(Source::of(peer().ip()), Instant::now()).is_some()
    }

    #[test]
    fn many_that_end_in_one_round_and_have_logged_in_or_were_served_cost_their_address_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut event_loop, theirs, ready) = many_that_ended(dir.path());
        say_all_is_well(&theirs);
        event_loop.round(&ready, Instant::now());
        assert!(!is_punished(&mut event_loop));
    }

    #[test]
    fn what_the_signer_says_once_the_round_has_begun_is_heard_before_a_connection_is_judged() {
        let dir = tempfile::tempdir().unwrap();
        let (mut event_loop, theirs, ready) = many_that_ended(dir.path());
        let now = Instant::now();
        event_loop.signer.advance(&event_loop.ground.base, now);
        event_loop.note_logins();
        say_all_is_well(&theirs);
        event_loop.see_to(&ready, now);
        assert!(!is_punished(&mut event_loop));
    }

    /// A worker that runs until it is killed, and at which its front has hung up.
    fn with_slow_workers(event_loop: &mut EventLoop, now: Instant) {
        for connection in 1..=MANY {
            let mut command = Command::new("sleep");
            let child = command.arg("1000").process_group(0).spawn().unwrap();
            let worker = Worker {
                connection,
                source: Source::of(peer().ip()),
                attempt: 1,
                user: "alice".to_owned(),
                lookup: false,
                child: Child::new(child).unwrap(),
                log: LogPipe::new().unwrap().0,
                deadline: now + Duration::from_secs(120),
                asker: Asker::There,
            };
            event_loop.workers.insert(connection, worker);
        }
    }

    /// After `later`, until all workers have ended.
    fn see_to_workers(event_loop: &mut EventLoop, later: Instant) {
        let end = Instant::now() + Duration::from_secs(20);
        while !event_loop.workers.is_empty() {
            assert!(Instant::now() < end, "they are killed");
            event_loop.see_to(&(1..=MANY).map(Token::Worker).collect::<Vec<_>>(), later);
        }
    }

    #[test]
    fn whoever_hangs_up_at_a_slow_module_has_left_and_the_module_has_not_broken_down() {
        let dir = tempfile::tempdir().unwrap();
        let (mut event_loop, _theirs, ready) = many_that_ended(dir.path());
        let now = Instant::now();
        with_slow_workers(&mut event_loop, now);
        event_loop.round(&ready, now);
        assert!(event_loop.connections.is_empty() && event_loop.departed.len() as u64 == MANY, "PAM is waited for");
        see_to_workers(&mut event_loop, now + turns::ORPHAN_PATIENCE);
        let report = event_loop.report(now);
        assert_eq!((report.attempts_broke_down, report.attempts_refused, report.last_pam_trouble), (0, MANY, None));
        assert!(is_punished(&mut event_loop));
    }

    #[test]
    fn a_worker_that_is_killed_while_somebody_waits_for_it_has_broken_down_and_costs_its_address_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut event_loop, _theirs, ready) = many_that_ended(dir.path());
        let now = Instant::now();
        with_slow_workers(&mut event_loop, now);
        let later = now + Duration::from_secs(120);
        // They are too late before their fronts end.
        event_loop.see_to(&(1..=MANY).map(Token::Worker).collect::<Vec<_>>(), later);
        event_loop.round(&ready, now);
        see_to_workers(&mut event_loop, later);
        let report = event_loop.report(now);
        assert_eq!((report.attempts_broke_down, report.attempts_refused), (MANY, 0));
        assert!(report.last_pam_trouble.is_some() && !is_punished(&mut event_loop));
    }

    #[test]
    fn many_that_end_in_one_round_and_never_tried_are_not_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let (mut event_loop, _theirs, ready) = many_that_ended(dir.path());
        event_loop.round(&ready, Instant::now());
        assert!(is_punished(&mut event_loop));
    }
}
