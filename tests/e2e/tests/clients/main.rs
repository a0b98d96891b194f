//! Stock clients as full clients of the CA: each gets a certificate into the agent that it forwards, or is told what is in the way. `docs/clients.md` says the same to people.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod openssh;
mod others;

use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::lab::{Pty, trixie_root};
use ussh_e2e::{Shown, World, WorldPlan, shown_certificates};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);

/// Debian 12's OpenSSH on `laptop`, Debian 13's on `laptop13`.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("clients").without_servers().bare_on("laptop13", trixie_root().unwrap());
    let world = plan.people(12, "admins").start().unwrap();
    let line = world.host("laptop").read_file("/etc/ssh/ssh_known_hosts").unwrap();
    world.host("laptop13").write_file("/etc/ssh/ssh_known_hosts", 0o644, line).unwrap();
    world
});

/// Waits for the prompt, and answers it.
fn answer(terminal: &Pty, prompt: &str, with: &str) {
    terminal.expect(prompt, SOON).unwrap();
    terminal.send(&format!("{with}\n")).unwrap();
}

/// Exit code, and all that was shown.
fn end(terminal: &Pty) -> (i32, String) {
    let status = terminal.expect_exit(SOON).unwrap();
    terminal.expect_close(SOON).unwrap();
    (status.code(), terminal.transcript())
}

/// The certificates in the person's agent on that host.
fn held(host: &str, user: &str) -> Vec<Shown> {
    shown_certificates(&WORLD.sh(host, user, "ssh-add -L | ssh-keygen -Lf -").unwrap().stdout)
}

/// One certificate, in the agent and in the inventory.
#[track_caller]
fn assert_delivered(host: &str, user: &str) {
    let held = held(host, user);
    let rows = WORLD.rows_of(user).unwrap();
    assert_eq!((held.len(), rows.len()), (1, 1), "{held:?}, {rows:?}");
    assert_eq!((held[0].serial, held[0].key_id.as_str()), (rows[0].serial, user));
    assert_eq!((rows[0].outcome.as_str(), rows[0].authenticated.as_str()), ("delivered", "pam"));
}
