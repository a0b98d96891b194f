//! What `ssh` to the CA says on stderr: passed on as it comes, and its end kept, for the cause of a failure stands nowhere else.
//!
//! ssh translates none of its messages. What the CA itself says comes over the same pipe, but not before it has proved itself: at worst such a CA is taken for one that is down.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use ussh_core::escape::escape;
use ussh_os::process::{self, ProcessHandle};

/// How much of the end is kept, in bytes.
const MAX_KEPT: usize = 16 * 1024;
/// How long the pipe may stay open when ssh has ended: an askpass program may still hold it.
const LINGER: Duration = Duration::from_millis(500);

/// Has ssh (8.5 or later; those before take no notice) also say what the other side is, and when that has proved itself.
pub(super) const TELL_MORE: [&str; 4] = [
    "-o",
    "IgnoreUnknown=LogVerbose",
    "-o",
    "LogVerbose=kex.c:kex_exchange_identification():*,kex.c:kex_send_newkeys():*",
];

/// Listens until ssh has said all.
pub(super) struct Ear {
    listener: JoinHandle<Heard>,
    ended: Arc<AtomicBool>,
}

/// What ssh has said.
#[derive(Default)]
pub(super) struct Heard {
    /// The end of it.
    pub(super) said: String,
    /// What has proved itself to be one of our hosts, as it has announced itself, if it is no CA. ssh was ended then, before it could ask for a password.
    pub(super) no_ca: Option<String>,
}

impl Ear {
    /// Hears this ssh.
    pub(super) fn of(child: &mut Child) -> Option<Self> {
        let handle = process::start_time(child.id()).and_then(|start| ProcessHandle::open(child.id(), start)).ok();
        child.stderr.take().map(|pipe| Ear::listen(pipe, handle))
    }
    fn listen(pipe: ChildStderr, ssh: Option<ProcessHandle>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        // Signals are the other thread's, which passes them on: one that is delivered here would end us at once. A thread begins with the mask of who starts it.
        let mask = SigSet::thread_get_mask();
        let _ = SigSet::all().thread_block();
        let listener = std::thread::spawn(move || listen(pipe, ssh.as_ref(), &flag));
        let _ = mask.map(|mask| mask.thread_set_mask());
        Ear { listener, ended }
    }
    /// All of it that is kept; ssh has ended. This process has one thread less then, as those want it who start others.
    pub(super) fn heard(self) -> Heard {
        self.ended.store(true, Ordering::Relaxed);
        self.listener.join().unwrap_or_default()
    }
}

fn listen(mut pipe: ChildStderr, ssh: Option<&ProcessHandle>, ended: &AtomicBool) -> Heard {
    let (mut kept, mut buffer, mut asides) = (Vec::new(), [0; 4096], Asides::default());
    let linger = PollTimeout::try_from(LINGER).unwrap_or(PollTimeout::ZERO);
    let mut pass_on = |said: &[u8]| {
        // Whoever closed our stderr does not want to read it.
        let _ = std::io::stderr().write_all(said);
        kept.extend_from_slice(said);
        let surplus = kept.len().saturating_sub(MAX_KEPT);
        kept.drain(..surplus);
    };
    loop {
        let ready = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], linger);
        if ready == Ok(0) && ended.load(Ordering::Relaxed) {
            break;
        }
        if !ready.is_ok_and(|count| count > 0) {
            continue;
        }
        let Ok(count @ 1..) = pipe.read(&mut buffer) else { break };
        let was_ca = asides.no_ca().is_none();
        pass_on(&asides.take_out(buffer.get(..count).unwrap_or_default()));
        if let (true, Some(_), Some(ssh)) = (was_ca, asides.no_ca(), ssh) {
            let _ = ssh.signal(Signal::SIGTERM as i32);
        }
    }
    pass_on(&asides.held);
    let no_ca = asides.no_ca().map(str::to_owned);
    Heard { said: String::from_utf8_lossy(&kept).into_owned(), no_ca }
}

