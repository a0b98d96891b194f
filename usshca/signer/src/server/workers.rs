//! PAM workers: a worker's one statement lets its connection's front ask for one certificate. What a worker only looked up proves nothing yet: see `proofs`.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use ussh_os::agent_socket::Peer;
use ussh_os::seqpacket::SeqPacket;
use ussh_os::syslog::Severity;
use usshca_ipc::channel::{Channel, ChannelError};
use usshca_ipc::worker::{Spoken, Statement, StatementReply};

use super::fronts::Kept;
use super::refused_logins::{Reason, Refusal, Tried};
use super::{Flow, Heard, Server, hear};
use crate::ca::Passed;
use crate::log;
use crate::policy::{MAX_NAME, Proofs};

/// Most groups in a statement.
const MAX_GROUPS: usize = 4096;

/// What a worker's statement says besides that there is such an account and that it may log in now. It is the supervisor's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// That its user has passed PAM in full.
    Authenticates,
    /// Nothing.
    LooksUp,
}

/// What the supervisor says of a worker.
pub struct Announced {
    /// Its pid.
    pub pid: i32,
    /// What its statement is worth.
    pub trust: Trust,
    /// As typed.
    pub user: String,
    /// Seconds.
    pub patience: u64,
}

/// One attempt's PAM worker, which has not spoken yet.
pub struct Worker {
    channel: Channel<StatementReply, Spoken>,
    pub(super) announced: Announced,
    pub(super) since: Instant,
}

impl Worker {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.socket().as_fd()
    }
}

impl Server {
    pub(super) fn add_worker(&mut self, key: (u64, u32), announced: Announced, socket: SeqPacket) {
        let ((connection, attempt), pid) = (key, announced.pid);
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
        self.workers.insert(key, Worker { channel: Channel::new(socket), announced, since: Instant::now() });
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
            Heard::Message(Spoken::Passed(statement), sender) => {
                let reply = self.judge(key, &worker, statement, sender);
                if reply == StatementReply::Rejected {
                    self.refuse_attempt(connection, &worker, Reason::NotTaken);
                }
                // A worker that is gone has told its front nothing.
                if worker.channel.send(&reply).is_err()
                    && let Some(front) = self.fronts.get_mut(&connection)
                {
                    front.statements.remove(&attempt);
                }
            }
            Heard::Message(Spoken::Refused(why), sender) => {
                let reason = if self.is_of(&worker, sender) { Reason::Pam(why) } else { Reason::NotTaken };
                self.refuse_attempt(connection, &worker, reason);
            }
            Heard::Nothing | Heard::Gone(ChannelError::Closed) => {
                self.refuse_attempt(connection, &worker, Reason::BrokeDown);
            }
            Heard::Gone(e) => {
                log::warning(&format!("connection {connection}: worker of attempt {attempt}: {e}"));
                self.refuse_attempt(connection, &worker, Reason::BrokeDown);
            }
        }
        Flow::Continue
    }

    /// Whether the kernel names the worker that the supervisor announced.
    fn is_of(&self, worker: &Worker, sender: Option<Peer>) -> bool {
        sender.map(|s| (s.pid, s.uid)) == Some((worker.announced.pid, self.worker_uid))
    }

    /// An attempt in which nobody passed.
    fn refuse_attempt(&mut self, connection: u64, worker: &Worker, reason: Reason) {
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        let peer = front.peer.ip();
        let offered = front.offered.as_ref().filter(|offered| offered.registered);
        // Every client begins with nothing where a rule takes that, and then goes on: to change a password that has expired, say.
        if let (Trust::LooksUp, None, Reason::Pam(why)) = (worker.announced.trust, offered, reason) {
            front.at_first = Some((worker.announced.user.clone(), why));
            return;
        }
        front.refused = true;
        let (tried, key) = match (worker.announced.trust, offered) {
            (Trust::Authenticates, _) => (Tried::Pam, String::new()),
            (Trust::LooksUp, Some(offered)) => (Tried::Publickey, offered.fingerprint.clone()),
            (Trust::LooksUp, None) => (Tried::Nothing, String::new()),
        };
        let refusal = Refusal { user: &worker.announced.user, proved: "none", tried, key: &key, reason, typed: b"" };
        self.refuse_login(connection, peer, &refusal);
    }

    fn judge(
        &mut self,
        key: (u64, u32),
        worker: &Worker,
        statement: Statement,
        sender: Option<Peer>,
    ) -> StatementReply {
        let (connection, attempt) = key;
        let (pid, trust) = (worker.announced.pid, worker.announced.trust);
        let now = self.ca.now();
        if !self.is_of(worker, sender) {
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
        let (what, event) = match trust {
            Trust::Authenticates => ("passed PAM", "passed_pam"),
            Trust::LooksUp => ("was looked up", "looked_up"),
        };
        let (user, peer) = (&statement.user, front.peer.to_string());
        let line =
            format!("connection {connection} from {peer}: {user} (uid {}) {what} in attempt {attempt}", statement.uid);
        let (number, attempt_number, uid) = (connection.to_string(), attempt.to_string(), statement.uid.to_string());
        let fields = [
            ("event", event),
            ("connection", &*number),
            ("attempt", &*attempt_number),
            ("peer", &*peer),
            ("user", user),
            ("uid", &*uid),
        ];
        log::event(Severity::Info, &line, &fields);
        let proofs = Proofs { pam: trust == Trust::Authenticates, publickey: false };
        let passed = Passed { user: statement.user, groups: statement.groups, proofs, key: None, login_time: now };
        let stated = Instant::now();
        front.statements.insert(attempt, Kept { passed, since: stated, stated, by_key: false, possessed: None });
        self.tell_if_enough(connection, attempt);
        StatementReply::Kept
    }
}
