//! Where a feed comes from. Whoever carries it is trusted with nothing: what comes is bounded in size and time, and judged by its signature.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ussh_core::feed::{FEED, MAX_FEED};
use ussh_os::account::Account;

use crate::ca_ssh::{self, CaError};
use crate::child::{Bounds, ChildError, program, run};
use crate::config::{Source, SyncConfig};
use crate::enrolment::{Enrolment, EnrolmentError};

/// Who runs the command of an `exec:` source.
const NOBODY: &str = "nobody";

/// Why no feed came.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is longer than any feed.
    #[error("{0} is longer than {MAX_FEED} bytes")]
    Huge(PathBuf),
    /// There is nobody to run the command.
    #[error("no account \"{NOBODY}\" to run the command as: {0}")]
    NoNobody(io::Error),
    /// The command failed.
    #[error("{0}")]
    Exec(#[from] ChildError),
    /// This host has no CA to ask.
    #[error("{0}")]
    NotEnrolled(#[from] EnrolmentError),
    /// The CA gave none.
    #[error("{0}")]
    Ca(#[from] CaError),
}

/// Fetches it, unjudged.
/// # Errors
/// [`SourceError`]
pub fn fetch(sync: &SyncConfig, state: &Path) -> Result<Vec<u8>, SourceError> {
    match &sync.source {
        Source::Ssh => Ok(ca_ssh::feed_of(&Enrolment::read(state)?, state, sync.timeout)?),
        Source::File(path) => read(&if path.is_dir() { path.join(FEED) } else { path.clone() }),
        Source::Exec(words) => execute(words, sync.timeout),
    }
}

/// Whoever owns the file: it is signed. Not a pipe, which might never end.
fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::File { path: path.into(), source };
    let options = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(options).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let mut data = Vec::new();
    let most = u64::try_from(MAX_FEED).unwrap_or(u64::MAX);
    file.take(most.saturating_add(1)).read_to_end(&mut data).map_err(failed)?;
    if data.len() > MAX_FEED { Err(SourceError::Huge(path.into())) } else { Ok(data) }
}

fn execute(words: &[String], time: Duration) -> Result<Vec<u8>, SourceError> {
    let nobody = Account::by_name(NOBODY).and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()));
    let nobody = nobody.map_err(SourceError::NoNobody)?;
    let (path, arguments) = words.split_first().map_or(("", words), |(path, rest)| (path.as_str(), rest));
    let mut command = program(path, arguments);
    // With a uid, and nothing said of groups, the child has no groups but this one.
    command.uid(nobody.uid).gid(nobody.gid);
    Ok(run(&mut command, Bounds { time, bytes: MAX_FEED })?.ok()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn from(source: Source) -> Result<Vec<u8>, SourceError> {
        fetch(&SyncConfig { source, ..SyncConfig::default() }, Path::new("/nonexistent"))
    }

    fn exec(line: &str) -> Result<Vec<u8>, SourceError> {
        from(Source::Exec(line.split(' ').map(str::to_owned).collect()))
    }

    #[test]
    fn a_command_is_nobody_with_no_groups_and_no_shell() {
        let nobody = Account::by_name(NOBODY).unwrap().unwrap();
        let id = String::from_utf8(exec("/usr/bin/id -u").unwrap()).unwrap();
        assert_eq!(id.trim(), nobody.uid.to_string());
        let groups = String::from_utf8(exec("/usr/bin/id -G").unwrap()).unwrap();
        assert_eq!(groups.trim(), nobody.gid.to_string());
        assert_eq!(exec("/bin/echo $HOME;id").unwrap(), b"$HOME;id\n");
        assert!(exec("/bin/false").unwrap_err().to_string().starts_with("/bin/false failed (exit status: 1)"));
    }

    #[test]
    fn a_file_or_a_folders_feed_is_read_and_a_pipe_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let from = |path: &Path| from(Source::File(path.into()));
        assert!(from(folder.path()).unwrap_err().to_string().contains("/feed: No such file"));
        std::fs::write(folder.path().join(FEED), "data").unwrap();
        assert_eq!(from(folder.path()).unwrap(), b"data");
        assert_eq!(from(&folder.path().join(FEED)).unwrap(), b"data");
        std::fs::remove_file(folder.path().join(FEED)).unwrap();
        nix::unistd::mkfifo(&folder.path().join(FEED), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(from(folder.path()).unwrap_err().to_string().contains("not a regular file"));
        let huge = std::fs::File::create(folder.path().join("huge")).unwrap();
        huge.set_len(MAX_FEED as u64 + 1).unwrap();
        assert!(matches!(from(&folder.path().join("huge")), Err(SourceError::Huge(_))));
    }
}
