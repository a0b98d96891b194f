//! ussh-hostd's children are users for a connect() each, several at a time. None of these users may get at the daemon's memory by them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use ussh_e2e::lab::wait_for;
use ussh_e2e::{Forgery, WorldPlan};

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

#[test]
fn users_whom_its_children_are_cannot_open_their_memory_which_is_the_daemons() {
    let world = WorldPlan::new("hostd-memory").without_servers().server("web1").people(1, "admins").start().unwrap();
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
