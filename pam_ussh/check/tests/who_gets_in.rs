//! Who gets in without a certificate: for lines of our own making, what is said of each, and nothing of what is as it should be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

fn findings(stack: &str) -> (i32, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pam-ussh-check"));
    let output = command.args(["--json", "--stack", stack]).stdin(Stdio::null()).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), answer["stacks"][0]["findings"].as_array().unwrap().clone())
}

/// What is said of the `auth` lines of a service, as rule and severity, in order of the lines; nothing of files that are not there.
fn said(service: &str, lines: &str) -> Vec<(String, String)> {
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    found(service, lines).iter().map(|finding| (word(finding, "rule"), word(finding, "severity"))).collect()
}

/// The same whole. Bare lines of ours name no revocation list; that is another test's.
fn found(service: &str, lines: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let stack = folder.path().join(service);
    fs::write(&stack, lines).unwrap();
    let (_, mut findings) = findings(stack.to_str().unwrap());
    findings.retain(|finding| {
        finding["rule"] != "file" && finding["rule"] != "no-revocation" && finding["rule"] != "sshd-config"
    });
    findings
}

#[test]
fn who_gets_in_without_a_certificate_is_told_for_what_it_is() {
    let everybody = ("lets-everybody-in", "error");
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("auth required pam_ussh.so\n", &[]),
        ("auth requisite pam_ussh.so\nauth required pam_permit.so\n", &[]),
        ("auth sufficient pam_rootok.so\nauth required pam_ussh.so\n", &[]),
        ("auth required pam_ussh.so\n@include common-auth\n", &[]),
        ("@include common-auth\nauth required pam_ussh.so\n", &[]),
        (
            "auth optional pam_faildelay.so delay=3000000\nauth requisite pam_nologin.so\nauth required pam_ussh.so\n",
            &[],
        ),
        // Of PAM's own helpers these never say yes in auth, so that nothing opens by them.
        ("auth required pam_env.so\nauth sufficient pam_ussh.so\nauth requisite pam_deny.so\n", &[]),
        (
            "auth required pam_env.so\nauth required pam_faillock.so preauth\nauth sufficient pam_ussh.so\nauth [default=die] pam_faillock.so authfail\nauth required pam_deny.so\n",
            &[],
        ),
        (
            "auth [success=2 default=ignore] pam_ussh.so\nauth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so\n",
            &[("other-way", "note")],
        ),
        ("auth sufficient pam_ussh.so\n@include common-auth\n", &[("other-way", "note")]),
        // Conditions except people where the line says so, and only there.
        (
            "auth [success=1 default=ignore] pam_succeed_if.so user = root\nauth required pam_ussh.so\nauth required pam_permit.so\n",
            &[("exemption", "note")],
        ),
        ("auth sufficient pam_wheel.so trust\nauth required pam_ussh.so\n", &[("exemption", "note")]),
        (
            "auth [success=ignore default=1] pam_succeed_if.so user = root\nauth required pam_ussh.so\nauth required pam_permit.so\n",
            &[everybody],
        ),
        ("auth required pam_succeed_if.so user ingroup ops\nauth optional pam_ussh.so\n", &[everybody]),
        ("auth required pam_shells.so\nauth sufficient pam_ussh.so\n", &[everybody]),
        ("auth [success=ok default=reset] pam_ussh.so\nauth required pam_permit.so\n", &[everybody]),
        (
            "auth [success=ok module_unknown=ignore default=bad] pam_ussh.so\nauth required pam_permit.so\n",
            &[everybody],
        ),
        ("auth required pam_permit.so\n", &[everybody]),
        // A module that is not known asks for proof, but may say PAM_IGNORE.
        ("auth required pam_ussh.so\nauth required pam_acme.so\n", &[]),
        (
            "auth sufficient pam_ussh.so\nauth required pam_acme.so\nauth required pam_permit.so\n",
            &[("lets-everybody-in", "warning"), ("other-way", "note")],
        ),
        ("auth required pam_ussh.so\nauth required pam_deny.so\n", &[("nobody", "error")]),
        ("auth required pam_deny.so\nauth required pam_ussh.so\n", &[("nobody", "error")]),
        ("auth sufficient pam_permit.so\nauth required pam_ussh.so\n", &[everybody, ("nobody", "error")]),
        ("auth required pam_ussh\n", &[("no-module", "error")]),
        ("auth required /nonexistent/pam_ussh.so\n", &[("no-module", "error")]),
        ("auth required pam_ussh.so \\\n", &[("nobody", "error"), ("syntax", "error")]),
        ("auth required pam_ussh.so\r\n", &[("syntax", "error"), ("unknown-module", "unchecked")]),
        ("auht required pam_ussh.so\nauth required pam_ussh.so\n", &[("syntax", "error"), ("nobody", "error")]),
    ];
    for (lines, expected) in cases {
        let said = said("sudo", lines);
        let said: Vec<(&str, &str)> = said.iter().map(|(rule, severity)| (rule.as_str(), severity.as_str())).collect();
        assert_eq!(&said, expected, "{lines}");
    }
}

