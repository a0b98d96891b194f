//! The steps of the main job. Each one does a thing as a person would, then has a stock tool prove it.

use std::time::{Duration, Instant};

use crate::stage::{Stage, Text};
use crate::story::{Story, Told, ensure};

/// Longest wait for anything a person would wait for.
const PATIENCE: Duration = Duration::from_secs(15);

/// a. From an empty agent to a command's output on web1, with one password and no host key question.
pub fn first_login(stage: &Stage<'_>, story: &Story) -> Told {
    let empty = stage.sh("laptop", "alice", "ssh-add -l")?;
    story.show("laptop", "ssh-add -l", &empty.text);
    ensure(empty.text.contains("no identities"), || "the agent was not empty at the start".into())?;

    let mut terminal = stage.terminal("laptop", "alice", "ussh web1 id")?;
    terminal.expect("assword:", PATIENCE)?;
    terminal.send_line(stage.password("alice"))?;
    let (code, seen) = terminal.end(PATIENCE)?;
    story.show("laptop", "ussh web1 id", &seen);
    ensure(code == 0 && seen.contains("(alice)"), || format!("exit {code}, and no id of alice in it"))?;
    ensure(!seen.contains("authenticity of host"), || "ssh asked about a host key".into())?;

    let known = stage.sh("laptop", "alice", "cat /etc/ssh/ssh_known_hosts; cat ~/.ssh/known_hosts")?;
    story.show("laptop", "cat /etc/ssh/ssh_known_hosts", &known.text);
    let mut lines = known.text.lines().filter(|l| !l.trim().is_empty() && !l.contains("No such file"));
    ensure(lines.all(|l| l.starts_with("@cert-authority ")), || "known_hosts holds more than @cert-authority".into())
}

/// b. One certificate, as policy says; an agent drops one by itself at its end.
pub fn what_the_agent_holds(stage: &Stage<'_>, story: &Story) -> Told {
    let shown = certificate_of(stage, "alice")?;
    story.show("laptop", "ssh-add -L | ssh-keygen -Lf -", &shown);
    ensure(shown.matches("user certificate").count() == 1, || "not exactly one user certificate".into())?;
    ensure(list_under(&shown, "Principals:") == ["alice"], || "principals are not policy's".into())?;
    ensure(list_under(&shown, "Critical Options:") == ["(none)"], || "critical options are not policy's".into())?;
    let extensions = list_under(&shown, "Extensions:");
    for wanted in ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"] {
        ensure(extensions.iter().any(|e| e == wanted), || format!("policy gives {wanted}, the certificate does not"))?;
    }
    let seconds = validity_seconds(stage, &shown)?;
    ensure((28_800..=28_800 + 120).contains(&seconds), || format!("valid for {seconds} s, policy says 8 h"))?;

    story.say("  bob is a contractor: his certificates last 20 seconds");
    log_in(stage, "bob", "ussh web1 true")?;
    let before = stage.sh("laptop", "bob", "ssh-add -l")?;
    story.show("laptop(bob)", "ssh-add -l", &before.text);
    ensure(before.text.contains("ED25519-CERT"), || "bob's agent holds no certificate".into())?;
    stage.wait("bob's agent to drop it", Duration::from_secs(30), || {
        Ok(stage.sh("laptop", "bob", "ssh-add -l")?.text.contains("no identities"))
    })?;
    story.show("laptop(bob)", "ssh-add -l        # when it had run out", "The agent has no identities.");
    Ok(())
}
