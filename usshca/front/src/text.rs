//! What users read.

use std::time::{Duration, UNIX_EPOCH};

use ussh_core::certificate::Certificate;
use ussh_core::clock::UnixTime;
use ussh_core::escape::{MAX_FIELD, escape};

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
/// The certificate did not fit the key: nothing that a user can mend.
pub const BROKEN: &str =
    "The CA made a certificate that does not fit the key, and threw it away. Please tell the CA's administrators.";
/// What this server understands.
pub const HELP: &str = "\
Log in with agent forwarding, and a certificate for your account goes into your agent:
  ssh -A CA                       a certificate
  ssh -A CA for=1h                one for an hour (as far as the CA's policy allows)
  ssh -A CA principals=web,db     one with these principals only
  ssh -A CA reason=\"what for\"     one with a reason, for the CA's inventory; with the others, in any order
  ssh CA whoami                   the account that you are known by here
  ssh CA feed > feed              the signed feed for hosts: CA keys, revocation list, known_hosts
  ssh CA help                     this
";

/// An unknown command: exit status 64 goes with it.
pub fn unknown_command(command: &[u8]) -> String {
    format!("usshca: unknown command: {}\n{HELP}", escape(command, MAX_FIELD))
}

/// A wish that cannot be read: exit status 64 goes with it.
pub fn wrong_wish(why: &str) -> String {
    format!("usshca: {why}\n{HELP}")
}

/// What was delivered.
pub fn delivered(certificate: &Certificate, rule: &str, ca_name: &str, now: UnixTime) -> String {
    let principals: Vec<String> = certificate.principals().iter().map(|p| escape(p, MAX_FIELD)).collect();
    format!(
        "Certificate {} for {} is in your agent.\n  principals: {}\n  {}\n  by the rule {} of {}\n",
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
    let Some(end) = UNIX_EPOCH.checked_add(Duration::from_secs(before.0)) else {
        return "valid for ever".to_owned();
    };
    let stamp = humantime::format_rfc3339_seconds(end).to_string().replace('T', " ").replace('Z', " UTC");
    format!("valid until {stamp} ({})", span(before.0.saturating_sub(now.0)))
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
    fn a_terminal_in_raw_mode_gets_carriage_returns() {
        assert_eq!(for_terminal("a\nb", true), "a\r\nb\r\n");
        assert_eq!(for_terminal("a\nb\n", false), "a\nb\n");
        assert_eq!(for_terminal("", true), "");
    }

    #[test]
    fn an_unknown_command_is_shown_without_what_could_steer_the_terminal() {
        assert!(unknown_command(b"rm\x1b[2J").starts_with("usshca: unknown command: rm\\x1b[2J\n"));
    }
}
