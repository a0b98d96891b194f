//! TrustedUserCAKeys, and `ca_file=`.

use crate::certificate::Certificate;
use crate::deviations::{DSS, NUL_LINE, OWNER, SIZE, WEAK_LINE};
use crate::forge::{Forge, OTHER_CA};
use crate::row::{Draft, File, Row, Verdict, row};

/// And the number of a line that is none.
const JUNK: &str = "misconfigured: DIR/ca holds no CA key: line …";
const NO_CA: &str = "misconfigured: DIR/ca holds no CA key";
const CA_FORMAT: &str = "/ca: invalid format";

/// A good certificate where the CA file is this.
fn file(name: &'static str, content: impl Fn(&Forge, &str) -> String + 'static) -> Draft {
    row(name, move |forge| {
        let line = forge.ca().line();
        forge.good().ca_file(content(forge, &line))
    })
}

pub fn rows() -> Vec<Row> {
    vec![
        file("one line", |_, ca| format!("{ca}\n")).accepted(),
        file("behind other CAs", |f, ca| {
            format!("{}\n{}\n{ca}\n", f.key(OTHER_CA).line(), f.key("ecdsa-384+ca").line())
        })
        .accepted(),
        file("comments, blank lines", |_, ca| format!("# ours\n\n   \n\t\n#{ca}x\n  # more\n{ca}\n")).accepted(),
        file("indented with blanks", |_, ca| format!("    {ca}\n")).accepted(),
        file("indented with tabs", |_, ca| format!("\t\t{ca}\n")).accepted(),
        file("tabs between the words", |_, ca| ca.replace(' ', "\t") + "\n").accepted(),
        file("several blanks between the words", |_, ca| ca.replace(' ', "   ") + "\n").accepted(),
        file("CRLF", |_, ca| format!("{ca}\r\n")).accepted(),
        file("CRLF without a comment behind the key", |_, ca| format!("{}\r\n", ca.trim_end_matches(" parity")))
            .accepted(),
        file("CRLF on a line by itself", |_, ca| format!("\r\n{ca}\n")).refused(CA_FORMAT, JUNK),
        file("no newline at the end", |_, ca| ca.to_owned()).accepted(),
        file("no comment behind the key", |_, ca| format!("{}\n", ca.trim_end_matches(" parity"))).accepted(),
        file("many words behind the key", |_, ca| format!("{ca} and more, and more\n")).accepted(),
        file("a comment of 20 kB behind the key", |_, ca| format!("{ca} {}\n", "x".repeat(20_000))).accepted(),
        file("a comment line of 20 kB", |_, ca| format!("# {}\n{ca}\n", "x".repeat(20_000))).accepted(),
        file("comments that are no UTF-8", |_, ca| format!("# \u{fffd}\n{ca} \u{e9}\n")).accepted(),
        file("a certificate line before it", |f, ca| format!("{}\n{ca}\n", certificate_line(f))).accepted(),
        file("a certificate that its CA has not signed before it", |f, ca| {
            format!("{}\n{ca}\n", spoilt(&certificate_line(f)))
        })
        .refused("/ca: incorrect signature", JUNK),
        file("a certificate with a SHA-1 signature before it", |f, ca| {
            let other = f.key(OTHER_CA);
            let blob = Certificate::of(&other).sign_by("ssh-rsa", &f.key("rsa-3072+ca"));
            format!("{}\n{ca}\n", crate::keys::line(&other.certificate_type_name(), &blob))
        })
        .stricter(WEAK_LINE, JUNK),
        file("a line that starts with a NUL before it", |_, ca| format!("\0x\n{ca}\n")).stricter(NUL_LINE, JUNK),
        file("1 MiB of comments before it", |_, ca| format!("# {}\n", "x".repeat(1021)).repeat(1024) + ca)
            .stricter(SIZE, "misconfigured: DIR/ca: larger than 1048576 bytes"),
        file("a certificate line alone", |f, _| certificate_line(f) + "\n").refused("/ca: key not found", NO_CA),
        file("junk before it", |_, ca| format!("junk\n{ca}\n")).refused(CA_FORMAT, JUNK),
        file("junk behind it", |_, ca| format!("{ca}\njunk\n")).accepted(),
        file("bad base64 before it", |_, ca| format!("ssh-ed25519 AAAA*\n{ca}\n")).refused(CA_FORMAT, JUNK),
        file("a torn key before it", |f, ca| format!("{}\n{ca}\n", torn(&f.key(OTHER_CA).line())))
            .refused("/ca: incomplete message", JUNK),
        file("it is torn", |_, ca| torn(ca)).refused("/ca: incomplete message", JUNK),
        file("padding left out", |f, ca| format!("{}\n", ca.replace(&f.ca().line(), &f.ca().line().replace('=', ""))))
            .accepted(),
        file("the wrong type's name before it", |_, ca| ca.replace("ssh-ed25519", "ecdsa-sha2-nistp256") + "\n")
            .refused("/ca: key type does not match", JUNK),
        file("the type's name in capital letters", |_, ca| ca.replace("ssh-ed25519", "SSH-ED25519") + "\n")
            .refused(CA_FORMAT, JUNK),
        file("its base64 alone", |_, ca| ca.split(' ').nth(1).unwrap().to_owned() + "\n").refused(CA_FORMAT, JUNK),
        file("options before the key", |_, ca| format!("cert-authority {ca}\n")).refused(CA_FORMAT, JUNK),
        file("restrict before the key", |_, ca| format!("restrict {ca}\n")).refused(CA_FORMAT, JUNK),
        file("an SSH1 line before it", |_, ca| format!("1024 65537 123456789 root@old\n{ca}\n"))
            .refused(CA_FORMAT, JUNK),
        file("an unknown type before it", |_, ca| format!("ssh-ed448 AAAACXNzaC1lZDQ0OAAAAAEx\n{ca}\n"))
            .refused(CA_FORMAT, JUNK),
        file("ssh-dss before it", |f, ca| format!("{}{ca}\n", f.dsa_line()))
            .judged(Verdict::Accepted, Verdict::Refused(CA_FORMAT), Verdict::Refused(JUNK))
            .within_sshd(Verdict::Refused(JUNK))
            .deviation(DSS)
            .follows_10("it no longer knows the type"),
        file("an RSA key of 1024 bits before it", |f, ca| format!("{}\n{ca}\n", f.key("rsa-1024").line())).accepted(),
        file("an RSA key of 1023 bits before it", |f, ca| format!("{}\n{ca}\n", f.key("rsa-1023-e65537").line()))
            .accepted(),
        file("an RSA key of 8200 bits before it", |f, ca| format!("{}\n{ca}\n", f.key("rsa-8200-e65537").line()))
            .accepted(),
        file("a NUL in a line before it", |_, ca| format!("# a\0b\n{ca}\n")).accepted(),
        file("a NUL behind the key", |_, ca| format!("{ca}\0\n")).accepted(),
        file("a byte order mark before it", |_, ca| format!("\u{feff}{ca}\n")).refused(CA_FORMAT, JUNK),
        file("old Mac line ends", |_, ca| format!("# ours\r{ca}\r")).refused("/ca: key not found", NO_CA),
        file("a vertical tab before it", |_, ca| format!("\u{b}{ca}\n")).refused(CA_FORMAT, JUNK),
        file("quotes around it", |_, ca| format!("\"{ca}\"\n")).refused(CA_FORMAT, JUNK),
        file("only another CA", |f, _| f.key(OTHER_CA).line() + "\n")
            .refused("/ca: key not found", "CA … is not trusted"),
        file("the CA in a comment", |_, ca| format!("#{ca}\n")).refused("/ca: key not found", NO_CA),
        file("empty", |_, _| String::new()).refused("/ca: key not found", NO_CA),
        file("blank", |_, _| "\n\n".to_owned()).refused("/ca: key not found", NO_CA),
        row("missing", |f| {
            let mut case = f.good();
            case.ca_file = File::MISSING;
            case
        })
        .refused("/ca: No such file or directory", "misconfigured: DIR/ca: No such file or directory (os error 2)"),
        row("writable by all", |f| {
            let mut case = f.good();
            case.ca_file.mode = 0o666;
            case
        })
        .stricter(OWNER, "misconfigured: DIR/ca: bad ownership or modes…"),
        row("writable by the group", |f| {
            let mut case = f.good();
            case.ca_file.mode = 0o664;
            case
        })
        .stricter(OWNER, "misconfigured: DIR/ca: bad ownership or modes…"),
        row("readable by root alone", |f| {
            let mut case = f.good();
            case.ca_file.mode = 0o600;
            case
        })
        .accepted(),
    ]
}

fn certificate_line(forge: &Forge) -> String {
    let other = forge.key(OTHER_CA);
    crate::keys::line(&other.certificate_type_name(), &Certificate::of(&other).sign(&forge.ca()))
}

/// The last byte of its signature is another one.
fn spoilt(line: &str) -> String {
    use base64ct::{Base64, Encoding};
    let (name, rest) = line.split_once(' ').unwrap();
    let mut blob = Base64::decode_vec(rest.trim_end_matches(" parity")).unwrap();
    *blob.last_mut().unwrap() ^= 1;
    crate::keys::line(name, &blob)
}

/// The key lacks its last eight characters.
fn torn(line: &str) -> String {
    let key = line.trim_end_matches(" parity");
    key[..key.len() - 8].to_owned()
}
