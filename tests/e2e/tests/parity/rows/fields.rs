//! The other fields, and how the certificate is laid out.

use crate::certificate::Certificate;
use crate::deviations::{NUL, RSA_ZEROS};
use crate::forge::Forge;
use crate::row::{Case, Row, Verdict, changed, keygen, row};
use crate::wire::{Take, string};

const FORMAT: &str = "parse key: invalid format";
const TRUNCATED: &str = "malformed certificate: truncated";
const CERTIFIED_KEY: &str = "malformed certificate: the certified key";

fn with(name: &'static str, change: impl Fn(&mut Certificate) + 'static) -> crate::row::Draft {
    changed(name, move |mut certificate| {
        change(&mut certificate);
        certificate
    })
}

pub fn rows() -> Vec<Row> {
    vec![
        keygen("serial 0", "-I alice -n alice -V -5m:+1h -z 0").accepted(),
        keygen("serial 2^64-1", "-I alice -n alice -V -5m:+1h -z 18446744073709551615").accepted(),
        with("key ID empty", |c| c.key_id = Vec::new()).accepted(),
        with("key ID with a NUL inside", |c| c.key_id = b"ali\0ce".to_vec())
            .refused(FORMAT, "malformed certificate: NUL in a name"),
        with("key ID with a NUL at its end", |c| c.key_id = b"alice\0".to_vec())
            .stricter(NUL, "malformed certificate: NUL in a name"),
        with("key ID with a newline", |c| c.key_id = b"alice\nsshd[1]: Accepted publickey for root".to_vec())
            .accepted(),
        with("key ID with quotes and a serial", |c| c.key_id = b"root\" (serial 1) \"".to_vec()).accepted(),
        with("key ID that is no UTF-8", |c| c.key_id = vec![0xff, 0xfe, 0x1b]).accepted(),
        with("key ID of 100 kB", |c| c.key_id = vec![b'x'; 100_000]).accepted(),
        with("reserved field with data", |c| c.reserved = b"for later".to_vec()).accepted(),
        with("reserved field of 10 kB", |c| c.reserved = vec![0; 10_000]).accepted(),
        with("no nonce", |c| c.nonce = Vec::new()).accepted(),
        with("nonce of 1 byte", |c| c.nonce = vec![0]).accepted(),
        with("nonce of 10 kB", |c| c.nonce = vec![0; 10_000]).accepted(),
    ]
}

/// What becomes of the good certificate's bytes after it was signed.
fn spoilt(name: &'static str, spoil: impl Fn(Vec<u8>) -> Vec<u8> + 'static) -> crate::row::Draft {
    row(name, move |forge: &Forge| {
        let good = forge.certificate().sign(&forge.ca());
        forge.case(spoil(good))
    })
}

