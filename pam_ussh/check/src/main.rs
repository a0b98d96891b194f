//! `pam-ussh-check`, see the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    pam_ussh_check::run::main()
}
