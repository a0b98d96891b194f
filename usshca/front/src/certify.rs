//! From a login to a certificate in the user's agent: list the agent, make a key, have it certified, add both, say what became of it, remove what it replaces.

use std::time::Duration;

use russh::server::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use ussh_core::agent::{Constraints, Identity};
use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::keys::PrivateKey;
use usshca_ipc::front::{Delivery, Ending, FromSigner, Makes, ToSigner, Wish};

use crate::agent::Agent;
use crate::prove;
use crate::say;
use crate::session::{Job, Report};
use crate::signer::NoAnswer;
use crate::text;

/// How long the client may take to open a channel to its agent.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// How long the removal of old certificates may take in all. What is left falls out of the agent by its lifetime.
const TIDY_PATIENCE: Duration = Duration::from_secs(5);

/// What the signer gave.
struct Issued {
    certificate: Certificate,
    constraints: Constraints,
    comment: String,
    rule: String,
}

/// Does all of it; says how it went.
pub async fn run(job: &Job, wish: &Wish, kind: Option<Makes>) -> Report {
    match certify(job, wish, kind).await {
        Ok(text) => Report { status: 0, text },
        Err(NoAnswer(text)) => Report { status: 1, text },
    }
}

async fn certify(job: &Job, wish: &Wish, kind: Option<Makes>) -> Result<String, NoAnswer> {
    // Before the signer is asked for a certificate: without an agent no serial is spent.
    let Some(channel) = open_agent(&job.handle).await else {
        return Err(silent(job).await);
    };
    let mut agent = Agent::new(channel.into_stream());
    let (held, demands) = tokio::join!(agent.list(), job.signer.demands(job.passed.attempt, false));
    let held = match held {
        Ok(held) => held,
        Err(e) => {
            say(&format!("agent: {e}"));
            return Err(silent(job).await);
        }
    };
    let demands = demands?;
    let proved = prove::login(job, &demands, &mut agent, &held).await.map_err(prove::Unproved::told);

    // A rule that allows no key that we make is the signer's to refuse.
    let kind = kind.or_else(|| demands.makes.first().copied()).unwrap_or(Makes::Ed25519);
    let key = match kind {
        Makes::Ed25519 => PrivateKey::generate_ed25519(),
        Makes::Ecdsa => PrivateKey::generate_ecdsa_p256(),
    };
    let key = key.map_err(|e| broken(&e.to_string()))?;
    // Asked for without the proof as well: the refusal belongs into the inventory. What the user is told is what was wrong with the proof.
    let issued = match (issue(job, wish, &key).await, proved) {
        (Err(_), Err(why)) => return Err(why),
        (issued, _) => issued?,
    };
    let serial = issued.certificate.serial();
    if let Err(e) = agent.add(&issued.certificate, &key, &issued.comment, &issued.constraints).await {
        note(job, serial, Delivery::Refused(e.to_string())).await;
        return Err(NoAnswer(text::not_taken(job.keeps).to_owned()));
    }
    // Not needed any more: the agent has it.
    drop(key);
    // The old ones go only now: until the new one was there, they were better than none. The signer's disk and the user's agent need not wait for each other.
    let tidy = timeout(TIDY_PATIENCE, tidy(&mut agent, &held, &issued.certificate));
    let ((), tidied) = tokio::join!(note(job, serial, Delivery::Delivered), tidy);
    if tidied.is_err() {
        say("old certificates were left in the agent");
    }
    Ok(text::delivered(&issued.certificate, &issued.rule, &job.ca_name, job.keeps, SystemClock.now()))
}

/// The forwarded agent is of no use: what is told.
pub async fn silent(job: &Job) -> NoAnswer {
    job.ends(Ending::AgentSilent).await;
    NoAnswer(text::AGENT_SILENT.to_owned())
}

/// Opens a channel to the agent. One that the client confirms too late is closed at once: OpenSSH's client stays as long as a channel is open.
pub async fn open_agent(handle: &Handle) -> Option<russh::Channel<russh::server::Msg>> {
    let (sender, opened) = oneshot::channel();
    let handle = handle.clone();
    tokio::spawn(async move {
        let Ok(channel) = handle.channel_open_agent().await else {
            return;
        };
        if let Err(late) = sender.send(channel) {
            // An error is a client that has gone.
            let _ = late.close().await;
        }
    });
    timeout(OPEN_PATIENCE, opened).await.ok()?.ok()
}

