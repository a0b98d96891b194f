//! One line of ours: its place and its options, by the module's own rules.

use std::path::Path;

use pam_ussh::options::{
    AccountOptions, AuthOptions, Config, DEFAULT_CONFIG, FromLine, OptionError, Origin, Problem, SessionOptions,
};
use pam_ussh::place;

use crate::examples;
use crate::pam::stack::Facility;
use crate::report::Severity;

/// A line that refuses everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// [`Severity::Error`], or [`Severity::Unchecked`] if only root could tell.
    pub severity: Severity,
    /// For scripts.
    pub rule: &'static str,
    /// What is wrong.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to write.
    pub instead: String,
}

/// The options of a line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Options {
    /// Of `auth`.
    Auth(AuthOptions),
    /// Of `account`.
    Account(AccountOptions),
    /// Of `session`.
    Session(SessionOptions),
}

impl Options {
    /// What a certificate must be like, where one is asked for.
    pub fn auth(&self) -> Option<&AuthOptions> {
        match self {
            Options::Auth(options) => Some(options),
            Options::Account(options) => Some(&options.auth),
            Options::Session(_) => None,
        }
    }
}

const REFUSES: &str = "the module refuses everybody whom it is asked about, and says so in the log";

/// As the module knows it. `None`: it has no options there.
fn known(facility: Facility) -> Option<pam_ussh::options::Facility> {
    match facility {
        Facility::Auth => Some(pam_ussh::options::Facility::Auth),
        Facility::Account => Some(pam_ussh::options::Facility::Account),
        Facility::Session => Some(pam_ussh::options::Facility::Session),
        Facility::Password => None,
    }
}

/// Whether a line of this kind may stand in this service's stack.
/// # Errors
/// [`Wrong`]
pub fn place(service: &str, facility: Facility) -> Result<(), Wrong> {
    let wrong = |what: String| Wrong {
        severity: Severity::Error,
        rule: "place",
        what,
        why: REFUSES,
        instead: "take the line out of here".into(),
    };
    match known(facility) {
        None => Err(wrong(place::PASSWORD.into())),
        Some(known) => place::demand(service, known).map_err(|misplaced| wrong(misplaced.to_string())),
    }
}

/// Options on the line that only the talk with an agent has a use for, where none is asked: sshd's `auth` judges the certificate of the login.
pub fn idle(service: &str, facility: Facility, arguments: Option<&[String]>) -> Option<Wrong> {
    const OF_THE_AGENT: [&str; 7] =
        ["agent_search", "agent_socket", "bind_session", "cue", "cue_prompt", "timeout", "touch_timeout"];
    if service != "sshd" || facility != Facility::Auth {
        return None;
    }
    let names = arguments.into_iter().flatten().filter_map(|argument| argument.split('=').next());
    let idle: Vec<&str> = names.filter(|name| OF_THE_AGENT.contains(name)).collect();
    (!idle.is_empty()).then(|| Wrong {
        severity: Severity::Note,
        rule: "option",
        what: format!("no agent is asked in sshd: {} has no use there", idle.join(", ")),
        why: "the certificate that sshd has verified is judged",
        instead: format!("take {} out", idle.join(", ")),
    })
}

/// Reads the options as the module would, with the file that they name or the usual one; in that file it looks at all services.
/// # Errors
/// [`Wrong`]
pub fn options(service: &str, facility: Facility, arguments: Option<&[String]>) -> Result<Options, Wrong> {
    let options = match facility {
        Facility::Auth => AuthOptions::parse(service, arguments).map(Options::Auth),
        Facility::Account => AccountOptions::parse(service, arguments).map(Options::Account),
        Facility::Session => SessionOptions::parse(service, arguments).map(Options::Session),
        Facility::Password => {
            return Err(place(service, facility).err().unwrap_or_else(|| wrong(&Problem::NotText, None, arguments)));
        }
    };
    let options = options.map_err(|error| wrong_option(&error, arguments))?;
    let file = arguments.into_iter().flatten().find_map(|argument| argument.strip_prefix("config="));
    let file = Path::new(file.unwrap_or(DEFAULT_CONFIG));
    if file.exists() {
        Config::read(file).and_then(|config| config.check()).map_err(|error| wrong_option(&error, arguments))?;
    }
    Ok(options)
}

