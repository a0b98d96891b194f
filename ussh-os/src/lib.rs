//! What the operating system offers, made safe: accounts, credentials, sockets, PAM from both sides, sandbox, syslog.
//!
//! The only crate with unsafe code (beside the entry module of pam_ussh). Each block says whose contract it leans on.
//! Depends on none of ours.

pub mod account;
pub mod agent_socket;
pub mod births;
pub mod cgroup;
mod connecting_child;
pub mod detached;
mod file_identity;
pub mod file_size;
pub mod hidden_line;
pub mod interrupt;
pub mod locked;
pub mod notify;
#[cfg(any(feature = "pam-application", feature = "pam-module"))]
mod pam_abi;
#[cfg(feature = "pam-application")]
pub mod pam_application;
#[cfg(feature = "pam-module")]
pub mod pam_module;
pub mod pam_names;
pub mod process;
pub mod process_tree;
pub mod resident;
pub mod sandbox;
pub mod seqpacket;
pub mod sshd_connection;
pub mod sshd_forwards;
pub mod syslog;
pub mod terminal;
pub mod unix_diag;
