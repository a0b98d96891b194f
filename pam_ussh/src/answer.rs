//! What PAM and the user are told.
//!
//! PAM gets success in one place, and only for a judged certificate with a proof for that very certificate; beside it stands the one for those whom `account` exempts. Users get
//! one sentence and what to try.

use ussh_core::agent::AgentError;
use ussh_core::certificate::Certificate;
use ussh_core::challenge::PossessionProof;
use ussh_core::decision::{NotAccepted, Tried};
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_core::verdict::{Refusal, VerifiedCertificate, check_ca_signature};
use ussh_os::pam_module::{PamHandle, PamReturn};
use ussh_os::syslog::Severity;

use crate::account::Exempt;
use crate::glass;
use crate::kept::KeptProof;
use crate::log::{self, Entry};
use crate::login::{Bond, Login, Unbound};
use crate::place::{self, Misplaced};
use crate::sshd::{self, LoginProof};

pub use crate::log::{Phase, Subject};

/// Proof of possession, by either way.
#[derive(Debug)]
#[must_use]
pub enum Proof {
    /// The agent signed our challenge.
    Challenge(PossessionProof),
    /// sshd verified the client's signature in this login.
    Login(LoginProof),
    /// `auth` has made one in this very handle.
    Kept(KeptProof),
}

impl Proof {
    /// Whether it is for this certificate.
    pub fn is_for(&self, certificate: &VerifiedCertificate) -> bool {
        match self {
            Proof::Challenge(proof) => proof.is_for(certificate),
            Proof::Login(proof) => proof.is_for(certificate),
            Proof::Kept(proof) => proof.is_for(certificate),
        }
    }
}

/// All three parts of a yes.
#[derive(Debug)]
#[must_use]
pub struct Accepted {
    /// Judged.
    pub certificate: VerifiedCertificate,
    /// Proved.
    pub proof: Proof,
    /// Of the caller's own login, where the line asks for that.
    pub bond: Bond,
    /// It was made just now, outside of a login, by a certificate for break-glass.
    pub break_glass: Option<glass::Use>,
}

const NOT_GOOD: &str = "No certificate that is good for this: see \"ssh-add -l\", get a new one with \"ussh --login\" on your own machine, or log in again with \"ssh -A\".";
const NOT_GOOD_FOR_SSHD: &str =
    "No certificate that is good for this: see \"ssh-add -l\", or get a new one with \"ussh --login\".";

/// Every no.
#[derive(Debug)]
pub enum Denial {
    /// The line, a file it names, or its place is wrong.
    Misconfigured(String),
    /// A check could not be made.
    Unavailable(String),
    /// No such account, or PAM names nobody.
    UnknownUser,
    /// `group=` names a group that is not there.
    UnknownGroup(String),
    /// PAM_USER is not in `group=`.
    NotInGroup(String),
    /// `authorized_principals_file=` has nothing for this user: why.
    NoPrincipals(String),
    /// No SSH_AUTH_SOCK.
    NoAgent,
    /// No connection to the agent, or it broke off.
    AgentUnreachable(String),
    /// The person at the key gave up (Ctrl-C).
    Interrupted,
    /// `bind_session=yes`, and this is not of the caller's own login.
    Unbound(Box<Unbound>),
    /// Nothing that calls itself a certificate.
    NoCertificate,
    /// Judged, and not good.
    Refused {
        /// `None`: could not be read.
        certificate: Option<Box<Certificate>>,
        /// Whether the CA that it names has signed it.
        is_signed: bool,
        /// For the log.
        reason: String,
        /// Whether all that lacks is the agent's signature: its person did not touch the key, or said no.
        is_unsigned_challenge: bool,
        /// How many more were tried.
        others: usize,
    },
}

impl From<Misplaced> for Denial {
    fn from(misplaced: Misplaced) -> Self {
        Denial::Misconfigured(misplaced.to_string())
    }
}

