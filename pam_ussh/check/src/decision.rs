//! The module's decision from a terminal: what `auth` would say of the agent of whoever runs this.

use std::fmt::Write as _;

use pam_ussh::terminal::{Decision, Identity, Listed, Outcome};
use serde::Serialize;
use ussh_core::audit;
use ussh_core::certificate::Certificate;
use ussh_core::clock::UnixTime;
use ussh_core::escape::{MAX_FIELD, escape};

use crate::installed::Judged;
use crate::report::{Verdict, shown};

/// As JSON.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// How it ends.
    pub verdict: Verdict,
    /// PAM_SERVICE.
    pub service: String,
    /// PAM_USER.
    pub user: String,
    /// By which options.
    pub options: Judged,
    /// The certificate that opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Shown>,
    /// Why none does, as the log would say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What only root may read, so that this is not decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
    /// What the user would read. None where that is not decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_text: Option<&'static str>,
    /// What the agent lists.
    pub identities: Vec<IdentityAnswer>,
    /// What was done.
    pub steps: Vec<String>,
}

/// One identity.
#[derive(Debug, Serialize)]
pub struct IdentityAnswer {
    /// What it is: a key, an unreadable certificate, or a certificate.
    pub kind: &'static str,
    /// The agent's words for it, escaped.
    pub comment: String,
    /// The certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Shown>,
    /// Whether it does.
    pub good: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A certificate, escaped.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// In OpenSSH's words.
    pub line: String,
    /// Key ID.
    pub key_id: String,
    /// Serial.
    pub serial: u64,
    /// The CA's fingerprint.
    pub ca: String,
    /// Principals.
    pub principals: Vec<String>,
    /// Seconds since the Unix epoch, inclusive.
    pub valid_after: u64,
    /// Seconds since the Unix epoch, exclusive.
    pub valid_before: u64,
}

impl Answer {
    /// Of a decision.
    pub fn new(service: &str, user: &str, options: Judged, decision: Decision) -> Self {
        let Decision { identities, steps, answer } = decision;
        let (verdict, accepted, no) = match answer {
            Ok(certificate) => (Verdict::Good, Some(Shown::of(&certificate)), None),
            Err(no) => match no.outcome {
                _ if no.hidden.is_some() => (Verdict::Unchecked, None, Some(no)),
                Outcome::Refused | Outcome::Misconfigured => (Verdict::Bad, None, Some(no)),
                Outcome::Unavailable => (Verdict::Unchecked, None, Some(no)),
            },
        };
        let hidden = no.as_ref().and_then(|no| no.hidden.as_ref()).map(|path| path.display().to_string());
        Answer {
            // What is decided by options that are not the service's is not its answer.
            verdict: if options.are_the_services && !options.module_is_missing { verdict } else { Verdict::Unchecked },
            service: service.to_owned(),
            user: user.to_owned(),
            options,
            accepted,
            reason: no.as_ref().map(|no| no.reason.clone()),
            user_text: no.filter(|_| hidden.is_none()).map(|no| no.user_text),
            hidden,
            identities: identities.into_iter().map(IdentityAnswer::of).collect(),
            steps,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", shown(&self.options.line()));
        for step in &self.steps {
            let _ = writeln!(text, "{}", shown(step));
        }
        for identity in &self.identities {
            let what = identity.certificate.as_ref().map_or(identity.kind, |certificate| certificate.line.as_str());
            let verdict = match &identity.reason {
                None => "good",
                Some(reason) => &shown(reason),
            };
            let _ = writeln!(text, "  {what} ({}): {verdict}", identity.comment);
        }
        let service = shown(&self.service);
        let place = format!("{service} for {}", shown(&self.user));
        let reason = shown(self.reason.as_deref().unwrap_or_default());
        match (&self.accepted, &self.hidden) {
            (Some(certificate), _) => {
                let _ = writeln!(text, "{place}: accepted, with {}", certificate.line);
            }
            (None, Some(hidden)) => {
                let hidden = shown(hidden);
                let _ = writeln!(text, "{place}: not decided: only root may read {hidden}; {service} may well accept");
                let _ = writeln!(text, "    without it: {reason}");
            }
            (None, None) => {
                let _ = writeln!(text, "{place}: refused: {reason}");
                let _ = writeln!(text, "    the user reads: {}", self.user_text.unwrap_or_default());
            }
        }
        if self.options.module_is_missing {
            let _ = writeln!(
                text,
                "    but pam_ussh.so is not on this host: {service} cannot ask it, and refuses or passes its line over"
            );
        }
        if !self.options.are_the_services {
            let _ = writeln!(text, "    but {service} does not judge by these options: its answer is not known");
        }
        text
    }
}

impl IdentityAnswer {
    fn of(listed: Listed) -> Self {
        let (kind, certificate) = match &listed.identity {
            Identity::PlainKey => ("key", None),
            Identity::Unreadable => ("unreadable certificate", None),
            Identity::Certificate(certificate) => ("certificate", Some(Shown::of(certificate))),
        };
        let comment = escape(&listed.comment, MAX_FIELD);
        IdentityAnswer { kind, comment, certificate, good: listed.refused.is_none(), reason: listed.refused }
    }
}

impl Shown {
    fn of(certificate: &Certificate) -> Self {
        let seconds = |UnixTime(seconds): UnixTime| seconds;
        Shown {
            line: audit::certificate_line("", certificate, "").trim_start().to_owned(),
            key_id: escape(certificate.key_id(), MAX_FIELD),
            serial: certificate.serial(),
            ca: certificate.ca().fingerprint(),
            principals: certificate.principals().iter().map(|name| escape(name, MAX_FIELD)).collect(),
            valid_after: seconds(certificate.valid_after()),
            valid_before: seconds(certificate.valid_before()),
        }
    }
}
