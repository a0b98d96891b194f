//! What the daemon cannot use at the moment, in a file beside its lock: `status` and `check` read the trusted files themselves, and may find good what the daemon has not
//! found good yet.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::own_file::remove_if_there;

/// Longest note that is read, bytes: paths and a sentence.
const MAX_NOTE: u64 = 16 * 1024;

/// Puts the note there, or takes it away when there is no problem.
/// # Errors
/// As the file system says.
pub fn write(path: &Path, problem: Option<&str>) -> io::Result<()> {
    let Some(problem) = problem else {
        return remove_if_there(path);
    };
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    file.write_all(problem.as_bytes())?;
    std::fs::rename(&new, path)
}

/// The note; `None`: there is none. Of a daemon that runs: one that was killed leaves it behind, and the next one takes it away.
pub fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_NOTE).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_note_is_there_until_there_is_no_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.problem");
        write(&path, None).unwrap();
        assert_eq!(read(&path), None);
        for problem in ["a longer problem", "another"] {
            write(&path, Some(problem)).unwrap();
            assert_eq!(read(&path).as_deref(), Some(problem));
        }
        write(&path, None).unwrap();
        assert_eq!(read(&path), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
