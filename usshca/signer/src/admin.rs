//! What administrators ask, and the answers. Who may ask is checked before.

use serde::Serialize;
use ussh_core::certificate::Certificate;
use ussh_core::escape::MAX_FIELD;
use ussh_os::agent_socket::Peer;
use usshca_ipc::admin::{Reply, Request, Revoke, Revoked, Shown};
use usshca_ipc::channel::encode;

use crate::ca::{Ca, HostRequest, sha256_of};
use crate::explain::explain;
use crate::inventory::{InventoryError, Lifted, Revocation};
use crate::refused::Refused;

/// Most rows of one answer.
pub const MAX_ROWS: u32 = 500;
/// Most bytes of one answer's contents: well below a packet.
pub const MAX_ANSWER: usize = 128 * 1024;
/// Longest reason of a revocation, in bytes.
const MAX_REASON: usize = 1024;

/// The answers to one question, in order.
pub fn answer(ca: &mut Ca, peer: &Peer, request: Request) -> Vec<Reply> {
    let by = format!("admin uid {}", peer.uid);
    let answer = match request {
        Request::List { before, limit } => list(ca, before, limit),
        Request::Show { serial } => show(ca, serial),
        Request::Revoke { what, reason } => revoke(ca, what, &reason, &by),
        Request::Lift { act } => lift(ca, act, &by),
        Request::Revocations { before, limit } => revocations(ca, before, limit),
        Request::Krl => return krl(ca),
        Request::HostSign { public_key, principals, validity_seconds } => {
            Ok(host_sign(ca, &HostRequest { public_key, principals, validity_seconds }, &by))
        }
        Request::Keys => Ok(keys(ca)),
        Request::Explain(supposed) => Ok(match explain(ca.policy(), &supposed, ca.now()) {
            Ok(explained) => Reply::Explained(Box::new(explained)),
            Err(why) => Reply::Refused(why),
        }),
        Request::KeyRegister { user, public_key, comment } => {
            crate::registered::register(ca, &user, &public_key, &comment, &by)
        }
        Request::KeyList { user, before, limit } => crate::registered::list(ca, user.as_deref(), before, limit),
        Request::KeyRemove { fingerprint } => crate::registered::remove(ca, &fingerprint, &by),
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

fn show(ca: &mut Ca, serial: u64) -> Result<Reply, InventoryError> {
    let Some(found) = ca.inventory().find(serial)? else {
        return Ok(unknown(serial));
    };
    let certificate = found.certificate.as_deref().map(Certificate::parse).transpose();
    Ok(match certificate {
        Ok(certificate) => Reply::Shown(Box::new(Shown {
            entry: found.entry,
            certificate: certificate.map(|c| c.to_openssh("")),
            revoked_by: found.revoked_by,
            revocation_reason: found.revocation_reason,
        })),
        Err(e) => Reply::Refused(format!("the certificate in the inventory does not read: {e}")),
    })
}

fn revoke(ca: &mut Ca, what: Revoke, reason: &str, by: &str) -> Result<Reply, InventoryError> {
    if reason.len() > MAX_REASON {
        return Ok(Reply::Refused(format!("the reason is longer than {MAX_REASON} bytes")));
    }
    if let Err(why) = check(&what) {
        return Ok(Reply::Refused(why));
    }
    let missing = match &what {
        Revoke::Serial(serial) => unknown(*serial),
        Revoke::User(_) => Reply::Refused("this user has no certificate that is not over".to_owned()),
        Revoke::Host(_) => Reply::Refused("no host of this name has a certificate that is not over".to_owned()),
        Revoke::Key(_) | Revoke::KeyId { .. } | Revoke::Before { .. } | Revoke::Ca { .. } => {
            Reply::Refused("there is no such certificate".to_owned())
        }
    };
    Ok(match ca.revoke(what, by, reason)? {
        Revocation::Done { act, certificates } => Reply::Revoked(Some(Revoked { act, certificates })),
        Revocation::Already => Reply::Revoked(None),
        Revocation::Unknown => missing,
    })
}

/// What could never match would look like a revocation, and be none.
fn check(what: &Revoke) -> Result<(), String> {
    let name = |name: &str| {
        if name.is_empty() || name.len() > MAX_FIELD { Err("a name of 1 to 256 bytes".to_owned()) } else { Ok(()) }
    };
    match what {
        Revoke::User(text) | Revoke::Host(text) | Revoke::KeyId { key_id: text, .. } => name(text),
        Revoke::Key(fingerprint) if sha256_of(fingerprint).is_none() => Err("no SHA256 fingerprint".to_owned()),
        Revoke::Serial(_) | Revoke::Key(_) | Revoke::Before { .. } | Revoke::Ca { .. } => Ok(()),
    }
}

fn lift(ca: &mut Ca, act: u64, by: &str) -> Result<Reply, InventoryError> {
    Ok(match ca.lift(act, by)? {
        Lifted::Done { certificates } => Reply::Lifted { certificates, already: false },
        Lifted::Already => Reply::Lifted { certificates: 0, already: true },
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

fn host_sign(ca: &mut Ca, request: &HostRequest, by: &str) -> Reply {
    match ca.issue_host(request, by) {
        Ok(certificate) => Reply::HostCertificate {
            line: certificate.to_openssh(request.principals.first().map_or("", String::as_str)),
            serial: certificate.serial(),
        },
        Err(
            refused @ (Refused::Policy(_)
            | Refused::TooMany(_)
            | Refused::Key(_)
            | Refused::CaKey
            | Refused::KeyRevoked
            | Refused::Host(_)),
        ) => Reply::Refused(format!("no host certificate: {refused}")),
        Err(refused) => Reply::Refused(refused.to_string()),
    }
}

fn keys(ca: &Ca) -> Reply {
    let (user_ca, host_ca) = ca.public_keys();
    Reply::Keys { user_ca: user_ca.to_openssh("user CA"), host_ca: host_ca.to_openssh("host CA") }
}
