//! Which keys: every type of user key under every type of CA, RSA of odd sizes and exponents, FIDO keys and their flags.

use crate::certificate::Certificate;
use crate::deviations::{RSA_ODD, RSA_SHORT, TOUCH};
use crate::forge::{CA, Forge};
use crate::row::{Case, Row, row};

const CERTIFIED_KEY: &str = "malformed certificate: the certified key";
const NO_CA: &str = "misconfigured: DIR/ca holds no CA key";
const CHALLENGE: &str = "challenge: bad signature";
const UNTOUCHED: &str = "challenge: the key was not touched";

const USER_KEYS: [&str; 7] =
    ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-3072", "sk-ed25519", "sk-ecdsa-256"];
/// Key and, for RSA, the algorithm with which it signs.
const CAS: [(&str, &str); 9] = [
    (CA, ""),
    ("ecdsa-256+ca", ""),
    ("ecdsa-384+ca", ""),
    ("ecdsa-521+ca", ""),
    ("rsa-3072+ca", "rsa-sha2-256"),
    ("rsa-3072+ca", "rsa-sha2-512"),
    ("rsa-3072+ca", "ssh-rsa"),
    ("sk-ed25519+ca", ""),
    ("sk-ecdsa-256+ca", ""),
];

/// By ssh-keygen, unless one of the keys is one that it has not.
fn certified(forge: &Forge, ca: &str, algorithm: &str, key: &str) -> Case {
    let is_by_hand = ca.starts_with("sk-") || key.starts_with("sk-") || key.contains("-e") || ca.contains("-e");
    if !is_by_hand {
        let algorithm = if algorithm.is_empty() { String::new() } else { format!("-t {algorithm} ") };
        return forge.keygen_by(ca, key, &format!("{algorithm}-I alice -n alice -V -5m:+1h -z 7"));
    }
    let (ca, key) = (forge.key(ca), forge.key(key));
    let algorithm = if algorithm.is_empty() { "rsa-sha2-512" } else { algorithm };
    Case::new(Certificate::of(&key).sign_by(algorithm, &ca), key, &ca)
}

pub fn types() -> Vec<Row> {
    let mut rows = Vec::new();
    for key in USER_KEYS {
        for (ca, algorithm) in CAS {
            let by = if algorithm.is_empty() { String::new() } else { format!(" with {algorithm}") };
            let draft = row(
                format!("{key} key, {} CA{by}", ca.trim_end_matches("+ca").replace("ca", "ed25519")),
                move |forge| certified(forge, ca, algorithm, key),
            );
            rows.push(match algorithm {
                "ssh-rsa" => draft.refused(
                    "certificate signature algorithm ssh-rsa: signature algorithm not supported",
                    "CA signature: signature algorithm ssh-rsa is not allowed",
                ),
                _ => draft.accepted(),
            });
        }
    }
    rows
}

pub fn sizes() -> Vec<Row> {
    let key = |name: &'static str| row(format!("key {name}"), move |forge| certified(forge, CA, "", name));
    let ca = |name: &'static str| row(format!("CA {name}"), move |forge| certified(forge, name, "", "ed25519"));
    let beside = |name: &'static str| {
        row(format!("CA {name}, beside a good one in the CA file"), move |forge| {
            let lines = format!("{}\n{}\n", forge.key(name).line(), forge.ca().line());
            certified(forge, name, "", "ed25519").ca_file(lines)
        })
    };
    vec![
        key("rsa-1023-e65537").refused("parse key: Invalid key length", CERTIFIED_KEY),
        key("rsa-1024").stricter(RSA_SHORT, CERTIFIED_KEY),
        key("rsa-2047-e65537").stricter(RSA_SHORT, CERTIFIED_KEY),
        key("rsa-2048").accepted(),
        key("rsa-4096").accepted(),
        key("rsa-8192-e65537").accepted(),
        key("rsa-8200-e65537").stricter_in_sudo(RSA_ODD, CHALLENGE),
        key("rsa-16384-e65537").stricter_in_sudo(RSA_ODD, CHALLENGE),
        key("rsa-16392-e65537").refused("parse key: invalid format", CERTIFIED_KEY),
        key("rsa-2048-e1").stricter_in_sudo(RSA_ODD, CHALLENGE),
        key("rsa-2048-e3").accepted(),
        key("rsa-2048-e17").accepted(),
        key("rsa-2048-e8589934591").accepted(),
        key("rsa-2048-e8589934593").stricter_in_sudo(RSA_ODD, CHALLENGE),
        key("rsa-2048-e340282366920938463463374607431768211507").stricter_in_sudo(RSA_ODD, CHALLENGE),
        key("rsa-4096-e340282366920938463463374607431768211507").refused("Failed publickey for alice", CHALLENGE),
        ca("rsa-1023-e65537").refused("parse key: invalid certificate signing key", NO_CA),
        ca("rsa-1024").stricter(RSA_SHORT, NO_CA),
        ca("rsa-2047-e65537").stricter(RSA_SHORT, NO_CA),
        beside("rsa-1023-e65537")
            .refused("parse key: invalid certificate signing key", "malformed certificate: the CA's key"),
        beside("rsa-1024").stricter(RSA_SHORT, "malformed certificate: the CA's key"),
        ca("rsa-2048").accepted(),
        ca("rsa-4096").accepted(),
        ca("rsa-8192-e65537").accepted(),
        ca("rsa-8200-e65537").stricter(RSA_ODD, "CA signature: bad signature"),
        ca("rsa-16384-e65537").stricter(RSA_ODD, "CA signature: bad signature"),
        ca("rsa-2048-e1").stricter(RSA_ODD, "CA signature: bad signature"),
        ca("rsa-2048-e3").accepted(),
        ca("rsa-2048-e8589934593").stricter(RSA_ODD, "CA signature: bad signature"),
    ]
}

