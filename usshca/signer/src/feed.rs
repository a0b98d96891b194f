//! The feed: made of the CA's public keys and the KRL, signed by the feed key if that is here, and the change of that key.
//!
//! In the state folder: `feed_key` (or `feed_key.agent`) and `feed_key.pub`, or the latter alone if the key is elsewhere; `feed_handovers`, by which earlier keys named their successors.
//! The last of them says which key it is now: a change that a kill cut short is finished at the next start. A key that handed over to one elsewhere is kept as `feed_key.old` (or
//! `feed_key.agent.old`), and with it `feed_key.pub.old` and `feed_handovers.old`: nobody here has seen that other key sign, and if it is the wrong one there is a way back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ussh_core::clock::UnixTime;
use ussh_core::feed::{
    Bundle, FeedContents, FeedError, Handover, MAX_HANDOVERS, Manifest, draft, open, seal, verify_signature,
};
use ussh_core::keys::{KeyError, PrivateKey, PublicKey};
use usshca_ipc::signer::{KeySetup, Secret};

use crate::ca::{Ca, KrlError};
use crate::ca_key::{CaKey, CaKeyError, public_key};
use crate::ca_keys::CaKeys;
use crate::inventory::InventoryError;
use crate::log;
use crate::state::StateFolder;

/// Name of the key's file.
const KEY: &str = "feed_key";
const NEW_KEY: &str = "feed_key.new";
const PUBLIC: &str = "feed_key.pub";
const AGENT: &str = "feed_key.agent";
const HANDOVERS: &str = "feed_handovers";
const OLD_KEY: &str = "feed_key.old";
const OLD_PUBLIC: &str = "feed_key.pub.old";
const OLD_AGENT: &str = "feed_key.agent.old";
const OLD_HANDOVERS: &str = "feed_handovers.old";
/// How long readers over SSH are given the same feed, if nothing was revoked meanwhile: each new one takes a signature and a write. In seconds the same of a KRL: each new one raises its version,
/// and asked for without end that would be ahead of the clock, until hosts took none any more.
const READERS: Duration = Duration::from_secs(KRL_KEPT);
const KRL_KEPT: u64 = 60;

/// Why there is no feed.
#[derive(Debug, thiserror::Error)]
pub enum FeedFailure {
    /// The KRL.
    #[error("{0}")]
    Krl(#[from] KrlError),
    /// The feed would be none.
    #[error("no feed: {0}")]
    Feed(#[from] FeedError),
    /// Nobody is there to sign it.
    #[error("this CA has no feed key; `usshca feed key rotate` makes one")]
    NoKey,
    /// The key is elsewhere.
    #[error(
        "the feed key is not here: `usshca publish --unsigned DIR`, and where it is `usshca feed sign DIR --key FILE`"
    )]
    Elsewhere,
    /// The feed key cannot be changed so.
    #[error("the feed key stays as it is: {0}")]
    Rotate(String),
    /// Whose keys there are cannot be found out.
    #[error("the feed key stays as it is: {0}")]
    Inventory(#[from] InventoryError),
    /// A file of the state cannot be written.
    #[error("{path}: {source}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key cannot be made or kept.
    #[error("{0}")]
    Key(#[from] CaKeyError),
}

impl FeedFailure {
    /// For whoever asks over SSH.
    pub fn for_reader(&self) -> &'static str {
        match self {
            FeedFailure::Elsewhere => {
                "The key that signs this CA's feed is not at the CA, so there is no feed over SSH. Take it from where it is published."
            }
            FeedFailure::NoKey => {
                "This CA has no feed key, and so no feed. Its administrators make one: usshca feed key rotate"
            }
            FeedFailure::Krl(_)
            | FeedFailure::Feed(_)
            | FeedFailure::Rotate(_)
            | FeedFailure::Inventory(_)
            | FeedFailure::State { .. }
            | FeedFailure::Key(_) => "The CA cannot make its feed at the moment. Its log says why.",
        }
    }
}

/// The feed key, wherever it is, and what else a feed is made from.
#[derive(Debug, Default)]
pub struct FeedKeeper {
    folder: PathBuf,
    ca_name: String,
    valid_seconds: u64,
    /// Of the line for known_hosts.
    pattern: String,
    key: Option<FeedKey>,
    /// SSH host keys of this machine, as public key blobs.
    others: Vec<Vec<u8>>,
    handovers: Vec<Handover>,
    /// What readers over SSH are given.
    kept: Option<(Instant, u64, Vec<u8>)>,
    /// The last KRL, alone or in a feed, and when it was made.
    kept_krl: Option<(UnixTime, Vec<u8>)>,
}

#[derive(Debug)]
enum FeedKey {
    Here(CaKey),
    Elsewhere(PublicKey),
}

impl FeedKeeper {
    /// Loads the key, and finishes what a kill cut short.
    /// # Errors
    /// [`CaKeyError`]; it is a key in another role, for instance.
    pub fn load(state: &StateFolder, keys: &CaKeys, setup: &KeySetup) -> Result<Self, CaKeyError> {
        let handovers = load_handovers(&state.file(HANDOVERS))?;
        let heir = handovers.last().map(heir_of).transpose()?;
        let key = load_key(state, heir.as_ref(), &setup.passphrases)?;
        let keeper = FeedKeeper {
            folder: state.path().to_owned(),
            ca_name: setup.ca_name.clone(),
            valid_seconds: setup.feed_valid_seconds,
            pattern: setup.known_hosts_pattern.clone(),
            key,
            others: setup.others.clone(),
            handovers,
            kept: None,
            kept_krl: None,
        };
        if let Some(key) = keeper.public_key() {
            check_role(&key, keys, &setup.others)?;
        }
        Ok(keeper)
    }

