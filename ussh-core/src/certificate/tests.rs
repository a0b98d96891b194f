#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::keys::PrivateKey;
use crate::testing::{Keygen, RawCertificate, SoftFido, TOUCHED, string};

struct Fixture {
    keygen: Keygen,
    ca: PrivateKey,
    good: RawCertificate,
}

fn fixture() -> Fixture {
    let ca = PrivateKey::generate_ed25519().unwrap();
    let key = PrivateKey::generate_ed25519().unwrap().public_key();
    Fixture { keygen: Keygen::new(), ca, good: RawCertificate::new(&key) }
}

impl Fixture {
    /// Our reading, after a look that the real one agrees.
    fn parse(&self, raw: &RawCertificate) -> Result<Certificate, CertificateParseError> {
        let blob = raw.sign(&self.ca);
        let ours = Certificate::parse(&blob);
        let theirs = self.keygen.reads_certificate(&blob);
        assert_eq!(ours.is_ok(), theirs, "ours: {ours:?}");
        ours
    }
}

#[test]
fn reads_what_ssh_keygen_made_for_each_key_type() {
    let keygen = Keygen::new();
    let kinds = ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048"];
    for kind in kinds {
        keygen.generate(kind, kind);
    }
    for (ca, kind) in kinds.iter().zip(kinds.iter().cycle().skip(1)) {
        let args = [
            "-I",
            "the id",
            "-n",
            "alice,root",
            "-z",
            "42",
            "-V",
            "0x3e8:0x7d0",
            "-O",
            "clear",
            "-O",
            "permit-pty",
            "-O",
            "force-command=id -u",
            "-O",
            "source-address=10.0.0.0/8",
            "-O",
            "extension:login-time@example=x",
        ];
        let certificate = keygen.certify(ca, kind, &args);
        let line = keygen.read_text(&format!("{kind}-cert.pub"));
        assert_eq!(certificate.to_openssh(kind), line.trim_end());
        assert_eq!(*certificate.public_key(), keygen.public(kind));
        assert_eq!(*certificate.ca(), keygen.public(ca));
        assert_eq!(certificate.serial(), 42);
        assert_eq!(certificate.kind(), CertificateKind::User);
        assert_eq!(certificate.key_id(), b"the id");
        assert_eq!(certificate.principals(), [b"alice".to_vec(), b"root".to_vec()]);
        assert_eq!(certificate.valid_after(), UnixTime(1000));
        assert_eq!(certificate.valid_before(), UnixTime(2000));
        assert_eq!(
            certificate.critical_options(),
            [
                CertificateOption::string("force-command", "id -u"),
                CertificateOption::string("source-address", "10.0.0.0/8"),
            ]
        );
        assert_eq!(
            certificate.extensions(),
            [CertificateOption::string("login-time@example", "x"), CertificateOption::flag("permit-pty"),]
        );
        assert!(Certificate::is_certificate_blob(certificate.blob()));
        assert!(!Certificate::is_certificate_blob(certificate.public_key().blob()));
        assert_eq!(Certificate::parse(certificate.blob()), Ok(certificate));
    }
}

#[test]
fn reads_host_and_for_ever_certificates() {
    let keygen = Keygen::new();
    keygen.generate("ca", "ed25519");
    keygen.generate("k", "ed25519");
    let certificate = keygen.certify("ca", "k", &["-h", "-I", "h", "-n", "web1"]);
    assert_eq!(certificate.kind(), CertificateKind::Host);
    assert_eq!(certificate.valid_after(), UnixTime(0));
    assert_eq!(certificate.valid_before(), UnixTime::FOREVER);
    assert_eq!(certificate.serial(), 0);
}

#[test]
fn reads_fido_certificates_and_fido_cas() {
    let keygen = Keygen::new();
    for kind in ["ed25519", "ecdsa-256"] {
        let fido = SoftFido::new(keygen.generate(kind, kind));
        let raw = RawCertificate::new(&fido.public);
        let blob = raw.sign_with(&fido.public, |message| fido.sign(message, TOUCHED));
        assert!(keygen.reads_certificate(&blob));
        let certificate = Certificate::parse(&blob).unwrap();
        assert_eq!(*certificate.public_key(), fido.public);
        assert_eq!(*certificate.ca(), fido.public);
    }
}

