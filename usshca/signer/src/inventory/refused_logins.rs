//! Logins that were refused, as rows of the inventory. Anybody who reaches the CA makes such rows: what is the same is counted in one row, and there is a bound to them. The rows of
//! those who had logged in, certificates and refusals, are not counted among them and are never dropped.

use rusqlite::{OptionalExtension, Transaction, named_params};
use ussh_core::clock::UnixTime;

use super::{Inventory, InventoryError, sql_time};

/// How long the same is counted in one row, in seconds from its first time on.
pub const WINDOW_SECONDS: u64 = 300;
/// Most rows of one network: whoever makes more loses the oldest of their own.
pub const MAX_OF_NETWORK: i64 = 256;
/// Most rows in all: some 16 MB with names of 64 bytes, which are the longest, beside a write-ahead log of some 16 MB. The oldest are dropped.
pub const MAX_ALL: i64 = 16_384;

/// What is the same of several refusals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedLogin {
    /// As typed, without control characters; or the account that was named.
    pub user: String,
    /// The kernel's peer address.
    pub source: String,
    /// To which an address belongs: itself, and of IPv6 its /64.
    pub network: String,
    /// What had been proved, and what was tried.
    pub authenticated: String,
    /// Fingerprint of the key that was tried, or nothing.
    pub fingerprint: String,
    /// Of a fixed vocabulary.
    pub reason: &'static str,
    /// Goes on behind the reason: what was typed, in quotes and short; or nothing.
    pub typed: String,
}

/// How often, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The first time.
    pub first: UnixTime,
    /// The last time.
    pub last: UnixTime,
    /// At least 1.
    pub count: u64,
}

impl Inventory {
    /// Writes them down in one transaction in the order given, which is to be that of their first times, and drops what is too much. It never fails on the clock: a refusal is safe at any time.
    /// # Errors
    /// [`InventoryError`]
    pub fn record_refused_logins<'a>(
        &mut self,
        refused: impl IntoIterator<Item = (&'a RefusedLogin, &'a Tally)>,
    ) -> Result<(), InventoryError> {
        let transaction = self.begin()?;
        for (login, tally) in refused {
            record(&transaction, login, tally)?;
        }
        let all: i64 = transaction
            .prepare_cached("SELECT count(*) FROM certificate WHERE network IS NOT NULL")?
            .query_row([], |row| row.get(0))?;
        if all > MAX_ALL {
            let sql = "DELETE FROM certificate WHERE row IN (SELECT row FROM certificate INDEXED BY certificate_refused_login_row WHERE network IS NOT NULL ORDER BY row LIMIT ?1)";
            transaction.prepare_cached(sql)?.execute([all - MAX_ALL])?;
        }
        Ok(transaction.commit()?)
    }
}

fn record(transaction: &Transaction<'_>, login: &RefusedLogin, tally: &Tally) -> Result<(), InventoryError> {
    let (first, last) = (sql_time(tally.first)?, sql_time(tally.last)?);
    let count = i64::try_from(tally.count).unwrap_or(i64::MAX);
    let reason = format!("{}{}", login.reason, login.typed);
    let sql = "SELECT row FROM certificate INDEXED BY certificate_refused_login
        WHERE network = :network AND key_id = :user AND source = :source AND authenticated = :authenticated AND fingerprint = :fingerprint AND detail = :reason
            AND asked > :since AND asked <= :first
        ORDER BY row DESC LIMIT 1";
    let same: Option<i64> = transaction
        .prepare_cached(sql)?
        .query_row(
            named_params! {
                ":network": login.network,
                ":user": login.user,
                ":source": login.source,
                ":authenticated": login.authenticated,
                ":fingerprint": login.fingerprint,
                ":reason": reason,
                ":since": first.saturating_sub(WINDOW_SECONDS.cast_signed()),
                ":first": first,
            },
            |row| row.get(0),
        )
        .optional()?;
    if let Some(row) = same {
        let sql = "UPDATE certificate SET tries = min(tries, 9223372036854775807 - ?2) + ?2, last = max(last, ?3) WHERE row = ?1";
        transaction.prepare_cached(sql)?.execute((row, count, last))?;
        return Ok(());
    }
    transaction
        .prepare_cached(
            "INSERT INTO certificate
                (serial, kind, key_id, principals, fingerprint, valid_after, valid_before, asked, source, authenticated, rule, state, detail, tries, last, network)
             VALUES
                (0, 'user', :user, '', :fingerprint, 0, 0, :first, :source, :authenticated, '', 'refused', :reason, :count, :last, :network)",
        )?
        .execute(named_params! {
            ":user": login.user,
            ":fingerprint": login.fingerprint,
            ":first": first,
            ":source": login.source,
            ":authenticated": login.authenticated,
            ":reason": reason,
            ":count": count,
            ":last": last,
            ":network": login.network,
        })?;
    let sql = "DELETE FROM certificate WHERE row IN (SELECT row FROM certificate INDEXED BY certificate_refused_login_network WHERE network = ?1 ORDER BY row DESC LIMIT -1 OFFSET ?2)";
    transaction.prepare_cached(sql)?.execute((&login.network, MAX_OF_NETWORK))?;
    Ok(())
}

#[cfg(test)]
#[path = "refused_logins_tests.rs"]
mod tests;
