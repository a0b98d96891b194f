//! Private keys.

use ::signature::Signer;
use zeroize::Zeroizing;

use super::{KeyError, PublicKey};

/// A private key. `Debug` shows its public half only; the key material is wiped on drop.
pub struct PrivateKey {
    pub(crate) key: ssh_key::PrivateKey,
    public: PublicKey,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({} {})", self.public.short_type(), self.public.fingerprint())
    }
}

impl PrivateKey {
    /// A fresh Ed25519 key from the system's random numbers.
    /// # Errors
    /// [`KeyError::Malformed`] if no random numbers could be had.
    pub fn generate_ed25519() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| KeyError::Malformed)?;
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&seed);
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
                let pair = ssh_key::private::EcdsaKeypair::NistP256 {
                    public: secret.public_key().into(),
                    private: secret.into(),
                };
                return Self::wrap(ssh_key::PrivateKey::from(pair));
            }
        }
    }

    /// From OpenSSH's private key format (`-----BEGIN OPENSSH PRIVATE KEY-----`), unencrypted.
    /// # Errors
    /// [`KeyError`]
    pub fn from_openssh(pem: &str) -> Result<Self, KeyError> {
        Self::wrap(ssh_key::PrivateKey::from_openssh(pem).map_err(|_| KeyError::Malformed)?)
    }

    fn wrap(key: ssh_key::PrivateKey) -> Result<Self, KeyError> {
        if key.is_encrypted() {
            return Err(KeyError::Encrypted);
        }
        let public = PublicKey::from_blob(&key.public_key().to_bytes().map_err(|_| KeyError::Malformed)?)?;
        Ok(PrivateKey { key, public })
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
        let signed = self.key.try_sign(message).map_err(|_| KeyError::BadSignature)?;
        Vec::try_from(signed).map_err(|_| KeyError::BadSignature)
    }
}
