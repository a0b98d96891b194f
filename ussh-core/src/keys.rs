//! Plain keys and signatures. Wraps `ssh-key`, so that no other crate of ours sees which version it is.
//!
//! A key's type is looked up in our own table before anything else of it is read: a certificate is turned away by its name alone, so nothing nested is ever parsed (CVE-2025-49825).

mod key_type;
mod private;
mod short_number;
mod signature;
#[cfg(test)]
mod tests;

use base64ct::{Base64, Base64Unpadded, Encoding};
use ssh_key::Mpint;
use ssh_key::encoding::Encode;
use ssh_key::public::KeyData;

pub(crate) use self::key_type::{KeyType, is_certificate_name};
pub use self::private::{PrivateKey, SigningKey};
pub use self::signature::FidoDemand;
use crate::digest::sha256;
use crate::escape::escape_word;
use crate::wire::Reader;

/// Shortest RSA modulus that is taken, in bits.
const MIN_RSA_BITS: u32 = 2048;
/// Longest RSA modulus that is read, in bits (sshbuf.h SSHBUF_MAX_BIGNUM).
const MAX_RSA_BITS: u32 = 16384;
/// Longest foreign name that is repeated in an error, in bytes.
const SHOWN_NAME: usize = 64;

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
    /// A private key behind a passphrase.
    #[error("the private key is encrypted")]
    Encrypted,
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
    /// A private key behind another passphrase.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// Whoever holds the key cannot be asked, or says no; why.
    #[error("{0}")]
    Holder(String),
}

/// A plain public key (never a certificate).
#[derive(Clone)]
pub struct PublicKey {
    key_type: KeyType,
    /// The wire form. There is one per key: other spellings of the same numbers are refused.
    blob: Vec<u8>,
    data: KeyData,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

impl Eq for PublicKey {}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({} {})", self.short_type(), self.fingerprint())
    }
}

impl PublicKey {
    /// From the wire form (RFC 4253 §6.6), whole.
    /// # Errors
    /// [`KeyError`]
    pub fn from_blob(blob: &[u8]) -> Result<Self, KeyError> {
        let mut reader = Reader::new(blob);
        let name = reader.string().map_err(|_| KeyError::Malformed)?;
        if is_certificate_name(name) {
            return Err(KeyError::IsCertificate);
        }
        let key_type =
            KeyType::from_name(name).ok_or_else(|| KeyError::UnsupportedType(escape_word(name, SHOWN_NAME)))?;
        Self::from_fields(key_type, reader.rest())
    }

    /// From what follows the type's name in the wire form, whole.
    pub(crate) fn from_fields(key_type: KeyType, fields: &[u8]) -> Result<Self, KeyError> {
        let mut rest = fields;
        let data = KeyData::decode_as(&mut rest, key_type.algorithm()).map_err(|_| KeyError::Malformed)?;
        if !rest.is_empty() {
            return Err(KeyError::Malformed);
        }
        check_numbers(key_type, &data)?;
        // ssh-key overlooks bytes behind a key in its own field (33 bytes of Ed25519): what it writes must be what it read.
        let blob = data.encode_vec().map_err(|_| KeyError::Malformed)?;
        let name_len = 4 + key_type.name().len();
        if blob.get(name_len..) != Some(fields) {
            return Err(KeyError::Malformed);
        }
        Ok(PublicKey { key_type, blob, data })
    }

    /// From one line `type base64 [comment]`.
    /// # Errors
    /// [`KeyError`]
    pub fn from_openssh(line: &str) -> Result<Self, KeyError> {
        Self::from_line(line.as_bytes())
    }

    /// [`Self::from_openssh`] for a line whose comment may hold any bytes.
    pub(crate) fn from_line(line: &[u8]) -> Result<Self, KeyError> {
        let (name, blob) = split_line(line).ok_or(KeyError::Malformed)?;
        let key = Self::from_blob(&blob)?;
        if key.type_name().as_bytes() != name {
            return Err(KeyError::Malformed);
        }
        Ok(key)
    }

