#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
//! Feeds that are signed, and what somebody on their way could make of them.

use std::path::PathBuf;

use ussh_core::clock::UnixTime;
use ussh_core::feed::{FeedContents, Handover, MAX_FEED, draft, seal};
use ussh_core::keys::PrivateKey;

use super::*;
use crate::test_support::{Ca, from_now, trusted_folder};

/// A CA with a feed key, and a host that has pinned it and taken one feed.
struct Fed {
    folder: tempfile::TempDir,
    ca: Ca,
    host_ca: Ca,
    feed_key: PrivateKey,
    version: u64,
}

impl Fed {
    fn new() -> Self {
        let fed = Fed {
            folder: trusted_folder(),
            ca: Ca::new(),
            host_ca: Ca::new(),
            feed_key: PrivateKey::generate_ed25519().unwrap(),
            version: from_now(-1000).0,
        };
        std::fs::create_dir(fed.path("state")).unwrap();
        let pin = FeedPin::new(fed.feed_key.public_key()).file(&fed.path("state")).unwrap();
        place::put(vec![pin]).unwrap().keep();
        fed.carry(&fed.feed(fed.version, -1000, 3600));
        sync(&fed.config()).unwrap();
        fed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config_with(&self, source: &str) -> Config {
        let text = format!(
            "ca_file = '{0}/ca'\nrevoked_keys = '{0}/revoked'\nspool = '{0}/run/sessions'\nstate = '{0}/state'\n[sync]\nsource = '{source}'\nknown_hosts = '{0}/hosts'",
            self.folder.path().display()
        );
        Config::parse(&text, Path::new("t")).unwrap()
    }

    fn config(&self) -> Config {
        self.config_with(&format!("file:{}", self.path("carried").display()))
    }

    fn carry(&self, feed: &[u8]) {
        std::fs::write(self.path("carried"), feed).unwrap();
    }

    /// A feed of this version, made so long ago (a negative number of seconds) and valid for so long from then.
    fn feed(&self, version: u64, generated: i64, valid_for: u64) -> Vec<u8> {
        self.feed_by(&self.feed_key, None, Vec::new(), version, generated, valid_for)
    }

    fn feed_by(
        &self,
        key: &PrivateKey,
        successor: Option<&PrivateKey>,
        handovers: Vec<Handover>,
        version: u64,
        generated: i64,
        valid_for: u64,
    ) -> Vec<u8> {
        let contents = FeedContents {
            ca: "ca".into(),
            version,
            generated: from_now(generated),
            valid_for,
            user_ca: self.ca.line().into_bytes(),
            krl: self.ca.krl(version, from_now(generated), &[version]),
            known_hosts: format!("@cert-authority * {}", self.host_ca.line()).into_bytes(),
            handovers,
        };
        let successor = successor.map(PrivateKey::public_key);
        seal(draft(contents, &key.public_key(), successor.as_ref()).unwrap(), key).unwrap()
    }

    /// All that a sync could have changed.
    fn state(&self) -> Vec<(String, Vec<u8>)> {
        let names = ["ca", "revoked", "hosts", "state/feed.json"];
        names.iter().map(|name| ((*name).to_owned(), std::fs::read(self.path(name)).unwrap())).collect()
    }

    fn krl_version(&self) -> Option<u64> {
        RevokedKeys::parse(&std::fs::read(self.path("revoked")).unwrap()).unwrap().version()
    }
}

/// The handover of a feed: its manifest, and the signature over it.
fn handover_of(feed: &[u8]) -> Handover {
    let feed = ussh_core::feed::open(feed).unwrap();
    Handover { manifest: feed.bundle().manifest.clone(), signature: feed.bundle().signature.clone() }
}

#[test]
fn attacks_on_the_feed_change_nothing_and_say_what_they_are() {
    let fed = Fed::new();
    let next = fed.version + 10;
    let good = fed.feed(next, -10, 3600);
    let stranger = PrivateKey::generate_ed25519().unwrap();
    let with = |key: &PrivateKey, handovers| fed.feed_by(key, None, handovers, next, -10, 3600);
    let other_ca = Ca::new();
    let of_user_ca = {
        // The user CA's key signs a feed in which it is no CA.
        let fed = Fed {
            folder: trusted_folder(),
            ca: Ca::new(),
            host_ca: Ca::new(),
            feed_key: PrivateKey::generate_ed25519().unwrap(),
            version: 0,
        };
        move |key: &PrivateKey| fed.feed_by(key, None, Vec::new(), next, -10, 3600)
    };
    let mut forged = good.clone();
    let at = forged.len() - 60;
    forged[at] ^= 1;
    let unsigned_heir = {
        // The pinned key's manifest with the stranger for its successor, under the stranger's signature.
        let says = fed.feed_by(&fed.feed_key, Some(&stranger), Vec::new(), next - 1, -20, 3600);
        let manifest = ussh_core::feed::open(&says).unwrap().bundle().manifest.clone();
        let signature = ussh_core::feed::sign(&stranger, &manifest).unwrap().into_bytes();
        with(&stranger, vec![Handover { manifest, signature }])
    };
    let endless = fed.config_with("exec:/bin/cat /dev/zero");
    let mut slow = fed.config_with("exec:/bin/sleep 60");
    slow.sync.as_mut().unwrap().timeout = std::time::Duration::from_secs(1);
    let (file, gone, failing) =
        (fed.config(), fed.config_with("file:/nonexistent"), fed.config_with("exec:/bin/false"));
    let cases: Vec<(&str, &Config, Vec<u8>, &str)> = vec![
        ("another key", &file, with(&stranger, vec![]), "which is not the pinned feed key"),
        ("the user CA's key", &file, of_user_ca(&fed.ca.0), "which is not the pinned feed key"),
        ("the host CA's key", &file, of_user_ca(&fed.host_ca.0), "which is not the pinned feed key"),
        ("another CA's feed", &file, of_user_ca(&other_ca.0), "which is not the pinned feed key"),
        ("an older version", &file, fed.feed(fed.version - 1, -1001, 7200), "going back is refused"),
        (
            "the same version, other contents",
            &file,
            fed.feed(fed.version, -900, 7200),
            "was taken before, and it was another feed",
        ),
        ("from the future", &file, fed.feed(from_now(0).0 + 100_000, 0, 3600), "lies in the future"),
        ("expired", &file, fed.feed(next, -7200, 3600), "expired"),
        ("torn in the middle", &file, good[..good.len() / 2].to_vec(), "torn, or no feed"),
        ("torn at the end", &file, good[..good.len() - 1].to_vec(), "torn, or no feed"),
        ("with bytes behind it", &file, [&good[..], b"x"].concat(), "torn, or no feed"),
        ("a bit is another", &file, forged, "is not the file that the manifest says"),
        ("empty", &file, Vec::new(), "torn, or no feed"),
        ("no feed", &file, b"<html>404</html>".to_vec(), "torn, or no feed"),
        ("huge", &file, vec![0; MAX_FEED + 1], "is longer than"),
        ("huge, by a command", &endless, Vec::new(), "gave more than"),
        ("slow", &slow, Vec::new(), "took longer than 1 s"),
        ("a key that its predecessor did not sign", &file, unsigned_heir, "which is not the pinned feed key"),
        ("gone", &gone, Vec::new(), "No such file"),
        ("a command that fails", &failing, Vec::new(), "failed (exit status: 1)"),
    ];
    let before = fed.state();
    println!("{:<42}said", "feed");
    for (what, config, feed, reason) in cases {
        fed.carry(&feed);
        let error = sync(config).unwrap_err().to_string();
        println!("{what:<42}{error}");
        assert!(error.contains(reason), "{what}: {error}");
        assert_eq!(fed.state(), before, "{what}");
    }
    // What was there all the time.
    fed.carry(&good);
    assert!(sync(&fed.config()).unwrap().changed);
    assert_eq!(fed.krl_version(), Some(next));
}

#[test]
fn a_successor_that_the_pinned_key_named_is_followed_and_the_old_key_is_done() {
    let fed = Fed::new();
    let (second, third) = (PrivateKey::generate_ed25519().unwrap(), PrivateKey::generate_ed25519().unwrap());
    let to_second = fed.feed_by(&fed.feed_key, Some(&second), Vec::new(), fed.version + 1, -20, 3600);
    fed.carry(&to_second);
    let told = sync(&fed.config()).unwrap();
    assert!(
        told.lines[1].starts_with(&format!("feed key replaced: {} in place of ", second.public_key().fingerprint())),
        "{told:?}"
    );
    fed.carry(&fed.feed(fed.version + 2, -10, 3600));
    assert!(sync(&fed.config()).unwrap_err().to_string().contains("which is not the pinned feed key"));
    // One that was away for the next handover finds its way.
    let to_third = fed.feed_by(&second, Some(&third), Vec::new(), fed.version + 3, -10, 3600);
    let handovers = vec![handover_of(&to_second), handover_of(&to_third)];
    fed.carry(&fed.feed_by(&third, None, handovers, fed.version + 4, -5, 3600));
    sync(&fed.config()).unwrap();
    assert_eq!(FeedPin::remembered(&fed.path("state")).unwrap().unwrap().key, third.public_key());
}

#[test]
fn a_feed_of_a_restored_ca_is_taken_although_it_revokes_less() {
    let fed = Fed::new();
    // Its inventory is that of before, its version follows the clock.
    fed.carry(&fed.feed(from_now(0).0, 0, 3600));
    assert!(sync(&fed.config()).unwrap().changed);
    assert!(fed.krl_version().unwrap() > fed.version);
}

#[test]
fn without_a_pinned_key_only_a_folder_of_roots_is_taken_and_with_one_no_such_folder() {
    let fed = Fed::new();
    let folder = fed.path("loose");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(USER_CA), fed.ca.line()).unwrap();
    std::fs::write(folder.join(KRL), fed.ca.krl(fed.version + 1, from_now(0), &[])).unwrap();
    let loose = fed.config_with(&format!("file:{}", folder.display()));
    let before = fed.state();
    assert!(sync(&loose).unwrap_err().to_string().contains("loose/feed: No such file"));
    std::fs::write(fed.path("state/feed.json"), "{").unwrap();
    assert!(matches!(sync(&loose), Err(SyncError::Pinned(_))), "a torn pin is none that may be passed by");
    assert_eq!(fed.state()[..3], before[..3]);
    std::fs::remove_file(fed.path("state/feed.json")).unwrap();
    for source in ["ssh:", "exec:/bin/true"] {
        assert!(matches!(sync(&fed.config_with(source)), Err(SyncError::NoFeedKey)));
    }
    let mut with_hosts = loose.clone();
    with_hosts.sync.as_mut().unwrap().known_hosts = None;
    sync(&with_hosts).unwrap();
    let mut configured = fed.config();
    std::fs::write(fed.path("feed_key.pub"), fed.feed_key.public_key().to_openssh("feed")).unwrap();
    configured.sync.as_mut().unwrap().feed_key = Some(fed.path("feed_key.pub"));
    let newer = UnixTime(fed.version + 900);
    fed.carry(&fed.feed(newer.0, 0, 3600));
    sync(&configured).unwrap();
    assert!(fed.path("state/feed.json").exists(), "from here on it is pinned");
}
