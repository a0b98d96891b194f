//! usshca.toml: what the supervisor is told.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::log::LogFormat;
use crate::serve::desk::MetricsAddress;
use crate::serve::max_startups::MaxStartups;
use crate::serve::penalties::Terms;

/// Longest config or policy file, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// The configuration. Unknown names are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses to listen on; at least one.
    #[serde(default = "default_listen")]
    pub listen: Vec<SocketAddr>,
    /// The CA's name, for what users read: printable ASCII, at most 64 bytes.
    pub ca_name: String,
    /// Names in the CA machine's own host certificate.
    pub host_principals: Vec<String>,
    /// PAM service: a file in /etc/pam.d.
    #[serde(default = "default_pam_service")]
    pub pam_service: String,
    /// Account of the signer. Not used when the CA is run by an ordinary user.
    #[serde(default = "default_signer_user")]
    pub signer_user: String,
    /// Account of the fronts. Not used when the CA is run by an ordinary user.
    #[serde(default = "default_front_user")]
    pub front_user: String,
    /// Seconds until an unauthenticated connection is dropped, 5 ..= 3600.
    #[serde(default = "default_login_grace")]
    pub login_grace_seconds: u32,
    /// PAM attempts in one connection, 1 ..= 20.
    #[serde(default = "default_attempts")]
    pub max_attempts: u32,
    /// Connections that have not logged in, as sshd's MaxStartups: `start:rate:full`.
    #[serde(default = "default_max_startups")]
    pub max_startups: MaxStartups,
    /// Connections at a time, 1 ..= 10000. More are told so and closed.
    #[serde(default = "default_connections")]
    pub max_connections: u32,
    /// PAM workers at a time, 1 ..= 10000. An attempt beyond that is refused.
    #[serde(default = "default_workers")]
    pub max_workers: u32,
    /// Connections at a time from one source (an IPv4 address, or an IPv6 network of 64 bits), 1 ..= 10000. More are closed at once.
    #[serde(default = "default_connections_per_source")]
    pub max_connections_per_source: u32,
    /// PAM workers at a time for one source, 1 ..= 10000. An attempt beyond that is refused.
    #[serde(default = "default_workers_per_source")]
    pub max_workers_per_source: u32,
    /// Folder that the feed is published to; absent: none is.
    #[serde(default)]
    pub publish: Option<PathBuf>,
    /// Seconds from one feed to the next, 60 ..= 86400; after a revocation there is one at once.
    #[serde(default = "default_publish_every")]
    pub publish_every_seconds: u64,
    /// For how long a feed is valid, in seconds, 300 ..= 31622400, and at least twice `publish_every_seconds`.
    #[serde(default = "default_publish_valid")]
    pub publish_valid_seconds: u64,
    /// For which hosts the host CA is trusted by whoever has the feed, as in known_hosts (sshd(8)): patterns with commas in between.
    #[serde(default = "default_known_hosts_pattern")]
    pub known_hosts_pattern: String,
    /// How the log is written.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Where metrics are served: an absolute path of a Unix socket, or a loopback address with its port. Nowhere without.
    #[serde(default)]
    pub metrics: Option<MetricsAddress>,
    /// For sources whose logins fail.
    #[serde(default)]
    pub penalties: PenaltyConfig,
}

/// `[penalties]`, as sshd's PerSourcePenalties.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PenaltyConfig {
    /// Seconds for each attempt of a connection whose every attempt was refused; 0: none.
    pub auth_failure_seconds: u32,
    /// Seconds for one that had not logged in at the end of its login grace; 0: none.
    pub grace_exceeded_seconds: u32,
    /// Seconds for one that ended without a try; 0: none.
    pub never_authenticated_seconds: u32,
    /// Seconds for one whose front broke down; 0: none.
    pub crash_seconds: u32,
    /// A source is refused once so many seconds have come together, 0 ..= max_seconds.
    pub min_seconds: u32,
    /// More than so many seconds never come together, 1 ..= 86400.
    pub max_seconds: u32,
    /// Sources that are kept, of IPv4 and of IPv6 each, 1 ..= 1000000. Beyond that the smallest penalties are dropped.
    pub max_sources: u32,
    /// Networks without penalties.
    pub exempt: Vec<Exempt>,
}

