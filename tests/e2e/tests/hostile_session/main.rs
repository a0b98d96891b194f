//! Hostile users in their sessions: each of those ends when its certificate does all the same, with all that the manual says, and nobody else's does, nor another one of theirs. The table is printed.
//!
//! `tricks` is what they do, `case` one of them on one server: `plain` (OpenSSH 10.0), `whole` (OpenSSH 9.2, with `kill_user_processes`) and `frost` (OpenSSH 10.0, `at_end = "freeze"`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod case;
mod tricks;

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime};

use ussh_e2e::lab::{SSHD_CONFIG, trixie_root, wait_until};
use ussh_e2e::{Forged, Forgery, SSHD_WITH_CERTIFICATES, World, WorldPlan, capabilities_of_hostd, confined};

use crate::case::{Case, Seen};
use crate::tricks::{FROZEN_TRICKS, TRICKS, Trick};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(40);
/// Those of which the certificate runs out are in place by then, on a machine that is busy.
const ALL_OPEN: Duration = Duration::from_secs(25);
/// After the end of the certificates: the last word, the grace, SIGKILL to sshd's child and to itself, and as much again on a machine that is busy.
const LATE: Duration = Duration::from_secs(5);
/// How many are at work at opening sessions.
const HANDS: usize = 4;

const HOSTD: &str = "\
warn_before_seconds = 5
look_before_seconds = 5
agent_timeout_seconds = 2
grace_seconds = 1
MORE

[sync]
source = \"file:/srv/ussh-feed\"
every_seconds = 86400
";
const SERVERS: [(&str, &str); 3] =
    [("plain", ""), ("whole", "kill_user_processes = true"), ("frost", "at_end = \"freeze\"")];

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("hostile-session").without_servers().people(80, "admins").server("whole");
    let trixie = trixie_root().unwrap();
    let world = plan.server_on("plain", &trixie).server_on("frost", &trixie).start().unwrap();
    for (server, more) in SERVERS {
        let host = world.host(server);
        host.write_file("/etc/ussh/hostd.toml", 0o644, HOSTD.replace("MORE", more)).unwrap();
        host.stop_service("ussh-hostd").unwrap();
        // With no more than the packaged unit leaves it.
        let hostd = host.command(confined(&["ussh-hostd", "run"])).service("ussh-hostd").unwrap();
        hostd.wait_for_output("Watching ", SOON).unwrap();
        host.stop_service("sshd").unwrap();
        let more = "PermitUserEnvironment yes\nMaxStartups 100\n";
        host.start_sshd(&format!("{SSHD_CONFIG}{SSHD_WITH_CERTIFICATES}{more}")).unwrap();
        // One that can be filled up.
        host.script("mount -t tmpfs -o size=4m,nr_inodes=2000,mode=1777 none /tmp").unwrap();
    }
    world
        .host("laptop")
        .write_file("/etc/ssh/ssh_config.d/ussh.conf", 0o644, "Host *\n  StrictHostKeyChecking yes\n")
        .unwrap();
    world
});

/// The tricks are in place on their servers, in sessions that live.
fn open_all(tricks: impl Iterator<Item = &'static Trick> + Send, other: &Forged, end: Option<SystemTime>) -> Vec<Case> {
    let to_do = tricks.flat_map(|trick| trick.servers.iter().map(move |server| (trick, *server)));
    let (to_do, done) = (Mutex::new(to_do), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                loop {
                    let next = to_do.lock().unwrap().next();
                    let Some((trick, server)) = next else { return };
                    let case = Case::open(trick, server, other, end);
                    done.lock().unwrap().push(case);
                }
            });
        }
    });
    let cases = done.into_inner().unwrap();
    let seen = seen_by(&cases);
    for case in &cases {
        assert_eq!(case.state(&seen[case.server]), Some("live"), "{} on {}", case.trick.what, case.server);
    }
    cases
}

fn revoke<'a>(server: &str, cases: impl Iterator<Item = &'a Case>) {
    let host = WORLD.host(server);
    for (number, case) in cases.enumerate() {
        host.write_file(&format!("/srv/revoked/{number}.pub"), 0o644, case.certificate.public()).unwrap();
    }
    host.script("cp /etc/ssh/revoked_keys /srv/krl && ssh-keygen -q -kuf /srv/krl /srv/revoked/*.pub && cp /srv/krl /etc/ssh/new && mv /etc/ssh/new /etc/ssh/revoked_keys").unwrap();
}

/// A good certificate of somebody else's.
fn somebody_elses() -> Forged {
    WORLD.forge(&Forgery::of(&WORLD.somebody().unwrap())).unwrap()
}

fn seen_by(cases: &[Case]) -> BTreeMap<&'static str, Seen> {
    let mut seen = BTreeMap::new();
    for case in cases {
        seen.entry(case.server).or_insert_with(|| Seen::on(case.server));
    }
    seen
}

