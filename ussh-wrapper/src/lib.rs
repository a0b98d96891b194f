//! `ussh`: makes sure that the user's agent holds a good certificate, then becomes `ssh` with exactly the arguments given.
//!
//! Process: one, short-lived, which execs `ssh`; while somebody logs in it runs `ssh` to the CA as a child and serves the guarded agent to it.
//! Privilege: the user's own, nothing more. Trusted input: the configuration files (the user's and root's). Untrusted: what the agent lists,
//! and all that comes from the CA over the forwarded agent. Speaks no SSH itself.
//!
//! Modules stand in the order in which a run passes them: arguments → configuration → the user's agent → its certificates → (flight, login, guard) → exec.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod certificates;
pub mod config;
pub mod exec;
pub mod failure;
pub mod files;
pub mod flight;
pub mod forward;
pub mod guard;
pub mod help;
pub mod keeper;
pub mod login;
pub mod logout;
pub mod proxy;
pub mod run;
pub mod ssh_config;
pub mod status;
pub mod user_agent;
pub mod user_file;
pub mod verbs;
pub mod why;

#[cfg(test)]
mod test_support;

use std::ffi::OsString;
use std::process::ExitCode;

/// The whole program; `arguments` without the program's own name. Does not return when it becomes `ssh`.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    match arguments::Invocation::classify(arguments).map_err(failure::Failure::from).and_then(run::run) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
