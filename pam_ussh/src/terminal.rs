//! The module's rules for a program at a terminal (`pam-ussh-check`): the very functions that the hooks use. Nothing is logged here, and nobody is let in.
//!
//! Trusted: who runs it, as far as it concerns nobody else: the agent is asked as the caller's real uid, as ever.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ussh_core::agent::AgentError;
use ussh_core::certificate::Certificate;
use ussh_core::decision::{self, Tried};
use ussh_core::record::SPOOL;
use ussh_core::trusted_file::{TrustedFileError, read_trusted};
use ussh_core::verdict::{CriticalOptions, Demand, Refusal, verify};
use ussh_os::account::Account;
use ussh_os::pam_module::PamReturn;
use ussh_os::process;

use crate::answer::{Denial, Phase, Subject};
use crate::attendant::Speaker;
use crate::auth::{self, Witness};
use crate::caller::Reached;
use crate::login;
use crate::options::{AuthOptions, DEFAULT_CONFIG, Facility, FromLine, Principals};
use crate::place;
use crate::search;
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
    /// What the module can read and whoever asks here cannot: with it the answer may be another.
    pub hidden: Option<PathBuf>,
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

impl NotAccepted {
    fn new(denial: &Denial, hidden: Option<PathBuf>) -> Self {
        let outcome = match denial.code() {
            PamReturn::AuthInfoUnavail => Outcome::Unavailable,
            PamReturn::ServiceErr => Outcome::Misconfigured,
            PamReturn::Success | PamReturn::AuthErr | PamReturn::PermDenied | PamReturn::SessionErr => Outcome::Refused,
        };
        NotAccepted { reason: denial.reason(), user_text: denial.user_text(), outcome, hidden }
    }
}

/// Takes the decision that `auth` of this service would take for `user`, called by whoever runs this: with the same agent, files and checks. The agent signs a challenge, so
/// that a key may want a touch. `arguments` as libpam splits them; `None`: one is no text.
pub fn decide(service: &str, user: &str, arguments: Option<&[String]>) -> Decision {
    let witness = Notes::default();
    let answer = judge(&witness, service, user, arguments);
    let Notes { identities, steps, .. } = witness;
    Decision { identities: identities.into_inner(), steps: steps.into_inner(), answer }
}

fn judge(witness: &Notes, service: &str, user: &str, arguments: Option<&[String]>) -> Result<Certificate, NotAccepted> {
    let plain = |denial: Denial| NotAccepted::new(&denial, None);
    let options = AuthOptions::parse(service, arguments).map_err(|error| {
        let configs = config_files(arguments);
        let hidden = hidden_file(configs.iter().map(PathBuf::as_path), &error.problem.to_string());
        NotAccepted::new(&Denial::Misconfigured(error.to_string()), hidden)
    })?;
    place::demand(service, Facility::Auth).map_err(|misplaced| plain(misplaced.into()))?;
    if service == sshd::SERVICE {
        return Err(plain(Denial::Unavailable(
            "sshd judges the certificate of the login, which is not to be had from a terminal".into(),
        )));
    }
    let unavailable = |error: std::io::Error| plain(Denial::Unavailable(format!("accounts: {error}")));
    let account = Account::by_name(user).map_err(unavailable)?.ok_or_else(|| plain(Denial::UnknownUser))?;
    let caller = Account::by_uid(process::real_uid()).map_err(unavailable)?;
    let subject = Subject {
        phase: Phase::Auth,
        service: service.into(),
        user: Some(account.name.clone()),
        ruser: caller.map(|caller| caller.name),
        rhost: None,
        tty: None,
    };
    let trust = Trust::load(&options, &account).map_err(|denial| {
        let named = named_files(&options, &account);
        let hidden = match &denial {
            Denial::Misconfigured(text) => hidden_file(named.iter().map(PathBuf::as_path), text),
            Denial::Unavailable(_)
            | Denial::UnknownUser
            | Denial::UnknownGroup(_)
            | Denial::NotInGroup(_)
            | Denial::NoPrincipals(_)
            | Denial::NoAgent
            | Denial::AgentUnreachable(_)
            | Denial::Interrupted
            | Denial::Unbound(_)
            | Denial::NoCertificate
            | Denial::Refused { .. } => None,
        };
        NotAccepted::new(&denial, hidden)
    })?;
    // Which login this is may be for root alone to read. All else is looked at without: what refuses then refuses with it too.
    let hides_login = options.bind_session && login::is_hidden(Path::new(SPOOL));
    let asked = AuthOptions { bind_session: options.bind_session && !hides_login, ..options.clone() };
    let accepted = auth::challenge_before(witness, &subject, &asked, &account, &trust, &Speaker::terminal()).map_err(
        |denial| {
            let hidden = witness.hidden_records(&options, &denial).then(|| PathBuf::from(SPOOL));
            NotAccepted::new(&denial, hidden)
        },
    )?;
    if !accepted.is_whole() {
        return Err(plain(Denial::Unavailable("proof of another certificate".into())));
    }
    if hides_login {
        let denial = Denial::Unavailable(HIDDEN_LOGIN.into());
        return Err(NotAccepted::new(&denial, Some(PathBuf::from(SPOOL))));
    }
    Ok(accepted.certificate.certificate().clone())
}

