//! Fronts and PAM workers: a worker's statement lets its connection's front ask for one certificate. What a worker only looked up proves nothing yet: see `proofs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ussh_core::agent::injected_comment;
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_core::keys::PublicKey;
use ussh_os::agent_socket::Peer;
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::channel::{Channel, ChannelError};
use usshca_ipc::front::{Delivery, FromSigner, MAX_REASON, MAX_WISHES, ToSigner, Wish};
use usshca_ipc::worker::{Statement, StatementReply};

use super::hosts::HostState;
use super::proofs::Asked;
use super::turn::Asking;
use super::{Flow, Heard, Server, hear};
use crate::ca::{IssuedUser, Passed};
use crate::inventory::{InventoryError, Outcome};
use crate::log;
use crate::policy::{MAX_NAME, Mode, Proofs};
use crate::refused::Refused;

/// How long a statement is good for an issue.
pub(super) const STATEMENT_LIFE: Duration = Duration::from_secs(60);
/// Most bytes of a feed in one answer.
const FEED_CHUNK: usize = 64 * 1024;
/// Most groups in a statement.
const MAX_GROUPS: usize = 4096;

/// Why nobody knows whether a certificate was delivered.
const LOST: &str = "the connection ended before the delivery was confirmed";

/// One connection's front. Untrusted.
pub struct Front {
    channel: Channel<FromSigner, ToSigner>,
    /// The supervisor's getpeername.
    pub(super) peer: SocketAddr,
    /// The last attempt that the supervisor announced.
    last_attempt: u32,
    /// By attempt.
    pub(super) statements: BTreeMap<u32, Kept>,
    /// Serials issued here whose outcome is not known.
    pub(super) open: BTreeSet<u64>,
    /// Where its host is, if it has one.
    pub(super) host: HostState,
    /// How often it asked about a key.
    pub(super) knows: u32,
    /// What a key was asked last and has not answered.
    pub(super) asked: Option<Asked>,
    /// What is left of the last answer in parts.
    pub(super) rest: VecDeque<FromSigner>,
    /// An administrator's question was answered here.
    pub(super) administers: bool,
}

/// A statement that waits for its one issue.
pub(super) struct Kept {
    pub(super) passed: Passed,
    /// When the statement came, or a key proved itself for it last.
    pub(super) since: Instant,
    /// When the statement came.
    pub(super) stated: Instant,
    /// The user's own key, which proved that its owner wants it certified.
    pub(super) possessed: Option<PublicKey>,
}

/// What a worker's statement says besides that there is such an account and that it may log in now. It is the supervisor's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// That its user has passed PAM in full.
    Authenticates,
    /// Nothing.
    LooksUp,
}

/// One attempt's PAM worker, which has not spoken yet.
pub struct Worker {
    channel: Channel<StatementReply, Statement>,
    /// As the supervisor announced.
    pid: i32,
    trust: Trust,
}

impl Front {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.socket().as_fd()
    }
}

impl Worker {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.socket().as_fd()
    }
}

impl Server {
    pub(super) fn add_front(&mut self, connection: u64, peer: SocketAddr, socket: SeqPacket) {
        if self.fronts.contains_key(&connection) {
            log::warning(&format!("connection {connection} announced twice: the second one is not taken"));
            return;
        }
        let front = Front {
            channel: Channel::new(socket),
            peer,
            last_attempt: 0,
            statements: BTreeMap::new(),
            open: BTreeSet::new(),
            host: HostState::default(),
            knows: 0,
            asked: None,
            rest: VecDeque::new(),
            administers: false,
        };
        self.fronts.insert(connection, front);
    }

    pub(super) fn add_worker(&mut self, key: (u64, u32), pid: i32, socket: SeqPacket, trust: Trust) {
        let (connection, attempt) = key;
        let Some(front) = self.fronts.get_mut(&connection) else {
            // It ended while its worker was started.
            log::info(&format!("connection {connection} is gone: its worker is not listened to"));
            return;
        };
        if attempt <= front.last_attempt || pid <= 0 {
            log::warning(&format!("connection {connection}: attempt {attempt} (pid {pid}) is not taken"));
            return;
        }
        if let Err(e) = socket.attest_sender() {
            log::warning(&format!("connection {connection}: its worker cannot be attested: {e}"));
            return;
        }
        front.last_attempt = attempt;
        self.workers.insert(key, Worker { channel: Channel::new(socket), pid, trust });
    }

