//! `sync`: fetches trusted CA keys and the revocation list, checks all of it, and then puts all of it in place; or changes nothing.
//!
//! Process: its own short run as root, beside the daemon, which notices the new files by itself.
//!
//! Where a feed key is pinned, a feed is taken that this key has signed, whoever carries it (`ussh_core::feed`), and nothing else. Where none is, the source is a folder that root alone can change
//! (something else carried it there); what it holds is still checked as if it were torn, empty or old: `user_ca.pub` and `krl`, and `known_hosts` if the configuration says where it goes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ussh_core::break_glass::read_keys;
use ussh_core::ca_file::{TrustedCas, is_marked};
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::feed::{FEED, FeedError, VerifiedFeed, verify};
use ussh_core::keys::{KeyError, PublicKey};
use ussh_core::record::RecordError;
use ussh_core::revoked::{RevokedError, RevokedKeys};
use ussh_core::trusted_file::{TrustedFileError, read_trusted};

use crate::config::{Config, DEFAULT_PATH, Source, SyncConfig};
use crate::cut_short;
use crate::enrolment::{Enrolment, EnrolmentError};
use crate::glass::with_pinned;
use crate::pinned::{FeedPin, PinnedError, freshness};
use crate::place::journal::JournalError;
use crate::place::{self, NewFile, PlaceError};
use crate::revoked_here::{HereError, RevokedHere, oldest};
use crate::source::{SourceError, fetch};
use crate::trust::{MAX_CA_FILE, MAX_REVOKED};
use crate::unread;

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
         with the folder that holds {USER_CA} and {KRL}; a host that is enrolled has the CA itself for a source"
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
    /// The lock cannot be had.
    #[error("{path}: {source}")]
    Lock {
        /// The lock.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What an enrolment has left that was killed cannot be undone.
    #[error("an enrolment was cut short, and cannot be undone: {problem}. Put right what it names, or remove {}; nothing was changed", journal.display())]
    CutShort {
        /// Why not.
        problem: JournalError,
        /// Its journal.
        journal: PathBuf,
    },
    /// Nothing is in place of the old files.
    #[error("{0}")]
    Place(#[from] PlaceError),
    /// It is not known whose feed to take.
    #[error("{0}")]
    Pinned(#[from] PinnedError),
    /// Nor whose host this is.
    #[error("{0}")]
    Enrolment(EnrolmentError),
    /// No key that a feed could be judged by.
    #[error(
        "no feed key is pinned: enroll this host, or write into {DEFAULT_PATH} under [sync] where the CA's public/feed_key.pub lies (feed_key = \"/FILE\")"
    )]
    NoFeedKey,
    /// No feed came.
    #[error("no feed: {0}")]
    Source(#[from] SourceError),
    /// The feed is not to be used.
    #[error("the feed is refused, and the one before stays: {0}")]
    Feed(#[from] FeedError),
    /// The break-glass CA's key cannot be used.
    #[error("break_glass_ca_file: {0}")]
    BreakGlass(#[from] RecordError),
    /// One key would be two CAs.
    #[error(
        "{0}: the user CA's key is in break_glass_ca_file as well; break-glass needs a CA of its own: put that one's key there"
    )]
    OneCa(String),
    /// That would take break-glass away.
    #[error(
        "the revocation list revokes the break-glass CA {0}: take its key out of break_glass_ca_file if that is meant"
    )]
    RevokesBreakGlass(String),
    /// What is revoked here cannot be added.
    #[error("{0}")]
    Here(#[from] HereError),
    /// What is to be remembered cannot be written.
    #[error("{0}")]
    Text(#[from] serde_json::Error),
}

/// What a sync did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Sentences for people, one for each file.
    pub lines: Vec<String>,
    /// Any file is a new one now.
    pub changed: bool,
}

impl Outcome {
    fn add(&mut self, other: Outcome) {
        self.lines.extend(other.lines);
        self.changed |= other.changed;
    }
}

/// One file, checked, and where it goes.
struct Checked {
    target: PathBuf,
    data: Vec<u8>,
    what: String,
}

