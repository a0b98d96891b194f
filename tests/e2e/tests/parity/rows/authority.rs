//! Whose word it is: the CA key in the certificate.

use crate::certificate::Certificate;
use crate::forge::{CA, OTHER_CA};
use crate::row::{Row, changed, row};
use crate::wire::{Take, string};

const CA_KEY: &str = "malformed certificate: the CA's key";
const SIGNING_KEY: &str = "parse key: invalid certificate signing key";

pub fn rows() -> Vec<Row> {
    vec![
        row("a CA that nobody named", |f| f.case(f.certificate().sign(&f.key(OTHER_CA))))
            .refused("/ca: key not found", "CA … is not trusted"),
        row("the certified key itself", |f| f.case(f.certificate().sign(&f.key("ed25519"))))
            .refused("/ca: key not found", "CA … is not trusted"),
        row("the certified key itself, which is trusted", |f| {
            let key = f.key("ed25519");
            f.case(f.certificate().sign(&key)).ca_file(key.line())
        })
        .accepted(),
        row("the CA's own key is certified", |f| {
            let ca = f.key(CA);
            let mut case = f.case(Certificate::of(&ca).sign(&ca));
            case.key = ca;
            case
        })
        .accepted(),
        row("a certificate of the CA", |f| {
            let ca = f.ca();
            let of_ca = Certificate::of(&ca).sign(&ca);
            f.case(f.certificate().sign_with(&of_ca, |body| ca.sign(body)))
        })
        .refused(SIGNING_KEY, "malformed certificate: its CA is itself a certificate"),
        row("a certificate of a CA that is trusted", |f| {
            let (ca, other) = (f.ca(), f.key(OTHER_CA));
            let of_other = Certificate::of(&other).sign(&ca);
            f.case(f.certificate().sign_with(&of_other, |body| other.sign(body)))
        })
        .refused(SIGNING_KEY, "malformed certificate: its CA is itself a certificate"),
        row("certificates nested 50 deep", |f| {
            let ca = f.ca();
            let nested = (0..50).fold(ca.blob(), |inner, _| f.certificate().sign_with(&inner, |body| ca.sign(body)));
            f.case(nested)
        })
        .refused(SIGNING_KEY, "malformed certificate: its CA is itself a certificate"),
        changed("no CA key", |mut c| {
            c.ca = Some(Vec::new());
            c
        })
        .refused(SIGNING_KEY, CA_KEY),
        row("a CA key with a byte behind it", |f| {
            let mut certificate = f.certificate();
            certificate.ca = Some([f.ca().blob(), vec![0]].concat());
            f.issue(&certificate)
        })
        .refused(SIGNING_KEY, CA_KEY),
        row("a torn CA key", |f| {
            let mut certificate = f.certificate();
            let blob = f.ca().blob();
            certificate.ca = Some(blob[..blob.len() - 1].to_vec());
            f.issue(&certificate)
        })
        .refused(SIGNING_KEY, CA_KEY),
        row("a CA key of an unknown type", |f| {
            let mut certificate = f.certificate();
            let blob = f.ca().blob();
            let mut rest = Take(&blob);
            rest.string();
            certificate.ca = Some([string(b"ssh-ed448"), rest.0.to_vec()].concat());
            f.issue(&certificate)
        })
        .refused(SIGNING_KEY, CA_KEY),
        row("the trusted CA's key in it, signed by another", |f| {
            f.case(f.certificate().sign_with(&f.ca().blob(), |body| f.key(OTHER_CA).sign(body)))
        })
        .refused("parse key: incorrect signature", "CA signature: bad signature"),
    ]
}
