#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A process in sshd's place that counts, with a child that does, and one that leaves it by a double fork when a line comes.
const MONITOR: &str = "$| = 1; sub count { while (1) { print \"$_[0] \", $n++, \"\\n\"; select undef, undef, undef, 0.01 } } \
    count('child') unless fork; <STDIN>; unless (fork) { setpgrp; count('left') unless fork; exit } wait; count('monitor')";

/// Between two lines of one.
const STEP: Duration = Duration::from_millis(10);

struct Counting(Child, Receiver<String>, Instant);

impl Drop for Counting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Counting {
    fn start() -> Self {
        Counting::of(MONITOR)
    }

    fn of(script: &str) -> Self {
        let began = Instant::now();
        let mut child =
            Command::new("perl").args(["-e", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Counting(child, lines, began)
    }

    fn id(&self) -> ConnectionId {
        ConnectionId::of(self.0.id()).unwrap()
    }

    /// Whether a line of `who` comes within this time.
    fn says(&self, who: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while let Ok(line) = self.1.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.starts_with(who) {
                return true;
            }
        }
        false
    }

    /// Passes over what was said before this call: up to a line of the monitor's that it cannot have come to by now. All write to one pipe.
    fn catch_up(&self) {
        let now = self.2.elapsed().as_nanos() / STEP.as_nanos();
        loop {
            let line = self.1.recv_timeout(PATIENCE).expect("sshd goes on");
            let number = line.strip_prefix("monitor ").and_then(|number| number.parse::<u128>().ok());
            if number.is_some_and(|number| number > now) {
                return;
            }
        }
    }

    fn all_say(&self) -> bool {
        ["monitor", "child", "left"].iter().all(|who| self.says(who, PATIENCE))
    }
}

fn is_root() -> bool {
    ussh_os::process::effective_uid() == 0
}

#[test]
fn programs_stand_still_and_sshd_does_not_until_they_are_thawed_or_killed() {
    if !is_root() {
        return;
    }
    let mut session = Counting::start();
    let (id, sshd) = (session.id(), BTreeSet::from([session.0.id()]));
    assert_eq!(Cell::find(id).unwrap(), None);
    let cell = Cell::find_or_make(id).unwrap();
    assert_eq!(Cell::find(id).unwrap(), Some(cell.clone()));
    assert_eq!(Cell::find_or_make(id).unwrap(), cell);
    drop(session.0.stdin.take());
    assert!(session.all_say());
    for _ in 0..3 {
        let processes = cell.freeze(&sshd).unwrap();
        assert!(processes >= 2 && cell.is_frozen(), "{processes}");
        assert!(cell.inner.wait_frozen(PATIENCE).unwrap() && cell.stands_still().unwrap());
        session.catch_up();
        for who in ["child", "left"] {
            assert!(!session.says(who, Duration::from_millis(100)), "{who} goes on");
        }
        assert_eq!(cell.gather(&sshd).unwrap(), 0, "nothing has come since");
        cell.thaw().unwrap();
        assert!(!cell.is_frozen() && !cell.stands_still().unwrap());
        assert!(session.all_say());
    }
    assert_eq!(Cell::left_behind(id, cell.path()), None, "nothing stands still");
    cell.freeze(&sshd).unwrap();
    // As a daemon leaves it that is killed while it brings something in.
    cell.group.freeze().unwrap();
    assert!(cell.group.wait_frozen(PATIENCE).unwrap());
    cell.free_sshd().unwrap();
    session.catch_up();
    assert!(!session.says("child", Duration::from_millis(100)), "it stands still");
    session.0.kill().unwrap();
    session.0.wait().unwrap();
    let other = ConnectionId { start_time: id.start_time + 1, ..id };
    assert_eq!(Cell::left_behind(other, cell.path()), None);
    let left = Cell::left_behind(id, cell.path()).unwrap();
    left.kill().unwrap();
    left.leave_killed();
    assert!(!session.says("left", PATIENCE), "its end of the pipe is closed");
    assert!(!cell.group.exists());
    assert!(Cell::find(id).is_err());
}

#[test]
fn all_of_a_group_is_held_and_killed_but_not_where_an_sshd_of_roots_is_in_it() {
    if !is_root() {
        return;
    }
    let mut session = Counting::start();
    let id = session.id();
    let cell = Cell::find_or_make(id).unwrap();
    drop(session.0.stdin.take());
    assert!(session.all_say());
    let mut connection = crate::connection::Connection::open(id).unwrap();
    connection.hold_programs();
    let by_descent = connection.programs().count();
    connection.hold_all_in(cell.group()).unwrap();
    assert_eq!((by_descent, connection.programs().count()), (0, 1), "the one that had left it");
    connection.hold_all_in(cell.group()).unwrap();
    assert_eq!(connection.programs().count(), 1, "each once, and sshd never");
    assert_eq!(cell.stranger(id).unwrap(), None);

    // Somebody started sshd anew from the session.
    let folder = crate::test_support::trusted_folder();
    let program = folder.path().join("sshd");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let start = |command: &mut Command| command.arg("60").spawn().unwrap();
    let (mut of_root, mut of_nobody) =
        (start(&mut Command::new(&program)), start(Command::new(&program).uid(65534).gid(65534).current_dir("/")));
    cell.group.take(of_nobody.id()).unwrap();
    assert_eq!(cell.stranger(id).unwrap(), None, "anybody can call a program so");
    cell.group.take(of_root.id()).unwrap();
    assert_eq!(cell.stranger(id).unwrap(), Some(of_root.id()));
    std::fs::remove_file(&program).unwrap();
    assert_eq!(cell.stranger(id).unwrap(), Some(of_root.id()), "upgraded beneath");
    cell.kill_all().unwrap();
    of_root.wait().unwrap();
    of_nobody.wait().unwrap();
    session.0.wait().unwrap();
    cell.leave_killed();
    assert!(!cell.group.exists());
    cell.kill_all().unwrap();
}

/// Four for each processor make long system calls, again and again: each reads 2 GiB of nothing into the same 2 MiB, after all that anybody else has to do. "reads" is said before each.
const READS: &str = r#"use POSIX; $| = 1; POSIX::nice(19); for (1 .. 4 * `nproc` - 1) { last unless fork } my ($preadv, $memfd_create) = @{{x86_64 => [295, 319], aarch64 => [69, 279]}->{(POSIX::uname())[4]}};
    my $name = "nothing"; my $fd = syscall $memfd_create, $name, 0; open(my $f, "+<&=$fd") or die $!; truncate($f, 4 << 30) or die $!; my $to = "\1" x (2 << 20);
    my $places = pack 'Q*', map { (unpack('Q', pack 'p', $to), length $to) } 1 .. 1023; while (1) { print "reads\n"; syscall($preadv, $fd, $places, 1023, 0, 0) > 0 or die $! }"#;

/// sshd, and what it has started.
fn sshd_with(script: &str) -> (Counting, ConnectionId, BTreeSet<u32>) {
    let session = Counting::of(&format!("unless (fork) {{ {script} }} wait; sleep 60"));
    let id = session.id();
    (session, id, BTreeSet::from([id.pid]))
}

#[test]
fn who_is_in_a_long_system_call_is_not_waited_for_and_stops_as_he_comes_out_of_it() {
    if !is_root() {
        return;
    }
    let readers = std::thread::available_parallelism().unwrap().get() * 4;
    let (session, id, sshd) = sshd_with(READS);
    let cell = Cell::find_or_make(id).unwrap();
    let all_read = || (0..readers * 2).for_each(|_| assert!(session.says("reads", PATIENCE)));
    // What of it took no longer than a machine that is busy lets it.
    let mut quickest = Duration::MAX;
    for _ in 0..2 {
        all_read();
        let began = Instant::now();
        let processes = cell.freeze(&sshd).unwrap();
        quickest = quickest.min(began.elapsed());
        assert_eq!(processes, readers);
        assert!(!cell.stands_still().unwrap(), "some are in the kernel");
        assert!(!cell.group.is_told_to_stop(), "sshd goes on");
        assert!(cell.inner.wait_frozen(PATIENCE).unwrap());
        while session.1.recv_timeout(Duration::from_millis(50)).is_ok() {}
        assert!(!session.says("reads", Duration::from_millis(500)), "they stand still");
        cell.thaw().unwrap();
    }
    println!("{readers} in long system calls: told to stand still in {quickest:?}");
    assert!(quickest < Duration::from_millis(200), "{quickest:?}");

    all_read();
    cell.kill_all().unwrap();
    let began = Instant::now();
    assert!(!cell.leave(), "they end when they come out of the kernel");
    let took = began.elapsed();
    assert!(took < Duration::from_millis(200), "{took:?}");
    drop(session);
    assert!(cell.group.wait_empty(PATIENCE).unwrap() && cell.leave());
    assert!(!cell.group.exists());
}

#[test]
fn one_whose_first_thread_has_ended_is_brought_in_once_and_killed_with_the_others() {
    // It ends its first thread when it is in the session's group.
    const HEADLESS: &str = r#"use threads; use POSIX; $| = 1; my $exit = {x86_64 => 60, aarch64 => 93}->{(POSIX::uname())[4]} or die;
        threads->create(sub { while (1) { print "thread\n"; select undef, undef, undef, 0.01 } });
        until (do { open my $f, '<', '/proc/self/cgroup' or die; grep { m{/ussh-sessions/} } <$f> }) { select undef, undef, undef, 0.01 } syscall $exit, 0"#;
    if !is_root() {
        return;
    }
    let (session, id, sshd) = sshd_with(HEADLESS);
    let cell = Cell::find_or_make(id).unwrap();
    assert!(session.says("thread", PATIENCE));
    let is_headless = |pid: &u32| !cell.group.threads().unwrap().contains(pid);
    let deadline = Instant::now() + PATIENCE;
    while !cell.group.processes().unwrap().iter().any(is_headless) {
        assert!(Instant::now() < deadline, "its first thread does not end");
    }
    for _ in 0..2 {
        assert_eq!(cell.freeze(&sshd).unwrap(), 1);
        assert!(cell.inner.wait_frozen(PATIENCE).unwrap());
        while session.1.try_recv().is_ok() {}
        assert!(!session.says("thread", Duration::from_millis(100)), "it stands still");
        assert_eq!((cell.gather(&sshd).unwrap(), cell.count()), (0, 1), "it is there");
        cell.thaw().unwrap();
        assert!(session.says("thread", PATIENCE));
    }
    cell.freeze(&sshd).unwrap();
    cell.kill().unwrap();
    assert!(cell.inner.wait_empty(PATIENCE).unwrap(), "it has ended");
    drop(session);
    cell.leave_killed();
    assert!(!cell.group.exists());
}

#[test]
fn a_number_that_went_to_another_process_meanwhile_goes_back_to_where_that_ones_parent_is() {
    if !is_root() {
        return;
    }
    let (session, id, _) = sshd_with("sleep 60");
    let cell = Cell::find_or_make(id).unwrap();
    cell.inner.make().unwrap();
    let mut other = Command::new("/bin/sleep").arg("60").spawn().unwrap();
    cell.give_back(other.id()).unwrap();
    let at_home = Cgroup::of(other.id()).unwrap();
    assert_eq!(at_home, Cgroup::of(std::process::id()).unwrap());
    // As if it had got the number of one of the session's between the look and the move.
    cell.inner.take(other.id()).unwrap();
    cell.give_back(other.id()).unwrap();
    assert_eq!(Cgroup::of(other.id()).unwrap(), at_home);
    let (found, ours) = ([other.id()], BTreeSet::new());
    assert_eq!((cell.bring_in(&found).unwrap(), cell.inner.processes().unwrap()), (0, ours), "it is not in the group");
    other.kill().unwrap();
    other.wait().unwrap();
    cell.kill_all().unwrap();
    drop(session);
    cell.leave_killed();
}

/// As in a session of root's on OpenSSH 10: its sshd has forked one that serves the connection, and that one an `internal-sftp`.
#[test]
fn what_a_sessions_sshd_has_forked_is_no_stranger_until_it_executes_a_program() {
    if !is_root() {
        return;
    }
    let folder = crate::test_support::trusted_folder();
    let program = folder.path().join("sshd");
    std::fs::copy("/usr/bin/perl", &program).unwrap();
    // The last one, and no other, becomes an sshd when a line comes.
    let script = "$| = 1; for (1 .. 2) { next unless my $pid = fork; waitpid $pid, 0; exit } print \"$$\\n\"; <STDIN>; exec @ARGV";
    let listens = "$| = 1; print \"listens\\n\"; sleep 60";
    let mut monitor = Command::new(&program)
        .args(["-e", script])
        .args([program.as_os_str(), "-e".as_ref(), listens.as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines().map(Result::unwrap);
    let last: u32 = lines.next().unwrap().parse().unwrap();
    let id = ConnectionId::of(monitor.id()).unwrap();
    let cell = Cell::find_or_make(id).unwrap();
    assert!(cell.group.processes().unwrap().contains(&last));
    assert_eq!(cell.stranger(id).unwrap(), None);
    let other = ConnectionId { start_time: id.start_time + 1, ..id };
    assert!(cell.stranger(other).unwrap().is_some(), "another connection's");
    drop(monitor.stdin.take());
    assert_eq!(lines.next().unwrap(), "listens");
    assert_eq!(cell.stranger(id).unwrap(), Some(last), "it is for others");
    cell.kill_all().unwrap();
    monitor.wait().unwrap();
    cell.leave_killed();
}

#[test]
fn a_group_that_was_noted_is_not_another_one_of_its_name() {
    if !is_root() {
        return;
    }
    let mut session = Counting::start();
    let id = session.id();
    let cell = Cell::find_or_make(id).unwrap();
    let whole = cell.whole().unwrap();
    assert_eq!(Cell::noted(id, &whole), Some(cell.clone()));
    let other = ConnectionId { start_time: id.start_time + 1, ..id };
    assert_eq!(Cell::noted(other, &whole), None);
    cell.kill_all().unwrap();
    session.0.wait().unwrap();
    cell.leave_killed();
    assert_eq!(Cell::noted(id, &whole), None);
    cell.group.make().unwrap();
    assert_eq!(Cell::noted(id, &whole), None, "made anew");
    cell.leave();
}

/// A tenth of what one account may have elsewhere.
#[test]
fn thousands_stand_still_at_once() {
    if !is_root() {
        return;
    }
    let script = "$| = 1; for (1 .. 3000) { defined(my $pid = fork) or die $!; unless ($pid) { sleep 600; exit } } print \"ready\\n\"; sleep 600";
    let mut monitor = Command::new("perl").args(["-e", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(monitor.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let id = ConnectionId::of(monitor.id()).unwrap();
    let cell = Cell::find_or_make(id).unwrap();
    let began = Instant::now();
    let processes = cell.freeze(&BTreeSet::from([id.pid])).unwrap();
    let all = cell.inner.wait_frozen(PATIENCE).unwrap();
    let froze = began.elapsed();
    let mut connection = crate::connection::Connection::open(id).unwrap();
    let began = Instant::now();
    connection.hold_programs();
    let held = began.elapsed();
    println!("3000 processes: frozen in {froze:?}, held in {held:?}");
    cell.kill_all().unwrap();
    monitor.wait().unwrap();
    cell.leave_killed();
    // Judged when they are gone: what a test that fails leaves behind is in the way of all others.
    assert_eq!((processes, all), (3000, true));
    // Nobody else's end comes meanwhile. Both take a fraction of it on a machine that has nothing else to do.
    assert!(froze < Duration::from_secs(1) && held < Duration::from_secs(2), "{froze:?} {held:?}");
}

/// As logind leaves it: the monitor and all that it started in a scope, the sshd that listens elsewhere.
#[test]
fn a_scope_of_logind_is_the_sessions_unless_sshd_itself_listens_in_it() {
    if !is_root() {
        return;
    }
    let mut session = Counting::start();
    let (id, sshd) = (session.id(), BTreeSet::from([session.0.id()]));
    let scope = Cgroup::of(id.pid).unwrap().child(&format!("session-{}.scope", std::process::id()));
    scope.make().unwrap();
    assert!(session.says("child", PATIENCE), "forked");
    std::iter::once(id.pid).chain(descendants_of(id.pid)).for_each(|pid| scope.take(pid).unwrap());
    drop(session.0.stdin.take());
    assert!(session.all_say());
    let cell = Cell::find(id).unwrap().unwrap();
    assert_eq!((cell.group.path(), Cell::find_or_make(id).unwrap()), (scope.path(), cell.clone()));
    cell.freeze(&sshd).unwrap();
    assert!(cell.inner.wait_frozen(PATIENCE).unwrap());
    session.catch_up();
    assert!(!session.says("child", Duration::from_millis(100)), "it stands still");
    cell.thaw().unwrap();
    assert!(session.all_say());

    // This very process, its parent, stands for the sshd that listens.
    assert!(!is_shared(&scope, id) && is_shared(&Cgroup::of(std::process::id()).unwrap(), id));
    cell.freeze(&sshd).unwrap();
    cell.kill().unwrap();
    drop(session);
    cell.leave_killed();
    assert!(scope.exists(), "it is logind's to remove");
    scope.remove().unwrap();
}

#[test]
fn a_group_is_a_sessions_by_its_name() {
    let mount = ussh_os::cgroup::mount_point().unwrap();
    let at = |path: &[&str]| {
        let start = Cgroup::of(std::process::id()).unwrap();
        assert!(start.path().starts_with(&mount));
        path.iter().fold(start, |group, name| group.child(name))
    };
    let id = ConnectionId { pid: 7, start_time: 42 };
    assert!(is_own(&at(&["ussh-sessions", "7-42"]), id));
    assert!(!is_own(&at(&["ussh-sessions", "7-43"]), id) && !is_own(&at(&["7-42"]), id));
    assert!(is_scope(&at(&["session-c1.scope"])));
    assert!(!is_scope(&at(&["ssh.service"])) && !is_scope(&at(&["session-1.slice"])));
}
