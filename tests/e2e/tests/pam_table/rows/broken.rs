//! Modules that break down: the worker's affair, and nobody else's.

use super::{PASSWORD, UNIX, lab, lab_then_password};
use crate::row::{End, Login, Row, login, row};

fn cannot_check(why: &'static str) -> Login {
    login(End::CannotCheck(why))
}

const BROKE_DOWN: &str = "PAM: broke down";
const UNAVAILABLE: &str = "PAM: could not check";

pub fn rows() -> Vec<Row> {
    let after_password = |what: &str| format!("{UNIX}auth required pam_lab.so {what}\n");
    let with_password = |end| login(end).asked(PASSWORD, "secret");
    vec![
        row("a module that hangs: told at the deadline", lab_then_password("hang"))
            .grace(6)
            .login(login(End::TooLong).took(4_000, 9_000)),
        row(
            "a module that hangs and hears no alarm: told at the deadline, and its worker is killed",
            after_password("deaf"),
        )
        .grace(6)
        .login(with_password(End::TooLong).took(4_000, 9_000)),
        row(
            "a module that leaves a child behind and crashes: told at once, the child ended",
            lab_then_password("orphan"),
        )
        .login(cannot_check(BROKE_DOWN))
        .logged(&["the PAM worker broke down (signal: 6 (SIGABRT))"]),
        row("a module that segfaults", lab_then_password("segfault"))
            .login(cannot_check(BROKE_DOWN))
            .logged(&["the PAM worker broke down (signal: 11 (SIGSEGV))"]),
        row("a module that segfaults after the right password", after_password("segfault"))
            .login(with_password(End::CannotCheck(BROKE_DOWN))),
        row("a module that calls exit(0)", lab_then_password("exit")).login(cannot_check(BROKE_DOWN)),
        row("a module that calls exit(0) after the right password", after_password("exit"))
            .login(with_password(End::CannotCheck(BROKE_DOWN))),
        row("an account module that calls exit(0)", format!("{UNIX}account required pam_lab.so exit\n"))
            .login(with_password(End::CannotCheck(BROKE_DOWN))),
        row("a module that writes to standard output and standard error", lab_then_password("write"))
            .login(with_password(End::Certificate).hidden(&["on one", "on two"]))
            .logged(&["on one: \\x1b[31mred", "attempt 1: on two: Accepted keyboard-interactive/pam for root"])
            .unlogged(&["\u{1b}[31m"]),
        row("a module that leaves a child behind", lab_then_password("fork"))
            .login(with_password(End::Certificate).took(0, 10_000)),
        row("a module that closes every descriptor", after_password("close"))
            .login(with_password(End::CannotCheck(BROKE_DOWN))),
        row("a module that gives up root: the signer does not take its word", after_password("setuid"))
            .login(with_password(End::CannotCheck("PAM: statement not taken"))),
        row("a module that renames the user to nobody", lab("rename=nobody-there"))
            .login(cannot_check("PAM: no such account"))
            .logged(&["PAM accepted an account that does not exist"]),
        row("a module that is not there", format!("auth required pam_nowhere.so\n{UNIX}"))
            .login(login(End::CannotCheck(UNAVAILABLE)).asked(PASSWORD, "secret")),
        row("a module that cannot reach what it asks (PAM_AUTHINFO_UNAVAIL)", lab("return=9"))
            .login(cannot_check(UNAVAILABLE)),
        row("a module that aborts (PAM_ABORT)", lab("return=26")).login(cannot_check(UNAVAILABLE)),
        row("a module that says too many tries (PAM_MAXTRIES)", lab("return=11"))
            .login(login(End::Denied("PAM: too many tries"))),
        row(
            "a module that ignores: nobody has said yes",
            "auth required pam_lab.so return=25\naccount required pam_permit.so\n",
        )
        .login(login(End::Denied(super::FAILED))),
    ]
}