    /// The wire form.
    pub fn to_blob(&self) -> Vec<u8> {
        self.blob.clone()
    }

    /// The wire form, borrowed.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// What follows the type's name in the wire form.
    pub(crate) fn fields(&self) -> &[u8] {
        self.blob.get(4 + self.type_name().len()..).unwrap_or_default()
    }

    /// `type base64 comment`, no newline. An empty comment adds no space.
    pub fn to_openssh(&self, comment: &str) -> String {
        to_line(self.type_name(), &self.blob, comment)
    }

    /// `SHA256:` and unpadded base64, as ssh-keygen -l prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", Base64Unpadded::encode_string(&sha256(&self.blob)))
    }

    /// The key's type as in its wire form, `ssh-ed25519` for instance.
    pub fn type_name(&self) -> &str {
        self.key_type.name()
    }

    /// OpenSSH's short name for logs: ED25519, ECDSA, RSA, ED25519-SK, ECDSA-SK.
    pub fn short_type(&self) -> &'static str {
        match self.key_type {
            KeyType::Ed25519 => "ED25519",
            KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 => "ECDSA",
            KeyType::Rsa => "RSA",
            KeyType::SkEd25519 => "ED25519-SK",
            KeyType::SkEcdsaP256 => "ECDSA-SK",
        }
    }

    /// Whether a person must touch it to sign (sk-… types).
    pub fn is_fido(&self) -> bool {
        self.key_type.is_fido()
    }

    pub(crate) fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// Checks `signature` (wire form: string algorithm, string data, for FIDO flags and counter) over `message`.
    /// Algorithms: those of OpenSSH's default CASignatureAlgorithms that fit the key; RSA with SHA-1 is refused.
    /// # Errors
    /// [`KeyError`]
    pub fn verify(&self, message: &[u8], signature: &[u8], fido: FidoDemand) -> Result<(), KeyError> {
        signature::verify(self, message, signature, fido)
    }
}

/// What ssh-key leaves unchecked: RSA sizes, and compressed curve points, which OpenSSH does not read.
fn check_numbers(key_type: KeyType, data: &KeyData) -> Result<(), KeyError> {
    let point = match key_type {
        KeyType::Ed25519 | KeyType::SkEd25519 => return Ok(()),
        KeyType::Rsa => return check_rsa_size(data.rsa().ok_or(KeyError::Malformed)?.n()),
        KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 => data.ecdsa().map(|k| k.as_sec1_bytes()),
        KeyType::SkEcdsaP256 => data.sk_ecdsa_p256().map(|k| k.ec_point().as_bytes()),
    };
    if point.and_then(<[u8]>::first) == Some(&0x04) { Ok(()) } else { Err(KeyError::Malformed) }
}

fn check_rsa_size(modulus: &Mpint) -> Result<(), KeyError> {
    let bytes = modulus.as_positive_bytes().ok_or(KeyError::Malformed)?;
    let whole = u32::try_from(bytes.len()).ok().and_then(|n| n.checked_mul(8)).ok_or(KeyError::Malformed)?;
    let bits = whole - bytes.first().map_or(0, |b| b.leading_zeros());
    if bits > MAX_RSA_BITS {
        return Err(KeyError::Malformed);
    }
    if bits < MIN_RSA_BITS { Err(KeyError::TooShort(bits)) } else { Ok(()) }
}

/// The type's name and the blob of one line `type base64 [comment]`, with blanks before it and a line end behind it or not (sshkey.c `sshkey_read`).
pub(crate) fn split_line(line: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let mut words = line.trim_ascii_end().split(|b| matches!(b, b' ' | b'\t')).filter(|w| !w.is_empty());
    let name = words.next()?;
    let encoded = std::str::from_utf8(words.next()?).ok()?;
    Some((name, Base64::decode_vec(encoded).ok()?))
}

/// `type base64 comment`; an empty comment adds no space.
pub(crate) fn to_line(name: &str, blob: &[u8], comment: &str) -> String {
    let encoded = Base64::encode_string(blob);
    if comment.is_empty() { format!("{name} {encoded}") } else { format!("{name} {encoded} {comment}") }
}
