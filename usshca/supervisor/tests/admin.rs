//! `usshca init` and the administrators' verbs, as an ordinary user and without a running CA: each verb starts a real signer for the moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

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

#[test]
fn init_makes_a_ca_that_ssh_keygen_understands() {
    let world = World::init();
    let ca = world.ca();
    for (name, expected) in [
        ("", 0o755),
        ("usshca.toml", 0o644),
        ("policy.toml", 0o644),
        ("state", 0o700),
        ("state/user_ca", 0o600),
        ("state/host_ca", 0o600),
        ("state/inventory.db", 0o600),
        ("ssh_host_ed25519_key", 0o600),
        ("ssh_host_ed25519_key-cert.pub", 0o644),
        ("public", 0o755),
        ("public/user_ca.pub", 0o644),
        ("public/known_hosts", 0o644),
        ("state/feed_key", 0o600),
        ("public/feed_key.pub", 0o644),
    ] {
        assert_eq!(mode(&ca.join(name)), expected, "{name}");
    }
    let text = world.ssh_keygen_l(Path::new("ca/ssh_host_ed25519_key-cert.pub"));
    assert!(text.contains("host certificate") && text.contains("ca.example.com"), "{text}");
    let host_ca = world.read("public/host_ca.pub");
    assert_eq!(world.read("public/known_hosts"), format!("@cert-authority * {host_ca}"));
    assert_ne!(world.read("public/user_ca.pub"), host_ca);
    assert_eq!(world.read("public/user_ca.pub"), world.read("state/user_ca.pub"));
    // The CA's own host certificate stands in the inventory.
    let serials = world.serials();
    assert_eq!(serials.len(), 1);
    assert!(text.contains(&format!("Serial: {}", serials[0])), "{text}");
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 1);
}

#[test]
fn init_touches_nothing_that_is_there() {
    let world = World::init();
    let before = world.read("public/user_ca.pub");
    let (code, said) = world.bad(&["init"]);
    assert_eq!(code, 1);
    assert!(said.contains("there is a CA already"), "{said}");
    assert_eq!(world.read("public/user_ca.pub"), before);
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 1);
}

