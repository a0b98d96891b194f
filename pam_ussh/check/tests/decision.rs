//! The decision from a terminal, with a real ssh-agent: as root and as an ordinary user. Needs root, for files that are trusted and for another uid.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// The account that everybody has.
const NOBODY: (&str, u32) = ("nobody", 65534);

/// A folder that is root's all the way up; gone with the value, and so are the agents.
struct World {
    folder: tempfile::TempDir,
    agents: Vec<Child>,
}

impl World {
    /// `None`: not root.
    fn new() -> Option<Self> {
        if ussh_os::process::effective_uid() != 0 {
            println!("ignored, needs root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("pam-ussh-check-").tempdir_in("/run").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = World { folder, agents: Vec::new() };
        for key in ["ca", "other_ca", "key"] {
            world.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", &world.at(key)]);
        }
        fs::copy(world.at("ca.pub"), world.at("cas")).unwrap();
        // By another process: a child that another test forks meanwhile would hold our descriptor open for writing, and the copy could not be run (ETXTBSY).
        world.run("cp", &[env!("CARGO_BIN_EXE_pam-ussh-check"), &world.at("pam-ussh-check")]);
        Some(world)
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// An agent of this uid's, and its socket.
    fn agent(&mut self, uid: u32) -> PathBuf {
        let folder = PathBuf::from(self.at(&format!("agent-{uid}")));
        fs::create_dir(&folder).unwrap();
        chown(&folder, Some(uid), Some(uid)).unwrap();
        let socket = folder.join("s");
        let mut agent = as_uid(uid, "ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It prints where it listens once it does.
        agent.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        self.agents.push(agent);
        socket
    }

    /// A certificate for the key, into the agent; the key alone goes in with it.
    fn add(&self, uid: u32, socket: &Path, ca: &str, options: &[&str]) {
        let (ca, public) = (self.at(ca), self.at("key.pub"));
        self.run("ssh-keygen", &[&["-q", "-s", &ca, "-I", "alice\x1b[2J"], options, &[&public]].concat());
        let home = socket.parent().unwrap();
        for file in ["key", "key.pub", "key-cert.pub"] {
            let copy = home.join(file);
            fs::copy(self.at(file), &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&copy, Some(uid), Some(uid)).unwrap();
        }
        let added =
            as_uid(uid, "ssh-add").arg("-q").arg(home.join("key")).env("SSH_AUTH_SOCK", socket).status().unwrap();
        assert!(added.success());
    }

    /// What it says, with JSON read.
    fn check(&self, uid: u32, socket: Option<&Path>, arguments: &[&str]) -> (i32, Value) {
        let (status, text) = self.check_text(uid, socket, &[&["--json"], arguments].concat());
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    fn check_text(&self, uid: u32, socket: Option<&Path>, arguments: &[&str]) -> (i32, String) {
        let mut command = as_uid(uid, &self.at("pam-ussh-check"));
        if let Some(socket) = socket {
            command.env("SSH_AUTH_SOCK", socket);
        }
        let output = command.args(arguments).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn as_uid(uid: u32, program: &str) -> Command {
    let id = uid.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", program])
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::null());
    command
}

fn reasons(answer: &Value) -> Vec<(&str, Option<&str>)> {
    let identities = answer["identities"].as_array().unwrap();
    identities.iter().map(|one| (one["kind"].as_str().unwrap(), one["reason"].as_str())).collect()
}

#[test]
fn an_ordinary_user_sees_each_certificate_with_its_reason_and_the_answer() {
    let Some(mut world) = World::new() else { return };
    let (name, uid) = NOBODY;
    let socket = world.agent(uid);
    let ca_file = format!("ca_file={}", world.at("cas"));
    let ask = ["--user", name, "--service", "sudo", &ca_file];

    world.add(uid, &socket, "other_ca", &["-n", name, "-V", "-1m:+1h", "-z", "1"]);
    world.add(uid, &socket, "ca", &["-n", name, "-V", "-2h:-1h", "-z", "2"]);
    world.add(uid, &socket, "ca", &["-n", "somebody", "-V", "-1m:+1h", "-z", "3"]);
    let (status, answer) = world.check(uid, Some(&socket), &ask);
    assert_eq!((status, answer["verdict"].as_str()), (1, Some("bad")), "{answer:#}");
    let all = reasons(&answer);
    for (kind, reason) in [
        ("key", "no certificate"),
        ("certificate", "is not trusted"),
        ("certificate", "certificate has expired"),
        ("certificate", "does not name a demanded principal"),
    ] {
        assert!(all.iter().any(|(k, r)| *k == kind && r.unwrap().contains(reason)), "{kind} {reason} in {answer:#}");
    }
    assert!(answer["reason"].as_str().unwrap().contains("the user's own (and 2 more tried)"), "{answer:#}");
    assert!(answer["user_text"].as_str().unwrap().starts_with("No certificate that is good for this"), "{answer:#}");

    world.add(uid, &socket, "ca", &["-n", name, "-V", "-1m:+1h", "-z", "4"]);
    let (status, answer) = world.check(uid, Some(&socket), &ask);
    assert_eq!((status, answer["verdict"].as_str(), answer["accepted"]["serial"].as_u64()), (0, Some("good"), Some(4)));
    assert_eq!(reasons(&answer).iter().filter(|(_, reason)| reason.is_none()).count(), 1, "{answer:#}");

    let (status, text) = world.check_text(uid, Some(&socket), &ask);
    assert_eq!(status, 0);
    let line =
        "sudo for nobody: accepted, with certificate ID \"alice\\x1b[2J\" (serial 4) signed by ED25519 CA SHA256:";
    assert!(text.contains(line) && !text.contains('\x1b'), "{text}");
    assert!(text.lines().any(|line| line.contains("(serial 2)") && line.contains("certificate has expired")), "{text}");
}

#[test]
fn root_asks_its_own_agent_and_no_other() {
    let Some(mut world) = World::new() else { return };
    let ca_file = format!("ca_file={}", world.at("cas"));
    let ask = ["--user", "root", "--service", "su", &ca_file];
    let (of_root, of_nobody) = (world.agent(0), world.agent(NOBODY.1));
    for (uid, socket) in [(0, &of_root), (NOBODY.1, &of_nobody)] {
        world.add(uid, socket, "ca", &["-n", "root", "-V", "-1m:+1h"]);
    }
    assert_eq!(world.check(0, Some(&of_root), &ask).0, 0);
    let (status, answer) = world.check(0, Some(&of_nobody), &ask);
    assert_eq!(status, 3, "{answer:#}");
    assert!(answer["reason"].as_str().unwrap().contains("the agent belongs to uid 65534"), "{answer:#}");
    assert_eq!(answer["identities"].as_array().unwrap().len(), 0, "{answer:#}");
}

#[test]
fn what_cannot_be_decided_is_told_from_a_refusal() {
    let Some(world) = World::new() else { return };
    let ca_file = format!("ca_file={}", world.at("cas"));
    let (name, uid) = NOBODY;
    for (arguments, status, verdict, reason) in [
        (vec!["--user", name, &*ca_file], 3, "unchecked", "no SSH_AUTH_SOCK"),
        (
            vec!["--user", name, "--service", "sshd", &*ca_file],
            3,
            "unchecked",
            "sshd judges the certificate of the login",
        ),
        (vec!["--user", name, "--service", "login", &*ca_file], 1, "bad", "misconfigured: pam_ussh in login"),
        (vec!["--user", name, "cafile=/x"], 1, "bad", "misconfigured: unknown option cafile"),
        (vec!["--user", "no-such-account", &*ca_file], 1, "bad", "no such account"),
        (vec!["--user", name, "ca_file=/nonexistent"], 1, "bad", "misconfigured: /nonexistent"),
    ] {
        let (got, answer) = world.check(uid, None, &arguments);
        assert_eq!((got, answer["verdict"].as_str()), (status, Some(verdict)), "{arguments:?} {answer:#}");
        assert!(answer["reason"].as_str().unwrap().contains(reason), "{arguments:?} {answer:#}");
    }
}

#[test]
fn what_an_ordinary_user_may_not_read_is_said_to_be_unchecked() {
    let Some(world) = World::new() else { return };
    let hidden = world.at("hidden");
    fs::create_dir(&hidden).unwrap();
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(world.at("cas"), Path::new(&hidden).join("cas")).unwrap();
    let stack = world.at("sudo");
    fs::write(&stack, format!("auth required pam_ussh.so ca_file={hidden}/cas\n")).unwrap();
    let (status, answer) = world.check(NOBODY.1, None, &["--stack", &stack]);
    assert_eq!((status, answer["verdict"].as_str()), (3, Some("unchecked")), "{answer:#}");
    let finding = &answer["stacks"][0]["findings"][0];
    assert_eq!(
        (finding["severity"].as_str(), finding["instead"].as_str()),
        (Some("unchecked"), Some("run this as root"))
    );
    assert_eq!(world.check(0, None, &["--stack", &stack]).0, 0);
}

#[test]
fn a_revocation_list_that_only_root_may_read_leaves_the_decision_open() {
    let Some(mut world) = World::new() else { return };
    let (name, uid) = NOBODY;
    let socket = world.agent(uid);
    world.add(uid, &socket, "ca", &["-n", name, "-V", "-1m:+1h"]);
    let list = world.at("revoked_keys");
    fs::write(&list, "# nothing\n").unwrap();
    fs::set_permissions(&list, fs::Permissions::from_mode(0o600)).unwrap();
    let (ca_file, revoked) = (format!("ca_file={}", world.at("cas")), format!("revoked_keys={list}"));
    let ask = ["--user", name, &ca_file, &revoked];

    let (status, answer) = world.check(uid, Some(&socket), &ask);
    assert_eq!((status, answer["verdict"].as_str()), (3, Some("unchecked")), "{answer:#}");
    assert_eq!((answer["hidden"].as_str(), answer.get("user_text")), (Some(&*list), None), "{answer:#}");
    let (_, text) = world.check_text(uid, Some(&socket), &ask);
    let line = format!("sudo for nobody: not decided: only root may read {list}; sudo may well accept");
    assert!(text.lines().any(|one| one == line) && !text.contains("the user reads"), "{text}");

    let config = world.at("pam_ussh.toml");
    fs::write(&config, "[default]\n").unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let by_file = format!("config={config}");
    let (status, answer) = world.check(uid, Some(&socket), &["--user", name, &ca_file, &by_file]);
    assert_eq!((status, answer["hidden"].as_str()), (3, Some(&*config)), "{answer:#}");

    // What can be read is enough for a no.
    let (status, answer) = world.check(uid, Some(&socket), &["--user", name, "ca_file=/nonexistent", &revoked]);
    assert_eq!((status, answer["verdict"].as_str(), answer.get("hidden")), (1, Some("bad"), None), "{answer:#}");
    fs::set_permissions(&list, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(world.check(uid, Some(&socket), &ask).0, 0);
}

#[test]
fn options_may_stand_in_the_brackets_of_a_stack_file() {
    let Some(world) = World::new() else { return };
    let ca_file = format!("ca_file={}", world.at("cas"));
    let ask = ["--user", NOBODY.0, &ca_file, "[cue_prompt=Touch the key]"];
    let (status, answer) = world.check(NOBODY.1, None, &ask);
    assert_eq!((status, answer["reason"].as_str()), (3, Some("no SSH_AUTH_SOCK")), "{answer:#}");
    assert_eq!(answer["options"]["arguments"], serde_json::json!([ca_file, "cue_prompt=Touch the key"]));
    let (_, text) = world.check_text(NOBODY.1, None, &ask);
    let first = format!("judged by {ca_file} [cue_prompt=Touch the key] (from the command line)");
    assert!(text.starts_with(&first), "{text}");
}

#[test]
fn what_is_wrong_in_the_file_is_told_with_its_place_and_in_its_words() {
    let Some(world) = World::new() else { return };
    let config = world.at("pam_ussh.toml");
    for (text, said) in [
        ("", format!("{config}: it is empty")),
        ("[services.su]\n", format!("{config}: unknown option services")),
        ("ca_file = \"/x\"\n", "instead: write ca_file below [default] or [service.NAME]\n".into()),
        ("[default]\ntimeout_seconds = 1000\n", format!("{config} [default]: option timeout must be at most 5m")),
        ("[default]\ntimeout_seconds = 1000\n", "instead: for example timeout_seconds = 5\n".into()),
    ] {
        fs::write(&config, text).unwrap();
        let (status, told) = world.check_text(0, None, &["--options", &format!("config={config}")]);
        assert_eq!(status, 1, "{told}");
        assert!(told.contains(&said) && !told.contains("[]"), "{said}\nin\n{told}");
    }
}

/// An agent of root's that reads one question, answers with these bytes and hangs up, or waits for the other end to.
fn scripted(socket: &str, answer: &'static [u8], hangs_up: bool) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 5];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(answer).unwrap();
        if !hangs_up {
            let _ = stream.read(&mut [0]);
        }
    });
}

#[test]
fn why_an_agent_did_not_answer_is_told_as_the_module_does() {
    let Some(world) = World::new() else { return };
    let ca_file = format!("ca_file={}", world.at("cas"));
    for (name, answer, hangs_up, reason) in [
        ("large", &[0xff; 4][..], false, "message too large"),
        ("refuses", &[0, 0, 0, 1, 5], false, "the agent refused"),
        ("mute", &[], false, "no answer in time"),
        ("torn", &[0, 0, 0, 9, 12], true, "closed"),
        ("nonsense", &[0, 0, 0, 2, 12, 0], false, "malformed"),
    ] {
        let socket = world.at(name);
        scripted(&socket, answer, hangs_up);
        let ask = ["--user", "root", "--service", "su", &ca_file, "timeout=1s"];
        let (_, told) = world.check(0, Some(Path::new(&socket)), &ask);
        let told = told["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{name}: {reason} in {told}");
    }
}

#[test]
fn what_is_looked_at_twice_is_told_once() {
    let Some(mut world) = World::new() else { return };
    let (name, uid) = NOBODY;
    let socket = world.agent(uid);
    world.add(uid, &socket, "ca", &["-n", name, "-V", "-1m:+1h", "-O", "source-address=192.0.2.0/24"]);
    let (_, answer) = world.check(uid, Some(&socket), &["--user", name, &format!("ca_file={}", world.at("cas"))]);
    let steps: Vec<&str> = answer["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect();
    assert_eq!(steps.iter().filter(|step| step.starts_with("no origin: ")).count(), 1, "{answer:#}");
}

#[test]
fn a_decision_of_a_module_that_is_not_there_is_not_the_service_s() {
    let Some(mut world) = World::new() else { return };
    let socket = world.agent(0);
    world.add(0, &socket, "ca", &["-n", "root", "-V", "-1m:+1h"]);
    let line = format!("auth required pam_ussh.so ca_file={}", world.at("cas"));
    // A host of its own, as far as stacks and modules go.
    let script = r#"
        set -e
        mount -t tmpfs none /etc/pam.d
        echo "$1" > /etc/pam.d/sudo
        for folder in /lib/*/security /usr/lib/*/security /lib/security /usr/lib/security; do
            test ! -d $folder || { mount -t tmpfs none $folder && touch $folder/pam_unix.so; }
        done
        test $2 = without || for folder in /usr/lib/*/security; do touch $folder/pam_ussh.so; done
        set +e
        "$3" --user root
        echo status $?
    "#;
    for (module, status) in [("with", 0), ("without", 3)] {
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-c", script, "sh", &line, module]);
        let output = command.arg(world.at("pam-ussh-check")).env("SSH_AUTH_SOCK", &socket).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(said.ends_with(&format!("status {status}\n")) && said.contains("sudo for root: accepted"), "{said}");
        let missing = "but pam_ussh.so is not on this host: sudo cannot ask it";
        assert_eq!(said.contains(missing), module == "without", "{said}");
    }
}

#[test]
fn a_line_in_a_file_that_only_root_may_read_is_not_said_to_be_none() {
    let Some(world) = World::new() else { return };
    let script = r#"
        mount -t tmpfs -o mode=755 none /etc/pam.d
        echo "@include ours" > /etc/pam.d/sudo
        echo "auth required pam_ussh.so" > /etc/pam.d/ours
        chmod 600 /etc/pam.d/ours
        setpriv --reuid 65534 --regid 65534 --clear-groups "$1" --user nobody
        echo status $?
    "#;
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", script, "sh", &world.at("pam-ussh-check")]);
    let output = command.env_remove("SSH_AUTH_SOCK").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let why = "(from the defaults: /etc/pam.d/sudo:1: `ours` is included and not for you to read (/etc/pam.d/ours))";
    assert!(said.contains(why) && said.ends_with("status 3\n"), "{said}");
}
