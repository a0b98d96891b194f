//! Revocations of every scope, and what lifting one leaves.
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use ussh_core::clock::UnixTime;
use usshca_ipc::admin::{CertificateKind, Revoke};

use super::super::{Asked, Inventory, Kind, Planned};
use super::*;

const NOW: UnixTime = UnixTime(1_800_000_000);
const DAY: u64 = 86_400;

struct World {
    _dir: tempfile::TempDir,
    inventory: Inventory,
    now: UnixTime,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::create(&dir.path().join("inventory.db")).unwrap();
    World { _dir: dir, inventory, now: NOW }
}

impl World {
    fn issue(&mut self, kind: Kind, key_id: &str, fingerprint: &str, names: &[&str]) -> u64 {
        let asked = Asked {
            kind,
            key_id: key_id.into(),
            fingerprint: fingerprint.into(),
            asked: self.now,
            source: "192.0.2.1".into(),
            authenticated: "pam".into(),
            rule: "staff".into(),
            reason: String::new(),
            request: None,
        };
        let principals = names.iter().map(|&name| name.to_owned()).collect();
        let planned = Planned { principals, valid_after: self.now, valid_before: UnixTime(self.now.0 + DAY) };
        let serial = self.inventory.reserve(&asked, &planned).unwrap();
        self.inventory.mark_signed(serial, b"x").unwrap();
        serial
    }

    fn user(&mut self, name: &str) -> u64 {
        self.issue(Kind::User, name, "SHA256:k", &[name])
    }

    fn revoke(&mut self, what: &Revoke) -> Revocation {
        self.inventory.revoke(what, self.now, "admin", "why").unwrap()
    }

    /// Must be done; its number.
    fn done(&mut self, what: &Revoke, expected: u64) -> u64 {
        match self.revoke(what) {
            Revocation::Done { act, certificates, .. } if certificates == expected => act,
            other => panic!("{what:?}: {other:?}"),
        }
    }

    fn lift(&mut self, act: u64) -> Lifted {
        self.inventory.lift(act, self.now, "admin").unwrap()
    }

    /// Serials of the KRL of this moment.
    fn serials(&self, kind: Kind) -> Vec<u64> {
        let mut ranges = self.inventory.revoked(kind, self.now).unwrap().serials;
        ranges.sort_unstable();
        ranges.iter().flat_map(|(first, last)| *first..=*last).collect()
    }

    fn is_revoked(&self, serial: u64) -> bool {
        self.inventory.find(serial).unwrap().unwrap().entry.revoked.is_some()
    }
}

#[test]
fn a_user_loses_what_was_given_so_far_and_the_next_one_is_good() {
    let mut world = world();
    let (first, second, bobs) = (world.user("alice"), world.user("alice"), world.user("bob"));
    let act = world.done(&Revoke::User("alice".into()), 2);
    assert_eq!(world.serials(Kind::User), [first, second]);
    assert_eq!(world.revoke(&Revoke::User("alice".into())), Revocation::Already);
    assert_eq!(world.revoke(&Revoke::User("Alice".into())), Revocation::Unknown);
    let third = world.user("alice");
    assert!(!world.is_revoked(third) && !world.is_revoked(bobs));
    world.done(&Revoke::User("alice".into()), 3);
    // The first two are held twice, the third once.
    assert_eq!(world.lift(act), Lifted::Done { certificates: 0, held: 2 });
    assert_eq!(world.serials(Kind::User), [first, second, third]);
}

/// On leave (the key ID), then the laptop is stolen (the user, and one serial), then back from leave.
#[test]
fn what_another_revocation_holds_too_is_entered_and_outlives_it() {
    let mut world = world();
    let (first, second) = (world.user("alice"), world.user("alice"));
    let leave = world.done(&Revoke::KeyId { kind: CertificateKind::User, key_id: "alice".into() }, 2);
    let now = world.now;
    let stolen = world.inventory.revoke(&Revoke::User("alice".into()), now, "admin", "stolen").unwrap();
    assert_eq!(stolen, Revocation::Done { act: leave + 1, certificates: 2, held: 2 });
    assert_eq!(world.revoke(&Revoke::User("alice".into())), Revocation::Already);
    assert_eq!(world.revoke(&Revoke::Serial(first)), Revocation::Done { act: leave + 2, certificates: 1, held: 1 });
    assert_eq!(world.revoke(&Revoke::Serial(first)), Revocation::Already);
    assert_eq!(world.lift(leave), Lifted::Done { certificates: 0, held: 2 });
    assert_eq!(world.serials(Kind::User), [first, second]);
    let second_row = world.inventory.find(second).unwrap().unwrap();
    assert_eq!(second_row.revocation_reason.as_deref(), Some("stolen"));
    // One that was lifted holds nothing: the same is entered anew.
    assert_eq!(world.lift(leave + 1), Lifted::Done { certificates: 1, held: 1 });
    assert_eq!(
        world.revoke(&Revoke::User("alice".into())),
        Revocation::Done { act: leave + 3, certificates: 2, held: 1 }
    );
}

