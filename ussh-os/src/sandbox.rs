//! Giving privilege up for good: no capabilities, NoNewPrivs, a seccomp filter.
//!
//! What a process may call is an allow-list: everything else fails with EPERM. The calls with which taken-over code would go on to other processes or to the kernel
//! kill it at once, so that an attempt is seen.

use std::collections::BTreeMap;
use std::io;

use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// Which filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// usshca-front: an open TCP socket, its IPC sockets, memory, time, epoll. No open, no socket, no descriptor sent to anybody, no exec, no fork.
    Front,
    /// usshca-signer: files under its state folder, AF_UNIX descriptors it is passed, none that it sends, no socket() of another family, no exec, no fork (threads yes).
    Signer,
}

/// Enters: drops every capability set and the bounding set as far as allowed, sets NoNewPrivs, installs the filter (forbidden calls fail with EPERM, the dangerous ones kill).
/// To be called while the process has one thread: capabilities are the thread's own.
/// # Errors
/// Any step that failed, or more than one thread; the caller must exit then.
pub fn enter(profile: Profile) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("the sandbox must be entered before any thread is started"));
    }
    drop_capabilities()?;
    nix::sys::prctl::set_no_new_privs()?;
    // The allow-list comes last, since installing a filter takes a call that it forbids. clone3, whose flags no filter can see, is answered with ENOSYS: libc then falls
    // back to clone.
    let filters = [
        filter(deadly(), SeccompAction::Allow, SeccompAction::KillProcess)?,
        filter(always(&[libc::SYS_clone3]), SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?,
        filter(allowed(profile)?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?,
    ];
    for program in &filters {
        apply_filter_all_threads(program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Makes an empty, read-only root the process's root (chroot into `empty_directory`; needs CAP_SYS_CHROOT). The directory must be root's, writable by nobody else, and empty.
/// # Errors
/// As the kernel says; InvalidInput if the directory is not as it must be.
pub fn enter_empty_root(empty_directory: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let directory = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(empty_directory)?;
    let metadata = directory.metadata()?;
    if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the empty root is not root's alone"));
    }
    nix::unistd::fchdir(&directory)?;
    if std::fs::read_dir(".")?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the empty root is not empty"));
    }
    nix::unistd::chroot(".")?;
    nix::unistd::chdir("/")?;
    Ok(())
}

/// Resource limits of this process, soft and hard: bytes of address space (RLIMIT_AS), seconds of processor time (RLIMIT_CPU), number of descriptors (RLIMIT_NOFILE).
/// # Errors
/// As the kernel says.
pub fn limit(address_space_bytes: Option<u64>, cpu_seconds: Option<u64>, open_files: Option<u64>) -> io::Result<()> {
    let limits = [
        (Resource::RLIMIT_AS, address_space_bytes),
        (Resource::RLIMIT_CPU, cpu_seconds),
        (Resource::RLIMIT_NOFILE, open_files),
    ];
    for (resource, value) in limits {
        if let Some(value) = value {
            setrlimit(resource, value, value)?;
        }
    }
    Ok(())
}

/// Limits for a process that runs foreign code and programs (PAM's modules and what they start, which inherit them): bytes of writable memory of its own (RLIMIT_DATA), seconds of
/// processor time (RLIMIT_CPU: SIGXCPU at the soft limit, SIGKILL a second later), number of descriptors (RLIMIT_NOFILE). Not RLIMIT_AS: programs of Go or Java reserve far more
/// addresses than they use. Not RLIMIT_NPROC: it does not hold for root, and for anybody else it counts all of the account's processes.
/// # Errors
/// As the kernel says.
pub fn limit_foreign(data_bytes: u64, cpu_seconds: u64, open_files: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_DATA, data_bytes, data_bytes)?;
    setrlimit(Resource::RLIMIT_CPU, cpu_seconds, cpu_seconds.saturating_add(1))?;
    setrlimit(Resource::RLIMIT_NOFILE, open_files, open_files)?;
    Ok(())
}

/// Bounding set first: dropping from it needs a capability (CAP_SETPCAP) that goes with the rest.
fn drop_capabilities() -> io::Result<()> {
    use caps::{CapSet, Capability};
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(io::Error::other)? {
        for number in 0..64 {
            // By number, so that capabilities that are newer than our crates go too.
            // SAFETY: prctl on plain values (prctl(2)).
            let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
            if result != 0 {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    // The first number that this kernel does not know.
                    Some(libc::EINVAL) if number > 0 => break,
                    _ => return Err(error),
                }
            }
        }
    }
    // Kernels since 4.3 know the ambient set.
    caps::clear(None, CapSet::Ambient).map_err(io::Error::other)?;
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filter(rules: Rules, otherwise: SeccompAction, listed: SeccompAction) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    SeccompFilter::new(rules, otherwise, listed, arch).and_then(BpfProgram::try_from).map_err(io::Error::other)
}

