//! The agent wire (draft-ietf-sshm-ssh-agent, OpenSSH's PROTOCOL.agent): messages, and a blocking client with caps and
//! deadlines.
//!
//! The messages are plain functions from bytes to values, so that the CA's front can use them on an SSH channel and the
//! guarded agent can answer with them. Untrusted input: every byte that comes from the other side.

mod client;
pub mod frame;
mod message;

use crate::certificate::Certificate;
pub(crate) use client::after;
pub use client::{Agent, LOOK_EVERY, Waiting};
pub use message::{
    ClearAnswer, Request, added_key, parse_clear_answer, parse_identities, parse_signature, parse_success,
};

/// Longest payload either way, in bytes (ssh-agent's own limit: AGENT_MAX_LEN).
pub const MAX_FRAME: usize = 256 * 1024;
/// Most identities read from one listing (authfd.c MAX_AGENT_IDENTITIES).
pub const MAX_IDENTITIES: usize = 2048;
/// Sign flag: an RSA key shall sign with rsa-sha2-512 (SSH_AGENT_RSA_SHA2_512).
pub const RSA_SHA2_512: u32 = 4;

/// What went wrong with an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The connection failed or ended.
    #[error("connection: {0}")]
    Io(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// A payload over [`MAX_FRAME`], or more than [`MAX_IDENTITIES`].
    #[error("message too large")]
    TooLarge,
    /// An answer that is not one to the question.
    #[error("malformed answer")]
    Malformed,
    /// SSH_AGENT_FAILURE.
    #[error("the agent refused")]
    Refused,
    /// Whoever waits does not want to any more.
    #[error("interrupted")]
    Interrupted,
    /// A key of ours that cannot be sent to an agent.
    #[error("{0}")]
    Key(crate::keys::KeyError),
}

/// One key or certificate that an agent lists. Blob and comment are the agent's words, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Wire form of key or certificate.
    pub blob: Vec<u8>,
    /// Any bytes.
    pub comment: Vec<u8>,
}

/// Name of the extension by which an agent is sent a challenge in clear (docs/challenge.md).
pub const CHALLENGE_EXTENSION: &str = "challenge@ussh";

impl Identity {
    /// Whether the agent says that it takes challenges for this identity in clear: the last word of the comment is the extension's name. A stock agent is so never asked in vain.
    pub fn takes_clear_challenges(&self) -> bool {
        self.comment.rsplit(|byte| *byte == b' ').next() == Some(CHALLENGE_EXTENSION.as_bytes())
    }
}

/// The comment that the CA gives an identity which it puts into an agent.
pub fn injected_comment(user: &str, serial: u64) -> String {
    format!("ussh {user} serial {serial}")
}

impl Identity {
    /// Whether the CA of this certificate put it there, by the comment. One of the user's own key, which the CA certified and the user added, has another: it is the user's to remove.
    pub fn was_injected(&self, certificate: &Certificate) -> bool {
        let user = String::from_utf8_lossy(certificate.key_id());
        self.comment == injected_comment(&user, certificate.serial()).as_bytes()
    }
}

/// Constraints on an added key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// SSH_AGENT_CONSTRAIN_LIFETIME, seconds, > 0.
    pub lifetime_seconds: Option<u32>,
    /// SSH_AGENT_CONSTRAIN_CONFIRM.
    pub confirm: bool,
}

/// Message numbers (draft-ietf-sshm-ssh-agent §6.1).
mod number {
    pub const FAILURE: u8 = 5;
    pub const SUCCESS: u8 = 6;
    pub const REQUEST_IDENTITIES: u8 = 11;
    pub const IDENTITIES_ANSWER: u8 = 12;
    pub const SIGN_REQUEST: u8 = 13;
    pub const SIGN_RESPONSE: u8 = 14;
    pub const ADD_IDENTITY: u8 = 17;
    pub const REMOVE_IDENTITY: u8 = 18;
    pub const ADD_ID_CONSTRAINED: u8 = 25;
    pub const EXTENSION: u8 = 27;
    pub const EXTENSION_FAILURE: u8 = 28;
    pub const EXTENSION_RESPONSE: u8 = 29;
    /// authfd.h SSH2_AGENT_FAILURE and SSH_COM_AGENT2_FAILURE: refusals of agents older than the draft.
    pub const OLD_FAILURES: [u8; 2] = [30, 102];

    pub const CONSTRAIN_LIFETIME: u8 = 1;
    pub const CONSTRAIN_CONFIRM: u8 = 2;
}

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod message_tests;
#[cfg(test)]
mod openssh_tests;
