//! What a host signs, and what the CA signs in answer.

use serde::{Deserialize, Serialize};

use super::{ANSWER_NAMESPACE, NAMESPACE, NONCE_LEN, VERSION, Verb};
use crate::keys::{FidoDemand, KeyError, PrivateKey, PublicKey};
use crate::sshsig::signed_data;
use crate::wire::WireWrite;

/// Most keys of a host.
pub const MAX_KEYS: usize = 8;
/// Most names of a host.
pub const MAX_NAMES: usize = 64;

/// A key and its signature over the proof's message, both in wire form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The public key.
    pub key: Vec<u8>,
    /// The signature inside an SSHSIG.
    pub signature: Vec<u8>,
}

/// What a host claims to be, and the signatures that show it. Untrusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The token's key: to enroll, and for nothing else.
    pub token: Option<Signed>,
    /// Names that are asked for; none: as many as there are to have.
    pub names: Vec<String>,
    /// The host's keys, 1 to [`MAX_KEYS`].
    pub keys: Vec<Signed>,
}

/// What is wrong with a proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// None, too many, or one twice.
    #[error("a host proves 1 to {MAX_KEYS} keys, each once, and asks for {MAX_NAMES} names at most")]
    Count,
    /// A key that cannot be a host's.
    #[error("no host key: {0}")]
    Key(KeyError),
    /// A key that a person must touch.
    #[error("a key that a person must touch cannot be a host key")]
    Fido,
    /// A token where none belongs, or none where one does.
    #[error("a token is for enrolling, and enrolling takes one")]
    Token,
    /// A signature that is not this key's over this nonce, these names and these keys.
    #[error("the signature by {fingerprint} is not good for this: {error}")]
    Signature {
        /// Of the key.
        fingerprint: String,
        /// Why.
        error: KeyError,
    },
}

/// What a host said of itself, each word of it signed by the token and by each key. Nothing but [`Claims::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    token: Option<String>,
    names: Vec<String>,
    keys: Vec<PublicKey>,
}

/// The message under all the signatures of a proof, in the data types of RFC 4251 §5:
///
/// ```text
/// byte    version   1
/// string  verb      "enroll", …
/// string  nonce     32 random bytes
/// string  token     the token's public key, or empty
/// string  names     each a string
/// string  keys      each a string: the public key
/// ```
#[derive(Debug)]
pub struct Claims<'a> {
    /// What is asked for.
    pub verb: Verb,
    /// The CA's.
    pub nonce: &'a [u8; NONCE_LEN],
    /// Names that are asked for.
    pub names: &'a [String],
}

impl Claims<'_> {
    fn message(&self, token: Option<&[u8]>, keys: &[&[u8]]) -> Vec<u8> {
        let mut message = vec![VERSION];
        message.put_string(self.verb.name().as_bytes());
        message.put_string(self.nonce);
        message.put_string(token.unwrap_or_default());
        message.put_string(&strings(self.names.iter().map(String::as_bytes)));
        message.put_string(&strings(keys.iter().copied()));
        message
    }

    /// Signs with the token, if there is one, and with each key.
    /// # Errors
    /// [`KeyError`]
    pub fn sign(&self, token: Option<&PrivateKey>, keys: &[PrivateKey]) -> Result<Proof, KeyError> {
        let blob = |key: &PrivateKey| key.public_key().to_blob();
        let (token_blob, blobs) = (token.map(blob), keys.iter().map(blob).collect::<Vec<_>>());
        let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
        let data = signed_data(NAMESPACE, &self.message(token_blob.as_deref(), &blobs));
        let sign = |key: &PrivateKey| Ok(Signed { key: blob(key), signature: key.sign(&data)? });
        Ok(Proof {
            token: token.map(sign).transpose()?,
            names: self.names.to_vec(),
            keys: keys.iter().map(sign).collect::<Result<_, KeyError>>()?,
        })
    }

    /// Checks every signature of the proof, whose names must be these claims'.
    /// # Errors
    /// [`ProofError`]
    pub fn verify(&self, proof: &Proof) -> Result<Proven, ProofError> {
        let blobs: Vec<&[u8]> = proof.keys.iter().map(|signed| signed.key.as_slice()).collect();
        let is_twice = |(position, blob): (usize, &&[u8])| blobs.iter().take(position).any(|earlier| earlier == blob);
        let fits = (1..=MAX_KEYS).contains(&blobs.len()) && self.names.len() <= MAX_NAMES && self.names == proof.names;
        if !fits || blobs.iter().enumerate().any(is_twice) {
            return Err(ProofError::Count);
        }
        if proof.token.is_some() != (self.verb == Verb::Enroll) {
            return Err(ProofError::Token);
        }
        let token = proof.token.as_ref().map(|signed| signed.key.as_slice());
        let data = signed_data(NAMESPACE, &self.message(token, &blobs));
        let check = |signed: &Signed| -> Result<PublicKey, ProofError> {
            let key = PublicKey::from_blob(&signed.key).map_err(ProofError::Key)?;
            if key.is_fido() {
                return Err(ProofError::Fido);
            }
            let verified = key.verify(&data, &signed.signature, FidoDemand::Presence);
            verified.map_err(|error| ProofError::Signature { fingerprint: key.fingerprint(), error })?;
            Ok(key)
        };
        let token = proof.token.as_ref().map(check).transpose()?;
        let keys: Vec<PublicKey> = proof.keys.iter().map(check).collect::<Result<_, _>>()?;
        // A token that is its own host key would be one secret for two things.
        if token.as_ref().is_some_and(|token| keys.contains(token)) {
            return Err(ProofError::Token);
        }
        Ok(Proven { token: token.map(|key| key.fingerprint()), names: self.names.to_vec(), keys })
    }
}

impl Proven {
    /// The fingerprint of the token's key; there is one where the verb is to enroll, and only there.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Names that are asked for; none: as many as there are to have.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The host's keys, no two alike.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }
}

/// What a host is given, in OpenSSH's text forms. The host CA signs it:
///
/// ```text
/// byte    version        1
/// string  nonce          of this exchange
/// string  host           its name in the inventory
/// string  certificates   each a string: its line
/// string  user_ca        each a string: its line
/// string  known_hosts    the line
/// string  feed_key       the line, or empty
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its name in the inventory.
    pub host: String,
    /// One for each key, in their order.
    pub certificates: Vec<String>,
    /// Whose user certificates it is to trust.
    pub user_ca: Vec<String>,
    /// `@cert-authority …`: for its own known_hosts.
    pub known_hosts: String,
    /// The feed's, if this CA has one.
    pub feed_key: Option<String>,
    /// The host CA's signature over all of it, in wire form.
    pub signature: Vec<u8>,
}

impl Grant {
    /// What the host CA signs.
    pub fn signed_data(&self, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
        let lines = |lines: &[String]| strings(lines.iter().map(String::as_bytes));
        let mut message = vec![VERSION];
        message.put_string(nonce);
        message.put_string(self.host.as_bytes());
        message.put_string(&lines(&self.certificates));
        message.put_string(&lines(&self.user_ca));
        message.put_string(self.known_hosts.as_bytes());
        message.put_string(self.feed_key.as_deref().unwrap_or_default().as_bytes());
        signed_data(ANSWER_NAMESPACE, &message)
    }
}

fn strings<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    values.for_each(|value| out.put_string(value));
    out
}
