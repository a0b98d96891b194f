//! Fuzz targets: each reads bytes as a hostile user, agent or file would give them, and panics if something does not hold that must.
//!
//! `make fuzz` runs them under libFuzzer (`libfuzzer/`); `make test` replays the corpus. The corpus comes from `generate.sh`, and from what the fuzzer found.
#![forbid(unsafe_code)]
// A target's way to say that something does not hold is to panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod admin;
mod agent;
mod ca;
mod certificate;
mod feed;
mod files;
mod fixtures;
mod front_socket;
mod guard;
mod hosts;
mod module;
mod proofs;

/// A target: its name, which is its folder in the corpus too, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 22] = [
    ("certificate", certificate::certificate),
    ("signature", certificate::signature),
    ("ca_file", files::ca_file),
    ("principals", files::principals),
    ("revoked", files::revoked),
    ("agent", agent::messages),
    ("decision", agent::decision),
    ("options", module::options),
    ("auth_info", module::auth_info),
    ("command", ca::command),
    ("ipc", ca::ipc),
    ("worker", ca::worker),
    ("relay", ca::relay),
    ("pam_words", ca::pam_words),
    ("hosts", hosts::hosts),
    ("feed", feed::feed),
    ("policy", admin::policy),
    ("admin_command", admin::admin_command),
    ("login_proof", proofs::login_proof),
    ("front_socket", front_socket::front_socket),
    ("guard_ca", guard::guard_ca),
    ("guard_host", guard::guard_host),
];

/// Runs a target by its name.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(data);
}
