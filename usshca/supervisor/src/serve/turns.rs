//! What connections and workers have to say, and how they end.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_os::seqpacket::SeqPacket;
use ussh_os::syslog::Severity;
use usshca_ipc::front::FromSupervisor;

use crate::log;
use crate::serve::connection::{Asked, Conduct, Connection};
use crate::serve::event_loop::{EventLoop, REAP_PATIENCE, is_to_be_killed, limit};
use crate::serve::penalties::Offence;
use crate::serve::source::Source;
use crate::serve::watch::Token;
use crate::serve::worker::{self, Asker, Attempt, Ended, StartError, Worker};

/// How long a worker may go on whose front has gone.
pub(super) const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);
/// A front gives up so long before its time is over, so that it can still say so (usshca-front, `LAST_WORDS`).
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The front looks at the same clock as we do, and may be some milliseconds ahead of us.
const GRACE_SLACK: Duration = Duration::from_millis(500);

/// Accounts that one connection may have looked up: one by `none`, and one by each key that fits.
const MAX_LOOKUPS: u32 = 4;

const SIGNER_AWAY: &str =
    "The CA's signer is not available. Try again in a minute; if it stays so, tell the CA's administrators.";
const SIGNER_RESTARTED: &str = "The CA's signer was restarted meanwhile. Please connect again.";
const BUSY: &str = "The CA has too many logins at the same time. Please try again in a moment.";
const BUSY_SOURCE: &str = "Too many logins at the same time from your address. Please try again in a moment.";
const OUT_OF_ORDER: &str =
    "The CA cannot check logins at the moment. Try again in a minute; if it stays so, tell the CA's administrators.";
const TOO_MANY: &str = "Too many attempts.";

impl EventLoop {
    /// `None`: it has ended.
    pub(super) fn see_to_worker(&mut self, mut worker: Worker, now: Instant) -> Option<Worker> {
        let name = format!("connection {} attempt {}", worker.connection, worker.attempt);
        let (connection, attempt) = (worker.connection.to_string(), worker.attempt.to_string());
        let fields =
            [("event", "attempt"), ("connection", &*connection), ("attempt", &*attempt), ("user", &*worker.user)];
        let say = |line: &str| {
            let mut fields = fields.to_vec();
            fields.extend(outcome_said(line).map(|outcome| ("outcome", outcome)));
            log::event(Severity::Info, &format!("{name}: {line}"), &fields);
        };
        worker.log.drain(say);
        if let Some(why) = is_to_be_killed(now, worker.deadline, &worker.log) {
            let given_up = matches!(worker.asker, Asker::Gone | Asker::GivenUp) && !worker.log.is_excessive();
            worker.asker = if given_up { Asker::GivenUp } else { Asker::Bereft };
            match given_up {
                true => log::info(&format!("{name}: nobody waits for PAM any more: killed")),
                false => log::warning(&format!("{name}: {why}: killed")),
            }
            worker.log.close();
            worker.child.kill_family();
            worker.deadline = now + REAP_PATIENCE;
        }
        if worker.child.peek().is_some_and(|how| !matches!(how, WaitStatus::Exited(..))) {
            worker.child.kill_rest();
        }
        let Some(status) = worker.child.try_wait() else {
            return Some(worker);
        };
        worker.log.drain(say);
        let ended = match worker.asker {
            Asker::GivenUp if status.signal().is_some() => Ended::Left,
            Asker::There | Asker::Gone | Asker::Bereft | Asker::GivenUp => Ended::of(status),
        };
        self.counters.worker_ended(ended, worker.lookup);
        if ended == Ended::BrokeDown {
            let mut fields = fields.to_vec();
            fields.retain(|(name, _)| *name != "event");
            fields.extend([("event", "worker_broke_down"), ("outcome", "broke down")]);
            log::event(Severity::Warning, &format!("{name}: the PAM worker broke down ({status})"), &fields);
        }
        let conduct = match self.connections.get_mut(&worker.connection) {
            Some(connection) => Some(&mut connection.conduct),
            None => self.departed.get_mut(&worker.connection).map(|departed| &mut departed.conduct),
        };
        if let Some(conduct) = conduct {
            match ended {
                Ended::Passed | Ended::Left => {}
                // Whoever is looked up has tried no password.
                Ended::Refused if worker.lookup => {}
                Ended::Refused => conduct.refused += 1,
                Ended::Unavailable | Ended::BrokeDown => conduct.troubled = true,
            }
        }
        self.settle(worker.connection, now);
        None
    }

