//! `/etc/ussh/hostd.toml`: read once at start, refused as a whole if any part of it is not understood.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ussh_core::trusted_file::{TrustedFileError, read_trusted};

/// Where the configuration lies unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/ussh/hostd.toml";
/// Largest configuration file, bytes.
const MAX_CONFIG: usize = 64 * 1024;
/// Most warning times.
const MAX_WARNINGS: usize = 16;
/// Longest time ahead of the end that can be configured, seconds (one week).
const MAX_AHEAD_SECONDS: u64 = 7 * 24 * 3600;
/// Longest grace and agent timeout, seconds.
const MAX_PATIENCE_SECONDS: u64 = 60;

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Cannot be read, or others than root can change it.
    #[error("{0}")]
    File(#[from] TrustedFileError),
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        message: String,
    },
    /// A value that makes no sense.
    #[error("{path}: {key}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// As in the file.
        key: &'static str,
        /// What it must be.
        problem: String,
    },
}

/// One number or a list of them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a number of seconds or a list of them, as 60 or [300, 60]")]
enum OneOrMany {
    One(u64),
    Many(Vec<u64>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    ca_file: PathBuf,
    revoked_keys: PathBuf,
    spool: PathBuf,
    warn_before_seconds: OneOrMany,
    look_before_seconds: Option<u64>,
    agent_timeout_seconds: u64,
    grace_seconds: u64,
    sync: Option<RawSync>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSync {
    source: String,
    known_hosts: Option<PathBuf>,
}

impl Default for Raw {
    fn default() -> Self {
        Raw {
            ca_file: "/etc/ssh/trusted_user_ca".into(),
            revoked_keys: "/etc/ssh/revoked_keys".into(),
            spool: ussh_core::record::SPOOL.into(),
            warn_before_seconds: OneOrMany::Many(vec![300, 60]),
            look_before_seconds: None,
            agent_timeout_seconds: 3,
            grace_seconds: 2,
            sync: None,
        }
    }
}

/// The configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Trusted CA keys (sshd's TrustedUserCAKeys format).
    pub ca_file: PathBuf,
    /// KRL or plain list (sshd's RevokedKeys); `None`: the configuration says `none`.
    pub revoked_keys: Option<PathBuf>,
    /// Where pam_ussh puts the session records.
    pub spool: PathBuf,
    /// When and how long.
    pub timing: Timing,
    /// Where `sync` gets trust from.
    pub sync: Option<SyncConfig>,
}

/// Times of a session's last stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long before the end to warn; longest first, no duplicates, each at least 1 s.
    pub warn_before: Vec<Duration>,
    /// How long before the end the agent is asked first; `None`: 30 % of the time left, at most 60 s.
    pub look_before: Option<Duration>,
    /// The time one look at a session's agents may take in all.
    pub agent_timeout: Duration,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// `[sync]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// The folder of a `file:` source.
    pub folder: PathBuf,
    /// Where the host CA's known_hosts lines go; `None`: they are left alone.
    pub known_hosts: Option<PathBuf>,
}

impl Config {
    /// Reads and checks the file at `path`. With `None` it is [`DEFAULT_PATH`], and a missing file means the defaults.
    /// # Errors
    /// [`ConfigError`]
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        if path.is_none()
            && matches!(std::fs::symlink_metadata(file), Err(e) if e.kind() == std::io::ErrorKind::NotFound)
        {
            return Config::parse("", file);
        }
        let data = read_trusted(file, MAX_CONFIG)?;
        let text = String::from_utf8(data)
            .map_err(|_| ConfigError::Syntax { path: file.into(), message: "not UTF-8".into() })?;
        Config::parse(&text, file)
    }

    /// Checks the text of a configuration; `path` is for the messages.
    /// # Errors
    /// [`ConfigError`], never `File`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text)
            .map_err(|e| ConfigError::Syntax { path: path.into(), message: e.to_string().trim_end().to_owned() })?;
        let check = Check { path };
        let timing = Timing {
            warn_before: check.warnings(raw.warn_before_seconds)?,
            look_before: raw
                .look_before_seconds
                .map(|s| check.seconds("look_before_seconds", s, MAX_AHEAD_SECONDS))
                .transpose()?,
            agent_timeout: check.seconds("agent_timeout_seconds", raw.agent_timeout_seconds, MAX_PATIENCE_SECONDS)?,
            grace: check.seconds("grace_seconds", raw.grace_seconds, MAX_PATIENCE_SECONDS)?,
        };
        Ok(Config {
            ca_file: check.absolute("ca_file", raw.ca_file)?,
            revoked_keys: match raw.revoked_keys {
                none if none.as_os_str() == "none" => None,
                file => Some(check.absolute("revoked_keys", file)?),
            },
            spool: check.spool(raw.spool)?,
            timing,
            sync: raw.sync.map(|s| check.sync(s)).transpose()?,
        })
    }
}

impl Config {
    /// Held by the daemon, with its process: `<pid>-<start_time>`.
    pub fn lock_file(&self) -> PathBuf {
        self.spool.with_file_name("run.lock")
    }

    /// What the daemon cannot use at the moment.
    pub fn trust_note(&self) -> PathBuf {
        self.spool.with_file_name("trust.problem")
    }

    /// Held by a sync.
    pub fn sync_lock_file(&self) -> PathBuf {
        self.spool.with_file_name("sync.lock")
    }
}