/// Waits until nothing is wrong with any of them, and says how long that took after `end`, when the last of them was to end.
fn all_end(cases: &[Case], end: SystemTime) {
    let mut ended: Vec<Option<Duration>> = vec![None; cases.len()];
    loop {
        let now = SystemTime::now();
        let seen = seen_by(cases);
        let troubles: Vec<Option<String>> =
            cases.iter().map(|case| case.trouble(&seen[case.server], case.server == "plain")).collect();
        for (at, trouble) in ended.iter_mut().zip(&troubles) {
            *at = if trouble.is_none() { at.or(now.duration_since(end).ok()) } else { None };
        }
        if ended.iter().all(Option::is_some) {
            break;
        }
        if now > end + LATE {
            for (case, trouble) in cases.iter().zip(&troubles).filter(|(_, trouble)| trouble.is_some()) {
                let log = WORLD.logged_since(case.server, 0).unwrap();
                let own: Vec<&str> = log.lines().filter(|l| l.contains(&format!(" user {} ", case.user()))).collect();
                println!("{} on {}: {}\n{own:#?}", case.trick.what, case.server, trouble.as_ref().unwrap());
            }
            panic!("{} of {} tricks worked", troubles.iter().flatten().count(), cases.len());
        }
    }
    for (case, at) in cases.iter().zip(ended) {
        let (what, seen, took) = (case.trick.what, at.unwrap().as_secs_f64(), case.took());
        println!("{what:90} {:6} ended in {took:5.3?}, all was gone when looked at after {seen:.1} s", case.server);
    }
}

#[test]
fn the_unit_leaves_the_daemon_what_the_manual_names_and_the_daemon_of_these_tests_has_no_more() {
    let manual = include_str!("../../../../docs/privsep.md");
    let rows = manual.lines().skip_while(|line| !line.starts_with("| capability | for what |")).skip(2);
    let named: Vec<&str> = rows.map_while(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(named, capabilities_of_hostd());
    let pid = WORLD.host("plain").service("ussh-hostd").unwrap().pid();
    let status = WORLD
        .host("plain")
        .script(&format!("grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/{pid}/status"))
        .unwrap()
        .stdout;
    // linux/capability.h: CAP_DAC_OVERRIDE 1, CAP_KILL 5, CAP_SETGID 6, CAP_SETUID 7, CAP_SYS_PTRACE 19.
    let set = [1, 5, 6, 7, 19].iter().fold(0_u64, |set, bit| set | 1 << bit);
    assert_eq!(status, format!("CapEff:\t{set:016x}\nCapBnd:\t{set:016x}\nNoNewPrivs:\t1\n"));
}

#[test]
fn whatever_a_hostile_user_does_his_session_ends_on_time_and_nobody_elses_does() {
    let _watch = WORLD.lab().watch();
    let (other, end) = (somebody_elses(), SystemTime::now() + ALL_OPEN);
    let mut cases = open_all(TRICKS.iter().filter(|trick| trick.runs_out), &other, Some(end));
    cases.extend(open_all(TRICKS.iter().filter(|trick| !trick.runs_out), &other, None));
    for server in ["plain", "whole"] {
        WORLD.host(server).write_file("/srv/all-open", 0o644, "").unwrap();
    }
    wait_until(SOON, "all to have begun", || cases.iter().all(Case::has_begun)).unwrap();
    let fills = cases.iter().find(|case| case.trick.what.starts_with("fills")).unwrap();
    wait_until(SOON, "/tmp to be full", || fills.has_made("filled")).unwrap();
    for case in &cases {
        assert_eq!(case.could_write_to(), "", "{} on {}", case.trick.what, case.server);
    }
    for server in ["plain", "whole"] {
        revoke(server, cases.iter().filter(|case| case.server == server && !case.trick.runs_out));
    }
    all_end(&cases, SystemTime::now().max(end));
}

#[test]
fn whatever_a_hostile_user_does_a_frozen_session_stands_still_and_ends_when_it_is_revoked() {
    let _watch = WORLD.lab().watch();
    let (other, end) = (somebody_elses(), SystemTime::now() + ALL_OPEN);
    let cases = open_all(FROZEN_TRICKS.iter(), &other, Some(end));
    wait_until(ALL_OPEN, "the end of the certificates", || SystemTime::now() >= end).unwrap();
    let still = || {
        let seen = Seen::on("frost");
        cases.iter().all(|case| case.state(&seen) == Some("frozen"))
    };
    wait_until(LATE, "all to be frozen", still).unwrap();
    let pulses = || cases.iter().map(Case::pulse).collect::<Vec<u64>>();
    let pass = |time| {
        let until = Instant::now() + time;
        wait_until(SOON, "time to pass", || Instant::now() > until).unwrap();
    };
    // A session is called frozen as soon as it is told to stand still.
    let mut before = pulses();
    let stands = || {
        pass(Duration::from_millis(100));
        let last = std::mem::replace(&mut before, pulses());
        last == before
    };
    wait_until(LATE, "all to stand still", stands).unwrap();
    assert!(before.iter().all(|pulse| *pulse > 0), "{before:?}");
    pass(Duration::from_secs(1));
    assert_eq!(pulses(), before, "{:?}", cases.iter().map(|case| case.trick.what).collect::<Vec<_>>());

    revoke("frost", cases.iter());
    all_end(&cases, SystemTime::now());
}
