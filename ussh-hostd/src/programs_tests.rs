#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::libc::SIGKILL;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use ussh_os::process::start_time;

use super::*;
use crate::connection::Connection;

const PATIENCE: Duration = Duration::from_secs(10);
/// So many descriptors that 2 of them are for one session, and 4 for one account's.
const TWO_OF_A_SESSION: usize = 16;

/// A process in the monitor's place that runs `script` in a shell, and the numbers that the script writes.
fn session(script: &str, numbers: usize) -> (Child, Connection, Vec<(u32, ProcessHandle)>) {
    let mut monitor = Command::new("/usr/bin/env")
        // As sshd leaves it, whatever started this test (nohup).
        .args(["perl", "-e", "$SIG{HUP} = 'DEFAULT'; system('/bin/sh', '-c', $ARGV[0]); sleep 60", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(monitor.stdout.take().unwrap()).lines().take(numbers);
    let held = lines.map(|line| {
        let pid: u32 = line.unwrap().parse().unwrap();
        (pid, ProcessHandle::open(pid, start_time(pid).unwrap()).unwrap())
    });
    let held = held.collect();
    let id = ConnectionId::of(monitor.id()).unwrap();
    (monitor, Connection::open(id).unwrap(), held)
}

/// A child of `parent` other than `known`, as soon as there is one and it runs its own program: a shell whose child is killed between vfork and exec may wait for ever.
fn wait_for_child(parent: u32, known: &[u32]) -> (u32, ProcessHandle) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let runs_sleep =
            |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"));
        if let Some(child) = children_of(parent).into_iter().find(|pid| !known.contains(pid) && runs_sleep(pid)) {
            return (child, ProcessHandle::open(child, start_time(child).unwrap()).unwrap());
        }
        assert!(std::time::Instant::now() < deadline, "no further child");
        std::thread::yield_now();
    }
}

/// The daemon's, that may have so many descriptors.
fn with_descriptors(connection: &mut Connection, budget: &Budget, account: u32) {
    connection.count_for(account);
    connection.programs_mut().budget = budget.clone();
}

/// A session of `many` programs that heed nothing but SIGKILL; all of them.
fn crowd(many: usize) -> (Child, Connection, Vec<(u32, ProcessHandle)>) {
    let script = format!("trap '' HUP TERM; for i in $(seq {many}); do sleep 71 >&- & echo $!; done; wait");
    session(&script, many)
}

#[test]
fn what_there_is_no_descriptor_for_is_ended_all_the_same() {
    let (monitor, mut connection, all) = crowd(20);
    // Of one session 2.
    with_descriptors(&mut connection, &Budget::whatever_number(TWO_OF_A_SESSION), 1);
    connection.hold_programs();
    assert_eq!((connection.programs().count(), connection.programs().held()), (21, 2));
    assert!(connection.programs().not_held().unwrap().starts_with("19 of 21 "));
    connection.programs().hang_up();
    end(monitor);
    assert!(connection.program_to_wait_for().is_some(), "they are waited for");
    connection.kill().unwrap();
    for (pid, program) in &all {
        assert!(program.wait_end(PATIENCE).unwrap(), "{pid} lives on");
    }
    // The shell itself is not among these.
    while let Some(program) = connection.program_to_wait_for() {
        assert!(program.wait_end(PATIENCE).unwrap());
    }
    assert!(!connection.programs().are_left());
    assert_eq!(connection.programs().count(), 21);
}

#[test]
fn an_accounts_sessions_leave_descriptors_for_others() {
    let budget = Budget::whatever_number(TWO_OF_A_SESSION);
    let hold = |account| {
        let (monitor, mut connection, all) = crowd(3);
        with_descriptors(&mut connection, &budget, account);
        connection.hold_programs();
        (connection.programs().held(), (monitor, connection, all))
    };
    let end_all = |(monitor, mut connection, all): (Child, Connection, Vec<(u32, ProcessHandle)>)| {
        end(monitor);
        connection.kill().unwrap();
        assert!(all.iter().all(|(_, program)| program.wait_end(PATIENCE).unwrap()));
    };
    let (held, crowds): (Vec<_>, Vec<_>) = [1, 1, 1, 2].map(hold).into_iter().unzip();
    assert_eq!(held, [2, 2, 0, 2], "of one account 4, of another one there is room");
    crowds.into_iter().for_each(end_all);
    let (held, crowd) = hold(1);
    assert_eq!(held, 2, "as soon as they are let go");
    end_all(crowd);
}

#[test]
fn what_is_known_by_number_alone_is_never_somebody_else() {
    let (monitor, mut connection, all) = crowd(1);
    with_descriptors(&mut connection, &Budget::of(0), 1);
    connection.hold_programs();
    assert_eq!(connection.programs().held(), 0);
    for program in &mut connection.programs_mut().found {
        program.id.start_time += 1;
    }
    connection.programs().hang_up();
    connection.programs_mut().kill();
    assert!(!connection.programs().any_lives(), "gone, as far as anybody knows");
    assert!(all.iter().all(|(_, program)| !has_ended(program)));
    end(monitor);
    all.iter().for_each(|(_, program)| program.signal(SIGKILL).unwrap());
}

