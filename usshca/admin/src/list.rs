//! `usshca list` and `usshca show`.

use std::borrow::Cow;

use serde_json::{Value, json};
use ussh_core::escape::{MAX_FIELD, escape, escape_text};
use usshca_ipc::admin::{Entry, Reply, Request, Shown};

use super::time::utc;
use super::{Desk, Link, csv, print, table, too_many, unexpected};
use crate::cli::{ListArgs, RowId, ShowArgs};
use crate::failure::Failure;
use crate::json;

/// Rows asked for at a time.
const PAGE: u32 = 500;
/// Longest reason in bytes, escapes included: 256 as typed, each of them four.
const MAX_TEXT: usize = 1024;
/// Longest outcome in the table at a terminal, in characters; all of it is in `show`, in JSON and in a pipe.
const OUTCOME_WIDTH: usize = 40;
/// The one that may be long comes last, so that it makes no other line longer.
const HEAD: [&str; 9] = ["ID", "ASKED", "KEY ID", "PRINCIPALS", "VALID UNTIL", "FROM", "RULE", "REVOKED", "OUTCOME"];

/// Lists the inventory, newest first.
pub fn list(desk: &dyn Desk, args: &ListArgs) -> Result<(), Failure> {
    let entries = receive(desk, desk.link()?.as_ref(), args.limit.unwrap_or(u64::MAX))?;
    print(desk, &shown_as(&entries, Form::of(args.json, args.csv), desk.is_terminal()))
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Table,
    /// One object a line.
    Json,
    /// With a head line.
    Csv,
}

impl Form {
    /// By the options.
    pub fn of(json: bool, csv: bool) -> Self {
        match (json, csv) {
            (true, _) => Form::Json,
            (false, true) => Form::Csv,
            (false, false) => Form::Table,
        }
    }
}

/// Rows as text; what is cut for a terminal is whole for all else.
pub fn shown_as(entries: &[Entry], form: Form, for_terminal: bool) -> String {
    match form {
        Form::Json => entries.iter().map(|e| json::line(&to_json(e))).collect(),
        Form::Csv => csv::record(CSV_HEAD) + &entries.iter().map(to_csv).collect::<String>(),
        Form::Table => {
            let width = if for_terminal { OUTCOME_WIDTH } else { usize::MAX };
            table::render(&HEAD, &entries.iter().map(|entry| to_row(entry, width)).collect::<Vec<_>>())
        }
    }
}

fn receive(desk: &dyn Desk, link: &dyn Link, limit: u64) -> Result<Vec<Entry>, Failure> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut before = u64::MAX;
    loop {
        let left = limit.saturating_sub(entries.len() as u64);
        if left == 0 {
            return Ok(entries);
        }
        let limit = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let Reply::List(rows) = link.ask(&Request::List { before, limit })? else {
            return Err(unexpected());
        };
        match rows.last() {
            // Rows only go down: or this would never end.
            Some(last) if last.row < before => before = last.row,
            _ => return Ok(entries),
        }
        entries.extend(rows);
        if entries.len() as u64 > desk.most_rows() {
            return Err(too_many(desk));
        }
    }
}

/// Shows all that is known of one certificate.
pub fn show(desk: &dyn Desk, args: &ShowArgs) -> Result<(), Failure> {
    let request = match args.id {
        RowId::Serial(serial) => Request::Show { serial },
        RowId::Row(row) => Request::ShowRow { row },
    };
    let Reply::Shown(shown) = desk.link()?.ask(&request)? else {
        return Err(unexpected());
    };
    print(desk, &if args.json { json::line(&shown_json(&shown)) } else { shown_text(&shown) })
}

