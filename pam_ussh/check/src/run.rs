//! Answers the command line.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use crate::cli::{Cli, FacilityArg, Generate};
use crate::decision::Answer;
use crate::installed::Judged;
use crate::line_check::{self, Wrong};
use crate::lint::{self, Linted, Manner};
use crate::named;
use crate::pam::line;
use crate::pam::stack::{Facility, PAM_D};
use crate::report::{Finding, Severity, Verdict, shown};

/// Wrong usage.
const USAGE: u8 = 2;

/// What was printed decides nothing: the status is the answer.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => ExitCode::from(run(&cli)),
        Err(error) => {
            // Nothing can be done about a closed stdout or stderr here.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
        }
    }
}

fn run(cli: &Cli) -> u8 {
    if let Some(what) = cli.mode.generate {
        return generate(what);
    }
    if let Some(options) = &cli.mode.options {
        return check_line(cli, options);
    }
    if let Some(user) = &cli.mode.user {
        return decide(cli, user);
    }
    check_stacks(cli)
}

fn decide(cli: &Cli, user: &str) -> u8 {
    let service = cli.service.as_deref().unwrap_or("sudo");
    let judged = match cli.arguments.as_slice() {
        [] => Judged::installed(Path::new(PAM_D), service, Facility::Auth),
        given => Judged::given(given),
    };
    let decision = pam_ussh::terminal::decide(service, user, judged.arguments.as_deref());
    let answer = Answer::new(service, user, judged, decision);
    if cli.json {
        print_json(&answer);
    } else {
        print_text(&answer.text());
    }
    answer.verdict.status()
}

#[derive(Serialize)]
struct StacksAnswer {
    verdict: Verdict,
    stacks: Vec<StackAnswer>,
    /// Files that were not looked at.
    errors: Vec<Unread>,
}

#[derive(Serialize)]
struct Unread {
    file: String,
    error: String,
}

#[derive(Serialize)]
struct StackAnswer {
    file: String,
    service: String,
    verdict: Verdict,
    findings: Vec<Finding>,
}

fn check_stacks(cli: &Cli) -> u8 {
    let manner =
        Manner { installed: cli.installed, sshd_config: cli.sshd_config.clone(), service: cli.service.clone() };
    let mut stacks = Vec::new();
    let mut errors = Vec::new();
    if let Some(file) = &cli.sshd_config
        && let Err(error) = fs::metadata(file)
        && error.kind() == io::ErrorKind::NotFound
    {
        errors.push(Unread { file: file.display().to_string(), error: error.to_string() });
    }
    for file in &cli.mode.stack {
        match lint::lint(file, &manner) {
            Ok(linted) => stacks.extend(linted.into_iter().map(|linted| answer_of(file, linted))),
            Err(error) => errors.push(Unread { file: file.display().to_string(), error: error.to_string() }),
        }
    }
    let unread = !errors.is_empty();
    let least = if unread { Verdict::Unchecked } else { Verdict::Good };
    let verdict = stacks.iter().map(|stack| stack.verdict).max().unwrap_or(least).max(least);
    if cli.json {
        print_json(&StacksAnswer { verdict, stacks, errors });
    } else {
        for Unread { file, error } in &errors {
            eprintln!("pam-ussh-check: {}: {}", shown(file), shown(error));
        }
        print_text(&stacks_text(&stacks));
    }
    if unread { USAGE } else { verdict.status() }
}

fn answer_of(file: &Path, linted: Linted) -> StackAnswer {
    let Linted { service, findings } = linted;
    StackAnswer { file: file.display().to_string(), service, verdict: Verdict::of(&findings), findings }
}

/// A finding of a file that several stacks include is told once, with the first of them.
fn stacks_text(stacks: &[StackAnswer]) -> String {
    let mut text = String::new();
    for (position, stack) in stacks.iter().enumerate() {
        for finding in &stack.findings {
            let has = |stack: &&StackAnswer| stack.findings.contains(finding);
            if stacks.iter().take(position).any(|before| has(&before)) {
                continue;
            }
            let others: Vec<&str> =
                stacks.iter().skip(position + 1).filter(has).map(|other| other.file.as_str()).collect();
            text.push_str(&finding.text(&others));
        }
        let said = match stack.verdict {
            Verdict::Good => "good",
            Verdict::Unchecked => "nothing found, but not all could be checked",
            Verdict::Bad => "not good",
        };
        let _ = writeln!(text, "{} ({}): {said}", shown(&stack.file), shown(&stack.service));
    }
    text
}

