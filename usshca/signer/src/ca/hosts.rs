//! Host certificates: by an administrator's word, by a token, by a host's own key. A host is in the inventory before anything is signed for it.

use std::net::SocketAddr;

use ussh_core::audit;
use ussh_core::break_glass::Note;
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::UnixTime;
use ussh_core::enroll::{Grant, HostToken, MAX_NAMES, MAX_NOTES, NONCE_LEN, Proven};
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::{PublicKey, SigningKey};
use usshca_ipc::admin::Revoke;
use usshca_ipc::host::Token;

use super::decision::subject_key;
use super::{Ca, log_refusal, record_refusal, warn_of};
use crate::counts;
use crate::inventory::{
    Asked, InventoryError, KeyOf, KeyState, Kind, Removal, Revocation, TokenFound, TokenRevocation,
};
use crate::log;
use crate::policy::MAX_HOST_VALIDITY;
use crate::refused::Refused;

/// How long before now a host certificate starts, in seconds: a client's clock may be behind.
const HOST_BACKDATE: u64 = 300;
/// Longest life of a token, in seconds: a week.
const MAX_TOKEN_LIFE: u64 = 7 * 86_400;
/// Most tokens that can be used at one time.
const MAX_TOKENS: u64 = 10_000;
/// Most certificates of one key in an hour: a host that asks on and on fills the inventory.
const MAX_PER_HOUR: u64 = 10;
/// Most break-glass uses that a host tells of in a day: it waits with more, and its own alarm says so.
const MAX_NOTES_PER_DAY: u64 = 256;
/// What a host does that cannot go on by itself.
const ASK_FOR_A_TOKEN: &str = "Ask the people who run the CA for a new token (usshca host token)";

/// What is asked for a host.
#[derive(Clone, Debug)]
pub struct HostRequest {
    /// Wire form of its key.
    pub public_key: Vec<u8>,
    /// Its names, its own first.
    pub principals: Vec<String>,
    /// Seconds from now; `None`: as the policy says.
    pub validity_seconds: Option<u64>,
    /// Also if the key is another host's.
    pub take_key: bool,
}

/// What a host is given, signed and on disk.
#[derive(Debug)]
pub struct HostGrant {
    /// For the host.
    pub grant: Grant,
    /// Of the certificates in it.
    pub serials: Vec<u64>,
}

/// A token that was just made.
#[derive(Debug)]
pub struct NewToken {
    /// The secret.
    pub secret: HostToken,
    /// All else.
    pub token: Token,
}

impl Ca {
    /// Issues a host certificate by an administrator's word, and enters the host; `by` is who asked.
    /// # Errors
    /// [`Refused`]; a refusal is a row of the inventory too.
    pub fn issue_host(&mut self, request: &HostRequest, by: &str) -> Result<Certificate, Refused> {
        let name = request.principals.first().map_or("", String::as_str);
        let mut asked = self.asked_for(name, "admin", by);
        let issued = self.check_and_sign_host(request, &mut asked);
        match &issued {
            Ok(certificate) => issued_line(certificate, by, &asked),
            Err(refused) => self.record_refusal(&asked, refused),
        }
        issued
    }

    fn check_and_sign_host(&mut self, request: &HostRequest, asked: &mut Asked) -> Result<Certificate, Refused> {
        let key = self.host_key(&request.public_key)?;
        asked.fingerprint = key.fingerprint();
        self.check_names(&request.principals).map_err(Refused::Host)?;
        let validity = request.validity_seconds.unwrap_or(self.policy.hosts().validity_seconds);
        if !(1..=MAX_HOST_VALIDITY).contains(&validity) {
            return Err(Refused::Host(format!("the validity must be 1 to {MAX_HOST_VALIDITY} seconds")));
        }
        if let Some(other) = self.other_host_with(&key, &asked.key_id)? {
            if !request.take_key {
                return Err(Refused::Host(format!(
                    "this key is host {other}'s, and a key is one host's: give {name} one of its own (ssh-keygen on that host), or take it away from {other} by --take-key",
                    name = asked.key_id
                )));
            }
            log::warning(&format!(
                "key {} of host {other} is host {}'s from now on, by {}",
                asked.fingerprint, asked.key_id, asked.authenticated
            ));
        }
        self.inventory.enter_host(&request.principals, &key, asked.asked, &asked.authenticated)?;
        self.sign_host(key, &request.principals, validity, asked)
    }

