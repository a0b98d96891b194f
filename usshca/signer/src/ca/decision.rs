//! What is decided about one request for a user certificate, and what of it stands in the inventory.

use std::borrow::Cow;
use std::net::SocketAddr;

use ussh_core::certificate::{CertificateKind, CertificateOption};
use ussh_core::clock::UnixTime;
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::PublicKey;
use usshca_ipc::front::Wish;

use super::{record_refusal, warn_of};
use crate::inventory::{Asked, Batch, InventoryError, Kind, Planned, Request};
use crate::policy::{Grant, KeyKind, Mode, Policy, PolicyRefusal, Proofs, Question};
use crate::refused::Refused;

/// Somebody whom a PAM worker named, with what was proved so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Canonical account name.
    pub user: String,
    /// Its groups by name.
    pub groups: Vec<String>,
    /// How.
    pub proofs: Proofs,
    /// Fingerprint of the registered key, if one was proved.
    pub key: Option<String>,
    /// When the statement came.
    pub login_time: UnixTime,
}

impl Passed {
    /// How, for people: `publickey+pam SHA256:…`.
    pub fn authenticated(&self) -> String {
        self.key.as_ref().map_or_else(|| self.proofs.to_string(), |key| format!("{} {key}", self.proofs))
    }
}

/// What somebody who proved to be a user asks for.
#[derive(Clone, Copy, Debug)]
pub struct UserRequest<'a> {
    /// Wire form of the key.
    pub public_key: &'a [u8],
    /// Who made it.
    pub mode: Mode,
    /// What the user would like.
    pub wish: &'a Wish,
    /// The kernel's getpeername.
    pub peer: SocketAddr,
    /// Its number, for the log.
    pub connection: u64,
}

/// A serial that is on disk, and what was decided about it.
#[derive(Debug)]
pub struct Reserved {
    pub(super) serial: u64,
    pub(super) user: String,
    pub(super) peer: SocketAddr,
    pub(super) connection: u64,
    pub(super) authenticated: String,
    pub(super) mode: Mode,
    pub(super) grant: Grant,
    pub(super) reason: String,
}

pub(super) type Decided = (Asked, Result<(CertificateTemplate, Reserved), Refused>);

/// As far as it is known before it is decided.
pub(super) fn asked(passed: &Passed, request: &UserRequest<'_>, now: UnixTime) -> Asked {
    Asked {
        kind: Kind::User,
        key_id: passed.user.clone(),
        fingerprint: String::new(),
        asked: now,
        source: request.peer.ip().to_canonical().to_string(),
        authenticated: passed.authenticated(),
        rule: String::new(),
        // As typed; whoever shows it makes it harmless. A front of ours sends no longer one.
        reason: request.wish.reason.clone(),
        request: None,
    }
}

/// Judges a request and reserves a serial for it, or records the refusal.
pub(super) fn decide_user(
    policy: &Policy,
    own: &[PublicKey],
    batch: &mut Batch<'_>,
    passed: &Passed,
    request: &UserRequest<'_>,
    now: UnixTime,
) -> Decided {
    let mut asked = asked(passed, request, now);
    let decided = still_proved(batch, passed).and_then(|passed| {
        asked.authenticated = passed.authenticated();
        reserve_user(policy, own, batch, &passed, request, &mut asked)
    });
    if let Err(refused) = &decided {
        warn_of(record_refusal(batch, &asked, refused).err());
    }
    (asked, decided)
}

/// A registered key that was removed or revoked after its proof proves nothing any more: whatever else was proved is judged without it.
fn still_proved<'a>(batch: &Batch<'_>, passed: &'a Passed) -> Result<Cow<'a, Passed>, Refused> {
    match &passed.key {
        Some(key) if !batch.is_registered(&passed.user, key)? => {
            let proofs = Proofs { publickey: false, ..passed.proofs };
            Ok(Cow::Owned(Passed { proofs, key: None, ..passed.clone() }))
        }
        Some(_) | None => Ok(Cow::Borrowed(passed)),
    }
}

