//! The guarded agent towards hosts, on real ones: `ussh host` forwards it, sudo works through it, and root on the host gets no further.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{Output, trixie_root, wait_until};
use ussh_e2e::{Forgery, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

/// web1 has Debian 12's OpenSSH 9.2, web13 Debian 13's 10.0.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("guarded").without_servers().server("web1").server_on("web13", trixie_root().unwrap());
    let world = plan.people(12, "admins").start().unwrap();
    world.guard_agents("web*").unwrap();
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

/// A key of the user's own beside the certificate: it shows which agent is forwarded.
fn with_a_key_beside(user: &str) {
    let make = "mkdir -p -m 0700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/beside && ssh-add -q .ssh/beside";
    WORLD.sh("laptop", user, make).unwrap().ok().unwrap();
}

fn on_laptop(user: &str, script: &str) -> Output {
    WORLD.sh("laptop", user, script).unwrap()
}

/// Root on web1, with the socket of the user's agent.
fn as_root_on_web1(user: &str, ssh: &str, script: &str) -> Output {
    on_laptop(user, &format!("{ssh} web1 sudo --preserve-env=SSH_AUTH_SOCK sh -c '\"{script}\"'"))
}

#[test]
fn root_on_a_hop_cannot_go_on_from_there_and_finds_nothing_else_to_do_with_it() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    with_a_key_beside(&user);
    let onward = format!("ssh -o StrictHostKeyChecking=no -o BatchMode=yes {user}@web13 id -un");
    let by_own = as_root_on_web1(&user, "ssh -A", &onward);
    assert_eq!((by_own.status.code(), by_own.stdout.trim()), (0, user.as_str()), "the user's own agent: {by_own}");
    let guarded = as_root_on_web1(&user, "ussh", &onward);
    assert_eq!(guarded.status.code(), 255, "{guarded}");
    assert!(guarded.stderr.contains("Permission denied (publickey"), "{guarded}");
    let why = log_of(&user).pop().unwrap();
    let wanted = format!("to sign a login as {user} elsewhere, which is no pam-ussh challenge");
    assert_eq!((&why["outcome"], &why["what"]), (&"refused".into(), &wanted.into()));
    assert!(why["host_key"].as_str().is_some_and(|key| key.starts_with("SHA256:")), "whose connection it was: {why}");

    let held = on_laptop(&user, "ssh-add -L").stdout;
    let certificate =
        "ssh-add -L | grep cert > /tmp/c.$$; date > /tmp/d.$$; ssh-keygen -Y sign -n NAMESPACE -f /tmp/c.$$ /tmp/d.$$";
    for (script, wanted) in [
        ("ssh-add -l", "ED25519-CERT"),
        ("ssh-add -D", "Failed to remove all identities"),
        ("ssh-add -s /usr/lib/x.so < /dev/null", "Could not add card"),
        (&certificate.replace("NAMESPACE", "file"), "Signing /tmp/d"),
        (&certificate.replace("NAMESPACE", "git"), "Signing /tmp/d"),
    ] {
        let output = as_root_on_web1(&user, "ussh", script);
        assert!((output.stdout.clone() + &output.stderr).contains(wanted), "{script}: {output}");
        assert!(!output.stderr.contains("Write signature"), "{script}: {output}");
    }
    let listed = as_root_on_web1(&user, "ussh", "ssh-add -l").stdout;
    assert_eq!(listed.lines().count(), 1, "its own key is not seen: {listed}");
    assert_eq!(on_laptop(&user, "ssh-add -L").stdout, held);
}

/// What a session sees of the agent that was forwarded to it.
fn forwarded(user: &str, ssh: &str) -> &'static str {
    let output = on_laptop(user, &format!("{ssh} 'test -n \"$SSH_AUTH_SOCK\" && ssh-add -l | wc -l'"));
    match output.stdout.trim() {
        "" => "none",
        "1" => "guarded",
        "2" => "full",
        other => panic!("{ssh}: {other}: {output}"),
    }
}

