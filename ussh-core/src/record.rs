//! The session record: what our session hook (pam_ussh, as root in sshd) writes for one connection and ussh-hostd reads.
//!
//! One JSON file per connection in [`SPOOL`], named `<pid>-<start_time>.json`, root-owned 0600, put there by an atomic rename. Trusted only because of where it lies and whose it is.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::trusted_file::{Owner, TrustedFileError, open_no_follow, read_capped};

/// Longest record, in bytes (a certificate of OpenSSH's largest kind takes about 20 kB).
pub const MAX_RECORD: usize = 64 * 1024;

/// Format that this version writes and reads.
pub const VERSION: u32 = 1;

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
    /// Others can change the folder of the records.
    #[error("{0}")]
    Folder(TrustedFileError),
    /// Not a record of ours.
    #[error("malformed record: {0}")]
    Malformed(String),
}

impl SessionRecord {
    /// `<pid>-<start_time>.json`.
    pub fn file_name(&self) -> String {
        format!("{}-{}.json", self.pid, self.start_time)
    }
    /// Writes into `spool` (made 0700 if it is missing, parents 0755): temporary file, fsync-less (the spool lies in
    /// memory and ends with the boot that it speaks of), rename.
    /// # Errors
    /// [`RecordError`]; nothing is left behind then.
    pub fn write(&self, spool: &Path) -> Result<(), RecordError> {
        self.write_as(spool, &Owner::ROOT)
    }
    /// Reads one file, at most 64 KiB; checks owner root and mode on the open descriptor.
    /// # Errors
    /// [`RecordError`]
    pub fn read(file: &Path) -> Result<Self, RecordError> {
        Self::read_as(file, &Owner::ROOT)
    }
    /// Removes this connection's file; a missing one is fine.
    /// # Errors
    /// [`RecordError`]
    pub fn remove(&self, spool: &Path) -> Result<(), RecordError> {
        remove_if_there(&spool.join(self.file_name()))?;
        Ok(())
    }

    fn write_as(&self, spool: &Path, owner: &Owner<'_>) -> Result<(), RecordError> {
        let json = serde_json::to_vec(self).map_err(|e| RecordError::Malformed(e.to_string()))?;
        if self.version != VERSION {
            return Err(RecordError::Malformed(format!("version {}", self.version)));
        }
        if json.len() > MAX_RECORD {
            return Err(RecordError::Malformed(format!("larger than {MAX_RECORD} bytes")));
        }
        make_spool(spool, owner)?;
        // One process opens one session at a time, so the name is this call's own; what lies there is left over from a
        // process that died while it wrote.
        let temporary = spool.join(format!(".{}.new", self.file_name()));
        remove_if_there(&temporary)?;
        let written =
            create_new(&temporary, &json).and_then(|()| std::fs::rename(&temporary, spool.join(self.file_name())));
        if let Err(e) = written {
            remove_if_there(&temporary)?;
            return Err(e.into());
        }
        Ok(())
    }

    fn read_as(file: &Path, owner: &Owner<'_>) -> Result<Self, RecordError> {
        let (open, metadata) = open_no_follow(file)?;
        if !metadata.is_file() {
            return Err(RecordError::Malformed("not a regular file".into()));
        }
        if !owner.alone_can_change(&metadata) {
            return Err(RecordError::Malformed("bad ownership or modes".into()));
        }
        let json = read_capped(&open, &metadata, MAX_RECORD)?
            .ok_or_else(|| RecordError::Malformed(format!("larger than {MAX_RECORD} bytes")))?;
        let record: SessionRecord = serde_json::from_slice(&json).map_err(|e| RecordError::Malformed(e.to_string()))?;
        if record.version != VERSION {
            return Err(RecordError::Malformed(format!("version {}", record.version)));
        }
        if file.file_name().is_none_or(|name| name != record.file_name().as_str()) {
            return Err(RecordError::Malformed("under another record's name".into()));
        }
        Ok(record)
    }
}

/// Makes the spool and the folders above it where they are missing; refuses one that others can write to.
fn make_spool(spool: &Path, owner: &Owner<'_>) -> Result<(), RecordError> {
    if let Some(parent) = spool.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(spool) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
        _ => {}
    }
    let (_, metadata) = open_no_follow(spool)?;
    if !metadata.is_dir() {
        return Err(RecordError::Malformed(format!("{} is no folder", spool.display())));
    }
    owner.demand(spool, &metadata).map_err(RecordError::Folder)
}

fn create_new(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(data)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
