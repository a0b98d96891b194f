//! RevokedKeys, and `revoked_keys=`: KRLs by ssh-keygen, KRLs by hand, plain lists.

use base64ct::{Base64Unpadded, Encoding};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::certificate::Certificate;
use crate::deviations::{DSS, EMPTY_LIST, KRL, NUL_LINE, OWNER, PLAIN_LIST, WEAK_LINE};
use crate::forge::{CA, Forge, OTHER_CA, USER_KEY};
use crate::krl::{
    CERT_EXTENSION, CERTIFICATES, EXPLICIT_KEY, EXTENSION, KEY_ID, SERIAL_BITMAP, SERIAL_LIST, SERIAL_RANGE, SHA1,
    SHA256, SIGNATURE, certificates, extension, krl, section, serials, with_header,
};
use crate::row::{Draft, File, Row, Verdict, row};
use crate::wire::{Take, string, strings};

/// What pam_ussh says of a list that it cannot read.
macro_rules! broken {
    ($why:literal) => {
        concat!("misconfigured: DIR/revoked: the revocation list is broken: ", $why)
    };
}

/// The good certificate (serial 7, key ID alice) where the list is this.
fn list(name: &'static str, content: impl Fn(&Forge) -> Vec<u8> + 'static) -> Draft {
    row(name, move |f| {
        let content = content(f);
        f.good().revoked(content)
    })
}

/// A certificate of this serial where the list is this.
fn serial(name: &'static str, serial: u64, content: impl Fn(&Forge) -> Vec<u8> + 'static) -> Draft {
    row(name, move |f| {
        let mut certificate = f.certificate();
        certificate.serial = serial;
        let content = content(f);
        f.issue(&certificate).revoked(content)
    })
}

/// What ssh-keygen makes of a specification, about certificates of the CA.
fn specified(name: &'static str, specification: &'static str) -> Draft {
    list(name, move |f| {
        f.ca();
        f.krl(CA, specification)
    })
}

const BY_FILE: &str = "revoked by file";
const REVOKED: &str = "certificate is revoked";

