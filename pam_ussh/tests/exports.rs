//! A symbol of ours that clashes with one of the host's would be used in its place, or the other way round (CVE-2012-5536): nothing but the hooks may be seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::PathBuf;
use std::process::Command;

const HOOKS: [&str; 6] = [
    "pam_sm_acct_mgmt",
    "pam_sm_authenticate",
    "pam_sm_chauthtok",
    "pam_sm_close_session",
    "pam_sm_open_session",
    "pam_sm_setcred",
];

/// Cargo puts the library beside the tests that it builds it for.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().join("libpam_ussh.so")
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).arg(library()).output().expect(program);
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn exports_the_six_hooks_and_nothing_else() {
    let mut names: Vec<String> = run("nm", &["-D", "--defined-only", "--format=posix"])
        .lines()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, HOOKS);
}

#[test]
fn needs_libpam_and_the_c_runtime_only() {
    let dynamic = run("readelf", &["-d"]);
    let needed: Vec<&str> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    assert!(needed.contains(&"libpam.so.0"), "{needed:?}");
    for library in needed {
        assert!(
            ["libpam.so.0", "libc.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libm.so.6"]
                .contains(&library),
            "{library}"
        );
    }
}
