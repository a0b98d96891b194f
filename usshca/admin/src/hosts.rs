//! `usshca host token`, `tokens`, `list`, `show` and `remove`.

use serde_json::{Value, json};
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::escape::{MAX_FIELD, escape};
use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::host::{BreakGlass, Host, HostKey, Token};

use super::time::utc;
use super::{Desk, Link, csv, next_steps, print, small_letters, table, too_many, unexpected};
use crate::cli::{HostListArgs, HostRemoveArgs, HostShowArgs, HostTokenArgs, HostTokensArgs};
use crate::failure::Failure;
use crate::json;

/// Rows asked for at a time.
const PAGE: u32 = 500;
const TOKEN_HEAD: [&str; 4] = ["TOKEN", "NAMES", "UNTIL", "MADE BY"];
const HOST_HEAD: [&str; 7] = ["HOST", "NAMES", "KEYS", "VALID UNTIL", "LAST SEEN", "FROM", "NOTE"];

/// Makes a token, or makes one useless.
pub fn token(desk: &dyn Desk, args: &HostTokenArgs) -> Result<(), Failure> {
    let link = desk.link()?;
    if let Some(id) = args.revoke {
        let Reply::HostTokenRevoked = link.ask(&Request::HostTokenRevoke { id })? else {
            return Err(unexpected());
        };
        return print(
            desk,
            &if args.json {
                json::line(&json!({ "id": id, "revoked": true }))
            } else {
                format!("token {id} is useless now\n")
            },
        );
    }
    let request =
        Request::HostToken { principals: small_letters(&args.names, &|text| desk.note(text)), life_seconds: args.life };
    let Reply::HostToken { secret, token } = link.ask(&request)? else {
        return Err(unexpected());
    };
    if args.json {
        let mut value = token_json(&token);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("token".to_owned(), json!(secret.reveal()));
        }
        return print(desk, &json::line(&value));
    }
    print(desk, &format!("{}\n", secret.reveal()))?;
    // Not on standard output: there is the token and nothing else.
    desk.note(&format!(
        "token {} for {}, once, until {}; it is not shown again",
        token.id,
        plain(&token.names.join(", ")),
        utc(token.expires)
    ));
    Ok(())
}

/// Lists those that can still be used.
pub fn tokens(desk: &dyn Desk, args: &HostTokensArgs) -> Result<(), Failure> {
    let link = desk.link()?;
    let mut all: Vec<Token> = Vec::new();
    let mut before = u64::MAX;
    loop {
        let Reply::HostTokens(page) = link.ask(&Request::HostTokens { before, limit: PAGE })? else {
            return Err(unexpected());
        };
        match page.last() {
            // Numbers only go down: or this would never end.
            Some(last) if last.id < before => before = last.id,
            _ => break,
        }
        all.extend(page);
        if all.len() as u64 > desk.most_rows() {
            return Err(too_many(desk));
        }
    }
    if args.json {
        return print(desk, &all.iter().map(|token| json::line(&token_json(token))).collect::<String>());
    }
    let row = |token: &Token| {
        vec![token.id.to_string(), plain(&token.names.join(",")), utc(token.expires), plain(&token.made_by)]
    };
    print(desk, &table::render(&TOKEN_HEAD, &all.iter().map(row).collect::<Vec<_>>()))
}

/// Lists the hosts.
pub fn list(desk: &dyn Desk, args: &HostListArgs) -> Result<(), Failure> {
    let mut hosts = receive(desk, desk.link()?.as_ref())?;
    hosts.retain(|host| args.removed || host.removed.is_none());
    if let Some(within) = args.expiring {
        let limit = SystemClock.now().0.saturating_add(within);
        hosts.retain(|host| host.valid_before().is_some_and(|end| end < limit));
    }
    if args.expiring.is_some() && hosts.is_empty() {
        if args.csv {
            print(desk, &csv::record(CSV_HEAD))?;
        }
        return Err(Failure::refused("no host has a certificate that ends within that time"));
    }
    if args.json {
        return print(desk, &hosts.iter().map(|host| json::line(&host_json(host))).collect::<String>());
    }
    if args.csv {
        return print(desk, &hosts.iter().fold(csv::record(CSV_HEAD), |all, host| all + &csv_row(host)));
    }
    print(desk, &table::render(&HOST_HEAD, &hosts.iter().map(host_row).collect::<Vec<_>>()))
}

