//! The rules that every program of USSH shares: certificates and the verdict on them, the agent wire,
//! the challenge that proves possession of a key, and the files that are trusted.
//!
//! Process: all of them. Privilege: none needed. No PAM, no async, no network, no unsafe.
//! Untrusted input: everything that is parsed here, unless a function says otherwise.
#![forbid(unsafe_code)]

pub mod agent;
pub mod audit;
pub mod break_glass;
pub mod ca_file;
pub mod certificate;
pub mod challenge;
pub mod clock;
pub mod decision;
pub mod digest;
pub mod enroll;
pub mod escape;
pub mod feed;
pub mod issue;
pub mod keys;
pub mod login_proof;
pub mod principals;
pub mod record;
pub mod revoked;
pub mod sshsig;
#[cfg(test)]
mod testing;
pub mod trusted_file;
pub mod verdict;
pub mod wire;

#[cfg(test)]
mod test_agents;
