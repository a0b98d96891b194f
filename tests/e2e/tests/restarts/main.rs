//! ussh-hostd is killed at random moments and started again, with sessions on: it knows all of them again, ends none wrongly, and makes good what fell into the gaps; also where it is killed
//! while it ends sessions, and while it stops them or lets them go on.
//!
//! `crowd` are the sessions, `moments` is when what is due must be done. `USSH_SEED` repeats a run's moments.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod crowd;
mod moments;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ussh_e2e::lab::{Host, SSHD_CONFIG, rounds, wait_until};
use ussh_e2e::{SSHD_WITH_CERTIFICATES, World, WorldPlan};

use crate::crowd::{Guest, RUNS, pids, rows, wait_for_sessions};
use crate::moments::{Chance, Runs, now};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(60);
const PEOPLE: usize = 10;
/// Most people whose sessions are stopped.
const SEATS: usize = 6;
/// From the daemon's start until it knows all sessions again.
const KNOWN: Duration = Duration::from_secs(1);
/// `grace_seconds` of the configuration.
const GRACE: Duration = Duration::from_secs(1);
/// From one look at a frozen session's agent to the next.
const LOOK: Duration = Duration::from_secs(2);

const HOSTD: &str = "\
warn_before_seconds = 1
look_before_seconds = 1
agent_timeout_seconds = 1
grace_seconds = 1
at_end = \"AT_END\"

[sync]
source = \"file:/srv/ussh-feed\"
every_seconds = 86400
";

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("restarts")
        .without_servers()
        .server("end")
        .server("freeze")
        .server("whole")
        .people(PEOPLE + SEATS + 3, "admins");
    let world = plan.start().unwrap();
    let laptop = world.host("laptop");
    // Hosts are called otherwise here than where the laptop forwards agents of itself.
    laptop.write_file("/etc/ssh/ssh_config.d/ussh.conf", 0o644, "Host *\n  StrictHostKeyChecking yes\n").unwrap();
    let whole = HOSTD.replace("AT_END", "end").replace("grace_seconds = 1", "grace_seconds = 4");
    for (server, hostd) in [
        ("end", HOSTD.replace("AT_END", "end")),
        ("freeze", HOSTD.replace("AT_END", "freeze")),
        ("whole", format!("kill_user_processes = true\n{whole}")),
    ] {
        let host = world.host(server);
        host.write_file("/etc/ussh/hostd.toml", 0o644, hostd).unwrap();
        host.stop_service("sshd").unwrap();
        host.start_sshd(&format!("{SSHD_CONFIG}{SSHD_WITH_CERTIFICATES}MaxStartups 1000\n")).unwrap();
        start(&host);
    }
    world
});

/// How late something may be where nothing else is at fault: in `make test` the machine may be busy.
fn patience() -> Duration {
    Duration::from_secs(u64::from(rounds(2, 1)))
}

/// How many sessions it says it watches, and how long it took to say so.
fn start(host: &Host) -> (usize, Duration) {
    let began = Instant::now();
    let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
    daemon.wait_for_output(" sessions in ", SOON).unwrap();
    let (took, said) = (began.elapsed(), daemon.stderr());
    let watching = said.lines().find_map(|line| line.split_once("Watching ")?.1.split_once(" sessions in "));
    (watching.unwrap().0.parse().unwrap(), took)
}

fn kill(host: &Host) {
    host.service("ussh-hostd").unwrap().kill().unwrap();
}

/// Sleeps: a random moment is nothing that could be waited for.
fn sleep_until(moment: f64) {
    std::thread::sleep(Duration::from_secs_f64((moment - now()).max(0.0)));
}

