//! What sshd itself carries for a connection: forwarded ports and sockets, X11, tunnels. They need no process of the user's, so stopping his processes does not stop them.
//!
//! Told by the descriptors of the sshd process that serves the connection. Its monitor was there before it and has none of the client's wishes: what both hold (the client's
//! connection, the log) is none. Seen is what is in use: a client that only listens on its own side (`-L`, `-D`) has nothing here until somebody connects.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::births::Call;
use crate::process_tree::ProcessId;
use crate::sshd_connection::{looks_like_agent, socket_inodes, sshd_children};
use crate::unix_diag::{Use, use_of};

/// Sockets of services that a program asks without its user's knowing: the log, and who is who. By their whole names, as a client of ours names one too: beside them in their folders are those
/// by which root has the host do anything (`/run/systemd/private`, the system bus), and systemd's own account service, whose socket takes other orders as well.
const SERVICES: [&[u8]; 10] = [
    b"/dev/log",
    b"/run/systemd/journal/dev-log",
    b"/run/systemd/userdb/io.systemd.Multiplexer",
    b"/run/nscd/socket",
    b"/var/run/nscd/socket",
    b"/var/lib/sss/pipes/nss",
    b"/run/nslcd/socket",
    b"/var/run/nslcd/socket",
    b"/run/samba/winbindd/pipe",
    b"/var/run/samba/winbindd/pipe",
];
/// What sshd has as its standard error from systemd: it never connects there itself.
const STDERR: &[u8] = b"/run/systemd/journal/stdout";

/// A forward that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// A socket of the network's: listening (`-R`, X11) or connected (`-L`, `-D`, `-W`).
    Network,
    /// A Unix socket at this path.
    Unix(PathBuf),
    /// `-w`.
    Tunnel,
}

impl std::fmt::Display for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Forward::Network => write!(f, "a forwarded port"),
            Forward::Unix(path) => write!(f, "a forwarded socket at {}", path.display()),
            Forward::Tunnel => write!(f, "a forwarded tunnel"),
        }
    }
}

/// The sshd processes that serve the connection: those of the monitor's children that hold the client's connection, or else itself (root up to 9.7). Other forks of sshd
/// (`internal-sftp`) are programs of the user's.
#[must_use]
pub fn servers(monitor: ProcessId) -> Vec<ProcessId> {
    let children = sshd_children(monitor.pid);
    // The client's came first, and has the lowest number.
    let client = first_of_network(monitor.pid).ok().flatten();
    let serves = |child: &ProcessId| client.is_none_or(|client| is_held(child.pid, client));
    let serving: Vec<ProcessId> = children.into_iter().filter(serves).collect();
    if serving.is_empty() { vec![monitor] } else { serving }
}

/// The first forward of a connection that is found, if any.
/// # Errors
/// The kernel cannot be asked.
pub fn forward_of(monitor: ProcessId) -> io::Result<Option<Forward>> {
    let servers = servers(monitor);
    if servers.contains(&monitor) {
        return first_forward(monitor.pid, &first_of_network(monitor.pid)?.into_iter().collect());
    }
    let shared = socket_inodes(monitor.pid);
    for child in servers {
        if let Some(forward) = first_forward(child.pid, &shared)? {
            return Ok(Some(forward));
        }
    }
    Ok(None)
}

/// The forward that a serving process of the connection is about to begin, if its call is none for the agent or a service.
/// # Errors
/// As [`forward_of`].
pub fn forward_by(monitor: ProcessId, call: &Call) -> io::Result<Option<Forward>> {
    match call {
        Call::Connect(address) => Ok(forward_to(address)),
        // Of a listener that is there, and is the agent's or a forward.
        Call::Accept(_) => forward_of(monitor),
        Call::Tunnel => Ok(Some(Forward::Tunnel)),
    }
}

fn forward_to(address: &[u8]) -> Option<Forward> {
    let Some((family, name)) = address.split_first_chunk() else { return Some(Forward::Network) };
    if i32::from(u16::from_ne_bytes(*family)) != nix::libc::AF_UNIX {
        return Some(Forward::Network);
    }
    let end = name.iter().skip(1).position(|byte| *byte == 0).map_or(name.len(), |end| end + 1);
    let path = name.get(..end).unwrap_or_default();
    (!is_service(path) || !is_of_root(path)).then(|| Forward::Unix(path_of(path)))
}

