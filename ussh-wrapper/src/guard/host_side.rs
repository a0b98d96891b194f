//! What a host may ask of the user's agent, and what it gets: a listing of our certificates, and signatures under pam-ussh challenges.
//!
//! Nothing that passes for a login, nothing in another namespace, nothing by another key. Untrusted: every byte that comes, which is the host's, or root's there.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ussh_core::agent::{Agent, AgentError, CHALLENGE_EXTENSION, Identity, Request, Waiting, frame, injected_comment};
use ussh_core::certificate::Certificate;
use ussh_core::challenge::{ChallengeMessage, is_challenge};
use ussh_core::clock::{Clock, UnixTime};
use ussh_core::escape::escape;
use ussh_core::keys::PublicKey;
use ussh_core::verdict::VerifiedCertificate;
use ussh_core::wire::Reader;

use super::journal::{Entry, Journal, Outcome, Told};
use super::question::{Answer, ask};
use super::refused_words::{request_name, what_it_is};
use super::shares::{MAX_DIFFERENT, MAX_SIGNED};
use super::withdrawn::{Askers, MAX_WITHDRAWN, NotPut, WITHIN};
use crate::certificates::{Judge, NotGood, readable_certificate};
use crate::config::Patterns;
use crate::files::FilesError;
use crate::keeper::Keeper;
use crate::user_agent::{AgentProblem, PATIENCE, UserAgent};

/// Most requests on one connection; a host needs two.
const MAX_REQUESTS: u32 = 256;
/// Most that a challenge's time may be off ours, either way, seconds. Hosts whose clock is further off refuse certificates anyway, or should.
const MAX_SKEW: u64 = 600;
/// How long the user's agent may take to sign: a person may have to touch a key. pam_ussh waits a minute by default.
const SIGN_PATIENCE: Duration = Duration::from_secs(120);
/// Sign flags that a request may carry: none, SSH_AGENT_RSA_SHA2_256, SSH_AGENT_RSA_SHA2_512.
pub(super) const FLAGS: [u32; 3] = [0, 2, 4];
/// Longest foreign name in the log, bytes: as in the sentence ([`ChallengeMessage`]), so that no host makes its lines long.
const MAX_SHOWN: usize = 64;
/// What is noted of a challenge that came as an SSHSIG.
const HASH_ONLY: &str = "a challenge, shown as a hash only";
/// SSH_AGENTC_EXTENSION.
const EXTENSION: u8 = 27;
/// By which ssh tells an agent whose connection this is (OpenSSH's PROTOCOL.agent §1).
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// What is judged by; replaced when the files change.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whose certificates are ours.
    pub judge: Judge,
    /// Services for which the person is asked.
    pub confirm: Patterns,
}

/// The rules towards hosts, for all their connections.
pub struct HostSide {
    upstream: RwLock<Keeper>,
    rules: RwLock<Arc<Rules>>,
    clock: Box<dyn Clock + Send + Sync>,
    journal: Journal,
    /// The ssh processes over which a question is open: one each, or a host could bury the person in them.
    asking: Mutex<Askers>,
    /// Those of the last listing that counted: the CA's signature under them is not checked again on each connection, everything else is.
    verified: Mutex<Vec<VerifiedCertificate>>,
}

