//! Break-glass on this host: what sshd trusts, and telling everybody of each use: terminals, the hook, the CA.
//!
//! Each use is a file `ID.json` (`ussh_core::break_glass`) until all know of it, then `ID.done` for as long as its session lives. `ID.wall`, `ID.hook` and `ID.ca` say who knows already, so that nobody is told twice
//! by a run that was killed, unless between the telling and its mark; the CA takes one use once. `ID.hook-failed` and `ID.ca-failed` say who could not be told, and when: such a use comes behind those that were not tried yet. Process: `ussh-hostd report`, a run of its own, which waits for hook and network in the daemon's place.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ussh_core::break_glass::{MARK, MAX_NOTE, Note, is_id, service_of};
use ussh_core::ca_file::is_marked;
use ussh_core::clock::UnixTime;
use ussh_core::enroll::{Exchange, MAX_NOTES};
use ussh_core::keys::PublicKey;
use ussh_core::trusted_file::read_trusted;
use ussh_os::account::Account;
use ussh_os::process;

use crate::ca_ssh::{CaError, CaServer};
use crate::child::{Bounds, program, run};
use crate::config::Config;
use crate::connection::Connection;
use crate::enroll::read_private;
use crate::enrolment::{Enrolment, known_hosts};
use crate::report::on_terminal;
use crate::spool::{ConnectionId, Found, Spool};

/// How long the hook may take, and most that it may say, bytes.
const HOOK: Bounds = Bounds { time: Duration::from_secs(60), bytes: 64 * 1024 };
/// How long a run begins hooks, and then tells the CA of uses one by one: the last of each may go on for its own bound.
const RUN: Duration = Duration::from_secs(180);
/// From when on a use that somebody does not know of is an alarm, seconds.
const LATE: u64 = 600;
/// How far a use may lie ahead of the clock, seconds: further, it was noted by a clock that was wrong.
const AHEAD: u64 = 60;

/// The text of a CA file with the pinned keys behind, marked, and without any that was marked before.
pub fn with_pinned(data: &[u8], pinned: &[PublicKey]) -> Vec<u8> {
    let mut text: Vec<u8> = Vec::new();
    for line in data.split(|b| *b == b'\n').filter(|line| !line.is_empty() && !is_marked(line)) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    for key in pinned {
        text.extend_from_slice(format!("{}\n", key.to_openssh(MARK)).as_bytes());
    }
    text
}

/// What is not done yet.
#[derive(Debug)]
pub struct Waiting {
    /// When the oldest session of them was opened; `None`: nothing waits.
    pub since: Option<UnixTime>,
    /// How many uses.
    pub count: usize,
    /// When the newest of them was opened.
    newest: Option<UnixTime>,
    /// How long the oldest has waited by the clock since boot, at least.
    age: Duration,
}

impl Waiting {
    /// Looks.
    pub fn read(config: &Config) -> io::Result<Self> {
        let notes = notes(&config.break_glass_folder())?;
        let boot_id = process::boot_id().unwrap_or_default();
        let opened = || notes.iter().filter_map(|(_, note)| Some(note.as_ref()?.opened));
        Ok(Waiting {
            since: opened().min(),
            count: notes.len(),
            newest: opened().max(),
            age: notes.iter().map(|(id, _)| waited(id, &boot_id)).max().unwrap_or_default(),
        })
    }

    /// Whether somebody must hear of it: by the wall clock, which may have been wrong then or now, or by the one since boot.
    pub fn is_late(&self, now: UnixTime) -> bool {
        let is_old = self.since.is_none_or(|since| now.0.saturating_sub(since.0) >= LATE);
        let is_ahead = self.newest.is_some_and(|newest| newest.0.saturating_sub(now.0) > AHEAD);
        self.count > 0 && (is_old || is_ahead || self.age.as_secs() >= LATE)
    }
}

/// How long ago the connection of a use began, at least: since this boot, if it was before.
fn waited(id: &str, boot_id: &str) -> Duration {
    let connection = id.strip_prefix(boot_id).and_then(|rest| ConnectionId::parse(rest.strip_prefix('-')?));
    process::age(connection.map_or(0, |connection| connection.start_time)).unwrap_or_default()
}

/// By name; `None`: it does not read.
fn notes(folder: &Path) -> io::Result<Vec<(String, Option<Note>)>> {
    let ids = names(folder)?.into_iter().filter_map(|name| Some(name.strip_suffix(".json")?.to_owned()));
    let read = |id: &str| Note::parse(&read_trusted(&folder.join(format!("{id}.json")), MAX_NOTE).ok()?);
    Ok(ids.map(|id| (id.clone(), read(&id).filter(|note| note.id == id))).collect())
}

fn names(folder: &Path) -> io::Result<BTreeSet<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Why somebody does not know yet.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder.
    #[error("{0}: {1}")]
    Folder(PathBuf, io::Error),
    /// Another run is at it.
    #[error("another run is at it")]
    Busy,
    /// What went wrong; the rest is done.
    #[error("{}", .0.join("; "))]
    Left(Vec<String>),
}

