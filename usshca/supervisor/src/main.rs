//! `usshca`: the CA's command. `serve` is the supervisor, the other verbs are for its administrators.
//!
//! Process: the supervisor and the admin commands. uid: root, or an ordinary user who runs a CA for an account of his own.
//! Trusted: the command line, the configuration, the kernel's word on processes. Untrusted: everything that a front says.
#![forbid(unsafe_code)]

mod admin;
mod check;
mod child;
mod config;
mod feed_folder;
mod init;
mod listen;
mod log;
mod own_place;
mod pam_stack;
mod policy;
mod prepare;
mod serve;
mod signer_process;
mod status;
mod unlock;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use ussh_os::process;
use usshca_admin::{cli, failure};
use usshca_ipc::layout::Layout;

use crate::cli::{Cli, Command};
use crate::failure::{Exit, Failure};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    match run(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            // Nothing: it was told elsewhere.
            if !failure.message.is_empty() {
                eprintln!("usshca: {failure}");
            }
            failure.exit.into()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let layout = match &cli.dir {
        Some(dir) => Layout::in_directory(&absolute(dir)?),
        None if process::effective_uid() == 0 || cli.needs_no_ca() => Layout::system(),
        None => return Err(not_root(&Layout::system())),
    };
    unlock::take(cli.passphrase_fd)?;
    match cli.command {
        Command::Init(args) => init::run(&layout, &args),
        Command::Serve(args) => serve::run(&layout, &args),
        Command::Check(args) => check::run(&layout, &args),
        Command::Status(args) => status::run(&layout, &args),
        Command::Admin(verb) => admin::run(&layout, verb),
    }
}

/// Help and version are answers (0); anything else that clap has to say is a usage error (64, sysexits.h EX_USAGE).
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done about a closed stdout or stderr here.
    let _ = error.print();
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if is_answer { Exit::Ok.into() } else { Exit::Usage.into() }
}

/// The system's CA is root's in all of its parts.
fn not_root(layout: &Layout) -> Failure {
    let config = layout.config.display();
    Failure::refused(format!("this machine's CA ({config}) is for root; try sudo, or --dir DIR for a CA of your own"))
}

fn absolute(dir: &std::path::Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(dir).map_err(|e| Failure::usage(format!("--dir {}: {e}", dir.display())))
}
