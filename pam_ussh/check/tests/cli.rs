//! The command line: lines of options, statuses for scripts, what packagers generate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::process::{Command, Stdio};

fn check(arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pam-ussh-check")).args(arguments).stdin(Stdio::null()).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_line_is_judged_as_the_module_would() {
    for (arguments, status, text) in [
        (&["--options", "ca_file=/etc/ca revoked_keys=/etc/krl debug"][..], 0, "auth of sudo: good"),
        (&["--options", ""], 0, "auth of sudo: good"),
        (&["--options", "cue [cue_prompt=Touch the key]"], 0, "auth of sudo: good"),
        (&["--options", "cue_prompt=Touch the key"], 1, "auth of sudo: unknown option the"),
        (&["--options", "grop=admins"], 1, "auth of sudo: unknown option grop"),
        (&["--options", "debug debug"], 1, "auth of sudo: option debug is repeated: keep one of them"),
        (&["--options", "require_user_principal=no"], 1, "require_user_principal=no needs authorized_principals="),
        (&["--options", "spool_failure=allow"], 1, "option spool_failure is for session only"),
        (&["--options", "spool_failure=allow", "--facility", "session"], 0, "session of sshd: good"),
        (&["--options", "account_exempt_group=automation", "--facility", "account"], 0, "account of sudo: good"),
        (&["--options", "debug", "--service", "login"], 1, "auth of login: pam_ussh in login: a console has no agent"),
        (
            &["--options", "debug", "--facility", "account", "--service", "sshd"],
            1,
            "the certificate cannot be seen there",
        ),
        (&["--options", "bind_session=yes", "--service", "sshd"], 1, "instead: take bind_session out of here"),
        (&["--options", "config=/nonexistent/file"], 1, "/nonexistent/file"),
    ] {
        let (got, said) = check(arguments);
        assert_eq!(got, status, "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
}

#[test]
fn what_is_wrong_with_a_line_comes_with_something_to_paste() {
    for (line, instead) in [
        ("krl_max_age=1d", "revoked_keys=/etc/ssh/revoked_keys krl_max_age=1d"),
        ("require_user_principal=no", "require_user_principal=no authorized_principals=ops,oncall"),
        ("agent_search=yes agent_socket=/a", "agent_socket=/run/agent.sock, without agent_search=yes"),
        ("bind_session=yes agent_socket=/a", "bind_session=yes, without agent_socket="),
        ("ca_file=user_ca", "for example ca_file=/etc/ssh/trusted_user_ca"),
        ("timeout=301", "for example timeout=5s"),
        ("group=", "group=admins, or leave it out"),
        ("cue_prompt=", "[cue_prompt=Touch the key], or leave it out"),
        ("revoked_key=/etc/krl", "revoked_keys="),
        ("grop=admins", "group is one letter apart; docs/pam_ussh.md lists all options"),
        ("wombat", "take wombat out; docs/pam_ussh.md lists all options"),
        // What would be followed must not lead to the opposite of what was meant.
        (
            "cue=no",
            "leave cue out: then it is off, unless a file of options has it on (`cue = false` there takes it back)",
        ),
        (
            "debug=0",
            "leave debug out: then it is off, unless a file of options has it on (`debug = false` there takes it back)",
        ),
        ("cue=yes", "cue"),
        ("auth required pam_ussh.so ca_file=/x", "give the options alone: what stands behind pam_ussh.so"),
        ("required pam_ussh.so", "give the options alone: what stands behind pam_ussh.so"),
        (
            "authorized_principals=alice, ops",
            "a blank ends an option: write its value without one, or the whole in brackets ([NAME=VALUE]); else take ops out",
        ),
        (
            "max_age=8 h",
            "a blank ends an option: write its value without one, or the whole in brackets ([NAME=VALUE]); else take h out",
        ),
        ("debug wombat", "take wombat out; docs/pam_ussh.md lists all options"),
    ] {
        let (status, said) = check(&["--options", line]);
        assert_eq!(status, 1, "{line}: {said}");
        assert!(said.ends_with(&format!("\n    instead: {instead}\n")), "{line}: {said}");
    }
}

#[test]
fn without_a_line_of_the_service_s_nothing_is_decided_and_that_is_said() {
    // By the defaults the module refuses there: that would be 1.
    for (service, why) in [
        ("login", "/etc/pam.d/login has no auth line of pam_ussh"),
        ("no-such-service", "/etc/pam.d/no-such-service: No such file or directory"),
        ("../pam.d/sudo", "`../pam.d/sudo` is no name of a stack in /etc/pam.d"),
    ] {
        let arguments = ["--user", "no-such-account", "--service", service];
        let (status, said) = check(&arguments);
        assert_eq!(status, 3, "{said}");
        let first = format!("judged by no options (from the defaults: {why}");
        assert!(said.starts_with(&first), "{said}");
        assert!(said.contains("does not judge by these options: its answer is not known"), "{said}");
        let (status, text) = check(&[&["--json"][..], &arguments].concat());
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, answer["verdict"].as_str()), (3, Some("unchecked")), "{answer:#}");
        assert_eq!(answer["options"]["are_the_services"], false, "{answer:#}");
    }
    let (status, said) = check(&["--user", "no-such-account", "--service", "login", "debug"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.starts_with("judged by debug (from the command line)"), "{said}");
}

#[test]
fn a_line_can_be_judged_in_json() {
    let (status, text) = check(&["--json", "--options", "grop=admins debug"]);
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, answer["verdict"].as_str(), answer["problem"].as_str()),
        (1, Some("bad"), Some("unknown option grop"))
    );
    assert_eq!(answer["arguments"], serde_json::json!(["grop=admins", "debug"]));
    let (status, text) = check(&["--json", "--options", "debug"]);
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, answer["verdict"].as_str(), answer.get("problem")), (0, Some("good"), None));
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &[][..],
        &["--stack"],
        &["--nonsense"],
        &["--options", "debug", "--stack", "/etc/pam.d/sudo"],
        &["--user", "alice", "--options", "debug"],
        &["--facility", "auth", "--stack", "/etc/pam.d/sudo"],
        &["--installed", "--user", "alice"],
        &["--options", "debug", "--facility", "password"],
        &["ca_file=/etc/ca"],
    ] {
        assert_eq!(check(arguments).0, 2, "{arguments:?}");
    }
    assert_eq!((check(&["--help"]).0, check(&["-h"]).0, check(&["--version"]).0), (0, 0, 0));
}

