//! `account`: in sudo with a fresh ticket, where nobody asks `auth`; in sudo and su behind an `auth` that has just made the proof; and alone.

use crate::auth::{code, take_seat, wrong_in_log};
use crate::rows::{self, Answer, Row};
use crate::stacks::STACKS;
use crate::{Seat, WORLD, Wrong};

/// A way to get to `account`.
struct Way {
    name: &'static str,
    service: &'static str,
    command: &'static str,
    /// What it shows when it lets through.
    through: &'static str,
    /// Whether `auth` makes a proof first, and says so in the log; else it would refuse, and is not asked.
    is_proved: bool,
    /// How libpam's code is shown, if it is.
    says: fn(code: &str) -> Option<String>,
}

const WAYS: [Way; 4] = [
    Way {
        name: "sudo with a ticket",
        service: "sudo",
        command: "sudo id -u",
        through: "0\n",
        is_proved: false,
        says: |_| None,
    },
    Way {
        name: "sudo without a ticket",
        service: "sudo",
        command: "sudo -k id -u",
        through: "0\n",
        is_proved: true,
        says: |_| None,
    },
    Way {
        name: "su",
        service: "su",
        command: "su root -c 'id -u'",
        through: "0\n",
        is_proved: true,
        says: |code| Some(format!("su: {code}\n")),
    },
    Way {
        name: "pamtester",
        service: "truth",
        command: "/var/lib/pamtester truth alice acct_mgmt",
        through: "pamtester: account management done.\n",
        is_proved: false,
        says: |code| Some(format!("pamtester: {code}\n")),
    },
];

impl Way {
    /// Its `auth`. A proof is kept by the very module that made it: another build of it finds none.
    fn auth(&self, row: &Row) -> String {
        let module = row.line.split(' ').next().unwrap();
        if self.is_proved { format!("auth required {module}\n") } else { "auth requisite pam_deny.so\n".to_owned() }
    }
}

/// sudo's ticket for this terminal, from a stack that asks nobody.
fn take_ticket(seat: &Seat) {
    seat.write_pam(
        "sudo",
        "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n",
    );
    assert_eq!(seat.run("sudo id -u").shown, "0\n");
}

#[test]
fn account_succeeds_with_a_certificate_and_a_proof_and_never_without() {
    let _watch = WORLD.lab().watch();
    let sudoers = "Defaults timestamp_timeout=15, passwd_tries=1\n%admins ALL=(ALL) ALL\n";
    WORLD.host("web2").write_file("/etc/sudoers.d/ussh", 0o440, sudoers).unwrap();
    let (seat, serial, _agent) = take_seat("web2");
    take_ticket(&seat);
    let mut wrong = Wrong::default();
    for (way, stack, row) in WAYS
        .iter()
        .flat_map(|way| STACKS.map(|stack| (way, stack)))
        .flat_map(|(way, stack)| rows::account().into_iter().map(move |row| (way, stack, row)))
    {
        let place = format!("{} {stack:?} {}", way.name, row.name);
        // A proof that was made a moment ago is one, wherever the agent is.
        let is_kept = way.is_proved && row.is_agents;
        let answer = if is_kept { Answer::Accepted } else { row.answer };
        stack.write(&seat, way.service, "account", row.line, &way.auth(&row));
        let attempt = seat.run(way.command);
        let accepted = matches!(answer, Answer::Accepted);
        if attempt.is_through() != accepted || (attempt.shown == way.through) != accepted {
            wrong.note(&place, if accepted { "is not let through" } else { "IS LET THROUGH" }, &attempt);
        }
        if let Some(said) = code(answer, stack).and_then(way.says)
            && !attempt.shown.ends_with(&said)
        {
            wrong.note(&place, &format!("does not say {said:?}"), &attempt);
        }
        if let Some(what) = wrong_in_log(&Row { answer, ..row }, &attempt, serial) {
            wrong.note(&place, &what, &attempt);
        }
        let last = attempt.log.last().map_or("", String::as_str);
        if accepted && (!last.contains(" (account)") || last.ends_with(": proof made by auth") != way.is_proved) {
            wrong.note(&place, "not the proof that it should be", &attempt);
        }
        if attempt.log.len() != usize::from(way.is_proved) + 1 {
            wrong.note(&place, "too many or too few lines in the log", &attempt);
        }
    }
    wrong.none();
}
