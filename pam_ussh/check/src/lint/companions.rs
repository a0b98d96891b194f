//! Stacks that lie beside this one and belong to it: sudo and sudo-i, su and su-l; and login, which must stay without us.

use super::{OUR_SERVICES, Subject, finding};
use crate::line_check;
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
    findings.extend(binds_to_nothing(subject));
    findings
}

/// Lines with `bind_session=yes` where no login is recorded.
fn binds_to_nothing(subject: &Subject) -> Vec<Finding> {
    let Some(sshd) = subject.beside("sshd") else { return Vec::new() };
    if sshd.given_up.is_some() || sshd.hidden.is_some() || sshd.chain(Facility::Session).iter().any(is_ours) {
        return Vec::new();
    }
    let service = subject.stack.service.as_str();
    let both = [Facility::Auth, Facility::Account].into_iter();
    let lines = both.flat_map(|facility| subject.ours(facility).map(move |line| (facility, line)));
    let binds = lines.filter(|(facility, line)| {
        let options = line_check::options(service, *facility, line.text_arguments().as_deref());
        options.is_ok_and(|options| options.auth().is_some_and(|auth| auth.bind_session))
    });
    let found = binds.map(|(_, line)| {
        finding(
            &line.at,
            Severity::Error,
            "no-records",
            "bind_session=yes, and sshd has no session line of pam_ussh",
            "no login is recorded then, and everybody is refused",
            "session requisite pam_ussh.so in sshd, before any pam_env with user_readenv=1",
        )
    });
    found.collect()
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
