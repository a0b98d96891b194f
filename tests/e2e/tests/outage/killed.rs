//! One process of the CA is killed, and the others live.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Instant;

use ussh_e2e::lab::{Host, Pty, Signal, rounds, wait_until};
use ussh_e2e::{CA_DIR, Row, World, WorldPlan};

use super::{
    SOON, UNAVAILABLE, assert_all_accounted_for, assert_login_works, at_the_prompt, daemon_log, end, go_on, process,
    signal, small_world, wait_until_gone,
};

/// How often a front is killed, each time a little later after its connection has come, over a span in which a login ends: it takes some 150 ms.
fn moments() -> u32 {
    rounds(20, 200)
}
const SPAN_SECONDS: f64 = 0.2;

#[test]
fn a_front_that_is_killed_at_the_prompt_takes_its_own_connection_along_and_nothing_else() {
    let world = small_world("front");
    let _watch = world.lab().watch();
    let alice = at_the_prompt(&world, "alice");
    let front = process(&world, "usshca-front");
    let bob = at_the_prompt(&world, "bob");
    signal(&world, "-KILL", front);

    // A stock ssh does not look at its connection while it waits for the keyboard.
    let (code, seen) = go_on(&world, "alice", &alice);
    assert_eq!(code, UNAVAILABLE, "{seen}");
    assert!(seen.contains("Connection closed by") || seen.contains("Connection reset by"), "{seen}");
    assert!(seen.contains("ussh: the login at the CA ca as alice failed"), "{seen}");
    wait_until(SOON, "one worker", || world.processes("ca", "usshca-pam").unwrap().len() == 1).unwrap();
    wait_until(SOON, "the log to say so", || daemon_log(&world).contains("the front broke down")).unwrap();

    // Who came at the same time is not concerned, and the next one neither.
    assert_eq!(go_on(&world, "bob", &bob).0, 0);
    assert_login_works(&world, "alice");
    assert_all_accounted_for(&world, &["alice", "bob"]);
    for (user, expected) in
        [("alice", &["refused: left before PAM had decided", "delivered"][..]), ("bob", &["delivered"])]
    {
        let mut outcomes: Vec<String> = world.rows_of(user).unwrap().into_iter().map(|row| row.outcome).collect();
        outcomes.sort_by(|a, b| b.cmp(a));
        assert_eq!(outcomes, expected, "{user}");
    }
}

#[test]
fn whenever_a_front_is_killed_each_certificate_in_the_agent_has_its_row() {
    let world = small_world("fronts");
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    // As long as a login takes here: of a fixed span most would lie behind it on a quick machine.
    let start = Instant::now();
    assert_login_works(&world, "alice");
    let span = start.elapsed().as_secs_f64();
    let mut killed = 0;
    for moment in 0..moments() {
        // The moments are what is tried here; nothing waits for them.
        let script = format!(
            "echo ready; until front=$(grep -lx usshca-front /proc/[0-9]*/comm 2>/dev/null); do :; done; sleep {:.4}; \
             front=${{front%/comm}}; kill -KILL ${{front#/proc/}}",
            span * f64::from(moment) / f64::from(moments())
        );
        let killer = ca.command(["bash", "-c", &script]).spawn().unwrap();
        killer.wait_for_output("ready", SOON).unwrap();
        let login = world.unattended("alice", world.password("alice"), "exec ussh --login").unwrap();
        let ended = login.wait(SOON).unwrap();
        assert!([0, UNAVAILABLE].contains(&ended.status.code()), "{ended}");
        // A front may have come and gone between two looks.
        wait_until_gone(&world, "usshca-front");
        let done = if killer.status().unwrap().is_none() { killer.kill() } else { killer.wait(SOON) };
        killed += u32::from(done.unwrap().success());
    }
    println!("killed in time: {killed} of {}", moments());
    assert!(killed >= moments() / 4, "{killed}: most were gone before");
    assert_all_accounted_for(&world, &["alice"]);
    wait_until_gone(&world, "usshca-front");
    wait_until_gone(&world, "usshca-pam");
    assert_login_works(&world, "alice");
}

