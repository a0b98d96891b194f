//! The supervisor's loop: wait for something to happen, see to all that has.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ussh_core::escape::{MAX_FIELD, escape};
use usshca_ipc::front::FromSupervisor;

use crate::child::LogPipe;
use crate::failure::Failure;
use crate::log;
use crate::serve::Ground;
use crate::serve::connection::{self, Asked, Connection};
use crate::serve::signer::Signer;
use crate::serve::source::{Named, Source};
use crate::serve::worker::{self, Attempt, StartError, Worker};

/// How long connections may go on once the CA is told to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long a worker may go on whose front has gone.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a killed process may take to be gone before that is logged again.
const REAP_PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing is accepted after the kernel has run out of something.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(1);
/// Accounts that one connection may have looked up: one by `none`, and one by each key that fits.
const MAX_LOOKUPS: u32 = 4;
/// Connections accepted in one go at a listener.
const ACCEPT_BATCH: usize = 16;

const SIGNER_AWAY: &str =
    "The CA's signer is not available. Try again in a minute; if it stays so, tell the CA's administrators.";
const SIGNER_RESTARTED: &str = "The CA's signer was restarted meanwhile. Please connect again.";
const BUSY: &str = "The CA has too many logins at the same time. Please try again in a moment.";
const BUSY_SOURCE: &str = "Too many logins at the same time from your address. Please try again in a moment.";
const OUT_OF_ORDER: &str =
    "The CA cannot check logins at the moment. Try again in a minute; if it stays so, tell the CA's administrators.";
const TOO_MANY: &str = "Too many attempts.";

/// All that the supervisor knows.
pub struct EventLoop {
    ground: Ground,
    /// Empty once it is stopping.
    listeners: Vec<TcpListener>,
    signals: SignalFd,
    signer: Signer,
    connections: Vec<Connection>,
    workers: Vec<Worker>,
    last_connection: u64,
    /// Sources that were over their limit.
    named: Named,
    /// Nothing is accepted before.
    accept_after: Option<Instant>,
    /// Set once it is stopping: when what still runs is killed.
    stop_by: Option<Instant>,
}

