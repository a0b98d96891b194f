#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use sha2::{Digest, Sha512};
use ssh_key::{HashAlg, LineEnding, SshSig};

use super::*;
use crate::agent::{Constraints, RSA_SHA2_512};
use crate::certificate::CertificateOption;
use crate::keys::PrivateKey;
use crate::test_agents::{NOW, RealAgent, SoftFido, context, new_key, template, verified};

fn certified(key: &PrivateKey) -> VerifiedCertificate {
    verified(&template(&key.public_key()).sign(&new_key()).unwrap())
}

fn pair() -> (PrivateKey, VerifiedCertificate) {
    let key = new_key();
    let certificate = certified(&key);
    (key, certificate)
}

fn challenge(certificate: &VerifiedCertificate) -> Challenge {
    Challenge::new(certificate.certificate(), &context()).unwrap()
}

#[test]
fn the_message_is_laid_out_as_documented() {
    let (_, certificate) = pair();
    let challenge = challenge(&certificate);
    let mut reader = Reader::new(challenge.message());
    assert_eq!(reader.byte(), Ok(1));
    assert_eq!(reader.string().unwrap().len(), 32);
    for text in ["web1", "sudo", "alice", "alice", "/dev/pts/3"] {
        assert_eq!(reader.string(), Ok(text.as_bytes()));
    }
    assert_eq!(reader.string(), Ok(&certificate.certificate().digest()[..]));
    assert_eq!(reader.u64(), Ok(NOW.0));
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn no_two_challenges_are_alike() {
    let (_, certificate) = pair();
    assert_ne!(challenge(&certificate).message(), challenge(&certificate).message());
}

#[test]
fn the_keys_signature_is_the_proof() {
    let (key, certificate) = pair();
    let challenge = challenge(&certificate);
    let signature = key.sign(&challenge.signed_data()).unwrap();
    let proof = challenge.check(&certificate, &signature).unwrap();
    assert!(proof.is_for(&certificate));
    assert!(!proof.is_for(&pair().1));
    assert!(!proof.is_for(&certified(&key)), "another certificate of the same key");
}

#[test]
fn another_keys_signature_is_none() {
    let (_, certificate) = pair();
    let challenge = challenge(&certificate);
    let signature = new_key().sign(&challenge.signed_data()).unwrap();
    assert_eq!(challenge.check(&certificate, &signature).err(), Some(KeyError::BadSignature));
}

#[test]
fn a_replayed_signature_is_none() {
    let (key, certificate) = pair();
    let first = challenge(&certificate);
    let signature = key.sign(&first.signed_data()).unwrap();
    assert!(first.check(&certificate, &signature).is_ok());
    assert_eq!(challenge(&certificate).check(&certificate, &signature).err(), Some(KeyError::BadSignature));
}

#[test]
fn a_signature_over_the_bare_message_or_its_hash_is_none() {
    let (key, certificate) = pair();
    for over in [|c: &Challenge| c.message().to_vec(), |c: &Challenge| Sha512::digest(c.message()).to_vec()] {
        let challenge = challenge(&certificate);
        let signature = key.sign(&over(&challenge)).unwrap();
        assert_eq!(challenge.check(&certificate, &signature).err(), Some(KeyError::BadSignature));
    }
}

#[test]
fn a_challenge_is_for_one_certificate() {
    let (key, certificate) = pair();
    let other = certified(&key);
    let challenge = challenge(&certificate);
    let signature = key.sign(&challenge.signed_data()).unwrap();
    assert_eq!(challenge.check(&other, &signature).err(), Some(KeyError::BadSignature));
}

#[test]
fn malformed_signatures_are_none() {
    let (key, certificate) = pair();
    let mut cases: Vec<Vec<u8>> = vec![Vec::new(), vec![0; 4], vec![0xff; 100]];
    let signature = |challenge: &Challenge| key.sign(&challenge.signed_data()).unwrap();
    for case in cases.drain(..) {
        assert!(challenge(&certificate).check(&certificate, &case).is_err());
    }
    let cut = challenge(&certificate);
    let good = signature(&cut);
    assert!(cut.check(&certificate, &good[..good.len() - 1]).is_err());
    let long = challenge(&certificate);
    let good = signature(&long);
    assert!(long.check(&certificate, &[good, vec![0]].concat()).is_err());
}

/// A FIDO key's certificate, with or without `verify-required`.
fn fido(verify_required: bool) -> (SoftFido, VerifiedCertificate) {
    let key = SoftFido::new();
    let mut template = template(&key.public_key());
    if verify_required {
        template.critical_options.push(CertificateOption { name: b"verify-required".to_vec(), data: Vec::new() });
    }
    let certificate = verified(&template.sign(&new_key()).unwrap());
    (key, certificate)
}

fn fido_check(verify_required: bool, flags: u8) -> Option<KeyError> {
    let (key, certificate) = fido(verify_required);
    let challenge = challenge(&certificate);
    let signature = key.sign(&challenge.signed_data(), flags);
    challenge.check(&certificate, &signature).err()
}

#[test]
fn a_fido_key_must_be_touched() {
    assert_eq!(fido_check(false, 1), None);
    assert_eq!(fido_check(false, 5), None);
    assert_eq!(fido_check(false, 0), Some(KeyError::NoUserPresence));
    assert_eq!(fido_check(false, 4), Some(KeyError::NoUserPresence));
}

#[test]
fn verify_required_takes_the_users_pin_as_well() {
    assert_eq!(fido_check(true, 5), None);
    assert_eq!(fido_check(true, 1), Some(KeyError::NoUserVerification));
    assert_eq!(fido_check(true, 4), Some(KeyError::NoUserPresence));
}

#[test]
fn what_is_signed_is_recognised_and_nothing_else() {
    let (_, certificate) = pair();
    let data = challenge(&certificate).signed_data();
    assert!(is_challenge(&data));
    for end in 0..data.len() {
        assert!(!is_challenge(&data[..end]));
    }
    assert!(!is_challenge(&[&data[..], &[0]].concat()));

    let sshsig = |preamble: &[u8], namespace: &[u8], reserved: &[u8], hash: &[u8], digest: &[u8]| {
        let mut data = preamble.to_vec();
        for part in [namespace, reserved, hash, digest] {
            data.put_string(part);
        }
        data
    };
    let name = NAMESPACE.as_bytes();
    assert!(is_challenge(&sshsig(b"SSHSIG", name, b"", b"sha512", &[0; 64])));
    assert!(!is_challenge(&sshsig(b"SSHSIX", name, b"", b"sha512", &[0; 64])));
    assert!(!is_challenge(&sshsig(b"SSHSIG", b"file", b"", b"sha512", &[0; 64])));
    assert!(!is_challenge(&sshsig(b"SSHSIG", name, b"x", b"sha512", &[0; 64])));
    assert!(!is_challenge(&sshsig(b"SSHSIG", name, b"", b"sha256", &[0; 32])));
    assert!(!is_challenge(&sshsig(b"SSHSIG", name, b"", b"sha512", &[0; 32])));
}

#[test]
fn a_login_is_not_taken_for_a_challenge() {
    // RFC 4252 §7: string session identifier, byte 50, …
    let mut login = Vec::new();
    login.put_string(&[7; 64]);
    login.put_byte(50);
    for part in ["alice", "ssh-connection", "publickey"] {
        login.put_string(part.as_bytes());
    }
    assert!(!is_challenge(&login));
}

/// Every type of key that ssh-agent holds without a token.
const KINDS: [(&str, &[&str]); 5] = [
    ("ed25519", &["-t", "ed25519"]),
    ("p256", &["-t", "ecdsa", "-b", "256"]),
    ("p384", &["-t", "ecdsa", "-b", "384"]),
    ("p521", &["-t", "ecdsa", "-b", "521"]),
    ("rsa", &["-t", "rsa", "-b", "2048"]),
];

#[test]
fn ssh_agent_signs_it_and_ssh_keygen_verifies_the_same() {
    let ssh_agent = RealAgent::start();
    for (name, kind) in KINDS {
        let key = ssh_agent.keygen(name, kind);
        let certificate = certified(&key);
        std::fs::write(ssh_agent.folder().join(format!("{name}-cert.pub")), certificate.certificate().to_openssh(""))
            .unwrap();
        ssh_agent.run("ssh-add", &["-q", name], b"");

        let challenge = challenge(&certificate);
        let message = challenge.message().to_vec();
        let signature =
            ssh_agent.connect().sign(certificate.certificate().blob(), &challenge.signed_data(), RSA_SHA2_512);
        let signature = signature.expect(name);

        // The agent's signature in an SSHSIG's armour, for ssh-keygen to judge over the bare message.
        let public = ssh_key::PublicKey::from_openssh(&key.public_key().to_openssh("")).unwrap();
        let parsed = ssh_key::Signature::try_from(&signature[..]).unwrap();
        let sshsig = SshSig::new(public.key_data().clone(), NAMESPACE, HashAlg::Sha512, parsed).unwrap();
        let (sig, signers) = (format!("{name}.sig"), format!("{name}.signers"));
        std::fs::write(ssh_agent.folder().join(&sig), sshsig.to_pem(LineEnding::LF).unwrap()).unwrap();
        std::fs::write(ssh_agent.folder().join(&signers), format!("alice {}\n", key.public_key().to_openssh("")))
            .unwrap();
        let arguments = ["-Y", "verify", "-n", NAMESPACE, "-I", "alice", "-f", &signers, "-s", &sig];
        ssh_agent.run("ssh-keygen", &arguments, &message);

        assert!(challenge.check(&certificate, &signature).expect(name).is_for(&certificate));
    }
}

/// The signature in an armoured SSHSIG (PROTOCOL.sshsig).
fn signature_in(armoured: &str, namespace: &str) -> Vec<u8> {
    use base64ct::{Base64, Encoding};
    let body: String = armoured.lines().filter(|line| !line.starts_with("-----")).collect();
    let blob = Base64::decode_vec(&body).unwrap();
    let mut reader = Reader::new(&blob);
    assert_eq!(reader.take(6), Ok(&b"SSHSIG"[..]));
    assert_eq!(reader.u32(), Ok(1));
    reader.string().unwrap();
    assert_eq!(reader.string(), Ok(namespace.as_bytes()));
    assert_eq!(reader.string(), Ok(&b""[..]));
    assert_eq!(reader.string(), Ok(&b"sha512"[..]));
    reader.string().unwrap().to_vec()
}

#[test]
fn what_ssh_keygen_signs_in_our_namespace_is_our_proof() {
    let ssh_agent = RealAgent::start();
    for (name, kind) in KINDS {
        let key = ssh_agent.keygen(name, kind);
        let certificate = certified(&key);
        let signed = |namespace: &str, challenge: &Challenge| {
            let arguments = ["-q", "-Y", "sign", "-n", namespace, "-f", name];
            signature_in(&ssh_agent.run("ssh-keygen", &arguments, challenge.message()), namespace)
        };

        let ours = challenge(&certificate);
        let signature = signed(NAMESPACE, &ours);
        assert!(ours.check(&certificate, &signature).is_ok(), "{name}");

        let theirs = challenge(&certificate);
        let signature = signed("file", &theirs);
        assert_eq!(theirs.check(&certificate, &signature).err(), Some(KeyError::BadSignature), "{name}");
    }
}

#[test]
fn an_agent_that_holds_the_key_alone_signs_for_the_certificate_too() {
    // The proof is of the key: which of its certificates the agent lists is not under the signature, the digest is.
    let ssh_agent = RealAgent::start();
    let (key, certificate) = pair();
    let mut agent = ssh_agent.connect();
    agent.add_certificate(certificate.certificate(), &key, "", &Constraints::default()).unwrap();
    let challenge = challenge(&certificate);
    let signature = agent.sign(certificate.certificate().blob(), &challenge.signed_data(), 0).unwrap();
    assert!(challenge.check(&certificate, &signature).is_ok());
}
