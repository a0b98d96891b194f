//! The processes of one sshd connection: the one that ran open_session (the monitor), sshd's children of it, their terminals and their listening sockets.
//!
//! Every process is held by pidfd and start time, so that nothing here ever reaches another one that got the same number. /proc is the kernel's word, but the paths in
//! /proc/net/unix are the session user's: what listens at such a path is proved by the peer's process ID, not by the path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ussh_os::process::{ProcessHandle, start_time};
use ussh_os::terminal;

use crate::last_word::LastWord;
use crate::programs::Programs;
use crate::spool::ConnectionId;

/// Most of /proc/net/unix that is read, bytes.
const MAX_NET_UNIX: u64 = 32 * 1024 * 1024;
/// SO_ACCEPTCON in the flags column of /proc/net/unix (net/unix/af_unix.c `unix_seq_show`).
const LISTENING: u32 = 0x0001_0000;

/// A connection's processes.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    monitor: ProcessHandle,
    /// sshd's children that were seen so far.
    children: Vec<(ConnectionId, ProcessHandle)>,
    /// What the session had running when its end was begun.
    programs: Programs,
}

impl Connection {
    /// Holds the process.
    /// # Errors
    /// `NotFound`: it has ended; others as the kernel says.
    pub fn open(id: ConnectionId) -> io::Result<Self> {
        Ok(Connection {
            id,
            monitor: ProcessHandle::open(id.pid, id.start_time)?,
            children: Vec::new(),
            programs: Programs::default(),
        })
    }

    /// To poll on: readable when the monitor has ended.
    pub fn monitor(&self) -> &ProcessHandle {
        &self.monitor
    }

    /// The sshd children seen so far that still live.
    pub fn children(&self) -> impl Iterator<Item = &ProcessHandle> {
        self.children.iter().map(|(_, handle)| handle).filter(|handle| !has_ended(handle))
    }

    /// Whether the monitor has ended.
    pub fn monitor_ended(&self) -> bool {
        has_ended(&self.monitor)
    }

    /// Looks for sshd's children and holds them, so that they can be reached after the monitor has ended.
    pub fn hold_children(&mut self) {
        for child in sshd_children(self.id.pid) {
            if self.children.iter().any(|(known, _)| *known == child) {
                continue;
            }
            let Ok(handle) = ProcessHandle::open(child.pid, child.start_time) else { continue };
            // Still the monitor's child while the monitor lives: it was this connection's all along.
            if parent_of(child.pid) == Some(self.id.pid) && !self.monitor_ended() {
                self.children.push((child, handle));
            }
        }
    }

    /// What the session had running, held by [`Connection::hold_programs`].
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Holds everything that descends from the monitor but sshd's own children. To be called before the monitor ends: afterwards they are nobody's children.
    pub fn hold_programs(&mut self) {
        self.hold_children();
        let sshd: Vec<ConnectionId> = self.children.iter().map(|(id, _)| *id).collect();
        self.programs.hold(self.id, &self.monitor, &sshd);
    }

    /// SIGTERM to the monitor: it closes the PAM session, the terminal and the forwards.
    /// # Errors
    /// As the kernel says.
    pub fn terminate(&self) -> io::Result<()> {
        unless_gone(self.monitor.signal(nix::libc::SIGTERM))
    }

    /// SIGKILL to what the session had running and to sshd's children: the monitor then closes the session by itself. Without one (root's login up to 9.7 has none) to the monitor.
    /// # Errors
    /// As the kernel says.
    pub fn kill(&mut self) -> io::Result<()> {
        self.hold_children();
        self.programs.kill();
        if self.children().next().is_none() {
            return self.kill_monitor();
        }
        self.kill_children()
    }

    /// SIGKILL to sshd's children.
    /// # Errors
    /// As the kernel says.
    pub fn kill_children(&self) -> io::Result<()> {
        self.children().try_for_each(|child| unless_gone(child.signal(nix::libc::SIGKILL)))
    }

    /// SIGKILL to the monitor: leaves utmp behind, so only when nothing else ends it.
    /// # Errors
    /// As the kernel says.
    pub fn kill_monitor(&self) -> io::Result<()> {
        unless_gone(self.monitor.signal(nix::libc::SIGKILL))
    }

    /// Writes to every terminal of the connection.
    pub fn tell(&self, text: &str) -> Told {
        // The monitor holds its child's terminals as well, and reads them only if there is no child.
        let mut readers = BTreeMap::new();
        for pid in std::iter::once(self.id.pid).chain(sshd_children(self.id.pid).into_iter().map(|c| c.pid)) {
            readers.extend(terminal::ptys_of(pid).unwrap_or_default().into_iter().map(|number| (number, pid)));
        }
        if self.monitor_ended() {
            return Told::default();
        }
        let told = readers.into_iter().filter_map(|(number, reader)| {
            let last_word = LastWord::before_writing(reader);
            terminal::write_to_pty(number, text).is_ok().then_some(last_word)
        });
        Told { last_words: told.collect() }
    }
}

