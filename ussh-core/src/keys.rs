//! Plain keys and signatures. Wraps `ssh-key`, so that no other crate of ours sees which version it is.
//!
//! A key's type is looked up in our own table before anything else of it is read: a certificate is turned away by its name alone, so nothing nested is ever parsed (CVE-2025-49825).

use base64ct::{Base64, Base64Unpadded, Encoding};
use sha2::{Digest, Sha256};
use signature::{Signer, Verifier};
use ssh_key::Mpint;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, Signature};
use zeroize::Zeroizing;

use crate::escape::escape;
use crate::wire::{Reader, WireWrite};

/// Shortest RSA modulus that is taken, in bits.
const MIN_RSA_BITS: u32 = 2048;
/// Longest RSA modulus that is read, in bits (sshbuf.h SSHBUF_MAX_BIGNUM).
const MAX_RSA_BITS: u32 = 16384;
/// What every certificate type's name ends in (draft-miller-ssh-cert §2).
const CERTIFICATE_SUFFIX: &[u8] = b"-cert-v01@openssh.com";
/// PROTOCOL.u2f: the key was touched.
const FLAG_USER_PRESENCE: u8 = 0x01;
/// PROTOCOL.u2f: the key verified its user.
const FLAG_USER_VERIFICATION: u8 = 0x04;
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
}

/// The key types that are taken, as plain key, as certified key and as CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyType {
    Ed25519,
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Rsa,
    SkEd25519,
    SkEcdsaP256,
}

impl KeyType {
    const ALL: [KeyType; 7] = [
        KeyType::Ed25519,
        KeyType::EcdsaP256,
        KeyType::EcdsaP384,
        KeyType::EcdsaP521,
        KeyType::Rsa,
        KeyType::SkEd25519,
        KeyType::SkEcdsaP256,
    ];

    /// By the name in a plain key's wire form.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name().as_bytes() == name)
    }

    /// By the name in a certificate's wire form.
    pub(crate) fn from_certificate_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|t| t.certificate_name().as_bytes() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            KeyType::Ed25519 => "ssh-ed25519",
            KeyType::EcdsaP256 => "ecdsa-sha2-nistp256",
            KeyType::EcdsaP384 => "ecdsa-sha2-nistp384",
            KeyType::EcdsaP521 => "ecdsa-sha2-nistp521",
            KeyType::Rsa => "ssh-rsa",
            KeyType::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            KeyType::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    pub(crate) fn certificate_name(self) -> &'static str {
        match self {
            KeyType::Ed25519 => "ssh-ed25519-cert-v01@openssh.com",
            KeyType::EcdsaP256 => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            KeyType::EcdsaP384 => "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            KeyType::EcdsaP521 => "ecdsa-sha2-nistp521-cert-v01@openssh.com",
            KeyType::Rsa => "ssh-rsa-cert-v01@openssh.com",
            KeyType::SkEd25519 => "sk-ssh-ed25519-cert-v01@openssh.com",
            KeyType::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        }
    }

    /// How many strings follow the type's name in the wire form.
    pub(crate) fn field_count(self) -> usize {
        match self {
            KeyType::Ed25519 => 1,
            KeyType::EcdsaP256
            | KeyType::EcdsaP384
            | KeyType::EcdsaP521
            | KeyType::Rsa
            | KeyType::SkEd25519 => 2,
            KeyType::SkEcdsaP256 => 3,
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            KeyType::Ed25519 => Algorithm::Ed25519,
            KeyType::EcdsaP256 => Algorithm::Ecdsa {
                curve: EcdsaCurve::NistP256,
            },
            KeyType::EcdsaP384 => Algorithm::Ecdsa {
                curve: EcdsaCurve::NistP384,
            },
            KeyType::EcdsaP521 => Algorithm::Ecdsa {
                curve: EcdsaCurve::NistP521,
            },
            KeyType::Rsa => Algorithm::Rsa { hash: None },
            KeyType::SkEd25519 => Algorithm::SkEd25519,
            KeyType::SkEcdsaP256 => Algorithm::SkEcdsaSha2NistP256,
        }
    }

    fn is_fido(self) -> bool {
        matches!(self, KeyType::SkEd25519 | KeyType::SkEcdsaP256)
    }

    /// The one algorithm `name` may stand for in a signature by such a key (sshd's default CASignatureAlgorithms; webauthn-sk-ecdsa is not taken).
    fn signature_algorithm(self, name: &[u8]) -> Option<Algorithm> {
        if self == KeyType::Rsa {
            return match name {
                b"rsa-sha2-256" => Some(Algorithm::Rsa {
                    hash: Some(HashAlg::Sha256),
                }),
                b"rsa-sha2-512" => Some(Algorithm::Rsa {
                    hash: Some(HashAlg::Sha512),
                }),
                _ => None,
            };
        }
        (name == self.name().as_bytes()).then(|| self.algorithm())
    }
}

