//! Messages as frames (with the 4-byte length), ready to send.

use zeroize::Zeroizing;

use super::{CHALLENGE_EXTENSION, Constraints, Identity, number};
use crate::certificate::Certificate;
use crate::keys::{KeyError, PrivateKey};
use crate::wire::WireWrite;

/// REQUEST_IDENTITIES.
pub fn list() -> Vec<u8> {
    wrap(&[number::REQUEST_IDENTITIES])
}

/// SIGN_REQUEST.
pub fn sign(blob: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
    let mut payload = vec![number::SIGN_REQUEST];
    payload.put_string(blob);
    payload.put_string(data);
    payload.put_u32(flags);
    wrap(&payload)
}

/// EXTENSION `challenge@ussh`: `message` is the challenge in clear.
pub fn clear_challenge(blob: &[u8], message: &[u8], flags: u32) -> Vec<u8> {
    let mut payload = vec![number::EXTENSION];
    payload.put_string(CHALLENGE_EXTENSION.as_bytes());
    payload.put_string(blob);
    payload.put_string(message);
    payload.put_u32(flags);
    wrap(&payload)
}

/// EXTENSION_RESPONSE to a challenge in clear: `signature` in wire form.
pub fn clear_signature(signature: &[u8]) -> Vec<u8> {
    let mut payload = vec![number::EXTENSION_RESPONSE];
    payload.put_string(CHALLENGE_EXTENSION.as_bytes());
    payload.put_string(signature);
    wrap(&payload)
}

/// EXTENSION_FAILURE: an extension that is known, and a no.
pub fn extension_failure() -> Vec<u8> {
    wrap(&[number::EXTENSION_FAILURE])
}

/// ADD_ID_CONSTRAINED (ADD_IDENTITY if there is no constraint) of an Ed25519 or ECDSA key with its certificate.
/// # Errors
/// [`KeyError::UnsupportedType`] for other keys; [`KeyError::Malformed`] if the certificate is another key's, or if the
/// lifetime is 0 seconds.
pub fn add_certificate(
    certificate: &Certificate,
    key: &PrivateKey,
    comment: &str,
    constraints: &Constraints,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if key.public_key() != *certificate.public_key() || constraints.lifetime_seconds == Some(0) {
        return Err(KeyError::Malformed);
    }
    let constrained = *constraints != Constraints::default();

    // Written in place and with room to spare: a vector that grows leaves copies of the key behind.
    let blob = certificate.blob();
    let mut frame = Zeroizing::new(Vec::with_capacity(blob.len() + comment.len() + 512));
    frame.put_u32(0);
    frame.put_byte(if constrained { number::ADD_ID_CONSTRAINED } else { number::ADD_IDENTITY });
    frame.put_string(certificate.type_name().as_bytes());
    frame.put_string(blob);
    put_private_fields(&mut frame, key)?;
    frame.put_string(comment.as_bytes());
    if let Some(seconds) = constraints.lifetime_seconds {
        frame.put_byte(number::CONSTRAIN_LIFETIME);
        frame.put_u32(seconds);
    }
    if constraints.confirm {
        frame.put_byte(number::CONSTRAIN_CONFIRM);
    }

    let payload_len = u32::try_from(frame.len().saturating_sub(4)).map_err(|_| KeyError::Malformed)?;
    if let Some(length) = frame.first_chunk_mut() {
        *length = payload_len.to_be_bytes();
    }
    Ok(frame)
}

/// What sshkey.c `serialize_private` writes after a certificate's blob.
fn put_private_fields(frame: &mut Vec<u8>, key: &PrivateKey) -> Result<(), KeyError> {
    let data = key.key.key_data();
    if let Some(pair) = data.ed25519() {
        frame.put_string(pair.public.as_ref());
        frame.put_string(Zeroizing::new(pair.to_bytes()).as_slice());
    } else if let Some(pair) = data.ecdsa() {
        put_mpint(frame, pair.private_key_bytes());
    } else {
        return Err(KeyError::UnsupportedType(key.public_key().type_name().to_owned()));
    }
    Ok(())
}

/// A number > 0 as RFC 4251 §5 `mpint`: no leading zeros but the one that keeps it positive.
fn put_mpint(frame: &mut Vec<u8>, big_endian: &[u8]) {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    let digits = big_endian.get(zeros..).unwrap_or_default();
    let sign = usize::from(digits.first().is_some_and(|byte| *byte >= 0x80));
    frame.put_u32(u32::try_from(sign + digits.len()).unwrap_or(u32::MAX));
    if sign == 1 {
        frame.put_byte(0);
    }
    frame.extend_from_slice(digits);
}

/// REMOVE_IDENTITY.
pub fn remove(blob: &[u8]) -> Vec<u8> {
    let mut payload = vec![number::REMOVE_IDENTITY];
    payload.put_string(blob);
    wrap(&payload)
}

/// A payload with its length in front. Not for payloads that hold a private key: see
/// [`Agent::pass_on`](super::Agent::pass_on).
pub fn wrap(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(4 + payload.len());
    frame.put_string(payload);
    frame
}

/// SSH_AGENT_FAILURE (5).
pub fn failure() -> Vec<u8> {
    wrap(&[number::FAILURE])
}

/// SSH_AGENT_SUCCESS (6).
pub fn success() -> Vec<u8> {
    wrap(&[number::SUCCESS])
}

/// IDENTITIES_ANSWER (12).
pub fn identities(identities: &[Identity]) -> Vec<u8> {
    let mut payload = vec![number::IDENTITIES_ANSWER];
    payload.put_u32(u32::try_from(identities.len()).unwrap_or(u32::MAX));
    for identity in identities {
        payload.put_string(&identity.blob);
        payload.put_string(&identity.comment);
    }
    wrap(&payload)
}

/// SIGN_RESPONSE (14): `signature` in wire form.
pub fn signature(signature: &[u8]) -> Vec<u8> {
    let mut payload = vec![number::SIGN_RESPONSE];
    payload.put_string(signature);
    wrap(&payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mpint_is_as_short_as_can_be_and_positive() {
        for (digits, wire) in [
            (&[0x7f, 1][..], &[0, 0, 0, 2, 0x7f, 1][..]),
            (&[0x80, 1], &[0, 0, 0, 3, 0, 0x80, 1]),
            (&[0, 0, 0x7f], &[0, 0, 0, 1, 0x7f]),
            (&[0, 0, 0x80], &[0, 0, 0, 2, 0, 0x80]),
        ] {
            let mut out = Vec::new();
            put_mpint(&mut out, digits);
            assert_eq!(out, wire);
        }
    }
}
