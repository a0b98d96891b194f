//! What becomes of each way to be in a host when its certificate runs out: what docs/sessions.md says of it, with OpenSSH 9.2 and 10.0. The table is printed.
//!
//! `hosts` are the servers, `table` is the manual's, `ways` are its rows, and `case` is one of them in front of one server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod case;
mod hosts;
mod table;
mod ways;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use ussh_e2e::lab::wait_until;

use crate::case::Case;
use crate::hosts::{SERVERS, WORLD};
use crate::table::{Cells, Column};
use crate::ways::WAYS;

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(40);
/// How long after the end all must have come to rest.
const LATE: Duration = Duration::from_secs(4);
/// Of each certificate: what it is for is open by then, on a machine that is busy.
const LIFE: Duration = Duration::from_secs(25);
/// How many are at work at one column.
const HANDS: usize = 3;

#[test]
fn each_way_to_be_in_a_host_ends_goes_on_or_freezes_as_the_manual_says() {
    let _watch = WORLD.lab().watch();
    let manual = table::of_the_manual();
    let named: Vec<&str> = manual.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(named, WAYS.map(|way| way.what), "the manual's rows, and what is tried");
    let columns = [Column::Renewed, Column::End, Column::Freeze];
    let found = at_once(SERVERS, |(_, servers)| at_once(columns, |column| go_all(hosts::of(servers, column), column)));
    let tables = SERVERS.iter().zip(found).map(|((openssh, _), [renewed, end, freeze])| {
        let cells = |row: usize| -> Cells { [renewed[row].clone(), end[row].clone(), freeze[row].clone()] };
        let rows: Vec<(String, Cells)> =
            named.iter().enumerate().map(|(row, what)| ((*what).to_owned(), cells(row))).collect();
        println!("{openssh}\n{}", table::shown(&rows).join("\n"));
        (openssh, table::shown(&rows))
    });
    let tables: Vec<_> = tables.collect();
    for (openssh, shown) in tables {
        assert_eq!(shown, table::shown(&manual), "{openssh}");
    }
}

/// What becomes of one column, in the order of the rows. Each has a certificate of its own, which runs out while others are still being opened.
fn go_all(server: &'static str, column: Column) -> Vec<String> {
    let cases = by_hands(&WAYS, |way| Case::open(way, server, column, SystemTime::now() + LIFE));
    let last = cases.iter().map(|case| case.end).max().unwrap();
    wait_until(LIFE * 2, "the end of the certificates", || SystemTime::now() > last + LATE).unwrap();
    by_hands(&cases, Case::outcome)
}

/// Does this with each of them, [`HANDS`] at a time; in their order.
fn by_hands<'all, Part: Sync, T: Send>(all: &'all [Part], work: impl Fn(&'all Part) -> T + Sync) -> Vec<T> {
    let (to_do, done) = (Mutex::new(all.iter().enumerate()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                loop {
                    let next = to_do.lock().unwrap().next();
                    let Some((place, part)) = next else { return };
                    let result = work(part);
                    done.lock().unwrap().insert(place, result);
                }
            });
        }
    });
    done.into_inner().unwrap().into_values().collect()
}

fn at_once<Part: Send, T: Send, const N: usize>(parts: [Part; N], work: impl Fn(Part) -> T + Sync) -> [T; N] {
    let work = &work;
    std::thread::scope(|scope| parts.map(|part| scope.spawn(move || work(part))).map(|one| one.join().unwrap()))
}
