//! `ussh` as a program, with a real ssh-agent, and an `ssh` that records what it was started with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use ussh_core::agent::{Agent, Constraints};
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::PrivateKey;

/// A user with a home folder, an agent, a CA that he trusts, and a PATH with a recording ssh.
struct User {
    folder: TempDir,
    agent: Child,
    ca: PrivateKey,
}

impl User {
    fn new() -> Self {
        // Not in /tmp, which is everybody's: `ussh` would take no file from there. Nor in /run, where nothing may be executed on some machines.
        // Root's own home is often closed to everybody else, and one of the tests is somebody else.
        let is_root = nix::unistd::geteuid().is_root();
        let home = if is_root { "/var/lib".into() } else { std::env::var_os("HOME").unwrap() };
        let folder = tempfile::Builder::new().prefix(".ussh-test-").tempdir_in(home).unwrap();
        let mut agent = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(folder.path().join("agent"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(agent.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let user = User { folder, agent, ca: PrivateKey::generate_ed25519().unwrap() };
        user.write(
            "home/.config/ussh/ussh.toml",
            &format!("user_ca_file = \"{}\"\nca_user = \"alice\"\n", user.path("user_ca.pub").display()),
            0o644,
        );
        user.write("user_ca.pub", &format!("{}\n", user.ca.public_key().to_openssh("user CA")), 0o644);
        // Process, arguments and environment, each ended by NUL; and it says whose exit status this is.
        user.write(
            "ssh.sh",
            "#!/bin/sh\nprintf '%s\\0' \"$$\" \"$@\" >\"$RECORD\"\n/bin/cat /proc/$$/environ >\"$RECORD.environment\"\nexit 23\n",
            0o644,
        );
        std::fs::create_dir(user.path("bin")).unwrap();
        user.install(&user.path("ssh.sh"), "bin/ssh");
        user
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    /// What a login at a CA needs.
    fn trust_a_host_ca(&self) {
        self.write("known_hosts", "@cert-authority * ssh-ed25519 AAAA\n", 0o644);
        let configured = std::fs::read_to_string(self.path("home/.config/ussh/ussh.toml")).unwrap();
        self.write(
            "home/.config/ussh/ussh.toml",
            &format!("{configured}known_hosts = \"{}\"\n", self.path("known_hosts").display()),
            0o644,
        );
    }
    /// A program, copied by a process of its own: a descriptor that is open for writing here could be inherited by another
    /// test's child, and the kernel would not run the file meanwhile.
    fn install(&self, from: &Path, name: &str) {
        let mut install = Command::new("install");
        install.args(["-m", "0755"]).arg(from).arg(self.path(name));
        assert!(install.status().unwrap().success());
    }
    fn agent(&self) -> Agent {
        Agent::new(UnixStream::connect(self.path("agent")).unwrap(), Duration::from_secs(10))
    }
    fn hold_certificate(&self, seconds_left: u64) -> Certificate {
        self.hold_certificate_of("alice", seconds_left)
    }
    fn hold_certificate_of(&self, key_id: &str, seconds_left: u64) -> Certificate {
        let key = PrivateKey::generate_ed25519().unwrap();
        let now = SystemClock.now().0;
        let template = CertificateTemplate {
            public_key: key.public_key(),
            serial: 42,
            kind: CertificateKind::User,
            key_id: key_id.to_owned(),
            principals: vec!["alice".to_owned(), "ops".to_owned()],
            valid_after: UnixTime(now - 60),
            valid_before: UnixTime(now + seconds_left),
            critical_options: vec![],
            extensions: vec![],
        };
        let certificate = template.sign(&self.ca).unwrap();
        self.agent().add_certificate(&certificate, &key, "alice", &Constraints::default()).unwrap();
        certificate
    }
    fn ussh<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_ussh")), arguments)
    }
    fn command<S: AsRef<OsStr>>(&self, program: &Path, arguments: &[S]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PATH", self.path("bin"))
            .env("RECORD", self.path("record"))
            .env("SSH_AUTH_SOCK", self.path("agent"));
        command
    }
    /// What the recording ssh got: its process number and its arguments. None: it did not run.
    fn recorded(&self) -> Option<(u32, Vec<OsString>)> {
        let record = std::fs::read(self.path("record")).ok()?;
        let mut words =
            record.strip_suffix(b"\0")?.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
        let process = words.next()?.to_str()?.parse().ok()?;
        Some((process, words.collect()))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn with_a_good_certificate_ssh_gets_every_byte_in_the_same_process() {
    let user = User::new();
    user.hold_certificate(3600);
    let lines: Vec<Vec<OsString>> = [
        &[&b"web1"[..]][..],
        &[b"-v", b"-p", b"2222", b"alice@web1", b"ls", b"-l", b"a b", b"", b"$(id)", b"`x`", b"*"],
        &[b"-oProxyCommand=nc %h %p", b"--", b"web1", b"--status"],
        &[b"web1", b"\xff\xfe\x80", b"\n\t\r", b"'\"\\"],
        &[b"", b"web1"],
        &[b"-o", b"", b"web1", b"--login"],
        &[b"-tt", b"-A", b"-J", b"hop", b"ssh://alice@web1:22", b"--help"],
        &[b"-W", b"web1:22", b"hop"],
        &[b"-V"],
        &[b"-v", b"--unknown", b"web1"],
    ]
    .iter()
    .map(|line| line.iter().map(|word| OsStr::from_bytes(word).to_owned()).collect())
    .collect();
    for line in lines {
        let child = user.ussh(&line).stdin(Stdio::null()).spawn().unwrap();
        let process = child.id();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(23), "{line:?}: ssh's own exit status");
        assert_eq!(user.recorded(), Some((process, line)));
        std::fs::remove_file(user.path("record")).unwrap();
    }
}

#[test]
fn the_environment_is_passed_on_as_it_is() {
    let user = User::new();
    user.hold_certificate(3600);
    let mut command = user.ussh(&["web1"]);
    command.env("ODD", OsStr::from_bytes(b"\xff=\n"));
    assert_eq!(command.status().unwrap().code(), Some(23));
    let through_ussh = std::fs::read(user.path("record.environment")).unwrap();
    assert!(through_ussh.windows(9).any(|window| window == b"\0ODD=\xff=\n\0"));
    let mut direct = user.command(&user.path("bin/ssh"), &["web1"]);
    assert_eq!(direct.env("ODD", OsStr::from_bytes(b"\xff=\n")).status().unwrap().code(), Some(23));
    assert_eq!(through_ussh, std::fs::read(user.path("record.environment")).unwrap());
}

#[test]
fn under_the_name_of_ssh_it_finds_the_real_one_and_not_itself() {
    let user = User::new();
    user.hold_certificate(3600);
    std::fs::create_dir(user.path("own")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ussh"), user.path("own/ssh")).unwrap();
    let path = std::env::join_paths([user.path("own"), user.path("bin")]).unwrap();
    let status = user.command(&user.path("own/ssh"), &["web1"]).env("PATH", path).status().unwrap();
    assert_eq!(status.code(), Some(23));
    let alone = user.command(&user.path("own/ssh"), &["web1"]).env("PATH", user.path("own")).output().unwrap();
    assert_eq!(alone.status.code(), Some(69));
    assert!(stderr(&alone).contains("no program `ssh` found"), "{}", stderr(&alone));
}

#[test]
fn what_makes_no_connection_needs_neither_agent_nor_configuration() {
    let user = User::new();
    user.write("home/.config/ussh/ussh.toml", "broken", 0o644);
    let status = user.ussh(&["-Q", "cipher"]).env_remove("SSH_AUTH_SOCK").status().unwrap();
    assert_eq!(status.code(), Some(23));
}

#[test]
fn without_an_agent_it_says_what_to_do() {
    let user = User::new();
    let unset = user.ussh(&["web1"]).env_remove("SSH_AUTH_SOCK").output().unwrap();
    let dead = user.ussh(&["web1"]).env("SSH_AUTH_SOCK", user.path("nobody")).output().unwrap();
    for (output, wanted) in [(unset, "SSH_AUTH_SOCK is not set"), (dead, "no ssh-agent answers at")] {
        assert_eq!(output.status.code(), Some(69));
        let text = stderr(&output);
        assert!(text.contains(wanted) && text.contains("eval \"$(ssh-agent)\""), "{text}");
    }
    assert_eq!(user.recorded(), None);
}

#[test]
fn another_users_agent_is_refused() {
    let user = User::new();
    user.hold_certificate(3600);
    let bin = user.path("ussh");
    user.install(Path::new(env!("CARGO_BIN_EXE_ussh")), "ussh");
    if std::os::unix::fs::chown(user.path("user_ca.pub"), Some(0), None).is_err() {
        return;
    }
    for name in ["", "agent"] {
        std::fs::set_permissions(
            user.path(name),
            PermissionsExt::from_mode(if name.is_empty() { 0o755 } else { 0o777 }),
        )
        .unwrap();
    }
    let output = user.command(&bin, &["web1"]).uid(65_534).gid(65_534).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("belongs to uid 0, not to you"), "{}", stderr(&output));
    assert_eq!(user.recorded(), None);
}

#[test]
fn without_a_good_certificate_and_without_a_ca_ssh_does_not_run() {
    let user = User::new();
    user.hold_certificate(30);
    let output = user.ussh(&["web1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("no CA is configured"), "{}", stderr(&output));
    assert_eq!(user.recorded(), None);
}

/// Whether `ussh` waits for ssh: SIGTERM is blocked then, and SIGUSR1 is not. (While it starts it, libc blocks all for a moment; of the others it blocks those that were not ignored from the start.)
fn passes_signals_on(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
    let blocked = u64::from_str_radix(blocked, 16).unwrap();
    let is_blocked = |signal: i32| blocked & (1 << (signal - 1)) != 0;
    is_blocked(nix::libc::SIGTERM) && !is_blocked(nix::libc::SIGUSR1)
}

#[test]
fn one_signal_ends_a_login_whose_ssh_does_not_hear_it() {
    let user = User::new();
    user.trust_a_host_ca();
    user.write("deaf.sh", "#!/bin/sh\ntrap '' TERM\necho deaf\nexec /bin/sleep 30\n", 0o644);
    user.install(&user.path("deaf.sh"), "bin/ssh");
    let mut ussh = user.ussh(&["--login"]).env("USSH_CA", "ca.example.com").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(ussh.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "deaf"));
    let begun = Instant::now();
    // Before it blocks the signal it would simply end by it.
    while !passes_signals_on(ussh.id()) {
        assert!(begun.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(10));
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(ussh.id().cast_signed()), nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(ussh.wait().unwrap().signal(), Some(nix::libc::SIGTERM));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_certificate_of_another_account_does_not_count() {
    let user = User::new();
    user.hold_certificate_of("mallory", 3600);
    user.hold_certificate_of("Alice", 3600);
    let output = user.ussh(&["web1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "it would log in: {}", stderr(&output));
    assert_eq!(user.recorded(), None);
    assert_eq!(user.ussh(&["--check"]).status().unwrap().code(), Some(1));
    let shown = String::from_utf8(user.ussh(&["--status"]).output().unwrap().stdout).unwrap();
    assert!(shown.contains("refused (its key ID is \"mallory\", not \"alice\")"), "{shown}");
    user.hold_certificate(3600);
    assert_eq!(user.ussh(&["web1"]).status().unwrap().code(), Some(23));
    assert_eq!(user.ussh(&["--logout"]).output().unwrap().stdout, b"3 certificates removed\n");
}

#[test]
fn what_is_said_after_a_failed_login_fits_who_refused() {
    let user = User::new();
    user.trust_a_host_ca();
    for (code, wanted) in [
        (
            255,
            [
                "the login at the CA ca.example.com as alice failed: ssh has ended without a word",
                "there is no terminal to ask on",
            ],
        ),
        (1, ["the CA ca.example.com let alice in, but gave no certificate", "see what it said above"]),
        (0, ["but no good certificate has come", "check `user_ca_file`"]),
    ] {
        user.write("refusing.sh", &format!("#!/bin/sh\nexit {code}\n"), 0o644);
        user.install(&user.path("refusing.sh"), "bin/ssh");
        // In a session of its own it has no terminal, wherever this test runs.
        let in_session = [OsStr::new("--wait"), OsStr::new(env!("CARGO_BIN_EXE_ussh")), OsStr::new("--login")];
        let mut command = user.command(Path::new("/usr/bin/setsid"), &in_session);
        let output = command.env("USSH_CA", "ca.example.com").output().unwrap();
        assert_eq!(output.status.code(), Some(69));
        for words in wanted {
            assert!(stderr(&output).contains(words), "{code}: {}", stderr(&output));
        }
    }
}

#[test]
fn check_answers_by_its_exit_status_alone() {
    let user = User::new();
    let check = |user: &User| {
        let output = user.ussh(&["--check"]).output().unwrap();
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{}", stderr(&output));
        output.status.code()
    };
    assert_eq!(check(&user), Some(1));
    user.hold_certificate(30);
    assert_eq!(check(&user), Some(1), "it ends within renew_before_seconds");
    user.hold_certificate(3600);
    assert_eq!(check(&user), Some(0));
    user.agent().remove(user.agent().list().unwrap()[1].blob.as_slice()).unwrap();
    assert_eq!(check(&user), Some(1));
    assert_eq!(user.ussh(&["--check"]).env_remove("SSH_AUTH_SOCK").status().unwrap().code(), Some(1));
}

#[test]
fn a_broken_configuration_stops_everything_with_file_and_line() {
    let user = User::new();
    user.hold_certificate(3600);
    user.write("home/.config/ussh/ussh.toml", "ca = \"ca\"\nca_usr = \"alice\"\n", 0o644);
    for arguments in [&["web1"][..], &["--check"], &["--status"], &["--login"], &[]] {
        let output = user.ussh(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        assert!(
            stderr(&output).contains("home/.config/ussh/ussh.toml:2: unknown field `ca_usr`"),
            "{}",
            stderr(&output)
        );
    }
    assert_eq!(user.recorded(), None);
}

#[test]
fn status_shows_agent_and_certificates_with_the_time_left() {
    let user = User::new();
    let text = user.ussh(&["--status"]).output().unwrap();
    assert_eq!(text.status.code(), Some(1));
    user.hold_certificate(2 * 3600 + 30);
    let text = user.ussh(&["--status"]).env("USSH_CA", "ca.example.com:2222").output().unwrap();
    assert_eq!(text.status.code(), Some(0));
    let shown = String::from_utf8(text.stdout).unwrap();
    for wanted in [
        user.path("agent").to_str().unwrap(),
        "ca.example.com:2222",
        "ID \"alice\" serial 42 for alice,ops: good, 2 h 0 min left",
    ] {
        assert!(shown.contains(wanted), "{shown}");
    }
    let json = user.ussh(&["--status", "--json"]).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["good"], true);
    assert_eq!(value["certificates"][0]["serial"], "42");
    assert_eq!(value["certificates"][0]["standing"], "good");
}

#[test]
fn no_arguments_and_a_good_certificate_need_no_ca() {
    let user = User::new();
    user.hold_certificate(3600);
    let output = user.ussh::<&str>(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        String::from_utf8(output.stdout).unwrap().starts_with("certificate ID \"alice\" serial 42, good for another ")
    );
    assert_eq!(user.recorded(), None);
}

#[test]
fn logout_removes_our_cas_certificates_and_leaves_other_keys() {
    let user = User::new();
    user.hold_certificate(3600);
    user.hold_certificate(30);
    let key = user.path("key");
    assert!(
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap().success()
    );
    assert!(
        Command::new("ssh-add")
            .arg("-q")
            .arg(&key)
            .env("SSH_AUTH_SOCK", user.path("agent"))
            .status()
            .unwrap()
            .success()
    );
    let output = user.ussh(&["--logout"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"2 certificates removed\n"[..]));
    let left = user.agent().list().unwrap();
    assert_eq!(left.len(), 1);
    assert!(!Certificate::is_certificate_blob(&left[0].blob));
}

#[test]
fn verbs_take_no_stray_arguments_and_help_says_how() {
    let user = User::new();
    let output = user.ussh(&["--check", "web1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--help"));
    let mistyped = user.ussh(&["--logn"]).output().unwrap();
    assert_eq!(mistyped.status.code(), Some(64));
    assert!(stderr(&mistyped).contains("did you mean --login?"), "{}", stderr(&mistyped));
    let help = user.ussh(&["--help"]).output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    for word in ["--login", "--force", "--check", "--status", "--logout", "--version", "USSH_CA", "/etc/ussh/ussh.toml"]
    {
        assert!(text.contains(word), "{word}");
    }
    assert_eq!(user.recorded(), None);
}
