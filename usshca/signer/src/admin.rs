//! What administrators ask, and the answers. Who may ask is checked before.

use ussh_core::certificate::Certificate;
use ussh_os::agent_socket::Peer;
use usshca_ipc::admin::{Reply, Request, Shown};
use usshca_ipc::channel::encode;

use crate::ca::{Ca, HostRequest, Refused};
use crate::explain::explain;
use crate::inventory::{InventoryError, Revocation};

/// Most rows of one answer.
const MAX_ROWS: u32 = 500;
/// Most bytes of one answer's contents: well below a packet.
const MAX_ANSWER: usize = 128 * 1024;
/// Longest reason of a revocation, in bytes.
const MAX_REASON: usize = 1024;

/// The answers to one question, in order.
pub fn answer(ca: &mut Ca, peer: &Peer, request: Request) -> Vec<Reply> {
    let by = format!("admin uid {}", peer.uid);
    let answer = match request {
        Request::List { before, limit } => list(ca, before, limit),
        Request::Show { serial } => show(ca, serial),
        Request::Revoke { serial, reason } => revoke(ca, serial, &reason, &by),
        Request::Krl => return krl(ca),
        Request::HostSign { public_key, principals, validity_seconds } => {
            Ok(host_sign(ca, &HostRequest { public_key, principals, validity_seconds }, &by))
        }
        Request::Keys => Ok(keys(ca)),
        Request::Explain(supposed) => Ok(match explain(ca.policy(), &supposed, ca.now()) {
            Ok(explained) => Reply::Explained(Box::new(explained)),
            Err(why) => Reply::Refused(why),
        }),
    };
    vec![answer.unwrap_or_else(|e| Reply::Refused(e.to_string()))]
}

/// As many rows as fit: an administrator asks on until none are left.
fn list(ca: &mut Ca, before: u64, limit: u32) -> Result<Reply, InventoryError> {
    let mut size = 0;
    let mut rows = ca.inventory().list(before, limit.min(MAX_ROWS))?;
    rows.retain(|row| {
        size += encode(row).map_or(MAX_ANSWER, |bytes| bytes.len());
        size <= MAX_ANSWER
    });
    Ok(Reply::List(rows))
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

fn revoke(ca: &mut Ca, serial: u64, reason: &str, by: &str) -> Result<Reply, InventoryError> {
    if reason.len() > MAX_REASON {
        return Ok(Reply::Refused(format!("the reason is longer than {MAX_REASON} bytes")));
    }
    Ok(match ca.revoke(serial, by, reason)? {
        Revocation::Done => Reply::Revoked { already: false },
        Revocation::Already => Reply::Revoked { already: true },
        Revocation::Unknown => unknown(serial),
    })
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
            refused @ (Refused::Policy(_) | Refused::TooMany(_) | Refused::Key(_) | Refused::CaKey | Refused::Host(_)),
        ) => Reply::Refused(format!("no host certificate: {refused}")),
        Err(refused) => Reply::Refused(refused.to_string()),
    }
}

fn keys(ca: &Ca) -> Reply {
    let (user_ca, host_ca) = ca.public_keys();
    Reply::Keys { user_ca: user_ca.to_openssh("user CA"), host_ca: host_ca.to_openssh("host CA") }
}
