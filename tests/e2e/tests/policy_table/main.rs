//! The policy's truth table: who gets which certificate, from where, when and for what, by a real login for each row; and `usshca explain` says the same before.
//!
//! Hours are real: the policy's time zone is one in which it is the hour that the row names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod row;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use ussh_e2e::lab::wait_until;
use ussh_e2e::{CA_DIR, Shown, World, WorldPlan, shown_certificates};

use crate::row::{Expected, Outcome, Row, Way};

const TABLE: &str = include_str!("table.txt");
const POLICY: &str = include_str!("policy.toml");
const TEAM: &str = include_str!("team.toml");

const PEOPLE: [(&str, &[&str]); 20] = [
    ("dora", &["admins", "oncall"]),
    ("gus", &["guests"]),
    ("olga", &["oncall"]),
    ("dina", &["deputies"]),
    ("anna", &["admins"]),
    ("paul", &["admins", "dba"]),
    ("rita", &["admins", "ops", "dba"]),
    ("basil", &["databases", "dba"]),
    ("ben", &["databases"]),
    ("quinn", &["visitors"]),
    ("robin", &["robots"]),
    ("kim", &["keyholders"]),
    ("owen", &["owners"]),
    ("tom", &["touchers"]),
    ("sonja", &["slow"]),
    ("nora", &["visitors"]),
    ("mia", &["admins", "oncall"]),
    ("mach", &["machines"]),
    ("bea", &["twofold"]),
    ("kira", &["kiosks"]),
];
/// Whose keys are registered. All have one, and it is in their agent when they come by it, or have it certified.
const REGISTERED: [&str; 4] = ["kim", "mach", "bea", "anna"];
/// Besides the laptop's own address, which is `home`.
const OFFICE: &str = "10.77.0.130";
const AFAR: &str = "10.77.0.200";

const SOON: Duration = Duration::from_secs(30);
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// From a Thursday on: the epoch's.
const DAYS: [&str; 7] = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];

fn world() -> World {
    let plan = PEOPLE.iter().fold(WorldPlan::new("policy-table").without_servers(), |plan, (name, groups)| {
        plan.person(name, &format!("password of {name}"), groups)
    });
    let world = plan.start().unwrap();
    world.host("ca").write_file(&format!("{CA_DIR}/teams/slow.toml"), 0o644, TEAM).unwrap();
    world.host("laptop").script(&format!("for a in {OFFICE} {AFAR}; do ip address add $a/24 dev eth0; done")).unwrap();
    for (name, _) in PEOPLE {
        let make = "mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id && cat ~/.ssh/id.pub";
        let public = world.sh("laptop", name, make).unwrap().ok().unwrap().stdout_bytes;
        if REGISTERED.contains(&name) {
            let argv = ["usshca", "--dir", CA_DIR, "key", "register", name, "-"];
            world.host("ca").command(argv).stdin(public).run().unwrap().ok().unwrap();
        }
    }
    world
}

