//! The machine runs out of something.

use ussh_e2e::CA_DIR;
use ussh_e2e::lab::wait_until;

use super::{SOON, assert_login_works, log_in, status, stop_ca, world};

#[test]
fn without_descriptors_whoever_comes_is_told_and_then_all_goes_on() {
    let world = world("descriptors", "");
    let _watch = world.lab().watch();
    assert_login_works(&world, "alice");
    wait_until(SOON, "nobody to be there", || status(&world)["connections"] == 0).unwrap();
    let ca = world.host("ca");
    let pid = ca.service("usshca").unwrap().pid();
    let before = ca.script(&format!("prlimit --pid {pid} --nofile --noheadings --output SOFT")).unwrap().stdout;
    // As many as it has: not one more.
    let lowest =
        format!("n=0; while [ -e /proc/{pid}/fd/$n ]; do n=$((n + 1)); done; prlimit --pid {pid} --nofile=$n:");
    ca.script(&lowest).unwrap();
    let (code, said) = log_in(&world, "alice", world.password("alice"), "");
    assert_eq!(code, 255, "{said}");
    assert!(said.contains("The CA's machine has run out of resources"), "{said}");
    ca.script(&format!("prlimit --pid {pid} --nofile={}:", before.trim())).unwrap();
    wait_until(SOON, "alice to be let in", || log_in(&world, "alice", world.password("alice"), "").0 == 0).unwrap();
    let log = ca.service("usshca").unwrap().stderr();
    assert!(log.contains("cannot accept connections: Too many open files"), "{log}");
    // For monitoring: it is over, and an administrator should know.
    let status = world.usshca("status").unwrap().refused().unwrap();
    assert!(status.stderr.contains("an error in the last quarter of an hour: cannot accept"), "{status}");
}

#[test]
fn on_a_full_disk_nothing_is_issued_the_user_is_told_and_the_daemon_lives() {
    let world = world("full", "");
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    stop_ca(&world);
    let state = format!("{CA_DIR}/state");
    ca.script(&format!(
        "cp -a {state} /srv/state; mount -t tmpfs -o size=4m,mode=0700 tmpfs {state}; chown --reference=/srv/state {state}; cp -a /srv/state/. {state}/"
    ))
    .unwrap();
    world.start_ca().unwrap();
    assert_login_works(&world, "alice");
    let rows = world.inventory().unwrap().len();
    ca.script(&format!("dd if=/dev/zero of={state}/filler bs=64k 2>/dev/null || true; cat /dev/zero >> {state}/filler 2>/dev/null || true")).unwrap();

    // What is left of the last pages of the log takes a login or two; then there is no room for another row.
    let mut said = String::new();
    wait_until(SOON, "a login to fail", || {
        let (code, now) = log_in(&world, "bob", world.password("bob"), "");
        said = now;
        code != 0
    })
    .unwrap();
    assert!(said.contains("The CA cannot issue certificates at the moment"), "{said}");
    let held = world.certificates("bob").unwrap();
    assert!(world.host("ca").service("usshca").unwrap().status().unwrap().is_none());

    ca.script(&format!("rm {state}/filler")).unwrap();
    wait_until(SOON, "logins to go well again", || log_in(&world, "alice", world.password("alice"), "").0 == 0)
        .unwrap();
    let all = world.inventory().unwrap();
    assert!(all.len() > rows);
    for certificate in held {
        assert!(all.iter().any(|row| row.serial == certificate.serial), "{certificate:?} is in no row");
    }
}
