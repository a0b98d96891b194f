//! `ussh-lab`: the processes of a lab, and commands for people.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

const USAGE: &str = "\
usage: ussh-lab trixie     make the Debian 13 root that some tests put hosts on, if it is missing

Labs are made by tests: see the documentation of the crate.";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = ussh_lab::stage::run(&arguments) {
        return code;
    }
    match arguments.first().and_then(|argument| argument.to_str()) {
        Some("trixie") => match ussh_lab::make_trixie_root() {
            Ok(root) => {
                println!("{}", root.display());
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("ussh-lab: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(64)
        }
    }
}
