//! One line per decision, in OpenSSH's words, escaped and at most 1 KiB. Never a secret.

use crate::certificate::Certificate;
use crate::escape::{MAX_FIELD, escape, escape_also, escape_sentence};

/// Longest line, in bytes: 1 KiB less what syslog puts in front of it (`<85>`, a time stamp, `pam_ussh[4194304]: `).
pub const MAX_LINE: usize = 1024 - 64;

/// A line in the making. Hand over raw text: all of it is escaped here, and whatever the fields hold, the line stays
/// within [`MAX_LINE`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Line(String);

impl Line {
    /// Begins with a word of ours, e.g. `Refusing`.
    pub fn new(what: &str) -> Self {
        Line(escape(what.as_bytes(), MAX_FIELD))
    }

    /// ` certificate ID "alice" (serial 7) signed by ED25519 CA SHA256:…`, of one whose CA's signature was checked.
    pub fn certificate(self, certificate: &Certificate) -> Self {
        self.certificate_of(certificate, "signed by")
    }

    /// ` certificate ID "alice" (serial 7) naming ED25519 CA SHA256:…`: anybody can write a CA's name, and another person's ID, into bytes that no CA has signed.
    pub fn unsigned_certificate(self, certificate: &Certificate) -> Self {
        self.certificate_of(certificate, "naming")
    }

    fn certificate_of(self, certificate: &Certificate, by: &str) -> Self {
        let ca = certificate.ca();
        // A quote in the key ID would let it write the rest of the field itself.
        let key_id = escape_also(certificate.key_id(), MAX_FIELD, b"\"");
        let (serial, short_type, fingerprint) = (certificate.serial(), ca.short_type(), ca.fingerprint());
        self.raw(&format!(" certificate ID \"{key_id}\" (serial {serial}) {by} {short_type} CA {fingerprint}"))
    }

    /// ` name value`, the value at most `max` bytes. Spaces in it are escaped: it cannot pass for more fields.
    pub fn field(self, name: &str, value: &str, max: usize) -> Self {
        let value = escape_also(value.as_bytes(), max, b" ");
        self.text(&format!(" {name} ")).raw(&value)
    }

    /// More of it, as it stands. What does not fit is cut.
    pub fn text(self, text: &str) -> Self {
        let left = self.left();
        self.raw(&escape(text.as_bytes(), left))
    }

    /// `: reason`, a sentence of ours whose foreign words are escaped already ([`crate::escape::escape_word`]). What does not fit is cut.
    pub fn reason(self, reason: &str) -> Self {
        let line = self.text(": ");
        let left = line.left();
        line.raw(&escape_sentence(reason, left))
    }

    /// The whole line.
    pub fn finish(self) -> String {
        self.0
    }

    fn left(&self) -> usize {
        MAX_LINE.saturating_sub(self.0.len())
    }

    /// Of what is escaped already. What does not fit is left out, since no escape may be cut in two.
    fn raw(mut self, escaped: &str) -> Self {
        if escaped.len() <= self.left() {
            self.0.push_str(escaped);
        }
        self
    }
}

/// A decision's line: `Accepted certificate ID "alice" (serial 7) signed by ED25519 CA SHA256:… detail`.
/// `what` is e.g. `Accepted` or `Refusing`; `detail` follows after a space (reason, service, user). Both are escaped
/// here: hand over raw text.
pub fn certificate_line(what: &str, certificate: &Certificate, detail: &str) -> String {
    let line = Line::new(what).certificate(certificate);
    if detail.is_empty() { line.finish() } else { line.raw(" ").text(detail).finish() }
}

/// Any line: escaped, cut to [`MAX_LINE`]. Hand over raw text.
pub fn line(text: &str) -> String {
    escape(text.as_bytes(), MAX_LINE)
}

/// A sentence of ours for a field of its own, its foreign words escaped already: one line, at most [`MAX_FIELD`] bytes.
pub fn sentence(text: &str) -> String {
    escape_sentence(text, MAX_FIELD)
}

/// A certificate's key ID for a field of its own: escaped, at most [`MAX_FIELD`] bytes.
pub fn key_id(certificate: &Certificate) -> String {
    escape(certificate.key_id(), MAX_FIELD)
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
    fn what_no_ca_has_signed_is_not_said_to_be_signed() {
        let certificate = certificate("bob");
        let line = Line::new("Refusing").unsigned_certificate(&certificate).finish();
        let fingerprint = certificate.ca().fingerprint();
        assert_eq!(line, format!("Refusing certificate ID \"bob\" (serial 7) naming ED25519 CA {fingerprint}"));
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

    #[test]
    fn a_field_cannot_pass_for_more_fields() {
        let line = Line::new("Refusing").field("for", "eve via sudo: x\n", 64).field("via", "su", 64).text(": expired");
        assert_eq!(line.finish(), "Refusing for eve\\x20via\\x20sudo:\\x20x\\x0a via su: expired");
    }

    #[test]
    fn fields_of_any_length_leave_room_for_the_reason() {
        let certificate = certificate(&"é".repeat(100_000));
        let hostile = "\u{7f}".repeat(100_000);
        let mut line = Line::new("Refusing").certificate(&certificate);
        for name in ["for", "via", "ruser", "tty", "rhost"] {
            line = line.field(name, &hostile, 48);
        }
        let line = line.text(": certificate is revoked").finish();
        assert!(line.len() <= MAX_LINE && line.ends_with(": certificate is revoked"), "{line}");
    }

    #[test]
    fn however_much_is_put_in_a_line_it_stays_a_line() {
        let mut line = Line::new(&"W".repeat(5000));
        for _ in 0..100 {
            line = line.certificate(&certificate("alice")).field("n", "v", 10).text("\n");
        }
        let line = line.finish();
        assert!(line.len() <= MAX_LINE && line.is_ascii() && !line.contains('\n'), "{}", line.len());
    }
}