#[test]
fn init_that_cannot_finish_leaves_nothing() {
    let world = world();
    let (code, said) = world.bad(&["init", "--name", "*.example.com"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no wildcards"), "{said}");
    let (code, _) = world.bad(&["init", "--name", "ca", "--ca-name", "\u{1b}[2J"]);
    assert_eq!(code, 64);
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 0);
}

/// Killed at moments that differ from round to round: there is a whole CA in the end, or none.
#[test]
fn a_killed_init_leaves_a_whole_ca_or_none() {
    for milliseconds in [1, 3, 6, 10, 15, 20, 30, 40, 60, 90] {
        let world = world();
        let mut child =
            world.command(&["init", "--name", "ca"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The time itself is what is tried here.
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        if world.ca().exists() {
            assert_eq!(world.serials().len(), 1);
        } else {
            world.good(&["init", "--name", "ca"]);
        }
    }
}

#[test]
fn the_first_policy_is_good_and_denies_root() {
    let world = World::init();
    let policy = world.read("policy.toml");
    assert!(policy.contains("users = [\"root\"]\ndeny = true"), "{policy}");
    // With its example in force as well.
    let example = policy.replace("# [[rule]]", "[[rule]]").replace("# name", "name").replace("# groups", "groups");
    let example = example.replace("# validity", "validity").replace("# principals", "principals");
    let example = example.replace("# confirm", "confirm").replace("# source", "source");
    let example = example.replace("# backdate", "backdate").replace("# extensions", "extensions");
    let example = example.replace("# force", "force");
    assert_ne!(example, policy);
    fs::write(world.ca().join("policy.toml"), &example).unwrap();
    world.good(&["list"]);
    fs::write(world.ca().join("policy.toml"), policy.replace("deny", "denie")).unwrap();
    let (code, said) = world.bad(&["list"]);
    assert_eq!(code, 78);
    // Once, on one line.
    assert!(said.lines().count() == 1 && said.contains("denie") && said.contains("line"), "{said}");
}

#[test]
fn host_sign_writes_the_certificate_beside_the_key() {
    let world = World::init();
    let key = world.host_key("web1");
    if is_root() {
        chown(world.dir.path().join(&key), Some(NOBODY), None).unwrap();
    }
    let said = world.good(&["host", "sign", &key, "--name", "Web1", "--name", "web1.example.com", "--validity", "2d"]);
    let text = world.ssh_keygen_l(Path::new("web1-cert.pub"));
    assert!(text.contains("Key ID: \"web1\"") && text.contains("web1.example.com"), "{text}");
    assert_eq!(mode(&world.dir.path().join("web1-cert.pub")), 0o644);
    let serial = world.serials().remove(0);
    assert!(said.contains(&serial) && text.contains(&serial), "{said}");

    // Standard input to standard output, and nothing else there.
    let mut child = world
        .command(&["host", "sign", "-", "--name", "web1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let public = fs::read(world.dir.path().join(&key)).unwrap();
    child.stdin.take().unwrap().write_all(&public).unwrap();
    let out = child.wait_with_output().unwrap();
    let line = String::from_utf8(out.stdout).unwrap();
    assert!(line.starts_with("ssh-ed25519-cert-v01@openssh.com ") && line.lines().count() == 1, "{line}");

    for (names, problem) in [(&["*"][..], "no wildcards"), (&["web1", "a,b"][..], "no host name")] {
        let mut arguments = vec!["host", "sign", key.as_str()];
        arguments.extend(names.iter().flat_map(|name| ["--name", name]));
        let (code, said) = world.bad(&arguments);
        assert_eq!(code, 1);
        assert!(said.contains(problem), "{said}");
    }
    let (code, said) = world.bad(&["host", "sign", "web1", "--name", "web1"]);
    assert_eq!(code, 64);
    assert!(said.contains("ermission") || said.contains("private key"), "{said}");
}

#[test]
fn revoke_and_krl_are_understood_by_ssh_keygen() {
    let world = World::init();
    let serial = world.serials().remove(0);
    let certificate = world.ca().join("ssh_host_ed25519_key-cert.pub");
    let is_revoked = |krl: &str| {
        let out = Command::new("ssh-keygen").arg("-Qf").arg(world.dir.path().join(krl)).arg(&certificate).output();
        String::from_utf8(out.unwrap().stdout).unwrap().contains("REVOKED")
    };
    world.good(&["krl", "--out", "krl"]);
    assert_eq!(mode(&world.dir.path().join("krl")), 0o644);
    assert!(!is_revoked("krl"));
    let said = world.good(&["revoke", &serial, "--reason", "machine lost"]);
    assert!(said.contains("revoked serial") && said.contains("ussh-hostd sync"), "{said}");
    assert!(world.good(&["revoke", &serial]).contains("before"));
    // The advice is a command that works as it stands.
    let advice = said.lines().find_map(|line| line.trim().strip_prefix("usshca --dir ")).unwrap();
    let words: Vec<&str> = advice.split(' ').collect();
    assert_eq!(words[0], world.ca().to_str().unwrap(), "{said}");
    world.good(&words[1..]);
    assert_eq!(words.last().copied(), world.ca().join("public/krl").to_str(), "{said}");
    fs::copy(world.ca().join("public/krl"), world.dir.path().join("krl")).unwrap();
    assert!(is_revoked("krl"));
    fs::write(world.dir.path().join("piped"), world.run(&["krl"]).stdout).unwrap();
    assert!(is_revoked("piped"));

    let (code, said) = world.bad(&["revoke", "12345"]);
    assert_eq!(code, 1);
    assert!(said.contains("no certificate with serial 12345"), "{said}");
    assert_eq!(world.bad(&["revoke", "alice"]).0, 64);

    let shown = world.good(&["show", &serial]);
    assert!(shown.contains("machine lost") && shown.contains("ssh-ed25519-cert-v01@openssh.com AAAA"), "{shown}");
    assert_eq!(world.bad(&["show", "12345"]).0, 1);
    let table = world.good(&["list"]);
    assert!(table.starts_with("ID ") && table.lines().count() == 2, "{table}");
    assert!(table.contains(&serial) && table.contains("ca,ca.example.com"), "{table}");
}

#[test]
fn without_a_ca_every_verb_says_what_to_do() {
    let world = world();
    for verb in [&["list"][..], &["revoke", "1"], &["krl", "--out", "krl"]] {
        let (code, said) = world.bad(verb);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("usshca init"), "{said}");
    }
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 0);
}

#[test]
fn list_stops_quietly_when_nobody_reads_on() {
    let world = World::init();
    let mut child = world.command(&["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.stderr.is_empty(), "{out:?}");
}

#[test]
fn no_certificate_is_made_that_cannot_be_put_in_its_place() {
    let world = World::init();
    let key = world.host_key("web1");
    for out in ["/dev/null", "none/x"] {
        for arguments in [&["host", "sign", key.as_str(), "--name", "web1", "--out", out][..], &["krl", "--out", out]] {
            let (code, said) = world.bad(arguments);
            assert_eq!(code, 73, "{said}");
            assert!(said.contains(out) && !said.contains(".tmp"), "{said}");
        }
    }
    assert_eq!(world.serials().len(), 1);
}

#[test]
fn check_reads_the_policy_while_a_signer_is_at_work() {
    let world = World::init();
    // This stands for the CA that runs, and says that no serials are lost, and how far it has come: nothing else is asked of it.
    let running = ussh_os::seqpacket::SeqPacketListener::bind(&world.ca().join("admin.sock"), 0o666).unwrap();
    std::thread::spawn(move || {
        while let Ok(socket) = running.accept() {
            let channel = Channel::<Reply, Request>::new(socket);
            while let Ok(asked) = channel.receive(None) {
                let reply = if asked.message == Request::Lost {
                    Reply::Lost(vec![])
                } else if matches!(asked.message, Request::Show { .. }) {
                    Reply::Refused("there is no certificate with this serial".to_owned())
                } else {
                    assert_eq!(asked.message, Request::Latest);
                    Reply::Latest { row: 1_700_000_000, krl_version: 4_000_000_000 }
                };
                channel.send(&reply).unwrap();
            }
        }
    });
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), config).unwrap();
    let policy = world.read("policy.toml");
    fs::write(world.ca().join("policy.toml"), policy.replace("users = [\"root\"]", "groups = [\"no-such-group\"]"))
        .unwrap();
    // And this for its supervisor.
    let desk = std::os::unix::net::UnixListener::bind(world.ca().join("status.sock")).unwrap();
    fs::set_permissions(world.ca().join("status.sock"), Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in desk.incoming() {
            stream.unwrap().write_all(STATUS.as_bytes()).unwrap();
        }
    });
    let out = world.run(&["check"]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{said}");
    assert!(said.contains("warning") && said.contains("no-such-group"), "{said}");
    assert!(said.contains("policy.toml:") && said.contains("rule \""), "where it stands: {said}");
    assert!(said.contains("warning: user_ca: gone"), "{said}");
    let (code, said) = world.bad(&["check", "--strict"]);
    assert!(code == 1 && said.contains("usshca: warnings: "), "{said}");
    let out = world.run(&["check", "--json", "--strict"]);
    let found = json(&String::from_utf8(out.stdout).unwrap());
    let warnings = found["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning.as_str().unwrap().contains("no-such-group")), "{found}");
    assert!(found["error"].is_null() && out.status.code() == Some(1), "{found}");
    fs::write(
        world.ca().join("policy.toml"),
        policy.replace("users = [\"root\"]", "users = [\"root\", \"no-such-user\"]"),
    )
    .unwrap();
    let said = String::from_utf8(world.run(&["check"]).stderr).unwrap();
    assert!(said.contains("this machine knows no user \"no-such-user\""), "{said}");
    assert!(said.contains("the last KRL's version is 2096-10-02T07:06:40Z, more than a day ahead"), "{said}");
    assert!(said.contains("A clock that was far ahead"), "{said}");
    fs::write(world.ca().join("policy.toml"), policy.replace("deny", "denie")).unwrap();
    let (code, said) = world.bad(&["check"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("/policy.toml: line ") && said.contains("denie"), "{said}");
}

#[test]
fn check_shows_what_a_missing_pam_service_is_to_hold() {
    let world = World::init();
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"no-such-service\"");
    fs::write(world.ca().join("usshca.toml"), config).unwrap();
    let (code, said) = world.bad(&["check"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("/etc/pam.d/no-such-service is missing"), "{said}");
    // The same as `usshca init` writes, and as packaging/pam.d/usshca holds.
    let packaged = include_str!("../../../packaging/pam.d/usshca").lines().filter(|line| !line.starts_with('#'));
    assert!(said.ends_with(&packaged.fold(":\n".to_owned(), |all, line| all + line + "\n")), "{said}");
}

#[test]
fn a_revocation_is_of_one_thing_and_can_be_undone() {
    let world = World::init();
    let serial = world.serials().remove(0);
    for wrong in [&["revoke"][..], &["revoke", &serial, "--user", "alice"], &["revoke", "--undo", "1", "--reason", "x"]]
    {
        assert_eq!(world.bad(wrong).0, 64, "{wrong:?}");
    }
    let (code, said) = world.bad(&["revoke", "--user", "alice"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no certificate that is not over"), "{said}");
    let said = world.good(&["revoke", "--host", "CA.EXAMPLE.COM", "--reason", "stolen"]);
    assert!(said.contains("revoked what host ca.example.com was given so far (revocation 1, 1 certificate "), "{said}");
    assert!(world.good(&["show", &serial]).contains("stolen"));
    let listed = world.good(&["revocations"]);
    assert!(listed.contains("host ca.example.com") && listed.contains("stolen"), "{listed}");
    let said = world.good(&["revoke", &serial]);
    assert!(said.contains(" (revocation 2, which another revocation holds too); hosts refuse it"), "{said}");
    let said = world.good(&["revoke", "--undo", "2"]);
    let stays = "revocation 2 undone, 0 certificates are good again, 1 stays revoked by another revocation; hosts take again what no other one is about";
    assert!(said.contains(stays), "{said}");
    let said = world.good(&["revoke", "--undo", "1"]);
    assert!(said.contains("1 certificate is good again; hosts take again what"), "{said}");
    assert!(!said.contains("refuse"), "{said}");
    assert!(world.good(&["revoke", "--undo", "1"]).contains("undone before"));
    assert!(!world.good(&["show", &serial]).contains("stolen"));
    let listed = world.good(&["revocations", "--json"]);
    let act: serde_json::Value = serde_json::from_str(listed.lines().last().unwrap()).unwrap();
    assert_eq!((act["scope"].as_str(), act["undone_by"].as_str()), (Some("host"), act["by"].as_str()));
}

#[test]
fn who_revokes_the_cas_own_host_certificate_is_told_and_check_says_so_until_there_is_another() {
    let world = World::init();
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), config.replace("127.0.0.1:2022", "127.0.0.1:0")).unwrap();
    let noted = |arguments: &[&str]| {
        let out = world.run(arguments);
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stderr).unwrap()
    };
    let key = world.host_key("web1");
    assert_eq!(noted(&["host", "sign", &key, "--name", "web1", "--out", "web1-cert.pub"]), "");
    assert_eq!(noted(&["revoke", "--host", "web1"]), "", "another's");
    let check = || String::from_utf8(world.run(&["check"]).stderr).unwrap();
    assert!(!check().contains("own host certificate"), "{}", check());
    let serial = world.serials().pop().unwrap();
    for (arguments, act) in [(&["revoke", "--host", "CA.example.com"][..], "2"), (&["revoke", &serial], "3")] {
        let said = noted(arguments);
        assert!(said.contains("the CA machine's own host certificate is revoked by this: sign its host key"), "{said}");
        let said = check();
        assert!(
            said.contains(&format!("warning: the CA's own host certificate (serial {serial}) was revoked")),
            "{said}"
        );
        world.good(&["revoke", "--undo", act]);
        assert!(!check().contains("own host certificate"));
    }
    noted(&["revoke", "--host", "ca"]);
    world.good(&["host", "sign", "ca/ssh_host_ed25519_key.pub", "--name", "ca"]);
    assert!(!check().contains("own host certificate"), "{}", check());
}

#[test]
fn root_who_looks_at_a_ca_of_somebody_elses_is_told_to_do_it_as_them_and_to_change_nothing() {
    if !is_root() {
        return;
    }
    let world = World::init();
    for verb in [&["check"][..], &["list"], &["host", "list"]] {
        let mut command = Command::new(world.programs.path().join("usshca"));
        let out = command.arg("--dir").arg(world.ca()).args(verb).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{verb:?}: {said}");
        assert!(said.contains("this CA is run by nobody, who alone administers it: run this as nobody"), "{said}");
        assert!(!said.contains("chown"), "{said}");
    }
    // A file of root's CA that others can change is another matter.
    let writable = world.ca().join("usshca.toml");
    fs::set_permissions(&writable, Permissions::from_mode(0o666)).unwrap();
    let (code, said) = world.bad(&["check"]);
    assert!(code == 78 && said.contains("chmod go-w"), "{said}");
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

/// Of what the next start of the CA will see to, too: a look must not take the place of it, nor of what an administrator decides before.
#[test]
fn check_changes_nothing_on_disk_whatever_there_is_to_do() {
    let world = World::init();
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), config.replace("127.0.0.1:2022", "127.0.0.1:0")).unwrap();
    let state = |name: &str| world.ca().join("state").join(name);
    let check = |what: &str| {
        let before = tree(&world.ca());
        let out = world.run(&["check"]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.success(), "{what}: {said}");
        let after = tree(&world.ca());
        let changed: Vec<_> = after.iter().filter(|(path, found)| before.get(*path) != Some(found)).collect();
        assert!(before == after, "{what}: {:?}", changed.iter().map(|(path, _)| path).collect::<Vec<_>>());
        said
    };
    assert!(!check("a new CA").contains("was put back"));
    let old = fs::read(state("inventory.db")).unwrap();
    let key = world.host_key("web1");
    world.good(&["host", "sign", &key, "--name", "web1", "--out", "web1-cert.pub"]);
    let serial = world.serials().remove(0);
    world.good(&["krl", "--out", "krl"]);
    assert!(!check("a CA that has worked").contains("was put back"));

    fs::write(state("inventory.db"), old).unwrap();
    let said = check("an inventory that was put back");
    assert!(said.contains(&format!("revoke --serials {serial}-{serial} ")), "{said}");
    fs::remove_file(state("serials")).unwrap();
    assert!(check("no mark").contains("was put back"));
    // What a kill leaves of a feed key that was to be.
    fs::copy(state("feed_key"), state("feed_key.new")).unwrap();
    if is_root() {
        chown(state("feed_key.new"), Some(NOBODY), None).unwrap();
    }
    fs::remove_file(state("lock")).unwrap();
    check("a feed key that nobody has handed over to");
    world.good(&["list"]);
    assert!(!state("feed_key.new").exists() && state("serials").exists(), "any other verb does what is to be done");
}

#[test]
fn check_and_status_see_a_ca_key_that_is_revoked_itself() {
    let world = World::init();
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), config.replace("127.0.0.1:2022", "127.0.0.1:0")).unwrap();
    let check = || String::from_utf8(world.run(&["check"]).stderr).unwrap();
    assert!(!check().contains("revoked"), "{}", check());
    world.good(&["revoke", "--ca", "user"]);
    let said = check();
    assert!(said.contains("warning: user_ca: the key itself is revoked, so that nobody gets a certificate"), "{said}");
    assert!(said.contains("usshca revoke --undo 1"), "{said}");
    world.good(&["revoke", "--undo", "1"]);
    world.good(&["revoke", "--ca", "host"]);
    assert!(
        check().contains("warning: host_ca: the key itself is revoked, so that whoever has the KRL"),
        "{}",
        check()
    );
    let own = check();
    let own = own.lines().find(|line| line.contains("the CA's own host certificate")).unwrap().to_owned();
    assert!(own.contains("with the host CA's key") && own.contains("revoke --undo 2"), "{own}");
    let key = world.host_key("web1");
    let (code, said) = world.bad(&["host", "sign", &key, "--name", "web1"]);
    let why = "no host certificate: the host CA's key itself is revoked";
    assert!(code == 1 && said.contains(why) && said.contains("usshca revoke --undo 2"), "{said}");
    world.good(&["revoke", "--undo", "2"]);
    assert!(!check().contains("the key itself"), "{}", check());
    world.good(&["host", "sign", &key, "--name", "web1"]);
}

#[test]
fn serve_waits_for_a_verbs_signer_to_end() {
    let world = World::init();
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), config.replace("127.0.0.1:2022", "127.0.0.1:0")).unwrap();
    // As a verb's signer has it for a moment.
    let lock = fs::File::options().write(true).open(world.ca().join("state/lock")).unwrap();
    lock.try_lock().unwrap();
    let mut serve = world.command(&["serve"]);
    let mut serve = serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waits = lines.find(|line| line.contains("another signer"));
    assert!(waits.as_ref().is_some_and(|line| line.contains("waiting for another signer")), "{waits:?}");
    drop(lock);
    let up =
        lines.find(|line| line.contains("listening on") || line.contains("another signer is at work on this state;"));
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert!(up.as_ref().is_some_and(|line| line.contains("listening on")), "{up:?}");
}

