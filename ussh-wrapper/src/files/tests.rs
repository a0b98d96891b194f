#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use ussh_core::certificate::CertificateKind;
use ussh_core::issue::CertificateTemplate;

use super::*;
use crate::test_support::own_folder as new_folder;

fn own_uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

fn pair(ecdsa: bool, valid_before: u64) -> (PrivateKey, Certificate) {
    let key = if ecdsa { PrivateKey::generate_ecdsa_p256() } else { PrivateKey::generate_ed25519() }.unwrap();
    let template = CertificateTemplate {
        public_key: key.public_key(),
        serial: 7,
        kind: CertificateKind::User,
        key_id: "alice".into(),
        principals: vec!["alice".into()],
        valid_after: UnixTime(1),
        valid_before: UnixTime(valid_before),
        critical_options: vec![],
        extensions: vec![],
    };
    let certificate = template.sign(&PrivateKey::generate_ed25519().unwrap()).unwrap();
    (key, certificate)
}

fn path(files: &Files, name: &str) -> PathBuf {
    files.folder.join(format!("{name}.{}", files.host))
}

/// What lies there, by name without the machine's.
fn names(files: &Files) -> Vec<String> {
    let entries = fs::read_dir(&files.folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> =
        entries.map(|name| name.to_str().unwrap().replace(&format!(".{}", files.host), "")).collect();
    names.sort();
    names
}

#[test]
fn a_pair_is_the_users_alone_and_openssh_reads_it() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    assert!(files.certificate().is_none() && files.key().is_none());
    assert!(!home.path().join(".local").exists(), "to look makes nothing");
    for ecdsa in [false, true] {
        let (key, certificate) = pair(ecdsa, 1000);
        files.make_room().unwrap();
        files.put(&key, &certificate, "ussh alice serial 7").unwrap();
        let mode = |path: PathBuf| path.metadata().unwrap().mode() & 0o7777;
        let there = files.key().unwrap();
        let modes = (mode(there.clone()), mode(certificate_beside(&there)), mode(files.folder.clone()));
        assert_eq!(modes, (0o600, 0o600, 0o700));
        assert_eq!(files.certificate().unwrap().blob(), certificate.blob());
        assert_eq!(files.key_of(certificate.blob()).unwrap().public_key(), key.public_key());
        let shown = Command::new("ssh-keygen").arg("-yf").arg(there).output().unwrap();
        let wanted = key.public_key().to_openssh("");
        assert!(String::from_utf8(shown.stdout).unwrap().starts_with(wanted.trim()));
    }
    assert_eq!(names(&files), ["id", "id-cert.pub", "id2", "id2-cert.pub"], "nothing else is left");
    let (key, _) = pair(false, 1000);
    assert!(matches!(files.put(&key, &pair(false, 1000).1, ""), Err(FilesError::Key(_))), "another's certificate");
}

#[test]
fn a_new_pair_takes_the_place_of_the_older_one_and_whoever_is_about_to_use_the_newer_one_still_can() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    let mut before: Option<(PathBuf, Vec<u8>)> = None;
    for _ in 0..5 {
        let (key, certificate) = pair(false, 1000);
        files.put(&key, &certificate, "").unwrap();
        assert_eq!(files.certificate().unwrap().blob(), certificate.blob());
        let place = files.key().unwrap();
        if let Some((place_before, blob)) = before {
            assert_ne!(place, place_before);
            let still = files.key_of(&blob).expect("that of a moment ago");
            assert_eq!(fs::read_to_string(place_before).unwrap(), *still.to_openssh("").unwrap());
            assert!(files.remove_one(&blob).unwrap() && files.key_of(&blob).is_none());
            assert!(files.key_of(certificate.blob()).is_some(), "the other one stays");
        }
        before = Some((place, certificate.blob().to_vec()));
    }
    // Nor does a clock that was set back make a new one the older one.
    let file = File::options().write(true).open(certificate_beside(&files.key().unwrap())).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
    let (key, certificate) = pair(false, 1000);
    files.put(&key, &certificate, "").unwrap();
    assert_eq!(files.certificate().unwrap().blob(), certificate.blob());
}

#[test]
fn a_key_that_ssh_would_not_take_or_that_is_another_ones_is_no_pair() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    let (key, certificate) = pair(false, 1000);
    let other = pair(false, 1000).0.to_openssh("").unwrap();
    let whole = key.to_openssh("").unwrap();
    let elsewhere = home.path().join("elsewhere");
    type Damage<'a> = &'a dyn Fn(&Path);
    let damages: [(&str, Damage<'_>); 8] = [
        ("half of it", &|path| fs::write(path, &whole[..whole.len() / 2]).unwrap()),
        ("without its last line", &|path| fs::write(path, &whole[..whole.len() - 40]).unwrap()),
        ("nothing", &|path| fs::write(path, "").unwrap()),
        ("another key", &|path| fs::write(path, &other).unwrap()),
        ("others can read it", &|path| fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap()),
        ("a link", &|path| {
            fs::rename(path, &elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, path).unwrap();
        }),
        ("a FIFO", &|path| {
            fs::remove_file(path).unwrap();
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
        }),
        ("none", &|path| fs::remove_file(path).unwrap()),
    ];
    for (what, damage) in damages {
        files.put(&key, &certificate, "").unwrap();
        damage(&files.key().unwrap());
        assert!(files.certificate().is_none() && files.key().is_none(), "{what}");
        assert!(files.key_of(certificate.blob()).is_none(), "{what}");
        files.put(&key, &certificate, "").unwrap();
        assert!(files.certificate().is_some(), "{what}: the next login mends it");
        assert!(files.remove().failure.is_none());
    }
}

