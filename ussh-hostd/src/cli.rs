//! The command line and the exit statuses.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use ussh_core::clock::{Clock, SystemClock};
use ussh_os::process;

use crate::config::Config;
use crate::report::{Report, Severity};
use crate::show::{self, Status};
use crate::{run, sync};

/// Exit statuses beside 0 (sysexits.h).
const FAILED: u8 = 1;
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const CONFIG: u8 = 78;

/// Keeps every SSH session on this host only as long as its certificate is good.
///
/// A session that was opened with a user certificate lives until that certificate runs out. Shortly before, its own forwarded agent is asked for a newer certificate
/// of the same key ID and CA that still allows the login (account, force-command, client address), with proof that the agent holds the key: found, the session goes
/// on, and its user sees nothing; not found, its terminals are warned, and at the end the session is closed, with its forwarded ports and its programs, but not with
/// those that had left it before (daemons, tmux). A session whose certificate is revoked is closed at once. Sessions without a certificate are left alone.
///
/// Sessions are known from the records that pam_ussh.so writes (a `session` line in sshd's PAM stack). Nobody is locked out while this daemon is down, and
/// it takes up every open session when it is started again.
#[derive(Debug, Parser)]
#[command(name = "ussh-hostd", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXIT_STATUS)]
struct Cli {
    /// Configuration file; root must own it and nobody else be able to change it
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]"
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_STATUS: &str = "Exit status: 0 done; 1 failed; 64 wrong use; 69 the daemon does not run (status); 78 the configuration is not valid.

Files: /etc/ussh/hostd.toml   configuration (TOML; unknown keys are refused)
         ca_file               trusted CA keys [\"/etc/ssh/trusted_user_ca\"]
         revoked_keys          KRL or plain list, or \"none\" [\"/etc/ssh/revoked_keys\"]
         spool                 session records [\"/run/ussh-hostd/sessions\"]
         warn_before_seconds   a number or a list [[300, 60]]
         look_before_seconds   when the agent is asked first [30 % of the time left, at most 60]
         agent_timeout_seconds for one look at a session's agent [3]
         grace_seconds         from SIGTERM to SIGKILL at the end of a session [2]
         [sync] source         \"file:/folder\" with user_ca.pub, krl and known_hosts
         [sync] known_hosts    where the feed's known_hosts goes [left alone]";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Watch the sessions (the daemon; stays in the foreground)
    ///
    /// Each decision is one line in syslog (authpriv), and on stderr unless that is the journal already. SIGTERM stops the daemon and no session; SIGHUP reads all
    /// files again, which happens by itself when they change. A CA file or revocation list that cannot be read ends no session, but none is renewed until it is mended.
    Run,
    /// Take the CA keys and the revocation list from the feed, all or nothing
    ///
    /// Everything in the feed is checked before anything is replaced: at least one CA key, a KRL that reads to its end and is no older than the installed one. On any error
    /// nothing has changed and the exit status is 1. A running daemon notices the new files by itself.
    Sync,
    /// List the sessions
    Sessions(Format),
    /// Say whether the configuration is valid and the files it names can be used
    Check,
    /// Say how things stand: the daemon, the CA keys, the revocation list
    Status(Format),
}

impl Verb {
    /// Whether nobody else can do it: the session records are root's to read, the trusted files root's to write.
    fn is_roots(&self) -> bool {
        match self {
            Verb::Run | Verb::Sync | Verb::Sessions(_) | Verb::Status(_) => true,
            Verb::Check => false,
        }
    }
}

#[derive(Clone, Copy, Debug, Args)]
struct Format {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads the command line, does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to stdout and are no error.
            let wrong = e.use_stderr();
            let _ = e.print();
            return if wrong { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    if cli.verb.is_roots() && process::effective_uid() != 0 {
        return fail(FAILED, "must be run by root");
    }
    let config = match Config::load(cli.config.as_deref()) {
        Ok(config) => config,
        Err(e) => return fail(CONFIG, &e.to_string()),
    };
    match cli.verb {
        Verb::Run => run::run(&config).map_or_else(|e| fail(FAILED, &e.to_string()), |()| ExitCode::SUCCESS),
        Verb::Sync => do_sync(&config),
        Verb::Sessions(format) => sessions(&config, format),
        Verb::Check => check(&config),
        Verb::Status(format) => status(&config, format),
    }
}

fn fail(status: u8, why: &str) -> ExitCode {
    // A closed stderr is nobody's loss: the status says it.
    let _ = writeln!(std::io::stderr(), "ussh-hostd: {why}");
    status.into()
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(FAILED, &e.to_string()),
    }
}

fn print_json(value: &impl Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&(text + "\n")),
        Err(e) => fail(FAILED, &e.to_string()),
    }
}

fn do_sync(config: &Config) -> ExitCode {
    let report = Report::quiet();
    match sync::sync(config) {
        Ok(outcome) => {
            if outcome.changed {
                report.line(Severity::Notice, &format!("Sync: {}", outcome.lines.join("; ")));
            }
            print(&(outcome.lines.join("\n") + "\n"))
        }
        Err(e) => {
            report.line(Severity::Error, &format!("Sync refused: {e}"));
            fail(FAILED, &format!("sync: {e}"))
        }
    }
}

fn sessions(config: &Config, format: Format) -> ExitCode {
    let now = SystemClock.now();
    match show::sessions(config, now) {
        Ok(rows) if format.json => print_json(&rows),
        Ok(rows) => print(&show::table(&rows, now)),
        Err(e) => fail(FAILED, &format!("{}: {e}", config.spool.display())),
    }
}

fn check(config: &Config) -> ExitCode {
    let problems = show::problems(config);
    if problems.is_empty() { print("good\n") } else { fail(FAILED, &problems.join("\nussh-hostd: ")) }
}

fn status(config: &Config, format: Format) -> ExitCode {
    let status = match Status::read(config, SystemClock.now()) {
        Ok(status) => status,
        Err(e) => return fail(FAILED, &format!("{}: {e}", config.spool.display())),
    };
    let printed = if format.json { print_json(&status) } else { print(&status.text()) };
    let problem = status.trust_problem.as_ref().or(status.daemon_problem.as_ref());
    match (printed == ExitCode::SUCCESS, problem, status.daemon_pid) {
        (false, _, _) => printed,
        (true, _, None) => UNAVAILABLE.into(),
        (true, Some(_), Some(_)) => FAILED.into(),
        (true, None, Some(_)) => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn manual_and_completions_are_those_of_this_command_line() {
        let command = Cli::command();
        let mut made = ussh_manual::completions(&command);
        made.push(ussh_manual::manual_page(&command, "8").unwrap());
        assert_eq!(ussh_manual::agree(&made), Ok(()));
    }

    #[test]
    fn config_is_taken_before_and_after_the_verb() {
        for line in [["ussh-hostd", "--config", "/x", "run"], ["ussh-hostd", "run", "--config", "/x"]] {
            assert_eq!(Cli::try_parse_from(line).unwrap().config, Some("/x".into()));
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for line in [["ussh-hostd", "start"], ["ussh-hostd", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap_err().use_stderr());
        }
    }
}