    /// The feed key.
    pub fn public_key(&self) -> Option<PublicKey> {
        match self.key.as_ref()? {
            FeedKey::Here(key) => Some(key.public_key()),
            FeedKey::Elsewhere(key) => Some(key.clone()),
        }
    }

    /// For people: where it is held.
    pub fn held(&self) -> String {
        match &self.key {
            Some(FeedKey::Here(key)) => key.held(),
            Some(FeedKey::Elsewhere(_)) => "elsewhere".to_owned(),
            None => "nowhere: there is none".to_owned(),
        }
    }

    /// Readers get a new one, and a new KRL.
    pub fn forget(&mut self) {
        self.kept = None;
        self.kept_krl = None;
    }

    /// The last KRL, if it may be given out once more.
    pub fn kept_krl(&self, now: UnixTime) -> Option<&[u8]> {
        let (made, krl) = self.kept_krl.as_ref()?;
        (*made <= now && now.0 < made.0.saturating_add(KRL_KEPT)).then_some(krl)
    }

    /// There is another one.
    pub fn keep_krl(&mut self, made: UnixTime, krl: &[u8]) {
        self.kept_krl = Some((made, krl.to_vec()));
    }

    /// Order: the new private key, the handover, the old key's end. Whatever a kill cuts off, [`Self::load`] finds by the handover which key it is.
    fn settle(&mut self, handover: Option<Handover>, key: FeedKey, secret: Option<&str>) -> Result<(), FeedFailure> {
        if let Some(secret) = secret {
            self.put(NEW_KEY, secret.as_bytes(), 0o600)?;
        }
        if let Some(handover) = handover {
            let mut handovers = self.handovers.clone();
            handovers.push(handover);
            // Hosts that were away for longer are enrolled again.
            handovers.drain(..handovers.len().saturating_sub(MAX_HANDOVERS));
            self.put(OLD_HANDOVERS, &Handover::list_to_bytes(&self.handovers), 0o600)?;
            self.put(HANDOVERS, &Handover::list_to_bytes(&handovers), 0o600)?;
            self.handovers = handovers;
        }
        let public = match &key {
            FeedKey::Here(key) => key.public_key(),
            FeedKey::Elsewhere(key) => key.clone(),
        };
        self.key = Some(key);
        self.kept = None;
        let line = format!("{}\n", public.to_openssh(&format!("feed key of {}", self.ca_name)));
        let at = |name: &str| self.folder.join(name);
        // With its private half, for the way back.
        if let (None, Ok(before), true) = (secret, fs::read(at(PUBLIC)), at(KEY).exists() || at(AGENT).exists()) {
            self.put(OLD_PUBLIC, &before, 0o644)?;
        } else {
            remove(&at(OLD_PUBLIC)).map_err(|source| FeedFailure::State { path: at(OLD_PUBLIC), source })?;
        }
        self.put(PUBLIC, line.as_bytes(), 0o644)?;
        let finish = || -> io::Result<()> {
            if secret.is_some() {
                fs::rename(at(NEW_KEY), at(KEY))?;
                [OLD_KEY, OLD_AGENT, OLD_HANDOVERS, AGENT].iter().try_for_each(|name| remove(&at(name)))?;
            } else {
                // One of before that is not there has been elsewhere, and leaves nothing to go back to.
                keep(&at(KEY), &at(OLD_KEY))?;
                keep(&at(AGENT), &at(OLD_AGENT))?;
            }
            File::open(&self.folder)?.sync_all()
        };
        finish().map_err(|source| FeedFailure::State { path: at(KEY), source })
    }

