//! Agents that sign, and sign wrongly: another thing, by another key, in another way, at another time.

use std::sync::Mutex;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P521_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use num_bigint::BigUint;

use super::Expected::{Accepted, Refused};
use super::{Case, case};
use crate::agent::SIGN_RESPONSE;
use crate::keys::Key;
use crate::kit::{CA, OTHER_KEY, USER_KEY};
use crate::script::{Agent, Identity, message, sshsig};
use crate::wire::{Put, Take, string, strings};

const BAD: &str = "challenge: bad signature";

/// A good identity for the key of this name, and what `sign` makes of the data instead of its signature.
fn signs(
    name: &'static str,
    key_name: &'static str,
    why: &'static str,
    sign: impl Fn(&Key, &[u8]) -> Vec<u8> + Copy + Send + Sync + 'static,
) -> Case {
    case(name, Refused(why), move |kit| {
        let key = kit.key(key_name);
        Agent::with(vec![Identity::with_key(kit, key_name)])
            .at_signing(move |talk, ask| talk.answer(&message(SIGN_RESPONSE, &[&sign(&key, &ask.data())])))
    })
}

/// The good signature, in other bytes.
fn changed(
    name: &'static str,
    why: &'static str,
    change: impl Fn(Vec<u8>) -> Vec<u8> + Copy + Send + Sync + 'static,
) -> Case {
    signs(name, USER_KEY, why, move |key, data| change(key.sign(data)))
}

/// A good identity, and the signature of another of the kit's keys.
fn by(name: &'static str, other: &'static str, why: &'static str) -> Case {
    case(name, Refused(why), move |kit| {
        let key = kit.key(other);
        Agent::good(kit).at_signing(move |talk, ask| talk.answer(&message(SIGN_RESPONSE, &[&key.sign(&ask.data())])))
    })
}

/// Two accepted logins would be alike in it but for the nonce and the time.
fn replayed(name: &'static str, in_clear: bool) -> Case {
    case(name, Refused(BAD), move |kit| {
        let kept: [Mutex<Option<Vec<u8>>>; 2] = Default::default();
        let [signed, answered] = kept;
        let replay = |kept: &Mutex<Option<Vec<u8>>>, honest: &[u8]| {
            kept.lock().unwrap().get_or_insert_with(|| honest.to_vec()).clone()
        };
        let comment = if in_clear { "x challenge@ussh" } else { "x" };
        Agent::with(vec![Identity::good(kit).comment(comment)])
            .at_signing(move |talk, ask| talk.answer(&replay(&signed, &ask.honest)))
            .at_challenge(move |talk, ask| talk.answer(&replay(&answered, &ask.honest)))
    })
    .rehearsed()
}

/// An Ed25519 signature with the order of the group added to its second half: verifies where S is not held below it (RFC 8032 §5.1.7).
fn with_greater_s(signature: Vec<u8>) -> Vec<u8> {
    let order =
        BigUint::from(2_u32).pow(252) + BigUint::parse_bytes(b"27742317777372353535851937790883648493", 10).unwrap();
    let at = signature.len() - 32;
    let greater = BigUint::from_bytes_le(&signature[at..]) + order;
    let mut bytes = greater.to_bytes_le();
    bytes.resize(32, 0);
    [&signature[..at], &bytes].concat()
}

/// By an ECDSA key on P-521, whose hash is SHA-512 (RFC 5656 §6.2.1), with SHA-256.
fn with_another_hash(key: &Key, data: &[u8]) -> Vec<u8> {
    let Key::Plain(pem) = key else { panic!("{key:?}") };
    let private = ssh_key::PrivateKey::from_openssh(pem).unwrap();
    let scalar = private.key_data().ecdsa().unwrap().private_key_bytes().to_vec();
    let fields = key.fields();
    let mut take = Take(&fields);
    take.string();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P521_SHA256_FIXED_SIGNING, &scalar, take.string())
        .unwrap();
    let signed = pair.sign(&SystemRandom::new(), data).unwrap();
    let (r, s) = signed.as_ref().split_at(66);
    let mut numbers = Vec::new();
    numbers.put_mpint(r);
    numbers.put_mpint(s);
    strings(&[b"ecdsa-sha2-nistp521", &numbers])
}

/// The data under another algorithm's name.
fn named(name: &str, signature: &[u8]) -> Vec<u8> {
    let mut take = Take(signature);
    take.string();
    [&string(name.as_bytes()), take.0].concat()
}

