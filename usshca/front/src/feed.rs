//! `ssh ca feed`: the feed on standard output, as it is. It is for everybody, and signed: what a front or the way to the client changes in it shows.

use std::time::Duration;

use tokio::time::timeout;
use usshca_ipc::front::{FromSigner, ToSigner};

use crate::channel::Channel;

/// How often it is begun anew when a newer feed was made meanwhile.
const TRIES: u32 = 3;
/// How long the signer may take for one part.
const SIGNER_PATIENCE: Duration = Duration::from_secs(30);
/// Longest feed that is passed on, in bytes (`ussh_core::feed::MAX_FEED`).
const MAX: usize = ussh_core::feed::MAX_FEED;

/// The whole feed; or why not, for the user.
pub async fn fetch(signer: &Channel<ToSigner, FromSigner>) -> Result<Vec<u8>, String> {
    for _ in 0..TRIES {
        if let Some(feed) = fetch_one(signer).await? {
            return Ok(feed);
        }
    }
    Err("The CA's feed changes too quickly. Please try again.".to_owned())
}

/// `None`: another version came in between.
async fn fetch_one(signer: &Channel<ToSigner, FromSigner>) -> Result<Option<Vec<u8>>, String> {
    let mut feed = Vec::new();
    let mut of = None;
    loop {
        let offset = u64::try_from(feed.len()).unwrap_or(u64::MAX);
        let away = || "The CA's signer is not available. Please try again later.".to_owned();
        signer.send(&ToSigner::Feed { offset }).await.map_err(|_| away())?;
        let answer = timeout(SIGNER_PATIENCE, signer.receive()).await.map_err(|_| away())?;
        let (answer, _) = answer.map_err(|_| away())?;
        let (version, total, chunk) = match answer {
            FromSigner::Feed { version, total, chunk } => (version, total, chunk),
            FromSigner::Refused { message } => return Err(message),
            FromSigner::Issued { .. } | FromSigner::Noted | FromSigner::Host(_) => return Err(away()),
        };
        if *of.get_or_insert((version, total)) != (version, total) {
            return Ok(None);
        }
        let is_empty = chunk.is_empty();
        feed.extend_from_slice(&chunk);
        match u64::try_from(feed.len()) {
            Ok(length) if length == total => return Ok(Some(feed)),
            Ok(length) if length < total && !is_empty && feed.len() <= MAX => {}
            _ => return Err(away()),
        }
    }
}
