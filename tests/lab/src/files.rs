//! A host's files, as root of the host sees them, read and written from outside.
//!
//! Paths are the host's: links in them, absolute ones too, are followed inside of its root (openat2, RESOLVE_IN_ROOT).

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::error::{Doing, LabError, Result};

/// The root folder of a host.
#[derive(Debug)]
pub(crate) struct Files {
    root: OwnedFd,
}

/// Who a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    pub(crate) const ROOT: Owner = Owner { uid: 0, gid: 0 };
}

impl Files {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Files { root }
    }

    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>> {
        let doing = || format!("reading {path} of a host");
        let mut content = Vec::new();
        // Non-blocking: a FIFO in the way must not hang the test.
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK).doing(doing())?;
        File::from(file).read_to_end(&mut content).doing(doing())?;
        Ok(content)
    }

    /// Replaces `path` at once, so that nobody sees half of it.
    pub(crate) fn write(&self, path: &str, mode: u32, owner: Owner, content: &[u8]) -> Result<()> {
        let doing = || format!("writing {path} of a host");
        let (folder, name) = self.parent(path)?;
        let draft = PathBuf::from(format!(".{}.lab-draft", name.display()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &draft, flags, Mode::empty()).doing(doing())?;
        rustix::fs::fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid))).doing(doing())?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).doing(doing())?;
        File::from(file).write_all(content).doing(doing())?;
        rustix::fs::renameat(&folder, &draft, &folder, &name).doing(doing())
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    /// Removes a file, a link or an empty folder; one that is not there is fine.
    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        let (folder, name) = self.parent(path)?;
        let removed = match rustix::fs::unlinkat(&folder, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(&folder, &name, AtFlags::REMOVEDIR),
            other => other,
        };
        match removed {
            Err(Errno::NOENT) => Ok(()),
            other => other.doing(format!("removing {path} of a host")),
        }
    }

    /// Makes a folder and those above it; the last gets mode and owner, also if it was there.
    pub(crate) fn make_folder(&self, path: &str, mode: u32, owner: Owner) -> Result<()> {
        let doing = || format!("making folder {path} of a host");
        let folder = self.folder(Path::new(path)).doing(doing())?;
        rustix::fs::fchown(&folder, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid))).doing(doing())?;
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode)).doing(doing())
    }

    /// Names in a folder; none if there is no such folder.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>> {
        let folder = match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            other => other.doing(format!("listing {path} of a host"))?,
        };
        let entries = fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd())).doing(format!("listing {path}"))?;
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// The folder of `path`, made if missing, and the last part.
    fn parent(&self, path: &str) -> Result<(OwnedFd, PathBuf)> {
        let path = Path::new(path);
        let name = path.file_name().ok_or_else(|| LabError::setup(format!("{} names no file", path.display())))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let folder = self.folder(folder).doing(format!("opening {} of a host", folder.display()))?;
        Ok((folder, PathBuf::from(name)))
    }

    /// Opens a folder, made if missing, with those above it.
    fn folder(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let text = path.to_string_lossy();
        match self.open(&text, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(Errno::NOENT);
                };
                let parent = self.folder(parent)?;
                match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                self.open(&text, OFlags::RDONLY | OFlags::DIRECTORY)
            }
            other => other,
        }
    }

    fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        loop {
            match rustix::fs::openat2(self.root.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
                // A rename raced with the resolving (openat2(2)).
                Err(Errno::AGAIN) if !flags.contains(OFlags::NONBLOCK) => {}
                other => return other,
            }
        }
    }
}
