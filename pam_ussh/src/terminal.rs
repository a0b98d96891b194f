//! The module's rules for a program at a terminal (`pam-ussh-check`): the very functions that the hooks use. Nothing is logged here, and nobody is let in.
//!
//! Trusted: who runs it, as far as it concerns nobody else: the agent is asked as the caller's real uid, as ever.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use ussh_core::certificate::Certificate;
use ussh_core::decision::Tried;
use ussh_core::verdict::{Demand, verify};
use ussh_os::account::Account;
use ussh_os::pam_module::PamReturn;
use ussh_os::process;

use crate::answer::{Denial, Phase, Subject};
use crate::attendant::Speaker;
use crate::auth::{self, Witness};
use crate::caller::Reached;
use crate::options::{AuthOptions, Facility, FromLine};
use crate::place;
use crate::sshd;
use crate::trust::{self, Trust};

/// What `auth` would say.
#[derive(Debug)]
pub struct Decision {
    /// Of every agent that was asked, what it lists, in its order.
    pub identities: Vec<Listed>,
    /// What was done, in the words of `debug`.
    pub steps: Vec<String>,
    /// The certificate that opens, or why none does.
    pub answer: Result<Certificate, NotAccepted>,
}

/// One identity of an agent.
#[derive(Debug)]
pub struct Listed {
    /// What it is.
    pub identity: Identity,
    /// Why it does not do; `None`: it does.
    pub refused: Option<String>,
    /// The agent's words for it.
    pub comment: Vec<u8>,
}

/// What an agent lists.
#[derive(Debug)]
pub enum Identity {
    /// A key without a certificate, or something unknown.
    PlainKey,
    /// It calls itself a certificate, and cannot be read.
    Unreadable,
    /// A certificate.
    Certificate(Box<Certificate>),
}

/// Why nobody gets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAccepted {
    /// What the log would say.
    pub reason: String,
    /// What the user would read.
    pub user_text: &'static str,
    /// Whether it was checked and refused, or could not be checked.
    pub outcome: Outcome,
}

/// The kinds of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Checked, and not good: PAM_AUTH_ERR, PAM_PERM_DENIED.
    Refused,
    /// PAM_AUTHINFO_UNAVAIL.
    Unavailable,
    /// PAM_SERVICE_ERR.
    Misconfigured,
}

impl From<Denial> for NotAccepted {
    fn from(denial: Denial) -> Self {
        let outcome = match denial.code() {
            PamReturn::AuthInfoUnavail => Outcome::Unavailable,
            PamReturn::ServiceErr => Outcome::Misconfigured,
            PamReturn::Success | PamReturn::AuthErr | PamReturn::PermDenied | PamReturn::SessionErr => Outcome::Refused,
        };
        NotAccepted { reason: denial.reason(), user_text: denial.user_text(), outcome }
    }
}

/// Takes the decision that `auth` of this service would take for `user`, called by whoever runs this: with the same agent, files and checks. The agent signs a challenge, so
/// that a key may want a touch.
pub fn decide(service: &str, user: &str, arguments: &[String]) -> Decision {
    let witness = Notes::default();
    let answer = judge(&witness, service, user, arguments).map_err(NotAccepted::from);
    let Notes { identities, steps } = witness;
    Decision { identities: identities.into_inner(), steps: steps.into_inner(), answer }
}

fn judge(witness: &Notes, service: &str, user: &str, arguments: &[String]) -> Result<Certificate, Denial> {
    let options =
        AuthOptions::parse(service, Some(arguments)).map_err(|error| Denial::Misconfigured(error.to_string()))?;
    place::demand(service, Facility::Auth)?;
    if service == sshd::SERVICE {
        return Err(Denial::Unavailable(
            "sshd judges the certificate of the login, which is not to be had from a terminal".into(),
        ));
    }
    let unavailable = |error: std::io::Error| Denial::Unavailable(format!("accounts: {error}"));
    let account = Account::by_name(user).map_err(unavailable)?.ok_or(Denial::UnknownUser)?;
    let caller = Account::by_uid(process::real_uid()).map_err(unavailable)?;
    let subject = Subject {
        phase: Phase::Auth,
        service: service.into(),
        user: Some(account.name.clone()),
        ruser: caller.map(|caller| caller.name),
        rhost: None,
        tty: None,
    };
    let trust = Trust::load(&options, &account)?;
    let accepted = auth::challenge_before(witness, &subject, &options, &account, &trust, &Speaker::terminal())?;
    if !accepted.is_whole() {
        return Err(Denial::Unavailable("proof of another certificate".into()));
    }
    Ok(accepted.certificate.certificate().clone())
}

#[derive(Default)]
struct Notes {
    identities: RefCell<Vec<Listed>>,
    steps: RefCell<Vec<String>>,
}

impl Witness for Notes {
    fn text(&self, text: &str) {
        self.steps.borrow_mut().push(text.to_owned());
    }

    /// Looks at all that the agent lists; the decision that follows stops at the first that does.
    fn agent(&self, reached: &mut Reached<'_>, demand: &Demand<'_>) {
        // That it does not answer the decision will find too, and say so.
        let Ok(identities) = reached.agent.list() else { return };
        let listed = identities.into_iter().map(|identity| {
            let comment = identity.comment;
            if !Certificate::is_certificate_blob(&identity.blob) {
                return Listed { identity: Identity::PlainKey, refused: Some("no certificate".into()), comment };
            }
            match Certificate::parse(&identity.blob) {
                Err(error) => Listed { identity: Identity::Unreadable, refused: Some(error.to_string()), comment },
                Ok(certificate) => {
                    let refused = if reached.whose.includes(&certificate) {
                        verify(&certificate, demand).err().map(|refusal| refusal.to_string())
                    } else {
                        Some("not the key ID of this account's sessions".into())
                    };
                    Listed { identity: Identity::Certificate(Box::new(certificate)), refused, comment }
                }
            }
        });
        self.identities.borrow_mut().extend(listed);
    }

    /// The proof may fail after the verdict.
    fn tried(&self, tried: &[Tried]) {
        let mut identities = self.identities.borrow_mut();
        for one in tried {
            let Some(certificate) = &one.certificate else { continue };
            let same = |listed: &&mut Listed| match &listed.identity {
                Identity::Certificate(other) => **other == *certificate,
                Identity::PlainKey | Identity::Unreadable => false,
            };
            for listed in identities.iter_mut().filter(same) {
                listed.refused = Some(one.reason.to_string());
            }
        }
    }
}

/// Reads a file as `ca_file=` would.
/// # Errors
/// The reason that the log would give.
pub fn read_cas(path: &Path) -> Result<(), String> {
    trust::read_cas(path).map(drop).map_err(|denial| stripped(&denial))
}

/// Reads a file as `revoked_keys=` would, with `krl_max_age=`.
/// # Errors
/// The reason that the log would give.
pub fn read_revoked(path: &Path, max_age: Option<Duration>) -> Result<(), String> {
    trust::read_revoked(path, max_age).map(drop).map_err(|denial| stripped(&denial))
}

/// Reads a file as `authorized_principals_file=` would.
/// # Errors
/// The reason that the log would give.
pub fn read_principals(path: &Path) -> Result<(), String> {
    trust::read_principals(path).map(drop).map_err(|denial| stripped(&denial))
}

/// Without the `misconfigured:` that a finding says in its own way.
fn stripped(denial: &Denial) -> String {
    let reason = denial.reason();
    let known = ["misconfigured: ", "cannot check: "];
    known.iter().find_map(|prefix| reason.strip_prefix(prefix)).unwrap_or(&reason).to_owned()
}