    /// `None`: it has ended.
    pub(super) fn see_to_front(&mut self, mut connection: Connection, now: Instant) -> Option<Connection> {
        let name = connection.name();
        let (number, peer) = (connection.id.to_string(), connection.peer.to_string());
        let fields = [("event", "front"), ("connection", &*number), ("peer", &*peer)];
        let say = |line: &str| log::event(Severity::Info, &format!("{name}: {line}"), &fields);
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
                Asked::Worker { user, lookup } => self.start_attempt(&mut connection, &user, lookup, now),
                Asked::Over(why) => {
                    self.listen_no_more(&mut connection);
                    if !why.is_empty() {
                        log::warning(&format!("{name}: the front {why}: killed"));
                        connection.front.kill();
                    }
                }
            }
        }
        let Some(status) = connection.front.try_wait() else {
            return Some(connection);
        };
        connection.log.drain(say);
        if status.success() {
            let fields = [("event", "closed"), ("connection", &*number), ("peer", &*peer)];
            log::event(Severity::Info, &format!("{name}: closed"), &fields);
        } else if !connection.is_evicted() {
            self.counters.fronts_broken += 1;
            let fields = [("event", "front_broke_down"), ("connection", &*number), ("peer", &*peer)];
            log::event(Severity::Warning, &format!("{name}: the front broke down ({status})"), &fields);
        }
        self.orphan_workers_of(connection.id, now);
        self.departed.insert(connection.id, Departed::of(&connection, status, now));
        self.settle(connection.id, now);
        None
    }

    /// Its source pays for what became of a connection that has ended, once all of its workers have too: whoever hangs up before PAM has said no pays for that all the same.
    fn settle(&mut self, connection: u64, now: Instant) {
        if self.workers.values().any(|worker| worker.connection == connection) {
            return;
        }
        // Several end in one round, and the signer may have spoken of this one since the round began.
        self.signer.hear(now);
        self.note_logins();
        let Some(connection) = self.departed.remove(&connection) else {
            return;
        };
        let exempt = &self.ground.base.config.penalties.exempt;
        let address = connection.peer.ip();
        let Some(offence) = connection.offence().filter(|_| self.stop_by.is_none()) else {
            return;
        };
        if exempt.iter().any(|network| network.0.contains(&address)) {
            return;
        }
        self.counters.offence(offence);
        if let Some(left) = self.penalties.penalise(connection.source, offence, connection.times(offence), now) {
            let (source, seconds) = (connection.source.to_string(), left.as_secs());
            log::event(
                Severity::Warning,
                &format!("{source} is not let in for {seconds} s or more: penalty ({})", offence.name()),
                &[("event", "penalty"), ("source", &source), ("offence", offence.name())],
            );
        }
    }

    fn listen_no_more(&self, connection: &mut Connection) {
        connection.talks = false;
        self.watch.remove(connection.channel.socket().as_fd());
    }

    /// A worker whose front has gone hears it at its next prompt. It is not killed at once: a module that has the password already must come to its end, or whoever
    /// hangs up quickly is never counted (pam_faillock). Whoever hangs up at one that takes longer (RADIUS, a push to a telephone) has left, as one who hangs up at a prompt: that is a
    /// connection on which nobody logged in. It costs as little as Ctrl-C at a password, and as much to somebody who keeps workers busy by it.
    pub(super) fn orphan_workers_of(&mut self, connection: u64, now: Instant) {
        for worker in self.workers.values_mut().filter(|w| w.connection == connection) {
            // A front whose time is over has waited to the end: its worker takes too long.
            if now + ORPHAN_PATIENCE + LAST_WORDS + GRACE_SLACK < worker.deadline && worker.asker == Asker::There {
                (worker.deadline, worker.asker) = (now + ORPHAN_PATIENCE, Asker::Gone);
            }
        }
    }

    /// One worker for one attempt: the one before it has had its turn.
    fn start_attempt(&mut self, connection: &mut Connection, user: &str, lookup: bool, now: Instant) {
        self.orphan_workers_of(connection.id, now);
        match self.try_attempt(connection, user, lookup, now) {
            Ok((worker, message, end)) => {
                if connection.channel.send_with(&message, &[end.as_fd()]).is_ok() {
                    self.counters.attempts += 1;
                    self.last_worker += 1;
                    self.workers.insert(self.last_worker, worker);
                }
            }
            Err(message) => {
                self.counters.attempts_turned_away += 1;
                connection.conduct.troubled |= message != TOO_MANY;
                let user = escape(user.as_bytes(), MAX_FIELD);
                log::warning(&format!("{}: no attempt for {user}: {message}", connection.name()));
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
    ) -> Result<(Worker, FromSupervisor, SeqPacket), &'static str> {
        let config = &self.ground.base.config;
        let (so_far, most) = match lookup {
            true => (connection.lookups, MAX_LOOKUPS),
            false => (connection.attempts - connection.lookups, config.max_attempts),
        };
        if so_far >= most || now >= connection.grace_end {
            // Nothing more is heard from it, so that it cannot keep the supervisor busy.
            self.listen_no_more(connection);
            return Err(TOO_MANY);
        }
        connection.attempts += 1;
        connection.lookups += u32::from(lookup);
        if self.workers.len() >= limit(config.max_workers) {
            return Err(BUSY);
        }
        let of_source = self.workers.values().filter(|w| w.source == connection.source).count();
        if of_source >= limit(config.max_workers_per_source) {
            return Err(BUSY_SOURCE);
        }
        match (self.signer.generation(), connection.signer_generation) {
            (None, _) => return Err(SIGNER_AWAY),
            (up, known) if up != known => return Err(SIGNER_RESTARTED),
            (Some(_), _) => {}
        }
        let attempt = Attempt {
            // Its worker refuses then, and the signer hears of it from there: the row says why.
            may_ask_pam: self.is_pam_service_there(),
            connection: connection.id,
            attempt: connection.attempts,
            peer: connection.peer,
            user,
            patience: connection.grace_end.saturating_duration_since(now),
            lookup,
        };
        let started = worker::start(&self.ground.base, &self.signer, &attempt).and_then(|(worker, end)| {
            let token = Token::Worker(self.last_worker + 1);
            worker.descriptors().try_for_each(|fd| self.watch.add(fd, token))?;
            Ok((worker, end))
        });
        match started {
            Ok((worker, end)) => Ok((worker, FromSupervisor::Worker { attempt: connection.attempts }, end)),
            Err(StartError::Signer) => Err(SIGNER_AWAY),
            Err(StartError::Io(e)) => {
                log::error(&format!("connection {}: no PAM worker: {e}", connection.id));
                Err(OUT_OF_ORDER)
            }
        }
    }
}

