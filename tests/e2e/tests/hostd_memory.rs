//! ussh-hostd's memory: its children are users for a connect() each, several at a time, and none of these users may get at it by them; and a thousand sessions take little of it, and none of
//! the processor's time while nothing happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::lab::{rounds, wait_for};
use ussh_e2e::{Forgery, World, WorldPlan};

const HOSTD: &str = "warn_before_seconds = 3\nlook_before_seconds = 4\nagent_timeout_seconds = 2\ngrace_seconds = 4\n\n[sync]\nsource = \"file:/srv/ussh-feed\"\n";
/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);

/// Puts listeners with full queues in the place of the forwarded agents, so that the daemon's looks hang; lets one look after the other end, and tries to open the memory of all that hang.
const ATTACK: &str = r##"
use Socket; use Fcntl; $| = 1;
sub full { my ($path) = @_;
    rename $path, "$path.moved" or die "rename: $!";
    socket(my $l, AF_UNIX, SOCK_STREAM, 0); bind($l, pack_sockaddr_un($path)) or die "bind: $!"; listen($l, 0);
    for (;;) {
        socket(my $c, AF_UNIX, SOCK_STREAM, 0); fcntl($c, F_SETFL, O_NONBLOCK);
        connect($c, pack_sockaddr_un($path)) or return $l;
        push @keep, $c;
    }
}
@listeners = map { full($_) } @ARGV;
sub comm { open(my $f, "<", "/proc/$_[0]/comm") or return ""; my $c = <$f>; chomp $c; $c }
($hostd) = grep { comm($_) eq "ussh-hostd" && (stat "/proc/$_")[4] == 0 } map { m{(\d+)$} } glob "/proc/[0-9]*";
sub children { grep { open(my $f, "<", "/proc/$_/status"); my $s = join "", <$f>; $s =~ /^PPid:\s+$hostd$/m && $s =~ /^Uid:\s+$<\s/m } map { m{(\d+)$} } glob "/proc/[0-9]*" }
my ($opened, $tries, $most, $end) = (0, 0, 0, time + 25);
while (time < $end && ($most < 2 || @listeners || children())) {
    my @now = children();
    $most = @now if @now > $most;
    for (@now) { $tries++; open(my $m, "+<", "/proc/$_/mem") and $opened++ }
    if (@now >= 2 && @listeners && $tries > 200) { accept(my $c, shift @listeners); push @keep, $c; $tries = 0 }
    last if $most >= 2 && !@now;
}
print "children at a time: $most, memory opened: $opened\n";
"##;

/// As packaged, but for the feed.
const IDLE: &str = "[sync]\nsource = \"file:/srv/ussh-feed\"\n";
/// How many sessions cost how little, in KiB, without the program and its libraries: as installed, those take less than 4 MiB (`make bench` has all of it), and more as they are tried here.
const SESSIONS: usize = 1000;
const MOST: u64 = 6 * 1024;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    WorldPlan::new("hostd-memory").without_servers().server("web1").server("web2").people(1, "admins").start().unwrap()
});

#[test]
fn a_thousand_sessions_cost_six_mebibytes_at_most_and_no_wake_up_while_nothing_happens() {
    let _watch = WORLD.lab().watch();
    let host = WORLD.host("web2");
    host.stop_service("ussh-hostd").unwrap();
    host.write_file("/etc/ussh/hostd.toml", 0o644, IDLE).unwrap();
    let _crowd = WORLD.stand_in_sessions("web2", "alice", SESSIONS).unwrap();

    let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
    daemon.wait_for_output(&format!("Watching {SESSIONS} sessions in "), SOON).unwrap();
    // The next scan that nothing has asked for comes a minute after the first.
    let seconds = rounds(5, 30).to_string();
    let pid = daemon.pid().to_string();
    let strace = ["timeout", "-s", "INT", &seconds, "strace", "-f", "-qq", "-o", "/srv/trace", "-p", &pid];
    host.command(strace).timeout(SOON * 2).run().unwrap();
    let trace = host.read_file("/srv/trace").unwrap();
    let waits = trace.lines().filter(|line| line.contains("ppoll(")).count();
    assert!(
        (1..=2).contains(&waits),
        "{waits} times it went to sleep in {seconds} s, of which the first is strace's: {trace}"
    );
    let status = host.read_file(&format!("/proc/{pid}/status")).unwrap();
    let kib = |key: &str| -> u64 {
        let value = status.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB"));
        value.unwrap().parse().unwrap()
    };
    let (resident, program) = (kib("VmRSS:"), kib("RssFile:"));
    println!(
        "{SESSIONS} sessions: {resident} KiB resident, {program} of them its program and libraries; {waits} waits begun in {seconds} s"
    );
    assert!(resident - program <= MOST, "{resident} KiB, {program} of them its program and libraries");
}

#[test]
fn users_whom_its_children_are_cannot_open_their_memory_which_is_the_daemons() {
    let world = &*WORLD;
    let web1 = world.host("web1");
    web1.write_file("/etc/ussh/hostd.toml", 0o644, HOSTD).unwrap();
    web1.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap().wait_for_output("Watching ", SOON).unwrap();
    web1.write_file("/srv/attack.pl", 0o755, ATTACK).unwrap();

    let agent = world.new_agent(&world.somebody().unwrap()).unwrap();
    world.forge(&Forgery::of(agent.user()).validity("-5m:+15s")).unwrap().add_to(&agent).unwrap();
    let shells: Vec<_> = (0..4).map(|_| agent.shell("ssh -A web1").unwrap()).collect();
    let socket = |text: String| text.lines().map(str::trim).find(|line| line.starts_with('/')).unwrap().to_owned();
    let sockets: Vec<String> = shells.iter().map(|shell| socket(shell.run("echo $SSH_AUTH_SOCK").unwrap())).collect();
    let attack = format!("setsid perl /srv/attack.pl {} > /tmp/attack.log 2>&1 &", sockets.join(" "));
    shells[0].run(&attack).unwrap();
    let said = wait_for(SOON, "the attack to end", || {
        web1.read_file("/tmp/attack.log")
            .ok()
            .filter(|text| text.contains("memory opened") || text.contains(" at /srv"))
    })
    .unwrap();
    let (most, opened) =
        said.trim().strip_prefix("children at a time: ").unwrap().split_once(", memory opened: ").unwrap();
    assert!(most.parse::<u32>().unwrap() >= 2, "looks hung side by side: {said}");
    assert_eq!(opened, "0", "{said}");
}
