//! A child that is the user for just one connect(): same memory, a stack of its own, other credentials.
//!
//! In a set-uid program, and in a daemon that is not dumpable, it shares this process's memory (CLONE_VM): to copy the page tables of a process like sudo's, and to fault its pages in again afterwards, would take longer than all the talk with an
//! agent. So it may touch nothing but its job and its stack, and makes bare system calls: libc's wrappers would write to the `errno` of the thread that waits for it.
//! What keeps the user out of that memory while the child has the user's uid: it is not dumpable (no ptrace, no /proc/PID/mem, no core), and every signal that can be blocked is.
//! That belongs to the memory, not to the process, and children outlive our waiting for them: so it is never set back, and a process that is dumpable gives its child a copy.
//! (fs.suid_dumpable=1, which proc(5) calls insecure, opens the memory of every set-uid program to its caller, this one's too.)
//! The child sends no SIGCHLD, and no `wait` of the host's sees it.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{SockaddrLike, UnixAddr};
use nix::unistd::geteuid;
use syscalls::{Sysno, syscall};

use crate::agent_socket::ConnectError;
use crate::seqpacket::wait_readable;

/// What the child has to do, prepared: it must not allocate.
#[derive(Debug)]
struct ConnectJob {
    /// The socket, not connected.
    fd: RawFd,
    /// Where to.
    address: UnixAddr,
    /// Who the child is to be: user,
    uid: u32,
    /// group,
    gid: u32,
    /// and supplementary groups.
    groups: Vec<u32>,
}

/// The child's exit status when it could not become the user. Errno values are all below.
const NO_IDENTITY: i32 = 255;

/// How long a killed child is waited for. Only in a file system of the user's making can it take longer (fs/fuse/dev.c `request_wait_answer`): then it is left behind, holding
/// nothing but its own copy of the socket, until that file system lets it go. It runs no instruction any more: the kill comes first.
const GRACE: Duration = Duration::from_millis(200);

/// Bytes of the child's stack: it calls a dozen functions, none of them recursive.
const STACK: usize = 16 * 1024;

/// CLONE_VM where users are kept out of our memory for good: 2 (fs.suid_dumpable) does that as 0 does.
fn sharing() -> libc::c_int {
    // SAFETY: a system call on plain values (prctl(2)).
    match unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) } {
        0 | 2 => libc::CLONE_VM,
        _ => 0,
    }
}

/// Most children of one user's that are left behind at a time: whoever has so many file systems that hang gets no more of our time, memory and process IDs.
const MAX_LEFT: usize = 4;

/// Children that were killed and have not ended, each with what the kernel may still write to. No descriptor is kept: nobody else waits for such a child, so that its number stays its own.
static LEFT: Mutex<Vec<Left>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Left {
    pid: libc::pid_t,
    uid: u32,
    _memory: Box<Memory>,
}

/// Forgets those that have ended meanwhile. How many of this user's have not.
fn left_behind(uid: u32) -> usize {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.retain(|child| {
        // SAFETY: all zeroes is a siginfo_t, which is writable during the call; the child is ours and has not been waited for (waitid(2)).
        let result = unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::__WALL;
            let result = libc::waitid(libc::P_PID, child.pid.cast_unsigned(), &raw mut info, flags);
            if result == 0 { i64::from(info.si_pid()) } else { -1 }
        };
        // 0: it has not ended. An error: somebody else has waited for it, so that it has.
        result == 0
    });
    left.iter().filter(|child| child.uid == uid).count()
}

/// The child at work. A drop ends it.
#[derive(Debug)]
pub(crate) struct ConnectingChild {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    /// Whether it has been waited for.
    is_reaped: bool,
    /// Its own. `None`: left behind.
    memory: Option<Box<Memory>>,
}

