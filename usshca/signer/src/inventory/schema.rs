//! The database's form, and how an older one becomes the present one.

use rusqlite::{Connection, TransactionBehavior};

use super::InventoryError;

/// One step per entry; `user_version` counts the steps taken. Steps are never changed, only added.
///
/// `serial` is a u64 in SQLite's i64, bit for bit; 0 where nothing was to be signed. Times are seconds since the epoch. Principals are separated by newlines, which none can hold.
const MIGRATIONS: [&str; 8] = ["
    CREATE TABLE ca (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        epoch INTEGER NOT NULL CHECK (epoch BETWEEN 0 AND 16777215),
        counter INTEGER NOT NULL,
        newest INTEGER NOT NULL,
        krl_version INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE certificate (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        serial INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('user', 'host')),
        key_id TEXT NOT NULL,
        principals TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        valid_after INTEGER NOT NULL,
        valid_before INTEGER NOT NULL,
        asked INTEGER NOT NULL,
        source TEXT NOT NULL,
        authenticated TEXT NOT NULL,
        rule TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('reserved', 'signed', 'delivered', 'undelivered', 'refused')),
        detail TEXT NOT NULL DEFAULT '',
        certificate BLOB,
        revoked INTEGER,
        revoked_by TEXT,
        revocation_reason TEXT
    ) STRICT;
    CREATE UNIQUE INDEX certificate_serial ON certificate (serial) WHERE serial <> 0;
    CREATE INDEX certificate_revoked ON certificate (kind, valid_before) WHERE revoked IS NOT NULL;
