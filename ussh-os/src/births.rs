//! Sees to every process that another one starts, before that runs its first instruction, and to what it connects to and accepts, before that is done: ptrace(2), PTRACE_SEIZE with
//! PTRACE_O_TRACEFORK, PTRACE_SYSCALL.
//!
//! The process itself runs as before; it waits for us where it forks, takes a signal or makes a system call. All that is asked is answered by the thread that seized it, which hears of it by SIGCHLD.
//! Should that end, the kernel lets the process go on, and what it starts too. Needs CAP_SYS_PTRACE, and nobody else who traces it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::sshd_connection::socket_at;

/// What a stop means (linux/ptrace.h). A stop by PTRACE_INTERRUPT, and one with its process group, which is not heeded.
const EVENT_STOP: i32 = libc::PTRACE_EVENT_STOP;

/// How many stops at system calls are answered between two calls of [`Births::count_anew`]; then it is left standing.
/// What a frozen session's sshd needs stays far below it; one that a client keeps busy would keep us busy, too.
const MOST_STOPS: u32 = 8000;
/// No address family: connect(2) fails.
const NO_FAMILY: [u8; 2] = [0xff; 2];
/// Of no peer's address: accept(2) closes what it has accepted, and fails.
const NO_LENGTH: [u8; 4] = [0xff; 4];
/// Neither tun nor tap, in `struct ifreq`.
const NO_FLAGS: [u8; 2] = [0; 2];
const FLAGS_IN_IFREQ: u64 = 16;
/// linux/if_tun.h
const TUNSETIFF: u64 = 0x4004_54ca;

/// What a process is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// connect(2) to this address (`struct sockaddr`).
    Connect(Vec<u8>),
    /// accept(2) by the listening socket of this inode; `None`: that was not to be seen.
    Accept(Option<u32>),
    /// ioctl(2), TUNSETIFF
    Tunnel,
}

impl Call {
    /// With where to write what, so that it fails. `None`: it is another call.
    fn of(pid: Pid) -> io::Result<Option<(Self, u64, &'static [u8])>> {
        let info = ptrace::syscall_info(pid)?;
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return Ok(None);
        }
        // SAFETY: `op` says that it is this member, which is of integers alone.
        let entry = unsafe { info.u.entry };
        let [first, second, third, ..] = entry.args;
        Ok(match i64::try_from(entry.nr) {
            Ok(libc::SYS_connect) => Some((Call::Connect(address(pid, second, third)?), second, &NO_FAMILY)),
            Ok(libc::SYS_accept | libc::SYS_accept4) => {
                Some((Call::Accept(socket_at(pid.as_raw().unsigned_abs(), first)), third, &NO_LENGTH))
            }
            Ok(libc::SYS_ioctl) if second == TUNSETIFF => {
                Some((Call::Tunnel, third.wrapping_add(FLAGS_IN_IFREQ), &NO_FLAGS))
            }
            _ => None,
        })
    }
}

/// A `struct sockaddr` of it. A pointer to nowhere is the kernel's to refuse.
fn address(pid: Pid, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let longest = size_of::<libc::sockaddr_storage>();
    let mut bytes = vec![0; usize::try_from(length).map_or(longest, |length| length.min(longest))];
    let memory = OpenOptions::new().read(true).open(format!("/proc/{pid}/mem"))?;
    memory.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn write(pid: Pid, at: u64, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).open(format!("/proc/{pid}/mem"))?.write_all_at(bytes, at)
}

/// A process whose children are seen to.
#[derive(Debug)]
pub struct Births {
    parent: Pid,
    /// Born, and not yet let go.
    newborn: Vec<Pid>,
    /// To be let go at its next stop.
    releasing: bool,
    over: bool,
    /// At system calls, since they were counted anew.
    stops: u32,
    /// It waits at a system call that was not to be, and is not let go on.
    stands: bool,
}

impl Births {
    /// From now on.
    /// # Errors
    /// As the kernel says: EPERM if somebody else traces it or nobody may, ESRCH if it is gone.
    pub fn seize(pid: u32) -> io::Result<Self> {
        let parent = libc::pid_t::try_from(pid).map(Pid::from_raw).map_err(|_| io::ErrorKind::NotFound)?;
        let forks = ptrace::Options::PTRACE_O_TRACEFORK
            | ptrace::Options::PTRACE_O_TRACEVFORK
            | ptrace::Options::PTRACE_O_TRACECLONE;
        ptrace::seize(parent, forks | ptrace::Options::PTRACE_O_TRACESYSGOOD)?;
        // Its system calls are told after a stop only.
        ptrace::interrupt(parent)?;
        Ok(Births { parent, newborn: Vec::new(), releasing: false, over: false, stops: 0, stands: false })
    }