fn always(calls: &[libc::c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// Calls that no correct version of these programs makes after it has entered.
fn deadly() -> Rules {
    always(&[
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_fsconfig,
        libc::SYS_mount_setattr,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_open_by_handle_at,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
    ])
}

fn allowed(profile: Profile) -> io::Result<Rules> {
    let mut rules = common()?;
    rules.extend(match profile {
        Profile::Front => front()?,
        Profile::Signer => signer()?,
    });
    Ok(rules)
}

/// Open descriptors, memory without execution, time, signals of its own.
///
/// Not sendmsg, nor sendmmsg: a descriptor that another process was sent is closed there, and `close` of a socket with SO_LINGER waits in that process for as long as the
/// sender has said, be the packet taken or thrown away.
fn common() -> io::Result<Rules> {
    let mut rules = always(&[
        // descriptors that are open
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendto,
        libc::SYS_shutdown,
        libc::SYS_getsockopt,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_socketpair,
        libc::SYS_close,
        libc::SYS_close_range,
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_lseek,
        libc::SYS_pipe2,
        libc::SYS_eventfd2,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_timerfd_create,
        libc::SYS_timerfd_settime,
        // memory
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_mlock,
        libc::SYS_mlock2,
        libc::SYS_munlock,
        libc::SYS_futex,
        libc::SYS_membarrier,
        libc::SYS_rseq,
        libc::SYS_set_robust_list,
        libc::SYS_getrandom,
        // time
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_gettimeofday,
        // itself
        libc::SYS_getpid,
        libc::SYS_getppid,
        libc::SYS_gettid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_getresuid,
        libc::SYS_getresgid,
        libc::SYS_getrusage,
        libc::SYS_capget,
        libc::SYS_uname,
        libc::SYS_sysinfo,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // answered with ENOSYS by a filter of its own
        libc::SYS_clone3,
    ]);
    #[cfg(target_arch = "x86_64")]
    rules.extend(always(&[libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_dup2, libc::SYS_time]));

    let executable = libc::PROT_EXEC as u64;
    rules.insert(libc::SYS_mmap, vec![when(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    rules.insert(libc::SYS_mprotect, vec![when(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    rules.insert(
        libc::SYS_ioctl,
        vec![equals(1, libc::FIONBIO)?, equals(1, libc::FIOCLEX)?, equals(1, libc::FIONREAD)?],
    );
    rules.insert(
        libc::SYS_prctl,
        vec![equals(0, libc::PR_SET_NAME as u64)?, equals(0, libc::PR_GET_NO_NEW_PRIVS as u64)?],
    );
    // Reading limits, not setting them: no new values given.
    let read_only = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0).map_err(io::Error::other)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![read_only]).map_err(io::Error::other)?]);
    // abort() and raise(): signals to itself only.
    rules.insert(libc::SYS_tgkill, vec![equals(0, u64::from(std::process::id()))?]);
    rules.insert(libc::SYS_fcntl, descriptor_flags()?);
    Ok(rules)
}

/// fcntl's commands for flags and copies. F_SETOWN and F_SETSIG with O_ASYNC send any signal to any process of the same uid.
fn descriptor_flags() -> io::Result<Vec<SeccompRule>> {
    let signal_driven = SeccompCmpOp::MaskedEq(libc::O_ASYNC as u64);
    Ok(vec![
        equals(1, libc::F_GETFD as u64)?,
        equals(1, libc::F_SETFD as u64)?,
        equals(1, libc::F_GETFL as u64)?,
        rule([condition(1, SeccompCmpOp::Eq, libc::F_SETFL as u64)?, condition(2, signal_driven, 0)?])?,
        equals(1, libc::F_DUPFD_CLOEXEC as u64)?,
    ])
}

/// Socket options by level and name. Never SO_LINGER: see [`common`].
fn socket_options(options: &[(libc::c_int, libc::c_int)]) -> io::Result<Vec<SeccompRule>> {
    let pair = |(level, name): &(libc::c_int, libc::c_int)| {
        rule([condition(1, SeccompCmpOp::Eq, *level as u64)?, condition(2, SeccompCmpOp::Eq, *name as u64)?])
    };
    options.iter().map(pair).collect()
}

/// Its TCP connection is acknowledged at once.
fn front() -> io::Result<Rules> {
    Ok([(libc::SYS_setsockopt, socket_options(&[(libc::IPPROTO_TCP, libc::TCP_QUICKACK)])?)].into())
}

/// Files and threads, and Unix sockets for its clients and syslog.
fn signer() -> io::Result<Rules> {
    let mut rules = always(&[
        libc::SYS_openat,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_preadv,
        libc::SYS_pwritev,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_flock,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_getdents64,
        libc::SYS_readlinkat,
        libc::SYS_mkdirat,
        libc::SYS_unlinkat,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        libc::SYS_fstatfs,
        libc::SYS_statfs,
        libc::SYS_umask,
        libc::SYS_getcwd,
        libc::SYS_msync,
        libc::SYS_accept4,
        libc::SYS_bind,
        libc::SYS_listen,
        // Whoever it reaches: only Unix sockets can be made here.
        libc::SYS_connect,
    ]);
    #[cfg(target_arch = "x86_64")]
    rules.extend(always(&[
        libc::SYS_open,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_access,
        libc::SYS_readlink,
        libc::SYS_mkdir,
        libc::SYS_rmdir,
        libc::SYS_unlink,
        libc::SYS_rename,
        libc::SYS_link,
        libc::SYS_chmod,
    ]));
    rules.insert(libc::SYS_socket, vec![equals(0, libc::AF_UNIX as u64)?]);
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    let options = [libc::SO_PASSCRED, libc::SO_SNDBUF, libc::SO_RCVBUF].map(|name| (libc::SOL_SOCKET, name));
    rules.insert(libc::SYS_setsockopt, socket_options(&options)?);
    // SQLite's locks, which never wait.
    let mut commands = descriptor_flags()?;
    commands.extend([equals(1, libc::F_GETLK as u64)?, equals(1, libc::F_SETLK as u64)?]);
    rules.insert(libc::SYS_fcntl, commands);
    Ok(rules)
}

fn equals(argument: u8, value: u64) -> io::Result<SeccompRule> {
    when(argument, SeccompCmpOp::Eq, value)
}

fn when(argument: u8, comparison: SeccompCmpOp, value: u64) -> io::Result<SeccompRule> {
    rule([condition(argument, comparison, value)?])
}

/// All of these conditions.
fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions.into()).map_err(io::Error::other)
}

fn condition(argument: u8, comparison: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    // The kernel takes these arguments as 32-bit values: the upper half is not looked at.
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value).map_err(io::Error::other)
}
