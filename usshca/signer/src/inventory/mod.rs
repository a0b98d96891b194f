//! The inventory: every certificate that was ever asked for, in SQLite. Each change is on disk (fsync) before its function returns.

pub mod backup;
mod batch;
mod break_glass;
mod find;
mod host_tokens;
mod hosts;
mod look;
mod mark;
mod read;
pub mod refused_logins;
mod registered;
mod revoke;
mod schema;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, named_params};
use serde::{Deserialize, Serialize};
use ussh_core::clock::UnixTime;
use ussh_core::feed::MAX_AHEAD;
use usshca_ipc::admin::{CertificateKind, LostSerials};
use usshca_ipc::channel::encode;
use usshca_ipc::front::Wish;

pub use self::batch::Batch;
pub use self::find::RecordedRow;
pub use self::host_tokens::{TokenFound, TokenRevocation};
pub use self::hosts::{KeyOf, KeyState, Removal};
use self::mark::Mark;
pub use self::read::Details;
pub use self::registered::{Registered, Registration};
#[cfg(test)]
pub use self::revoke::KRL_MARGIN;
pub use self::revoke::{Lifted, Revocation, RevokedHere};
use crate::log;

/// Bits of a serial below the epoch.
pub const COUNTER_BITS: u32 = 40;
/// Largest database that is looked through at each start, in bytes.
const MAX_CHECKED: u64 = 64 << 20;
/// How many serials the mark is ahead of the database while certificates are issued: it is written once for so many of them.
const BLOCK: i64 = 4096;
/// How long the log beside the database grows before it is written into it, in pages of 4 KiB: of the pages that many certificates change alike, each is then written once.
const LOG_PAGES: i64 = 4000;
/// Never with SQLITE_OPEN_CREATE.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// What to do about a database that is none any more.
fn put_back(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            ": the file is damaged; stop the CA and put back a backup (docs/operations.md)"
        }
        _ => "",
    }
}

