#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use ussh_core::principals::PrincipalList;

use super::table::{Kind, OPTIONS};
use super::*;

fn arguments(line: &[&str]) -> Vec<String> {
    line.iter().map(|argument| (*argument).to_owned()).collect()
}

fn auth(line: &[&str]) -> Result<AuthOptions, OptionError> {
    AuthOptions::parse_with("sudo", Some(&arguments(line)), None)
}

fn account(line: &[&str]) -> Result<AccountOptions, OptionError> {
    AccountOptions::parse_with("sudo", Some(&arguments(line)), None)
}

fn session(line: &[&str]) -> Result<SessionOptions, OptionError> {
    SessionOptions::parse_with("sshd", Some(&arguments(line)), None)
}

fn complaint(line: &[&str]) -> String {
    auth(line).unwrap_err().to_string()
}

fn defaults() -> AuthOptions {
    AuthOptions {
        ca_file: "/etc/ssh/trusted_user_ca".into(),
        group: None,
        principals: Principals::None,
        require_user_principal: true,
        revoked_keys: None,
        krl_max_age: None,
        max_validity: None,
        max_age: None,
        timeout: Duration::from_secs(5),
        touch_timeout: Duration::from_secs(60),
        cue: None,
        agent_socket: None,
        agent_search: true,
        bind_session: false,
        debug: false,
    }
}

/// Every option that a line of `auth` or `account` may hold, with a good value.
const EVERYTHING: [&str; 15] = [
    "ca_file=/etc/ca",
    "group=admins",
    "authorized_principals=ops,root",
    "require_user_principal=no",
    "revoked_keys=/etc/krl",
    "krl_max_age=1d",
    "max_validity=8h",
    "max_age=900",
    "timeout=3s",
    "touch_timeout=2m",
    "cue_prompt=Touch the key, please",
    "agent_socket=/run/agent",
    "agent_search=no",
    "bind_session=no",
    "debug",
];

fn everything() -> AuthOptions {
    AuthOptions {
        ca_file: "/etc/ca".into(),
        group: Some("admins".into()),
        principals: Principals::List(PrincipalList::from_comma_list("ops,root").unwrap()),
        require_user_principal: false,
        revoked_keys: Some("/etc/krl".into()),
        krl_max_age: Some(Duration::from_secs(86400)),
        max_validity: Some(Duration::from_secs(8 * 3600)),
        max_age: Some(Duration::from_secs(900)),
        timeout: Duration::from_secs(3),
        touch_timeout: Duration::from_secs(120),
        cue: Some("Touch the key, please".into()),
        agent_socket: Some("/run/agent".into()),
        agent_search: false,
        bind_session: false,
        debug: true,
    }
}

#[test]
fn an_empty_line_has_the_defaults() {
    assert_eq!(auth(&[]).unwrap(), defaults());
    assert_eq!(account(&[]).unwrap(), AccountOptions { auth: defaults(), exempt_group: None });
    assert_eq!(session(&[]).unwrap(), SessionOptions { spool_failure: SpoolFailure::Refuse, debug: false });
}

#[test]
fn reads_every_option() {
    assert_eq!(auth(&EVERYTHING).unwrap(), everything());
    let line = [&EVERYTHING[..], &["account_exempt_group=automation"]].concat();
    let expected = AccountOptions { auth: everything(), exempt_group: Some("automation".into()) };
    assert_eq!(account(&line).unwrap(), expected);
    assert_eq!(
        session(&["spool_failure=allow", "debug"]).unwrap(),
        SessionOptions { spool_failure: SpoolFailure::Allow, debug: true }
    );
}

#[test]
fn refuses_unknown_options_by_name() {
    assert_eq!(complaint(&["grop=admins"]), "unknown option grop");
    assert_eq!(complaint(&["Debug"]), "unknown option Debug");
    assert_eq!(complaint(&["debug", ""]), "unknown option ");
    assert_eq!(complaint(&["wombat"]), "unknown option wombat");
    let error = auth(&["grop=admins"]).unwrap_err();
    assert_eq!((error.origin, error.problem.option()), (Origin::Line, Some("grop")));
}

#[test]
fn refuses_options_of_another_kind_of_line_and_says_of_which() {
    let only = "option account_exempt_group is for account only";
    assert_eq!(complaint(&["account_exempt_group=automation"]), only);
    assert_eq!(session(&["account_exempt_group=automation"]).unwrap_err().to_string(), only);
    assert_eq!(complaint(&["spool_failure=allow"]), "option spool_failure is for session only");
    assert_eq!(session(&["ca_file=/etc/ca"]).unwrap_err().to_string(), "option ca_file is for auth and account only");
}

