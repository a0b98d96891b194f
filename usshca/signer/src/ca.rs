//! Issuing and revoking. The order of an issue: serial and row on disk → sign → signed certificate on disk → out of the process. Many go through it side by side
//! ([`Ca::turn`]), so that they share what a disk takes for each.

mod hosts;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64ct::{Base64Unpadded, Encoding};
use ussh_core::audit;
use ussh_core::certificate::{Certificate, CertificateKind, CertificateOption};
use ussh_core::clock::{Clock, UnixTime};
use ussh_core::issue::{CertificateTemplate, IssueError};
use ussh_core::keys::PublicKey;
use ussh_core::revoked::{KrlTemplate, RevokedError, RevokedKeys, RevokedOf};
use ussh_os::syslog::Severity;
use usshca_ipc::admin::{self, Revoke};
use usshca_ipc::front::Wish;

pub use self::hosts::{HostGrant, HostRequest, is_host_name};
use crate::ca_key::CaKey;
use crate::ca_keys::CaKeys;
use crate::counts;
use crate::feed::FeedKeeper;
use crate::inventory::{
    Asked, Batch, Inventory, InventoryError, Kind, Lifted, Outcome, Planned, Request, Revocation, RevokedHere,
};
use crate::log;
use crate::policy::{Grant, KeyKind, Mode, Policy, PolicyRefusal, Proofs, Question};
use crate::refused::Refused;
use crate::signing::{Ordered, Signing};

/// Keys, policy and inventory together.
pub struct Ca {
    keys: CaKeys,
    signing: Signing,
    policy: Policy,
    inventory: Inventory,
    clock: Box<dyn Clock>,
    pub(crate) feed: FeedKeeper,
    /// Something was revoked or lifted, or the feed key has handed over, and the supervisor was not told of it.
    changed: bool,
}

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

/// What became of a certificate's delivery.
#[derive(Clone, Debug)]
pub struct OutcomeOf {
    /// The certificate's.
    pub serial: u64,
    /// Whose it is, for the log; of a host's: nothing.
    pub user: String,
    /// What.
    pub outcome: Outcome,
}

/// A user certificate that is signed and on disk.
#[derive(Clone, Debug)]
pub struct IssuedUser {
    /// Whose.
    pub user: String,
    /// The certificate.
    pub certificate: Certificate,
    /// Seconds until it ends.
    pub lifetime_seconds: u32,
    /// The agent asks before each use.
    pub confirm: bool,
    /// The rule that decided.
    pub rule: String,
}

