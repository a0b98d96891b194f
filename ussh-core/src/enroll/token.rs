//! A host token: the right to enroll one host, once.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

use crate::digest::sha256;
use crate::keys::{KeyError, PrivateKey, PublicKey};

/// What each token begins with, so that people and scanners of repositories know one.
const PREFIX: &str = "ussh-host-";
/// Bytes of the seed, and of the host CA's digest behind it.
const SEED: usize = 32;

/// A token: the seed of an Ed25519 key, and the SHA-256 of the host CA's key, by which the new host knows its CA. The CA keeps the fingerprint of the public half and nothing else.
///
/// `Debug` shows nothing of it; it is wiped on drop.
pub struct HostToken {
    seed: Zeroizing<[u8; SEED]>,
    host_ca: [u8; 32],
}

impl fmt::Debug for HostToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostToken(***)")
    }
}

impl HostToken {
    /// From the system's random numbers.
    /// # Errors
    /// It has none.
    pub fn generate(host_ca: &PublicKey) -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; SEED]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(HostToken { seed, host_ca: sha256(host_ca.blob()) })
    }

    /// What [`Self::to_text`] wrote, blanks around it or not. `None`: no token.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.trim().strip_prefix(PREFIX)?;
        let mut bytes = Zeroizing::new([0; SEED + 32]);
        let decoded = Base64UrlUnpadded::decode(encoded, bytes.as_mut_slice()).ok()?;
        let (seed, host_ca) = decoded.split_first_chunk()?;
        Some(HostToken { seed: Zeroizing::new(*seed), host_ca: host_ca.try_into().ok()? })
    }

    /// `ussh-host-` and letters, digits, `-` and `_`: one word in any shell.
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new([self.seed.as_slice(), &self.host_ca].concat());
        let encoded = Zeroizing::new(Base64UrlUnpadded::encode_string(&bytes));
        Zeroizing::new([PREFIX, &encoded].concat())
    }

    /// The key that signs for it.
    /// # Errors
    /// [`KeyError`]
    pub fn key(&self) -> Result<PrivateKey, KeyError> {
        PrivateKey::ed25519_from_seed(&self.seed)
    }

    /// SHA-256 of the key of the CA's host CA. It is no secret.
    pub fn host_ca_digest(&self) -> &[u8; 32] {
        &self.host_ca
    }

    /// Whether this is the host CA of the CA that made it.
    pub fn is_of(&self, host_ca: &PublicKey) -> bool {
        self.host_ca == sha256(host_ca.blob())
    }
}
