//! Scratch hosts on one machine, out of namespaces: real sshd, ssh, ssh-agent, sudo, su and PAM, with no container engine.
//!
//! ```no_run
//! # fn main() -> ussh_lab::Result<()> {
//! use std::time::Duration;
//! let lab = ussh_lab::Lab::new("doc").laptop("laptop").host("web1").user("alice", "secret", &["admins"]).start()?;
//! let web1 = lab.host("web1");
//! web1.start_sshd("UsePAM yes\n")?;
//! let ssh = lab.host("laptop").pty_as("alice", ["ssh", "-o", "StrictHostKeyChecking=no", "web1", "id", "-un"])?;
//! ssh.expect("assword:", Duration::from_secs(10))?;
//! ssh.send("secret\n")?;
//! ssh.expect("alice", Duration::from_secs(10))?;
//! assert!(ssh.expect_exit(Duration::from_secs(10))?.success());
//! # Ok(()) }
//! ```
//!
//! A host has its own files (an overlay over the machine's root, or over another one, written to memory), network
//! address, processes, users, host name, terminals, cgroups and syslog. It needs root, and cannot be seen from outside:
//! the hosts' network is joined to no other, no mount leaves its namespace, and nothing is written to the machine's disk.
//! When the process that made a lab ends, in whatever way, all of it goes.
//!
//! The processes of a lab are the program `ussh-lab`, which is looked for beside the test (`cargo build -p ussh-lab`
//! puts it there), or at `USSH_LAB_BIN`. A lab in a test prints its hosts' logs if the test fails; a lab that many tests
//! share lives in a `LazyLock`, and each test holds a [`Lab::watch`].
//!
//! It is no prison: root in a host is kept from accidents with the machine (no device, no clock, no kernel setting),
//! not from malice.

#![forbid(unsafe_code)]

mod accounts;
mod attach;
mod builder;
mod command;
mod error;
mod files;
mod host;
mod journal;
mod lab;
mod process;
mod pty;
mod seed;
mod sshd;
#[doc(hidden)]
pub mod stage;
mod trixie;
mod wait;
mod wire;

pub use builder::{HostPlan, LabBuilder};
pub use command::{Command, Output, PATIENCE};
pub use error::{LabError, Result};
pub use host::Host;
pub use lab::{Lab, Watch};
pub use nix::sys::signal::Signal;
pub use process::Process;
pub use pty::Pty;
pub use sshd::SSHD_CONFIG;
pub use trixie::{make_trixie_root, trixie_root};
pub use wait::{rounds, wait_for, wait_until};
pub use wire::{Bind, MARK, Status};
