//! A look at a session's own forwarded agent: does it hold a newer good certificate of the session's lineage, and the key to it?
//!
//! Process: worker threads of the daemon, few, each with one look at a time and one deadline for all of it; the answer comes over a channel and an eventfd, so
//! that the daemon waits for nobody. They stand ready from its start on: whoever takes every process number of the host keeps no look from being made.
//! Privilege: root, but the connect is made with the identity of the process that holds the listener (`ussh_os::agent_socket`).
//! Untrusted: everything at the other end. An agent that hangs counts as one that has nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use ussh_core::agent::{Agent, AgentError};
use ussh_core::certificate::Certificate;
use ussh_core::challenge::ChallengeContext;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::decision::{Accepted, Asking, DecisionError, Patience, Reconnect, decide};
use ussh_os::agent_socket::connect_as_or_here;
use ussh_os::process_tree::HeldProcess;
use ussh_os::sshd_connection::{Listener, NotCarried, carrier_of, listeners};
use ussh_os::unix_diag::inode_of;

use crate::spool::ConnectionId;
use crate::terms::LoginTerms;
use crate::trust::Trust;

/// Most looks at one time, and most of them at one user's agents: one user's hanging agents never stop the looks at others'.
const MAX_LOOKS: usize = 32;
const MAX_LOOKS_PER_UID: usize = 4;
/// Of them all, those that a user's second look may not take: they are kept for users at whose agents none is made.
const KEPT_FOR_FIRST: usize = MAX_LOOKS / 2;
/// And most for sessions that are past their end, which may be many, for as long as they like.
const MAX_LOOKS_PAST_END: usize = MAX_LOOKS / 2;
/// Most sockets of one connection that are asked (the user's own forwards are among them).
const MAX_LISTENERS: usize = 8;
/// Least part of the time that one socket gets.
const LEAST_SHARE: Duration = Duration::from_millis(200);
/// Stack of a worker, bytes: parsing is not recursive.
const STACK: usize = 512 * 1024;

/// What is asked for.
#[derive(Debug)]
pub struct Look {
    /// Whose connection.
    pub id: ConnectionId,
    /// Its user.
    pub uid: u32,
    /// The session's end; `None`: that is past, and it stands still or is let go on.
    pub needed_by: Option<Instant>,
    /// The certificate it lives by.
    pub current: Certificate,
    /// What a newer one must still allow.
    pub terms: LoginTerms,
    /// To judge by.
    pub trust: Arc<Trust>,
    /// For the challenge; its time is set when it is made.
    pub context: ChallengeContext,
    /// For all of the look.
    pub timeout: Duration,
}

/// Why a session was not renewed; for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRenewed {
    /// The connection has no listening socket of the user's.
    #[error("no forwarded agent")]
    NoAgent,
    /// None of the sockets led to an answer.
    #[error("no answer from the agent: {0}")]
    NoAnswer(String),
    /// It holds nothing of the lineage that ends later.
    #[error("the agent holds no newer certificate")]
    NothingNewer,
    /// It holds some, and they did not pass.
    #[error("newer certificate not accepted: {0}")]
    NotAccepted(String),
    /// The look could not be made.
    #[error("no look could be made: {0}")]
    Failed(String),
}

/// A look's answer.
pub type Answer = Result<Box<Accepted>, NotRenewed>;

/// What a look takes up while it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    uid: u32,
    is_past_end: bool,
}

/// Those that are taken up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Running {
    by_uid: BTreeMap<u32, usize>,
    past_end: usize,
}

impl Running {
    fn all(&self) -> usize {
        self.by_uid.values().sum()
    }

    fn of(&self, uid: u32) -> usize {
        self.by_uid.get(&uid).copied().unwrap_or_default()
    }

    fn has_room_for(&self, place: Place) -> bool {
        let (of_user, all) = (self.of(place.uid), self.all());
        let most = if of_user == 0 { MAX_LOOKS } else { MAX_LOOKS - KEPT_FOR_FIRST };
        all < most && of_user < MAX_LOOKS_PER_UID && (!place.is_past_end || self.past_end < MAX_LOOKS_PAST_END)
    }

    fn take(&mut self, place: Place) {
        *self.by_uid.entry(place.uid).or_default() += 1;
        self.past_end += usize::from(place.is_past_end);
    }

    fn leave(&mut self, place: Place) {
        if let Some(n) = self.by_uid.get_mut(&place.uid) {
            *n = n.saturating_sub(1);
        }
        self.by_uid.retain(|_, n| *n > 0);
        self.past_end = self.past_end.saturating_sub(usize::from(place.is_past_end));
    }
}

