//! What the command line asks for: one of our verbs, or something for `ssh`.
//!
//! Our verbs are long options, looked for in the first argument only. `ssh` knows no long options, so no host name, flag or command of ssh is ever taken.

mod forwarding;

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

pub use self::forwarding::AgentChoice;
use crate::login::{Order, OrderError};
use crate::ssh_config::{WishError, Wishes};
use crate::verbs::{Following, VERBS, Verb, Which};

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// No arguments: see to it that there is a good certificate.
    Ensure,
    /// See to it, then become `ssh` with these arguments.
    Ssh {
        /// As given, byte for byte.
        arguments: Vec<OsString>,
        /// Whether ssh will need a certificate at all.
        purpose: Purpose,
    },
    /// `--force`: log in whatever the agent holds, then become `ssh` (with no arguments: stop there).
    Force(Vec<OsString>),
    /// `--login`: log in whatever the agent holds.
    Login(Order),
    /// `--reason`: the same, and then as `--force`.
    ForReason {
        /// With the reason.
        order: Order,
        /// For ssh.
        arguments: Vec<OsString>,
    },
    /// `--logout`: remove our CA's certificates from the agent.
    Logout,
    /// `--logout --everywhere`, `--revoke`: the same, and have the CA revoke them.
    LogoutEverywhere,
    /// `--check`: the answer is the exit status.
    Check,
    /// `--check --agent`: the same, and sees to it that the guarded agent runs where ssh_config looks for it.
    CheckAndForward,
    /// `--proxy HOST PORT`: ssh's ProxyCommand.
    Proxy {
        /// `%h`
        host: OsString,
        /// `%p`
        port: OsString,
    },
    /// `--write-config`.
    WriteConfig(Wishes),
    /// `--remove-config`.
    RemoveConfig(Wishes),
    /// `--status`.
    Status(StatusForm),
    /// `--agent`: see to it that the guarded agent runs, and say where.
    Agent,
    /// `--agent --serve`: be it; its listening socket is standard input. For `ussh` itself.
    AgentServe,
    /// `--log`: what was asked of the guarded agent.
    Log(LogForm),
    /// `--confirm`: ask on this terminal what the guarded agent wants to know.
    Confirm,
    /// `--why`.
    Why(OsString),
    /// `--help`.
    Help,
    /// `--version`.
    Version,
}

/// What `ssh` is going to do with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Connect somewhere, as far as can be told.
    Connects,
    /// Print something, talk to a running master, or complain: no certificate is needed.
    StaysLocal,
}

/// How the status is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusForm {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// For a shell's prompt.
    Prompt,
}

/// How the log is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Most slips in a word (a letter too many, missing, another or swapped) with which a verb is still suggested.
const MOST_SLIPS: usize = 2;

/// What is wrong with the command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// A verb of ours with an argument it does not take.
    #[error("{verb} does not take the argument {argument:?}{}", of_login(verb, argument))]
    Surplus {
        /// The verb.
        verb: &'static str,
        /// The first that is too many.
        argument: OsString,
    },
    /// A verb of ours without something that it cannot do without.
    #[error("{verb} wants {wanted}")]
    Missing {
        /// The verb.
        verb: &'static str,
        /// What is missing, as help has it.
        wanted: String,
    },
    /// One value too many: which of them counts nobody should have to guess.
    #[error("{verb} takes {option} once")]
    Twice {
        /// The verb.
        verb: &'static str,
        /// The option.
        option: &'static str,
    },
    /// Behind `--write-config` or `--remove-config`.
    #[error("{verb}: {error}")]
    Wish {
        /// The verb.
        verb: &'static str,
        /// What is wrong.
        error: WishError,
    },
    /// What the CA is to be asked for.
    #[error("{verb}: {error}")]
    Order {
        /// The verb.
        verb: &'static str,
        /// What is wrong.
        error: OrderError,
    },
    /// A long option that is no verb; ssh has none.
    #[error("no such verb: {argument:?}{}", meant(argument))]
    Unknown {
        /// As it was given.
        argument: OsString,
    },
}

