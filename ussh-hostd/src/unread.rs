//! What sshd has yet to read. OpenSSH reads host certificates when it starts and at SIGHUP (9.8 and later only then): a renewal that is ended between the two leaves the new ones on the disk, and an sshd that shows
//! the old ones until they run out. A mark in the state folder says so from before the first file is replaced until sshd has read them, whoever is killed in between.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ussh_os::process::{self, start_time};

use crate::config::Config;
use crate::own_file::read_if_there;
use crate::place::{self, NewFile, PlaceError};
use crate::sshd::{self, SshdError};
use crate::sshd_processes;

const FILE: &str = "sshd_unread.json";
/// Largest mark, bytes.
const MAX_FILE: usize = 64 * 1024;

/// Process ID, and start time in clock ticks since boot.
type Process = (u32, u64);

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// Who wrote it, and takes it away at its end.
    by: Process,
    /// The sshds of that time.
    sshds: Vec<Process>,
}

/// From now on sshd has something to read.
/// # Errors
/// [`PlaceError`]
pub fn mark(state: &Path) -> Result<(), PlaceError> {
    let path = file(state);
    let failed = |source| PlaceError::Write { path: path.clone(), source };
    let pid = std::process::id();
    let sshds = sshd_processes::all().iter().map(|sshd| (sshd.pid, sshd.start_time)).collect();
    let mark = Mark { by: (pid, start_time(pid).map_err(failed)?), sshds };
    let text = serde_json::to_vec(&mark).map_err(|e| failed(e.into()))?;
    place::put(vec![NewFile::private(&path, text)])?.keep();
    Ok(())
}

/// Whether it has.
pub fn is_marked(state: &Path) -> bool {
    read(state).is_some()
}

/// sshd has read all. A mark that cannot be taken away is an alarm, and costs no more than another reload.
pub fn clear(state: &Path) {
    if std::fs::remove_file(file(state)).is_ok() {
        let _ = File::open(state).and_then(|folder| folder.sync_all());
    }
}

/// Has sshd read what it has yet to read; whoever calls it holds the lock. An sshd that was started since has read it.
/// # Errors
/// [`SshdError`]; the mark stays.
pub fn settle(config: &Config) -> Result<(), SshdError> {
    let Some(mark) = read(&config.state) else { return Ok(()) };
    match sshd::test().and_then(|()| sshd::effective()).and_then(|effective| effective.reload()) {
        Ok(_runs) => {}
        Err(SshdError::Unclear(found)) if mark.is_older_than_all(&found) => {}
        Err(e) => return Err(e),
    }
    clear(&config.state);
    Ok(())
}

/// What somebody must hear of, if nobody is about to have sshd read it.
pub fn alarm(state: &Path) -> Option<String> {
    let mark = read(state)?;
    (!mark.is_being_seen_to()).then(|| {
        "sshd has yet to read this host's certificates, and may show old ones until they run out: restart sshd, then `ussh-hostd renew --reload`".to_owned()
    })
}

impl Mark {
    fn is_being_seen_to(&self) -> bool {
        let (pid, start) = self.by;
        start_time(pid).is_ok_and(|now| now == start)
    }

    fn is_older_than_all(&self, found: &[Process]) -> bool {
        // One that does not read knows none of them.
        self.by != Process::default() && !found.iter().any(|sshd| self.sshds.contains(sshd))
    }
}

/// `None`: there is none. One that does not read is one all the same.
fn read(state: &Path) -> Option<Mark> {
    match read_if_there(&file(state), MAX_FILE) {
        Ok(data) => data.map(|data| serde_json::from_slice(&data).unwrap_or_default()),
        // Others than root have no business there.
        Err(_) if process::effective_uid() != 0 => None,
        Err(_) => Some(Mark::default()),
    }
}

fn file(state: &Path) -> PathBuf {
    state.join(FILE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::test_support::trusted_folder;

    #[test]
    fn a_mark_is_an_alarm_when_whoever_wrote_it_is_gone_and_until_it_is_taken_away() {
        let folder = trusted_folder();
        let state = folder.path().join("state");
        assert_eq!(alarm(&state), None);
        mark(&state).unwrap();
        assert_eq!(alarm(&state), None, "it is at work");
        let text = format!("{{\"by\":[{},1],\"sshds\":[[7,8]]}}", std::process::id());
        for text in [text.as_str(), "{", ""] {
            std::fs::write(file(&state), text).unwrap();
            assert!(alarm(&state).unwrap().contains("`ussh-hostd renew --reload`"), "{text}");
        }
        clear(&state);
        assert_eq!(alarm(&state), None);
        clear(&state);
    }

    #[test]
    fn an_sshd_that_was_started_since_has_read_it() {
        let mark = Mark { by: (1, 2), sshds: vec![(7, 8)] };
        assert!(mark.is_older_than_all(&[(7, 9), (8, 8)]));
        assert!(!mark.is_older_than_all(&[(9, 9), (7, 8)]));
        assert!(!Mark::default().is_older_than_all(&[(9, 9)]));
    }
}
