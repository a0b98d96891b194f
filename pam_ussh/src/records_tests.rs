#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use ussh_core::clock::UnixTime;

use super::*;
use crate::testing::{Folder, certificate, certificate_without_key_id, is_root, record};

/// Processes that could have opened sessions.
struct Sleepers(Vec<std::process::Child>);

impl Sleepers {
    fn start(count: usize) -> (Self, Vec<ProcessId>) {
        let start = || std::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
        let sleepers = Sleepers(std::iter::repeat_with(start).take(count).collect());
        let ids = sleepers.0.iter().map(|child| ProcessId::of(child.id()).unwrap()).collect();
        (sleepers, ids)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

const UID: u32 = 61001;

/// A session of UID's.
fn session(monitor: ProcessId, key_id: &str, opened: u64) -> SessionRecord {
    let opened = UnixTime(1_700_000_000 + opened);
    SessionRecord { uid: UID, certificate: Some(certificate(key_id)), opened, ..record(monitor) }
}

fn under(folder: &Folder) -> Result<OnePerson, NotOnePerson> {
    OnePerson::under(UID, &folder.spool())
}

#[test]
fn the_sessions_of_one_person_come_newest_first_and_others_of_other_uids_do_not_matter() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    assert_eq!(under(&folder), Err(NotOnePerson::Nobody), "no spool");
    let (_sleepers, ids) = Sleepers::start(4);
    for (id, opened) in [(ids[0], 5), (ids[1], 9), (ids[2], 7)] {
        session(id, "alice", opened).write(&folder.spool()).unwrap();
    }
    SessionRecord { uid: UID + 1, ..session(ids[3], "bob", 1) }.write(&folder.spool()).unwrap();
    let person = under(&folder).unwrap();
    assert_eq!(person, OnePerson { key_id: b"alice".to_vec(), monitors: vec![ids[1], ids[2], ids[0]] });
}

#[test]
fn several_key_ids_or_a_session_without_certificate_are_not_one_person() {
    if !is_root() {
        return;
    }
    let (_sleepers, ids) = Sleepers::start(2);
    let plain = SessionRecord { certificate: None, ..session(ids[1], "alice", 2) };
    let nameless = SessionRecord { certificate: Some(certificate_without_key_id()), ..plain.clone() };
    for (other, reason) in [
        (session(ids[1], "bob", 2), NotOnePerson::SeveralPeople),
        (session(ids[1], "Alice", 2), NotOnePerson::SeveralPeople),
        (nameless, NotOnePerson::Nameless(ids[1])),
        (plain, NotOnePerson::WithoutCertificate(ids[1])),
    ] {
        let folder = Folder::new();
        session(ids[0], "alice", 1).write(&folder.spool()).unwrap();
        assert!(under(&folder).is_ok());
        other.write(&folder.spool()).unwrap();
        assert_eq!(under(&folder), Err(reason));
    }
}

#[test]
fn a_record_that_cannot_be_read_is_not_passed_over() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let (_sleepers, ids) = Sleepers::start(2);
    let folder = Folder::new();
    session(ids[0], "alice", 1).write(&folder.spool()).unwrap();
    let other = session(ids[1], "alice", 2);
    let file = folder.spool().join(other.file_name());
    let unreadable = |why: &str| {
        let refused = under(&folder).unwrap_err();
        assert!(
            matches!(&refused, NotOnePerson::Unreadable(id, text) if *id == ids[1] && text.contains(why)),
            "{refused:?}"
        );
    };
    std::fs::write(&file, "{").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    unreadable("malformed record");
    other.write(&folder.spool()).unwrap();
    assert!(under(&folder).is_ok());
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    unreadable("bad ownership or modes");
    SessionRecord { certificate: Some("ssh-new-cert-v01@openssh.com AAAA".into()), ..other }
        .write(&folder.spool())
        .unwrap();
    unreadable("");
}

#[test]
fn what_belongs_to_no_living_process_of_this_boot_does_not_count() {
    if !is_root() {
        return;
    }
    let (mut sleepers, ids) = Sleepers::start(2);
    let folder = Folder::new();
    session(ids[0], "alice", 1).write(&folder.spool()).unwrap();
    let left = session(ids[1], "bob", 2);
    let other_process = SessionRecord { start_time: left.start_time + 1, ..left.clone() };
    let other_boot = SessionRecord { boot_id: "another".into(), ..left.clone() };
    for stale in [other_process, other_boot] {
        stale.write(&folder.spool()).unwrap();
        assert_eq!(under(&folder).unwrap().monitors, [ids[0]], "{stale:?}");
        stale.remove(&folder.spool()).unwrap();
    }
    left.write(&folder.spool()).unwrap();
    assert_eq!(under(&folder), Err(NotOnePerson::SeveralPeople));
    let mut ended = sleepers.0.pop().unwrap();
    ended.kill().unwrap();
    ended.wait().unwrap();
    assert_eq!(under(&folder).unwrap().monitors, [ids[0]]);
    // Renewed certificates, files that are being written and files of nobody's are no records.
    for name in ["1-1.renewed", ".1-1.json.new", "1-1.json.x", "01-1.json", "notes"] {
        std::fs::write(folder.spool().join(name), "x").unwrap();
    }
    assert!(under(&folder).is_ok());
}

#[test]
fn several_sessions_are_seen_without_reading_them() {
    let folder = Folder::new();
    assert!(!are_several(&folder.spool()));
    std::fs::create_dir(folder.spool()).unwrap();
    for (name, several) in [("7-1.json", false), ("7-1.renewed", false), (".8-1.json.new", false), ("8-1.json", true)] {
        std::fs::write(folder.spool().join(name), "").unwrap();
        assert_eq!(are_several(&folder.spool()), several, "{name}");
    }
}

#[test]
fn only_a_living_connection_that_was_opened_later_is_newer() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let me = ProcessId::of(std::process::id()).unwrap();
    assert!(!is_any_newer(&folder.spool(), me), "no spool");
    let (sleepers, ids) = Sleepers::start(1);
    let first = ProcessId { start_time: ids[0].start_time - 1, ..ids[0] };
    session(ids[0], "alice", 1).write(&folder.spool()).unwrap();
    assert!(is_any_newer(&folder.spool(), first));
    assert!(!is_any_newer(&folder.spool(), ids[0]), "its own is none");
    drop(sleepers);
    assert!(!is_any_newer(&folder.spool(), first), "it has ended");
}
