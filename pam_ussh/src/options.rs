//! The PAM line. Whatever on it is unknown, empty, repeated or contradictory is an error that names the option: a line that is not understood whole lets nobody in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ussh_core::principals::PrincipalList;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// An argument that is no text.
    #[error("an argument is not UTF-8")]
    NotText,
    /// No option of ours, or not one of this facility.
    #[error("unknown option {0}")]
    Unknown(String),
    /// `name=` with nothing behind it, or without the `=` where a value must be.
    #[error("option {0} has no value")]
    NoValue(String),
    /// `debug=…`.
    #[error("option {0} takes no value")]
    NeedlessValue(String),
    /// Given twice.
    #[error("option {0} is repeated")]
    Repeated(String),
    /// A value that is not one of this option.
    #[error("option {0} must be {1}")]
    Value(&'static str, &'static str),
    /// Two options that exclude each other, or one that needs another.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// Where the principals come from that a certificate must hold one of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principals {
    /// No list.
    None,
    /// `authorized_principals=`
    List(PrincipalList),
    /// `authorized_principals_file=`
    File(FilePattern),
}

/// Options of a line in `auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthOptions {
    /// Trusted CA keys.
    pub ca_file: PathBuf,
    /// PAM_USER must belong to it.
    pub group: Option<String>,
    /// List that a certificate must satisfy.
    pub principals: Principals,
    /// Whether it must name PAM_USER itself. `false` only with a list.
    pub require_user_principal: bool,
    /// KRL or plain list.
    pub revoked_keys: Option<PathBuf>,
    /// Longest `valid_before - valid_after`.
    pub max_validity: Option<Duration>,
    /// Longest time since the login.
    pub max_age: Option<Duration>,
    /// For all talk with the agent but signatures.
    pub timeout: Duration,
    /// Instead of SSH_AUTH_SOCK.
    pub agent_socket: Option<PathBuf>,
    /// More in the log.
    pub debug: bool,
}

/// What becomes of a session whose record cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolFailure {
    /// It is refused.
    Refuse,
    /// It goes on unwatched.
    Allow,
}

/// Options of a line in `session`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// `spool_failure=refuse|allow`
    pub spool_failure: SpoolFailure,
    /// More in the log.
    pub debug: bool,
}

const CA_FILE: &str = "/etc/ssh/trusted_user_ca";
const TIMEOUT: Duration = Duration::from_secs(5);
/// An agent that takes longer is no agent; and a login must end some time.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

impl AuthOptions {
    /// From the arguments as libpam splits them.
    /// # Errors
    /// [`OptionError`]
    pub fn parse(arguments: Option<&[String]>) -> Result<Self, OptionError> {
        let mut line = Line::split(arguments)?;
        let options = AuthOptions {
            ca_file: line.path("ca_file")?.unwrap_or_else(|| CA_FILE.into()),
            group: line.take("group")?.map(str::to_owned),
            principals: principals(&mut line)?,
            require_user_principal: line
                .choice("require_user_principal", "yes or no", &[("yes", true), ("no", false)])?
                .unwrap_or(true),
            revoked_keys: line.path("revoked_keys")?,
            max_validity: line.duration("max_validity")?,
            max_age: line.duration("max_age")?,
            timeout: line.duration("timeout")?.unwrap_or(TIMEOUT),
            agent_socket: line.path("agent_socket")?,
            debug: line.flag("debug")?,
        };
        line.finish()?;
        if !options.require_user_principal && options.principals == Principals::None {
            return Err(OptionError::Contradiction(
                "require_user_principal=no needs authorized_principals= or authorized_principals_file=",
            ));
        }
        if options.timeout > LONGEST_TIMEOUT {
            return Err(OptionError::Value("timeout", "at most 5m"));
        }
        Ok(options)
    }
}

impl SessionOptions {
    /// From the arguments as libpam splits them.
    /// # Errors
    /// [`OptionError`]
    pub fn parse(arguments: Option<&[String]>) -> Result<Self, OptionError> {
        let mut line = Line::split(arguments)?;
        let choices = [("refuse", SpoolFailure::Refuse), ("allow", SpoolFailure::Allow)];
        let options = SessionOptions {
            spool_failure: line.choice("spool_failure", "refuse or allow", &choices)?.unwrap_or(SpoolFailure::Refuse),
            debug: line.flag("debug")?,
        };
        line.finish()?;
        Ok(options)
    }
}

fn principals(line: &mut Line<'_>) -> Result<Principals, OptionError> {
    let list = line.take("authorized_principals")?;
    let file = line.take("authorized_principals_file")?;
    match (list, file) {
        (None, None) => Ok(Principals::None),
        (Some(list), None) => PrincipalList::from_comma_list(list)
            .map(Principals::List)
            .ok_or(OptionError::Value("authorized_principals", "names with commas between them, none of them empty")),
        (None, Some(file)) => FilePattern::parse(file).map(Principals::File).ok_or(OptionError::Value(
            "authorized_principals_file",
            "an absolute path, with no %-sequences but %u, %U and %%",
        )),
        (Some(_), Some(_)) => {
            Err(OptionError::Contradiction("authorized_principals and authorized_principals_file exclude each other"))
        }
    }
}

