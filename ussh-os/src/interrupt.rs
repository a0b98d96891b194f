//! Whether a person has pressed Ctrl-C in a host that has SIGINT blocked, as sudo has while PAM works. It looks for itself later whether one waits, and asks no more then (sudo
//! 1.9.13, plugins/sudoers/auth/sudo_auth.c `user_interrupted`): the signal is looked at, and left where it is.

use nix::sys::signal::{SigSet, Signal};

/// Whether SIGINT or SIGQUIT waits to be delivered. Never so where they are not blocked.
pub fn is_interrupted() -> bool {
    is_waiting_signal(Signal::SIGINT) || is_waiting_signal(Signal::SIGQUIT)
}

/// Whether this signal is blocked and waits, for this thread or the process.
pub(crate) fn is_waiting_signal(signal: Signal) -> bool {
    let mut waiting = *SigSet::empty().as_ref();
    // SAFETY: a writable set, initialised above (sigpending(2)), and a signal that there is (sigismember(3)).
    unsafe { libc::sigpending(&raw mut waiting) == 0 && libc::sigismember(&raw const waiting, signal as i32) == 1 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn an_interrupt_is_seen_while_it_waits_and_left_there() {
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            let ended = std::thread::spawn(move || {
                let mut set = SigSet::empty();
                set.add(signal);
                set.thread_block().unwrap();
                let before = is_interrupted();
                // SAFETY: a signal that is blocked, to a thread that lives (pthread_kill(3)).
                assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), signal as i32) }, 0);
                (before, is_interrupted(), is_interrupted())
            });
            // It goes with its thread.
            assert_eq!(ended.join().unwrap(), (false, true, true), "{signal}");
        }
    }
}
