//! Certificates written down field by field (draft-miller-ssh-cert §2.1), whatever stands in the fields.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::keys::Key;
use crate::wire::{Put, string, strings};

/// Every field as it is to be. A good certificate unless told otherwise: alice, from five minutes ago for an hour.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub type_name: Vec<u8>,
    pub nonce: Vec<u8>,
    pub key_fields: Vec<u8>,
    pub serial: u64,
    pub kind: u32,
    pub key_id: Vec<u8>,
    /// The field: strings, one after the other.
    pub principals: Vec<u8>,
    pub valid_after: u64,
    pub valid_before: u64,
    pub critical_options: Vec<u8>,
    pub extensions: Vec<u8>,
    pub reserved: Vec<u8>,
    /// Instead of the key that signs.
    pub ca: Option<Vec<u8>>,
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A name and what it holds, as an entry of the options or extensions.
pub fn option(name: &[u8], data: &[u8]) -> Vec<u8> {
    strings(&[name, data])
}

/// An option that holds a string.
pub fn string_option(name: &str, value: &[u8]) -> Vec<u8> {
    option(name.as_bytes(), &string(value))
}

impl Certificate {
    pub fn of(key: &Key) -> Self {
        Certificate {
            type_name: key.certificate_type_name().into_bytes(),
            nonce: vec![7; 32],
            key_fields: key.fields(),
            serial: 7,
            kind: 1,
            key_id: b"alice".to_vec(),
            principals: string(b"alice"),
            valid_after: now() - 300,
            valid_before: now() + 3600,
            critical_options: Vec::new(),
            extensions: option(b"permit-pty", b""),
            reserved: Vec::new(),
            ca: None,
        }
    }

    pub fn principals(mut self, principals: &[&[u8]]) -> Self {
        self.principals = strings(principals);
        self
    }

    pub fn valid(mut self, after: u64, before: u64) -> Self {
        (self.valid_after, self.valid_before) = (after, before);
        self
    }

    /// One more critical option, its data as it stands.
    pub fn critical(mut self, name: &[u8], data: &[u8]) -> Self {
        self.critical_options.extend(option(name, data));
        self
    }

    /// One more critical option that holds a string.
    pub fn critical_string(mut self, name: &str, value: &str) -> Self {
        self.critical_options.extend(string_option(name, value.as_bytes()));
        self
    }

    /// One more extension.
    pub fn extension(mut self, name: &[u8], data: &[u8]) -> Self {
        self.extensions.extend(option(name, data));
        self
    }

    /// All that a CA signs.
    pub fn body(&self, ca: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_string(&self.type_name);
        out.put_string(&self.nonce);
        out.extend_from_slice(&self.key_fields);
        out.put_u64(self.serial);
        out.put_u32(self.kind);
        out.put_string(&self.key_id);
        out.put_string(&self.principals);
        out.put_u64(self.valid_after);
        out.put_u64(self.valid_before);
        out.put_string(&self.critical_options);
        out.put_string(&self.extensions);
        out.put_string(&self.reserved);
        out.put_string(self.ca.as_deref().unwrap_or(ca));
        out
    }

    /// Whole, signed.
    pub fn sign(&self, ca: &Key) -> Vec<u8> {
        self.sign_by("rsa-sha2-512", ca)
    }

    /// Whole, signed; by an RSA key with this algorithm.
    pub fn sign_by(&self, rsa_algorithm: &str, ca: &Key) -> Vec<u8> {
        self.sign_with(&ca.blob(), |body| ca.sign_by(rsa_algorithm, body))
    }

    /// Whole, with this CA key in it and what `sign` makes of the body.
    pub fn sign_with(&self, ca: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let body = self.body(ca);
        let signature = sign(&body);
        [body, string(&signature)].concat()
    }
}
