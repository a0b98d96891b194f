//! Mistakes sown into Debian's own stacks: each is found, with its reason, and is gone when it is mended. Debian's own stacks and our examples are found good.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn check(arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pam-ussh-check")).args(arguments).stdin(Stdio::null()).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
    )
}

fn findings(arguments: &[&str]) -> (i32, Vec<Value>) {
    let (status, text) = check(&[&["--json"], arguments].concat());
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let stacks = answer["stacks"].as_array().unwrap();
    (status, stacks.iter().flat_map(|stack| stack["findings"].as_array().unwrap().clone()).collect())
}

fn stacks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stacks")
}

/// A mistake: the file to look at; where it is found, as file's end and line; by which rule and as what; words of what is said; and what mends it: words of that file, and others
/// in their place.
struct Mistake {
    file: &'static str,
    at: (&'static str, u64),
    rule: &'static str,
    severity: &'static str,
    says: &'static str,
    mend: (&'static str, &'static str),
}

const fn mistake(
    file: &'static str,
    at: (&'static str, u64),
    rule: &'static str,
    severity: &'static str,
    says: &'static str,
    mend: (&'static str, &'static str),
) -> Mistake {
    Mistake { file, at, rule, severity, says, mend }
}

const OURS: &str = "auth required pam_ussh.so";

const MISTAKES: &[Mistake] = &[
    mistake(
        "dangling-success/sudo",
        ("sudo", 6),
        "dangling-jump",
        "error",
        "on success it jumps over one line, but there is none behind it",
        ("auth\t[success=1 default=ignore]\tpam_ussh.so", OURS),
    ),
    mistake(
        "no-deny/sudo",
        ("sudo", 6),
        "lets-everybody-in",
        "error",
        "although pam_ussh has refused",
        ("auth\trequired\t\t\tpam_permit.so", "auth requisite pam_deny.so\nauth required pam_permit.so"),
    ),
    mistake(
        "no-deny/sudo",
        ("sudo", 6),
        "nobody",
        "error",
        "after pam_ussh has said yes it fails",
        ("auth\trequired\t\t\tpam_permit.so", "auth requisite pam_deny.so\nauth required pam_permit.so"),
    ),
    mistake(
        "sufficient-alone/sudo",
        ("sudo", 6),
        "nothing-behind",
        "warning",
        "nothing behind `sufficient` pam_ussh refuses",
        ("auth sufficient pam_ussh.so", "auth sufficient pam_ussh.so\nauth requisite pam_deny.so"),
    ),
    mistake(
        "sufficient-permit/common-auth",
        ("common-auth", 17),
        "lets-everybody-in",
        "error",
        "although pam_ussh has refused",
        ("auth\tsufficient\tpam_ussh.so", "auth\tsufficient\tpam_ussh.so\nauth requisite pam_deny.so"),
    ),
    mistake(
        "optional/su",
        ("su", 57),
        "optional",
        "warning",
        "its refusal is passed over",
        ("auth       optional   pam_ussh.so", "auth       required   pam_ussh.so"),
    ),
    mistake(
        "permit-only/sudo-i",
        ("sudo-i", 7),
        "lets-everybody-in",
        "error",
        "no module in it asks for proof",
        ("#auth required pam_ussh.so", OURS),
    ),
    mistake(
        "jump-over-deny/common-auth",
        ("common-auth", 17),
        "lets-everybody-in",
        "error",
        "although pam_ussh has refused",
        ("[success=2 default=1]", "[success=2 default=ignore]"),
    ),
    mistake(
        "lands-on-deny/common-auth",
        ("common-auth", 17),
        "nobody",
        "error",
        "after pam_ussh has said yes it fails",
        ("auth\t[success=1 default=ignore]\tpam_ussh.so", "auth\t[success=2 default=ignore]\tpam_ussh.so"),
    ),
    mistake(
        "password-lands-on-deny/common-auth",
        ("common-auth", 17),
        "nobody",
        "warning",
        "nobody gets in by pam_unix",
        ("auth\t[success=1 default=ignore]\tpam_unix.so", "auth\t[success=2 default=ignore]\tpam_unix.so"),
    ),
    mistake(
        "session-after-env/sshd",
        ("sshd", 55),
        "user-environment",
        "error",
        "before our session line runs",
        ("pam_env.so user_readenv=1", "pam_env.so user_readenv=0"),
    ),
    mistake(
        "setcred-env/sshd",
        ("sshd", 4),
        "user-environment",
        "error",
        "before our session line runs",
        ("auth       required     pam_env.so user_readenv=1", "auth       required     pam_env.so"),
    ),
    mistake(
        "in-login/login",
        ("login", 57),
        "place",
        "error",
        "a console has no agent",
        ("auth       required   pam_ussh.so", "# none of ours"),
    ),
    mistake(
        "in-common-auth/common-auth",
        ("common-auth", 17),
        "login",
        "error",
        "login includes this line too",
        ("auth\trequired\t\t\tpam_ussh.so", "# none of ours"),
    ),
    mistake(
        "in-sshd-account/sshd",
        ("sshd", 8),
        "place",
        "error",
        "the certificate cannot be seen there",
        ("account    required     pam_ussh.so", "session    required     pam_ussh.so"),
    ),
    mistake(
        "in-password/sshd",
        ("sshd", 55),
        "place",
        "error",
        "it has no passwords to change",
        ("password required pam_ussh.so", ""),
    ),
    mistake(
        "session-in-sudo/sudo",
        ("sudo", 7),
        "place",
        "error",
        "its place is sshd's stack only",
        ("session required pam_ussh.so", ""),
    ),
    mistake(
        "session-optional/sshd",
        ("sshd", 22),
        "refusal-ignored",
        "error",
        "session ends in success",
        ("session    optional     pam_ussh.so", "session    required     pam_ussh.so"),
    ),
    mistake(
        "account-ignored/sudo",
        ("sudo", 7),
        "refusal-ignored",
        "error",
        "account ends in success",
        ("account sufficient pam_ussh.so", "account required pam_ussh.so"),
    ),
    mistake(
        "unavailable-ignored/sudo",
        ("sudo", 6),
        "lets-everybody-in",
        "error",
        "although pam_ussh has refused",
        ("authinfo_unavail=ignore ", ""),
    ),
    mistake(
        "contradiction/sudo",
        ("sudo", 6),
        "option",
        "error",
        "require_user_principal=no needs authorized_principals=",
        ("require_user_principal=no", "require_user_principal=no authorized_principals=ops"),
    ),
    mistake(
        "repeated/sudo",
        ("sudo", 6),
        "option",
        "error",
        "option revoked_keys is repeated",
        (" revoked_keys=/etc/ssh/old_keys", ""),
    ),
    mistake("unknown-option/sudo", ("sudo", 6), "option", "error", "unknown option cafile", ("cafile=", "ca_file=")),
    mistake(
        "misspelt-control/sudo",
        ("sudo", 6),
        "syntax",
        "error",
        "control `sucess=1 default=ignore`: no return value of PAM",
        ("sucess=1", "success=1"),
    ),
    mistake(
        "missing-include/sudo",
        ("sudo", 7),
        "syntax",
        "error",
        "`comon-account` is included and not there",
        ("comon-account", "common-account"),
    ),
    mistake(
        "loop/sudo",
        ("ussh-auth", 3),
        "syntax",
        "error",
        "`sudo` includes itself",
        ("auth include ussh-auth", OURS),
    ),
    mistake(
        "silent/sudo",
        ("sudo", 6),
        "silent",
        "warning",
        "nothing is logged if pam_ussh is missing",
        ("-auth", "auth"),
    ),
    mistake(
        "pam-conf/pam.conf",
        ("pam.conf", 12),
        "dangling-jump",
        "error",
        "on success it jumps over one line",
        ("[success=1 \\\n\tdefault=ignore]", "required"),
    ),
    mistake(
        "sshd-no-methods/pam.d/sshd",
        ("pam.d/sshd", 4),
        "sshd-config",
        "error",
        "our auth line is never asked for a certificate",
        (OURS_IN_SSHD, "@include common-auth"),
    ),
    mistake(
        "sshd-too-early/pam.d/sshd",
        ("ssh/sshd_config", 62),
        "sshd-config",
        "error",
        "before sshd has seen a certificate",
        (OURS_IN_SSHD, "@include common-auth"),
    ),
    mistake(
        "sshd-kbd-off/pam.d/sshd",
        ("ssh/sshd_config", 61),
        "sshd-config",
        "error",
        "KbdInteractiveAuthentication is off",
        (OURS_IN_SSHD, "@include common-auth"),
    ),
    mistake(
        "sshd-no-pam/pam.d/sshd",
        ("ssh/sshd_config", 85),
        "sshd-config",
        "error",
        "UsePAM is off",
        (OURS_IN_SSHD, "@include common-auth"),
    ),
];

const OURS_IN_SSHD: &str = "auth       required     pam_ussh.so";

#[test]
fn each_mistake_is_found_where_it_is_and_with_its_reason() {
    assert!(MISTAKES.len() >= 12);
    for Mistake { file, at, rule, severity, says, .. } in MISTAKES {
        let path = stacks().join(file);
        let (status, findings) = findings(&["--stack", path.to_str().unwrap()]);
        assert_eq!(status, 1, "{file}: {findings:#?}");
        let found = findings.iter().any(|finding| {
            finding["rule"] == *rule
                && finding["severity"] == *severity
                && finding["file"].as_str().unwrap().ends_with(at.0)
                && finding["line"] == at.1
                && finding["what"].as_str().unwrap().contains(says)
        });
        assert!(found, "{file}: {rule} {severity} {at:?} {says:?} in {findings:#?}");
        for finding in &findings {
            assert!(!finding["why"].as_str().unwrap().is_empty(), "{finding}");
        }
    }
}

#[test]
fn a_mended_stack_is_good() {
    for Mistake { file, mend: (wrong, right), .. } in MISTAKES {
        let folder = tempfile::tempdir().unwrap();
        copy(&stacks().join(file.split('/').next().unwrap()), folder.path());
        let path = folder.path().join(file.split_once('/').unwrap().1);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(wrong), "{file}: {wrong:?}");
        fs::write(&path, text.replace(wrong, right)).unwrap();
        let (status, findings) = findings(&["--stack", path.to_str().unwrap()]);
        assert_eq!(status, 0, "{file}: {findings:#?}");
    }
}

#[test]
fn every_stack_here_is_a_case() {
    let cases: Vec<&str> =
        MISTAKES.iter().map(|mistake| mistake.file.split('/').next().unwrap()).chain(["behind-sufficient"]).collect();
    for entry in fs::read_dir(stacks()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(cases.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn a_line_behind_one_that_is_enough_by_itself_is_a_note() {
    let (status, findings) = findings(&["--stack", stacks().join("behind-sufficient/sudo").to_str().unwrap()]);
    assert_eq!(status, 0);
    let note = findings.iter().find(|finding| finding["rule"] == "not-asked").unwrap();
    assert_eq!((note["severity"].as_str(), note["line"].as_u64()), (Some("note"), Some(7)));
    assert!(note["what"].as_str().unwrap().contains("by pam_unix is not asked for a certificate"), "{note}");
}

#[test]
fn debian_s_own_stacks_raise_no_alarm() {
    for folder in ["/etc/pam.d", "/var/cache/ussh-lab/trixie/etc/pam.d"] {
        // The second is there once `make trixie` has run.
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let files: Vec<String> = entries.map(|entry| entry.unwrap().path().to_str().unwrap().to_owned()).collect();
        assert!(files.len() > 10, "{folder}");
        let arguments: Vec<&str> = ["--stack"].into_iter().chain(files.iter().map(String::as_str)).collect();
        let (status, findings) = findings(&arguments);
        assert_eq!((status, findings), (0, vec![]), "{folder}");
    }
}

#[test]
fn our_examples_pass() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
    let entries = ["pam.d", "keyboard-interactive/pam.d"].map(|folder| fs::read_dir(packaging.join(folder)).unwrap());
    let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
    let files: Vec<String> = paths.map(|path| path.to_str().unwrap().to_owned()).collect();
    assert!(files.len() >= 6);
    let folder = tempfile::tempdir().unwrap();
    let sshd_config = folder.path().join("sshd_config");
    fs::write(
        &sshd_config,
        "UsePAM yes\nKbdInteractiveAuthentication yes\nAuthenticationMethods publickey,keyboard-interactive:pam\n",
    )
    .unwrap();
    let options = ["--sshd-config", sshd_config.to_str().unwrap(), "--stack"];
    let arguments: Vec<&str> = options.into_iter().chain(files.iter().map(String::as_str)).collect();
    let (status, findings) = findings(&arguments);
    assert_eq!(status, 0, "{findings:#?}");
    // All that is left to say is that the files of a server are not on this machine.
    assert!(findings.iter().all(|finding| finding["rule"] == "file" && finding["severity"] == "note"), "{findings:#?}");
    let (status, _) = self::findings(&[
        "--stack",
        files.iter().find(|file| file.ends_with("keyboard-interactive/pam.d/sshd")).unwrap(),
    ]);
    assert_eq!(status, 0, "with no sshd_config to look it up in that is a note");
}

#[test]
fn files_that_a_line_names_are_looked_at_as_the_module_would() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca");
    fs::write(&ca_file, "no key\n").unwrap();
    fs::set_permissions(&ca_file, fs::Permissions::from_mode(0o666)).unwrap();
    let stack = folder.path().join("sudo");
    fs::write(&stack, format!("auth required pam_ussh.so ca_file={}\n@include common-account\n", ca_file.display()))
        .unwrap();
    let (status, found) = findings(&["--stack", stack.to_str().unwrap()]);
    assert_eq!((status, found[0]["rule"].as_str(), found[0]["severity"].as_str()), (1, Some("file"), Some("error")));
    assert!(found[0]["what"].as_str().unwrap().contains("bad ownership or modes"), "{found:?}");

    fs::write(&stack, "auth required pam_ussh.so ca_file=/nonexistent/ca\n").unwrap();
    let (status, found) = findings(&["--stack", stack.to_str().unwrap()]);
    assert_eq!((status, found[0]["severity"].as_str()), (0, Some("note")));
    let (status, found) = findings(&["--installed", "--stack", stack.to_str().unwrap()]);
    let file = found.iter().find(|finding| finding["rule"] == "file").unwrap();
    assert_eq!((status, file["severity"].as_str()), (1, Some("error")));
    assert!(file["what"].as_str().unwrap().contains("ca_file: /nonexistent/ca is not there"), "{found:?}");
}

#[test]
fn people_are_told_file_line_what_why_and_what_to_write() {
    let path = stacks().join("no-deny/sudo");
    let (_, text) = check(&["--stack", path.to_str().unwrap()]);
    let path = path.display();
    for line in [
        format!(
            "{path}:6: error: auth ends in success although pam_ussh has refused: it lets everybody in [lets-everybody-in]"
        ),
        "    why:      whoever reaches this service gets in without a certificate and without a password".into(),
        format!("    shown by: {path}:6: pam_ussh.so returns auth_err: ignored"),
        format!("              {path}:7: pam_permit.so returns success: counts"),
        "              so auth ends in success".into(),
        format!("{path} (sudo): not good"),
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\nin\n{text}");
    }
    assert!(text.contains("    instead:  auth required pam_ussh.so; or"), "{text}");
}

#[test]
fn what_stands_in_a_stack_does_not_reach_the_terminal_raw() {
    let folder = tempfile::tempdir().unwrap();
    let stack = folder.path().join("sudo");
    fs::write(&stack, b"auth required pam_ussh.so \x1b[2Jx=\x07\n\x1b]0;x required pam_permit.so\n").unwrap();
    let (status, text) = check(&["--stack", stack.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(
        text.contains("unknown option \\x1b[2Jx")
            && text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)),
        "{text:?}"
    );
}

#[test]
fn a_stack_that_cannot_be_read_is_wrong_usage_and_the_others_are_looked_at() {
    let (status, text) = check(&["--stack", "/nonexistent/sudo", "/etc/pam.d/sudo"]);
    assert_eq!(status, 2);
    assert!(
        text.contains("pam-ussh-check: /nonexistent/sudo: ") && text.contains("/etc/pam.d/sudo (sudo): good"),
        "{text}"
    );
}

#[test]
fn a_document_with_a_stack_that_could_not_be_read_is_not_good() {
    let (status, text) = check(&["--json", "--stack", "/nonexistent/sudo", "/etc/pam.d/sudo"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, answer["verdict"].as_str()), (2, Some("unchecked")), "{answer:#}");
    assert_eq!(answer["errors"][0]["file"], "/nonexistent/sudo");
    assert!(answer["errors"][0]["error"].as_str().unwrap().starts_with("No such file"), "{answer:#}");
    assert_eq!((answer["stacks"].as_array().unwrap().len(), &answer["stacks"][0]["verdict"]), (1, &"good".into()));
    let (_, text) = check(&["--json", "--stack", "/etc/pam.d/sudo"]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["errors"], serde_json::json!([]));
}

#[test]
fn a_module_that_is_not_there_is_found_in_installed_stacks() {
    let folder = tempfile::tempdir().unwrap();
    let stack = folder.path().join("sudo");
    let told = |lines: &str, installed: bool| {
        fs::write(&stack, lines).unwrap();
        let how = if installed { &["--installed", "--stack"][..] } else { &["--stack"] };
        let (_, found) = findings(&[how, &[stack.to_str().unwrap()]].concat());
        let found = found.iter().filter(|finding| finding["rule"] == "no-module");
        let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        found.map(|one| [word(one, "severity"), word(one, "what"), word(one, "instead")]).collect::<Vec<_>>()
    };
    let unix = "auth required pam_unix.so\n";
    for (lines, severity, what, instead) in [
        (
            "auth required pam_uss.so\n",
            "error",
            "pam_uss.so is not there: is pam_ussh.so meant?",
            "auth required pam_ussh.so",
        ),
        ("-auth required pam_usssh.so\n", "error", "is pam_ussh.so meant?", "auth required pam_ussh.so"),
        (
            "auth [success=1 default=ignore] pam_unx.so\n",
            "note",
            "pam_unx.so is not there: is pam_unix.so meant?",
            "auth [success=1 default=ignore] pam_unix.so",
        ),
        ("session required pam_acme.so\n", "warning", "pam_acme.so is not there", "install the package that holds it"),
        ("session optional pam_acme.so\n", "note", "pam_acme.so is not there", "or take the line out"),
    ] {
        let found = told(&format!("{lines}{unix}"), true);
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        let [got, said, write] = &found[0];
        assert!(got == severity && said.contains(what) && write.contains(instead), "{lines}: {found:?}");
        assert_eq!(told(&format!("{lines}{unix}"), false), [] as [[String; 3]; 0], "{lines}: it is not installed");
    }
    assert_eq!(told(&format!("-session optional pam_acme.so\n{unix}"), true), [] as [[String; 3]; 0]);
}

#[test]
fn the_other_service_of_a_program_may_have_no_stack_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let sudo = folder.path().join("sudo");
    fs::write(&sudo, "auth required pam_ussh.so\n").unwrap();
    let companions = |how: &[&str]| {
        let (_, findings) = findings(&[how, &["--stack", sudo.to_str().unwrap()]].concat());
        let told = findings.iter().filter(|finding| finding["rule"] == "companion");
        told.map(|finding| finding["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        companions(&["--installed"]),
        ["`sudo -i` is not asked for a certificate: its service sudo-i has no file"]
    );
    assert_eq!(companions(&[]), [] as [&str; 0], "a stack that lies elsewhere says nothing of its neighbours");
    fs::write(folder.path().join("sudo-i"), "auth include sudo\n").unwrap();
    assert_eq!(companions(&["--installed"]), [] as [&str; 0]);
}

#[test]
fn what_is_said_is_said_in_ascii() {
    let folder = tempfile::tempdir().unwrap();
    let stack = folder.path().join("sudo");
    fs::write(&stack, "auth sufficient pam_permit.so\nauth required /lib/none/pam_ussh.so\n").unwrap();
    let all = MISTAKES.iter().map(|mistake| stacks().join(mistake.file)).chain([stack]);
    for path in all {
        let (_, text) = check(&["--stack", path.to_str().unwrap()]);
        assert!(text.is_ascii() && !text.contains("\\xe2"), "{text}");
    }
    assert!(check(&["--help"]).1.is_ascii());
}

#[test]
fn a_line_that_is_never_asked_is_told_with_its_own_why() {
    let folder = tempfile::tempdir().unwrap();
    let stack = folder.path().join("sudo");
    fs::write(&stack, "auth sufficient pam_permit.so\nauth required pam_ussh.so\n").unwrap();
    let (_, findings) = findings(&["--stack", stack.to_str().unwrap()]);
    let nobody = findings.iter().find(|finding| finding["rule"] == "nobody").unwrap();
    assert_eq!(nobody["why"], "what is never asked lets nobody in and keeps nobody out", "{nobody}");
    assert!(nobody["instead"].as_str().unwrap().starts_with("put it in front of the line that ends auth"), "{nobody}");
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
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
    let (_, mut findings) = findings(&["--stack", stack.to_str().unwrap()]);
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
    let (status, found) = findings(&["--stack", stack.to_str().unwrap()]);
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

#[test]
fn the_other_service_of_a_program_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (sudo, sudo_i) = (folder.path().join("sudo"), folder.path().join("sudo-i"));
    fs::write(&sudo, "auth required pam_ussh.so\n").unwrap();
    fs::write(&sudo_i, "@include common-auth\n").unwrap();
    let companions = || {
        let (status, findings) = findings(&["--stack", sudo.to_str().unwrap()]);
        assert_eq!(status, 0);
        findings.into_iter().filter(|finding| finding["rule"] == "companion").collect::<Vec<_>>()
    };
    assert!(companions()[0]["what"].as_str().unwrap().starts_with("`sudo -i` is not asked for a certificate"));
    fs::write(&sudo_i, "auth include sudo\n").unwrap();
    assert_eq!(companions(), Vec::<Value>::new());
}

#[test]
fn another_name_can_be_given_for_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let stack = folder.path().join("new-stack");
    fs::write(&stack, "auth required pam_ussh.so\n").unwrap();
    assert_eq!(findings(&["--stack", stack.to_str().unwrap()]).0, 0);
    let (status, findings) = findings(&["--service", "login", "--stack", stack.to_str().unwrap()]);
    assert_eq!((status, findings[0]["rule"].as_str()), (1, Some("place")));
}

#[test]
fn an_include_that_fails_in_an_included_file_may_be_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let stack = folder.path().join("sudo");
    fs::write(&stack, "auth include ours\n").unwrap();
    fs::write(folder.path().join("ours"), "auth required pam_ussh.so\n@include nothing\n").unwrap();
    let (status, findings) = findings(&["--stack", stack.to_str().unwrap()]);
    assert_eq!(status, 1);
    let found = findings.iter().find(|finding| finding["what"].as_str().unwrap().contains("may pass over it")).unwrap();
    assert!(found["file"].as_str().unwrap().ends_with("/ours") && found["line"] == 2, "{found}");
}
