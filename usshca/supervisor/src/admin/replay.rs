//! `usshca replay`: recorded requests, judged by another policy.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::escape::{MAX_FIELD, escape};
use usshca_admin::desk::Link as _;
use usshca_admin::json;
use usshca_ipc::admin::{Cursor, Explained, Recorded, Reply, Request};
use usshca_ipc::layout::Layout;

use super::utc;
use super::{Link, print, table, unexpected};
use crate::cli::ReplayArgs;
use crate::config::MAX_FILE;
use crate::failure::Failure;
use crate::policy;
use crate::prepare::Base;
use crate::signer_process;

const HEAD: [&str; 6] = ["ROW", "ASKED", "USER", "FROM", "WAS", "WOULD BE"];

/// One request that the other policy decides otherwise.
struct Change {
    recorded: Recorded,
    judged: Explained,
    what: Vec<&'static str>,
}

/// Prints what would have been different, newest first. Nothing is exit status 0 too.
pub fn replay(layout: &Layout, args: &ReplayArgs) -> Result<(), Failure> {
    let policy = policy::read(&args.policy, read_text)?;
    let judge = signer_process::start_judge(&Base::load(layout)?, policy)?;
    let since = SystemClock.now().0.saturating_sub(args.since);
    let link = Link::open(layout)?;
    let (mut changes, mut count, mut cursor) = (Vec::new(), 0_u64, Cursor::NEWEST);
    loop {
        let Reply::Recorded { rows, next } = link.ask(&Request::Recorded { since, cursor })? else {
            return Err(unexpected());
        };
        for recorded in rows {
            count += 1;
            let judged = judge.judge(recorded.supposed.clone())?;
            let what = differences(&recorded, &judged);
            if !what.is_empty() {
                changes.push(Change { recorded, judged, what });
            }
        }
        match next {
            // It only goes down: or this would never end.
            Some(next) if next.before < cursor.before => cursor = next,
            _ => break,
        }
    }
    judge.finish();
    let period = period(args.since);
    print(&if args.json {
        let lines = changes.iter().map(|change| json::line(&to_json(change))).collect::<String>();
        lines + &json::line(&json!({ "judged": count, "changed": changes.len() }))
    } else {
        let rows: Vec<_> = changes.iter().map(to_row).collect();
        let listed = if rows.is_empty() { String::new() } else { table::render(&HEAD, &rows) };
        format!(
            "{listed}{count} requests of the last {period} judged, {} would have been decided otherwise\n",
            rows.len()
        )
    })
}

