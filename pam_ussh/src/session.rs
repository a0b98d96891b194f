//! `session` in sshd's stack: the record of the connection, for ussh-hostd. Prints nothing: what is said here stands above the shell, and in the
//! channel itself, of scp and sftp too, where the session is refused.
//!
//! sshd runs it once per connection, in the process that must be ended to end the connection. The line must come before any pam_env that reads the user's file.

use std::path::Path;

use ussh_core::break_glass::{CA_FILE, TRUSTED, check, read_keys_apart};
use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::decision::Tried;
use ussh_core::record::{SPOOL, SessionRecord, VERSION};
use ussh_os::account::Account;
use ussh_os::file_size;
use ussh_os::pam_module::{PamHandle, PamReturn};
use ussh_os::process;

use crate::answer::{self, Denial, Phase, Subject};
use crate::glass;
use crate::inject;
use crate::options::{Facility, FromLine, SessionOptions, SpoolFailure};
use crate::place;
use crate::sshd;

/// The hook of open_session.
pub fn open(handle: &PamHandle, _silent: bool, arguments: Option<Vec<String>>) -> PamReturn {
    let arguments = inject::panic_if_told("session", arguments);
    let mut subject = Subject::of(handle, Phase::Session);
    let options = match options(handle, &mut subject, arguments.as_deref()) {
        Ok(options) => options,
        Err(denial) => return answer::session_refused(&subject, &denial),
    };
    let record = login_record(handle, &subject);
    // Against a rule of its own it gets nowhere, whatever the line allows where no record can be written.
    if let Ok(record) = &record
        && let Err(denial) = break_glass(&subject, record)
    {
        return answer::session_refused(&subject, &denial);
    }
    let written = record.and_then(|record| {
        let unavailable = |error: String| Denial::Unavailable(format!("record in {SPOOL}: {error}"));
        file_size::with_limit_as_error(|| record.write(Path::new(SPOOL)))
            .map_err(|error| unavailable(error.to_string()))?
            .map_err(|error| unavailable(error.to_string()))
    });
    match (written, options.spool_failure) {
        (Ok(()), _) => answer::session_recorded(&subject, options.debug),
        (Err(denial), SpoolFailure::Refuse) => answer::session_refused(&subject, &denial),
        (Err(denial), SpoolFailure::Allow) => answer::session_unwatched(&subject, &denial),
    }
}

/// Holds a login by break-glass to its rules, and notes it where a restart of the machine leaves it.
fn break_glass(subject: &Subject, record: &SessionRecord) -> Result<(), Denial> {
    let pinned = match read_keys_apart(Path::new(CA_FILE), Path::new(TRUSTED)) {
        Ok((pinned, of_users)) => {
            if let Some(key) = of_users.first() {
                let problem =
                    format!("{CA_FILE} holds the user CA's key {}, which stays the user CA's", key.fingerprint());
                answer::break_glass_unknown(subject, &problem);
            }
            pinned
        }
        Err(error) => {
            answer::break_glass_unknown(subject, &error.to_string());
            return Ok(());
        }
    };
    let certificate = record.certificate.as_deref().and_then(|line| Certificate::from_openssh(line).ok());
    let Some(certificate) = certificate.filter(|certificate| pinned.contains(certificate.ca())) else {
        return Ok(());
    };
    if let Err(refusal) = check(&certificate) {
        return Err(Denial::of_tried(vec![Tried { certificate: Some(certificate), reason: refusal.into() }]));
    }
    glass::login(subject, record, &certificate);
    Ok(())
}

/// The hook of close_session.
pub fn close(handle: &PamHandle, _silent: bool, arguments: Option<Vec<String>>) -> PamReturn {
    let arguments = inject::panic_if_told("session", arguments);
    let mut subject = Subject::of(handle, Phase::Session);
    let removed = options(handle, &mut subject, arguments.as_deref()).and_then(|options| {
        // Its name alone counts here; what PAM's environment says of the login by now may be the user's own words.
        record(handle, &subject, None)?
            .remove(Path::new(SPOOL))
            .map_err(|error| Denial::Unavailable(format!("record in {SPOOL}: {error}")))?;
        Ok(options)
    });
    match removed {
        Ok(options) => answer::session_recorded(&subject, options.debug),
        Err(denial) => answer::session_refused(&subject, &denial),
    }
}

fn options(handle: &PamHandle, subject: &mut Subject, arguments: Option<&[String]>) -> Result<SessionOptions, Denial> {
    place::demand_of(subject, Facility::Session)?;
    // sshd has set it; where somebody else might not have, asking for it would prompt.
    subject.user = handle.user();
    SessionOptions::parse(&subject.service, arguments).map_err(|error| Denial::Misconfigured(error.to_string()))
}

fn login_record(handle: &PamHandle, subject: &Subject) -> Result<SessionRecord, Denial> {
    record(handle, subject, governing(sshd::certificates(handle)?)?)
}

fn record(handle: &PamHandle, subject: &Subject, certificate: Option<Certificate>) -> Result<SessionRecord, Denial> {
    let unavailable = |what: &str, error: std::io::Error| Denial::Unavailable(format!("{what}: {error}"));
    let name = handle.user().ok_or(Denial::UnknownUser)?;
    let account = Account::by_name(&name).map_err(|error| unavailable("account", error))?.ok_or(Denial::UnknownUser)?;
    let pid = std::process::id();
    Ok(SessionRecord {
        version: VERSION,
        pid,
        start_time: process::start_time(pid).map_err(|error| unavailable("start time", error))?,
        boot_id: process::boot_id().map_err(|error| unavailable("boot id", error))?,
        user: account.name,
        uid: account.uid,
        rhost: subject.rhost.clone().unwrap_or_default(),
        certificate: certificate.map(|certificate| certificate.to_openssh("")),
        opened: SystemClock.now(),
    })
}

/// Of several certificates the one that ends first. One that cannot be read must not leave the session unwatched.
fn governing(certificates: Vec<Option<Certificate>>) -> Result<Option<Certificate>, Denial> {
    let readable: Option<Vec<Certificate>> = certificates.into_iter().collect();
    let readable = readable.ok_or_else(|| Denial::Unavailable("a certificate of this login cannot be read".into()))?;
    Ok(readable.into_iter().min_by_key(Certificate::valid_before))
}
