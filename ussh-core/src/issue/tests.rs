#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::keys::PrivateKey;
use crate::testing::Keygen;

fn template(public_key: PublicKey) -> CertificateTemplate {
    CertificateTemplate {
        public_key,
        serial: 99,
        kind: CertificateKind::User,
        key_id: "alice".into(),
        principals: vec!["alice".into(), "web".into()],
        valid_after: UnixTime(1_700_000_000),
        valid_before: UnixTime(1_700_003_600),
        critical_options: vec![
            CertificateOption::flag("verify-required"),
            CertificateOption::string("force-command", "id"),
        ],
        extensions: vec![CertificateOption::flag("permit-pty"), CertificateOption::login_time(UnixTime(1_700_000_000))],
    }
}

#[test]
fn ssh_keygen_reads_what_we_issue() {
    let keygen = Keygen::new();
    for (ca_kind, key_kind) in [("ed25519", "ecdsa-256"), ("ecdsa-384", "rsa-2048"), ("rsa-3072", "ed25519")] {
        let ca = keygen.generate(&format!("ca-{ca_kind}"), ca_kind);
        let key = keygen.generate(key_kind, key_kind).public_key();
        let certificate = template(key.clone()).sign(&ca).unwrap();
        keygen.write("x-cert.pub", certificate.to_openssh(""));
        // -L checks the CA's signature too.
        let listed = keygen.run(&["-L", "-f", "x-cert.pub"]);
        for expected in [
            "user certificate",
            &key.fingerprint(),
            &ca.public_key().fingerprint(),
            "Key ID: \"alice\"",
            "Serial: 99",
            "        alice\n                web",
            "force-command id",
            "permit-pty",
            "login-time@ussh",
        ] {
            assert!(listed.contains(expected), "{expected} in {listed}");
        }
        let names: Vec<_> = certificate.critical_options().iter().map(|o| &o.name).collect();
        assert_eq!(names, [&b"force-command"[..], b"verify-required"], "sorted");
        assert_eq!(certificate.login_time(), UnixTime(1_700_000_000));
        assert_eq!(certificate.serial(), 99);
    }
}

#[test]
fn every_certificate_has_a_nonce_of_its_own() {
    let ca = PrivateKey::generate_ed25519().unwrap();
    let key = PrivateKey::generate_ed25519().unwrap().public_key();
    let sign = || template(key.clone()).sign(&ca).unwrap();
    assert_ne!(sign().digest(), sign().digest());
}

#[test]
fn refuses_templates_that_nobody_should_sign() {
    let ca = PrivateKey::generate_ed25519().unwrap();
    let key = PrivateKey::generate_ed25519().unwrap().public_key();
    assert!(template(key.clone()).sign(&ca).is_ok());
    let refusal = |change: &dyn Fn(&mut CertificateTemplate)| {
        let mut changed = template(key.clone());
        change(&mut changed);
        match changed.sign(&ca) {
            Err(IssueError::Template(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal(&|t| t.serial = 0), "serial 0 cannot be revoked");
    assert_eq!(refusal(&|t| t.principals.clear()), "no principals");
    assert_eq!(refusal(&|t| t.principals = vec!["p".into(); 257]), "more than 256 principals");
    let bad_principal = "an empty principal, or one with a comma, a control character or a pattern";
    for bad in ["", "a,b", "a\0", "a\nb", "a\u{85}"] {
        assert_eq!(refusal(&|t| t.principals.push(bad.into())), bad_principal, "{bad:?}");
    }
    for bad in ["*", "web?", "!web1", "*.example.com"] {
        let reason = refusal(&|t| {
            t.kind = CertificateKind::Host;
            t.principals = vec![bad.into()];
        });
        assert_eq!(reason, bad_principal, "{bad:?}");
    }
    for bad in ["", "alice\n", "\x1b[2J"] {
        let reason = refusal(&|t| t.key_id = bad.into());
        assert_eq!(reason, "an empty key ID, or one with a control character");
    }
    for end in [1_700_000_000, 1_699_999_999, 0] {
        let reason = refusal(&|t| t.valid_before = UnixTime(end));
        assert_eq!(reason, "it would end before it starts");
    }
    let twice = |t: &mut Vec<CertificateOption>| t.push(t[0].clone());
    assert_eq!(refusal(&|t| twice(&mut t.extensions)), "an option twice");
    assert_eq!(refusal(&|t| twice(&mut t.critical_options)), "an option twice");
    assert_eq!(refusal(&|t| t.public_key = ca.public_key()), "the CA's own key");
}

#[test]
fn a_pattern_is_signed_for_a_host_where_it_is_allowed_letter_for_letter() {
    let ca = PrivateKey::generate_ed25519().unwrap();
    let host = |name: &str| {
        let mut host = template(PrivateKey::generate_ed25519().unwrap().public_key());
        host.kind = CertificateKind::Host;
        host.principals = vec![name.to_owned()];
        host
    };
    let allowed = ["*.example.com".to_owned(), "a,b".to_owned()];
    let signed = host("*.example.com").sign_with_patterns(&ca, &allowed).unwrap();
    assert_eq!(signed.principals(), [b"*.example.com".to_vec()]);
    for name in ["*.example.org", "*", "?.example.com", "a,b"] {
        let refused = host(name).sign_with_patterns(&ca, &allowed).unwrap_err();
        let why = "an empty principal, or one with a comma, a control character or a pattern";
        assert_eq!(refused, IssueError::Template(why), "{name}");
    }
    assert!(host("*.example.com").sign(&ca).is_err());
}
