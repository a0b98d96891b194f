//! Opening a file that decisions rest on: every folder on the way, then owner and mode of the open file itself
//! (stricter than misc.c `safe_path`, which does not look at the folders that hold the symbolic links).
//!
//! Trusted: root. Untrusted: everybody else, be they owner of a folder on the way or of what lies at its end.
//! As in OpenSSH a sticky bit excuses nothing.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// Most symbolic links followed on one path (the kernel's own limit, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustedFileError {
    /// Cannot be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The file asked for.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not an absolute path.
    #[error("{0}: not an absolute path")]
    NotAbsolute(PathBuf),
    /// Not a regular file.
    #[error("{0}: not a regular file")]
    NotRegular(PathBuf),
    /// Owned by someone else than root, or writable by group or others (the file itself or a folder above it).
    #[error("{path}: bad ownership or modes ({found}): {wanted}")]
    BadOwnership {
        /// The file, or the folder on the way to it.
        path: PathBuf,
        /// Whose it is, and its mode.
        found: String,
        /// What it must be like, and what to try.
        wanted: String,
    },
    /// Larger than the cap.
    #[error("{path}: larger than {max} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes.
        max: usize,
    },
}

/// Reads a file of at most `max` bytes that root alone can change. Symbolic links are followed, each in folders
/// that root alone can change.
/// # Errors
/// [`TrustedFileError`]
pub fn read_trusted(path: &Path, max: usize) -> Result<Vec<u8>, TrustedFileError> {
    Ok(read_trusted_state(path, max)?.0)
}

/// The same, and which file it was that was read.
/// # Errors
/// [`TrustedFileError`]
pub fn read_trusted_state(path: &Path, max: usize) -> Result<(Vec<u8>, FileState), TrustedFileError> {
    let (file, state) = read_owned(path, max, &Owner::ROOT)?;
    Ok((file.data, state))
}

/// What tells one content of a file from another without reading it: enough for one that is put in place by a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    /// Of what stands at this path now, links followed. `None`: nothing that can be looked at.
    pub fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| FileState::of(&metadata))
    }

    fn of(m: &Metadata) -> Self {
        let (modified, changed) = ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()));
        FileState { device: m.dev(), inode: m.ino(), size: m.size(), modified, changed }
    }
}

/// A file that was read, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedFile {
    /// The path without a link: on it nobody but root and the owner can put another file in this one's place, so that another program can be told to read it.
    pub real_path: PathBuf,
    /// Its contents.
    pub data: Vec<u8>,
}

/// The same for a file that root or `uid` alone can change, for a program that is run by `uid` and on whose behaviour only that user depends.
/// # Errors
/// [`TrustedFileError`]
pub fn read_trusted_by(uid: u32, path: &Path, max: usize) -> Result<TrustedFile, TrustedFileError> {
    Ok(read_owned(path, max, &Owner { uid, below: None })?.0)
}

/// The same for a file below `folder` that root or `uid` alone can change: for a program that an ordinary user runs for an
/// account of his own, and for a folder that the administrator named on the command line. What lies above `folder` is
/// taken on trust; folders beside it, to which a link may lead, are not.
/// # Errors
/// [`TrustedFileError`]
pub fn read_trusted_below(folder: &Path, uid: u32, path: &Path, max: usize) -> Result<Vec<u8>, TrustedFileError> {
    let folder = folder.canonicalize().map_err(|e| io_error(folder, e))?;
    Ok(read_owned(path, max, &Owner { uid, below: Some(&folder) })?.0.data)
}

/// Whether root alone can change what lies in a folder: it, and all that stand above it.
/// # Errors
/// [`TrustedFileError`]
pub fn demand_trusted_folder(path: &Path) -> Result<(), TrustedFileError> {
    demand_folder(path, &Owner::ROOT)
}

fn demand_folder(path: &Path, owner: &Owner<'_>) -> Result<(), TrustedFileError> {
    if !path.is_absolute() {
        return Err(TrustedFileError::NotAbsolute(path.to_owned()));
    }
    match walk(path, owner)? {
        End::Folder(_) => Ok(()),
        End::File(file) => Err(io_error(&file, io::ErrorKind::NotADirectory.into())),
    }
}

/// Whose word is trusted.
pub(crate) struct Owner<'a> {
    /// This one's, besides root's.
    pub uid: u32,
    /// The folders above this one (a real path) are taken on trust. `None`: no folder is.
    pub below: Option<&'a Path>,
}

