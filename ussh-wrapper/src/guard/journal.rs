//! What was asked of the guarded agent, and what became of it: one JSON object a line in `~/.local/state/ussh/agent.log`, for `ussh --log`.
//!
//! Foreign words are escaped and cut before they are written. The file is the user's alone and at most twice [`MAX_SIZE`] long, its predecessor included; refusals are noted
//! at a bounded rate, so that a host that asks for refusals all day cannot wash away what it was given.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::{Deserialize, Serialize};

/// Size at which the file becomes the predecessor, bytes.
pub const MAX_SIZE: u64 = 1024 * 1024;
/// Most refusals noted in one minute.
const MAX_REFUSALS: u32 = 30;

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
    /// Refusals before this one that were not noted, there being too many.
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
    refusals: Mutex<Rate>,
}

#[derive(Debug, Default)]
struct Rate {
    minute: u64,
    noted: u32,
    not_noted: u32,
}

impl Journal {
    /// The user's. Without a home folder nothing is noted.
    pub fn of_this_user() -> Self {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        Journal { path: state.map(|state| state.join("ussh/agent.log")), refusals: Mutex::default() }
    }
    /// This file.
    pub fn at(path: PathBuf) -> Self {
        Journal { path: Some(path), refusals: Mutex::default() }
    }

    /// Notes it. Whatever keeps it from being written keeps nobody from his work: a full disk is no reason to be locked out of sudo.
    pub fn note(&self, mut entry: Entry) {
        let Some(path) = &self.path else { return };
        if entry.outcome == Outcome::Refused {
            match self.admit_refusal(entry.time / 60) {
                Some(not_noted) => entry.not_noted = not_noted,
                None => return,
            }
        }
        // Strings and numbers: nothing in it can fail to be written.
        let Ok(mut line) = serde_json::to_vec(&entry) else { return };
        line.push(b'\n');
        let _ = append(path, &line);
    }

    /// How many were passed over since the last one that was noted; `None`: so is this one.
    fn admit_refusal(&self, minute: u64) -> Option<u32> {
        let mut rate = self.refusals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if rate.minute != minute {
            (rate.minute, rate.noted) = (minute, 0);
        }
        if rate.noted >= MAX_REFUSALS {
            rate.not_noted = rate.not_noted.saturating_add(1);
            return None;
        }
        rate.noted += 1;
        Some(std::mem::take(&mut rate.not_noted))
    }

    /// All of it, oldest first. A line that is none of ours is passed over.
    /// # Errors
    /// A file is there and cannot be read.
    pub fn read(&self) -> io::Result<Vec<Entry>> {
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for path in [&predecessor(path), path] {
            match std::fs::read(path) {
                Ok(data) => entries
                    .extend(data.split(|byte| *byte == b'\n').filter_map(|l| serde_json::from_slice::<Entry>(l).ok())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }
}

fn predecessor(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = locked(path)?;
    if file.metadata()?.len() >= MAX_SIZE {
        std::fs::rename(path, predecessor(path))?;
        file = locked(path)?;
    }
    file.write_all(line)
}

/// The file that is under the name when the lock is had: another process may have put it aside meanwhile.
fn locked(path: &Path) -> io::Result<Flock<File>> {
    loop {
        let file = open(path)?;
        let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
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
    options.append(true).create(true).mode(0o600).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits());
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
        let long = "x".repeat(100_000);
        for time in 0..40 {
            journal.note(entry(time, Outcome::Signed, &long));
        }
        let sizes = [path.metadata().unwrap().len(), predecessor(&path).metadata().unwrap().len()];
        assert!(sizes.iter().all(|size| *size < MAX_SIZE + 200_000), "{sizes:?}");
        let times: Vec<u64> = journal.read().unwrap().iter().map(|entry| entry.time).collect();
        assert!(times.len() >= 11 && times.is_sorted() && times.last() == Some(&39), "{times:?}");
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_does_not_push_out_what_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::at(folder.path().join("agent.log"));
        journal.note(entry(60, Outcome::Signed, "sudo"));
        for _ in 0..1000 {
            journal.note(entry(60, Outcome::Refused, "lock"));
        }
        journal.note(entry(61, Outcome::Signed, "again"));
        journal.note(entry(120, Outcome::Refused, "lock"));
        let entries = journal.read().unwrap();
        assert_eq!(entries.len(), 33);
        assert_eq!(entries.last().unwrap().not_noted, 970);
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
