//! The inventory: every certificate that was ever asked for, in SQLite. Each change is on disk (fsync) before its function returns.

mod mark;
mod read;
mod registered;
mod revoke;
mod schema;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, named_params};
use serde::{Deserialize, Serialize};
use ussh_core::clock::UnixTime;
use usshca_ipc::admin::CertificateKind;
use usshca_ipc::channel::encode;
use usshca_ipc::front::Wish;

use self::mark::Mark;
pub use self::registered::Registration;
#[cfg(test)]
pub use self::revoke::KRL_MARGIN;
pub use self::revoke::{Lifted, Revocation, RevokedHere};
use crate::log;

/// Bits of a serial below the epoch.
const COUNTER_BITS: u32 = 40;
/// Largest database that is looked through at each start, in bytes.
const MAX_CHECKED: u64 = 64 << 20;
/// Never with SQLITE_OPEN_CREATE.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Why the inventory did not do as it was asked. Nothing was changed then, but for one case: `reserve`, `revoke` and `next_krl_version` commit before they write the mark, and
/// fail if that cannot be written ([`InventoryError::File`]). Then a serial or a KRL version is left out, which nobody got, or the revocation holds, and asked again says so
/// ([`Revocation::Already`]).
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// SQLite.
    #[error("inventory: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file cannot be used.
    #[error("{path}: {problem}")]
    File {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It was there once: init makes one with the CA keys.
    #[error(
        "{path}: the inventory is {how}. All certificates and revocations stand in it, so that nothing is issued or revoked without it: put back a backup (docs/operations.md)"
    )]
    Lost {
        /// Where it should be.
        path: PathBuf,
        /// Missing or empty.
        how: &'static str,
    },
    /// Made by a later version of this program.
    #[error("the inventory has form {0}, which is newer than this program")]
    Newer(i64),
    /// The clock was ahead once, or is behind now.
    #[error("the CA's clock is behind: it says {}, and the inventory's newest row is of {}", now.0, newest.0)]
    ClockBehind {
        /// What the clock says.
        now: UnixTime,
        /// Of the newest row.
        newest: UnixTime,
    },
    /// All 2^40 serials of this database's epoch are used.
    #[error("this database has no serials left")]
    NoSerials,
    /// No random numbers.
    #[error("no random numbers for the epoch")]
    NoRandom,
    /// A row is not in the state in which this may be done to it.
    #[error("serial {serial} cannot become \"{to}\" now")]
    State {
        /// Its serial.
        serial: u64,
        /// What it was to become.
        to: &'static str,
    },
    /// What policy was asked cannot be written down.
    #[error("a request that cannot be written down")]
    Request,
    /// A time beyond what SQLite holds.
    #[error("a time out of range")]
    Time,
}

/// For users or for hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Signed by the user CA.
    User,
    /// Signed by the host CA.
    Host,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Host => "host",
        }
    }
}

impl From<CertificateKind> for Kind {
    fn from(kind: CertificateKind) -> Self {
        match kind {
            CertificateKind::User => Kind::User,
            CertificateKind::Host => Kind::Host,
        }
    }
}

/// Who asked for what: all of a row that is known before it is decided.
#[derive(Clone, Debug)]
pub struct Asked {
    /// For a user or for a host.
    pub kind: Kind,
    /// Key ID.
    pub key_id: String,
    /// Of the subject key.
    pub fingerprint: String,
    /// When.
    pub asked: UnixTime,
    /// Peer address, or `admin`.
    pub source: String,
    /// How authenticated.
    pub authenticated: String,
    /// The rule that decided, or nothing.
    pub rule: String,
    /// Why the user wants it, in the user's words, or nothing.
    pub reason: String,
    /// What policy was asked; nothing for a host.
    pub request: Option<Request>,
}

