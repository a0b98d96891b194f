//! The files that our lines name, and the stack's own: what the module would say of them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pam_ussh::options::{AuthOptions, FilePattern, Principals};
use pam_ussh::terminal;
use ussh_core::trusted_file::{TrustedFileError, read_trusted};

use super::{Subject, finding, is_installed};
use crate::line_check;
use crate::pam::stack::{Facility, Handler, Place};
use crate::report::{Finding, Severity};

/// Longest stack file, in bytes.
const MAX_STACK: usize = 1024 * 1024;
/// Of no file is more read, in bytes.
const MAX_FILE: usize = 64 * 1024 * 1024;

/// Looks at all of them.
pub fn lint(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for facility in [Facility::Auth, Facility::Account] {
        for line in subject.ours(facility) {
            let arguments = line.text_arguments();
            let Ok(options) = line_check::options(&subject.stack.service, facility, arguments.as_deref()) else {
                continue;
            };
            if let Some(options) = options.auth() {
                findings.extend(named(subject, line, options));
            }
        }
    }
    if subject.concerned && is_installed(&subject.file) {
        findings.extend(subject.stack.files.iter().filter_map(|file| stack_file(file)));
    }
    findings
}

fn named(subject: &Subject, line: &Handler, options: &AuthOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut look = |name: &str, path: &Path, read: &dyn Fn() -> Result<(), String>| {
        findings.extend(one(subject, line, name, path, read));
    };
    look("ca_file", &options.ca_file, &|| terminal::read_cas(&options.ca_file));
    if let Some(path) = &options.revoked_keys {
        look("revoked_keys", path, &|| terminal::read_revoked(path, options.krl_max_age));
    }
    if let Principals::File(pattern) = &options.principals
        && let Some(path) = only_path(pattern)
    {
        look("authorized_principals_file", &path, &|| terminal::read_principals(&path));
    }
    findings
}

/// The path of a pattern that is the same for everybody.
fn only_path(pattern: &FilePattern) -> Option<PathBuf> {
    let one = pattern.expand("a", 1)?;
    (pattern.expand("b", 2).as_ref() == Some(&one)).then_some(one)
}

fn one(
    subject: &Subject,
    line: &Handler,
    name: &str,
    path: &Path,
    read: &dyn Fn() -> Result<(), String>,
) -> Option<Finding> {
    let why = "without it the module refuses everybody";
    let shown = path.display();
    if let Err(TrustedFileError::Io { source, .. }) = read_trusted(path, MAX_FILE) {
        if source.kind() == ErrorKind::NotFound {
            let severity = if subject.installed { Severity::Error } else { Severity::Note };
            let what = format!("{name}: {shown} is not there");
            return Some(finding(
                &line.at,
                severity,
                "file",
                what,
                why,
                format!("put it there, or name another with {name}="),
            ));
        }
        if source.kind() == ErrorKind::PermissionDenied {
            let what = format!("{name}: {shown} is not for you to read");
            return Some(finding(&line.at, Severity::Unchecked, "file", what, why, "run this as root"));
        }
    }
    let reason = read().err()?;
    let what = format!("{name}: {reason}");
    Some(finding(&line.at, Severity::Error, "file", what, why, format!("mend it, or name another with {name}=")))
}

/// Whoever can write to a stack can let himself in.
fn stack_file(file: &Path) -> Option<Finding> {
    if fs::metadata(file).is_err() {
        return None;
    }
    let error = read_trusted(file, MAX_STACK).err()?;
    let at = Place { file: file.into(), line: 0 };
    Some(finding(
        &at,
        Severity::Error,
        "stack-writable",
        error.to_string(),
        "whoever can change a stack, or put another in its place, lets in whom he likes",
        "",
    ))
}
