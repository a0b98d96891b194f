//! Questions of the guarded agent on a terminal: `ussh --confirm` asks there what the agent's process wants to know, for those who have no desktop.
//!
//! Not on the terminal of the `ssh` over which the request came: the host writes on that one, and could paint another question over ours; and ssh reads what is typed there.
//! Process: `ussh --confirm`, in front of the user, until it is interrupted; it listens beside the guarded agent. Untrusted: nothing, but names in a question come from hosts.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{FlushArg, tcflush};
use ussh_core::escape::escape;
use ussh_os::agent_socket::{connect_as, peer_of};
use ussh_os::process;

use super::home::{Home, HomeError};

/// Name of the socket, in the folder of the guarded agent.
const SOCKET: &str = "confirm";
/// Longest question, bytes.
const MAX_QUESTION: u64 = 4096;
/// How long the question may take to come, or the answer to go: it is the same machine.
const PROMPT: Duration = Duration::from_secs(5);

/// Why nobody can be asked here.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// No terminal.
    #[error("there is no terminal to ask on: {0}")]
    NoTerminal(io::Error),
    /// It runs already.
    #[error("another `ussh --confirm` asks already, elsewhere")]
    Taken,
    /// The folder.
    #[error("{0}")]
    Home(#[from] HomeError),
    /// The system would not.
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn socket(uid: u32) -> Result<(Home, PathBuf), HomeError> {
    let home = Home::open(uid)?;
    let path = home.folder().join(SOCKET);
    Ok((home, path))
}

fn connect(uid: u32, path: &Path) -> Option<UnixStream> {
    let groups = process::groups().ok()?;
    connect_as(uid, process::real_gid(), &groups, path, PROMPT).ok().map(|(stream, _)| stream)
}

/// A question that is being asked there; `None`: nobody listens.
pub fn put(question: &str) -> Option<UnixStream> {
    let uid = process::real_uid();
    let mut stream = connect(uid, &socket(uid).ok()?.1)?;
    stream.write_all(question.as_bytes()).and_then(|()| stream.shutdown(Shutdown::Write)).ok()?;
    Some(stream)
}

/// Asks on this terminal until it is interrupted, or the terminal is gone.
/// # Errors
/// [`TerminalError`]
pub fn serve() -> Result<(), TerminalError> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(TerminalError::NoTerminal)?;
    let uid = process::real_uid();
    let (home, path) = socket(uid)?;
    let listener = {
        let _one_at_a_time = home.lock()?;
        if connect(uid, &path).is_some() {
            return Err(TerminalError::Taken);
        }
        // Of one that was interrupted.
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(&path)?
    };
    writeln!(
        terminal,
        "ussh: what hosts ask the guarded agent for, and `confirm` names, is asked here. End with Ctrl-C."
    )?;
    loop {
        if !wait(&terminal, &listener)? {
            return Ok(());
        }
        let (stream, _) = listener.accept()?;
        if peer_of(&stream).is_ok_and(|peer| peer.uid == uid) && !ask(&mut terminal, stream)? {
            return Ok(());
        }
    }
}

/// Until somebody connects; `false`: the terminal is gone. What is typed meanwhile is nobody's answer.
fn wait(terminal: &File, listener: &UnixListener) -> io::Result<bool> {
    loop {
        let mut polled =
            [PollFd::new(terminal.as_fd(), PollFlags::empty()), PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        let [gone, _] = polled.map(|fd| fd.any().unwrap_or(true));
        return Ok(!gone);
    }
}

/// `false`: the terminal is gone.
fn ask(terminal: &mut File, mut stream: UnixStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(PROMPT))?;
    stream.set_write_timeout(Some(PROMPT))?;
    let mut question = String::new();
    // Whoever is somebody else's, or breaks off, is told nothing.
    let read = (&stream).take(MAX_QUESTION).read_to_string(&mut question);
    if read.is_err() || question.is_empty() {
        return Ok(true);
    }
    let lines = question.lines().filter(|line| !line.is_empty());
    let shown = lines.map(|line| escape(line.as_bytes(), 512)).collect::<Vec<_>>().join("\n");
    // What was typed before it was read is no answer to it.
    let _ = tcflush(terminal.as_fd(), FlushArg::TCIFLUSH);
    write!(terminal, "\n{shown} [y/N] ")?;
    terminal.flush()?;
    let began = Instant::now();
    // The other side hangs up when nobody waits for the answer any more.
    let mut polled =
        [PollFd::new(terminal.as_fd(), PollFlags::POLLIN), PollFd::new(stream.as_fd(), PollFlags::empty())];
    while poll(&mut polled, PollTimeout::NONE).is_err_and(|errno| errno == Errno::EINTR) {}
    let [typed, gone] = polled.map(|fd| fd.any().unwrap_or(false));
    if gone {
        writeln!(terminal, "\n(nobody waits for the answer any more, after {} s)", began.elapsed().as_secs())?;
        return Ok(true);
    }
    let mut line = [0; 64];
    let read = if typed { terminal.read(&mut line)? } else { 0 };
    if read == 0 {
        return Ok(false);
    }
    let said = line.get(..read).unwrap_or_default().trim_ascii();
    let is_yes = said.eq_ignore_ascii_case(b"y") || said.eq_ignore_ascii_case(b"yes");
    // One that has gone meanwhile gets nothing.
    let _ = stream.write_all(if is_yes { b"y" } else { b"n" });
    writeln!(terminal, "{}", if is_yes { "signed" } else { "refused" })?;
    Ok(true)
}
