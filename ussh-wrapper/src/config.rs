//! The configuration: the system's file, the user's file over it (key by key), and `USSH_CA` over both; but for keys that the system's file has locked.
//!
//! Parsed into types that cannot hold what would be dangerous further on: these values become arguments of `ssh`.

mod hosts;
mod locks;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};
use ussh_core::trusted_file::{TrustedFileError, read_trusted};
use ussh_os::account::Account;

pub use self::hosts::{Forward, HostRule, Patterns};
pub use self::locks::{Lockable, Locks, PassedOver};
use crate::user_file::{self, MAX_FILE, UserFileError};

/// The system's file; it may be missing.
pub const SYSTEM_FILE: &str = "/etc/ussh/ussh.toml";
/// The user's file, under the home folder; it may be missing.
pub const USER_FILE: &str = ".config/ussh/ussh.toml";
/// Environment variable with one or more CAs, by commas or blanks apart.
pub const CA_VARIABLE: &str = "USSH_CA";

const DEFAULT_USER_CA_FILE: &str = "/etc/ussh/user_ca.pub";
const DEFAULT_KNOWN_HOSTS: &str = "/etc/ussh/known_hosts";
const DEFAULT_CONNECT_TIMEOUT_SECONDS: u32 = 5;

/// What the files and the environment say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// CAs in the order in which they are tried; may be empty (then nobody can log in).
    pub cas: Vec<CaAddress>,
    /// The user's name at the CA; `None`: the local account's.
    pub ca_user: Option<CaUser>,
    /// Trusted user CA keys, one per line, in sshd's TrustedUserCAKeys format.
    pub user_ca_file: PathBuf,
    /// `@cert-authority` lines for the CA's own host certificate.
    pub known_hosts: PathBuf,
    /// A certificate that ends within this many seconds is no longer good; `None`: [`crate::certificates::DEFAULT_RENEW_BEFORE_SECONDS`], and less for a short-lived one.
    pub renew_before_seconds: Option<u32>,
    /// How long one CA may take to answer a connection, in seconds (1 to 600).
    pub connect_timeout_seconds: u32,
    /// What happens where no CA is to be had.
    pub on_ca_failure: OnCaFailure,
    /// Our hosts, the user's rules before the system's; the first that matches decides. Empty: every host is ours, and nothing is forwarded.
    pub hosts: Vec<HostRule>,
    /// PAM services (or `ussh-hostd`) whose challenges the guarded agent signs only when the user says so. Empty: it does not ask.
    pub confirm: Patterns,
    /// Where key and certificate are kept.
    pub keep_in: KeepIn,
    /// The public half of a key of the user's own, which is to be certified; `None`: the CA makes one.
    pub client_key: Option<PathBuf>,
    /// What of this the system's file has locked.
    pub locks: Locks,
}

/// What `ussh HOST` does without a good certificate where no CA answers, or none proves itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCaFailure {
    /// Says so, and ssh goes on with what else it has: a host may know the user by other keys.
    #[default]
    Continue,
    /// Says so, and ends.
    Stop,
}

/// Where key and certificate are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepIn {
    /// In the user's ssh-agent.
    #[default]
    Agent,
    /// In files of the user's: for agents that take none.
    Files,
}

/// Nobody knows the user's name at the CA.
#[derive(Debug, thiserror::Error)]
#[error("no account name for uid {0} that a CA could know: set `ca_user` in the configuration")]
pub struct NoUserName(u32);

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The system's file.
    pub system: PathBuf,
    /// The home folder; `None`: there is no user's file, and no `~/` in paths.
    pub home: Option<PathBuf>,
    /// Value of [`CA_VARIABLE`].
    pub ca: Option<OsString>,
    /// Who runs us.
    pub uid: u32,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is there but is not taken.
    #[error("{0}")]
    File(#[from] UserFileError),
    /// A file's text is wrong.
    #[error("{path}:{line}: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The environment variable is wrong.
    #[error("environment variable {CA_VARIABLE}: {0}")]
    Environment(String),
    /// A path begins with `~/` and there is no HOME.
    #[error("{0}: HOME is not set to an absolute path")]
    NoHome(String),
    /// Locks in a file that others than root can change: whoever can, could lift them.
    #[error("`locked` counts only in a file that root alone can change: {0}")]
    Locks(TrustedFileError),
    /// Locks in the user's file.
    #[error("{0}: `locked` has a say in {SYSTEM_FILE} only")]
    OwnLocks(PathBuf),
    /// One key for two.
    #[error("`client_key` leaves the key in your agent, and `keep_in = \"files\"` has the CA make another")]
    Contradiction,
    /// The file of trusted CA keys holds none.
    #[error("{0}: holds no CA key")]
    NoCaKey(PathBuf),
}

impl Sources {
    /// The real ones.
    pub fn of_this_process() -> Self {
        Sources {
            system: PathBuf::from(SYSTEM_FILE),
            home: std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()),
            ca: std::env::var_os(CA_VARIABLE),
            uid: ussh_os::process::real_uid(),
        }
    }
}

