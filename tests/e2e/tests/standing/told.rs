//! What keeps the CA from its work is said by `status`, `check` and the log, and what is mended is said no more.

use ussh_e2e::CA_DIR;
use ussh_e2e::lab::wait_until;

use super::{SOON, assert_login_works, log_in, serve_with, signal, status, stop_ca, world};

#[test]
fn a_pam_module_that_is_missing_is_named_by_check_and_status_until_logins_are_checked_again() {
    let world = world("pam-gap", "");
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    ca.script("cp /etc/pam.d/usshca /root/stack; sed -i '1i auth required pam_no_such.so' /etc/pam.d/usshca").unwrap();
    let check = world.usshca("check").unwrap().ok().unwrap();
    let said = "/etc/pam.d/usshca:1: the module pam_no_such.so is not there: logins cannot be checked";
    assert!(check.stderr.contains(said), "{check}");
    assert_ne!(log_in(&world, "alice", world.password("alice"), "").0, 0);
    wait_until(SOON, "the failure to be counted", || status(&world)["attempts_unavailable"] == 1).unwrap();
    let bad = world.usshca("status").unwrap().refused().unwrap();
    assert_eq!(bad.status.code(), 1);
    assert!(bad.stderr.contains("PAM could not check the last login"), "{bad}");
    assert!(
        bad.stdout.contains("logins by PAM    0 passed, 0 refused, 1 could not be checked, the last one "),
        "{bad}"
    );

    ca.script("cp /root/stack /etc/pam.d/usshca").unwrap();
    assert_login_works(&world, "alice");
    wait_until(SOON, "status to be content", || world.usshca("status").unwrap().success()).unwrap();

    let everybody = "printf 'auth sufficient pam_permit.so\\naccount required pam_permit.so\\n' > /etc/pam.d/usshca";
    ca.script(everybody).unwrap();
    let check = world.usshca("check --strict").unwrap().refused().unwrap();
    assert!(check.stderr.contains("the PAM service usshca lets everybody in"), "{check}");
}

#[test]
fn a_pam_service_that_goes_away_lets_nobody_in_by_the_service_other_and_one_that_changes_is_looked_at_on_reload() {
    let world = world("pam-gone", "");
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    let log = || ca.service("usshca").unwrap().stderr();
    // As on many machines: `other` asks for a password, and would let alice in.
    ca.script("cp /etc/pam.d/usshca /root/stack; cp /etc/pam.d/usshca /etc/pam.d/other; rm /etc/pam.d/usshca").unwrap();
    let (code, said) = log_in(&world, "alice", world.password("alice"), "");
    assert!(code != 0 && said.contains("The CA cannot check logins at the moment"), "{said}");
    let bad = world.usshca("status").unwrap().refused().unwrap();
    assert!(bad.stderr.contains("PAM service: /etc/pam.d/usshca is missing"), "{bad}");
    assert!(bad.stdout.contains("0 refused, 1 could not be checked"), "{bad}");
    let rows = world.rows_of("alice").unwrap();
    assert_eq!(rows[0].outcome, "refused: PAM: could not check");

    ca.script("cp /root/stack /etc/pam.d/usshca").unwrap();
    assert_login_works(&world, "alice");
    wait_until(SOON, "status to be content", || world.usshca("status").unwrap().success()).unwrap();

    for (stack, said) in [
        ("auth [success=ok", "/etc/pam.d/usshca:1: libpam cannot read this (there is no ] to its [)"),
        ("account required pam_unix.so", "/etc/pam.d/usshca has no auth line"),
    ] {
        ca.script(&format!("echo '{stack}' > /etc/pam.d/usshca")).unwrap();
        let check = world.usshca("check --strict").unwrap().refused().unwrap();
        assert!(check.stderr.contains(said), "{check}");
        assert!(!log().contains(said));
        signal(&world, "-HUP");
        wait_until(SOON, "the warning", || log().contains(said)).unwrap();
    }
    // An empty one, as a disk that was full leaves it: `other` would let in whoever knows no password.
    ca.script("printf 'auth required pam_permit.so\\naccount required pam_permit.so\\n' > /etc/pam.d/other; : > /etc/pam.d/usshca")
        .unwrap();
    let (code, said) = log_in(&world, "alice", "wrong", "");
    assert!(code != 0 && said.contains("The CA cannot check logins at the moment"), "{said}");
    let said = "/etc/pam.d/usshca has no auth and no account line";
    for verb in ["status", "check"] {
        let bad = world.usshca(verb).unwrap().refused().unwrap();
        assert!(bad.stderr.contains(said) && !bad.stderr.contains("\\x0a"), "{bad}");
    }
    assert!(log().contains(said), "{}", log());
    // It is as check says: nobody is asked for anything, and nobody is let in.
    ca.script("echo 'auth [success=ok' > /etc/pam.d/usshca").unwrap();
    assert_ne!(log_in(&world, "alice", world.password("alice"), "").0, 0);
}