/// Whether a type name is a certificate's, of a type we know or not.
pub(crate) fn is_certificate_name(name: &[u8]) -> bool {
    name.ends_with(CERTIFICATE_SUFFIX)
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
        let mut reader = Reader::new(blob);
        let name = reader.string().map_err(|_| KeyError::Malformed)?;
        if is_certificate_name(name) {
            return Err(KeyError::IsCertificate);
        }
        let key_type = KeyType::from_name(name)
            .ok_or_else(|| KeyError::UnsupportedType(escape(name, SHOWN_NAME)))?;
        Self::from_fields(key_type, reader.rest())
    }

    /// From what follows the type's name in the wire form, whole.
    pub(crate) fn from_fields(key_type: KeyType, fields: &[u8]) -> Result<Self, KeyError> {
        let mut rest = fields;
        let data =
            KeyData::decode_as(&mut rest, key_type.algorithm()).map_err(|_| KeyError::Malformed)?;
        if !rest.is_empty() {
            return Err(KeyError::Malformed);
        }
        check_numbers(&data)?;
        let name = key_type.name().as_bytes();
        let mut blob = Vec::with_capacity(4 + name.len() + fields.len());
        blob.put_string(name);
        blob.extend_from_slice(fields);
        Ok(PublicKey {
            key_type,
            blob,
            data,
        })
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
        self.blob
            .get(4 + self.type_name().len()..)
            .unwrap_or_default()
    }

    /// `type base64 comment`, no newline. An empty comment adds no space.
    pub fn to_openssh(&self, comment: &str) -> String {
        to_line(self.type_name(), &self.blob, comment)
    }

    /// `SHA256:` and unpadded base64, as ssh-keygen -l prints it.
    pub fn fingerprint(&self) -> String {
        format!(
            "SHA256:{}",
            Base64Unpadded::encode_string(&Sha256::digest(&self.blob))
        )
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
    pub fn verify(
        &self,
        message: &[u8],
        signature: &[u8],
        fido: FidoDemand,
    ) -> Result<(), KeyError> {
        let parts = SignatureParts::parse(signature).ok_or(KeyError::BadSignature)?;
        let algorithm = self
            .key_type
            .signature_algorithm(parts.algorithm)
            .ok_or_else(|| KeyError::SignatureAlgorithm(escape(parts.algorithm, SHOWN_NAME)))?;
        let mut data = match &self.data {
            KeyData::Rsa(key) => pad_to(parts.data, key.key_size().div_ceil(8)),
            KeyData::Ecdsa(_) | KeyData::SkEcdsaSha2NistP256(_) => canonical_ecdsa(parts.data),
            _ => Some(parts.data.to_vec()),
        }
        .ok_or(KeyError::BadSignature)?;
        // ssh-key holds flags and counter behind a FIDO signature; no other has any.
        data.extend_from_slice(parts.trailer);
        if parts.trailer.is_empty() == self.is_fido() {
            return Err(KeyError::BadSignature);
        }
        let checked = Signature::new(algorithm, data).map_err(|_| KeyError::BadSignature)?;
        self.data
            .verify(message, &checked)
            .map_err(|_| KeyError::BadSignature)?;
        match parts.trailer.first() {
            Some(flags) => check_fido_flags(*flags, fido),
            None => Ok(()),
        }
    }
}

/// A signature's wire form, cut up.
struct SignatureParts<'a> {
    algorithm: &'a [u8],
    data: &'a [u8],
    /// FIDO: one byte of flags, four of a counter. Else empty.
    trailer: &'a [u8],
}

impl<'a> SignatureParts<'a> {
    fn parse(signature: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(signature);
        let algorithm = reader.string().ok()?;
        let data = reader.string().ok()?;
        let trailer = reader.rest();
        matches!(trailer.len(), 0 | 5).then_some(SignatureParts {
            algorithm,
            data,
            trailer,
        })
    }
}

fn check_fido_flags(flags: u8, demand: FidoDemand) -> Result<(), KeyError> {
    if flags & FLAG_USER_PRESENCE == 0 {
        return Err(KeyError::NoUserPresence);
    }
    if demand == FidoDemand::Verification && flags & FLAG_USER_VERIFICATION == 0 {
        return Err(KeyError::NoUserVerification);
    }
    Ok(())
}