#[test]
fn each_row_gets_what_the_table_says_and_explain_says_the_same() {
    let world = world();
    let _watch = world.lab().watch();
    let rows = Row::all(TABLE);
    assert!(rows.len() >= 60, "{} rows", rows.len());
    let mut by_hour: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        by_hour.entry(row.hour).or_default().push(row);
    }
    let mut wrong = Vec::new();
    for (hour, rows) in by_hour {
        put_policy(&world, hour);
        for row in rows {
            let explained = explain(&world, row);
            let got = log_in(&world, row);
            wrong.extend(differences(row, &got, &explained).into_iter().map(|what| format!("{row:?}\n    {what}")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The policy, in a time zone where it is that hour.
fn put_policy(world: &World, hour: u64) {
    let ahead = (hour + 24 - now() % DAY / HOUR) % 24;
    // Etc's names have the sign of POSIX: GMT-3 is three hours ahead. There is none for 15 and more.
    let (zone, local) = match ahead {
        0..=12 => (format!("Etc/GMT-{ahead}"), now() + ahead * HOUR),
        _ => (format!("Etc/GMT+{}", 24 - ahead), now() + ahead * HOUR - DAY),
    };
    let day = |days_ago: u64| DAYS[usize::try_from((local / DAY - days_ago) % 7).unwrap()];
    let policy = POLICY.replace("{zone}", &zone).replace("{today}", day(0)).replace("{yesterday}", day(1));
    let ca = world.host("ca");
    ca.write_file(&format!("{CA_DIR}/policy.toml"), 0o644, policy).unwrap();
    world.usshca("check").unwrap().ok().unwrap();
    let daemon = ca.service("usshca").unwrap();
    let before = daemon.stderr().len();
    ca.script(&format!("kill -HUP {}", daemon.pid())).unwrap();
    wait_until(SOON, "the policy", || daemon.stderr()[before..].contains("another policy is in force")).unwrap();
}

fn address(world: &World, row: &Row) -> String {
    match row.source.as_str() {
        "home" => world.host("laptop").address().to_string(),
        "office" => OFFICE.to_owned(),
        "afar" => AFAR.to_owned(),
        other => panic!("{other}"),
    }
}

/// What `usshca explain --json` says, on the account's groups as the CA's machine knows them.
fn explain(world: &World, row: &Row) -> Value {
    let (from, options) = (address(world, row), row.explain_options().join(" "));
    let said = world.usshca(&format!("explain {} --from {from} {options} --json", row.user)).unwrap();
    let explained: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{row:?}: {e}: {said}"));
    assert_eq!(said.status.code(), i32::from(explained["certificate"].is_null()), "{row:?}: {said}");
    explained
}

/// What came of a login.
#[derive(Debug)]
struct Got {
    code: i32,
    said: String,
    certificates: Vec<Shown>,
    /// The newest row of the inventory, as `usshca list --json` shows it.
    recorded: Value,
}

fn log_in(world: &World, row: &Row) -> Got {
    let (from, asks) = (address(world, row), &row.asks);
    let Way { by, mode } = &row.way;
    let key = if by.contains("publickey") || mode == "client-key" { "ssh-add -q ~/.ssh/id 2>/dev/null; " } else { "" };
    let batch = if by.contains("pam") { "" } else { "-o BatchMode=yes" };
    let ssh = format!("ssh-add -q -D 2>/dev/null; {key}exec ssh -A {batch} -b {from} ca");
    let script = match mode.as_str() {
        "client-key" => format!("{ssh} sign '{asks}' < ~/.ssh/id.pub > ~/.ssh/certified.pub"),
        _ => format!("{ssh} '{asks}'"),
    };
    let login = world.unattended(&row.user, world.password(&row.user), &script).unwrap().wait(SOON).unwrap();
    let certificates = match mode.as_str() {
        "client-key" => {
            let show = "test ! -s ~/.ssh/certified.pub || ssh-keygen -Lf ~/.ssh/certified.pub";
            shown_certificates(&world.sh("laptop", &row.user, show).unwrap().ok().unwrap().stdout)
        }
        _ => world.certificates(&row.user).unwrap(),
    };
    let recorded = world.usshca("list --json -n 1").unwrap().ok().unwrap().stdout;
    Got {
        code: login.status.code(),
        said: login.stderr,
        certificates,
        recorded: serde_json::from_str(&recorded).unwrap(),
    }
}

/// All that is not as it should be.
fn differences(row: &Row, got: &Got, explained: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |what: &str, is: Value, should: Value| {
        if is != should {
            wrong.push(format!("{what}: {is} instead of {should}; {}", got.said));
        }
    };
    let recorded = &got.recorded;
    expect("explained rule", explained["rule"].clone(), row.rule.clone().into());
    let is_denied = matches!(row.outcome, Outcome::Denied(_));
    // Whoever is not let in has asked policy nothing.
    expect("recorded rule", recorded["rule"].clone(), if is_denied { "" } else { &row.rule }.into());
    let authenticated = recorded["authenticated"].as_str().unwrap_or_default();
    let by = authenticated.split(' ').next();
    expect("recorded proof", by.into(), if is_denied { "none" } else { &row.way.by }.into());
    expect("recorded user", recorded["key_id"].clone(), row.user.clone().into());
    match &row.outcome {
        Outcome::Refused(said) => {
            expect("exit", got.code.into(), 1.into());
            expect("said", got.said.contains(said.as_str()).into(), true.into());
            expect("certificates", got.certificates.len().into(), 0.into());
            let outcome = recorded["outcome"].as_str().unwrap_or_default();
            expect("recorded", outcome.starts_with("refused: ").into(), true.into());
            // How many there are is the inventory's to know.
            let too_many = said.contains("as many certificates");
            expect("explained", explained["certificate"].is_null().into(), (!too_many).into());
            if too_many {
                expect("explained limit", explained["certificate"]["max_certificates"].clone(), 1.into());
            }
        }
        Outcome::Denied(why) => {
            expect("exit", got.code.into(), 255.into());
            expect("said", got.said.contains("Permission denied").into(), true.into());
            expect("certificates", got.certificates.len().into(), 0.into());
            expect("recorded", recorded["outcome"].clone(), format!("refused: {why}").into());
            expect("recorded try", authenticated.into(), format!("none (tried {})", row.way.by).into());
            expect("explained", explained["certificate"].is_null().into(), true.into());
        }
        Outcome::Certificate(expected) => {
            expect("exit", got.code.into(), 0.into());
            expect("certificates", got.certificates.len().into(), 1.into());
            expect("recorded", recorded["outcome"].clone(), "delivered".into());
            let lived =
                |from: &str| recorded["valid_before"].as_u64().unwrap_or(0) - recorded[from].as_u64().unwrap_or(0);
            expect("seconds", lived("asked").into(), expected.seconds.into());
            if let [shown] = got.certificates.as_slice() {
                expect("key ID", shown.key_id.clone().into(), row.user.clone().into());
                expect("span", shown.validity_seconds().into(), lived("valid_after").into());
                compare(shown, expected, explained, &mut expect);
            }
        }
    }
    wrong
}

/// What came, what the table says, and what explain has said.
fn compare(shown: &Shown, expected: &Expected, explained: &Value, expect: &mut impl FnMut(&str, Value, Value)) {
    let promised = &explained["certificate"];
    expect("principals", shown.principals.clone().into(), expected.principals.clone().into());
    expect("explained principals", promised["principals"].clone(), expected.principals.clone().into());
    // `name UNKNOWN …` is how ssh-keygen shows what is not its own; the login time is in every certificate.
    let names = shown.extensions.iter().filter_map(|e| e.split_whitespace().next()).filter(|e| *e != "login-time@ussh");
    let mut expected_extensions = expected.extensions.clone();
    expected_extensions.sort_unstable();
    expect("extensions", names.collect::<Vec<_>>().into(), expected_extensions.clone().into());
    let mut extensions: Vec<&str> =
        promised["extensions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    extensions.sort_unstable();
    expect("explained extensions", extensions.into(), expected_extensions.into());
    expect("critical options", shown.critical_options.clone().into(), expected.critical_options.clone().into());
    let options = promised["critical_options"].as_object().unwrap().iter();
    let options = options.map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or_default()));
    expect("explained critical options", options.collect::<Vec<_>>().into(), expected.critical_options.clone().into());
    let span = |end: &str, start: &str| promised[end].as_i64().zip(promised[start].as_i64()).map(|(e, s)| e - s);
    expect("explained span", span("valid_before", "valid_after").into(), shown.validity_seconds().into());
}
