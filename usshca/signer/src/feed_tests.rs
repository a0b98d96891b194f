#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use ussh_core::clock::{Clock, SystemClock};
use ussh_core::feed::{Pinned, VerifiedFeed, verify};
use usshca_ipc::admin::{Reply, Revoke};
use usshca_ipc::signer::PolicyText;

use super::*;
use crate::ca::HostRequest;
use crate::inventory::Inventory;
use crate::policy::Policy;

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = World { dir: tempfile::tempdir().unwrap() };
        fs::set_permissions(world.dir.path(), Permissions::from_mode(0o700)).unwrap();
        for name in ["user_ca", "host_ca", KEY] {
            world.put_key(name, &PrivateKey::generate_ed25519().unwrap());
        }
        drop(Inventory::create(&world.dir.path().join("inventory.db")).unwrap());
        world
    }

    fn put_key(&self, name: &str, key: &PrivateKey) {
        put(&self.dir.path().join(name), key.to_openssh("").unwrap().as_bytes(), 0o600).unwrap();
        let line = format!("{}\n", key.public_key().to_openssh(""));
        put(&self.dir.path().join(format!("{name}.pub")), line.as_bytes(), 0o644).unwrap();
    }

    fn load(&self) -> Result<(CaKeys, FeedKeeper), CaKeyError> {
        self.load_by(&self.setup(""))
    }

    fn setup(&self, pattern: &str) -> KeySetup {
        let known_hosts_pattern = pattern.to_owned();
        KeySetup { ca_name: "Test CA".into(), feed_valid_seconds: 600, known_hosts_pattern, ..KeySetup::default() }
    }

    fn load_by(&self, setup: &KeySetup) -> Result<(CaKeys, FeedKeeper), CaKeyError> {
        let state = StateFolder::open(self.dir.path()).unwrap();
        let keys = CaKeys::load(&state, &[], &[]).unwrap();
        let feed = FeedKeeper::load(&state, &keys, setup)?;
        Ok((keys, feed))
    }

    /// As a signer that starts.
    fn ca(&self) -> Ca {
        self.ca_with("")
    }

    fn ca_with(&self, pattern: &str) -> Ca {
        self.ca_of(self.setup(pattern))
    }

    fn ca_of(&self, setup: KeySetup) -> Ca {
        let text = "[[rule]]\nname=\"all\"\nvalidity_seconds=600\nprincipals=[\"%u\"]\n".to_owned();
        let file = PolicyText { name: "policy.toml".into(), folder: String::new(), text };
        let (keys, feed) = self.load_by(&setup).unwrap();
        let inventory = Inventory::open(&self.dir.path().join("inventory.db"), SystemClock.now()).unwrap();
        Ca::new(keys, Policy::of(&[file]).unwrap(), inventory, Box::new(SystemClock)).with_feed(feed)
    }

    fn has(&self, name: &str) -> bool {
        self.dir.path().join(name).exists()
    }
}

fn feed(ca: &mut Ca) -> Vec<u8> {
    ca.feed(None, true).unwrap()
}

fn taken(feed: &[u8], key: &PublicKey) -> Result<VerifiedFeed, FeedError> {
    verify(feed, &Pinned { key: key.clone(), taken: None }, SystemClock.now())
}

#[test]
fn a_feed_holds_what_is_revoked_and_each_is_newer_than_the_one_before_through_restarts() {
    let world = World::new();
    let mut ca = world.ca();
    let key = ca.feed_key().0.unwrap();
    let first = taken(&feed(&mut ca), &key).unwrap();
    assert_eq!(
        (first.manifest().ca.as_str(), first.manifest().valid_until - first.manifest().generated),
        ("Test CA", 600)
    );
    let (user_ca, host_ca) = ca.public_keys();
    assert_eq!(first.cas().keys(), [user_ca]);
    assert_eq!(
        first.known_hosts(),
        format!("@cert-authority * {}\n", host_ca.to_openssh("host CA of Test CA")).as_bytes()
    );
    let lost = PrivateKey::generate_ed25519().unwrap().public_key();
    assert!(!first.revoked().revokes_key(&lost));
    ca.revoke(Revoke::Key(lost.fingerprint()), "test", "").unwrap();
    assert!(ca.take_changed() && !ca.take_changed());
    let second = taken(&feed(&mut ca), &key).unwrap();
    assert!(second.revoked().revokes_key(&lost));
    drop(ca);
    let third = taken(&feed(&mut world.ca()), &key).unwrap();
    assert!(
        first.manifest().version < second.manifest().version && second.manifest().version < third.manifest().version
    );
    assert_eq!(third.revoked().version(), Some(third.manifest().version));
}

#[test]
fn readers_are_given_the_same_feed_until_something_is_revoked() {
    let world = World::new();
    let mut ca = world.ca();
    let first = ca.feed_for_readers().unwrap().0;
    assert_eq!(ca.feed_for_readers().unwrap().0, first);
    let lost = PrivateKey::generate_ed25519().unwrap().public_key();
    ca.revoke(Revoke::Key(lost.fingerprint()), "test", "").unwrap();
    let key = ca.feed_key().0.unwrap();
    let (second, feed) = ca.feed_for_readers().unwrap();
    assert!(second > first && taken(feed, &key).unwrap().revoked().revokes_key(&lost));
}

