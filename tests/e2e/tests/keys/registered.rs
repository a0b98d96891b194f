//! Registered keys: what they open, and what else must be true.

use super::{NOT_IN, WORLD, assert_denied, new_key, registered_key, rows, sh, with_password};

const BATCH: &str = "ssh -A -o BatchMode=yes ca";

#[test]
fn a_machine_gets_its_certificate_with_nobody_there() {
    let _watch = WORLD.lab().watch();
    let fingerprint = registered_key("mach1", "id", "ed25519");
    let position = WORLD.log_position("ca");
    let out = sh("mach1", BATCH).ok().unwrap();
    assert!(out.stderr.contains("for mach1 is in your agent"), "{out}");
    let shown = WORLD.certificates("mach1").unwrap().remove(0);
    assert_eq!((shown.key_id.as_str(), shown.validity_seconds()), ("mach1", Some(360)));
    let row = rows("mach1").remove(0);
    assert_eq!(row["authenticated"], format!("publickey {fingerprint}"));
    assert_eq!((row["outcome"].as_str(), row["rule"].as_str()), (Some("delivered"), Some("machines")));
    assert_eq!(row["from"], WORLD.host("laptop").address().to_string());
    let proved = format!("mach1 proved the registered key {fingerprint} (ED25519)");
    assert!(WORLD.logged_since("ca", position).unwrap().contains(&proved));
    assert_eq!(sh("mach1", "ssh -o BatchMode=yes web1 id -un").ok().unwrap().stdout, "mach1\n");
}

#[test]
fn keys_of_other_types_open_the_ca_as_well() {
    let _watch = WORLD.lab().watch();
    for kind in ["ecdsa", "rsa"] {
        let fingerprint = registered_key("eith1", kind, kind);
        sh("eith1", BATCH).ok().unwrap();
        assert_eq!(rows("eith1")[0]["authenticated"], format!("publickey {fingerprint}"), "{kind}");
        sh("eith1", &format!("ssh-add -qd ~/.ssh/{kind}")).ok().unwrap();
    }
}

#[test]
fn a_login_by_key_is_no_proof_for_the_signer_without_the_agent() {
    let _watch = WORLD.lab().watch();
    let fingerprint = registered_key("mach2", "id", "ed25519");
    let out = sh("mach2", "ssh -a -o BatchMode=yes ca");
    assert_eq!(out.status.code(), 1, "{out}");
    assert!(out.stderr.contains("No agent was forwarded"), "{out}");
    for verb in ["whoami", "list", "revoke-mine", "krl"] {
        let out = sh("mach2", &format!("ssh -a -o BatchMode=yes ca {verb}"));
        assert_eq!((out.status.code(), out.stdout.as_str()), (1, ""), "{out}");
        assert!(out.stderr.contains("only through a forwarded agent"), "{out}");
    }
    // Another agent, in which the key is not: it opens the connection, and the certificate is refused and recorded.
    let out = sh(
        "mach2",
        "eval $(ssh-agent) >&2; ssh -A -i ~/.ssh/id -o IdentitiesOnly=yes -o BatchMode=yes ca; code=$?; ssh-agent -k >&2; exit $code",
    );
    assert_eq!(out.status.code(), 1, "{out}");
    assert!(out.stderr.contains("it is not in the forwarded agent"), "{out}");
    let rows = rows("mach2");
    let demanded = |row: &&serde_json::Value| row["outcome"] == "refused: the rule demands authentication by publickey";
    let row = rows.iter().find(demanded).unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!((row["serial"].as_str(), row["authenticated"].as_str()), (Some("0"), Some("none")));
    // Without an agent, five times: one row, with the key that let somebody in.
    let row = rows.iter().find(|row| row["outcome"] == "refused: no agent was forwarded").unwrap();
    assert_eq!((row["authenticated"].as_str(), row["count"].as_u64()), (Some("none (tried publickey)"), Some(5)));
    assert_eq!((rows.len(), row["fingerprint"].as_str()), (2, Some(fingerprint.as_str())));
}

