//! What came of one try, and the manual's word for it.

use ussh_e2e::lab::Output;

use crate::forward;
use crate::table::Column;
use crate::ways::Way;

/// All worked, to the byte; our `auth` line was asked once for each connection where it stands, and not at all where publickey is alone; each connection was recorded.
pub const IN: &str = "in";
/// Our line said no, as often as the client asked, and nothing else happened.
pub const REFUSED: &str = "refused";
/// The client gave up before anybody asked our line.
pub const DENIED: &str = "denied by ssh";
/// Our line said yes, and sshd ended itself.
pub const CUT_OFF: &str = "cut off by sshd";
/// There is no session where there is no record, and the client is told nothing.
pub const CLOSED: &str = "closed";
/// The same where there was to be none.
pub const OF_NO_USE: &str = "open, and of no use";
/// None of them.
pub const WRONG: &str = "wrong:";

/// What a refused user reads.
pub const SENTENCE: &str =
    "No certificate that is good for this: see \"ssh-add -l\", or get a new one with \"ussh --login\".\n";
/// What the session line says twice for each connection, with `debug`.
const RECORDED: &str = "debug: record up to date for ";
/// Lines that the clients have for it when there is no connection any more; sftp and the ssh below it say theirs in any order.
const CLIENTS_LINES: [&str; 5] =
    ["", "Connection closed", "Connection closed.", "scp: Connection closed", "lost connection"];

/// One try.
#[derive(Debug)]
pub struct Seen<'way> {
    pub way: &'way Way,
    pub column: Column,
    pub account: String,
    pub server: &'static str,
    pub serial: u64,
    /// On the laptop.
    pub output: Output,
    /// All of it was as it should be there.
    pub worked: bool,
    /// By pam_ussh, of this account.
    pub said: Vec<String>,
    /// All of the server's.
    pub log: String,
}

impl Seen<'_> {
    pub fn port(&self) -> u16 {
        self.way.port + u16::from(self.column.is_behind())
    }

    /// The manual's, or what was seen.
    pub fn word(&self) -> String {
        let said = |start: &str| self.said.iter().filter(|line| line.starts_with(start)).count();
        let Output { status, stdout, stderr, .. } = &self.output;
        let (accepted, refused, recorded) = (said("Accepted "), said("Refusing "), said(RECORDED));
        let connections = self.way.connections();
        let denied = format!("{}@{}: Permission denied (keyboard-interactive).\r\n", self.account, self.server);
        let terminal_is_gone = format!("Connection to {} closed.", self.server);
        let is_clients = |rest: Option<&str>| {
            let mut lines = rest.into_iter().flat_map(str::lines).map(str::trim);
            rest.is_some() && lines.all(|line| CLIENTS_LINES.contains(&line) || line == terminal_is_gone)
        };
        let failed = status.code() != 0 && stdout.is_empty();

        let asked = if self.column.is_behind() { connections } else { 0 };
        let is_in = self.worked && (accepted, refused, recorded) == (asked, 0, 2 * connections) && self.all_name_ours();
        let sentences = format!("{SENTENCE}\r\n").repeat(3) + &denied;
        let is_refused = failed
            && status.code() == self.way.status_of_refusal()
            && is_clients(stderr.strip_prefix(&sentences))
            && (accepted, refused, recorded) == (0, 3, 0)
            && self.all_name_ours();
        let is_cut_off = failed
            && stderr.starts_with("Connection closed by ")
            && (accepted, refused, recorded) == (1, 0, 0)
            && self.log.contains("fatal: Internal error: PAM auth succeeded when it should have failed");
        let is_closed = failed && is_clients(Some(stderr)) && accepted == 0 && self.is_unrecorded();
        let is_of_no_use = stdout == forward::OF_NO_USE && accepted == 0 && self.is_unrecorded();
        let words = [
            (is_in, IN),
            (is_refused, REFUSED),
            (failed && is_clients(stderr.strip_prefix(&denied)) && self.said.is_empty(), DENIED),
            (is_cut_off, CUT_OFF),
            (is_closed, CLOSED),
            (is_of_no_use, OF_NO_USE),
        ];
        let word = words.iter().find(|(is_so, _)| *is_so).map(|(_, word)| (*word).to_owned());
        word.unwrap_or_else(|| format!("{WRONG} {self:?}"))
    }

    /// The session line refused once, for want of a record, and nothing else was said.
    pub fn is_unrecorded(&self) -> bool {
        matches!(&self.said[..], [line] if line.starts_with("Refusing for ") && line.contains(": cannot check: record in "))
    }

    /// Each decision of `auth` is about the certificate that was shown, and a refusal is for its length.
    fn all_name_ours(&self) -> bool {
        let serial = format!("(serial {}) ", self.serial);
        self.said.iter().filter(|line| !line.starts_with("debug: ")).all(|line| {
            line.contains(&serial)
                && (line.starts_with("Accepted ") || line.ends_with(", longer than the 86400 s allowed"))
        })
    }
}
