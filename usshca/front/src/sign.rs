//! `ssh -A ca sign < id.pub`: the user's own key gets a certificate. The key comes on standard input, the certificate goes to standard output, and the key proves itself through the agent.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::keys::{KeyError, PublicKey};
use usshca_ipc::front::{Delivery, Ending, FromSigner, Purpose, ToSigner, Wish};

use crate::agent::Agent;
use crate::certify;
use crate::prove;
use crate::session::{EX_USAGE, Job, Report};
use crate::signer::{Known, NoAnswer};
use crate::text;

/// How long the key may take to come.
const INPUT_PATIENCE: Duration = Duration::from_secs(30);
/// Longest line with a key, in bytes.
pub const MAX_INPUT: usize = 16 * 1024;

/// Does all of it; says how it went.
pub async fn run(job: &Job, wish: &Wish, input: UnboundedReceiver<Vec<u8>>) -> Report {
    let key = match read_key(input).await {
        Ok(key) => key,
        Err(why) => {
            job.ends(Ending::NoPublicKey).await;
            return Report { status: EX_USAGE, text: text::wrong_key(&why) };
        }
    };
    if !job.forwards_agent {
        job.ends(Ending::NoAgent).await;
        return Report { status: 1, text: text::SIGN_WITHOUT_AGENT.to_owned() };
    }
    match sign(job, wish, &key).await {
        Ok(text) => Report { status: 0, text },
        Err(NoAnswer(text)) => Report { status: 1, text },
    }
}

async fn sign(job: &Job, wish: &Wish, key: &PublicKey) -> Result<String, NoAnswer> {
    let Some(channel) = certify::open_agent(&job.handle).await else {
        return Err(certify::silent(job).await);
    };
    let mut agent = Agent::new(channel.into_stream());
    let Ok(held) = agent.list().await else {
        return Err(certify::silent(job).await);
    };
    if !held.iter().any(|identity| identity.blob == key.blob()) {
        job.ends(Ending::KeyNotInAgent).await;
        return Err(NoAnswer(text::KEY_NOT_IN_AGENT.to_owned()));
    }
    let attempt = job.passed.attempt;
    let demands = job.signer.demands(attempt, false).await?;
    // A registered key that is to be certified proves both by one signature.
    if prove::is_missing(job, &demands)
        && job.signer.knows(&job.passed.user, key.blob()).await != Known::Registered
        && let Err(unproved) = prove::login(job, &demands, &mut agent, &held).await
    {
        return Err(unproved.ends(job).await);
    }
    if let Err(unproved) = prove::prove(job, &mut agent, Purpose::ClientKey, key).await {
        return Err(unproved.ends(job).await);
    }
    let request = ToSigner::Certify { attempt, public_key: key.to_blob(), wish: wish.clone() };
    let FromSigner::Issued { certificate, rule, .. } = job.signer.answer(&request).await? else {
        return Err(certify::broken("an answer to another question"));
    };
    let certificate = Certificate::parse(&certificate).map_err(|e| certify::broken(&e.to_string()))?;
    let serial = certificate.serial();
    if certificate.public_key() != key {
        certify::note(job, serial, Delivery::Refused("it does not fit the key".to_owned())).await;
        return Err(certify::broken("a certificate that does not fit"));
    }
    let line = certificate.to_openssh(&format!("{} serial {serial}", job.passed.user));
    let printed = job.print_bytes(format!("{line}\n").into_bytes()).await;
    let delivery = if printed { Delivery::Delivered } else { Delivery::Refused("the client has gone".to_owned()) };
    certify::note(job, serial, delivery).await;
    Ok(text::signed(&certificate, &rule, &job.ca_name, job.keeps, SystemClock.now()))
}

/// One line of standard input, with what is wrong about it.
async fn read_key(mut input: UnboundedReceiver<Vec<u8>>) -> Result<PublicKey, String> {
    let mut line = Vec::new();
    let read = async {
        while let Some(bytes) = input.recv().await {
            line.extend_from_slice(&bytes);
            if line.trim_ascii_start().contains(&b'\n') || line.len() > MAX_INPUT {
                return;
            }
        }
    };
    let in_time = timeout(INPUT_PATIENCE, read).await.is_ok();
    parse_key(&line, in_time)
}

fn parse_key(bytes: &[u8], in_time: bool) -> Result<PublicKey, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    match (lines.next(), lines.next()) {
        (None, _) if in_time => Err("there is none".to_owned()),
        (None, _) => Err("none came".to_owned()),
        (Some(line), _) if line.contains("PRIVATE KEY") => {
            Err("it is a private key, which should not have left your machine: take the file that ends in .pub"
                .to_owned())
        }
        (Some(line), None) => PublicKey::from_openssh(line).map_err(|e| {
            let hint =
                if e == KeyError::IsCertificate { ": take the file that ends in .pub, not in -cert.pub" } else { "" };
            format!("{e}{hint}")
        }),
        (Some(_), Some(_)) => Err("there is more than one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use tokio::sync::mpsc::unbounded_channel;
    use ussh_core::keys::PrivateKey;

    use super::*;

    async fn read(parts: &[&str]) -> Result<PublicKey, String> {
        let (sender, input) = unbounded_channel();
        for part in parts {
            sender.send(part.as_bytes().to_vec()).unwrap();
        }
        drop(sender);
        read_key(input).await
    }

    #[tokio::test]
    async fn takes_one_public_key_in_whatever_parts_it_comes() {
        let private = PrivateKey::generate_ed25519().unwrap();
        let line = private.public_key().to_openssh("alice@laptop");
        let (start, end) = line.split_at(20);
        assert_eq!(read(&[start, end]).await.unwrap(), private.public_key());
        assert_eq!(read(&["\n", &line, "\n"]).await.unwrap(), private.public_key());
        assert!(read(&[]).await.unwrap_err().contains("there is none"));
        assert!(read(&[&format!("{line}\n{line}\n")]).await.unwrap_err().contains("more than one"));
        assert!(read(&["ssh-rsa junk"]).await.unwrap_err().contains("malformed"));
        assert!(read(&[private.to_openssh("x").unwrap().as_str()]).await.unwrap_err().contains("private key"));
        assert!(read(&[&"a".repeat(MAX_INPUT + 1)]).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_key_is_not_waited_for() {
        let (_sender, input) = unbounded_channel();
        assert!(read_key(input).await.unwrap_err().contains("none came"));
    }
}
