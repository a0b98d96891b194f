//! Puts several files in place, all or none: each lies ready beside the one that it replaces before the first one is renamed, and what was replaced is kept
//! until the caller says that all is well.
//!
//! Undone, every file is what it was: the same one, with its times and modes, by the hard link that was kept of it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ussh_core::trusted_file::{TrustedFileError, read_trusted};

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

/// A file that lies ready.
#[derive(Debug)]
struct Ready {
    target: PathBuf,
    temporary: PathBuf,
    /// Another name of what is replaced.
    kept: PathBuf,
    /// Something is replaced.
    replaces: bool,
    in_place: bool,
}

impl Drop for Ready {
    fn drop(&mut self) {
        // After the rename there is nothing of the first name; of the second only what was kept. The next run takes away what stays.
        let _ = std::fs::remove_file(&self.temporary);
        let _ = std::fs::remove_file(&self.kept);
    }
}

/// Files that are in place, and what they replaced. Dropped without [`Placed::keep`], they are undone as far as can be.
#[derive(Debug)]
#[must_use]
pub struct Placed {
    files: Vec<Ready>,
    /// Made for them, outermost first.
    folders: Vec<PathBuf>,
    changed: Vec<PathBuf>,
}

/// Puts all of them in place, in this order. Files that are what they are to be are left alone.
/// # Errors
/// [`PlaceError`]; all is as it was then, but for `Mixed`.
pub fn put(files: Vec<NewFile>) -> Result<Placed, PlaceError> {
    let mut placed = Placed { files: Vec::new(), folders: Vec::new(), changed: Vec::new() };
    for file in files {
        placed.make_folder_of(&file.path)?;
        placed.files.extend(prepare(file)?);
    }
    for position in 0..placed.files.len() {
        let Some(file) = placed.files.get_mut(position) else { break };
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

    /// All is well: what was replaced is forgotten.
    pub fn keep(mut self) {
        self.files.clear();
        self.folders.clear();
    }

    /// Puts everything back, the last one first.
    /// # Errors
    /// The first file that could not be put back; the others are.
    pub fn undo(mut self) -> Result<(), PathBuf> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<(), PathBuf> {
        let mut mixed = None;
        for file in self.files.iter_mut().rev() {
            if file.put_back().is_err() {
                mixed = Some(file.target.clone());
            }
        }
        self.files.clear();
        for folder in self.folders.drain(..).rev() {
            // Something else may lie in it by now.
            let _ = std::fs::remove_dir(folder);
        }
        mixed.map_or(Ok(()), Err)
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

impl Ready {
    fn put_in_place(&mut self) -> io::Result<()> {
        if self.replaces {
            std::fs::hard_link(&self.target, &self.kept)?;
        }
        std::fs::rename(&self.temporary, &self.target)?;
        self.in_place = true;
        sync_folder_of(&self.target)
    }

    fn put_back(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.in_place) {
            return Ok(());
        }
        match self.replaces {
            true => std::fs::rename(&self.kept, &self.target)?,
            false => std::fs::remove_file(&self.target)?,
        }
        sync_folder_of(&self.target)
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
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
    // A symbolic link stays one: what it points to is replaced.
    let target = file.path.canonicalize().unwrap_or_else(|_| file.path.clone());
    let [temporary, kept] = ["new", "before"].map(|end| beside(&target, end));
    // Of one that was killed. That there is none is no error.
    let _ = std::fs::remove_file(&temporary);
    let _ = std::fs::remove_file(&kept);
    let before = present(&file.path)?;
    let mode = std::fs::metadata(&target).map(|m| m.permissions().mode() & 0o7777);
    if before.as_deref() == Some(file.data.as_slice()) && mode.is_ok_and(|mode| mode == file.mode) {
        return Ok(None);
    }
    let ready = Ready { target, temporary, kept, replaces: before.is_some(), in_place: false };
    let failed = |source| PlaceError::Write { path: ready.target.clone(), source };
    write_durably(&ready.temporary, &file.data, file.mode).map_err(failed)?;
    // As it will be read: a folder that others can change is found out before anything is replaced.
    if read_trusted(&ready.temporary, MAX_FILE)? != file.data {
        return Err(failed(io::Error::other("does not read back")));
    }
    Ok(Some(ready))
}

/// The name is the same each time, since a lock lets in one at a time: what one that was killed leaves behind, the next one takes away.
fn beside(target: &Path, end: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".ussh-hostd-{end}"));
    target.with_file_name(name)
}

fn write_durably(path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o600).open(path)?;
    file.write_all(data)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::test_support::trusted_folder;

    /// Path, inode, mode, time, contents; of a folder path and mode alone.
    type Seen = (PathBuf, u64, u32, i64, Vec<u8>);

    fn tree(folder: &Path) -> Vec<Seen> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let m = path.symlink_metadata().unwrap();
            if m.is_dir() {
                found.extend(tree(&path));
            }
            let data = if m.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            found.push((
                path,
                if m.is_dir() { 0 } else { m.ino() },
                m.mode(),
                if m.is_dir() { 0 } else { m.mtime_nsec() },
                data,
            ));
        }
        found.sort();
        found
    }

    fn some() -> (tempfile::TempDir, Vec<Seen>) {
        let folder = trusted_folder();
        std::fs::write(folder.path().join("one"), "old").unwrap();
        std::fs::write(folder.path().join("real"), "old").unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        let before = tree(folder.path());
        (folder, before)
    }

    fn new(folder: &tempfile::TempDir) -> Vec<NewFile> {
        let at = |name: &str| folder.path().join(name);
        vec![
            NewFile::public(at("one"), "new"),
            NewFile::private(at("link"), "new"),
            NewFile::public(at("a/b/two"), "new"),
        ]
    }

    #[test]
    fn all_are_in_place_with_their_modes_and_a_link_stays_one() {
        let (folder, _) = some();
        let placed = put(new(&folder)).unwrap();
        assert_eq!(placed.changed().len(), 3);
        placed.keep();
        let found: Vec<_> = tree(folder.path()).into_iter().filter(|f| !f.4.is_empty()).collect();
        let named: Vec<_> = found.iter().map(|f| (f.0.file_name().unwrap().to_str().unwrap(), f.2 & 0o777)).collect();
        assert_eq!(named, [("two", 0o644), ("one", 0o644), ("real", 0o600)]);
        assert!(found.iter().all(|f| f.4 == b"new") && folder.path().join("link").is_symlink());
        let again = put(new(&folder)).unwrap();
        assert!(again.changed().is_empty(), "they are there already");
        again.keep();
        assert_eq!(tree(folder.path()).iter().filter(|f| f.4 == b"new").count(), 3);
    }

    #[test]
    fn undone_or_forgotten_everything_is_the_very_file_that_it_was() {
        let (folder, before) = some();
        put(new(&folder)).unwrap().undo().unwrap();
        assert_eq!(tree(folder.path()), before);
        drop(put(new(&folder)).unwrap());
        assert_eq!(tree(folder.path()), before);
    }

    #[test]
    fn one_that_cannot_be_put_in_place_undoes_those_before_it() {
        let (folder, before) = some();
        let mut files = new(&folder);
        files.push(NewFile::public(folder.path().join("one/below"), "new"));
        let error = put(files).unwrap_err().to_string();
        assert!(error.contains("one") && !error.contains("put back"), "{error}");
        assert_eq!(tree(folder.path()), before);
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let before = tree(folder.path());
        let mut files = new(&folder);
        files.push(NewFile::public(folder.path().join("folder"), "new"));
        assert!(put(files).unwrap_err().to_string().contains("not a regular file"));
        assert_eq!(tree(folder.path()), before);
    }

    #[test]
    fn a_rename_that_fails_takes_back_the_ones_that_did_not() {
        let (folder, before) = some();
        let files = new(&folder);
        let mut placed = Placed { files: Vec::new(), folders: Vec::new(), changed: Vec::new() };
        for file in files {
            placed.make_folder_of(&file.path).unwrap();
            placed.files.extend(prepare(file).unwrap());
        }
        std::fs::remove_file(&placed.files[2].temporary).unwrap();
        assert!(placed.files[0].put_in_place().is_ok() && placed.files[1].put_in_place().is_ok());
        assert!(placed.files[2].put_in_place().is_err());
        placed.undo().unwrap();
        assert_eq!(tree(folder.path()), before);
    }

    #[test]
    fn what_one_that_was_killed_left_behind_is_taken_away() {
        let (folder, before) = some();
        for name in [".one.ussh-hostd-new", ".one.ussh-hostd-before"] {
            std::fs::write(folder.path().join(name), "half").unwrap();
        }
        drop(put(new(&folder)).unwrap());
        assert_eq!(tree(folder.path()), before);
    }
}
