//! What the daemon has done by the clock: `sync`, `renew` and `report`, each a run of this very program of its own, so that no session ever waits for a network or a disk.
//!
//! Not all hosts at once: a sync comes a fifth sooner or later each time, a renewal when the certificate's own digest says (`host_key`).

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ussh_core::clock::UnixTime;
use ussh_core::digest::sha256;
use ussh_os::process::{ProcessHandle, start_time};

use crate::config::Config;
use crate::connection::has_ended;
use crate::health::Health;
use crate::pinned::FeedPin;
use crate::report::{Report, Severity};
use crate::session::Now;
use crate::sync;

/// Shortest and longest time from one failed renewal to the next try.
const RENEW_AGAIN: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(3600);
/// How often an alarm that stays is repeated in the log.
const ALARM_EVERY: Duration = Duration::from_secs(24 * 3600);

/// One that runs.
#[derive(Debug)]
struct Running {
    child: Child,
    handle: ProcessHandle,
}

/// One of them.
#[derive(Debug)]
struct Chore {
    /// The verb and its options.
    words: &'static [&'static str],
    running: Option<Running>,
    /// Elapsed; `None`: not by itself.
    due: Option<Duration>,
    /// In a row.
    failures: u32,
}

impl Chore {
    fn new(words: &'static [&'static str]) -> Self {
        Chore { words, running: None, due: None, failures: 0 }
    }

    fn wake_in(&self, elapsed: Duration) -> Option<Duration> {
        self.due.filter(|_| self.running.is_none()).map(|due| due.saturating_sub(elapsed))
    }

    fn is_due(&self, elapsed: Duration) -> bool {
        self.wake_in(elapsed).is_some_and(|left| left.is_zero())
    }

    fn start(&mut self, config: Option<&Path>) -> std::io::Result<()> {
        // By the link: after an upgrade it is still this version.
        let mut command = Command::new("/proc/self/exe");
        if let Some(path) = config {
            command.arg("--config").arg(path);
        }
        command.args(self.words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let handle = start_time(child.id()).and_then(|start| ProcessHandle::open(child.id(), start));
        match handle {
            Ok(handle) => self.running = Some(Running { child, handle }),
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(e);
            }
        }
        Ok(())
    }

    /// Whether it has ended well, if it has ended.
    fn ended(&mut self) -> Option<bool> {
        let mut running = self.running.take_if(|running| has_ended(&running.handle))?;
        let good = running.child.wait().is_ok_and(|status| status.success());
        self.failures = if good { 0 } else { self.failures.saturating_add(1) };
        Some(good)
    }
}

/// All of them, and the alarms.
#[derive(Debug)]
pub struct Chores {
    config: Config,
    path: Option<PathBuf>,
    sync: Chore,
    renew: Chore,
    /// It has ended well, and what it brought is still to be looked at.
    renewed: bool,
    /// How many in a row ended well and left a renewal that is due at once: a public key file that is missing or another's, a CA whose clock is behind.
    in_vain: u32,
    /// Of an sshd that has yet to read what was renewed.
    reload: Chore,
    /// Of break-glass uses.
    tell: Chore,
    /// When each alarm was told (elapsed).
    told: BTreeMap<String, Duration>,
    stale_from: Option<UnixTime>,
    stale_refuses: bool,
    /// For jitter: another number each time.
    count: u64,
}

impl Chores {
    /// Nothing runs yet; `path` is the configuration's, if it is not the usual one.
    pub fn new(config: &Config, path: Option<&Path>) -> Self {
        Chores {
            config: config.clone(),
            path: path.map(Path::to_owned),
            sync: Chore::new(&["sync"]),
            renew: Chore::new(&["renew"]),
            renewed: false,
            in_vain: 0,
            reload: Chore::new(&["renew", "--reload"]),
            tell: Chore::new(&["report"]),
            told: BTreeMap::new(),
            stale_from: None,
            stale_refuses: false,
            count: 0,
        }
    }

    /// Whether the feed is stale, and the policy says that no session is renewed then.
    pub fn feed_refuses(&self) -> bool {
        self.stale_refuses
    }

