//! A folder that nobody else can enter, for one socket, for the time of one login.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::is_plain;

/// Folders are named `ussh-ca.` and six random characters (mkdtemp(3)).
const PREFIX: &str = "ussh-ca.";
/// The socket's name in it.
const SOCKET: &str = "agent";
/// Longest folder in which a socket's path still fits (sockaddr_un.sun_path holds 108 bytes), in bytes.
const MAX_BASE: usize = 70;
/// A folder younger than this may still be on its way to have a socket.
const SETTLED: Duration = Duration::from_secs(60);

/// A folder with mode 0700 and a random name; removed, with the socket in it, on drop.
#[derive(Debug)]
pub struct PrivateDirectory {
    path: PathBuf,
}

impl PrivateDirectory {
    /// Makes one under `$XDG_RUNTIME_DIR` if that is the user's own, else under `/tmp`, and removes what killed predecessors left there.
    /// # Errors
    /// The folder could not be made.
    pub fn new(uid: u32) -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| is_private(path, uid));
        let base = runtime.unwrap_or_else(|| PathBuf::from("/tmp"));
        sweep(&base, uid);
        Self::under(&base)
    }
    /// Makes one under `base`.
    /// # Errors
    /// The folder could not be made.
    pub fn under(base: &Path) -> io::Result<Self> {
        let path = nix::unistd::mkdtemp(&base.join(format!("{PREFIX}XXXXXX")))?;
        Ok(PrivateDirectory { path })
    }
    /// Where the socket goes. Of characters that ssh takes as they stand, if `base` was.
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // What cannot be removed now is for the next one's sweep.
        let _ = std::fs::remove_file(self.socket());
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Whether ssh can be told a path under it, and nobody else can look into it.
pub fn is_private(path: &Path, uid: u32) -> bool {
    let plain = path.is_absolute() && path.as_os_str().len() <= MAX_BASE && path.to_str().is_some_and(is_plain);
    plain && path.symlink_metadata().is_ok_and(|m| m.is_dir() && m.uid() == uid && m.mode() & 0o077 == 0)
}

/// Removes the folders of processes that were killed: ours, settled, and nobody listens in them any more.
fn sweep(base: &Path, uid: u32) {
    let Ok(entries) = base.read_dir() else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if is_ours(&name) && is_left_over(&path, uid) {
            drop(PrivateDirectory { path });
        }
    }
}

fn is_ours(name: &OsStr) -> bool {
    name.to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(|random| random.len() == 6)
}

fn is_left_over(path: &Path, uid: u32) -> bool {
    let Ok(metadata) = path.symlink_metadata() else { return false };
    let age = metadata.modified().ok().and_then(|made| made.elapsed().ok());
    metadata.is_dir()
        && metadata.uid() == uid
        && age.is_some_and(|age| age > SETTLED)
        && UnixStream::connect(path.join(SOCKET))
            .is_err_and(|e| matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::time::SystemTime;

    fn own_uid() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    #[test]
    fn the_folder_is_closed_to_others_and_gone_afterwards() {
        let base = tempfile::tempdir().unwrap();
        let directory = PrivateDirectory::under(base.path()).unwrap();
        assert_eq!(directory.path.metadata().unwrap().mode() & 0o7777, 0o700);
        let _listener = UnixListener::bind(directory.socket()).unwrap();
        drop(directory);
        assert_eq!(base.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_runtime_folder_that_others_can_enter_or_ssh_would_misread_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        for (name, mode, wanted) in
            [("a", 0o700, true), ("b", 0o750, false), ("c", 0o701, false), ("d e", 0o700, false), ("f%h", 0o700, false)]
        {
            let path = base.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_private(&path, own_uid()), wanted, "{name}");
            assert!(!is_private(&path, own_uid() + 1));
        }
        assert!(!is_private(Path::new("a"), own_uid()));
    }

    #[test]
    fn only_settled_folders_without_a_listener_are_swept() {
        let base = tempfile::tempdir().unwrap();
        let long_ago = SystemTime::now() - 2 * SETTLED;
        let make = |name: &str, socket: bool| {
            let path = base.path().join(name);
            fs::create_dir(&path).unwrap();
            let listener = socket.then(|| UnixListener::bind(path.join(SOCKET)).unwrap());
            (path, listener)
        };
        let age = |path: &Path| File::open(path).unwrap().set_modified(long_ago).unwrap();
        let (dead, listener) = make("ussh-ca.aaaaaa", true);
        drop(listener);
        let (empty, _) = make("ussh-ca.bbbbbb", false);
        let (alive, _listener) = make("ussh-ca.cccccc", true);
        let (foreign, _) = make("ussh-ca.dddddd.x", false);
        for path in [&dead, &empty, &alive, &foreign] {
            age(path);
        }
        let (young, _) = make("ussh-ca.eeeeee", false);
        sweep(base.path(), own_uid());
        assert_eq!(
            [&dead, &empty, &alive, &foreign, &young].map(|path| path.exists()),
            [false, false, true, true, true]
        );
    }
}
