//! Keyboard-interactive (RFC 4256) on one side, the PAM worker's conversation on the other; and the looking up of accounts for those who come in otherwise.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use ussh_core::escape::MAX_FIELD;
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::channel::ChannelError;
use usshca_ipc::front::{FromSupervisor, ToSupervisor};
use usshca_ipc::worker::{FromWorker, Message, ToWorker};
use zeroize::Zeroizing;

use crate::channel::Channel;
use crate::say;
use crate::text;
use crate::transport::Hangup;
use crate::words;

/// How long text without a prompt waits for what comes next, so that both cost the user one round trip and not two.
const GATHER: Duration = Duration::from_millis(30);
/// Most text that is gathered, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Longest answer, in bytes (PAM_MAX_RESP_SIZE).
const MAX_ANSWER: usize = 511;
/// Accounts that are looked up in one connection (the supervisor has the same limit).
const MAX_LOOKUPS: u32 = 4;
/// Longest user name, in bytes.
const MAX_USER: usize = 256;

type Worker = Channel<ToWorker, FromWorker>;

/// What was typed at a prompt: a password, likely. Wiped on drop.
pub type Answer = Zeroizing<Vec<u8>>;

/// What the client is told next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// An INFO_REQUEST: this text, these prompts (true: echoed).
    Ask {
        /// May be empty.
        text: String,
        /// May be empty: the client answers with nothing, by itself.
        prompts: Vec<(String, bool)>,
    },
    /// Logged in.
    Accept,
    /// Not logged in.
    Reject {
        /// Whether the client is told that another attempt may follow.
        again: bool,
    },
}

/// The client has gone.
#[derive(Debug)]
pub struct Gone;

/// Who passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The attempt that passed.
    pub attempt: u32,
    /// Canonical account name, for the user's eyes.
    pub user: String,
    /// What PAM said at the end and was not shown yet.
    pub text: String,
    /// Whether it was PAM that let them in.
    pub pam: bool,
    /// Wire form of the registered key with which they logged in, if they did.
    pub key: Option<Vec<u8>>,
}

/// An account that may log in now. Nobody is authenticated by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The attempt in which it was looked up.
    pub attempt: u32,
    /// Canonical account name.
    pub user: String,
    /// What PAM's account modules said.
    pub text: String,
}

/// The login of one connection: at most one user, one attempt at a time.
pub struct Login {
    supervisor: Channel<ToSupervisor, FromSupervisor>,
    hangup: Hangup,
    max_attempts: u32,
    /// When nothing more is waited for, so that the client can still be told.
    deadline: Instant,
    attempts: u32,
    lookups: u32,
    user: Option<String>,
    /// A name that no account has, of which the signer was not told.
    impossible: Option<String>,
    /// A registered key that was right and not enough.
    key: Option<Vec<u8>>,
    /// Text that comes before anything else: it did not fit into one instruction.
    to_show: VecDeque<String>,
    state: State,
}

enum State {
    /// No attempt is under way.
    Idle,
    /// The worker waits for so many answers.
    Prompted { worker: Worker, attempt: u32, prompts: usize },
    /// Text was shown, and the worker goes on meanwhile.
    Shown { worker: Worker, attempt: u32 },
    /// The last words of an attempt were shown.
    Rejected { again: bool },
    /// Passed: nothing of this comes again.
    Passed(Passed),
    /// Nothing is accepted any more.
    Over,
}

impl Login {
    /// Before the first request.
    pub fn new(
        supervisor: Channel<ToSupervisor, FromSupervisor>,
        hangup: Hangup,
        max_attempts: u32,
        deadline: Instant,
    ) -> Self {
        let (attempts, lookups, user, impossible, key) = (0, 0, None, None, None);
        let (to_show, state) = (VecDeque::new(), State::Idle);
        Login { supervisor, hangup, max_attempts, deadline, attempts, lookups, user, impossible, key, to_show, state }
    }

    /// Who passed, if anybody did.
    pub fn passed(&self) -> Option<&Passed> {
        match &self.state {
            State::Passed(passed) => Some(passed),
            State::Idle | State::Prompted { .. } | State::Shown { .. } | State::Rejected { .. } | State::Over => None,
        }
    }

    /// Whether nobody has tried to log in yet.
    pub fn is_untouched(&self) -> bool {
        self.user.is_none() && matches!(self.state, State::Idle)
    }

    /// A name that no account has, once, as far as it goes into a row.
    pub fn take_impossible(&mut self) -> Option<String> {
        self.impossible.take()
    }

    /// Whether this user may be asked about in this connection.
    pub fn takes(&mut self, user: &str) -> bool {
        !matches!(self.state, State::Passed(_) | State::Over) && self.is_the_user(user)
    }

