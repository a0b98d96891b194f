//! Processes: credentials, pidfds, start times, and starting children with a chosen identity and descriptors.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::detached::unblock_signals;
use crate::seqpacket::wait_readable;

/// Real user ID of this process.
pub fn real_uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

/// Real group ID of this process.
pub fn real_gid() -> u32 {
    nix::unistd::getgid().as_raw()
}

/// Effective user ID.
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Supplementary groups of this process.
/// # Errors
/// getgroups failed.
pub fn groups() -> io::Result<Vec<u32>> {
    // nix's asks for the most that there can be first, which opens a file in /proc.
    let mut groups = vec![0; FEW_GROUPS];
    loop {
        let room = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: there is room for as many as we say (getgroups(2)).
        let count = unsafe { libc::getgroups(room, groups.as_mut_ptr()) };
        match usize::try_from(count) {
            Ok(count) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err(_) if Errno::last() == Errno::EINVAL && groups.len() < MOST_GROUPS => groups.resize(MOST_GROUPS, 0),
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
}

/// As many as most have.
const FEW_GROUPS: usize = 64;
/// As many as Linux lets a process have (NGROUPS_MAX).
const MOST_GROUPS: usize = 65_536;

/// The host name (uname nodename); empty if there is none.
pub fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Field 22 of /proc/PID/stat, clock ticks since boot.
/// # Errors
/// No such process.
pub fn start_time(pid: u32) -> io::Result<u64> {
    Stat::of(pid).map(|stat| stat.start_time)
}

/// How long ago a process with this start time (field 22 of /proc/PID/stat) was started: by the clock that counts since boot, sleep included, which nobody sets.
/// # Errors
/// The system does not say how long a tick is.
pub fn age(start_time: u64) -> io::Result<Duration> {
    let per_second =
        sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0);
    let per_second = per_second.ok_or(io::ErrorKind::Unsupported)?;
    let since_boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    let started = Duration::from_millis(start_time.saturating_mul(1000) / per_second);
    Ok(since_boot.saturating_sub(started))
}

/// What /proc/PID/stat says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Process ID, in the pid namespace that /proc is of.
    pub pid: u32,
    /// Process ID of its parent; 0: none, or none that can be seen from here.
    pub parent: u32,
    /// Clock ticks since boot.
    pub start_time: u64,
    /// It has executed no program since it was forked.
    pub is_mere_fork: bool,
}

/// PF_FORKNOEXEC (include/linux/sched.h): each fork has it until it executes a program.
const FORKED_NOT_EXECUTED: u32 = 0x40;

/// Longer than /proc/PID/stat can be: 52 fields, all but the command (64 bytes) of at most 20 digits and a sign (fs/proc/array.c, do_task_stat).
const STAT_LENGTH: usize = 2048;

impl Stat {
    /// At this moment.
    /// # Errors
    /// NotFound: no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        Stat::read(&format!("/proc/{pid}/stat"))
    }

    /// Of this process.
    /// # Errors
    /// NotFound: /proc is of a pid namespace that this process is not in.
    pub fn of_self() -> io::Result<Self> {
        Stat::read("/proc/self/stat")
    }

    fn read(path: &str) -> io::Result<Self> {
        Stat::parse(&read_stat(Path::new(path))?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected form of /proc/PID/stat"))
    }

    /// The command, in brackets, may hold anything: what counts comes before the first bracket and after the last (proc(5)).
    fn parse(stat: &[u8]) -> Option<Self> {
        let before = stat.get(..stat.iter().position(|byte| *byte == b'(')?)?;
        let after = stat.get(stat.iter().rposition(|byte| *byte == b')')?..)?;
        let pid = std::str::from_utf8(before).ok()?.trim_end().parse().ok()?;
        // The bracket itself stands for field 2.
        let mut fields = std::str::from_utf8(after).ok()?.split_ascii_whitespace();
        let parent = fields.nth(4 - 2)?.parse().ok()?;
        let flags: u32 = fields.nth(9 - 4 - 1)?.parse().ok()?;
        let start_time = fields.nth(22 - 9 - 1)?.parse().ok()?;
        Some(Stat { pid, parent, start_time, is_mere_fork: flags & FORKED_NOT_EXECUTED != 0 })
    }
}

