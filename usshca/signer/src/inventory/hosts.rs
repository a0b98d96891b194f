//! The hosts: their keys, who let them in, where they were last seen. Their certificates stand in `certificate`, like all.

use rusqlite::{OptionalExtension, Row, Transaction};
use ussh_core::clock::UnixTime;
use ussh_core::keys::PublicKey;
use usshca_ipc::host::{Host, HostKey};

use super::host_tokens::{lines, time, use_up};
use super::revoke::KRL_MARGIN;
use super::{Inventory, InventoryError, sql_time};

/// Two addresses that use one key in turn within so many seconds are two machines.
const CLONE_SPAN: u64 = 6 * 3600;

/// The host to which a key belongs, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOf {
    /// Its name.
    pub host: String,
    /// What the key's certificates hold.
    pub principals: Vec<String>,
    /// Whether it can be renewed.
    pub state: KeyState,
}

/// Whether a key can be renewed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It can.
    Good,
    /// A later enrolment of the host came without it.
    Replaced,
    /// The host was removed.
    Removed,
    /// The key, its last certificate, or the key ID is revoked.
    Revoked,
}

/// What the removal of a host met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is out, now or since before; these of its certificates are not over and not revoked.
    Out(Vec<u64>),
    /// There is none of this name.
    Unknown,
}

impl Inventory {
    /// Uses up a token and enters its host with these keys and no others, in one step. False: the token cannot be used any more, and nothing was changed.
    /// # Errors
    /// [`InventoryError`]
    pub fn enroll_host(
        &mut self,
        token: u64,
        names: &[String],
        keys: &[PublicKey],
        now: UnixTime,
        from: &str,
    ) -> Result<bool, InventoryError> {
        let transaction = self.begin()?;
        if !use_up(&transaction, token, now, from)? {
            return Ok(false);
        }
        let name = names.first().map_or("", String::as_str);
        enter(&transaction, name, now, &format!("token {token}"))?;
        let replace = "UPDATE host_key SET replaced = ?2 WHERE host = ?1 AND replaced IS NULL";
        transaction.prepare_cached(replace)?.execute((name, sql_time(now)?))?;
        // Whatever was cloned had other keys.
        transaction
            .prepare_cached("UPDATE host SET cloned = NULL, cloned_at = NULL WHERE name = ?1")?
            .execute([name])?;
        for key in keys {
            enter_key(&transaction, name, key, names, now)?;
        }
        transaction.commit()?;
        Ok(true)
    }

    /// Enters a host with this key beside those that it has, by an administrator's word.
    /// # Errors
    /// [`InventoryError`]
    pub fn enter_host(
        &mut self,
        names: &[String],
        key: &PublicKey,
        now: UnixTime,
        by: &str,
    ) -> Result<(), InventoryError> {
        let name = names.first().map_or("", String::as_str);
        let transaction = self.begin()?;
        enter(&transaction, name, now, by)?;
        enter_key(&transaction, name, key, names, now)?;
        Ok(transaction.commit()?)
    }

    /// The host of a key.
    /// # Errors
    /// [`InventoryError`]
    pub fn host_of_key(&self, fingerprint: &str) -> Result<Option<KeyOf>, InventoryError> {
        let sql = "SELECT host, principals, replaced, removed FROM host_key JOIN host ON host.name = host_key.host WHERE fingerprint = ?1";
        let key = self.connection.prepare_cached(sql)?.query_row([fingerprint], |row| {
            let (replaced, removed) = (time(row, "replaced")?, time(row, "removed")?);
            let state = match (removed, replaced) {
                (Some(_), _) => KeyState::Removed,
                (None, Some(_)) => KeyState::Replaced,
                (None, None) => KeyState::Good,
            };
            Ok(KeyOf { host: row.get("host")?, principals: lines(row, "principals")?, state })
        });
        let Some(mut key) = key.optional()? else {
            return Ok(None);
        };
        if key.state == KeyState::Good && self.is_host_revoked(&key.host, fingerprint)? {
            key.state = KeyState::Revoked;
        }
        Ok(Some(key))
    }

    /// By its key, its key ID, or the last certificate of that key.
    fn is_host_revoked(&self, host: &str, fingerprint: &str) -> Result<bool, InventoryError> {
        let sql = "
            SELECT EXISTS (SELECT 1 FROM revocation WHERE lifted IS NULL AND (scope = 'key' AND value = ?2 OR scope = 'key ID' AND kind = 'host' AND value = ?1))
            OR coalesce((SELECT revoked IS NOT NULL FROM certificate WHERE fingerprint = ?2 AND kind = 'host' AND key_id = ?1 AND serial <> 0 AND state <> 'refused' ORDER BY row DESC LIMIT 1), 0)";
        Ok(self.connection.prepare_cached(sql)?.query_row((host, fingerprint), |row| row.get(0))?)
    }

