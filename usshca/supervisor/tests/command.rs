//! The command's exit statuses and first words, which scripts and people rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

fn usshca(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_usshca")).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_is_an_answer() {
    let output = usshca(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for verb in ["init", "serve", "list", "show", "revoke", "krl", "host", "check", "Exit status:"] {
        assert!(text.contains(verb), "{verb}");
    }
}

#[test]
fn a_wrong_command_line_is_64() {
    for args in [&[][..], &["frob"], &["serve", "--frob"], &["revoke"], &["revoke", "x"], &["serve", "extra"]] {
        assert_eq!(usshca(args).status.code(), Some(64), "{args:?}");
    }
}

#[test]
fn no_ca_here_is_said_with_what_to_try() {
    let dir = std::env::temp_dir().join(format!("usshca-none-{}", std::process::id()));
    let dir = dir.to_str().unwrap();
    for verb in ["serve", "check"] {
        let output = usshca(&[verb, "--dir", dir]);
        assert_eq!(output.status.code(), Some(78), "{verb}");
        let text = stderr(&output);
        assert!(text.contains(dir) && text.contains("usshca init"), "{text}");
    }
}

#[test]
fn a_descriptor_that_is_not_there_is_a_wrong_command_line() {
    let output = usshca(&["serve", "--dir", "/nonexistent", "--ready-fd", "57"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--ready-fd"), "{}", stderr(&output));
}

#[test]
fn the_machines_own_ca_is_for_root() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usshca"));
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        // From a place where somebody without privilege can get at it.
        let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let copy = folder.path().join("usshca");
        // By another process: a child that one of the other tests forks meanwhile would hold our descriptor open for writing, and the copy could not be run (ETXTBSY).
        assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_usshca")).arg(&copy).status().unwrap().success());
        command = Command::new(copy);
        command.uid(65534).gid(65534).current_dir("/");
        says_it_is_for_root(&mut command);
    } else {
        says_it_is_for_root(&mut command);
    }
}

fn says_it_is_for_root(command: &mut Command) {
    let output = command.arg("list").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("for root") && text.contains("--dir"), "{text}");
}
