//! The guarded agent towards hosts, on real ones: `ussh host` forwards it, sudo works through it, and root on the host gets no further.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{trixie_root, wait_until};
use ussh_e2e::{World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

/// web1 has Debian 12's OpenSSH 9.2, web13 Debian 13's 10.0.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("guarded").without_servers().server("web1").server_on("web13", trixie_root().unwrap());
    let world = plan.people(12, "admins").start().unwrap();
    let laptop = world.host("laptop");
    let config = laptop.read_file("/etc/ussh/ussh.toml").unwrap();
    let rules = "[[host]]\nmatch = [\"web*\"]\n";
    laptop.write_file("/etc/ussh/ussh.toml", 0o644, format!("{config}\n{rules}")).unwrap();
    // sudo-rs does not know the other settings, and says so each time.
    let sudoers = "Defaults timestamp_timeout=0, passwd_tries=1\n%admins ALL=(ALL) ALL\n";
    world.host("web13").write_file("/etc/sudoers.d/ussh", 0o440, sudoers).unwrap();
    world
});

/// Somebody with a certificate.
fn somebody() -> String {
    let name = WORLD.somebody().unwrap();
    let (code, seen) = WORLD.log_in(&name, "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    name
}

/// What `ussh --log --json` has.
fn log_of(user: &str) -> Vec<Value> {
    let output = WORLD.sh("laptop", user, "ussh --log --json").unwrap().ok().unwrap();
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn sudo_works_through_it_on_openssh_9_and_10_and_the_log_says_what_was_signed() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    for server in ["web1", "web13"] {
        let output = WORLD.sh("laptop", &user, &format!("ussh {server} sudo id -u")).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_str()), (0, "0\n"), "{server}: {output}");
        let entries = log_of(&user);
        let last = entries.last().unwrap();
        assert_eq!(last["outcome"], "signed", "{entries:?}");
        assert_eq!(last["challenge"]["host"], server);
        assert_eq!(last["challenge"]["service"], "sudo");
        assert_eq!(last["challenge"]["user"], user.as_str());
        assert_eq!(last["key_id"], user.as_str());
    }
}
