//! The proof that `auth` has made, kept for `account` of the same PAM handle, so that nobody touches a key twice for one sudo.
//!
//! Only the proof is kept: the certificate is judged again, by the line of `account`, at the time of `account`.

use std::time::{Duration, Instant};

use ussh_core::certificate::Certificate;
use ussh_core::verdict::{Demand, VerifiedCertificate, verify};
use ussh_os::pam_module::PamHandle;
use ussh_os::process;
use ussh_os::process_tree::ProcessId;

use crate::answer::{Accepted, Proof, Subject};
use crate::login::{Bond, Login};
use crate::options::AuthOptions;

/// Under which libpam keeps it.
const NAME: &str = "proof";

/// How long it counts: other modules behind ours in `auth` may ask for a password or a code meanwhile.
const GOOD_FOR: Duration = Duration::from_secs(120);

/// What `auth` has proved, and for whom.
#[derive(Clone, Debug)]
pub struct Kept {
    certificate: Certificate,
    digest: [u8; 32],
    user: String,
    service: String,
    uid: u32,
    /// The login of which certificate and agent were, where the line of `auth` asked for that.
    login: Option<ProcessId>,
    made: Instant,
}

/// Proof that `auth` made in this handle. Made in this module only, out of a proof.
#[derive(Debug)]
#[must_use]
pub struct KeptProof {
    certificate_digest: [u8; 32],
}

impl KeptProof {
    /// Whether it is for this certificate.
    pub fn is_for(&self, certificate: &VerifiedCertificate) -> bool {
        self.certificate_digest == certificate.certificate().digest()
    }
}

/// Keeps what was accepted. If libpam does not take it, `account` asks again.
pub fn keep(handle: &PamHandle, subject: &Subject, accepted: &Accepted) {
    let (Some(user), true) = (&subject.user, accepted.is_whole()) else { return };
    let certificate = accepted.certificate.certificate().clone();
    let kept = Kept {
        digest: certificate.digest(),
        certificate,
        user: user.clone(),
        service: subject.service.clone(),
        uid: process::real_uid(),
        login: accepted.bond.login(),
        made: Instant::now(),
    };
    handle.keep(NAME, kept);
}

/// What `auth` has kept in this handle, for this same user, service and caller, if that was not long ago.
pub fn find(handle: &PamHandle, subject: &Subject) -> Option<Kept> {
    let kept = handle.kept::<Kept>(NAME)?;
    kept.is_good_for(subject, process::real_uid(), Instant::now()).then_some(kept)
}

impl Kept {
    fn is_good_for(&self, subject: &Subject, uid: u32, now: Instant) -> bool {
        subject.user.as_ref() == Some(&self.user)
            && subject.service == self.service
            && uid == self.uid
            && now.checked_duration_since(self.made).is_some_and(|age| age < GOOD_FOR)
    }

