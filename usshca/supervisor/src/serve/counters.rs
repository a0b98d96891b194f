//! What the supervisor has done since it started, for metrics and status. No name of a user and no address is ever in it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use ussh_core::clock::{Clock, SystemClock};

use crate::log;
use crate::serve::event_loop::EventLoop;
use crate::serve::penalties::Offence;
use crate::serve::turned_away::Why;
use crate::serve::worker::Ended;

/// Since the start.
#[derive(Debug)]
pub struct Counters {
    /// Seconds since the epoch.
    since: u64,
    /// Connections that got a front.
    pub accepted: u64,
    /// Connections that were ended to make room for others.
    pub evicted: u64,
    /// Fronts that broke down.
    pub fronts_broken: u64,
    /// PAM workers.
    pub attempts: u64,
    /// Attempts for which there was none.
    pub attempts_turned_away: u64,
    passed: u64,
    looked_up: u64,
    refused: u64,
    unavailable: u64,
    broke_down: u64,
    /// Seconds since the epoch: when PAM last could not find out, and when it last could.
    last_trouble: Option<u64>,
    last_answer: Option<u64>,
    turned_away: BTreeMap<&'static str, u64>,
    offences: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// From now on.
    pub fn new() -> Self {
        let offences = [Offence::NeverTried, Offence::AuthenticationFailed, Offence::GraceExceeded, Offence::Crashed];
        Counters {
            since: SystemClock.now().0,
            accepted: 0,
            evicted: 0,
            fronts_broken: 0,
            attempts: 0,
            attempts_turned_away: 0,
            passed: 0,
            looked_up: 0,
            refused: 0,
            unavailable: 0,
            broke_down: 0,
            last_trouble: None,
            last_answer: None,
            turned_away: Why::ALL.iter().map(|why| (why.name(), 0)).collect(),
            offences: offences.iter().map(|offence| (offence.name(), 0)).collect(),
        }
    }

    /// A connection was not let in.
    pub fn turned_away(&mut self, why: Why) {
        *self.turned_away.entry(why.name()).or_default() += 1;
    }

    /// A source got a penalty.
    pub fn offence(&mut self, offence: Offence) {
        *self.offences.entry(offence.name()).or_default() += 1;
    }

    /// An attempt is over; of a lookup it is no login, whatever PAM's account modules said.
    pub fn worker_ended(&mut self, ended: Ended, lookup: bool) {
        match ended {
            Ended::Passed | Ended::Refused => self.last_answer = Some(SystemClock.now().0),
            Ended::Unavailable | Ended::BrokeDown => self.last_trouble = Some(SystemClock.now().0),
            // Whether PAM could have told is not known.
            Ended::Left => {}
        }
        *match ended {
            Ended::Passed | Ended::Refused if lookup => &mut self.looked_up,
            Ended::Passed => &mut self.passed,
            // Nobody was let in, whoever it was that gave up.
            Ended::Refused | Ended::Left => &mut self.refused,
            Ended::Unavailable => &mut self.unavailable,
            Ended::BrokeDown => &mut self.broke_down,
        } += 1;
    }
}

