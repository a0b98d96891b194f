//! What is left when a part of the CA is down, killed or frozen: the user reads what is true, no certificate is missing from the inventory, and all goes on without a hand.
//!
//! Every test breaks its world, so each has one of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod down;
mod killed;
mod restarted;

use std::collections::BTreeSet;
use std::time::Duration;

use ussh_e2e::lab::{Pty, wait_for, wait_until};
use ussh_e2e::{Row, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);

/// EX_UNAVAILABLE of sysexits.h: no certificate.
const UNAVAILABLE: i32 = 69;

/// A laptop and a CA.
fn small_world(name: &str) -> World {
    WorldPlan::new(name).without_servers().start().unwrap()
}

/// `ussh --login` at the question for the password.
fn at_the_prompt(world: &World, user: &str) -> Pty {
    let ussh = world.terminal("laptop", user, "ussh --login").unwrap();
    ussh.expect("assword:", SOON).unwrap();
    ussh
}

/// Types the password; exit code, and all that was shown.
fn go_on(world: &World, user: &str, ussh: &Pty) -> (i32, String) {
    ussh.send(&format!("{}\n", world.password(user))).unwrap();
    end(ussh)
}

fn end(ussh: &Pty) -> (i32, String) {
    let status = ussh.expect_exit(SOON).unwrap();
    ussh.expect_close(SOON).unwrap();
    (status.code(), ussh.transcript())
}

/// A login goes well.
#[track_caller]
fn assert_login_works(world: &World, user: &str) {
    let (code, seen) = world.log_in(user, "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    assert!(!world.certificates(user).unwrap().is_empty());
}

/// The one process of this name on the CA's host.
fn process(world: &World, name: &str) -> i32 {
    let one = || {
        let all = world.processes("ca", name).unwrap();
        let mut named = all.iter().filter(|(_, other)| *other == name).map(|(pid, _)| *pid);
        named.next().filter(|_| named.next().is_none())
    };
    wait_for(SOON, &format!("one {name}"), one).unwrap()
}

fn wait_until_gone(world: &World, name: &str) {
    wait_until(SOON, &format!("no {name}"), || world.processes("ca", name).unwrap().is_empty()).unwrap();
}

fn signal(world: &World, name: &str, pid: i32) {
    world.host("ca").script(&format!("kill {name} {pid}")).unwrap();
}

/// What the CA's daemon has logged until now.
fn daemon_log(world: &World) -> String {
    world.host("ca").service("usshca").unwrap().stderr()
}

/// Every certificate in these people's agents has a row that says the same, every row that may stand for a certificate has a serial of its own, and can be revoked by it.
fn assert_all_accounted_for(world: &World, people: &[&str]) -> Vec<Row> {
    let rows = world.inventory().unwrap();
    for user in people {
        for shown in world.certificates(user).unwrap() {
            let row = rows.iter().find(|row| row.serial == shown.serial);
            let row = row.unwrap_or_else(|| panic!("serial {} of {user} is in no row", shown.serial));
            assert_eq!((&row.key_id, &row.principals), (&shown.key_id, &shown.principals));
            assert!(!row.outcome.starts_with("refused"), "{row:?}");
        }
    }
    let signed: Vec<&Row> = rows.iter().filter(|row| !row.outcome.starts_with("refused")).collect();
    let serials: BTreeSet<u64> = signed.iter().map(|row| row.serial).collect();
    assert_eq!(serials.len(), signed.len(), "a serial stands there twice: {rows:?}");
    assert!(!serials.contains(&0), "{rows:?}");
    // A host certificate is never delivered: `signed` is its end.
    let unknown = |row: &&&Row| row.kind == "user" && matches!(row.outcome.as_str(), "reserved" | "signed");
    for row in signed.iter().filter(unknown) {
        world.usshca(&format!("revoke {}", row.serial)).unwrap().ok().unwrap();
    }
    rows
}

/// The CA's daemon is down and nothing of it runs any more.
fn stop_ca(world: &World) {
    world.host("ca").stop_service("usshca").unwrap();
    wait_until_gone(world, "usshca");
}
