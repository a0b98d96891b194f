//! Keys at the CA, with the stock `ssh` on real hosts: registered ones that let their users in, the user's own that get certificates, those that the CA makes; and the verbs of whoever got in.
//!
//! One world for all: each test has people of its own and leaves the CA as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod client_key;
mod injected;
mod nothing;
mod registered;
mod verbs;

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{Output, Pty};
use ussh_e2e::{CA_DIR, World, WorldPlan};

/// Longest wait for anything. PAM takes up to 3 s for each wrong password.
const SOON: Duration = Duration::from_secs(30);
/// ssh's own: it did not get in.
const NOT_IN: i32 = 255;
/// EX_USAGE of sysexits.h.
const USAGE: i32 = 64;

/// Rules in order; the first that matches decides.
const POLICY: &str = r#"
[[rule]]
name = "machines"
groups = ["machines"]
authentication = ["publickey"]
modes = ["inject", "client-key"]
validity_seconds = 300
principals = ["%u"]

[[rule]]
name = "both"
groups = ["both"]
authentication = ["publickey+pam"]
validity_seconds = 300
principals = ["%u"]

[[rule]]
name = "either"
groups = ["either"]
authentication = ["pam", "publickey"]
modes = ["inject", "client-key"]
key_types = ["ed25519", "ecdsa", "rsa"]
validity_seconds = 300
principals = ["%u"]

[[rule]]
name = "old hosts"
groups = ["oldies"]
key_types = ["ecdsa"]
validity_seconds = 300
principals = ["%u"]

[[rule]]
name = "people"
groups = ["people"]
key_types = ["ed25519"]
validity_seconds = 300
principals = ["%u"]
"#;

/// Who there is, each for one test.
const PEOPLE: [(&str, &str); 28] = [
    ("mach1", "machines"),
    ("mach2", "machines"),
    ("mach3", "machines"),
    ("mach4", "machines"),
    ("mach5", "machines"),
    ("mach6", "machines"),
    ("mach7", "machines"),
    ("mach8", "machines"),
    ("mach9", "machines"),
    ("mach10", "machines"),
    ("mach11", "machines"),
    ("mach12", "machines"),
    ("both1", "both"),
    ("both2", "both"),
    ("both3", "both"),
    ("both4", "both"),
    ("both5", "both"),
    ("eith1", "either"),
    ("eith2", "either"),
    ("eith3", "either"),
    ("eith4", "either"),
    ("eith5", "either"),
    ("olda1", "oldies"),
    ("peop1", "people"),
    ("peop2", "people"),
    ("peop3", "people"),
    ("peop4", "people"),
    ("peop5", "people"),
];

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut plan = WorldPlan::new("keys").policy(POLICY);
    for (name, group) in PEOPLE {
        plan = plan.person(name, &format!("password of {name}"), &[group]);
    }
    let world = plan.start().unwrap();
    world.host("ca").script("chage -E 0 mach4; chage -d 0 mach6").unwrap();
    world
});

/// A shell command of a person on the laptop, without a terminal: a question would be an error.
fn sh(user: &str, script: &str) -> Output {
    WORLD.sh("laptop", user, script).unwrap()
}

/// The same, on a terminal, with the password typed in when it is asked for. Gives what was shown and the exit code.
fn with_password(user: &str, script: &str) -> (i32, String) {
    let terminal: Pty = WORLD.terminal("laptop", user, script).unwrap();
    terminal.expect("assword:", SOON).unwrap();
    terminal.send(&format!("{}\n", WORLD.password(user))).unwrap();
    let status = terminal.expect_exit(SOON).unwrap();
    terminal.expect_close(SOON).unwrap();
    (status.code(), terminal.transcript())
}

/// A new key of a person's in `~/.ssh/NAME` and in their agent. Its fingerprint.
fn new_key(user: &str, name: &str, kind: &str) -> String {
    let script = format!(
        "mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t {kind} -N '' -C {user}@laptop -f ~/.ssh/{name} && ssh-add -q ~/.ssh/{name} && ssh-keygen -lf ~/.ssh/{name}.pub"
    );
    let out = sh(user, &script).ok().unwrap().stdout;
    out.split(' ').nth(1).unwrap().to_owned()
}

/// The same, registered. Its fingerprint.
fn registered_key(user: &str, name: &str, kind: &str) -> String {
    let fingerprint = new_key(user, name, kind);
    let public = sh(user, &format!("cat ~/.ssh/{name}.pub")).ok().unwrap().stdout_bytes;
    let argv = ["usshca", "--dir", CA_DIR, "key", "register", user, "-"];
    let said = WORLD.host("ca").command(argv).stdin(public).run().unwrap().ok().unwrap().stdout;
    assert!(said.starts_with(&fingerprint) && said.ends_with(&format!("registered for {user}\n")), "{said}");
    fingerprint
}

/// All that `usshca list` knows of a person, newest first.
fn rows(user: &str) -> Vec<Value> {
    let listed = WORLD.usshca("list --json").unwrap().ok().unwrap().stdout;
    let rows = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["kind"] == "user" && row["key_id"] == user).collect()
}

/// What was refused to a person, each once, in the order of the alphabet.
fn refusals(user: &str) -> Vec<String> {
    let mut all: Vec<_> = rows(user).iter().map(|row| row["outcome"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all.dedup();
    all
}

/// Who is denied by the stock client hears this, whatever was wrong.
#[track_caller]
fn assert_denied(out: &Output, methods: &str) {
    assert_eq!(out.status.code(), NOT_IN, "{out}");
    assert!(out.stderr.contains(&format!("Permission denied ({methods})")), "{out}");
}