#[test]
fn keys_that_are_unknown_removed_revoked_or_anothers_open_nothing_and_all_look_alike() {
    let _watch = WORLD.lab().watch();
    let position = WORLD.log_position("ca");
    let unknown_key = new_key("mach3", "unknown", "ed25519");

    let methods = "publickey,keyboard-interactive";
    assert_denied(&sh("mach3", BATCH), methods);
    let unknown = sh("mach3", "ssh -A -o BatchMode=yes nobody-of-that-name@ca");
    assert_denied(&unknown, methods);
    // Nobody was looked up for any of that: there is nothing to be told apart.
    let log = WORLD.logged_since("ca", position).unwrap();
    assert!(!log.contains("lookup for mach3") && !log.contains("lookup for nobody-of-that-name"), "{log}");

    let removed = registered_key("mach3", "removed", "ed25519");
    sh("mach3", BATCH).ok().unwrap();
    assert_denied(&sh("mach3", "ssh -A -o BatchMode=yes mach5@ca"), methods);
    let said = WORLD.usshca(&format!("key remove {removed}")).unwrap().ok().unwrap().stdout;
    assert!(said.contains("is no key of mach3 any more"), "{said}");
    assert_denied(&sh("mach3", BATCH), methods);

    let revoked = registered_key("mach3", "revoked", "ed25519");
    sh("mach3", BATCH).ok().unwrap();
    WORLD.usshca(&format!("revoke --key {revoked}")).unwrap().ok().unwrap();
    assert_denied(&sh("mach3", BATCH), methods);
    let rows = rows("mach3");
    let issued = rows.iter().filter(|row| row["serial"] != "0").count();
    assert_eq!(issued, 2);
    // A row for each key that opened nothing, with its fingerprint.
    for key in [&unknown_key, &removed, &revoked] {
        let refused = |row: &&serde_json::Value| row["serial"] == "0" && row["fingerprint"] == key.as_str();
        let row = rows.iter().find(refused).unwrap_or_else(|| panic!("{key}: {rows:?}"));
        let why = if *key == revoked { "key revoked" } else { "key not registered" };
        assert_eq!(row["outcome"], format!("refused: {why}"));
        assert_eq!(row["authenticated"], "none (tried publickey)");
    }
}

#[test]
fn an_account_that_is_over_or_whose_password_is_gets_in_by_no_key() {
    let _watch = WORLD.lab().watch();
    for user in ["mach4", "mach6"] {
        registered_key(user, "id", "ed25519");
        assert_denied(&sh(user, BATCH), "publickey,keyboard-interactive");
        let rows = rows(user);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0]["authenticated"], "none (tried publickey)");
        assert!(rows[0]["outcome"].as_str().unwrap().starts_with("refused: PAM: "), "{rows:?}");
    }
    WORLD.host("ca").script("chage -E -1 mach4").unwrap();
    sh("mach4", BATCH).ok().unwrap();
}

#[test]
fn where_both_are_demanded_key_and_password_are_asked_for_without_configuration() {
    let _watch = WORLD.lab().watch();
    let fingerprint = registered_key("both1", "id", "ed25519");
    let (code, seen) = with_password("both1", "exec ssh -A ca");
    assert_eq!(code, 0, "{seen}");
    assert_eq!(rows("both1")[0]["authenticated"], format!("publickey+pam {fingerprint}"));
    // The key alone is half of it.
    let out = sh("both1", BATCH);
    assert_eq!(out.status.code(), NOT_IN, "{out}");
    assert!(out.stderr.contains("Permission denied (keyboard-interactive)"), "{out}");
    let rows = rows("both1");
    assert_eq!((rows.len(), &rows[0]["outcome"]), (2, &"refused: nothing proved".into()));
    assert_eq!(rows[0]["fingerprint"], fingerprint);
}