/// In place of a yes.
const HIDDEN_LOGIN: &str = "bind_session=yes, and only root may read which login this process descends from";

/// The files with options that a line leads to.
pub fn config_files(arguments: Option<&[String]>) -> Vec<PathBuf> {
    let named = arguments.into_iter().flatten().find_map(|argument| argument.strip_prefix("config="));
    vec![PathBuf::from(named.unwrap_or(DEFAULT_CONFIG))]
}

/// In the order in which they are read.
fn named_files(options: &AuthOptions, account: &Account) -> Vec<PathBuf> {
    let principals = match &options.principals {
        Principals::File(pattern) => pattern.expand(&account.name, account.uid),
        Principals::None | Principals::List(_) => None,
    };
    [Some(options.ca_file.clone()), principals, options.revoked_keys.clone()].into_iter().flatten().collect()
}

/// The one of these files that `text` complains of, if that is because it is not for this process to read.
fn hidden_file<'a>(mut files: impl Iterator<Item = &'a Path>, text: &str) -> Option<PathBuf> {
    let is_hidden =
        |file: &&Path| read_trusted(file, 0).is_err_and(|error| is_denied(&error) && error.to_string() == text);
    files.find(is_hidden).map(Path::to_owned)
}

fn is_denied(error: &TrustedFileError) -> bool {
    matches!(error, TrustedFileError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied)
}

#[derive(Default)]
struct Notes {
    identities: RefCell<Vec<Listed>>,
    steps: RefCell<Vec<String>>,
    /// A certificate would do, if only its source-address could be compared with the record of this connection.
    hidden_origin: Cell<bool>,
}

/// In place of the refusal that a source-address would be.
const HIDDEN_ORIGIN: &str = "source-address not checked: only root may read where this connection comes from";

impl Notes {
    /// Whether records of sessions that this process may not read could turn the answer.
    fn hidden_records(&self, options: &AuthOptions, denial: &Denial) -> bool {
        match denial {
            Denial::Refused { .. } => self.hidden_origin.get(),
            Denial::NoAgent | Denial::AgentUnreachable(_) => {
                let barred = self.steps.borrow().iter().any(|step| step.starts_with(search::BARRED));
                let spool = std::fs::read_dir(SPOOL);
                barred && options.agent_search && spool.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
            }
            Denial::Misconfigured(_)
            | Denial::Unavailable(_)
            | Denial::UnknownUser
            | Denial::UnknownGroup(_)
            | Denial::NotInGroup(_)
            | Denial::NoPrincipals(_)
            | Denial::Interrupted
            | Denial::Unbound(_)
            | Denial::NoCertificate => false,
        }
    }

    /// Why this certificate does not do.
    fn refusal(&self, certificate: &Certificate, reached: &Reached<'_>, demand: &Demand<'_>) -> Option<String> {
        if !reached.whose.includes(certificate) {
            return Some(reached.whose.others());
        }
        let refusal = verify(certificate, demand).err()?;
        if !matches!(refusal, Refusal::NoOrigin(_)) || !reached.origin.is_hidden() {
            return Some(refusal.to_string());
        }
        // All else may refuse it still.
        let anywhere = Demand { critical_options: CriticalOptions::EnforcedBySshd, ..*demand };
        if let Err(refusal) = verify(certificate, &anywhere) {
            return Some(refusal.to_string());
        }
        self.hidden_origin.set(true);
        Some(HIDDEN_ORIGIN.into())
    }
}

impl Witness for Notes {
    /// What is looked at twice, for a certificate and for the decision, is told once.
    fn text(&self, text: &str) {
        let mut steps = self.steps.borrow_mut();
        if !steps.iter().any(|step| step == text) {
            steps.push(text.to_owned());
        }
    }

    /// Looks at all that the agent lists; the decision that follows stops at the first that does. A connection that failed would only say so the second time, and not why.
    fn agent(&self, reached: &mut Reached<'_>, demand: &Demand<'_>) -> Result<(), AgentError> {
        let identities = reached.agent.list()?;
        let listed = identities.into_iter().map(|identity| {
            let comment = identity.comment;
            if !Certificate::is_certificate_blob(&identity.blob) {
                return Listed { identity: Identity::PlainKey, refused: Some("no certificate".into()), comment };
            }
            match Certificate::parse(&identity.blob) {
                Err(error) => Listed { identity: Identity::Unreadable, refused: Some(error.to_string()), comment },
                Ok(certificate) => {
                    let refused = self.refusal(&certificate, reached, demand);
                    Listed { identity: Identity::Certificate(Box::new(certificate)), refused, comment }
                }
            }
        });
        self.identities.borrow_mut().extend(listed);
        Ok(())
    }

    /// The proof may fail after the verdict.
    fn tried(&self, tried: &[Tried]) {
        let mut identities = self.identities.borrow_mut();
        for one in tried {
            let Some(certificate) = &one.certificate else { continue };
            // What was said of it says more.
            if matches!(one.reason, decision::NotAccepted::Refused(Refusal::NoOrigin(_))) {
                continue;
            }
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
