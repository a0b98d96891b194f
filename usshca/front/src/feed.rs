//! `ssh ca feed`: the feed on standard output, as it is. It is for everybody, and signed: what a front or the way to the client changes in it shows.

use usshca_ipc::front::{FromSigner, ToSigner};

use crate::signer::{NoAnswer, Signer};
use crate::text;

/// How often it is begun anew when a newer feed was made meanwhile.
const TRIES: u32 = 3;
/// Longest feed that is passed on, in bytes (`ussh_core::feed::MAX_FEED`).
const MAX: usize = ussh_core::feed::MAX_FEED;

/// The whole feed; or why not, for the user.
pub async fn fetch(signer: &Signer) -> Result<Vec<u8>, NoAnswer> {
    for _ in 0..TRIES {
        if let Some(feed) = fetch_one(signer).await? {
            return Ok(feed);
        }
    }
    Err(NoAnswer("The CA's feed changes too quickly. Please try again.".to_owned()))
}

/// `None`: another version came in between.
async fn fetch_one(signer: &Signer) -> Result<Option<Vec<u8>>, NoAnswer> {
    let mut feed = Vec::new();
    let mut of = None;
    loop {
        let offset = u64::try_from(feed.len()).unwrap_or(u64::MAX);
        let away = || NoAnswer(text::SIGNER_AWAY.to_owned());
        let FromSigner::Feed { version, total, chunk } = signer.answer(&ToSigner::Feed { offset }).await? else {
            return Err(away());
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
