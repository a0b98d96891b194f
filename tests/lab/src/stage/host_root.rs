//! The view of files that a host has: one overlay over its base, whose writable layer is in memory.
//!
//! Called once, by host init, in a new mount namespace. Nothing here can be seen outside of it.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::OFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::error::{Doing, LabError, Result};
use crate::wire::{Bind, HostSpec};

/// A folder that every machine has, covered by the memory that becomes the writable layer.
const SCRATCH: &str = "/tmp";

/// Folders that a host has for itself, empty: whatever lies in the machine's is none of its business.
const EMPTY_FOLDERS: [(&str, &str); 7] = [
    ("/run", "mode=755"),
    ("/run/lock", "mode=1777"),
    ("/tmp", "mode=1777"),
    ("/root", "mode=700"),
    ("/home", "mode=755"),
    ("/var/tmp", "mode=1777"),
    ("/var/log", "mode=755"),
];

/// Name, major, minor: all the devices that a host has.
const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Settings of the whole machine, not of a namespace.
const READ_ONLY: [&str; 3] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq"];

/// Makes the host's root and enters it.
pub(super) fn enter(spec: &HostSpec) -> Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing("making mounts private")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    // By descriptor from here on: the path may lie under what is about to be covered.
    let sources = spec.binds.iter().map(|bind| reference(&bind.source)).collect::<Result<Vec<_>>>()?;
    pivot_into(&overlay(&spec.base)?)?;
    system_mounts()?;
    devices()?;
    for (bind, source) in spec.binds.iter().zip(&sources) {
        attach(bind, source)?;
    }
    // The machine's root still lies, reachable by no path but this one, under the host's.
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing("letting the machine's root go")?;
    rustix::process::chdir("/").doing("entering the root")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

fn reference(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .doing(format!("opening {}", path.display()))
}

fn by_descriptor(descriptor: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

/// Mounts the overlay; its place.
fn overlay(base: &Path) -> Result<String> {
    let base = reference(base)?;
    mount("tmpfs", SCRATCH, MountFlags::empty(), "mode=755")?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| format!("{SCRATCH}/{name}"));
    for folder in [&upper, &work, &root] {
        make_folder(Path::new(folder))?;
    }
    let layers = format!("lowerdir={},upperdir={upper},workdir={work}", by_descriptor(&base));
    mount("overlay", &root, MountFlags::empty(), &layers)?;
    Ok(root)
}

/// The current folder stays the machine's root, which the new one now lies on.
fn pivot_into(root: &str) -> Result<()> {
    rustix::process::chdir(root).doing("entering the overlay")?;
    rustix::process::pivot_root(".", ".").doing("changing the root")
}

fn system_mounts() -> Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for folder in ["/proc", "/sys", "/dev"] {
        make_folder(Path::new(folder))?;
    }
    mount("proc", "/proc", plain, "")?;
    for path in READ_ONLY.iter().filter(|path| Path::new(path).exists()) {
        rustix::mount::mount_bind(*path, *path).doing(format!("covering {path}"))?;
        make_read_only(path)?;
    }
    mount("sysfs", "/sys", plain | MountFlags::RDONLY, "")?;
    mount("cgroup2", "/sys/fs/cgroup", plain, "")?;
    for (folder, options) in EMPTY_FOLDERS {
        make_folder(Path::new(folder))?;
        mount("tmpfs", folder, MountFlags::NODEV, options)?;
    }
    Ok(())
}

fn devices() -> Result<()> {
    mount("tmpfs", "/dev", MountFlags::NOSUID, "mode=755")?;
    for (name, major, minor) in DEVICES {
        mknod(
            Path::new("/dev").join(name).as_path(),
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            makedev(major, minor),
        )
        .doing(format!("making /dev/{name}"))?;
    }
    for (link, target) in LINKS {
        symlink(target, link).doing(format!("linking {link}"))?;
    }
    make_folder(Path::new("/dev/pts"))?;
    // Group 5 is tty in every Debian.
    mount("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")?;
    make_folder(Path::new("/dev/shm"))?;
    mount("tmpfs", "/dev/shm", MountFlags::NOSUID | MountFlags::NODEV, "mode=1777")
}

/// Shows a file or folder of the machine, read only.
fn attach(bind: &Bind, source: &OwnedFd) -> Result<()> {
    let what = || format!("showing {} at {}", bind.source.display(), bind.target.display());
    let source_path = by_descriptor(source);
    if fs::metadata(&source_path).doing(what())?.is_dir() {
        make_folder(&bind.target)?;
    } else {
        if let Some(parent) = bind.target.parent() {
            make_folder(parent)?;
        }
        let target = OpenOptions::new().create(true).append(true).open(&bind.target);
        target.and_then(|file: File| file.set_permissions(Permissions::from_mode(0o644))).doing(what())?;
    }
    rustix::mount::mount_bind(&source_path, &bind.target).doing(what())?;
    make_read_only(&bind.target.to_string_lossy())
}

fn make_read_only(path: &str) -> Result<()> {
    rustix::mount::mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, "")
        .doing(format!("making {path} read only"))
}

fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).doing(format!("making folder {}", path.display()))
}

fn mount(kind: &str, target: &str, flags: MountFlags, options: &str) -> Result<()> {
    let options = CString::new(options).map_err(|_| LabError::setup("mount options with a NUL"))?;
    rustix::mount::mount(kind, target, kind, flags, options.as_c_str()).doing(format!("mounting {kind} on {target}"))
}