pub fn krl_by_ssh_keygen() -> Vec<Row> {
    let fingerprint = |blob: &[u8]| Base64Unpadded::encode_string(&Sha256::digest(blob));
    vec![
        specified("empty", "").accepted(),
        specified("serial", "serial: 7\n").refused(BY_FILE, REVOKED),
        specified("serials around it", "serial: 6\nserial: 8\n").accepted(),
        specified("serial range", "serial: 5-9\n").refused(BY_FILE, REVOKED),
        specified("serial range that begins with it", "serial: 7-9\n").refused(BY_FILE, REVOKED),
        specified("serial range that ends with it", "serial: 5-7\n").refused(BY_FILE, REVOKED),
        specified("serial range up to the one before", "serial: 1-6\n").accepted(),
        specified(
            "many serials, as a bitmap",
            "serial: 1\nserial: 3\nserial: 4\nserial: 7\nserial: 9\nserial: 11\nserial: 14\n",
        )
        .refused(BY_FILE, REVOKED),
        specified(
            "many serials without it, as a bitmap",
            "serial: 1\nserial: 3\nserial: 4\nserial: 6\nserial: 9\nserial: 11\nserial: 14\n",
        )
        .accepted(),
        serial("the last serial", u64::MAX, |f| f.krl(CA, "serial: 18446744073709551615\n")).refused(BY_FILE, REVOKED),
        serial("serial 0 and a range from 1 on", 0, |f| f.krl(CA, "serial: 1-18446744073709551615\n")).accepted(),
        specified("key ID", "id: alice\n").refused(BY_FILE, REVOKED),
        specified("key ID in capital letters", "id: Alice\n").accepted(),
        specified("another key ID", "id: alic\n").accepted(),
        list("serial of any CA", |f| f.krl("none", "serial: 7\n")).refused(BY_FILE, REVOKED),
        list("key ID of any CA", |f| f.krl("none", "id: alice\n")).refused(BY_FILE, REVOKED),
        list("serial of another CA", |f| {
            f.key(OTHER_CA);
            f.krl(OTHER_CA, "serial: 7\n")
        })
        .accepted(),
        list("its key", |f| {
            let key = f.key(USER_KEY).line();
            f.krl(CA, &format!("key: {key}\n"))
        })
        .refused(BY_FILE, REVOKED),
        list("another key", |f| f.krl(CA, &format!("key: {}\n", f.key("ed25519+other").line()))).accepted(),
        list("its certificate, by its line", |f| {
            f.ca();
            let blob = f.certificate().sign(&f.ca());
            f.krl(CA, &(crate::keys::line("ssh-ed25519-cert-v01@openssh.com", &blob) + "\n"))
        })
        .refused(BY_FILE, REVOKED),
        list("the CA's key", |f| f.krl(CA, &format!("key: {}\n", f.ca().line()))).refused(BY_FILE, REVOKED),
        list("SHA-1 of its key", |f| f.krl(CA, &format!("sha1: {}\n", f.key(USER_KEY).line())))
            .refused(BY_FILE, REVOKED),
        list("SHA-256 of its key", |f| f.krl(CA, &format!("sha256: {}\n", f.key(USER_KEY).line())))
            .refused(BY_FILE, REVOKED),
        list("SHA-256 of the CA's key", |f| f.krl(CA, &format!("sha256: {}\n", f.ca().line())))
            .refused(BY_FILE, REVOKED),
        list("SHA-1 of the CA's key", |f| f.krl(CA, &format!("sha1: {}\n", f.ca().line()))).refused(BY_FILE, REVOKED),
        list("hash of its key", move |f| {
            f.krl(CA, &format!("hash: SHA256:{}\n", fingerprint(&f.key(USER_KEY).blob())))
        })
        .refused(BY_FILE, REVOKED),
        list("hash of the CA's key", move |f| f.krl(CA, &format!("hash: SHA256:{}\n", fingerprint(&f.ca().blob()))))
            .refused(BY_FILE, REVOKED),
        list("hash of the certificate itself", move |f| {
            let blob = f.certificate().sign(&f.ca());
            f.krl(CA, &format!("hash: SHA256:{}\n", fingerprint(&blob)))
        })
        .accepted(),
        row("two CAs in one list", |f| {
            f.key(OTHER_CA);
            let first = f.krl(OTHER_CA, "serial: 1\n");
            f.write("krl", first);
            f.write("specification", "serial: 7\n");
            f.ca();
            f.ssh_keygen(&["-q", "-k", "-u", "-f", "krl", "-s", "ca.pub", "specification"]);
            f.good().revoked(f.read("krl"))
        })
        .refused(BY_FILE, REVOKED),
        specified("serial, key ID and key in one", "serial: 100\nid: mallory\nserial: 5-8\n").refused(BY_FILE, REVOKED),
    ]
}

/// A KRL of these sections, where `ca` is the CA's blob.
fn by_hand(name: &'static str, sections: impl Fn(Vec<u8>) -> Vec<Vec<u8>> + 'static) -> Draft {
    list(name, move |f| krl(&sections(f.ca().blob())))
}

