//! Whether a feed is to be taken: the one function for every reader.

use super::{Bundle, FeedError, Handover, KNOWN_HOSTS, KRL, MAX_AHEAD, Manifest, USER_CA, verify_signature};
use crate::ca_file::TrustedCas;
use crate::clock::UnixTime;
use crate::digest::sha256;
use crate::escape::escape;
use crate::keys::PublicKey;
use crate::revoked::RevokedKeys;

/// What a reader goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The feed key: from the enrolment, or [`VerifiedFeed::pin`] of the last feed that was taken.
    pub key: PublicKey,
    /// The last feed that was taken; `None`: none yet.
    pub taken: Option<Taken>,
}

/// A feed that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its manifest.
    pub digest: [u8; 32],
}

/// A feed that may be used: every check has passed. Nothing but [`verify`] makes one that is pinned.
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifiedFeed {
    manifest: Manifest,
    bundle: Bundle,
    cas: TrustedCas,
    revoked: RevokedKeys,
    signed_by: PublicKey,
    pin: PublicKey,
}

impl VerifiedFeed {
    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    /// sshd's TrustedUserCAKeys, as it is to be put in place.
    pub fn user_ca(&self) -> &[u8] {
        &self.bundle.user_ca
    }
    /// The KRL, as it is to be put in place.
    pub fn krl(&self) -> &[u8] {
        &self.bundle.krl
    }
    /// The host CA's lines, as they are to be put in place.
    pub fn known_hosts(&self) -> &[u8] {
        &self.bundle.known_hosts
    }
    /// All of it, in parts.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }
    /// The user CA keys.
    pub fn cas(&self) -> &TrustedCas {
        &self.cas
    }
    /// The KRL, read.
    pub fn revoked(&self) -> &RevokedKeys {
        &self.revoked
    }
    /// The feed key that signed it.
    pub fn signed_by(&self) -> &PublicKey {
        &self.signed_by
    }
    /// The feed key to go by from here on: the successor, if one is named.
    pub fn pin(&self) -> &PublicKey {
        &self.pin
    }
    /// What to remember of it, together with [`Self::pin`], before any of it is used.
    pub fn taken(&self) -> Taken {
        Taken { version: self.manifest.version, digest: sha256(&self.bundle.manifest) }
    }
}

/// Judges a feed by what is pinned. Order: size and shape → signature → the key against the pinned one and its successors → version → time → sizes and digests → contents → each key in one role.
/// # Errors
/// [`FeedError`]; nothing of the feed may be used then.
pub fn verify(feed: &[u8], pinned: &Pinned, now: UnixTime) -> Result<VerifiedFeed, FeedError> {
    let bundle = Bundle::parse(feed)?;
    let signed_by = signer_of(&bundle.manifest, &bundle.signature).map_err(FeedError::Signature)?;
    let heir = follow(&pinned.key, &bundle.handovers)?;
    if signed_by != heir {
        return Err(FeedError::WrongKey { signed_by: signed_by.fingerprint(), pinned: pinned.key.fingerprint() });
    }
    let manifest = Manifest::parse(&bundle.manifest)?;
    check_version(&manifest, &bundle.manifest, pinned.taken)?;
    check_time(&manifest, now)?;
    check(bundle, manifest, signed_by)
}

/// Reads a feed that nobody has pinned, whatever its age: to show it, and for whoever makes one to look at what was made. It says nothing on whose feed it is.
/// # Errors
/// [`FeedError`]
pub fn open(feed: &[u8]) -> Result<VerifiedFeed, FeedError> {
    let bundle = Bundle::parse(feed)?;
    let signed_by = signer_of(&bundle.manifest, &bundle.signature).map_err(FeedError::Signature)?;
    let manifest = Manifest::parse(&bundle.manifest)?;
    check(bundle, manifest, signed_by)
}

fn signer_of(manifest: &[u8], signature: &[u8]) -> Result<PublicKey, super::SignatureError> {
    verify_signature(signature, manifest)
}

/// From the pinned key along the handovers to the last one that it leads to. Those before it are of no concern: they led to the pinned key.
fn follow(pinned: &PublicKey, handovers: &[Handover]) -> Result<PublicKey, FeedError> {
    let mut here = pinned.clone();
    for (one, number) in handovers.iter().zip(1..) {
        let failed = |problem: String| FeedError::Handover { number, problem };
        let by = signer_of(&one.manifest, &one.signature).map_err(|e| failed(e.to_string()))?;
        if by != here {
            continue;
        }
        let manifest = Manifest::parse(&one.manifest).map_err(|e| failed(e.to_string()))?;
        if manifest.feed_key()? != by {
            return Err(failed("it names another feed key than signed it".to_owned()));
        }
        here = manifest.successor()?.ok_or_else(|| failed("it names no successor".to_owned()))?;
    }
    Ok(here)
}

