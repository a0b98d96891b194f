//! `sync`: fetches trusted CA keys and the revocation list from a feed folder, checks all of it, and then puts all of it in place; or changes nothing.
//!
//! Process: its own short run as root, beside the daemon, which notices the new files by itself. The feed is a folder that root alone can change (something else carried
//! it there); what it holds is still checked as if it were torn, empty or old: `user_ca.pub` and `krl`, and `known_hosts` if the configuration says where it goes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ussh_core::ca_file::TrustedCas;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::keys::{KeyError, PublicKey};
use ussh_core::revoked::{RevokedError, RevokedKeys};
use ussh_core::trusted_file::{TrustedFileError, read_trusted};

use crate::config::{Config, DEFAULT_PATH, SyncConfig};
use crate::trust::{MAX_CA_FILE, MAX_REVOKED};

/// The feed's files.
const USER_CA: &str = "user_ca.pub";
const KRL: &str = "krl";
const KNOWN_HOSTS: &str = "known_hosts";
/// How far ahead of this clock a KRL may lie, seconds: clocks differ, but not by a day.
const MAX_AHEAD: u64 = 24 * 3600;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The configuration names no source.
    #[error(
        "no [sync] source is configured: write into {DEFAULT_PATH} (or the file that --config names) the two lines [sync] and source = \"file:/FOLDER\", \
         with the folder that holds {USER_CA} and {KRL}"
    )]
    NoSource,
    /// The configuration names no file that the feed's revocation list could go to.
    #[error("revoked_keys is \"none\", so there is no place for the feed's revocation list")]
    NoRevokedKeys,
    /// Another sync holds the lock.
    #[error("another sync is at work ({0} is locked)")]
    Busy(PathBuf),
    /// A file of the feed or an installed one cannot be read, or others than root can change it.
    #[error("{0}")]
    File(#[from] TrustedFileError),
    /// No CA key in the feed.
    #[error("{0}: holds no CA key")]
    NoCa(PathBuf),
    /// A CA file of which sshd would read only the beginning.
    #[error("{path}: line {line} is no CA key: {problem}")]
    CaLine {
        /// The feed's file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What it is instead.
        problem: KeyError,
    },
    /// The feed's revocation list is none.
    #[error("{path}: {source}")]
    Krl {
        /// The feed's file.
        path: PathBuf,
        /// What is wrong with it.
        source: RevokedError,
    },
    /// A plain list: it has no version, so an older one could not be told from a newer one.
    #[error("{0}: a plain list of keys, not a KRL")]
    NotAKrl(PathBuf),
    /// Older than what is installed.
    #[error(
        "{path}: going back is refused: version {offered}, generated at {offered_generated}; installed is version {installed}, generated at {installed_generated}"
    )]
    GoesBack {
        /// The feed's file.
        path: PathBuf,
        /// Its version.
        offered: u64,
        /// Seconds since the epoch.
        offered_generated: u64,
        /// The installed one's version.
        installed: u64,
        /// Seconds since the epoch.
        installed_generated: u64,
    },
    /// No true list could follow it.
    #[error("{path}: version {version}, generated at {generated}: lies in the future (now {now})")]
    InTheFuture {
        /// The feed's file.
        path: PathBuf,
        /// Its version, which is a time at least.
        version: u64,
        /// Seconds since the epoch.
        generated: u64,
        /// Seconds since the epoch.
        now: u64,
    },
    /// A line of known_hosts that is not a host CA's.
    #[error("{path}: line {line}: must be @cert-authority, host patterns and a key")]
    KnownHosts {
        /// The feed's file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// Nothing is in place of the old file.
    #[error("{path}: {source}")]
    Write {
        /// The file to be put in place.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A later file could not be put in place, nor the earlier one be taken back: the one case in which both states are mixed.
    #[error("{path}: {source}; and {mixed} could not be taken back: run sync again")]
    Mixed {
        /// The file that failed.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// Already replaced.
        mixed: PathBuf,
    },
}

/// What a sync did.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Sentences for people, one for each file.
    pub lines: Vec<String>,
    /// Any file is a new one now.
    pub changed: bool,
}

/// One file, checked, and where it goes.
struct Checked {
    target: PathBuf,
    data: Vec<u8>,
    what: String,
}

