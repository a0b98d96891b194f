//! Revoked keys and certificates: OpenSSH's KRL (PROTOCOL.krl, krl.c) and the plain list (sshd's RevokedKeys), read; KRL written.

mod krl;
mod plain;
#[cfg(test)]
mod tests;
mod write;

use sha2::{Digest, Sha256};

pub use self::write::KrlTemplate;
use crate::certificate::Certificate;
use crate::clock::UnixTime;
use crate::keys::PublicKey;

/// Why a revocation file is not usable. Each of these refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokedError {
    /// A file of zero bytes (sshd lets everybody in; we do not).
    #[error("the revocation list is empty")]
    Empty,
    /// Neither a KRL that reads to its end nor a plain list of keys.
    #[error("the revocation list is broken: {0}")]
    Malformed(&'static str),
}

/// What is revoked.
#[derive(Clone, Debug, Default)]
pub struct RevokedKeys {
    /// Of a KRL: its version and the time it was generated.
    header: Option<(u64, UnixTime)>,
    /// Wire forms of plain keys.
    keys: Vec<Vec<u8>>,
    /// Hashes of the wire forms of plain keys.
    sha1: Vec<[u8; 20]>,
    sha256: Vec<[u8; 32]>,
    certificates: Vec<RevokedCertificates>,
}

/// Certificates of one CA, or of any.
#[derive(Clone, Debug)]
struct RevokedCertificates {
    ca: CaScope,
    /// First and last serial, both revoked.
    ranges: Vec<(u64, u64)>,
    bitmaps: Vec<SerialBitmap>,
    key_ids: Vec<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum CaScope {
    /// `ssh-keygen -s none`.
    Any,
    Only(PublicKey),
    /// A CA key too weak to be taken anyway: nothing of it can ever be trusted.
    Nobody,
}

#[derive(Clone, Debug)]
struct SerialBitmap {
    /// Serial of the lowest bit.
    offset: u64,
    /// Big endian, no leading zeros.
    bits: Vec<u8>,
}

impl RevokedKeys {
    /// Reads a KRL (magic SSHKRL\n\0) or a plain list.
    /// # Errors
    /// [`RevokedError`]
    pub fn parse(data: &[u8]) -> Result<Self, RevokedError> {
        if data.is_empty() {
            return Err(RevokedError::Empty);
        }
        match data.strip_prefix(krl::MAGIC) {
            Some(body) => krl::parse(body),
            None => plain::parse(data),
        }
    }

    /// Whether the certificate, its key, its CA, its serial or its key ID is revoked (krl.c `ssh_krl_check_key`).
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        self.revokes_key(certificate.public_key())
            || self.revokes_key(certificate.ca())
            || self.certificates.iter().any(|of_ca| of_ca.revokes(certificate))
    }

    /// Whether this plain key is revoked.
    pub fn revokes_key(&self, key: &PublicKey) -> bool {
        let blob = key.blob();
        let hit = |hashes: &[[u8; 32]]| !hashes.is_empty() && hashes.contains(&Sha256::digest(blob).into());
        let hit_sha1 = |hashes: &[[u8; 20]]| !hashes.is_empty() && hashes.contains(&sha1::Sha1::digest(blob).into());
        self.keys.iter().any(|k| k == blob) || hit(&self.sha256) || hit_sha1(&self.sha1)
    }

    /// `generated` of a KRL; `None` for a plain list.
    pub fn generated(&self) -> Option<UnixTime> {
        self.header.map(|(_, generated)| generated)
    }

    /// `krl_version` of a KRL; `None` for a plain list.
    pub fn version(&self) -> Option<u64> {
        self.header.map(|(version, _)| version)
    }
}

impl RevokedCertificates {
    /// krl.c `is_cert_revoked`.
    fn revokes(&self, certificate: &Certificate) -> bool {
        let ours = match &self.ca {
            CaScope::Any => true,
            CaScope::Only(ca) => ca == certificate.ca(),
            CaScope::Nobody => false,
        };
        ours && (self.key_ids.iter().any(|id| id == certificate.key_id()) || self.revokes_serial(certificate.serial()))
    }

    fn revokes_serial(&self, serial: u64) -> bool {
        // 0 is what a CA writes that counts no serials.
        serial != 0
            && (self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&serial))
                || self.bitmaps.iter().any(|map| map.has(serial)))
    }
}

impl SerialBitmap {
    fn has(&self, serial: u64) -> bool {
        let index = serial.checked_sub(self.offset);
        index.is_some_and(|index| {
            let byte = usize::try_from(index / 8).ok().and_then(|n| self.bits.iter().rev().nth(n));
            byte.is_some_and(|b| b & (1 << (index % 8)) != 0)
        })
    }

    /// Index of the highest bit; `None` if no bit is set.
    fn highest(&self) -> Option<u64> {
        let first = self.bits.first()?;
        let below = u64::try_from(self.bits.len() - 1).ok()? * 8;
        Some(below + u64::from(first.checked_ilog2()?))
    }
}