#[test]
fn revoke_says_what_is_left_to_do_by_hand_and_nothing_if_the_ca_publishes() {
    let world = World::init();
    let by_hand = "krl --out";
    let said = world.good(&["revoke", "--host", "ca.example.com"]);
    assert!(said.contains("hosts refuse it once they have the next KRL:\n") && said.contains(by_hand), "{said}");
    let config = world.read("usshca.toml").replace("# publish =", "publish =");
    fs::write(world.ca().join("usshca.toml"), config).unwrap();
    for arguments in [&["revoke", "--undo", "1"][..], &["revoke", "--host", "ca.example.com"]] {
        let said = world.good(arguments);
        assert!(said.ends_with("KRL, which the CA publishes to /var/lib/usshca/feed as soon as it runs\n"), "{said}");
        assert!(!said.contains(by_hand), "{said}");
    }
    let said = world.good(&["feed", "key", "rotate"]);
    assert!(said.contains("hear of it: the CA publishes to /var/lib/usshca/feed as soon as it runs\n"), "{said}");
    assert!(said.ends_with("they trust the key before it, whose file was replaced.\n"), "{said}");
    // Where nobody here can sign it, nothing is done by itself.
    let elsewhere = world.host_key("elsewhere");
    world.good(&["feed", "key", "rotate", "--to", &elsewhere]);
    let said = world.good(&["revoke", "--undo", "2"]);
    assert!(
        said.contains("the CA puts it to /var/lib/usshca/feed/feed.unsigned as soon as it runs, and there"),
        "{said}"
    );
    assert!(said.ends_with("\n  usshca feed sign /var/lib/usshca/feed --key FILE\n"), "{said}");
}

