//! Questions of the guarded agent on a terminal: `ussh --confirm` asks there what the agent's process wants to know, for those who have no desktop.
//!
//! Not on the terminal of the `ssh` over which the request came: the host writes on that one, and could paint another question over ours; and ssh reads what is typed there.
//! Process: `ussh --confirm`, in front of the user, until it is interrupted; it listens beside the guarded agent. Untrusted: nothing, but names in a question come from hosts.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ussh_core::escape::escape;
use ussh_os::agent_socket::{connect_as, peer_of};
use ussh_os::process;

use super::board::{Board, Lines, Said, Shown};
use super::home::{Home, HomeError};

/// Name of the socket, in the folder of the guarded agent.
const SOCKET: &str = "confirm";
/// Most that wait until there is room on the board: more than the guarded agent has connections.
const MAX_WAITING: usize = 256;
/// Most that is read of the terminal before it is looked what else has happened, in lines.
const MAX_READS: usize = 64;
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
    let mut terminal = OpenOptions::new().write(true).open("/dev/tty").map_err(TerminalError::NoTerminal)?;
    // Opened for itself: that reading does not wait is nobody else's concern then.
    let mut without_waiting = OpenOptions::new();
    without_waiting.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let keyboard = without_waiting.open("/dev/tty").map_err(TerminalError::NoTerminal)?;
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
    let (board, waiting, lines) = (Board::new(), VecDeque::new(), Lines::default());
    let mut questions = Questions { terminal, keyboard, lines, board, waiting };
    loop {
        let happened = questions.wait(&listener)?;
        questions.withdraw(&happened.gone)?;
        // Before anything new is shown: what was typed by then is no answer to it.
        if happened.was_typed && !questions.read()? {
            return Ok(());
        }
        if happened.is_asked {
            let (stream, _) = listener.accept()?;
            if peer_of(&stream).is_ok_and(|peer| peer.uid == uid) {
                questions.waiting.extend(Waiting::of(stream));
            }
        }
        let before = questions.waiting.len();
        questions.show_waiting()?;
        // There was no room for it: that it waits is said.
        if happened.is_asked && before > 0 && questions.waiting.len() == before {
            questions.prompt()?;
        }
    }
}

/// What is asked on the terminal at the moment.
struct Questions {
    terminal: File,
    keyboard: File,
    lines: Lines,
    board: Board<UnixStream>,
    /// Those for which there is no room.
    waiting: VecDeque<Waiting>,
}

/// A question that is not shown yet.
struct Waiting {
    stream: UnixStream,
    text: String,
}

impl Waiting {
    /// Whoever breaks off is told nothing.
    fn of(stream: UnixStream) -> Option<Self> {
        stream.set_read_timeout(Some(PROMPT)).and_then(|()| stream.set_write_timeout(Some(PROMPT))).ok()?;
        let mut question = String::new();
        (&stream).take(MAX_QUESTION).read_to_string(&mut question).ok()?;
        let lines = question.lines().filter(|line| !line.is_empty());
        let text = lines.map(|line| escape(line.as_bytes(), 512)).collect::<Vec<_>>().join("\n");
        (!text.is_empty()).then_some(Waiting { stream, text })
    }
}

struct Happened {
    was_typed: bool,
    is_asked: bool,
    /// Numbers of those that hung up.
    gone: Vec<u32>,
}

