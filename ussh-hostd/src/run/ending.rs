//! The end of a session, from the last message on its terminals to the last of its processes.
//!
//! In this order: the terminals are told, and programs held (`announce`); when sshd has passed that on, what is to end with the session is found, held and remembered (`prepare_end`); SIGTERM and SIGHUP
//! (`terminate`), and after the grace SIGKILL (`kill`); and when nothing of the session is left, it is forgotten (`take_ends`).

use std::collections::BTreeSet;
use std::io;

use ussh_os::process_tree::threads_of;

use super::{Daemon, Held};
use crate::begun::{Begun, End};
use crate::cell::{Cell, Killed};
use crate::connection::{Connection, Told};
use crate::report::{Severity, on_terminal};
use crate::session::{Cause, Event};
use crate::spool::ConnectionId;

/// A session whose programs have more threads than this is prepared for its end after all others: to hold one takes some 20 to 100 µs, and some 10 more for each of its threads.
const CROWD: usize = 256;
const CROWD_OF_THREADS: u64 = CROWD as u64;

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
        // A client that is told may close the connection at once; what does not heed a SIGHUP would be nobody's child then. Why not all can be found is said later.
        let is_crowd = self.runs_a_crowd(id);
        let Some(held) = self.held.get_mut(&id) else { return };
        held.is_crowd = is_crowd;
        if is_told && is_crowd {
            held.connection.hold_nearest_programs(CROWD);
        } else if is_told {
            let _ = self.hold_all(id);
        }
    }

    /// Asked without looking at all of them.
    fn runs_a_crowd(&self, id: ConnectionId) -> bool {
        let Some(held) = self.held.get(&id) else { return false };
        let is_crowded = |cell: &Cell| {
            let threads = |all: BTreeSet<u32>| all.into_iter().map(threads_of).sum::<u64>();
            cell.group().processes().is_ok_and(|all| all.len() > CROWD || threads(all) > CROWD_OF_THREADS)
        };
        let group = || held.cell.clone().or_else(|| Cell::find(id).ok().flatten());
        held.connection.has_more_than(CROWD_OF_THREADS)
            || self.config.kill_user_processes && group().is_some_and(|c| is_crowded(&c))
    }

    pub(super) fn is_crowd(&self, id: ConnectionId) -> bool {
        self.held.get(&id).is_some_and(|held| held.is_crowd)
    }

    /// Goes on with the sessions whose last message is out. After all that is due: one may be the client of another one that ends now too, whose programs are held before it hangs up.
    pub(super) fn pass_last_words_on(&mut self) {
        let is_out = |held: &mut Held| !held.is_crowd && held.last_word.take_if(|told| told.is_out()).is_some();
        let out: Vec<ConnectionId> =
            self.held.iter_mut().filter_map(|(id, held)| is_out(held).then_some(*id)).collect();
        // What takes time before the first signal: each session that closes takes part of the processors from those that still wait for theirs.
        for id in &out {
            self.prepare_end(*id);
        }
        // Whoever is signalled together is killed together.
        let now = self.now();
        for id in out {
            self.happened_at(now, id, Event::LastWordOut);
        }
    }

    /// One with so many programs that it would keep all others waiting: each of those gets its signals first, as long as this one may wait for its last message.
    ///
    /// What is given up: by then another session's end may have closed a client that ran in this one. Its nearest programs, shells and clients among them, are held since it was told, and what those
    /// start is found when they are killed; only what a farther one leaves behind that ends by itself in between is not reached, and to leave a session is open to each program at any time.
    /// All that descends from its own sshd is held, as with any other, before that is signalled.
    pub(super) fn pass_last_word_of_a_crowd_on(&mut self) {
        if self.held.values().any(|held| !held.is_crowd && held.last_word.is_some()) {
            return;
        }
        let is_out = |held: &Held| held.last_word.as_ref().is_some_and(Told::is_out);
        let Some(id) = self.held.iter().find(|(_, held)| is_out(held)).map(|(id, _)| *id) else { return };
        self.prepare_end(id);
        self.happened(id, Event::LastWordOut);
    }

    /// Finds what is to end with the session, and holds it. Its group, if that is all that is in it.
    fn hold_all(&mut self, id: ConnectionId) -> Result<Option<Cell>, String> {
        let whole = self.whole_cell(id);
        let Some(held) = self.held.get_mut(&id) else { return Ok(None) };
        held.connection.hold_programs();
        let Some(cell) = whole? else { return Ok(None) };
        held.connection.hold_all_in(cell.group()).map_err(|e| format!("cgroup: {e}"))?;
        Ok(Some(cell))
    }

    /// Holds what is to end with the session, and remembers it.
    fn prepare_end(&mut self, id: ConnectionId) {
        // Held before the monitor ends: afterwards they are nobody's children.
        let all_held = self.hold_all(id);
        let now = self.now();
        let Some(held) = self.held.get_mut(&id) else { return };
        held.is_end_prepared = true;
        let whole = all_held.unwrap_or_else(|why| {
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
            self.prepare_end(id);
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