/// What policy was asked, as it is kept: all of [`crate::policy::Question`] that is in no other column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Of the account, by name.
    pub groups: Vec<String>,
    /// Peer address.
    pub source: IpAddr,
    /// Passed PAM.
    pub pam: bool,
    /// Proved a registered key.
    pub publickey: bool,
    /// As policy names it.
    pub mode: String,
    /// As policy names it.
    pub key_kind: String,
    /// What the user would have liked.
    pub wish: Wish,
}

/// What is to be signed.
#[derive(Clone, Debug)]
pub struct Planned {
    /// In the certificate's order.
    pub principals: Vec<String>,
    /// Inclusive.
    pub valid_after: UnixTime,
    /// Exclusive.
    pub valid_before: UnixTime,
}

/// What became of a signed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent took it.
    Delivered,
    /// It did not, or nobody knows; why.
    Undelivered(String),
}

/// The open database.
#[derive(Debug)]
pub struct Inventory {
    connection: Connection,
    /// The high-water mark, beside the database.
    mark_path: PathBuf,
}

impl Inventory {
    /// Makes the database of a new CA. The folder is the signer's own.
    /// # Errors
    /// [`InventoryError`]; there is one already, for example.
    pub fn create(path: &Path) -> Result<Self, InventoryError> {
        create_private(path)?;
        let inventory = Self::connect(path)?;
        // A kill right after this leaves a database, not an empty file with all of it in the log beside.
        inventory.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        inventory.advance_mark()?;
        Ok(inventory)
    }

    /// Opens the database. It is never made here: a lost inventory is not an empty one, which would know of no revocation. By `now` a damaged mark is known.
    /// # Errors
    /// [`InventoryError`]
    pub fn open(path: &Path, now: UnixTime) -> Result<Self, InventoryError> {
        check_private(path)?;
        let connection = Connection::open_with_flags(path, FLAGS)?;
        if schema::version(&connection)? == 0 {
            return Err(InventoryError::Lost { path: path.to_owned(), how: "empty" });
        }
        drop(connection);
        let inventory = Self::connect(path)?;
        inventory.check(path)?;
        inventory.compare_with_mark(now)?;
        Ok(inventory)
    }

