//! Why a command ended, and its exit status.

use std::fmt;
use std::process::ExitCode;

/// Exit statuses. Scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Ok,
    /// 1: refused, or not found.
    Refused,
    /// 64: wrong usage: the command line, or a file named on it for reading (sysexits.h EX_USAGE).
    Usage,
    /// 69: the CA is not available (EX_UNAVAILABLE).
    Unavailable,
    /// 70: something that should not happen (EX_SOFTWARE).
    Internal,
    /// 73: a file cannot be written (EX_CANTCREAT).
    Output,
    /// 78: the configuration, the policy, or what belongs to them is missing or wrong (EX_CONFIG).
    Config,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Refused => 1,
            Exit::Usage => 64,
            Exit::Unavailable => 69,
            Exit::Internal => 70,
            Exit::Output => 73,
            Exit::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// What to tell the person at the terminal: what failed, and what to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// With which status to end.
    pub exit: Exit,
    /// One sentence or more, no newline at the end.
    pub message: String,
}

impl Failure {
    /// Refused, or not found.
    pub fn refused(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Refused, message: message.into() }
    }
    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Usage, message: message.into() }
    }
    /// The CA is not available.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Unavailable, message: message.into() }
    }
    /// Something that should not happen.
    pub fn internal(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Internal, message: message.into() }
    }
    /// A file cannot be written.
    pub fn output(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Output, message: message.into() }
    }
    /// The configuration, or what belongs to it, is missing or wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Config, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
