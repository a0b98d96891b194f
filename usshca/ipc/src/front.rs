//! The front's side: with the supervisor (a PAM worker, please) and with the signer (a certificate, please).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::admin::{self, Entry};
use crate::host::{HostAnswer, HostAsk};

/// Descriptors that the supervisor gives a front, by number.
pub mod descriptors {
    /// The accepted TCP connection.
    pub const TCP: i32 = 3;
    /// Channel<ToSupervisor, FromSupervisor>.
    pub const SUPERVISOR: i32 = 4;
    /// Channel<ToSigner, FromSigner>.
    pub const SIGNER: i32 = 5;
    /// A sealed memfd or pipe with a [`super::FrontSetup`], postcard-encoded, read to its end.
    pub const SETUP: i32 = 6;
    /// The writing end of a pipe: what the process says on stdout and stderr goes here. The supervisor escapes each line and writes it to its own log.
    pub const LOG: i32 = 7;
}

/// What a front is told when it starts.
#[derive(Serialize, Deserialize)]
pub struct FrontSetup {
    /// Connection number, for logs.
    pub connection: u64,
    /// Kernel's getpeername, as the supervisor saw it.
    pub peer: SocketAddr,
    /// The CA machine's own SSH host key, OpenSSH private key format. Not a CA key.
    pub host_key: String,
    /// Its host certificate, `type base64`.
    pub host_certificate: String,
    /// Seconds until an unauthenticated connection is dropped.
    pub login_grace_seconds: u32,
    /// PAM attempts in one connection.
    pub max_attempts: u32,
    /// The CA's name, for what users read.
    pub ca_name: String,
}

/// Front → supervisor.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// Start a PAM worker for this user name (as typed; at most 256 bytes).
    StartWorker {
        /// From the SSH request.
        user: String,
    },
    /// The same, to look the account up only: whether it may log in now, and its groups. Nobody is authenticated by that.
    StartLookup {
        /// From the SSH request.
        user: String,
    },
}

/// Supervisor → front.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSupervisor {
    /// One descriptor comes along: the front's end of a Channel<worker::ToWorker, worker::FromWorker>.
    Worker {
        /// Attempt number in this connection, from 1.
        attempt: u32,
    },
    /// No worker; why, for the user.
    Refused {
        /// A sentence.
        message: String,
    },
}

/// Front → signer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSigner {
    /// Certify this fresh key for whoever passed PAM on this connection in this attempt.
    Issue {
        /// Attempt that passed.
        attempt: u32,
        /// Wire form of the subject key.
        public_key: Vec<u8>,
        /// What the user would like.
        wish: Wish,
    },
    /// What became of the delivery of a serial issued on this very connection.
    Outcome {
        /// The serial.
        serial: u64,
        /// How it went.
        delivery: Delivery,
    },
    /// A host speaks.
    Host(HostAsk),
    /// A part of the feed, which is for everybody.
    Feed {
        /// Where the part begins, in bytes.
        offset: u64,
    },
    /// Which ways to log in, besides PAM, the policy has for whoever comes from this connection's address. The answer is [`FromSigner::Ways`].
    Ways,
    /// Whether a key may try to log in as this user: it is registered. Of no weight: nobody is believed for it. At most [`MAX_KNOWS`] times. The answer is [`FromSigner::Known`].
    Knows {
        /// As typed, at most 256 bytes.
        user: String,
        /// Wire form.
        key: Vec<u8>,
    },
    /// What policy demands of whoever an attempt's worker named. The answer is [`FromSigner::Demands`].
    Demands {
        /// The attempt.
        attempt: u32,
        /// A registered key has signed this SSH session, and that is why somebody was looked up: the front's word, which only says that such a login was let in and is no refusal.
        by_key: bool,
    },
    /// A message for a key to sign (`ussh_core::login_proof`), in place of the one before. After [`MAX_FAILED_PROOFS`] keys that proved nothing there is none. The answer is [`FromSigner::Challenge`].
    Challenge {
        /// Attempt whose user the key is to be of.
        attempt: u32,
        /// What the key is to prove.
        purpose: Purpose,
        /// Wire form.
        key: Vec<u8>,
    },
    /// The signature over the last message, in wire form. The answer is [`FromSigner::Proved`].
    Prove {
        /// By the key that was named.
        signature: Vec<u8>,
    },
    /// Certify the user's own key, which proved itself for that in this attempt.
    Certify {
        /// Attempt that passed.
        attempt: u32,
        /// Wire form.
        public_key: Vec<u8>,
        /// What the user would like.
        wish: Wish,
    },
    /// What concerns the one who proved to be the user of an attempt, and nobody else.
    Mine {
        /// The attempt.
        attempt: u32,
        /// What is asked.
        verb: Verb,
    },
    /// The next part of an answer that came with `more`.
    More,
    /// A question of an administrator's, who passed PAM in this attempt a short time ago. The answer is [`FromSigner::Admin`].
    Admin {
        /// The attempt.
        attempt: u32,
        /// What is asked.
        request: Box<admin::Request>,
    },
    /// The login of an attempt comes to nothing that the signer would hear of: for the inventory. Nothing more is asked by that attempt. The answer is [`FromSigner::Noted`].
    Ends {
        /// The attempt.
        attempt: u32,
        /// How.
        how: Ending,
        /// Of a command that does not run, what was typed: its first [`MAX_TYPED`] bytes at most; else nothing.
        typed: Vec<u8>,
    },
    /// Somebody wants to log in by a name that no account has: no worker is asked about it. The answer is [`FromSigner::Noted`].
    Impossible {
        /// As typed, its first 256 bytes at most.
        user: String,
    },
}

