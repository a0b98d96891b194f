//! The signer as the supervisor sees it: up, starting, hanging and killed, or down until a certain time. Its end ends nothing else.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::channel::ChannelError;
use usshca_ipc::signer::{Control, Counts, FromSignerControl, PolicyText, Started};

use crate::child::setup_file;
use crate::failure::{Exit, Failure};
use crate::log;
use crate::prepare::Base;
use crate::serve::liveness::{Due, Liveness};
use crate::signer_process::{self, START_PATIENCE, SignerProcess};

/// Wait before the first restart; doubled with each failure.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// How long the first one waits for another signer on this state to end.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait before a restart.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long a killed signer may take to be gone before that is logged again: one that waits for a disk outlives its SIGKILL.
const REAP_PATIENCE: Duration = Duration::from_secs(10);
/// Most messages of the signer's that are taken at a time: more than its socket holds.
const MAX_NEWS: usize = 1024;
/// What is logged of an inventory that takes no rows begins with it.
const INVENTORY: &str = "inventory: ";
/// A signer that was up for so long starts the count of failures anew.
const STEADY: Duration = Duration::from_secs(60);

/// The signer, or its absence.
pub struct Signer {
    state: State,
    /// The admin socket, which every signer in turn listens on.
    admin: OwnedFd,
    /// The last policy that a signer has taken: the next one starts with it, whatever the files say by then.
    policy: Vec<PolicyText>,
    /// Those that the present signer has not answered for yet, in order.
    offered: VecDeque<Vec<PolicyText>>,
    /// One for the next signer to judge, once it is up.
    waiting: Option<Vec<PolicyText>>,
    /// Which signer it is, from 1. A connection is known to one only.
    generation: u64,
    failures: u32,
    /// Connections on which somebody has logged in since [`Self::take_logged_in`].
    logged_in: Vec<u64>,
    /// Connections that got what is for everybody since [`Self::take_served`].
    served: Vec<u64>,
    /// What signers before this one have done.
    past: Counts,
    /// What this one has done, as far as it has said.
    present: Counts,
    /// It said that something was revoked or lifted.
    changed: bool,
    /// Why CA keys sign nothing.
    key_troubles: Vec<String>,
    /// Why nothing can be written to the inventory.
    inventory_trouble: Option<String>,
}

enum State {
    /// `over`: how it ended, if that is known and was not seen to yet.
    Up {
        process: SignerProcess,
        since: Instant,
        liveness: Liveness,
        over: Option<String>,
    },
    Starting {
        process: SignerProcess,
        deadline: Instant,
    },
    Killed {
        process: SignerProcess,
        remind: Instant,
    },
    Down {
        until: Instant,
    },
}

impl Signer {
    /// Starts the first one and waits until it is ready.
    pub fn start(base: &Base, admin: OwnedFd) -> Result<Self, Failure> {
        let policy = base.policy()?;
        let process = start_first_one(base, &admin, &policy)?;
        set_nonblocking(&process).map_err(|e| Failure::internal(e.to_string()))?;
        Ok(Signer::new(State::up(process, Instant::now()), admin, policy))
    }

    fn new(state: State, admin: OwnedFd, policy: Vec<PolicyText>) -> Self {
        Signer {
            state,
            admin,
            policy,
            offered: VecDeque::new(),
            waiting: None,
            generation: 1,
            failures: 0,
            logged_in: Vec::new(),
            served: Vec::new(),
            past: Counts::default(),
            present: Counts::default(),
            changed: false,
            key_troubles: Vec::new(),
            inventory_trouble: None,
        }
    }

    /// Which signer is up; `None`: none is.
    pub fn generation(&self) -> Option<u64> {
        matches!(self.state, State::Up { .. }).then_some(self.generation)
    }

    /// Whether something was revoked or lifted since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Tells it of a new front, worker or admin with its end of a channel; gives the signer's generation. `None`: it was not told.
    pub fn tell(&self, message: &Control, end: SeqPacket) -> Option<u64> {
        let State::Up { process, .. } = &self.state else {
            return None;
        };
        match process.control.send_with(message, &[end.as_fd()]) {
            Ok(()) => Some(self.generation),
            Err(e) => {
                // Also when it reads too slowly: then this one connection is refused.
                log::warning(&format!("signer: not told of a connection: {e}"));
                None
            }
        }
    }

