//! The end of a session, from the last message on its terminals to the last of its processes.
//!
//! In this order: the terminals are told, and programs held (`announce`); when sshd has passed that on, what is to end with the session is found, held and remembered (`prepare_end`); SIGTERM and SIGHUP
//! (`terminate`), and after the grace SIGKILL (`kill`), to the programs as far as `take_turns` gets each time; and when nothing of the session is left, it is forgotten (`take_ends`).

use std::collections::BTreeSet;
use std::io;
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::{Daemon, Held};
use crate::begun::{Begun, End};
use crate::cell::{Cell, Killed};
use crate::connection::{Connection, Told};
use crate::programs::Share;
use crate::report::{Severity, on_terminal};
use crate::session::{Cause, Event};
use crate::spool::ConnectionId;

/// A session with more programs than some 256 is prepared for its end after all others: each takes two looks, and one more for each further thread, at some 20 to 50 µs.
const MOST_LOOKS: usize = 2 * 256;

/// So long the daemon is at sessions whose programs are sought or killed, before it sees to all else that has come.
const ROUND: Duration = Duration::from_millis(50);
/// And so long at one of them, before the next has its turn.
const TURN: Duration = Duration::from_millis(5);

impl Daemon {
    pub(super) fn announce(&mut self, id: ConnectionId, cause: &Cause) {
        let elapsed = self.started.elapsed();
        let Some(held) = self.held.get_mut(&id) else { return };
        held.ending_since = Some(elapsed);
        self.lookers.forget(id);
        let has_run_out =
            "your certificate has run out: this session ends now. Run `ussh` on your own machine and connect again.";
        let (sentence, reason) = match cause {
            Cause::Expired => (has_run_out, "it has run out and is not renewed".to_owned()),
            Cause::NotFrozen(why) => {
                (has_run_out, format!("it has run out, is not renewed and cannot be frozen: {why}"))
            }
            Cause::TimeLimit => (
                "this session has lasted as long as it may here: it ends now.",
                "it has lasted as long as it may".to_owned(),
            ),
            Cause::Refused(refusal) => (
                "your certificate is no longer accepted here: this session ends now. For a new one run `ussh --login` on your own machine; if that does not help, ask your administrators.",
                refusal.to_string(),
            ),
        };
        let told = held.connection.tell(Some(held.record.uid), &on_terminal(sentence));
        let detail = format!("{}: {reason}; terminals told: {}", held.who(), told.terminals());
        let is_told = told.terminals() > 0;
        held.last_word = Some(told);
        match &held.current {
            Some(certificate) => self.report.certificate(Severity::Notice, "Ending session of", certificate, &detail),
            None => self.report.line(Severity::Notice, &format!("Ending session of {detail}")),
        }
        if is_told {
            // A client that is told may close the connection at once; what does not heed a SIGHUP would be nobody's child then. Why not all can be found is said later.
            let _ = self.hold_few(id);
        }
    }

    /// Goes on with the sessions whose last message is out. After all that is due: one may be the client of another one that ends now too, whose programs are held before it hangs up.
    pub(super) fn pass_last_words_on(&mut self) {
        let is_out = |held: &Held| !held.is_crowd && held.last_word.as_ref().is_some_and(Told::is_out);
        let mut out: Vec<ConnectionId> = self.held.iter().filter(|(_, held)| is_out(held)).map(|(id, _)| *id).collect();
        // What takes time before the first signal: each session that closes takes part of the processors from those that still wait for theirs.
        out.retain(|id| self.prepare_end(*id));
        // Whoever is signalled together is killed together.
        let now = self.now();
        for id in out {
            self.happened_at(now, id, Event::LastWordOut);
        }
    }

    /// Whose programs are sought or killed, and who would keep all others waiting if that was done at once.
    ///
    /// One with so many programs has them sought when each of the others has got its signals, as long as it may wait for its last message.
    /// What is given up: by then another session's end may have closed a client that ran in this one. Its nearest programs, shells and clients among them, are held since it was told, and what those
    /// start is found when they are killed; only what a farther one leaves behind that ends by itself in between is not reached, and to leave a session is open to each program at any time.
    /// All that descends from its own sshd is held, as with any other, before that is signalled.
    fn who_takes_turns(&self) -> impl Iterator<Item = ConnectionId> {
        let now = self.now();
        let others_wait = self.held.values().any(|held| !held.is_crowd && held.last_word.is_some());
        let is_sought = move |held: &Held| match &held.last_word {
            Some(told) if held.is_crowd => {
                !others_wait && told.is_out() || held.session.wake_in(now) == Some(Duration::ZERO)
            }
            _ => false,
        };
        let is_killed = |held: &Held| held.connection.programs().is_being_killed();
        let held = self.held.iter().filter(move |(_, held)| is_killed(held) || is_sought(held));
        let unfinished = self.unfinished.iter().filter(|(_, unfinished)| unfinished.programs.is_being_killed());
        held.map(|(id, _)| *id).chain(unfinished.map(|(id, _)| *id))
    }