pub fn fido() -> Vec<Row> {
    let mut rows = Vec::new();
    for name in ["sk-ed25519", "sk-ecdsa-256"] {
        let signed = move |flags: u8, change: fn(Certificate) -> Certificate| {
            move |forge: &Forge| {
                let key = forge.with_flags(name, flags);
                Case::new(change(Certificate::of(&key)).sign(&forge.ca()), key, &forge.ca())
            }
        };
        let by_ca = move |flags: u8| {
            move |forge: &Forge| {
                let (key, ca) = (forge.key("ed25519"), forge.with_flags(&format!("{name}+ca"), flags));
                Case::new(Certificate::of(&key).sign(&ca), key, &ca)
            }
        };
        rows.extend([
            row(format!("{name} touched and verified"), signed(5, |c| c)).accepted(),
            row(format!("{name} neither"), signed(0, |c| c)).refused("rejected: user presence", UNTOUCHED),
            row(format!("{name} verified, not touched"), signed(4, |c| c))
                .refused("rejected: user presence", UNTOUCHED),
            row(format!("{name} with a flag that means nothing yet"), signed(0x41, |c| c)).accepted(),
            row(format!("{name}, verify-required, touched only"), signed(1, |c| c.critical(b"verify-required", b"")))
                .refused("rejected: user verification", "challenge: the key did not verify its user"),
            row(format!("{name}, verify-required, verified"), signed(5, |c| c.critical(b"verify-required", b"")))
                .accepted(),
            row(
                format!("{name}, verify-required, verified, not touched"),
                signed(4, |c| c.critical(b"verify-required", b"")),
            )
            .refused("rejected: user presence", UNTOUCHED),
            row(format!("{name}, no-touch-required, touched"), signed(1, |c| c.extension(b"no-touch-required", b"")))
                .accepted(),
            row(
                format!("{name}, no-touch-required, not touched"),
                signed(0, |c| c.extension(b"no-touch-required", b"")),
            )
            .stricter_in_sudo(TOUCH, UNTOUCHED),
            row(format!("{name} CA not touched"), by_ca(0)).stricter(TOUCH, "CA signature: the key was not touched"),
            row(format!("{name} CA verified"), by_ca(5)).accepted(),
        ]);
    }
    rows.push(
        row("sk-ecdsa-256 CA, as WebAuthn signs", |forge| {
            let (key, ca) = (forge.key("ed25519"), forge.key("sk-ecdsa-256+ca"));
            let certificate = Certificate::of(&key);
            Case::new(certificate.sign_with(&ca.blob(), |body| ca.sign_as_webauthn(body)), key, &ca)
        })
        .refused(
            "signature algorithm webauthn-sk-ecdsa-sha2-nistp256@openssh.com: signature algorithm not supported",
            "CA signature: bad signature",
        ),
    );
    rows.push(
        row("ed25519 with verify-required, which is for FIDO keys", |f| {
            f.issue(&f.certificate().critical(b"verify-required", b""))
        })
        .accepted(),
    );
    rows
}