impl Denial {
    /// Of all that was tried, the one that came furthest: most likely the one that was meant.
    pub fn of_tried(tried: Vec<Tried>) -> Self {
        if tried.iter().any(|one| one.reason == NotAccepted::Agent(AgentError::Interrupted)) {
            return Denial::Interrupted;
        }
        let others = tried.len().saturating_sub(1);
        let Some(Tried { certificate, reason }) = furthest(tried) else {
            return Denial::NoCertificate;
        };
        let is_signed = !matches!(reason, NotAccepted::Refused(Refusal::BadCaSignature(_)));
        let is_unsigned_challenge = matches!(reason, NotAccepted::AgentRefused | NotAccepted::Agent(_));
        let (certificate, reason) = (certificate.map(Box::new), reason.to_string());
        Denial::Refused { certificate, is_signed, reason, is_unsigned_challenge, others }
    }

    /// Nothing but certificates of other lineages than the login's: this is the first of them.
    pub fn of_other_lineage(certificate: Certificate, others: usize, login: &Login) -> Self {
        let is_signed = check_ca_signature(&certificate).is_ok();
        let (certificate, reason) = (Some(Box::new(certificate)), login.other_lineage());
        Denial::Refused { certificate, is_signed, reason, is_unsigned_challenge: false, others }
    }

    pub fn code(&self) -> PamReturn {
        match self {
            Denial::Misconfigured(_) | Denial::UnknownGroup(_) => PamReturn::ServiceErr,
            Denial::Unavailable(_) | Denial::NoAgent | Denial::AgentUnreachable(_) | Denial::Interrupted => {
                PamReturn::AuthInfoUnavail
            }
            Denial::NotInGroup(_) => PamReturn::PermDenied,
            Denial::UnknownUser
            | Denial::NoPrincipals(_)
            | Denial::Unbound(_)
            | Denial::NoCertificate
            | Denial::Refused { .. } => PamReturn::AuthErr,
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Denial::Misconfigured(_) | Denial::Unavailable(_) | Denial::UnknownGroup(_) => Severity::Error,
            Denial::UnknownUser
            | Denial::NotInGroup(_)
            | Denial::NoPrincipals(_)
            | Denial::NoAgent
            | Denial::AgentUnreachable(_)
            | Denial::Interrupted
            | Denial::Unbound(_)
            | Denial::NoCertificate
            | Denial::Refused { .. } => Severity::Notice,
        }
    }

    /// For the log, and for an administrator at a terminal; never for the one who was refused.
    pub fn reason(&self) -> String {
        match self {
            Denial::Misconfigured(what) => format!("misconfigured: {what}"),
            Denial::Unavailable(what) => format!("cannot check: {what}"),
            Denial::UnknownUser => "no such account".into(),
            Denial::UnknownGroup(group) => format!("misconfigured: group={group} does not exist"),
            Denial::NotInGroup(group) => format!("not in group {group}"),
            Denial::NoPrincipals(why) => format!("no authorized principals for this user: {why}"),
            Denial::NoAgent => "no SSH_AUTH_SOCK".into(),
            Denial::AgentUnreachable(why) => format!("agent: {why}"),
            Denial::Interrupted => "interrupted by the user".into(),
            Denial::Unbound(why) => why.to_string(),
            Denial::NoCertificate => "no certificate".into(),
            Denial::Refused { reason, others: 0, .. } => reason.clone(),
            Denial::Refused { reason, others, .. } => format!("{reason} (and {others} more tried)"),
        }
    }

