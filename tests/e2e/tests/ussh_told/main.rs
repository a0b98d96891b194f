//! What users of `ussh` read when something is wrong: each row of the tables plants one fault, runs one command on the laptop, and holds message, exit code and what happened after to what the table says.
//!
//! `failures.toml`: bad input, and a CA that is down or somebody else. `why.toml`: what `ussh --why` makes of a fault. `agent.toml`: agents, and the panic button. `locked.toml`: keys that the system has locked.
//! ROW=words tries only the rows with these words in their names; SHOW=1 prints what was said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod row;

use std::collections::BTreeSet;

use ussh_e2e::lab::{SSHD_CONFIG, trixie_root};
use ussh_e2e::{CA_DIR, World, WorldPlan};

use self::row::{Row, try_row};

const KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

/// `opal` may use its certificate from elsewhere only, `rita` is to say what for.
const POLICY: &str = r#"
[[rule]]
name = "admins"
groups = ["admins"]
validity_seconds = 28800
principals = ["%u"]

[[rule]]
name = "elsewhere"
groups = ["elsewhere"]
validity_seconds = 28800
principals = ["%u"]
source_address = ["192.0.2.0/24"]

[[rule]]
name = "reasoned"
groups = ["reasoned"]
validity_seconds = 28800
principals = ["%u"]
reason_required = true
"#;

/// sshds of `rogue`: port, and what its host certificate is like. 22 has none.
const ROGUES: [(u16, &str); 5] = [
    (2201, "-s /srv/host_ca -n rogue -V -1d:+1d"),
    (2202, "-s /srv/host_ca -n rogue -V 20200101:20210101"),
    (2203, "-s /srv/host_ca -n elsewhere -V -1d:+1d"),
    (2204, "-s /srv/other_ca -n rogue -V -1d:+1d"),
    (2205, "-s /srv/host_ca -n rogue -V +1d:+2d"),
];

fn plan(name: &str, rows: &[Row]) -> WorldPlan {
    WorldPlan::new(name)
        .policy(POLICY)
        .people(rows.len(), "admins")
        .person("opal", "secret", &["elsewhere"])
        .person("rita", "secret", &["reasoned"])
        .bare("rogue")
}

fn start(plan: WorldPlan) -> World {
    let world = plan.start().unwrap();
    let rogue = world.host("rogue");
    rogue.run(["mkdir", "-p", "/srv"]).unwrap().ok().unwrap();
    let user_ca = world.host("ca").read_bytes(&format!("{CA_DIR}/public/user_ca.pub")).unwrap();
    rogue.write_file("/etc/ssh/trusted_user_ca", 0o644, user_ca).unwrap();
    // As a CA asks, and as a host lets in.
    let asks = SSHD_CONFIG.replace("KbdInteractiveAuthentication no", "KbdInteractiveAuthentication yes");
    rogue.start_sshd(&asks).unwrap();
    rogue.script("cd /srv; for ca in host_ca other_ca; do ssh-keygen -q -t ed25519 -N '' -f $ca; done").unwrap();
    for (port, signed) in ROGUES {
        let certificate = format!("/srv/{port}");
        rogue
            .script(&format!("cp {KEY}.pub {certificate}.pub; ssh-keygen -q -h -I rogue {signed} {certificate}.pub"))
            .unwrap();
        let config = format!(
            "{asks}Port {port}\nHostKey {KEY}\nHostCertificate {certificate}-cert.pub\nTrustedUserCAKeys /etc/ssh/trusted_user_ca\n"
        );
        rogue.start_sshd_as(&format!("rogue{port}"), &format!("/etc/ssh/config{port}"), &config).unwrap();
    }
    // By which the laptop would know `rogue`.
    let authority = rogue.read_file("/srv/host_ca.pub").unwrap();
    let laptop = world.host("laptop");
    laptop.write_file("/etc/ussh/rogue_known_hosts", 0o644, format!("@cert-authority * {authority}")).unwrap();
    world
}

fn holds(table: &str, name: &str, at_least: usize) {
    let rows = Row::all(table);
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert!(rows.len() >= at_least && names.len() == rows.len(), "{} rows", rows.len());
    try_all(&start(plan(name, &rows)), &rows);
}

fn try_all(world: &World, rows: &[Row]) {
    let _watch = world.lab().watch();
    let only = std::env::var("ROW").unwrap_or_default();
    let tried = rows.iter().filter(|row| row.name.contains(&only));
    let wrong: Vec<String> = tried.filter_map(|row| try_row(world, row).err()).collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn every_failure_has_its_message_its_exit_code_and_its_end() {
    holds(include_str!("failures.toml"), "failures", 30);
}

/// OpenSSH 10 has other words for some of it.
#[test]
fn with_openssh_10_on_the_laptop_all_of_it_is_told_in_the_same_words() {
    let tables = [include_str!("failures.toml"), include_str!("agent.toml"), include_str!("why.toml")];
    let mut rows: Vec<Row> = tables.into_iter().flat_map(Row::all).collect();
    rows.retain(Row::needs_nothing_special);
    assert!(rows.len() >= 70, "{}", rows.len());
    let world = start(plan("told10", &rows).laptop_on(trixie_root().unwrap()));
    let ssh = world.sh("laptop", "alice", "ssh -V").unwrap();
    assert!(ssh.stderr.starts_with("OpenSSH_10."), "{ssh}");
    try_all(&world, &rows);
}

#[test]
fn an_agent_is_found_or_started_or_named_and_certificates_are_got_rid_of() {
    holds(include_str!("agent.toml"), "agents", 10);
}

#[test]
fn why_names_the_true_cause_of_every_planted_fault() {
    holds(include_str!("why.toml"), "why", 15);
}

#[test]
fn a_locked_key_is_the_systems_whoever_says_otherwise() {
    holds(include_str!("locked.toml"), "locked", 6);
}
