#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use super::*;
use crate::config::{CaUser, OnCaFailure};
use crate::test_support::own_folder;
use crate::user_file::UserFileError;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn config() -> Config {
    Config {
        cas: vec![CaAddress::try_from("ca.example.com:2222".to_owned()).unwrap()],
        ca_user: None,
        user_ca_file: PathBuf::from("/etc/ussh/user_ca.pub"),
        known_hosts: PathBuf::from("/etc/ussh/known_hosts"),
        renew_before_seconds: None,
        connect_timeout_seconds: 7,
        on_ca_failure: OnCaFailure::default(),
        hosts: Vec::new(),
        confirm: crate::config::Patterns::default(),
        keep_in: crate::config::KeepIn::default(),
        client_key: None,
        locks: crate::config::Locks::default(),
    }
}

fn arguments(prompting: Prompting, guarded: &Path) -> Vec<String> {
    let (config, user) = (config(), CaUser::try_from("alice".to_owned()).unwrap());
    login_arguments(&config, &config.cas[0], &user, "/etc/ussh/known_hosts", guarded, prompting)
}

/// What the real ssh makes of the arguments; `/dev/null` stands for the socket, which must be there.
fn as_ssh_reads_them(prompting: Prompting) -> HashMap<String, String> {
    let arguments = arguments(prompting, Path::new("/dev/null"));
    let output = Command::new("ssh").arg("-G").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().filter_map(|line| line.split_once(' '));
    words.map(|(keyword, value)| (keyword.to_owned(), value.to_owned())).collect()
}

#[test]
fn ssh_reads_the_arguments_as_they_are_meant() {
    let read = as_ssh_reads_them(Prompting::Possible);
    for (keyword, value) in [
        ("hostname", "ca.example.com"),
        ("port", "2222"),
        ("user", "alice"),
        ("forwardagent", "/dev/null"),
        ("userknownhostsfile", "/etc/ussh/known_hosts"),
        ("globalknownhostsfile", "/dev/null"),
        ("stricthostkeychecking", "true"),
        ("updatehostkeys", "false"),
        ("pubkeyauthentication", "false"),
        ("passwordauthentication", "no"),
        ("kbdinteractiveauthentication", "yes"),
        ("preferredauthentications", "keyboard-interactive"),
        ("identityagent", "/dev/null"),
        ("batchmode", "no"),
        ("connecttimeout", "7"),
        ("requesttty", "false"),
        ("exitonforwardfailure", "yes"),
        ("controlmaster", "false"),
    ] {
        assert_eq!(read.get(keyword).map(String::as_str), Some(value), "{keyword}");
    }
    assert!(read["hostkeyalgorithms"].split(',').all(|algorithm| algorithm.ends_with("-cert-v01@openssh.com")));
    assert!(!read.contains_key("proxycommand") && !read.contains_key("proxyjump") && !read.contains_key("controlpath"));
}

#[test]
fn without_anybody_to_ask_ssh_does_not_guess() {
    assert_eq!(as_ssh_reads_them(Prompting::Impossible(Missing::Program))["batchmode"], "yes");
}

#[test]
fn a_program_is_asked_once_and_a_person_three_times() {
    for (prompting, wanted) in [(Prompting::ByProgram, "1"), (Prompting::Possible, "3")] {
        let read = as_ssh_reads_them(prompting);
        assert_eq!((read["numberofpasswordprompts"].as_str(), read["batchmode"].as_str()), (wanted, "no"));
    }
}

#[test]
fn the_host_stands_behind_the_end_of_options() {
    let arguments = arguments(Prompting::Possible, Path::new("/s"));
    assert_eq!(arguments[arguments.len() - 2..], ["--", "ca.example.com"]);
}

fn checked(text: &str) -> Result<String, KnownHostsError> {
    let folder = own_folder();
    let path = folder.path().join("known_hosts");
    std::fs::write(&path, text).unwrap();
    known_hosts::check(&path, process::real_uid())
}

#[test]
fn known_hosts_holds_authorities_revoked_keys_and_comments() {
    assert!(
        checked("# ours\n\n  @cert-authority ca.example.com ssh-ed25519 AAAA\n@revoked * ssh-ed25519 AAAA\n").is_ok()
    );
}

#[test]
fn a_plain_host_key_in_known_hosts_is_refused_with_its_line() {
    let plain = "@cert-authority * ssh-ed25519 AAAA\nca.example.com ssh-ed25519 AAAA\n";
    assert!(matches!(checked(plain), Err(KnownHostsError::PlainKey { line: 2, .. })));
    assert!(matches!(checked("@cert-authorityx * ssh-ed25519 AAAA\n"), Err(KnownHostsError::PlainKey { line: 1, .. })));
}

#[test]
fn known_hosts_without_an_authority_is_refused() {
    for text in ["", "# @cert-authority * ssh-ed25519 AAAA\n", "@revoked * ssh-ed25519 AAAA\n"] {
        assert!(matches!(checked(text), Err(KnownHostsError::NoAuthority(_))), "{text:?}");
    }
    let missing = known_hosts::check(Path::new("/nonexistent/known_hosts"), process::real_uid());
    assert!(matches!(missing, Err(KnownHostsError::File(error)) if error.is_missing()));
}

#[test]
fn ssh_reads_the_very_file_that_was_checked() {
    let (links, files) = (own_folder(), own_folder());
    let link = links.path().join("known_hosts");
    for (name, is_plain) in [("plain", true), ("two words", false), ("%d", false)] {
        let real = files.path().join(name);
        std::fs::write(&real, "@cert-authority * ssh-ed25519 AAAA\n").unwrap();
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&real, &link).unwrap();
        match known_hosts::check(&link, process::real_uid()) {
            Ok(path) if is_plain => assert_eq!(path, real.to_str().unwrap()),
            Err(KnownHostsError::NotPlain { real_path, .. }) if !is_plain => assert_eq!(real_path, real),
            other => panic!("{name}: {other:?}"),
        }
    }
    let config = config();
    let (ca, user) = (&config.cas[0], CaUser::try_from("alice".to_owned()).unwrap());
    let arguments = login_arguments(&config, ca, &user, "/real/path", Path::new("/s"), Prompting::Possible);
    let told: Vec<_> = arguments.iter().filter(|argument| argument.starts_with("UserKnownHostsFile=")).collect();
    assert_eq!(told, ["UserKnownHostsFile=/real/path"]);
}

#[test]
fn known_hosts_behind_a_link_that_others_can_turn_is_refused() {
    let (links, files) = (own_folder(), own_folder());
    let (link, real) = (links.path().join("known_hosts"), files.path().join("known_hosts"));
    std::fs::write(&real, "@cert-authority * ssh-ed25519 AAAA\n").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert!(known_hosts::check(&link, process::real_uid()).is_ok());
    std::fs::set_permissions(links.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let refused = known_hosts::check(&link, process::real_uid());
    let Err(KnownHostsError::File(UserFileError::File(error))) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().starts_with(&format!("{}: bad ownership or modes", links.path().display())), "{error}");
}