impl Config {
    /// Reads and checks all of it.
    /// # Errors
    /// [`ConfigError`]: whatever is there must be right.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let (system, mut locks) = ConfigFile::read_system(sources)?;
        let home = sources.home.as_deref();
        let place = home.map(|home| home.join(USER_FILE)).unwrap_or_default();
        let user = if home.is_some() { ConfigFile::read(&place, sources.uid)? } else { ConfigFile::default() };
        if !user.locked.is_empty() {
            return Err(ConfigError::OwnLocks(place));
        }
        let cas = locks.choose(Lockable::Ca, &place, user.ca, system.ca).map(|list| list.0);
        let cas = match sources.ca.as_ref().filter(|value| !value.is_empty()) {
            // Where it has no say, nobody asks whether it is right.
            Some(_) if locks.has(Lockable::Ca) => {
                locks.choose(Lockable::Ca, Path::new(CA_VARIABLE), Some(Vec::new()), cas)
            }
            Some(value) => Some(ca_list_of_variable(value)?),
            None => cas,
        };
        let mut choose = Choosing { locks: &mut locks, place: &place };
        let user_ca_file = choose.of(Lockable::UserCaFile, user.user_ca_file, system.user_ca_file);
        let known_hosts = choose.of(Lockable::KnownHosts, user.known_hosts, system.known_hosts);
        let timeout =
            choose.of(Lockable::ConnectTimeoutSeconds, user.connect_timeout_seconds, system.connect_timeout_seconds);
        let client_key = choose.of(Lockable::ClientKey, user.client_key, system.client_key);
        let client_key = client_key.map(|path| resolve(Some(path), "", home)).transpose()?;
        let keep_in = choose.of(Lockable::KeepIn, user.keep_in, system.keep_in);
        if client_key.is_some() && keep_in == Some(KeepIn::Files) {
            return Err(ConfigError::Contradiction);
        }
        let own_hosts = choose.of(Lockable::Host, Some(user.host).filter(|hosts| !hosts.is_empty()), None);
        Ok(Config {
            cas: cas.unwrap_or_default(),
            ca_user: choose.of(Lockable::CaUser, user.ca_user, system.ca_user),
            user_ca_file: resolve(user_ca_file, DEFAULT_USER_CA_FILE, home)?,
            known_hosts: resolve(known_hosts, DEFAULT_KNOWN_HOSTS, home)?,
            renew_before_seconds: choose.of(
                Lockable::RenewBeforeSeconds,
                user.renew_before_seconds,
                system.renew_before_seconds,
            ),
            connect_timeout_seconds: timeout.map_or(DEFAULT_CONNECT_TIMEOUT_SECONDS, |t| t.0),
            on_ca_failure: choose
                .of(Lockable::OnCaFailure, user.on_ca_failure, system.on_ca_failure)
                .unwrap_or_default(),
            hosts: [own_hosts.unwrap_or_default(), system.host].concat(),
            confirm: choose.of(Lockable::Confirm, user.confirm, system.confirm).unwrap_or_default(),
            keep_in: keep_in.unwrap_or_default(),
            client_key,
            locks,
        })
    }
    /// What the system's file has locked.
    /// # Errors
    /// [`ConfigError`], of that file.
    pub fn locks(sources: &Sources) -> Result<Locks, ConfigError> {
        ConfigFile::read_system(sources).map(|(_, locks)| locks)
    }
}

/// The user's file over the system's.
struct Choosing<'a> {
    locks: &'a mut Locks,
    /// The user's file.
    place: &'a Path,
}

impl Choosing<'_> {
    fn of<T>(&mut self, key: Lockable, user: Option<T>, system: Option<T>) -> Option<T> {
        self.locks.choose(key, self.place, user, system)
    }
}

impl Config {
    /// The name that the user has at the CA: `ca_user`, else the local account's.
    /// # Errors
    /// [`NoUserName`]
    pub fn user_at_ca(&self, uid: u32) -> Result<CaUser, NoUserName> {
        if let Some(user) = &self.ca_user {
            return Ok(user.clone());
        }
        let account = Account::by_uid(uid).ok().flatten().ok_or(NoUserName(uid))?;
        CaUser::try_from(account.name).map_err(|_| NoUserName(uid))
    }
}

/// One file as it stands; every key is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    ca: Option<CaList>,
    ca_user: Option<CaUser>,
    user_ca_file: Option<PlainPath>,
    known_hosts: Option<PlainPath>,
    renew_before_seconds: Option<u32>,
    connect_timeout_seconds: Option<TimeoutSeconds>,
    on_ca_failure: Option<OnCaFailure>,
    keep_in: Option<KeepIn>,
    client_key: Option<PlainPath>,
    confirm: Option<Patterns>,
    #[serde(default)]
    host: Vec<HostRule>,
    #[serde(default)]
    locked: Vec<Lockable>,
}

