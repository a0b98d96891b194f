//! Which of the identities that an agent lists are certificates of our CA, and which of those are good.
//!
//! The one verdict of `ussh_core` decides; no signature is asked for: the agent is the user's own, and sshd asks for one anyway.

use ussh_core::agent::Identity;
use ussh_core::ca_file::TrustedCas;
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::UnixTime;
use ussh_core::escape::escape;
use ussh_core::verdict::{CriticalOptions, Demand, PrincipalDemand, Refusal, VerifiedCertificate, verify};

use crate::config::{CaUser, Config, ConfigError};
use crate::user_file;

/// How long before its end a certificate is no longer good unless the configuration says otherwise, in seconds: above the first warning that ussh-hostd
/// gives by default (300), so that whoever is warned and runs `ussh` gets a new one.
pub const DEFAULT_RENEW_BEFORE_SECONDS: u64 = 600;

/// What a certificate is judged by.
#[derive(Clone, Debug)]
pub struct Judge {
    cas: TrustedCas,
    user: CaUser,
    renew_before_seconds: Option<u32>,
}

/// What the judge says of a certificate of our CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Valid now and for long enough.
    Good,
    /// Valid now, but too near to its end to begin anything with.
    EndsSoon,
    /// Not valid, or somebody else's.
    Refused(NotGood),
}

/// Why a certificate does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGood {
    /// sshd would not take it either.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Its owner would be recorded, on every server, as who did what is done with it.
    #[error("its key ID is \"{}\", not \"{}\"", escape(found, 256), wanted.as_str())]
    SomebodyElses {
        /// The key ID: the account's name, as the CA writes it.
        found: Vec<u8>,
        /// The name that this user has at the CA.
        wanted: CaUser,
    },
}

/// A certificate of our CA in the agent.
#[derive(Clone, Debug)]
pub struct Held {
    /// As listed; the CA's key in it is one of ours, the rest is as good as its standing.
    pub certificate: Certificate,
    /// How good it is.
    pub standing: Standing,
}

impl Judge {
    /// Reads the trusted CA keys that the configuration names. Only certificates of `user` count.
    /// # Errors
    /// [`ConfigError`]
    pub fn load(config: &Config, user: CaUser, uid: u32) -> Result<Self, ConfigError> {
        let cas = TrustedCas::parse(&user_file::read(&config.user_ca_file, uid)?.data);
        if cas.keys().is_empty() {
            return Err(ConfigError::NoCaKey(config.user_ca_file.clone()));
        }
        Ok(Judge::new(cas, user, config.renew_before_seconds))
    }
    /// From keys at hand; `renew_before_seconds` as in [`Config`].
    pub fn new(cas: TrustedCas, user: CaUser, renew_before_seconds: Option<u32>) -> Self {
        Judge { cas, user, renew_before_seconds }
    }
    /// The name that the user has at the CA.
    pub fn user(&self) -> &CaUser {
        &self.user
    }
    /// Whether it is this user's certificate, of our CA, and one that sshd would take at this moment.
    /// The CA writes the account's name as PAM and the account database have it: one that was typed otherwise does not match.
    /// # Errors
    /// [`NotGood`]
    pub fn verify(&self, certificate: &Certificate, now: UnixTime) -> Result<VerifiedCertificate, NotGood> {
        self.of_user(verify(certificate, &self.demand(now))?)
    }
    /// The same of one whose CA's signature has been checked.
    /// # Errors
    /// [`NotGood`]
    pub fn verify_again(&self, verified: VerifiedCertificate, now: UnixTime) -> Result<VerifiedCertificate, NotGood> {
        self.of_user(verified.verify_again(&self.demand(now))?)
    }
    fn demand(&self, now: UnixTime) -> Demand<'_> {
        Demand {
            cas: &self.cas,
            kind: CertificateKind::User,
            now,
            principals: PrincipalDemand::AnyNonEmpty,
            // Whether a command is forced, and from where it may be used, is the servers' business.
            critical_options: CriticalOptions::EnforcedBySshd,
            revoked: None,
            max_validity: None,
            max_age: None,
        }
    }
    fn of_user(&self, verified: VerifiedCertificate) -> Result<VerifiedCertificate, NotGood> {
        let found = verified.certificate().key_id();
        if found != self.user.as_str().as_bytes() {
            return Err(NotGood::SomebodyElses { found: found.to_vec(), wanted: self.user.clone() });
        }
        Ok(verified)
    }
    /// [`Judge::verify`], and how near the end is.
    pub fn standing(&self, certificate: &Certificate, now: UnixTime) -> Standing {
        match self.verify(certificate, now) {
            Err(refusal) => Standing::Refused(refusal),
            Ok(verified) if ends_soon(verified.certificate(), now, self.renew_before_seconds) => Standing::EndsSoon,
            Ok(_) => Standing::Good,
        }
    }
    /// Whether one of our CA keys stands in it. Says nothing on the signature.
    pub fn names_our_ca(&self, certificate: &Certificate) -> bool {
        self.cas.contains(certificate.ca())
    }
}