    pub(super) fn somebody_takes_turns(&self) -> bool {
        self.who_takes_turns().next().is_some()
    }

    /// Each of them a little, for so long as nobody else is kept waiting.
    pub(super) fn take_turns(&mut self) {
        let end = Instant::now() + ROUND;
        while Instant::now() < end {
            let waiting: BTreeSet<ConnectionId> = self.who_takes_turns().collect();
            let after = self.last_turn.and_then(|last| waiting.range((Bound::Excluded(last), Bound::Unbounded)).next());
            let Some(id) = after.or_else(|| waiting.first()).copied() else { return };
            self.last_turn = Some(id);
            self.take_turn(id, Share::Until(end.min(Instant::now() + TURN)));
        }
    }

    fn take_turn(&mut self, id: ConnectionId, share: Share) {
        if self.held.get(&id).is_some_and(|held| held.last_word.is_some()) {
            return self.seek_on(id, share);
        }
        let gone_on = match (self.held.get_mut(&id), self.unfinished.get_mut(&id)) {
            (Some(held), _) => held.connection.go_on(share),
            (None, Some(unfinished)) => unfinished.go_on(share),
            (None, None) => return,
        };
        if let Err(e) = gone_on {
            self.report.line(Severity::Error, &format!("Cannot end {id}: {e}"));
        }
    }

    /// Goes on with finding what is to end with a crowd, and with its end when that is through.
    fn seek_on(&mut self, id: ConnectionId, share: Share) {
        if self.held.get_mut(&id).is_some_and(|held| !std::mem::replace(&mut held.is_sought, true)) {
            // Why not all can be found is said when it is through.
            let _ = self.begin_to_hold(id);
        }
        let Some(held) = self.held.get_mut(&id) else { return };
        if let Err(e) = held.connection.go_on(share) {
            self.report.line(Severity::Error, &format!("Cannot end {id}: {e}"));
        }
        if held.connection.programs().is_being_walked() {
            return;
        }
        let whole = self.whole_cell(id);
        self.remember_end(id, whole);
        self.happened(id, Event::LastWordOut);
    }

    fn begin_to_hold(&mut self, id: ConnectionId) -> Result<Option<Cell>, String> {
        let whole = self.whole_cell(id);
        let Some(held) = self.held.get_mut(&id) else { return Ok(None) };
        let group = whole.as_ref().ok().and_then(|cell| cell.as_ref()).map(Cell::group);
        held.connection.begin_to_hold(group).map_err(|e| format!("cgroup: {e}"))?;
        whole
    }

    /// Finds what is to end with the session, and holds it, as far as a few looks go: whoever has more is a crowd from now on. Its group, if that is all that is in it.
    fn hold_few(&mut self, id: ConnectionId) -> Result<Option<Cell>, String> {
        let whole = self.begin_to_hold(id);
        let Some(held) = self.held.get_mut(&id) else { return Ok(None) };
        let gone_on = held.connection.go_on(Share::Looks(MOST_LOOKS)).map_err(|e| e.to_string());
        held.is_crowd |= held.connection.programs().is_being_walked();
        gone_on.and(whole)
    }

    /// Holds what is to end with the session, and remembers it. False: it has become a crowd since it was told, and takes turns.
    pub(super) fn prepare_end(&mut self, id: ConnectionId) -> bool {
        // Held before the monitor ends: afterwards they are nobody's children.
        let whole = self.hold_few(id);
        let is_prepared = self.held.get(&id).is_some_and(|held| !held.is_crowd);
        if is_prepared {
            self.remember_end(id, whole);
        }
        is_prepared
    }

