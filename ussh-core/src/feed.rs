//! The feed: all that a host trusts of its CA, as one file that anything can carry: user CA keys, revocation list, the host CA's known_hosts lines, and a manifest over them that the **feed key** signed.
//!
//! The file `feed`, in the data types of RFC 4251 §5, nothing behind it:
//!
//! ```text
//! byte[12]  "USSH-FEED-1\n"
//! string    manifest                JSON ([`Manifest`])
//! string    signature               armoured SSHSIG (PROTOCOL.sshsig) over the manifest, namespace "feed@ussh"
//! string    user_ca.pub             sshd's TrustedUserCAKeys
//! string    krl                     OpenSSH's KRL
//! string    known_hosts             lines "@cert-authority PATTERNS KEY"
//! uint32    number of handovers     at most 16, oldest first
//!   string    manifest              whose `successor` is the key that signed the next one, or the feed itself
//!   string    signature
//! ```
//!
//! It is one file so that whoever carries it carries all of it or nothing: no reader ever sees a manifest beside files of another one.
//!
//! Trusted: the feed key that a host has pinned, and whom it names as its successor. Untrusted: every byte, and whoever carries them.

mod bundle;
mod make;
mod manifest;
mod signature;
mod verify;

pub use self::bundle::{Bundle, Handover};
pub use self::make::{FeedContents, draft, seal};
pub use self::manifest::{FileDigest, Files, Manifest};
pub use self::signature::{sign, verify_signature};
pub use self::verify::{Pinned, Taken, VerifiedFeed, open, verify};

use crate::keys::KeyError;
use crate::revoked::RevokedError;

/// SSHSIG namespace of a manifest.
pub const NAMESPACE: &str = "feed@ussh";
/// First bytes of the file.
pub const MAGIC: &[u8; 12] = b"USSH-FEED-1\n";
/// Names of the files within, which are those of the folder too.
pub const USER_CA: &str = "user_ca.pub";
/// See [`USER_CA`].
pub const KRL: &str = "krl";
/// See [`USER_CA`].
pub const KNOWN_HOSTS: &str = "known_hosts";
/// The feed itself, in a folder.
pub const FEED: &str = "feed";
/// Longest manifest, in bytes.
pub const MAX_MANIFEST: usize = 16 * 1024;
/// Longest armoured signature, in bytes.
pub const MAX_SIGNATURE: usize = 8 * 1024;
/// Longest user_ca.pub and known_hosts, in bytes each.
pub const MAX_KEYS: usize = 256 * 1024;
/// Longest KRL, in bytes (pam_ussh and ussh-hostd read no longer one).
pub const MAX_KRL: usize = 64 * 1024 * 1024;
/// Most handovers: a host that was away for more changes of the feed key is enrolled again.
pub const MAX_HANDOVERS: usize = 16;
/// Longest feed, in bytes.
pub const MAX_FEED: usize =
    MAX_KRL + 2 * MAX_KEYS + (1 + MAX_HANDOVERS) * (MAX_MANIFEST + MAX_SIGNATURE + 8) + 5 * 4 + 16;
/// How far ahead of the reader's clock version and time of a feed may lie, in seconds: clocks differ, but not by a day, and no true feed could follow such a one.
pub const MAX_AHEAD: u64 = 24 * 3600;
/// Longest time from `generated` to `valid_until`, in seconds.
pub const MAX_VALIDITY: u64 = 366 * 86_400;

/// Why a feed is not taken. Nothing of it may be used then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// Not a feed, or cut short, or with bytes behind it: torn on its way.
    #[error("torn, or no feed: {0}")]
    Torn(&'static str),
    /// Longer than allowed.
    #[error("{what} is longer than {max} bytes")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Bytes.
        max: usize,
    },
    /// The manifest cannot be understood: no JSON, an unknown or missing name, a value out of its bounds.
    #[error("the manifest cannot be understood: {0}")]
    Manifest(String),
    /// The signature is none, or one for something else.
    #[error("the manifest's signature is no good: {0}")]
    Signature(SignatureError),
    /// Signed by another key than the pinned one or its successors.
    #[error("signed by {signed_by}, which is not the pinned feed key {pinned} nor a successor that it named")]
    WrongKey {
        /// Fingerprint.
        signed_by: String,
        /// Fingerprint.
        pinned: String,
    },
    /// The manifest says that another key signs it than did.
    #[error("the manifest names {named} as its feed key, and {signed_by} signed it")]
    OtherKey {
        /// Fingerprint.
        named: String,
        /// Fingerprint.
        signed_by: String,
    },
    /// An earlier manifest hands the feed over to nobody, or its signature is no good.
    #[error("handover {number} is no good: {problem}")]
    Handover {
        /// From 1.
        number: usize,
        /// What is wrong.
        problem: String,
    },
    /// Older than one that was taken.
    #[error("going back is refused: version {offered}, and version {taken} was taken before")]
    GoesBack {
        /// Of this feed.
        offered: u64,
        /// Of the one before.
        taken: u64,
    },
    /// Of a version that was taken with other contents.
    #[error("version {0} was taken before, and it was another feed")]
    Forked(u64),
    /// Too old.
    #[error("expired: valid until {valid_until}, and it is {now}")]
    Expired {
        /// Seconds since the epoch, exclusive.
        valid_until: u64,
        /// Seconds since the epoch.
        now: u64,
    },
    /// No true feed could follow it.
    #[error("it lies in the future: version {version}, generated at {generated}, and it is {now}")]
    InTheFuture {
        /// A time at least.
        version: u64,
        /// Seconds since the epoch.
        generated: u64,
        /// Seconds since the epoch.
        now: u64,
    },
    /// A file has another size than the manifest says.
    #[error("{file} has {found} bytes, and the manifest says {said}")]
    Size {
        /// Which.
        file: &'static str,
        /// Bytes.
        found: u64,
        /// Bytes.
        said: u64,
    },
    /// A file is another one than the manifest says.
    #[error("{0} is not the file that the manifest says")]
    Digest(&'static str),
    /// user_ca.pub holds no key, or a line that is none.
    #[error("user_ca.pub: {0}")]
    UserCa(String),
    /// The revocation list is none.
    #[error("krl: {0}")]
    Krl(RevokedError),
    /// A plain list of keys has no version.
    #[error("krl: a plain list of keys, not a KRL")]
    NotAKrl,
    /// known_hosts holds no host CA, or a line that is none.
    #[error("known_hosts: {0}")]
    KnownHosts(String),
    /// One key in two roles.
    #[error("{0}: each needs its own key")]
    OneKey(&'static str),
}

/// What is wrong with an SSHSIG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not an armoured SSHSIG of version 1.
    #[error("no SSH signature")]
    Malformed,
    /// For something else.
    #[error("made in the namespace \"{0}\"")]
    Namespace(String),
    /// Over another hash than SHA-512.
    #[error("hash {0} is not taken")]
    Hash(String),
    /// The key, or the signature by it.
    #[error("{0}")]
    Key(#[from] KeyError),
}

#[cfg(test)]
mod tests;