/// What ssh-key leaves unchecked: RSA sizes, and compressed curve points, which OpenSSH does not read.
fn check_numbers(data: &KeyData) -> Result<(), KeyError> {
    let point = match data {
        KeyData::Rsa(key) => return check_rsa_size(key.n()),
        KeyData::Ecdsa(key) => key.as_sec1_bytes(),
        KeyData::SkEcdsaSha2NistP256(key) => key.ec_point().as_bytes(),
        KeyData::Ed25519(_) | KeyData::SkEd25519(_) => return Ok(()),
        _ => return Err(KeyError::Malformed),
    };
    if point.first() == Some(&0x04) {
        Ok(())
    } else {
        Err(KeyError::Malformed)
    }
}

fn check_rsa_size(modulus: &Mpint) -> Result<(), KeyError> {
    let bytes = modulus.as_positive_bytes().ok_or(KeyError::Malformed)?;
    let whole = u32::try_from(bytes.len())
        .ok()
        .and_then(|n| n.checked_mul(8))
        .ok_or(KeyError::Malformed)?;
    let bits = whole - bytes.first().map_or(0, |b| b.leading_zeros());
    if bits > MAX_RSA_BITS {
        return Err(KeyError::Malformed);
    }
    if bits < MIN_RSA_BITS {
        Err(KeyError::TooShort(bits))
    } else {
        Ok(())
    }
}

/// An RSA signature may be shorter than the modulus (ssh-rsa.c `ssh_rsa_verify`).
fn pad_to(data: &[u8], len: u32) -> Option<Vec<u8>> {
    let missing = usize::try_from(len).ok()?.checked_sub(data.len())?;
    let mut padded = vec![0; missing];
    padded.extend_from_slice(data);
    Some(padded)
}

/// Leading zeros in `r` and `s` are fine for OpenSSH (`sshbuf_get_bignum2`), but not for ssh-key.
fn canonical_ecdsa(data: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(data);
    let mut out = Vec::with_capacity(data.len() + 2);
    for _ in 0..2 {
        let number = reader.string().ok()?;
        if number.first().is_some_and(|b| b & 0x80 != 0) {
            return None;
        }
        out.put_string(Mpint::from_positive_bytes(number).as_bytes());
    }
    reader.finish().ok()?;
    Some(out)
}

/// The type's name and the blob of one line `type base64 [comment]`, with blanks before it and a line end behind it or not (sshkey.c `sshkey_read`).
pub(crate) fn split_line(line: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let mut words = line
        .trim_ascii_end()
        .split(|b| matches!(b, b' ' | b'\t'))
        .filter(|w| !w.is_empty());
    let name = words.next()?;
    let encoded = std::str::from_utf8(words.next()?).ok()?;
    Some((name, Base64::decode_vec(encoded).ok()?))
}

/// `type base64 comment`; an empty comment adds no space.
pub(crate) fn to_line(name: &str, blob: &[u8], comment: &str) -> String {
    let encoded = Base64::encode_string(blob);
    if comment.is_empty() {
        format!("{name} {encoded}")
    } else {
        format!("{name} {encoded} {comment}")
    }
}

/// A private key. `Debug` shows its public half only; the key material is wiped on drop.
pub struct PrivateKey {
    pub(crate) key: ssh_key::PrivateKey,
    public: PublicKey,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "PrivateKey({} {})",
            self.public.short_type(),
            self.public.fingerprint()
        )
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
        let public = PublicKey::from_blob(
            &key.public_key()
                .to_bytes()
                .map_err(|_| KeyError::Malformed)?,
        )?;
        Ok(PrivateKey { key, public })
    }

    /// To OpenSSH's private key format, unencrypted, with a final newline.
    /// # Errors
    /// [`KeyError`]
    pub fn to_openssh(&self, comment: &str) -> Result<Zeroizing<String>, KeyError> {
        let mut named = self.key.clone();
        named.set_comment(comment);
        named
            .to_openssh(ssh_key::LineEnding::LF)
            .map_err(|_| KeyError::Malformed)
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    /// Signs; RSA keys with rsa-sha2-512. Result in wire form.
    /// # Errors
    /// [`KeyError`]
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signed = self
            .key
            .try_sign(message)
            .map_err(|_| KeyError::BadSignature)?;
        Vec::try_from(signed).map_err(|_| KeyError::BadSignature)
    }
}
