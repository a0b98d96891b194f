//! What policy would say to a request, and why: the same question and the same answer as of an issue, with nothing issued.

use ussh_core::clock::UnixTime;
use usshca_ipc::admin::{Explained, Grant, InAgent, Supposed, Takes};
use usshca_ipc::front::Wish;

use crate::ca::critical_options;
use crate::policy::{self, Demands, KeyKind, Mode, Policy, Proofs, Question};

/// Asks policy. `now` is the time unless the question names one.
/// # Errors
/// A word in it that is none of policy's; which, and what there is.
pub fn explain(policy: &Policy, supposed: &Supposed, now: UnixTime) -> Result<Explained, String> {
    let mut supposed = supposed.clone();
    let time = supposed.time.map_or(now, UnixTime);
    let of_nobody = Wish::default();
    let asked = Question {
        user: &supposed.user,
        groups: &supposed.groups,
        source: supposed.source.to_canonical(),
        time,
        proofs: Proofs { pam: true, publickey: false },
        mode: Mode::Inject,
        key_kind: KeyKind::Ed25519,
        wish: &of_nobody,
    };
    let demands = policy.demands(&asked);
    let proofs = or_first(&supposed.authentication, Proofs::from_name, demands.map(|d| d.authentication), asked.proofs)
        .ok_or_else(|| none_of("authentication", &Proofs::names()))?;
    // What a login asks for that says nothing, and of a key that the CA does not make, one by which the user brings it.
    let brings = KeyKind::from_name(&supposed.key_type).is_some_and(|kind| !kind.is_made());
    let at_first = if brings { Mode::ClientKey } else { Mode::Inject };
    let modes = demands.map(|d| d.modes).filter(|modes| !modes.contains(&at_first));
    let mode =
        or_first(&supposed.mode, Mode::from_name, modes, at_first).ok_or_else(|| none_of("mode", &Mode::names()))?;
    let kinds = demands.map_or(&[][..], |d| d.key_types);
    let made: Vec<KeyKind> = kinds.iter().copied().filter(|kind| mode == Mode::ClientKey || kind.is_made()).collect();
    let key_kind = or_first(&supposed.key_type, KeyKind::from_name, Some(&made), KeyKind::Ed25519)
        .ok_or_else(|| none_of("key type", &KeyKind::names()))?;
    let takes = demands.map(takes);
    let demands_reason = demands.is_some_and(|d| d.reason_required);

    supposed.reason_if_demanded &= demands_reason && supposed.wish.reason.trim().is_empty();
    (supposed.authentication, supposed.mode, supposed.key_type) =
        (proofs.to_string(), mode.name().to_owned(), key_kind.name().to_owned());
    let mut wish = supposed.wish.clone();
    if supposed.reason_if_demanded {
        wish.reason = "supposed".to_owned();
    }
    let question = Question {
        user: &supposed.user,
        groups: &supposed.groups,
        source: supposed.source.to_canonical(),
        time,
        proofs,
        mode,
        key_kind,
        wish: &wish,
    };
    let decided = policy.decide(&question);
    let rule = decided.as_ref().map_or_else(policy::PolicyRefusal::rule, |grant| &grant.rule).to_owned();
    let passed_over = policy.passed_over(&question).into_iter();
    let passed_over = passed_over.map(|passed| (passed.rule.to_owned(), passed.mismatch.to_string())).collect();
    let decision =
        decided.map(|grant| certificate(&supposed.user, &grant, mode, time)).map_err(|refusal| refusal.to_string());
    Ok(Explained { passed_over, rule, supposed, takes, decision })
}

/// What was named, `None` if that is nothing; where nothing was, the first that the rule takes, or what there is without a rule.
fn or_first<T: Copy>(named: &str, from_name: fn(&str) -> Option<T>, of_rule: Option<&[T]>, without: T) -> Option<T> {
    if named.is_empty() {
        return Some(of_rule.and_then(|all| all.first().copied()).unwrap_or(without));
    }
    from_name(named)
}

fn takes(demands: Demands<'_>) -> Takes {
    Takes {
        authentication: demands.authentication.iter().map(Proofs::to_string).collect(),
        modes: demands.modes.iter().map(|mode| mode.name().to_owned()).collect(),
        key_types: demands.key_types.iter().map(|kind| kind.name().to_owned()).collect(),
        reason: demands.reason_required,
    }
}

fn none_of(what: &str, names: &[&str]) -> String {
    format!("no such {what}; there are: {}", names.join(", "))
}

fn certificate(user: &str, grant: &policy::Grant, mode: Mode, time: UnixTime) -> Grant {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let options = critical_options(grant).into_iter();
    Grant {
        key_id: user.to_owned(),
        principals: grant.principals.clone(),
        valid_after: time.0.saturating_sub(grant.backdate_seconds),
        valid_before: time.0.saturating_add(grant.validity_seconds),
        critical_options: options.map(|o| (text(&o.name), text(o.string_value().unwrap_or_default()))).collect(),
        extensions: grant.extensions.clone(),
        // Nothing is put into an agent but what the CA makes.
        in_agent: (mode == Mode::Inject).then(|| InAgent {
            confirm: grant.confirm,
            lifetime_seconds: grant.agent_lifetime_seconds.unwrap_or(u64::MAX).min(grant.validity_seconds),
        }),
        max_certificates: grant.max_certificates,
    }
}