#[test]
fn a_reload_takes_another_policy_and_another_host_certificate_and_an_error_that_is_mended_is_none() {
    let world = world("reload", "");
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    let log = || ca.service("usshca").unwrap().stderr();
    ca.script(&format!("cd {CA_DIR} && cp policy.toml good && echo bogus >> policy.toml")).unwrap();
    signal(&world, "-HUP");
    wait_until(SOON, "the error", || log().contains("policy: the one before stays in force")).unwrap();
    assert_eq!(world.usshca("status").unwrap().status.code(), 1);
    ca.script(&format!("cd {CA_DIR} && mv good policy.toml")).unwrap();
    let key = ca.script(&format!("ls {CA_DIR}/*_key.pub")).unwrap().stdout;
    world.usshca(&format!("host sign {} --name ca", key.trim())).unwrap().ok().unwrap();
    signal(&world, "-HUP");
    wait_until(SOON, "the policy", || log().contains(" rules of ") && log().contains("policy.toml")).unwrap();
    wait_until(SOON, "status to be content", || world.usshca("status").unwrap().success()).unwrap();
    assert!(log().contains("host certificate: another one is shown from now on, valid until "), "{}", log());
    assert_login_works(&world, "alice");
}

#[test]
fn an_agent_that_loses_a_ca_key_is_an_error_in_the_log_and_in_the_status_before_anybody_asks() {
    let world = world("custody", "");
    let _watch = world.lab().watch();
    stop_ca(&world);
    let ca = world.host("ca");
    ca.script(&format!(
        "cd {CA_DIR}/state && mkdir -m 700 /run/custody && mv user_ca /run/custody/key && chown -R usshca: /run/custody && \
         printf 'socket = \"/run/custody/agent\"\\n' > user_ca.agent && chmod 600 user_ca.agent && chown usshca: user_ca.agent && \
         ls user_ca.pub"
    ))
    .unwrap();
    let as_signer = |script: &str| {
        ca.script(&format!("setpriv --reuid usshca --regid usshca --clear-groups sh -c '{script}'")).unwrap()
    };
    as_signer(
        "ssh-agent -a /run/custody/agent > /dev/null && SSH_AUTH_SOCK=/run/custody/agent ssh-add -q /run/custody/key",
    );
    serve_with(&world, &[]);
    wait_until(SOON, "it to serve", || world.usshca("status").unwrap().success()).unwrap();
    assert_login_works(&world, "alice");
    as_signer("SSH_AUTH_SOCK=/run/custody/agent ssh-add -q -D");
    let patience = SOON * 2;
    wait_until(patience, "status to say so", || world.usshca("status").unwrap().status.code() == 1).unwrap();
    let bad = world.usshca("status").unwrap();
    assert!(bad.stderr.contains("user_ca: the agent at /run/custody/agent does not hold the key SHA256:"), "{bad}");
    let check = world.usshca("check").unwrap().ok().unwrap();
    assert!(
        check.stderr.contains("warning: user_ca: the agent at /run/custody/agent does not hold the key"),
        "{check}"
    );
    as_signer("SSH_AUTH_SOCK=/run/custody/agent ssh-add -q /run/custody/key");
    wait_until(patience, "the key to be back", || status(&world)["key_troubles"].as_array().unwrap().is_empty())
        .unwrap();
    assert_login_works(&world, "alice");
}

#[test]
fn check_warns_of_a_journal_that_is_not_there() {
    let world = world("no-journal", "");
    let _watch = world.lab().watch();
    world.host("ca").script(&format!("sed -i '1i log_format = \"journald\"' {CA_DIR}/usshca.toml")).unwrap();
    let check = world.usshca("check").unwrap().ok().unwrap();
    assert!(check.stderr.contains("no journal listens at /run/systemd/journal/socket: lines go to syslog"), "{check}");
}

#[test]
fn sftp_is_told_in_a_sentence_that_there_is_none() {
    let world = world("sftp", "");
    let _watch = world.lab().watch();
    let ended = world.unattended("alice", world.password("alice"), "sftp ca < /dev/null").unwrap().wait(SOON).unwrap();
    assert!(ended.stderr.contains("the CA takes and gives no files by scp and sftp"), "{}", ended.stderr);
}

#[test]
fn a_lone_guesser_is_kept_out_after_some_ten_passwords_by_the_defaults() {
    let world = ussh_e2e::WorldPlan::new("guesser").without_servers().with_penalties().start().unwrap();
    let _watch = world.lab().watch();
    let (mut passwords, guess) = (0, "ssh -o NumberOfPasswordPrompts=3 -A ca");
    let said = loop {
        let ended = world.unattended("alice", "wrong", guess).unwrap().wait(SOON).unwrap();
        if ended.stderr.contains("too many logins from your address have failed") {
            break ended.stderr;
        }
        passwords += 3;
        assert!(passwords <= 18, "{}", ended.stderr);
    };
    assert!((9..=15).contains(&passwords), "{passwords}: {said}");
}