#[test]
fn whenever_the_supervisor_is_killed_each_certificate_in_an_agent_has_its_row_and_no_serial_comes_twice() {
    const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dora"];
    let world = WorldPlan::new("supervisors").without_servers().person("dora", "secret", &["admins"]).start().unwrap();
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    let mut given = BTreeMap::new();
    for moment in 0..moments() {
        let logins = PEOPLE.map(|user| world.unattended(user, world.password(user), "exec ussh --login").unwrap());
        let supervisor = process(&world, "usshca");
        // The moments are what is tried here; nothing waits for them.
        ca.script(&format!(
            "until grep -qx usshca-front /proc/[0-9]*/comm 2>/dev/null; do :; done; sleep {:.3}; kill -KILL {supervisor}",
            2.0 * SPAN_SECONDS * f64::from(moment) / f64::from(moments())
        ))
        .unwrap();
        for login in logins {
            let ended = login.wait(SOON).unwrap();
            assert!([0, UNAVAILABLE].contains(&ended.status.code()), "{ended}");
        }
        wait_until_gone(&world, "usshca");
        for user in PEOPLE {
            for shown in world.certificates(user).unwrap() {
                let before = given.insert(shown.serial, (user, shown.validity.clone()));
                let same = before.is_none_or(|(of, validity)| of == user && validity == shown.validity);
                assert!(same, "serial {} twice", shown.serial);
            }
        }
        world.start_ca().unwrap();
    }
    let rows = assert_all_accounted_for(&world, &PEOPLE);
    for (serial, (user, _)) in &given {
        let row = rows.iter().find(|row| row.serial == *serial);
        let row = row.unwrap_or_else(|| panic!("serial {serial} of {user} is in no row"));
        assert!(row.key_id == *user && !row.outcome.starts_with("refused"), "{row:?}");
    }
    let epochs: BTreeSet<u64> = rows.iter().filter(|row| row.serial != 0).map(|row| row.serial >> 40).collect();
    assert_eq!(epochs.len(), 1, "an older inventory was suspected");
    println!("killed {} times: {} certificates in agents, {} rows", moments(), given.len(), rows.len());
    assert!(given.len() >= 10, "{}", given.len());
    assert_login_works(&world, "carol");
}

#[test]
fn a_certificate_that_its_agent_takes_after_the_front_was_killed_stands_in_the_inventory() {
    let world = small_world("front-late");
    let _watch = world.lab().watch();
    let alice = with_the_certificate_on_its_way(&world);
    signal(&world, "-KILL", process(&world, "usshca-front"));
    wait_until(SOON, "the row to say so", || row_of_alice(&world).outcome.starts_with("undelivered")).unwrap();
    agent(&world, Signal::SIGCONT);
    // ussh looks into the agent, and finds it there.
    assert_eq!(end(&alice).0, 0);
    assert_all_accounted_for(&world, &["alice"]);
    assert_eq!(world.certificates("alice").unwrap()[0].serial, row_of_alice(&world).serial);
}

#[test]
fn a_certificate_that_was_signed_before_the_signer_was_killed_stands_in_the_inventory() {
    let world = small_world("signer-late");
    let _watch = world.lab().watch();
    let alice = with_the_certificate_on_its_way(&world);
    signal(&world, "-KILL", process(&world, "usshca-signer"));
    agent(&world, Signal::SIGCONT);
    assert_eq!(end(&alice).0, 0);
    wait_until_up_again(&world);
    let row = row_of_alice(&world);
    assert_eq!((row.outcome.as_str(), row.revoked), ("signed", None));
    assert_eq!(world.certificates("alice").unwrap()[0].serial, row.serial);
    assert_all_accounted_for(&world, &["alice"]);
    assert!(row_of_alice(&world).revoked.is_some());
}

#[test]
fn a_signer_that_is_killed_before_it_hears_the_request_has_issued_nothing_and_the_user_is_told() {
    let world = small_world("signer-early");
    let _watch = world.lab().watch();
    let alice = world.terminal("laptop", "alice", "exec ssh -A ca").unwrap();
    alice.expect("assword:", SOON).unwrap();
    // Her agent is asked what it holds before the signer is.
    agent(&world, Signal::SIGSTOP);
    alice.send(&format!("{}\n", world.password("alice"))).unwrap();
    wait_until_gone(&world, "usshca-pam");
    let signer = process(&world, "usshca-signer");
    signal(&world, "-STOP", signer);
    assert!(!asks_the_signer(&world));
    agent(&world, Signal::SIGCONT);
    wait_until(SOON, "the front to ask the signer", || asks_the_signer(&world)).unwrap();
    signal(&world, "-KILL", signer);

    let (code, seen) = end(&alice);
    assert_eq!(code, 1, "{seen}");
    assert!(seen.contains("The CA's signer is not available, so there is no certificate"), "{seen}");
    wait_until_up_again(&world);
    assert_eq!(world.rows_of("alice").unwrap(), []);
    assert_eq!(world.certificates("alice").unwrap(), []);
    assert_login_works(&world, "alice");
}