/// A network, or one address, that never gets a penalty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Exempt(pub IpNet);

impl TryFrom<String> for Exempt {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let one = |_| text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse::<IpNet>().or_else(one);
        network.map(Exempt).map_err(|_| format!("{text:?} is no address and no network, as 10.0.0.0/8"))
    }
}

impl Default for PenaltyConfig {
    /// sshd's (servconf.c of OpenSSH 10), but for fewer sources; and a refused attempt counts, not a connection of several, with a threshold to go with it. A guesser with one
    /// connection after another (three passwords in 7 s) is stopped after 12 of them. sshd's numbers never stop him: what a connection costs he has served before the next one ends.
    fn default() -> Self {
        PenaltyConfig {
            auth_failure_seconds: 5,
            grace_exceeded_seconds: 10,
            never_authenticated_seconds: 1,
            crash_seconds: 90,
            min_seconds: 35,
            max_seconds: 600,
            max_sources: 16_384,
            exempt: Vec::new(),
        }
    }
}

impl PenaltyConfig {
    /// For [`crate::serve::penalties::Penalties`].
    pub fn terms(&self) -> Terms {
        let seconds = |n: u32| Duration::from_secs(n.into());
        Terms {
            never_tried: seconds(self.never_authenticated_seconds),
            authentication_failed: seconds(self.auth_failure_seconds),
            grace_exceeded: seconds(self.grace_exceeded_seconds),
            crashed: seconds(self.crash_seconds),
            min: seconds(self.min_seconds),
            max: seconds(self.max_seconds),
            max_sources: usize::try_from(self.max_sources).unwrap_or(usize::MAX),
        }
    }
}

fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([0, 0, 0, 0], 22))]
}
fn default_pam_service() -> String {
    "usshca".to_owned()
}
fn default_signer_user() -> String {
    "usshca".to_owned()
}
fn default_front_user() -> String {
    "usshca-front".to_owned()
}
fn default_login_grace() -> u32 {
    120
}
fn default_attempts() -> u32 {
    3
}
fn default_max_startups() -> MaxStartups {
    MaxStartups::DEFAULT
}
fn default_connections() -> u32 {
    300
}
fn default_workers() -> u32 {
    250
}
fn default_connections_per_source() -> u32 {
    60
}
fn default_workers_per_source() -> u32 {
    55
}
fn default_publish_every() -> u64 {
    3600
}
fn default_known_hosts_pattern() -> String {
    "*".to_owned()
}
fn default_publish_valid() -> u64 {
    7 * 86_400
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown name, a name that is missing, or a value of the wrong type.
    #[error("{path}: line {line}: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// One line of text.
        problem: String,
    },
    /// A value out of its bounds.
    #[error("{path}: {key}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Which value.
        key: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl Config {
    /// Parses and checks.
    /// # Errors
    /// [`ConfigError`]
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        // In one line, as the policy's: it may go to a log.
        let config: Config = toml::from_str(text).map_err(|e| {
            let before = text.bytes().take(e.span().map_or(0, |span| span.start));
            let line = 1 + before.filter(|b| *b == b'\n').count();
            ConfigError::Syntax { path: path.to_owned(), line, problem: e.message().trim().replace('\n', "; ") }
        })?;
        match config.problem() {
            None => Ok(config),
            Some((key, problem)) => Err(ConfigError::Value { path: path.to_owned(), key, problem }),
        }
    }

    fn problem(&self) -> Option<(&'static str, String)> {
        if self.listen.is_empty() {
            return Some(("listen", "must name at least one address, as \"0.0.0.0:22\"".to_owned()));
        }
        let name = self.ca_name.as_bytes();
        if name.is_empty() || name.len() > 64 || !name.iter().all(|b| matches!(b, b' '..=b'~')) {
            return Some(("ca_name", "must be 1 to 64 printable ASCII characters".to_owned()));
        }
        if self.host_principals.is_empty() {
            return Some(("host_principals", "must name at least one host name of this CA".to_owned()));
        }
        if !is_service_name(&self.pam_service) {
            return Some((
                "pam_service",
                "must be a file name in /etc/pam.d in lower case, as PAM looks for it, and not \"other\"".to_owned(),
            ));
        }
        for (key, account) in [("signer_user", &self.signer_user), ("front_user", &self.front_user)] {
            if account.is_empty() || account == "root" {
                return Some((key, "must be an account of its own, not root".to_owned()));
            }
        }
        if self.signer_user == self.front_user {
            return Some(("front_user", "must not be the same account as signer_user".to_owned()));
        }
        if self.publish.as_ref().is_some_and(|folder| !folder.is_absolute()) {
            return Some(("publish", "must be an absolute path".to_owned()));
        }
        let is_pattern = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"*?.-_:[]!".contains(&b))
        };
        let pattern = &self.known_hosts_pattern;
        if pattern.len() > 1024
            || !pattern.split(',').all(is_pattern)
            || pattern.split(',').all(|part| part.starts_with('!'))
        {
            return Some((
                "known_hosts_pattern",
                "must be host patterns with commas in between, as \"*.example.com,web1\", at most 1024 bytes"
                    .to_owned(),
            ));
        }
        if !(60..=86_400).contains(&self.publish_every_seconds) {
            return Some(("publish_every_seconds", "must be 60 to 86400".to_owned()));
        }
        let least = self.publish_every_seconds.saturating_mul(2).max(300);
        if !(least..=ussh_core::feed::MAX_VALIDITY).contains(&self.publish_valid_seconds) {
            let bounds = format!("must be {least} (twice publish_every_seconds) to {}", ussh_core::feed::MAX_VALIDITY);
            return Some(("publish_valid_seconds", bounds));
        }
        let bounds = [
            ("login_grace_seconds", self.login_grace_seconds, 5, 3600),
            ("max_attempts", self.max_attempts, 1, 20),
            ("max_connections", self.max_connections, 1, 10_000),
            ("max_workers", self.max_workers, 1, 10_000),
            ("max_connections_per_source", self.max_connections_per_source, 1, 10_000),
            ("max_workers_per_source", self.max_workers_per_source, 1, 10_000),
            ("penalties.min_seconds", self.penalties.min_seconds, 0, self.penalties.max_seconds),
            ("penalties.max_seconds", self.penalties.max_seconds, 1, 86_400),
            ("penalties.max_sources", self.penalties.max_sources, 1, 1_000_000),
        ];
        bounds
            .into_iter()
            .find(|(_, value, low, high)| !(low..=high).contains(&value))
            .map(|(key, _, low, high)| (key, format!("must be {low} to {high}")))
    }
}

