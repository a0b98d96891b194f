//! The lab's folders in the cgroup v2 tree: one per lab, one in it per host, and in that whatever the host makes.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
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
        fs::create_dir(&path).doing(format!("making cgroup {}", path.display()))?;
        let lock = File::open(&path).doing("opening the lab's cgroup")?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).doing("locking the lab's cgroup")?;
        // Between the first line and the lock another keeper may have taken the folder for an abandoned one.
        if !path.exists() {
            return Err(LabError::setup("the lab's cgroup vanished while it was made"));
        }
        Ok(LabFolder { path, _lock: lock })
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
        {
            // Not ours to wait for: a process still in it keeps it, until a later lab comes by.
            let _ = remove_tree(&entry.path(), Duration::ZERO);
        }
    }
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