#[test]
fn they_go_when_the_certificate_has_ended_and_not_before_and_the_last_one_is_told_of() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    assert_eq!(files.sweep(UnixTime(5)), None);
    for end in [1000, 2000] {
        let (key, certificate) = pair(false, end);
        files.put(&key, &certificate, "").unwrap();
    }
    assert_eq!(files.sweep(UnixTime(999)), None);
    assert_eq!(names(&files).len(), 4);
    let newer = File::options().write(true).open(certificate_beside(&files.key().unwrap())).unwrap();
    assert_eq!(files.sweep(UnixTime(1000)), None, "there is a newer one");
    assert_eq!(names(&files), ["id2", "id2-cert.pub"]);
    let (key, certificate) = pair(false, 2000);
    files.put(&key, &certificate, "").unwrap();
    newer.set_modified(SystemTime::now() - OVERLAP - Duration::from_secs(2)).unwrap();
    let newest = File::options().write(true).open(certificate_beside(&files.key().unwrap())).unwrap();
    newest.set_modified(SystemTime::now() - OVERLAP + Duration::from_secs(60)).unwrap();
    files.sweep(UnixTime(999));
    assert_eq!(names(&files).len(), 4, "somebody may still be about to use the older one");
    newest.set_modified(SystemTime::now() - OVERLAP - Duration::from_secs(1)).unwrap();
    assert_eq!(files.sweep(UnixTime(999)), None);
    assert_eq!(names(&files), ["id", "id-cert.pub"], "nobody is any more");
    let told = files.sweep(UnixTime(90_000)).unwrap().to_string();
    let wanted = "id.HOST-cert.pub has ended at 1970-01-01T00:33:20Z by this machine's clock, which says 1970-01-02T01:00:00Z: removed";
    assert!(told.ends_with(&wanted.replace("HOST", &files.host)), "{told}");
    assert_eq!(names(&files), [""; 0]);
    assert!(files.remove().certificates.is_empty());
    let (key, certificate) = pair(false, 1000);
    files.put(&key, &certificate, "").unwrap();
    assert_eq!(files.remove().certificates, [Some(certificate)]);
    assert_eq!(names(&files), [""; 0]);
}

#[test]
fn what_a_killed_login_left_goes_with_the_next_ussh_and_what_a_living_one_writes_stays() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    let (key, certificate) = pair(false, 1000);
    files.put(&key, &certificate, "").unwrap();
    let text = fs::read(path(&files, "id")).unwrap();
    let left = |name: &str| fs::write(path(&files, name), &text).unwrap();
    // On the way there, and a key alone: its certificate has not come.
    fs::write(files.folder.join(format!("id2.{}.4194303", files.host)), &text).unwrap();
    fs::write(files.folder.join(format!("id2.{}-cert.pub.17", files.host)), "x").unwrap();
    left("id2");
    // Of other machines, and of somebody's.
    for name in ["id.elsewhere.17", "id.elsewhere", "notes.17"] {
        fs::write(files.folder.join(name), "x").unwrap();
    }
    let writing = files.lock(Duration::ZERO).unwrap();
    assert_eq!(files.sweep(UnixTime(5)), None);
    assert_eq!(names(&files).len(), 8, "somebody is at it");
    drop(writing);
    assert_eq!(files.sweep(UnixTime(5)), None);
    let all = ["id", "id-cert.pub", "id.elsewhere", "id.elsewhere.17", "notes.17"];
    assert_eq!(names(&files), all);
    left("id2");
    fs::write(files.folder.join(format!("id.{}.17", files.host)), &text).unwrap();
    assert!(files.remove().failure.is_none());
    assert_eq!(names(&files), &all[2..], "a logout takes all of it");
    fs::write(certificate_beside(&path(&files, "id")), "ssh-ed25519-cert-v01@openssh.com AAAA").unwrap();
    files.sweep(UnixTime(5));
    assert_eq!(names(&files), &all[2..], "half of a certificate");
}

