#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::testing::{Keygen, string};
use crate::wire::WireWrite;

/// Two CAs, two keys, and certificates by name: `a1` = CA a, key 1, serial 1, key ID `id-a1`.
struct Fixture {
    keygen: Keygen,
}

fn fixture() -> Fixture {
    let keygen = Keygen::new();
    for ca in ["a", "b"] {
        keygen.generate(ca, "ed25519");
    }
    for key in ["1", "2"] {
        keygen.generate(key, "ed25519");
    }
    keygen.generate("rsa", "rsa-2048");
    Fixture { keygen }
}

impl Fixture {
    fn certificate(&self, ca: &str, key: &str, serial: u64, key_id: &str) -> Certificate {
        let serial = serial.to_string();
        let args = ["-I", key_id, "-n", "alice", "-z", &serial];
        self.keygen.certify(ca, key, &args)
    }

    /// Whether ssh-keygen reads this KRL to its end, whatever it revokes.
    fn ssh_keygen_reads(&self, krl: &[u8]) -> bool {
        self.keygen.write("probe-krl", krl);
        let (_, text) = self.keygen.try_run(&["-Q", "-l", "-f", "probe-krl", "2.pub"]);
        !text.contains("Invalid KRL file")
    }

    /// A line with a certificate whose CA has signed something else.
    fn unsigned_certificate(&self) -> String {
        let certificate = self.certificate("a", "1", 7, "id");
        let mut blob = certificate.blob().to_vec();
        *blob.last_mut().unwrap() ^= 1;
        assert!(!self.keygen.reads_certificate(&blob));
        Certificate::parse(&blob).unwrap().to_openssh("")
    }

    /// A KRL made by ssh-keygen from its own input format.
    fn krl(&self, args: &[&str], spec: &str) -> RevokedKeys {
        self.keygen.write("spec", spec);
        let all = [&["-q", "-k", "-f", "krl"], args, &["spec"]].concat();
        self.keygen.run(&all);
        RevokedKeys::parse(&self.keygen.read("krl")).unwrap()
    }

    /// Our answer, after a look that `ssh-keygen -Q` says the same.
    fn revokes(&self, list: &RevokedKeys, certificate: &Certificate) -> bool {
        self.keygen.write("probe-cert.pub", certificate.to_openssh(""));
        let (ok, text) = self.keygen.try_run(&["-Q", "-f", "krl", "probe-cert.pub"]);
        let ours = list.revokes(certificate);
        assert_eq!(ours, !ok, "{text}");
        ours
    }
}

#[test]
fn agrees_with_ssh_keygen_on_serials() {
    let f = fixture();
    let many: String = (1000..1300).step_by(3).map(|n| format!("serial: {n}\n")).collect();
    let spec = format!("serial: 5\nserial: 10-20\nserial: 18446744073709551615\nserial: 1000000-2000000\n{many}");
    let list = f.krl(&["-s", "a.pub"], &spec);
    for (serial, revoked) in [
        (0, false),
        (1, false),
        (4, false),
        (5, true),
        (6, false),
        (9, false),
        (10, true),
        (20, true),
        (21, false),
        (999, false),
        (1000, true),
        (1001, false),
        (1003, true),
        (1297, true),
        (1298, false),
        (1300, false),
        (999_999, false),
        (1_000_000, true),
        (2_000_000, true),
        (2_000_001, false),
        (u64::MAX - 1, false),
        (u64::MAX, true),
    ] {
        let certificate = f.certificate("a", "1", serial, "id");
        assert_eq!(f.revokes(&list, &certificate), revoked, "{serial}");
        let other_ca = f.certificate("b", "1", serial, "id");
        assert!(!f.revokes(&list, &other_ca), "{serial} of another CA");
    }
    assert!(list.certificates.iter().any(|c| !c.bitmaps.is_empty()), "a bitmap was tried");
}

#[test]
fn agrees_with_ssh_keygen_on_key_ids() {
    let f = fixture();
    let list = f.krl(&["-s", "a.pub"], "id: alice\nid: with space\n");
    for (key_id, revoked) in [("alice", true), ("with space", true), ("Alice", false), ("alice2", false), ("", false)] {
        let certificate = f.certificate("a", "1", 0, key_id);
        assert_eq!(f.revokes(&list, &certificate), revoked, "{key_id}");
    }
    assert!(!f.revokes(&list, &f.certificate("b", "1", 0, "alice")));
}

