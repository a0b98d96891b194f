//! A folder of root's in memory, for what another program reads or writes; gone afterwards.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of root's in memory.
#[derive(Debug)]
pub struct Scratch(PathBuf);

/// Of this process's folders.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Scratch {
    /// Behind it the process's number, and the folder's.
    const PREFIX: &str = "/run/ussh-hostd.";

    /// Removes those of processes that are no more, or were before this one under its number.
    pub fn sweep() {
        for entry in std::fs::read_dir("/run").into_iter().flatten().flatten() {
            let path = entry.path();
            let numbers = path.to_str().and_then(|path| path.strip_prefix(Self::PREFIX));
            let process = numbers.and_then(|numbers| numbers.split('.').next()?.parse::<u32>().ok());
            let is_over = |pid| pid == std::process::id() || ussh_os::process::start_time(pid).is_err();
            if process.is_some_and(is_over) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let _ = std::fs::remove_dir_all(path);
            }
        }
    }

    /// Makes one.
    /// # Errors
    /// Its path and why not.
    pub fn new() -> io::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("{}{}.{number}", Self::PREFIX, std::process::id()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