/// Checks everything, then installs everything.
/// # Errors
/// [`SyncError`]; all files are as they were then.
pub fn sync(config: &Config) -> Result<Outcome, SyncError> {
    let source = config.sync.as_ref().ok_or(SyncError::NoSource)?;
    let revoked_keys = config.revoked_keys.as_ref().ok_or(SyncError::NoRevokedKeys)?;
    let _lock = lock(config)?;
    // The revocation list first: if the machine stops in between, the stricter half is in place.
    let mut checked = vec![check_krl(source, revoked_keys)?, check_user_ca(source, &config.ca_file)?];
    if let Some(target) = &source.known_hosts {
        checked.push(check_known_hosts(source, target)?);
    }
    install(checked)
}

fn lock(config: &Config) -> Result<File, SyncError> {
    let path = config.sync_lock_file();
    let failed = |source| SyncError::Write { path: path.clone(), source };
    crate::spool::Spool::new(&config.spool).make().map_err(failed)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(SyncError::Busy(path)),
        Err(std::fs::TryLockError::Error(e)) => Err(failed(e)),
    }
}

fn check_user_ca(source: &SyncConfig, target: &Path) -> Result<Checked, SyncError> {
    let path = source.folder.join(USER_CA);
    let data = read_trusted(&path, MAX_CA_FILE)?;
    // sshd would stop at a line of junk without a word, and trust what stands above it: a feed must be whole.
    for (number, line) in lines(&data) {
        PublicKey::from_openssh(&String::from_utf8_lossy(line)).map_err(|problem| SyncError::CaLine {
            path: path.clone(),
            line: number,
            problem,
        })?;
    }
    let keys = TrustedCas::parse(&data).keys().len();
    if keys == 0 {
        return Err(SyncError::NoCa(path));
    }
    Ok(Checked { target: target.into(), data, what: format!("{keys} CA {}", if keys == 1 { "key" } else { "keys" }) })
}

fn check_krl(source: &SyncConfig, target: &Path) -> Result<Checked, SyncError> {
    let path = source.folder.join(KRL);
    let data = read_trusted(&path, MAX_REVOKED)?;
    let krl = RevokedKeys::parse(&data).map_err(|e| SyncError::Krl { path: path.clone(), source: e })?;
    let Some((version, generated)) = krl.version().zip(krl.generated()) else { return Err(SyncError::NotAKrl(path)) };
    let (offered, now) = (Age { version, generated: generated.0 }, SystemClock.now().0);
    if offered.lies_in_future(now) {
        return Err(SyncError::InTheFuture { path, version, generated: generated.0, now });
    }
    let installed = installed_krl(target)?;
    let absurd = installed.filter(|age| age.lies_in_future(now)).map_or_else(String::new, |age| {
        format!(", in place of version {}, generated at {}, which lies in the future", age.version, age.generated)
    });
    if let Some(Age { version: installed, generated: installed_generated }) = installed
        && !offered.may_follow(installed, installed_generated, now)
    {
        return Err(SyncError::GoesBack {
            path,
            offered: version,
            offered_generated: generated.0,
            installed,
            installed_generated,
        });
    }
    Ok(Checked { target: target.into(), data, what: format!("KRL version {version}{absurd}") })
}

/// What orders one KRL and the next. A version is a count or, as usshca makes it, at least the time in seconds.
#[derive(Clone, Copy, Debug)]
struct Age {
    version: u64,
    /// Seconds since the epoch.
    generated: u64,
}

impl Age {
    fn lies_in_future(self, now: u64) -> bool {
        self.version.max(self.generated) > now.saturating_add(MAX_AHEAD)
    }

    /// Neither number goes back. An installed one that lies in the future orders nothing: where that is the version, the list must be generated later.
    fn may_follow(self, installed: u64, installed_generated: u64, now: u64) -> bool {
        let latest = now.saturating_add(MAX_AHEAD);
        match (installed > latest, installed_generated > latest) {
            (false, false) => self.version >= installed && self.generated >= installed_generated,
            (true, false) => self.generated > installed_generated,
            (false, true) => self.version >= installed,
            (true, true) => true,
        }
    }
}