fn reserve_user(
    policy: &Policy,
    own: &[PublicKey],
    batch: &mut Batch<'_>,
    passed: &Passed,
    request: &UserRequest<'_>,
    asked: &mut Asked,
) -> Result<(CertificateTemplate, Reserved), Refused> {
    let key = subject_key(request.public_key, own)?;
    asked.fingerprint = key.fingerprint();
    // A key that the CA made just now is revoked by nobody.
    if request.mode == Mode::ClientKey && batch.is_revoked_key(&asked.fingerprint)? {
        return Err(Refused::KeyRevoked);
    }
    let question = question(passed, request, KeyKind::of(&key), asked.asked);
    asked.request = Some(kept(&question));
    let decided = policy.decide(&question);
    asked.rule = decided.as_ref().map_or_else(PolicyRefusal::rule, |grant| &grant.rule).to_owned();
    let grant = match decided {
        Ok(grant) => grant,
        Err(refusal) => return Err(refused_by_policy(refusal, batch, passed)?),
    };
    let now = asked.asked;
    if batch.is_revoked_from_birth(&passed.user, own)? {
        return Err(Refused::KeyIdRevoked);
    }
    if let Some(most) = grant.max_certificates
        && batch.count_good(&passed.user, now)? >= most
    {
        return Err(Refused::TooMany { most, next: batch.next_end(&passed.user, now)? });
    }
    let planned = Planned {
        principals: grant.principals.clone(),
        valid_after: UnixTime(now.0.saturating_sub(grant.backdate_seconds)),
        valid_before: UnixTime(now.0.saturating_add(grant.validity_seconds)),
    };
    let serial = batch.reserve(asked, &planned)?;
    let template = CertificateTemplate {
        public_key: key,
        serial,
        kind: CertificateKind::User,
        key_id: passed.user.clone(),
        principals: planned.principals,
        valid_after: planned.valid_after,
        valid_before: planned.valid_before,
        critical_options: critical_options(&grant),
        extensions: extensions(&grant, passed.login_time.min(now)),
    };
    let reserved = Reserved {
        serial,
        user: passed.user.clone(),
        peer: request.peer,
        connection: request.connection,
        authenticated: asked.authenticated.clone(),
        mode: request.mode,
        grant,
        reason: request.wish.reason.clone(),
    };
    Ok((template, reserved))
}

/// Where a registered key is what is missing, it may be there and revoked: neither the user nor an administrator should look for it in the agent.
fn refused_by_policy(refusal: PolicyRefusal, batch: &Batch<'_>, passed: &Passed) -> Result<Refused, InventoryError> {
    let lacks_key = matches!(refusal, PolicyRefusal::Authentication { .. }) && !passed.proofs.publickey;
    let revoked = if lacks_key { batch.revoked_registration(&passed.user)? } else { None };
    Ok(match revoked {
        Some(key) => Refused::RegisteredKeyRevoked { refusal, key },
        None => Refused::Policy(refusal),
    })
}

/// The key that is to be certified.
pub(super) fn subject_key(blob: &[u8], own: &[PublicKey]) -> Result<PublicKey, Refused> {
    let key = PublicKey::from_blob(blob).map_err(Refused::Key)?;
    if own.contains(&key) { Err(Refused::CaKey) } else { Ok(key) }
}

fn question<'a>(passed: &'a Passed, request: &UserRequest<'a>, key_kind: KeyKind, time: UnixTime) -> Question<'a> {
    Question {
        user: &passed.user,
        groups: &passed.groups,
        source: request.peer.ip().to_canonical(),
        time,
        proofs: passed.proofs,
        mode: request.mode,
        key_kind,
        wish: request.wish,
    }
}

/// Of a user's groups, this many bytes of names stand in a row: an answer must have room for one.
const MAX_KEPT_GROUPS: usize = 32 * 1024;

/// As it stands in the inventory.
fn kept(question: &Question<'_>) -> Request {
    let mut room = MAX_KEPT_GROUPS;
    let fits = |group: &&String| {
        room = room.saturating_sub(group.len() + 1);
        room > 0
    };
    Request {
        groups: question.groups.iter().take_while(fits).cloned().collect(),
        source: question.source,
        pam: question.proofs.pam,
        publickey: question.proofs.publickey,
        mode: question.mode.name().to_owned(),
        key_kind: question.key_kind.name().to_owned(),
        wish: question.wish.clone(),
    }
}

/// Those of a certificate under a grant.
pub fn critical_options(grant: &Grant) -> Vec<CertificateOption> {
    let command = grant.force_command.as_deref().map(|c| CertificateOption::string("force-command", c));
    let networks = grant.source_address.as_deref().map(|n| CertificateOption::string("source-address", n));
    command.into_iter().chain(networks).collect()
}

fn extensions(grant: &Grant, login_time: UnixTime) -> Vec<CertificateOption> {
    let flags = grant.extensions.iter().map(|name| CertificateOption::flag(name));
    flags.chain([CertificateOption::login_time(login_time)]).collect()
}
