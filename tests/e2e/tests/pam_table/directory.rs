//! pam_ldap and NSS through nslcd against a real slapd: accounts and groups that no file of the CA's host knows.

use std::time::Duration;

use ussh_e2e::lab::{Host, wait_until};
use ussh_e2e::{Row, World, WorldPlan};

use super::SOON;

/// By a group that only the directory knows; the local one comes last.
const POLICY: &str = r#"
[[rule]]
name = "operators of the directory"
groups = ["ldap-ops"]
validity_seconds = 600
principals = ["%u", "ops"]

[[rule]]
name = "staff"
groups = ["staff"]
validity_seconds = 600
principals = ["%u"]
"#;

const SLAPD: &str = "\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
maxsize 10485760
suffix dc=example,dc=org
directory /srv/ldap
access to attrs=userPassword by anonymous auth by * none
access to * by * read
";

const NSLCD: &str = "\
uid nslcd
gid nslcd
uri ldap://directory/
base dc=example,dc=org
bind_timelimit 2
timelimit 2
reconnect_sleeptime 1
reconnect_retrytime 1
";

/// As pam-auth-update writes it for libpam-ldapd.
const DEBIAN: &str = "\
auth [success=2 default=ignore] pam_unix.so nullok nodelay
auth [success=1 default=ignore] pam_ldap.so minimum_uid=1000 use_first_pass
auth requisite pam_deny.so
auth required pam_permit.so
account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so
account requisite pam_deny.so
account required pam_permit.so
account [success=ok new_authtok_reqd=done ignore=ignore user_unknown=ignore authinfo_unavail=ignore default=bad] pam_ldap.so minimum_uid=1000
";

/// The directory alone: what it cannot say is not taken for a no.
const LDAP_ONLY: &str = "auth required pam_ldap.so\naccount required pam_ldap.so\n";

/// Name, uid, password, and the one group beside their own.
const PEOPLE: [(&str, u32, &str, &str); 2] =
    [("dana", 70_001, "tulip", "ldap-ops"), ("drew", 70_002, "crocus", "ldap-guests")];

fn entries() -> String {
    let mut text =
        "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n"
            .to_owned();
    for (name, uid, password, group) in PEOPLE {
        text += &format!(
            "dn: uid={name},dc=example,dc=org\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: {name}\ncn: {name}\nsn: {name}\n\
             uidNumber: {uid}\ngidNumber: {uid}\nhomeDirectory: /home/{name}\nloginShell: /bin/bash\nuserPassword: {password}\n\n\
             dn: cn={group},dc=example,dc=org\nobjectClass: posixGroup\ncn: {group}\ngidNumber: {}\nmemberUid: {name}\n\n",
            uid + 10_000
        );
    }
    text
}

fn start_slapd(directory: &Host) {
    let slapd = ["slapd", "-d", "0", "-f", "/etc/ldap/slapd.conf", "-h", "ldap://0.0.0.0/"];
    directory.command(slapd).service("slapd").unwrap();
    let answers =
        || directory.run(["ldapsearch", "-x", "-H", "ldap://127.0.0.1/", "-s", "base", "-b", ""]).unwrap().success();
    wait_until(SOON, "slapd", answers).unwrap();
}

fn set_up() -> World {
    let world = WorldPlan::new("pam-directory")
        .without_servers()
        .bare("directory")
        .policy(POLICY)
        .person("lois", "local", &["staff"])
        .start()
        .unwrap();
    let directory = world.host("directory");
    directory.write_file("/etc/ldap/slapd.conf", 0o644, SLAPD).unwrap();
    directory.write_file("/srv/entries.ldif", 0o644, entries()).unwrap();
    directory.script("mkdir -p /srv/ldap; slapadd -f /etc/ldap/slapd.conf -l /srv/entries.ldif").unwrap();
    start_slapd(&directory);

    let ca = world.host("ca");
    ca.script("sed -i -E 's/^(passwd|group|shadow):.*/\\1: files ldap/' /etc/nsswitch.conf; mkdir -p /run/nslcd; chown nslcd: /run/nslcd").unwrap();
    ca.write_file("/etc/nslcd.conf", 0o640, NSLCD).unwrap();
    ca.write_file("/etc/pam.d/usshca", 0o644, DEBIAN).unwrap();
    ca.command(["nslcd", "--nofork"]).service("nslcd").unwrap();
    wait_until(SOON, "NSS", || ca.run(["id", "dana"]).unwrap().success()).unwrap();
    world
}

