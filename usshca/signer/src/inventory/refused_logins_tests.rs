#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use usshca_ipc::admin::{Cursor, Entry, Find};

use super::*;
use crate::inventory::{Asked, Kind, Planned};

const NOW: u64 = 1_800_000_000;

fn inventory() -> (tempfile::TempDir, Inventory) {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::create(&dir.path().join("inventory.db")).unwrap();
    (dir, inventory)
}

/// By somebody who had logged in with a registered key.
fn certificate(inventory: &mut Inventory, authenticated: &str) -> u64 {
    let asked = Asked {
        kind: Kind::User,
        key_id: "alice".into(),
        fingerprint: "SHA256:x".into(),
        asked: UnixTime(NOW),
        source: "192.0.2.1".into(),
        authenticated: authenticated.into(),
        rule: "staff".into(),
        reason: String::new(),
        request: None,
    };
    let planned =
        Planned { principals: vec!["alice".into()], valid_after: asked.asked, valid_before: UnixTime(NOW + 60) };
    inventory.reserve(&asked, &planned).unwrap()
}

fn login(user: &str, source: &str) -> RefusedLogin {
    RefusedLogin {
        user: user.to_owned(),
        source: source.to_owned(),
        network: source.to_owned(),
        authenticated: "none (tried pam)".to_owned(),
        fingerprint: String::new(),
        reason: "PAM: authentication failed",
        typed: String::new(),
    }
}

fn once(time: u64) -> Tally {
    Tally { first: UnixTime(time), last: UnixTime(time), count: 1 }
}

fn rows(inventory: &Inventory) -> Vec<Entry> {
    inventory.list(u64::MAX, 100_000).unwrap()
}

#[test]
fn the_same_within_the_window_is_one_row_with_a_count() {
    let (_dir, mut inventory) = inventory();
    let login = login("alice", "192.0.2.1");
    let note = |inventory: &mut Inventory, login: &RefusedLogin, tally: Tally| {
        inventory.record_refused_logins([(login, &tally)]).unwrap();
    };
    note(&mut inventory, &login, Tally { first: UnixTime(NOW), last: UnixTime(NOW + 2), count: 3 });
    note(&mut inventory, &login, once(NOW + WINDOW_SECONDS - 1));
    let [row] = rows(&inventory).try_into().unwrap();
    assert_eq!((row.count, row.asked, row.last), (4, NOW, NOW + WINDOW_SECONDS - 1));
    assert_eq!((row.serial, row.key_id.as_str(), row.from.as_str()), (0, "alice", "192.0.2.1"));
    assert_eq!(row.outcome, "refused: PAM: authentication failed");
    // Whatever is not the same, and what comes later, is another one.
    note(&mut inventory, &login, once(NOW + WINDOW_SECONDS));
    for other in [
        RefusedLogin { user: "bob".into(), ..login.clone() },
        RefusedLogin { source: "192.0.2.2".into(), network: "192.0.2.2".into(), ..login.clone() },
        RefusedLogin { reason: "PAM: unknown user", ..login.clone() },
        RefusedLogin { authenticated: "none (tried publickey)".into(), ..login.clone() },
        RefusedLogin { fingerprint: "SHA256:y".into(), ..login.clone() },
    ] {
        note(&mut inventory, &other, once(NOW));
    }
    assert_eq!(rows(&inventory).len(), 7);
}

#[test]
fn one_network_drops_its_own_oldest_and_nobody_elses() {
    let (_dir, mut inventory) = inventory();
    let serial = certificate(&mut inventory, "pam");
    let of_another = login("mallory", "198.51.100.7");
    let flood: Vec<_> = (0..MAX_OF_NETWORK + 50).map(|n| login(&format!("name{n}"), "192.0.2.1")).collect();
    let tally = once(NOW);
    inventory.record_refused_logins([(&of_another, &tally)]).unwrap();
    inventory.record_refused_logins(flood.iter().map(|login| (login, &tally))).unwrap();
    let rows = rows(&inventory);
    let of = |source: &str| rows.iter().filter(|row| row.from == source && row.serial == 0).count();
    assert_eq!((of("192.0.2.1"), of("198.51.100.7")), (usize::try_from(MAX_OF_NETWORK).unwrap(), 1));
    assert!(!rows.iter().any(|row| row.key_id == "name49") && rows.iter().any(|row| row.key_id == "name50"));
    assert!(rows.iter().any(|row| row.serial == serial));
}