/// Tells whoever does not know, within some eight minutes. What it did, for people.
/// # Errors
/// [`ReportError`]; what is not done stays to be done.
pub fn report(config: &Config) -> Result<Vec<String>, ReportError> {
    report_within(config, HOOK, RUN)
}

fn report_within(config: &Config, hook: Bounds, time: Duration) -> Result<Vec<String>, ReportError> {
    let folder = config.break_glass_folder();
    let failed = |e| ReportError::Folder(folder.clone(), e);
    let lock = match File::open(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    lock.try_lock().map_err(|_| ReportError::Busy)?;
    let mut queue = Queue { config, hook, time, folder: folder.clone(), told: Vec::new(), problems: Vec::new() };
    let all = notes(&folder).map_err(failed)?;
    queue
        .problems
        .extend(all.iter().filter(|(_, note)| note.is_none()).map(|(id, _)| format!("{id}.json: cannot be read")));
    let notes: Vec<Note> = all.into_iter().filter_map(|(_, note)| note).collect();
    for note in &notes {
        if !queue.knows(note, "wall") {
            queue.wall(note);
        }
    }
    queue.hooks(&notes);
    queue.reports(&notes);
    for note in &notes {
        let is_done = queue.knows(note, "ca") && (config.break_glass.hook.is_empty() || queue.knows(note, "hook"));
        if is_done && let Err(e) = std::fs::rename(queue.file(&note.id, "json"), queue.file(&note.id, "done")) {
            queue.problems.push(format!("{}: {e}", note.id));
        }
    }
    queue.clean().map_err(failed)?;
    if queue.problems.is_empty() { Ok(queue.told) } else { Err(ReportError::Left(queue.problems)) }
}

/// Why the CA does not know of some uses.
#[derive(Debug, thiserror::Error)]
enum Untold {
    /// It may be about these uses.
    #[error("{0}")]
    Refused(String),
    /// It is most likely about no use.
    #[error("{0}")]
    NoWay(String),
}

fn report_to(enrolment: &Enrolment, known_hosts: &Path, notes: Vec<String>) -> Result<(), Untold> {
    let keys = enrolment.keys.iter().map(|path| read_private(path)).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|e| Untold::NoWay(e.to_string()))?;
    CaServer::of(enrolment, known_hosts).report(Exchange::break_glass(notes, keys)).map_err(|e| match e {
        CaError::Exchange(_) => Untold::Refused(e.to_string()),
        CaError::Ssh(_)
        | CaError::NoWay(_)
        | CaError::OtherCa { .. }
        | CaError::NoCertificate(_)
        | CaError::NoCa(_)
        | CaError::OtherName(_)
        | CaError::OtherTime(_) => Untold::NoWay(e.to_string()),
    })
}

struct Queue<'c> {
    config: &'c Config,
    hook: Bounds,
    time: Duration,
    folder: PathBuf,
    told: Vec<String>,
    problems: Vec<String>,
}

