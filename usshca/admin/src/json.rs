//! JSON lines.

use std::fmt::Display;

use ussh_core::escape::escape_json;

/// A value with the line's end. What steers a terminal is escaped, always: others chose names and reasons, and whoever asks over ssh reads this at a terminal that nobody here sees.
pub fn line(value: &impl Display) -> String {
    escape_json(&format!("{value}\n"))
}
