//! Certificates of hosts do not run out: renewal by hand and by itself, and what is said when it does not come.

use ussh_e2e::CA_DIR;
use ussh_e2e::lab::{Host, SSHD_CONFIG, wait_until};

use super::{ED25519, SOON, WORLD, enroll, hostd, is_good_but_for_its_daemon, outcomes, prepare, shown, status, token};

/// In place of the certificate that it has, one of the same CA that is valid for this long.
fn shorten(host: &Host, name: &str, validity: &str) {
    for kind in ["ed25519", "ecdsa"] {
        let key = format!("/etc/ssh/ssh_host_{kind}_key");
        let argv = ["usshca", "--dir", CA_DIR, "host", "sign", "--name", name, "--validity", validity, "-"];
        let public = host.read_bytes(&format!("{key}.pub")).unwrap();
        let signed = WORLD.host("ca").command(argv).stdin(public).run().unwrap().ok().unwrap();
        host.write_file(&format!("{key}-cert.pub"), 0o644, signed.stdout_bytes).unwrap();
    }
}

#[test]
fn a_host_renews_by_hand_and_by_itself_and_sshd_shows_the_new_certificate() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new5");
    enroll(&host, "", &token("new5")).ok().unwrap();
    let first = shown("new5").unwrap();
    let said = hostd(&host, "renew").ok().unwrap();
    assert!(
        said.stdout.contains(&format!("{ED25519}: certificate for new5\n"))
            || said.stdout.contains("key: certificate for new5\n"),
        "{said:?}"
    );
    let second = shown("new5").unwrap();
    assert!(second > first);
    assert!(outcomes("new5").iter().all(|outcome| outcome == "delivered"), "{:?}", outcomes("new5"));

    // sshd does not take it: the old one stays where it is, and the reason is told.
    let good = host.read_file("/etc/ssh/sshd_config").unwrap();
    host.write_file("/etc/ssh/sshd_config", 0o644, format!("{SSHD_CONFIG}Nonsense yes\n")).unwrap();
    let before = host.script("stat -c '%i %Y' /etc/ssh/*-cert.pub; cat /etc/ssh/*-cert.pub").unwrap().stdout;
    let refused = hostd(&host, "renew");
    assert!(
        refused.status.code() == 1 && refused.stderr.contains("The certificates of before are back"),
        "{refused:?}"
    );
    assert_eq!(host.script("stat -c '%i %Y' /etc/ssh/*-cert.pub; cat /etc/ssh/*-cert.pub").unwrap().stdout, before);
    let alarms = status(&host)["alarms"].to_string();
    assert!(alarms.contains("the last renewal failed: sshd's configuration is not good"), "{alarms}");
    assert_eq!(hostd(&host, "check").status.code(), 1);
    host.write_file("/etc/ssh/sshd_config", 0o644, good).unwrap();

    // At two thirds of its life by itself, without a word of anybody's.
    shorten(&host, "new5", "20s");
    let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
    daemon.wait_for_output("Watching ", SOON).unwrap();
    let left = |host: &Host| {
        let ends = status(host)["host_certificates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["valid_before"].as_u64().unwrap())
            .min();
        ends.unwrap()
            .saturating_sub(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
    };
    assert!(left(&host) <= 20);
    wait_until(SOON, "the renewal", || left(&host) > 1000).unwrap();
    wait_until(SOON, "sshd with it", || shown("new5").is_some_and(|serial| serial > second)).unwrap();
    assert_eq!(status(&host)["alarms"], serde_json::json!([]));
    assert_eq!(hostd(&host, "check").ok().unwrap().stdout, "good\n");
    // Killed, it is missed.
    host.service("ussh-hostd").unwrap().kill().unwrap();
    is_good_but_for_its_daemon(&host);
}

#[test]
fn what_runs_out_is_an_alarm_in_the_log_and_in_the_exit_status_long_before() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new6");
    // By hand, by an administrator: nothing renews it.
    host.run(["ssh-keygen", "-A"]).unwrap().ok().unwrap();
    shorten(&host, "new6", "30d");
    host.script("mkdir -p /etc/ussh; echo 'revoked_keys = \"none\"' > /etc/ussh/hostd.toml; echo ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+q1KCFhsxf2p5EKK2yqcFJgPPVOuVJo5Yr0d2cYJ8a > /etc/ssh/trusted_user_ca").unwrap();
    is_good_but_for_its_daemon(&host);
    shorten(&host, "new6", "2s");
    wait_until(SOON, "its end", || {
        let said = hostd(&host, "check");
        said.status.code() == 1 && said.stderr.contains("/etc/ssh/ssh_host_ed25519_key ran out ")
    })
    .unwrap();
    let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
    daemon.wait_for_output("Alarm: the host certificate of /etc/ssh/ssh_host_ed25519_key ran out ", SOON).unwrap();
    let told = hostd(&host, "status");
    assert_eq!(told.status.code(), 1, "{told:?}");
    assert!(told.stdout.contains("ALARM      the host certificate of "), "{told:?}");
    let metrics = hostd(&host, "status --metrics").ok().unwrap().stdout;
    assert!(
        metrics.contains("\nussh_hostd_alarms 2\n")
            && metrics.contains("ussh_hostd_host_certificate_end_seconds{key=\"/etc/ssh/ssh_host_ed25519_key\"} "),
        "{metrics}"
    );
    host.stop_service("ussh-hostd").unwrap();
}

