//! Starting processes apart from this one: in a session of their own, without a terminal.
//!
//! [`spawn_detached`]: one that outlives this one and is nobody's child, with none of our descriptors but the first three. [`set_apart`]: a child that is waited for.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;

/// Starts `command` as a child of init's (or of the next reaper): without a controlling terminal, in `/`, umask 0077, no signal blocked; every descriptor above 2 is closed.
/// So it keeps no pipe open on whose end somebody waits, and no file system busy. Returns when it has been executed. This process must have one thread only.
/// # Errors
/// As the kernel says; exec failures are reported.
pub fn spawn_detached(command: &mut Command) -> io::Result<()> {
    // SAFETY: the closure runs between fork and exec of a process with one thread; `detach` makes system calls only (CommandExt::pre_exec).
    unsafe {
        command.pre_exec(detach);
    }
    // This is the one in between, which ends at once. Where SIGCHLD is ignored it is gone already.
    match command.spawn()?.wait() {
        Err(error) if error.raw_os_error() != Some(libc::ECHILD) => Err(error),
        _ => Ok(()),
    }
}

/// Has `command` begin a session of its own when it is spawned: it has no controlling terminal (into which it could type: TIOCSTI), it leads a process group of its own number, no
/// program gives it, or what it starts, more rights than it was started with (PR_SET_NO_NEW_PRIVS), and no signal is blocked. Not to be used with [`CommandExt::process_group`].
pub fn set_apart(command: &mut Command) -> &mut Command {
    // SAFETY: the closure runs between fork and exec, and makes system calls on plain values (CommandExt::pre_exec; setsid(2), prctl(2)).
    unsafe {
        command.pre_exec(|| {
            unblock_signals();
            let done = libc::setsid() != -1 && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
            if done { Ok(()) } else { Err(Errno::last().into()) }
        })
    }
}

/// In a child, before exec: std hands our own mask on, and a daemon has blocked what it hears of by signalfd(2). What the child starts could be ended by nothing but SIGKILL (`timeout` in a script, say).
pub(crate) fn unblock_signals() {
    // SAFETY: an empty set on our own stack, and a system call on it, which cannot fail (sigemptyset(3), sigprocmask(2)).
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// The rest runs in a child of the child: no session's leader, it never gets a terminal.
fn detach() -> io::Result<()> {
    // SAFETY: system calls on plain values (setsid(2), fork(2)); the process has one thread.
    let child = unsafe {
        libc::setsid();
        libc::fork()
    };
    match child {
        0 => {}
        -1 => return Err(Errno::last().into()),
        // SAFETY: ends this process without running anything of the parent's (_exit(2)).
        _ => unsafe { libc::_exit(0) },
    }
    unblock_signals();
    // SAFETY: system calls on plain values (umask(2), chdir(2)).
    unsafe {
        libc::umask(0o077);
        libc::chdir(c"/".as_ptr());
    }
    // Not closed but close-on-exec: std's own pipe must live until exec.
    // SAFETY: a system call on plain values (close_range(2)).
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if closed == 0 { Ok(()) } else { Err(Errno::last().into()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs::File;
    use std::io::Read;
    use std::process::Stdio;

    use nix::sys::signal::{SigSet, Signal};

    use super::*;

    #[test]
    fn it_has_no_parent_of_ours_no_terminal_and_none_of_our_descriptors() {
        let (mut read, write) = std::io::pipe().unwrap();
        // One that a careless program left open for its children.
        let careless = nix::unistd::dup(File::open("/dev/null").unwrap()).unwrap();
        let mut command = Command::new("/bin/sh");
        // The shell looks itself, by one descriptor more: in front of a pipe it may hold both ends of it for a moment.
        command.args(["-c", "pwd; umask; set -- /proc/$$/fd/*; echo $#; cut -d' ' -f4,6,7 /proc/$$/stat; echo $$"]);
        command.stdin(Stdio::null()).stdout(write).stderr(Stdio::null());
        spawn_detached(&mut command).unwrap();
        drop(command);
        drop(careless);
        let mut said = String::new();
        read.read_to_string(&mut said).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..3], ["/", "0077", "4"], "{said}");
        let numbers: Vec<i64> = lines[3].split(' ').map(|number| number.parse().unwrap()).collect();
        let own: i64 = lines[4].parse().unwrap();
        assert_ne!(numbers[0], i64::from(std::process::id()), "its parent is not we");
        assert_ne!(numbers[1], own, "it does not lead its session");
        assert_eq!(numbers[2], 0, "no terminal");
    }

    #[test]
    fn what_is_set_apart_leads_a_session_without_a_terminal_and_gains_no_rights() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "cut -d' ' -f1,5,6,7 /proc/$$/stat; grep NoNewPrivs /proc/$$/status"]);
        let said = String::from_utf8(set_apart(&mut command).output().unwrap().stdout).unwrap();
        let (numbers, rest) = said.split_once('\n').unwrap();
        let numbers: Vec<i64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers, [numbers[0], numbers[0], numbers[0], 0], "pid, group, session, terminal");
        assert_eq!(rest.trim(), "NoNewPrivs:\t1");
    }

    #[test]
    fn signals_that_a_daemon_has_blocked_are_not_blocked_in_what_it_starts() {
        let (mut read, write) = std::io::pipe().unwrap();
        // No shell: some unblock all signals themselves.
        let command = || {
            let mut command = Command::new("/bin/grep");
            command.args(["SigBlk", "/proc/self/status"]).stdin(Stdio::null()).stderr(Stdio::null());
            command
        };
        let mut detached = command();
        detached.stdout(write);
        let before = SigSet::thread_get_mask().unwrap();
        SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]).thread_block().unwrap();
        let inherits = command().output().unwrap();
        let apart = set_apart(&mut command()).output().unwrap();
        spawn_detached(&mut detached).unwrap();
        before.thread_set_mask().unwrap();
        drop(detached);
        let mut of_detached = String::new();
        read.read_to_string(&mut of_detached).unwrap();
        let none = "SigBlk:\t0000000000000000\n";
        assert_ne!(inherits.stdout, none.as_bytes(), "they were blocked");
        assert_eq!((String::from_utf8(apart.stdout).unwrap(), of_detached), (none.to_owned(), none.to_owned()));
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let error = spawn_detached(&mut Command::new("/nowhere")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