fn read_stat(path: &Path) -> io::Result<Vec<u8>> {
    let mut stat = vec![0; STAT_LENGTH];
    // The kernel gives all of it at once (fs/seq_file.c): a file without a size would be read in growing pieces.
    let length = File::open(path).and_then(|mut file| file.read(&mut stat)).map_err(|error| {
        // It ended while we read.
        if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error }
    })?;
    stat.truncate(length);
    Ok(stat)
}

/// Whether nothing of a process runs any more. As long as somebody traces one of its threads and does not wait for that, its end is told to nobody (ptrace(2)), nor by its pidfd.
pub fn is_dead(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| match read_stat(&thread.path().join("stat")) {
        Ok(stat) => is_of_the_dead(&stat),
        // It is gone; one that cannot be asked may live.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    })
}

/// The state comes behind the command, which may hold anything (proc(5)).
fn is_of_the_dead(stat: &[u8]) -> bool {
    let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2));
    matches!(state, Some(b'Z' | b'X'))
}

/// /proc/sys/kernel/random/boot_id.
/// # Errors
/// Cannot be read.
pub fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let id = text.trim();
    if id.is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(id.to_owned())
}

/// A process held by its pidfd: never another one that got the same number.
#[derive(Debug)]
pub struct ProcessHandle {
    fd: OwnedFd,
}

impl ProcessHandle {
    /// Opens; then the start time must be `start_time`, or it is not found.
    /// # Errors
    /// NotFound and others.
    pub fn open(pid: u32, start_time: u64) -> io::Result<Self> {
        let handle = ProcessHandle::open_any(pid)?;
        // After the pidfd: were the number reused between the two, the start time would be a later one.
        if self::start_time(pid)? != start_time {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(handle)
    }

    /// Whoever has the number now. What is asked about the number afterwards is about this process if it still lives after the answer.
    /// # Errors
    /// NotFound and others.
    pub fn open_any(pid: u32) -> io::Result<Self> {
        let number = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        // SAFETY: a system call on plain values (pidfd_open(2)).
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        let fd = match RawFd::try_from(raw) {
            // SAFETY: pidfd_open succeeded: the descriptor is new and ours, close-on-exec (pidfd_open(2)).
            Ok(raw) if raw >= 0 => unsafe { OwnedFd::from_raw_fd(raw) },
            _ if Errno::last() == Errno::ESRCH => return Err(io::ErrorKind::NotFound.into()),
            _ => return Err(io::Error::last_os_error()),
        };
        Ok(ProcessHandle { fd })
    }

    /// pidfd_send_signal.
    /// # Errors
    /// As the kernel says (ESRCH: it is gone).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: a system call on an open pidfd; null stands for "as kill(2) does" (pidfd_send_signal(2)).
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits at most `timeout` for its end; true: it has ended.
    /// # Errors
    /// poll failed.
    pub fn wait_end(&self, timeout: Duration) -> io::Result<bool> {
        wait_readable(self.fd.as_fd(), Instant::now().checked_add(timeout))
    }

    /// The descriptor, to poll on (readable = it has ended).
    pub fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        AsFd::as_fd(&self.fd)
    }
}

/// How a child shall run.
#[derive(Debug, Default)]
pub struct ChildSetup {
    /// (uid, gid): an empty bounding set, setgroups([]), setresgid, setresuid. `None`: unchanged.
    pub identity: Option<(u32, u32)>,
    /// Descriptors it gets, in order, as 3, 4, 5, …; everything else above 2 is closed.
    pub descriptors: Vec<OwnedFd>,
    /// SIGKILL it when its parent dies (PR_SET_PDEATHSIG, with the getppid check). The parent is the *thread* that calls [`spawn`].
    pub die_with_parent: bool,
    /// A network namespace of its own with nothing in it (unshare CLONE_NEWNET; needs root).
    pub no_network: bool,
}

/// First descriptor number that a child gets from [`ChildSetup::descriptors`].
const FIRST_DESCRIPTOR: RawFd = 3;

