//! The options: from the PAM line, and from a file of the administrator's for whatever the line leaves open.
//!
//! Whatever is unknown, empty, repeated or contradictory is an error that names the option: a line that is not understood whole lets nobody in.
//! Trusted: the line, and the file, which must be one that root alone can change.
//!
//! In the order of the data: what options there are (`table`), where they are given (`line`, `config`), and what they make (`auth`, `account`, `session`).

mod account;
mod auth;
mod config;
mod error;
mod line;
mod pattern;
mod session;
mod table;
#[cfg(test)]
mod tests;

pub use self::account::AccountOptions;
pub use self::auth::{AuthOptions, Principals};
pub use self::config::{Config, DEFAULT_CONFIG};
pub use self::error::{OptionError, Origin, Problem};
pub use self::line::FromLine;
pub use self::pattern::FilePattern;
pub use self::session::{SessionOptions, SpoolFailure};
pub use self::table::Facility;
