//! The files that our lines name, and the stack's own: what the module would say of them.

use std::fs;
use std::path::Path;

use pam_ussh::options::Config;
use pam_ussh::terminal;
use ussh_core::trusted_file::read_trusted;

use super::companions::PAIRS;
use super::{OUR_SERVICES, Subject, finding, is_installed};
use crate::line_check::{self, Wrong};
use crate::modules::is_ours;
use crate::named;
use crate::pam::stack::{Facility, PAM_D, Place};
use crate::report::{Finding, Severity};

/// Longest stack file, in bytes.
const MAX_STACK: usize = 1024 * 1024;

/// Looks at all of them.
pub fn lint(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let service = subject.stack.service.as_str();
    for facility in [Facility::Auth, Facility::Account] {
        for line in subject.ours(facility) {
            let arguments = line.text_arguments();
            let Ok(options) = line_check::options(service, facility, arguments.as_deref()) else { continue };
            let named = named::look(service, &options, subject.installed).into_iter();
            findings.extend(named.map(|Wrong { severity, rule, what, why, instead }| {
                finding(&line.at, severity, rule, what, why, instead)
            }));
        }
    }
    findings.extend(config_tables(subject));
    if subject.concerned && is_installed(&subject.file) {
        findings.extend(subject.stack.files.iter().filter_map(|file| stack_file(file)));
    }
    findings
}

/// Tables of services that no stack has: whoever wrote them meant another name, and its options hold for nobody.
fn config_tables(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = Facility::ALL.into_iter().flat_map(|facility| subject.ours(facility));
    for file in lines.flat_map(|line| terminal::config_files(line.text_arguments().as_deref())) {
        // What is wrong with it stands at the line.
        let Ok(config) = Config::read(&file) else { continue };
        findings.extend(other_half(subject, &file, &config));
        for service in config.services().filter(|service| !has_stack(subject, service)) {
            let severity = if OUR_SERVICES.contains(&service) { Severity::Note } else { Severity::Warning };
            findings.push(finding(
                &Place { file: file.as_path().into(), line: 0 },
                severity,
                "service-table",
                format!("[service.{service}]: no stack is named {service}"),
                "its options hold for nobody, and the service that was meant goes by its line and [default] alone",
                "[service.NAME] with the name of a file in /etc/pam.d",
            ));
        }
    }
    findings
}

/// A table for one of the two services of a program, and none for the other, which asks for a certificate too.
fn other_half(subject: &Subject, file: &Path, config: &Config) -> Option<Finding> {
    let has = |service: &str| config.services().any(|known| known == service);
    let service = subject.stack.service.as_str();
    let (_, other, what) = PAIRS.into_iter().find(|(one, _, _)| *one == service)?;
    let stack = subject.beside(other)?;
    let asks = Facility::ALL.into_iter().any(|facility| stack.chain(facility).iter().any(is_ours));
    (has(service) && !has(other) && asks).then(|| {
        finding(
            &Place { file: file.into(), line: 0 },
            Severity::Note,
            "service-table",
            format!("[service.{service}] does not hold for {what}: its service is {other}"),
            "it goes by its line and [default] alone",
            format!("[service.{other}] with the same options, if they are meant for both"),
        )
    })
}

fn has_stack(subject: &Subject, service: &str) -> bool {
    service == subject.stack.service
        // All services stand in one file there.
        || subject.file.file_name().is_some_and(|name| name == "pam.conf")
        || !service.contains('/') && (!subject.is_missing(service) || Path::new(PAM_D).join(service).exists())
}

/// Whoever can write to a stack can let himself in.
fn stack_file(file: &Path) -> Option<Finding> {
    if fs::metadata(file).is_err() {
        return None;
    }
    let absolute = std::path::absolute(file).ok()?;
    let error = read_trusted(&absolute, MAX_STACK).err()?;
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
