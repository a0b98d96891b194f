//! The command for people.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Reads until `text` is shown.
fn read_until(reader: &mut impl BufRead, text: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&seen).contains(text) {
        if reader.read(&mut byte).unwrap() == 0 {
            panic!("ended without {text:?}: {}", String::from_utf8_lossy(&seen));
        }
        seen.extend(byte);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn a_person_gets_a_shell_on_the_laptop_and_can_go_on_from_there() {
    // script(1) is the person's terminal.
    let command = format!("stty rows 33 cols 77; {} shell web1; echo code $?; stty -a", env!("CARGO_BIN_EXE_ussh-lab"));
    let mut person = Command::new("script")
        .args(["-q", "-E", "never", "-c", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = person.stdin.take().unwrap();
    let mut screen = BufReader::new(person.stdout.take().unwrap());
    read_until(&mut screen, "alice@laptop:~$");
    keys.write_all(b"stty size; tty\n").unwrap();
    read_until(&mut screen, "33 77\r\n/dev/pts/0");
    keys.write_all(b"ssh -o StrictHostKeyChecking=no web1 hostname\n").unwrap();
    read_until(&mut screen, "assword:");
    keys.write_all(b"secret\n").unwrap();
    read_until(&mut screen, "web1\r\n");
    read_until(&mut screen, "alice@laptop:~$");
    keys.write_all(b"exit 3\n").unwrap();
    read_until(&mut screen, "code 0");
    assert!(read_until(&mut screen, "iexten").contains(" icanon"), "the terminal is as it was");
    drop(keys);
    assert!(person.wait().unwrap().success());
}

#[test]
fn a_shell_that_has_lost_the_end_of_a_script_is_told_of_it_again() {
    let mut shell = Command::new(env!("CARGO_BIN_EXE_ussh-lab"))
        .args(["shell", "web1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // What has been typed meanwhile goes: the end is all that there is.
    let forgets = "use POSIX; $_ = qq(\\0); vec($_, 0, 1) = 1; select($_, undef, undef, undef); tcflush(0, TCIFLUSH); print qq(for), qq(gotten\\n)";
    shell.stdin.take().unwrap().write_all(format!("perl -e '{forgets}'\n").as_bytes()).unwrap();
    let (ended, end) = std::sync::mpsc::channel();
    let mut screen = BufReader::new(shell.stdout.take().unwrap());
    std::thread::spawn(move || {
        read_until(&mut screen, "forgotten");
        ended.send(shell.wait())
    });
    assert!(end.recv_timeout(std::time::Duration::from_secs(30)).unwrap().unwrap().success());
}

#[test]
fn a_wrong_call_gets_the_usage() {
    for arguments in [&[][..], &["shelll"], &["trixie", "x"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_ussh-lab")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage: ussh-lab shell"));
    }
}

#[test]
fn anybody_but_root_is_told_that_it_needs_root() {
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", env!("CARGO_BIN_EXE_ussh-lab"), "shell"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs root"), "{output:?}");
}
