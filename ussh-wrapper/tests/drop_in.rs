//! In ssh's place: what `ssh` is started with by `ussh` is what it would have been started with without, but for one option where that is due.
//!
//! A recording `ssh` writes down its arguments, environment, descriptors, signals, folder and umask, and hands `-G` on to the real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use ussh_core::agent::{Agent, Constraints};
use ussh_core::certificate::CertificateKind;
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::PrivateKey;

/// What our hosts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    /// `-o ForwardAgent=…` in front: the host is one of ours, and nobody has chosen.
    Forward,
    /// Nothing.
    Nothing,
}
use Added::{Forward, Nothing};

/// Command lines as a shell would split them: words by blanks; `_` stands for a blank within a word, `~` for an empty word.
const LINES: [(&str, Added); 92] = [
    // The ordinary ones.
    ("web1", Forward),
    ("alice@web1", Forward),
    ("ssh://alice@web1:2222", Forward),
    ("ssh://web1", Forward),
    ("web1 uptime", Forward),
    ("web1 ls -la /tmp", Forward),
    ("web1 -- ls", Forward),
    ("-- web1 ls", Forward),
    ("-- alice@web1", Forward),
    ("other", Nothing),
    ("alice@other ls", Nothing),
    ("nosuchhost.example.com", Nothing),
    // Every flag without an argument.
    ("-4 web1", Forward),
    ("-6 web1", Forward),
    ("-A web1", Nothing),
    ("-a web1", Nothing),
    ("-C web1", Forward),
    ("-f -N web1", Forward),
    ("-G web1", Nothing),
    ("-g web1", Forward),
    ("-K web1", Forward),
    ("-k web1", Forward),
    ("-M web1", Forward),
    ("-N web1", Forward),
    ("-n web1 true", Forward),
    ("-q web1", Forward),
    ("-s web1 sftp", Forward),
    ("-T web1", Forward),
    ("-t web1", Forward),
    ("-V", Nothing),
    ("-v web1", Forward),
    ("-X web1", Forward),
    ("-x web1", Forward),
    ("-Y web1", Forward),
    ("-y web1", Forward),
    // Every flag with one, apart and attached.
    ("-B lo web1", Forward),
    ("-b 127.0.0.1 web1", Forward),
    ("-c aes256-ctr web1", Forward),
    ("-caes256-ctr web1", Forward),
    ("-D 1080 web1", Forward),
    ("-D 127.0.0.1:1080 web1", Forward),
    ("-E /dev/null web1", Forward),
    ("-e none web1", Forward),
    ("-e ^] web1", Forward),
    ("-F /dev/null web1", Nothing),
    ("-F none web1", Nothing),
    ("-I none web1", Forward),
    ("-i /dev/null web1", Forward),
    ("-J hop web1", Forward),
    ("-J a@hop,b@hop2:22 web1", Forward),
    ("-L 8080:localhost:80 web1", Forward),
    ("-L /tmp/s:localhost:80 web1", Forward),
    ("-l alice web1", Forward),
    ("-lalice web1", Forward),
    ("-m hmac-sha2-256 web1", Forward),
    ("-O check web1", Nothing),
    ("-o BatchMode=yes web1", Forward),
    ("-oBatchMode=yes web1", Forward),
    ("-o BatchMode_yes web1", Forward),
    ("-o ForwardAgent=yes web1", Nothing),
    ("-o forwardagent_no web1", Nothing),
    ("-oForwardAgent=/run/x web1", Nothing),
    ("-o HostName=web1 other", Forward),
    ("-o HostName=other web1", Nothing),
    ("-o ProxyCommand=nc_%h_%p web1", Forward),
    ("-o SetEnv=A=$(id) web1", Forward),
    ("-o ProxyJump=none -o User=a web1", Forward),
    ("-p 2222 web1", Forward),
    ("-p2222 web1", Forward),
    ("-Q cipher", Nothing),
    ("-R 8080:localhost:80 web1", Forward),
    ("-R 0 web1", Forward),
    ("-S none web1", Forward),
    ("-S /tmp/%C web1", Forward),
    ("-W other:22 web1", Nothing),
    ("-w any:any web1", Forward),
    // Together.
    ("-vvvNT web1", Forward),
    ("-tt web1 sudo_-i", Forward),
    ("-NfL 1:h:2 web1", Forward),
    ("-qTp2222 web1", Forward),
    ("-Tvl alice web1 -p 22 id -u", Forward),
    ("web1 -v -A", Nothing),
    ("-xaTC web1", Nothing),
    ("-o ConnectTimeout=5 -o ServerAliveInterval=5 -T -D 1080 web1 bash", Forward),
    // Odd ones, words of ours in ssh's places, and what no shell would split again.
    ("web1 ~", Forward),
    ("web1 a_b ~ $(touch_x) `x` *", Forward),
    ("web1 --help --status", Nothing),
    ("-l --login web1", Nothing),
    ("-o User=--check web1", Nothing),
    ("-v --status web1", Nothing),
    ("~ web1", Nothing),
    ("~", Nothing),
];

