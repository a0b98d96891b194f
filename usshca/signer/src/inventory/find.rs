//! Looking for rows. The inventory may hold millions of them, and the signer has one thread: an answer is made within a bounded time, and says where to go on.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row, ToSql};
use ussh_core::clock::UnixTime;
use usshca_ipc::admin::{Cursor, Entry, Find};
use usshca_ipc::channel::decode;

use super::read::{COLUMNS, entry};
use super::{Inventory, InventoryError, Request, sql_time};

/// How long one answer may take, but for a step that is under way.
const PATIENCE: Duration = Duration::from_millis(20);
/// Rows that are looked at in one step.
const STEP: i64 = 2048;
/// Row numbers that one step goes through by an index.
const INDEXED_STEP: i64 = 1 << 16;

/// One page.
#[derive(Debug)]
pub struct Page<T> {
    /// Newest first.
    pub rows: Vec<T>,
    /// Where to go on; `None`: that was all.
    pub next: Option<Cursor>,
}

/// A request as it was recorded.
#[derive(Debug)]
pub struct RecordedRow {
    /// Its row.
    pub entry: Entry,
    /// What policy was asked.
    pub request: Request,
    /// Whether policy said yes.
    pub granted: bool,
    /// Wire form of the certificate, once signed.
    pub certificate: Option<Vec<u8>>,
}

/// A search in SQL.
struct Search {
    /// `INDEXED BY …` or `NOT INDEXED`.
    by: &'static str,
    conditions: Vec<&'static str>,
    values: Vec<(&'static str, Box<dyn ToSql>)>,
    step: i64,
}

impl Search {
    fn new() -> Self {
        Search { by: "NOT INDEXED", conditions: Vec::new(), values: Vec::new(), step: STEP }
    }

    fn holds(&mut self, condition: &'static str, name: &'static str, value: impl ToSql + 'static) {
        self.conditions.push(condition);
        self.values.push((name, Box::new(value)));
    }

    /// Of several indices the first is taken, which leaves the fewest rows.
    fn holds_by(
        &mut self,
        index: &'static str,
        condition: &'static str,
        name: &'static str,
        value: impl ToSql + 'static,
    ) {
        if self.by == "NOT INDEXED" {
            self.by = index;
            self.step = INDEXED_STEP;
        }
        self.holds(condition, name, value);
    }

    fn of(find: &Find) -> Result<Self, InventoryError> {
        let mut search = Search::new();
        let of_certificate = "serial = :serial AND serial <> 0";
        if let Some(serial) = find.serial {
            search.holds_by("INDEXED BY certificate_serial", of_certificate, ":serial", serial.cast_signed());
        }
        if let Some(key) = &find.key {
            // In each part a step's own rows alone, each by its own index.
            search.step = INDEXED_STEP;
            search.holds(
                "row IN (
                    SELECT row FROM certificate INDEXED BY certificate_fingerprint WHERE fingerprint = :key AND row < :before AND row >= :from_row
                    UNION ALL
                    SELECT row FROM certificate INDEXED BY certificate_login_key
                        WHERE instr(authenticated, 'SHA256:') > 0 AND substr(authenticated, instr(authenticated, 'SHA256:'), 50) = :key AND row < :before AND row >= :from_row)",
                ":key",
                key.clone(),
            );
        }
        if let Some(user) = &find.user {
            let condition = "key_id = :user AND kind = 'user'";
            search.holds_by("INDEXED BY certificate_user", condition, ":user", user.clone());
        }
        if let Some(from) = &find.from {
            // As the kernel names it, however it was typed.
            let from = from.parse::<IpAddr>().map_or_else(|_| from.clone(), |ip| ip.to_canonical().to_string());
            search.holds_by("INDEXED BY certificate_source", "source = :from", ":from", from);
        }
        if let Some(host) = &find.host {
            let condition =
                "kind = 'host' AND instr(char(10) || principals || char(10), char(10) || :host || char(10)) > 0";
            search.holds(condition, ":host", host.clone());
        }
        if let Some(principal) = &find.principal {
            let condition = "instr(char(10) || principals || char(10), char(10) || :principal || char(10)) > 0";
            search.holds(condition, ":principal", principal.clone());
        }
        if let Some(rule) = &find.rule {
            search.holds("rule = :rule", ":rule", rule.clone());
        }
        match find.state.as_deref() {
            Some("revoked") => search.conditions.push("revoked IS NOT NULL"),
            Some(state) => search.holds("state = :state", ":state", state.to_owned()),
            None => {}
        }
        search.within(find.since, find.until)?;
        Ok(search)
    }

    fn within(&mut self, since: Option<u64>, until: Option<u64>) -> Result<(), InventoryError> {
        if let Some(since) = since {
            self.holds("asked >= :since", ":since", sql_time(UnixTime(since))?);
        }
        if let Some(until) = until {
            self.holds("asked < :until", ":until", sql_time(UnixTime(until))?);
        }
        Ok(())
    }

