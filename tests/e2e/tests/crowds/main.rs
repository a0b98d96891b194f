//! Sessions that run very many programs: their ends cost nobody else his session, nor the moment of his own end, and leave nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

/// A session, with the shell at its prompt.
#[allow(dead_code)]
#[path = "../frozen/seat.rs"]
mod seat;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ussh_e2e::lab::wait_until;
use ussh_e2e::{Forgery, WorldPlan, confined};

use crate::seat::{LONG, SOON, Seat, log_of};

const HOSTD: &str = "\
warn_before_seconds = 2
look_before_seconds = 2
agent_timeout_seconds = 1
grace_seconds = 5

[sync]
source = \"file:/srv/ussh-feed\"
every_seconds = 86400
";

/// Of the daemon: an eighth of them is 128.
const DESCRIPTORS: &str = "--nofile=1024:1024";
/// More than that in each of more than eight.
const SESSIONS: usize = 9;
const HARDENED: &str = "trap '' HUP TERM; for i in $(seq 150); do sleep 4900 & done; wait";

/// They heed what they are told.
const CROWD: &str =
    "exec perl -e '$SIG{HUP} = \"DEFAULT\"; for (1..4000) { fork or do { sleep 600; exit } } sleep 600'\n";
/// They are there by then, on a machine that is busy.
const ALL_THERE: Duration = Duration::from_secs(20);

fn end_in(time: Duration) -> (SystemTime, String) {
    let end = (SystemTime::now() + time).duration_since(UNIX_EPOCH).unwrap().as_secs();
    (UNIX_EPOCH + Duration::from_secs(end), format!("-5m:0x{end:x}"))
}

#[test]
fn an_accounts_programs_take_no_descriptor_that_anothers_session_needs_and_all_of_them_end() {
    let world = WorldPlan::new("descriptors").without_servers().server("web").people(2, "admins").start().unwrap();
    let web = world.host("web");
    web.write_file("/etc/ussh/hostd.toml", 0o644, HOSTD).unwrap();
    let hostd = ["prlimit".to_owned(), DESCRIPTORS.to_owned(), "--".to_owned()].into_iter();
    let hostd: Vec<String> = hostd.chain(confined(&["ussh-hostd", "run"])).collect();
    web.command(hostd).service("ussh-hostd").unwrap().wait_for_output("Watching ", SOON).unwrap();

    let (end, validity) = end_in(ALL_THERE);
    let crowd = world.new_agent(&world.somebody().unwrap()).unwrap();
    world.forge(&Forgery::of(crowd.user()).validity(&validity)).unwrap().add_to(&crowd).unwrap();
    let open = |_| {
        let laptop = world.host("laptop");
        let ssh = laptop.command(["ssh", "-a", "web", HARDENED]).user(crowd.user());
        ssh.env("SSH_AUTH_SOCK", crowd.socket()).spawn().unwrap()
    };
    let clients: Vec<_> = (0..SESSIONS).map(open).collect();
    let programs = || web.script(&format!("pgrep -c -u {} -x sleep || true", crowd.user())).unwrap().stdout;
    wait_until(SOON, "the programs", || programs() == format!("{}\n", SESSIONS * 150)).unwrap();
    // Its turn comes while all of theirs have their grace.
    let (other_end, other) = end_in(end.duration_since(SystemTime::now()).unwrap() + Duration::from_secs(3));
    let other = Seat::take(&world, "web", &other, "ssh -A");
    assert!(SystemTime::now() < end, "too slow a machine");
    other.renew(LONG);

    wait_until(SOON, "the other one's renewal", || other.row().is_none_or(|_| other.end() > other_end)).unwrap();
    assert!(other.row().is_some(), "{:#?}", other.log());
    let log = || log_of(&world, "web", crowd.user());
    let count = |what: &str| log().iter().filter(|line| line.contains(what)).count();
    wait_until(SOON, "their ends", || count("Session ended after") == SESSIONS).unwrap();
    assert_eq!(programs(), "0\n", "{:#?}", log());
    assert!(count("Ends without a descriptor for each of its programs") > 0, "{:#?}", log());
    drop(clients);
}

