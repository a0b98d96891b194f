//! Sessions that stand still: their programs are stopped by their cgroup (`cell`), and what sshd starts meanwhile before it runs (`ussh_os::births`).
//!
//! sshd itself goes on, so that its agent can be asked, and would go on to carry forwards: a connection with one is ended instead. So is one without an agent, which nothing could thaw.

use std::collections::BTreeSet;
use std::time::Duration;

use ussh_os::births::{Births, Call};
use ussh_os::sshd_connection::listeners;
use ussh_os::sshd_forwards::{Forward, forward_by, forward_of, servers};

use super::{Daemon, Held};
use crate::begun::Begun;
use crate::cell::{Cell, Killed};
use crate::config::{AtEnd, Config};
use crate::report::{Severity, on_terminal, span};
use crate::session::Event;
use crate::spool::ConnectionId;

const STANDS_STILL: &str = "your certificate has run out: this session stands still. Run `ussh` on your own machine, and it goes on by itself.";
const TOO_BUSY: &str = "its connection keeps sshd busy";
const GOES_ON: &str = "this session goes on.";
/// systemd's own sign that it runs (sd_booted(3)): its logind makes a scope of a session, after our record is written.
const SYSTEMD: &str = "/run/systemd/system";

/// A session that stands still.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) cell: Cell,
    /// Since then, or since this daemon knows it (elapsed).
    since: Duration,
    /// Whether it really does is not seen yet.
    is_new: bool,
    /// Inode of the listener that was found to be its agent's, once sshd has accepted from it: whoever connects to it again and again has not all of sshd's sockets looked at each time.
    agent: std::cell::Cell<Option<u32>>,
}

impl Frozen {
    fn new(cell: Cell, since: Duration) -> Self {
        Frozen { cell, since, is_new: true, agent: std::cell::Cell::default() }
    }

    /// The forward that the session's sshd is about to begin.
    fn forward_by(&self, id: ConnectionId, call: &Call) -> std::io::Result<Option<Forward>> {
        match call {
            Call::Accept(Some(listener)) if self.agent.get() == Some(*listener) => Ok(None),
            Call::Accept(listener) => {
                let found = forward_by(id, call)?;
                self.agent.set(listener.filter(|_| found.is_none()));
                Ok(found)
            }
            Call::Connect(_) | Call::Tunnel => forward_by(id, call),
        }
    }
}

/// What of a session's connection keeps it from being frozen, as its user could change it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfreezable {
    #[error("it has {0}")]
    Forwards(Forward),
    #[error("it has no forwarded agent, which alone could thaw it")]
    NoAgent,
}

/// `None`: nothing, at this moment.
/// # Errors
/// The kernel does not say what sockets there are.
pub(super) fn not_to_be_frozen(id: ConnectionId, uid: u32) -> std::io::Result<Option<Unfreezable>> {
    // An agent comes first: without it there is nothing else to do.
    if listeners(id, uid).is_empty() {
        return Ok(Some(Unfreezable::NoAgent));
    }
    Ok(forward_of(id)?.map(Unfreezable::Forwards))
}

impl Daemon {
    /// A session that is new to this daemon: it gets its group, or goes on as it was left.
    pub(super) fn confine(&mut self, id: ConnectionId) {
        let now = self.now();
        let Some(held) = self.held.get_mut(&id) else { return };
        if let Ok(Some(cell)) = Cell::find(id)
            && cell.is_frozen()
        {
            if let Err(e) = cell.free_sshd() {
                self.report.line(Severity::Error, &format!("Cannot thaw sshd of {}: cgroup: {e}", held.who()));
            }
            held.cell = Some(cell.clone());
            held.frozen = Some(Frozen::new(cell, now.elapsed));
            if held.session.stays_frozen(now) {
                self.report.line(Severity::Info, &format!("Session is frozen: {}", held.who()));
                if let Err(why) = self.hold_still(id) {
                    self.happened(id, Event::NotFrozen(why));
                }
            } else if held.session.is_good(now) {
                self.thaw(id);
            }
            return;
        }
        if wants_cells(&self.config) {
            match Cell::find_or_make(id) {
                Ok(cell) => held.cell = Some(cell),
                Err(e) => self.report.line(Severity::Error, &format!("No cgroup for session: {}: {e}", held.who())),
            }
        }
    }

    /// Brings what a login has begun with into its group, before anything else is looked at: what leaves the session at once is in it then.
    pub(super) fn enclose(&self, id: ConnectionId) {
        if wants_cells(&self.config) && id.lives() {
            // Why there is none is said by `confine`.
            let _ = Cell::find_or_make(id);
        }
    }

