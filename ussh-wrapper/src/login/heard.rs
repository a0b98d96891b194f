//! What `ssh` to the CA says on stderr: passed on as it comes, and its end kept, for the cause of a failure stands nowhere else.
//!
//! ssh translates none of its messages, and runs with LogLevel DEBUG3: its own account of the login is not shown, and tells what no CA can say in its place: whether it has proved itself, whether it let us in ([`Watch`]), and for how long it has been silent.
//! What the CA itself says comes over the same pipe, but not before it has proved itself.

mod watch;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use ussh_core::escape::escape;
use ussh_os::process::{ProcessHandle, start_time};

use self::watch::{Filter, Watch};
use crate::config::CaAddress;

/// How much of the end is kept, in bytes.
const MAX_KEPT: usize = 16 * 1024;
/// How long the pipe may stay open when ssh has ended: an askpass program may still hold it.
const LINGER: Duration = Duration::from_millis(500);
/// How long ssh may take to end when it is told to.
const TO_END: Duration = Duration::from_secs(2);

/// How long a CA may be silent while nobody is asked anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Whoever waits longer is told what for.
    pub(super) unnoticed: Duration,
    /// Then ssh is ended: a push to a phone takes less, and usshca itself leaves no login open for longer (two and a half minutes at most, unless it is configured so).
    pub(super) silence: Duration,
}

pub(super) const LIMITS: Limits = Limits { unnoticed: Duration::from_secs(10), silence: Duration::from_secs(180) };

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The end of it; without ssh's account.
    pub(super) said: String,
    /// The CA has proved itself: from there on it has a say in what is heard.
    pub(super) is_proven: bool,
    /// It has let us in.
    pub(super) is_in: bool,
    /// It has put a question.
    pub(super) was_asked: bool,
    /// It was silent for too long, and ssh was ended.
    pub(super) was_given_up: bool,
    /// What has proved itself to be one of our hosts, as it has announced itself, if it is no CA. ssh was ended then, before it could ask for a password.
    pub(super) no_ca: Option<String>,
}

impl Heard {
    /// Why the login did not begin. That of one who has proved himself has begun, whatever he says.
    pub(super) fn cause(&self) -> Option<Cause> {
        if self.is_proven { None } else { Cause::find(&self.said) }
    }
}

/// Listens until ssh has said all.
pub(super) struct Ear {
    listener: JoinHandle<Heard>,
    ended: Arc<AtomicBool>,
}

impl Ear {
    /// To this ssh, which was started with its stderr a pipe.
    pub(super) fn listen(ssh: &mut Child, ca: &CaAddress, limits: Limits) -> Option<Self> {
        let pipe = ssh.stderr.take()?;
        // One that has ended needs no end.
        let process = start_time(ssh.id()).and_then(|start| ProcessHandle::open(ssh.id(), start)).ok();
        let (ended, ca) = (Arc::new(AtomicBool::new(false)), ca.to_string());
        let flag = Arc::clone(&ended);
        // Signals are the other thread's, which passes them on: one that is delivered here would end us at once. A thread begins with the mask of who starts it.
        let mask = SigSet::thread_get_mask();
        let _ = SigSet::all().thread_block();
        let listener = std::thread::spawn(move || {
            let mut listener = Listener::new(process, ca, limits);
            listener.listen(pipe, &flag);
            listener.heard()
        });
        let _ = mask.map(|mask| mask.thread_set_mask());
        Some(Ear { listener, ended })
    }
    /// All of it that is kept; ssh has ended. This process has one thread less then, as those want it who start others.
    pub(super) fn heard(self) -> Heard {
        self.ended.store(true, Ordering::Relaxed);
        self.listener.join().unwrap_or_default()
    }
}

struct Listener {
    process: Option<ProcessHandle>,
    ca: String,
    limits: Limits,
    kept: Vec<u8>,
    filter: Filter,
    watch: Watch,
    is_told: bool,
    /// When ssh was told to end.
    given_up: Option<Instant>,
}

