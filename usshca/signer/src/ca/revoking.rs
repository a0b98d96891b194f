//! Revoking, lifting, and the KRL of both CAs.

use base64ct::{Base64Unpadded, Encoding};
use ussh_core::clock::UnixTime;
use ussh_core::revoked::{KrlTemplate, RevokedError, RevokedKeys, RevokedOf};
use usshca_ipc::admin::{self, Revoke};

use super::Ca;
use crate::inventory::{InventoryError, Kind, Lifted, Revocation, RevokedHere};
use crate::log;

/// Why there is no KRL.
#[derive(Debug, thiserror::Error)]
pub enum KrlError {
    /// The inventory.
    #[error("{0}")]
    Inventory(#[from] InventoryError),
    /// What was made does not read.
    #[error("the new KRL does not read: {0}")]
    Unreadable(#[from] RevokedError),
    /// A fingerprint in the inventory that is none.
    #[error("the inventory holds a revoked key that is no SHA256 fingerprint")]
    Fingerprint,
    /// It reads as another one.
    #[error("the new KRL reads as another one")]
    Different,
}

impl Ca {
    /// Revokes; `by` is who asked.
    /// # Errors
    /// [`InventoryError`]
    pub fn revoke(&mut self, what: Revoke, by: &str, reason: &str) -> Result<Revocation, InventoryError> {
        let mut what = what;
        if let Revoke::Ca { kind, fingerprint } = &mut what {
            *fingerprint = self.ca_key((*kind).into()).public_key().fingerprint();
        }
        let done = self.inventory.revoke(&what, self.clock.now(), by, reason)?;
        log::info(&revocation_line(&what, by, reason, done));
        if matches!(done, Revocation::Done { .. }) {
            self.note_change();
        }
        Ok(done)
    }

    /// Lifts a revocation; `by` is who asked.
    /// # Errors
    /// [`InventoryError`]
    pub fn lift(&mut self, act: u64, by: &str) -> Result<Lifted, InventoryError> {
        let done = self.inventory.lift(act, self.clock.now(), by)?;
        if let Lifted::Done { certificates, held } = done {
            let held = if held == 0 { String::new() } else { format!(", {held} stay revoked by another one") };
            log::warning(&format!("Lifted revocation {act} by {by}: {certificates} certificates are good again{held}"));
            self.note_change();
        }
        Ok(done)
    }

    /// The KRL of all that is revoked and not over, for both CAs: the last one, if that is younger than a minute and nothing was revoked or lifted since.
    /// # Errors
    /// [`KrlError`]
    pub fn krl(&mut self) -> Result<Vec<u8>, KrlError> {
        if let Some(krl) = self.feed.kept_krl(self.now()) {
            return Ok(krl.to_vec());
        }
        self.krl_of_now().map(|(_, _, krl)| krl)
    }

    /// A new one with its version, which is above every one before, and its time.
    /// # Errors
    /// [`KrlError`]
    pub fn krl_of_now(&mut self) -> Result<(u64, UnixTime, Vec<u8>), KrlError> {
        let now = self.now();
        let (user_ca, host_ca) = self.public_keys();
        let mut certificates = Vec::new();
        for (ca, kind) in [(user_ca, Kind::User), (host_ca, Kind::Host)] {
            let RevokedHere { serials, key_ids } = self.inventory.revoked(kind, now)?;
            certificates.push(RevokedOf { ca, serials, key_ids });
        }
        let keys = self.inventory.revoked_keys()?;
        let keys = keys.iter().map(|fingerprint| sha256_of(fingerprint)).collect::<Option<_>>();
        let keys = keys.ok_or(KrlError::Fingerprint)?;
        let version = self.inventory.next_krl_version(now)?;
        let krl = KrlTemplate { certificates, keys, ..KrlTemplate::new(version, now, "usshca") }.to_bytes();
        let read = RevokedKeys::parse(&krl)?;
        if read.version() != Some(version) || read.generated() != Some(now) {
            return Err(KrlError::Different);
        }
        self.feed.keep_krl(now, &krl);
        Ok((version, now, krl))
    }
}

/// The hash in a fingerprint `SHA256:…`.
pub fn sha256_of(fingerprint: &str) -> Option<[u8; 32]> {
    Base64Unpadded::decode_vec(fingerprint.strip_prefix("SHA256:")?).ok()?.try_into().ok()
}

/// What a revocation is about, in raw text.
fn subject(what: &Revoke) -> String {
    let of = |kind: &admin::CertificateKind| match kind {
        admin::CertificateKind::User => "user",
        admin::CertificateKind::Host => "host",
    };
    match what {
        Revoke::Serial(serial) => format!("serial {serial}"),
        Revoke::User(name) => format!("all certificates of user {name}"),
        Revoke::Host(name) => format!("all certificates of host {name}"),
        Revoke::Key(fingerprint) => format!("key {fingerprint}"),
        Revoke::KeyId { kind, key_id } => format!("{} key ID \"{key_id}\"", of(kind)),
        Revoke::Before { kind, time } => format!("all {} certificates issued before {time}", of(kind)),
        Revoke::Ca { kind, fingerprint } => format!("{} CA key {fingerprint}", of(kind)),
        Revoke::Serials { first, last } => format!("serials {first} to {last}"),
    }
}

/// Raw text.
pub(super) fn revocation_line(what: &Revoke, by: &str, reason: &str, done: Revocation) -> String {
    let what = subject(what);
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match done {
        Revocation::Done { act, certificates, held } => {
            let held = if held == 0 { String::new() } else { format!(", {held} of them revoked before") };
            format!("Revoked {what} (revocation {act}, {certificates} certificates{held}) by {by}{reason}")
        }
        Revocation::Already => format!("Revoked before: {what}; asked again by {by}{reason}"),
        Revocation::Unknown => format!("Not revoked: there is no certificate for {what}; asked by {by}{reason}"),
    }
}
