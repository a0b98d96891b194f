//! Our lines by themselves: where they stand, what is on them.

use super::{Subject, finding};
use crate::line_check;
use crate::pam::stack::{Facility, Handler, Kind};
use crate::report::{Finding, Severity};

/// Looks at each line of ours.
pub fn lint(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for facility in Facility::ALL {
        for line in subject.ours(facility).filter(|line| line.kind == Kind::Module) {
            findings.extend(one(subject, facility, line));
        }
    }
    findings
}

fn one(subject: &Subject, facility: Facility, line: &Handler) -> Vec<Finding> {
    let mut findings = Vec::new();
    let service = subject.stack.service.as_str();
    if let Err(misplaced) = line_check::place(service, facility) {
        findings.push(finding(
            &line.at,
            Severity::Error,
            misplaced.rule,
            misplaced.what,
            misplaced.why,
            misplaced.instead,
        ));
    } else if let Err(wrong) = line_check::options(service, facility, line.text_arguments().as_deref()) {
        findings.push(finding(&line.at, wrong.severity, "option", wrong.what, wrong.why, wrong.instead));
    }
    if let Some(idle) = line_check::idle(service, facility, line.text_arguments().as_deref()) {
        findings.push(finding(&line.at, idle.severity, idle.rule, idle.what, idle.why, idle.instead));
    }
    if line.silent {
        findings.push(finding(
            &line.at,
            Severity::Warning,
            "silent",
            format!("-{facility}: nothing is logged if pam_ussh is missing"),
            "the line refuses then, and nobody can tell why",
            format!("{facility} without the -"),
        ));
    }
    findings
}
