//! The one definition of our verbs and their options. The command line is read by it; help, manual page and completions are made of it.
//!
//! A new verb is one row here and one arm in `arguments.rs`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::arguments::UsageError;

/// One verb of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    /// With its dashes.
    pub name: &'static str,
    /// Which it is.
    pub which: Which,
    /// Options that may follow it.
    pub options: &'static [VerbOption],
    /// Whether of the options only one may be given.
    pub alternatives: bool,
    /// What else may follow.
    pub operands: Operands,
    /// What it does, in a line.
    pub does: &'static str,
}

/// An option of a verb, which counts behind it only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerbOption {
    /// With its dashes.
    pub name: &'static str,
    /// What its value is called; empty: it has none. With a value it may be given more than once.
    pub value: &'static str,
    /// What it does, in a line; empty: it is for `ussh` itself, and nobody is told.
    pub does: &'static str,
}

impl VerbOption {
    /// Whether it is for people.
    pub fn is_shown(&self) -> bool {
        !self.does.is_empty()
    }
}

/// What may follow a verb beside its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// Nothing.
    Nothing,
    /// Exactly these, by the names that people are shown.
    Named(&'static [&'static str]),
    /// All that follows is ssh's, but for so many words before, and is not looked at: no options of ours then.
    ForSsh {
        /// What people are shown.
        shown: &'static str,
        /// At least one argument.
        needed: bool,
        /// How many of the first are not ssh's.
        ours: usize,
    },
}

/// The verbs by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is explained where it is defined, in VERBS")]
pub enum Which {
    Login,
    Force,
    Reason,
    Check,
    Status,
    Logout,
    Revoke,
    Agent,
    Log,
    Confirm,
    Proxy,
    WriteConfig,
    RemoveConfig,
    Why,
    Help,
    Version,
}

const PROMPT: VerbOption = VerbOption { name: "--prompt", value: "", does: "in a word or two, for a shell's prompt" };
const JSON: VerbOption = VerbOption { name: "--json", value: "", does: "as JSON" };
const AGENT: VerbOption = VerbOption {
    name: "--agent",
    value: "",
    does: "and see to it that the guarded agent runs where ssh_config looks for it",
};
const HOSTS: VerbOption = VerbOption {
    name: "--hosts",
    value: "PATTERNS",
    does: "your hosts, with commas between, where no [[host]] table names them",
};
const CA: VerbOption = VerbOption { name: "--ca", value: "CA", does: "the CA, where no ussh.toml names one" };
const SYSTEM: VerbOption = VerbOption { name: "--system", value: "", does: "for everybody on this machine" };
const DRY_RUN: VerbOption =
    VerbOption { name: "--dry-run", value: "", does: "show what would change, and change nothing" };
const REASON: VerbOption = VerbOption {
    name: "--reason",
    value: "TEXT",
    does: "what for, where the CA wants to know; it keeps that in its inventory",
};
const FOR: VerbOption =
    VerbOption {
        name: "--for", value: "TIME", does: "a certificate for 30m, 8h, …: as far as the CA's policy allows"
    };
const PRINCIPALS: VerbOption = VerbOption {
    name: "--principals",
    value: "NAMES",
    does: "for these only of those that you may have, with commas between",
};
const EVERYWHERE: VerbOption =
    VerbOption { name: "--everywhere", value: "", does: "and have the CA revoke them: no copy is good any more" };
const SERVE: VerbOption = VerbOption { name: "--serve", value: "", does: "" };

const fn verb(name: &'static str, which: Which, does: &'static str) -> Verb {
    Verb { name, which, options: &[], alternatives: false, operands: Operands::Nothing, does }
}

