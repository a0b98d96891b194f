//! Why nothing was issued: for the log and the inventory, and for the user.

use std::time::{Duration, UNIX_EPOCH};

use ussh_core::clock::UnixTime;
use ussh_core::escape::{MAX_FIELD, escape_word};
use ussh_core::issue::IssueError;
use ussh_core::keys::KeyError;

use crate::inventory::InventoryError;
use crate::policy::{Mode, PolicyRefusal};

/// Of somebody for whom the CA makes no key.
const OWN_KEY: &str =
    "The CA's policy wants a key of your own. Try: ssh-add KEY, then ssh -A CA sign < KEY.pub > KEY-cert.pub";

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Policy.
    #[error("{0}")]
    Policy(#[from] PolicyRefusal),
    /// Policy demands a registered key, and every one of the user's is revoked.
    #[error("{refusal}, and the registered key {key} is revoked")]
    RegisteredKeyRevoked {
        /// What policy says.
        refusal: PolicyRefusal,
        /// Fingerprint of the newest of them.
        key: String,
    },
    /// The subject key.
    #[error("the key cannot be certified: {0}")]
    Key(KeyError),
    /// The subject key is a CA's.
    #[error("the key is a CA's own")]
    CaKey,
    /// The subject key is revoked itself.
    #[error("the key is revoked")]
    KeyRevoked,
    /// Whatever is issued to this user is revoked already.
    #[error("all certificates with this key ID are revoked, those to come as well")]
    KeyIdRevoked,
    /// The user has as many certificates as the rule allows.
    #[error("the user has {most} certificates that are good, and the rule allows no more")]
    TooMany {
        /// What the rule allows.
        most: u32,
        /// When the first of them is over.
        next: Option<UnixTime>,
    },
    /// A host request out of its bounds.
    #[error("{0}")]
    Host(String),
    /// The certificate would not be one.
    #[error("{0}")]
    Sign(#[from] IssueError),
    /// The inventory, or the clock.
    #[error("{0}")]
    Inventory(#[from] InventoryError),
}

impl Refused {
    /// Whether policy said no.
    pub fn is_by_policy(&self) -> bool {
        matches!(self, Refused::Policy(_) | Refused::RegisteredKeyRevoked { .. })
    }

    /// A sentence for the host that asked, and what to try. It has proved who it is, or had a token.
    pub fn for_host(&self) -> String {
        match self {
            Refused::Host(why) => why.clone(),
            Refused::Key(_) | Refused::CaKey => format!("The CA cannot certify this key: {self}."),
            Refused::Policy(_)
            | Refused::RegisteredKeyRevoked { .. }
            | Refused::KeyRevoked
            | Refused::KeyIdRevoked
            | Refused::TooMany { .. }
            | Refused::Sign(_)
            | Refused::Inventory(_) => self.for_user(),
        }
    }

    /// A sentence for the user who asked, and what to try. It does not say which rule decided.
    pub fn for_user(&self) -> String {
        match self {
            Refused::Policy(refusal) => return for_user(refusal),
            Refused::RegisteredKeyRevoked { refusal, key } => {
                return format!(
                    "{} Your registered key {key} is revoked: ask the people who run the CA to register another one.",
                    for_user(refusal)
                );
            }
            Refused::TooMany { next, .. } => return too_many(*next),
            Refused::KeyIdRevoked => "Your certificates are revoked here, new ones too. Ask the people who run the CA.",
            Refused::KeyRevoked => "This key is revoked. Make another one, or ask the people who run the CA.",
            Refused::Key(_) | Refused::CaKey | Refused::Host(_) => "The CA cannot certify this key.",
            Refused::Inventory(InventoryError::ClockBehind { .. }) => {
                "The CA's clock is wrong, so that it issues nothing. Tell the people who run the CA."
            }
            Refused::Sign(_) | Refused::Inventory(_) => {
                "The CA cannot issue certificates at the moment. Try again later, or tell the people who run the CA."
            }
        }
        .to_owned()
    }
}

/// One that was taken out of an agent counts until it has run out: the CA has nothing but the agent's word that it is gone.
fn too_many(next: Option<UnixTime>) -> String {
    let end = next.and_then(|end| UNIX_EPOCH.checked_add(Duration::from_secs(end.0)));
    let until = end.map_or_else(String::new, |end| format!(" at {}", humantime::format_rfc3339_seconds(end)));
    format!(
        "You have as many certificates at a time as the CA allows. The next one runs out{until}; or revoke them all: ssh -A CA revoke-mine"
    )
}

/// What the user can do about it. It does not say which rule decided, nor what it gives to others.
fn for_user(refusal: &PolicyRefusal) -> String {
    match refusal {
        PolicyRefusal::NoRule
        | PolicyRefusal::Denied { .. }
        | PolicyRefusal::Name
        | PolicyRefusal::NoPrincipal { .. } => {
            "The CA's policy gives your account no certificate here and now. Ask the people who run the CA.".to_owned()
        }
        PolicyRefusal::Authentication { demanded, .. } => {
            format!("The CA's policy wants you to prove who you are by {demanded}.")
        }
        PolicyRefusal::Mode { mode, .. } if *mode == Mode::ClientKey.name() => {
            "The CA's policy certifies no key of your own: the CA makes one for you. Try: ssh -A CA".to_owned()
        }
        PolicyRefusal::Mode { .. } => OWN_KEY.to_owned(),
        PolicyRefusal::NotMade { kind, .. } => format!("The CA makes no keys of the type {kind}. {OWN_KEY}"),
        PolicyRefusal::KeyType { kind, .. } => {
            format!("The CA's policy does not certify your keys of the type {kind}.")
        }
        PolicyRefusal::Reason { .. } => {
            "The CA's policy wants a reason from you. Say it so: ssh -A CA reason=\"what for\"; or: ussh --reason \"what for\"".to_owned()
        }
        PolicyRefusal::Validity { most, .. } => {
            let most = humantime::format_duration(Duration::from_secs(*most));
            format!("The CA's policy gives you certificates for {most} at most. Ask for less: for=…")
        }
        PolicyRefusal::Principal { names, .. } => {
            let names: Vec<String> = names.iter().map(|name| escape_word(name.as_bytes(), MAX_FIELD)).collect();
            format!(
                "The CA's policy does not give you all of these principals, not {}. Ask for fewer, or leave principals= out.",
                names.join(", ")
            )
        }
    }
}
