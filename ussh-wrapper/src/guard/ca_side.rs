//! What the CA may ask of the user's agent, and what it gets.

use std::time::{Duration, Instant};

use ussh_core::agent::{AgentError, Constraints, Identity, Request, Waiting, added_key, frame, parse_success};
use ussh_core::certificate::{Certificate, CertificateParseError};
use ussh_core::clock::{Clock, UnixTime};
use ussh_core::{login_proof, sshsig};

use super::host_side::FLAGS;
use super::lifetime::at_most;
use crate::certificates::{Judge, NotGood, readable_certificate};
use crate::files::{Files, FilesError};
use crate::keeper::{Keeper, is_copy};
use crate::login::Skew;
use crate::user_agent::{AgentProblem, PATIENCE, UserAgent};

/// Most requests that are looked at in one login; a CA needs a handful.
const MAX_REQUESTS: u32 = 256;
/// Most proofs of the user's own key in one login: a CA needs one. Each may take a person a touch.
const MAX_PROOFS: u32 = 3;
/// Most keys that one login may add.
const MAX_ADDED: usize = 16;
/// Longest comment that an added key may carry, in bytes: it is shown by `ssh-add -l`.
const MAX_COMMENT: usize = 1024;

/// The rules towards the CA, and what it has done so far in this login.
pub struct CaSide {
    keeper: Keeper,
    judge: Judge,
    clock: Box<dyn Clock>,
    added: Vec<Identity>,
    requests: u32,
    refused: u32,
    /// Of the user's own key, asked for.
    proofs: u32,
    last_not_added: Option<NotAdded>,
    skew: Option<Skew>,
}

