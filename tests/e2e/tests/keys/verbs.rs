//! What people ask about themselves.

use serde_json::Value;

use super::{USAGE, WORLD, new_key, refusals, registered_key, rows, sh, with_password};

#[test]
fn whoever_proved_to_be_a_user_sees_and_revokes_what_is_theirs_and_nothing_else() {
    let _watch = WORLD.lab().watch();
    let fingerprint = registered_key("mach9", "id", "ed25519");
    let ask = |verb: &str| sh("mach9", &format!("ssh -A -o BatchMode=yes ca {verb}")).ok().unwrap();
    assert_eq!(ask("whoami").stdout, "mach9\n");
    let who: Value = serde_json::from_str(&ask("whoami --json").stdout).unwrap();
    assert_eq!((&who["user"], &who["authenticated"]), (&"mach9".into(), &format!("publickey {fingerprint}").into()));
    assert_eq!(ask("revoke-mine").stdout, "You have no certificate that is good: there was nothing to revoke.\n");

    sh("mach9", "ssh -A -o BatchMode=yes ca").ok().unwrap();
    registered_key("mach10", "id", "ed25519");
    sh("mach10", "ssh -A -o BatchMode=yes ca").ok().unwrap();

    let lines = ask("list --json").stdout;
    let listed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 1, "{lines}");
    assert_eq!(listed[0]["serial"], rows("mach9")[0]["serial"]);
    let table = ask("list").stdout;
    assert!(table.starts_with("SERIAL") && table.lines().count() == 2 && table.contains("delivered"), "{table}");

    let revoked: Value = serde_json::from_str(&ask("revoke-mine --json").stdout).unwrap();
    assert_eq!(revoked["revoked"], 1);
    assert!(rows("mach9")[0]["revoked"].is_u64());
    assert!(rows("mach10")[0]["revoked"].is_null(), "another's certificate was revoked");
    assert!(ask("list").stdout.contains("revoked"));
    let acts = WORLD.usshca("revocations --json").unwrap().ok().unwrap().stdout;
    assert!(acts.lines().any(|act| act.contains("\"by\":\"user mach9\"")), "{acts}");

    // The KRL, as ssh-keygen reads it: it holds the one and not the other.
    let certificate = |user: &str| {
        let line = sh(user, "ssh-add -L | grep cert-v01").ok().unwrap().stdout;
        sh("mach9", &format!("echo '{}' > ~/{user}-cert.pub", line.trim())).ok().unwrap();
        format!("~/{user}-cert.pub")
    };
    let (mine, other) = (certificate("mach9"), certificate("mach10"));
    sh("mach9", "ssh -A -o BatchMode=yes ca krl > ~/krl").ok().unwrap();
    let query = sh("mach9", &format!("ssh-keygen -Qf ~/krl {mine}"));
    assert!(query.status.code() != 0 && query.stdout.contains("REVOKED"), "{query}");
    assert!(sh("mach9", &format!("ssh-keygen -Qf ~/krl {other}")).ok().unwrap().stdout.contains("ok"));
}

#[test]
fn a_password_is_enough_to_pull_the_brake_where_the_key_is_lost() {
    let _watch = WORLD.lab().watch();
    registered_key("both4", "id", "ed25519");
    let (code, seen) = with_password("both4", "exec ssh -A ca");
    assert_eq!(code, 0, "{seen}");
    sh("both4", "ssh-add -qD").ok().unwrap();
    let (code, seen) = with_password("both4", "exec ssh -a ca revoke-mine");
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("1 certificate revoked"), "{seen}");
    assert!(rows("both4")[0]["revoked"].is_u64());
}

#[test]
fn anything_else_is_wrong_usage_and_help_needs_no_proof() {
    let _watch = WORLD.lab().watch();
    registered_key("mach11", "id", "ed25519");
    new_key("mach11", "other", "ed25519");
    let wrong = ["sudo", "list mach9", "revoke-mine mach9", "whoami -x", "krl --json", "'list;id'"];
    for command in wrong {
        let out = sh("mach11", &format!("ssh -A -o BatchMode=yes ca {command}"));
        assert_eq!((out.status.code(), out.stdout.as_str()), (USAGE, ""), "{out}");
        assert!(out.stderr.contains("usshca: unknown command: "), "{out}");
    }
    let help = sh("mach11", "ssh -a -o BatchMode=yes ca help").ok().unwrap().stdout;
    for verb in ["sign <", "whoami", "list", "revoke-mine", "krl", "key=ecdsa"] {
        assert!(help.contains(verb), "{help}");
    }
    let typed = |command: &&str| format!("refused: no such command: \"{}\"", command.trim_matches('\''));
    let mut expected: Vec<String> = wrong.iter().map(typed).collect();
    expected.sort_unstable();
    assert_eq!(refusals("mach11"), expected, "help is none");
}
