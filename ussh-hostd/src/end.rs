//! `end ID`: a session is ended by hand, as the daemon ends one whose certificate has run out, and without it: what the daemon sees is a session that has ended.

use std::time::{Duration, Instant};

use ussh_core::escape::escape;
use ussh_os::account::Account;
use ussh_os::cgroup::Cgroup;
use ussh_os::process;
use ussh_os::sshd_connection::logged_in;

use crate::cell::Cell;
use crate::config::Config;
use crate::connection::Connection;
use crate::report::{Report, Severity, on_terminal};
use crate::session::LAST_WORD;
use crate::show::daemon_pid;
use crate::spool::{ConnectionId, Found, Spool};

const SENTENCE: &str = "an administrator of this host ends this session now.";
/// From one look at what still lives to the next.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long SIGKILL may take, after the grace.
const KILLED: Duration = Duration::from_secs(5);

/// Why it goes on.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// It names no session.
    #[error("no session {0}: `ussh-hostd sessions` lists them, by the number in the first column")]
    None(String),
    /// It cannot be reached.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// It does not end.
    #[error("the session lives on after SIGKILL")]
    Lives,
}

/// What `end` takes: the number in the first column of `sessions`, or number and start time (`PID-START`).
/// # Errors
/// It is neither, for whoever typed it.
pub fn parse_name(text: &str) -> Result<String, &'static str> {
    let (pid, start) = text.split_once('-').map_or((text, None), |(pid, start)| (pid, Some(start)));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u64>().is_ok();
    let is_pid = is_number(pid) && pid.parse::<i32>().is_ok_and(|pid| pid > 0);
    (is_pid && start.is_none_or(is_number)).then(|| text.to_owned()).ok_or(NO_NAME)
}

const NO_NAME: &str = "not a process ID; `ussh-hostd sessions` lists the sessions, by the number in the first column";

/// Ends the session of this name ([`parse_name`]).
/// # Errors
/// [`EndError`]
pub fn end(config: &Config, name: &str) -> Result<String, EndError> {
    let (id, owner) = find(&Spool::new(&config.spool), name)?;
    // Under the process ID alone it might be another one by now: it is held by its start time.
    let is_gone_already = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    let mut connection = Connection::open(id)
        .map_err(|e| if is_gone_already(&e) { EndError::None(name.to_owned()) } else { e.into() })?;
    let who = format!("user {} pid {}", owner.as_ref().map_or("unknown", |owner| &owner.name), id.pid);
    let report = Report::quiet();
    let told = connection.tell(owner.map(|owner| owner.uid), &on_terminal(SENTENCE));
    report.line(Severity::Notice, &format!("Ending session by hand: {who}; terminals told: {}", told.terminals()));
    let cell = Cell::find(id).ok().flatten();
    let whole = cell.clone().filter(|cell| config.kill_user_processes && is_whole(cell, id, config));
    // Once before the client may close the connection, and once for what has come since.
    connection.hold_programs();
    wait(&connection, LAST_WORD, |_| told.is_out());
    connection.hold_programs();
    if let Some(cell) = &whole {
        connection.hold_all_in(cell.group())?;
    }
    if let Some(cell) = &cell {
        cell.free_sshd()?;
    }
    let frozen = cell.filter(Cell::is_frozen);
    connection.terminate()?;
    connection.programs().hang_up();
    if let Some(cell) = frozen {
        // It cannot take a SIGHUP, and is not let go on for it.
        cell.kill()?;
    }
    if !wait(&connection, config.timing.grace, is_gone) {
        connection.kill()?;
        if !wait(&connection, KILLED, is_gone) {
            connection.kill_monitor()?;
        }
        if !wait(&connection, KILLED, is_gone) {
            return Err(EndError::Lives);
        }
    }
    if let Some(cell) = whole {
        // What has come since, and what is beyond the number that is held. The daemon, if it runs, may have taken the group away.
        cell.kill_all()?;
        cell.leave_killed();
    }
    let programs = connection.programs().count();
    Ok(format!("ended: {}, with {programs} of its processes", escape(who.as_bytes(), 256)))
}

/// Whether nobody is in the session's group who must not end with it.
fn is_whole(cell: &Cell, id: ConnectionId, config: &Config) -> bool {
    let daemon = daemon_pid(&config.lock_file());
    let is_in_it = |pid: u32| Cgroup::of(pid).is_ok_and(|its| its == *cell.group());
    matches!(cell.stranger(id), Ok(None)) && !daemon.is_some_and(is_in_it)
}

fn is_gone(connection: &Connection) -> bool {
    connection.monitor_ended() && connection.children().next().is_none() && !connection.programs().any_lives()
}

