//! The lab's folders in the cgroup v2 tree: one per lab, one in it per host, and in that whatever the host makes.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Doing, LabError, Result};

/// Where the keeper mounts the tree for itself and its children, whatever the machine has there.
pub(super) const MOUNT: &str = "/sys/fs/cgroup";

/// First part of a lab's folder name.
const PREFIX: &str = "ussh-lab.";

/// How long a dead process may still count as living in its cgroup.
const SETTLE: Duration = Duration::from_secs(10);

/// How often a lab's folder is made anew: each time it takes another keeper that starts at the same moment.
const MOST_TRIES: usize = 100;

/// A lab's folder, locked while its keeper lives: a lock that nobody holds marks what a killed keeper left.
pub(super) struct LabFolder {
    path: PathBuf,
    _lock: File,
}

impl LabFolder {
    /// Removes what killed keepers left, then makes the folder of lab `id`.
    pub(super) fn create(id: &str) -> Result<Self> {
        remove_abandoned(Path::new(MOUNT));
        let path = folder(id);
        // Between the folder and its lock another keeper may take it for an abandoned one: it holds the lock while it removes the folder, and then that one is made anew.
        for _ in 0..MOST_TRIES {
            fs::create_dir(&path).doing(format!("making cgroup {}", path.display()))?;
            let lock = match File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other.doing("opening the lab's cgroup")?,
            };
            rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
                .doing("locking the lab's cgroup")?;
            if is_at(&lock, &path) {
                return Ok(LabFolder { path, _lock: lock });
            }
        }
        Err(LabError::setup("the lab's cgroup vanished whenever it was made"))
    }

    /// Removes the folder and all in it, once its last process is gone.
    pub(super) fn remove(self) -> io::Result<()> {
        remove_tree(&self.path, SETTLE)
    }
}

/// The folder of lab `id`.
pub(super) fn folder(id: &str) -> PathBuf {
    Path::new(MOUNT).join(format!("{PREFIX}{id}"))
}

/// Moves this process into the cgroup at `path`.
pub(super) fn enter(path: &Path) -> Result<()> {
    // 0 is the process that writes.
    fs::write(path.join("cgroup.procs"), "0").doing(format!("entering cgroup {}", path.display()))
}

/// Makes the folder of one host.
pub(super) fn create_host(id: &str, host: &str) -> Result<PathBuf> {
    let path = folder(id).join(host);
    fs::create_dir(&path).doing(format!("making cgroup {}", path.display()))?;
    Ok(path)
}

/// Removes the folder of one host whose processes are gone.
pub(super) fn remove_host(id: &str, host: &str) -> io::Result<()> {
    remove_tree(&folder(id).join(host), SETTLE)
}

fn remove_abandoned(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && let Ok(folder) = File::open(entry.path())
            && flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok()
            // What was opened may be gone, and its keeper have made the folder anew.
            && is_at(&folder, &entry.path())
        {
            // Not ours to wait for: a process still in it keeps it, until a later lab comes by.
            let _ = remove_tree(&entry.path(), Duration::ZERO);
        }
    }
}

/// Whether what is open is what is at `path` now. With the lock held that stays so.
fn is_at(open: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (open.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// Removes a folder tree whose processes are gone, or about to be for at most `settle`.
fn remove_tree(path: &Path, settle: Duration) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path(), settle)?;
    }
    let deadline = Instant::now() + settle;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
}
