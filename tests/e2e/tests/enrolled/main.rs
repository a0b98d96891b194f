//! ussh-hostd's own half of enrolment: from a token to logins without a question in one command, renewal, copies of a machine, and the feed over SSH.
//!
//! One world for all: each test has hosts of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod cut_short;
mod fed;
mod glass;
mod glass_forged;
mod glass_limit;
mod glass_sudo;
mod refused;
mod renewed;
mod revoked_here;
mod unread;

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{Host, Output, SSHD_CONFIG, trixie_root, wait_until};
use ussh_e2e::{Forgery, World, WorldPlan, confined};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);
const DROP_IN: &str = "/etc/ssh/sshd_config.d/ussh-host.conf";
const INCLUDE: &str = "Include /etc/ssh/sshd_config.d/*.conf\n";
const ED25519: &str = "/etc/ssh/ssh_host_ed25519_key";

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let hosts = [
        "new1",
        "new2",
        "new3",
        "new4",
        "new5",
        "new6",
        "new7",
        "new8",
        "new9",
        "new10",
        "typed",
        "halved",
        "elsewhere",
        "back",
        "twin",
        "cut1",
        "cut2",
        "cut3",
        "here",
    ];
    let hosts = hosts.map(str::to_owned).into_iter().chain((1..=9).map(|n| format!("glass{n}")));
    let plan = WorldPlan::new("enrolled")
        .without_servers()
        .installed_on("new13", trixie_root().unwrap())
        .installed_on("new14", trixie_root().unwrap())
        .installed_on("new15", trixie_root().unwrap())
        .installed_on("new16", trixie_root().unwrap())
        .installed_on("glass13", trixie_root().unwrap());
    hosts.fold(plan, |plan, host| plan.installed(&host)).start().unwrap()
});

/// A host with sshd as Debian has it, and nothing of ours set up.
fn prepare(name: &str) -> Host {
    let host = WORLD.host(name);
    host.script("mkdir -p /etc/ssh/sshd_config.d; rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ecdsa -N '' -f /etc/ssh/ssh_host_ecdsa_key").unwrap();
    host.start_sshd(&format!("{INCLUDE}{SSHD_CONFIG}PasswordAuthentication no\n")).unwrap();
    host
}

/// A new token for these names.
fn token(names: &str) -> String {
    let output = WORLD.usshca(&format!("host token {names}")).unwrap().ok().unwrap();
    output.stdout
}

/// `ussh-hostd enroll ca` with a token on its standard input.
fn enroll(host: &Host, arguments: &str, token: &str) -> Output {
    host.command(["sh", "-c", &format!("exec ussh-hostd enroll ca {arguments}")]).stdin(token).run().unwrap()
}

fn hostd(host: &Host, arguments: &str) -> Output {
    let script = format!("exec ussh-hostd {arguments}");
    let argv = ["sh", "-c", &script];
    // What the daemon does by itself too is done with no more than its unit leaves it.
    if ["sync", "renew"].iter().any(|verb| arguments.starts_with(verb)) {
        return host.run(confined(&argv)).unwrap();
    }
    host.run(argv).unwrap()
}

/// What `check` says where nothing is wrong but that no daemon runs.
fn is_good_but_for_its_daemon(host: &Host) {
    let said = hostd(host, "check");
    assert_eq!((said.status.code(), said.stdout.as_str()), (69, ""), "{said:?}");
    assert!(said.stderr.starts_with("ussh-hostd: the daemon does not run: "), "{said:?}");
    assert!(said.stderr.ends_with("; all else is good\n") && said.stderr.lines().count() == 1, "{said:?}");
}

fn status(host: &Host) -> Value {
    serde_json::from_str(&hostd(host, "status --json").stdout).unwrap()
}

/// Outcomes of a host's certificates in the CA's inventory, newest first.
fn outcomes(host: &str) -> Vec<String> {
    let rows = WORLD
        .inventory()
        .unwrap()
        .into_iter()
        .filter(|row| row.kind == "host" && row.key_id == host && row.serial != 0);
    rows.map(|row| row.outcome).collect()
}