pub fn layout() -> Vec<Row> {
    vec![
        spoilt("as it was made", |good| good).accepted(),
        spoilt("one byte behind it", |good| [good, vec![0]].concat())
            .refused(FORMAT, "malformed certificate: trailing bytes"),
        spoilt("itself behind it", |good| [good.clone(), good].concat())
            .refused(FORMAT, "malformed certificate: trailing bytes"),
        spoilt("one byte short", |good| good[..good.len() - 1].to_vec()).refused(FORMAT, TRUNCATED),
        spoilt("cut off before the signature", |good| good[..good.len() - 87].to_vec()).refused(FORMAT, TRUNCATED),
        spoilt("cut in half", |good| good[..good.len() / 2].to_vec()).refused(FORMAT, TRUNCATED),
        spoilt("its type's name alone", |good| string(Take(&good).string())).refused(FORMAT, TRUNCATED),
        spoilt("a length beyond its end", |mut good| {
            let at = 4 + Take(&good).string().len();
            good[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
            good
        })
        .refused(FORMAT, TRUNCATED),
        with("an unknown type's name", |c| c.type_name = b"ssh-ed448-cert-v01@openssh.com".to_vec())
            .refused("unsupported public key algorithm: ssh-ed448-cert-v01@openssh.com", "not a certificate"),
        with("ssh-dss-cert-v01@openssh.com", |c| c.type_name = b"ssh-dss-cert-v01@openssh.com".to_vec())
            .refused_in_words(
                FORMAT,
                "unsupported public key algorithm: ssh-dss-cert-v01@openssh.com",
                "not a certificate",
            ),
        with("version 00", |c| c.type_name = b"ssh-ed25519-cert-v00@openssh.com".to_vec())
            .refused("unsupported public key algorithm: ssh-ed25519-cert-v00@openssh.com", "no certificate"),
        with("a NUL behind the type's name", |c| c.type_name = b"ssh-ed25519-cert-v01@openssh.com\0".to_vec())
            .stricter(NUL, "no certificate")
            .within_sshd(Verdict::Refused("not a certificate")),
        // What sshd says of a curve's name depends on whether a NUL stands in it, as in one random key of eight.
        with("another type's name", |c| {
            c.type_name = b"ecdsa-sha2-nistp256-cert-v01@openssh.com".to_vec();
            c.key_fields = string(&[1; 32]);
        })
        .refused("parse key: elliptic curve does not match", CERTIFIED_KEY),
        with("another type's name, a NUL in the key", |c| {
            c.type_name = b"ecdsa-sha2-nistp256-cert-v01@openssh.com".to_vec();
            c.key_fields = string(&[0; 32]);
        })
        .refused(FORMAT, CERTIFIED_KEY),
        with("an Ed25519 key of 31 bytes", |c| c.key_fields = string(&[1; 31])).refused(FORMAT, CERTIFIED_KEY),
        with("an Ed25519 key of 33 bytes", |c| {
            let mut longer = Take(&c.key_fields).string().to_vec();
            longer.push(0);
            c.key_fields = string(&longer);
        })
        .refused(FORMAT, CERTIFIED_KEY),
        row("curve nistp384 in a nistp256 key", |f| {
            ecdsa(f, |fields| [string(b"nistp384"), string(&fields[1])].concat())
        })
        .refused("parse key: elliptic curve does not match", CERTIFIED_KEY),
        row("a nistp384 point in a nistp256 key", |f| {
            let other = f.key("ecdsa-384").fields();
            let mut other = Take(&other);
            other.string();
            let point = other.string().to_vec();
            ecdsa(f, move |fields| [string(&fields[0]), string(&point)].concat())
        })
        .refused(FORMAT, CERTIFIED_KEY),
        row("a compressed point", |f| {
            ecdsa(f, |fields| {
                let point = &fields[1];
                let sign = 2 + (point[64] & 1);
                [string(&fields[0]), string(&[&[sign][..], &point[1..33]].concat())].concat()
            })
        })
        .refused(FORMAT, CERTIFIED_KEY),
        row("a hybrid point", |f| {
            ecdsa(f, |fields| {
                let mut point = fields[1].clone();
                point[0] = 6 + (point[64] & 1);
                [string(&fields[0]), string(&point)].concat()
            })
        })
        .refused(FORMAT, CERTIFIED_KEY),
        row("a point that is not on the curve", |f| {
            ecdsa(f, |fields| {
                let mut point = fields[1].clone();
                point[64] ^= 1;
                [string(&fields[0]), string(&point)].concat()
            })
        })
        .refused(FORMAT, "challenge: bad signature"),
        row("the point at infinity", |f| ecdsa(f, |fields| [string(&fields[0]), string(&[0])].concat()))
            .refused(FORMAT, CERTIFIED_KEY),
        row("an RSA modulus with a zero in front", |f| {
            rsa(f, |e, n| [string(&e), string(&[vec![0], n].concat())].concat())
        })
        .stricter(RSA_ZEROS, CERTIFIED_KEY),
        row("a negative RSA modulus", |f| rsa(f, |e, n| [string(&e), string(&n[1..])].concat()))
            .refused(FORMAT, CERTIFIED_KEY),
        row("an RSA exponent of 0", |f| rsa(f, |_, n| [string(b""), string(&n)].concat()))
            .refused("Failed publickey for alice", CERTIFIED_KEY),
        row("an even RSA modulus", |f| {
            rsa(f, |e, mut n| {
                *n.last_mut().unwrap() &= 0xfe;
                [string(&e), string(&n)].concat()
            })
        })
        .refused("Failed publickey for alice", "challenge: bad signature"),
    ]
}

/// A certificate for the ECDSA P-256 key whose fields (curve, point) are changed.
fn ecdsa(forge: &Forge, change: impl Fn([Vec<u8>; 2]) -> Vec<u8>) -> Case {
    let key = forge.key("ecdsa-256");
    let fields = key.fields();
    let mut take = Take(&fields);
    let parts = [take.string().to_vec(), take.string().to_vec()];
    let mut certificate = Certificate::of(&key);
    certificate.key_fields = change(parts);
    Case::new(certificate.sign(&forge.ca()), key, &forge.ca())
}

/// A certificate for the RSA key whose numbers (e, n) are spelled otherwise.
fn rsa(forge: &Forge, change: impl Fn(Vec<u8>, Vec<u8>) -> Vec<u8>) -> Case {
    let key = forge.key("rsa-3072");
    let fields = key.fields();
    let mut take = Take(&fields);
    let (e, n) = (take.string().to_vec(), take.string().to_vec());
    let mut certificate = Certificate::of(&key);
    certificate.key_fields = change(e, n);
    Case::new(certificate.sign(&forge.ca()), key, &forge.ca())
}
