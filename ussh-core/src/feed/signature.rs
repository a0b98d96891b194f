//! SSHSIG (PROTOCOL.sshsig) in the feed's namespace, armoured, as `ssh-keygen -Y sign -n feed@ussh` makes it and `ssh-keygen -Y verify` checks it.

use base64ct::{Base64, Encoding};

use super::{NAMESPACE, SignatureError};
use crate::digest::sha512;
use crate::escape::escape_word;
use crate::keys::{FidoDemand, KeyError, PublicKey, SigningKey};
use crate::wire::{Reader, WireWrite};

/// PROTOCOL.sshsig MAGIC_PREAMBLE.
const PREAMBLE: &[u8] = b"SSHSIG";
/// PROTOCOL.sshsig SIG_VERSION.
const VERSION: u32 = 1;
/// The one hash that is taken, ssh-keygen's default.
const HASH: &str = "sha512";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// Characters of a line of the armour.
const LINE: usize = 70;

/// Signs a manifest.
/// # Errors
/// [`KeyError`]
pub fn sign(key: &dyn SigningKey, manifest: &[u8]) -> Result<String, KeyError> {
    let signature = key.sign(&signed_data(manifest))?;
    let mut blob = PREAMBLE.to_vec();
    blob.put_u32(VERSION);
    blob.put_string(key.public_key().blob());
    blob.put_string(NAMESPACE.as_bytes());
    blob.put_string(b"");
    blob.put_string(HASH.as_bytes());
    blob.put_string(&signature);
    Ok(armour(&blob))
}

/// Checks a manifest's signature; gives the key that made it. Whether that one is to be trusted is the caller's to say.
/// # Errors
/// [`SignatureError`]
pub fn verify_signature(armoured: &[u8], manifest: &[u8]) -> Result<PublicKey, SignatureError> {
    let blob = unarmour(armoured).ok_or(SignatureError::Malformed)?;
    let parts = Parts::parse(&blob).ok_or(SignatureError::Malformed)?;
    if parts.namespace != NAMESPACE.as_bytes() {
        return Err(SignatureError::Namespace(escape_word(parts.namespace, 64)));
    }
    if parts.hash != HASH.as_bytes() {
        return Err(SignatureError::Hash(escape_word(parts.hash, 64)));
    }
    let key = PublicKey::from_blob(parts.key)?;
    key.verify(&signed_data(manifest), parts.signature, FidoDemand::Presence)?;
    Ok(key)
}

struct Parts<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    hash: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn parse(blob: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(blob.strip_prefix(PREAMBLE)?);
        if reader.u32().ok()? != VERSION {
            return None;
        }
        let (key, namespace) = (reader.string().ok()?, reader.string().ok()?);
        // "reserved": ignored when it is read, but it is under the signature, where ours is empty.
        let _reserved = reader.string().ok()?;
        let (hash, signature) = (reader.string().ok()?, reader.string().ok()?);
        reader.finish().ok()?;
        Some(Parts { key, namespace, hash, signature })
    }
}

fn signed_data(manifest: &[u8]) -> Vec<u8> {
    let mut data = PREAMBLE.to_vec();
    data.put_string(NAMESPACE.as_bytes());
    data.put_string(b"");
    data.put_string(HASH.as_bytes());
    data.put_string(&sha512(manifest));
    data
}

fn armour(blob: &[u8]) -> String {
    let encoded = Base64::encode_string(blob);
    let mut text = format!("{BEGIN}\n");
    for (at, letter) in encoded.chars().enumerate() {
        if at > 0 && at.is_multiple_of(LINE) {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push('\n');
    text.push_str(END);
    text.push('\n');
    text
}

fn unarmour(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let inner = text.strip_prefix(BEGIN)?.trim_end().strip_suffix(END)?;
    let encoded: String = inner.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    Base64::decode_vec(&encoded).ok()
}
