//! Who is told that a certificate runs out: the terminals of that session, all of them, and nothing and nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ussh_e2e::lab::{Process, wait_until};
use ussh_e2e::{Forgery, PersonAgent, World, WorldPlan, confined};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);
/// A warning each second, from ten seconds before the end to five.
const HOSTD: &str = "\
warn_before_seconds = [10, 9, 8, 7, 6, 5]
look_before_seconds = 1
agent_timeout_seconds = 1
grace_seconds = 1
at_end = \"AT_END\"

[sync]
source = \"file:/srv/ussh-feed\"
every_seconds = 86400
";
const SHORT: &str = "-5m:+15s";
const LONG: &str = "-5m:+1h";
const ENDS_IN: &str = "ussh: your certificate runs out in ";
const WHAT_TO_DO: &str = " s, and this session with it. To go on, run `ussh --login` on your own machine now.";
const HAS_ENDED: &str = "ussh: your certificate has run out: this session ends now.";

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = WorldPlan::new("warned")
        .without_servers()
        .server("web1")
        .server("web2")
        .server("web3")
        .server("web4")
        .people(10, "admins")
        .start()
        .unwrap();
    configure(&world, "web1", "end");
    world
});

/// Starts ussh-hostd anew with this `at_end`.
fn configure(world: &World, server: &str, at_end: &str) {
    let host = world.host(server);
    host.write_file("/etc/ussh/hostd.toml", 0o644, HOSTD.replace("AT_END", at_end)).unwrap();
    let hostd = host.command(confined(&["ussh-hostd", "run"])).service("ussh-hostd").unwrap();
    hostd.wait_for_output("Watching ", SOON).unwrap();
}

fn somebody(validity: &str) -> PersonAgent<'static> {
    let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
    WORLD.forge(&Forgery::of(agent.user()).validity(validity)).unwrap().add_to(&agent).unwrap();
    agent
}

fn spawn(agent: &PersonAgent<'_>, script: &str) -> Process {
    let laptop = WORLD.host("laptop");
    laptop.command(["bash", "-c", script]).user(agent.user()).env("SSH_AUTH_SOCK", agent.socket()).spawn().unwrap()
}

/// Each of them is at work from before the first warning until after the last one, and says on the laptop what came.
const JOBS: [(&str, &str, &str); 6] = [
    ("a command", "ssh -T web1 'until [ -e ~/stop ]; do echo line; sleep 0.05; done' 2>&1 | sort -u", "line\n"),
    (
        "a command that reads and writes",
        "(until [ -e ~/stop ]; do sleep 0.05; done; cat data) | ssh -T web1 cat 2>&1 | cmp - data && echo same",
        "same\n",
    ),
    (
        "sftp",
        "(until [ -e ~/stop ]; do printf 'put data x\\nget x back\\n'; sleep 0.3; done) | sftp -q web1 2>&1 | sort -u && cmp back data && echo same",
        "sftp> get x back\nsftp> put data x\nsame\n",
    ),
    ("scp", "scp -q -l 350 data web1:scp 2>&1; scp -q web1:scp scp-back 2>&1; cmp scp-back data && echo same", "same\n"),
    ("rsync", "rsync --bwlimit=40 data web1:rsync 2>&1; ssh web1 cat rsync | cmp - data && echo same", "same\n"),
    (
        "git",
        "ask() { ssh -T web1 git-upload-pack repository 2>&1; }; printf 0000 | ask > before;
         (until [ -e ~/stop ]; do sleep 0.05; done; printf 0000) | ask > meanwhile; cmp before meanwhile && [ -s before ] && echo same",
        "same\n",
    ),
];

#[test]
fn all_terminals_of_the_session_are_told_what_to_do_and_no_file_transfer_no_command_and_no_neighbour() {
    let _watch = WORLD.lab().watch();
    let neighbour = somebody(LONG);
    let quiet = neighbour.shell("ssh -A web1").unwrap();
    let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
    let user = agent.user().to_owned();
    agent.sh("head -c 300000 /dev/urandom > data").unwrap().ok().unwrap();
    WORLD
        .host("web1")
        .command(["sh", "-c", "git init -q repository && cd repository && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one"])
        .user(&user)
        .cwd(&format!("/home/{user}"))
        .run()
        .unwrap()
        .ok()
        .unwrap();

    WORLD.forge(&Forgery::of(&user).validity(SHORT)).unwrap().add_to(&agent).unwrap();
    let jobs = JOBS.map(|(name, script, stdout)| (name, spawn(&agent, script), stdout));
    let first = agent.shell("ssh -A -M -S ~/master web1").unwrap();
    let second = agent.shell("ssh -S ~/master web1").unwrap();
    for left in ["10", "9", "8", "7", "6", "5"] {
        for terminal in [first.terminal(), second.terminal()] {
            terminal.expect(&format!("{ENDS_IN}{left}{WHAT_TO_DO}"), SOON).unwrap();
        }
    }
    for host in ["laptop", "web1"] {
        WORLD.host(host).write_file_as(&user, &format!("/home/{user}/stop"), 0o600, "").unwrap();
    }
    for (name, job, stdout) in jobs {
        let output = job.wait(SOON).unwrap();
        assert_eq!(output.stdout, stdout, "{name}: {output}");
        assert_eq!(output.stderr, "", "{name}: {output}");
    }
    let log = WORLD.logged_since("web1", 0).unwrap();
    let told =
        |text: &str| log.lines().filter(|line| line.contains(&format!(" user {user} ")) && line.contains(text)).count();
    assert!(told(" and is not renewed; terminals told: 0") >= 20, "they were all there to be told: {log}");
    assert!(told(" and is not renewed; terminals told: 2") >= 6, "{log}");
    first.terminal().expect(HAS_ENDED, SOON).unwrap();
    assert!(!quiet.terminal().transcript().contains("ussh:"), "{}", quiet.terminal().transcript());
    quiet.exit().unwrap();
}

