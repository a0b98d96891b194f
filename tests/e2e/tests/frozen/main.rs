//! `at_end = "freeze"` on real hosts, OpenSSH 9.2 and 10.0: a session whose certificate has run out stands still, all of it, and goes on where it was when its agent has a newer one.
//!
//! `seat` is somebody with a session, `count` is what runs in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod count;
mod seat;

use std::time::{Duration, Instant, SystemTime};

use ussh_e2e::WorldPlan;
use ussh_e2e::lab::wait_until;

use crate::count::{NAMES, counted, since_epoch, stops};
use crate::seat::{GOES_ON, HOSTD, LONG, SERVERS, SHORT, SOON, STANDS_STILL, Seat, WORLD, configure, start_hostd};

/// How soon after the end of the certificate everything must stand still.
const IN_TIME: Duration = Duration::from_secs(1);

/// How many sessions of each server are frozen and thawed, and how often each.
fn sessions_and_cycles() -> (usize, usize) {
    if std::env::var_os("USSH_SOAK").is_some() { (5, 20) } else { (1, 2) }
}

#[test]
fn all_that_a_session_runs_stands_still_within_a_second_and_goes_on_with_a_new_certificate_and_loses_nothing() {
    let _watch = WORLD.lab().watch();
    let (sessions, cycles) = sessions_and_cycles();
    std::thread::scope(|scope| {
        let all = SERVERS.iter().flat_map(|server| (0..sessions).map(move |_| server));
        let begun: Vec<_> = all.map(|server| scope.spawn(move || freeze_and_thaw(server, cycles))).collect();
        let latest = begun.into_iter().map(|one| one.join().unwrap()).max().unwrap();
        println!(
            "{sessions} sessions of each of {} servers, each frozen {} times: the last program of one stopped {latest:?} after the end at the latest",
            SERVERS.len(),
            cycles + 1
        );
    });
}

/// How long after an end the last one stopped, at the latest.
fn freeze_and_thaw(server: &str, cycles: usize) -> Duration {
    let seat = Seat::take(&WORLD, server, SHORT, "ssh -A");
    count::start(&seat);
    let mut ends = vec![seat.end()];
    for _ in 0..cycles {
        seat.shell.terminal().expect(STANDS_STILL, SOON).unwrap();
        seat.wait_until_frozen();
        ends.push(seat.renew(SHORT));
        seat.shell.terminal().expect(GOES_ON, SOON).unwrap();
        wait_until(SOON, "the session to be live", || seat.state().as_deref() == Some("live")).unwrap();
    }
    seat.shell.terminal().expect(STANDS_STILL, SOON).unwrap();
    seat.wait_until_frozen();
    let stood = NAMES.map(|name| counted(&seat, name).len());
    seat.renew(LONG);
    seat.shell.terminal().expect(GOES_ON, SOON).unwrap();
    wait_until(SOON, "all to go on", || {
        NAMES.iter().zip(stood).all(|(name, stood)| counted(&seat, name).len() > stood + 20)
    })
    .unwrap();

    let mut latest = Duration::ZERO;
    for name in NAMES {
        let stops = stops(&counted(&seat, name), Duration::from_millis(700));
        assert_eq!(stops.len(), ends.len(), "{server}: {name}: {stops:?} {ends:?}");
        for ((from, to), end) in stops.iter().zip(&ends) {
            let end = since_epoch(*end);
            // One count, of 20 ms, begins before the end.
            assert!(
                *from + Duration::from_millis(100) > end,
                "{server}: {name} stopped before its end: {from:?} {end:?}"
            );
            assert!(*from < end + IN_TIME, "{server}: {name} stopped {:?} after its end", *from - end);
            assert!(to > from);
            latest = latest.max(from.saturating_sub(end));
        }
    }
    count::assert_shown(&seat);
    assert_eq!(
        seat.log().iter().filter(|line| line.contains("Freezing session of certificate ID ")).count(),
        ends.len()
    );
    assert_eq!(seat.log().iter().filter(|line| line.contains("Thawed session after ")).count(), ends.len());
    seat.shell.terminal().send("\x03").unwrap();
    WORLD
        .host(server)
        .run(["pkill", "-KILL", "-u", seat.user(), "-f", "^bash (counter|-c count)"])
        .unwrap()
        .ok()
        .unwrap();
    seat.shell.exit().unwrap();
    latest
}

