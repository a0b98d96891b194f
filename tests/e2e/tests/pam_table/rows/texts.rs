//! What modules say and ask, and how it looks at the client.

use super::{PASSWORD, UNIX, lab, lab_then_password};
use crate::row::{End, Login, Row, login, row};

fn certificate() -> Login {
    login(End::Certificate)
}

fn then_password() -> Login {
    certificate().asked(PASSWORD, "secret")
}

/// Round after round, both kinds of prompt.
fn ten_rounds() -> Login {
    (1..=10).fold(certificate(), |login, n| login.asked(format!("Round {n} of 10: "), n.to_string()))
}

pub fn rows() -> Vec<Row> {
    vec![
        row("pam_echo: Unicode text before a prompt", format!("auth optional pam_echo.so file=/etc/welcome\n{UNIX}"))
            .prepare("printf 'Grüße aus Zürich — 欢迎, %%u\\n' > /etc/welcome")
            .login(then_password().shown("Grüße aus Zürich — 欢迎, person")),
        row(
            "pam_echo: Unicode text after the last prompt",
            format!("{UNIX}auth optional pam_echo.so file=/etc/farewell\n"),
        )
        .prepare("printf 'Auf Wiederhören, schöne Grüße\\n' > /etc/farewell")
        .login(then_password().shown("Auf Wiederhören, schöne Grüße")),
        row("20 kB of text before a prompt arrive whole", lab_then_password("info=20000"))
            .login(then_password().shown("line 0.").shown("line 150.").shown("line 311.").shown("the end of it")),
        row("20 kB of text after the last prompt arrive whole", format!("{UNIX}auth required pam_lab.so info=20000\n"))
            .login(then_password().shown("line 0.").shown("line 150.").shown("line 311.").shown("the end of it")),
        row("20 kB of text, and a wrong password after it", lab_then_password("info=20000")).login(
            login(End::Denied(super::FAILED))
                .asked(PASSWORD, "wrong")
                .shown("line 0.")
                .shown("line 311.")
                .shown("the end of it"),
        ),
        row(
            "20 kB of text while nobody waits for an answer, then a refusal",
            "auth optional pam_lab.so info=20000\nauth required pam_lab.so return=7\naccount required pam_permit.so\n",
        )
        .login(
            login(End::Denied(super::FAILED))
                .shown("line 0.")
                .shown("line 150.")
                .shown("line 311.")
                .shown("the end of it"),
        ),
        row("a prompt of 20 kB arrives whole", lab("prompt=20000"))
            .login(certificate().asked("All read? ", "yes").shown("line 0.").shown("line 150.").shown("line 311."))
            .login(login(End::Denied(super::FAILED)).asked("All read? ", "no")),
        row("more text than anybody reads: told that the CA cannot check", lab_then_password("info=70000"))
            .login(login(End::CannotCheck("left before PAM had decided")).hidden(&["line 0."]))
            .logged(&["PAM has too much to say"]),
        row("text, an echoed prompt, an error and a silent prompt in one call", lab("mixed"))
            .login(
                certificate()
                    .asked("Colour: ", "blue")
                    .asked("Word: ", "quiet")
                    .shown("Welcome to the quiz")
                    .shown("Nobody must see the next one")
                    .shown("Colour: blue")
                    .hidden(&["quiet"]),
            )
            .login(
                login(End::Denied(super::FAILED)).asked("Colour: ", "blue").asked("Word: ", "loud").hidden(&["loud"]),
            ),
        row("ten rounds", lab("rounds=10")).login(ten_rounds()),
        row("text first, the next thing later: shown at once", lab_then_password("late=1500"))
            .login(then_password().shown("Touch your key")),
        row("text that steers a terminal is shown harmless", lab_then_password("escape"))
            .login(then_password().shown("before").hidden(&["\u{1b}[2J", "\u{1b}]0;", "\u{7}"])),
        row("text that is no UTF-8 still comes", lab_then_password("latin1")).login(then_password().shown("Gr")),
        row("an answer of 511 bytes is taken", lab("length=511")).login(certificate().asked("Long: ", "a".repeat(511))),
        row("an answer of 512 bytes is refused, not cut", lab("length=511"))
            .login(login(End::Denied("left before PAM had decided")).asked("Long: ", "a".repeat(512))),
        row("a prompt that no terminal can show ends the conversation", lab("binary"))
            .login(login(End::Denied(super::FAILED))),
        row(
            "the user's name is changed by a module: what counts is the new one",
            format!("auth required pam_lab.so rename=canon\n{UNIX}"),
        )
        .login(login(End::CertificateOf("canon")).asked(PASSWORD, "secret"))
        .logged(&["Accepted keyboard-interactive/pam for person", " as canon"]),
    ]
}
