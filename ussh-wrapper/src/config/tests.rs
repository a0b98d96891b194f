#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use super::*;
use ussh_core::trusted_file::TrustedFileError;

use crate::test_support::own_folder;

/// A machine with these two files.
fn load(system: Option<&str>, user: Option<&str>, ca: Option<&str>) -> Result<Config, ConfigError> {
    let folder = own_folder();
    let sources = Sources {
        system: folder.path().join("ussh.toml"),
        home: Some(folder.path().join("home")),
        ca: ca.map(OsString::from),
        uid: nix::unistd::getuid().as_raw(),
    };
    if let Some(text) = system {
        std::fs::write(&sources.system, text).unwrap();
    }
    let user_file = folder.path().join("home").join(USER_FILE);
    std::fs::create_dir_all(user_file.parent().unwrap()).unwrap();
    if let Some(text) = user {
        std::fs::write(&user_file, text).unwrap();
    }
    Config::load(&sources)
}

/// File name, line and message of the error that this system file gives.
fn complaint(system: &str) -> (usize, String) {
    match load(Some(system), None, None) {
        Err(ConfigError::Content { path, line, message }) => {
            assert!(path.ends_with("ussh.toml"));
            (line, message)
        }
        other => panic!("{system:?}: {other:?}"),
    }
}

fn ca(host: &str, port: u16) -> CaAddress {
    CaAddress { host: host.to_owned(), port }
}

#[test]
fn without_files_the_defaults_hold_and_no_ca_is_known() {
    let config = load(None, None, None).unwrap();
    assert_eq!(config.cas, []);
    assert_eq!(config.ca_user, None);
    assert_eq!(config.user_ca_file, Path::new("/etc/ussh/user_ca.pub"));
    assert_eq!(config.known_hosts, Path::new("/etc/ussh/known_hosts"));
    assert_eq!((config.renew_before_seconds, config.connect_timeout_seconds), (None, 5));
}

#[test]
fn what_is_commented_out_in_the_example_is_what_holds_without() {
    let example = include_str!("../../../packaging/ussh/ussh.toml");
    let config = load(Some(example), None, None).unwrap();
    let forwarded = |host| HostRule::find(&config.hosts, host).map(HostRule::forward);
    let wanted = [Some(Forward::Guarded), Some(Forward::Guarded), None];
    assert_eq!(["web1", "a.example.com", "github.com"].map(forwarded), wanted);
    let hosts = config.hosts.clone();
    assert_eq!(config, Config { cas: vec![ca("ca.example.com", 22)], hosts, ..load(None, None, None).unwrap() });
    let stated = example.replace("#= ", "");
    assert!(stated.contains("\nknown_hosts = "));
    assert_eq!(load(Some(&stated), None, None).unwrap(), config);
    let all = stated.replace("# renew_", "renew_");
    assert_eq!(load(Some(&all), None, None).unwrap().renew_before_seconds, Some(600));
}

#[test]
fn the_users_file_overrides_the_systems_key_by_key() {
    let system = "ca = \"ca1\"\nca_user = \"alice\"\nrenew_before_seconds = 5\nuser_ca_file = \"/a\"\n";
    let config = load(Some(system), Some("ca = [\"ca2:2222\", \"ca3\"]\nrenew_before_seconds = 0\n"), None).unwrap();
    assert_eq!(config.cas, [ca("ca2", 2222), ca("ca3", 22)]);
    assert_eq!(config.ca_user.unwrap().as_str(), "alice");
    assert_eq!(config.renew_before_seconds, Some(0));
    assert_eq!(config.user_ca_file, Path::new("/a"));
}

#[test]
fn the_environment_overrides_both_files() {
    let config = load(Some("ca = \"ca1\""), Some("ca = \"ca2\""), Some("ca3:23, ca4")).unwrap();
    assert_eq!(config.cas, [ca("ca3", 23), ca("ca4", 22)]);
    assert!(matches!(load(Some("ca = \"ca1\""), None, Some("-oProxyCommand=id")), Err(ConfigError::Environment(_))));
    assert_eq!(load(Some("ca = \"ca1\""), None, Some("")).unwrap().cas, [ca("ca1", 22)], "empty is not set");
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let (line, message) = complaint("ca = \"ca\"\n\ncaa = \"x\"\n");
    assert_eq!(line, 3);
    assert!(message.contains("unknown field `caa`"), "{message}");
}

#[test]
fn a_repeated_key_is_refused() {
    let (line, message) = complaint("ca = \"a\"\nca = \"b\"\n");
    assert_eq!(line, 2);
    assert!(message.contains("duplicate key"), "{message}");
}

