#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use usshca_ipc::front::Wish;

use super::super::{Asked, Kind, Outcome, Planned};
use super::*;

const NOW: u64 = 1_800_000_000;

fn new() -> (tempfile::TempDir, Inventory) {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::create(&dir.path().join("inventory.db")).unwrap();
    (dir, inventory)
}

fn asked(kind: Kind, key_id: &str, source: &str, at: u64) -> Asked {
    let request = Request {
        groups: vec!["staff".into()],
        source: "192.0.2.1".parse().unwrap(),
        pam: true,
        publickey: false,
        mode: "inject".into(),
        key_kind: "ed25519".into(),
        wish: Wish::default(),
    };
    Asked {
        kind,
        key_id: key_id.into(),
        fingerprint: format!("SHA256:{key_id}"),
        asked: UnixTime(at),
        source: source.into(),
        authenticated: "pam".into(),
        rule: format!("rule {key_id}"),
        reason: String::new(),
        request: (kind == Kind::User).then_some(request),
    }
}

fn issue(inventory: &mut Inventory, kind: Kind, key_id: &str, source: &str, at: u64, names: &[&str]) -> u64 {
    let principals = names.iter().map(|&name| name.to_owned()).collect();
    let planned = Planned { principals, valid_after: UnixTime(at), valid_before: UnixTime(at + 60) };
    inventory.reserve(&asked(kind, key_id, source, at), &planned).unwrap()
}

/// All pages together.
fn found(inventory: &Inventory, find: &Find) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), Cursor::NEWEST);
    loop {
        let page = inventory.search(find, cursor, 2).unwrap();
        assert!(page.rows.len() <= 2);
        all.extend(page.rows.into_iter().map(|row| format!("{} {}", row.key_id, row.row)));
        match page.next {
            Some(next) => {
                assert!(next.before < cursor.before);
                cursor = next;
            }
            None => return all,
        }
    }
}

#[test]
fn each_condition_leaves_its_rows_and_all_of_them_together_leave_what_all_of_them_do() {
    let (_dir, mut inventory) = new();
    issue(&mut inventory, Kind::User, "alice", "192.0.2.1", NOW, &["alice", "web"]);
    issue(&mut inventory, Kind::User, "bob", "192.0.2.1", NOW + 10, &["bob"]);
    let third = issue(&mut inventory, Kind::User, "alice", "192.0.2.2", NOW + 20, &["alice"]);
    issue(&mut inventory, Kind::Host, "alice", "admin", NOW + 30, &["alice", "web.example.com"]);
    inventory.record_refusal(&asked(Kind::User, "mallory", "192.0.2.2", NOW + 40), "no", true).unwrap();
    inventory.mark_signed(third, b"x").unwrap();
    inventory.note_outcome(third, &Outcome::Delivered).unwrap();
    inventory.revoke(&usshca_ipc::admin::Revoke::User("bob".into()), UnixTime(NOW), "a", "").unwrap();
    let text = |text: &str| Some(text.to_owned());
    let any = Find::default;
    for (find, expected) in [
        (any(), &["mallory 5", "alice 4", "alice 3", "bob 2", "alice 1"][..]),
        (Find { user: text("alice"), ..any() }, &["alice 3", "alice 1"]),
        (Find { user: text("Alice"), ..any() }, &[]),
        (Find { key: text("SHA256:bob"), ..any() }, &["bob 2"]),
        (Find { serial: Some(third), ..any() }, &["alice 3"]),
        (Find { serial: Some(0), ..any() }, &[]),
        (Find { since: Some(NOW + 10), until: Some(NOW + 30), ..any() }, &["alice 3", "bob 2"]),
        (Find { since: Some(NOW + 40), ..any() }, &["mallory 5"]),
        (Find { until: Some(NOW), ..any() }, &[]),
        (Find { principal: text("alice"), ..any() }, &["alice 4", "alice 3", "alice 1"]),
        (Find { principal: text("web"), ..any() }, &["alice 1"]),
        (Find { principal: text("ali"), ..any() }, &[]),
        (Find { host: text("web.example.com"), ..any() }, &["alice 4"]),
        (Find { host: text("web"), ..any() }, &[]),
        (Find { from: text("192.0.2.2"), ..any() }, &["mallory 5", "alice 3"]),
        (Find { from: text("::ffff:192.0.2.2"), ..any() }, &["mallory 5", "alice 3"]),
        (Find { from: text("admin"), ..any() }, &["alice 4"]),
        (Find { state: text("refused"), ..any() }, &["mallory 5"]),
        (Find { state: text("delivered"), ..any() }, &["alice 3"]),
        (Find { state: text("reserved"), ..any() }, &["alice 4", "bob 2", "alice 1"]),
        (Find { state: text("revoked"), ..any() }, &["bob 2"]),
        (Find { rule: text("rule bob"), ..any() }, &["bob 2"]),
        (Find { user: text("alice"), from: text("192.0.2.1"), ..any() }, &["alice 1"]),
        (Find { user: text("alice"), since: Some(NOW + 1), state: text("delivered"), ..any() }, &["alice 3"]),
        (Find { user: text("alice"), rule: text("rule bob"), ..any() }, &[]),
    ] {
        assert_eq!(found(&inventory, &find), expected, "{find:?}");
    }
}

