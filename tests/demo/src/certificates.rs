//! Steps a to c: getting a certificate, and what it is.

use std::time::Duration;

use ussh_e2e::lab::wait_until;
use ussh_e2e::{CA_DIR, World};

use crate::story::{Story, Told, ensure};

/// Longest wait for anything that a person would wait for.
pub const SOON: Duration = Duration::from_secs(20);

/// What the policy gives by default.
const EXTENSIONS: [&str; 4] = ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"];

/// a. From an empty agent to a command's output on web1, with one password and no question about a host key.
pub fn first_login(world: &World, story: &Story) -> Told {
    let empty = world.sh("laptop", "alice", "ssh-add -l")?;
    story.show("alice@laptop", "ssh-add -l", &empty.stdout);
    ensure(empty.stdout.contains("no identities"), || "the agent was not empty at the start".into())?;

    let (code, seen) = world.log_in("alice", "web1 id")?;
    story.show("alice@laptop", "ssh web1 id, through ussh", &seen);
    ensure(code == 0 && seen.contains("(alice)"), || format!("exit {code}, and alice's id is not in it"))?;
    ensure(!seen.contains("authenticity of host"), || "ssh asked about a host key".into())?;

    let asked = world.host("ca").log();
    ensure(!asked.contains("Failed"), || "the CA's log tells of a failure".into())?;
    let known = world.sh("laptop", "alice", "cat /etc/ssh/ssh_known_hosts; cat ~/.ssh/known_hosts 2>/dev/null")?;
    story.show("alice@laptop", "cat /etc/ssh/ssh_known_hosts ~/.ssh/known_hosts", &known.stdout);
    let mut lines = known.stdout.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    ensure(lines.all(|l| l.starts_with("@cert-authority ")), || "known_hosts holds more than @cert-authority".into())
}

/// b. One certificate, as policy says; the agent drops one by itself at its end.
pub fn in_the_agent(world: &World, story: &Story) -> Told {
    let shown = world.sh("laptop", "alice", "ssh-add -L | ssh-keygen -Lf -")?;
    story.show("alice@laptop", "ssh-add -L | ssh-keygen -Lf -", &shown.stdout);
    let certificates = world.certificates("alice")?;
    let [certificate] = certificates.as_slice() else {
        return Err(format!("{} certificates, not one", certificates.len()).into());
    };
    ensure(certificate.kind == "ssh-ed25519-cert-v01@openssh.com user certificate", || {
        "not a user certificate".into()
    })?;
    ensure(certificate.key_id == "alice" && certificate.principals == ["alice"], || "not alice's".into())?;
    ensure(certificate.critical_options.is_empty(), || "critical options that policy does not give".into())?;
    for name in EXTENSIONS {
        ensure(certificate.extensions.iter().any(|e| e == name), || format!("policy gives {name}, it is missing"))?;
    }
    let seconds = certificate.validity_seconds().ok_or("no validity is shown")?;
    ensure((28_800..=28_800 + 120).contains(&seconds), || format!("valid for {seconds} s, policy says 28800"))?;

    story.say("  dave is a visitor: policy gives him 7 seconds");
    let (code, _) = world.log_in("dave", "--login")?;
    ensure(code == 0, || format!("dave's login: exit {code}"))?;
    let before = world.sh("laptop", "dave", "ssh-add -l")?;
    story.show("dave@laptop", "ssh-add -l", &before.stdout);
    ensure(before.stdout.contains("ED25519-CERT"), || "dave's agent holds no certificate".into())?;
    wait_until(SOON, "dave's agent to drop the certificate", || is_empty(world, "dave"))?;
    let after = world.sh("laptop", "dave", "ssh-add -l")?;
    story.show("dave@laptop", "ssh-add -l       # 7 seconds later", &after.stdout);
    Ok(())
}

/// c. With a good certificate nothing is asked; plain `ssh -A` on a machine with nothing of ours does the same as `ussh`.
pub fn without_asking(world: &World, story: &Story) -> Told {
    // No terminal and no askpass: a question could not be asked.
    let second = world.sh("laptop", "alice", "ussh web1 hostname </dev/null")?;
    story.show("alice@laptop", "ussh web1 hostname </dev/null", &second.stdout);
    ensure(second.success() && second.stdout == "web1\n", || second.to_string())?;

    let stock = world.host("stock");
    let known = world.host("ca").read_bytes(&format!("{CA_DIR}/public/known_hosts"))?;
    stock.write_file("/etc/ssh/ssh_known_hosts", 0o644, known)?;
    let ours = stock.run(["sh", "-c", "ls /usr/bin/ussh /usr/sbin/usshca 2>&1"])?;
    ensure(!ours.success(), || "there is something of ours on the stock laptop".into())?;
    world.start_agent("stock", "alice")?;
    let terminal = world.terminal("stock", "alice", "ssh -A ca")?;
    terminal.expect("assword:", SOON)?;
    terminal.send(&format!("{}\n", world.password("alice")))?;
    let status = terminal.expect_exit(SOON)?;
    terminal.expect_close(SOON)?;
    story.show("alice@stock", "ssh -A ca", &terminal.transcript());
    ensure(status.success(), || format!("ssh -A ca: {status}"))?;
    let there = world.sh("stock", "alice", "ssh-add -l; ssh -o BatchMode=yes web1 hostname")?;
    story.show("alice@stock", "ssh-add -l; ssh -o BatchMode=yes web1 hostname", &there.stdout);
    ensure(there.success() && there.stdout.contains("ED25519-CERT"), || there.to_string())
}

/// Whether a person's agent on the laptop holds nothing.
pub fn is_empty(world: &World, user: &str) -> bool {
    world.sh("laptop", user, "ssh-add -l").is_ok_and(|o| o.stdout.contains("no identities"))
}
