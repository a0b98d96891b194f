//! ssh's own account of a login (log.c at LogLevel DEBUG3): taken out of what is shown, and read.

use std::time::{Duration, Instant};

use super::no_usshca;

/// How lines of it begin. The last three are ssh's at LogLevel VERBOSE (ssh.c `ssh_session2_setup`, clientloop.c `client_loop`), and have no mark.
const ACCOUNT: [&[u8]; 6] =
    [b"debug1: ", b"debug2: ", b"debug3: ", b"Authenticated to ", b"Transferred: sent ", b"Bytes per second: sent "];
/// The one that goes on over several lines (channels.c `channel_open_message`).
const LIST: &str = ": status: The following connections are open:";
/// Longest line that is looked at, bytes: log.c cuts its own (MSGBUFSIZ), and escapes what is in them.
const MAX_LINE: usize = 8192;

/// Takes the account out of a stream that comes in pieces.
pub(super) struct Filter {
    /// The begin of a line that may be one of it.
    begin: Vec<u8>,
    /// The rest of this line is none.
    is_through: bool,
    is_in_list: bool,
    /// All is shown.
    is_shown: bool,
}

impl Filter {
    pub(super) fn new(is_shown: bool) -> Self {
        Filter { begin: Vec::new(), is_through: false, is_in_list: false, is_shown }
    }
    /// What of it is to be shown; lines of the account go to `note`.
    pub(super) fn pass(&mut self, said: &[u8], note: &mut dyn FnMut(&str)) -> Vec<u8> {
        let mut shown = Vec::with_capacity(said.len());
        for byte in said {
            if self.is_through {
                shown.push(*byte);
                self.is_through = *byte != b'\n';
                continue;
            }
            self.begin.push(*byte);
            if !self.may_be_account() {
                self.is_in_list = false;
                self.is_through = *byte != b'\n';
                shown.append(&mut self.begin);
            } else if *byte == b'\n' {
                let line = String::from_utf8_lossy(&self.begin).trim_end().to_owned();
                self.is_in_list = line.ends_with(LIST) || (self.is_in_list && line.starts_with("  #"));
                note(&line);
                if self.is_shown {
                    shown.append(&mut self.begin);
                }
                self.begin.clear();
            }
        }
        shown
    }
    /// What was held back at the end.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.begin)
    }
    fn may_be_account(&self) -> bool {
        let begins = |word: &[u8]| self.begin.starts_with(word) || word.starts_with(&self.begin);
        let is_listed = self.is_in_list && [&b"  #"[..], b"\n", b"\r"].into_iter().any(begins);
        self.begin.len() <= MAX_LINE && (is_listed || ACCOUNT.into_iter().any(begins))
    }
}

