//! The policy's files, and whether they are good. The signer's program reads what stands in them, which is the only one that understands it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use ussh_os::account::{Account, group_id};
use usshca_ipc::signer::PolicyText;

use crate::failure::Failure;
use crate::prepare::Base;
use crate::signer_process::{self, PolicyName};

/// Most files of an included folder.
const MAX_FILES: usize = 1000;

/// Of a policy, only what it includes; whatever else stands there is the signer's to read.
#[derive(Default, Deserialize)]
struct Includes {
    #[serde(default)]
    rule: Vec<Include>,
}

#[derive(Deserialize)]
struct Include {
    include: Option<String>,
}

/// Reads the policy and the folders beside it that its rules include, each folder's files `*.toml` in the order of their names.
/// # Errors
/// A file or folder that cannot be read, or that others could have written.
pub fn read(path: &Path, read_text: impl Fn(&Path) -> Result<String, Failure>) -> Result<Vec<PolicyText>, Failure> {
    let text = read_text(path)?;
    // One that cannot be read is the signer's to complain of.
    let includes: Includes = toml::from_str(&text).unwrap_or_default();
    let mut folders: Vec<String> = includes.rule.into_iter().filter_map(|rule| rule.include).collect();
    folders.sort();
    folders.dedup();
    let mut files = vec![PolicyText { name: path.display().to_string(), folder: String::new(), text }];
    for folder in folders {
        for file in files_of(path, &folder)? {
            let text = read_text(&file)?;
            files.push(PolicyText { name: file.display().to_string(), folder: folder.clone(), text });
        }
    }
    Ok(files)
}

fn files_of(policy: &Path, folder: &str) -> Result<Vec<PathBuf>, Failure> {
    let failed = |problem: &str| {
        let folder = ussh_core::escape::escape(folder.as_bytes(), ussh_core::escape::MAX_FIELD);
        Failure::config(format!("{}: include = \"{folder}\": {problem}", policy.display()))
    };
    if folder.is_empty() || folder.starts_with('.') || folder.contains('/') {
        return Err(failed("must be the name of a folder beside the policy"));
    }
    let path = policy.with_file_name(folder);
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(failed("there is no such folder beside the policy")),
        Err(e) => return Err(failed(&e.to_string())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| failed(&e.to_string()))?.file_name();
        // What an editor or a package manager leaves lying about is no policy.
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && Path::new(&name).extension().is_some_and(|extension| extension == "toml") {
            files.push(path.join(name));
        }
    }
    if files.len() > MAX_FILES {
        return Err(failed(&format!("more than {MAX_FILES} files")));
    }
    files.sort();
    Ok(files)
}

/// What an administrator should look at; a failure if the policy is no good. Works beside a CA that runs.
pub fn check(base: &Base) -> Result<Vec<String>, Failure> {
    let report = signer_process::read_policy(base)?;
    let unknown = report.names.iter().filter_map(unknown);
    Ok(report.warnings.into_iter().chain(unknown).collect())
}

fn unknown(named: &PolicyName) -> Option<String> {
    let PolicyName { is_group, name, place } = named;
    let (kind, found) = match is_group {
        true => ("group", group_id(name).map(|group| group.is_some())),
        false => ("user", Account::by_name(name).map(|account| account.is_some())),
    };
    match found {
        Ok(true) => None,
        Ok(false) if *is_group => Some(format!("{place}: this machine knows no group {name:?}: nobody is in it")),
        Ok(false) => Some(format!("{place}: this machine knows no user {name:?}: nobody can log in by this name")),
        Err(e) => Some(format!("{place}: the {kind} {name:?} could not be looked up: {e}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn read_plainly(path: &Path) -> Result<String, Failure> {
        std::fs::read_to_string(path).map_err(|e| Failure::config(format!("{}: {e}", path.display())))
    }

    #[test]
    fn an_included_folder_gives_its_files_by_name_and_nothing_that_only_lies_about() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        std::fs::write(&policy, "[[rule]]\ninclude = \"teams\"\n[[rule]]\nname = \"x\"\nwhatever = 1\n").unwrap();
        let teams = dir.path().join("teams");
        std::fs::create_dir(&teams).unwrap();
        for name in ["20-web.toml", "10-db.toml", "30.toml~", ".40.toml", "README", "50.toml.dpkg-old"] {
            std::fs::write(teams.join(name), name).unwrap();
        }
        let files = read(&policy, read_plainly).unwrap();
        let seen: Vec<_> = files.iter().skip(1).map(|f| (f.folder.as_str(), f.text.as_str())).collect();
        assert_eq!(seen, [("teams", "10-db.toml"), ("teams", "20-web.toml")]);
        assert!(files[0].folder.is_empty() && files[0].text.contains("whatever"));
    }

    #[test]
    fn what_is_no_folder_beside_the_policy_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        for folder in ["", ".", "..", "../etc", "/etc", "a/b", "missing"] {
            std::fs::write(&policy, format!("[[rule]]\ninclude = \"{folder}\"\n")).unwrap();
            let problem = read(&policy, read_plainly).unwrap_err().message;
            assert!(problem.contains(&format!("include = \"{folder}\"")), "{problem}");
        }
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_handed_on_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        std::fs::write(&policy, "[[rule").unwrap();
        assert_eq!(read(&policy, read_plainly).unwrap()[0].text, "[[rule");
    }
}
