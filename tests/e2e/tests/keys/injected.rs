//! Keys that the CA makes: of the kind that the rule allows or the user asks for, in place of those that it made before, and of nothing else.

use super::{WORLD, registered_key, rows, sh, with_password};

const ECDSA: &str = "ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate";

#[test]
fn a_rule_for_ecdsa_alone_gives_an_ecdsa_key() {
    let _watch = WORLD.lab().watch();
    let (code, seen) = with_password("olda1", "exec ssh -A ca");
    assert_eq!(code, 0, "{seen}");
    assert_eq!(WORLD.certificates("olda1").unwrap().remove(0).kind, ECDSA);
    assert_eq!(sh("olda1", "ssh -o BatchMode=yes web1 id -un").ok().unwrap().stdout, "olda1\n");
}

#[test]
fn who_asks_for_an_ecdsa_key_gets_one_if_the_rule_allows_it() {
    let _watch = WORLD.lab().watch();
    registered_key("mach7", "asking", "ed25519");
    sh("mach7", "ssh -A -o BatchMode=yes ca key=ecdsa").ok().unwrap();
    assert_eq!(WORLD.certificates("mach7").unwrap().remove(0).kind, ECDSA);
    let (code, seen) = with_password("peop4", "exec ssh -A ca key=ecdsa");
    assert_eq!(code, 1, "{seen}");
    assert!(seen.contains("does not certify your keys of the type ecdsa"), "{seen}");
}

#[test]
fn a_new_certificate_takes_the_place_of_the_one_that_was_injected_before_and_of_nothing_else() {
    let _watch = WORLD.lab().watch();
    registered_key("mach8", "id", "ed25519");
    let script = "cd ~/.ssh && ssh -A -o BatchMode=yes ca sign < id.pub > id-cert.pub && ssh-add -qd id; ssh-add -q id";
    sh("mach8", script).ok().unwrap();
    let list = || {
        let listed = sh("mach8", "ssh-add -L").ok().unwrap().stdout;
        let mut comments: Vec<String> =
            listed.lines().map(|line| line.split(' ').skip(2).collect::<Vec<_>>().join(" ")).collect();
        comments.sort();
        comments
    };
    // The key, and the key with its certificate.
    assert_eq!(list(), ["mach8@laptop", "mach8@laptop"]);
    for _ in 0..2 {
        sh("mach8", "ssh -A -o BatchMode=yes ca").ok().unwrap();
        let serial = rows("mach8")[0]["serial"].as_str().unwrap().to_owned();
        assert_eq!(
            list(),
            ["mach8@laptop".to_owned(), "mach8@laptop".to_owned(), format!("ussh mach8 serial {serial}")]
        );
    }
}
