//! Sockets that systemd holds for us (sd_listen_fds(3)): they outlive a restart, so that nobody is refused meanwhile, and a port below 1024 needs no privilege.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt};
use ussh_os::process;

use crate::failure::Failure;
use crate::serve::desk::MetricsListener;

/// SD_LISTEN_FDS_START.
const FIRST: i32 = 3;
/// As many as [`process::inherited_descriptor`] can take.
const MOST: i32 = 32;
/// The FileDescriptorName= of the socket for metrics; any other name is the CA's own.
const METRICS: &str = "metrics";

/// The sockets.
#[derive(Debug, Default)]
pub struct Activated {
    /// For the CA; empty: it binds what its configuration says.
    pub listeners: Vec<TcpListener>,
    /// For metrics.
    pub metrics: Option<MetricsListener>,
}

/// What the environment says, if it speaks of us: how many, and their names.
fn announced(count: Option<&str>, pid: Option<&str>, names: Option<&str>, own_pid: u32) -> Result<Vec<String>, String> {
    let (Some(count), Some(pid)) = (count, pid) else {
        return Ok(Vec::new());
    };
    if pid.parse() != Ok(own_pid) {
        return Ok(Vec::new());
    }
    let count = count.parse::<i32>().ok().filter(|n| (0..=MOST).contains(n));
    let count =
        count.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| format!("LISTEN_FDS: must be 0 to {MOST}"))?;
    let mut names: Vec<String> = names.unwrap_or_default().split(':').map(str::to_owned).collect();
    names.resize(count, String::new());
    Ok(names)
}

/// Takes them. To be called before anything else opens a descriptor.
pub fn take() -> Result<Activated, Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    let (count, pid, names) = (variable("LISTEN_FDS"), variable("LISTEN_PID"), variable("LISTEN_FDNAMES"));
    let names = announced(count.as_deref(), pid.as_deref(), names.as_deref(), std::process::id());
    let mut activated = Activated::default();
    for (number, name) in (FIRST..).zip(names.map_err(Failure::usage)?) {
        let wrong =
            |e: &dyn std::fmt::Display| Failure::usage(format!("socket {number} ({name}) of the service manager: {e}"));
        let fd = process::inherited_descriptor(number).map_err(|e| wrong(&e))?;
        let is_unix = family(&fd).map_err(|e| wrong(&e))? == AddressFamily::Unix;
        match (name.as_str(), is_unix) {
            (METRICS, _) if activated.metrics.is_some() => return Err(wrong(&"there is one for metrics already")),
            (METRICS, true) => {
                let listener = UnixListener::from(fd);
                listener.set_nonblocking(true).map_err(|e| wrong(&e))?;
                activated.metrics = Some(MetricsListener::Unix(listener));
            }
            (METRICS, false) => {
                let listener = tcp(fd).map_err(|e| wrong(&e))?;
                let local = listener.local_addr().map_err(|e| wrong(&e))?;
                if !local.ip().is_loopback() {
                    return Err(wrong(&"metrics have no login of their own: a loopback address or a Unix socket"));
                }
                activated.metrics = Some(MetricsListener::Tcp(listener));
            }
            (_, true) => return Err(wrong(&"the CA serves SSH on TCP; for metrics: FileDescriptorName=metrics")),
            (_, false) => activated.listeners.push(tcp(fd).map_err(|e| wrong(&e))?),
        }
    }
    Ok(activated)
}

fn tcp(fd: OwnedFd) -> std::io::Result<TcpListener> {
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Of a listening stream socket; anything else is a mistake in the unit (Accept=yes, ListenDatagram=).
fn family(fd: &OwnedFd) -> Result<AddressFamily, String> {
    use std::os::fd::AsRawFd;
    let no_socket = |e: nix::errno::Errno| e.to_string();
    let address: SockaddrStorage = getsockname(fd.as_raw_fd()).map_err(no_socket)?;
    let is_stream = getsockopt(fd, sockopt::SockType).map_err(no_socket)? == SockType::Stream;
    if !is_stream || !getsockopt(fd, sockopt::AcceptConn).map_err(no_socket)? {
        return Err("no listening stream socket (Accept=no, ListenStream=)".to_owned());
    }
    match address.family() {
        Some(family @ (AddressFamily::Unix | AddressFamily::Inet | AddressFamily::Inet6)) => Ok(family),
        _ => Err("neither TCP nor a Unix socket".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn only_sockets_that_are_meant_for_this_process_are_taken_and_each_has_a_name_or_none() {
        let of = |count, pid, names| announced(count, pid, names, 7);
        assert_eq!(of(Some("2"), Some("7"), Some("ssh:metrics")).unwrap(), ["ssh", "metrics"]);
        assert_eq!(of(Some("2"), Some("7"), Some("ssh")).unwrap(), ["ssh", ""]);
        assert_eq!(of(Some("1"), Some("7"), None).unwrap(), [""]);
        assert!(of(Some("2"), Some("8"), None).unwrap().is_empty());
        assert!(of(Some("2"), None, None).unwrap().is_empty() && of(None, Some("7"), None).unwrap().is_empty());
        assert!(of(Some("33"), Some("7"), None).is_err() && of(Some("-1"), Some("7"), None).is_err());
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let listening = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        assert_eq!(family(&listening), Ok(AddressFamily::Inet));
        let (pair, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(family(&pair.into()).unwrap_err().contains("Accept=no"));
        assert!(family(&std::fs::File::open("/dev/null").unwrap().into()).is_err());
    }
}
