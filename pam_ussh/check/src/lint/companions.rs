//! Stacks that lie beside this one and belong to it: sudo and sudo-i, su and su-l; and login, which must stay without us.

use super::{OUR_SERVICES, Subject, finding};
use crate::modules::is_ours;
use crate::pam::stack::{Facility, Place};
use crate::report::{Finding, Severity};

/// The other service of the same program, and when it is asked.
pub(super) const PAIRS: [(&str, &str, &str); 4] = [
    ("sudo", "sudo-i", "`sudo -i`"),
    ("sudo-i", "sudo", "sudo without -i"),
    ("su", "su-l", "`su -`"),
    ("su-l", "su", "su without -"),
];

/// Looks beside the file.
pub fn lint(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let service = subject.stack.service.as_str();
    if let Some(ours) = subject.ours(Facility::Auth).next() {
        for (_, other, what) in PAIRS.into_iter().filter(|(one, _, _)| *one == service) {
            if subject.installed && subject.is_missing(other) {
                findings.push(finding(
                    &ours.at,
                    Severity::Note,
                    "companion",
                    format!("{what} is not asked for a certificate: its service {other} has no file"),
                    "libpam asks the stack of `other` then, which in Debian takes passwords",
                    format!("a file {other} with the same line"),
                ));
            }
            let stack = subject.beside(other);
            if stack.is_some_and(|stack| !stack.chain(Facility::Auth).iter().any(is_ours)) {
                findings.push(finding(
                    &ours.at,
                    Severity::Note,
                    "companion",
                    format!("{what} is not asked for a certificate: its service {other} has no auth line of pam_ussh"),
                    "the two services of one program have stacks of their own",
                    format!("the same line in {other}"),
                ));
            }
        }
    }
    // sshd asks for the certificate itself.
    if OUR_SERVICES.contains(&service) && service != "sshd" && subject.stack.chain(Facility::Auth).is_empty() {
        let at = Place { file: subject.file.as_path().into(), line: 0 };
        findings.push(finding(
            &at,
            Severity::Warning,
            "no-auth",
            format!("{service} has no auth line: nobody is asked for a certificate"),
            "libpam asks the auth lines of `other` then, which in Debian take passwords",
            "auth required pam_ussh.so",
        ));
    }
    if service != "login" {
        findings.extend(reaches_login(subject));
    }
    findings
}

/// A line of ours in a file that login includes too.
fn reaches_login(subject: &Subject) -> Vec<Finding> {
    let Some(login) = subject.beside("login") else { return Vec::new() };
    let mut findings = Vec::new();
    for facility in Facility::ALL {
        for ours in subject.ours(facility) {
            let same = login.chain(facility).iter().find(|line| is_ours(line) && line.at == ours.at);
            if same.is_some() {
                findings.push(finding(
                    &ours.at,
                    Severity::Error,
                    "login",
                    "login includes this line too",
                    "a console has no agent: the rescue door would be shut",
                    format!("put it into the stacks of sudo and su, not into {}", ours.at.file.display()),
                ));
            }
        }
    }
    findings
}
