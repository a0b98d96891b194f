//! What somebody must hear of beside the sessions: host certificates that run out, a feed that is stale or refused, a machine that is a copy. Read from the files, like all of `status`.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use ussh_core::break_glass::read_keys;
use ussh_core::ca_file::TrustedCas;
use ussh_core::clock::UnixTime;
use ussh_core::escape::escape;
use ussh_core::trusted_file::read_trusted;
use ussh_os::{cgroup, process};

use crate::config::{AtEnd, Config, Stale, SyncConfig};
use crate::cut_short;
use crate::enrolment::{Enrolment, EnrolmentError};
use crate::glass::Waiting;
use crate::host_key::HostKey;
use crate::pinned::FeedPin;
use crate::report::span;
use crate::trust::MAX_CA_FILE;
use crate::{running, sync, trust_note, unread};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The same for as long as it is the same trouble.
    pub kind: String,
    /// A sentence.
    pub text: String,
}

/// A host certificate, in short.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct HostCertificateRow {
    /// The private key's file.
    pub key: String,
    /// Escaped.
    pub names: Vec<String>,
    /// Seconds since the epoch, exclusive; `None`: none, or for ever.
    pub valid_before: Option<u64>,
    /// From when on it is renewed, seconds since the epoch; `None`: never by itself.
    pub renewal: Option<u64>,
}

/// The feed that was taken last, in short.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FeedRow {
    /// The CA's name.
    pub ca: String,
    /// Its version.
    pub version: u64,
    /// Seconds since the epoch.
    pub generated: u64,
    /// When it is stale: at its own end, or at the age that the configuration gives it, whichever is sooner. Seconds since the epoch, exclusive.
    pub valid_until: u64,
    /// The pinned key's fingerprint.
    pub feed_key: String,
}

/// All of it at one moment.
#[derive(Debug)]
pub struct Health {
    /// Its name in the CA's inventory; `None`: not enrolled.
    pub host: Option<String>,
    /// Host certificates.
    pub host_certificates: Vec<HostCertificateRow>,
    /// When the first of them is to be renewed; `None`: this host renews none.
    pub renewal: Option<UnixTime>,
    /// sshd has yet to read host certificates, and nobody is about to have it do so.
    pub sshd_is_behind: bool,
    /// The feed.
    pub feed: Option<FeedRow>,
    /// From when on it is stale.
    pub stale_from: Option<UnixTime>,
    /// Being stale, it keeps sessions from being renewed.
    pub stale_refuses: bool,
    /// Break-glass uses of which somebody does not know yet.
    pub break_glass_waiting: usize,
    /// What is wrong.
    pub alarms: Vec<Alarm>,
}