#[test]
fn none_as_ca_applies_to_any() {
    let f = fixture();
    let list = f.krl(&["-s", "none"], "id: alice\nserial: 5\n");
    for ca in ["a", "b"] {
        assert!(f.revokes(&list, &f.certificate(ca, "1", 0, "alice")));
        assert!(f.revokes(&list, &f.certificate(ca, "1", 5, "bob")));
        assert!(!f.revokes(&list, &f.certificate(ca, "1", 6, "bob")));
    }
}

#[test]
fn agrees_with_ssh_keygen_on_keys_and_hashes() {
    let f = fixture();
    for what in ["key", "sha1", "sha256"] {
        for (revoked_key, spec) in [("1", "1"), ("a", "a")] {
            let line = f.keygen.read_text(&format!("{spec}.pub"));
            let list = f.krl(&[], &format!("{what}: {line}"));
            let ours = f.certificate("a", "1", 7, "id");
            assert!(f.revokes(&list, &ours), "{what} {revoked_key}");
            let other = f.certificate("b", "2", 7, "id");
            assert!(!f.revokes(&list, &other), "{what} {revoked_key}");
            let same_key = f.certificate("b", "1", 7, "id");
            assert_eq!(f.revokes(&list, &same_key), spec == "1");
        }
    }
    let fingerprint = f.keygen.public("rsa").fingerprint();
    let list = f.krl(&[], &format!("hash: {fingerprint}\n"));
    assert!(f.revokes(&list, &f.certificate("a", "rsa", 7, "id")));
    assert!(!f.revokes(&list, &f.certificate("a", "1", 7, "id")));
    assert!(list.revokes_key(&f.keygen.public("rsa")));
    assert!(!list.revokes_key(&f.keygen.public("1")));
}

#[test]
fn a_certificate_in_a_krl_is_revoked_by_its_serial() {
    let f = fixture();
    let certificate = f.certificate("a", "1", 77, "id");
    f.keygen.run(&["-q", "-k", "-f", "krl", "1-cert.pub"]);
    let list = RevokedKeys::parse(&f.keygen.read("krl")).unwrap();
    assert!(f.revokes(&list, &certificate));
    assert!(!f.revokes(&list, &f.certificate("a", "1", 78, "id")));
}

#[test]
fn ssh_keygen_reads_the_krl_that_we_write() {
    let f = fixture();
    let mut template = KrlTemplate::new(12, UnixTime(1_700_000_000), "from the inventory\n");
    template.certificates = vec![
        RevokedOf::serials(f.keygen.public("a"), &[9, 0, u64::MAX, 3, 9, 1 << 40]),
        RevokedOf {
            ca: f.keygen.public("rsa"),
            serials: vec![(4, 4), (100, 1 << 50), (90, 101)],
            key_ids: vec!["mallory".into(), "eve".into()],
        },
        RevokedOf::serials(f.keygen.public("b"), &[0]),
    ];
    let krl = template.to_bytes();
    f.keygen.write("krl", &krl);
    let list = RevokedKeys::parse(&krl).unwrap();
    assert_eq!(list.generated(), Some(UnixTime(1_700_000_000)));
    assert_eq!(list.version(), Some(12));
    for (ca, serial, revoked) in [
        ("a", 9, true),
        ("a", 3, true),
        ("a", u64::MAX, true),
        ("a", 1 << 40, true),
        ("a", 0, false),
        ("a", 4, false),
        ("a", 8, false),
        ("rsa", 4, true),
        ("rsa", 9, false),
        ("rsa", 89, false),
        ("rsa", 90, true),
        ("rsa", 1 << 49, true),
        ("rsa", 1 << 50, true),
        ("rsa", (1 << 50) + 1, false),
        ("b", 9, false),
        ("b", 0, false),
    ] {
        let certificate = f.certificate(ca, "1", serial, "id");
        assert_eq!(f.revokes(&list, &certificate), revoked, "{ca} {serial}");
    }
    for (ca, key_id, revoked) in
        [("rsa", "mallory", true), ("rsa", "eve", true), ("rsa", "alice", false), ("a", "eve", false)]
    {
        let certificate = f.certificate(ca, "1", 7, key_id);
        assert_eq!(f.revokes(&list, &certificate), revoked, "{ca} {key_id}");
    }
    let listed = f.keygen.run(&["-Q", "-l", "-f", "krl"]);
    for expected in ["KRL version 12", "from the inventory\\x0a", "serial: 9", "2023"] {
        let escaped = expected.replace('\\', "\\\\");
        assert!(listed.contains(expected) || listed.contains(&escaped), "{expected}: {listed}");
    }
}

