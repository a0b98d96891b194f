//! Proof that whoever answers holds the certificate's private key: an SSHSIG (PROTOCOL.sshsig) in a namespace of our own.

use crate::clock::UnixTime;
use crate::keys::KeyError;
use crate::verdict::VerifiedCertificate;

/// SSHSIG namespace of the challenge.
pub const NAMESPACE: &str = "pam-ussh@ussh";

/// What is asked, and by whom: all of it is under the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeContext {
    /// Host name of the machine that asks.
    pub host: String,
    /// PAM service (`sudo`), or `ussh-hostd`.
    pub service: String,
    /// PAM_USER.
    pub user: String,
    /// PAM_RUSER, may be empty.
    pub ruser: String,
    /// PAM_TTY, may be empty.
    pub tty: String,
    /// When.
    pub now: UnixTime,
}

/// One challenge for one certificate, good once.
#[derive(Debug)]
#[must_use]
pub struct Challenge {
    message: Vec<u8>,
    certificate_digest: [u8; 32],
}

/// Proof of possession. Nothing but [`Challenge::check`] makes one.
#[derive(Debug)]
#[must_use]
pub struct PossessionProof {
    certificate_digest: [u8; 32],
}

impl Challenge {
    /// Draws 32 random bytes.
    /// # Errors
    /// When the system has no random numbers: a check that could not be made.
    pub fn new(certificate: &VerifiedCertificate, context: &ChallengeContext) -> Result<Self, getrandom::Error> {
        let _ = (certificate, context);
        todo!()
    }
    /// The message: {version, nonce, host, service, user, ruser, tty, SHA-256 of the certificate, time}.
    pub fn message(&self) -> &[u8] {
        &self.message
    }
    /// What the agent signs: SSHSIG preamble, namespace, reserved, sha512, SHA-512 of the message.
    pub fn signed_data(&self) -> Vec<u8> {
        todo!()
    }
    /// Checks the agent's signature (wire form) with the certificate's key; consumes the challenge.
    /// # Errors
    /// [`KeyError`]
    pub fn check(self, certificate: &VerifiedCertificate, signature: &[u8]) -> Result<PossessionProof, KeyError> {
        let _ = (certificate, signature);
        todo!()
    }
}

impl PossessionProof {
    /// Whether it was made for this certificate.
    pub fn is_for(&self, certificate: &VerifiedCertificate) -> bool {
        self.certificate_digest == certificate.certificate().digest()
    }
}
