//! A certificate as sshd reads it (draft-miller-ssh-cert; sshkey.c `cert_parse`). Parsed is not trusted: see `verdict`.

use crate::clock::UnixTime;
use crate::digest::sha256;
use crate::escape::{MAX_FIELD, escape};
use crate::keys::{FidoDemand, KeyError, KeyType, PublicKey, is_certificate_name, split_line, to_line};
use crate::wire::{Reader, WireError, WireWrite};

/// Most principals that are read (sshkey.h SSHKEY_CERT_MAX_PRINCIPALS).
pub(crate) const MAX_PRINCIPALS: usize = 256;
/// Longest certificate that is read, in bytes: SSH's largest packet, so that none which sshd could see is longer.
const MAX_BLOB: usize = 256 * 1024;

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
    /// One whose presence says it all (permit-pty, verify-required).
    pub fn flag(name: &str) -> Self {
        CertificateOption { name: name.as_bytes().to_vec(), data: Vec::new() }
    }

    /// One that holds a string (force-command, source-address).
    pub fn string(name: &str, value: &str) -> Self {
        let mut data = Vec::with_capacity(4 + value.len());
        data.put_string(value.as_bytes());
        CertificateOption { name: name.as_bytes().to_vec(), data }
    }

    /// The extension [`LOGIN_TIME`].
    pub fn login_time(login_time: UnixTime) -> Self {
        CertificateOption { name: LOGIN_TIME.as_bytes().to_vec(), data: login_time.0.to_be_bytes().to_vec() }
    }

    /// The inner string of an option that holds one (force-command, source-address).
    pub fn string_value(&self) -> Option<&[u8]> {
        let mut reader = Reader::new(&self.data);
        let value = reader.string().ok()?;
        reader.finish().ok()?;
        Some(value)
    }

    /// The time in a login-time extension.
    pub(crate) fn login_time_value(&self) -> Option<UnixTime> {
        Some(UnixTime(u64::from_be_bytes(self.data.as_slice().try_into().ok()?)))
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

impl From<WireError> for CertificateParseError {
    fn from(error: WireError) -> Self {
        CertificateParseError::Malformed(match error {
            WireError::Truncated => "truncated",
            WireError::Trailing => "trailing bytes",
        })
    }
}

/// A parsed certificate, *not* verified. `Debug` names it, and does not show it whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    pub(crate) blob: Vec<u8>,
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

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key_id = escape(&self.key_id, MAX_FIELD);
        write!(f, "Certificate({:?} \"{key_id}\" serial {} by {:?})", self.kind, self.serial, self.ca)
    }
}

/// Extension with the time of the last full PAM login: 8 bytes, big endian seconds since the epoch.
pub const LOGIN_TIME: &str = "login-time@ussh";

impl Certificate {
    /// From the wire form, whole.
    /// # Errors
    /// [`CertificateParseError`]
    pub fn parse(blob: &[u8]) -> Result<Self, CertificateParseError> {
        if blob.len() > MAX_BLOB {
            return Err(CertificateParseError::Malformed("longer than 256 KiB"));
        }
        let mut reader = Reader::new(blob);
        let key_type = reader.string().ok().and_then(KeyType::from_certificate_name);
        let key_type = key_type.ok_or(CertificateParseError::NotACertificate)?;
        let _nonce = reader.string()?;
        let public_key = read_key_fields(&mut reader, key_type)?;
        let serial = reader.u64()?;
        let kind = reader.u32()?;
        let key_id = without_nul(reader.string()?)?;
        let principals = reader.string()?;
        let valid_after = UnixTime(reader.u64()?);
        let valid_before = UnixTime(reader.u64()?);
        let critical_options = reader.string()?;
        let extensions = reader.string()?;
        let _reserved = reader.string()?;
        let ca = reader.string()?;
        let signed_len = blob.len() - reader.rest().len();
        let signature = reader.string()?;
        reader.finish()?;
        Ok(Certificate {
            public_key,
            serial,
            kind: read_kind(kind)?,
            key_id: key_id.to_vec(),
            principals: read_principals(principals)?,
            valid_after,
            valid_before,
            critical_options: read_options(critical_options)?,
            extensions: read_options(extensions)?,
            ca: read_ca(ca)?,
            signed_len,
            signature: signature.to_vec(),
            blob: blob.to_vec(),
        })
    }

    /// From one line `type base64 [comment]`.
    /// # Errors
    /// [`CertificateParseError`]
    pub fn from_openssh(line: &str) -> Result<Self, CertificateParseError> {
        Self::from_line(line.as_bytes())
    }

    /// [`Self::from_openssh`] for a line whose comment may hold any bytes.
    pub(crate) fn from_line(line: &[u8]) -> Result<Self, CertificateParseError> {
        let (name, blob) = split_line(line).ok_or(CertificateParseError::NotACertificate)?;
        let certificate = Self::parse(&blob)?;
        if certificate.type_name().as_bytes() != name {
            return Err(CertificateParseError::Malformed("another type in the blob than before it"));
        }
        Ok(certificate)
    }

    /// `type base64 comment`, no newline.
    pub fn to_openssh(&self, comment: &str) -> String {
        to_line(self.type_name(), &self.blob, comment)
    }

