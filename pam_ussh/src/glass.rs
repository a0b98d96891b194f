//! What becomes of a use of break-glass: an alert in the log, and a note that ussh-hostd tells everybody of. A disk that takes no note keeps nobody out: the log has it.

use std::path::Path;

use ussh_core::break_glass::{Elsewhere, FOLDER, Note};
use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::record::SessionRecord;
use ussh_os::file_size;
use ussh_os::process;

use crate::answer;
use crate::log::Subject;

/// A proof by a certificate for break-glass, of which nobody has been told yet.
#[derive(Clone, Debug)]
pub struct Use {
    /// Address of the person whose agent it was; empty: unknown.
    pub from: String,
}

/// Somebody logs in by it.
pub fn login(subject: &Subject, record: &SessionRecord, certificate: &Certificate) {
    let problem = put(&Note::of(record, certificate)).err().unwrap_or_default();
    answer::break_glass(subject, "login", certificate, &problem);
}

/// Somebody uses it in sudo and the like, whatever the login was by.
pub fn elsewhere(subject: &Subject, used: &Use, certificate: &Certificate) {
    let problem = note_elsewhere(subject, used, certificate).err().unwrap_or_default();
    answer::break_glass(subject, &ussh_core::break_glass::service_word(&subject.service), certificate, &problem);
}

fn note_elsewhere(subject: &Subject, used: &Use, certificate: &Certificate) -> Result<(), String> {
    let pid = std::process::id();
    let used = Elsewhere {
        service: &subject.service,
        user: subject.user.as_deref().unwrap_or_default(),
        ruser: subject.ruser.as_deref().unwrap_or_default(),
        tty: subject.tty.as_deref().unwrap_or_default(),
        from: &used.from,
        boot_id: &process::boot_id().map_err(|error| format!("boot id: {error}"))?,
        pid,
        start_time: process::start_time(pid).map_err(|error| format!("start time: {error}"))?,
        at: SystemClock.now(),
    };
    put(&Note::elsewhere(&used, certificate))
}

fn put(note: &Note) -> Result<(), String> {
    match file_size::with_limit_as_error(|| note.put(Path::new(FOLDER))) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