#[test]
fn the_guarded_agent_is_forwarded_where_neither_arguments_nor_ssh_config_choose() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    with_a_key_beside(&user);
    let configure = |file: &str, text: &str| {
        on_laptop(&user, &format!("mkdir -p .ssh .config/ussh && printf '{text}' > {file}")).ok().unwrap();
    };
    for (ssh, wanted) in [
        ("ussh web1", "guarded"),
        ("ussh WEB1", "guarded"),
        ("ussh -v -l $USER web13", "guarded"),
        ("ussh -o BatchMode=yes -- web1", "guarded"),
        ("ussh -A web1", "full"),
        ("ussh web1 -A", "full"),
        ("ussh -o ForwardAgent=yes web1", "full"),
        ("ussh -a web1", "none"),
        ("ussh -o forwardagent=no web1", "none"),
        ("ussh -F /etc/ssh/ssh_config web1", "none"),
        ("ssh web1", "none"),
    ] {
        assert_eq!(forwarded(&user, ssh), wanted, "{ssh}");
    }
    for (text, ssh, wanted) in [
        ("Host web1\nForwardAgent no\n", "ussh web1", "none"),
        ("Host web13\nForwardAgent no\n", "ussh web1", "guarded"),
        ("Host *\nForwardAgent yes\n", "ussh web1", "full"),
        ("Match host web1\nForwardAgent no\n", "ussh web1", "none"),
        ("Match exec false\nForwardAgent yes\n", "ussh web1", "guarded"),
        ("Match final host web1\nForwardAgent no\n", "ussh web1", "none"),
        ("Host w\nHostName web1\n", "ussh w", "guarded"),
        ("Host w\nHostName web1\nForwardAgent no\n", "ussh w", "none"),
        ("Host j\nHostName web13\nProxyJump web1\n", "ussh j", "guarded"),
        ("Include other\n", "ussh web1", "guarded"),
    ] {
        configure(".ssh/config", text);
        assert_eq!(forwarded(&user, ssh), wanted, "{text:?}");
    }
    configure(".ssh/other", "Host web1\nForwardAgent no\n");
    assert_eq!(forwarded(&user, "ussh web1"), "none", "in an included file");
    on_laptop(&user, "rm .ssh/config").ok().unwrap();
    for forward in ["none", "full", "guarded"] {
        configure(".config/ussh/ussh.toml", &format!("[[host]]\nmatch = [\"web1\"]\nforward = \"{forward}\"\n"));
        assert_eq!(forwarded(&user, "ussh web1"), forward);
    }
}

#[test]
fn a_host_that_is_not_ours_is_sshs_alone() {
    let _watch = WORLD.lab().watch();
    let user = WORLD.somebody().unwrap();
    let run = |program: &str| {
        let output = on_laptop(&user, &format!("env -u SSH_AUTH_SOCK {program} -o ConnectTimeout=5 nosuchhost true"));
        (output.status, output.stdout, output.stderr)
    };
    assert_eq!(run("ussh"), run("ssh"), "no agent, no certificate, no CA is asked for");
    assert_eq!(WORLD.rows_of(&user).unwrap(), []);
}

#[test]
fn two_people_on_one_machine_have_one_each() {
    let _watch = WORLD.lab().watch();
    let sockets: Vec<(String, String)> = (0..2)
        .map(|_| {
            let user = somebody();
            let socket = on_laptop(&user, "ussh --agent").ok().unwrap().stdout.trim().to_owned();
            (user, socket)
        })
        .collect();
    let [(one, own), (_, other)] = &sockets[..] else { panic!("{sockets:?}") };
    assert_ne!(own, other);
    assert!(on_laptop(one, &format!("SSH_AUTH_SOCK={own} ssh-add -l")).stdout.contains("ED25519-CERT"));
    let refused = on_laptop(one, &format!("SSH_AUTH_SOCK={other} ssh-add -l"));
    assert!(refused.stderr.contains("Permission denied"), "{refused}");
}

/// ussh-hostd with times that fit a test.
const HOSTD: &str = "\
warn_before_seconds = 3
look_before_seconds = 3
agent_timeout_seconds = 1
grace_seconds = 1

[sync]
source = \"file:/srv/ussh-feed\"
";

#[test]
fn the_session_guard_finds_a_renewed_certificate_through_it_on_openssh_9_and_10() {
    let _watch = WORLD.lab().watch();
    for server in ["web1", "web13"] {
        let host = WORLD.host(server);
        host.write_file("/etc/ussh/hostd.toml", 0o644, HOSTD).unwrap();
        host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap().wait_for_output("Watching ", SOON).unwrap();
        let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
        let add = |validity: &str| {
            let forged = WORLD.forge(&Forgery::of(agent.user()).validity(validity)).unwrap();
            forged.add_to(&agent).unwrap();
            forged.serial.to_string()
        };
        let first = add("-5m:+8s");
        let shell = agent.shell(&format!("ssh -o ForwardAgent=$(ussh --agent) {server}")).unwrap();
        let row = |serial: &str| {
            let printed = host.run(["ussh-hostd", "sessions", "--json"]).unwrap().ok().unwrap().stdout;
            let rows: Vec<Value> = serde_json::from_str(&printed).unwrap();
            rows.into_iter().find(|row| row["certificate"]["serial"] == serial)
        };
        wait_until(SOON, "the session", || row(&first).is_some()).unwrap();
        let newer = add("-5m:+1h");
        wait_until(SOON, "its renewal", || row(&newer).is_some()).unwrap();
        assert!(shell.run("echo still here").unwrap().contains("still here"), "{server}");
        shell.exit().unwrap();
        let log = agent.sh("ussh --log --json").unwrap().ok().unwrap().stdout;
        let asked = |line: &str| serde_json::from_str::<Value>(line).unwrap()["challenge"]["service"] == "ussh-hostd";
        assert!(log.lines().any(asked), "{server}: {log}");
    }
}