    fn certificate(&self) -> log::Certificates<'_> {
        match self {
            Denial::Refused { certificate: Some(certificate), is_signed: true, .. } => {
                log::Certificates::One(certificate)
            }
            Denial::Refused { certificate: Some(certificate), .. } => log::Certificates::Unsigned(certificate),
            Denial::Refused { certificate: None, .. } => log::Certificates::Unreadable,
            Denial::Misconfigured(_)
            | Denial::Unavailable(_)
            | Denial::UnknownUser
            | Denial::UnknownGroup(_)
            | Denial::NotInGroup(_)
            | Denial::NoPrincipals(_)
            | Denial::NoAgent
            | Denial::AgentUnreachable(_)
            | Denial::Interrupted
            | Denial::Unbound(_)
            | Denial::NoCertificate => log::Certificates::None,
        }
    }

    /// As [`Denial::user_text`], to the user of this service: sshd judges the certificate of the login, and no agent that `ssh -A` would lend.
    pub fn user_text_in(&self, service: &str) -> &'static str {
        match (self.user_text(), service) {
            (NOT_GOOD, sshd::SERVICE) => NOT_GOOD_FOR_SSHD,
            (text, _) => text,
        }
    }

    /// One sentence and what to try. Never which rule said no.
    pub fn user_text(&self) -> &'static str {
        match self {
            Denial::Misconfigured(_) | Denial::UnknownGroup(_) => {
                "pam_ussh is not set up rightly on this host: please tell its administrator."
            }
            Denial::Unavailable(_) => {
                "Your certificate could not be checked on this host: please tell its administrator."
            }
            Denial::NoAgent => {
                "There is no SSH agent in this session: log in again with \"ssh -A\", or with \"ussh\" if a [[host]] in ussh.toml names this host."
            }
            Denial::AgentUnreachable(_) => {
                "Your SSH agent does not answer: see \"ssh-add -l\", or log in again with \"ussh\" or \"ssh -A\"."
            }
            Denial::Interrupted => "Interrupted while your SSH agent was asked: try again.",
            Denial::Unbound(why) => why.user_text(),
            Denial::Refused { is_unsigned_challenge: true, .. } => {
                "Your SSH agent has not signed for your certificate: try again, and touch its key, or say yes, when you are asked."
            }
            Denial::NotInGroup(_) => {
                "This account may not do that on this host, whatever certificate it has: please ask its administrator."
            }
            Denial::UnknownUser | Denial::NoPrincipals(_) | Denial::NoCertificate | Denial::Refused { .. } => NOT_GOOD,
        }
    }
}

/// How many that came far, and turn out to be signed by nobody, are told apart from the others before the rest is taken as it is.
const MAX_FORGED: usize = 8;

/// The one that came furthest. What it holds was judged before its CA's signature, so that is looked at now: else a log would say in the CA's name what anybody has made up.
fn furthest(mut tried: Vec<Tried>) -> Option<Tried> {
    for _ in 0..MAX_FORGED {
        let one = tried.iter_mut().max_by_key(|one| progress(&one.reason))?;
        match one.certificate.as_ref().map(check_ca_signature) {
            Some(Err(forged)) if progress(&one.reason) > 0 => one.reason = NotAccepted::Refused(forged),
            _ => break,
        }
    }
    let mut last = tried.into_iter().max_by_key(|one| progress(&one.reason))?;
    if let Some(Err(forged)) = last.certificate.as_ref().map(check_ca_signature) {
        last.reason = NotAccepted::Refused(forged);
    }
    Some(last)
}

/// How far a certificate came in the order of the checks.
fn progress(reason: &NotAccepted) -> u8 {
    match reason {
        NotAccepted::Refused(refusal) => match refusal {
            Refusal::Malformed(_) => 0,
            Refusal::UntrustedCa { .. } => 1,
            Refusal::BreakGlass(_) => 2,
            Refusal::WrongKind => 2,
            Refusal::NotYetValid { .. } | Refusal::Expired { .. } => 3,
            Refusal::ValidityTooLong { .. } | Refusal::LoginTooOld { .. } | Refusal::LoginFromTheFuture { .. } => 4,
            Refusal::NoPrincipals | Refusal::PrincipalNotListed(_) => 5,
            Refusal::UnknownCriticalOption(_)
            | Refusal::ForceCommand
            | Refusal::SourceAddress
            | Refusal::NoOrigin(_)
            | Refusal::MalformedOption(_) => 6,
            Refusal::Revoked => 7,
            Refusal::BadCaSignature(_) => 0,
        },
        NotAccepted::TooManyCandidates => 8,
        NotAccepted::AgentRefused | NotAccepted::Agent(_) | NotAccepted::BadProof(_) => 9,
    }
}

/// Tells everybody, and gives PAM its answer.
pub fn conclude(handle: &PamHandle, silent: bool, subject: &Subject, verdict: Result<Accepted, Denial>) -> PamReturn {
    match verdict {
        Ok(accepted) => accept(subject, &accepted),
        Err(denial) => {
            log(subject, &denial);
            if may_speak(silent, &subject.service) {
                handle.say(denial.user_text_in(&subject.service));
            }
            denial.code()
        }
    }
}

