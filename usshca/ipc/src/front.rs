//! The front's side: with the supervisor (a PAM worker, please) and with the signer (a certificate, please).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

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
}

/// What a user may ask for, within what the rule allows. It comes through the front, and can only make less of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// `for=1h`: seconds from now.
    pub validity_seconds: Option<u64>,
    /// `principals=a,b`: these of the rule's, at most [`MAX_WISHES`]; empty: all.
    pub principals: Vec<String>,
    /// `reason="…"`, at most [`MAX_REASON`] bytes.
    pub reason: String,
}

/// Longest reason, in bytes.
pub const MAX_REASON: usize = 256;

/// Most principals that are asked for.
pub const MAX_WISHES: usize = 64;

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
}
