//! Where the guarded agent's socket towards hosts lies, and how it is found again or started: one process for each agent of the user's.
//!
//! Whoever starts it makes the socket and hands it over listening: nobody waits for the new process, and connections that come before it is ready wait in the kernel.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg, OFlag};
use ussh_core::digest::sha256;
use ussh_os::account::Account;
use ussh_os::agent_socket::connect_as;
use ussh_os::detached::spawn_detached;
use ussh_os::process;

use super::directory::is_private;
use crate::config::is_plain;
use crate::keeper::Keeper;

/// How long a running one may take to take a connection: the kernel takes it for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The guarded agent cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The folder is not the user's alone.
    #[error("{0}: not a folder of yours alone (mode 0700)")]
    Folder(PathBuf),
    /// The system would not.
    #[error("{path}: {source}")]
    Io {
        /// What it was about.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A folder of the user's alone, for as long as he is logged in.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    uid: u32,
}

impl Home {
    /// `$XDG_RUNTIME_DIR/ussh`, or `/tmp/ussh-UID`; made if it is not there. Where somebody else has made that one, a folder below the user's home, which is said on stderr.
    /// # Errors
    /// [`HomeError`]: it is somebody else's, or others can get into it.
    pub fn open(uid: u32) -> Result<Self, HomeError> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| is_private(path, uid));
        match runtime {
            Some(path) => Self::at(path.join("ussh"), uid),
            None => Self::in_shared(Path::new("/tmp"), uid, || Some(Account::by_uid(uid).ok()??.home)),
        }
    }
    /// Anybody can be there first, for any user. That must not be a way to keep him from what he needs.
    fn in_shared(shared: &Path, uid: u32, home: impl FnOnce() -> Option<PathBuf>) -> Result<Self, HomeError> {
        static TOLD: AtomicBool = AtomicBool::new(false);
        let taken = match Self::at(shared.join(format!("ussh-{uid}")), uid) {
            Err(HomeError::Folder(taken)) => taken,
            other => return other,
        };
        let Some(own) = home().and_then(|home| below_home(&home, uid)) else { return Err(HomeError::Folder(taken)) };
        let own = Self::at(own, uid)?;
        if !TOLD.swap(true, Ordering::Relaxed) {
            eprintln!(
                "ussh: {} is not a folder of yours alone: somebody has made it, perhaps on purpose; using {}",
                taken.display(),
                own.folder.display()
            );
        }
        Ok(own)
    }
    /// This folder.
    /// # Errors
    /// [`HomeError`]
    pub fn at(folder: PathBuf, uid: u32) -> Result<Self, HomeError> {
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(HomeError::Io { path: folder, source: error });
            }
            _ => {}
        }
        let own = |m: std::fs::Metadata| m.is_dir() && m.uid() == uid && m.mode() & 0o077 == 0;
        if folder.symlink_metadata().is_ok_and(own) { Ok(Home { folder, uid }) } else { Err(HomeError::Folder(folder)) }
    }
    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
    /// The socket in front of the agent that listens at `upstream`. Of characters that ssh takes as they stand.
    pub fn socket_of(&self, upstream: &Path) -> PathBuf {
        let digest = sha256(upstream.as_os_str().as_bytes());
        let name = digest.iter().take(8).fold(String::from("agent."), |name, byte| name + &format!("{byte:02x}"));
        self.folder.join(name)
    }
    /// The socket of the one in front of this agent, or these files, which runs now.
    /// # Errors
    /// [`HomeError`]
    pub fn running(&self, upstream: &Keeper) -> Result<PathBuf, HomeError> {
        let socket = self.socket_of(&upstream.place());
        if self.is_alive(&socket) {
            return Ok(socket);
        }
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| HomeError::Io { path, source }
        };
        let lock = self.folder.join("lock");
        let _one_at_a_time = exclusive(&lock).map_err(failed(&lock))?;
        if self.is_alive(&socket) {
            return Ok(socket);
        }
        // One that was killed left it; or it is stopped, and ends when it sees that it has been replaced.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).map_err(failed(&socket))?;
        start(listener, upstream).inspect_err(|_| drop(std::fs::remove_file(&socket))).map_err(failed(&socket))?;
        Ok(socket)
    }
    /// Ends the one in front of this: it goes when it sees that its socket has.
    pub fn dismiss(&self, upstream: &Keeper) {
        let _ = std::fs::remove_file(self.socket_of(&upstream.place()));
    }
    /// Held while something is started here.
    /// # Errors
    /// [`HomeError::Io`]
    pub fn lock(&self) -> Result<impl Sized + use<>, HomeError> {
        let lock = self.folder.join("lock");
        exclusive(&lock).map_err(|source| HomeError::Io { path: lock, source })
    }
    fn is_alive(&self, socket: &Path) -> bool {
        let Ok(groups) = process::groups() else { return false };
        connect_as(self.uid, process::real_gid(), &groups, socket, PATIENCE).is_ok()
    }
}

