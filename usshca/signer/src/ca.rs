//! Issuing and revoking. The order of an issue: serial and row on disk → sign → signed certificate on disk → out of the process. Many go through it side by side
//! ([`Ca::turn`]), so that they share what a disk takes for each.

mod decision;
mod hosts;
mod revoking;
mod users;

use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, UnixTime};
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::PublicKey;

pub use self::decision::{Passed, Reserved, UserRequest, critical_options};
pub use self::hosts::{HostGrant, HostRequest, is_host_name};
pub use self::revoking::{KrlError, sha256_of};
pub use self::users::{IssuedUser, OutcomeOf, SignedUser};
use crate::ca_key::CaKey;
use crate::ca_keys::CaKeys;
use crate::counts;
use crate::feed::FeedKeeper;
use crate::inventory::{Asked, Batch, Inventory, InventoryError, Kind, Planned};
use crate::log;
use crate::policy::Policy;
use crate::refused::Refused;
use crate::signing::Signing;

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
}

/// A failed signature has its row already.
fn record_refusal(batch: &mut Batch<'_>, asked: &Asked, refused: &Refused) -> Result<(), InventoryError> {
    if matches!(refused, Refused::Sign(_)) {
        return Ok(());
    }
    batch.record_refusal(asked, &refused.to_string(), refused.is_by_policy())
}

fn log_refusal(asked: &Asked, refused: &Refused, more: &[(&str, &str)]) {
    let line = format!("Refusing a certificate to \"{}\" from {}: {refused}", asked.key_id, asked.source);
    log::refusal(&line, &asked.key_id, &asked.source, &refused.to_string(), more);
    counts::refused();
}

fn warn_of(error: Option<InventoryError>) {
    if let Some(e) = error {
        log::warning(&format!("the refusal could not be recorded: {e}"));
    }
}

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;
