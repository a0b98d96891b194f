//! The rows.

mod broken;
mod once;
mod texts;
mod unix;

use super::row::Row;

/// All of them; those that wait longest first.
pub fn all() -> Vec<Row> {
    [broken::rows(), once::rows(), unix::rows(), texts::rows()].into_iter().flatten().collect()
}

/// PAM as Debian has it.
const DEBIAN: &str = "@include common-auth\n@include common-account\n@include common-password\n";

/// The same without pam_unix's two seconds after a failure.
const UNIX: &str = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n";

/// `pam_lab` doing this in `auth`, then a password.
fn lab_then_password(what: &str) -> String {
    format!("auth required pam_lab.so {what}\n{UNIX}")
}

/// `pam_lab` alone in `auth`.
fn lab(what: &str) -> String {
    format!("auth required pam_lab.so {what}\naccount required pam_permit.so\n")
}

/// What the inventory says of a wrong password.
const FAILED: &str = "PAM: authentication failed";

/// The word before every password.
const PASSWORD: &str = "assword: ";