#[test]
fn killed_at_random_moments_it_knows_every_session_again_and_ends_those_and_only_those_whose_certificate_has_run_out() {
    let world: &'static World = &WORLD;
    let _watch = world.lab().watch();
    let (host, mut chance) = (world.host("end"), Chance::new());
    let standing = rounds(20, 500) as usize;
    let kills = rounds(6, 50);
    let people: Vec<String> = (0..PEOPLE).map(|_| world.somebody().unwrap()).collect();
    let later = now() + 3600.0;

    let mut others: Vec<Guest> = people.iter().map(|name| Guest::new(world, name, later)).collect();
    for round in 1..=standing / PEOPLE {
        others.iter_mut().zip(RUNS.iter().cycle()).for_each(|(guest, runs)| guest.connect("end", runs));
        wait_for_sessions(world, "end", round * PEOPLE);
    }
    // Their ends lie a second and a half apart; of four, one is renewed before.
    let (mut ending, mut renewed) = (Vec::new(), Vec::new());
    let first = now() + f64::from(kills) * 0.6 + 6.0;
    for (number, name) in people.iter().cycle().take(kills as usize).enumerate() {
        let mut guest = Guest::new(world, name, first + number as f64 * 1.5);
        guest.connect("end", RUNS[number % 2]);
        if number % 4 == 3 {
            guest.renew(later);
            renewed.push(guest);
        } else {
            ending.push(guest);
        }
    }
    let all = others.len() * (standing / PEOPLE) + ending.len() + renewed.len();
    wait_for_sessions(world, "end", all);
    let of_ending: Vec<u64> = ending.iter().flat_map(|guest| pids(world, "end", guest.serial)).collect();
    assert_eq!(of_ending.len(), ending.len());
    let watcher = world.watch_ends("end", &of_ending, SOON).unwrap();
    let of_others = |world| others.iter().map(|guest| pids(world, "end", guest.serial)).collect::<Vec<_>>();
    let before = of_others(world);
    assert!(now() < ending[0].end, "all were there in time");

    let (mut runs, mut slowest) = (Runs::since(now()), Duration::ZERO);
    sleep_until(ending[0].end - 1.0);
    for number in 0..kills {
        // Each second time within a second after an end, which is when there is most to be interrupted.
        let up = chance.next() * 1.5 * patience().as_secs_f64();
        let next_end = ending.iter().map(|guest| guest.end).find(|end| *end > now()).filter(|_| number % 2 == 0);
        sleep_until(next_end.map_or(now() + up, |end| end + chance.next() * 1.2));
        kill(&host);
        runs.killed(now());
        let living = rows(world, "end").len();
        sleep_until(now() + chance.next() * 0.6);
        let (known, took) = start(&host);
        runs.back(now());
        slowest = slowest.max(took);
        assert!(took <= KNOWN, "known again after {took:?}");
        let least = standing + renewed.len();
        assert!(known >= least && known <= living, "{known} known, {least} must be, {living} were there");
    }
    let ends = watcher.ends(SOON).unwrap();
    assert_eq!(ends.len(), ending.len());
    let mut latest: f64 = 0.0;
    for ((pid, guest), number) in of_ending.iter().zip(&ending).zip(0..) {
        let (gone, end) = (ends[pid], guest.end);
        assert!(gone >= end, "{number} ended {} s early", end - gone);
        // What does not heed its SIGHUP has its grace.
        let due = runs.deadline(end, patience()) + GRACE.as_secs_f64();
        assert!(gone <= due, "{number} ended {} s late: at {gone}, its end was {end}; {runs:?}", gone - due);
        latest = latest.max(gone - due + patience().as_secs_f64() + GRACE.as_secs_f64());
        guest.clients.iter().for_each(|client| assert_eq!(client.wait(SOON).unwrap().status.code(), 255));
    }
    println!(
        "{all} sessions, killed {kills} times: known again after {slowest:?} at most; {} ended, the last process of each gone {latest:.2} s after both its end and the daemon's start at most, with a grace of {GRACE:?} for some",
        ending.len()
    );
    assert_eq!(of_others(world), before, "nobody else's");
    assert!(others.iter().chain(&renewed).all(Guest::is_connected), "none ended wrongly");
    let alive = host.script("pgrep -c -x -f 'sleep 4714'; pgrep -c -x -f 'sleep 4715'").unwrap().stdout;
    assert_eq!(alive, format!("{0}\n{0}\n", standing + renewed.len()), "theirs, and no others");
    let left = host.list_folder(ussh_e2e::SPOOL).unwrap();
    assert!(!left.iter().any(|name| name.ends_with(".begun")), "nothing is left to be done: {left:?}");
}

/// Whoever is held of it has ended when it is signalled: each of its processes lives for some milliseconds, and init is their parent.
const HOPPER: &str = "$SIG{$_} = 'IGNORE' for qw(HUP TERM); fork and exit; $0 = 'hopper'; while (1) { fork and exit; select undef, undef, undef, 0.003 }";