fn meant(argument: &OsStr) -> String {
    match of_login("", argument) {
        of_login if !of_login.is_empty() => of_login,
        _ => nearest(argument).map(|verb| format!("; did you mean {verb}?")).unwrap_or_default(),
    }
}

/// What is right where it does not stand: many a user puts `--for 1h` in front of the host.
fn of_login(verb: &str, argument: &OsStr) -> String {
    let name = argument.to_str().and_then(|argument| argument.split('=').next());
    let option = ["--for", "--principals", "--reason"].into_iter().find(|option| Some(*option) == name);
    match option {
        Some(option) if verb != "--login" => format!(": {option} stands behind --login, and `ussh HOST` follows that"),
        _ => String::new(),
    }
}

/// The verb that was meant, perhaps.
fn nearest(argument: &OsStr) -> Option<&'static str> {
    let argument = argument.to_str()?.split('=').next()?;
    // Of two as near the longer: a letter is left out more often than put in.
    let slips = |verb: &Verb| (strsim::osa_distance(argument, verb.name), Reverse(verb.name.len()), verb.name);
    VERBS.iter().map(slips).min().filter(|(count, ..)| *count <= MOST_SLIPS).map(|(.., verb)| verb)
}

impl Invocation {
    /// Reads the arguments (without the program's own name).
    /// # Errors
    /// [`UsageError`], for long options in the first place only: what is for ssh is ssh's to judge.
    pub fn classify(mut arguments: Vec<OsString>) -> Result<Self, UsageError> {
        let Some(first) = arguments.first() else {
            return Ok(Invocation::Ensure);
        };
        if let Some(verb) = Verb::find(first) {
            arguments.remove(0);
            return Invocation::of(verb, verb.read(arguments)?);
        }
        if is_long(first) {
            return Err(UsageError::Unknown { argument: arguments.remove(0) });
        }
        let purpose = Purpose::of(&arguments);
        Ok(Invocation::Ssh { arguments, purpose })
    }

    fn of(verb: &'static Verb, following: Following) -> Result<Self, UsageError> {
        let wishes = || Wishes::read(&following).map_err(|error| UsageError::Wish { verb: verb.name, error });
        let ordered = |error| UsageError::Order { verb: verb.name, error };
        Ok(match verb.which {
            Which::Login => {
                for option in ["--reason", "--for", "--principals"] {
                    if following.values(option).count() > 1 {
                        return Err(UsageError::Twice { verb: verb.name, option });
                    }
                }
                let mut order = Order::default();
                for reason in following.values("--reason") {
                    order = order.with_reason(reason).map_err(ordered)?;
                }
                for span in following.values("--for") {
                    order = order.with_validity(span).map_err(ordered)?;
                }
                for names in following.values("--principals") {
                    order = order.with_principals(names).map_err(ordered)?;
                }
                Invocation::Login(order)
            }
            Which::Reason => {
                let mut words = following.operands.into_iter();
                if let Some(argument) = words.as_slice().get(1).filter(|word| is_long(word)) {
                    return Err(UsageError::Surplus { verb: verb.name, argument: argument.clone() });
                }
                let order = Order::default().with_reason(&words.next().unwrap_or_default()).map_err(ordered)?;
                Invocation::ForReason { order, arguments: words.collect() }
            }
            // ssh has no long options: its usage, after a password, would be no answer.
            Which::Force if following.operands.first().is_some_and(is_long) => {
                let argument = following.operands.into_iter().next().unwrap_or_default();
                return Err(UsageError::Surplus { verb: verb.name, argument });
            }
            Which::Force => Invocation::Force(following.operands),
            Which::Check if following.has("--agent") => Invocation::CheckAndForward,
            Which::Check => Invocation::Check,
            Which::Status if following.has("--json") => Invocation::Status(StatusForm::Json),
            Which::Status if following.has("--prompt") => Invocation::Status(StatusForm::Prompt),
            Which::Status => Invocation::Status(StatusForm::Text),
            Which::Logout if following.has("--everywhere") => Invocation::LogoutEverywhere,
            Which::Logout => Invocation::Logout,
            Which::Revoke => Invocation::LogoutEverywhere,
            Which::Agent if following.has("--serve") => Invocation::AgentServe,
            Which::Agent => Invocation::Agent,
            Which::Log if following.has("--json") => Invocation::Log(LogForm::Json),
            Which::Log => Invocation::Log(LogForm::Text),
            Which::Confirm => Invocation::Confirm,
            Which::Proxy => {
                let mut words = following.operands.into_iter();
                Invocation::Proxy { host: words.next().unwrap_or_default(), port: words.next().unwrap_or_default() }
            }
            Which::WriteConfig => Invocation::WriteConfig(wishes()?),
            Which::RemoveConfig => Invocation::RemoveConfig(wishes()?),
            Which::Why => Invocation::Why(following.operands.into_iter().next().unwrap_or_default()),
            Which::Help => Invocation::Help,
            Which::Version => Invocation::Version,
        })
    }
}