/// Checks values, and knows whose they are.
struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn refuse(&self, key: &'static str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value { path: self.path.into(), key, problem: problem.into() }
    }

    fn absolute(&self, key: &'static str, file: PathBuf) -> Result<PathBuf, ConfigError> {
        if file.is_absolute() { Ok(file) } else { Err(self.refuse(key, "must be an absolute path")) }
    }

    fn spool(&self, folder: PathBuf) -> Result<PathBuf, ConfigError> {
        let folder = self.absolute("spool", folder)?;
        // Its parent holds the daemon's lock and is made by the daemon.
        if folder.file_name().is_none() || folder.parent().and_then(Path::parent).is_none() {
            return Err(
                self.refuse("spool", "must be a folder inside a folder of its own, as /run/ussh-hostd/sessions")
            );
        }
        Ok(folder)
    }

    fn seconds(&self, key: &'static str, value: u64, max: u64) -> Result<Duration, ConfigError> {
        if (1..=max).contains(&value) {
            Ok(Duration::from_secs(value))
        } else {
            Err(self.refuse(key, format!("must be 1 to {max} seconds, not {value}")))
        }
    }

    fn warnings(&self, value: OneOrMany) -> Result<Vec<Duration>, ConfigError> {
        let key = "warn_before_seconds";
        let list = match value {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        };
        if list.is_empty() || list.len() > MAX_WARNINGS {
            return Err(self.refuse(key, format!("must be a number or a list of 1 to {MAX_WARNINGS} of them")));
        }
        let mut times =
            list.into_iter().map(|s| self.seconds(key, s, MAX_AHEAD_SECONDS)).collect::<Result<Vec<_>, _>>()?;
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.dedup();
        Ok(times)
    }

    fn sync(&self, raw: RawSync) -> Result<SyncConfig, ConfigError> {
        let folder = match raw.source.strip_prefix("file:") {
            Some(folder) => self.absolute("sync.source", folder.into())?,
            None => return Err(self.refuse("sync.source", "must be file: and an absolute path")),
        };
        let known_hosts = raw.known_hosts.map(|f| self.absolute("sync.known_hosts", f)).transpose()?;
        Ok(SyncConfig { folder, known_hosts })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/t.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn empty_file_means_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config.ca_file, Path::new("/etc/ssh/trusted_user_ca"));
        assert_eq!(config.revoked_keys.as_deref(), Some(Path::new("/etc/ssh/revoked_keys")));
        assert_eq!(config.spool, Path::new("/run/ussh-hostd/sessions"));
        assert_eq!(config.timing.warn_before, [Duration::from_secs(300), Duration::from_secs(60)]);
        assert!(config.sync.is_none());
    }

    #[test]
    fn what_is_commented_out_in_the_example_is_what_holds_without() {
        let example = include_str!("../../packaging/ussh/hostd.toml");
        let config = parse(example).unwrap();
        let sync = SyncConfig { folder: "/srv/ussh-feed".into(), known_hosts: None };
        assert_eq!(config, Config { sync: Some(sync), ..parse("").unwrap() });
        let stated = example.replace("#= ", "");
        assert!(stated.contains("\nwarn_before_seconds = "));
        assert_eq!(parse(&stated).unwrap(), config);
        // What has no fixed default is a key of ours as well.
        let all = stated.replace("# look_", "look_").replace("# known_", "known_");
        let timing = Timing { look_before: Some(Duration::from_secs(60)), ..config.timing };
        assert_eq!(parse(&all).unwrap().timing, timing);
    }

    #[test]
    fn takes_one_warning_or_a_list_in_any_order() {
        assert_eq!(parse("warn_before_seconds = 20").unwrap().timing.warn_before, [Duration::from_secs(20)]);
        let list = parse("warn_before_seconds = [5, 60, 5]").unwrap().timing.warn_before;
        assert_eq!(list, [Duration::from_secs(60), Duration::from_secs(5)]);
    }

    #[test]
    fn revoked_keys_none_switches_the_list_off() {
        assert_eq!(parse("revoked_keys = 'none'").unwrap().revoked_keys, None);
    }

    #[test]
    fn takes_a_file_source() {
        let sync = parse("[sync]\nsource = 'file:/srv/feed'").unwrap().sync.unwrap();
        assert_eq!(sync, SyncConfig { folder: "/srv/feed".into(), known_hosts: None });
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        for (text, reason) in [
            ("ca_fil = '/x'", "unknown field"),
            ("ca_file = '/x'\nca_file = '/y'", "duplicate"),
            ("ca_file = 'x'", "absolute"),
            ("revoked_keys = ''", "absolute"),
            ("revoked_keys = 'None'", "absolute"),
            ("spool = '/sessions'", "folder"),
            ("grace_seconds = 0", "1 to 60"),
            ("grace_seconds = -1", "invalid"),
            ("agent_timeout_seconds = 61", "1 to 60"),
            ("look_before_seconds = 0", "1 to"),
            ("warn_before_seconds = []", "list of 1"),
            ("warn_before_seconds = [0]", "1 to"),
            ("warn_before_seconds = '5m'", "must be a number of seconds or a list of them"),
            ("warn_before_seconds = [60, -1]", "must be a number of seconds or a list of them"),
            ("[sync]\nsource = '/srv/feed'", "file:"),
            ("[sync]\nsource = 'file:feed'", "absolute"),
            ("[sync]\nsource = 'ssh:ca'", "file:"),
            ("[sync]\nsource = 'file:/x'\nto = '/y'", "unknown field"),
            ("[sync]", "source"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
