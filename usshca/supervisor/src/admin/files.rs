//! Files that the verbs write.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Puts a file in place in one step, on disk when this returns: readers see the old one or the new one.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    put(folder, path, bytes, mode).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
}

fn put(folder: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
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
        replace_file(&path, b"one", 0o644).unwrap();
        replace_file(&path, b"two", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = replace_file(&dir.path().join("none/krl"), b"x", 0o644).unwrap_err();
        assert!(error.message.contains("none/krl"), "{error}");
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
