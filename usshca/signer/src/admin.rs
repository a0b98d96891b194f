//! What administrators ask, and the answers. Who may ask is checked before.

use serde::Serialize;
use ussh_core::certificate::{Certificate, CertificateOption};
use ussh_core::clock::UnixTime;
use ussh_core::escape::MAX_FIELD;
use ussh_core::feed::Handover;
use ussh_core::keys::PublicKey;
use usshca_ipc::admin::{Cursor, Entry, Find, Recorded, Reply, Request, Revoke, Revoked, Shown, Supposed};
use usshca_ipc::channel::encode;

use crate::ca::{Ca, HostRequest, sha256_of};
use crate::explain::explain;
use crate::host_admin;
use crate::inventory::{COUNTER_BITS, Details, InventoryError, Lifted, RecordedRow, Revocation};
use crate::policy::Proofs;

/// Most rows of one answer.
pub const MAX_ROWS: u32 = 500;
/// Most bytes of one answer's contents: well below a packet.
pub const MAX_ANSWER: usize = 128 * 1024;
/// Our own extension: when the user last logged in. Not of policy's making.
const LOGIN_TIME: &str = "login-time@ussh";
/// Longest reason of a revocation, in bytes.
pub const MAX_REASON: usize = 1024;

/// The answers to one question, in order; `by` is who asks, for the inventory and the log.
pub fn answer(ca: &mut Ca, by: &str, request: Request) -> Vec<Reply> {
    let answer = match request {
        Request::List { before, limit } => list(ca, before, limit),
        Request::Show { serial } => show(ca, serial),
        Request::Revoke { what, reason } => revoke(ca, what, &reason, by),
        Request::Lift { act } => lift(ca, act, by),
        Request::Revocations { before, limit } => revocations(ca, before, limit),
        Request::Krl => return krl(ca),
        Request::HostSign { public_key, principals, validity_seconds, take_key } => {
            Ok(host_admin::sign(ca, &HostRequest { public_key, principals, validity_seconds, take_key }, by))
        }
        Request::Keys => Ok(keys(ca)),
        Request::Explain(supposed) => Ok(match explain(ca.policy(), &supposed, ca.now()) {
            Ok(explained) => Reply::Explained(Box::new(explained)),
            Err(why) => Reply::Refused(why),
        }),
        Request::Feed { valid_seconds, signed } => return feed(ca, valid_seconds, signed),
        Request::FeedKey => Ok(feed_key(ca)),
        Request::FeedKeyRotate { to } => Ok(rotate(ca, to.as_deref(), by)),
        Request::FeedKeyHandedOver { manifest, signature } => Ok(handed_over(ca, Handover { manifest, signature }, by)),
        Request::Find { find, cursor, limit } => find_rows(ca, &find, cursor, limit),
        Request::Recorded { since, cursor } => recorded(ca, since, cursor),
        Request::Lost => ca.inventory().lost_serials().map(Reply::Lost),
        Request::HostToken { principals, life_seconds } => Ok(host_admin::token(ca, &principals, life_seconds, by)),
        Request::HostTokens { before, limit } => host_admin::tokens(ca, before, limit),
        Request::HostTokenRevoke { id } => host_admin::revoke_token(ca, id, by),
        Request::Hosts { after, limit } => host_admin::list(ca, &after, limit),
        Request::HostShow { name } => host_admin::show(ca, &name),
        Request::HostRemove { name, reason } => host_admin::remove(ca, &name, &reason, by),
        Request::KeyRegister { user, public_key, comment } => {
            crate::registered::register(ca, &user, &public_key, &comment, by)
        }
        Request::KeyList { user, before, limit } => crate::registered::list(ca, user.as_deref(), before, limit),
        Request::KeyRemove { fingerprint } => crate::registered::remove(ca, &fingerprint, by),
        Request::ShowRow { row } => show_row(ca, row),
        Request::Latest => ca.inventory().latest().map(|(row, krl_version)| Reply::Latest { row, krl_version }),
    };
    vec![answer.unwrap_or_else(|e| Reply::Refused(e.to_string()))]
}

/// As many rows as fit: an administrator asks on until none are left.
fn list(ca: &mut Ca, before: u64, limit: u32) -> Result<Reply, InventoryError> {
    Ok(Reply::List(fitting(ca.inventory().list(before, limit.min(MAX_ROWS))?)))
}

/// The first of them, as many as fit into an answer.
pub fn fitting<T: Serialize>(mut rows: Vec<T>) -> Vec<T> {
    let mut size = 0;
    rows.retain(|row| {
        size += encode(row).map_or(MAX_ANSWER, |bytes| bytes.len());
        size <= MAX_ANSWER
    });
    rows
}

