//! From a login to a certificate in the user's agent: list the agent, make a key, have it certified, add both, say what became of it, remove what it replaces.

use std::time::Duration;

use russh::server::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use ussh_core::agent::{Constraints, Identity};
use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::keys::PrivateKey;
use usshca_ipc::channel::ChannelError;
use usshca_ipc::front::{Delivery, FromSigner, ToSigner, Wish};

use crate::agent::Agent;
use crate::channel::Channel;
use crate::say;
use crate::session::Report;
use crate::text;

/// How long the signer may take.
const SIGNER_PATIENCE: Duration = Duration::from_secs(20);
/// How long the client may take to open a channel to its agent.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// How long the removal of old certificates may take in all. What is left falls out of the agent by its lifetime.
const TIDY_PATIENCE: Duration = Duration::from_secs(5);

/// What it takes.
pub struct Order<'a> {
    /// The SSH session.
    pub handle: &'a Handle,
    /// The signer.
    pub signer: &'a Channel<ToSigner, FromSigner>,
    /// The attempt that passed.
    pub attempt: u32,
    /// What the user would like.
    pub wish: &'a Wish,
    /// The CA's name, for the user's eyes.
    pub ca_name: &'a str,
}

/// What the signer gave.
struct Issued {
    certificate: Certificate,
    constraints: Constraints,
    comment: String,
    rule: String,
}

/// Why there is no certificate in the agent: what the user is told.
struct Refusal(String);

/// Does all of it; says how it went.
pub async fn run(order: &Order<'_>) -> Report {
    match certify(order).await {
        Ok(text) => Report { status: 0, text },
        Err(Refusal(text)) => Report { status: 1, text },
    }
}

async fn certify(order: &Order<'_>) -> Result<String, Refusal> {
    // Before the signer is asked: without an agent no serial is spent.
    let channel = open_agent(order.handle).await.ok_or_else(|| Refusal(text::AGENT_SILENT.to_owned()))?;
    let mut agent = Agent::new(channel.into_stream());
    let held = agent.list().await.map_err(|e| {
        say(&format!("agent: {e}"));
        Refusal(text::AGENT_SILENT.to_owned())
    })?;

    let key = PrivateKey::generate_ed25519().map_err(|e| broken(&e.to_string()))?;
    let issued = issue(order, &key).await?;
    let serial = issued.certificate.serial();
    if let Err(e) = agent.add(&issued.certificate, &key, &issued.comment, &issued.constraints).await {
        note(order, serial, Delivery::Refused(e.to_string())).await;
        return Err(Refusal(text::AGENT_REFUSED.to_owned()));
    }
    // Not needed any more: the agent has it.
    drop(key);
    // The old ones go only now: until the new one was there, they were better than none. The signer's disk and the user's agent need not wait for each other.
    let tidy = timeout(TIDY_PATIENCE, tidy(&mut agent, &held, &issued.certificate));
    let ((), tidied) = tokio::join!(note(order, serial, Delivery::Delivered), tidy);
    if tidied.is_err() {
        say("old certificates were left in the agent");
    }
    Ok(text::delivered(&issued.certificate, &issued.rule, order.ca_name, SystemClock.now()))
}

/// Opens a channel to the agent. One that the client confirms too late is closed at once: OpenSSH's client stays as long as a channel is open.
async fn open_agent(handle: &Handle) -> Option<russh::Channel<russh::server::Msg>> {
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

async fn issue(order: &Order<'_>, key: &PrivateKey) -> Result<Issued, Refusal> {
    let request =
        ToSigner::Issue { attempt: order.attempt, public_key: key.public_key().to_blob(), wish: order.wish.clone() };
    match ask(order, &request).await.map_err(|e| signer_away(&e))? {
        FromSigner::Issued { certificate, lifetime_seconds, confirm, comment, rule } => {
            let parsed = Certificate::parse(&certificate).map_err(|e| broken(&e.to_string()))?;
            let constraints = Constraints { lifetime_seconds: Some(lifetime_seconds), confirm };
            if *parsed.public_key() != key.public_key() || lifetime_seconds == 0 {
                note(order, parsed.serial(), Delivery::Refused("it does not fit the key".to_owned())).await;
                return Err(broken("a certificate that does not fit"));
            }
            Ok(Issued { certificate: parsed, constraints, comment, rule })
        }
        FromSigner::Refused { message } => Err(Refusal(message)),
        FromSigner::Noted | FromSigner::Host(_) | FromSigner::Feed { .. } => {
            Err(broken("an answer to another question"))
        }
    }
}

/// The inventory's last word on a serial. If it is lost, the serial stands there as signed, with its fate unknown, and can be revoked.
async fn note(order: &Order<'_>, serial: u64, delivery: Delivery) {
    match ask(order, &ToSigner::Outcome { serial, delivery }).await {
        Ok(FromSigner::Noted) => {}
        Ok(FromSigner::Issued { .. } | FromSigner::Refused { .. } | FromSigner::Host(_) | FromSigner::Feed { .. }) => {
            say("the outcome was not noted")
        }
        Err(e) => say(&format!("the outcome was not noted: {e}")),
    }
}

async fn ask(order: &Order<'_>, request: &ToSigner) -> Result<FromSigner, ChannelError> {
    order.signer.send(request).await?;
    let late = |_| ChannelError::Io(std::io::ErrorKind::TimedOut.into());
    timeout(SIGNER_PATIENCE, order.signer.receive()).await.map_err(late)?.map(|(message, _)| message)
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
    held.iter().map(|identity| identity.blob.as_slice()).filter(|blob| *blob != new.blob()).filter(|blob| {
        Certificate::is_certificate_blob(blob) && Certificate::parse(blob).is_ok_and(|old| old.same_lineage(new))
    })
}

fn signer_away(error: &ChannelError) -> Refusal {
    say(&format!("signer: {error}"));
    Refusal(text::SIGNER_AWAY.to_owned())
}

fn broken(why: &str) -> Refusal {
    say(&format!("no certificate: {why}"));
    Refusal(text::BROKEN.to_owned())
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
    fn only_certificates_of_this_ca_and_key_id_are_replaced() {
        let (ca, other_ca) = (PrivateKey::generate_ed25519().unwrap(), PrivateKey::generate_ed25519().unwrap());
        let new = certificate(&ca, "alice", 9);
        let old = certificate(&ca, "alice", 8);
        let blobs = [
            certificate(&other_ca, "alice", 7).blob().to_vec(),
            certificate(&ca, "bob", 6).blob().to_vec(),
            ca.public_key().to_blob(),
            b"rubbish".to_vec(),
            new.blob().to_vec(),
            old.blob().to_vec(),
        ];
        let held: Vec<_> = blobs.into_iter().map(|blob| Identity { blob, comment: vec![] }).collect();
        assert_eq!(replaced(&held, &new).collect::<Vec<_>>(), [old.blob()]);
    }
}
