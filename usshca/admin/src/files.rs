//! Files that the verbs write.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A place for a file that was seen to be usable before there is anything to put there.
pub struct Place {
    path: PathBuf,
    folder: PathBuf,
    /// Beside the place, and gone with this unless it was moved there.
    temporary: NamedTempFile,
}

impl Place {
    /// Refuses what is there and no regular file: a device that is renamed over is lost to all, and behind a link the file would not change.
    /// # Errors
    /// What stands in its way.
    pub fn new(path: &Path) -> Result<Self, Failure> {
        match path.symlink_metadata() {
            Ok(found) if found.is_file() => {}
            Ok(found) => return Err(Failure::output(format!("{}: {}", path.display(), what_it_is(path, &found)))),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failure(path, &e)),
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = NamedTempFile::new_in(folder).map_err(|e| failure(path, &e))?;
        Ok(Place { path: path.to_owned(), folder: folder.to_owned(), temporary })
    }

    /// Puts the file in place in one step, on disk when this returns: readers see the old one or the new one.
    /// # Errors
    /// What stands in its way.
    pub fn put(mut self, bytes: &[u8], mode: u32) -> Result<(), Failure> {
        self.temporary.write_all(bytes).map_err(|e| failure(&self.path, &e))?;
        self.keep(mode)
    }

    /// What will be in the file, to be written bit by bit.
    pub fn file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// As [`Place::put`], of what was written already.
    /// # Errors
    /// What stands in its way.
    pub fn keep(self, mode: u32) -> Result<(), Failure> {
        let Place { path, folder, temporary } = self;
        let put = || -> io::Result<()> {
            temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
            temporary.as_file().sync_all()?;
            temporary.persist(&path)?;
            File::open(folder)?.sync_all()
        };
        put().map_err(|e| failure(&path, &e))
    }
}

fn what_it_is(path: &Path, found: &fs::Metadata) -> String {
    if found.is_dir() {
        return "a folder; name the file".to_owned();
    }
    if !found.is_symlink() {
        return "a device, a pipe or a socket: it is not replaced; for standard output leave --out away, or give `-`"
            .to_owned();
    }
    match path.read_link() {
        Ok(target) => format!("a symbolic link to {}: it is not replaced; name the file itself", target.display()),
        Err(_) => "a symbolic link: it is not replaced; name the file itself".to_owned(),
    }
}

/// By the path that the user gave: the temporary file's name, which tempfile adds, tells nobody anything.
fn failure(path: &Path, error: &io::Error) -> Failure {
    let text = error.to_string();
    let why = text.split_once(" at path ").map_or(text.as_str(), |(why, _)| why);
    Failure::output(format!("{}: {why}", path.display()))
}

/// As ssh-keygen and sshd have it: `k.pub` → `k-cert.pub`.
pub fn certificate_path(key: &Path) -> PathBuf {
    let mut name = match key.extension() {
        Some(extension) if extension == "pub" => key.with_extension("").into_os_string(),
        _ => key.as_os_str().to_owned(),
    };
    name.push("-cert.pub");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("krl");
        Place::new(&path).unwrap().put(b"one", 0o644).unwrap();
        Place::new(&path).unwrap().put(b"two", 0o644).unwrap();
        drop(Place::new(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let missing = dir.path().join("none/krl");
        let error = Place::new(&missing).err().unwrap();
        assert_eq!(error.message, format!("{}: No such file or directory (os error 2)", missing.display()));
    }

    #[test]
    fn what_is_no_regular_file_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "mine").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for (name, why) in [
            ("link", "symbolic link to file"),
            ("dangling", "symbolic link to nowhere"),
            ("socket", "not replaced"),
            ("folder", "a folder"),
        ] {
            let before = at(name).symlink_metadata().unwrap().file_type();
            let error = Place::new(&at(name)).err().unwrap();
            assert!(error.message.contains(why) && error.exit == crate::failure::Exit::Output, "{error}");
            assert_eq!(at(name).symlink_metadata().unwrap().file_type(), before);
        }
        assert!(Place::new(Path::new("/dev/null")).err().unwrap().message.contains("not replaced"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
    }

    #[test]
    fn the_certificate_lies_where_sshd_looks_for_it() {
        for (key, certificate) in [
            ("/etc/ssh/ssh_host_ed25519_key.pub", "/etc/ssh/ssh_host_ed25519_key-cert.pub"),
            ("web1.example.pub", "web1.example-cert.pub"),
            ("key", "key-cert.pub"),
            ("key.v2", "key.v2-cert.pub"),
        ] {
            assert_eq!(certificate_path(Path::new(key)), Path::new(certificate));
        }
    }
}
