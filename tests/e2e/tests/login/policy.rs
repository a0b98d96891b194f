//! What stands in a certificate, as `ssh-keygen -L` reads it: what policy says for the account, and nothing of the request.

use ussh_e2e::Shown;

use super::{WORLD, log_in};

/// The one certificate of a person who has just logged in.
fn certificate_of(user: &str) -> Shown {
    log_in(user);
    let shown = WORLD.certificates(user).unwrap().remove(0);
    assert_eq!(shown.kind, "ssh-ed25519-cert-v01@openssh.com user certificate");
    assert_eq!(shown.key_id, user);
    let rows = WORLD.rows_of(user).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].serial, rows[0].outcome.as_str()), (shown.serial, "delivered"));
    assert_eq!(rows[0].principals, shown.principals);
    assert_eq!(rows[0].from, WORLD.host("laptop").address().to_string());
    shown
}

/// Without the login time, which every certificate has.
fn extensions(shown: &Shown) -> Vec<&str> {
    let (time, rest): (Vec<&str>, Vec<&str>) =
        shown.extensions.iter().map(String::as_str).partition(|e| e.starts_with("login-time@ussh"));
    assert_eq!(time.len(), 1, "{shown:?}");
    rest
}

/// Start is backdated by a minute for clocks that are behind.
const BACKDATED: i64 = 60;

#[test]
fn the_first_rule_that_matches_decides_and_gives_what_is_usual() {
    let _watch = WORLD.lab().watch();
    // gina is an admin and an operator.
    let shown = certificate_of("gina");
    assert_eq!(shown.validity_seconds(), Some(28_800 + BACKDATED));
    assert_eq!(shown.principals, ["gina"]);
    assert_eq!(shown.critical_options, [""; 0]);
    let usual = ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"];
    assert_eq!(extensions(&shown), usual);
    assert_eq!(WORLD.rows_of("gina").unwrap()[0].rule, "admins");
}

#[test]
fn a_rule_gives_its_own_validity_principals_extensions_and_critical_options() {
    let _watch = WORLD.lab().watch();
    let shown = certificate_of("omar");
    assert_eq!(shown.validity_seconds(), Some(600 + BACKDATED));
    assert_eq!(shown.principals, ["omar", "ops"]);
    assert_eq!(extensions(&shown), ["permit-pty"]);
    assert_eq!(
        shown.critical_options,
        ["force-command echo forced for $USER", "source-address 10.77.0.0/16,192.0.2.7/32"]
    );
    assert_eq!(WORLD.rows_of("omar").unwrap()[0].rule, "operators");
}

#[test]
fn a_forced_command_is_the_only_one_that_runs() {
    let _watch = WORLD.lab().watch();
    log_in("otto");
    let other = WORLD.sh("laptop", "otto", "ssh web1 id -u").unwrap().ok().unwrap();
    assert_eq!(other.stdout, "forced for otto\n");
}

#[test]
fn a_certificate_for_other_networks_opens_nothing_from_here() {
    let _watch = WORLD.lab().watch();
    let shown = certificate_of("sven");
    assert_eq!(shown.critical_options, ["source-address 192.0.2.0/24"]);
    let refused = WORLD.sh("laptop", "sven", "ssh -o BatchMode=yes web1 true").unwrap();
    assert_eq!(refused.status.code(), 255, "{refused}");
    assert!(WORLD.host("web1").log().contains("sven with valid certificate but not from a permitted source address"));
}

#[test]
fn nothing_that_a_client_sends_changes_what_is_issued() {
    let _watch = WORLD.lab().watch();
    let script = "exec ssh -A -o SendEnv=PRINCIPALS ca principals=root,alice";
    let stock = super::terminal("ines", &format!("export PRINCIPALS=root; {script}"));
    super::answer(&stock, "assword:", WORLD.password("ines"));
    let (code, seen) = super::end(&stock);
    assert_eq!(code, 1, "{seen}");
    assert!(seen.contains("does not give you all of these principals"), "{seen}");
    // The refusal is a row; nothing was issued.
    let rows = WORLD.rows_of("ines").unwrap();
    assert_eq!(rows.iter().map(|row| row.serial).collect::<Vec<_>>(), [0], "{rows:?}");
    assert_eq!(WORLD.sh("laptop", "ines", "ssh-add -l").unwrap().stdout, "The agent has no identities.\n");
}