/// fork + exec of `program` with `args` and an environment of just `env`, stdin /dev/null, signal mask empty. The parent must be single-threaded, or at least no other
/// thread of it may close descriptors meanwhile; only async-signal-safe calls are made between fork and exec.
/// # Errors
/// As the kernel says; exec failures are reported, not swallowed.
pub fn spawn(program: &Path, args: &[&str], env: &[(&str, &str)], setup: ChildSetup) -> io::Result<Child> {
    let end = RawFd::try_from(setup.descriptors.len())
        .ok()
        .and_then(|count| count.checked_add(FIRST_DESCRIPTOR))
        .ok_or(io::ErrorKind::InvalidInput)?;

    // In the child nothing that is still needed may lie on the numbers 3 .. end: neither one of the descriptors themselves (they are moved up here), nor the pipe on
    // which std reports a failed exec (made later, above `end`, since every number below is taken by then).
    let sources = move_up(setup.descriptors, end)?;
    let placeholders = occupy_below(end)?;

    let raw: Vec<RawFd> = sources.iter().map(AsRawFd::as_raw_fd).collect();
    let (identity, die_with_parent, no_network) = (setup.identity, setup.die_with_parent, setup.no_network);
    let parent = std::process::id() as libc::pid_t;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env.iter().copied()).stdin(Stdio::null());
    // A signal for the parent's group, as a terminal sends it, is the parent's to hand on.
    command.process_group(0);
    // SAFETY: the closure runs between fork and exec; `prepare_child` makes system calls only, and neither allocates nor locks (CommandExt::pre_exec).
    unsafe {
        command.pre_exec(move || prepare_child(&raw, end, identity, no_network, die_with_parent.then_some(parent)));
    }
    let child = command.spawn();
    drop((sources, placeholders));
    child
}

/// Has what `command` starts get this signal when the *thread* that starts it ends, however that ends (PR_SET_PDEATHSIG; a set-uid program does not keep it).
pub fn end_with_parent(command: &mut Command, signal: i32) {
    let parent = std::process::id() as libc::pid_t;
    // SAFETY: the closure runs between fork and exec; `end_with` makes system calls only, and neither allocates nor locks (CommandExt::pre_exec).
    unsafe {
        command.pre_exec(move || end_with(parent, signal));
    }
}

/// In the child.
fn end_with(parent: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: a system call on plain values (prctl(2)).
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) })?;
    // SAFETY: getppid cannot fail (getppid(2)).
    if unsafe { libc::getppid() } == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

fn move_up(descriptors: Vec<OwnedFd>, end: RawFd) -> io::Result<Vec<OwnedFd>> {
    descriptors
        .into_iter()
        .map(|fd| {
            let raw = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(end))?;
            // SAFETY: F_DUPFD_CLOEXEC succeeded: the descriptor is new and ours (fcntl(2)).
            Ok(unsafe { OwnedFd::from_raw_fd(raw) })
        })
        .collect()
}

/// Opens /dev/null, close-on-exec, until every number below `end` is taken.
fn occupy_below(end: RawFd) -> io::Result<Vec<OwnedFd>> {
    let mut placeholders = Vec::new();
    loop {
        let fd = OwnedFd::from(std::fs::File::open("/dev/null")?);
        if fd.as_raw_fd() >= end {
            return Ok(placeholders);
        }
        placeholders.push(fd);
    }
}