#[test]
fn a_terminal_that_takes_nothing_delays_nobody() {
    let _watch = WORLD.lab().watch();
    let [stopped, full, other] = [(); 3].map(|()| somebody(SHORT));
    let [stopped_shell, full_shell, shell] = [&stopped, &full, &other].map(|agent| agent.shell("ssh -A web1").unwrap());
    // Ctrl-S, and a program that writes behind it; a client that takes no more, and a program that fills all there is on the way.
    for shell in [&stopped_shell, &full_shell] {
        shell.terminal().send("sleep 1; yes\n").unwrap();
        shell.terminal().expect("; yes", SOON).unwrap();
    }
    stopped_shell.terminal().send("\x13").unwrap();
    full_shell.terminal().signal(ussh_e2e::lab::Signal::SIGSTOP).unwrap();
    let mut at = Vec::new();
    for left in ["10", "9", "8", "7", "6", "5"] {
        shell.terminal().expect(&format!("{ENDS_IN}{left}{WHAT_TO_DO}"), SOON).unwrap();
        at.push(Instant::now());
    }
    let gaps: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap < Duration::from_millis(1600)), "{gaps:?}");
    shell.terminal().expect(HAS_ENDED, SOON).unwrap();
    // Those end as well.
    for agent in [&stopped, &full] {
        let ended = || {
            let log = WORLD.logged_since("web1", 0).unwrap();
            log.lines().any(|line| {
                line.contains("]: Session ended after ") && line.contains(&format!(" user {} ", agent.user()))
            })
        };
        wait_until(SOON, "its end", ended).unwrap();
    }
    assert!(!stopped_shell.terminal().transcript().contains("y\ny\n"), "it was stopped");
    full_shell.terminal().signal(ussh_e2e::lab::Signal::SIGCONT).unwrap();
}

#[test]
fn the_warning_says_what_comes_at_the_end_by_the_configuration_and_so_it_comes() {
    let _watch = WORLD.lab().watch();
    let then = [
        (
            "freeze",
            " s, and this session stands still then. To go on, run `ussh --login` on your own machine now.",
            "ussh: your certificate has run out: this session stands still.",
        ),
        (
            "warn",
            " s; this session goes on, but the log says that it has none. For a new one run `ussh --login` on your own machine now.",
            "ussh: your certificate has run out. This session goes on, and the log says so.",
        ),
    ];
    for (at_end, warning, end) in then {
        configure(&WORLD, "web2", at_end);
        let agent = somebody(SHORT);
        let shell = agent.shell("ssh -A web2").unwrap();
        shell.terminal().expect(&format!("{ENDS_IN}5{warning}"), SOON).unwrap();
        shell.terminal().expect(end, SOON).unwrap();
        assert!(!shell.terminal().transcript().contains("this session with it"), "{at_end}");
        shell.terminal().signal(ussh_e2e::lab::Signal::SIGKILL).unwrap();
    }
}

#[test]
fn a_session_that_cannot_be_frozen_is_told_before_that_it_ends_and_what_to_do() {
    let _watch = WORLD.lab().watch();
    configure(&WORLD, "web3", "freeze");
    let ends = " s, and this session with it. It cannot stand still";
    let renew = " To go on, run `ussh --login` on your own machine now.";
    for (options, why) in [
        ("-a", " or be renewed: it has no forwarded agent. Save your work, and connect again with `ussh`."),
        ("-A -R 9999:localhost:22", &*format!(": it has a forwarded port.{renew}")),
    ] {
        let agent = somebody(SHORT);
        let shell = agent.shell(&format!("ssh {options} web3")).unwrap();
        shell.terminal().expect(&format!("{ENDS_IN}5{ends}{why}"), SOON).unwrap();
        shell.terminal().expect(HAS_ENDED, SOON).unwrap();
        assert!(!shell.terminal().transcript().contains("stands still"), "{options}");
    }
}

#[test]
fn a_configuration_that_changed_is_not_applied_and_whoever_asks_hears_so() {
    let _watch = WORLD.lab().watch();
    let host = WORLD.host("web4");
    configure(&WORLD, "web4", "end");
    let has_changed = "the configuration has changed since the daemon started";
    let said = |verb: &str| {
        let output = host.run(["ussh-hostd", verb]).unwrap();
        (output.stdout.clone() + &output.stderr).contains(has_changed)
    };
    assert!(!said("check") && !said("status"));
    for (text, logged) in [
        (HOSTD.replace("AT_END", "warn"), format!("Not applied: {has_changed}")),
        (
            "foo = 1\n".to_owned(),
            "The configuration is not valid any more, and not applied: /etc/ussh/hostd.toml:1: ".to_owned(),
        ),
    ] {
        let valid = text != "foo = 1\n";
        host.write_file("/etc/ussh/hostd.toml", 0o644, text).unwrap();
        assert_eq!((said("check"), said("status")), (valid, valid));
        host.script("kill -HUP $(cut -d- -f1 /run/ussh-hostd/run.lock)").unwrap();
        wait_until(SOON, "a word on it", || WORLD.logged_since("web4", 0).unwrap().contains(&logged)).unwrap();
    }
    configure(&WORLD, "web4", "warn");
    assert!(!said("check") && !said("status"));
}
