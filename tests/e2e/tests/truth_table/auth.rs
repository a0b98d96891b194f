//! `auth`, through sudo, su and pamtester.

use ussh_e2e::Forgery;

use crate::rows::{self, AUTH_ERR, Answer, Row, STALE};
use crate::stacks::{STACKS, Stack};
use crate::{Attempt, Seat, WORLD, Wrong};

/// What is called as sudo is.
const PAMTESTER: &str = "/var/lib/pamtester";

/// Puts alice with a certificate for herself and root on a server. Gives its serial.
pub fn take_seat(server: &'static str) -> (Seat, u64, ussh_e2e::PersonAgent<'static>) {
    let agent = WORLD.new_agent("alice").unwrap();
    let good = WORLD.forge(&Forgery::of("alice").principals(&["alice", "root"])).unwrap();
    good.add_to(&agent).unwrap();
    // A KRL says when it was generated in the eight bytes behind magic, format and version (PROTOCOL.krl).
    let old = format!(
        "cp /etc/ssh/revoked_keys {STALE}; dd if=/dev/zero of={STALE} bs=1 seek=20 count=8 conv=notrunc status=none"
    );
    // pamtester set-uid, like the others.
    WORLD.host(server).script(&format!("{old}; install -m 4755 /usr/bin/pamtester {PAMTESTER}")).unwrap();
    (Seat::on(server, &agent), good.serial, agent)
}

/// A program that asks `auth`.
struct Program {
    service: &'static str,
    command: &'static str,
    /// What it shows when it lets through.
    through: &'static str,
    /// How it shows libpam's code, if it does.
    says: fn(code: &str) -> Option<String>,
}

const PROGRAMS: [Program; 3] = [
    Program { service: "sudo", command: "sudo id -u", through: "0\n", says: |_| None },
    Program {
        service: "su",
        command: "su root -c 'id -u'",
        through: "0\n",
        says: |code| Some(format!("su: {code}\n")),
    },
    Program {
        service: "truth",
        command: "/var/lib/pamtester truth alice authenticate setcred",
        through: "pamtester: successfully authenticated\npamtester: credential info has successfully been set.\n",
        says: |code| Some(format!("pamtester: {code}\n")),
    },
];

/// What is wrong with the last line of the log for this row.
pub fn wrong_in_log(row: &Row, attempt: &Attempt, serial: u64) -> Option<String> {
    let last = attempt.log.last().map_or("", String::as_str);
    let fits = match row.answer {
        Answer::Accepted => {
            last.starts_with("Accepted certificate ID \"alice\"") && last.contains(&format!(" (serial {serial}) "))
        }
        Answer::Refused(_, reason) => last.starts_with("Refusing ") && last.ends_with(reason),
        Answer::Panicked(_) => {
            last.starts_with("internal error at ") && last.contains("inject.rs:") && last.ends_with(": refusing")
        }
    };
    (!fits).then(|| format!("the log says {last:?}"))
}

/// libpam's code for this answer in this stack.
pub fn code(answer: Answer, stack: Stack) -> Option<&'static str> {
    match answer {
        Answer::Accepted => None,
        Answer::Refused(code, _) | Answer::Panicked(code) if stack.passes_code_on() => Some(code),
        Answer::Refused(..) | Answer::Panicked(_) => Some(AUTH_ERR),
    }
}

#[test]
fn auth_succeeds_with_a_certificate_and_a_proof_and_never_without() {
    let _watch = WORLD.lab().watch();
    let (seat, serial, _agent) = take_seat("web1");
    let mut wrong = Wrong::default();
    for (program, stack, row) in PROGRAMS
        .iter()
        .flat_map(|program| STACKS.map(|stack| (program, stack)))
        .flat_map(|(program, stack)| rows::auth().into_iter().map(move |row| (program, stack, row)))
    {
        let place = format!("{} {stack:?} {}", program.service, row.name);
        stack.write(&seat, program.service, "auth", row.line, "account required pam_permit.so\n");
        let attempt = seat.run(program.command);
        let accepted = matches!(row.answer, Answer::Accepted);
        if attempt.is_through() != accepted || (attempt.shown == program.through) != accepted {
            wrong.note(&place, if accepted { "is not let through" } else { "IS LET THROUGH" }, &attempt);
        }
        if let Some(said) = code(row.answer, stack).and_then(program.says)
            && !attempt.shown.ends_with(&said)
        {
            wrong.note(&place, &format!("does not say {said:?}"), &attempt);
        }
        if let Some(what) = wrong_in_log(&row, &attempt, serial) {
            wrong.note(&place, &what, &attempt);
        }
        if attempt.log.len() != 1 {
            wrong.note(&place, "not one line in the log", &attempt);
        }
    }
    wrong.none();
}
