//! A file on its way to its place: beside it, under the name of the process that writes it; and what is left of those that were killed.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::OFlag;

use super::{FilesError, MAX_FILE, certificate_beside};

/// Whole, on disk, and removed again if it is not put into its place.
pub(super) struct New {
    file: File,
    own: PathBuf,
    place: PathBuf,
}

impl New {
    pub(super) fn write(place: &Path, content: &[u8]) -> Result<Self, FilesError> {
        if u64::try_from(content.len()).is_ok_and(|length| length > MAX_FILE) {
            return Err(FilesError::TooLarge(place.to_path_buf()));
        }
        let mut own = place.to_path_buf().into_os_string();
        own.push(format!(".{}", std::process::id()));
        let own = PathBuf::from(own);
        // Of one that was killed, with the same number.
        let _ = std::fs::remove_file(&own);
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
        let mut options = OpenOptions::new();
        let failed = |source| FilesError::Io { path: place.to_path_buf(), source };
        let file = options.write(true).create_new(true).mode(0o600).custom_flags(flags).open(&own).map_err(failed)?;
        let mut new = New { file, own, place: place.to_path_buf() };
        new.file.write_all(content).and_then(|()| new.file.sync_all()).map_err(failed)?;
        Ok(new)
    }
    pub(super) fn place(&self) -> &Path {
        &self.place
    }
    /// When it is to have been written.
    pub(super) fn date(&self, time: SystemTime) -> Result<(), FilesError> {
        self.file.set_modified(time).map_err(|source| FilesError::Io { path: self.place.clone(), source })
    }
    /// Others see the old content or the new, whole.
    pub(super) fn put(self) -> Result<(), FilesError> {
        std::fs::rename(&self.own, &self.place).map_err(|source| FilesError::Io { path: self.place.clone(), source })
    }
}

impl Drop for New {
    fn drop(&mut self) {
        // Renamed it is not there.
        let _ = std::fs::remove_file(&self.own);
    }
}

/// Those on their way to these keys and their certificates. Seen by whoever has the folder's lock, they are left of processes that were killed.
pub(super) fn left(folder: &Path, keys: impl Iterator<Item = PathBuf>) -> impl Iterator<Item = PathBuf> {
    let places: Vec<PathBuf> = keys.flat_map(|key| [certificate_beside(&key), key]).collect();
    let is_ours = move |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let is_before = |place: &PathBuf| {
            let place = place.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let process = name.strip_prefix(place).and_then(|rest| rest.strip_prefix('.'));
            process.is_some_and(|process| process.parse::<u32>().is_ok())
        };
        places.iter().any(is_before)
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_ours)
}
