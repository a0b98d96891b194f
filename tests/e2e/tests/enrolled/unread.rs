//! sshd of OpenSSH 9.8 and later reads its host certificates when it starts and at SIGHUP alone: a renewal that it has not read is no success, and is not forgotten.

use ussh_e2e::lab::{Host, SSHD_CONFIG, wait_until};

use super::{INCLUDE, SOON, WORLD, enroll, hostd, is_good_but_for_its_daemon, prepare, shown, token};

/// Where `sshd -t` waits for as long as it is there.
const PIPE: &str = "/etc/ssh/sshd_config.d/zz.conf";

/// Renews, and signals it when the new certificates are in place and sshd has not read them; then `sshd -t` may go on. The exit status.
fn renew_and(host: &Host, signal: &str) -> i32 {
    let script = format!(
        "mkfifo {PIPE}; f=/etc/ssh/ssh_host_ecdsa_key-cert.pub; old=$(cat $f); ussh-hostd renew >/dev/null 2>&1 & p=$!
         while [ \"$(cat $f)\" = \"$old\" ]; do :; done
         exec 3>{PIPE}; kill -{signal} $p; rm {PIPE}; exec 3>&-; wait $p && echo 0 || echo $?"
    );
    host.script(&script).unwrap().stdout.trim().parse().unwrap()
}

#[test]
fn a_renewal_that_was_ended_before_sshd_read_it_is_told_and_made_good() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new14");
    enroll(&host, "", &token("new14")).ok().unwrap();
    for by in ["the daemon", "sync", "hand"] {
        let first = shown("new14").unwrap();
        assert_eq!(renew_and(&host, "KILL"), 128 + 9);
        assert_eq!(shown("new14"), Some(first));
        let checked = hostd(&host, "check");
        assert!(
            checked.status.code() == 1 && checked.stderr.contains("sshd has yet to read this host's certificates"),
            "{checked:?}"
        );
        match by {
            "the daemon" => {
                let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
                daemon.wait_for_output("Alarm: sshd has yet to read this host's certificates", SOON).unwrap();
                wait_until(SOON, "sshd with the new certificate", || shown("new14").is_some_and(|now| now > first))
                    .unwrap();
                host.stop_service("ussh-hostd").unwrap();
            }
            "sync" => drop(hostd(&host, "sync").ok().unwrap()),
            _ => assert_eq!(hostd(&host, "renew --reload").ok().unwrap().stdout, "sshd has read all\n"),
        }
        assert!(shown("new14").unwrap() > first, "{by}");
        is_good_but_for_its_daemon(&host);
    }
    // What can wait does.
    for signal in ["TERM", "HUP", "INT"] {
        let first = shown("new14").unwrap();
        renew_and(&host, signal);
        assert!(shown("new14").unwrap() > first, "{signal}");
        is_good_but_for_its_daemon(&host);
    }
}

#[test]
fn sshd_is_found_without_its_pid_file_or_it_is_said_that_it_is_not() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new15");
    enroll(&host, "", &token("new15")).ok().unwrap();
    let lose = "rm -f $(sshd -T | sed -n 's/^pidfile //p')";
    let config = format!("{INCLUDE}{SSHD_CONFIG}PasswordAuthentication no\n");
    for change in [config.clone(), format!("PidFile none\n{config}")] {
        host.script(lose).unwrap();
        host.write_file("/etc/ssh/sshd_config", 0o644, change).unwrap();
        let first = shown("new15").unwrap();
        hostd(&host, "renew").ok().unwrap();
        assert!(shown("new15").unwrap() > first);
        assert!(enroll(&host, "", &token("new15")).ok().unwrap().stdout.contains("sshd has read it"));
    }

    // It runs as its files do not say.
    host.write_file("/etc/ssh/sshd_config", 0o644, format!("PidFile none\nPort 2222\n{config}")).unwrap();
    let before = shown("new15").unwrap();
    let again = enroll(&host, "", &token("new15"));
    assert!(again.status.code() == 1 && again.stderr.contains("Nothing was asked of the CA"), "{again:?}");
    let uncertain = "cannot be reloaded with certainty: restart it";
    let renewed = hostd(&host, "renew");
    assert!(renewed.status.code() == 1 && renewed.stderr.contains(uncertain), "{renewed:?}");
    assert_eq!(shown("new15"), Some(before));
    let reloaded = hostd(&host, "renew --reload");
    assert!(reloaded.status.code() == 1 && reloaded.stderr.contains(uncertain), "{reloaded:?}");
    let checked = hostd(&host, "check");
    assert!(checked.status.code() == 1 && checked.stderr.contains("sshd has yet to read"), "{checked:?}");
    // Started anew, it has read them.
    host.stop_service("sshd").unwrap();
    host.forget_service("sshd").unwrap();
    host.start_sshd(&config).unwrap();
    assert!(shown("new15").unwrap() > before);
    hostd(&host, "renew --reload").ok().unwrap();
    is_good_but_for_its_daemon(&host);
}
