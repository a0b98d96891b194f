//! Plain keys and signatures. Wraps `ssh-key`, so that no other crate of ours sees which version it is.

/// What is wrong with a key or a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a key in OpenSSH's format, or trailing bytes.
    #[error("malformed key")]
    Malformed,
    /// A certificate stands where a plain key must.
    #[error("a certificate, not a plain key")]
    IsCertificate,
    /// A type that is not taken (ssh-dss, unknown names).
    #[error("key type {0} is not supported")]
    UnsupportedType(String),
    /// RSA below 2048 bits.
    #[error("RSA key of {0} bits is too short")]
    TooShort(u32),
    /// The signature's algorithm is not allowed for this key (ssh-rsa with SHA-1, another key type's).
    #[error("signature algorithm {0} is not allowed")]
    SignatureAlgorithm(String),
    /// The signature is malformed or does not verify.
    #[error("bad signature")]
    BadSignature,
    /// A FIDO signature without the user-presence flag.
    #[error("the key was not touched")]
    NoUserPresence,
    /// A FIDO signature without user verification where it is demanded.
    #[error("the key did not verify its user")]
    NoUserVerification,
}

/// A plain public key (never a certificate).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub(crate) data: ssh_key::public::KeyData,
}

/// What a signature by a FIDO key must show. Ignored for other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FidoDemand {
    /// A touch (user presence).
    Presence,
    /// A touch and a PIN or fingerprint (user verification, `verify-required`).
    Verification,
}

impl PublicKey {
    /// From the wire form (RFC 4253 §6.6), whole.
    /// # Errors
    /// [`KeyError`]
    pub fn from_blob(blob: &[u8]) -> Result<Self, KeyError> {
        let _ = blob;
        todo!()
    }
    /// From one line `type base64 [comment]`.
    /// # Errors
    /// [`KeyError`]
    pub fn from_openssh(line: &str) -> Result<Self, KeyError> {
        let _ = line;
        todo!()
    }
    /// The wire form.
    pub fn to_blob(&self) -> Vec<u8> {
        todo!()
    }
    /// `type base64 comment`, no newline. An empty comment adds no space.
    pub fn to_openssh(&self, comment: &str) -> String {
        let _ = comment;
        todo!()
    }
    /// `SHA256:` and unpadded base64, as ssh-keygen -l prints it.
    pub fn fingerprint(&self) -> String {
        todo!()
    }
    /// The key's type as in its wire form, `ssh-ed25519` for instance.
    pub fn type_name(&self) -> &str {
        todo!()
    }
    /// OpenSSH's short name for logs: ED25519, ECDSA, RSA, ED25519-SK, ECDSA-SK.
    pub fn short_type(&self) -> &'static str {
        todo!()
    }
    /// Whether a person must touch it to sign (sk-… types).
    pub fn is_fido(&self) -> bool {
        todo!()
    }
    /// Checks `signature` (wire form: string algorithm, string data, for FIDO flags and counter) over `message`.
    /// Algorithms: those of OpenSSH's default CASignatureAlgorithms that fit the key; RSA with SHA-1 is refused.
    /// # Errors
    /// [`KeyError`]
    pub fn verify(&self, message: &[u8], signature: &[u8], fido: FidoDemand) -> Result<(), KeyError> {
        let _ = (message, signature, fido);
        todo!()
    }
}

/// A private key. `Debug` shows its public half only; the key material is wiped on drop.
pub struct PrivateKey {
    pub(crate) key: ssh_key::PrivateKey,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(***)")
    }
}

impl PrivateKey {
    /// A fresh Ed25519 key from the system's random numbers.
    /// # Errors
    /// [`KeyError::Malformed`] if no random numbers could be had.
    pub fn generate_ed25519() -> Result<Self, KeyError> {
        todo!()
    }
    /// From OpenSSH's private key format (`-----BEGIN OPENSSH PRIVATE KEY-----`), unencrypted.
    /// # Errors
    /// [`KeyError`]
    pub fn from_openssh(pem: &str) -> Result<Self, KeyError> {
        let _ = pem;
        todo!()
    }
    /// To OpenSSH's private key format, unencrypted, with a final newline.
    /// # Errors
    /// [`KeyError`]
    pub fn to_openssh(&self, comment: &str) -> Result<zeroize::Zeroizing<String>, KeyError> {
        let _ = comment;
        todo!()
    }
    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        todo!()
    }
    /// Signs; RSA keys with rsa-sha2-512. Result in wire form.
    /// # Errors
    /// [`KeyError`]
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let _ = message;
        todo!()
    }
}
