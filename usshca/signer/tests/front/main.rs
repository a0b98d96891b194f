//! A front that is not ours: what the signer believes of it, by who is behind it and by what it says. The signer is the real process; the tests hold its other ends.
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod authorisation;
mod fuzz;
mod harness;
mod taken_over;
