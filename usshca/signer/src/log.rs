//! The signer's log: one line per decision, to stderr (the supervisor's) and to syslog's authpriv.

use std::io::Write;

use ussh_os::syslog::{self, Severity};

/// Something that was done. Raw text: it is escaped here.
pub fn info(text: &str) {
    write(Severity::Info, &ussh_core::audit::line(text));
}

/// Something that an administrator should look at. Raw text.
pub fn warning(text: &str) {
    write(Severity::Warning, &ussh_core::audit::line(text));
}

/// A line of [`ussh_core::audit::certificate_line`], which is escaped already.
pub fn decision(line: &str) {
    write(Severity::Info, line);
}

fn write(severity: Severity, line: &str) {
    // There is nobody left to tell when stderr is gone, and a machine without syslog still has stderr.
    // In one write, since the supervisor writes there too.
    let _ = std::io::stderr().write_all(format!("usshca-signer: {line}\n").as_bytes());
    if !cfg!(test) {
        let _ = syslog::authpriv("usshca-signer", severity, line);
    }
}