/// All our verbs.
pub const VERBS: &[Verb] = &[
    Verb {
        options: &[REASON, FOR, PRINCIPALS],
        ..verb("--login", Which::Login, "log in at the CA now, whatever the agent holds")
    },
    Verb {
        operands: Operands::ForSsh { shown: "[ssh arguments…]", needed: false, ours: 0 },
        ..verb("--force", Which::Force, "log in at the CA now, then run ssh")
    },
    Verb {
        operands: Operands::ForSsh { shown: "TEXT [ssh arguments…]", needed: true, ours: 1 },
        ..verb("--reason", Which::Reason, "log in at the CA now, and say what for; then run ssh, if more follows")
    },
    Verb {
        options: &[AGENT],
        ..verb("--check", Which::Check, "exit 0 if there is a good certificate, else 1; prints nothing")
    },
    Verb {
        options: &[JSON, PROMPT],
        alternatives: true,
        ..verb("--status", Which::Status, "agent, CA, certificates and the time they have left; exits as --check")
    },
    Verb {
        options: &[EVERYWHERE],
        ..verb("--logout", Which::Logout, "remove the certificates of your CA from the agent")
    },
    verb(
        "--revoke",
        Which::Revoke,
        "the panic button: have the CA revoke all your certificates, and remove them from the agent",
    ),
    Verb {
        options: &[SERVE],
        ..verb("--agent", Which::Agent, "see to it that the guarded agent runs, and print its socket")
    },
    Verb {
        options: &[JSON],
        ..verb("--log", Which::Log, "what hosts asked of the guarded agent, and what became of it")
    },
    verb(
        "--confirm",
        Which::Confirm,
        "ask on this terminal what `confirm` in ussh.toml wants to be asked, until Ctrl-C",
    ),
    Verb {
        operands: Operands::Named(&["HOST", "PORT"]),
        ..verb(
            "--proxy",
            Which::Proxy,
            "get a certificate if there is no good one, and connect: for ssh's ProxyCommand",
        )
    },
    Verb {
        options: &[HOSTS, CA, SYSTEM, DRY_RUN],
        ..verb("--write-config", Which::WriteConfig, "have plain ssh do all this, by lines in ssh_config")
    },
    Verb {
        options: &[SYSTEM, DRY_RUN],
        ..verb("--remove-config", Which::RemoveConfig, "take them out again, byte for byte")
    },
    Verb {
        operands: Operands::Named(&["HOST"]),
        ..verb(
            "--why",
            Which::Why,
            "look for what is wrong with a login there, and say the one thing to do; exit 1 if anything is",
        )
    },
    verb("--help", Which::Help, "this text"),
    verb("--version", Which::Version, "the version"),
];

impl Verb {
    /// The one of this name.
    pub fn find(name: &OsStr) -> Option<&'static Verb> {
        VERBS.iter().find(|verb| name == verb.name)
    }
    /// What may follow it, as people are shown it: `[--json]`, `HOST PORT`.
    pub fn takes(&self) -> String {
        let options = self.options.iter().filter(|option| option.is_shown());
        let options =
            options.map(|o| if o.value.is_empty() { o.name.to_owned() } else { format!("{} {}", o.name, o.value) });
        let between = if self.alternatives { "|" } else { "] [" };
        let options = options.collect::<Vec<_>>().join(between);
        let operands = match self.operands {
            Operands::Nothing => String::new(),
            Operands::Named(names) => names.join(" "),
            Operands::ForSsh { shown, .. } => shown.to_owned(),
        };
        match (options.as_str(), operands.as_str()) {
            ("", _) => operands,
            (_, "") => format!("[{options}]"),
            _ => format!("[{options}] {operands}"),
        }
    }
    /// Reads what follows it.
    /// # Errors
    /// [`UsageError`]
    pub fn read(&'static self, following: Vec<OsString>) -> Result<Following, UsageError> {
        let mut read = Following { options: Vec::new(), operands: Vec::new() };
        let (most, needed): (usize, &[&str]) = match self.operands {
            Operands::ForSsh { needed: true, shown, .. } if following.is_empty() => {
                return Err(UsageError::Missing { verb: self.name, wanted: shown.to_owned() });
            }
            Operands::ForSsh { .. } => {
                read.operands = following;
                return Ok(read);
            }
            Operands::Nothing => (0, &[]),
            Operands::Named(names) => (names.len(), names),
        };
        let surplus = |argument| UsageError::Surplus { verb: self.name, argument };
        let mut words = following.into_iter();
        let mut options_end = false;
        while let Some(word) = words.next() {
            if options_end || !word.as_bytes().starts_with(b"-") {
                if read.operands.len() == most {
                    return Err(surplus(word));
                }
                read.operands.push(word);
            } else if word == "--" && most > 0 {
                options_end = true;
            } else {
                let Some((option, value)) = self.option(&word) else { return Err(surplus(word)) };
                let again = option.value.is_empty() && read.has(option.name);
                if again || (self.alternatives && !read.options.is_empty()) {
                    return Err(surplus(word));
                }
                let value = match (option.value, value) {
                    ("", None) => OsString::new(),
                    ("", Some(_)) => return Err(surplus(word)),
                    (_, Some(value)) => value,
                    (wanted, None) => words.next().ok_or_else(|| UsageError::Missing {
                        verb: self.name,
                        wanted: format!("{} {wanted}", option.name),
                    })?,
                };
                read.options.push((option.name, value));
            }
        }
        match needed.get(read.operands.len()) {
            Some(missing) => Err(UsageError::Missing { verb: self.name, wanted: (*missing).to_owned() }),
            None => Ok(read),
        }
    }
    /// `--name`, or `--name=value`.
    fn option(&self, word: &OsStr) -> Option<(&'static VerbOption, Option<OsString>)> {
        self.options.iter().find_map(|option| match word.as_bytes().strip_prefix(option.name.as_bytes())? {
            [] => Some((option, None)),
            [b'=', value @ ..] => Some((option, Some(OsString::from_vec(value.to_vec())))),
            _ => None,
        })
    }
}