/// Serial of the host certificate that sshd shows. `None`: it does not listen; while it reads its configuration anew it refuses connections.
fn shown(host: &str) -> Option<u64> {
    let algorithms = "ssh-ed25519-cert-v01@openssh.com,ecdsa-sha2-nistp256-cert-v01@openssh.com";
    let script = format!(
        "ssh -v -o BatchMode=yes -o StrictHostKeyChecking=yes -o HostKeyAlgorithms={algorithms} {host} true 2>&1 </dev/null"
    );
    let said = WORLD.sh("laptop", "alice", &script).unwrap().stdout;
    let line = said.lines().find(|line| line.contains("Server host certificate: "))?;
    line.split("serial ").nth(1)?.split(' ').next()?.parse().ok()
}

#[test]
fn one_command_leads_from_a_token_to_logins_with_no_question_about_the_host_key() {
    let _watch = WORLD.lab().watch();
    assert_eq!(WORLD.log_in("alice", "--login").unwrap().0, 0);
    let known = || WORLD.sh("laptop", "alice", "cat ~/.ssh/known_hosts 2>/dev/null; true").unwrap().stdout;
    let before = known();
    // OpenSSH 9.2 and 10.0.
    for name in ["new1", "new13"] {
        let host = prepare(name);
        let said = enroll(&host, "", &token(&format!("{name} {name}.example.com"))).ok().unwrap();
        for line in [
            &format!("ED25519: certificate for {name}, {name}.example.com"),
            "ECDSA: certificate for ",
            &format!("enrolled as {name}"),
            "feed key SHA256:",
            "sshd has read it",
        ] {
            assert!(said.stdout.contains(line), "{line}: {said:?}");
        }
        for algorithm in ["ssh-ed25519-cert-v01@openssh.com", "ecdsa-sha2-nistp256-cert-v01@openssh.com"] {
            let script = format!(
                "ssh -v -o BatchMode=yes -o StrictHostKeyChecking=yes -o HostKeyAlgorithms={algorithm} {name} hostname </dev/null"
            );
            let said = WORLD.sh("laptop", "alice", &script).unwrap();
            assert_eq!((said.status.code(), said.stdout.as_str()), (0, format!("{name}\n").as_str()), "{said:?}");
            assert!(said.stderr.contains(&format!("Server host certificate: {algorithm}")), "{said:?}");
        }
        assert_eq!(outcomes(name), ["delivered", "delivered"]);
        let modes = host.script("stat -c '%n %a %U' /etc/ssh/*-cert.pub /etc/ssh/revoked_keys /etc/ssh/trusted_user_ca /etc/ssh/sshd_config.d/* /var/lib/ussh-hostd/*").unwrap().stdout;
        assert!(
            modes
                .lines()
                .all(|line| line.ends_with(" 644 root")
                    || (line.ends_with(" 600 root") && line.ends_with(".json 600 root"))),
            "{modes}"
        );
        // The first feed comes over SSH from the same CA, and nothing is left to be said.
        let synced = hostd(&host, "sync").ok().unwrap();
        assert!(synced.stdout.starts_with("feed of ca: version "), "{synced:?}");
        is_good_but_for_its_daemon(&host);
        let told = status(&host);
        assert_eq!((told["host"].as_str(), told["host_certificates"].as_array().unwrap().len()), (Some(name), 2));
        assert_eq!(told["alarms"], serde_json::json!([]));
    }
    assert_eq!(known(), before, "a key was learnt");
    let taken = WORLD
        .host("new1")
        .script("find /root /run -mindepth 1 -maxdepth 1 '(' -name .ssh -o -name 'ussh-hostd.*' ')'")
        .unwrap()
        .stdout;
    assert_eq!(taken, "", "nothing is left behind");
}

