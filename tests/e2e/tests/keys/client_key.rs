//! `ssh -A ca sign < id.pub`: the user's own key.

use super::{USAGE, WORLD, new_key, refusals, registered_key, rows, sh, with_password};

const SIGN: &str = "ssh -A -o BatchMode=yes ca sign";

#[test]
fn a_registered_key_is_certified_by_itself_and_opens_servers() {
    let _watch = WORLD.lab().watch();
    let fingerprint = registered_key("mach5", "id", "ed25519");
    let out = sh("mach5", &format!("{SIGN} for=2m < ~/.ssh/id.pub > ~/.ssh/id-cert.pub")).ok().unwrap();
    assert!(out.stderr.contains("for mach5 is yours"), "{out}");
    let shown = sh("mach5", "ssh-keygen -Lf ~/.ssh/id-cert.pub").ok().unwrap().stdout;
    let shown = ussh_e2e::shown_certificates(&shown).remove(0);
    assert_eq!((shown.key_id.as_str(), shown.validity_seconds()), ("mach5", Some(180)));
    let row = rows("mach5").remove(0);
    assert_eq!((row["fingerprint"].as_str(), row["outcome"].as_str()), (Some(&*fingerprint), Some("delivered")));
    assert_eq!(row["authenticated"], format!("publickey {fingerprint}"));
    let login = "ssh -i ~/.ssh/id -o IdentitiesOnly=yes -o BatchMode=yes web1 id -un";
    assert_eq!(sh("mach5", login).ok().unwrap().stdout, "mach5\n");
}

#[test]
fn after_a_password_any_key_that_the_rule_allows_is_certified() {
    let _watch = WORLD.lab().watch();
    for kind in ["ecdsa", "rsa"] {
        let fingerprint = new_key("eith3", kind, kind);
        let script = format!("ssh -A ca sign < ~/.ssh/{kind}.pub > ~/.ssh/{kind}-cert.pub");
        let (code, seen) = with_password("eith3", &script);
        assert_eq!(code, 0, "{seen}");
        let row = rows("eith3").remove(0);
        assert_eq!((row["fingerprint"].as_str(), row["authenticated"].as_str()), (Some(&*fingerprint), Some("pam")));
        sh("eith3", &format!("ssh-keygen -Lf ~/.ssh/{kind}-cert.pub")).ok().unwrap();
    }
}

#[test]
fn a_key_that_does_not_prove_itself_is_not_certified() {
    let _watch = WORLD.lab().watch();
    registered_key("eith4", "id", "ed25519");
    new_key("eith4", "gone", "ed25519");
    sh("eith4", "ssh-add -qd ~/.ssh/gone").ok().unwrap();
    for (script, words) in [
        (format!("{SIGN} < ~/.ssh/gone.pub"), "The key is not in the forwarded agent"),
        (
            "ssh -a -o BatchMode=yes ca sign < ~/.ssh/id.pub".to_owned(),
            "through a forwarded agent, and none was forwarded",
        ),
        // The agent holds it, and does not sign with it: a lock is a no.
        (format!("ssh-add -qc ~/.ssh/gone; {SIGN} < ~/.ssh/gone.pub"), "did not sign with your key"),
    ] {
        let out = sh("eith4", &script);
        assert_eq!((out.status.code(), out.stdout.as_str()), (1, ""), "{out}");
        assert!(out.stderr.contains(words), "{out}");
    }
    assert_eq!(
        refusals("eith4"),
        ["refused: no agent was forwarded", "refused: the agent did not sign", "refused: the key is not in the agent"]
    );
}

#[test]
fn what_is_no_public_key_is_wrong_usage() {
    let _watch = WORLD.lab().watch();
    registered_key("eith5", "id", "ed25519");
    for (script, words) in [
        (format!("{SIGN} < /dev/null"), "there is none"),
        (format!("echo junk | {SIGN}"), "malformed"),
        (format!("cat ~/.ssh/id | {SIGN}"), "private key"),
        (format!("cat ~/.ssh/id.pub ~/.ssh/id.pub | {SIGN}"), "more than one"),
        (format!("{SIGN} now < ~/.ssh/id.pub"), "unknown command"),
        (format!("{SIGN} key=ecdsa < ~/.ssh/id.pub"), "no key= beside it"),
    ] {
        let out = sh("eith5", &script);
        assert_eq!((out.status.code(), out.stdout.as_str()), (USAGE, ""), "{out}");
        assert!(out.stderr.contains(words), "{out}");
    }
}

#[test]
fn a_rule_that_allows_no_keys_of_the_users_certifies_none() {
    let _watch = WORLD.lab().watch();
    new_key("peop3", "id", "ed25519");
    let (code, seen) = with_password("peop3", "exec ssh -A ca sign < ~/.ssh/id.pub");
    assert_eq!(code, 1, "{seen}");
    assert!(seen.contains("certifies no key of your own: the CA makes one for you. Try: ssh -A CA"), "{seen}");
    assert_eq!(rows("peop3")[0]["outcome"], "refused: the rule does not allow the mode client-key");
}