/// Four that make long system calls, again and again: each reads 2 GiB of nothing into the same 2 MiB, after all that anybody else has to do.
const READS: &str = r#"use POSIX; $| = 1; POSIX::nice(19); for (1 .. 3) { last unless fork } my ($preadv, $memfd_create) = @{{x86_64 => [295, 319], aarch64 => [69, 279]}->{(POSIX::uname())[4]}};
my $name = "nothing"; my $fd = syscall $memfd_create, $name, 0; open(my $f, "+<&=$fd") or die $!; truncate($f, 4 << 30) or die $!; my $to = "\1" x (2 << 20);
my $places = pack 'Q*', map { (unpack('Q', pack 'p', $to), length $to) } 1 .. 1023; while (1) { print "reads\n"; syscall($preadv, $fd, $places, 1023, 0, 0) > 0 or die $! }"#;
/// Its first thread ends, and another one goes on.
const HEADLESS: &str = r#"use threads; use POSIX; my $exit = {x86_64 => 60, aarch64 => 93}->{(POSIX::uname())[4]};
threads->create(sub { while (1) { select undef, undef, undef, 0.1 } }); syscall $exit, 0"#;

#[test]
fn nobody_waits_until_another_ones_programs_come_out_of_long_system_calls() {
    const READERS: usize = 10;
    let world = WorldPlan::new("reading").without_servers().server("web1").people(2, "admins").start().unwrap();
    let _watch = world.lab().watch();
    configure(&world, "web1", HOSTD);
    let web1 = world.host("web1");
    let reads = Seat::take(&world, "web1", "-5m:+40s", "ssh -A");
    let first = reads.end();
    web1.write_file_as(reads.user(), &format!("/home/{}/reads", reads.user()), 0o600, READS).unwrap();
    let others: Vec<_> = (1..READERS).map(|_| reads.agent.shell("ssh -A web1").unwrap()).collect();
    let until_next = first.duration_since(SystemTime::now()).unwrap().as_secs() + 2;
    let next = Seat::take(&world, "web1", &format!("-5m:+{until_next}s"), "ssh -A");
    let end = since_epoch(next.end());
    web1.write_file_as(next.user(), &format!("/home/{}/headless", next.user()), 0o600, HEADLESS).unwrap();
    next.shell.run("perl headless &").unwrap();
    count::start(&next);
    for shell in others.iter().chain([&reads.shell]) {
        shell.terminal().send("exec perl reads\n").unwrap();
        shell.terminal().expect("reads\r\nreads\r\n", SOON).unwrap();
    }
    assert!(SystemTime::now() < first && end > since_epoch(first), "in time: {first:?} {end:?}");

    wait_until(2 * SOON, "its end", || since_epoch(SystemTime::now()) > end).unwrap();
    next.wait_until_frozen();
    let watched_twice = Instant::now() + Duration::from_secs(5);
    wait_until(SOON, "time to pass", || Instant::now() > watched_twice).unwrap();
    for name in NAMES {
        let last = counted(&next, name).last().unwrap().at;
        println!("{name} stopped {:?} after its end", last.saturating_sub(end));
        assert!(last < end + IN_TIME, "{name} stopped {:?} after its end", last - end);
    }
    let frozen = reads.log().iter().filter(|line| line.contains("Freezing session of certificate ID ")).count();
    assert_eq!(frozen, READERS);
    assert!(!next.has_logged(" more processes of session: "), "all were found at once: {:?}", next.log());
}

