//! ECDSA keys on P-256 whose number has fewer than 32 bytes as an mpint: one in 512. ssh-key takes none of them (0.7.0-rc.12, private/ecdsa.rs `decode`: MIN_SIZE).
//!
//! OpenSSH's PROTOCOL.key; sshkey.c `sshkey_parse_private2`.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use super::{PrivateKey, PublicKey};
use crate::wire::{Reader, WireWrite};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const TYPE: &[u8] = b"ecdsa-sha2-nistp256";
/// A byte below which an mpint is no negative number (RFC 4251 §5).
const NEGATIVE: u8 = 0x80;

/// One that is not encrypted. `None`: it is no such key.
pub(super) fn from_openssh(pem: &str) -> Option<PrivateKey> {
    let body = pem.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    // In one piece: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(body.len()));
    text.extend(body.lines().map(str::trim));
    let data = Zeroizing::new(Base64::decode_vec(&text).ok()?);
    let mut reader = Reader::new(data.strip_prefix(MAGIC)?);
    let (cipher, kdf, options) = (reader.string().ok()?, reader.string().ok()?, reader.string().ok()?);
    if (cipher, kdf, options, reader.u32().ok()?) != (b"none", b"none", b"", 1) {
        return None;
    }
    let (public, section) = (reader.string().ok()?, reader.string().ok()?);
    reader.finish().ok()?;
    of_section(section, &PublicKey::from_blob(public).ok()?)
}

/// One that is encrypted by this passphrase. `None`: by another, or it is no such key.
#[cfg(feature = "encryption")]
pub(super) fn decrypt(key: &ssh_key::PrivateKey, passphrase: &str) -> Option<PrivateKey> {
    let (secret, iv) = key.kdf().derive_key_and_iv(key.cipher(), passphrase).ok()?;
    let mut section = Zeroizing::new(key.key_data().encrypted()?.to_vec());
    // With a cipher that has a tag of its own this fails: ssh-key does not give it.
    key.cipher().decrypt(&secret, &iv, &mut section, None).ok()?;
    of_section(&section, &PublicKey::from_blob(&key.public_key().to_bytes().ok()?).ok()?)
}

/// The private section: a number twice, the key, its comment, and 1, 2, 3 … up to a whole block.
fn of_section(section: &[u8], public: &PublicKey) -> Option<PrivateKey> {
    let mut reader = Reader::new(section);
    if reader.u32().ok()? != reader.u32().ok()? || reader.string().ok()? != TYPE {
        return None;
    }
    let (curve, point, number, _comment) =
        (reader.string().ok()?, reader.string().ok()?, reader.string().ok()?, reader.string().ok()?);
    if !reader.rest().iter().zip(1..=u8::MAX).all(|(byte, expected)| *byte == expected) {
        return None;
    }
    let digits = match number {
        [0, rest @ ..] if rest.first().is_some_and(|first| *first >= NEGATIVE) => rest,
        [first, ..] if (1..NEGATIVE).contains(first) => number,
        _ => return None,
    };
    let key = PrivateKey::ecdsa_p256_from_number(digits).ok()?;
    let mut blob = Vec::new();
    for part in [TYPE, curve, point] {
        blob.put_string(part);
    }
    (key.public_key() == *public && PublicKey::from_blob(&blob).ok()? == *public).then_some(key)
}
