//! What was asked of the guarded agent, and what became of it: one JSON object a line in `~/.local/state/ussh/agent.log`, for `ussh --log`.
//!
//! Foreign words are escaped and cut before they are written. The file is the user's alone and at most twice [`MAX_SIZE`] long, its predecessor included; each ssh process has its share
//! of it, so that a host that asks all day can neither wash away what it was given nor hide what another asked for.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::{Deserialize, Serialize};
use ussh_os::account::Account;
use ussh_os::process;

use super::shares::Shares;

/// The file, below the home folder.
const LOG: &str = ".local/state/ussh/agent.log";
/// Size at which the file becomes the predecessor, bytes.
pub const MAX_SIZE: u64 = 4 * 1024 * 1024;
/// Most that is read of one file, bytes, of its end: more than any has that was written here.
const MAX_READ: u64 = MAX_SIZE + 1024 * 1024;
/// How long another process may hold the file's lock before its lines are kept for later. The lock is had for one line; but the file may be on a server, and its holder a machine that sleeps.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);
/// How often the lock is tried for meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(10);
/// How long after that in vain nobody waits for it again.
const TRIED_LATELY: Duration = Duration::from_secs(5);
/// No link is followed, and nothing that is no file waited for.
const FLAGS: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);
/// Most lines that are kept for later. Those beyond are lost.
const MAX_KEPT: usize = 1024;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Seconds since the Unix epoch.
    pub time: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// What was asked for, or why it was refused: a sentence.
    pub what: String,
    /// The challenge, if it came in clear. All of it is the host's word; what was signed says the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub challenge: Option<Told>,
    /// Key ID of the certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_id: Option<String>,
    /// Its serial number, in decimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serial: Option<String>,
    /// Fingerprint of the host key of the connection over which it came, as our own ssh told it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host_key: Option<String>,
    /// Process ID of the ssh over which it came.
    pub process: i32,
    /// Such before this one, over the same ssh, that were not noted, there being too many: refused ones, or signed ones that equal ones which were noted.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub not_noted: u32,
}

/// A challenge's fields, escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// The machine that asks.
    pub host: String,
    /// PAM service, or `ussh-hostd`.
    pub service: String,
    /// PAM_USER.
    pub user: String,
    /// PAM_RUSER.
    pub ruser: String,
    /// PAM_TTY.
    pub tty: String,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The challenge was signed.
    Signed,
    /// It was not, or it was no challenge.
    Refused,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Entry {
    /// One line for people: when, what became of it, what, over which connection.
    pub fn to_text(&self) -> String {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.time)).unwrap_or(SystemTime::UNIX_EPOCH);
        let outcome = match self.outcome {
            Outcome::Signed => "signed ",
            Outcome::Refused => "refused",
        };
        let mut text = format!("{}  {outcome}  {}", humantime::format_rfc3339_seconds(at), self.what);
        if let (Some(key_id), Some(serial)) = (&self.key_id, &self.serial) {
            text += &format!("  [{key_id} serial {serial}]");
        }
        if let Some(host_key) = &self.host_key {
            text += &format!("  over the connection to {host_key}");
        }
        if self.not_noted > 0 {
            text += &format!("  ({} more before it)", self.not_noted);
        }
        text
    }
}

/// Where it is written.
#[derive(Debug)]
pub struct Journal {
    path: Option<PathBuf>,
    shares: Mutex<Shares>,
    kept: Mutex<Kept>,
}

/// Lines that are not written yet, the oldest first.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Vec<u8>>,
    /// When the lock was waited for in vain.
    tried: Option<Instant>,
}

impl Journal {
    /// The user's, below HOME if that folder is the user's own (root may run with somebody else's), else below the account's. Without one nothing is noted.
    pub fn of_this_user() -> Self {
        let uid = process::real_uid();
        let account = || Account::by_uid(uid).ok().flatten().map(|account| account.home);
        let named = std::env::var_os("HOME").map(PathBuf::from);
        let home = named.filter(|home| is_own(home, uid)).or_else(|| account().filter(|home| is_own(home, uid)));
        Journal { path: home.map(|home| home.join(LOG)), shares: Mutex::default(), kept: Mutex::default() }
    }
    /// This file.
    pub fn at(path: PathBuf) -> Self {
        Journal { path: Some(path), shares: Mutex::default(), kept: Mutex::default() }
    }

