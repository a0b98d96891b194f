//! Changes that reach the disk together: one transaction, one fsync, however many ask at once.
//!
//! A change that fails takes none of the others with it, unless SQLite gives the whole transaction up (a full disk, a failing one): then none of them was made.

use std::sync::Arc;

use rusqlite::Transaction;
use ussh_core::clock::UnixTime;
use ussh_core::keys::PublicKey;

use super::{Asked, COUNTER_BITS, Inventory, InventoryError, Outcome, Planned, count_good, insert, one_row, sql_time};

/// One transaction under way.
#[derive(Debug)]
pub struct Batch<'a> {
    transaction: Transaction<'a>,
    found: Standing,
    now: Standing,
    /// Whether a key of the CA's is revoked, once it was asked: nothing is revoked in a batch.
    has_revoked_ca: Option<bool>,
}

/// Where serials and time stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    epoch: i64,
    counter: i64,
    newest: i64,
}

impl Inventory {
    /// Does some work in one transaction. What the work gives back counts only if this returns it: it is on disk then.
    /// # Errors
    /// [`InventoryError`]: nothing of the work was done (or, if the mark could not be written, nobody may hear of the serials that were reserved in it).
    pub fn batch<T>(&mut self, work: impl FnOnce(&mut Batch<'_>) -> T) -> Result<T, InventoryError> {
        let done = self.write_batch(work);
        self.trouble = done.as_ref().err().map(ToString::to_string);
        done
    }

    /// Why nothing can be written now, as far as that was met; where it was, it is tried anew.
    pub fn trouble(&mut self) -> Option<String> {
        self.trouble.as_ref()?;
        // A transaction that changes nothing is none, and needs no room.
        let tried = self.batch(|batch| batch.transaction.execute("UPDATE ca SET run = run", []));
        let tried = tried.and_then(|done| Ok(done.map(drop)?)).and_then(|()| self.advance_mark());
        self.trouble = tried.err().map(|e| e.to_string());
        self.trouble.clone()
    }

    fn write_batch<T>(&mut self, work: impl FnOnce(&mut Batch<'_>) -> T) -> Result<T, InventoryError> {
        let run = self.run;
        let transaction = self.begin()?;
        let found = transaction
            .prepare_cached("SELECT epoch, counter, newest FROM ca")?
            .query_row([], |row| Ok(Standing { epoch: row.get(0)?, counter: row.get(1)?, newest: row.get(2)? }))?;
        let mut batch = Batch { transaction, found, now: found, has_revoked_ca: None };
        let done = work(&mut batch);
        let counter = batch.finish(run)?;
        if counter > self.ceiling {
            self.take_block(counter)?;
        }
        Ok(done)
    }
}

impl Batch<'_> {
    /// Gives the next serial to a row in state `reserved`. The serial may be used once the batch is on disk.
    /// # Errors
    /// [`InventoryError`]; no serial was given.
    pub fn reserve(&mut self, asked: &Asked, planned: &Planned) -> Result<u64, InventoryError> {
        self.check_alive()?;
        let now = sql_time(asked.asked)?;
        if now < self.now.newest {
            let newest = UnixTime(self.now.newest.cast_unsigned());
            return Err(InventoryError::ClockBehind { now: asked.asked, newest });
        }
        let counter = self.now.counter + 1;
        if counter >> COUNTER_BITS != 0 {
            return Err(InventoryError::NoSerials);
        }
        let serial = self.now.epoch << COUNTER_BITS | counter;
        insert(&self.transaction, serial, asked, Some(planned), "reserved", "", true)?;
        self.now.counter = counter;
        self.now.newest = now;
        Ok(serial.cast_unsigned())
    }

    /// A row for somebody who gets nothing; `by_policy`: because policy says so. It never fails on the clock: a refusal is safe at any time.
    /// # Errors
    /// [`InventoryError`]
    pub fn record_refusal(&mut self, asked: &Asked, reason: &str, by_policy: bool) -> Result<(), InventoryError> {
        self.check_alive()?;
        let now = sql_time(asked.asked)?;
        insert(&self.transaction, 0, asked, None, "refused", reason, !by_policy)?;
        self.now.newest = self.now.newest.max(now);
        Ok(())
    }

    /// `reserved` → `signed`, with the certificate's wire form.
    /// # Errors
    /// [`InventoryError`]
    pub fn mark_signed(&mut self, serial: u64, certificate: &[u8]) -> Result<(), InventoryError> {
        self.check_alive()?;
        let sql = "UPDATE certificate SET state = 'signed', certificate = ?2 WHERE serial = ?1 AND serial <> 0 AND state = 'reserved'";
        let changed = self.transaction.prepare_cached(sql)?.execute((serial.cast_signed(), certificate))?;
        one_row(changed, serial, "signed")
    }

    /// `reserved` → `refused`: the key would not sign.
    /// # Errors
    /// [`InventoryError`]
    pub fn mark_unsigned(&mut self, serial: u64, reason: &str) -> Result<(), InventoryError> {
        self.check_alive()?;
        let sql = "UPDATE certificate SET state = 'refused', detail = ?2 WHERE serial = ?1 AND serial <> 0 AND state = 'reserved'";
        let changed = self.transaction.prepare_cached(sql)?.execute((serial.cast_signed(), reason))?;
        one_row(changed, serial, "refused")
    }

    /// `signed` → `delivered` or `undelivered`, once.
    /// # Errors
    /// [`InventoryError`]
    pub fn note_outcome(&mut self, serial: u64, outcome: &Outcome) -> Result<(), InventoryError> {
        self.check_alive()?;
        let (state, detail) = match outcome {
            Outcome::Delivered => ("delivered", ""),
            Outcome::Undelivered(why) => ("undelivered", why.as_str()),
        };
        let sql =
            "UPDATE certificate SET state = ?2, detail = ?3 WHERE serial = ?1 AND serial <> 0 AND state = 'signed'";
        let changed = self.transaction.prepare_cached(sql)?.execute((serial.cast_signed(), state, detail))?;
        one_row(changed, serial, state)
    }

    /// Whether a key itself is revoked.
    /// # Errors
    /// [`InventoryError`]
    pub fn is_revoked_key(&self, fingerprint: &str) -> Result<bool, InventoryError> {
        super::registered::is_revoked_key(&self.transaction, fingerprint)
    }

    /// Whether a key is still registered for this user, and not revoked.
    /// # Errors
    /// [`InventoryError`]
    pub fn is_registered(&self, user: &str, fingerprint: &str) -> Result<bool, InventoryError> {
        super::registered::is_registered(&self.transaction, user, fingerprint)
    }

    /// The newest of a user's registered keys, if every one of them is revoked.
    /// # Errors
    /// [`InventoryError`]
    pub fn revoked_registration(&self, user: &str) -> Result<Option<String>, InventoryError> {
        super::registered::revoked_registration(&self.transaction, user)
    }

    /// When the first of a user's good certificates is over.
    /// # Errors
    /// [`InventoryError`]
    pub fn next_end(&self, user: &str, now: UnixTime) -> Result<Option<UnixTime>, InventoryError> {
        let sql = "SELECT min(valid_before) FROM certificate WHERE key_id = ?1 AND valid_before > ?2 AND kind = 'user' AND serial <> 0 AND state <> 'refused' AND revoked IS NULL";
        let next: Option<i64> =
            self.transaction.prepare_cached(sql)?.query_row((user, sql_time(now)?), |row| row.get(0))?;
        Ok(next.map(|time| UnixTime(time.cast_unsigned())))
    }

    /// Whether whatever is issued to this user now would be revoked already: by its key ID, or with one of the CA's keys, which are the same for a whole batch.
    /// # Errors
    /// [`InventoryError`]
    pub fn is_revoked_from_birth(&mut self, user: &str, cas: &[PublicKey]) -> Result<bool, InventoryError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM revocation WHERE lifted IS NULL AND kind = 'user' AND scope = ?1 AND value = ?2)";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let mut stands = |scope: &str, value: &str| statement.query_row([scope, value], |row| row.get::<_, bool>(0));
        if stands("key ID", user)? {
            return Ok(true);
        }
        if let Some(known) = self.has_revoked_ca {
            return Ok(known);
        }
        let mut found = false;
        for ca in cas {
            found = found || stands("ca", &ca.fingerprint())?;
        }
        self.has_revoked_ca = Some(found);
        Ok(found)
    }

    /// As [`Inventory::count_good`], with what this batch has reserved.
    /// # Errors
    /// [`InventoryError`]
    pub fn count_good(&self, user: &str, now: UnixTime) -> Result<u32, InventoryError> {
        self.check_alive()?;
        count_good(&self.transaction, user, now)
    }

    /// After SQLite has given a transaction up, each further statement would be one of its own.
    fn check_alive(&self) -> Result<(), InventoryError> {
        if self.transaction.is_autocommit() { Err(InventoryError::GivenUp) } else { Ok(()) }
    }

    /// On disk when this returns: how far serials have come.
    fn finish(self, run: i64) -> Result<i64, InventoryError> {
        self.check_alive()?;
        if self.now != self.found {
            let sql = "UPDATE ca SET counter = ?1, newest = ?2, run = ?3";
            self.transaction.prepare_cached(sql)?.execute([self.now.counter, self.now.newest, run])?;
        }
        self.transaction.commit()?;
        Ok(self.now.counter)
    }
}

impl InventoryError {
    /// For each of those whom one failure of a batch meets.
    pub fn shared(error: &Arc<InventoryError>) -> Self {
        InventoryError::Together(Arc::clone(error))
    }
}
