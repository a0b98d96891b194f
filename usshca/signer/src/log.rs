//! The signer's log: one line per decision, to stderr (the supervisor's) and to syslog's authpriv.
//!
//! The lines about what one transaction brought to disk go to stderr together ([`hold`]): before anything else is done, and so before anybody hears of it.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ussh_core::certificate::Certificate;
use ussh_core::escape::{MAX_FIELD, escape_word};
use ussh_os::syslog::{KeptSocket, Severity};
use usshca_ipc::log::{Format, LOG_FORMAT};

/// Whose lines they are.
const IDENT: &str = "usshca-signer";

/// Whether stderr is the terminal of somebody who asks for one thing, and no log.
static OF_ONE_VERB: AtomicBool = AtomicBool::new(false);

/// From here on what was done goes to syslog alone: whoever asked for it has the answer. Warnings still reach stderr.
pub fn of_one_verb() {
    OF_ONE_VERB.store(true, Ordering::Relaxed);
}

/// As much is written to a pipe in one piece (PIPE_BUF, pipe(7)): others write there too.
const AT_ONCE: usize = 4096;

/// What waits for stderr. `None`: nothing is held.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// While it lives, lines wait for stderr; when it goes, also by a panic, they are written.
#[must_use]
pub struct Hold(());

/// Begins to hold lines.
pub fn hold() -> Hold {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    Hold(())
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(mut held) = HELD.lock().unwrap_or_else(PoisonError::into_inner).take() {
            put(&mut held);
        }
    }
}

/// There is nobody left to tell when stderr is gone.
fn put(held: &mut Vec<u8>) {
    if !held.is_empty() {
        let _ = std::io::stderr().write_all(held);
        held.clear();
    }
}

fn to_stderr(text: &str) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(held) = held.as_mut() else {
        let _ = std::io::stderr().write_all(text.as_bytes());
        return;
    };
    if held.len().saturating_add(text.len()) > AT_ONCE {
        put(held);
    }
    held.extend_from_slice(text.as_bytes());
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

/// A line of [`ussh_core::audit::certificate_line`], which is escaped already, about which certificate, and what else is known of it: raw text.
pub fn decision(line: &str, event: &str, certificate: &Certificate, more: &[(&str, &str)]) {
    let (serial, key_id) = (certificate.serial().to_string(), ussh_core::audit::key_id(certificate));
    let ca = certificate.ca().fingerprint();
    let more: Vec<(&str, String)> = more.iter().map(|(name, value)| (*name, ussh_core::audit::line(value))).collect();
    let mut fields = vec![("event", event), ("serial", &serial), ("key_id", &key_id), ("ca", &ca)];
    fields.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
    write_with(Severity::Info, line, &fields);
}

/// Something that was done, or went wrong, with fields: raw text, all of it.
pub fn event(severity: Severity, text: &str, fields: &[(&str, &str)]) {
    let fields: Vec<(&str, String)> =
        fields.iter().map(|(name, value)| (*name, ussh_core::audit::line(value))).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    write_with(severity, &ussh_core::audit::line(text), &fields);
}

/// A login that was refused without PAM's doing. Raw text.
pub fn refused_login(connection: u64, user: &str, source: &str, tried: &str, key: &str, reason: &str) {
    let line = refused_login_line(connection, user, source, tried, key, reason);
    let connection = connection.to_string();
    let fields = [
        ("event", "login_refused"),
        ("connection", &*connection),
        ("user", user),
        ("source", source),
        ("tried", tried),
        ("key", key),
        ("reason", reason),
    ];
    let fields = fields.map(|(field, value)| (field, ussh_core::audit::line(value)));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(field, value)| (*field, value.as_str())).collect();
    write_with(Severity::Warning, &line, &fields);
}

/// Somebody was let in, and no certificate came of it. Raw text.
pub fn no_certificate(connection: u64, user: &str, source: &str, authenticated: &str, reason: &str) {
    let name = escape_word(user.as_bytes(), MAX_FIELD);
    let behind = ussh_core::audit::line(&format!(" from {source} by {authenticated}: {reason}"));
    let line = format!("connection {connection}: No certificate for {name}{behind}");
    let connection = connection.to_string();
    let fields = [
        ("event", "no_certificate"),
        ("connection", &*connection),
        ("user", user),
        ("source", source),
        ("authenticated", authenticated),
        ("reason", reason),
    ];
    let fields = fields.map(|(field, value)| (field, ussh_core::audit::line(value)));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(field, value)| (*field, value.as_str())).collect();
    write_with(Severity::Info, &line, &fields);
}

/// The name is one word, so that it tells no story of its own.
fn refused_login_line(connection: u64, user: &str, source: &str, tried: &str, key: &str, reason: &str) -> String {
    let by = if key.is_empty() { String::new() } else { format!(" {key}") };
    let name = escape_word(user.as_bytes(), MAX_FIELD);
    let behind = ussh_core::audit::line(&format!(" from {source} by {tried}{by}: {reason}"));
    format!("connection {connection}: Refusing a login of {name}{behind}")
}

/// A request that was refused, and whose: what is known of it besides comes behind. Raw text: it is escaped here.
pub fn refusal(text: &str, key_id: &str, source: &str, why: &str, more: &[(&str, &str)]) {
    let fields = [("event", "refused"), ("key_id", key_id), ("source", source), ("reason", why)];
    event(Severity::Warning, text, &[&fields, more].concat());
}

fn write(severity: Severity, line: &str) {
    write_with(severity, line, &[]);
}

/// With fields; line and values are escaped already.
fn write_with(severity: Severity, line: &str, fields: &[(&str, &str)]) {
    if cfg!(test) {
        return;
    }
    let is_to_be_read = severity != Severity::Info || !OF_ONE_VERB.load(Ordering::Relaxed);
    if is_to_be_read && let Some(text) = format().on_stderr(IDENT, severity, line, fields) {
        to_stderr(&text);
    }
    static KEPT: OnceLock<Option<KeptSocket>> = OnceLock::new();
    let is_taken = match KEPT.get_or_init(KeptSocket::open) {
        Some(kept) => format().to_syslog_by(kept, IDENT, severity, line, fields),
        None => format().to_syslog(IDENT, severity, line, fields),
    };
    if is_to_be_read && !is_taken && format() == Format::Journald {
        to_stderr(&format!("{IDENT}: {line}\n"));
    }
}

/// As the supervisor says.
fn format() -> Format {
    static FORMAT: OnceLock<Format> = OnceLock::new();
    *FORMAT.get_or_init(|| std::env::var(LOG_FORMAT).ok().and_then(|name| Format::of(&name)).unwrap_or_default())
}

fn to_syslog(severity: Severity, line: &str) {
    if !cfg!(test) {
        let _ = format().to_syslog(IDENT, severity, line, &[]);
    }
}

#[cfg(test)]
mod line_tests {
    use super::*;

    #[test]
    fn a_name_tells_no_story_of_its_own() {
        let line = refused_login_line(7, "root from 10.9.9.9\nby", "192.0.2.1", "publickey", "", "nothing proved");
        let name = "root\\x20from\\x2010.9.9.9\\x0aby";
        assert_eq!(
            line,
            format!("connection 7: Refusing a login of {name} from 192.0.2.1 by publickey: nothing proved")
        );
    }
}