fn find_rows(ca: &mut Ca, find: &Find, cursor: Cursor, limit: u32) -> Result<Reply, InventoryError> {
    let page = ca.inventory().search(find, cursor, limit.min(MAX_ROWS))?;
    let (rows, next) = fitting_page(page.rows, page.next, |row: &Entry| row.row);
    Ok(Reply::Found { rows, next })
}

fn recorded(ca: &mut Ca, since: u64, cursor: Cursor) -> Result<Reply, InventoryError> {
    let page = ca.inventory().recorded(since, cursor, MAX_ROWS)?;
    let rows = page.rows.into_iter().map(as_recorded).collect();
    let (rows, next) = fitting_page(rows, page.next, |row: &Recorded| row.entry.row);
    Ok(Reply::Recorded { rows, next })
}

/// The first of them, as many as fit into an answer, and where to go on.
fn fitting_page<T: Serialize>(rows: Vec<T>, next: Option<Cursor>, row: impl Fn(&T) -> u64) -> (Vec<T>, Option<Cursor>) {
    let count = rows.len();
    let first = rows.first().map(&row);
    let rows = fitting(rows);
    if rows.len() == count {
        return (rows, next);
    }
    // One that does not fit by itself is passed over: no row is that long.
    let before = rows.last().map(&row).or(first).unwrap_or_default();
    (rows, Some(Cursor { before, floor: next.and_then(|next| next.floor).or(Some(0)) }))
}

fn as_recorded(row: RecordedRow) -> Recorded {
    let certificate = row.certificate.as_deref().and_then(|blob| Certificate::parse(blob).ok());
    let proofs = Proofs { pam: row.request.pam, publickey: row.request.publickey };
    Recorded {
        granted: row.granted,
        critical_options: certificate.as_ref().map(|c| named(c.critical_options())),
        extensions: certificate.as_ref().map(|c| {
            let names = c.extensions().iter().map(|o| text(&o.name));
            names.filter(|name| name != LOGIN_TIME).collect()
        }),
        supposed: Supposed {
            user: row.entry.key_id.clone(),
            groups: row.request.groups,
            source: row.request.source,
            time: Some(row.entry.asked),
            authentication: proofs.to_string(),
            mode: row.request.mode,
            key_type: row.request.key_kind,
            wish: row.request.wish,
            reason_if_demanded: false,
        },
        entry: row.entry,
    }
}

