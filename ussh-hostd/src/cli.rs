//! The command line and the exit statuses.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use ussh_core::clock::{Clock, SystemClock};
use ussh_os::{hidden_line, process};

use ussh_core::enroll::HostToken;

use crate::ca_ssh::Shown;
use crate::config::{Config, DEFAULT_PATH};
use crate::enroll::{self, DROP_IN};
use crate::renew::{self, RenewError};
use crate::report::{Report, Severity};
use crate::scratch::Scratch;
use crate::show::{self, Status};
use crate::sync::SyncError;
use crate::{ca_ssh, end, glass, run, sync, trust_note, unusable, watching};

/// Exit statuses beside 0 (sysexits.h).
const FAILED: u8 = 1;
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const NO_PERMISSION: u8 = 77;
const CONFIG: u8 = 78;

/// What `check` says of it.
const NO_DAEMON: &str = "the daemon does not run: no session ends with its certificate, and nothing is renewed or fetched, until it is started (`systemctl start ussh-hostd`, or `ussh-hostd run`)";

/// Keeps every SSH session on this host only as long as its certificate is good.
///
/// A session that was opened with a user certificate lives until that certificate runs out. Shortly before, its own forwarded agent is asked for a newer certificate
/// of the same key ID and CA that still allows the login (account, force-command, client address), with proof that the agent holds the key: found, the session goes
/// on, and its user sees nothing; not found, its terminals are warned, and at the end the session is closed, with its forwarded ports and its programs, but not with
/// those that had left it before (daemons, tmux). A session whose certificate is revoked is closed at once. Sessions without a certificate are left alone, unless the configuration limits their time; those by break-glass last an hour at most.
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

const EXIT_STATUS: &str = "Exit status: 0 done; 1 failed, or (check, status) something is wrong; 64 wrong use; 69 the daemon does not run (status; check, where nothing else is wrong); 77 not run by root; 78 the configuration is not valid.

