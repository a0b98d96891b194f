//! What is wrong with a line or with the file, where, and what to write.

use std::fmt;
use std::path::PathBuf;

use super::table::Spec;

/// What is wrong, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// Where it was given. Of two options that contradict each other: the line.
    pub origin: Origin,
    /// What it is.
    pub problem: Problem,
}

/// Where an option was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the PAM line.
    Line,
    /// In the file.
    File {
        /// Which.
        path: PathBuf,
        /// `default`, or `service.` and its name. Empty: not in a table that we know.
        table: String,
    },
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An argument that is no text.
    #[error("an argument is not UTF-8")]
    NotText,
    /// No option of ours.
    #[error("unknown option {0}")]
    Unknown(String),
    /// No option of ours, but what was meant is plain.
    #[error("unknown option {name}; write {write}")]
    Misnamed {
        /// As given.
        name: String,
        /// What to write in its place.
        write: String,
    },
    /// One of ours, on a line of another kind.
    #[error("option {name} is for {} only", names(facilities))]
    WrongFacility {
        /// The option.
        name: &'static str,
        /// The kinds of line on which it may stand.
        facilities: &'static [super::Facility],
    },
    /// `name=` with nothing behind it, or without the `=` where a value must be.
    #[error("option {0} has no value: give it one, or leave it out")]
    NoValue(String),
    /// `debug=…`.
    #[error("option {0} takes no value")]
    NeedlessValue(String),
    /// Given twice.
    #[error("option {name} is repeated: {write}", write = if Spec::takes_names(name) { "write one, with all names in it" } else { "keep one of them" })]
    Repeated {
        /// The option.
        name: &'static str,
    },
    /// A value that is not one of this option.
    #[error("option {0} must be {1}")]
    Value(String, &'static str),
    /// Two options that exclude each other, or one that needs another.
    #[error("{text}")]
    Contradiction {
        /// The option that the other one contradicts, or that lacks it.
        name: &'static str,
        /// The sentence.
        text: &'static str,
    },
    /// An option that cannot be had in this service.
    #[error("{text}")]
    NotHere {
        /// The option.
        name: &'static str,
        /// The sentence.
        text: &'static str,
    },
    /// The file is not there, is not trusted, or is not TOML.
    #[error("{0}")]
    File(String),
}

impl Problem {
    /// The option that it is about, as it was given.
    pub fn option(&self) -> Option<&str> {
        match self {
            Problem::NotText | Problem::File(_) => None,
            Problem::Unknown(name)
            | Problem::Misnamed { name, .. }
            | Problem::NoValue(name)
            | Problem::NeedlessValue(name)
            | Problem::Value(name, _) => Some(name),
            Problem::Repeated { name }
            | Problem::WrongFacility { name, .. }
            | Problem::Contradiction { name, .. }
            | Problem::NotHere { name, .. } => Some(name),
        }
    }

    /// On the PAM line.
    pub(super) fn on_line(self) -> OptionError {
        OptionError { origin: Origin::Line, problem: self }
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Line => {}
            Origin::File { path, table } if table.is_empty() => write!(f, "{}: ", path.display())?,
            Origin::File { path, table } => write!(f, "{} [{table}]: ", path.display())?,
        }
        write!(f, "{}", self.problem)
    }
}

impl std::error::Error for OptionError {}

fn names(facilities: &[super::Facility]) -> String {
    let names: Vec<&str> = facilities.iter().map(|facility| facility.name()).collect();
    names.join(" and ")
}
