//! The supervisor's log: one line per decision, as the configuration says where to.

use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Deserialize;
use ussh_core::clock::{Clock, SystemClock};
use ussh_os::syslog::Severity;
use usshca_ipc::log::Format;

/// `log_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// The journal, with fields.
    Journald,
}

static FORMAT: OnceLock<Format> = OnceLock::new();
/// Seconds since the epoch, and the line.
static LAST_ERROR: Mutex<Option<(u64, String)>> = Mutex::new(None);

/// From here on lines have this format. The first call counts.
pub fn set_format(format: LogFormat) {
    let _ = FORMAT.set(match format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
        LogFormat::Journald => Format::Journald,
    });
}

/// The format that was set.
pub fn format() -> Format {
    FORMAT.get().copied().unwrap_or_default()
}

/// The last error, and when it was: seconds since the epoch.
pub fn last_error() -> Option<(u64, String)> {
    LAST_ERROR.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What the last error was about is mended, if its line began with these words: it is no news any more.
pub fn settled(beginning: &str) {
    let mut last = LAST_ERROR.lock().unwrap_or_else(PoisonError::into_inner);
    if last.as_ref().is_some_and(|(_, line)| line.starts_with(beginning)) {
        *last = None;
    }
}

/// Logs one line with fields for whoever keeps them. Hand over raw text: all of it is escaped here.
pub fn event(severity: Severity, text: &str, fields: &[(&str, &str)]) {
    let line = ussh_core::audit::line(text);
    let escaped: Vec<(&str, String)> =
        fields.iter().map(|(name, value)| (*name, ussh_core::audit::line(value))).collect();
    let fields: Vec<(&str, &str)> = escaped.iter().map(|(name, value)| (*name, value.as_str())).collect();
    format().write("usshca", severity, &line, &fields);
    if severity == Severity::Error {
        let mut last = LAST_ERROR.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((SystemClock.now().0, line));
    }
}

/// Something that was done.
pub fn info(text: &str) {
    event(Severity::Info, text, &[]);
}

/// Something that an administrator should look at.
pub fn warning(text: &str) {
    event(Severity::Warning, text, &[]);
}

/// Something that keeps the CA from serving.
pub fn error(text: &str) {
    event(Severity::Error, text, &[]);
}