    /// To poll on: readable when one has ended.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.sync, &self.renew, &self.reload, &self.tell]
            .into_iter()
            .filter_map(|chore| chore.running.as_ref())
            .map(|running| running.handle.as_fd())
    }

    /// How long until [`Chores::pass_time`] has something to do; `None`: nothing by itself.
    pub fn wake_in(&self, now: Now) -> Option<Duration> {
        let stale = self
            .stale_from
            .filter(|_| !self.stale_refuses)
            .map(|from| Duration::from_secs(from.0).saturating_sub(now.wall));
        // One that has been stale for long is no news.
        let stale = stale.filter(|left| !left.is_zero());
        // While one runs the other waits for its end.
        let one_at_a_time = [&self.reload, &self.renew, &self.sync];
        let is_busy = self.replaces();
        let [reload, renew, sync] = one_at_a_time.map(|chore| chore.wake_in(now.elapsed).filter(|_| !is_busy));
        [reload, renew, sync, stale, self.tell.wake_in(now.elapsed)].into_iter().flatten().min()
    }

    /// Looks at the files anew: what is due when, and what somebody must hear of.
    pub fn look(&mut self, now: Now, report: &Report) {
        let health = Health::read(&self.config, UnixTime(now.wall.as_secs()));
        self.stale_from = health.stale_from;
        if health.stale_refuses != self.stale_refuses {
            self.stale_refuses = health.stale_refuses;
            let text = if self.stale_refuses {
                "Renewing no session: the feed is stale"
            } else {
                "The feed is fresh again: sessions are renewed"
            };
            report.line(Severity::Warning, text);
        }
        self.told.retain(|kind, _| health.alarms.iter().any(|alarm| alarm.kind == *kind));
        for alarm in health.alarms {
            let known = self.told.get(&alarm.kind).is_some_and(|at| now.elapsed.saturating_sub(*at) < ALARM_EVERY);
            if !known {
                report.line(Severity::Error, &format!("Alarm: {}", alarm.text));
                self.told.insert(alarm.kind, now.elapsed);
            }
        }
        self.plan_renewal(now, health.renewal);
        self.reload.due = health.sshd_is_behind.then(|| self.reload.due.unwrap_or(now.elapsed));
        self.plan_sync(now);
        if self.tell.due.is_none() && self.tell.running.is_none() && health.break_glass_waiting > 0 {
            self.tell.due = Some(now.elapsed);
        }
    }

    /// Break-glass was used: whoever is to know of it is told at once, however often that failed before.
    pub fn tell_now(&mut self, now: Now) {
        self.tell.due = Some(now.elapsed);
    }

    fn plan_renewal(&mut self, now: Now, at: Option<UnixTime>) {
        let due = at.filter(|at| *at != UnixTime::FOREVER).map(|at| {
            let left = Duration::from_secs(at.0).saturating_sub(now.wall);
            now.elapsed.saturating_add(left)
        });
        if std::mem::take(&mut self.renewed) {
            let is_due_again = due.is_some_and(|due| due <= now.elapsed);
            self.in_vain = if is_due_again { self.in_vain.saturating_add(1) } else { 0 };
            if is_due_again {
                self.renew.due = Some(now.elapsed.saturating_add(self.again(self.in_vain)));
            }
        }
        // After a failure, and after one in vain, it waits for its next try.
        let waits = self.renew.failures > 0 || self.in_vain > 0;
        self.renew.due = match (due, self.renew.due) {
            (Some(due), Some(next)) if waits => Some(due.max(next)),
            (due, _) => due,
        };
    }

    /// Whether one of those runs that replace trusted files, or have sshd read them.
    fn replaces(&self) -> bool {
        [&self.reload, &self.renew, &self.sync].iter().any(|chore| chore.running.is_some())
    }

    fn plan_sync(&mut self, now: Now) {
        let Some(sync) = sync::wanted(&self.config).ok().flatten() else {
            self.sync.due = None;
            return;
        };
        if self.sync.due.is_none() {
            // What is signed is fetched at once: there may be news of days. A folder that something else fills is as it was left.
            let is_signed = FeedPin::read(&self.config.state, &sync).is_ok_and(|pin| pin.is_some());
            self.sync.due =
                Some(if is_signed { now.elapsed } else { now.elapsed.saturating_add(self.jittered(sync.every)) });
        }
    }

    /// Starts what is due, and takes note of what has ended; true: look at the files.
    pub fn pass_time(&mut self, now: Now, report: &Report) -> bool {
        let mut look = false;
        if self.sync.ended().is_some() {
            look = true;
        }
        if let Some(good) = self.tell.ended() {
            // One that came meanwhile has set its own time.
            let again = self.again(self.tell.failures);
            self.tell.due = self.tell.due.or((!good).then(|| now.elapsed.saturating_add(again)));
            look = true;
        }
        if self.tell.is_due(now.elapsed) {
            self.tell.due = None;
            begin(&mut self.tell, self.path.as_deref(), report);
        }
        if let Some(good) = self.renew.ended() {
            self.renewed = good;
            let again = self.again(self.renew.failures);
            self.renew.due = Some(now.elapsed.saturating_add(again));
            look = true;
        }
        if self.reload.ended().is_some() {
            let again = self.again(self.reload.failures);
            self.reload.due = Some(now.elapsed.saturating_add(again));
            look = true;
        }
        // One at a time: they share a lock. Certificates that are there already first, then the renewal, since it has an end.
        if !self.replaces() && self.reload.is_due(now.elapsed) {
            self.reload.due = None;
            begin(&mut self.reload, self.path.as_deref(), report);
        }
        if !self.replaces() && self.renew.is_due(now.elapsed) {
            self.renew.due = Some(now.elapsed.saturating_add(*RENEW_AGAIN.end()));
            begin(&mut self.renew, self.path.as_deref(), report);
        }
        if !self.replaces() && self.sync.is_due(now.elapsed) {
            let every = sync::wanted(&self.config).ok().flatten().unwrap_or_default().every;
            self.sync.due = Some(now.elapsed.saturating_add(self.jittered(every)));
            begin(&mut self.sync, self.path.as_deref(), report);
        }
        let is_stale_now = self.stale_from.is_some_and(|from| now.wall >= Duration::from_secs(from.0));
        look || (is_stale_now && !self.told.contains_key("stale"))
    }

    /// After so many failures in a row.
    fn again(&mut self, failures: u32) -> Duration {
        let doubled = RENEW_AGAIN.start().saturating_mul(1 << failures.saturating_sub(1).min(10));
        self.jittered(doubled.min(*RENEW_AGAIN.end()))
    }

    /// From four to six fifths of it.
    fn jittered(&mut self, time: Duration) -> Duration {
        self.count = self.count.wrapping_add(1);
        let seed = (
            std::process::id(),
            self.count,
            start_time(std::process::id()).unwrap_or(0),
            ussh_os::process::host_name(),
        );
        let [a, b, ..] = sha256(format!("{seed:?}").as_bytes());
        time.mul_f64(0.8 + 0.4 * f64::from(u16::from_be_bytes([a, b])) / 65536.0)
    }
}