#[test]
fn keys_that_are_named_are_taken_and_those_that_are_not_there_are_made() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new2");
    host.script("mkdir -p /etc/own; ssh-keygen -q -t ecdsa -b 384 -N '' -f /etc/own/key").unwrap();
    let refused = enroll(&host, "--key key", &token("new2"));
    assert_eq!(refused.status.code(), 64, "{refused:?}");
    let said = enroll(&host, "--key /etc/own/key --key /etc/own/made", &token("new2")).ok().unwrap();
    assert!(said.stdout.contains("ECDSA: certificate for new2\nED25519: certificate for new2\n"), "{said:?}");
    let config = host.run(["sshd", "-T"]).unwrap().ok().unwrap().stdout;
    // What sshd had by itself goes on, although a HostKey line takes its place.
    for line in [
        "hostkey /etc/own/key",
        "hostkey /etc/own/made",
        "hostkey /etc/ssh/ssh_host_ecdsa_key",
        "hostcertificate /etc/own/key-cert.pub",
        "hostcertificate /etc/own/made-cert.pub",
    ] {
        assert!(config.lines().any(|l| l == line), "{line}: {config}");
    }
    let script = "ssh-keyscan -c -t ed25519 new2 2>/dev/null";
    let shown = WORLD.sh("laptop", "alice", script).unwrap().stdout;
    assert!(shown.contains("ssh-ed25519-cert-v01@openssh.com"), "{shown}");
    let made = host.script("stat -c %a /etc/own/made /etc/own/made.pub").unwrap().stdout;
    assert_eq!(made, "600\n644\n");
}

#[test]
fn a_token_that_is_typed_is_not_shown_and_the_terminal_is_what_it_was_also_after_ctrl_c() {
    let _watch = WORLD.lab().watch();
    let host = prepare("typed");
    let script = "trap : INT; ussh-hostd enroll ca; echo it was $?; stty; echo done";
    for (typed, code) in [("hunter2\n", 64), ("hunter2\x03", 130)] {
        let terminal = host.command(["sh", "-c", script]).terminal().unwrap();
        terminal.expect("Token: ", SOON).unwrap();
        terminal.send(typed).unwrap();
        terminal.expect(&format!("it was {code}\r\n"), SOON).unwrap();
        terminal.expect("done", SOON).unwrap();
        terminal.expect_exit(SOON).unwrap();
        let shown = terminal.transcript();
        assert!(!shown.contains("hunter2"), "{shown}");
        // stty names what is not as usual.
        assert!(shown.contains("speed ") && !shown.contains("-echo"), "{shown}");
    }
    let said = token("typed");
    let terminal = host.command(["ussh-hostd", "enroll", "ca"]).terminal().unwrap();
    terminal.expect("Token: ", SOON).unwrap();
    terminal.send(&said).unwrap();
    terminal.expect("enrolled as typed", SOON).unwrap();
    assert!(terminal.expect_exit(SOON).unwrap().success());
    assert!(!terminal.transcript().contains(said.trim()), "{}", terminal.transcript());
}

#[test]
fn a_public_half_that_is_missing_is_written_and_the_host_is_good() {
    let _watch = WORLD.lab().watch();
    let host = prepare("halved");
    host.script("rm /etc/ssh/ssh_host_*_key.pub").unwrap();
    enroll(&host, "", &token("halved")).ok().unwrap();
    let halves = "for key in ed25519 ecdsa; do ssh-keygen -l -f /etc/ssh/ssh_host_${key}_key.pub; ssh-keygen -y -f /etc/ssh/ssh_host_${key}_key | ssh-keygen -l -f -; done | cut -d' ' -f2";
    let said = host.script(halves).unwrap().stdout;
    let digests: Vec<&str> = said.lines().collect();
    assert_eq!((digests[0], digests[2]), (digests[1], digests[3]), "{said}");
    hostd(&host, "sync").ok().unwrap();
    is_good_but_for_its_daemon(&host);
}

/// Our `session` line in sshd's PAM stack.
fn record_sessions(host: &Host) {
    let pam = host.read_file("/etc/pam.d/sshd").unwrap();
    let ours = "session requisite pam_ussh.so\n@include common-session";
    host.write_file("/etc/pam.d/sshd", 0o644, pam.replacen("@include common-session", ours, 1)).unwrap();
}

