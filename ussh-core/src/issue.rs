//! Making a certificate: only the signer does.

use crate::certificate::{Certificate, CertificateKind, CertificateOption, CertificateParseError, MAX_PRINCIPALS};
use crate::clock::UnixTime;
use crate::keys::{FidoDemand, KeyError, PublicKey, SigningKey};
use crate::wire::WireWrite;

/// All that a new certificate says; the nonce is drawn when it is signed.
#[derive(Clone, Debug)]
pub struct CertificateTemplate {
    /// The key to certify.
    pub public_key: PublicKey,
    /// Never 0 (a KRL cannot revoke it).
    pub serial: u64,
    /// User or host.
    pub kind: CertificateKind,
    /// For users the canonical account name and nothing else.
    pub key_id: String,
    /// At least one.
    pub principals: Vec<String>,
    /// Seconds since the epoch, inclusive.
    pub valid_after: UnixTime,
    /// Seconds since the epoch, exclusive.
    pub valid_before: UnixTime,
    /// Sorted by name when written; `data` as it shall stand in the certificate.
    pub critical_options: Vec<CertificateOption>,
    /// Likewise.
    pub extensions: Vec<CertificateOption>,
}

/// Why no certificate was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// No principal, an empty one, one with a comma, NUL or control character, a pattern for a host, more than 256; a key ID that is
    /// empty or holds a control character; serial 0; an end that is not after the start; an option given twice; the CA's own key.
    #[error("refused to sign: {0}")]
    Template(&'static str),
    /// The CA key could not sign.
    #[error("the CA key could not sign: {0}")]
    Key(#[from] KeyError),
    /// What was signed does not read as a certificate.
    #[error("the new certificate does not read: {0}")]
    Unreadable(#[from] CertificateParseError),
}

impl CertificateTemplate {
    /// Signs with `ca`; what comes back has been parsed again and verifies.
    /// # Errors
    /// [`IssueError`]
    pub fn sign(self, ca: &impl SigningKey) -> Result<Certificate, IssueError> {
        self.sign_with_patterns(ca, &[])
    }

    /// [`Self::sign`] of a certificate whose principals may be these patterns, letter for letter, as well. OpenSSH 10.3 and later honour them in a host's certificate.
    /// # Errors
    /// [`IssueError`]
    pub fn sign_with_patterns(mut self, ca: &impl SigningKey, patterns: &[String]) -> Result<Certificate, IssueError> {
        let ca_key = ca.public_key();
        self.check(&ca_key, patterns)?;
        let mut blob = self.write_body(&ca_key)?;
        let signature = ca.sign(&blob)?;
        blob.put_string(&signature);
        let certificate = Certificate::parse(&blob)?;
        certificate.ca().verify(certificate.signed_data(), certificate.signature(), FidoDemand::Presence)?;
        Ok(certificate)
    }

    fn check(&self, ca: &PublicKey, allowed: &[String]) -> Result<(), IssueError> {
        let refuse = |reason| Err(IssueError::Template(reason));
        if self.public_key == *ca {
            return refuse("the CA's own key");
        }
        if self.serial == 0 {
            return refuse("serial 0 cannot be revoked");
        }
        if self.key_id.is_empty() || self.key_id.contains(char::is_control) {
            return refuse("an empty key ID, or one with a control character");
        }
        if self.valid_before <= self.valid_after {
            return refuse("it would end before it starts");
        }
        if self.principals.is_empty() {
            return refuse("no principals");
        }
        if self.principals.len() > MAX_PRINCIPALS {
            return refuse("more than 256 principals");
        }
        // sshd 10.3 and later take a host's principals as patterns.
        let patterns = if self.kind == CertificateKind::Host { "*?!" } else { "" };
        let unfit = |c: char| c == ',' || c.is_control();
        let is_pattern = |p: &String| p.contains(|c| patterns.contains(c)) && !allowed.contains(p);
        if self.principals.iter().any(|p| p.is_empty() || p.contains(unfit) || is_pattern(p)) {
            return refuse("an empty principal, or one with a comma, a control character or a pattern");
        }
        if has_duplicates(&self.critical_options) || has_duplicates(&self.extensions) {
            return refuse("an option twice");
        }
        Ok(())
    }

    /// The wire form up to the signature (draft-miller-ssh-cert §2.1).
    fn write_body(&mut self, ca: &PublicKey) -> Result<Vec<u8>, IssueError> {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|_| IssueError::Template("no random numbers for the nonce"))?;
        let mut principals = Vec::new();
        for principal in &self.principals {
            principals.put_string(principal.as_bytes());
        }
        let mut out = Vec::with_capacity(1024);
        out.put_string(self.public_key.key_type().certificate_name().as_bytes());
        out.put_string(&nonce);
        out.extend_from_slice(self.public_key.fields());
        out.put_u64(self.serial);
        out.put_u32(match self.kind {
            CertificateKind::User => 1,
            CertificateKind::Host => 2,
        });
        out.put_string(self.key_id.as_bytes());
        out.put_string(&principals);
        out.put_u64(self.valid_after.0);
        out.put_u64(self.valid_before.0);
        out.put_string(&sorted_options(&mut self.critical_options));
        out.put_string(&sorted_options(&mut self.extensions));
        out.put_string(b"");
        out.put_string(ca.blob());
        Ok(out)
    }
}

fn has_duplicates(options: &[CertificateOption]) -> bool {
    let mut names: Vec<_> = options.iter().map(|o| &o.name).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| matches!(pair, [a, b] if a == b))
}

fn sorted_options(options: &mut [CertificateOption]) -> Vec<u8> {
    options.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = Vec::new();
    for option in options {
        out.put_string(&option.name);
        out.put_string(&option.data);
    }
    out
}

#[cfg(test)]
mod tests;
