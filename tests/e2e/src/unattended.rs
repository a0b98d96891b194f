//! Logins without anybody at a terminal, and the processes that serve them.

use std::collections::BTreeMap;

use ussh_lab::{LabError, Process};

use crate::world::{AGENT, World};

/// Prints the password that its caller's environment holds.
pub(crate) const ASKPASS: &str = "#!/bin/sh\nprintf '%s\\n' \"$LAB_PASSWORD\"\n";
/// Where it lies on the laptop.
pub(crate) const ASKPASS_PATH: &str = "/usr/local/bin/lab-askpass";

impl World {
    /// Starts a shell command on the laptop as a person; whatever asks for a password there gets `password` from an askpass program.
    ///
    /// # Errors
    /// It could not be started.
    pub fn unattended(&self, user: &str, password: &str, script: &str) -> Result<Process, LabError> {
        let laptop = self.host("laptop");
        laptop
            .command(["bash", "-c", script])
            .user(user)
            .env("SSH_AUTH_SOCK", &format!("/home/{user}/{AGENT}"))
            .env("SSH_ASKPASS", ASKPASS_PATH)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("LAB_PASSWORD", password)
            .spawn()
    }

    /// The processes of a host whose name begins with `name` (the kernel's 15 bytes): process ID and name.
    ///
    /// # Errors
    /// /proc could not be read.
    pub fn processes(&self, host: &str, name: &str) -> Result<BTreeMap<i32, String>, LabError> {
        const LIST: &str =
            "for d in /proc/[0-9]*; do read -r name < $d/comm && echo \"${d#/proc/} $name\"; done 2>/dev/null; true";
        let listed = self.host(host).run(["bash", "-c", LIST])?.ok()?.stdout;
        let process = |line: &str| {
            let (pid, command) = line.split_once(' ')?;
            command.starts_with(name).then_some((pid.parse().ok()?, command.to_owned()))
        };
        Ok(listed.lines().filter_map(process).collect())
    }
}