impl Queue<'_> {
    fn file(&self, id: &str, end: &str) -> PathBuf {
        self.folder.join(format!("{id}.{end}"))
    }

    fn knows(&self, note: &Note, whom: &str) -> bool {
        self.file(&note.id, whom).exists()
    }

    fn mark(&mut self, note: &Note, whom: &str) {
        if let Err(e) = File::create(self.file(&note.id, whom)) {
            self.problems.push(format!("{}.{whom}: {e}", note.id));
        }
    }

    /// On every terminal of every session that sshd has here, by the way of its warnings: never into what is no terminal.
    fn wall(&mut self, note: &Note) {
        let from = if note.from.is_empty() { "an unknown address" } else { &note.from };
        let did = service_of(&note.id).map_or("logged in".to_owned(), |service| format!("used {service}"));
        let text = on_terminal(&format!(
            "BREAK-GLASS: {} has {did} as {} from {from}, by a break-glass certificate (serial {}).",
            note.key_id, note.user, note.serial
        ));
        let spool = Spool::new(&self.config.spool);
        let boot_id = process::boot_id().unwrap_or_default();
        let mut terminals = 0;
        for id in spool.list().map(|listing| listing.connections).unwrap_or_default() {
            let Ok(Found::Live(record)) = spool.read(id, &boot_id) else { continue };
            if let Ok(connection) = Connection::open(id) {
                terminals += connection.tell(Some(record.uid), &text).terminals();
            }
        }
        self.told.push(format!("{}: told {terminals} terminals", note.id));
        self.mark(note, "wall");
    }

    /// Those that somebody does not know of: first those that were not tried, the oldest first; then those that failed, what failed longest ago first.
    fn waiting<'n>(&self, notes: &'n [Note], whom: &str) -> Vec<&'n Note> {
        let mut waiting: Vec<&Note> = notes.iter().filter(|note| !self.knows(note, whom)).collect();
        waiting.sort_by_key(|note| (self.failed(note, whom), note.opened.0));
        waiting
    }

    /// When somebody could not be told; `None`: that was not tried, or went well.
    fn failed(&self, note: &Note, whom: &str) -> Option<SystemTime> {
        self.file(&note.id, &format!("{whom}-failed")).metadata().and_then(|mark| mark.modified()).ok()
    }

    /// Each is tried, whatever became of the one before, as long as there is time: one may take a minute.
    fn hooks(&mut self, notes: &[Note]) {
        if self.config.break_glass.hook.is_empty() {
            return;
        }
        let begun = Instant::now();
        let waiting = self.waiting(notes, "hook");
        for (done, note) in waiting.iter().enumerate() {
            if begun.elapsed() >= self.time {
                let left = waiting.len() - done;
                return self
                    .problems
                    .push(format!("break_glass_hook: no time for {left} uses, which come first in the next run"));
            }
            match self.run_hook(note) {
                Ok(()) => {
                    self.told.push(format!("{}: the hook has run", note.id));
                    self.mark(note, "hook");
                }
                Err(why) => {
                    self.problems.push(format!("break_glass_hook: {why}"));
                    self.mark(note, "hook-failed");
                }
            }
        }
    }

    fn run_hook(&self, note: &Note) -> Result<(), String> {
        let user = &self.config.break_glass.hook_user;
        let account = Account::by_name(user).map_err(|e| format!("account {user}: {e}"))?;
        let account = account.ok_or_else(|| format!("no account {user}"))?;
        let words = &self.config.break_glass.hook;
        let (path, arguments) =
            words.split_first().map_or(("", words.as_slice()), |(path, rest)| (path.as_str(), rest));
        let mut command = program(path, arguments);
        command.uid(account.uid).gid(account.gid);
        for (name, value) in [
            ("USSH_ID", note.id.as_str()),
            ("USSH_HOST", &process::host_name()),
            ("USSH_USER", &note.user),
            ("USSH_FROM", &note.from),
            ("USSH_KEY_ID", &note.key_id),
            ("USSH_SERIAL", &note.serial),
            ("USSH_KEY", &note.key),
            ("USSH_CA", &note.ca),
            ("USSH_OPENED", &note.opened.0.to_string()),
        ] {
            command.env(name, value);
        }
        run(&mut command, self.hook).and_then(|ended| ended.ok()).map(|_| ()).map_err(|e| e.to_string())
    }

    fn reports(&mut self, notes: &[Note]) {
        let waiting = self.waiting(notes, "ca");
        if waiting.is_empty() {
            return;
        }
        let file = known_hosts(&self.config.state);
        match Enrolment::read(&self.config.state) {
            Ok(enrolment) => self.tell_ca(&waiting, |notes| report_to(&enrolment, &file, notes)),
            Err(why) => self.problems.push(format!("the CA does not have it: {why}")),
        }
    }

    /// Many at once; those of a report that failed, one by one. Where there is no way to the CA no more is tried: the next run begins with others, in case it was about these.
    fn tell_ca(&mut self, notes: &[&Note], mut report: impl FnMut(Vec<String>) -> Result<(), Untold>) {
        let begun = Instant::now();
        let (failed, new): (Vec<&Note>, Vec<&Note>) = notes.iter().partition(|note| self.failed(note, "ca").is_some());
        let mut parts: VecDeque<Vec<&Note>> = new.chunks(MAX_NOTES).map(<[_]>::to_vec).collect();
        parts.extend(failed.into_iter().map(|note| vec![note]));
        while let Some(part) = parts.pop_front() {
            if begun.elapsed() >= self.time {
                let left = part.len() + parts.iter().map(Vec::len).sum::<usize>();
                return self.problems.push(format!("the CA: no time for {left} uses"));
            }
            match report(part.iter().map(|note| note.to_json()).collect()) {
                Ok(()) => {
                    for note in part {
                        self.told.push(format!("{}: the CA has it", note.id));
                        self.mark(note, "ca");
                    }
                }
                Err(Untold::Refused(_)) if part.len() > 1 => parts.extend(part.into_iter().map(|note| vec![note])),
                Err(why) => {
                    self.problems.push(format!("the CA does not have it: {why}"));
                    for note in part {
                        self.mark(note, "ca-failed");
                    }
                    if matches!(why, Untold::NoWay(_)) {
                        return;
                    }
                }
            }
        }
    }

    /// What is done is remembered while its session lives: ussh-hostd would take it for new.
    fn clean(&self) -> io::Result<()> {
        let boot_id = process::boot_id()?;
        let names = names(&self.folder)?;
        for name in &names {
            let Some((id, end)) = name.rsplit_once('.').filter(|(id, _)| is_id(id)) else { continue };
            let is_over = match end {
                "done" => !id
                    .strip_prefix(&format!("{boot_id}-"))
                    .and_then(ConnectionId::parse)
                    .is_some_and(|connection| connection.lives()),
                "wall" | "hook" | "ca" | "hook-failed" | "ca-failed" => !names.contains(&format!("{id}.json")),
                _ => false,
            };
            if is_over {
                std::fs::remove_file(self.folder.join(name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "glass_tests.rs"]
mod tests;