    fn connect(path: &Path) -> Result<Self, InventoryError> {
        let mut connection = Connection::open_with_flags(path, FLAGS)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            let problem = format!("SQLite cannot use write-ahead logging here (journal mode {mode})");
            return Err(InventoryError::File { path: path.to_owned(), problem });
        }
        // FULL: a commit is on disk when it returns.
        connection
            .execute_batch("PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;")?;
        schema::migrate(&mut connection)?;
        Ok(Inventory { connection, mark_path: path.with_file_name("serials") })
    }

    /// An older database would give serials a second time: it gets a new epoch, which was not in use, and goes on above the last KRL.
    fn compare_with_mark(&self, now: UnixTime) -> Result<(), InventoryError> {
        let here = self.progress()?;
        let mark = Mark::read(&self.mark_path)?.filter(|mark| mark.may_follow(&here, now));
        let Some(problem) = here.behind(mark.as_ref()) else {
            return Ok(());
        };
        let last = mark.unwrap_or(here);
        let mut epoch = schema::random_epoch()?;
        while epoch == here.epoch || epoch == last.epoch {
            epoch = schema::random_epoch()?;
        }
        let krl_version = here.krl_version.max(last.krl_version);
        self.connection.execute("UPDATE ca SET epoch = ?1, counter = 0, krl_version = ?2", [epoch, krl_version])?;
        log::warning(&format!(
            "the inventory was put back from a backup: {problem}. Certificates that were issued or revoked since the backup are unknown here: revoke again what was revoked; what was issued since cannot be revoked one by one. Serials go on in a new range, from {}",
            (epoch << COUNTER_BITS | 1).cast_unsigned()
        ));
        self.advance_mark()
    }

    fn progress(&self) -> Result<Mark, InventoryError> {
        let sql = "SELECT epoch, counter, krl_version, acts FROM ca";
        Ok(self.connection.prepare_cached(sql)?.query_row([], |row| {
            Ok(Mark { epoch: row.get(0)?, counter: row.get(1)?, krl_version: row.get(2)?, acts: row.get(3)? })
        })?)
    }

    /// After a commit, before anybody hears of what was committed.
    fn advance_mark(&self) -> Result<(), InventoryError> {
        self.progress()?.write(&self.mark_path)
    }

    /// Looks for damage, in a database that is small enough for that to take well below a second.
    fn check(&self, path: &Path) -> Result<(), InventoryError> {
        let file_error = |problem: String| InventoryError::File { path: path.to_owned(), problem };
        let size = path.metadata().map_err(|e| file_error(e.to_string()))?.len();
        if size > MAX_CHECKED {
            return Ok(());
        }
        let found: String = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        match found.as_str() {
            "ok" => Ok(()),
            _ => Err(file_error(format!(
                "is damaged ({found}); put back a backup. Nothing is issued or revoked until then"
            ))),
        }
    }

    /// Gives the next serial to a row in state `reserved`.
    /// # Errors
    /// [`InventoryError`]
    pub fn reserve(&mut self, asked: &Asked, planned: &Planned) -> Result<u64, InventoryError> {
        let transaction = self.begin()?;
        let (epoch, counter, newest): (i64, i64, i64) = transaction
            .prepare_cached("SELECT epoch, counter, newest FROM ca")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let now = sql_time(asked.asked)?;
        if now < newest {
            return Err(InventoryError::ClockBehind { now: asked.asked, newest: UnixTime(newest.cast_unsigned()) });
        }
        let counter = counter + 1;
        if counter >> COUNTER_BITS != 0 {
            return Err(InventoryError::NoSerials);
        }
        let serial = epoch << COUNTER_BITS | counter;
        transaction.prepare_cached("UPDATE ca SET counter = ?1, newest = ?2")?.execute([counter, now])?;
        insert(&transaction, serial, asked, Some(planned), "reserved", "")?;
        transaction.commit()?;
        self.advance_mark()?;
        Ok(serial.cast_unsigned())
    }

    /// A row for somebody who gets nothing. It never fails on the clock: a refusal is safe at any time.
    /// # Errors
    /// [`InventoryError`]
    pub fn record_refusal(&mut self, asked: &Asked, reason: &str) -> Result<(), InventoryError> {
        let now = sql_time(asked.asked)?;
        let transaction = self.begin()?;
        transaction.prepare_cached("UPDATE ca SET newest = max(newest, ?1)")?.execute([now])?;
        insert(&transaction, 0, asked, None, "refused", reason)?;
        Ok(transaction.commit()?)
    }

    /// `reserved` → `signed`, with the certificate's wire form.
    /// # Errors
    /// [`InventoryError`]
    pub fn mark_signed(&mut self, serial: u64, certificate: &[u8]) -> Result<(), InventoryError> {
        let sql = "UPDATE certificate SET state = 'signed', certificate = ?2 WHERE serial = ?1 AND serial <> 0 AND state = 'reserved'";
        let changed = self.connection.prepare_cached(sql)?.execute((serial.cast_signed(), certificate))?;
        one_row(changed, serial, "signed")
    }

    /// `reserved` → `refused`: the key would not sign.
    /// # Errors
    /// [`InventoryError`]
    pub fn mark_unsigned(&mut self, serial: u64, reason: &str) -> Result<(), InventoryError> {
        let sql = "UPDATE certificate SET state = 'refused', detail = ?2 WHERE serial = ?1 AND serial <> 0 AND state = 'reserved'";
        let changed = self.connection.prepare_cached(sql)?.execute((serial.cast_signed(), reason))?;
        one_row(changed, serial, "refused")
    }

    /// `signed` → `delivered` or `undelivered`, once.
    /// # Errors
    /// [`InventoryError`]
    pub fn note_outcome(&mut self, serial: u64, outcome: &Outcome) -> Result<(), InventoryError> {
        let (state, detail) = match outcome {
            Outcome::Delivered => ("delivered", ""),
            Outcome::Undelivered(why) => ("undelivered", why.as_str()),
        };
        let sql =
            "UPDATE certificate SET state = ?2, detail = ?3 WHERE serial = ?1 AND serial <> 0 AND state = 'signed'";
        let changed = self.connection.prepare_cached(sql)?.execute((serial.cast_signed(), state, detail))?;
        one_row(changed, serial, state)
    }

    /// The next KRL's version: above every one before, and at least the time.
    /// # Errors
    /// [`InventoryError`]
    pub fn next_krl_version(&mut self, now: UnixTime) -> Result<u64, InventoryError> {
        let sql = "UPDATE ca SET krl_version = max(krl_version + 1, ?1) RETURNING krl_version";
        let version: i64 = self.connection.query_row(sql, [sql_time(now)?], |row| row.get(0))?;
        self.advance_mark()?;
        Ok(version.cast_unsigned())
    }

    fn begin(&mut self) -> Result<Transaction<'_>, InventoryError> {
        Ok(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

fn insert(
    transaction: &Transaction<'_>,
    serial: i64,
    asked: &Asked,
    planned: Option<&Planned>,
    state: &str,
    detail: &str,
) -> Result<(), InventoryError> {
    let (principals, valid_after, valid_before) = match planned {
        None => (String::new(), 0, 0),
        Some(p) => (p.principals.join("\n"), sql_time(p.valid_after)?, sql_time(p.valid_before)?),
    };
    let request = asked.request.as_ref().map(encode).transpose().map_err(|_| InventoryError::Request)?;
    let request = request.as_deref().map(Vec::as_slice);
    transaction
        .prepare_cached(
            "INSERT INTO certificate
                (serial, kind, key_id, principals, fingerprint, valid_after, valid_before, asked, source, authenticated, rule, state, detail, reason, request)
             VALUES
                (:serial, :kind, :key_id, :principals, :fingerprint, :valid_after, :valid_before, :asked, :source, :authenticated, :rule, :state, :detail, :reason, :request)",
        )?
        .execute(named_params! {
            ":serial": serial,
            ":kind": asked.kind.as_str(),
            ":key_id": asked.key_id,
            ":principals": principals,
            ":fingerprint": asked.fingerprint,
            ":valid_after": valid_after,
            ":valid_before": valid_before,
            ":asked": sql_time(asked.asked)?,
            ":source": asked.source,
            ":authenticated": asked.authenticated,
            ":rule": asked.rule,
            ":state": state,
            ":detail": detail,
            ":reason": asked.reason,
            ":request": request,
        })?;
    Ok(())
}

fn one_row(changed: usize, serial: u64, to: &'static str) -> Result<(), InventoryError> {
    if changed == 1 { Ok(()) } else { Err(InventoryError::State { serial, to }) }
}

fn sql_time(time: UnixTime) -> Result<i64, InventoryError> {
    i64::try_from(time.0).map_err(|_| InventoryError::Time)
}

/// Makes the file with mode 0600 before SQLite would with 0644; SQLite gives its other files the same mode.
fn create_private(path: &Path) -> Result<(), InventoryError> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map(drop).map_err(|e| InventoryError::File { path: path.to_owned(), problem: e.to_string() })
}

fn check_private(path: &Path) -> Result<(), InventoryError> {
    use std::os::unix::fs::MetadataExt;
    let file_error = |problem: String| InventoryError::File { path: path.to_owned(), problem };
    let lost = |how| InventoryError::Lost { path: path.to_owned(), how };
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(lost("missing")),
        Err(e) => return Err(file_error(e.to_string())),
    };
    let own = ussh_os::process::effective_uid();
    if !metadata.is_file() || metadata.uid() != own || metadata.mode() & 0o177 != 0 {
        return Err(file_error(format!("must be a regular file of uid {own} with mode 0600")));
    }
    if metadata.len() == 0 { Err(lost("empty")) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
