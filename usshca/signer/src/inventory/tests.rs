#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use ussh_core::break_glass::Note;
use usshca_ipc::admin::Revoke;

use super::*;

pub(super) const NOW: UnixTime = UnixTime(1_800_000_000);

fn asked(kind: Kind, at: u64) -> Asked {
    Asked {
        kind,
        key_id: "alice".into(),
        fingerprint: "SHA256:x".into(),
        asked: UnixTime(at),
        source: "192.0.2.1".into(),
        authenticated: "pam".into(),
        rule: "staff".into(),
        reason: String::new(),
        request: None,
    }
}

fn planned(until: u64) -> Planned {
    Planned { principals: vec!["alice".into(), "web".into()], valid_after: NOW, valid_before: UnixTime(until) }
}

fn new() -> (tempfile::TempDir, Inventory) {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::create(&dir.path().join("inventory.db")).unwrap();
    (dir, inventory)
}

fn open(path: &Path) -> Result<Inventory, InventoryError> {
    Inventory::open(path, NOW)
}

/// What a KRL holds whose margin begins then.
fn serials(inventory: &Inventory, kind: Kind, since: UnixTime) -> Vec<u64> {
    let revoked = inventory.revoked(kind, UnixTime(since.0 + revoke::KRL_MARGIN)).unwrap();
    let mut serials: Vec<u64> = revoked
        .serials
        .iter()
        .map(|(first, last)| {
            assert_eq!(first, last);
            *first
        })
        .collect();
    serials.sort_unstable();
    serials
}

pub(super) fn reserve(inventory: &mut Inventory) -> u64 {
    inventory.reserve(&asked(Kind::User, NOW.0), &planned(NOW.0 + 60)).unwrap()
}

#[test]
fn serials_are_an_epoch_and_a_counter_and_never_zero() {
    let (dir, mut inventory) = new();
    let first = reserve(&mut inventory);
    let second = reserve(&mut inventory);
    assert_eq!(first & 0xff_ffff_ffff, 1);
    assert_eq!(second, first + 1);
    drop(inventory);
    // The epoch is the database's, not the process's.
    let mut again = open(&dir.path().join("inventory.db")).unwrap();
    assert_eq!(reserve(&mut again), first + 2);
    let (_other, mut other) = new();
    let mut epochs = vec![first >> 40, reserve(&mut other) >> 40];
    let (_third, mut third) = new();
    epochs.push(reserve(&mut third) >> 40);
    epochs.dedup();
    assert!(epochs.len() > 1, "{epochs:?}");
}

#[test]
fn a_serial_with_the_highest_bit_set_is_kept_and_found() {
    let (_dir, mut inventory) = new();
    inventory.connection.execute("UPDATE ca SET epoch = 16777215, counter = 1099511627774", []).unwrap();
    let serial = reserve(&mut inventory);
    assert_eq!(serial, u64::MAX);
    assert_eq!(inventory.find(serial).unwrap().unwrap().entry.serial, serial);
    assert!(matches!(
        inventory.revoke(&Revoke::Serial(serial), NOW, "admin", "").unwrap(),
        Revocation::Done { certificates: 1, .. }
    ));
    assert_eq!(serials(&inventory, Kind::User, NOW), [serial]);
    // And that was the last one.
    let error = inventory.reserve(&asked(Kind::User, NOW.0), &planned(NOW.0 + 60)).unwrap_err();
    assert!(matches!(error, InventoryError::NoSerials), "{error}");
}

#[test]
fn a_reservation_survives_a_process_that_is_gone() {
    let (dir, mut inventory) = new();
    let serial = reserve(&mut inventory);
    // No checkpoint, no close: what a kill leaves behind.
    std::mem::forget(inventory);
    let mut again = open(&dir.path().join("inventory.db")).unwrap();
    let found = again.find(serial).unwrap().unwrap();
    assert_eq!((found.entry.outcome.as_str(), found.certificate), ("reserved", None));
    assert_eq!(found.entry.principals, ["alice", "web"]);
    assert_ne!(reserve(&mut again), serial);
    assert!(matches!(
        again.revoke(&Revoke::Serial(serial), NOW, "admin", "").unwrap(),
        Revocation::Done { certificates: 1, .. }
    ));
    assert_eq!(serials(&again, Kind::User, NOW), [serial]);
}

