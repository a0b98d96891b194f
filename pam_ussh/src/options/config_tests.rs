#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use super::super::{Principals, SpoolFailure};
use super::*;

const FILE: &str = "/etc/ussh/pam_ussh.toml";

fn parse(text: &str) -> Result<Config, OptionError> {
    Config::parse(FILE.as_ref(), text)
}

fn auth(text: &str, service: &str, line: &[&str]) -> Result<AuthOptions, OptionError> {
    let line: Vec<String> = line.iter().map(|argument| (*argument).to_owned()).collect();
    AuthOptions::parse_with(service, Some(&line), Some(&parse(text).unwrap()))
}

const EVERYTHING: &str = r#"
[default]
ca_file = "/etc/ca"
revoked_keys = "/etc/krl"
krl_max_age_seconds = 86_400
debug = true

[service.sudo]
authorized_principals = ["ops", "root"]
require_user_principal = false
group = "admins"
max_validity_seconds = 28800
max_age_seconds = 0x384
timeout_seconds = 3
touch_timeout_seconds = 120
cue = true
cue_prompt = "Touch the key, please"
agent_socket = "/run/agent"
agent_search = false
account_exempt_group = "automation"

[service.sudo-i]
authorized_principals_file = "/etc/principals/%u"
debug = false

[service.sshd]
spool_failure = "allow"
max_age_seconds = 7
"#;

#[test]
fn reads_every_option_for_its_service() {
    let sudo = AccountOptions::parse_with("sudo", Some(&[]), Some(&parse(EVERYTHING).unwrap())).unwrap();
    let line = [
        "ca_file=/etc/ca",
        "revoked_keys=/etc/krl",
        "krl_max_age=1d",
        "debug",
        "authorized_principals=ops,root",
        "require_user_principal=no",
        "group=admins",
        "max_validity=8h",
        "max_age=900",
        "timeout=3",
        "touch_timeout=2m",
        "cue_prompt=Touch the key, please",
        "agent_socket=/run/agent",
        "agent_search=no",
        "account_exempt_group=automation",
    ];
    let line: Vec<String> = line.iter().map(|argument| (*argument).to_owned()).collect();
    assert_eq!(sudo, AccountOptions::parse_with("sudo", Some(&line), None).unwrap());

    let sshd = SessionOptions::parse_with("sshd", Some(&[]), Some(&parse(EVERYTHING).unwrap())).unwrap();
    assert_eq!(sshd, SessionOptions { spool_failure: SpoolFailure::Allow, debug: true });
    let su = auth(EVERYTHING, "su", &[]).unwrap();
    assert_eq!((su.group, su.max_age, su.debug), (None, None, true), "no other service's");
    assert_eq!(auth(EVERYTHING, "sshd", &[]).unwrap().max_age, Some(Duration::from_secs(7)));
    assert_eq!(parse(EVERYTHING).unwrap().services().collect::<Vec<_>>(), ["sshd", "sudo", "sudo-i"]);
    assert_eq!(parse(EVERYTHING).unwrap().check(), Ok(()));
}

#[test]
fn the_line_wins_and_then_the_service() {
    let text = "[default]\nmax_age_seconds = 1\ntimeout_seconds = 1\ncue = true\ncue_prompt = \"touch\"\ndebug = true\n\
                [service.sudo]\ntimeout_seconds = 2\ncue = false\ndebug = false\n";
    let sudo = auth(text, "sudo", &["max_age=3"]).unwrap();
    assert_eq!((sudo.max_age, sudo.timeout), (Some(Duration::from_secs(3)), Duration::from_secs(2)));
    assert_eq!((sudo.cue, sudo.debug), (None, false), "taken back for one service");
    let sudo = auth(text, "sudo", &["cue", "debug"]).unwrap();
    assert_eq!((sudo.cue.as_deref(), sudo.debug), (Some("touch"), true));
    let other = auth(text, "su", &[]).unwrap();
    assert_eq!((other.max_age, other.timeout), (Some(Duration::from_secs(1)), Duration::from_secs(1)));
    assert_eq!((other.cue.as_deref(), other.debug), (Some("touch"), true));
}

#[test]
fn a_list_of_principals_wins_over_the_other_way_to_one() {
    let text =
        "[default]\nauthorized_principals = [\"ops\"]\n[service.sudo]\nauthorized_principals_file = \"/etc/p\"\n";
    assert!(matches!(auth(text, "sudo", &[]).unwrap().principals, Principals::File(_)));
    assert!(matches!(auth(text, "sudo", &["authorized_principals=a"]).unwrap().principals, Principals::List(_)));
    assert!(matches!(auth(text, "su", &[]).unwrap().principals, Principals::List(_)));
    assert!(matches!(auth(text, "su", &["authorized_principals_file=/p"]).unwrap().principals, Principals::File(_)));
}