/// The agent has a newer certificate in time: what the daemon makes of it while the feed is stale.
#[test]
fn a_stale_feed_is_an_alarm_and_keeps_sessions_from_being_renewed_where_the_policy_says_so() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new9");
    enroll(&host, "", &token("new9")).ok().unwrap();
    hostd(&host, "sync").ok().unwrap();
    record_sessions(&host);
    for policy in ["refuse", "warn"] {
        let config = format!(
            "warn_before_seconds = 3\nlook_before_seconds = 3\n[sync]\nsource = \"exec:/bin/false\"\nstale = \"{policy}\"\nstale_after_seconds = 1\n"
        );
        host.write_file("/etc/ussh/hostd.toml", 0o644, config).unwrap();
        wait_until(SOON, "the feed to be stale", || {
            status(&host)["alarms"].to_string().contains("the feed is stale since ")
        })
        .unwrap();
        assert_eq!(hostd(&host, "check").status.code(), 1);
        let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
        daemon.wait_for_output("Alarm: the feed is stale since ", SOON).unwrap();

        let agent = WORLD.new_agent("bob").unwrap();
        WORLD.forge(&Forgery::of("bob").validity("-5m:+7s")).unwrap().add_to(&agent).unwrap();
        let shell = agent.shell("ssh -A new9").unwrap();
        WORLD.forge(&Forgery::of("bob").validity("-5m:+1h")).unwrap().add_to(&agent).unwrap();
        if policy == "refuse" {
            shell.terminal().expect("your certificate has run out: this session ends now.", SOON).unwrap();
            daemon.wait_for_output("no look could be made: the feed is stale", SOON).unwrap();
            shell.terminal().expect_exit(SOON).unwrap();
        } else {
            daemon.wait_for_output("Renewed session with certificate ID \"bob\"", SOON).unwrap();
            assert!(shell.run("echo still here").unwrap().contains("still here"));
        }
        host.stop_service("ussh-hostd").unwrap();
        host.forget_service("ussh-hostd").unwrap();
    }
}

#[test]
fn where_the_policy_says_so_a_session_outlives_its_certificate_and_only_its_terminals_are_told() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new10");
    enroll(&host, "", &token("new10")).ok().unwrap();
    record_sessions(&host);
    host.write_file(
        "/etc/ussh/hostd.toml",
        0o644,
        "at_end = \"warn\"\nwarn_before_seconds = 3\nlook_before_seconds = 3\n",
    )
    .unwrap();
    let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
    daemon.wait_for_output("Watching ", SOON).unwrap();
    let agent = WORLD.new_agent("alice").unwrap();
    WORLD.forge(&Forgery::of("alice").validity("-5m:+6s")).unwrap().add_to(&agent).unwrap();
    let shell = agent.shell("ssh -A new10").unwrap();
    // What a command carries is left alone, as what sftp and scp do is.
    let ssh = ["ssh", "-T", "new10", "sleep 12; echo end"];
    let command = WORLD.host("laptop").command(ssh).user("alice").env("SSH_AUTH_SOCK", agent.socket()).spawn().unwrap();
    shell.terminal().expect("your certificate has run out. This session goes on, and the log says so.", SOON).unwrap();
    daemon.wait_for_output("Letting go on a session of certificate ID \"alice\"", SOON).unwrap();
    assert!(shell.run("echo still here").unwrap().contains("still here"));
    let said = command.wait(SOON).unwrap();
    assert_eq!(
        (said.stdout.as_str(), said.stderr.as_str()),
        (
            "end
", ""
        )
    );
    WORLD.forge(&Forgery::of("alice").validity("-5m:+1h")).unwrap().add_to(&agent).unwrap();
    daemon.wait_for_output("Renewed session with certificate ID \"alice\"", SOON).unwrap();
    assert!(shell.run("echo and here").unwrap().contains("and here"));
    host.stop_service("ussh-hostd").unwrap();
}

