//! For whom: the principals in the certificate, where no file lists any.

use crate::deviations::{NO_PRINCIPALS, NUL};
use crate::forge::CA;
use crate::row::{Row, changed, keygen, row};
use crate::wire::{string, strings};

const FORMAT: &str = "parse key: invalid format";
const NUL_IN_NAME: &str = "malformed certificate: NUL in a name";
const UNLISTED: &str = "Certificate invalid: name is not a listed principal";
const UNNAMED: &str = "certificate does not name a demanded principal: alice, the user's own";

pub fn rows() -> Vec<Row> {
    vec![
        keygen("the user", "-I alice -n alice -V -5m:+1h").accepted(),
        keygen("the user behind others", "-I alice -n bob,carol,alice -V -5m:+1h").accepted(),
        keygen("others only", "-I alice -n bob,carol -V -5m:+1h").refused(UNLISTED, UNNAMED),
        keygen("the user is the key ID and no principal", "-I alice -n ops -V -5m:+1h").refused(UNLISTED, UNNAMED),
        keygen("no principals", "-I alice -V -5m:+1h")
            .refused("Certificate lacks principal list", "certificate lists no principals"),
        row("no principals, by a cert-authority line in authorized_keys", |f| {
            let mut case = f.keygen("-I alice -V -5m:+1h");
            case.authorized_keys = Some(format!("cert-authority {}\n", f.key(CA).line()));
            case
        })
        .stricter(NO_PRINCIPALS, "certificate lists no principals"),
        row("the user, by a cert-authority line in authorized_keys", |f| {
            let mut case = f.keygen("-I alice -n alice -V -5m:+1h");
            case.authorized_keys = Some(format!("cert-authority {}\n", f.key(CA).line()));
            case
        })
        .accepted(),
        keygen("in capital letters", "-I alice -n ALICE -V -5m:+1h").refused(UNLISTED, UNNAMED),
        keygen("with one capital letter", "-I alice -n Alice -V -5m:+1h").refused(UNLISTED, UNNAMED),
        changed("*", |c| c.principals(&[b"*"])).refused(UNLISTED, UNNAMED),
        changed("al?ce", |c| c.principals(&[b"al?ce"])).refused(UNLISTED, UNNAMED),
        changed("one with a comma in it", |c| c.principals(&[b"bob,alice"])).refused(UNLISTED, UNNAMED),
        changed("one that begins like the user", |c| c.principals(&[b"alicex", b"alic"])).refused(UNLISTED, UNNAMED),
        changed("with a blank behind", |c| c.principals(&[b"alice "])).refused(UNLISTED, UNNAMED),
        changed("with a newline behind", |c| c.principals(&[b"alice\n"])).refused(UNLISTED, UNNAMED),
        changed("with the host behind", |c| c.principals(&[b"alice@nine"])).refused(UNLISTED, UNNAMED),
        changed("!alice beside alice", |c| c.principals(&[b"!alice", b"alice"])).accepted(),
        changed("a NUL inside", |c| c.principals(&[b"alice\0bob"])).refused(FORMAT, NUL_IN_NAME),
        changed("a NUL at the very end", |c| c.principals(&[b"alice\0"])).stricter(NUL, NUL_IN_NAME),
        changed("two NULs at the end", |c| c.principals(&[b"alice\0\0"])).refused(FORMAT, NUL_IN_NAME),
        changed("a NUL inside another one", |c| c.principals(&[b"alice", b"b\0b"])).refused(FORMAT, NUL_IN_NAME),
        changed("an empty one beside the user", |c| c.principals(&[b"", b"alice"])).accepted(),
        changed("an empty one alone", |c| c.principals(&[b""])).refused(UNLISTED, "certificate lists no principals"),
        changed("a lone NUL", |c| c.principals(&[b"\0"])).refused(UNLISTED, NUL_IN_NAME),
        changed("the user twice", |c| c.principals(&[b"alice", b"alice"])).accepted(),
        changed("bytes that are no UTF-8 beside the user", |c| c.principals(&[b"\xff\xfe", b"alice"])).accepted(),
        changed("256, the user last", |mut c| {
            c.principals = (0..255).flat_map(|n| string(format!("p{n}").as_bytes())).chain(string(b"alice")).collect();
            c
        })
        .accepted(),
        changed("257, the user first", |mut c| {
            c.principals =
                string(b"alice").into_iter().chain((0..256).flat_map(|n| string(format!("p{n}").as_bytes()))).collect();
            c
        })
        .refused(FORMAT, "too many principals"),
        changed("one of 60 kB beside the user", |c| c.principals(&[&[b'x'; 60_000], b"alice"])).accepted(),
        changed("a torn list", |mut c| {
            c.principals = [string(b"alice"), vec![0, 0, 0, 9, b'x']].concat();
            c
        })
        .refused(FORMAT, "malformed certificate: truncated"),
        changed("a list with two bytes behind it", |mut c| {
            c.principals = [strings(&[b"alice"]), vec![0, 0]].concat();
            c
        })
        .refused(FORMAT, "malformed certificate: truncated"),
    ]
}
