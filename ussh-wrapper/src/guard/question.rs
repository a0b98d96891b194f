//! Asking the person whether a challenge shall be signed: on the terminal of `ussh --confirm`, if one waits there; else at the desktop, by the askpass program, as ssh-agent asks for its own (ssh-agent.c `confirm_key`).

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use ussh_os::process::{self, ProcessHandle};

use super::terminal;

/// Where the askpass program is if SSH_ASKPASS does not say (pathnames.h `_PATH_SSH_ASKPASS_DEFAULT` as Debian has it).
/// The program that asks where SSH_ASKPASS names none (Debian's ssh: pathnames.h `_PATH_SSH_ASKPASS_DEFAULT`).
pub const DEFAULT_ASKPASS: &str = "/usr/bin/ssh-askpass";
/// How long the person may take: as long as pam_ussh waits for a touch.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether anybody still waits for the answer.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No, or none in time.
    No,
    /// There is nowhere to ask.
    Nowhere,
}

/// Asks; ends early, with a no, when `is_over` says so.
pub fn ask(question: &str, is_over: &dyn Fn() -> bool) -> Answer {
    if let Some(stream) = terminal::put(question) {
        return at_terminal(stream, is_over);
    }
    let Some(program) = askpass() else { return Answer::Nowhere };
    let mut command = Command::new(program);
    command.arg(question).env("SSH_ASKPASS_PROMPT", "confirm").stdin(Stdio::null()).stdout(Stdio::piped());
    // Often a script, whose child the dialog is: all of them are one group, and end together.
    command.process_group(0);
    let Ok(mut child) = command.spawn() else { return Answer::Nowhere };
    let said = if wait(&child, is_over) { child.stdout.take().and_then(first_bytes) } else { None };
    if said.is_none() {
        // Not waited for yet: the number is still its own.
        let _ = i32::try_from(child.id()).map(|group| killpg(Pid::from_raw(group), Signal::SIGKILL));
    }
    let went_well = child.wait().is_ok_and(|status| status.success());
    if went_well && said.is_some_and(|said| is_yes(&said)) { Answer::Yes } else { Answer::No }
}

/// Whoever sits there has as long as one at a desktop.
fn at_terminal(mut stream: UnixStream, is_over: &dyn Fn() -> bool) -> Answer {
    let begun = Instant::now();
    if stream.set_read_timeout(Some(LOOK_EVERY)).is_err() {
        return Answer::No;
    }
    loop {
        let mut said = [0];
        match stream.read(&mut said) {
            Ok(1) if said == *b"y" => return Answer::Yes,
            Err(error) if is_retry(&error) && begun.elapsed() < PATIENCE && !is_over() => {}
            _ => return Answer::No,
        }
    }
}

fn is_retry(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Where there is a desktop, or the user says that it needs none (ssh(1), SSH_ASKPASS_REQUIRE).
fn askpass() -> Option<OsString> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let forced = set("SSH_ASKPASS_REQUIRE").is_some_and(|value| value == "force");
    let has_desktop = set("DISPLAY").is_some() || set("WAYLAND_DISPLAY").is_some();
    (forced || has_desktop).then(|| set("SSH_ASKPASS").unwrap_or_else(|| DEFAULT_ASKPASS.into()))
}

/// `true`: it has ended by itself.
fn wait(child: &Child, is_over: &dyn Fn() -> bool) -> bool {
    let Ok(handle) = process::start_time(child.id()).and_then(|start| ProcessHandle::open(child.id(), start)) else {
        return false;
    };
    let begun = Instant::now();
    loop {
        match handle.wait_end(LOOK_EVERY) {
            Ok(true) => return true,
            Ok(false) if begun.elapsed() < PATIENCE && !is_over() => {}
            _ => return false,
        }
    }
}

/// What is there now that the program has ended. `None`: nothing, and somebody may still say something, whom nobody waits for.
fn first_bytes(mut from: impl Read + AsFd) -> Option<Vec<u8>> {
    let ready = poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO);
    if !ready.is_ok_and(|ready| ready > 0) {
        return None;
    }
    let mut said = vec![0; 64];
    let read = from.read(&mut said).ok()?;
    said.truncate(read);
    Some(said)
}

/// One with buttons says nothing; one with a line to type in gives it (ssh-agent.c: empty or `yes`).
fn is_yes(said: &[u8]) -> bool {
    let line = said.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.is_empty() || line.eq_ignore_ascii_case(b"yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nothing_and_yes_are_a_yes() {
        for (said, wanted) in
            [(&b""[..], true), (b"\n", true), (b"yes\n", true), (b"YES", true), (b"no\n", false), (b"y\n", false)]
        {
            assert_eq!(is_yes(said), wanted, "{said:?}");
        }
    }
}
