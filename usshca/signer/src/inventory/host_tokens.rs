//! Host tokens: made, listed, revoked, and used once (`hosts::enroll`).

use rusqlite::{OptionalExtension, Row, Transaction};
use ussh_core::clock::UnixTime;
use usshca_ipc::host::Token;

use super::{Inventory, InventoryError, sql_time};

/// A token that somebody proved to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFound {
    /// Its number.
    pub id: u64,
    /// The host's names, its own first.
    pub names: Vec<String>,
    /// Seconds since the epoch, exclusive.
    pub expires: UnixTime,
    /// When it was used, if it was.
    pub used: Option<UnixTime>,
    /// When it was revoked, if it was.
    pub revoked: Option<UnixTime>,
}

/// What the revocation of a token met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRevocation {
    /// Useless from now on.
    Done,
    /// It was already: used, expired or revoked.
    Useless,
    /// There is none.
    Unknown,
}

impl Inventory {
    /// Enters a token by the fingerprint of its key; gives its number.
    /// # Errors
    /// [`InventoryError`]
    pub fn add_host_token(
        &mut self,
        fingerprint: &str,
        names: &[String],
        now: UnixTime,
        by: &str,
        expires: UnixTime,
    ) -> Result<u64, InventoryError> {
        let sql = "INSERT INTO host_token (fingerprint, names, made, made_by, expires) VALUES (?1, ?2, ?3, ?4, ?5)";
        let row = (fingerprint, names.join("\n"), sql_time(now)?, by, sql_time(expires)?);
        self.connection.prepare_cached(sql)?.execute(row)?;
        Ok(self.connection.last_insert_rowid().cast_unsigned())
    }

    /// How many can still be used.
    /// # Errors
    /// [`InventoryError`]
    pub fn count_open_tokens(&self, now: UnixTime) -> Result<u64, InventoryError> {
        let sql = "SELECT count(*) FROM host_token WHERE used IS NULL AND revoked IS NULL AND expires > ?1";
        Ok(self
            .connection
            .prepare_cached(sql)?
            .query_row([sql_time(now)?], |row| row.get::<_, i64>(0))?
            .cast_unsigned())
    }

    /// Those that can still be used, newest first, from below `before` (exclusive).
    /// # Errors
    /// [`InventoryError`]
    pub fn open_tokens(&self, now: UnixTime, before: u64, limit: u32) -> Result<Vec<Token>, InventoryError> {
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let sql = "SELECT * FROM host_token WHERE used IS NULL AND revoked IS NULL AND expires > ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map((sql_time(now)?, before, limit), |row| {
            Ok(Token {
                id: row.get::<_, i64>("id")?.cast_unsigned(),
                names: lines(row, "names")?,
                made: row.get::<_, i64>("made")?.cast_unsigned(),
                made_by: row.get("made_by")?,
                expires: row.get::<_, i64>("expires")?.cast_unsigned(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// By the fingerprint of its key.
    /// # Errors
    /// [`InventoryError`]
    pub fn host_token(&self, fingerprint: &str) -> Result<Option<TokenFound>, InventoryError> {
        let sql = "SELECT * FROM host_token WHERE fingerprint = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([fingerprint], found).optional()?)
    }

    /// Makes it useless.
    /// # Errors
    /// [`InventoryError`]
    pub fn revoke_host_token(&mut self, id: u64, now: UnixTime, by: &str) -> Result<TokenRevocation, InventoryError> {
        let id = i64::try_from(id).unwrap_or(0);
        let sql = "UPDATE host_token SET revoked = ?2, revoked_by = ?3 WHERE id = ?1 AND used IS NULL AND revoked IS NULL AND expires > ?2";
        if self.connection.prepare_cached(sql)?.execute((id, sql_time(now)?, by))? == 1 {
            // It counts as an act: a database from before it is known to be old.
            self.connection.execute("UPDATE ca SET acts = acts + 1", [])?;
            self.advance_mark()?;
            return Ok(TokenRevocation::Done);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM host_token WHERE id = ?1)";
        let exists: bool = self.connection.query_row(sql, [id], |row| row.get(0))?;
        Ok(if exists { TokenRevocation::Useless } else { TokenRevocation::Unknown })
    }
}

/// Uses a token up, if it can still be used.
pub(super) fn use_up(
    transaction: &Transaction<'_>,
    id: u64,
    now: UnixTime,
    from: &str,
) -> Result<bool, InventoryError> {
    let sql = "UPDATE host_token SET used = ?2, used_from = ?3 WHERE id = ?1 AND used IS NULL AND revoked IS NULL AND expires > ?2";
    Ok(transaction.prepare_cached(sql)?.execute((id.cast_signed(), sql_time(now)?, from))? == 1)
}

/// A list as it stands in a column.
pub(super) fn lines(row: &Row<'_>, column: &str) -> rusqlite::Result<Vec<String>> {
    let text: String = row.get(column)?;
    Ok(text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// A time that may not be there.
pub(super) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
}

fn found(row: &Row<'_>) -> rusqlite::Result<TokenFound> {
    Ok(TokenFound {
        id: row.get::<_, i64>("id")?.cast_unsigned(),
        names: lines(row, "names")?,
        expires: UnixTime(row.get::<_, i64>("expires")?.cast_unsigned()),
        used: time(row, "used")?.map(UnixTime),
        revoked: time(row, "revoked")?.map(UnixTime),
    })
}
