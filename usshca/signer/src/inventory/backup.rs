//! A copy of the inventory as it is at one moment, made beside the signer that serves: readers and the writer of a database with a write-ahead log do not wait for each other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{FLAGS, Inventory, InventoryError, check_private, create_private};

/// Bytes that are read at a time.
const CHUNK: usize = 256 * 1024;

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// How long the copy is.
    pub bytes: u64,
    /// How many rows of certificates and refusals it holds.
    pub rows: u64,
}

/// The copy while it is made; no file of it is left.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing can be done about one that will not go; the next backup writes over it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Copies the database at `path` into `to`. The copy says of itself that it is one: put back, it is known as an older database whenever serials may have been given since.
/// # Errors
/// [`InventoryError`]; what was written to `to` is of no use then.
pub fn copy(path: &Path, mut to: impl Write) -> Result<Copied, InventoryError> {
    check_private(path)?;
    let _alone = alone(path)?;
    let temporary = Temporary(path.with_file_name("backup.new"));
    let file_error = |e: io::Error| InventoryError::File { path: temporary.0.clone(), problem: e.to_string() };
    match std::fs::remove_file(&temporary.0) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file_error(e)),
        _ => {}
    }
    // With the mode of the database; SQLite writes into an empty file.
    create_private(&temporary.0)?;
    let source = Connection::open_with_flags(path, FLAGS)?;
    source.busy_timeout(std::time::Duration::from_secs(5))?;
    let target = temporary.0.to_str().ok_or_else(|| file_error(io::ErrorKind::InvalidFilename.into()))?;
    source.execute("VACUUM INTO ?1", [target])?;
    drop(source);
    let rows = finish(&temporary.0)?;
    let mut file = File::open(&temporary.0).map_err(file_error)?;
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut chunk).map_err(file_error)?;
        if length == 0 {
            return Ok(Copied { bytes, rows });
        }
        to.write_all(chunk.get(..length).unwrap_or_default()).map_err(file_error)?;
        bytes += length as u64;
    }
}

/// One at a time: each would remove the other's file.
fn alone(path: &Path) -> Result<File, InventoryError> {
    let path = path.with_file_name("backup.lock");
    let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let locked = lock.and_then(|lock| lock.lock().map(|()| lock));
    locked.map_err(|e| InventoryError::File { path, problem: e.to_string() })
}

/// Marks the copy as one, and looks through all of it.
fn finish(path: &Path) -> Result<u64, InventoryError> {
    let copy = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    copy.execute_batch("PRAGMA journal_mode = DELETE; UPDATE ca SET run = -1;")?;
    let found: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(InventoryError::File { path: path.to_owned(), problem: format!("the copy is damaged ({found})") });
    }
    Inventory::count_rows(&copy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use ussh_core::clock::UnixTime;

    use super::*;
    use crate::inventory::{Asked, Kind, Planned};

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn reserve(inventory: &mut Inventory) -> u64 {
        let asked = Asked {
            kind: Kind::User,
            key_id: "alice".into(),
            fingerprint: String::new(),
            asked: NOW,
            source: "192.0.2.1".into(),
            authenticated: "pam".into(),
            rule: "staff".into(),
            reason: String::new(),
            request: None,
        };
        let planned =
            Planned { principals: vec!["alice".into()], valid_after: NOW, valid_before: UnixTime(NOW.0 + 60) };
        inventory.reserve(&asked, &planned).unwrap()
    }

    fn inventory() -> (tempfile::TempDir, PathBuf, Inventory) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inventory.db");
        let inventory = Inventory::create(&path).unwrap();
        (dir, path, inventory)
    }

    #[test]
    fn a_copy_beside_a_writer_holds_all_that_was_written_and_leaves_no_file() {
        let (dir, path, mut inventory) = inventory();
        let serials: Vec<u64> = (0..100).map(|_| reserve(&mut inventory)).collect();
        std::fs::write(dir.path().join("backup.new"), "left by one that was killed").unwrap();
        let mut bytes = Vec::new();
        let copied = copy(&path, &mut bytes).unwrap();
        assert_eq!(copied, Copied { bytes: bytes.len() as u64, rows: 100 });
        assert!(!dir.path().join("backup.new").exists());
        // The writer goes on, and a copy put back in its place is known as an older one, whether it was stopped or killed.
        let last = reserve(&mut inventory);
        for killed in [false, true] {
            let elsewhere = tempfile::tempdir().unwrap();
            inventory.is_ahead = killed;
            inventory.advance_mark().unwrap();
            std::fs::copy(dir.path().join("serials"), elsewhere.path().join("serials")).unwrap();
            let path = elsewhere.path().join("inventory.db");
            std::fs::write(&path, &bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let mut restored = Inventory::open(&path, NOW).unwrap();
            let known = restored.list(u64::MAX, 500).unwrap().into_iter().map(|row| row.serial);
            assert!(known.eq(serials.iter().rev().copied()));
            assert_ne!(reserve(&mut restored) >> 40, last >> 40);
            let lost = restored.lost_serials().unwrap();
            assert!(lost.len() == 1 && lost[0].first == last && lost[0].last >= last && !lost[0].revoked, "{lost:?}");
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_a_failure_and_leaves_no_file() {
        let (dir, path, mut inventory) = inventory();
        reserve(&mut inventory);
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert!(matches!(copy(&path, writer), Err(InventoryError::File { .. })));
        assert!(!dir.path().join("backup.new").exists());
    }

    /// Each would take the other's file away.
    #[test]
    fn a_backup_waits_for_the_one_before_and_then_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inventory.db");
        let mut inventory = Inventory::create(&path).unwrap();
        reserve(&mut inventory);
        let before = alone(&path).unwrap();
        let inode = before.metadata().unwrap().ino();
        let second = {
            let path = path.clone();
            std::thread::spawn(move || copy(&path, Vec::new()))
        };
        // proc_locks(5): who waits stands behind an arrow.
        let waits = || {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&format!(":{inode} ")))
        };
        while !waits() {
            assert!(!second.is_finished(), "it did not wait");
            std::thread::yield_now();
        }
        assert!(!path.with_file_name("backup.new").exists(), "it has begun");
        drop(before);
        assert_eq!(second.join().unwrap().unwrap().rows, 1);
        // However many at once.
        let all: Vec<_> = (0..6)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || copy(&path, Vec::new()))
            })
            .collect();
        for one in all {
            assert_eq!(one.join().unwrap().unwrap().rows, 1);
        }
        let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.retain(|name| name.to_string_lossy().starts_with("backup"));
        assert_eq!(left, ["backup.lock"]);
    }
}
