//! `/etc/ussh/hostd.toml`: read once at start, refused as a whole if any part of it is not understood.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ussh_core::trusted_file::{TrustedFileError, read_trusted};

mod told;

/// Where the configuration lies unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/ussh/hostd.toml";
/// Largest configuration file, bytes.
const MAX_CONFIG: usize = 64 * 1024;
/// Most warning times.
const MAX_WARNINGS: usize = 16;
/// Longest time ahead of the end that can be configured, seconds (one week).
const MAX_AHEAD_SECONDS: u64 = 7 * 24 * 3600;
/// From one sync to the next, unless the configuration says otherwise, seconds.
const DEFAULT_SYNC_SECONDS: u64 = 300;
/// How long a feed may be on its way, unless the configuration says otherwise, and at most, seconds.
const DEFAULT_FETCH_SECONDS: u64 = 60;
const MAX_FETCH_SECONDS: u64 = 3600;
/// Longest age of a feed that can be configured, seconds: none is valid for longer.
const MAX_FEED_SECONDS: u64 = ussh_core::feed::MAX_VALIDITY;
/// Longest grace and agent timeout, seconds.
const MAX_PATIENCE_SECONDS: u64 = 60;
/// Longest time past its certificate's end that a session can be left, seconds: whoever is given more has no use for a certificate that ends.
const MAX_END_AFTER_SECONDS: u64 = 3600;

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Cannot be read, or others than root can change it.
    #[error("{0}")]
    File(#[from] TrustedFileError),
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{path}:{line}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// One line: what the key takes or where it belongs, or the parser's words.
        message: String,
    },
    /// A value that makes no sense.
    #[error("{path}{}: {key}: {problem}", line.map_or(String::new(), |line| format!(":{line}")))]
    Value {
        /// The file.
        path: PathBuf,
        /// From 1. `None`: it stands in none of its own.
        line: Option<usize>,
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
    revoked_here: PathBuf,
    spool: PathBuf,
    state: PathBuf,
    warn_before_seconds: OneOrMany,
    look_before_seconds: Option<u64>,
    agent_timeout_seconds: u64,
    grace_seconds: u64,
    end_after_seconds: u64,
    at_end: AtEnd,
    kill_user_processes: bool,
    without_certificate_limit_seconds: Option<u64>,
    break_glass_ca_file: PathBuf,
    break_glass_limit_seconds: u64,
    break_glass_hook: Vec<String>,
    break_glass_hook_user: String,
    sync: Option<RawSync>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSync {
    source: Option<String>,
    known_hosts: Option<PathBuf>,
    feed_key: Option<PathBuf>,
    every_seconds: Option<u64>,
    timeout_seconds: Option<u64>,
    stale: Option<Stale>,
    stale_after_seconds: Option<u64>,
}

/// What becomes of a session whose certificate has run out and is not renewed. Revoked, it ends in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtEnd {
    /// It ends.
    #[default]
    End,
    /// It goes on, and its terminals and the log are told.
    Warn,
    /// Its processes stand still until its agent has a newer certificate.
    Freeze,
}

/// What a stale feed means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stale {
    /// The log, `check` and `status` say so.
    #[default]
    Warn,
    /// Besides, no session is renewed.
    Refuse,
}

impl Default for Raw {
    fn default() -> Self {
        Raw {
            ca_file: "/etc/ssh/trusted_user_ca".into(),
            revoked_keys: "/etc/ssh/revoked_keys".into(),
            revoked_here: "/etc/ussh/revoked_here".into(),
            spool: ussh_core::record::SPOOL.into(),
            state: "/var/lib/ussh-hostd".into(),
            warn_before_seconds: OneOrMany::Many(vec![300, 60]),
            look_before_seconds: None,
            agent_timeout_seconds: 3,
            grace_seconds: 2,
            end_after_seconds: 0,
            at_end: AtEnd::End,
            kill_user_processes: false,
            without_certificate_limit_seconds: None,
            break_glass_ca_file: ussh_core::break_glass::CA_FILE.into(),
            break_glass_limit_seconds: 3600,
            break_glass_hook: Vec::new(),
            break_glass_hook_user: "nobody".into(),
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
    /// What is revoked on this host besides, whatever a feed says; it may be missing.
    pub revoked_here: PathBuf,
    /// Where pam_ussh puts the session records.
    pub spool: PathBuf,
    /// What this host knows of its CA, and of the feed that it took last.
    pub state: PathBuf,
    /// When and how long.
    pub timing: Timing,
    /// Whether all that a session has started ends with it, also what had left it before by a double fork.
    pub kill_user_processes: bool,
    /// What those that came without a certificate may last; `None`: as long as they like.
    pub without_certificate_limit: Option<Duration>,
    /// Certificates that always open a door.
    pub break_glass: BreakGlassConfig,
    /// Where `sync` gets trust from.
    pub sync: Option<SyncConfig>,
}

/// `break_glass_…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakGlassConfig {
    /// Their CA's key; pam_ussh's session line knows the usual place only.
    pub ca_file: PathBuf,
    /// What a session of theirs may last.
    pub limit: Duration,
    /// Run at each use: a program's absolute path and its arguments; empty: nothing.
    pub hook: Vec<String>,
    /// The account that it runs as.
    pub hook_user: String,
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
    /// From the certificate's end to the session's: for so long a newer one still prolongs it. Zero: they are the same.
    pub end_after: Duration,
    /// What becomes of it then.
    pub at_end: AtEnd,
}

/// Where the feed comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The CA that this host is enrolled with, by the system's ssh.
    Ssh,
    /// A feed, or a folder that holds one.
    File(PathBuf),
    /// What a command prints, run as nobody: the program's absolute path, and its arguments.
    Exec(Vec<String>),
}

