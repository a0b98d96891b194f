//! The whole decision: does this agent hold a good certificate for this demand, and the key to it?

use std::cmp::Reverse;
use std::time::Duration;

use crate::agent::{Agent, AgentError, Identity, RSA_SHA2_512, after};
use crate::certificate::Certificate;
use crate::challenge::{Challenge, ChallengeContext, PossessionProof};
use crate::clock::Clock;
use crate::verdict::{Demand, Refusal, VerifiedCertificate, verify};

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

/// Limits on the time an agent may take: a decision lasts at most `total` and `touch` together.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For all talk with the agent but signatures.
    pub total: Duration,
    /// For all signatures together: nothing on the wire tells a key that a person touches or confirms from one that
    /// answers at once (ssh-add -c leaves no trace in the listing).
    pub touch: Duration,
}

/// Lists, judges (newest certificate first, FIDO keys last), challenges; the first that passes all is the answer. Time
/// (and revocation) are judged again after the signature with `clock`. At most [`MAX_SIGNATURES`] signatures. Plain
/// keys are passed over; an identity that fails hides none behind it, but an agent that breaks off ends it all.
/// # Errors
/// [`DecisionError`]
pub fn decide(
    agent: &mut Agent,
    demand: &Demand<'_>,
    context: &ChallengeContext,
    patience: Patience,
    clock: &dyn Clock,
) -> Result<Accepted, DecisionError> {
    decide_among(agent, &|_| true, demand, context, patience, clock)
}

/// As [`decide`], among those certificates only that `wanted` takes: the others are passed over like plain keys.
/// # Errors
/// [`DecisionError`]
pub fn decide_among(
    agent: &mut Agent,
    wanted: &dyn Fn(&Certificate) -> bool,
    demand: &Demand<'_>,
    context: &ChallengeContext,
    patience: Patience,
    clock: &dyn Clock,
) -> Result<Accepted, DecisionError> {
    agent.set_deadline(after(patience.total));
    let identities = agent.list()?;
    let mut tried = Vec::new();
    let candidates = judge(identities, wanted, demand, &mut tried);

    agent.set_deadline(after(patience.touch));
    for (position, candidate) in candidates.iter().enumerate() {
        let reason = if position < MAX_SIGNATURES {
            let challenge = Challenge::new(candidate, context).map_err(|_| DecisionError::Random)?;
            match prove(agent, challenge, candidate, demand, clock) {
                Ok(accepted) => return Ok(accepted),
                Err(reason) => reason,
            }
        } else {
            NotAccepted::TooManyCandidates
        };
        tried.push(Tried { certificate: Some(candidate.certificate().clone()), reason });
    }
    Err(DecisionError::NoneAccepted(tried))
}

/// The certificates that pass the verdict, in the order in which they are to be challenged; the others go to `tried`.
fn judge(
    identities: Vec<Identity>,
    wanted: &dyn Fn(&Certificate) -> bool,
    demand: &Demand<'_>,
    tried: &mut Vec<Tried>,
) -> Vec<VerifiedCertificate> {
    let mut candidates: Vec<VerifiedCertificate> = Vec::new();
    for identity in identities {
        if !Certificate::is_certificate_blob(&identity.blob) {
            continue;
        }
        let certificate = match Certificate::parse(&identity.blob) {
            Ok(certificate) => certificate,
            Err(e) => {
                tried.push(Tried { certificate: None, reason: NotAccepted::Refused(e.into()) });
                continue;
            }
        };
        if !wanted(&certificate) {
            continue;
        }
        match verify(&certificate, demand) {
            // An agent may list one certificate twice: it is one candidate.
            Ok(verified) if candidates.iter().any(|c| c.certificate() == verified.certificate()) => {}
            Ok(verified) => candidates.push(verified),
            Err(refusal) => tried.push(Tried { certificate: Some(certificate), reason: refusal.into() }),
        }
    }
    candidates.sort_by_key(|candidate| {
        let certificate = candidate.certificate();
        (certificate.public_key().is_fido(), Reverse((certificate.valid_after(), certificate.valid_before())))
    });
    candidates
}

/// Has the agent sign the challenge, checks what it gives, and judges once more: a touch takes its time.
fn prove(
    agent: &mut Agent,
    challenge: Challenge,
    candidate: &VerifiedCertificate,
    demand: &Demand<'_>,
    clock: &dyn Clock,
) -> Result<Accepted, NotAccepted> {
    let certificate = candidate.certificate();
    let flags = if certificate.public_key().type_name() == "ssh-rsa" { RSA_SHA2_512 } else { 0 };
    let signature = agent
        .sign(certificate.blob(), &challenge.signed_data(), flags)
        .map_err(|e| if e == AgentError::Refused { NotAccepted::AgentRefused } else { NotAccepted::Agent(e) })?;
    let proof = challenge.check(candidate, &signature).map_err(NotAccepted::BadProof)?;
    let certificate = verify(certificate, &Demand { now: clock.now(), ..*demand })?;
    Ok(Accepted { certificate, proof })
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
