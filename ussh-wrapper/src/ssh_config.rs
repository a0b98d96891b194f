//! `ussh --write-config` and `--remove-config`: ssh_config, so that plain `ssh`, and whatever runs it, sees to a certificate by itself.
//!
//! Two files: one that is ours, with what our hosts get, and a few marked lines at the end of the user's (or the system's) ssh_config that include it. Nothing is written that could not be taken back byte for byte.
//! Process: `ussh`, as the user, or as root with `--system`. Trusted input: the configuration. The files are somebody's, and may hold anything.

mod block;
mod central;
mod diff;
mod replace;

pub use block::Broken;
pub use replace::ReplaceError;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ussh_core::digest::sha256;
use ussh_os::account::Account;

use crate::config::{
    self, CaAddress, Config, ConfigError, Forward, HostRule, Lockable, Patterns, SYSTEM_FILE, Sources, USER_FILE,
};
use crate::forward::DEFAULT_KEYS;
use crate::verbs::Following;
use central::Kept;
use replace::Found;

/// The system's ssh_config(5).
const SYSTEM_SSH_CONFIG: &str = "/etc/ssh/ssh_config";
/// Its folder for files of others, if it includes that.
const SYSTEM_FOLDER: &str = "/etc/ssh/ssh_config.d";
/// Ours in it. Not the name of the packaged example.
const SYSTEM_DROP_IN: &str = "/etc/ssh/ssh_config.d/ussh-hosts.conf";
/// The file that is ours, with `--system`.
const SYSTEM_CENTRAL: &str = "/etc/ussh/ssh_config";
/// The same of a user's, below the home folder.
const USER_CENTRAL: &str = ".config/ussh/ssh_config";
/// First line of a `ussh.toml` of ours, without the digest of the rest.
const SETTINGS_MARK: &str =
    "# Written by `ussh --write-config`; once changed it stays when `ussh --remove-config` takes the rest away. ";

/// What the two verbs are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// For everybody on this machine.
    pub system: bool,
    /// Show what would change, and change nothing.
    pub dry_run: bool,
    /// For a new `ussh.toml`.
    pub ca: Option<CaAddress>,
    /// The same.
    pub hosts: Vec<String>,
}

/// What is wrong with a value behind a verb.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WishError(String);

