//! What ssh's arguments say of agent forwarding.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::{WITH_ARGUMENT, WITHOUT_ARGUMENT};

/// Whether anything is left to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentChoice {
    /// The arguments decide: `-A`, `-a`, `-o ForwardAgent=…`; or nothing is forwarded whatever is said (`-W`).
    Made,
    /// Nothing in them.
    Open,
    /// `-F FILE` names another ssh_config, or there is a flag that we do not know: what it says is left to ssh.
    Unclear,
}

impl AgentChoice {
    /// Walks them as ssh's getopt does.
    pub fn of(arguments: &[OsString]) -> Self {
        let mut choice = AgentChoice::Open;
        let mut rest = arguments.iter();
        let mut host_seen = false;
        while let Some(argument) = rest.next() {
            let flags = match argument.as_bytes() {
                // Behind it come the host, if it has not been, and the command.
                b"--" => return choice,
                [b'-', flags @ ..] if !flags.is_empty() => flags,
                _ if host_seen => return choice,
                _ => {
                    host_seen = true;
                    continue;
                }
            };
            for (position, flag) in flags.iter().enumerate() {
                let takes = WITH_ARGUMENT.contains(flag);
                let attached = flags.get(position + 1..).filter(|value| takes && !value.is_empty());
                let next = if takes && attached.is_none() { rest.next() } else { None };
                let value = attached.or(next.map(|next| OsStr::as_bytes(next))).unwrap_or_default();
                match of_flag(*flag, value) {
                    AgentChoice::Made => return AgentChoice::Made,
                    AgentChoice::Unclear => choice = AgentChoice::Unclear,
                    AgentChoice::Open => {}
                }
                if takes {
                    break;
                }
            }
        }
        choice
    }
}

fn of_flag(flag: u8, value: &[u8]) -> AgentChoice {
    match flag {
        b'A' | b'a' | b'W' => AgentChoice::Made,
        b'o' if keyword(value).eq_ignore_ascii_case(b"forwardagent") => AgentChoice::Made,
        b'F' => AgentChoice::Unclear,
        flag if WITH_ARGUMENT.contains(&flag) || WITHOUT_ARGUMENT.contains(&flag) => AgentChoice::Open,
        _ => AgentChoice::Unclear,
    }
}

/// The keyword of an option's line: up to the first blank or `=`, without quotes (misc.c `strdelim`).
fn keyword(line: &[u8]) -> &[u8] {
    let ends = |byte: &u8| matches!(byte, b' ' | b'\t' | b'=' | b'"' | b'\r' | b'\n');
    let start = line.iter().position(|byte| !ends(byte)).unwrap_or(line.len());
    let line = line.get(start..).unwrap_or_default();
    let end = line.iter().position(ends).unwrap_or(line.len());
    line.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> AgentChoice {
        AgentChoice::of(&line.split(' ').map(|word| OsString::from(word.replace('_', " "))).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_that_choose_are_seen_wherever_ssh_sees_them() {
        for line in [
            "-A web1",
            "-a web1",
            "-vA web1",
            "-Tav web1",
            "web1 -A",
            "-p 22 web1 -A id",
            "-o ForwardAgent=yes web1",
            "-oforwardagent=no web1",
            "-o _FORWARDAGENT___yes web1",
            "-o \"ForwardAgent\"=no web1",
            "-To ForwardAgent=/run/x web1",
            "-W a:1 web1",
            "-F x -A web1",
        ] {
            assert_eq!(of(line), AgentChoice::Made, "{line}");
        }
    }

    #[test]
    fn what_is_a_value_or_a_command_chooses_nothing() {
        for line in [
            "web1",
            "web1 ls -A",
            "web1 -- -A",
            "-- web1 -A",
            "-l -A web1",
            "-o User=-A web1",
            "-o ForwardAgents=yes web1",
            "-oX=ForwardAgent web1",
            "-p 22 alice@web1",
            "-i A web1",
            "-vN web1",
        ] {
            assert_eq!(of(line), AgentChoice::Open, "{line}");
        }
    }

    #[test]
    fn another_configuration_and_unknown_flags_are_left_to_ssh() {
        for line in ["-F x web1", "-Fnone web1", "-vF x web1", "-Z web1", "-vZ web1"] {
            assert_eq!(of(line), AgentChoice::Unclear, "{line}");
        }
    }
}
