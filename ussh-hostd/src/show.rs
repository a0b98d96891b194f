//! `sessions`, `status` and `check`: what the files say, without asking the daemon, so that it can be read while that is down.

use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};
use ussh_core::certificate::Certificate;
use ussh_core::clock::UnixTime;
use ussh_core::escape::escape;
use ussh_core::trusted_file::TrustedFileError;
use ussh_os::process;

use crate::cell::Cell;
use crate::config::{AtEnd, Config};
use crate::enrolment::{Enrolment, EnrolmentError};
use crate::health::{self, FeedRow, Health, HostCertificateRow};
use crate::pinned::freshness;
use crate::report::span;
use crate::spool::{ConnectionId, Found, Spool};
use crate::trust::{Trust, TrustError};
use crate::{revoked_here, sync, trust_note, unrecorded};

/// Longest name or key ID in a table, bytes.
const MAX_CELL: usize = 64;

/// One session as the spool has it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct SessionRow {
    /// Process that ran open_session.
    pub pid: u32,
    /// Field 22 of /proc/PID/stat, clock ticks since boot.
    pub start_time: u64,
    /// Account; escaped.
    pub user: Option<String>,
    /// Client; escaped.
    pub from: Option<String>,
    /// Seconds since the epoch.
    pub opened: Option<u64>,
    /// Of the certificate that the session lives by.
    pub certificate: Option<CertificateCells>,
    /// That is one of break-glass.
    pub break_glass: bool,
    /// When it ends whatever becomes of certificates, seconds since the epoch; `None`: it has no such limit.
    pub limit: Option<u64>,
    /// When what `at_end` says comes (its certificate's end, and `end_after_seconds`), or its limit if that is sooner, seconds since the epoch; `None`: nothing comes by itself, or no more.
    pub ends: Option<u64>,
    /// What is known of it.
    pub state: State,
}

impl SessionRow {
    /// Nothing else is known of it.
    fn new(id: ConnectionId, state: State) -> Self {
        SessionRow {
            pid: id.pid,
            start_time: id.start_time,
            user: None,
            from: None,
            opened: None,
            certificate: None,
            break_glass: false,
            limit: None,
            ends: None,
            state,
        }
    }
}

/// A certificate, in short.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CertificateCells {
    /// Escaped.
    pub key_id: String,
    /// Serial; in JSON a string, as usshca writes it: many readers lose digits above 2^53.
    #[serde(serialize_with = "as_text")]
    pub serial: u64,
    /// Seconds since the epoch, exclusive; `None`: never ends.
    pub valid_before: Option<u64>,
    /// It came after the login.
    pub renewed: bool,
}

fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// State of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its certificate is good.
    Live,
    /// Its certificate has run out, and its programs stand still until its agent has a newer one.
    Frozen,
    /// Its certificate has run out: the daemon, if it runs, is about to end it, or lets it go on (`at_end`, or for `end_after_seconds`).
    Expired,
    /// Its certificate is refused: the daemon, if it runs, is about to end it.
    Refused,
    /// It has a certificate, but there is nothing to judge by.
    Unjudged,
    /// It came without one, and is left alone.
    NoCertificate,
    /// Its record cannot be read.
    Unreadable,
    /// It has none.
    Unknown,
}

impl State {
    /// Every one.
    pub const ALL: [State; 8] = [
        State::Live,
        State::Frozen,
        State::Expired,
        State::Refused,
        State::Unjudged,
        State::NoCertificate,
        State::Unreadable,
        State::Unknown,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Frozen => "frozen",
            State::Expired => "expired",
            State::Refused => "refused",
            State::Unjudged => "unjudged",
            State::NoCertificate => "no_certificate",
            State::Unreadable => "unreadable",
            State::Unknown => "unknown",
        }
    }
}

/// Reads the spool, and looks for connections that are not in it.
/// # Errors
/// As the file system says.
pub fn sessions(config: &Config, now: UnixTime) -> std::io::Result<Vec<SessionRow>> {
    // Of whatever begins meanwhile a record comes first.
    let unrecorded = unrecorded::connections(config)?;
    let mut rows = recorded(config, now)?;
    rows.extend(unrecorded.into_iter().map(|one| SessionRow {
        user: one.user.map(|user| escape(user.as_bytes(), MAX_CELL)),
        ..SessionRow::new(one.id, State::Unknown)
    }));
    Ok(rows)
}