/// `--word`. (`--` alone ends ssh's options.)
fn is_long(word: &OsString) -> bool {
    matches!(word.as_bytes(), [b'-', b'-', _, ..])
}

/// ssh(1)'s flags that take an argument (ssh.c, getopt; `P` since 9.4).
const WITH_ARGUMENT: &[u8] = b"BDEFIJLOPQRSWbceilmopw";
/// ssh(1)'s flags that take none.
const WITHOUT_ARGUMENT: &[u8] = b"1246AaCfGgKkMNnqsTtVvXxYy";
/// Those with which ssh makes no connection: print its configuration, talk to a master, list algorithms, print its version.
const LOCAL: &[u8] = b"GOQV";

impl Purpose {
    /// Walks the arguments as ssh's getopt does: flags, the host, flags again, the command. Whatever is not understood counts as connecting.
    fn of(arguments: &[OsString]) -> Self {
        let mut rest = arguments.iter();
        let mut host_seen = false;
        while let Some(argument) = rest.next() {
            match Word::read(argument) {
                Word::EndOfOptions => {
                    // The host follows, if it has not been; no flags after it then.
                    return if host_seen || rest.next().is_some() { Purpose::Connects } else { Purpose::StaysLocal };
                }
                Word::Plain if host_seen => return Purpose::Connects,
                Word::Plain => host_seen = true,
                Word::Local => return Purpose::StaysLocal,
                Word::Unknown => return Purpose::Connects,
                Word::Flags => {}
                Word::FlagWantsNext => {
                    if rest.next().is_none() {
                        return Purpose::StaysLocal;
                    }
                }
            }
        }
        if host_seen { Purpose::Connects } else { Purpose::StaysLocal }
    }
}

/// One argument, seen by getopt.
enum Word {
    /// A host or the begin of the command.
    Plain,
    /// `--`.
    EndOfOptions,
    /// Flags, complete in themselves.
    Flags,
    /// Flags of which the last takes the next argument.
    FlagWantsNext,
    /// One of [`LOCAL`] is among the flags.
    Local,
    /// A flag that this list does not know, perhaps a newer ssh's.
    Unknown,
}