#[test]
fn a_certificate_as_large_as_an_agent_takes_is_read_again_and_a_larger_one_is_refused() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    let (key, _) = pair(false, 1000);
    let with = |count: usize| {
        let template = CertificateTemplate {
            public_key: key.public_key(),
            serial: 7,
            kind: CertificateKind::User,
            key_id: "alice".into(),
            principals: (0..count).map(|n| format!("{n:01000}")).collect(),
            valid_after: UnixTime(1),
            valid_before: UnixTime(1000),
            critical_options: vec![],
            extensions: vec![],
        };
        template.sign(&PrivateKey::generate_ed25519().unwrap()).unwrap()
    };
    let large = with(255);
    assert!(large.blob().len() > 250 * 1024);
    files.put(&key, &large, "c").unwrap();
    files.make_room().unwrap();
    assert_eq!(files.certificate().unwrap().blob(), large.blob());
    let comment = "c".repeat(384 * 1024);
    assert!(matches!(files.put(&key, &large, &comment), Err(FilesError::TooLarge(_))));
    assert_eq!(files.certificate().unwrap().blob(), large.blob());
    files.sweep(UnixTime(1000));
    assert_eq!(names(&files), [""; 0]);
}

#[test]
fn a_folder_that_others_can_enter_is_neither_written_nor_read() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    let (key, certificate) = pair(false, 1000);
    assert!(files.check().is_ok(), "it is made when it is needed");
    files.put(&key, &certificate, "").unwrap();
    assert!(files.check().is_ok());
    fs::set_permissions(&files.folder, Permissions::from_mode(0o750)).unwrap();
    assert!(files.certificate().is_none() && files.key_of(certificate.blob()).is_none());
    for refused in [files.put(&key, &certificate, ""), files.make_room(), files.check()] {
        assert!(matches!(refused, Err(FilesError::Folder(HomeError::Folder(_)))), "{refused:?}");
    }
    fs::set_permissions(&files.folder, Permissions::from_mode(0o700)).unwrap();
    // Others can turn what lies below.
    fs::set_permissions(home.path().join(".local"), Permissions::from_mode(0o777)).unwrap();
    for parent in [files.put(&key, &certificate, ""), files.make_room()] {
        assert!(matches!(parent, Err(FilesError::Parent(path)) if path == home.path().join(".local")));
    }
}

#[test]
fn they_lie_where_ssh_looks() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    let as_ssh = |named: &str| {
        let named = named.replace("%L", host_name().split('.').next().unwrap());
        PathBuf::from(named.replace('~', home.path().to_str().unwrap()))
    };
    assert_eq!(files.keys().collect::<Vec<_>>(), IN_SSH_CONFIG.map(as_ssh));
    assert_eq!(files.for_own_key().own_certificate_file(), as_ssh(OWN_IN_SSH_CONFIG));
}

#[test]
fn what_cannot_be_removed_keeps_nothing_else_there_and_is_not_counted() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    let (key, certificate) = pair(false, 1000);
    files.put(&key, &certificate, "").unwrap();
    fs::create_dir(path(&files, "id2")).unwrap();
    fs::create_dir(certificate_beside(&path(&files, "id2"))).unwrap();
    let gone = files.remove();
    assert_eq!(gone.certificates, [Some(certificate)]);
    assert!(
        matches!(gone.failure, Some(FilesError::Io { source, .. }) if source.kind() == io::ErrorKind::IsADirectory)
    );
    assert_eq!(names(&files), ["id2", "id2-cert.pub"]);
}

#[test]
fn a_folder_in_the_way_is_gone_around_or_told_before_the_password() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    files.make_room().unwrap();
    fs::create_dir(path(&files, "id")).unwrap();
    files.make_room().unwrap();
    let (key, certificate) = pair(false, 1000);
    files.put(&key, &certificate, "").unwrap();
    assert_eq!(files.key(), Some(path(&files, "id2")));
    // The only place that is left is not free.
    let told = files.make_room().unwrap_err().to_string();
    assert!(told.ends_with(&format!("/id.{}: is a directory", files.host)), "{told}");
    let own = files.for_own_key();
    own.make_room().unwrap();
    fs::create_dir(own.own_certificate_file()).unwrap();
    assert!(matches!(own.make_room(), Err(FilesError::Io { path, .. }) if path == own.own_certificate_file()));
}

#[test]
fn one_who_is_stopped_with_the_files_locked_keeps_nobody_from_them_for_ever() {
    let home = new_folder();
    let files = Files::below(home.path(), own_uid()).unwrap();
    let (key, certificate) = pair(false, 1000);
    files.put(&key, &certificate, "").unwrap();
    let held = files.lock(Duration::ZERO).unwrap();
    let begun = Instant::now();
    assert_eq!(files.remove().certificates, [Some(certificate)]);
    assert!((LOCK_PATIENCE..LOCK_PATIENCE * 3).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    drop(held);
}

#[test]
fn a_folder_that_cannot_be_made_is_told_in_the_systems_words() {
    let home = new_folder();
    fs::write(home.path().join(".local"), "").unwrap();
    let files = Files::below(home.path(), own_uid()).unwrap();
    let told = files.make_room().unwrap_err().to_string();
    assert!(told.contains("/.local/state/ussh: Not a directory"), "{told}");
}
