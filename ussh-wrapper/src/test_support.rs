//! For tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

/// A folder on a path that nobody but root and the user can change, as all files that steer `ussh` must lie. /tmp is everybody's.
pub fn own_folder() -> tempfile::TempDir {
    let above = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !nix::unistd::getuid().is_root() => folder,
        _ => "/run".into(),
    };
    tempfile::tempdir_in(above).expect("a folder in /run: run these tests as root, or with XDG_RUNTIME_DIR")
}