#[derive(Serialize)]
struct LineAnswer {
    verdict: Verdict,
    service: String,
    facility: &'static str,
    arguments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<String>,
    /// Of what the options name, or leave out.
    findings: Vec<NamedAnswer>,
}

#[derive(Serialize)]
struct NamedAnswer {
    severity: Severity,
    rule: &'static str,
    what: String,
    why: &'static str,
    instead: String,
}

impl NamedAnswer {
    fn of(wrong: Wrong) -> Self {
        let Wrong { severity, rule, what, why, instead } = wrong;
        NamedAnswer { severity, rule, what, why, instead }
    }
}

fn check_line(cli: &Cli, options: &str) -> u8 {
    let facility = match cli.facility {
        FacilityArg::Auth => Facility::Auth,
        FacilityArg::Account => Facility::Account,
        FacilityArg::Session => Facility::Session,
    };
    let usual = if facility == Facility::Session { "sshd" } else { "sudo" };
    let service = cli.service.clone().unwrap_or_else(|| usual.to_owned());
    let words = line::words(options.as_bytes());
    let arguments: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let checked =
        line_check::place(&service, facility).and_then(|()| line_check::options(&service, facility, Some(&arguments)));
    let (wrong, findings) = match checked {
        Ok(options) => {
            let idle = line_check::idle(&service, facility, Some(&arguments));
            (None, named::look(&service, &options, cli.installed).into_iter().chain(idle).collect())
        }
        Err(wrong) => (Some(wrong), Vec::new()),
    };
    let verdict = Verdict::of_all(wrong.iter().chain(&findings).map(|wrong| wrong.severity));
    if cli.json {
        let (problem, instead) = match wrong {
            Some(Wrong { what, instead, .. }) => (Some(what), Some(instead).filter(|instead| !instead.is_empty())),
            None => (None, None),
        };
        let findings = findings.into_iter().map(NamedAnswer::of).collect();
        print_json(&LineAnswer { verdict, service, facility: facility.name(), arguments, problem, instead, findings });
    } else {
        let said = match (&wrong, verdict) {
            (Some(wrong), _) => shown(&wrong.what),
            (None, Verdict::Good) => "good".into(),
            (None, Verdict::Unchecked) => "the options are good, but not all that they name could be checked".into(),
            (None, Verdict::Bad) => "the options are good, but not what they name".into(),
        };
        let mut text = format!("{facility} of {}: {said}\n", shown(&service));
        let mut add = |what: &str| {
            let _ = writeln!(text, "    {what}");
        };
        if let Some(instead) = wrong.map(|wrong| wrong.instead).filter(|instead| !instead.is_empty()) {
            add(&format!("instead: {}", shown(&instead)));
        }
        for found in &findings {
            add(&format!("{}: {} [{}]", found.severity.name(), shown(&found.what), found.rule));
        }
        print_text(&text);
    }
    verdict.status()
}

/// What `make man` has written, and a test holds to the command line.
fn generate(what: Generate) -> u8 {
    print_text(match what {
        Generate::Man => include_str!("../../../packaging/man/pam-ussh-check.8"),
        Generate::Bash => include_str!("../../../packaging/completions/bash/pam-ussh-check"),
        Generate::Zsh => include_str!("../../../packaging/completions/zsh/_pam-ussh-check"),
        Generate::Fish => include_str!("../../../packaging/completions/fish/pam-ussh-check.fish"),
    });
    0
}

fn print_json(answer: &impl Serialize) {
    // Plain structures with text keys: there is nothing in them that JSON cannot say.
    if let Ok(mut text) = serde_json::to_string_pretty(answer) {
        text.push('\n');
        print_text(&text);
    }
}

/// A reader that has gone away is no reason to say anything; that it could not be written is. The status is the answer in both cases.
fn print_text(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            // Nothing can be done about a closed stderr here.
            let _ = writeln!(io::stderr(), "pam-ussh-check: standard output: {error}");
        }
        Ok(()) | Err(_) => {}
    }
}
