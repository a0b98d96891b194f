//! Joins the terminal of this program to a command on a host: a shell for a person.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::{Doing, LabError, Result};
use crate::process::Running;
use crate::wire::Status;

/// How often the size of the person's terminal is looked at.
const RESIZE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How long a command may take to end after it has let go of its terminal.
const END: Duration = Duration::from_secs(10);

/// What the end of a file is on a terminal: Ctrl-D.
const END_OF_INPUT: &[u8] = b"\x04";

/// Passes keys and output on until the command has let go of its terminal, `master`; how it ended.
pub(crate) fn attach(running: &Running, master: OwnedFd) -> Result<Status> {
    let master = File::from(master);
    let raw = RawTerminal::enter()?;
    relay(&master, raw.is_some())?;
    drop(raw);
    // Whatever it left on the terminal is hung up on.
    drop(master);
    let status = running.status_within(END)?;
    status.ok_or_else(|| LabError::setup("the command let go of its terminal and does not end"))
}

fn relay(master: &File, resizes: bool) -> Result<()> {
    // Not by std's buffer: keys that wait in there are not seen by poll.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned().doing("opening your terminal")?);
    let mut stdout = io::stdout().lock();
    let mut chunk = vec![0_u8; 16 * 1024];
    let mut open = true;
    loop {
        if resizes {
            follow_size(master)?;
        }
        // One that has ended is always ready, whatever of it is waited for.
        let typing = open.then(|| PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN));
        let mut polled: Vec<_> = std::iter::once(PollFd::new(master, PollFlags::IN)).chain(typing).collect();
        let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&RESIZE))).doing("polling")?;
        // A shell that was not yet ready for the end of its input has not seen it.
        if ready == 0 && !open {
            (&mut &*master).write_all(END_OF_INPUT).doing("typing into the command's terminal")?;
        }
        let mut happened = polled.iter().map(|polled| !polled.revents().is_empty());
        let (shown, typed) = (happened.next() == Some(true), happened.next() == Some(true));
        if shown {
            // The end of a terminal is an error, EIO.
            let Ok(length @ 1..) = (&mut &*master).read(&mut chunk) else { return Ok(()) };
            stdout.write_all(chunk.get(..length).unwrap_or_default()).doing("writing to your terminal")?;
            stdout.flush().doing("writing to your terminal")?;
        }
        if typed {
            let length = input.read(&mut chunk).doing("reading your terminal")?;
            open = length > 0;
            let keys = if open { chunk.get(..length).unwrap_or_default() } else { END_OF_INPUT };
            (&mut &*master).write_all(keys).doing("typing into the command's terminal")?;
        }
    }
}

/// Gives the command's terminal the size of the person's; the kernel tells the command if it has changed.
fn follow_size(master: &File) -> Result<()> {
    let size = tcgetwinsize(io::stdin()).doing("asking for your terminal's size")?;
    let set = tcgetwinsize(master).doing("asking for a terminal's size")?;
    if (size.ws_row, size.ws_col) != (set.ws_row, set.ws_col) {
        tcsetwinsize(master, size).doing("setting a terminal's size")?;
    }
    Ok(())
}

/// The person's terminal passing every key on; as it was, when this goes.
struct RawTerminal(Termios);

impl RawTerminal {
    /// None if standard input is no terminal.
    fn enter() -> Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin()).doing("reading your terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).doing("changing your terminal's settings")?;
        Ok(Some(RawTerminal(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