/// What a worker's line says of how its attempt ended; nothing for what PAM's modules say besides. For who reads the log: nothing hangs on it.
fn outcome_said(line: &str) -> Option<&'static str> {
    let (said, of) = line.split_once(' ')?;
    let is_login = of.starts_with("keyboard-interactive/pam for ");
    match said {
        "Accepted" if is_login => Some("accepted"),
        // It proves nothing.
        "Accepted" if of.starts_with("lookup for ") => Some("looked_up"),
        "Failed" if is_login || of.starts_with("lookup for ") => Some("refused"),
        _ => None,
    }
}

/// A connection that has ended.
pub struct Departed {
    peer: SocketAddr,
    source: Source,
    pub(super) conduct: Conduct,
    /// It was ended to make room.
    was_evicted: bool,
    /// By a signal, or by a panic: what a client may have made it do.
    has_crashed: bool,
    was_overtime: bool,
}

impl Departed {
    fn of(connection: &Connection, status: ExitStatus, now: Instant) -> Self {
        let has_crashed = status.signal().is_some() || status.code() == Some(PANIC);
        Departed {
            peer: connection.peer,
            source: connection.source,
            conduct: connection.conduct,
            was_evicted: connection.is_evicted(),
            has_crashed,
            was_overtime: now + GRACE_SLACK >= connection.grace_end,
        }
    }

