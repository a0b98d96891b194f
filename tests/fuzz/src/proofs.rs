//! The proof that a key is there: the signer's message, as a front hands it to an agent, and the signature that comes back.

use std::sync::OnceLock;

use ussh_core::clock::UnixTime;
use ussh_core::keys::PrivateKey;
use ussh_core::login_proof::{LoginChallenge, LoginContext, NAMESPACE, Purpose, signed_data};

use crate::fixtures;

const PURPOSES: [Purpose; 2] = [Purpose::Login, Purpose::ClientKey];

/// Keys that can sign: Ed25519 and ECDSA.
fn signers() -> &'static [PrivateKey; 2] {
    static VALUE: OnceLock<[PrivateKey; 2]> = OnceLock::new();
    VALUE.get_or_init(|| [PrivateKey::ed25519_from_seed(&[9; 32]).unwrap(), PrivateKey::generate_ecdsa_p256().unwrap()])
}

/// Nothing but the key's own signature over the message of this moment is taken, whatever stands in message and signature; and no agent signs for a front what is no such message.
pub fn login_proof(data: &[u8]) {
    as_message(data);
    let Some((first, rest)) = data.split_first() else { return };
    let purpose = PURPOSES[usize::from(first & 1)];
    as_signature(rest, purpose);
    changed(rest, &signers()[usize::from(first >> 1 & 1)], purpose);
}

/// As a front, which asks an agent.
fn as_message(data: &[u8]) {
    let mut asked = 0;
    for key in fixtures::keys().iter().chain(&signers().each_ref().map(PrivateKey::public_key)) {
        for purpose in PURPOSES {
            let Some(bytes) = signed_data(data, key, purpose) else { continue };
            asked += 1;
            assert!(data.len() <= 1024 && data.first() == Some(&1), "no message of the signer's: {data:?}");
            let mut start = b"SSHSIG".to_vec();
            start.extend((NAMESPACE.len() as u32).to_be_bytes());
            start.extend(NAMESPACE.as_bytes());
            assert!(bytes.starts_with(&start) && bytes.len() < 128, "it could be taken for something else: {bytes:?}");
        }
    }
    assert!(asked <= 1, "one message for several keys or purposes");
}

/// As the signer, which made its message after the signature.
fn as_signature(data: &[u8], purpose: Purpose) {
    for key in fixtures::keys() {
        let challenge = LoginChallenge::new(key.clone(), &context("alice", purpose)).unwrap();
        assert!(challenge.check(data).is_err(), "a signature of before is taken");
    }
}

/// A user of any name; the right signature; and that signature with some bytes of it changed, or others behind it.
fn changed(data: &[u8], key: &PrivateKey, purpose: Purpose) {
    let (change, name) = data.split_at(data.len().min(4));
    let name = String::from_utf8_lossy(name);
    let make = || LoginChallenge::new(key.public_key(), &context(&name, purpose)).unwrap();
    let challenge = make();
    let other = if purpose == Purpose::Login { Purpose::ClientKey } else { Purpose::Login };
    assert!(signed_data(challenge.message(), &key.public_key(), other).is_none());
    let Some(bytes) = signed_data(challenge.message(), &key.public_key(), purpose) else {
        return assert!(name.is_empty() || challenge.message().len() > 1024, "a front asks nobody for {name:?}");
    };
    let right = key.sign(&bytes).unwrap();
    assert!(make().check(&right).is_err(), "a signature over another nonce is taken");
    let wrong = match change {
        [at, or, ..] if *or != 0 => {
            let mut wrong = right.clone();
            let at = usize::from(*at) % wrong.len();
            wrong[at] ^= or;
            wrong
        }
        [at, ..] if *at != 0 => right[..right.len() - usize::from(*at) % right.len().min(64)].to_vec(),
        _ => [&right[..], b"x"].concat(),
    };
    let is_right = wrong == right;
    let proof = challenge.check(&wrong);
    assert_eq!(proof.is_ok(), is_right, "{wrong:?} instead of {right:?}");
    if let Ok(proof) = proof {
        assert_eq!((proof.key(), proof.purpose()), (&key.public_key(), purpose));
    }
}

fn context(user: &str, purpose: Purpose) -> LoginContext {
    LoginContext {
        ca: "SHA256:abc".to_owned(),
        connection: 7,
        user: user.to_owned(),
        purpose,
        now: UnixTime(1_800_000_000),
    }
}
