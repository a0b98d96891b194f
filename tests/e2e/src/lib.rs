//! USSH installed on scratch hosts: a laptop, a CA and servers, set up the way the README says.
//!
//! The demo, the end-to-end tests and the benchmarks stand on it. Process: theirs, as root; all that it sets up lives in a lab.
#![forbid(unsafe_code)]

mod agent;
mod build;
mod certificate;
mod forge;
mod inventory;
mod leftover;
mod records;
mod relay;
mod stand_in;
mod unattended;
mod unit;
mod watcher;
mod world;

pub use agent::{PersonAgent, Shell, WAY_IN};
pub use build::build_folder;
pub use certificate::{Shown, shown_certificates};
pub use forge::{Forged, Forgery};
pub use inventory::Row;
pub use leftover::Leftover;
pub use records::SPOOL;
pub use relay::{Connection, Relay, RelayPlan, SocketType};
pub use unit::{capabilities_of_hostd, confined};
pub use ussh_lab as lab;
pub use watcher::Watcher;
pub use world::{AGENT, CA_DIR, FEED, POLICY, SSHD_WITH_CERTIFICATES, World, WorldPlan};