/// How far the login has come, and since when it is the CA's turn.
pub(super) struct Watch {
    since: Instant,
    is_asking: bool,
    is_proven: bool,
    is_in: bool,
    was_asked: bool,
    /// It has said what it is; later lines that look so are its own.
    is_announced: bool,
    /// As what, if that is no CA.
    announced: Option<String>,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Watch {
            since: now,
            is_asking: false,
            is_proven: false,
            is_in: false,
            was_asked: false,
            is_announced: false,
            announced: None,
        }
    }
    /// What is there, if it has proved itself and is no CA.
    pub(super) fn no_ca(&self) -> Option<&str> {
        self.announced.as_deref().filter(|_| self.is_proven)
    }
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
    }
    pub(super) fn is_in(&self) -> bool {
        self.is_in
    }
    pub(super) fn was_asked(&self) -> bool {
        self.was_asked
    }
    /// Something was said that is none of the account's.
    pub(super) fn heard(&mut self, now: Instant) {
        self.since = now;
    }
    /// A line of the account. Messages by their numbers: RFC 4250 §4.1.2, RFC 4256 §5.
    pub(super) fn note(&mut self, line: &str, now: Instant) {
        let number = |words: &str| line.strip_prefix(words).and_then(|number| number.parse::<u8>().ok());
        if let Some(received) = number("debug3: receive packet: type ") {
            self.is_asking |= received == 60;
            // Disregarded: ignore, unimplemented and debug; and what answers ssh when it asks whether the CA is alive.
            if !matches!(received, 2..=4 | 81 | 82 | 99 | 100) {
                self.since = now;
            }
        } else if let Some(sent) = number("debug3: send packet: type ") {
            // An answer, and a try to log in.
            if matches!(sent, 50 | 61) {
                (self.since, self.is_asking) = (now, false);
            }
        } else if let Some((_, prompts)) = line.split_once("input_userauth_info_req: num_prompts ") {
            // Some are only to be read (sshconnect2.c `input_userauth_info_req`).
            self.was_asked |= prompts.parse().is_ok_and(|prompts: u32| prompts > 0);
        } else if line == "debug1: SSH2_MSG_NEWKEYS received" {
            // Its signature over the key exchange has been verified before (kexgen.c `input_kex_gen_reply`).
            self.is_proven = true;
        } else if line.starts_with("Authenticated to ") {
            self.is_in = true;
        } else if let Some((_, program)) =
            line.split_once("debug1: Remote protocol version 2.0, remote software version ")
            && !std::mem::replace(&mut self.is_announced, true)
        {
            self.announced = no_usshca(program);
        }
    }
    /// For how long the CA has been silent. Not while a person is asked.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        if self.is_asking { Duration::ZERO } else { now.saturating_duration_since(self.since) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ca_is_known_once_it_has_proved_itself() {
        let announced = |who: &str| format!("debug1: Remote protocol version 2.0, remote software version {who}");
        const PROVEN: &str = "debug1: SSH2_MSG_NEWKEYS received";
        for (lines, no_ca) in [
            (vec![announced("OpenSSH_9.2p1"), PROVEN.to_owned()], Some("OpenSSH_9.2p1")),
            (vec![announced("OpenSSH_9.2p1")], None),
            (vec![announced("usshca"), PROVEN.to_owned(), announced("OpenSSH_9.2p1")], None),
            (vec![PROVEN.to_owned()], None),
        ] {
            let mut watch = Watch::new(Instant::now());
            lines.iter().for_each(|line| watch.note(line, Instant::now()));
            assert_eq!(watch.no_ca(), no_ca, "{lines:?}");
        }
    }

    #[test]
    fn what_is_only_to_be_read_is_no_question() {
        let mut watch = Watch::new(Instant::now());
        watch.note("debug2: input_userauth_info_req: num_prompts 0", Instant::now());
        assert!(!watch.was_asked());
        watch.note("debug2: input_userauth_info_req: num_prompts 1", Instant::now());
        assert!(watch.was_asked());
    }

    #[test]
    fn the_account_is_taken_out_wherever_the_pieces_end() {
        let said = "debug1: Connecting\r\nWelcome\r\n  #1 of all\r\ndebug3: channel 1: status: The following connections are open:\r\n  #0 session\r\n  #1 agent\r\n\r\nAuthenticated to ca ([::1]:22).\r\n\r\ndebugging is fun\nAuth: no\npass: debug1: x\nopen";
        let wanted = "Welcome\r\n  #1 of all\r\n\r\ndebugging is fun\nAuth: no\npass: debug1: x\nopen";
        for size in 1..said.len() {
            let (mut filter, mut lines) = (Filter::new(false), 0);
            let mut shown = Vec::new();
            for piece in said.as_bytes().chunks(size) {
                shown.extend(filter.pass(piece, &mut |_| lines += 1));
            }
            shown.extend(filter.rest());
            assert_eq!((String::from_utf8_lossy(&shown).as_ref(), lines), (wanted, 6), "{size}");
        }
        assert_eq!(Filter::new(true).pass(said.as_bytes(), &mut |_| ()).len(), said.len());
    }
}