/// Who makes them, and who waits for it.
#[derive(Debug)]
pub struct Lookers {
    /// In the order in which they came.
    waiting: Vec<Look>,
    running: Running,
    workers: Workers,
    send: Sender<(ConnectionId, Place, Answer)>,
    receive: Receiver<(ConnectionId, Place, Answer)>,
    bell: Arc<EventFd>,
}

impl Lookers {
    /// None at work.
    /// # Errors
    /// No eventfd could be had.
    pub fn new() -> std::io::Result<Self> {
        let (send, receive) = channel();
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        Ok(Lookers { waiting: Vec::new(), running: Running::default(), workers: Workers::new(), send, receive, bell })
    }

    /// To poll on: readable when answers have come.
    pub fn bell(&self) -> &EventFd {
        &self.bell
    }

    /// Begins a look, or puts it in the queue. Each is answered exactly once, unless it is forgotten.
    pub fn begin(&mut self, look: Look) {
        self.waiting.push(look);
        self.start_waiting();
    }

    /// Drops a connection's look that has not been started: it is not answered, and others' come to their turn.
    pub fn forget(&mut self, id: ConnectionId) {
        self.waiting.retain(|look| look.id != id);
    }

    /// Takes the answers that have come.
    pub fn answers(&mut self) -> Vec<(ConnectionId, Answer)> {
        // EAGAIN: nothing has come; the channel is looked at all the same.
        let _ = self.bell.read();
        let mut answers = Vec::new();
        while let Ok((id, place, answer)) = self.receive.try_recv() {
            self.running.leave(place);
            answers.push((id, answer));
        }
        self.start_waiting();
        answers
    }

    fn start_waiting(&mut self) {
        while let Some(position) = self.next() {
            let look = self.waiting.remove(position);
            self.start(look);
        }
    }

    /// Whose turn it is: sessions before their end come before those past it, then users with fewer looks under way, then the nearest end. `None`: there is no place for any.
    fn next(&self) -> Option<usize> {
        let turn = |look: &Look| (look.needed_by.is_none(), self.running.of(look.uid), look.needed_by);
        let may = self.waiting.iter().enumerate().filter(|(_, look)| self.running.has_room_for(look.place()));
        may.min_by_key(|(_, look)| turn(look)).map(|(position, _)| position)
    }

    fn start(&mut self, look: Look) {
        let place = look.place();
        self.running.take(place);
        let reply = Reply { to: self.send.clone(), bell: Arc::clone(&self.bell), id: look.id, place, answer: None };
        self.workers.make(look, reply);
    }
}

type Job = (Look, Reply);

/// Threads that make looks for as long as the daemon runs.
#[derive(Debug)]
struct Workers {
    jobs: Sender<Job>,
    queue: Arc<Mutex<Receiver<Job>>>,
    count: usize,
}

impl Workers {
    fn new() -> Self {
        let (jobs, queue) = channel();
        let mut workers = Workers { jobs, queue: Arc::new(Mutex::new(queue)), count: 0 };
        workers.fill_up();
        workers
    }

    /// To as many as there are looks at one time, as far as threads can be had.
    fn fill_up(&mut self) {
        while self.count < MAX_LOOKS {
            let queue = Arc::clone(&self.queue);
            let thread = std::thread::Builder::new().name("look".into()).stack_size(STACK);
            if thread.spawn(move || work(&queue)).is_err() {
                return;
            }
            self.count += 1;
        }
    }

    fn make(&mut self, look: Look, mut reply: Reply) {
        self.fill_up();
        if self.count == 0 {
            reply.answer = Some(Err(NotRenewed::Failed("no thread could be started".into())));
            return;
        }
        // The other end is held here.
        let _ = self.jobs.send((look, reply));
    }
}

/// Until the daemon is gone.
fn work(queue: &Mutex<Receiver<Job>>) {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok((look, mut reply)) = next() {
        // After one that panics the next look is made all the same.
        reply.answer = catch_unwind(AssertUnwindSafe(|| look.make())).ok();
    }
}

/// Sends the answer when it is dropped: also when the look panics or is not made.
#[derive(Debug)]
struct Reply {
    to: Sender<(ConnectionId, Place, Answer)>,
    bell: Arc<EventFd>,
    id: ConnectionId,
    place: Place,
    answer: Option<Answer>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        let answer = self.answer.take().unwrap_or_else(|| Err(NotRenewed::Failed("worker failed".into())));
        // The other end is only ever gone together with the daemon.
        let _ = self.to.send((self.id, self.place, answer));
        let _ = self.bell.write(1);
    }
}

impl Look {
    fn place(&self) -> Place {
        Place { uid: self.uid, is_past_end: self.needed_by.is_none() }
    }

