//! Every way into a host through real sshd, 9.2 and 10.0, with publickey alone and with our `auth` line behind it: what docs/pam_ussh.md ("Ways into a host") says of each, and no
//! byte of ours in any channel.
//!
//! `hosts` are the two, `table` is the manual's, `ways` is how each of its rows is gone, with `forward` and `master` for those that are more than a command, `seat` is who goes it, and
//! `seen` what is made of what came.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod forward;
mod hosts;
mod master;
mod seat;
mod seen;
mod table;
mod ways;

use std::time::Duration;

use crate::hosts::{AUTH, MOTD, SERVERS, SESSION, TOLERANT_SESSION, Turn};
use crate::master::Master;
use crate::seat::{Certificate, Seat};
use crate::seen::SENTENCE;
use crate::table::{Cells, Column};
use crate::ways::{WAYS, What};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn each_way_into_a_host_ends_as_the_manual_says() {
    let turn = Turn::of(AUTH, SESSION);
    let manual = table::of_the_manual();
    let named: Vec<&str> = manual.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(named, WAYS.map(|way| way.name), "the manual's rows, and what is tried");

    let while_recorded = on_each_server(|server| {
        let columns = [
            (Column::PublicKey, Certificate::Good),
            (Column::Behind, Certificate::Good),
            (Column::Refused, Certificate::TooLong),
        ];
        at_once(columns, |(column, certificate)| go_all(&Seat::with(server, certificate), column))
    });
    turn.spoil_spool();
    let unrecorded = on_each_server(|server| go_all(&Seat::with(server, Certificate::Good), Column::Unrecorded));

    for (number, server) in SERVERS.iter().enumerate() {
        let [alone, behind, refused] = &while_recorded[number];
        let unrecorded = &unrecorded[number];
        let found: Vec<(String, Cells)> = (0..WAYS.len())
            .map(|row| {
                (named[row].to_owned(), [&alone[row], &behind[row], &refused[row], &unrecorded[row]].map(String::clone))
            })
            .collect();
        assert_eq!(table::shown(&found), table::shown(&manual), "{server}");
    }
}

/// What becomes of one column, in the order of the rows.
fn go_all(seat: &Seat, column: Column) -> Vec<String> {
    // Its certificate runs out while the others are gone.
    let master = Master::open(seat, column);
    let mut words: Vec<String> = WAYS
        .iter()
        .map(|way| match way.what {
            What::Script { .. } => seat.go(way, column).word(),
            What::Forward => forward::go(seat, way, column).word(),
            What::Master => String::new(),
        })
        .collect();
    let place = WAYS.iter().position(|way| matches!(way.what, What::Master)).unwrap();
    words[place] = master.one_more_session(column);
    words
}

#[test]
fn no_byte_of_ours_gets_into_a_channel_whatever_there_is_to_say() {
    let turn = Turn::of(AUTH, TOLERANT_SESSION);
    turn.spoil_spool();
    on_each_server(|server| {
        let seat = Seat::with(server, Certificate::Good);
        for (way, column) in WAYS.iter().filter_map(|way| Some((way, way.carries_bytes()?))) {
            let seen = seat.go(way, column);
            assert!(seen.worked, "{seen:?}");
            let unwatched = seen.said.iter().filter(|line| line.starts_with("Session goes on unwatched "));
            assert_eq!(unwatched.count(), way.connections(), "there was something to say: {seen:?}");
        }
    });
}