/// alice has logged in, her certificate is signed, and her agent, which is frozen, has not taken it yet.
fn with_the_certificate_on_its_way(world: &World) -> Pty {
    let alice = at_the_prompt(world, "alice");
    agent(world, Signal::SIGSTOP);
    alice.send(&format!("{}\n", world.password("alice"))).unwrap();
    let signed = || world.rows_of("alice").unwrap().first().is_some_and(|row| row.outcome == "signed");
    wait_until(SOON, "the certificate to be signed", signed).unwrap();
    alice
}

fn agent(world: &World, signal: Signal) {
    world.host("laptop").service("ssh-agent of alice").unwrap().signal(signal).unwrap();
}

/// The last one.
fn row_of_alice(world: &World) -> Row {
    world.rows_of("alice").unwrap().into_iter().next().expect("a row of alice's")
}

fn wait_until_up_again(world: &World) {
    wait_until(SOON, "the signer to be up again", || daemon_log(world).contains("signer: up again")).unwrap();
}

#[test]
fn a_pam_worker_that_is_killed_lets_nobody_in_and_the_user_is_told() {
    let world = small_world("worker");
    let _watch = world.lab().watch();
    let alice = at_the_prompt(&world, "alice");
    signal(&world, "-KILL", process(&world, "usshca-pam"));
    let (code, seen) = go_on(&world, "alice", &alice);
    assert_eq!(code, UNAVAILABLE, "{seen}");
    assert!(seen.contains("The CA cannot check logins at the moment"), "{seen}");
    let outcomes: Vec<String> = world.rows_of("alice").unwrap().into_iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, ["refused: PAM: broke down"]);
    assert_login_works(&world, "alice");
}

#[test]
fn a_signer_that_is_killed_is_started_again_and_who_was_waiting_is_told() {
    let world = small_world("signer");
    let _watch = world.lab().watch();
    let (alice, bob) = (at_the_prompt(&world, "alice"), at_the_prompt(&world, "bob"));
    let signer = process(&world, "usshca-signer");

    // In the middle of a question: it is frozen, alice's worker asks, and then it dies.
    signal(&world, "-STOP", signer);
    assert!(!asks_the_signer(&world));
    alice.send(&format!("{}\n", world.password("alice"))).unwrap();
    wait_until(SOON, "alice's password to be checked", || asks_the_signer(&world)).unwrap();
    signal(&world, "-KILL", signer);
    for (user, (code, seen)) in [("alice", end(&alice)), ("bob", go_on(&world, "bob", &bob))] {
        assert_eq!(code, UNAVAILABLE, "{user}: {seen}");
        assert!(seen.contains("The CA cannot check logins at the moment"), "{user}: {seen}");
        assert_eq!(world.rows_of(user).unwrap(), []);
    }

    // Back by itself, as another process, with the same keys and rows.
    wait_until_up_again(&world);
    assert_ne!(process(&world, "usshca-signer"), signer);
    for user in ["alice", "bob"] {
        assert_login_works(&world, user);
    }
    assert_all_accounted_for(&world, &["alice", "bob"]);
}

/// Whether a message waits in a packet socket of the CA. While the signer is frozen, the one that stays is a worker's statement or a front's request, or the supervisor's
/// question whether it still hears, which is one byte.
fn asks_the_signer(world: &World) -> bool {
    let sockets = world.host("ca").run(["ss", "-xH"]).unwrap().ok().unwrap().stdout;
    let unread = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("u_seq") && words.nth(1).is_some_and(|queue| queue.parse::<u32>().unwrap() > 1)
    };
    sockets.lines().any(unread)
}

