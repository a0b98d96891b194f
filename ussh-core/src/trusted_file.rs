//! Opening a file that decisions rest on: once, non-blocking, then owner and mode on the descriptor and on every parent of the real path (misc.c `safe_path`).

use std::path::{Path, PathBuf};

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustedFileError {
    /// Cannot be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The file asked for.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not an absolute path.
    #[error("{0}: not an absolute path")]
    NotAbsolute(PathBuf),
    /// Not a regular file.
    #[error("{0}: not a regular file")]
    NotRegular(PathBuf),
    /// Owned by someone else than root, or writable by group or others (the file itself or a folder above it).
    #[error("{0}: bad ownership or modes")]
    BadOwnership(PathBuf),
    /// Larger than the cap.
    #[error("{path}: larger than {max} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes.
        max: usize,
    },
}

/// Reads a file of at most `max` bytes that root alone can change.
/// # Errors
/// [`TrustedFileError`]
pub fn read_trusted(path: &Path, max: usize) -> Result<Vec<u8>, TrustedFileError> {
    let _ = (path, max);
    todo!()
}
