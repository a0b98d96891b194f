//! Trusted CA keys, in the format of sshd's TrustedUserCAKeys (sshd `user_cert_trusted_ca`, sshkey_in_file).

use crate::keys::PublicKey;

/// The CA keys that are trusted. Never holds a certificate.
#[derive(Clone, Debug, Default)]
pub struct TrustedCas {
    keys: Vec<PublicKey>,
}

impl TrustedCas {
    /// Reads the file's text. As sshd does: comments, blank, indented lines, CRLF are fine, a certificate line is skipped, reading stops at the first line of junk.
    pub fn parse(text: &[u8]) -> Self {
        let _ = text;
        todo!()
    }
    /// From keys at hand.
    pub fn from_keys(keys: Vec<PublicKey>) -> Self {
        TrustedCas { keys }
    }
    /// In the file's order.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }
    /// Whether this very key is among them.
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }
}
