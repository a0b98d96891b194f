//! Saying "ready": a newline on a descriptor, and systemd's datagram.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells whoever waits. One who waits no longer is nobody's concern.
pub fn ready(descriptor: Option<OwnedFd>) {
    if let Some(descriptor) = descriptor {
        let _ = File::from(descriptor).write_all(b"\n");
    }
    if let Some(name) = std::env::var_os("NOTIFY_SOCKET") {
        let _ = notify(name.as_bytes());
    }
}

/// sd_notify(3): a path, or `@` and a name in the abstract namespace.
fn notify(name: &[u8]) -> std::io::Result<()> {
    let address = match name.split_first() {
        Some((b'@', rest)) => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}
