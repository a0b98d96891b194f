//! What a host and the CA say to each other: how a new host gets its certificates with a token, has them renewed by its own keys, and reports that it is alive.
//!
//! Over `ssh host@CA VERB`, one line of JSON at a time (docs/hosts.md):
//!
//! 1. CA: [`hello`] with a nonce. 2. Host: a [`Proof`] over that nonce, by the token and by each of its keys. 3. CA: what came of it. 4. Host, if it was given certificates: [`TAKEN`].
//!
//! The host's half is [`Exchange`]: lines in, lines out. The CA's is its signer's: whoever carries the lines between them can change none, use none for other keys, and make up no
//! answer. A token is the seed of a key of its own ([`HostToken`]): it signs, and never leaves the host.

mod client;
mod line;
mod proof;
mod token;

pub use self::client::{Exchange, ExchangeError, Granted, Reported};
pub use self::line::{Answer, MAX_LINE, TAKEN, answer, hello, krl_line, read_proof, refusal};
pub use self::proof::{Claims, Grant, MAX_KEYS, MAX_NAMES, Proof, ProofError, Proven, Signed};
pub use self::token::HostToken;

/// SSHSIG namespace of what a host proves.
pub const NAMESPACE: &str = "host@ussh";

/// SSHSIG namespace of what the CA answers, by the host CA's key.
pub const ANSWER_NAMESPACE: &str = "host-answer@ussh";

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 32;

/// The version of this protocol: the first byte of all that is signed.
pub const VERSION: u8 = 1;

/// Most break-glass notes in one exchange: with their escapes they fit into a line.
pub const MAX_NOTES: usize = 8;

/// What a host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verb {
    /// Certificates, by a token.
    Enroll,
    /// New certificates for the same keys and names.
    Renew,
    /// Nothing: it is alive.
    Report,
    /// The KRL.
    Krl,
    /// Nothing: it says how often break-glass was used on it, in notes (`crate::break_glass`) that stand in the place of names.
    BreakGlass,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Verb; 5] = [Verb::Enroll, Verb::Renew, Verb::Report, Verb::Krl, Verb::BreakGlass];

    /// As it stands on the command line of `ssh host@CA`, and in what is signed.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Enroll => "enroll",
            Verb::Renew => "renew",
            Verb::Report => "report",
            Verb::Krl => "krl",
            Verb::BreakGlass => "break-glass",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }
}

#[cfg(test)]
mod tests;
