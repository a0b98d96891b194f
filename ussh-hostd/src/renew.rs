//! `renew`: new certificates for the same host keys, by these keys. What cannot be put in place, or what sshd does not take, leaves the old ones where they are.

use std::path::PathBuf;

use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::enroll::Exchange;
use ussh_core::escape::escape;
use ussh_core::keys::{KeyError, PrivateKey};

use crate::ca_ssh::{CaError, CaServer};
use crate::config::Config;
use crate::enroll::{EnrollError, certificate_files, read_private};
use crate::enrolment::{Enrolment, EnrolmentError, known_hosts, machine_id};
use crate::host_key::{HostKey, useless};
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
    /// A clock is wrong, or the CA gives less than it did.
    #[error(
        "the CA's new certificate for {} ends at {new}, before the present one ({old}), which stays: is the CA's clock right? If it gives less time now: `ussh-hostd enroll` with a new token takes it", key.display()
    )]
    Sooner {
        /// The private key's file.
        key: PathBuf,
        /// When the new one ends.
        new: UnixTime,
        /// When the present one ends.
        old: UnixTime,
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
    refuse_a_step_back(&before, certificates, SystemClock.now())?;
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

/// A new certificate that ends before the present one says that a clock is wrong, or that the CA's policy is another one; as long as the present one is good there is no haste.
fn refuse_a_step_back(before: &[HostKey], new: &[Certificate], now: UnixTime) -> Result<(), RenewError> {
    for (key, new) in before.iter().zip(new) {
        let Ok(old) = &key.certificate else { continue };
        let (from, to) = (old.valid_after(), old.valid_before());
        let is_good = old.ca() == new.ca() && useless(old).is_none() && from <= now && now < to;
        if is_good && new.valid_before() < to {
            let key = key.key.clone();
            return Err(RenewError::Sooner { key, new: new.valid_before(), old: to });
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::test_support::{Ca, from_now, host_certificate};

    #[test]
    fn a_good_certificate_is_not_replaced_by_one_that_ends_before_it() {
        let ca = Ca::new();
        let of = |ca: &Ca, names: &[&str], from: i64, to: i64| host_certificate(ca, names, from, to).0;
        let judge = |old: Certificate, new: &Certificate| {
            let before = [HostKey { key: "/k".into(), certificate: Ok(old) }];
            refuse_a_step_back(&before, std::slice::from_ref(new), from_now(0))
        };
        let new = of(&ca, &["web1"], -10, 1000);
        let said = judge(of(&ca, &["web1"], -10, 1010), &new).unwrap_err().to_string();
        assert!(said.contains("ends at ") && said.contains("is the CA's clock right?"), "{said}");
        // One that ends later, no more than that.
        judge(of(&ca, &["web1"], -10, 1000), &new).unwrap();
        // A present one that clients do not take is no loss.
        for old in [of(&ca, &["web1"], 500, 1010), of(&ca, &["web1"], -900, -10), of(&Ca::new(), &["web1"], -10, 1010)]
        {
            judge(old, &new).unwrap();
        }
        let none = [HostKey { key: "/k".into(), certificate: Err("is missing".into()) }];
        refuse_a_step_back(&none, &[new], from_now(0)).unwrap();
    }
}