impl ConfigFile {
    /// The system's file, and its locks. (A file that others than root and the user can change is not read at all.)
    fn read_system(sources: &Sources) -> Result<(Self, Locks), ConfigError> {
        let mut file = Self::read(&sources.system, sources.uid)?;
        if !file.locked.is_empty() {
            read_trusted(&sources.system, MAX_FILE).map_err(ConfigError::Locks)?;
        }
        let locks = Locks::new(std::mem::take(&mut file.locked), &sources.system);
        Ok((file, locks))
    }

    fn read(path: &Path, uid: u32) -> Result<Self, ConfigError> {
        match user_file::read(path, uid).and_then(|file| user_file::text(path, file)) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.is_missing() => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            ConfigError::Content { path: path.to_path_buf(), line, message: error.message().to_owned() }
        })
    }
}

fn ca_list_of_variable(value: &OsString) -> Result<Vec<CaAddress>, ConfigError> {
    let text = value.to_str().ok_or_else(|| ConfigError::Environment("not UTF-8 text".to_owned()))?;
    text.split([',', ' ', '\t'])
        .filter(|name| !name.is_empty())
        .map(|name| CaAddress::try_from(name.to_owned()).map_err(ConfigError::Environment))
        .collect()
}

fn resolve(path: Option<PlainPath>, default: &str, home: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let text = path.map_or_else(|| default.to_owned(), |path| path.0);
    match text.strip_prefix("~/") {
        None => Ok(PathBuf::from(text)),
        Some(below) => match home.and_then(Path::to_str) {
            // The home folder becomes part of the path: the same characters are asked of it.
            Some(home) => PlainPath::try_from(format!("{home}/{below}"))
                .map(|path| PathBuf::from(path.0))
                .map_err(ConfigError::NoHome),
            None => Err(ConfigError::NoHome(text)),
        },
    }
}

/// A CA: host name or address, and port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CaAddress {
    host: String,
    port: u16,
}

impl CaAddress {
    /// Name or address, without brackets. Letters, digits, `.`, `-`, `_`, `:`; never begins with `-`.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// TCP port, 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for CaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host.contains(':')) {
            (22, _) => f.write_str(&self.host),
            (port, true) => write!(f, "[{}]:{port}", self.host),
            (port, false) => write!(f, "{}:{port}", self.host),
        }
    }
}

impl TryFrom<String> for CaAddress {
    type Error = String;

    /// `host`, `host:port`, `[IPv6]:port` or a bare IPv6 address.
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a CA: write a host name, or host:port");
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or_else(wrong)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(wrong)?) })
            }
            None if text.parse::<std::net::Ipv6Addr>().is_ok() => (text.as_str(), None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text.as_str(), None),
            },
        };
        let address = host.parse::<std::net::IpAddr>().is_ok();
        let name = host.len() <= 253
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let port = match port {
            None => Some(22),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().filter(|port| *port != 0),
            Some(_) => None,
        };
        match port {
            Some(port) if address || name => Ok(CaAddress { host: host.to_owned(), port }),
            _ => Err(wrong()),
        }
    }
}

/// One CA or a list of them.
#[derive(Debug)]
struct CaList(Vec<CaAddress>);

impl<'de> Deserialize<'de> for CaList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = CaList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a host name or a list of host names")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<CaList, E> {
                CaAddress::try_from(text.to_owned()).map(|ca| CaList(vec![ca])).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<CaList, A::Error> {
                let mut list = Vec::new();
                while let Some(ca) = items.next_element()? {
                    list.push(ca);
                }
                Ok(CaList(list))
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}

/// A user's name at the CA. Never begins with `-`; no blanks, control characters, quotes or `@`'s host part is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CaUser(String);

impl CaUser {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CaUser {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | '+' | '\\' | '$');
        if !text.is_empty() && text.len() <= 255 && !text.starts_with('-') && text.chars().all(plain) {
            Ok(CaUser(text))
        } else {
            Err(format!("{text:?} is not a user name"))
        }
    }
}

/// A path that ssh takes as it stands in `-o Keyword=path`: absolute or `~/…`, and free of what ssh splits at, unquotes or expands.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct PlainPath(String);

impl TryFrom<String> for PlainPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.starts_with('/') && !text.starts_with("~/") {
            return Err(format!("{text:?} is not an absolute path"));
        }
        if is_plain(&text) {
            Ok(PlainPath(text))
        } else {
            Err(format!("{text:?}: blanks, quotes, `%`, `$`, `\\` and control characters cannot stand in this path"))
        }
    }
}

/// Whether ssh takes this text as it stands in an option's value.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '%' | '$' | '\\'))
}

/// 1 to 600.
#[derive(Debug, Deserialize)]
#[serde(try_from = "u32")]
struct TimeoutSeconds(u32);

impl TryFrom<u32> for TimeoutSeconds {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, String> {
        if (1..=600).contains(&seconds) {
            Ok(TimeoutSeconds(seconds))
        } else {
            Err(format!("{seconds} is not between 1 and 600 seconds"))
        }
    }
}

#[cfg(test)]
mod tests;
