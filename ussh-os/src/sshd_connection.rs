//! The sshd processes of one connection and their listening Unix sockets: the forwarded agent, and whatever the client had forwarded with `-R`.
//!
//! What is asked here is the kernel's word, but a socket's path is the session user's: he can rename what sshd bound and bind his own in its place. What listens at such a
//! path is proved by the process at the other end ([`Listener::is_at`], [`holds_other_end`]), not by the path. Each socket is asked about alone: /proc/net/unix holds those of all
//! users, and can be made as long as one of them likes.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::agent_socket::Peer;
use crate::process_tree::{
    HeldProcess, ProcessId, children_of, numbers_in, parent_of, run_same_program, shares_pid_namespace,
};
use crate::unix_diag::{OtherEnd, listening_path, other_end, waiting_at};

/// Children of `monitor`, the process that ran open_session, that run its own program: forks of sshd, not what it started for the user. Root's login up to OpenSSH 9.7 has none:
/// there the monitor itself serves the connection.
pub fn sshd_children(monitor: u32) -> Vec<ProcessId> {
    numbers_of_sshd_children(monitor).filter_map(|pid| ProcessId::of(pid).ok()).collect()
}

/// The same, by their numbers alone.
pub fn numbers_of_sshd_children(monitor: u32) -> impl Iterator<Item = u32> {
    children_of(monitor).into_iter().filter(move |pid| run_same_program(monitor, *pid))
}

/// Those that could be the monitor of the connection which `process` serves, if it is an sshd that does: its parent, and itself.
pub fn monitors_of(process: ProcessId) -> Vec<ProcessId> {
    let parent = parent_of(process.pid).filter(|parent| run_same_program(*parent, process.pid));
    parent.and_then(|parent| ProcessId::of(parent).ok()).into_iter().chain([process]).collect()
}

/// Whether a process is root's sshd of one connection, by its program's name and by its title (setproctitle in sshd.c and sshd-session.c). It proves nothing: it is for what people are told.
pub fn looks_like_monitor(pid: u32) -> bool {
    let Ok(program) = std::fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    let name = program.file_name().unwrap_or_default().as_bytes();
    // It was upgraded beneath.
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    let is_sshd = name == b"sshd" || name == b"sshd-session";
    is_sshd && effective_uid_of(pid) == Some(0) && is_title_of_one(&read_title(pid))
}

fn read_title(pid: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// The one that waits for connections has `[listener]` in its title, or, up to OpenSSH 8.1, none.
fn is_title_of_one(title: &[u8]) -> bool {
    let is_listener = title.windows(b"[listener]".len()).any(|part| part == b"[listener]");
    (title.starts_with(b"sshd: ") || title.starts_with(b"sshd-session: ")) && !is_listener
}

/// Connections of this pid namespace whose users have logged in, each with the user ID that it serves. As [`looks_like_monitor`], it is for what people are told.
#[must_use]
pub fn logged_in() -> Vec<(ProcessId, u32)> {
    let monitors = numbers_in("/proc").filter(|pid| looks_like_monitor(*pid));
    // Root's serving process looks like one as well.
    let own = monitors.filter(|pid| !parent_of(*pid).is_some_and(looks_like_monitor));
    let here = own.filter(|pid| shares_pid_namespace(*pid).unwrap_or(false));
    // All that was asked was asked of one process.
    let found = here.filter_map(|pid| {
        let id = ProcessId::of(pid).ok()?;
        let uid = looks_like_monitor(pid).then(|| whom_it_serves(pid))??;
        id.lives().then_some((id, uid))
    });
    found.collect()
}

/// `None`: nobody has logged in yet, or any more.
fn whom_it_serves(monitor: u32) -> Option<u32> {
    let mut children = sshd_children(monitor);
    if children.is_empty() {
        children.extend(ProcessId::of(monitor));
    }
    let server = children.into_iter().find(|child| is_title_of_server(&read_title(child.pid)))?;
    effective_uid_of(server.pid)
}

/// `alice@pts/0`, or `alice` where she has no terminal or command; all others have brackets: `[accepted]`, `[net]`, `[priv]`.
fn is_title_of_server(title: &[u8]) -> bool {
    is_title_of_one(title) && !title.contains(&b'[')
}

/// A listening Unix socket that a process of the connection holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Who holds it.
    pub holder: ProcessId,
    /// Where it was bound; the user may have put something else there since.
    pub path: PathBuf,
    /// The holder's identity.
    pub identity: Identity,
}