#[test]
fn a_password_alone_is_not_enough_where_both_are_demanded() {
    let _watch = WORLD.lab().watch();
    let (code, seen) = with_password("both2", "exec ssh -A ca");
    assert_eq!(code, 1, "{seen}");
    assert!(seen.contains("wants your registered key"), "{seen}");
    let row = rows("both2").remove(0);
    assert_eq!(row["outcome"], "refused: the rule demands authentication by publickey+pam");
    assert_eq!(row["authenticated"], "pam");
    // Nor with a key that is not registered.
    new_key("both2", "id", "ed25519");
    let (code, seen) = with_password("both2", "exec ssh -A ca");
    assert_eq!(code, 1, "{seen}");
    assert_eq!(WORLD.certificates("both2").unwrap().len(), 0);
}

/// Of what `ssh-add -l` lists nobody should be told that it is not there.
#[test]
fn a_registered_key_that_is_revoked_is_called_so_once_its_user_has_passed_pam() {
    let _watch = WORLD.lab().watch();
    let fingerprint = registered_key("both5", "id", "ed25519");
    WORLD.usshca(&format!("revoke --key {fingerprint}")).unwrap().ok().unwrap();
    let (code, seen) = with_password("both5", "exec ssh -A ca");
    assert_eq!(code, 1, "{seen}");
    assert!(seen.contains(&format!("{fingerprint}, which is in your agent, is revoked")), "{seen}");
    assert!(!seen.contains("not in the forwarded agent"), "{seen}");
    let row = rows("both5").remove(0);
    let demanded = "refused: the rule demands authentication by publickey+pam";
    assert_eq!(row["outcome"], format!("{demanded}, and the registered key {fingerprint} is revoked"));
}

#[test]
fn a_client_that_offers_no_key_proves_it_through_its_agent_all_the_same() {
    let _watch = WORLD.lab().watch();
    let fingerprint = registered_key("both3", "id", "ed25519");
    let (code, seen) = with_password("both3", "exec ssh -A -o PubkeyAuthentication=no ca");
    assert_eq!(code, 0, "{seen}");
    assert_eq!(rows("both3")[0]["authenticated"], format!("publickey+pam {fingerprint}"));
}

#[test]
fn where_either_is_enough_a_password_is_enough() {
    let _watch = WORLD.lab().watch();
    let (code, seen) = with_password("eith2", "exec ssh -A ca");
    assert_eq!(code, 0, "{seen}");
    assert_eq!(rows("eith2")[0]["authenticated"], "pam");
}

#[test]
fn a_registered_key_is_nothing_where_the_rule_wants_a_password() {
    let _watch = WORLD.lab().watch();
    registered_key("peop1", "id", "ed25519");
    assert_denied(&sh("peop1", BATCH), "publickey,keyboard-interactive");
    let (code, seen) = with_password("peop1", "exec ssh -A ca");
    assert_eq!(code, 0, "{seen}");
    let rows = rows("peop1");
    let issued = rows.iter().find(|row| row["serial"] != "0").unwrap();
    assert_eq!(issued["authenticated"], "pam");
    let refused = rows.iter().find(|row| row["serial"] == "0").unwrap();
    assert_eq!(refused["outcome"], "refused: nothing proved");
}

#[test]
fn the_ca_says_whose_keys_are_registered() {
    let _watch = WORLD.lab().watch();
    let fingerprint = registered_key("mach12", "id", "ed25519");
    let line = WORLD.usshca("key list mach12 --json").unwrap().ok().unwrap().stdout;
    let key: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!((&key["user"], &key["fingerprint"]), (&"mach12".into(), &fingerprint.clone().into()));
    assert_eq!((&key["comment"], &key["by"]), (&"mach12@laptop".into(), &"admin uid 0".into()));
    let public = sh("mach12", "cat ~/.ssh/id.pub").ok().unwrap().stdout_bytes;
    let again = ["usshca", "--dir", super::CA_DIR, "key", "register", "mach5"];
    let refused = WORLD.host("ca").command(again).stdin(public).run().unwrap();
    assert_eq!(refused.status.code(), 1, "{refused}");
    assert!(refused.stderr.contains("this key is registered for mach12"), "{refused}");
}