/// Whether the user is told. sudo authenticates with PAM_SILENT whatever its user asked for (1.9.13, plugins/sudoers/auth/pam.c `sudo_pam_verify`), and without the sentence would say
/// "incorrect password" to somebody whom nobody asked for one.
pub fn may_speak(silent: bool, service: &str) -> bool {
    !silent || matches!(service, "sudo" | "sudo-i")
}

fn log(subject: &Subject, denial: &Denial) {
    entry("Refusing", denial.severity(), subject, denial.certificate(), &denial.reason());
}

fn entry(what: &str, severity: Severity, subject: &Subject, certificate: log::Certificates<'_>, reason: &str) {
    log::write(&Entry { what, severity, subject, certificate, reason });
}

impl Accepted {
    /// Whether proof and bond are for this very certificate: without that there is no success.
    pub fn is_whole(&self) -> bool {
        self.proof.is_for(&self.certificate) && self.bond.is_for(&self.certificate)
    }
}

/// The one success of `auth`, and of `account` with a proof.
fn accept(subject: &Subject, accepted: &Accepted) -> PamReturn {
    let Accepted { certificate, proof, bond, break_glass } = accepted;
    let shown = log::Certificates::One(certificate.certificate());
    if !accepted.is_whole() {
        entry("Refusing", Severity::Error, subject, shown, "proof of another certificate");
        return PamReturn::AuthErr;
    }
    if let Some(used) = break_glass {
        glass::elsewhere(subject, used, certificate.certificate());
    }
    let kept = matches!(proof, Proof::Kept(_)).then(|| "proof made by auth".to_owned());
    let bound = bond.login().map(|login| format!("of its own login, {login}"));
    let detail: Vec<String> = kept.into_iter().chain(bound).collect();
    entry("Accepted", Severity::Info, subject, shown, &detail.join(", "));
    PamReturn::Success
}

/// The one success of `account` without a certificate: for those whom only `account` can exempt.
pub fn exempt(subject: &Subject, exempt: &Exempt) -> PamReturn {
    entry("Exempted", Severity::Notice, subject, log::Certificates::None, exempt.reason());
    PamReturn::Success
}

/// Every identity that did not do, for `debug`.
pub fn debug(subject: &Subject, tried: &[Tried]) {
    for one in tried {
        let certificate = match &one.certificate {
            None => log::Certificates::Unreadable,
            Some(certificate) if check_ca_signature(certificate).is_ok() => log::Certificates::One(certificate),
            Some(certificate) => log::Certificates::Unsigned(certificate),
        };
        entry("debug: tried", Severity::Debug, subject, certificate, &one.reason.to_string());
    }
}

/// One line of what is being done, for `debug`.
pub fn debug_text(subject: &Subject, text: &str) {
    entry("debug:", Severity::Debug, subject, log::Certificates::None, text);
}

/// setcred: there is nothing to set, and PAM_IGNORE in its place would break `sufficient`.
pub fn nothing_to_set(_: &PamHandle, _: bool, _: Option<Vec<String>>) -> PamReturn {
    PamReturn::Success
}

/// chauthtok: a certificate is no password.
pub fn no_password(handle: &PamHandle, _: bool, _: Option<Vec<String>>) -> PamReturn {
    let denial = Denial::Misconfigured(place::PASSWORD.into());
    log(&Subject::of(handle, Phase::Password), &denial);
    denial.code()
}

/// The record was written, or removed.
pub fn session_recorded(subject: &Subject, debug: bool) -> PamReturn {
    if debug {
        entry("debug: record up to date", Severity::Debug, subject, log::Certificates::None, "");
    }
    PamReturn::Success
}

/// No record, and the line says that this ends it.
pub fn session_refused(subject: &Subject, denial: &Denial) -> PamReturn {
    log(subject, denial);
    PamReturn::SessionErr
}

