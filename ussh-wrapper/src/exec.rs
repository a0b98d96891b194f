//! Finding the system's `ssh`, and becoming it.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{AccessFlags, access};

/// Where to look when PATH is not set (as execvp does, without the current folder).
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why ssh does not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is none, or only ourselves under that name.
    #[error("no program `{0}` found in PATH (other than ussh itself)")]
    NotFound(&'static str),
    /// The kernel would not run it.
    #[error("{path}: {source}")]
    Failed {
        /// What was to be run.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// A file's identity, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn of(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|metadata| Inode { device: metadata.dev(), number: metadata.ino() })
    }
}

/// The `ssh` that the user's PATH means, never this very program under that name (`ln -s ussh ssh`).
/// # Errors
/// [`ExecError::NotFound`]
pub fn find_ssh() -> Result<PathBuf, ExecError> {
    find_program("ssh")
}

/// The same of another program of OpenSSH's.
/// # Errors
/// [`ExecError::NotFound`]
pub fn find_program(name: &'static str) -> Result<PathBuf, ExecError> {
    // Without knowing which file we are, a loop could not be noticed.
    let own = std::env::current_exe().ok().as_deref().and_then(Inode::of).ok_or(ExecError::NotFound(name))?;
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    find(&path, name, own).ok_or(ExecError::NotFound(name))
}

/// Relative entries of PATH are passed over: what runs here gets a password typed into it.
fn find(path: &OsStr, name: &str, own: Inode) -> Option<PathBuf> {
    std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(
        |candidate| {
            candidate.is_file() && access(candidate, AccessFlags::X_OK).is_ok() && Inode::of(candidate) != Some(own)
        },
    )
}

/// Becomes `ssh` with these arguments: same process, environment, descriptors and folder. Returns only if that fails.
pub fn become_ssh(arguments: &[OsString]) -> ExecError {
    become_ssh_with(arguments, None)
}

/// The same, with this agent if the environment names another, or none: nobody listens there.
pub fn become_ssh_with(arguments: &[OsString], agent: Option<&Path>) -> ExecError {
    match find_ssh() {
        Err(error) => error,
        Ok(path) => {
            // argv[0] as a shell would give it: ssh starts its own helpers for ProxyJump by that name.
            let mut command = Command::new(&path);
            command.arg0("ssh").args(arguments);
            if let Some(agent) =
                agent.filter(|agent| std::env::var_os("SSH_AUTH_SOCK").is_none_or(|named| named != **agent))
            {
                command.env("SSH_AUTH_SOCK", agent);
            }
            let source = command.exec();
            ExecError::Failed { path, source }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn program(folder: &Path, name: &str, mode: u32) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn path_of(folders: &[&Path]) -> OsString {
        std::env::join_paths(folders).unwrap()
    }

    #[test]
    fn takes_the_first_program_of_that_name() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        let own = Inode::of(&program(root.path(), "ussh", 0o755)).unwrap();
        program(&b, "ssh", 0o755);
        assert_eq!(find(&path_of(&[&a, &b]), "ssh", own), Some(b.join("ssh")));
        program(&a, "ssh", 0o755);
        assert_eq!(find(&path_of(&[&a, &b]), "ssh", own), Some(a.join("ssh")));
    }

    #[test]
    fn passes_over_itself_under_the_name_ssh() {
        let root = tempfile::tempdir().unwrap();
        let (links, copies, real) = (root.path().join("a"), root.path().join("b"), root.path().join("c"));
        let ussh = program(root.path(), "ussh", 0o755);
        let own = Inode::of(&ussh).unwrap();
        fs::create_dir_all(&links).unwrap();
        fs::create_dir_all(&copies).unwrap();
        symlink(&ussh, links.join("ssh")).unwrap();
        fs::hard_link(&ussh, copies.join("ssh")).unwrap();
        assert_eq!(find(&path_of(&[&links, &copies]), "ssh", own), None);
        program(&real, "ssh", 0o755);
        assert_eq!(find(&path_of(&[&links, &copies, &real]), "ssh", own), Some(real.join("ssh")));
    }

    #[test]
    fn passes_over_folders_and_files_that_do_not_run_and_relative_entries() {
        let root = tempfile::tempdir().unwrap();
        let (a, b, c) = (root.path().join("a"), root.path().join("b"), root.path().join("c"));
        let own = Inode::of(&program(root.path(), "ussh", 0o755)).unwrap();
        fs::create_dir_all(a.join("ssh")).unwrap();
        program(&b, "ssh", 0o644);
        program(&c, "ssh", 0o755);
        assert_eq!(find(&path_of(&[Path::new(""), Path::new("."), &a, &b, &c]), "ssh", own), Some(c.join("ssh")));
    }
}
