//! The session record: what our session hook (pam_ussh, as root in sshd) writes for one connection and ussh-hostd reads.
//!
//! One JSON file per connection in [`SPOOL`], named `<pid>-<start_time>.json`, root-owned 0600, put there by an atomic rename. Trusted only because of where it lies and whose it is.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;

/// Where the records lie.
pub const SPOOL: &str = "/run/ussh-hostd/sessions";

/// One sshd connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRecord {
    /// Format of this file: 1.
    pub version: u32,
    /// Process that ran pam_open_session (sshd's monitor).
    pub pid: u32,
    /// Field 22 of /proc/PID/stat, clock ticks since boot.
    pub start_time: u64,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// PAM_USER.
    pub user: String,
    /// Of that user.
    pub uid: u32,
    /// PAM_RHOST, an address or a name as sshd gave it; empty if none.
    pub rhost: String,
    /// The user certificate of the login, `type base64`; `None`: the login used none.
    pub certificate: Option<String>,
    /// When the session was opened.
    pub opened: UnixTime,
}

/// What went wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system said no.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Not a record of ours.
    #[error("malformed record: {0}")]
    Malformed(String),
}

impl SessionRecord {
    /// `<pid>-<start_time>.json`.
    pub fn file_name(&self) -> String {
        format!("{}-{}.json", self.pid, self.start_time)
    }
    /// Writes into `spool` (made 0700 if it is missing, parents 0755): temporary file, fsync-less, rename.
    /// # Errors
    /// [`RecordError`]; nothing is left behind then.
    pub fn write(&self, spool: &Path) -> Result<(), RecordError> {
        let _ = spool;
        todo!()
    }
    /// Reads one file, at most 64 KiB; checks owner root and mode on the open descriptor.
    /// # Errors
    /// [`RecordError`]
    pub fn read(file: &Path) -> Result<Self, RecordError> {
        let _ = file;
        todo!()
    }
    /// Removes this connection's file; a missing one is fine.
    /// # Errors
    /// [`RecordError`]
    pub fn remove(&self, spool: &Path) -> Result<(), RecordError> {
        let _ = spool;
        todo!()
    }
}
