//! What pretends to be break-glass or to be its report, and that one use is one row whatever is killed. And the manual's own steps.

use super::glass::*;
use super::*;

/// Of which the feed may say what it likes.
const OTHER_CA: &str = "/etc/ussh/other_glass_ca";

fn uses(host: &str) -> Vec<String> {
    let shown = WORLD.usshca(&format!("host show {host}")).unwrap().ok().unwrap().stdout;
    shown.lines().filter(|line| line.starts_with("break-glass ")).map(str::to_owned).collect()
}

/// The one that waits: its ID.
fn waiting(host: &Host) -> String {
    let names = host.list_folder(NOTES).unwrap();
    let ids: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".json")).collect();
    assert_eq!(ids.len(), 1, "{names:?}");
    ids[0].to_owned()
}

#[test]
fn with_a_feed_that_is_stale_for_days_break_glass_goes_on_and_nobody_else_gets_its_treatment() {
    let _watch = WORLD.lab().watch();
    let host = cut_off("glass5");
    // It has a feed, and no way to a newer one.
    host.script("cat /root/hosts.good > /etc/hosts").unwrap();
    hostd(&host, "sync").ok().unwrap();
    let stale = "[sync]\nsource = \"exec:/bin/false\"\nstale = \"refuse\"\nstale_after_seconds = 1\n";
    host.write_file("/etc/ussh/hostd.toml", 0o644, format!("{CONFIG}{stale}")).unwrap();
    assert_eq!(hostd(&host, "sync").status.code(), 1);
    // The KRL that the host has, of three days ago.
    host.script("touch -d '3 days ago' /etc/ssh/revoked_keys").unwrap();
    wait_until(SOON, "the feed to be stale", || {
        status(&host)["alarms"].to_string().contains("the feed is stale since ")
    })
    .unwrap();
    let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
    daemon.wait_for_output("Alarm: the feed is stale since ", SOON).unwrap();

    // The user CA's, with every word of a break-glass certificate: a certificate like all others, whose end is its own.
    let position = WORLD.log_position("glass5");
    let pretender = Forgery::of("alice").key_id("alice@break-glass").principals(&["alice", "break-glass", "root"]);
    let agent = WORLD.new_agent("alice").unwrap();
    WORLD.forge(&pretender.option("no-touch-required").validity("-5m:+8s")).unwrap().add_to(&agent).unwrap();
    let shell = agent.shell("ssh -A glass5").unwrap();
    let shown = hostd(&host, "sessions").stdout;
    assert!(shown.contains("alice@break-glass (serial ") && !shown.contains(", break-glass)"), "{shown}");
    shell.terminal().expect("your certificate has run out: this session ends now.", SOON).unwrap();
    shell.terminal().expect_exit(SOON).unwrap();
    let logged = WORLD.logged_since("glass5", position).unwrap();
    assert!(!logged.contains("BREAK-GLASS"), "{logged}");
    assert_eq!(notes(&host), [""; 0]);

    // The real one meanwhile, and a revocation by hand that ends it at once.
    assert_eq!(log_in("good", "glass5").stdout, "alice\n");
    let script = format!("cd; {}", ssh("gone", "-o IdentityAgent=none -tt", "glass5", "'echo i''n; sleep 100'"));
    let session = agent.terminal(&script).unwrap();
    session.expect("in", SOON).unwrap();
    let gone = laptop("cat bg/gone.pub").ok().unwrap().stdout;
    host.write_file("/root/gone.pub", 0o644, &gone).unwrap();
    host.run(["ssh-keygen", "-q", "-k", "-u", "-f", "/etc/ssh/revoked_keys", "/root/gone.pub"]).unwrap().ok().unwrap();
    session.expect("your certificate is no longer accepted here: this session ends now.", SOON).unwrap();
    session.expect_exit(SOON).unwrap();
    host.stop_service("ussh-hostd").unwrap();
}

