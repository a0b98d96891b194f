//! The CA's signature.

use crate::certificate::Certificate;
use crate::forge::{CA, Forge, OTHER_CA};
use crate::keys::Key;
use crate::row::{Case, Draft, Row, row};
use crate::wire::{Take, string};

const FORMAT: &str = "parse key: invalid format";
const SIGNATURE: &str = "parse key: incorrect signature";

/// The certificate with this CA's signature changed.
fn resigned(name: &'static str, ca: &'static str, change: impl Fn(Parts) -> Vec<u8> + 'static) -> Draft {
    row(name, move |forge: &Forge| {
        let (ca, key) = (forge.key(ca), forge.key("ed25519"));
        let certificate = Certificate::of(&key);
        Case::new(certificate.sign_with(&ca.blob(), |body| change(Parts::of(&ca, body))), key, &ca)
    })
}

/// A signature's algorithm and data, and what stands behind them.
struct Parts {
    name: Vec<u8>,
    data: Vec<u8>,
    tail: Vec<u8>,
}

impl Parts {
    fn of(ca: &Key, body: &[u8]) -> Self {
        let signature = ca.sign(body);
        let mut take = Take(&signature);
        Parts { name: take.string().to_vec(), data: take.string().to_vec(), tail: take.0.to_vec() }
    }

    fn whole(self) -> Vec<u8> {
        [string(&self.name), string(&self.data), self.tail].concat()
    }
}

const RSA: &str = "rsa-3072+ca";
const ECDSA: &str = "ecdsa-256+ca";

