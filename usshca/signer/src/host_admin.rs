//! What administrators ask about hosts, and the answers.

use ussh_core::keys::PublicKey;
use usshca_ipc::admin::Reply;
use usshca_ipc::host::Secret;

use crate::admin::{MAX_REASON, MAX_ROWS, fitting};
use crate::ca::{Ca, HostRequest};
use crate::inventory::{InventoryError, TokenRevocation};
use crate::refused::Refused;

type Answer = Result<Reply, InventoryError>;

/// A certificate.
pub fn sign(ca: &mut Ca, request: &HostRequest, by: &str) -> Reply {
    let name = request.principals.first().map_or("", String::as_str);
    // What it signs is revoked from birth.
    let (_, host_ca) = ca.public_keys();
    match ca.inventory().revocation_of_ca(&host_ca.fingerprint()) {
        Ok(None) => {}
        Ok(Some(act)) => {
            return Reply::Refused(format!(
                "no host certificate: the host CA's key itself is revoked, so that whoever has the KRL would not take it: lift that (usshca revoke --undo {act}), or give the CA another host CA key"
            ));
        }
        Err(e) => return Reply::Refused(e.to_string()),
    }
    // A key that is none is refused below.
    let key = PublicKey::from_blob(&request.public_key).ok();
    let taken_from = match key.map(|key| ca.other_host_with(&key, name)).transpose() {
        Ok(other) => other.flatten(),
        Err(e) => return Reply::Refused(e.to_string()),
    };
    match ca.issue_host(request, by) {
        Ok(certificate) => {
            Reply::HostCertificate { line: certificate.to_openssh(name), serial: certificate.serial(), taken_from }
        }
        Err(
            refused @ (Refused::Policy(_)
            | Refused::TooMany { .. }
            | Refused::Key(_)
            | Refused::CaKey
            | Refused::KeyRevoked
            | Refused::KeyIdRevoked
            | Refused::Host(_)),
        ) => Reply::Refused(format!("no host certificate: {refused}")),
        Err(refused) => Reply::Refused(refused.to_string()),
    }
}

/// A token.
pub fn token(ca: &mut Ca, names: &[String], life: u64, by: &str) -> Reply {
    match ca.make_host_token(names, life, by) {
        Ok(new) => Reply::HostToken { secret: Secret::new(new.secret.to_text()), token: new.token },
        Err(refused) => Reply::Refused(format!("no token: {refused}")),
    }
}

/// Those that can still be used.
pub fn tokens(ca: &mut Ca, before: u64, limit: u32) -> Answer {
    let now = ca.now();
    Ok(Reply::HostTokens(fitting(ca.inventory().open_tokens(now, before, limit.min(MAX_ROWS))?)))
}

/// Makes one useless.
pub fn revoke_token(ca: &mut Ca, id: u64, by: &str) -> Answer {
    let why = match ca.revoke_host_token(id, by)? {
        TokenRevocation::Done => return Ok(Reply::HostTokenRevoked),
        TokenRevocation::Useless => format!("token {id} cannot be used any more as it is"),
        TokenRevocation::Unknown => format!("there is no token {id}"),
    };
    Ok(Reply::Refused(format!("{why}; `usshca host tokens` shows those that can be used")))
}

/// As many as fit.
pub fn list(ca: &mut Ca, after: &str, limit: u32) -> Answer {
    Ok(Reply::Hosts(fitting(ca.inventory().hosts(after, limit.min(MAX_ROWS))?)))
}

/// One.
pub fn show(ca: &mut Ca, name: &str) -> Answer {
    Ok(ca.inventory().host(name)?.map_or_else(unknown, |host| Reply::Host(Box::new(host))))
}

/// Takes one out.
pub fn remove(ca: &mut Ca, name: &str, reason: &str, by: &str) -> Answer {
    if reason.len() > MAX_REASON {
        return Ok(Reply::Refused(format!("the reason is longer than {MAX_REASON} bytes")));
    }
    Ok(ca.remove_host(name, by, reason)?.map_or_else(unknown, |certificates| Reply::HostRemoved { certificates }))
}

fn unknown() -> Reply {
    Reply::Refused("there is no host of this name; `usshca host list` shows them all, by their first names".to_owned())
}