#[test]
fn a_use_is_one_row_of_its_own_host_whatever_is_killed_rebooted_or_forged() {
    let _watch = WORLD.lab().watch();
    let host = cut_off("glass6");
    host.write_file("/etc/ussh/hostd.toml", 0o644, "").unwrap();
    host.script("cat /root/hosts.good > /etc/hosts").unwrap();
    assert_eq!(log_in("good", "glass6").stdout, "alice\n");
    let id = waiting(&host);

    // No user writes, takes away or reads notes.
    for attack in [
        format!("echo {{}} > {NOTES}/x.json"),
        format!("rm {NOTES}/{id}.json"),
        format!("cat {NOTES}/{id}.json"),
        format!("mv {NOTES} {NOTES}.old"),
    ] {
        let refused = host.run_as("alice", ["sh", "-c", &attack]).unwrap();
        assert!(refused.stderr.contains("Permission denied"), "{attack}: {refused:?}");
    }
    // One of a user's, brought there by whatever mistake.
    let forged = host.read_file(&format!("{NOTES}/{id}.json")).unwrap().replace(&id, "b-1-2");
    host.write_file_as("alice", "/tmp/b-1-2.json", 0o600, &forged).unwrap();
    host.run(["mv", "/tmp/b-1-2.json", &format!("{NOTES}/b-1-2.json")]).unwrap().ok().unwrap();

    // Killed after the CA has written its row, before the host has taken note of that.
    let mark = format!("{NOTES}/{id}.ca");
    let kill =
        ["strace", "-f", "-o", "/dev/null", "-P", &mark, "-e", "trace=openat", "-e", "inject=openat:signal=KILL"];
    let killed = host.run(kill.into_iter().chain(["ussh-hostd", "report"])).unwrap();
    assert!(!killed.success() && killed.stdout.is_empty(), "{killed:?}");
    assert!(host.exists(&format!("{NOTES}/{id}.json")) && !host.exists(&mark));
    assert_eq!(uses("glass6").len(), 1, "the CA has it");
    let again = hostd(&host, "report");
    assert!(again.stderr.contains("b-1-2.json: cannot be read"), "{again:?}");
    assert!(!host.exists(&format!("{NOTES}/{id}.json")));
    assert_eq!(uses("glass6").len(), 1);
    host.remove_file(&format!("{NOTES}/b-1-2.json")).unwrap();

    // A note that waited over a restart of the machine; and one of a session whose number is another's now.
    let of_before = "00000000-1111-4222-8333-444444444444-1-2";
    host.write_file(&format!("{NOTES}/{of_before}.json"), 0o600, forged.replace("b-1-2", of_before)).unwrap();
    hostd(&host, "report").ok().unwrap();
    assert_eq!(host.list_folder(NOTES).unwrap(), [""; 0]);
    assert_eq!(uses("glass6").len(), 2);

    // Another host that tells the very same can tell it of itself only, and names no other.
    let liar = cut_off("glass7");
    liar.script("cat /root/hosts.good > /etc/hosts").unwrap();
    liar.write_file("/etc/ussh/hostd.toml", 0o644, "").unwrap();
    liar.script(&format!("mkdir -pm 700 {NOTES}")).unwrap();
    let lie = forged.replace("b-1-2", &id);
    liar.write_file(&format!("{NOTES}/{id}.json"), 0o600, &lie).unwrap();
    hostd(&liar, "report").ok().unwrap();
    assert_eq!((uses("glass6").len(), uses("glass7").len()), (2, 1));
    let named = lie.replacen('{', "{\"host\":\"glass6\",", 1).replace(&id, "b-9-9");
    liar.write_file(&format!("{NOTES}/b-9-9.json"), 0o600, named).unwrap();
    assert!(hostd(&liar, "report").stderr.contains("b-9-9.json: cannot be read"));
    assert_eq!((uses("glass6").len(), uses("glass7").len()), (2, 1));

    // A signed feed that revokes the break-glass CA is not taken, and changes nothing.
    liar.script(&format!(
        "ssh-keygen -q -t ed25519 -N '' -f {OTHER_CA}; cat {OTHER_CA}.pub >> /etc/ussh/break_glass_ca.pub"
    ))
    .unwrap();
    hostd(&liar, "sync").ok().unwrap();
    let installed = || [TRUSTED, "/etc/ssh/revoked_keys"].map(|file| liar.read_bytes(file).unwrap());
    let before = installed();
    let fingerprint = liar.script(&format!("ssh-keygen -l -f {OTHER_CA}.pub | cut -d' ' -f2")).unwrap().stdout;
    WORLD.usshca(&format!("revoke --key {}", fingerprint.trim())).unwrap().ok().unwrap();
    let refused = hostd(&liar, "sync");
    let reason = format!("the revocation list revokes the break-glass CA {}", fingerprint.trim());
    assert!(refused.status.code() == 1 && refused.stderr.contains(&reason), "{refused:?}");
    assert_eq!(installed(), before);
    assert_eq!(log_in("good", "glass7").stdout, "alice\n");
}

