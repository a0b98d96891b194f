//! What users read.

use std::time::{Duration, UNIX_EPOCH};

use ussh_core::certificate::Certificate;
use ussh_core::clock::UnixTime;
use ussh_core::escape::{MAX_FIELD, escape};

/// Of the year 9999, in seconds since the epoch.
const LAST_SECOND: u64 = 253_402_300_799;
/// A login could not be checked.
pub const UNAVAILABLE: &str =
    "The CA cannot check logins at the moment. Try again in a minute; if it stays so, tell the CA's administrators.";
/// PAM did not come to an end in time.
pub const TOO_LONG: &str = "The login took too long: the CA still waits for an answer to it. Try again; if it stays so, tell the CA's administrators.";
/// The signer did not answer.
pub const SIGNER_AWAY: &str = "The CA's signer is not available, so there is no certificate. Try again in a minute; if it stays so, tell the CA's administrators.";
/// The connection forwards no agent.
pub const NO_AGENT: &str = "No agent was forwarded, so there is nowhere to put a certificate, and none was made.\n\
    Try: ssh -A and this CA's name, with a running agent (ssh-add -l shows whether there is one).";
/// The client turned the agent channel down, or the agent behind it does not answer.
pub const AGENT_SILENT: &str = "The forwarded agent does not answer, so there is nowhere to put a certificate, and none was made.\n\
    Is it running? ssh-add -l should list it.";
/// The agent did not take key and certificate.
pub const AGENT_REFUSED: &str = "The forwarded agent did not take the certificate. Is it locked (ssh-add -X), or did you decline? Then try again.\n\
     Or is it PuTTY's Pageant, which takes no key with a lifetime? Then use an ssh-agent.\n\
     Or does `ussh` on your side know another CA key (its user_ca_file)? Ask the CA's administrators for theirs, user_ca.pub.";
/// The same to `ussh`, which knows why, and says it.
pub const USSH_REFUSED: &str = "Your side did not take the certificate:";
/// The certificate did not fit the key: nothing that a user can mend.
pub const BROKEN: &str =
    "The CA made a certificate that does not fit the key, and threw it away. Please tell the CA's administrators.";
/// The rule wants a registered key, and none is in the agent.
pub const NO_REGISTERED_KEY: &str = "The CA's policy wants your registered key to prove that it is you, and it is not in the forwarded agent.\n\
    Add it (ssh-add), see that ssh-add -l lists it, and try again: with `ssh -A` and this CA's name. `ussh` shows the CA none of your keys, and gets nothing here.";
/// The same, without an agent.
pub const KEY_WITHOUT_AGENT: &str = "The CA believes your registered key only through a forwarded agent: it signs a message of the CA's signer there.\n\
    Try: ssh -A and this CA's name, with the key in the agent (ssh-add -l).";
/// The agent turned the signature down.
pub const AGENT_DID_NOT_SIGN: &str =
    "The forwarded agent did not sign with your key. Is it locked (ssh-add -X), or did you decline? Then try again.";
/// A FIDO key is about to be asked.
pub const TOUCH: &str = "Touch your security key: the CA's signer asks it.";
/// `sign` without an agent.
pub const SIGN_WITHOUT_AGENT: &str = "The key must prove to the CA that it is yours, through a forwarded agent, and none was forwarded.\n\
    Try: ssh-add KEY, then ssh -A CA sign < KEY.pub";