/// Why a request gets nothing.
#[derive(Debug, thiserror::Error)]
enum Declined {
    #[error("more than {MAX_REQUESTS} requests on one connection")]
    TooMany,
    #[error("{0}, which hosts are not given")]
    Request(String),
    #[error("to sign {0}, which is no pam-ussh challenge")]
    NoChallenge(String),
    #[error(
        "more than {MAX_SIGNED} signatures in a minute, or {MAX_DIFFERENT} different challenges in an hour, over one ssh"
    )]
    TooOften,
    #[error("to sign with odd flags ({0})")]
    Flags(u32),
    #[error("to sign with what is no certificate")]
    NoCertificate,
    #[error("to sign with a certificate that does not count: {0}")]
    NotGood(#[from] NotGood),
    #[error("to sign a hash on a connection that had sent a challenge in clear")]
    Mixed,
    #[error("to sign a hash, where `confirm` wants to see what it is")]
    Unseen,
    #[error("a challenge for another certificate than it names")]
    OtherCertificate,
    #[error("a challenge {off} s off this machine's clock")]
    Skew {
        /// Seconds, either way.
        off: u64,
    },
    #[error("a challenge with an empty name, or control characters in one")]
    Odd,
    #[error("you said no, or nothing")]
    SaidNo,
    #[error(
        "there is nowhere to ask you: run `ussh --confirm` in a terminal, or set SSH_ASKPASS before this agent is started (`ussh --logout` ends it)"
    )]
    Nowhere,
    #[error("another question over the same connection is open")]
    Asking,
    #[error(
        "{MAX_WITHDRAWN} questions over the same connection were withdrawn within {} s: none is asked for as long",
        WITHIN.as_secs()
    )]
    Withdrawn,
    #[error("{0}")]
    NoAgent(#[from] AgentProblem),
    #[error("ssh-agent: {0}")]
    Agent(#[from] AgentError),
    #[error("{0}")]
    Files(#[from] FilesError),
    #[error("with a certificate that another has replaced")]
    Replaced,
}

impl HostSide {
    /// In front of this agent, or these files.
    pub fn new(
        upstream: impl Into<Keeper>,
        rules: Rules,
        clock: Box<dyn Clock + Send + Sync>,
        journal: Journal,
    ) -> Self {
        let rules = RwLock::new(Arc::new(rules));
        let (upstream, asking, verified) = (RwLock::new(upstream.into()), Mutex::default(), Mutex::default());
        HostSide { upstream, rules, clock, journal, asking, verified }
    }
    /// What it is in front of.
    pub fn upstream(&self) -> Keeper {
        self.upstream.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// From now on in front of this.
    pub fn set_upstream(&self, upstream: Keeper) {
        *self.upstream.write().unwrap_or_else(PoisonError::into_inner) = upstream;
    }
    /// From now on these.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
    /// Notes what was counted only ([`Journal::note_rest`]): of minutes that are over, or at the end all of it.
    pub fn note_rest(&self, is_end: bool) {
        self.journal.note_rest((!is_end).then(|| self.clock.now().0));
    }
    /// Those of them that count by these rules.
    pub(super) fn verify(
        &self,
        rules: &Rules,
        certificates: impl Iterator<Item = Certificate>,
    ) -> Vec<VerifiedCertificate> {
        let now = self.clock.now();
        let kept = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept().clone();
        let verify = |certificate: Certificate| match before
            .iter()
            .find(|known| known.certificate().blob() == certificate.blob())
        {
            Some(known) => rules.judge.verify_again(known.clone(), now).ok(),
            None => rules.judge.verify(&certificate, now).ok(),
        };
        let verified: Vec<_> = certificates.filter_map(verify).collect();
        kept().clone_from(&verified);
        verified
    }
    /// Those that hold now.
    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One connection of a host's, with one of its own to the user's agent: what waits there holds up no other.
pub struct Talk<'a> {
    side: &'a HostSide,
    rules: Arc<Rules>,
    /// The ssh at the other end.
    process: i32,
    /// To see whether it still waits.
    client: Option<UnixStream>,
    agent: Option<Agent>,
    /// Those that counted when they were listed or used.
    known: Vec<Certificate>,
    host_key: Option<String>,
    requests: u32,
    /// A challenge has come in clear.
    told: bool,
}

impl<'a> Talk<'a> {
    /// Over a connection that process made. `client`: a copy of it, by which is seen whether it has been closed.
    pub fn new(side: &'a HostSide, process: i32, client: Option<UnixStream>) -> Self {
        let rules = side.rules();
        Talk { side, rules, process, client, agent: None, known: Vec::new(), host_key: None, requests: 0, told: false }
    }

    /// Answers one request: a payload in, a whole frame out.
    pub fn answer(&mut self, payload: &[u8]) -> Vec<u8> {
        self.requests = self.requests.saturating_add(1);
        if self.requests > MAX_REQUESTS {
            return self.decline(&Declined::TooMany, None, frame::failure());
        }
        match Request::parse(payload) {
            Request::List => match self.list() {
                Ok(identities) => frame::identities(&identities),
                Err(reason) => self.decline(&reason, None, frame::failure()),
            },
            Request::Sign { blob, data, flags } => match self.sign_hash(&blob, &data, flags) {
                Ok(signature) => frame::signature(&signature),
                Err(reason) => self.decline(&reason, None, frame::failure()),
            },
            Request::Challenge { blob, message, flags } => {
                self.told = true;
                match self.sign_told(&blob, &message, flags) {
                    Ok(signature) => frame::clear_signature(&signature),
                    Err(reason) => self.decline(&reason, Some(&message), frame::extension_failure()),
                }
            }
            // ssh's own first words on each connection, before any of the host's. We bind no key, and say so; ssh goes on.
            Request::Other(EXTENSION) if self.requests == 1 && self.note_session_bind(payload).is_some() => {
                frame::failure()
            }
            Request::AddCertificate { .. } | Request::Remove { .. } | Request::Other(_) => {
                self.decline(&Declined::Request(request_name(payload)), None, frame::failure())
            }
        }
    }

    fn list(&mut self) -> Result<Vec<Identity>, Declined> {
        let listed = match &self.side.upstream() {
            Keeper::Agent(upstream) => self.agent(upstream, PATIENCE)?.list()?,
            other @ (Keeper::Files(_) | Keeper::OwnKey(_)) => other.list()?,
        };
        let verified = self.side.verify(&self.rules, listed.iter().filter_map(readable_certificate));
        self.known = verified.into_iter().map(|verified| verified.certificate().clone()).collect();
        // Of the comment that it has in the agent a host gets nothing: it may name files and machines.
        let shown = |certificate: &Certificate| {
            let user = String::from_utf8_lossy(certificate.key_id());
            let comment = injected_comment(&user, certificate.serial()) + " " + CHALLENGE_EXTENSION;
            Identity { blob: certificate.blob().to_vec(), comment: comment.into_bytes() }
        };
        Ok(self.known.iter().map(shown).collect())
    }

    /// An SSHSIG in our namespace: who asks, and for what, cannot be seen in it.
    fn sign_hash(&mut self, blob: &[u8], data: &[u8], flags: u32) -> Result<Vec<u8>, Declined> {
        if !is_challenge(data) {
            return Err(Declined::NoChallenge(what_it_is(data)));
        }
        if self.told {
            return Err(Declined::Mixed);
        }
        if !self.rules.confirm.is_empty() {
            return Err(Declined::Unseen);
        }
        let certificate = self.certificate(blob, flags)?;
        self.may_sign(HASH_ONLY)?;
        let signature = self.sign(blob, data, flags)?;
        self.note(Outcome::Signed, HASH_ONLY.into(), None, Some(&certificate));
        Ok(signature)
    }

    fn sign_told(&mut self, blob: &[u8], message: &ChallengeMessage, flags: u32) -> Result<Vec<u8>, Declined> {
        let certificate = self.certificate(blob, flags)?;
        check(message, blob, self.side.clock.now())?;
        // Before the person is asked: nobody is buried in questions either.
        self.may_sign(&message.to_string())?;
        if self.rules.confirm.matches(&message.context.service) {
            self.confirm(message, &certificate)?;
        }
        // Made of the very message that was read, checked and shown.
        let signature = self.sign(blob, &message.signed_data(), flags)?;
        self.note(Outcome::Signed, message.to_string(), Some(message), Some(&certificate));
        Ok(signature)
    }

    fn may_sign(&self, text: &str) -> Result<(), Declined> {
        let now = self.side.clock.now().0;
        if self.side.journal.may_sign(self.process, now, text) { Ok(()) } else { Err(Declined::TooOften) }
    }

    /// The certificate that `blob` is, if it counts at this moment.
    fn certificate(&self, blob: &[u8], flags: u32) -> Result<Certificate, Declined> {
        if !FLAGS.contains(&flags) {
            return Err(Declined::Flags(flags));
        }
        let now = self.side.clock.now();
        // The CA's signature under one that was listed has been checked.
        if let Some(known) = self.known.iter().find(|known| known.blob() == blob && now < known.valid_before()) {
            return Ok(known.clone());
        }
        if !Certificate::is_certificate_blob(blob) {
            return Err(Declined::NoCertificate);
        }
        let certificate = Certificate::parse(blob).map_err(|_| Declined::NoCertificate)?;
        let _verified = self.rules.judge.verify(&certificate, now)?;
        Ok(certificate)
    }

    fn confirm(&self, message: &ChallengeMessage, certificate: &Certificate) -> Result<(), Declined> {
        let locked = || self.side.asking.lock().unwrap_or_else(PoisonError::into_inner);
        locked().begin(self.process, Instant::now()).map_err(|not_put| match not_put {
            NotPut::Open => Declined::Asking,
            NotPut::Withdrawn => Declined::Withdrawn,
        })?;
        let has_hung_up = || self.client.as_ref().is_some_and(has_hung_up);
        let answer = ask(&self.question(message, certificate), &has_hung_up);
        locked().end(self.process, answer == Answer::No && has_hung_up(), Instant::now());
        match answer {
            Answer::Yes => Ok(()),
            Answer::No => Err(Declined::SaidNo),
            Answer::Nowhere => Err(Declined::Nowhere),
        }
    }

    /// The host's own words, and below them what is known by ours: over which connection they came. A challenge of another machine that is passed on says that other one's name.
    fn question(&self, message: &ChallengeMessage, certificate: &Certificate) -> String {
        let over = match &self.host_key {
            Some(host_key) => format!("asked over the connection to {host_key}"),
            None => "asked over a connection that did not say whose it is".to_owned(),
        };
        format!("{message}\n{over}\n\nSign with the certificate of {}?", escape(certificate.key_id(), MAX_SHOWN))
    }

    fn sign(&mut self, blob: &[u8], data: &[u8], flags: u32) -> Result<Vec<u8>, Declined> {
        let client = self.client.as_ref().and_then(|client| client.try_clone().ok());
        match &self.side.upstream() {
            Keeper::Agent(upstream) => {
                let agent = self.agent(upstream, SIGN_PATIENCE)?;
                Ok(agent.sign_waiting(blob, data, flags, &WhileWanted(client))?)
            }
            // The key signs; that it is certified only a file says.
            Keeper::OwnKey(own) => {
                if own.certificate().is_none_or(|certificate| certificate.blob() != blob) {
                    return Err(Declined::Replaced);
                }
                let agent = self.agent(&own.agent, SIGN_PATIENCE)?;
                Ok(agent.sign_waiting(own.key.blob(), data, flags, &WhileWanted(client))?)
            }
            Keeper::Files(files) => {
                // What was listed a moment ago may be the one before the newest by now: that is still there.
                let key = files.key_of(blob).ok_or(Declined::Replaced)?;
                Ok(key.sign(data).map_err(FilesError::from)?)
            }
        }
    }

    /// The user's agent, connected, for one round of at most `patience`.
    fn agent(&mut self, upstream: &UserAgent, patience: Duration) -> Result<&mut Agent, AgentProblem> {
        let kept = self.agent.take().filter(|agent| !agent.is_broken());
        let agent = match kept {
            Some(agent) => agent,
            None => upstream.connect()?,
        };
        let agent = self.agent.insert(agent);
        let now = Instant::now();
        agent.set_deadline(now.checked_add(patience).unwrap_or(now));
        Ok(agent)
    }

    /// `None`: it is another extension, or malformed.
    fn note_session_bind(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = Reader::new(payload.get(1..)?);
        if reader.string().ok()? != SESSION_BIND {
            return None;
        }
        let blob = reader.string().ok()?;
        let key = if Certificate::is_certificate_blob(blob) {
            Certificate::parse(blob).ok()?.public_key().fingerprint()
        } else {
            PublicKey::from_blob(blob).ok()?.fingerprint()
        };
        self.host_key = Some(key);
        Some(())
    }

    fn decline(&self, reason: &Declined, message: Option<&ChallengeMessage>, answer: Vec<u8>) -> Vec<u8> {
        let what = match message {
            Some(message) => format!("{message}: {reason}"),
            None => reason.to_string(),
        };
        self.note(Outcome::Refused, what, message, None);
        answer
    }

    fn note(&self, outcome: Outcome, what: String, told: Option<&ChallengeMessage>, of: Option<&Certificate>) {
        let shown = |name: &str| escape(name.as_bytes(), MAX_SHOWN);
        self.side.journal.note(Entry {
            time: self.side.clock.now().0,
            outcome,
            what,
            challenge: told.map(|ChallengeMessage { context, .. }| Told {
                host: shown(&context.host),
                service: shown(&context.service),
                user: shown(&context.user),
                ruser: shown(&context.ruser),
                tty: shown(&context.tty),
            }),
            key_id: of.map(|certificate| escape(certificate.key_id(), MAX_SHOWN)),
            serial: of.map(|certificate| certificate.serial().to_string()),
            host_key: self.host_key.clone(),
            process: self.process,
            not_noted: 0,
        });
    }
}

/// What can be known of a challenge here: it is for this certificate, of about now, and its names can be shown.
fn check(message: &ChallengeMessage, blob: &[u8], now: UnixTime) -> Result<(), Declined> {
    let context = &message.context;
    if !message.is_for(blob) {
        return Err(Declined::OtherCertificate);
    }
    let off = context.now.0.abs_diff(now.0);
    if off > MAX_SKEW {
        return Err(Declined::Skew { off });
    }
    let must_be_there = [&context.host, &context.service, &context.user];
    let all = must_be_there.into_iter().chain([&context.ruser, &context.tty]);
    if must_be_there.into_iter().any(String::is_empty) || all.into_iter().any(|name| name.contains(char::is_control)) {
        return Err(Declined::Odd);
    }
    Ok(())
}

fn has_hung_up(client: &UnixStream) -> bool {
    super::serve::has_hung_up(client.as_fd())
}

/// Waits for the agent as long as the client does.
struct WhileWanted(Option<UnixStream>);

impl Waiting for WhileWanted {
    fn interrupted(&self) -> bool {
        self.0.as_ref().is_some_and(has_hung_up)
    }
}