    /// Asks each of the connection's sockets in turn, each within its share of the time.
    fn make(self) -> Answer {
        let deadline = Instant::now() + self.timeout;
        let mut candidates = listeners(self.id, self.uid);
        candidates.truncate(MAX_LISTENERS);
        let mut answer = NotRenewed::NoAgent;
        for (position, listener) in candidates.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let to_come = u32::try_from(candidates.len() - position).unwrap_or(u32::MAX);
            // The first is nearly always the agent: half of the time is its own.
            let share = if to_come == 1 { left } else { left / 2 };
            if share < LEAST_SHARE {
                break;
            }
            match self.ask(listener, share) {
                Ok(accepted) => return Ok(accepted),
                Err(e) => answer = telling(answer, e),
            }
        }
        Err(answer)
    }

    fn ask(&self, listener: &Listener, share: Duration) -> Answer {
        let deadline = Instant::now() + share;
        let mut agent = connect_to(self.id, listener, share).map_err(NotRenewed::NoAnswer)?;
        let reconnect = |patience| connect_to(self.id, listener, patience).map_err(AgentError::Io);
        let left = deadline.saturating_duration_since(Instant::now());
        self.ask_agent(&mut agent, &reconnect, left, &SystemClock)
    }

    /// All of it together takes at most `left`.
    fn ask_agent(&self, agent: &mut Agent, reconnect: &Reconnect<'_>, left: Duration, clock: &dyn Clock) -> Answer {
        let now = clock.now();
        let context = ChallengeContext { now, ..self.context.clone() };
        let demand = self.trust.demand(now);
        // One that allows less must not stand before one that will do; why it was passed over is worth a word.
        let lesser = RefCell::new(None);
        let newer = |c: &Certificate| {
            let newer = c.same_lineage(&self.current) && c.valid_before() > self.current.valid_before();
            newer && self.terms.allow(c).map_err(|reason| lesser.replace(Some(reason))).is_ok()
        };
        // A key that hangs leaves time for another.
        let patience = Patience { total: left / 2, touch: left / 2, overall: Some(left) };
        let asking = Asking { wanted: &newer, reconnect: Some(reconnect), ..Asking::new(&context, patience, clock) };
        match decide(agent, &demand, &asking) {
            Ok(accepted) => Ok(Box::new(accepted)),
            Err(DecisionError::Agent(e)) => Err(NotRenewed::NoAnswer(e.to_string())),
            Err(DecisionError::Random) => Err(NotRenewed::Failed("no random numbers".into())),
            Err(DecisionError::NoneAccepted(tried)) => {
                let tried = tried.first().map(|t| t.reason.to_string());
                let reason = tried.or_else(|| lesser.take().map(|reason| reason.to_string()));
                Err(reason.map_or(NotRenewed::NothingNewer, NotRenewed::NotAccepted))
            }
        }
    }
}

/// Connects to one of the connection's own sshd processes, and to no other that the user has put in its place.
fn connect_to(connection: ConnectionId, listener: &Listener, patience: Duration) -> Result<Agent, String> {
    let deadline = Instant::now() + patience;
    let identity = &listener.identity;
    let (stream, peer) = connect_as_or_here(identity.uid, identity.gid, &identity.groups, &listener.path, patience)
        .map_err(|e| e.to_string())?;
    let monitor = HeldProcess::open(connection).map_err(|e| cannot_hold(&e))?;
    let mine = inode_of(&stream).map_err(|e| format!("fstat: {e}"))?;
    match carrier_of(&monitor, peer, mine) {
        Ok(_) => Ok(Agent::new(stream, deadline.saturating_duration_since(Instant::now()))),
        Err(e @ (NotCarried::Ended | NotCarried::NotLookedAt(_) | NotCarried::Unavailable(_))) => Err(e.to_string()),
        Err(NotCarried::NotSeen | NotCarried::NotItsSshd(_) | NotCarried::NotHeld(_)) => {
            Err("another process listens at the agent's path".into())
        }
    }
}

/// That there is no descriptor left does not mean that it has ended.
fn cannot_hold(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        NotCarried::Ended.to_string()
    } else {
        format!("its sshd cannot be held: {error}")
    }
}

/// Of two reasons the one that says more.
fn telling(one: NotRenewed, other: NotRenewed) -> NotRenewed {
    let rank = |reason: &NotRenewed| match reason {
        NotRenewed::NoAgent => 0,
        NotRenewed::NoAnswer(_) => 1,
        NotRenewed::NothingNewer => 2,
        NotRenewed::Failed(_) => 3,
        NotRenewed::NotAccepted(_) => 4,
    };
    if rank(&other) > rank(&one) { other } else { one }
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
