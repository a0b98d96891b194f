//! The verdict on a certificate: one function for pam_ussh, usshca, ussh and ussh-hostd.
//!
//! Order: (parsed) → CA → type → time → principals → critical options → KRL → signature of the CA.

use std::net::IpAddr;
use std::time::Duration;

use crate::ca_file::TrustedCas;
use crate::certificate::{Certificate, CertificateKind, CertificateOption, LOGIN_TIME};
use crate::clock::UnixTime;
use crate::escape::escape_word;
use crate::keys::FidoDemand;
use crate::principals::PrincipalList;
use crate::revoked::{MAX_CLOCK_LEAD, RevokedKeys};

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
#[derive(Clone, Copy, Debug)]
pub enum CriticalOptions<'a> {
    /// sshd has judged this certificate and enforces both in this very login.
    EnforcedBySshd,
    /// Nobody would run the command: force-command refuses. source-address refuses unless it matches the proven origin.
    Refuse {
        /// Where the connection comes from, if a root-written record proves it.
        origin: Option<IpAddr>,
    },
    /// As [`CriticalOptions::Refuse`], with an origin that is looked for when a certificate names a source-address, and not before: few do.
    RefuseUnlessFrom(&'a dyn Origin),
}

/// Where an agent's connection comes from.
pub trait Origin: std::fmt::Debug {
    /// The address, if a root-written record proves it at this moment. Asked for every certificate that names a source-address, and each time it is judged.
    /// # Errors
    /// Why nothing proves one, for the log; foreign words in it are escaped.
    fn address(&self) -> Result<IpAddr, String>;
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
    pub critical_options: CriticalOptions<'a>,
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
    /// Against a rule of break-glass.
    #[error("break-glass certificate: {0}")]
    BreakGlass(&'static str),
    /// A host certificate for a user, or the other way round.
    #[error("certificate is of the wrong type")]
    WrongKind,
    /// Not yet valid.
    #[error("certificate is not yet valid (from {valid_after}, now {now})")]
    NotYetValid {
        /// Start.
        valid_after: UnixTime,
        /// Clock.
        now: UnixTime,
    },
    /// No longer valid.
    #[error("certificate has expired (at {valid_before}, now {now})")]
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
    /// The login is later than any CA's clock can make it.
    #[error("login is {ahead} s ahead of this host's clock: how long ago it was cannot be told")]
    LoginFromTheFuture {
        /// Seconds.
        ahead: u64,
    },
    /// No principals at all.
    #[error("certificate lists no principals")]
    NoPrincipals,
    /// None of them is the one demanded, or one of those: which, in words that are bounded and escaped.
    #[error("certificate does not name a demanded principal: {0}")]
    PrincipalNotListed(String),
    /// A critical option nobody here knows.
    #[error("unknown critical option {0}")]
    UnknownCriticalOption(String),
    /// force-command where nobody would run it.
    #[error("force-command cannot be honoured here")]
    ForceCommand,
    /// source-address that the proven origin is not in.
    #[error("source-address does not allow this origin")]
    SourceAddress,
    /// source-address, and nothing proves from where the connection comes: why.
    #[error("source-address cannot be compared, no origin: {0}")]
    NoOrigin(String),
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

    /// What a signature by its key must show: `verify-required` in the certificate asks for more than a touch.
    pub fn fido_demand(&self) -> FidoDemand {
        let options = self.certificate.critical_options();
        if options.iter().any(|o| o.name == VERIFY_REQUIRED) { FidoDemand::Verification } else { FidoDemand::Presence }
    }
}

const FORCE_COMMAND: &[u8] = b"force-command";
const SOURCE_ADDRESS: &[u8] = b"source-address";
const VERIFY_REQUIRED: &[u8] = b"verify-required";
/// Extensions that say all by being there (auth-options.c `cert_option_list`).
const FLAG_EXTENSIONS: [&[u8]; 6] = [
    b"no-touch-required",
    b"permit-X11-forwarding",
    b"permit-agent-forwarding",
    b"permit-port-forwarding",
    b"permit-pty",
    b"permit-user-rc",
];
/// Longest name of an option that is repeated in an error, in bytes.
const SHOWN_NAME: usize = 64;

/// Judges `certificate`.
/// # Errors
/// [`Refusal`], the first check that failed.
pub fn verify(certificate: &Certificate, demand: &Demand<'_>) -> Result<VerifiedCertificate, Refusal> {
    check_content(certificate, demand)?;
    check_ca_signature(certificate)?;
    check_revoked(certificate, demand)?;
    Ok(VerifiedCertificate { certificate: certificate.clone() })
}

/// Whether the CA that the certificate names has signed it; not whether that CA is trusted. A CA on a FIDO key must have been touched; sshd does not look.
/// # Errors
/// [`Refusal::BadCaSignature`]
pub fn check_ca_signature(certificate: &Certificate) -> Result<(), Refusal> {
    let (data, signature) = (certificate.signed_data(), certificate.signature());
    certificate.ca().verify(data, signature, FidoDemand::Presence).map_err(Refusal::BadCaSignature)
}

impl VerifiedCertificate {
    /// Judges once more, at another time or by another list. The CA's signature was checked over these very bytes: it does not change.
    /// # Errors
    /// As [`verify`].
    pub fn verify_again(self, demand: &Demand<'_>) -> Result<Self, Refusal> {
        check_content(&self.certificate, demand)?;
        check_revoked(&self.certificate, demand)?;
        Ok(self)
    }
}

/// All checks that take next to no time, for whoever has many to choose from. A yes is worth nothing without [`verify`], which looks at the CA's signature besides, and then at the
/// revocation list: it may hold a million keys, and an agent may list a thousand certificates that no CA has signed.
pub(crate) fn check_content(certificate: &Certificate, demand: &Demand<'_>) -> Result<(), Refusal> {
    check_ca(certificate, demand)?;
    if certificate.kind() != demand.kind {
        return Err(Refusal::WrongKind);
    }
    check_time(certificate, demand)?;
    check_principals(certificate.principals(), demand.principals)?;
    check_critical_options(certificate, demand.critical_options)?;
    check_extensions(certificate.extensions())
}

/// Whether the revocation list names it.
pub(crate) fn check_revoked(certificate: &Certificate, demand: &Demand<'_>) -> Result<(), Refusal> {
    if demand.revoked.is_some_and(|list| list.revokes(certificate)) { Err(Refusal::Revoked) } else { Ok(()) }
}

/// The source-address of `certificate` alone: whoever compares two certificates of one session asks for it apart from the other options.
/// # Errors
/// [`Refusal`]: there is one, and it is malformed or does not include `origin`.
pub fn source_address_allows(certificate: &Certificate, origin: Option<IpAddr>) -> Result<(), Refusal> {
    let mut options = certificate.critical_options().iter().filter(|o| o.name == SOURCE_ADDRESS);
    options.try_for_each(|option| check_source_address(option, CriticalOptions::Refuse { origin }))
}

fn check_ca(certificate: &Certificate, demand: &Demand<'_>) -> Result<(), Refusal> {
    if demand.cas.contains(certificate.ca()) {
        let is_break_glass = demand.cas.is_break_glass(certificate.ca());
        return if is_break_glass { crate::break_glass::check(certificate) } else { Ok(()) };
    }
    Err(Refusal::UntrustedCa { fingerprint: certificate.ca().fingerprint() })
}

fn check_time(certificate: &Certificate, demand: &Demand<'_>) -> Result<(), Refusal> {
    let (valid_after, valid_before) = (certificate.valid_after(), certificate.valid_before());
    let now = demand.now;
    if now < valid_after {
        return Err(Refusal::NotYetValid { valid_after, now });
    }
    if now >= valid_before {
        return Err(Refusal::Expired { valid_before, now });
    }
    let span = valid_before.0.saturating_sub(valid_after.0);
    if let Some(max) = demand.max_validity.map(|d| d.as_secs())
        && span > max
    {
        return Err(Refusal::ValidityTooLong { span, max });
    }
    let Some(max) = demand.max_age.map(|d| d.as_secs()) else { return Ok(()) };
    // A login time a little ahead of this clock counts as now. One far ahead would keep a login young for ever.
    let login = certificate.login_time().0;
    let ahead = login.saturating_sub(now.0);
    if ahead > MAX_CLOCK_LEAD.as_secs() {
        return Err(Refusal::LoginFromTheFuture { ahead });
    }
    let age = now.0.saturating_sub(login);
    if age > max { Err(Refusal::LoginTooOld { age, max }) } else { Ok(()) }
}

/// An empty name never matches anything, but does no harm beside a good one.
fn check_principals(principals: &[Vec<u8>], demand: PrincipalDemand<'_>) -> Result<(), Refusal> {
    if principals.iter().all(Vec::is_empty) {
        return Err(Refusal::NoPrincipals);
    }
    let names = |user: &str| !user.is_empty() && principals.iter().any(|p| p == user.as_bytes());
    let (user, list) = match demand {
        PrincipalDemand::User(user, list) => (Some(user), list),
        PrincipalDemand::ListOnly(list) => (None, Some(list)),
        PrincipalDemand::AnyNonEmpty => (None, None),
    };
    if let Some(user) = user.filter(|user| !names(user)) {
        let user = escape_word(user.as_bytes(), SHOWN_NAME);
        return Err(Refusal::PrincipalNotListed(format!("{user}, the user's own")));
    }
    match list.filter(|list| !list.permits(principals)) {
        Some(list) => Err(Refusal::PrincipalNotListed(list.demand())),
        None => Ok(()),
    }
}

/// auth-options.c `cert_option_list`. For a host certificate ssh knows no critical option at all (sshconnect.c `check_host_cert`).
fn check_critical_options(certificate: &Certificate, enforcement: CriticalOptions<'_>) -> Result<(), Refusal> {
    let mut seen_force_command = false;
    let mut seen_source_address = false;
    for option in certificate.critical_options() {
        let unknown = || Refusal::UnknownCriticalOption(escape_word(&option.name, SHOWN_NAME));
        if certificate.kind() == CertificateKind::Host {
            return Err(unknown());
        }
        match option.name.as_slice() {
            VERIFY_REQUIRED if option.data.is_empty() => {}
            FORCE_COMMAND if !seen_force_command => {
                seen_force_command = true;
                check_force_command(option, enforcement)?;
            }
            SOURCE_ADDRESS if !seen_source_address => {
                seen_source_address = true;
                check_source_address(option, enforcement)?;
            }
            VERIFY_REQUIRED | FORCE_COMMAND | SOURCE_ADDRESS => return Err(malformed(option)),
            _ => return Err(unknown()),
        }
    }
    Ok(())
}

fn check_force_command(option: &CertificateOption, enforcement: CriticalOptions<'_>) -> Result<(), Refusal> {
    if option.string_value().is_none_or(|command| command.contains(&0)) {
        return Err(malformed(option));
    }
    match enforcement {
        CriticalOptions::EnforcedBySshd => Ok(()),
        CriticalOptions::Refuse { .. } | CriticalOptions::RefuseUnlessFrom(_) => Err(Refusal::ForceCommand),
    }
}

fn check_source_address(option: &CertificateOption, enforcement: CriticalOptions<'_>) -> Result<(), Refusal> {
    let networks = option.string_value().and_then(parse_cidr_list);
    let networks = networks.ok_or_else(|| malformed(option))?;
    let origin = match enforcement {
        CriticalOptions::EnforcedBySshd => return Ok(()),
        CriticalOptions::Refuse { origin } => origin.ok_or_else(|| "no address is known".to_owned()),
        CriticalOptions::RefuseUnlessFrom(origin) => origin.address(),
    };
    let origin = origin.map_err(Refusal::NoOrigin)?;
    if networks.iter().any(|network| network.contains(origin)) { Ok(()) } else { Err(Refusal::SourceAddress) }
}

/// Unknown extensions are no business of ours; those that sshd knows must be well formed, and so must ours.
fn check_extensions(extensions: &[CertificateOption]) -> Result<(), Refusal> {
    let mut seen_login_time = false;
    for extension in extensions {
        let name = extension.name.as_slice();
        let good = if name == LOGIN_TIME.as_bytes() {
            !std::mem::replace(&mut seen_login_time, true) && extension.login_time_value().is_some()
        } else if FLAG_EXTENSIONS.contains(&name) {
            extension.data.is_empty()
        } else {
            !name.contains(&0)
        };
        if !good {
            return Err(malformed(extension));
        }
    }
    Ok(())
}

fn malformed(option: &CertificateOption) -> Refusal {
    Refusal::MalformedOption(escape_word(&option.name, SHOWN_NAME))
}

/// One entry of a source-address list.
struct Network {
    address: IpAddr,
    /// Leading bits that count.
    prefix: u32,
}

/// As addrmatch.c `addr_match_cidr_list` reads it, but without the odd spellings that getaddrinfo takes (`10.1`): every entry must be good.
fn parse_cidr_list(list: &[u8]) -> Option<Vec<Network>> {
    std::str::from_utf8(list).ok()?.split(',').map(Network::parse).collect()
}

impl Network {
    fn parse(entry: &str) -> Option<Self> {
        let (address, prefix) = match entry.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (entry, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => width,
        };
        let network = Network { address, prefix };
        // Bits set behind the prefix are a mistake of whoever wrote it, and sshd refuses them.
        (prefix <= width && network.is_bare()).then_some(network)
    }

    fn contains(&self, origin: IpAddr) -> bool {
        match (self.address, origin.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(host)) => {
                same_bits(net.to_bits().into(), host.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(net), IpAddr::V6(host)) => same_bits(net.to_bits(), host.to_bits(), 128, self.prefix),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// No bit is set behind the prefix.
    fn is_bare(&self) -> bool {
        let (bits, width) = match self.address {
            IpAddr::V4(a) => (u128::from(a.to_bits()), 32_u32),
            IpAddr::V6(a) => (a.to_bits(), 128),
        };
        let host_bits = width.saturating_sub(self.prefix);
        bits.unbounded_shl(128 - host_bits) == 0
    }
}

/// Whether the first `prefix` of `width` bits agree.
fn same_bits(a: u128, b: u128, width: u32, prefix: u32) -> bool {
    (a ^ b).unbounded_shr(width.saturating_sub(prefix)) == 0
}

#[cfg(test)]
mod tests;
