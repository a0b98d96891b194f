//! Keys and certificates that the targets share; made by `generate.sh`, good for nothing else.

use std::sync::OnceLock;

use ussh_core::ca_file::TrustedCas;
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::UnixTime;
use ussh_core::keys::PublicKey;
use ussh_core::verdict::{CriticalOptions, Demand, PrincipalDemand};

/// One public key of each type.
const KEYS: &str = include_str!("../fixtures/keys.pub");
/// alice's certificate by the first CA, good from 2020 to 2100.
const CERTIFICATE: &str = include_str!("../fixtures/alice-cert.pub");
/// The CAs.
const CAS: &[u8] = include_bytes!("../fixtures/cas");

/// One public key of each type.
pub fn keys() -> &'static [PublicKey] {
    static VALUE: OnceLock<Vec<PublicKey>> = OnceLock::new();
    VALUE.get_or_init(|| KEYS.lines().map(|line| PublicKey::from_openssh(line).unwrap()).collect())
}

/// A good certificate for alice.
pub fn certificate() -> &'static Certificate {
    static VALUE: OnceLock<Certificate> = OnceLock::new();
    VALUE.get_or_init(|| Certificate::from_openssh(CERTIFICATE.trim_end()).unwrap())
}

/// The CAs that are trusted.
pub fn cas() -> &'static TrustedCas {
    static VALUE: OnceLock<TrustedCas> = OnceLock::new();
    VALUE.get_or_init(|| TrustedCas::parse(CAS))
}

/// What is asked of a certificate of alice's.
pub fn demand() -> Demand<'static> {
    Demand {
        cas: cas(),
        kind: CertificateKind::User,
        now: UnixTime(1_800_000_000),
        principals: PrincipalDemand::User("alice", None),
        critical_options: CriticalOptions::Refuse { origin: None },
        revoked: None,
        max_validity: None,
        max_age: None,
    }
}