/// `[sync]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// Where the feed comes from.
    pub source: Source,
    /// Where the host CA's known_hosts lines go; `None`: they are left alone.
    pub known_hosts: Option<PathBuf>,
    /// The key that signs the feed, until one is pinned.
    pub feed_key: Option<PathBuf>,
    /// From one sync of the daemon's to the next, a fifth more or less.
    pub every: Duration,
    /// How long a feed may be on its way.
    pub timeout: Duration,
    /// What a stale feed means.
    pub stale: Stale,
    /// Age from which a feed is stale that is still valid.
    pub stale_after: Option<Duration>,
}

impl Default for SyncConfig {
    fn default() -> Self {
        SyncConfig {
            source: Source::Ssh,
            known_hosts: None,
            feed_key: None,
            every: Duration::from_secs(DEFAULT_SYNC_SECONDS),
            timeout: Duration::from_secs(DEFAULT_FETCH_SECONDS),
            stale: Stale::Warn,
            stale_after: None,
        }
    }
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
        let text = String::from_utf8(data).map_err(|_| ConfigError::Syntax {
            path: file.into(),
            line: 1,
            message: "not UTF-8".into(),
        })?;
        Config::parse(&text, file)
    }

    /// Checks the text of a configuration; `path` is for the messages.
    /// # Errors
    /// [`ConfigError`], never `File`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text).map_err(|e| {
            let (line, message) = told::problem(text, e.span().map_or(0, |span| span.start), e.message());
            ConfigError::Syntax { path: path.into(), line, message }
        })?;
        let check = Check { path, text };
        let timing = Timing {
            warn_before: check.warnings(raw.warn_before_seconds)?,
            look_before: raw
                .look_before_seconds
                .map(|s| check.seconds("look_before_seconds", s, MAX_AHEAD_SECONDS))
                .transpose()?,
            agent_timeout: check.seconds("agent_timeout_seconds", raw.agent_timeout_seconds, MAX_PATIENCE_SECONDS)?,
            grace: check.seconds("grace_seconds", raw.grace_seconds, MAX_PATIENCE_SECONDS)?,
            end_after: check.seconds_or_none("end_after_seconds", raw.end_after_seconds, MAX_END_AFTER_SECONDS)?,
            at_end: raw.at_end,
        };
        Ok(Config {
            ca_file: check.absolute("ca_file", raw.ca_file)?,
            revoked_keys: match raw.revoked_keys {
                none if none.as_os_str() == "none" => None,
                file => Some(check.absolute("revoked_keys", file)?),
            },
            revoked_here: check.absolute("revoked_here", raw.revoked_here)?,
            spool: check.spool(raw.spool)?,
            state: check.absolute("state", raw.state)?,
            timing,
            kill_user_processes: raw.kill_user_processes,
            without_certificate_limit: raw
                .without_certificate_limit_seconds
                .map(|s| check.seconds("without_certificate_limit_seconds", s, MAX_AHEAD_SECONDS))
                .transpose()?,
            break_glass: BreakGlassConfig {
                ca_file: check.absolute("break_glass_ca_file", raw.break_glass_ca_file)?,
                limit: check.seconds("break_glass_limit_seconds", raw.break_glass_limit_seconds, MAX_AHEAD_SECONDS)?,
                hook: check.hook(raw.break_glass_hook)?,
                hook_user: raw.break_glass_hook_user,
            },
            sync: raw.sync.map(|s| check.sync(s)).transpose()?,
        })
    }
}

