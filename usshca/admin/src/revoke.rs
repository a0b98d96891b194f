//! `usshca revoke` and `usshca revocations`.

use std::fs;

use serde_json::json;
use ussh_core::certificate::Certificate;
use ussh_core::escape::{MAX_FIELD, escape, escape_text};
use usshca_ipc::admin::{CertificateKind, Reply, Request, Revocation, Revoke};

use super::host::fingerprint;
use super::time::{parse_utc, utc};
use super::{Desk, Link, certificate_path, next_steps, print, table, too_many, unexpected};
use crate::cli::{Of, RevocationsArgs, RevokeArgs};
use crate::failure::Failure;
use crate::json;

/// What brings the CA's machine a certificate that is good.
const SIGN_AGAIN: &str = "sign its host key again (usshca host sign), and let the CA read it (SIGHUP)";
/// Revocations asked for at a time.
const PAGE: u32 = 500;
const HEAD: [&str; 8] = ["NUMBER", "WHAT", "CERTIFICATES", "AT", "BY", "REASON", "UNDONE", "UNDONE BY"];

impl From<Of> for CertificateKind {
    fn from(of: Of) -> Self {
        match of {
            Of::User => CertificateKind::User,
            Of::Host => CertificateKind::Host,
        }
    }
}

/// Revokes, or undoes.
pub fn revoke(desk: &dyn Desk, args: &RevokeArgs) -> Result<(), Failure> {
    if let Some(act) = args.undo {
        return undo(desk, args, act);
    }
    let what = what(desk, args)?;
    let described = describe(&what);
    let own = meets_own_certificate(desk, &what);
    let request = Request::Revoke { what, reason: args.reason.clone() };
    let Reply::Revoked(done) = desk.link()?.ask(&request)? else {
        return Err(unexpected());
    };
    let serial = args.serial.map(|serial| serial.to_string());
    print(
        desk,
        &match (args.json, done) {
            // Strings: JSON's numbers lose digits above 2^53 in many readers.
            (true, _) => {
                let act = done.map(|done| done.act.to_string());
                let (certificates, held) = done.map_or((0, 0), |done| (done.certificates, done.held));
                let already = done.is_none();
                let mut value = json!({ "revocation": act, "certificates": certificates, "revoked_before": held, "already": already });
                if let (Some(fields), Some(serial)) = (value.as_object_mut(), serial) {
                    fields.insert("serial".to_owned(), serial.into());
                }
                json::line(&value)
            }
            (false, Some(done)) => {
                let count = match (args.serial, done.certificates) {
                    (Some(_), _) => String::new(),
                    (None, 1) => ", 1 certificate that is not over".to_owned(),
                    (None, count) => format!(", {count} certificates that are not over"),
                };
                let held = match (done.certificates, done.held) {
                    (_, 0) => String::new(),
                    (1, _) => ", which another revocation holds too".to_owned(),
                    (count, held) if count == held => ", all of which other revocations hold too".to_owned(),
                    (_, held) => format!(", {held} of which other revocations hold too"),
                };
                if let (Some(_), Of::Host) = (&args.before, args.of) {
                    desk.note("note: the CA machine's own host certificate is one of them if it was issued before that time: sign its host key again (usshca host sign), and let the CA read it (SIGHUP)");
                }
                if let Some(way_on) = own {
                    desk.note(&format!("note: the CA machine's own host certificate is revoked by this: {way_on}, or undo it: usshca revoke --undo {}", done.act));
                }
                format!(
                    "revoked {described} (revocation {}{count}{held}); {}\n",
                    done.act,
                    next_steps(desk, "refuse it")
                )
            }
            (false, None) => format!("{described}: was revoked before\n"),
        },
    )
}

fn what(desk: &dyn Desk, args: &RevokeArgs) -> Result<Revoke, Failure> {
    let kind = args.of.into();
    Ok(match args {
        RevokeArgs { serial: Some(serial), .. } => Revoke::Serial(*serial),
        RevokeArgs { user: Some(user), .. } => Revoke::User(user.clone()),
        RevokeArgs { host: Some(host), .. } => Revoke::Host(host.to_ascii_lowercase()),
        RevokeArgs { key: Some(key), .. } => Revoke::Key(fingerprint(desk, "--key", key)?),
        RevokeArgs { key_id: Some(key_id), .. } => Revoke::KeyId { kind, key_id: key_id.clone() },
        RevokeArgs { before: Some(time), .. } => Revoke::Before { kind, time: parse_utc("--before", time)? },
        RevokeArgs { ca: Some(of), .. } => Revoke::Ca { kind: (*of).into(), fingerprint: String::new() },
        RevokeArgs { serials: Some((first, last)), .. } => Revoke::Serials { first: *first, last: *last },
        // The command line demands one of them.
        _ => return Err(Failure::usage("say what to revoke: a serial, or one of the options")),
    })
}

