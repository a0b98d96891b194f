//! Making a certificate: only the signer does.

use crate::certificate::{Certificate, CertificateKind, CertificateOption};
use crate::clock::UnixTime;
use crate::keys::{KeyError, PrivateKey, PublicKey};

/// All that a new certificate says; the nonce is drawn when it is signed.
#[derive(Clone, Debug)]
pub struct CertificateTemplate {
    /// The key to certify.
    pub public_key: PublicKey,
    /// Never 0 (a KRL cannot revoke it).
    pub serial: u64,
    /// User or host.
    pub kind: CertificateKind,
    /// For users the canonical account name and nothing else.
    pub key_id: String,
    /// At least one.
    pub principals: Vec<String>,
    /// Seconds since the epoch, inclusive.
    pub valid_after: UnixTime,
    /// Seconds since the epoch, exclusive.
    pub valid_before: UnixTime,
    /// Sorted by name when written; `data` as it shall stand in the certificate.
    pub critical_options: Vec<CertificateOption>,
    /// Likewise.
    pub extensions: Vec<CertificateOption>,
}

/// Why no certificate was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// No principal, an empty one, one with a comma, NUL or control character, serial 0, or an end before the start.
    #[error("refused to sign: {0}")]
    Template(&'static str),
    /// The CA key could not sign.
    #[error("the CA key could not sign: {0}")]
    Key(#[from] KeyError),
}

impl CertificateTemplate {
    /// Signs with `ca`; what comes back has been parsed again and verifies.
    /// # Errors
    /// [`IssueError`]
    pub fn sign(self, ca: &PrivateKey) -> Result<Certificate, IssueError> {
        let _ = ca;
        todo!()
    }
}