#[test]
fn of_many_networks_the_oldest_are_dropped_and_never_a_certificate_or_its_refusal() {
    let (_dir, mut inventory) = inventory();
    let serial = certificate(&mut inventory, "pam");
    let asked = inventory.find(serial).unwrap().unwrap().entry;
    let refused = Asked {
        kind: Kind::User,
        key_id: asked.key_id,
        fingerprint: String::new(),
        asked: UnixTime(NOW),
        source: "192.0.2.1".into(),
        authenticated: "pam".into(),
        rule: String::new(),
        reason: String::new(),
        request: None,
    };
    inventory.record_refusal(&refused, "no rule of the policy matches", true).unwrap();
    let tally = once(NOW);
    let flood: Vec<_> =
        (0..MAX_ALL + 10).map(|n| login("root", &format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255))).collect();
    inventory.record_refused_logins(flood.iter().map(|login| (login, &tally))).unwrap();
    let rows = rows(&inventory);
    assert_eq!(rows.len(), usize::try_from(MAX_ALL).unwrap() + 2);
    assert!(rows.iter().any(|row| row.serial == serial));
    assert!(rows.iter().any(|row| row.outcome == "refused: no rule of the policy matches"));
    assert!(!rows.iter().any(|row| row.from == "10.0.0.9") && rows.iter().any(|row| row.from == "10.0.0.10"));
}

#[test]
fn a_users_own_list_does_not_name_what_others_tried() {
    let (_dir, mut inventory) = inventory();
    certificate(&mut inventory, "pam");
    inventory.record_refused_logins([(&login("alice", "192.0.2.66"), &once(NOW))]).unwrap();
    assert_eq!(inventory.of_user("alice", 10).unwrap().len(), 1);
    let all = Find { user: Some("alice".into()), ..Find::default() };
    assert_eq!(inventory.search(&all, Cursor::NEWEST, 10).unwrap().rows.len(), 2);
}

#[test]
fn a_key_finds_what_was_certified_and_who_logged_in_with_it() {
    let (_dir, mut inventory) = inventory();
    let fingerprint = format!("SHA256:{}", "k".repeat(43));
    let by_key = certificate(&mut inventory, &format!("publickey+pam {fingerprint}"));
    certificate(&mut inventory, "pam");
    let tried = RefusedLogin { fingerprint: fingerprint.clone(), ..login("alice", "192.0.2.1") };
    inventory.record_refused_logins([(&tried, &once(NOW))]).unwrap();
    let later = RefusedLogin {
        authenticated: format!("publickey {fingerprint} (tried client-key)"),
        ..login("alice", "192.0.2.1")
    };
    inventory.record_refused_logins([(&later, &once(NOW))]).unwrap();
    let find = Find { key: Some(fingerprint), ..Find::default() };
    let rows = inventory.search(&find, Cursor::NEWEST, 10).unwrap().rows;
    assert_eq!(rows.iter().map(|row| row.serial).collect::<Vec<_>>(), [0, 0, by_key]);
    assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), [4, 3, 1]);
    assert_eq!(inventory.row(3).unwrap().unwrap().entry.row, 3);
    assert!(inventory.row(5).unwrap().is_none());
}

/// The longest name, the longest address of another network each, a key, and the most that is kept of a command.
#[test]
fn the_most_rows_take_what_is_documented() {
    let (_dir, mut inventory) = inventory();
    let flood: Vec<_> = (0..MAX_ALL)
        .map(|n| {
            let address = format!("2001:db8:{:04x}:{:04x}:ffff:ffff:ffff:ffff", n * 7919 % 65_536, n * 31 % 65_536);
            let name = format!("{:064}", n * 104_729 % 1_000_003);
            let typed = format!(": \"{n:040}\"");
            RefusedLogin { fingerprint: format!("SHA256:{n:043}"), typed, ..login(&name, &address) }
        })
        .collect();
    for (time, part) in flood.chunks(1000).enumerate() {
        let tally = once(NOW + u64::try_from(time).unwrap());
        inventory.record_refused_logins(part.iter().map(|login| (login, &tally))).unwrap();
    }
    assert_eq!(rows(&inventory).len(), usize::try_from(MAX_ALL).unwrap());
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let size: i64 = inventory.connection.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!((10_000_000..17_000_000).contains(&size), "{size}");
}