fn end(mut monitor: Child) {
    monitor.kill().unwrap();
    monitor.wait().unwrap();
}

#[test]
fn descendants_end_with_the_session_although_they_have_no_terminal() {
    let (monitor, mut connection, held) = session("echo $$; sleep 61 >&- & echo $!; sleep 62 >&- & echo $!; wait", 3);
    connection.hold_programs();
    connection.programs().hang_up();
    assert_eq!(connection.programs().count(), 3, "the shell and both of its children");
    end(monitor);
    for (pid, program) in held {
        assert!(program.wait_end(PATIENCE).unwrap(), "{pid} lives on");
    }
    assert_eq!(connection.programs().living().count(), 0);
}

#[test]
fn sshds_own_child_is_left_to_sshd() {
    // A fork of the monitor runs its program, as sshd's child does; what that runs is the session's.
    let script = "$| = 1; $SIG{HUP} = 'DEFAULT'; unless (fork) { unless (fork) { exec 'sleep', 68 } print \"$$\\n\"; sleep 69 } sleep 70";
    let mut monitor = Command::new("perl").args(["-e", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(monitor.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child: u32 = line.trim().parse().unwrap();
    let id = ConnectionId::of(monitor.id()).unwrap();
    let mut connection = Connection::open(id).unwrap();
    connection.hold_programs();
    let programs: Vec<u32> = connection.programs().found.iter().map(|program| program.id.pid).collect();
    assert_eq!(programs, children_of(child));
    connection.programs().hang_up();
    assert!(connection.programs().found[0].handle.as_ref().unwrap().process.wait_end(PATIENCE).unwrap());
    assert_eq!(connection.children().count(), 1, "still there");
    connection.kill_children().unwrap();
    end(monitor);
}

#[test]
fn what_ignores_the_hangup_or_is_stopped_is_killed_with_what_it_started_since() {
    let script = "trap '' HUP; sleep 61 >&- & echo $!; kill -STOP $!; echo $$; sleep 63; sleep 64";
    let (monitor, mut connection, held) = session(script, 2);
    let (stopped_pid, stopped) = &held[0];
    let (shell, _) = held[1];
    let (running_pid, running) = wait_for_child(shell, &[*stopped_pid]);
    connection.hold_programs();
    connection.programs().hang_up();
    end(monitor);
    // Its running child ends, and it starts the next one, which nobody has seen yet.
    let first = connection.programs().count();
    running.signal(SIGKILL).unwrap();
    let (_, next) = wait_for_child(shell, &[*stopped_pid, running_pid]);
    assert!(connection.programs().living().count() >= 2, "the hangup was ignored");
    connection.kill().unwrap();
    assert!(connection.programs().count() > first);
    for program in [stopped, &held[1].1, &next] {
        assert!(program.wait_end(PATIENCE).unwrap());
    }
}

#[test]
fn what_has_left_the_session_before_is_not_reached() {
    let (monitor, mut connection, held) = session("(sleep 65 >&- & echo $!); sleep 66 >&-", 1);
    let (left, handle) = &held[0];
    let deadline = std::time::Instant::now() + PATIENCE;
    while descendants_of(monitor.id()).contains(left) && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    connection.hold_programs();
    connection.programs().hang_up();
    connection.kill().unwrap();
    end(monitor);
    assert!(!has_ended(handle), "only the session's own");
    handle.signal(SIGKILL).unwrap();
}

#[test]
fn what_was_held_by_an_earlier_run_is_held_again_by_its_start_time_and_killed() {
    let (monitor, mut connection, held) = session("trap '' HUP; echo $$; sleep 66 >&- & echo $!; wait; wait", 2);
    connection.hold_programs();
    let mut again: Vec<ConnectionId> = connection.programs().ids().collect();
    let program = *again.iter().find(|id| id.pid == held[1].0).unwrap();
    // Its number was given to another one.
    let init = ConnectionId { pid: 1, start_time: u64::MAX };
    again.extend([init, program]);
    end(monitor);
    let mut programs = Programs::default();
    programs.hold_again(again.into_iter());
    assert_eq!(programs.count(), 2, "each once, and nobody else");
    programs.kill();
    for (_, program) in held {
        assert!(program.wait_end(PATIENCE).unwrap());
    }
}

#[test]
fn nothing_is_held_for_a_session_that_is_gone() {
    let (monitor, mut connection, held) = session("echo $$; trap '' HUP; exec sleep 67 >&-", 1);
    end(monitor);
    connection.hold_programs();
    connection.programs().hang_up();
    assert_eq!(connection.programs().count(), 0);
    held[0].1.signal(SIGKILL).unwrap();
}

/// A process that forks the next one, which forks the next, as fast as they can, each with some others besides; they heed nothing but SIGKILL.
struct Chain(Child);

impl Chain {
    const SCRIPT: &str = "$SIG{$_} = 'IGNORE' for qw(HUP TERM INT); sub stay { sleep 60 while 1 } sub start { my $child; 1 until defined($child = fork); $child }
for (2 .. $ARGV[0]) { for (1 .. $ARGV[1]) { start() or stay() } start() and stay() } syswrite STDOUT, 'all'; stay()";

    fn start(length: usize, others: usize) -> Self {
        let mut command = Command::new("perl");
        command.args(["-e", Self::SCRIPT, &length.to_string(), &others.to_string()]);
        Chain(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn grown(length: usize, others: usize) -> Self {
        let mut chain = Self::start(length, others);
        chain.0.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        chain
    }

    /// Of a session of which nothing but its first process is known.
    fn programs(&self) -> Programs {
        let mut programs = Programs::default();
        programs.hold_again([ConnectionId::of(self.0.id()).unwrap()].into_iter());
        programs
    }

    /// Whoever holds its output open lives.
    fn is_gone(&mut self) -> bool {
        self.0.wait().unwrap();
        let mut output = [PollFd::new(self.0.stdout.as_ref().unwrap().as_fd(), PollFlags::empty())];
        poll(&mut output, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
        output[0].any().unwrap()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.programs().kill();
            let _ = self.0.wait();
        }
    }
}

/// Of this thread, in microseconds.
fn processor_time() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds()
}

#[test]
fn one_more_process_costs_the_same_however_many_there_are() {
    let cost = |length: usize| {
        let mut chain = Chain::grown(length, 2);
        let mut programs = chain.programs();
        let before = processor_time();
        programs.kill();
        let took = processor_time() - before;
        assert!(chain.is_gone());
        assert_eq!(programs.count(), 3 * length - 2);
        took as f64 / programs.count() as f64
    };
    let (few, many) = (cost(40), cost(700));
    println!("{few:.1} µs each of 118, {many:.1} µs each of 2098");
    assert!(many < 2.5 * few, "{few} µs each of few, {many} of many");
}

/// As the daemon does it, which sees to others in between.
fn kill_in_turns(programs: &mut Programs, mut between: impl FnMut(&Programs)) -> usize {
    programs.begin_to_kill();
    let mut turns = 0;
    while programs.is_being_killed() {
        programs.go_on(Share::Looks(16));
        between(programs);
        turns += 1;
    }
    turns
}

#[test]
fn a_chain_that_grows_meanwhile_is_ended_in_turns_and_none_of_it_before_all_of_it_is_stopped() {
    let mut chain = Chain::start(300, 0);
    let mut programs = chain.programs();
    let turns = kill_in_turns(&mut programs, |programs| {
        let is_killing = programs.walk.as_ref().is_none_or(|walk| walk.task == walk::Task::Kill);
        assert!(is_killing || !has_ended(&programs.found[0].handle.as_ref().unwrap().process));
    });
    assert!(turns > programs.count() / 16);
    assert!(chain.is_gone(), "one of more than {} lives", programs.count());
}

#[test]
fn whoever_may_run_more_than_is_stopped_at_once_has_what_is_stopped_killed_and_none_gets_away() {
    let mut chain = Chain::start(200, 1);
    let mut programs = chain.programs();
    programs.most_stopped = MostStopped(20);
    let mut most = 0;
    kill_in_turns(&mut programs, |programs| most = programs.found.len().max(most));
    assert!(chain.is_gone(), "one of more than {} lives", programs.count());
    assert!(most < 399, "{most} were remembered at one time");
}

#[test]
fn what_is_dead_but_traced_is_not_waited_for() {
    use nix::sys::{ptrace, wait};

    let script =
        "perl -Mthreads -e '$| = 1; my $t = threads->create(sub { sleep 61 }); print \"$$\\n\"; $t->join' & wait";
    let (monitor, mut connection, held) = session(script, 1);
    let (pid, program) = &held[0];
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let thread = threads.filter_map(|thread| thread.unwrap().file_name().to_str()?.parse::<i32>().ok()).max();
    let thread = nix::unistd::Pid::from_raw(thread.unwrap());
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    connection.hold_programs();
    assert!(!is_dead(*pid));
    connection.kill().unwrap();
    end(monitor);
    let deadline = std::time::Instant::now() + PATIENCE;
    while !is_dead(*pid) || connection.programs().living().count() > 1 {
        assert!(std::time::Instant::now() < deadline, "{:?}", connection.programs());
        std::thread::yield_now();
    }
    assert!(connection.program_to_wait_for().is_some(), "the kernel does not say that it has ended");
    connection.kill().unwrap();
    assert!(connection.program_to_wait_for().is_none() && !connection.programs().are_left());
    assert_eq!(connection.programs().count(), 2, "the shell and that one");
    wait::waitpid(thread, Some(wait::WaitPidFlag::__WALL)).unwrap();
    assert!(program.wait_end(PATIENCE).unwrap());
}