impl Config {
    /// Where the notes of break-glass uses lie; pam_ussh's session line knows the usual place only.
    pub fn break_glass_folder(&self) -> PathBuf {
        self.state.join("break-glass")
    }

    /// Held by the daemon, with its process: `<pid>-<start_time>`.
    pub fn lock_file(&self) -> PathBuf {
        self.spool.with_file_name("run.lock")
    }

    /// What the daemon that runs goes by.
    pub fn running_file(&self) -> PathBuf {
        self.spool.with_file_name("run.config")
    }

    /// What the daemon cannot use at the moment.
    pub fn trust_note(&self) -> PathBuf {
        self.spool.with_file_name("trust.problem")
    }

    /// Why the last sync failed.
    pub fn sync_note(&self) -> PathBuf {
        self.spool.with_file_name("sync.problem")
    }

    /// Why the last renewal failed.
    pub fn renew_note(&self) -> PathBuf {
        self.spool.with_file_name("renew.problem")
    }

    /// Held by a sync.
    pub fn sync_lock_file(&self) -> PathBuf {
        self.spool.with_file_name("sync.lock")
    }
}

/// Checks values, and knows whose they are.
struct Check<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Check<'_> {
    fn refuse(&self, key: &'static str, problem: impl Into<String>) -> ConfigError {
        let line = told::line_of(self.text, key);
        ConfigError::Value { path: self.path.into(), line, key, problem: problem.into() }
    }

    fn absolute(&self, key: &'static str, file: PathBuf) -> Result<PathBuf, ConfigError> {
        if file.is_absolute() { Ok(file) } else { Err(self.refuse(key, "must be an absolute path")) }
    }

    fn hook(&self, words: Vec<String>) -> Result<Vec<String>, ConfigError> {
        let is_program = |path: &String| path.starts_with('/');
        if words.first().is_none_or(is_program) && !words.iter().any(|word| word.contains('\0')) {
            Ok(words)
        } else {
            Err(self.refuse("break_glass_hook", "must be a list: a program's absolute path, and its arguments"))
        }
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

    fn seconds_or_none(&self, key: &'static str, value: u64, max: u64) -> Result<Duration, ConfigError> {
        if value <= max {
            Ok(Duration::from_secs(value))
        } else {
            Err(self.refuse(key, format!("must be 0 to {max} seconds, not {value}")))
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
        let default = SyncConfig::default();
        Ok(SyncConfig {
            source: raw.source.map_or(Ok(default.source), |text| self.source(&text))?,
            known_hosts: raw.known_hosts.map(|f| self.absolute("sync.known_hosts", f)).transpose()?,
            feed_key: raw.feed_key.map(|f| self.absolute("sync.feed_key", f)).transpose()?,
            every: raw
                .every_seconds
                .map_or(Ok(default.every), |s| self.seconds("sync.every_seconds", s, MAX_AHEAD_SECONDS))?,
            timeout: raw
                .timeout_seconds
                .map_or(Ok(default.timeout), |s| self.seconds("sync.timeout_seconds", s, MAX_FETCH_SECONDS))?,
            stale: raw.stale.unwrap_or_default(),
            stale_after: raw
                .stale_after_seconds
                .map(|s| self.seconds("sync.stale_after_seconds", s, MAX_FEED_SECONDS))
                .transpose()?,
        })
    }

    fn source(&self, text: &str) -> Result<Source, ConfigError> {
        let key = "sync.source";
        let refuse = || {
            self.refuse(
                key,
                "must be ssh:, file: and an absolute path, or exec: and a program's absolute path with its arguments",
            )
        };
        match text.split_once(':') {
            Some(("ssh", "")) => Ok(Source::Ssh),
            Some(("file", path)) => self.absolute(key, path.into()).map(Source::File),
            Some(("exec", line)) => {
                let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
                if words.first().is_some_and(|program| program.starts_with('/')) {
                    Ok(Source::Exec(words))
                } else {
                    Err(refuse())
                }
            }
            _ => Err(refuse()),
        }
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
    fn limits_and_the_hook_are_checked() {
        let config = parse("without_certificate_limit_seconds = 60\nbreak_glass_limit_seconds = 90\nbreak_glass_hook = ['/bin/mail', 'root']").unwrap();
        assert_eq!(config.without_certificate_limit, Some(Duration::from_secs(60)));
        assert_eq!(config.break_glass.limit, Duration::from_secs(90));
        assert_eq!(config.break_glass.hook, ["/bin/mail", "root"]);
        for (text, key) in [
            ("without_certificate_limit_seconds = 0", "without_certificate_limit_seconds"),
            ("break_glass_limit_seconds = 0", "break_glass_limit_seconds"),
            ("break_glass_hook = ['mail']", "break_glass_hook"),
            ("break_glass_ca_file = 'x'", "break_glass_ca_file"),
        ] {
            assert!(parse(text).unwrap_err().contains(key), "{text}");
        }
    }

    #[test]
    fn what_is_commented_out_in_the_example_is_what_holds_without() {
        let example = include_str!("../../packaging/ussh/hostd.toml");
        let config = parse(example).unwrap();
        let sync = SyncConfig { source: Source::File("/srv/ussh-feed".into()), ..SyncConfig::default() };
        assert_eq!(config, Config { sync: Some(sync), ..parse("").unwrap() });
        let stated = example.replace("#= ", "");
        assert!(stated.contains("\nwarn_before_seconds = "));
        assert_eq!(parse(&stated).unwrap(), config);
        // What has no fixed default is a key of ours as well.
        let all = ["look_", "known_", "feed_", "stale_", "without_"]
            .iter()
            .fold(stated, |text, key| text.replace(&format!("# {key}"), key));
        let all = parse(&all).unwrap();
        let timing = Timing { look_before: Some(Duration::from_secs(60)), ..config.timing };
        assert_eq!(all.timing, timing);
        let sync = SyncConfig {
            known_hosts: Some("/etc/ssh/ssh_known_hosts".into()),
            feed_key: Some("/etc/ussh/feed_key.pub".into()),
            stale_after: Some(Duration::from_secs(86400)),
            ..config.sync.unwrap()
        };
        assert_eq!(all.sync, Some(sync));
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
        assert_eq!(sync, SyncConfig { source: Source::File("/srv/feed".into()), ..SyncConfig::default() });
    }

    #[test]
    fn takes_ssh_and_a_command_without_a_shell() {
        let source =
            |text: &str| parse(&format!("[sync]\nsource = '{text}'")).map(|config| config.sync.unwrap().source);
        assert_eq!(source("ssh:").unwrap(), Source::Ssh);
        assert_eq!(parse("[sync]").unwrap().sync.unwrap(), SyncConfig::default());
        let words = ["/usr/bin/curl", "-sSf", "https://feed/$(id)"].map(str::to_owned).to_vec();
        assert_eq!(source("exec:/usr/bin/curl  -sSf https://feed/$(id)").unwrap(), Source::Exec(words));
        for wrong in ["exec:curl x", "exec:", "ssh:ca", "ftp:/x", "/srv/feed"] {
            assert!(
                source(wrong).unwrap_err().contains("must be ssh:, file: and an absolute path, or exec:"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn says_what_is_wrong_in_one_line_with_its_number() {
        for (text, said) in [
            ("grace_seconds = 2\nca_fil = '/x'", "/t.toml:2: unknown field `ca_fil`"),
            ("[sync]\n\nstale = 'no'", "/t.toml:3: sync.stale must be \"warn\" or \"refuse\", in quotes; not 'no'"),
            ("x", "/t.toml:1: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(said) && !error.contains('\n'), "{error}");
        }
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
            ("end_after_seconds = 3601", "0 to 3600"),
            ("end_after_seconds = -1", "end_after_seconds must be a whole number of seconds, 0 to 3600"),
            ("at_end = 'thaw'", "at_end must be \"end\", \"warn\" or \"freeze\", in quotes; not 'thaw'"),
            ("kill_user_processes = 'root'", "kill_user_processes must be true or false"),
            ("grace_seconds = -1", "grace_seconds must be a whole number of seconds, 1 to 60"),
            ("agent_timeout_seconds = 61", "1 to 60"),
            ("look_before_seconds = 0", "1 to"),
            ("warn_before_seconds = []", "list of 1"),
            ("warn_before_seconds = [0]", "1 to"),
            ("warn_before_seconds = '5m'", "must be a number of seconds or a list of them"),
            ("warn_before_seconds = [60, -1]", "must be a number of seconds or a list of them"),
            ("[sync]\nsource = '/srv/feed'", "file:"),
            ("[sync]\nsource = 'file:feed'", "absolute"),
            ("[sync]\nsource = 'file:/x'\nto = '/y'", "unknown field"),
            ("[sync]\nevery_seconds = 0", "1 to"),
            ("[sync]\nstale_after_seconds = 99999999", "1 to"),
            ("state = 'x'", "absolute"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
