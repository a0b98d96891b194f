//! `ussh`: see the library of this crate.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    ussh_wrapper::main(std::env::args_os().skip(1).collect())
}
