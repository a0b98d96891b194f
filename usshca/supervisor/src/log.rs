//! The supervisor's log: one line per decision, to stderr and to syslog's authpriv.

use std::io::Write;

use ussh_os::syslog::{self, Severity};

/// Logs one line. Hand over raw text: it is escaped here.
pub fn log(severity: Severity, text: &str) {
    let line = ussh_core::audit::line(text);
    // In one write, since the signer writes there too; eprintln! would do it in three, and panic if stderr is gone.
    let _ = std::io::stderr().write_all(format!("usshca: {line}\n").as_bytes());
    // A machine without syslog still has stderr.
    let _ = syslog::authpriv("usshca", severity, &line);
}

/// Something that was done.
pub fn info(text: &str) {
    log(Severity::Info, text);
}

/// Something that an administrator should look at.
pub fn warning(text: &str) {
    log(Severity::Warning, text);
}

/// Something that keeps the CA from serving.
pub fn error(text: &str) {
    log(Severity::Error, text);
}
