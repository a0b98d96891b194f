//! `auth` in sshd's stack, behind publickey: the certificate that sshd has just verified.
//!
//! Trusted: `SSH_AUTH_INFO_0` in *PAM's* environment, where sshd puts it; not the process's. Our line must come before any pam_env that reads the user's file.

use ussh_core::certificate::{Certificate, CertificateParseError};
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::decision::Tried;
use ussh_core::verdict::{CriticalOptions, Refusal, VerifiedCertificate, verify};
use ussh_os::pam_module::{NOT_TEXT, PamHandle};
use ussh_os::process;

use crate::answer::{self, Accepted, Denial, Proof, Subject};
use crate::login::Bond;
use crate::options::AuthOptions;
use crate::trust::Trust;

/// PAM_SERVICE of sshd.
pub const SERVICE: &str = "sshd";

/// sshd's word that the client proved, in this very login, to hold this certificate's key: it lets nobody past publickey without that signature. Made in this module only.
#[derive(Debug)]
#[must_use]
pub struct LoginProof {
    certificate_digest: [u8; 32],
}

impl LoginProof {
    /// Whether it is for this certificate.
    pub fn is_for(&self, certificate: &VerifiedCertificate) -> bool {
        self.certificate_digest == certificate.certificate().digest()
    }
}

/// The certificates of this login, the first that passes.
/// # Errors
/// [`Denial`]
pub fn judge(
    handle: &PamHandle,
    subject: &Subject,
    options: &AuthOptions,
    trust: &Trust<'_>,
) -> Result<Accepted, Denial> {
    let proven = Proven::of_login(handle)?;
    let bond = Bond::unless_demanded(options)?;
    // sshd has judged force-command and source-address, and enforces both in this login.
    let demand = trust.demand(CriticalOptions::EnforcedBySshd, SystemClock.now())?;
    let mut tried = Vec::new();
    for one in proven.0 {
        let refused = match one {
            Err(error) => Tried { certificate: None, reason: Refusal::from(error).into() },
            Ok(certificate) => match verify(&certificate, &demand) {
                Ok(certificate) => {
                    let proof = LoginProof { certificate_digest: certificate.certificate().digest() };
                    // Of break-glass here tells the session.
                    return Ok(Accepted { certificate, proof: Proof::Login(proof), bond, break_glass: None });
                }
                Err(refusal) => Tried { certificate: Some(certificate), reason: refusal.into() },
            },
        };
        tried.push(refused);
    }
    if options.debug {
        answer::debug(subject, &tried);
    }
    Err(Denial::of_tried(tried))
}

/// The user certificates of the login whose session is opened, `None` for lines that call themselves one and cannot be read.
/// # Errors
/// [`Denial`]
pub fn certificates(handle: &PamHandle) -> Result<Vec<Option<Certificate>>, Denial> {
    Ok(Proven::of_login(handle)?.0.into_iter().map(Result::ok).collect())
}

/// Certificates whose keys the client has proved to hold. Made from sshd's own words only.
struct Proven(Vec<Result<Certificate, CertificateParseError>>);

impl Proven {
    fn of_login(handle: &PamHandle) -> Result<Self, Denial> {
        if handle.service().as_deref() != Some(SERVICE) || process::real_uid() != 0 || process::effective_uid() != 0 {
            return Err(Denial::Misconfigured("service sshd, but the process is not sshd's".into()));
        }
        let auth_info = handle.env("SSH_AUTH_INFO_0").unwrap_or_default();
        if auth_info.contains(NOT_TEXT) {
            return Err(Denial::Misconfigured("SSH_AUTH_INFO_0 is no text: sshd does not write such".into()));
        }
        Ok(Proven(parse(&auth_info)))
    }
}

/// One line per method that has succeeded so far (auth.c `auth2_record_info`); those of publickey are `publickey TYPE BASE64`. Plain keys and other methods are passed over.
pub fn parse(auth_info: &str) -> Vec<Result<Certificate, CertificateParseError>> {
    let keys = auth_info.lines().filter_map(|line| line.strip_prefix("publickey "));
    keys.filter(|key| key.split(' ').next().is_some_and(|name| name.contains("-cert-v")))
        .map(Certificate::from_openssh)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use ussh_core::certificate::CertificateKind;
    use ussh_core::clock::UnixTime;
    use ussh_core::issue::CertificateTemplate;
    use ussh_core::keys::PrivateKey;

    fn certificate(serial: u64) -> Certificate {
        let template = CertificateTemplate {
            public_key: PrivateKey::generate_ed25519().unwrap().public_key(),
            serial,
            kind: CertificateKind::User,
            key_id: "alice".into(),
            principals: vec!["alice".into()],
            valid_after: UnixTime(0),
            valid_before: UnixTime(1000),
            critical_options: vec![],
            extensions: vec![],
        };
        template.sign(&PrivateKey::generate_ed25519().unwrap()).unwrap()
    }

    fn serials(auth_info: &str) -> Vec<Option<u64>> {
        parse(auth_info).into_iter().map(|one| one.ok().map(|certificate| certificate.serial())).collect()
    }

    #[test]
    fn reads_every_certificate_and_nothing_else() {
        let (one, two) = (certificate(1).to_openssh(""), certificate(2).to_openssh(""));
        let key = PrivateKey::generate_ed25519().unwrap().public_key().to_openssh("");
        assert_eq!(serials(""), []);
        assert_eq!(serials(&format!("publickey {one}")), [Some(1)]);
        assert_eq!(
            serials(&format!("publickey {key}\npublickey {one}\nkeyboard-interactive/pam\npublickey {two}\n")),
            [Some(1), Some(2)]
        );
        assert_eq!(serials(&format!("publickey {key}\n")), []);
    }

    #[test]
    fn passes_over_what_did_not_come_from_publickey() {
        let one = certificate(1).to_openssh("");
        for line in [
            format!("hostbased {one}"),
            format!(" publickey {one}"),
            format!("keyboard-interactive/pam publickey {one}"),
            format!("publickeys {one}"),
            one.clone(),
        ] {
            assert_eq!(serials(&line), [], "{line}");
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_not_taken_for_none() {
        let one = certificate(1).to_openssh("");
        assert_eq!(serials(&format!("publickey {}", &one[..one.len() - 8])), [None]);
        assert_eq!(serials("publickey ssh-new-cert-v01@openssh.com AAAA"), [None]);
    }
}