/// Why there is no KRL.
#[derive(Debug, thiserror::Error)]
pub enum KrlError {
    /// The inventory.
    #[error("{0}")]
    Inventory(#[from] InventoryError),
    /// What was made does not read.
    #[error("the new KRL does not read: {0}")]
    Unreadable(#[from] RevokedError),
    /// A fingerprint in the inventory that is none.
    #[error("the inventory holds a revoked key that is no SHA256 fingerprint")]
    Fingerprint,
    /// It reads as another one.
    #[error("the new KRL reads as another one")]
    Different,
}

impl Ca {
    /// Keys, policy and inventory are loaded and checked.
    pub fn new(keys: CaKeys, policy: Policy, inventory: Inventory, clock: Box<dyn Clock>) -> Self {
        Ca { keys, signing: Signing::default(), policy, inventory, clock, feed: FeedKeeper::default(), changed: false }
    }

    /// With the feed key.
    pub fn with_feed(self, feed: FeedKeeper) -> Self {
        Ca { feed, ..self }
    }

    /// Whether something was revoked or lifted, or the feed key has handed over, since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What is published is another one from here on.
    pub(crate) fn note_change(&mut self) {
        self.changed = true;
        self.feed.forget();
    }

    /// The present.
    pub fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// The inventory, to read and to note outcomes.
    pub fn inventory(&mut self) -> &mut Inventory {
        &mut self.inventory
    }

    /// What keeps the CA's keys from signing, or what they sign from being taken.
    pub fn key_troubles(&self) -> Vec<String> {
        let silent = [&*self.keys.user, &self.keys.host].into_iter().filter_map(CaKey::trouble);
        let (user_ca, host_ca) = self.public_keys();
        let of = [
            ("user_ca", user_ca, "nobody gets a certificate"),
            ("host_ca", host_ca, "whoever has the KRL takes no host's certificate"),
        ];
        let revoked = of.into_iter().filter_map(|(name, key, so)| {
            // One that cannot be asked for is an inventory that cannot be read, which shows elsewhere.
            let act = self.inventory.revocation_of_ca(&key.fingerprint()).ok().flatten()?;
            Some(format!(
                "{name}: the key itself is revoked, so that {so}: until that is lifted (usshca revoke --undo {act}), or there is another key"
            ))
        });
        silent.chain(revoked).collect()
    }

    /// The CA's public keys: for users, for hosts.
    pub fn public_keys(&self) -> (PublicKey, PublicKey) {
        (self.keys.user.public_key(), self.keys.host.public_key())
    }

    /// All that are the CA's own: none of them is ever certified.
    fn own_keys(&self) -> Vec<PublicKey> {
        let (user_ca, host_ca) = self.public_keys();
        [user_ca, host_ca].into_iter().chain(self.feed.public_key()).collect()
    }

    /// Another policy from now on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Issues one user certificate, with nobody beside. Everything in it but the key comes from the statement and from policy; a wish can only make less of it.
    /// # Errors
    /// [`Refused`]; a refusal is a row of the inventory too.
    #[cfg(test)]
    pub fn issue_user(&mut self, passed: &Passed, request: &UserRequest<'_>) -> Result<IssuedUser, Refused> {
        let decided = self.turn(Vec::new(), &[], &[(passed, *request)]).decided;
        let reserved = decided.into_iter().collect::<Result<Vec<_>, _>>()?;
        let done = self.turn(reserved, &[], &[]).issued;
        done.into_iter().next().unwrap_or(Err(Refused::Inventory(InventoryError::GivenUp)))
    }

    /// One transaction for all that is to be written now: what was signed in the turn before, outcomes, and the decisions about new requests. What was reserved is signed
    /// after it is on disk, and may leave after the next turn. Of each list there is an answer for each entry, in order. Everything in a certificate but the key comes from
    /// the statement and from policy; a wish can only make less of it.
    pub fn turn(
        &mut self,
        signed: Vec<SignedUser>,
        outcomes: &[OutcomeOf],
        requests: &[(&Passed, UserRequest<'_>)],
    ) -> Turned {
        let now = self.now();
        let own = self.own_keys();
        let Ca { keys, signing, policy, inventory, clock, .. } = self;
        let (reserved, ordered): (Vec<Reserved>, Vec<Ordered>) =
            signed.into_iter().map(|SignedUser { reserved, ordered }| (reserved, ordered)).unzip();
        let mut certificates = Vec::with_capacity(ordered.len());
        let written = inventory.batch(|batch| {
            let noted = outcomes.iter().map(|of| batch.note_outcome(of.serial, &of.outcome)).collect();
            let decided = requests
                .iter()
                .map(|(passed, request)| decide_user(policy, &own, batch, passed, request, now))
                .collect();
            // Last: until here they are signed beside.
            certificates.extend(ordered.iter().map(Ordered::certificate));
            let issued = reserved
                .iter()
                .zip(&certificates)
                .map(|(reserved, certificate)| record_signature(batch, reserved.serial, certificate))
                .collect();
            Written { issued, noted, decided }
        });
        let written = written.unwrap_or_else(|e| Written::failed(e, reserved.len(), outcomes, requests, now));
        // None was asked for if the transaction could not even be begun: each is told that.
        certificates.resize(reserved.len(), Err(IssueError::Template("was not asked for")));
        // Nothing is lost by a kill but what one may lose between any commit and its line.
        let held = log::hold();
        outcomes.iter().zip(&written.noted).for_each(|(of, noted)| log_outcome(of, noted));
        let issued = written.issued.into_iter().zip(reserved).zip(certificates);
        let issued = issued.map(|((written, reserved), certificate)| {
            let certificate = written.and_then(|()| Ok(certificate?));
            finish_user(certificate, reserved, clock.now())
        });
        let issued = issued.collect();
        drop(held);
        let mut templates = Vec::new();
        let decided = written.decided.into_iter().zip(requests).map(|((asked, decided), (_, request))| {
            let (template, reserved) = decided.inspect_err(|refused| log_refusal_of(request, &asked, refused))?;
            templates.push(template);
            Ok(reserved)
        });
        let decided: Vec<Result<Reserved, Refused>> = decided.collect();
        let mut ordered = signing.begin(&keys.user, templates);
        let decided = decided.into_iter().map(|decided| {
            let reserved = decided?;
            // There is one for each.
            let ordered = ordered.next().ok_or(IssueError::Template("was not signed"))?;
            Ok(SignedUser { ordered, reserved })
        });
        Turned { issued, noted: written.noted, decided: decided.collect() }
    }

    /// Those that may go into the next turn, and those that are left for later: an agent's signatures are waited for one after the other, and nobody is served meanwhile. There
    /// is one at least among the first.
    pub fn split_signed(&self, mut signed: Vec<SignedUser>, patience: Duration) -> (Vec<SignedUser>, Vec<SignedUser>) {
        if self.keys.user.is_file() {
            return (signed, Vec::new());
        }
        let deadline = Instant::now() + patience;
        let done = signed.iter().take_while(|signed| signed.ordered.is_done_by(deadline)).count();
        let later = signed.split_off(done);
        (signed, later)
    }

    /// An issue with nobody beside it: the one place where the host CA's key signs a certificate.
    fn reserve_sign_commit(
        &mut self,
        mut template: CertificateTemplate,
        asked: &Asked,
    ) -> Result<Certificate, Refused> {
        let planned = Planned {
            principals: template.principals.clone(),
            valid_after: template.valid_after,
            valid_before: template.valid_before,
        };
        let serial = self.inventory.reserve(asked, &planned)?;
        template.serial = serial;
        match template.sign_with_patterns(self.ca_key(asked.kind), &self.policy.hosts().wildcards) {
            Ok(certificate) => {
                self.inventory.mark_signed(serial, certificate.blob())?;
                Ok(certificate)
            }
            Err(e) => {
                // Whether or not this can be noted, the row stands there and nothing was signed.
                if let Err(failed) = self.inventory.mark_unsigned(serial, &e.to_string()) {
                    log::warning(&format!("serial {serial} stays reserved: {failed}"));
                }
                Err(e.into())
            }
        }
    }

    fn ca_key(&self, kind: Kind) -> &CaKey {
        match kind {
            Kind::User => &self.keys.user,
            Kind::Host => &self.keys.host,
        }
    }

    /// Revokes; `by` is who asked.
    /// # Errors
    /// [`InventoryError`]
    pub fn revoke(&mut self, what: Revoke, by: &str, reason: &str) -> Result<Revocation, InventoryError> {
        let mut what = what;
        if let Revoke::Ca { kind, fingerprint } = &mut what {
            *fingerprint = self.ca_key((*kind).into()).public_key().fingerprint();
        }
        let done = self.inventory.revoke(&what, self.clock.now(), by, reason)?;
        log::info(&revocation_line(&what, by, reason, done));
        if matches!(done, Revocation::Done { .. }) {
            self.note_change();
        }
        Ok(done)
    }

    /// Lifts a revocation; `by` is who asked.
    /// # Errors
    /// [`InventoryError`]
    pub fn lift(&mut self, act: u64, by: &str) -> Result<Lifted, InventoryError> {
        let done = self.inventory.lift(act, self.clock.now(), by)?;
        if let Lifted::Done { certificates, held } = done {
            let held = if held == 0 { String::new() } else { format!(", {held} stay revoked by another one") };
            log::warning(&format!("Lifted revocation {act} by {by}: {certificates} certificates are good again{held}"));
            self.note_change();
        }
        Ok(done)
    }

    /// The KRL of all that is revoked and not over, for both CAs: the last one, if that is younger than a minute and nothing was revoked or lifted since.
    /// # Errors
    /// [`KrlError`]
    pub fn krl(&mut self) -> Result<Vec<u8>, KrlError> {
        if let Some(krl) = self.feed.kept_krl(self.now()) {
            return Ok(krl.to_vec());
        }
        self.krl_of_now().map(|(_, _, krl)| krl)
    }

    /// A new one with its version, which is above every one before, and its time.
    /// # Errors
    /// [`KrlError`]
    pub fn krl_of_now(&mut self) -> Result<(u64, UnixTime, Vec<u8>), KrlError> {
        let now = self.now();
        let (user_ca, host_ca) = self.public_keys();
        let mut certificates = Vec::new();
        for (ca, kind) in [(user_ca, Kind::User), (host_ca, Kind::Host)] {
            let RevokedHere { serials, key_ids } = self.inventory.revoked(kind, now)?;
            certificates.push(RevokedOf { ca, serials, key_ids });
        }
        let keys = self.inventory.revoked_keys()?;
        let keys = keys.iter().map(|fingerprint| sha256_of(fingerprint)).collect::<Option<_>>();
        let keys = keys.ok_or(KrlError::Fingerprint)?;
        let version = self.inventory.next_krl_version(now)?;
        let krl = KrlTemplate { certificates, keys, ..KrlTemplate::new(version, now, "usshca") }.to_bytes();
        let read = RevokedKeys::parse(&krl)?;
        if read.version() != Some(version) || read.generated() != Some(now) {
            return Err(KrlError::Different);
        }
        self.feed.keep_krl(now, &krl);
        Ok((version, now, krl))
    }
}

/// The hash in a fingerprint `SHA256:…`.
pub fn sha256_of(fingerprint: &str) -> Option<[u8; 32]> {
    Base64Unpadded::decode_vec(fingerprint.strip_prefix("SHA256:")?).ok()?.try_into().ok()
}

/// What a revocation is about, in raw text.
fn subject(what: &Revoke) -> String {
    let of = |kind: &admin::CertificateKind| match kind {
        admin::CertificateKind::User => "user",
        admin::CertificateKind::Host => "host",
    };
    match what {
        Revoke::Serial(serial) => format!("serial {serial}"),
        Revoke::User(name) => format!("all certificates of user {name}"),
        Revoke::Host(name) => format!("all certificates of host {name}"),
        Revoke::Key(fingerprint) => format!("key {fingerprint}"),
        Revoke::KeyId { kind, key_id } => format!("{} key ID \"{key_id}\"", of(kind)),
        Revoke::Before { kind, time } => format!("all {} certificates issued before {time}", of(kind)),
        Revoke::Ca { kind, fingerprint } => format!("{} CA key {fingerprint}", of(kind)),
        Revoke::Serials { first, last } => format!("serials {first} to {last}"),
    }
}

/// Raw text.
fn revocation_line(what: &Revoke, by: &str, reason: &str, done: Revocation) -> String {
    let what = subject(what);
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match done {
        Revocation::Done { act, certificates, held } => {
            let held = if held == 0 { String::new() } else { format!(", {held} of them revoked before") };
            format!("Revoked {what} (revocation {act}, {certificates} certificates{held}) by {by}{reason}")
        }
        Revocation::Already => format!("Revoked before: {what}; asked again by {by}{reason}"),
        Revocation::Unknown => format!("Not revoked: there is no certificate for {what}; asked by {by}{reason}"),
    }
}

/// A serial that is on disk, and what was decided about it.
#[derive(Debug)]
pub struct Reserved {
    serial: u64,
    user: String,
    peer: SocketAddr,
    connection: u64,
    authenticated: String,
    mode: Mode,
    grant: Grant,
    reason: String,
}

/// A user certificate that is signed while it waits for the next turn, in which it is written: it must not leave before.
#[derive(Debug)]
pub struct SignedUser {
    ordered: Ordered,
    reserved: Reserved,
}

/// The answers of a turn.
#[derive(Debug)]
pub struct Turned {
    /// What was signed in the turn before and is on disk now.
    pub issued: Vec<Result<IssuedUser, Refused>>,
    /// Whether the outcomes are.
    pub noted: Vec<Result<(), InventoryError>>,
    /// What was reserved and is being signed, or why nothing is; a refusal is a row of the inventory too.
    pub decided: Vec<Result<SignedUser, Refused>>,
}

type Decided = (Asked, Result<(CertificateTemplate, Reserved), Refused>);

/// What a turn's transaction did.
struct Written {
    issued: Vec<Result<(), Refused>>,
    noted: Vec<Result<(), InventoryError>>,
    decided: Vec<Decided>,
}

impl Written {
    /// Nothing.
    fn failed(
        error: InventoryError,
        signed: usize,
        outcomes: &[OutcomeOf],
        requests: &[(&Passed, UserRequest<'_>)],
        now: UnixTime,
    ) -> Self {
        let error = Arc::new(error);
        let shared = || InventoryError::shared(&error);
        let decided =
            |(passed, request): &(&Passed, UserRequest<'_>)| (asked(passed, request, now), Err(shared().into()));
        Written {
            issued: (0..signed).map(|_| Err(shared().into())).collect(),
            noted: outcomes.iter().map(|_| Err(shared())).collect(),
            decided: requests.iter().map(decided).collect(),
        }
    }
}

fn record_signature(
    batch: &mut Batch<'_>,
    serial: u64,
    signed: &Result<Certificate, IssueError>,
) -> Result<(), Refused> {
    match signed {
        Ok(certificate) => Ok(batch.mark_signed(serial, certificate.blob())?),
        // The row stands there in any case, and nothing was signed.
        Err(e) => Ok(batch.mark_unsigned(serial, &e.to_string())?),
    }
}

/// The user's own words come last and in quotes, which they cannot close.
fn issued_detail(user: &str, peer: SocketAddr, rule: &str, reason: &str) -> String {
    let said = if reason.is_empty() { String::new() } else { format!(" reason \"{}\"", reason.replace('"', "'")) };
    format!("for {user} from {peer} rule \"{rule}\"{said}")
}

fn finish_user(
    certificate: Result<Certificate, Refused>,
    reserved: Reserved,
    now: UnixTime,
) -> Result<IssuedUser, Refused> {
    let Reserved { serial, user, peer, connection, authenticated, mode, grant, reason } = reserved;
    let certificate = certificate.inspect_err(|refused| {
        let line = format!("Refusing a certificate to \"{user}\" from {peer}: serial {serial}: {refused}");
        let (source, whole, number) = (peer.ip().to_canonical().to_string(), peer.to_string(), connection.to_string());
        let more = [("user", &*user), ("connection", &*number), ("peer", &*whole), ("rule", &*grant.rule)];
        log::refusal(&line, &user, &source, &refused.to_string(), &more);
        counts::refused();
    })?;
    let detail = issued_detail(&user, peer, &grant.rule, &reason);
    let (peer, connection) = (peer.to_string(), connection.to_string());
    let fields = [
        ("user", &*user),
        ("rule", &*grant.rule),
        ("peer", &*peer),
        ("connection", &*connection),
        ("authenticated", &*authenticated),
        ("mode", mode.name()),
    ];
    log::decision(&audit::certificate_line("Issued", &certificate, &detail), "issued", &certificate, &fields);
    counts::issued(Kind::User, now);
    let left = certificate.valid_before().0.saturating_sub(now.0);
    let left = left.min(grant.agent_lifetime_seconds.unwrap_or(left));
    Ok(IssuedUser {
        user,
        certificate,
        // Not 0: an agent takes that as "for ever".
        lifetime_seconds: u32::try_from(left).unwrap_or(u32::MAX).max(1),
        confirm: grant.confirm,
        rule: grant.rule,
    })
}

/// As far as it is known before it is decided.
fn asked(passed: &Passed, request: &UserRequest<'_>, now: UnixTime) -> Asked {
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
fn decide_user(
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

/// A failed signature has its row already.
fn record_refusal(batch: &mut Batch<'_>, asked: &Asked, refused: &Refused) -> Result<(), InventoryError> {
    if matches!(refused, Refused::Sign(_)) {
        return Ok(());
    }
    batch.record_refusal(asked, &refused.to_string(), refused.is_by_policy())
}

/// A user's.
fn log_refusal_of(request: &UserRequest<'_>, asked: &Asked, refused: &Refused) {
    let (connection, peer) = (request.connection.to_string(), request.peer.to_string());
    let more = [("user", &*asked.key_id), ("connection", &*connection), ("peer", &*peer), ("rule", &*asked.rule)];
    log_refusal(asked, refused, &more.into_iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>());
}

fn log_refusal(asked: &Asked, refused: &Refused, more: &[(&str, &str)]) {
    let line = format!("Refusing a certificate to \"{}\" from {}: {refused}", asked.key_id, asked.source);
    log::refusal(&line, &asked.key_id, &asked.source, &refused.to_string(), more);
    counts::refused();
}

fn log_outcome(of: &OutcomeOf, noted: &Result<(), InventoryError>) {
    let OutcomeOf { serial, user, outcome } = of;
    let number = serial.to_string();
    let fields = |event, reason| {
        let fields = [("event", event), ("serial", &*number), ("user", user), ("reason", reason)];
        fields.into_iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>()
    };
    match (noted, outcome) {
        (Ok(()), Outcome::Delivered) => {
            log::event(Severity::Info, &format!("serial {serial} delivered"), &fields("delivered", ""));
        }
        (Ok(()), Outcome::Undelivered(why)) => {
            log::event(Severity::Warning, &format!("serial {serial} undelivered: {why}"), &fields("undelivered", why));
        }
        (Err(e), _) => log::warning(&format!("the outcome of serial {serial} could not be noted: {e}")),
    }
}

fn warn_of(error: Option<InventoryError>) {
    if let Some(e) = error {
        log::warning(&format!("the refusal could not be recorded: {e}"));
    }
}

/// The key that is to be certified.
fn subject_key(blob: &[u8], own: &[PublicKey]) -> Result<PublicKey, Refused> {
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

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;
