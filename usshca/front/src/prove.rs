//! A key in the forwarded agent proves itself to the signer: the user's registered key, or the one that is to be certified.

use tokio::io::{AsyncRead, AsyncWrite};
use ussh_core::agent::{Identity, RSA_SHA2_512};
use ussh_core::certificate::Certificate;
use ussh_core::keys::PublicKey;
use usshca_ipc::front::Purpose;

use crate::agent::Agent;
use crate::say;
use crate::session::Job;
use crate::signer::{Demands, NoAnswer};
use crate::text;

/// Most keys of an agent about which the signer is asked.
const MAX_ASKED: usize = 32;

/// Has a registered key prove itself, if that is what is missing. (Whatever else is missing, the signer will say.)
/// # Errors
/// [`NoAnswer`]
pub async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    job: &Job,
    demands: &Demands,
    agent: &mut Agent<S>,
    held: &[Identity],
) -> Result<(), NoAnswer> {
    if !is_missing(job, demands) {
        return Ok(());
    }
    match registered(job, held).await {
        Some(key) => prove(job, agent, Purpose::Login, &key).await,
        None => Err(NoAnswer(text::NO_REGISTERED_KEY.to_owned())),
    }
}

/// Whether a registered key is missing, and would help.
pub fn is_missing(job: &Job, demands: &Demands) -> bool {
    !demands.met_by(job.passed.pam, false) && demands.met_by(job.passed.pam, true)
}

/// The key that the user logged in with, or the first that is registered; in either case one that the agent holds.
async fn registered(job: &Job, held: &[Identity]) -> Option<PublicKey> {
    if let Some(blob) = &job.passed.key {
        return held.iter().find(|i| i.blob == *blob).and_then(|i| PublicKey::from_blob(&i.blob).ok());
    }
    let plain = held.iter().filter(|i| !Certificate::is_certificate_blob(&i.blob)).take(MAX_ASKED);
    for key in plain.filter_map(|i| PublicKey::from_blob(&i.blob).ok()) {
        if job.signer.knows(&job.passed.user, key.blob()).await {
            return Some(key);
        }
    }
    None
}

/// One question of the signer's, one signature of the agent's.
/// # Errors
/// [`NoAnswer`]
pub async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
    job: &Job,
    agent: &mut Agent<S>,
    purpose: Purpose,
    key: &PublicKey,
) -> Result<(), NoAnswer> {
    let data = job.signer.challenge(job.passed.attempt, purpose, key).await?;
    if key.is_fido() {
        job.print_to_stderr(text::TOUCH).await;
    }
    let flags = if key.short_type() == "RSA" { RSA_SHA2_512 } else { 0 };
    let signature = agent.sign(key.blob(), &data, flags).await.map_err(|e| {
        say(&format!("agent: {e}"));
        NoAnswer(text::AGENT_DID_NOT_SIGN.to_owned())
    })?;
    job.signer.prove(signature).await
}