/// The source, its key and so on: as configured, or, without a word on it, what holds for a host that is enrolled. `None`: there is no source.
/// # Errors
/// [`EnrolmentError`]: nobody knows whether it is enrolled.
pub fn wanted(config: &Config) -> Result<Option<SyncConfig>, EnrolmentError> {
    if let Some(sync) = &config.sync {
        return Ok(Some(sync.clone()));
    }
    match Enrolment::read(&config.state) {
        Ok(_) => Ok(Some(SyncConfig::default())),
        Err(EnrolmentError::None) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Checks everything, then installs everything.
/// # Errors
/// [`SyncError`]; all files are as they were then.
pub fn sync(config: &Config) -> Result<Outcome, SyncError> {
    let _lock = lock(config)?;
    // Of a renewal that was ended. That it is not read stays an alarm.
    let _ = unread::settle(config);
    // First, since it takes no feed.
    let pinned = read_keys(&config.break_glass.ca_file)?;
    let mut own = trust_pinned(config, &pinned)?;
    let sync = wanted(config).map_err(SyncError::Enrolment)?;
    let here = RevokedHere::read(config)?;
    if let Some(here) = &here {
        own.add(revoke_here(config, here, sync.is_some())?);
    }
    let Some(sync) = sync else {
        return if own.lines.is_empty() { Err(SyncError::NoSource) } else { Ok(own) };
    };
    let mut outcome = take_feed(config, &sync, &pinned, here.as_ref())?;
    outcome.add(own);
    Ok(outcome)
}

/// What the source has, checked and then installed.
fn take_feed(
    config: &Config,
    sync: &SyncConfig,
    pinned: &[PublicKey],
    here: Option<&RevokedHere>,
) -> Result<Outcome, SyncError> {
    let revoked_keys = config.revoked_keys.as_ref().ok_or(SyncError::NoRevokedKeys)?;
    if let Some(pin) = FeedPin::read(&config.state, sync)? {
        let feed = verify(&fetch(sync, &config.state)?, &pin.pinned(), SystemClock.now())?;
        return take(config, sync, revoked_keys, &pin, (&feed, pinned, here));
    }
    let Source::File(folder) = &sync.source else { return Err(SyncError::NoFeedKey) };
    // The revocation list first: if the machine stops in between, the stricter half is in place.
    let mut checked = vec![check_krl(folder, revoked_keys)?, check_user_ca(folder, &config.ca_file)?];
    for file in &mut checked {
        if file.target == config.ca_file {
            check_pinned(pinned, &TrustedCas::parse(&file.data), None)?;
            file.data = with_pinned(&file.data, pinned);
            file.what += &and_pinned(pinned);
        } else if let Ok(list) = RevokedKeys::parse(&file.data) {
            check_pinned(pinned, &TrustedCas::default(), Some(&list))?;
            file.data = with_here(&file.data, here)?;
        }
    }
    if let Some(target) = &sync.known_hosts {
        checked.push(check_known_hosts(folder, target)?);
    }
    install(Vec::new(), checked)
}

/// What is remembered of it first, then the files.
fn take(
    config: &Config,
    sync: &SyncConfig,
    revoked_keys: &Path,
    pin: &FeedPin,
    (feed, pinned, here): (&VerifiedFeed, &[PublicKey], Option<&RevokedHere>),
) -> Result<Outcome, SyncError> {
    check_pinned(pinned, feed.cas(), Some(feed.revoked()))?;
    let after = FeedPin::after(feed);
    let Some(krl) = age_of(feed.revoked()) else { return Err(FeedError::NotAKrl.into()) };
    let krl_line = check_order(Path::new(FEED), revoked_keys, krl)?;
    let count = |n: usize, one: &str, many: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {many}") };
    let mut checked = vec![
        Checked { target: revoked_keys.into(), data: with_here(feed.krl(), here)?, what: krl_line },
        Checked {
            target: config.ca_file.clone(),
            data: with_pinned(feed.user_ca(), pinned),
            what: count(feed.cas().keys().len(), "CA key", "CA keys") + &and_pinned(pinned),
        },
    ];
    if let Some(target) = &sync.known_hosts {
        let lines = lines(feed.known_hosts()).count();
        checked.push(Checked {
            target: target.clone(),
            data: feed.known_hosts().to_vec(),
            what: count(lines, "host CA line", "host CA lines"),
        });
    }
    let mut outcome = install(vec![after.file(&config.state)?], checked)?;
    if let Some(last) = &after.last {
        let good = freshness(last.stale_from(sync), SystemClock.now());
        outcome.lines.insert(0, format!("feed of {}: version {}, {good}", last.ca, last.version));
    }
    if pin.key != after.key {
        outcome
            .lines
            .insert(1, format!("feed key replaced: {} in place of {}", after.key.fingerprint(), pin.key.fingerprint()));
        outcome.changed = true;
    }
    Ok(outcome)
}

/// What stands in the CA file beside the feed's keys.
fn and_pinned(pinned: &[PublicKey]) -> String {
    if pinned.is_empty() { String::new() } else { format!(" and {} for break-glass", pinned.len()) }
}

fn with_here(krl: &[u8], here: Option<&RevokedHere>) -> Result<Vec<u8>, SyncError> {
    Ok(here.map_or_else(|| Ok(krl.to_vec()), |here| here.added_to(krl))?)
}

/// Adds what is revoked here to the installed list, whatever becomes of the feed; `has_source`: a feed may replace what is no KRL.
fn revoke_here(config: &Config, here: &RevokedHere, has_source: bool) -> Result<Outcome, SyncError> {
    let target = config.revoked_keys.as_ref().ok_or(SyncError::NoRevokedKeys)?;
    let installed = match read_trusted(target, MAX_REVOKED) {
        Err(TrustedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => oldest(),
        other => other?,
    };
    match RevokedKeys::parse(&installed) {
        Ok(list) if list.version().is_some() => {}
        Ok(_) if !has_source => return Err(SyncError::NotAKrl(target.clone())),
        Err(source) if !has_source => return Err(SyncError::Krl { path: target.clone(), source }),
        _ => return Ok(Outcome::default()),
    }
    let data = here.added_to(&installed)?;
    install(Vec::new(), vec![Checked { target: target.clone(), data, what: here.told() }])
}

/// Has sshd trust the break-glass CA, and none that was one before, whatever becomes of the feed.
fn trust_pinned(config: &Config, pinned: &[PublicKey]) -> Result<Outcome, SyncError> {
    let data = match read_trusted(&config.ca_file, MAX_CA_FILE) {
        Err(TrustedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && pinned.is_empty() => {
            return Ok(Outcome::default());
        }
        Err(TrustedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    if pinned.is_empty() && !lines(&data).any(|(_, line)| is_marked(line)) {
        return Ok(Outcome::default());
    }
    let unmarked: Vec<u8> =
        data.split_inclusive(|b| *b == b'\n').filter(|line| !is_marked(line)).flatten().copied().collect();
    check_pinned(pinned, &TrustedCas::parse(&unmarked), None)?;
    let placed = place::put(vec![NewFile::public(&config.ca_file, with_pinned(&data, pinned))])?;
    let changed = !placed.changed().is_empty();
    placed.keep();
    let lines = pinned.iter().map(|key| format!("break-glass CA {} is trusted", key.fingerprint())).collect();
    Ok(Outcome { lines, changed })
}

/// The break-glass CA is one of its own, and no feed revokes it.
/// # Errors
/// [`SyncError::OneCa`], [`SyncError::RevokesBreakGlass`]
pub fn check_pinned(pinned: &[PublicKey], cas: &TrustedCas, revoked: Option<&RevokedKeys>) -> Result<(), SyncError> {
    if let Some(both) = pinned.iter().find(|key| cas.contains(key)) {
        return Err(SyncError::OneCa(both.fingerprint()));
    }
    match pinned.iter().find(|key| revoked.is_some_and(|list| list.revokes_key(key))) {
        Some(key) => Err(SyncError::RevokesBreakGlass(key.fingerprint())),
        None => Ok(()),
    }
}

/// Held by whoever replaces trusted files or host certificates.
#[derive(Debug)]
pub struct SyncLock(File);

impl Drop for SyncLock {
    /// Said, and not left to the closing: a child that another thread has forked and that has not executed yet has the same open file.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Takes it. An enrolment that was cut short is undone then.
/// # Errors
/// [`SyncError::Busy`], [`SyncError::Lock`], [`SyncError::CutShort`]
pub fn lock(config: &Config) -> Result<SyncLock, SyncError> {
    let path = config.sync_lock_file();
    let failed = |source| SyncError::Lock { path: path.clone(), source };
    crate::spool::Spool::new(&config.spool).make().map_err(failed)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(SyncError::Busy(path)),
        Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
    }
    let lock = SyncLock(file);
    cut_short::undo(config).map_err(|problem| SyncError::CutShort { problem, journal: cut_short::journal(config) })?;
    Ok(lock)
}

fn check_user_ca(folder: &Path, target: &Path) -> Result<Checked, SyncError> {
    let path = folder.join(USER_CA);
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

fn check_krl(folder: &Path, target: &Path) -> Result<Checked, SyncError> {
    let path = folder.join(KRL);
    let data = read_trusted(&path, MAX_REVOKED)?;
    let krl = RevokedKeys::parse(&data).map_err(|e| SyncError::Krl { path: path.clone(), source: e })?;
    let Some(offered) = age_of(&krl) else { return Err(SyncError::NotAKrl(path)) };
    let what = check_order(&path, target, offered)?;
    Ok(Checked { target: target.into(), data, what })
}

/// `None`: a plain list.
fn age_of(krl: &RevokedKeys) -> Option<Age> {
    krl.version().zip(krl.generated()).map(|(version, generated)| Age { version, generated: generated.0 })
}

/// Whether the list at `path` may follow the installed one: a word on it for people.
fn check_order(path: &Path, target: &Path, offered: Age) -> Result<String, SyncError> {
    let (Age { version, generated }, now) = (offered, SystemClock.now().0);
    if offered.lies_in_future(now) {
        return Err(SyncError::InTheFuture { path: path.into(), version, generated, now });
    }
    let installed = installed_krl(target)?;
    let absurd = installed.filter(|age| age.lies_in_future(now)).map_or_else(String::new, |age| {
        format!(", in place of version {}, generated at {}, which lies in the future", age.version, age.generated)
    });
    if let Some(Age { version: installed, generated: installed_generated }) = installed
        && !offered.may_follow(installed, installed_generated, now)
    {
        return Err(SyncError::GoesBack {
            path: path.into(),
            offered: version,
            offered_generated: generated,
            installed,
            installed_generated,
        });
    }
    Ok(format!("KRL version {version}{absurd}"))
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
        Ok(data) => Ok(RevokedKeys::parse(&data).ok().as_ref().and_then(age_of)),
        Err(TrustedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn check_known_hosts(folder: &Path, target: &Path) -> Result<Checked, SyncError> {
    let path = folder.join(KNOWN_HOSTS);
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

/// Puts all of them in place, behind `first`, of which nobody is told.
fn install(first: Vec<NewFile>, checked: Vec<Checked>) -> Result<Outcome, SyncError> {
    let told: Vec<(PathBuf, String)> = checked.iter().map(|file| (file.target.clone(), file.what.clone())).collect();
    let files = first.into_iter().chain(checked.into_iter().map(|file| NewFile::public(file.target, file.data)));
    let placed = place::put(files.collect())?;
    let mut outcome = Outcome { lines: Vec::new(), changed: false };
    for (target, what) in told {
        let real = target.canonicalize().unwrap_or_else(|_| target.clone());
        let is_new = placed.changed().contains(&real);
        outcome.changed |= is_new;
        outcome.lines.push(format!("{}: {} ({what})", target.display(), if is_new { "replaced" } else { "unchanged" }));
    }
    placed.keep();
    Ok(outcome)
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "sync_signed_tests.rs"]
mod signed_tests;
