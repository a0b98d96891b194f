//! Revoked keys and certificates: OpenSSH's KRL (PROTOCOL.krl, krl.c) and the plain list (sshd's RevokedKeys), read; KRL written.

use crate::certificate::Certificate;
use crate::clock::UnixTime;
use crate::keys::PublicKey;

/// Why a revocation file is not usable. Each of these refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokedError {
    /// A file of zero bytes (sshd lets everybody in; we do not).
    #[error("the revocation list is empty")]
    Empty,
    /// Neither a KRL that reads to its end nor a plain list of keys.
    #[error("the revocation list is broken: {0}")]
    Malformed(&'static str),
}

/// What is revoked.
#[derive(Clone, Debug, Default)]
pub struct RevokedKeys {
    // the core helper chooses the fields
}

impl RevokedKeys {
    /// Reads a KRL (magic SSHKRL\n\0) or a plain list.
    /// # Errors
    /// [`RevokedError`]
    pub fn parse(data: &[u8]) -> Result<Self, RevokedError> {
        let _ = data;
        todo!()
    }
    /// Whether the certificate, its key, its CA, its serial or its key ID is revoked (krl.c `is_key_revoked`).
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        let _ = certificate;
        todo!()
    }
    /// `generated` of a KRL; `None` for a plain list.
    pub fn generated(&self) -> Option<UnixTime> {
        todo!()
    }
}

/// A KRL to be written.
#[derive(Clone, Debug)]
pub struct KrlTemplate {
    /// Monotone.
    pub version: u64,
    /// Seconds since the epoch.
    pub generated: UnixTime,
    /// At most 1 kB, printable ASCII.
    pub comment: String,
    /// Per CA: its revoked serials (0 is left out: it cannot be revoked by serial).
    pub serials: Vec<(PublicKey, Vec<u64>)>,
}

impl KrlTemplate {
    /// The KRL in OpenSSH's binary form (serial list sections).
    pub fn to_bytes(&self) -> Vec<u8> {
        todo!()
    }
}
