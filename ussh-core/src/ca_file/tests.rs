#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::testing::Keygen;

struct Keys {
    first: PublicKey,
    second: PublicKey,
    certificate: String,
    /// The same, and its CA has not signed it.
    unsigned: String,
    weak: String,
}

fn keys() -> Keys {
    let keygen = Keygen::new();
    let first = keygen.generate("a", "ed25519").public_key();
    let second = keygen.generate("b", "ecdsa-256").public_key();
    let certificate = keygen.certify("a", "b", &["-I", "id", "-n", "x"]);
    let mut unsigned = certificate.blob().to_vec();
    *unsigned.last_mut().unwrap() ^= 1;
    assert!(!keygen.reads_certificate(&unsigned));
    keygen.run(&["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", "weak"]);
    Keys {
        first,
        second,
        certificate: certificate.to_openssh(""),
        unsigned: Certificate::parse(&unsigned).unwrap().to_openssh(""),
        weak: keygen.read_text("weak.pub").trim_end().into(),
    }
}

#[test]
fn reads_what_sshd_reads() {
    let k = keys();
    let (a, b) = (k.first.to_openssh("a"), k.second.to_openssh(""));
    let comment = "x".repeat(20_000);
    for text in [
        format!("{a}\n{b}\n"),
        format!("{a}\n{b}"),
        format!("{a}\r\n{b}\r\n"),
        format!("# comment\n\n \t\n  # more\n\t{a} and trailing words\n {b}\n"),
        format!("{a} {comment}\n#{comment}\n{b}\n"),
        format!("{}\n{b}", a.replace(' ', "\t ")),
        format!("{a}\n{}\n{b}\n", k.certificate),
        format!("{a}\n{}\n{b}\n", k.weak),
    ] {
        let cas = TrustedCas::parse(text.as_bytes());
        assert_eq!(cas.keys(), [k.first.clone(), k.second.clone()], "{text}");
        assert!(cas.contains(&k.first) && cas.contains(&k.second));
        assert_eq!(cas.junk_at(), None);
    }
    let latin1 = [a.as_bytes(), b" caf\xe9\n", b.as_bytes()].concat();
    assert_eq!(TrustedCas::parse(&latin1).keys().len(), 2);
}

#[test]
fn stops_at_the_first_line_of_junk() {
    let k = keys();
    let (a, b) = (k.first.to_openssh("a"), k.second.to_openssh(""));
    for junk in [
        "junk".to_string(),
        "\r".into(),
        "\0".into(),
        "ssh-ed25519 AAAA!".into(),
        "ssh-ed25519 AAAA".into(),
        format!("restrict {b}"),
        format!("cert-authority {b}"),
        "1024 65537 1234 rsa1".into(),
        "ssh-dss AAAAB3NzaC1kc3M=".into(),
        b.replacen("nistp256", "nistp384", 1),
        k.certificate.replacen("AAAA", "AAAB", 1),
        format!("{}A", k.certificate),
        k.unsigned,
    ] {
        let cas = TrustedCas::parse(format!("{a}\n{junk}\n{b}\n").as_bytes());
        assert_eq!(cas.keys(), std::slice::from_ref(&k.first), "{junk:?}");
        assert_eq!(cas.junk_at(), Some(2), "{junk:?}");
    }
    assert!(TrustedCas::parse(b"").keys().is_empty());
}

#[test]
fn never_holds_a_certificate_or_a_weak_key() {
    let k = keys();
    let cas = TrustedCas::parse(format!("{}\n{}\n", k.certificate, k.weak).as_bytes());
    assert!(cas.keys().is_empty());
    assert!(!cas.contains(&k.second));
}

#[test]
fn what_stands_there_without_the_mark_is_a_user_ca_whoever_else_names_it() {
    let k = keys();
    let text = format!("{}\n{}\n", k.first.to_openssh("ca"), k.second.to_openssh(MARK));
    let cas = TrustedCas::parse(text.as_bytes()).with_break_glass(&[k.first.clone(), k.second.clone()]);
    assert!(cas.is_user_ca(&k.first) && !cas.is_break_glass(&k.first));
    assert!(!cas.is_user_ca(&k.second) && cas.is_break_glass(&k.second));
    let both = format!("{}\n{}\n", k.first.to_openssh(MARK), k.first.to_openssh(""));
    assert!(!TrustedCas::parse(both.as_bytes()).is_break_glass(&k.first));
}
