//! Private keys.

use std::sync::OnceLock;

use ::signature::Signer;
use zeroize::Zeroizing;

use super::{KeyError, PublicKey, short_number};

/// Bytes of salt, as sshkey.c SALT_LEN.
#[cfg(feature = "encryption")]
const SALT: usize = 16;
/// bcrypt_pbkdf's rounds: ssh-keygen's default since OpenSSH 9.4 (sshkey.c DEFAULT_ROUNDS).
#[cfg(feature = "encryption")]
const ROUNDS: u32 = 24;

/// A private key. `Debug` shows its public half only; the key material is wiped on drop.
pub struct PrivateKey {
    pub(crate) key: ssh_key::PrivateKey,
    public: PublicKey,
    /// An Ed25519 key as the curve's own crate has it, from the first signature on: made out of ssh-key's for each, it would compute the public half anew, which takes as long as to sign.
    /// It lies in here, not on the heap: whoever locks this locks it too. Wiped on drop.
    ed25519: OnceLock<ed25519_dalek::SigningKey>,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({} {})", self.public.short_type(), self.public.fingerprint())
    }
}

/// Whoever signs for a key: the key itself, or an agent that holds it.
pub trait SigningKey {
    /// The public half.
    fn public_key(&self) -> PublicKey;
    /// Signs; RSA keys with rsa-sha2-512. Result in wire form.
    /// # Errors
    /// [`KeyError`]
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

impl SigningKey for PrivateKey {
    fn public_key(&self) -> PublicKey {
        PrivateKey::public_key(self)
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        PrivateKey::sign(self, message)
    }
}

impl PrivateKey {
    /// A fresh Ed25519 key from the system's random numbers.
    /// # Errors
    /// [`KeyError::Malformed`] if no random numbers could be had.
    pub fn generate_ed25519() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| KeyError::Malformed)?;
        Self::ed25519_from_seed(&seed)
    }

    /// The Ed25519 key of a seed (RFC 8032 §5.1.5).
    /// # Errors
    /// None that can be; the type is that of the others.
    pub fn ed25519_from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        Self::wrap(ssh_key::PrivateKey::from(ssh_key::private::Ed25519Keypair::from_seed(seed)))
    }

    /// The ECDSA key on P-256 of a number: big-endian, without leading zeros, at most 32 bytes.
    /// # Errors
    /// [`KeyError::Malformed`]: it is 0, or not below the curve's order.
    pub fn ecdsa_p256_from_number(digits: &[u8]) -> Result<Self, KeyError> {
        let mut number = Zeroizing::new([0; 32]);
        let start = number.len().checked_sub(digits.len()).ok_or(KeyError::Malformed)?;
        number.get_mut(start..).ok_or(KeyError::Malformed)?.copy_from_slice(digits);
        let secret = p256::SecretKey::from_slice(number.as_slice()).map_err(|_| KeyError::Malformed)?;
        Self::from_p256(secret)
    }

    fn from_p256(secret: p256::SecretKey) -> Result<Self, KeyError> {
        let pair =
            ssh_key::private::EcdsaKeypair::NistP256 { public: secret.public_key().into(), private: secret.into() };
        Self::wrap(ssh_key::PrivateKey::from(pair))
    }

    /// A fresh ECDSA key on P-256 from the system's random numbers.
    /// # Errors
    /// [`KeyError::Malformed`] if no random numbers could be had.
    pub fn generate_ecdsa_p256() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        loop {
            getrandom::fill(seed.as_mut_slice()).map_err(|_| KeyError::Malformed)?;
            // Refused are 0 and what is not below the curve's order: one draw in four thousand millions.
            if let Ok(secret) = p256::SecretKey::from_slice(seed.as_slice()) {
                return Self::from_p256(secret);
            }
        }
    }

    /// From OpenSSH's private key format (`-----BEGIN OPENSSH PRIVATE KEY-----`), unencrypted.
    /// # Errors
    /// [`KeyError`]
    pub fn from_openssh(pem: &str) -> Result<Self, KeyError> {
        match ssh_key::PrivateKey::from_openssh(pem) {
            Ok(key) => Self::wrap(key),
            Err(_) => short_number::from_openssh(pem).ok_or(KeyError::Malformed),
        }
    }

    /// From OpenSSH's private key format, encrypted by a passphrase or not (then the passphrase is not looked at).
    /// # Errors
    /// [`KeyError::WrongPassphrase`], or as [`Self::from_openssh`].
    #[cfg(feature = "encryption")]
    pub fn from_openssh_encrypted(pem: &str, passphrase: &str) -> Result<Self, KeyError> {
        let key = match ssh_key::PrivateKey::from_openssh(pem) {
            Ok(key) if key.is_encrypted() => key,
            _ => return Self::from_openssh(pem),
        };
        match key.decrypt(passphrase) {
            Ok(key) => Self::wrap(key),
            Err(_) => short_number::decrypt(&key, passphrase).ok_or(KeyError::WrongPassphrase),
        }
    }

    /// To OpenSSH's private key format, encrypted (aes256-ctr, bcrypt), with a final newline.
    /// # Errors
    /// [`KeyError`]
    #[cfg(feature = "encryption")]
    pub fn to_openssh_encrypted(&self, comment: &str, passphrase: &str) -> Result<Zeroizing<String>, KeyError> {
        use ssh_key::{Cipher, Kdf, LineEnding};
        let mut named = self.key.clone();
        named.set_comment(comment);
        let (mut salt, mut check) = (vec![0; SALT], [0; 4]);
        getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut check)).map_err(|_| KeyError::Malformed)?;
        let kdf = Kdf::Bcrypt { salt, rounds: ROUNDS };
        let encrypted = named
            .encrypt_with(Cipher::Aes256Ctr, kdf, u32::from_be_bytes(check), passphrase)
            .map_err(|_| KeyError::Malformed)?;
        encrypted.to_openssh(LineEnding::LF).map_err(|_| KeyError::Malformed)
    }

    fn wrap(key: ssh_key::PrivateKey) -> Result<Self, KeyError> {
        if key.is_encrypted() {
            return Err(KeyError::Encrypted);
        }
        let public = PublicKey::from_blob(&key.public_key().to_bytes().map_err(|_| KeyError::Malformed)?)?;
        Ok(PrivateKey { key, public, ed25519: OnceLock::new() })
    }

    /// To OpenSSH's private key format, unencrypted, with a final newline.
    /// # Errors
    /// [`KeyError`]
    pub fn to_openssh(&self, comment: &str) -> Result<Zeroizing<String>, KeyError> {
        let mut named = self.key.clone();
        named.set_comment(comment);
        named.to_openssh(ssh_key::LineEnding::LF).map_err(|_| KeyError::Malformed)
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    /// Signs; RSA keys with rsa-sha2-512. Result in wire form.
    /// # Errors
    /// [`KeyError`]
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signed = match self.key.key_data().ed25519() {
            Some(pair) => {
                let signature = self.ed25519(pair)?.try_sign(message).map_err(|_| KeyError::BadSignature)?;
                ssh_key::Signature::new(ssh_key::Algorithm::Ed25519, signature.to_bytes())
                    .map_err(|_| KeyError::BadSignature)?
            }
            None => self.key.try_sign(message).map_err(|_| KeyError::BadSignature)?,
        };
        Vec::try_from(signed).map_err(|_| KeyError::BadSignature)
    }

    /// A pair whose halves do not belong together never signs: such signatures would tell the private half.
    fn ed25519(&self, pair: &ssh_key::private::Ed25519Keypair) -> Result<&ed25519_dalek::SigningKey, KeyError> {
        if let Some(key) = self.ed25519.get() {
            return Ok(key);
        }
        let key = ed25519_dalek::SigningKey::try_from(pair).map_err(|_| KeyError::BadSignature)?;
        Ok(self.ed25519.get_or_init(|| key))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys::FidoDemand;

    #[test]
    fn an_ed25519_key_signs_as_ssh_key_does_and_each_time_the_same() {
        let key = PrivateKey::ed25519_from_seed(&[7; 32]).unwrap();
        let theirs = Vec::try_from(key.key.try_sign(b"message").unwrap()).unwrap();
        for _ in 0..2 {
            assert_eq!(key.sign(b"message").unwrap(), theirs);
        }
        assert_eq!(key.public_key().verify(b"message", &theirs, FidoDemand::Presence), Ok(()));
    }

    #[test]
    fn a_pair_whose_halves_do_not_belong_together_signs_nothing() {
        let [one, other] = [7, 8].map(|byte| ssh_key::private::Ed25519Keypair::from_seed(&[byte; 32]));
        let pair = ssh_key::private::Ed25519Keypair { public: other.public, private: one.private };
        let key = PrivateKey::wrap(ssh_key::PrivateKey::from(pair)).unwrap();
        assert_eq!(key.sign(b"message"), Err(KeyError::BadSignature));
    }
}
