//! The signer's log: one line per decision, to stderr (the supervisor's) and to syslog's authpriv.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use ussh_os::syslog::{self, Severity};

/// Whether stderr is the terminal of somebody who asks for one thing, and no log.
static OF_ONE_VERB: AtomicBool = AtomicBool::new(false);

/// From here on what was done goes to syslog alone: whoever asked for it has the answer. Warnings still reach stderr.
pub fn of_one_verb() {
    OF_ONE_VERB.store(true, Ordering::Relaxed);
}

/// Something that was done. Raw text: it is escaped here.
pub fn info(text: &str) {
    write(Severity::Info, &ussh_core::audit::line(text));
}

/// Something that an administrator should look at. Raw text.
pub fn warning(text: &str) {
    write(Severity::Warning, &ussh_core::audit::line(text));
}

/// A warning that the supervisor gives on stderr itself. Raw text.
pub fn told(text: &str) {
    to_syslog(Severity::Warning, &ussh_core::audit::line(text));
}

/// A line of [`ussh_core::audit::certificate_line`], which is escaped already.
pub fn decision(line: &str) {
    write(Severity::Info, line);
}

fn write(severity: Severity, line: &str) {
    if severity != Severity::Info || !OF_ONE_VERB.load(Ordering::Relaxed) {
        // There is nobody left to tell when stderr is gone. In one write, since the supervisor writes there too.
        let _ = std::io::stderr().write_all(format!("usshca-signer: {line}\n").as_bytes());
    }
    to_syslog(severity, line);
}

fn to_syslog(severity: Severity, line: &str) {
    if !cfg!(test) {
        // A machine without syslog still has stderr.
        let _ = syslog::authpriv("usshca-signer", severity, line);
    }
}