    /// The process.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent.as_raw().unsigned_abs()
    }

    /// Answers what has come since, and waits for nothing. `see_to` gets the number of each newborn while that stands still; then it is let go.
    /// `allows` is asked before each [`Call`], which fails otherwise.
    pub fn attend(&mut self, mut see_to: impl FnMut(u32), mut allows: impl FnMut(&Call) -> bool) {
        while !self.over && !self.stands {
            match waitpid(self.parent, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(WaitStatus::PtraceEvent(_, _, EVENT_STOP)) => self.go_on(None),
                Ok(WaitStatus::PtraceEvent(..)) => {
                    // One that was killed meanwhile says nothing any more.
                    if let Some(child) = ptrace::getevent(self.parent).ok().and_then(|pid| i32::try_from(pid).ok()) {
                        see_to(child.unsigned_abs());
                        self.newborn.push(Pid::from_raw(child));
                    }
                    self.go_on(None);
                }
                Ok(WaitStatus::PtraceSyscall(_)) => self.on_system_call(&mut allows),
                Ok(WaitStatus::Stopped(_, signal)) => self.go_on(Some(signal)),
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => self.over = true,
                Err(Errno::EINTR) => {}
                // A signal without a name (of the real-time ones): it is not passed on.
                Ok(_) | Err(_) => self.go_on(None),
            }
        }
        self.newborn.retain(|child| match waitpid(*child, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => true,
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => false,
            Ok(WaitStatus::Stopped(_, signal)) => {
                ptrace::detach(*child, Some(signal)).is_err_and(|e| e != Errno::ESRCH)
            }
            Ok(_) | Err(_) => ptrace::detach(*child, None).is_err_and(|e| e != Errno::ESRCH),
        });
    }

    /// Lets it go, at its next stop, which is asked for: [`Births::attend`] it until [`Births::is_over`].
    pub fn release(&mut self) {
        if !self.releasing {
            self.releasing = true;
            // ESRCH: it is gone, or in a stop already.
            let _ = ptrace::interrupt(self.parent);
            if std::mem::take(&mut self.stands) {
                self.go_on(None);
            }
        }
    }

    /// Takes a release back that has not come about yet.
    pub fn keep(&mut self) {
        self.releasing = false;
    }

    /// Whether it is seen to no more, and nothing it has started waits.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over && self.newborn.is_empty()
    }

    /// Whether it is left standing at a system call: it made too many, or what it was about to do could not be prevented otherwise.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.stands
    }

    /// How many stops at system calls (two each) there were since this was asked last.
    pub fn count_anew(&mut self) -> u32 {
        std::mem::take(&mut self.stops)
    }

    fn on_system_call(&mut self, allows: &mut impl FnMut(&Call) -> bool) {
        self.stops += 1;
        if !self.releasing {
            self.stands = self.stops >= MOST_STOPS || self.prevent(allows).is_err_and(|e| !is_gone(&e));
        }
        if !self.stands {
            self.go_on(None);
        }
    }

    /// Has a call fail that is not allowed.
    fn prevent(&self, allows: &mut impl FnMut(&Call) -> bool) -> io::Result<()> {
        match Call::of(self.parent)? {
            Some((call, at, bytes)) if !allows(&call) => write(self.parent, at, bytes),
            _ => Ok(()),
        }
    }

    fn go_on(&mut self, signal: Option<Signal>) {
        if self.releasing {
            self.over = ptrace::detach(self.parent, signal) != Err(Errno::EINVAL);
        } else {
            // ESRCH: it was killed; its end is told next.
            let _ = ptrace::syscall(self.parent, signal);
        }
    }
}

