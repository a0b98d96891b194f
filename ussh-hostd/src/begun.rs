//! What was begun with a session and is not over, in a file beside its record: so that a daemon which is killed in between finishes it when it is back.
//!
//! The record alone would not do: sshd removes that when it closes the session, and what does not heed a SIGHUP, or stands still, is then nobody's.
//! Trusted because of where it lies (`spool`): root wrote it, in this boot.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spool::ConnectionId;

/// One session's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// /proc/sys/kernel/random/boot_id: process numbers mean nothing in another one.
    pub boot_id: String,
    /// It was told to end.
    pub end: Option<End>,
    /// The cgroup that it was to be stopped in.
    pub frozen: Option<PathBuf>,
}

/// An end that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// From then to SIGKILL, milliseconds.
    pub grace_ms: u64,
    /// What it had running, as `PID-STARTTIME`.
    pub programs: Vec<String>,
    /// Where all that is in it is to end (`kill_user_processes`).
    pub whole: Option<Whole>,
}

/// A session's cgroup, with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// Its folder.
    pub group: PathBuf,
    /// The folder's: a name may be given again.
    pub inode: u64,
}

impl End {
    /// Begun now.
    pub fn new(grace: Duration, programs: impl Iterator<Item = ConnectionId>) -> Self {
        End {
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            programs: programs.map(ConnectionId::stem).collect(),
            whole: None,
        }
    }

    /// The same, of all that is in the session's cgroup.
    #[must_use]
    pub fn of_all_in(self, whole: Option<Whole>) -> Self {
        End { whole, ..self }
    }

    /// What it had running.
    pub fn programs(&self) -> impl Iterator<Item = ConnectionId> {
        self.programs.iter().filter_map(|stem| ConnectionId::parse(stem))
    }

    /// How much of the grace is left, `ago` after it was begun: never more than was given.
    pub fn grace_left(&self, ago: Duration) -> Duration {
        Duration::from_millis(self.grace_ms).saturating_sub(ago)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_used_up_and_never_grows() {
        let id = ConnectionId { pid: 7, start_time: 42 };
        let end = End::new(Duration::from_secs(2), [id].into_iter());
        assert_eq!(end.programs().collect::<Vec<_>>(), [id]);
        for (ago, left) in [(0, 2000), (500, 1500), (2000, 0), (90_000, 0)] {
            assert_eq!(end.grace_left(Duration::from_millis(ago)), Duration::from_millis(left));
        }
    }
}