struct Place {
    folder: TempDir,
    agent: Child,
}

impl Place {
    /// A user with a good certificate, for whom `web1` is one of ours.
    fn new() -> Self {
        let home = std::env::var_os("HOME").unwrap();
        let folder = tempfile::Builder::new().prefix(".ussh-test-").tempdir_in(home).unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut agent =
            Command::new("ssh-agent").args(["-D", "-a"]).arg(path("agent")).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(agent.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let ca = PrivateKey::generate_ed25519().unwrap();
        let key = PrivateKey::generate_ed25519().unwrap();
        let now = SystemClock.now().0;
        let template = CertificateTemplate {
            public_key: key.public_key(),
            serial: 1,
            kind: CertificateKind::User,
            key_id: "alice".into(),
            principals: vec!["alice".into()],
            valid_after: UnixTime(now - 60),
            valid_before: UnixTime(now + 3600),
            critical_options: vec![],
            extensions: vec![],
        };
        let connection = UnixStream::connect(path("agent")).unwrap();
        let mut talk = Agent::new(connection, Duration::from_secs(10));
        talk.add_certificate(&template.sign(&ca).unwrap(), &key, "alice", &Constraints::default()).unwrap();
        std::fs::create_dir_all(path("home/.config/ussh")).unwrap();
        std::fs::create_dir(path("run")).unwrap();
        std::fs::set_permissions(path("run"), PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::write(path("user_ca.pub"), format!("{}\n", ca.public_key().to_openssh("CA"))).unwrap();
        let config = format!(
            "user_ca_file = \"{}\"\nca_user = \"alice\"\n[[host]]\nmatch = [\"web1\"]\n",
            path("user_ca.pub").display()
        );
        std::fs::write(path("home/.config/ussh/ussh.toml"), config).unwrap();
        std::fs::write(path("ssh.sh"), RECORDER).unwrap();
        std::fs::create_dir(path("bin")).unwrap();
        let mut install = Command::new("install");
        install.args(["-m", "0755"]).args([path("ssh.sh"), path("bin/ssh")]);
        assert!(install.status().unwrap().success());
        Place { folder, agent }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `ssh` found when this program was started with these words.
    fn record(&self, program: &OsStr, words: &[OsString]) -> Record {
        let _ = std::fs::remove_file(self.path("arguments"));
        // Descriptors beyond the usual, one for reading and one for appending; an ignored signal; another umask and folder.
        let shell =
            "cd /usr/share; umask 027; trap '' HUP; exec \"$@\" 7</etc/hostname 9>>\"$FOLDER/nine\" 2>>\"$FOLDER/two\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", shell, "sh"]).arg(program).args(words).env_clear();
        command.env("HOME", self.path("home")).env("PATH", self.path("bin")).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("SSH_AUTH_SOCK", self.path("agent")).env("FOLDER", self.folder.path());
        command.env("ODD", OsStr::from_bytes(b"\xff=\n")).env("EMPTY", "").env("LANG", "C");
        command.stdin(Stdio::null()).stdout(std::fs::File::create(self.path("one")).unwrap());
        let code = command.status().unwrap().code();
        let read = |name: &str| std::fs::read(self.path(name)).unwrap_or_default();
        let words = read("arguments");
        let words = words.strip_suffix(b"\0").map(|words| words.split(|byte| *byte == 0).collect::<Vec<_>>());
        let arguments = words.unwrap_or_default().into_iter().map(|word| OsString::from_vec(word.to_vec())).collect();
        Record { code, arguments, environment: read("environment"), state: read("state") }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// Whose standard output is a pipe is `ussh` that asks for `ssh -G`. Else: each argument ended by NUL; then all else. (Its own script is one more descriptor, both ways.)
const RECORDER: &str = r#"#!/bin/sh
[ ! -p /proc/$$/fd/1 ] || exec /usr/bin/ssh "$@"
for word; do printf '%s\0' "$word"; done > "$FOLDER/arguments"
[ $# -gt 0 ] || : > "$FOLDER/arguments"
/bin/cat /proc/$$/environ > "$FOLDER/environment"
{
  pwd
  # Read by the shell itself: while it starts a child it blocks signals.
  while read -r line; do case $line in SigBlk*|SigIgn*|Umask*) echo "$line" ;; esac; done < /proc/$$/status
  /usr/bin/find /proc/$$/fd -printf '%f %l\n'
  cd /proc/$$/fdinfo && /bin/grep flags *
} > "$FOLDER/state"
exit 23
"#;

#[derive(PartialEq, Eq)]
struct Record {
    code: Option<i32>,
    arguments: Vec<OsString>,
    environment: Vec<u8>,
    state: Vec<u8>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "\n");
        write!(f, "{:?} {:?}\n{}\n{}", self.code, self.arguments, text(&self.environment), text(&self.state))
    }
}

fn words(line: &str) -> Vec<OsString> {
    let word = |word: &str| OsString::from(if word == "~" { String::new() } else { word.replace('_', " ") });
    line.split(' ').map(word).collect()
}

/// What is in front of the arguments, and what is as it was given.
fn split(arguments: &[OsString], added: Added) -> (&[OsString], &[OsString]) {
    arguments.split_at(if added == Forward { 2.min(arguments.len()) } else { 0 })
}

#[test]
fn every_command_line_reaches_ssh_as_it_was_given_with_the_same_environment_and_descriptors() {
    let place = Place::new();
    let (ussh, ssh) = (OsStr::new(env!("CARGO_BIN_EXE_ussh")), place.path("bin/ssh").into_os_string());
    let mut flags = std::collections::BTreeSet::new();
    for (line, added) in LINES {
        let words = words(line);
        let (mut by_ussh, by_ssh) = (place.record(ussh, &words), place.record(&ssh, &words));
        assert_eq!(by_ssh.arguments, words, "{line}");
        let (front, rest) = split(&by_ussh.arguments, added);
        assert_eq!(rest, words, "{line}");
        let option: Vec<String> = front.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        if added == Forward {
            let socket = format!("ForwardAgent={}/ussh/agent.", place.path("run").display());
            assert!(option[0] == "-o" && option[1].starts_with(&socket), "{line}: {option:?}");
        }
        by_ussh.arguments = rest.to_vec();
        assert!(by_ussh == by_ssh, "{line}: {by_ussh:?}\nwithout ussh: {by_ssh:?}");
        assert_eq!(by_ssh.code, Some(23), "{line}");
        flags.extend(line.split(' ').filter(|word| word.starts_with('-')).filter_map(|word| word.chars().nth(1)));
    }
    let state = String::from_utf8(place.record(&ssh, &[]).state).unwrap();
    for seen in ["\n7 /etc/hostname\n", "\n9 ", "Umask:\t0027\n", "/usr/share\n", "\n9:flags:\t0102001\n"] {
        assert!(state.contains(seen), "the recorder sees {seen:?}: {state}");
    }
    let ignored = state.lines().find(|line| line.starts_with("SigIgn:")).unwrap();
    // Others may be, too, as whoever runs this has it.
    let mask = u64::from_str_radix(ignored.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(mask & 1, 1, "SIGHUP is ignored: {ignored}");
    let all = "46AaBbCcDEeFfGgIiJKkLlMmNnOopQqRSsTtVvWwXxYy";
    let missing: String = all.chars().filter(|flag| !flags.contains(flag)).collect();
    assert_eq!(missing, "", "flags of ssh(1) that no line has");
}

/// What the real ssh makes of a line.
fn as_ssh_reads_it(words: &[OsString]) -> String {
    let output = Command::new("ssh").arg("-G").args(words).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_real_ssh_makes_of_each_line_what_it_makes_without_ussh() {
    let place = Place::new();
    let (ussh, folder) = (OsStr::new(env!("CARGO_BIN_EXE_ussh")), place.path("bin/ssh"));
    let mut compared = 0;
    for (line, added) in LINES {
        let words = words(line);
        let mut passed = place.record(ussh, &words).arguments;
        let chosen = added == Forward;
        if chosen {
            passed.drain(..2);
        }
        assert_eq!(as_ssh_reads_it(&passed), as_ssh_reads_it(&words), "{line}");
        let with = place.record(ussh, &words).arguments;
        let other_than_forward = |words: &[OsString]| {
            let text = as_ssh_reads_it(words);
            text.lines().filter(|line| !line.starts_with("forwardagent ")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(other_than_forward(&with), other_than_forward(&words), "{line}: but for what is forwarded");
        compared += 1;
    }
    assert!(compared >= 60 && folder.exists());
}

#[test]
fn bytes_that_are_no_text_and_no_arguments_at_all_pass_too() {
    let place = Place::new();
    let (ussh, ssh) = (OsStr::new(env!("CARGO_BIN_EXE_ussh")), place.path("bin/ssh").into_os_string());
    for line in [
        &[&b"web1"[..], b"\xff\xfe\x80", b"\n\t\r", b"'\"\\"][..],
        &[b"-l", b"\xff", b"web1"],
        &[b"web1", b"printf '%s' \"$HOME\" | cat; exit 3"],
        &[b"web1", b"~.", b"~~"],
        &[b"-o", b"", b"web1"],
        &[b"-p", b"", b"web1"],
        &[b"-"],
        &[b"-", b"web1"],
        &[b"-oUser=a\nb", b"web1"],
        &[b"web1\n"],
        &[b"-J", b"-x", b"web1"],
        &[b"web1", &[b'x'; 100_000]],
    ] {
        let words: Vec<OsString> = line.iter().map(|word| OsStr::from_bytes(word).to_owned()).collect();
        let (by_ussh, by_ssh) = (place.record(ussh, &words), place.record(&ssh, &words));
        let added = by_ussh.arguments.len() - words.len();
        assert!(
            added == 0 || (added == 2 && by_ussh.arguments[1].as_bytes().starts_with(b"ForwardAgent=")),
            "{words:?}"
        );
        assert_eq!(by_ussh.arguments[added..], by_ssh.arguments, "{words:?}");
        assert!(
            by_ussh.environment == by_ssh.environment && by_ussh.state == by_ssh.state,
            "{by_ussh:?}\nwithout ussh: {by_ssh:?}"
        );
    }
    assert_eq!(place.record(&ssh, &[]).arguments, Vec::<OsString>::new());
}