/// A user's, a host's or a CA's: whatever certificate is with it or by it.
#[test]
fn ssh_keygen_reads_the_keys_that_we_revoke_by_their_hash() {
    let f = fixture();
    let certificate = f.certificate("a", "1", 5, "id");
    let of = |key: PublicKey| {
        let mut template = KrlTemplate::new(1, UnixTime(1), "");
        let hash = crate::digest::sha256(key.blob());
        template.keys = vec![hash, [0; 32], hash];
        let krl = template.to_bytes();
        f.keygen.write("krl", &krl);
        RevokedKeys::parse(&krl).unwrap()
    };
    for (key, revoked) in [("1", true), ("a", true), ("2", false), ("b", false)] {
        assert_eq!(f.revokes(&of(f.keygen.public(key)), &certificate), revoked, "{key}");
    }
}

#[test]
fn an_empty_krl_revokes_nothing_but_reads() {
    let f = fixture();
    let list = f.krl(&[], "");
    assert!(!f.revokes(&list, &f.certificate("a", "1", 1, "id")));
    assert!(list.generated().is_some());
}

#[test]
fn refuses_every_cut_of_a_krl() {
    let f = fixture();
    let line = f.keygen.read_text("1.pub");
    let spec = format!("serial: 5\nserial: 10-900\nid: x\nkey: {line}sha1: {line}sha256: {line}");
    f.krl(&["-s", "a.pub"], &spec);
    let krl = f.keygen.read("krl");
    let mut cuts_that_read = Vec::new();
    for len in 0..krl.len() {
        if RevokedKeys::parse(&krl[..len]).is_ok() {
            cuts_that_read.push(len);
        }
    }
    // Between two sections a shorter file is a KRL too: nothing in the format says how many there are.
    let whole = section_ends(&krl);
    assert_eq!(cuts_that_read, whole[..whole.len() - 1]);
    let trailing = RevokedKeys::parse(&[&krl[..], &[0]].concat()).unwrap_err();
    assert_eq!(trailing, RevokedError::Malformed("truncated"));
}

/// Where a section of a KRL may end, the header first.
fn section_ends(krl: &[u8]) -> Vec<usize> {
    let mut reader = crate::wire::Reader::new(krl);
    reader.take(8 + 4 + 8 + 8 + 8).unwrap();
    reader.string().unwrap();
    reader.string().unwrap();
    let mut ends = vec![krl.len() - reader.rest().len()];
    while !reader.rest().is_empty() {
        reader.byte().unwrap();
        reader.string().unwrap();
        ends.push(krl.len() - reader.rest().len());
    }
    ends
}

fn krl_of(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = KrlTemplate::new(1, UnixTime(1), "").to_bytes();
    for (section, data) in sections {
        out.put_byte(*section);
        out.put_string(data);
    }
    out
}

/// A section on certificates of any CA with one part.
fn certificates(part: u8, data: &[u8]) -> (u8, Vec<u8>) {
    (1, [string(b""), string(b""), vec![part], string(data)].concat())
}

/// A key with a modulus of so many bits.
fn rsa_blob(bits: usize) -> Vec<u8> {
    let modulus = [vec![0, 0x80], vec![0x55; bits / 8 - 1]].concat();
    [string(b"ssh-rsa"), string(&[1, 0, 1]), string(&modulus)].concat()
}

fn extension(critical: u8) -> Vec<u8> {
    [string(b"x@example.com"), vec![critical], string(b"data")].concat()
}

#[test]
fn takes_what_may_be_passed_over() {
    let f = fixture();
    for sections in [
        vec![(255, extension(0))],
        vec![certificates(0x39, &extension(0))],
        vec![certificates(0x20, b"")],
        vec![certificates(0x22, &[1_u64.to_be_bytes().to_vec(), string(b"")].concat())],
        vec![(1, [string(b""), string(b"reserved")].concat())],
        vec![(2, Vec::new())],
        // A CA too weak for us to trust, but not to be read.
        vec![(1, [string(&rsa_blob(1024)), string(b"")].concat())],
    ] {
        let krl = krl_of(&sections);
        assert!(RevokedKeys::parse(&krl).is_ok(), "{sections:?}");
        // OpenSSH before 9.4 knows no extension, and refuses a KRL with any.
        let has_extension = krl.windows(14).any(|window| window.starts_with(b"x@example.com"));
        assert!(has_extension || f.ssh_keygen_reads(&krl), "{sections:?}");
    }
}

