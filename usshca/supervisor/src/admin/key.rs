//! `usshca key register`, `usshca key list` and `usshca key remove`: keys by which their users can log in where policy takes that.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_os::account::Account;
use usshca_ipc::admin::{RegisteredKey, Reply, Request};
use usshca_ipc::layout::Layout;

use super::host::read_key_with_comment;
use super::time::utc;
use super::{Link, print, table, unexpected};
use crate::cli::{KeyCommand, KeyListArgs, KeyRegisterArgs, KeyRemoveArgs};
use crate::failure::Failure;

/// Keys asked for at a time.
const PAGE: u32 = 500;
const HEAD: [&str; 7] = ["USER", "TYPE", "FINGERPRINT", "COMMENT", "REGISTERED", "BY", "STATE"];

/// Runs one of them.
pub fn run(layout: &Layout, command: &KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Register(args) => register(layout, args),
        KeyCommand::List(args) => list(layout, args),
        KeyCommand::Remove(args) => remove(layout, args),
    }
}

fn register(layout: &Layout, args: &KeyRegisterArgs) -> Result<(), Failure> {
    let (key, comment) = read_key_with_comment(&args.key)?;
    let user = canonical(&args.user);
    let request = Request::KeyRegister { user: user.clone(), public_key: key.to_blob(), comment };
    let Reply::KeyRegistered { already } = Link::open(layout)?.ask(&request)? else {
        return Err(unexpected());
    };
    let fingerprint = key.fingerprint();
    print(&if args.json {
        format!("{}\n", json!({ "user": user, "fingerprint": fingerprint, "already": already }))
    } else {
        let user = escape(user.as_bytes(), MAX_FIELD);
        let was = if already { "was registered for" } else { "registered for" };
        format!("{fingerprint} ({}) {was} {user}\n", key.short_type())
    })
}

/// The name by which the CA will know the account. One that is not there yet is taken as it is: it may come.
fn canonical(user: &str) -> String {
    match Account::by_name(user) {
        Ok(Some(account)) => account.name,
        Ok(None) | Err(_) => {
            let shown = escape(user.as_bytes(), MAX_FIELD);
            // Nothing can be done about a closed stderr here.
            let _ = writeln!(
                io::stderr(),
                "usshca: note: this machine knows no account {shown}: the key opens nothing until there is one"
            );
            user.to_owned()
        }
    }
}

fn list(layout: &Layout, args: &KeyListArgs) -> Result<(), Failure> {
    let keys = receive(&Link::open(layout)?, args.user.as_deref())?;
    if args.json {
        let lines: Vec<String> = keys.iter().map(|key| format!("{}\n", to_json(key))).collect();
        return print(&lines.concat());
    }
    let rows: Vec<Vec<String>> = keys.iter().map(to_row).collect();
    print(&table::render(&HEAD, &rows))
}

fn receive(link: &Link, user: Option<&str>) -> Result<Vec<RegisteredKey>, Failure> {
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

fn remove(layout: &Layout, args: &KeyRemoveArgs) -> Result<(), Failure> {
    let fingerprint = match args.key.starts_with("SHA256:") {
        true => args.key.clone(),
        false => super::host::read_key(Path::new(&args.key))?.fingerprint(),
    };
    let request = Request::KeyRemove { fingerprint: fingerprint.clone() };
    let Reply::KeyRemoved { user } = Link::open(layout)?.ask(&request)? else {
        return Err(unexpected());
    };
    print(&if args.json {
        format!("{}\n", json!({ "user": user, "fingerprint": fingerprint }))
    } else {
        let user = escape(user.as_bytes(), MAX_FIELD);
        format!(
            "{fingerprint} is no key of {user} any more; certificates that were issued by it stay good: usshca revoke --user {user} ends them\n"
        )
    })
}
