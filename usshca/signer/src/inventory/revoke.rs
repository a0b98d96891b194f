//! Revoking, lifting, and what a KRL must hold. Each act is one transaction: it holds for all of its certificates or for none.

use rusqlite::{OptionalExtension, Row, Transaction, named_params};
use ussh_core::clock::UnixTime;
use usshca_ipc::admin::{CertificateKind, LostSerials, Revocation as Act, Revoke};

use super::{COUNTER_BITS, Inventory, InventoryError, Kind, sql_time};

/// A certificate stays in the KRL for so long after its end, in seconds: a host's clock may be behind.
pub const KRL_MARGIN: u64 = 3600;
/// The longest that a certificate can live which is not in the inventory, in seconds: policy allows no longer one to a user, and ten years to a host.
const LONGEST_USER: u64 = 367 * 86_400;
const LONGEST_HOST: u64 = 3654 * 86_400;

/// What a revocation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Revoked now.
    Done {
        /// Its number, by which it can be lifted.
        act: u64,
        /// How many certificates of the inventory that are not over.
        certificates: u64,
        /// How many of them another revocation holds as well: they were revoked before.
        held: u64,
    },
    /// The same was revoked before: what was asked now, of the same scope, for all that it is about. What another revocation holds is none of it: that may be lifted, and this
    /// would be lost.
    Already,
    /// No such certificate.
    Unknown,
}

/// What a lifting met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifted {
    /// Lifted now.
    Done {
        /// How many certificates are good again: no other revocation holds them.
        certificates: u64,
        /// How many stay revoked: another revocation holds them.
        held: u64,
    },
    /// It was before.
    Already,
    /// No such revocation.
    Unknown,
}

/// What of one CA a KRL must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedHere {
    /// First and last serial.
    pub serials: Vec<(u64, u64)>,
    /// Key IDs.
    pub key_ids: Vec<String>,
}

/// The name of a scope, the CA that it is of (or nothing), and its value, as they stand in the table.
fn columns(what: &Revoke) -> (&'static str, &'static str, String) {
    let kind = |kind: &CertificateKind| Kind::from(*kind).as_str();
    match what {
        Revoke::Serial(serial) => ("serial", "", serial.to_string()),
        Revoke::User(name) => ("user", "user", name.clone()),
        Revoke::Host(name) => ("host", "host", name.clone()),
        Revoke::Key(fingerprint) => ("key", "", fingerprint.clone()),
        Revoke::KeyId { kind: of, key_id } => ("key ID", kind(of), key_id.clone()),
        Revoke::Before { kind: of, time } => ("before", kind(of), time.to_string()),
        Revoke::Ca { kind: of, fingerprint } => ("ca", kind(of), fingerprint.clone()),
        Revoke::Serials { first, last } => ("serials", "", format!("{first}-{last}")),
    }
}

/// Which rows an act is about. Those that were only reserved too: a crash may have hidden that they were signed.
fn condition(what: &Revoke) -> &'static str {
    match what {
        Revoke::Serial(_) => "serial = CAST(:number AS INTEGER)",
        Revoke::User(_) => "kind = 'user' AND key_id = :value AND valid_before > :since",
        Revoke::Host(_) => {
            "kind = 'host' AND instr(char(10) || principals || char(10), char(10) || :value || char(10)) > 0 AND valid_before > :since"
        }
        Revoke::Key(_) => "fingerprint = :value AND valid_before > :since",
        Revoke::KeyId { .. } => "kind = :kind AND key_id = :value AND valid_before > :since",
        Revoke::Before { .. } => "kind = :kind AND asked < :number AND valid_before > :since",
        // All of them: the KRL names the CA's key.
        Revoke::Ca { .. } => "kind = :kind AND valid_before > :since",
        // Of one epoch, so that their order is the same as numbers with a sign.
        Revoke::Serials { .. } => "serial BETWEEN :number AND :last AND valid_before > :since",
    }
}

/// Whether an act holds although the inventory knows no certificate for it.
fn stands_alone(what: &Revoke) -> bool {
    matches!(
        what,
        Revoke::Key(_) | Revoke::KeyId { .. } | Revoke::Before { .. } | Revoke::Ca { .. } | Revoke::Serials { .. }
    )
}

