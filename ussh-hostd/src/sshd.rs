//! sshd on this host: whether its configuration is good, what it comes to, and having it read anew.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ussh_core::escape::escape;
use ussh_os::process::{ProcessHandle, start_time};

use crate::child::{Bounds, ChildError, program, run};

const SSHD: &str = "/usr/sbin/sshd";
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(30), bytes: 1 << 20 };
/// How long sshd may take to listen again.
const RELOAD: Duration = Duration::from_secs(20);
/// From one look at its pid file to the next.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is wrong with sshd.
#[derive(Debug, thiserror::Error)]
pub enum SshdError {
    /// `sshd -t` fails.
    #[error("sshd's configuration is not good: {0}")]
    Test(ChildError),
    /// What is in its files is not what it goes by.
    #[error("sshd does not go by {file}: `sshd -T` says {keyword} {found}, not {wanted}. Its configuration needs the line `Include {}/*.conf`, before any {keyword} of its own", folder.display())]
    Ignored {
        /// Our file.
        file: PathBuf,
        /// Its folder.
        folder: PathBuf,
        /// In small letters.
        keyword: &'static str,
        /// What holds.
        found: String,
        /// What should.
        wanted: String,
    },
    /// It ended when it was to read its configuration anew.
    #[error("sshd has ended instead of reading its configuration anew: look at its log, and start it")]
    Died,
    /// It does not come back.
    #[error("sshd does not listen again after {} s", RELOAD.as_secs())]
    Hangs,
    /// It could not be told.
    #[error("sshd cannot be told: {0}")]
    Signal(std::io::Error),
}

/// Its configuration as a whole, by `sshd -T`.
#[derive(Debug)]
pub struct Effective(String);

/// `sshd -t`.
/// # Errors
/// [`SshdError::Test`]
pub fn test() -> Result<(), SshdError> {
    run(&mut program(SSHD, ["-t"]), BOUNDS).and_then(|ended| ended.ok()).map(drop).map_err(SshdError::Test)
}

/// What its configuration comes to.
/// # Errors
/// [`SshdError::Test`]
pub fn effective() -> Result<Effective, SshdError> {
    let text = run(&mut program(SSHD, ["-T"]), BOUNDS).and_then(|ended| ended.ok()).map_err(SshdError::Test)?;
    Ok(Effective(String::from_utf8_lossy(&text).into_owned()))
}

impl Effective {
    /// All values of a keyword, which is written in small letters.
    pub fn values<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .lines()
            .filter_map(move |line| line.split_once(' ').filter(|(word, _)| *word == keyword))
            .map(|(_, rest)| rest.trim())
    }

    /// Whether `wanted` is among the values of a keyword that our file sets.
    /// # Errors
    /// [`SshdError::Ignored`]
    pub fn demand(&self, file: &Path, keyword: &'static str, wanted: &Path) -> Result<(), SshdError> {
        if self.values(keyword).any(|value| Path::new(value) == wanted) {
            return Ok(());
        }
        let found = self.values(keyword).collect::<Vec<_>>().join(" ");
        Err(SshdError::Ignored {
            file: file.into(),
            folder: file.parent().unwrap_or(Path::new("/")).into(),
            keyword,
            found: if found.is_empty() { "nothing".to_owned() } else { escape(found.as_bytes(), 256) },
            wanted: wanted.display().to_string(),
        })
    }

    /// Has a running sshd read its configuration and its certificates anew, and waits until it listens again. False: none runs (one that is started for each connection needs nothing).
    /// # Errors
    /// [`SshdError`]
    pub fn reload(&self) -> Result<bool, SshdError> {
        let Some(file) = self.values("pidfile").next().map(Path::new) else { return Ok(false) };
        let Some((pid, process)) = running(file) else { return Ok(false) };
        let before = written(file);
        process.signal(nix::libc::SIGHUP).map_err(SshdError::Signal)?;
        // It becomes itself anew under the same number, and writes the file when it listens (sshd.c, sighup_restart and main).
        let deadline = Instant::now() + RELOAD;
        while Instant::now() < deadline {
            if written(file) != before && running(file).is_some_and(|(again, _)| again == pid) {
                return Ok(true);
            }
            if process.wait_end(LOOK_EVERY).map_err(SshdError::Signal)? {
                return Err(SshdError::Died);
            }
        }
        Err(SshdError::Hangs)
    }
}

/// What tells that a file was written anew. `None`: it is not there.
fn written(file: &Path) -> Option<(u64, i64, i64)> {
    std::fs::metadata(file).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()))
}

/// The sshd of a pid file, if it lives and is one.
fn running(file: &Path) -> Option<(u32, ProcessHandle)> {
    let pid: u32 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    let handle = ProcessHandle::open(pid, start_time(pid).ok()?).ok()?;
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = program.file_name()?.to_string_lossy().into_owned();
    // " (deleted)": it was upgraded beneath.
    (name == "sshd" || name == "sshd (deleted)").then_some((pid, handle))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn what_sshd_goes_by_is_compared_with_what_was_written() {
        let effective = Effective(
            "port 22\nhostcertificate /a-cert.pub\nhostcertificate /b-cert.pub\ntrustedusercakeys none\n".into(),
        );
        let file = Path::new("/etc/ssh/sshd_config.d/x.conf");
        effective.demand(file, "hostcertificate", Path::new("/b-cert.pub")).unwrap();
        for (keyword, said) in [
            ("trustedusercakeys", "says trustedusercakeys none, not /ca"),
            ("revokedkeys", "says revokedkeys nothing, not /ca"),
        ] {
            let error = effective.demand(file, keyword, Path::new("/ca")).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("`Include /etc/ssh/sshd_config.d/*.conf`"), "{error}");
        }
    }

    #[test]
    fn a_pid_file_that_names_something_else_is_no_sshds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sshd.pid");
        assert!(running(&file).is_none());
        std::fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        assert!(running(&file).is_none(), "a test is no sshd");
        let effective = Effective(format!("pidfile {}\n", file.display()));
        assert!(!effective.reload().unwrap());
    }
}
