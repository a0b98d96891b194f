//! Checking a signature: the algorithm against the key, the data by ring, a FIDO key's flags by ourselves. P-521, which ring does not have, goes to p521 itself: by way of ssh-key the other curves would be linked as well.

use ::signature::Verifier;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use ssh_key::{Algorithm, HashAlg};

use super::{KeyError, KeyType, PublicKey, SHOWN_NAME};
use crate::digest::sha256;
use crate::escape::escape_word;
use crate::wire::Reader;

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
    verify_by_type(key, &algorithm, message, &parts).ok_or(KeyError::BadSignature)?;
    match parts.trailer.first() {
        Some(flags) => check_fido_flags(*flags, fido),
        None => Ok(()),
    }
}

fn verify_by_type(key: &PublicKey, algorithm: &Algorithm, message: &[u8], parts: &SignatureParts<'_>) -> Option<()> {
    let data = &key.data;
    match key.key_type {
        KeyType::Rsa => verify_rsa(key, algorithm, message, parts.data),
        KeyType::Ed25519 => by_ring(&ED25519, &data.ed25519()?.0, message, parts.data),
        KeyType::EcdsaP256 => {
            by_ring(&ECDSA_P256_SHA256_FIXED, data.ecdsa()?.as_sec1_bytes(), message, &fixed_width::<32>(parts.data)?)
        }
        KeyType::EcdsaP384 => {
            by_ring(&ECDSA_P384_SHA384_FIXED, data.ecdsa()?.as_sec1_bytes(), message, &fixed_width::<48>(parts.data)?)
        }
        KeyType::EcdsaP521 => {
            let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(data.ecdsa()?.as_sec1_bytes()).ok()?;
            let signature = p521::ecdsa::Signature::from_slice(&fixed_width::<66>(parts.data)?).ok()?;
            key.verify(message, &signature).ok()
        }
        KeyType::SkEd25519 => {
            let key = data.sk_ed25519()?;
            let signed = fido_signed_data(key.application(), message, parts.trailer);
            by_ring(&ED25519, &key.public_key().0, &signed, parts.data)
        }
        KeyType::SkEcdsaP256 => {
            let key = data.sk_ecdsa_p256()?;
            let signed = fido_signed_data(key.application(), message, parts.trailer);
            by_ring(&ECDSA_P256_SHA256_FIXED, key.ec_point().as_bytes(), &signed, &fixed_width::<32>(parts.data)?)
        }
    }
}

fn by_ring(algorithm: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).ok()
}

/// What a FIDO key signs (PROTOCOL.u2f "SSH U2F Signatures"): the application's hash, flags and counter as they stand behind the signature, the message's hash.
fn fido_signed_data(application: &str, message: &[u8], trailer: &[u8]) -> Vec<u8> {
    [&sha256(application.as_bytes())[..], trailer, &sha256(message)].concat()
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
    let parameters: &RsaParameters = if *algorithm == (Algorithm::Rsa { hash: Some(HashAlg::Sha256) }) {
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

/// With zeros in front: an RSA signature may be shorter than the modulus (ssh-rsa.c `ssh_rsa_verify`).
fn pad_to(data: &[u8], len: usize) -> Option<Vec<u8>> {
    let missing = len.checked_sub(data.len())?;
    let mut padded = vec![0; missing];
    padded.extend_from_slice(data);
    Some(padded)
}

/// `r` and `s` of an ECDSA signature (RFC 5656 §3.1.2). Leading zeros are fine for OpenSSH (`sshbuf_get_bignum2`).
fn read_ecdsa(data: &[u8]) -> Option<[&[u8]; 2]> {
    let mut reader = Reader::new(data);
    let numbers = [reader.string().ok()?, reader.string().ok()?];
    reader.finish().ok()?;
    let is_negative = |number: &&[u8]| number.first().is_some_and(|b| b & 0x80 != 0);
    (!numbers.iter().any(is_negative)).then_some(numbers)
}

/// One behind the other, each as long as the curve's numbers are.
fn fixed_width<const WIDTH: usize>(data: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(2 * WIDTH);
    for number in read_ecdsa(data)? {
        let start = number.iter().position(|b| *b != 0).unwrap_or(number.len());
        out.extend_from_slice(&pad_to(number.get(start..)?, WIDTH)?);
    }
    Some(out)
}