#[test]
fn a_host_follows_the_feed_key_through_changes_and_takes_no_other() {
    let world = World::new();
    let mut ca = world.ca();
    let first = ca.feed_key().0.unwrap();
    assert!(!ca.take_changed());
    let second = ca.rotate_feed_key(None, "test").unwrap();
    assert!(ca.take_changed(), "the supervisor publishes for it");
    assert_ne!(first, second);
    assert_eq!(taken(&feed(&mut ca), &first).unwrap().pin(), &second);
    drop(ca);
    let mut ca = world.ca();
    assert_eq!(ca.feed_key(), (Some(second.clone()), "file".to_owned()));
    let third = ca.rotate_feed_key(None, "test").unwrap();
    for pinned in [&first, &second, &third] {
        assert_eq!(taken(&feed(&mut ca), pinned).unwrap().pin(), &third);
    }
    let stranger = PrivateKey::generate_ed25519().unwrap().public_key();
    assert!(matches!(taken(&feed(&mut ca), &stranger), Err(FeedError::WrongKey { .. })));
    // More changes than there are handovers in a feed: the oldest host is enrolled again, the others go on.
    for _ in 0..MAX_HANDOVERS - 1 {
        ca.rotate_feed_key(None, "test").unwrap();
    }
    assert!(matches!(taken(&feed(&mut ca), &first), Err(FeedError::WrongKey { .. })));
    assert!(taken(&feed(&mut ca), &second).is_ok());
}

#[test]
fn a_feed_key_that_is_elsewhere_signs_drafts_and_hands_over_there() {
    let world = World::new();
    let mut ca = world.ca();
    let first = ca.feed_key().0.unwrap();
    let elsewhere = PrivateKey::generate_ed25519().unwrap();
    let public = elsewhere.public_key();
    ca.rotate_feed_key(Some(public.clone()), "test").unwrap();
    assert!(!world.has(KEY), "the old key is of no more use");
    drop(ca);
    let mut ca = world.ca();
    assert_eq!(ca.feed_key(), (Some(public.clone()), "elsewhere".to_owned()));
    assert!(matches!(ca.feed(None, true), Err(FeedFailure::Elsewhere)));
    assert!(matches!(ca.feed_for_readers(), Err(FeedFailure::Elsewhere)));
    assert!(matches!(ca.rotate_feed_key(None, "test"), Err(FeedFailure::Rotate(_))));
    let draft = Bundle::parse(&ca.feed(None, false).unwrap()).unwrap();
    let feed = seal(draft.clone(), &elsewhere).unwrap();
    assert_eq!(taken(&feed, &first).unwrap().pin(), &public);
    assert!(matches!(seal(draft.clone(), &PrivateKey::generate_ed25519().unwrap()), Err(FeedError::OtherKey { .. })));

    let next = PrivateKey::generate_ed25519().unwrap();
    let mut manifest = Manifest::parse(&draft.manifest).unwrap();
    manifest.successor = Some(next.public_key().to_openssh(""));
    let manifest = manifest.to_bytes().unwrap();
    let signed = |key: &PrivateKey| ussh_core::feed::sign(key, &manifest).unwrap().into_bytes();
    let forged = Handover { manifest: manifest.clone(), signature: signed(&next) };
    let refused = ca.feed_key_handed_over(forged, "test").unwrap_err().to_string();
    assert!(refused.contains("the present key is"), "{refused}");
    let handover = Handover { manifest: manifest.clone(), signature: signed(&elsewhere) };
    assert_eq!(ca.feed_key_handed_over(handover, "test").unwrap(), next.public_key());
    drop(ca);
    let draft = Bundle::parse(&world.ca().feed(None, false).unwrap()).unwrap();
    assert_eq!(taken(&seal(draft, &next).unwrap(), &first).unwrap().pin(), &next.public_key());
}

#[test]
fn a_change_that_was_cut_short_is_finished_or_never_was() {
    for cut in ["new key", "handover", "public key"] {
        let world = World::new();
        let at = |name: &str| world.dir.path().join(name);
        let old = fs::read(at(KEY)).unwrap();
        let (old_public, mut ca) = (fs::read(at(PUBLIC)).unwrap(), world.ca());
        let first = ca.feed_key().0.unwrap();
        let second = ca.rotate_feed_key(None, "test").unwrap();
        drop(ca);
        // Back to the state in which a kill right after this step leaves it.
        fs::rename(at(KEY), at(NEW_KEY)).unwrap();
        fs::write(at(KEY), &old).unwrap();
        fs::set_permissions(at(KEY), Permissions::from_mode(0o600)).unwrap();
        if cut != "public key" {
            fs::write(at(PUBLIC), &old_public).unwrap();
        }
        if cut == "new key" {
            fs::remove_file(at(HANDOVERS)).unwrap();
        }
        let mut ca = world.ca();
        let expected = if cut == "new key" { &first } else { &second };
        assert_eq!(ca.feed_key(), (Some(expected.clone()), "file".to_owned()), "{cut}");
        assert_eq!(taken(&feed(&mut ca), &first).unwrap().pin(), expected, "{cut}");
        assert!(!world.has(NEW_KEY), "{cut}");
    }
}

