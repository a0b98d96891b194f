//! One line per decision to syslog (authpriv), and to stderr where that is not the same place; sentences for people on terminals.

use std::io::Write;
use std::time::Duration;

use ussh_core::audit;
use ussh_core::certificate::Certificate;
pub use ussh_os::syslog::Severity;

/// Where the daemon's lines go.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    stderr: bool,
}

impl Report {
    /// Under systemd stderr and syslog end up in one journal: one of them is enough there.
    pub fn new() -> Self {
        Report { stderr: std::env::var_os("JOURNAL_STREAM").is_none() }
    }

    /// To syslog only: the command prints what it has to say itself.
    pub fn quiet() -> Self {
        Report { stderr: false }
    }

    /// A line on a certificate: `what` certificate ID … `detail`.
    pub fn certificate(&self, severity: Severity, what: &str, certificate: &Certificate, detail: &str) {
        self.put(severity, &audit::certificate_line(what, certificate, detail));
    }

    /// Any other line; escaped here.
    pub fn line(&self, severity: Severity, text: &str) {
        self.put(severity, &audit::line(text));
    }

    fn put(&self, severity: Severity, line: &str) {
        ussh_os::syslog::authpriv("ussh-hostd", severity, line);
        if self.stderr {
            // A closed stderr is nobody's loss: syslog has the line.
            let _ = std::io::stderr().write_all(format!("ussh-hostd: {line}\n").as_bytes());
        }
    }
}

/// A span as people say it, to two units: `2 h 5 min`, `1 min 3 s`, `0 s`.
pub fn span(time: Duration) -> String {
    // Half seconds are rounded up: a wake-up comes some microseconds late.
    let s = time.saturating_add(Duration::from_millis(500)).as_secs();
    let parts = [(s / 86400, "d"), (s / 3600 % 24, "h"), (s / 60 % 60, "min"), (s % 60, "s")];
    let told: Vec<String> = parts
        .iter()
        .skip_while(|(n, _)| *n == 0)
        .take(2)
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n} {unit}"))
        .collect();
    if told.is_empty() { "0 s".into() } else { told.join(" ") }
}

/// A message for a terminal whose cursor may stand anywhere, perhaps in raw mode.
pub fn on_terminal(text: &str) -> String {
    format!("\r\n\x07ussh: {text}\r\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn spans_read_well() {
        for (s, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (63, "1 min 3 s"),
            (3600, "1 h"),
            (7500, "2 h 5 min"),
            (3605, "1 h"),
            (90000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_secs(s)), text);
        }
        assert_eq!(span(Duration::from_millis(59_999)), "1 min");
    }
}
