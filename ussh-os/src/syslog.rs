//! Syslog without leaving anything behind in a host process: no openlog(), one datagram per line, no descriptor kept.
//!
//! A line with fields goes to journald where that listens (its native protocol: systemd's docs/JOURNAL_NATIVE_PROTOCOL.md), and to /dev/log where it does not; never to both, since
//! journald reads both.
//!
//! The line carries no time stamp. journald, rsyslog, syslog-ng and busybox take it as optional and put the time of arrival, which is the same moment; ours would have to
//! be local time, and finding that (TZ, its file) would let the caller of a setuid program have a say in it.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// Syslog severities in use (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 1
    Alert,
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
            Severity::Alert => 1,
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
const JOURNAL: &str = "/run/systemd/journal/socket";

/// One line to the authpriv facility as `ident[pid]: text`. `text` must already be escaped. A syslog that does not answer is not waited for; false: not delivered.
pub fn authpriv(ident: &str, severity: Severity, text: &str) -> bool {
    send(Path::new(SOCKET), &datagram(AUTHPRIV, ident, severity, text))
}

/// Longest wait for room in a log's queue, each. Whoever fills the queue to hide what comes next has to hold it full for that long against a syslog that empties it.
const ROOM: Duration = Duration::from_millis(250);

/// One line to the authpriv facility, with fields (names of journald's kind: A to Z, 0 to 9 and _, no _ in front) for whoever keeps them. `text` and values must already be escaped.
/// A log whose queue is full is waited for, a quarter of a second at most: for processes that decide once, not for a daemon's loop. false: not delivered.
pub fn authpriv_with_fields(ident: &str, severity: Severity, text: &str, fields: &[(&str, &str)]) -> bool {
    deliver(Path::new(JOURNAL), Path::new(SOCKET), ident, severity, text, fields)
}

/// The same without a wait, for a daemon's loop.
pub fn authpriv_with_fields_at_once(ident: &str, severity: Severity, text: &str, fields: &[(&str, &str)]) -> bool {
    KeptSocket::open().is_some_and(|socket| {
        socket.send(Path::new(JOURNAL), &entry(AUTHPRIV, ident, severity, text, fields))
            || socket.send(Path::new(SOCKET), &datagram(AUTHPRIV, ident, severity, text))
    })
}

/// Whether a journal listens at all, at its native protocol's socket, which is named.
pub fn journal() -> (bool, &'static str) {
    (std::os::unix::net::UnixDatagram::unbound().is_ok_and(|socket| socket.connect(JOURNAL).is_ok()), JOURNAL)
}

/// A way to the log. Not connected: a log that was started anew is found again. A daemon keeps one for all its lines, which costs a third of the calls, if it closes no descriptor which
/// it does not know.
#[derive(Debug)]
pub struct KeptSocket(OwnedFd);

impl KeptSocket {
    /// `None`: there are no descriptors left.
    pub fn open() -> Option<Self> {
        socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok().map(KeptSocket)
    }

    /// As [`authpriv`].
    pub fn authpriv(&self, ident: &str, severity: Severity, text: &str) -> bool {
        self.send(Path::new(SOCKET), &datagram(AUTHPRIV, ident, severity, text))
    }

    /// Not blocking: nothing to wait for.
    fn send(&self, path: &Path, line: &[u8]) -> bool {
        self.send_within(Duration::ZERO, path, line)
    }

    /// Not connected: no SIGPIPE to fear. A signal may end the wait early; the line then gets what chance is left in one more try without any.
    fn send_within(&self, wait: Duration, path: &Path, line: &[u8]) -> bool {
        let Ok(address) = UnixAddr::new(path) else { return false };
        let once = |flags| sendto(self.0.as_raw_fd(), line, &address, MsgFlags::MSG_NOSIGNAL | flags);
        match once(MsgFlags::MSG_DONTWAIT) {
            Ok(sent) if sent == line.len() => return true,
            // Nobody is there: nothing to wait for.
            Err(Errno::ENOENT | Errno::ECONNREFUSED) => return false,
            Ok(_) | Err(_) => {}
        }
        // unix(7): a queue that is full blocks the sender, SO_SNDTIMEO at most. Without that limit there is no waiting at all. Whatever else went wrong goes wrong again at once.
        let limit = TimeVal::microseconds(i64::try_from(wait.as_micros()).unwrap_or(0));
        !wait.is_zero()
            && setsockopt(&self.0, sockopt::SendTimeout, &limit).is_ok()
            && (once(MsgFlags::empty()) == Ok(line.len()) || once(MsgFlags::MSG_DONTWAIT) == Ok(line.len()))
    }
}

/// The same as [`authpriv`] for the daemon facility.
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