/// Why the inventory did not do as it was asked. Nothing was changed then, but for one case: `reserve`, `revoke` and `next_krl_version` commit before they write the mark, and
/// fail if that cannot be written ([`InventoryError::File`]). Then a serial or a KRL version is left out, which nobody got, or the revocation holds, and asked again says so
/// ([`Revocation::Already`]).
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// SQLite.
    #[error("inventory: {0}{hint}", hint = put_back(.0))]
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
    /// SQLite gave up the transaction of which this was a part.
    #[error("inventory: the transaction was given up")]
    GivenUp,
    /// Of the transaction of which this was a part.
    #[error("{0}")]
    Together(Arc<InventoryError>),
    /// What policy was asked cannot be written down.
    #[error("a request that cannot be written down")]
    Request,
    /// The last KRL's version lies further ahead of the clock than any reader takes: the clock was far ahead when it was made.
    #[error(
        "the last KRL has version {version} ({}), more than a day ahead of the clock ({}): no host would take another one. If the clock is right now: docs/operations.md, \"A clock that was far ahead\"",
        shown(*version), shown(now.0)
    )]
    KrlAhead {
        /// Of the last one.
        version: u64,
        /// The clock.
        now: UnixTime,
    },
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
    /// The last counter that the mark covers.
    ceiling: i64,
    /// A random number by which a database that this process has written is known again.
    run: i64,
    /// Whether the mark is ahead of the database, and so names the run.
    is_ahead: bool,
    /// Why nothing could be written the last time.
    trouble: Option<String>,
    /// Serials that are lost and do not stand in it as that: it is only looked at.
    untold: Vec<LostSerials>,
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
        let mut inventory = Self::connect(path)?;
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
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        schema::migrate(&mut connection)?;
        connection.set_prepared_statement_cache_capacity(64);
        let mark_path = path.with_file_name("serials");
        Ok(Inventory {
            connection,
            mark_path,
            ceiling: 0,
            run: schema::random_run()?,
            is_ahead: false,
            trouble: None,
            untold: Vec::new(),
        })
    }

    /// An older database would give serials a second time: it gets a new epoch, which was not in use, and goes on above the last KRL. After a kill serials go on above the block that
    /// was begun.
    fn compare_with_mark(&mut self, now: UnixTime) -> Result<(), InventoryError> {
        let here = self.progress()?;
        let mark = Mark::read(&self.mark_path)?.filter(|mark| mark.may_follow(&here, now));
        let Some(loss) = here.behind(mark.as_ref()) else {
            let counter = mark.map_or(here.counter, |mark| mark.counter.max(here.counter));
            if counter != here.counter {
                self.connection.execute("UPDATE ca SET counter = ?1", [counter])?;
            }
            self.ceiling = counter;
            return if mark.is_some_and(|mark| mark.run != 0) { self.advance_mark() } else { Ok(()) };
        };
        let last = mark.unwrap_or(here);
        let mut epoch = schema::random_epoch()?;
        while epoch == here.epoch || epoch == last.epoch {
            epoch = schema::random_epoch()?;
        }
        let krl_version = here.krl_version.max(last.krl_version);
        let transaction = self.begin()?;
        transaction.execute("UPDATE ca SET epoch = ?1, counter = 0, krl_version = ?2", [epoch, krl_version])?;
        for (first, last) in &loss.serials {
            let sql = "INSERT INTO lost_serials (first, last, noted) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, (first.cast_signed(), last.cast_signed(), sql_time(now)?))?;
        }
        transaction.commit()?;
        log::warning(&format!(
            "the inventory was put back from a backup: {}. Certificates that were issued or revoked since the backup are unknown here: revoke again what was revoked; what was issued since can be revoked by its serials:{} (`usshca check` says so again). Serials go on in a new range, from {}",
            loss.problem,
            loss.serials
                .iter()
                .fold(String::new(), |all, (first, last)| format!("{all} usshca revoke --serials {first}-{last}")),
            (epoch << COUNTER_BITS | 1).cast_unsigned()
        ));
        self.ceiling = 0;
        self.advance_mark()
    }

    fn progress(&self) -> Result<Mark, InventoryError> {
        let sql = "SELECT epoch, counter, krl_version, acts, run FROM ca";
        Ok(self.connection.prepare_cached(sql)?.query_row([], |row| {
            Ok(Mark {
                epoch: row.get(0)?,
                counter: row.get(1)?,
                krl_version: row.get(2)?,
                acts: row.get(3)?,
                run: row.get(4)?,
            })
        })?)
    }

    /// After a commit, before anybody hears of what was committed.
    fn advance_mark(&self) -> Result<(), InventoryError> {
        let here = self.progress()?;
        let (counter, run) = if self.is_ahead { (self.ceiling, self.run) } else { (here.counter, 0) };
        Mark { counter, run, ..here }.write(&self.mark_path)
    }

    /// Serials up to this one stand in the database: the mark goes ahead of it.
    fn take_block(&mut self, counter: i64) -> Result<(), InventoryError> {
        let ceiling = counter.saturating_add(BLOCK).min((1 << COUNTER_BITS) - 1);
        Mark { counter: ceiling, run: self.run, ..self.progress()? }.write(&self.mark_path)?;
        self.ceiling = ceiling;
        self.is_ahead = true;
        Ok(())
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

    /// [`Batch::reserve`], alone.
    /// # Errors
    /// [`InventoryError`]
    pub fn reserve(&mut self, asked: &Asked, planned: &Planned) -> Result<u64, InventoryError> {
        self.batch(|batch| batch.reserve(asked, planned))?
    }

    /// [`Batch::record_refusal`], alone.
    /// # Errors
    /// [`InventoryError`]
    #[cfg(test)]
    pub fn record_refusal(&mut self, asked: &Asked, reason: &str, by_policy: bool) -> Result<(), InventoryError> {
        self.batch(|batch| batch.record_refusal(asked, reason, by_policy))?
    }

    /// [`Batch::mark_signed`], alone.
    /// # Errors
    /// [`InventoryError`]
    pub fn mark_signed(&mut self, serial: u64, certificate: &[u8]) -> Result<(), InventoryError> {
        self.batch(|batch| batch.mark_signed(serial, certificate))?
    }

    /// [`Batch::mark_unsigned`], alone.
    /// # Errors
    /// [`InventoryError`]
    pub fn mark_unsigned(&mut self, serial: u64, reason: &str) -> Result<(), InventoryError> {
        self.batch(|batch| batch.mark_unsigned(serial, reason))?
    }

    /// [`Batch::note_outcome`], alone.
    /// # Errors
    /// [`InventoryError`]
    #[cfg(test)]
    pub fn note_outcome(&mut self, serial: u64, outcome: &Outcome) -> Result<(), InventoryError> {
        self.batch(|batch| batch.note_outcome(serial, outcome))?
    }

    /// The next KRL's version: above every one before, and at least the time.
    /// # Errors
    /// [`InventoryError::KrlAhead`], of which nobody would take it; any other.
    pub fn next_krl_version(&mut self, now: UnixTime) -> Result<u64, InventoryError> {
        let (time, latest) = (sql_time(now)?, sql_time(UnixTime(now.0.saturating_add(MAX_AHEAD)))?);
        let sql = "UPDATE ca SET krl_version = max(krl_version + 1, ?1) WHERE krl_version < ?2 RETURNING krl_version";
        let made: Option<i64> = self.connection.query_row(sql, [time, latest], |row| row.get(0)).optional()?;
        let Some(version) = made else {
            let (_, version) = self.latest()?;
            return Err(InventoryError::KrlAhead { version, now });
        };
        self.advance_mark()?;
        Ok(version.cast_unsigned())
    }

    /// When its newest row was asked for, and the last KRL's version.
    /// # Errors
    /// [`InventoryError`]
    pub fn latest(&self) -> Result<(u64, u64), InventoryError> {
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
        };
        Ok(self.connection.query_row("SELECT newest, krl_version FROM ca", [], row)?)
    }

    fn begin(&mut self) -> Result<Transaction<'_>, InventoryError> {
        Ok(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

impl Drop for Inventory {
    /// Without this the serials of the block that are left are passed over, as after a kill.
    fn drop(&mut self) {
        // Without a serial of its own it has nothing to take back, and may be a database that was not even good enough to be opened.
        if !std::mem::take(&mut self.is_ahead) {
            return;
        }
        if let Err(e) = self.advance_mark() {
            log::warning(&format!("the mark stays ahead: {e}"));
        }
    }
}

fn insert(
    transaction: &Transaction<'_>,
    serial: i64,
    asked: &Asked,
    planned: Option<&Planned>,
    state: &str,
    detail: &str,
    is_granted: bool,
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
                (serial, kind, key_id, principals, fingerprint, valid_after, valid_before, asked, source, authenticated, rule, state, detail, reason, request, granted)
             VALUES
                (:serial, :kind, :key_id, :principals, :fingerprint, :valid_after, :valid_before, :asked, :source, :authenticated, :rule, :state, :detail, :reason, :request, :granted)",
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
            ":granted": is_granted,
        })?;
    Ok(())
}

/// How many certificates of a user are good at a time: signed, or perhaps signed, and neither over nor revoked.
fn count_good(connection: &Connection, user: &str, now: UnixTime) -> Result<u32, InventoryError> {
    let sql = "SELECT count(*) FROM certificate WHERE key_id = ?1 AND valid_before > ?2 AND kind = 'user' AND serial <> 0 AND state <> 'refused' AND revoked IS NULL";
    Ok(connection.prepare_cached(sql)?.query_row((user, sql_time(now)?), |row| row.get(0))?)
}

fn one_row(changed: usize, serial: u64, to: &'static str) -> Result<(), InventoryError> {
    if changed == 1 { Ok(()) } else { Err(InventoryError::State { serial, to }) }
}

/// For people.
fn shown(seconds: u64) -> String {
    // Beyond what the crate shows, it would panic.
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
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
