//! Reading a KRL (PROTOCOL.krl, format version 1). Whatever is unknown, critical or inconsistent breaks the whole list.

use super::{CaScope, RevokedCertificates, RevokedError, RevokedKeys, SerialBitmap};
use crate::clock::UnixTime;
use crate::keys::{KeyError, PublicKey};
use crate::wire::{Reader, WireError};

pub(super) const MAGIC: &[u8] = b"SSHKRL\n\0";
pub(super) const FORMAT_VERSION: u32 = 1;
pub(super) const SECTION_CERTIFICATES: u8 = 1;
const SECTION_EXPLICIT_KEY: u8 = 2;
const SECTION_FINGERPRINT_SHA1: u8 = 3;
const SECTION_SIGNATURE: u8 = 4;
pub(super) const SECTION_FINGERPRINT_SHA256: u8 = 5;
const SECTION_EXTENSION: u8 = 255;
pub(super) const CERT_SERIAL_LIST: u8 = 0x20;
pub(super) const CERT_SERIAL_RANGE: u8 = 0x21;
const CERT_SERIAL_BITMAP: u8 = 0x22;
pub(super) const CERT_KEY_ID: u8 = 0x23;
const CERT_EXTENSION: u8 = 0x39;
/// Shortest RSA key that OpenSSH reads, in bits (sshkey.h SSH_RSA_MINIMUM_MODULUS_SIZE).
const OPENSSH_MIN_RSA_BITS: u32 = 1024;
/// Longest bitmap that OpenSSH reads, in bytes without leading zeros (sshbuf.h SSHBUF_MAX_BIGNUM).
const MAX_BITMAP: usize = 16384 / 8;

impl From<WireError> for RevokedError {
    fn from(error: WireError) -> Self {
        RevokedError::Malformed(match error {
            WireError::Truncated => "truncated",
            WireError::Trailing => "trailing bytes in a section",
        })
    }
}

/// Reads what follows the magic.
pub(super) fn parse(body: &[u8]) -> Result<RevokedKeys, RevokedError> {
    let mut reader = Reader::new(body);
    if reader.u32()? != FORMAT_VERSION {
        return Err(RevokedError::Malformed("unknown format version"));
    }
    let version = reader.u64()?;
    let generated = UnixTime(reader.u64()?);
    // None is defined. OpenSSH does not look; we will not guess what one would have meant.
    if reader.u64()? != 0 {
        return Err(RevokedError::Malformed("unknown flags"));
    }
    let _reserved = reader.string()?;
    let _comment = c_string(reader.string()?, "NUL in the comment")?;
    let mut revoked = RevokedKeys { header: Some((version, generated)), ..RevokedKeys::default() };
    while !reader.rest().is_empty() {
        let section = reader.byte()?;
        parse_section(section, Reader::new(reader.string()?), &mut revoked)?;
    }
    Ok(revoked)
}

fn parse_section(section: u8, mut data: Reader<'_>, revoked: &mut RevokedKeys) -> Result<(), RevokedError> {
    match section {
        SECTION_CERTIFICATES => revoked.certificates.push(parse_certificates(data)?),
        SECTION_EXPLICIT_KEY => {
            while !data.rest().is_empty() {
                revoked.keys.push(data.string()?.to_vec());
            }
        }
        SECTION_FINGERPRINT_SHA1 => read_hashes(data, &mut revoked.sha1)?,
        SECTION_FINGERPRINT_SHA256 => read_hashes(data, &mut revoked.sha256)?,
        SECTION_EXTENSION => check_extension(data)?,
        // OpenSSH from 9.4 on does not support them either.
        SECTION_SIGNATURE => return Err(RevokedError::Malformed("it holds a signature section")),
        _ => return Err(RevokedError::Malformed("unknown section")),
    }
    Ok(())
}

fn read_hashes<const N: usize>(mut data: Reader<'_>, hashes: &mut Vec<[u8; N]>) -> Result<(), RevokedError> {
    while !data.rest().is_empty() {
        let hash = data.string()?.try_into();
        hashes.push(hash.map_err(|_| RevokedError::Malformed("a hash of the wrong length"))?);
    }
    Ok(())
}