#[test]
fn a_wrong_value_is_refused_with_its_line() {
    for (text, wanted) in [
        ("\nca = 5", "a host name or a list of host names"),
        ("\nca = \"-x\"", "is not a CA"),
        ("\nca = [\"ca\", \"a b\"]", "is not a CA"),
        ("\nca_user = \"-lroot\"", "is not a user name"),
        ("\nca_user = \"\"", "is not a user name"),
        ("\nuser_ca_file = \"user_ca.pub\"", "is not an absolute path"),
        ("\nknown_hosts = \"/etc/a b\"", "cannot stand in this path"),
        ("\nknown_hosts = \"/etc/%h\"", "cannot stand in this path"),
        ("\nrenew_before_seconds = -1", "expected u32"),
        ("\nconnect_timeout_seconds = 0", "not between 1 and 600"),
        ("\nconnect_timeout_seconds = 601", "not between 1 and 600"),
    ] {
        let (line, message) = complaint(text);
        assert_eq!(line, 2, "{text:?}: {message}");
        assert!(message.contains(wanted), "{text:?}: {message}");
    }
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = own_folder();
    let system = folder.path().join("ussh.toml");
    std::fs::write(&system, "ca = \"ca\"").unwrap();
    std::fs::set_permissions(&system, std::fs::Permissions::from_mode(0o666)).unwrap();
    let sources = Sources { system, home: None, ca: None, uid: nix::unistd::getuid().as_raw() };
    assert!(matches!(
        Config::load(&sources),
        Err(ConfigError::File(UserFileError::File(TrustedFileError::BadOwnership { .. })))
    ));
}

#[test]
fn a_tilde_stands_for_the_home_folder() {
    let config = load(Some("user_ca_file = \"~/ca.pub\""), None, None).unwrap();
    assert!(config.user_ca_file.is_absolute() && config.user_ca_file.ends_with("home/ca.pub"));
    let folder = own_folder();
    let system = folder.path().join("ussh.toml");
    std::fs::write(&system, "user_ca_file = \"~/ca.pub\"").unwrap();
    let sources = Sources { system, home: None, ca: None, uid: nix::unistd::getuid().as_raw() };
    assert!(matches!(Config::load(&sources), Err(ConfigError::NoHome(_))));
}

#[test]
fn a_ca_is_a_host_or_an_address_with_an_optional_port() {
    for (text, host, port, shown) in [
        ("ca.example.com", "ca.example.com", 22, "ca.example.com"),
        ("ca:2222", "ca", 2222, "ca:2222"),
        ("10.0.0.1:65535", "10.0.0.1", 65535, "10.0.0.1:65535"),
        ("::1", "::1", 22, "::1"),
        ("[fe80::1]:23", "fe80::1", 23, "[fe80::1]:23"),
        ("[::1]", "::1", 22, "::1"),
    ] {
        let parsed = CaAddress::try_from(text.to_owned()).unwrap();
        assert_eq!((parsed.host(), parsed.port()), (host, port), "{text}");
        assert_eq!(parsed.to_string(), shown);
    }
}

#[test]
fn what_ssh_could_take_for_something_else_is_no_ca() {
    for text in [
        "",
        "-oProxyCommand=id",
        "-4",
        "a b",
        "alice@ca",
        "ssh://ca",
        "ca:",
        "ca:0",
        "ca:65536",
        "ca:+22",
        "ca:2 2",
        "ca\n",
        "%h",
        "$(id)",
        "[ca]:22",
        "[::1",
        "[::1]x",
        "ca/",
        "ca:22:22",
        "*",
        "ca\u{e9}",
    ] {
        assert!(CaAddress::try_from(text.to_owned()).is_err(), "{text:?}");
    }
}

#[test]
fn the_users_hosts_come_before_the_systems_and_confirm_overrides() {
    let system = "confirm = [\"sudo\"]\n[[host]]\nmatch = [\"*\"]\n";
    let user = "[[host]]\nmatch = [\"web1\"]\nforward = \"full\"\n[[host]]\nmatch = [\"web2\"]\nforward = \"none\"\n";
    let config = load(Some(system), Some(user), None).unwrap();
    let forward = |host: &str| HostRule::find(&config.hosts, host).map(HostRule::forward);
    assert_eq!(forward("web1"), Some(Forward::Full));
    assert_eq!(forward("web2"), Some(Forward::None));
    assert_eq!(forward("web3"), Some(Forward::Guarded));
    assert!(config.confirm.matches("sudo") && !config.confirm.matches("su"));
    assert!(load(Some(system), Some("confirm = []"), None).unwrap().confirm.is_empty());
    assert_eq!(load(None, None, None).unwrap().hosts, []);
}