    pub(super) fn freeze(&mut self, id: ConnectionId) {
        let elapsed = self.started.elapsed();
        let processes = match self.stop(id, elapsed) {
            Ok(processes) => processes,
            Err(why) => return self.happened(id, Event::NotFrozen(why)),
        };
        let Some((held, certificate)) = self.certified(id) else { return };
        let told = held.connection.tell(Some(held.record.uid), &on_terminal(STANDS_STILL));
        let detail = format!(
            "{}: it has run out and is not renewed; {processes} processes; terminals told: {}",
            held.who(),
            told.terminals()
        );
        self.report.certificate(Severity::Notice, "Freezing session of", certificate, &detail);
    }

    /// How many processes that are. The error is why it cannot be.
    fn stop(&mut self, id: ConnectionId, elapsed: Duration) -> Result<usize, String> {
        let held = self.held.get_mut(&id).ok_or("it is gone")?;
        if let Some(why) = not_to_be_frozen(id, held.record.uid).map_err(|e| format!("sock_diag: {e}"))? {
            return Err(why.to_string());
        }
        let cell = Cell::find_or_make(id).map_err(|e| format!("cgroup: {e}"))?;
        if let Some(pid) = cell.stranger(id).map_err(|e| format!("cgroup: {e}"))? {
            return Err(strange(pid));
        }
        held.cell = Some(cell.clone());
        let begun = Begun { boot_id: self.boot_id.clone(), end: None, frozen: Some(cell.path().into()) };
        self.spool.set_begun(id, &begun).map_err(|e| format!("{}: {e}", self.spool.folder().display()))?;
        self.hold_still(id)?;
        let processes = cell.freeze(&sshd_of(id)).map_err(|e| format!("cgroup: {e}"))?;
        if let Some(held) = self.held.get_mut(&id) {
            held.frozen = Some(Frozen::new(cell, elapsed));
        }
        Ok(processes)
    }

    /// Sees to what sshd starts from now on.
    fn hold_still(&mut self, id: ConnectionId) -> Result<(), String> {
        let held = self.held.get_mut(&id).ok_or("it is gone")?;
        for server in servers(id) {
            match held.births.iter_mut().find(|births| births.parent() == server.pid) {
                // Of a thaw a moment ago.
                Some(births) => births.keep(),
                None => held.births.push(Births::seize(server.pid).map_err(|e| format!("ptrace of its sshd: {e}"))?),
            }
        }
        Ok(())
    }

    /// What sshd could do for its user in spite of it is looked for.
    pub(super) fn watch_frozen(&mut self, id: ConnectionId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let Some(frozen) = &mut held.frozen else { return };
        let is_new = std::mem::take(&mut frozen.is_new);
        for births in &mut held.births {
            births.count_anew();
        }
        let watched = match forward_of(id) {
            Ok(Some(forward)) => Err(format!("it has {forward}")),
            Ok(None) => frozen.cell.gather(&sshd_of(id)).map_err(|e| format!("cgroup: {e}")),
            Err(e) => Err(format!("sock_diag: {e}")),
        };
        match watched {
            Ok(0) if is_new && frozen.cell.stands_still().is_ok_and(|stands| !stands) => {
                let detail =
                    format!("Not all of a session stands still yet, what is in the kernel does not: {}", held.who());
                self.report.line(Severity::Notice, &detail);
            }
            Ok(0) => {}
            Ok(count) => {
                let detail = format!("Freezing {count} more processes of session: {}", held.who());
                self.report.line(Severity::Notice, &detail);
            }
            Err(why) => self.happened(id, Event::NotFrozen(why)),
        }
    }

    /// Lets it go on, if it stands still.
    pub(super) fn thaw(&mut self, id: ConnectionId) {
        let elapsed = self.started.elapsed();
        let Some(held) = self.held.get_mut(&id) else { return };
        let Some(frozen) = held.frozen.take() else { return };
        held.births.iter_mut().for_each(Births::release);
        let thawed = frozen.cell.thaw().and_then(|()| self.spool.clear_begun(id));
        let told = held.connection.tell(Some(held.record.uid), &on_terminal(GOES_ON));
        let time = span(elapsed.saturating_sub(frozen.since));
        match thawed {
            Ok(()) => self.report.line(
                Severity::Info,
                &format!("Thawed session after {time}: {}; terminals told: {}", held.who(), told.terminals()),
            ),
            Err(e) => self.report.line(Severity::Error, &format!("Cannot thaw {}: cgroup: {e}", held.who())),
        }
    }

