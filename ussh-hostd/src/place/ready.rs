//! One file of several: it is laid ready beside its target, put in place, and put back by what is seen on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ussh_core::digest::{hexadecimal, sha256};
use ussh_core::trusted_file::read_trusted;

use super::{NewFile, PlaceError};
use crate::own_file::{read_if_there, remove_if_there};

/// Ends of the names beside a target: what lies ready, and what is kept of before.
pub(super) const NEW: &str = ".ussh-hostd-new";
const BEFORE: &str = ".ussh-hostd-before";
/// Largest file, bytes.
pub(super) const MAX_FILE: usize = crate::trust::MAX_REVOKED;

/// A file that lies ready, or is in place. What became of it is seen on disk, so that it is the same thing read from a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ready {
    pub(super) target: PathBuf,
    /// Something is replaced, of which another name is kept.
    replaces: bool,
    /// Of the new contents, in hexadecimal.
    sha256: String,
}

/// What undoing has come to.
pub(super) enum Back {
    AsBefore,
    /// It is no more what was put there, and stays.
    SomebodyElses,
}

/// `None`: it is there already.
pub(super) fn prepare(file: NewFile) -> Result<Option<Ready>, PlaceError> {
    let target = real(&file.path);
    // A file that others could change is an error rather than something to be quietly replaced.
    let before = read_if_there(&file.path, MAX_FILE)?;
    let mode = std::fs::metadata(&target).map(|m| m.permissions().mode() & 0o7777);
    if before.as_deref() == Some(file.data.as_slice()) && mode.is_ok_and(|mode| mode == file.mode) {
        return Ok(None);
    }
    let ready = Ready { target, replaces: before.is_some(), sha256: hexadecimal(&sha256(&file.data)) };
    match lay_ready(&ready, &file) {
        Ok(()) => Ok(Some(ready)),
        Err(e) => {
            let _ = remove_if_there(&ready.temporary());
            Err(e)
        }
    }
}

fn lay_ready(ready: &Ready, file: &NewFile) -> Result<(), PlaceError> {
    let (temporary, failed) = (ready.temporary(), |source| PlaceError::Write { path: ready.target.clone(), source });
    write_durably(&temporary, &file.data, file.mode).map_err(failed)?;
    // As it will be read: a folder that others can change is found out before anything is replaced.
    if read_trusted(&temporary, MAX_FILE)? != file.data {
        return Err(failed(io::Error::other("does not read back")));
    }
    Ok(())
}

/// A symbolic link stays one: what it points to is replaced.
pub(super) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.into())
}

impl Ready {
    pub(super) fn temporary(&self) -> PathBuf {
        beside(&self.target, NEW)
    }

    /// Another name of what is replaced.
    pub(super) fn kept(&self) -> PathBuf {
        beside(&self.target, BEFORE)
    }

    pub(super) fn put_in_place(&self) -> io::Result<()> {
        if self.replaces {
            std::fs::hard_link(&self.target, self.kept())?;
            // On disk before there is no other name of it.
            sync_folder_of(&self.target)?;
        }
        std::fs::rename(self.temporary(), &self.target)?;
        sync_folder_of(&self.target)
    }

    /// However far it had come; done again, it does nothing.
    pub(super) fn put_back(&self) -> io::Result<Back> {
        remove_if_there(&self.temporary())?;
        let is_ours = self.is_in_place()?;
        let kept = self.kept();
        let back = match (number(&kept)?, is_ours) {
            (Some(before), _) if number(&self.target)? == Some(before) => {
                remove_if_there(&kept)?;
                Back::AsBefore
            }
            (Some(_), true) => {
                std::fs::rename(&kept, &self.target)?;
                Back::AsBefore
            }
            (Some(_), false) => {
                // Nor is what was there before lost.
                let saved = saved(&self.target);
                if number(&saved)? != number(&kept)? {
                    std::fs::hard_link(&kept, saved)?;
                }
                remove_if_there(&kept)?;
                Back::SomebodyElses
            }
            (None, true) if !self.replaces => {
                std::fs::remove_file(&self.target)?;
                Back::AsBefore
            }
            (None, false) if !self.replaces && number(&self.target)?.is_some() => Back::SomebodyElses,
            (None, _) => Back::AsBefore,
        };
        sync_folder_of(&self.target)?;
        Ok(back)
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let data = read_if_there(&self.target, MAX_FILE).map_err(io::Error::other)?;
        Ok(data.is_some_and(|data| hexadecimal(&sha256(&data)) == self.sha256))
    }
}

/// The inode; `None`: nothing is there.
fn number(path: &Path) -> io::Result<Option<u64>> {
    match std::fs::symlink_metadata(path) {
        Ok(m) => Ok(Some(m.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn remove_durably(path: &Path) -> io::Result<()> {
    remove_if_there(path)?;
    sync_folder_of(path)
}

pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Takes away what one that was killed has left in the folder of a file, by the names that are given here alone. For whoever holds the lock.
pub fn sweep_beside(path: &Path) {
    let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let is_ours = name.starts_with(b".") && [NEW, BEFORE].iter().any(|end| name.ends_with(end.as_bytes()));
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            // What stays is no trouble but to whoever looks.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The name is the same each time, since a lock lets in one at a time.
pub(super) fn beside(target: &Path, end: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(end);
    target.with_file_name(name)
}

/// Where people find what was there before somebody else changed it. No name that sshd includes.
fn saved(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".before-enroll");
    target.with_file_name(name)
}

pub(super) fn write_durably(path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o600).open(path)?;
    file.write_all(data)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()
}
