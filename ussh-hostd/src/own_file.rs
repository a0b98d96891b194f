//! Files that this program keeps for itself and reads again: root's alone, JSON of one version. One that is torn, or another's, is an error and never taken for none.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use ussh_core::trusted_file::{TrustedFileError, read_trusted};

/// Why nothing is known from it.
#[derive(Debug, thiserror::Error)]
pub enum OwnFileError {
    /// It cannot be read, or others than root can change it.
    #[error("{0}")]
    File(#[from] TrustedFileError),
    /// It is none of ours.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl OwnFileError {
    /// What is wrong with what it says.
    pub fn content(path: &Path, problem: impl ToString) -> Self {
        OwnFileError::Content { path: path.into(), problem: problem.to_string() }
    }
}

/// What it says; `None`: it is not there.
/// # Errors
/// [`OwnFileError`]
pub fn read<T: DeserializeOwned>(path: &Path, max: usize) -> Result<Option<T>, OwnFileError> {
    read_if_there(path, max)?.map(|data| parse(path, &data)).transpose()
}

/// What `data`, which was read from it, says.
/// # Errors
/// [`OwnFileError::Content`]
pub fn parse<T: DeserializeOwned>(path: &Path, data: &[u8]) -> Result<T, OwnFileError> {
    serde_json::from_slice(data).map_err(|e| OwnFileError::content(path, e))
}

/// Refuses every version but the one that is read; `name` is what the file calls it.
/// # Errors
/// [`OwnFileError::Content`]
pub fn refuse_others(path: &Path, name: &str, found: u32, read: u32) -> Result<(), OwnFileError> {
    if found == read { Ok(()) } else { Err(OwnFileError::content(path, format!("{name} {found} is not read"))) }
}

/// A file that root alone can change; `None`: it is not there.
/// # Errors
/// [`TrustedFileError`]
pub fn read_if_there(path: &Path, max: usize) -> Result<Option<Vec<u8>>, TrustedFileError> {
    match read_trusted(path, max) {
        Err(e) if is_missing(&e) => Ok(None),
        other => other.map(Some),
    }
}

/// The same, but a symbolic link to nowhere is not none: there was a file once.
/// # Errors
/// [`TrustedFileError`]
pub fn read_if_named(path: &Path, max: usize) -> Result<Option<Vec<u8>>, TrustedFileError> {
    match read_trusted(path, max) {
        Err(e) if is_missing(&e) && path.symlink_metadata().is_err() => Ok(None),
        other => other.map(Some),
    }
}

fn is_missing(error: &TrustedFileError) -> bool {
    matches!(error, TrustedFileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Removes a file; a missing one is fine.
/// # Errors
/// As the file system says.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
