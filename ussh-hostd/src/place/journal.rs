//! What was begun, on disk: a run that is killed before all is well, by whatever, leaves it behind, and the next one undoes what it names.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Placed;
use super::ready::{MAX_FILE, NEW, Ready, beside, sync_folder_of, write_durably};
use crate::own_file::{self, OwnFileError, remove_if_there};

/// The one version that is read.
const VERSION: u32 = 1;

/// Why it cannot be undone.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It does not read.
    #[error(transparent)]
    File(#[from] OwnFileError),
    /// A file could not be put back.
    #[error("{0} could not be put back")]
    Mixed(PathBuf),
}

/// Files that were about to be replaced. Unknown names are errors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    version: u32,
    pub(super) files: Vec<Ready>,
    /// Made for them, outermost first.
    folders: Vec<PathBuf>,
}

impl Journal {
    pub(super) fn new(files: Vec<Ready>, folders: Vec<PathBuf>) -> Self {
        Journal { version: VERSION, files, folders }
    }

    /// Whole, or not at all.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        let temporary = beside(path, NEW);
        let written = write_durably(&temporary, text.as_bytes(), 0o600)
            .and_then(|()| std::fs::rename(&temporary, path))
            .and_then(|()| sync_folder_of(path));
        if written.is_err() {
            let _ = remove_if_there(&temporary);
        }
        written
    }

    /// `None`: there is nothing to be undone.
    /// # Errors
    /// [`JournalError`]
    pub fn read(path: &Path) -> Result<Option<Self>, JournalError> {
        let Some(read): Option<Journal> = own_file::read(path, MAX_FILE)? else { return Ok(None) };
        own_file::refuse_others(path, "version", read.version, VERSION)?;
        Ok(Some(read))
    }

    /// Undoes all that it names, and then it is gone. Those of the files that somebody else has changed since, and that are left alone.
    /// # Errors
    /// [`JournalError::Mixed`]: it stays.
    pub fn undo(self, path: &Path) -> Result<Vec<PathBuf>, JournalError> {
        let Journal { files, folders, .. } = self;
        let mut placed = Placed { files, folders, changed: Vec::new(), journal: Some(path.into()) };
        placed.put_back().map_err(JournalError::Mixed)
    }
}
