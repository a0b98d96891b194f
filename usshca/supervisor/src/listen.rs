//! The addresses that the CA listens on.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use crate::failure::Failure;
use crate::prepare::Base;

/// sshd's port.
const SSH_PORT: u16 = 22;

/// Listens on all of them; the listeners do not block.
pub fn bind(base: &Base) -> Result<Vec<TcpListener>, Failure> {
    let bind = |address: &SocketAddr| -> Result<TcpListener, Failure> {
        let bound = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
        bound.map_err(|e| Failure::unavailable(explain(*address, &e, &base.layout.config)))
    };
    base.config.listen.iter().map(bind).collect()
}

/// What failed, and what to try.
fn explain(address: SocketAddr, error: &io::Error, config: &Path) -> String {
    let config = config.display();
    let kind = error.kind();
    let hint = if kind == ErrorKind::AddrInUse {
        let who = if address.port() == SSH_PORT { ", perhaps this machine's own sshd" } else { "" };
        format!(
            "; another program listens there{who} (ss -ltnp shows which). Give one of them another address or port: the CA's is `listen` in {config}"
        )
    } else if kind == ErrorKind::AddrNotAvailable {
        format!("; this machine has no such address: see `listen` in {config}")
    } else if kind == ErrorKind::PermissionDenied {
        format!("; ports below 1024 are root's: take a higher one, `listen` in {config}")
    } else {
        String::new()
    };
    format!("cannot listen on {address}: {error}{hint}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_said_with_what_to_try() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = TcpListener::bind(address).unwrap_err();
        let text = explain(address, &error, Path::new("/d/usshca.toml"));
        assert!(text.contains("another program") && text.contains("`listen` in /d/usshca.toml"), "{text}");
        assert!(!text.contains("sshd"), "{text}");
        let text = explain("[::]:22".parse().unwrap(), &error, Path::new("/d/usshca.toml"));
        assert!(
            text.starts_with("cannot listen on [::]:22: Address already in use") && text.contains("sshd"),
            "{text}"
        );
    }
}