    fn put(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), FeedFailure> {
        let path = self.folder.join(name);
        put(&path, bytes, mode).map_err(|source| FeedFailure::State { path, source })
    }
}

impl Ca {
    /// A new feed, or a draft of one. Its version is its KRL's, which is above every one before.
    /// # Errors
    /// [`FeedFailure`]
    pub fn feed(&mut self, valid_seconds: Option<u64>, signed: bool) -> Result<Vec<u8>, FeedFailure> {
        let key = self.feed.public_key().ok_or(FeedFailure::NoKey)?;
        if signed && !matches!(self.feed.key, Some(FeedKey::Here(_))) {
            return Err(FeedFailure::Elsewhere);
        }
        let draft = self.feed_draft(valid_seconds, &key, None)?;
        match &self.feed.key {
            Some(FeedKey::Here(key)) if signed => Ok(seal(draft, key)?),
            _ => Ok(draft.to_bytes()),
        }
    }

    /// The feed for readers over SSH: its version, and its bytes.
    /// # Errors
    /// [`FeedFailure`]
    pub fn feed_for_readers(&mut self) -> Result<(u64, &[u8]), FeedFailure> {
        let is_good = self.feed.kept.as_ref().is_some_and(|(made, _, _)| made.elapsed() < READERS);
        if !is_good {
            let feed = self.feed(None, true)?;
            let version = open(&feed)?.manifest().version;
            self.feed.kept = Some((Instant::now(), version, feed));
        }
        self.feed.kept.as_ref().map(|(_, version, feed)| (*version, feed.as_slice())).ok_or(FeedFailure::NoKey)
    }

    /// The feed key, if there is one, and where it is held.
    pub fn feed_key(&self) -> (Option<PublicKey>, String) {
        (self.feed.public_key(), self.feed.held())
    }

    /// Another feed key: a new one here, or `to`, which is elsewhere. The present one names it as its successor.
    /// # Errors
    /// [`FeedFailure`]
    pub fn rotate_feed_key(&mut self, to: Option<PublicKey>, by: &str) -> Result<PublicKey, FeedFailure> {
        let refuse = |why: &str| Err(FeedFailure::Rotate(why.to_owned()));
        match &self.feed.key {
            Some(FeedKey::Elsewhere(_)) => {
                return refuse(
                    "the present one is not here; it hands over where it is: `usshca feed sign DIR --key FILE --successor NEW.pub`, and then here `usshca feed key rotate --handed-over DIR/feed`",
                );
            }
            Some(FeedKey::Here(key)) if to.is_none() && !key.is_file() => {
                return refuse("it is an agent's; make another one there, and name it: --to NEW.pub");
            }
            Some(FeedKey::Here(_)) if to.is_none() && self.feed_key_is_encrypted() => {
                return refuse(
                    "it is encrypted, and a new one would not be; make one with ssh-keygen, and name it: --to NEW.pub; to hold it here, put it to state/feed_key afterwards",
                );
            }
            Some(FeedKey::Here(_)) | None => {}
        }
        let made = match &to {
            Some(_) => None,
            None => Some(PrivateKey::generate_ed25519().map_err(key_error)?),
        };
        let next = match (&to, &made) {
            (Some(to), _) => to.clone(),
            (None, Some(made)) => made.public_key(),
            (None, None) => return Err(FeedFailure::NoKey),
        };
        self.check_feed_key(&next)?;
        let old = self.feed.public_key();
        let handover = match old.as_ref() {
            None => None,
            Some(old) => Some(self.hand_over(old, &next)?),
        };
        let comment = format!("feed key of {}", self.feed.ca_name);
        let secret = made.as_ref().map(|key| key.to_openssh(&comment)).transpose().map_err(key_error)?;
        let key = match made {
            Some(made) => FeedKey::Here(CaKey::of_private(KEY, made)?),
            None => FeedKey::Elsewhere(next.clone()),
        };
        self.feed.settle(handover, key, secret.as_ref().map(|text| text.as_str()))?;
        // Hosts that are enrolled from here on pin the new key, which a feed by the old one does not lead to.
        self.note_change();
        let before = old.map_or_else(|| "none".to_owned(), |key| key.fingerprint());
        log::info(&format!("The feed key is {} from now on, it was {before}; by {by}", next.fingerprint()));
        Ok(next)
    }

