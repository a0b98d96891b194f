//! Ends are on time: from a certificate's end, or from a list that revokes it, to the last process of its sessions gone; and nobody else's sessions are touched.
//!
//! Who measures is a program on the server, beside ussh-hostd: it holds each process by a pidfd and notes when it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{Process, SSHD_CONFIG, wait_until};
use ussh_e2e::{Forged, Forgery, PersonAgent, SSHD_WITH_CERTIFICATES, World, WorldPlan};

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

/// For each line `NAME PID` all that descends from the process; says `NAME SECONDS` when the last of it has ended.
const WATCHER: &str = r#"
use Time::HiRes qw(time); $| = 1; my (%fd, %left, %parent);
for (glob '/proc/[0-9]*/stat') { open(my $f, '<', $_) or next; my $line = <$f> // next; /(\d+)/; my $pid = $1; $line =~ /.*\) \S (\d+)/s and $parent{$pid} = $1 }
my %name; while (<STDIN>) { my ($name, $pid) = split; $name{$pid} = $name }
for my $pid (keys %parent) { my $p = $pid; $p = $parent{$p} while $p && !$name{$p}; next unless $p; my $name = $name{$p};
  my $fd = syscall(434, $pid + 0, 0); next if $fd < 0; $fd{$fd} = $name; $left{$name}++ }
printf "watching %d processes of %d\n", scalar keys %fd, scalar keys %left;
while (%fd) { my $set = ''; vec($set, $_, 1) = 1 for keys %fd; select(my $ready = $set, undef, undef, undef); my $now = time;
  for my $fd (grep { vec($ready, $_, 1) } keys %fd) { my $name = delete $fd{$fd}; printf "%s %.3f\n", $name, $now unless --$left{$name} } }
"#;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    WorldPlan::new("on-time").without_servers().server("web1").people(PEOPLE, "admins").start().unwrap()
});

/// How many sessions of each kind.
fn sessions() -> usize {
    if std::env::var_os("USSH_SOAK").is_some() { 200 } else { 20 }
}

/// Sessions of one kind.
struct Kind {
    /// Of their certificates.
    serials: Vec<u64>,
    certificates: Vec<Forged>,
    _agents: Vec<PersonAgent<'static>>,
    clients: Vec<Process>,
}

fn open(world: &'static World, people: &[String], validity: &str) -> Kind {
    let before = rows(world).len();
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
            let ssh = laptop.command(["ssh", "-A", "web1", runs]).user(agent.user());
            kind.clients.push(ssh.env("SSH_AUTH_SOCK", agent.socket()).spawn().unwrap());
        }
        wait_until(SOON, "the sessions", || rows(world).len() >= before + round * PEOPLE).unwrap();
    }
    kind
}

fn rows(world: &World) -> Vec<Value> {
    let printed = world.host("web1").run(["ussh-hostd", "sessions", "--json"]).unwrap().ok().unwrap().stdout;
    serde_json::from_str(&printed).unwrap()
}

fn serial_of(row: &Value) -> Option<u64> {
    row["certificate"]["serial"].as_str()?.parse().ok()
}

/// The processes that sshd keeps for these certificates.
fn pids(world: &World, serials: &[u64]) -> Vec<u64> {
    rows(world)
        .iter()
        .filter(|row| serial_of(row).is_some_and(|serial| serials.contains(&serial)))
        .map(|row| row["pid"].as_u64().unwrap())
        .collect()
}

fn watch(world: &World, kind: &Kind) -> Process {
    let of_all = pids(world, &kind.serials);
    assert_eq!(of_all.len(), sessions());
    let lines: String = of_all.iter().map(|pid| format!("s{pid} {pid}\n")).collect();
    let watcher = world.host("web1").command(["perl", "-e", WATCHER]).stdin(lines).spawn().unwrap();
    watcher.wait_for_output(&format!(" of {}\n", sessions()), SOON).unwrap();
    // The monitor, its child, the shell and both of its programs.
    let many: usize = watcher.stdout().split(' ').nth(1).unwrap().parse().unwrap();
    assert!(many >= 5 * sessions(), "{}", watcher.stdout());
    watcher
}

