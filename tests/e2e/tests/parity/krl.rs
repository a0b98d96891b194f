//! KRLs written down section by section (PROTOCOL.krl), whatever stands in them.

use crate::wire::{Put, string};

pub const CERTIFICATES: u8 = 1;
pub const EXPLICIT_KEY: u8 = 2;
pub const SHA1: u8 = 3;
pub const SIGNATURE: u8 = 4;
pub const SHA256: u8 = 5;
pub const EXTENSION: u8 = 255;
pub const SERIAL_LIST: u8 = 0x20;
pub const SERIAL_RANGE: u8 = 0x21;
pub const SERIAL_BITMAP: u8 = 0x22;
pub const KEY_ID: u8 = 0x23;
pub const CERT_EXTENSION: u8 = 0x39;

/// A KRL of these sections.
pub fn krl(sections: &[Vec<u8>]) -> Vec<u8> {
    with_header(1, 0, sections)
}

/// The same, with this format version and these flags.
pub fn with_header(format: u32, flags: u64, sections: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"SSHKRL\n\0".to_vec();
    out.put_u32(format);
    out.put_u64(1);
    out.put_u64(1);
    out.put_u64(flags);
    out.put_string(b"");
    out.put_string(b"made by hand");
    out.extend(sections.concat());
    out
}

/// A section, or a part of one: its type, and what it holds.
pub fn section(kind: u8, data: &[u8]) -> Vec<u8> {
    [vec![kind], string(data)].concat()
}

/// Certificates of this CA (empty: of any).
pub fn certificates(ca: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
    section(CERTIFICATES, &[string(ca), string(b""), parts.concat()].concat())
}

/// Numbers of 64 bits.
pub fn serials(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// An extension of either kind of section.
pub fn extension(name: &[u8], is_critical: bool) -> Vec<u8> {
    [string(name), vec![u8::from(is_critical)], string(b"data")].concat()
}