impl Inventory {
    /// Revokes; `by` is who asked.
    /// # Errors
    /// [`InventoryError`]
    pub fn revoke(
        &mut self,
        what: &Revoke,
        now: UnixTime,
        by: &str,
        reason: &str,
    ) -> Result<Revocation, InventoryError> {
        let (scope, kind, value) = columns(what);
        let number = match what {
            Revoke::Serial(serial) => serial.cast_signed(),
            Revoke::Before { time, .. } => sql_time(UnixTime(*time))?,
            Revoke::Serials { first, .. } => first.cast_signed(),
            Revoke::User(_) | Revoke::Host(_) | Revoke::Key(_) | Revoke::KeyId { .. } | Revoke::Ca { .. } => 0,
        };
        let last = if let Revoke::Serials { last, .. } = what { last.cast_signed() } else { 0 };
        let since = sql_time(UnixTime(now.0.saturating_sub(KRL_MARGIN)))?;
        let now = sql_time(now)?;
        let transaction = self.begin()?;
        let rows = format!(
            "SELECT row, revoked FROM certificate WHERE serial <> 0 AND state <> 'refused' AND {}",
            condition(what)
        );
        let mut statement = transaction.prepare_cached(&rows)?;
        for (name, value) in [
            (":value", &value as &dyn rusqlite::ToSql),
            (":kind", &kind),
            (":number", &number),
            (":last", &last),
            (":since", &since),
        ] {
            if let Some(index) = statement.parameter_index(name)? {
                statement.raw_bind_parameter(index, value)?;
            }
        }
        let mut found: Vec<(i64, bool)> = Vec::new();
        let mut cursor = statement.raw_query();
        while let Some(row) = cursor.next()? {
            found.push((row.get(0)?, row.get::<_, Option<i64>>(1)?.is_some()));
        }
        drop(cursor);
        drop(statement);
        if !stands_alone(what) {
            if found.is_empty() {
                return Ok(Revocation::Unknown);
            }
            if holds_all(&transaction, (scope, kind, &value), &found)? {
                return Ok(Revocation::Already);
            }
        } else if holds(&transaction, scope, kind, &value)? {
            return Ok(Revocation::Already);
        }
        transaction
            .prepare_cached(
                "INSERT INTO revocation (scope, kind, value, at, by, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((scope, kind, &value, now, by, reason))?;
        let act = transaction.last_insert_rowid();
        for (row, _) in &found {
            transaction
                .prepare_cached("INSERT INTO revoked_certificate (certificate, revocation) VALUES (?1, ?2)")?
                .execute((row, act))?;
            transaction
                .prepare_cached("UPDATE certificate SET revoked = ?2, revoked_by = ?3, revocation_reason = ?4 WHERE row = ?1 AND revoked IS NULL")?
                .execute((row, now, by, reason))?;
        }
        if let Revoke::Before { kind, .. } = what {
            insert_ranges(&transaction, act, number, now, Kind::from(*kind))?;
        }
        if let Revoke::Serials { .. } = what {
            let until = now.saturating_add(sql_time(UnixTime(LONGEST_HOST))?);
            transaction
                .prepare_cached("INSERT INTO revoked_range (revocation, first, last, until) VALUES (?1, ?2, ?3, ?4)")?
                .execute((act, number, last, until))?;
        }
        transaction.execute("UPDATE ca SET acts = acts + 1", [])?;
        transaction.commit()?;
        self.advance_mark()?;
        let held = found.iter().filter(|(_, revoked)| *revoked).count() as u64;
        Ok(Revocation::Done { act: act.cast_unsigned(), certificates: found.len() as u64, held })
    }

    /// Lifts an act; `by` is who asked. A certificate that another act holds stays revoked.
    /// # Errors
    /// [`InventoryError`]
    pub fn lift(&mut self, act: u64, now: UnixTime, by: &str) -> Result<Lifted, InventoryError> {
        let act = i64::try_from(act).unwrap_or(i64::MAX);
        let now = sql_time(now)?;
        let transaction = self.begin()?;
        let lifted: Option<Option<i64>> = transaction
            .prepare_cached("SELECT lifted FROM revocation WHERE id = ?1")?
            .query_row([act], |row| row.get(0))
            .optional()?;
        match lifted {
            None => return Ok(Lifted::Unknown),
            Some(Some(_)) => return Ok(Lifted::Already),
            Some(None) => {}
        }
        transaction
            .prepare_cached("UPDATE revocation SET lifted = ?2, lifted_by = ?3 WHERE id = ?1")?
            .execute((act, now, by))?;
        // What holds each of its certificates now: the first act that is left.
        let update = "
            UPDATE certificate SET (revoked, revoked_by, revocation_reason) = (
                SELECT at, by, reason FROM revocation JOIN revoked_certificate ON revocation = id
                WHERE certificate = certificate.row AND lifted IS NULL ORDER BY id LIMIT 1)
            WHERE row IN (SELECT certificate FROM revoked_certificate WHERE revocation = ?1)
            RETURNING revoked IS NULL";
        let (mut certificates, mut held) = (0, 0);
        {
            let mut statement = transaction.prepare_cached(update)?;
            let mut rows = statement.query([act])?;
            while let Some(row) = rows.next()? {
                let good: bool = row.get(0)?;
                certificates += u64::from(good);
                held += u64::from(!good);
            }
        }
        transaction.execute("UPDATE ca SET acts = acts + 1", [])?;
        transaction.commit()?;
        self.advance_mark()?;
        Ok(Lifted::Done { certificates, held })
    }

    /// The acts, newest first, from below `before` (exclusive), at most `limit`.
    /// # Errors
    /// [`InventoryError`]
    pub fn revocations(&self, before: u64, limit: u32) -> Result<Vec<Act>, InventoryError> {
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let sql = "
            SELECT id, scope, kind, value, at, by, reason, lifted, lifted_by,
                (SELECT count(*) FROM revoked_certificate WHERE revocation = id) AS certificates
            FROM revocation WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map((before, limit), act)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What a KRL of this moment must hold of a CA: the certificates that are revoked and not long over, ranges whose last certificate may not be over, and key IDs.
    /// # Errors
    /// [`InventoryError`]
    pub fn revoked(&self, kind: Kind, now: UnixTime) -> Result<RevokedHere, InventoryError> {
        let since = sql_time(UnixTime(now.0.saturating_sub(KRL_MARGIN)))?;
        let pair = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()));
        let sql = "SELECT serial, serial FROM certificate WHERE kind = ?1 AND valid_before > ?2 AND revoked IS NOT NULL AND serial <> 0";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut serials: Vec<(u64, u64)> =
            statement.query_map((kind.as_str(), since), pair)?.collect::<Result<_, _>>()?;
        let sql = "SELECT first, last FROM revoked_range JOIN revocation ON revocation = id WHERE kind IN (?1, '') AND until > ?2 AND lifted IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        for range in statement.query_map((kind.as_str(), since), pair)? {
            serials.push(range?);
        }
        let sql = "SELECT value FROM revocation WHERE scope = 'key ID' AND kind = ?1 AND lifted IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let key_ids = statement.query_map([kind.as_str()], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(RevokedHere { serials, key_ids })
    }

    /// Whether all of these serials were given: those of the present epoch only as far as it has come, so that a range never reaches what is still to be given.
    /// # Errors
    /// [`InventoryError`]
    pub fn are_given(&self, first: u64, last: u64) -> Result<bool, InventoryError> {
        let here = self.progress()?;
        let given = (here.epoch << COUNTER_BITS | here.counter).cast_unsigned();
        Ok(last >> COUNTER_BITS != given >> COUNTER_BITS || (first <= given && last <= given))
    }

    /// Serials that were given and are unknown, and whether they are revoked.
    /// # Errors
    /// [`InventoryError`]
    pub fn lost_serials(&self) -> Result<Vec<LostSerials>, InventoryError> {
        let sql = "
            SELECT first, last, noted, EXISTS (
                SELECT 1 FROM revoked_range JOIN revocation ON id = revocation
                WHERE scope = 'serials' AND lifted IS NULL AND revoked_range.first <= lost_serials.first AND revoked_range.last >= lost_serials.last)
            FROM lost_serials ORDER BY noted, first";
        let lost = |row: &Row<'_>| {
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            Ok(LostSerials { first: number(0)?, last: number(1)?, noted: number(2)?, revoked: row.get(3)? })
        };
        let mut all: Vec<_> = self.connection.prepare_cached(sql)?.query_map([], lost)?.collect::<Result<_, _>>()?;
        all.extend(self.untold.iter().cloned());
        Ok(all)
    }

    /// The revocation that holds for a CA key itself.
    /// # Errors
    /// [`InventoryError`]
    pub fn revocation_of_ca(&self, fingerprint: &str) -> Result<Option<u64>, InventoryError> {
        let sql = "SELECT min(id) FROM revocation WHERE scope = 'ca' AND value = ?1 AND lifted IS NULL";
        let found: Option<i64> = self.connection.prepare_cached(sql)?.query_row([fingerprint], |row| row.get(0))?;
        Ok(found.map(i64::cast_unsigned))
    }

    /// Fingerprints (`SHA256:…`) of the keys that are revoked themselves, CA keys among them.
    /// # Errors
    /// [`InventoryError`]
    pub fn revoked_keys(&self) -> Result<Vec<String>, InventoryError> {
        let sql = "SELECT DISTINCT value FROM revocation WHERE scope IN ('key', 'ca') AND lifted IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

/// Whether the same was revoked before and not lifted.
fn holds(transaction: &Transaction<'_>, scope: &str, kind: &str, value: &str) -> Result<bool, InventoryError> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM revocation WHERE scope = ?1 AND kind = ?2 AND value = ?3 AND lifted IS NULL)";
    Ok(transaction.prepare_cached(sql)?.query_row((scope, kind, value), |row| row.get(0))?)
}

/// Whether acts of this scope, kind and value, which are not lifted, hold each of these rows.
fn holds_all(
    transaction: &Transaction<'_>,
    (scope, kind, value): (&str, &str, &str),
    rows: &[(i64, bool)],
) -> Result<bool, InventoryError> {
    let sql = "
        SELECT EXISTS (SELECT 1 FROM revoked_certificate JOIN revocation ON revocation = id
        WHERE certificate = ?1 AND scope = ?2 AND kind = ?3 AND value = ?4 AND lifted IS NULL)";
    let mut statement = transaction.prepare_cached(sql)?;
    for (row, revoked) in rows {
        if !revoked || !statement.query_row((row, scope, kind, value), |row| row.get::<_, bool>(0))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All serials of an epoch from its first to the last one that was given before the time, whether the inventory has them or not.
fn insert_ranges(
    transaction: &Transaction<'_>,
    act: i64,
    before: i64,
    now: i64,
    kind: Kind,
) -> Result<(), InventoryError> {
    let longest = match kind {
        Kind::User => LONGEST_USER,
        Kind::Host => LONGEST_HOST,
    };
    let until = before.min(now).saturating_add(sql_time(UnixTime(longest))?);
    let sql = format!(
        "INSERT INTO revoked_range (revocation, first, last, until)
         SELECT :act, (serial >> {COUNTER_BITS} << {COUNTER_BITS}) + 1, max(serial), :until FROM certificate
         WHERE serial <> 0 AND asked < :before GROUP BY serial >> {COUNTER_BITS}"
    );
    let named = named_params! { ":act": act, ":before": before, ":until": until };
    transaction.prepare_cached(&sql)?.execute(named)?;
    Ok(())
}

fn act(row: &Row<'_>) -> rusqlite::Result<Act> {
    let number = |column: &str| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(Act {
        id: number("id")?,
        scope: row.get("scope")?,
        kind: row.get("kind")?,
        value: row.get("value")?,
        at: number("at")?,
        by: row.get("by")?,
        reason: row.get("reason")?,
        certificates: number("certificates")?,
        lifted: row.get::<_, Option<i64>>("lifted")?.map(i64::cast_unsigned),
        lifted_by: row.get("lifted_by")?,
    })
}

#[cfg(test)]
#[path = "revoke_tests.rs"]
mod tests;
