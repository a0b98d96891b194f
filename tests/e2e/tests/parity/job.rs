//! What a judge in a host is told, and what it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::keys::Key;

/// Who is to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Judge {
    /// The host's sshd, run for each row by itself.
    Sshd,
    /// pam_ussh in a stack of its own, as sudo would ask it.
    Agent,
    /// pam_ussh in sshd's stack, told what sshd tells it.
    WithinSshd,
}

/// All rows for one judge.
#[derive(Debug, Serialize, Deserialize)]
pub struct Jobs {
    pub judge: Judge,
    pub jobs: Vec<Job>,
}

/// One row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub number: usize,
    pub certificate: Presented,
    /// Proves possession.
    pub key: Key,
    /// Over IPv6's loopback.
    pub ipv6: bool,
}

/// What is shown: its wire form in base64.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Presented {
    Always(String),
    /// The one that belongs to the second in which it is judged.
    BySecond(BTreeMap<u64, String>),
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judged {
    pub number: usize,
    pub accepted: bool,
    /// Of sshd: all that it said.
    pub log: String,
    /// The certificate was in a real ssh-agent.
    pub real_agent: bool,
}

/// Folder of a row's files in a host.
pub fn folder(number: usize) -> String {
    format!("/etc/parity/{number}")
}

/// PAM service of a row.
pub fn service(number: usize) -> String {
    format!("parity-{number}")
}

/// The user whom all certificates are about.
pub const USER: &str = "alice";