/// A plain file name that PAM reads as one, in lower case: PAM makes it so (pam_start.c), and would not find the file that is meant. `other` is what PAM falls back to, so that naming it
/// hides a mistake.
fn is_service_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 64 && name != "other" && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const MINIMAL: &str = "ca_name = \"Example CA\"\nhost_principals = [\"ca.example.com\"]\n";

    fn parse(more: &str) -> Result<Config, ConfigError> {
        Config::parse(&format!("{MINIMAL}{more}"), Path::new("usshca.toml"))
    }

    #[test]
    fn name_and_host_principals_are_enough() {
        let config = parse("").unwrap();
        assert_eq!(config.listen, [SocketAddr::from(([0, 0, 0, 0], 22))]);
        assert_eq!((config.login_grace_seconds, config.max_attempts, config.max_connections), (120, 3, 300));
        assert_eq!((config.pam_service.as_str(), config.signer_user.as_str()), ("usshca", "usshca"));
    }

    #[test]
    fn refuses_an_unknown_name() {
        let e = parse("max_atempts = 3\n").unwrap_err();
        assert!(e.to_string().starts_with("usshca.toml: line 3: unknown field `max_atempts`"), "{e}");
        assert!(!e.to_string().contains('\n'), "{e}");
    }

    #[test]
    fn refuses_what_is_out_of_bounds_and_names_it() {
        for (line, key) in [
            ("listen = []", "listen"),
            ("login_grace_seconds = 4", "login_grace_seconds"),
            ("login_grace_seconds = 3601", "login_grace_seconds"),
            ("max_attempts = 0", "max_attempts"),
            ("max_connections = 0", "max_connections"),
            ("max_workers = 10001", "max_workers"),
            ("max_connections_per_source = 0", "max_connections_per_source"),
            ("max_workers_per_source = 0", "max_workers_per_source"),
            ("[penalties]\nmin_seconds = 601", "penalties.min_seconds"),
            ("[penalties]\nmin_seconds = 0\nmax_seconds = 0", "penalties.max_seconds"),
            ("[penalties]\nmax_sources = 0", "penalties.max_sources"),
            ("pam_service = \"other\"", "pam_service"),
            ("pam_service = \"USSHCA\"", "pam_service"),
            ("pam_service = \"Other\"", "pam_service"),
            ("pam_service = \"../shadow\"", "pam_service"),
            ("pam_service = \".x\"", "pam_service"),
            ("pam_service = \"\"", "pam_service"),
            ("signer_user = \"root\"", "signer_user"),
            ("front_user = \"usshca\"", "front_user"),
            ("publish = \"feed\"", "publish"),
            ("known_hosts_pattern = \"\"", "known_hosts_pattern"),
            ("known_hosts_pattern = \"*.example.com, web1\"", "known_hosts_pattern"),
            ("known_hosts_pattern = \"!web1\"", "known_hosts_pattern"),
            ("known_hosts_pattern = \"*\\n@revoked *\"", "known_hosts_pattern"),
            ("publish_every_seconds = 59", "publish_every_seconds"),
            ("publish_valid_seconds = 7199", "publish_valid_seconds"),
            ("publish_valid_seconds = 31622401", "publish_valid_seconds"),
        ] {
            match parse(line).unwrap_err() {
                ConfigError::Value { key: named, .. } => assert_eq!(named, key, "{line}"),
                e @ ConfigError::Syntax { .. } => panic!("{line}: {e}"),
            }
        }
        assert!(parse("login_grace_seconds = 5\nmax_attempts = 20").is_ok());
    }

    #[test]
    fn refuses_limits_networks_and_places_that_are_none_and_says_why() {
        for (line, why) in [
            ("max_startups = \"10:30\"", "start:rate:full"),
            ("metrics = \"0.0.0.0:9122\"", "loopback"),
            ("metrics = \"metrics.sock\"", "absolute path"),
            ("log_format = \"xml\"", "json"),
            ("[penalties]\nexempt = [\"10.0.0.0/33\"]", "no network"),
            ("[penalties]\nauth_failure = 1", "auth_failure_seconds"),
        ] {
            let e = parse(line).unwrap_err().to_string();
            assert!(e.contains(why), "{line}: {e}");
        }
        let config = parse("[penalties]\nexempt = [\"10.0.0.0/8\", \"::1\"]").unwrap();
        assert_eq!(config.penalties.exempt.len(), 2);
        assert_eq!(config.penalties.auth_failure_seconds, 5);
    }

    #[test]
    fn refuses_a_name_that_could_steer_a_terminal() {
        let text = "ca_name = \"a\\u001b[2J\"\nhost_principals = [\"ca\"]";
        assert!(matches!(Config::parse(text, Path::new("x")), Err(ConfigError::Value { key: "ca_name", .. })));
    }
}