#[test]
fn a_row_goes_through_its_states_once() {
    let (_dir, mut inventory) = new();
    let serial = reserve(&mut inventory);
    let outcome = |i: &Inventory| i.find(serial).unwrap().unwrap().entry.outcome;
    assert!(matches!(
        inventory.note_outcome(serial, &Outcome::Delivered),
        Err(InventoryError::State { to: "delivered", .. })
    ));
    inventory.mark_signed(serial, b"blob").unwrap();
    assert_eq!(outcome(&inventory), "signed");
    assert!(inventory.mark_signed(serial, b"another").is_err());
    assert!(inventory.mark_unsigned(serial, "x").is_err());
    inventory.note_outcome(serial, &Outcome::Undelivered("no agent was forwarded".into())).unwrap();
    assert_eq!(outcome(&inventory), "undelivered: no agent was forwarded");
    assert!(inventory.note_outcome(serial, &Outcome::Delivered).is_err());
    assert_eq!(inventory.find(serial).unwrap().unwrap().certificate.as_deref(), Some(&b"blob"[..]));
    assert!(inventory.mark_signed(0, b"blob").is_err());
}

#[test]
fn a_clock_behind_the_newest_row_refuses_and_a_refusal_does_not_turn_it_back() {
    let (_dir, mut inventory) = new();
    reserve(&mut inventory);
    let behind = |i: &mut Inventory, at| i.reserve(&asked(Kind::User, at), &planned(NOW.0 + 60));
    assert!(matches!(behind(&mut inventory, NOW.0 - 1), Err(InventoryError::ClockBehind { newest: NOW, .. })));
    inventory.record_refusal(&asked(Kind::User, NOW.0 - 1), "the clock", false).unwrap();
    assert!(matches!(behind(&mut inventory, NOW.0 - 1), Err(InventoryError::ClockBehind { newest: NOW, .. })));
    assert!(behind(&mut inventory, NOW.0).is_ok());
    inventory.record_refusal(&asked(Kind::User, NOW.0 + 5), "no rule", true).unwrap();
    assert!(behind(&mut inventory, NOW.0 + 4).is_err());
    // A reservation that was refused took no serial.
    let rows = inventory.list(u64::MAX, 10).unwrap();
    assert_eq!(rows.iter().map(|r| r.serial & 0xff).collect::<Vec<_>>(), [0, 2, 0, 1]);
}

#[test]
fn refusals_are_rows_without_a_serial_and_cannot_be_revoked() {
    let (_dir, mut inventory) = new();
    inventory.record_refusal(&asked(Kind::User, NOW.0), "no rule of the policy matches", true).unwrap();
    inventory.record_refusal(&asked(Kind::User, NOW.0), "again", true).unwrap();
    let rows = inventory.list(u64::MAX, 10).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[1].serial, rows[1].outcome.as_str()), (0, "refused: no rule of the policy matches"));
    assert_eq!(inventory.revoke(&Revoke::Serial(0), NOW, "admin", "").unwrap(), Revocation::Unknown);
    assert!(inventory.find(0).unwrap().is_none());
}

#[test]
fn revokes_once_and_lists_what_is_revoked_and_not_over() {
    let (_dir, mut inventory) = new();
    let user = reserve(&mut inventory);
    let short = inventory.reserve(&asked(Kind::User, NOW.0), &planned(NOW.0 + 10)).unwrap();
    let host = inventory.reserve(&asked(Kind::Host, NOW.0), &planned(NOW.0 + 60)).unwrap();
    let good = reserve(&mut inventory);
    for serial in [user, short, host] {
        assert!(matches!(
            inventory.revoke(&Revoke::Serial(serial), NOW, "admin uid 0", "lost").unwrap(),
            Revocation::Done { certificates: 1, .. }
        ));
    }
    assert_eq!(inventory.revoke(&Revoke::Serial(user), NOW, "admin uid 1", "again").unwrap(), Revocation::Already);
    assert_eq!(inventory.revoke(&Revoke::Serial(good + 1), NOW, "admin", "").unwrap(), Revocation::Unknown);
    let found = inventory.find(user).unwrap().unwrap();
    assert_eq!(found.entry.revoked, Some(NOW.0));
    assert_eq!((found.revoked_by.as_deref(), found.revocation_reason.as_deref()), (Some("admin uid 0"), Some("lost")));
    let revoked = |kind, at| serials(&inventory, kind, UnixTime(at));
    assert_eq!(revoked(Kind::User, NOW.0 + 9), [user, short]);
    assert_eq!(revoked(Kind::User, NOW.0 + 10), [user]);
    assert_eq!(revoked(Kind::User, NOW.0 + 60), [] as [u64; 0]);
    assert_eq!(revoked(Kind::Host, NOW.0), [host]);
}

