//! A thread that is somebody else to the file system alone, for one connect() (`agent_socket`): where the host has no process number left for a child.
//!
//! User, group and supplementary groups, as permission checks see them (credentials(7)), are each thread's own. With another user than root to the file system the kernel takes away the capabilities that pass those
//! checks (capabilities(7), "Effect of user ID changes on capabilities"). Real, effective and saved user stay root: the user can neither signal nor trace such a thread.
//! What is given up beside a child: nobody can end a lookup that hangs, and a thread in one outlives even the kill of its process, with the files that this has locked. So it asks no file system for the way
//! ([`known_socket`]). FUSE's own guard (fs/fuse/dir.c `fuse_allow_current_process`) would not do: /proc/PID/root leads into a user's own mount namespace, and there he may have an overlay upon his FUSE, which the kernel enters as him. What root has opened to all of a file system of a user's (FUSE's allow_other) may still be asked at the last step, whether the socket may be written to.

use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::prctl::{get_dumpable, set_dumpable};
use nix::unistd::{Gid, Uid, getegid, geteuid, setfsgid, setfsuid};
use syscalls::{Sysno, syscall};

use crate::process::groups as own_groups;

/// How often a way that the kernel does not know is tried again: a rename or a mount at that very moment, anybody's, looks the same.
const TRIES: usize = 100;

/// This process was not dumpable. Each change of an ID makes it what fs.suid_dumpable says (kernel/cred.c `commit_creds`), which may be that it is.
static IS_SHUT: OnceLock<bool> = OnceLock::new();

/// Held while this thread is the user to the file system. A drop gives that back.
#[derive(Debug)]
#[must_use]
pub(crate) struct FileIdentity {
    groups_before: Vec<u32>,
    /// It belongs to this thread.
    _here: PhantomData<*const ()>,
}

impl FileIdentity {
    /// # Errors
    /// `PermissionDenied`: this process is not root, the user is, or not all of the identity could be taken on.
    pub(crate) fn take_on(uid: u32, gid: u32, groups: &[u32]) -> io::Result<Self> {
        if uid == 0 || !geteuid().is_root() {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        // Before any thread has changed an ID.
        IS_SHUT.get_or_init(|| get_dumpable() == Ok(false));
        let groups_before = own_groups()?;
        set_groups(groups)?;
        let identity = FileIdentity { groups_before, _here: PhantomData };
        setfsgid(Gid::from_raw(gid));
        setfsuid(Uid::from_raw(uid));
        shut()?;
        if seen_by_file_systems() != (Uid::from_raw(uid), Gid::from_raw(gid)) || passes_checks()? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "cannot take on the user's identity"));
        }
        Ok(identity)
    }
}

impl Drop for FileIdentity {
    fn drop(&mut self) {
        let own = (geteuid(), getegid());
        setfsuid(own.0);
        setfsgid(own.1);
        let is_back = seen_by_file_systems() == own && set_groups(&self.groups_before).is_ok() && shut().is_ok();
        if !is_back {
            // Whatever this thread did next it would do as somebody else: the one who starts this process anew has a right one.
            std::process::abort();
        }
    }
}

/// What lies there, to be connected to by way of /proc/self/fd, as far as the kernel knows the way by heart (RESOLVE_CACHED, Linux 5.12): it has every step to a socket that somebody listens at (net/unix/af_unix.c `unix_bind_bsd` keeps
/// its entry, and an entry keeps those above it), but for a symbolic link on the way whose time of access is due. Not through /proc's links to what other processes have open or see.
/// # Errors
/// `NotFound`: it does not know the way.
pub(crate) fn known_socket(path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED) | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    for _ in 0..TRIES {
        match openat2(AT_FDCWD, path, how) {
            Err(Errno::EAGAIN) => std::thread::yield_now(),
            opened => return opened.map_err(io::Error::from),
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the kernel does not know the way to a socket there"))
}

fn shut() -> io::Result<()> {
    if IS_SHUT.get() == Some(&true) { set_dumpable(false).map_err(io::Error::from) } else { Ok(()) }
}

/// Both calls give what was before; an ID that there is not changes nothing (setfsuid(2)).
fn seen_by_file_systems() -> (Uid, Gid) {
    (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX)))
}

/// Whether a capability of this thread opens what the user may not open.
fn passes_checks() -> io::Result<bool> {
    let effective = caps::read(None, CapSet::Effective).map_err(io::Error::other)?;
    Ok(effective.contains(&Capability::CAP_DAC_OVERRIDE) || effective.contains(&Capability::CAP_DAC_READ_SEARCH))
}

/// Of this thread alone: libc's call is for all threads.
fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: a system call on an array of gid_t that outlives it (setgroups(2)).
    match unsafe { syscall!(Sysno::setgroups, groups.len(), groups.as_ptr()) } {
        Ok(_) => Ok(()),
        Err(errno) => Err(io::Error::from_raw_os_error(errno.into_raw())),
    }
}