    /// How often it did that: a connection has as many tries as it is given, and each of them is a guess.
    fn times(&self, offence: Offence) -> u32 {
        match offence {
            Offence::AuthenticationFailed => self.conduct.refused.max(1),
            Offence::NeverTried | Offence::GraceExceeded | Offence::Crashed => 1,
        }
    }

    fn offence(&self) -> Option<Offence> {
        if self.was_evicted || self.conduct.logged_in && !self.has_crashed {
            return None;
        }
        if self.has_crashed {
            return Some(Offence::Crashed);
        }
        if self.was_overtime {
            return Some(Offence::GraceExceeded);
        }
        match (self.conduct.refused, self.conduct.troubled) {
            (1.., _) => Some(Offence::AuthenticationFailed),
            (0, true) => None,
            (0, false) if self.conduct.served => None,
            (0, false) => Some(Offence::NeverTried),
        }
    }
}

/// How a Rust program ends that panics.
const PANIC: i32 = 101;

#[cfg(test)]
mod tests {
    use super::*;

    fn departed(refused: u32, troubled: bool) -> Departed {
        let peer = ([192, 0, 2, 1], 1).into();
        Departed {
            peer,
            source: Source::of(peer.ip()),
            conduct: Conduct { refused, troubled, ..Conduct::default() },
            was_evicted: false,
            has_crashed: false,
            was_overtime: false,
        }
    }

    #[test]
    fn a_workers_last_line_has_its_outcome_as_a_field() {
        assert_eq!(
            outcome_said("Failed keyboard-interactive/pam for alice from ::1: authentication: no"),
            Some("refused")
        );
        assert_eq!(outcome_said("Accepted keyboard-interactive/pam for alice from ::1"), Some("accepted"));
        assert_eq!(outcome_said("Failed lookup for alice from ::1: account: no"), Some("refused"));
        assert_eq!(outcome_said("Accepted lookup for alice from ::1"), Some("looked_up"), "nobody has logged in");
        assert_eq!(outcome_said("Failed to open a file"), None);
        assert_eq!(outcome_said("on two: Accepted keyboard-interactive/pam for root"), None);
    }

    #[test]
    fn what_a_connection_pays_for_is_the_worst_that_it_did_itself() {
        assert_eq!(departed(0, false).offence(), Some(Offence::NeverTried));
        assert_eq!(departed(2, false).offence(), Some(Offence::AuthenticationFailed));
        assert_eq!(departed(1, true).offence(), Some(Offence::AuthenticationFailed));
        assert_eq!(departed(0, true).offence(), None, "PAM was out of order");
        assert_eq!(departed(3, false).times(Offence::AuthenticationFailed), 3);
        assert_eq!(departed(3, false).times(Offence::GraceExceeded), 1);
        let served = |refused| Departed {
            conduct: Conduct { served: true, ..departed(refused, false).conduct },
            ..departed(0, false)
        };
        assert_eq!(served(0).offence(), None, "it came for the feed");
        assert_eq!(served(1).offence(), Some(Offence::AuthenticationFailed));
        assert_eq!(Departed { was_overtime: true, ..departed(2, false) }.offence(), Some(Offence::GraceExceeded));
        assert_eq!(
            Departed { has_crashed: true, was_overtime: true, ..departed(0, true) }.offence(),
            Some(Offence::Crashed)
        );
        assert_eq!(Departed { was_evicted: true, ..departed(2, false) }.offence(), None);
        let logged_in = |has_crashed| Departed {
            conduct: Conduct { logged_in: true, ..departed(2, false).conduct },
            has_crashed,
            ..departed(0, false)
        };
        assert_eq!(logged_in(false).offence(), None);
        assert_eq!(logged_in(true).offence(), Some(Offence::Crashed));
    }
}