Files: /etc/ussh/hostd.toml   configuration (TOML; unknown keys are refused)
         ca_file               trusted CA keys [\"/etc/ssh/trusted_user_ca\"]
         revoked_keys          KRL or plain list, or \"none\" [\"/etc/ssh/revoked_keys\"]
         revoked_here          what is revoked on this host besides, as `ssh-keygen -k` reads it; each sync adds it to revoked_keys
                               [\"/etc/ussh/revoked_here\"; it may be missing]
         spool                 session records [\"/run/ussh-hostd/sessions\"]
         state                 enrolment, and the feed that was taken last [\"/var/lib/ussh-hostd\"]
         warn_before_seconds   a number or a list [[300, 60]]
         look_before_seconds   when the agent is asked first [30 % of the time left, at most 60]
         agent_timeout_seconds for one look at a session's agent [3]
         grace_seconds         from SIGTERM to SIGKILL at the end of a session [2]
         end_after_seconds     what a session lasts past its certificate's end, in which a newer one still counts [0]
         at_end                \"end\"; \"warn\": a session whose certificate runs out goes on, and is told so; \"freeze\": its programs
                               stand still until its agent has a newer certificate (cgroup v2) [\"end\"]
         kill_user_processes   true: what had left a session (setsid, tmux, daemons) ends with it (cgroup v2) [false]
         without_certificate_limit_seconds  what a session without a certificate may last [as long as it likes]
         break_glass_ca_file   key of the break-glass CA, whose certificates always open the door [\"/etc/ussh/break_glass_ca.pub\"]
         break_glass_limit_seconds  what a session by one may last [3600]
         break_glass_hook      run at each use, a list of words; break_glass_hook_user runs it [none; \"nobody\"]
         [sync] source         \"ssh:\" (the CA that this host is enrolled with), \"file:/PATH\" (a feed, or a folder with one),
                               \"exec:/PROGRAM ARGUMENTS\" (what it prints; run as nobody, no shell) [\"ssh:\" if enrolled]
         [sync] feed_key       file with the feed key, for a host that is not enrolled [none: the source must be a folder of
                               root's with user_ca.pub and krl]
         [sync] every_seconds  from one sync of the daemon's to the next, a fifth more or less [300]
         [sync] timeout_seconds      for a feed on its way [60]
         [sync] stale          \"warn\", or \"refuse\": no session is renewed while the feed is stale [\"warn\"]
         [sync] stale_after_seconds  age from which a feed is stale [its own end]
         [sync] known_hosts    where the feed's known_hosts goes [left alone]
       /etc/ssh/sshd_config.d/ussh-host.conf   written by enroll";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Watch the sessions (the daemon; stays in the foreground)
    ///
    /// Each decision is one line in syslog (authpriv), and on stderr unless that is the journal already. SIGTERM stops the daemon and no session; SIGHUP reads
    /// the CA file and the revocation list again, which happens by itself when they change. This configuration is read at the start alone: `check` and `status` say when it has changed since. A CA file or revocation list that cannot be read ends no session, but none is renewed until it is mended.
    Run,
    /// Get this host's certificates from the CA, by a token, and have sshd go by the CA
    ///
    /// One command from a host with sshd to one that people log in to by certificate, with no question about its key. `usshca host token NAME` on the CA makes the token. The host's Ed25519 and ECDSA keys are
    /// taken (one is made if there is none). Written are their certificates, the CA file, the revocation list, and a drop-in for sshd, which must pass `sshd -t`; then sshd reads it. If anything fails, the
    /// host is as it was before. The CA is known by the token: a host key of another CA is refused. Enrolling again replaces.
    Enroll(EnrollArguments),
    /// Renew this host's certificates now (the daemon does it by itself at two thirds of their life)
    Renew {
        /// This is the machine that was enrolled, although its machine ID is another one
        #[arg(long)]
        same_machine: bool,
        /// Ask the CA for nothing: only have sshd read what a renewal that was ended has put in place
        #[arg(long, conflicts_with = "same_machine")]
        reload: bool,
    },
    /// Take the CA keys and the revocation list from the feed, all or nothing
    ///
    /// Everything in the feed is checked before anything is replaced: the signature by the pinned feed key, that it goes back in nothing, its age; at least one CA key, a KRL that reads to its end and is no older
    /// than the installed one. On any error nothing of the feed is in place and the exit status is 1. A running daemon does it by itself, and notices the new files.
    ///
    /// What needs no feed comes first and stays in place whatever becomes of it: the break-glass CA is put among the trusted ones, and what stands in revoked_here is added to the installed revocation list (and to every one that comes).
    /// On a host that has no source and is not enrolled that is all there is to do.
    Sync,
    /// Tell of break-glass uses whoever does not know yet: terminals, the hook, the CA (the daemon does it by itself)
    Report,
    /// List the sessions
    Sessions {
        #[command(flatten)]
        format: Format,
        /// List them again whenever anything has changed, until interrupted; with --json an object on each line
        #[arg(long)]
        watch: bool,
    },
    /// End a session: its terminals are told, its forwarded ports closed, its programs ended
    ///
    /// It needs no daemon, and, as `sessions`, no configuration that is valid: it goes by the defaults then, and says so.
    End {
        /// The number in the first column of `sessions`
        #[arg(value_name = "PID", allow_hyphen_values = true, value_parser = end::parse_name)]
        id: String,
    },
    /// Say whether the configuration is valid and what it names can be used, and what somebody must hear of: certificates of this host that run out, a stale feed, connections without a record, a daemon that does not run
    ///
    /// For monitoring, and before the daemon is started: where that it does not run is all that is wrong, the exit status is 69 and not 1. A daemon is missed on a host that is enrolled, has a configuration file, or records logins (the spool is there).
    Check,
    /// Say how things stand: the daemon, this host's certificates, the CA keys, the revocation list, the feed
    Status {
        #[command(flatten)]
        format: Format,
        /// Print it for Prometheus (for the textfile collector of node_exporter)
        #[arg(long, conflicts_with = "json")]
        metrics: bool,
    },
}

#[derive(Debug, Args)]
struct EnrollArguments {
    /// The CA's name, as in its own host certificate
    ca: String,
    /// Its SSH port
    #[arg(long, default_value_t = 22)]
    port: u16,
    /// File with the token [default: asked for (and not shown), or read from standard input; never an argument, which everybody could read]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A name that the token must be for; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Private host key to get a certificate for; may be repeated [default: /etc/ssh/ssh_host_ed25519_key and _ecdsa_key]
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Make new host keys, of the RSA key as well: for a machine that is a copy of another one
    #[arg(long)]
    new_keys: bool,
    /// This is the machine that was enrolled before, although its machine ID is another one
    #[arg(long)]
    same_machine: bool,
    /// Know the CA by this known_hosts file and not by the token (OpenSSH before 8.5)
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
}

impl Verb {
    /// Whether it is needed most when something is wrong. pam_ussh's records are in one place, whatever the configuration says.
    fn does_without_configuration(&self) -> bool {
        matches!(self, Verb::Sessions { .. } | Verb::End { .. })
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
    // Not a verb for people: ssh runs it, and root need not be who runs ssh.
    let arguments = std::env::args_os().skip(1).take(6).map(|word| word.to_string_lossy().into_owned());
    let arguments: Vec<String> = arguments.collect();
    if let [first, digest, _invocation, host, key] = arguments.as_slice()
        && first == ca_ssh::KNOWN_HOST
    {
        let shown = ca_ssh::known_host(digest, host, key);
        if let Some(said) = shown.said() {
            let _ = writeln!(std::io::stderr(), "{said}");
        }
        return print(if let Shown::Known(line) = &shown { line } else { "" });
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to stdout and are no error.
            let wrong = e.use_stderr();
            let _ = e.print();
            return if wrong { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    // The session records are root's to read, the trusted files root's to write.
    if process::effective_uid() != 0 {
        return fail(NO_PERMISSION, "must be run by root");
    }
    let path = cli.config.as_deref();
    let loaded = Config::load(path).or_else(|e| {
        if !cli.verb.does_without_configuration() {
            return Err(e);
        }
        let _ = fail(CONFIG, &format!("warning: {e}: going on by the defaults"));
        Config::parse("", Path::new(DEFAULT_PATH))
    });
    let config = match loaded {
        Ok(config) => config,
        Err(e) => return fail(CONFIG, &e.to_string()),
    };
    match cli.verb {
        Verb::Run => run::run(&config, path).map_or_else(|e| fail(FAILED, &e.to_string()), |()| ExitCode::SUCCESS),
        Verb::Enroll(arguments) => do_enroll(&config, arguments),
        Verb::Renew { reload: true, .. } => do_reload(&config),
        Verb::Renew { same_machine, reload: false } => do_renew(&config, same_machine),
        Verb::Sync => do_sync(&config),
        Verb::Report => do_report(&config),
        Verb::Sessions { format, watch: false } => sessions(&config, format),
        Verb::Sessions { format, watch: true } => match watching::watch(&config, format.json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => fail(FAILED, &e.to_string()),
        },
        Verb::End { id } => match end::end(&config, &id) {
            Ok(said) => print(&(said + "\n")),
            Err(e) => fail(FAILED, &e.to_string()),
        },
        Verb::Check => check(&config, path.is_some() || Path::new(DEFAULT_PATH).exists()),
        Verb::Status { format, metrics } => status(&config, format, metrics),
    }
}

fn do_report(config: &Config) -> ExitCode {
    match glass::report(config) {
        Ok(told) => print(&told.iter().map(|line| format!("{line}\n")).collect::<String>()),
        Err(e) => {
            Report::quiet().line(Severity::Error, &format!("Break-glass: {e}"));
            fail(FAILED, &e.to_string())
        }
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

fn do_enroll(config: &Config, arguments: EnrollArguments) -> ExitCode {
    let EnrollArguments { ca, port, token_file, names, keys, new_keys, same_machine, known_hosts } = arguments;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if ca.is_empty() || ca.starts_with('-') || !ca.chars().all(is_name) {
        return fail(
            USAGE,
            &format!("not the name of a CA's server: {}", ussh_core::escape::escape(ca.as_bytes(), 256)),
        );
    }
    if let Some(path) = keys
        .iter()
        .chain(&known_hosts)
        .find(|path| !path.is_absolute() || path.to_string_lossy().contains([' ', '"', '\n', '%']))
    {
        return fail(USAGE, &format!("must be an absolute path without blanks: {}", path.display()));
    }
    let token = match read_token(token_file.as_deref()) {
        Ok(text) => text,
        Err(e) => {
            let file = token_file.map(|file| format!("{}: ", file.display())).unwrap_or_default();
            return fail(FAILED, &format!("the token cannot be read: {file}{e}"));
        }
    };
    let Some(token) = HostToken::parse(&token) else {
        return fail(
            USAGE,
            "this is no token: `usshca host token NAME` on the CA prints one, a word that begins with ussh-host-",
        );
    };
    let report = Report::quiet();
    let wish = enroll::Wish { ca, port, token, names, keys, new_keys, known_hosts, same_machine };
    match enroll::enroll(config, wish) {
        Ok(told) => {
            report.line(Severity::Notice, &format!("Enrolled: {}", told.join("; ")));
            note(&config.renew_note(), None);
            print(&(told.join("\n") + &format!("\nsshd goes by {DROP_IN}\n")))
        }
        Err(e) => {
            report.line(Severity::Error, &format!("Not enrolled: {e}"));
            fail(FAILED, &format!("enroll: {e}"))
        }
    }
}

fn read_token(file: Option<&Path>) -> std::io::Result<zeroize::Zeroizing<String>> {
    let mut text = zeroize::Zeroizing::new(String::new());
    match file {
        Some(file) if file != Path::new("-") => {
            std::io::BufReader::new(std::fs::File::open(file)?).read_line(&mut text)?
        }
        _ => {
            let input = std::io::stdin();
            if input.is_terminal() {
                return hidden_line::ask(&input, &mut std::io::stderr(), "Token: ");
            }
            input.lock().read_line(&mut text)?
        }
    };
    Ok(text)
}

fn do_renew(config: &Config, same_machine: bool) -> ExitCode {
    let report = Report::quiet();
    match renew::renew(config, same_machine) {
        Ok(told) => {
            report.line(Severity::Notice, &format!("Renewed: {}", told.join("; ")));
            note(&config.renew_note(), None);
            print(&(told.join("\n") + "\n"))
        }
        Err(e) => {
            if matches!(e, RenewError::Unread(_)) {
                // Renewed it is; what is left to do has a mark of its own.
                note(&config.renew_note(), None);
            } else if !matches!(e, RenewError::Busy(_)) {
                note(&config.renew_note(), Some(&e.to_string()));
            }
            report.line(Severity::Error, &format!("Not renewed: {e}"));
            fail(FAILED, &format!("renew: {e}"))
        }
    }
}

fn do_reload(config: &Config) -> ExitCode {
    match renew::reload(config) {
        Ok(()) => print("sshd has read all\n"),
        Err(e) => {
            Report::quiet().line(Severity::Error, &format!("Not reloaded: {e}"));
            fail(FAILED, &format!("renew: {e}"))
        }
    }
}

/// For `status` and `check`. That it cannot be written is no reason to fail: the log has it.
fn note(path: &Path, problem: Option<&str>) {
    let _ = trust_note::write(path, problem);
}

fn do_sync(config: &Config) -> ExitCode {
    let report = Report::quiet();
    Scratch::sweep();
    match sync::sync(config) {
        Ok(outcome) => {
            if outcome.changed {
                report.line(Severity::Notice, &format!("Sync: {}", outcome.lines.join("; ")));
            }
            note(&config.sync_note(), None);
            print(&(outcome.lines.join("\n") + "\n"))
        }
        Err(e) => {
            if !matches!(e, SyncError::Busy(_) | SyncError::NoSource) {
                note(&config.sync_note(), Some(&e.to_string()));
            }
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

/// `is_configured`: a configuration file was read.
fn check(config: &Config, is_configured: bool) -> ExitCode {
    let mut problems = unusable::problems(config);
    problems.extend(show::problems(config, SystemClock.now()));
    match (problems.is_empty(), show::lacks_daemon(config, is_configured)) {
        (true, false) => print("good\n"),
        (true, true) => fail(UNAVAILABLE, &format!("{NO_DAEMON}; all else is good")),
        (false, is_missing) => {
            problems.extend(is_missing.then(|| NO_DAEMON.to_owned()));
            fail(FAILED, &problems.join("\nussh-hostd: "))
        }
    }
}

fn status(config: &Config, format: Format, metrics: bool) -> ExitCode {
    let now = SystemClock.now();
    let read = Status::read(config, now).and_then(|status| Ok((status, show::sessions(config, now)?)));
    let (status, rows) = match read {
        Ok(read) => read,
        Err(e) => return fail(FAILED, &format!("{}: {e}", config.spool.display())),
    };
    if metrics {
        // What is wrong is in the numbers.
        return print(&status.metrics(&rows));
    }
    let printed = if format.json { print_json(&status) } else { print(&status.text()) };
    match (printed == ExitCode::SUCCESS, status.is_bad(), status.daemon_pid) {
        (false, _, _) => printed,
        (true, _, None) => UNAVAILABLE.into(),
        (true, true, Some(_)) => FAILED.into(),
        (true, false, Some(_)) => ExitCode::SUCCESS,
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

    #[test]
    fn what_is_no_process_id_is_wrong_use_of_end() {
        for wrong in ["abc", "", "-1", "-x", "0", "12 34"] {
            let error = Cli::try_parse_from(["ussh-hostd", "end", wrong]).unwrap_err();
            assert!(error.use_stderr(), "{wrong}");
            let said = error.to_string();
            assert!(said.contains("not a process ID; `ussh-hostd sessions` lists the sessions"), "{wrong}: {said}");
        }
        for right in ["4711", "4711-98765"] {
            Cli::try_parse_from(["ussh-hostd", "end", right]).unwrap();
        }
        let both = Cli::try_parse_from(["ussh-hostd", "end", "--config", "/x", "4711"]).unwrap();
        assert_eq!(both.config, Some("/x".into()), "a flag is no process ID");
    }
}
