//! Keys that the system's file has locked: there the user's file and the environment have no say.
//!
//! This keeps people from another setting by accident, and a stray variable from another CA. It holds nobody who means it: whoever runs us can run plain `ssh` as well.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A key that `locked` may name, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the key of that name, which is explained in Config")]
pub enum Lockable {
    Ca,
    CaUser,
    UserCaFile,
    KnownHosts,
    RenewBeforeSeconds,
    ConnectTimeoutSeconds,
    OnCaFailure,
    KeepIn,
    ClientKey,
    Confirm,
    /// The `[[host]]` tables, `forward` with them.
    Host,
}

impl Lockable {
    /// As it is written in a file.
    pub fn name(self) -> &'static str {
        match self {
            Lockable::Ca => "ca",
            Lockable::CaUser => "ca_user",
            Lockable::UserCaFile => "user_ca_file",
            Lockable::KnownHosts => "known_hosts",
            Lockable::RenewBeforeSeconds => "renew_before_seconds",
            Lockable::ConnectTimeoutSeconds => "connect_timeout_seconds",
            Lockable::OnCaFailure => "on_ca_failure",
            Lockable::KeepIn => "keep_in",
            Lockable::ClientKey => "client_key",
            Lockable::Confirm => "confirm",
            Lockable::Host => "host",
        }
    }
}

/// A setting of the user's that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    key: Lockable,
    /// The user's file, or the variable.
    place: PathBuf,
    /// The system's file.
    by: PathBuf,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PassedOver { key, place, by } = self;
        let name = key.name();
        let (place, by) = (place.display(), by.display());
        write!(f, "`{name}` of {place} does not count: {by} has it locked (take it out of {place})")
    }
}

/// What is locked, and what that has passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    locked: Vec<Lockable>,
    passed_over: Vec<PassedOver>,
    /// The file that locks them; empty where nothing is locked.
    system: PathBuf,
}

impl Locks {
    /// By the file of this name.
    pub(super) fn new(locked: Vec<Lockable>, system: &Path) -> Self {
        let system = if locked.is_empty() { PathBuf::new() } else { system.to_path_buf() };
        Locks { locked, passed_over: Vec::new(), system }
    }
    /// Whether this key is locked.
    pub fn has(&self, key: Lockable) -> bool {
        self.locked.contains(&key)
    }
    /// The locked keys, in the file's order.
    pub fn locked(&self) -> &[Lockable] {
        &self.locked
    }
    /// What the user has said in vain.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }
    /// The user's word if there is one and it may count, else the system's. `place`: where the user has said it.
    pub(super) fn choose<T>(&mut self, key: Lockable, place: &Path, user: Option<T>, system: Option<T>) -> Option<T> {
        match user {
            Some(_) if self.has(key) => {
                self.passed_over.push(PassedOver { key, place: place.to_path_buf(), by: self.system.clone() });
                system
            }
            Some(value) => Some(value),
            None => system,
        }
    }
}