    /// Has a worker look the account up; `None`: there is none, it may not log in now, or that could not be found out.
    /// # Errors
    /// [`Gone`]
    pub async fn look_up(&mut self, user: &str) -> Result<Option<Found>, Gone> {
        if !self.takes(user) || self.lookups >= MAX_LOOKUPS {
            return Ok(None);
        }
        self.state = State::Idle;
        self.lookups += 1;
        let asked = self.supervisor.send(&ToSupervisor::StartLookup { user: user.to_owned() }).await;
        let answer = match asked {
            Ok(()) => self.unless_gone(self.supervisor.receive()).await?,
            Err(e) => Err(e),
        };
        let (worker, attempt) = match answer.map(|(message, descriptors)| (message, open(descriptors))) {
            Ok((FromSupervisor::Worker { attempt }, Ok(worker))) => (worker, attempt),
            Ok((FromSupervisor::Refused { message }, _)) => return Ok(not_looked_up(&message)),
            Ok((FromSupervisor::Worker { .. }, Err(e))) | Err(e) => return Ok(not_looked_up(&e.to_string())),
        };
        let mut text = String::new();
        loop {
            match self.unless_gone(worker.receive()).await?.map(|(message, _)| message) {
                // A module that asks something cannot be answered here: the client waits for no question.
                Ok(FromWorker::Converse(messages)) => {
                    if !sort(messages, &mut text).is_empty() || text.len() > MAX_TEXT {
                        return Ok(not_looked_up("PAM's account modules want to talk"));
                    }
                }
                Ok(FromWorker::Passed { user }) => return Ok(Some(Found { attempt, user, text })),
                Ok(FromWorker::Failed { .. }) => return Ok(None),
                Err(e) => return Ok(not_looked_up(&format!("PAM worker: {e}"))),
            }
        }
    }

    /// Lets in whoever was looked up: by a key, or by nothing.
    pub fn accept(&mut self, found: Found, key: Option<Vec<u8>>) {
        let Found { attempt, user, text } = found;
        self.state = State::Passed(Passed { attempt, user, text, pam: false, key });
    }

    /// Remembers a registered key: PAM is to follow.
    pub fn claim(&mut self, key: Vec<u8>) {
        self.key = Some(key);
    }

    /// A new request for this user. An attempt under way is given up.
    /// # Errors
    /// [`Gone`]
    pub async fn begin(&mut self, user: &str) -> Result<Step, Gone> {
        if matches!(self.state, State::Passed(_) | State::Over)
            || !self.is_the_user(user)
            || self.attempts >= self.max_attempts
        {
            return Ok(self.give_up());
        }
        self.state = State::Idle;
        self.to_show.clear();
        self.attempts += 1;
        let asked = self.supervisor.send(&ToSupervisor::StartWorker { user: user.to_owned() }).await;
        let answer = match asked {
            Ok(()) => self.unless_gone(self.supervisor.receive()).await?,
            Err(e) => Err(e),
        };
        match answer {
            Ok((FromSupervisor::Worker { attempt }, descriptors)) => match open(descriptors) {
                Ok(worker) => self.follow(worker, attempt).await,
                Err(e) => Ok(self.unavailable(text::UNAVAILABLE, String::new(), &e.to_string())),
            },
            Ok((FromSupervisor::Refused { message }, _)) => Ok(self.unavailable(&message, String::new(), "refused")),
            Err(e) => Ok(self.unavailable(text::UNAVAILABLE, String::new(), &e.to_string())),
        }
    }

    /// The client's answers to the last [`Step::Ask`].
    /// # Errors
    /// [`Gone`]
    pub async fn answer(&mut self, answers: Vec<Answer>) -> Result<Step, Gone> {
        if answers.is_empty()
            && let Some(text) = self.to_show.pop_front()
        {
            return Ok(Step::Ask { text, prompts: Vec::new() });
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Prompted { worker, attempt, prompts } => match checked(&answers, prompts) {
                Some(answers) => match worker.send(&answers).await {
                    Ok(()) => self.follow(worker, attempt).await,
                    Err(e) => Ok(self.unavailable(text::UNAVAILABLE, String::new(), &e.to_string())),
                },
                None => {
                    say("the client's answers do not fit the prompts");
                    Ok(Step::Reject { again: true })
                }
            },
            State::Shown { worker, attempt } if answers.is_empty() => self.follow(worker, attempt).await,
            State::Rejected { again } => Ok(Step::Reject { again }),
            State::Shown { .. } | State::Idle | State::Passed(_) | State::Over => Ok(self.give_up()),
        }
    }