    fn remember_end(&mut self, id: ConnectionId, whole: Result<Option<Cell>, String>) {
        let now = self.now();
        let Some(held) = self.held.get_mut(&id) else { return };
        held.is_end_prepared = true;
        let whole = whole.unwrap_or_else(|why| {
            let detail = format!("What had left the session goes on: {}: {why}", held.who());
            self.report.line(Severity::Warning, &detail);
            None
        });
        if let Some(why) = held.connection.programs().not_held() {
            let detail = format!("Ends without a descriptor for each of its programs: {}: {why}", held.who());
            self.report.line(Severity::Warning, &detail);
        }
        let end = End::new(held.session.grace_left(now), held.connection.programs().ids());
        // And remembered before the record may go. What comes next is SIGKILL.
        let begun = Begun {
            boot_id: self.boot_id.clone(),
            end: Some(end.of_all_in(whole.and_then(|cell| cell.whole().ok()))),
            frozen: held.frozen.as_ref().map(|frozen| frozen.cell.path().into()),
        };
        if let Err(e) = self.spool.set_begun(id, &begun) {
            self.report.line(Severity::Error, &format!("The end of {id} is not remembered over a restart: {e}"));
        }
    }

    pub(super) fn terminate(&mut self, id: ConnectionId) {
        if !self.held.get(&id).is_some_and(|held| held.is_end_prepared) {
            // An earlier run has begun it: what that held is held already.
            let whole = self.hold_few(id);
            self.remember_end(id, whole);
        }
        let elapsed = self.started.elapsed();
        let Some(held) = self.held.get_mut(&id) else { return };
        held.last_word = None;
        held.is_end_prepared = false;
        held.ending_since.get_or_insert(elapsed);
        if let Err(e) = held.connection.terminate() {
            self.report.line(Severity::Error, &format!("Cannot end {}: {e}", held.who()));
        }
        held.connection.programs().hang_up();
        if let Some(frozen) = &held.frozen {
            // They cannot take a SIGHUP, and are not let go on for it.
            if let Err(e) = frozen.cell.kill() {
                self.report.line(Severity::Error, &format!("Cannot end what is frozen of {}: {e}", held.who()));
            }
        }
    }

    /// To the programs and to sshd's child, by and by: see `take_turns`.
    pub(super) fn begin_to_kill(&mut self, id: ConnectionId) {
        self.kill(id, "SIGTERM", |connection| {
            connection.begin_to_kill();
            Ok(())
        });
    }

    pub(super) fn kill(&mut self, id: ConnectionId, after: &str, kill: impl FnOnce(&mut Connection) -> io::Result<()>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let result = kill(&mut held.connection);
        self.report.line(Severity::Warning, &format!("Killing what {after} has not ended: {}", held.who()));
        if let Err(e) = result {
            self.report.line(Severity::Error, &format!("Cannot end {}: {e}", held.who()));
        }
    }

    /// Ends of processes: forget the connection, when nothing of sshd is left of it.
    pub(super) fn take_ends(&mut self, ended: BTreeSet<ConnectionId>) {
        for id in ended {
            let Some(held) = self.held.get_mut(&id).filter(|held| held.connection.monitor_ended()) else { continue };
            held.is_closed = true;
            if held.connection.children().next().is_some() {
                // The monitor died before its child: the child would carry the forwards on.
                if let Err(e) = held.connection.kill_children() {
                    self.report.line(Severity::Error, &format!("Cannot end what is left of {}: {e}", held.who()));
                }
                continue;
            }
            if held.connection.program_to_wait_for().is_some() || held.connection.programs().are_left() {
                // Hung up on, and killed after the grace.
                continue;
            }
            let took = held.ending_since.map(|since| self.started.elapsed().saturating_sub(since).as_millis());
            let killed = self.leave_cell(id);
            if let Some((held, took)) = self.held.remove(&id).zip(took) {
                let programs = ended_with_it(held.connection.programs().count(), killed);
                self.report.line(Severity::Info, &format!("Session ended after {took} ms, {programs}: {}", held.who()));
            }
            self.forget_files(id);
        }
    }
}

/// Of a session whose processes have all ended, as far as they were its own when its end was begun.
fn ended_with_it(programs: usize, killed: Killed) -> String {
    let many = match programs {
        0 => "no process".to_owned(),
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    };
    let left = match killed {
        Killed::All => "and all that had left it",
        Killed::Frozen => "and all that was frozen",
        Killed::Nothing => "programs that had left it before are not touched",
    };
    format!("{many} with it; {left}")
}
