//! Hostile agents: every way in which an agent can misbehave against the whole module, loaded by a set-uid program and by the real sudo on a scratch host.
//!
//! Each agent is refused, or the good identity behind what it does is found: by its deadline, for a reason that stands in the one line of the log, and with the sentence that its user
//! is to read. The process that called PAM keeps nothing of it, has not grown, and serves the next attempt. `cargo test --test hostile_agents -- WORD…` tries those whose names hold a word.
//! No test harness: the program runs itself inside of the host, as the users and as their agents. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![forbid(unsafe_code)]

// What parity forges and speaks with; it needs more of it.
#[expect(dead_code, reason = "parity puts certificates into real agents too")]
#[path = "../parity/judge/agent.rs"]
mod agent;
mod broker;
mod cases;
#[expect(dead_code, reason = "parity writes down other fields too")]
#[path = "../parity/certificate.rs"]
mod certificate;
mod hosts;
#[expect(dead_code, reason = "parity has FIDO keys too")]
#[path = "../parity/keys.rs"]
mod keys;
mod kit;
#[path = "../parity/judge/log.rs"]
mod log;
mod report;
#[expect(dead_code, reason = "parity makes RSA keys of its own too")]
#[path = "../parity/rsa.rs"]
mod rsa;
mod script;
mod serve;
mod user;
#[path = "../parity/wire.rs"]
mod wire;

use std::time::Instant;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [hosts::USER, case, user] => user::run(&cases::named(case), user),
        [hosts::SERVE, case, user] => serve::run(&cases::named(case), user),
        [hosts::BROKER, user] => broker::run(user),
        _ => {
            let started = Instant::now();
            let cases = cases::all().into_iter().filter(|case| {
                words.is_empty() || case.name == cases::HONEST || words.iter().any(|word| case.name.contains(word))
            });
            report::conclude(&hosts::try_all(cases.collect()), started);
        }
    }
}