#[test]
fn what_is_over_is_not_revoked_again_and_falls_out_of_the_krl_after_its_margin() {
    let mut world = world();
    let old = world.user("alice");
    world.done(&Revoke::User("alice".into()), 1);
    world.now = UnixTime(NOW.0 + DAY + KRL_MARGIN - 1);
    assert_eq!(world.serials(Kind::User), [old]);
    world.now = UnixTime(NOW.0 + DAY + KRL_MARGIN);
    assert_eq!(world.serials(Kind::User), [] as [u64; 0]);
    assert_eq!(world.revoke(&Revoke::User("alice".into())), Revocation::Unknown);
    assert!(world.is_revoked(old), "the inventory remembers");
}

#[test]
fn a_host_is_known_by_any_of_its_names_and_by_no_part_of_one() {
    let mut world = world();
    let web = world.issue(Kind::Host, "web1", "SHA256:w", &["web1", "web1.example.com", "192.0.2.7"]);
    world.issue(Kind::Host, "web11", "SHA256:x", &["web11"]);
    world.user("web1");
    for name in ["example.com", "web", "192.0.2", "1\nweb11", ""] {
        assert_eq!(world.revoke(&Revoke::Host(name.into())), Revocation::Unknown, "{name:?}");
    }
    for name in ["web1", "web1.example.com", "192.0.2.7"] {
        let act = world.done(&Revoke::Host(name.into()), 1);
        assert_eq!((world.serials(Kind::Host), world.serials(Kind::User)), (vec![web], vec![]));
        assert_eq!(world.lift(act), Lifted::Done { certificates: 1, held: 0 });
    }
}

#[test]
fn keys_and_key_ids_are_revoked_whether_or_not_a_certificate_is_known() {
    let mut world = world();
    let mine = world.issue(Kind::User, "alice", "SHA256:a", &["alice"]);
    let key = Revoke::Key("SHA256:a".into());
    let key_act = world.done(&key, 1);
    assert_eq!(world.revoke(&key), Revocation::Already);
    let barred = Revoke::KeyId { kind: CertificateKind::User, key_id: "mallory".into() };
    let bar = world.done(&barred, 0);
    assert_eq!(world.revoke(&barred), Revocation::Already);
    world.done(&Revoke::KeyId { kind: CertificateKind::Host, key_id: "mallory".into() }, 0);
    assert_eq!(world.inventory.revoked_keys().unwrap(), ["SHA256:a"]);
    let users = world.inventory.revoked(Kind::User, world.now).unwrap();
    assert_eq!((users.serials, users.key_ids), (vec![(mine, mine)], vec!["mallory".to_owned()]));

    assert_eq!(world.lift(bar), Lifted::Done { certificates: 0, held: 0 });
    assert_eq!(world.lift(bar), Lifted::Already);
    assert_eq!(world.lift(key_act), Lifted::Done { certificates: 1, held: 0 });
    assert_eq!(world.lift(99), Lifted::Unknown);
    assert!(world.inventory.revoked_keys().unwrap().is_empty() && !world.is_revoked(mine));
    assert!(world.inventory.revoked(Kind::User, world.now).unwrap().key_ids.is_empty());
    // Lifted, it can be revoked anew.
    world.done(&key, 1);
}

#[test]
fn before_a_time_every_serial_is_revoked_that_was_given_until_then_known_or_not() {
    let mut world = world();
    let first = world.user("alice");
    // A row that is lost: its certificate may be about.
    let lost = world.user("bob");
    world.inventory.connection.execute("DELETE FROM certificate WHERE serial = ?1", [lost.cast_signed()]).unwrap();
    let last = world.user("carol");
    world.now = UnixTime(NOW.0 + 10);
    let after = world.user("dave");
    let before = Revoke::Before { kind: CertificateKind::User, time: NOW.0 + 10 };
    let act = world.done(&before, 2);
    let epoch = first >> COUNTER_BITS << COUNTER_BITS;
    let range = world.inventory.revoked(Kind::User, world.now).unwrap().serials;
    assert!(range.contains(&(epoch + 1, last)), "{range:?}");
    assert!(world.serials(Kind::User).contains(&lost) && !world.serials(Kind::User).contains(&after));
    assert!(world.serials(Kind::Host).is_empty());
    assert_eq!(world.revoke(&before), Revocation::Already);

    // Until the longest of them must be over, and no longer.
    world.now = UnixTime(NOW.0 + LONGEST_USER + KRL_MARGIN);
    assert!(world.serials(Kind::User).contains(&lost));
    world.now = UnixTime(NOW.0 + LONGEST_USER + KRL_MARGIN + 11);
    assert!(world.serials(Kind::User).is_empty());

    world.now = UnixTime(NOW.0 + 20);
    assert_eq!(world.lift(act), Lifted::Done { certificates: 2, held: 0 });
    assert!(world.serials(Kind::User).is_empty());
}

