//! The whole decision: does this agent hold a good certificate for this demand, and the key to it?

use std::cell::{Cell, OnceCell};
use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::agent::{Agent, AgentError, ClearAnswer, Identity, RSA_SHA2_512, Waiting, after};
use crate::certificate::Certificate;
use crate::challenge::{Challenge, ChallengeContext, PossessionProof};
use crate::clock::Clock;
use crate::verdict::{Demand, Refusal, VerifiedCertificate, check_content, check_revoked, verify};

/// Most signatures asked for in one decision.
pub const MAX_SIGNATURES: usize = 8;

/// Both halves of a yes.
#[derive(Debug)]
#[must_use]
pub struct Accepted {
    /// Judged.
    pub certificate: VerifiedCertificate,
    /// Proved.
    pub proof: PossessionProof,
}

/// What became of one identity that calls itself a certificate.
#[derive(Debug)]
pub struct Tried {
    /// `None` if it was no readable certificate.
    pub certificate: Option<Certificate>,
    /// Why not.
    pub reason: NotAccepted,
}

/// Why one identity did not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The verdict said no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The agent would not sign (locked, constrained, declined).
    #[error("the agent refused to sign")]
    AgentRefused,
    /// What it signed does not prove possession.
    #[error("challenge: {0}")]
    BadProof(crate::keys::KeyError),
    /// The agent broke off or ran out of time.
    #[error("agent: {0}")]
    Agent(crate::agent::AgentError),
    /// More than 8 signatures would have been asked for.
    #[error("too many candidates")]
    TooManyCandidates,
}

/// Nothing was accepted.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// The agent could not be asked at all.
    #[error("agent: {0}")]
    Agent(#[from] crate::agent::AgentError),
    /// It was asked, and nothing it holds does. Empty: it holds no certificate.
    #[error("no acceptable certificate in the agent ({} tried)", .0.len())]
    NoneAccepted(Vec<Tried>),
    /// No random numbers.
    #[error("no random numbers")]
    Random,
}

/// Limits on the time an agent may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For all talk with the agent but signatures: the listing, and whatever new connections are needed after keys that took too long.
    pub total: Duration,
    /// For each signature: nothing on the wire tells a key that a person touches or confirms from one that answers at once (ssh-add -c leaves no trace in the listing).
    pub touch: Duration,
    /// For all of the decision, where somebody must have the answer by then. `None`: it ends by `total` and [`MAX_SIGNATURES`] times `touch`.
    pub overall: Option<Duration>,
}

/// How long a signature may take before the person is told that it is waited for.
pub const HINT_AFTER: Duration = Duration::from_secs(1);

/// The person at the key. All of it is called by the waiting thread itself; a deadline that passes meanwhile is passed.
pub trait Person {
    /// A FIDO key is to be asked.
    fn before_touch(&self) {}
    /// A signature has taken more than [`HINT_AFTER`]. Told at most once in a decision.
    fn waiting(&self) {}
    /// Asked some times a second during a wait: whether the person gave up.
    fn gave_up(&self) -> bool {
        false
    }
}

/// Nobody to talk to.
#[derive(Debug)]
pub struct Nobody;

impl Person for Nobody {}

/// One more connection to the same agent, within the given time.
pub type Reconnect<'a> = dyn Fn(Duration) -> Result<Agent, AgentError> + 'a;

/// What a decision goes by, beside the demand.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// What is under the challenge's signature.
    pub context: &'a ChallengeContext,
    /// Certificates that count; all others are passed over like plain keys.
    pub wanted: &'a dyn Fn(&Certificate) -> bool,
    /// Time limits.
    pub patience: Patience,
    /// For the judgement after the signature.
    pub clock: &'a dyn Clock,
    /// Who is told.
    pub person: &'a dyn Person,
    /// A key that breaks the connection, or takes too long, costs only itself if there is a new one. Not tried again once it has failed, or the agent gives no answer there.
    pub reconnect: Option<&'a Reconnect<'a>>,
}

impl<'a> Asking<'a> {
    /// All certificates count, nobody is told, and there is one connection only.
    pub fn new(context: &'a ChallengeContext, patience: Patience, clock: &'a dyn Clock) -> Self {
        Asking { context, wanted: &|_| true, patience, clock, person: &Nobody, reconnect: None }
    }
}

/// Lists, judges (newest certificate first, FIDO keys last), challenges; the first that passes all is the answer. Time is judged again after the signature, by `asking.clock`.
/// At most [`MAX_SIGNATURES`] signatures are asked for. Plain keys are passed over; an identity that fails, in whatever way, hides none behind it.
/// # Errors
/// [`DecisionError`]
pub fn decide(agent: &mut Agent, demand: &Demand<'_>, asking: &Asking<'_>) -> Result<Accepted, DecisionError> {
    let Patience { total, overall, .. } = asking.patience;
    let end = overall.map(after);
    let mut talk = Talk { agent, asking, end, left: total, is_odd: false, lost: None, hinted: Cell::new(false) };
    let mut tried = Vec::new();
    let candidates = select(talk.list()?, demand, asking, &mut tried);
    let mut signatures = 0;
    let mut left = candidates.len();
    for candidate in candidates {
        left -= 1;
        let reason = match talk.try_one(&candidate, demand, left == 0, &mut signatures) {
            Ok(accepted) => return Ok(accepted),
            Err(Stop::Random) => return Err(DecisionError::Random),
            Err(Stop::Not(reason)) => reason,
        };
        let interrupted = reason == NotAccepted::Agent(AgentError::Interrupted);
        tried.push(Tried { certificate: Some(candidate.certificate), reason });
        if interrupted {
            break;
        }
    }
    Err(DecisionError::NoneAccepted(tried))
}