fn recorded(config: &Config, now: UnixTime) -> std::io::Result<Vec<SessionRow>> {
    let spool = Spool::new(&config.spool);
    let boot_id = process::boot_id()?;
    let trust = Trust::load(config).ok();
    let listing = spool.list()?;
    Ok(listing
        .connections
        .into_iter()
        .filter_map(|id| row(config, &spool, id, &boot_id, trust.as_ref(), now))
        .collect())
}

/// `None`: of another boot.
fn row(
    config: &Config,
    spool: &Spool,
    id: ConnectionId,
    boot_id: &str,
    trust: Option<&Trust>,
    now: UnixTime,
) -> Option<SessionRow> {
    let mut row = SessionRow::new(id, State::Unreadable);
    let record = match spool.read(id, boot_id) {
        Ok(Found::Live(record)) => record,
        Ok(Found::OtherBoot) => return None,
        Err(_) => return Some(row),
    };
    row.user = Some(escape(record.user.as_bytes(), MAX_CELL));
    row.from = Some(escape(record.rhost.as_bytes(), MAX_CELL));
    row.opened = Some(record.opened.0);
    let Some(line) = &record.certificate else {
        row.state = State::NoCertificate;
        let end = |limit: Duration| record.opened.0.saturating_add(limit.as_secs());
        row.limit = config.without_certificate_limit.map(end);
        row.ends = row.limit;
        return Some(row);
    };
    let Ok(login) = Certificate::from_openssh(line) else {
        row.state = State::Refused;
        return Some(row);
    };
    row.break_glass = trust.is_some_and(|trust| trust.cas().is_break_glass(login.ca()));
    if row.break_glass {
        row.limit = Some(record.opened.0.saturating_add(config.break_glass.limit.as_secs()));
    }
    let current = spool.current(id, &login);
    let good = |c: &Certificate| trust.map(|t| t.verdict_time_apart(c, now).is_ok());
    row.state = match (good(&login), good(&current)) {
        (Some(true), Some(true)) => state_of_good(is_frozen(id), current.valid_before() > now),
        (None, _) | (_, None) => State::Unjudged,
        (Some(_), Some(_)) => State::Refused,
    };
    row.certificate = Some(CertificateCells {
        key_id: escape(current.key_id(), MAX_CELL),
        serial: current.serial(),
        valid_before: (current.valid_before() != UnixTime::FOREVER).then_some(current.valid_before().0),
        renewed: current != login,
    });
    let by_certificate = end_by_certificate(current.valid_before(), row.state, config, now);
    row.ends = [by_certificate, row.limit].into_iter().flatten().min();
    Some(row)
}

/// When what `at_end` says comes; `None`: never, or it has come and the session is still there.
fn end_by_certificate(valid_before: UnixTime, state: State, config: &Config, now: UnixTime) -> Option<u64> {
    if valid_before == UnixTime::FOREVER {
        return None;
    }
    let end = valid_before.0.saturating_add(config.timing.end_after.as_secs());
    let goes_on = state == State::Frozen || (config.timing.at_end == AtEnd::Warn && end <= now.0);
    (!goes_on).then_some(end)
}

/// Of a session whose certificate nothing speaks against but time. What stands still does so whatever the clock says: that may have been set meanwhile.
fn state_of_good(is_frozen: bool, is_in_time: bool) -> State {
    match (is_frozen, is_in_time) {
        (true, _) => State::Frozen,
        (false, true) => State::Live,
        (false, false) => State::Expired,
    }
}

fn is_frozen(id: ConnectionId) -> bool {
    Cell::find(id).ok().flatten().is_some_and(|cell| cell.is_frozen())
}

