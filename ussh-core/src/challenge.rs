//! Proof that whoever answers holds the certificate's private key: an SSHSIG (PROTOCOL.sshsig) in a namespace of our
//! own.
//!
//! The message, in the data types of RFC 4251 §5:
//!
//! ```text
//! byte    version        1
//! string  nonce          32 random bytes
//! string  host           name of the machine that asks
//! string  service        PAM service, or "ussh-hostd"
//! string  user           PAM_USER
//! string  ruser          PAM_RUSER, may be empty
//! string  tty            PAM_TTY, may be empty
//! string  certificate    SHA-256 over the certificate's wire form, 32 bytes
//! uint64  time           seconds since the Unix epoch
//! ```
//!
//! What is signed is what `ssh-keygen -Y sign -n pam-ussh@ussh` would sign of that message with SHA-512. It begins with
//! `SSHSIG`, where a login's begins with the length of a session identifier, so that neither passes for the other.
//!
//! An SSHSIG shows the agent a hash only. One that knows the extension `challenge@ussh` is sent the message itself ([`ChallengeMessage`]) and makes the same SSHSIG of it: docs/challenge.md.

use std::fmt;

use crate::certificate::Certificate;
use crate::clock::UnixTime;
use crate::digest::sha256;
use crate::escape::escape_word;
use crate::keys::KeyError;
use crate::sshsig::{self, HASH, PREAMBLE};
use crate::verdict::VerifiedCertificate;
use crate::wire::{Reader, WireError, WireWrite};

/// SSHSIG namespace of the challenge.
pub const NAMESPACE: &str = "pam-ussh@ussh";

/// First byte of the message.
pub const VERSION: u8 = 1;

/// Bytes of the nonce.
const NONCE_LEN: usize = 32;

/// Bytes of what [`HASH`] gives.
const HASH_LEN: usize = 64;

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

/// Longest name in a message (host, service, user, PAM_RUSER, tty), bytes. None is as long; an agent shows them to a person.
pub const MAX_NAME: usize = 1024;

/// A message, read: what an agent is asked to sign when it is sent in clear. All of it is the asking host's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeMessage {
    /// Who asks, for whom, where.
    pub context: ChallengeContext,
    /// SHA-256 over the certificate's wire form.
    pub certificate_digest: [u8; 32],
    /// The bytes.
    message: Vec<u8>,
}

impl ChallengeMessage {
    /// Reads it to its last byte. `None`: not a message of [`VERSION`], or with a name that is no text or longer than [`MAX_NAME`].
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(message);
        if reader.byte().ok()? != VERSION || reader.string().ok()?.len() != NONCE_LEN {
            return None;
        }
        let mut name = || {
            let bytes = reader.string().ok().filter(|bytes| bytes.len() <= MAX_NAME)?;
            String::from_utf8(bytes.to_vec()).ok()
        };
        let (host, service, user, ruser, tty) = (name()?, name()?, name()?, name()?, name()?);
        let certificate_digest = reader.string().ok()?.try_into().ok()?;
        let now = UnixTime(reader.u64().ok()?);
        reader.finish().ok()?;
        let context = ChallengeContext { host, service, user, ruser, tty, now };
        Some(ChallengeMessage { context, certificate_digest, message: message.to_vec() })
    }

    /// Whether it is for this certificate (wire form). An agent signs no other: its person would be shown one certificate and prove another of the same key.
    pub fn is_for(&self, certificate_blob: &[u8]) -> bool {
        self.certificate_digest == sha256(certificate_blob)
    }

    /// What is to be signed: the same as [`Challenge::signed_data`] on the other side.
    pub fn signed_data(&self) -> Vec<u8> {
        signed_data(&self.message)
    }
}

/// For a person: `web1: sudo as alice on /dev/pts/3`. Each name escaped, blanks too, so that none goes on as another sentence, and cut to 64 bytes.
impl fmt::Display for ChallengeMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str| escape_word(name.as_bytes(), 64);
        let ChallengeContext { host, service, user, ruser, tty, .. } = &self.context;
        write!(f, "{}: {} as {}", shown(host), shown(service), shown(user))?;
        if !ruser.is_empty() && ruser != user {
            write!(f, ", asked by {}", shown(ruser))?;
        }
        if !tty.is_empty() {
            write!(f, " on {}", shown(tty))?;
        }
        Ok(())
    }
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
    /// Draws 32 random bytes. The certificate need not be judged yet: only [`Challenge::check`] makes a proof, and there it must be.
    /// # Errors
    /// When the system has no random numbers: a check that could not be made.
    pub fn new(certificate: &Certificate, context: &ChallengeContext) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let certificate_digest = certificate.digest();
        Ok(Challenge { message: message(&nonce, context, &certificate_digest), certificate_digest })
    }

    /// The message: {version, nonce, host, service, user, ruser, tty, SHA-256 of the certificate, time}.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// What the agent signs: SSHSIG preamble, namespace, reserved, sha512, SHA-512 of the message.
    pub fn signed_data(&self) -> Vec<u8> {
        signed_data(&self.message)
    }

    /// Checks the agent's signature (wire form) with the certificate's key; consumes the challenge. A FIDO key must
    /// show a touch, and its user's PIN or fingerprint if the certificate says `verify-required`.
    /// # Errors
    /// [`KeyError`]; [`KeyError::BadSignature`] also for a certificate that was not challenged.
    pub fn check(self, certificate: &VerifiedCertificate, signature: &[u8]) -> Result<PossessionProof, KeyError> {
        if certificate.certificate().digest() != self.certificate_digest {
            return Err(KeyError::BadSignature);
        }
        let key = certificate.certificate().public_key();
        key.verify(&self.signed_data(), signature, certificate.fido_demand())?;
        Ok(PossessionProof { certificate_digest: self.certificate_digest })
    }
}

impl PossessionProof {
    /// Whether it was made for this certificate.
    pub fn is_for(&self, certificate: &VerifiedCertificate) -> bool {
        self.certificate_digest == certificate.certificate().digest()
    }
}

fn message(nonce: &[u8; NONCE_LEN], context: &ChallengeContext, certificate_digest: &[u8; 32]) -> Vec<u8> {
    let mut message = vec![VERSION];
    message.put_string(nonce);
    message.put_string(context.host.as_bytes());
    message.put_string(context.service.as_bytes());
    message.put_string(context.user.as_bytes());
    message.put_string(context.ruser.as_bytes());
    message.put_string(context.tty.as_bytes());
    message.put_string(certificate_digest);
    message.put_u64(context.now.0);
    message
}

fn signed_data(message: &[u8]) -> Vec<u8> {
    sshsig::signed_data(NAMESPACE, message)
}

/// Whether `data`, brought for signing, is a challenge and nothing else, to its last byte. An SSHSIG shows only a
/// hash: who asks, and for what, cannot be seen in it.
pub fn is_challenge(data: &[u8]) -> bool {
    let read = || -> Result<bool, WireError> {
        let mut reader = Reader::new(data);
        let is_ours = reader.take(PREAMBLE.len())? == PREAMBLE
            && reader.string()? == NAMESPACE.as_bytes()
            && reader.string()?.is_empty()
            && reader.string()? == HASH.as_bytes()
            && reader.string()?.len() == HASH_LEN;
        Ok(is_ours && reader.rest().is_empty())
    };
    read().unwrap_or(false)
}

#[cfg(test)]
#[path = "challenge_tests.rs"]
mod tests;