    /// Connections on which somebody has logged in since the last call.
    pub fn take_logged_in(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.logged_in)
    }

    /// Connections that got what is for everybody.
    pub fn take_served(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.served)
    }

    /// What this signer and those before it have done, as of its last answer: some seconds ago at most.
    pub fn counts(&self) -> Counts {
        add(self.past, self.present)
    }

    /// Why CA keys sign nothing, as it last said.
    pub fn key_troubles(&self) -> &[String] {
        &self.key_troubles
    }

    /// Why nothing can be written to the inventory, as it last said.
    pub fn inventory_trouble(&self) -> Option<&str> {
        self.inventory_trouble.as_deref()
    }

    /// How often another one was started.
    pub fn restarts(&self) -> u64 {
        self.generation.saturating_sub(1)
    }

    /// The process, if there is one.
    pub fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Up { process, .. } | State::Starting { process, .. } | State::Killed { process, .. } => {
                Some(process.child.pid())
            }
            State::Down { .. } => None,
        }
    }

    /// `up`, `starting`, `killed` or `down`.
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Up { .. } => "up",
            State::Starting { .. } => "starting",
            State::Killed { .. } => "killed",
            State::Down { .. } => "down",
        }
    }

    /// Offers it another policy; what it says to that is logged. One that is down gets it when it starts, if it is good.
    pub fn offer(&mut self, policy: Vec<PolicyText>) {
        let State::Up { process, .. } = &self.state else {
            log::warning("policy: the signer is down; the new one is offered to it once it is up");
            self.waiting = Some(policy);
            return;
        };
        let sent = setup_file(&policy).map_err(ChannelError::Io);
        match sent.and_then(|file| process.control.send_with(&Control::NewPolicy, &[file.as_fd()])) {
            Ok(()) => self.offered.push_back(policy),
            Err(e) => log::warning(&format!("policy: the one before stays in force: {e}")),
        }
    }

    /// What to poll on: its control channel and its end.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match &self.state {
            State::Up { process, .. } | State::Starting { process, .. } => {
                vec![process.control.socket().as_fd(), process.child.as_fd()]
            }
            State::Killed { process, .. } => vec![process.child.as_fd()],
            State::Down { .. } => Vec::new(),
        }
    }

    /// When [`Self::advance`] has something to do even if nothing happens.
    pub fn next_instant(&self) -> Option<Instant> {
        match &self.state {
            State::Up { over: Some(_), since, .. } => Some(*since),
            State::Up { liveness, .. } => Some(liveness.next_instant()),
            State::Starting { deadline, .. } => Some(*deadline),
            State::Killed { remind, .. } => Some(*remind),
            State::Down { until } => Some(*until),
        }
    }

    /// Takes in all that it has said, within bounds: who has logged in, above all, which it says before their fronts hear of it. That it has
    /// ended is [`Self::advance`]'s to see to.
    pub fn hear(&mut self, now: Instant) {
        for _ in 0..MAX_NEWS {
            let State::Up { process, liveness, over: over @ None, .. } = &mut self.state else {
                return;
            };
            let answer = match process.control.receive(None) {
                Ok(received) => received.message,
                Err(ChannelError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                // It has closed its channel: once it is up it has nothing to say but answers.
                Err(e) => {
                    *over = Some(status(process).unwrap_or_else(|| e.to_string()));
                    return;
                }
            };
            let is_answer = match answer {
                FromSignerControl::Hears => liveness.answered(now),
                FromSignerControl::PolicyTaken => {
                    log::settled("policy: ");
                    self.offered.pop_front().map(|policy| self.policy = policy).is_some()
                }
                FromSignerControl::PolicyKept(why) => {
                    log::error(&format!("policy: the one before stays in force: {why}"));
                    self.offered.pop_front().is_some()
                }
                FromSignerControl::LoggedIn { connection } => {
                    self.logged_in.push(connection);
                    true
                }
                FromSignerControl::Served { connection } => {
                    self.served.push(connection);
                    true
                }
                FromSignerControl::Counts(counts) => {
                    self.present = counts;
                    true
                }
                FromSignerControl::KeyTroubles(troubles) => {
                    for over in self.key_troubles.iter().filter(|over| !troubles.contains(over)) {
                        log::settled(over);
                    }
                    for trouble in &troubles {
                        log::error(trouble);
                    }
                    if troubles.is_empty() {
                        log::info("all CA keys sign again");
                    }
                    self.key_troubles = troubles;
                    true
                }
                FromSignerControl::InventoryTrouble(trouble) => {
                    match &trouble {
                        Some(why) => log::error(&format!("{INVENTORY}nothing can be written: {why}")),
                        None => {
                            log::settled(INVENTORY);
                            log::info("inventory: rows are written again");
                        }
                    }
                    self.inventory_trouble = trouble;
                    true
                }
                FromSignerControl::Ready
                | FromSignerControl::Failed(_)
                | FromSignerControl::Busy(_)
                | FromSignerControl::PolicyName { .. }
                | FromSignerControl::PolicyWarning(_)
                | FromSignerControl::PolicyGood
                | FromSignerControl::Copied { .. }
                | FromSignerControl::Judged(_)
                | FromSignerControl::NeedsPassphrase { .. } => false,
                FromSignerControl::Changed => {
                    self.changed = true;
                    true
                }
            };
            if !is_answer {
                *over = Some("spoke out of turn".to_owned());
            }
        }
    }

    /// Looks at what has happened, and goes on from there.
    pub fn advance(&mut self, base: &Base, now: Instant) {
        self.hear(now);
        let next = match &mut self.state {
            State::Down { until } if now >= *until => self.restart(base, now),
            State::Down { .. } => return,
            State::Up { process, since, liveness, over } => {
                let how = over.take().or_else(|| status(process));
                let hangs = how.is_none() && !hears(process, liveness, now);
                if how.is_none() && !hangs {
                    return;
                }
                if now.duration_since(*since) >= STEADY {
                    self.failures = 0;
                }
                match how {
                    Some(how) => self.down(&how, now),
                    None => return self.kill("gives no answer", now),
                }
            }
            State::Killed { process, remind } => match process.child.try_wait() {
                Some(status) => self.down(&format!("ended ({status})"), now),
                None => {
                    if now >= *remind {
                        log::error("signer: was killed and has not ended; nobody gets a certificate until it has");
                        *remind = now + REAP_PATIENCE;
                    }
                    return;
                }
            },
            State::Starting { process, deadline } => match process.control.receive(None) {
                Ok(received) => match Started::from(received.message) {
                    Started::Ready => {
                        log::info("signer: up again");
                        self.up(now);
                        return;
                    }
                    Started::Failed(why) | Started::Busy(why) => self.down(&format!("cannot serve: {why}"), now),
                    Started::NeedsPassphrase { key, .. } => {
                        self.down(&format!("{key} is encrypted by another passphrase than at the start"), now)
                    }
                    Started::OutOfTurn => self.down("spoke out of turn", now),
                },
                Err(ChannelError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => match status(process) {
                    Some(how) => self.down(&how, now),
                    None if now >= *deadline => return self.kill("was not ready in time", now),
                    None => return,
                },
                Err(e) => self.down(&e.to_string(), now),
            },
        };
        self.state = next;
    }

    /// Lets it end.
    pub fn finish(self) {
        match self.state {
            State::Up { process, .. } | State::Starting { process, .. } | State::Killed { process, .. } => {
                process.finish();
            }
            State::Down { .. } => {}
        }
    }

    fn up(&mut self, now: Instant) {
        let down = State::Down { until: now };
        if let State::Starting { process, .. } = std::mem::replace(&mut self.state, down) {
            self.state = State::up(process, now);
        }
        if let Some(policy) = self.waiting.take() {
            self.offer(policy);
        }
    }

    /// It is waited for without blocking: what it hangs in may outlast SIGKILL. Until it is gone it holds the state folder, so that no other one could serve.
    fn kill(&mut self, why: &str, now: Instant) {
        log::error(&format!("signer: {why}: killed"));
        match std::mem::replace(&mut self.state, State::Down { until: now }) {
            State::Up { mut process, .. } | State::Starting { mut process, .. } => {
                process.child.kill();
                self.state = State::Killed { process, remind: now + REAP_PATIENCE };
            }
            state @ (State::Killed { .. } | State::Down { .. }) => self.state = state,
        }
    }

    fn restart(&mut self, base: &Base, now: Instant) -> State {
        self.generation += 1;
        self.past = self.counts();
        self.present = Counts::default();
        self.key_troubles.clear();
        self.inventory_trouble = None;
        // What the one before has not answered for, the next one is asked.
        if let Some(last) = std::mem::take(&mut self.offered).pop_back() {
            self.waiting.get_or_insert(last);
        }
        let started = self.admin.try_clone().map_err(|e| Failure::internal(e.to_string())).and_then(|listener| {
            let process = signer_process::start_serving(base, listener, self.policy.clone())?;
            set_nonblocking(&process).map_err(|e| Failure::internal(e.to_string()))?;
            Ok(process)
        });
        match started {
            Ok(process) => State::Starting { process, deadline: now + START_PATIENCE },
            Err(failure) => self.down(&failure.message, now),
        }
    }

    /// What was there is dropped by the caller, and with it killed.
    fn down(&mut self, how: &str, now: Instant) -> State {
        let wait = wait_after(self.failures);
        self.failures = self.failures.saturating_add(1);
        log::error(&format!(
            "signer: {how}; nobody gets a certificate until it is up again; starting it in {:.2} s",
            wait.as_secs_f32()
        ));
        State::Down { until: now + wait }
    }
}

/// A verb's own signer, at work on the state when the CA starts, is waited for: it has a second's work at most.
fn start_first_one(base: &Base, admin: &OwnedFd, policy: &[PolicyText]) -> Result<SignerProcess, Failure> {
    let end = Instant::now() + BUSY_PATIENCE;
    let mut is_told = false;
    loop {
        let started = signer_process::start_ready(|| {
            let listener = admin.try_clone().map_err(|e| Failure::internal(e.to_string()))?;
            signer_process::start_serving(base, listener, policy.to_vec())
        });
        match started {
            Err(failure) if failure.exit == Exit::Unavailable && Instant::now() < end => {
                if !std::mem::replace(&mut is_told, true) {
                    log::info("waiting for another signer that is at work on this state, as a verb's is for a moment");
                }
                // Its lock cannot be waited for from here: the state folder is the signer's.
                std::thread::sleep(FIRST_WAIT);
            }
            started => return started,
        }
    }
}

fn add(a: Counts, b: Counts) -> Counts {
    Counts {
        issued_user: a.issued_user.saturating_add(b.issued_user),
        issued_host: a.issued_host.saturating_add(b.issued_host),
        refused: a.refused.saturating_add(b.refused),
        last_issued: a.last_issued.max(b.last_issued),
    }
}

fn set_nonblocking(process: &SignerProcess) -> std::io::Result<()> {
    process.control.socket().set_nonblocking(true)
}

impl State {
    fn up(process: SignerProcess, now: Instant) -> Self {
        State::Up { process, since: now, liveness: Liveness::new(now), over: None }
    }
}

/// Asks it when that is due; false: it hangs.
fn hears(process: &SignerProcess, liveness: &mut Liveness, now: Instant) -> bool {
    match liveness.due(now) {
        Due::Nothing => {}
        Due::Kill => return false,
        Due::Ask => match process.control.send(&Control::Hears) {
            Ok(()) => liveness.asked(now),
            // Its queue is full, or it has gone, which shows next.
            Err(_) => liveness.not_asked(now),
        },
    }
    true
}

/// How it ended, if it did.
fn status(process: &mut SignerProcess) -> Option<String> {
    process.child.try_wait().map(|status| format!("ended ({status})"))
}

fn wait_after(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT)
}

#[cfg(test)]
#[path = "signer_tests.rs"]
pub(super) mod tests;
