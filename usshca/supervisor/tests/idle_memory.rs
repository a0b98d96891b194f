//! What the two standing processes of a CA hold once they wait: a real `usshca serve`, by an ordinary user in a folder of his own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Somebody without privilege (`nobody`), where the tests run as root: as root `init` would make accounts on this machine.
const NOBODY: u32 = 65534;

/// Ended by SIGKILL; its signer goes with it.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(folder.join("usshca"));
    command.arg("--dir").arg(folder.join("ca")).args(arguments).current_dir(folder).stdin(Stdio::null());
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A line of /proc/PID/status, without its name.
fn status(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim().to_owned()
}

fn kib(pid: u32, name: &str) -> u64 {
    status(pid, name).trim_end_matches(" kB").parse().unwrap()
}

fn only_child(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().parse().unwrap_or_else(|_| panic!("children of the supervisor: {children:?}"))
}

#[test]
fn what_only_the_start_needed_is_given_back() {
    let usshca = Path::new(env!("CARGO_BIN_EXE_usshca"));
    // Another package's program: cargo does not build it for these tests.
    assert!(usshca.with_file_name("usshca-signer").is_file(), "build it first: cargo build --workspace");
    let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    for name in ["usshca", "usshca-signer"] {
        // By another process: a child that another test forks meanwhile would hold our descriptor open for writing, and the copy could not be run (ETXTBSY).
        assert!(Command::new("cp").arg(usshca.with_file_name(name)).arg(folder.path()).status().unwrap().success());
    }
    // These must be there, and are not run here.
    for name in ["usshca-front", "usshca-pam"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let made = command(folder.path(), &["init", "--name", "ca", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut serving = Serving(command(folder.path(), &["serve"]).stderr(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(serving.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("listening on ")), "it does not serve");

    let (supervisor, signer) = (serving.0.id(), only_child(serving.0.id()));
    for (pid, name) in [(supervisor, "usshca"), (signer, "usshca-signer")] {
        assert_eq!(status(pid, "Name"), name);
        // By a quarter at least: in a release build it is half (docs/performance.md).
        let (held, most) = (kib(pid, "VmRSS"), kib(pid, "VmHWM"));
        assert!(held * 4 < most * 3, "{name} holds {held} KiB, and held {most} at most");
    }
}
