//! What the program says to somebody who is not root. Run as root: it becomes nobody for each case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

const NOBODY: u32 = 65534;

#[test]
fn whoever_is_not_root_is_told_so_before_anything_else() {
    // Where nobody can reach it, whatever the modes of the build folder's parents.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ussh-hostd");
    std::fs::copy(env!("CARGO_BIN_EXE_ussh-hostd"), &program).unwrap();
    for path in [folder.path(), &program] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    for verb in ["run", "sync", "sessions", "status", "check"] {
        let output = Command::new(&program).arg(verb).uid(NOBODY).gid(NOBODY).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.as_ref()), (Some(77), "ussh-hostd: must be run by root\n"), "{verb}");
    }
}
