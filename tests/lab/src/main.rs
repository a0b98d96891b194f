//! `ussh-lab`: the processes of a lab.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = ussh_lab::stage::run(&arguments) {
        return code;
    }
    eprintln!("ussh-lab is started by tests; see the documentation of the crate");
    ExitCode::from(64)
}