pub fn krl_by_hand() -> Vec<Row> {
    vec![
        by_hand("no section", |_| vec![]).accepted(),
        by_hand("a list of serials", |ca| vec![certificates(&ca, &[section(SERIAL_LIST, &serials(&[3, 7]))])])
            .refused(BY_FILE, REVOKED),
        by_hand("a list of serials out of order", |ca| {
            vec![certificates(&ca, &[section(SERIAL_LIST, &serials(&[7, 3]))])]
        })
        .refused(BY_FILE, REVOKED),
        by_hand("a list of no serials", |ca| vec![certificates(&ca, &[section(SERIAL_LIST, b"")])]).accepted(),
        by_hand("a torn list of serials", |ca| vec![certificates(&ca, &[section(SERIAL_LIST, &[0, 0, 0])])])
            .refused("/revoked: incomplete message", broken!("truncated")),
        by_hand("serial 0 in a list", |ca| vec![certificates(&ca, &[section(SERIAL_LIST, &serials(&[0]))])])
            .refused("/revoked: invalid argument", broken!("serial 0, or a range that ends before it starts")),
        by_hand("a range", |ca| vec![certificates(&ca, &[section(SERIAL_RANGE, &serials(&[1, 10]))])])
            .refused(BY_FILE, REVOKED),
        by_hand("a range of all", |ca| vec![certificates(&ca, &[section(SERIAL_RANGE, &serials(&[1, u64::MAX]))])])
            .refused(BY_FILE, REVOKED),
        by_hand("a range from 0 on", |ca| vec![certificates(&ca, &[section(SERIAL_RANGE, &serials(&[0, 10]))])])
            .refused("/revoked: invalid argument", broken!("serial 0, or a range that ends before it starts")),
        by_hand("a range that ends before it starts", |ca| {
            vec![certificates(&ca, &[section(SERIAL_RANGE, &serials(&[10, 1]))])]
        })
        .refused("/revoked: invalid argument", broken!("serial 0, or a range that ends before it starts")),
        by_hand("a range with bytes behind it", |ca| {
            vec![certificates(&ca, &[section(SERIAL_RANGE, &[serials(&[50, 60]), vec![0]].concat())])]
        })
        .refused("KRL certificate section contains unparsed data", broken!("trailing bytes in a section")),
        by_hand("ranges that overlap", |ca| {
            vec![certificates(
                &ca,
                &[section(SERIAL_RANGE, &serials(&[1, 5])), section(SERIAL_RANGE, &serials(&[4, 8]))],
            )]
        })
        .refused(BY_FILE, REVOKED),
        by_hand("a bitmap", |ca| {
            vec![certificates(&ca, &[section(SERIAL_BITMAP, &[serials(&[5]), string(&[0b101])].concat())])]
        })
        .refused(BY_FILE, REVOKED),
        by_hand("a bitmap without it", |ca| {
            vec![certificates(&ca, &[section(SERIAL_BITMAP, &[serials(&[5]), string(&[0b1011])].concat())])]
        })
        .accepted(),
        by_hand("a bitmap with zeros in front", |ca| {
            vec![certificates(&ca, &[section(SERIAL_BITMAP, &[serials(&[5]), string(&[0, 0, 0b100])].concat())])]
        })
        .refused(BY_FILE, REVOKED),
        by_hand("a negative bitmap", |ca| {
            vec![certificates(&ca, &[section(SERIAL_BITMAP, &[serials(&[50]), string(&[0x80])].concat())])]
        })
        .refused("/revoked: bignum is negative", broken!("a negative bitmap")),
        by_hand("an empty bitmap", |ca| {
            vec![certificates(&ca, &[section(SERIAL_BITMAP, &[serials(&[5]), string(b"")].concat())])]
        })
        .accepted(),
        by_hand("a bitmap of 2048 bytes", |ca| {
            vec![certificates(
                &ca,
                &[section(
                    SERIAL_BITMAP,
                    &[serials(&[1 << 40]), string(&[&[0x7f][..], &[0xff; 2047]].concat())].concat(),
                )],
            )]
        })
        .accepted(),
        by_hand("a bitmap of 2049 bytes", |ca| {
            vec![certificates(
                &ca,
                &[section(
                    SERIAL_BITMAP,
                    &[serials(&[1 << 40]), string(&[&[0x7f][..], &[0xff; 2048]].concat())].concat(),
                )],
            )]
        })
        .refused("/revoked: bignum is too large", broken!("a bitmap longer than 2048 bytes")),
        by_hand("a bitmap that begins at 0 with bit 0", |ca| {
            vec![certificates(&ca, &[section(SERIAL_BITMAP, &[serials(&[0]), string(&[1])].concat())])]
        })
        .refused("/revoked: invalid argument", broken!("serial 0")),
        by_hand("a bitmap beyond the last serial", |ca| {
            vec![certificates(&ca, &[section(SERIAL_BITMAP, &[serials(&[u64::MAX - 1]), string(&[0b111])].concat())])]
        })
        .refused("parse_revoked_certs: bitmap wraps u64", broken!("a bitmap beyond the last serial")),
        by_hand("key IDs", |ca| vec![certificates(&ca, &[section(KEY_ID, &strings(&[b"bob", b"alice"]))])])
            .refused(BY_FILE, REVOKED),
        by_hand("a key ID with a NUL at its end", |ca| {
            vec![certificates(&ca, &[section(KEY_ID, &strings(&[b"alice\0"]))])]
        })
        .refused(BY_FILE, REVOKED),
        by_hand("a key ID with a NUL inside", |ca| vec![certificates(&ca, &[section(KEY_ID, &strings(&[b"b\0b"]))])])
            .refused("/revoked: invalid format", broken!("NUL in a key ID")),
        by_hand("a key ID twice", |ca| vec![certificates(&ca, &[section(KEY_ID, &strings(&[b"bob", b"bob"]))])])
            .accepted(),
        row("an empty key ID, revoked", |f| {
            let mut certificate = f.certificate();
            certificate.key_id = Vec::new();
            f.issue(&certificate).revoked(krl(&[certificates(&f.ca().blob(), &[section(KEY_ID, &strings(&[b""]))])]))
        })
        .refused(BY_FILE, REVOKED),
        by_hand("any CA, two sections", |_| {
            vec![
                certificates(b"", &[section(SERIAL_LIST, &serials(&[3]))]),
                certificates(b"", &[section(SERIAL_LIST, &serials(&[7]))]),
            ]
        })
        .refused(BY_FILE, REVOKED),
        by_hand("one CA, two sections", |ca| {
            vec![
                certificates(&ca, &[section(SERIAL_LIST, &serials(&[7]))]),
                certificates(&ca, &[section(SERIAL_LIST, &serials(&[3]))]),
            ]
        })
        .refused(BY_FILE, REVOKED),
        by_hand("any CA before this CA", |ca| {
            vec![
                certificates(b"", &[section(KEY_ID, &strings(&[b"bob"]))]),
                certificates(&ca, &[section(KEY_ID, &strings(&[b"alice"]))]),
            ]
        })
        .refused(BY_FILE, REVOKED),
        list("another CA before this CA", |f| {
            krl(&[
                certificates(&f.key(OTHER_CA).blob(), &[section(SERIAL_LIST, &serials(&[3]))]),
                certificates(&f.ca().blob(), &[section(SERIAL_LIST, &serials(&[7]))]),
            ])
        })
        .refused(BY_FILE, REVOKED),
        by_hand("a CA of which nothing is revoked", |ca| vec![certificates(&ca, &[])]).accepted(),
        by_hand("a CA key that cannot be read", |_| {
            vec![certificates(b"junk", &[section(SERIAL_LIST, &serials(&[7]))])]
        })
        .refused("/revoked: invalid format", broken!("a CA's key")),
        list("a weak RSA key as CA", |f| {
            krl(&[certificates(&f.key("rsa-1023-e65537").blob(), &[section(SERIAL_LIST, &serials(&[7]))])])
        })
        .refused("/revoked: Invalid key length", broken!("a CA's key")),
        list("an RSA key of 1024 bits as CA", |f| {
            krl(&[certificates(&f.key("rsa-1024").blob(), &[section(SERIAL_LIST, &serials(&[7]))])])
        })
        .accepted(),
        list("an RSA key of 8200 bits as CA", |f| {
            krl(&[certificates(&f.key("rsa-8200-e65537").blob(), &[section(SERIAL_LIST, &serials(&[7]))])])
        })
        .accepted(),
        list("a certificate as CA", |f| {
            let other = f.key(OTHER_CA);
            krl(&[certificates(&Certificate::of(&other).sign(&f.ca()), &[section(SERIAL_LIST, &serials(&[9]))])])
        })
        .stricter(KRL, broken!("a CA's key")),
        by_hand("a part that nobody knows", |ca| vec![certificates(&ca, &[section(0x30, b"x")])])
            .refused("Unsupported KRL certificate section 48", broken!("unknown section on certificates")),
        by_hand("a section that nobody knows", |_| vec![section(77, b"x")])
            .refused("Unsupported KRL section 77", broken!("unknown section")),
        by_hand("the first section cut off", |ca| {
            let whole = certificates(&ca, &[section(SERIAL_LIST, &serials(&[9]))]);
            vec![whole[..whole.len() - 1].to_vec()]
        })
        .refused("/revoked: incomplete message", broken!("truncated")),
        by_hand("a byte behind the last section", |ca| {
            vec![certificates(&ca, &[section(SERIAL_LIST, &serials(&[9]))]), vec![1]]
        })
        .refused("/revoked: incomplete message", broken!("truncated")),
        by_hand("certificates with nothing in the section", |_| vec![section(CERTIFICATES, b"")])
            .refused("/revoked: incomplete message", broken!("truncated")),
        list("explicit key", |f| krl(&[section(EXPLICIT_KEY, &string(&f.key(USER_KEY).blob()))]))
            .refused(BY_FILE, REVOKED),
        list("explicit key of the CA", |f| krl(&[section(EXPLICIT_KEY, &string(&f.ca().blob()))]))
            .refused(BY_FILE, REVOKED),
        list("explicit key: the certificate itself", |f| {
            krl(&[section(EXPLICIT_KEY, &string(&f.certificate().sign(&f.ca())))])
        })
        .accepted(),
        list("explicit key: junk", |_| krl(&[section(EXPLICIT_KEY, &string(b"junk"))])).accepted(),
        list("explicit key: empty", |_| krl(&[section(EXPLICIT_KEY, &string(b""))])).accepted(),
        list("explicit key: torn", |_| krl(&[section(EXPLICIT_KEY, &[0, 0, 0, 9])]))
            .refused("/revoked: incomplete message", broken!("truncated")),
        list("SHA-1", |f| krl(&[section(SHA1, &string(&Sha1::digest(f.key(USER_KEY).blob())))]))
            .refused(BY_FILE, REVOKED),
        list("SHA-256", |f| krl(&[section(SHA256, &string(&Sha256::digest(f.key(USER_KEY).blob())))]))
            .refused(BY_FILE, REVOKED),
        list("SHA-256 of another key", |f| krl(&[section(SHA256, &string(&Sha256::digest(f.key(OTHER_CA).blob())))]))
            .accepted(),
        list("SHA-256 out of order", |f| {
            krl(&[section(SHA256, &strings(&[&[0xff; 32], &Sha256::digest(f.key(USER_KEY).blob())]))])
        })
        .refused(BY_FILE, REVOKED),
        list("SHA-1 of 21 bytes", |_| krl(&[section(SHA1, &string(&[1; 21]))]))
            .refused("blob_section: bad length", broken!("a hash of the wrong length")),
        list("SHA-256 of 20 bytes", |_| krl(&[section(SHA256, &string(&[1; 20]))]))
            .refused("blob_section: bad length", broken!("a hash of the wrong length")),
        list("an extension that is not critical", |f| {
            krl(&[section(EXTENSION, &extension(b"x@example.com", false)), explicit(f)])
        })
        .refused_in_words("Unsupported KRL section 255", BY_FILE, REVOKED),
        list("an extension that is not critical, and nothing revoked", |_| {
            krl(&[section(EXTENSION, &extension(b"x@example.com", false))])
        })
        .judged(Verdict::Refused("Unsupported KRL section 255"), Verdict::Accepted, Verdict::Accepted)
        .follows_10("PROTOCOL.krl says since 9.4 that one that is not critical may be passed over"),
        by_hand("an extension of certificates that is not critical, and nothing revoked", |ca| {
            vec![certificates(&ca, &[section(CERT_EXTENSION, &extension(b"x@example.com", false))])]
        })
        .judged(Verdict::Refused("Unsupported KRL certificate section 57"), Verdict::Accepted, Verdict::Accepted)
        .follows_10("PROTOCOL.krl says since 9.4 that one that is not critical may be passed over"),
        list("a NUL in an extension's name", |_| krl(&[section(EXTENSION, &extension(b"a\0b", false))]))
            .refused_in_words(
                "Unsupported KRL section 255",
                "/revoked: invalid format",
                broken!("NUL in an extension's name"),
            ),
        list("an extension that is critical", |_| krl(&[section(EXTENSION, &extension(b"x@example.com", true))]))
            .refused_in_words(
                "Unsupported KRL section 255",
                "KRL contains unsupported critical section",
                broken!("unknown critical extension"),
            ),
        by_hand("an extension of certificates that is not critical", |ca| {
            vec![certificates(
                &ca,
                &[section(CERT_EXTENSION, &extension(b"x@example.com", false)), section(SERIAL_LIST, &serials(&[7]))],
            )]
        })
        .refused_in_words("Unsupported KRL certificate section 57", BY_FILE, REVOKED),
        by_hand("an extension of certificates that is critical", |ca| {
            vec![certificates(
                &ca,
                &[section(CERT_EXTENSION, &extension(b"x@example.com", true)), section(SERIAL_LIST, &serials(&[9]))],
            )]
        })
        .refused_in_words(
            "Unsupported KRL certificate section 57",
            "KRL contains unsupported critical certificate subsection",
            broken!("unknown critical extension"),
        ),
        list("an extension with bytes behind it", |_| {
            krl(&[section(EXTENSION, &[extension(b"x@example.com", false), vec![0]].concat())])
        })
        .refused_in_words(
            "Unsupported KRL section 255",
            "KRL has invalid extension section: trailing data",
            broken!("trailing bytes in a section"),
        ),
        list("a signature", |f| {
            let ca = f.ca();
            let body = krl(&[certificates(&ca.blob(), &[section(SERIAL_LIST, &serials(&[9]))])]);
            let signed = [body, vec![SIGNATURE], string(&ca.blob())].concat();
            let signature = ca.sign(&signed);
            [signed, string(&signature)].concat()
        })
        .stricter(KRL, broken!("it holds a signature section")),
        list("a bad signature", |f| {
            let ca = f.ca();
            [krl(&[]), vec![SIGNATURE], string(&ca.blob()), string(&ca.sign(b"something else"))].concat()
        })
        .judged(
            Verdict::Refused("/revoked: incorrect signature"),
            Verdict::Accepted,
            Verdict::Refused(broken!("it holds a signature section")),
        )
        .deviation(KRL)
        .follows_9(
            "10 no longer looks at signatures in a KRL; one that is not looked at is a promise that nobody keeps",
        ),
        list("format version 2", |_| with_header(2, 0, &[])).refused_in_words(
            "/revoked: invalid format",
            "ssh_krl_from_blob: unsupported KRL format version 2",
            broken!("unknown format version"),
        ),
        list("flags", |_| with_header(1, 1, &[])).stricter(KRL, broken!("unknown flags")),
        list("a NUL in the comment", |_| {
            let whole = krl(&[]);
            [&whole[..whole.len() - 16], &string(b"a\0b")].concat()
        })
        .refused("/revoked: invalid format", broken!("NUL in the comment")),
        list("the magic alone", |_| b"SSHKRL\n\0".to_vec())
            .refused("/revoked: incomplete message", broken!("truncated")),
        list("a torn header", |_| krl(&[])[..20].to_vec()).refused_in_words(
            "/revoked: incomplete message",
            "ssh_krl_from_blob: parse KRL header: incomplete message",
            broken!("truncated"),
        ),
        list("zeros behind the magic", |_| [b"SSHKRL\n\0".to_vec(), vec![0; 100]].concat()).refused_in_words(
            "/revoked: invalid format",
            "ssh_krl_from_blob: unsupported KRL format version 0",
            broken!("unknown format version"),
        ),
    ]
}