/// How the CA is, as `usshca status --json` prints it. Times are seconds since the epoch; what is counted is counted since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of the supervisor.
    pub version: String,
    /// The supervisor's.
    pub pid: u32,
    /// When it started.
    pub since: u64,
    /// When this was written.
    pub now: u64,
    /// It was told to end, and lets nobody in any more.
    pub stopping: bool,
    /// Addresses.
    pub listening: Vec<String>,
    /// Connections at this moment.
    pub connections: usize,
    /// Those of them on which nobody has logged in.
    pub logging_in: usize,
    /// PAM workers at this moment.
    pub workers: usize,
    /// Sources with a penalty to serve, those included that are still let in.
    pub sources_with_penalties: usize,
    /// `up`, `starting`, `killed` or `down`.
    pub signer: String,
    /// How often it was started anew.
    pub signer_restarts: u64,
    /// Certificates for users.
    pub certificates_issued_user: u64,
    /// Certificates for hosts.
    pub certificates_issued_host: u64,
    /// Requests for a certificate that were refused.
    pub certificates_refused: u64,
    /// When the last certificate was issued since the start; `None`: none was.
    pub last_certificate: Option<u64>,
    /// Connections that got a front.
    pub accepted: u64,
    /// Connections that got none, and why.
    pub turned_away: BTreeMap<String, u64>,
    /// Connections that were ended to make room.
    pub evicted: u64,
    /// Penalties by what they were for.
    pub penalties: BTreeMap<String, u64>,
    /// Fronts that broke down.
    pub fronts_broken: u64,
    /// PAM workers that were started.
    pub attempts: u64,
    /// Attempts for which there was no worker.
    pub attempts_turned_away: u64,
    /// Attempts that passed.
    pub attempts_passed: u64,
    /// Accounts that were looked up, and may log in or may not: nobody logged in by that.
    #[serde(default)]
    pub attempts_looked_up: u64,
    /// Attempts that PAM refused.
    pub attempts_refused: u64,
    /// Attempts in which PAM could not find out.
    pub attempts_unavailable: u64,
    /// Attempts in which the worker broke down.
    pub attempts_broke_down: u64,
    /// When an attempt last ended without PAM's having found out (or by a breakdown); `None`: none did.
    pub last_pam_trouble: Option<u64>,
    /// When PAM last passed or refused somebody.
    pub last_pam_answer: Option<u64>,
    /// Why CA keys sign nothing, a sentence each; empty: all do.
    pub key_troubles: Vec<String>,
    /// Why nothing can be written to the inventory; `None`: as far as is known, it can.
    #[serde(default)]
    pub inventory_trouble: Option<String>,
    /// End of the host certificate that clients are shown; `None`: never.
    pub host_certificate_valid_before: Option<u64>,
    /// When the last error was logged; `None`: none was.
    pub last_error_at: Option<u64>,
    /// The line of the last error.
    pub last_error: Option<String>,
    /// Bytes of memory that the supervisor has (resident).
    pub supervisor_resident_bytes: Option<u64>,
    /// Bytes of memory that the signer has (resident).
    pub signer_resident_bytes: Option<u64>,
}

impl EventLoop {
    /// How it is now.
    pub(super) fn report(&mut self, now: Instant) -> Report {
        let (counters, signer) = (&self.counters, self.signer.counts());
        let names = |all: &BTreeMap<&'static str, u64>| all.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let last_error = log::last_error();
        let addresses = self.listeners.iter().filter_map(|l| l.local_addr().ok());
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: counters.since,
            now: SystemClock.now().0,
            stopping: self.stop_by.is_some(),
            listening: addresses.map(|a| a.to_string()).collect(),
            connections: self.connections.len(),
            logging_in: self.connections.values().filter(|c| !c.conduct.logged_in).count(),
            workers: self.workers.len(),
            sources_with_penalties: self.penalties.len(now),
            signer: self.signer.state().to_owned(),
            signer_restarts: self.signer.restarts(),
            certificates_issued_user: signer.issued_user,
            certificates_issued_host: signer.issued_host,
            certificates_refused: signer.refused,
            last_certificate: (signer.last_issued > 0).then_some(signer.last_issued),
            accepted: counters.accepted,
            turned_away: names(&counters.turned_away),
            evicted: counters.evicted,
            penalties: names(&counters.offences),
            fronts_broken: counters.fronts_broken,
            attempts: counters.attempts,
            attempts_turned_away: counters.attempts_turned_away,
            attempts_passed: counters.passed,
            attempts_looked_up: counters.looked_up,
            attempts_refused: counters.refused,
            attempts_unavailable: counters.unavailable,
            attempts_broke_down: counters.broke_down,
            last_pam_trouble: counters.last_trouble,
            last_pam_answer: counters.last_answer,
            key_troubles: self.signer.key_troubles().to_vec(),
            inventory_trouble: self.signer.inventory_trouble().map(str::to_owned),
            host_certificate_valid_before: self.ground.host.valid_before,
            last_error_at: last_error.as_ref().map(|(at, _)| *at),
            last_error: last_error.map(|(_, text)| text),
            supervisor_resident_bytes: resident_bytes(std::process::id()),
            signer_resident_bytes: self.signer.pid().and_then(resident_bytes),
        }
    }
}

/// proc(5), /proc/PID/status, VmRSS in kB.
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_looked_up_has_not_logged_in() {
        let mut counters = Counters::new();
        for (ended, lookup) in [
            (Ended::Passed, false),
            (Ended::Passed, true),
            (Ended::Refused, true),
            (Ended::Refused, false),
            (Ended::BrokeDown, true),
        ] {
            counters.worker_ended(ended, lookup);
        }
        let Counters { passed, refused, looked_up, broke_down, .. } = counters;
        assert_eq!((passed, refused, looked_up, broke_down), (1, 1, 2, 1));
    }
}
