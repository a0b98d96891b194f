//! `usshca key register`, `usshca key list` and `usshca key remove`: keys by which their users can log in where policy takes that.

use serde_json::json;
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_os::account::Account;
use usshca_ipc::admin::{RegisteredKey, Reply, Request};

use super::host::read_key_with_comment;
use super::time::utc;
use super::{Desk, Link, print, table, too_many, unexpected};
use crate::cli::{KeyCommand, KeyListArgs, KeyRegisterArgs, KeyRemoveArgs};
use crate::failure::Failure;
use crate::json;

/// Keys asked for at a time.
const PAGE: u32 = 500;
const HEAD: [&str; 7] = ["USER", "TYPE", "FINGERPRINT", "COMMENT", "REGISTERED", "BY", "STATE"];

/// Runs one of them.
pub fn run(desk: &dyn Desk, command: &KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Register(args) => register(desk, args),
        KeyCommand::List(args) => list(desk, args),
        KeyCommand::Remove(args) => remove(desk, args),
    }
}

fn register(desk: &dyn Desk, args: &KeyRegisterArgs) -> Result<(), Failure> {
    let (key, comment) = read_key_with_comment(desk, &args.key)?;
    let user = canonical(desk, &args.user);
    let request = Request::KeyRegister { user: user.clone(), public_key: key.to_blob(), comment };
    let Reply::KeyRegistered { already } = desk.link()?.ask(&request)? else {
        return Err(unexpected());
    };
    let fingerprint = key.fingerprint();
    print(
        desk,
        &if args.json {
            json::line(&json!({ "user": user, "fingerprint": fingerprint, "already": already }))
        } else {
            let user = escape(user.as_bytes(), MAX_FIELD);
            let kind = key.short_type();
            match already {
                true => format!("{fingerprint} ({kind}) is registered for {user} already\n"),
                false => format!("{fingerprint} ({kind}) registered for {user}\n"),
            }
        },
    )
}

/// The name by which the CA will know the account. One that is not there yet is taken as it is: it may come.
fn canonical(desk: &dyn Desk, user: &str) -> String {
    if desk.here().is_none() {
        return user.to_owned();
    }
    match Account::by_name(user) {
        Ok(Some(account)) => account.name,
        Ok(None) | Err(_) => {
            let shown = escape(user.as_bytes(), MAX_FIELD);
            desk.note(&format!(
                "note: this machine knows no account {shown}: the key opens nothing until there is one"
            ));
            user.to_owned()
        }
    }
}

fn list(desk: &dyn Desk, args: &KeyListArgs) -> Result<(), Failure> {
    let keys = receive(desk, desk.link()?.as_ref(), args.user.as_deref())?;
    if let Some(user) = args.user.as_deref().filter(|_| keys.is_empty()) {
        return Err(Failure::refused(format!("no key is registered for {}", escape(user.as_bytes(), MAX_FIELD))));
    }
    if args.json {
        let lines: Vec<String> = keys.iter().map(|key| json::line(&to_json(key))).collect();
        return print(desk, &lines.concat());
    }
    let rows: Vec<Vec<String>> = keys.iter().map(to_row).collect();
    print(desk, &table::render(&HEAD, &rows))
}

fn receive(desk: &dyn Desk, link: &dyn Link, user: Option<&str>) -> Result<Vec<RegisteredKey>, Failure> {
    let mut keys: Vec<RegisteredKey> = Vec::new();
    let mut before = u64::MAX;
    loop {
        let request = Request::KeyList { user: user.map(str::to_owned), before, limit: PAGE };
        let Reply::RegisteredKeys(page) = link.ask(&request)? else {
            return Err(unexpected());
        };
        match page.last() {
            // Numbers only go down: or this would never end.
            Some(last) if last.id < before => before = last.id,
            _ => return Ok(keys),
        }
        keys.extend(page);
        if keys.len() as u64 > desk.most_rows() {
            return Err(too_many(desk));
        }
    }
}

fn to_row(key: &RegisteredKey) -> Vec<String> {
    let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { escape(text.as_bytes(), MAX_FIELD) };
    vec![
        shown(&key.user),
        shown(key.public_key.split(' ').next().unwrap_or_default()),
        shown(&key.fingerprint),
        shown(&key.comment),
        utc(key.at),
        shown(&key.by),
        if key.revoked { "revoked" } else { "good" }.to_owned(),
    ]
}

fn to_json(key: &RegisteredKey) -> serde_json::Value {
    json!({
        "user": key.user,
        "fingerprint": key.fingerprint,
        "public_key": key.public_key,
        "comment": key.comment,
        "at": key.at,
        "by": key.by,
        "revoked": key.revoked,
    })
}

fn remove(desk: &dyn Desk, args: &KeyRemoveArgs) -> Result<(), Failure> {
    let fingerprint = super::host::fingerprint(desk, "key remove", &args.key)?;
    let request = Request::KeyRemove { fingerprint: fingerprint.clone() };
    let Reply::KeyRemoved { user } = desk.link()?.ask(&request)? else {
        return Err(unexpected());
    };
    print(
        desk,
        &if args.json {
            json::line(&json!({ "user": user, "fingerprint": fingerprint }))
        } else {
            let user = escape(user.as_bytes(), MAX_FIELD);
            format!(
                "{fingerprint} is no key of {user} any more; certificates that were issued by it stay good: usshca revoke --user {user} ends them\n"
            )
        },
    )
}