/// Whether the certificate that the CA's machine shows is one of them, as far as its file says; what is to be done then.
fn meets_own_certificate(desk: &dyn Desk, what: &Revoke) -> Option<&'static str> {
    let text = fs::read_to_string(certificate_path(&desk.here()?.host_key)).ok()?;
    let own = Certificate::from_openssh(text.trim()).ok()?;
    let is_host = |kind: &CertificateKind| *kind == CertificateKind::Host;
    let (meets, way_on) = match what {
        Revoke::Serial(serial) => (own.serial() == *serial, SIGN_AGAIN),
        Revoke::Serials { first, last } => ((*first..=*last).contains(&own.serial()), SIGN_AGAIN),
        Revoke::Host(name) => (own.principals().iter().any(|own| own == name.as_bytes()), SIGN_AGAIN),
        Revoke::Key(fingerprint) => (
            own.public_key().fingerprint() == *fingerprint,
            "give it another host key, and sign that (usshca host sign)",
        ),
        Revoke::KeyId { kind, key_id } => {
            (is_host(kind) && own.key_id() == key_id.as_bytes(), "sign its host key under another first name")
        }
        Revoke::Ca { kind, .. } => (is_host(kind), "sign its host key by another CA key"),
        // Before has a note of its own.
        Revoke::User(_) | Revoke::Before { .. } => (false, ""),
    };
    meets.then_some(way_on)
}

fn describe(what: &Revoke) -> String {
    let shown = |text: &str| escape(text.as_bytes(), MAX_FIELD);
    let of = |kind: &CertificateKind| match kind {
        CertificateKind::User => "user",
        CertificateKind::Host => "host",
    };
    match what {
        Revoke::Serial(serial) => format!("serial {serial}"),
        Revoke::User(name) => format!("what user {} was given so far", shown(name)),
        Revoke::Host(name) => format!("what host {} was given so far", shown(name)),
        Revoke::Key(fingerprint) => format!("key {}", shown(fingerprint)),
        Revoke::KeyId { kind, key_id } => format!("the {} key ID {}", of(kind), shown(key_id)),
        Revoke::Before { kind, time } => format!("all {} certificates issued before {}", of(kind), utc(*time)),
        Revoke::Ca { kind, .. } => format!("the {} CA's key", of(kind)),
        Revoke::Serials { first, last } => format!("the serials {first} to {last}"),
    }
}

fn undo(desk: &dyn Desk, args: &RevokeArgs, act: u64) -> Result<(), Failure> {
    let Reply::Lifted { certificates, held, already } = desk.link()?.ask(&Request::Lift { act })? else {
        return Err(unexpected());
    };
    print(
        desk,
        &match (args.json, already) {
            (true, _) => json::line(&json!({
                "revocation": act.to_string(),
                "certificates": certificates,
                "still_revoked": held,
                "already": already,
            })),
            (false, true) => format!("revocation {act} was undone before\n"),
            (false, false) => {
                let good = match certificates {
                    1 => "1 certificate is good again".to_owned(),
                    count => format!("{count} certificates are good again"),
                };
                let (stay, taken) = match held {
                    0 => (String::new(), "take again what it was about"),
                    1 => {
                        (", 1 stays revoked by another revocation".to_owned(), "take again what no other one is about")
                    }
                    held => {
                        (format!(", {held} stay revoked by other revocations"), "take again what no other one is about")
                    }
                };
                format!("revocation {act} undone, {good}{stay}; {}\n", next_steps(desk, taken))
            }
        },
    )
}

/// Lists what was revoked, newest first.
pub fn list(desk: &dyn Desk, args: &RevocationsArgs) -> Result<(), Failure> {
    let acts = receive(desk, desk.link()?.as_ref())?;
    if args.json {
        let lines: Vec<String> = acts.iter().map(|act| json::line(&to_json(act))).collect();
        return print(desk, &lines.concat());
    }
    let rows: Vec<Vec<String>> = acts.iter().map(to_row).collect();
    print(desk, &table::render(&HEAD, &rows))
}

fn receive(desk: &dyn Desk, link: &dyn Link) -> Result<Vec<Revocation>, Failure> {
    let mut acts: Vec<Revocation> = Vec::new();
    let mut before = u64::MAX;
    loop {
        let Reply::Revocations(page) = link.ask(&Request::Revocations { before, limit: PAGE })? else {
            return Err(unexpected());
        };
        match page.last() {
            // Numbers only go down: or this would never end.
            Some(last) if last.id < before => before = last.id,
            _ => return Ok(acts),
        }
        acts.extend(page);
        if acts.len() as u64 > desk.most_rows() {
            return Err(too_many(desk));
        }
    }
}

fn subject(act: &Revocation) -> String {
    let value = match (act.scope.as_str(), act.value.parse()) {
        ("before", Ok(time)) => utc(time),
        _ => escape(act.value.as_bytes(), MAX_FIELD),
    };
    match act.scope.as_str() {
        "before" => format!("{} certificates before {value}", act.kind),
        "key ID" => format!("{} key ID {value}", act.kind),
        "ca" => format!("{} CA {value}", act.kind),
        scope => format!("{scope} {value}"),
    }
}

fn to_row(act: &Revocation) -> Vec<String> {
    let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { escape(text.as_bytes(), MAX_FIELD) };
    vec![
        act.id.to_string(),
        subject(act),
        act.certificates.to_string(),
        utc(act.at),
        shown(&act.by),
        if act.reason.is_empty() { "-".to_owned() } else { escape_text(&act.reason, MAX_FIELD) },
        act.lifted.map_or_else(|| "-".to_owned(), utc),
        shown(act.lifted_by.as_deref().unwrap_or_default()),
    ]
}

fn to_json(act: &Revocation) -> serde_json::Value {
    json!({
        "revocation": act.id.to_string(),
        "scope": act.scope,
        "kind": act.kind,
        "value": act.value,
        "certificates": act.certificates,
        "at": act.at,
        "by": act.by,
        "reason": act.reason,
        "undone": act.lifted,
        "undone_by": act.lifted_by,
    })
}
