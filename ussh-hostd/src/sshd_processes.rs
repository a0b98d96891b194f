//! The sshds that run on this host and wait for connections, other than by a pid file, which may be missing or be another's: a second sshd overwrites it, and takes it away at its end.

use std::collections::BTreeSet;
use std::fs::{read_dir, read_link, read_to_string};
use std::io;
use std::path::{Path, PathBuf};

use ussh_os::process::{ProcessHandle, Stat};

/// `st` of a socket that listens (include/net/tcp_states.h).
const TCP_LISTEN: &str = "0A";

/// Options of sshd that have a value (sshd.c, main, getopt).
const WITH_VALUE: [char; 11] = ['C', 'E', 'b', 'c', 'f', 'g', 'h', 'k', 'o', 'p', 'u'];

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket {
    inode: u64,
    /// TCP.
    pub port: u16,
}

/// An sshd.
#[derive(Debug)]
pub struct Sshd {
    /// Process ID.
    pub pid: u32,
    /// Clock ticks since boot.
    pub start_time: u64,
    /// Never another one.
    pub handle: ProcessHandle,
}

impl Sshd {
    /// This process, if it lives and runs sshd.
    pub fn of(pid: u32) -> Option<Self> {
        let start_time = Stat::of(pid).ok()?.start_time;
        let handle = ProcessHandle::open(pid, start_time).ok()?;
        is_sshd(pid).then_some(Sshd { pid, start_time, handle })
    }

    /// The configuration file that it was started with by `-f`. `None`: its default one, or it has gone.
    pub fn own_config(&self) -> Option<PathBuf> {
        option_f(&std::fs::read(format!("/proc/{}/cmdline", self.pid)).ok()?).map(PathBuf::from)
    }

    /// Where it listens.
    /// # Errors
    /// Its descriptors, or the table of sockets, cannot be read.
    pub fn sockets(&self) -> io::Result<BTreeSet<Socket>> {
        let mut own = BTreeSet::new();
        for entry in read_dir(format!("/proc/{}/fd", self.pid))? {
            // One that was closed meanwhile is none.
            let Ok(target) = read_link(entry?.path()) else { continue };
            let target = target.to_string_lossy();
            own.extend(target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse::<u64>().ok()));
        }
        Ok(listening()?.into_iter().filter(|socket| own.contains(&socket.inode)).collect())
    }
}

/// All that wait for connections in this network namespace: root's, and no connection's child.
pub fn all() -> Vec<Sshd> {
    let numbers = read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_sshd(*pid) && waits_for_connections(*pid)).filter_map(Sshd::of).collect()
}

fn is_sshd(pid: u32) -> bool {
    let Ok(program) = read_link(format!("/proc/{pid}/exe")) else { return false };
    // " (deleted)": it was upgraded beneath.
    program.file_name().is_some_and(|name| name == "sshd" || name == "sshd (deleted)")
}

fn waits_for_connections(pid: u32) -> bool {
    let of = |what: &str| PathBuf::from(format!("/proc/{pid}/{what}"));
    let is_here = read_link(of("ns/net")).ok() == read_link("/proc/self/ns/net").ok();
    let is_child = Stat::of(pid).is_ok_and(|stat| is_sshd(stat.parent));
    is_here && is_roots(&of("status")) && !is_child && !is_for_one(&std::fs::read(of("cmdline")).unwrap_or_default())
}

fn is_roots(status: &Path) -> bool {
    let text = read_to_string(status).unwrap_or_default();
    text.lines().any(|line| line.strip_prefix("Uid:").is_some_and(|ids| ids.split_whitespace().all(|id| id == "0")))
}

/// Whether it serves one connection: started for it (`-i`), or by its title (sshd.c and sshd-session.c, setproctitle), of which only that of the one that waits has `[listener]`.
fn is_for_one(command_line: &[u8]) -> bool {
    let mut words = command_line.split(|byte| *byte == 0);
    let has_title = command_line.starts_with(b"sshd: ");
    let is_listener = command_line.windows(b"[listener]".len()).any(|part| part == b"[listener]");
    (has_title && !is_listener) || (!has_title && words.any(|word| word == b"-i"))
}

/// The value of `-f` on its command line, which its title repeats (sshd.c, prepare_proctitle).
fn option_f(command_line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(command_line);
    let words: Vec<&str> = match text.strip_prefix("sshd: ") {
        Some(title) => title.split(" [listener]").next()?.split(' ').collect(),
        None => text.split('\0').collect(),
    };
    let mut words = words.into_iter().skip(1);
    let mut found = None;
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-') else { break };
        let Some(at) = letters.find(WITH_VALUE) else { continue };
        let (letter, rest) = letters.split_at(at).1.split_at(1);
        let value = if rest.is_empty() { words.next() } else { Some(rest) };
        // Of several the last one holds (sshd.c, main).
        found = if letter == "f" { value } else { found };
    }
    found.map(str::to_owned)
}

/// Every TCP socket that listens in this network namespace.
fn listening() -> io::Result<Vec<Socket>> {
    let mut text = read_to_string("/proc/net/tcp")?;
    // A kernel without IPv6 has none.
    text += &read_to_string("/proc/net/tcp6").unwrap_or_default();
    Ok(text.lines().filter_map(socket).collect())
}

/// A line of /proc/net/tcp (proc(5)): `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …`.
fn socket(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    (*state == TCP_LISTEN).then_some(Socket { inode: inode.parse().ok()?, port })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_socket_that_listens_is_in_the_kernels_table() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listening().unwrap().iter().any(|socket| socket.port == port));
        let line =
            "   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000";
        assert_eq!(socket(line), Some(Socket { inode: 4711, port: 22 }));
        assert_eq!(socket(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(socket("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    fn the_configuration_file_of_a_command_line_is_found_in_all_its_spellings() {
        for (command_line, file) in [
            ("/usr/sbin/sshd\0-D\0", None),
            ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0", None),
            ("sshd: /usr/sbin/sshd -D -f /x [listener] 0 of 10-100 startups\0", Some("/x")),
            ("/usr/sbin/sshd\0-D\0-f\0/x\0-o\0PidFile=/p\0", Some("/x")),
            ("/usr/sbin/sshd\0-Df/x\0", Some("/x")),
            ("/usr/sbin/sshd\0-f/x\0-f\0/y\0", Some("/y")),
            // A value of another option.
            ("/usr/sbin/sshd\0-o\0-f\0-D\0", None),
            ("/usr/sbin/sshd\0-p2222\0-ef\0/x\0", Some("/x")),
        ] {
            assert_eq!(option_f(command_line.as_bytes()).as_deref(), file, "{command_line}");
        }
    }

    #[test]
    fn one_that_serves_a_connection_is_none_that_waits() {
        for (command_line, said) in [
            ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0", false),
            ("/usr/sbin/sshd\0-D\0", false),
            ("/usr/sbin/sshd\0-i\0", true),
            ("sshd: root@pts/0\0", true),
            ("sshd: alice [priv]\0", true),
        ] {
            assert_eq!(is_for_one(command_line.as_bytes()), said, "{command_line}");
        }
        assert!(Sshd::of(std::process::id()).is_none(), "a test is no sshd");
    }
}