#[test]
fn what_the_line_lacks_may_stand_in_the_file_and_the_other_way_round() {
    let list = "[default]\nauthorized_principals = [\"ops\"]\n";
    assert!(!auth(list, "sudo", &["require_user_principal=no"]).unwrap().require_user_principal);
    let no = "[service.sudo]\nrequire_user_principal = false\n";
    assert!(auth(no, "sudo", &["authorized_principals=ops"]).is_ok());
    let lacks = auth(no, "sudo", &[]).unwrap_err().to_string();
    assert_eq!(lacks, "require_user_principal=no needs authorized_principals= or authorized_principals_file=");
    assert_eq!(parse(no).unwrap().check(), Ok(()), "the line may have a list");
    let both = auth("[default]\nagent_socket = \"/a\"\n", "sudo", &["agent_search=yes"]).unwrap_err().to_string();
    assert_eq!(both, "agent_search=yes and agent_socket= exclude each other: keep one of them");
}

#[test]
fn what_binds_all_services_does_not_shut_sshd() {
    let all = "[default]\nbind_session = true\n[service.su]\nbind_session = false\n";
    let binds = |text: &str, service: &str| auth(text, service, &[]).map(|options| options.bind_session);
    assert_eq!((binds(all, "sudo"), binds(all, "su"), binds(all, "sshd")), (Ok(true), Ok(false), Ok(false)));
    assert!(SessionOptions::parse_with("sshd", Some(&[]), Some(&parse(all).unwrap())).is_ok());
    let sshd = "[service.sshd]\nbind_session = true\n";
    let refused = binds(sshd, "sshd").unwrap_err().to_string();
    assert!(refused.starts_with(&format!("{FILE} [service.sshd]: bind_session=yes in sshd: ")), "{refused}");
    assert_eq!(parse(sshd).unwrap().check().unwrap_err().to_string(), refused, "a tool says so before sshd does");
    let both = auth("[default]\nagent_socket = \"/a\"\n", "sudo", &["bind_session=yes"]).unwrap_err().to_string();
    assert!(both.starts_with("bind_session=yes and agent_socket= exclude each other"), "{both}");
}

#[test]
fn refuses_what_is_no_option_wherever_it_stands() {
    for (text, complaint) in [
        ("ca_file = \"/a\"", ": unknown option ca_file; write it below [default] or [service.NAME]"),
        ("[sudo]\n", ": unknown option sudo; write [default] or [service.NAME]"),
        ("[services.sudo]\n", ": unknown option services; write [default] or [service.NAME]"),
        ("default = 1", " [default]: option default must be a table"),
        ("service = []", ": option service must be a table"),
        ("service.sudo = true", " [service.sudo]: option service.sudo must be a table"),
        ("[default]\nca_fil = \"/a\"", " [default]: unknown option ca_fil"),
        ("[service.su]\nca_fil = \"/a\"", " [service.su]: unknown option ca_fil"),
        ("[service.su.auth]\n", " [service.su]: unknown option auth"),
        ("[default]\nconfig = \"/a\"", " [default]: unknown option config"),
        ("[default]\nmax_age = \"8h\"", " [default]: unknown option max_age; write max_age_seconds = (an integer)"),
        ("[default]\nca_file_seconds = 1", " [default]: unknown option ca_file_seconds"),
        ("[default]\nca_file = \"\"", " [default]: option ca_file must be a string that is not empty"),
        ("[default]\nca_file = 1", " [default]: option ca_file must be a string that is not empty"),
        ("[default]\nmax_age_seconds = 0", " [default]: option max_age_seconds must be an integer above 0"),
        ("[default]\nmax_age_seconds = -1", " [default]: option max_age_seconds must be an integer above 0"),
        ("[default]\nmax_age_seconds = 1.5", " [default]: option max_age_seconds must be an integer above 0"),
        ("[default]\nmax_age_seconds = \"8h\"", " [default]: option max_age_seconds must be an integer above 0"),
        (
            "[default]\nmax_age_seconds = 99999999999999999999",
            " [default]: option max_age_seconds must be an integer above 0",
        ),
        ("[default]\ndebug = \"yes\"", " [default]: option debug must be true or false"),
        ("[default]\nagent_search = \"no\"", " [default]: option agent_search must be true or false"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), format!("{FILE}{complaint}"), "{text}");
    }
    for names in ["\"a,b\"", "[]", "[\"a\", \"\"]", "[\"a,b\"]", "[1]"] {
        let error = parse(&format!("[default]\nauthorized_principals = {names}\n")).unwrap_err().to_string();
        let what = "an array of names, none of them empty or with a comma in it";
        assert_eq!(error, format!("{FILE} [default]: option authorized_principals must be {what}"), "{names}");
    }
}