impl ConnectingChild {
    /// Starts it: the user, and then connect() on its copy of `fd`.
    /// # Errors
    /// [`ConnectError`]
    pub(crate) fn start(
        fd: RawFd,
        address: UnixAddr,
        uid: u32,
        gid: u32,
        groups: &[u32],
    ) -> Result<Self, ConnectError> {
        if !geteuid().is_root() {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
        }
        if left_behind(uid) >= MAX_LEFT {
            return Err(ConnectError::Timeout);
        }
        let job = ConnectJob { fd, address, uid, gid, groups: groups.to_vec() };
        let memory = Memory::new(job);
        let (pid, pidfd, restored) = clone_child(&memory).map_err(ConnectError::NoChild)?;
        let child = ConnectingChild { pid, pidfd, is_reaped: false, memory: Some(memory) };
        restored?;
        Ok(child)
    }

    /// Waits for it, until the deadline.
    /// # Errors
    /// [`ConnectError`]
    pub(crate) fn finish(mut self, deadline: Instant) -> Result<(), ConnectError> {
        if !wait_readable(self.pidfd.as_fd(), Some(deadline))? {
            return Err(ConnectError::Timeout);
        }
        match self.reap()? {
            Some(0) => Ok(()),
            Some(NO_IDENTITY) => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, "cannot take on the user's identity").into())
            }
            Some(errno) => Err(io::Error::from_raw_os_error(errno).into()),
            None => Err(io::Error::from(io::ErrorKind::Interrupted).into()),
        }
    }

    /// Waits for the child, which ends soon. Its exit status; `None`: a signal ended it.
    fn reap(&mut self) -> io::Result<Option<i32>> {
        let status = reap(&self.pidfd)?;
        self.is_reaped = true;
        Ok(status)
    }

    fn end(&mut self) -> io::Result<()> {
        kill(&self.pidfd)?;
        if wait_readable(self.pidfd.as_fd(), Some(Instant::now() + GRACE))? {
            self.reap()?;
        }
        Ok(())
    }
}

impl Drop for ConnectingChild {
    fn drop(&mut self) {
        if !self.is_reaped {
            let _ = self.end();
        }
        if !self.is_reaped
            && let Some(memory) = self.memory.take()
        {
            // The kernel may still write the end of its call to it.
            let uid = memory.job.uid;
            LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(Left { pid: self.pid, uid, _memory: memory });
        }
    }
}

/// The child's own.
#[derive(Debug)]
struct Memory {
    stack: Box<[MaybeUninit<StackBlock>]>,
    job: ConnectJob,
}

/// A piece of the child's stack. The kernel and the child write to it while this process holds it: hence the cell.
#[derive(Debug)]
#[repr(align(16))]
struct StackBlock {
    _bytes: UnsafeCell<[u8; 16]>,
}

impl Memory {
    fn new(job: ConnectJob) -> Box<Self> {
        // Not filled: the child touches a page or two of it, and each that we touch is one more fault.
        Box::new(Memory { stack: Box::new_uninit_slice(STACK / size_of::<StackBlock>()), job })
    }
}

/// clone(2) with the memory in common or a copy of it, a pidfd, and *no* signal at its end. Beside pid and pidfd: whether the signal mask is what it was.
fn clone_child(memory: &Memory) -> io::Result<(libc::pid_t, OwnedFd, io::Result<()>)> {
    let mut pidfd: RawFd = -1;
    // With every signal blocked from its first instruction on, none of the host's handlers can run in the child.
    let mut mask = SigSet::empty();
    nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut mask))
        .map_err(io::Error::from)?;
    // SAFETY: clone(2) with CLONE_VM needs a stack that outlives the child (ConnectingChild holds it until the child has ended, or leaves it where it is after the kill) and grows down from its end on every
    // architecture that Rust has; `run_child` takes the job back as what it is, and the job is held as long as the stack.
    let pid = unsafe {
        let top = memory.stack.as_ptr().cast::<u8>().add(STACK).cast_mut().cast::<c_void>();
        let argument = ptr::from_ref(&memory.job).cast_mut().cast::<c_void>();
        libc::clone(run_child, top, sharing() | libc::CLONE_PIDFD, argument, &raw mut pidfd)
    };
    let failed = io::Error::last_os_error();
    let restored = mask.thread_set_mask().map_err(io::Error::from);
    if pid < 0 {
        return Err(failed);
    }
    // SAFETY: clone succeeded with CLONE_PIDFD: the descriptor is new and ours (clone(2)).
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }, restored))
}

