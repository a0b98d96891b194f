//! How the CA's processes write a line of the log: one form for all of them.

use std::io::Write;

use ussh_os::syslog::{self, KeptSocket, Severity};

/// Environment variable with the name of the format, from the supervisor to the signer.
pub const LOG_FORMAT: &str = "USSHCA_LOG_FORMAT";

/// Where lines go, and in what form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `usshca: line` on stderr, and the line to syslog's authpriv.
    #[default]
    Text,
    /// One JSON object a line on stderr, with the fields, and the line to syslog's authpriv.
    Json,
    /// To the journal with the fields (its native protocol; to syslog where there is none), and nothing on stderr, which would bring it there twice: unless nobody takes it.
    Journald,
}

impl Format {
    /// As the configuration names it.
    pub fn of(name: &str) -> Option<Self> {
        [Format::Text, Format::Json, Format::Journald].into_iter().find(|format| format.name() == name)
    }

    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
            Format::Journald => "journald",
        }
    }

    /// Writes one line, which must be escaped already, as must the values of the fields. Names of fields are in small letters.
    pub fn write(self, ident: &str, severity: Severity, line: &str, fields: &[(&str, &str)]) {
        // There is nobody left to tell when stderr is gone. In one write, since others write there too; eprintln! would do it in three, and panic.
        if let Some(text) = self.on_stderr(ident, severity, line, fields) {
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        if !self.to_syslog(ident, severity, line, fields) && self == Format::Journald {
            let _ = std::io::stderr().write_all(format!("{ident}: {line}\n").as_bytes());
        }
    }

    /// What [`Self::write`] puts on stderr, with its line feed, if anything.
    pub fn on_stderr(self, ident: &str, severity: Severity, line: &str, fields: &[(&str, &str)]) -> Option<String> {
        match self {
            Format::Text => Some(format!("{ident}: {line}\n")),
            Format::Json => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Some(json(now.as_millis(), ident, severity, line, fields))
            }
            Format::Journald => None,
        }
    }

    /// [`Self::to_syslog`] by a socket that is kept.
    pub fn to_syslog_by(
        self,
        kept: &KeptSocket,
        ident: &str,
        severity: Severity,
        line: &str,
        fields: &[(&str, &str)],
    ) -> bool {
        match self {
            Format::Text | Format::Json => kept.authpriv(ident, severity, line),
            Format::Journald => self.to_syslog(ident, severity, line, fields),
        }
    }

    /// The same without stderr. False: nobody took it.
    pub fn to_syslog(self, ident: &str, severity: Severity, line: &str, fields: &[(&str, &str)]) -> bool {
        match self {
            Format::Text | Format::Json => syslog::authpriv(ident, severity, line),
            Format::Journald => {
                let named: Vec<(String, &str)> = fields
                    .iter()
                    .map(|(name, value)| (format!("USSHCA_{}", name.to_ascii_uppercase()), *value))
                    .collect();
                let named: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                syslog::authpriv_with_fields_at_once(ident, severity, line, &named)
            }
        }
    }
}

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Alert => "alert",
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
        Severity::Info => "info",
        Severity::Debug => "debug",
    }
}

/// `{"time_ms":1700000000000,"severity":"info","process":"usshca","message":"…","connection":"7"}` and a line feed.
fn json(time_ms: u128, ident: &str, severity: Severity, line: &str, fields: &[(&str, &str)]) -> String {
    let severity = severity_name(severity);
    let mut out = format!("{{\"time_ms\":{time_ms}");
    let own = [("severity", severity), ("process", ident), ("message", line)];
    for (name, value) in own.iter().chain(fields) {
        out.push(',');
        quote(&mut out, name);
        out.push(':');
        quote(&mut out, value);
    }
    out.push_str("}\n");
    out
}

/// A JSON string (RFC 8259 §7).
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_is_one_object_whatever_stands_in_it() {
        let line =
            json(1, "usshca", Severity::Warning, "user \"a\\x0a\" {}", &[("connection", "7"), ("why", "\u{1}é")]);
        assert_eq!(
            line,
            "{\"time_ms\":1,\"severity\":\"warning\",\"process\":\"usshca\",\"message\":\"user \\\"a\\\\x0a\\\" {}\",\"connection\":\"7\",\"why\":\"\\u0001é\"}\n"
        );
    }

    #[test]
    fn formats_go_by_their_names() {
        for format in [Format::Text, Format::Json, Format::Journald] {
            assert_eq!(Format::of(format.name()), Some(format));
        }
        assert_eq!(Format::of("xml"), None);
    }
}
