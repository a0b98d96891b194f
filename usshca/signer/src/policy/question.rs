//! What policy is asked: facts about one request, each from the one who can know it. None of them is the front's word, but for what the user wants.

use std::net::IpAddr;

use ussh_core::clock::UnixTime;
use ussh_core::keys::PublicKey;
use usshca_ipc::front::Wish;

/// How somebody proved who they are, by a PAM worker's statement and by a signature over the signer's own nonce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proofs {
    /// Passed PAM just now.
    pub pam: bool,
    /// Holds a registered key.
    pub publickey: bool,
}

/// Who makes the key that is certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The CA; key and certificate are put into the forwarded agent.
    Inject,
    /// The user, who keeps it.
    ClientKey,
}

/// Kinds of keys, as policy names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `ssh-ed25519`
    Ed25519,
    /// `ecdsa-sha2-nistp256`, `-nistp384`, `-nistp521`
    Ecdsa,
    /// `ssh-rsa`
    Rsa,
    /// `sk-ssh-ed25519@openssh.com`
    SkEd25519,
    /// `sk-ecdsa-sha2-nistp256@openssh.com`
    SkEcdsa,
}

/// Every kind and its name.
const KEY_KINDS: [(KeyKind, &str); 5] = [
    (KeyKind::Ed25519, "ed25519"),
    (KeyKind::Ecdsa, "ecdsa"),
    (KeyKind::Rsa, "rsa"),
    (KeyKind::SkEd25519, "ed25519-sk"),
    (KeyKind::SkEcdsa, "ecdsa-sk"),
];

/// One request.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Canonical account name.
    pub user: &'a str,
    /// Its groups by name, through NSS.
    pub groups: &'a [String],
    /// The kernel's getpeername.
    pub source: IpAddr,
    /// The signer's clock.
    pub time: UnixTime,
    /// How the user proved to be it.
    pub proofs: Proofs,
    /// Who makes the key.
    pub mode: Mode,
    /// Of the key that is to be certified.
    pub key_kind: KeyKind,
    /// What the user would like.
    pub wish: &'a Wish,
}

impl KeyKind {
    /// Of a key.
    pub fn of(key: &PublicKey) -> Self {
        match key.type_name() {
            "ssh-ed25519" => KeyKind::Ed25519,
            "ssh-rsa" => KeyKind::Rsa,
            "sk-ssh-ed25519@openssh.com" => KeyKind::SkEd25519,
            "sk-ecdsa-sha2-nistp256@openssh.com" => KeyKind::SkEcdsa,
            // There are no others (`ussh_core::keys::PublicKey`).
            _ => KeyKind::Ecdsa,
        }
    }

    /// Whether the CA makes keys of this kind for users.
    pub fn is_made(self) -> bool {
        match self {
            KeyKind::Ed25519 | KeyKind::Ecdsa => true,
            KeyKind::Rsa | KeyKind::SkEd25519 | KeyKind::SkEcdsa => false,
        }
    }

    /// Of its name.
    pub fn from_name(name: &str) -> Option<Self> {
        KEY_KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    /// Of all kinds.
    pub fn names() -> [&'static str; 5] {
        KEY_KINDS.map(|(_, name)| name)
    }

    /// As policy names it.
    pub fn name(self) -> &'static str {
        KEY_KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

impl std::fmt::Display for Proofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.publickey, self.pam) {
            (true, true) => "publickey+pam",
            (true, false) => "publickey",
            (false, true) => "pam",
            (false, false) => "none",
        })
    }
}

impl Proofs {
    /// Of all ways.
    pub fn names() -> [&'static str; 4] {
        ["pam", "publickey", "publickey+pam", "none"]
    }

    /// `pam`, `publickey`, `publickey+pam`, `none`
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [(true, true), (true, false), (false, true), (false, false)];
        all.into_iter().map(|(publickey, pam)| Proofs { pam, publickey }).find(|proofs| proofs.to_string() == name)
    }

    /// Whether whoever has these has all that is demanded.
    pub fn satisfy(self, demanded: Proofs) -> bool {
        (self.pam || !demanded.pam) && (self.publickey || !demanded.publickey)
    }
}

impl Mode {
    const ALL: [Mode; 2] = [Mode::Inject, Mode::ClientKey];

    /// Of its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Mode::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// Of both.
    pub fn names() -> [&'static str; 2] {
        Mode::ALL.map(Mode::name)
    }

    /// As policy names it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Inject => "inject",
            Mode::ClientKey => "client-key",
        }
    }
}
