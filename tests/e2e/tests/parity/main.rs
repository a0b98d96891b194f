//! Verdict parity: certificates and files, each judged by a real sshd of OpenSSH 9.2 and of 10.0 (`theirs`) and by pam_ussh (`ours`), with their reasons.
//!
//! Where we say no to what sshd takes, docs/deviations.md has a row for it; where sshd says no, so do we. `cargo test --test parity -- WORD…` judges the rows whose names hold a word.
//! No test harness: the program runs itself inside of the hosts. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![forbid(unsafe_code)]

mod certificate;
mod deviations;
mod forge;
mod hosts;
mod job;
mod judge;
mod keys;
mod krl;
mod report;
mod row;
mod rows;
mod rsa;
mod wire;

use std::time::Instant;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if words.first().is_some_and(|word| word == hosts::JUDGE) {
        judge::run();
        return;
    }
    let started = Instant::now();
    let themes = rows::themes();
    let table: Vec<(&str, row::Row)> = themes
        .into_iter()
        .flat_map(|(theme, rows)| rows.into_iter().map(move |row| (theme, row)))
        .filter(|(theme, row)| words.is_empty() || words.iter().any(|word| row.name.contains(word) || theme == word))
        .collect();
    let judged = hosts::judge(&table);
    report::conclude(&table, &judged, words.is_empty(), started);
}