impl Word {
    fn read(argument: &OsStr) -> Self {
        let flags = match argument.as_bytes() {
            b"--" => return Word::EndOfOptions,
            b"-" => return Word::Plain,
            // `--word` is no option of ssh: it prints its usage.
            [b'-', b'-', ..] => return Word::Local,
            [b'-', flags @ ..] => flags,
            _ => return Word::Plain,
        };
        for (position, flag) in flags.iter().enumerate() {
            if LOCAL.contains(flag) {
                return Word::Local;
            }
            if WITH_ARGUMENT.contains(flag) {
                return if position + 1 == flags.len() { Word::FlagWantsNext } else { Word::Flags };
            }
            if !WITHOUT_ARGUMENT.contains(flag) {
                return Word::Unknown;
            }
        }
        Word::Flags
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used)]
    use super::*;

    fn ordered(reason: &str) -> Order {
        Order::default().with_reason(reason.as_ref()).unwrap()
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn purpose(line: &str) -> Purpose {
        Purpose::of(&words(line))
    }

    #[test]
    fn no_argument_means_get_or_renew() {
        assert_eq!(Invocation::classify(vec![]), Ok(Invocation::Ensure));
    }

    #[test]
    fn each_verb_is_known_as_the_first_argument() {
        for (line, wanted) in [
            ("--status", Invocation::Status(StatusForm::Text)),
            ("--status --json", Invocation::Status(StatusForm::Json)),
            ("--status --prompt", Invocation::Status(StatusForm::Prompt)),
            ("--why alice@web1", Invocation::Why("alice@web1".into())),
            ("--agent", Invocation::Agent),
            ("--agent --serve", Invocation::AgentServe),
            ("--log", Invocation::Log(LogForm::Text)),
            ("--log --json", Invocation::Log(LogForm::Json)),
            ("--login", Invocation::Login(Order::default())),
            (
                "--login --for 1h --reason=disk",
                Invocation::Login(ordered("disk").with_validity("1h".as_ref()).unwrap()),
            ),
            ("--reason disk", Invocation::ForReason { order: ordered("disk"), arguments: vec![] }),
            (
                "--reason disk -v web1 --for",
                Invocation::ForReason { order: ordered("disk"), arguments: words("-v web1 --for") },
            ),
            ("--logout", Invocation::Logout),
            ("--logout --everywhere", Invocation::LogoutEverywhere),
            ("--revoke", Invocation::LogoutEverywhere),
            ("--check", Invocation::Check),
            ("--check --agent", Invocation::CheckAndForward),
            ("--proxy web1 22", Invocation::Proxy { host: "web1".into(), port: "22".into() }),
            ("--remove-config --system", Invocation::RemoveConfig(Wishes { system: true, ..Wishes::default() })),
            ("--help", Invocation::Help),
            ("--version", Invocation::Version),
            ("--force", Invocation::Force(vec![])),
            ("--force -v web1 id", Invocation::Force(words("-v web1 id"))),
        ] {
            assert_eq!(Invocation::classify(words(line)), Ok(wanted), "{line}");
        }
    }

    #[test]
    fn a_verb_in_any_other_place_is_for_ssh() {
        for line in [
            "web1 --status",
            "-v --login",
            "-- --check",
            "web1 --help",
            "-l --force web1",
            "-- --statusx",
            "-v --statusx",
            "-status",
            "status",
            "login",
        ] {
            let arguments = words(line);
            match Invocation::classify(arguments.clone()) {
                Ok(Invocation::Ssh { arguments: passed, .. }) => assert_eq!(passed, arguments),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_verb_with_a_surplus_argument_is_a_usage_error() {
        for line in [
            "--check web1",
            "--status web1",
            "--status --json web1",
            "--logout --json",
            "--version -v",
            "--login web1",
            "--login --for",
            "--login --for never",
            "--login --reason -v",
            "--reason",
            "--reason -v web1",
            "--reason disk --for 1h web1",
            "--force --status",
            "--check --agent web1",
            "--proxy web1",
            "--proxy web1 22 x",
            "--write-config web1",
            "--write-config --hosts",
            "--write-config --ca -x",
            "--write-config --hosts a/b",
            "--remove-config --ca ca",
            "--help --json",
            "--why",
            "--why -l",
            "--why web1 web2",
            "--status --json --prompt",
            "--reason disk --logout",
            "--reason disk --login",
        ] {
            assert!(Invocation::classify(words(line)).is_err(), "{line}");
        }
    }

    #[test]
    fn what_the_ca_is_asked_for_is_said_once_and_behind_login() {
        let behind = "stands behind --login, and `ussh HOST` follows that";
        for (line, wanted) in [
            ("--login --for 1m --for 2m", "--login takes --for once".to_owned()),
            ("--login --reason a --reason=b", "--login takes --reason once".to_owned()),
            ("--login --principals a --for 1m --principals a", "--login takes --principals once".to_owned()),
            ("--reason disk --for 1h web1", format!("--reason does not take the argument \"--for\": --for {behind}")),
            (
                "--force --reason disk web1",
                format!("--force does not take the argument \"--reason\": --reason {behind}"),
            ),
            ("--for=1h web1", format!("no such verb: \"--for=1h\": --for {behind}")),
        ] {
            let said = Invocation::classify(words(line)).map_err(|error| error.to_string());
            assert_eq!(said, Err(wanted), "{line}");
        }
    }

    #[test]
    fn another_long_option_in_first_place_is_refused_with_the_nearest_verb() {
        for (line, wanted) in [
            ("--logn", "; did you mean --login?"),
            ("--lgoin web1", "; did you mean --login?"),
            ("--statusx --json", "; did you mean --status?"),
            ("--stats", "; did you mean --status?"),
            ("--Force web1", "; did you mean --force?"),
            ("--logot", "; did you mean --logout?"),
            ("--why=web1", "; did you mean --why?"),
            ("--status=json", "; did you mean --status?"),
            ("--json", "no such verb: \"--json\""),
            ("---", "no such verb: \"---\""),
            ("--something-else web1", "no such verb: \"--something-else\""),
        ] {
            let said = Invocation::classify(words(line)).map_err(|error| error.to_string());
            assert!(said.as_ref().is_err_and(|said| said.ends_with(wanted)), "{line}: {said:?}");
        }
        let unreadable = vec![OsStr::from_bytes(b"--\xff\x1b[2J").to_owned()];
        let said = Invocation::classify(unreadable).map_err(|error| error.to_string());
        assert_eq!(said, Err("no such verb: \"--\\xFF\\u{1b}[2J\"".to_owned()));
    }

    #[test]
    fn arguments_for_ssh_keep_every_byte() {
        let arguments: Vec<OsString> = [&b"web1"[..], b"", b"a b", b"\xff\xfe", b"-o", b"X=%h$(x)\n"]
            .iter()
            .map(|b| OsStr::from_bytes(b).to_owned())
            .collect();
        match Invocation::classify(arguments.clone()) {
            Ok(Invocation::Ssh { arguments: passed, .. }) => assert_eq!(passed, arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_host_means_a_connection() {
        for line in [
            "web1",
            "alice@web1 id",
            "-v web1",
            "-p 22 web1",
            "-p22 web1",
            "-vvNT web1",
            "-- web1",
            "-o BatchMode=yes web1",
            "-W a:1 web1",
            "web1 -v",
            "web1 ls -V",
            "web1 -- -V",
            "-l -V web1",
            "ssh://web1",
            "-oV web1",
        ] {
            assert_eq!(purpose(line), Purpose::Connects, "{line}");
        }
    }

    #[test]
    fn what_makes_no_connection_asks_for_no_certificate() {
        for line in [
            "-V",
            "-vV",
            "-Q cipher",
            "-Qcipher",
            "-G web1",
            "web1 -G",
            "-O check web1",
            "-v",
            "-p",
            "-p 22",
            "--",
            "--nonsense web1",
        ] {
            assert_eq!(purpose(line), Purpose::StaysLocal, "{line}");
        }
    }

    #[test]
    fn a_flag_from_a_newer_ssh_counts_as_connecting() {
        assert_eq!(purpose("-Z"), Purpose::Connects);
        assert_eq!(purpose("-vZ x web1"), Purpose::Connects);
    }
}
