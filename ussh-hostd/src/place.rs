//! Puts several files in place, all or none: each lies ready beside the one that it replaces before the first one is renamed, and what was replaced is kept
//! until the caller says that all is well.
//!
//! Undone, every file is what it was: the same one, with its times and modes, by the hard link that was kept of it. A file that somebody else has changed meanwhile is left alone.
//! With a journal, what was begun is on disk before the first rename: whoever finds the journal undoes it by the same function.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ussh_core::digest::sha256;
use ussh_core::trusted_file::{TrustedFileError, read_trusted};

use self::journal::Journal;

pub mod journal;

/// Ends of the names beside a target: what lies ready, and what is kept of before.
const NEW: &str = ".ussh-hostd-new";
const BEFORE: &str = ".ussh-hostd-before";
/// Largest file, bytes.
const MAX_FILE: usize = crate::trust::MAX_REVOKED;

/// A file to be.
#[derive(Debug)]
pub struct NewFile {
    /// Where; a symbolic link stays one.
    pub path: PathBuf,
    /// Its contents.
    pub data: Vec<u8>,
    /// Its mode, whatever the umask says.
    pub mode: u32,
}

impl NewFile {
    /// One that everybody may read.
    pub fn public(path: impl Into<PathBuf>, data: impl Into<Vec<u8>>) -> Self {
        NewFile { path: path.into(), data: data.into(), mode: 0o644 }
    }

