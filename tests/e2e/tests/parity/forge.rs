//! Where the keys, certificates and lists of the table come from: ssh-keygen, and our own hand where it refuses.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use base64ct::{Base64, Encoding};
use num_bigint::BigUint;
use tempfile::TempDir;

use crate::certificate::Certificate;
use crate::keys::{Key, TOUCHED};
use crate::row::Case;
use crate::rsa::Rsa;

/// The CA that the CA files name, unless a row says otherwise.
pub const CA: &str = "ca";
/// A CA that they do not name.
pub const OTHER_CA: &str = "other-ca";
/// The user's key, unless a row says otherwise.
pub const USER_KEY: &str = "ed25519";

/// Keys by name, made when they are asked for, and a folder in which ssh-keygen works.
pub struct Forge {
    folder: TempDir,
    keys: RefCell<BTreeMap<String, Key>>,
}

impl Forge {
    pub fn new() -> Self {
        Forge { folder: tempfile::tempdir().unwrap(), keys: RefCell::default() }
    }

    /// The key of this name, which says what it is: `ed25519`, `ecdsa-384`, `rsa-2048`, `sk-ed25519`, `sk-ecdsa-256`, … with anything behind a `+` to have several. `ca…` are Ed25519.
    /// `rsa-2048-e3` is one with this exponent, made by hand.
    pub fn key(&self, name: &str) -> Key {
        if let Some(key) = self.keys.borrow().get(name) {
            return key.clone();
        }
        let kind = name.split('+').next().unwrap();
        let key = match kind.strip_prefix("sk-") {
            Some(inner) => self.generate(name, inner).as_fido(TOUCHED),
            None => self.generate(name, kind),
        };
        self.keys.borrow_mut().insert(name.to_owned(), key.clone());
        key
    }

    fn generate(&self, name: &str, kind: &str) -> Key {
        if let Some((bits, exponent)) = kind.strip_prefix("rsa-").and_then(|rest| rest.split_once("-e")) {
            let exponent = BigUint::parse_bytes(exponent.as_bytes(), 10).unwrap();
            return Key::Rsa(Rsa::new(bits.parse().unwrap(), &exponent));
        }
        let (algorithm, bits) = kind.split_once('-').unwrap_or((kind, ""));
        let algorithm = if matches!(algorithm, "ca" | "other") { "ed25519" } else { algorithm };
        let bits = if algorithm == "ed25519" { "" } else { bits };
        let mut arguments = vec!["-q", "-t", algorithm, "-N", "", "-C", name, "-f", name];
        if !bits.is_empty() {
            arguments.extend(["-b", bits]);
        }
        self.ssh_keygen(&arguments);
        Key::from_openssh(&self.read_text(name))
    }

    pub fn ca(&self) -> Key {
        self.key(CA)
    }

    /// Runs ssh-keygen, which must succeed, in the folder where all keys of ssh-keygen's lie under their names.
    pub fn ssh_keygen(&self, arguments: &[&str]) {
        let made = Command::new("ssh-keygen").args(arguments).current_dir(self.folder.path()).output().unwrap();
        assert!(made.status.success(), "ssh-keygen {arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn read_text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// A certificate for the user's key by ssh-keygen, with these arguments.
    pub fn keygen(&self, arguments: &str) -> Case {
        self.keygen_by(CA, USER_KEY, arguments)
    }

    /// The same, by this CA for this key; both are ssh-keygen's.
    pub fn keygen_by(&self, ca: &str, key_name: &str, arguments: &str) -> Case {
        let (ca_key, key) = (self.key(ca), self.key(key_name));
        let public = format!("{key_name}.pub");
        let words = ["-q", "-s", ca].into_iter().chain(arguments.split(' ')).chain([public.as_str()]);
        self.ssh_keygen(&words.collect::<Vec<_>>());
        let line = self.read_text(&format!("{key_name}-cert.pub"));
        let blob = Base64::decode_vec(line.split(' ').nth(1).unwrap()).unwrap();
        Case::new(blob, key, &ca_key)
    }

    /// A good certificate for the user's key, to be changed.
    pub fn certificate(&self) -> Certificate {
        Certificate::of(&self.key(USER_KEY))
    }

    /// Signed by the CA.
    pub fn issue(&self, certificate: &Certificate) -> Case {
        self.case(certificate.sign(&self.ca()))
    }

    /// A good case.
    pub fn good(&self) -> Case {
        self.issue(&self.certificate())
    }

    /// These bytes, for the user's key.
    pub fn case(&self, certificate: Vec<u8>) -> Case {
        Case::new(certificate, self.key(USER_KEY), &self.ca())
    }

    /// A line with a DSA key, and its newline.
    pub fn dsa_line(&self) -> String {
        if !self.path("dsa").exists() {
            self.ssh_keygen(&["-q", "-t", "dsa", "-N", "", "-f", "dsa"]);
        }
        self.read_text("dsa.pub")
    }

    /// A KRL that ssh-keygen makes of this specification (KEY REVOCATION LISTS in ssh-keygen(1)); `ca`: file of the CA, `none` for any.
    pub fn krl(&self, ca: &str, specification: &str) -> Vec<u8> {
        self.write("specification", specification);
        let ca_file = if ca == "none" { "none".to_owned() } else { format!("{ca}.pub") };
        self.ssh_keygen(&["-q", "-k", "-f", "krl", "-s", &ca_file, "specification"]);
        self.read("krl")
    }

    /// A FIDO key that signs with these flags.
    pub fn with_flags(&self, name: &str, flags: u8) -> Key {
        let Key::Fido { inner, .. } = self.key(name) else { panic!("{name} is no FIDO key") };
        Key::Fido { inner, flags }
    }
}
