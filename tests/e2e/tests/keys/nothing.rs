//! Logins that prove nothing: from the networks that policy names, and from no others.

use super::{WORLD, assert_denied, rows, sh};

const BATCH: &str = "ssh -A -o BatchMode=yes ca";
const METHODS: &str = "publickey,keyboard-interactive";

#[test]
fn from_a_network_that_the_rule_names_nothing_is_asked() {
    let _watch = WORLD.lab().watch();
    sh("kios1", BATCH).ok().unwrap();
    let row = rows("kios1").remove(0);
    assert_eq!((row["authenticated"].as_str(), row["rule"].as_str()), (Some("none"), Some("kiosks")));
    assert_eq!(sh("kios1", "ssh -A -o BatchMode=yes ca whoami").ok().unwrap().stdout, "kios1\n");
}

#[test]
fn nobody_else_gets_in_with_nothing() {
    let _watch = WORLD.lab().watch();
    // An account of a rule for another network, one of a rule that wants a password, one that does not exist, one that is over.
    for account in ["else1", "peop2", "nobody-of-that-name", "kios2"] {
        assert_denied(&sh("kios1", &format!("ssh -A -o BatchMode=yes {account}@ca")), METHODS);
        assert!(rows(account).is_empty(), "{account}");
    }
}

#[test]
fn the_administrator_is_warned() {
    let _watch = WORLD.lab().watch();
    let out = WORLD.usshca("check").unwrap().ok().unwrap();
    let said = format!("{}{}", out.stdout, out.stderr);
    assert!(said.contains("rule \"kiosks\" asks for no proof"), "{said}");
    assert!(said.contains("rule \"machines\" takes a registered key alone, from everywhere"), "{said}");
}
