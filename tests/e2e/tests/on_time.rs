//! Ends are on time, with OpenSSH 9.2 and 10.0: from a certificate's end, or from a list that revokes it, to the last process of its sessions gone; and nobody else's sessions are touched.
//!
//! Who measures is a program on the server, beside ussh-hostd: it holds each process by a pidfd and notes when it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{Process, SSHD_CONFIG, trixie_root, wait_until};
use ussh_e2e::{Forged, Forgery, PersonAgent, SSHD_WITH_CERTIFICATES, Watcher, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(60);
/// They share the sessions out between them: each has some that end, some that are revoked and some that go on.
const PEOPLE: usize = 10;
/// From the end of the certificate to the last process gone: half of the sessions, and each.
const MEDIAN: Duration = Duration::from_millis(300);
const WORST: Duration = Duration::from_secs(1);
/// From a list in its place to the last process of what it revokes gone.
const REVOKED: Duration = Duration::from_secs(2);

const HOSTD: &str = "\
warn_before_seconds = 3
look_before_seconds = 3
agent_timeout_seconds = 1
grace_seconds = 1

[sync]
source = \"file:/srv/ussh-feed\"
every_seconds = 86400
";

/// `grace_seconds` of that, which a program gets that does not heed the SIGHUP.
const GRACE: Duration = Duration::from_secs(1);

/// What a session runs: a shell with a program in its background, and one in front. Of each second person, the former does not heed a SIGHUP.
const RUNS: [&str; 2] = ["sleep 4714 & sleep 4715; true", "nohup sleep 4714 > /dev/null 2>&1 & sleep 4715; true"];

/// The clients get what the server leaves of the processors, as a group (sched(7), autogroup) or without groups by themselves: they are on a machine of their own, and no part of what is measured.
const LAPTOP_LAST: &str = "for pid in $(pgrep -x ssh); do [ ! -e /proc/$pid/autogroup ] || echo 19 > /proc/$pid/autogroup; renice -n 19 $pid; done";

/// Debian 12's OpenSSH and Debian 13's.
const SERVERS: [&str; 2] = ["web12", "web13"];

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("on-time").without_servers().server("web12").people(SERVERS.len() * PEOPLE, "admins");
    plan.server_on("web13", trixie_root().unwrap()).start().unwrap()
});

fn is_soak() -> bool {
    std::env::var_os("USSH_SOAK").is_some()
}

/// How many sessions of each kind.
fn sessions() -> usize {
    if is_soak() { 200 } else { 20 }
}

/// Sessions of one kind.
struct Kind {
    /// Of their certificates.
    serials: Vec<u64>,
    certificates: Vec<Forged>,
    _agents: Vec<PersonAgent<'static>>,
    clients: Vec<Process>,
}

fn open(world: &'static World, server: &str, people: &[String], validity: &str) -> Kind {
    let before = rows(world, server).len();
    let mut kind = Kind { serials: Vec::new(), certificates: Vec::new(), _agents: Vec::new(), clients: Vec::new() };
    for name in people {
        let agent = world.new_agent(name).unwrap();
        let forged = world.forge(&Forgery::of(name).validity(validity)).unwrap();
        forged.add_to(&agent).unwrap();
        kind.serials.push(forged.serial);
        kind.certificates.push(forged);
        kind._agents.push(agent);
    }
    for round in 1..=sessions() / PEOPLE {
        for (agent, runs) in kind._agents.iter().zip(RUNS.iter().cycle()) {
            let laptop = world.host("laptop");
            let ssh = laptop.command(["ssh", "-A", server, runs]).user(agent.user());
            kind.clients.push(ssh.env("SSH_AUTH_SOCK", agent.socket()).spawn().unwrap());
        }
        wait_until(SOON, "the sessions", || rows(world, server).len() >= before + round * PEOPLE).unwrap();
    }
    kind
}

fn rows(world: &World, server: &str) -> Vec<Value> {
    let printed = world.host(server).run(["ussh-hostd", "sessions", "--json"]).unwrap().ok().unwrap().stdout;
    serde_json::from_str(&printed).unwrap()
}

fn serial_of(row: &Value) -> Option<u64> {
    row["certificate"]["serial"].as_str()?.parse().ok()
}

/// The processes that sshd keeps for these certificates.
fn pids(world: &World, server: &str, serials: &[u64]) -> Vec<u64> {
    rows(world, server)
        .iter()
        .filter(|row| serial_of(row).is_some_and(|serial| serials.contains(&serial)))
        .map(|row| row["pid"].as_u64().unwrap())
        .collect()
}

fn watch(world: &World, server: &str, kind: &Kind) -> Watcher {
    let of_all = pids(world, server, &kind.serials);
    assert_eq!(of_all.len(), sessions());
    let watcher = world.watch_ends(server, &of_all, SOON).unwrap();
    // The monitor, its child, the shell and both of its programs.
    assert!(watcher.processes() >= 5 * sessions(), "{watcher:?}");
    watcher
}