#[test]
fn a_copy_of_a_machine_is_noticed_and_does_not_renew_with_its_originals_keys() {
    let _watch = WORLD.lab().watch();
    let (host, twin) = (prepare("new7"), prepare("twin"));
    host.write_file("/etc/machine-id", 0o444, format!("{}\n", "7".repeat(32))).unwrap();
    enroll(&host, "", &token("new7")).ok().unwrap();
    // An image of the disk, which came to itself under a machine ID of its own.
    for file in host.script("find /etc/ssh /var/lib/ussh-hostd -type f").unwrap().stdout.lines() {
        let mode = u32::from_str_radix(host.run(["stat", "-c", "%a", file]).unwrap().stdout.trim(), 8).unwrap();
        twin.script(&format!("mkdir -p $(dirname {file})")).unwrap();
        twin.write_file(file, mode, host.read_bytes(file).unwrap()).unwrap();
    }
    twin.write_file("/etc/machine-id", 0o444, format!("{}\n", "8".repeat(32))).unwrap();
    let said = hostd(&twin, "renew");
    assert!(said.status.code() == 1 && said.stderr.contains("this machine is a copy of the host new7"), "{said:?}");
    let checked = hostd(&twin, "check");
    assert!(checked.status.code() == 1 && checked.stderr.contains("is a copy of the host new7"), "{checked:?}");
    assert!(enroll(&twin, "", &token("twin")).stderr.contains("`--new-keys` makes new ones"));
    // The original goes on.
    hostd(&host, "renew").ok().unwrap();
    is_good_but_for_its_daemon(&host);

    let before = twin.script("cat /etc/ssh/ssh_host_*_key.pub").unwrap().stdout;
    enroll(&twin, "--new-keys", &token("twin")).ok().unwrap();
    let after = twin.script("cat /etc/ssh/ssh_host_*_key.pub").unwrap().stdout;
    assert!(before.lines().all(|line| !after.contains(line.split(' ').nth(1).unwrap())), "{before}{after}");
    is_good_but_for_its_daemon(&twin);
    hostd(&twin, "renew").ok().unwrap();
    // It was only given a new ID.
    twin.write_file("/etc/machine-id", 0o444, format!("{}\n", "9".repeat(32))).unwrap();
    assert_eq!(hostd(&twin, "renew").status.code(), 1);
    hostd(&twin, "renew --same-machine").ok().unwrap();
    hostd(&twin, "renew").ok().unwrap();
    is_good_but_for_its_daemon(&twin);
}
