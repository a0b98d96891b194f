//! The feed on its ways to a host: over SSH, out of a file, by a command; from a CA whose inventory was put back, too.

use ussh_e2e::lab::{Host, SSHD_CONFIG};
use ussh_e2e::{CA_DIR, World, WorldPlan};

use super::{INCLUDE, hostd, is_good_but_for_its_daemon, status};

fn version(host: &Host) -> u64 {
    status(host)["feed"]["version"].as_u64().unwrap()
}

fn set_source(host: &Host, source: &str) {
    host.write_file("/etc/ussh/hostd.toml", 0o644, format!("[sync]\nsource = \"{source}\"\n")).unwrap();
}

/// What the CA publishes, carried to the host by somebody whom nobody trusts.
fn carry(world: &World, host: &Host) -> Vec<u8> {
    world.usshca("publish /var/published").unwrap().ok().unwrap();
    let feed = world.host("ca").read_bytes("/var/published/feed").unwrap();
    host.write_file("/var/carried/feed", 0o666, &feed).unwrap();
    host.script("chown -R nobody /var/carried").unwrap();
    feed
}

/// What sshd and pam_ussh go by.
fn installed(host: &Host) -> [Vec<u8>; 2] {
    ["/etc/ssh/revoked_keys", "/etc/ssh/trusted_user_ca"].map(|file| host.read_bytes(file).unwrap())
}

fn revoke_all_of(world: &World, user: &str) -> u64 {
    assert_eq!(world.log_in(user, "--login").unwrap().0, 0);
    let serial = world.certificates(user).unwrap()[0].serial;
    world.usshca(&format!("revoke {serial}")).unwrap().ok().unwrap();
    serial
}

#[test]
fn a_signed_feed_is_taken_whoever_carries_it_and_never_back_and_from_a_restored_ca() {
    let world = WorldPlan::new("fed").without_servers().installed("fed1").start().unwrap();
    let _watch = world.lab().watch();
    let host = world.host("fed1");
    host.script("mkdir -p /etc/ssh/sshd_config.d /var/carried").unwrap();
    host.start_sshd(&format!("{INCLUDE}{SSHD_CONFIG}PasswordAuthentication no\n")).unwrap();
    let token = world.usshca("host token fed1").unwrap().ok().unwrap().stdout;
    host.command(["ussh-hostd", "enroll", "ca"]).stdin(token).run().unwrap().ok().unwrap();

    // Over SSH, without a word in the configuration.
    hostd(&host, "sync").ok().unwrap();
    let first = version(&host);
    revoke_all_of(&world, "alice");
    let old = carry(&world, &host);
    hostd(&host, "sync").ok().unwrap();
    let by_ssh = version(&host);
    assert!(by_ssh > first);
    assert_eq!(world.sh("laptop", "alice", "ssh -o BatchMode=yes fed1 true").unwrap().status.code(), 255, "revoked");

    // Out of a file that anybody could have written, and by a command.
    revoke_all_of(&world, "bob");
    let newer = carry(&world, &host);
    set_source(&host, "file:/var/carried");
    hostd(&host, "sync").ok().unwrap();
    let by_file = version(&host);
    assert!(by_file > by_ssh);
    set_source(&host, "exec:/bin/cat /var/carried/feed");
    assert!(hostd(&host, "sync").ok().unwrap().stdout.contains("unchanged"));

    // What is worse than nothing.
    let before = installed(&host);
    for (feed, reason) in [
        (&old[..], "going back is refused"),
        (&newer[..newer.len() / 2], "torn, or no feed"),
        (&b""[..], "torn, or no feed"),
    ] {
        host.write_file("/var/carried/feed", 0o644, feed).unwrap();
        let said = hostd(&host, "sync");
        assert!(said.status.code() == 1 && said.stderr.contains(reason), "{said:?}");
        assert_eq!(installed(&host), before);
        assert!(status(&host)["alarms"].to_string().contains(reason));
        assert_eq!(hostd(&host, "check").status.code(), 1);
    }
    set_source(&host, "exec:/bin/cat /root/.profile");
    assert!(hostd(&host, "sync").stderr.contains("Permission denied"), "nobody reads root's files");

    // The inventory of before is put back: what was revoked since is lost there, and its feeds are taken all the same.
    let ca = world.host("ca");
    world.usshca("backup /var/backup.db").unwrap().ok().unwrap();
    revoke_all_of(&world, "carol");
    set_source(&host, "ssh:");
    hostd(&host, "sync").ok().unwrap();
    let last = version(&host);
    assert!(last > by_file);
    ca.stop_service("usshca").unwrap();
    ca.script(&format!("cd {CA_DIR}/state && owner=$(stat -c %U:%G inventory.db) && rm -f inventory.db-wal inventory.db-shm && install -m 600 /var/backup.db inventory.db && chown $owner inventory.db")).unwrap();
    ca.forget_service("usshca").unwrap();
    world.start_ca().unwrap();
    hostd(&host, "sync").ok().unwrap();
    assert!(version(&host) > last);
    is_good_but_for_its_daemon(&host);
}