fn receive(desk: &dyn Desk, link: &dyn Link) -> Result<Vec<Host>, Failure> {
    let mut hosts: Vec<Host> = Vec::new();
    let mut after = String::new();
    loop {
        let Reply::Hosts(page) = link.ask(&Request::Hosts { after: after.clone(), limit: PAGE })? else {
            return Err(unexpected());
        };
        match page.last() {
            // Names only go up: or this would never end.
            Some(last) if last.name > after => after.clone_from(&last.name),
            _ => return Ok(hosts),
        }
        hosts.extend(page);
        if hosts.len() as u64 > desk.most_rows() {
            return Err(too_many(desk));
        }
    }
}

/// Shows all that is known of one host.
pub fn show(desk: &dyn Desk, args: &HostShowArgs) -> Result<(), Failure> {
    let name = small_letters(std::slice::from_ref(&args.name), &|text| desk.note(text)).concat();
    let Reply::Host(host) = desk.link()?.ask(&Request::HostShow { name })? else {
        return Err(unexpected());
    };
    print(desk, &if args.json { json::line(&host_json(&host)) } else { host_text(&host) })
}

/// Takes one out.
pub fn remove(desk: &dyn Desk, args: &HostRemoveArgs) -> Result<(), Failure> {
    let name = small_letters(std::slice::from_ref(&args.name), &|text| desk.note(text)).concat();
    let request = Request::HostRemove { name: name.clone(), reason: args.reason.clone() };
    let link = desk.link()?;
    let show = link.ask(&Request::HostShow { name: name.clone() });
    let already = matches!(show, Ok(Reply::Host(host)) if host.removed.is_some());
    let Reply::HostRemoved { certificates } = link.ask(&request)? else {
        return Err(unexpected());
    };
    drop(link);
    if args.json {
        let value = json!({ "host": name, "certificates": certificates, "already": already });
        return print(desk, &json::line(&value));
    }
    if already && certificates == 0 {
        return print(desk, &format!("host {}: was removed before\n", plain(&name)));
    }
    let what = if certificates == 1 { "1 certificate".to_owned() } else { format!("{certificates} certificates") };
    // sshd looks at no host's certificate: who shall refuse one is its clients.
    let by_clients = "people's ssh refuses what the KRL names where its configuration has `RevokedHostKeys`: if the machine is in wrong hands, bring the KRL there too";
    let steps = match certificates {
        0 => String::new(),
        _ => format!("\n{by_clients}\n{}", next_steps(desk, "know of it")),
    };
    print(desk, &format!("removed host {}: {what} revoked{steps}\n", plain(&name)))
}

fn token_json(token: &Token) -> Value {
    json!({
        "id": token.id,
        "names": token.names,
        "made": token.made,
        "made_by": token.made_by,
        "expires": token.expires,
    })
}

/// Serials are strings, since JSON's numbers lose digits above 2^53 in many readers.
fn host_json(host: &Host) -> Value {
    let key = |key: &HostKey| {
        json!({
            "public_key": key.public_key,
            "fingerprint": key.fingerprint,
            "principals": key.principals,
            "since": key.since,
            "replaced": key.replaced,
            "serial": some(key.serial).map(|serial| serial.to_string()),
            "valid_before": some(key.valid_before),
        })
    };
    let used = |one: &BreakGlass| {
        json!({
            "user": one.user,
            "from": one.from,
            "key_id": one.key_id,
            "serial": one.serial,
            "key": one.key,
            "ca": one.ca,
            "opened": one.opened,
            "received": one.received,
        })
    };
    json!({
        "name": host.name,
        "principals": host.principals(),
        "keys": host.keys.iter().map(key).collect::<Vec<_>>(),
        "valid_before": host.valid_before().and_then(some),
        "enrolled": host.enrolled,
        "enrolled_by": host.enrolled_by,
        "seen": host.seen,
        "seen_from": host.seen_from,
        "cloned": host.cloned,
        "cloned_at": host.cloned_at,
        "removed": host.removed,
        "removed_by": host.removed_by,
        "break_glass": host.break_glass.iter().map(used).collect::<Vec<_>>(),
    })
}