#[test]
fn names_of_the_file_are_told_from_unknown_ones() {
    assert_eq!(complaint(&["max_age_seconds=900"]), "unknown option max_age_seconds; write max_age=");
    let no = "unknown option no_require_user_principal; write require_user_principal=no";
    assert_eq!(complaint(&["no_require_user_principal"]), no);
    for (name, write) in [("cafile=/a", "ca_file="), ("revoked_key=/a", "revoked_keys="), ("max-age=1h", "max_age=")] {
        let name_alone = name.split('=').next().unwrap();
        assert_eq!(complaint(&[name]), format!("unknown option {name_alone}; write {write}"));
    }
    assert_eq!(complaint(&["caf=/a"]), "unknown option caf");
    assert_eq!(complaint(&["no_debug"]), "unknown option no_debug");
}

#[test]
fn refuses_empty_and_needless_values_and_repetitions() {
    for spec in OPTIONS.iter().filter(|spec| spec.is_for(Facility::Account)) {
        let name = spec.name;
        let complaint = |line: &[&str]| account(line).unwrap_err().to_string();
        let with_value = format!("{name}=/x");
        if spec.kind == Kind::Flag {
            assert_eq!(complaint(&[&with_value]), format!("option {name} takes no value"));
            assert_eq!(complaint(&[&format!("{name}=")]), format!("option {name} takes no value"));
            assert_eq!(complaint(&[name, name]), format!("option {name} is repeated: keep one of them"));
        } else {
            assert_eq!(
                complaint(&[&format!("{name}=")]),
                format!("option {name} has no value: give it one, or leave it out")
            );
            assert_eq!(complaint(&[name]), format!("option {name} has no value: give it one, or leave it out"));
            let write = if spec.kind == Kind::Names { "write one, with all names in it" } else { "keep one of them" };
            assert_eq!(complaint(&[&with_value, &with_value]), format!("option {name} is repeated: {write}"));
        }
    }
}

#[test]
fn refuses_contradictions() {
    for (line, text) in [
        (
            &["require_user_principal=no"][..],
            "require_user_principal=no needs authorized_principals= or authorized_principals_file=",
        ),
        (
            &["authorized_principals=a", "authorized_principals_file=/a"],
            "authorized_principals and authorized_principals_file exclude each other: keep one of them",
        ),
        (&["krl_max_age=1d"], "krl_max_age= needs revoked_keys=, which names the KRL"),
        (
            &["agent_search=yes", "agent_socket=/run/agent"],
            "agent_search=yes and agent_socket= exclude each other: keep one of them",
        ),
        (
            &["bind_session=yes", "agent_socket=/run/agent"],
            "bind_session=yes and agent_socket= exclude each other: the agent must be that of the caller's own login",
        ),
    ] {
        assert_eq!(complaint(line), text);
        assert_eq!(account(line).unwrap_err().to_string(), text);
    }
    assert!(auth(&["require_user_principal=no", "authorized_principals_file=/etc/p"]).is_ok());
    assert!(auth(&["require_user_principal=yes", "authorized_principals=a"]).is_ok());
    assert!(auth(&["krl_max_age=1d", "revoked_keys=/etc/krl"]).is_ok());
}

#[test]
fn a_socket_of_the_line_s_ends_the_search() {
    assert!(auth(&["agent_search=yes"]).unwrap().agent_search);
    assert!(!auth(&["agent_search=no"]).unwrap().agent_search);
    assert!(!auth(&["agent_socket=/run/agent"]).unwrap().agent_search);
}

#[test]
fn a_session_is_bound_where_there_is_one_to_bind_to() {
    assert!(auth(&["bind_session=yes"]).unwrap().bind_session);
    assert!(account(&["bind_session=yes", "agent_search=no"]).unwrap().auth.bind_session);
    let sshd = |line: &[&str]| {
        let line: Vec<String> = line.iter().map(|argument| (*argument).to_owned()).collect();
        AuthOptions::parse_with("sshd", Some(&line), None)
    };
    let refused = sshd(&["bind_session=yes"]).unwrap_err().to_string();
    assert!(refused.starts_with("bind_session=yes in sshd: the login is opened there"), "{refused}");
    assert!(!sshd(&["bind_session=no"]).unwrap().bind_session);
    assert_eq!(sshd(&["bind_session=perhaps"]).unwrap_err().to_string(), "option bind_session must be yes or no");
    let only = "option bind_session is for auth and account only";
    assert_eq!(session(&["bind_session=yes"]).unwrap_err().to_string(), only);
}