fn explicit(forge: &Forge) -> Vec<u8> {
    section(EXPLICIT_KEY, &string(&forge.key(USER_KEY).blob()))
}

pub fn plain() -> Vec<Row> {
    let text = |name: &'static str, content: fn(&Forge) -> String| list(name, move |f| content(f).into_bytes());
    let mode = |name: &'static str, mode: u32| {
        row(name, move |f| {
            let mut case = f.good().revoked(f.key(OTHER_CA).line() + "\n");
            case.revoked_keys.as_mut().unwrap().mode = mode;
            case
        })
    };
    vec![
        text("its key", |f| f.key(USER_KEY).line() + "\n").refused(BY_FILE, REVOKED),
        text("the CA's key", |f| f.ca().line() + "\n").refused(BY_FILE, REVOKED),
        text("another key", |f| f.key("ed25519+other").line() + "\n").accepted(),
        text("its key behind others, no newline at the end", |f| {
            format!("{}\n{}", f.key(OTHER_CA).line(), f.key(USER_KEY).line())
        })
        .refused(BY_FILE, REVOKED),
        text("its certificate", |f| certificate_line(&f.certificate().sign(&f.ca()))).refused(BY_FILE, REVOKED),
        text("another certificate of its key, by another CA", |f| {
            certificate_line(&f.certificate().sign(&f.key(OTHER_CA)))
        })
        .refused(BY_FILE, REVOKED),
        text("another certificate of the CA", |f| {
            certificate_line(&Certificate::of(&f.key("ed25519+other")).sign(&f.ca()))
        })
        .accepted(),
        text("a certificate that its CA has not signed", |f| {
            let mut blob = Certificate::of(&f.key("ed25519+other")).sign(&f.ca());
            *blob.last_mut().unwrap() ^= 1;
            certificate_line(&blob)
        })
        .refused("/revoked: incorrect signature", broken!("a bad certificate")),
        text("another certificate of the CA, with a SHA-1 signature", |f| {
            certificate_line(&Certificate::of(&f.key("ed25519+other")).sign_by("ssh-rsa", &f.key("rsa-3072+ca")))
        })
        .stricter(WEAK_LINE, broken!("a bad certificate")),
        text("comments and blank lines, then its key", |f| format!("# gone\n\n  # x\n\t{}\n", f.key(USER_KEY).line()))
            .refused(BY_FILE, REVOKED),
        text("its key in a comment", |f| format!("#{}\n", f.key(USER_KEY).line())).accepted(),
        text("CRLF", |f| f.key(USER_KEY).line().trim_end_matches(" parity").to_owned() + "\r\n")
            .refused(BY_FILE, REVOKED),
        text("CRLF, another key", |f| f.key(OTHER_CA).line() + "\r\n").accepted(),
        text("CRLF, a blank line", |f| format!("\r\n{}\r\n", f.key(OTHER_CA).line()))
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        text("a bad line before its key", |f| format!("junk\n{}\n", f.key(USER_KEY).line()))
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        text("a bad line before another key", |f| format!("junk\n{}\n", f.key(OTHER_CA).line()))
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        text("a bad line behind its key", |f| format!("{}\njunk\n", f.key(USER_KEY).line()))
            .refused(BY_FILE, broken!("neither a KRL nor a list of keys")),
        text("a bad line behind another key", |f| format!("{}\njunk\n", f.key(OTHER_CA).line()))
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        text("options before its key", |f| format!("restrict {}\n", f.key(USER_KEY).line()))
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        text("a torn key", |f| f.key(OTHER_CA).line()[..50].to_owned())
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        text("junk", |_| "junk\n".to_owned())
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        text("a fingerprint", |_| "SHA256:abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG\n".to_owned())
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        text("an RSA key of 1024 bits", |f| f.key("rsa-1024").line() + "\n").accepted(),
        text("an RSA key of 1023 bits", |f| f.key("rsa-1023-e65537").line() + "\n").accepted(),
        text("an RSA key of 8200 bits", |f| f.key("rsa-8200-e65537").line() + "\n").accepted(),
        text("ssh-dss", |f| f.dsa_line())
            .judged(
                Verdict::Accepted,
                Verdict::Refused("/revoked: invalid format"),
                Verdict::Refused(broken!("neither a KRL nor a list of keys")),
            )
            .within_sshd(Verdict::Refused(broken!("neither a KRL nor a list of keys")))
            .deviation(DSS)
            .follows_10("it no longer knows the type"),
        text("an unknown type", |_| "ssh-ed448 AAAACXNzaC1lZDQ0OAAAAAEx\n".to_owned())
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        text("zero bytes", |_| String::new())
            .stricter(EMPTY_LIST, "misconfigured: DIR/revoked: the revocation list is empty"),
        text("blank lines", |_| "\n\n".to_owned())
            .stricter(PLAIN_LIST, "misconfigured: DIR/revoked: the revocation list is empty"),
        text("a comment alone", |_| "# nothing is revoked\n".to_owned()).accepted(),
        text("a lone NUL", |_| "\0".to_owned()).stricter(NUL_LINE, broken!("neither a KRL nor a list of keys")),
        list("random bytes", |_| (0..=255).rev().collect())
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        list("a KRL behind a blank line", |f| [b"\n".to_vec(), f.krl(CA, "serial: 9\n")].concat())
            .refused("/revoked: invalid format", broken!("neither a KRL nor a list of keys")),
        row("missing", |f| {
            let mut case = f.good();
            case.revoked_keys = Some(File::MISSING);
            case
        })
        .refused(
            "/revoked: No such file or directory",
            "misconfigured: DIR/revoked: No such file or directory (os error 2)",
        ),
        mode("writable by all", 0o666).stricter(OWNER, "misconfigured: DIR/revoked: bad ownership or modes…"),
        mode("writable by the group", 0o664).stricter(OWNER, "misconfigured: DIR/revoked: bad ownership or modes…"),
        mode("readable by root alone", 0o600).accepted(),
    ]
}

fn certificate_line(blob: &[u8]) -> String {
    let name = String::from_utf8(Take(blob).string().to_vec()).unwrap();
    crate::keys::line(&name, blob) + "\n"
}
