//! What the log is told: one line per decision, in OpenSSH's words, and the same in fields for journald.
//!
//! Nearly all of it is other people's words. Each is escaped and has its own bound, so that the reason always has room in the line.

use ussh_core::audit::{self, Line};
use ussh_core::certificate::Certificate;
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_os::pam_module::{NOT_TEXT, PamHandle};
use ussh_os::syslog::{Severity, authpriv_with_fields};

/// Our name in the log.
const IDENT: &str = "pam_ussh";

/// Longest of user, ruser, rhost, tty and service in a line, bytes each: Linux's longest user name is 32, and most host names are shorter than this.
const MAX_NAME: usize = 64;

/// The hook that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// pam_authenticate.
    Auth,
    /// pam_acct_mgmt.
    Account,
    /// pam_open_session and pam_close_session.
    Session,
    /// pam_chauthtok.
    Password,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Auth => "auth",
            Phase::Account => "account",
            Phase::Session => "session",
            Phase::Password => "password",
        }
    }
}

/// For whom and where: for the log and the challenge. Any of it may be the user's own words.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The hook.
    pub phase: Phase,
    /// PAM_SERVICE; empty if unset.
    pub service: String,
    /// PAM_USER, once it has been asked for.
    pub user: Option<String>,
    /// PAM_RUSER.
    pub ruser: Option<String>,
    /// PAM_RHOST.
    pub rhost: Option<String>,
    /// PAM_TTY.
    pub tty: Option<String>,
}

impl Subject {
    /// From the handle; PAM_USER not yet, since asking for it may prompt.
    pub fn of(handle: &PamHandle, phase: Phase) -> Self {
        Subject {
            phase,
            service: handle.service().unwrap_or_default(),
            user: None,
            ruser: handle.ruser(),
            rhost: handle.rhost(),
            tty: handle.tty(),
        }
    }

    /// The item that is no text, if there is one: its name.
    pub fn garbled(&self) -> Option<&'static str> {
        let Subject { phase: _, service, user: _, ruser, rhost, tty } = self;
        [
            ("PAM_SERVICE", Some(service)),
            ("PAM_RUSER", ruser.as_ref()),
            ("PAM_RHOST", rhost.as_ref()),
            ("PAM_TTY", tty.as_ref()),
        ]
        .into_iter()
        .find(|(_, value)| value.is_some_and(|value| value.contains(NOT_TEXT)))
        .map(|(name, _)| name)
    }
}

/// The certificate that a line is about.
#[derive(Clone, Copy, Debug)]
pub enum Certificates<'a> {
    /// It is about none.
    None,
    /// One that cannot be read.
    Unreadable,
    /// This one.
    One(&'a Certificate),
    /// This one, which the CA that it names has not signed: whatever stands in it may be anybody's words.
    Unsigned(&'a Certificate),
}

/// One line.
#[derive(Debug)]
pub struct Entry<'a> {
    /// What was decided: `Accepted`, `Refusing`.
    pub what: &'a str,
    /// How bad that is.
    pub severity: Severity,
    /// For whom and where.
    pub subject: &'a Subject,
    /// By which certificate.
    pub certificate: Certificates<'a>,
    /// Why, with every foreign word in it escaped already; empty: nothing to add.
    pub reason: &'a str,
}

/// Writes it. A log that cannot be reached changes no decision.
pub fn write(entry: &Entry<'_>) {
    let fields = fields(entry);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    authpriv_with_fields(IDENT, entry.severity, &line(entry), &fields);
}

/// `Refusing certificate ID "alice" (serial 7) signed by ED25519 CA SHA256:… for alice via sudo ruser alice: certificate is revoked`
pub fn line(entry: &Entry<'_>) -> String {
    let Entry { what, severity: _, subject, certificate, reason } = entry;
    let mut line = match certificate {
        Certificates::None => Line::new(what),
        Certificates::Unreadable => Line::new(what).text(" unreadable certificate"),
        Certificates::One(certificate) => Line::new(what).certificate(certificate),
        Certificates::Unsigned(certificate) => Line::new(what).unsigned_certificate(certificate),
    };
    if let Some(user) = &subject.user {
        line = line.field("for", user, MAX_NAME);
    }
    line = line.field("via", &subject.service, MAX_NAME);
    if subject.phase == Phase::Account {
        line = line.text(" (account)");
    }
    for (name, value) in people(subject) {
        line = line.field(name, value, MAX_NAME);
    }
    if reason.is_empty() { line.finish() } else { line.reason(reason).finish() }
}

/// What of PAM's items is set.
fn people(subject: &Subject) -> impl Iterator<Item = (&'static str, &str)> {
    [("ruser", &subject.ruser), ("tty", &subject.tty), ("rhost", &subject.rhost)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref().filter(|value| !value.is_empty())?)))
}