/// It was killed; its end is told next.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ESRCH as i32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, ChildStdin, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cgroup::Cgroup;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Says "parent", and has a fork of it say "child", for each line that it is given; and "usr1" when it gets that signal.
    const FORKS: &str = "$| = 1; $SIG{USR1} = sub { print \"usr1\\n\" }; print \"ready\\n\"; while (1) { $_ = <STDIN>; next if !defined $_ && $!{EINTR}; \
        last unless defined $_; my $pid = fork; unless ($pid) { print \"child\\n\"; exit } print \"parent\\n\" }";

    struct Forker {
        child: Child,
        input: ChildStdin,
        lines: std::sync::mpsc::Receiver<String>,
    }

    impl Forker {
        fn start() -> Self {
            Self::start_with(FORKS)
        }

        fn start_with(program: &str) -> Self {
            let mut child = Command::new("perl")
                .args(["-e", program])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let (send, lines) = std::sync::mpsc::channel();
            std::thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| send.send(line.unwrap())));
            let forker = Forker { child, input, lines };
            forker.lines.recv_timeout(PATIENCE).unwrap();
            forker
        }

        fn fork(&mut self) {
            self.input.write_all(b"\n").unwrap();
        }

        /// The next lines, sorted.
        fn says(&self, count: usize) -> Vec<String> {
            let mut lines: Vec<String> = (0..count).map(|_| self.lines.recv_timeout(PATIENCE).unwrap()).collect();
            lines.sort();
            lines
        }

        /// The same of one that is attended meanwhile, without which the end of a child would stop it (SIGCHLD), and by which nobody is born.
        fn says_to(&self, births: &mut Births, count: usize) -> Vec<String> {
            let mut lines = Vec::new();
            let nobody = |_| panic!("nobody is born");
            attend_until(births, nobody, |_| {
                lines.extend(self.lines.try_iter().take(count - lines.len()));
                lines.len() == count
            });
            lines.sort();
            lines
        }
    }

    fn attend_until(births: &mut Births, mut see_to: impl FnMut(u32), mut done: impl FnMut(&Births) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            births.attend(&mut see_to, |_| true);
            if done(births) {
                return;
            }
            assert!(Instant::now() < deadline, "{births:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_newborn_does_nothing_before_it_was_seen_to_and_its_parent_goes_on() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let group = Cgroup::of(std::process::id()).unwrap().child(&format!("ussh-os-births-{}", std::process::id()));
        group.make().unwrap();
        group.freeze().unwrap();
        let mut forker = Forker::start();
        let mut births = Births::seize(forker.child.id()).unwrap();
        assert_eq!(births.parent(), forker.child.id());
        forker.fork();
        let seen = std::cell::Cell::new(0);
        attend_until(
            &mut births,
            |child| {
                seen.set(seen.get() + 1);
                group.take(child).unwrap()
            },
            |births| births.newborn.is_empty() && !group.processes().unwrap().is_empty(),
        );
        assert_eq!((seen.get(), forker.says_to(&mut births, 1)), (1, vec!["parent".to_owned()]));
        assert!(forker.lines.recv_timeout(Duration::from_millis(100)).is_err(), "born frozen");
        // Signals come through.
        nix::sys::signal::kill(births.parent, Signal::SIGUSR1).unwrap();
        assert_eq!(forker.says_to(&mut births, 1), ["usr1"]);

        group.thaw().unwrap();
        assert_eq!(forker.says_to(&mut births, 1), ["child"]);
        // A release that is taken back is none.
        births.release();
        births.keep();
        forker.fork();
        attend_until(&mut births, |_| seen.set(seen.get() + 1), |births| births.newborn.is_empty() && seen.get() == 2);
        assert_eq!(forker.says_to(&mut births, 2), ["child", "parent"]);
        births.release();
        attend_until(&mut births, |_| {}, Births::is_over);
        forker.fork();
        assert_eq!(forker.says(2), ["child", "parent"], "as before");
        assert!(group.wait_empty(PATIENCE).unwrap() || !group.processes().unwrap().is_empty());
        forker.child.kill().unwrap();
        forker.child.wait().unwrap();
        group.kill().unwrap();
        assert!(group.wait_empty(PATIENCE).unwrap());
        group.remove().unwrap();
    }

    #[test]
    fn one_that_ends_is_over_and_one_that_is_not_there_is_not_seized() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let mut forker = Forker::start();
        let mut births = Births::seize(forker.child.id()).unwrap();
        assert!(Births::seize(forker.child.id()).is_err(), "once only");
        forker.child.kill().unwrap();
        attend_until(&mut births, |_| {}, Births::is_over);
        let _ = forker.child.wait();
        assert!(Births::seize(forker.child.id()).is_err());
        assert!(Births::seize(u32::MAX).is_err());
    }

    /// Connects by Unix socket to the path of each line, and says how that went.
    const CONNECTS: &str = "use Socket; $| = 1; print \"ready\\n\"; while (<STDIN>) { chomp; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
        print connect($s, pack_sockaddr_un($_)) ? \"through\\n\" : \"failed\\n\"; $SIG{ALRM} = sub {}; }";

    #[test]
    fn a_call_that_is_not_allowed_fails_and_too_many_are_not_answered() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let path = std::env::temp_dir().join(format!("ussh-os-calls-{}", std::process::id()));
        let service = std::os::unix::net::UnixListener::bind(&path).unwrap();
        service.set_nonblocking(true).unwrap();
        let mut forker = Forker::start_with(CONNECTS);
        let mut births = Births::seize(forker.child.id()).unwrap();
        let wanted = [&[1, 0], path.as_os_str().as_encoded_bytes()].concat();
        for (is_allowed, answer) in [(true, "through"), (false, "failed"), (true, "through")] {
            forker.input.write_all(format!("{}\n", path.display()).as_bytes()).unwrap();
            let (mut said, mut asked) = (None, 0);
            let deadline = Instant::now() + PATIENCE;
            while said.is_none() && Instant::now() < deadline {
                births.attend(
                    |_| panic!("nobody is born"),
                    |call| {
                        asked += 1;
                        assert!(matches!(call, Call::Connect(address) if address.starts_with(&wanted)), "{call:?}");
                        is_allowed
                    },
                );
                said = forker.lines.recv_timeout(Duration::from_millis(1)).ok();
            }
            assert_eq!((said.as_deref(), asked), (Some(answer), 1));
            assert_eq!(service.accept().is_ok(), is_allowed);
        }
        assert!(births.count_anew() > 0 && births.count_anew() == 0 && !births.stands());
        // Many more calls than are answered.
        for _ in 0..MOST_STOPS / 4 {
            forker.input.write_all(b"/nowhere\n").unwrap();
        }
        attend_until(&mut births, |_| {}, Births::stands);
        assert_eq!(births.count_anew(), MOST_STOPS);
        births.release();
        attend_until(&mut births, |_| {}, Births::is_over);
        assert_eq!(forker.says(MOST_STOPS as usize / 4).len(), MOST_STOPS as usize / 4, "as before");
        std::fs::remove_file(&path).unwrap();
        forker.child.kill().unwrap();
        forker.child.wait().unwrap();
    }

    /// Listens at the path that it is given first, and accepts for each further line.
    const ACCEPTS: &str = "use Socket; $| = 1; print \"ready\\n\"; my $p = <STDIN>; chomp $p; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
        bind($s, pack_sockaddr_un($p)) or die; listen($s, 5) or die; print \"listens\\n\"; while (<STDIN>) { print accept(my $c, $s) ? \"through\\n\" : \"failed\\n\" }";

    #[test]
    fn who_accepts_is_told_by_the_listener() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let path = std::env::temp_dir().join(format!("ussh-os-accepts-{}.sock", std::process::id()));
        let mut forker = Forker::start_with(ACCEPTS);
        forker.input.write_all(format!("{}\n", path.display()).as_bytes()).unwrap();
        assert_eq!(forker.says(1), ["listens"]);
        let listener = crate::sshd_connection::socket_inodes(forker.child.id());
        assert_eq!(listener.len(), 1);
        let mut births = Births::seize(forker.child.id()).unwrap();
        for (is_allowed, answer) in [(true, "through"), (false, "failed")] {
            let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
            forker.input.write_all(b"\n").unwrap();
            let (mut said, mut asked) = (None, Vec::new());
            let deadline = Instant::now() + PATIENCE;
            while said.is_none() && Instant::now() < deadline {
                births.attend(
                    |_| panic!("nobody is born"),
                    |call| {
                        asked.push(call.clone());
                        is_allowed
                    },
                );
                said = forker.lines.recv_timeout(Duration::from_millis(1)).ok();
            }
            assert_eq!((said.as_deref(), asked), (Some(answer), vec![Call::Accept(listener.first().copied())]));
        }
        births.release();
        attend_until(&mut births, |_| {}, Births::is_over);
        std::fs::remove_file(&path).unwrap();
        forker.child.kill().unwrap();
        forker.child.wait().unwrap();
    }
}