#[test]
fn help_and_manual_name_every_rule_option_and_status() {
    let (_, help) = check(&["--help"]);
    let (_, manual) = check(&["--generate", "man"]);
    let documentation = include_str!("../../../docs/pam_ussh.md");
    let source = concat!(
        include_str!("../src/lint.rs"),
        include_str!("../src/lint/chain.rs"),
        include_str!("../src/lint/companions.rs"),
        include_str!("../src/lint/files.rs"),
        include_str!("../src/lint/lines.rs"),
        include_str!("../src/lint/open.rs"),
        include_str!("../src/lint/presence.rs"),
        include_str!("../src/lint/sshd.rs"),
        include_str!("../src/named.rs"),
    );
    let rules = [
        "lets-everybody-in",
        "unknown-module",
        "no-auth",
        "hidden",
        "group",
        "no-revocation",
        "service-table",
        "talks-after-refusal",
        "nobody",
        "dangling-jump",
        "refusal-ignored",
        "optional",
        "nothing-behind",
        "place",
        "login",
        "option",
        "file",
        "user-environment",
        "sshd-config",
        "stack-writable",
        "syntax",
        "silent",
        "no-module",
        "too-many-ways",
        "other-way",
        "not-asked",
        "exemption",
        "companion",
        "no-records",
    ];
    // Where a rule is a literal behind its severity, it is one of these.
    for found in source.split("Severity::").skip(1).filter_map(|rest| rest.split_once('"')) {
        let (before, rest) = found;
        let rule = rest.split('"').next().unwrap();
        if before.trim_start_matches(char::is_alphabetic).trim() == "," && !rule.contains(' ') {
            assert!(rules.contains(&rule), "{rule} is in no list");
        }
    }
    for word in rules.iter().copied().chain([
        "--stack",
        "--options",
        "--user",
        "--service",
        "--facility",
        "--sshd-config",
        "--installed",
        "--json",
        "Exit status",
    ]) {
        assert!(help.contains(word), "{word} in --help");
        // Headings are in capitals there.
        let manual = manual.replace("\\-", "-").to_lowercase();
        assert!(manual.contains(&word.to_lowercase()), "{word} in the manual page");
    }
    for rule in rules {
        assert!(documentation.contains(&format!("`{rule}`")), "{rule} in docs/pam_ussh.md");
    }
    assert!(manual.contains(".TH pam-ussh-check 8"), "{}", manual.lines().take(5).collect::<String>());
}

#[test]
fn completions_are_generated() {
    for (shell, text) in
        [("bash", "complete -F"), ("zsh", "#compdef pam-ussh-check"), ("fish", "complete -c pam-ussh-check")]
    {
        let (status, script) = check(&["--generate", shell]);
        assert_eq!(status, 0);
        assert!(script.contains(text) && script.contains("sshd-config"), "{shell}: {script}");
    }
}

#[test]
fn what_could_not_be_written_is_said_on_standard_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pam-ussh-check"));
    let output = command.args(["--options", "cafile=/x"]).stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("pam-ussh-check: standard output: No space left on device"), "{said}");
    assert_eq!(output.status.code(), Some(1), "the status is the answer still");
}
