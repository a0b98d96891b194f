//! One more session over a ControlMaster, when the certificate of the first has run out and has gone from the agent.

use ussh_e2e::lab::wait_until;

use crate::SOON;
use crate::hosts::WORLD;
use crate::seat::Seat;
use crate::seen::{CLOSED, IN, Seen, WRONG};
use crate::table::Column;
use crate::ways::{WAYS, Way, What};

/// The first connection must be made within it.
const SHORT: &str = "-5m:+12s";

/// The first connection, or what became of the try.
pub struct Master {
    seat: Seat,
    first: Seen<'static>,
}

impl Master {
    /// With an agent of its own.
    pub fn open(seat: &Seat, column: Column) -> Self {
        static MASTER: [Way; WAYS.len()] = WAYS;
        let way = MASTER.iter().find(|way| matches!(way.what, What::Master)).unwrap();
        let validity = if column == Column::Refused { Seat::LONG } else { SHORT };
        let seat = Seat::of(seat.server, seat.agent.user(), validity);
        let first = seat.run(way, column, "ssh -f -N -M -S ~/master-%p OPTIONS HOST");
        Master { seat, first }
    }

    /// What becomes of one more.
    pub fn one_more_session(self, column: Column) -> String {
        let Master { seat, first } = self;
        if first.output.status.code() != 0 {
            return first.word();
        }
        let host = format!("-o Port={} {}", first.port(), seat.server);
        let user = seat.agent.user();
        let records = || WORLD.session_records(seat.server, user).unwrap();
        if column != Column::Unrecorded {
            wait_until(SOON, "the record of the first", || !records().is_empty()).unwrap();
            // Each login that still succeeds has been closed, and its record is gone, before there is another.
            wait_until(SOON, "the end of its certificate", || {
                let alone = seat.run(&WAYS[0], column, "ssh -S none OPTIONS HOST true");
                alone.output.stderr.ends_with("Permission denied (publickey).\r\n")
            })
            .unwrap();
        }
        seat.agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
        let (before, held) = (WORLD.log_position(seat.server), records());
        let more = seat.agent.sh(&format!("ssh -S ~/master-%p {host} hostname")).unwrap();
        let said = WORLD.said_of_logins(seat.server, user, before).unwrap();
        let asked_nobody = said.is_empty() && records() == held && more.stderr.is_empty();
        let word = match (more.status.code(), more.stdout.as_str(), held.len()) {
            (0, stdout, 1) if asked_nobody && stdout == format!("{}\n", seat.server) => IN.to_owned(),
            (254, "", 0) if asked_nobody && first.is_unrecorded() => CLOSED.to_owned(),
            _ => format!("{WRONG} {first:?}, then {more:?} {said:?} {held:?}"),
        };
        seat.agent.sh(&format!("ssh -S ~/master-%p -O exit {host}")).unwrap().ok().unwrap();
        wait_until(SOON, "the record to go with the connection", || records().is_empty()).unwrap();
        word
    }
}
