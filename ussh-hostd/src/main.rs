//! `ussh-hostd`, the sshd-side agent: a session lives as long as its certificate.
//!
//! Process: one, root, not dumpable, single-threaded but for short-lived workers that talk to agents (`look`). No async, no network.
//! Trusted input: the configuration, the CA file, the revocation list and the spool, all root-owned.
//! Untrusted input: what agents answer, paths of sockets, names inside certificates, the feed until it is checked.
#![forbid(unsafe_code)]

mod cli;
mod config;

mod trust;

mod trust_note;

mod begun;

mod spool;

mod terms;

mod session;

mod descriptors;

mod programs;

mod connection;

mod cell;

mod last_word;

mod look;

mod watch;

mod start;

mod run;

mod child;

mod own_file;

mod place;
mod revoked_here;
mod scratch;

mod enrolment;

mod ca_ssh;

mod host_key;

mod sshd_processes;

mod sshd;

mod unread;
mod unrecorded;

mod undisturbed;

mod pinned;

mod source;

mod sync;

mod enroll;

mod cut_short;

mod renew;

mod glass;

mod health;

mod running;

mod unusable;

mod chores;

mod end;

mod watching;

mod show;

mod report;

#[cfg(test)]
mod test_support;

fn main() -> std::process::ExitCode {
    // Children of ours become users for a connect(), some at a time, and share our memory then (`ussh_os::agent_socket`).
    if let Err(error) = ussh_os::process::harden_memory() {
        eprintln!("ussh-hostd: cannot protect its memory: {error}");
        return std::process::ExitCode::FAILURE;
    }
    cli::main()
}
