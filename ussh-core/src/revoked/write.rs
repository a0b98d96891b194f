//! Writing a KRL: per CA the serials, in ranges where they stand side by side, and key IDs; besides them keys by their hash.

use super::krl::{
    CERT_KEY_ID, CERT_SERIAL_LIST, CERT_SERIAL_RANGE, FORMAT_VERSION, MAGIC, SECTION_CERTIFICATES,
    SECTION_FINGERPRINT_SHA256,
};
use crate::clock::UnixTime;
use crate::escape::escape;
use crate::keys::PublicKey;
use crate::wire::WireWrite;

/// Longest comment, in bytes.
const MAX_COMMENT: usize = 1024;
/// So many serials side by side take less as a range: its section is 21 bytes, a serial in a list 8.
const LEAST_RANGE: u64 = 3;

/// A KRL to be written.
#[derive(Clone, Debug)]
pub struct KrlTemplate {
    /// Monotone.
    pub version: u64,
    /// Seconds since the epoch.
    pub generated: UnixTime,
    /// At most 1 kB, printable ASCII: anything else is escaped, what is longer is cut.
    pub comment: String,
    /// What is revoked of each CA.
    pub certificates: Vec<RevokedOf>,
    /// SHA-256 of the wire forms of keys, of users, hosts or CAs: every certificate with or by one of them is revoked, and the plain key too.
    pub keys: Vec<[u8; 32]>,
}

/// What is revoked of one CA.
#[derive(Clone, Debug)]
pub struct RevokedOf {
    /// Its key.
    pub ca: PublicKey,
    /// First and last, both revoked. They may overlap; 0 is left out: it cannot be revoked by serial.
    pub serials: Vec<(u64, u64)>,
    /// Whoever's certificates, past and to come.
    pub key_ids: Vec<String>,
}

impl KrlTemplate {
    /// One that revokes nothing yet.
    pub fn new(version: u64, generated: UnixTime, comment: &str) -> Self {
        KrlTemplate { version, generated, comment: comment.to_owned(), certificates: Vec::new(), keys: Vec::new() }
    }

    /// The KRL in OpenSSH's binary form (PROTOCOL.krl). Serials are sorted and written once each; a CA of which nothing is revoked gets no section.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(MAGIC);
        out.put_u32(FORMAT_VERSION);
        out.put_u64(self.version);
        out.put_u64(self.generated.0);
        out.put_u64(0); // flags: none is defined
        out.put_string(b""); // reserved
        out.put_string(escape(self.comment.as_bytes(), MAX_COMMENT).as_bytes());
        for of_ca in &self.certificates {
            let revoked = of_ca.sections();
            if !revoked.is_empty() {
                out.put_byte(SECTION_CERTIFICATES);
                let mut section = Vec::with_capacity(of_ca.ca.blob().len() + revoked.len() + 16);
                section.put_string(of_ca.ca.blob());
                section.put_string(b""); // reserved
                section.extend_from_slice(&revoked);
                out.put_string(&section);
            }
        }
        let keys = sorted(self.keys.clone());
        if !keys.is_empty() {
            let mut section = Vec::with_capacity(keys.len() * 36);
            keys.iter().for_each(|hash| section.put_string(hash));
            out.put_byte(SECTION_FINGERPRINT_SHA256);
            out.put_string(&section);
        }
        out
    }
}

impl RevokedOf {
    /// By serial.
    pub fn serials(ca: PublicKey, serials: &[u64]) -> Self {
        RevokedOf { ca, serials: serials.iter().map(|serial| (*serial, *serial)).collect(), key_ids: Vec::new() }
    }

    fn sections(&self) -> Vec<u8> {
        let (mut out, mut list) = (Vec::new(), Vec::new());
        for (first, last) in merged(&self.serials) {
            if last - first >= LEAST_RANGE - 1 {
                let mut range = Vec::with_capacity(16);
                range.put_u64(first);
                range.put_u64(last);
                out.put_byte(CERT_SERIAL_RANGE);
                out.put_string(&range);
            } else {
                (first..=last).for_each(|serial| list.put_u64(serial));
            }
        }
        let mut names = Vec::new();
        sorted(self.key_ids.clone()).iter().for_each(|key_id| names.put_string(key_id.as_bytes()));
        for (kind, content) in [(CERT_SERIAL_LIST, list), (CERT_KEY_ID, names)] {
            if !content.is_empty() {
                out.put_byte(kind);
                out.put_string(&content);
            }
        }
        out
    }
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items.dedup();
    items
}

/// Sorted, without 0, each serial in one range, and none of them side by side.
fn merged(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let ranges = ranges.iter().map(|(first, last)| ((*first).max(1), *last)).filter(|(first, last)| first <= last);
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (first, last) in sorted(ranges.collect()) {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_meet_become_one() {
        let max = u64::MAX;
        for (ranges, expected) in [
            (&[][..], &[][..]),
            (&[(5, 5), (1, 3), (4, 4)], &[(1, 5)]),
            (&[(1, 10), (2, 3), (9, 12)], &[(1, 12)]),
            (&[(1, 1), (3, 3)], &[(1, 1), (3, 3)]),
            (&[(0, 0), (0, 2)], &[(1, 2)]),
            (&[(7, 6)], &[]),
            (&[(max, max), (max - 1, max)], &[(max - 1, max)]),
        ] {
            assert_eq!(merged(ranges), expected, "{ranges:?}");
        }
    }
}