#[test]
fn krl_versions_only_rise() {
    let (dir, mut inventory) = new();
    assert_eq!(inventory.next_krl_version(NOW).unwrap(), NOW.0);
    assert_eq!(inventory.next_krl_version(NOW).unwrap(), NOW.0 + 1);
    assert_eq!(inventory.next_krl_version(UnixTime(NOW.0 - 1000)).unwrap(), NOW.0 + 2);
    std::mem::forget(inventory);
    let mut again = open(&dir.path().join("inventory.db")).unwrap();
    assert_eq!(again.next_krl_version(NOW).unwrap(), NOW.0 + 3);
    assert_eq!(again.next_krl_version(UnixTime(NOW.0 + 100)).unwrap(), NOW.0 + 100);
}

#[test]
fn lists_page_by_page_newest_first() {
    let (_dir, mut inventory) = new();
    let serials: Vec<u64> = (0..5).map(|_| reserve(&mut inventory)).collect();
    let page = inventory.list(u64::MAX, 2).unwrap();
    assert_eq!(page.iter().map(|r| r.serial).collect::<Vec<_>>(), [serials[4], serials[3]]);
    let rest = inventory.list(page[1].row, 10).unwrap();
    assert_eq!(rest.len(), 3);
    assert_eq!(inventory.list(rest[2].row, 10).unwrap(), []);
    assert_eq!(inventory.list(0, 10).unwrap(), []);
}

#[test]
fn commits_reach_the_disk_and_the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, inventory) = new();
    let pragma = |name: &str| inventory.connection.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0));
    assert_eq!(pragma("synchronous").unwrap(), 2);
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    drop(inventory);
    let path = dir.path().join("inventory.db");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(open(&path), Err(InventoryError::File { .. })));
}

#[test]
fn refuses_a_database_of_a_later_version_and_one_that_is_none() {
    let (dir, inventory) = new();
    inventory.connection.pragma_update(None, "user_version", schema::FORM + 1).unwrap();
    drop(inventory);
    let path = dir.path().join("inventory.db");
    assert!(matches!(open(&path), Err(InventoryError::Newer(form)) if form == schema::FORM + 1));
    std::fs::write(&path, "junk junk junk junk junk junk junk junk junk junk").unwrap();
    assert!(matches!(open(&path), Err(InventoryError::Database(_))));
}

/// As the first version of this program made it.
#[test]
fn a_database_of_an_earlier_form_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.db");
    create_private(&path).unwrap();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(schema::first_form()).unwrap();
    old.execute_batch(
        "PRAGMA user_version = 1; INSERT INTO ca VALUES (1, 7, 1, 0, 0);
         INSERT INTO certificate (serial, kind, key_id, principals, fingerprint, valid_after, valid_before, asked, source, authenticated, rule, state)
         VALUES (7696581394433, 'user', 'alice', 'alice', 'SHA256:x', 1, 2000000000, 1, '192.0.2.1', 'pam', 'staff', 'delivered');",
    )
    .unwrap();
    drop(old);
    Mark { epoch: 7, counter: 1, ..Mark::default() }.write(&dir.path().join("serials")).unwrap();
    let mut inventory = open(&path).unwrap();
    let rows = inventory.list(u64::MAX, 10).unwrap();
    assert_eq!((rows.len(), rows[0].serial, rows[0].key_id.as_str()), (1, 7_696_581_394_433, "alice"));
    assert_eq!(inventory.count_good("alice", NOW).unwrap(), 1);
    assert_eq!(reserve(&mut inventory), 7_696_581_394_434);
}