    /// Notes that keys of a host were proved from an address. Gives the other address, if the two use one of them in turn.
    /// # Errors
    /// [`InventoryError`]
    pub fn see_host(
        &mut self,
        host: &str,
        fingerprints: &[String],
        address: &str,
        now: UnixTime,
    ) -> Result<Option<String>, InventoryError> {
        let at = sql_time(now)?;
        let since = sql_time(UnixTime(now.0.saturating_sub(CLONE_SPAN)))?;
        let transaction = self.begin()?;
        let mut other: Option<String> = None;
        for fingerprint in fingerprints {
            // This address, then another one, and now this one again. A host with IPv4 and IPv6 has two addresses and is one.
            let sql = "
                SELECT there.address FROM host_sighting AS here JOIN host_sighting AS there USING (fingerprint)
                WHERE fingerprint = ?1 AND here.address = ?2 AND there.address <> ?2 AND here.last > ?3 AND there.last >= here.last
                AND (instr(there.address, ':') > 0) = (instr(?2, ':') > 0) ORDER BY there.last DESC LIMIT 1";
            let found = transaction
                .prepare_cached(sql)?
                .query_row((fingerprint, address, since), |row| row.get(0))
                .optional()?;
            other = other.or(found);
            let sql = "INSERT INTO host_sighting (fingerprint, address, last) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET last = excluded.last";
            transaction.prepare_cached(sql)?.execute((fingerprint, address, at))?;
            let sql = "DELETE FROM host_sighting WHERE fingerprint = ?1 AND last <= ?2";
            transaction.prepare_cached(sql)?.execute((fingerprint, since))?;
        }
        let sql = "UPDATE host SET seen = ?2, seen_from = ?3 WHERE name = ?1";
        transaction.prepare_cached(sql)?.execute((host, at, address))?;
        if let Some(other) = &other {
            let sql = "UPDATE host SET cloned = ?2, cloned_at = ?3 WHERE name = ?1";
            transaction.prepare_cached(sql)?.execute((host, at, format!("{address} and {other}")))?;
        }
        transaction.commit()?;
        Ok(other)
    }