/// Version and generation time of the installed KRL. `None`: there is none, or it is broken or a plain list, so that nothing can be older than it.
fn installed_krl(target: &Path) -> Result<Option<Age>, SyncError> {
    match read_trusted(target, MAX_REVOKED) {
        Ok(data) => Ok(RevokedKeys::parse(&data)
            .ok()
            .and_then(|krl| Some(Age { version: krl.version()?, generated: krl.generated()?.0 }))),
        Err(TrustedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn check_known_hosts(source: &SyncConfig, target: &Path) -> Result<Checked, SyncError> {
    let path = source.folder.join(KNOWN_HOSTS);
    let data = read_trusted(&path, MAX_CA_FILE)?;
    let mut keys = 0;
    for (number, line) in lines(&data) {
        let text = String::from_utf8_lossy(line);
        let rest = text.strip_prefix("@cert-authority").map(str::trim_start).and_then(|r| r.split_once([' ', '\t']));
        if rest.is_none_or(|(_patterns, key)| PublicKey::from_openssh(key.trim_start()).is_err()) {
            return Err(SyncError::KnownHosts { path, line: number });
        }
        keys += 1;
    }
    if keys == 0 {
        return Err(SyncError::NoCa(path));
    }
    Ok(Checked {
        target: target.into(),
        data,
        what: format!("{keys} host CA {}", if keys == 1 { "line" } else { "lines" }),
    })
}

/// The lines that are neither blank nor comments, with their numbers from 1.
fn lines(data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let numbered = data.split(|b| *b == b'\n').enumerate().map(|(n, line)| (n + 1, line.trim_ascii()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"))
}

/// A file that lies ready beside the one that it will replace.
struct Prepared {
    target: PathBuf,
    temporary: PathBuf,
    /// What is replaced; `None`: nothing.
    before: Option<Vec<u8>>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // After the rename there is nothing of this name.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Writes all files beside their targets, and only when all lie there renames them.
fn install(checked: Vec<Checked>) -> Result<Outcome, SyncError> {
    let mut outcome = Outcome { lines: Vec::new(), changed: false };
    let mut prepared = Vec::new();
    for file in checked {
        // Of a sync that was killed. That there is none is no error.
        let _ = std::fs::remove_file(temporary(&real(&file.target)));
        let before = present(&file.target)?;
        if before.as_deref() == Some(file.data.as_slice()) {
            outcome.lines.push(format!("{}: unchanged ({})", file.target.display(), file.what));
            continue;
        }
        outcome.lines.push(format!("{}: replaced ({})", file.target.display(), file.what));
        outcome.changed = true;
        prepared.push(prepare(file.target, &file.data, before)?);
    }
    for (position, file) in prepared.iter().enumerate() {
        if let Err(source) = put_in_place(file) {
            take_back(prepared.get(..position).unwrap_or_default(), file, source)?;
        }
    }
    Ok(outcome)
}

/// What is there now; a file that others could change is an error rather than something to be quietly replaced.
fn present(target: &Path) -> Result<Option<Vec<u8>>, SyncError> {
    match read_trusted(target, MAX_REVOKED) {
        Ok(data) => Ok(Some(data)),
        Err(TrustedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn prepare(target: PathBuf, data: &[u8], before: Option<Vec<u8>>) -> Result<Prepared, SyncError> {
    let target = real(&target);
    let prepared = Prepared { temporary: temporary(&target), target, before };
    let failed = |source| SyncError::Write { path: prepared.target.clone(), source };
    write_durably(&prepared.temporary, data).map_err(failed)?;
    // As it will be read: a folder that others can change is found out before anything is replaced.
    if read_trusted(&prepared.temporary, MAX_REVOKED)? != data {
        return Err(failed(io::Error::other("does not read back")));
    }
    Ok(prepared)
}

/// A symbolic link stays one: what it points to is replaced.
fn real(target: &Path) -> PathBuf {
    target.canonicalize().unwrap_or_else(|_| target.into())
}

/// Where a file lies ready. The name is the same each time, since the lock lets in one sync only: what one that was killed leaves behind, the next one takes away.
fn temporary(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".ussh-hostd");
    target.with_file_name(name)
}

fn write_durably(path: &Path, data: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    // sshd and pam_ussh read it, whatever the umask says.
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.write_all(data)?;
    file.sync_all()
}

fn put_in_place(file: &Prepared) -> io::Result<()> {
    std::fs::rename(&file.temporary, &file.target)?;
    match file.target.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Puts back what was replaced before `failed` failed.
fn take_back(done: &[Prepared], failed: &Prepared, source: io::Error) -> Result<(), SyncError> {
    for file in done.iter().chain([failed]).rev() {
        let restored = match &file.before {
            Some(data) => write_durably(&file.temporary, data).and_then(|()| put_in_place(file)),
            None => std::fs::remove_file(&file.target)
                .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }),
        };
        if restored.is_err() {
            return Err(SyncError::Mixed { path: failed.target.clone(), source, mixed: file.target.clone() });
        }
    }
    Err(SyncError::Write { path: failed.target.clone(), source })
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
