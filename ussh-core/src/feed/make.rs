//! Making a feed: the CA does, and whoever holds the feed key elsewhere signs.

use super::{Bundle, FeedError, FileDigest, Files, Handover, Manifest, SignatureError, open, sign};
use crate::clock::UnixTime;
use crate::keys::{PublicKey, SigningKey};

/// What is to be in a feed.
#[derive(Clone, Debug)]
pub struct FeedContents {
    /// The CA's name.
    pub ca: String,
    /// max(last + 1, seconds since the epoch).
    pub version: u64,
    /// When.
    pub generated: UnixTime,
    /// Seconds from then.
    pub valid_for: u64,
    /// sshd's TrustedUserCAKeys.
    pub user_ca: Vec<u8>,
    /// The KRL.
    pub krl: Vec<u8>,
    /// The host CA's lines.
    pub known_hosts: Vec<u8>,
    /// How the feed key came to be it; oldest first.
    pub handovers: Vec<Handover>,
}

/// A feed without its signature, for this key to sign.
/// # Errors
/// [`FeedError`]: contents out of their bounds.
pub fn draft(contents: FeedContents, feed_key: &PublicKey, successor: Option<&PublicKey>) -> Result<Bundle, FeedError> {
    let FeedContents { ca, version, generated, valid_for, user_ca, krl, known_hosts, handovers } = contents;
    let manifest = Manifest {
        format: Manifest::FORMAT,
        ca,
        version,
        generated: generated.0,
        valid_until: generated.0.saturating_add(valid_for),
        feed_key: feed_key.to_openssh(""),
        successor: successor.map(|key| key.to_openssh("")),
        files: Files {
            user_ca: FileDigest::of(&user_ca),
            krl: FileDigest::of(&krl),
            known_hosts: FileDigest::of(&known_hosts),
        },
    };
    let manifest = manifest.to_bytes()?;
    Ok(Bundle { manifest, signature: Vec::new(), user_ca, krl, known_hosts, handovers })
}

/// Signs a draft; what comes out has been read again with the reader's eyes (but for the time and what a reader has pinned).
/// # Errors
/// [`FeedError`]; [`FeedError::OtherKey`] if the draft was made for another key.
pub fn seal(mut draft: Bundle, key: &dyn SigningKey) -> Result<Vec<u8>, FeedError> {
    let signature = sign(key, &draft.manifest).map_err(|e| FeedError::Signature(SignatureError::Key(e)))?;
    draft.signature = signature.into_bytes();
    let feed = draft.to_bytes();
    let _feed = open(&feed)?;
    Ok(feed)
}
