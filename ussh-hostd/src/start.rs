//! Before the loop: what the daemon must have alone, and why it does not start.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ussh_os::process;

/// Why the daemon did not start, or gave up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Not started by root.
    #[error("must be run by root")]
    NotRoot,
    /// The lock is taken.
    #[error("another ussh-hostd runs already ({0} is locked)")]
    RunsAlready(PathBuf),
    /// A folder or file that it cannot do without.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel would not.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<Errno> for RunError {
    fn from(errno: Errno) -> Self {
        RunError::System(errno.into())
    }
}

/// Takes the lock that two daemons cannot both hold, and writes this process's number into it. It is let go by the kernel when the process ends.
/// # Errors
/// [`RunError`]
pub fn lock(path: &Path) -> Result<File, RunError> {
    let failed = |source| RunError::File { path: path.into(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(RunError::RunsAlready(path.into())),
        Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
    }
    let pid = std::process::id();
    let id = format!("{pid}-{}\n", process::start_time(pid).map_err(failed)?);
    file.set_len(0).and_then(|()| file.write_all(id.as_bytes())).map_err(failed)?;
    Ok(file)
}

/// Every connection costs a descriptor or a few.
pub fn raise_descriptor_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Not granted: connections beyond the limit are reported when they cannot be held.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}