#[test]
fn a_session_is_listed_as_it_comes_and_ends_when_an_administrator_says_so() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new8");
    enroll(&host, "", &token("new8")).ok().unwrap();
    record_sessions(&host);
    let agent = WORLD.new_agent("carol").unwrap();
    let forged = WORLD.forge(&Forgery::of("carol").validity("-5m:+1h")).unwrap();
    forged.add_to(&agent).unwrap();
    let watching = host.command(["ussh-hostd", "sessions", "--watch", "--json"]).spawn().unwrap();
    watching.wait_for_output("[]\n", SOON).unwrap();
    let [one, other] = [(); 2].map(|()| agent.shell("ssh new8").unwrap());
    watching.wait_for_output("\"state\":\"live\"},{", SOON).unwrap();
    let rows: Value = serde_json::from_str(&hostd(&host, "sessions --json").stdout).unwrap();
    let pid = rows[0]["pid"].to_string();
    assert!(hostd(&host, "end 1").stderr.contains("no session 1: `ussh-hostd sessions` lists them"));
    let said = hostd(&host, &format!("end {pid}")).ok().unwrap();
    assert!(said.stdout.starts_with(&format!("ended: user carol pid {pid}, with ")), "{said:?}");
    let shells = [one, other];
    wait_until(SOON, "one of them to end", || {
        shells
            .iter()
            .filter(|s| s.terminal().transcript().contains("an administrator of this host ends this session now."))
            .count()
            == 1
    })
    .unwrap();
    let rows: Value = serde_json::from_str(&hostd(&host, "sessions --json").stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_ne!(rows[0]["pid"].to_string(), pid);
    let going_on = shells.iter().find(|s| !s.terminal().transcript().contains("an administrator")).unwrap();
    assert!(going_on.run("echo still here").unwrap().contains("still here"));
    let metrics = hostd(&host, "status --metrics").ok().unwrap().stdout;
    assert!(metrics.contains("ussh_hostd_sessions{state=\"live\"} 1\n"), "{metrics}");
}

#[test]
fn the_way_back_leaves_an_enrolled_host_to_plain_keys_even_without_the_revocation_list() {
    let _watch = WORLD.lab().watch();
    let readme = include_str!("../../../../README.md");
    let way_back = readme.split_once("**The way back,** for all of it:").unwrap().1;
    let removals: Vec<&str> =
        way_back.lines().skip(2).take_while(|line| line.starts_with("    ")).map(str::trim).collect();
    let removals: Vec<&str> = removals.into_iter().filter(|line| line.starts_with("rm ")).collect();
    let host = prepare("back");
    WORLD.make_way_in("alice", "back").unwrap();
    enroll(&host, "", &token("back")).ok().unwrap();
    let agent = WORLD.new_agent("alice").unwrap();
    // Without its certificate the host is one that nobody knows.
    let options = "-o BatchMode=yes -o StrictHostKeyChecking=accept-new";
    let gets_in = || agent.sh(&format!("{} {options} back id -un </dev/null", ussh_e2e::WAY_IN)).unwrap();
    assert_eq!(gets_in().stdout, "alice\n");
    let lists = "/etc/ssh/trusted_user_ca /etc/ssh/revoked_keys";
    host.script(&format!("mkdir /root/kept && mv {lists} /root/kept")).unwrap();
    assert!(!gets_in().status.success(), "the list may be gone while sshd is told of it");
    host.script("mv /root/kept/* /etc/ssh").unwrap();
    host.script(&format!("set -e\n{}\nsshd -t\nkill -HUP $(cat /run/sshd.pid)", removals.join("\n"))).unwrap();
    host.script(&format!("rm {lists} /etc/ssh/ssh_host_*_key-cert.pub && sshd -t")).unwrap();
    let mut said = String::new();
    let is_in = || {
        let output = gets_in();
        said = output.stderr;
        output.stdout == "alice\n"
    };
    wait_until(SOON, "the plain key to get in", is_in).unwrap_or_else(|e| panic!("{e}: {said}"));
}
