//! Who is let in.

use ussh_e2e::lab::{Pty, wait_until};
use ussh_e2e::{World, WorldPlan};

use super::{SOON, assert_login_works, log_in, status, world};

/// EX_UNAVAILABLE of sysexits.h: no certificate.
const UNAVAILABLE: i32 = 69;

fn at_the_prompt(world: &World, user: &str) -> Pty {
    let ssh = world.terminal("laptop", user, "exec ssh -A ca").unwrap();
    ssh.expect("assword:", SOON).unwrap();
    ssh
}

#[test]
fn a_newcomer_beyond_max_startups_is_told_so_and_whoever_has_logged_in_does_not_count() {
    let world = world("startups", "max_startups = \"2\"\n");
    let _watch = world.lab().watch();
    let (alice, bob) = (at_the_prompt(&world, "alice"), at_the_prompt(&world, "bob"));
    let (code, said) = log_in(&world, "carol", world.password("carol"), "");
    assert_eq!(code, 255, "{said}");
    assert!(
        said.contains("Received disconnect from")
            && said.contains("Too many people are logging in at the CA right now"),
        "{said}"
    );
    // Our own client says it too.
    let carol = world.terminal("laptop", "carol", "ussh --login").unwrap();
    assert_eq!(carol.expect_exit(SOON).unwrap().code(), UNAVAILABLE);
    carol.expect_close(SOON).unwrap();
    assert!(carol.transcript().contains("Too many people"), "{}", carol.transcript());

    // alice logs in and stays without a session: her place is free.
    drop(alice);
    wait_until(SOON, "alice's front to be gone", || status(&world)["connections"] == 1).unwrap();
    let script = "exec ssh -N ca";
    let alice = world.unattended("alice", world.password("alice"), script).unwrap();
    wait_until(SOON, "alice to have logged in", || {
        let status = status(&world);
        status["connections"] == 2 && status["logging_in"] == 1
    })
    .unwrap();
    let third = at_the_prompt(&world, "carol");
    assert_eq!(status(&world)["logging_in"], 2);
    assert_eq!(status(&world)["turned_away"]["max_startups"], 2);
    drop((alice, third, bob));
}

#[test]
fn logins_that_fail_keep_their_address_out_for_a_while_and_no_other_one() {
    let config = "[penalties]\nauth_failure_seconds = 12\nmin_seconds = 14\nmax_seconds = 14\n";
    let world = WorldPlan::new("penalties").without_servers().ca_config(config).with_penalties().start().unwrap();
    let _watch = world.lab().watch();
    let (ca, laptop) = (world.host("ca"), world.host("laptop"));
    let [a, b, c, _] = ca.address().octets();
    let other = format!("{a}.{b}.{c}.200");
    laptop
        .script(&format!(
            "dev=$(ip -o -4 route get {} | sed 's/.* dev \\([^ ]*\\).*/\\1/'); ip address add {other}/24 dev $dev",
            ca.address()
        ))
        .unwrap();

    for _ in 0..2 {
        let (code, said) = log_in(&world, "alice", "wrong", "");
        assert_eq!(code, 255, "{said}");
        assert!(said.contains("Permission denied"), "{said}");
    }
    wait_until(SOON, "the penalty", || status(&world)["penalties"]["auth_failure"] == 2).unwrap();
    let (code, said) = log_in(&world, "alice", world.password("alice"), "");
    assert_eq!(code, 255, "{said}");
    assert!(said.contains("Not allowed at this time: too many logins from your address have failed"), "{said}");
    let (code, said) = log_in(&world, "bob", world.password("bob"), &format!("-b {other}"));
    assert_eq!(code, 0, "{said}");
    // It is served in time.
    wait_until(SOON, "alice to be let in again", || log_in(&world, "alice", world.password("alice"), "").0 == 0)
        .unwrap();
    assert!(world.host("ca").service("usshca").unwrap().stderr().contains("penalty (auth_failure)"));
    assert_login_works(&world, "alice");
}

#[test]
fn when_it_is_full_the_largest_network_makes_room_for_others_and_not_for_its_own() {
    let world = world("crowds", "max_startups = \"4\"\n");
    let _watch = world.lab().watch();
    let (ca, laptop) = (world.host("ca"), world.host("laptop"));
    let device = "dev=$(ip -o -4 route get $1 | sed 's/.* dev \\([^ ]*\\).*/\\1/')";
    let here = format!("set -- {}; {device}; ip address add 10.99.0.1/24 dev $dev", ca.address());
    laptop.script(&here).unwrap();
    ca.script(&format!("set -- {}; {device}; ip route add 10.99.0.0/24 dev $dev", laptop.address())).unwrap();
    let others = |user: &str| log_in(&world, user, world.password(user), "-b 10.99.0.1");

    let crowd: Vec<Pty> = (0..4).map(|_| at_the_prompt(&world, "alice")).collect();
    let (code, said) = log_in(&world, "carol", world.password("carol"), "");
    assert_eq!(code, 255, "{said}");
    assert!(said.contains("Too many people"), "{said}");
    let (code, said) = others("bob");
    assert_eq!(code, 0, "{said}");
    // The oldest one went, and it alone.
    let (code, seen) = {
        crowd[0].send(&format!("{}\n", world.password("alice"))).unwrap();
        let status = crowd[0].expect_exit(SOON).unwrap();
        crowd[0].expect_close(SOON).unwrap();
        (status.code(), crowd[0].transcript())
    };
    assert_eq!(code, 255, "{seen}");
    assert_eq!(status(&world)["evicted"], 1);
    assert_eq!(status(&world)["logging_in"], 3);
    // An eviction is nobody's offence.
    assert_eq!(status(&world)["penalties"]["crash"], 0);
    drop(crowd);
}
