//! A name for the guarded agent that does not change, for ssh_config: `ForwardAgent` there can name neither the runtime folder (where it lies depends on the login) nor the agent behind.
//!
//! A symbolic link in the state folder, one for each machine, since home folders may be shared. It leads to the guarded agent of the `ssh` that was started last: all of them are the same user's.

use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use ussh_os::process::host_name;

/// As ssh_config has it. `%L`: the machine's name up to its first dot (ssh_config(5), TOKENS).
pub const IN_SSH_CONFIG: &str = "~/.local/state/ussh/agent.%L";
/// The folder, below the home folder. Not under XDG_STATE_HOME: ssh_config cannot tell where that is.
const FOLDER: &str = ".local/state/ussh";

/// Where it lies.
fn path(home: &Path) -> PathBuf {
    let name = host_name();
    let short = name.split('.').next().unwrap_or_default();
    home.join(FOLDER).join(format!("agent.{short}"))
}

/// Has it lead to `socket`.
/// # Errors
/// As the system says.
pub fn lead_to(home: &Path, socket: &Path) -> io::Result<()> {
    let link = path(home);
    if link.read_link().is_ok_and(|there| there == socket) {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home.join(FOLDER))?;
    let mut own = link.clone().into_os_string();
    own.push(format!(".{}", std::process::id()));
    // Of one that was killed, with the same number.
    let _ = std::fs::remove_file(&own);
    symlink(socket, &own)?;
    std::fs::rename(&own, &link).inspect_err(|_| drop(std::fs::remove_file(&own)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn it_leads_to_the_last_one_and_lies_where_ssh_looks() {
        let home = tempfile::tempdir().unwrap();
        for socket in ["/run/a", "/run/a", "/run/b"] {
            lead_to(home.path(), Path::new(socket)).unwrap();
            assert_eq!(path(home.path()).read_link().unwrap(), Path::new(socket));
        }
        let folder = home.path().join(FOLDER);
        assert_eq!(folder.read_dir().unwrap().count(), 1, "nothing else is left");
        // What ssh makes of the name, with this folder for `~`.
        let as_ssh = IN_SSH_CONFIG.replace('~', home.path().to_str().unwrap());
        let mut ssh = std::process::Command::new("ssh");
        ssh.args([
            "-G",
            "-F",
            "none",
            "-o",
            &format!("IdentityAgent={as_ssh}"),
            "-o",
            &format!("ForwardAgent={as_ssh}"),
            "h",
        ]);
        let output = ssh.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let wanted = path(home.path()).to_str().unwrap().to_owned();
        assert!(text.lines().any(|line| line == format!("forwardagent {wanted}")), "{wanted}: {text}");
    }
}
