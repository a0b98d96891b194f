//! The guarded agent towards hosts, as a process in front of a real ssh-agent, driven over its socket as root on a host would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod kit;
mod process;
mod requests;
mod seen;
