//! What the built programs are made of: exported symbols, libraries and crates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::process::Command;

use ussh_e2e::build_folder;

/// What a stock tool prints; it must succeed.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn exported(library: &Path) -> Vec<String> {
    let symbols = printed(Command::new("nm").args(["-D", "--defined-only"]).arg(library));
    symbols.lines().map(|line| line.split_ascii_whitespace().last().unwrap().to_owned()).collect()
}

/// Shared libraries that the dynamic loader would bring in for a program.
fn needed(program: &str) -> Vec<String> {
    let dynamic = printed(Command::new("readelf").arg("-dW").arg(build_folder().join(program)));
    let libraries = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    libraries.map(|line| line.split(['[', ']']).nth(1).unwrap().to_owned()).collect()
}

/// The crates that a package is built of, by name.
fn crates(package: &str) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = "tree --offline --locked -e normal --prefix none -p".split(' ').chain([package]);
    let tree = printed(Command::new(cargo).current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments));
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn pam_ussh_exports_the_hooks_of_pam_and_nothing_else() {
    let mut symbols = exported(&build_folder().join("libpam_ussh.so"));
    symbols.sort();
    assert_eq!(
        symbols,
        [
            "pam_sm_acct_mgmt",
            "pam_sm_authenticate",
            "pam_sm_chauthtok",
            "pam_sm_close_session",
            "pam_sm_open_session",
            "pam_sm_setcred",
        ]
    );
}

#[test]
fn the_signer_is_built_without_ssh_protocol_and_event_loops() {
    let signer = crates("usshca-signer");
    assert!(signer.iter().any(|name| name == "rusqlite"), "not the signer's crates: {signer:?}");
    for name in ["russh", "russh-cryptovec", "tokio", "mio", "usshca-front", "usshca-pam", "usshca"] {
        assert!(!signer.iter().any(|one| one == name), "{name}");
    }
    let front = crates("usshca-front");
    assert!(front.iter().any(|name| name == "russh") && front.iter().any(|name| name == "tokio"), "{front:?}");
}

#[test]
fn only_the_pam_worker_is_linked_with_libpam() {
    let links_pam = |program: &str| needed(program).iter().any(|library| library.starts_with("libpam"));
    assert!(links_pam("usshca-pam"));
    for program in ["usshca-front", "usshca-signer", "usshca", "ussh", "ussh-hostd"] {
        assert!(!links_pam(program), "{program}");
    }
}