/// In the child, before exec. Raw system calls for the identity: libc's wrappers would talk to threads that are not there.
fn prepare_child(
    sources: &[RawFd],
    end: RawFd,
    identity: Option<(u32, u32)>,
    no_network: bool,
    parent: Option<libc::pid_t>,
) -> io::Result<()> {
    unblock_signals();
    for (target, &source) in (FIRST_DESCRIPTOR..).zip(sources) {
        // SAFETY: a system call on numbers; source lies above all targets, and nothing else of the child's is used on a target's number (dup2(2)).
        check(unsafe { libc::dup2(source, target) }.into())?;
    }
    // Not closed but close-on-exec: std's own pipe must live until exec.
    // SAFETY: a system call on plain values (close_range(2)).
    check(unsafe { libc::syscall(libc::SYS_close_range, end, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    if no_network {
        // SAFETY: a system call on a plain value (unshare(2)).
        check(unsafe { libc::unshare(libc::CLONE_NEWNET) }.into())?;
    }
    if let Some((uid, gid)) = identity {
        drop_bounding_set()?;
        // SAFETY: system calls on plain values; an empty list is not read (setgroups(2), setresgid(2), setresuid(2)).
        unsafe {
            check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
            check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        }
    }
    // After the identity: a change of credentials clears it (prctl(2)).
    parent.map_or(Ok(()), |parent| end_with(parent, libc::SIGKILL))
}

/// Before the uid: CAP_SETPCAP goes with it, and the program itself could not empty the set any more.
fn drop_bounding_set() -> io::Result<()> {
    for number in 0..=63 {
        // SAFETY: a system call on plain values (prctl(2)).
        match check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
            // The first number that this kernel does not know.
            Err(error) if number > 0 && error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes an inherited descriptor that the parent passed by `ChildSetup` (3, 4, …): once per number; sets close-on-exec.
/// To be called first thing in main, before anything else opens a descriptor.
/// # Errors
/// It is not open, was taken before, or its number is not from 3 to 63.
pub fn inherited_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    if !(FIRST_DESCRIPTOR..64).contains(&number) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bit = 1u64 << number;
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: fcntl with F_GETFD is fine on any number (fcntl(2)).
    check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, and by ChildSetup's contract the parent passed it to us and to nobody else in this process; TAKEN makes this owner the only one.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// Makes `target` standard output and standard error of this process.
/// # Errors
/// As the kernel says.
pub fn redirect_output(target: OwnedFd) -> io::Result<()> {
    nix::unistd::dup2_stdout(&target)?;
    nix::unistd::dup2_stderr(&target)?;
    Ok(())
}

/// PR_SET_DUMPABLE 0, RLIMIT_CORE 0: no core dump, no ptrace by the same uid.
/// # Errors
/// As the kernel says.
pub fn harden_memory() -> io::Result<()> {
    nix::sys::prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// Resets SIGSEGV, SIGBUS and friends to their defaults: under Rust's own handler a crashing PAM module "returns".
pub fn reset_fault_handlers() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGABRT,
        Signal::SIGSYS,
        Signal::SIGTRAP,
    ] {
        // These signals exist and may be handled: sigaction has no reason to fail.
        // SAFETY: the default action runs no code of ours (sigaction(2)).
        let _ = unsafe { sigaction(signal, &default) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn reads_what_an_ugly_command_name_may_hide() {
        let stat = b"7 (a) b) 1 (c) 9) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9\n";
        let expected = Some(Stat { pid: 7, parent: 3, start_time: 4242, is_mere_fork: false });
        assert_eq!(Stat::parse(stat), expected);
        // No text at all, and a line's end.
        assert_eq!(Stat::parse(&[b"7 (\xff) 7 (\n" as &[u8], stat].concat()), expected);
        for junk in [&b""[..], b"7 (x", b"7 (x) S", b"x (y) S 3 7", b"7 (x) S 3 1 2 3 4 5 6 7 8", b"42 (a) S 1"] {
            assert_eq!(Stat::parse(junk), None, "{}", String::from_utf8_lossy(junk));
        }
        let me = Stat::of_self().unwrap();
        assert_eq!((me.pid, me.parent), (std::process::id(), std::os::unix::process::parent_id()));
        assert_eq!(Stat::of(me.pid).unwrap(), me);
        assert!(me.start_time > 0);
        assert_eq!(start_time(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_process_is_found_whatever_bytes_it_is_called() {
        let script = r#"$0 = "\xff) S 1\n(\xfe"; $| = 1; print "named\n"; sleep 60"#;
        let mut child = Command::new("perl").args(["-e", script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut [0; 6]).unwrap();
        let stat = Stat::of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(stat.unwrap().parent, std::process::id());
    }

    #[test]
    fn a_handle_needs_the_right_start_time() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let start = start_time(child.id()).unwrap();
        assert_eq!(ProcessHandle::open(child.id(), start + 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        let handle = ProcessHandle::open(child.id(), start).unwrap();
        assert!(!handle.wait_end(Duration::from_millis(10)).unwrap());
        handle.signal(libc::SIGTERM).unwrap();
        assert!(handle.wait_end(Duration::from_secs(10)).unwrap());
        child.wait().unwrap();
        assert_eq!(handle.signal(libc::SIGTERM).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert_eq!(ProcessHandle::open(child.id(), start).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(ProcessHandle::open(u32::MAX, 0).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_inherited_descriptor_is_taken_once() {
        assert!(inherited_descriptor(2).is_err());
        assert!(inherited_descriptor(64).is_err());
        assert!(inherited_descriptor(-1).is_err());
        assert_eq!(inherited_descriptor(63).unwrap_err().raw_os_error(), Some(libc::EBADF));
        let file = std::fs::File::open("/dev/null").unwrap();
        let raw = fcntl(&file, FcntlArg::F_DUPFD(50)).unwrap();
        let fd = inherited_descriptor(raw).unwrap();
        assert_eq!(fcntl(&fd, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
        assert_eq!(inherited_descriptor(raw).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn names_of_this_boot_and_host() {
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(!host_name().is_empty());
        assert!(groups().is_ok());
    }
}