/// Form 7: the last one that knew nothing of break-glass.
#[test]
fn a_database_from_before_break_glass_keeps_its_hosts_and_takes_uses() {
    let (dir, mut inventory) = new();
    inventory
        .connection
        .execute_batch("DROP TABLE break_glass; INSERT INTO host (name, enrolled, enrolled_by) VALUES ('web1', 1, 'admin'); PRAGMA user_version = 7;")
        .unwrap();
    let serial = reserve(&mut inventory);
    drop(inventory);
    let mut inventory = open(&dir.path().join("inventory.db")).unwrap();
    assert_eq!(schema::version(&inventory.connection).unwrap(), schema::FORM);
    assert_eq!(inventory.list(u64::MAX, 10).unwrap()[0].serial, serial);
    let text = r#"{"version":1,"id":"b-1-2","user":"root","from":"","key_id":"alice","serial":"7","key":"k","ca":"c","opened":5}"#;
    let note = Note::parse(text.as_bytes()).unwrap();
    assert_eq!(inventory.add_break_glass("web1", std::slice::from_ref(&note), NOW).unwrap(), [&note]);
    assert_eq!(inventory.add_break_glass("web1", std::slice::from_ref(&note), NOW).unwrap(), [&note; 0]);
    assert_eq!(inventory.host("web1").unwrap().unwrap().break_glass.len(), 1);
}

#[test]
fn counts_the_certificates_of_a_user_that_may_still_be_used() {
    let (_dir, mut inventory) = new();
    let later = UnixTime(NOW.0 + 60);
    let [kept, revoked, unsigned] = [(); 3].map(|()| reserve(&mut inventory));
    inventory.mark_signed(kept, b"x").unwrap();
    inventory.revoke(&Revoke::Serial(revoked), NOW, "admin", "").unwrap();
    inventory.mark_unsigned(unsigned, "the key would not sign").unwrap();
    inventory.record_refusal(&asked(Kind::User, NOW.0), "no", true).unwrap();
    inventory.reserve(&asked(Kind::Host, NOW.0), &planned(NOW.0 + 60)).unwrap();
    // Reserved, and perhaps signed before a crash: it counts.
    reserve(&mut inventory);
    let count = |user: &str, now| inventory.count_good(user, now).unwrap();
    assert_eq!((count("alice", NOW), count("bob", NOW), count("alice", later)), (2, 0, 0));
}

#[test]
fn what_policy_was_asked_is_kept() {
    let (_dir, mut inventory) = new();
    let request = Request {
        groups: vec!["staff".into()],
        source: "192.0.2.1".parse().unwrap(),
        pam: true,
        publickey: false,
        mode: "inject".into(),
        key_kind: "ed25519".into(),
        wish: Wish { reason: "disk".into(), ..Wish::default() },
    };
    let asked = Asked { reason: "disk".into(), request: Some(request.clone()), ..asked(Kind::User, NOW.0) };
    inventory.reserve(&asked, &planned(NOW.0 + 60)).unwrap();
    let sql = "SELECT request, reason FROM certificate";
    let (kept, reason): (Vec<u8>, String) =
        inventory.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(usshca_ipc::channel::decode::<Request>(&kept).unwrap(), request);
    assert_eq!(reason, "disk");
}

#[test]
fn a_lost_inventory_never_becomes_an_empty_one() {
    let (dir, mut inventory) = new();
    let serial = reserve(&mut inventory);
    inventory.revoke(&Revoke::Serial(serial), NOW, "admin", "").unwrap();
    drop(inventory);
    let path = dir.path().join("inventory.db");
    let lost = |change: &dyn Fn()| {
        change();
        let before = std::fs::metadata(&path).map(|m| m.len()).ok();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, InventoryError::Lost { .. }), "{error}");
        assert!(error.to_string().contains("backup"), "{error}");
        assert_eq!(std::fs::metadata(&path).map(|m| m.len()).ok(), before);
    };
    // Nor does making one write over another.
    assert!(Inventory::create(&path).is_err());
    assert_eq!(serials(&open(&path).unwrap(), Kind::User, NOW), [serial]);
    let whole = std::fs::read(&path).unwrap();
    lost(&|| std::fs::write(&path, "").unwrap());
    lost(&|| std::fs::remove_file(&path).unwrap());
    // A database without any form yet.
    lost(&|| {
        rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    });
    std::fs::write(&path, whole).unwrap();
    assert!(open(&path).is_ok());
}

#[test]
fn refuses_a_database_that_is_damaged_inside() {
    let (dir, mut inventory) = new();
    for _ in 0..50 {
        reserve(&mut inventory);
    }
    drop(inventory);
    let path = dir.path().join("inventory.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let last_page = bytes.len() - 4096;
    bytes[last_page..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, InventoryError::File { .. } | InventoryError::Database(_)), "{error}");
}

