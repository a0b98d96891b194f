//! The event loop: one thread, one message at a time, in the order of their weight (control, workers, fronts, administrators). What the fronts of one round ask goes to the
//! inventory together (`turn`).
//!
//! Trusted: the control channel. Everything else is held to what the supervisor said of it and to what the kernel says of its sender.

mod admins;
mod fronts;
mod hosts;
mod mine;
mod proofs;
mod refused_logins;
mod remote_admins;
mod turn;
mod workers;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use ussh_os::agent_socket::Peer;
use ussh_os::seqpacket::{SeqPacket, SeqPacketListener};
use usshca_ipc::channel::{Channel, ChannelError, decode};
use usshca_ipc::signer::{Control, FromSignerControl, PolicyText, SignerSetup};

use self::admins::Admin;
use self::fronts::Front;
use self::refused_logins::RefusedLogins;
use self::turn::Turn;
use self::workers::{Announced, Trust, Worker};
use crate::MAX_SETUP;
use crate::ca::Ca;
use crate::counts;
use crate::log;
use crate::policy::Policy;

/// Most control messages that are taken before others have their turn.
const MAX_NEWS: usize = 64;

/// After a turn that was of several, the next one is begun when all who were answered have gone on, or nobody has said anything for as long.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 150_000 };
/// Longest time for which a turn is put off.
const GATHERING: Duration = Duration::from_millis(2);
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The supervisor's channel.
pub type ControlChannel = Channel<FromSignerControl, Control>;

