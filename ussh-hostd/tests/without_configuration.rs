//! What is done with a configuration that is not valid. Run as root, on whatever machine: no session has this number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::process::Command;

#[test]
fn sessions_are_listed_and_ended_by_the_defaults_and_nothing_else_is_done() {
    let folder = tempfile::tempdir_in("/root").unwrap();
    let file = folder.path().join("hostd.toml");
    std::fs::write(&file, "warn_befor_seconds = 5\n").unwrap();
    let warning = format!("ussh-hostd: warning: {}:1: unknown field `warn_befor_seconds`", file.display());
    for (words, status, more) in [
        (&["sessions"][..], 0, ""),
        (&["end", "4194305"], 1, "ussh-hostd: no session 4194305: "),
        (&["check"], 78, ""),
        (&["status"], 78, ""),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_ussh-hostd")).arg("--config").arg(&file).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        let goes_on = said.starts_with(&warning) && said.contains(": going on by the defaults\n");
        assert_eq!(goes_on, status != 78, "{words:?}: {said}");
        assert!(said.contains(more), "{words:?}: {said}");
    }
}