/// A path with `%u` (user name), `%U` (uid) and `%%` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    UserName,
    UserId,
}

impl FilePattern {
    /// `None`: not absolute, or a `%` with something else behind it.
    fn parse(pattern: &str) -> Option<Self> {
        if !Path::new(pattern).is_absolute() {
            return None;
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            let part = match character {
                '%' => match characters.next()? {
                    '%' => {
                        text.push('%');
                        continue;
                    }
                    'u' => Part::UserName,
                    'U' => Part::UserId,
                    _ => return None,
                },
                other => {
                    text.push(other);
                    continue;
                }
            };
            parts.push(Part::Text(std::mem::take(&mut text)));
            parts.push(part);
        }
        parts.push(Part::Text(text));
        Some(FilePattern(parts))
    }

    /// The path for an account. `None`: the name would not stay one part of the path.
    pub fn expand(&self, name: &str, uid: u32) -> Option<PathBuf> {
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::UserName if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) => {
                    return None;
                }
                Part::UserName => path.push_str(name),
                Part::UserId => path.push_str(&uid.to_string()),
            }
        }
        Some(path.into())
    }
}

/// The options that have not been asked for yet.
struct Line<'a>(BTreeMap<&'a str, Option<&'a str>>);

impl<'a> Line<'a> {
    fn split(arguments: Option<&'a [String]>) -> Result<Self, OptionError> {
        let mut options = BTreeMap::new();
        for argument in arguments.ok_or(OptionError::NotText)? {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            };
            if options.insert(name, value).is_some() {
                return Err(OptionError::Repeated(name.into()));
            }
        }
        Ok(Line(options))
    }

    fn take(&mut self, name: &'static str) -> Result<Option<&'a str>, OptionError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(None | Some("")) => Err(OptionError::NoValue(name.into())),
            Some(Some(value)) => Ok(Some(value)),
        }
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, OptionError> {
        match self.0.remove(name) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(_)) => Err(OptionError::NeedlessValue(name.into())),
        }
    }

    fn path(&mut self, name: &'static str) -> Result<Option<PathBuf>, OptionError> {
        match self.take(name)?.map(PathBuf::from) {
            Some(path) if !path.is_absolute() => Err(OptionError::Value(name, "an absolute path")),
            path => Ok(path),
        }
    }

    fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        what: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, OptionError> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        match choices.iter().find(|(word, _)| *word == value) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => Err(OptionError::Value(name, what)),
        }
    }

    fn duration(&mut self, name: &'static str) -> Result<Option<Duration>, OptionError> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let error = OptionError::Value(name, "seconds above 0, or a number with s, m, h or d behind it");
        seconds(value).map(|seconds| Some(Duration::from_secs(seconds))).ok_or(error)
    }

    fn finish(self) -> Result<(), OptionError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(OptionError::Unknown(name.into())),
        }
    }
}