    /// One that root alone may read.
    pub fn private(path: impl Into<PathBuf>, data: impl Into<Vec<u8>>) -> Self {
        NewFile { path: path.into(), data: data.into(), mode: 0o600 }
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// What is there, or the folder, is not root's alone.
    #[error("{0}")]
    File(#[from] TrustedFileError),
    /// It could not be written, or not be put in place.
    #[error("{path}: {source}")]
    Write {
        /// The file to be put in place.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nor could what was replaced before be put back: the one case in which both states are mixed.
    #[error("{path}: {source}; and {mixed} could not be put back")]
    Mixed {
        /// The file that failed.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// Still the new one.
        mixed: PathBuf,
    },
}

/// A file that lies ready, or is in place. What became of it is seen on disk, so that it is the same thing read from a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ready {
    target: PathBuf,
    /// Something is replaced, of which another name is kept.
    replaces: bool,
    /// Of the new contents, in hexadecimal.
    sha256: String,
}

/// Files that are in place, and what they replaced. Dropped without [`Placed::keep`], they are undone as far as can be.
#[derive(Debug)]
#[must_use]
pub struct Placed {
    files: Vec<Ready>,
    /// Made for them, outermost first.
    folders: Vec<PathBuf>,
    changed: Vec<PathBuf>,
    /// On disk until they are kept or undone.
    journal: Option<PathBuf>,
}

/// Puts all of them in place, in this order. Files that are what they are to be are left alone.
/// # Errors
/// [`PlaceError`]; all is as it was then, but for `Mixed`.
pub fn put(files: Vec<NewFile>) -> Result<Placed, PlaceError> {
    put_in_place(begin(files, None)?)
}

/// The same, and what is begun is in a journal until it is kept or undone.
/// # Errors
/// [`PlaceError`]; all is as it was then, but for `Mixed`.
pub fn put_with_journal(files: Vec<NewFile>, journal: &Path) -> Result<Placed, PlaceError> {
    put_in_place(begin(files, Some(journal))?)
}

/// All lie ready.
fn begin(files: Vec<NewFile>, journal: Option<&Path>) -> Result<Placed, PlaceError> {
    let mut placed = Placed { files: Vec::new(), folders: Vec::new(), changed: Vec::new(), journal: None };
    for path in files.iter().map(|file| file.path.as_path()).chain(journal) {
        placed.make_folder_of(path)?;
        sweep_beside(&real(path));
    }
    for file in files {
        placed.files.extend(prepare(file)?);
    }
    if let Some(path) = journal {
        // Known before it is there: half written, it goes as well.
        placed.journal = Some(path.into());
        let written = Journal::new(placed.files.clone(), placed.folders.clone()).write(path);
        written.map_err(|source| PlaceError::Write { path: path.into(), source })?;
    }
    Ok(placed)
}

fn put_in_place(mut placed: Placed) -> Result<Placed, PlaceError> {
    for position in 0..placed.files.len() {
        let Some(file) = placed.files.get(position) else { break };
        if let Err(source) = file.put_in_place() {
            let path = file.target.clone();
            return match placed.undo() {
                Ok(()) => Err(PlaceError::Write { path, source }),
                Err(mixed) => Err(PlaceError::Mixed { path, source, mixed }),
            };
        }
    }
    placed.changed = placed.files.iter().map(|file| file.target.clone()).collect();
    Ok(placed)
}

impl Placed {
    /// What was replaced, or is new.
    pub fn changed(&self) -> &[PathBuf] {
        &self.changed
    }

    /// All is well: what was replaced is forgotten. With a journal: [`Placed::complete`].
    pub fn keep(self) {
        // Without a journal nothing fails.
        let _ = self.complete();
    }

    /// The same, and the journal is gone.
    /// # Errors
    /// It stays, and so everything is undone.
    pub fn complete(mut self) -> Result<(), PlaceError> {
        // First: with it, and without what it speaks of, nothing could be undone as a whole.
        if let Some(path) = &self.journal {
            remove_durably(path).map_err(|source| PlaceError::Write { path: path.clone(), source })?;
        }
        self.journal = None;
        self.folders.clear();
        for file in self.files.drain(..) {
            // The next run takes away what stays.
            let _ = remove_if_there(&file.kept());
        }
        Ok(())
    }

    /// Puts everything back, the last one first.
    /// # Errors
    /// The first file that could not be put back; the others are.
    pub fn undo(mut self) -> Result<(), PathBuf> {
        self.put_back().map(drop)
    }

    /// Files of somebody else's that were left alone.
    fn put_back(&mut self) -> Result<Vec<PathBuf>, PathBuf> {
        let (mut mixed, mut left) = (None, Vec::new());
        for file in self.files.drain(..).rev() {
            match file.put_back() {
                Ok(Back::AsBefore) => {}
                Ok(Back::SomebodyElses) => left.push(file.target),
                Err(_) => mixed = Some(file.target),
            }
        }
        if let Some(mixed) = mixed {
            // The journal stays on disk: the next one tries again.
            self.journal = None;
            self.folders.clear();
            return Err(mixed);
        }
        if let Some(path) = self.journal.take() {
            remove_durably(&path).map_err(|_| path)?;
        }
        for folder in self.folders.drain(..).rev() {
            // Something else may lie in it by now.
            let _ = std::fs::remove_dir(folder);
        }
        Ok(left)
    }

    fn make_folder_of(&mut self, path: &Path) -> Result<(), PlaceError> {
        let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            let made = DirBuilder::new().mode(0o755).create(folder);
            made.map_err(|source| PlaceError::Write { path: folder.into(), source })?;
            self.folders.push(folder.into());
        }
        Ok(())
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let _ = self.put_back();
    }
}

/// What undoing has come to.
enum Back {
    AsBefore,
    /// It is no more what was put there, and stays.
    SomebodyElses,
}

impl Ready {
    fn temporary(&self) -> PathBuf {
        beside(&self.target, NEW)
    }

    /// Another name of what is replaced.
    fn kept(&self) -> PathBuf {
        beside(&self.target, BEFORE)
    }

    fn put_in_place(&self) -> io::Result<()> {
        if self.replaces {
            std::fs::hard_link(&self.target, self.kept())?;
            // On disk before there is no other name of it.
            sync_folder_of(&self.target)?;
        }
        std::fs::rename(self.temporary(), &self.target)?;
        sync_folder_of(&self.target)
    }