    /// How many certificates were made for a key of a host since then.
    /// # Errors
    /// [`InventoryError`]
    pub fn count_issued(&self, fingerprint: &str, since: UnixTime) -> Result<u64, InventoryError> {
        let sql =
            "SELECT count(*) FROM certificate WHERE fingerprint = ?1 AND kind = 'host' AND serial <> 0 AND asked > ?2";
        let row = (fingerprint, sql_time(since)?);
        Ok(self.connection.prepare_cached(sql)?.query_row(row, |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// Hosts by name, from above `after` (exclusive), at most `limit`.
    /// # Errors
    /// [`InventoryError`]
    pub fn hosts(&self, after: &str, limit: u32) -> Result<Vec<Host>, InventoryError> {
        let mut statement =
            self.connection.prepare_cached("SELECT * FROM host WHERE name > ?1 ORDER BY name LIMIT ?2")?;
        let mut hosts: Vec<Host> = statement.query_map((after, limit), host)?.collect::<Result<_, _>>()?;
        hosts.iter_mut().try_for_each(|host| self.add_keys(host))?;
        Ok(hosts)
    }

    /// One host.
    /// # Errors
    /// [`InventoryError`]
    pub fn host(&self, name: &str) -> Result<Option<Host>, InventoryError> {
        let found =
            self.connection.prepare_cached("SELECT * FROM host WHERE name = ?1")?.query_row([name], host).optional()?;
        let Some(mut found) = found else {
            return Ok(None);
        };
        self.add_keys(&mut found)?;
        found.break_glass = self.break_glass_of(name)?;
        Ok(Some(found))
    }

    fn add_keys(&self, host: &mut Host) -> Result<(), InventoryError> {
        let sql = "
            SELECT host_key.*, certificate.serial, certificate.valid_before FROM host_key LEFT JOIN certificate ON certificate.row = (
                SELECT row FROM certificate AS last WHERE last.fingerprint = host_key.fingerprint AND last.kind = 'host' AND last.key_id = host_key.host
                AND last.serial <> 0 AND last.state <> 'refused' AND last.revoked IS NULL ORDER BY last.row DESC LIMIT 1)
            WHERE host = ?1 ORDER BY replaced IS NOT NULL, since, host_key.fingerprint";
        let mut statement = self.connection.prepare_cached(sql)?;
        host.keys = statement.query_map([&host.name], key)?.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Takes a host out: its keys are renewed no more.
    /// # Errors
    /// [`InventoryError`]
    pub fn remove_host(&mut self, name: &str, now: UnixTime, by: &str) -> Result<Removal, InventoryError> {
        let since = sql_time(UnixTime(now.0.saturating_sub(KRL_MARGIN)))?;
        let now = sql_time(now)?;
        let transaction = self.begin()?;
        let sql =
            "UPDATE host SET removed = coalesce(removed, ?2), removed_by = coalesce(removed_by, ?3) WHERE name = ?1";
        if transaction.prepare_cached(sql)?.execute((name, now, by))? == 0 {
            return Ok(Removal::Unknown);
        }
        // Its keys, which are not good again when the name is given to another machine.
        let sql = "UPDATE host_key SET replaced = coalesce(replaced, ?2) WHERE host = ?1";
        transaction.prepare_cached(sql)?.execute((name, now))?;
        // It counts as an act: a database from before it is known to be old.
        transaction.execute("UPDATE ca SET acts = acts + 1", [])?;
        // Tokens that would bring it back.
        let sql = "UPDATE host_token SET revoked = ?2, revoked_by = ?3 WHERE (names = ?1 OR substr(names, 1, length(?1) + 1) = ?1 || char(10)) AND used IS NULL AND revoked IS NULL AND expires > ?2";
        transaction.prepare_cached(sql)?.execute((name, now, by))?;
        let sql = "SELECT serial FROM certificate WHERE key_id = ?1 AND kind = 'host' AND valid_before > ?2 AND serial <> 0 AND state <> 'refused' ORDER BY row";
        let serials = {
            let mut statement = transaction.prepare_cached(sql)?;
            let rows = statement.query_map((name, since), |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
            rows.collect::<Result<_, _>>()?
        };
        transaction.commit()?;
        self.advance_mark()?;
        Ok(Removal::Out(serials))
    }
}

/// A host, new or back.
fn enter(transaction: &Transaction<'_>, name: &str, now: UnixTime, by: &str) -> Result<(), InventoryError> {
    let sql = "
        INSERT INTO host (name, enrolled, enrolled_by) VALUES (?1, ?2, ?3)
        ON CONFLICT DO UPDATE SET enrolled = excluded.enrolled, enrolled_by = excluded.enrolled_by, removed = NULL, removed_by = NULL";
    transaction.prepare_cached(sql)?.execute((name, sql_time(now)?, by))?;
    Ok(())
}

fn enter_key(
    transaction: &Transaction<'_>,
    host: &str,
    key: &PublicKey,
    names: &[String],
    now: UnixTime,
) -> Result<(), InventoryError> {
    let sql = "
        INSERT INTO host_key (fingerprint, host, public_key, principals, since) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT DO UPDATE SET host = excluded.host, principals = excluded.principals, replaced = NULL,
            since = CASE WHEN host = excluded.host AND replaced IS NULL THEN since ELSE excluded.since END";
    let row = (key.fingerprint(), host, key.blob(), names.join("\n"), sql_time(now)?);
    transaction.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

fn host(row: &Row<'_>) -> rusqlite::Result<Host> {
    Ok(Host {
        name: row.get("name")?,
        keys: Vec::new(),
        enrolled: row.get::<_, i64>("enrolled")?.cast_unsigned(),
        enrolled_by: row.get("enrolled_by")?,
        seen: time(row, "seen")?,
        seen_from: row.get("seen_from")?,
        cloned: time(row, "cloned")?,
        cloned_at: row.get("cloned_at")?,
        removed: time(row, "removed")?,
        removed_by: row.get("removed_by")?,
        break_glass: Vec::new(),
    })
}

fn key(row: &Row<'_>) -> rusqlite::Result<HostKey> {
    let blob: Vec<u8> = row.get("public_key")?;
    Ok(HostKey {
        public_key: PublicKey::from_blob(&blob).map(|key| key.to_openssh("")).unwrap_or_default(),
        fingerprint: row.get("fingerprint")?,
        principals: lines(row, "principals")?,
        since: row.get::<_, i64>("since")?.cast_unsigned(),
        replaced: time(row, "replaced")?,
        serial: row.get::<_, Option<i64>>("serial")?.map_or(0, i64::cast_unsigned),
        valid_before: time(row, "valid_before")?.unwrap_or(0),
    })
}
