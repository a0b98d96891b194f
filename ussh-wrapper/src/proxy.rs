//! `ussh --proxy HOST PORT`: ssh's ProxyCommand. It connects, and is out of the way.
//!
//! With `ProxyUseFdpass yes` standard output is a Unix socket: the connected descriptor goes back over it, as ssh wants it (sshconnect.c `ssh_proxy_fdpass_connect`: one byte, and SCM_RIGHTS with it), and this process ends.
//! Without, standard input and output are pipes, and bytes are carried between them and the connection until that ends.
//! Untrusted: the host's name, which may come from a URL in somebody's repository, and all that the host sends.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::thread;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockaddrLike, UnixAddr, getsockname, sendmsg, setsockopt, sockopt,
};

/// Longest name, in bytes: netdb.h's NI_MAXHOST.
const MAX_HOST: usize = 1024;

/// What is carried at a time, bytes: as much as a pipe holds.
const PIECE: usize = 64 * 1024;

/// Where ssh wants to get to: `%h` and `%p`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
}

/// Why there is no connection to hand over.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Not a name.
    #[error("{0:?} is no host")]
    Host(OsString),
    /// Not a port.
    #[error("{0:?} is no port: 1 to 65535")]
    Port(OsString),
    /// The name is not known.
    #[error("{host}: {source}")]
    Unknown {
        /// The host.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// None of its addresses takes a connection.
    #[error("connect to {host} port {port}: {source}")]
    NotConnected {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Of the last address.
        source: io::Error,
    },
    /// `ssh` does not take it.
    #[error("the connection cannot be handed over: {0}")]
    NotHandedOver(io::Error),
}

impl Target {
    /// From what ssh puts for `%h` and `%p`.
    /// # Errors
    /// [`ProxyError::Host`], [`ProxyError::Port`]
    pub fn parse(host: &OsStr, port: &OsStr) -> Result<Self, ProxyError> {
        let plain = |host: &&str| {
            // What the resolver gets; nothing here passes a shell any more.
            !host.is_empty()
                && host.len() <= MAX_HOST
                && !host.starts_with('-')
                && host.chars().all(|c| c.is_ascii_graphic())
        };
        let digits = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
        let host_text = host.to_str().filter(plain).ok_or_else(|| ProxyError::Host(host.to_owned()))?;
        let port = port
            .to_str()
            .filter(digits)
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| ProxyError::Port(port.to_owned()))?;
        Ok(Target { host: host_text.to_owned(), port })
    }
    /// The host, as ssh has it.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// Tries its addresses one after the other, as ssh does, each for as long as the kernel does.
    /// # Errors
    /// [`ProxyError::Unknown`], [`ProxyError::NotConnected`]
    pub fn connect(&self) -> Result<TcpStream, ProxyError> {
        let addresses = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|source| ProxyError::Unknown { host: self.host.clone(), source })?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match TcpStream::connect(address) {
                Ok(stream) => {
                    // ssh sets it on connections of its own making only (TCPKeepAlive, by default on).
                    let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(ProxyError::NotConnected { host: self.host.clone(), port: self.port, source: last })
    }
}

/// Gives it to the `ssh` at standard output; returns when that has it, or when the connection is over.
/// # Errors
/// [`ProxyError::NotHandedOver`]
pub fn hand_over(stream: TcpStream) -> Result<(), ProxyError> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let done = if is_unix_socket(stdout.as_fd()) {
        pass(stdout.as_fd(), &stream)
    } else {
        relay(stdin.as_fd(), stdout.as_fd(), stream)
    };
    done.map_err(ProxyError::NotHandedOver)
}

fn is_unix_socket(fd: BorrowedFd<'_>) -> bool {
    getsockname::<UnixAddr>(fd.as_raw_fd()).is_ok_and(|address| address.family() == Some(AddressFamily::Unix))
}

fn pass(to: BorrowedFd<'_>, stream: &TcpStream) -> io::Result<()> {
    let descriptors = [stream.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(&[0])], &message, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Over when the host has closed, or nobody takes what it sends.
fn relay(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stream: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (File::from(from.try_clone_to_owned()?), File::from(to.try_clone_to_owned()?));
    let mut outgoing = stream.try_clone()?;
    // Not waited for: it may stand in a read when all is over.
    thread::spawn(move || {
        let _ = carry(&mut from, &mut outgoing);
        let _ = outgoing.shutdown(Shutdown::Write);
    });
    let mut incoming = stream;
    match carry(&mut incoming, &mut to) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Err(error),
        _ => Ok(()),
    }
}

/// By reading and writing. `io::copy` has the kernel splice(2), which keeps the pipe locked while it waits for the host, so that ssh stands in a read of it, sends nothing, and the host waits for that.
fn carry(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..count).unwrap_or_default())?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn only_what_can_be_a_host_and_a_port_is_taken() {
        for host in ["web1", "10.0.0.1", "2001:db8::1", "fe80::1%eth0", "WEB_1.example.com."] {
            assert_eq!(Target::parse(OsStr::new(host), OsStr::new("22")).unwrap().host(), host);
        }
        let long = "a".repeat(MAX_HOST + 1);
        for host in [&b""[..], b"-oX=y", b"a b", b"a\nb", b"a\0b", b"\xff", "h\u{f6}st".as_bytes(), long.as_bytes()] {
            let refused = Target::parse(OsStr::from_bytes(host), OsStr::new("22"));
            assert!(matches!(refused, Err(ProxyError::Host(_))), "{host:?}");
        }
        for port in ["", "0", "65536", "-1", "+22", "22 ", "ssh"] {
            assert!(matches!(Target::parse(OsStr::new("h"), OsStr::new(port)), Err(ProxyError::Port(_))), "{port:?}");
        }
    }
}
