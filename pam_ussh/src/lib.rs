//! pam_ussh.so: does the person at the other end still hold a good certificate, and its key?
//!
//! Process: sudo, su, doas, sshd and whoever else loads it; uid: effective root, real uid the caller's (sshd: root).
//! Trusted: the PAM line, files that root alone can change, what libpam says of user and service, and in sshd what sshd put into PAM's environment.
//! Untrusted: the process's environment, the agent and all its answers, certificates until they are judged.
//!
//! The modules in the order of the data: the hooks (`entry`), the line (`options`), what the line names (`trust`), who asks and through which agent (`caller`; `search` where it is
//! not found at once, `origin` where it lies, both by the `records` of live sessions; `login` where nothing counts but the caller's own), the two ways to a proof (`auth`: agent challenge, with an `attendant` at the key, `sshd`: sshd's own) and the third where
//! `account` finds what `auth` has proved (`account`, `kept`), the record of a session (`session`), what is told of break-glass (`glass`), and what PAM, the user (`answer`) and the log (`log`) are told. `inject` is there
//! for tests.
#![deny(unsafe_code)]

mod account;
mod answer;
mod attendant;
mod auth;
mod caller;
#[allow(unsafe_code)]
mod entry;
mod glass;
mod inject;
mod kept;
mod log;
mod login;
pub mod options;
mod origin;
pub mod place;
mod records;
mod search;
mod session;
mod sshd;
pub mod terminal;
#[cfg(test)]
mod testing;
mod trust;

pub use sshd::parse as parse_auth_info;
