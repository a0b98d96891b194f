//! `ussh-lab`: the processes of a lab, and commands for people.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

use ussh_lab::{Lab, Result, SSHD_CONFIG};

const USAGE: &str = "\
usage: ussh-lab shell [HOST…]   hosts with sshd (web1 and web2, unless others are named), a shell on the laptop
       ussh-lab trixie          make the Debian 13 root that some tests put hosts on, if it is missing

It needs root. All else is for tests: see the documentation of the crate.";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = ussh_lab::stage::run(&arguments) {
        return code;
    }
    let words: Option<Vec<&str>> = arguments.iter().map(|argument| argument.to_str()).collect();
    let outcome = match words.as_deref() {
        Some(["trixie"]) => ussh_lab::make_trixie_root().map(|root| println!("{}", root.display())),
        Some(["shell", hosts @ ..]) => shell(if hosts.is_empty() { &["web1", "web2"] } else { hosts }),
        Some(_) | None => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ussh-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A lab with nothing of ours on it, until its user leaves the shell.
fn shell(hosts: &[&str]) -> Result<()> {
    let lab = Lab::new("shell").laptop("laptop").user("alice", "secret", &["sudo"]);
    let lab = hosts.iter().fold(lab, |lab, host| lab.host(host)).start()?;
    for host in hosts {
        lab.host(host).start_sshd(SSHD_CONFIG)?;
    }
    println!(
        "You are alice on laptop; your password is \"secret\". sshd runs on {}. Leave with exit.",
        hosts.join(", ")
    );
    // Whatever exit code the person's last command left: the shell has done its work.
    lab.host("laptop").command(["bash"]).user("alice").attach().map(drop)
}