/// The database as a backup keeps it, without its mark.
fn copy(dir: &tempfile::TempDir, inventory: Inventory) -> Vec<u8> {
    drop(inventory);
    std::fs::read(dir.path().join("inventory.db")).unwrap()
}

#[test]
fn an_older_database_put_back_gives_no_serial_twice_and_no_older_krl() {
    let (dir, mut inventory) = new();
    let path = dir.path().join("inventory.db");
    let first = reserve(&mut inventory);
    let backup = copy(&dir, inventory);
    let mut inventory = open(&path).unwrap();
    assert_eq!(reserve(&mut inventory), first + 1);
    let krl = inventory.next_krl_version(NOW).unwrap();
    drop(inventory);

    std::fs::write(&path, backup).unwrap();
    let mut inventory = open(&path).unwrap();
    let next = reserve(&mut inventory);
    assert_ne!(next >> 40, first >> 40);
    assert_eq!(next & 0xff_ffff_ffff, 1);
    assert_eq!(inventory.next_krl_version(UnixTime(NOW.0 - 1000)).unwrap(), krl + 1);
    drop(inventory);
    // Once: it is the newest from now on.
    assert_eq!(reserve(&mut open(&path).unwrap()), next + 1);
}

#[test]
fn a_database_that_lost_nothing_but_a_revocation_is_an_older_one_too() {
    let (dir, mut inventory) = new();
    let path = dir.path().join("inventory.db");
    let first = reserve(&mut inventory);
    let backup = copy(&dir, inventory);
    open(&path).unwrap().revoke(&Revoke::Serial(first), NOW, "admin", "").unwrap();
    std::fs::write(&path, backup).unwrap();
    assert_ne!(reserve(&mut open(&path).unwrap()) >> 40, first >> 40);
}

#[test]
fn a_damaged_mark_does_not_take_the_krl_version_with_it() {
    let (dir, mut inventory) = new();
    let first = reserve(&mut inventory);
    let krl = inventory.next_krl_version(NOW).unwrap();
    drop(inventory);
    let mark = dir.path().join("serials");
    let damaged = std::fs::read_to_string(&mark).unwrap().replace(&krl.to_string(), &i64::MAX.to_string());
    std::fs::write(&mark, damaged).unwrap();
    let mut inventory = open(&dir.path().join("inventory.db")).unwrap();
    // As without a mark: nothing says that this database is the newest.
    assert_ne!(reserve(&mut inventory) >> 40, first >> 40);
    assert_eq!(inventory.next_krl_version(NOW).unwrap(), krl + 1);
    assert_eq!(inventory.next_krl_version(UnixTime(NOW.0 + 100)).unwrap(), NOW.0 + 100);
}