/// Behind a line that only fails, pam_motd would still speak, and sshd hands on what was said of a session that is refused: into scp and sftp too.
#[test]
fn a_session_that_is_refused_says_nothing_in_the_stack_as_it_is_packaged() {
    let turn = Turn::of(AUTH, SESSION);
    turn.as_packaged();
    turn.spoil_spool();
    on_each_server(|server| {
        let seat = Seat::with(server, Certificate::Good);
        for script in
            ["ssh OPTIONS HOST hostname", "echo ls | sftp OPTIONS HOST", "scp OPTIONS /etc/hostname HOST:there"]
        {
            let seen = seat.run(&WAYS[0], Column::Unrecorded, script);
            assert_ne!(seen.output.status.code(), 0, "{script}: {seen:?}");
            assert_eq!(seen.output.stdout, "", "{script}: {seen:?}");
            for words in [MOTD, "Received message too long"] {
                assert!(!seen.output.stderr.contains(words), "{script}: {seen:?}");
            }
            assert!(seen.said.iter().any(|line| line.starts_with("Refusing ")), "{script}: {seen:?}");
        }
    });
    // It is there, and is said to whom a record can be written for.
    let turn = {
        drop(turn);
        Turn::of(AUTH, SESSION)
    };
    turn.as_packaged();
    on_each_server(|server| {
        let seen =
            Seat::with(server, Certificate::Good).run(&WAYS[0], Column::PublicKey, "ssh -tt OPTIONS HOST </dev/null");
        assert!(seen.output.stdout.contains(MOTD), "{seen:?}");
    });
}

#[test]
fn a_refusal_is_said_as_often_as_the_client_asks() {
    let _turn = Turn::of(AUTH, SESSION);
    on_each_server(|server| {
        let seat = Seat::with(server, Certificate::TooLong);
        for (options, times) in [("", 3), ("-o NumberOfPasswordPrompts=1", 1)] {
            let seen = seat.run(&WAYS[0], Column::Refused, &format!("ssh {options} OPTIONS HOST hostname"));
            assert_eq!((seen.output.status.code(), seen.output.stdout.as_str()), (255, ""), "{seen:?}");
            assert_eq!(seen.output.stderr.matches(SENTENCE).count(), times, "{seen:?}");
            let refusals = seen.said.iter().filter(|line| line.starts_with("Refusing certificate ID "));
            assert_eq!(refusals.count(), times, "{seen:?}");
        }
    });
}

/// Among them is what PAM_MAXTRIES in place of PAM_AUTH_ERR would open, although sshd would then ask only once: a line that names auth_err.
#[test]
fn no_stack_of_sshds_goes_on_to_success_behind_a_refusal() {
    const STACKS: [&str; 5] = [
        "auth required OURS",
        "auth requisite OURS\nauth required pam_permit.so",
        "auth sufficient OURS\nauth required pam_deny.so",
        "auth [success=1 default=ignore] OURS\nauth requisite pam_deny.so\nauth required pam_permit.so",
        "auth [success=ok auth_err=die default=ignore] OURS\nauth required pam_permit.so",
    ];
    let turn = Turn::of(AUTH, SESSION);
    let [good, long] =
        [Certificate::Good, Certificate::TooLong].map(|one| SERVERS.map(|server| Seat::with(server, one)));
    for stack in STACKS {
        turn.write(&stack.replace("OURS", "pam_ussh.so max_validity=1d"), SESSION);
        let seats = [(&good[0], true), (&good[1], true), (&long[0], false), (&long[1], false)];
        at_once(seats, |(seat, is_good)| {
            let column = if is_good { Column::Behind } else { Column::Refused };
            let seen = seat.run(&WAYS[0], column, "ssh OPTIONS HOST hostname");
            let (code, stdout) = (seen.output.status.code(), seen.output.stdout.trim());
            if is_good {
                assert_eq!((code, stdout), (0, seat.server), "{stack}: {seen:?}");
                return;
            }
            assert_eq!((code, stdout), (255, ""), "{stack}: {seen:?}");
            assert!(seen.output.stderr.ends_with("Permission denied (keyboard-interactive).\r\n"), "{stack}: {seen:?}");
            assert!(seen.said.iter().any(|line| line.ends_with(" s allowed")), "{stack}: {seen:?}");
        });
    }
}

fn on_each_server<T: Send>(work: impl Fn(&'static str) -> T + Sync) -> [T; 2] {
    at_once(SERVERS, work)
}

fn at_once<Part: Send, T: Send, const N: usize>(parts: [Part; N], work: impl Fn(Part) -> T + Sync) -> [T; N] {
    let work = &work;
    std::thread::scope(|scope| parts.map(|part| scope.spawn(move || work(part))).map(|one| one.join().unwrap()))
}
