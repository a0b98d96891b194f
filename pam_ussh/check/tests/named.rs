//! What lines name and leave out, in stacks and for `--options`; and what is said of stacks that share files. Needs root, for files that are trusted and for another uid.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// A folder that is root's all the way up.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// `None`: not root.
    fn new() -> Option<Self> {
        if ussh_os::process::effective_uid() != 0 {
            println!("ignored, needs root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("pam-ussh-check-").tempdir_in("/run").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = World { folder };
        world.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "ca", "-f", &world.at("ca")]);
        world.run("ssh-keygen", &["-q", "-k", "-f", &world.at("krl"), &world.at("ca.pub")]);
        world.run("cp", &[env!("CARGO_BIN_EXE_pam-ussh-check"), &world.at("pam-ussh-check")]);
        fs::create_dir(world.at("pam.d")).unwrap();
        Some(world)
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.at(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn check_as(&self, uid: u32, arguments: &[&str]) -> (i32, String) {
        let id = uid.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(self.at("pam-ussh-check"));
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    }

    fn check(&self, arguments: &[&str]) -> (i32, String) {
        self.check_as(0, arguments)
    }

    /// What is found by a rule in a stack, as severity and what, and what to do instead.
    fn found(&self, rule: &str, arguments: &[&str]) -> (i32, Vec<[String; 3]>) {
        let (status, text) = self.check(&[&["--json"], arguments].concat());
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let of_stacks = answer["stacks"].as_array().into_iter().flatten();
        let findings = of_stacks.chain([&answer]).filter_map(|one| one["findings"].as_array()).flatten();
        let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let found = findings.filter(|finding| finding["rule"] == rule);
        (status, found.map(|one| ["severity", "what", "instead"].map(|key| word(one, key))).collect())
    }

    /// The options of a line that lacks nothing.
    fn good(&self) -> String {
        format!("ca_file={} revoked_keys={}", self.at("ca.pub"), self.at("krl"))
    }
}

fn texts(found: &[[String; 3]]) -> Vec<[&str; 3]> {
    found.iter().map(|one| one.each_ref().map(String::as_str)).collect()
}

#[test]
fn a_group_that_does_not_exist_is_found() {
    let Some(world) = World::new() else { return };
    let good = world.good();
    let stack = world.write(
        "pam.d/sudo",
        &format!("auth required pam_ussh.so {good} group=nosuch\naccount required pam_ussh.so {good} account_exempt_group=none-such\n"),
    );
    let (status, found) = world.found("group", &["--installed", "--stack", &stack]);
    assert_eq!(status, 1);
    assert_eq!(
        texts(&found),
        [
            ["error", "group: there is no group nosuch", "make it, or name another with group="],
            [
                "error",
                "account_exempt_group: there is no group none-such",
                "make it, or name another with account_exempt_group="
            ]
        ]
    );
    let (status, found) = world.found("group", &["--stack", &stack]);
    assert_eq!((status, found[0][0].as_str()), (0, "note"), "the host that the stack is for may have it");
    world.write("pam.d/sudo", &format!("auth required pam_ussh.so {good} group=root\n"));
    assert_eq!(world.found("group", &["--installed", "--stack", &stack]).1, [] as [[String; 3]; 0]);
}

#[test]
fn options_are_looked_at_with_the_files_and_groups_that_they_name() {
    let Some(world) = World::new() else { return };
    let good = world.good();
    let broken = world.write("broken", "no key\n");
    assert_eq!(world.check(&["--options", &good]), (0, "auth of sudo: good\n".into()));
    for (options, status, said) in [
        (
            format!("{good} group=nosuch"),
            0,
            "auth of sudo: good\n    note: group: there is no group nosuch [group]\n".to_owned(),
        ),
        ("ca_file=/nonexistent".into(), 0, "    note: ca_file: /nonexistent is not there [file]\n".into()),
        (format!("ca_file={broken}"), 1, format!("not what they name\n    error: ca_file: {broken} holds no CA key")),
    ] {
        let (got, text) = world.check(&["--options", &options]);
        assert_eq!(got, status, "{text}");
        assert!(text.contains(&said), "{said:?} in {text}");
    }
    let (status, found) = world.found("file", &["--installed", "--options", "ca_file=/nonexistent"]);
    assert_eq!(
        (status, found[0][0].as_str(), found[0][1].as_str()),
        (1, "error", "ca_file: /nonexistent is not there")
    );

    fs::set_permissions(world.at("krl"), fs::Permissions::from_mode(0o600)).unwrap();
    let (status, text) = world.check_as(65534, &["--options", &good]);
    assert_eq!(status, 3, "{text}");
    assert!(
        text.contains(&format!("not checked: revoked_keys: {} is not for you to read [file]", world.at("krl"))),
        "{text}"
    );
}

#[test]
fn a_line_without_a_revocation_list_is_a_note() {
    let Some(world) = World::new() else { return };
    let ca_file = format!("ca_file={}", world.at("ca.pub"));
    let stack = world.write("pam.d/sudo", &format!("auth required pam_ussh.so {ca_file}\n"));
    for arguments in [["--stack", &stack], ["--options", &ca_file]] {
        let (status, found) = world.found("no-revocation", &arguments);
        assert_eq!(status, 0);
        let note = [
            "note",
            "no revoked_keys=: the line takes a certificate that was revoked",
            "revoked_keys=/etc/ssh/revoked_keys",
        ];
        assert_eq!(texts(&found), [note], "{arguments:?}");
    }
    let good = world.good();
    assert_eq!(world.found("no-revocation", &["--options", &good]).1, [] as [[String; 3]; 0]);
    let sshd = ["--service", "sshd", "--options", &ca_file];
    assert_eq!(world.found("no-revocation", &sshd).1, [] as [[String; 3]; 0], "sshd has RevokedKeys of its own");
}

#[test]
fn a_principals_file_that_permits_nobody_is_found() {
    let Some(world) = World::new() else { return };
    let file = world.at("principals");
    let options = format!("{} authorized_principals_file={file}", world.good());
    for (text, permits) in [("", false), ("# none\n\n", false), ("from=\"10.0.0.0/8\" ops\n", false), ("ops\n", true)] {
        fs::write(&file, text).unwrap();
        let (status, found) = world.found("file", &["--options", &options]);
        if permits {
            assert_eq!((status, found.len()), (0, 0), "{text:?}: {found:?}");
        } else {
            assert_eq!((status, found[0][0].as_str()), (1, "warning"), "{text:?}");
            assert!(found[0][1].contains("permits nobody"), "{text:?}: {found:?}");
        }
    }
}

#[test]
fn what_helps_is_said_of_a_list_that_is_stale_or_from_the_future_or_has_no_date() {
    let Some(world) = World::new() else { return };
    // "SSHKRL\n\0", format version, KRL version, then the time it was generated (PROTOCOL.krl).
    let mut krl = fs::read(world.at("krl")).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let plain = fs::read(world.at("ca.pub")).unwrap();
    for (generated, instead) in [
        (Some(now - 200_000), "have the list fetched anew (as by `ussh-hostd sync`), and see why it was not"),
        (Some(now + 200_000), "set the clock right that is wrong: this host's, or the CA's"),
        (None, "take krl_max_age= out, or name a KRL"),
    ] {
        match generated {
            Some(generated) => {
                krl[20..28].copy_from_slice(&generated.to_be_bytes());
                fs::write(world.at("krl"), &krl).unwrap();
            }
            None => fs::write(world.at("krl"), &plain).unwrap(),
        }
        let options = format!("{} krl_max_age=1d", world.good());
        let (status, found) = world.found("file", &["--options", &options]);
        assert_eq!((status, found.len()), (1, 1), "{found:?}");
        assert_eq!(found[0][2], instead, "{found:?}");
    }
}

#[test]
fn a_table_of_a_service_that_no_stack_has_is_found() {
    let Some(world) = World::new() else { return };
    let config = world.write("pam_ussh.toml", "[service.sudoo]\nauthorized_principals = [\"ops\"]\n");
    let stack = world.write("pam.d/sudo", &format!("auth required pam_ussh.so {} config={config}\n", world.good()));
    let (status, found) = world.found("service-table", &["--stack", &stack]);
    assert_eq!(status, 1, "{found:?}");
    assert_eq!((found[0][0].as_str(), found[0][1].as_str()), ("warning", "[service.sudoo]: no stack is named sudoo"));
    // One of ours may come yet; what /etc/pam.d has counts too.
    let ours = ["doas", "sudo-i", "su-l", "su"];
    let absent = ours.iter().find(|name| !Path::new("/etc/pam.d").join(name).exists());
    let Some(absent) = absent else { return println!("the rest is ignored: this host has them all") };
    fs::write(&config, format!("[service.sudo]\ndebug = true\n[service.{absent}]\ndebug = true\n")).unwrap();
    let (status, found) = world.found("service-table", &["--stack", &stack]);
    assert_eq!((status, found.len()), (0, 1), "{found:?}");
    assert_eq!(
        (found[0][0].as_str(), &found[0][1]),
        ("note", &format!("[service.{absent}]: no stack is named {absent}"))
    );
    world.write(&format!("pam.d/{absent}"), "@include common-auth\n");
    assert_eq!(world.found("service-table", &["--stack", &stack]).1, [] as [[String; 3]; 0]);
}

#[test]
fn an_included_file_that_only_root_may_read_is_not_checked() {
    let Some(world) = World::new() else { return };
    let stack = world.write("pam.d/sudo", &format!("auth required pam_ussh.so {}\n@include ours\n", world.good()));
    let ours = world.write("pam.d/ours", "account required pam_permit.so\n");
    assert_eq!(world.check_as(65534, &["--stack", &stack]).0, 0);
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o600)).unwrap();
    let (status, text) = world.check_as(65534, &["--stack", &stack]);
    assert_eq!(status, 3, "{text}");
    assert!(
        text.starts_with(&format!(
            "{stack}:2: not checked: `ours` is included and not for you to read ({ours}) [hidden]"
        )),
        "{text}"
    );
    assert!(!text.contains("nobody gets in"), "{text}");
    assert_eq!(world.check(&["--stack", &stack]).0, 0);
    // What can be seen is judged still.
    world.write("pam.d/sudo", "auth required pam_ussh.so cafile=/x\n@include ours\n");
    let (status, text) = world.check_as(65534, &["--stack", &stack]);
    assert!(status == 1 && text.contains("unknown option cafile"), "{text}");
}