/// Whether it came to be within this time.
fn wait(connection: &Connection, time: Duration, is_done: impl Fn(&Connection) -> bool) -> bool {
    let deadline = Instant::now() + time;
    while !is_done(connection) {
        if Instant::now() >= deadline {
            return false;
        }
        // A monitor that ends is seen at once.
        if connection.monitor_ended() || connection.monitor().wait_end(LOOK_EVERY).is_err() {
            std::thread::sleep(LOOK_EVERY);
        }
    }
    true
}

/// Whose it is.
struct Owner {
    name: String,
    uid: u32,
}

/// Without an owner: its record does not read.
fn find(spool: &Spool, name: &str) -> Result<(ConnectionId, Option<Owner>), EndError> {
    let boot_id = process::boot_id()?;
    let fits = |id: &ConnectionId| id.stem() == name || id.pid.to_string() == name;
    let listing = spool.list()?;
    let Some(id) = listing.connections.into_iter().find(fits) else {
        let unrecorded = logged_in().into_iter().find(|(id, _)| fits(id));
        let (id, uid) = unrecorded.ok_or_else(|| EndError::None(escape(name.as_bytes(), 64)))?;
        let account = Account::by_uid(uid)?;
        return Ok((id, Some(Owner { name: account.map_or_else(|| uid.to_string(), |account| account.name), uid })));
    };
    match spool.read(id, &boot_id) {
        Ok(Found::Live(record)) => Ok((id, Some(Owner { name: record.user, uid: record.uid }))),
        Ok(Found::OtherBoot) => Err(EndError::None(name.to_owned())),
        Err(_) => Ok((id, None)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::test_support::{record_of, trusted_folder};

    fn config(folder: &Path) -> Config {
        Config::parse(&format!("spool = '{}/h/sessions'\ngrace_seconds = 1", folder.display()), Path::new("t")).unwrap()
    }

    fn record(config: &Config, id: ConnectionId) {
        Spool::new(&config.spool).make().unwrap();
        let file = config.spool.join(format!("{}.json", id.stem()));
        std::fs::write(file, serde_json::to_string(&record_of(id, None)).unwrap()).unwrap();
    }

    /// A program in a session's place that ignores what it is told; gone with this value in any case.
    struct Stubborn(std::process::Child);

    impl Stubborn {
        fn start() -> Self {
            let script = "trap '' TERM HUP; echo; while :; do read line; done";
            let mut child = Command::new("/bin/sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            Stubborn(child)
        }

        fn id(&self) -> ConnectionId {
            ConnectionId::of(self.0.id()).unwrap()
        }
    }

    impl Drop for Stubborn {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_session_is_named_by_its_process_id_alone_or_with_its_start_time() {
        for name in ["1", "4711", "4711-98765", "007"] {
            assert_eq!(parse_name(name).as_deref(), Ok(name));
        }
        for wrong in ["", "abc", "-1", "+1", "0", "1.5", " 1", "1 ", "4711-", "4711-x", "-", "2147483648", "alice"] {
            assert_eq!(parse_name(wrong), Err(NO_NAME), "{wrong:?}");
        }
    }

    #[test]
    fn sshd_that_a_killed_daemon_has_left_stopped_closes_the_session_itself() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = trusted_folder();
        let config = config(folder.path());
        let mut sshd = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let id = ConnectionId::of(sshd.id()).unwrap();
        record(&config, id);
        let cell = Cell::find_or_make(id).unwrap();
        cell.group().freeze().unwrap();
        let reaper = std::thread::spawn(move || sshd.wait().unwrap());
        end(&config, &id.stem()).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&reaper.join().unwrap()), Some(15));
        cell.leave();
    }

    #[test]
    fn the_session_that_is_named_ends_and_no_other_although_it_ignores_what_it_is_told() {
        let folder = trusted_folder();
        let config = config(folder.path());
        let (mut named, mut other) = (Stubborn::start(), Stubborn::start());
        let (id, other_id) = (named.id(), other.id());
        [id, other_id].iter().for_each(|id| record(&config, *id));
        assert!(matches!(end(&config, "1"), Err(EndError::None(_))));
        let reaper = std::thread::spawn(move || named.0.wait().unwrap());
        let said = end(&config, &id.stem()).unwrap();
        assert!(said.starts_with("ended: user alice pid "), "{said}");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&reaper.join().unwrap()), Some(9));
        assert!(other_id.lives() && other.0.try_wait().unwrap().is_none());
        drop(other);
        assert!(matches!(end(&config, &other_id.pid.to_string()), Err(EndError::None(_))), "gone");
    }
}