/// A clock that was behind left a refusal with an earlier time above later ones.
#[test]
fn a_period_finds_rows_that_are_not_in_the_order_of_their_times() {
    let (_dir, mut inventory) = new();
    issue(&mut inventory, Kind::User, "alice", "192.0.2.1", NOW, &["alice"]);
    inventory.record_refusal(&asked(Kind::User, "early", "192.0.2.2", NOW - 50), "the clock", false).unwrap();
    issue(&mut inventory, Kind::User, "bob", "192.0.2.1", NOW + 5, &["bob"]);
    let before = Find { until: Some(NOW), ..Find::default() };
    assert_eq!(found(&inventory, &before), ["early 2"]);
    let after = Find { since: Some(NOW), ..Find::default() };
    assert_eq!(found(&inventory, &after), ["bob 3", "alice 1"]);
}

#[test]
fn a_search_goes_on_behind_a_page_without_rows() {
    let (_dir, mut inventory) = new();
    issue(&mut inventory, Kind::User, "alice", "192.0.2.1", NOW, &["needle"]);
    // As many as several steps look at.
    let sql = "
        WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
        INSERT INTO certificate (row, serial, kind, key_id, principals, fingerprint, valid_after, valid_before, asked, source, authenticated, rule, state)
        SELECT n, 0, 'user', 'x', 'x', '', 0, 0, 5, '', '', '', 'refused' FROM n";
    inventory.connection.execute(sql, [STEP * 5]).unwrap();
    assert_eq!(found(&inventory, &Find { principal: Some("needle".into()), ..Find::default() }), ["alice 1"]);
    assert_eq!(found(&inventory, &Find { user: Some("alice".into()), ..Find::default() }), ["alice 1"]);
}

#[test]
fn recorded_requests_are_those_that_policy_was_asked() {
    let (_dir, mut inventory) = new();
    issue(&mut inventory, Kind::User, "alice", "192.0.2.1", NOW, &["alice"]);
    issue(&mut inventory, Kind::Host, "web1", "admin", NOW, &["web1"]);
    inventory.record_refusal(&asked(Kind::User, "bob", "192.0.2.2", NOW), "no rule", true).unwrap();
    inventory.record_refusal(&asked(Kind::User, "carol", "192.0.2.2", NOW), "too many", false).unwrap();
    let mut unasked = asked(Kind::User, "dora", "192.0.2.2", NOW);
    unasked.request = None;
    inventory.record_refusal(&unasked, "no key", false).unwrap();
    let seen = |since| {
        let page = inventory.recorded(since, Cursor::NEWEST, 10).unwrap();
        assert!(page.next.is_none());
        page.rows.into_iter().map(|row| (row.entry.key_id, row.granted)).collect::<Vec<_>>()
    };
    let expected = [("carol".to_owned(), true), ("bob".to_owned(), false), ("alice".to_owned(), true)];
    assert_eq!(seen(NOW), expected);
    assert!(seen(NOW + 1).is_empty());
}