#[test]
fn what_is_found_in_a_file_that_many_include_is_told_once() {
    let Some(world) = World::new() else { return };
    world.write("pam.d/common-auth", &format!("auth required pam_ussh.so {} cafile=/x\n", world.good()));
    let stacks: Vec<String> = ["cron", "su", "sudo"]
        .iter()
        .map(|name| world.write(&format!("pam.d/{name}"), "@include common-auth\n"))
        .collect();
    let arguments: Vec<&str> = ["--stack"].into_iter().chain(stacks.iter().map(String::as_str)).collect();
    let (status, text) = world.check(&arguments);
    assert_eq!((status, text.matches("unknown option cafile").count()), (1, 1), "{text}");
    assert!(text.contains(&format!("    also in:  {}, {}\n", stacks[1], stacks[2])), "{text}");
    assert_eq!(text.matches(": not good\n").count(), 3, "{text}");
    // For programs each stack has all of its own.
    assert_eq!(world.found("option", &arguments).1.len(), 3);
}

#[test]
fn an_sshd_config_that_is_not_there_is_wrong_usage() {
    let Some(world) = World::new() else { return };
    let stack = world.write("pam.d/sshd", "session requisite pam_ussh.so\n");
    let (status, text) = world.check(&["--stack", &stack, "--sshd-config", "/nonexistent/sshd_config"]);
    assert_eq!(status, 2, "{text}");
    assert!(
        text.contains("pam-ussh-check: /nonexistent/sshd_config: No such file") && !text.contains("run this as root"),
        "{text}"
    );
}

