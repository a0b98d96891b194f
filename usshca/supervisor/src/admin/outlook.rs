//! What keeps the CA, or its feed, from working, and does not show in its files.

use std::fs;
use std::path::Path;

use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::feed::{FEED, MAX_AHEAD};
use usshca_admin::desk::Link as _;
use usshca_ipc::admin::{Reply, Request, Revocation};
use usshca_ipc::layout::Layout;

use super::{Link, certificate_path, layout_flag, unexpected, utc};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::feed_folder::DRAFT;

/// Revocations asked for at a time.
const PAGE: u32 = 500;
/// Where it is written what to do.
const WAY_BACK: &str = "If the clock is right now: docs/operations.md, \"A clock that was far ahead\"";

/// A warning for each: what was written while the clock was ahead, and a feed whose key is elsewhere.
/// # Errors
/// The signer cannot be asked.
pub fn warnings(layout: &Layout, link: &Link, config: &Config) -> Result<Vec<String>, Failure> {
    let mut warnings: Vec<String> = ahead(layout, link)?.into_iter().collect();
    warnings.extend(own_certificate_revoked(layout, link)?);
    if let Some(folder) = config.publish.as_ref().filter(|folder| waits(folder)) {
        let reply = link.ask(&Request::FeedKey)?;
        if matches!(reply, Reply::FeedKey { held, .. } if held == "elsewhere") {
            let folder = folder.display();
            warnings.push(format!(
                "publish: the feed key is elsewhere: what is published waits in {folder}/feed.unsigned, and hosts hear of nothing until the folder was where the key is, for\n  usshca feed sign {folder} --key FILE"
            ));
        }
    }
    Ok(warnings)
}

/// Whether a draft waits for its signature, or nothing was ever published.
fn waits(folder: &Path) -> bool {
    folder.join(DRAFT).exists() || !folder.join(FEED).exists()
}

/// What the inventory holds of a time that is still to come, if that keeps the CA from its work.
/// # Errors
/// The signer cannot be asked.
pub fn ahead(layout: &Layout, link: &Link) -> Result<Option<String>, Failure> {
    let Reply::Latest { row, krl_version } = link.ask(&Request::Latest)? else {
        return Err(unexpected());
    };
    Ok(judged(row, krl_version, SystemClock.now().0)
        .map(|what| format!("{what}. {WAY_BACK} (usshca{} …)", layout_flag(layout))))
}

/// Whether the host certificate that the CA shows is revoked; whoever has the KRL refuses the CA then.
/// # Errors
/// The signer cannot be asked.
pub fn own_certificate_revoked(layout: &Layout, link: &Link) -> Result<Option<String>, Failure> {
    let text = fs::read_to_string(certificate_path(&layout.host_key)).unwrap_or_default();
    // One that cannot be read is another check's.
    let Ok(own) = Certificate::from_openssh(text.trim()) else { return Ok(None) };
    let revoked = match link.ask(&Request::Show { serial: own.serial() }) {
        Ok(Reply::Shown(shown)) => shown.entry.revoked,
        Ok(_) => return Err(unexpected()),
        // Another CA's, or of before an inventory that was put back.
        Err(failure) if failure.exit == Exit::Refused => None,
        Err(failure) => return Err(failure),
    };
    let Some(at) = revoked else { return Ok(None) };
    let dir = layout_flag(layout);
    let again = format!("sign its host key again (usshca{dir} host sign), and let the CA read it (SIGHUP)");
    let way = match revocation_of_ca(link, &own.ca().fingerprint())? {
        Some(act) => format!(
            "with the host CA's key, so that none by that key is good: lift that (usshca{dir} revoke --undo {act}); or give the CA another host CA key, {again}"
        ),
        None => again,
    };
    Ok(Some(format!("the CA's own host certificate (serial {}) was revoked at {}: {way}", own.serial(), utc(at))))
}

/// The number of the revocation of a CA's key itself that stands.
fn revocation_of_ca(link: &Link, fingerprint: &str) -> Result<Option<u64>, Failure> {
    let mut before = u64::MAX;
    loop {
        let Reply::Revocations(acts) = link.ask(&Request::Revocations { before, limit: PAGE })? else {
            return Err(unexpected());
        };
        let is_it = |act: &&Revocation| act.scope == "ca" && act.value == fingerprint && act.lifted.is_none();
        if let Some(act) = acts.iter().find(is_it) {
            return Ok(Some(act.id));
        }
        match acts.last() {
            // Numbers only go down: or this would never end.
            Some(last) if last.id < before => before = last.id,
            _ => return Ok(None),
        }
    }
}

fn judged(row: u64, krl_version: u64, now: u64) -> Option<String> {
    if krl_version >= now.saturating_add(MAX_AHEAD) {
        let version = utc(krl_version);
        return Some(format!(
            "the last KRL's version is {version}, more than a day ahead of the clock: no host would take another one, and none is made"
        ));
    }
    (row > now).then(|| {
        format!(
            "the inventory's newest row is of {}, ahead of the clock: nobody gets a certificate until then",
            utc(row)
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_feed_that_was_signed_waits_for_nothing_until_there_is_the_next_draft() {
        let folder = tempfile::tempdir().unwrap();
        assert!(waits(folder.path()));
        fs::write(folder.path().join(FEED), "").unwrap();
        assert!(!waits(folder.path()));
        fs::write(folder.path().join(DRAFT), "").unwrap();
        assert!(waits(folder.path()));
    }

    #[test]
    fn what_lies_ahead_of_the_clock_is_said_and_no_more_than_that() {
        const NOW: u64 = 1_800_000_000;
        assert_eq!(judged(NOW, NOW, NOW), None);
        // KRLs made within one second count ahead.
        assert_eq!(judged(NOW, NOW + MAX_AHEAD - 1, NOW), None);
        assert!(judged(NOW, NOW + MAX_AHEAD, NOW).is_some_and(|said| said.contains("KRL")));
        assert!(judged(NOW + 1, NOW, NOW).is_some_and(|said| said.contains("newest row")));
    }
}
