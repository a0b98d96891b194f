//! What a front asks on the way to a proof, and the proof itself: a registered key, or a key that is to be certified, signs a message that was made here, for this connection, user and purpose, once.
//!
//! Untrusted: the front that carries message and signature. What it is told before a proof is worth nothing to it: the signer believes the signature alone.

use std::time::{Duration, Instant};

use ussh_core::keys::PublicKey;
use ussh_core::login_proof::{self, LoginChallenge, LoginContext};
use usshca_ipc::front::{FromSigner, MAX_KNOWS, Makes, Purpose, Way, Wish};

use super::Server;
use super::fronts::Offered;
use super::refused_logins::{Reason, Tried};
use crate::inventory::Registered;
use crate::log;
use crate::policy::{KeyKind, MAX_NAME, Mode, Proofs, Question};

/// How long a key, or the person who must touch it, may take.
pub(super) const CHALLENGE_LIFE: Duration = Duration::from_secs(90);

/// A message that a key is to sign.
pub struct Asked {
    attempt: u32,
    /// For the inventory, if it does not.
    tried: Tried,
    /// Fingerprint.
    key: String,
    challenge: LoginChallenge,
    since: Instant,
}

impl Server {
    pub(super) fn ways(&mut self, connection: u64) {
        let Some(front) = self.fronts.get(&connection) else {
            return;
        };
        let ways = || self.ca.policy().ways_from(front.peer.ip());
        let publickey = ways().any(|proofs| proofs.publickey);
        let none = ways().any(|proofs| !proofs.publickey && !proofs.pam);
        self.tell(connection, &FromSigner::Ways { publickey, none });
    }

    /// Of a name that no account has it says what it says of an unknown key: there is no looking up of names in this.
    pub(super) fn knows(&mut self, connection: u64, user: &str, key: &[u8]) {
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        front.knows += 1;
        if front.knows > MAX_KNOWS || user.len() > MAX_NAME {
            return self.misbehaved(connection, "asks about more keys than a front of ours does");
        }
        let (known, fingerprint) = match PublicKey::from_blob(key) {
            Ok(key) => (self.registered(connection, user, &key), key.fingerprint()),
            Err(_) => (Registered::No, String::new()),
        };
        let (registered, revoked) = (known == Registered::Yes, known == Registered::Revoked);
        if let Some(front) = self.fronts.get_mut(&connection) {
            front.offered = Some(Offered { user: user.to_owned(), fingerprint, registered, revoked });
        }
        // Revoked keys are no secret: the feed, which is for everybody, names them.
        self.tell(connection, &if revoked { FromSigner::KnownRevoked } else { FromSigner::Known(registered) });
    }

    pub(super) fn demands(&mut self, connection: u64, attempt: u32, by_key: bool) {
        let Some((ways, kinds)) = self.demanded(connection, attempt) else {
            return self.misbehaved(connection, "asks what is demanded of nobody");
        };
        if let Some(kept) = self.fronts.get_mut(&connection).and_then(|front| front.statements.get_mut(&attempt)) {
            kept.by_key |= by_key;
        }
        let way = |proofs: &Proofs| Way { pam: proofs.pam, publickey: proofs.publickey };
        let makes = |kind: &KeyKind| match kind {
            KeyKind::Ed25519 => Some(Makes::Ed25519),
            KeyKind::Ecdsa => Some(Makes::Ecdsa),
            KeyKind::Rsa | KeyKind::SkEd25519 | KeyKind::SkEcdsa => None,
        };
        let (ways, makes) = (ways.iter().map(way).collect(), kinds.iter().filter_map(makes).collect());
        self.tell(connection, &FromSigner::Demands { ways, makes });
    }

    /// What policy demands of whoever was named in an attempt: where it has nothing for them, PAM.
    pub(super) fn demanded(&self, connection: u64, attempt: u32) -> Option<(Vec<Proofs>, Vec<KeyKind>)> {
        let front = self.fronts.get(&connection)?;
        let passed = &front.statements.get(&attempt)?.passed;
        let question = Question {
            user: &passed.user,
            groups: &passed.groups,
            source: front.peer.ip().to_canonical(),
            time: self.ca.now(),
            proofs: passed.proofs,
            mode: Mode::Inject,
            key_kind: KeyKind::Ed25519,
            wish: &Wish::default(),
        };
        let demands = self.ca.policy().demands(&question);
        let pam = || (vec![Proofs { pam: true, publickey: false }], vec![KeyKind::Ed25519]);
        Some(demands.map_or_else(pam, |demands| (demands.authentication.to_vec(), demands.key_types.to_vec())))
    }