    /// A worker speaks once.
    pub(super) fn on_worker(&mut self, key: (u64, u32)) -> Flow {
        let Some(worker) = self.workers.get(&key) else {
            return Flow::Continue;
        };
        let (connection, attempt) = key;
        let heard = hear(&worker.channel);
        if matches!(heard, Heard::Nothing) {
            return Flow::Continue;
        }
        let Some(worker) = self.workers.remove(&key) else {
            return Flow::Continue;
        };
        match heard {
            Heard::Message(statement, sender) => {
                let reply = self.judge(key, &worker, statement, sender);
                // A worker that is gone has told its front nothing.
                if worker.channel.send(&reply).is_err()
                    && let Some(front) = self.fronts.get_mut(&connection)
                {
                    front.statements.remove(&attempt);
                }
            }
            // PAM said no.
            Heard::Nothing | Heard::Gone(ChannelError::Closed) => {}
            Heard::Gone(e) => log::warning(&format!("connection {connection}: worker of attempt {attempt}: {e}")),
        }
        Flow::Continue
    }

    fn judge(
        &mut self,
        key: (u64, u32),
        worker: &Worker,
        statement: Statement,
        sender: Option<Peer>,
    ) -> StatementReply {
        let (connection, attempt) = key;
        let pid = worker.pid;
        let now = self.ca.now();
        if sender.map(|s| (s.pid, s.uid)) != Some((pid, self.worker_uid)) {
            let expected = format!("pid {pid} of uid {}", self.worker_uid);
            log::warning(&format!(
                "connection {connection}: a statement from {sender:?} instead of {expected}: not taken"
            ));
            return StatementReply::Rejected;
        }
        if statement.user.is_empty() || statement.user.len() > MAX_NAME || statement.groups.len() > MAX_GROUPS {
            log::warning(&format!("connection {connection}: a statement without a usable account: not taken"));
            return StatementReply::Rejected;
        }
        let Some(front) = self.fronts.get_mut(&connection) else {
            return StatementReply::Rejected;
        };
        log::info(&format!(
            "connection {connection} from {}: {} (uid {}) {} in attempt {attempt}",
            front.peer,
            statement.user,
            statement.uid,
            match worker.trust {
                Trust::Authenticates => "passed PAM",
                Trust::LooksUp => "was looked up",
            }
        ));
        let proofs = Proofs { pam: worker.trust == Trust::Authenticates, publickey: false };
        let passed = Passed { user: statement.user, groups: statement.groups, proofs, key: None, login_time: now };
        let stated = Instant::now();
        front.statements.insert(attempt, Kept { passed, since: stated, stated, possessed: None });
        self.tell_if_enough(connection, attempt);
        StatementReply::Kept
    }

    pub(super) fn on_front(&mut self, connection: u64) -> Flow {
        let Some(front) = self.fronts.get(&connection) else {
            return Flow::Continue;
        };
        match hear(&front.channel) {
            Heard::Message(ToSigner::Issue { attempt, public_key, wish }, _) => {
                self.issue(connection, attempt, &public_key, Mode::Inject, &wish);
            }
            Heard::Message(ToSigner::Outcome { serial, delivery }, _) => self.outcome(connection, serial, delivery),
            Heard::Message(ToSigner::Host(ask), _) => self.on_host(connection, ask),
            Heard::Message(ToSigner::Feed { offset }, _) => self.feed(connection, offset),
            Heard::Message(ToSigner::Certify { attempt, public_key, wish }, _) => {
                self.issue(connection, attempt, &public_key, Mode::ClientKey, &wish);
            }
            Heard::Message(ToSigner::Ways, _) => self.ways(connection),
            Heard::Message(ToSigner::Knows { user, key }, _) => self.knows(connection, &user, &key),
            Heard::Message(ToSigner::Demands { attempt }, _) => self.demands(connection, attempt),
            Heard::Message(ToSigner::Challenge { attempt, purpose, key }, _) => {
                self.challenge(connection, attempt, purpose, &key);
            }
            Heard::Message(ToSigner::Prove { signature }, _) => self.prove(connection, &signature),
            Heard::Message(ToSigner::Mine { attempt, verb }, _) => self.mine(connection, attempt, verb),
            Heard::Message(ToSigner::More, _) => self.more(connection),
            Heard::Message(ToSigner::Admin { attempt, request }, _) => self.administer(connection, attempt, *request),
            Heard::Nothing => {}
            Heard::Gone(ChannelError::Closed) => self.lose_front(connection),
            Heard::Gone(e) => {
                log::warning(&format!("connection {connection}: front: {e}: closed"));
                self.lose_front(connection);
            }
        }
        Flow::Continue
    }