#[test]
fn killed_while_it_ends_all_that_was_started_in_a_session_it_ends_what_had_left_it_when_it_is_back_and_nobody_elses() {
    let world: &'static World = &WORLD;
    let _watch = world.lab().watch();
    let host = world.host("whole");
    host.write_file("/srv/hopper", 0o644, HOPPER).unwrap();
    let name = world.somebody().unwrap();
    // Two sessions of one account: the other one goes on.
    let mut other = Guest::new(world, &name, now() + 3600.0);
    other.connect("whole", "(setsid sleep 4718 > /dev/null 2>&1 &); sleep 4719");
    let mut ending = Guest::new(world, &name, now() + 6.0);
    ending.connect(
        "whole",
        "(setsid perl /srv/hopper > /dev/null 2>&1 < /dev/null &); nohup sleep 4714 > /dev/null 2>&1 & trap '' HUP; sleep 4715; true",
    );
    let runs = |what: &str| host.run(["pgrep", "-f", what]).unwrap().success();
    wait_until(SOON, "all to run", || ["^hopper", "^sleep 4714", "^sleep 4718"].iter().all(|what| runs(what))).unwrap();
    wait_for_sessions(world, "whole", 2);
    let is_begun = || host.list_folder(ussh_e2e::SPOOL).unwrap().iter().any(|name| name.ends_with(".begun"));
    // sshd closes it and takes the record away; one that does not heed its SIGHUP has its grace.
    wait_until(SOON, "its record to go", || pids(world, "whole", ending.serial).is_empty()).unwrap();
    kill(&host);
    assert!(is_begun());
    // Seen now and then: it may have forked behind the look.
    wait_until(SOON, "a look at what had left it", || runs("^hopper")).unwrap();
    start(&host);
    wait_until(SOON, "the end to be over", || !is_begun()).unwrap();
    // Taken away when the last that was killed in it is gone, which nobody waits for.
    let groups = || host.script("find /sys/fs/cgroup -path '*/ussh-sessions/*-*' -prune | wc -l").unwrap().stdout;
    wait_until(SOON, "only the other session's group to be there", || groups().trim() == "1").unwrap();
    assert!(!runs("^hopper") && !runs("^sleep 471[45]"), "nothing is left of it");
    assert!(host.log().contains(" remaining processes, whose connection is gone: pid "));
    assert!(other.is_connected() && runs("^sleep 4718") && runs("^sleep 4719"), "the other session goes on");
}

/// A certificate that has ended, and from when to when a newer one came to the agent.
#[derive(Clone)]
struct Ended {
    end: f64,
    renewed: (f64, f64),
}

impl Ended {
    fn and_renewed(seat: &mut Guest, until: f64) -> Self {
        let (end, from) = (seat.end, now());
        seat.renew(until);
        Ended { end, renewed: (from, now()) }
    }
}

/// When the program of a session wrote a line.
fn beats(host: &Host, user: &str) -> Vec<f64> {
    let text = host.read_file(&format!("/tmp/beat-{user}")).unwrap();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().map(|line| line.parse().unwrap()).collect()
}

fn state(server: &str, guest: &Guest) -> Option<String> {
    let row = rows(&WORLD, server).into_iter().find(|row| row["user"] == guest.agent.user())?;
    Some(row["state"].as_str()?.to_owned())
}

