//! A line that a person types at a terminal, and that the terminal does not show: a passphrase, a token.
//!
//! Trusted: the person. The terminal shows what is typed again before anything else goes on: also before Ctrl-C ends the process, or Ctrl-Z stops it.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Longest line, bytes: the kernel gives no longer one (N_TTY_BUF_SIZE, drivers/tty/n_tty.c).
const MAX_LINE: usize = 4096;
/// What ends or stops a process at a terminal.
const HELD: [Signal; 5] = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP];

/// Asks at `terminal`; the prompt, and the end of the line, go to `shown`. Without the line's end.
///
/// A signal has the effect that it has elsewhere in the process, when the terminal is what it was; whoever goes on after it (Ctrl-Z and `fg`) is asked again.
/// # Errors
/// It is no terminal, or has gone; UnexpectedEof: Ctrl-D in place of a line; InvalidData: the line is not UTF-8.
pub fn ask(terminal: &impl AsFd, shown: &mut impl Write, prompt: &str) -> io::Result<Zeroizing<String>> {
    loop {
        if let Some(line) = ask_once(terminal.as_fd(), shown, prompt)? {
            return Ok(line);
        }
    }
}

/// `None`: a signal waits that was held. It comes when this is over.
fn ask_once(terminal: BorrowedFd<'_>, shown: &mut impl Write, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
    let held = Held::begin()?;
    let signals = SignalFd::with_flags(&held.anew(), SfdFlags::SFD_CLOEXEC)?;
    let hidden = Hidden::begin(terminal)?;
    let line = shown.write_all(prompt.as_bytes()).and_then(|()| shown.flush());
    let line = line.and_then(|()| read_line(terminal, &signals));
    hidden.end()?;
    // Nothing can be done about a terminal that has gone.
    let _ = shown.write_all(b"\n");
    line
}

fn read_line(terminal: BorrowedFd<'_>, signals: &SignalFd) -> io::Result<Option<Zeroizing<String>>> {
    // Room for all of it at once: one that grows leaves copies behind.
    let mut line = Zeroizing::new(vec![0; MAX_LINE]);
    let mut length = 0;
    loop {
        let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(terminal, PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e.into()),
        }
        // It is looked at, and left where it is.
        if ready.first().and_then(PollFd::any) == Some(true) {
            return Ok(None);
        }
        let room = line.get_mut(length..).unwrap_or_default();
        let read = match nix::unistd::read(terminal, room) {
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            read => read?,
        };
        length += read;
        let has_end = line.get(..length).is_some_and(|line| line.ends_with(b"\n"));
        if has_end || read == 0 || length == MAX_LINE {
            break;
        }
    }
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(length);
    let mut text = Zeroizing::new(String::from_utf8(std::mem::take(&mut *line)).map_err(|e| {
        drop(Zeroizing::new(e.into_bytes()));
        io::ErrorKind::InvalidData
    })?);
    let end = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(end);
    Ok(Some(text))
}

/// Signals that wait until it is dropped.
struct Held(SigSet);

impl Held {
    fn begin() -> io::Result<Self> {
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&HELD.into_iter().collect()), Some(&mut before))?;
        Ok(Held(before))
    }

    /// Without those that the caller holds: they have no effect when this is over, either.
    fn anew(&self) -> SigSet {
        HELD.into_iter().filter(|signal| !self.0.contains(*signal)).collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Cannot fail: EINVAL is for `how` (pthread_sigmask(3)).
        let _ = self.0.thread_set_mask();
    }
}

/// A terminal that shows nothing of what is typed, until it is dropped.
struct Hidden<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn begin(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        // What was typed before, and so was shown, is no answer.
        tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet)?;
        Ok(Hidden { terminal, before })
    }

    fn end(&self) -> io::Result<()> {
        Ok(tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before)?)
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A second time if all went well, which changes nothing.
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::thread::JoinHandleExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use nix::pty::{OpenptyResult, openpty};
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, sigaction};

    use super::*;

    /// A terminal's two ends, and an `ask_once` at it whose prompt has been shown.
    fn asking() -> (File, File, std::thread::JoinHandle<io::Result<Option<Zeroizing<String>>>>) {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let (mut keyboard, slave) = (File::from(master), File::from(slave));
        let terminal = slave.try_clone().unwrap();
        let asker = std::thread::spawn(move || ask_once(terminal.as_fd(), &mut &terminal, "Token: "));
        assert_eq!(shown(&mut keyboard, "Token: "), "Token: ");
        (keyboard, slave, asker)
    }

    /// What is shown, up to this.
    fn shown(keyboard: &mut File, end: &str) -> String {
        let (mut all, mut byte) = (String::new(), [0]);
        while !all.ends_with(end) {
            keyboard.read_exact(&mut byte).unwrap();
            all.push(char::from(byte[0]));
        }
        all
    }

    fn echoes(terminal: &File) -> bool {
        tcgetattr(terminal).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    #[test]
    fn a_line_is_read_with_its_blanks_and_not_shown() {
        let (mut keyboard, terminal, asker) = asking();
        assert!(!echoes(&terminal));
        keyboard.write_all(b" open sesame \n").unwrap();
        assert_eq!(shown(&mut keyboard, "\n"), "\r\n");
        assert_eq!(asker.join().unwrap().unwrap().unwrap().as_str(), " open sesame ");
        assert!(echoes(&terminal));
    }

    extern "C" fn come(_: libc::c_int) {
        COME.fetch_add(1, Ordering::Relaxed);
    }

    static COME: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn a_signal_comes_when_the_terminal_is_what_it_was() {
        for (number, signal) in HELD.into_iter().enumerate() {
            let action = SigAction::new(SigHandler::Handler(come), SaFlags::SA_RESTART, SigSet::empty());
            // SAFETY: the handler does nothing but what is async-signal-safe (signal-safety(7)).
            unsafe { sigaction(signal, &action) }.unwrap();
            let (_keyboard, terminal, asker) = asking();
            assert!(!echoes(&terminal));
            // SAFETY: a signal that this thread blocks, to a thread that has not been waited for (pthread_kill(3)).
            assert_eq!(unsafe { libc::pthread_kill(asker.as_pthread_t(), signal as i32) }, 0);
            assert!(asker.join().unwrap().unwrap().is_none(), "{signal}");
            assert_eq!((echoes(&terminal), COME.load(Ordering::Relaxed)), (true, number + 1), "{signal}");
        }
    }

    #[test]
    fn no_line_and_no_text_are_errors() {
        for (typed, kind) in
            [(b"\x04".as_slice(), io::ErrorKind::UnexpectedEof), (b"\xff\n", io::ErrorKind::InvalidData)]
        {
            let (mut keyboard, terminal, asker) = asking();
            keyboard.write_all(typed).unwrap();
            assert_eq!(asker.join().unwrap().unwrap_err().kind(), kind);
            assert!(echoes(&terminal));
        }
    }

    #[test]
    fn what_is_no_terminal_asks_nothing() {
        let file = File::open("/dev/null").unwrap();
        let mut shown = Vec::new();
        assert!(ask(&file, &mut shown, "Token: ").is_err());
        assert_eq!(shown, b"");
    }
}
