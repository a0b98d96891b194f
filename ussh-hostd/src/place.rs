//! Puts several files in place, all or none: each lies ready beside the one that it replaces before the first one is renamed, and what was replaced is kept
//! until the caller says that all is well.
//!
//! Undone, every file is what it was: the same one, with its times and modes, by the hard link that was kept of it. A file that somebody else has changed meanwhile is left alone.
//! With a journal, what was begun is on disk before the first rename: whoever finds the journal undoes it by the same function.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ussh_core::trusted_file::TrustedFileError;

use self::journal::Journal;
pub use self::ready::sweep_beside;
use self::ready::{Back, Ready, prepare, real, remove_durably};
use crate::own_file::remove_if_there;

mod ready;

pub mod journal;

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

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