/// Terminals that took a message.
#[derive(Debug, Default)]
pub struct Told {
    /// Of each, what tells when it has been passed on.
    last_words: Vec<Option<LastWord>>,
}

impl Told {
    /// How many.
    pub fn terminals(&self) -> usize {
        self.last_words.len()
    }

    /// Whether it is passed on everywhere, as far as it ever will be.
    pub fn is_out(&self) -> bool {
        self.last_words.iter().flatten().all(|word| word.is_out())
    }
}

pub(crate) fn has_ended(handle: &ProcessHandle) -> bool {
    // A pidfd that cannot be polled is not taken for an ended process.
    handle.wait_end(Duration::ZERO).unwrap_or(false)
}

fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// Children of `monitor` that run its own program: forks of sshd, not what it started for the user.
fn sshd_children(monitor: u32) -> Vec<ConnectionId> {
    let Some(program) = program_of(monitor) else { return Vec::new() };
    let sshd = children_of(monitor).into_iter().filter(|pid| program_of(*pid) == Some(program));
    sshd.filter_map(|pid| Some(ConnectionId { pid, start_time: start_time(pid).ok()? })).collect()
}

/// Device and inode of the program that a process runs.
fn program_of(pid: u32) -> Option<(u64, u64)> {
    let m = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((m.dev(), m.ino()))
}

pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    // Each thread has its own. The file needs CONFIG_PROC_CHILDREN; without it every process is asked for its parent.
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        match std::fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(list.split_ascii_whitespace().filter_map(|p| p.parse::<u32>().ok())),
            // The thread has ended, or the kernel has no such file.
            Err(_) if thread.path().exists() => {
                return all_processes().filter(|p| parent_of(*p) == Some(pid)).collect();
            }
            Err(_) => {}
        }
    }
    children
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may hold anything: what counts comes after the last bracket.
    let after = stat.iter().rposition(|b| *b == b')')?;
    let fields = std::str::from_utf8(stat.get(after..)?).ok()?;
    fields.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// A listening Unix socket that a process of the connection holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Who holds it.
    pub holder: ConnectionId,
    /// Where it was bound; the user may have put something else there since.
    pub path: PathBuf,
    /// The holder's identity.
    pub identity: Identity,
}

/// Effective identity of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// The listening sockets of a connection's sshd processes that run as `uid`; those that look like sshd's own agent sockets first.
pub fn listeners(monitor: ConnectionId, uid: u32) -> Vec<Listener> {
    let mut found: Vec<Listener> =
        sshd_children(monitor.pid).into_iter().chain([monitor]).flat_map(|p| listeners_of(p, uid)).collect();
    found.sort_by_key(|l| !looks_like_agent(&l.path));
    found
}

fn listeners_of(holder: ConnectionId, uid: u32) -> Vec<Listener> {
    let Some(identity) = identity_of(holder.pid).filter(|i| i.uid == uid) else { return Vec::new() };
    let inodes = socket_inodes(holder.pid);
    if inodes.is_empty() {
        return Vec::new();
    }
    let mut table = Vec::new();
    let Ok(file) = File::open(format!("/proc/{}/net/unix", holder.pid)) else { return Vec::new() };
    if file.take(MAX_NET_UNIX).read_to_end(&mut table).is_err() {
        return Vec::new();
    }
    listening_paths(&table, &inodes)
        .into_iter()
        .map(|path| Listener { holder, path, identity: identity.clone() })
        .collect()
}

/// Inodes of the sockets among a process's descriptors.
fn socket_inodes(pid: u32) -> BTreeSet<u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// Paths of the listening stream sockets with one of these inodes, out of the text of /proc/net/unix
/// (`Num RefCount Protocol Flags Type St Inode Path`). A path with a newline can forge a line: see the module's header.
fn listening_paths(table: &[u8], inodes: &BTreeSet<u64>) -> Vec<PathBuf> {
    let paths = table.split(|b| *b == b'\n').filter_map(|line| {
        let mut rest = line;
        let mut field = || {
            let start = rest.iter().position(|b| *b != b' ')?;
            let end = start + rest.get(start..)?.iter().position(|b| *b == b' ')?;
            let word = std::str::from_utf8(rest.get(start..end)?).ok()?;
            rest = rest.get(end + 1..)?;
            Some(word)
        };
        let (_num, _references, _protocol) = (field()?, field()?, field()?);
        let flags = u32::from_str_radix(field()?, 16).ok()?;
        let (kind, _state, inode) = (field()?, field()?, field()?.parse().ok()?);
        let wanted = flags & LISTENING != 0 && kind == "0001" && inodes.contains(&inode) && rest.starts_with(b"/");
        wanted.then(|| PathBuf::from(std::ffi::OsStr::from_bytes(rest)))
    });
    paths.collect()
}

