//! `usshca init` and the administrators' verbs, as an ordinary user and without a running CA: each verb starts a real signer for the moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod feed_key;
mod hosts;
mod inventory_files;
mod looking;
mod publishing;
mod revoking;
mod setting_up;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, Weak};

use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::channel::Channel;

/// Somebody without privilege (`nobody`), where the tests run as root: as root `init` would make accounts on this machine.
const NOBODY: u32 = 65534;

/// As the supervisor says it: all of it is at zero but for one key.
const STATUS: &str = r#"{"version":"0","pid":1,"since":1,"now":2,"stopping":false,"listening":[],"connections":0,"logging_in":0,"workers":0,"sources_with_penalties":0,
"signer":"up","signer_restarts":0,"certificates_issued_user":0,"certificates_issued_host":0,"certificates_refused":0,"last_certificate":null,"accepted":0,"turned_away":{},
"evicted":0,"penalties":{},"fronts_broken":0,"attempts":0,"attempts_turned_away":0,"attempts_passed":0,"attempts_refused":0,"attempts_unavailable":0,"attempts_broke_down":0,
"last_pam_trouble":null,"last_pam_answer":null,"key_troubles":["user_ca: gone"],"host_certificate_valid_before":null,"last_error_at":null,"last_error":null,
"supervisor_resident_bytes":null,"signer_resident_bytes":null}"#;

struct World {
    dir: tempfile::TempDir,
    programs: Arc<tempfile::TempDir>,
}

/// Folder with the programs as they are installed, where everybody can get at them. Gone with the last test that uses it.
fn programs() -> Arc<tempfile::TempDir> {
    static PROGRAMS: Mutex<Weak<tempfile::TempDir>> = Mutex::new(Weak::new());
    let mut programs = PROGRAMS.lock().unwrap();
    programs.upgrade().unwrap_or_else(|| {
        let folder = Arc::new(install());
        *programs = Arc::downgrade(&folder);
        folder
    })
}

fn install() -> tempfile::TempDir {
    let usshca = Path::new(env!("CARGO_BIN_EXE_usshca"));
    // Another package's program: cargo does not build it for these tests. A build from here would be one with other features, and take minutes.
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
    folder
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    if is_root() {
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    World { dir, programs: programs() }
}

impl World {
    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.path().join("usshca"));
        command.arg("--dir").arg(self.ca()).args(arguments).current_dir(self.dir.path());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// What a verb that succeeds prints.
    fn good(&self, arguments: &[&str]) -> String {
        let out = self.run(arguments);
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Exit code and message of a verb that fails.
    fn bad(&self, arguments: &[&str]) -> (i32, String) {
        let out = self.run(arguments);
        (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
    }

    fn init() -> World {
        let world = world();
        let out = world.run(&["init", "--name", "ca", "--name", "CA.example.com", "--listen", "127.0.0.1:2022"]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.success(), "{said}");
        let told = String::from_utf8(out.stdout).unwrap();
        // A copy of the folder brings `serials` back with the database.
        assert!(told.contains("backup FILE\n") && told.contains("never the file serials"), "{told}");
        // No word of the signer's: it is not the log that somebody reads here.
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("CA.example.com becomes ca.example.com"), "{said}");
        world
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.ca().join(name)).unwrap()
    }

    /// A host's public key, in the world's folder.
    fn host_key(&self, name: &str) -> String {
        let path = self.dir.path().join(name);
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status().unwrap();
        assert!(made.success());
        format!("{name}.pub")
    }

    fn ssh_keygen_l(&self, file: &Path) -> String {
        let out = Command::new("ssh-keygen").arg("-Lf").arg(self.dir.path().join(file)).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn serials(&self) -> Vec<String> {
        let lines = self.good(&["list", "--json"]);
        let rows = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        rows.map(|row| row["serial"].as_str().unwrap().to_owned()).collect()
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

/// Names, modes, times of the last change and contents of all that is in a folder.
fn tree(folder: &Path) -> std::collections::BTreeMap<PathBuf, (u32, std::time::SystemTime, Vec<u8>)> {
    let mut all = std::collections::BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = path.symlink_metadata().unwrap();
        let contents = if found.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        all.insert(path.clone(), (found.mode(), found.modified().unwrap(), contents));
        if found.is_dir() {
            all.extend(tree(&path));
        }
    }
    all
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}
