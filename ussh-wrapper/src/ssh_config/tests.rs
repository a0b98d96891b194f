#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use super::*;
use crate::test_support::own_folder;
use crate::verbs::Verb;

fn places(folder: &Path) -> Places {
    Places {
        ssh_config: folder.join("ssh/config"),
        central: folder.join("ussh/ssh_config"),
        include: folder.join("ussh/ssh_config").to_str().unwrap().to_owned(),
        settings: folder.join("ussh/ussh.toml"),
        program: PathBuf::from("/usr/bin/ussh"),
        mode: 0o600,
    }
}

fn sources(folder: &Path) -> Sources {
    Sources { system: folder.join("ussh/ussh.toml"), home: None, ca: None, uid: ussh_os::process::real_uid() }
}

fn wishes(words: &[&str]) -> Wishes {
    let verb = Verb::find(OsStr::new("--write-config")).unwrap();
    Wishes::read(&verb.read(words.iter().map(OsString::from).collect()).unwrap()).unwrap()
}

/// What ssh makes of a host by this file. The program of the written one never runs: a host of ours is not among them.
fn as_ssh_reads_it(config: &Path, host: &str) -> String {
    let output = Command::new("ssh").arg("-G").arg("-F").arg(config).arg(host).output().unwrap();
    format!(
        "{} {}{}",
        output.status,
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap()
    )
}

/// Out of real life: name, mode and text. `INCLUDED` is another file.
const FILES: [(&str, u32, &str); 12] = [
    (
        "plain hosts",
        0o600,
        "Host bastion\n    HostName 203.0.113.7\n    User admin\n    Port 2222\n\nHost db\n    HostName db.internal\n    ProxyJump bastion\n",
    ),
    (
        "everything in Host *",
        0o644,
        "# mine\nHost *\n  ServerAliveInterval 60\n  ForwardAgent no\n  ControlMaster auto\n  ControlPath ~/.ssh/cm-%C\n  IdentitiesOnly yes\n",
    ),
    ("global lines only", 0o600, "Compression yes\nUser alice\nAddKeysToAgent yes\n"),
    ("an Include first", 0o600, "Include INCLUDED\n\nHost db\n  User postgres\n"),
    ("an Include inside of a Host", 0o600, "Host db\n  Include INCLUDED\n  User postgres\n"),
    (
        "Match",
        0o600,
        "Match host db exec \"true\"\n  User m\nMatch user root host bastion\n  Port 1\nMatch final host other\n  User late\n",
    ),
    ("tabs and equals signs", 0o600, "Host\tdb\tbastion\n\tUser=\tx\n\tPort = 2200\n\tSendEnv\tLANG LC_*\n"),
    ("CRLF", 0o600, "Host db\r\n  User crlf\r\n  Port 2201\r\n"),
    ("no final newline", 0o600, "Host db\n  User last"),
    ("CRLF and no final newline", 0o600, "Host db\r\n  User last"),
    ("read-only", 0o400, "Host db\n  User ro\n"),
    ("empty", 0o600, ""),
];

const HOSTS: [&str; 6] = ["db", "bastion", "other", "db.internal", "root@bastion", "not.example.com"];