impl Health {
    /// Looks.
    pub fn read(config: &Config, now: UnixTime) -> Self {
        let mut alarms = Vec::new();
        let mut alarm = |kind: &str, text: String| alarms.push(Alarm { kind: kind.to_owned(), text });
        if let Some(text) = cut_short::problem(config) {
            alarm("cut short", text);
        }
        if running::differs(config) {
            alarm("configuration", running::CHANGED.to_owned());
        }
        let enrolment = Enrolment::read(&config.state);
        let (keys, host) = match &enrolment {
            Ok(enrolment) => {
                let host = escape(enrolment.host.as_bytes(), 256);
                if enrolment.is_a_copy() {
                    alarm(
                        "copy",
                        format!(
                            "this machine is a copy of the host {host}, and has its keys: `ussh-hostd enroll --new-keys`, or, if only its machine ID is new, `ussh-hostd renew --same-machine`"
                        ),
                    );
                }
                (enrolment.keys.iter().map(|key| HostKey::read(key)).collect(), Some(host))
            }
            Err(EnrolmentError::None) => (HostKey::signed_by_hand(), None),
            Err(e) => {
                alarm("enrolment", e.to_string());
                (Vec::new(), None)
            }
        };
        for key in &keys {
            if let Some(text) = key.alarm(now) {
                alarm(&format!("host key {}", key.key.display()), text);
            }
        }
        if let Some(problem) = trust_note::read(&config.renew_note()) {
            alarm("renew", format!("the last renewal failed: {problem}"));
        }

        let behind = unread::alarm(&config.state);
        let sshd_is_behind = behind.is_some();
        if let Some(text) = behind {
            alarm("sshd", text);
        }

        if config.timing.at_end == AtEnd::Freeze
            && let Err(e) = can_freeze()
        {
            alarm("freeze", format!("at_end = \"freeze\": no session can be frozen here, and each ends instead: {e}"));
        }
        if config.kill_user_processes
            && let Err(e) = can_freeze()
        {
            alarm(
                "kill",
                format!("kill_user_processes: what has left a session cannot be found here, and goes on: {e}"),
            );
        }

        let sync = sync::wanted(config).ok().flatten();
        let pin = FeedPin::remembered(&config.state).unwrap_or_else(|e| {
            alarm("feed state", e.to_string());
            None
        });
        let last = pin.as_ref().and_then(|pin| pin.last.as_ref());
        let policy = sync.clone().unwrap_or_default();
        let stale = last.and_then(|last| last.staleness(&policy, now));
        let stale_refuses = stale.is_some() && policy.stale == Stale::Refuse;
        if let Some(text) = stale {
            alarm("stale", if stale_refuses { format!("{text}; no session is renewed") } else { text });
        }
        if let Some(problem) = trust_note::read(&config.sync_note()) {
            alarm("sync", format!("the last sync failed: {problem}"));
        }
        let waiting = match Waiting::read(config) {
            Ok(waiting) => {
                if waiting.is_late(now) {
                    let age = waiting.since.map(|since| span(Duration::from_secs(now.0.saturating_sub(since.0))));
                    alarm(
                        "break-glass",
                        format!(
                            "{} uses of break-glass wait to be told to the CA and the hook, the oldest {}: `ussh-hostd report` says why",
                            waiting.count,
                            age.map_or_else(|| "cannot be read".to_owned(), |age| format!("for {age}"))
                        ),
                    );
                }
                waiting.count
            }
            // Others than root have no business there.
            Err(_) if process::effective_uid() != 0 => 0,
            Err(e) => {
                alarm("break-glass", format!("{}: {e}", config.break_glass_folder().display()));
                0
            }
        };
        if let Some(text) = untrusted_break_glass(config) {
            alarm("break-glass CA", text);
        }
        let feed = pin.as_ref().zip(last).map(|(pin, last)| FeedRow {
            ca: last.ca.clone(),
            version: last.version,
            generated: last.generated,
            valid_until: last.stale_from(&policy).0,
            feed_key: pin.key.fingerprint(),
        });
        let renews = enrolment.is_ok();
        Health {
            renewal: keys.iter().map(HostKey::due).min().filter(|_| renews),
            host_certificates: keys.iter().map(|key| row(key, renews)).collect(),
            stale_from: last.map(|last| last.stale_from(&policy)),
            host,
            sshd_is_behind,
            feed,
            stale_refuses,
            break_glass_waiting: waiting,
            alarms,
        }
    }
}

/// Whether sshd and sudo take the break-glass CA's certificates, and as such.
fn untrusted_break_glass(config: &Config) -> Option<String> {
    let pinned = match read_keys(&config.break_glass.ca_file) {
        Ok(pinned) => pinned,
        Err(e) => return Some(format!("break_glass_ca_file: {e}")),
    };
    let cas = read_trusted(&config.ca_file, MAX_CA_FILE).map(|data| TrustedCas::parse(&data)).unwrap_or_default();
    if let Some(both) = pinned.iter().find(|key| cas.is_user_ca(key)) {
        return Some(format!(
            "{} holds the user CA's key {}, which stays the user CA's: put the break-glass CA's own key there",
            config.break_glass.ca_file.display(),
            both.fingerprint()
        ));
    }
    let missing = pinned.iter().find(|key| !cas.contains(key) || !cas.is_break_glass(key))?;
    Some(format!(
        "the break-glass CA {} is not trusted as such in {}: run `ussh-hostd sync`",
        missing.fingerprint(),
        config.ca_file.display()
    ))
}

/// Whether there is what freezing a session takes: cgroups that can be stopped, and ptrace. Only root can try all of it.
fn can_freeze() -> std::io::Result<()> {
    // Nobody can trace anybody any more: Documentation/admin-guide/LSM/Yama.rst.
    if std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").is_ok_and(|scope| scope.trim() == "3") {
        return Err(std::io::Error::other("kernel.yama.ptrace_scope is 3"));
    }
    if process::effective_uid() != 0 {
        return cgroup::mount_point().map(|_| ());
    }
    cgroup::try_out(&format!("ussh-hostd-trial-{}", std::process::id()))
}

