//! Reading a plain list: one key a line (authfile.c `sshkey_in_file`).

use super::{RevokedError, RevokedKeys};
use crate::certificate::Certificate;
use crate::keys::{KeyError, PublicKey};

/// Each key is revoked as a certified key and as a CA. A certificate revokes its key, and so every certificate of that key.
/// sshd refuses everybody when it meets a bad line before a match; we do so wherever it stands.
pub(super) fn parse(text: &[u8]) -> Result<RevokedKeys, RevokedError> {
    let mut revoked = RevokedKeys::default();
    let mut has_comment = false;
    for line in text.split(|b| *b == b'\n') {
        // As sshd skips: a carriage return on a line of its own is no blank line for it, but junk.
        match line.iter().find(|b| !matches!(b, b' ' | b'\t')) {
            None => continue,
            Some(b'#') => {
                has_comment = true;
                continue;
            }
            Some(_) => {}
        }
        match PublicKey::from_line(line) {
            Ok(key) => revoked.keys.push(key.to_blob()),
            // Too weak to be taken anyway.
            Err(KeyError::TooShort(_)) => has_comment = true,
            Err(KeyError::IsCertificate) => {
                let certificate = Certificate::from_line(line);
                let certificate = certificate.ok().filter(Certificate::is_signed);
                let certificate = certificate.ok_or(RevokedError::Malformed("a bad certificate"))?;
                revoked.keys.push(certificate.public_key().to_blob());
            }
            Err(_) => return Err(RevokedError::Malformed("neither a KRL nor a list of keys")),
        }
    }
    // Blank lines alone are what a broken download looks like. A comment is somebody's word that there is nothing.
    if revoked.keys.is_empty() && !has_comment {
        return Err(RevokedError::Empty);
    }
    Ok(revoked)
}