", "
    -- What policy was asked (`inventory::request`), to be judged again by another policy; nothing for hosts, and for rows of before.
    ALTER TABLE certificate ADD COLUMN request BLOB;
    ALTER TABLE certificate ADD COLUMN reason TEXT NOT NULL DEFAULT '';
    -- What was revoked at once, and perhaps lifted again. `value` is of its scope's kind: a serial, a name, a fingerprint, a time.
    CREATE TABLE revocation (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        scope TEXT NOT NULL CHECK (scope IN ('serial', 'user', 'host', 'key', 'key ID', 'before', 'ca')),
        kind TEXT NOT NULL DEFAULT '' CHECK (kind IN ('', 'user', 'host')),
        value TEXT NOT NULL,
        at INTEGER NOT NULL,
        by TEXT NOT NULL,
        reason TEXT NOT NULL,
        lifted INTEGER,
        lifted_by TEXT
    ) STRICT;
    -- Which certificates that was. The columns of `certificate` say the first of a certificate's revocations that holds.
    CREATE TABLE revoked_certificate (
        certificate INTEGER NOT NULL REFERENCES certificate (row),
        revocation INTEGER NOT NULL REFERENCES revocation (id),
        PRIMARY KEY (certificate, revocation)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX revoked_certificate_revocation ON revoked_certificate (revocation);
    -- Of revocations by time: serials, known here or not, until the last of their certificates must be over.
    CREATE TABLE revoked_range (
        revocation INTEGER NOT NULL REFERENCES revocation (id),
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        until INTEGER NOT NULL
    ) STRICT;
    -- How often something was revoked or lifted: it only rises.
    ALTER TABLE ca ADD COLUMN acts INTEGER NOT NULL DEFAULT 0;
    UPDATE ca SET acts = (SELECT count(*) FROM certificate WHERE revoked IS NOT NULL);
    INSERT INTO revocation (scope, value, at, by, reason)
        SELECT 'serial', printf('%llu', serial), revoked, revoked_by, revocation_reason FROM certificate WHERE revoked IS NOT NULL ORDER BY revoked, row;
    INSERT INTO revoked_certificate
        SELECT certificate.row, revocation.id FROM certificate JOIN revocation ON revocation.value = printf('%llu', certificate.serial) WHERE certificate.revoked IS NOT NULL;
    CREATE INDEX certificate_key_id ON certificate (key_id, valid_before);
    CREATE INDEX certificate_fingerprint ON certificate (fingerprint);
    CREATE INDEX certificate_asked ON certificate (asked);
", "
    -- Which process wrote the serials (`inventory::mark`): 0 none yet, -1 a backup.
    ALTER TABLE ca ADD COLUMN run INTEGER NOT NULL DEFAULT 0;
    -- Whether policy said yes; nothing for rows of before.
    ALTER TABLE certificate ADD COLUMN granted INTEGER;
    -- Serials that were given and are unknown, since an older inventory was put back.
    CREATE TABLE lost_serials (
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        noted INTEGER NOT NULL
    ) STRICT;
    -- Each ends in the row number, which is the order of what is found.
    CREATE INDEX certificate_user ON certificate (key_id);
    CREATE INDEX certificate_source ON certificate (source);
    -- The same with the scope `serials`.
    CREATE TABLE revocation_3 (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        scope TEXT NOT NULL CHECK (scope IN ('serial', 'user', 'host', 'key', 'key ID', 'before', 'ca', 'serials')),
        kind TEXT NOT NULL DEFAULT '' CHECK (kind IN ('', 'user', 'host')),
        value TEXT NOT NULL,
        at INTEGER NOT NULL,
        by TEXT NOT NULL,
        reason TEXT NOT NULL,
        lifted INTEGER,
        lifted_by TEXT
    ) STRICT;
    INSERT INTO revocation_3 SELECT id, scope, kind, value, at, by, reason, lifted, lifted_by FROM revocation ORDER BY id;
    DROP TABLE revocation;
    ALTER TABLE revocation_3 RENAME TO revocation;
", "
    -- A token's key by its fingerprint; the token itself is nowhere. Names are separated by newlines, the host's own first.
    CREATE TABLE host_token (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        fingerprint TEXT NOT NULL UNIQUE,
        names TEXT NOT NULL,
        made INTEGER NOT NULL,
        made_by TEXT NOT NULL,
        expires INTEGER NOT NULL,
        used INTEGER,
        used_from TEXT,
        revoked INTEGER,
        revoked_by TEXT
    ) STRICT;
    CREATE TABLE host (
        name TEXT PRIMARY KEY,
        enrolled INTEGER NOT NULL,
        enrolled_by TEXT NOT NULL,
        seen INTEGER,
        seen_from TEXT,
        cloned INTEGER,
        cloned_at TEXT,
        removed INTEGER,
        removed_by TEXT
    ) STRICT;
    -- A key is one host's. `replaced`: a later enrolment came without it.
    CREATE TABLE host_key (
        fingerprint TEXT PRIMARY KEY,
        host TEXT NOT NULL REFERENCES host (name),
        public_key BLOB NOT NULL,
        principals TEXT NOT NULL,
        since INTEGER NOT NULL,
        replaced INTEGER
    ) STRICT;
    CREATE INDEX host_key_host ON host_key (host);
    -- From where a key was proved, and when last.
    CREATE TABLE host_sighting (
        fingerprint TEXT NOT NULL,
        address TEXT NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (fingerprint, address)
    ) STRICT, WITHOUT ROWID;
", "
    CREATE TABLE registered_key (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        user TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        public_key TEXT NOT NULL,
        comment TEXT NOT NULL,
        at INTEGER NOT NULL,
        by TEXT NOT NULL,
        removed INTEGER,
        removed_by TEXT
    ) STRICT;
    CREATE UNIQUE INDEX registered_key_fingerprint ON registered_key (fingerprint) WHERE removed IS NULL;
", "
    CREATE INDEX revocation_value ON revocation (scope, value);
", "
    -- Of logins that were refused (`inventory::refused_logins`), and nothing of all others: how often the same, when last, and the network that has a bound of its own.
    ALTER TABLE certificate ADD COLUMN tries INTEGER;
    ALTER TABLE certificate ADD COLUMN last INTEGER;
    ALTER TABLE certificate ADD COLUMN network TEXT;
    CREATE INDEX certificate_refused_login ON certificate (network, key_id, source) WHERE network IS NOT NULL;
    CREATE INDEX certificate_refused_login_network ON certificate (network, row) WHERE network IS NOT NULL;
    CREATE INDEX certificate_refused_login_row ON certificate (row) WHERE network IS NOT NULL;
    -- The registered key by which somebody had logged in: a fingerprint has 50 characters.
    CREATE INDEX certificate_login_key ON certificate (substr(authenticated, instr(authenticated, 'SHA256:'), 50)) WHERE instr(authenticated, 'SHA256:') > 0;
", "
    -- What hosts told of break-glass on them, each use once: `id` is the host's. All but `host` and `received` is the host's word.
    CREATE TABLE break_glass (
        host TEXT NOT NULL,
        id TEXT NOT NULL,
        user TEXT NOT NULL,
        source TEXT NOT NULL,
        key_id TEXT NOT NULL,
        serial TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        ca TEXT NOT NULL,
        opened INTEGER NOT NULL,
        received INTEGER NOT NULL,
        PRIMARY KEY (host, id)
    ) STRICT;
    CREATE INDEX break_glass_received ON break_glass (host, received);
"];

/// The present form.
pub const FORM: i64 = MIGRATIONS.len() as i64;

/// What the first form was made by.
#[cfg(test)]
pub fn first_form() -> &'static str {
    MIGRATIONS[0]
}

/// How many steps were taken; 0: none, there is nothing in it.
pub fn version(connection: &Connection) -> Result<i64, InventoryError> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// Brings the database to the present form. A new one gets its epoch: 24 random bits, once.
pub fn migrate(connection: &mut Connection) -> Result<(), InventoryError> {
    let version = version(connection)?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    let Some(steps) = MIGRATIONS.get(done..) else {
        return Err(InventoryError::Newer(version));
    };
    for (step, sql) in (version + 1..).zip(steps) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        if step == 1 {
            transaction.execute("INSERT INTO ca VALUES (1, ?1, 0, 0, 0)", [random_epoch()?])?;
        }
        transaction.pragma_update(None, "user_version", step)?;
        transaction.commit()?;
    }
    Ok(())
}

/// 24 random bits.
pub fn random_epoch() -> Result<i64, InventoryError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|_| InventoryError::NoRandom)?;
    Ok(i64::from(u32::from_be_bytes(bytes) >> 8))
}

/// 62 random bits, and never 0.
pub fn random_run() -> Result<i64, InventoryError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| InventoryError::NoRandom)?;
    Ok((i64::from_be_bytes(bytes) & (i64::MAX >> 1)) | 1)
}