fn row(key: &HostKey, renews: bool) -> HostCertificateRow {
    let certificate = key.certificate.as_ref().ok();
    let names = certificate.map(|c| c.principals().iter().map(|name| escape(name, 256)).collect());
    HostCertificateRow {
        key: key.key.display().to_string(),
        names: names.unwrap_or_default(),
        valid_before: certificate.map(|c| c.valid_before()).filter(|end| *end != UnixTime::FOREVER).map(|end| end.0),
        renewal: Some(key.due().0).filter(|_| renews && key.due() != UnixTime::FOREVER),
    }
}

/// What is wrong with where the feed comes from, as far as can be seen without fetching it.
pub fn source_problem(sync: &SyncConfig) -> Option<String> {
    use crate::config::Source;
    let missing =
        |path: &Path| (!path.exists()).then(|| format!("sync.source: {}: no such file or folder", path.display()));
    match &sync.source {
        Source::Ssh => None,
        Source::File(path) => missing(path),
        Source::Exec(words) => words.first().and_then(|program| missing(Path::new(program))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::host_key::{certificate_file, public_file};
    use crate::place::put;
    use crate::test_support::{Ca, from_now, host_certificate, trusted_folder};

    const DAY: i64 = 86_400;

    fn kinds(health: &Health) -> Vec<&str> {
        health.alarms.iter().map(|alarm| alarm.kind.as_str()).collect()
    }

    #[test]
    fn an_enrolled_host_is_well_until_its_certificate_or_its_feed_is_not() {
        let (folder, ca) = (trusted_folder(), Ca::new());
        let at = |name: &str| folder.path().join(name);
        let text = format!(
            "state = '{0}/state'\nspool = '{0}/run/sessions'\n[sync]\nstale = 'refuse'",
            folder.path().display()
        );
        let config = Config::parse(&text, Path::new("t")).unwrap();
        let (certificate, key) = host_certificate(&ca, &["web1"], 0, 90 * DAY);
        std::fs::write(certificate_file(&at("key")), certificate.to_openssh("")).unwrap();
        std::fs::write(public_file(&at("key")), key.public_key().to_openssh("")).unwrap();
        let enrolment = Enrolment::new("ca", 22, "web1", &ca.0.public_key(), vec![at("key")], from_now(0).0);
        put(enrolment.files(&config.state).unwrap().into()).unwrap().keep();
        let feed = format!(
            "{{\"format\":1,\"feed_key\":\"{}\",\"last\":{{\"version\":7,\"digest\":{:?},\"ca\":\"ca\",\"generated\":{},\"valid_until\":{}}}}}",
            ca.0.public_key().to_openssh(""),
            [0_u8; 32],
            from_now(0).0,
            from_now(DAY).0
        );
        std::fs::write(config.state.join("feed.json"), feed).unwrap();
        std::fs::set_permissions(config.state.join("feed.json"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();

        let well = Health::read(&config, from_now(0));
        assert_eq!(well.alarms, []);
        assert_eq!((well.host.as_deref(), well.stale_refuses), (Some("web1"), false));
        assert!(well.renewal.unwrap() > from_now(59 * DAY) && well.renewal.unwrap() < from_now(66 * DAY));
        assert_eq!(well.stale_from, Some(from_now(DAY)));

        let stale = Health::read(&config, from_now(2 * DAY));
        assert_eq!((kinds(&stale), stale.stale_refuses), (vec!["stale"], true));
        assert!(stale.alarms[0].text.ends_with("; no session is renewed"));
        let late = Health::read(&config, from_now(80 * DAY));
        assert_eq!(kinds(&late), [format!("host key {}", at("key").display()).as_str(), "stale"]);

        std::fs::create_dir(at("run")).unwrap();
        trust_note::write(&config.renew_note(), Some("no way")).unwrap();
        trust_note::write(&config.sync_note(), Some("wrong key")).unwrap();
        assert_eq!(kinds(&Health::read(&config, from_now(0))), ["renew", "sync"]);
        std::fs::write(config.state.join("host.json"), "{").unwrap();
        std::fs::write(config.state.join("feed.json"), "{").unwrap();
        assert_eq!(kinds(&Health::read(&config, from_now(0))), ["enrolment", "renew", "feed state", "sync"]);
    }
}
