//! The CA's PAM service: without a file of its own PAM would fall back to `other`, and `serve` would refuse to start.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ussh_os::process;

use crate::failure::Failure;
use crate::pam_stack::FOLDERS;

/// Stacks of a CA that an ordinary user runs, beside its configuration.
pub const OWN_FOLDER: &str = "pam.d";

/// Writes the service's file if there is none, as root. Gives a line for people on how it stands.
pub fn ensure(service: &str) -> Result<String, Failure> {
    ensure_in(&FOLDERS.map(Path::new), service, process::effective_uid() == 0)
}

/// The service of a CA that an ordinary user makes. A file of that name in /etc/pam.d was written for root's.
/// `None`: this machine's stacks are not known.
pub fn own_stack() -> Option<String> {
    let [folder, _] = FOLDERS;
    let head = "# How people prove to this CA who they are. It runs without root: pam_unix can check the password of whoever runs it, and nobody else's.\n";
    lines(Path::new(folder)).map(|lines| {
        // Below another folder PAM looks for these there.
        let absolute = lines
            .replace("common-", &format!("{folder}/common-"))
            .replace("system-auth", &format!("{folder}/system-auth"));
        format!("{head}{absolute}")
    })
}

fn ensure_in(folders: &[&Path], service: &str, may_write: bool) -> Result<String, Failure> {
    let there = folders.iter().map(|folder| folder.join(service)).find(|path| path.exists());
    if let Some(path) = there {
        return Ok(format!("{} (it was there)", path.display()));
    }
    let Some(folder) = folders.first() else {
        return Err(Failure::internal("no folder for PAM"));
    };
    let path = folder.join(service);
    let shown = path.display();
    let stack = stack(folder).filter(|_| may_write);
    let Some(stack) = stack else {
        return Ok(format!("{shown} is missing: write one, `serve` needs it"));
    };
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(stack.as_bytes())?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist_noclobber(&path)?;
        Ok(())
    };
    write().map_err(|e| Failure::internal(format!("{shown}: {e}")))?;
    Ok(format!("{shown} (new: whoever may log in to this machine)"))
}

fn stack(folder: &Path) -> Option<String> {
    let head = "# How people prove to the CA who they are. Whatever PAM has may stand here: LDAP, TOTP, Duo.\n";
    lines(folder).map(|lines| format!("{head}{lines}"))
}

/// What a service holds that lets in whoever may log in to this machine: Debian's files, or Fedora's; `None`: another way, which is not guessed.
pub fn lines(folder: &Path) -> Option<String> {
    let has = |name: &str| folder.join(name).is_file();
    if ["common-auth", "common-account", "common-password"].into_iter().all(has) {
        return Some("@include common-auth\n@include common-account\n@include common-password\n".to_owned());
    }
    let include = |kind: &str| format!("{kind:8} include system-auth\n");
    has("system-auth").then(|| format!("{}{}{}", include("auth"), include("account"), include("password")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_service_is_written_and_one_that_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path()];
        let path = dir.path().join("usshca");
        assert!(ensure_in(&folders, "usshca", true).unwrap().contains("is missing"));
        assert!(!path.exists());
        fs::write(dir.path().join("system-auth"), "").unwrap();
        for name in ["common-auth", "common-account", "common-password"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert!(ensure_in(&folders, "usshca", false).unwrap().contains("is missing"));
        assert!(!path.exists());
        assert!(ensure_in(&folders, "usshca", true).unwrap().contains("new"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\n@include common-auth\n@include common-account\n"), "{text}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
        fs::write(&path, "mine").unwrap();
        assert!(ensure_in(&folders, "usshca", true).unwrap().contains("was there"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_machine_without_debians_files_includes_its_own() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("system-auth"), "").unwrap();
        ensure_in(&[dir.path()], "usshca", true).unwrap();
        let text = fs::read_to_string(dir.path().join("usshca")).unwrap();
        assert!(text.contains("\nauth     include system-auth\naccount  include system-auth\n"), "{text}");
    }
}
