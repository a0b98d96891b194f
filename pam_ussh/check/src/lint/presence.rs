//! Modules that are not there. libpam puts PAM_MODULE_UNKNOWN in the place of their answer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ussh_core::trusted_file::{TrustedFileError, read_trusted};

use super::{Subject, finding};
use crate::examples::is_one_apart;
use crate::modules::{OURS, is_ours};
use crate::pam::code::{Action, Code};
use crate::pam::stack::{Facility, Handler, Kind};
use crate::report::{Finding, Severity};

const UNKNOWN: &str = "libpam puts PAM_MODULE_UNKNOWN in the place of its answer: a refusal, or nothing at all where the control ignores it";

/// Folders that hold modules: Debian's libpam looks in its own, by the machine's name, and in /lib/security; others in lib64.
const LIBRARIES: [&str; 4] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];

/// Longest module that is looked into, in bytes.
const MAX_MODULE: usize = 64 * 1024 * 1024;

/// Looks at each line that calls a module.
pub fn lint(subject: &Subject) -> Vec<Finding> {
    let installed = if subject.installed { Installed::look() } else { None };
    let mut findings = Vec::new();
    let ours =
        Facility::ALL.into_iter().find_map(|facility| subject.ours(facility).find(|line| line.kind == Kind::Module));
    if let (Some(line), Some(installed)) = (ours, &installed) {
        findings.extend(installed.files_of(&line.module).iter().filter_map(|file| unsound(line, file)));
    }
    for facility in Facility::ALL {
        for line in subject.stack.chain(facility).iter().filter(|line| line.kind == Kind::Module) {
            findings.extend(ours_misnamed(facility, line).or_else(|| installed.as_ref()?.missing(facility, line)));
        }
    }
    findings
}

/// Whether this host has modules, and this one not.
pub fn is_missing(module: &str) -> bool {
    Installed::look().is_some_and(|installed| !installed.holds(module))
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

/// What is wrong with our module's file: whoever can change it is root at the next sudo, and one that was not written whole ends its host.
fn unsound(line: &Handler, file: &Path) -> Option<Finding> {
    let error = |rule, what: String, why, instead| Some(finding(&line.at, Severity::Error, rule, what, why, instead));
    match read_trusted(file, MAX_MODULE) {
        Err(TrustedFileError::Io { .. }) => None,
        Err(untrusted) => error(
            "stack-writable",
            untrusted.to_string(),
            "whoever can change the module, or put another in its place, is root at the next sudo",
            "",
        ),
        Ok(data) if is_torn(&data) => error(
            "no-module",
            format!("{} is torn: its own header names more than its {} bytes", file.display(), data.len()),
            "libpam refuses to load it, or the program that asks it ends with SIGBUS and nothing in the log",
            "install it again, by a rename",
        ),
        Ok(_) => None,
    }
}

/// Whether an ELF file (64 bits, little-endian, as this program is) ends before what its program headers have the loader map (elf(5)). Of others nothing is said, but of one that is
/// too short to be any.
fn is_torn(data: &[u8]) -> bool {
    let bytes = |at: u64, length: usize| {
        let at = usize::try_from(at).ok()?;
        data.get(at..at.checked_add(length)?)
    };
    let number = |at: u64, length: usize| {
        let bytes = bytes(at, length)?;
        Some(bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    match bytes(0, 6) {
        None => return true,
        Some(b"\x7fELF\x02\x01") => {}
        Some(_) => return false,
    }
    let fits = || {
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        for index in 0..count {
            let header = table.checked_add(index * size)?;
            let (offset, length) = (number(header.checked_add(8)?, 8)?, number(header.checked_add(32)?, 8)?);
            if offset.checked_add(length)? > data.len() as u64 {
                return None;
            }
        }
        Some(())
    };
    fits().is_none()
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

    /// Where libpam may find a module, each file once.
    fn files_of(&self, module: &str) -> BTreeSet<PathBuf> {
        self.folders.iter().filter_map(|folder| folder.join(module).canonicalize().ok()).collect()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::pam::stack::Stack;

    #[test]
    fn a_module_is_torn_if_it_ends_before_its_headers_say() {
        let whole = fs::read("/proc/self/exe").unwrap();
        assert!(!is_torn(&whole));
        for length in [0, 3, 40, 100, 100_000] {
            assert!(is_torn(&whole[..length]), "{length}");
        }
        assert!(!is_torn(b"#!/bin/sh and so on"), "no ELF file is none that was torn");
    }

    #[test]
    fn a_module_that_others_can_change_or_that_is_torn_is_found() {
        if ussh_os::process::effective_uid() != 0 {
            return println!("ignored, needs root");
        }
        let folder = tempfile::Builder::new().prefix("pam-ussh-check-").tempdir_in("/run").unwrap();
        let (stack, module) = (folder.path().join("sudo"), folder.path().join("pam_ussh.so"));
        fs::write(&stack, "auth required pam_ussh.so\n").unwrap();
        let stack = Stack::read(&stack).unwrap().remove(0);
        let line = &stack.chain(Facility::Auth)[0];
        let found = |mode| {
            fs::set_permissions(&module, fs::Permissions::from_mode(mode)).unwrap();
            unsound(line, &module).map(|finding| (finding.rule, finding.severity, finding.what))
        };
        let whole = fs::read("/proc/self/exe").unwrap();
        fs::write(&module, &whole).unwrap();
        assert_eq!(found(0o644), None);
        let (rule, severity, what) = found(0o666).unwrap();
        assert_eq!((rule, severity), ("stack-writable", Severity::Error));
        assert!(what.contains("bad ownership or modes"), "{what}");
        fs::write(&module, &whole[..100_000]).unwrap();
        let (rule, severity, what) = found(0o644).unwrap();
        assert_eq!((rule, severity), ("no-module", Severity::Error));
        assert!(what.contains("is torn: its own header names more than its 100000 bytes"), "{what}");
    }
}
