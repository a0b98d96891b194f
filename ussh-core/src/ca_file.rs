//! Trusted CA keys, in the format of sshd's TrustedUserCAKeys (sshd `user_cert_trusted_ca`, sshkey_in_file).

use crate::break_glass::MARK;
use crate::certificate::Certificate;
use crate::keys::{KeyError, PublicKey};

/// The CA keys that are trusted. Never holds a certificate.
#[derive(Clone, Debug, Default)]
pub struct TrustedCas {
    keys: Vec<PublicKey>,
    break_glass: Vec<PublicKey>,
    /// Without the mark.
    of_users: Vec<PublicKey>,
    junk_at: Option<usize>,
}

impl TrustedCas {
    /// Reads the file's text. As sshd does: comments, blank, indented lines, CRLF behind a key are fine, a certificate line is skipped, reading stops at the first line of junk.
    ///
    /// A type that we do not take (ssh-dss) is junk, as it is for OpenSSH 10; an RSA key that is too short is skipped.
    pub fn parse(text: &[u8]) -> Self {
        let (mut keys, mut break_glass, mut of_users) = (Vec::new(), Vec::new(), Vec::new());
        for (number, line) in text.split(|b| *b == b'\n').enumerate() {
            let indent = line.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
            if matches!(line.get(indent), None | Some(b'#')) {
                continue;
            }
            match PublicKey::from_line(line) {
                Ok(key) => {
                    if is_marked(line) { &mut break_glass } else { &mut of_users }.push(key.clone());
                    keys.push(key);
                }
                Err(KeyError::TooShort(_)) => {}
                Err(KeyError::IsCertificate) if Certificate::from_line(line).is_ok_and(|one| one.is_signed()) => {}
                Err(_) => return TrustedCas { keys, break_glass, of_users, junk_at: Some(number + 1) },
            }
        }
        TrustedCas { keys, break_glass, of_users, junk_at: None }
    }

    /// From keys at hand.
    pub fn from_keys(keys: Vec<PublicKey>) -> Self {
        TrustedCas { of_users: keys.clone(), keys, break_glass: Vec::new(), junk_at: None }
    }

    /// These keys too are for break-glass, as far as they are trusted at all.
    #[must_use]
    pub fn with_break_glass(mut self, keys: &[PublicKey]) -> Self {
        self.break_glass.extend_from_slice(keys);
        self
    }

    /// Whether certificates by this key are for break-glass, and held to its rules ([`crate::break_glass::check`]).
    pub fn is_break_glass(&self, key: &PublicKey) -> bool {
        self.break_glass.contains(key) && !self.is_user_ca(key)
    }

    /// Whether it stands there without the mark: it is a user CA then, whatever else is said of it. A copy in the break-glass CA's file ends nobody's session and refuses nobody.
    pub fn is_user_ca(&self, key: &PublicKey) -> bool {
        self.of_users.contains(key)
    }

    /// In the file's order.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }
    /// Number of the line, from 1, at which reading stopped; what stands below it is not trusted. `None`: all was read.
    pub fn junk_at(&self) -> Option<usize> {
        self.junk_at
    }
    /// Whether this very key is among them.
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }
}

/// Whether the line's comment ends in [`MARK`].
pub fn is_marked(line: &[u8]) -> bool {
    let words = line.trim_ascii_end();
    words.strip_suffix(MARK.as_bytes()).is_some_and(|before| before.ends_with(b" ") || before.ends_with(b"\t"))
}

#[cfg(test)]
mod tests;