/// A certificate whose content is good. Its CA's signature has not been looked at.
struct Candidate {
    certificate: Certificate,
    takes_clear_challenges: bool,
    /// The agent lists the plain key as well. A signature by it proves the same, and costs ssh-agent half of the time: it checks the CA's signature whenever it reads a certificate (sshkey.c `cert_parse`).
    has_plain_key: bool,
}

/// The certificates that may do, in the order in which they are to be challenged; the others go to `tried`.
fn select(
    identities: Vec<Identity>,
    demand: &Demand<'_>,
    asking: &Asking<'_>,
    tried: &mut Vec<Tried>,
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let (identities, plain): (Vec<Identity>, Vec<Identity>) =
        identities.into_iter().partition(|identity| Certificate::is_certificate_blob(&identity.blob));
    for identity in identities {
        let certificate = match Certificate::parse(&identity.blob) {
            Ok(certificate) => certificate,
            Err(e) => {
                tried.push(Tried { certificate: None, reason: NotAccepted::Refused(e.into()) });
                continue;
            }
        };
        if !(asking.wanted)(&certificate) {
            continue;
        }
        match check_content(&certificate, demand) {
            // An agent may list one certificate twice: it is one candidate.
            Ok(()) if candidates.iter().any(|known| known.certificate == certificate) => {}
            Ok(()) => candidates.push(Candidate {
                takes_clear_challenges: identity.takes_clear_challenges(),
                has_plain_key: plain.iter().any(|plain| plain.blob == certificate.public_key().blob()),
                certificate,
            }),
            Err(refusal) => tried.push(Tried { certificate: Some(certificate), reason: refusal.into() }),
        }
    }
    candidates.sort_by_key(|candidate| {
        let certificate = &candidate.certificate;
        (certificate.public_key().is_fido(), Reverse((certificate.valid_after(), certificate.valid_before())))
    });
    candidates
}

enum Stop {
    Random,
    Not(NotAccepted),
}

impl<E: Into<NotAccepted>> From<E> for Stop {
    fn from(reason: E) -> Self {
        Stop::Not(reason.into())
    }
}

impl From<AgentError> for NotAccepted {
    fn from(error: AgentError) -> Self {
        if error == AgentError::Refused { NotAccepted::AgentRefused } else { NotAccepted::Agent(error) }
    }
}

/// The talk with one agent, over one connection after the other if need be.
struct Talk<'t> {
    agent: &'t mut Agent,
    asking: &'t Asking<'t>,
    /// The end of it all.
    end: Option<Instant>,
    /// What is left of the time for all but signatures.
    left: Duration,
    /// What came last was no answer to the question: what comes next may belong to it.
    is_odd: bool,
    /// Why there is no connection any more.
    lost: Option<AgentError>,
    hinted: Cell<bool>,
}