/// Somebody comes in by break-glass, or uses it in `what`; `problem`: why no note of it could be left, or empty.
pub fn break_glass(subject: &Subject, what: &str, certificate: &Certificate, problem: &str) {
    let reason = match problem {
        "" => String::new(),
        problem => format!("no note left for the CA: {}", escape(problem.as_bytes(), MAX_FIELD)),
    };
    let what = format!("BREAK-GLASS {what} by");
    entry(&what, Severity::Alert, subject, log::Certificates::One(certificate), &reason);
}

/// It cannot be told which certificates are for break-glass.
pub fn break_glass_unknown(subject: &Subject, problem: &str) {
    let reason = format!("break-glass CA: {}", escape(problem.as_bytes(), MAX_FIELD));
    entry("Session goes on", Severity::Error, subject, log::Certificates::None, &reason);
}

/// No record, and the line lets the session go on (`spool_failure=allow`).
pub fn session_unwatched(subject: &Subject, denial: &Denial) -> PamReturn {
    entry("Session goes on unwatched", Severity::Warning, subject, log::Certificates::None, &denial.reason());
    PamReturn::Success
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_os::process_tree::ProcessId;
    use ussh_os::sshd_connection::NotCarried;

    use super::*;
    use crate::testing::certificate;

    fn sshd() -> ProcessId {
        ProcessId { pid: 7, start_time: 42 }
    }

    fn subject() -> Subject {
        Subject {
            phase: Phase::Auth,
            service: "sudo".into(),
            user: Some("alice".into()),
            ruser: Some("alice".into()),
            rhost: None,
            tty: Some("/dev/pts/3".into()),
        }
    }

    fn log_line(denial: &Denial, subject: &Subject) -> String {
        let reason = denial.reason();
        log::line(&Entry {
            what: "Refusing",
            severity: denial.severity(),
            subject,
            certificate: denial.certificate(),
            reason: &reason,
        })
    }

    fn every_denial() -> Vec<Denial> {
        vec![
            Denial::Misconfigured("x".into()),
            Denial::Unavailable("x".into()),
            Denial::UnknownUser,
            Denial::UnknownGroup("g".into()),
            Denial::NotInGroup("g".into()),
            Denial::NoPrincipals("x".into()),
            Denial::NoAgent,
            Denial::AgentUnreachable("x".into()),
            Denial::Interrupted,
            Unbound::NoLogin("x".into()).into(),
            Unbound::NotRecorded("x".into(), sshd()).into(),
            Unbound::WithoutCertificate(sshd()).into(),
            Unbound::OtherAgent { path: "/x".into(), monitor: sshd(), why: NotCarried::NotSeen }.into(),
            Denial::NoCertificate,
            unread(0),
        ]
    }

    fn unread(others: usize) -> Denial {
        let reason = "truncated".into();
        Denial::Refused { certificate: None, is_signed: true, reason, is_unsigned_challenge: false, others }
    }

    #[test]
    fn no_denial_is_a_success() {
        for denial in every_denial() {
            assert_ne!(denial.code(), PamReturn::Success, "{denial:?}");
            assert_ne!(session_refused(&subject(), &denial), PamReturn::Success, "{denial:?}");
        }
    }

    #[test]
    fn users_get_one_sentence_and_no_reason() {
        for denial in every_denial() {
            let text = denial.user_text();
            assert!(text.ends_with('.') && text.len() < 200 && text.is_ascii(), "{text}");
        }
    }

    #[test]
    fn users_are_sent_for_a_new_certificate_only_where_one_may_help() {
        let no_certificate = Denial::NoCertificate.user_text();
        assert!(no_certificate.contains("get a new one"));
        let user_text = |reason: NotAccepted| Denial::of_tried(vec![Tried { certificate: None, reason }]).user_text();
        for at_the_key in [NotAccepted::AgentRefused, AgentError::Timeout.into(), AgentError::Io("x".into()).into()] {
            assert!(user_text(at_the_key.clone()).contains("touch its key, or say yes"), "{at_the_key}");
        }
        for of_it in
            [Refusal::Revoked.into(), NotAccepted::TooManyCandidates, Refusal::PrincipalNotListed("x".into()).into()]
        {
            assert_eq!(user_text(of_it.clone()), no_certificate, "{of_it}");
        }
        assert!(Denial::NotInGroup("g".into()).user_text().contains("whatever certificate"));
        // sshd asks no agent.
        assert!(!Denial::NoCertificate.user_text_in("sshd").contains("ssh -A"));
        assert_eq!(Denial::NoCertificate.user_text_in("sudo"), no_certificate);
        // Which rule it was is not told.
        assert!(!Denial::NotInGroup("wheel".into()).user_text().contains("group"));
    }

    #[test]
    fn keeps_silent_when_asked_to_but_in_sudo() {
        assert!(may_speak(false, "su") && may_speak(false, "sudo"));
        assert!(!may_speak(true, "su") && !may_speak(true, "sudoers") && !may_speak(true, ""));
        assert!(may_speak(true, "sudo") && may_speak(true, "sudo-i"));
    }

    #[test]
    fn the_log_says_for_whom_where_and_why() {
        let line = log_line(&Denial::NotInGroup("admins".into()), &subject());
        assert_eq!(line, "Refusing for alice via sudo ruser alice tty /dev/pts/3: not in group admins");
        let line = log_line(&unread(2), &subject());
        assert_eq!(
            line,
            "Refusing unreadable certificate for alice via sudo ruser alice tty /dev/pts/3: truncated (and 2 more tried)"
        );
    }

    #[test]
    fn nobody_writes_lines_of_their_own_into_the_log() {
        let forged = Subject { user: Some("eve\nAccepted certificate".into()), ..subject() };
        for denial in every_denial() {
            assert!(!log_line(&denial, &forged).contains('\n'), "{denial:?}");
        }
    }

    #[test]
    fn of_many_the_one_that_came_furthest_is_named() {
        let tried = |reason| Tried { certificate: None, reason };
        let refused = |refusal| tried(NotAccepted::Refused(refusal));
        let foreign = || refused(Refusal::UntrustedCa { fingerprint: "SHA256:x".into() });
        let reason = |all| {
            let Denial::Refused { reason, others, .. } = Denial::of_tried(all) else { panic!("not refused") };
            (reason, others)
        };
        assert_eq!(reason(vec![foreign(), refused(Refusal::Revoked), foreign()]), (Refusal::Revoked.to_string(), 2));
        assert_eq!(
            reason(vec![refused(Refusal::Revoked), tried(NotAccepted::AgentRefused)]).0,
            "the agent refused to sign"
        );
        assert!(matches!(Denial::of_tried(vec![]), Denial::NoCertificate));
    }

    #[test]
    fn of_a_certificate_that_no_ca_has_signed_nothing_it_holds_is_told() {
        let signed = Certificate::from_openssh(&certificate("alice")).unwrap();
        let mut forged = Certificate::from_openssh(&certificate("bob")).unwrap().blob().to_vec();
        // The signature's last byte.
        *forged.last_mut().unwrap() ^= 1;
        let forged = Certificate::parse(&forged).unwrap();
        let tried = |certificate: &Certificate, refusal| Tried {
            certificate: Some(certificate.clone()),
            reason: NotAccepted::Refused(refusal),
        };
        let refused = |all| {
            let denial = Denial::of_tried(all);
            let Denial::Refused { certificate, is_signed, reason, .. } = denial else { panic!("{denial:?}") };
            (certificate.unwrap().key_id().to_vec(), is_signed, reason)
        };

        // It claims to have come furthest.
        let (key_id, is_signed, reason) = refused(vec![tried(&forged, Refusal::Revoked)]);
        assert_eq!((key_id.as_slice(), is_signed), (&b"bob"[..], false));
        assert_eq!(reason, "CA signature: bad signature");
        let (key_id, is_signed, reason) =
            refused(vec![tried(&forged, Refusal::Revoked), tried(&signed, Refusal::PrincipalNotListed("x".into()))]);
        assert_eq!((key_id.as_slice(), is_signed), (&b"alice"[..], true));
        assert_eq!(reason, Refusal::PrincipalNotListed("x".into()).to_string());
        // Of more than are looked at, the one that is told is.
        let (_, is_signed, _) = refused((0..MAX_FORGED + 2).map(|_| tried(&forged, Refusal::Revoked)).collect());
        assert!(!is_signed);
    }
}
