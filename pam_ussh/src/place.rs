//! Where a line of ours may stand: decided by the service and the kind of line, before anything else is looked at.

use crate::log::Subject;
use crate::options::Facility;
use crate::sshd;

/// PAM_SERVICE of a console.
const LOGIN: &str = "login";

/// What is said of a line in `password`, of whatever service.
pub const PASSWORD: &str =
    "pam_ussh in password: it has no passwords to change; its place is auth, and session of sshd";

/// A place where a line of ours refuses everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// The application gave PAM no service.
    #[error("PAM names no service")]
    NoService,
    /// The application gave PAM something that is no text: by whom or from where it is asked cannot be told.
    #[error("{0} is no text")]
    Garbled(&'static str),
    /// `auth` in login.
    #[error(
        "pam_ussh in login: a console has no agent, and the rescue door must stay open; its place is auth of sudo and su, auth and session of sshd"
    )]
    Login,
    /// `account` in login.
    #[error(
        "pam_ussh in account of login: a console has no agent; its place is auth of sudo and su, auth and session of sshd"
    )]
    LoginAccount,
    /// `account` in sshd.
    #[error(
        "pam_ussh in account of sshd: the certificate cannot be seen there; its place is auth (behind publickey) and session"
    )]
    SshdAccount,
    /// `session` anywhere but in sshd.
    #[error("pam_ussh in session: its place is sshd's stack only; elsewhere it goes into auth")]
    SessionElsewhere,
}

/// Whether a line of this kind may stand where it is asked, and whether what PAM says of that can be read at all.
/// # Errors
/// [`Misplaced`]
pub(crate) fn demand_of(subject: &Subject, facility: Facility) -> Result<(), Misplaced> {
    match subject.garbled() {
        Some(item) => Err(Misplaced::Garbled(item)),
        None => demand(&subject.service, facility),
    }
}

/// Whether a line of this kind may stand in this service's stack.
/// # Errors
/// [`Misplaced`]
pub fn demand(service: &str, facility: Facility) -> Result<(), Misplaced> {
    match (service, facility) {
        ("", _) => Err(Misplaced::NoService),
        (LOGIN, Facility::Auth) => Err(Misplaced::Login),
        (LOGIN, Facility::Account) => Err(Misplaced::LoginAccount),
        (sshd::SERVICE, Facility::Account) => Err(Misplaced::SshdAccount),
        (sshd::SERVICE, Facility::Auth | Facility::Session) => Ok(()),
        (_, Facility::Session) => Err(Misplaced::SessionElsewhere),
        (_, Facility::Auth | Facility::Account) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn wrong_places_are_told_the_right_one() {
        for (service, facility, text) in [
            ("", Facility::Auth, "no service"),
            ("login", Facility::Auth, "in login: a console has no agent, and the rescue door must stay open"),
            ("login", Facility::Account, "its place is auth of sudo and su"),
            ("login", Facility::Session, "its place is sshd's stack only"),
            ("sshd", Facility::Account, "its place is auth (behind publickey) and session"),
            ("sudo", Facility::Session, "its place is sshd's stack only"),
        ] {
            let misplaced = demand(service, facility).unwrap_err().to_string();
            assert!(misplaced.contains(text), "{service} {facility}: {misplaced}");
        }
    }

    #[test]
    fn right_places_are_not_complained_of() {
        for (service, facility) in [
            ("sudo", Facility::Auth),
            ("sudo", Facility::Account),
            ("su-l", Facility::Auth),
            ("cron", Facility::Account),
            ("sshd", Facility::Auth),
            ("sshd", Facility::Session),
        ] {
            assert_eq!(demand(service, facility), Ok(()), "{service} {facility}");
        }
    }
}
