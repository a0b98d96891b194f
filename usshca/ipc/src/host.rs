//! Hosts: what a front carries for one of them, and what administrators ask about them.

use std::fmt;

use serde::{Deserialize, Serialize};
use ussh_core::enroll::{Grant, NONCE_LEN, Proof, Verb};
use zeroize::Zeroizing;

/// A host's words, by way of a front. Untrusted: what is in a proof is signed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostAsk {
    /// A nonce, please. Once on a connection.
    Hello {
        /// For what.
        verb: Verb,
    },
    /// The proof over that nonce. Once.
    Prove(Proof),
}

/// Signer → front, for a host.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostAnswer {
    /// The nonce.
    Nonce {
        /// Random.
        nonce: [u8; NONCE_LEN],
    },
    /// Signed and durably recorded. The front tells the outcome of each.
    Granted {
        /// For the host.
        grant: Box<Grant>,
        /// Serials of the certificates in it.
        serials: Vec<u64>,
    },
    /// The report was taken.
    Reported {
        /// Its name in the inventory.
        host: String,
        /// When the first of its certificates ends, seconds since the epoch; `None`: it has none.
        valid_before: Option<u64>,
    },
    /// A KRL, in pieces whose length is a multiple of 3, but for the last one's.
    Krl {
        /// Bytes.
        chunk: Vec<u8>,
        /// Another one follows, unasked.
        more: bool,
    },
    /// No; a sentence for the host, and what to try.
    Refused {
        /// The sentence.
        message: String,
    },
}

/// A secret on its way to whoever asked for it: shown as `***`, wiped on drop.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes it over.
    pub fn new(text: Zeroizing<String>) -> Self {
        Secret(text.as_str().to_owned())
    }

    /// For the eyes that it is meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// One token, without what makes it one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its number.
    pub id: u64,
    /// Names of the host that may enroll with it, its own first.
    pub names: Vec<String>,
    /// Seconds since the epoch.
    pub made: u64,
    /// Who made it.
    pub made_by: String,
    /// Seconds since the epoch, exclusive.
    pub expires: u64,
}

/// One host of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its first name: the key ID of its certificates.
    pub name: String,
    /// Its keys, those that were replaced last.
    pub keys: Vec<HostKey>,
    /// Seconds since the epoch.
    pub enrolled: u64,
    /// By whom: `token 3`, `admin uid 0`.
    pub enrolled_by: String,
    /// When one of its keys last proved itself here, by this CA's clock, seconds since the epoch.
    pub seen: Option<u64>,
    /// From which address.
    pub seen_from: Option<String>,
    /// When two addresses were last seen to use one key in turn, seconds since the epoch.
    pub cloned: Option<u64>,
    /// Which two.
    pub cloned_at: Option<String>,
    /// Seconds since the epoch, if it was removed.
    pub removed: Option<u64>,
    /// By whom.
    pub removed_by: Option<String>,
    /// Break-glass on it, as it told itself: the newest, first; at most 20, and none in lists of hosts.
    pub break_glass: Vec<BreakGlass>,
}

/// One use of break-glass, in the host's own words, escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakGlass {
    /// The account.
    pub user: String,
    /// The client; empty: unknown.
    pub from: String,
    /// Of the certificate.
    pub key_id: String,
    /// Of the certificate.
    pub serial: String,
    /// Of the certificate's key.
    pub key: String,
    /// Of the certificate's CA.
    pub ca: String,
    /// When its session was opened, by the host's clock, seconds since the epoch.
    pub opened: u64,
    /// When the CA heard of it, by its own.
    pub received: u64,
}

/// A key of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKey {
    /// `type base64`.
    pub public_key: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// What its certificates hold.
    pub principals: Vec<String>,
    /// Since when it is this host's, seconds since the epoch.
    pub since: u64,
    /// Seconds since the epoch, if an enrolment replaced it.
    pub replaced: Option<u64>,
    /// Serial of its last certificate that is not revoked; 0: none.
    pub serial: u64,
    /// Its end, seconds since the epoch; 0: there is none.
    pub valid_before: u64,
}

impl Host {
    /// The names in the certificates of its present keys.
    pub fn principals(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for name in self.present_keys().flat_map(|key| &key.principals) {
            if !all.contains(&name.as_str()) {
                all.push(name);
            }
        }
        all
    }

    /// Those that were not replaced.
    pub fn present_keys(&self) -> impl Iterator<Item = &HostKey> {
        self.keys.iter().filter(|key| key.replaced.is_none())
    }

    /// When the first certificate of its present keys ends, seconds since the epoch; 0: one of them has none.
    pub fn valid_before(&self) -> Option<u64> {
        self.present_keys().map(|key| key.valid_before).min()
    }
}
