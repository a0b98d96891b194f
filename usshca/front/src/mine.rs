//! What people ask about themselves: `whoami`, `list`, `revoke-mine`, `krl`. The signer answers whoever proved enough; a registered key does so through the agent.

use serde_json::json;
use ussh_core::escape::{MAX_FIELD, escape};
use usshca_admin::json;
use usshca_ipc::admin::Entry;
use usshca_ipc::front::{Ending, FromSigner, Verb};

use crate::agent::Agent;
use crate::certify;
use crate::prove;
use crate::session::{Job, Report};
use crate::signer::{NoAnswer, another_question};
use crate::text;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Answers on standard output; what there is to report goes to stderr.
pub async fn run(job: &Job, verb: Verb, form: Form) -> Report {
    match answer(job, verb, form).await {
        Ok(()) => Report { status: 0, text: String::new() },
        Err(NoAnswer(text)) => Report { status: 1, text },
    }
}

async fn answer(job: &Job, verb: Verb, form: Form) -> Result<(), NoAnswer> {
    prove_login(job).await?;
    let attempt = job.passed.attempt;
    match (verb, job.signer.mine(attempt, verb).await?) {
        (Verb::WhoAmI, FromSigner::You { user, authenticated }) => {
            job.print(&match form {
                Form::Json => json::line(&json!({ "user": user, "authenticated": authenticated })),
                Form::Text => user,
            })
            .await;
        }
        (Verb::List, FromSigner::Yours { mut rows, mut more }) => {
            while more {
                let FromSigner::Yours { rows: next, more: further } = job.signer.more().await? else {
                    return Err(another_question());
                };
                rows.extend(next);
                more = further;
            }
            job.print(&match form {
                Form::Json => rows.iter().map(|row| json::line(&to_json(row))).collect::<String>(),
                Form::Text => table(&rows),
            })
            .await;
        }
        (Verb::Revoke, FromSigner::RevokedYours { certificates }) => {
            job.print(&match (form, certificates) {
                (Form::Json, _) => json::line(&json!({ "revoked": certificates })),
                (Form::Text, 0) => "You have no certificate that is good: there was nothing to revoke.\n".to_owned(),
                (Form::Text, 1) => format!("1 certificate revoked. {}", text::REVOKED),
                (Form::Text, count) => format!("{count} certificates revoked. {}", text::REVOKED),
            })
            .await;
        }
        (Verb::Krl, FromSigner::Krl { mut chunk, mut more }) => {
            // Whole or not at all: what is cut short would be no KRL.
            while more {
                let FromSigner::Krl { chunk: next, more: further } = job.signer.more().await? else {
                    return Err(another_question());
                };
                chunk.extend(next);
                more = further;
            }
            if job.has_pty {
                return Err(NoAnswer(text::BINARY.to_owned()));
            }
            job.print_bytes(chunk).await;
        }
        _ => return Err(another_question()),
    }
    Ok(())
}

/// Whoever passed PAM needs no more for these.
async fn prove_login(job: &Job) -> Result<(), NoAnswer> {
    if job.passed.pam {
        return Ok(());
    }
    let demands = job.signer.demands(job.passed.attempt, false).await?;
    if !prove::is_missing(job, &demands) {
        return Ok(());
    }
    if !job.forwards_agent {
        job.ends(Ending::NoAgent).await;
        return Err(NoAnswer(text::KEY_WITHOUT_AGENT.to_owned()));
    }
    let Some(channel) = certify::open_agent(&job.handle).await else {
        return Err(certify::silent(job).await);
    };
    let mut agent = Agent::new(channel.into_stream());
    let Ok(held) = agent.list().await else {
        return Err(certify::silent(job).await);
    };
    match prove::login(job, &demands, &mut agent, &held).await {
        Ok(()) => Ok(()),
        Err(unproved) => Err(unproved.ends(job).await),
    }
}

fn state(row: &Entry) -> String {
    match row.revoked {
        Some(_) => "revoked".to_owned(),
        None => escape(row.outcome.as_bytes(), MAX_FIELD),
    }
}

fn table(rows: &[Entry]) -> String {
    let head = ["SERIAL", "ASKED", "VALID UNTIL", "FROM", "PRINCIPALS", "RULE", "STATE"].map(str::to_owned);
    let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { escape(text.as_bytes(), MAX_FIELD) };
    let lines: Vec<[String; 7]> = rows
        .iter()
        .map(|row| {
            [
                if row.serial == 0 { "-".to_owned() } else { row.serial.to_string() },
                text::utc(row.asked),
                if row.serial == 0 { "-".to_owned() } else { text::utc(row.valid_before) },
                shown(&row.from),
                shown(&row.principals.join(",")),
                shown(&row.rule),
                state(row),
            ]
        })
        .collect();
    let all = || std::iter::once(&head).chain(&lines);
    let mut out = String::new();
    for line in all() {
        let mut written = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = all().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
            written.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(written.trim_end());
        out.push('\n');
    }
    out
}

/// As `usshca list --json` has it. Serials are text: JSON's numbers lose digits above 2^53 in many readers.
fn to_json(row: &Entry) -> serde_json::Value {
    json!({
        "row": row.row,
        "serial": row.serial.to_string(),
        "kind": row.kind,
        "key_id": row.key_id,
        "principals": row.principals,
        "fingerprint": row.fingerprint,
        "valid_after": row.valid_after,
        "valid_before": row.valid_before,
        "asked": row.asked,
        "from": row.from,
        "authenticated": row.authenticated,
        "rule": row.rule,
        "outcome": row.outcome,
        "revoked": row.revoked,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn entry(serial: u64, revoked: Option<u64>) -> Entry {
        Entry {
            row: 1,
            serial,
            kind: "user".into(),
            key_id: "alice".into(),
            principals: vec!["alice".into(), "web".into()],
            fingerprint: "SHA256:x".into(),
            valid_after: 0,
            valid_before: 1_778_346_000,
            asked: 1_778_340_000,
            from: "192.0.2.1".into(),
            authenticated: "pam".into(),
            rule: "staff\x1b[2J".into(),
            outcome: "delivered".into(),
            revoked,
            reason: String::new(),
            count: 1,
            last: 1,
        }
    }

    #[test]
    fn rows_are_told_in_columns_and_escaped() {
        let text = table(&[entry(u64::MAX, None), entry(7, Some(1)), entry(0, None)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("SERIAL ") && lines[0].ends_with("STATE"), "{text}");
        assert!(
            lines[1].starts_with("18446744073709551615  2026-05-09 15:20:00 UTC  2026-05-09 17:00:00 UTC"),
            "{text}"
        );
        assert!(lines[1].ends_with("staff\\x1b[2J  delivered"), "{text}");
        assert!(lines[2].ends_with("revoked"), "{text}");
        assert!(lines[3].starts_with("-  "), "{text}");
        assert_eq!(to_json(&entry(u64::MAX, None))["serial"], "18446744073709551615");
    }
}