    /// Answers every sshd process that is seen to and waits. One that would carry a forward for a frozen session, or keeps us busy, ends that.
    pub(super) fn attend_births(&mut self) {
        let mut ended = Vec::new();
        for (id, Held { births, frozen, record, .. }) in &mut self.held {
            let mut why = None;
            for births in births.iter_mut() {
                let see_to = |pid| {
                    // Let go while it is thawed, it is any program of the session's.
                    if let Some(Err(e)) = frozen.as_ref().map(|frozen| frozen.cell.take_newborn(pid)) {
                        let detail = format!("Cannot freeze process {pid} of user {}: {e}", record.user);
                        self.report.line(Severity::Error, &detail);
                    }
                };
                let allows = |call: &Call| {
                    let found = frozen.as_ref().map_or(Ok(None), |frozen| frozen.forward_by(*id, call));
                    let refusal = match found {
                        Ok(forward) => forward.map(|forward| format!("it has {forward}")),
                        Err(e) => Some(format!("sock_diag: {e}")),
                    };
                    let is_allowed = refusal.is_none();
                    why = why.take().or(refusal);
                    is_allowed
                };
                births.attend(see_to, allows);
                if births.stands() {
                    why = why.take().or_else(|| Some(TOO_BUSY.into()));
                }
            }
            births.retain(|births| !births.is_over());
            ended.extend(why.map(|why| (*id, why)));
        }
        for (id, why) in ended {
            self.happened(id, Event::NotFrozen(why));
        }
    }

    /// The group of a session that is to end with all that is in it; `None`: that is not wanted. The error is why it cannot be.
    pub(super) fn whole_cell(&self, id: ConnectionId) -> Result<Option<Cell>, String> {
        let held = self.held.get(&id).filter(|held| self.config.kill_user_processes && held.ending_since.is_some());
        let Some(held) = held else { return Ok(None) };
        let failed = |e: std::io::Error| format!("cgroup: {e}");
        let cell = match &held.cell {
            Some(cell) => cell.clone(),
            None => Cell::find(id).map_err(failed)?.ok_or("it has no cgroup of its own")?,
        };
        cell.stranger(id).map_err(failed)?.map_or(Ok(Some(cell)), |pid| Err(strange(pid)))
    }

    /// A connection that is gone: what stood still could never go on, and what had left it is not to if the configuration says so. What was killed.
    pub(super) fn leave_cell(&mut self, id: ConnectionId) -> Killed {
        // Why not was said when its end was begun.
        let whole = self.whole_cell(id).ok().flatten();
        let Some(held) = self.held.get_mut(&id) else { return Killed::Nothing };
        let (frozen, rest) = (held.frozen.take(), held.cell.take());
        let (cell, killed) = match (whole, frozen.map(|frozen| frozen.cell), rest) {
            (Some(cell), ..) => (cell, Killed::All),
            (None, Some(cell), _) => (cell, Killed::Frozen),
            (None, None, Some(cell)) => (cell, Killed::Nothing),
            (None, None, None) => return Killed::Nothing,
        };
        let (count, what, result) = match killed {
            Killed::All => (cell.group().processes().map_or(0, |all| all.len()), "remaining", cell.kill_all()),
            Killed::Frozen => (cell.count(), "frozen", cell.kill()),
            Killed::Nothing => (0, "", Ok(())),
        };
        if let Err(e) = result {
            self.report.line(Severity::Error, &format!("Cannot end what is {what} of {}: {e}", held.who()));
        }
        if count > 0 {
            let detail = format!("Ended {count} {what} processes, whose connection is gone: {}", held.who());
            self.report.line(Severity::Notice, &detail);
        }
        self.leave(id, &cell, killed);
        killed
    }

    /// What is said last.
    pub(super) fn farewell(&self) -> String {
        let frozen = self.held.values().filter(|held| held.frozen.is_some()).count();
        match frozen {
            0 => "Stopped; sessions go on".into(),
            1 => "Stopped; sessions go on, and 1 that is frozen stays so".into(),
            n => format!("Stopped; sessions go on, and {n} that are frozen stay so"),
        }
    }
}

/// Whether each session is to have a group, of ours: where systemd runs it has logind's.
fn wants_cells(config: &Config) -> bool {
    let is_wanted = config.timing.at_end == AtEnd::Freeze || config.kill_user_processes;
    is_wanted && !std::path::Path::new(SYSTEMD).exists()
}

pub(super) fn strange(pid: u32) -> String {
    format!("process {pid} in its cgroup is a daemon's that others need")
}

/// sshd's own processes of a connection, which go on.
fn sshd_of(id: ConnectionId) -> BTreeSet<u32> {
    servers(id).into_iter().chain([id]).map(|process| process.pid).collect()
}