fn some(number: u64) -> Option<u64> {
    Some(number).filter(|number| *number != 0)
}

fn host_row(host: &Host) -> Vec<String> {
    vec![
        plain(&host.name),
        plain(&host.principals().join(",")),
        host.present_keys().count().to_string(),
        until(host),
        host.seen.map_or_else(dash, utc),
        host.seen_from.as_deref().map_or_else(dash, plain),
        note(host),
    ]
}

fn until(host: &Host) -> String {
    host.valid_before().and_then(some).map_or_else(dash, utc)
}

fn note(host: &Host) -> String {
    match (host.removed, host.cloned_at.as_deref()) {
        (Some(at), _) => format!("removed {}", utc(at)),
        (None, Some(at)) => format!("cloned? at {}", plain(at)),
        (None, None) => String::new(),
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn host_text(host: &Host) -> String {
    let mut lines = vec![
        ("host", plain(&host.name)),
        ("names", plain(&host.principals().join(", "))),
        ("valid until", until(host)),
        ("enrolled", format!("{} by {}", utc(host.enrolled), plain(&host.enrolled_by))),
        ("last seen", seen(host)),
    ];
    if let (Some(at), Some(places)) = (host.cloned, host.cloned_at.as_deref()) {
        let places = plain(places);
        lines.push(("cloned?", format!("{}: one of its keys is used from {places} in turn", utc(at))));
    }
    if let Some(at) = host.removed {
        lines.push(("removed", format!("{} by {}", utc(at), plain(host.removed_by.as_deref().unwrap_or_default()))));
    }
    for key in &host.keys {
        let state = match (key.replaced, key.serial) {
            (Some(at), _) => format!("replaced {}", utc(at)),
            (None, 0) => "no certificate".to_owned(),
            (None, serial) => format!("serial {serial} until {}", utc(key.valid_before)),
        };
        let of = key.public_key.split(' ').next().unwrap_or_default();
        lines.push(("key", format!("{} {} since {}: {state}", plain(of), plain(&key.fingerprint), utc(key.since))));
    }
    for one in &host.break_glass {
        let (who, user, from) = (plain(&one.key_id), plain(&one.user), plain(&one.from));
        let (serial, key) = (plain(&one.serial), plain(&one.key));
        let (at, heard) = (utc(one.opened), utc(one.received));
        lines.push((
            "break-glass",
            format!("{at} {who} as {user} from {from}: serial {serial}, key {key}; told {heard}"),
        ));
    }
    lines.into_iter().map(|(name, value)| format!("{name:14} {value}").trim_end().to_owned() + "\n").collect()
}

fn seen(host: &Host) -> String {
    let from = host.seen_from.as_deref().unwrap_or_default();
    host.seen.map_or_else(|| "never".to_owned(), |at| format!("{} from {}", utc(at), plain(from)))
}

const CSV_HEAD: [&str; 10] = [
    "name",
    "principals",
    "keys",
    "valid_before",
    "enrolled",
    "enrolled_by",
    "seen",
    "seen_from",
    "cloned_at",
    "removed",
];

fn csv_row(host: &Host) -> String {
    let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    let fingerprints: Vec<&str> = host.present_keys().map(|key| key.fingerprint.as_str()).collect();
    let cells = [
        plain(&host.name),
        plain(&host.principals().join(" ")),
        plain_long(&fingerprints.join(" ")),
        number(host.valid_before().and_then(some)),
        host.enrolled.to_string(),
        plain(&host.enrolled_by),
        number(host.seen),
        plain(host.seen_from.as_deref().unwrap_or_default()),
        plain(host.cloned_at.as_deref().unwrap_or_default()),
        number(host.removed),
    ];
    csv::record(cells.iter().map(String::as_str))
}

/// What others chose must not steer the terminal.
fn plain(text: &str) -> String {
    escape(text.as_bytes(), MAX_FIELD)
}

fn plain_long(text: &str) -> String {
    escape(text.as_bytes(), usize::MAX)
}