#[test]
fn real_life_files_mean_the_same_for_other_hosts_and_come_back_byte_for_byte() {
    for (name, mode, text) in FILES {
        for linked in [false, true] {
            let folder = own_folder();
            let places = places(folder.path());
            fs::create_dir(folder.path().join("ssh")).unwrap();
            let included = folder.path().join("included");
            fs::write(&included, "Host db\n  Port 4242\n").unwrap();
            let text = text.replace("INCLUDED", included.to_str().unwrap());
            let real = if linked { folder.path().join("dotfiles") } else { places.ssh_config.clone() };
            fs::write(&real, &text).unwrap();
            fs::set_permissions(&real, fs::Permissions::from_mode(mode)).unwrap();
            if linked {
                symlink("../dotfiles", &places.ssh_config).unwrap();
            }
            let was = real.metadata().unwrap();
            let read = |host| as_ssh_reads_it(&places.ssh_config, host);
            let before = HOSTS.map(read);
            let written =
                write(&places, &wishes(&["--hosts", "web1,*.example.com,!not.example.com"]), &sources(folder.path()));
            assert_eq!(written.unwrap().lines().count(), 3, "{name}");
            assert_eq!(HOSTS.map(read), before, "{name}");
            assert!(read("web1").contains("\nproxyusefdpass yes\n"), "{name}: {}", read("web1"));
            assert!(read("a.example.com").contains("proxycommand /usr/bin/ussh --proxy %h %p\n"), "{name}");
            let is = real.metadata().unwrap();
            assert_eq!((is.mode(), is.uid(), is.gid()), (was.mode(), was.uid(), was.gid()), "{name}");
            let again =
                write(&places, &wishes(&["--hosts", "web1,*.example.com,!not.example.com"]), &sources(folder.path()));
            assert_eq!(again.unwrap(), "nothing to change\n", "{name}");
            assert_eq!(remove(&places, &Wishes::default()).unwrap().lines().count(), 3, "{name}");
            assert_eq!(fs::read(&real).unwrap(), text.as_bytes(), "{name}");
            assert_eq!(real.metadata().unwrap().mode(), was.mode(), "{name}");
            assert_eq!(linked, places.ssh_config.is_symlink(), "{name}");
            assert!(!places.central.exists() && !places.settings.exists(), "{name}");
            assert_eq!(HOSTS.map(read), before, "{name}");
        }
    }
}

#[test]
fn what_the_file_says_of_our_hosts_goes_before_what_we_say() {
    let folder = own_folder();
    let places = places(folder.path());
    fs::create_dir(folder.path().join("ssh")).unwrap();
    fs::write(&places.ssh_config, "Host web1\n  ProxyJump bastion\n  User u\n").unwrap();
    write(&places, &wishes(&["--hosts", "web*"]), &sources(folder.path())).unwrap();
    let read = as_ssh_reads_it(&places.ssh_config, "web1");
    assert!(read.contains("\nproxyjump bastion\n") && read.contains("\nuser u\n"), "{read}");
    assert!(!read.contains("proxycommand"), "{read}");
}

#[test]
fn each_table_has_its_own_word_on_what_is_forwarded() {
    let folder = own_folder();
    let places = places(folder.path());
    fs::create_dir(folder.path().join("ussh")).unwrap();
    let tables = "[[host]]\nmatch = [\"full*\", \"!fully\"]\nforward = \"full\"\n[[host]]\nmatch = [\"none\"]\nforward = \"none\"\n[[host]]\nmatch = [\"*\", \"!other\"]\n";
    fs::write(&places.settings, tables).unwrap();
    write(&places, &Wishes::default(), &sources(folder.path())).unwrap();
    let forwarded = |host| {
        let read = as_ssh_reads_it(&places.ssh_config, host);
        read.lines().find_map(|line| line.strip_prefix("forwardagent ")).unwrap().to_owned()
    };
    assert_eq!(["full", "none", "other"].map(forwarded), ["yes", "no", "no"]);
    assert!(forwarded("fully").contains("/.local/state/ussh/agent."), "excepted there, and in the third");
    assert!(forwarded("web1").contains("/.local/state/ussh/agent."), "{}", forwarded("web1"));
    remove(&places, &Wishes::default()).unwrap();
    assert_eq!(fs::read_to_string(&places.settings).unwrap(), tables, "not ours");
    assert!(!places.ssh_config.exists(), "there was none");
}

