#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::testing::{Keygen, SoftFido, TOUCHED, VERIFIED, string};

const MESSAGE: &[u8] = b"what is signed";
const PLAIN_KINDS: [&str; 6] = ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048", "rsa-3072"];

fn check(key: &PublicKey, signature: &[u8]) -> Result<(), KeyError> {
    key.verify(MESSAGE, signature, FidoDemand::Presence)
}

fn split_signature(signature: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut reader = Reader::new(signature);
    let name = reader.string().unwrap().to_vec();
    (name, reader.string().unwrap().to_vec())
}

#[test]
fn verifies_each_plain_key_type_and_refuses_every_near_miss() {
    let keygen = Keygen::new();
    for kind in PLAIN_KINDS {
        let private = keygen.generate(kind, kind);
        let key = keygen.public(kind);
        assert_eq!(private.public_key(), key);
        let signature = private.sign(MESSAGE).unwrap();
        assert_eq!(check(&key, &signature), Ok(()), "{kind}");

        let other = key.verify(b"what is signee", &signature, FidoDemand::Presence);
        assert_eq!(other, Err(KeyError::BadSignature), "{kind}: other message");
        let name_len = 4 + split_signature(&signature).0.len();
        for at in name_len..signature.len() {
            let mut flipped = signature.clone();
            flipped[at] ^= 1;
            assert_eq!(check(&key, &flipped), Err(KeyError::BadSignature), "{kind}: byte {at}");
        }
        for len in 0..signature.len() {
            assert!(check(&key, &signature[..len]).is_err(), "{kind}: cut at {len}");
        }
        let trailing = [&signature[..], &[0]].concat();
        assert_eq!(check(&key, &trailing), Err(KeyError::BadSignature), "{kind}: trailing");
        let like_fido = [&signature[..], &[1, 0, 0, 0, 0]].concat();
        assert_eq!(check(&key, &like_fido), Err(KeyError::BadSignature), "{kind}: FIDO trailer");
    }
}

#[test]
fn refuses_a_signature_that_names_another_algorithm() {
    let keygen = Keygen::new();
    let names = [
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ssh-rsa",
        "ssh-dss",
        "sk-ssh-ed25519@openssh.com",
        "webauthn-sk-ecdsa-sha2-nistp256@openssh.com",
        "ssh-ed25519\0",
        "",
    ];
    for kind in ["ed25519", "ecdsa-256", "rsa-2048"] {
        let private = keygen.generate(kind, kind);
        let key = private.public_key();
        let (own, data) = split_signature(&private.sign(MESSAGE).unwrap());
        for name in names.iter().filter(|n| n.as_bytes() != own) {
            let renamed = [string(name.as_bytes()), string(&data)].concat();
            assert!(matches!(check(&key, &renamed), Err(KeyError::SignatureAlgorithm(_))), "{kind} as {name}");
        }
    }
}

#[test]
fn refuses_rsa_signature_under_the_other_hash() {
    let private = Keygen::new().generate("rsa", "rsa-2048");
    let (name, data) = split_signature(&private.sign(MESSAGE).unwrap());
    assert_eq!(name, b"rsa-sha2-512");
    let renamed = [string(b"rsa-sha2-256"), string(&data)].concat();
    assert_eq!(check(&private.public_key(), &renamed), Err(KeyError::BadSignature));
}

#[test]
fn takes_an_rsa_signature_without_its_leading_zeros() {
    let private = Keygen::new().generate("rsa", "rsa-2048");
    let (message, data) = (0_u32..20_000)
        .map(|n| n.to_be_bytes())
        .map(|m| (m, split_signature(&private.sign(&m).unwrap()).1))
        .find(|(_, data)| data[0] == 0)
        .expect("one in 256 starts with a zero");
    let key = private.public_key();
    let short = [string(b"rsa-sha2-512"), string(&data[1..])].concat();
    assert_eq!(key.verify(&message, &short, FidoDemand::Presence), Ok(()));
    let long = [string(b"rsa-sha2-512"), string(&[&[0], &data[..]].concat())].concat();
    let refused = key.verify(&message, &long, FidoDemand::Presence);
    assert_eq!(refused, Err(KeyError::BadSignature));
}