    /// Goes along with the worker up to the next thing that the client must be told.
    async fn follow(&mut self, worker: Worker, attempt: u32) -> Result<Step, Gone> {
        let mut text = String::new();
        loop {
            let received = if text.is_empty() {
                tokio::select! {
                    received = self.unless_gone(worker.receive()) => received?,
                    () = sleep_until(self.deadline) => {
                        return Ok(self.unavailable(text::TOO_LONG, text, "the PAM worker takes too long"));
                    }
                }
            } else {
                match timeout(GATHER, worker.receive()).await {
                    Ok(received) => received,
                    Err(_) => {
                        self.state = State::Shown { worker, attempt };
                        return Ok(self.show(&text));
                    }
                }
            };
            match received.map(|(message, _)| message) {
                Ok(FromWorker::Converse(messages)) => {
                    let mut prompts = sort(messages, &mut text);
                    if text.len() > MAX_TEXT {
                        return Ok(self.unavailable(text::UNAVAILABLE, String::new(), "PAM has too much to say"));
                    }
                    if !prompts.is_empty() {
                        self.state = State::Prompted { worker, attempt, prompts: prompts.len() };
                        // As part of the prompt: an instruction goes another way through the client, and may be seen after the question that it explains, or never (LogLevel).
                        if let Some((first, _)) = prompts.first_mut()
                            && !text.is_empty()
                        {
                            add_line(&mut text, first);
                            *first = text;
                        }
                        return Ok(Step::Ask { text: String::new(), prompts });
                    }
                }
                Ok(FromWorker::Passed { user }) => {
                    self.state = State::Passed(Passed { attempt, user, text, pam: true, key: self.key.take() });
                    return Ok(Step::Accept);
                }
                Ok(FromWorker::Failed { unavailable: true }) => {
                    return Ok(self.unavailable(text::UNAVAILABLE, text, "the PAM worker could not check"));
                }
                Ok(FromWorker::Failed { unavailable: false }) => {
                    // The last attempt too: a client that counts for itself then says what it always says.
                    if text.is_empty() {
                        return Ok(Step::Reject { again: true });
                    }
                    self.state = State::Rejected { again: true };
                    return Ok(self.show(&text));
                }
                Err(e) => return Ok(self.unavailable(text::UNAVAILABLE, text, &format!("PAM worker: {e}"))),
            }
        }
    }

    async fn unless_gone<T>(&self, future: impl Future<Output = T>) -> Result<T, Gone> {
        tokio::select! {
            biased;
            value = future => Ok(value),
            () = self.hangup.happened() => Err(Gone),
        }
    }

    /// One user in a connection: whoever wants to be another connects anew.
    fn is_the_user(&mut self, user: &str) -> bool {
        if user.is_empty() || user.len() > MAX_USER || user.chars().any(char::is_control) {
            self.impossible = Some(beginning(user));
            return false;
        }
        match &self.user {
            Some(first) if first != user => {
                say(&format!("the user was changed to {}", of_one_line(user)));
                false
            }
            Some(_) => true,
            None => {
                self.user = Some(user.to_owned());
                true
            }
        }
    }

    fn give_up(&mut self) -> Step {
        self.state = State::Over;
        Step::Reject { again: false }
    }

    /// A true sentence, and no further attempt: it would only fail the same way.
    fn unavailable(&mut self, sentence: &str, mut text: String, why: &str) -> Step {
        say(&format!("login unavailable: {why}"));
        add_line(&mut text, sentence);
        self.state = State::Rejected { again: false };
        self.show(&text)
    }

    /// Text alone, in as many rounds as it takes: the client answers each by itself.
    fn show(&mut self, text: &str) -> Step {
        self.to_show = words::instructions(text).into();
        Step::Ask { text: self.to_show.pop_front().unwrap_or_default(), prompts: Vec::new() }
    }
}

/// As much of a name as any account could have.
fn beginning(user: &str) -> String {
    user.get(..user.floor_char_boundary(MAX_USER)).unwrap_or_default().to_owned()
}

/// As typed, since the supervisor escapes what a front says; but a line feed would begin another line there, so that it becomes a SUB (`\x1a`).
fn of_one_line(user: &str) -> String {
    user.chars().take(MAX_FIELD).map(|c| if c == '\n' { '\u{1a}' } else { c }).collect()
}

/// The client is told no more than of a key that is unknown.
fn not_looked_up(why: &str) -> Option<Found> {
    say(&format!("the account was not looked up: {why}"));
    None
}

fn open(descriptors: Vec<OwnedFd>) -> Result<Worker, ChannelError> {
    let mut descriptors = descriptors.into_iter();
    match (descriptors.next(), descriptors.next()) {
        (Some(descriptor), None) => Ok(Channel::new(SeqPacket::from_fd(descriptor)?)?),
        _ => Err(ChannelError::Malformed),
    }
}

/// One answer per prompt, each of them text that PAM can take.
fn checked(answers: &[Answer], prompts: usize) -> Option<ToWorker> {
    if answers.len() != prompts {
        return None;
    }
    let mut checked = ToWorker { answers: Vec::with_capacity(prompts) };
    for answer in answers {
        let answer = std::str::from_utf8(answer).ok()?;
        if answer.len() > MAX_ANSWER || answer.contains('\0') {
            return None;
        }
        checked.answers.push(answer.to_owned());
    }
    Some(checked)
}

/// Appends text to `text`, gives the prompts. (A conv() call that mixes them is shown text first, as INFO_REQUEST has it.)
fn sort(messages: Vec<Message>, text: &mut String) -> Vec<(String, bool)> {
    let mut prompts = Vec::new();
    for message in messages {
        match message {
            Message::PromptEchoOff(prompt) => prompts.push((words::harmless(&prompt), false)),
            Message::PromptEchoOn(prompt) => prompts.push((words::harmless(&prompt), true)),
            Message::Info(line) | Message::Error(line) => add_line(text, &words::harmless(&line)),
        }
    }
    prompts
}

fn add_line(text: &mut String, line: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
