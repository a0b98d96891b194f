//! Logging in at the CA with `ssh` and `ussh`, on real hosts.
//!
//! One world for all: each test has people of its own and leaves the CA as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod accounts;
mod arguments;
mod host_keys;
mod nothing_asked;
mod policy;

use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::lab::Pty;
use ussh_e2e::{World, WorldPlan};

/// Longest wait for anything. PAM takes up to 3 s for each wrong password.
const SOON: Duration = Duration::from_secs(30);

/// EX_UNAVAILABLE of sysexits.h: no certificate.
const UNAVAILABLE: i32 = 69;
/// EX_CONFIG of sysexits.h.
const CONFIG: i32 = 78;

/// Rules in order; the first that matches decides.
const POLICY: &str = r#"
[[rule]]
name = "admins"
groups = ["admins"]
validity_seconds = 28800
principals = ["%u"]

[[rule]]
name = "contractors"
groups = ["contractors"]
validity_seconds = 600
principals = ["%u"]

[[rule]]
name = "operators"
groups = ["operators"]
validity_seconds = 600
principals = ["%u", "ops"]
extensions = ["permit-pty"]
force_command = "echo forced for $USER"
source_address = ["10.77.0.0/16", "192.0.2.7"]

[[rule]]
name = "far away"
users = ["sven"]
validity_seconds = 600
principals = ["%u"]
source_address = ["192.0.2.0/24"]

[[rule]]
name = "dismissed"
users = ["dora"]
deny = true
"#;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let people = [
        ("walt", "admins"),
        ("lena", "admins"),
        ("erik", "admins"),
        ("paul", "admins"),
        ("nora", "visitors"),
        ("nina", "admins"),
        ("dora", "admirers"),
        ("gina", "admins"),
        ("omar", "operators"),
        ("otto", "operators"),
        ("sven", "strangers"),
        ("ines", "admins"),
        ("jane", "admins"),
        ("karl", "admins"),
        ("mona", "admins"),
        ("nils", "admins"),
        ("rosa", "admins"),
        ("theo", "admins"),
    ];
    let mut plan = WorldPlan::new("login").policy(POLICY).bare("rogue");
    for (name, group) in people {
        plan = plan.person(name, &format!("password of {name}"), &[group]);
    }
    let world = plan.start().unwrap();
    // gina is an operator too: the rule for admins stands above.
    world
        .host("ca")
        .script("usermod -aG operators gina; passwd -q -l lena; chage -E 0 erik; chage -d 0 paul; passwd -q -d nina")
        .unwrap();
    world
});

/// A shell command of a person on the laptop's terminal.
fn terminal(user: &str, script: &str) -> Pty {
    WORLD.terminal("laptop", user, script).unwrap()
}

/// Waits for a prompt with these words, and answers it.
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

/// Logs in with the right password; the agent then holds one certificate.
fn log_in(user: &str) {
    let (code, seen) = WORLD.log_in(user, "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    assert_eq!(WORLD.certificates(user).unwrap().len(), 1);
}

/// Nothing was issued to this person, and nothing is in their agent.
#[track_caller]
fn assert_nothing_issued(user: &str) {
    let rows = WORLD.rows_of(user).unwrap();
    assert!(rows.iter().all(|row| row.is_refused_login() && row.outcome.starts_with("refused: PAM: ")), "{rows:?}");
    assert_eq!(WORLD.sh("laptop", user, "ssh-add -l").unwrap().stdout, "The agent has no identities.\n");
}

/// And the inventory says that PAM refused them.
#[track_caller]
fn assert_refused_by_pam(user: &str) {
    assert_ne!(WORLD.rows_of(user).unwrap(), [], "{user}");
    assert_nothing_issued(user);
}
