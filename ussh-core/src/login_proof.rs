//! Proof to the CA that whoever is connected holds a key: an SSHSIG (PROTOCOL.sshsig) in a namespace of its own, over a message that the signer made for this one question.
//!
//! The message, in the data types of RFC 4251 §5:
//!
//! ```text
//! byte    version      1
//! string  nonce        32 random bytes
//! string  ca           fingerprint of the user CA's key, SHA256:…
//! uint64  connection   the CA's number of this connection
//! string  user         canonical account name
//! string  purpose      "login" or "client-key"
//! string  key          SHA-256 over the wire form of the key that is to sign, 32 bytes
//! uint64  time         seconds since the Unix epoch
//! ```
//!
//! What is signed is what `ssh-keygen -Y sign -n login@ussh` would sign of that message with SHA-512. It passes for no login at a server and for no challenge of `pam_ussh`: both say something
//! else where the namespace stands here.

use crate::clock::UnixTime;
use crate::digest::sha256;
use crate::keys::{FidoDemand, KeyError, PublicKey};
use crate::sshsig;
use crate::wire::{Reader, WireWrite};

/// SSHSIG namespace of the proof.
pub const NAMESPACE: &str = "login@ussh";

/// First byte of the message.
const VERSION: u8 = 1;

/// Bytes of the nonce.
const NONCE_LEN: usize = 32;

/// Longest message that is signed, in bytes.
const MAX_MESSAGE: usize = 1024;

/// What a key is to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// That its owner is there: a registered key.
    Login,
    /// That its owner wants it certified.
    ClientKey,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Purpose::Login => "login",
            Purpose::ClientKey => "client-key",
        }
    }
}

/// What is asked: all of it is under the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginContext {
    /// Fingerprint of the user CA's key, so that no other CA can pass the question on.
    pub ca: String,
    /// Number of the connection.
    pub connection: u64,
    /// Canonical account name.
    pub user: String,
    /// What for.
    pub purpose: Purpose,
    /// When.
    pub now: UnixTime,
}

/// One question to one key, good once.
#[derive(Debug)]
#[must_use]
pub struct LoginChallenge {
    message: Vec<u8>,
    key: PublicKey,
    purpose: Purpose,
}

/// Proof that the key's owner answered. Nothing but [`LoginChallenge::check`] makes one.
#[derive(Debug)]
#[must_use]
pub struct LoginProof {
    key: PublicKey,
    purpose: Purpose,
}

impl LoginChallenge {
    /// Draws 32 random bytes.
    /// # Errors
    /// When the system has no random numbers: a check that could not be made.
    pub fn new(key: PublicKey, context: &LoginContext) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let mut message = vec![VERSION];
        message.put_string(&nonce);
        message.put_string(context.ca.as_bytes());
        message.put_u64(context.connection);
        message.put_string(context.user.as_bytes());
        message.put_string(context.purpose.as_str().as_bytes());
        message.put_string(&sha256(key.blob()));
        message.put_u64(context.now.0);
        Ok(LoginChallenge { message, key, purpose: context.purpose })
    }

    /// The message, for whoever has it signed.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Checks the signature (wire form); consumes the question. A FIDO key must show a touch.
    /// # Errors
    /// [`KeyError`]
    pub fn check(self, signature: &[u8]) -> Result<LoginProof, KeyError> {
        let data = sshsig::signed_data(NAMESPACE, &self.message);
        self.key.verify(&data, signature, FidoDemand::Presence)?;
        Ok(LoginProof { key: self.key, purpose: self.purpose })
    }
}

impl LoginProof {
    /// The key that signed.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// What for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }
}

/// What an agent is asked to sign for a message of the signer's; `None` for what is no such message about this key and purpose. A front has nothing else signed by a user's agent.
pub fn signed_data(message: &[u8], key: &PublicKey, purpose: Purpose) -> Option<Vec<u8>> {
    let mut reader = Reader::new(message);
    let is_ours = message.len() <= MAX_MESSAGE
        && reader.byte().ok()? == VERSION
        && reader.string().ok()?.len() == NONCE_LEN
        && reader.string().ok()?.starts_with(b"SHA256:")
        && reader.u64().is_ok()
        && !reader.string().ok()?.is_empty()
        && reader.string().ok()? == purpose.as_str().as_bytes()
        && reader.string().ok()? == sha256(key.blob())
        && reader.u64().is_ok()
        && reader.rest().is_empty();
    is_ours.then(|| sshsig::signed_data(NAMESPACE, message))
}

#[cfg(test)]
#[path = "login_proof_tests.rs"]
mod tests;