fn begin(chore: &mut Chore, config: Option<&Path>, report: &Report) {
    if let Err(e) = chore.start(config) {
        report.line(Severity::Error, &format!("Cannot run {}: {e}", chore.words.join(" ")));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::test_support::trusted_folder;

    fn at(wall: u64, elapsed: u64) -> Now {
        Now { wall: Duration::from_secs(wall), elapsed: Duration::from_secs(elapsed) }
    }

    fn chores(text: &str) -> (tempfile::TempDir, Chores) {
        let folder = trusted_folder();
        let text = format!("state = '{0}/state'\nspool = '{0}/run/sessions'\n{text}", folder.path().display());
        let config = Config::parse(&text, Path::new("t")).unwrap();
        (folder, Chores::new(&config, None))
    }

    #[test]
    fn a_host_without_enrolment_or_source_has_nothing_to_do() {
        let (_folder, mut chores) = chores("");
        chores.look(at(1000, 0), &Report::quiet());
        assert_eq!(chores.wake_in(at(1000, 0)), None);
    }

    #[test]
    fn an_sshd_that_has_yet_to_read_what_was_renewed_is_seen_to_at_once_and_no_longer_than_that() {
        let (folder, mut chores) = chores("");
        let mark = folder.path().join("state/sshd_unread.json");
        std::fs::create_dir_all(folder.path().join("state")).unwrap();
        std::fs::write(&mark, "{\"by\":[0,0],\"sshds\":[]}").unwrap();
        chores.look(at(1000, 0), &Report::quiet());
        assert_eq!(chores.wake_in(at(1000, 0)), Some(Duration::ZERO));
        chores.look(at(1010, 10), &Report::quiet());
        assert_eq!(chores.wake_in(at(1010, 10)), Some(Duration::ZERO));
        std::fs::remove_file(&mark).unwrap();
        chores.look(at(1020, 20), &Report::quiet());
        assert_eq!(chores.wake_in(at(1020, 20)), None);
    }

    #[test]
    fn renewals_that_bring_what_is_due_at_once_come_with_longer_and_longer_pauses() {
        let (_folder, mut chores) = chores("");
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..4 {
            chores.renewed = true;
            chores.plan_renewal(at(6000 + now, now), Some(UnixTime(0)));
            let pause = chores.wake_in(at(6000 + now, now)).unwrap();
            pauses.push(pause);
            now += pause.as_secs() + 1;
        }
        assert!(pauses[0] >= Duration::from_secs(48) && pauses.windows(2).all(|two| two[1] > two[0]), "{pauses:?}");
        // One that has helped.
        chores.renewed = true;
        chores.plan_renewal(at(9000, now), Some(UnixTime(9500)));
        assert_eq!(chores.wake_in(at(9000, now)), Some(Duration::from_secs(500)));
    }

    #[test]
    fn a_look_while_break_glass_is_told_asks_for_no_second_run_and_one_that_has_failed_pauses() {
        let (folder, mut chores) = chores("");
        let notes = folder.path().join("state/break-glass");
        std::fs::create_dir_all(&notes).unwrap();
        std::fs::write(notes.join("boot-1-2.json"), "{}").unwrap();
        chores.look(at(1000, 0), &Report::quiet());
        assert_eq!(chores.wake_in(at(1000, 0)), Some(Duration::ZERO));
        let child = Command::new("/bin/false").spawn().unwrap();
        let handle = ProcessHandle::open(child.id(), start_time(child.id()).unwrap()).unwrap();
        handle.wait_end(Duration::from_secs(10)).unwrap();
        (chores.tell.running, chores.tell.due) = (Some(Running { child, handle }), None);
        chores.look(at(1001, 1), &Report::quiet());
        assert!(chores.pass_time(at(1002, 2), &Report::quiet()), "a look is due");
        chores.look(at(1002, 2), &Report::quiet());
        assert!(chores.wake_in(at(1002, 2)).unwrap() >= Duration::from_secs(48));
    }

    #[test]
    fn syncs_come_a_fifth_sooner_or_later_and_never_all_alike() {
        let (_folder, mut chores) = chores("[sync]\nsource = 'file:/nonexistent'\nevery_seconds = 1000");
        chores.look(at(1000, 0), &Report::quiet());
        let first = chores.wake_in(at(1000, 0)).unwrap();
        let mut times: Vec<Duration> = (0..50).map(|_| chores.jittered(Duration::from_secs(1000))).collect();
        times.push(first);
        assert!(times.iter().all(|t| (800..=1200).contains(&t.as_secs())), "{times:?}");
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 45, "{times:?}");
        chores.look(at(1060, 60), &Report::quiet());
        assert_eq!(chores.wake_in(at(1060, 60)), Some(first - Duration::from_secs(60)), "a look changes no plan");
    }

    #[test]
    fn renewals_wait_for_their_time_and_after_failures_longer_and_longer() {
        let (_folder, mut chores) = chores("");
        chores.plan_renewal(at(1000, 0), Some(UnixTime(5000)));
        assert_eq!(chores.wake_in(at(1000, 0)), Some(Duration::from_secs(4000)));
        // The clock was set.
        chores.plan_renewal(at(4990, 10), Some(UnixTime(5000)));
        assert_eq!(chores.wake_in(at(4990, 10)), Some(Duration::from_secs(10)));
        let mut last = Duration::ZERO;
        for failures in 1..=8 {
            chores.renew.failures = failures - 1;
            let child = Command::new("/bin/false").spawn().unwrap();
            let handle = ProcessHandle::open(child.id(), start_time(child.id()).unwrap()).unwrap();
            handle.wait_end(Duration::from_secs(10)).unwrap();
            chores.renew.running = Some(Running { child, handle });
            chores.renew.due = None;
            assert!(chores.pass_time(at(6000, 100), &Report::quiet()), "a look is due");
            chores.plan_renewal(at(6000, 100), Some(UnixTime(5000)));
            let wait = chores.wake_in(at(6000, 100)).unwrap();
            assert!(
                wait >= last.mul_f64(0.6) && wait >= Duration::from_secs(48) && wait <= Duration::from_secs(4320),
                "{wait:?}"
            );
            last = wait;
        }
        assert!(last >= Duration::from_secs(2880));
    }
}
