//! Logins that prove nothing: from the networks that policy names, and from no others. A world of its own: where such a rule is about an address, accounts are looked up for all that come from there.

use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::lab::{Output, wait_until};
use ussh_e2e::{Row, World, WorldPlan};

use super::assert_denied;

/// Longest wait for a row.
const SOON: Duration = Duration::from_secs(10);

const POLICY: &str = r#"
[[rule]]
name = "kiosks"
groups = ["kiosks"]
from = ["10.77.0.0/16"]
authentication = ["none"]
validity_seconds = 300
principals = ["%u"]

[[rule]]
name = "elsewhere"
groups = ["elsewhere"]
from = ["192.0.2.0/24"]
authentication = ["none"]
validity_seconds = 300
principals = ["%u"]

[[rule]]
name = "machines"
groups = ["machines"]
authentication = ["publickey"]
validity_seconds = 300
principals = ["%u"]

[[rule]]
name = "people"
groups = ["people"]
validity_seconds = 300
principals = ["%u"]
"#;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let people = [("kiosk", "kiosks"), ("over", "kiosks"), ("else", "elsewhere"), ("paula", "people")];
    let plan = people.iter().fold(WorldPlan::new("nothing").policy(POLICY).without_servers(), |plan, (name, group)| {
        plan.person(name, &format!("password of {name}"), &[group])
    });
    let world = plan.start().unwrap();
    world.host("ca").script("chage -E 0 over").unwrap();
    world
});

fn as_whom(account: &str, command: &str) -> Output {
    WORLD.sh("laptop", "kiosk", &format!("ssh -A -o BatchMode=yes {account}@ca {command}")).unwrap()
}

fn rows(account: &str) -> Vec<Row> {
    WORLD.rows_of(account).unwrap()
}

#[test]
fn from_a_network_that_the_rule_names_nothing_is_asked() {
    let _watch = WORLD.lab().watch();
    as_whom("kiosk", "").ok().unwrap();
    assert_eq!((rows("kiosk").len(), rows("kiosk")[0].rule.as_str()), (1, "kiosks"));
    let listed = WORLD.usshca("list --json").unwrap().ok().unwrap().stdout;
    assert!(listed.contains("\"authenticated\":\"none\""), "{listed}");
    assert_eq!(as_whom("kiosk", "whoami").ok().unwrap().stdout, "kiosk\n");
}

#[test]
fn nobody_else_gets_in_with_nothing() {
    let _watch = WORLD.lab().watch();
    // An account of a rule for another network, one of a rule that wants a password, one that does not exist, one that is over.
    for (account, why) in [
        ("else", "nothing proved"),
        ("paula", "nothing proved"),
        ("nobody-of-that-name", "PAM: account refused"),
        ("over", "PAM: account refused"),
    ] {
        assert_denied(&as_whom(account, ""), "publickey,keyboard-interactive");
        // It is known that nothing else comes when the connection has ended.
        wait_until(SOON, "the row", || !rows(account).is_empty()).unwrap();
        let rows = rows(account);
        assert_eq!(rows.len(), 1, "{account}: {rows:?}");
        let row = &rows[0];
        assert_eq!((row.serial, row.authenticated.as_str()), (0, "none (tried none)"), "{account}");
        assert_eq!(row.outcome, format!("refused: {why}"), "{account}");
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