/// Longest folder in which an agent's socket still fits (sockaddr_un.sun_path holds 108 bytes), in bytes.
const MAX_FOLDER: usize = 80;

/// A folder below the user's home for what belongs to this machine; all on the way to it is the user's alone to change.
fn below_home(home: &Path, uid: u32) -> Option<PathBuf> {
    let folder = home.join(".local/state/ussh").join(format!("run.{}", process::host_name()));
    if folder.as_os_str().len() > MAX_FOLDER || !folder.to_str().is_some_and(is_plain) {
        return None;
    }
    own_parents(home, &folder, uid).is_ok().then_some(folder)
}

/// Makes what is missing of the folders above `folder`. All of them, up to the home folder, must be the user's alone to change.
/// # Errors
/// The first that is not, or cannot be made.
pub fn own_parents(home: &Path, folder: &Path, uid: u32) -> Result<(), PathBuf> {
    let Some(parent) = folder.parent() else { return Err(folder.to_path_buf()) };
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|_| parent.to_path_buf())?;
    let own = |path: &Path| path.metadata().is_ok_and(|m| m.is_dir() && m.uid() == uid && m.mode() & 0o022 == 0);
    match parent.ancestors().take_while(|path| path.starts_with(home)).find(|path| !own(path)) {
        Some(path) => Err(path.to_path_buf()),
        None => Ok(()),
    }
}

fn exclusive(path: &Path) -> io::Result<Flock<File>> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

fn start(listener: UnixListener, upstream: &Keeper) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.arg0("ussh").args(["--agent", "--serve"]);
    if let Some(agent) = upstream.agent() {
        command.env("SSH_AUTH_SOCK", OsString::from(agent.path()));
    }
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
    spawn_detached(&mut command)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn own_uid() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    #[test]
    fn a_folder_that_others_can_enter_or_that_is_somewhere_else_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| Home::at(base.path().join(name), own_uid());
        assert!(at("new").is_ok() && at("new").is_ok());
        assert_eq!(base.path().join("new").metadata().unwrap().mode() & 0o7777, 0o700);
        fs::create_dir(base.path().join("open")).unwrap();
        fs::set_permissions(base.path().join("open"), Permissions::from_mode(0o750)).unwrap();
        symlink(base.path().join("new"), base.path().join("link")).unwrap();
        fs::write(base.path().join("file"), "").unwrap();
        for name in ["open", "link", "file"] {
            assert!(matches!(at(name), Err(HomeError::Folder(_))), "{name}");
        }
        assert!(matches!(Home::at(base.path().join("new"), own_uid() + 1), Err(HomeError::Folder(_))), "another's");
    }

    #[test]
    fn somebody_elses_folder_in_the_shared_place_is_passed_over_for_one_below_home() {
        let (shared, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |uid| Home::in_shared(shared.path(), uid, || Some(home.path().to_path_buf()));
        let name = format!("ussh-{}", own_uid());
        assert_eq!(open(own_uid()).unwrap().folder(), shared.path().join(&name));
        // One that others can enter, a link, a file: as good as somebody else's.
        fs::set_permissions(shared.path().join(&name), Permissions::from_mode(0o755)).unwrap();
        let own = open(own_uid()).unwrap();
        assert!(own.folder().starts_with(home.path().join(".local/state/ussh")), "{own:?}");
        assert_eq!(own.folder().metadata().unwrap().mode() & 0o7777, 0o700);
        // Others can turn what lies below: not safe either.
        fs::set_permissions(home.path().join(".local/state"), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(open(own_uid()), Err(HomeError::Folder(path)) if path == shared.path().join(&name)));
    }

    #[test]
    fn each_agent_has_a_socket_of_its_own_with_a_name_that_ssh_takes() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::at(base.path().join("h"), own_uid()).unwrap();
        let socket = home.socket_of(Path::new("/tmp/ssh-XX/agent.1"));
        assert_eq!(socket, home.socket_of(Path::new("/tmp/ssh-XX/agent.1")));
        assert_ne!(socket, home.socket_of(Path::new("/tmp/ssh-XX/agent.2")));
        assert!(crate::config::is_plain(socket.file_name().unwrap().to_str().unwrap()));
    }
}
