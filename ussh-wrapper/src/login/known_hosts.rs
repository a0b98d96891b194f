//! The file by which the CA proves itself to `ssh`. It may hold nothing but `@cert-authority` and `@revoked` lines:
//! ssh falls back from a host certificate that does not hold to the plain key in it (sshconnect.c `check_host_key`, "Downgrade cert to raw key"),
//! so a plain line would let in a certificate that has expired or is for another name.

use std::path::{Path, PathBuf};

use crate::config::is_plain;
use crate::user_file::{self, UserFileError};

/// Why the CA could not prove itself.
#[derive(Debug, thiserror::Error)]
pub enum KnownHostsError {
    /// Missing, or not to be trusted.
    #[error("{0}")]
    File(#[from] UserFileError),
    /// A line for a plain key.
    #[error("{path}:{line}: only @cert-authority and @revoked lines may stand here")]
    PlainKey {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// `ssh` cannot be told where it really lies.
    #[error(
        "{path}: lies at {real_path:?}: blanks, quotes, `%`, `$`, `\\` and control characters cannot stand in that path"
    )]
    NotPlain {
        /// The file.
        path: PathBuf,
        /// Where the links lead.
        real_path: PathBuf,
    },
    /// No CA at all.
    #[error("{0}: holds no @cert-authority line")]
    NoAuthority(PathBuf),
}

/// Checks owner, mode and content; gives the real path, for `ssh` to read what was checked here.
/// # Errors
/// [`KnownHostsError`]
pub fn check(path: &Path, uid: u32) -> Result<String, KnownHostsError> {
    let file = user_file::read(path, uid)?;
    let Some(real_path) = file.real_path.to_str().filter(|real| is_plain(real)).map(str::to_owned) else {
        return Err(KnownHostsError::NotPlain { path: path.to_path_buf(), real_path: file.real_path });
    };
    let text = user_file::text(path, file)?;
    let mut authorities = 0_usize;
    for (position, line) in text.lines().enumerate() {
        match line.split_ascii_whitespace().next() {
            Some("@cert-authority") => authorities += 1,
            Some("@revoked") | None => {}
            Some(word) if word.starts_with('#') => {}
            Some(_) => return Err(KnownHostsError::PlainKey { path: path.to_path_buf(), line: position + 1 }),
        }
    }
    if authorities == 0 { Err(KnownHostsError::NoAuthority(path.to_path_buf())) } else { Ok(real_path) }
}