/// A client names the path here: it must not lead elsewhere. Nobody else can put one there that is not there yet.
fn is_of_root(path: &[u8]) -> bool {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let is_plain = !path.components().any(|part| part == std::path::Component::ParentDir);
    is_plain
        && match std::fs::metadata(path) {
            Ok(found) => std::os::unix::fs::MetadataExt::uid(&found) == 0,
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        }
}

fn is_service(path: &[u8]) -> bool {
    SERVICES.contains(&without_end(path))
}

/// bind(2) may have counted the NUL behind the path. One in front stays: such a name is no path.
fn without_end(name: &[u8]) -> &[u8] {
    name.iter().rposition(|byte| *byte != 0).map_or(&[], |last| name.get(..=last).unwrap_or_default())
}

fn path_of(name: &[u8]) -> PathBuf {
    let name = name.split(|byte| *byte == 0).find(|part| !part.is_empty()).unwrap_or_default();
    PathBuf::from(std::ffi::OsStr::from_bytes(name))
}

fn first_forward(pid: u32, of_nobody: &BTreeSet<u32>) -> io::Result<Option<Forward>> {
    if holds_tunnel(pid) {
        return Ok(Some(Forward::Tunnel));
    }
    let mut agent = Agent::default();
    for inode in socket_inodes(pid).difference(of_nobody) {
        let socket = match use_of(*inode) {
            Ok(socket) => socket,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !is_held(pid, *inode) => continue,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(Forward::Network)),
            Err(e) => return Err(e),
        };
        if let Some(path) = path_of_forward(&socket, &mut agent) {
            return Ok(Some(Forward::Unix(path)));
        }
    }
    Ok(None)
}

/// The forwarded agent's sockets, as far as they are seen: sshd has one listener for it, and what that accepted.
#[derive(Default)]
struct Agent {
    path: Option<PathBuf>,
    listens: bool,
}

impl Agent {
    /// Whether this one is the agent's. A second listener at its path is a forward: the user took the socket away, and the client has asked for one there.
    fn owns(&mut self, path: &Path, listens: bool) -> bool {
        let is_its = looks_like_agent(path) && self.path.get_or_insert_with(|| path.to_owned()) == path;
        is_its && !(listens && std::mem::replace(&mut self.listens, true))
    }
}

/// `None`: it is something else.
fn path_of_forward(socket: &Use, agent: &mut Agent) -> Option<PathBuf> {
    if !socket.is_stream || (socket.name.is_empty() && socket.peer_name.is_empty()) {
        // A pair, to one of its own programs.
        return None;
    }
    if socket.name.is_empty() {
        // sshd is the one that connected.
        let is_none = is_service(&socket.peer_name) || without_end(&socket.peer_name) == STDERR;
        return (!is_none).then(|| path_of(&socket.peer_name));
    }
    // It listens there, or accepted what came.
    let here = path_of(&socket.name);
    (!agent.owns(&here, socket.listens)).then_some(here)
}

fn is_held(pid: u32, inode: u32) -> bool {
    socket_inodes(pid).contains(&inode)
}

fn holds_tunnel(pid: u32) -> bool {
    descriptors(pid).iter().any(|(_, target)| target == Path::new("/dev/net/tun"))
}

/// The socket with the lowest descriptor that is no Unix socket.
fn first_of_network(pid: u32) -> io::Result<Option<u32>> {
    let mut all = descriptors(pid);
    all.sort();
    for (_, target) in all {
        let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        match inode.map(|inode| (inode, use_of(inode))) {
            Some((inode, Err(e))) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(inode)),
            Some((_, Err(e))) => return Err(e),
            Some((_, Ok(_))) | None => {}
        }
    }
    Ok(None)
}

