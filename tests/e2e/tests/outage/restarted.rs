//! The whole daemon ends, told to or not, and is started again.

use std::collections::BTreeSet;

use ussh_e2e::CA_DIR;
use ussh_e2e::lab::wait_until;

use super::{
    SOON, UNAVAILABLE, assert_all_accounted_for, assert_login_works, at_the_prompt, daemon_log, end, go_on, process,
    signal, small_world, wait_until_gone,
};

#[test]
fn sigterm_lets_who_is_logging_in_finish_and_nobody_else_begin() {
    let world = small_world("sigterm");
    let _watch = world.lab().watch();
    let alice = at_the_prompt(&world, "alice");
    let supervisor = world.host("ca").service("usshca").unwrap();
    signal(&world, "-TERM", supervisor.pid());
    wait_until(SOON, "the log to say so", || daemon_log(&world).contains("connections may finish")).unwrap();

    let (code, seen) = end(&world.terminal("laptop", "bob", "ussh --login").unwrap());
    assert_eq!(code, UNAVAILABLE, "{seen}");
    assert!(seen.contains("Connection refused"), "{seen}");
    let (code, seen) = go_on(&world, "alice", &alice);
    assert_eq!(code, 0, "{seen}");
    let ended = supervisor.wait(SOON).unwrap();
    assert!(ended.success(), "{ended}");
    wait_until_gone(&world, "usshca");
    let rows = assert_all_accounted_for(&world, &["alice"]);
    assert_eq!((rows[0].key_id.as_str(), rows[0].outcome.as_str()), ("alice", "delivered"));

    world.start_ca().unwrap();
    assert_login_works(&world, "bob");
}

#[test]
fn sighup_takes_a_new_policy_ends_nothing_and_keeps_the_old_one_if_the_new_is_no_good() {
    let world = small_world("sighup");
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    let alice = at_the_prompt(&world, "alice");
    let supervisor = process(&world, "usshca");
    let path = format!("{CA_DIR}/policy.toml");
    let old = ca.read_file(&path).unwrap();
    let deny = |user: &str| format!("[[rule]]\nname = \"no {user}\"\nusers = [\"{user}\"]\ndeny = true\n\n{old}");
    let put = |mode: u32, text: &str, heard: &str| {
        let before = daemon_log(&world).len();
        ca.write_file(&path, mode, text).unwrap();
        signal(&world, "-HUP", supervisor);
        wait_until(SOON, heard, || daemon_log(&world)[before..].contains(heard)).unwrap();
        daemon_log(&world)[before..].to_owned()
    };

    put(0o644, &deny("bob"), "another policy is in force");
    let (code, seen) = go_on(&world, "alice", &alice);
    assert_eq!(code, 0, "who was logging in goes on: {seen}");
    let (code, seen) = go_on(&world, "bob", &at_the_prompt(&world, "bob"));
    assert_ne!(code, 0, "{seen}");
    assert!(seen.contains("gives your account no certificate"), "{seen}");

    let said = put(0o644, "[[rule]]\nname = \"x\"\nvalidty_seconds = 1\n", "the one before stays in force");
    assert!(said.contains("policy.toml: line 3: unknown field `validty_seconds`"), "{said}");
    // One that others could have written.
    put(0o646, &deny("carol"), "the one before stays in force");
    assert_login_works(&world, "carol");

    // As a terminal says it, to all of the daemon's group at once.
    let signer = process(&world, "usshca-signer");
    let before = daemon_log(&world).len();
    signal(&world, "-HUP --", -supervisor);
    let heard = "the one before stays in force";
    wait_until(SOON, heard, || daemon_log(&world)[before..].contains(heard)).unwrap();
    assert_eq!(process(&world, "usshca-signer"), signer, "the signal was the supervisor's alone to hear");

    // A signer that ends meanwhile is replaced by one with the policy that was in force, not with what lies there.
    ca.write_file(&path, 0o644, "[[rule").unwrap();
    let signer = process(&world, "usshca-signer");
    signal(&world, "-KILL", signer);
    wait_until(SOON, "the next signer", || daemon_log(&world).contains("signer: up again")).unwrap();
    assert_login_works(&world, "carol");
    let (_, seen) = go_on(&world, "bob", &at_the_prompt(&world, "bob"));
    assert!(seen.contains("gives your account no certificate"), "{seen}");
    assert_eq!(process(&world, "usshca"), supervisor);
}

#[test]
fn killed_as_a_whole_it_starts_again_with_every_row_and_never_gives_a_serial_twice() {
    let world = small_world("killed");
    let _watch = world.lab().watch();
    let mut serials = BTreeSet::new();
    for round in 0..3 {
        for user in ["alice", "bob"] {
            assert_login_works(&world, user);
            assert!(serials.insert(world.certificates(user).unwrap()[0].serial), "round {round}: given twice");
        }
        // In the middle of two logins: one at the prompt, one under way.
        let carol = at_the_prompt(&world, "carol");
        let alice = world.unattended("alice", world.password("alice"), "exec ussh --login").unwrap();
        wait_until(SOON, "two fronts", || world.processes("ca", "usshca-front").unwrap().len() == 2).unwrap();
        // The supervisor alone: its children die with it.
        signal(&world, "-KILL", process(&world, "usshca"));
        wait_until_gone(&world, "usshca");
        assert_eq!(go_on(&world, "carol", &carol).0, UNAVAILABLE);
        alice.wait(SOON).unwrap();

        let offline = assert_all_accounted_for(&world, &["alice", "bob"]);
        world.start_ca().unwrap();
        let rows = world.inventory().unwrap();
        assert_eq!(rows.len(), offline.len());
        let listed: BTreeSet<u64> = rows.iter().map(|row| row.serial).collect();
        assert!(serials.is_subset(&listed), "a certificate is no longer listed");
        serials.extend(listed.into_iter().filter(|serial| *serial != 0));
    }
    assert_login_works(&world, "carol");
}
