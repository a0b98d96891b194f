//! One line per decision, in OpenSSH's words, escaped and at most 1 KiB. Never a secret.

use crate::certificate::Certificate;
use crate::escape::{MAX_FIELD, escape, escape_also};

/// Longest line, in bytes.
pub const MAX_LINE: usize = 1024;

/// A decision's line: `Accepted certificate ID "alice" (serial 7) signed by ED25519 CA SHA256:… detail`.
/// `what` is e.g. `Accepted` or `Refusing`; `detail` follows after a space (reason, service, user). Both are escaped
/// here: hand over raw text.
pub fn certificate_line(what: &str, certificate: &Certificate, detail: &str) -> String {
    let ca = certificate.ca();
    let mut line = format!(
        "{} certificate ID \"{}\" (serial {}) signed by {} CA {}",
        escape(what.as_bytes(), MAX_FIELD),
        // A quote in the key ID would let it write the rest of the field itself.
        escape_also(certificate.key_id(), MAX_FIELD, b"\""),
        certificate.serial(),
        ca.short_type(),
        ca.fingerprint(),
    );
    if !detail.is_empty() {
        line.push(' ');
        line.push_str(&escape(
            detail.as_bytes(),
            MAX_LINE.saturating_sub(line.len()),
        ));
    }
    line
}

/// Any line: escaped, cut to 1 KiB. Hand over raw text.
pub fn line(text: &str) -> String {
    escape(text.as_bytes(), MAX_LINE)
}