pub fn cases() -> Vec<Case> {
    vec![
        changed("a signature with one bit changed", BAD, |mut signature| {
            let last = signature.len() - 1;
            signature[last] ^= 1;
            signature
        }),
        changed("a signature whose S is not the least", BAD, with_greater_s),
        changed("a signature of zeros", BAD, |signature| [&signature[..signature.len() - 64], &[0; 64]].concat()),
        by("another key's signature", OTHER_KEY, BAD),
        by("the CA's signature", CA, BAD),
        by(
            "an ECDSA key's signature for an Ed25519 one",
            "ecdsa-256",
            "challenge: signature algorithm ecdsa-sha2-nistp256 is not allowed",
        ),
        signs("RSA with SHA-1", "rsa", "challenge: signature algorithm ssh-rsa is not allowed", |key, data| {
            key.sign_by("ssh-rsa", data)
        }),
        signs("RSA with SHA-1 under the name of SHA-512", "rsa", BAD, |key, data| {
            named("rsa-sha2-512", &key.sign_by("ssh-rsa", data))
        }),
        case("RSA with SHA-256 where SHA-512 was asked for", Accepted, |kit| {
            let key = kit.key("rsa");
            Agent::with(vec![Identity::with_key(kit, "rsa")]).at_signing(move |talk, ask| {
                talk.answer(&message(SIGN_RESPONSE, &[&key.sign_by("rsa-sha2-256", &ask.data())]))
            })
        }),
        signs("ECDSA with another hash", "ecdsa-521", BAD, with_another_hash),
        case("ECDSA with its own hash", Accepted, |kit| Agent::with(vec![Identity::with_key(kit, "ecdsa-521")])),
        signs(
            "ECDSA under another curve's name",
            "ecdsa-256",
            "challenge: signature algorithm ecdsa-sha2-nistp384 is not allowed",
            |key, data| named("ecdsa-sha2-nistp384", &key.sign(data)),
        ),
        signs("a signature over other data", USER_KEY, BAD, |key, data| key.sign(&[data, b"x"].concat())),
        signs("a signature over an empty message", USER_KEY, BAD, |key, _| key.sign(b"")),
        signs("a signature over an SSHSIG of an empty message", USER_KEY, BAD, |key, _| key.sign(&sshsig(b""))),
        signs("a signature in another namespace", USER_KEY, BAD, |key, data| {
            let other = b"pam-ussh@evil";
            let at = data.windows(other.len()).position(|window| window == b"pam-ussh@ussh").unwrap();
            key.sign(&[&data[..at], other, &data[at + other.len()..]].concat())
        }),
        replayed("a signature of an earlier attempt, which was accepted", false),
        replayed("the answer to an earlier challenge, which was accepted", true),
        changed("an empty signature", BAD, |_| Vec::new()),
        changed("a signature that is a name only", BAD, |_| string(b"ssh-ed25519")),
        changed("a signature with a name of the length u32::MAX", BAD, |signature| {
            [&[255; 4], &signature[4..]].concat()
        }),
        changed("a signature with data of the length u32::MAX", BAD, |signature| {
            [&signature[..15], &[255; 4], &signature[19..]].concat()
        }),
        changed("a signature with a byte behind it", BAD, |signature| [&signature[..], &[0]].concat()),
        changed("a signature with a FIDO key's flags behind it", BAD, |signature| {
            [&signature[..], &[1, 0, 0, 0, 9]].concat()
        }),
        changed("a signature of 63 bytes", BAD, |signature| strings(&[b"ssh-ed25519", &signature[19..19 + 63]])),
        changed("a signature of 65 bytes", BAD, |signature| {
            strings(&[b"ssh-ed25519", &[&signature[19..], &[0]].concat()])
        }),
        changed("a signature of 200,000 bytes", BAD, |_| strings(&[b"ssh-ed25519", &[1; 200_000]])),
        changed(
            "a signature whose name is for a terminal",
            "challenge: signature algorithm \\x1b[2J\\x0aAccepted\\x20certificate is not allowed",
            |signature| named("\u{1b}[2J\nAccepted certificate", &signature),
        ),
        changed("a signature whose name has 200,000 bytes", "challenge: signature algorithm *", |signature| {
            named(&"x".repeat(200_000), &signature)
        }),
    ]
}
