#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use usshca_ipc::admin::Revoke;

use super::*;
use ussh_core::keys::PrivateKey;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn key() -> PublicKey {
    PrivateKey::generate_ed25519().unwrap().public_key()
}

fn inventory() -> (tempfile::TempDir, Inventory) {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::create(&dir.path().join("inventory.db")).unwrap();
    (dir, inventory)
}

fn register(inventory: &mut Inventory, user: &str, key: &PublicKey) -> Registration {
    inventory.register_key(user, key, "comment", NOW, "admin uid 0").unwrap()
}

#[test]
fn a_key_is_of_one_user_until_it_is_removed() {
    let (_dir, mut inventory) = inventory();
    let key = key();
    assert_ne!(inventory.registered("alice", &key).unwrap(), Registered::Yes);
    assert_eq!(register(&mut inventory, "alice", &key), Registration::Done);
    assert_eq!(register(&mut inventory, "alice", &key), Registration::Already);
    assert_eq!(register(&mut inventory, "bob", &key), Registration::OfAnother("alice".into()));
    assert_eq!(inventory.registered("alice", &key).unwrap(), Registered::Yes);
    for other in ["bob", "Alice", "alice ", ""] {
        assert_ne!(inventory.registered(other, &key).unwrap(), Registered::Yes, "{other}");
    }
    assert_eq!(inventory.remove_key(&key.fingerprint(), NOW, "admin uid 0").unwrap(), Some("alice".into()));
    assert_eq!(inventory.remove_key(&key.fingerprint(), NOW, "admin uid 0").unwrap(), None);
    assert_ne!(inventory.registered("alice", &key).unwrap(), Registered::Yes);
    assert_eq!(register(&mut inventory, "bob", &key), Registration::Done);
}

#[test]
fn a_revoked_key_is_good_for_nothing_until_that_is_lifted() {
    let (_dir, mut inventory) = inventory();
    let (key, other) = (key(), key());
    register(&mut inventory, "alice", &key);
    register(&mut inventory, "alice", &other);
    inventory.revoke(&Revoke::Key(key.fingerprint()), NOW, "admin uid 0", "").unwrap();
    assert_ne!(inventory.registered("alice", &key).unwrap(), Registered::Yes);
    assert_eq!(inventory.registered("alice", &other).unwrap(), Registered::Yes);
    assert!(inventory.is_revoked_key(&key.fingerprint()).unwrap());
    let listed = inventory.registered_keys(Some("alice"), u64::MAX, 10).unwrap();
    assert_eq!(listed.iter().map(|k| k.revoked).collect::<Vec<_>>(), [false, true]);
    assert_eq!(register(&mut inventory, "alice", &key), Registration::Revoked);
    inventory.lift(1, NOW, "admin uid 0").unwrap();
    assert_eq!(inventory.registered("alice", &key).unwrap(), Registered::Yes);
}

#[test]
fn keys_are_listed_newest_first_by_user_and_in_pages() {
    let (_dir, mut inventory) = inventory();
    let keys = [key(), key(), key()];
    for (key, user) in keys.iter().zip(["alice", "bob", "alice"]) {
        register(&mut inventory, user, key);
    }
    let prints = |found: &[RegisteredKey]| found.iter().map(|k| k.fingerprint.clone()).collect::<Vec<_>>();
    let all = inventory.registered_keys(None, u64::MAX, 10).unwrap();
    assert_eq!(prints(&all), [2, 1, 0].map(|i: usize| keys[i].fingerprint()));
    assert_eq!(all[0].public_key, keys[2].to_openssh(""));
    let hers = inventory.registered_keys(Some("alice"), u64::MAX, 1).unwrap();
    assert_eq!(prints(&hers), [keys[2].fingerprint()]);
    let next = inventory.registered_keys(Some("alice"), hers[0].id, 10).unwrap();
    assert_eq!(prints(&next), [keys[0].fingerprint()]);
}

#[test]
fn a_database_from_before_a_removal_is_known_to_be_old() {
    let (dir, mut inventory) = inventory();
    let key = key();
    register(&mut inventory, "alice", &key);
    let acts = |inventory: &Inventory| -> i64 {
        inventory.connection.query_row("SELECT acts FROM ca", [], |row| row.get(0)).unwrap()
    };
    let before = acts(&inventory);
    inventory.remove_key(&key.fingerprint(), NOW, "admin uid 0").unwrap();
    assert_eq!(acts(&inventory), before + 1);
    drop(inventory);
    let again = Inventory::open(&dir.path().join("inventory.db"), NOW).unwrap();
    assert_ne!(again.registered("alice", &key).unwrap(), Registered::Yes);
}
