//! `sessions --watch`: the list again whenever it has changed.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ussh_core::clock::{Clock, SystemClock};

use crate::config::Config;
use crate::show;

/// From one look to the next: what is shown in seconds changes with them.
const EVERY: Duration = Duration::from_secs(1);
/// Clears a terminal and goes to its first place (ECMA-48 ED, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Runs until it is interrupted or nobody reads any more.
/// # Errors
/// As the file system says.
pub fn watch(config: &Config, json: bool) -> io::Result<()> {
    let mut out = io::stdout();
    let is_screen = out.is_terminal() && !json;
    let mut before = None;
    loop {
        let now = SystemClock.now();
        let rows = show::sessions(config, now)?;
        let text =
            if json { serde_json::to_string(&rows).map_err(io::Error::other)? + "\n" } else { show::table(&rows, now) };
        // Seconds pass on a screen only: what is read by a program changes with the sessions.
        let seen = if is_screen || json { text.clone() } else { format!("{rows:?}") };
        if before.as_ref() != Some(&seen) {
            let written = write!(out, "{}{text}", if is_screen { CLEAR } else { "" }).and_then(|()| out.flush());
            match written {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
            before = Some(seen);
        }
        if !is_read_after(EVERY, out.as_fd())? {
            return Ok(());
        }
    }
}

/// Whether somebody still reads what is written to `out` when so much time has passed; `false` as soon as nobody does.
fn is_read_after(time: Duration, out: BorrowedFd<'_>) -> io::Result<bool> {
    // What has no reader any more (a pipe, a terminal that hung up) is told unasked.
    let mut polled = [PollFd::new(out, PollFlags::empty())];
    match poll(&mut polled, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)) {
        Ok(told) => Ok(told == 0),
        Err(Errno::EINTR) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_any_more_is_noticed_at_once_and_nothing_else_is() {
        let (read, write) = io::pipe().unwrap();
        let (short, long) = (Duration::from_millis(10), Duration::from_secs(600));
        assert!(is_read_after(short, write.as_fd()).unwrap());
        let file = tempfile::tempfile().unwrap();
        assert!(is_read_after(short, file.as_fd()).unwrap());
        drop(read);
        assert!(!is_read_after(long, write.as_fd()).unwrap());
    }
}