    fn issue(&mut self, connection: u64, attempt: u32, public_key: &[u8], mode: Mode, wish: &Wish) {
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        // Taken, whatever comes of it: one statement, one issue.
        let Some(kept) = front.statements.remove(&attempt) else {
            self.misbehaved(connection, &format!("asks for a certificate in attempt {attempt}, which has not passed"));
            return;
        };
        if kept.since.elapsed() > self.statement_life {
            return self.too_late(connection);
        }
        if mode == Mode::ClientKey && kept.possessed.as_ref().is_none_or(|key| key.blob() != public_key) {
            return self.misbehaved(connection, "asks for a certificate for a key that did not prove itself");
        }
        if wish.reason.len() > MAX_REASON || wish.principals.len() > MAX_WISHES {
            return self.misbehaved(connection, "asks for more than a front of ours lets through");
        }
        let peer = front.peer;
        self.turn.ask(Asking {
            connection,
            passed: kept.passed,
            public_key: public_key.to_vec(),
            mode,
            wish: wish.clone(),
            peer,
        });
    }

    /// What the turn made of a request: it stands in the inventory.
    pub(super) fn answer_issue(&mut self, connection: u64, issued: Result<IssuedUser, Refused>) {
        let issued = match issued {
            Ok(issued) => issued,
            Err(refused) => return self.tell(connection, &FromSigner::Refused { message: refused.for_user() }),
        };
        let serial = issued.certificate.serial();
        let Some(front) = self.fronts.get_mut(&connection) else {
            return self.turn.note(None, serial, Outcome::Undelivered(LOST.to_owned()));
        };
        front.open.insert(serial);
        let reply = FromSigner::Issued {
            certificate: issued.certificate.blob().to_vec(),
            lifetime_seconds: issued.lifetime_seconds,
            confirm: issued.confirm,
            comment: injected_comment(&issued.user, serial),
            rule: issued.rule,
        };
        self.tell(connection, &reply);
    }

    pub(super) fn too_late(&mut self, connection: u64) {
        log::warning(&format!("connection {connection}: asks too late"));
        let message = "It took too long since you logged in. Log in again.".to_owned();
        self.tell(connection, &FromSigner::Refused { message });
    }

    fn outcome(&mut self, connection: u64, serial: u64, delivery: Delivery) {
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        if !front.open.remove(&serial) {
            self.misbehaved(connection, &format!("tells of serial {serial}, which is not open here"));
            return;
        }
        let outcome = match delivery {
            Delivery::Delivered => Outcome::Delivered,
            Delivery::Refused(why) if why.is_empty() => Outcome::Undelivered("no reason given".to_owned()),
            Delivery::Refused(why) => Outcome::Undelivered(escape(why.as_bytes(), MAX_FIELD)),
        };
        self.turn.note(Some(connection), serial, outcome);
    }

    /// What the turn made of an outcome; `None`: nobody waits for the answer.
    pub(super) fn answer_outcome(&mut self, connection: Option<u64>, noted: Result<(), InventoryError>) {
        let reply = match noted {
            Ok(()) => FromSigner::Noted,
            Err(_) => FromSigner::Refused { message: "The CA could not note the delivery.".to_owned() },
        };
        if let Some(connection) = connection {
            self.tell(connection, &reply);
        }
    }

    /// The feed is for everybody: no login is asked for.
    fn feed(&mut self, connection: u64, offset: u64) {
        let reply = match self.ca.feed_for_readers() {
            Ok((version, feed)) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| feed.get(offset..)).unwrap_or_default();
                let chunk = rest.get(..FEED_CHUNK).unwrap_or(rest).to_vec();
                let is_last = rest.len() == chunk.len();
                let total = u64::try_from(feed.len()).unwrap_or(u64::MAX);
                if is_last {
                    self.tell_served(connection);
                }
                FromSigner::Feed { version, total, chunk }
            }
            Err(e) => {
                log::warning(&format!("connection {connection}: no feed: {e}"));
                FromSigner::Refused { message: e.for_reader().to_owned() }
            }
        };
        self.tell(connection, &reply);
    }

    pub(super) fn tell(&mut self, connection: u64, reply: &FromSigner) {
        let Some(front) = self.fronts.get(&connection) else {
            return;
        };
        if let Err(e) = front.channel.send(reply) {
            log::warning(&format!("connection {connection}: front: {e}: closed"));
            self.lose_front(connection);
        }
    }

    /// What no front of ours does: it gets no second try.
    pub(super) fn misbehaved(&mut self, connection: u64, what: &str) {
        log::warning(&format!("connection {connection}: front {what}: refused and closed"));
        self.tell(connection, &FromSigner::Refused { message: "The CA refuses this request.".to_owned() });
        self.lose_front(connection);
    }

    fn lose_front(&mut self, connection: u64) {
        self.end_front(connection, LOST);
    }

    /// Forgets a front, its workers and statements; what was issued and not confirmed is noted as such.
    pub(super) fn end_front(&mut self, connection: u64, why: &str) {
        let Some(front) = self.fronts.remove(&connection) else {
            return;
        };
        self.workers.retain(|(of, _), _| *of != connection);
        for serial in front.open {
            self.turn.note(None, serial, Outcome::Undelivered(why.to_owned()));
        }
    }
}