    pub(super) fn challenge(&mut self, connection: u64, attempt: u32, purpose: Purpose, key: &[u8]) {
        let (now, life, challenge_life) = (self.ca.now(), self.statement_life, self.challenge_life);
        let ca = self.ca.public_keys().0.fingerprint();
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        front.asked = None;
        if front.has_failed_enough() {
            return self.misbehaved(connection, "tries more keys than a front of ours does");
        }
        let Some(kept) = front.statements.get(&attempt) else {
            return self.misbehaved(
                connection,
                &format!("wants a key to prove something for attempt {attempt}, which named nobody"),
            );
        };
        let tried = Tried::by(purpose);
        if !kept.is_fresh(life, life + challenge_life) {
            let passed = kept.passed.clone();
            return self.too_late(connection, &passed, tried);
        }
        let (user, passed) = (kept.passed.user.clone(), kept.passed.clone());
        let refused = |message: &str| FromSigner::Refused { message: message.to_owned() };
        let Ok(key) = PublicKey::from_blob(key) else {
            return self.tell(connection, &refused("The CA does not take keys of this type."));
        };
        if purpose == Purpose::Login
            && let Some((reason, message)) = opens_nothing(self.registered(connection, &user, &key))
        {
            self.refuse_passed(connection, &passed, tried, &key.fingerprint(), reason);
            return self.tell(connection, &refused(message));
        }
        let purpose = match purpose {
            Purpose::Login => login_proof::Purpose::Login,
            Purpose::ClientKey => login_proof::Purpose::ClientKey,
        };
        let fingerprint = key.fingerprint();
        let reply = match LoginChallenge::new(key, &LoginContext { ca, connection, user, purpose, now }) {
            Ok(challenge) => {
                let message = challenge.message().to_vec();
                if let Some(front) = self.fronts.get_mut(&connection) {
                    front.asked = Some(Asked { attempt, tried, key: fingerprint, challenge, since: Instant::now() });
                }
                FromSigner::Challenge { message }
            }
            Err(e) => {
                log::warning(&format!("connection {connection}: no random numbers: {e}"));
                refused("The CA cannot check keys at the moment. Try again later.")
            }
        };
        self.tell(connection, &reply);
    }

    /// The one place in which a key counts as proved.
    pub(super) fn prove(&mut self, connection: u64, signature: &[u8]) {
        let challenge_life = self.challenge_life;
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        // Taken, whatever comes of it: one message, one signature.
        let Some(Asked { attempt, tried, key: fingerprint, challenge, since }) = front.asked.take() else {
            return self.misbehaved(connection, "brings a signature that was not asked for");
        };
        let passed = front.statements.get(&attempt).map(|kept| kept.passed.clone());
        if since.elapsed() > challenge_life
            && let Some(passed) = &passed
        {
            return self.too_late(connection, passed, tried);
        }
        let proof = match challenge.check(signature) {
            Ok(proof) => proof,
            Err(e) => {
                match &passed {
                    Some(passed) => self.refuse_passed(connection, passed, tried, &fingerprint, Reason::Signature),
                    None => self.note_failed_proof(connection),
                }
                let message = format!("The CA does not take this key's signature: {e}.");
                return self.tell(connection, &FromSigner::Refused { message });
            }
        };
        let Some(passed) = passed else {
            return self.misbehaved(connection, "brings a signature for what is over");
        };
        let user = passed.user.clone();
        // Asked again: it may have been removed or revoked meanwhile. A key that is to be certified proves its user as well, if it is registered.
        let registered = self.registered(connection, &user, proof.key());
        let (key, purpose) = (proof.key().clone(), proof.purpose());
        if purpose == login_proof::Purpose::Login
            && let Some((reason, message)) = opens_nothing(registered)
        {
            self.refuse_passed(connection, &passed, tried, &key.fingerprint(), reason);
            return self.tell(connection, &FromSigner::Refused { message: message.to_owned() });
        }
        let Some(kept) = self.fronts.get_mut(&connection).and_then(|front| front.statements.get_mut(&attempt)) else {
            return;
        };
        if registered == Registered::Yes {
            kept.passed.proofs.publickey = true;
            kept.passed.key = Some(key.fingerprint());
            log::info(&format!(
                "connection {connection}: {user} proved the registered key {} ({}) in attempt {attempt}",
                key.fingerprint(),
                key.short_type()
            ));
        }
        if purpose == login_proof::Purpose::ClientKey {
            kept.possessed = Some(key);
        }
        kept.since = Instant::now();
        self.tell_if_enough(connection, attempt);
        self.tell(connection, &FromSigner::Proved);
    }

    /// It counts once; who is refused by [`Server::refuse_passed`] is counted there.
    pub(super) fn note_failed_proof(&mut self, connection: u64) {
        if let Some(front) = self.fronts.get_mut(&connection) {
            front.failed_proofs = front.failed_proofs.saturating_add(1);
        }
    }

    /// The supervisor hears of a login once all is proved that the rule demands, or PAM.
    pub(super) fn tell_if_enough(&mut self, connection: u64, attempt: u32) {
        let demanded = self.demanded(connection, attempt);
        let kept = self.fronts.get(&connection).and_then(|front| front.statements.get(&attempt));
        let Some(proofs) = kept.map(|kept| kept.passed.proofs) else {
            return;
        };
        if proofs.pam || demanded.is_some_and(|(ways, _)| ways.iter().any(|way| proofs.satisfy(*way))) {
            if let Some(front) = self.fronts.get_mut(&connection) {
                front.logged_in = true;
            }
            self.tell_logged_in(connection);
        }
    }

    /// A table that cannot be read has no key in it.
    fn registered(&mut self, connection: u64, user: &str, key: &PublicKey) -> Registered {
        self.ca.inventory().registered(user, key).unwrap_or_else(|e| {
            log::warning(&format!("connection {connection}: registered keys could not be looked up: {e}"));
            Registered::No
        })
    }
}

/// Why a key that is to let its user in does not, and what is told.
fn opens_nothing(registered: Registered) -> Option<(Reason, &'static str)> {
    match registered {
        Registered::Yes => None,
        Registered::No => Some((Reason::NotRegistered, "This key is not registered for you.")),
        Registered::Revoked => Some((
            Reason::KeyRevoked,
            "This key is revoked, and opens nothing. Ask the people who run the CA to register another one.",
        )),
    }
}
