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
use crate::place::{self, PlaceError};
use crate::sshd::{self, SshdError};
use crate::sync::{SyncError, lock};

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
    /// Something else is at work.
    #[error("{0}")]
    Busy(#[from] SyncError),
}

/// Renews all certificates of this host. What it did, for people.
/// # Errors
/// [`RenewError`]
pub fn renew(config: &Config, same_machine: bool) -> Result<Vec<String>, RenewError> {
    let _lock = lock(config)?;
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
    let placed = place::put(files)?;
    match sshd::test().and_then(|()| sshd::effective()).and_then(|effective| effective.reload()) {
        Ok(_runs) => placed.keep(),
        Err(problem) => {
            return Err(match placed.undo() {
                Ok(()) => RenewError::Sshd(Box::new(problem)),
                Err(mixed) => RenewError::Mixed { problem: Box::new(problem), mixed },
            });
        }
    }
    if let Err(e) = pending.confirm() {
        told.push(format!("the CA was not told that all is in place, and says so in its inventory: {e}"));
    }
    Ok(told)
}
