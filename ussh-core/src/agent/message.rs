//! Payloads read: what a client asks of us, and what an agent answers to us. Payloads come without the frame's length;
//! their first byte is the message number.

use zeroize::Zeroizing;

use super::{AgentError, CHALLENGE_EXTENSION, Constraints, Identity, MAX_IDENTITIES, number};
use crate::challenge::ChallengeMessage;
use crate::keys::{KeyType, PrivateKey};
use crate::wire::{Reader, WireError};

/// What a client asks of an agent.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// SSH_AGENTC_REQUEST_IDENTITIES (11).
    List,
    /// SSH_AGENTC_SIGN_REQUEST (13).
    Sign {
        /// Key or certificate.
        blob: Vec<u8>,
        /// To be signed.
        data: Vec<u8>,
        /// SSH_AGENT_RSA_SHA2_256 = 2, _512 = 4.
        flags: u32,
    },
    /// SSH_AGENTC_ADD_IDENTITY (17) or ADD_ID_CONSTRAINED (25) of a key with its certificate.
    AddCertificate {
        /// The certificate's wire form. Its type name is the one that the request names; nothing else in it is checked.
        certificate_blob: Vec<u8>,
        /// The comment.
        comment: Vec<u8>,
        /// Constraints; unknown ones make the request [`Request::Other`].
        constraints: Constraints,
        /// The whole payload, to be passed on unchanged. Holds the private key.
        payload: Zeroizing<Vec<u8>>,
    },
    /// SSH_AGENTC_REMOVE_IDENTITY (18).
    Remove {
        /// Key or certificate.
        blob: Vec<u8>,
    },
    /// SSH_AGENTC_EXTENSION (27) of the name `challenge@ussh`.
    Challenge {
        /// Certificate.
        blob: Vec<u8>,
        /// What is to be signed, in clear.
        message: ChallengeMessage,
        /// As for [`Request::Sign`].
        flags: u32,
    },
    /// Any other number, malformed content included. 0 (reserved) for an empty payload.
    Other(u8),
}

impl Request {
    /// Reads one payload, to its last byte.
    pub fn parse(payload: &[u8]) -> Request {
        let mut reader = Reader::new(payload);
        let Ok(kind) = reader.byte() else {
            return Request::Other(0);
        };
        let request = match kind {
            number::REQUEST_IDENTITIES => reader.finish().map(|()| Request::List),
            number::SIGN_REQUEST => parse_sign(reader),
            number::REMOVE_IDENTITY => parse_remove(reader),
            number::EXTENSION => return parse_challenge(reader).unwrap_or(Request::Other(kind)),
            number::ADD_IDENTITY | number::ADD_ID_CONSTRAINED => {
                return parse_add(payload, kind, reader).unwrap_or(Request::Other(kind));
            }
            _ => return Request::Other(kind),
        };
        request.unwrap_or(Request::Other(kind))
    }
}

/// Without the private key.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Request::List => f.write_str("List"),
            Request::Sign { blob, data, flags } => {
                f.debug_struct("Sign").field("blob", blob).field("data", data).field("flags", flags).finish()
            }
            Request::AddCertificate { certificate_blob, comment, constraints, .. } => f
                .debug_struct("AddCertificate")
                .field("certificate_blob", certificate_blob)
                .field("comment", comment)
                .field("constraints", constraints)
                .field("payload", &format_args!("***"))
                .finish(),
            Request::Challenge { blob, message, flags } => {
                f.debug_struct("Challenge").field("blob", blob).field("message", message).field("flags", flags).finish()
            }
            Request::Remove { blob } => f.debug_struct("Remove").field("blob", blob).finish(),
            Request::Other(number) => f.debug_tuple("Other").field(number).finish(),
        }
    }
}

fn parse_sign(mut reader: Reader<'_>) -> Result<Request, WireError> {
    let request =
        Request::Sign { blob: reader.string()?.to_vec(), data: reader.string()?.to_vec(), flags: reader.u32()? };
    reader.finish()?;
    Ok(request)
}

