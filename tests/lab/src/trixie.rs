//! A Debian 13 root for hosts to stand on: OpenSSH 10, sudo and sudo-rs, whatever the machine has.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Doing, LabError, Result};

/// Environment variable: such a root made by other means.
const CHOSEN: &str = "USSH_LAB_TRIXIE";

/// Where it is kept, as is usual for what can be made again.
const CACHE: &str = "/var/cache/ussh-lab";

const PACKAGES: &str = "openssh-server,openssh-client,sudo,sudo-rs";

/// The Debian 13 root, for [`crate::HostPlan::base`].
///
/// # Errors
/// If there is none: [`make_trixie_root`] makes it, and takes half a minute and a network.
pub fn trixie_root() -> Result<PathBuf> {
    let root = std::env::var_os(CHOSEN).map_or_else(|| PathBuf::from(CACHE).join("trixie"), PathBuf::from);
    if root.join("usr/sbin/sshd").is_file() {
        return Ok(root);
    }
    let why = format!("no Debian 13 root at {}: make it with `ussh-lab trixie`, or set {CHOSEN}", root.display());
    Err(LabError::setup(why))
}

/// Makes the Debian 13 root if there is none. Whoever comes second waits for the first.
///
/// # Errors
/// If debootstrap is missing or fails; then nothing is left of it.
pub fn make_trixie_root() -> Result<PathBuf> {
    if let Ok(root) = trixie_root() {
        return Ok(root);
    }
    fs::create_dir_all(CACHE).doing(format!("making {CACHE}"))?;
    let cache = File::open(CACHE).doing(format!("opening {CACHE}"))?;
    flock(&cache, FlockOperation::LockExclusive).doing(format!("locking {CACHE}"))?;
    if let Ok(root) = trixie_root() {
        return Ok(root);
    }
    let (draft, root) = (PathBuf::from(CACHE).join("trixie.draft"), PathBuf::from(CACHE).join("trixie"));
    for folder in [&draft, &root] {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.doing(format!("removing {}", folder.display()))?,
        }
    }
    let status = Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={PACKAGES}"), "trixie"])
        .arg(&draft)
        .stdin(Stdio::null())
        .status()
        .doing("running debootstrap")?;
    if !status.success() {
        let _ = fs::remove_dir_all(&draft);
        return Err(LabError::setup(format!("debootstrap failed: {status}")));
    }
    fs::rename(&draft, &root).doing("putting the Debian 13 root in place")?;
    trixie_root()
}