impl EventLoop {
    /// Takes over listeners and signer; SIGTERM, SIGINT and SIGHUP come to the loop from here on.
    pub fn new(ground: Ground, listeners: Vec<TcpListener>, signer: Signer) -> Result<Self, Failure> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.add(Signal::SIGHUP);
        let failed = |e: Errno| Failure::internal(format!("signals: {e}"));
        mask.thread_block().map_err(failed)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
        Ok(EventLoop {
            ground,
            listeners,
            signals,
            signer,
            connections: Vec::new(),
            workers: Vec::new(),
            last_connection: 0,
            named: Named::default(),
            accept_after: None,
            stop_by: None,
        })
    }

    /// Runs until it is told to end and all connections have ended.
    pub fn run(mut self) -> Result<(), Failure> {
        while !self.is_done() {
            let ready = self.wait().map_err(|e| Failure::internal(format!("poll: {e}")))?;
            let now = Instant::now();
            self.hear_signals(now);
            self.signer.advance(&self.ground.base, now);
            self.see_to_workers(&ready, now);
            self.see_to_fronts(&ready, now);
            self.accept(now);
        }
        self.signer.finish();
        log::info("stopped");
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.stop_by.is_some_and(|by| self.connections.is_empty() && self.workers.is_empty() || Instant::now() >= by)
    }

    /// Waits for descriptors or for the next deadline; gives the descriptors on which something has happened.
    fn wait(&self) -> io::Result<HashSet<RawFd>> {
        let mut watched: Vec<BorrowedFd<'_>> = vec![self.signals.as_fd()];
        if self.accepts(Instant::now()) {
            watched.extend(self.listeners.iter().map(AsFd::as_fd));
        }
        watched.extend(self.signer.descriptors());
        watched.extend(self.connections.iter().flat_map(Connection::descriptors));
        watched.extend(self.workers.iter().flat_map(Worker::descriptors));
        let mut fds: Vec<PollFd<'_>> = watched.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, self.timeout(Instant::now())) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(HashSet::new()),
            Err(e) => return Err(e.into()),
        }
        let happened = fds.iter().filter(|fd| fd.any() == Some(true));
        Ok(happened.map(|fd| fd.as_fd().as_raw_fd()).collect())
    }

    fn timeout(&self, now: Instant) -> PollTimeout {
        let next = self.connections.iter().map(|c| c.deadline);
        let next = next.chain(self.workers.iter().map(|w| w.deadline));
        let next = next.chain(self.signer.next_instant()).chain(self.accept_after).chain(self.stop_by).min();
        // Whole milliseconds, rounded up: rounded down, the last one would be spent spinning.
        next.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(now).as_nanos().div_ceil(1_000_000);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        })
    }

    fn hear_signals(&mut self, now: Instant) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if u32::try_from(Signal::SIGHUP as i32) == Ok(signal.ssi_signo) {
                match self.ground.base.policy() {
                    Ok(policy) => self.signer.offer(policy),
                    Err(failure) => {
                        log::error(&format!("policy: the one before stays in force: {}", failure.message));
                    }
                }
            } else if self.stop_by.is_none() {
                log::info(&format!("told to stop: {} connections may finish", self.connections.len()));
                self.listeners.clear();
                self.stop_by = Some(now + STOP_PATIENCE);
            }
        }
    }

    fn see_to_workers(&mut self, ready: &HashSet<RawFd>, now: Instant) {
        self.workers.retain_mut(|worker| {
            if now < worker.deadline && !is_ready(worker.descriptors(), ready) {
                return true;
            }
            let name = format!("connection {} attempt {}", worker.connection, worker.attempt);
            let say = |line: &str| log::info(&format!("{name}: {line}"));
            worker.log.drain(say);
            if let Some(why) = is_to_be_killed(now, worker.deadline, &worker.log) {
                log::warning(&format!("{name}: {why}: killed"));
                worker.log.close();
                worker.child.kill();
                worker.deadline = now + REAP_PATIENCE;
            }
            let Some(status) = worker.child.try_wait() else {
                return true;
            };
            worker.log.drain(say);
            if !matches!(status.code(), Some(0 | 1 | 69)) {
                log::warning(&format!("{name}: the PAM worker broke down ({status})"));
            }
            false
        });
    }

    fn see_to_fronts(&mut self, ready: &HashSet<RawFd>, now: Instant) {
        let mut connections = std::mem::take(&mut self.connections);
        connections.retain_mut(|connection| {
            let concerned = now >= connection.deadline || is_ready(connection.descriptors(), ready);
            !concerned || self.see_to_front(connection, now)
        });
        self.connections = connections;
    }

    /// False: it has ended.
    fn see_to_front(&mut self, connection: &mut Connection, now: Instant) -> bool {
        let name = format!("connection {} from {}", connection.id, connection.peer);
        let say = |line: &str| log::info(&format!("{name}: {line}"));
        connection.log.drain(say);
        if let Some(why) = is_to_be_killed(now, connection.deadline, &connection.log) {
            log::warning(&format!("{name}: {why}: killed"));
            connection.log.close();
            connection.front.kill();
            connection.deadline = now + REAP_PATIENCE;
        }
        if connection.talks {
            match connection.next() {
                Asked::Nothing => {}
                Asked::Worker { user, lookup } => self.start_attempt(connection, &user, lookup, now),
                Asked::Over(why) => {
                    connection.talks = false;
                    if !why.is_empty() {
                        log::warning(&format!("{name}: the front {why}: killed"));
                        connection.front.kill();
                    }
                }
            }
        }
        let Some(status) = connection.front.try_wait() else {
            return true;
        };
        connection.log.drain(say);
        if status.success() {
            log::info(&format!("{name}: closed"));
        } else {
            log::warning(&format!("{name}: the front broke down ({status})"));
        }
        self.orphan_workers_of(connection.id, now);
        false
    }

    /// A worker whose front has gone hears it at its next prompt. It is not killed at once: a module that has the password already must come to its end, or whoever
    /// hangs up quickly is never counted (pam_faillock).
    fn orphan_workers_of(&mut self, connection: u64, now: Instant) {
        for worker in self.workers.iter_mut().filter(|w| w.connection == connection) {
            worker.deadline = worker.deadline.min(now + ORPHAN_PATIENCE);
        }
    }

    /// One worker for one attempt: the one before it has had its turn.
    fn start_attempt(&mut self, connection: &mut Connection, user: &str, lookup: bool, now: Instant) {
        self.orphan_workers_of(connection.id, now);
        match self.try_attempt(connection, user, lookup, now) {
            Ok((worker, message, end)) => {
                if connection.channel.send_with(&message, &[end.as_fd()]).is_ok() {
                    self.workers.push(worker);
                }
            }
            Err(message) => {
                let user = escape(user.as_bytes(), MAX_FIELD);
                log::warning(&format!(
                    "connection {} from {}: no attempt for {user}: {message}",
                    connection.id, connection.peer
                ));
                // A front that cannot be told has gone.
                let _ = connection.channel.send(&FromSupervisor::Refused { message: message.to_owned() });
            }
        }
    }

    fn try_attempt(
        &self,
        connection: &mut Connection,
        user: &str,
        lookup: bool,
        now: Instant,
    ) -> Result<(Worker, FromSupervisor, ussh_os::seqpacket::SeqPacket), &'static str> {
        let config = &self.ground.base.config;
        let (so_far, most) = match lookup {
            true => (connection.lookups, MAX_LOOKUPS),
            false => (connection.attempts - connection.lookups, config.max_attempts),
        };
        if so_far >= most || now >= connection.grace_end {
            // Nothing more is heard from it, so that it cannot keep the supervisor busy.
            connection.talks = false;
            return Err(TOO_MANY);
        }
        connection.attempts += 1;
        connection.lookups += u32::from(lookup);
        if self.workers.len() >= limit(config.max_workers) {
            return Err(BUSY);
        }
        let source = Source::of(connection.peer.ip());
        if self.workers.iter().filter(|w| w.source == source).count() >= limit(config.max_workers_per_source) {
            return Err(BUSY_SOURCE);
        }
        match (self.signer.generation(), connection.signer_generation) {
            (None, _) => return Err(SIGNER_AWAY),
            (up, known) if up != known => return Err(SIGNER_RESTARTED),
            (Some(_), _) => {}
        }
        let attempt = Attempt {
            connection: connection.id,
            attempt: connection.attempts,
            peer: connection.peer,
            user,
            patience: connection.grace_end.saturating_duration_since(now),
            lookup,
        };
        match worker::start(&self.ground.base, &self.signer, &attempt) {
            Ok((worker, end)) => Ok((worker, FromSupervisor::Worker { attempt: connection.attempts }, end)),
            Err(StartError::Signer) => Err(SIGNER_AWAY),
            Err(StartError::Io(e)) => {
                log::error(&format!("connection {}: no PAM worker: {e}", connection.id));
                Err(OUT_OF_ORDER)
            }
        }
    }

    fn accepts(&self, now: Instant) -> bool {
        self.connections.len() < limit(self.ground.base.config.max_connections)
            && self.accept_after.is_none_or(|after| now >= after)
    }

    fn accept(&mut self, now: Instant) {
        // A pause that is over must not wake the loop again.
        self.accept_after = self.accept_after.filter(|after| now < *after);
        for listener in 0..self.listeners.len() {
            // A batch at most, so that the others are seen to in between; the limit is looked at before each.
            for _ in 0..ACCEPT_BATCH {
                if !self.accepts(now) {
                    return;
                }
                match self.listeners.get(listener).map(accept_one) {
                    Some(Ok(Accepted::Connection(stream, peer))) => self.admit(stream, peer.ip(), now),
                    Some(Ok(Accepted::GoneAgain)) => {}
                    Some(Ok(Accepted::Nothing)) | None => break,
                    Some(Err(e)) => {
                        log::error(&format!("cannot accept connections: {e}; trying again in a second"));
                        self.accept_after = Some(now + SHORTAGE_PAUSE);
                    }
                }
            }
        }
    }

    /// Starts a front, unless its source has as many as one may have.
    fn admit(&mut self, stream: TcpStream, peer: IpAddr, now: Instant) {
        let source = Source::of(peer);
        let most = self.ground.base.config.max_connections_per_source;
        if self.connections.iter().filter(|c| Source::of(c.peer.ip()) == source).count() >= limit(most) {
            if self.named.is_due(source, now) {
                log::warning(&format!(
                    "{source} has {most} connections (max_connections_per_source); more from there are closed at once"
                ));
            }
            return;
        }
        self.last_connection += 1;
        match connection::start(&self.ground, &self.signer, self.last_connection, stream) {
            Ok(connection) => {
                log::info(&format!("connection {} from {}", connection.id, connection.peer));
                self.connections.push(connection);
            }
            Err(e) => log::error(&format!("connection {}: no front: {e}", self.last_connection)),
        }
    }
}

fn is_to_be_killed(now: Instant, deadline: Instant, log: &LogPipe) -> Option<&'static str> {
    if log.is_open() && log.is_excessive() {
        return Some("says too much");
    }
    (now >= deadline).then_some("takes too long")
}

fn limit(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn is_ready<'a>(mut descriptors: impl Iterator<Item = BorrowedFd<'a>>, ready: &HashSet<RawFd>) -> bool {
    descriptors.any(|fd| ready.contains(&fd.as_raw_fd()))
}

enum Accepted {
    Connection(TcpStream, SocketAddr),
    /// accept(2): an error of the one connection, not of the listener.
    GoneAgain,
    Nothing,
}

/// The next connection that waits at this listener. An error is a shortage.
fn accept_one(listener: &TcpListener) -> io::Result<Accepted> {
    match listener.accept() {
        Ok((stream, peer)) => Ok(Accepted::Connection(stream, peer)),
        Err(e) => match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EWOULDBLOCK) => Ok(Accepted::Nothing),
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => Err(e),
            _ => Ok(Accepted::GoneAgain),
        },
    }
}