#[test]
fn names_the_line_of_what_is_no_toml() {
    for (text, complaint) in [
        ("[default]\ndebug = true\ndebug = true\n", "line 3: duplicate key"),
        ("[default]\n[default]\n", "line 2: duplicate key"),
        ("[default]\nca_file = /etc/ca\n", "line 2: "),
        ("[default\n", "line 1: "),
        ("\0", "line 1: "),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{FILE}: {complaint}")) && !error.contains('\n'), "{text:?}: {error}");
    }
    // An empty file is one that says nothing, not a broken one: every line stands for itself.
    assert!(parse("# nothing yet\n").is_ok());
}

#[test]
fn values_are_judged_for_the_service_that_is_asked_and_by_check_for_all() {
    let text = "[service.su]\ntimeout_seconds = 301\n[service.sudo]\nca_file = \"etc/ca\"\n";
    let late = format!("{FILE} [service.su]: option timeout must be at most 5m");
    assert_eq!(auth(text, "su", &[]).unwrap_err().to_string(), late);
    assert!(auth(text, "su-l", &[]).is_ok());
    assert_eq!(parse(text).unwrap().check().unwrap_err().to_string(), late);
    assert!(auth(text, "sudo", &["ca_file=/etc/ca"]).is_ok(), "the line wins");
    for (text, what) in [
        ("[default]\nspool_failure = \"maybe\"", "option spool_failure must be refuse or allow"),
        ("[default]\ncue_prompt = \"a\\nb\"", "option cue_prompt must be one line of at most 200 printable characters"),
    ] {
        let error = parse(text).unwrap().check().unwrap_err().to_string();
        assert_eq!(error, format!("{FILE} [default]: {what}"));
    }
}

/// As a writer leaves it that was killed, or whose disk is full.
#[test]
fn a_file_that_is_cut_within_a_line_or_empty_is_refused() {
    let whole = "[default]\nmax_age_seconds = 28800\nrevoked_keys = \"/etc/ssh/revoked_keys\"\n\n[service.sudo]\ngroup = \"ops\"\n";
    for end in 0..=whole.len() {
        let is_whole_line = whole[..end].ends_with('\n');
        let read = Config::of_file(FILE.as_ref(), &whole.as_bytes()[..end]);
        assert_eq!(read.is_ok(), is_whole_line, "{end}: {read:?}");
        if end == 0 {
            assert!(read.unwrap_err().to_string().contains("half written"));
        }
    }
}

#[test]
fn only_the_usual_file_may_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pam_ussh.toml");
    assert!(Config::read_if_present(&file).unwrap().is_none());
    let gone = Config::read(&file).unwrap_err().to_string();
    assert!(gone.ends_with("No such file or directory (os error 2)") || gone.contains("bad ownership"), "{gone}");
    // A link to nothing is a mistake, not an absent file.
    std::os::unix::fs::symlink("nowhere", &file).unwrap();
    assert!(Config::read_if_present(&file).is_err());
}

#[test]
fn the_example_is_good() {
    let example = include_str!("../../../packaging/ussh/pam_ussh.toml");
    assert_eq!(parse(example).unwrap().check(), Ok(()));
    // Every key that stands there commented out is one of ours as well.
    let all: String = example.lines().map(|line| line.strip_prefix("#= ").unwrap_or(line).to_owned() + "\n").collect();
    assert_eq!(parse(&all).unwrap().check(), Ok(()));
    for spec in OPTIONS.iter().filter(|spec| spec.in_file) {
        assert!(all.lines().any(|line| line.starts_with(spec.name)), "{} is shown", spec.name);
    }
}

#[test]
fn the_manual_names_every_option() {
    let manual = include_str!("../../../docs/pam_ussh.md");
    for spec in &OPTIONS {
        assert!(manual.lines().any(|line| line.starts_with(&format!("| `{}", spec.name))), "{}", spec.name);
    }
}
