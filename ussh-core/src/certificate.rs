//! A certificate as sshd reads it (draft-miller-ssh-cert; sshkey.c `cert_parse`). Parsed is not trusted: see `verdict`.

use crate::clock::UnixTime;
use crate::keys::PublicKey;

/// Certificate type field (draft-miller-ssh-cert §2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateKind {
    /// 1: authenticates a user.
    User,
    /// 2: authenticates a host.
    Host,
}

/// A critical option or an extension: name and raw data (for a flag, empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateOption {
    /// As in the certificate; may hold any byte.
    pub name: Vec<u8>,
    /// The data field as it stands in the certificate (for a string value: still with its inner length).
    pub data: Vec<u8>,
}

impl CertificateOption {
    /// The inner string of an option that holds one (force-command, source-address).
    pub fn string_value(&self) -> Option<&[u8]> {
        todo!()
    }
}

/// Why bytes are no certificate that sshd would read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateParseError {
    /// Not a certificate type name that ends in -cert-v01@openssh.com, or not one we take.
    #[error("not a certificate")]
    NotACertificate,
    /// Cut short, trailing bytes, NUL in a name, nested CA certificate, …
    #[error("malformed certificate: {0}")]
    Malformed(&'static str),
    /// More than 256 principals (sshkey.c SSHKEY_CERT_MAX_PRINCIPALS).
    #[error("too many principals")]
    TooManyPrincipals,
}

/// A parsed certificate, *not* verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub(crate) blob: Vec<u8>,
    pub(crate) type_name: String,
    pub(crate) public_key: PublicKey,
    pub(crate) serial: u64,
    pub(crate) kind: CertificateKind,
    pub(crate) key_id: Vec<u8>,
    pub(crate) principals: Vec<Vec<u8>>,
    pub(crate) valid_after: UnixTime,
    pub(crate) valid_before: UnixTime,
    pub(crate) critical_options: Vec<CertificateOption>,
    pub(crate) extensions: Vec<CertificateOption>,
    pub(crate) ca: PublicKey,
    pub(crate) signed_len: usize,
    pub(crate) signature: Vec<u8>,
}

/// Extension with the time of the last full PAM login: 8 bytes, big endian seconds since the epoch.
pub const LOGIN_TIME: &str = "login-time@ussh";

impl Certificate {
    /// From the wire form, whole.
    /// # Errors
    /// [`CertificateParseError`]
    pub fn parse(blob: &[u8]) -> Result<Self, CertificateParseError> {
        let _ = blob;
        todo!()
    }
    /// From one line `type base64 [comment]`.
    /// # Errors
    /// [`CertificateParseError`]
    pub fn from_openssh(line: &str) -> Result<Self, CertificateParseError> {
        let _ = line;
        todo!()
    }
    /// `type base64 comment`, no newline.
    pub fn to_openssh(&self, comment: &str) -> String {
        let _ = comment;
        todo!()
    }
    /// Whether this blob's type name is a certificate's (cheap; says nothing on the rest).
    pub fn is_certificate_blob(blob: &[u8]) -> bool {
        let _ = blob;
        todo!()
    }
    /// The wire form.
    pub fn blob(&self) -> &[u8] { &self.blob }
    /// `ssh-ed25519-cert-v01@openssh.com` for instance.
    pub fn type_name(&self) -> &str { &self.type_name }
    /// The certified key.
    pub fn public_key(&self) -> &PublicKey { &self.public_key }
    /// Serial; 0 = none given.
    pub fn serial(&self) -> u64 { self.serial }
    /// User or host.
    pub fn kind(&self) -> CertificateKind { self.kind }
    /// Any bytes but NUL: escape before printing.
    pub fn key_id(&self) -> &[u8] { &self.key_id }
    /// In the certificate's order.
    pub fn principals(&self) -> &[Vec<u8>] { &self.principals }
    /// First second in which it is valid.
    pub fn valid_after(&self) -> UnixTime { self.valid_after }
    /// First second in which it is no longer valid; [`UnixTime::FOREVER`] = never expires.
    pub fn valid_before(&self) -> UnixTime { self.valid_before }
    /// In the certificate's order.
    pub fn critical_options(&self) -> &[CertificateOption] { &self.critical_options }
    /// In the certificate's order.
    pub fn extensions(&self) -> &[CertificateOption] { &self.extensions }
    /// The key that signed it.
    pub fn ca(&self) -> &PublicKey { &self.ca }
    /// `login-time@ussh`, or else `valid_after`.
    pub fn login_time(&self) -> UnixTime { todo!() }
    /// Same CA and same key ID: the later one renews the earlier one.
    pub fn same_lineage(&self, other: &Certificate) -> bool { let _ = other; todo!() }
    /// SHA-256 over the wire form.
    pub fn digest(&self) -> [u8; 32] { todo!() }
}
