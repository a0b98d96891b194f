//! What can go wrong in a lab.

use std::io;
use std::time::Duration;

use crate::command::Output;

/// The result of everything a lab does.
pub type Result<T> = std::result::Result<T, LabError>;

/// Why a lab, a host or a command in it did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces and mounts are root's to make.
    #[error("the lab needs root: it makes namespaces, mounts and network links (all of its own); run it as root")]
    NotRoot,
    /// The helper program is not where it is looked for.
    #[error("no lab helper at {0}: build it first with `cargo build -p ussh-lab`, or set USSH_LAB_BIN")]
    NoHelper(String),
    /// The helper program and this library come from different sources.
    #[error("the lab helper at {0} was built from other sources: run `cargo build -p ussh-lab`")]
    OtherHelper(String),
    /// The system refused a step.
    #[error("{what}: {source}")]
    Os {
        /// The step.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The lab's own processes reported that a step failed, or died.
    #[error("{what}{}", section("lab log", log))]
    Setup {
        /// What failed.
        what: String,
        /// What they had printed until then.
        log: String,
    },
    /// A condition did not come true in time.
    #[error("waited {after:?} in vain for {what}{}", section("seen", seen))]
    Timeout {
        /// The condition.
        what: String,
        /// How long it was waited for.
        after: Duration,
        /// What was there instead.
        seen: String,
    },
    /// A command that had to succeed did not.
    #[error("{0}")]
    Failed(Box<Output>),
}

impl LabError {
    /// A failure in plain words.
    pub(crate) fn setup(what: impl Into<String>) -> Self {
        LabError::Setup { what: what.into(), log: String::new() }
    }
}

/// `text` under a heading, or nothing.
pub(crate) fn section(title: &str, text: &str) -> String {
    if text.trim().is_empty() { String::new() } else { format!("\n--- {title} ---\n{}", text.trim_end()) }
}

/// Says what was being done when the system refused.
pub(crate) trait Doing<T> {
    /// Adds the step to the system's error.
    fn doing(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| LabError::Os { what: what.into(), source: source.into() })
    }
}