fn fields(entry: &Entry<'_>) -> Vec<(&'static str, String)> {
    let escaped = |text: &str| escape(text.as_bytes(), MAX_FIELD);
    let subject = entry.subject;
    let mut fields = vec![
        ("USSH_DECISION", escaped(entry.what.trim_end_matches(':')).to_lowercase()),
        ("USSH_PHASE", subject.phase.name().to_owned()),
        ("USSH_SERVICE", escaped(&subject.service)),
    ];
    let names = [("ruser", "USSH_RUSER"), ("tty", "USSH_TTY"), ("rhost", "USSH_RHOST")];
    if let Some(user) = &subject.user {
        fields.push(("USSH_USER", escaped(user)));
    }
    for (word, value) in people(subject) {
        let name = names.iter().find(|(known, _)| *known == word).map(|(_, name)| *name);
        fields.extend(name.map(|name| (name, escaped(value))));
    }
    if let Certificates::One(certificate) = entry.certificate {
        fields.push(("USSH_KEY_ID", audit::key_id(certificate)));
        fields.push(("USSH_SERIAL", certificate.serial().to_string()));
        fields.push(("USSH_CA", certificate.ca().fingerprint()));
    }
    if !entry.reason.is_empty() {
        fields.push(("USSH_REASON", audit::sentence(entry.reason)));
    }
    fields
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use ussh_core::certificate::CertificateKind;
    use ussh_core::clock::UnixTime;
    use ussh_core::issue::CertificateTemplate;
    use ussh_core::keys::PrivateKey;

    fn certificate(key_id: &str) -> Certificate {
        let template = CertificateTemplate {
            public_key: PrivateKey::generate_ed25519().unwrap().public_key(),
            serial: u64::MAX,
            kind: CertificateKind::User,
            key_id: key_id.into(),
            principals: vec!["alice".into()],
            valid_after: UnixTime(0),
            valid_before: UnixTime(1000),
            critical_options: vec![],
            extensions: vec![],
        };
        template.sign(&PrivateKey::generate_ed25519().unwrap()).unwrap()
    }

    fn subject(text: &str) -> Subject {
        let text = Some(text.to_owned());
        Subject {
            phase: Phase::Account,
            service: text.clone().unwrap(),
            user: text.clone(),
            ruser: text.clone(),
            rhost: text.clone(),
            tty: text,
        }
    }

    fn entry<'a>(subject: &'a Subject, certificate: &'a Certificate, reason: &'a str) -> Entry<'a> {
        let certificate = Certificates::One(certificate);
        Entry { what: "Refusing", severity: Severity::Notice, subject, certificate, reason }
    }

    #[test]
    fn the_reason_has_room_whatever_the_others_say() {
        let certificate = certificate(&"é ".repeat(40_000));
        for text in ["x".repeat(100_000), "\n".repeat(100_000), "é".repeat(100_000)] {
            let subject = subject(&text);
            let line = line(&entry(&subject, &certificate, "certificate is revoked"));
            assert!(line.len() <= audit::MAX_LINE, "{}", line.len());
            assert!(line.ends_with(": certificate is revoked"), "{line}");
            assert!(line.contains(" (serial 18446744073709551615) signed by ED25519 CA SHA256:"), "{line}");
            assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
        }
    }

    #[test]
    fn a_reason_of_any_length_stays_in_the_line() {
        let (certificate, subject) = (certificate("alice"), subject("alice"));
        let line = line(&entry(&subject, &certificate, &"\n".repeat(100_000)));
        assert!(line.len() <= audit::MAX_LINE && line.ends_with("..."), "{line}");
    }

    #[test]
    fn names_with_spaces_do_not_tell_another_story() {
        let subject = subject("root via sudo: x");
        let line = line(&Entry {
            what: "Refusing",
            severity: Severity::Notice,
            subject: &subject,
            certificate: Certificates::None,
            reason: "no certificate",
        });
        let name = "root\\x20via\\x20sudo:\\x20x";
        let expected =
            format!("Refusing for {name} via {name} (account) ruser {name} tty {name} rhost {name}: no certificate");
        assert_eq!(line, expected);
    }

    #[test]
    fn fields_name_no_certificate_that_no_ca_has_signed() {
        let (certificate, subject) = (certificate("bob"), subject("eve"));
        let certificate = Certificates::Unsigned(&certificate);
        let entry = Entry { what: "Refusing", severity: Severity::Notice, subject: &subject, certificate, reason: "x" };
        let names: Vec<&str> = fields(&entry).iter().map(|(name, _)| *name).collect();
        for name in ["USSH_KEY_ID", "USSH_SERIAL", "USSH_CA"] {
            assert!(!names.contains(&name), "{names:?}");
        }
        assert!(
            line(&entry)
                .starts_with("Refusing certificate ID \"bob\" (serial 18446744073709551615) naming ED25519 CA SHA256:")
        );
    }

    #[test]
    fn fields_hold_the_same_as_the_line() {
        let (certificate, subject) = (certificate("alicé"), subject("bob\n"));
        let fields = fields(&entry(&subject, &certificate, "certificate is revoked"));
        let fingerprint = certificate.ca().fingerprint();
        let expected = [
            ("USSH_DECISION", "refusing"),
            ("USSH_PHASE", "account"),
            ("USSH_SERVICE", "bob\\x0a"),
            ("USSH_USER", "bob\\x0a"),
            ("USSH_RUSER", "bob\\x0a"),
            ("USSH_TTY", "bob\\x0a"),
            ("USSH_RHOST", "bob\\x0a"),
            ("USSH_KEY_ID", "alic\\xc3\\xa9"),
            ("USSH_SERIAL", "18446744073709551615"),
            ("USSH_CA", &fingerprint),
            ("USSH_REASON", "certificate is revoked"),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name, value.to_owned())));
    }
}
