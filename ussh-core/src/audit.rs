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
        line.push_str(&escape(detail.as_bytes(), MAX_LINE.saturating_sub(line.len())));
    }
    line
}

/// Any line: escaped, cut to 1 KiB. Hand over raw text.
pub fn line(text: &str) -> String {
    escape(text.as_bytes(), MAX_LINE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::test_agents::{new_key, template};

    fn certificate(key_id: &str) -> Certificate {
        let mut template = template(&new_key().public_key());
        template.key_id = key_id.into();
        template.sign(&new_key()).unwrap()
    }

    #[test]
    fn a_decision_is_told_in_opensshs_words() {
        let certificate = certificate("alice");
        assert_eq!(
            certificate_line("Accepted", &certificate, "for alice via sudo"),
            format!(
                "Accepted certificate ID \"alice\" (serial 7) signed by ED25519 CA {} for alice via sudo",
                certificate.ca().fingerprint()
            )
        );
        assert!(certificate_line("Accepted", &certificate, "").ends_with(&certificate.ca().fingerprint()));
    }

    #[test]
    fn a_key_id_cannot_write_its_own_end() {
        let line = certificate_line("Refusing", &certificate("eve\" (serial 1) é"), "x");
        assert!(line.starts_with("Refusing certificate ID \"eve\\x22 (serial 1) \\xc3\\xa9\" (serial 7) "), "{line}");
    }

    #[test]
    fn no_foreign_field_makes_a_line_longer_than_1_kib() {
        let certificate = certificate(&"é".repeat(50_000));
        let line = certificate_line(&"W".repeat(5000), &certificate, &"\n".repeat(5000));
        assert!(line.len() <= MAX_LINE && line.ends_with("..."), "{}", line.len());
        assert!(line.contains("(serial 7) signed by ED25519 CA SHA256:"));
    }

    #[test]
    fn a_plain_line_is_escaped_and_cut() {
        assert_eq!(line("a\r\nb"), "a\\x0d\\x0ab");
        assert_eq!(line(&"y".repeat(5000)).len(), MAX_LINE);
    }
}
