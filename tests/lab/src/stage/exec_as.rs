//! Becomes a command of the test, as a login of its user would start it: session, terminal, groups, environment, folder.
//!
//! Arguments: user, folder (empty: the user's home), command. Standard input tells whether there is a terminal.

use std::env;
use std::ffi::{CString, OsString};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{User, initgroups, setgid, setuid};
use rustix::fs::{Gid, Mode, Uid};

use crate::error::{Doing, LabError, Result};

/// As Debian's login sets it (login.defs: ENV_SUPATH, ENV_PATH).
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";

/// The group of terminals in every Debian.
const TTY: u32 = 5;

pub(super) fn run(arguments: &[OsString]) -> Result<()> {
    let [user, cwd, program, rest @ ..] = arguments else {
        return Err(LabError::setup("usage: exec-as USER FOLDER COMMAND…"));
    };
    let name = user.to_str().ok_or_else(|| LabError::setup("user name is not UTF-8"))?;
    let user = User::from_name(name)
        .doing("looking the user up")?
        .ok_or_else(|| LabError::setup(format!("there is no user {name} here")))?;
    start_session(&user)?;
    become_user(&user)?;
    let cwd = if cwd.is_empty() { user.dir.as_path() } else { Path::new(cwd) };
    env::set_current_dir(cwd).doing(format!("entering {}", cwd.display()))?;
    let mut command = Command::new(program);
    command.args(rest);
    for (variable, value) in environment(&user) {
        if env::var_os(variable).is_none() {
            command.env(variable, value);
        }
    }
    Err(command.exec()).doing(format!("running {}", program.display()))
}

fn start_session(user: &User) -> Result<()> {
    rustix::process::setsid().doing("starting a session")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let stdin = io::stdin();
    if stdin.is_terminal() {
        rustix::process::ioctl_tiocsctty(&stdin).doing("taking the terminal")?;
        let (owner, group) = (Uid::from_raw(user.uid.as_raw()), Gid::from_raw(TTY));
        rustix::fs::fchown(stdin.as_fd(), Some(owner), Some(group)).doing("owning the terminal")?;
    }
    Ok(())
}

fn become_user(user: &User) -> Result<()> {
    let name = CString::new(user.name.as_str()).map_err(|_| LabError::setup("user name with a NUL"))?;
    initgroups(&name, user.gid).doing("setting groups")?;
    setgid(user.gid).doing("setting the group")?;
    setuid(user.uid).doing("setting the user")
}

fn environment(user: &User) -> Vec<(&'static str, OsString)> {
    let path = if user.uid.is_root() { ROOT_PATH } else { USER_PATH };
    let mut environment = vec![
        ("HOME", user.dir.clone().into_os_string()),
        ("USER", user.name.clone().into()),
        ("LOGNAME", user.name.clone().into()),
        ("SHELL", user.shell.clone().into_os_string()),
        ("PATH", path.into()),
        ("LANG", "C.UTF-8".into()),
    ];
    if io::stdin().is_terminal() {
        environment.push(("TERM", "dumb".into()));
    }
    environment
}