    /// Another host than `name` whose key this is, and is still.
    /// # Errors
    /// [`InventoryError`]
    pub fn other_host_with(&self, key: &PublicKey, name: &str) -> Result<Option<String>, InventoryError> {
        let known = self.inventory.host_of_key(&key.fingerprint())?.filter(|known| known.host != name);
        Ok(known.and_then(|known| match known.state {
            KeyState::Good | KeyState::Revoked => Some(known.host),
            KeyState::Replaced | KeyState::Removed => None,
        }))
    }

    /// Makes a token for a host of these names; `by` is who asked.
    /// # Errors
    /// [`Refused`]
    pub fn make_host_token(&mut self, names: &[String], life: u64, by: &str) -> Result<NewToken, Refused> {
        self.check_names(names).map_err(Refused::Host)?;
        if !(1..=MAX_TOKEN_LIFE).contains(&life) {
            return Err(Refused::Host(format!("a token is good for {MAX_TOKEN_LIFE} seconds at most (7d)")));
        }
        let now = self.now();
        if self.inventory.count_open_tokens(now)? >= MAX_TOKENS {
            return Err(Refused::Host(format!("there are {MAX_TOKENS} tokens that were not used; revoke some")));
        }
        let secret = HostToken::generate(&self.keys.host.public_key()).map_err(|_| InventoryError::NoRandom)?;
        let fingerprint = secret.key().map_err(Refused::Key)?.public_key().fingerprint();
        let expires = UnixTime(now.0.saturating_add(life));
        let id = self.inventory.add_host_token(&fingerprint, names, now, by, expires)?;
        log::info(&format!("Made host token {id} for {} until {} by {by}", names.join(","), expires.0));
        let token = Token { id, names: names.to_vec(), made: now.0, made_by: by.to_owned(), expires: expires.0 };
        Ok(NewToken { secret, token })
    }

    /// Whether a host of the inventory has this key, good or not. One that cannot be looked up is not known.
    pub fn knows_host_key(&self, fingerprint: &str) -> bool {
        matches!(self.inventory.host_of_key(fingerprint), Ok(Some(_)))
    }

    /// Whether this is the fingerprint of a token that can be used.
    pub fn knows_host_token(&self, fingerprint: &str) -> bool {
        let is_open = |token: TokenFound| token.used.is_none() && token.revoked.is_none() && self.now() < token.expires;
        self.inventory.host_token(fingerprint).is_ok_and(|token| token.is_some_and(is_open))
    }

    /// Makes a token useless; `by` is who asked.
    /// # Errors
    /// [`InventoryError`]
    pub fn revoke_host_token(&mut self, id: u64, by: &str) -> Result<TokenRevocation, InventoryError> {
        let done = self.inventory.revoke_host_token(id, self.clock.now(), by)?;
        if done == TokenRevocation::Done {
            log::info(&format!("Revoked host token {id} by {by}"));
        }
        Ok(done)
    }

    /// Takes a host out and revokes its certificates; `by` is who asked. Gives how many, or nothing if there is no such host.
    /// # Errors
    /// [`InventoryError`]. The host is out then or it is not; asked again, what is left is done.
    pub fn remove_host(&mut self, name: &str, by: &str, reason: &str) -> Result<Option<u64>, InventoryError> {
        let Removal::Out(serials) = self.inventory.remove_host(name, self.clock.now(), by)? else {
            return Ok(None);
        };
        let reason = if reason.is_empty() { "the host was removed" } else { reason };
        let mut count = 0;
        for serial in serials {
            // Those that another revocation holds too: it may be lifted.
            if let Revocation::Done { certificates, held, .. } = self.revoke(Revoke::Serial(serial), by, reason)? {
                count += certificates.saturating_sub(held);
            }
        }
        log::info(&format!("Removed host {name} by {by}: {count} certificates revoked"));
        Ok(Some(count))
    }