/// Why a key was not added.
#[derive(Debug, thiserror::Error)]
pub enum NotAdded {
    /// More than a CA needs.
    #[error("more than {MAX_ADDED} keys in one login")]
    TooMany,
    /// The comment is too long, or not printable.
    #[error("its comment is too long or not printable")]
    Comment,
    /// What came with the key is no certificate.
    #[error("{0}")]
    Unreadable(#[from] CertificateParseError),
    /// The certificate is not one of our CA for this user, valid now.
    #[error("{0}")]
    NotGood(#[from] NotGood),
    /// The user's agent is gone.
    #[error("{0}")]
    NoAgent(#[from] AgentProblem),
    /// The user's agent would not take it.
    #[error("ssh-agent: {0}")]
    Agent(#[from] AgentError),
    /// It could not be written to files.
    #[error("{0}")]
    Files(#[from] FilesError),
    /// A key of a kind that cannot be written to files.
    #[error("a kind of key that is not kept in files")]
    KeyKind,
}

impl CaSide {
    /// In front of this agent, or these files, judging by this judge and clock.
    pub fn new(keeper: impl Into<Keeper>, judge: Judge, clock: Box<dyn Clock>) -> Self {
        CaSide {
            keeper: keeper.into(),
            judge,
            clock,
            added: Vec::new(),
            requests: 0,
            refused: 0,
            proofs: 0,
            last_not_added: None,
            skew: None,
        }
    }
    /// What the CA has added, and not removed again, in this login.
    pub fn added(&self) -> &[Identity] {
        &self.added
    }
    /// Why the last key that was offered and not taken was not taken.
    pub fn last_not_added(&self) -> Option<&NotAdded> {
        self.last_not_added.as_ref()
    }
    /// How far this machine's clock is from the CA's, by the last certificate that it offered.
    pub fn skew(&self) -> Option<Skew> {
        self.skew
    }
    /// Requests, and how many of them were refused.
    pub fn counts(&self) -> (u32, u32) {
        (self.requests, self.refused)
    }

    /// Answers one request; both are payloads' bytes, the answer as a whole frame.
    pub fn answer(&mut self, payload: &[u8]) -> Vec<u8> {
        self.answer_while(payload, &|| true)
    }
    /// The same; what takes a person's time ends when `is_wanted` says no.
    pub fn answer_while(&mut self, payload: &[u8], is_wanted: &dyn Fn() -> bool) -> Vec<u8> {
        self.requests = self.requests.saturating_add(1);
        let done = if self.requests > MAX_REQUESTS { None } else { self.carry_out(payload, is_wanted) };
        done.unwrap_or_else(|| {
            self.refused = self.refused.saturating_add(1);
            frame::failure()
        })
    }

    /// `None`: refused.
    fn carry_out(&mut self, payload: &[u8], is_wanted: &dyn Fn() -> bool) -> Option<Vec<u8>> {
        match (Request::parse(payload), &self.keeper) {
            // The key that is to be certified, and no other; it proves itself, and nothing else.
            (Request::List, Keeper::OwnKey(own)) => {
                Some(frame::identities(&[Identity { blob: own.key.blob().to_vec(), comment: b"client_key".to_vec() }]))
            }
            (Request::Sign { blob, data, flags }, Keeper::OwnKey(own))
                if blob == own.key.blob()
                    && is_login_proof(&data)
                    && FLAGS.contains(&flags)
                    && self.proofs < MAX_PROOFS =>
            {
                self.proofs += 1;
                let mut agent = own.agent.connect().ok()?;
                agent.set_deadline(Instant::now() + SIGN_PATIENCE);
                let signature = agent.sign_waiting(&blob, &data, flags, &While(is_wanted)).ok()?;
                Some(frame::signature(&signature))
            }
            (_, Keeper::OwnKey(_)) => None,
            (request, _) => self.carry_out_adds(request),
        }
    }

    fn carry_out_adds(&mut self, request: Request) -> Option<Vec<u8>> {
        match request {
            Request::List => Some(frame::identities(&self.added)),
            Request::AddCertificate { certificate_blob, comment, constraints, payload } => {
                match self.add(&certificate_blob, comment, &constraints, &payload) {
                    Ok(()) => Some(frame::success()),
                    Err(reason) => {
                        self.last_not_added = Some(reason);
                        None
                    }
                }
            }
            Request::Remove { blob } => self.remove(&blob),
            Request::Sign { .. } | Request::Challenge { .. } | Request::Other(_) => None,
        }
    }

    fn add(
        &mut self,
        blob: &[u8],
        comment: Vec<u8>,
        constraints: &Constraints,
        payload: &[u8],
    ) -> Result<(), NotAdded> {
        if self.added.len() >= MAX_ADDED {
            return Err(NotAdded::TooMany);
        }
        if comment.len() > MAX_COMMENT || !is_printable(&comment) {
            return Err(NotAdded::Comment);
        }
        let certificate = Certificate::parse(blob)?;
        let now = self.clock.now();
        if self.judge.names_our_ca(&certificate) {
            self.skew = Skew::of(&certificate, now);
        }
        let _verified = self.judge.verify(&certificate, now)?;

        match &self.keeper {
            Keeper::Agent(agent) => {
                let limited = at_most(seconds_left(&certificate, now), constraints, payload)
                    .ok_or(NotAdded::Agent(AgentError::Malformed))?;
                parse_success(&agent.connect()?.pass_on(&limited)?)?;
            }
            Keeper::Files(files) => {
                put(files, &certificate, &comment, constraints, payload)?;
                remove_copies(files);
            }
            // Nothing is added there.
            Keeper::OwnKey(_) => return Err(NotAdded::KeyKind),
        }
        self.added.retain(|identity| identity.blob != blob);
        self.added.push(Identity { blob: blob.to_vec(), comment });
        if let Keeper::Agent(agent) = &self.keeper {
            self.remove_older(agent, &certificate);
        }
        Ok(())
    }

    /// The CA cannot see the certificate that its new one replaces, so it is removed here: old ones would pile up and slow every login.
    /// A certificate of the user's own key, which the user added, is not one of these. An agent that will not let go of one is no reason to fail the login.
    fn remove_older(&self, agent: &UserAgent, new: &Certificate) {
        let Ok(mut agent) = agent.connect() else { return };
        let Ok(listed) = agent.list() else { return };
        let replaced = |old: &Certificate| {
            old.kind() == new.kind()
                && old.same_lineage(new)
                && old.valid_after() <= new.valid_after()
                && !self.added.iter().any(|kept| kept.blob == old.blob())
        };
        let injected = |identity: &Identity| readable_certificate(identity).filter(|old| identity.was_injected(old));
        for old in listed.iter().filter_map(injected).filter(replaced) {
            agent.set_deadline(Instant::now() + PATIENCE);
            if agent.remove(old.blob()).is_err() {
                return;
            }
        }
    }

    fn remove(&mut self, blob: &[u8]) -> Option<Vec<u8>> {
        let position = self.added.iter().position(|identity| identity.blob == blob)?;
        self.keeper.remove(&[blob]).ok()?;
        self.added.remove(position);
        Some(frame::success())
    }
}

/// How long a person may take to touch a key, or to say yes.
const SIGN_PATIENCE: Duration = Duration::from_secs(60);

/// Whether it is what a CA has signed as proof of a key, by its namespace. For which CA and which login cannot be seen in it: a hash.
fn is_login_proof(data: &[u8]) -> bool {
    let begin = sshsig::signed_data(login_proof::NAMESPACE, b"");
    // All but the hash, which is as long whatever the message.
    data.len() == begin.len() && begin.get(..begin.len() - 64).is_some_and(|begin| data.starts_with(begin))
}

/// Waits for the agent as long as it is wanted.
struct While<'a>(&'a dyn Fn() -> bool);

impl Waiting for While<'_> {
    fn interrupted(&self) -> bool {
        !(self.0)()
    }
}

/// In place of what was there: one login's certificate is enough.
fn put(
    files: &Files,
    certificate: &Certificate,
    comment: &[u8],
    constraints: &Constraints,
    payload: &[u8],
) -> Result<(), NotAdded> {
    if constraints.confirm {
        return Err(FilesError::Confirm.into());
    }
    let key = added_key(payload).ok_or(NotAdded::KeyKind)?;
    Ok(files.put(&key, certificate, &String::from_utf8_lossy(comment))?)
}

/// Where ssh_config has ssh add keys to the agent, it has done that with those of the files too, without a lifetime: after some logins ssh would try nothing else. Those that still lie there an ssh may be about to use.
fn remove_copies(files: &Files) {
    let Ok(agent) = UserAgent::named_by_environment() else { return };
    let Ok(mut agent) = agent.connect() else { return };
    for copy in agent.list().unwrap_or_default() {
        if is_copy(&copy) && !files.has_key(&copy.blob) && agent.remove(&copy.blob).is_err() {
            return;
        }
    }
}

fn is_printable(comment: &[u8]) -> bool {
    std::str::from_utf8(comment).is_ok_and(|text| !text.chars().any(char::is_control))
}

/// The certificate has been verified at `now`: at least one second is left.
fn seconds_left(certificate: &Certificate, now: UnixTime) -> u32 {
    u32::try_from(certificate.valid_before().0.saturating_sub(now.0)).unwrap_or(u32::MAX)
}