#[test]
fn a_dry_run_shows_what_would_change_and_changes_nothing() {
    let folder = own_folder();
    let places = places(folder.path());
    fs::create_dir(folder.path().join("ssh")).unwrap();
    fs::write(&places.ssh_config, "Host x\n").unwrap();
    let shown =
        write(&places, &wishes(&["--dry-run", "--hosts", "web1", "--ca", "ca:23"]), &sources(folder.path())).unwrap();
    for line in
        ["+ca = \"ca:23\"", "+match = [\"web1\"]", "+Match host \"web1\"", " Host x", "+Match all", "--- /dev/null"]
    {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert_eq!(fs::read(&places.ssh_config).unwrap(), b"Host x\n");
    assert!(!places.central.exists() && !places.settings.exists());
    write(&places, &wishes(&["--hosts", "web1"]), &sources(folder.path())).unwrap();
    let there = fs::read(&places.ssh_config).unwrap();
    let shown = remove(&places, &wishes(&["--dry-run"])).unwrap();
    assert!(shown.contains("\n-Match all\n") && shown.contains("+++ /dev/null"), "{shown}");
    assert_eq!(fs::read(&places.ssh_config).unwrap(), there);
}

#[test]
fn a_ussh_toml_of_somebodys_is_neither_overwritten_nor_removed() {
    let folder = own_folder();
    let places = places(folder.path());
    write(&places, &wishes(&["--hosts", "web1"]), &sources(folder.path())).unwrap();
    write(&places, &wishes(&["--hosts", "web2"]), &sources(folder.path())).unwrap();
    let text = fs::read_to_string(&places.settings).unwrap();
    assert!(text.contains("web2") && !text.contains("web1"), "ours, and not touched since: {text}");
    fs::write(&places.settings, format!("{text}forward = \"none\"\n")).unwrap();
    let refused = write(&places, &wishes(&["--hosts", "web3"]), &sources(folder.path()));
    assert!(matches!(refused, Err(WriteError::SettingsThere(_))), "{refused:?}");
    assert!(fs::read_to_string(&places.central).unwrap().contains("web2"), "nothing was written");
    remove(&places, &Wishes::default()).unwrap();
    assert!(places.settings.exists() && !places.central.exists());
}

#[test]
fn without_a_host_or_with_a_file_cut_into_nothing_is_written() {
    let folder = own_folder();
    let places = places(folder.path());
    let refused = write(&places, &wishes(&["--ca", "ca"]), &sources(folder.path()));
    assert!(matches!(refused, Err(WriteError::NoHosts)), "{refused:?}");
    fs::create_dir(folder.path().join("ssh")).unwrap();
    fs::write(&places.ssh_config, "a\n# ussh --write-config ends here\n").unwrap();
    for refused in
        [write(&places, &wishes(&["--hosts", "web1"]), &sources(folder.path())), remove(&places, &Wishes::default())]
    {
        assert!(matches!(refused, Err(WriteError::Broken { broken: Broken::HalfMarked(2), .. })), "{refused:?}");
    }
    fs::remove_file(&places.ssh_config).unwrap();
    fs::write(folder.path().join("x"), "a").unwrap();
    fs::hard_link(folder.path().join("x"), &places.ssh_config).unwrap();
    let refused = write(&places, &wishes(&["--hosts", "web1"]), &sources(folder.path()));
    assert!(matches!(refused, Err(WriteError::Replace(ReplaceError::HardLinks(_)))), "{refused:?}");
    assert!(!places.central.exists() && !places.settings.exists(), "found out before the first is written");
}

#[test]
fn a_line_that_has_ssh_add_keys_to_an_agent_is_found() {
    for (text, wanted) in [
        ("Host *\n  AddKeysToAgent yes\n", Some(2)),
        ("addkeystoagent=\"confirm\"\r\n", Some(1)),
        ("AddKeysToAgent 1h", Some(1)),
        ("AddKeysToAgent no\nHost x\n\tAddKeysToAgent ask\n", Some(3)),
        ("# AddKeysToAgent yes\nAddKeysToAgent\nAddKeysToAgent no\n", None),
        ("", None),
    ] {
        assert_eq!(adds_keys(text.as_bytes()), wanted, "{text:?}");
    }
}

#[test]
fn keys_in_files_are_named_both_and_given_to_no_agent() {
    let folder = own_folder();
    let places = places(folder.path());
    fs::create_dir(folder.path().join("ussh")).unwrap();
    fs::write(&places.settings, "keep_in = \"files\"\n[[host]]\nmatch = [\"web*\"]\n").unwrap();
    write(&places, &wishes(&["--system"]), &sources(folder.path())).unwrap();
    let read = as_ssh_reads_it(&places.ssh_config, "web1");
    let mut named = read.lines().filter_map(|line| line.strip_prefix("identityfile "));
    for name in ["id", "id2"] {
        assert!(named.next().is_some_and(|file| file.contains(&format!("/.local/state/ussh/keys/{name}."))), "{read}");
    }
    assert_eq!(named.collect::<Vec<_>>(), DEFAULT_KEYS, "for everybody: whoever has which");
    assert_eq!(read.matches("certificatefile ").count(), 9, "{read}");
    assert!(read.contains("\naddkeystoagent false\n"), "{read}");
}
