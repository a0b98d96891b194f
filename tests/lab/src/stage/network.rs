//! The lab's network: a bridge in the lab's namespace, a link from it to each host.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use crate::error::{Doing, LabError, Result};

/// Name of the bridge in the lab's own namespace.
const BRIDGE: &str = "lab";

/// The bridge, in this process's namespace.
pub(super) fn make_bridge() -> Result<()> {
    ip(&format!("link set lo up\nlink add {BRIDGE} type bridge\nlink set {BRIDGE} up\n"))
}

/// A link from the bridge into the namespace of process `pid`, where it is `eth0`.
///
/// The hardware address follows from the IP address: a host made anew at its old address is found at once.
pub(super) fn link_host(number: u32, address: Ipv4Addr, pid: u32) -> Result<()> {
    let [a, b, c, d] = address.octets();
    ip(&format!(
        "link add h{number} type veth peer name eth0 address 02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x} netns {pid}\n\
         link set h{number} master {BRIDGE} up\n"
    ))
}

/// Takes the link of a host away.
pub(super) fn unlink_host(number: u32) -> Result<()> {
    ip(&format!("link del h{number}\n"))
}

/// The host's end of its link, in this process's namespace.
pub(super) fn configure_host(address: Ipv4Addr) -> Result<()> {
    ip(&format!("link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n"))
}

fn ip(commands: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .doing("running ip (package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(commands.as_bytes()).doing("writing to ip")?;
    }
    let output = child.wait_with_output().doing("waiting for ip")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(LabError::setup(format!("ip -batch failed: {}\nof: {commands}", said.trim())));
    }
    Ok(())
}
