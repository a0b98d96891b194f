//! Whether sshd has passed on what was written to a session's terminals: it exits on SIGTERM without relaying what it has not read.
//!
//! The terminal itself cannot be asked (a pty's TIOCOUTQ is always 0), but its reader can be watched. sshd reads, encrypts and sends in one go and sleeps only when nothing is
//! left to do: its ppoll(2) returns at once while its side of the terminal holds anything (drivers/tty/n_tty.c, `n_tty_poll` flushes first). So when it has gone to sleep
//! since the message was written, the message is out. It may be stopped, or its client not take any more: whoever waits must have an end to it.

use std::io;

/// A process that relays a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastWord {
    reader: u32,
    /// Voluntary context switches after which the message is out.
    out_at: u64,
}

impl LastWord {
    /// To be made just before the message is written. `None`: the process is gone.
    pub fn before_writing(reader: u32) -> Option<Self> {
        let rest = Rest::of(reader).ok()?;
        // One that is at work may go to sleep once more before it sees the message.
        let sleeps = if rest.asleep { 1 } else { 2 };
        Some(LastWord { reader, out_at: rest.sleeps.saturating_add(sleeps) })
    }

    /// Whether it is out, or there is nobody left to pass it on.
    pub fn is_out(self) -> bool {
        Rest::of(self.reader).map_or(true, |rest| rest.asleep && rest.sleeps >= self.out_at)
    }
}

/// How a process has rested, from /proc/PID/status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    /// It sleeps now, and a signal or its input would wake it.
    asleep: bool,
    /// How often it has gone to sleep of its own will.
    sleeps: u64,
}

impl Rest {
    fn of(pid: u32) -> io::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        Rest::parse(&status).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(status: &str) -> Option<Self> {
        let value = |key| status.lines().find_map(|line: &str| line.strip_prefix(key)).map(str::trim);
        Some(Rest {
            asleep: value("State:")?.starts_with('S'),
            sleeps: value("voluntary_ctxt_switches:")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    fn within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + patience;
        while !condition() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    #[test]
    fn reads_state_and_sleeps() {
        let status =
            "Name:\tState:\nState:\tS (sleeping)\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t9\n";
        assert_eq!(Rest::parse(status), Some(Rest { asleep: true, sleeps: 17 }));
        assert_eq!(Rest::parse(&status.replace("S (s", "T (s")), Some(Rest { asleep: false, sleeps: 17 }));
        assert_eq!(Rest::parse("State:\tS (sleeping)\n"), None);
    }

    #[test]
    fn the_word_is_out_when_its_reader_sleeps_again_and_not_before() {
        let mut reader = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (pid, patience) = (reader.id(), Duration::from_secs(10));
        assert!(within(patience, || Rest::of(pid).is_ok_and(|rest| rest.asleep)), "cat waits for its input");

        // Stopped: it has not read, and that is known.
        kill(Pid::from_raw(pid as i32), Signal::SIGSTOP).unwrap();
        assert!(within(patience, || Rest::of(pid).is_ok_and(|rest| !rest.asleep)));
        let word = LastWord::before_writing(pid).unwrap();
        reader.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
        assert!(!within(Duration::from_millis(50), || word.is_out()), "nobody has read it");
        kill(Pid::from_raw(pid as i32), Signal::SIGCONT).unwrap();
        let mut seen = [0_u8; 4];
        reader.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();

        assert!(within(patience, || Rest::of(pid).is_ok_and(|rest| rest.asleep)));
        let word = LastWord::before_writing(pid).unwrap();
        assert!(!word.is_out(), "nothing was written yet");
        reader.stdin.as_mut().unwrap().write_all(b"two\n").unwrap();
        assert!(within(patience, || word.is_out()));

        reader.kill().unwrap();
        reader.wait().unwrap();
        assert!(word.is_out() && LastWord::before_writing(pid).is_none(), "nobody is left to pass it on");
    }
}