    /// A host with a token: the token is used up, the host entered with these keys and no others, and each key certified, in this order.
    /// # Errors
    /// [`Refused`]; one of somebody who has a token is a row of the inventory too.
    pub fn enroll(&mut self, proven: &Proven, nonce: &[u8; NONCE_LEN], peer: SocketAddr) -> Result<HostGrant, Refused> {
        let from = peer.ip().to_canonical().to_string();
        let Some(token) = self.inventory.host_token(proven.token().unwrap_or_default())? else {
            log::warning(&format!("Refusing to enroll a host from {from}: a token that is not known"));
            return Err(Refused::Host(format!("The CA does not know this token. {ASK_FOR_A_TOKEN}.")));
        };
        let name = token.names.first().cloned().unwrap_or_default();
        let by = format!("token {}", token.id);
        let asked = self.asked_for(&name, &from, &by);
        let granted = self.use_token(&token, proven, nonce, &asked);
        self.seen(&name, &by, proven.keys(), asked, granted)
    }

    fn use_token(
        &mut self,
        token: &TokenFound,
        proven: &Proven,
        nonce: &[u8; NONCE_LEN],
        asked: &Asked,
    ) -> Result<HostGrant, Refused> {
        check_token(token, proven.names(), asked.asked).map_err(Refused::Host)?;
        self.check_names(&token.names).map_err(Refused::Host)?;
        for key in proven.keys() {
            self.host_key(key.blob())?;
            if let Some(other) = self.inventory.host_of_key(&key.fingerprint())?
                && other.host != asked.key_id
                && other.state != KeyState::Removed
            {
                let why = format!(
                    "The key {} belongs to the host {}. Each host has keys of its own: make new ones here (rm /etc/ssh/ssh_host_*_key*; ssh-keygen -A), or have that host removed (usshca host remove).",
                    key.fingerprint(),
                    other.host
                );
                return Err(Refused::Host(why));
            }
        }
        if !self.inventory.enroll_host(token.id, &token.names, proven.keys(), asked.asked, &asked.source)? {
            return Err(Refused::Host(format!("This token was used a moment ago. {ASK_FOR_A_TOKEN}.")));
        }
        let keys: Vec<(PublicKey, Vec<String>)> =
            proven.keys().iter().map(|key| (key.clone(), token.names.clone())).collect();
        self.grant(&asked.key_id, &keys, nonce, asked)
    }

    /// A host by its own keys: each gets another certificate for the names that it has.
    /// # Errors
    /// [`Refused`]; one of a host that is known is a row of the inventory too.
    pub fn renew(&mut self, proven: &Proven, nonce: &[u8; NONCE_LEN], peer: SocketAddr) -> Result<HostGrant, Refused> {
        let (first, by, asked) = self.host_that_asks(proven, peer, "renew")?;
        let granted = self.renew_keys(&first, proven, nonce, &asked);
        self.seen(&first.host, &by, proven.keys(), asked, granted)
    }

    fn renew_keys(
        &mut self,
        first: &KeyOf,
        proven: &Proven,
        nonce: &[u8; NONCE_LEN],
        asked: &Asked,
    ) -> Result<HostGrant, Refused> {
        let keys = self.good_keys(first, proven)?;
        let an_hour_ago = UnixTime(asked.asked.0.saturating_sub(3600));
        for (key, principals) in &keys {
            if !proven.names().is_empty() && !same_names(proven.names(), principals) {
                let why = format!(
                    "A host is renewed for the names that it has: {}. {ASK_FOR_A_TOKEN} for others.",
                    principals.join(", ")
                );
                return Err(Refused::Host(why));
            }
            self.check_names(principals).map_err(Refused::Host)?;
            if self.inventory.count_issued(&key.fingerprint(), an_hour_ago)? >= MAX_PER_HOUR {
                let why = format!("This key was given {MAX_PER_HOUR} certificates within an hour. Try again later.");
                return Err(Refused::Host(why));
            }
        }
        self.grant(&first.host, &keys, nonce, asked)
    }