impl Owner<'_> {
    /// Root alone, all the way.
    pub const ROOT: Owner<'static> = Owner { uid: 0, below: None };

    /// Whether nobody but root and the owner can change what this describes.
    pub fn alone_can_change(&self, metadata: &Metadata) -> bool {
        self.is_trusted(metadata) && metadata.mode() & 0o022 == 0
    }

    /// The same, with what is wrong.
    /// # Errors
    /// [`TrustedFileError::BadOwnership`]
    pub fn demand(&self, path: &Path, metadata: &Metadata) -> Result<(), TrustedFileError> {
        if self.alone_can_change(metadata) { Ok(()) } else { Err(self.complaint(path.to_owned(), metadata)) }
    }

    fn is_trusted(&self, metadata: &Metadata) -> bool {
        metadata.uid() == 0 || metadata.uid() == self.uid
    }

    fn complaint(&self, path: PathBuf, metadata: &Metadata) -> TrustedFileError {
        let found = format!("uid {}, mode {:04o}", metadata.uid(), metadata.mode() & 0o7777);
        let or_you = if self.uid == 0 { String::new() } else { format!(" (or uid {})", self.uid) };
        let is_for_all = metadata.is_dir() && metadata.mode() & 0o1002 == 0o1002;
        let advice = match (self.is_trusted(metadata), metadata.mode() & 0o022 == 0) {
            // /tmp and its like must stay as they are.
            _ if is_for_all => "this folder is for everybody: put the file elsewhere",
            (false, false) => "try chown root, chmod go-w",
            (false, true) => "try chown root",
            (true, _) => "try chmod go-w",
        };
        let wanted = format!("it must belong to root{or_you} and be writable by nobody else; {advice}");
        TrustedFileError::BadOwnership { path, found, wanted }
    }
}

/// The state is that of just before the reading: a file that is written to meanwhile is another afterwards.
fn read_owned(path: &Path, max: usize, owner: &Owner<'_>) -> Result<(TrustedFile, FileState), TrustedFileError> {
    if !path.is_absolute() {
        return Err(TrustedFileError::NotAbsolute(path.to_owned()));
    }
    // Nobody but the owner can change what was walked over, so that the open finds what the walk found.
    let real = match walk(path, owner)? {
        End::File(real) => real,
        End::Folder(real) => return Err(TrustedFileError::NotRegular(real)),
    };
    let (file, metadata) = open_no_follow(&real).map_err(|e| io_error(path, e))?;
    if !metadata.is_file() {
        return Err(TrustedFileError::NotRegular(real));
    }
    if !owner.alone_can_change(&metadata) {
        return Err(owner.complaint(real, &metadata));
    }
    let data = read_capped(&file, &metadata, max)
        .map_err(|e| io_error(path, e))?
        .ok_or_else(|| TrustedFileError::TooLarge { path: path.to_owned(), max })?;
    Ok((TrustedFile { real_path: real, data }, FileState::of(&metadata)))
}

/// Opens what stands at the path itself, without waiting for it (FIFO) and without becoming its terminal's owner;
/// what was opened is described by the descriptor.
pub(crate) fn open_no_follow(path: &Path) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Reads to the end; `None` if that is beyond `max` bytes.
pub(crate) fn read_capped(file: &File, metadata: &Metadata, max: usize) -> io::Result<Option<Vec<u8>>> {
    // One more than there should be, so that the end is seen without another buffer. The file may be another size by now.
    let size = usize::try_from(metadata.len()).unwrap_or(max).min(max);
    let mut data = Vec::new();
    data.try_reserve_exact(size.saturating_add(1))?;
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut data)?;
    Ok((data.len() <= max).then_some(data))
}

/// What a path leads to, without a link.
enum End {
    File(PathBuf),
    /// Looked at like all above it.
    Folder(PathBuf),
}

/// Resolves `path` step by step and looks at every folder on the way, those that hold symbolic links included: whoever
/// can change one of them chooses the file. Gives the real path of the last component, which is no link and no device.
fn walk(path: &Path, owner: &Owner<'_>) -> Result<End, TrustedFileError> {
    let mut here = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    push_front(&mut ahead, path);
    let mut links = 0;
    let root = here.symlink_metadata().map_err(|e| io_error(path, e))?;
    check_folder(&here, &root, owner)?;
    while let Some(step) = ahead.pop_front() {
        if step == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&step);
        let metadata = next.symlink_metadata().map_err(|e| io_error(path, e))?;
        if metadata.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(io_error(path, io::Error::from_raw_os_error(libc::ELOOP)));
            }
            let target = next.read_link().map_err(|e| io_error(path, e))?;
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            push_front(&mut ahead, &target);
        } else if metadata.is_dir() {
            check_folder(&next, &metadata, owner)?;
            here = next;
        } else if ahead.is_empty() && metadata.is_file() {
            return Ok(End::File(next));
        } else {
            return Err(TrustedFileError::NotRegular(next));
        }
    }
    Ok(End::Folder(here))
}

/// Puts the steps of `path` in front of those still to go.
fn push_front(ahead: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

fn check_folder(folder: &Path, metadata: &Metadata, owner: &Owner<'_>) -> Result<(), TrustedFileError> {
    let is_above = owner.below.is_some_and(|top| top != folder && top.starts_with(folder));
    if !is_above && !owner.alone_can_change(metadata) {
        return Err(owner.complaint(folder.to_owned(), metadata));
    }
    Ok(())
}

fn io_error(path: &Path, source: io::Error) -> TrustedFileError {
    TrustedFileError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "trusted_file_tests.rs"]
mod tests;