#[test]
fn refuses_values_that_are_none() {
    let time = "seconds above 0, or a number with s, m, h or d behind it";
    let pattern = "an absolute path, with no %-sequences but %u, %U and %%";
    let names = "names with commas between them, none of them empty";
    let one_line = "one line of at most 200 printable characters";
    for (line, what) in [
        ("ca_file=etc/ca", "an absolute path"),
        ("revoked_keys=~/krl", "an absolute path"),
        ("agent_socket=agent", "an absolute path"),
        ("config=pam_ussh.toml", "an absolute path"),
        ("require_user_principal=No", "yes or no"),
        ("agent_search=true", "yes or no"),
        ("bind_session=1", "yes or no"),
        ("authorized_principals=a,,b", names),
        ("authorized_principals=a,", names),
        ("authorized_principals_file=p/%u", pattern),
        ("authorized_principals_file=/p/%h", pattern),
        ("authorized_principals_file=/p/%", pattern),
        ("krl_max_age=0", time),
        ("max_age=1y", time),
        ("timeout=301", "at most 5m"),
        ("timeout=0", time),
        ("touch_timeout=6m", "at most 5m"),
        ("touch_timeout=-1", time),
        ("cue_prompt=two\nlines", one_line),
        ("cue_prompt=bell\u{7}", one_line),
        ("cue_prompt=\u{1b}[31mred", one_line),
        ("cue_prompt=\u{202e}turned", one_line),
        ("cue_prompt=\u{2028}", one_line),
        ("cue_prompt=  ", one_line),
        (&format!("cue_prompt={}", "x".repeat(201)), one_line),
    ] {
        let name = line.split('=').next().unwrap();
        assert_eq!(complaint(&[line]), format!("option {name} must be {what}"), "{line}");
    }
    assert!(auth(&["timeout=5m", "touch_timeout=300"]).is_ok());
    let not_text = Problem::NotText.on_line();
    assert_eq!(AuthOptions::parse_with("sudo", None, None).unwrap_err(), not_text);
    assert_eq!(AccountOptions::parse_with("sudo", None, None).unwrap_err(), not_text);
    assert_eq!(SessionOptions::parse_with("sshd", None, None).unwrap_err(), not_text);
    assert!(session(&["spool_failure=yes"]).is_err());
}

#[test]
fn a_cue_has_a_text() {
    assert_eq!(auth(&["cue"]).unwrap().cue.as_deref(), Some("Please touch your security key."));
    // libpam hands `[cue_prompt=…]` over without the brackets.
    for line in [
        &["cue_prompt=Schlüssel berühren, bitte = jetzt"][..],
        &["cue", "cue_prompt=Schlüssel berühren, bitte = jetzt"],
    ] {
        assert_eq!(auth(line).unwrap().cue.as_deref(), Some("Schlüssel berühren, bitte = jetzt"));
    }
    assert!(auth(&[&format!("cue_prompt={}", "ü".repeat(200))]).is_ok());
}

#[test]
fn expands_patterns() {
    let pattern = FilePattern::parse("/etc/p%%/%u-%U").unwrap();
    assert_eq!(pattern.expand("alice", 1000).unwrap(), Path::new("/etc/p%/alice-1000"));
    for name in ["", ".", "..", "../root", "a/b", "a\0b"] {
        assert_eq!(pattern.expand(name, 1000), None, "{name}");
    }
    let by_id = FilePattern::parse("/etc/p/%U").unwrap();
    assert_eq!(by_id.expand("../root", 1000).unwrap(), Path::new("/etc/p/1000"));
}

/// Every option is asked for by exactly the parsers of the lines on which it may stand: nothing that is let through is then forgotten.
#[test]
fn no_option_is_let_through_and_forgotten() {
    let good = |spec: &super::table::Spec| match spec.kind {
        Kind::Flag => spec.name.to_owned(),
        Kind::YesNo => format!("{}=yes", spec.name),
        Kind::Time => format!("{}=60", spec.name),
        Kind::Text | Kind::Names if spec.name == "spool_failure" => "spool_failure=allow".into(),
        Kind::Text | Kind::Names => format!("{}=/x", spec.name),
    };
    for spec in &OPTIONS {
        let line = [good(spec)];
        for facility in Facility::ALL {
            let result = match facility {
                Facility::Auth => AuthOptions::parse_with("x", Some(&line), None).map(drop),
                Facility::Account => AccountOptions::parse_with("x", Some(&line), None).map(drop),
                Facility::Session => SessionOptions::parse_with("x", Some(&line), None).map(drop),
            };
            let problem = result.err().map(|error| error.problem);
            let is_refused = matches!(problem, Some(Problem::WrongFacility { .. }));
            assert_eq!(is_refused, !spec.is_for(facility), "{line:?} in {facility}: {problem:?}");
            assert!(!matches!(problem, Some(Problem::Unknown(_))), "{line:?} in {facility}: {problem:?}");
        }
    }
}