pub fn rows() -> Vec<Row> {
    let bad = "CA signature: bad signature";
    vec![
        row("of another certificate", |f| {
            let other = f.certificate().principals(&[b"bob"]);
            let ca = f.ca();
            f.case(f.certificate().sign_with(&ca.blob(), |_| ca.sign(&other.body(&ca.blob()))))
        })
        .refused(SIGNATURE, bad),
        row("principal changed after signing", |f| {
            alter(f, &f.certificate().principals(&[b"alicf"]), b"alicf", b"alice")
        })
        .refused(SIGNATURE, bad),
        row("key ID changed after signing", |f| {
            let mut certificate = f.certificate();
            certificate.key_id = b"trustworthy".to_vec();
            alter(f, &certificate, b"trustworthy", b"trustworthz")
        })
        .refused(SIGNATURE, bad),
        row("another user's key put in after signing", |f| {
            let (mine, other) = (f.key("ed25519").fields(), f.key("ed25519+other"));
            let mut case = alter(f, &f.certificate(), &mine, &other.fields());
            case.key = other;
            case
        })
        .refused(SIGNATURE, bad),
        resigned("empty", CA, |_| Vec::new()).refused("parse key: invalid argument", bad),
        resigned("a name alone", CA, |parts| string(&parts.name)).refused("parse key: incomplete message", bad),
        resigned("of no bytes", CA, |parts| [string(&parts.name), string(b"")].concat()).refused(SIGNATURE, bad),
        resigned("of zeros", CA, |parts| [string(&parts.name), string(&[0; 64])].concat()).refused(SIGNATURE, bad),
        resigned("one byte short", CA, |mut parts| {
            parts.data.pop();
            parts.whole()
        })
        .refused(SIGNATURE, bad),
        resigned("one bit changed", CA, |mut parts| {
            parts.data[10] ^= 1;
            parts.whole()
        })
        .refused(SIGNATURE, bad),
        resigned("a byte behind it", CA, |parts| [parts.whole(), vec![0]].concat())
            .refused("parse key: unexpected bytes remain after decoding", bad),
        resigned("five bytes behind it, as of a FIDO key", CA, |parts| [parts.whole(), vec![1, 0, 0, 0, 9]].concat())
            .refused("parse key: unexpected bytes remain after decoding", bad),
        resigned("Ed25519 data under the name of RSA", CA, |mut parts| {
            parts.name = b"rsa-sha2-512".to_vec();
            parts.whole()
        })
        .refused("parse key: key type does not match", "CA signature: signature algorithm rsa-sha2-512 is not allowed"),
        resigned("a certificate's name on it", CA, |mut parts| {
            parts.name = b"ssh-ed25519-cert-v01@openssh.com".to_vec();
            parts.whole()
        })
        .refused(
            "parse key: key type does not match",
            "CA signature: signature algorithm ssh-ed25519-cert-v01@openssh.com is not allowed",
        ),
        resigned("a FIDO key's name on it", CA, |mut parts| {
            parts.name = b"sk-ssh-ed25519@openssh.com".to_vec();
            parts.whole()
        })
        .refused(
            "parse key: key type does not match",
            "CA signature: signature algorithm sk-ssh-ed25519@openssh.com is not allowed",
        ),
        resigned("RSA: SHA-512 data under the name of SHA-256", RSA, |mut parts| {
            parts.name = b"rsa-sha2-256".to_vec();
            parts.whole()
        })
        .refused_in_words(FORMAT, SIGNATURE, bad),
        resigned("RSA: SHA-512 data under the name of SHA-1", RSA, |mut parts| {
            parts.name = b"ssh-rsa".to_vec();
            parts.whole()
        })
        .refused_in_words(FORMAT, SIGNATURE, "CA signature: signature algorithm ssh-rsa is not allowed"),
        resigned("RSA: a certificate's name on it", RSA, |mut parts| {
            parts.name = b"rsa-sha2-512-cert-v01@openssh.com".to_vec();
            parts.whole()
        })
        .refused(
            "parse key: key type does not match",
            "CA signature: signature algorithm rsa-sha2-512-cert-v01@openssh.com is not allowed",
        ),
        resigned("RSA: a zero byte in front", RSA, |mut parts| {
            parts.data.insert(0, 0);
            parts.whole()
        })
        .refused("parse key: key bits do not match", bad),
        row("RSA: shorter than the modulus, its zeros left out", |f| {
            // A serial for which the signature begins with a zero byte: one in 256.
            let (ca, key) = (f.key("rsa-2048+ca"), f.key("ed25519"));
            let mut certificate = Certificate::of(&key);
            let parts = (0..).find_map(|serial| {
                certificate.serial = serial;
                let parts = Parts::of(&ca, &certificate.body(&ca.blob()));
                (parts.data[0] == 0).then_some(parts)
            });
            let mut parts = parts.unwrap();
            parts.data.remove(0);
            let signature = parts.whole();
            Case::new(certificate.sign_with(&ca.blob(), |_| signature.clone()), key, &ca)
        })
        .accepted(),
        resigned("ECDSA: zeros in front of r and s", ECDSA, |parts| {
            let mut take = Take(&parts.data);
            let zero = |number: &[u8]| string(&[&[0, 0][..], number].concat());
            let data = [zero(take.string()), zero(take.string())].concat();
            [string(&parts.name), string(&data)].concat()
        })
        .accepted(),
        resigned("ECDSA: a byte behind r and s", ECDSA, |parts| {
            [string(&parts.name), string(&[parts.data, vec![0]].concat())].concat()
        })
        .refused("parse key: unexpected bytes remain after decoding", bad),
        resigned("ECDSA: r and s are zero", ECDSA, |parts| {
            [string(&parts.name), string(&[string(b""), string(b"")].concat())].concat()
        })
        .refused(SIGNATURE, bad),
        resigned("ECDSA: another curve's name", ECDSA, |mut parts| {
            parts.name = b"ecdsa-sha2-nistp384".to_vec();
            parts.whole()
        })
        .refused(
            "parse key: key type does not match",
            "CA signature: signature algorithm ecdsa-sha2-nistp384 is not allowed",
        ),
        resigned("FIDO: no flags and counter", "sk-ed25519+ca", |mut parts| {
            parts.tail.clear();
            parts.whole()
        })
        .refused(FORMAT, bad),
        resigned("FIDO: the flags say more than was signed", "sk-ed25519+ca", |mut parts| {
            parts.tail[0] |= 4;
            parts.whole()
        })
        .refused(SIGNATURE, bad),
        resigned("FIDO: another counter than was signed", "sk-ecdsa-256+ca", |mut parts| {
            parts.tail[4] ^= 1;
            parts.whole()
        })
        .refused(SIGNATURE, bad),
        row("possession: another key signs the login", |f| {
            let mut case = f.good();
            case.key = f.key("ed25519+other");
            case
        })
        .refused("Failed publickey for alice", "challenge: bad signature"),
        row("possession: the CA signs the login", |f| {
            let mut case = f.good();
            case.key = f.key(OTHER_CA);
            case
        })
        .refused("Failed publickey for alice", "challenge: bad signature"),
    ]
}

/// A certificate in which the last place where `from` stands was changed after it was signed.
fn alter(forge: &Forge, certificate: &Certificate, from: &[u8], to: &[u8]) -> Case {
    let mut blob = certificate.sign(&forge.ca());
    let at = blob.windows(from.len()).rposition(|window| window == from).unwrap();
    blob.splice(at..at + from.len(), to.iter().copied());
    forge.case(blob)
}
