//! The whole decision: does this agent hold a good certificate for this demand, and the key to it?

use std::time::Duration;

use crate::agent::Agent;
use crate::certificate::Certificate;
use crate::challenge::{ChallengeContext, PossessionProof};
use crate::verdict::{Demand, Refusal, VerifiedCertificate};

/// Both halves of a yes.
#[derive(Debug)]
#[must_use]
pub struct Accepted {
    /// Judged.
    pub certificate: VerifiedCertificate,
    /// Proved.
    pub proof: PossessionProof,
}

/// What became of one identity.
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
    /// For all talk with the agent, all identities together.
    pub total: Duration,
    /// For one signature by a key that a person touches or confirms.
    pub touch: Duration,
}

/// Lists, judges (newest certificate first, FIDO keys last), challenges; the first that passes all is the answer. Time (and revocation) are judged again after the
/// signature with `clock`. At most 8 signatures.
/// # Errors
/// [`DecisionError`]
pub fn decide(
    agent: &mut Agent,
    demand: &Demand<'_>,
    context: &ChallengeContext,
    patience: Patience,
    clock: &dyn crate::clock::Clock,
) -> Result<Accepted, DecisionError> {
    let _ = (agent, demand, context, patience, clock);
    todo!()
}
