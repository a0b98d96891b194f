//! Processes: credentials, pidfds, start times, and starting children with a chosen identity and descriptors.

use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

/// Real user ID of this process.
pub fn real_uid() -> u32 {
    todo!()
}
/// Real group ID of this process.
pub fn real_gid() -> u32 {
    todo!()
}
/// Effective user ID.
pub fn effective_uid() -> u32 {
    todo!()
}
/// Supplementary groups of this process.
/// # Errors
/// getgroups failed.
pub fn groups() -> std::io::Result<Vec<u32>> {
    todo!()
}
/// The host name (uname nodename).
pub fn host_name() -> String {
    todo!()
}
/// Field 22 of /proc/PID/stat.
/// # Errors
/// No such process.
pub fn start_time(pid: u32) -> std::io::Result<u64> {
    let _ = pid;
    todo!()
}
/// /proc/sys/kernel/random/boot_id.
/// # Errors
/// Cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    todo!()
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
    pub fn open(pid: u32, start_time: u64) -> std::io::Result<Self> {
        let _ = (pid, start_time);
        todo!()
    }
    /// pidfd_send_signal.
    /// # Errors
    /// As the kernel says (ESRCH: it is gone).
    pub fn signal(&self, signal: i32) -> std::io::Result<()> {
        let _ = (signal, &self.fd);
        todo!()
    }
    /// Waits at most `timeout` for its end; true: it has ended.
    /// # Errors
    /// poll failed.
    pub fn wait_end(&self, timeout: std::time::Duration) -> std::io::Result<bool> {
        let _ = timeout;
        todo!()
    }
    /// The descriptor, to poll on (readable = it has ended).
    pub fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.fd)
    }
}

/// How a child shall run.
#[derive(Debug, Default)]
pub struct ChildSetup {
    /// (uid, gid): setgroups([]), setresgid, setresuid. `None`: unchanged.
    pub identity: Option<(u32, u32)>,
    /// Descriptors it gets, in order, as 3, 4, 5, …; everything else above 2 is closed.
    pub descriptors: Vec<OwnedFd>,
    /// SIGKILL it when its parent dies (PR_SET_PDEATHSIG, with the getppid check).
    pub die_with_parent: bool,
    /// A network namespace of its own with nothing in it (unshare CLONE_NEWNET; needs root).
    pub no_network: bool,
}

/// fork + exec of `program` with `args` and an environment of just `env`, stdin /dev/null. The parent must be single-threaded or only async-signal-safe calls are made between fork and exec.
/// # Errors
/// As the kernel says; exec failures are reported, not swallowed.
pub fn spawn(program: &Path, args: &[&str], env: &[(&str, &str)], setup: ChildSetup) -> std::io::Result<std::process::Child> {
    let _ = (program, args, env, setup);
    todo!()
}

/// Takes an inherited descriptor that the parent passed by `ChildSetup` (3, 4, …): once per number; sets close-on-exec.
/// # Errors
/// It is not open.
pub fn inherited_descriptor(number: RawFd) -> std::io::Result<OwnedFd> {
    let _ = number;
    todo!()
}

/// PR_SET_DUMPABLE 0, RLIMIT_CORE 0: no core dump, no ptrace by the same uid.
/// # Errors
/// As the kernel says.
pub fn harden_memory() -> std::io::Result<()> {
    todo!()
}

/// Resets SIGSEGV, SIGBUS and friends to their defaults: under Rust's own handler a crashing PAM module "returns".
pub fn reset_fault_handlers() {
    todo!()
}