/// No extension is known; one that is not critical may be passed over.
fn check_extension(mut data: Reader<'_>) -> Result<(), RevokedError> {
    let _name = c_string(data.string()?, "NUL in an extension's name")?;
    let critical = data.byte()?;
    let _contents = data.string()?;
    data.finish()?;
    if critical == 0 { Ok(()) } else { Err(RevokedError::Malformed("unknown critical extension")) }
}

/// krl.c `parse_revoked_certs`.
fn parse_certificates(mut data: Reader<'_>) -> Result<RevokedCertificates, RevokedError> {
    let ca = read_scope(data.string()?)?;
    let _reserved = data.string()?;
    let mut revoked = RevokedCertificates { ca, ranges: Vec::new(), bitmaps: Vec::new(), key_ids: Vec::new() };
    while !data.rest().is_empty() {
        let section = data.byte()?;
        let mut part = Reader::new(data.string()?);
        match section {
            CERT_SERIAL_LIST => {
                while !part.rest().is_empty() {
                    let serial = part.u64()?;
                    revoked.ranges.push(checked_range(serial, serial)?);
                }
            }
            CERT_SERIAL_RANGE => {
                let (first, last) = (part.u64()?, part.u64()?);
                revoked.ranges.push(checked_range(first, last)?);
            }
            CERT_SERIAL_BITMAP => {
                let offset = part.u64()?;
                revoked.bitmaps.push(read_bitmap(offset, part.string()?)?);
            }
            CERT_KEY_ID => {
                while !part.rest().is_empty() {
                    revoked.key_ids.push(c_string(part.string()?, "NUL in a key ID")?.to_vec());
                }
            }
            CERT_EXTENSION => {
                check_extension(part)?;
                continue;
            }
            _ => return Err(RevokedError::Malformed("unknown section on certificates")),
        }
        part.finish()?;
    }
    Ok(revoked)
}

fn read_scope(blob: &[u8]) -> Result<CaScope, RevokedError> {
    if blob.is_empty() {
        return Ok(CaScope::Any);
    }
    match PublicKey::from_blob(blob) {
        Ok(ca) => Ok(CaScope::Only(ca)),
        Err(KeyError::TooShort(bits)) if bits >= OPENSSH_MIN_RSA_BITS => Ok(CaScope::Nobody),
        Err(_) => Err(RevokedError::Malformed("a CA's key")),
    }
}

/// krl.c `ssh_krl_revoke_cert_by_serial_range`.
fn checked_range(first: u64, last: u64) -> Result<(u64, u64), RevokedError> {
    if first == 0 || first > last {
        return Err(RevokedError::Malformed("serial 0, or a range that ends before it starts"));
    }
    Ok((first, last))
}

/// The bits stay as they are: a few bytes cannot unfold into many serials.
fn read_bitmap(offset: u64, number: &[u8]) -> Result<SerialBitmap, RevokedError> {
    if number.first().is_some_and(|b| b & 0x80 != 0) {
        return Err(RevokedError::Malformed("a negative bitmap"));
    }
    let zeros = number.iter().take_while(|b| **b == 0).count();
    let bits = number.get(zeros..).unwrap_or_default();
    if number.len() > MAX_BITMAP + 1 || bits.len() > MAX_BITMAP {
        return Err(RevokedError::Malformed("a bitmap longer than 2048 bytes"));
    }
    let bitmap = SerialBitmap { offset, bits: bits.to_vec() };
    if bitmap.highest().is_some_and(|highest| offset.checked_add(highest).is_none()) {
        return Err(RevokedError::Malformed("a bitmap beyond the last serial"));
    }
    if offset == 0 && bits.last().is_some_and(|lowest| lowest & 1 != 0) {
        return Err(RevokedError::Malformed("serial 0"));
    }
    Ok(bitmap)
}

/// A C string on the wire: OpenSSH drops one NUL at its end and refuses any other (`sshbuf_get_cstring`).
fn c_string<'a>(value: &'a [u8], complaint: &'static str) -> Result<&'a [u8], RevokedError> {
    let value = value.strip_suffix(b"\0").unwrap_or(value);
    if value.contains(&0) { Err(RevokedError::Malformed(complaint)) } else { Ok(value) }
}
