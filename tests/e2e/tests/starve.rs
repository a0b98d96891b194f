//! One machine that takes all the connections it can get.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::{Duration, Instant};

use ussh_e2e::WorldPlan;
use ussh_e2e::lab::wait_until;

/// More than the CA has for all.
const FLOOD: usize = 210;
/// max_connections_per_source.
const SHARE: usize = 60;
/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_machine_that_takes_all_it_can_shuts_nobody_else_out_and_soon_has_nothing() {
    let world = WorldPlan::new("starve").without_servers().bare("mallory").start().unwrap();
    let fronts = || world.processes("ca", "usshca-front").unwrap().len();
    let before = world.log_position("ca");
    let script = format!(
        "ulimit -n 1000; for i in $(seq {FLOOD}); do exec {{fd}}<>/dev/tcp/{}/22 || exit; done; echo open; sleep 1000",
        world.host("ca").address()
    );
    let began = Instant::now();
    let flood = world.host("mallory").spawn_as("root", ["bash", "-c", &script]).unwrap();
    flood.wait_for_output("open", SOON).unwrap();
    assert!(fronts() <= SHARE);
    let (status, said) = world.log_in("alice", "").unwrap();
    assert_eq!(status, 0, "{said}");
    // Silent ones go long before the login grace (120 s), though their client stays.
    wait_until(SOON, "the silent connections to go", || fronts() == 0).unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let log = world.logged_since("ca", before).unwrap();
    assert_eq!(log.matches("max_connections_per_source").count(), 1, "{log}");
    assert!(log.contains("did not begin a key exchange in time"), "{log}");
    drop(flood);
}
