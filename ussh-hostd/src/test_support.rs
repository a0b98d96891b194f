//! For tests: a CA, its certificates and lists, folders that only root can change, and an agent that answers from a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use ussh_core::agent::{Identity, Request, frame};
use ussh_core::ca_file::TrustedCas;
use ussh_core::certificate::{Certificate, CertificateKind, CertificateOption};
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::PrivateKey;
use ussh_core::record::SessionRecord;
use ussh_core::revoked::{KrlTemplate, RevokedKeys, RevokedOf};
use ussh_os::process;

use crate::spool::ConnectionId;
use crate::trust::Trust;

/// A folder on a path that root alone can change, as all trusted files must lie: these tests are run by root.
pub fn trusted_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/run").expect("a folder in /run: run these tests as root")
}

/// The present, and `offset` seconds more.
pub fn from_now(offset: i64) -> UnixTime {
    UnixTime(SystemClock.now().0.checked_add_signed(offset).unwrap())
}

pub struct Ca(pub PrivateKey);

impl Ca {
    pub fn new() -> Self {
        Ca(PrivateKey::generate_ed25519().unwrap())
    }

    /// A key with a certificate that ends `seconds` from now.
    pub fn issue(&self, key_id: &str, serial: u64, seconds: i64) -> (Certificate, PrivateKey) {
        self.issue_with(key_id, serial, seconds, &[key_id], &[])
    }

    /// The same with these principals and critical options.
    pub fn issue_with(
        &self,
        key_id: &str,
        serial: u64,
        seconds: i64,
        principals: &[&str],
        options: &[(&str, &str)],
    ) -> (Certificate, PrivateKey) {
        self.issue_until(from_now(seconds), key_id, serial, principals, options)
    }

    /// The same that is good until then.
    pub fn issue_until(
        &self,
        valid_before: UnixTime,
        key_id: &str,
        serial: u64,
        principals: &[&str],
        options: &[(&str, &str)],
    ) -> (Certificate, PrivateKey) {
        let key = PrivateKey::generate_ed25519().unwrap();
        let template = CertificateTemplate {
            public_key: key.public_key(),
            serial,
            kind: CertificateKind::User,
            key_id: key_id.into(),
            principals: principals.iter().map(|p| (*p).into()).collect(),
            valid_after: from_now(-3600),
            valid_before,
            critical_options: options.iter().map(|(name, value)| CertificateOption::string(name, value)).collect(),
            extensions: Vec::new(),
        };
        (template.sign(&self.0).unwrap(), key)
    }

    pub fn krl(&self, version: u64, generated: UnixTime, serials: &[u64]) -> Vec<u8> {
        let mut krl = KrlTemplate::new(version, generated, "");
        krl.certificates = vec![RevokedOf::serials(self.0.public_key(), serials)];
        krl.to_bytes()
    }

    pub fn trust(&self, revoked: &[u64]) -> Trust {
        let krl = RevokedKeys::parse(&self.krl(1, from_now(0), revoked)).unwrap();
        Trust::new(TrustedCas::from_keys(vec![self.0.public_key()]), Some(krl))
    }

    pub fn line(&self) -> String {
        format!("{}\n", self.0.public_key().to_openssh("ca"))
    }
}

/// A host key with a certificate for these names, valid from and to so many seconds from now.
pub fn host_certificate(ca: &Ca, names: &[&str], from: i64, to: i64) -> (Certificate, PrivateKey) {
    let key = PrivateKey::generate_ed25519().unwrap();
    let template = CertificateTemplate {
        public_key: key.public_key(),
        serial: 1,
        kind: CertificateKind::Host,
        key_id: names[0].into(),
        principals: names.iter().map(|name| (*name).into()).collect(),
        valid_after: from_now(from),
        valid_before: from_now(to),
        critical_options: Vec::new(),
        extensions: Vec::new(),
    };
    (template.sign(&ca.0).unwrap(), key)
}

/// This very process, as a connection.
pub fn this_process() -> ConnectionId {
    let pid = std::process::id();
    ConnectionId { pid, start_time: process::start_time(pid).unwrap() }
}

/// A record of this process, so that it lives.
pub fn record_of(id: ConnectionId, certificate: Option<&Certificate>) -> SessionRecord {
    SessionRecord {
        version: 1,
        pid: id.pid,
        start_time: id.start_time,
        boot_id: process::boot_id().unwrap(),
        user: "alice".into(),
        uid: 1000,
        rhost: "192.0.2.1".into(),
        certificate: certificate.map(|c| c.to_openssh("")),
        opened: from_now(-10),
    }
}

/// Answers until the other end is closed. `sign` gets the key of the blob, if it is known, and what is to be signed.
pub fn serve_agent(
    mut stream: UnixStream,
    keys: &[(Certificate, PrivateKey)],
    sign: fn(&PrivateKey, &[u8]) -> Vec<u8>,
) {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut payload).unwrap();
        let identity = |c: &Certificate| Identity { blob: c.blob().to_vec(), comment: b"test".to_vec() };
        let answer = match Request::parse(&payload) {
            Request::List => frame::identities(&keys.iter().map(|(c, _)| identity(c)).collect::<Vec<_>>()),
            Request::Sign { blob, data, .. } => match keys.iter().find(|(c, _)| c.blob() == blob) {
                Some((_, key)) => frame::signature(&sign(key, &data)),
                None => frame::failure(),
            },
            Request::AddCertificate { .. } | Request::Remove { .. } | Request::Challenge { .. } | Request::Other(_) => {
                frame::failure()
            }
        };
        // The asker may have gone: it has its deadline.
        let _ = stream.write_all(&answer);
    }
}

/// What an honest agent does.
pub fn honest(key: &PrivateKey, data: &[u8]) -> Vec<u8> {
    key.sign(data).unwrap()
}
