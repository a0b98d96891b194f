//! The CA's daemon does not run.

use ussh_e2e::lab::wait_until;
use ussh_e2e::{CA_DIR, World, WorldPlan};

use super::{SOON, UNAVAILABLE, assert_login_works, end, small_world, stop_ca};

#[test]
fn with_a_good_certificate_nobody_notices_that_the_ca_is_down_and_others_are_told() {
    let world = WorldPlan::new("down").without_servers().server("web1").start().unwrap();
    let _watch = world.lab().watch();
    assert_login_works(&world, "alice");
    stop_ca(&world);

    let alice = world.sh("laptop", "alice", "ussh web1 id -un").unwrap().ok().unwrap();
    assert_eq!((alice.stdout.as_str(), alice.stderr.as_str()), ("alice\n", ""));

    let told = |script: &str, wanted: i32| {
        let (code, seen) = end(&world.terminal("laptop", "bob", script).unwrap());
        assert_eq!(code, wanted, "{seen}");
        assert!(seen.contains("ussh: the CA ca does not answer: "), "{seen}");
        seen
    };
    // By default ssh goes on with what else it has, which is nothing.
    let seen = told("ussh web1 id", 255);
    assert!(
        seen.contains("port 22: Connection refused") && seen.contains("ssh goes on without a certificate"),
        "{seen}"
    );

    world
        .host("laptop")
        .write_file_as("bob", "/home/bob/.config/ussh/ussh.toml", 0o600, "connect_timeout_seconds = 1\n")
        .unwrap();
    world.lab().remove_host("ca").unwrap();
    let seen = told("ussh --login", UNAVAILABLE);
    assert!(seen.contains("port 22: Connection timed out") || seen.contains("port 22: No route to host"), "{seen}");
    // Still not.
    world.sh("laptop", "alice", "ussh web1 true").unwrap().ok().unwrap();
}

#[test]
fn admins_can_do_all_of_their_work_without_the_daemon() {
    let world = small_world("admin");
    let _watch = world.lab().watch();
    assert_login_works(&world, "alice");
    let with_daemon = world.inventory().unwrap();
    stop_ca(&world);
    assert_eq!(world.inventory().unwrap(), with_daemon);

    let serial = world.certificates("alice").unwrap()[0].serial;
    world.usshca(&format!("show {serial}")).unwrap().ok().unwrap();
    world.usshca(&format!("revoke {serial} --reason lost")).unwrap().ok().unwrap();
    world.usshca("krl --out /srv/krl").unwrap().ok().unwrap();
    let ca = world.host("ca");
    let blob = world.sh("laptop", "alice", "ssh-add -L").unwrap().stdout;
    ca.write_file("/srv/alice-cert.pub", 0o644, blob).unwrap();
    let asked = ca.run(["ssh-keygen", "-Q", "-f", "/srv/krl", "/srv/alice-cert.pub"]).unwrap().refused().unwrap();
    assert!(asked.stdout.contains("REVOKED"), "{asked}");
    ca.script("ssh-keygen -q -t ed25519 -N '' -f /srv/web9").unwrap();
    world.usshca("host sign --name web9 /srv/web9.pub").unwrap().ok().unwrap();

    // Nobody but root, and whoever the files do not let in gets nothing told.
    for verb in ["list", "krl", &format!("revoke {serial}")] {
        let bob = ca.run_as("bob", ["sh", "-c", &format!("exec /usr/sbin/usshca --dir {CA_DIR} {verb}")]).unwrap();
        let bob = bob.refused().unwrap();
        assert!(!bob.stdout.contains("alice"), "{bob}");
    }

    // The daemon finds what was done meanwhile.
    world.start_ca().unwrap();
    let rows = world.inventory().unwrap();
    assert!(rows.iter().any(|row| row.serial == serial && row.revoked.is_some()), "{rows:?}");
    assert!(rows.iter().any(|row| row.kind == "host" && row.key_id == "web9"), "{rows:?}");
    assert_login_works(&world, "alice");
}

#[test]
fn the_ca_serves_on_when_nobody_reads_its_stderr_any_more() {
    let world = small_world("deaf");
    let _watch = world.lab().watch();
    stop_ca(&world);
    // head(1) leaves after the first line, and takes the reading end of the pipe with it.
    let script = format!("usshca --dir {CA_DIR} serve 2>&1 | head -n 1");
    let ca = world.host("ca");
    let _serve = ca.command(["sh", "-c", &script]).spawn().unwrap();
    wait_until(SOON, "the end of head", || world.processes("ca", "head").unwrap().is_empty() && ca_listens(&world))
        .unwrap();
    assert_login_works(&world, "alice");
    assert_login_works(&world, "alice");
}

fn ca_listens(world: &World) -> bool {
    world.sh("laptop", "alice", "exec 3<>/dev/tcp/ca/22").unwrap().success()
}
