//! Keys of every kind that sign what they are told: plain ones, RSA of any size and exponent, and FIDO keys without the hardware.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use num_bigint::BigUint;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use signature::Signer;
use ssh_key::private::{EcdsaKeypair, KeypairData};

use crate::rsa::{Number, Rsa};
use crate::wire::{Put, Take, string, strings};

/// What FIDO keys of ours are for: what ssh-keygen writes.
const APPLICATION: &[u8] = b"ssh:";
/// PROTOCOL.u2f: touched. (4: has verified its user.)
pub const TOUCHED: u8 = 1;

/// Goes to the hosts as it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Key {
    /// Ed25519 or ECDSA, as ssh-keygen wrote it.
    Plain(String),
    Rsa(Rsa),
    /// A plain key behind a pretended FIDO key, and the flags with which it signs.
    Fido {
        inner: String,
        flags: u8,
    },
}

impl Key {
    /// From the file that ssh-keygen wrote.
    pub fn from_openssh(pem: &str) -> Self {
        let key = ssh_key::PrivateKey::from_openssh(pem).unwrap();
        let KeypairData::Rsa(pair) = key.key_data() else { return Key::Plain(pem.to_owned()) };
        let number = |value: &ssh_key::Mpint| Number(BigUint::from_bytes_be(value.as_positive_bytes().unwrap()));
        let (public, private) = (pair.public(), pair.private());
        let factors = vec![number(private.p()), number(private.q())];
        Key::Rsa(Rsa { n: number(public.n()), e: number(public.e()), d: number(private.d()), factors })
    }

    /// The same key behind a FIDO key's name.
    pub fn as_fido(&self, flags: u8) -> Key {
        let Key::Plain(pem) = self else { panic!("no such FIDO key: {self:?}") };
        Key::Fido { inner: pem.clone(), flags }
    }

    /// In wire form.
    pub fn blob(&self) -> Vec<u8> {
        let name = string(self.type_name().as_bytes());
        [name, self.fields()].concat()
    }

    /// What follows the type's name in wire form.
    pub fn fields(&self) -> Vec<u8> {
        match self {
            Key::Plain(pem) => plain_fields(pem),
            Key::Rsa(rsa) => rsa.fields(),
            Key::Fido { inner, .. } => [plain_fields(inner), string(APPLICATION)].concat(),
        }
    }

    pub fn type_name(&self) -> String {
        match self {
            Key::Plain(pem) => plain(pem).algorithm().to_string(),
            Key::Rsa(_) => "ssh-rsa".to_owned(),
            Key::Fido { inner, .. } => {
                format!("sk-{}@openssh.com", plain(inner).algorithm())
            }
        }
    }

    pub fn certificate_type_name(&self) -> String {
        format!("{}-cert-v01@openssh.com", self.type_name().trim_end_matches("@openssh.com"))
    }

    /// `type base64 comment`.
    pub fn line(&self) -> String {
        line(&self.type_name(), &self.blob())
    }

    /// The signature in wire form, by the algorithm that OpenSSH would take today.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.sign_by("rsa-sha2-512", message)
    }

    /// The same; RSA keys by this algorithm.
    pub fn sign_by(&self, rsa_algorithm: &str, message: &[u8]) -> Vec<u8> {
        match self {
            Key::Plain(pem) => {
                let signed = plain(pem).try_sign(message).unwrap();
                [string(signed.algorithm().as_str().as_bytes()), string(signed.as_bytes())].concat()
            }
            Key::Rsa(rsa) => rsa.sign(rsa_algorithm, message),
            Key::Fido { inner, flags } => {
                let tail = [&[*flags][..], &9_u32.to_be_bytes()].concat();
                let signed = [&Sha256::digest(APPLICATION)[..], &tail, &Sha256::digest(message)[..]].concat();
                let plain = plain(inner).try_sign(&signed).unwrap();
                [string(self.type_name().as_bytes()), string(plain.as_bytes()), tail].concat()
            }
        }
    }

    /// As a browser has a FIDO key sign (PROTOCOL.u2f, "SSH U2F signatures", webauthn-sk-ecdsa-sha2-nistp256@openssh.com).
    pub fn sign_as_webauthn(&self, message: &[u8]) -> Vec<u8> {
        let Key::Fido { inner, flags } = self else { panic!("not a FIDO key: {self:?}") };
        let challenge = Base64UrlUnpadded::encode_string(message);
        let origin = "https://example.com";
        let client = format!("{{\"type\":\"webauthn.get\",\"challenge\":\"{challenge}\",\"origin\":\"{origin}\"}}");
        let tail = [&[*flags][..], &9_u32.to_be_bytes()].concat();
        let signed = [&Sha256::digest(APPLICATION)[..], &tail, &Sha256::digest(&client)[..]].concat();
        let plain = plain(inner).try_sign(&signed).unwrap();
        let name: &[u8] = b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com";
        [strings(&[name, plain.as_bytes()]), tail, strings(&[origin.as_bytes(), client.as_bytes(), b""])].concat()
    }

    /// Body of SSH_AGENTC_ADD_IDENTITY for this key with a certificate; `None`: ssh-agent would need hardware, or numbers that this key does not have.
    pub fn add_to_agent(&self, certificate: &[u8]) -> Option<Vec<u8>> {
        let mut out = Take(certificate).string().to_vec();
        out = string(&out);
        out.put_string(certificate);
        match self {
            Key::Plain(pem) => {
                let key = plain(pem);
                if let Some(pair) = key.key_data().ed25519() {
                    out.put_string(pair.public.as_ref());
                    out.put_string(&pair.to_bytes());
                } else {
                    out.put_mpint(ecdsa_scalar(key.key_data().ecdsa().unwrap()));
                }
            }
            Key::Rsa(rsa) => rsa.agent_numbers()?.iter().for_each(|number| out.put_mpint(&number.to_bytes_be())),
            Key::Fido { .. } => return None,
        }
        out.put_string(b"parity");
        Some(out)
    }
}

/// `type base64 comment`.
pub fn line(type_name: &str, blob: &[u8]) -> String {
    format!("{type_name} {} parity", Base64::encode_string(blob))
}

fn plain(pem: &str) -> ssh_key::PrivateKey {
    ssh_key::PrivateKey::from_openssh(pem).unwrap()
}

fn plain_fields(pem: &str) -> Vec<u8> {
    let blob = plain(pem).public_key().to_bytes().unwrap();
    let mut rest = Take(&blob);
    rest.string();
    rest.0.to_vec()
}

fn ecdsa_scalar(pair: &EcdsaKeypair) -> &[u8] {
    pair.private_key_bytes()
}