fn wrong_option(error: &OptionError, arguments: Option<&[String]>) -> Wrong {
    match &error.origin {
        Origin::Line => wrong(&error.problem, None, arguments),
        Origin::File { path, table } if table.is_empty() => {
            wrong(&error.problem, Some(path.display().to_string()), arguments)
        }
        Origin::File { path, table } => wrong(&error.problem, Some(format!("{} [{table}]", path.display())), arguments),
    }
}

/// Whether this flag stands there with a value that says no.
fn says_no(arguments: Option<&[String]>, name: &str) -> bool {
    let values = arguments.into_iter().flatten().filter_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    values.into_iter().any(|value| ["no", "off", "false", "0", "none"].contains(&value.to_ascii_lowercase().as_str()))
}

/// Whether these are not only a line's options, but the line.
fn is_whole_line(arguments: Option<&[String]>) -> bool {
    arguments.into_iter().flatten().any(|argument| argument.rsplit('/').next() == Some("pam_ussh.so"))
}

/// Whether this word stands behind an option with a value, of which it may have been meant to be a part.
fn follows_value(arguments: Option<&[String]>, name: &str) -> bool {
    let arguments = arguments.unwrap_or_default();
    let position = arguments.iter().position(|argument| argument.split('=').next() == Some(name));
    let before = position.and_then(|position| arguments.get(position.checked_sub(1)?));
    before.is_some_and(|before| before.contains('='))
}

/// `file`: it stands there, and not on the line.
fn wrong(problem: &Problem, file: Option<String>, arguments: Option<&[String]>) -> Wrong {
    let unreadable = matches!(problem, Problem::File(text) if text.contains("Permission denied"));
    let example = |name: &str| match file {
        Some(_) => examples::in_file(name),
        None => examples::on_line(name),
    };
    let instead = match problem {
        Problem::Unknown(name) => match examples::nearest(name) {
            Some(near) if file.is_none() => format!("{near} is one letter apart; docs/pam_ussh.md lists all options"),
            _ if file.is_none() && is_whole_line(arguments) => {
                "give the options alone: what stands behind pam_ussh.so".into()
            }
            _ if file.is_none() && follows_value(arguments, name) => format!(
                "a blank ends an option: write its value without one, or the whole in brackets ([NAME=VALUE]); else take {name} out"
            ),
            _ => format!("take {name} out; docs/pam_ussh.md lists all options"),
        },
        Problem::NoValue(name) => {
            format!("{}, or leave it out", example(name).unwrap_or_else(|| format!("{name}=VALUE")))
        }
        // What says no is meant to switch it off; it is off where it does not stand.
        Problem::NeedlessValue(name) if says_no(arguments, name) => format!(
            "leave {name} out: then it is off, unless a file of options has it on (`{name} = false` there takes it back)"
        ),
        Problem::NeedlessValue(name) => name.clone(),
        Problem::WrongFacility { name, .. } => format!("take {name} out of this line"),
        // It is a sentence that goes on in the problem's own text.
        Problem::Misnamed { name, write } if write.starts_with("it below") => {
            format!("write {name} below [default] or [service.NAME]")
        }
        Problem::Misnamed { write, .. } => write.clone(),
        Problem::Value(name, what) => match example(name) {
            Some(example) => format!("for example {example}"),
            None => format!("{name}: {what}"),
        },
        Problem::Contradiction { name, .. } => consistent(name).into(),
        Problem::NotHere { name, .. } => format!("take {name} out of here"),
        Problem::File(_) if unreadable => "run this as root".into(),
        // They say it themselves.
        Problem::NotText | Problem::Repeated { .. } | Problem::File(_) => String::new(),
    };
    let what = file.map_or_else(|| problem.to_string(), |file| format!("{file}: {problem}"));
    let severity = if unreadable { Severity::Unchecked } else { Severity::Error };
    Wrong { severity, rule: "option", what, why: REFUSES, instead }
}

/// What a line can hold in place of options that contradict each other, or lack one.
fn consistent(name: &str) -> &'static str {
    match name {
        "require_user_principal" => "require_user_principal=no authorized_principals=ops,oncall",
        "krl_max_age" => "revoked_keys=/etc/ssh/revoked_keys krl_max_age=1d",
        "bind_session" => "bind_session=yes, without agent_socket=",
        "agent_search" => "agent_socket=/run/agent.sock, without agent_search=yes",
        "authorized_principals" => "authorized_principals=ops,oncall, without authorized_principals_file=",
        _ => "keep one of them, or add what is lacking",
    }
}
