//! What policy would say to a request, and why: the same question and the same answer as of an issue, with nothing issued.

use ussh_core::clock::UnixTime;
use usshca_ipc::admin::{Explained, Grant, Supposed};

use crate::ca::critical_options;
use crate::policy::{self, KeyKind, Mode, Policy, Proofs, Question};

/// Asks policy. `now` is the time unless the question names one.
/// # Errors
/// A word in it that is none of policy's; which, and what there is.
pub fn explain(policy: &Policy, supposed: &Supposed, now: UnixTime) -> Result<Explained, String> {
    let proofs = Proofs::from_name(&supposed.authentication);
    let mode = Mode::from_name(&supposed.mode);
    let key_kind = KeyKind::from_name(&supposed.key_type);
    let time = supposed.time.map_or(now, UnixTime);
    let question = Question {
        user: &supposed.user,
        groups: &supposed.groups,
        source: supposed.source.to_canonical(),
        time,
        proofs: proofs.ok_or_else(|| none_of("authentication", &Proofs::names()))?,
        mode: mode.ok_or_else(|| none_of("mode", &Mode::names()))?,
        key_kind: key_kind.ok_or_else(|| none_of("key type", &KeyKind::names()))?,
        wish: &supposed.wish,
    };
    let decided = policy.decide(&question);
    let rule = decided.as_ref().map_or_else(policy::PolicyRefusal::rule, |grant| &grant.rule).to_owned();
    let passed_over = policy.passed_over(&question).into_iter();
    Ok(Explained {
        passed_over: passed_over.map(|passed| (passed.rule.to_owned(), passed.mismatch.to_string())).collect(),
        rule,
        decision: decided.map(|grant| certificate(&supposed.user, &grant, time)).map_err(|refusal| refusal.to_string()),
    })
}

fn none_of(what: &str, names: &[&str]) -> String {
    format!("no such {what}; there are: {}", names.join(", "))
}

fn certificate(user: &str, grant: &policy::Grant, time: UnixTime) -> Grant {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let options = critical_options(grant).into_iter();
    Grant {
        key_id: user.to_owned(),
        principals: grant.principals.clone(),
        valid_after: time.0.saturating_sub(grant.backdate_seconds),
        valid_before: time.0.saturating_add(grant.validity_seconds),
        critical_options: options.map(|o| (text(&o.name), text(o.string_value().unwrap_or_default()))).collect(),
        extensions: grant.extensions.clone(),
        confirm: grant.confirm,
        agent_lifetime_seconds: grant.agent_lifetime_seconds.unwrap_or(u64::MAX).min(grant.validity_seconds),
        max_certificates: grant.max_certificates,
    }
}