/// sshd's names: `/tmp/ssh-XXXXXXXXXX/agent.PID`, and since 10.1 `~/.ssh/agent/s.*.sshd.*`. Only an order of asking: nothing is decided by it.
fn looks_like_agent(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().as_bytes();
    (name.starts_with(b"agent.") && folder.starts_with(b"ssh-")) || (name.starts_with(b"s.") && folder == b"agent")
}

/// Effective uid, gid and the groups of a process, from /proc/PID/status.
fn identity_of(pid: u32) -> Option<Identity> {
    parse_identity(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_identity(status: &str) -> Option<Identity> {
    let numbers = |key: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|l| l.strip_prefix(key))?;
        line.split_ascii_whitespace().map(|n| n.parse().ok()).collect()
    };
    // Real, effective, saved, file system.
    Some(Identity { uid: *numbers("Uid:")?.get(1)?, gid: *numbers("Gid:")?.get(1)?, groups: numbers("Groups:")? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::os::unix::net::UnixListener;

    use super::*;

    const TABLE: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
0000000000000000: 00000002 00000000 00010000 0001 01   100 /tmp/ssh-abc/agent.7\n\
0000000000000000: 00000002 00000000 00010000 0001 01   101 /tmp/with space\n\
0000000000000000: 00000003 00000000 00000000 0001 03   102 /tmp/connected\n\
0000000000000000: 00000002 00000000 00010000 0005 01   103 /tmp/seqpacket\n\
0000000000000000: 00000002 00000000 00010000 0001 01   104 @abstract\n\
0000000000000000: 00000002 00000000 00010000 0001 01   105\n\
0000000000000000: 00000002 00000000 00010000 0001 01   999 /tmp/another-process\n";

    #[test]
    fn finds_listening_stream_sockets_with_a_path_only() {
        let inodes = (100..=105).collect();
        let paths = listening_paths(TABLE, &inodes);
        assert_eq!(paths, [Path::new("/tmp/ssh-abc/agent.7"), Path::new("/tmp/with space")]);
    }

    #[test]
    fn junk_in_the_table_is_skipped() {
        assert!(listening_paths(b"\n\xff\xff\n0: 1\n0: 1 2 zz 0001 01 100 /x\n", &[100].into()).is_empty());
    }

    #[test]
    fn knows_sshds_names() {
        assert!(looks_like_agent(Path::new("/tmp/ssh-XyzXyzXyz1/agent.77")));
        assert!(looks_like_agent(Path::new("/home/a/.ssh/agent/s.AbC.sshd.dEf")));
        assert!(!looks_like_agent(Path::new("/run/user/1/docker.sock")));
    }

    #[test]
    fn reads_the_effective_identity() {
        let status = "Name:\tsshd\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 11 \n";
        assert_eq!(parse_identity(status), Some(Identity { uid: 2, gid: 6, groups: vec![10, 11] }));
        assert_eq!(parse_identity("Uid:\t1\nGid:\t1 1 1 1\nGroups:\t\n"), None);
    }

    #[test]
    fn finds_this_process_own_listener() {
        let path = std::env::temp_dir().join(format!("ussh-hostd-listener-{}", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        let pid = std::process::id();
        let me = ConnectionId { pid, start_time: start_time(pid).unwrap() };
        let uid = ussh_os::process::effective_uid();
        let found = listeners(me, uid);
        let elsewhere = listeners(me, uid + 1);
        std::fs::remove_file(&path).unwrap();
        assert!(found.iter().any(|l| l.path == path && l.holder == me && l.identity.uid == uid), "{found:?}");
        assert!(elsewhere.is_empty(), "another user's session");
    }

    #[test]
    fn knows_a_child_and_its_parent() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let (me, pid) = (std::process::id(), child.id());
        assert_eq!(parent_of(pid), Some(me));
        assert!(all_processes().any(|p| p == pid));
        let sshd = sshd_children(me);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!sshd.iter().any(|c| c.pid == pid), "runs another program, so it is no fork of ours");
    }

    #[test]
    fn ended_process_is_not_held() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let id = ConnectionId { pid: child.id(), start_time: start_time(child.id()).unwrap() };
        let held = Connection::open(id).unwrap();
        assert!(!held.monitor_ended());
        assert!(Connection::open(ConnectionId { start_time: id.start_time + 1, ..id }).is_err());
        held.kill_monitor().unwrap();
        child.wait().unwrap();
        assert!(held.monitor_ended());
        held.terminate().unwrap();
        assert!(Connection::open(id).is_err());
    }
}
