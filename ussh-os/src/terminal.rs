//! Terminals of other people's sessions.
//!
//! Untrusted: the terminal. Its owner may have stopped it, filled it up or hung up.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// pts numbers (/dev/pts/N) behind the /dev/ptmx descriptors that a process holds, from /proc/PID/fdinfo `tty-index:`. Ascending, each once.
/// # Errors
/// /proc cannot be read.
pub fn ptys_of(pid: u32) -> io::Result<Vec<u32>> {
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        // Most of sshd's are no files at all, or /dev/null, and to ask for a name costs a third of what it costs to read a file.
        if std::fs::read_link(entry.path()).is_ok_and(|name| is_no_terminal(&name)) {
            continue;
        }
        let info = Path::new("/proc").join(pid.to_string()).join("fdinfo").join(entry.file_name());
        match std::fs::read_to_string(info) {
            Ok(info) => numbers.extend(tty_index(&info)),
            // Closed while we looked, or the process ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(numbers.into_iter().collect())
}

/// proc_pid_fd(5): what has no place in a file system is named by its kind.
fn is_no_terminal(name: &Path) -> bool {
    let name = name.as_os_str().as_bytes();
    name == b"/dev/null"
        || [b"socket:[".as_slice(), b"pipe:[", b"anon_inode:"].iter().any(|kind| name.starts_with(kind))
}

/// Only master sides have this line (drivers/tty/pty.c `pty_show_fdinfo`).
fn tty_index(fdinfo: &str) -> Option<u32> {
    fdinfo.lines().find_map(|line| line.strip_prefix("tty-index:"))?.trim().parse().ok()
}

/// Writes to /dev/pts/N without blocking and without becoming its owner's terminal (O_NONBLOCK | O_NOCTTY).
/// The text should bring its own `\r\n`: a program may have put the terminal into raw mode. With `owner` it must be that user's: the number may be somebody else's by now.
/// # Errors
/// As the kernel says; WouldBlock if it takes no more, WriteZero if it took a part only; InvalidInput if it is no Unix98 terminal; PermissionDenied if it is another user's.
pub fn write_to_pty(number: u32, owner: Option<u32>, text: &str) -> io::Result<()> {
    let path = format!("/dev/pts/{number}");
    let mut terminal = std::fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW)
        .open(path)?;
    let metadata = terminal.metadata()?;
    // UNIX98_PTY_SLAVE_MAJOR .. +7 (linux/major.h)
    if !metadata.file_type().is_char_device() || !(136..=143).contains(&libc::major(metadata.rdev())) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if owner.is_some_and(|owner| owner != metadata.uid()) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    match terminal.write(text.as_bytes())? {
        written if written == text.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use nix::fcntl::OFlag;
    use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
    use std::io::Read;

    #[test]
    fn finds_its_own_pty_and_writes_to_it() {
        let mut master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let number: u32 = ptsname_r(&master).unwrap().strip_prefix("/dev/pts/").unwrap().parse().unwrap();
        assert!(ptys_of(std::process::id()).unwrap().contains(&number));

        // Held open, or what was written is lost when the last writer closes.
        let _slave = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(format!("/dev/pts/{number}"))
            .unwrap();
        let me = crate::process::effective_uid();
        let another = write_to_pty(number, Some(me + 1), "not yours\r\n").unwrap_err();
        assert_eq!(another.kind(), io::ErrorKind::PermissionDenied);
        write_to_pty(number, Some(me), "ends soon\r\n").unwrap();
        let mut seen = [0u8; 64];
        let length = master.read(&mut seen).unwrap();
        assert!(seen[..length].starts_with(b"ends soon\r"));

        // Nobody reads: it fills up, and we are told instead of kept waiting.
        let line = "x".repeat(4000);
        let error = (0..100).find_map(|_| write_to_pty(number, None, &line).err()).unwrap();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::WriteZero));
    }

    #[test]
    fn reads_the_index_of_masters_only() {
        for none in ["socket:[7]", "anon_inode:[pidfd]", "/dev/null"] {
            assert!(is_no_terminal(Path::new(none)));
        }
        for perhaps in ["/dev/pts/ptmx", "/socket:[7]", "/dev/null (deleted)"] {
            assert!(!is_no_terminal(Path::new(perhaps)));
        }
        assert_eq!(tty_index("pos:\t0\nflags:\t02\nmnt_id:\t15\ntty-index:\t7\n"), Some(7));
        assert_eq!(tty_index("pos:\t0\nflags:\t02\n"), None);
        assert_eq!(tty_index("tty-index:\t-1\n"), None);
        assert!(ptys_of(u32::MAX).is_err());
        assert!(write_to_pty(u32::MAX, None, "x").is_err());
    }
}
