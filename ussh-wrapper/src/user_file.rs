//! Files that steer `ussh`: taken only if nobody but root and the user can change them, or the folders through which they are reached, those that hold symbolic links included.
//!
//! Further than `ssh` goes with `~/.ssh/config`. (A file that protects a whole host is root's alone. These protect only the user who runs us.)

use std::path::{Path, PathBuf};

use ussh_core::trusted_file::{TrustedFile, TrustedFileError, read_trusted_by};

/// Largest file that is read, in bytes.
pub const MAX_FILE: usize = 1024 * 1024;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UserFileError {
    /// Cannot be read, or others can change it.
    #[error("{0}")]
    File(#[from] TrustedFileError),
    /// Not UTF-8 where text is wanted.
    #[error("{0}: not UTF-8 text")]
    NotText(PathBuf),
}

impl UserFileError {
    /// Whether the file simply is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, UserFileError::File(TrustedFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Reads `path`, which root or `uid` alone may change.
/// # Errors
/// [`UserFileError`]
pub fn read(path: &Path, uid: u32) -> Result<TrustedFile, UserFileError> {
    // Where nothing is, it does not matter what the folders are like: a file that is not there has no say.
    if let Err(source) = path.metadata() {
        return Err(TrustedFileError::Io { path: path.to_path_buf(), source }.into());
    }
    Ok(read_trusted_by(uid, path, MAX_FILE)?)
}

/// The contents as text.
/// # Errors
/// [`UserFileError::NotText`]
pub fn text(path: &Path, file: TrustedFile) -> Result<String, UserFileError> {
    String::from_utf8(file.data).map_err(|_| UserFileError::NotText(path.to_path_buf()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::test_support::own_folder;
    use std::fs::{File, Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn own_uid() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    fn file_in(folder: &Path, mode: u32) -> PathBuf {
        let path = folder.join("file");
        std::fs::write(&path, "text").unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Whose ownership or modes are complained of.
    fn refused_for(path: &Path, uid: u32) -> PathBuf {
        match read(path, uid) {
            Err(UserFileError::File(TrustedFileError::BadOwnership { path, .. })) => path,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_a_file_that_only_the_user_can_change() {
        let folder = own_folder();
        let path = file_in(folder.path(), 0o644);
        let file = read(&path, own_uid()).unwrap();
        assert_eq!(file, TrustedFile { real_path: path, data: b"text".to_vec() });
    }

    #[test]
    fn refuses_a_file_that_group_or_others_can_write() {
        let folder = own_folder();
        for mode in [0o664, 0o646, 0o666, 0o1666] {
            let path = file_in(folder.path(), mode);
            assert_eq!(refused_for(&path, own_uid()), path, "{mode:o}");
        }
    }

    #[test]
    fn refuses_a_file_under_a_folder_that_others_can_write_sticky_or_not() {
        let folder = own_folder();
        let path = file_in(folder.path(), 0o600);
        for mode in [0o777, 0o1777] {
            set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(refused_for(&path, own_uid()), folder.path(), "{mode:o}");
        }
    }

    #[test]
    fn judges_where_a_symbolic_link_leads() {
        let (folder, open_folder) = (own_folder(), own_folder());
        let target = file_in(open_folder.path(), 0o600);
        let link = folder.path().join("link");
        symlink(&target, &link).unwrap();
        assert_eq!(read(&link, own_uid()).unwrap().real_path, target);
        set_permissions(open_folder.path(), Permissions::from_mode(0o770)).unwrap();
        assert_eq!(refused_for(&link, own_uid()), open_folder.path());
    }

    #[test]
    fn judges_where_a_symbolic_link_lies() {
        let (folder, open_folder) = (own_folder(), own_folder());
        let link = open_folder.path().join("link");
        symlink(file_in(folder.path(), 0o600), &link).unwrap();
        assert!(read(&link, own_uid()).is_ok());
        set_permissions(open_folder.path(), Permissions::from_mode(0o777)).unwrap();
        assert_eq!(refused_for(&link, own_uid()), open_folder.path());
        set_permissions(open_folder.path(), Permissions::from_mode(0o755)).unwrap();
        if std::os::unix::fs::chown(open_folder.path(), Some(65_533), None).is_ok() {
            assert_eq!(refused_for(&link, own_uid()), open_folder.path());
        }
    }

    #[test]
    fn refuses_another_users_file() {
        let folder = own_folder();
        let path = file_in(folder.path(), 0o600);
        if std::os::unix::fs::chown(&path, Some(65_533), None).is_ok() {
            assert_eq!(refused_for(&path, 65_532), path);
            assert_eq!(read(&path, 65_533).unwrap().data, b"text");
        }
    }

    #[test]
    fn refuses_what_is_no_regular_file_and_does_not_wait_for_a_fifo() {
        let folder = own_folder();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [folder.path(), fifo.as_path(), Path::new("/dev/null")] {
            let refused = read(path, own_uid());
            assert!(matches!(refused, Err(UserFileError::File(TrustedFileError::NotRegular(_)))), "{path:?}");
        }
    }

    #[test]
    fn refuses_a_file_over_the_cap() {
        let folder = own_folder();
        let path = file_in(folder.path(), 0o600);
        let most = u64::try_from(MAX_FILE).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(most).unwrap();
        assert!(read(&path, own_uid()).is_ok());
        File::options().write(true).open(&path).unwrap().set_len(most + 1).unwrap();
        let refused = read(&path, own_uid());
        assert!(matches!(refused, Err(UserFileError::File(TrustedFileError::TooLarge { max: MAX_FILE, .. }))));
    }

    #[test]
    fn a_missing_file_is_told_from_an_unreadable_one_whatever_its_folder_is_like() {
        let folder = own_folder();
        for mode in [0o700, 0o777] {
            set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            assert!(read(&folder.path().join("none"), own_uid()).unwrap_err().is_missing(), "{mode:o}");
        }
        assert!(!read(folder.path(), own_uid()).unwrap_err().is_missing());
    }
}