/// Why nothing was written, or not all.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// ssh_config without a name for a host would be for every host.
    #[error("no hosts are named: --hosts \"web1,*.example.com\", or a [[host]] table in ussh.toml")]
    NoHosts,
    /// What is there already is somebody's.
    #[error("{0} is there already: put the CA and the hosts into it by hand")]
    SettingsThere(PathBuf),
    /// What they would say is locked.
    #[error("{SYSTEM_FILE} has locked {0}: a file of yours has no say in it")]
    Locked(&'static str),
    /// No home folder.
    #[error("uid {0} has no home folder")]
    NoHome(u32),
    /// Where this program lies cannot stand in ssh_config.
    #[error("{0:?}: blanks, quotes, `%`, `$`, `\\` and control characters cannot stand in the path of ussh")]
    Program(PathBuf),
    /// A file that somebody has cut into.
    #[error("{path}: {broken}")]
    Broken {
        /// The ssh_config.
        path: PathBuf,
        /// What is wrong.
        broken: Broken,
    },
    /// A file that is left as it is.
    #[error("{0}")]
    Replace(#[from] ReplaceError),
    /// The configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
}

impl Wishes {
    /// Of what stands behind `--write-config` or `--remove-config`.
    /// # Errors
    /// [`WishError`]
    pub fn read(following: &Following) -> Result<Self, WishError> {
        let mut wishes =
            Wishes { system: following.has("--system"), dry_run: following.has("--dry-run"), ..Wishes::default() };
        let text = |value: &OsStr| value.to_str().map(str::to_owned).ok_or(WishError("not UTF-8 text".to_owned()));
        for ca in following.values("--ca") {
            wishes.ca = Some(CaAddress::try_from(text(ca)?).map_err(WishError)?);
        }
        for list in following.values("--hosts") {
            let list = text(list)?;
            let before = wishes.hosts.len();
            wishes.hosts.extend(list.split([',', ' ']).filter(|host| !host.is_empty()).map(str::to_owned));
            if wishes.hosts.len() == before {
                return Err(WishError("--hosts names none".to_owned()));
            }
            Patterns::try_from(wishes.hosts.clone()).map_err(WishError)?;
        }
        Ok(wishes)
    }
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Places {
    /// The ssh_config that gets the marked lines.
    pub ssh_config: PathBuf,
    /// The file that is ours.
    pub central: PathBuf,
    /// The same, as ssh_config names it.
    pub include: String,
    /// `ussh.toml`.
    pub settings: PathBuf,
    /// `ussh` itself.
    pub program: PathBuf,
    /// Mode of files that are made.
    pub mode: u32,
}

impl Places {
    /// The real ones.
    /// # Errors
    /// [`WriteError::NoHome`], [`WriteError::Program`]
    pub fn of_this_process(system: bool, uid: u32) -> Result<Self, WriteError> {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/ussh"));
        if !program.to_str().is_some_and(config::is_plain) {
            return Err(WriteError::Program(program));
        }
        if system {
            let text = std::fs::read_to_string(SYSTEM_SSH_CONFIG).unwrap_or_default();
            let drop_in = includes_folder(&text) && Path::new(SYSTEM_FOLDER).is_dir();
            return Ok(Places {
                ssh_config: PathBuf::from(if drop_in { SYSTEM_DROP_IN } else { SYSTEM_SSH_CONFIG }),
                central: PathBuf::from(SYSTEM_CENTRAL),
                include: SYSTEM_CENTRAL.to_owned(),
                settings: PathBuf::from(SYSTEM_FILE),
                program,
                mode: 0o644,
            });
        }
        // As ssh finds it: by the account, not by HOME.
        let home = Account::by_uid(uid).ok().flatten().map(|account| account.home).ok_or(WriteError::NoHome(uid))?;
        Ok(Places {
            ssh_config: home.join(".ssh/config"),
            central: home.join(USER_CENTRAL),
            include: format!("~/{USER_CENTRAL}"),
            settings: home.join(USER_FILE),
            program,
            mode: 0o600,
        })
    }
}

/// Whether the system's ssh_config reads its folder, as Debian's does.
fn includes_folder(text: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().is_some_and(|word| word.eq_ignore_ascii_case("include"))
            && words.any(|word| word == "/etc/ssh/ssh_config.d/*.conf")
    })
}

/// One file, before and after.
struct Change {
    found: Found,
    new: Option<Vec<u8>>,
    mode: u32,
}

impl Change {
    fn is_one(&self) -> bool {
        self.found.content() != self.new.as_deref()
    }
    fn diff(&self) -> String {
        diff::unified(self.found.path(), self.found.content(), self.new.as_deref())
    }
}

/// Writes, or says what it would; gives what is to be printed.
/// # Errors
/// [`WriteError`]
pub fn write(places: &Places, wishes: &Wishes, sources: &Sources) -> Result<String, WriteError> {
    if !wishes.system {
        let locks = Config::locks(sources)?;
        let wished = [(wishes.ca.is_some(), Lockable::Ca), (!wishes.hosts.is_empty(), Lockable::Host)];
        if let Some((_, key)) = wished.into_iter().find(|(wished, key)| *wished && locks.has(*key)) {
            return Err(WriteError::Locked(key.name()));
        }
    }
    let settings = settings_change(places, wishes)?;
    // A file that is going to be made holds no `keep_in`.
    let (rules, kept) = if wishes.hosts.is_empty() {
        let config = Config::load(sources)?;
        let kept = Kept::of(&config);
        (config.hosts, kept)
    } else {
        let patterns = Patterns::try_from(wishes.hosts.clone()).map_err(|_| WriteError::NoHosts)?;
        (
            vec![HostRule::new(patterns, Forward::default())],
            Config::load(sources).map(|config| Kept::of(&config)).unwrap_or_default(),
        )
    };
    // In the system's file a key that is not there is none that ssh speaks of (sshconnect2.c `load_identity_file`).
    let defaults = if wishes.system { DEFAULT_KEYS.to_vec() } else { default_keys_there(sources.home.as_deref()) };
    if rules.is_empty() {
        return Err(WriteError::NoHosts);
    }
    let central = Change {
        found: Found::at(&places.central)?,
        new: Some(central::text(&rules, &places.program, kept, &defaults).into_bytes()),
        mode: places.mode,
    };
    let found = Found::at(&places.ssh_config)?;
    let new = block::insert(found.content(), &places.include).map_err(|broken| broken_at(&found, broken))?;
    if kept == Kept::InFiles
        && let Some(line) = adds_keys(found.content().unwrap_or_default())
    {
        let (path, hosts) =
            (found.path().display(), rules.iter().map(HostRule::patterns).collect::<Vec<_>>().join(","));
        eprintln!(
            "ussh: {path} line {line}: AddKeysToAgent stands first, so that ssh gives your agent the keys of these files too. Put above it: Match host \"{hosts}\", and below that: AddKeysToAgent no"
        );
    }
    let include = Change { found, new: Some(new), mode: places.mode };
    // The file that is included before what includes it.
    carry_out(settings.into_iter().chain([central, include]).collect(), wishes.dry_run)
}