fn shown_text(shown: &Shown) -> String {
    let entry = &shown.entry;
    let is_refusal = entry.serial == 0;
    let of_certificate = |value: String| if is_refusal { "-".to_owned() } else { value };
    let mut lines = vec![
        (if is_refusal { "id" } else { "serial" }, id(entry)),
        ("kind", plain(&entry.kind)),
        ("key ID", plain(&entry.key_id)),
        ("principals", of_certificate(principals(entry))),
        ("key", dash_if_empty(plain(&entry.fingerprint))),
        ("valid from", of_certificate(utc(entry.valid_after))),
        ("valid until", of_certificate(utc(entry.valid_before))),
        ("asked", utc(entry.asked)),
        ("from", plain(&entry.from)),
        ("authenticated", plain(&entry.authenticated)),
        ("rule", plain(&entry.rule)),
        ("outcome", plain(&entry.outcome)),
    ];
    if entry.count > 1 {
        lines.push(("times", format!("{}, the last one {}", entry.count, utc(entry.last))));
    }
    if !entry.reason.is_empty() {
        lines.push(("reason", escape_text(&entry.reason, MAX_TEXT)));
    }
    if let Some(revoked) = entry.revoked {
        let by = plain(shown.revoked_by.as_deref().unwrap_or_default());
        let why = escape_text(shown.revocation_reason.as_deref().unwrap_or_default(), MAX_TEXT);
        lines.push((
            "revoked",
            format!("{} by {by}{}", utc(revoked), if why.is_empty() { why } else { format!(": {why}") }),
        ));
    }
    if let Some(certificate) = &shown.certificate {
        lines.push(("certificate", plain_long(certificate)));
    }
    lines.into_iter().map(|(name, value)| format!("{name:14} {value}").trim_end().to_owned() + "\n").collect()
}

fn shown_json(shown: &Shown) -> Value {
    let mut value = to_json(&shown.entry);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("certificate".to_owned(), json!(shown.certificate));
        fields.insert("revoked_by".to_owned(), json!(shown.revoked_by));
        fields.insert("revocation_reason".to_owned(), json!(shown.revocation_reason));
    }
    value
}

/// Times are seconds since the epoch; the serial is a string, since JSON's numbers lose digits above 2^53 in many readers.
fn to_json(entry: &Entry) -> Value {
    json!({
        "id": id(entry),
        "row": entry.row,
        "serial": entry.serial.to_string(),
        "kind": entry.kind,
        "key_id": entry.key_id,
        "principals": entry.principals,
        "fingerprint": entry.fingerprint,
        "valid_after": entry.valid_after,
        "valid_before": entry.valid_before,
        "asked": entry.asked,
        "from": entry.from,
        "authenticated": entry.authenticated,
        "rule": entry.rule,
        "outcome": entry.outcome,
        "revoked": entry.revoked,
        "reason": entry.reason,
        "count": entry.count,
        "last": entry.last,
    })
}

/// JSON's names and values; what is not there is empty.
const CSV_HEAD: [&str; 18] = [
    "id",
    "row",
    "serial",
    "kind",
    "key_id",
    "principals",
    "fingerprint",
    "valid_after",
    "valid_before",
    "asked",
    "from",
    "authenticated",
    "rule",
    "outcome",
    "revoked",
    "reason",
    "count",
    "last",
];

fn to_csv(entry: &Entry) -> String {
    let principals = entry.principals.join(" ");
    let numbers =
        [entry.row, entry.serial, entry.valid_after, entry.valid_before, entry.asked, entry.count, entry.last];
    let numbers = numbers.map(|n| n.to_string());
    let [row, serial, valid_after, valid_before, asked, count, last] = numbers.each_ref().map(String::as_str);
    let revoked = entry.revoked.map(|time| time.to_string()).unwrap_or_default();
    csv::record([
        &id(entry),
        row,
        serial,
        &entry.kind,
        &no_formula(&entry.key_id),
        &principals,
        &entry.fingerprint,
        valid_after,
        valid_before,
        asked,
        &entry.from,
        &entry.authenticated,
        &entry.rule,
        &entry.outcome,
        &revoked,
        &no_formula(&entry.reason),
        count,
        last,
    ])
}

/// Others choose this text, a name that is tried at the login among them, and a spreadsheet would compute one that begins so.
fn no_formula(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}").into() } else { text.into() }
}

/// What `usshca show` takes: the serial, or `r` and the number of the row where there is none.
fn id(entry: &Entry) -> String {
    if entry.serial == 0 { format!("r{}", entry.row) } else { entry.serial.to_string() }
}