/// What followed a verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Following {
    options: Vec<(&'static str, OsString)>,
    /// All else, in order.
    pub operands: Vec<OsString>,
}

impl Following {
    /// Whether this option was given.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == option)
    }
    /// The values of this option, in order.
    pub fn values<'a>(&'a self, option: &'a str) -> impl Iterator<Item = &'a OsStr> {
        self.options.iter().filter(move |(name, _)| *name == option).map(|(_, value)| value.as_os_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    const TRIED: Verb = Verb {
        options: &[
            JSON,
            SERVE,
            VerbOption { name: "--ca", value: "CA", does: "which CA" },
            VerbOption { name: "--case", value: "", does: "another" },
        ],
        operands: Operands::Named(&["HOST", "PORT"]),
        ..verb("--tried", Which::Check, "")
    };
    const ONE_OF: Verb = Verb { options: &[JSON, SERVE], alternatives: true, ..verb("--one-of", Which::Check, "") };

    fn read(verb: &'static Verb, line: &str) -> Result<Following, String> {
        verb.read(line.split_whitespace().map(OsString::from).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn options_and_operands_come_in_any_order_and_values_in_either_form() {
        for line in ["--ca a --json h --ca=b p", "h p --json --ca=a --ca b", "--json --ca=a --ca b -- h p"] {
            let read = read(&TRIED, line).unwrap();
            assert_eq!(read.operands, ["h", "p"], "{line}");
            assert_eq!(read.values("--ca").collect::<Vec<_>>(), ["a", "b"], "{line}");
            assert!(read.has("--json") && !read.has("--case"), "{line}");
        }
        assert!(read(&TRIED, "h p --case").unwrap().has("--case"));
        assert_eq!(read(&TRIED, "h -- -p").unwrap().operands, ["h", "-p"]);
    }

    #[test]
    fn what_is_too_much_or_too_little_is_named() {
        for (verb, line, wanted) in [
            (&TRIED, "h p q", "--tried does not take the argument \"q\""),
            (&TRIED, "h -p", "--tried does not take the argument \"-p\""),
            (&TRIED, "h p --cas=x", "--tried does not take the argument \"--cas=x\""),
            (&TRIED, "h p --json --json", "--tried does not take the argument \"--json\""),
            (&TRIED, "h p --json=x", "--tried does not take the argument \"--json=x\""),
            (&TRIED, "h", "--tried wants PORT"),
            (&TRIED, "", "--tried wants HOST"),
            (&TRIED, "h p --ca", "--tried wants --ca CA"),
            (&ONE_OF, "--json --serve", "--one-of does not take the argument \"--serve\""),
            (&ONE_OF, "--", "--one-of does not take the argument \"--\""),
        ] {
            assert_eq!(read(verb, line), Err(wanted.to_owned()), "{line}");
        }
    }

    #[test]
    fn people_are_shown_what_may_follow() {
        assert_eq!(TRIED.takes(), "[--json] [--ca CA] [--case] HOST PORT");
        assert_eq!(ONE_OF.takes(), "[--json]");
        assert_eq!(Verb::find(OsStr::new("--force")).unwrap().takes(), "[ssh arguments…]");
    }
}
