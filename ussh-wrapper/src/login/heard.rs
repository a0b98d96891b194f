//! What `ssh` to the CA says on stderr: passed on as it comes, and its end kept, for the cause of a failure stands nowhere else.
//!
//! ssh translates none of its messages. What the CA itself says comes over the same pipe, but not before it has proved itself: at worst such a CA is taken for one that is down.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::ChildStderr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;

/// How much of the end is kept, in bytes.
const MAX_KEPT: usize = 16 * 1024;
/// How long the pipe may stay open when ssh has ended: an askpass program may still hold it.
const LINGER: Duration = Duration::from_millis(500);

/// Listens until ssh has said all.
pub(super) struct Ear {
    listener: JoinHandle<Vec<u8>>,
    ended: Arc<AtomicBool>,
}

impl Ear {
    pub(super) fn listen(pipe: ChildStderr) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        // Signals are the other thread's, which passes them on: one that is delivered here would end us at once. A thread begins with the mask of who starts it.
        let mask = SigSet::thread_get_mask();
        let _ = SigSet::all().thread_block();
        let listener = std::thread::spawn(move || listen(pipe, &flag));
        let _ = mask.map(|mask| mask.thread_set_mask());
        Ear { listener, ended }
    }
    /// All of it that is kept; ssh has ended. This process has one thread less then, as those want it who start others.
    pub(super) fn heard(self) -> String {
        self.ended.store(true, Ordering::Relaxed);
        String::from_utf8_lossy(&self.listener.join().unwrap_or_default()).into_owned()
    }
}

fn listen(mut pipe: ChildStderr, ended: &AtomicBool) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    let linger = PollTimeout::try_from(LINGER).unwrap_or(PollTimeout::ZERO);
    loop {
        let ready = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], linger);
        if ready == Ok(0) && ended.load(Ordering::Relaxed) {
            return kept;
        }
        if !ready.is_ok_and(|count| count > 0) {
            continue;
        }
        let Ok(count @ 1..) = pipe.read(&mut buffer) else { return kept };
        let said = buffer.get(..count).unwrap_or_default();
        // Whoever closed our stderr does not want to read it.
        let _ = std::io::stderr().write_all(said);
        kept.extend_from_slice(said);
        let surplus = kept.len().saturating_sub(MAX_KEPT);
        kept.drain(..surplus);
    }
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
}
