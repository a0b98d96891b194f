//! A host's syslog: /dev/log, into the files that Debian's rsyslog writes and into the copy that the test reads.
//!
//! Input: datagrams of any process of the host, untrusted.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Doing, Result};

const SOCKET: &str = "/dev/log";
/// What comes from auth and authpriv, and all else (Debian's rsyslog.conf).
const AUTH: &str = "/var/log/auth.log";
const OTHER: &str = "/var/log/syslog";

/// Longest message, bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// `<0>` to `<191>`: eight severities of 24 facilities (RFC 5424 §6.2.1).
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
const FACILITIES: [&str; 12] =
    ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];

pub(super) struct Syslog {
    socket: UnixDatagram,
    auth: File,
    other: File,
    copy: File,
}

impl Syslog {
    /// Opens /dev/log and the log files of the host whose root this process is in.
    pub(super) fn open(copy: OwnedFd) -> Result<Self> {
        let socket = UnixDatagram::bind(SOCKET).doing("binding /dev/log")?;
        socket.set_nonblocking(true).doing("binding /dev/log")?;
        fs::set_permissions(SOCKET, Permissions::from_mode(0o666)).doing("opening /dev/log to all")?;
        let open = |path: &str| {
            OpenOptions::new().create(true).append(true).mode(0o640).open(path).doing(format!("opening {path}"))
        };
        Ok(Syslog { socket, auth: open(AUTH)?, other: open(OTHER)?, copy: File::from(copy) })
    }

    /// Takes what has come. A log that cannot be written must not stop the host.
    pub(super) fn collect(&mut self) {
        let mut message = vec![0_u8; MAX_MESSAGE];
        while let Ok(length) = self.socket.recv(&mut message) {
            let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default());
            let entry = line(&text, SystemTime::now());
            let file = if is_auth(&text) { &mut self.auth } else { &mut self.other };
            let _ = file.write_all(entry.as_bytes());
            let _ = self.copy.write_all(entry.as_bytes());
        }
    }
}

impl AsFd for Syslog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `hh:mm:ss.mmm facility.severity sender[pid]: text`, UTC, control characters as rsyslog writes them.
fn line(message: &str, now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() % 86_400;
    let (priority, text) = split_priority(message);
    let mut entry = format!(
        "{:02}:{:02}:{:02}.{:03} {priority} ",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    );
    for character in without_timestamp(text).trim_end_matches(['\n', '\0']).chars() {
        if character.is_control() {
            entry.push_str(&format!("#{:03o}", u32::from(character)));
        } else {
            entry.push(character);
        }
    }
    entry.push('\n');
    entry
}

/// Whether it is of the facility auth or authpriv.
fn is_auth(message: &str) -> bool {
    split_priority(message).0.starts_with("auth")
}

fn split_priority(message: &str) -> (String, &str) {
    let Some((number, text)) = message.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
        return ("user.notice".to_owned(), message);
    };
    let Ok(number) = number.parse::<usize>() else {
        return ("user.notice".to_owned(), message);
    };
    let severity = SEVERITIES.get(number % 8).copied().unwrap_or("?");
    let facility = match FACILITIES.get(number / 8) {
        Some(name) => (*name).to_owned(),
        None => format!("local{}", (number / 8).saturating_sub(16)),
    };
    (format!("{facility}.{severity}"), text)
}

/// glibc's syslog() puts `Mmm dd hh:mm:ss ` before the sender: ours is finer.
fn without_timestamp(text: &str) -> &str {
    let stamped = text.as_bytes().get(..16).is_some_and(|stamp| {
        [3, 6, 15].iter().all(|at| stamp.get(*at) == Some(&b' '))
            && [9, 12].iter().all(|at| stamp.get(*at) == Some(&b':'))
    });
    if stamped { text.get(16..).unwrap_or(text) } else { text }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use std::time::Duration;

    fn at_noon(message: &str) -> String {
        line(message, UNIX_EPOCH + Duration::from_millis(43_200_007))
    }

    #[test]
    fn writes_priority_sender_and_text() {
        assert_eq!(
            at_noon("<38>Nov 21 10:00:00 sshd[12]: Accepted publickey"),
            "12:00:00.007 auth.info sshd[12]: Accepted publickey\n"
        );
        assert_eq!(at_noon("<135>sender: x\n"), "12:00:00.007 local0.debug sender: x\n");
    }

    #[test]
    fn keeps_a_forged_line_in_its_own_line() {
        assert_eq!(at_noon("<86>sudo: a\nroot: b\u{1b}"), "12:00:00.007 authpriv.info sudo: a#012root: b#033\n");
    }

    #[test]
    fn takes_a_message_that_is_no_syslog() {
        assert_eq!(at_noon("<x>odd"), "12:00:00.007 user.notice <x>odd\n");
        assert_eq!(at_noon(""), "12:00:00.007 user.notice \n");
    }
}
