//! Root on a hop has the agent that a user forwards to it, full or guarded. With the policy as it comes, the CA gives nothing new for it, by any verb.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::lab::{Output, Pty};
use ussh_e2e::{CA_DIR, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);

/// All that the CA's help names, and what it does not.
const VERBS: [&str; 19] = [
    "",
    "for=1m",
    "key=ecdsa",
    "principals=alice",
    "reason=please",
    "sign < /root/thief.pub",
    "sign < /root/alice.pub",
    "help",
    "whoami",
    "list --json",
    "revoke-mine",
    "krl",
    "feed",
    "renew",
    "admin list",
    "admin revoke --user alice",
    "admin key register alice < /root/thief.pub",
    "admin host sign - --name web1 < /root/thief.pub",
    "admin host token web9",
];

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = WorldPlan::new("borrowed").person("dave", "secret of dave", &["admins"]).start().unwrap();
    let web1 = world.host("web1");
    let known = world.host("ca").read_bytes(&format!("{CA_DIR}/public/known_hosts")).unwrap();
    web1.write_file("/etc/ssh/ssh_known_hosts", 0o644, known).unwrap();
    web1.script("ssh-keygen -q -t ed25519 -N '' -f /root/thief; cp /root/thief.pub /root/alice.pub").unwrap();
    world.guard_agents("web1").unwrap();
    world
});

/// The user is on web1, with the agent forwarded; until this is dropped.
fn session(user: &str, ssh: &str) -> Pty {
    let terminal =
        WORLD.terminal("laptop", user, &format!("exec {ssh} web1 'echo on $(hostname); exec sleep 1000'")).unwrap();
    terminal.expect("on web1", SOON).unwrap();
    terminal
}

/// What root on web1 gets with that agent, as the user and as themselves.
fn root_asks(user: &str, verb: &str) -> Vec<Output> {
    let web1 = WORLD.host("web1");
    let socket = format!("$(for s in /tmp/ssh-*/agent.*; do [ $(stat -c %U $s) = {user} ] && echo $s; done | head -1)");
    let with = |options: &str| {
        let script = format!(
            "export SSH_AUTH_SOCK={socket}; [ -S \"$SSH_AUTH_SOCK\" ] || exit 99; timeout 20 ssh -A {options} -o BatchMode=yes {user}@ca {verb}"
        );
        web1.run(["bash", "-c", &script]).unwrap()
    };
    vec![with(""), with("-i /root/thief")]
}

#[track_caller]
fn assert_nothing_for_it(user: &str) {
    let rows = || WORLD.usshca("list --json").unwrap().ok().unwrap().stdout;
    let before = rows();
    let agent = || WORLD.sh("laptop", user, "ssh-add -L").unwrap().stdout;
    let held = agent();
    for verb in VERBS {
        for out in root_asks(user, verb) {
            assert_eq!((out.status.code(), out.stdout.as_str()), (255, ""), "{verb}: {out}");
            assert!(out.stderr.contains("Permission denied (keyboard-interactive)"), "{verb}: {out}");
        }
    }
    assert_eq!(rows(), before, "the inventory has changed");
    assert_eq!(agent(), held, "the agent has changed");
    assert!(!WORLD.usshca("revocations --json").unwrap().ok().unwrap().stdout.contains(user));
}

#[test]
fn a_full_agent_that_is_forwarded_to_a_hop_gets_nothing_new_from_the_ca() {
    let _watch = WORLD.lab().watch();
    // A key of alice's own lies in it beside the certificate. That it is registered changes nothing: her rule wants PAM.
    let own = "mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id && ssh-add -q ~/.ssh/id && cat ~/.ssh/id.pub";
    let public = WORLD.sh("laptop", "alice", own).unwrap().ok().unwrap().stdout_bytes;
    let register = ["usshca", "--dir", CA_DIR, "key", "register", "alice"];
    WORLD.host("web1").write_file("/root/alice.pub", 0o600, &public).unwrap();
    WORLD.host("ca").command(register).stdin(public).run().unwrap().ok().unwrap();
    assert_eq!(WORLD.log_in("alice", "--login").unwrap().0, 0);
    let session = session("alice", "ssh -A");
    assert_nothing_for_it("alice");
    drop(session);
}

#[test]
fn a_guarded_agent_that_is_forwarded_to_a_hop_gets_nothing_new_from_the_ca() {
    let _watch = WORLD.lab().watch();
    // A key of dave's own beside the certificate shows which agent it is.
    let own = "mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id && ssh-add -q ~/.ssh/id";
    WORLD.sh("laptop", "dave", own).unwrap().ok().unwrap();
    assert_eq!(WORLD.log_in("dave", "--login").unwrap().0, 0);
    let session = session("dave", "ussh");
    let seen = WORLD.sh("laptop", "dave", "ussh web1 ssh-add -l").unwrap().ok().unwrap().stdout;
    assert!(seen.lines().count() == 1 && seen.contains("ED25519-CERT"), "{seen}");
    assert_nothing_for_it("dave");
    drop(session);
}
