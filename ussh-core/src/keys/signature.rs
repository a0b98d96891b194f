//! Checking a signature: the algorithm against the key, the data by ssh-key (RSA: by ring, three times as fast), a FIDO key's flags by ourselves.

use ::signature::Verifier;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, Mpint, Signature};

use super::{KeyError, KeyType, PublicKey, SHOWN_NAME};
use crate::escape::escape_word;
use crate::wire::{Reader, WireWrite};

/// PROTOCOL.u2f: the key was touched.
const FLAG_USER_PRESENCE: u8 = 0x01;
/// PROTOCOL.u2f: the key verified its user.
const FLAG_USER_VERIFICATION: u8 = 0x04;

/// What a signature by a FIDO key must show. Ignored for other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FidoDemand {
    /// A touch (user presence).
    Presence,
    /// A touch and a PIN or fingerprint (user verification, `verify-required`).
    Verification,
}

/// [`PublicKey::verify`].
pub(super) fn verify(key: &PublicKey, message: &[u8], signature: &[u8], fido: FidoDemand) -> Result<(), KeyError> {
    let parts = SignatureParts::parse(signature).ok_or(KeyError::BadSignature)?;
    let algorithm = key
        .key_type
        .signature_algorithm(parts.algorithm)
        .ok_or_else(|| KeyError::SignatureAlgorithm(escape_word(parts.algorithm, SHOWN_NAME)))?;
    if parts.trailer.is_empty() == key.is_fido() {
        return Err(KeyError::BadSignature);
    }
    let data = match key.key_type {
        KeyType::Rsa => return verify_rsa(key, &algorithm, message, parts.data).ok_or(KeyError::BadSignature),
        KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 | KeyType::SkEcdsaP256 => {
            canonical_ecdsa(parts.data)
        }
        KeyType::Ed25519 | KeyType::SkEd25519 => Some(parts.data.to_vec()),
    };
    let mut data = data.ok_or(KeyError::BadSignature)?;
    // ssh-key keeps a FIDO signature's flags and counter behind it, and signs them with the application's hash.
    data.extend_from_slice(parts.trailer);
    let checked = Signature::new(algorithm, data).map_err(|_| KeyError::BadSignature)?;
    verify_by_type(&key.data, message, &checked)?;
    match parts.trailer.first() {
        Some(flags) => check_fido_flags(*flags, fido),
        None => Ok(()),
    }
}

/// One type at a time: by `KeyData` as a whole, its slower way for RSA would be linked as well.
fn verify_by_type(data: &KeyData, message: &[u8], signature: &Signature) -> Result<(), KeyError> {
    let verified = if let Some(key) = data.ed25519() {
        key.verify(message, signature)
    } else if let Some(key) = data.ecdsa() {
        key.verify(message, signature)
    } else if let Some(key) = data.sk_ed25519() {
        key.verify(message, signature)
    } else if let Some(key) = data.sk_ecdsa_p256() {
        key.verify(message, signature)
    } else {
        return Err(KeyError::BadSignature);
    };
    verified.map_err(|_| KeyError::BadSignature)
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
        matches!(trailer.len(), 0 | 5).then_some(SignatureParts { algorithm, data, trailer })
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

/// RSASSA-PKCS1-v1_5 (RFC 8332 §3). ring takes a modulus of 2048 to 8192 bits and a public exponent up to 2^33 - 1.
fn verify_rsa(key: &PublicKey, algorithm: &Algorithm, message: &[u8], signature: &[u8]) -> Option<()> {
    let parameters = if *algorithm == (Algorithm::Rsa { hash: Some(HashAlg::Sha256) }) {
        &RSA_PKCS1_2048_8192_SHA256
    } else if *algorithm == (Algorithm::Rsa { hash: Some(HashAlg::Sha512) }) {
        &RSA_PKCS1_2048_8192_SHA512
    } else {
        return None;
    };
    let rsa = key.data.rsa()?;
    let (n, e) = (rsa.n().as_positive_bytes()?, rsa.e().as_positive_bytes()?);
    let signature = pad_to(signature, n.len())?;
    RsaPublicKeyComponents { n, e }.verify(parameters, message, &signature).ok()
}

/// An RSA signature may be shorter than the modulus (ssh-rsa.c `ssh_rsa_verify`).
fn pad_to(data: &[u8], len: usize) -> Option<Vec<u8>> {
    let missing = len.checked_sub(data.len())?;
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