/// `struct __user_cap_header_struct` of linux/capability.h. Version 3 is followed by two structs of three u32.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// In the child: the user, and then connect(). Gives nothing back: its exit status says what came of it.
extern "C" fn run_child(job: *mut c_void) -> libc::c_int {
    // SAFETY: `clone_child` gave a ConnectJob that lives as long as the child runs.
    let job = unsafe { &*job.cast::<ConnectJob>() };
    let status = match become_user(job) {
        Err(_) => NO_IDENTITY,
        // SAFETY: a system call on an address that outlives it (connect(2)).
        Ok(()) => match unsafe { syscall!(Sysno::connect, job.fd, job.address.as_ptr(), job.address.len()) } {
            Ok(_) => 0,
            Err(errno) => errno.into_raw(),
        },
    };
    // SAFETY: ends this task alone; nothing is dropped (exit(2)).
    unsafe {
        let _ = syscall!(Sysno::exit, status);
    }
    // Not reached: the child has ended.
    status
}

/// PR_SET_DUMPABLE comes first and last, since a change of credentials resets it: the child has the host's memory or a copy of it, and the user must not get to it with ptrace.
/// PR_SET_PDEATHSIG is reset by that change too, so it comes after.
fn become_user(job: &ConnectJob) -> Result<(), syscalls::Errno> {
    let version = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let nothing = [0u32; 6];
    // SAFETY: system calls on values and on memory that outlives them (prctl(2), close_range(2), setgroups(2), setresgid(2), setresuid(2), capset(2)); descriptors and credentials are this
    // child's own, CLONE_FILES and CLONE_THREAD being unset.
    unsafe {
        syscall!(Sysno::prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0)?;
        if job.fd > 0 {
            syscall!(Sysno::close_range, 0, job.fd - 1, 0)?;
        }
        syscall!(Sysno::close_range, job.fd + 1, libc::c_uint::MAX, 0)?;
        syscall!(Sysno::setgroups, job.groups.len(), job.groups.as_ptr())?;
        syscall!(Sysno::setresgid, job.gid, job.gid, job.gid)?;
        syscall!(Sysno::setresuid, job.uid, job.uid, job.uid)?;
        syscall!(Sysno::prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0)?;
        syscall!(Sysno::prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0)?;
        syscall!(Sysno::capset, &raw const version, nothing.as_ptr())?;
    }
    Ok(())
}

fn kill(child: &OwnedFd) -> io::Result<()> {
    // SAFETY: a system call on a descriptor that is open; null stands for "as kill(2) does" (pidfd_send_signal(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            child.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match result {
        0 => Ok(()),
        // It has just ended by itself.
        _ if Errno::last() == Errno::ESRCH => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn reap(child: &OwnedFd) -> io::Result<Option<i32>> {
    // SAFETY: siginfo_t is plain data for which all zeroes is a valid value (waitid(2)).
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    loop {
        // __WALL: a child without SIGCHLD is not waited for otherwise.
        // SAFETY: the descriptor is an open pidfd, and `info` is writable during the call (waitid(2)).
        let result = unsafe {
            libc::waitid(libc::P_PIDFD, child.as_raw_fd() as libc::id_t, &raw mut info, libc::WEXITED | libc::__WALL)
        };
        match result {
            // SAFETY: waitid succeeded, so `info` describes an ended child and si_status is valid (waitid(2)).
            0 => return Ok((info.si_code == libc::CLD_EXITED).then(|| unsafe { info.si_status() })),
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
}