#[test]
fn refuses_krls_with_anything_unknown_or_wrong() {
    // docs/deviations.md: what some versions of OpenSSH read.
    const OURS_ALONE: [&str; 1] = ["it holds a signature section"];
    let f = fixture();
    let bitmap = |offset: u64, bits: &[u8]| [offset.to_be_bytes().to_vec(), string(bits)].concat();
    let range = |first: u64, last: u64| [first.to_be_bytes(), last.to_be_bytes()].concat();
    let certificate_ca = string(&string(b"ssh-ed25519-cert-v01@openssh.com"));
    for (sections, reason) in [
        (vec![(6, Vec::new())], "unknown section"),
        (vec![(0, Vec::new())], "unknown section"),
        (vec![(4, string(b""))], "it holds a signature section"),
        (vec![(255, extension(1))], "unknown critical extension"),
        (vec![(255, [extension(0), vec![0]].concat())], "trailing bytes in a section"),
        (vec![certificates(0x39, &extension(1))], "unknown critical extension"),
        (vec![certificates(0x24, b"")], "unknown section on certificates"),
        (vec![certificates(0x20, &[0; 8])], "serial 0, or a range that ends before it starts"),
        (vec![certificates(0x20, &[1; 7])], "truncated"),
        (vec![certificates(0x21, &range(0, 5))], "serial 0, or a range that ends before it starts"),
        (vec![certificates(0x21, &range(6, 5))], "serial 0, or a range that ends before it starts"),
        (vec![certificates(0x21, &[range(1, 5), vec![0]].concat())], "trailing bytes in a section"),
        (vec![certificates(0x22, &bitmap(0, &[1]))], "serial 0"),
        (vec![certificates(0x22, &bitmap(u64::MAX, &[2]))], "a bitmap beyond the last serial"),
        (vec![certificates(0x22, &bitmap(1, &[0x80]))], "a negative bitmap"),
        (vec![certificates(0x22, &bitmap(1, &[1; 2049]))], "a bitmap longer than 2048 bytes"),
        (vec![certificates(0x23, &string(b"a\0b"))], "NUL in a key ID"),
        (vec![(255, [string(b"a\0b"), vec![0], string(b"")].concat())], "NUL in an extension's name"),
        (vec![certificates(0x39, &[string(b"\0\0"), vec![0], string(b"")].concat())], "NUL in an extension's name"),
        (vec![(1, [string(&rsa_blob(1016)), string(b"")].concat())], "a CA's key"),
        (vec![(1, [string(b"junk"), string(b"")].concat())], "a CA's key"),
        (vec![(1, [certificate_ca, string(b"")].concat())], "a CA's key"),
        (vec![(3, string(&[0; 19]))], "a hash of the wrong length"),
        (vec![(5, string(&[0; 31]))], "a hash of the wrong length"),
        (vec![(5, string(&[0; 20]))], "a hash of the wrong length"),
    ] {
        let krl = krl_of(&sections);
        assert_eq!(RevokedKeys::parse(&krl).unwrap_err(), RevokedError::Malformed(reason), "{sections:?}");
        assert!(OURS_ALONE.contains(&reason) || !f.ssh_keygen_reads(&krl), "{reason}: {sections:?}");
    }
    for (comment, good) in [(&b"a\0"[..], true), (b"a\0b", false), (b"\0\0", false)] {
        let header = krl_of(&[]);
        let krl = [&header[..header.len() - 4], &string(comment)].concat();
        let expected = (!good).then_some(RevokedError::Malformed("NUL in the comment"));
        assert_eq!(RevokedKeys::parse(&krl).err(), expected, "{comment:?}");
        assert_eq!(f.ssh_keygen_reads(&krl), good, "{comment:?}");
    }
    for (at, reason) in [(11, "unknown format version"), (35, "unknown flags")] {
        let mut krl = krl_of(&[]);
        krl[at] ^= 2;
        let refused = RevokedKeys::parse(&krl).unwrap_err();
        assert_eq!(refused, RevokedError::Malformed(reason));
    }
}

#[test]
fn bitmaps_reach_their_last_bit_and_no_further() {
    let bitmap = |offset: u64, bits: &[u8]| {
        let data = [offset.to_be_bytes().to_vec(), string(bits)].concat();
        RevokedKeys::parse(&krl_of(&[certificates(0x22, &data)])).unwrap()
    };
    let revoked = |list: &RevokedKeys, serial| list.certificates[0].revokes_serial(serial);
    let list = bitmap(100, &[0, 0x80, 0x01]);
    for (serial, expected) in [(99, false), (100, true), (101, false), (115, true), (116, false)] {
        assert_eq!(revoked(&list, serial), expected, "{serial}");
    }
    let last = bitmap(u64::MAX - 1, &[0x02]);
    assert!(revoked(&last, u64::MAX) && !revoked(&last, u64::MAX - 1));
    let longest = bitmap(1, &[&[0x7f][..], &[0xff; 2047]].concat());
    assert!(revoked(&longest, 1) && revoked(&longest, 2048 * 8 - 1));
    assert!(!revoked(&longest, 2048 * 8));
    let zero = bitmap(0, &[2]);
    assert!(revoked(&zero, 1) && !revoked(&zero, 0));
}

