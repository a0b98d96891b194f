//! `sessions --watch`: the list again whenever it has changed.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

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
        std::thread::sleep(EVERY);
    }
}
