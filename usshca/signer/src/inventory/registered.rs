//! Registered keys: by which users can log in where policy takes that. A key is of one user; what was removed stays in the table, with who did it.

use rusqlite::{Connection, OptionalExtension, Row};
use ussh_core::clock::UnixTime;
use ussh_core::keys::PublicKey;
use usshca_ipc::admin::{Entry, RegisteredKey};

use super::{Inventory, InventoryError, sql_time};

/// What a registration met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Registered now.
    Done,
    /// It was, for the same user.
    Already,
    /// It is another user's.
    OfAnother(String),
    /// The key is revoked.
    Revoked,
}

/// What a key is to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// Nothing.
    No,
    /// Registered, and good.
    Yes,
    /// Registered, and revoked since.
    Revoked,
}

/// That a key, by its fingerprint, is itself revoked.
const IS_REVOKED: &str =
    "EXISTS (SELECT 1 FROM revocation WHERE scope = 'key' AND value = fingerprint AND lifted IS NULL)";

impl Inventory {
    /// Registers a key; `by` is who asked.
    /// # Errors
    /// [`InventoryError`]
    pub fn register_key(
        &mut self,
        user: &str,
        key: &PublicKey,
        comment: &str,
        now: UnixTime,
        by: &str,
    ) -> Result<Registration, InventoryError> {
        let (now, fingerprint) = (sql_time(now)?, key.fingerprint());
        if self.is_revoked_key(&fingerprint)? {
            return Ok(Registration::Revoked);
        }
        let transaction = self.begin()?;
        let holder: Option<String> = transaction
            .prepare_cached("SELECT user FROM registered_key WHERE fingerprint = ?1 AND removed IS NULL")?
            .query_row([&fingerprint], |row| row.get(0))
            .optional()?;
        match holder {
            Some(holder) if holder == user => return Ok(Registration::Already),
            Some(holder) => return Ok(Registration::OfAnother(holder)),
            None => {}
        }
        transaction
            .prepare_cached(
                "INSERT INTO registered_key (user, fingerprint, public_key, comment, at, by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((user, &fingerprint, key.to_openssh(""), comment, now, by))?;
        transaction.commit()?;
        Ok(Registration::Done)
    }

    /// Ends a key's registration; gives whose it was, `None`: nobody's. It counts as an act: a database from before it is known to be old.
    /// # Errors
    /// [`InventoryError`]
    pub fn remove_key(&mut self, fingerprint: &str, now: UnixTime, by: &str) -> Result<Option<String>, InventoryError> {
        let now = sql_time(now)?;
        let transaction = self.begin()?;
        let sql = "UPDATE registered_key SET removed = ?2, removed_by = ?3 WHERE fingerprint = ?1 AND removed IS NULL RETURNING user";
        let user: Option<String> =
            transaction.prepare_cached(sql)?.query_row((fingerprint, now, by), |row| row.get(0)).optional()?;
        if user.is_none() {
            return Ok(None);
        }
        transaction.execute("UPDATE ca SET acts = acts + 1", [])?;
        transaction.commit()?;
        self.advance_mark()?;
        Ok(user)
    }

    /// What the key is to this user.
    /// # Errors
    /// [`InventoryError`]
    pub fn registered(&self, user: &str, key: &PublicKey) -> Result<Registered, InventoryError> {
        let sql =
            format!("SELECT {IS_REVOKED} FROM registered_key WHERE fingerprint = ?1 AND user = ?2 AND removed IS NULL");
        let revoked: Option<bool> =
            self.connection.prepare_cached(&sql)?.query_row((key.fingerprint(), user), |row| row.get(0)).optional()?;
        Ok(match revoked {
            None => Registered::No,
            Some(false) => Registered::Yes,
            Some(true) => Registered::Revoked,
        })
    }

    /// Whose registered key this is, revoked or not.
    /// # Errors
    /// [`InventoryError`]
    pub fn user_of_key(&self, fingerprint: &str) -> Result<Option<String>, InventoryError> {
        let sql = "SELECT user FROM registered_key WHERE fingerprint = ?1 AND removed IS NULL";
        Ok(self.connection.prepare_cached(sql)?.query_row([fingerprint], |row| row.get(0)).optional()?)
    }

    /// Whether the key itself is revoked.
    /// # Errors
    /// [`InventoryError`]
    pub fn is_revoked_key(&self, fingerprint: &str) -> Result<bool, InventoryError> {
        is_revoked_key(&self.connection, fingerprint)
    }

    /// Registered keys of one user or of all, newest first, from below `before` (exclusive), at most `limit`.
    /// # Errors
    /// [`InventoryError`]
    pub fn registered_keys(
        &self,
        user: Option<&str>,
        before: u64,
        limit: u32,
    ) -> Result<Vec<RegisteredKey>, InventoryError> {
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT id, user, fingerprint, public_key, comment, at, by, {IS_REVOKED} AS revoked FROM registered_key
             WHERE removed IS NULL AND id < ?1 AND (?2 IS NULL OR user = ?2) ORDER BY id DESC LIMIT ?3"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map((before, user, limit), registered)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A user's own rows: certificates and refusals, newest first, at most `limit`. Logins that were refused are not among them: anybody can try a name.
    /// # Errors
    /// [`InventoryError`]
    pub fn of_user(&self, user: &str, limit: u32) -> Result<Vec<Entry>, InventoryError> {
        let sql = format!(
            "SELECT {} FROM certificate WHERE key_id = ?1 AND kind = 'user' AND network IS NULL ORDER BY row DESC LIMIT ?2",
            super::read::COLUMNS
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map((user, limit), super::read::entry)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Whether the key is registered for this user, and not revoked.
pub(super) fn is_registered(connection: &Connection, user: &str, fingerprint: &str) -> Result<bool, InventoryError> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM registered_key WHERE fingerprint = ?1 AND user = ?2 AND removed IS NULL AND NOT {IS_REVOKED})"
    );
    Ok(connection.prepare_cached(&sql)?.query_row((fingerprint, user), |row| row.get(0))?)
}

/// The newest of a user's registered keys, if every one of them is revoked.
pub(super) fn revoked_registration(connection: &Connection, user: &str) -> Result<Option<String>, InventoryError> {
    let sql = format!(
        "SELECT fingerprint, {IS_REVOKED} FROM registered_key WHERE user = ?1 AND removed IS NULL ORDER BY 2, id DESC LIMIT 1"
    );
    let first: Option<(String, bool)> =
        connection.prepare_cached(&sql)?.query_row([user], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(first.and_then(|(fingerprint, revoked)| revoked.then_some(fingerprint)))
}

/// Whether the key itself is revoked.
pub(super) fn is_revoked_key(connection: &Connection, fingerprint: &str) -> Result<bool, InventoryError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM revocation WHERE scope IN ('key', 'ca') AND value = ?1 AND lifted IS NULL)";
    Ok(connection.prepare_cached(sql)?.query_row([fingerprint], |row| row.get(0))?)
}

fn registered(row: &Row<'_>) -> rusqlite::Result<RegisteredKey> {
    let number = |column: &str| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(RegisteredKey {
        id: number("id")?,
        user: row.get("user")?,
        fingerprint: row.get("fingerprint")?,
        public_key: row.get("public_key")?,
        comment: row.get("comment")?,
        at: number("at")?,
        by: row.get("by")?,
        revoked: row.get("revoked")?,
    })
}

#[cfg(test)]
#[path = "registered_tests.rs"]
mod tests;