/// Exit code, what was shown, and the rows that came of it.
fn attempt(world: &World, user: &str, password: &str) -> (i32, String, Vec<Row>) {
    let before = world.rows_of(user).unwrap().len();
    let ssh = format!("exec ssh -A -o NumberOfPasswordPrompts=1 -l {user} ca");
    let terminal = world.terminal("laptop", "alice", &ssh).unwrap();
    terminal.expect("assword: ", SOON).unwrap();
    terminal.send(&format!("{password}\n")).unwrap();
    let code = terminal.expect_exit(SOON).unwrap().code();
    terminal.expect_close(SOON).unwrap();
    let mut rows = world.rows_of(user).unwrap();
    rows.truncate(rows.len() - before);
    (code, terminal.transcript(), rows)
}

#[track_caller]
fn assert_certified(world: &World, user: &str, password: &str, rule: &str, principals: &[&str]) {
    let (code, seen, rows) = attempt(world, user, password);
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains(&format!("for {user} is in your agent")), "{seen}");
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!((row.rule.as_str(), row.authenticated.as_str(), row.outcome.as_str()), (rule, "pam", "delivered"));
    let held = world.certificates("alice").unwrap();
    let shown = held.iter().find(|shown| shown.serial == row.serial).unwrap();
    assert_eq!((shown.key_id.as_str(), shown.principals.as_slice()), (user, owned(principals).as_slice()));
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[track_caller]
fn assert_denied(world: &World, user: &str, password: &str, words: &str, why: &str) {
    let (code, seen, rows) = attempt(world, user, password);
    assert_eq!((code, rows.len()), (255, 1), "{seen}");
    let row = &rows[0];
    assert_eq!((row.serial, row.authenticated.as_str(), row.outcome.as_str()), (0, "none (tried pam)", why));
    assert!(seen.contains(words), "{seen}");
}

const DENIED: &str = "Permission denied (keyboard-interactive)";
const FAILED: &str = "refused: PAM: authentication failed";
const CANNOT_CHECK: &str = "The CA cannot check logins at the moment";

#[test]
fn accounts_and_groups_of_a_directory_decide_and_one_that_is_down_keeps_its_own_people_out_and_nobody_else() {
    let world = set_up();
    let _watch = world.lab().watch();
    let (ca, directory) = (world.host("ca"), world.host("directory"));
    // No file of the host knows them.
    assert!(
        !ca.read_file("/etc/passwd").unwrap().contains("dana")
            && !ca.read_file("/etc/group").unwrap().contains("ldap-ops")
    );

    assert_certified(&world, "dana", "tulip", "operators of the directory", &["dana", "ops"]);
    assert_certified(&world, "lois", "local", "staff", &["lois"]);
    assert_denied(&world, "dana", "crocus", DENIED, FAILED);
    assert_denied(&world, "nobody-there", "tulip", DENIED, FAILED);
    // In the directory, and in a group that no rule names.
    let (code, seen, rows) = attempt(&world, "drew", "crocus");
    assert_eq!((code, rows.len()), (1, 1), "{seen}");
    assert!(seen.contains("The CA's policy gives your account no certificate"), "{seen}");
    assert_eq!((rows[0].serial, rows[0].authenticated.as_str()), (0, "pam"));
    assert!(rows[0].outcome.starts_with("refused: "), "{rows:?}");
    let explained = world.usshca("explain dana").unwrap().ok().unwrap().stdout;
    assert!(explained.contains("operators of the directory"), "{explained}");

    // Out of the group, and out of the rule: at the next login, with nothing restarted.
    directory.stop_service("slapd").unwrap();
    directory
        .script("rm /srv/ldap/*; sed -i 's/^memberUid: dana/memberUid: drew/' /srv/entries.ldif; slapadd -f /etc/ldap/slapd.conf -l /srv/entries.ldif")
        .unwrap();
    start_slapd(&directory);
    wait_until(SOON, "the new group", || ca.run(["id", "drew"]).unwrap().stdout.contains("ldap-ops")).unwrap();
    assert_eq!(attempt(&world, "dana", "tulip").0, 1);
    assert_certified(&world, "drew", "crocus", "operators of the directory", &["drew", "ops"]);

    directory.stop_service("slapd").unwrap();
    assert_denied(&world, "drew", "crocus", DENIED, FAILED);
    assert_certified(&world, "lois", "local", "staff", &["lois"]);
    ca.write_file("/etc/pam.d/usshca", 0o644, LDAP_ONLY).unwrap();
    assert_denied(&world, "drew", "crocus", CANNOT_CHECK, "refused: PAM: could not check");
    start_slapd(&directory);
    wait_until(Duration::from_secs(30), "nslcd to find it again", || ca.run(["id", "drew"]).unwrap().success())
        .unwrap();
    assert_certified(&world, "drew", "crocus", "operators of the directory", &["drew", "ops"]);
    assert!(world.host("ca").service("usshca").unwrap().status().unwrap().is_none(), "the daemon has ended");
}
