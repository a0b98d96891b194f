//! The feed, as whoever carries it may have changed it; and as a CA gone mad would sign it.

use std::sync::OnceLock;

use ussh_core::clock::UnixTime;
use ussh_core::feed::{Bundle, FileDigest, Handover, Manifest, Pinned, open, sign, verify};
use ussh_core::keys::PrivateKey;

/// The key by which feeds are signed here; nobody else has it.
fn key() -> &'static PrivateKey {
    static VALUE: OnceLock<PrivateKey> = OnceLock::new();
    VALUE.get_or_init(|| PrivateKey::generate_ed25519().unwrap())
}

/// No feed that our key has not signed is taken; one that reads is written as it was read; and a manifest that is true and signed still lets no junk through.
pub fn feed(data: &[u8]) {
    let pinned = Pinned { key: key().public_key(), taken: None };
    assert!(verify(data, &pinned, UnixTime(1_800_000_000)).is_err());
    let _ = (open(data), Handover::list_from_bytes(data));
    if let Ok(manifest) = Manifest::parse(data) {
        assert_eq!(Manifest::parse(&manifest.to_bytes().unwrap()).as_ref(), Ok(&manifest));
    }
    let Ok(mut bundle) = Bundle::parse(data) else { return };
    assert_eq!(bundle.to_bytes(), data);
    let Ok(mut manifest) = Manifest::parse(&bundle.manifest) else { return };
    let now = UnixTime(manifest.generated.max(manifest.version));
    manifest.feed_key = key().public_key().to_openssh("");
    manifest.files.user_ca = FileDigest::of(&bundle.user_ca);
    manifest.files.krl = FileDigest::of(&bundle.krl);
    manifest.files.known_hosts = FileDigest::of(&bundle.known_hosts);
    let Ok(bytes) = manifest.to_bytes() else { return };
    bundle.signature = sign(key(), &bytes).unwrap().into_bytes();
    bundle.manifest = bytes;
    if let Ok(taken) = verify(&bundle.to_bytes(), &pinned, now) {
        assert!(!taken.cas().keys().is_empty() && taken.cas().junk_at().is_none());
        assert!(taken.revoked().version().is_some() && now.0 < taken.manifest().valid_until);
        assert!(!taken.cas().contains(taken.pin()) && taken.signed_by() == &key().public_key());
    }
}