/// After a database was put back, serials go on in another epoch; one of the upper half is negative in SQLite.
#[test]
fn before_a_time_covers_every_epoch() {
    let mut world = world();
    let mut expected = Vec::new();
    for epoch in [3_i64, 0xff_fff0, 7] {
        world.inventory.connection.execute("UPDATE ca SET epoch = ?1, counter = 41", [epoch]).unwrap();
        let serial = world.user("alice");
        let start = epoch.cast_unsigned() << COUNTER_BITS;
        assert_eq!(serial, start + 42);
        expected.push((start + 1, serial));
    }
    world.now = UnixTime(NOW.0 + 1);
    world.done(&Revoke::Before { kind: CertificateKind::Host, time: NOW.0 + 1 }, 0);
    let mut ranges = world.inventory.revoked(Kind::Host, world.now).unwrap().serials;
    ranges.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ranges, expected);
}

#[test]
fn a_ca_is_revoked_by_its_key_with_all_that_it_signed() {
    let mut world = world();
    let (mine, host) = (world.user("alice"), world.issue(Kind::Host, "web1", "SHA256:w", &["web1"]));
    let act = world.done(&Revoke::Ca { kind: CertificateKind::User, fingerprint: "SHA256:ca".into() }, 1);
    assert_eq!(world.inventory.revoked_keys().unwrap(), ["SHA256:ca"]);
    assert!(world.is_revoked(mine) && !world.is_revoked(host));
    world.lift(act);
    assert!(world.inventory.revoked_keys().unwrap().is_empty() && !world.is_revoked(mine));
}

#[test]
fn acts_are_listed_newest_first_with_who_undid_them() {
    let mut world = world();
    let serial = world.user("alice");
    let first = world.done(&Revoke::Serial(serial), 1);
    world.user("alice");
    world.done(&Revoke::User("alice".into()), 2);
    world.now = UnixTime(NOW.0 + 5);
    world.inventory.lift(first, world.now, "admin uid 7").unwrap();
    let acts = world.inventory.revocations(u64::MAX, 10).unwrap();
    let seen: Vec<_> = acts.iter().map(|act| (act.scope.as_str(), act.value.clone(), act.certificates)).collect();
    assert_eq!(seen, [("user", "alice".to_owned(), 2), ("serial", serial.to_string(), 1)]);
    assert_eq!((acts[1].lifted, acts[1].lifted_by.as_deref()), (Some(NOW.0 + 5), Some("admin uid 7")));
    assert_eq!((acts[0].by.as_str(), acts[0].reason.as_str(), acts[0].lifted), ("admin", "why", None));
    assert_eq!(world.inventory.revocations(acts[0].id, 10).unwrap().len(), 1);
    assert_eq!(world.inventory.revocations(u64::MAX, 1).unwrap().len(), 1);
    assert!(world.is_revoked(serial), "the second one holds it");
}

#[test]
fn a_range_holds_serials_that_the_inventory_does_not_know_until_the_last_of_them_must_be_over() {
    let mut world = world();
    let known = world.user("alice");
    let host = world.issue(Kind::Host, "web1", "SHA256:w", &["web1"]);
    let later = world.user("bob");
    let act = world.done(&Revoke::Serials { first: known, last: host }, 2);
    assert!(world.is_revoked(known) && world.is_revoked(host) && !world.is_revoked(later));
    // Of another epoch: nothing of it stands here.
    let other = (known ^ (1 << 40)) & !0xff_ffff_ffff;
    let (first, last) = (other + 101, other + 4196);
    world.done(&Revoke::Serials { first, last }, 0);
    assert_eq!(world.revoke(&Revoke::Serials { first, last }), Revocation::Already);
    for kind in [Kind::User, Kind::Host] {
        let serials = world.inventory.revoked(kind, world.now).unwrap().serials;
        assert!(serials.contains(&(first, last)) && serials.contains(&(known, host)), "{serials:?}");
    }
    world.now = UnixTime(NOW.0 + LONGEST_HOST + KRL_MARGIN);
    assert!(world.inventory.revoked(Kind::User, world.now).unwrap().serials.is_empty());
    world.now = NOW;
    assert_eq!(world.lift(act), Lifted::Done { certificates: 2, held: 0 });
    assert!(!world.inventory.revoked(Kind::User, world.now).unwrap().serials.contains(&(known, host)));
}

#[test]
fn no_range_reaches_what_is_still_to_be_given() {
    let mut world = world();
    let last = world.user("alice");
    assert!(world.inventory.are_given(last, last).unwrap());
    assert!(!world.inventory.are_given(last, last + 1).unwrap());
    assert!(world.inventory.are_given(last + (1 << 40), last + (1 << 40) + 7).unwrap(), "another epoch");
}

#[test]
fn what_is_lost_is_named_until_it_is_revoked() {
    let mut world = world();
    let sql = "INSERT INTO lost_serials VALUES (1000, 2000, 5)";
    world.inventory.connection.execute(sql, []).unwrap();
    let open = |world: &World| world.inventory.lost_serials().unwrap().iter().filter(|lost| !lost.revoked).count();
    assert_eq!(open(&world), 1);
    world.done(&Revoke::Serials { first: 1001, last: 3000 }, 0);
    assert_eq!(open(&world), 1, "not all of it");
    let act = world.done(&Revoke::Serials { first: 900, last: 2000 }, 0);
    assert_eq!(open(&world), 0);
    world.lift(act);
    assert_eq!(open(&world), 1);
}