/// `7 days`, `1h 30m`.
fn period(seconds: u64) -> String {
    match (seconds / 86_400, seconds % 86_400) {
        (1, 0) => "day".to_owned(),
        (days, 0) => format!("{days} days"),
        _ => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

/// Whoever runs this may read the file; nothing is decided by it.
fn read_text(path: &Path) -> Result<String, Failure> {
    let usage = |problem: &dyn std::fmt::Display| Failure::usage(format!("{}: {problem}", path.display()));
    let metadata = path.metadata().map_err(|e| usage(&e))?;
    if !metadata.is_file() || usize::try_from(metadata.len()).map_or(true, |length| length > MAX_FILE) {
        return Err(usage(&format!("must be a file of at most {MAX_FILE} bytes")));
    }
    std::fs::read_to_string(path).map_err(|e| usage(&e))
}

/// In what a decision differs from the one that was made. What a certificate held is known if it was signed.
fn differences(recorded: &Recorded, judged: &Explained) -> Vec<&'static str> {
    let mut what = Vec::new();
    if recorded.entry.rule != judged.rule {
        what.push("rule");
    }
    let grant = match (&judged.decision, recorded.granted) {
        (Ok(grant), true) => grant,
        (Err(_), false) => return what,
        (Ok(_), false) | (Err(_), true) => {
            what.push("decision");
            return what;
        }
    };
    let entry = &recorded.entry;
    if entry.serial == 0 {
        // Policy said yes, and something else no: nothing is known of what it would have given.
        return what;
    }
    if entry.principals != grant.principals {
        what.push("principals");
    }
    if entry.valid_before != grant.valid_before || entry.valid_after != grant.valid_after {
        what.push("validity");
    }
    if recorded.critical_options.as_ref().is_some_and(|options| !same(options, &grant.critical_options)) {
        what.push("critical options");
    }
    if recorded.extensions.as_ref().is_some_and(|extensions| !same(extensions, &grant.extensions)) {
        what.push("extensions");
    }
    what
}

/// Whatever the order: a certificate holds them sorted.
fn same<T: Ord + Clone>(a: &[T], b: &[T]) -> bool {
    let sorted = |list: &[T]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    sorted(a) == sorted(b)
}

fn shown(text: &str) -> String {
    escape(text.as_bytes(), MAX_FIELD)
}

/// The rule, and what is different by it.
fn summary(change: &Change, rule: &str, refused: Option<&str>, certificate: &[(&'static str, String)]) -> String {
    let rule = if rule.is_empty() { "no rule".to_owned() } else { format!("\"{}\"", shown(rule)) };
    if let Some(why) = refused {
        return format!("{rule}: {}", shown(why));
    }
    let differs = certificate.iter().filter(|(name, _)| change.what.contains(name));
    let details: Vec<String> = differs.map(|(name, value)| format!("{name} {value}")).collect();
    if details.is_empty() { format!("{rule}: a certificate") } else { format!("{rule}: {}", details.join("; ")) }
}

fn to_row(change: &Change) -> Vec<String> {
    let Change { recorded: Recorded { entry, critical_options, extensions, granted, .. }, judged, .. } = change;
    let options = |options: &[(String, String)]| {
        let all: Vec<String> = options.iter().map(|(name, value)| shown(&format!("{name} {value}"))).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    };
    let names = |names: &[String]| if names.is_empty() { "none".to_owned() } else { shown(&names.join(",")) };
    let validity = |until: u64, from: u64| {
        let (after, before) = (until.saturating_sub(entry.asked), entry.asked.saturating_sub(from));
        let duration = |seconds| humantime::format_duration(Duration::from_secs(seconds));
        format!("{} (and {} before)", duration(after), duration(before))
    };
    let was = [
        ("principals", names(&entry.principals)),
        ("validity", validity(entry.valid_before, entry.valid_after)),
        ("critical options", options(critical_options.as_deref().unwrap_or_default())),
        ("extensions", names(extensions.as_deref().unwrap_or_default())),
    ];
    let refused = (!granted).then_some(entry.outcome.as_str());
    let would_be = match &judged.decision {
        Err(why) => summary(change, &judged.rule, Some(&format!("refused: {why}")), &[]),
        Ok(grant) => {
            let certificate = [
                ("principals", names(&grant.principals)),
                ("validity", validity(grant.valid_before, grant.valid_after)),
                ("critical options", options(&grant.critical_options)),
                ("extensions", names(&grant.extensions)),
            ];
            summary(change, &judged.rule, None, &certificate)
        }
    };
    vec![
        entry.row.to_string(),
        utc(entry.asked),
        shown(&entry.key_id),
        shown(&entry.from),
        summary(change, &entry.rule, refused, &was),
        would_be,
    ]
}

fn to_json(change: &Change) -> Value {
    let Change { recorded, judged, what } = change;
    let entry = &recorded.entry;
    json!({
        "row": entry.row,
        "serial": entry.serial.to_string(),
        "user": entry.key_id,
        "from": entry.from,
        "asked": entry.asked,
        "changed": what,
        "was": {
            "rule": entry.rule,
            "granted": recorded.granted,
            "outcome": entry.outcome,
            "principals": entry.principals,
            "valid_after": entry.valid_after,
            "valid_before": entry.valid_before,
            "critical_options": recorded.critical_options,
            "extensions": recorded.extensions,
        },
        "would_be": {
            "rule": judged.rule,
            "granted": judged.decision.is_ok(),
            "refused": judged.decision.as_ref().err(),
            "principals": judged.decision.as_ref().ok().map(|grant| &grant.principals),
            "valid_after": judged.decision.as_ref().ok().map(|grant| grant.valid_after),
            "valid_before": judged.decision.as_ref().ok().map(|grant| grant.valid_before),
            "critical_options": judged.decision.as_ref().ok().map(|grant| &grant.critical_options),
            "extensions": judged.decision.as_ref().ok().map(|grant| &grant.extensions),
        },
    })
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