/// The first line that has ssh add keys to an agent, if this file says so by itself.
fn adds_keys(text: &[u8]) -> Option<usize> {
    let says_so = |line: &[u8]| {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        let mut words = line.split([' ', '\t', '=', '"', '\r']).filter(|word| !word.is_empty());
        words.next() == Some("addkeystoagent") && words.next().is_some_and(|word| !matches!(word, "no" | "false"))
    };
    text.split(|byte| *byte == b'\n').position(says_so).map(|position| position + 1)
}

/// Which of the keys that ssh tries by itself are there.
fn default_keys_there(home: Option<&Path>) -> Vec<&'static str> {
    let is_there = |key: &&str| home.zip(key.strip_prefix("~/")).is_some_and(|(home, below)| home.join(below).exists());
    DEFAULT_KEYS.into_iter().filter(is_there).collect()
}

/// Takes all of it away again, or says what it would.
/// # Errors
/// [`WriteError`]
pub fn remove(places: &Places, wishes: &Wishes) -> Result<String, WriteError> {
    let mut changes = Vec::new();
    let found = Found::at(&places.ssh_config)?;
    if let Some(text) = found.content() {
        let new = block::remove(text).map_err(|broken| broken_at(&found, broken))?;
        changes.push(Change { found, new, mode: places.mode });
    }
    for path in [&places.central, &places.settings] {
        let found = Found::at(path)?;
        let ours = path == &places.central || found.content().is_some_and(is_untouched);
        if ours && found.content().is_some() {
            changes.push(Change { found, new: None, mode: places.mode });
        }
    }
    carry_out(changes, wishes.dry_run)
}

fn broken_at(found: &Found, broken: Broken) -> WriteError {
    WriteError::Broken { path: found.path().to_path_buf(), broken }
}

/// A new `ussh.toml`, where there is none.
fn settings_change(places: &Places, wishes: &Wishes) -> Result<Option<Change>, WriteError> {
    if wishes.ca.is_none() && wishes.hosts.is_empty() {
        return Ok(None);
    }
    let text = marked(&central::settings(wishes.ca.as_ref(), &wishes.hosts));
    let found = Found::at(&places.settings)?;
    match found.content() {
        Some(there) if there != text.as_bytes() && !is_untouched(there) => {
            Err(WriteError::SettingsThere(found.path().to_path_buf()))
        }
        _ => Ok(Some(Change { found, new: Some(text.into_bytes()), mode: places.mode })),
    }
}

fn marked(text: &str) -> String {
    format!("{SETTINGS_MARK}{}\n{text}", digest(text.as_bytes()))
}

fn digest(text: &[u8]) -> String {
    sha256(text).iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Whether it is as we wrote it.
fn is_untouched(text: &[u8]) -> bool {
    let newline = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let (head, rest) = text.split_at(newline);
    let rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    head == format!("{SETTINGS_MARK}{}", digest(rest)).as_bytes()
}

fn carry_out(changes: Vec<Change>, dry_run: bool) -> Result<String, WriteError> {
    let changes: Vec<Change> = changes.into_iter().filter(Change::is_one).collect();
    if changes.is_empty() {
        return Ok("nothing to change\n".to_owned());
    }
    // Before the first is changed.
    changes.iter().try_for_each(|change| change.found.check())?;
    if dry_run {
        return Ok(changes.iter().map(Change::diff).collect());
    }
    let mut said = String::new();
    for change in &changes {
        change.found.replace(change.new.as_deref(), change.mode)?;
        let done = match (change.found.content(), &change.new) {
            (None, _) => "made",
            (_, None) => "removed",
            _ => "changed",
        };
        said += &format!("{done} {}\n", change.found.path().display());
    }
    Ok(said)
}

#[cfg(test)]
mod tests;
