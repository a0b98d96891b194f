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
/// Most questions at a time: each ssh process has one. More wait.
const MAX_OPEN: usize = 16;
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
    let mut questions = Questions { terminal, open: Vec::new(), last: 0 };
    while let Some(happened) = questions.wait(&listener)? {
        questions.withdraw(&happened.gone)?;
        if happened.was_typed && !questions.answer()? {
            break;
        }
        if happened.is_asked {
            let (stream, _) = listener.accept()?;
            if peer_of(&stream).is_ok_and(|peer| peer.uid == uid) {
                questions.put(stream)?;
            }
        }
    }
    Ok(())
}

/// What is asked on the terminal at the moment. One that nobody answers holds up no other: with several, the answer names the number.
struct Questions {
    terminal: File,
    open: Vec<Open>,
    /// The number that was given last; none is given twice, so that an answer that comes late is none to another question.
    last: u32,
}

struct Open {
    number: u32,
    stream: UnixStream,
    began: Instant,
}

struct Happened {
    was_typed: bool,
    is_asked: bool,
    /// Numbers of those that hung up.
    gone: Vec<u32>,
}

impl Questions {
    /// Until something happens; `None`: the terminal is gone. What is typed while nothing is asked is nobody's answer.
    fn wait(&self, listener: &UnixListener) -> io::Result<Option<Happened>> {
        let when = |asks: bool| if asks { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut polled = vec![
            PollFd::new(self.terminal.as_fd(), when(!self.open.is_empty())),
            PollFd::new(listener.as_fd(), when(self.open.len() < MAX_OPEN)),
        ];
        polled.extend(self.open.iter().map(|open| PollFd::new(open.stream.as_fd(), PollFlags::empty())));
        while let Err(errno) = poll(&mut polled, PollTimeout::NONE) {
            if errno != Errno::EINTR {
                return Err(errno.into());
            }
        }
        let mut happened = polled.iter().map(|fd| fd.any().unwrap_or(true));
        let (was_typed, is_asked) = (happened.next().unwrap_or(true), happened.next().unwrap_or(true));
        if was_typed && self.open.is_empty() {
            return Ok(None);
        }
        let gone = self.open.iter().zip(happened).filter_map(|(open, is_gone)| is_gone.then_some(open.number));
        Ok(Some(Happened { was_typed, is_asked, gone: gone.collect() }))
    }

    /// Shows one more.
    fn put(&mut self, stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PROMPT))?;
        stream.set_write_timeout(Some(PROMPT))?;
        let mut question = String::new();
        // Whoever breaks off is told nothing.
        let read = (&stream).take(MAX_QUESTION).read_to_string(&mut question);
        if read.is_err() || question.is_empty() {
            return Ok(());
        }
        let lines = question.lines().filter(|line| !line.is_empty());
        let shown = lines.map(|line| escape(line.as_bytes(), 512)).collect::<Vec<_>>().join("\n");
        self.last = self.last.wrapping_add(1);
        self.open.push(Open { number: self.last, stream, began: Instant::now() });
        write!(self.terminal, "\n{}: {shown}", self.last)?;
        self.prompt()
    }

    /// What can be said now.
    fn prompt(&mut self) -> io::Result<()> {
        match self.open.as_slice() {
            [] => Ok(()),
            [_] => {
                // What was typed before it was read is no answer to it.
                let _ = tcflush(self.terminal.as_fd(), FlushArg::TCIFLUSH);
                write!(self.terminal, " [y/N] ")
            }
            [first, ..] => {
                let numbers = self.open.iter().map(|open| open.number.to_string()).collect::<Vec<_>>().join(", ");
                write!(
                    self.terminal,
                    "\n({numbers} wait for an answer: say to which, as \"{0} y\" or \"{0} n\") ",
                    first.number
                )
            }
        }?;
        self.terminal.flush()
    }

    /// Those for whose answer nobody waits any more: the other side hangs up then.
    fn withdraw(&mut self, gone: &[u32]) -> io::Result<()> {
        for number in gone {
            let Some(open) = self.take(*number) else { continue };
            let after = open.began.elapsed().as_secs();
            writeln!(self.terminal, "\n({number}: nobody waits for the answer any more, after {after} s)")?;
            self.remind()?;
        }
        Ok(())
    }

    /// What is left to be answered.
    fn remind(&mut self) -> io::Result<()> {
        if let [open] = self.open.as_slice() {
            write!(self.terminal, "{}:", open.number)?;
        }
        self.prompt()
    }

    fn take(&mut self, number: u32) -> Option<Open> {
        let at = self.open.iter().position(|open| open.number == number)?;
        Some(self.open.remove(at))
    }

    /// Reads what was typed. `false`: the terminal is gone.
    fn answer(&mut self) -> io::Result<bool> {
        // All that asked have hung up meanwhile: it is still there, and is taken away before the next one is shown.
        if self.open.is_empty() {
            return Ok(true);
        }
        let mut line = [0; 64];
        let read = self.terminal.read(&mut line)?;
        if read == 0 {
            return Ok(false);
        }
        let said = String::from_utf8_lossy(line.get(..read).unwrap_or_default());
        let alone = if let [open] = self.open.as_slice() { Some(open.number) } else { None };
        let open = meant(said.trim(), alone).and_then(|(number, is_yes)| Some((self.take(number)?, is_yes)));
        match open {
            Some((mut open, is_yes)) => {
                // One that has gone meanwhile gets nothing.
                let _ = open.stream.write_all(if is_yes { b"y" } else { b"n" });
                writeln!(self.terminal, "{}", if is_yes { "signed" } else { "refused" })?;
            }
            None => writeln!(self.terminal, "that is no answer to what is asked")?,
        }
        self.remind()?;
        Ok(true)
    }
}

/// Which question is answered how: `7 y`; without a number it is `alone`, the only one. All but `y` and `yes` is a no. `None`: it does not say which.
fn meant(said: &str, alone: Option<u32>) -> Option<(u32, bool)> {
    let (number, answer) = said.split_once(char::is_whitespace).unwrap_or((said, ""));
    let (number, answer) = match number.trim_end_matches([':', '.']).parse() {
        Ok(number) => (number, answer.trim()),
        Err(_) => (alone?, said),
    };
    Some((number, answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_to_the_only_question_or_names_its_number() {
        for (said, alone, wanted) in [
            ("y", Some(3), Some((3, true))),
            ("Yes", Some(3), Some((3, true))),
            ("", Some(3), Some((3, false))),
            ("no", Some(3), Some((3, false))),
            ("yep", Some(3), Some((3, false))),
            ("y", None, None),
            ("", None, None),
            ("3 y", None, Some((3, true))),
            ("3:  yes", None, Some((3, true))),
            ("3 n", None, Some((3, false))),
            ("3", None, Some((3, false))),
            ("3 4 y", None, Some((3, false))),
            // To one that was withdrawn: no answer to this one.
            ("2 y", Some(3), Some((2, true))),
            ("y 3", None, None),
            ("-3 y", None, None),
        ] {
            assert_eq!(meant(said, alone), wanted, "{said:?} {alone:?}");
        }
    }
}