impl Listener {
    fn new(process: Option<ProcessHandle>, ca: String, limits: Limits) -> Self {
        let filter = Filter::new(std::env::var_os("USSH_DEBUG").is_some());
        let watch = Watch::new(Instant::now());
        Listener { process, ca, limits, kept: Vec::new(), filter, watch, is_told: false, given_up: None }
    }
    fn listen(&mut self, mut pipe: ChildStderr, ended: &AtomicBool) {
        let mut buffer = [0; 4096];
        let linger = PollTimeout::try_from(LINGER.min(self.limits.silence)).unwrap_or(PollTimeout::ZERO);
        loop {
            let ready = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], linger);
            let has_ended = ended.load(Ordering::Relaxed);
            if ready == Ok(0) && has_ended {
                break;
            }
            if !has_ended {
                self.look_at_the_clock(Instant::now());
            }
            if !ready.is_ok_and(|count| count > 0) {
                continue;
            }
            let Ok(count @ 1..) = pipe.read(&mut buffer) else { break };
            let now = Instant::now();
            let Listener { filter, watch, .. } = self;
            let said = filter.pass(buffer.get(..count).unwrap_or_default(), &mut |line| watch.note(line, now));
            self.keep(&said, now);
            // Before it can ask for a password.
            if self.given_up.is_none() && self.watch.no_ca().is_some() {
                self.end(now);
            }
        }
        let rest = self.filter.rest();
        self.keep(&rest, Instant::now());
    }
    fn keep(&mut self, said: &[u8], now: Instant) {
        if said.is_empty() {
            return;
        }
        self.watch.heard(now);
        // Whoever closed our stderr does not want to read it.
        let _ = std::io::stderr().write_all(said);
        self.kept.extend_from_slice(said);
        let surplus = self.kept.len().saturating_sub(MAX_KEPT);
        self.kept.drain(..surplus);
    }
    fn look_at_the_clock(&mut self, now: Instant) {
        let silence = self.watch.silence(now);
        if silence >= self.limits.unnoticed && !self.is_told {
            self.is_told = true;
            eprintln!("ussh: waiting for the CA {}", self.ca);
        }
        match (self.given_up, &self.process) {
            (None, Some(_)) if silence >= self.limits.silence => self.end(now),
            (Some(since), Some(process)) if now.duration_since(since) >= TO_END => {
                drop(process.signal(Signal::SIGKILL as i32));
            }
            _ => {}
        }
    }
    fn end(&mut self, now: Instant) {
        self.given_up = Some(now);
        let _ = self.process.as_ref().map(|process| process.signal(Signal::SIGTERM as i32));
    }
    fn heard(self) -> Heard {
        Heard {
            said: String::from_utf8_lossy(&self.kept).into_owned(),
            is_proven: self.watch.is_proven(),
            is_in: self.watch.is_in(),
            was_asked: self.watch.was_asked(),
            was_given_up: self.given_up.is_some() && self.watch.no_ca().is_none(),
            no_ca: self.watch.no_ca().map(str::to_owned),
        }
    }
}

/// What announces itself so, if it is no CA; to be shown.
pub(super) fn no_usshca(announced: &str) -> Option<String> {
    (!announced.starts_with("usshca")).then(|| escape(announced.as_bytes(), 64))
}

/// Why the login did not begin, in ssh's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nobody answers there as an SSH server does.
    NoAnswer(String),
    /// It answers, and has not proved to be the CA.
    NotProven(HostKeyTrouble),
}

/// Why a CA did not prove itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKeyTrouble {
    /// It shows a plain host key.
    NoCertificate,
    /// Its host certificate has ended.
    Expired,
    /// Its host certificate has not begun.
    NotYetValid,
    /// Its host certificate is for other names.
    OtherName,
    /// Its host certificate is signed by a CA that is not in our file.
    OtherCa,
    /// Its key, or the CA's that signed it, is marked `@revoked` there.
    Revoked,
}