#[test]
fn a_session_line_that_lets_others_speak_after_its_refusal_is_a_note() {
    let Some(world) = World::new() else { return };
    for (control, behind, notes) in [
        ("required", "session optional pam_motd.so noupdate\n", 1),
        ("requisite", "session optional pam_motd.so noupdate\n", 0),
        ("required", "session required pam_limits.so\n", 0),
    ] {
        let stack = world.write("pam.d/sshd", &format!("session {control} pam_ussh.so\n{behind}"));
        let (status, found) = world.found("talks-after-refusal", &["--stack", &stack]);
        assert_eq!((status, found.len()), (0, notes), "{control} {behind}: {found:?}");
        for [severity, what, instead] in found {
            assert_eq!((severity.as_str(), instead.as_str()), ("note", "session requisite pam_ussh.so"));
            assert!(what.contains("pam_motd") && what.contains("speaks still"), "{what}");
        }
    }
    let stack = world.write("pam.d/sshd", "session optional pam_ussh.so\nsession required pam_permit.so\n");
    let (_, found) = world.found("refusal-ignored", &["--stack", &stack]);
    assert_eq!(found[0][2], "session requisite pam_ussh.so");
}

#[test]
fn a_way_past_our_line_in_account_or_session_is_found() {
    let Some(world) = World::new() else { return };
    let ours = format!("account required pam_ussh.so {}\naccount required pam_permit.so\n", world.good());
    for (before, expected) in [
        ("account sufficient pam_localuser.so\n", Some(("not-asked", "warning", "pam_localuser"))),
        ("account sufficient pam_unix.so\n", Some(("not-asked", "warning", "pam_unix"))),
        (
            "account [success=1 default=ignore] pam_succeed_if.so uid >= 1000\n",
            Some(("not-asked", "warning", "pam_succeed_if")),
        ),
        ("account sufficient pam_succeed_if.so user ingroup ops\n", Some(("exemption", "note", "pam_succeed_if"))),
        ("account sufficient pam_rootok.so\n", Some(("exemption", "note", "pam_rootok"))),
        ("account required pam_unix.so\n", None),
        ("@include common-account\n", None),
    ] {
        let stack = world.write("pam.d/sudo", &format!("auth required pam_ussh.so {}\n{before}{ours}", world.good()));
        let (status, _) = world.check(&["--stack", &stack]);
        for rule in ["not-asked", "exemption"] {
            let (_, found) = world.found(rule, &["--stack", &stack]);
            match expected.filter(|(expected, ..)| *expected == rule) {
                None => assert_eq!(found.len(), 0, "{before}: {found:?}"),
                Some((_, severity, module)) => {
                    assert_eq!((found.len(), found[0][0].as_str()), (1, severity), "{before}: {found:?}");
                    assert!(found[0][1].contains(module) && found[0][1].contains("account"), "{found:?}");
                }
            }
        }
        assert_eq!(status, i32::from(expected.is_some_and(|(_, severity, _)| severity == "warning")), "{before}");
    }
    for (before, expected) in [
        ("session sufficient pam_loginuid.so\n", 1),
        ("session sufficient pam_systemd.so\n", 1),
        ("session required pam_loginuid.so\n", 0),
    ] {
        let stack = world.write("pam.d/sshd", &format!("{before}session requisite pam_ussh.so\n"));
        assert_eq!(world.found("not-asked", &["--stack", &stack]).1.len(), expected, "{before}");
        assert_eq!(world.check(&["--stack", &stack]).0, i32::try_from(expected).unwrap(), "{before}");
    }
}

