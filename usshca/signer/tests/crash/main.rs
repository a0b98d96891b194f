//! What is left of the CA when it is killed, when the power fails, and when the disk is full: the real signer process with four fronts that ask at once.
//!
//! `USSH_SOAK=1` tries ten times as many points.
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod full_disk;
mod killed;
mod kit;
mod power_cut;
mod trace;

/// How many points of an issue are tried.
fn points() -> usize {
    if std::env::var_os("USSH_SOAK").is_some_and(|soak| soak == "1") { 200 } else { 20 }
}
