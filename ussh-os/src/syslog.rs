//! Syslog without leaving anything behind in a host process: no openlog(), one datagram to /dev/log per line, no descriptor kept.
//!
//! The line carries no time stamp. journald, rsyslog, syslog-ng and busybox take it as optional and put the time of arrival, which is the same moment; ours would have to
//! be local time, and finding that (TZ, its file) would let the caller of a setuid program have a say in it.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, socket};

/// Syslog severities in use (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 3
    Error,
    /// 4
    Warning,
    /// 5
    Notice,
    /// 6
    Info,
    /// 7
    Debug,
}

impl Severity {
    fn number(self) -> u8 {
        match self {
            Severity::Error => 3,
            Severity::Warning => 4,
            Severity::Notice => 5,
            Severity::Info => 6,
            Severity::Debug => 7,
        }
    }
}

/// Facilities (RFC 5424 §6.2.1).
const DAEMON: u8 = 3;
const AUTHPRIV: u8 = 10;

const SOCKET: &str = "/dev/log";

/// One line to the authpriv facility as `ident[pid]: text`. `text` must already be escaped. A syslog that does not answer is not waited for; false: not delivered.
pub fn authpriv(ident: &str, severity: Severity, text: &str) -> bool {
    send(Path::new(SOCKET), &datagram(AUTHPRIV, ident, severity, text))
}

/// The same for the daemon facility.
pub fn daemon(ident: &str, severity: Severity, text: &str) -> bool {
    send(Path::new(SOCKET), &datagram(DAEMON, ident, severity, text))
}

fn datagram(facility: u8, ident: &str, severity: Severity, text: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(64 + text.len());
    let priority = facility * 8 + severity.number();
    // Writing to a vector cannot fail.
    let _ = write!(line, "<{priority}>{ident}[{}]: {text}", std::process::id());
    line
}

/// Not connected and not blocking: nothing to wait for, and no SIGPIPE to fear.
fn send(path: &Path, line: &[u8]) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (Ok(fd), Ok(address)) = (socket(AddressFamily::Unix, SockType::Datagram, flags, None), UnixAddr::new(path))
    else {
        return false;
    };
    sendto(fd.as_raw_fd(), line, &address, MsgFlags::MSG_NOSIGNAL) == Ok(line.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_line_says_facility_severity_ident_and_pid() {
        let pid = std::process::id();
        assert_eq!(
            datagram(AUTHPRIV, "pam_ussh", Severity::Notice, "Accepted"),
            format!("<85>pam_ussh[{pid}]: Accepted").into_bytes()
        );
        assert_eq!(
            datagram(DAEMON, "ussh-hostd", Severity::Debug, "x"),
            format!("<31>ussh-hostd[{pid}]: x").into_bytes()
        );
    }

    #[test]
    fn a_line_is_delivered_or_reported_lost_and_never_waited_for() {
        let path = std::env::temp_dir().join(format!("ussh-os-syslog-{}", std::process::id()));
        assert!(!send(&path, b"nobody there"));
        let log = UnixDatagram::bind(&path).unwrap();
        assert!(send(&path, b"hello"));
        let mut buffer = [0u8; 64];
        let length = log.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello");
        // A syslog that is stuck: its queue fills up, then lines are reported lost.
        assert!((0..100_000).any(|_| !send(&path, b"again")));
        std::fs::remove_file(&path).unwrap();
        drop(log);
        assert!(!send(&path, b"gone"));
    }
}
