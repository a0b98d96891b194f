//! What options name: files, as the module would find them, and groups. And what they leave out.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pam_ussh::options::{AuthOptions, FilePattern, Principals};
use pam_ussh::terminal;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::principals::PrincipalList;
use ussh_core::revoked::{NotFresh, RevokedKeys};
use ussh_core::trusted_file::{TrustedFileError, read_trusted};
use ussh_os::account::group_id;

use crate::line_check::{Options, Wrong};
use crate::report::Severity;

/// Of no file is more read, in bytes.
const MAX_FILE: usize = 64 * 1024 * 1024;

const REFUSES: &str = "without it the module refuses everybody";

/// Looks at what these options of a line name. `must_be_there`: what is not is an error; else the host that the line is for may have it.
pub fn look(service: &str, options: &Options, must_be_there: bool) -> Vec<Wrong> {
    let absent = if must_be_there { Severity::Error } else { Severity::Note };
    let mut found = Vec::new();
    let Some(auth) = options.auth() else { return found };
    found.extend(file("ca_file", &auth.ca_file, absent, || {
        terminal::read_cas(&auth.ca_file).map_err(|what| (what, mend("ca_file")))
    }));
    found.extend(revoked_keys(service, auth, absent));
    if let Principals::File(pattern) = &auth.principals
        && let Some(path) = only_path(pattern)
    {
        found.extend(principals(&path, absent));
    }
    let exempt = match options {
        Options::Account(account) => account.exempt_group.as_deref(),
        Options::Auth(_) | Options::Session(_) => None,
    };
    for (name, value) in [("group", auth.group.as_deref()), ("account_exempt_group", exempt)] {
        found.extend(value.and_then(|value| group(name, value, absent, group_id)));
    }
    found
}

fn revoked_keys(service: &str, options: &AuthOptions, absent: Severity) -> Option<Wrong> {
    let Some(path) = &options.revoked_keys else {
        // sshd has a list of its own for what it takes.
        return (service != "sshd").then(|| Wrong {
            severity: Severity::Note,
            rule: "no-revocation",
            what: "no revoked_keys=: the line takes a certificate that was revoked".into(),
            why: "until it runs out, whoever has its key gets in",
            instead: "revoked_keys=/etc/ssh/revoked_keys".into(),
        });
    };
    file("revoked_keys", path, absent, || {
        terminal::read_revoked(path, options.krl_max_age).map_err(|what| {
            let instead = match not_fresh(path, options.krl_max_age) {
                Some(NotFresh::Stale { .. }) => {
                    "have the list fetched anew (as by `ussh-hostd sync`), and see why it was not".into()
                }
                Some(NotFresh::FromTheFuture { .. }) => {
                    "set the clock right that is wrong: this host's, or the CA's".into()
                }
                Some(NotFresh::PlainList) => "take krl_max_age= out, or name a KRL".into(),
                None => mend("revoked_keys"),
            };
            (what, instead)
        })
    })
}

fn not_fresh(path: &Path, max_age: Option<Duration>) -> Option<NotFresh> {
    let list = RevokedKeys::parse(&read_trusted(path, MAX_FILE).ok()?).ok()?;
    let now = SystemClock.now();
    max_age.map_or_else(|| list.check_clock(now), |max_age| list.check_age(now, max_age)).err()
}

fn principals(path: &Path, absent: Severity) -> Option<Wrong> {
    const NAME: &str = "authorized_principals_file";
    let broken = file(NAME, path, absent, || terminal::read_principals(path).map_err(|what| (what, mend(NAME))));
    broken.or_else(|| {
        let list = PrincipalList::parse_file(&read_trusted(path, MAX_FILE).ok()?);
        list.is_empty().then(|| Wrong {
            severity: Severity::Warning,
            rule: "file",
            what: format!("{NAME}: {} permits nobody: it holds no name without options", path.display()),
            why: "the module refuses everybody",
            instead: "one name a line, and nothing else on it".into(),
        })
    })
}

/// The path of a pattern that is the same for everybody.
fn only_path(pattern: &FilePattern) -> Option<PathBuf> {
    let one = pattern.expand("a", 1)?;
    (pattern.expand("b", 2).as_ref() == Some(&one)).then_some(one)
}

fn mend(name: &str) -> String {
    format!("mend it, or name another with {name}=")
}

/// `read`: as the module would; what is wrong, and what to do.
fn file(
    name: &str,
    path: &Path,
    absent: Severity,
    read: impl FnOnce() -> Result<(), (String, String)>,
) -> Option<Wrong> {
    let wrong = |severity, what: String, instead: String| {
        Some(Wrong { severity, rule: "file", what: format!("{name}: {what}"), why: REFUSES, instead })
    };
    let shown = path.display();
    if let Err(TrustedFileError::Io { source, .. }) = read_trusted(path, MAX_FILE) {
        if source.kind() == ErrorKind::NotFound {
            let instead = format!("put it there, or name another with {name}=");
            return wrong(absent, format!("{shown} is not there"), instead);
        }
        if source.kind() == ErrorKind::PermissionDenied {
            return wrong(Severity::Unchecked, format!("{shown} is not for you to read"), "run this as root".into());
        }
    }
    let (what, instead) = read().err()?;
    wrong(Severity::Error, what, instead)
}

fn group(
    name: &str,
    value: &str,
    absent: Severity,
    look_up: impl FnOnce(&str) -> io::Result<Option<u32>>,
) -> Option<Wrong> {
    let (severity, what, instead) = match look_up(value) {
        Ok(Some(_)) => return None,
        Ok(None) => {
            (absent, format!("{name}: there is no group {value}"), format!("make it, or name another with {name}="))
        }
        Err(error) => {
            (Severity::Unchecked, format!("{name}: {value} could not be looked up: {error}"), "try again".into())
        }
    };
    Some(Wrong { severity, rule: "group", what, why: REFUSES, instead })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_group_that_cannot_be_looked_up_is_not_said_to_be_missing() {
        let failed = |_: &str| Err(io::Error::other("the directory is down"));
        let wrong = group("group", "admins", Severity::Error, failed).unwrap();
        assert_eq!(wrong.severity, Severity::Unchecked);
        assert_eq!(wrong.what, "group: admins could not be looked up: the directory is down");
        assert_eq!(group("group", "root", Severity::Error, group_id), None);
    }
}