    /// Whether one more challenge that is noted as `text` may be signed over this ssh: what would be too much to note is too much to sign. Counted if so.
    pub fn may_sign(&self, process: i32, time: u64, text: &str) -> bool {
        self.shares().may_sign(process, time, text)
    }

    /// Notes it. Whatever keeps it from being written keeps nobody from his work: a full disk is no reason to be locked out of sudo. While another process holds the file's lock it is kept for
    /// later.
    pub fn note(&self, entry: Entry) {
        let admitted = self.shares().admit(entry);
        self.write(admitted);
    }

    /// Notes what was counted only, of minutes that are over at `time`; of all with `None`. To be called every few seconds, and at the end.
    pub fn note_rest(&self, time: Option<u64>) {
        let rest = self.shares().rest(time);
        self.write(rest);
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, entries: impl IntoIterator<Item = Entry>) {
        let Some(path) = &self.path else { return };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            // Strings and numbers: nothing in it can fail to be written.
            let Ok(mut line) = serde_json::to_vec(&entry) else { return };
            line.push(b'\n');
            if kept.lines.len() < MAX_KEPT {
                kept.lines.push_back(line);
            }
        }
        while let Some(line) = kept.lines.front() {
            let was_tried = kept.tried.is_some_and(|tried| tried.elapsed() < TRIED_LATELY);
            let patience = if was_tried { Duration::ZERO } else { LOCK_PATIENCE };
            match append(path, line, patience) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !was_tried {
                        kept.tried = Some(Instant::now());
                    }
                    return;
                }
                Ok(()) | Err(_) => {
                    kept.tried = None;
                    kept.lines.pop_front();
                }
            }
        }
    }

    /// All of it, oldest first. A line that is none of ours is passed over.
    /// # Errors
    /// A file is there and cannot be read, or is none.
    pub fn read(&self) -> io::Result<Vec<Entry>> {
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for path in [&predecessor(path), path] {
            match read_end(path) {
                Ok(data) => entries
                    .extend(data.split(|byte| *byte == b'\n').filter_map(|l| serde_json::from_slice::<Entry>(l).ok())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }
}

fn is_own(home: &Path, uid: u32) -> bool {
    home.is_absolute() && home.metadata().is_ok_and(|home| home.uid() == uid)
}

fn predecessor(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// The last [`MAX_READ`] bytes: the first line of a longer one is torn, and passed over.
fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a named pipe would wait for its other end.
    let mut file = OpenOptions::new().read(true).custom_flags(FLAGS.bits()).open(path)?;
    let length = regular(&file, path)?;
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_READ)))?;
    let mut data = Vec::new();
    file.take(MAX_READ).read_to_end(&mut data)?;
    Ok(data)
}

/// Its length, if it is a file.
fn regular(file: &File, path: &Path) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    Err(io::Error::other(format!("{} is no regular file", path.display())))
}

/// [`io::ErrorKind::WouldBlock`]: another has had the lock for all of `patience`.
fn append(path: &Path, line: &[u8], patience: Duration) -> io::Result<()> {
    let until = Instant::now() + patience;
    let mut file = locked(path, until)?;
    let mut length = file.metadata()?.len();
    if length >= MAX_SIZE {
        std::fs::rename(path, predecessor(path))?;
        file = locked(path, until)?;
        length = file.metadata()?.len();
    }
    // What a full disk let in of a line before is not to swallow this one.
    if ends_within_a_line(&file, length)? {
        file.write_all(b"\n")?;
    }
    file.write_all(line)
}