    /// A host says that it is alive. Gives its name, and when the first of its certificates ends.
    /// # Errors
    /// [`Refused`]
    pub fn report(&mut self, proven: &Proven, peer: SocketAddr) -> Result<(String, Option<u64>), Refused> {
        let (first, by, asked) = self.host_that_asks(proven, peer, "report")?;
        let good = self.good_keys(&first, proven).map(|_| ());
        let name = first.host;
        self.seen(&name, &by, proven.keys(), asked, good)?;
        log::info(&format!("Host {name} reports from {} by {by}", peer.ip().to_canonical()));
        let host = self.inventory.host(&name)?;
        Ok((name, host.and_then(|host| host.valid_before()).filter(|end| *end > 0)))
    }

    /// A host tells of break-glass uses on it: each is a row of its own, once, on disk before this returns. All of them are, or none.
    /// # Errors
    /// [`Refused`]
    pub fn record_break_glass(&mut self, proven: &Proven, peer: SocketAddr) -> Result<(String, Option<u64>), Refused> {
        let (first, by, asked) = self.host_that_asks(proven, peer, "break-glass")?;
        let now = asked.asked;
        let good = self.good_keys(&first, proven).and_then(|_| self.notes_of(&first.host, proven, now));
        let name = first.host;
        let notes = self.seen(&name, &by, proven.keys(), asked, good)?;
        for note in self.inventory.add_break_glass(&name, &notes, now)? {
            log::warning(&format!(
                "BREAK-GLASS on host {name}: user {} from {} by certificate ID {} (serial {}) key {} CA {} at {} ({})",
                note.user, note.from, note.key_id, note.serial, note.key, note.ca, note.opened.0, note.id
            ));
        }
        let host = self.inventory.host(&name)?;
        Ok((name, host.and_then(|host| host.valid_before()).filter(|end| *end > 0)))
    }

    fn notes_of(&self, host: &str, proven: &Proven, now: UnixTime) -> Result<Vec<Note>, Refused> {
        let notes: Option<Vec<Note>> = proven.names().iter().map(|line| Note::parse(line.as_bytes())).collect();
        let Some(notes) = notes.filter(|notes| (1..=MAX_NOTES).contains(&notes.len())) else {
            return Err(Refused::Host(format!("a report of break-glass is 1 to {MAX_NOTES} notes")));
        };
        let since = UnixTime(now.0.saturating_sub(86_400));
        if self.inventory.count_break_glass(host, since)? >= MAX_NOTES_PER_DAY {
            return Err(Refused::Host(format!(
                "the host {host} has told of {MAX_NOTES_PER_DAY} uses of break-glass within a day: no more today"
            )));
        }
        Ok(notes)
    }

    /// The KRL, for a host that is known.
    /// # Errors
    /// [`Refused`]
    pub fn krl_for_host(&mut self, proven: &Proven, peer: SocketAddr) -> Result<Vec<u8>, Refused> {
        let (first, by, asked) = self.host_that_asks(proven, peer, "krl")?;
        let good = self.good_keys(&first, proven).map(|_| ());
        self.seen(&first.host, &by, proven.keys(), asked, good)?;
        log::info(&format!("Host {} takes the KRL from {} by {by}", first.host, peer.ip().to_canonical()));
        self.krl().map_err(|e| {
            log::warning(&format!("no KRL: {e}"));
            Refused::Host("The CA cannot make a KRL at the moment. Try again later.".to_owned())
        })
    }

    /// By the first of its keys. A key that no host has is not in the inventory, and its refusal neither: anybody can have one.
    fn host_that_asks(
        &mut self,
        proven: &Proven,
        peer: SocketAddr,
        verb: &str,
    ) -> Result<(KeyOf, String, Asked), Refused> {
        let from = peer.ip().to_canonical().to_string();
        let fingerprint = proven.keys().first().map(PublicKey::fingerprint).unwrap_or_default();
        let Some(first) = self.inventory.host_of_key(&fingerprint)? else {
            log::warning(&format!("Refusing {verb} to a host from {from}: no host has the key {fingerprint}"));
            return Err(Refused::Host(format!(
                "The CA knows no host with the key {fingerprint}. {ASK_FOR_A_TOKEN} and enroll."
            )));
        };
        let by = format!("host key {fingerprint}");
        let asked = Asked { fingerprint, ..self.asked_for(&first.host, &from, &by) };
        Ok((first, by, asked))
    }