impl Questions {
    /// Until something happens. Of those that only wait, those that hung up are forgotten here.
    fn wait(&mut self, listener: &UnixListener) -> io::Result<Happened> {
        let accepts = if self.waiting.len() < MAX_WAITING { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut polled =
            vec![PollFd::new(self.keyboard.as_fd(), PollFlags::POLLIN), PollFd::new(listener.as_fd(), accepts)];
        let streams = self.board.shown().iter().map(|shown| &shown.by);
        let all = streams.chain(self.waiting.iter().map(|waiting| &waiting.stream));
        polled.extend(all.map(|stream| PollFd::new(stream.as_fd(), PollFlags::empty())));
        while let Err(errno) = poll(&mut polled, PollTimeout::NONE) {
            if errno != Errno::EINTR {
                return Err(errno.into());
            }
        }
        let happened: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let mut happened = happened.into_iter();
        let (was_typed, is_asked) = (happened.next().unwrap_or(true), happened.next().unwrap_or(true));
        let shown = self.board.shown().iter().zip(happened.by_ref().take(self.board.shown().len()));
        let gone = shown.filter_map(|(shown, is_gone)| is_gone.then_some(shown.number)).collect();
        self.waiting.retain(|_| !happened.next().unwrap_or(false));
        Ok(Happened { was_typed, is_asked, gone })
    }

    /// Shows what there is room for.
    fn show_waiting(&mut self) -> io::Result<()> {
        while self.board.has_room() {
            let Some(Waiting { stream, text }) = self.waiting.pop_front() else { break };
            let number = self.board.next_number();
            write!(self.terminal, "\n{number}: {text}")?;
            self.board.put(stream, Instant::now());
            self.prompt()?;
        }
        Ok(())
    }

    /// What can be said now.
    fn prompt(&mut self) -> io::Result<()> {
        let [first, others @ ..] = self.board.shown() else { return Ok(()) };
        let say = format!("\"{0} y\" signs, \"{0} n\" refuses", first.number);
        if others.is_empty() {
            write!(self.terminal, "\n({say}) ")?;
        } else {
            let numbers = self.board.shown().iter().map(|shown| shown.number.to_string()).collect::<Vec<_>>();
            let more = match self.waiting.len() {
                0 => String::new(),
                more => format!(", and {more} more that are not shown yet"),
            };
            write!(self.terminal, "\n({} wait for an answer{more}: {say}) ", numbers.join(", "))?;
        }
        self.terminal.flush()
    }

    /// Those for whose answer nobody waits any more: the other side hangs up then.
    fn withdraw(&mut self, gone: &[u32]) -> io::Result<()> {
        for number in gone {
            let Some(shown) = self.board.take(*number) else { continue };
            self.tell_gone(&shown)?;
            self.prompt()?;
        }
        Ok(())
    }

    fn tell_gone(&mut self, shown: &Shown<UnixStream>) -> io::Result<()> {
        let after = shown.since.elapsed().as_secs();
        write!(self.terminal, "\n({}: nobody waits for the answer any more, after {after} s)", shown.number)
    }

    /// Reads what was typed, without waiting for more. `false`: the terminal is gone, or Ctrl-D was typed.
    fn read(&mut self) -> io::Result<bool> {
        for _ in 0..MAX_READS {
            let mut came = [0; 4096];
            match self.keyboard.read(&mut came) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    for line in self.lines.add(came.get(..read).unwrap_or_default()) {
                        self.hear(&line)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Hung up.
                Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn hear(&mut self, line: &str) -> io::Result<()> {
        let (shown, answer, word) = match self.board.hear(line, Instant::now()) {
            Said::Yes(shown) => (shown, b"y", "signed"),
            Said::No(shown) => (shown, b"n", "refused"),
            Said::TooSoon(number) => {
                write!(self.terminal, "{number} has only just been asked: read it, and say it again")?;
                return self.prompt();
            }
            // Nobody's answer.
            Said::Nothing if self.board.shown().is_empty() => return Ok(()),
            Said::Nothing => {
                write!(self.terminal, "that is no answer to what is asked")?;
                return self.prompt();
            }
        };
        if (&shown.by).write_all(answer).is_ok() {
            write!(self.terminal, "{}: {word}", shown.number)?;
        } else {
            self.tell_gone(&shown)?;
        }
        if self.board.shown().is_empty() {
            writeln!(self.terminal)?;
        }
        self.prompt()
    }
}
