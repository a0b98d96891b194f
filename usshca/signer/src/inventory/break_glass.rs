//! What hosts told of break-glass on them.

use rusqlite::Row;
use ussh_core::break_glass::Note;
use ussh_core::clock::UnixTime;
use usshca_ipc::host::BreakGlass;

use super::{Inventory, InventoryError, sql_time};

/// Most that one host's answer holds, the newest.
const MOST_SHOWN: u32 = 20;

impl Inventory {
    /// Writes them down in one step; those that a host has told of before stay as they were. Gives the new ones.
    /// # Errors
    /// [`InventoryError`]
    pub fn add_break_glass<'n>(
        &mut self,
        host: &str,
        notes: &'n [Note],
        now: UnixTime,
    ) -> Result<Vec<&'n Note>, InventoryError> {
        let received = sql_time(now)?;
        let transaction = self.begin()?;
        let mut new = Vec::new();
        for note in notes {
            let sql = "INSERT INTO break_glass VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING";
            let Note { id, user, from, key_id, serial, key, ca, opened, version: _ } = note;
            let row = (host, id, user, from, key_id, serial, key, ca, sql_time(*opened)?, received);
            if transaction.prepare_cached(sql)?.execute(row)? > 0 {
                new.push(note);
            }
        }
        transaction.commit()?;
        Ok(new)
    }

    /// How many a host has told of since then.
    /// # Errors
    /// [`InventoryError`]
    pub fn count_break_glass(&self, host: &str, since: UnixTime) -> Result<u64, InventoryError> {
        let sql = "SELECT count(*) FROM break_glass WHERE host = ?1 AND received > ?2";
        let row = (host, sql_time(since)?);
        Ok(self.connection.prepare_cached(sql)?.query_row(row, |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// The newest of a host, newest first.
    /// # Errors
    /// [`InventoryError`]
    pub fn break_glass_of(&self, host: &str) -> Result<Vec<BreakGlass>, InventoryError> {
        let sql = "SELECT * FROM break_glass WHERE host = ?1 ORDER BY received DESC, opened DESC LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let uses = statement.query_map((host, MOST_SHOWN), one)?.collect::<Result<_, _>>()?;
        Ok(uses)
    }
}

fn one(row: &Row<'_>) -> rusqlite::Result<BreakGlass> {
    Ok(BreakGlass {
        user: row.get("user")?,
        from: row.get("source")?,
        key_id: row.get("key_id")?,
        serial: row.get("serial")?,
        key: row.get("fingerprint")?,
        ca: row.get("ca")?,
        opened: row.get::<_, i64>("opened")?.cast_unsigned(),
        received: row.get::<_, i64>("received")?.cast_unsigned(),
    })
}