/// How a login ends that asks for no certificate. Of no weight: it only says why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It asked for help, and got it: nothing was refused.
    Help,
    /// No agent was forwarded.
    NoAgent,
    /// The client turned the agent's channel down, or the agent behind it does not answer.
    AgentSilent,
    /// `sign` of a key that the agent does not hold.
    KeyNotInAgent,
    /// No registered key that the rule demands is in the agent.
    NoRegisteredKey,
    /// Of the registered keys that the rule demands one is in the agent, and it is revoked.
    RegisteredKeyRevoked,
    /// The agent did not sign with the key.
    AgentDidNotSign,
    /// `sign` without a public key.
    NoPublicKey,
    /// A command that is none, or not in this form.
    Command,
    /// An administrator's verb that is about the CA's machine, or a form of one.
    OnlyThere,
}

impl Ending {
    /// Whether what was typed belongs to it.
    pub fn is_of_a_command(self) -> bool {
        matches!(self, Ending::Command | Ending::OnlyThere)
    }
}

/// Most of a command that does not run, in bytes.
pub const MAX_TYPED: usize = 40;

/// Most keys that a front may ask about.
pub const MAX_KNOWS: u32 = 64;

/// How often somebody may be refused on one connection for what was not proved: keys that fail, questions about themselves and administration.
pub const MAX_FAILED_PROOFS: u32 = 64;

/// What a key is to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// That the user of whom it is registered is there.
    Login,
    /// That its owner wants it certified.
    ClientKey,
}

/// What a user may ask about themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// Who it is. The answer is [`FromSigner::You`].
    WhoAmI,
    /// Their certificates and refusals, newest first. The answer is [`FromSigner::Yours`].
    List,
    /// Revoke all of their certificates that are good. The answer is [`FromSigner::RevokedYours`].
    Revoke,
    /// The KRL. The answer is [`FromSigner::Krl`].
    Krl,
}

/// A way to prove who one is that a rule takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// PAM.
    pub pam: bool,
    /// A registered key.
    pub publickey: bool,
}

/// Kinds of keys that the CA makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Makes {
    /// `ssh-ed25519`
    Ed25519,
    /// `ecdsa-sha2-nistp256`
    Ecdsa,
}

/// What a user may ask for, within what the rule allows. It comes through the front, and can only make less of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// `for=1h`: seconds from now.
    pub validity_seconds: Option<u64>,
    /// `principals=a,b`: these of the rule's, at most [`MAX_WISHES`] of at most [`MAX_WISHED`] bytes; empty: all.
    pub principals: Vec<String>,
    /// `reason="…"`, at most [`MAX_REASON`] bytes.
    pub reason: String,
}

/// Longest reason, in bytes.
pub const MAX_REASON: usize = 256;

/// Most principals that are asked for.
pub const MAX_WISHES: usize = 64;

/// Longest principal that is asked for, in bytes.
pub const MAX_WISHED: usize = 256;

/// How a delivery went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// The agent took key and certificate.
    Delivered,
    /// It did not; a short reason (`no agent was forwarded`, `the agent refused`).
    Refused(String),
}

/// Signer → front.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSigner {
    /// Signed and durably recorded.
    Issued {
        /// Wire form.
        certificate: Vec<u8>,
        /// Agent lifetime: to the certificate's end, seconds.
        lifetime_seconds: u32,
        /// Ask before each use (policy).
        confirm: bool,
        /// Comment for the agent.
        comment: String,
        /// The rule that decided, for the user's eyes.
        rule: String,
    },
    /// Policy or state says no; a sentence for the user, and what to try.
    Refused {
        /// The sentence.
        message: String,
    },
    /// The outcome stands in the inventory.
    Noted,
    /// To a host.
    Host(HostAnswer),
    /// A part of the feed.
    Feed {
        /// Of the whole feed: another one than of the part before means that there is a newer feed, to be asked for from its beginning.
        version: u64,
        /// Of the whole feed, bytes.
        total: u64,
        /// From the offset on.
        chunk: Vec<u8>,
    },
    /// Ways besides PAM.
    Ways {
        /// By a registered key.
        publickey: bool,
        /// With nothing.
        none: bool,
    },
    /// Whether the key is registered for the user.
    Known(bool),
    /// What policy demands.
    Demands {
        /// Any of these is enough.
        ways: Vec<Way>,
        /// Kinds of keys that the rule allows and the CA makes, in the rule's order.
        makes: Vec<Makes>,
    },
    /// To be signed.
    Challenge {
        /// See `ussh_core::login_proof`.
        message: Vec<u8>,
    },
    /// The key proved it.
    Proved,
    /// Who it is.
    You {
        /// Canonical account name.
        user: String,
        /// How it was proved, as policy names it.
        authenticated: String,
    },
    /// Rows of the inventory, newest first.
    Yours {
        /// As many as fit.
        rows: Vec<Entry>,
        /// There are more: [`ToSigner::More`].
        more: bool,
    },
    /// Revoked now.
    RevokedYours {
        /// How many certificates; 0: there was none that is good.
        certificates: u64,
    },
    /// A part of the KRL.
    Krl {
        /// Bytes.
        chunk: Vec<u8>,
        /// There are more: [`ToSigner::More`].
        more: bool,
    },
    /// To an administrator; behind a part of a KRL that is not the last one, the next comes for [`ToSigner::More`].
    Admin(Box<admin::Reply>),
    /// The key is registered for the user, and revoked: it opens nothing. Instead of [`FromSigner::Known`].
    KnownRevoked,
}