    /// However far it had come; done again, it does nothing.
    fn put_back(&self) -> io::Result<Back> {
        remove_if_there(&self.temporary())?;
        let is_ours = self.is_in_place()?;
        let kept = self.kept();
        let back = match (number(&kept)?, is_ours) {
            (Some(before), _) if number(&self.target)? == Some(before) => {
                remove_if_there(&kept)?;
                Back::AsBefore
            }
            (Some(_), true) => {
                std::fs::rename(&kept, &self.target)?;
                Back::AsBefore
            }
            (Some(_), false) => {
                // Nor is what was there before lost.
                let saved = saved(&self.target);
                if number(&saved)? != number(&kept)? {
                    std::fs::hard_link(&kept, saved)?;
                }
                remove_if_there(&kept)?;
                Back::SomebodyElses
            }
            (None, true) if !self.replaces => {
                std::fs::remove_file(&self.target)?;
                Back::AsBefore
            }
            (None, false) if !self.replaces && number(&self.target)?.is_some() => Back::SomebodyElses,
            (None, _) => Back::AsBefore,
        };
        sync_folder_of(&self.target)?;
        Ok(back)
    }

    fn is_in_place(&self) -> io::Result<bool> {
        match read_trusted(&self.target, MAX_FILE) {
            Ok(data) => Ok(hexadecimal(&data) == self.sha256),
            Err(TrustedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(io::Error::other(e)),
        }
    }
}

fn hexadecimal(data: &[u8]) -> String {
    sha256(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The inode; `None`: nothing is there.
fn number(path: &Path) -> io::Result<Option<u64>> {
    match std::fs::symlink_metadata(path) {
        Ok(m) => Ok(Some(m.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn remove_durably(path: &Path) -> io::Result<()> {
    remove_if_there(path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Takes away what one that was killed has left in the folder of a file, by the names that are given here alone. For whoever holds the lock.
pub fn sweep_beside(path: &Path) {
    let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let is_ours = name.starts_with(b".") && [NEW, BEFORE].iter().any(|end| name.ends_with(end.as_bytes()));
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            // What stays is no trouble but to whoever looks.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A symbolic link stays one: what it points to is replaced.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.into())
}

/// What is there now; a file that others could change is an error rather than something to be quietly replaced.
fn present(target: &Path) -> Result<Option<Vec<u8>>, PlaceError> {
    match read_trusted(target, MAX_FILE) {
        Ok(data) => Ok(Some(data)),
        Err(TrustedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// `None`: it is there already.
fn prepare(file: NewFile) -> Result<Option<Ready>, PlaceError> {
    let target = real(&file.path);
    let before = present(&file.path)?;
    let mode = std::fs::metadata(&target).map(|m| m.permissions().mode() & 0o7777);
    if before.as_deref() == Some(file.data.as_slice()) && mode.is_ok_and(|mode| mode == file.mode) {
        return Ok(None);
    }
    let ready = Ready { target, replaces: before.is_some(), sha256: hexadecimal(&file.data) };
    match lay_ready(&ready, &file) {
        Ok(()) => Ok(Some(ready)),
        Err(e) => {
            let _ = remove_if_there(&ready.temporary());
            Err(e)
        }
    }
}

fn lay_ready(ready: &Ready, file: &NewFile) -> Result<(), PlaceError> {
    let (temporary, failed) = (ready.temporary(), |source| PlaceError::Write { path: ready.target.clone(), source });
    write_durably(&temporary, &file.data, file.mode).map_err(failed)?;
    // As it will be read: a folder that others can change is found out before anything is replaced.
    if read_trusted(&temporary, MAX_FILE)? != file.data {
        return Err(failed(io::Error::other("does not read back")));
    }
    Ok(())
}

/// The name is the same each time, since a lock lets in one at a time.
fn beside(target: &Path, end: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(end);
    target.with_file_name(name)
}

/// Where people find what was there before somebody else changed it. No name that sshd includes.
fn saved(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".before-enroll");
    target.with_file_name(name)
}

fn write_durably(path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o600).open(path)?;
    file.write_all(data)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
