//! `sessions --watch` into a pipe. Run as root, on whatever machine: the configuration names a spool that is not there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use ussh_os::process::{ProcessHandle, start_time};

#[test]
fn it_ends_when_nobody_reads_it_any_more_though_nothing_changes() {
    let folder = tempfile::tempdir_in("/root").unwrap();
    let file = folder.path().join("hostd.toml");
    std::fs::write(&file, format!("spool = '{}/sessions'\n", folder.path().display())).unwrap();
    for (words, first) in [(&[][..], "PID  USER"), (&["--json"], "[]")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ussh-hostd"));
        command.arg("--config").arg(&file).args(["sessions", "--watch"]).args(words).stdout(Stdio::piped());
        let mut watching = command.spawn().unwrap();
        let handle = ProcessHandle::open(watching.id(), start_time(watching.id()).unwrap()).unwrap();
        let mut line = String::new();
        BufReader::new(watching.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with(first), "{line}");
        let has_ended = handle.wait_end(Duration::from_secs(10)).unwrap();
        if !has_ended {
            watching.kill().unwrap();
        }
        assert_eq!((has_ended, watching.wait().unwrap().code()), (true, Some(0)), "{words:?}");
    }
}
