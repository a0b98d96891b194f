#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use ssh_key::{HashAlg, SshSig};

use super::*;
use crate::keys::PrivateKey;
use crate::test_agents::{NOW, SoftFido, new_key};

fn context(purpose: Purpose) -> LoginContext {
    LoginContext { ca: "SHA256:abc".into(), connection: 7, user: "alice".into(), purpose, now: NOW }
}

fn challenge(key: &PublicKey, purpose: Purpose) -> LoginChallenge {
    LoginChallenge::new(key.clone(), &context(purpose)).unwrap()
}

fn signed(key: &PrivateKey, challenge: &LoginChallenge, purpose: Purpose) -> Vec<u8> {
    key.sign(&signed_data(challenge.message(), &key.public_key(), purpose).unwrap()).unwrap()
}

#[test]
fn the_message_is_laid_out_as_documented() {
    let key = new_key().public_key();
    let challenge = challenge(&key, Purpose::ClientKey);
    let mut reader = Reader::new(challenge.message());
    assert_eq!(reader.byte(), Ok(1));
    assert_eq!(reader.string().unwrap().len(), 32);
    assert_eq!(reader.string(), Ok(&b"SHA256:abc"[..]));
    assert_eq!(reader.u64(), Ok(7));
    assert_eq!(reader.string(), Ok(&b"alice"[..]));
    assert_eq!(reader.string(), Ok(&b"client-key"[..]));
    assert_eq!(reader.string(), Ok(&sha256(key.blob())[..]));
    assert_eq!(reader.u64(), Ok(NOW.0));
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn what_is_signed_is_what_ssh_keygen_would_sign() {
    let key = new_key();
    let challenge = challenge(&key.public_key(), Purpose::Login);
    let ours = signed_data(challenge.message(), &key.public_key(), Purpose::Login).unwrap();
    let theirs = SshSig::signed_data("login@ussh", HashAlg::Sha512, challenge.message()).unwrap();
    assert_eq!(ours, theirs);
    let proof = challenge.check(&key.sign(&ours).unwrap()).unwrap();
    assert_eq!((proof.key(), proof.purpose()), (&key.public_key(), Purpose::Login));
}

#[test]
fn no_two_questions_are_alike_and_an_answer_fits_one() {
    let key = new_key();
    let (one, other) = (challenge(&key.public_key(), Purpose::Login), challenge(&key.public_key(), Purpose::Login));
    assert_ne!(one.message(), other.message());
    let answer = signed(&key, &one, Purpose::Login);
    assert_eq!(other.check(&answer).unwrap_err(), KeyError::BadSignature);
    assert!(one.check(&answer).is_ok());
}

#[test]
fn another_keys_signature_and_another_namespaces_are_none() {
    let (key, other) = (new_key(), new_key());
    let one = challenge(&key.public_key(), Purpose::Login);
    let data = signed_data(one.message(), &key.public_key(), Purpose::Login).unwrap();
    assert_eq!(one.check(&other.sign(&data).unwrap()).unwrap_err(), KeyError::BadSignature);
    for namespace in ["pam-ussh@ussh", "file", "login@ussh "] {
        let one = challenge(&key.public_key(), Purpose::Login);
        let signature = key.sign(&sshsig::signed_data(namespace, one.message())).unwrap();
        assert_eq!(one.check(&signature).unwrap_err(), KeyError::BadSignature, "{namespace}");
    }
}

#[test]
fn a_fido_key_must_be_touched() {
    let fido = SoftFido::new();
    let answer = |flags| {
        let one = challenge(&fido.public_key(), Purpose::Login);
        let data = signed_data(one.message(), &fido.public_key(), Purpose::Login).unwrap();
        one.check(&fido.sign(&data, flags))
    };
    assert!(answer(1).is_ok());
    assert_eq!(answer(0).unwrap_err(), KeyError::NoUserPresence);
}

#[test]
fn nothing_else_is_given_to_an_agent_to_sign() {
    let key = new_key().public_key();
    let message = challenge(&key, Purpose::Login).message().to_vec();
    assert!(signed_data(&message, &key, Purpose::Login).is_some());
    assert!(signed_data(&message, &key, Purpose::ClientKey).is_none(), "another purpose");
    assert!(signed_data(&message, &new_key().public_key(), Purpose::Login).is_none(), "another key");
    let longer = [message.as_slice(), b"x"].concat();
    assert!(signed_data(&longer, &key, Purpose::Login).is_none(), "bytes behind it");
    assert!(signed_data(&message[..message.len() - 1], &key, Purpose::Login).is_none(), "cut short");
    let other_version = [&[2], &message[1..]].concat();
    assert!(signed_data(&other_version, &key, Purpose::Login).is_none(), "another version");
    assert!(signed_data(b"SSHSIG", &key, Purpose::Login).is_none());
}