#[test]
fn root_by_itself_is_a_person_only_where_people_start_the_program() {
    let stack = "auth sufficient pam_rootok.so\nauth required pam_ussh.so\n";
    for (service, expected) in [
        ("sudo", None),
        ("sudo-i", None),
        ("su", None),
        ("su-l", None),
        ("doas", None),
        ("sshd", Some("error")),
        ("vsftpd", Some("error")),
        // Whether people start it is not known.
        ("acme", Some("warning")),
    ] {
        let found = found(service, stack);
        let found = found.iter().find(|finding| finding["rule"] == "lets-everybody-in");
        assert_eq!(found.map(|finding| finding["severity"].as_str().unwrap()), expected, "{service}");
        if let Some(finding) = found {
            assert_eq!(finding["line"], 1, "{finding}");
            assert!(finding["what"].as_str().unwrap().contains("by pam_rootok alone"), "{finding}");
            assert!(finding["why"].as_str().unwrap().contains("runs as root"), "{finding}");
        }
    }
}

#[test]
fn a_module_that_passes_people_over_by_option_is_no_proof() {
    let stack =
        |line: &str| format!("auth sufficient pam_ussh.so\nauth required {line}\nauth required pam_permit.so\n");
    for (line, severity, why) in [
        ("pam_ldap.so ignore_authinfo_unavail ignore_unknown_user", "error", "pam_ldap with ignore_authinfo_unavail"),
        ("pam_sss.so ignore_unknown_user", "error", "pam_sss with ignore_unknown_user"),
        ("pam_google_authenticator.so nullok", "error", "pam_google_authenticator with nullok"),
        ("pam_userdb.so db=/etc/users unknown_ok", "error", "pam_userdb with unknown_ok"),
        ("pam_u2f.so nouserok cue", "error", "pam_u2f with nouserok"),
        ("pam_krb5.so minimum_uid=1000", "error", "pam_krb5 with minimum_uid"),
        ("pam_radius_auth.so localifdown", "error", "pam_radius_auth with localifdown"),
        ("pam_u2f.so alwaysok", "error", "whoever reaches this service"),
        ("pam_u2f.so cue", "warning", "takes pam_u2f to answer PAM_IGNORE, as it may"),
        ("pam_pkcs11.so", "warning", "takes pam_pkcs11 to answer PAM_IGNORE, as it may"),
        ("pam_acme.so", "warning", "takes pam_acme, which is not known here, to answer PAM_IGNORE"),
    ] {
        let found = found("sudo", &stack(line));
        let finding = found.iter().find(|finding| finding["rule"] == "lets-everybody-in").unwrap();
        assert_eq!(finding["severity"], severity, "{line}: {finding}");
        assert!(finding["why"].as_str().unwrap().contains(why), "{line}: {finding}");
    }
    for line in [
        "pam_unix.so nullok",
        "pam_ldap.so",
        "pam_sss.so",
        "pam_google_authenticator.so",
        "pam_krb5.so",
        "pam_ldap.so no_ignore_unknown_user",
    ] {
        assert_eq!(said("sudo", &stack(line)), [("other-way".into(), "note".into())], "{line}");
    }
}