#[test]
fn takes_the_odd_ones_that_sshd_takes() {
    let f = fixture();
    let with = |change: &dyn Fn(&mut RawCertificate)| {
        let mut raw = f.good.clone();
        change(&mut raw);
        f.parse(&raw).unwrap()
    };
    let unsorted = with(&|raw| {
        raw.extensions = ["permit-pty", "a", "permit-pty", "\u{1}\u{ff}"]
            .map(|n| (n.as_bytes().to_vec(), b"\0\xff".to_vec()))
            .to_vec();
    });
    assert_eq!(unsorted.extensions().len(), 4);
    assert_eq!(unsorted.extensions()[0].data, b"\0\xff");
    with(&|raw| raw.critical_options = vec![(b"z\0y".to_vec(), Vec::new()); 3]);
    with(&|raw| raw.reserved = b"data".to_vec());
    with(&|raw| raw.serial = 0);
    with(&|raw| raw.serial = u64::MAX);
    with(&|raw| raw.key_id = Vec::new());
    with(&|raw| raw.principals = Vec::new());
    with(&|raw| raw.principals = vec![Vec::new(), b"alice".to_vec()]);
    with(&|raw| raw.principals = vec![b"p".to_vec(); 256]);
    with(&|raw| (raw.valid_after, raw.valid_before) = (u64::MAX, 0));
    assert_eq!(with(&|raw| raw.key_id = b"a\nb\xff".to_vec()).key_id(), b"a\nb\xff");
}

#[test]
fn refuses_what_sshd_refuses() {
    use CertificateParseError::{Malformed, NotACertificate, TooManyPrincipals};
    let f = fixture();
    let with = |change: &dyn Fn(&mut RawCertificate)| {
        let mut raw = f.good.clone();
        change(&mut raw);
        f.parse(&raw).unwrap_err()
    };
    let nul = Malformed("NUL in a name");
    assert_eq!(with(&|raw| raw.key_id = b"a\0b".to_vec()), nul);
    assert_eq!(with(&|raw| raw.principals.push(b"root\0x".to_vec())), nul);
    assert_eq!(with(&|raw| raw.principals = vec![b"p".to_vec(); 257]), TooManyPrincipals);
    for kind in [0, 3, u32::MAX] {
        let refused = with(&|raw| raw.kind = kind);
        assert_eq!(refused, Malformed("neither a user nor a host certificate"));
    }
    let nested = f.good.sign(&f.ca);
    let refused = with(&|raw| raw.ca_blob = Some(nested.clone()));
    assert_eq!(refused, Malformed("its CA is itself a certificate"));
    let refused = with(&|raw| raw.ca_blob = Some(string(b"ssh-ed25519-cert-v01@openssh.com")));
    assert_eq!(refused, Malformed("its CA is itself a certificate"));
    let trailing = [f.ca.public_key().to_blob(), vec![0]].concat();
    let refused = with(&|raw| raw.ca_blob = Some(trailing.clone()));
    assert_eq!(refused, Malformed("the CA's key"));
    let refused = with(&|raw| raw.key_fields = string(&[1; 33]));
    assert_eq!(refused, Malformed("the certified key"));
    let refused = with(&|raw| raw.type_name = b"ssh-ed25519".to_vec());
    assert_eq!(refused, NotACertificate);
}

/// Two where we are stricter than sshd: a NUL at the very end of a name, which it drops; an RSA certificate under a signature algorithm's name.
#[test]
fn refuses_two_that_sshd_takes() {
    let f = fixture();
    let mut raw = f.good.clone();
    raw.principals = vec![b"root\0".to_vec()];
    let blob = raw.sign(&f.ca);
    assert!(f.keygen.reads_certificate(&blob));
    let refused = Certificate::parse(&blob).unwrap_err();
    assert_eq!(refused, CertificateParseError::Malformed("NUL in a name"));

    let mut raw = RawCertificate::new(&f.keygen.generate("rsa", "rsa-2048").public_key());
    raw.type_name = b"rsa-sha2-512-cert-v01@openssh.com".to_vec();
    let refused = Certificate::parse(&raw.sign(&f.ca)).unwrap_err();
    assert_eq!(refused, CertificateParseError::NotACertificate);
}