#[test]
fn what_is_committed_when_the_mark_cannot_be_written_holds() {
    let (dir, mut inventory) = new();
    let serial = reserve(&mut inventory);
    let in_the_way = dir.path().join("serials.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let failed = inventory.revoke(&Revoke::Serial(serial), NOW, "admin", "");
    assert!(matches!(failed, Err(InventoryError::File { .. })), "{failed:?}");
    std::fs::remove_dir(in_the_way).unwrap();
    assert_eq!(inventory.revoke(&Revoke::Serial(serial), NOW, "admin", "").unwrap(), Revocation::Already);
    assert_eq!(serials(&inventory, Kind::User, NOW), [serial]);
}

#[test]
fn a_database_without_its_mark_gets_a_new_epoch() {
    let (dir, mut inventory) = new();
    let first = reserve(&mut inventory);
    drop(inventory);
    std::fs::remove_file(dir.path().join("serials")).unwrap();
    let mut inventory = open(&dir.path().join("inventory.db")).unwrap();
    assert_ne!(reserve(&mut inventory) >> 40, first >> 40);
}

/// Database and mark as a kill leaves them after some serials.
fn killed(count: u64) -> (tempfile::TempDir, u64) {
    let (dir, mut inventory) = new();
    let serials: Vec<u64> = (0..count).map(|_| reserve(&mut inventory)).collect();
    std::mem::forget(inventory);
    (dir, *serials.last().unwrap())
}

#[test]
fn after_a_kill_serials_go_on_above_the_block_in_the_same_epoch() {
    let (dir, last) = killed(3);
    let path = dir.path().join("inventory.db");
    let mut inventory = open(&path).unwrap();
    let next = reserve(&mut inventory);
    assert!(next > last && next >> 40 == last >> 40, "{last} {next}");
    assert_eq!(next, last - 3 + 1 + BLOCK.cast_unsigned() + 1, "one block");
    let lost = "SELECT count(*) FROM lost_serials";
    assert_eq!(inventory.connection.query_row(lost, [], |r| r.get::<_, i64>(0)).unwrap(), 0);
    drop(inventory);
    // One that ended by itself leaves no gap.
    assert_eq!(reserve(&mut open(&path).unwrap()), next + 1);
}

#[test]
fn a_kill_between_database_and_mark_changes_nothing() {
    let (dir, mut inventory) = new();
    let mark = std::fs::read(dir.path().join("serials")).unwrap();
    let first = reserve(&mut inventory);
    std::mem::forget(inventory);
    std::fs::write(dir.path().join("serials"), mark).unwrap();
    let mut inventory = open(&dir.path().join("inventory.db")).unwrap();
    assert_eq!(reserve(&mut inventory), first + 1);
}

/// A database put beside the mark of another one that was killed. In another folder: a process that is gone for this test alone holds its locks on.
fn put_back(killed: &tempfile::TempDir, database: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(killed.path().join("serials"), dir.path().join("serials")).unwrap();
    let path = dir.path().join("inventory.db");
    create_private(&path).unwrap();
    std::fs::write(&path, database).unwrap();
    (dir, path)
}

#[test]
fn a_copy_out_of_a_run_that_was_killed_gives_no_serial_twice() {
    let (dir, mut inventory) = new();
    let first = reserve(&mut inventory);
    let copied = dir.path().join("copy.db");
    inventory.connection.execute("VACUUM INTO ?1", [copied.to_str().unwrap()]).unwrap();
    let last = (0..10).map(|_| reserve(&mut inventory)).last().unwrap();
    std::mem::forget(inventory);
    let (_elsewhere, path) = put_back(&dir, &std::fs::read(&copied).unwrap());
    let next = reserve(&mut open(&path).unwrap());
    assert!(next > last && next >> 40 == first >> 40, "{last} {next}");
}

#[test]
fn a_database_of_another_run_beside_a_killed_one_is_an_older_one() {
    let (dir, mut inventory) = new();
    let path = dir.path().join("inventory.db");
    let first = reserve(&mut inventory);
    let backup = copy(&dir, inventory);
    let mut inventory = open(&path).unwrap();
    let last = reserve(&mut inventory);
    std::mem::forget(inventory);
    let (_elsewhere, path) = put_back(&dir, &backup);
    let mut inventory = open(&path).unwrap();
    assert_ne!(reserve(&mut inventory) >> 40, first >> 40);
    let sql = "SELECT first, last FROM lost_serials";
    let (from, to): (i64, i64) = inventory.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(from.cast_unsigned(), first + 1);
    assert!(to.cast_unsigned() >= last && to.cast_unsigned() >> 40 == first >> 40);
}

#[test]
fn a_database_that_is_not_opened_changes_no_mark() {
    let (dir, _) = killed(3);
    let path = dir.path().join("inventory.db");
    let mark = std::fs::read(dir.path().join("serials")).unwrap();
    std::fs::write(&path, "junk junk junk junk junk junk junk junk junk junk").unwrap();
    open(&path).unwrap_err();
    assert_eq!(std::fs::read(dir.path().join("serials")).unwrap(), mark);
}

#[test]
fn a_change_that_fails_takes_none_of_its_batch_with_it() {
    let (_dir, mut inventory) = new();
    let first = reserve(&mut inventory);
    let (signed, unknown, behind, second) = inventory
        .batch(|batch| {
            let signed = batch.mark_signed(first, b"blob");
            let unknown = batch.mark_signed(first + 9, b"blob");
            let behind = batch.reserve(&asked(Kind::User, NOW.0 - 1), &planned(NOW.0 + 60));
            (signed, unknown, behind, batch.reserve(&asked(Kind::User, NOW.0), &planned(NOW.0 + 60)))
        })
        .unwrap();
    assert!(signed.is_ok());
    assert!(matches!(unknown, Err(InventoryError::State { to: "signed", .. })));
    assert!(matches!(behind, Err(InventoryError::ClockBehind { .. })));
    assert_eq!(second.unwrap(), first + 1);
    let outcomes: Vec<_> = inventory.list(u64::MAX, 10).unwrap().into_iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, ["reserved", "signed"]);
}

