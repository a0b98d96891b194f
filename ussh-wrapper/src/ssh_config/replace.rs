//! Another content for a file, in one step: whoever reads it meanwhile reads the old one or the new one. Mode, owner and the symbolic links that lead to it stay.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown};

/// Largest file that is touched, bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Why a file is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The system would not.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A folder, a fifo, a device.
    #[error("{0}: not a regular file")]
    NotRegular(PathBuf),
    /// Not what one has an ssh_config for.
    #[error("{0}: larger than 4 MiB, which is no ssh_config")]
    TooLarge(PathBuf),
    /// Another name would go on having the old content.
    #[error("{0}: has more than one name (hard links), and only one of them could be given the new content")]
    HardLinks(PathBuf),
    /// Root writes to a file of somebody's, or somebody to one of root's.
    #[error("{path}: belongs to uid {owner}, and would not any more")]
    NotOurs {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Somebody was quicker.
    #[error("{0}: has changed meanwhile; try again")]
    Changed(PathBuf),
}

/// A file as it was found.
#[derive(Debug)]
pub struct Found {
    /// Where the links lead; where there is nothing, the name itself.
    path: PathBuf,
    /// `None`: it is not there.
    content: Option<(Vec<u8>, Metadata)>,
}

impl Found {
    /// Looks; a link that leads nowhere is an error.
    /// # Errors
    /// [`ReplaceError`]
    pub fn at(path: &Path) -> Result<Self, ReplaceError> {
        let failed = |source| ReplaceError::Io { path: path.to_path_buf(), source };
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Found { path: path.to_path_buf(), content: None });
            }
            _ => {}
        }
        let real = path.canonicalize().map_err(failed)?;
        // Of a fifo nobody would be waited for.
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&real).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ReplaceError::NotRegular(real));
        }
        let mut data = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut data).map_err(failed)?;
        if data.len() as u64 > MAX_FILE {
            return Err(ReplaceError::TooLarge(real));
        }
        Ok(Found { path: real, content: Some((data, metadata)) })
    }
    /// What is in it; `None`: it is not there.
    pub fn content(&self) -> Option<&[u8]> {
        self.content.as_ref().map(|(data, _)| data.as_slice())
    }
    /// Where the links lead.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Whether another content could be put there.
    /// # Errors
    /// [`ReplaceError::HardLinks`], [`ReplaceError::NotOurs`]
    pub fn check(&self) -> Result<(), ReplaceError> {
        let Some((_, metadata)) = &self.content else { return Ok(()) };
        let user = nix::unistd::geteuid();
        if metadata.nlink() > 1 {
            return Err(ReplaceError::HardLinks(self.path.clone()));
        }
        // Root can give a file away again; others cannot.
        if metadata.uid() != user.as_raw() && !user.is_root() {
            return Err(ReplaceError::NotOurs { path: self.path.clone(), owner: metadata.uid() });
        }
        Ok(())
    }
    /// Gives it this content (`None`: removes it). A new one gets `mode`, its folder 0700 or the like.
    /// # Errors
    /// [`ReplaceError`]; the file is as it was then.
    pub fn replace(&self, new: Option<&[u8]>, mode: u32) -> Result<(), ReplaceError> {
        self.check()?;
        let failed = |source| ReplaceError::Io { path: self.path.clone(), source };
        if Found::at(&self.path)?.content() != self.content() {
            return Err(ReplaceError::Changed(self.path.clone()));
        }
        match new {
            None if self.content.is_none() => Ok(()),
            None => fs::remove_file(&self.path).map_err(failed),
            Some(new) => self.put(new, mode).map_err(failed),
        }
    }

    fn put(&self, new: &[u8], mode: u32) -> io::Result<()> {
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).ok_or(io::ErrorKind::NotFound)?;
        if !folder.exists() {
            let mode = if mode & 0o077 == 0 { 0o700 } else { 0o755 };
            fs::DirBuilder::new().recursive(true).mode(mode).create(folder)?;
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".ussh.{}", std::process::id()));
        let own = folder.join(name);
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(&own)?;
        let put = self.fill(file, new, mode).and_then(|()| fs::rename(&own, &self.path));
        put.inspect_err(|_| drop(fs::remove_file(&own)))?;
        File::open(folder)?.sync_all()
    }

    fn fill(&self, mut file: File, new: &[u8], mode: u32) -> io::Result<()> {
        file.write_all(new)?;
        let mode = match &self.content {
            None => mode,
            Some((_, was)) => {
                let is = file.metadata()?;
                if (is.uid(), is.gid()) != (was.uid(), was.gid()) {
                    fchown(file.as_fd(), Some(Uid::from_raw(was.uid())), Some(Gid::from_raw(was.gid())))?;
                }
                was.mode() & 0o7777
            }
        };
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::os::unix::fs::symlink;

    use super::*;

    fn file(folder: &Path, name: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn mode_owner_and_links_stay_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        for (number, mode) in [0o600, 0o644, 0o444, 0o400].into_iter().enumerate() {
            let real = file(folder.path(), &format!("real{number}"), mode);
            let link = folder.path().join(format!("link{number}"));
            symlink(format!("real{number}"), &link).unwrap();
            let _ = std::os::unix::fs::chown(&real, Some(65_533), Some(65_532));
            let was = real.metadata().unwrap();
            Found::at(&link).unwrap().replace(Some(b"new"), 0o600).unwrap();
            let is = real.metadata().unwrap();
            assert_eq!(fs::read(&real).unwrap(), b"new");
            assert_eq!((is.mode(), is.uid(), is.gid()), (was.mode(), was.uid(), was.gid()), "{mode:o}");
            assert_eq!(link.read_link().unwrap(), Path::new(&format!("real{number}")));
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 8);
    }

    #[test]
    fn one_that_is_not_there_is_made_with_its_folder_and_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".ssh/config");
        let found = Found::at(&path).unwrap();
        assert_eq!(found.content(), None);
        found.replace(Some(b"new"), 0o600).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o7777, 0o700);
        Found::at(&path).unwrap().replace(None, 0o600).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_cannot_be_given_back_as_it_was_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let linked = file(folder.path(), "a", 0o600);
        fs::hard_link(&linked, folder.path().join("b")).unwrap();
        let error = Found::at(&linked).unwrap().replace(Some(b"new"), 0o600).unwrap_err();
        assert!(matches!(error, ReplaceError::HardLinks(_)), "{error}");
        let changed = file(folder.path(), "c", 0o600);
        let found = Found::at(&changed).unwrap();
        fs::write(&changed, "somebody else's").unwrap();
        assert!(matches!(found.replace(Some(b"new"), 0o600), Err(ReplaceError::Changed(_))));
        assert_eq!(fs::read(&changed).unwrap(), b"somebody else's");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [fifo.as_path(), folder.path()] {
            assert!(matches!(Found::at(path), Err(ReplaceError::NotRegular(_))), "{path:?}");
        }
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        assert!(matches!(Found::at(&folder.path().join("dangling")), Err(ReplaceError::Io { .. })));
        assert_eq!(fs::read(&linked).unwrap(), b"old");
    }
}
