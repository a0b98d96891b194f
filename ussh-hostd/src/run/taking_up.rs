//! Taking connections up: from a record in the spool to a session that is held, and the files of those that are gone away.
//!
//! The first step of each connection. A login waits for nothing of it: sshd's hook wrote the record and went on.
//! Trusted input: the record, which root wrote. Untrusted: the names and options inside its certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ussh_core::certificate::Certificate;
use ussh_core::record::{RecordError, SessionRecord};

use super::{Daemon, Held};
use crate::connection::Connection;
use crate::report::{Severity, span};
use crate::session::{Event, Session};
use crate::spool::{ConnectionId, Found};
use crate::terms::LoginTerms;
use crate::watch::SCAN_EVERY_WHILE_BROKEN;

/// So many sessions begin at one moment at the most; more are there at a start of the daemon, which has no time for a look after each.
const FEW_LOGINS: usize = 16;

impl Daemon {
    /// Takes up new connections and drops files of those that are gone.
    pub(super) fn scan(&mut self) {
        let scan_every = self.files.scan_every();
        let broken = self.trust.problem().is_some();
        self.next_scan =
            self.started.elapsed() + if broken { scan_every.min(SCAN_EVERY_WHILE_BROKEN) } else { scan_every };
        let listing = match self.spool.list_and_clean() {
            Ok(listing) => listing,
            Err(e) => return self.report.line(Severity::Error, &format!("{}: {e}", self.spool.folder().display())),
        };
        for name in listing.foreign.difference(&self.foreign) {
            self.report.line(Severity::Warning, &format!("Not one of ours, left alone in the spool: {name}"));
        }
        self.foreign = listing.foreign;
        self.unreadable.retain(|id| listing.connections.contains(id));
        let new: Vec<ConnectionId> = listing.connections.into_iter().filter(|id| !self.held.contains_key(id)).collect();
        new.iter().for_each(|id| self.enclose(*id));
        let are_few = new.len() <= FEW_LOGINS;
        for id in new {
            self.take_up(id);
            if are_few {
                self.enclose_who_has_come();
            }
        }
        self.note_break_glass();
        self.take_up_unfinished(&listing.begun);
    }

    /// What takes milliseconds for one session must not keep another from its group meanwhile.
    fn enclose_who_has_come(&self) {
        let listing = self.spool.list().map(|listing| listing.connections).unwrap_or_default();
        listing.iter().filter(|id| !self.held.contains_key(id)).for_each(|id| self.enclose(*id));
    }

    fn take_up(&mut self, id: ConnectionId) {
        let Some((mut record, connection)) = self.open(id) else { return };
        let login = record.certificate.take().as_deref().map(Certificate::from_openssh);
        // One that cannot be read is a refusal, not a session without a certificate.
        let malformed = login.as_ref().and_then(|l| l.as_ref().err().cloned());
        let login = login.and_then(Result::ok).map(Arc::new);
        let limit = self.limit_of(&record, login.as_deref());
        let held = self.held_of(id, record, login, connection, limit);
        self.tell_of(&held, limit, malformed.is_some());
        self.unreadable.remove(&id);
        self.held.insert(id, held);
        self.confine(id);
        match (malformed, self.end_begun(id)) {
            (Some(e), _) => self.happened(id, Event::Refused(e.into())),
            (None, Some(grace)) => self.happened(id, Event::EndBegun { grace }),
            (None, None) => self.judge(id),
        }
    }

