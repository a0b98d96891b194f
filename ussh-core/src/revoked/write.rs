//! Writing a KRL: serials, listed per CA.

use super::krl::{CERT_SERIAL_LIST, FORMAT_VERSION, MAGIC, SECTION_CERTIFICATES};
use crate::clock::UnixTime;
use crate::escape::escape;
use crate::keys::PublicKey;
use crate::wire::WireWrite;

/// Longest comment, in bytes.
const MAX_COMMENT: usize = 1024;

/// A KRL to be written.
#[derive(Clone, Debug)]
pub struct KrlTemplate {
    /// Monotone.
    pub version: u64,
    /// Seconds since the epoch.
    pub generated: UnixTime,
    /// At most 1 kB, printable ASCII: anything else is escaped, what is longer is cut.
    pub comment: String,
    /// Per CA: its revoked serials (0 is left out: it cannot be revoked by serial).
    pub serials: Vec<(PublicKey, Vec<u64>)>,
}

impl KrlTemplate {
    /// The KRL in OpenSSH's binary form (serial list sections). Serials are sorted and written once each; a CA without any gets no section.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(MAGIC);
        out.put_u32(FORMAT_VERSION);
        out.put_u64(self.version);
        out.put_u64(self.generated.0);
        out.put_u64(0); // flags: none is defined
        out.put_string(b""); // reserved
        out.put_string(escape(self.comment.as_bytes(), MAX_COMMENT).as_bytes());
        for (ca, serials) in &self.serials {
            let list = serial_list(serials);
            if list.is_empty() {
                continue;
            }
            let mut section = Vec::with_capacity(ca.blob().len() + list.len() + 16);
            section.put_string(ca.blob());
            section.put_string(b""); // reserved
            section.put_byte(CERT_SERIAL_LIST);
            section.put_string(&list);
            out.put_byte(SECTION_CERTIFICATES);
            out.put_string(&section);
        }
        out
    }
}

fn serial_list(serials: &[u64]) -> Vec<u8> {
    let mut sorted: Vec<u64> = serials.iter().copied().filter(|serial| *serial != 0).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut list = Vec::with_capacity(sorted.len() * 8);
    for serial in sorted {
        list.put_u64(serial);
    }
    list
}
