//! `--stack`: what in a stack lets everybody in, or nobody.
//!
//! Process: an administrator's or a script's. Trusted: nothing; files that cannot be read are said to be so.

mod chain;
mod companions;
mod files;
mod lines;
mod open;
mod presence;
mod sshd;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::modules::is_ours;
use crate::pam::stack::{Facility, Handler, PAM_D, Place, Stack};
use crate::report::{Finding, Severity};

/// What the command line says on how to look.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Judge the files as if they lay in `/etc/pam.d`: what they name must be there.
    pub installed: bool,
    /// The sshd_config that goes with a stack named sshd.
    pub sshd_config: Option<PathBuf>,
    /// PAM_SERVICE, if it is not the file's name.
    pub service: Option<String>,
}

/// One service of a file.
#[derive(Debug)]
pub struct Linted {
    /// PAM_SERVICE.
    pub service: String,
    /// In the order of the lines.
    pub findings: Vec<Finding>,
}

/// Services that this module is made for: a stack of theirs that lets everybody in is a mistake, even without a line of ours.
const OUR_SERVICES: [&str; 6] = ["sudo", "sudo-i", "su", "su-l", "doas", "sshd"];

/// Looks at a file.
/// # Errors
/// It cannot be read.
pub fn lint(file: &Path, manner: &Manner) -> io::Result<Vec<Linted>> {
    let stacks = Stack::read(file)?;
    let installed = manner.installed || is_installed(file);
    let lint_one = |mut stack: Stack| {
        if let Some(service) = &manner.service {
            stack.service.clone_from(service);
        }
        let subject = Subject::new(file, stack, installed);
        let mut findings = syntax(&subject.stack);
        if subject.stack.given_up.is_none() {
            // What is missing here may be what lets in or refuses.
            if subject.stack.hidden.is_none() {
                for facility in Facility::ALL {
                    findings.extend(chain::lint(&subject, facility));
                }
                findings.extend(companions::lint(&subject));
            }
            findings.extend(lines::lint(&subject));
            findings.extend(presence::lint(&subject));
            findings.extend(files::lint(&subject));
            findings.extend(sshd::lint(&subject, manner.sshd_config.as_deref()));
        }
        let mut unique: Vec<Finding> = Vec::new();
        for finding in findings {
            if !unique.contains(&finding) {
                unique.push(finding);
            }
        }
        unique.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
        Linted { service: subject.stack.service, findings: unique }
    };
    Ok(stacks.into_iter().map(lint_one).collect())
}

/// Whether this module, as a line writes it, is on this host in none of the folders where libpam looks. Not if they hold no module at all.
pub fn is_missing_module(module: &str) -> bool {
    presence::is_missing(module)
}

/// A stack, and what is known of it beside its lines.
struct Subject {
    file: PathBuf,
    stack: Stack,
    /// What it names must be there.
    installed: bool,
    /// It is, or ought to be, ours to guard.
    concerned: bool,
}

impl Subject {
    fn new(file: &Path, stack: Stack, installed: bool) -> Self {
        let concerned = OUR_SERVICES.contains(&stack.service.as_str())
            || Facility::ALL.iter().any(|facility| stack.chain(*facility).iter().any(is_ours));
        Subject { file: file.to_owned(), stack, installed, concerned }
    }

    /// Lines of ours in a facility.
    fn ours(&self, facility: Facility) -> impl Iterator<Item = &Handler> {
        self.stack.chain(facility).iter().filter(|handler| is_ours(handler))
    }

    /// Whether nothing of this name lies beside this one.
    fn is_missing(&self, service: &str) -> bool {
        let found = self.file.with_file_name(service).symlink_metadata();
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Reads the stack of another service that lies beside this one; `None` if there is none.
    fn beside(&self, service: &str) -> Option<Stack> {
        let path = self.file.with_file_name(service);
        fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        Stack::read(&path).ok()?.into_iter().next()
    }
}

/// Whether libpam would read it for its service.
fn is_installed(file: &Path) -> bool {
    let folder = file.canonicalize().ok().and_then(|file| file.parent().map(Path::to_owned));
    folder.as_deref() == Some(Path::new(PAM_D))
}

fn syntax(stack: &Stack) -> Vec<Finding> {
    let mut findings: Vec<Finding> = stack
        .problems
        .iter()
        .map(|problem| {
            finding(
                &problem.at,
                Severity::Error,
                "syntax",
                problem.what.clone(),
                "libpam cannot read this as it was meant, and says so in the log only",
                "see pam.d(5) for what a line looks like",
            )
        })
        .collect();
    if let Some(hidden) = &stack.hidden {
        findings.push(finding(
            &hidden.at,
            Severity::Unchecked,
            "hidden",
            hidden.what.clone(),
            "libpam, as root, reads it: who gets in with what it holds was not looked at",
            "run this as root",
        ));
    }
    if let Some(at) = &stack.given_up {
        findings.push(finding(
            at,
            Severity::Error,
            "nobody",
            format!(
                "libpam cannot read the stack of {}: nobody gets in, root at the console included if it is login's",
                stack.service
            ),
            "pam_start fails for every service whose file includes what cannot be read",
            "mend what is said above",
        ));
    }
    findings
}

/// One at a line.
fn finding(
    at: &Place,
    severity: Severity,
    rule: &'static str,
    what: impl Into<String>,
    why: impl Into<String>,
    instead: impl Into<String>,
) -> Finding {
    Finding {
        file: at.file.display().to_string(),
        line: Some(at.line).filter(|line| *line > 0),
        severity,
        rule,
        what: what.into(),
        why: why.into(),
        instead: instead.into(),
        run: Vec::new(),
    }
}
