//! Checking a signature: the algorithm against the key, the data by ssh-key, a FIDO key's flags by ourselves.

use ::signature::Verifier;
use ssh_key::{Mpint, Signature};

use super::{KeyError, KeyType, PublicKey, SHOWN_NAME};
use crate::escape::escape;
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
        .ok_or_else(|| KeyError::SignatureAlgorithm(escape(parts.algorithm, SHOWN_NAME)))?;
    if parts.trailer.is_empty() == key.is_fido() {
        return Err(KeyError::BadSignature);
    }
    let data = match key.key_type {
        KeyType::Rsa => key.data.rsa().and_then(|rsa| pad_to(parts.data, rsa.key_size().div_ceil(8))),
        KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 | KeyType::SkEcdsaP256 => {
            canonical_ecdsa(parts.data)
        }
        KeyType::Ed25519 | KeyType::SkEd25519 => Some(parts.data.to_vec()),
    };
    let mut data = data.ok_or(KeyError::BadSignature)?;
    // ssh-key keeps a FIDO signature's flags and counter behind it, and signs them with the application's hash.
    data.extend_from_slice(parts.trailer);
    let checked = Signature::new(algorithm, data).map_err(|_| KeyError::BadSignature)?;
    key.data.verify(message, &checked).map_err(|_| KeyError::BadSignature)?;
    match parts.trailer.first() {
        Some(flags) => check_fido_flags(*flags, fido),
        None => Ok(()),
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
