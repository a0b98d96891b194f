//! The cgroup of one session: all that it runs is in it, whatever it forks and whoever becomes its parent, and inside of it what stands still.
//!
//! Where logind makes a scope of each session that is the one. Elsewhere it is `ussh-sessions/PID-STARTTIME` below the group in which sshd left the session, made when the session's record appears, before its
//! user's first program has run; a session that was there before gets one when it is frozen, with what descends from its sshd then. sshd's own processes are in it too, and stay when the programs go to the inner
//! group, `ussh-frozen`, to be stopped: somebody must pass on what the agent says. Nobody but root can leave either.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use ussh_os::cgroup::Cgroup;
use ussh_os::process_tree::{parent_of, with_mere_forks};
use ussh_os::sshd_connection::effective_uid_of;

use crate::begun::Whole;
use crate::programs::descendants_of;
use crate::spool::ConnectionId;

/// Holds a group for each session.
const FOLDER: &str = "ussh-sessions";
/// In a session's group: what stands still, or has done so before.
const INNER: &str = "ussh-frozen";
/// sshd's programs of one connection and the one that listens (OpenSSH 10 has one of each kind).
const SSHD: [&str; 3] = ["sshd", "sshd-session", "sshd-auth"];
/// Longest wait for processes to stand still, or to be gone: they do it on their way out of the kernel, where some sleep long.
const STILL: Duration = Duration::from_millis(250);
/// How often what a session forks meanwhile is looked for while it is brought in.
const ROUNDS: usize = 16;

/// A session's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    group: Cgroup,
    inner: Cgroup,
}

/// What of it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// It goes on.
    Nothing,
    /// What stood still.
    Frozen,
    /// All of it.
    All,
}

/// What came of stopping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Processes that were told to stand still.
    pub processes: usize,
    /// All of them do.
    pub all: bool,
}

impl Cell {
    fn new(group: Cgroup) -> Self {
        let inner = group.child(INNER);
        Cell { group, inner }
    }

    /// The one of a connection; `None`: it has none.
    /// # Errors
    /// There are no cgroups here, or no such process.
    pub fn find(id: ConnectionId) -> io::Result<Option<Self>> {
        let at = Cgroup::of(id.pid)?;
        Ok((is_own(&at, id) || (is_scope(&at) && !is_shared(&at, id))).then(|| Cell::new(at)))
    }

