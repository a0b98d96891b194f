//! pam-ussh-check: would `pam_ussh.so` say yes, and would anybody heed it?
//!
//! Process: an administrator's or a script's. uid: any; what that may not read is said to be unchecked.
//! Untrusted: stack files, agents, certificates: what is shown of them is escaped.
//!
//! Three questions: a stack (`lint`, on `pam`: stacks as libpam reads and runs them, `modules`: what is known of modules, `sshd_config`), a line (`line_check`, with `examples` of what to write, and `named`: the files and groups of its options), a decision
//! (`decision`, by the options that `installed` finds). `cli` is the command line, `run` answers it, `report` is how the answers are shown.
#![forbid(unsafe_code)]

pub mod cli;
pub mod decision;
pub mod examples;
pub mod installed;
pub mod line_check;
pub mod lint;
pub mod modules;
pub mod named;
pub mod pam;
pub mod report;
pub mod run;
pub mod sshd_config;