/// `sign` of a key that the agent does not hold.
pub const KEY_NOT_IN_AGENT: &str = "The key is not in the forwarded agent, in which it must prove that it is yours. Try: ssh-add KEY, then the same again.";
/// After `revoke-mine`.
pub const REVOKED: &str = "Hosts refuse them once they have the CA's next KRL.\n";
/// A KRL on a terminal.
pub const BINARY: &str = "A KRL is binary, and this is a terminal. Try: ssh CA krl > FILE";
/// What this server understands.
pub const HELP: &str = "\
Log in with agent forwarding, and a certificate for your account goes into your agent:
  ssh -A CA                       a certificate
  ssh -A CA for=1h                one for an hour (as far as the CA's policy allows)
  ssh -A CA principals=web,db     one with these principals only
  ssh -A CA reason=\"what for\"     one with a reason, for the CA's inventory; with the others, in any order
  ssh -A CA key=ecdsa             one with an ECDSA key, for hosts that know no Ed25519
  ssh -A CA sign < KEY.pub > KEY-cert.pub
                                  one for your own key, which lies in the agent; for= and the others behind it
  ssh CA whoami                   the account that you are known by here; whoami --json
  ssh CA list                     your certificates and refusals; list --json
  ssh CA revoke-mine              revoke all of your certificates that are good; revoke-mine --json
  ssh CA krl > FILE               the list of all that is revoked (KRL)
  ssh CA feed > FILE              the signed feed for hosts: CA keys, revocation list, known_hosts
  ssh CA admin …                  for the CA's administrators; ssh CA admin --help
  ssh CA help                     this
";

/// Behind what is wrong with a command: all of the help would push that out of sight.
const SEE_HELP: &str = "What there is: ssh CA help\n";

/// Stands before the name of a subsystem, where that is taken for a command.
pub const SUBSYSTEM: &[u8] = b"subsystem ";

/// An unknown command: exit status 64 goes with it.
pub fn unknown_command(command: &[u8]) -> String {
    // scp asks for the subsystem sftp (OpenSSH 9.0), or runs itself at this end.
    if command.starts_with(SUBSYSTEM) || command.starts_with(b"scp ") {
        return "usshca: the CA takes and gives no files by scp and sftp: see ssh CA help, as ssh CA krl > FILE\n"
            .to_owned();
    }
    format!("usshca: unknown command: {}\n{SEE_HELP}", escape(command, MAX_FIELD))
}

/// A wish that cannot be read: exit status 64 goes with it.
pub fn wrong_wish(why: &str) -> String {
    format!("usshca: {why}\n{SEE_HELP}")
}

/// The rule wants a registered key, and the one in the agent was revoked.
pub fn registered_key_revoked(fingerprint: &str) -> String {
    format!(
        "The CA's policy wants your registered key to prove that it is you, and {fingerprint}, which is in your agent, is revoked.\n\
         Ask the CA's administrators to register another one."
    )
}

/// A key that cannot be read: exit status 64 goes with it.
pub fn wrong_key(why: &str) -> String {
    format!("usshca: sign wants one public key on standard input: {why}\n  ssh -A CA sign < KEY.pub > KEY-cert.pub\n")
}

/// Name of the environment variable by which `ussh` says what it is; its value is one of [`Keeps`]. Any client may set it: it only chooses words. (One that sets nothing is stock `ssh`, or an `ussh` from before.)
pub const CLIENT_VARIABLE: &str = "USSH";

/// Where `ussh` keeps what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// `agent`: in the user's agent.
    Agent,
    /// `files`: key and certificate in files.
    Files,
    /// `certificate`: the certificate of the user's own key in a file.
    Certificate,
}

impl Keeps {
    /// By a variable of the environment.
    pub fn parse(name: &str, value: &str) -> Option<Self> {
        match (name, value) {
            (CLIENT_VARIABLE, "agent") => Some(Keeps::Agent),
            (CLIENT_VARIABLE, "files") => Some(Keeps::Files),
            (CLIENT_VARIABLE, "certificate") => Some(Keeps::Certificate),
            _ => None,
        }
    }
}

/// The agent, or `ussh` in its place, did not take key and certificate.
pub fn not_taken(keeps: Option<Keeps>) -> &'static str {
    if keeps.is_some() { USSH_REFUSED } else { AGENT_REFUSED }
}

/// What refusals advise to those who come by stock `ssh` (usshca's signer, `refused`), and the same for `ussh`.
const ADVICE: [(&str, &str); 6] = [
    (
        "Try: ssh-add KEY, then ssh -A CA sign < KEY.pub > KEY-cert.pub",
        "Try: ssh-add KEY, and `client_key = \"~/.ssh/KEY.pub\"` in ~/.config/ussh/ussh.toml",
    ),
    ("Try: ssh -A CA", "Try: without `client_key` in ussh.toml"),
    ("Ask for less: for=…", "Ask for less: --for …"),
    ("or leave principals= out", "or leave --principals out"),
    ("Say it so: ssh -A CA reason=\"what for\"; or: ussh --reason", "Say it so: ussh --reason"),
    ("revoke them all: ssh -A CA revoke-mine", "revoke them all: ussh --revoke"),
];

/// A refusal, in the words of the program that the user has run.
pub fn in_its_words(refusal: &str, keeps: Option<Keeps>) -> String {
    let advice = ADVICE.iter().filter(|_| keeps.is_some());
    advice.fold(refusal.to_owned(), |text, (by_ssh, by_ussh)| text.replace(by_ssh, by_ussh))
}

