//! How many of the daemon's descriptors go to sessions' programs: so many of each session, of each account and of all together that connections, looks and files always have theirs.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit};
use ussh_os::process::ProcessHandle;

/// Most that are held of one session.
pub const MAX_HELD: usize = 8192;
/// What part of all descriptors those of one session, of one account's sessions and of all sessions may be.
const PART_OF_SESSION: usize = 8;
const PART_OF_ACCOUNT: usize = 4;
const PART_OF_ALL: usize = 2;
/// And what part of them, at most this many, is left to all else whoever has taken the others: 32 looks at one time take some 200.
const PART_IN_RESERVE: usize = 4;
const MAX_RESERVE: usize = 1024;

/// Of this process.
static OWN: LazyLock<Budget> = LazyLock::new(|| {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(now, _)| now);
    Budget::of(usize::try_from(limit).unwrap_or(usize::MAX))
});

/// What may be taken, and what is taken: by account.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Most of one session.
    pub of_session: usize,
    of_account: usize,
    of_all: usize,
    /// Descriptors have the lowest number that is free: at this one nearly all are taken.
    first_in_reserve: usize,
    taken: Taken,
}

type Taken = Arc<Mutex<BTreeMap<Option<u32>, usize>>>;

impl Default for Budget {
    fn default() -> Self {
        OWN.clone()
    }
}

impl Budget {
    /// Of a process that may have so many descriptors.
    pub fn of(limit: usize) -> Self {
        Budget {
            of_session: (limit / PART_OF_SESSION).min(MAX_HELD),
            of_account: limit / PART_OF_ACCOUNT,
            of_all: limit / PART_OF_ALL,
            first_in_reserve: limit - (limit / PART_IN_RESERVE).min(MAX_RESERVE),
            taken: Taken::default(),
        }
    }

    /// Whatever numbers the test's own process has given out.
    #[cfg(test)]
    pub fn whatever_number(limit: usize) -> Self {
        Budget { first_in_reserve: usize::MAX, ..Budget::of(limit) }
    }

    /// Room for one that has just been opened, until the slot is dropped.
    pub fn take(&self, account: Option<u32>, process: &ProcessHandle) -> Option<Slot> {
        let number = usize::try_from(process.as_fd().as_raw_fd()).unwrap_or(usize::MAX);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_account = taken.get(&account).copied().unwrap_or(0);
        let has_room = of_account < self.of_account && taken.values().sum::<usize>() < self.of_all;
        if !has_room || number >= self.first_in_reserve {
            return None;
        }
        *taken.entry(account).or_default() += 1;
        Some(Slot { account, taken: Arc::clone(&self.taken) })
    }
}

/// A process that is held, and its place in the budget; `None`: it is held beyond that.
#[derive(Debug)]
pub struct Handle {
    pub process: ProcessHandle,
    #[expect(dead_code, reason = "given back when it is dropped")]
    pub slot: Option<Slot>,
}

/// One that is taken.
#[derive(Debug)]
pub struct Slot {
    account: Option<u32>,
    taken: Taken,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_account) = taken.get_mut(&self.account) {
            *of_account = of_account.saturating_sub(1);
        }
        taken.retain(|_, n| *n > 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn this() -> ProcessHandle {
        ProcessHandle::open_any(std::process::id()).unwrap()
    }

    #[test]
    fn one_account_leaves_room_for_others_and_all_together_for_the_daemon() {
        let budget = Budget::whatever_number(16);
        let take = |account| std::iter::from_fn(|| budget.take(account, &this())).take(16).collect::<Vec<_>>();
        let first = take(Some(1));
        let (second, third) = (take(Some(2)), take(None));
        assert_eq!([&first, &second, &third].map(Vec::len), [4, 4, 0]);
        drop(first);
        assert_eq!(take(Some(3)).len(), 4);
        assert_eq!(take(Some(2)).len(), 0, "it has its own still");
    }

    #[test]
    fn the_highest_numbers_are_for_others() {
        let process = this();
        let number = usize::try_from(process.as_fd().as_raw_fd()).unwrap();
        let from = |first_in_reserve| Budget { first_in_reserve, ..Budget::of(16) };
        assert!(from(number).take(None, &process).is_none());
        assert!(from(number + 1).take(None, &process).is_some());
    }
}