#[test]
fn a_channel_that_is_opened_meanwhile_runs_when_the_session_goes_on_and_not_before() {
    let _watch = WORLD.lab().watch();
    for server in SERVERS {
        let seat = Seat::take(&WORLD, server, SHORT, "ssh -A -M -S ~/master");
        seat.wait_until_frozen();
        let before = seat.in_its_cgroup().len();
        let laptop = WORLD.host("laptop");
        let command = "touch ran; date +%s.%N; cat";
        let more = laptop
            .command(["ssh", "-S", &format!("/home/{}/master", seat.user()), server, command])
            .user(seat.user())
            .stdin("what is sent meanwhile")
            .spawn()
            .unwrap();
        let sftp = laptop
            .command(["sh", "-c", &format!("echo 'ls /etc/hostname' | sftp -o ControlPath=~/master {server}")])
            .user(seat.user())
            .spawn()
            .unwrap();
        wait_until(SOON, "both channels' processes", || seat.in_its_cgroup().len() >= before + 2).unwrap();
        // It is there, and nothing of it has happened, for as long as it is watched.
        let watched = Instant::now() + Duration::from_secs(3);
        let ran = format!("/home/{}/ran", seat.user());
        while Instant::now() < watched {
            assert!(!WORLD.host(server).exists(&ran), "{server}: it ran");
            assert!(more.status().unwrap().is_none() && sftp.status().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(50));
        }
        let thawed = since_epoch(SystemTime::now());
        seat.renew(LONG);
        let output = more.wait(SOON).unwrap();
        assert!(output.status.success(), "{output}");
        let (at, text) = output.stdout.split_once('\n').unwrap();
        assert_eq!(text, "what is sent meanwhile");
        assert!(at.parse::<f64>().unwrap() > thawed.as_secs_f64(), "{server}: {output}");
        assert!(sftp.wait(SOON).unwrap().stdout.contains("/etc/hostname"));
        // And as ever after it.
        let again = seat.agent.sh(&format!("ssh -S ~/master {server} hostname")).unwrap().ok().unwrap();
        assert_eq!(again.stdout.trim(), server);
        seat.shell.exit().unwrap();
    }
}

#[test]
fn a_connection_that_carries_a_forward_or_has_no_agent_ends_instead() {
    let _watch = WORLD.lab().watch();
    for server in SERVERS {
        let forwards = Seat::take(&WORLD, server, SHORT, "ssh -A -R 127.0.0.1:7001:127.0.0.1:22");
        let socket = Seat::take(&WORLD, server, SHORT, "ssh -A -R /tmp/forwarded.sock:127.0.0.1:22");
        let without = Seat::take(&WORLD, server, SHORT, "ssh -a");
        let later = Seat::take(&WORLD, server, SHORT, "ssh -A -M -S ~/master");
        forwards.ends_because(
            "it has run out, is not renewed and cannot be frozen: it has a forwarded port; terminals told: 1",
        );
        socket.ends_because("cannot be frozen: it has a forwarded socket at /tmp/forwarded.sock; ");
        without.ends_because("cannot be frozen: it has no forwarded agent, which alone could thaw it; ");
        // One that begins to carry something while it is frozen.
        later.wait_until_frozen();
        let forward = format!(
            "ssh -S ~/master -O forward -L 7002:127.0.0.1:22 {server}; (exec 3<>/dev/tcp/127.0.0.1/7002; cat <&3)"
        );
        let used = later.agent.sh(&forward).unwrap();
        assert_eq!(used.stdout, "", "{server}: not one byte: {used}");
        later.ends_because("cannot be frozen: it has a forwarded port; ");
    }
}

