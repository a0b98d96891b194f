//! The agent wire (draft-ietf-sshm-ssh-agent): messages, and a blocking client with caps and deadlines.
//!
//! The messages are plain functions from bytes to values, so that the CA's front can use them on an SSH channel and the guarded agent can answer with them.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::certificate::Certificate;
use crate::keys::PrivateKey;

/// Longest frame either way, in bytes (ssh-agent's own limit: AGENT_MAX_LEN).
pub const MAX_FRAME: usize = 256 * 1024;
/// Most identities read from one listing.
pub const MAX_IDENTITIES: usize = 2048;

/// What went wrong with an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The connection failed or ended.
    #[error("connection: {0}")]
    Io(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// A frame over [`MAX_FRAME`], or more than [`MAX_IDENTITIES`].
    #[error("answer too large")]
    TooLarge,
    /// An answer that is not one to the question.
    #[error("malformed answer")]
    Malformed,
    /// SSH_AGENT_FAILURE.
    #[error("the agent refused")]
    Refused,
}

/// One key or certificate that an agent lists. Blob and comment are the agent's words, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Wire form of key or certificate.
    pub blob: Vec<u8>,
    /// Any bytes.
    pub comment: Vec<u8>,
}

/// Constraints on an added key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// SSH_AGENT_CONSTRAIN_LIFETIME, seconds, > 0.
    pub lifetime_seconds: Option<u32>,
    /// SSH_AGENT_CONSTRAIN_CONFIRM.
    pub confirm: bool,
}

/// What a client asks of an agent (payloads without the frame's length; the first byte is the type).
#[derive(Clone, Debug, PartialEq, Eq)]
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
        /// The certificate's wire form.
        certificate_blob: Vec<u8>,
        /// The comment.
        comment: Vec<u8>,
        /// Constraints; unknown ones make the request [`Request::Other`].
        constraints: Constraints,
        /// The whole payload, to be passed on unchanged.
        payload: zeroize::Zeroizing<Vec<u8>>,
    },
    /// SSH_AGENTC_REMOVE_IDENTITY (18).
    Remove {
        /// Key or certificate.
        blob: Vec<u8>,
    },
    /// Any other type, malformed content included.
    Other(u8),
}

impl Request {
    /// Reads one payload.
    pub fn parse(payload: &[u8]) -> Request {
        let _ = payload;
        todo!()
    }
}

/// Messages as frames (with the 4-byte length), ready to send.
pub mod frame {
    use super::{Certificate, Constraints, Identity, PrivateKey};

    /// REQUEST_IDENTITIES.
    pub fn list() -> Vec<u8> {
        todo!()
    }
    /// SIGN_REQUEST.
    pub fn sign(blob: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
        let _ = (blob, data, flags);
        todo!()
    }
    /// ADD_ID_CONSTRAINED of an Ed25519 or ECDSA key with its certificate.
    /// # Errors
    /// The key's type has no such form here.
    pub fn add_certificate(
        certificate: &Certificate,
        key: &PrivateKey,
        comment: &str,
        constraints: &Constraints,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, crate::keys::KeyError> {
        let _ = (certificate, key, comment, constraints);
        todo!()
    }
    /// REMOVE_IDENTITY.
    pub fn remove(blob: &[u8]) -> Vec<u8> {
        let _ = blob;
        todo!()
    }
    /// A payload with its length in front.
    pub fn wrap(payload: &[u8]) -> Vec<u8> {
        let _ = payload;
        todo!()
    }
    /// SSH_AGENT_FAILURE (5).
    pub fn failure() -> Vec<u8> {
        todo!()
    }
    /// SSH_AGENT_SUCCESS (6).
    pub fn success() -> Vec<u8> {
        todo!()
    }
    /// IDENTITIES_ANSWER (12).
    pub fn identities(identities: &[Identity]) -> Vec<u8> {
        let _ = identities;
        todo!()
    }
}

/// Reads the payload of an answer to a listing.
/// # Errors
/// [`AgentError`]
pub fn parse_identities(payload: &[u8]) -> Result<Vec<Identity>, AgentError> {
    let _ = payload;
    todo!()
}
/// Reads the payload of an answer to a sign request; gives the signature's wire form.
/// # Errors
/// [`AgentError`]
pub fn parse_signature(payload: &[u8]) -> Result<Vec<u8>, AgentError> {
    let _ = payload;
    todo!()
}
/// Reads the payload of an answer to add or remove.
/// # Errors
/// [`AgentError`]
pub fn parse_success(payload: &[u8]) -> Result<(), AgentError> {
    let _ = payload;
    todo!()
}

/// A connected agent. Blocking, no threads; every call ends by the deadline set last.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    deadline: Instant,
}

impl Agent {
    /// Takes a connected stream. Whose agent it is is the caller's to know.
    pub fn new(stream: UnixStream, patience: Duration) -> Self {
        Agent { stream, deadline: Instant::now() + patience }
    }
    /// Sets the instant by which every further call must be done.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }
    /// Sends a frame, reads one answer, gives its payload (1 ..= MAX_FRAME bytes).
    /// # Errors
    /// [`AgentError`]
    pub fn round_trip(&mut self, frame: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>, AgentError> {
        let _ = frame;
        todo!()
    }
    /// Lists.
    /// # Errors
    /// [`AgentError`]
    pub fn list(&mut self) -> Result<Vec<Identity>, AgentError> {
        todo!()
    }
    /// Signs.
    /// # Errors
    /// [`AgentError`]
    pub fn sign(&mut self, blob: &[u8], data: &[u8], flags: u32) -> Result<Vec<u8>, AgentError> {
        let _ = (blob, data, flags);
        todo!()
    }
    /// Adds a key with its certificate.
    /// # Errors
    /// [`AgentError`]
    pub fn add_certificate(&mut self, certificate: &Certificate, key: &PrivateKey, comment: &str, constraints: &Constraints) -> Result<(), AgentError> {
        let _ = (certificate, key, comment, constraints);
        todo!()
    }
    /// Removes.
    /// # Errors
    /// [`AgentError`]
    pub fn remove(&mut self, blob: &[u8]) -> Result<(), AgentError> {
        let _ = blob;
        todo!()
    }
}
