//! The table of PAM conversations: a stack, what a person types at the stock client, and what must come of it: at the client, in the inventory, and for whoever comes next.
//!
//! Modules are real ones: Debian's, a directory behind one of them, and `pam_lab.c`, which does as its line says. Each row has a CA of its own, and they run side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod directory;
mod row;
mod rows;
mod stand;

use std::process::Command;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use ussh_e2e::{World, WorldPlan};

use self::row::Row;

/// Longest wait for anything.
const SOON: Duration = row::PATIENCE;
/// A CA that nobody serves: rows are copies of it.
const TEMPLATE: &str = "/var/lib/template";
/// Rows at a time. Most of them wait most of the time.
const SIDE_BY_SIDE: usize = 10;

/// Whoever is in `staff` gets a certificate.
const POLICY: &str = r#"
[[rule]]
name = "staff"
groups = ["staff"]
validity_seconds = 600
principals = ["%u"]
"#;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("pam-table").without_servers().policy(POLICY);
    // Whom modules make of others.
    let plan = plan.person("alice", "correct horse", &["staff"]).person("canon", "secret", &["staff"]);
    let world = plan.people(64, "staff").start().unwrap();
    let ca = world.host("ca");
    install_module(&world);
    ca.script(&format!("usshca --dir {TEMPLATE} init --name ca --listen 0.0.0.0:2200")).unwrap();
    ca.write_file(&format!("{TEMPLATE}/policy.toml"), 0o644, POLICY).unwrap();
    let line = ca.read_file(&format!("{TEMPLATE}/public/known_hosts")).unwrap();
    world.host("laptop").write_file("/etc/ssh/ssh_known_hosts", 0o644, line).unwrap();
    world
});

/// Builds `pam_lab.so` on this machine, and puts it where the CA's libpam looks.
fn install_module(world: &World) {
    let build = tempfile::tempdir().unwrap();
    let module = build.path().join("pam_lab.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pam_table/pam_lab.c");
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-o"]).arg(&module).arg(source);
    assert!(cc.status().unwrap().success());
    let target = "/usr/lib/x86_64-linux-gnu/security/pam_lab.so";
    world.host("ca").write_file(target, 0o644, std::fs::read(module).unwrap()).unwrap();
}

/// Only this row.
const ONLY: &str = "PAM_ROW";

#[test]
fn every_row_of_the_table_holds() {
    let _watch = WORLD.lab().watch();
    let only = std::env::var(ONLY).unwrap_or_default();
    let rows: Vec<Row> = rows::all().into_iter().filter(|row| row.name.contains(&only)).collect();
    assert!(rows.len() >= 20 || !only.is_empty());
    let (waiting, wrong) = (Mutex::new(rows.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(row) = waiting.lock().unwrap().next() else { break };
                    let start = Instant::now();
                    let found = row.run();
                    println!(
                        "{:6.2} s  {}  {}",
                        start.elapsed().as_secs_f32(),
                        row.name,
                        if found.is_empty() { "" } else { "WRONG" }
                    );
                    wrong.lock().unwrap().extend(found.into_iter().map(|what| format!("{}: {what}", row.name)));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