fn deliver(journal: &Path, log: &Path, ident: &str, severity: Severity, text: &str, fields: &[(&str, &str)]) -> bool {
    KeptSocket::open().is_some_and(|socket| {
        socket.send_within(ROOM, journal, &entry(AUTHPRIV, ident, severity, text, fields))
            || socket.send_within(ROOM, log, &datagram(AUTHPRIV, ident, severity, text))
    })
}

/// An entry of the journal's native protocol. A value with a line feed in it is written with its length in front, so that no value makes fields of its own.
fn entry(facility: u8, ident: &str, severity: Severity, text: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let (priority, facility) = (severity.number().to_string(), facility.to_string());
    let pid = std::process::id().to_string();
    let own = [
        ("MESSAGE", text),
        ("PRIORITY", priority.as_str()),
        ("SYSLOG_FACILITY", facility.as_str()),
        ("SYSLOG_IDENTIFIER", ident),
        ("SYSLOG_PID", pid.as_str()),
    ];
    let mut entry = Vec::with_capacity(256 + 2 * text.len());
    for (name, value) in own.iter().chain(fields) {
        entry.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            entry.push(b'=');
        }
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    }
    entry
}

/// Not blocking: nothing to wait for.
fn send(path: &Path, line: &[u8]) -> bool {
    KeptSocket::open().is_some_and(|socket| socket.send(path, line))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::time::Instant;

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

    #[test]
    fn a_kept_socket_finds_a_log_that_was_started_anew() {
        let path = at("kept");
        let kept = KeptSocket::open().unwrap();
        for line in [b"one", b"two"] {
            assert!(!kept.send(&path, line), "nobody is there");
            let log = UnixDatagram::bind(&path).unwrap();
            assert!(kept.send(&path, line));
            let mut buffer = [0u8; 64];
            let length = log.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], line);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_full_queue_is_waited_for_as_long_as_it_may_last_and_no_longer() {
        let path = at("full");
        let log = UnixDatagram::bind(&path).unwrap();
        while send(&path, b"flood") {}
        let begun = Instant::now();
        let socket = KeptSocket::open().unwrap();
        assert!(!socket.send_within(Duration::from_millis(50), &path, b"Accepted"), "nobody reads");
        assert!(begun.elapsed() >= Duration::from_millis(50), "{:?}", begun.elapsed());

        // A syslog that reads a line once somebody waits for room.
        let reader = std::thread::spawn({
            let log = log.try_clone().unwrap();
            move || {
                let mut lines = Vec::new();
                let mut buffer = [0u8; 64];
                log.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                while lines.last().is_none_or(|line| line != b"Accepted") {
                    let length = log.recv(&mut buffer).unwrap();
                    lines.push(buffer[..length].to_vec());
                }
            }
        });
        assert!(socket.send_within(Duration::from_secs(5), &path, b"Accepted"));
        reader.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }

    fn at(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("ussh-os-syslog-{name}-{}", std::process::id()))
    }

    fn received(socket: &UnixDatagram) -> Option<String> {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0u8; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[test]
    fn the_journal_gets_an_entry_with_fields_and_syslog_nothing() {
        let (journal_path, log_path) = (at("journal"), at("log"));
        let (journal, log) = (UnixDatagram::bind(&journal_path).unwrap(), UnixDatagram::bind(&log_path).unwrap());
        let write =
            || deliver(&journal_path, &log_path, "pam_ussh", Severity::Notice, "Refusing", &[("USSH_USER", "alice")]);
        assert!(write());
        let pid = std::process::id();
        assert_eq!(
            received(&journal).unwrap(),
            format!(
                "MESSAGE=Refusing\nPRIORITY=5\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER=pam_ussh\nSYSLOG_PID={pid}\nUSSH_USER=alice\n"
            )
        );
        assert_eq!(received(&log), None);

        // Nobody listens there any more: syslog gets the line.
        drop(journal);
        assert!(write());
        assert_eq!(received(&log).unwrap(), format!("<85>pam_ussh[{pid}]: Refusing"));
        std::fs::remove_file(&journal_path).unwrap();
        assert!(write());
        assert!(received(&log).is_some());
        drop(log);
        assert!(!write(), "lost, and said so");
        std::fs::remove_file(&log_path).unwrap();
    }

    #[test]
    fn no_value_makes_fields_of_its_own() {
        let entry = entry(AUTHPRIV, "x", Severity::Info, "a\nPRIORITY=0", &[("USSH_USER", "b\n_UID=0")]);
        let pid = format!("SYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER=x\nSYSLOG_PID={}\n", std::process::id());
        let expected = [
            &b"MESSAGE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\nPRIORITY=6\n"[..],
            pid.as_bytes(),
            b"USSH_USER\n\x08\0\0\0\0\0\0\0b\n_UID=0\n",
        ];
        assert_eq!(entry, expected.concat());
    }
}