    /// The record, and its processes held; `None`: it is gone, or cannot be.
    fn open(&mut self, id: ConnectionId) -> Option<(SessionRecord, Connection)> {
        let record = match self.spool.read(id, &self.boot_id) {
            Ok(Found::Live(record)) => *record,
            Ok(Found::OtherBoot) => {
                self.forget_files(id);
                return None;
            }
            // Its session has been closed since the spool was listed.
            Err(RecordError::Io(e)) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                self.cannot_hold(id, &e.to_string());
                return None;
            }
        };
        match Connection::open(id) {
            Ok(mut connection) => {
                connection.count_for(record.uid);
                return Some((record, connection));
            }
            // What was begun with it is not over (`unfinished`).
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.spool.begun(id).is_some() => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.forget_files(id),
            Err(e) => self.cannot_hold(id, &e.to_string()),
        }
        None
    }

    fn held_of(
        &self,
        id: ConnectionId,
        record: SessionRecord,
        login: Option<Arc<Certificate>>,
        connection: Connection,
        limit: Option<Duration>,
    ) -> Held {
        let terms = login.as_ref().map(|login| LoginTerms::new(Arc::clone(login), &record));
        // A renewal that an earlier version took may allow less than the login.
        let allowed = |c: &Certificate| terms.as_ref().is_some_and(|terms| terms.allow(c).is_ok());
        let current = login.as_ref().map(|login| {
            let newest = self.spool.current(id, login);
            if newest != **login && allowed(&newest) { Arc::new(newest) } else { Arc::clone(login) }
        });
        let mut session = Session::new(self.now(), current.as_ref().map(|c| c.valid_before()), &self.config.timing);
        if let Some(left) = limit {
            session = session.limited(self.now(), left);
        }
        let break_glass = login.as_ref().is_some_and(|login| self.is_break_glass(login));
        Held {
            record,
            login,
            current,
            terms,
            connection,
            is_closed: false,
            session,
            ending_since: None,
            last_word: None,
            is_end_prepared: false,
            is_crowd: false,
            is_sought: false,
            last_reason: None,
            cell: None,
            frozen: None,
            births: Vec::new(),
            break_glass,
            noted: std::cell::Cell::new(false),
        }
    }

    /// One whose certificate is malformed is told of when it is refused.
    fn tell_of(&self, held: &Held, limit: Option<Duration>, is_malformed: bool) {
        let who = held.who();
        match &held.current {
            Some(certificate) => self.report.certificate(Severity::Info, "Watching session of", certificate, &who),
            None if is_malformed => {}
            None => {
                let what = limit.map_or_else(|| "left alone".to_owned(), |left| format!("for another {}", span(left)));
                self.report.line(Severity::Info, &format!("Session without a certificate, {what}: {who}"));
            }
        }
    }

    fn cannot_hold(&mut self, id: ConnectionId, why: &str) {
        if self.unreadable.insert(id) {
            self.report.line(Severity::Error, &format!("Session of {id} cannot be watched: {why}"));
        }
    }

    pub(super) fn forget_files(&self, id: ConnectionId) {
        if let Err(e) = self.spool.remove(id) {
            self.report.line(Severity::Error, &format!("Cannot remove the record of {id}: {e}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::begun::{Begun, End};
    use crate::config::Config;
    use crate::report::Report;
    use crate::spool::Spool;
    use crate::test_support::{record_of, trusted_folder};

    fn daemon() -> (tempfile::TempDir, Daemon) {
        let folder = trusted_folder();
        let text = format!("spool = '{0}/run/sessions'\nstate = '{0}/state'", folder.path().display());
        let config = Config::parse(&text, Path::new("t")).unwrap();
        let spool = Spool::new(&config.spool);
        spool.make().unwrap();
        let mut daemon = Daemon::new(&config, None, spool).unwrap();
        daemon.report = Report::quiet();
        (folder, daemon)
    }

    /// A connection that was listed, and whose sshd has ended since; its record.
    fn ended(daemon: &Daemon) -> (ConnectionId, std::path::PathBuf) {
        let mut sshd = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let id = ConnectionId::of(sshd.id()).unwrap();
        let file = daemon.spool.folder().join(format!("{}.json", id.stem()));
        std::fs::write(&file, serde_json::to_string(&record_of(id, None)).unwrap()).unwrap();
        sshd.kill().unwrap();
        sshd.wait().unwrap();
        (id, file)
    }

    #[test]
    fn an_end_that_was_begun_is_not_forgotten_with_an_sshd_that_ends_before_it_is_held() {
        let (_folder, mut daemon) = daemon();
        let (id, _) = ended(&daemon);
        let end = Some(End::new(Duration::from_secs(2), std::iter::empty()));
        let begun = Begun { boot_id: daemon.boot_id.clone(), end, frozen: None };
        daemon.spool.set_begun(id, &begun).unwrap();
        daemon.take_up(id);
        daemon.take_up_unfinished(&BTreeSet::from([id]));
        assert!(daemon.unfinished.contains_key(&id));
        daemon.finish();
        assert!(daemon.unfinished.is_empty() && std::fs::read_dir(daemon.spool.folder()).unwrap().next().is_none());
    }

    #[test]
    fn one_that_was_closed_since_it_was_listed_is_no_error() {
        let (_folder, mut daemon) = daemon();
        let (id, file) = ended(&daemon);
        daemon.take_up(id);
        assert!(!file.exists(), "nobody else removes it");
        daemon.take_up(id);
        assert!(daemon.held.is_empty() && daemon.unreadable.is_empty());
    }
}