/// When each of them was gone, after `since` (seconds since the epoch); ascending. None was before.
fn gone(watcher: &Process, since: f64) -> Vec<Duration> {
    let said = watcher.wait(SOON).unwrap().ok().unwrap().stdout;
    let ends: BTreeMap<&str, f64> = said
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(' '))
        .map(|(name, at)| (name, at.parse().unwrap()))
        .collect();
    assert_eq!(ends.len(), sessions(), "{said}");
    let mut after: Vec<Duration> = ends
        .values()
        .map(|at| {
            assert!(*at >= since, "ended {} s early: {said}", since - at);
            Duration::from_secs_f64(at - since)
        })
        .collect();
    after.sort();
    after
}

#[test]
fn sessions_end_on_time_and_at_once_when_they_are_revoked_and_nobody_elses_are_touched() {
    let world: &'static World = &WORLD;
    let web1 = world.host("web1");
    web1.write_file("/etc/ussh/hostd.toml", 0o644, HOSTD).unwrap();
    web1.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap().wait_for_output("Watching ", SOON).unwrap();
    web1.stop_service("sshd").unwrap();
    web1.start_sshd(&format!("{SSHD_CONFIG}{SSHD_WITH_CERTIFICATES}MaxStartups 1000\n")).unwrap();
    let people: Vec<String> = (0..PEOPLE).map(|_| world.somebody().unwrap()).collect();

    let others = open(world, &people, "-5m:+1h");
    let revoked = open(world, &people, "-5m:+1h");
    let ending = open(world, &people, &format!("-5m:+{}s", 10 + sessions()));
    let rows = rows(world);
    let end_of = |serial: u64| {
        let row = rows.iter().find(|row| serial_of(row) == Some(serial)).unwrap();
        row["certificate"]["valid_before"].as_u64().unwrap()
    };
    // Certificates are made one after the other: sessions end in the order of their people, a second apart at most.
    let grace = [Duration::ZERO, GRACE].into_iter().cycle();
    let ends: BTreeMap<u64, (u64, Duration)> =
        ending.serials.iter().zip(grace).map(|(serial, grace)| (*serial, (end_of(*serial), grace))).collect();
    let (watch_ending, watch_revoked) = (watch(world, &ending), watch(world, &revoked));
    let before = pids(world, &others.serials);

    let by_end: BTreeMap<String, (u64, Duration)> =
        rows.iter().filter_map(|row| Some((format!("s{}", row["pid"]), *ends.get(&serial_of(row)?)?))).collect();
    let said = watch_ending.wait(SOON * 5).unwrap().ok().unwrap().stdout;
    let mut late: Vec<Duration> = said
        .lines()
        .skip(1)
        .map(|line| {
            let (name, at) = line.split_once(' ').unwrap();
            let (at, (end, grace)): (f64, _) = (at.parse().unwrap(), by_end[name]);
            assert!(at >= end as f64, "{name} ended {} s early", end as f64 - at);
            Duration::from_secs_f64(at - end as f64).saturating_sub(grace)
        })
        .collect();
    late.sort();
    assert_eq!(late.len(), sessions());
    let (median, worst) = (late[late.len() / 2], *late.last().unwrap());
    println!(
        "{} sessions, from the certificate's end to the last process gone: median {median:?}, worst {worst:?}",
        late.len()
    );
    assert!(median <= MEDIAN && worst <= WORST, "{late:?}");

    for (number, certificate) in revoked.certificates.iter().enumerate() {
        web1.write_file(&format!("/srv/revoked/{number}.pub"), 0o644, certificate.public()).unwrap();
    }
    let krl = "cp /etc/ssh/revoked_keys /srv/krl && ssh-keygen -q -kuf /srv/krl /srv/revoked/*.pub && cp /srv/krl /etc/ssh/new && date +%s.%N && mv /etc/ssh/new /etc/ssh/revoked_keys";
    let at: f64 = web1.script(krl).unwrap().stdout.trim().parse().unwrap();
    let after = gone(&watch_revoked, at);
    let worst = *after.last().unwrap();
    println!("{} sessions, from the list in its place to the last process gone: worst {worst:?}", after.len());
    assert!(worst <= REVOKED, "{after:?}");

    assert_eq!(pids(world, &others.serials), before, "nobody else's");
    assert!(others.clients.iter().all(|client| client.status().unwrap().is_none()));
    let alive = web1.script("pgrep -c -x -f 'sleep 4714'; pgrep -c -x -f 'sleep 4715'").unwrap().stdout;
    assert_eq!(alive, format!("{0}\n{0}\n", sessions()), "theirs, and no others");
    for client in ending.clients.iter().chain(&revoked.clients) {
        assert_eq!(client.wait(SOON).unwrap().status.code(), 255);
    }
}