fn ends_within_a_line(file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// The file that is under the name when the lock is had: another process may have put it aside meanwhile.
fn locked(path: &Path, until: Instant) -> io::Result<Flock<File>> {
    loop {
        let mut file = open(path)?;
        regular(&file, path)?;
        let file = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => break locked,
                Err((again, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < until => file = again,
                Err((_, errno)) => return Err(errno.into()),
            }
            std::thread::sleep(TRY_EVERY);
        };
        if path
            .symlink_metadata()
            .is_ok_and(|now| file.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (now.dev(), now.ino())))
        {
            return Ok(file);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(FLAGS.bits());
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            options.open(path)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn entry(time: u64, outcome: Outcome, what: &str) -> Entry {
        Entry {
            time,
            outcome,
            what: what.into(),
            challenge: None,
            key_id: Some("alice".into()),
            serial: Some("7".into()),
            host_key: None,
            process: 1,
            not_noted: 0,
        }
    }

    #[test]
    fn what_was_noted_is_read_again_and_the_file_is_the_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/ussh/agent.log");
        let journal = Journal::at(path.clone());
        assert_eq!(journal.read().unwrap(), []);
        let wanted = [entry(0, Outcome::Signed, "web1: sudo as alice"), entry(90, Outcome::Refused, "lock")];
        wanted.iter().for_each(|entry| journal.note(entry.clone()));
        assert_eq!(journal.read().unwrap(), wanted);
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o7777, 0o700);
        assert_eq!(wanted[0].to_text(), "1970-01-01T00:00:00Z  signed   web1: sudo as alice  [alice serial 7]");
    }

    #[test]
    fn it_does_not_grow_beyond_its_bound_and_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        let journal = Journal::at(path.clone());
        let long = "x".repeat(400_000);
        for time in 0..40 {
            journal.note(entry(time, Outcome::Signed, &format!("{time} {long}")));
        }
        let sizes = [path.metadata().unwrap().len(), predecessor(&path).metadata().unwrap().len()];
        assert!(sizes.iter().all(|size| *size < MAX_SIZE + 800_000), "{sizes:?}");
        let times: Vec<u64> = journal.read().unwrap().iter().map(|entry| entry.time).collect();
        assert!(times.len() >= 11 && times.is_sorted() && times.last() == Some(&39), "{times:?}");
    }

    fn of(process: i32, time: u64, outcome: Outcome, what: &str) -> Entry {
        Entry { process, ..entry(time, outcome, what) }
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_hides_neither_what_was_signed_nor_what_another_host_asked() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::at(folder.path().join("agent.log"));
        journal.note(entry(60, Outcome::Signed, "sudo"));
        for _ in 0..1000 {
            journal.note(entry(60, Outcome::Refused, "lock"));
        }
        journal.note(entry(61, Outcome::Signed, "again"));
        journal.note(of(2, 61, Outcome::Refused, "another's"));
        journal.note(entry(120, Outcome::Refused, "lock"));
        let entries = journal.read().unwrap();
        assert_eq!(entries.len(), 14);
        assert_eq!((entries[12].what.as_str(), entries[12].not_noted), ("another's", 0));
        assert_eq!(entries[13].not_noted, 990);
    }

    #[test]
    fn what_was_counted_only_is_noted_when_its_minute_is_over_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::at(folder.path().join("agent.log"));
        for _ in 0..30 {
            journal.note(entry(60, Outcome::Refused, "lock"));
        }
        journal.note_rest(Some(119));
        assert_eq!(journal.read().unwrap().len(), 10, "its minute is not over");
        journal.note_rest(Some(120));
        journal.note_rest(Some(120));
        let entries = journal.read().unwrap();
        assert_eq!((entries.len(), entries[10].not_noted), (11, 19));
        for _ in 0..12 {
            journal.note(entry(180, Outcome::Refused, "lock"));
        }
        journal.note_rest(None);
        let entries = journal.read().unwrap();
        assert_eq!((entries.len(), entries[21].not_noted), (22, 1));
    }

    #[test]
    fn of_signed_ones_each_text_is_noted_at_once_and_equal_ones_beyond_ten_a_minute_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::at(folder.path().join("agent.log"));
        for _ in 0..40 {
            journal.note(entry(60, Outcome::Signed, "web1: sudo as alice"));
        }
        journal.note(entry(60, Outcome::Signed, "web1: sudo as bob"));
        let entries = journal.read().unwrap();
        assert_eq!(entries.len(), 11);
        assert_eq!((entries[10].what.as_str(), entries[10].not_noted), ("web1: sudo as bob", 30));
        assert!(entries[10].to_text().ends_with("  (30 more before it)"), "{}", entries[10].to_text());
    }

    #[test]
    fn one_ssh_has_so_much_signed_a_minute_and_so_many_different_ones_an_hour_and_another_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::at(folder.path().join("agent.log"));
        let signed = |process, time, text: &str| {
            let may = journal.may_sign(process, time, text);
            if may {
                journal.note(of(process, time, Outcome::Signed, text));
            }
            may
        };
        assert_eq!((0..100).filter(|_| signed(1, 3600, "sudo")).count(), 60);
        assert!(signed(2, 3600, "sudo"), "another ssh");
        assert_eq!((0..100).filter(|_| signed(1, 3660, "sudo")).count(), 60, "the next minute");
        // "sudo" is one of the hundred.
        let different = (0..200).filter(|n| signed(1, 3720 + n, &format!("sudo on {n}"))).count();
        assert_eq!(different, 99);
        assert!(signed(1, 3960, "sudo on 3"), "one that was noted this hour");
        assert!(signed(1, 7200, "sudo on 150"), "the next hour");
    }

    #[test]
    fn a_line_that_was_torn_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        let journal = Journal::at(path.clone());
        let wanted = [entry(0, Outcome::Signed, "before"), entry(90, Outcome::Signed, "behind")];
        journal.note(wanted[0].clone());
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"time\":1,\"outc").unwrap();
        journal.note(wanted[1].clone());
        assert_eq!(journal.read().unwrap(), wanted);
    }

    #[test]
    fn while_another_holds_the_lock_nobody_waits_long_and_what_was_noted_meanwhile_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        let journal = Journal::at(path.clone());
        let wanted: Vec<Entry> = (0..20).map(|time| entry(time, Outcome::Signed, &format!("{time}"))).collect();
        journal.note(wanted[0].clone());
        let held = Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusive).unwrap();
        let begun = Instant::now();
        wanted[1..].iter().for_each(|entry| journal.note(entry.clone()));
        journal.note_rest(Some(0));
        let took = begun.elapsed();
        assert!((LOCK_PATIENCE..LOCK_PATIENCE * 5).contains(&took), "{took:?}");
        assert_eq!(journal.read().unwrap(), wanted[..1]);
        drop(held);
        journal.note_rest(Some(0));
        assert_eq!(journal.read().unwrap(), wanted);
    }

    #[test]
    fn of_what_is_no_file_nothing_is_read_and_to_it_nothing_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let journal = Journal::at(path.clone());
        let error = journal.read().unwrap_err().to_string();
        assert_eq!(error, format!("{} is no regular file", path.display()));
        // More than the pipe holds.
        for time in 0..100 {
            journal.note(entry(time, Outcome::Signed, &"x".repeat(4096)));
        }
    }

    #[test]
    fn of_a_file_that_somebody_made_huge_the_end_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let wanted = entry(7, Outcome::Signed, "sudo");
        let line = [&b"\n"[..], &serde_json::to_vec(&wanted).unwrap(), b"\n"].concat();
        file.write_all_at(&line, 1 << 40).unwrap();
        assert_eq!(Journal::at(path).read().unwrap(), [wanted]);
    }

    #[test]
    fn somebody_elses_home_folder_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let uid = process::real_uid();
        assert!(is_own(folder.path(), uid));
        assert!(!is_own(folder.path(), uid + 1));
        assert!(!is_own(&folder.path().join("missing"), uid) && !is_own(Path::new("."), uid));
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        Journal::at(path).note(entry(0, Outcome::Signed, "sudo"));
        assert!(!folder.path().join("elsewhere").exists());
    }
}
