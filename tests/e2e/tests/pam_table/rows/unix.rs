//! pam_unix, and what stands beside it on every Debian.

use super::{DEBIAN, PASSWORD, UNIX};
use crate::row::{End, Row, login, row};

/// Denied after one password.
fn denied(password: &str) -> crate::row::Login {
    login(End::Denied(super::FAILED)).asked(PASSWORD, password).hidden(&["secret"])
}

pub fn rows() -> Vec<Row> {
    let [mut rows, more, others] = [passwords(), changes(), beside()];
    rows.extend(more.into_iter().chain(others));
    rows
}

fn passwords() -> Vec<Row> {
    vec![
        row("pam_unix: the right password", DEBIAN)
            .login(login(End::Certificate).asked(PASSWORD, "secret").hidden(&["secret"]))
            .logged(&["Accepted keyboard-interactive/pam for person"]),
        row("pam_unix: a wrong password", DEBIAN)
            .login(denied("wrong").hidden(&["wrong"]).took(900, 20_000))
            .logged(&["Failed keyboard-interactive/pam for person", "Authentication failure (7)"]),
        row("pam_unix: an account that does not exist is asked the same and told the same", DEBIAN)
            .login(denied("secret").user("nobody-there").took(900, 20_000))
            .login(denied("wrong").took(900, 20_000))
            .logged(&["Failed keyboard-interactive/pam for nobody-there"]),
        row("pam_unix: a locked account with its right password", DEBIAN)
            .prepare("passwd -q -l $WHO")
            .login(denied("secret").took(900, 20_000)),
        row("pam_unix: an empty password", DEBIAN).login(denied("").took(900, 20_000)),
        row("pam_unix: an account whose password is empty", DEBIAN).prepare("passwd -q -d $WHO").login(denied("")),
        row("pam_unix: a Unicode password", UNIX)
            .prepare("echo \"$WHO:pässwört 密碼 🔑\" | chpasswd")
            .login(login(End::Certificate).asked(PASSWORD, "pässwört 密碼 🔑"))
            .login(denied("passwort 密碼 🔑")),
        row("pam_unix: an expired account is told so", DEBIAN)
            .prepare("chage -E 0 $WHO")
            .login(crate::row::Login {
                end: End::Denied("PAM: account refused"),
                ..denied("secret").shown("Your account has expired; please contact your system administrator")
            })
            .logged(&["account: Authentication failure (7)"]),
        row("pam_unix: somebody whom policy gives nothing", UNIX)
            .prepare("gpasswd -d $WHO staff >/dev/null")
            .login(login(End::NoRule).asked(PASSWORD, "secret")),
    ]
}

const NOT_CHANGED: &str = "PAM: password not changed";
const MUST: &str = "You are required to change your password immediately (administrator enforced).";

fn changes() -> Vec<Row> {
    let expired =
        || login(End::Certificate).asked(PASSWORD, "secret").shown(MUST).asked("Current password: ", "secret");
    vec![
        row("pam_unix: an expired password is changed", DEBIAN)
            .prepare("chage -d 0 $WHO")
            .login(
                expired()
                    .asked("New password: ", "a fresh parrot 42")
                    .asked("Retype new password: ", "a fresh parrot 42"),
            )
            .login(login(End::Certificate).asked(PASSWORD, "a fresh parrot 42"))
            .login(denied("secret")),
        row("pam_unix: a new password that is too short, then a good one", DEBIAN)
            .prepare("chage -d 0 $WHO")
            .login(
                expired()
                    .asked("New password: ", "ab1")
                    .asked("Retype new password: ", "ab1")
                    .shown("You must choose a longer password.")
                    .asked("New password: ", "a fresh parrot 42")
                    .asked("Retype new password: ", "a fresh parrot 42"),
            )
            .login(denied("secret")),
        row("pam_unix: new passwords that are not the same", DEBIAN)
            .prepare("chage -d 0 $WHO")
            .login(
                crate::row::Login { end: End::Denied(NOT_CHANGED), ..expired() }
                    .asked("New password: ", "a fresh parrot 42")
                    .asked("Retype new password: ", "a fresh parrot 43")
                    .shown("Sorry, passwords do not match."),
            )
            // Nothing was changed.
            .login(
                expired()
                    .asked("New password: ", "a fresh parrot 42")
                    .asked("Retype new password: ", "a fresh parrot 42"),
            ),
        row("pam_unix: a wrong current password changes nothing", DEBIAN).prepare("chage -d 0 $WHO").login(
            login(End::Denied(NOT_CHANGED))
                .asked(PASSWORD, "secret")
                .shown(MUST)
                .asked("Current password: ", "wrong")
                .hidden(&["New password"]),
        ),
    ]
}

const FAILLOCK: &str = "\
auth required pam_faillock.so preauth dir=/var/run/faillock deny=2 unlock_time=600
auth [success=1 default=bad] pam_unix.so nodelay
auth [default=die] pam_faillock.so authfail dir=/var/run/faillock deny=2 unlock_time=600
auth sufficient pam_faillock.so authsucc dir=/var/run/faillock deny=2 unlock_time=600
account required pam_faillock.so dir=/var/run/faillock
account required pam_unix.so
";

fn beside() -> Vec<Row> {
    vec![
        row("pam_faillock: locked after two failures, and told so; the right password does not help", FAILLOCK)
            .login(denied("wrong").hidden(&["locked"]))
            .login(denied("wrong"))
            .login(
                denied("secret").shown("The account is locked due to 2 failed logins.").shown("minutes left to unlock"),
            )
            .logged(&["Failed keyboard-interactive/pam"]),
        row("pam_deny", "auth required pam_deny.so\naccount required pam_permit.so\n")
            .login(login(End::Denied(super::FAILED)).hidden(&["assword"])),
        row(
            "pam_permit: nothing is asked, and whoever exists gets in",
            "auth required pam_permit.so\naccount required pam_permit.so\n",
        )
        .login(login(End::Certificate).hidden(&["assword"])),
        row(
            "pam_permit: an account that does not exist gets nothing",
            "auth required pam_permit.so\naccount required pam_permit.so\n",
        )
        .login(login(End::CannotCheck("PAM: no such account")).user("nobody-there"))
        .logged(&["PAM accepted an account that does not exist"]),
        row(
            "pam_faildelay: the delay is kept before the refusal",
            format!("auth optional pam_faildelay.so delay=3000000\n{UNIX}"),
        )
        .login(denied("wrong").took(1_400, 8_000))
        .login(login(End::Certificate).asked(PASSWORD, "secret").took(0, 1_400)),
        row("PAM_FAIL_DELAY of a module: kept, and none for whoever gets in", super::lab("delay=3000000"))
            .login(login(End::Denied(super::FAILED)).took(1_400, 8_000)),
    ]
}