#[test]
fn a_table_for_one_half_of_a_program_is_a_note() {
    let Some(world) = World::new() else { return };
    let config = world.write("pam_ussh.toml", "[service.su]\nmax_age_seconds = 60\n");
    let line = format!("auth required pam_ussh.so {} config={config}\n", world.good());
    let (su, su_l) = (world.write("pam.d/su", &line), world.write("pam.d/su-l", &line));
    let half = "[service.su] does not hold for `su -`: its service is su-l";
    let (status, found) = world.found("service-table", &["--stack", &su, &su_l]);
    assert_eq!(
        (status, texts(&found).iter().map(|one| (one[0], one[1])).collect::<Vec<_>>()),
        (0, vec![("note", half)])
    );
    world.write("pam.d/su-l", "@include common-auth\n");
    assert_eq!(world.found("service-table", &["--stack", &su]).1, [] as [[String; 3]; 0], "companion says that");
}

#[test]
fn a_stack_that_is_no_file_is_told_and_not_waited_for() {
    let Some(world) = World::new() else { return };
    let fifo = world.at("pam.d/sudo");
    world.run("mkfifo", &[&fifo]);
    let output = Command::new("timeout").args(["10", &world.at("pam-ussh-check"), "--stack", &fifo]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, format!("pam-ussh-check: {fifo}: not a regular file\n"));
    let stack = world.write("pam.d/su", "@include sudo\n");
    let output = Command::new("timeout").args(["10", &world.at("pam-ussh-check"), "--stack", &stack]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_stack_by_a_relative_name_is_judged_as_by_its_whole_name() {
    for arguments in [["--stack", "sudo"], ["--stack", "./sudo"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pam-ussh-check"));
        let output = command.args(arguments).current_dir("/etc/pam.d").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), said), (Some(0), format!("{} (sudo): good\n", arguments[1])));
    }
}

#[test]
fn what_asks_for_no_agent_has_no_use_for_its_options() {
    let Some(world) = World::new() else { return };
    let options = format!("{} agent_search=yes cue bind_session=no max_age=8h", world.good());
    let (status, found) = world.found("option", &["--service", "sshd", "--options", &options]);
    let what = "no agent is asked in sshd: agent_search, cue, bind_session has no use there";
    assert_eq!((status, found[0][0].as_str(), found[0][1].as_str()), (0, "note", what));
    assert_eq!(world.found("option", &["--options", &options]).1.len(), 0);
}

#[test]
fn a_match_that_leaves_nobody_out_is_a_warning() {
    let Some(world) = World::new() else { return };
    let stack = world
        .write("pam.d/sshd", &format!("auth required pam_ussh.so {}\nsession requisite pam_ussh.so\n", world.good()));
    for (criteria, severity, status) in
        [("User *", "warning", 1), ("Address 0.0.0.0/0", "warning", 1), ("User robot", "note", 0)]
    {
        let config = format!(
            "UsePAM yes\nAuthenticationMethods publickey,keyboard-interactive:pam\nMatch {criteria}\nAuthenticationMethods publickey\n"
        );
        let config = world.write("sshd_config", &config);
        let (got, found) = world.found("sshd-config", &["--stack", &stack, "--sshd-config", &config]);
        assert_eq!((got, found.len(), found[0][0].as_str()), (status, 1, severity), "{criteria}: {found:?}");
        assert_eq!(found[0][1], format!("`Match {criteria}` gets in past our auth line"));
    }
}
