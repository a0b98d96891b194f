//! Where cargo put what we install, and where it goes on a host.

use std::path::{Path, PathBuf};

use ussh_lab::Bind;

/// What is installed: cargo's name, and the place on a host. `pam_ussh.so` goes where Debian's libpam looks.
const SERVER: [(&str, &str); 3] = [
    ("libpam_ussh.so", "/usr/lib/x86_64-linux-gnu/security/pam_ussh.so"),
    ("pam-ussh-check", "/usr/bin/pam-ussh-check"),
    ("ussh-hostd", "/usr/sbin/ussh-hostd"),
];
/// The module that panics when its line says so (tests/panics), beside the good one.
const PANICS: (&str, &str) = ("libpam_ussh_panics.so", "/usr/lib/x86_64-linux-gnu/security/pam_ussh_panics.so");
const CA: [(&str, &str); 4] = [
    ("usshca", "/usr/sbin/usshca"),
    ("usshca-front", "/usr/libexec/usshca/usshca-front"),
    ("usshca-pam", "/usr/libexec/usshca/usshca-pam"),
    ("usshca-signer", "/usr/libexec/usshca/usshca-signer"),
];
const LAPTOP: [(&str, &str); 1] = [("ussh", "/usr/bin/ussh")];

/// What a host is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Laptop,
    Ca,
    Server,
}

/// The folder with the built programs: `USSH_BUILD_DIR`, or the one in which this very program lies (for a test, the one above).
pub fn build_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("USSH_BUILD_DIR") {
        return PathBuf::from(folder);
    }
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new("/"));
    let is_tests = folder.file_name().is_some_and(|name| name == "deps");
    if is_tests { folder.parent().unwrap_or(folder).to_path_buf() } else { folder.to_path_buf() }
}

/// The programs of a role, bound read only to their places.
///
/// # Errors
/// Which program is not built, and how it would be.
pub(crate) fn programs(role: Role) -> Result<Vec<Bind>, String> {
    let files: &[(&str, &str)] = match role {
        Role::Laptop => &LAPTOP,
        Role::Ca => &CA,
        Role::Server => &SERVER,
    };
    files.iter().map(program).collect()
}

/// `pam_ussh_panics.so`, likewise.
///
/// # Errors
/// That it is not built, and how it would be.
pub(crate) fn panicking_module() -> Result<Bind, String> {
    program(&PANICS)
}

fn program((name, target): &(&str, &str)) -> Result<Bind, String> {
    let source = build_folder().join(name);
    if !source.is_file() {
        return Err(format!("{} is not built: run `make build`", source.display()));
    }
    Ok(Bind { source, target: PathBuf::from(target) })
}