#[test]
fn a_signer_that_hangs_is_killed_and_another_one_takes_its_place() {
    let world = small_world("signer-hangs");
    let _watch = world.lab().watch();
    let alice = at_the_prompt(&world, "alice");
    let signer = process(&world, "usshca-signer");
    signal(&world, "-STOP", signer);
    wait_until(SOON * 2, "the log to say so", || daemon_log(&world).contains("signer: gives no answer: killed"))
        .unwrap();
    wait_until_up_again(&world);
    assert_ne!(process(&world, "usshca-signer"), signer);
    let (code, seen) = go_on(&world, "alice", &alice);
    assert_eq!(code, UNAVAILABLE, "{seen}");
    assert_login_works(&world, "alice");
    // One that answers is left alone.
    assert_eq!(daemon_log(&world).matches("signer: gives no answer").count(), 1);
}

#[test]
fn while_the_signer_cannot_start_users_are_told_before_they_type_a_password_and_then_it_comes_back() {
    let world = small_world("no-signer");
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    ca.script(&format!("mv {CA_DIR}/state/user_ca {CA_DIR}/state/away")).unwrap();
    signal(&world, "-KILL", process(&world, "usshca-signer"));
    wait_until(SOON, "the log to say so", || daemon_log(&world).contains("signer: cannot serve")).unwrap();

    let (code, seen) = end(&world.terminal("laptop", "alice", "ussh --login").unwrap());
    assert_eq!(code, UNAVAILABLE, "{seen}");
    assert!(seen.contains("The CA's signer is not available") && !seen.contains("assword"), "{seen}");

    ca.script(&format!("mv {CA_DIR}/state/away {CA_DIR}/state/user_ca")).unwrap();
    wait_until_up_again(&world);
    assert_login_works(&world, "alice");
}

/// One helper in a session of its own, and one that has lost its parent besides.
fn put_slow_module(ca: &Host) {
    ca.write_file("/srv/slow", 0o755, "#!/bin/sh\nsetsid sleep 4241 &\n( setsid sleep 4242 & )\nsleep 4243\n").unwrap();
    ca.script(
        "cp /etc/pam.d/usshca /srv/stack; sed -i '1i auth required pam_exec.so quiet /srv/slow' /etc/pam.d/usshca",
    )
    .unwrap();
}

#[test]
fn a_module_that_hangs_until_the_logins_time_is_over_ends_with_all_that_it_started() {
    let world = WorldPlan::new("hung-module").without_servers().ca_config("login_grace_seconds = 8\n").start().unwrap();
    let _watch = world.lab().watch();
    put_slow_module(&world.host("ca"));
    let started = || world.processes("ca", "sleep").unwrap().len();
    let alice = world.unattended("alice", world.password("alice"), "exec ssh -A ca").unwrap();
    wait_until(SOON, "the module's programs", || started() == 3).unwrap();
    assert!(!alice.wait(SOON).unwrap().success());
    wait_until(SOON, "the worker to be killed", || daemon_log(&world).contains("attempt 1: takes too long: killed"))
        .unwrap();
    wait_until(SOON, "all that it started to be gone", || started() == 0).unwrap();
    assert!(!daemon_log(&world).contains("signal: 14"), "{}", daemon_log(&world));
}

#[test]
fn whoever_hangs_up_at_a_slow_module_ends_it_with_all_that_it_started_and_pam_has_not_broken_down() {
    let world = small_world("slow-module");
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    put_slow_module(&ca);
    let started = || world.processes("ca", "sleep").unwrap().len();
    let alice = world.unattended("alice", world.password("alice"), "exec ssh -A ca").unwrap();
    wait_until(SOON, "the module's programs", || started() == 3).unwrap();
    let clients = world.processes("laptop", "ssh").unwrap();
    let (client, _) = clients.iter().find(|(_, name)| *name == "ssh").unwrap();
    world.host("laptop").run(["kill", &client.to_string()]).unwrap().ok().unwrap();
    assert!(!alice.wait(SOON).unwrap().success());
    wait_until(SOON, "the worker to be given up", || {
        daemon_log(&world).contains("nobody waits for PAM any more: killed")
    })
    .unwrap();
    wait_until(SOON, "all that it started to be gone", || started() == 0).unwrap();
    assert!(!daemon_log(&world).contains("broke down"), "{}", daemon_log(&world));
    wait_until(SOON, "the row", || world.rows_of("alice").unwrap().len() == 1).unwrap();
    assert_eq!(world.rows_of("alice").unwrap()[0].outcome, "refused: left before PAM had decided");
    assert!(world.usshca("status").unwrap().success());
    ca.script("cp /srv/stack /etc/pam.d/usshca").unwrap();
    assert_login_works(&world, "alice");
}
