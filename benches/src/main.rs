//! `ussh-bench`: USSH beside what it stands in for (sshd, pam_permit, ssh), on scratch hosts of this machine, run in turn.
//!
//! Process: root, outside of the hosts. The same program is bound into the hosts, where its verb `time-in-turn` is the clock: as an ordinary user,
//! so that the way into the host is no part of what is measured.
//! Exit status: 0 if everything ran, 1 if a run failed (or, with `--strict`, a goal was missed), 2 for a wrong command line.
#![forbid(unsafe_code)]

mod ca_crowd;
mod ca_load;
mod comparisons;
mod memory_agent;
mod module;
mod row;
mod statistics;
mod table;
mod timer;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::comparisons::Bench;
use crate::table::Report;

/// Measures USSH beside what it stands in for, on scratch hosts, and prints a table of ratios. Needs root.
#[derive(Debug, Parser)]
#[command(name = "ussh-bench", version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// How often each of the two commands of a comparison is run, in turn, after one pair that is not counted (three times as often where they hardly differ)
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// A missed goal is a failure
    #[arg(long)]
    strict: bool,
    /// Only the comparisons whose title holds these words, and no other figures
    #[arg(long, value_name = "WORDS", conflicts_with = "only_ca")]
    only: Option<String>,
    /// Only how many certificates the CA makes
    #[arg(long)]
    only_ca: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs two commands in turn and prints the microseconds that each took, as JSON
    #[command(hide = true)]
    TimeInTurn {
        /// How often each is run
        #[arg(short = 'n', value_parser = clap::value_parser!(u32).range(1..=7000))]
        runs: u32,
        /// The one command, `--`, the other
        #[arg(last = true, required = true)]
        commands: Vec<OsString>,
    },
    /// Holds connections to a CA at the question for the password, until its standard input ends
    #[command(hide = true)]
    HoldPrompts {
        /// The CA's address
        address: std::net::SocketAddr,
        /// The user name to ask with
        user: String,
        /// How many
        #[arg(value_parser = clap::value_parser!(u32).range(1..=10000))]
        count: u32,
    },
    /// Measures a crowd that waits at the CA's question for the password, and nothing else
    CaCrowd,
    /// Serves one Ed25519 key and its certificate (KEY-cert.pub) from memory
    #[command(hide = true)]
    MemoryAgent {
        /// Where to listen
        socket: PathBuf,
        /// The private key, unencrypted
        key: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.verb {
        Some(Verb::TimeInTurn { runs, commands }) => time_in_turn(*runs, commands),
        Some(Verb::MemoryAgent { socket, key }) => memory_agent::serve(socket, key).map(|()| ExitCode::SUCCESS),
        None if cli.only_ca => only_ca(),
        Some(Verb::HoldPrompts { address, user, count }) => {
            ca_crowd::hold(*address, user, *count).map(|()| ExitCode::SUCCESS)
        }
        Some(Verb::CaCrowd) => crowd(&cli),
        None => bench(&cli),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ussh-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn time_in_turn(runs: u32, commands: &[OsString]) -> Result<ExitCode, Box<dyn Error>> {
    println!("{}", serde_json::to_string(&timer::time_in_turn(runs, commands)?)?);
    Ok(ExitCode::SUCCESS)
}

fn only_ca() -> Result<ExitCode, Box<dyn Error>> {
    print!("{}", table::figures(&ca_load::facts()?));
    Ok(ExitCode::SUCCESS)
}

fn crowd(cli: &Cli) -> Result<ExitCode, Box<dyn Error>> {
    let facts = ca_crowd::facts()?;
    for fact in &facts {
        println!("{}: {:.1} {}", fact.title, fact.value, fact.unit);
    }
    let missed = facts.iter().any(|fact| fact.reached() == Some(false));
    Ok(if missed && cli.strict { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn bench(cli: &Cli) -> Result<ExitCode, Box<dyn Error>> {
    eprintln!("ussh-bench: setting up a laptop, a CA, a server and a host with nothing but sshd …");
    let bench = Bench::start(cli.runs)?;
    let report = Report {
        machine: bench.machine()?,
        rows: bench.compare_all(cli.only.as_deref())?,
        facts: if cli.only.is_some() { Vec::new() } else { [bench.facts()?, ca_crowd::facts()?].concat() },
    };
    if report.rows.is_empty() {
        return Err("--only: no comparison has these words in its title".into());
    }
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.to_text());
    }
    let missed = report.rows.iter().map(|row| row.reached).chain(report.facts.iter().map(row::Fact::reached));
    let missed = missed.into_iter().any(|reached| reached == Some(false));
    Ok(if missed && cli.strict { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn both_commands_may_have_options_of_their_own() {
        let words = ["ussh-bench", "time-in-turn", "-n", "3", "--", "ssh", "-A", "ca", "--", "ssh", "-v", "host"];
        let cli = Cli::try_parse_from(words).ok().and_then(|cli| cli.verb);
        let Some(Verb::TimeInTurn { runs: 3, commands }) = cli else { unreachable!("{cli:?}") };
        assert_eq!(commands, ["ssh", "-A", "ca", "--", "ssh", "-v", "host"]);
    }

    #[test]
    fn refuses_no_runs_and_too_many() {
        for runs in ["0", "1001", "-1", "many"] {
            assert!(Cli::try_parse_from(["ussh-bench", "--runs", runs]).is_err(), "{runs}");
        }
    }
}
