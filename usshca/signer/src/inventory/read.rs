//! Reading the inventory.

use rusqlite::{OptionalExtension, Row};
use ussh_core::clock::UnixTime;
use usshca_ipc::admin::Entry;

use super::{Inventory, InventoryError};

/// Of an [`Entry`].
pub(super) const COLUMNS: &str = "row, serial, kind, key_id, principals, fingerprint, valid_after, valid_before, asked, source, authenticated, rule, state, detail, revoked, reason, tries, last";

/// One row with what is not in every list.
#[derive(Debug)]
pub struct Details {
    /// The row.
    pub entry: Entry,
    /// Wire form of the certificate, once signed.
    pub certificate: Option<Vec<u8>>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
    /// Why.
    pub revocation_reason: Option<String>,
}

impl Inventory {
    /// Rows below `before` (exclusive), newest first, at most `limit`.
    /// # Errors
    /// [`InventoryError`]
    pub fn list(&self, before: u64, limit: u32) -> Result<Vec<Entry>, InventoryError> {
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let sql = format!("SELECT {COLUMNS} FROM certificate WHERE row < ?1 ORDER BY row DESC LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map((before, limit), entry)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The row of a serial. 0 is no serial.
    /// # Errors
    /// [`InventoryError`]
    pub fn find(&self, serial: u64) -> Result<Option<Details>, InventoryError> {
        self.details("serial = ?1 AND serial <> 0", serial)
    }

    /// A row by its number, which a refusal has as well.
    /// # Errors
    /// [`InventoryError`]
    pub fn row(&self, row: u64) -> Result<Option<Details>, InventoryError> {
        self.details("row = ?1", row)
    }

    fn details(&self, condition: &str, number: u64) -> Result<Option<Details>, InventoryError> {
        let sql =
            format!("SELECT {COLUMNS}, certificate, revoked_by, revocation_reason FROM certificate WHERE {condition}");
        let details = |row: &Row<'_>| {
            Ok(Details {
                entry: entry(row)?,
                certificate: row.get("certificate")?,
                revoked_by: row.get("revoked_by")?,
                revocation_reason: row.get("revocation_reason")?,
            })
        };
        Ok(self.connection.prepare_cached(&sql)?.query_row([number.cast_signed()], details).optional()?)
    }

    /// How many certificates of a user are good at a time: signed, or perhaps signed, and neither over nor revoked.
    /// # Errors
    /// [`InventoryError`]
    pub fn count_good(&self, user: &str, now: UnixTime) -> Result<u32, InventoryError> {
        super::count_good(&self.connection, user, now)
    }
}

/// Of a row with [`COLUMNS`].
pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let number = |column: &str| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let principals: String = row.get("principals")?;
    let (state, detail): (String, String) = (row.get("state")?, row.get("detail")?);
    Ok(Entry {
        row: number("row")?,
        serial: number("serial")?,
        kind: row.get("kind")?,
        key_id: row.get("key_id")?,
        principals: principals.split('\n').filter(|p| !p.is_empty()).map(str::to_owned).collect(),
        fingerprint: row.get("fingerprint")?,
        valid_after: number("valid_after")?,
        valid_before: number("valid_before")?,
        asked: number("asked")?,
        from: row.get("source")?,
        authenticated: row.get("authenticated")?,
        rule: row.get("rule")?,
        outcome: if detail.is_empty() { state } else { format!("{state}: {detail}") },
        revoked: row.get::<_, Option<i64>>("revoked")?.map(i64::cast_unsigned),
        reason: row.get("reason")?,
        count: row.get::<_, Option<i64>>("tries")?.map_or(1, i64::cast_unsigned),
        last: row.get::<_, Option<i64>>("last")?.map_or(number("asked")?, i64::cast_unsigned),
    })
}