#[test]
fn of_a_batch_that_is_given_up_nothing_is_left() {
    let (_dir, mut inventory) = new();
    let first = reserve(&mut inventory);
    let trigger = "CREATE TRIGGER full BEFORE UPDATE ON certificate BEGIN SELECT RAISE(ROLLBACK, 'disk full'); END";
    inventory.connection.execute_batch(trigger).unwrap();
    let given_up = inventory.batch(|batch| {
        batch.reserve(&asked(Kind::User, NOW.0), &planned(NOW.0 + 60)).unwrap();
        assert!(batch.mark_signed(first, b"blob").is_err());
        // It would be a transaction of its own.
        let after = batch.reserve(&asked(Kind::User, NOW.0), &planned(NOW.0 + 60));
        assert!(matches!(after, Err(InventoryError::GivenUp)), "{after:?}");
        let refusal = batch.record_refusal(&asked(Kind::User, NOW.0), "x", true);
        assert!(matches!(refusal, Err(InventoryError::GivenUp)), "{refusal:?}");
    });
    assert!(matches!(given_up, Err(InventoryError::GivenUp)), "{given_up:?}");
    assert_eq!(inventory.list(u64::MAX, 10).unwrap().len(), 1);
    inventory.connection.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(reserve(&mut inventory), first + 1);
}

#[test]
fn no_serial_is_given_whose_mark_cannot_be_written() {
    let (dir, mut inventory) = new();
    std::fs::create_dir(dir.path().join("serials.new")).unwrap();
    assert!(inventory.reserve(&asked(Kind::User, NOW.0), &planned(NOW.0 + 60)).is_err());
    assert!(inventory.next_krl_version(NOW).is_err());
}

/// Else the CA would publish what no host takes.
#[test]
fn after_a_clock_that_was_far_ahead_there_is_no_krl_until_the_documented_way_back_was_gone() {
    use ussh_core::clock::{Clock, SystemClock};
    let now = SystemClock.now();
    let (dir, mut inventory) = new();
    let path = dir.path().join("inventory.db");
    let ahead = |seconds: u64| UnixTime(now.0 + seconds);
    assert_eq!(inventory.next_krl_version(ahead(MAX_AHEAD - 1)).unwrap(), now.0 + MAX_AHEAD - 1);
    // As far ahead as hosts take it, and no further.
    assert_eq!(inventory.next_krl_version(now).unwrap(), now.0 + MAX_AHEAD);
    let error = inventory.next_krl_version(now).unwrap_err();
    assert!(
        matches!(error, InventoryError::KrlAhead { version, now: at } if version == now.0 + MAX_AHEAD && at == now)
    );
    assert!(error.to_string().contains("A clock that was far ahead"), "{error}");

    let far = now.0 + 1000 * 86_400;
    let lost = inventory.reserve(&asked(Kind::User, far), &planned(far + 60)).unwrap();
    inventory.next_krl_version(UnixTime(far)).unwrap();
    assert_eq!(inventory.latest().unwrap(), (far, far));
    drop(inventory);
    // A start alone is no way back.
    let mut inventory = Inventory::open(&path, now).unwrap();
    assert!(matches!(inventory.next_krl_version(now), Err(InventoryError::KrlAhead { .. })));
    let refused = inventory.reserve(&asked(Kind::User, now.0), &planned(now.0 + 60));
    assert!(matches!(refused, Err(InventoryError::ClockBehind { .. })), "{refused:?}");
    drop(inventory);

    let docs = include_str!("../../../../docs/operations.md");
    let (_, way_back) = docs.split_once("## A clock that was far ahead").unwrap();
    let statement = way_back.split('"').find(|text| text.starts_with("UPDATE ")).unwrap();
    Connection::open(&path).unwrap().execute_batch(statement).unwrap();
    let mut inventory = Inventory::open(&path, now).unwrap();
    let later = UnixTime(now.0 + 60);
    let serial = inventory.reserve(&asked(Kind::User, later.0), &planned(later.0 + 60)).unwrap();
    assert_ne!(serial >> 40, lost >> 40, "no serial comes twice");
    assert!(inventory.next_krl_version(later).unwrap() <= later.0 + 1);
    drop(inventory);
    let mut again = Inventory::open(&path, later).unwrap();
    assert_eq!(again.reserve(&asked(Kind::User, later.0), &planned(later.0 + 60)).unwrap(), serial + 1);
}
