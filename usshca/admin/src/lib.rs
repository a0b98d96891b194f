//! The administrators' verbs: their command lines, what they ask the signer, what they print.
//!
//! Process: `usshca` at the CA's machine, and a front for whoever comes over ssh. uid: the caller's, or the front's. It grants nothing: the signer judges every question by itself,
//! by the kernel's word on who asks at the machine, and by a PAM worker's statement over ssh.
//! Trusted: the signer's answers. Untrusted: the words of a command line over ssh, and what others chose in the rows that are shown.
#![forbid(unsafe_code)]

pub mod cli;
pub mod csv;
pub mod desk;
mod explain;
pub mod failure;
pub mod files;
mod find;
pub mod host;
mod hosts;
pub mod json;
mod key;
mod krl;
mod list;
pub mod own;
pub mod remote;
mod revoke;
pub mod table;
pub mod time;

use self::cli::{AdminCommand, HostCommand};
use self::desk::{Desk, Link, next_steps, place, print, too_many};
use self::failure::Failure;
pub use self::files::certificate_path;

/// Mode of files for everybody to read.
const PUBLIC: u32 = 0o644;

/// Runs one verb.
/// # Errors
/// What to tell the administrator, with the exit status.
pub fn run(desk: &dyn Desk, verb: AdminCommand) -> Result<(), Failure> {
    match verb {
        AdminCommand::List(args) => list::list(desk, &args),
        AdminCommand::Show(args) => list::show(desk, &args),
        AdminCommand::Explain(args) => explain::explain(desk, &args),
        AdminCommand::Revoke(args) => revoke::revoke(desk, &args),
        AdminCommand::Revocations(args) => revoke::list(desk, &args),
        AdminCommand::Krl(args) => krl::krl(desk, &args),
        AdminCommand::Host(HostCommand::Sign(args)) => host::sign(desk, &args),
        AdminCommand::Find(args) => find::find(desk, &args),
        AdminCommand::Host(HostCommand::Token(args)) => hosts::token(desk, &args),
        AdminCommand::Host(HostCommand::Tokens(args)) => hosts::tokens(desk, &args),
        AdminCommand::Host(HostCommand::List(args)) => hosts::list(desk, &args),
        AdminCommand::Host(HostCommand::Show(args)) => hosts::show(desk, &args),
        AdminCommand::Host(HostCommand::Remove(args)) => hosts::remove(desk, &args),
        AdminCommand::Key(command) => key::run(desk, &command),
        // With files and processes of the machine's own: `usshca` has them.
        AdminCommand::Backup(_) => Err(remote::only_there("backup")),
        AdminCommand::Replay(_) => Err(remote::only_there("replay")),
        AdminCommand::Publish(_) => Err(remote::only_there("publish")),
        AdminCommand::Feed(_) => Err(remote::only_there("feed")),
    }
}

/// ssh compares host names in small letters. Says so, where that changes one.
pub fn small_letters(names: &[String], note: &dyn Fn(&str)) -> Vec<String> {
    let small = |name: &String| {
        let small = name.to_ascii_lowercase();
        if small != *name {
            let shown = ussh_core::escape::escape(name.as_bytes(), ussh_core::escape::MAX_FIELD);
            let small = ussh_core::escape::escape(small.as_bytes(), ussh_core::escape::MAX_FIELD);
            note(&format!("note: ssh compares host names in small letters: {shown} becomes {small}"));
        }
        small
    };
    names.iter().map(small).collect()
}

/// An answer to another question.
pub fn unexpected() -> Failure {
    Failure::internal("the signer gave an answer to another question")
}
