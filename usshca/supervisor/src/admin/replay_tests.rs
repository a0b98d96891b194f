#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use usshca_ipc::admin::{Entry, Grant, Supposed};
use usshca_ipc::front::Wish;

use super::*;

fn recorded() -> Recorded {
    let entry = Entry {
        row: 3,
        serial: 7,
        kind: "user".into(),
        key_id: "alice".into(),
        principals: vec!["alice".into(), "web".into()],
        fingerprint: "SHA256:x".into(),
        valid_after: 970,
        valid_before: 4600,
        asked: 1000,
        from: "192.0.2.1".into(),
        authenticated: "pam".into(),
        rule: "staff".into(),
        outcome: "delivered".into(),
        revoked: None,
        reason: String::new(),
        count: 1,
        last: 1,
    };
    let supposed = Supposed {
        user: "alice".into(),
        groups: vec![],
        source: "192.0.2.1".parse().unwrap(),
        time: Some(1000),
        authentication: "pam".into(),
        mode: "inject".into(),
        key_type: "ed25519".into(),
        wish: Wish::default(),
        reason_if_demanded: false,
    };
    let extensions = Some(vec!["permit-port-forwarding".into(), "permit-pty".into()]);
    Recorded { entry, supposed, granted: true, critical_options: Some(vec![]), extensions }
}

fn grant() -> Grant {
    Grant {
        key_id: "alice".into(),
        principals: vec!["alice".into(), "web".into()],
        valid_after: 970,
        valid_before: 4600,
        critical_options: vec![],
        extensions: vec!["permit-pty".into(), "permit-port-forwarding".into()],
        in_agent: None,
        max_certificates: None,
    }
}

fn judged(rule: &str, decision: Result<Grant, String>) -> Explained {
    Explained { passed_over: vec![], rule: rule.into(), supposed: recorded().supposed, takes: None, decision }
}

#[test]
fn the_same_decision_is_no_change_and_each_part_of_it_is_one() {
    let same = judged("staff", Ok(grant()));
    assert!(differences(&recorded(), &same).is_empty());
    for (change, expected) in [
        (judged("other", Ok(grant())), &["rule"][..]),
        (judged("staff", Err("the rule denies".into())), &["decision"]),
        (judged("staff", Ok(Grant { principals: vec!["alice".into()], ..grant() })), &["principals"]),
        (judged("staff", Ok(Grant { valid_before: 4599, ..grant() })), &["validity"]),
        (judged("staff", Ok(Grant { valid_after: 1000, ..grant() })), &["validity"]),
        (judged("staff", Ok(Grant { extensions: vec![], ..grant() })), &["extensions"]),
        (
            judged("staff", Ok(Grant { critical_options: vec![("force-command".into(), "id".into())], ..grant() })),
            &["critical options"],
        ),
    ] {
        assert_eq!(differences(&recorded(), &change), expected);
    }
}

#[test]
fn what_policy_granted_and_something_else_refused_is_no_change() {
    let mut too_many = recorded();
    too_many.entry.serial = 0;
    too_many.entry.outcome = "refused: the user has 1 certificates that are good".into();
    assert!(differences(&too_many, &judged("staff", Ok(grant()))).is_empty());
    assert_eq!(differences(&too_many, &judged("staff", Err("no".into()))), ["decision"]);
}

#[test]
fn a_line_says_what_was_and_what_would_be() {
    let shown = |judged: Explained| {
        let recorded = recorded();
        let what = differences(&recorded, &judged);
        let row = to_row(&Change { recorded, judged, what });
        (row[4].clone(), row[5].clone())
    };
    let (was, would) = shown(judged("new", Ok(Grant { valid_before: 1600, ..grant() })));
    assert_eq!(was, "\"staff\": validity 1h (and 30s before)");
    assert_eq!(would, "\"new\": validity 10m (and 30s before)");
    let (was, would) = shown(judged("", Err("no rule of the policy matches".into())));
    assert_eq!(was, "\"staff\": a certificate");
    assert_eq!(would, "no rule: refused: no rule of the policy matches");
}

#[test]
fn a_period_reads_as_people_write_it() {
    for (seconds, text) in [(604_800, "7 days"), (86_400, "day"), (5_400, "1h 30m"), (90_000, "1day 1h")] {
        assert_eq!(period(seconds), text);
    }
}