#[test]
fn not_even_a_short_forward_is_carried_for_a_frozen_session() {
    const SHORT_FORWARDS: &str = r#"ssh -S ~/m -O forward -D 7003 $1; n=0; end=$((SECONDS+10)); while [ $SECONDS -lt $end ]; do
        timeout 1 bash -c 'exec 3<>/dev/tcp/127.0.0.1/7003 || exit; printf "\x05\x01\x00" >&3; head -c 2 <&3 >/dev/null; printf "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x16" >&3; head -c 10 <&3 >/dev/null; [ "$(head -c 4 <&3)" = SSH- ]' 2>/dev/null && n=$((n+1));
        sleep 0.25; done; echo USED $n"#;
    let _watch = WORLD.lab().watch();
    for server in SERVERS {
        let seat = Seat::take(&WORLD, server, SHORT, "ssh -A -M -S ~/m");
        seat.wait_until_frozen();
        let said = seat.agent.sh(&format!("set -- {server}; {SHORT_FORWARDS}")).unwrap();
        assert!(said.stdout.ends_with("USED 0\n"), "{server}: {said}");
        seat.ends_because("cannot be frozen: it has a forwarded port; ");
    }
}

/// A byte at a time, each of which has sshd go round once: to a program that stands still, and so never reads.
const BYTES: &str = r#"perl -e 'while (syswrite STDOUT, "x") { select undef, undef, undef, 0.00005 }'"#;

#[test]
fn a_client_that_keeps_sshd_busy_ends_its_frozen_session_and_has_nobody_elses_wait() {
    let _watch = WORLD.lab().watch();
    std::thread::scope(|scope| SERVERS.iter().for_each(|server| drop(scope.spawn(|| keep_busy(server)))));
}

fn keep_busy(server: &str) {
    let others = [(); 2].map(|()| Seat::take(&WORLD, server, "-5m:+12s", "ssh -A"));
    others.iter().for_each(count::start);
    let busy = Seat::take(&WORLD, server, SHORT, "ssh -A -M -S ~/m");
    let flood = format!("{BYTES} | ssh -S ~/m {server} 'exec sleep 4713'");
    let flood = WORLD.host("laptop").spawn_as(busy.user(), ["sh", "-c", &flood]).unwrap();
    wait_until(SOON, "the flood", || busy.runs("sleep 4713")).unwrap();
    assert_eq!(busy.state().as_deref(), Some("live"));
    busy.ends_because("cannot be frozen: its connection keeps sshd busy; ");
    assert!(busy.has_logged("Freezing session of certificate ID "), "{server}: {:#?}", busy.log());
    flood.wait(SOON).unwrap();
    for other in &others {
        let end = since_epoch(other.end());
        other.shell.terminal().expect(STANDS_STILL, SOON).unwrap();
        other.wait_until_frozen();
        for name in NAMES {
            let stopped = counted(other, name).last().unwrap().at;
            assert!(stopped < end + IN_TIME, "{server}: {name} went on for {:?} after its end", stopped - end);
        }
        other.renew(LONG);
        other.shell.terminal().expect(GOES_ON, SOON).unwrap();
    }
}

#[test]
fn what_steers_the_host_is_not_reached_through_a_frozen_session() {
    const BUS: &str = "/run/dbus/system_bus_socket";
    const LISTEN: &str = "my $s = IO::Socket::UNIX->new(Local => shift, Listen => 5) or die; chmod 0666, $s->hostpath; $| = 1; print qq(ready\n); while (my $c = $s->accept) { print $c qq(at your service\n) }";
    const CONNECT: &str = "my $s = IO::Socket::UNIX->new(Peer => shift) or die; print <$s>";
    let _watch = WORLD.lab().watch();
    for server in SERVERS {
        let host = WORLD.host(server);
        host.script("mkdir -p /run/dbus; rm -f /run/dbus/system_bus_socket").unwrap().ok().unwrap();
        let bus = host.command(["perl", "-MIO::Socket::UNIX", "-e", LISTEN, BUS]).spawn().unwrap();
        wait_until(SOON, "it to listen", || host.exists(BUS)).unwrap();
        let seat = Seat::take(&WORLD, server, SHORT, "ssh -A -M -S ~/m");
        let use_it = format!("timeout 10 perl -MIO::Socket::UNIX -e '{CONNECT}' ~/bus");
        seat.wait_until_frozen();
        let said = seat.agent.sh(&format!("ssh -S ~/m -O forward -L ~/bus:{BUS} {server} && {use_it}")).unwrap();
        assert_eq!(said.stdout, "", "{server}: not one byte: {said}");
        seat.ends_because("cannot be frozen: it has a forwarded socket at /run/dbus/system_bus_socket; ");
        drop(bus);
    }
}