#[test]
fn killed_while_it_stops_sessions_and_lets_them_go_on_it_holds_those_whose_certificate_has_run_out_and_no_others() {
    let world: &'static World = &WORLD;
    let _watch = world.lab().watch();
    let (host, mut chance) = (world.host("freeze"), Chance::new());
    let kills = rounds(5, 50);
    let user = |_| world.somebody().unwrap();
    let beat = |guest: &Guest| {
        let user = guest.agent.user();
        format!("bash -c 'while :; do echo $EPOCHREALTIME; sleep 0.05; done >> /tmp/beat-{user}'")
    };
    let mut standing = Guest::new(world, &user(()), now() + 3600.0);
    standing.connect("freeze", &beat(&standing));

    // One that loses its client while the daemon is down: nothing could thaw it any more.
    let mut gone = Guest::new(world, &user(()), now() + 4.0);
    gone.connect("freeze", "(setsid sleep 4716 > /dev/null 2>&1 &); sleep 4717");
    // From then on its sshd moves, and sees its client go.
    let freezing = format!("]: Freezing session of certificate ID \"{}\" ", gone.agent.user());
    wait_until(SOON, "it to be frozen", || host.log().contains(&freezing)).unwrap();
    kill(&host);
    gone.clients[0].kill().unwrap();
    wait_until(SOON, "its sshd to end", || state("freeze", &gone).is_none()).unwrap();
    let runs_on = || host.run(["pgrep", "-f", "^sleep 471[67]"]).unwrap().success();
    assert!(runs_on(), "it stands still, and is there");
    start(&host);
    wait_until(patience(), "what it had running to go", || !runs_on()).unwrap();

    let mut seats: Vec<Guest> = (0..rounds(3, SEATS as u32))
        .map(|number| Guest::new(world, &user(()), now() + 4.0 + f64::from(number)))
        .collect();
    for seat in &mut seats {
        let beat = beat(seat);
        seat.connect("freeze", &beat);
    }
    wait_for_sessions(world, "freeze", seats.len() + 1);
    let mut runs = Runs::since(now());
    let mut ends: Vec<Vec<Ended>> = vec![Vec::new(); seats.len()];
    for _ in 0..kills {
        let moments = seats.iter().map(|seat| seat.end).chain(ends.iter().flatten().map(|ended| ended.renewed.1));
        let near = moments.filter(|moment| *moment > now() - 0.5).min_by(f64::total_cmp);
        sleep_until(near.unwrap_or_else(now) + chance.next() * 1.2);
        kill(&host);
        runs.killed(now());
        sleep_until(now() + chance.next() * 0.6);
        let mut renew_ended = |seats: &mut [Guest]| {
            for (seat, ends) in seats.iter_mut().zip(&mut ends).filter(|(seat, _)| now() > seat.end + 2.0) {
                ends.push(Ended::and_renewed(seat, now() + 4.0 + chance.next() * 3.0));
            }
        };
        // While it is down, and soon after it is back.
        renew_ended(&mut seats[..1]);
        let (known, took) = start(&host);
        runs.back(now());
        assert!(known == seats.len() + 1 && took <= KNOWN, "{known} known after {took:?}");
        renew_ended(&mut seats);
    }
    for (seat, ends) in seats.iter_mut().zip(&mut ends) {
        sleep_until(runs.deadline(seat.end, patience()) + 0.5);
        ends.push(Ended::and_renewed(seat, now() + 3600.0));
    }
    wait_until(SOON, "all to be live", || seats.iter().all(|seat| state("freeze", seat).as_deref() == Some("live")))
        .unwrap();
    let counts = |seats: &[Guest]| seats.iter().map(|seat| beats(&host, seat.agent.user()).len()).collect::<Vec<_>>();
    let stood = counts(&seats);
    wait_until(SOON, "all to go on", || counts(&seats).iter().zip(&stood).all(|(now, stood)| now > stood)).unwrap();

    for (seat, ends) in seats.iter().zip(&ends) {
        let beats = beats(&host, seat.agent.user());
        let within = |from: f64, to: f64| beats.iter().filter(|at| (from..to).contains(*at)).count();
        let nexts = ends.iter().skip(1).map(|ended| ended.end).chain([now()]);
        for (Ended { end, renewed: (from, by) }, next_end) in ends.iter().zip(nexts) {
            let still = runs.deadline(*end, patience());
            assert_eq!(within(still, *from), 0, "it ran past its end at {end}: {runs:?}");
            let moves = runs.deadline(*by, patience() + LOOK);
            let moved = within(moves, next_end) > 0 || next_end < moves + 0.5;
            assert!(moved, "renewed at {by}, it stood still until {next_end}: {runs:?}");
        }
        assert!(seat.is_connected(), "none ended");
    }
    let stops = |beats: &[f64]| beats.windows(2).filter(|pair| pair[1] - pair[0] > 1.5).count();
    assert_eq!(stops(&beats(&host, standing.agent.user())), 0, "nobody else's");
    assert!(seats.iter().all(|seat| stops(&beats(&host, seat.agent.user())) > 0), "each stood still");
    println!("{} sessions, killed {kills} times, stopped and let go on {} times", seats.len(), ends.concat().len());
}
