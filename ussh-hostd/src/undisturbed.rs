//! A few steps that belong together, and that no Ctrl-C, no lost connection and no `systemctl stop` parts: the signal comes when they are done.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

/// SIGINT, SIGHUP and SIGTERM wait until it is dropped. Programs that are started meanwhile are spared too.
#[must_use]
pub struct Undisturbed(SigSet);

impl Undisturbed {
    /// From now on.
    pub fn begin() -> Self {
        let mut before = SigSet::empty();
        let held = SigSet::from_iter([Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM]);
        // Cannot fail: EINVAL is for `how` (pthread_sigmask(3)).
        let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&held), Some(&mut before));
        Undisturbed(before)
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        let _ = self.0.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn signals_wait_until_the_steps_are_done() {
        let before = SigSet::thread_get_mask().unwrap();
        let undisturbed = Undisturbed::begin();
        let held = SigSet::thread_get_mask().unwrap();
        assert!([Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM].iter().all(|signal| held.contains(*signal)));
        drop(undisturbed);
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