/// `90`, `90s`, `15m`, `8h`, `1d`. Digits only: no sign, no space. Not 0, which would let nothing pass.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn auth(line: &[&str]) -> Result<AuthOptions, OptionError> {
        let arguments: Vec<String> = line.iter().map(|argument| (*argument).to_owned()).collect();
        AuthOptions::parse(Some(&arguments))
    }

    fn session(line: &[&str]) -> Result<SessionOptions, OptionError> {
        let arguments: Vec<String> = line.iter().map(|argument| (*argument).to_owned()).collect();
        SessionOptions::parse(Some(&arguments))
    }

    fn complaint(line: &[&str]) -> String {
        auth(line).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_line_has_the_defaults() {
        assert_eq!(
            auth(&[]).unwrap(),
            AuthOptions {
                ca_file: CA_FILE.into(),
                group: None,
                principals: Principals::None,
                require_user_principal: true,
                revoked_keys: None,
                max_validity: None,
                max_age: None,
                timeout: TIMEOUT,
                agent_socket: None,
                debug: false,
            }
        );
        assert_eq!(session(&[]).unwrap(), SessionOptions { spool_failure: SpoolFailure::Refuse, debug: false });
    }

    #[test]
    fn reads_every_option() {
        let options = auth(&[
            "ca_file=/etc/ca",
            "group=admins",
            "authorized_principals=ops,root",
            "require_user_principal=no",
            "revoked_keys=/etc/krl",
            "max_validity=8h",
            "max_age=900",
            "timeout=3s",
            "agent_socket=/run/agent",
            "debug",
        ])
        .unwrap();
        assert_eq!(
            options,
            AuthOptions {
                ca_file: "/etc/ca".into(),
                group: Some("admins".into()),
                principals: Principals::List(PrincipalList::from_comma_list("ops,root").unwrap()),
                require_user_principal: false,
                revoked_keys: Some("/etc/krl".into()),
                max_validity: Some(Duration::from_secs(8 * 3600)),
                max_age: Some(Duration::from_secs(900)),
                timeout: Duration::from_secs(3),
                agent_socket: Some("/run/agent".into()),
                debug: true,
            }
        );
        assert_eq!(
            session(&["spool_failure=allow", "debug"]).unwrap(),
            SessionOptions { spool_failure: SpoolFailure::Allow, debug: true }
        );
    }

    #[test]
    fn refuses_unknown_options_by_name() {
        assert_eq!(complaint(&["grop=admins"]), "unknown option grop");
        assert_eq!(complaint(&["Debug"]), "unknown option Debug");
        assert_eq!(complaint(&["debug", ""]), "unknown option ");
        assert_eq!(complaint(&["spool_failure=allow"]), "unknown option spool_failure");
        assert_eq!(session(&["ca_file=/etc/ca"]).unwrap_err().to_string(), "unknown option ca_file");
    }

    #[test]
    fn refuses_empty_and_needless_values() {
        for name in [
            "ca_file",
            "group",
            "authorized_principals",
            "authorized_principals_file",
            "require_user_principal",
            "revoked_keys",
            "max_validity",
            "max_age",
            "timeout",
            "agent_socket",
        ] {
            assert_eq!(complaint(&[&format!("{name}=")]), format!("option {name} has no value"));
            assert_eq!(complaint(&[name]), format!("option {name} has no value"));
        }
        assert_eq!(complaint(&["debug=yes"]), "option debug takes no value");
        assert_eq!(complaint(&["debug="]), "option debug takes no value");
    }

    #[test]
    fn refuses_repeated_options() {
        assert_eq!(complaint(&["group=a", "group=a"]), "option group is repeated");
        assert_eq!(complaint(&["debug", "debug"]), "option debug is repeated");
    }

    #[test]
    fn refuses_contradictions() {
        assert_eq!(
            complaint(&["require_user_principal=no"]),
            "require_user_principal=no needs authorized_principals= or authorized_principals_file="
        );
        assert_eq!(
            complaint(&["authorized_principals=a", "authorized_principals_file=/a"]),
            "authorized_principals and authorized_principals_file exclude each other"
        );
        assert!(auth(&["require_user_principal=no", "authorized_principals_file=/etc/p"]).is_ok());
        assert!(auth(&["require_user_principal=yes", "authorized_principals=a"]).is_ok());
    }

    #[test]
    fn refuses_values_that_are_none() {
        for (line, what) in [
            ("ca_file=etc/ca", "option ca_file must be an absolute path"),
            ("revoked_keys=~/krl", "option revoked_keys must be an absolute path"),
            ("agent_socket=agent", "option agent_socket must be an absolute path"),
            ("require_user_principal=No", "option require_user_principal must be yes or no"),
            (
                "authorized_principals=a,,b",
                "option authorized_principals must be names with commas between them, none of them empty",
            ),
            (
                "authorized_principals_file=p/%u",
                "option authorized_principals_file must be an absolute path, with no %-sequences but %u, %U and %%",
            ),
            (
                "authorized_principals_file=/p/%h",
                "option authorized_principals_file must be an absolute path, with no %-sequences but %u, %U and %%",
            ),
            (
                "authorized_principals_file=/p/%",
                "option authorized_principals_file must be an absolute path, with no %-sequences but %u, %U and %%",
            ),
            ("timeout=301", "option timeout must be at most 5m"),
        ] {
            assert_eq!(complaint(&[line]), what);
        }
        assert_eq!(AuthOptions::parse(None).unwrap_err(), OptionError::NotText);
        assert_eq!(SessionOptions::parse(None).unwrap_err(), OptionError::NotText);
        assert!(session(&["spool_failure=yes"]).is_err());
    }

    #[test]
    fn reads_durations() {
        for (text, value) in [("1", 1), ("90s", 90), ("15m", 900), ("8h", 28800), ("1d", 86400)] {
            assert_eq!(seconds(text), Some(value), "{text}");
        }
        for text in [
            "",
            "0",
            "0h",
            "m",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1w",
            "1hh",
            "1h30m",
            "1.5h",
            "99999999999999999999",
            "18446744073709551615d",
            "٣",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn expands_patterns() {
        let pattern = FilePattern::parse("/etc/p%%/%u-%U").unwrap();
        assert_eq!(pattern.expand("alice", 1000).unwrap(), Path::new("/etc/p%/alice-1000"));
        for name in ["", ".", "..", "../root", "a/b", "a\0b"] {
            assert_eq!(pattern.expand(name, 1000), None, "{name}");
        }
        let by_id = FilePattern::parse("/etc/p/%U").unwrap();
        assert_eq!(by_id.expand("../root", 1000).unwrap(), Path::new("/etc/p/1000"));
    }
}