    /// Whether this blob's type name is a certificate's (cheap; says nothing on the rest).
    pub fn is_certificate_blob(blob: &[u8]) -> bool {
        Reader::new(blob).string().is_ok_and(is_certificate_name)
    }

    /// The wire form.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// `ssh-ed25519-cert-v01@openssh.com` for instance.
    pub fn type_name(&self) -> &str {
        self.public_key.key_type().certificate_name()
    }

    /// The certified key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Serial; 0 = none given.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// User or host.
    pub fn kind(&self) -> CertificateKind {
        self.kind
    }

    /// Any bytes but NUL: escape before printing.
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// In the certificate's order.
    pub fn principals(&self) -> &[Vec<u8>] {
        &self.principals
    }

    /// First second in which it is valid.
    pub fn valid_after(&self) -> UnixTime {
        self.valid_after
    }

    /// First second in which it is no longer valid; [`UnixTime::FOREVER`] = never expires.
    pub fn valid_before(&self) -> UnixTime {
        self.valid_before
    }

    /// In the certificate's order.
    pub fn critical_options(&self) -> &[CertificateOption] {
        &self.critical_options
    }

    /// In the certificate's order.
    pub fn extensions(&self) -> &[CertificateOption] {
        &self.extensions
    }

    /// The key that signed it.
    pub fn ca(&self) -> &PublicKey {
        &self.ca
    }

    /// What the CA signed: all of the wire form before the signature.
    pub(crate) fn signed_data(&self) -> &[u8] {
        self.blob.get(..self.signed_len).unwrap_or_default()
    }

    /// The CA's signature, in wire form.
    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Whether the CA that it names has signed it, which says nothing of that CA. OpenSSH reads no certificate of which this is not so (sshkey.c `cert_parse`); we ask when we trust a CA.
    pub(crate) fn is_signed(&self) -> bool {
        self.ca.verify(self.signed_data(), &self.signature, FidoDemand::Presence).is_ok()
    }

    /// `login-time@ussh`, or else `valid_after`. Of several the earliest; a malformed one is 1970, older than any limit.
    pub fn login_time(&self) -> UnixTime {
        let extensions = self.extensions.iter().filter(|e| e.name == LOGIN_TIME.as_bytes());
        let times = extensions.map(|e| e.login_time_value().unwrap_or(UnixTime(0)));
        times.min().unwrap_or(self.valid_after)
    }

    /// Same CA, same key ID and same type: the later one renews the earlier one.
    pub fn same_lineage(&self, other: &Certificate) -> bool {
        self.ca == other.ca && self.key_id == other.key_id && self.kind == other.kind
    }

    /// SHA-256 over the wire form.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.blob)
    }
}

fn read_key_fields(reader: &mut Reader<'_>, key_type: KeyType) -> Result<PublicKey, CertificateParseError> {
    let start = reader.rest();
    for _ in 0..key_type.field_count() {
        reader.string()?;
    }
    let len = start.len() - reader.rest().len();
    let fields = start.get(..len).unwrap_or_default();
    PublicKey::from_fields(key_type, fields).map_err(|_| CertificateParseError::Malformed("the certified key"))
}

fn read_kind(kind: u32) -> Result<CertificateKind, CertificateParseError> {
    match kind {
        1 => Ok(CertificateKind::User),
        2 => Ok(CertificateKind::Host),
        _ => Err(CertificateParseError::Malformed("neither a user nor a host certificate")),
    }
}

/// OpenSSH lets one NUL at the very end pass and cuts it off (`sshbuf_get_cstring`); no CA writes one, so none is taken.
fn without_nul(name: &[u8]) -> Result<&[u8], CertificateParseError> {
    if name.contains(&0) { Err(CertificateParseError::Malformed("NUL in a name")) } else { Ok(name) }
}

fn read_principals(data: &[u8]) -> Result<Vec<Vec<u8>>, CertificateParseError> {
    let mut reader = Reader::new(data);
    let mut principals = Vec::new();
    while !reader.rest().is_empty() {
        if principals.len() == MAX_PRINCIPALS {
            return Err(CertificateParseError::TooManyPrincipals);
        }
        principals.push(without_nul(reader.string()?)?.to_vec());
    }
    Ok(principals)
}

/// Any order, any bytes, duplicates: sshd reads them all.
fn read_options(data: &[u8]) -> Result<Vec<CertificateOption>, CertificateParseError> {
    let mut reader = Reader::new(data);
    let mut options = Vec::new();
    while !reader.rest().is_empty() {
        let name = reader.string()?.to_vec();
        let data = reader.string()?.to_vec();
        options.push(CertificateOption { name, data });
    }
    Ok(options)
}

fn read_ca(blob: &[u8]) -> Result<PublicKey, CertificateParseError> {
    PublicKey::from_blob(blob).map_err(|error| match error {
        KeyError::IsCertificate => CertificateParseError::Malformed("its CA is itself a certificate"),
        KeyError::Malformed
        | KeyError::UnsupportedType(_)
        | KeyError::TooShort(_)
        | KeyError::Encrypted
        | KeyError::SignatureAlgorithm(_)
        | KeyError::BadSignature
        | KeyError::NoUserPresence
        | KeyError::NoUserVerification
        | KeyError::WrongPassphrase
        | KeyError::Holder(_) => CertificateParseError::Malformed("the CA's key"),
    })
}

#[cfg(test)]
mod tests;
