//! What administrators do with registered keys. Each change is a line of the log.

use ussh_core::escape::MAX_FIELD;
use ussh_core::keys::PublicKey;
use usshca_ipc::admin::Reply;

use crate::admin::{MAX_ROWS, fitting};
use crate::ca::{Ca, sha256_of};
use crate::inventory::{InventoryError, Registration};
use crate::log;
use crate::policy::is_principal;

/// Registers a key; `by` is who asked.
pub fn register(ca: &mut Ca, user: &str, blob: &[u8], comment: &str, by: &str) -> Result<Reply, InventoryError> {
    if !is_principal(user) {
        return Ok(Reply::Refused("no such account can have a certificate: the name cannot be a principal".to_owned()));
    }
    if comment.len() > MAX_FIELD {
        return Ok(Reply::Refused(format!("the comment is longer than {MAX_FIELD} bytes")));
    }
    let key = match PublicKey::from_blob(blob) {
        Ok(key) => key,
        Err(e) => return Ok(Reply::Refused(e.to_string())),
    };
    let (user_ca, host_ca) = ca.public_keys();
    if key == user_ca || key == host_ca || ca.feed_key().0.as_ref() == Some(&key) {
        return Ok(Reply::Refused("this key is a CA's own".to_owned()));
    }
    // Whoever is root on that host would be this user.
    if let Some(host) = ca.other_host_with(&key, "")? {
        return Ok(Reply::Refused(format!(
            "this key is host {host}'s, and whoever is root there would log in as {user} by it: take a key of the user's own"
        )));
    }
    let now = ca.now();
    Ok(match ca.inventory().register_key(user, &key, comment, now, by)? {
        Registration::Done => {
            log::info(&format!("Registered key {} ({}) for {user} by {by}", key.fingerprint(), key.short_type()));
            Reply::KeyRegistered { already: false }
        }
        Registration::Already => Reply::KeyRegistered { already: true },
        Registration::OfAnother(holder) => Reply::Refused(format!(
            "this key is registered for {holder}; a key is of one account: usshca key remove {}",
            key.fingerprint()
        )),
        Registration::Revoked => {
            Reply::Refused("this key is revoked (usshca revocations); lift that first, or take another key".to_owned())
        }
    })
}

/// As many as fit: an administrator asks on until none are left.
pub fn list(ca: &mut Ca, user: Option<&str>, before: u64, limit: u32) -> Result<Reply, InventoryError> {
    Ok(Reply::RegisteredKeys(fitting(ca.inventory().registered_keys(user, before, limit.min(MAX_ROWS))?)))
}

/// Ends a registration; `by` is who asked.
pub fn remove(ca: &mut Ca, fingerprint: &str, by: &str) -> Result<Reply, InventoryError> {
    if sha256_of(fingerprint).is_none() {
        return Ok(Reply::Refused("no SHA256 fingerprint".to_owned()));
    }
    let now = ca.now();
    Ok(match ca.inventory().remove_key(fingerprint, now, by)? {
        Some(user) => {
            log::info(&format!("Removed key {fingerprint} of {user} by {by}"));
            Reply::KeyRemoved { user }
        }
        None => Reply::Refused("no such key is registered; `usshca key list` shows them all".to_owned()),
    })
}