fn parse_remove(mut reader: Reader<'_>) -> Result<Request, WireError> {
    let blob = reader.string()?.to_vec();
    reader.finish()?;
    Ok(Request::Remove { blob })
}

fn parse_challenge(mut reader: Reader<'_>) -> Option<Request> {
    if reader.string().ok()? != CHALLENGE_EXTENSION.as_bytes() {
        return None;
    }
    let blob = reader.string().ok()?.to_vec();
    let message = ChallengeMessage::parse(reader.string().ok()?)?;
    let flags = reader.u32().ok()?;
    reader.finish().ok()?;
    Some(Request::Challenge { blob, message, flags })
}

/// One private field of an added certificate, after its blob.
#[derive(Clone, Copy)]
enum Field {
    /// `string` or `mpint`: alike on the wire.
    String,
    Byte,
}

/// What follows the certificate's blob in an add (sshkey.c `sshkey_private_serialize_opt` and the `serialize_private`
/// of each type).
fn private_fields(key_type: KeyType) -> &'static [Field] {
    use Field::{Byte, String};
    match key_type {
        // public, private
        KeyType::Ed25519 => &[String, String],
        // d
        KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 => &[String],
        // d, iqmp, p, q
        KeyType::Rsa => &[String, String, String, String],
        // public, application, flags, key handle, reserved
        KeyType::SkEd25519 => &[String, String, Byte, String, String],
        // application, flags, key handle, reserved
        KeyType::SkEcdsaP256 => &[String, Byte, String, String],
    }
}

fn parse_add(payload: &[u8], kind: u8, mut reader: Reader<'_>) -> Option<Request> {
    let type_name = reader.string().ok()?;
    let fields = private_fields(KeyType::from_certificate_name(type_name)?);
    let certificate_blob = reader.string().ok()?;
    if Reader::new(certificate_blob).string().ok()? != type_name {
        return None;
    }
    for field in fields {
        match field {
            Field::String => drop(reader.string().ok()?),
            Field::Byte => drop(reader.byte().ok()?),
        }
    }
    let comment = reader.string().ok()?;
    let constraints = match kind {
        number::ADD_ID_CONSTRAINED => parse_constraints(reader)?,
        _ => reader.finish().ok().map(|()| Constraints::default())?,
    };
    Some(Request::AddCertificate {
        certificate_blob: certificate_blob.to_vec(),
        comment: comment.to_vec(),
        constraints,
        payload: Zeroizing::new(payload.to_vec()),
    })
}

/// The private key in an add of a certificate ([`Request::AddCertificate`]), of the kinds that a CA makes: Ed25519 and ECDSA on P-256. `None`: another kind, or malformed.
/// That it is the certificate's is the caller's to check.
pub fn added_key(payload: &[u8]) -> Option<PrivateKey> {
    let mut reader = Reader::new(payload);
    if !matches!(reader.byte().ok()?, number::ADD_IDENTITY | number::ADD_ID_CONSTRAINED) {
        return None;
    }
    let key_type = KeyType::from_certificate_name(reader.string().ok()?)?;
    reader.string().ok()?;
    match key_type {
        KeyType::Ed25519 => {
            reader.string().ok()?;
            // RFC 8032's seed, and behind it the public half (sshkey.c ED25519_SK_SZ).
            let pair: &[u8; 64] = reader.string().ok()?.try_into().ok()?;
            PrivateKey::ed25519_from_seed(pair.first_chunk()?).ok()
        }
        KeyType::EcdsaP256 => {
            let digits = reader.string().ok()?;
            let zeros = digits.iter().take_while(|byte| **byte == 0).count();
            PrivateKey::ecdsa_p256_from_number(digits.get(zeros..)?).ok()
        }
        KeyType::EcdsaP384 | KeyType::EcdsaP521 | KeyType::Rsa | KeyType::SkEd25519 | KeyType::SkEcdsaP256 => None,
    }
}

