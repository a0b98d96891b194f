//! `renew`: new certificates for the same host keys, by these keys. What cannot be put in place, or what sshd does not take, leaves the old ones where they are.

use std::path::PathBuf;

use ussh_core::enroll::Exchange;
use ussh_core::escape::escape;
use ussh_core::keys::{KeyError, PrivateKey};

use crate::ca_ssh::{CaError, CaServer};
use crate::config::Config;
use crate::enroll::{EnrollError, certificate_files, read_private};
use crate::enrolment::{Enrolment, EnrolmentError, known_hosts, machine_id};
use crate::host_key::HostKey;
use crate::place::{self, NewFile, PlaceError, Placed};
use crate::sshd::{self, SshdError};
use crate::sync::{SyncError, lock};
use crate::undisturbed::Undisturbed;
use crate::unread;

/// Why the old certificates are still there.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Not enrolled, or nobody knows.
    #[error("{0}")]
    Enrolment(#[from] EnrolmentError),
    /// A copy of the machine that was enrolled.
    #[error(
        "this machine is a copy of the host {0} (its machine ID is another one), and has its host keys: enroll it anew with `ussh-hostd enroll --new-keys`; if it is that host with a new ID: `ussh-hostd renew --same-machine`"
    )]
    Copy(String),
    /// A host key cannot be used.
    #[error("{0}")]
    Key(Box<EnrollError>),
    /// The CA of its certificates does not read.
    #[error("the enrolment's host CA: {0}")]
    HostCa(#[from] KeyError),
    /// The CA gave nothing.
    #[error("{0}")]
    Ca(#[from] CaError),
    /// What is to be remembered cannot be written.
    #[error("{0}")]
    Text(#[from] serde_json::Error),
    /// A file could not be put in place.
    #[error("{0}")]
    Place(#[from] PlaceError),
    /// sshd does not take them.
    #[error("{0}. The certificates of before are back")]
    Sshd(Box<SshdError>),
    /// sshd did not take them, and one could not be put back.
    #[error("{problem}; and {} could not be put back", mixed.display())]
    Mixed {
        /// What was wrong.
        problem: Box<SshdError>,
        /// The file.
        mixed: PathBuf,
    },
    /// They are in place, and sshd is not known to have read them.
    #[error("the new certificates are in place, but sshd has yet to read them: {0}")]
    Unread(Box<SshdError>),
    /// Something else is at work.
    #[error("{0}")]
    Busy(#[from] SyncError),
}

/// Renews all certificates of this host. What it did, for people.
/// # Errors
/// [`RenewError`]
pub fn renew(config: &Config, same_machine: bool) -> Result<Vec<String>, RenewError> {
    let _lock = lock(config)?;
    // What came before is to be read even if nothing new comes now. That it is not stays an alarm.
    let _ = unread::settle(config);
    let mut enrolment = Enrolment::read(&config.state)?;
    if enrolment.is_a_copy() && !same_machine {
        return Err(RenewError::Copy(escape(enrolment.host.as_bytes(), 256)));
    }
    let keys: Vec<PrivateKey> = enrolment
        .keys
        .iter()
        .map(|path| read_private(path))
        .collect::<Result<_, _>>()
        .map_err(|e| RenewError::Key(Box::new(e)))?;
    let before: Vec<HostKey> = enrolment.keys.iter().map(|key| HostKey::read(key)).collect();
    let file = known_hosts(&config.state);
    let exchange = Exchange::renew(enrolment.host_ca()?, Vec::new(), keys);
    let pending = CaServer::of(&enrolment, &file).certificates(exchange)?;

    let certificates = &pending.granted.certificates;
    let mut told = Vec::new();
    for (key, certificate) in before.iter().zip(certificates) {
        let names = |names: &[Vec<u8>]| names.iter().map(|name| escape(name, 256)).collect::<Vec<_>>().join(", ");
        told.push(format!("{}: certificate for {}", key.key.display(), names(certificate.principals())));
        if let Ok(old) = &key.certificate
            && old.principals() != certificate.principals()
        {
            told.push(format!("{}: the one before was for {}", key.key.display(), names(old.principals())));
        }
    }
    let mut files = certificate_files(&enrolment.keys, certificates);
    if same_machine {
        enrolment.machine = machine_id();
        files.extend(enrolment.files(&config.state)?);
    }
    let undisturbed = Undisturbed::begin();
    let taken_up = take_up(config, files);
    drop(undisturbed);
    if let Ok(()) | Err(RenewError::Unread(_)) = taken_up
        && let Err(e) = pending.confirm()
    {
        told.push(format!("the CA was not told that all is in place, and says so in its inventory: {e}"));
    }
    taken_up.map(|()| told)
}

/// Has sshd read what a renewal before this one has put in place.
/// # Errors
/// [`RenewError::Busy`], [`RenewError::Unread`]
pub fn reload(config: &Config) -> Result<(), RenewError> {
    let _lock = lock(config)?;
    unread::settle(config).map_err(|problem| RenewError::Unread(Box::new(problem)))
}

/// Puts them in place and has sshd read them. The mark is there for as long as sshd may have other ones than the disk.
fn take_up(config: &Config, files: Vec<NewFile>) -> Result<(), RenewError> {
    let was_behind = unread::is_marked(&config.state);
    // Nothing has changed: what was to be read before still is.
    let forget = || {
        if !was_behind {
            unread::clear(&config.state)
        }
    };
    unread::mark(&config.state)?;
    let placed = place::put(files).inspect_err(|e| {
        if !matches!(e, PlaceError::Mixed { .. }) {
            forget();
        }
    })?;
    let undo = |placed: Placed, problem: SshdError| match placed.undo() {
        Ok(()) => RenewError::Sshd(Box::new(problem)),
        Err(mixed) => RenewError::Mixed { problem: Box::new(problem), mixed },
    };
    let effective = match sshd::test().and_then(|()| sshd::effective()) {
        Ok(effective) => effective,
        Err(problem) => {
            let undone = undo(placed, problem);
            if matches!(undone, RenewError::Sshd(_)) {
                forget();
            }
            return Err(undone);
        }
    };
    match effective.reload() {
        Ok(_runs) => placed.keep(),
        // It reads them when it is started anew, and OpenSSH before 9.8 with the next connection.
        Err(problem @ SshdError::Unclear(_)) => {
            placed.keep();
            return Err(RenewError::Unread(Box::new(problem)));
        }
        // It was told, and which ones it has read is not known.
        Err(problem) => return Err(undo(placed, problem)),
    }
    unread::clear(&config.state);
    Ok(())
}