fn named(options: &[CertificateOption]) -> Vec<(String, String)> {
    options.iter().map(|o| (text(&o.name), text(o.string_value().unwrap_or_default()))).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn show(ca: &mut Ca, serial: u64) -> Result<Reply, InventoryError> {
    Ok(ca.inventory().find(serial)?.map_or_else(|| unknown(serial), shown))
}

fn show_row(ca: &mut Ca, row: u64) -> Result<Reply, InventoryError> {
    let unknown = || {
        Reply::Refused(format!(
            "there is no row r{row}; of logins that were refused only the newest are kept; `usshca list` shows them all"
        ))
    };
    Ok(ca.inventory().row(row)?.map_or_else(unknown, shown))
}

fn shown(found: Details) -> Reply {
    let certificate = found.certificate.as_deref().map(Certificate::parse).transpose();
    match certificate {
        Ok(certificate) => Reply::Shown(Box::new(Shown {
            entry: found.entry,
            certificate: certificate.map(|c| c.to_openssh("")),
            revoked_by: found.revoked_by,
            revocation_reason: found.revocation_reason,
        })),
        Err(e) => Reply::Refused(format!("the certificate in the inventory does not read: {e}")),
    }
}

fn revoke(ca: &mut Ca, what: Revoke, reason: &str, by: &str) -> Result<Reply, InventoryError> {
    if reason.len() > MAX_REASON {
        return Ok(Reply::Refused(format!("the reason is longer than {MAX_REASON} bytes")));
    }
    if let Err(why) = check(&what, ca.now()) {
        return Ok(Reply::Refused(why));
    }
    if let Revoke::Serials { first, last } = what
        && !ca.inventory().are_given(first, last)?
    {
        return Ok(Reply::Refused("some of these serials are still to be given".to_owned()));
    }
    let missing = match &what {
        Revoke::Serial(serial) => unknown(*serial),
        Revoke::User(_) => Reply::Refused("this user has no certificate that is not over".to_owned()),
        Revoke::Host(_) => Reply::Refused("no host of this name has a certificate that is not over".to_owned()),
        Revoke::Key(_) | Revoke::KeyId { .. } | Revoke::Before { .. } | Revoke::Ca { .. } | Revoke::Serials { .. } => {
            Reply::Refused("there is no such certificate".to_owned())
        }
    };
    Ok(match ca.revoke(what, by, reason)? {
        Revocation::Done { act, certificates, held } => Reply::Revoked(Some(Revoked { act, certificates, held })),
        Revocation::Already => Reply::Revoked(None),
        Revocation::Unknown => missing,
    })
}

/// What could never match would look like a revocation, and be none.
fn check(what: &Revoke, now: UnixTime) -> Result<(), String> {
    let name = |name: &str| {
        if name.is_empty() || name.len() > MAX_FIELD { Err("a name of 1 to 256 bytes".to_owned()) } else { Ok(()) }
    };
    match what {
        Revoke::User(text) | Revoke::Host(text) | Revoke::KeyId { key_id: text, .. } => name(text),
        Revoke::Key(fingerprint) if sha256_of(fingerprint).is_none() => Err("no SHA256 fingerprint".to_owned()),
        Revoke::Serials { first, last } if !is_range(*first, *last) => {
            Err("the first of the serials must be above 0 and not above the last, both with the same upper 24 bits"
                .to_owned())
        }
        // What is issued from now on would not be in it, and asked again it would seem to be.
        Revoke::Before { time, .. } if *time > now.0 => Err(format!(
            "only what was issued up to now can be revoked, and this time is {} seconds ahead; once it has come, ask again",
            time.saturating_sub(now.0)
        )),
        Revoke::Serial(_) | Revoke::Key(_) | Revoke::Before { .. } | Revoke::Ca { .. } | Revoke::Serials { .. } => {
            Ok(())
        }
    }
}

/// Of one epoch: a range over several would hold what other databases of this CA may give yet.
fn is_range(first: u64, last: u64) -> bool {
    first != 0 && first <= last && first >> COUNTER_BITS == last >> COUNTER_BITS
}

fn lift(ca: &mut Ca, act: u64, by: &str) -> Result<Reply, InventoryError> {
    Ok(match ca.lift(act, by)? {
        Lifted::Done { certificates, held } => Reply::Lifted { certificates, held, already: false },
        Lifted::Already => Reply::Lifted { certificates: 0, held: 0, already: true },
        Lifted::Unknown => Reply::Refused(format!("there is no revocation {act}; `usshca revocations` shows them all")),
    })
}

fn revocations(ca: &mut Ca, before: u64, limit: u32) -> Result<Reply, InventoryError> {
    Ok(Reply::Revocations(fitting(ca.inventory().revocations(before, limit.min(MAX_ROWS))?)))
}

fn unknown(serial: u64) -> Reply {
    Reply::Refused(format!("there is no certificate with serial {serial}; `usshca list` shows them all"))
}

fn krl(ca: &mut Ca) -> Vec<Reply> {
    let krl = match ca.krl() {
        Ok(krl) => krl,
        Err(e) => return vec![Reply::Refused(e.to_string())],
    };
    let count = krl.len().div_ceil(MAX_ANSWER);
    let chunks = krl.chunks(MAX_ANSWER).zip(1..);
    chunks.map(|(chunk, number)| Reply::Krl { chunk: chunk.to_vec(), more: number < count }).collect()
}

fn feed(ca: &mut Ca, valid_seconds: Option<u64>, signed: bool) -> Vec<Reply> {
    let feed = match ca.feed(valid_seconds, signed) {
        Ok(feed) => feed,
        Err(e) => return vec![Reply::Refused(e.to_string())],
    };
    let count = feed.len().div_ceil(MAX_ANSWER);
    let chunks = feed.chunks(MAX_ANSWER).zip(1..);
    chunks.map(|(chunk, number)| Reply::Feed { chunk: chunk.to_vec(), more: number < count }).collect()
}

fn feed_key(ca: &Ca) -> Reply {
    let (key, held) = ca.feed_key();
    Reply::FeedKey { line: key.map(|key| key.to_openssh("")), held }
}

fn rotate(ca: &mut Ca, to: Option<&[u8]>, by: &str) -> Reply {
    let to = match to.map(PublicKey::from_blob).transpose() {
        Ok(to) => to,
        Err(e) => return Reply::Refused(format!("the new feed key: {e}")),
    };
    match ca.rotate_feed_key(to, by) {
        Ok(_) => feed_key(ca),
        Err(e) => Reply::Refused(e.to_string()),
    }
}

fn handed_over(ca: &mut Ca, handover: Handover, by: &str) -> Reply {
    match ca.feed_key_handed_over(handover, by) {
        Ok(_) => feed_key(ca),
        Err(e) => Reply::Refused(e.to_string()),
    }
}

fn keys(ca: &Ca) -> Reply {
    let (user_ca, host_ca) = ca.public_keys();
    Reply::Keys { user_ca: user_ca.to_openssh("user CA"), host_ca: host_ca.to_openssh("host CA") }
}
