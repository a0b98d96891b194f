//! The table of key types: everything that depends on the type's name.

use ssh_key::{Algorithm, EcdsaCurve, HashAlg};

/// What every certificate type's name ends in (draft-miller-ssh-cert §2).
const CERTIFICATE_SUFFIX: &[u8] = b"-cert-v01@openssh.com";

/// The key types that are taken, as plain key, as certified key and as CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyType {
    Ed25519,
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Rsa,
    SkEd25519,
    SkEcdsaP256,
}

impl KeyType {
    const ALL: [KeyType; 7] = [
        KeyType::Ed25519,
        KeyType::EcdsaP256,
        KeyType::EcdsaP384,
        KeyType::EcdsaP521,
        KeyType::Rsa,
        KeyType::SkEd25519,
        KeyType::SkEcdsaP256,
    ];

    /// By the name in a plain key's wire form.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name().as_bytes() == name)
    }

    /// By the name in a certificate's wire form.
    pub(crate) fn from_certificate_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.certificate_name().as_bytes() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            KeyType::Ed25519 => "ssh-ed25519",
            KeyType::EcdsaP256 => "ecdsa-sha2-nistp256",
            KeyType::EcdsaP384 => "ecdsa-sha2-nistp384",
            KeyType::EcdsaP521 => "ecdsa-sha2-nistp521",
            KeyType::Rsa => "ssh-rsa",
            KeyType::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            KeyType::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    pub(crate) fn certificate_name(self) -> &'static str {
        match self {
            KeyType::Ed25519 => "ssh-ed25519-cert-v01@openssh.com",
            KeyType::EcdsaP256 => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            KeyType::EcdsaP384 => "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            KeyType::EcdsaP521 => "ecdsa-sha2-nistp521-cert-v01@openssh.com",
            KeyType::Rsa => "ssh-rsa-cert-v01@openssh.com",
            KeyType::SkEd25519 => "sk-ssh-ed25519-cert-v01@openssh.com",
            KeyType::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        }
    }

    /// How many strings follow the type's name in the wire form.
    pub(crate) fn field_count(self) -> usize {
        match self {
            KeyType::Ed25519 => 1,
            KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 | KeyType::Rsa | KeyType::SkEd25519 => 2,
            KeyType::SkEcdsaP256 => 3,
        }
    }

    pub(super) fn algorithm(self) -> Algorithm {
        match self {
            KeyType::Ed25519 => Algorithm::Ed25519,
            KeyType::EcdsaP256 => Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
            KeyType::EcdsaP384 => Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
            KeyType::EcdsaP521 => Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
            KeyType::Rsa => Algorithm::Rsa { hash: None },
            KeyType::SkEd25519 => Algorithm::SkEd25519,
            KeyType::SkEcdsaP256 => Algorithm::SkEcdsaSha2NistP256,
        }
    }

    pub(super) fn is_fido(self) -> bool {
        matches!(self, KeyType::SkEd25519 | KeyType::SkEcdsaP256)
    }

    /// The one algorithm `name` may stand for in a signature by such a key (sshd's default CASignatureAlgorithms; webauthn-sk-ecdsa is not taken).
    pub(super) fn signature_algorithm(self, name: &[u8]) -> Option<Algorithm> {
        if self == KeyType::Rsa {
            return match name {
                b"rsa-sha2-256" => Some(Algorithm::Rsa { hash: Some(HashAlg::Sha256) }),
                b"rsa-sha2-512" => Some(Algorithm::Rsa { hash: Some(HashAlg::Sha512) }),
                _ => None,
            };
        }
        (name == self.name().as_bytes()).then(|| self.algorithm())
    }
}

/// Whether a type name is a certificate's, of a type we know or not.
pub(crate) fn is_certificate_name(name: &[u8]) -> bool {
    name.ends_with(CERTIFICATE_SUFFIX)
}