/// n - s for NIST P-256 (FIPS 186-4 D.1.2.3), both 32 bytes.
fn negate_p256(s: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut padded = vec![0; 32_usize.saturating_sub(s.len())];
    padded.extend_from_slice(&s[s.len().saturating_sub(32)..]);
    let mut out = vec![0; 32];
    let mut borrow = 0;
    for i in (0..32).rev() {
        let digit = i32::from(ORDER[i]) - i32::from(padded[i]) - borrow;
        borrow = i32::from(digit < 0);
        out[i] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    out
}

#[test]
fn takes_both_s_values_and_leading_zeros_of_ecdsa_as_openssh_does() {
    let private = Keygen::new().generate("ecdsa", "ecdsa-256");
    let key = private.public_key();
    let (name, data) = split_signature(&private.sign(MESSAGE).unwrap());
    let mut reader = Reader::new(&data);
    let (r, s) = (reader.string().unwrap(), reader.string().unwrap());
    let with = |r: &[u8], s: &[u8]| [string(&name), string(&[string(r), string(s)].concat())].concat();

    let other_s = [&[0], &negate_p256(s)[..]].concat();
    assert_eq!(check(&key, &with(r, &other_s)), Ok(()));
    let padded_r = [&[0, 0], r].concat();
    assert_eq!(check(&key, &with(&padded_r, s)), Ok(()));

    let negative = [&[0x80], &r[1..]].concat();
    for (r, s) in [(&negative[..], s), (b"", s), (r, b""), (r, &[0][..])] {
        assert_eq!(check(&key, &with(r, s)), Err(KeyError::BadSignature));
    }
}

#[test]
fn fido_signature_needs_a_touch_and_verification_where_demanded() {
    let keygen = Keygen::new();
    for kind in ["ed25519", "ecdsa-256"] {
        let fido = SoftFido::new(keygen.generate(kind, kind));
        let key = &fido.public;
        assert!(key.is_fido());
        let verdict = |flags, demand| key.verify(MESSAGE, &fido.sign(MESSAGE, flags), demand);
        assert_eq!(verdict(TOUCHED, FidoDemand::Presence), Ok(()));
        assert_eq!(verdict(VERIFIED, FidoDemand::Presence), Ok(()));
        assert_eq!(verdict(VERIFIED, FidoDemand::Verification), Ok(()));
        for demand in [FidoDemand::Presence, FidoDemand::Verification] {
            assert_eq!(verdict(0, demand), Err(KeyError::NoUserPresence));
            assert_eq!(verdict(4, demand), Err(KeyError::NoUserPresence));
        }
        let refused = verdict(TOUCHED, FidoDemand::Verification);
        assert_eq!(refused, Err(KeyError::NoUserVerification));

        // The flags are under the signature, and so is the application.
        let mut forged = fido.sign(MESSAGE, TOUCHED);
        let at = forged.len() - 5;
        forged[at] = VERIFIED;
        assert_eq!(check(key, &forged), Err(KeyError::BadSignature));
        let mut other = key.to_blob();
        *other.last_mut().unwrap() = b'!';
        let other = PublicKey::from_blob(&other).unwrap();
        assert_eq!(check(&other, &fido.sign(MESSAGE, TOUCHED)), Err(KeyError::BadSignature));

        let without_trailer = &fido.sign(MESSAGE, TOUCHED)[..at];
        assert_eq!(check(key, without_trailer), Err(KeyError::BadSignature));
        let trailing = [&fido.sign(MESSAGE, TOUCHED)[..], &[0]].concat();
        assert_eq!(check(key, &trailing), Err(KeyError::BadSignature));
    }
}

#[test]
fn refuses_a_certificate_by_its_name_alone() {
    for rest in [&b""[..], b"junk that no parser may see"] {
        for name in ["ssh-ed25519-cert-v01@openssh.com", "x-cert-v01@openssh.com"] {
            let blob = [&string(name.as_bytes()), rest].concat();
            assert_eq!(PublicKey::from_blob(&blob), Err(KeyError::IsCertificate));
        }
    }
}

#[test]
fn refuses_malformed_and_unknown_keys() {
    let ed25519 = |key: &[u8]| [string(b"ssh-ed25519"), string(key)].concat();
    assert!(PublicKey::from_blob(&ed25519(&[1; 32])).is_ok());
    let trailing = [ed25519(&[1; 32]), vec![0]].concat();
    for bad in [ed25519(&[1; 31]), ed25519(&[1; 33]), trailing, Vec::new(), vec![0, 0, 0, 9]] {
        assert_eq!(PublicKey::from_blob(&bad), Err(KeyError::Malformed));
    }
    for name in ["ssh-dss", "ssh-rsa2", "SSH-ED25519", "rsa-sha2-512", "ssh-ed448", "none"] {
        let blob = [string(name.as_bytes()), string(&[1; 32])].concat();
        let unsupported = Err(KeyError::UnsupportedType(name.into()));
        assert_eq!(PublicKey::from_blob(&blob), unsupported);
    }
}

#[test]
fn a_foreign_name_in_an_error_is_one_word() {
    let (name, word) = (b"\x1b[2J\nx is fine", "\\x1b[2J\\x0ax\\x20is\\x20fine");
    assert_eq!(PublicKey::from_blob(&string(name)), Err(KeyError::UnsupportedType(word.into())));
    let signature = [string(name), string(&[0; 64])].concat();
    assert_eq!(
        check(&PrivateKey::generate_ed25519().unwrap().public_key(), &signature),
        Err(KeyError::SignatureAlgorithm(word.into()))
    );
}

#[test]
fn refuses_ecdsa_key_under_another_curve_or_with_a_compressed_point() {
    let key = Keygen::new().generate("k", "ecdsa-256").public_key();
    let mut reader = Reader::new(key.fields());
    let (_, point) = (reader.string().unwrap(), reader.string().unwrap());
    let build = |name: &[u8], curve: &[u8], point: &[u8]| {
        PublicKey::from_blob(&[string(name), string(curve), string(point)].concat())
    };
    assert_eq!(build(b"ecdsa-sha2-nistp256", b"nistp256", point), Ok(key.clone()));
    for (name, curve) in [("ecdsa-sha2-nistp384", "nistp256"), ("ecdsa-sha2-nistp256", "nistp384")] {
        let refused = build(name.as_bytes(), curve.as_bytes(), point);
        assert_eq!(refused, Err(KeyError::Malformed));
    }
    let compressed = [&[2 + (point[64] & 1)], &point[1..33]].concat();
    let refused = build(b"ecdsa-sha2-nistp256", b"nistp256", &compressed);
    assert_eq!(refused, Err(KeyError::Malformed));
}

/// One in 512 is shorter than the curve, and in OpenSSH's files too.
#[test]
fn ecdsa_keys_with_a_short_number_are_read_as_openssh_writes_them() {
    let keygen = Keygen::new();
    let rewrite = |name: &str, key: &PrivateKey, passphrase: &str| {
        let path = keygen.path(name);
        std::fs::write(&path, key.to_openssh("a comment").unwrap().as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        // It reads what we write, and writes it anew in its own way.
        keygen.run(&["-q", "-p", "-P", "", "-N", passphrase, "-a", "1", "-f", name]);
        keygen.read_text(name)
    };
    for length in [24, 30, 31, 32] {
        for first in [0x7f, 0xff] {
            let number = [vec![first], vec![0x55; length - 1]].concat();
            let Ok(key) = PrivateKey::ecdsa_p256_from_number(&number) else { panic!("{number:?}") };
            let name = format!("k{length}-{first}");
            let written = rewrite(&name, &key, "");
            let read = PrivateKey::from_openssh(&written).unwrap();
            assert_eq!(read.public_key(), key.public_key(), "{name}");
            let signature = read.sign(b"message").unwrap();
            assert_eq!(key.public_key().verify(b"message", &signature, FidoDemand::Presence), Ok(()), "{name}");
            // A bit of it changed is no key: half of the text is the public one, twice.
            for at in (80..written.len() - 80).step_by(7) {
                let mut torn = written.clone().into_bytes();
                torn[at] = if torn[at] == b'A' { b'B' } else { b'A' };
                if let Ok(read) = PrivateKey::from_openssh(&String::from_utf8(torn).unwrap()) {
                    assert_eq!(read.public_key(), key.public_key(), "{name} {at}");
                }
            }
        }
    }
    assert_eq!(PrivateKey::from_openssh("").unwrap_err(), KeyError::Malformed);
}

#[cfg(feature = "encryption")]
#[test]
fn encrypted_ecdsa_keys_with_a_short_number_are_read_by_their_passphrase_alone() {
    let keygen = Keygen::new();
    let key = PrivateKey::ecdsa_p256_from_number(&[0x55; 30]).unwrap();
    let path = keygen.path("k");
    std::fs::write(&path, key.to_openssh("").unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    keygen.run(&["-q", "-p", "-P", "", "-N", "secret", "-a", "1", "-f", "k"]);
    let written = keygen.read_text("k");
    let read = |passphrase| PrivateKey::from_openssh_encrypted(&written, passphrase).map(|key| key.public_key());
    assert_eq!((read("secret"), read("other")), (Ok(key.public_key()), Err(KeyError::WrongPassphrase)));
    assert_eq!(PrivateKey::from_openssh(&written).unwrap_err(), KeyError::Encrypted);
}

#[test]
fn refuses_rsa_below_2048_bits_and_beyond_16384() {
    let rsa =
        |modulus: &[u8]| PublicKey::from_blob(&[string(b"ssh-rsa"), string(&[1, 0, 1]), string(modulus)].concat());
    let modulus = |bytes: usize, first: u8| [vec![0, first], vec![0x55; bytes - 1]].concat();
    assert!(rsa(&modulus(256, 0x80)).is_ok());
    assert!(rsa(&modulus(2048, 0x80)).is_ok());
    assert_eq!(rsa(&modulus(256, 0x80)[2..]), Err(KeyError::TooShort(2039)));
    assert_eq!(rsa(&modulus(128, 0x80)), Err(KeyError::TooShort(1024)));
    assert_eq!(rsa(&modulus(2049, 0x80)), Err(KeyError::Malformed));
    assert_eq!(rsa(&[&[0], &modulus(256, 0x80)[..]].concat()), Err(KeyError::Malformed));
    assert_eq!(rsa(&[0xff; 256]), Err(KeyError::Malformed), "negative");
}

#[test]
fn reads_and_writes_lines_as_ssh_keygen_does() {
    let keygen = Keygen::new();
    for kind in PLAIN_KINDS {
        keygen.generate(kind, kind);
        let line = keygen.read_text(&format!("{kind}.pub"));
        let key = keygen.public(kind);
        assert_eq!(key.to_openssh(kind), line.trim_end());
        assert_eq!(PublicKey::from_blob(&key.to_blob()), Ok(key.clone()));
        let listed = keygen.run(&["-l", "-f", &format!("{kind}.pub")]);
        assert!(listed.contains(&key.fingerprint()), "{listed}");
        assert!(listed.contains(&format!("({})", key.short_type())), "{listed}");
        assert_eq!(PublicKey::from_openssh(&key.to_openssh("")), Ok(key));
    }
}

#[test]
fn refuses_lines_that_are_no_key() {
    let key = Keygen::new().generate("k", "ed25519").public_key();
    let good = key.to_openssh("comment");
    let encoded = good.split(' ').nth(1).unwrap();
    assert_eq!(PublicKey::from_openssh(&format!("  ssh-ed25519\t{encoded}\r\n")), Ok(key));
    for bad in [
        String::new(),
        "ssh-ed25519".into(),
        encoded.into(),
        format!("ssh-rsa {encoded}"),
        format!("ssh-ed25519 {}", &encoded[..encoded.len() - 4]),
        format!("ssh-ed25519 {encoded}AAAA"),
        format!("ssh-ed25519 {encoded}="),
        format!("restrict {good}"),
        format!("# {good}"),
    ] {
        assert_eq!(PublicKey::from_openssh(&bad), Err(KeyError::Malformed), "{bad}");
    }
}

#[test]
fn private_keys_round_trip_through_ssh_keygen() {
    let keygen = Keygen::new();
    let ours = PrivateKey::generate_ed25519().unwrap();
    assert_ne!(ours.public_key(), PrivateKey::generate_ed25519().unwrap().public_key());
    let pem = ours.to_openssh("a comment").unwrap();
    assert!(pem.ends_with("-----END OPENSSH PRIVATE KEY-----\n"));
    keygen.write("ours", pem.as_bytes());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(keygen.path("ours"), mode).unwrap();
    let public = keygen.run(&["-y", "-f", "ours"]);
    assert_eq!(public.trim_end(), ours.public_key().to_openssh("a comment"));
    let again = PrivateKey::from_openssh(&pem).unwrap();
    assert_eq!(check(&ours.public_key(), &again.sign(MESSAGE).unwrap()), Ok(()));
}

#[test]
fn refuses_an_encrypted_private_key() {
    let keygen = Keygen::new();
    keygen.run(&["-q", "-t", "ed25519", "-N", "secret", "-f", "k"]);
    let refused = PrivateKey::from_openssh(&keygen.read_text("k"));
    assert_eq!(refused.err(), Some(KeyError::Encrypted));
    assert_eq!(PrivateKey::from_openssh("junk").err(), Some(KeyError::Malformed));
}

#[test]
fn debug_shows_the_public_half_of_a_private_key_only() {
    let key = PrivateKey::generate_ed25519().unwrap();
    let shown = format!("{key:?}");
    assert_eq!(shown, format!("PrivateKey(ED25519 {})", key.public_key().fingerprint()));
}