    /// The same; it is made, and all that the session has running brought in, if there is none.
    /// # Errors
    /// As the kernel says.
    pub fn find_or_make(id: ConnectionId) -> io::Result<Self> {
        if let Some(cell) = Cell::find(id)? {
            return Ok(cell);
        }
        let folder = Cgroup::of(id.pid)?.child(FOLDER);
        let cell = Cell::new(folder.child(&id.stem()));
        cell.group.make()?;
        cell.group.take(id.pid)?;
        for _ in 0..ROUNDS {
            let inside = cell.group.processes()?;
            let outside: Vec<u32> = descendants_of(id.pid).difference(&inside).copied().collect();
            if outside.is_empty() {
                break;
            }
            cell.group.take_all(outside)?;
        }
        remove_abandoned(&folder);
        // What was taken by its number was this session's if that still lives.
        if id.lives() { Ok(cell) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// The one at `path`, in which a session stands still whose sshd is gone; `None`: nothing stands still there.
    pub fn left_behind(id: ConnectionId, path: &Path) -> Option<Self> {
        let cell = Cell::new(Cgroup::at(path).ok()?);
        ((is_own(&cell.group, id) || is_scope(&cell.group)) && cell.is_frozen()).then_some(cell)
    }

    /// The one that was noted, if that very group is there still: logind may have given its scope's name to another session since.
    pub fn noted(id: ConnectionId, whole: &Whole) -> Option<Self> {
        let group = Cgroup::at(&whole.group).ok()?;
        let is_its = is_own(&group, id) || is_scope(&group);
        (is_its && group.inode().ok() == Some(whole.inode)).then(|| Cell::new(group))
    }

    /// All of it, to be noted.
    /// # Errors
    /// It is not there.
    pub fn whole(&self) -> io::Result<Whole> {
        Ok(Whole { group: self.path().into(), inode: self.group.inode()? })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.group.path()
    }

    /// Lets sshd go on, which a daemon that was killed while it brought something in has left stopped with the rest.
    /// # Errors
    /// As the kernel says.
    pub fn free_sshd(&self) -> io::Result<()> {
        if self.group.is_told_to_stop() { self.group.thaw() } else { Ok(()) }
    }

    /// Whether it was told to stand still.
    pub fn is_frozen(&self) -> bool {
        self.inner.is_told_to_stop()
    }

    /// The whole of it.
    pub fn group(&self) -> &Cgroup {
        &self.group
    }

    /// One in it that is not the session's, if there is any: an sshd of root's that somebody started anew from the session, with all that came over it since, or this very process.
    /// Stopping or ending all of it would lock everybody out. What the session's own sshd has forked is its own as long as it executes nothing: a program on its way, and `internal-sftp`, which is root's in a session of root's.
    /// # Errors
    /// As the kernel says.
    pub fn stranger(&self, id: ConnectionId) -> io::Result<Option<u32>> {
        let inside = self.group.processes()?;
        let own = with_mere_forks(id);
        let others = inside.into_iter().filter(|pid| !own.contains(pid));
        let is_stranger = |pid: &u32| *pid == std::process::id() || is_sshd_of_root(*pid);
        Ok(others.into_iter().find(is_stranger))
    }

    /// Stops all that is in it but for `sshd`.
    /// # Errors
    /// As the kernel says; it is as before then.
    pub fn freeze(&self, sshd: &BTreeSet<u32>) -> io::Result<Stopped> {
        let frozen = self.inner.make().and_then(|()| self.inner.freeze()).and_then(|()| {
            self.gather(sshd)?;
            let all = self.inner.wait_frozen(STILL)?;
            Ok(Stopped { processes: self.inner.processes()?.len(), all })
        });
        if frozen.is_err() {
            // The first error is the one to tell.
            let _ = self.thaw();
        }
        frozen
    }

    /// Brings what is in it, but for `sshd`, to what stands still; how many that were.
    /// # Errors
    /// As the kernel says.
    pub fn gather(&self, sshd: &BTreeSet<u32>) -> io::Result<usize> {
        if self.free(sshd)?.is_empty() {
            return Ok(0);
        }
        // While nobody in it can move nothing is forked behind the look, and no number goes to anybody else.
        self.group.freeze()?;
        let gathered = self.group.wait_frozen(STILL).and_then(|_| {
            let free = self.free(sshd)?;
            let count = free.len();
            self.inner.take_all(free)?;
            Ok(count)
        });
        self.group.thaw()?;
        gathered
    }

    fn free(&self, sshd: &BTreeSet<u32>) -> io::Result<BTreeSet<u32>> {
        let still = self.inner.processes()?;
        Ok(self.group.processes()?.into_iter().filter(|pid| !still.contains(pid) && !sshd.contains(pid)).collect())
    }

    /// Brings a process in that was born by sshd and has not run yet.
    /// # Errors
    /// As the kernel says.
    pub fn take_newborn(&self, pid: u32) -> io::Result<()> {
        self.inner.take(pid)
    }

    /// Lets it go on.
    /// # Errors
    /// As the kernel says.
    pub fn thaw(&self) -> io::Result<()> {
        self.free_sshd()?;
        if self.inner.exists() { self.inner.thaw() } else { Ok(()) }
    }

    /// SIGKILL to what stands still.
    /// # Errors
    /// As the kernel says.
    pub fn kill(&self) -> io::Result<()> {
        self.inner.kill()
    }

    /// SIGKILL to all that is in it; sshd has ended.
    /// # Errors
    /// As the kernel says.
    pub fn kill_all(&self) -> io::Result<()> {
        match self.group.kill() {
            // Nobody was in it any more, and it was taken away.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// How many stand still.
    pub fn count(&self) -> usize {
        self.inner.processes().map_or(0, |all| all.len())
    }

    /// Takes it away once sshd has ended, unless somebody lives in it: what the session has left behind stays where it is, until it ends too. What was killed is waited for.
    pub fn leave(&self, killed: Killed) {
        // What does not end by SIGKILL within it sleeps in the kernel.
        let _ = match killed {
            Killed::Nothing => Ok(true),
            Killed::Frozen => self.inner.wait_empty(STILL),
            Killed::All => self.group.wait_empty(STILL),
        };
        // Removed with the next one that is made beside it, if not now.
        let _ = self.inner.remove();
        if !is_scope(&self.group) {
            let _ = self.group.remove();
        }
    }
}

/// One that is made here.
fn is_own(group: &Cgroup, id: ConnectionId) -> bool {
    group.name() == id.stem() && group.parent().is_some_and(|parent| parent.name() == FOLDER)
}

/// logind's, of one session (systemd's naming, logind-session.c `session_start_scope`).
fn is_scope(group: &Cgroup) -> bool {
    group.name().strip_prefix("session-").is_some_and(|rest| rest.ends_with(".scope"))
}

/// Whether the sshd that listens is in it too: somebody started that from a session, and all its connections are in there unless they were moved.
fn is_shared(group: &Cgroup, id: ConnectionId) -> bool {
    parent_of(id.pid).is_none_or(|listener| Cgroup::of(listener).is_ok_and(|its| its == *group))
}

/// By its file's name: after an upgrade the one that runs and the one that listens may be two files.
fn is_sshd_of_root(pid: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe"));
    let name = program.as_ref().ok().and_then(|program| program.file_name()?.to_str()).unwrap_or_default();
    SSHD.contains(&name.trim_end_matches(" (deleted)")) && effective_uid_of(pid) == Some(0)
}

fn remove_abandoned(folder: &Cgroup) {
    for group in folder.children() {
        if ConnectionId::parse(group.name()).is_some_and(|id| !id.lives()) {
            // Somebody who was left behind may live in it still.
            let _ = group.remove();
        }
    }
}

#[cfg(test)]
mod tests {
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
            let began = Instant::now();
            let mut child = Command::new("perl")
                .args(["-e", MONITOR])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
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
            let stopped = cell.freeze(&sshd).unwrap();
            assert!(stopped.processes >= 2 && stopped.all && cell.is_frozen(), "{stopped:?}");
            session.catch_up();
            for who in ["child", "left"] {
                assert!(!session.says(who, Duration::from_millis(100)), "{who} goes on");
            }
            assert_eq!(cell.gather(&sshd).unwrap(), 0, "nothing has come since");
            cell.thaw().unwrap();
            assert!(!cell.is_frozen());
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
        left.leave(Killed::Frozen);
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
        cell.leave(Killed::All);
        assert!(!cell.group.exists());
        cell.kill_all().unwrap();
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
        cell.leave(Killed::All);
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
        cell.leave(Killed::All);
        assert_eq!(Cell::noted(id, &whole), None);
        cell.group.make().unwrap();
        assert_eq!(Cell::noted(id, &whole), None, "made anew");
        cell.leave(Killed::Nothing);
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
        let stopped = cell.freeze(&BTreeSet::from([id.pid])).unwrap();
        let froze = began.elapsed();
        assert_eq!((stopped.processes, stopped.all), (3000, true));
        let mut connection = crate::connection::Connection::open(id).unwrap();
        let began = Instant::now();
        connection.hold_programs();
        let held = began.elapsed();
        println!("3000 processes: frozen in {froze:?}, held in {held:?}");
        // Nobody else's end comes meanwhile. Both take a fraction of it on a machine that has nothing else to do.
        assert!(froze < Duration::from_secs(1) && held < Duration::from_secs(2), "{froze:?} {held:?}");
        cell.kill_all().unwrap();
        monitor.wait().unwrap();
        cell.leave(Killed::All);
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
        assert!(cell.freeze(&sshd).unwrap().all);
        session.catch_up();
        assert!(!session.says("child", Duration::from_millis(100)), "it stands still");
        cell.thaw().unwrap();
        assert!(session.all_say());

        // This very process, its parent, stands for the sshd that listens.
        assert!(!is_shared(&scope, id) && is_shared(&Cgroup::of(std::process::id()).unwrap(), id));
        cell.freeze(&sshd).unwrap();
        cell.kill().unwrap();
        drop(session);
        cell.leave(Killed::Frozen);
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
}
