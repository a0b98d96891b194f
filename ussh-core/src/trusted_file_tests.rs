#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::{Permissions, create_dir, set_permissions, write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

/// A folder of our own, at its real path; what lies above it is taken on trust.
struct Top {
    _folder: TempDir,
    path: PathBuf,
    uid: u32,
}

impl Top {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let uid = path.metadata().unwrap().uid();
        let top = Top { _folder: folder, path, uid };
        top.folder("etc");
        top.file("etc/ca", b"key");
        top
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
    }

    fn folder(&self, name: &str) {
        create_dir(self.at(name)).unwrap();
        self.mode(name, 0o755);
    }

    fn file(&self, name: &str, data: &[u8]) {
        write(self.at(name), data).unwrap();
        self.mode(name, 0o644);
    }

    fn link(&self, target: &str, name: &str) {
        symlink(target, self.at(name)).unwrap();
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, TrustedFileError> {
        let owner = Owner { uid: self.uid, below: Some(&self.path) };
        Ok(read_owned(&self.at(name), 16, &owner)?.0.data)
    }

    fn refused_for(&self, name: &str) -> PathBuf {
        match self.read(name) {
            Err(TrustedFileError::BadOwnership { path, .. }) => path,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn reads_a_file_that_its_owner_alone_can_change() {
    let top = Top::new();
    assert_eq!(top.read("etc/ca").unwrap(), b"key");
    top.mode("etc/ca", 0o400);
    top.mode("etc", 0o711);
    assert_eq!(top.read("etc/ca").unwrap(), b"key");
    assert_eq!(top.read("./etc/../etc/ca").unwrap(), b"key");
}

#[test]
fn a_folder_is_its_owners_alone_with_all_that_stand_above_it() {
    let top = Top::new();
    top.folder("etc/sessions");
    let demand = |name: &str| demand_folder(&top.at(name), &Owner { uid: top.uid, below: Some(&top.path) });
    assert!(demand("etc/sessions").is_ok());
    for (folder, mode) in [("etc/sessions", 0o777), ("etc/sessions", 0o1777), ("etc", 0o775)] {
        top.mode(folder, mode);
        let refused = demand("etc/sessions").unwrap_err();
        assert!(
            matches!(&refused, TrustedFileError::BadOwnership { path, .. } if *path == top.at(folder)),
            "{refused}"
        );
        top.mode(folder, 0o755);
    }
    for (name, why) in [("etc/none", "No such file or directory"), ("etc/ca", "not a directory")] {
        assert!(demand(name).unwrap_err().to_string().contains(why), "{name}");
    }
    assert!(matches!(demand_trusted_folder("run".as_ref()), Err(TrustedFileError::NotAbsolute(_))));
    assert!(demand_trusted_folder("/".as_ref()).is_ok());
    assert!(matches!(demand_trusted_folder(&std::env::temp_dir()), Err(TrustedFileError::BadOwnership { .. })));
}

#[test]
fn refuses_a_file_that_group_or_others_can_write() {
    let top = Top::new();
    for mode in [0o664, 0o646, 0o620, 0o602] {
        top.mode("etc/ca", mode);
        assert_eq!(top.refused_for("etc/ca"), top.at("etc/ca"), "{mode:o}");
    }
}

#[test]
fn says_what_is_wrong_where_and_what_to_try() {
    let top = Top::new();
    top.mode("etc", 0o775);
    let said = top.read("etc/ca").unwrap_err().to_string();
    let or_you = if top.uid == 0 { String::new() } else { format!(" (or uid {})", top.uid) };
    let expected = format!(
        "{}: bad ownership or modes (uid {}, mode 0775): it must belong to root{or_you} and be writable by nobody else; try chmod go-w",
        top.at("etc").display(),
        top.uid
    );
    assert_eq!(said, expected);
    // A folder like /tmp stays as it is.
    top.mode("etc", 0o1777);
    let said = top.read("etc/ca").unwrap_err().to_string();
    assert!(said.ends_with("; this folder is for everybody: put the file elsewhere"), "{said}");
}

#[test]
fn refuses_a_file_in_a_folder_that_group_or_others_can_write_sticky_or_not() {
    let top = Top::new();
    for mode in [0o775, 0o757, 0o777, 0o1777] {
        top.mode("etc", mode);
        assert_eq!(top.refused_for("etc/ca"), top.at("etc"), "{mode:o}");
    }
}

#[test]
fn refuses_a_writable_folder_anywhere_above() {
    let top = Top::new();
    top.folder("etc/a");
    top.folder("etc/a/b");
    top.file("etc/a/b/ca", b"key");
    assert!(top.read("etc/a/b/ca").is_ok());
    top.mode("etc", 0o775);
    assert_eq!(top.refused_for("etc/a/b/ca"), top.at("etc"));
}

#[test]
fn refuses_another_owners_file_and_folder() {
    let top = Top::new();
    if top.uid != 0 {
        // Only root can give files away; as another user, the public function sees files that are not root's.
        assert!(matches!(read_trusted(&top.at("etc/ca"), 16), Err(TrustedFileError::BadOwnership { .. })));
        return;
    }
    std::os::unix::fs::chown(top.at("etc/ca"), Some(65534), None).unwrap();
    assert_eq!(top.refused_for("etc/ca"), top.at("etc/ca"));
    std::os::unix::fs::chown(top.at("etc/ca"), Some(0), None).unwrap();
    assert!(top.read("etc/ca").is_ok());
    std::os::unix::fs::chown(top.at("etc"), Some(65534), None).unwrap();
    assert_eq!(top.refused_for("etc/ca"), top.at("etc"));
}

#[test]
fn the_public_function_looks_at_folders_up_to_the_root() {
    // The temporary folder is everybody's, sticky bit or not.
    let top = Top::new();
    assert!(matches!(read_trusted(&top.at("etc/ca"), 16), Err(TrustedFileError::BadOwnership { .. })));
    assert!(!read_trusted(Path::new("/etc/passwd"), 1 << 20).unwrap().is_empty());
}

#[test]
fn follows_links_in_good_folders() {
    let top = Top::new();
    top.link("ca", "etc/relative");
    top.link(top.at("etc").to_str().unwrap(), "absolute");
    top.link("../etc/relative", "etc/twice");
    for name in ["etc/relative", "absolute/ca", "etc/twice", "absolute/twice"] {
        assert_eq!(top.read(name).unwrap(), b"key", "{name}");
    }
}

#[test]
fn the_real_path_holds_no_link() {
    let top = Top::new();
    top.link(top.at("etc").to_str().unwrap(), "absolute");
    top.link("../etc/ca", "etc/twice");
    let owner = Owner { uid: top.uid, below: Some(&top.path) };
    for name in ["etc/ca", "absolute/ca", "absolute/../absolute/twice"] {
        let (file, _) = read_owned(&top.at(name), 16, &owner).unwrap();
        assert_eq!(file, TrustedFile { real_path: top.at("etc/ca"), data: b"key".to_vec() }, "{name}");
    }
}

#[test]
fn refuses_a_link_to_a_good_file_that_lies_in_a_bad_folder() {
    let top = Top::new();
    top.folder("home");
    top.link("../etc/ca", "home/ca");
    assert!(top.read("home/ca").is_ok());
    top.mode("home", 0o777);
    assert_eq!(top.refused_for("home/ca"), top.at("home"));
}

#[test]
fn refuses_a_good_link_to_a_file_in_a_bad_folder() {
    let top = Top::new();
    top.folder("home");
    top.file("home/ca", b"key");
    top.mode("home", 0o777);
    top.link("../home/ca", "etc/link");
    assert_eq!(top.refused_for("etc/link"), top.at("home"));
}

#[test]
fn refuses_a_bad_folder_that_is_only_passed_through() {
    let top = Top::new();
    top.folder("home");
    top.mode("home", 0o777);
    assert_eq!(top.refused_for("home/../etc/ca"), top.at("home"));
}

#[test]
fn refuses_links_in_a_circle() {
    let top = Top::new();
    top.link("b", "etc/a");
    top.link("a", "etc/b");
    assert!(
        matches!(top.read("etc/a"), Err(TrustedFileError::Io { source, .. }) if source.raw_os_error() == Some(libc::ELOOP))
    );
}

#[test]
fn refuses_what_is_no_regular_file_without_waiting_for_it() {
    let top = Top::new();
    let fifo = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(top.at("etc/fifo")).status();
    assert!(fifo.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(top.at("etc/socket")).unwrap();
    top.link("/dev/null", "etc/null");
    top.link("/dev/tty", "etc/tty");
    let start = Instant::now();
    for name in ["etc/fifo", "etc/socket", "etc/null", "etc/tty", "etc"] {
        assert!(matches!(top.read(name), Err(TrustedFileError::NotRegular(_))), "{name}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_fifo_is_opened_without_waiting_for_a_writer() {
    let top = Top::new();
    assert!(std::process::Command::new("mkfifo").arg(top.at("fifo")).status().unwrap().success());
    let (_, metadata) = open_no_follow(&top.at("fifo")).unwrap();
    assert!(!metadata.is_file());
}

#[test]
fn opening_follows_no_link() {
    let top = Top::new();
    top.link("ca", "etc/link");
    assert_eq!(open_no_follow(&top.at("etc/link")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
}

#[test]
fn refuses_a_file_over_the_cap_and_takes_one_of_exactly_the_cap() {
    let top = Top::new();
    top.file("etc/full", &[b'x'; 16]);
    top.file("etc/over", &[b'x'; 17]);
    assert_eq!(top.read("etc/full").unwrap().len(), 16);
    assert!(matches!(top.read("etc/over"), Err(TrustedFileError::TooLarge { max: 16, .. })));
}

#[test]
fn reads_an_empty_file() {
    let top = Top::new();
    top.file("etc/empty", b"");
    assert_eq!(top.read("etc/empty").unwrap(), b"");
}

#[test]
fn refuses_a_relative_path() {
    for path in ["etc/ca", "", ".", "../etc/ca"] {
        assert!(matches!(read_trusted(Path::new(path), 16), Err(TrustedFileError::NotAbsolute(_))), "{path}");
    }
}

#[test]
fn refuses_a_missing_file_and_a_file_used_as_a_folder() {
    let top = Top::new();
    assert!(matches!(top.read("etc/none"), Err(TrustedFileError::Io { .. })));
    assert!(matches!(top.read("none/ca"), Err(TrustedFileError::Io { .. })));
    assert!(matches!(top.read("etc/ca/x"), Err(TrustedFileError::NotRegular(_))));
    assert!(matches!(top.read("etc/link"), Err(TrustedFileError::Io { .. })));
    top.link("none", "etc/dangling");
    assert!(matches!(top.read("etc/dangling"), Err(TrustedFileError::Io { .. })));
}

#[test]
fn refuses_a_link_to_a_bad_folder_beside_the_one_that_is_trusted() {
    let top = Top::new();
    let beside = Top::new();
    top.link(beside.at("etc/ca").to_str().unwrap(), "etc/link");
    let owner = Owner { uid: top.uid, below: Some(&top.path) };
    assert!(read_owned(&top.at("etc/link"), 16, &owner).is_ok());
    beside.mode("etc", 0o777);
    assert!(matches!(
        read_owned(&top.at("etc/link"), 16, &owner),
        Err(TrustedFileError::BadOwnership { path, .. }) if path == beside.at("etc")
    ));
}

#[test]
fn a_folder_named_through_a_link_is_looked_at_all_the_same() {
    let top = Top::new();
    top.link("etc", "conf");
    let read = || read_trusted_below(&top.at("conf"), top.uid, &top.at("conf/ca"), 16);
    assert_eq!(read().unwrap(), b"key");
    top.mode("etc", 0o775);
    assert!(matches!(read(), Err(TrustedFileError::BadOwnership { path, .. }) if path == top.at("etc")));
}

#[test]
fn what_lies_above_the_folder_named_is_taken_on_trust() {
    let top = Top::new();
    top.folder("etc/sub");
    top.file("etc/sub/ca", b"key");
    top.mode("etc", 0o777);
    assert_eq!(read_trusted_below(&top.at("etc/sub"), top.uid, &top.at("etc/sub/ca"), 16).unwrap(), b"key");
    assert!(read_trusted_below(&top.path, top.uid, &top.at("etc/sub/ca"), 16).is_err());
}

#[test]
fn what_was_read_is_told_from_what_stands_there_later() {
    let top = Top::new();
    let owner = Owner { uid: top.uid, below: Some(&top.path) };
    let path = top.at("etc/ca");
    let (_, read) = read_owned(&path, 16, &owner).unwrap();
    assert_eq!(FileState::at(&path), Some(read));
    // Another of the same size, in its place.
    let other = top.at("etc/other");
    std::fs::write(&other, "yek").unwrap();
    std::fs::rename(&other, &path).unwrap();
    let now = FileState::at(&path);
    assert!(now.is_some() && now != Some(read), "{now:?}");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(FileState::at(&path), None);
}
