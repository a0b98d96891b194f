//! `usshca explain`: which rule decides about somebody, why the ones before it do not, and what the certificate would be like.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_os::account::Account;
use usshca_ipc::admin::{Explained, Grant, Reply, Request, Supposed};
use usshca_ipc::front::Wish;

use super::time::{parse_utc, utc};
use super::{Desk, print, unexpected};
use crate::cli::ExplainArgs;
use crate::desk::not_here;
use crate::failure::Failure;
use crate::json;

/// Asks the signer; a refusal is exit status 1.
pub fn explain(desk: &dyn Desk, args: &ExplainArgs) -> Result<(), Failure> {
    let supposed = suppose(desk, args)?;
    let request = Request::Explain(Box::new(supposed));
    let Reply::Explained(explained) = desk.link()?.ask(&request)? else {
        return Err(unexpected());
    };
    print(desk, &if args.json { json::line(&to_json(&explained)) } else { to_text(args, &explained) })?;
    match &explained.decision {
        Ok(_) => Ok(()),
        Err(why) => Err(Failure::refused(format!("no certificate: {}{}", shown(why), suppose_more(args, why)))),
    }
}

fn suppose(desk: &dyn Desk, args: &ExplainArgs) -> Result<Supposed, Failure> {
    let (user, groups) =
        if args.groups.is_empty() { look_up(desk, &args.user)? } else { (args.user.clone(), args.groups.clone()) };
    let time = args.at.as_deref().map(|text| parse_utc("--at", text)).transpose()?;
    Ok(Supposed {
        user,
        groups,
        source: args.from,
        time,
        authentication: args.authentication.clone().unwrap_or_default(),
        mode: args.mode.clone().unwrap_or_default(),
        key_type: args.key_type.clone().unwrap_or_default(),
        wish: Wish {
            validity_seconds: args.validity,
            principals: args.principals.clone(),
            reason: args.reason.clone().unwrap_or_default(),
        },
        reason_if_demanded: args.reason.is_none(),
    })
}

/// How to ask what there would be if the user did what the rule demands.
fn suppose_more(args: &ExplainArgs, why: &str) -> &'static str {
    if why.contains("demands authentication by") && args.authentication.is_some() {
        "; without --auth it is supposed that the user does that"
    } else if why.contains("demands a reason") && args.reason.is_some() {
        "; without --reason it is supposed that the user gives one"
    } else {
        ""
    }
}

/// The canonical name and the groups, as a PAM worker would state them.
fn look_up(desk: &dyn Desk, user: &str) -> Result<(String, Vec<String>), Failure> {
    if desk.here().is_none() {
        return Err(not_here("looking up of groups", "name those to suppose with --group"));
    }
    let failed = |e: &dyn std::fmt::Display| Failure::internal(format!("looking up the account {}: {e}", shown(user)));
    let account = Account::by_name(user).map_err(|e| failed(&e))?.ok_or_else(|| {
        Failure::refused(format!("this machine knows no account {}; to suppose one, give its --group", shown(user)))
    })?;
    let groups = account.group_names().map_err(|e| failed(&e))?;
    Ok((account.name, groups))
}

fn shown(text: &str) -> String {
    escape(text.as_bytes(), MAX_FIELD)
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn to_text(args: &ExplainArgs, explained: &Explained) -> String {
    let supposed = &explained.supposed;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{} (groups: {}) from {}, {}authenticated by {}, {}, key type {}{}{}",
        shown(&supposed.user),
        list(&supposed.groups),
        supposed.source,
        if args.authentication.is_none() { "if " } else { "" },
        supposed.authentication,
        supposed.mode,
        supposed.key_type,
        if supposed.reason_if_demanded { ", with a reason" } else { "" },
        supposed.time.map_or(String::new(), |time| format!(", at {}", utc(time))),
    );
    for (rule, why) in &explained.passed_over {
        let _ = writeln!(text, "  rule \"{}\" {}", shown(rule), shown(why));
    }
    let _ = match (explained.rule.as_str(), &explained.decision) {
        ("", _) => Ok(()),
        (rule, Ok(_)) => writeln!(text, "  rule \"{}\" decides:", shown(rule)),
        (rule, Err(why)) => writeln!(text, "  rule \"{}\" decides: {}", shown(rule), shown(why)),
    };
    if let Some(takes) = &explained.takes {
        let _ = writeln!(
            text,
            "    {:<13}{}; {}; keys of the types {}{}",
            "demands",
            takes.authentication.join(" or "),
            takes.modes.join(" or "),
            takes.key_types.join(", "),
            if takes.reason { "; a reason" } else { "" },
        );
    }
    if let Ok(grant) = &explained.decision {
        text.push_str(&certificate(grant));
    }
    text
}

fn certificate(grant: &Grant) -> String {
    let mut lines = vec![
        ("key ID", shown(&grant.key_id)),
        ("principals", list(&grant.principals)),
        ("valid", format!("from {} until {}", utc(grant.valid_after), utc(grant.valid_before))),
        ("extensions", list(&grant.extensions)),
        ("login time", "in the extension login-time@ussh: when the person last proved who it is".to_owned()),
    ];
    lines.extend(
        grant.critical_options.iter().map(|(name, value)| ("critical", format!("{} {}", shown(name), shown(value)))),
    );
    lines.extend(grant.in_agent.map(|agent| {
        let lifetime = humantime::format_duration(Duration::from_secs(agent.lifetime_seconds));
        ("in the agent", format!("for {lifetime}{}", if agent.confirm { ", which asks before each use" } else { "" }))
    }));
    lines.extend(grant.max_certificates.map(|most| ("at one time", format!("{most} at most"))));
    lines.into_iter().map(|(name, value)| format!("    {name:<13}{value}\n")).collect()
}

fn to_json(explained: &Explained) -> Value {
    let supposed = &explained.supposed;
    let passed_over: Vec<Value> =
        explained.passed_over.iter().map(|(rule, why)| json!({ "rule": rule, "why_not": why })).collect();
    let options = |options: &[(String, String)]| {
        options
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect::<serde_json::Map<_, _>>()
    };
    let certificate = explained.decision.as_ref().ok().map(|grant| {
        json!({
            "key_id": grant.key_id,
            "principals": grant.principals,
            "valid_after": grant.valid_after,
            "valid_before": grant.valid_before,
            "critical_options": options(&grant.critical_options),
            "extensions": grant.extensions,
            "confirm": grant.in_agent.map(|agent| agent.confirm),
            "agent_lifetime_seconds": grant.in_agent.map(|agent| agent.lifetime_seconds),
            "max_certificates": grant.max_certificates,
        })
    });
    json!({
        "user": supposed.user,
        "groups": supposed.groups,
        "from": supposed.source,
        "authentication": supposed.authentication,
        "mode": supposed.mode,
        "key_type": supposed.key_type,
        "reason_supposed": supposed.reason_if_demanded,
        "demands": explained.takes.as_ref().map(|takes| json!({
            "authentication": takes.authentication,
            "modes": takes.modes,
            "key_types": takes.key_types,
            "reason": takes.reason,
        })),
        "passed_over": passed_over,
        "rule": explained.rule,
        "certificate": certificate,
        "refused": explained.decision.as_ref().err(),
    })
}