    /// One page, read by `read`.
    fn page<T>(
        self,
        connection: &Connection,
        columns: &str,
        cursor: Cursor,
        limit: u32,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Page<T>, InventoryError> {
        let start = Instant::now();
        let (mut before, floor) = self.bounds(connection, cursor)?;
        let conditions = self.conditions.iter().fold(String::new(), |all, one| format!("{all} AND {one}"));
        let sql = format!(
            "SELECT {columns} FROM certificate {} WHERE row < :before AND row >= :from_row{conditions} ORDER BY row DESC LIMIT :limit",
            self.by
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = Vec::new();
        let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
        while before > floor && rows.len() < limit && start.elapsed() < PATIENCE {
            let from_row = before.saturating_sub(self.step).max(floor);
            let left = i64::try_from(limit.saturating_sub(rows.len())).unwrap_or(i64::MAX);
            let own: [(&str, &dyn ToSql); 3] = [(":before", &before), (":from_row", &from_row), (":limit", &left)];
            let values: Vec<(&str, &dyn ToSql)> =
                own.into_iter().chain(self.values.iter().map(|(name, value)| (*name, value.as_ref()))).collect();
            let mut found = statement.query(&*values)?;
            let mut last = from_row;
            let mut count = 0;
            while let Some(row) = found.next()? {
                last = row.get("row")?;
                rows.push(read(row)?);
                count += 1;
            }
            before = if count < left { from_row } else { last };
        }
        let next =
            (before > floor).then(|| Cursor { before: before.cast_unsigned(), floor: Some(floor.cast_unsigned()) });
        Ok(Page { rows, next })
    }

    /// Where to begin (exclusive) and to end (inclusive). The clock may have been behind for a while, so that rows are not in the order of their times.
    fn bounds(&self, connection: &Connection, cursor: Cursor) -> Result<(i64, i64), InventoryError> {
        let before = i64::try_from(cursor.before).unwrap_or(i64::MAX);
        if let Some(floor) = cursor.floor {
            return Ok((before, i64::try_from(floor).unwrap_or(i64::MAX)));
        }
        let times: Vec<_> = self.values.iter().filter(|(name, _)| matches!(*name, ":since" | ":until")).collect();
        let (first, last): (Option<i64>, Option<i64>) = if times.is_empty() {
            let sql = "SELECT (SELECT min(row) FROM certificate), (SELECT max(row) FROM certificate)";
            connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?
        } else {
            let conditions: Vec<_> = self.conditions.iter().filter(|c| c.starts_with("asked")).copied().collect();
            let sql = format!(
                "SELECT min(row), max(row) FROM certificate INDEXED BY certificate_asked WHERE {}",
                conditions.join(" AND ")
            );
            let values: Vec<(&str, &dyn ToSql)> =
                times.into_iter().map(|(name, value)| (*name, value.as_ref())).collect();
            connection.prepare_cached(&sql)?.query_row(&*values, |row| Ok((row.get(0)?, row.get(1)?)))?
        };
        Ok(match (first, last) {
            (Some(first), Some(last)) => (before.min(last.saturating_add(1)), first),
            _ => (0, 0),
        })
    }
}

impl Inventory {
    /// Rows of which all of this holds, newest first. There may be none on a page, and more behind it.
    /// # Errors
    /// [`InventoryError`]
    pub fn search(&self, find: &Find, cursor: Cursor, limit: u32) -> Result<Page<Entry>, InventoryError> {
        Search::of(find)?.page(&self.connection, COLUMNS, cursor, limit, entry)
    }

    /// Users' requests of which policy was asked, newest first.
    /// # Errors
    /// [`InventoryError`]
    pub fn recorded(&self, since: u64, cursor: Cursor, limit: u32) -> Result<Page<RecordedRow>, InventoryError> {
        let mut search = Search::new();
        search.conditions.push("request IS NOT NULL AND granted IS NOT NULL");
        search.within(Some(since), None)?;
        let columns = format!("{COLUMNS}, request, granted, certificate");
        let page = search.page(&self.connection, &columns, cursor, limit, |row| {
            let request: Vec<u8> = row.get("request")?;
            Ok((entry(row)?, request, row.get("granted")?, row.get("certificate")?))
        })?;
        let rows = page.rows.into_iter().map(|(entry, request, granted, certificate)| {
            let request = decode(&request).map_err(|_| InventoryError::Request)?;
            Ok(RecordedRow { entry, request, granted, certificate })
        });
        Ok(Page { rows: rows.collect::<Result<_, InventoryError>>()?, next: page.next })
    }

    /// How many rows there are.
    /// # Errors
    /// [`InventoryError`]
    pub fn count_rows(connection: &Connection) -> Result<u64, InventoryError> {
        let count: i64 = connection.query_row("SELECT count(*) FROM certificate", [], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
