//! The verdict on a certificate: one function for pam_ussh, usshca, ussh and ussh-hostd.
//!
//! Order: (parsed) → CA → type → time → principals → critical options → KRL → signature of the CA.

use std::net::IpAddr;
use std::time::Duration;

use crate::ca_file::TrustedCas;
use crate::certificate::{Certificate, CertificateKind};
use crate::clock::UnixTime;
use crate::principals::PrincipalList;
use crate::revoked::RevokedKeys;

/// What a certificate must name.
#[derive(Clone, Copy, Debug)]
pub enum PrincipalDemand<'a> {
    /// This very name must be among the principals, and, if there is a list, one of the list too.
    User(&'a str, Option<&'a PrincipalList>),
    /// One of these; the user's own name does not matter (`require_user_principal=no`).
    ListOnly(&'a PrincipalList),
    /// Names are not this caller's question (ussh and ussh-hostd look at lineage); an empty list is refused all the same.
    AnyNonEmpty,
}

/// Who honours force-command and source-address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CriticalOptions {
    /// sshd has judged this certificate and enforces both in this very login.
    EnforcedBySshd,
    /// Nobody would run the command: force-command refuses. source-address refuses unless it matches the proven origin.
    Refuse {
        /// Where the connection comes from, if a root-written record proves it.
        origin: Option<IpAddr>,
    },
}

/// What is demanded of a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// Trusted CA keys.
    pub cas: &'a TrustedCas,
    /// User or host certificate.
    pub kind: CertificateKind,
    /// `valid_after <= now < valid_before`.
    pub now: UnixTime,
    /// Names.
    pub principals: PrincipalDemand<'a>,
    /// Critical options.
    pub critical_options: CriticalOptions,
    /// Revocation list, if the configuration names one.
    pub revoked: Option<&'a RevokedKeys>,
    /// Longest `valid_before - valid_after` that is taken.
    pub max_validity: Option<Duration>,
    /// Longest time since the login time.
    pub max_age: Option<Duration>,
}

/// Why a certificate is refused, or could not be judged. For the log; users see one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a certificate that sshd would read.
    #[error("{0}")]
    Malformed(#[from] crate::certificate::CertificateParseError),
    /// Signed by a CA that is not trusted.
    #[error("CA {fingerprint} is not trusted")]
    UntrustedCa {
        /// Of the CA.
        fingerprint: String,
    },
    /// A host certificate for a user, or the other way round.
    #[error("certificate is of the wrong type")]
    WrongKind,
    /// Not yet valid.
    #[error("certificate is not yet valid (from {valid_after:?}, now {now:?})")]
    NotYetValid {
        /// Start.
        valid_after: UnixTime,
        /// Clock.
        now: UnixTime,
    },
    /// No longer valid.
    #[error("certificate has expired (at {valid_before:?}, now {now:?})")]
    Expired {
        /// End.
        valid_before: UnixTime,
        /// Clock.
        now: UnixTime,
    },
    /// Validity span above `max_validity`.
    #[error("certificate is valid for {span} s, longer than the {max} s allowed")]
    ValidityTooLong {
        /// Seconds.
        span: u64,
        /// Seconds.
        max: u64,
    },
    /// The login is too long ago.
    #[error("login was {age} s ago, more than the {max} s allowed")]
    LoginTooOld {
        /// Seconds.
        age: u64,
        /// Seconds.
        max: u64,
    },
    /// No principals at all.
    #[error("certificate lists no principals")]
    NoPrincipals,
    /// None of them is the one demanded.
    #[error("certificate does not name a demanded principal")]
    PrincipalNotListed,
    /// A critical option nobody here knows.
    #[error("unknown critical option {0}")]
    UnknownCriticalOption(String),
    /// force-command where nobody would run it.
    #[error("force-command cannot be honoured here")]
    ForceCommand,
    /// source-address that does not match, or no proven origin.
    #[error("source-address does not allow this origin")]
    SourceAddress,
    /// A critical option or flag extension whose data is not what it must be, or a duplicate.
    #[error("malformed option {0}")]
    MalformedOption(String),
    /// On the revocation list.
    #[error("certificate is revoked")]
    Revoked,
    /// The CA's signature is not one we take, or does not verify.
    #[error("CA signature: {0}")]
    BadCaSignature(crate::keys::KeyError),
}

/// A certificate that passed [`verify`]. Nothing else makes one.
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifiedCertificate {
    certificate: Certificate,
}

impl VerifiedCertificate {
    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// Judges `certificate`.
/// # Errors
/// [`Refusal`], the first check that failed.
pub fn verify(certificate: &Certificate, demand: &Demand<'_>) -> Result<VerifiedCertificate, Refusal> {
    let _ = (certificate, demand);
    todo!()
}
