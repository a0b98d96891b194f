//! The manifest: what a feed is, in JSON that people can read. What is signed is its bytes as they stand.

use serde::{Deserialize, Serialize};

use super::{FeedError, KNOWN_HOSTS, KRL, MAX_KEYS, MAX_KRL, MAX_MANIFEST, MAX_VALIDITY, USER_CA};
use crate::digest::{hexadecimal, sha256};
use crate::keys::PublicKey;

/// The one format that is read.
const FORMAT: u32 = 1;
/// Longest name of a CA, in bytes (`ca_name` of usshca.toml).
const MAX_CA_NAME: usize = 64;

/// A manifest. Unknown names are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// The CA's name, for people: printable ASCII, 1 to 64 bytes.
    pub ca: String,
    /// max(last + 1, seconds since the epoch): it only rises.
    pub version: u64,
    /// Seconds since the epoch.
    pub generated: u64,
    /// Seconds since the epoch, exclusive.
    pub valid_until: u64,
    /// The key that signs this: `type base64`.
    pub feed_key: String,
    /// The key that signs from the next version on: `type base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<String>,
    /// What comes with it.
    pub files: Files,
}

/// Sizes and digests of all files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// sshd's TrustedUserCAKeys.
    #[serde(rename = "user_ca.pub")]
    pub user_ca: FileDigest,
    /// The KRL.
    pub krl: FileDigest,
    /// The host CA's lines.
    pub known_hosts: FileDigest,
}

/// Of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Bytes.
    pub size: u64,
    /// SHA-256 in small hexadecimal letters.
    pub sha256: String,
}

impl FileDigest {
    /// Of these bytes.
    pub fn of(data: &[u8]) -> Self {
        FileDigest { size: length(data), sha256: hexadecimal(&sha256(data)) }
    }

    pub(super) fn check(&self, file: &'static str, data: &[u8]) -> Result<(), FeedError> {
        if self.size != length(data) {
            return Err(FeedError::Size { file, found: length(data), said: self.size });
        }
        if *self == Self::of(data) { Ok(()) } else { Err(FeedError::Digest(file)) }
    }
}

impl Manifest {
    /// The newest form of one.
    pub(super) const FORMAT: u32 = FORMAT;

    /// Reads it, and checks what can be checked without the files.
    /// # Errors
    /// [`FeedError::Manifest`], [`FeedError::TooLarge`]
    pub fn parse(bytes: &[u8]) -> Result<Self, FeedError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(FeedError::TooLarge { what: "the manifest", max: MAX_MANIFEST });
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| FeedError::Manifest(e.to_string()))?;
        manifest.check().map_err(FeedError::Manifest)?;
        Ok(manifest)
    }

    /// As it is signed: one name a line, a line end behind the last one.
    /// # Errors
    /// [`FeedError::Manifest`]
    pub fn to_bytes(&self) -> Result<Vec<u8>, FeedError> {
        self.check().map_err(FeedError::Manifest)?;
        let text = serde_json::to_string_pretty(self).map_err(|e| FeedError::Manifest(e.to_string()))?;
        Ok(format!("{text}\n").into_bytes())
    }

    /// The key that signs this.
    /// # Errors
    /// [`FeedError::Manifest`]
    pub fn feed_key(&self) -> Result<PublicKey, FeedError> {
        key("feed_key", &self.feed_key).map_err(FeedError::Manifest)
    }

    /// The key that signs from the next version on, if that is another one.
    /// # Errors
    /// [`FeedError::Manifest`]
    pub fn successor(&self) -> Result<Option<PublicKey>, FeedError> {
        self.successor.as_deref().map(|line| key("successor", line)).transpose().map_err(FeedError::Manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format {} is unknown here", self.format));
        }
        let name = self.ca.as_bytes();
        if name.is_empty() || name.len() > MAX_CA_NAME || !name.iter().all(|b| matches!(b, b' '..=b'~')) {
            return Err("ca: must be 1 to 64 printable ASCII characters".to_owned());
        }
        if self.version == 0 {
            return Err("version: 0 is none".to_owned());
        }
        match self.valid_until.checked_sub(self.generated) {
            Some(1..=MAX_VALIDITY) => {}
            _ => return Err(format!("valid_until: must lie 1 to {MAX_VALIDITY} s behind generated")),
        }
        let own = key("feed_key", &self.feed_key)?;
        if let Some(line) = &self.successor
            && key("successor", line)? == own
        {
            return Err("successor: is the feed key itself".to_owned());
        }
        let Files { user_ca, krl, known_hosts } = &self.files;
        for (file, found, max) in
            [(USER_CA, user_ca, MAX_KEYS), (KRL, krl, MAX_KRL), (KNOWN_HOSTS, known_hosts, MAX_KEYS)]
        {
            if found.size == 0 || found.size > u64::try_from(max).unwrap_or(u64::MAX) {
                return Err(format!("{file}: must have 1 to {max} bytes"));
            }
            let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            if found.sha256.len() != 64 || !found.sha256.bytes().all(is_hex) {
                return Err(format!("{file}: sha256 is no SHA-256 in small hexadecimal letters"));
            }
        }
        Ok(())
    }
}

/// `type base64` and nothing more: there is one way to write it.
fn key(name: &str, line: &str) -> Result<PublicKey, String> {
    let key = PublicKey::from_openssh(line).map_err(|e| format!("{name}: {e}"))?;
    if key.to_openssh("") == line { Ok(key) } else { Err(format!("{name}: must be a key's type and base64 alone")) }
}

pub(super) fn length(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}
