//! Keys, and certificates that are about the user who asks.

use std::collections::BTreeMap;
use std::process::Command;

use crate::certificate::Certificate;
use crate::keys::Key;

/// Where the keys lie in the host.
pub const FILE: &str = "/etc/hostile/keys.json";

/// The CA that pam_ussh trusts, and that signs what is good.
pub const CA: &str = "ca";
/// Another one, whose signatures take the longest to verify.
pub const SLOW_CA: &str = "ca-ecdsa-521";
/// A CA that it does not trust.
pub const ROGUE_CA: &str = "rogue-ca";
/// The user's key, unless a case wants one of another type.
pub const USER_KEY: &str = "ed25519";
/// A key of somebody else's.
pub const OTHER_KEY: &str = "ed25519-other";
/// All keys by name, and as ssh-keygen makes them.
const KEYS: [(&str, &[&str]); 8] = [
    (CA, &["ed25519"]),
    (SLOW_CA, &["ecdsa", "-b", "521"]),
    (ROGUE_CA, &["ed25519"]),
    (USER_KEY, &["ed25519"]),
    (OTHER_KEY, &["ed25519"]),
    ("rsa", &["rsa", "-b", "2048"]),
    ("ecdsa-256", &["ecdsa", "-b", "256"]),
    ("ecdsa-521", &["ecdsa", "-b", "521"]),
];
/// Serial of every certificate that is good.
pub const GOOD_SERIAL: u64 = 1;

/// All keys, made anew by ssh-keygen.
pub fn make() -> BTreeMap<String, Key> {
    let folder = tempfile::tempdir().unwrap();
    let made = KEYS.map(|(name, kind)| {
        let file = folder.path().join(name);
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-N", "", "-C", "", "-f"]).arg(&file).arg("-t").args(kind);
        loop {
            assert!(keygen.status().unwrap().success(), "ssh-keygen: {name}");
            let pem = std::fs::read_to_string(&file).unwrap();
            // ssh-key reads no ECDSA key whose number is shorter than its curve.
            if ssh_key::PrivateKey::from_openssh(&pem).is_ok() {
                return (name.to_owned(), Key::from_openssh(&pem));
            }
            std::fs::remove_file(&file).unwrap();
        }
    });
    made.into()
}

/// The keys, and whose certificates are made.
#[derive(Clone, Debug)]
pub struct Kit {
    pub user: String,
    keys: BTreeMap<String, Key>,
}

impl Kit {
    /// In the host.
    pub fn of(user: &str) -> Self {
        let file = std::fs::read(FILE).unwrap();
        Kit { user: user.to_owned(), keys: serde_json::from_slice(&file).unwrap() }
    }

    pub fn key(&self, name: &str) -> Key {
        self.keys[name].clone()
    }

    /// For the key of this name, with everything right. To be signed by the CA.
    pub fn certificate(&self, key: &str) -> Certificate {
        let mut certificate = Certificate::of(&self.keys[key]).principals(&[self.user.as_bytes()]);
        certificate.key_id = self.user.clone().into_bytes();
        certificate.serial = GOOD_SERIAL;
        certificate
    }

    /// Signed by the CA.
    pub fn issue(&self, certificate: &Certificate) -> Vec<u8> {
        certificate.sign(&self.keys[CA])
    }
}