    /// Judges the certificate again: time, revocation, and whatever else this line demands; that it is of this login too, where the line asks for one. `None`: it is not good by this
    /// line, or not any more.
    pub fn judge(&self, demand: &Demand<'_>, options: &AuthOptions, login: Option<&Login>) -> Option<Accepted> {
        let certificate = verify(&self.certificate, demand).ok()?;
        let bond = match login {
            Some(login) => login.bond_kept(&certificate, self.login)?,
            None => Bond::unless_demanded(options).ok()?,
        };
        let proof = Proof::Kept(KeptProof { certificate_digest: self.digest });
        // Of break-glass was told when the proof was made.
        Some(Accepted { certificate, proof, bond, break_glass: None })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::answer::Phase;
    use crate::options::FromLine;
    use ussh_core::ca_file::TrustedCas;
    use ussh_core::certificate::CertificateKind;
    use ussh_core::clock::UnixTime;
    use ussh_core::issue::CertificateTemplate;
    use ussh_core::keys::PrivateKey;
    use ussh_core::verdict::{CriticalOptions, PrincipalDemand};

    fn subject() -> Subject {
        Subject {
            phase: Phase::Account,
            service: "sudo".into(),
            user: Some("alice".into()),
            ruser: None,
            rhost: None,
            tty: None,
        }
    }

    fn kept(ca: &PrivateKey) -> Kept {
        let template = CertificateTemplate {
            public_key: PrivateKey::generate_ed25519().unwrap().public_key(),
            serial: 7,
            kind: CertificateKind::User,
            key_id: "alice".into(),
            principals: vec!["alice".into()],
            valid_after: UnixTime(0),
            valid_before: UnixTime(1000),
            critical_options: vec![],
            extensions: vec![],
        };
        let certificate = template.sign(ca).unwrap();
        let digest = certificate.digest();
        let (user, service) = ("alice".into(), "sudo".into());
        Kept { certificate, digest, user, service, uid: 1000, login: None, made: Instant::now() }
    }

    #[test]
    fn counts_for_the_same_user_service_and_caller_and_not_for_long() {
        let kept = kept(&PrivateKey::generate_ed25519().unwrap());
        let now = kept.made;
        assert!(kept.is_good_for(&subject(), 1000, now));
        assert!(kept.is_good_for(&subject(), 1000, now + GOOD_FOR - Duration::from_millis(1)));
        assert!(!kept.is_good_for(&subject(), 1000, now + GOOD_FOR));
        assert!(!kept.is_good_for(&subject(), 1000, now.checked_sub(Duration::from_millis(1)).unwrap()));
        assert!(!kept.is_good_for(&subject(), 1001, now));
        assert!(!kept.is_good_for(&Subject { user: Some("root".into()), ..subject() }, 1000, now));
        assert!(!kept.is_good_for(&Subject { user: None, ..subject() }, 1000, now));
        assert!(!kept.is_good_for(&Subject { service: "sudo-i".into(), ..subject() }, 1000, now));
    }

    #[test]
    fn the_certificate_is_judged_again() {
        let ca = PrivateKey::generate_ed25519().unwrap();
        let kept = kept(&ca);
        let trusted = |key: &PrivateKey| TrustedCas::parse(key.public_key().to_openssh("").as_bytes());
        let (cas, others) = (trusted(&ca), trusted(&PrivateKey::generate_ed25519().unwrap()));
        let demand = |now, cas| Demand {
            cas,
            kind: CertificateKind::User,
            now: UnixTime(now),
            principals: PrincipalDemand::User("alice", None),
            critical_options: CriticalOptions::Refuse { origin: None },
            revoked: None,
            max_validity: None,
            max_age: None,
        };
        let accepted = kept.judge(&demand(999, &cas), &options(""), None).unwrap();
        assert!(accepted.is_whole() && accepted.proof.is_for(&accepted.certificate));
        assert!(kept.judge(&demand(1000, &cas), &options(""), None).is_none(), "it has expired");
        assert!(kept.judge(&demand(999, &others), &options(""), None).is_none(), "its CA is not trusted");
        assert!(kept.judge(&demand(999, &cas), &options("bind_session=yes"), None).is_none(), "it has no login");
    }

    fn options(line: &str) -> AuthOptions {
        let line: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        AuthOptions::parse_with("sudo", Some(&line), None).unwrap()
    }

    #[test]
    fn the_proof_is_for_that_certificate_only() {
        let ca = PrivateKey::generate_ed25519().unwrap();
        let cas = TrustedCas::parse(ca.public_key().to_openssh("").as_bytes());
        let demand = Demand {
            cas: &cas,
            kind: CertificateKind::User,
            now: UnixTime(1),
            principals: PrincipalDemand::User("alice", None),
            critical_options: CriticalOptions::Refuse { origin: None },
            revoked: None,
            max_validity: None,
            max_age: None,
        };
        let (one, other) = (
            kept(&ca).judge(&demand, &options(""), None).unwrap(),
            kept(&ca).judge(&demand, &options(""), None).unwrap(),
        );
        assert!(!one.proof.is_for(&other.certificate));
    }
}