/// How the lines begin that ssh says because of [`TELL_MORE`] alone (log.c `sshlogv`).
const ASIDE: &[u8] = b"debug1: kex.c:kex_";
/// And those that it would have said anyhow, with this in place of [`PLAIN`].
const TAGGED: &[u8] = b"kex.c:kex_exchange_identification():";
const PLAIN: &[u8] = b"kex_exchange_identification";
/// Longest line that is kept back until it has ended, bytes: an announcement has 255 at most (RFC 4253 §4.2).
const MAX_ASIDE: usize = 1024;

/// Lines that are for us.
#[derive(Default)]
struct Asides {
    /// A line that has not ended, and may be one.
    held: Vec<u8>,
    /// Something has been said of the line that has not ended.
    is_within: bool,
    /// The first announcement, if it is not a CA's.
    announced: Option<String>,
    is_announced: bool,
    is_proven: bool,
}

impl Asides {
    /// What is left for others.
    fn take_out(&mut self, said: &[u8]) -> Vec<u8> {
        let mut rest = Vec::new();
        for piece in said.split_inclusive(|byte| *byte == b'\n') {
            let is_end = piece.ends_with(b"\n");
            if self.is_within {
                rest.extend_from_slice(piece);
                self.is_within = !is_end;
                continue;
            }
            self.held.extend_from_slice(piece);
            let may_be = |mark: &[u8]| self.held.starts_with(mark) || mark.starts_with(&self.held);
            if !is_end && self.held.len() < MAX_ASIDE && (may_be(ASIDE) || may_be(TAGGED)) {
                continue;
            }
            let line = std::mem::take(&mut self.held);
            self.is_within = !is_end;
            if line.starts_with(ASIDE) && is_end {
                self.note(&String::from_utf8_lossy(&line));
            } else if line.starts_with(TAGGED) {
                rest.extend_from_slice(PLAIN);
                let tag = line.windows(2).position(|two| two == b": ").unwrap_or_default();
                rest.extend_from_slice(line.get(tag..).unwrap_or_default());
            } else {
                rest.extend_from_slice(&line);
            }
        }
        rest
    }
    fn note(&mut self, line: &str) {
        if let Some((_, program)) = line.trim_end().split_once("remote software version ")
            && !std::mem::replace(&mut self.is_announced, true)
        {
            self.announced = no_usshca(program);
        }
        // Before its host key was found good ssh sends none (kexgen.c `input_kex_gen_reply`).
        self.is_proven |= line.contains("SSH2_MSG_NEWKEYS sent");
    }
    /// What is there, if it has proved itself and is no CA.
    fn no_ca(&self) -> Option<&str> {
        self.announced.as_deref().filter(|_| self.is_proven)
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
        Some(Cause::NoAnswer(escape(reason.as_bytes(), 200)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_is_no_ca_is_known_once_it_has_proved_itself_and_asides_are_not_passed_on() {
        let announced = |who: &str| {
            format!(
                "debug1: kex.c:kex_exchange_identification():1456 (pid=7): Remote protocol version 2.0, remote software version {who}\r\n"
            )
        };
        const PROVEN: &str = "debug1: kex.c:kex_send_newkeys():539 (bin=ssh, pid=7): SSH2_MSG_NEWKEYS sent\r\n";
        let words = "Welcome\r\ndebug1: of the CA's\r\nkex";
        for (said, rest, no_ca) in [
            (announced("OpenSSH_9.2p1") + PROVEN + words, words, Some("OpenSSH_9.2p1")),
            (announced("OpenSSH_9.2p1") + words, words, None),
            (announced("usshca") + PROVEN + &announced("OpenSSH_9.2p1") + words, words, None),
            (PROVEN.to_owned(), "", None),
            (
                "kex.c:kex_exchange_identification():1400 (pid=7): Connection closed by remote host\r\n".to_owned(),
                "kex_exchange_identification: Connection closed by remote host\r\n",
                None,
            ),
        ] {
            for size in [1, 7, 4096] {
                let mut asides = Asides::default();
                let mut seen: Vec<u8> = said.as_bytes().chunks(size).flat_map(|piece| asides.take_out(piece)).collect();
                seen.extend(&asides.held);
                assert_eq!((String::from_utf8_lossy(&seen).as_ref(), asides.no_ca()), (rest, no_ca), "{said}");
            }
        }
    }
}
