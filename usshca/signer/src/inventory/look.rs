//! An inventory that is only looked at, by the one process that works on the state: nothing of it is changed on disk, neither the database nor its mark nor the log beside it, and no file is made.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use ussh_core::clock::UnixTime;
use usshca_ipc::admin::LostSerials;

use super::{FLAGS, Inventory, InventoryError, check_private, schema};
use crate::inventory::mark::Mark;

/// Pages that are copied at a time.
const PAGES: i32 = 1024;

impl Inventory {
    /// Opens the database to look at it: what [`Inventory::open`] would write of a database that was put back is only told ([`Inventory::lost_serials`]).
    /// # Errors
    /// [`InventoryError`]
    pub fn look(path: &Path, now: UnixTime) -> Result<Self, InventoryError> {
        check_private(path)?;
        let mut connection = open_unchanged(path)?;
        match schema::version(&connection)? {
            0 => return Err(InventoryError::Lost { path: path.to_owned(), how: "empty" }),
            version if version < schema::FORM => connection = in_memory(&connection)?,
            _ => {}
        }
        // A later program's is refused here.
        schema::migrate(&mut connection)?;
        connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA query_only = ON;")?;
        let mark_path = path.with_file_name("serials");
        let (trouble, untold) = (None, Vec::new());
        let mut inventory = Inventory { connection, mark_path, ceiling: 0, run: 0, is_ahead: false, trouble, untold };
        inventory.check(path)?;
        let here = inventory.progress()?;
        let mark = Mark::read(&inventory.mark_path)?.filter(|mark| mark.may_follow(&here, now));
        let lost = here.behind(mark.as_ref()).map_or_else(Vec::new, |loss| loss.serials);
        let lost = lost.into_iter().map(|(first, last)| LostSerials { first, last, noted: now.0, revoked: false });
        inventory.untold = lost.collect();
        Ok(inventory)
    }
}

/// The log beside a database is what a kill leaves; it holds rows that the database does not. Read alone, by a process that no other one may join, it needs no index on disk, and nothing
/// is carried over from it at the end (sqlite.org/wal.html, "Use of WAL Without Shared-Memory").
fn open_unchanged(path: &Path) -> Result<Connection, InventoryError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if Path::new(&log).metadata().is_ok_and(|found| found.len() > 0) {
        let connection = Connection::open_with_flags(path, FLAGS)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
        return Ok(connection);
    }
    // All of it is in the file, which nobody writes to: this process has the state's lock.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(format!("file:{}?immutable=1", escaped(path)), flags)?)
}

/// A path within a URI (sqlite.org/uri.html): whatever has a meaning there, or is no ASCII letter.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => text.push(char::from(*byte)),
            other => text += &format!("%{other:02x}"),
        }
    }
    text
}

/// One of an earlier program's form is brought to the present one in memory.
fn in_memory(source: &Connection) -> Result<Connection, InventoryError> {
    let mut copy = Connection::open_in_memory()?;
    Backup::new(source, &mut copy)?.run_to_completion(PAGES, Duration::ZERO, None)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::time::SystemTime;

    use super::*;
    use crate::inventory::tests::{NOW, reserve};

    type Tree = BTreeMap<String, (u32, SystemTime, Vec<u8>)>;

    /// Names, modes, times of the last change and contents.
    fn tree(folder: &Path) -> Tree {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let of = |entry: fs::DirEntry| {
            let found = entry.metadata().unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, (found.mode(), found.modified().unwrap(), fs::read(entry.path()).unwrap()))
        };
        entries.map(of).collect()
    }

    /// What a look says, and that it leaves everything as it was.
    fn looked<T>(folder: &Path, at: impl FnOnce(&Inventory) -> T) -> T {
        let before = tree(folder);
        let inventory = Inventory::look(&folder.join("inventory.db"), NOW).unwrap();
        let said = at(&inventory);
        drop(inventory);
        assert!(before == tree(folder), "{:?} {:?}", before.keys(), tree(folder).keys());
        said
    }

    fn rows(inventory: &Inventory) -> i64 {
        inventory.connection.query_row("SELECT count(*) FROM certificate", [], |row| row.get(0)).unwrap()
    }

    /// As a kill leaves it: the log is there, and its end was not reached.
    fn copy(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for name in tree(from).keys() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }

    #[test]
    fn a_look_changes_nothing_of_a_database_that_was_closed_or_of_one_whose_signer_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("state ?#%é");
        fs::create_dir(&at).unwrap();
        let mut inventory = Inventory::create(&at.join("inventory.db")).unwrap();
        reserve(&mut inventory);
        let killed = dir.path().join("killed");
        copy(&at, &killed);
        drop(inventory);
        assert_eq!(looked(&at, rows), 1);
        assert!(killed.join("inventory.db-wal").metadata().unwrap().len() > 0);
        assert_eq!(looked(&killed, rows), 1, "it stands in the log alone");
        fs::remove_file(killed.join("inventory.db-shm")).unwrap();
        assert_eq!(looked(&killed, rows), 1, "without an index beside it");
        assert_eq!(looked(&killed, |inventory| inventory.lost_serials().unwrap()), []);
        // Nothing is written by mistake either.
        let mut inventory = Inventory::look(&killed.join("inventory.db"), NOW).unwrap();
        assert!(inventory.next_krl_version(NOW).unwrap_err().to_string().contains("readonly"));
    }

    #[test]
    fn of_a_database_that_was_put_back_a_look_tells_what_is_lost_and_the_next_start_sees_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("state");
        fs::create_dir(&at).unwrap();
        let path = at.join("inventory.db");
        drop(Inventory::create(&path).unwrap());
        let old = fs::read(&path).unwrap();
        let mut inventory = Inventory::open(&path, NOW).unwrap();
        let serial = reserve(&mut inventory);
        drop(inventory);
        fs::write(&path, &old).unwrap();
        let lost = looked(&at, |inventory| inventory.lost_serials().unwrap());
        assert_eq!((lost.len(), lost[0].first, lost[0].last, lost[0].revoked), (1, serial, serial, false));
        let opened = Inventory::open(&path, NOW).unwrap().lost_serials().unwrap();
        assert_eq!((opened[0].first, opened[0].last), (serial, serial));
        assert_eq!(looked(&at, |inventory| inventory.lost_serials().unwrap()), opened, "told once, not twice");
    }

    #[test]
    fn a_database_of_an_earlier_form_keeps_it_and_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inventory.db");
        super::super::create_private(&path).unwrap();
        let old = Connection::open(&path).unwrap();
        old.execute_batch("PRAGMA journal_mode = WAL;").unwrap();
        old.execute_batch(schema::first_form()).unwrap();
        old.execute("INSERT INTO ca VALUES (1, 7, 0, 0, 0)", []).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let (epoch, form) = looked(dir.path(), |inventory| {
            (inventory.progress().unwrap().epoch, schema::version(&inventory.connection).unwrap())
        });
        assert_eq!((epoch, form), (7, schema::FORM));
        assert_eq!(schema::version(&Connection::open(&path).unwrap()).unwrap(), 1);
    }
}