/// A refusal has neither serial nor validity.
fn to_row(entry: &Entry, outcome_width: usize) -> Vec<String> {
    let of_certificate = |value: String| if entry.serial == 0 { "-".to_owned() } else { value };
    vec![
        id(entry),
        utc(entry.asked),
        plain(&entry.key_id),
        of_certificate(principals(entry)),
        of_certificate(utc(entry.valid_before)),
        plain(&entry.from),
        dash_if_empty(plain(&entry.rule)),
        entry.revoked.map_or_else(|| "-".to_owned(), utc),
        match entry.count {
            0 | 1 => shorten(plain(&entry.outcome), outcome_width),
            // The count is never cut off.
            count => format!("{} ({count} times)", shorten(plain(&entry.outcome), outcome_width)),
        },
    ]
}

fn principals(entry: &Entry) -> String {
    plain(&entry.principals.join(","))
}

/// At most so many characters, the last one a sign that there are more.
fn shorten(text: String, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        None => text,
    }
}

fn dash_if_empty(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// What others chose must not steer the terminal.
fn plain(text: &str) -> String {
    escape(text.as_bytes(), MAX_FIELD)
}

fn plain_long(text: &str) -> String {
    escape(text.as_bytes(), usize::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn entry() -> Entry {
        Entry {
            row: 3,
            serial: u64::MAX,
            kind: "user".into(),
            key_id: "alice\x1b[2J".into(),
            principals: vec!["alice".into(), "web".into()],
            fingerprint: "SHA256:x".into(),
            valid_after: 1,
            valid_before: 1_769_860_800,
            asked: 1,
            from: "192.0.2.1".into(),
            authenticated: "pam".into(),
            rule: "staff".into(),
            outcome: "delivered".into(),
            revoked: None,
            reason: "ticket \\x5c 7".into(),
            count: 1,
            last: 1,
        }
    }

    #[test]
    fn a_row_reads_as_it_is_and_steers_no_terminal() {
        let expected = [
            "18446744073709551615",
            "1970-01-01T00:00:01Z",
            "alice\\x1b[2J",
            "alice,web",
            "2026-01-31T12:00:00Z",
            "192.0.2.1",
            "staff",
            "-",
            "delivered",
        ];
        assert_eq!(to_row(&entry(), OUTCOME_WIDTH), expected);
        let revoked = Entry { revoked: Some(0), ..entry() };
        assert_eq!(to_row(&revoked, OUTCOME_WIDTH)[7], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_refusal_shows_the_number_of_its_row_and_no_validity() {
        let refusal = Entry {
            serial: 0,
            principals: vec![],
            valid_before: 0,
            rule: String::new(),
            outcome: "refused: no rule of the policy matches".into(),
            ..entry()
        };
        assert_eq!(
            to_row(&refusal, OUTCOME_WIDTH),
            [
                "r3",
                "1970-01-01T00:00:01Z",
                "alice\\x1b[2J",
                "-",
                "-",
                "192.0.2.1",
                "-",
                "-",
                "refused: no rule of the policy matches"
            ]
        );
    }

    #[test]
    fn a_long_outcome_is_cut_at_a_terminal_alone() {
        let long = Entry { outcome: format!("undelivered: {}", "x".repeat(100)), ..entry() };
        assert_eq!(to_row(&long, OUTCOME_WIDTH)[8], format!("undelivered: {}…", "x".repeat(26)));
        let piped = shown_as(std::slice::from_ref(&long), Form::Table, false);
        assert!(piped.contains(&"x".repeat(100)) && !piped.contains('…'), "{piped}");
        assert!(shown_as(std::slice::from_ref(&long), Form::Table, true).contains('…'));
        assert_eq!(to_json(&long)["outcome"].as_str().unwrap().len(), 113);
        let fits = Entry { outcome: "x".repeat(40), ..entry() };
        assert_eq!(to_row(&fits, OUTCOME_WIDTH)[8], "x".repeat(40));
        // Nobody else's line is longer for it.
        let both = shown_as(&[long, entry()], Form::Table, false);
        let lines: Vec<&str> = both.lines().collect();
        assert!(lines[2].ends_with("  -        delivered") && lines[2].len() < 140, "{both}");
    }

    #[test]
    fn what_was_refused_often_says_how_often() {
        let often =
            Entry { serial: 0, count: 7, last: 61, outcome: "refused: PAM: authentication failed".into(), ..entry() };
        assert_eq!(to_row(&often, OUTCOME_WIDTH)[8], "refused: PAM: authentication failed (7 times)");
        let shown = Shown { entry: often, certificate: None, revoked_by: None, revocation_reason: None };
        let text = shown_text(&shown);
        assert!(text.starts_with("id             r3\n"), "{text}");
        assert!(text.contains("times          7, the last one 1970-01-01T00:01:01Z\n"), "{text}");
        assert!(text.contains("valid until    -\n"), "{text}");
        let json = shown_json(&shown);
        assert_eq!((&json["id"], &json["count"], &json["last"]), (&json!("r3"), &json!(7), &json!(61)));
    }

    #[test]
    fn json_keeps_every_digit_of_a_serial() {
        let value = to_json(&entry());
        assert_eq!(value["serial"], "18446744073709551615");
        assert_eq!(value["key_id"], "alice\u{1b}[2J");
        assert_eq!(value["revoked"], Value::Null);
    }

    #[test]
    fn csv_has_a_column_for_each_name_of_json() {
        let text = shown_as(&[Entry { revoked: Some(7), rule: "a,b".into(), ..entry() }], Form::Csv, true);
        let (head, row) = text.split_once("\r\n").unwrap();
        let names: Vec<&str> = head.split(',').collect();
        let value = to_json(&entry());
        assert_eq!(names.len(), value.as_object().unwrap().len());
        assert!(names.iter().all(|name| value.get(name).is_some()), "{head}");
        assert_eq!(
            row.trim_end(),
            "18446744073709551615,3,18446744073709551615,user,alice\\x1b[2J,alice web,SHA256:x,1,1769860800,1,192.0.2.1,pam,\"a,b\",delivered,7,ticket \\x5c 7,1,1"
        );
    }

    #[test]
    fn the_reason_that_a_user_gave_is_shown_as_it_was_recorded_and_computes_nothing() {
        let shown = |reason: &str| Shown {
            entry: Entry { reason: reason.into(), ..entry() },
            certificate: None,
            revoked_by: None,
            revocation_reason: None,
        };
        let typed = "über \\ 7\x1b\u{202e}";
        assert!(shown_text(&shown(typed)).ends_with("reason         über \\x5c 7\\x1b\\xe2\\x80\\xae\n"));
        assert_eq!(shown_json(&shown(typed))["reason"], typed);
        let row = shown("a\u{9b}2J\u{202e}\u{feff}").entry;
        for form in [Form::Json, Form::Csv, Form::Table] {
            let out = shown_as(std::slice::from_ref(&row), form, false);
            assert!(out.chars().all(|c| matches!(c, ' '..='~' | '\r' | '\n')), "{form:?}: {out:?}");
            let read = |line: &str| serde_json::from_str::<Value>(line).unwrap()["reason"].clone();
            assert!(form != Form::Json || read(&out) == json!(row.reason), "{out}");
        }
        assert!(to_csv(&shown("über").entry).ends_with(",über,1,1\r\n"));
        assert!(!shown_text(&shown("")).contains("reason"));
        assert_eq!(shown_json(&shown("=1+1"))["reason"], "=1+1");
        assert!(to_csv(&shown("=1+1").entry).ends_with(",'=1+1,1,1\r\n"));
        let tried = Entry { key_id: "=HYPERLINK(1)".into(), ..entry() };
        assert!(to_csv(&tried).contains(",'=HYPERLINK(1),"), "{}", to_csv(&tried));
    }

    #[test]
    fn show_tells_who_revoked_and_why() {
        let shown = Shown {
            entry: Entry { revoked: Some(0), ..entry() },
            certificate: Some("ssh-ed25519-cert-v01@openssh.com AAAA".into()),
            revoked_by: Some("admin uid 0".into()),
            revocation_reason: Some("laptop lost".into()),
        };
        let text = shown_text(&shown);
        assert!(text.contains("revoked        1970-01-01T00:00:00Z by admin uid 0: laptop lost\n"), "{text}");
        assert!(text.contains("certificate    ssh-ed25519-cert-v01@openssh.com AAAA\n"), "{text}");
        assert_eq!(shown_json(&shown)["revocation_reason"], "laptop lost");
    }
}
