//! An enrolment that was cut short, by SIGKILL or a power cut: its journal is in the state folder, and whoever comes next and may change anything undoes it first.
//!
//! Otherwise sshd might be left with a configuration with which it does not start.

use std::path::PathBuf;

use crate::config::Config;
use crate::place::journal::{Journal, JournalError};
use crate::report::{Report, Severity};
use crate::sshd;
use crate::sync::{SyncError, lock};

/// Where an enrolment says what it is about to replace.
pub fn journal(config: &Config) -> PathBuf {
    config.state.join("enrolling.json")
}

/// At the daemon's start: what an enrolment that is at work does is its own business.
pub fn undo_at_start(config: &Config, report: &Report) {
    if !is_there(config) {
        return;
    }
    match lock(config) {
        Ok(_) | Err(SyncError::Busy(_)) => {}
        Err(e) => report.line(Severity::Error, &e.to_string()),
    }
}

/// By whoever holds the lock. sshd, if it runs, may have read what is undone: it reads it anew.
/// # Errors
/// [`JournalError`]: nothing more may be changed.
pub fn undo(config: &Config) -> Result<(), JournalError> {
    let path = journal(config);
    let Some(begun) = Journal::read(&path)? else { return Ok(()) };
    let left = begun.undo(&path)?;
    let report = Report::new();
    report.line(Severity::Notice, "An enrolment that was cut short is undone: every file of it is what it was before");
    for file in left {
        report.line(
            Severity::Warning,
            &format!("{} was changed by somebody since, and stays as it is; what was there before the enrolment, if anything, lies beside it as .before-enroll", file.display()),
        );
    }
    if let Err(e) = sshd::test().and_then(|()| sshd::effective()).and_then(|effective| effective.reload()) {
        report.line(Severity::Error, &format!("After that: {e}"));
    }
    Ok(())
}

/// For `check` and `status`; `None`: there is none, or it is at work.
pub fn problem(config: &Config) -> Option<String> {
    // Once more at last: one that was at work may have come to its end meanwhile.
    if !is_there(config) || is_at_work(config) || !is_there(config) {
        return None;
    }
    Some(
        "an enrolment was cut short, and sshd may not start with what it has left: `systemctl restart ussh-hostd` undoes it, and so does `ussh-hostd enroll` with a new token before it begins"
            .into(),
    )
}

fn is_there(config: &Config) -> bool {
    journal(config).exists()
}

fn is_at_work(config: &Config) -> bool {
    let locked = |file: std::fs::File| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock));
    std::fs::File::open(config.sync_lock_file()).is_ok_and(locked)
}
