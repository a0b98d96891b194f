#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::begun::{End, Whole};
use crate::test_support::{Ca, record_of, this_process, trusted_folder};

/// A process number that no living process has, with a start time.
const GONE: &str = "4194303-1";

fn spool() -> (tempfile::TempDir, Spool) {
    let folder = trusted_folder();
    let spool = Spool::new(&folder.path().join("ussh/sessions"));
    spool.make().unwrap();
    (folder, spool)
}

fn boot() -> String {
    ussh_os::process::boot_id().unwrap()
}

#[test]
fn makes_folders_that_only_root_can_change() {
    let (folder, spool) = spool();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode(spool.folder()), 0o700);
    assert_eq!(mode(&folder.path().join("ussh")), 0o755);
    spool.make().unwrap();
}

#[test]
fn refuses_a_folder_that_others_can_change_or_that_is_a_link() {
    let (folder, spool) = spool();
    std::fs::set_permissions(spool.folder(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(spool.make().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    let link = folder.path().join("ussh/link");
    std::os::unix::fs::symlink("/tmp", &link).unwrap();
    assert_eq!(Spool::new(&link).make().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn reads_a_record_of_a_living_process() {
    let (_folder, spool) = spool();
    let record = record_of(this_process(), None);
    record.write(spool.folder()).unwrap();
    let listing = spool.list_and_clean().unwrap();
    assert_eq!(listing.connections, [this_process()].into());
    let Found::Live(read) = spool.read(this_process(), &boot()).unwrap() else { panic!("not live") };
    assert_eq!(*read, record);
}

#[test]
fn removes_what_belongs_to_no_living_process() {
    let (_folder, spool) = spool();
    let me = this_process();
    let other_start = ConnectionId { start_time: me.start_time + 1, ..me };
    for name in [
        format!("{GONE}.json"),
        format!("{GONE}.renewed"),
        format!(".{GONE}.json.new"),
        format!(".{GONE}.renewed.new"),
        format!(".{GONE}.begun.new"),
        format!("{}.json", other_start.stem()),
    ] {
        std::fs::write(spool.folder().join(name), "").unwrap();
    }
    assert_eq!(spool.list().unwrap(), Listing::default(), "listing alone changes nothing");
    let listing = spool.list_and_clean().unwrap();
    assert_eq!(listing, Listing { removed: 6, ..Listing::default() });
    assert_eq!(std::fs::read_dir(spool.folder()).unwrap().count(), 0);
}

#[test]
fn what_was_begun_outlives_its_connection_and_goes_with_its_files() {
    let (_folder, spool) = spool();
    let gone = ConnectionId::parse(GONE).unwrap();
    assert_eq!(spool.begun(gone), None);
    let whole = Whole { group: "/sys/fs/cgroup/x".into(), inode: 7 };
    let end = End::new(Duration::from_secs(2), [this_process()].into_iter()).of_all_in(Some(whole));
    let begun = Begun { boot_id: boot(), end: Some(end), frozen: Some("/sys/fs/cgroup/x".into()) };
    spool.set_begun(gone, &begun).unwrap();
    let listing = spool.list_and_clean().unwrap();
    assert_eq!(listing, Listing { begun: [gone].into(), ..Listing::default() });
    let (read, ago) = spool.begun(gone).unwrap();
    assert!(read == begun && ago < Duration::from_secs(10), "{read:?} {ago:?}");
    let file = spool.folder().join(format!("{GONE}.begun"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o622)).unwrap();
    assert_eq!(spool.begun(gone), None, "others can write");
    spool.remove(gone).unwrap();
    assert_eq!(spool.list().unwrap(), Listing::default());
    spool.set_begun(gone, &begun).unwrap();
    spool.clear_begun(gone).unwrap();
    spool.clear_begun(gone).unwrap();
    assert_eq!(std::fs::read_dir(spool.folder()).unwrap().count(), 0);
}

#[test]
fn leaves_foreign_names_and_half_written_files_of_living_processes_alone() {
    let (_folder, spool) = spool();
    let being_written = format!(".{}.json.new", this_process().stem());
    let foreign = ["notes.txt", "1.json", "-1-2.json", "01-2.json", "1-2.json.bak", "+1-2.json", ".x", "1-2"];
    for name in foreign.iter().copied().chain([being_written.as_str()]) {
        std::fs::write(spool.folder().join(name), "").unwrap();
    }
    let listing = spool.list_and_clean().unwrap();
    assert_eq!(listing.foreign, foreign.map(str::to_owned).into());
    assert!(listing.connections.is_empty());
    assert_eq!(listing.removed, 0);
    assert!(spool.folder().join(being_written).exists());
}

#[test]
fn record_of_another_boot_is_not_live() {
    let (_folder, spool) = spool();
    let record =
        SessionRecord { boot_id: "00000000-0000-0000-0000-000000000000".into(), ..record_of(this_process(), None) };
    record.write(spool.folder()).unwrap();
    assert!(matches!(spool.read(this_process(), &boot()), Ok(Found::OtherBoot)));
}

#[test]
fn refuses_records_that_are_torn_or_somebody_elses() {
    let (_folder, spool) = spool();
    let me = this_process();
    let file = spool.folder().join(format!("{}.json", me.stem()));
    record_of(me, None).write(spool.folder()).unwrap();
    let whole = std::fs::read(&file).unwrap();

    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(spool.read(me, &boot()), Err(RecordError::Malformed(_))), "torn");

    std::fs::write(&file, &whole).unwrap();
    assert!(spool.read(me, &boot()).is_ok(), "whole again");
    std::os::unix::fs::chown(&file, Some(1), None).unwrap();
    assert!(matches!(spool.read(me, &boot()), Err(RecordError::Malformed(_))), "another user's");
    std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(spool.read(me, &boot()), Err(RecordError::Malformed(_))), "others can write");

    let other = ConnectionId { pid: 1, start_time: ussh_os::process::start_time(1).unwrap() };
    std::fs::write(spool.folder().join(format!("{}.json", other.stem())), &whole).unwrap();
    assert!(matches!(spool.read(other, &boot()), Err(RecordError::Malformed(_))), "under another's name");
}

#[test]
fn remembers_the_renewal_of_the_same_lineage_only() {
    let (_folder, spool) = spool();
    let (ca, me) = (Ca::new(), this_process());
    let (login, _) = ca.issue("alice", 1, 60);
    assert_eq!(spool.current(me, &login), login, "nothing is remembered");
    for (other, why) in [
        (ca.issue("bob", 2, 600).0, "another key ID"),
        (Ca::new().issue("alice", 2, 600).0, "another CA"),
        (ca.issue("alice", 2, 30).0, "ends earlier"),
    ] {
        spool.set_renewed(me, &other).unwrap();
        assert_eq!(spool.current(me, &login), login, "{why}");
    }
    let (newer, _) = ca.issue("alice", 2, 600);
    spool.set_renewed(me, &newer).unwrap();
    assert_eq!(spool.current(me, &login), newer);

    let file = spool.folder().join(format!("{}.renewed", me.stem()));
    std::fs::write(&file, &newer.to_openssh("")[..100]).unwrap();
    assert_eq!(spool.current(me, &login), login, "torn");
    spool.set_renewed(me, &newer).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o622)).unwrap();
    assert_eq!(spool.current(me, &login), login, "others can write");
    spool.remove(me).unwrap();
    spool.remove(me).unwrap();
    assert_eq!(std::fs::read_dir(spool.folder()).unwrap().count(), 0);
}
