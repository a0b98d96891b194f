//! Which key signs the feed, and which feed was taken last: `feed.json` in the state folder, root's alone. It is written before any file of a feed is put in place.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ussh_core::clock::UnixTime;
use ussh_core::feed::{Pinned, Taken, VerifiedFeed};
use ussh_core::keys::PublicKey;
use ussh_core::trusted_file::read_trusted;

use crate::config::SyncConfig;
use crate::own_file::{self, OwnFileError, read_if_named};
use crate::place::NewFile;
use crate::report::span;

const FILE: &str = "feed.json";
/// The one version that is read.
const VERSION: u32 = 1;
/// Largest file, bytes: that of a feed key as well.
const MAX_FILE: usize = 64 * 1024;

/// Why it is not known whose feed to take. A feed without a signature is not taken then either.
pub type PinnedError = OwnFileError;

/// A feed that was taken, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its manifest.
    digest: [u8; 32],
    /// The CA's name in it, escaped by its own rules.
    pub ca: String,
    /// Seconds since the epoch.
    pub generated: u64,
    /// Seconds since the epoch, exclusive.
    pub valid_until: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: u32,
    feed_key: String,
    last: Option<Last>,
}

/// What a host goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPin {
    /// The feed key.
    pub key: PublicKey,
    /// The feed that was taken last; `None`: none yet.
    pub last: Option<Last>,
}

impl FeedPin {
    /// A key of which no feed was taken yet.
    pub fn new(key: PublicKey) -> Self {
        FeedPin { key, last: None }
    }

    /// After this feed was taken.
    pub fn after(feed: &VerifiedFeed) -> Self {
        let (manifest, taken) = (feed.manifest(), feed.taken());
        let last = Last {
            version: taken.version,
            digest: taken.digest,
            ca: manifest.ca.clone(),
            generated: manifest.generated,
            valid_until: manifest.valid_until,
        };
        FeedPin { key: feed.pin().clone(), last: Some(last) }
    }

    /// The one that is remembered; or, before any is, that of the configuration. `None`: no feed key is pinned.
    /// # Errors
    /// [`PinnedError`]
    pub fn read(state: &Path, sync: &SyncConfig) -> Result<Option<Self>, PinnedError> {
        if let Some(pin) = Self::remembered(state)? {
            return Ok(Some(pin));
        }
        let Some(path) = &sync.feed_key else { return Ok(None) };
        let text = String::from_utf8(read_trusted(path, MAX_FILE)?);
        let text = text.map_err(|_| PinnedError::content(path, "no text"))?;
        let key = PublicKey::from_openssh(text.trim()).map_err(|e| PinnedError::content(path, e))?;
        Ok(Some(FeedPin::new(key)))
    }

    /// The one that is remembered.
    /// # Errors
    /// [`PinnedError`]
    pub fn remembered(state: &Path) -> Result<Option<Self>, PinnedError> {
        let path = state.join(FILE);
        // One that points nowhere is not none: a key was pinned once.
        let Some(data) = read_if_named(&path, MAX_FILE)? else { return Ok(None) };
        let text: Text = own_file::parse(&path, &data)?;
        own_file::refuse_others(&path, "format", text.format, VERSION)?;
        let key = PublicKey::from_openssh(&text.feed_key).map_err(|e| PinnedError::content(&path, e))?;
        Ok(Some(FeedPin { key, last: text.last }))
    }

    /// The file to be written.
    /// # Errors
    /// None that can be: it is made of strings and numbers.
    pub fn file(&self, state: &Path) -> Result<NewFile, serde_json::Error> {
        let text = Text { format: VERSION, feed_key: self.key.to_openssh(""), last: self.last.clone() };
        Ok(NewFile::private(state.join(FILE), serde_json::to_string(&text)? + "\n"))
    }

    /// As the reader of feeds wants it.
    pub fn pinned(&self) -> Pinned {
        let taken = self.last.as_ref().map(|last| Taken { version: last.version, digest: last.digest });
        Pinned { key: self.key.clone(), taken }
    }
}

/// How long a feed is good for yet, or since when it is stale.
pub fn freshness(stale_from: UnixTime, now: UnixTime) -> String {
    let between = |from: UnixTime, to: UnixTime| span(Duration::from_secs(to.0.saturating_sub(from.0)));
    if now < stale_from {
        format!("good for another {}", between(now, stale_from))
    } else {
        format!("stale since {}", between(stale_from, now))
    }
}

impl Last {
    /// From when on it is stale.
    pub fn stale_from(&self, sync: &SyncConfig) -> UnixTime {
        let by_age = sync.stale_after.map(|age| self.generated.saturating_add(age.as_secs()));
        UnixTime(by_age.map_or(self.valid_until, |at| at.min(self.valid_until)))
    }

    /// What is wrong with its age; `None`: nothing.
    pub fn staleness(&self, sync: &SyncConfig, now: UnixTime) -> Option<String> {
        let from = self.stale_from(sync);
        (now >= from).then(|| {
            let ago = |at: u64| span(Duration::from_secs(now.0.saturating_sub(at)));
            format!(
                "the feed is stale since {}: version {}, made {} ago, is the last one that was taken",
                ago(from.0),
                self.version,
                ago(self.generated)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::test_support::{Ca, from_now, trusted_folder};

    #[test]
    fn what_is_remembered_comes_before_the_configuration() {
        let (folder, first, second) = (trusted_folder(), Ca::new(), Ca::new());
        let configured = folder.path().join("feed_key.pub");
        let sync = SyncConfig { feed_key: Some(configured.clone()), ..SyncConfig::default() };
        assert!(FeedPin::read(folder.path(), &SyncConfig::default()).unwrap().is_none());
        assert!(FeedPin::read(folder.path(), &sync).unwrap_err().to_string().contains("feed_key.pub"));
        std::fs::write(&configured, first.line()).unwrap();
        assert_eq!(FeedPin::read(folder.path(), &sync).unwrap().unwrap().key, first.0.public_key());
        let pin = FeedPin::new(second.0.public_key());
        crate::place::put(vec![pin.file(folder.path()).unwrap()]).unwrap().keep();
        assert_eq!(FeedPin::read(folder.path(), &sync).unwrap().unwrap(), pin);
        std::fs::write(folder.path().join(FILE), "{}").unwrap();
        assert!(FeedPin::read(folder.path(), &sync).is_err(), "torn is not the same as none");
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        std::os::unix::fs::symlink("/nonexistent", folder.path().join(FILE)).unwrap();
        let error = FeedPin::read(folder.path(), &sync).unwrap_err().to_string();
        assert!(error.contains(FILE), "a link to nowhere is not the same as none: {error}");
    }

    #[test]
    fn a_feed_is_stale_at_its_end_or_at_the_configured_age() {
        let last = Last {
            version: 7,
            digest: [0; 32],
            ca: "ca".into(),
            generated: from_now(-100).0,
            valid_until: from_now(50).0,
        };
        let after = |seconds| SyncConfig { stale_after: Some(Duration::from_secs(seconds)), ..SyncConfig::default() };
        assert_eq!(last.staleness(&SyncConfig::default(), from_now(40)), None);
        assert!(
            last.staleness(&SyncConfig::default(), from_now(60))
                .unwrap()
                .starts_with("the feed is stale since 10 s: version 7, made 2 min 40 s ago")
        );
        assert_eq!(last.staleness(&after(120), from_now(10)), None);
        assert!(last.staleness(&after(120), from_now(30)).is_some());
        assert!(last.staleness(&after(1000), from_now(60)).is_some(), "an age does not prolong it");
    }
}