#[test]
fn a_session_with_thousands_of_programs_keeps_nobody_waiting_who_ends_with_it() {
    let world = WorldPlan::new("crowds").without_servers().server("web").people(4, "admins").start().unwrap();
    seat::configure(&world, "web", HOSTD);
    let (end, validity) = end_in(ALL_THERE);
    let crowd = Seat::take(&world, "web", &validity, "ssh -A");
    crowd.shell.terminal().send(CROWD).unwrap();
    let others: Vec<Seat<'_>> = (0..3).map(|_| Seat::take(&world, "web", &validity, "ssh -A")).collect();
    let programs =
        || world.host("web").script(&format!("pgrep -c -u {} -x perl || true", crowd.user())).unwrap().stdout;
    wait_until(SOON, "the programs", || programs() == "4001\n").unwrap();
    let pids: Vec<u64> = others.iter().map(|other| other.row().unwrap()["pid"].as_u64().unwrap()).collect();
    let watcher = world.watch_ends("web", &pids, SOON).unwrap();
    assert!(SystemTime::now() < end, "too slow a machine");

    let ends = watcher.ends(SOON).unwrap();
    let end = end.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let late = ends.values().map(|at| at - end).fold(0.0, f64::max);
    let ended = |line: &String| line.split("Session ended after ").nth(1)?.split(' ').next()?.parse::<f64>().ok();
    wait_until(SOON, "the crowd's end", || crowd.log().iter().find_map(ended).is_some()).unwrap();
    let crowds = crowd.log().iter().find_map(ended).unwrap() / 1000.0;
    println!("others' last process gone {late:.3} s after the end, the crowd {crowds:.3} s after it was told");
    assert!(late < crowds / 3.0, "{late} s, the crowd itself {crowds} s: {:#?}", others[0].log());
    assert_eq!(programs(), "0\n");
}

/// One program, until its session's end is told; then each forks the next one and some others, and heeds nothing.
const CHAIN: &str = "exec perl -e '$SIG{$_} = \"IGNORE\" for qw(TERM INT PIPE); my $told; $SIG{HUP} = sub { $told = 1 }; select undef, undef, undef, 0.05 until $told;
$SIG{HUP} = \"IGNORE\"; for (1..500) { my $child; for (1..9) { 1 until defined($child = fork); $child or do { sleep 60 while 1 } } 1 until defined($child = fork); if ($child) { sleep 60 while 1 } } sleep 60 while 1'\n";
/// In which the chain becomes long.
const GRACE: Duration = Duration::from_secs(15);

#[test]
fn a_session_whose_program_forks_without_end_when_it_is_to_end_keeps_nobody_waiting() {
    let world = WorldPlan::new("chain").without_servers().server("web").people(4, "admins").start().unwrap();
    seat::configure(
        &world,
        "web",
        &HOSTD.replace("grace_seconds = 5", &format!("grace_seconds = {}", GRACE.as_secs())),
    );
    let (end, validity) = end_in(ALL_THERE);
    let chain = Seat::take(&world, "web", &validity, "ssh -A");
    chain.shell.terminal().send(CHAIN).unwrap();
    // One in its grace, when nothing is killed yet; the others soon after that.
    let others: Vec<(SystemTime, Seat<'_>)> =
        [Duration::from_secs(2), GRACE + Duration::from_millis(1000), GRACE + Duration::from_secs(2)]
            .map(|after| end_in(end.duration_since(SystemTime::now()).unwrap() + after + Duration::from_millis(500)))
            .map(|(end, validity)| (end, Seat::take(&world, "web", &validity, "ssh -A")))
            .into();
    let pids: Vec<u64> = others.iter().map(|(_, other)| other.row().unwrap()["pid"].as_u64().unwrap()).collect();
    let watcher = world.watch_ends("web", &pids, SOON).unwrap();
    assert!(SystemTime::now() < end, "too slow a machine");

    let ends = watcher.ends(2 * SOON).unwrap();
    let late = others
        .iter()
        .zip(&pids)
        .map(|((end, _), pid)| ends[pid] - end.duration_since(UNIX_EPOCH).unwrap().as_secs_f64());
    let late: Vec<f64> = late.collect();
    let has_ended = || chain.log().iter().any(|line| line.contains("Session ended after "));
    wait_until(2 * SOON, "the chain's end", has_ended).unwrap();
    let ended = chain.log().into_iter().find(|line| line.contains("Session ended after ")).unwrap();
    println!(
        "others' last process gone {late:.3?} s after their ends, the first of them before anything was killed; {ended}"
    );
    let worst = late[1..].iter().copied().fold(0.0, f64::max);
    assert!(worst < 1.0 + 3.0 * late[0], "{late:?}: {:#?}", chain.log());
    let programs = format!("pgrep -c -u {} -x perl || true", chain.user());
    assert_eq!(world.host("web").script(&programs).unwrap().stdout, "0\n");
}
