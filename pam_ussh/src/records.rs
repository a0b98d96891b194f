//! The records of live sessions, as the `session` line of sshd's stack writes them: who is logged in under one uid.
//!
//! Trusted: records are root's. One that cannot be read may be anybody's, so it is never passed over.

use std::cmp::Reverse;
use std::io::ErrorKind;
use std::path::Path;

use ussh_core::certificate::Certificate;
use ussh_core::record::{RecordError, SessionRecord};
use ussh_os::process;
use ussh_os::process_tree::ProcessId;

/// Most records that are read: whoever has not read all of them cannot say that they agree. At some 30 µs each. They are everybody's, so that there must be room for more connections than
/// one user has any use for: else he could switch the search off for all.
pub const MAX_RECORDS: usize = 16 * 1024;

/// What lies at a process's place in the spool.
#[derive(Debug)]
pub enum Found {
    /// The record of this very process, in this boot.
    Live(Box<SessionRecord>),
    /// Nothing, or what another boot left.
    Nothing,
}

/// Reads the record of the connection whose open_session ran in `monitor`, a living process.
/// # Errors
/// [`RecordError`]
pub fn read(spool: &Path, monitor: ProcessId) -> Result<Found, RecordError> {
    match SessionRecord::read(&spool.join(format!("{}.json", monitor.stem()))) {
        Ok(record) if record.boot_id == process::boot_id()? => Ok(Found::Live(Box::new(record))),
        Ok(_) => Ok(Found::Nothing),
        Err(RecordError::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

/// Whether more than one session is recorded, of whomever, live or left over: a cheap look before the dear ones.
pub fn are_several(spool: &Path) -> bool {
    names(spool).is_ok_and(|names| names.filter(|name| matches!(name, Ok(Some(_)))).take(2).count() == 2)
}

/// Whether a connection is recorded that was opened after this one, and lives.
pub fn is_any_newer(spool: &Path, monitor: ProcessId) -> bool {
    let newer = |other: ProcessId| other.start_time > monitor.start_time && other.lives();
    names(spool).is_ok_and(|mut names| names.any(|name| matches!(name, Ok(Some(other)) if newer(other))))
}

/// The connections of one uid, where all are one person's.
#[derive(Debug, PartialEq, Eq)]
pub struct OnePerson {
    /// The key ID of every one of their certificates.
    pub key_id: Vec<u8>,
    /// The processes that ran open_session, newest first.
    pub monitors: Vec<ProcessId>,
}

/// Why it cannot be said whose agents these are.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOnePerson {
    /// Nobody is logged in under this uid, as far as records tell.
    #[error("no live session of this uid is recorded")]
    Nobody,
    /// Who that is, nothing tells.
    #[error("{0} of this uid logged in without a certificate")]
    WithoutCertificate(ProcessId),
    /// Its certificate names nobody.
    #[error("the certificate of {0} has an empty key ID")]
    Nameless(ProcessId),
    /// A shared account.
    #[error("live sessions of this uid have different key IDs")]
    SeveralPeople,
    /// More than [`MAX_RECORDS`].
    #[error("more than {MAX_RECORDS} live sessions are recorded")]
    TooMany,
    /// One that may be of this uid.
    #[error("record of {0}: {1}")]
    Unreadable(ProcessId, String),
    /// The spool itself.
    #[error("records: {0}")]
    NoRecords(String),
}

impl OnePerson {
    /// Whose agents are to be found under `uid`: every live record must hold a certificate, all with one key ID. An empty one names nobody.
    /// # Errors
    /// [`NotOnePerson`]
    pub fn under(uid: u32, spool: &Path) -> Result<Self, NotOnePerson> {
        let mut sessions = Vec::new();
        let mut key_id: Option<Vec<u8>> = None;
        for (monitor, record) in live(spool)?.into_iter().filter(|(_, record)| record.uid == uid) {
            let unreadable = |why: String| NotOnePerson::Unreadable(monitor, why);
            let line = record.certificate.as_deref().ok_or(NotOnePerson::WithoutCertificate(monitor))?;
            let certificate = Certificate::from_openssh(line).map_err(|error| unreadable(error.to_string()))?;
            match certificate.key_id() {
                b"" => return Err(NotOnePerson::Nameless(monitor)),
                other if key_id.as_deref().is_some_and(|known| known != other) => {
                    return Err(NotOnePerson::SeveralPeople);
                }
                one => key_id = Some(one.to_vec()),
            }
            sessions.push((record.opened, monitor));
        }
        sessions.sort_by_key(|(opened, monitor)| Reverse((*opened, monitor.start_time)));
        let monitors = sessions.into_iter().map(|(_, monitor)| monitor).collect();
        key_id.map(|key_id| OnePerson { key_id, monitors }).ok_or(NotOnePerson::Nobody)
    }
}

/// The records of living processes.
fn live(spool: &Path) -> Result<Vec<(ProcessId, SessionRecord)>, NotOnePerson> {
    let names = match names(spool) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(NotOnePerson::Nobody),
        other => other.map_err(|error| NotOnePerson::NoRecords(error.to_string()))?,
    };
    let mut records = Vec::new();
    for name in names {
        let monitor = name.map_err(|error| NotOnePerson::NoRecords(error.to_string()))?;
        let Some(monitor) = monitor.filter(|monitor| monitor.lives()) else { continue };
        if records.len() >= MAX_RECORDS {
            return Err(NotOnePerson::TooMany);
        }
        match read(spool, monitor) {
            Ok(Found::Live(record)) => records.push((monitor, *record)),
            // It has been closed meanwhile, or a process of this boot has the number and the tick of one of another.
            Ok(Found::Nothing) => {}
            Err(error) => return Err(NotOnePerson::Unreadable(monitor, error.to_string())),
        }
    }
    Ok(records)
}

/// The names of records, `None` for what is none (renewed certificates, files that are being written).
fn names(spool: &Path) -> std::io::Result<impl Iterator<Item = std::io::Result<Option<ProcessId>>>> {
    let entries = std::fs::read_dir(spool)?;
    Ok(entries
        .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| ProcessId::parse(name.strip_suffix(".json")?)))))
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