#[test]
fn refuses_every_cut_and_a_trailing_byte() {
    let f = fixture();
    let blob = f.good.sign(&f.ca);
    for len in 0..blob.len() {
        assert!(Certificate::parse(&blob[..len]).is_err(), "cut at {len}");
    }
    let trailing = Certificate::parse(&[&blob[..], &[0]].concat()).unwrap_err();
    assert_eq!(trailing, CertificateParseError::Malformed("trailing bytes"));
    let long = vec![0; MAX_BLOB + 1];
    let long = Certificate::parse(&long).unwrap_err();
    assert_eq!(long, CertificateParseError::Malformed("longer than 256 KiB"));
}

#[test]
fn refuses_unknown_and_plain_types() {
    for name in ["ssh-dss-cert-v01@openssh.com", "ssh-ed25519", "x-cert-v01@openssh.com", ""] {
        let blob = [string(name.as_bytes()), vec![0; 100]].concat();
        let refused = Certificate::parse(&blob).unwrap_err();
        assert_eq!(refused, CertificateParseError::NotACertificate, "{name}");
    }
}

#[test]
fn refuses_a_line_whose_type_is_not_the_blobs() {
    let f = fixture();
    let line = f.parse(&f.good).unwrap().to_openssh("");
    assert!(Certificate::from_openssh(&line).is_ok());
    let other = line.replacen("ssh-ed25519-cert", "ssh-rsa-cert", 1);
    assert!(Certificate::from_openssh(&other).is_err());
    let plain = f.ca.public_key().to_openssh("");
    let refused = Certificate::from_openssh(&plain).unwrap_err();
    assert_eq!(refused, CertificateParseError::NotACertificate);
}

#[test]
fn login_time_is_the_extension_or_else_the_start() {
    let f = fixture();
    let login_time = |raw: &RawCertificate| f.parse(raw).unwrap().login_time();
    assert_eq!(login_time(&f.good), UnixTime(1000));
    let name = LOGIN_TIME.as_bytes();
    let at = |time: u64| time.to_be_bytes();
    let once = f.good.clone().extension(name, &at(900));
    assert_eq!(login_time(&once), UnixTime(900));
    assert_eq!(login_time(&once.clone().extension(name, &at(950))), UnixTime(900));
    assert_eq!(login_time(&once.extension(name, b"")), UnixTime(0));
    let option = CertificateOption::login_time(UnixTime(900));
    let raw = f.good.clone().extension(&option.name, &option.data);
    assert_eq!(login_time(&raw), UnixTime(900));
}

#[test]
fn lineage_is_ca_key_id_and_type() {
    let f = fixture();
    let first = f.parse(&f.good).unwrap();
    let mut later = f.good.clone();
    (later.serial, later.valid_before) = (8, 3000);
    assert!(first.same_lineage(&f.parse(&later).unwrap()));
    assert_ne!(first.digest(), f.parse(&later).unwrap().digest());
    let mut other = f.good.clone();
    other.key_id = b"Alice".to_vec();
    assert!(!first.same_lineage(&f.parse(&other).unwrap()));
    let mut host = f.good.clone();
    host.kind = 2;
    assert!(!first.same_lineage(&f.parse(&host).unwrap()));
    let other_ca = PrivateKey::generate_ed25519().unwrap();
    let other_ca = Certificate::parse(&f.good.sign(&other_ca)).unwrap();
    assert!(!first.same_lineage(&other_ca));
}

#[test]
fn string_value_wants_one_whole_string() {
    let option = |data: &[u8]| CertificateOption { name: b"force-command".to_vec(), data: data.to_vec() };
    let good = CertificateOption::string("force-command", "id");
    assert_eq!(good.string_value(), Some(&b"id"[..]));
    assert_eq!(option(&string(b"")).string_value(), Some(&b""[..]));
    for bad in [&b""[..], b"id", &[string(b"id"), vec![0]].concat()] {
        assert_eq!(option(bad).string_value(), None);
    }
}

#[test]
fn debug_names_the_certificate_on_one_line() {
    let f = fixture();
    let mut raw = f.good.clone();
    raw.key_id = b"a\nb".to_vec();
    let ca = f.ca.public_key().fingerprint();
    let expected = format!("Certificate(User \"a\\x0ab\" serial 7 by PublicKey(ED25519 {ca}))");
    assert_eq!(format!("{:?}", f.parse(&raw).unwrap()), expected);
}