#[test]
fn explain_says_which_rule_decides_and_why_the_others_do_not() {
    let world = World::init();
    let said = world.good(&["explain", "alice", "--group", "staff", "--from", "192.0.2.1"]);
    assert!(said.contains("rule \"no root\" is about other users and groups\n"), "{said}");
    assert!(said.contains("rule \"everybody\" decides:\n") && said.contains("principals   alice\n"), "{said}");
    let (code, said) = world.bad(&["explain", "root", "--group", "root"]);
    assert_eq!(code, 1);
    assert!(said.contains("the rule denies"), "{said}");
    assert_eq!(world.bad(&["explain", "no-such-account"]).0, 1);
    assert_eq!(world.bad(&["explain", "alice", "--group", "x", "--at", "tomorrow"]).0, 64);
    let (_, said) = world.bad(&["explain", "alice", "--group", "x", "--auth", "password"]);
    assert!(said.contains("pam, publickey, publickey+pam, none"), "{said}");
    let policy = world.read("policy.toml");
    let (head_of, last) = policy.rsplit_once("\nname = \"everybody\"").unwrap();
    let strict =
        format!("{head_of}\nname = \"everybody\"\nauthentication = [\"publickey+pam\"]\nreason_required = true{last}");
    fs::write(world.ca().join("policy.toml"), strict).unwrap();
    // What the rule demands is supposed, and said.
    let said = world.good(&["explain", "alice", "--group", "x"]);
    let head = "alice (groups: x) from 127.0.0.1, if authenticated by publickey+pam, inject, key type ed25519, with a reason\n";
    assert!(said.starts_with(head) && said.contains("principals   alice\n"), "{said}");
    assert!(
        said.contains(
            "    demands      publickey+pam; inject; keys of the types ed25519, ecdsa, ed25519-sk, ecdsa-sk; a reason\n"
        ),
        "{said}"
    );
    let (code, said) = world.bad(&["explain", "alice", "--group", "x", "--auth", "pam"]);
    assert!(code == 1 && said.contains("publickey+pam; without --auth it is supposed"), "{said}");
    let (code, said) = world.bad(&["explain", "alice", "--group", "x", "--reason", ""]);
    assert!(code == 1 && said.contains("without --reason it is supposed that the user gives one"), "{said}");
    world.good(&["explain", "alice", "--group", "x", "--auth", "publickey+pam", "--reason", "for it"]);
    let answer = world.good(&["explain", "alice", "--group", "x", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&value["authentication"], &value["reason_supposed"]), (&"publickey+pam".into(), &true.into()));
    assert_eq!((&value["demands"]["modes"][0], &value["demands"]["reason"]), (&"inject".into(), &true.into()));
    // Keys and modes: what a login would ask for, and not what the rule does not allow.
    for (line, by) in [
        ("key_types = [\"ecdsa-sk\", \"ecdsa\"]", "pam, inject, key type ecdsa\n"),
        ("modes = [\"client-key\"]\nkey_types = [\"ecdsa-sk\", \"ecdsa\"]", "pam, client-key, key type ecdsa-sk\n"),
        ("modes = [\"inject\", \"client-key\"]\nkey_types = [\"rsa\", \"ecdsa\"]", "pam, inject, key type ecdsa\n"),
        ("authentication = [\"none\"]\nfrom = [\"127.0.0.1\"]", "none, inject, key type ed25519\n"),
    ] {
        fs::write(world.ca().join("policy.toml"), format!("{head_of}\nname = \"everybody\"\n{line}{last}")).unwrap();
        let said = world.good(&["explain", "alice", "--group", "x"]);
        assert!(
            said.lines()
                .next()
                .is_some_and(|first| format!("{first}\n").ends_with(&format!("if authenticated by {by}"))),
            "{said}"
        );
        assert_eq!(said.contains("in the agent"), by.contains("inject"), "{said}");
    }
    // Of a key that the CA does not make, the user's own is meant, and none is promised by the mode inject.
    let both = "modes = [\"inject\", \"client-key\"]\nkey_types = [\"rsa\", \"ecdsa\"]";
    let made = "key_types = [\"rsa\", \"ecdsa\"]";
    let not_made = "the CA makes no keys of the type rsa: one can only be the user's own, in the mode client-key";
    for (line, mode, expected) in [
        (both, None, Ok("client-key, key type rsa\n")),
        (both, Some("inject"), Err(not_made)),
        (made, None, Err(not_made)),
        (made, Some("client-key"), Err("the rule does not allow the mode client-key")),
    ] {
        fs::write(world.ca().join("policy.toml"), format!("{head_of}\nname = \"everybody\"\n{line}{last}")).unwrap();
        let mode: Vec<&str> = mode.into_iter().flat_map(|mode| ["--mode", mode]).collect();
        let arguments = [&["explain", "alice", "--group", "x", "--key-type", "rsa"], &mode[..]].concat();
        match expected {
            Ok(words) => assert!(world.good(&arguments).contains(words), "{line}"),
            Err(words) => {
                let (code, said) = world.bad(&arguments);
                assert!(code == 1 && said.contains(words), "{line}: {said}");
            }
        }
    }
    let own = ["explain", "alice", "--group", "x", "--mode", "client-key", "--json"];
    fs::write(world.ca().join("policy.toml"), format!("{head_of}\nname = \"everybody\"\n{both}{last}")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&world.good(&own)).unwrap();
    assert!(value["certificate"].is_object() && value["certificate"]["agent_lifetime_seconds"].is_null(), "{value}");
    fs::write(world.ca().join("policy.toml"), policy).unwrap();
    let answer = world.good(&["explain", "alice", "--group", "x", "--for", "1h", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (value["rule"].as_str(), value["certificate"]["agent_lifetime_seconds"].as_u64()),
        (Some("everybody"), Some(3600))
    );
}

#[test]
fn find_and_csv_show_the_rows_of_list() {
    let world = World::init();
    let serial = world.serials().remove(0);
    let listed = world.good(&["list", "--json"]);
    for wanted in [
        &["--serial", serial.as_str()][..],
        &["--host", "CA.example.com"],
        &["--principal", "ca.example.com", "--state", "signed"],
        &["--from", "admin", "--time", "2026-01-01T00:00:00Z.."],
    ] {
        let arguments = [&["find", "--json"][..], wanted].concat();
        assert_eq!(world.good(&arguments), listed, "{wanted:?}");
    }
    let table = world.good(&["find", "--host", "ca.example.com"]);
    assert_eq!(table, world.good(&["list"]));
    let csv = world.good(&["list", "--csv"]);
    assert!(
        csv.starts_with("id,row,serial,kind,key_id,principals,") && csv.contains(&format!("{serial},1,{serial},host,")),
        "{csv}"
    );
    assert_eq!(world.good(&["find", "--host", "ca.example.com", "--csv"]), csv);
    let (code, said) = world.bad(&["find", "--user", "alice"]);
    assert!(code == 1 && said.contains("nothing of that kind"), "{said}");
    for wrong in [
        &["find"][..],
        &["find", "--state", "lost"],
        &["find", "--time", "today"],
        &["find", "--csv", "--json", "--user", "a"],
    ] {
        assert_eq!(world.bad(wrong).0, 64, "{wrong:?}");
    }
}

#[test]
fn a_backup_that_is_put_back_says_which_serials_to_revoke_until_they_are() {
    let world = World::init();
    let key = world.host_key("web1");
    let sign = |name: &str| world.good(&["host", "sign", &key, "--name", name, "--out", "x-cert.pub"]);
    let said = world.good(&["backup", "copy.db"]);
    assert!(said.contains("1 rows"), "{said}");
    let copy = world.dir.path().join("copy.db");
    assert_eq!(mode(&copy), 0o600);
    fs::create_dir(world.dir.path().join("folder")).unwrap();
    if is_root() {
        chown(world.dir.path().join("folder"), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let said = world.good(&["backup", "folder", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&said).unwrap();
    let file = value["file"].as_str().unwrap();
    assert!(file.starts_with("folder/inventory-20") && file.ends_with("Z.db"), "{file}");
    assert_eq!(world.dir.path().join(file).metadata().unwrap().len(), value["bytes"].as_u64().unwrap());
    assert_eq!(world.bad(&["backup", "none/x.db"]).0, 73);

    sign("web1");
    let lost = world.serials().remove(0);
    let state = world.ca().join("state");
    fs::copy(&copy, state.join("inventory.db")).unwrap();
    assert_eq!(world.serials().len(), 1);
    sign("web2");
    let next = world.serials().remove(0);
    let epoch = |serial: &str| serial.parse::<u64>().unwrap() >> 40;
    assert_ne!(epoch(&next), epoch(&lost));

    let check = || {
        let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
        let config = config.replace("127.0.0.1:2222", "127.0.0.1:0").replace("0.0.0.0:2222", "127.0.0.1:0");
        fs::write(world.ca().join("usshca.toml"), config).unwrap();
        let out = world.run(&["check"]);
        String::from_utf8(out.stderr).unwrap()
    };
    let said = check();
    let advice =
        said.lines().find_map(|line| line.trim().strip_prefix("usshca --dir ")).unwrap_or_else(|| panic!("{said}"));
    let words: Vec<&str> = advice.split(' ').skip(1).take(3).collect();
    assert_eq!(words[..2], ["revoke", "--serials"], "{advice}");
    let (first, last) = words[2].split_once('-').unwrap();
    assert_eq!((first, last), (lost.as_str(), lost.as_str()));
    world.good(&words);
    assert!(!check().contains("--serials"));
    // The certificate that nobody knows any more is refused.
    world.good(&["krl", "--out", "krl"]);
    let out = Command::new("ssh-keygen").args(["-Qf", "krl", "x-cert.pub"]).current_dir(world.dir.path()).output();
    assert!(String::from_utf8(out.unwrap().stdout).unwrap().contains(": ok"), "web2's is good");
    let listed = world.good(&["revocations"]);
    assert!(listed.contains(&format!("serials {lost}-{lost}")), "{listed}");
    for wrong in [format!("{last}-{}", u64::MAX), format!("{}-{next}9", next), "5".to_owned(), "9-5".to_owned()] {
        assert_ne!(world.bad(&["revoke", "--serials", &wrong]).0, 0, "{wrong}");
    }
    let beyond = format!("{next}-{}", next.parse::<u64>().unwrap() + 1);
    assert!(world.bad(&["revoke", "--serials", &beyond]).1.contains("still to be given"));
}

/// Each of these replaced the file, and said nothing.
#[test]
fn no_verb_writes_over_the_cas_own_files() {
    let world = World::init();
    let ca = world.ca();
    std::os::unix::fs::symlink("ca/state", world.dir.path().join("link")).unwrap();
    fs::write(world.dir.path().join("mine"), "a text of mine").unwrap();
    let key = world.host_key("web1");
    let every = || {
        let mut files: Vec<_> =
            ["", "state", "public"].iter().flat_map(|at| fs::read_dir(ca.join(at)).unwrap()).collect();
        files.sort_by_key(|file| file.as_ref().unwrap().path());
        let files = files.into_iter().map(|file| file.unwrap().path()).filter(|path| path.is_file());
        // Two files that a signer which only starts writes to.
        let files = files.filter(|path| !["serials", "inventory.db"].iter().any(|name| path.ends_with(name)));
        files.map(|path| (path.clone(), fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let before = every();
    let inventory = fs::metadata(ca.join("state/inventory.db")).unwrap().ino();
    let state = "where the CA's keys and its inventory are";
    let own = "the CA's own file";
    for (arguments, why) in [
        (&["backup", "ca/state/inventory.db"][..], state),
        (&["backup", "ca/state"], state),
        (&["backup", "link/inventory.db"], state),
        (&["backup", "ca/public/../state/copy"], state),
        (&["backup", "ca/policy.toml"], own),
        (&["backup", "ca/public/x.db"], "which everybody fetches"),
        (&["backup", "ca/public"], "which everybody fetches"),
        (&["backup", "mine"], "no backup"),
        (&["backup", "/dev/full"], "it is not replaced; name a file or a folder"),
        (&["krl", "--out", "ca/state/host_ca"], "no KRL"),
        (&["krl", "--out", "ca/state/krl"], state),
        (&["krl", "--out", "ca/usshca.toml"], "the name of a configuration or a policy"),
        (&["krl", "--out", "ca/new.toml"], "the name of a configuration or a policy"),
        (&["krl", "--out", "team.TOML"], "the name of a configuration or a policy"),
        (&["krl", "--out", "ca/krl"], "in the folder of the CA's configuration"),
        (&["krl", "--out", "mine"], "there is a file that is no KRL"),
        (&["krl", "--out", "ca/ssh_host_ed25519_key"], "no KRL"),
        (&["krl", "--out", "ca/ssh_host_ed25519_key-cert.pub"], "no KRL"),
        (&["krl", "--out", "ca/public/user_ca.pub"], "no KRL"),
        (&["host", "sign", &key, "--name", "web1", "--out", "link/user_ca"], state),
        (&["host", "sign", &key, "--name", "web1", "--out", "ca/policy.toml"], own),
        (&["publish", "ca/state"], state),
        (&["publish", "link/feed"], state),
        (&["feed", "sign", "ca/state", "--key", "ca/state/feed_key"], state),
    ] {
        let (code, said) = world.bad(arguments);
        assert_eq!(code, 73, "{arguments:?}: {said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    assert!(every() == before);
    assert_eq!(fs::metadata(ca.join("state/inventory.db")).unwrap().ino(), inventory);
    assert_eq!(fs::read_to_string(world.dir.path().join("mine")).unwrap(), "a text of mine");
    // No certificate was made in vain; and what was meant goes on: a backup over a backup, the CA's own host certificate.
    assert_eq!(world.serials().len(), 1);
    fs::write(world.dir.path().join("empty"), "").unwrap();
    chown(world.dir.path().join("empty"), Some(fs::metadata(&ca).unwrap().uid()), None).unwrap();
    for _ in 0..2 {
        world.good(&["backup", "empty"]);
    }
    world.good(&["host", "sign", "ca/ssh_host_ed25519_key.pub", "--name", "ca"]);
    // Over the one before, too.
    for _ in 0..2 {
        world.good(&["krl", "--out", "ca/public/krl"]);
    }
}

/// 1 would say: looked for, and not found.
#[test]
fn what_cannot_be_meant_is_wrong_usage_and_said_in_its_own_words() {
    let world = World::init();
    for (arguments, why) in [
        (
            &["explain", "alice", "--group", "x", "--auth", "foo"][..],
            "[possible values: pam, publickey, publickey+pam, none]",
        ),
        (&["explain", "alice", "--group", "x", "--mode", "foo"], "possible values: inject"),
        (&["explain", "alice", "--group", "x", "--key-type", "dsa"], "possible values: ed25519"),
        (&["revoke", "--key", "SHA256:bad"], "--key SHA256:bad: no fingerprint; must be SHA256: and 43 characters"),
        (&["find", "--key", "SHA256:abc"], "--key SHA256:abc: no fingerprint"),
        (&["key", "remove", "SHA256:abc"], "key remove SHA256:abc: no fingerprint"),
        (&["revoke", "--serials", "9-5"], "the lower one first"),
        (&["revoke", "--serials", "0-5"], "the lower one first"),
        (&["find", "--from", "10.1.0.0/16"], "must be one IP address, or admin"),
        (
            &["find", "--serial", "r1"],
            "must be the serial of a certificate, a number, as `usshca list` shows it; r and a number",
        ),
        (&["revoke", "r3"], "r and a number is a refusal"),
        (&["revoke", "alice"], "must be the serial of a certificate"),
        (&["revoke", "--undo", "abc"], "must be the number of a revocation, as `usshca revocations`"),
        (&["backup", "-"], "name a file or a folder"),
    ] {
        let (code, said) = world.bad(arguments);
        assert!(code == 64 && said.contains(why), "{arguments:?}: {code} {said}");
    }
    assert!(!world.dir.path().join("-").exists());
    let (code, said) = world.bad(&["find", "--from", "::ffff:192.0.2.1"]);
    assert!(code == 1 && said.contains("nothing of that kind"), "{said}");
    for auth in ["pam", "publickey", "publickey+pam", "none"] {
        let out = world.run(&["explain", "alice", "--group", "x", "--auth", auth]);
        let said = String::from_utf8(out.stdout).unwrap();
        assert!(said.contains(&format!("authenticated by {auth}")), "{said}");
    }
}

#[test]
fn replay_of_a_policy_that_is_none_says_what_is_wrong_with_it() {
    let world = World::init();
    let policy = world.read("policy.toml");
    fs::write(world.dir.path().join("good.toml"), &policy).unwrap();
    fs::write(world.dir.path().join("bad.toml"), policy.replace("deny", "denie")).unwrap();
    assert!(world.good(&["replay", "--policy", "good.toml"]).starts_with("0 requests of the last 7 days judged, 0 "));
    assert_eq!(world.good(&["replay", "--policy", "good.toml", "--json"]), "{\"changed\":0,\"judged\":0}\n");
    let (code, said) = world.bad(&["replay", "--policy", "bad.toml"]);
    assert!(code == 78 && said.contains("denie"), "{said}");
    assert_eq!(world.bad(&["replay", "--policy", "none.toml"]).0, 64);
}

#[test]
fn a_host_token_is_one_word_on_standard_output_and_nowhere_else() {
    let world = World::init();
    let out = world.run(&["host", "token", "Web1", "web1.example.com", "--for", "2h"]);
    assert!(out.status.success(), "{out:?}");
    let token = String::from_utf8(out.stdout).unwrap();
    assert!(token.starts_with("ussh-host-") && token.ends_with('\n') && token.lines().count() == 1, "{token}");
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("Web1 becomes web1") && said.contains("token 1 for web1, web1.example.com, once"), "{said}");
    assert!(!said.contains(token.trim()), "{said}");
    let json = world.good(&["host", "token", "web2", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(made["expires"].as_u64().unwrap() - made["made"].as_u64().unwrap(), 3600);
    let secret = made["token"].as_str().unwrap().to_owned();
    let listed = world.good(&["host", "tokens"]) + &world.good(&["host", "tokens", "--json"]);
    assert!(listed.starts_with("TOKEN") && listed.contains("web1,web1.example.com"), "{listed}");
    assert!(!listed.contains(&secret) && !listed.contains(token.trim()), "{listed}");
    world.good(&["host", "token", "--revoke", "1"]);
    let listed = world.good(&["host", "tokens", "--json"]);
    assert!(listed.lines().count() == 1 && listed.contains("\"web2\""), "{listed}");
    let (code, said) = world.bad(&["host", "token", "--revoke", "1"]);
    assert!(code == 1 && said.contains("usshca host tokens"), "{said}");
    for wrong in [
        &["host", "token"][..],
        &["host", "token", "web1", "--revoke", "1"],
        &["host", "token", "--for", "2h", "--revoke", "1"],
        &["host", "token", "web1", "--for", "0"],
    ] {
        assert_eq!(world.bad(wrong).0, 64, "{wrong:?}");
    }
    for (name, problem) in [("*.example.com", "no wildcards"), ("a,b", "no host name")] {
        let (code, said) = world.bad(&["host", "token", "web1", name]);
        assert!(code == 1 && said.contains(problem), "{said}");
    }
    let (code, said) = world.bad(&["host", "token", "web1", "--for", "8d"]);
    assert!(code == 1 && said.contains("7d"), "{said}");
}

#[test]
fn hosts_are_listed_shown_and_removed() {
    let world = World::init();
    let key = world.host_key("web1");
    if is_root() {
        chown(world.dir.path().join(&key), Some(NOBODY), None).unwrap();
    }
    world.good(&["host", "sign", &key, "--name", "web1", "--name", "www", "--validity", "2d"]);
    let listed = world.good(&["host", "list"]);
    let names: Vec<&str> = listed.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["HOST", "ca", "web1"], "{listed}");
    let soon = world.good(&["host", "list", "--expiring", "3d", "--json"]);
    let host: serde_json::Value = serde_json::from_str(&soon).unwrap();
    assert_eq!((host["name"].as_str(), host["principals"][1].as_str()), (Some("web1"), Some("www")));
    assert_eq!(world.bad(&["host", "list", "--expiring", "1d", "--json"]).0, 1);
    let csv = world.good(&["host", "list", "--csv"]);
    assert!(csv.starts_with("name,principals,") && csv.contains("\r\nweb1,web1 www,SHA256:"), "{csv}");
    let shown = world.good(&["host", "show", "WEB1"]);
    assert!(shown.contains("names          web1, www\n") && shown.contains("last seen      never\n"), "{shown}");
    assert!(shown.contains("key            ssh-ed25519 SHA256:"), "{shown}");
    let said = world.good(&["host", "remove", "web1", "--reason", "scrapped"]);
    assert!(said.contains("removed host web1: 1 certificate revoked") && said.contains("ussh-hostd sync"), "{said}");
    assert!(world.good(&["list"]).lines().nth(1).unwrap().contains("web1,www"));
    assert!(world.good(&["revocations"]).contains("scrapped"));
    assert!(!world.good(&["host", "list"]).contains("web1"));
    assert!(world.good(&["host", "show", "web1"]).contains("removed "));
    for verb in ["show", "remove"] {
        let (code, said) = world.bad(&["host", verb, "web9"]);
        assert!(code == 1 && said.contains("usshca host list"), "{said}");
    }
    assert_eq!(world.bad(&["host", "list", "--json", "--csv"]).0, 64);
}

#[test]
fn a_host_key_that_changes_hands_and_a_host_that_comes_back_are_said_to() {
    let world = World::init();
    let key = world.host_key("web1");
    let sign_by = |name: &str, more: &[&str]| {
        let out = world.run(&[&["host", "sign", &key, "--name", name, "--out", "c-cert.pub"], more].concat());
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let sign = |name: &str| {
        let (code, said) = sign_by(name, &[]);
        assert_eq!(code, Some(0), "{said}");
        said
    };
    assert_eq!(sign("web1"), "");
    assert_eq!(sign("web1"), "", "its own");
    let (code, said) = sign_by("web9", &[]);
    assert!(code == Some(1) && said.contains("this key is host web1's") && said.contains("--take-key"), "{said}");
    assert!(!world.good(&["host", "list"]).contains("web9"), "it came to nothing");
    let (code, said) = sign_by("web9", &["--take-key"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("this key was host web1's, and is host web9's from now on")
            && said.contains("revoke --host web1 ends"),
        "{said}"
    );
    assert_eq!(sign("web9"), "", "web1 has it no more");
    assert!(world.good(&["host", "remove", "web9"]).contains("removed host web9: 2 certificates revoked"));
    assert_eq!(world.good(&["host", "remove", "web9"]), "host web9: was removed before\n");
    assert_eq!(json(&world.good(&["host", "remove", "web9", "--json"]))["already"], true);
    assert_eq!(sign("web9"), "usshca: note: host web9 was removed; it is back\n");
    assert_eq!(sign("web9"), "");
}

#[test]
fn a_list_of_what_was_looked_for_is_1_when_it_is_empty_and_what_is_missing_is_said_with_what_to_do() {
    let world = World::init();
    let (code, said) = world.bad(&["host", "list", "--expiring", "1h"]);
    assert!(code == 1 && said.contains("no host has a certificate that ends within that time"), "{said}");
    let key = world.host_key("web1");
    world.good(&["host", "sign", &key, "--name", "web1", "--validity", "1h", "--out", "c-cert.pub"]);
    assert_eq!(world.good(&["host", "list", "--expiring", "2h"]).lines().count(), 2);
    let (code, said) = world.bad(&["key", "list", "nobody-at-all"]);
    assert!(code == 1 && said.contains("no key is registered for nobody-at-all"), "{said}");
    assert_eq!(world.good(&["key", "list"]).lines().count(), 1);

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = world.command(&["list"]).stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(73), "{out:?}");

    let away = |name: &str, words: &str| {
        let (path, aside) = (world.ca().join(name), world.ca().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let (code, said) = world.bad(&["check"]);
        fs::rename(&aside, &path).unwrap();
        assert!(code == 78 && said.contains(words), "{said}");
    };
    let service = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), service).unwrap();
    away("state/user_ca", "put it back from a copy of the state folder");
    let host_key = fs::read_dir(world.ca()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let certificate = host_key.into_iter().find(|name| name.ends_with("-cert.pub")).expect("a host certificate");
    away(&certificate, "usshca host sign makes one");
    fs::write(world.ca().join("state/inventory.db"), [b'x'; 8192]).unwrap();
    let (code, said) = world.bad(&["list"]);
    assert!(code == 78 && said.contains("put back a backup"), "{said}");
}

#[test]
fn the_policy_says_how_long_a_host_certificate_lasts_and_check_reads_it() {
    let world = World::init();
    let key = world.host_key("web1");
    if is_root() {
        chown(world.dir.path().join(&key), Some(NOBODY), None).unwrap();
    }
    let policy = world.read("policy.toml");
    let with = |text: &str| fs::write(world.ca().join("policy.toml"), format!("{text}\n{policy}")).unwrap();
    with("host_validity_seconds = 3600\nhost_wildcards = [\"*.apps.example.com\"]");
    world.good(&["host", "sign", &key, "--name", "web1", "--name", "*.apps.example.com"]);
    let host: serde_json::Value = serde_json::from_str(&world.good(&["host", "show", "web1", "--json"])).unwrap();
    let valid = host["valid_before"].as_u64().unwrap() - host["enrolled"].as_u64().unwrap();
    assert_eq!(valid, 3600);
    assert!(world.ssh_keygen_l(Path::new("web1-cert.pub")).contains("*.apps.example.com"));
    for (wrong, problem) in [
        ("host_validity_seconds = 0", "host_validity_seconds must be 60 to "),
        ("host_wildcards = []", "host_wildcards must hold names such as"),
        ("host_wildcards = [\"*\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"*.com\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"*.\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"web*.example.com\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"*.*.example.com\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"*.Example.com\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"*.com.\"]", "host_wildcards must hold"),
    ] {
        with(wrong);
        let (code, said) = world.bad(&["host", "list"]);
        assert!(code == 78 && said.contains("line 1") && said.contains(problem), "{wrong}: {said}");
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn publish_writes_a_feed_that_a_host_takes_and_stock_tools_understand() {
    let world = World::init();
    let said = world.good(&["publish", "feed"]);
    assert!(said.starts_with("feed: version ") && said.contains("valid until"), "{said}");
    let folder = world.dir.path().join("feed");
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["feed", "known_hosts", "krl", "manifest", "manifest.sig", "user_ca.pub"]);
    assert!(names.iter().all(|name| mode(&folder.join(name)) == 0o644) && mode(&folder) == 0o755);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(read("user_ca.pub").starts_with(world.read("public/user_ca.pub").rsplit_once(" user CA").unwrap().0));
    assert!(read("known_hosts").starts_with("@cert-authority * ssh-ed25519 "));

    let key = world.ca().join("public/feed_key.pub");
    let key = key.to_str().unwrap();
    let first = json(&world.good(&["feed", "verify", "feed", "--key", key, "--json"]));
    assert_eq!(first["ca"], "ca");
    let version = first["version"].as_str().unwrap().to_owned();
    let (code, why) = world.bad(&["feed", "verify", "feed", "--key", "ca/public/user_ca.pub"]);
    assert!(code == 1 && why.contains("not the pinned feed key"), "{why}");
    // ssh-keygen reads the KRL, and checks the manifest.
    let keygen = |args: &[&str]| Command::new("ssh-keygen").args(args).current_dir(&folder).output().unwrap();
    assert!(keygen(&["-Q", "-l", "-f", "krl"]).status.success());
    fs::write(world.dir.path().join("allowed"), format!("ca {}", fs::read_to_string(key).unwrap())).unwrap();
    let script = "ssh-keygen -Y verify -f ../allowed -I ca -n feed@ussh -s manifest.sig < manifest";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&folder).output().unwrap().status.success());

    // What is revoked is in the next one, which is newer.
    let serial = world.serials().remove(0);
    world.good(&["revoke", &serial]);
    let second = json(&world.good(&["publish", "feed", "--valid-for", "2h", "--json"]));
    assert_ne!(second["version"], first["version"]);
    assert_eq!(second["valid_until"].as_u64().unwrap() - second["generated"].as_u64().unwrap(), 7200);
    let certificate = world.ca().join("ssh_host_ed25519_key-cert.pub");
    let asked = keygen(&["-Q", "-f", "krl", certificate.to_str().unwrap()]);
    assert!(String::from_utf8(asked.stdout).unwrap().contains("REVOKED"));
    let (code, why) = world.bad(&["feed", "verify", "feed", "--key", key, "--min-version", "99999999999"]);
    assert!(code == 1 && why.contains("going back is refused"), "{why}");
    let shown = world.good(&["feed", "show", "feed"]);
    let host_ca = world.read("public/host_ca.pub");
    let host_ca = ussh_core::keys::PublicKey::from_openssh(host_ca.trim_end()).unwrap().fingerprint();
    assert!(shown.contains(&format!("host CA        ED25519 {host_ca} for *\n")), "{shown}");
    assert!(shown.contains("signed by      ED25519 SHA256:") && shown.contains("handovers      0"), "{shown}");
    assert!(version.parse::<u64>().unwrap() > 1_700_000_000);
    assert!(world.good(&["publish", "feed", "--quiet"]).is_empty());
}

#[test]
fn publish_never_puts_an_older_feed_in_place_of_a_newer_one_nor_writes_beside_another() {
    let world = World::init();
    world.good(&["publish", "feed"]);
    world.good(&["publish", "other"]);
    let at = |name: &str| world.dir.path().join(name);
    let newer = fs::read(at("other/feed")).unwrap();
    // Two CAs that share a folder, or a CA whose clock went back: the newer feed is there already.
    world.good(&["publish", "third", "--unsigned"]);
    fs::copy(world.ca().join("state/feed_key"), at("key")).unwrap();
    world.good(&["publish", "feed"]);
    fs::copy(at("feed/feed"), at("third/feed")).unwrap();
    let (code, why) = if is_root() {
        chown(at("key"), Some(NOBODY), None).unwrap();
        world.bad(&["feed", "sign", "third", "--key", "key"])
    } else {
        world.bad(&["feed", "sign", "third", "--key", "key"])
    };
    assert!(code == 1 && why.contains("newer than this one"), "{why}");
    assert_eq!(fs::read(at("third/feed")).unwrap(), fs::read(at("feed/feed")).unwrap());
    assert_eq!(fs::read(at("other/feed")).unwrap(), newer);

    let held = fs::File::open(at("feed")).unwrap();
    held.lock().unwrap();
    let (code, why) = world.bad(&["publish", "feed"]);
    assert!(code == 69 && why.contains("somebody else is publishing"), "{why}");
    drop(held);
    let (code, why) = world.bad(&["publish", "no/such/folder"]);
    assert!(code == 73 && why.contains("no/such/folder"), "{why}");
}

/// Files of the same names are somebody's there, `~/.ssh/known_hosts` for one.
#[test]
fn publish_takes_a_new_folder_an_empty_one_or_a_feeds_and_touches_no_other() {
    let world = World::init();
    let at = |name: &str| world.dir.path().join(name);
    let folder = |name: &str, mode: u32| {
        fs::create_dir(at(name)).unwrap();
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
        if is_root() {
            chown(at(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    };
    let listed = |name: &str| fs::read_dir(at(name)).unwrap().count();
    folder("ssh", 0o700);
    fs::write(at("ssh/known_hosts"), "mine").unwrap();
    fs::write(at("a-file"), "mine").unwrap();
    folder("everybodys", 0o777);
    folder("groups", 0o775);
    for (name, why) in [
        ("ssh", "no feed's folder: there is known_hosts in it"),
        ("everybodys", "others may write to it"),
        ("groups", "others may write to it"),
        ("a-file", "a-file"),
    ] {
        for more in [&[][..], &["--unsigned"]] {
            let (code, said) = world.bad(&[&["publish", name][..], more].concat());
            assert!(code == 73 && said.contains(why), "{name}: {said}");
        }
    }
    assert_eq!((fs::read_to_string(at("ssh/known_hosts")).unwrap().as_str(), listed("ssh")), ("mine", 1));
    assert_eq!((listed("everybodys"), listed("groups")), (0, 0));
    if is_root() {
        folder("others", 0o755);
        chown(at("others"), Some(NOBODY - 1), None).unwrap();
        let (code, said) = world.bad(&["publish", "others"]);
        assert!(code == 73 && said.contains("it belongs to uid 65533"), "{said}");
    }

    folder("empty", 0o755);
    world.good(&["publish", "empty"]);
    // What a killed writer leaves, before anything was in its place; and what people put beside a feed.
    folder("killed", 0o755);
    fs::write(at("killed/.feed.new"), "half").unwrap();
    if is_root() {
        chown(at("killed/.feed.new"), Some(NOBODY), None).unwrap();
    }
    world.good(&["publish", "killed"]);
    fs::write(at("killed/index.html"), "hello").unwrap();
    world.good(&["publish", "killed"]);
    world.good(&["publish", "draft", "--unsigned"]);
    world.good(&["publish", "draft"]);
    assert_eq!(listed("killed"), 7);
    // A feed that is none any more is replaced, as long as nothing else lies there.
    fs::write(at("empty/feed"), "junk").unwrap();
    world.good(&["publish", "empty"]);
}

/// Whoever owns the folder above puts another one there, a link to one or the empty one of somebody's ~/.ssh, before the CA looks or after it.
#[test]
fn publish_writes_below_no_folder_in_which_others_can_put_another_one() {
    let world = World::init();
    let at = |name: &str| world.dir.path().join(name);
    let give = |name: &str, uid: u32, mode: u32| {
        if is_root() {
            chown(at(name), Some(uid), None).unwrap();
        }
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    };
    for folder in ["victim", "www", "www/feed", "groups", "tmp"] {
        fs::create_dir(at(folder)).unwrap();
        give(folder, NOBODY, 0o755);
    }
    std::os::unix::fs::symlink("../victim", at("www/link")).unwrap();
    std::os::unix::fs::symlink("../victim", at("tmp/link")).unwrap();
    give("groups", NOBODY, 0o775);
    give("tmp", NOBODY, 0o1777);
    let mut cases = vec![("groups/feed", "groups (uid")];
    if is_root() {
        give("www", NOBODY - 1, 0o755);
        std::os::unix::fs::lchown(at("tmp/link"), Some(NOBODY - 1), None).unwrap();
        cases.extend([("www/feed", "www (uid 65533"), ("www/link", "www (uid 65533"), ("www/new", "www (uid 65533")]);
        cases.push(("tmp/link", "tmp/link (uid 65533"));
    }
    for (folder, whose) in cases {
        let (code, said) = world.bad(&["publish", folder]);
        assert!(code == 73 && said.contains("others can write to") && said.contains(whose), "{folder}: {said}");
    }
    for folder in ["victim", "www/feed", "groups"] {
        assert_eq!(fs::read_dir(at(folder)).unwrap().count(), 0, "{folder}");
    }
    world.good(&["publish", "tmp/feed"]);
}

/// It would wait for somebody who writes to it.
#[test]
fn a_pipe_or_a_link_in_the_place_of_a_feed_keeps_nobody_waiting_and_is_replaced() {
    let world = World::init();
    let at = |name: &str| world.dir.path().join(name);
    world.good(&["publish", "feed"]);
    let other = fs::read(at("feed/feed")).unwrap();
    for make in ["mkfifo feed/feed", "ln -s ../elsewhere feed/feed", "mkfifo feed/feed.unsigned"] {
        let place = make.rsplit_once(' ').unwrap().1;
        let _ = fs::remove_file(at(place));
        assert!(Command::new("sh").args(["-c", make]).current_dir(world.dir.path()).status().unwrap().success());
        fs::write(at("elsewhere"), &other).unwrap();
        let publish = ["20", world.programs.path().join("usshca").to_str().unwrap(), "--dir"].map(str::to_owned);
        let mut command = Command::new("timeout");
        command.args(publish).arg(world.ca()).args(["publish", "feed"]).current_dir(world.dir.path());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let out = command.stdin(Stdio::null()).output().unwrap();
        assert!(out.status.success(), "{make}: {out:?}");
        assert!(fs::symlink_metadata(at("feed/feed")).unwrap().is_file(), "{make}");
        assert!(!at("feed/feed.unsigned").exists());
        assert_eq!(fs::read(at("elsewhere")).unwrap(), other, "behind a link nothing changes");
    }
    fs::remove_file(at("feed/feed")).unwrap();
    assert!(Command::new("mkfifo").arg(at("feed/feed")).status().unwrap().success());
    let (code, why) = world.bad(&["feed", "show", "feed"]);
    assert!(code == 64 && why.contains("no regular file"), "{why}");
}

/// A power cut must not leave a name without its file, nor the new single files beside the old feed.
#[test]
fn each_file_of_a_feed_is_on_disk_before_it_has_its_name_and_the_name_before_the_next_one() {
    let world = World::init();
    let log = world.dir.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-y", "-e", "trace=fsync,renameat", "-o"]).arg(&log);
    command.arg(world.programs.path().join("usshca")).arg("--dir").arg(world.ca()).args(["publish", "feed"]);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    assert!(command.current_dir(world.dir.path()).stdin(Stdio::null()).output().expect("strace").status.success());
    let log = fs::read_to_string(log).unwrap();
    let is_one = |line: &&str| line.starts_with("fsync(") || line.starts_with("renameat(");
    let calls: Vec<&str> = log.lines().filter(is_one).collect();
    let mut named = Vec::new();
    for (number, call) in calls.iter().enumerate().filter(|(_, call)| call.starts_with("renameat(")) {
        // renameat(5</path/feed>, ".krl.new", 5</path/feed>, "krl")
        let (from, to) = (call.split('"').nth(1).unwrap(), call.split('"').nth(3).unwrap());
        assert_eq!(call.matches("/feed>, ").count(), 2, "{call}");
        assert!(calls[number - 1].contains(&format!("/feed/{from}>")), "{calls:#?}");
        assert!(calls[number + 1].starts_with("fsync(") && calls[number + 1].contains("/feed>)"), "{calls:#?}");
        named.push(to);
    }
    assert_eq!(named, ["feed", "user_ca.pub", "krl", "known_hosts", "manifest", "manifest.sig"]);
}

#[test]
fn the_configuration_says_for_which_hosts_the_feed_is_and_show_shows_it() {
    let world = World::init();
    let config =
        world.read("usshca.toml").replace("# known_hosts_pattern = \"*\"", "known_hosts_pattern = \"*.example.com\"");
    fs::write(world.ca().join("usshca.toml"), config).unwrap();
    world.good(&["publish", "feed"]);
    assert!(
        fs::read_to_string(world.dir.path().join("feed/known_hosts"))
            .unwrap()
            .starts_with("@cert-authority *.example.com ssh-")
    );
    let shown = world.good(&["feed", "show", "feed"]);
    assert!(shown.lines().any(|line| line.starts_with("host CA ") && line.ends_with(" for *.example.com")), "{shown}");
}

#[test]
fn a_feed_key_may_be_elsewhere_and_hand_over_there() {
    let world = World::init();
    world.good(&["publish", "feed"]);
    let pin = world.ca().join("public/feed_key.pub");
    let first = world.dir.path().join("first.pub");
    fs::copy(&pin, &first).unwrap();
    let key_of = |file: &Path| fs::read_to_string(file).unwrap().split(' ').nth(1).unwrap().trim().to_owned();
    let (second, third) = (world.host_key("second"), world.host_key("third"));
    if is_root() {
        for name in ["second", "third"] {
            chown(world.dir.path().join(name), Some(NOBODY), None).unwrap();
        }
    }
    let said = world.good(&["feed", "key", "rotate", "--to", &second]);
    assert!(
        said.contains("held: elsewhere") && said.contains("publish --unsigned DIR, and where the key is"),
        "{said}"
    );
    assert!(said.contains("kept in the CA's state folder as feed_key.old: destroy it once a feed"), "{said}");
    // What hosts pin that are enrolled from here on.
    assert_eq!(key_of(&pin), key_of(&world.dir.path().join(&second)));
    let (code, why) = world.bad(&["publish", "feed"]);
    assert!(code == 1 && why.contains("feed sign"), "{why}");
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    let config = config.replace("0.0.0.0:2222", "127.0.0.1:0").replace("# publish = ", "publish = ");
    fs::write(world.ca().join("usshca.toml"), config).unwrap();
    let said = String::from_utf8(world.run(&["check"]).stderr).unwrap();
    assert!(
        said.contains("the feed key is elsewhere") && said.contains("usshca feed sign /var/lib/usshca/feed"),
        "{said}"
    );
    let said = world.good(&["publish", "feed", "--unsigned"]);
    assert!(said.contains("feed.unsigned") && said.contains("usshca feed sign feed --key FILE"), "{said}");
    let (code, why) = world.bad(&["feed", "sign", "empty", "--key", "second"]);
    assert!(code == 64 && why.contains("no draft to sign; on the CA: usshca publish --unsigned DIR"), "{why}");
    let (code, why) = world.bad(&["feed", "sign", "feed", "--key", "third"]);
    assert!(code == 1 && why.contains("third is another one"), "{why}");
    world.good(&["feed", "sign", "feed", "--key", "second"]);
    assert!(!world.dir.path().join("feed/feed.unsigned").exists());
    let key = first.to_str().unwrap();
    let taken = json(&world.good(&["feed", "verify", "feed", "--key", key, "--json"]));
    assert_eq!(taken["handovers"], 1);

    world.good(&["publish", "feed", "--unsigned"]);
    world.good(&["feed", "sign", "feed", "--key", "second", "--successor", &third]);
    world.good(&["feed", "key", "rotate", "--handed-over", "feed"]);
    assert_eq!(key_of(&pin), key_of(&world.dir.path().join(&third)));
    world.good(&["publish", "feed", "--unsigned"]);
    world.good(&["feed", "sign", "feed", "--key", "third"]);
    for pinned in [key, second.as_str(), third.as_str()] {
        world.good(&["feed", "verify", "feed", "--key", pinned]);
    }
    let host = world.host_key("host");
    assert_eq!(world.bad(&["feed", "verify", "feed", "--key", &host]).0, 1);
}

/// Any public key can be named, of whom nobody has the private one too.
#[test]
fn a_feed_key_that_handed_over_to_a_wrong_one_can_be_put_back() {
    let world = World::init();
    let state = |name: &str| world.ca().join("state").join(name);
    let pin = world.dir.path().join("pin.pub");
    fs::copy(world.ca().join("public/feed_key.pub"), &pin).unwrap();
    // One here hands over to another here: what it is followed by is known, and nothing is left of it.
    world.good(&["feed", "key", "rotate"]);
    assert!(!state("feed_key.old").exists() && !state("feed_handovers.old").exists());
    let wrong = world.host_key("wrong");
    let key = fs::read(state("feed_key")).unwrap();
    world.good(&["feed", "key", "rotate", "--to", &wrong]);
    assert_eq!((fs::read(state("feed_key.old")).unwrap(), mode(&state("feed_key.old"))), (key, 0o600));
    assert_eq!(world.bad(&["publish", "feed"]).0, 1);
    // docs/feed.md
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/feed.md")).unwrap();
    let steps: Vec<&str> = docs.lines().filter_map(|line| line.strip_prefix("mv ")?.split("   ").next()).collect();
    assert_eq!(steps.len(), 3, "{steps:?}");
    for step in steps {
        let done = Command::new("sh").args(["-c", &format!("mv {step}")]).current_dir(state("")).status().unwrap();
        assert!(done.success(), "{step}");
    }
    let line = world.good(&["feed", "key", "show", "--public"]);
    assert_eq!(line.lines().count(), 1, "{line}");
    let key_of = |line: &str| line.split(' ').nth(1).unwrap().trim_end().to_owned();
    assert_eq!(key_of(&line), key_of(&fs::read_to_string(state("feed_key.pub")).unwrap()));
    fs::write(world.ca().join("public/feed_key.pub"), &line).unwrap();
    world.good(&["publish", "feed"]);
    world.good(&["feed", "verify", "feed", "--key", "ca/public/feed_key.pub"]);
    let taken = json(&world.good(&["feed", "verify", "feed", "--key", "pin.pub", "--json"]));
    assert_eq!(taken["handovers"], 1, "the first handover stands, the one to the wrong key does not");
}

#[test]
fn keys_that_are_encrypted_ask_for_their_passphrase() {
    let world = world();
    fs::write(world.dir.path().join("right"), "open sesame\n").unwrap();
    fs::write(world.dir.path().join("wrong"), "close sesame\n").unwrap();
    // No terminal of its own: nobody is asked.
    let with = |file: &str, arguments: &str| {
        let dir = world.ca();
        let usshca = world.programs.path().join("usshca");
        let (usshca, dir) = (usshca.display(), dir.display());
        let fd = if file.is_empty() { String::new() } else { format!("--passphrase-fd 3 3<{file}") };
        let script = format!("exec setsid -w {usshca} --dir {dir} {arguments} {fd}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(world.dir.path()).stdin(Stdio::null());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let out = command.output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    fs::write(world.dir.path().join("short"), "123456789\n").unwrap();
    let (code, why) = with("short", "init --name ca --encrypt");
    assert!(code == 64 && why.contains("must have 10 characters or more"), "{code} {why}");
    let (code, why) = with("", "init --name ca --encrypt");
    assert!(code == 64 && why.contains("no terminal to ask at"), "{why}");
    assert_eq!(with("right", "init --name ca --encrypt"), (0, String::new()));
    for name in ["user_ca", "host_ca", "feed_key"] {
        let out = Command::new("ssh-keygen")
            .args(["-y", "-P", "open sesame", "-f"])
            .arg(world.ca().join("state").join(name))
            .output();
        assert!(out.unwrap().status.success(), "{name}");
        let out =
            Command::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(world.ca().join("state").join(name)).output();
        assert!(!out.unwrap().status.success(), "{name}");
    }
    let (code, why) = with("", "list");
    assert!(
        code == 78 && why.contains("user_ca is encrypted, and there is no passphrase; there is no terminal"),
        "{why}"
    );
    let (code, why) = with("wrong", "list");
    assert!(
        code == 78 && why.contains("user_ca is encrypted, and the passphrase is wrong: it is none of those"),
        "{why}"
    );
    assert_eq!(with("right", "publish feed"), (0, String::new()));
    assert_eq!(with("", "list --passphrase-fd 0 <right"), (0, String::new()));
    let (code, why) = with("", "list --passphrase-fd 0 <wrong");
    assert!(code == 78 && why.contains("the passphrase is wrong"), "{why}");
    for number in ["1", "2", "64"] {
        let (code, why) = with("", &format!("list --passphrase-fd {number} <right"));
        assert!(code == 64 && why.contains("must be 0 (standard input), or 3 to 63"), "{number}: {why}");
    }
    // As a systemd credential.
    fs::create_dir(world.dir.path().join("credentials")).unwrap();
    fs::copy(world.dir.path().join("right"), world.dir.path().join("credentials/usshca-passphrase")).unwrap();
    let mut command = world.command(&["list"]);
    command.env("CREDENTIALS_DIRECTORY", world.dir.path().join("credentials"));
    assert!(command.stdin(Stdio::null()).output().unwrap().status.success());
    let (code, why) = with("right", "feed key rotate");
    assert!(code == 1 && why.contains("it is encrypted, and a new one would not be"), "{why}");
}

/// Whenever the writer is killed, a reader sees a whole feed: the one before, or the new one.
#[test]
fn a_publisher_that_is_killed_at_any_write_leaves_the_old_feed_or_the_new_one() {
    let world = World::init();
    world.good(&["publish", "feed"]);
    let key = fs::read_to_string(world.ca().join("public/feed_key.pub")).unwrap();
    let key = ussh_core::keys::PublicKey::from_openssh(key.trim_end()).unwrap();
    let mut last = None;
    let (mut killed, mut old, mut new) = (0, 0, 0);
    for call in ["write", "fsync", "renameat", "unlinkat", "openat"] {
        for count in 1.. {
            let mut command = Command::new("strace");
            command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-P"]);
            command.arg(world.dir.path().join("feed"));
            for name in ["feed", "user_ca.pub", "krl", "known_hosts", "manifest", "manifest.sig", "feed.unsigned"] {
                let folder = world.dir.path().join("feed");
                command.arg("-P").arg(folder.join(name)).arg("-P").arg(folder.join(format!(".{name}.new")));
            }
            command.args(["-e", &format!("inject={call}:signal=KILL:when={count}")]);
            command.arg(world.programs.path().join("usshca")).arg("--dir").arg(world.ca()).arg("publish");
            // As strace is told it, or it would not know the files by it.
            command.arg(world.dir.path().join("feed"));
            if is_root() {
                command.uid(NOBODY).gid(NOBODY);
            }
            let out = command.current_dir(world.dir.path()).stdin(Stdio::null()).output().expect("strace");
            let feed = fs::read(world.dir.path().join("feed/feed")).unwrap();
            let pinned = ussh_core::feed::Pinned { key: key.clone(), taken: last };
            let now = ussh_core::clock::Clock::now(&ussh_core::clock::SystemClock);
            let taken = ussh_core::feed::verify(&feed, &pinned, now).unwrap();
            let is_new = last.is_some_and(|last| last.version < taken.manifest().version);
            last = Some(taken.taken());
            if out.status.success() {
                assert!(is_new || last.is_none() || killed == 0);
                assert!(count > 1, "{call} is never called: what was to be tried was not");
                break;
            }
            killed += 1;
            if is_new {
                new += 1
            } else {
                old += 1
            }
            // What the next one finds does not keep it from its work.
            assert!(count < 200, "{call}: {out:?}");
        }
    }
    println!("killed {killed} times: {old} times the old feed was there, {new} times the new one");
    assert!(killed >= 20 && old >= 5 && new >= 5, "{killed} {old} {new}");
    world.good(&["publish", "feed"]);
    let left = fs::read_dir(world.dir.path().join("feed")).unwrap().count();
    assert_eq!(left, 6, "nothing is left of those that were killed");
}

#[test]
fn keys_are_registered_listed_and_removed() {
    let world = World::init();
    let public = world.host_key("id");
    let json: serde_json::Value =
        serde_json::from_str(&world.good(&["key", "register", "nobody", &public, "--json"])).unwrap();
    let fingerprint = json["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!((&json["user"], &json["already"]), (&"nobody".into(), &false.into()));
    assert!(world.good(&["key", "register", "nobody", &public]).ends_with(") is registered for nobody already\n"));
    let listed = world.good(&["key", "list", "nobody", "--json"]);
    let key: serde_json::Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!((key["fingerprint"].as_str(), key["revoked"].as_bool()), (Some(&*fingerprint), Some(false)));
    assert!(world.good(&["key", "list"]).contains(&fingerprint));
    assert_eq!(world.bad(&["key", "list", "daemon", "--json"]).0, 1);

    let (code, said) = world.bad(&["key", "register", "daemon", &public]);
    assert!(code == 1 && said.contains("this key is registered for nobody"), "{code} {said}");
    // Nobody may read a private key of root's.
    fs::set_permissions(world.dir.path().join("id"), Permissions::from_mode(0o644)).unwrap();
    let (code, said) = world.bad(&["key", "register", "daemon", "id"]);
    assert!(code == 64 && said.contains("private key"), "{code} {said}");
    let (code, said) = world.bad(&["key", "register", "a,b", &public]);
    assert!(code == 1 && said.contains("cannot be a principal"), "{code} {said}");
    let ca = world.ca().join("public/user_ca.pub");
    let (code, said) = world.bad(&["key", "register", "daemon", ca.to_str().unwrap()]);
    assert!(code == 1 && said.contains("CA's own"), "{code} {said}");

    assert!(world.good(&["key", "remove", &fingerprint]).contains("is no key of nobody any more"));
    let (code, said) = world.bad(&["key", "remove", &fingerprint]);
    assert!(code == 1 && said.contains("no such key is registered"), "{code} {said}");
    let (code, said) = world.bad(&["key", "remove", "SHA256:short"]);
    assert!(code == 64 && said.contains("key remove SHA256:short: no fingerprint"), "{code} {said}");
    world.good(&["revoke", "--key", &fingerprint]);
    let (code, said) = world.bad(&["key", "register", "nobody", &public]);
    assert!(code == 1 && said.contains("this key is revoked"), "{code} {said}");
}