/// As ssh-agent reads them (ssh-agent.c `parse_key_constraints`), but without its extensions: what is not understood
/// here cannot be judged.
fn parse_constraints(mut reader: Reader<'_>) -> Option<Constraints> {
    let mut constraints = Constraints::default();
    while !reader.rest().is_empty() {
        match reader.byte().ok()? {
            number::CONSTRAIN_LIFETIME if constraints.lifetime_seconds.is_none() => {
                constraints.lifetime_seconds = Some(reader.u32().ok().filter(|seconds| *seconds > 0)?);
            }
            number::CONSTRAIN_CONFIRM if !constraints.confirm => constraints.confirm = true,
            _ => return None,
        }
    }
    Some(constraints)
}

/// Reads the payload of an answer to a listing. What the blobs hold is not looked at here, so that one odd identity hides no other; nor, as in ssh (authfd.c
/// `ssh_fetch_identitylist`), what stands behind the last one. A listing that ends before its last identity is malformed as a whole.
/// # Errors
/// [`AgentError::Refused`], [`AgentError::Malformed`], [`AgentError::TooLarge`].
pub fn parse_identities(payload: &[u8]) -> Result<Vec<Identity>, AgentError> {
    let mut reader = answer(payload, number::IDENTITIES_ANSWER)?;
    let count = reader.u32().map_err(malformed)?;
    if usize::try_from(count).map_or(true, |n| n > MAX_IDENTITIES) {
        return Err(AgentError::TooLarge);
    }
    let mut identities = Vec::new();
    for _ in 0..count {
        let blob = reader.string().map_err(malformed)?.to_vec();
        let comment = reader.string().map_err(malformed)?.to_vec();
        identities.push(Identity { blob, comment });
    }
    Ok(identities)
}

/// Reads the payload of an answer to a sign request; gives the signature's wire form.
/// # Errors
/// [`AgentError::Refused`], [`AgentError::Malformed`].
pub fn parse_signature(payload: &[u8]) -> Result<Vec<u8>, AgentError> {
    let mut reader = answer(payload, number::SIGN_RESPONSE)?;
    let signature = reader.string().map_err(malformed)?.to_vec();
    reader.finish().map_err(malformed)?;
    Ok(signature)
}

/// What an agent says to a challenge in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClearAnswer {
    /// The signature's wire form.
    Signature(Vec<u8>),
    /// It does not know the extension, whatever its comments say.
    Unknown,
}

/// Reads the payload of an answer to a challenge in clear.
/// # Errors
/// [`AgentError::Refused`]: SSH_AGENT_EXTENSION_FAILURE, the agent or its person declined; [`AgentError::Malformed`].
pub fn parse_clear_answer(payload: &[u8]) -> Result<ClearAnswer, AgentError> {
    if payload == [number::FAILURE] {
        return Ok(ClearAnswer::Unknown);
    }
    let mut reader = answer(payload, number::EXTENSION_RESPONSE)?;
    if reader.string().map_err(malformed)? != CHALLENGE_EXTENSION.as_bytes() {
        return Err(AgentError::Malformed);
    }
    let signature = reader.string().map_err(malformed)?.to_vec();
    reader.finish().map_err(malformed)?;
    Ok(ClearAnswer::Signature(signature))
}

/// Reads the payload of an answer to add or remove.
/// # Errors
/// [`AgentError::Refused`], [`AgentError::Malformed`].
pub fn parse_success(payload: &[u8]) -> Result<(), AgentError> {
    answer(payload, number::SUCCESS)?.finish().map_err(malformed)
}

/// What follows the message number, which must be `expected`.
fn answer(payload: &[u8], expected: u8) -> Result<Reader<'_>, AgentError> {
    let mut reader = Reader::new(payload);
    match reader.byte().map_err(malformed)? {
        kind if kind == expected => Ok(reader),
        number::FAILURE | number::EXTENSION_FAILURE => Err(AgentError::Refused),
        kind if number::OLD_FAILURES.contains(&kind) => Err(AgentError::Refused),
        _ => Err(AgentError::Malformed),
    }
}

fn malformed(_: WireError) -> AgentError {
    AgentError::Malformed
}