/// A certificate for the user's own key.
pub fn signed(certificate: &Certificate, rule: &str, ca_name: &str, keeps: Option<Keeps>, now: UnixTime) -> String {
    let where_it_is = match keeps {
        Some(Keeps::Certificate) => "is kept by `ussh`, for your own key.",
        Some(Keeps::Agent | Keeps::Files) | None => "is yours: put it beside the key, as KEY-cert.pub.",
    };
    about(where_it_is, certificate, rule, ca_name, now)
}

/// What was delivered.
pub fn delivered(certificate: &Certificate, rule: &str, ca_name: &str, keeps: Option<Keeps>, now: UnixTime) -> String {
    let where_it_is = match keeps {
        Some(Keeps::Files) => "is in your files.",
        Some(Keeps::Agent | Keeps::Certificate) | None => "is in your agent.",
    };
    about(where_it_is, certificate, rule, ca_name, now)
}

fn about(where_it_is: &str, certificate: &Certificate, rule: &str, ca_name: &str, now: UnixTime) -> String {
    let principals: Vec<String> = certificate.principals().iter().map(|p| escape(p, MAX_FIELD)).collect();
    format!(
        "Certificate {} for {} {where_it_is}\n  principals: {}\n  {}\n  by the rule {} of {}\n",
        certificate.serial(),
        escape(certificate.key_id(), MAX_FIELD),
        principals.join(", "),
        validity(certificate.valid_before(), now),
        escape(rule.as_bytes(), MAX_FIELD),
        escape(ca_name.as_bytes(), MAX_FIELD),
    )
}

/// `valid until 2026-05-09 17:00:00 UTC (8h)`.
fn validity(before: UnixTime, now: UnixTime) -> String {
    if before == UnixTime::FOREVER {
        return "valid for ever".to_owned();
    }
    format!("valid until {} ({})", utc(before.0), span(before.0.saturating_sub(now.0)))
}

/// `2026-05-09 17:00:00 UTC`. The year 9999 is the last that has a name.
pub fn utc(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND));
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', " UTC")
}

/// Whole minutes, from ten of them on: `7h 59m 58s` says no more than `8h`.
fn span(seconds: u64) -> String {
    let rounded = if seconds >= 600 { (seconds + 30) / 60 * 60 } else { seconds };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

/// For a terminal in raw mode, where a newline is only that.
pub fn for_terminal(text: &str, has_pty: bool) -> String {
    let text = if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    if has_pty { text.replace('\n', "\r\n") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_said_in_utc_and_as_a_span() {
        let before = UnixTime(1_778_346_000);
        assert_eq!(
            validity(before, UnixTime(1_778_346_000 - 8 * 3600 + 2)),
            "valid until 2026-05-09 17:00:00 UTC (8h)"
        );
        assert_eq!(validity(before, UnixTime(1_778_346_000 - 90)), "valid until 2026-05-09 17:00:00 UTC (1m 30s)");
        assert_eq!(validity(UnixTime::FOREVER, UnixTime(0)), "valid for ever");
    }

    #[test]
    fn ussh_is_advised_in_its_own_words_and_stock_ssh_in_the_cas() {
        let refusal = "It wants a key of your own. Try: ssh-add KEY, then ssh -A CA sign < KEY.pub > KEY-cert.pub";
        assert_eq!(in_its_words(refusal, None), refusal);
        let told = in_its_words(refusal, Some(Keeps::Agent));
        assert!(
            told.ends_with("own. Try: ssh-add KEY, and `client_key = \"~/.ssh/KEY.pub\"` in ~/.config/ussh/ussh.toml"),
            "{told}"
        );
    }

    #[test]
    fn a_terminal_in_raw_mode_gets_carriage_returns() {
        assert_eq!(for_terminal("a\nb", true), "a\r\nb\r\n");
        assert_eq!(for_terminal("a\nb\n", false), "a\nb\n");
        assert_eq!(for_terminal("", true), "");
    }

    #[test]
    fn an_unknown_command_is_shown_without_what_could_steer_the_terminal() {
        assert!(unknown_command(b"scp -t .").contains("no files by scp"));
        assert_eq!(unknown_command(b"rm\x1b[2J"), "usshca: unknown command: rm\\x1b[2J\nWhat there is: ssh CA help\n");
        assert_eq!(wrong_wish("for=x is no time").lines().count(), 2);
    }
}
