//! Files that steer `ussh`: opened once, and taken only if nobody but root and the user can change them.
//!
//! As `ssh` does with `~/.ssh/config`, and further: every folder above the real path counts too.
//! (A file that protects a whole host is root's alone: `ussh_core::trusted_file`. These protect only the user who runs us.)

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Largest file that is read, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UserFileError {
    /// Cannot be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The file asked for.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder, device, socket …
    #[error("{0}: not a regular file")]
    NotRegular(PathBuf),
    /// The file, or a folder above it, belongs to another user.
    #[error("{0}: belongs to uid {1}, neither root nor you")]
    Owner(PathBuf, u32),
    /// The file, or a folder above it, can be written by others.
    #[error("{0}: group or others may write to it (chmod go-w)")]
    Writable(PathBuf),
    /// Over [`MAX_FILE`].
    #[error("{0}: larger than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// Not UTF-8 where text is wanted.
    #[error("{0}: not UTF-8 text")]
    NotText(PathBuf),
}

impl UserFileError {
    /// Whether the file simply is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, UserFileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Reads `path`, which root or `uid` alone may change.
/// # Errors
/// [`UserFileError`]
pub fn read(path: &Path, uid: u32) -> Result<Vec<u8>, UserFileError> {
    let io = |source| UserFileError::Io { path: path.to_path_buf(), source };
    // Non-blocking: a FIFO must not hold us up.
    let file =
        OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(UserFileError::NotRegular(path.to_path_buf()));
    }
    check(path, &metadata, uid, Sticky::MeansNothing)?;
    for folder in path.canonicalize().map_err(io)?.ancestors().skip(1) {
        check(folder, &folder.metadata().map_err(io)?, uid, Sticky::Protects)?;
    }
    read_capped(file, path)
}

/// The same, as text.
/// # Errors
/// [`UserFileError`]
pub fn read_text(path: &Path, uid: u32) -> Result<String, UserFileError> {
    String::from_utf8(read(path, uid)?).map_err(|_| UserFileError::NotText(path.to_path_buf()))
}

/// In a folder with the sticky bit (`/tmp`) only an entry's owner, the folder's owner and root can put another in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sticky {
    Protects,
    MeansNothing,
}

fn check(path: &Path, metadata: &Metadata, uid: u32, sticky: Sticky) -> Result<(), UserFileError> {
    if metadata.uid() != 0 && metadata.uid() != uid {
        return Err(UserFileError::Owner(path.to_path_buf(), metadata.uid()));
    }
    let shielded = sticky == Sticky::Protects && metadata.mode() & 0o1000 != 0;
    if metadata.mode() & 0o022 != 0 && !shielded {
        return Err(UserFileError::Writable(path.to_path_buf()));
    }
    Ok(())
}

fn read_capped(file: File, path: &Path) -> Result<Vec<u8>, UserFileError> {
    let mut content = Vec::new();
    let read = file
        .take(MAX_FILE + 1)
        .read_to_end(&mut content)
        .map_err(|source| UserFileError::Io { path: path.to_path_buf(), source })?;
    if u64::try_from(read).is_ok_and(|n| n <= MAX_FILE) {
        Ok(content)
    } else {
        Err(UserFileError::TooLarge(path.to_path_buf()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    fn own_uid() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    fn file_in(folder: &Path, mode: u32) -> PathBuf {
        let path = folder.join("file");
        std::fs::write(&path, "text").unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn reads_a_file_that_only_the_user_can_change() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&file_in(folder.path(), 0o644), own_uid()).unwrap(), b"text");
    }

    #[test]
    fn refuses_a_file_that_group_or_others_can_write() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o664, 0o646, 0o666, 0o1666] {
            let path = file_in(folder.path(), mode);
            assert!(matches!(read(&path, own_uid()), Err(UserFileError::Writable(p)) if p == path), "{mode:o}");
        }
    }

    #[test]
    fn refuses_a_file_under_a_folder_that_others_can_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(folder.path(), 0o600);
        set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(read(&path, own_uid()), Err(UserFileError::Writable(p)) if p == folder.path()));
        set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(read(&path, own_uid()).is_ok(), "the sticky bit protects entries");
    }

    #[test]
    fn judges_where_a_symbolic_link_leads() {
        let (folder, open_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = file_in(open_folder.path(), 0o600);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(read(&link, own_uid()).is_ok());
        set_permissions(open_folder.path(), Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(read(&link, own_uid()), Err(UserFileError::Writable(_))));
    }

    #[test]
    fn refuses_another_users_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(folder.path(), 0o600);
        if std::os::unix::fs::chown(&path, Some(65_533), None).is_ok() {
            assert!(matches!(read(&path, 65_532), Err(UserFileError::Owner(_, 65_533))));
        }
    }

    #[test]
    fn refuses_what_is_no_regular_file_and_does_not_wait_for_a_fifo() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [folder.path(), fifo.as_path(), Path::new("/dev/null")] {
            assert!(matches!(read(path, own_uid()), Err(UserFileError::NotRegular(_))), "{path:?}");
        }
    }

    #[test]
    fn refuses_a_file_over_the_cap() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(folder.path(), 0o600);
        File::options().write(true).open(&path).unwrap().set_len(MAX_FILE).unwrap();
        assert!(read(&path, own_uid()).is_ok());
        File::options().write(true).open(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(read(&path, own_uid()), Err(UserFileError::TooLarge(_))));
    }

    #[test]
    fn a_missing_file_is_told_from_an_unreadable_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("none"), own_uid()).unwrap_err().is_missing());
        assert!(!read(folder.path(), own_uid()).unwrap_err().is_missing());
    }
}