/// uber/pam-ussh at fd32aed, pam_ussh.go `pamAuthenticate`: ca_file, group, authorized_principals, authorized_principals_file; each argument is cut at `=`, what is unknown is passed over.
#[test]
fn lines_for_uber_pam_ussh_work_unchanged() {
    let ops = || Principals::List(PrincipalList::from_comma_list("ops,root").unwrap());
    for (line, expected) in [
        (&[][..], defaults()),
        (&["ca_file=/etc/ssh/user_ca"], AuthOptions { ca_file: "/etc/ssh/user_ca".into(), ..defaults() }),
        (&["authorized_principals=ops,root"], AuthOptions { principals: ops(), ..defaults() }),
        (&["group=admins"], AuthOptions { group: Some("admins".into()), ..defaults() }),
        // Its README's example.
        (
            &["ca_file=/etc/ssh/user_ca", "authorized_principals_file=/etc/ssh/root_authorized_principals"],
            AuthOptions {
                ca_file: "/etc/ssh/user_ca".into(),
                principals: Principals::File(FilePattern::parse("/etc/ssh/root_authorized_principals").unwrap()),
                ..defaults()
            },
        ),
        (
            &["ca_file=/etc/ssh/user_ca", "group=admins", "authorized_principals=ops,root"],
            AuthOptions {
                ca_file: "/etc/ssh/user_ca".into(),
                group: Some("admins".into()),
                principals: ops(),
                ..defaults()
            },
        ),
    ] {
        assert_eq!(auth(line).unwrap(), expected, "{line:?}");
    }
}

/// Each of these it takes, and does something else than its writer meant, or lets in whom nobody named.
#[test]
fn lines_for_uber_pam_ussh_that_were_unsafe_are_refused_with_what_to_write() {
    for (line, what_it_did, complaint) in [
        (
            &["cafile=/etc/ssh/user_ca"][..],
            "passed over: the default CA counts",
            "unknown option cafile; write ca_file=",
        ),
        (
            &["no_require_user_principal"],
            "passed over",
            "unknown option no_require_user_principal; write require_user_principal=no",
        ),
        (&["ca_file="], "reads no file", "option ca_file has no value: give it one, or leave it out"),
        (&["ca_file"], "panics inside sudo", "option ca_file has no value: give it one, or leave it out"),
        (&["ca_file=user_ca"], "the CA of the folder that the user is in", "option ca_file must be an absolute path"),
        (&["ca_file=/a", "ca_file=/b"], "the last wins", "option ca_file is repeated: keep one of them"),
        (&["group="], "everybody", "option group has no value: give it one, or leave it out"),
        (&["group=a", "group=b"], "the last wins", "option group is repeated: keep one of them"),
        (
            &["authorized_principals="],
            "a certificate with an empty name",
            "option authorized_principals has no value: give it one, or leave it out",
        ),
        (
            &["authorized_principals=ops,"],
            "a certificate with an empty name as well",
            "option authorized_principals must be names with commas between them, none of them empty",
        ),
        (
            &["authorized_principals=ops", "authorized_principals=dba"],
            "both lists together, against its README",
            "option authorized_principals is repeated: write one, with all names in it",
        ),
        (
            &["authorized_principals=ops", "authorized_principals_file=/p"],
            "the file alone",
            "authorized_principals and authorized_principals_file exclude each other: keep one of them",
        ),
        (
            &["authorized_principals_file=/p", "authorized_principals=ops"],
            "both together, against its README",
            "authorized_principals and authorized_principals_file exclude each other: keep one of them",
        ),
        (
            &["authorized_principals_file=principals"],
            "a file of the folder that the user is in",
            "option authorized_principals_file must be an absolute path, with no %-sequences but %u, %U and %%",
        ),
        (
            &["authorized_principals_file=/etc/%h"],
            "a file of this very name",
            "option authorized_principals_file must be an absolute path, with no %-sequences but %u, %U and %%",
        ),
    ] {
        assert_eq!(auth(line).unwrap_err().to_string(), complaint, "{line:?}: {what_it_did}");
    }
}