/// Number and what it is open on.
fn descriptors(pid: u32) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let number = |entry: &std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.filter_map(|entry| Some((number(&entry)?, std::fs::read_link(entry.path()).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A "monitor" with a connection of the network's, and a fork of it that opens what it is told; both keep all.
    const SSHD: &str = r#"use Socket; use IO::Socket::UNIX; use IO::Socket::INET; $| = 1;
my $client = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die;
my $fork = $ARGV[0] eq 'with' ? fork : 0; if ($fork) { waitpid($fork, 0); exit } my @all; print "ready\n";
while (<STDIN>) { my ($what, $path) = split; my $s;
  if ($what eq 'pair') { socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0) or die; push @all, $a, $b; $s = 1 }
  if ($what eq 'listen') { $s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $path, Listen => 5) }
  if ($what eq 'accept') { $s = $all[-1]->accept }
  if ($what eq 'connect') { $s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path) }
  if ($what eq 'network') { $s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') }
  if ($what eq 'close') { @all = (); $s = 1 }
  die "$what: $!" unless $s; push @all, $s unless $s eq '1'; print "done\n" }"#;

    struct Sshd(Child, BufReader<std::process::ChildStdout>);

    impl Sshd {
        fn start(child: &str) -> Self {
            let (piped, mut command) = (Stdio::piped, Command::new("perl"));
            let mut child = command.args(["-e", SSHD, child]).stdin(piped()).stdout(piped()).spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap());
            let mut sshd = Sshd(child, lines);
            sshd.wait();
            sshd
        }

        fn wait(&mut self) {
            let mut line = String::new();
            self.1.read_line(&mut line).unwrap();
            assert!(!line.is_empty());
        }

        fn tell(&mut self, what: &str) -> Option<Forward> {
            self.0.stdin.as_mut().unwrap().write_all(format!("{what}\n").as_bytes()).unwrap();
            self.wait();
            self.found()
        }

        fn found(&self) -> Option<Forward> {
            forward_of(ProcessId::of(self.0.id()).unwrap()).unwrap()
        }
    }

    impl Drop for Sshd {
        fn drop(&mut self) {
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    #[test]
    fn forwards_are_told_from_the_agent_the_client_and_the_sessions_own_programs() {
        let folder = std::env::temp_dir().join(format!("ussh-os-forwards-{}", std::process::id()));
        let agents = folder.join("ssh-XyzXyzXyz1");
        std::fs::create_dir_all(&agents).unwrap();
        let (one, other, socket) = (agents.join("agent.1"), agents.join("agent.2"), folder.join("socket"));
        let service = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for child in ["with", "without"] {
            let mut sshd = Sshd::start(child);
            assert_eq!(sshd.found(), None, "{child}: the client's own connection is none");
            assert_eq!(sshd.tell("pair"), None, "{child}");
            assert_eq!(sshd.tell(&format!("listen {}", one.display())), None, "{child}: the agent");
            assert_eq!(sshd.tell(&format!("connect {}", socket.display())), None, "{child}: nobody serves it yet");
            let _served = service.accept().unwrap();
            assert_eq!(sshd.found(), Some(Forward::Unix(socket.clone())), "{child}");
            assert_eq!(sshd.tell("close"), None, "{child}");
            assert_eq!(sshd.tell("network"), Some(Forward::Network), "{child}");
            assert_eq!(sshd.tell("close"), None, "{child}");
            std::fs::remove_file(&one).unwrap();
            sshd.tell(&format!("listen {}", one.display()));
            let second = sshd.tell(&format!("listen {}", other.display()));
            assert!(matches!(second, Some(Forward::Unix(_))), "{child}: there is one agent only: {second:?}");
            sshd.tell("close");
            std::fs::remove_file(&one).unwrap();
            assert_eq!(sshd.tell(&format!("listen {}", one.display())), None, "{child}: the agent");
            let _client = std::os::unix::net::UnixStream::connect(&one).unwrap();
            assert_eq!(sshd.tell("accept"), None, "{child}: the agent's");
            std::fs::remove_file(&one).unwrap();
            let there = sshd.tell(&format!("listen {}", one.display()));
            assert_eq!(there, Some(Forward::Unix(one.clone())), "{child}: in the agent's place");
            drop(sshd);
            for path in [&one, &other] {
                std::fs::remove_file(path).unwrap();
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_sshd_holds_to_the_log_and_its_standard_error_is_no_forward() {
        let held = |peer: &[u8]| Use { listens: false, is_stream: true, name: vec![], peer_name: peer.to_vec() };
        let found = |peer| path_of_forward(&held(peer), &mut Agent::default());
        assert_eq!([found(b"/dev/log\0"), found(STDERR)], [None, None]);
        let bus = "/run/dbus/system_bus_socket";
        assert_eq!(found(bus.as_bytes()), Some(bus.into()));
    }

    /// `struct sockaddr_un`, as long as the caller says.
    fn unix(path: &[u8]) -> Call {
        let family = u16::try_from(nix::libc::AF_UNIX).unwrap().to_ne_bytes();
        Call::Connect([&family[..], path].concat())
    }

    fn by(call: &Call) -> Option<Forward> {
        forward_by(ProcessId::of(std::process::id()).unwrap(), call).unwrap()
    }

    #[test]
    fn whatever_is_connected_to_is_a_forward_but_for_roots_sockets_of_services() {
        for service in ["/dev/log", "/run/nslcd/socket", "/run/samba/winbindd/pipe"] {
            assert_eq!(by(&unix(service.as_bytes())), None, "{service}");
        }
        assert_eq!(by(&unix(b"/run/nslcd/socket\0/tmp/x")), None, "it ends at the NUL");
        for (name, path) in [
            (&b"/tmp/ussh-nowhere"[..], "/tmp/ussh-nowhere"),
            (b"/tmp/ussh-nowhere\0/run/nslcd/socket", "/tmp/ussh-nowhere"),
            (b"/run/systemd/../nslcd/socket", "/run/systemd/../nslcd/socket"),
            (b"run/nslcd/socket", "run/nslcd/socket"),
            (b"/run/nslcd/socket2", "/run/nslcd/socket2"),
            // Beside the services, and by which root has the host do anything.
            (b"/run/systemd/private", "/run/systemd/private"),
            (b"/run/systemd/userdb/io.systemd.DynamicUser", "/run/systemd/userdb/io.systemd.DynamicUser"),
            (b"/run/dbus/system_bus_socket", "/run/dbus/system_bus_socket"),
            // In the abstract namespace, where anybody has any name.
            (b"\0/run/nslcd/socket", "/run/nslcd/socket"),
            (b"", ""),
        ] {
            assert_eq!(by(&unix(name)), Some(Forward::Unix(path.into())), "{path}");
        }
        let of_network = [nix::libc::AF_INET, nix::libc::AF_INET6, nix::libc::AF_VSOCK, nix::libc::AF_UNSPEC];
        for family in of_network.map(|family| u16::try_from(family).unwrap().to_ne_bytes()) {
            let address = [&family[..], b"/run/nslcd/socket"].concat();
            assert_eq!(by(&Call::Connect(address)), Some(Forward::Network), "{family:?}");
        }
        for short in [&[][..], &[1]] {
            assert_eq!(by(&Call::Connect(short.to_vec())), Some(Forward::Network), "{short:?}");
        }
    }

    #[test]
    fn a_socket_that_is_not_roots_is_no_services() {
        use std::os::unix::fs::{chown, symlink};
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = std::env::temp_dir().join(format!("ussh-os-owners-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name);
        let is_of_root = |name: &str| is_of_root(path(name).as_os_str().as_bytes());
        for (name, owner) in [("roots", 0), ("nobodys", 65534)] {
            drop(std::os::unix::net::UnixListener::bind(path(name)).unwrap());
            chown(path(name), Some(owner), None).unwrap();
            symlink(path(name), path(&format!("to-{name}"))).unwrap();
        }
        symlink(path("loop"), path("loop")).unwrap();
        assert!(is_of_root("roots") && is_of_root("to-roots") && is_of_root("nowhere"));
        assert!(!is_of_root("nobodys") && !is_of_root("to-nobodys"), "it may lead to somebody's");
        assert!(!is_of_root("../roots") && !is_of_root("x/../roots"));
        assert!(!is_of_root("loop") && !is_of_root("roots/x"), "nobody can say");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn who_accepts_begins_a_forward_if_one_listens_and_a_tunnel_is_always_one() {
        let folder = std::env::temp_dir().join(format!("ussh-os-accepts-{}", std::process::id()));
        let agents = folder.join("ssh-XyzXyzXyz2");
        std::fs::create_dir_all(&agents).unwrap();
        for child in ["with", "without"] {
            let mut sshd = Sshd::start(child);
            let by = |sshd: &Sshd, call| forward_by(ProcessId::of(sshd.0.id()).unwrap(), &call).unwrap();
            sshd.tell(&format!("listen {}", agents.join("agent.1").display()));
            assert_eq!(by(&sshd, Call::Accept(None)), None, "{child}: the agent's");
            assert_eq!(by(&sshd, Call::Tunnel), Some(Forward::Tunnel), "{child}");
            sshd.tell("network");
            assert_eq!(by(&sshd, Call::Accept(None)), Some(Forward::Network), "{child}");
            drop(sshd);
            std::fs::remove_file(agents.join("agent.1")).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
