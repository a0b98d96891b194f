//! What administrators ask of the signer (root or the CA's owner, kernel-attested).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::front::Wish;

/// One question.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Certificates by serial descending, from below `before` (exclusive; u64::MAX = newest), at most `limit` (≤ 500) rows.
    List {
        /// Exclusive upper bound on the row number.
        before: u64,
        /// Rows.
        limit: u32,
    },
    /// Revokes a serial of ours.
    Revoke {
        /// The serial.
        serial: u64,
        /// Free text, ≤ 1 KiB.
        reason: String,
    },
    /// The KRL of all that is revoked and not yet expired.
    Krl,
    /// Sign a host certificate.
    HostSign {
        /// Wire form of the host key.
        public_key: Vec<u8>,
        /// Host names; no wildcards.
        principals: Vec<String>,
        /// Seconds from now.
        validity_seconds: u64,
    },
    /// CA public keys.
    Keys,
    /// One certificate, with all that is known of it.
    Show {
        /// The serial.
        serial: u64,
    },
    /// What policy would say, and why.
    Explain(Box<Supposed>),
}

/// A request that might be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supposed {
    /// Canonical account name.
    pub user: String,
    /// Its groups by name.
    pub groups: Vec<String>,
    /// Where it comes from.
    pub source: IpAddr,
    /// When, seconds since the epoch; `None`: now.
    pub time: Option<u64>,
    /// How it is authenticated, as policy names it.
    pub authentication: String,
    /// Who makes the key, as policy names it.
    pub mode: String,
    /// Of the key, as policy names it.
    pub key_type: String,
    /// What the user would like.
    pub wish: Wish,
}

/// What policy says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Rules that were looked at before the one that decides, in order, and why each was not it.
    pub passed_over: Vec<(String, String)>,
    /// The rule that decides; empty: none does.
    pub rule: String,
    /// The certificate that there would be, or why there is none.
    pub decision: Result<Grant, String>,
}

/// What a certificate would be like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The account.
    pub key_id: String,
    /// In order.
    pub principals: Vec<String>,
    /// Seconds since the epoch.
    pub valid_after: u64,
    /// Seconds since the epoch.
    pub valid_before: u64,
    /// Name and value; the value of a flag is empty.
    pub critical_options: Vec<(String, String)>,
    /// Flags by name; `login-time@ussh` is in every certificate besides.
    pub extensions: Vec<String>,
    /// The agent asks before each use.
    pub confirm: bool,
    /// The agent drops it after so many seconds.
    pub agent_lifetime_seconds: u64,
    /// Most of them that are good at one time, if there is such a limit.
    pub max_certificates: Option<u32>,
}

/// The answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Rows; more follow below the last one's `row`.
    List(Vec<Entry>),
    /// Revoked now (or already: `already` is true).
    Revoked {
        /// It was before.
        already: bool,
    },
    /// A KRL, chunked: `more` = ask nothing, keep receiving.
    Krl {
        /// Bytes.
        chunk: Vec<u8>,
        /// Another Reply::Krl follows.
        more: bool,
    },
    /// `type base64 comment`.
    HostCertificate {
        /// The line.
        line: String,
        /// Its serial.
        serial: u64,
    },
    /// CA public keys, `type base64 comment`.
    Keys {
        /// Signs users.
        user_ca: String,
        /// Signs hosts.
        host_ca: String,
    },
    /// No; why, and what to try.
    Refused(String),
    /// The certificate that was asked for.
    Shown(Box<Shown>),
    /// What policy would say.
    Explained(Box<Explained>),
}

/// One certificate, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its row.
    pub entry: Entry,
    /// `type base64`; `None`: reserved, but never signed as far as the inventory knows.
    pub certificate: Option<String>,
    /// Who revoked it (`admin uid 0`), if revoked.
    pub revoked_by: Option<String>,
    /// Why, if revoked.
    pub revocation_reason: Option<String>,
}

/// One row of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Row number, ascending.
    pub row: u64,
    /// 0 for a refusal (no certificate was made).
    pub serial: u64,
    /// `user` or `host`.
    pub kind: String,
    /// Key ID.
    pub key_id: String,
    /// Principals.
    pub principals: Vec<String>,
    /// Fingerprint of the subject key, empty if none.
    pub fingerprint: String,
    /// Seconds since the epoch.
    pub valid_after: u64,
    /// Seconds since the epoch.
    pub valid_before: u64,
    /// Seconds since the epoch: when it was asked for.
    pub asked: u64,
    /// Peer address, or `admin`.
    pub from: String,
    /// How authenticated: `pam:usshca`, `admin uid 0`.
    pub authenticated: String,
    /// Policy rule.
    pub rule: String,
    /// `reserved`, `signed`, `delivered`, `undelivered: why`, `refused: why`.
    pub outcome: String,
    /// Seconds since the epoch, if revoked.
    pub revoked: Option<u64>,
}