#[test]
fn plain_list_revokes_key_and_ca_and_a_certificates_key() {
    let f = fixture();
    let line = |name: &str| f.keygen.read_text(&format!("{name}.pub"));
    let of_1 = f.certificate("a", "1", 7, "id");
    let of_2 = f.certificate("b", "2", 7, "id");
    let later = f.certificate("b", "1", 8, "other");
    for (text, revoked) in [
        (line("1"), [true, false, true]),
        (line("a"), [true, false, false]),
        (format!("# why\r\n\n  {}\t{}", line("b"), line("rsa")), [false, true, true]),
        (of_1.to_openssh(""), [true, false, true]),
        ("# nobody yet\n".into(), [false, false, false]),
    ] {
        let list = RevokedKeys::parse(text.as_bytes()).unwrap();
        assert_eq!([&of_1, &of_2, &later].map(|c| list.revokes(c)), revoked, "{text}");
        assert_eq!(list.generated(), None);
        assert_eq!(list.version(), None);
    }
    let certificate_line = RevokedKeys::parse(of_1.to_openssh("").as_bytes()).unwrap();
    assert!(certificate_line.revokes_key(&f.keygen.public("1")), "the bare key as well");
}

#[test]
fn refuses_empty_and_broken_lists() {
    let f = fixture();
    let good = f.keygen.read_text("1.pub");
    for empty in [&b""[..], b"\n", b" \n\t\n"] {
        assert_eq!(RevokedKeys::parse(empty).unwrap_err(), RevokedError::Empty);
    }
    for junk in [
        "junk",
        "\r",
        "\t\r",
        "\u{c}# a form feed is no blank",
        "ssh-ed25519 AAAA",
        "SSHKRL\n",
        "ssh-ed25519",
        "\0",
        "serial: 5",
    ] {
        for text in [junk.to_string(), format!("{good}{junk}\n"), format!("{junk}\n{good}")] {
            let refused = RevokedKeys::parse(text.as_bytes()).unwrap_err();
            let reason = "neither a KRL nor a list of keys";
            assert_eq!(refused, RevokedError::Malformed(reason), "{text:?}");
        }
    }
    let mut bad = f.certificate("a", "1", 7, "id").to_openssh("");
    bad.truncate(bad.len() - 4);
    let refused = RevokedKeys::parse(bad.as_bytes()).unwrap_err();
    assert_eq!(refused, RevokedError::Malformed("a bad certificate"));
    let unsigned = f.unsigned_certificate();
    let refused = RevokedKeys::parse(unsigned.as_bytes()).unwrap_err();
    assert_eq!(refused, RevokedError::Malformed("a bad certificate"), "sshd reads none that its CA has not signed");
}

#[test]
fn a_krl_is_fresh_up_to_its_last_second() {
    let generated = |at: u64| RevokedKeys::parse(&KrlTemplate::new(1, UnixTime(at), "").to_bytes()).unwrap();
    let list = generated(10_000);
    let day = Duration::from_secs(86400);
    assert_eq!(list.check_age(UnixTime(10_000), day), Ok(()));
    assert_eq!(list.check_age(UnixTime(96_400), day), Ok(()));
    assert_eq!(list.check_age(UnixTime(96_401), day), Err(NotFresh::Stale { age: 86401, max: 86400 }));
    assert_eq!(list.check_age(UnixTime(9_700), day), Ok(()), "clocks may differ by five minutes");
    assert_eq!(list.check_age(UnixTime(9_699), day), Err(NotFresh::FromTheFuture { ahead: 301 }));
    assert_eq!(generated(0).check_age(UnixTime(u64::MAX), day), Err(NotFresh::Stale { age: u64::MAX, max: 86400 }));
    assert_eq!(
        generated(u64::MAX).check_age(UnixTime(0), day),
        Err(NotFresh::FromTheFuture { ahead: u64::MAX }),
        "never fresh"
    );
    let plain = RevokedKeys::parse(b"# nobody\n").unwrap();
    assert_eq!(plain.check_age(UnixTime(0), day), Err(NotFresh::PlainList));
}