#[test]
fn whoever_connects_to_a_frozen_sessions_agent_again_and_again_does_not_have_all_its_sockets_looked_at_each_time() {
    const CONNECT: &str = "my ($path, $count) = @ARGV; my @all; $| = 1; for (1 .. $count) { push @all, IO::Socket::UNIX->new(Peer => $path) // die; select undef, undef, undef, 0.015 } print qq(through\n); sleep 60";
    let world = WorldPlan::new("agents").without_servers().server("web1").people(1, "admins").start().unwrap();
    let _watch = world.lab().watch();
    configure(&world, "web1", HOSTD);
    let seat = Seat::take(&world, "web1", SHORT, "ssh -A");
    let printed = seat.shell.run("echo $SSH_AUTH_SOCK").unwrap();
    let socket = printed.lines().map(str::trim).find(|line| line.starts_with('/')).unwrap().to_owned();
    seat.wait_until_frozen();
    let web1 = world.host("web1");
    let pid = web1.service("ussh-hostd").unwrap().pid();
    // Nanoseconds of the processor's that its loop has had (Documentation/scheduler/sched-stats.rst).
    let spent = || -> u64 {
        let schedstat = web1.read_file(&format!("/proc/{pid}/schedstat")).unwrap();
        schedstat.split(' ').next().unwrap().parse().unwrap()
    };
    let connect = |count: usize| {
        let (count, before) = (count.to_string(), spent());
        let clients = web1.spawn_as(seat.user(), ["perl", "-MIO::Socket::UNIX", "-e", CONNECT, &socket, &count]);
        let clients = clients.unwrap();
        wait_until(SOON, "its connections", || clients.stdout() == "through\n").unwrap();
        (spent() - before, clients)
    };
    let ((few, _some), (_, _more), (as_few, _last)) = (connect(40), connect(360), connect(40));
    assert_eq!(seat.state().as_deref(), Some("frozen"));
    println!("40 connections cost {few} ns of the processor's, 40 after 400 {as_few} ns");
    assert!(as_few < 3 * few, "{few} ns, and {as_few} ns after 400");
}

#[test]
fn a_killed_daemon_finds_frozen_sessions_as_they_were() {
    let world = WorldPlan::new("thawing").without_servers().server("web1").people(4, "admins").start().unwrap();
    let _watch = world.lab().watch();
    configure(&world, "web1", HOSTD);
    let web1 = world.host("web1");
    let thawed = Seat::take(&world, "web1", SHORT, "ssh -A");
    let ended = Seat::take(&world, "web1", SHORT, "ssh -A");
    for seat in [&thawed, &ended] {
        seat.shell.run("(setsid sleep 4711 &)").unwrap();
    }
    thawed.wait_until_frozen();
    ended.wait_until_frozen();
    web1.service("ussh-hostd").unwrap().kill().unwrap();
    // They stand still without it.
    thawed.shell.terminal().send("echo it runs\n").unwrap();
    thawed.renew(LONG);
    assert_eq!((thawed.state().as_deref(), ended.state().as_deref()), (Some("frozen"), Some("frozen")));
    assert!(!thawed.shell.terminal().transcript().contains("\nit runs"));
    start_hostd(&world, "web1");
    thawed.shell.terminal().expect(GOES_ON, SOON).unwrap();
    wait_until(SOON, "what was typed to run", || thawed.shell.terminal().transcript().contains("\nit runs")).unwrap();
    assert_eq!(thawed.state().as_deref(), Some("live"));
    assert_eq!(ended.state().as_deref(), Some("frozen"));
    assert!(ended.has_logged("Session is frozen: "), "{:?}", ended.log());
    let metrics = web1.run(["ussh-hostd", "status", "--metrics"]).unwrap().stdout;
    assert!(metrics.contains("ussh_hostd_sessions{state=\"frozen\"} 1\n"), "{metrics}");
    let table = web1.run(["ussh-hostd", "sessions"]).unwrap().stdout;
    assert!(table.lines().any(|line| line.contains(ended.user()) && line.ends_with("  frozen")), "{table}");

    // Stopped for good; by hand it ends without the daemon, and what had left it goes too.
    let stopped = web1.stop_service("ussh-hostd").unwrap();
    assert!(stopped.stderr.contains("Stopped; sessions go on, and 1 that is frozen stays so\n"), "{stopped}");
    let pid = ended.row().unwrap()["pid"].to_string();
    assert!(ended.runs("sleep 4711"));
    let said = web1.run(["ussh-hostd", "end", &pid]).unwrap().ok().unwrap();
    assert!(said.stdout.starts_with("ended: "), "{said}");
    assert_eq!(ended.shell.terminal().expect_exit(SOON).unwrap().code(), 255);
    wait_until(SOON, "what it had left running to go", || !ended.runs("sleep 4711")).unwrap();
    assert!(thawed.runs("sleep 4711"), "nobody else's");
}