/// The manual's blocks of commands, in order.
fn documented() -> Vec<String> {
    let manual = include_str!("../../../../docs/break_glass.md");
    manual.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The command in the text that begins like this.
fn inline(start: &str) -> String {
    let manual = include_str!("../../../../docs/break_glass.md");
    let from = manual.find(&format!("`{start}")).unwrap_or_else(|| panic!("no `{start}` in the manual")) + 1;
    manual[from..].split('`').next().unwrap().to_owned()
}

#[test]
fn the_manuals_steps_lead_into_a_host_and_out_again() {
    let _watch = WORLD.lab().watch();
    let host = cut_off("glass8");
    host.script("cat /root/hosts.good > /etc/hosts").unwrap();
    laptop("mkdir manual; printf '#!/bin/sh\\necho\\n' > manual/askpass; chmod 700 manual/askpass").ok().unwrap();
    // No passphrase, and a security key of software: the rest is as it stands there.
    let on_laptop = |commands: &str| {
        let env = format!("export SSH_SK_PROVIDER={PROVIDER} SSH_ASKPASS=$PWD/askpass SSH_ASKPASS_REQUIRE=force");
        laptop(&format!("cd manual && {env} && set -e\n{commands}"))
    };
    let blocks = documented();
    let [make, install, take_back] = &blocks[..] else { panic!("{blocks:?}") };
    on_laptop(make).ok().unwrap();
    let ca = laptop("cat manual/break_glass_ca.pub").ok().unwrap().stdout;
    host.write_file("/root/break_glass_ca.pub", 0o644, ca).unwrap();
    let installed = host.run(["bash", "-c", &format!("cd /root && set -e\n{install}")]).unwrap();
    let fingerprint = laptop("ssh-keygen -lf manual/break_glass_ca.pub | cut -d' ' -f2").ok().unwrap().stdout;
    let is_trusted = format!("break-glass CA {} is trusted\n", fingerprint.trim());
    assert!(installed.stdout.ends_with(&is_trusted), "{installed}");
    assert!(installed.stdout.contains("(1 CA key and 1 for break-glass)\n"), "{installed}");
    // No daemon runs here, and that is all there is to be said.
    assert_eq!(installed.status.code(), 69, "{installed}");
    assert!(installed.stderr.ends_with("; all else is good\n") && installed.stderr.lines().count() == 1, "{installed}");
    let keys = hostd(&host, "status").stdout;
    assert!(keys.contains(&format!("\nCA keys    2, for break-glass of them {}\n", fingerprint.trim())), "{keys}");

    let own = format!(
        "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentityAgent=none \
         -o SecurityKeyProvider={PROVIDER}"
    );
    let use_it = inline("ssh -i ").replace("web1", "glass8").replacen("ssh ", &format!("ssh {own} "), 1);
    let log_in = || on_laptop(&format!("{use_it} id -un"));
    let position = WORLD.log_position("glass8");
    assert_eq!(log_in().stdout, "root\n");
    let logged = WORLD.logged_since("glass8", position).unwrap();
    assert!(logged.contains("BREAK-GLASS login by certificate ID \"alice@break-glass\" (serial 1)"), "{logged}");
    let public = laptop("cat manual/alice_break_glass.pub").ok().unwrap().stdout;
    host.write_file("/root/alice_break_glass.pub", 0o644, public).unwrap();
    host.script(&format!("cd /root && set -e\n{take_back}")).unwrap().ok().unwrap();
    assert_eq!(log_in().status.code(), 255, "taken back");
    hostd(&host, "sync").ok().unwrap();
    assert_eq!(log_in().status.code(), 255, "a sync gives nothing back");
}