/// A table for people.
pub fn table(rows: &[SessionRow], now: UnixTime) -> String {
    let head = ["PID", "USER", "FROM", "CERTIFICATE", "ENDS IN", "STATE"].map(str::to_owned);
    let mut lines = vec![head];
    lines.extend(rows.iter().map(|row| cells(row, now)));
    let width = |column: usize| lines.iter().filter_map(|l| l.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cells(row: &SessionRow, now: UnixTime) -> [String; 6] {
    let or_dash = |cell: &Option<String>| cell.clone().filter(|c| !c.is_empty()).unwrap_or_else(|| "-".into());
    let left = row.ends.map(|end| span(Duration::from_secs(end.saturating_sub(now.0))));
    let (certificate, ends) = match &row.certificate {
        Some(c) => {
            let renewed = if c.renewed { ", renewed" } else { "" };
            let kind = if row.break_glass { ", break-glass" } else { "" };
            let no_end = if c.valid_before.is_some() { "-" } else { "never" };
            (format!("{} (serial {}{renewed}{kind})", c.key_id, c.serial), left.unwrap_or_else(|| no_end.into()))
        }
        None => ("-".into(), left.unwrap_or_else(|| "-".into())),
    };
    let state = match row.state {
        State::Live => "live",
        State::Frozen => "frozen",
        State::Expired => "certificate expired",
        State::Refused => "refused",
        State::Unjudged => "not judged",
        State::NoCertificate => "no certificate",
        State::Unreadable => "record unreadable",
        State::Unknown => "unknown",
    };
    [row.pid.to_string(), or_dash(&row.user), or_dash(&row.from), certificate, ends, state.into()]
}

/// How things stand.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Process ID of the daemon; `None`: it does not run.
    pub daemon_pid: Option<u32>,
    /// Its name in the CA's inventory; `None`: not enrolled.
    pub host: Option<String>,
    /// CA keys in force.
    pub ca_keys: Option<usize>,
    /// Fingerprints of those of them that are for break-glass.
    pub break_glass_ca_keys: Vec<String>,
    /// Of the KRL; `None`: not a KRL, not usable, or none configured.
    pub krl_version: Option<u64>,
    /// Seconds since the KRL was generated.
    pub krl_age_seconds: Option<u64>,
    /// The signed feed that was taken last.
    pub feed: Option<FeedRow>,
    /// This host's own certificates.
    pub host_certificates: Vec<HostCertificateRow>,
    /// Why the files are not usable: no session is renewed then.
    pub trust_problem: Option<String>,
    /// Why the daemon, which runs, could not use them when it read them last.
    pub daemon_problem: Option<String>,
    /// Break-glass uses of which the hook or the CA do not know yet.
    pub break_glass_waiting: usize,
    /// What else somebody must hear of.
    pub alarms: Vec<String>,
    /// Connections in the spool.
    pub sessions: usize,
    /// Connections without a record.
    pub unknown_sessions: usize,
    /// When this was.
    #[serde(skip)]
    now: UnixTime,
}

impl Status {
    /// Reads it all.
    /// # Errors
    /// As the file system says.
    pub fn read(config: &Config, now: UnixTime) -> std::io::Result<Self> {
        let trust = Trust::load(config);
        let revoked = trust.as_ref().ok().and_then(Trust::revoked);
        let health = Health::read(config, now);
        let unrecorded = unrecorded::connections(config)?;
        let alarms = health.alarms.into_iter().map(|alarm| alarm.text);
        Ok(Status {
            daemon_pid: daemon_pid(&config.lock_file()),
            daemon_problem: daemon_problem(config),
            host: health.host,
            ca_keys: trust.as_ref().ok().map(|t| t.cas().keys().len()),
            break_glass_ca_keys: trust.as_ref().map(break_glass_keys).unwrap_or_default(),
            krl_version: revoked.and_then(|r| r.version()),
            krl_age_seconds: revoked.and_then(|r| r.generated()).map(|g| now.0.saturating_sub(g.0)),
            feed: health.feed,
            host_certificates: health.host_certificates,
            trust_problem: trust.as_ref().err().map(with_advice),
            break_glass_waiting: health.break_glass_waiting,
            alarms: alarms.chain(unrecorded::alarm(config, &unrecorded)).collect(),
            sessions: Spool::new(&config.spool).list()?.connections.len(),
            unknown_sessions: unrecorded.len(),
            now,
        })
    }

    /// Whether somebody must do something.
    pub fn is_bad(&self) -> bool {
        self.trust_problem.is_some() || self.daemon_problem.is_some() || !self.alarms.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let daemon = self.daemon_pid.map_or_else(|| "does not run".into(), |pid| format!("runs, pid {pid}"));
        let unknown = match self.unknown_sessions {
            0 => String::new(),
            many => format!(", and {many} unknown, without a record"),
        };
        let mut lines = vec![format!("daemon     {daemon}"), format!("sessions   {}{unknown}", self.sessions)];
        lines.extend(self.host.as_ref().map(|host| format!("enrolled   as {host}")));
        let left = |end: u64| span(Duration::from_secs(end.saturating_sub(self.now.0)));
        for row in &self.host_certificates {
            let ends = row.valid_before.map_or_else(|| "no end".into(), |end| format!("ends in {}", left(end)));
            let renewal = match row.renewal {
                None => "not renewed by itself".to_owned(),
                Some(at) if at <= self.now.0 => "renewal due".to_owned(),
                Some(at) => format!("renewed in {}", left(at)),
            };
            lines.push(match row.names.as_slice() {
                // None without a name is taken from a CA.
                [] => format!("host key   {}: no certificate, {renewal}", row.key),
                names => format!("host key   {}: for {}; {ends}, {renewal}", row.key, names.join(", ")),
            });
        }
        match &self.trust_problem {
            Some(problem) => lines.push(format!("trust      not usable, no session is renewed: {problem}")),
            None => {
                lines.extend(self.daemon_problem.as_ref().map(|problem| {
                    format!(
                        "trust      not usable for the daemon, which renews no session, when it looked last: {problem}"
                    )
                }));
                let break_glass = match self.break_glass_ca_keys.as_slice() {
                    [] => String::new(),
                    keys => format!(", for break-glass of them {}", keys.join(", ")),
                };
                lines.push(format!("CA keys    {}{break_glass}", self.ca_keys.unwrap_or(0)));
                let age = self.krl_age_seconds.map(|s| span(Duration::from_secs(s)));
                let krl = self.krl_version.zip(age).map_or_else(
                    || "none (no list, or a plain one)".into(),
                    |(v, age)| format!("version {v}, {age} old"),
                );
                lines.push(format!("KRL        {krl}"));
            }
        }
        lines.extend(self.feed.as_ref().map(|feed| {
            format!(
                "feed       of {}, version {}, {}, key {}",
                feed.ca,
                feed.version,
                freshness(UnixTime(feed.valid_until), self.now),
                feed.feed_key
            )
        }));
        if self.break_glass_waiting > 0 {
            lines.push(format!("break-glass {} uses wait for the hook or the CA", self.break_glass_waiting));
        }
        // What stands above is not said again.
        let alarms = self.alarms.iter().filter(|alarm| self.trust_problem.as_ref() != Some(alarm));
        lines.extend(alarms.map(|alarm| format!("ALARM      {alarm}")));
        lines.join("\n") + "\n"
    }

    /// For Prometheus (text exposition format 0.0.4), with the sessions by state.
    pub fn metrics(&self, rows: &[SessionRow]) -> String {
        let mut text = String::new();
        let mut gauge = |name: &str, help: &str, values: Vec<(String, u64)>| {
            text += &format!("# HELP ussh_hostd_{name} {help}\n# TYPE ussh_hostd_{name} gauge\n");
            for (labels, value) in values {
                text += &format!("ussh_hostd_{name}{labels} {value}\n");
            }
        };
        let one = |value: u64| vec![(String::new(), value)];
        let maybe = |value: Option<u64>| value.map(one).unwrap_or_default();
        gauge("up", "1: the daemon runs.", one(self.daemon_pid.is_some().into()));
        gauge(
            "trust_usable",
            "1: CA file and revocation list can be used.",
            one((self.trust_problem.is_none() && self.daemon_problem.is_none()).into()),
        );
        gauge("alarms", "What somebody must hear of.", one(u64::try_from(self.alarms.len()).unwrap_or(u64::MAX)));
        let count =
            |state: State| u64::try_from(rows.iter().filter(|row| row.state == state).count()).unwrap_or(u64::MAX);
        let states = State::ALL.map(|state| (format!("{{state=\"{}\"}}", state.name()), count(state)));
        gauge("sessions", "Sessions by state.", states.into());
        gauge("krl_version", "Version of the installed KRL.", maybe(self.krl_version));
        gauge("krl_age_seconds", "Since the installed KRL was made.", maybe(self.krl_age_seconds));
        let feed = self.feed.as_ref();
        gauge("feed_version", "Version of the feed that was taken last.", maybe(feed.map(|f| f.version)));
        gauge("feed_generated_seconds", "When that was made, since the epoch.", maybe(feed.map(|f| f.generated)));
        gauge(
            "feed_valid_until_seconds",
            "When that is stale, by its own end or by stale_after_seconds, whichever is sooner, since the epoch.",
            maybe(feed.map(|f| f.valid_until)),
        );
        let label = |key: &str| format!("{{key=\"{}\"}}", key.replace('\\', "\\\\").replace('"', "\\\""));
        let ends = self.host_certificates.iter().filter_map(|row| Some((label(&row.key), row.valid_before?)));
        gauge("host_certificate_end_seconds", "When a host certificate runs out, since the epoch.", ends.collect());
        text
    }
}

/// In the file's order.
fn break_glass_keys(trust: &Trust) -> Vec<String> {
    let keys = trust.cas().keys().iter().filter(|key| trust.cas().is_break_glass(key));
    keys.map(|key| key.fingerprint()).collect()
}

/// Whether a daemon is to run on this host and does not: it is enrolled, has a configuration, or records logins. `is_configured`: a configuration file was read.
pub fn lacks_daemon(config: &Config, is_configured: bool) -> bool {
    let is_wanted = || {
        is_configured || config.spool.exists() || !matches!(Enrolment::read(&config.state), Err(EnrolmentError::None))
    };
    daemon_pid(&config.lock_file()).is_none() && is_wanted()
}

/// The process that wrote the lock, if it is still there.
pub fn daemon_pid(lock: &Path) -> Option<u32> {
    daemon_id(lock).map(|id| id.pid)
}

/// The same, with its start time.
pub fn daemon_id(lock: &Path) -> Option<ConnectionId> {
    let text = std::fs::read_to_string(lock).ok()?;
    ConnectionId::parse(text.trim_end()).filter(|id| id.lives())
}

/// What the daemon said of the files, if it runs.
fn daemon_problem(config: &Config) -> Option<String> {
    daemon_pid(&config.lock_file()).and_then(|_| trust_note::read(&config.trust_note()))
}

/// What is wrong, and what helps where it is only that nothing has been fetched yet.
fn with_advice(error: &TrustError) -> String {
    match error {
        TrustError::File(TrustedFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            format!("{error}: run `ussh-hostd sync`")
        }
        TrustError::File(_) | TrustError::NoCa(_) | TrustError::BreakGlass(_) | TrustError::Revoked { .. } => {
            error.to_string()
        }
    }
}

/// What is wrong beyond the configuration's own text; empty: nothing.
pub fn problems(config: &Config, now: UnixTime) -> Vec<String> {
    let mut problems: Vec<String> = Trust::load(config).err().as_ref().map(with_advice).into_iter().collect();
    if problems.is_empty() {
        let stale = |problem| format!("good now, but the daemon found when it looked last: {problem}");
        problems.extend(daemon_problem(config).map(stale));
    }
    match sync::wanted(config) {
        Ok(Some(sync)) => {
            problems.extend(health::source_problem(&sync));
            if config.revoked_keys.is_none() {
                problems.push("[sync] needs a file for revoked_keys, which is \"none\"".into());
            }
        }
        Ok(None) => {}
        // Among the alarms.
        Err(_) => {}
    }
    match unrecorded::connections(config) {
        Ok(found) => problems.extend(unrecorded::alarm(config, &found)),
        Err(e) => problems.push(format!("{}: {e}", config.spool.display())),
    }
    // Others than root cannot try it out.
    if ussh_os::process::effective_uid() == 0 {
        problems.extend(revoked_here::problem(config));
    }
    for alarm in Health::read(config, now).alarms {
        // What makes the trusted files useless may be an alarm as well.
        if !problems.contains(&alarm.text) {
            problems.push(alarm.text);
        }
    }
    problems
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