async fn issue(job: &Job, wish: &Wish, key: &PrivateKey) -> Result<Issued, NoAnswer> {
    let attempt = job.passed.attempt;
    let request = ToSigner::Issue { attempt, public_key: key.public_key().to_blob(), wish: wish.clone() };
    let FromSigner::Issued { certificate, lifetime_seconds, confirm, comment, rule } =
        job.signer.answer(&request).await?
    else {
        return Err(broken("an answer to another question"));
    };
    let parsed = Certificate::parse(&certificate).map_err(|e| broken(&e.to_string()))?;
    let constraints = Constraints { lifetime_seconds: Some(lifetime_seconds), confirm };
    if *parsed.public_key() != key.public_key() || lifetime_seconds == 0 {
        note(job, parsed.serial(), Delivery::Refused("it does not fit the key".to_owned())).await;
        return Err(broken("a certificate that does not fit"));
    }
    Ok(Issued { certificate: parsed, constraints, comment, rule })
}

/// The inventory's last word on a serial. If it is lost, the serial stands there as signed, with its fate unknown, and can be revoked.
pub async fn note(job: &Job, serial: u64, delivery: Delivery) {
    match job.signer.ask(&ToSigner::Outcome { serial, delivery }).await {
        Ok(FromSigner::Noted) => {}
        Ok(_) => say("the outcome was not noted"),
        Err(e) => say(&format!("the outcome was not noted: {e}")),
    }
}

/// Takes out of the agent what the new certificate replaces: they would pile up, and slow down every login.
async fn tidy<S>(agent: &mut Agent<S>, held: &[Identity], new: &Certificate)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    for old in replaced(held, new) {
        // One that is gone meanwhile is as good as removed.
        let _ = agent.remove(old).await;
    }
}

fn replaced<'a>(held: &'a [Identity], new: &'a Certificate) -> impl Iterator<Item = &'a [u8]> {
    let is_old = |identity: &&Identity| {
        identity.blob != new.blob()
            && Certificate::is_certificate_blob(&identity.blob)
            && Certificate::parse(&identity.blob).is_ok_and(|old| old.same_lineage(new) && identity.was_injected(&old))
    };
    held.iter().filter(is_old).map(|identity| identity.blob.as_slice())
}

/// What is told when the signer gave what is no use.
pub fn broken(why: &str) -> NoAnswer {
    say(&format!("no certificate: {why}"));
    NoAnswer(text::BROKEN.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_core::certificate::CertificateKind;
    use ussh_core::clock::UnixTime;
    use ussh_core::issue::CertificateTemplate;

    use super::*;

    fn certificate(ca: &PrivateKey, key_id: &str, serial: u64) -> Certificate {
        let template = CertificateTemplate {
            public_key: PrivateKey::generate_ed25519().unwrap().public_key(),
            serial,
            kind: CertificateKind::User,
            key_id: key_id.into(),
            principals: vec![key_id.into()],
            valid_after: UnixTime(1000),
            valid_before: UnixTime(2000),
            critical_options: vec![],
            extensions: vec![],
        };
        template.sign(ca).unwrap()
    }

    #[test]
    fn only_what_this_ca_injected_for_this_key_id_is_replaced() {
        let (ca, other_ca) = (PrivateKey::generate_ed25519().unwrap(), PrivateKey::generate_ed25519().unwrap());
        let new = certificate(&ca, "alice", 9);
        let old = certificate(&ca, "alice", 8);
        let own_key = certificate(&ca, "alice", 5);
        let held: Vec<Identity> = [
            (certificate(&other_ca, "alice", 7).blob().to_vec(), "ussh alice serial 7"),
            (certificate(&ca, "bob", 6).blob().to_vec(), "ussh bob serial 6"),
            (ca.public_key().to_blob(), "ussh alice serial 4"),
            (b"rubbish".to_vec(), "ussh alice serial 3"),
            (new.blob().to_vec(), "ussh alice serial 9"),
            (old.blob().to_vec(), "ussh alice serial 8"),
            // A key of alice's own that the CA certified: she added it.
            (own_key.blob().to_vec(), "alice@laptop"),
            (own_key.blob().to_vec(), "ussh alice serial 8"),
        ]
        .into_iter()
        .map(|(blob, comment)| Identity { blob, comment: comment.into() })
        .collect();
        assert_eq!(replaced(&held, &new).collect::<Vec<_>>(), [old.blob()]);
    }
}