    /// The present key, which is elsewhere, has handed over.
    /// # Errors
    /// [`FeedFailure`]
    pub fn feed_key_handed_over(&mut self, handover: Handover, by: &str) -> Result<PublicKey, FeedFailure> {
        let refuse = |why: String| Err(FeedFailure::Rotate(why));
        let Some(FeedKey::Elsewhere(present)) = &self.feed.key else {
            return refuse(
                "the present one is here, and hands over by `usshca feed key rotate --to NEW.pub`".to_owned(),
            );
        };
        match verify_signature(&handover.signature, &handover.manifest) {
            Ok(by) if by == *present => {}
            Ok(other) => {
                return refuse(format!(
                    "{} signed that, and the present key is {}",
                    other.fingerprint(),
                    present.fingerprint()
                ));
            }
            Err(e) => return refuse(e.to_string()),
        }
        let next = heir_of(&handover).map_err(|e| FeedFailure::Rotate(e.to_string()))?;
        self.check_feed_key(&next)?;
        self.feed.settle(Some(handover), FeedKey::Elsewhere(next.clone()), None)?;
        self.note_change();
        log::info(&format!("The feed key is {} from now on, which is elsewhere; by {by}", next.fingerprint()));
        Ok(next)
    }

    fn hand_over(&mut self, old: &PublicKey, next: &PublicKey) -> Result<Handover, FeedFailure> {
        let draft = self.feed_draft(None, old, Some(next))?;
        let Some(FeedKey::Here(key)) = &self.feed.key else {
            return Err(FeedFailure::Elsewhere);
        };
        let Bundle { manifest, signature, .. } = Bundle::parse(&seal(draft, key)?)?;
        Ok(Handover { manifest, signature })
    }

    fn feed_draft(
        &mut self,
        valid: Option<u64>,
        key: &PublicKey,
        next: Option<&PublicKey>,
    ) -> Result<Bundle, FeedFailure> {
        let (version, generated, krl) = self.krl_of_now()?;
        let (user_ca, host_ca) = self.public_keys();
        let name = &self.feed.ca_name;
        let contents = FeedContents {
            ca: name.clone(),
            version,
            generated,
            valid_for: valid.unwrap_or(self.feed.valid_seconds),
            user_ca: format!("{}\n", user_ca.to_openssh(&format!("user CA of {name}"))).into_bytes(),
            krl,
            known_hosts: format!("{}\n", self.known_hosts_line(&host_ca.to_openssh(&format!("host CA of {name}"))))
                .into_bytes(),
            handovers: self.feed.handovers.clone(),
        };
        Ok(draft(contents, key, next)?)
    }

    /// `@cert-authority PATTERNS KEY`, as sshd(8) has it.
    pub fn known_hosts_line(&self, key: &str) -> String {
        let pattern = if self.feed.pattern.is_empty() { "*" } else { &self.feed.pattern };
        format!("@cert-authority {pattern} {key}")
    }

    fn check_feed_key(&mut self, key: &PublicKey) -> Result<(), FeedFailure> {
        let (user_ca, host_ca) = self.public_keys();
        if *key == user_ca || *key == host_ca || self.feed.public_key().as_ref() == Some(key) {
            return Err(FeedFailure::Rotate("the new one is the CA's already; it needs a key of its own".to_owned()));
        }
        // With one of these the CA would not start any more (`check_role`).
        let holder = match self.feed.others.iter().any(|other| other == key.blob()) {
            true => Some("an SSH host key of this machine".to_owned()),
            false => self.holder_of(key)?,
        };
        match holder {
            Some(holder) => {
                Err(FeedFailure::Rotate(format!("the new one is {holder}; the feed needs a key of its own")))
            }
            None => Ok(()),
        }
    }