fn check_version(manifest: &Manifest, bytes: &[u8], taken: Option<Taken>) -> Result<(), FeedError> {
    match taken {
        Some(taken) if manifest.version < taken.version => {
            Err(FeedError::GoesBack { offered: manifest.version, taken: taken.version })
        }
        Some(taken) if manifest.version == taken.version && sha256(bytes) != taken.digest => {
            Err(FeedError::Forked(taken.version))
        }
        _ => Ok(()),
    }
}

fn check_time(manifest: &Manifest, now: UnixTime) -> Result<(), FeedError> {
    let Manifest { version, generated, valid_until, .. } = *manifest;
    let latest = now.0.saturating_add(MAX_AHEAD);
    if version > latest || generated > latest {
        return Err(FeedError::InTheFuture { version, generated, now: now.0 });
    }
    if now.0 >= valid_until { Err(FeedError::Expired { valid_until, now: now.0 }) } else { Ok(()) }
}

/// Everything that does not depend on the reader.
fn check(bundle: Bundle, manifest: Manifest, signed_by: PublicKey) -> Result<VerifiedFeed, FeedError> {
    let named = manifest.feed_key()?;
    if named != signed_by {
        return Err(FeedError::OtherKey { named: named.fingerprint(), signed_by: signed_by.fingerprint() });
    }
    manifest.files.user_ca.check(USER_CA, &bundle.user_ca)?;
    manifest.files.krl.check(KRL, &bundle.krl)?;
    manifest.files.known_hosts.check(KNOWN_HOSTS, &bundle.known_hosts)?;
    let cas = user_cas(&bundle.user_ca)?;
    let revoked = RevokedKeys::parse(&bundle.krl).map_err(FeedError::Krl)?;
    if revoked.version().is_none() {
        return Err(FeedError::NotAKrl);
    }
    let host_cas = host_cas(&bundle.known_hosts)?;
    let successor = manifest.successor()?;
    let feed_keys = [Some(&signed_by), successor.as_ref()];
    for key in feed_keys.into_iter().flatten() {
        if cas.contains(key) {
            return Err(FeedError::OneKey("the feed key is a user CA's"));
        }
        if host_cas.contains(key) {
            return Err(FeedError::OneKey("the feed key is a host CA's"));
        }
    }
    if host_cas.iter().any(|key| cas.contains(key)) {
        return Err(FeedError::OneKey("a user CA's key is a host CA's"));
    }
    let pin = successor.unwrap_or_else(|| signed_by.clone());
    Ok(VerifiedFeed { manifest, bundle, cas, revoked, signed_by, pin })
}

/// sshd stops at the first line that is none: all of them must be good.
fn user_cas(text: &[u8]) -> Result<TrustedCas, FeedError> {
    let cas = TrustedCas::parse(text);
    if let Some(line) = cas.junk_at() {
        return Err(FeedError::UserCa(format!("line {line} is no CA key")));
    }
    if cas.keys().is_empty() { Err(FeedError::UserCa("holds no CA key".to_owned())) } else { Ok(cas) }
}

/// `@cert-authority PATTERNS KEY` (sshd(8) SSH_KNOWN_HOSTS FILE FORMAT), no other line: one without the marker would be a host's own key.
fn host_cas(text: &[u8]) -> Result<Vec<PublicKey>, FeedError> {
    let text = std::str::from_utf8(text).map_err(|_| FeedError::KnownHosts("is no text".to_owned()))?;
    let mut keys = Vec::new();
    for (line, number) in text.lines().zip(1_usize..) {
        let failed = |problem: &str| FeedError::KnownHosts(format!("line {number}: {problem}"));
        let rest = line.strip_prefix("@cert-authority ").ok_or_else(|| failed("must begin with @cert-authority"))?;
        let (patterns, key) = rest.split_once(' ').ok_or_else(|| failed("must hold host patterns and a key"))?;
        if patterns.is_empty() || patterns.bytes().any(|b| !matches!(b, b'!'..=b'~')) {
            return Err(failed("must hold host patterns and a key"));
        }
        keys.push(PublicKey::from_openssh(key).map_err(|e| failed(&escape(e.to_string().as_bytes(), 128)))?);
    }
    if keys.is_empty() { Err(FeedError::KnownHosts("holds no host CA".to_owned())) } else { Ok(keys) }
}