    /// Every key must be this host's, and good; with it what its certificates hold.
    fn good_keys(&self, first: &KeyOf, proven: &Proven) -> Result<Vec<(PublicKey, Vec<String>)>, Refused> {
        let good = |key: &PublicKey| -> Result<(PublicKey, Vec<String>), Refused> {
            let fingerprint = key.fingerprint();
            let known = self.inventory.host_of_key(&fingerprint)?.filter(|known| known.host == first.host);
            let Some(known) = known else {
                let why = format!("The key {fingerprint} is none of the host {}'s. {ASK_FOR_A_TOKEN}.", first.host);
                return Err(Refused::Host(why));
            };
            let host = &first.host;
            let why = match known.state {
                KeyState::Good => return Ok((key.clone(), known.principals)),
                KeyState::Replaced => format!("The host {host} was enrolled again without the key {fingerprint}."),
                KeyState::Removed => format!("The host {host} was removed from the CA."),
                KeyState::Revoked => {
                    format!("The key {fingerprint} of the host {host} is revoked, or its last certificate is.")
                }
            };
            Err(Refused::Host(format!("{why} {ASK_FOR_A_TOKEN}.")))
        };
        proven.keys().iter().map(good).collect()
    }

    /// Certifies each key, and signs what the host is given.
    fn grant(
        &mut self,
        host: &str,
        keys: &[(PublicKey, Vec<String>)],
        nonce: &[u8; NONCE_LEN],
        asked: &Asked,
    ) -> Result<HostGrant, Refused> {
        let validity = self.policy.hosts().validity_seconds;
        let (mut certificates, mut serials) = (Vec::new(), Vec::new());
        for (key, principals) in keys {
            let mut asked = Asked { fingerprint: key.fingerprint(), ..asked.clone() };
            let certificate = self.sign_host(key.clone(), principals, validity, &mut asked)?;
            let detail = format!("by {} from {}", asked.authenticated, asked.source);
            issued_line(&certificate, &detail, &asked);
            serials.push(certificate.serial());
            certificates.push(certificate.to_openssh(host));
        }
        let (user_ca, host_ca) = self.public_keys();
        let (feed_key, _) = self.feed_key();
        let mut grant = Grant {
            host: host.to_owned(),
            certificates,
            user_ca: vec![user_ca.to_openssh("user CA")],
            known_hosts: self.known_hosts_line(&host_ca.to_openssh("host CA")),
            feed_key: feed_key.map(|key| key.to_openssh("")),
            signature: Vec::new(),
        };
        grant.signature = self.keys.host.sign(&grant.signed_data(nonce)).map_err(|e| Refused::Sign(e.into()))?;
        Ok(HostGrant { grant, serials })
    }

    fn sign_host(
        &mut self,
        key: PublicKey,
        principals: &[String],
        validity: u64,
        asked: &mut Asked,
    ) -> Result<Certificate, Refused> {
        let now = asked.asked;
        let template = CertificateTemplate {
            public_key: key,
            serial: 0,
            kind: CertificateKind::Host,
            key_id: asked.key_id.clone(),
            principals: principals.to_vec(),
            valid_after: UnixTime(now.0.saturating_sub(HOST_BACKDATE)),
            valid_before: UnixTime(now.0.saturating_add(validity)),
            critical_options: Vec::new(),
            extensions: Vec::new(),
        };
        self.reserve_sign_commit(template, asked)
    }