    /// Whose login key or host key this is: who has it could sign feeds by it.
    fn holder_of(&mut self, key: &PublicKey) -> Result<Option<String>, FeedFailure> {
        if let Some(user) = self.inventory().user_of_key(&key.fingerprint())? {
            return Ok(Some(format!("registered for {user}")));
        }
        Ok(self.other_host_with(key, "")?.map(|host| format!("host {host}'s")))
    }

    fn feed_key_is_encrypted(&self) -> bool {
        let text = fs::read_to_string(self.feed.folder.join(KEY)).map(zeroize::Zeroizing::new);
        text.is_ok_and(|text| matches!(PrivateKey::from_openssh(&text), Err(KeyError::Encrypted)))
    }
}

fn key_error(source: KeyError) -> FeedFailure {
    FeedFailure::Key(CaKeyError::Key { name: KEY.to_owned(), source })
}

fn check_role(key: &PublicKey, keys: &CaKeys, others: &[Vec<u8>]) -> Result<(), CaKeyError> {
    if *key == keys.user.public_key() {
        return Err(CaKeyError::Same(KEY, "user_ca"));
    }
    if *key == keys.host.public_key() {
        return Err(CaKeyError::Same(KEY, "host_ca"));
    }
    if others.iter().any(|other| other == key.blob()) {
        return Err(CaKeyError::Same(KEY, "an SSH host key of this machine"));
    }
    Ok(())
}

fn load_handovers(path: &Path) -> Result<Vec<Handover>, CaKeyError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(CaKeyError::Handover(format!("{}: {e}", path.display()))),
    };
    Handover::list_from_bytes(&bytes).map_err(|e| CaKeyError::Handover(format!("{}: {e}", path.display())))
}

/// Whom a handover names.
fn heir_of(handover: &Handover) -> Result<PublicKey, CaKeyError> {
    let named = Manifest::parse(&handover.manifest).and_then(|manifest| manifest.successor());
    match named {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(CaKeyError::Handover("a handover names no successor".to_owned())),
        Err(e) => Err(CaKeyError::Handover(e.to_string())),
    }
}

/// The key that it is now: the last handover says which.
fn load_key(
    state: &StateFolder,
    heir: Option<&PublicKey>,
    passphrases: &[Secret],
) -> Result<Option<FeedKey>, CaKeyError> {
    let there = |name: &str| state.file(name).symlink_metadata().is_ok();
    if there(NEW_KEY) {
        let new = CaKey::load(state, NEW_KEY, &[])?;
        if !state.may_change() && heir == Some(&new.public_key()) {
            return Ok(Some(FeedKey::Here(new)));
        }
        let moved = if !state.may_change() {
            Ok(())
        } else if heir == Some(&new.public_key()) {
            let line = format!("{}\n", new.public_key().to_openssh(""));
            put(&state.file(PUBLIC), line.as_bytes(), 0o644)
                .and_then(|()| fs::rename(state.file(NEW_KEY), state.file(KEY)))
                .and_then(|()| remove(&state.file(AGENT)))
        } else {
            // Not handed over to yet: the old one goes on.
            remove(&state.file(NEW_KEY))
        };
        moved.map_err(|e| CaKeyError::Handover(format!("{NEW_KEY}: {e}")))?;
    }
    if there(KEY) || there(AGENT) {
        let key = CaKey::load(state, KEY, passphrases)?;
        let is_it = heir.is_none_or(|heir| *heir == key.public_key());
        return match heir {
            Some(heir) if !is_it => {
                log::warning(&format!(
                    "state/{KEY} has handed over to {}, which is elsewhere: it is not used",
                    heir.fingerprint()
                ));
                Ok(Some(FeedKey::Elsewhere(heir.clone())))
            }
            _ => Ok(Some(FeedKey::Here(key))),
        };
    }
    match heir {
        Some(heir) => Ok(Some(FeedKey::Elsewhere(heir.clone()))),
        None if there(PUBLIC) => Ok(Some(FeedKey::Elsewhere(public_key(state, KEY)?))),
        None => Ok(None),
    }
}

/// Gives it another name, in the place of what has that; if it is not there, nothing has that name.
fn keep(path: &Path, old: &Path) -> io::Result<()> {
    match fs::rename(path, old) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => remove(old),
        renamed => renamed,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// In one step, on disk when it returns.
fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
