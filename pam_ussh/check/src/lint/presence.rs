//! Modules that are not there. libpam puts PAM_MODULE_UNKNOWN in the place of their answer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Subject, finding};
use crate::examples::is_one_apart;
use crate::modules::{OURS, is_ours};
use crate::pam::code::{Action, Code};
use crate::pam::stack::{Facility, Handler, Kind};
use crate::report::{Finding, Severity};

const UNKNOWN: &str = "libpam puts PAM_MODULE_UNKNOWN in the place of its answer: a refusal, or nothing at all where the control ignores it";

/// Folders that hold modules: Debian's libpam looks in its own, by the machine's name, and in /lib/security; others in lib64.
const LIBRARIES: [&str; 4] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];

/// Looks at each line that calls a module.
pub fn lint(subject: &Subject) -> Vec<Finding> {
    let installed = if subject.installed { Installed::look() } else { None };
    let mut findings = Vec::new();
    for facility in Facility::ALL {
        for line in subject.stack.chain(facility).iter().filter(|line| line.kind == Kind::Module) {
            findings.extend(ours_misnamed(facility, line).or_else(|| installed.as_ref()?.missing(facility, line)));
        }
    }
    findings
}

/// Wherever the stack lies, a line of ours that cannot be found.
fn ours_misnamed(facility: Facility, line: &Handler) -> Option<Finding> {
    let no_library = !line.module.ends_with(".so");
    let is_wrong = no_library || line.module.starts_with('/') && !Path::new(&line.module).exists();
    (is_ours(line) && is_wrong).then(|| {
        finding(
            &line.at,
            Severity::Error,
            "no-module",
            format!("{} is not there", line.module),
            UNKNOWN,
            format!("{facility} {} pam_ussh.so, without a folder", control(line)),
        )
    })
}

/// As a line writes it.
fn control(line: &Handler) -> String {
    if line.control.contains(['=', ' ']) { format!("[{}]", line.control) } else { line.control.clone() }
}

/// The modules of this machine.
struct Installed {
    folders: Vec<PathBuf>,
    /// Without `.so`.
    names: BTreeSet<String>,
}

impl Installed {
    /// `None`: there are none where they are looked for, so that nothing can be said.
    fn look() -> Option<Self> {
        let mut folders = Vec::new();
        for library in LIBRARIES.map(Path::new) {
            let below = fs::read_dir(library).into_iter().flatten().flatten().map(|entry| entry.path());
            let candidates = below.chain([library.to_owned()]).map(|folder| folder.join("security"));
            folders.extend(candidates.filter(|folder| folder.is_dir()));
        }
        let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let names = files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".so")?.to_owned()));
        let mut names: BTreeSet<String> = names.collect();
        if names.is_empty() {
            return None;
        }
        // It may not have been put there yet.
        names.insert(OURS.to_owned());
        Some(Installed { folders, names })
    }

    fn holds(&self, module: &str) -> bool {
        // libpam puts a folder's name in the place of $ISA: which one is not known here.
        module.contains('$') || self.folders.iter().any(|folder| folder.join(module).exists())
    }

    fn missing(&self, facility: Facility, line: &Handler) -> Option<Finding> {
        if self.holds(&line.module) {
            return None;
        }
        let name = line.module_name();
        let nearest = if is_ours(line) { None } else { self.names.iter().find(|other| is_one_apart(other, name)) };
        let concerns_us = is_ours(line) || nearest.is_some_and(|nearest| nearest == OURS);
        // `-auth` says that it may be missing.
        if line.silent && !concerns_us {
            return None;
        }
        let severity = match line.actions.on(Code::MODULE_UNKNOWN) {
            _ if concerns_us => Severity::Error,
            Action::Ignore => Severity::Note,
            Action::Ok | Action::Done | Action::Bad | Action::Die | Action::Reset | Action::Jump(_) => {
                Severity::Warning
            }
        };
        let what = match nearest {
            Some(nearest) => format!("{} is not there: is {nearest}.so meant?", line.module),
            None => format!("{} is not there", line.module),
        };
        let instead = match nearest {
            Some(nearest) => format!("{facility} {} {nearest}.so", control(line)),
            None if is_ours(line) => "install the module: it goes into the folder of pam_unix.so".into(),
            None => "install the package that holds it, or take the line out".into(),
        };
        Some(finding(&line.at, severity, "no-module", what, UNKNOWN, instead))
    }
}