/// Why the signer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// poll failed.
    #[error("poll: {0}")]
    Poll(#[from] Errno),
    /// The supervisor cannot be understood.
    #[error("control {0}")]
    Control(#[from] ChannelError),
    /// A socket could not be set up.
    #[error("socket: {0}")]
    Socket(#[from] std::io::Error),
}

/// All that the signer serves.
pub struct Server {
    ca: Ca,
    control: ControlChannel,
    /// Who made the control channel.
    supervisor: Peer,
    worker_uid: u32,
    /// How long a statement is good for an issue.
    statement_life: Duration,
    /// How long a key may take to prove itself.
    challenge_life: Duration,
    admin_uids: Vec<u32>,
    listener: Option<SeqPacketListener>,
    /// By connection number.
    fronts: BTreeMap<u64, Front>,
    /// By connection and attempt.
    workers: BTreeMap<(u64, u32), Worker>,
    /// By a number of our own.
    admins: BTreeMap<u64, Admin>,
    next_admin: u64,
    turn: Turn,
    /// Of hosts, by source.
    refusals: hosts::Refusals,
    /// What the supervisor knows of keys that sign nothing.
    told_troubles: Vec<String>,
    /// What it knows of an inventory that takes no rows.
    told_inventory: Option<String>,
    /// The supervisor has asked whether it is heard, and there was no room for the answer.
    owes_hears: bool,
    /// Of users, until they are written.
    refused_logins: RefusedLogins,
}

/// Whom a descriptor in poll's list belongs to, in the order in which they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Control,
    Worker((u64, u32)),
    Front(u64),
    Listener,
    Admin(u64),
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

/// What a look at a channel gave.
enum Heard<T> {
    Message(T, Option<Peer>),
    /// Nothing there after all.
    Nothing,
    /// It ended, or broke.
    Gone(ChannelError),
}

impl Server {
    /// `control` must be attested already.
    /// # Errors
    /// [`ServeError`]
    pub fn new(
        ca: Ca,
        setup: &SignerSetup,
        control: ControlChannel,
        listener: Option<SeqPacketListener>,
    ) -> Result<Self, ServeError> {
        let supervisor = control.socket().peer()?;
        control.socket().set_nonblocking(true)?;
        Ok(Server {
            ca,
            control,
            supervisor,
            worker_uid: setup.worker_uid,
            statement_life: fronts::STATEMENT_LIFE,
            challenge_life: proofs::CHALLENGE_LIFE,
            admin_uids: setup.admin_uids.clone(),
            listener,
            fronts: BTreeMap::new(),
            workers: BTreeMap::new(),
            admins: BTreeMap::new(),
            next_admin: 0,
            turn: Turn::default(),
            refusals: hosts::Refusals::default(),
            told_troubles: Vec::new(),
            told_inventory: None,
            owes_hears: false,
            refused_logins: RefusedLogins::default(),
        })
    }

    /// Serves until the supervisor is gone.
    /// # Errors
    /// [`ServeError`]
    pub fn run(mut self) -> Result<(), ServeError> {
        let ended = self.serve();
        // What was reserved is signed and told.
        while !self.turn.is_empty() {
            self.take_turn();
        }
        let open: Vec<u64> = self.fronts.keys().copied().collect();
        for connection in open {
            self.end_front(connection, "the CA stopped before the delivery was confirmed");
        }
        self.take_turn();
        self.write_refused_logins();
        ended
    }

    fn serve(&mut self) -> Result<(), ServeError> {
        loop {
            let sources = self.wait(self.patience().as_ref())?;
            if self.serve_each(sources)? == Flow::Stop || self.gather()? == Flow::Stop {
                return Ok(());
            }
            self.take_turn();
            self.write_refused_logins_if_due();
        }
    }

    /// Lets those who were just answered go on before the next turn: what comes while the disk is waited for has missed it. One who is alone waits for nobody.
    fn gather(&mut self) -> Result<Flow, ServeError> {
        let start = Instant::now();
        while !self.turn.is_empty() && start.elapsed() < GATHERING {
            let quiet = if self.turn.awaits_somebody() { QUIET } else { AT_ONCE };
            let sources = self.wait(Some(&quiet))?;
            if sources.is_empty() {
                break;
            }
            if self.serve_each(sources)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Continue)
    }

    fn serve_each(&mut self, sources: Vec<Source>) -> Result<Flow, ServeError> {
        for source in sources {
            let flow = match source {
                Source::Control => self.on_control()?,
                Source::Worker(key) => self.on_worker(key),
                Source::Front(connection) => self.on_front(connection),
                Source::Listener => self.on_listener(),
                Source::Admin(id) => self.on_admin(id),
            };
            if flow == Flow::Stop {
                return Ok(Flow::Stop);
            }
            if self.ca.take_changed() {
                self.answer_control(&FromSignerControl::Changed)?;
            }
        }
        Ok(Flow::Continue)
    }

    /// How long there is nothing to do unless somebody says something. `None`: for ever.
    fn patience(&self) -> Option<Timespec> {
        if !self.turn.is_empty() {
            return Some(AT_ONCE);
        }
        // Rounded up, so that it is due when this returns.
        self.refused_logins.patience().map(|left| Timespec {
            tv_sec: left.as_secs().saturating_add(1).try_into().unwrap_or(i64::MAX),
            tv_nsec: 0,
        })
    }

    /// Waits until somebody has something to say (or can be told the rest of something).
    fn wait(&self, patience: Option<&Timespec>) -> Result<Vec<Source>, ServeError> {
        let mut sources = vec![Source::Control];
        let control = if self.owes_hears { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = vec![PollFd::new(self.control.socket(), control)];
        for (key, worker) in &self.workers {
            sources.push(Source::Worker(*key));
            fds.push(PollFd::from_borrowed_fd(worker.as_fd(), PollFlags::IN));
        }
        for (connection, front) in &self.fronts {
            sources.push(Source::Front(*connection));
            fds.push(PollFd::from_borrowed_fd(front.as_fd(), PollFlags::IN));
        }
        if let Some(listener) = self.listener.as_ref().filter(|_| self.has_room_for_admin()) {
            sources.push(Source::Listener);
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        for (id, admin) in &self.admins {
            sources.push(Source::Admin(*id));
            let waits_for = if admin.is_owed_nothing() { PollFlags::IN } else { PollFlags::OUT };
            fds.push(PollFd::from_borrowed_fd(admin.as_fd(), waits_for));
        }
        loop {
            match poll(&mut fds, patience) {
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
                Ok(_) => break,
            }
        }
        let ready = sources.into_iter().zip(fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(source, _)| source).collect())
    }

    /// All that is there, within bounds: what the supervisor announces one by one is to be asked for together.
    fn on_control(&mut self) -> Result<Flow, ServeError> {
        self.pay_hears()?;
        for _ in 0..MAX_NEWS {
            match self.take_news() {
                Ok(Flow::Continue) => {}
                Err(ServeError::Control(ChannelError::Io(e))) if e.kind() == ErrorKind::WouldBlock => break,
                other => return other,
            }
        }
        Ok(Flow::Continue)
    }

    fn take_news(&mut self) -> Result<Flow, ServeError> {
        let mut received = match self.control.receive(None) {
            Ok(received) => received,
            Err(ChannelError::Closed) => return Ok(Flow::Stop),
            // It has gone with something of ours unread.
            Err(ChannelError::Io(e)) if e.kind() == ErrorKind::ConnectionReset => return Ok(Flow::Stop),
            // This process has too many descriptors to take another one: that connection fails, and the next one may not.
            Err(ChannelError::Io(e)) if e.kind() == ErrorKind::InvalidData => {
                log::warning(&format!("a descriptor from the supervisor was lost: {e}"));
                return Ok(Flow::Continue);
            }
            Err(e) => return Err(e.into()),
        };
        let sender = received.sender.map(|s| (s.pid, s.uid));
        if sender != Some((self.supervisor.pid, self.supervisor.uid)) {
            log::warning(&format!("a control message from {sender:?}, who is not the supervisor: not taken"));
            return Ok(Flow::Continue);
        }
        if received.message == Control::Hears {
            self.answer_control(&FromSignerControl::Counts(counts::all()))?;
            let troubles = self.ca.key_troubles();
            if troubles != self.told_troubles {
                self.answer_control(&FromSignerControl::KeyTroubles(troubles.clone()))?;
                self.told_troubles = troubles;
            }
            let trouble = self.ca.inventory().trouble();
            if trouble != self.told_inventory {
                self.answer_control(&FromSignerControl::InventoryTrouble(trouble.clone()))?;
                self.told_inventory = trouble;
            }
            self.owes_hears = true;
            return self.pay_hears();
        }
        let (Some(fd), None) = (received.descriptors.pop(), received.descriptors.pop()) else {
            log::warning("a control message without exactly one descriptor: not taken");
            return Ok(Flow::Continue);
        };
        if received.message == Control::NewPolicy {
            return self.take_policy(fd);
        }
        let socket = SeqPacket::from_fd(fd)?;
        socket.set_nonblocking(true)?;
        match received.message {
            Control::NewFront { connection, peer } => self.add_front(connection, peer, socket),
            Control::NewWorker { connection, attempt, worker_pid, user, patience_seconds } => {
                let announced =
                    Announced { pid: worker_pid, trust: Trust::Authenticates, user, patience: patience_seconds };
                self.add_worker((connection, attempt), announced, socket);
            }
            Control::NewLookup { connection, attempt, worker_pid, user, patience_seconds } => {
                let announced = Announced { pid: worker_pid, trust: Trust::LooksUp, user, patience: patience_seconds };
                self.add_worker((connection, attempt), announced, socket);
            }
            Control::NewAdmin => self.add_admin(socket),
            // Answered above, or of a side job.
            Control::Hears | Control::NewPolicy | Control::Judge(_) => {}
        }
        Ok(Flow::Continue)
    }

    /// A policy that is no good changes nothing.
    fn take_policy(&mut self, file: OwnedFd) -> Result<Flow, ServeError> {
        let answer = match read_policy(file) {
            Ok((policy, files)) => {
                log::info(&format!("another policy is in force: {} rules of {files}", policy.rule_count()));
                self.ca.set_policy(policy);
                FromSignerControl::PolicyTaken
            }
            Err(why) => FromSignerControl::PolicyKept(why),
        };
        self.answer_control(&answer)
    }

    /// The supervisor holds connections that have not logged in to other limits. One that does not hear it holds this one to them for longer, and no more than that.
    pub(super) fn tell_logged_in(&mut self, connection: u64) {
        if let Err(e) = self.control.send(&FromSignerControl::LoggedIn { connection }) {
            log::warning(&format!("connection {connection}: the supervisor was not told of a login: {e}"));
        }
    }

    /// As [`Self::tell_logged_in`], of one that came for what is for everybody.
    pub(super) fn tell_served(&mut self, connection: u64) {
        if let Err(e) = self.control.send(&FromSignerControl::Served { connection }) {
            log::warning(&format!("connection {connection}: the supervisor was not told of it: {e}"));
        }
    }

    /// A supervisor that did not get it would take the signer for dead: it is said as soon as there is room.
    fn pay_hears(&mut self) -> Result<Flow, ServeError> {
        if !self.owes_hears {
            return Ok(Flow::Continue);
        }
        match self.control.send(&FromSignerControl::Hears) {
            Err(ChannelError::Io(e)) if e.kind() == ErrorKind::WouldBlock => Ok(Flow::Continue),
            // One that is gone: the channel says so.
            Ok(()) | Err(ChannelError::Io(_)) => {
                self.owes_hears = false;
                Ok(Flow::Continue)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn answer_control(&self, answer: &FromSignerControl) -> Result<Flow, ServeError> {
        match self.control.send(answer) {
            // A supervisor that does not read will ask again, or has gone: then the channel says so.
            Ok(()) | Err(ChannelError::Io(_)) => Ok(Flow::Continue),
            Err(e) => Err(e.into()),
        }
    }
}

/// With the names of its files, for people.
fn read_policy(file: OwnedFd) -> Result<(Policy, String), String> {
    let mut bytes = Vec::new();
    File::from(file).take(MAX_SETUP).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let files: Vec<PolicyText> = decode(&bytes).map_err(|e| e.to_string())?;
    let policy = Policy::of(&files).map_err(|e| e.to_string())?;
    let others = files.len().saturating_sub(1);
    let main = files.first().map_or("", |file| file.name.as_str());
    Ok((policy, if others == 0 { main.to_owned() } else { format!("{main} and {others} included files") }))
}

/// Takes one message off a channel that does not block.
fn hear<Out, In>(channel: &Channel<Out, In>) -> Heard<In>
where
    Out: serde::Serialize,
    In: serde::de::DeserializeOwned,
{
    match channel.receive(None) {
        Ok(received) => Heard::Message(received.message, received.sender),
        Err(ChannelError::Io(e)) if e.kind() == ErrorKind::WouldBlock => Heard::Nothing,
        Err(e) => Heard::Gone(e),
    }
}

#[cfg(test)]
mod tests;
