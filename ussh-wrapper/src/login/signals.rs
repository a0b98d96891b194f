//! Signals during a login: passed on to `ssh`, which gives the terminal back as it was; then the socket's folder is removed, and then we end by the same signal.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ussh_os::process::ProcessHandle;

/// Those that would end us.
const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// How long ssh may take to end by the first signal. It does not hear one while it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The ending signals, blocked, and readable from a descriptor.
pub struct Signals {
    fd: SignalFd,
    blocked: SigSet,
    first: Cell<Option<First>>,
}

/// The first signal that came.
#[derive(Clone, Copy)]
struct First {
    signal: i32,
    /// When ssh must have ended.
    deadline: Instant,
}

impl Signals {
    /// Blocks them. One that is ignored (`nohup`, a background job of a script) stays ignored.
    /// # Errors
    /// As the kernel says.
    pub fn block() -> io::Result<Self> {
        let ignored = ignored_mask(&std::fs::read_to_string("/proc/self/status")?);
        let blocked: SigSet = ENDING.into_iter().filter(|signal| ignored & bit(*signal) == 0).collect();
        blocked.thread_block()?;
        let fd = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd, blocked, first: Cell::new(None) })
    }

    /// Reads what has come and sends it on. A second one means it: SIGKILL. So does the end of [`PATIENCE`] after the first:
    /// gives the moment at which to call this again.
    pub fn pass_on(&self, child: &ProcessHandle) -> Option<Instant> {
        while let Ok(Some(info)) = self.fd.read_signal() {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(nix::libc::SIGTERM);
            let sent = if self.first.get().is_some() { nix::libc::SIGKILL } else { signal };
            let deadline = Instant::now() + PATIENCE;
            self.first.set(self.first.get().or(Some(First { signal, deadline })));
            // It may have had the same from the terminal, and be gone.
            let _ = child.signal(sent);
        }
        let deadline = self.first.get()?.deadline;
        if Instant::now() < deadline {
            return Some(deadline);
        }
        let _ = child.signal(nix::libc::SIGKILL);
        None
    }

    /// Unblocks; gives the first signal that came. What came since then takes effect now.
    /// # Errors
    /// As the kernel says.
    pub fn end(self) -> io::Result<Option<i32>> {
        let late = self.fd.read_signal().ok().flatten().and_then(|info| i32::try_from(info.ssi_signo).ok());
        self.blocked.thread_unblock()?;
        Ok(self.first.get().map(|first| first.signal).or(late))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The bits of `SigIgn:` in /proc/PID/status (proc(5)): bit n-1 for signal n. None if it cannot be read.
fn ignored_mask(status: &str) -> u64 {
    let field = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    field.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn bit(signal: Signal) -> u64 {
    u32::try_from(signal as i32 - 1).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_file() {
        let mask = ignored_mask("Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\tffff\n");
        assert_eq!(mask & bit(Signal::SIGHUP), bit(Signal::SIGHUP));
        assert_eq!(mask & bit(Signal::SIGINT), 0);
        assert_eq!(mask & bit(Signal::SIGPIPE), bit(Signal::SIGPIPE));
    }
}
