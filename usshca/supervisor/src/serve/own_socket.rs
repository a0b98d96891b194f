//! A listening Unix socket of our own at a path, so that whoever else can write nearby gains nothing by it: no mode is set by name, nothing but a dead socket is taken away.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};
use ussh_os::process;

use crate::own_place;

/// Listens at `path` (non-blocking), in the place of a socket that a process before us may have left there. The file has `mode` before anybody can connect, and never a wider one.
/// # Errors
/// AddrInUse if something answers there, AlreadyExists if what lies there is no socket; as the kernel says.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if somebody_listens(path)? {
        return Err(ErrorKind::AddrInUse.into());
    }
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "there is something that is no socket")),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let fd = new_socket()?;
    // The file is born with the socket's own mode, less the umask (af_unix.c, unix_bind_bsd). That is the whole process's, so that it stays as it is: other threads make files too.
    fchmod(&fd, Mode::from_bits_truncate(mode))?;
    socket::bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    give_mode(path, mode)?;
    socket::listen(&fd, Backlog::MAXCONN)?;
    Ok(fd.into())
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

/// What the umask took of it. By descriptor: a chmod by name would follow a link that somebody put in its place.
fn give_mode(path: &Path, mode: u32) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let made: File = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let found = made.metadata()?;
    if !found.file_type().is_socket() || found.uid() != process::effective_uid() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "somebody put something else there"));
    }
    // chmod(2) takes no descriptor of this kind, and no link is left to follow on this path.
    std::fs::set_permissions(format!("/proc/self/fd/{}", made.as_raw_fd()), Permissions::from_mode(mode))
}

/// A listener whose queue is full is one too: nobody waits for room in it.
fn somebody_listens(path: &Path) -> io::Result<bool> {
    let fd = new_socket()?;
    Ok(matches!(socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?), Ok(()) | Err(Errno::EAGAIN)))
}

/// Refuses a place at which somebody else could put a socket of his own instead: every folder on the way must be root's or ours, and no one else's to write to unless it is sticky.
/// # Errors
/// PermissionDenied, naming the folder; as the kernel says.
pub fn demand_own_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    let opened = own_place::open_folder(folder, None).and_then(|f| own_place::demand_ours(folder, &f.metadata()?));
    opened.map_err(|e| {
        if !own_place::is_of_others(&e) {
            return e;
        }
        let advice = "name a folder that only the CA's account writes to, as /run/usshca";
        io::Error::new(ErrorKind::PermissionDenied, format!("{e}; {advice}"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    #[test]
    fn a_socket_has_its_mode_whatever_the_umask_and_takes_the_place_of_a_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        for wanted in [0o666, 0o600] {
            // What another test forks meanwhile holds the one before until it runs its program.
            let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
            let listener = loop {
                match listen(&path, wanted) {
                    Err(e) if e.kind() == ErrorKind::AddrInUse && std::time::Instant::now() < end => {
                        std::thread::yield_now();
                    }
                    listener => break listener.unwrap(),
                }
            };
            assert_eq!(mode(&path), wanted);
            assert_eq!(listen(&path, wanted).unwrap_err().kind(), ErrorKind::AddrInUse);
            drop(listener);
        }
    }

    #[test]
    fn what_other_threads_make_meanwhile_has_its_usual_mode() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let usual = || {
            let _ = std::fs::remove_file(&file);
            drop(OpenOptions::new().write(true).create_new(true).mode(0o666).open(&file).unwrap());
            mode(&file)
        };
        let before = usual();
        assert_ne!(before, 0o666, "this is tried under a umask");
        let at = folder.path().to_owned();
        let listen = move |number: u32| drop(listen(&at.join(number.to_string()), 0o666).unwrap());
        let listening = std::thread::spawn(move || (0..2000).for_each(listen));
        while !listening.is_finished() {
            assert_eq!(usual(), before);
        }
        listening.join().unwrap();
    }

    #[test]
    fn a_listener_that_takes_nobody_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        socket::bind(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        socket::listen(&fd, Backlog::new(0).unwrap()).unwrap();
        let _in_the_queue = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let (told, hear) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(listen(&path, 0o666).map(drop).map_err(|error| error.kind())));
        let heard = hear.recv_timeout(std::time::Duration::from_secs(20));
        assert_eq!(heard, Ok(Err(ErrorKind::AddrInUse)));
    }

    #[test]
    fn what_is_no_socket_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("s"), folder.path().join("secret"));
        std::fs::write(&secret, "secret").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&secret, &path).unwrap();
        assert_eq!(listen(&path, 0o666).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(listen(&secret, 0o666).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!((mode(&secret), std::fs::read_to_string(&secret).unwrap().as_str()), (0o600, "secret"));
        assert!(path.symlink_metadata().unwrap().file_type().is_symlink());
    }

    #[test]
    fn a_link_to_nowhere_that_is_put_there_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("s"), folder.path().join("target"));
        symlink(&target, &path).unwrap();
        assert!(listen(&path, 0o666).is_err());
        assert!(target.symlink_metadata().is_err());
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused_unless_it_is_sticky() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("s");
        let set = |folder: &Path, mode| {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
            demand_own_folder(&path).map_err(|e| (e.kind(), e.to_string()))
        };
        assert_eq!(set(&inner, 0o755), Ok(()));
        assert_eq!(set(&inner, 0o1777), Ok(()));
        for mode in [0o775, 0o757] {
            let (kind, text) = set(&inner, mode).unwrap_err();
            assert_eq!(kind, ErrorKind::PermissionDenied);
            assert!(text.contains("inner") && text.contains("others can write"), "{text}");
        }
        set(&inner, 0o755).unwrap();
        assert!(set(folder.path(), 0o777).unwrap_err().1.contains("others can write"), "a folder above it");
    }
}
