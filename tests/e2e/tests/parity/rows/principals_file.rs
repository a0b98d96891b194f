//! AuthorizedPrincipalsFile, and `authorized_principals_file=` with `require_user_principal=no`.

use crate::deviations::{NUL, PRINCIPALS, PRINCIPALS_OPTIONS, SIZE};
use crate::row::{Draft, File, Row, row};

const UNNAMED: &str = "certificate does not name a demanded principal: one of those in DIR/principals";
/// As the last, where no line counts.
const NOBODY: &str =
    "certificate does not name a demanded principal: one of those in DIR/principals, which permits nobody";
const NOT_CONTAINED: &str = "Certificate does not contain an authorized principal";

/// A certificate that names ops and web where the file is this.
fn file(name: &'static str, content: &'static str) -> Draft {
    row(name, move |f| {
        let certificate = f.certificate().principals(&[b"ops", b"web"]);
        f.issue(&certificate).principals_file(content)
    })
}

/// The same with a certificate for alice alone.
fn for_alice(name: &'static str, content: &'static str) -> Draft {
    row(name, move |f| f.good().principals_file(content))
}

pub fn rows() -> Vec<Row> {
    vec![
        file("one of them", "ops\n").accepted(),
        file("the other one, no newline at the end", "web").accepted(),
        file("among others", "admins\nops\n").accepted(),
        file("none of them", "admins\n").refused(NOT_CONTAINED, UNNAMED),
        file("the user, whom the certificate does not name", "alice\n").refused(NOT_CONTAINED, UNNAMED),
        for_alice("the user is named and not listed", "ops\n").refused(NOT_CONTAINED, UNNAMED),
        for_alice("the user is named and listed", "alice\n").accepted(),
        file("comments and blank lines", "# people\n\n   \n\t\nops # us\n").accepted(),
        file("a comment sign right behind the name", "ops#us\n").accepted(),
        file("in a comment", "#ops\n").refused(NOT_CONTAINED, NOBODY),
        file("indented", "   \tops\n").accepted(),
        file("blanks behind", "ops  \t\n").accepted(),
        file("CRLF", "ops\r\n").refused(NOT_CONTAINED, UNNAMED),
        file("capital letters", "OPS\n").refused(NOT_CONTAINED, UNNAMED),
        file("*", "*\n").refused(NOT_CONTAINED, UNNAMED),
        file("o?s", "o?s\n").refused(NOT_CONTAINED, UNNAMED),
        file("with commas", "ops,web\n").refused(NOT_CONTAINED, UNNAMED),
        file("two on a line", "ops web\n").refused(NOT_CONTAINED, NOBODY),
        file("quotes around it", "\"ops\"\n").refused(NOT_CONTAINED, UNNAMED),
        file("!ops and then ops", "!ops\nops\n").accepted(),
        file("%u", "%u\n").refused(NOT_CONTAINED, UNNAMED),
        file("empty", "").refused(NOT_CONTAINED, NOBODY),
        file("blank", "\n\n").refused(NOT_CONTAINED, NOBODY),
        file("from= of this network", "from=\"127.0.0.0/8\" ops\n").stricter(PRINCIPALS_OPTIONS, NOBODY),
        file("from= of another network", "from=\"192.0.2.1\" ops\n").refused("not from a permitted host", NOBODY),
        file("command=", "command=\"true\" ops\n").stricter(PRINCIPALS_OPTIONS, NOBODY),
        file("no-pty", "no-pty ops\n").stricter(PRINCIPALS_OPTIONS, NOBODY),
        file("expiry-time= in the future", "expiry-time=\"20990101\" ops\n").stricter(PRINCIPALS_OPTIONS, NOBODY),
        file("expiry-time= in the past", "expiry-time=\"20010101\" ops\n").refused("entry expired", NOBODY),
        file("an option that nobody knows", "frobnicate ops\n").refused(NOT_CONTAINED, NOBODY),
        file("a line that refuses before one that permits", "from=\"192.0.2.1\" ops\nops\n")
            .refused("not from a permitted host", UNNAMED),
        file("a bad option before a line that permits", "frobnicate ops\nops\n").stricter(PRINCIPALS_OPTIONS, UNNAMED),
        file("a line with options for one, a plain one for the other", "from=\"192.0.2.1\" ops\nweb\n")
            .refused("not from a permitted host", UNNAMED),
        file("a plain line before one that refuses", "ops\nfrom=\"192.0.2.1\" ops\n").accepted(),
        row("a line of 20 kB before it", |f| f.good().principals_file("x".repeat(20_000) + "\nalice\n")).accepted(),
        row("1 MiB of comments before it", |f| {
            f.good().principals_file(format!("# {}\n", "x".repeat(1021)).repeat(1024) + "alice\n")
        })
        .stricter(SIZE, "misconfigured: DIR/principals: larger than 1048576 bytes"),
        file("a NUL in a line before it", "a\0b\nops\n").accepted(),
        file("a NUL behind it", "ops\0\n").stricter(NUL, UNNAMED),
        file("a name with a blank, quoted", "\"ops \"\n").refused(NOT_CONTAINED, NOBODY),
        row("missing", |f| {
            let mut case = f.good();
            case.principals_file = Some(File::MISSING);
            case
        })
        .refused(NOT_CONTAINED, "no authorized principals for this user: DIR/principals is not there"),
        row("writable by all", |f| {
            let mut case = f.good().principals_file("alice\n");
            case.principals_file.as_mut().unwrap().mode = 0o666;
            case
        })
        .refused(
            "Authentication refused: bad ownership or modes",
            "misconfigured: DIR/principals: bad ownership or modes…",
        ),
        row("the list permits, and the line wants the user as well", |f| {
            let mut case = f.issue(&f.certificate().principals(&[b"ops"])).principals_file("ops\n");
            case.names_user_too = true;
            case
        })
        .stricter(PRINCIPALS, "certificate does not name a demanded principal: alice, the user's own"),
        row("an empty principal, and an empty line", |f| {
            f.issue(&f.certificate().principals(&[b"", b"x"])).principals_file("\n")
        })
        .refused(NOT_CONTAINED, NOBODY),
        row("no principals at all", |f| f.keygen("-I alice -V -5m:+1h").principals_file("alice\n"))
            .refused(NOT_CONTAINED, "certificate lists no principals"),
    ]
}
