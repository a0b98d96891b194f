//! Break-glass on this host: what sshd trusts, and telling everybody of each use: terminals, the hook, the CA.
//!
//! Each use is a file `ID.json` (`ussh_core::break_glass`) until all know of it, then `ID.done` for as long as its session lives. `ID.wall`, `ID.hook` and `ID.ca` say who knows already, so that nobody is told twice
//! by a run that was killed, unless between the telling and its mark; the CA takes one use once. Process: `ussh-hostd report`, a run of its own, which waits for hook and network in the daemon's place.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ussh_core::break_glass::{MARK, MAX_NOTE, Note, is_id, service_of};
use ussh_core::ca_file::is_marked;
use ussh_core::clock::UnixTime;
use ussh_core::enroll::{Exchange, MAX_NOTES};
use ussh_core::keys::PublicKey;
use ussh_core::trusted_file::read_trusted;
use ussh_os::account::Account;
use ussh_os::process;

use crate::ca_ssh::CaServer;
use crate::child::{Bounds, program, run};
use crate::config::Config;
use crate::connection::Connection;
use crate::enroll::read_private;
use crate::enrolment::{Enrolment, known_hosts};
use crate::report::on_terminal;
use crate::spool::{ConnectionId, Found, Spool};

/// How long the hook may take, and most that it may say, bytes.
const HOOK: Bounds = Bounds { time: Duration::from_secs(60), bytes: 64 * 1024 };
/// From when on a use that somebody does not know of is an alarm, seconds.
const LATE: u64 = 600;

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
}

impl Waiting {
    /// Looks.
    pub fn read(config: &Config) -> io::Result<Self> {
        let notes = notes(&config.break_glass_folder())?;
        Ok(Waiting {
            since: notes.iter().filter_map(|(_, note)| Some(note.as_ref()?.opened)).min(),
            count: notes.len(),
        })
    }

    /// Whether somebody must hear of it.
    pub fn is_late(&self, now: UnixTime) -> bool {
        self.count > 0 && self.since.is_none_or(|since| now.0.saturating_sub(since.0) >= LATE)
    }
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

/// Tells whoever does not know. What it did, for people.
/// # Errors
/// [`ReportError`]; what is not done stays to be done.
pub fn report(config: &Config) -> Result<Vec<String>, ReportError> {
    report_within(config, HOOK)
}

fn report_within(config: &Config, hook: Bounds) -> Result<Vec<String>, ReportError> {
    let folder = config.break_glass_folder();
    let failed = |e| ReportError::Folder(folder.clone(), e);
    let lock = match File::open(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    lock.try_lock().map_err(|_| ReportError::Busy)?;
    let mut queue = Queue { config, hook, folder: folder.clone(), told: Vec::new(), problems: Vec::new() };
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

struct Queue<'c> {
    config: &'c Config,
    hook: Bounds,
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

    /// One that fails keeps the others from theirs until the next run: it may take a minute each.
    fn hooks(&mut self, notes: &[Note]) {
        if self.config.break_glass.hook.is_empty() {
            return;
        }
        for note in notes {
            if self.knows(note, "hook") {
                continue;
            }
            match self.run_hook(note) {
                Ok(()) => {
                    self.told.push(format!("{}: the hook has run", note.id));
                    self.mark(note, "hook");
                }
                Err(why) => return self.problems.push(format!("break_glass_hook: {why}")),
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
        let open: Vec<&Note> = notes.iter().filter(|note| !self.knows(note, "ca")).collect();
        for part in open.chunks(MAX_NOTES) {
            match self.tell_ca(part) {
                Ok(()) => {
                    for note in part {
                        self.told.push(format!("{}: the CA has it", note.id));
                        self.mark(note, "ca");
                    }
                }
                Err(why) => return self.problems.push(format!("the CA does not have it: {why}")),
            }
        }
    }

    fn tell_ca(&self, notes: &[&Note]) -> Result<(), String> {
        let enrolment = Enrolment::read(&self.config.state).map_err(|e| e.to_string())?;
        let keys = enrolment.keys.iter().map(|path| read_private(path));
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
        let file = known_hosts(&self.config.state);
        let notes = notes.iter().map(|note| note.to_json()).collect();
        CaServer::of(&enrolment, &file).report(Exchange::break_glass(notes, keys)).map_err(|e| e.to_string())
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
                "wall" | "hook" | "ca" => !names.contains(&format!("{id}.json")),
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