/// How long after its own moment (seconds since the epoch) and its grace each was gone; ascending. None was before its moment.
fn after(watcher: &Watcher, due: impl Fn(u64) -> (f64, Duration)) -> Vec<Duration> {
    let ends = watcher.ends(SOON * 5).unwrap();
    assert_eq!(ends.len(), sessions(), "{ends:?}");
    let late = |(pid, at): (&u64, &f64)| {
        let (moment, grace) = due(*pid);
        assert!(*at >= moment, "{pid} ended {} s early: {ends:?}", moment - at);
        Duration::from_secs_f64(at - moment).saturating_sub(grace)
    };
    let mut after: Vec<Duration> = ends.iter().map(late).collect();
    after.sort();
    after
}

#[test]
fn sessions_end_on_time_and_at_once_when_they_are_revoked_and_nobody_elses_are_touched() {
    let _watch = WORLD.lab().watch();
    if is_soak() {
        SERVERS.iter().for_each(|server| ends_are_on_time(&WORLD, server));
    } else {
        std::thread::scope(|scope| {
            SERVERS.map(|server| scope.spawn(move || ends_are_on_time(&WORLD, server))).map(|one| one.join().unwrap())
        });
    }
}

fn ends_are_on_time(world: &'static World, server: &str) {
    let host = world.host(server);
    host.write_file("/etc/ussh/hostd.toml", 0o644, HOSTD).unwrap();
    host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap().wait_for_output("Watching ", SOON).unwrap();
    host.stop_service("sshd").unwrap();
    host.start_sshd(&format!("{SSHD_CONFIG}{SSHD_WITH_CERTIFICATES}MaxStartups 1000\n")).unwrap();
    let people: Vec<String> = (0..PEOPLE).map(|_| world.somebody().unwrap()).collect();

    let others = open(world, server, &people, "-5m:+1h");
    let revoked = open(world, server, &people, "-5m:+1h");
    let ending = open(world, server, &people, &format!("-5m:+{}s", 10 + sessions() / 2));
    let rows = rows(world, server);
    let end_of = |serial: u64| {
        let row = rows.iter().find(|row| serial_of(row) == Some(serial)).unwrap();
        row["certificate"]["valid_before"].as_u64().unwrap() as f64
    };
    // Certificates are made one after the other: sessions end in the order of their people, a second apart at most.
    let grace = [Duration::ZERO, GRACE].into_iter().cycle();
    let ends: BTreeMap<u64, (f64, Duration)> =
        ending.serials.iter().zip(grace).map(|(serial, grace)| (*serial, (end_of(*serial), grace))).collect();
    world.host("laptop").script(LAPTOP_LAST).unwrap();
    let (watch_ending, watch_revoked) = (watch(world, server, &ending), watch(world, server, &revoked));
    let before = pids(world, server, &others.serials);

    let by_end: BTreeMap<u64, (f64, Duration)> =
        rows.iter().filter_map(|row| Some((row["pid"].as_u64()?, *ends.get(&serial_of(row)?)?))).collect();
    let late = after(&watch_ending, |pid| by_end[&pid]);
    let (median, worst) = (late[late.len() / 2], *late.last().unwrap());
    println!(
        "{server}: {} sessions, from the certificate's end to the last process gone: median {median:?}, worst {worst:?}",
        late.len()
    );
    assert!(median <= MEDIAN && worst <= WORST, "{late:?}");

    for (number, certificate) in revoked.certificates.iter().enumerate() {
        host.write_file(&format!("/srv/revoked/{number}.pub"), 0o644, certificate.public()).unwrap();
    }
    let krl = "cp /etc/ssh/revoked_keys /srv/krl && ssh-keygen -q -kuf /srv/krl /srv/revoked/*.pub && cp /srv/krl /etc/ssh/new && date +%s.%N && mv /etc/ssh/new /etc/ssh/revoked_keys";
    let at: f64 = host.script(krl).unwrap().stdout.trim().parse().unwrap();
    let after = after(&watch_revoked, |_| (at, Duration::ZERO));
    let worst = *after.last().unwrap();
    println!(
        "{server}: {} sessions, from the list in its place to the last process gone: worst {worst:?}",
        after.len()
    );
    assert!(worst <= REVOKED, "{after:?}");

    assert_eq!(pids(world, server, &others.serials), before, "nobody else's");
    assert!(others.clients.iter().all(|client| client.status().unwrap().is_none()));
    let alive = host.script("pgrep -c -x -f 'sleep 4714'; pgrep -c -x -f 'sleep 4715'").unwrap().stdout;
    assert_eq!(alive, format!("{0}\n{0}\n", sessions()), "theirs, and no others");
    for client in ending.clients.iter().chain(&revoked.clients) {
        assert_eq!(client.wait(SOON).unwrap().status.code(), 255);
    }
}