#[test]
fn a_test_that_names_nobody_lets_everybody_in() {
    let everybody = [
        "pam_exec.so /usr/local/sbin/log-sudo",
        "pam_script.so",
        "pam_localuser.so",
        "pam_rhosts.so",
        "pam_usertype.so isregular",
        "pam_access.so",
        "pam_time.so",
        "pam_succeed_if.so uid >= 0",
        "pam_succeed_if.so quiet uid >= 1000",
        "pam_succeed_if.so user != root",
        "pam_succeed_if.so user notingroup admins",
        "pam_succeed_if.so user =~ *",
        "pam_succeed_if.so user =~ ?*",
        "pam_succeed_if.so service in sudo",
        "pam_listfile.so onerr=succeed item=user sense=deny file=/etc/nosudo",
        "pam_listfile.so onerr=succeed item=user sense=allow file=/etc/sudoers.list",
        "pam_listfile.so item=tty sense=allow file=/etc/ttys",
        "pam_wheel.so deny trust",
    ];
    let some = [
        "pam_succeed_if.so quiet user ingroup admins",
        "pam_succeed_if.so user = backup",
        "pam_succeed_if.so user in backup:restore uid >= 100",
        "pam_succeed_if.so uid eq 0",
        "pam_succeed_if.so user =~ backup*",
        "pam_wheel.so trust group=admins",
        "pam_listfile.so onerr=fail item=user sense=allow file=/etc/sudo.allow",
    ];
    let stacks = |test: &str| {
        [
            format!("auth sufficient pam_ussh.so\nauth sufficient {test}\nauth required pam_deny.so\n"),
            format!("auth sufficient {test}\nauth required pam_ussh.so\n"),
            format!("auth [success=1 default=ignore] {test}\nauth required pam_ussh.so\nauth required pam_permit.so\n"),
        ]
    };
    for test in everybody {
        for stack in stacks(test) {
            let found = found("sudo", &stack);
            let [finding] = found.as_slice() else { panic!("{stack}: {found:#?}") };
            let name = test.split(".so").next().unwrap();
            assert_eq!(
                (&finding["rule"], &finding["severity"]),
                (&"lets-everybody-in".into(), &"warning".into()),
                "{stack}"
            );
            assert!(finding["what"].as_str().unwrap().contains(&format!("by {name} alone")), "{stack}: {finding}");
            assert!(finding["why"].as_str().unwrap().contains("names no user and no group"), "{stack}: {finding}");
        }
    }
    for test in some {
        for stack in stacks(test) {
            assert_eq!(said("sudo", &stack), [("exemption".into(), "note".into())], "{stack}");
        }
    }
    // su's PAM_USER is whom the caller wants to become.
    for (test, expected) in [
        ("pam_succeed_if.so user = postgres", ("lets-everybody-in", "warning")),
        ("pam_succeed_if.so use_uid user ingroup dba", ("exemption", "note")),
        ("pam_wheel.so trust", ("exemption", "note")),
        ("pam_listfile.so item=user sense=allow file=/etc/su.allow", ("lets-everybody-in", "warning")),
        ("pam_listfile.so item=ruser sense=allow file=/etc/su.allow", ("exemption", "note")),
    ] {
        let said = said("su", &format!("auth sufficient {test}\nauth required pam_ussh.so\n"));
        assert_eq!(said, [(expected.0.into(), expected.1.into())], "{test}");
    }
    // One that leads to another proof lets nobody in.
    assert_eq!(
        said(
            "sudo",
            "auth [success=1 default=ignore] pam_localuser.so\nauth required pam_ussh.so\nauth required pam_unix.so\n"
        ),
        [("not-asked".into(), "note".into())]
    );
}

#[test]
fn a_module_that_is_not_known_is_not_taken_for_proof() {
    for test in ["pam_abl.so config=/etc/security/pam_abl.conf", "pam_geoip.so", "pam_shield.so", "pam_script.so"] {
        let said = said("sudo", &format!("auth sufficient pam_ussh.so\nauth required {test}\n"));
        assert_eq!(said, [("lets-everybody-in".into(), "error".into())], "{test}: yes to all who are on no list");
    }
    let folder = tempfile::tempdir().unwrap();
    let stack = folder.path().join("sudo");
    fs::write(&stack, "auth sufficient pam_ussh.so revoked_keys=/nonexistent\nauth required pam_acme.so\n").unwrap();
    let (status, found) = findings(stack.to_str().unwrap());
    assert_eq!(status, 3, "{found:#?}");
    let finding = found.iter().find(|finding| finding["rule"] == "unknown-module").unwrap();
    assert_eq!((&finding["severity"], &finding["line"]), (&"unchecked".into(), &2.into()), "{finding}");
    assert!(finding["what"].as_str().unwrap().contains("by pam_acme alone"), "{finding}");
    assert_eq!(said("sudo", "auth required pam_acme.so\n"), [("unknown-module".into(), "unchecked".into())]);
    assert_eq!(said("cron", "auth required pam_acme.so\n"), [], "none of our business");
    assert_eq!(
        said("sudo", "auth sufficient pam_acme.so\nauth required pam_ussh.so\nauth required pam_unix.so\n")[0].0,
        "unknown-module"
    );
}

#[test]
fn a_service_of_ours_without_auth_lines_is_told() {
    let other = [("no-auth".into(), "warning".into())];
    assert_eq!(said("sudo", "account required pam_ussh.so\n@include common-account\n"), other);
    assert_eq!(said("su", "@include common-account\n"), other);
    for service in ["sshd", "cron"] {
        assert_eq!(said(service, "@include common-account\n"), [], "{service}");
    }
}

#[test]
fn stacks_that_do_not_concern_us_are_let_be() {
    assert_eq!(said("gdm-autologin", "auth required pam_permit.so\n"), [("lets-everybody-in".into(), "note".into())]);
    assert_eq!(said("other", "auth required pam_warn.so\nauth required pam_deny.so\n"), []);
    assert_eq!(said("cron", "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\n"), []);
}