#[test]
fn the_feed_key_is_no_other_key_of_the_cas() {
    let world = World::new();
    for (name, problem) in [("user_ca", "feed_key and user_ca are the same key"), ("host_ca", "feed_key and host_ca")] {
        fs::copy(world.dir.path().join(name), world.dir.path().join(KEY)).unwrap();
        let refused = world.load().unwrap_err().to_string();
        assert!(refused.contains(problem), "{refused}");
    }
    let state = StateFolder::open(world.dir.path()).unwrap();
    world.put_key(KEY, &PrivateKey::generate_ed25519().unwrap());
    let others = vec![public_key(&state, KEY).unwrap().to_blob()];
    let keys = CaKeys::load(&state, &[], &[]).unwrap();
    let setup = KeySetup { others, ..KeySetup::default() };
    let refused = FeedKeeper::load(&state, &keys, &setup).unwrap_err().to_string();
    assert!(refused.contains("an SSH host key of this machine"), "{refused}");
    drop(state);
    let mut ca = world.ca();
    let (user_ca, _) = ca.public_keys();
    assert!(matches!(ca.rotate_feed_key(Some(user_ca), "test"), Err(FeedFailure::Rotate(_))));
    drop(ca);

    // Whatever the next start refuses, and what somebody else logs in by or proves a host by.
    let key = |_| PrivateKey::generate_ed25519().unwrap().public_key();
    let [of_machine, of_user, of_host, own] = [0, 1, 2, 3].map(key);
    let others = vec![of_machine.to_blob()];
    let mut ca = world.ca_of(KeySetup { others: others.clone(), ..world.setup("") });
    let registered = crate::registered::register(&mut ca, "alice", of_user.blob(), "", "test").unwrap();
    assert!(matches!(registered, Reply::KeyRegistered { .. }), "{registered:?}");
    let host = HostRequest {
        public_key: of_host.to_blob(),
        principals: vec!["web1".into()],
        validity_seconds: Some(600),
        take_key: false,
    };
    ca.issue_host(&host, "test").unwrap();
    for (to, holder) in [
        (&of_machine, "an SSH host key of this machine"),
        (&of_user, "registered for alice"),
        (&of_host, "host web1's"),
    ] {
        let refused = ca.rotate_feed_key(Some(to.clone()), "test").unwrap_err().to_string();
        assert!(refused.contains(&format!("the new one is {holder}; the feed needs a key of its own")), "{refused}");
    }
    ca.rotate_feed_key(Some(own.clone()), "test").unwrap();
    let registered = crate::registered::register(&mut ca, "bob", own.blob(), "", "test").unwrap();
    assert_eq!(registered, Reply::Refused("this key is a CA's own".to_owned()));
    drop(ca);
    world.ca_of(KeySetup { others, ..world.setup("") });
}

#[test]
fn a_ca_of_before_has_no_feed_key_until_it_is_given_one() {
    let world = World::new();
    for name in [KEY, PUBLIC] {
        fs::remove_file(world.dir.path().join(name)).unwrap();
    }
    let mut ca = world.ca();
    assert!(matches!(ca.feed(None, true), Err(FeedFailure::NoKey)));
    let key = ca.rotate_feed_key(None, "test").unwrap();
    assert_eq!(taken(&feed(&mut ca), &key).unwrap().bundle().handovers, []);
}

#[test]
fn a_feed_says_for_which_hosts_the_host_ca_is_trusted() {
    let world = World::new();
    let mut ca = world.ca_with("*.example.com,web1");
    let key = ca.feed_key().0.unwrap();
    let (_, host_ca) = ca.public_keys();
    let feed = taken(&feed(&mut ca), &key).unwrap();
    let line = format!("@cert-authority *.example.com,web1 {}\n", host_ca.to_openssh("host CA of Test CA"));
    assert_eq!(feed.known_hosts(), line.as_bytes());
}

#[test]
fn a_reader_over_ssh_is_told_why_there_is_no_feed_and_where_it_may_be() {
    let world = World::new();
    let mut ca = world.ca();
    ca.rotate_feed_key(Some(PrivateKey::generate_ed25519().unwrap().public_key()), "test").unwrap();
    let told = ca.feed_for_readers().unwrap_err().for_reader();
    assert!(told.contains("not at the CA") && told.contains("from where it is published"), "{told}");
    for name in [KEY, PUBLIC, HANDOVERS] {
        remove(&world.dir.path().join(name)).unwrap();
    }
    let told = world.ca().feed_for_readers().unwrap_err().for_reader();
    assert!(told.contains("no feed key") && told.contains("usshca feed key rotate"), "{told}");
}