    /// What a host got or was refused is noted: where it was seen, and whether in two places; or why not.
    fn seen<T>(
        &mut self,
        name: &str,
        by: &str,
        keys: &[PublicKey],
        asked: Asked,
        outcome: Result<T, Refused>,
    ) -> Result<T, Refused> {
        match &outcome {
            Ok(_) => {
                let fingerprints: Vec<String> = keys.iter().map(PublicKey::fingerprint).collect();
                if let Some(other) = self.inventory.see_host(name, &fingerprints, &asked.source, asked.asked)? {
                    log::warning(&format!(
                        "Host {name} is in two places: its key is used from {} and from {other} in turn ({by}); was it cloned?",
                        asked.source
                    ));
                }
            }
            Err(refused) => self.record_refusal(&asked, refused),
        }
        outcome
    }

    fn record_refusal(&mut self, asked: &Asked, refused: &Refused) {
        log_refusal(asked, refused, &[]);
        let recorded = self.inventory.batch(|batch| record_refusal(batch, asked, refused));
        warn_of(recorded.and_then(|recorded| recorded).err());
    }

    fn asked_for(&self, name: &str, source: &str, by: &str) -> Asked {
        Asked {
            kind: Kind::Host,
            key_id: escape(name.as_bytes(), MAX_FIELD),
            fingerprint: String::new(),
            asked: self.now(),
            source: source.to_owned(),
            authenticated: by.to_owned(),
            rule: String::new(),
            reason: String::new(),
            request: None,
        }
    }

    fn host_key(&self, blob: &[u8]) -> Result<PublicKey, Refused> {
        let key = subject_key(blob, &self.own_keys())?;
        if key.is_fido() {
            return Err(Refused::Host("a key that a person must touch cannot be a host key".to_owned()));
        }
        if let Some(user) = self.inventory.user_of_key(&key.fingerprint())? {
            return Err(Refused::Host(format!(
                "this key is registered for the user {user}, who would be that host by it: take a key of the host's own (/etc/ssh/ssh_host_*_key.pub), or end that first: usshca key remove {}",
                key.fingerprint()
            )));
        }
        Ok(key)
    }

    fn check_names(&self, names: &[String]) -> Result<(), String> {
        if names.is_empty() || names.len() > MAX_NAMES {
            return Err(format!("a host has 1 to {MAX_NAMES} names"));
        }
        let wildcards = &self.policy.hosts().wildcards;
        let unfit = |name: &&String| !is_host_name(name) && !wildcards.contains(name);
        // Its first one is what it is called here.
        let own = names.first().filter(|name| !is_host_name(name));
        if let Some(name) = names.iter().find(unfit).or(own) {
            let name = escape(name.as_bytes(), 64);
            return Err(format!(
                "\"{name}\" is no host name: small letters, digits, dot, hyphen, underscore and colon; no wildcards but behind the host's own name, and those that the policy names (host_wildcards)"
            ));
        }
        Ok(())
    }
}

fn issued_line(certificate: &Certificate, detail: &str, asked: &Asked) {
    log::decision(&audit::certificate_line("Issued host", certificate, detail), "issued", certificate, &[]);
    counts::issued(Kind::Host, asked.asked);
}

/// Whether it can be used for these names; why not.
fn check_token(token: &TokenFound, names: &[String], now: UnixTime) -> Result<(), String> {
    let why = if token.revoked.is_some() {
        "This token was revoked.".to_owned()
    } else if let Some(used) = token.used {
        format!("This token was used before, {} s ago.", now.0.saturating_sub(used.0))
    } else if now >= token.expires {
        format!("This token expired {} s ago.", now.0.saturating_sub(token.expires.0))
    } else if !names.is_empty() && !same_names(names, &token.names) {
        format!("This token is for other names: {}.", token.names.join(", "))
    } else {
        return Ok(());
    };
    Err(format!("{why} {ASK_FOR_A_TOKEN}."))
}

/// In any order.
fn same_names(asked: &[String], known: &[String]) -> bool {
    asked.iter().all(|name| known.contains(name)) && known.iter().all(|name| asked.contains(name))
}

/// A name or an address as ssh compares it: in small letters (sshconnect.c), without patterns (OpenSSH 10.3 and later would honour them).
pub fn is_host_name(name: &str) -> bool {
    let fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_' | b':');
    !name.is_empty() && name.len() <= 253 && !name.starts_with('-') && name.bytes().all(fit)
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
