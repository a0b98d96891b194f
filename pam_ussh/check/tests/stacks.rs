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
fn a_line_that_binds_to_logins_needs_their_records() {
    let folder = tempfile::tempdir().unwrap();
    let (sudo, sshd) = (folder.path().join("sudo"), folder.path().join("sshd"));
    let found = || {
        let (status, findings) = findings(&["--stack", sudo.to_str().unwrap()]);
        let found = findings.into_iter().filter(|finding| finding["rule"] == "no-records");
        (status, found.map(|finding| finding["line"].as_u64().unwrap()).collect::<Vec<_>>())
    };
    fs::write(&sudo, "auth required pam_ussh.so bind_session=yes\naccount required pam_ussh.so bind_session=yes\n")
        .unwrap();
    assert_eq!(found(), (0, vec![]), "nothing is known of sshd here");
    fs::write(&sshd, "auth required pam_unix.so\nsession required pam_unix.so\n").unwrap();
    assert_eq!(found(), (1, vec![1, 2]));
    fs::write(&sshd, "auth required pam_unix.so\nsession requisite pam_ussh.so\n").unwrap();
    assert_eq!(found(), (0, vec![]));
    fs::write(&sshd, "session required pam_unix.so\n").unwrap();
    fs::write(&sudo, "auth required pam_ussh.so\naccount required pam_ussh.so bind_session=no\n").unwrap();
    assert_eq!(found(), (0, vec![]));
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