impl Talk<'_> {
    fn list(&mut self) -> Result<Vec<Identity>, AgentError> {
        let began = Instant::now();
        self.agent.set_deadline(self.until(self.left));
        let listed = self.agent.list_waiting(&Listing(self.asking.person));
        self.left = self.left.saturating_sub(began.elapsed());
        listed
    }

    fn until(&self, patience: Duration) -> Instant {
        let until = after(patience);
        self.end.map_or(until, |end| end.min(until))
    }

    /// The CA's signature, the challenge, and what time has brought meanwhile: a touch takes its time.
    ///
    /// Of the last candidate, which can hide none behind it, the CA's signature is checked while the agent works. Not of a FIDO key: nobody shall touch one for nothing.
    fn try_one(
        &mut self,
        candidate: &Candidate,
        demand: &Demand<'_>,
        is_last: bool,
        signatures: &mut usize,
    ) -> Result<Accepted, Stop> {
        if *signatures >= MAX_SIGNATURES {
            return Err(NotAccepted::TooManyCandidates.into());
        }
        let judgement = Judgement { certificate: &candidate.certificate, demand, verdict: OnceCell::new() };
        if !is_last || candidate.certificate.public_key().is_fido() {
            judgement.verdict().as_ref().map_err(Refusal::clone)?;
        } else {
            // Nobody shall confirm the use of a certificate that is revoked.
            check_revoked(&candidate.certificate, demand)?;
        }
        *signatures += 1;
        let challenge = Challenge::new(&candidate.certificate, self.asking.context).map_err(|_| Stop::Random)?;
        let signature = self.sign(candidate, &challenge, &judgement, signatures);
        let verified = judgement.into_verdict()?;
        let signature = signature?;
        let proof = challenge.check(&verified, &signature).map_err(NotAccepted::BadProof)?;
        let certificate = verified.verify_again(&Demand { now: self.asking.clock.now(), ..*demand })?;
        Ok(Accepted { certificate, proof })
    }

    fn sign(
        &mut self,
        candidate: &Candidate,
        challenge: &Challenge,
        judgement: &Judgement<'_>,
        signatures: &mut usize,
    ) -> Result<Vec<u8>, AgentError> {
        self.connect_again_if_spent()?;
        self.agent.set_deadline(self.until(self.asking.patience.touch));
        let signed = self.ask(candidate, challenge, judgement, signatures);
        self.is_odd = signed == Err(AgentError::Malformed);
        signed
    }

    fn ask(
        &mut self,
        candidate: &Candidate,
        challenge: &Challenge,
        judgement: &Judgement<'_>,
        signatures: &mut usize,
    ) -> Result<Vec<u8>, AgentError> {
        let key = candidate.certificate.public_key();
        if key.is_fido() {
            self.asking.person.before_touch();
        }
        let signing = Signing { person: self.asking.person, at: after(HINT_AFTER), hinted: &self.hinted, judgement };
        let flags = if key.type_name() == "ssh-rsa" { RSA_SHA2_512 } else { 0 };
        let blob = candidate.certificate.blob();
        if candidate.takes_clear_challenges
            && let ClearAnswer::Signature(signature) =
                self.agent.sign_clear(blob, challenge.message(), flags, &signing)?
        {
            return Ok(signature);
        }
        let data = challenge.signed_data();
        if candidate.has_plain_key && !key.is_fido() && !candidate.takes_clear_challenges {
            match self.agent.sign_waiting(key.blob(), &data, flags, &signing) {
                // Of the two identities this one may be constrained, and the other not.
                Err(AgentError::Refused) if *signatures < MAX_SIGNATURES => *signatures += 1,
                signed => return signed,
            }
        }
        self.agent.sign_waiting(blob, &data, flags, &signing)
    }

    /// A connection that broke off is of no more use, nor is one on which the next answer may be that to another question.
    fn connect_again_if_spent(&mut self) -> Result<(), AgentError> {
        if let Some(error) = &self.lost {
            return Err(error.clone());
        }
        let is_broken = self.agent.is_broken();
        if !is_broken && !self.is_odd && !self.agent.is_ahead() {
            return Ok(());
        }
        let Some(reconnect) = self.asking.reconnect else {
            return if is_broken { Err(AgentError::Io("given up before".into())) } else { Ok(()) };
        };
        let began = Instant::now();
        let fresh = self.connect_again(reconnect);
        self.left = self.left.saturating_sub(began.elapsed());
        self.is_odd = false;
        *self.agent = fresh.inspect_err(|error| self.lost = Some(error.clone()))?;
        Ok(())
    }

    /// To connect is not enough: ssh-agent serves one client at a time. While it waits for the touch that nobody gave, the kernel takes connections on its behalf, and
    /// nothing ever comes: asked for a signature, it would cost each key behind that one a whole wait for a person.
    fn connect_again(&self, reconnect: &Reconnect<'_>) -> Result<Agent, AgentError> {
        let end = self.until(self.left);
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(AgentError::Timeout);
        }
        let mut agent = reconnect(left)?;
        agent.set_deadline(end);
        agent.list_waiting(&Listing(self.asking.person))?;
        Ok(agent)
    }
}

/// Nothing is told of a listing, which no person is asked about; but the person may give up.
struct Listing<'a>(&'a dyn Person);

impl Waiting for Listing<'_> {
    fn interrupted(&self) -> bool {
        self.0.gave_up()
    }
}

/// The verdict on a candidate, made when it is first asked for.
struct Judgement<'a> {
    certificate: &'a Certificate,
    demand: &'a Demand<'a>,
    verdict: OnceCell<Result<VerifiedCertificate, Refusal>>,
}

impl Judgement<'_> {
    fn verdict(&self) -> &Result<VerifiedCertificate, Refusal> {
        self.verdict.get_or_init(|| verify(self.certificate, self.demand))
    }

    fn into_verdict(self) -> Result<VerifiedCertificate, Refusal> {
        self.verdict.into_inner().unwrap_or_else(|| verify(self.certificate, self.demand))
    }
}

/// Judges while the agent works, and tells the person once that something is waited for.
struct Signing<'a> {
    person: &'a dyn Person,
    at: Instant,
    hinted: &'a Cell<bool>,
    judgement: &'a Judgement<'a>,
}

impl Waiting for Signing<'_> {
    fn asked(&self) {
        let _ = self.judgement.verdict();
    }

    fn notice(&self) -> Option<Instant> {
        (!self.hinted.get()).then_some(self.at)
    }

    fn told(&self) {
        self.hinted.set(true);
        self.person.waiting();
    }

    fn interrupted(&self) -> bool {
        self.person.gave_up()
    }
}

#[cfg(test)]
#[path = "decision_talk_tests.rs"]
mod talk_tests;
#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
