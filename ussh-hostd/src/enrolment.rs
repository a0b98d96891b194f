//! Whose host this is: written when it is enrolled, read by `renew`, by an `ssh:` feed, and by whoever asks how things stand.
//!
//! `host.json` in the state folder, root's alone, and beside it `ca_known_hosts`, the CA's key for the system's ssh.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ussh_core::digest::{hexadecimal, sha256};
use ussh_core::keys::PublicKey;

use crate::own_file::{self, OwnFileError};
use crate::place::NewFile;

const FILE: &str = "host.json";
const KNOWN_HOSTS: &str = "ca_known_hosts";
/// The one version that is read.
const VERSION: u32 = 1;
/// Largest file, bytes.
const MAX_FILE: usize = 64 * 1024;
/// machine-id(5), and where it lies without systemd.
const MACHINE_ID: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// An enrolment. Unknown names are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    version: u32,
    /// The CA, as ssh is told it.
    pub ca: String,
    /// Its port.
    pub port: u16,
    /// This host's name in the CA's inventory.
    pub host: String,
    /// The CA of its certificates: `type base64`.
    host_ca: String,
    /// Private host keys that have a certificate, which lies beside each with `-cert.pub` behind its name.
    pub keys: Vec<PathBuf>,
    /// [`machine_id`] of the machine that was enrolled, if it had one.
    pub machine: Option<String>,
    /// Seconds since the epoch.
    pub enrolled: u64,
}

/// Why there is no enrolment to go by.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// It is not enrolled.
    #[error(
        "this host is not enrolled: `usshca host token NAME` on the CA makes a token, and `ussh-hostd enroll CA` takes it"
    )]
    None,
    /// What it is enrolled as does not read.
    #[error(transparent)]
    File(#[from] OwnFileError),
}

impl Enrolment {
    /// A new one.
    pub fn new(ca: &str, port: u16, host: &str, host_ca: &PublicKey, keys: Vec<PathBuf>, enrolled: u64) -> Self {
        Enrolment {
            version: VERSION,
            ca: ca.to_owned(),
            port,
            host: host.to_owned(),
            host_ca: host_ca.to_openssh(""),
            keys,
            machine: machine_id(),
            enrolled,
        }
    }

    /// Reads it.
    /// # Errors
    /// [`EnrolmentError`]
    pub fn read(state: &Path) -> Result<Self, EnrolmentError> {
        let path = state.join(FILE);
        let read: Enrolment = own_file::read(&path, MAX_FILE)?.ok_or(EnrolmentError::None)?;
        own_file::refuse_others(&path, "version", read.version, VERSION)?;
        read.host_ca().map_err(|e| OwnFileError::content(&path, e))?;
        Ok(read)
    }

    /// The CA of its certificates.
    /// # Errors
    /// It does not read.
    pub fn host_ca(&self) -> Result<PublicKey, ussh_core::keys::KeyError> {
        PublicKey::from_openssh(&self.host_ca)
    }

    /// The files to be written.
    /// # Errors
    /// None that can be: it is made of strings and numbers.
    pub fn files(&self, state: &Path) -> Result<[NewFile; 2], serde_json::Error> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        // sshd on another port than 22 has a name of its own in known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
        let name = if self.port == 22 { self.ca.clone() } else { format!("[{}]:{}", self.ca, self.port) };
        let line = format!("@cert-authority {name} {}\n", self.host_ca);
        Ok([NewFile::private(state.join(FILE), text), NewFile::public(known_hosts(state), line)])
    }

    /// Whether this is another machine than the one that was enrolled: a copy of its disk. A machine without an ID is not told apart.
    pub fn is_a_copy(&self) -> bool {
        self.machine.is_some() && self.machine != machine_id()
    }
}

/// The CA's key, for the system's ssh.
pub fn known_hosts(state: &Path) -> PathBuf {
    state.join(KNOWN_HOSTS)
}

/// A digest of this machine's ID: the ID itself is not to be spread (machine-id(5)). `None`: it has none.
pub fn machine_id() -> Option<String> {
    let text = MACHINE_ID.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    let id = text.trim();
    // "uninitialized": an image at its first boot.
    if id.len() < 32 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some(hexadecimal(&sha256(format!("ussh-hostd machine {id}").as_bytes())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::test_support::{Ca, trusted_folder};

    fn some() -> Enrolment {
        Enrolment::new("ca.example.com", 2222, "web1", &Ca::new().0.public_key(), vec!["/k".into()], 7)
    }

    #[test]
    fn what_is_written_is_read_and_the_port_is_in_known_hosts() {
        let folder = trusted_folder();
        assert!(matches!(Enrolment::read(folder.path()), Err(EnrolmentError::None)));
        let enrolment = some();
        crate::place::put(enrolment.files(folder.path()).unwrap().into()).unwrap().keep();
        assert_eq!(Enrolment::read(folder.path()).unwrap(), enrolment);
        let line = std::fs::read_to_string(known_hosts(folder.path())).unwrap();
        assert!(line.starts_with("@cert-authority [ca.example.com]:2222 ssh-ed25519 "), "{line}");
    }

    #[test]
    fn a_machine_is_told_apart_by_its_id_alone() {
        let here = some();
        assert_eq!(here.machine, machine_id());
        assert!(!here.is_a_copy());
        assert!(Enrolment { machine: Some("0".repeat(64)), ..here.clone() }.is_a_copy());
        assert!(!Enrolment { machine: None, ..here }.is_a_copy());
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        let folder = trusted_folder();
        for (from, to, reason) in [
            ("\"version\": 1", "\"version\": 2", "version 2"),
            ("\"ca\"", "\"cb\"", "unknown field"),
            ("ssh-ed25519", "ssh-x", ""),
        ] {
            let [file, _] = some().files(folder.path()).unwrap();
            let text = String::from_utf8(file.data).unwrap().replacen(from, to, 1);
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let error = Enrolment::read(folder.path()).unwrap_err();
            let EnrolmentError::File(OwnFileError::Content { problem, .. }) = &error else { panic!("{error}") };
            assert!(problem.contains(reason), "{error}");
        }
    }
}