#[test]
fn a_frozen_session_ends_when_it_is_revoked_or_its_connection_goes_and_all_of_it() {
    let _watch = WORLD.lab().watch();
    let seats = [(); 2].map(|()| Seat::take(&WORLD, "web12", SHORT, "ssh -A"));
    for seat in &seats {
        seat.shell.run("(setsid sleep 4712 &)").unwrap();
        assert!(seat.runs("sleep 4712"));
    }
    let [revoked, gone] = &seats;
    seats.iter().for_each(Seat::wait_until_frozen);
    gone.shell.terminal().signal(ussh_e2e::lab::Signal::SIGKILL).unwrap();
    wait_until(SOON, "the one whose client is gone", || gone.row().is_none() && !gone.runs("sleep 4712")).unwrap();
    wait_until(SOON, "the log", || gone.has_logged(" frozen processes, whose connection is gone: ")).unwrap();
    assert_eq!(revoked.state().as_deref(), Some("frozen"), "nobody else's");

    let plain = WORLD.host("ca").script(&format!("cat /srv/forged/{}/k.pub", revoked.serial)).unwrap().stdout;
    WORLD.host("web12").write_file("/srv/revoked.pub", 0o644, plain).unwrap();
    WORLD.host("web12").script("ssh-keygen -kuf /etc/ssh/revoked_keys /srv/revoked.pub").unwrap();
    revoked.ends_because("certificate is revoked; terminals told: 1");
    wait_until(SOON, "what it had left running to go", || !revoked.runs("sleep 4712")).unwrap();
}

#[test]
fn where_there_are_no_cgroups_check_says_so_and_sessions_end() {
    let world = WorldPlan::new("no-cgroup").without_servers().server("web1").people(2, "admins").start().unwrap();
    let _watch = world.lab().watch();
    let web1 = world.host("web1");
    configure(&world, "web1", HOSTD);
    assert!(web1.run(["ussh-hostd", "check"]).unwrap().status.success());
    web1.script("umount /sys/fs/cgroup").unwrap();
    start_hostd(&world, "web1");
    let said =
        "at_end = \"freeze\": no session can be frozen here, and each ends instead: no cgroup v2 tree is mounted";
    let check = web1.run(["ussh-hostd", "check"]).unwrap();
    assert!(!check.status.success() && check.to_string().contains(said), "{check}");
    assert!(world.logged_since("web1", 0).unwrap().contains(&format!("Alarm: {said}")));
    let seat = Seat::take(&world, "web1", SHORT, "ssh -A");
    seat.ends_because("it has run out, is not renewed and cannot be frozen: cgroup: no cgroup v2 tree is mounted");
}
