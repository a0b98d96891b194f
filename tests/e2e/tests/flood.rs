//! Two thousand connections from one address that never log in, while others do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::{Duration, Instant};

use ussh_e2e::lab::wait_until;
use ussh_e2e::{World, WorldPlan};

/// Held or asked for at every moment.
const FLOOD: usize = 2000;
/// max_connections_per_source.
const SHARE: usize = 60;
/// Who logs in meanwhile, each from an address of their own.
const PEOPLE: usize = 20;
/// Longest time for one of their logins.
const LOGIN: Duration = Duration::from_secs(2);
/// Or so many times what the slowest takes without a flood, on a machine that is busy with other things.
const TIMES: u32 = 4;
/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(60);

/// Opens FLOOD connections and a new one for each that is closed; every third one says hello, and nothing more.
const FLOODER: &str = r#"
use strict; use Socket; use IO::Select; use Time::HiRes qw(sleep);
my ($to, $count) = @ARGV;
my $address = sockaddr_in(22, inet_aton($to));
my ($select, $made) = (IO::Select->new, 0);
$| = 1; $SIG{PIPE} = 'IGNORE';
while (1) {
    for (1 .. 200) {
        last if $select->count >= $count;
        socket(my $socket, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
        connect($socket, $address) or next;
        syswrite($socket, "SSH-2.0-flood\r\n") if $made % 3 == 0;
        $select->add($socket);
        $made++;
        print "flooding\n" if $made == $count;
    }
    for my $socket ($select->can_read(0.02)) {
        my $read = sysread($socket, my $buffer, 4096);
        if (!$read) { $select->remove($socket); close $socket; }
    }
}
"#;

#[test]
fn two_thousand_connections_that_never_log_in_keep_nobody_else_waiting() {
    let world = WorldPlan::new("flood").without_servers().bare("mallory").people(PEOPLE, "admins").with_penalties();
    let world = world.start().unwrap();
    let _watch = world.lab().watch();
    let (ca, laptop, mallory) = (world.host("ca"), world.host("laptop"), world.host("mallory"));
    let [a, b, c, _] = ca.address().octets();
    let addresses: Vec<String> = (0..PEOPLE).map(|n| format!("{a}.{b}.{c}.{}", 100 + n)).collect();
    for address in &addresses {
        laptop.script(&format!("dev=$(ip -o -4 route get {} | sed 's/.* dev \\([^ ]*\\).*/\\1/'); ip address add {address}/24 dev $dev", ca.address())).unwrap();
    }
    let people: Vec<String> = (0..PEOPLE).map(|_| world.somebody().unwrap()).collect();
    let login = |n: usize| {
        let began = Instant::now();
        let script = format!("exec ssh -b {} -A ca", addresses[n]);
        let ended = world.unattended(&people[n], "secret", &script).unwrap().wait(SOON).unwrap();
        let ended = ended.ok().unwrap();
        assert!(ended.stderr.contains(&format!("for {} is in your agent", people[n])), "{ended}");
        began.elapsed()
    };
    let unloaded = (0..3).map(login).max().unwrap();

    mallory.write_file("/srv/flood.pl", 0o755, FLOODER).unwrap();
    let flood = format!("ulimit -n 4096; exec perl /srv/flood.pl {} {FLOOD}", ca.address());
    let flood = mallory.spawn_as("root", ["bash", "-c", &flood]).unwrap();
    flood.wait_for_output("flooding", SOON).unwrap();

    let times: Vec<Duration> = (0..PEOPLE).map(login).collect();
    let slowest = times.iter().max().copied().unwrap();
    let most = LOGIN.max(unloaded * TIMES);
    println!(
        "{PEOPLE} logins in the flood: the slowest {slowest:?}; without it: {unloaded:?}; {}",
        world.usshca("status").unwrap().stdout
    );
    assert!(slowest <= most, "{slowest:?} of at most {most:?}");
    assert!(world.processes("ca", "usshca-front").unwrap().len() <= SHARE + 1);
    assert_eq!(flood.status().unwrap(), None, "the flood goes on");

    // Its connections end, and it pays for them: from then on it is not even counted any more.
    wait_until(SOON, "a penalty", || status(&world)["turned_away"]["penalty"].as_u64().unwrap() > 0).unwrap();
    drop(flood);
    let told = mallory.run(["ssh", "-o", "StrictHostKeyChecking=no", "ca"]).unwrap().refused().unwrap();
    assert!(told.stderr.contains("Not allowed at this time"), "{told}");
    wait_until(SOON, "its fronts to be gone", || world.processes("ca", "usshca-front").unwrap().is_empty()).unwrap();
    let status = status(&world);
    assert_eq!(status["attempts_passed"].as_u64(), Some((PEOPLE + 3) as u64), "{status}");
    assert!(
        status["turned_away"]["max_connections_per_source"].as_u64().unwrap() >= (FLOOD - SHARE) as u64,
        "{status}"
    );
    assert_eq!(status["turned_away"]["max_startups"].as_u64(), Some(0), "{status}");
    login(0);
}

fn status(world: &World) -> serde_json::Value {
    serde_json::from_str(&world.usshca("status --json").unwrap().stdout).unwrap()
}
