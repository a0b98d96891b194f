//! The groups of sessions that are gone, in which what was killed has not ended yet: some sleep in the kernel for long. Nobody waits for them; from time to time it is tried to take the group away.

use std::time::Duration;

use super::Daemon;
use crate::begun::Whole;
use crate::cell::{Cell, Killed};
use crate::spool::ConnectionId;

/// From the first try to the next one; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One of them.
#[derive(Debug)]
pub(super) struct Leaving {
    id: ConnectionId,
    whole: Whole,
    /// When it is tried again (elapsed).
    next: Duration,
    pause: Duration,
}

impl Leaving {
    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// Whether it is gone.
    fn is_over(&mut self, now: Duration) -> bool {
        if self.next > now {
            return false;
        }
        self.next = now.saturating_add(self.pause);
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        Cell::noted(self.id, &self.whole).is_none_or(|cell| cell.leave())
    }
}

impl Daemon {
    /// Takes away the group of a session that is gone: now, or when what was killed in it has ended.
    pub(super) fn leave(&mut self, id: ConnectionId, cell: &Cell, killed: Killed) {
        let Ok(whole) = cell.whole() else { return };
        if cell.leave() || killed == Killed::Nothing {
            return;
        }
        let next = self.started.elapsed().saturating_add(FIRST_PAUSE);
        self.leaving.push(Leaving { id, whole, next, pause: FIRST_PAUSE.saturating_mul(2) });
    }

    /// Tries those again that are due.
    pub(super) fn remove_emptied(&mut self) {
        let now = self.started.elapsed();
        self.leaving.retain_mut(|leaving| !leaving.is_over(now));
    }
}