#[test]
fn a_wrong_host_table_is_refused() {
    for (text, wanted) in [
        ("[[host]]\nforward = \"guarded\"", "missing field `match`"),
        ("[[host]]\nmatch = [\"a\"]\nforward = \"yes\"", "unknown variant `yes`"),
        ("[[host]]\nmatch = [\"a\"]\nforwrad = \"full\"", "unknown field `forwrad`"),
        ("[[host]]\nmatch = [\"!a\"]", "match nothing"),
        ("[[host]]\nmatch = []", "`match` names no host"),
        ("[[host]]\nmatch = [\"a b\"]", "is not a pattern"),
        ("confirm = \"sudo\"", "invalid type"),
    ] {
        let (_, message) = complaint(text);
        assert!(message.contains(wanted), "{text:?}: {message}");
    }
}

#[test]
fn a_locked_key_is_the_systems_and_says_who_was_passed_over() {
    let system = "locked = [\"ca\", \"confirm\", \"host\", \"on_ca_failure\", \"renew_before_seconds\"]\nca = \"ca1\"\nconfirm = [\"su\"]\nca_user = \"alice\"\nrenew_before_seconds = 5\n\
                  [[host]]\nmatch = [\"web1\"]\n";
    let user = "ca = \"ca2\"\nconfirm = []\non_ca_failure = \"stop\"\nca_user = \"bob\"\n[[host]]\nmatch = [\"*\"]\nforward = \"full\"\n";
    let config = load(Some(system), Some(user), Some("ca3")).unwrap();
    assert_eq!((config.cas, config.renew_before_seconds), (vec![ca("ca1", 22)], Some(5)));
    assert!(config.confirm.matches("su"));
    assert_eq!(config.on_ca_failure, OnCaFailure::Continue, "locked at what holds without it");
    assert_eq!(config.ca_user.unwrap().as_str(), "bob", "which is not locked");
    let forward = |host: &str| HostRule::find(&config.hosts, host).map(HostRule::forward);
    assert_eq!([forward("web1"), forward("web2")], [Some(Forward::Guarded), None]);
    let told: Vec<String> = config.locks.passed_over().iter().map(ToString::to_string).collect();
    let begin = |line: &String| line.split(" of ").next().unwrap().to_owned();
    assert_eq!(told.iter().map(begin).collect::<Vec<_>>(), ["`ca`", "`ca`", "`host`", "`on_ca_failure`", "`confirm`"]);
    assert!(
        told[0].contains("home/.config/ussh/ussh.toml does not count: ")
            && told[0].contains("/ussh.toml has it locked")
    );
    assert!(told[1].starts_with("`ca` of USSH_CA does not count: "));
    let wrong = load(Some(system), None, Some("-bad")).unwrap();
    assert_eq!(
        (wrong.cas, wrong.locks.passed_over().len()),
        (vec![ca("ca1", 22)], 1),
        "nobody asks whether it is right"
    );
    let silent = load(Some(system), Some("ca_user = \"bob\""), None).unwrap();
    assert_eq!(silent.locks.passed_over(), []);
}

#[test]
fn locks_count_in_the_systems_file_only_and_only_if_root_alone_can_change_it() {
    let (_, message) = complaint("locked = [\"ca\", \"colour\"]");
    assert!(message.contains("unknown variant `colour`, expected one of `ca`, `ca_user`"), "{message}");
    let own = load(None, Some("locked = [\"ca\"]"), None);
    assert!(matches!(own, Err(ConfigError::OwnLocks(path)) if path.ends_with(USER_FILE)));
    let folder = own_folder();
    let system = folder.path().join("ussh.toml");
    std::fs::write(&system, "locked = [\"ca\"]").unwrap();
    // As root alone can try it.
    if std::os::unix::fs::chown(&system, Some(65_533), None).is_ok() {
        let sources = Sources { system: system.clone(), home: None, ca: None, uid: 65_533 };
        assert!(matches!(Config::load(&sources), Err(ConfigError::Locks(TrustedFileError::BadOwnership { .. }))));
        std::fs::write(&system, "ca = \"ca\"").unwrap();
        assert!(Config::load(&sources).is_ok(), "without locks it is as good as the user's");
    }
}

#[test]
fn help_and_the_documentation_name_every_key() {
    let (_, message) = complaint("colour = 1");
    let (_, names) = message.split_once("expected one of ").unwrap();
    let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
    assert!(names.contains(&"ca") && names.contains(&"host") && names.len() > 10, "{message}");
    let documentation = include_str!("../../../docs/ussh_toml.md");
    for name in names {
        let (in_help, in_table) = match name {
            "host" => ("\n  [[host]] ".to_owned(), "| `[[host]]` |".to_owned()),
            _ => (format!("\n  {name} = "), format!("\n| `{name}` |")),
        };
        assert!(crate::help::help().contains(&in_help), "{name}: help");
        assert!(documentation.contains(&in_table), "{name}: docs/ussh_toml.md");
    }
}
