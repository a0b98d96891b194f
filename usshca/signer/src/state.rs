//! The state folder: the signer's alone, and one signer's at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ussh_os::process;
use zeroize::Zeroizing;

/// Longest key file, in bytes.
const MAX_KEY_FILE: u64 = 16 * 1024;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Something cannot be opened or read.
    #[error("{path}: {source}{}", put_back(source))]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read or change it.
    #[error("{path}: {problem}")]
    Exposed {
        /// What.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Another signer works on it.
    #[error("{0}: another signer is at work on this state; is the CA running?")]
    InUse(PathBuf),
}

/// The folder, locked for as long as this lives.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    may_change: bool,
    _lock: File,
}

impl StateFolder {
    /// Checks that the folder is this process's own and nobody else's, and locks it.
    /// # Errors
    /// [`StateError`]
    pub fn open(path: &Path) -> Result<Self, StateError> {
        check_folder(path)?;
        let lock_path = path.join("lock");
        let options = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        Self::locked(path, options().map_err(|e| io_error(&lock_path, e))?, true)
    }

    /// The same for one who changes nothing in it, and makes no file to lock: without one nobody has ever worked on this state.
    /// # Errors
    /// [`StateError`]
    pub fn open_to_look(path: &Path) -> Result<Self, StateError> {
        check_folder(path)?;
        let lock = match File::open(path.join("lock")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => File::open(path),
            opened => opened,
        };
        Self::locked(path, lock.map_err(|e| io_error(path, e))?, false)
    }

    fn locked(path: &Path, lock: File, may_change: bool) -> Result<Self, StateError> {
        match lock.try_lock() {
            Ok(()) => Ok(StateFolder { path: path.to_owned(), may_change, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(path.to_owned())),
            Err(TryLockError::Error(e)) => Err(io_error(path, e)),
        }
    }

    /// Whether what was left to be done in it is to be done.
    pub fn may_change(&self) -> bool {
        self.may_change
    }

    /// Where a file of the state lies.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a public key: as a secret, but others may read it.
    /// # Errors
    /// [`StateError`]
    pub fn public(&self, name: &str) -> Result<Zeroizing<String>, StateError> {
        self.read(name, 0o022)
    }

    /// Reads a secret: a regular file of this process's own that nobody else may read. The folder is nobody else's, so nobody changes a file between the look and the reading.
    /// # Errors
    /// [`StateError`]
    pub fn secret(&self, name: &str) -> Result<Zeroizing<String>, StateError> {
        self.read(name, 0o177)
    }

    fn read(&self, name: &str, forbidden: u32) -> Result<Zeroizing<String>, StateError> {
        let path = self.file(name);
        let found = path.symlink_metadata().map_err(|e| io_error(&path, e))?;
        if !found.is_file() {
            return Err(exposed(&path, "must be a regular file".to_owned()));
        }
        check_owner(&path, found.uid())?;
        if found.mode() & forbidden != 0 {
            let problem =
                if forbidden == 0o022 { "others may change it" } else { "others may read it; it must have mode 0600" };
            return Err(exposed(&path, problem.to_owned()));
        }
        let file = File::open(&path).map_err(|e| io_error(&path, e))?;
        // Room for all of it at once: a string that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE as usize + 1));
        file.take(MAX_KEY_FILE + 1).read_to_string(&mut text).map_err(|e| io_error(&path, e))?;
        if text.len() as u64 > MAX_KEY_FILE {
            return Err(exposed(&path, format!("is longer than {MAX_KEY_FILE} bytes")));
        }
        Ok(text)
    }
}

fn check_folder(path: &Path) -> Result<(), StateError> {
    let metadata = path.symlink_metadata().map_err(|e| io_error(path, e))?;
    if !metadata.is_dir() {
        return Err(exposed(path, "must be a folder".to_owned()));
    }
    check_owner(path, metadata.uid())?;
    if metadata.mode() & 0o077 != 0 {
        return Err(exposed(path, "others may enter it; it must have mode 0700".to_owned()));
    }
    Ok(())
}

fn check_owner(path: &Path, uid: u32) -> Result<(), StateError> {
    let own = process::effective_uid();
    if uid == own {
        return Ok(());
    }
    Err(exposed(path, format!("belongs to uid {uid}; it must be the signer's own (uid {own})")))
}

/// What to do about what was there once.
fn put_back(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::NotFound {
        return "; it was made by `usshca init`: put it back from a copy of the state folder (docs/operations.md)";
    }
    ""
}

fn io_error(path: &Path, source: io::Error) -> StateError {
    StateError::Io { path: path.to_owned(), source }
}

fn exposed(path: &Path, problem: String) -> StateError {
    StateError::Exposed { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        dir
    }

    fn put(dir: &tempfile::TempDir, name: &str, text: &str, mode: u32) {
        fs::write(dir.path().join(name), text).unwrap();
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn two_signers_on_one_state_refuse_each_other() {
        let dir = folder();
        let first = StateFolder::open(dir.path()).unwrap();
        assert!(matches!(StateFolder::open(dir.path()), Err(StateError::InUse(_))));
        drop(first);
        assert!(StateFolder::open(dir.path()).is_ok());
    }

    #[test]
    fn refuses_a_folder_that_others_may_enter() {
        let dir = folder();
        for mode in [0o701, 0o710, 0o704, 0o755] {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            assert!(matches!(StateFolder::open(dir.path()), Err(StateError::Exposed { .. })), "{mode:o}");
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(StateFolder::open(dir.path()).is_ok());
        assert!(matches!(StateFolder::open(&dir.path().join("none")), Err(StateError::Io { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(matches!(StateFolder::open(&link), Err(StateError::Exposed { .. })));
    }

    #[test]
    fn refuses_a_secret_that_others_may_read() {
        let dir = folder();
        let state = StateFolder::open(dir.path()).unwrap();
        for (mode, good) in
            [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o700, false)]
        {
            put(&dir, "key", "secret", mode);
            assert_eq!(state.secret("key").is_ok(), good, "{mode:o}");
        }
        put(&dir, "key", "secret", 0o600);
        assert_eq!(*state.secret("key").unwrap(), "secret");
        std::os::unix::fs::symlink(dir.path().join("key"), dir.path().join("link")).unwrap();
        assert!(state.secret("link").is_err());
        assert!(state.secret("none").is_err());
        put(&dir, "key", &"x".repeat(16 * 1024 + 1), 0o600);
        assert!(state.secret("key").is_err());
    }

    #[test]
    fn refuses_what_belongs_to_somebody_else() {
        if process::effective_uid() != 0 {
            return;
        }
        let dir = folder();
        put(&dir, "key", "secret", 0o600);
        std::os::unix::fs::chown(dir.path().join("key"), Some(1), None).unwrap();
        let state = StateFolder::open(dir.path()).unwrap();
        assert!(matches!(state.secret("key"), Err(StateError::Exposed { .. })));
        drop(state);
        std::os::unix::fs::chown(dir.path(), Some(1), None).unwrap();
        assert!(matches!(StateFolder::open(dir.path()), Err(StateError::Exposed { .. })));
    }
}