/// By default in the last ten minutes, or in the second half of the time that the login gave: a certificate for a few minutes must be good for something as well.
fn ends_soon(certificate: &Certificate, now: UnixTime, renew_before_seconds: Option<u32>) -> bool {
    let end = certificate.valid_before().0;
    let half_of_its_life = end.saturating_sub(certificate.login_time().0) / 2;
    let ahead = renew_before_seconds.map_or(DEFAULT_RENEW_BEFORE_SECONDS.min(half_of_its_life), u64::from);
    end <= now.0.saturating_add(ahead)
}

/// The first good certificate among what is listed.
pub fn find_good(listed: &[Identity], judge: &Judge, now: UnixTime) -> Option<Certificate> {
    listed
        .iter()
        .filter_map(readable_certificate)
        .find(|certificate| judge.standing(certificate, now) == Standing::Good)
}

/// All user certificates among what is listed that name our CA, in that order.
pub fn of_listed(listed: &[Identity], judge: &Judge, now: UnixTime) -> Vec<Held> {
    let ours = |c: &Certificate| c.kind() == CertificateKind::User && judge.names_our_ca(c);
    let certificates = listed.iter().filter_map(readable_certificate).filter(ours);
    certificates.map(|certificate| Held { standing: judge.standing(&certificate, now), certificate }).collect()
}

/// What the agent lists is mostly not for us; what cannot be read is passed over.
pub fn readable_certificate(identity: &Identity) -> Option<Certificate> {
    if Certificate::is_certificate_blob(&identity.blob) { Certificate::parse(&identity.blob).ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_core::certificate::CertificateOption;
    use ussh_core::issue::CertificateTemplate;
    use ussh_core::keys::PrivateKey;

    use super::*;

    /// Backdated by a minute, as the CA does; got at `login` and good for `seconds` from then.
    fn certificate(login: u64, seconds: u64) -> Certificate {
        let template = CertificateTemplate {
            public_key: PrivateKey::generate_ed25519().unwrap().public_key(),
            serial: 1,
            kind: CertificateKind::User,
            key_id: "alice".into(),
            principals: vec!["alice".into()],
            valid_after: UnixTime(login - 60),
            valid_before: UnixTime(login + seconds),
            critical_options: vec![],
            extensions: vec![CertificateOption::login_time(UnixTime(login))],
        };
        template.sign(&PrivateKey::generate_ed25519().unwrap()).unwrap()
    }

    #[test]
    fn by_default_the_last_ten_minutes_are_too_few_and_of_a_short_life_the_last_half() {
        for (seconds, left, soon) in [
            (28_800, 601, false),
            (28_800, 600, true),
            (28_800, 300, true),
            (1200, 601, false),
            (1200, 600, true),
            (240, 121, false),
            (240, 120, true),
            (20, 11, false),
            (20, 10, true),
        ] {
            let now = UnixTime(1_000_000 + seconds - left);
            assert_eq!(ends_soon(&certificate(1_000_000, seconds), now, None), soon, "{left} of {seconds} s");
        }
    }

    #[test]
    fn what_is_configured_is_taken_as_it_stands() {
        let certificate = certificate(1_000_000, 20);
        for (left, configured, soon) in [(20, 0, false), (1, 0, false), (6, 5, false), (5, 5, true), (20, 3600, true)] {
            let now = UnixTime(1_000_020 - left);
            assert_eq!(ends_soon(&certificate, now, Some(configured)), soon, "{left} s left, {configured}");
        }
    }
}
