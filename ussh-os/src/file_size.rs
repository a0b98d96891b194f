//! Writing files in a host whose RLIMIT_FSIZE may be anything: beyond it the kernel sends SIGXFSZ, which ends a process that has not thought of it (setrlimit(2)).

use std::io;
use std::ptr;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

use crate::interrupt::is_waiting_signal;

/// Runs `work` with SIGXFSZ held back in this thread, and taken away if `work` caused it: a write beyond the limit is an error then (EFBIG), and nothing more. The mask is put back,
/// and a signal that had been waiting before still waits.
/// # Errors
/// The mask could not be changed; then `work` has not run.
pub fn with_limit_as_error<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let _held = Held::back()?;
    Ok(work())
}

/// Put back when it is dropped: also if `work` panics.
struct Held {
    before: SigSet,
    was_waiting: bool,
}

impl Held {
    fn back() -> io::Result<Self> {
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&one()), Some(&mut before))?;
        Ok(Held { before, was_waiting: is_waiting() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.was_waiting && is_waiting() {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: a set and a time that live during the call, and no place for what is told of the signal (sigtimedwait(2)). It is blocked and waiting: taken at once.
            unsafe { libc::sigtimedwait(one().as_ref(), ptr::null_mut(), &raw const now) };
        }
        // Cannot fail: a mask that was there before (pthread_sigmask(3), EINVAL is for `how`).
        let _ = self.before.thread_set_mask();
    }
}

fn one() -> SigSet {
    SigSet::from(Signal::SIGXFSZ)
}

fn is_waiting() -> bool {
    is_waiting_signal(Signal::SIGXFSZ)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn is_blocked() -> bool {
        SigSet::thread_get_mask().unwrap().contains(Signal::SIGXFSZ)
    }

    fn raise() {
        // As the kernel does: to this thread.
        // SAFETY: a signal that is blocked, to a thread that lives (pthread_kill(3)).
        assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGXFSZ) }, 0);
    }

    #[test]
    fn the_signal_is_taken_away_and_the_mask_put_back() {
        assert_eq!(with_limit_as_error(raise_and_give).unwrap(), 7);
        assert!(!is_blocked() && !is_waiting());
    }

    fn raise_and_give() -> u8 {
        assert!(is_blocked());
        raise();
        7
    }

    #[test]
    fn a_host_that_blocks_it_keeps_its_own() {
        one().thread_block().unwrap();
        with_limit_as_error(raise).unwrap();
        assert!(is_blocked() && !is_waiting());
        raise();
        with_limit_as_error(raise).unwrap();
        assert!(is_blocked() && is_waiting(), "the host's own still waits");
        with_limit_as_error(|| ()).unwrap();
        assert!(is_waiting());
        // The thread ends with it.
    }

    #[test]
    fn a_panic_puts_the_mask_back() {
        let panicked = std::panic::catch_unwind(|| with_limit_as_error(|| panic!("on purpose")));
        assert!(panicked.is_err() && !is_blocked());
    }
}
