//! Folders that nobody else can put another one in place of. Each folder on the way, those that hold symbolic links included, is looked at by its descriptor and left by it, so that
//! what was looked at is what is used.
//!
//! Trusted: root, and whoever runs this. A sticky folder is everybody's to write to, but what is another's in it nobody takes away or gives another name (inode(7)).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use ussh_os::process;

/// Write permission of the group or of others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Only a file's owner (and the folder's) takes it away or gives it another name.
const STICKY: u32 = 0o1000;
/// Most symbolic links followed on one path (the kernel's own limit, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Opens a folder, or makes it with the mode `make`, if it is not there and that is wanted; all above it must be there, and root's or ours. The folder itself is the caller's to judge.
/// # Errors
/// PermissionDenied, naming the folder above it that others can write to; as the kernel says.
pub fn open_folder(path: &Path, make: Option<Mode>) -> io::Result<File> {
    let path = std::path::absolute(path)?;
    let mut place = PathBuf::from("/");
    let mut here = File::from(nix::fcntl::open("/", looked_at(), Mode::empty())?);
    let mut ahead = VecDeque::new();
    push_front(&mut ahead, &path);
    let mut links = 0;
    while let Some(step) = ahead.pop_front() {
        demand_ours(&place, &here.metadata()?)?;
        let next = match openat(&here, step.as_os_str(), looked_at(), Mode::empty()) {
            Err(Errno::ENOENT) if ahead.is_empty() && make.is_some() => {
                return made(&here, &step, make.unwrap_or(Mode::empty()));
            }
            next => File::from(next?),
        };
        let found = next.metadata()?;
        if found.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP.into());
            }
            // In a sticky folder anybody can have made it.
            if !is_ours(&found) {
                return Err(others_can_write(&place.join(&step), &found));
            }
            let target = PathBuf::from(readlinkat(&next, "")?);
            if target.is_absolute() {
                place = PathBuf::from("/");
                here = File::from(nix::fcntl::open("/", looked_at(), Mode::empty())?);
            }
            push_front(&mut ahead, &target);
        } else if found.is_dir() {
            match step == ".." {
                true => drop(place.pop()),
                false => place.push(&step),
            }
            here = next;
        } else {
            return Err(ErrorKind::NotADirectory.into());
        }
    }
    readable(&here)
}

/// Whether nobody but root and we can put something else in place of what is in a folder.
/// # Errors
/// PermissionDenied, naming it.
pub fn demand_ours(folder: &Path, found: &Metadata) -> io::Result<()> {
    if !is_ours(found) || found.mode() & WRITABLE_BY_OTHERS != 0 && found.mode() & STICKY == 0 {
        return Err(others_can_write(folder, found));
    }
    Ok(())
}

/// Whether an error of [`open_folder`] is that others can write to a folder, and not one of the kernel's.
pub fn is_of_others(error: &io::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

fn is_ours(found: &Metadata) -> bool {
    found.uid() == 0 || found.uid() == process::effective_uid()
}

fn others_can_write(place: &Path, found: &Metadata) -> io::Error {
    let (place, uid, mode) = (place.display(), found.uid(), found.mode() & 0o7777);
    io::Error::new(ErrorKind::PermissionDenied, format!("others can write to {place} (uid {uid}, mode {mode:04o})"))
}

/// What stands there itself, a link too, whoever may read it.
fn looked_at() -> OFlag {
    OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn made(folder: &File, name: &OsString, mode: Mode) -> io::Result<File> {
    match mkdirat(folder, name.as_os_str(), mode) {
        // Somebody of ours was faster: it is judged as any other one.
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(folder, name.as_os_str(), flags, Mode::empty())?;
    // The umask may have taken some of it.
    fchmod(&made, mode)?;
    Ok(made.into())
}

fn readable(folder: &impl AsFd) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened: OwnedFd = openat(folder, ".", flags, Mode::empty())?;
    Ok(opened.into())
}

/// Puts the steps of `path` in front of those still to go.
fn push_front(ahead: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    /// (device, inode)
    fn identity(metadata: &Metadata) -> (u64, u64) {
        (metadata.dev(), metadata.ino())
    }

    fn set(folder: &Path, mode: u32) {
        fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn opens_what_is_there_by_links_and_by_two_dots_as_the_kernel_does() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b/c")).unwrap();
        symlink("a/b", at("near")).unwrap();
        symlink(at("a/b/c"), at("a/far")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for path in ["a/b/c", "near/c", "near/../far", "a/./b/c/", "a/b/../../near/c/.."] {
            let opened = open_folder(&at(path), None).unwrap();
            assert_eq!(identity(&opened.metadata().unwrap()), identity(&at(path).metadata().unwrap()), "{path}");
        }
        assert_eq!(open_folder(&at("loop"), None).unwrap_err().raw_os_error(), Some(Errno::ELOOP as i32));
        assert_eq!(open_folder(&at("none"), None).unwrap_err().kind(), ErrorKind::NotFound);
        let mode = Some(Mode::from_bits_truncate(0o755));
        assert_eq!(open_folder(&at("none/none"), mode).unwrap_err().kind(), ErrorKind::NotFound, "one alone is made");
        fs::write(at("file"), "").unwrap();
        assert_eq!(open_folder(&at("file"), mode).unwrap_err().kind(), ErrorKind::NotADirectory);
        let made = open_folder(&at("near/made"), mode).unwrap();
        assert_eq!(identity(&made.metadata().unwrap()), identity(&at("a/b/made").metadata().unwrap()));
        assert_eq!(made.metadata().unwrap().mode() & 0o7777, 0o755);
    }

    #[test]
    fn a_folder_on_the_way_that_others_can_write_to_is_refused_and_a_sticky_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (above, folder) = (dir.path().join("above"), dir.path().join("above/folder"));
        fs::create_dir_all(&folder).unwrap();
        for (mode, good) in [(0o755, true), (0o1777, true), (0o775, false), (0o757, false)] {
            set(&above, mode);
            let opened = open_folder(&folder, None).map_err(|e| (e.kind(), e.to_string()));
            let (kind, said) = match opened {
                Ok(_) => {
                    assert!(good, "{mode:o}");
                    continue;
                }
                Err(refused) => refused,
            };
            assert!(!good && kind == ErrorKind::PermissionDenied, "{mode:o}: {said}");
            assert!(said.contains(&format!("others can write to {}", above.display())), "{said}");
        }
    }

    #[test]
    fn what_is_anothers_on_the_way_is_refused_a_link_in_a_sticky_folder_too() {
        if process::effective_uid() != 0 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("real/folder")).unwrap();
        fs::create_dir_all(at("others/folder")).unwrap();
        chown(at("others"), Some(33), None).unwrap();
        let refused = |path: &str| open_folder(&at(path), None).unwrap_err().to_string();
        assert!(refused("others/folder").contains("others (uid 33"), "{}", refused("others/folder"));
        // By way of a link that is root's: the folder that holds the next one is looked at too.
        symlink("../real/folder", at("others/link")).unwrap();
        symlink("others/link", at("start")).unwrap();
        assert!(refused("start").contains("others (uid 33"), "{}", refused("start"));
        fs::create_dir(at("tmp")).unwrap();
        set(&at("tmp"), 0o1777);
        symlink("../real/folder", at("tmp/link")).unwrap();
        assert!(open_folder(&at("tmp/link"), None).is_ok(), "root's own");
        lchown(at("tmp/link"), Some(33), None).unwrap();
        assert!(refused("tmp/link").contains("tmp/link (uid 33"), "{}", refused("tmp/link"));
    }
}