impl Listener {
    /// Whether `peer`, which a connection to the path has met, is the holder: the user can rename sshd's socket and bind his own there.
    pub fn is_at(&self, peer: Peer) -> bool {
        u32::try_from(peer.pid) == Ok(self.holder.pid) && self.holder.lives()
    }
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
pub fn listeners(monitor: ProcessId, uid: u32) -> Vec<Listener> {
    let mut found: Vec<Listener> =
        sshd_children(monitor.pid).into_iter().chain([monitor]).flat_map(|p| listeners_of(p, uid)).collect();
    found.sort_by_key(|l| !looks_like_agent(&l.path));
    found
}

fn listeners_of(holder: ProcessId, uid: u32) -> Vec<Listener> {
    let Some(identity) = identity_of(holder.pid).filter(|i| i.uid == uid) else { return Vec::new() };
    let inodes = socket_inodes(holder.pid).into_iter();
    inodes
        // One that cannot be asked about is a network socket, or of another network namespace.
        .filter_map(|inode| listening_path(inode).ok().flatten())
        .map(|path| Listener { holder, path, identity: identity.clone() })
        .collect()
}

/// Whether `pid` itself serves the connection at whose near end is our socket with this inode ([`crate::unix_diag::inode_of`]): it holds the socket at the other end, or the listening one where the connection still waits. The process ID that
/// SO_PEERCRED gives cannot tell: it is a number noted when listen() was called, by a process that may have left the socket to others and its number to sshd since.
/// `false` also if the other end is in another network namespace. To be believed, `pid` must be the same process before and after.
/// # Errors
/// The kernel cannot be asked.
pub fn holds_other_end(pid: u32, mine: u32) -> io::Result<bool> {
    // Accepted between the two questions, it is seen by the second round.
    for _ in 0..2 {
        if let OtherEnd::Accepted(inode) = other_end(mine)? {
            return Ok(socket_inodes(pid).contains(&inode));
        }
        let mut held = socket_inodes(pid).into_iter();
        if held.any(|inode| waiting_at(inode).is_ok_and(|waiting| waiting.contains(&mine))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why a connection of ours does not lead to an sshd process of one connection of sshd's.
#[derive(Debug, thiserror::Error)]
pub enum NotCarried {
    /// It runs in another pid namespace, or has ended.
    #[error("the agent's process is not to be seen here")]
    NotSeen,
    /// Another program, or an sshd of another connection.
    #[error("pid {0} is no sshd process of this connection")]
    NotItsSshd(u32),
    /// The number tells of sshd, the kernel does not.
    #[error("pid {0} is sshd's, but does not hold the agent's socket")]
    NotHeld(u32),
    /// One of the two processes ended while it was looked at.
    #[error("the connection has ended")]
    Ended,
    /// No descriptor is left to hold it by: whether it has ended, nobody knows.
    #[error("the agent's process cannot be looked at: {0}")]
    NotLookedAt(io::Error),
    /// The kernel cannot be asked.
    #[error("sock_diag: {0}")]
    Unavailable(io::Error),
}

/// The sshd process of one connection that is itself at the other end of our socket with this inode ([`crate::unix_diag::inode_of`]): what is said there goes to the client of that
/// connection. `monitor` is the process that ran open_session; `peer`, who listened, is a hint where to look and no more.
/// # Errors
/// [`NotCarried`]
pub fn carrier_of(monitor: &HeldProcess, peer: Peer, mine: u32) -> Result<HeldProcess, NotCarried> {
    let pid = u32::try_from(peer.pid).ok().filter(|pid| *pid != 0).ok_or(NotCarried::NotSeen)?;
    let unless_gone =
        |gone| move |e: io::Error| if e.kind() == io::ErrorKind::NotFound { gone } else { NotCarried::NotLookedAt(e) };
    let sshd = ProcessId::of(pid).map_err(unless_gone(NotCarried::NotSeen))?;
    let sshd = HeldProcess::open(sshd).map_err(unless_gone(NotCarried::Ended))?;
    let is_its_sshd = || monitors_of(sshd.id).contains(&monitor.id);
    if !is_its_sshd() {
        return Err(if monitor.has_ended() { NotCarried::Ended } else { NotCarried::NotItsSshd(pid) });
    }
    if !holds_other_end(pid, mine).map_err(NotCarried::Unavailable)? {
        return Err(NotCarried::NotHeld(pid));
    }
    // All that was read is of these two only if they have lived all the while, and are still what they were to each other.
    if !is_its_sshd() || sshd.has_ended() || monitor.has_ended() {
        return Err(NotCarried::Ended);
    }
    Ok(sshd)
}

/// Inodes of the sockets among a process's descriptors.
pub(crate) fn socket_inodes(pid: u32) -> BTreeSet<u32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.filter_map(|link| inode_in(&link)).collect()
}

/// Inode of the socket that a process has as this descriptor.
pub(crate) fn socket_at(pid: u32, descriptor: u64) -> Option<u32> {
    inode_in(&std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?)
}

/// `socket:[INODE]` (proc(5)).
fn inode_in(link: &Path) -> Option<u32> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// sshd's names: `/tmp/ssh-XXXXXXXXXX/agent.PID`, and since 10.1 `~/.ssh/agent/s.*.sshd.*`. Only an order of asking: nothing is decided by it.
pub(crate) fn looks_like_agent(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().as_bytes();
    (name.starts_with(b"agent.") && folder.starts_with(b"ssh-")) || (name.starts_with(b"s.") && folder == b"agent")
}

/// Effective uid, gid and the groups of a process, from /proc/PID/status.
fn identity_of(pid: u32) -> Option<Identity> {
    // The program's name in it may be any bytes.
    parse_identity(&String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/status")).ok()?))
}

/// As whom a process acts; `None`: it is gone.
#[must_use]
pub fn effective_uid_of(pid: u32) -> Option<u32> {
    identity_of(pid).map(|identity| identity.uid)
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
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::unix_diag::inode_of;

    #[test]
    fn knows_sshds_names() {
        assert!(looks_like_agent(Path::new("/tmp/ssh-XyzXyzXyz1/agent.77")));
        assert!(looks_like_agent(Path::new("/home/a/.ssh/agent/s.AbC.sshd.dEf")));
        assert!(!looks_like_agent(Path::new("/run/user/1/docker.sock")));
    }

    #[test]
    fn one_that_waits_for_connections_is_no_connections() {
        for (title, said) in [
            ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0", false),
            ("/usr/sbin/sshd\0-D\0", false),
            ("sshd: alice [priv]\0", true),
            ("sshd-session: alice [priv]\0", true),
            ("sshd: root@pts/0\0", true),
        ] {
            assert_eq!(is_title_of_one(title.as_bytes()), said, "{title}");
        }
        for (title, said) in [
            ("sshd: alice\0", true),
            ("sshd: alice@pts/0,pts/1\0", true),
            ("sshd-session: root@notty\0", true),
            ("sshd: alice [priv]\0", false),
            ("sshd: alice [net]\0", false),
            ("sshd-session: [accepted]\0", false),
            ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0", false),
        ] {
            assert_eq!(is_title_of_server(title.as_bytes()), said, "{title}");
        }
        assert!(!looks_like_monitor(std::process::id()), "a test is no sshd");
        assert!(!looks_like_monitor(u32::MAX));
    }

    #[test]
    fn reads_the_effective_identity() {
        let status = "Name:\tsshd\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 11 \n";
        assert_eq!(parse_identity(status), Some(Identity { uid: 2, gid: 6, groups: vec![10, 11] }));
        assert_eq!(parse_identity("Uid:\t1\nGid:\t1 1 1 1\nGroups:\t\n"), None);
    }

    #[test]
    fn finds_this_process_own_listener() {
        let path = std::env::temp_dir().join(format!("ussh-os-listener-{}", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        let me = ProcessId::of(std::process::id()).unwrap();
        let uid = crate::process::effective_uid();
        let found = listeners(me, uid);
        let elsewhere = listeners(me, uid + 1);
        std::fs::remove_file(&path).unwrap();
        assert!(found.iter().any(|l| l.path == path && l.holder == me && l.identity.uid == uid), "{found:?}");
        assert!(elsewhere.is_empty(), "another user's session");
    }

    /// Stands for sshd's monitor: a program that forks, and serves what it is told to.
    /// `child PATH`: a fork of it listens there; it never accepts. `accept PATH`: one that accepts. `leave PATH`: one listens there, leaves the socket to a fork of its own and ends.
    /// `again PID PATH`: as `accept`, in a process with that number. Each says `PID of who listened, PID of who holds it`.
    const MONITOR: &str = r#"
use IO::Socket::UNIX; use POSIX (); $| = 1; my @all;
sub bind_at { my $l = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $_[0], Listen => 5) or die "$_[0]: $!"; $l }
sub serve { my ($l, $accept) = @_; my @c; while (1) { if ($accept) { push @c, scalar $l->accept } else { sleep 60 } } }
sub forked { my ($path, $accept, $leave) = @_; pipe(my $r, my $w); my $pid = fork;
  if (!$pid) { close $r; my $l = bind_at($path); my $holder = $$; my $heir = $leave ? fork : 0;
    if ($heir) { syswrite $w, "$$ $heir
"; POSIX::_exit(0) }
    syswrite $w, "$$ $$
" unless $leave; close $w; serve($l, $accept) }
  close $w; my $line = <$r>; waitpid($pid, 0) if $leave; push @all, split ' ', $line; $line }
while (<STDIN>) { my ($what, @rest) = split;
  if ($what eq 'child') { print forked($rest[0], 0, 0) }
  if ($what eq 'accept') { print forked($rest[0], 1, 0) }
  if ($what eq 'leave') { print forked($rest[0], 1, 1) }
  if ($what eq 'again') { my $line = ''; for (1..200) { unlink $rest[1];
      open(my $n, '>', '/proc/sys/kernel/ns_last_pid') or die; syswrite $n, $rest[0] - 1; close $n;
      $line = forked($rest[1], 1, 0); last if $line eq "$rest[0] $rest[0]
"; my ($p) = split ' ', $line; kill 9, $p; waitpid($p, 0) }
    print $line } }
kill 9, @all;
"#;

    struct Monitor {
        child: std::process::Child,
        lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
        folder: PathBuf,
    }

    impl Monitor {
        fn start(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("ussh-os-sshd-{name}-{}", std::process::id()));
            std::fs::create_dir(&folder).unwrap();
            let piped = std::process::Stdio::piped;
            let mut child = std::process::Command::new("/usr/bin/perl")
                .args(["-e", MONITOR])
                .stdin(piped())
                .stdout(piped())
                .spawn()
                .unwrap();
            let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
            Monitor { child, lines, folder }
        }

        fn id(&self) -> ProcessId {
            ProcessId::of(self.child.id()).unwrap()
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.join(name)
        }

        /// Who listened, and who holds the socket.
        fn tell(&mut self, command: &str, name: &str) -> (u32, u32) {
            let path = self.path(name);
            let stdin = self.child.stdin.as_mut().unwrap();
            std::io::Write::write_all(stdin, format!("{command} {}\n", path.display()).as_bytes()).unwrap();
            let line = self.lines.next().unwrap().unwrap();
            let (listened, holds) = line.split_once(' ').unwrap();
            (listened.parse().unwrap(), holds.parse().unwrap())
        }

        fn connect(&self, name: &str) -> (UnixStream, Peer) {
            let stream = UnixStream::connect(self.path(name)).unwrap();
            let peer = crate::agent_socket::peer_of(&stream).unwrap();
            (stream, peer)
        }

        fn listener(&self, name: &str) -> Listener {
            let found = listeners(self.id(), crate::process::effective_uid());
            found.into_iter().find(|listener| listener.path == self.path(name)).unwrap()
        }
    }

    impl Drop for Monitor {
        fn drop(&mut self) {
            // At the end of its input it ends its forks.
            drop(self.child.stdin.take());
            self.child.wait().unwrap();
            std::fs::remove_dir_all(&self.folder).unwrap();
        }
    }

    #[test]
    fn a_connection_to_sshds_own_socket_is_served_by_its_holder_accepted_or_not() {
        let mut sshd = Monitor::start("own");
        for (command, name) in [("child", "waits"), ("accept", "accepts")] {
            let (_, holder) = sshd.tell(command, name);
            let listener = sshd.listener(name);
            assert_eq!(listener.holder.pid, holder);
            assert!(sshd_children(sshd.id().pid).contains(&listener.holder));
            assert_eq!(monitors_of(listener.holder), [sshd.id(), listener.holder]);
            let (stream, peer) = sshd.connect(name);
            assert!(listener.is_at(peer), "{name}");
            assert!(holds_other_end(holder, inode_of(&stream).unwrap()).unwrap(), "{name}");
            for other in [sshd.id().pid, std::process::id(), u32::MAX] {
                assert!(!holds_other_end(other, inode_of(&stream).unwrap()).unwrap(), "{name} {other}");
            }
        }
    }

    #[test]
    fn a_socket_that_took_the_place_of_sshds_is_not_taken_for_it() {
        let mut sshd = Monitor::start("place");
        let (_, holder) = sshd.tell("accept", "agent");
        std::fs::rename(sshd.path("agent"), sshd.path("moved")).unwrap();
        let _mine = UnixListener::bind(sshd.path("agent")).unwrap();
        let listener = sshd.listener("agent");
        assert_eq!(listener.holder.pid, holder, "the table still shows sshd's at that path");
        let (stream, peer) = sshd.connect("agent");
        assert!(!listener.is_at(peer));
        assert!(!holds_other_end(holder, inode_of(&stream).unwrap()).unwrap());
        let (stream, peer) = sshd.connect("moved");
        assert!(listener.is_at(peer) && holds_other_end(holder, inode_of(&stream).unwrap()).unwrap());
    }

    #[test]
    fn a_number_that_sshd_got_from_whoever_listened_makes_it_nobodys_socket() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let mut sshd = Monitor::start("number");
        let (listened, holder) = sshd.tell("leave", "old");
        assert_ne!(listened, holder);
        assert!(!ProcessId::of(listened).is_ok_and(ProcessId::lives), "it has ended");
        let (again, _) = sshd.tell(&format!("again {listened}"), "agent");
        assert_eq!(again, listened, "the kernel gave the number once more");
        std::fs::rename(sshd.path("agent"), sshd.path("moved")).unwrap();
        std::fs::rename(sshd.path("old"), sshd.path("agent")).unwrap();
        let (stream, peer) = sshd.connect("agent");
        assert!(sshd.listener("agent").is_at(peer), "by its number alone it is sshd");
        assert!(!holds_other_end(again, inode_of(&stream).unwrap()).unwrap());
        assert!(holds_other_end(holder, inode_of(&stream).unwrap()).unwrap());
    }

    #[test]
    fn a_connection_is_carried_by_an_sshd_process_of_the_one_that_is_meant_alone() {
        let (mut sshd, mut other) = (Monitor::start("carrier"), Monitor::start("another"));
        let (_, holder) = sshd.tell("accept", "agent");
        other.tell("accept", "agent");
        let [monitor, others] = [sshd.id(), other.id()].map(|id| HeldProcess::open(id).unwrap());
        let (stream, peer) = sshd.connect("agent");
        let mine = inode_of(&stream).unwrap();
        assert_eq!(carrier_of(&monitor, peer, mine).unwrap().id.pid, holder);
        let why = |monitor, peer, mine| carrier_of(monitor, peer, mine).unwrap_err();
        assert!(matches!(why(&others, peer, mine), NotCarried::NotItsSshd(pid) if pid == holder));
        let (theirs, their_peer) = other.connect("agent");
        assert!(matches!(why(&monitor, peer, inode_of(&theirs).unwrap()), NotCarried::NotHeld(pid) if pid == holder));
        assert!(matches!(why(&monitor, their_peer, inode_of(&theirs).unwrap()), NotCarried::NotItsSshd(_)));
        assert!(matches!(why(&monitor, Peer { pid: 0, ..peer }, mine), NotCarried::NotSeen));
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(why(&monitor, Peer { pid: me, ..peer }, mine), NotCarried::NotItsSshd(_)));
        // Where no process of its own serves it, the monitor does (root's login).
        let folder = sshd.path("own");
        let listener = UnixListener::bind(&folder).unwrap();
        let stream = UnixStream::connect(&folder).unwrap();
        let this = HeldProcess::open(ProcessId::of(std::process::id()).unwrap()).unwrap();
        let peer_here = crate::agent_socket::peer_of(&stream).unwrap();
        let _accepted = listener.accept().unwrap();
        assert_eq!(carrier_of(&this, peer_here, inode_of(&stream).unwrap()).unwrap().id, this.id);

        drop((theirs, other));
        // Nobody may have waited for it yet.
        assert!(matches!(why(&others, their_peer, mine), NotCarried::NotSeen | NotCarried::Ended));
        assert!(matches!(why(&others, peer, mine), NotCarried::Ended), "the monitor has");
    }

    #[test]
    fn a_program_that_sshd_started_is_none_of_its_processes() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let (sshd, program) = (sshd_children(std::process::id()), ProcessId::of(child.id()).unwrap());
        let monitors = monitors_of(program);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!sshd.contains(&program));
        assert_eq!(monitors, [program]);
    }
}
