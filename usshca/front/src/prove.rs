//! A key in the forwarded agent proves itself to the signer: the user's registered key, or the one that is to be certified.

use tokio::io::{AsyncRead, AsyncWrite};
use ussh_core::agent::{Identity, RSA_SHA2_512};
use ussh_core::certificate::Certificate;
use ussh_core::keys::PublicKey;
use usshca_ipc::front::{Ending, Purpose};

use crate::agent::Agent;
use crate::say;
use crate::session::Job;
use crate::signer::{Demands, Known, NoAnswer};
use crate::text;

/// Most keys of an agent about which the signer is asked.
const MAX_ASKED: usize = 32;

/// Why a key proved nothing.
pub enum Unproved {
    /// None that is registered is in the agent.
    NoKey,
    /// One that was registered is in the agent, and revoked.
    Revoked(PublicKey),
    /// The agent turned it down.
    NotSigned,
    /// The signer did.
    Refused(NoAnswer),
}

impl Unproved {
    /// What is told, where a request that the signer refuses comes after it.
    pub fn told(self) -> NoAnswer {
        match self {
            Unproved::NoKey => NoAnswer(text::NO_REGISTERED_KEY.to_owned()),
            Unproved::Revoked(key) => NoAnswer(text::registered_key_revoked(&key.fingerprint())),
            Unproved::NotSigned => NoAnswer(text::AGENT_DID_NOT_SIGN.to_owned()),
            Unproved::Refused(why) => why,
        }
    }

    /// What is told, where nothing comes after it.
    pub async fn ends(self, job: &Job) -> NoAnswer {
        match &self {
            Unproved::Revoked(_) => job.ends(Ending::RegisteredKeyRevoked).await,
            Unproved::NoKey => job.ends(Ending::NoRegisteredKey).await,
            Unproved::NotSigned => job.ends(Ending::AgentDidNotSign).await,
            // It has noted that itself.
            Unproved::Refused(_) => {}
        }
        self.told()
    }
}

/// Has a registered key prove itself, if that is what is missing. (Whatever else is missing, the signer will say.)
/// # Errors
/// [`Unproved`]
pub async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    job: &Job,
    demands: &Demands,
    agent: &mut Agent<S>,
    held: &[Identity],
) -> Result<(), Unproved> {
    if !is_missing(job, demands) {
        return Ok(());
    }
    let key = registered(job, held).await?;
    prove(job, agent, Purpose::Login, &key).await
}

/// Whether a registered key is missing, and would help.
pub fn is_missing(job: &Job, demands: &Demands) -> bool {
    !demands.met_by(job.passed.pam, false) && demands.met_by(job.passed.pam, true)
}

/// The key that the user logged in with, or the first that is registered; in either case one that the agent holds.
async fn registered(job: &Job, held: &[Identity]) -> Result<PublicKey, Unproved> {
    if let Some(blob) = &job.passed.key {
        let key = held.iter().find(|i| i.blob == *blob).and_then(|i| PublicKey::from_blob(&i.blob).ok());
        return key.ok_or(Unproved::NoKey);
    }
    let mut none = Unproved::NoKey;
    let plain = held.iter().filter(|i| !Certificate::is_certificate_blob(&i.blob)).take(MAX_ASKED);
    for key in plain.filter_map(|i| PublicKey::from_blob(&i.blob).ok()) {
        match job.signer.knows(&job.passed.user, key.blob()).await {
            Known::Registered => return Ok(key),
            Known::Revoked => none = Unproved::Revoked(key),
            Known::No => {}
        }
    }
    Err(none)
}

/// One question of the signer's, one signature of the agent's.
/// # Errors
/// [`Unproved`]
pub async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
    job: &Job,
    agent: &mut Agent<S>,
    purpose: Purpose,
    key: &PublicKey,
) -> Result<(), Unproved> {
    let data = job.signer.challenge(job.passed.attempt, purpose, key).await.map_err(Unproved::Refused)?;
    if key.is_fido() {
        job.print_to_stderr(text::TOUCH).await;
    }
    let flags = if key.short_type() == "RSA" { RSA_SHA2_512 } else { 0 };
    let signature = agent.sign(key.blob(), &data, flags).await.map_err(|e| {
        say(&format!("agent: {e}"));
        Unproved::NotSigned
    })?;
    job.signer.prove(signature).await.map_err(Unproved::Refused)
}
