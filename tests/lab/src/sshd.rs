//! The system's sshd on a host.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{LabError, Result, section};
use crate::host::Host;
use crate::process::Process;
use crate::wait::wait_until;

/// A configuration to start from: Debian's, and no DNS.
pub const SSHD_CONFIG: &str = "\
UsePAM yes
KbdInteractiveAuthentication no
PrintMotd no
UseDNS no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
";

/// How long sshd may take to listen.
const START: Duration = Duration::from_secs(10);

impl Host {
    /// Starts `/usr/sbin/sshd` as service `sshd` with this configuration and waits until it takes connections.
    /// An Ed25519 host key is made if there is none. It logs to syslog: see [`Host::log`].
    ///
    /// # Errors
    /// If sshd does not like the configuration, or does not listen.
    pub fn start_sshd(&self, config: &str) -> Result<Arc<Process>> {
        self.start_sshd_as("sshd", "/etc/ssh/sshd_config", config)
    }

    /// As [`Host::start_sshd`], for one more sshd on the host: with its own name and configuration file, and a
    /// `Port` in it.
    ///
    /// # Errors
    /// If sshd does not like the configuration, or does not listen.
    pub fn start_sshd_as(&self, service: &str, path: &str, config: &str) -> Result<Arc<Process>> {
        const KEY: &str = "/etc/ssh/ssh_host_ed25519_key";
        if !self.exists(KEY) {
            let comment = format!("root@{}", self.name());
            self.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f", KEY])?.ok()?;
        }
        self.write_file(path, 0o644, config)?;
        // sshd writes it when it listens, not before (sshd.c, main: server_listen, then the pid file).
        let pid_file = format!("/run/{service}.pid");
        self.remove_file(&pid_file)?;
        let sshd = self
            .command(["/usr/sbin/sshd", "-D", "-f", path, "-o", &format!("PidFile={pid_file}")])
            .service(service)?;
        let mut status = None;
        wait_until(START, &format!("{service} on {}", self.name()), || {
            status = sshd.status().ok().flatten();
            status.is_some() || self.exists(&pid_file)
        })?;
        match status {
            None => Ok(sshd),
            Some(status) => Err(LabError::setup(format!(
                "{service} on {} ended at once: {status}{}{}",
                self.name(),
                section("stderr", &sshd.stderr()),
                section("syslog", &self.log())
            ))),
        }
    }
}