impl Cause {
    /// Looks for it (sshconnect.c `check_host_cert`, `check_host_key`, `verify_host_key`; sshkey.c `sshkey_cert_check_authority`; kex.c `kex_exchange_identification`).
    pub fn find(said: &str) -> Option<Self> {
        use HostKeyTrouble::{Expired, NoCertificate, NotYetValid, OtherCa, OtherName, Revoked};
        let lines = || said.lines().map(|line| line.trim_end_matches('\r'));
        let any = |words: &str| lines().any(|line| line.starts_with(words));
        if any("Unable to negotiate with ") && said.contains("no matching host key type found") {
            return Some(Cause::NotProven(NoCertificate));
        }
        // ssh says it of the certificate, and then looks whether the plain key is known; OpenSSH 10 finds first that we take none.
        let plain_is_no_way = any("Couldn't drop certificate: ")
            || lines()
                .any(|line| line.starts_with("host key ") && line.ends_with(" not permitted by HostkeyAlgorithms"));
        if any("Host key verification failed.") || plain_is_no_way {
            let trouble = if said.contains("REVOKED HOST KEY DETECTED") || said.contains(" is marked as revoked") {
                Revoked
            } else if any("Certificate invalid: expired") {
                Expired
            } else if any("Certificate invalid: not yet valid") {
                NotYetValid
            } else if any("Certificate invalid: name is not a listed principal") {
                OtherName
            } else {
                OtherCa
            };
            return Some(Cause::NotProven(trouble));
        }
        let no_answer = lines().rev().find(|line| {
            line.starts_with("ssh: connect to host ")
                || line.starts_with("ssh: Could not resolve hostname ")
                || line.starts_with("kex_exchange_identification: ")
                || line.starts_with("Connection timed out during banner exchange")
                || line.starts_with("Timed out waiting for SSH identification string")
        })?;
        let reason = no_answer.rsplit(": ").next().unwrap_or(no_answer);
        Some(Cause::NoAnswer(ussh_core::escape::escape(reason.as_bytes(), 200)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::process::{Command, Stdio};

    use super::*;

    /// What is heard of a program that says this, as ssh would.
    fn heard_of(script: &str) -> Heard {
        let mut child = Command::new("sh").args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap();
        let limits = Limits { unnoticed: Duration::from_millis(50), silence: Duration::from_millis(200) };
        let ca = CaAddress::try_from("ca".to_owned()).unwrap();
        let ear = Ear::listen(&mut child, &ca, limits).unwrap();
        let _ = child.wait().unwrap();
        ear.heard()
    }

    #[test]
    fn one_that_has_proved_itself_cannot_say_that_it_has_not() {
        let proven = "printf 'debug1: SSH2_MSG_NEWKEYS received\\r\\n' >&2;";
        for said in ["Host key verification failed.", "ssh: connect to host ca port 22: Connection refused"] {
            let before = heard_of(&format!("printf '{said}\\r\\n' >&2"));
            assert!(before.cause().is_some(), "{before:?}");
            let after = heard_of(&format!("{proven} printf '{said}\\r\\n' >&2"));
            assert!(after.cause().is_none() && after.said == format!("{said}\r\n"), "{after:?}");
        }
    }

    #[test]
    fn one_that_is_silent_for_too_long_is_given_up_but_not_while_a_person_is_asked() {
        for (script, wanted) in [
            ("exec sleep 60", true),
            ("echo 'debug3: send packet: type 50' >&2; exec sleep 60", true),
            // The answer has been given.
            ("printf 'debug3: receive packet: type 60\\ndebug3: send packet: type 61\\n' >&2; exec sleep 60", true),
            ("echo 'debug3: receive packet: type 60' >&2; exec sleep 1", false),
            ("for _ in 1 2 3 4 5 6; do sleep 0.1; echo still here >&2; done", false),
            // What ssh does by itself is no life of the CA's.
            (
                "while true; do sleep 0.05; printf 'debug3: send packet: type 80\\ndebug3: receive packet: type 82\\n' >&2; done",
                true,
            ),
        ] {
            let heard = heard_of(script);
            assert_eq!(heard.was_given_up, wanted, "{script}: {heard:?}");
        }
    }

    #[test]
    fn the_cause_is_found_in_what_ssh_says() {
        use HostKeyTrouble::{Expired, NoCertificate, NotYetValid, OtherCa, OtherName, Revoked};
        let failed = "No ED25519 host key is known for ca and you have requested strict checking.\r\nHost key verification failed.\r\n";
        let of_10 = "host key ssh-ed25519 not permitted by HostkeyAlgorithms\r\nCouldn't drop certificate: unknown or unsupported key type\r\n";
        for (said, wanted) in [
            (
                "ssh: connect to host ca port 22: Connection refused\r\n",
                Some(Cause::NoAnswer("Connection refused".into())),
            ),
            (
                "ssh: Could not resolve hostname ca.example.com: Name or service not known\r\n",
                Some(Cause::NoAnswer("Name or service not known".into())),
            ),
            (
                "Connection timed out during banner exchange\r\nConnection to 10.0.0.1 port 22 timed out\r\n",
                Some(Cause::NoAnswer("Connection timed out during banner exchange".into())),
            ),
            (
                "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 10.0.0.1 port 22\r\n",
                Some(Cause::NoAnswer("Connection closed by remote host".into())),
            ),
            (
                "Unable to negotiate with 10.0.0.1 port 22: no matching host key type found. Their offer: ssh-ed25519\r\n",
                Some(Cause::NotProven(NoCertificate)),
            ),
            (&format!("Certificate invalid: expired\r\n{failed}"), Some(Cause::NotProven(Expired))),
            (&format!("Certificate invalid: not yet valid\r\n{failed}"), Some(Cause::NotProven(NotYetValid))),
            (
                &format!("Certificate invalid: name is not a listed principal\r\n{failed}"),
                Some(Cause::NotProven(OtherName)),
            ),
            (failed, Some(Cause::NotProven(OtherCa))),
            (&format!("Certificate invalid: expired\r\n{of_10}"), Some(Cause::NotProven(Expired))),
            (of_10, Some(Cause::NotProven(OtherCa))),
            (
                &format!("@       WARNING: REVOKED HOST KEY DETECTED!               @\r\n{failed}"),
                Some(Cause::NotProven(Revoked)),
            ),
            ("alice@ca: Permission denied (keyboard-interactive).\r\n", None),
            ("Welcome. Never mind: ssh: connect to host ca port 22: Connection refused\r\n", None),
            ("", None),
        ] {
            assert_eq!(Cause::find(said), wanted, "{said}");
        }
    }
}
