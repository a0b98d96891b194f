//! What people run all day, on lab hosts: by `ussh` in ssh's place, and by plain `ssh` with the ssh_config that `ussh --write-config` has written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{Output, trixie_root, wait_until};
use ussh_e2e::{World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(120);

/// web1 has Debian 12's OpenSSH 9.2, web13 Debian 13's 10.0.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("through").without_servers().server("web1").server_on("web13", trixie_root().unwrap());
    let world = plan.people(24, "admins").start().unwrap();
    let web1 = world.host("web1");
    let config = web1.read_file("/etc/ssh/sshd_config").unwrap();
    web1.stop_service("sshd").unwrap();
    web1.start_sshd(&format!("MaxStartups 200\n{config}")).unwrap();
    world.guard_agents("web*").unwrap();
    let laptop = world.host("laptop");
    laptop.script("mkdir -p -m 755 /srv/as-ssh && ln -s /usr/bin/ussh /srv/as-ssh/ssh").unwrap();
    laptop.write_file("/srv/counted", 0o755, COUNTED).unwrap();
    laptop.script("chmod 1777 /srv").unwrap().ok().unwrap();
    let sudoers = "Defaults timestamp_timeout=0, passwd_tries=1\n%admins ALL=(ALL) ALL\n";
    world.host("web13").write_file("/etc/sudoers.d/ussh", 0o440, sudoers).unwrap();
    world
});

/// Asks and answers at once.
const COUNTED: &str = "#!/bin/sh\necho asked >> /srv/asked.$USER\nprintf '%s\\n' \"$LAB_PASSWORD\"\n";

/// By which a program gets to ssh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `ln -s ussh ssh`, first in PATH.
    AsSsh,
    /// The written ssh_config.
    SshConfig,
}

const WAYS: [Way; 2] = [Way::AsSsh, Way::SshConfig];

/// Somebody with an empty agent, for whom `ssh` is what this way makes of it.
fn somebody(way: Way) -> String {
    let user = WORLD.somebody().unwrap();
    if way == Way::SshConfig {
        let said = WORLD.sh("laptop", &user, "ussh --write-config").unwrap().ok().unwrap().stdout;
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    user
}

/// A script on the laptop, with a program that gives the password, and no terminal.
fn run(user: &str, way: Way, script: &str) -> Output {
    let path = if way == Way::AsSsh { "/srv/as-ssh:$PATH" } else { "$PATH" };
    // VS Code, Ansible and git find `ssh` by PATH; scp and sftp have its place built in.
    let all = format!("cd; export PATH={path} USER={user} SSH_ASKPASS=/srv/counted; {script}");
    WORLD.unattended(user, WORLD.password(user), &all).unwrap().wait(SOON).unwrap()
}

fn ok(user: &str, way: Way, script: &str) -> String {
    let output = run(user, way, script);
    assert!(output.status.success(), "{way:?}: {script}: {output}");
    output.stdout
}

fn questions(user: &str) -> usize {
    let file = format!("/srv/asked.{user}");
    let laptop = WORLD.host("laptop");
    if laptop.exists(&file) { laptop.read_file(&file).unwrap().lines().count() } else { 0 }
}

#[test]
fn git_rsync_scp_and_sftp_get_a_certificate_on_their_way_and_move_files() {
    let _watch = WORLD.lab().watch();
    for way in WAYS {
        let user = somebody(way);
        let name = if way == Way::AsSsh { "-S /srv/as-ssh/ssh" } else { "" };
        for script in [
            "git init -q --bare here.git && ssh web1 git init -q --bare there.git",
            "git clone -q web1:there.git clone && cd clone && git -c user.name=x -c user.email=x@x commit -q --allow-empty -m one && git push -q origin HEAD:refs/heads/main",
            "git clone -q -b main ssh://web1/home/$USER/there.git again && test \"$(git -C again log --format=%s)\" = one",
            "head -c 300000 /dev/urandom > data && scp NAME -q data web1:data && scp NAME -q -O web1:data back && cmp data back",
            "rsync -a data web1:synced && rsync -a web1:synced back2 && cmp data back2",
            "echo 'put data sent' | sftp NAME -q -b - web1 && echo 'get sent back3' | sftp NAME -q -b - web1 && cmp data back3",
            "test \"$(ssh web1 cat < /dev/null synced | cksum)\" = \"$(cksum < data)\"",
        ] {
            ok(&user, way, &script.replace("NAME", name));
        }
        assert_eq!((questions(&user), WORLD.rows_of(&user).unwrap().len()), (1, 1), "{way:?}");
    }
}

/// No ControlPersist: every task goes by way of ssh.
const ANSIBLE: &str = "export ANSIBLE_SSH_ARGS= ANSIBLE_PIPELINING=True ANSIBLE_HOST_KEY_CHECKING=True ANSIBLE_NOCOLOR=1 ANSIBLE_LOCALHOST_WARNING=False ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3;";

#[test]
fn ansible_with_twenty_forks_asks_once_and_reaches_all() {
    let _watch = WORLD.lab().watch();
    for way in WAYS {
        let user = somebody(way);
        let hosts: String = (1..=20).map(|n| format!("h{n} ansible_host=web1\n")).collect();
        WORLD.host("laptop").write_file_as(&user, &format!("/home/{user}/hosts"), 0o644, hosts).unwrap();
        let said = ok(&user, way, &format!("{ANSIBLE} ansible -i hosts all -f 20 -o -m ping"));
        assert_eq!(said.lines().filter(|line| line.contains("SUCCESS") && line.contains("pong")).count(), 20, "{said}");
        let said = ok(&user, way, &format!("{ANSIBLE} ansible -i hosts h1 -b -o -m command -a 'id -u'"));
        assert!(said.contains("(stdout) 0"), "become goes by the guarded agent: {said}");
        assert_eq!((questions(&user), WORLD.rows_of(&user).unwrap().len()), (1, 1), "{way:?}");
    }
}

#[test]
fn an_editor_that_talks_through_pipes_has_its_bytes_and_its_ends() {
    let _watch = WORLD.lab().watch();
    for way in WAYS {
        let user = somebody(way);
        // As VS Code does it: -T, -D, a script on standard input, its end by a mark on standard output.
        let script = "printf 'echo begin; cat; echo; echo end:$?\\nsome text' | setsid --wait ssh -T -D 34567 -o ConnectTimeout=15 web1 bash";
        let said = ok(&user, way, script);
        assert!(said.contains("begin\nsome text\nend:0\n"), "{said:?}");
        for (script, code) in
            [("ssh web1 'exit 7'", 7), ("ssh web1 'kill -TERM $$'", 255), ("ssh -o BatchMode=yes web1 true", 0)]
        {
            assert_eq!(run(&user, way, script).status.code(), code, "{way:?} {script}");
        }
        // All 256 bytes, both ways, beyond any buffer.
        ok(&user, way, "head -c 3000000 /dev/urandom > noise && ssh web1 cat < noise | cmp - noise");
        assert_eq!(questions(&user), 1);
    }
}

#[test]
fn in_tmux_the_question_comes_to_the_pane_and_sudo_works_there() {
    let _watch = WORLD.lab().watch();
    for way in WAYS {
        let user = somebody(way);
        let path = if way == Way::AsSsh { "/srv/as-ssh:/usr/bin:/bin" } else { "/usr/bin:/bin" };
        let pane = || WORLD.sh("laptop", &user, "tmux capture-pane -p -t s").unwrap().stdout;
        WORLD
            .sh("laptop", &user, &format!("cd; tmux new-session -d -s s -x 150 -y 50 'export PATH={path}; ssh -t web1 \"sudo id -u; echo over\"; cat'"))
            .unwrap()
            .ok()
            .unwrap();
        wait_until(SOON, "the question", || pane().contains("assword:")).unwrap();
        WORLD
            .sh(
                "laptop",
                &user,
                &format!("tmux send-keys -t s -l '{}'; tmux send-keys -t s Enter", WORLD.password(&user)),
            )
            .unwrap();
        wait_until(SOON, "the end", || pane().lines().any(|line| line.trim() == "over")).unwrap();
        assert!(pane().lines().any(|line| line.trim() == "0"), "{}", pane());
        WORLD.sh("laptop", &user, "tmux kill-server").unwrap();
    }
}

#[test]
fn plain_ssh_forwards_the_guarded_agent_to_openssh_9_and_10_and_no_relay_stays() {
    let _watch = WORLD.lab().watch();
    let user = somebody(Way::SshConfig);
    let make = "mkdir -p -m 0700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/beside && ssh-add -q .ssh/beside";
    ok(&user, Way::SshConfig, make);
    for server in ["web1", "web13"] {
        let output = run(&user, Way::SshConfig, &format!("ssh {server} 'ssh-add -l | wc -l; sudo id -u'"));
        assert_eq!((output.status.code(), output.stdout.as_str()), (0, "1\n0\n"), "{server}: {output}");
        assert!(!output.stderr.contains("Cannot forward agent"), "{output}");
    }
    let log = ok(&user, Way::SshConfig, "ussh --log --json");
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&last["outcome"], &last["challenge"]["host"]), (&"signed".into(), &"web13".into()));
    // The first connection of all went by --proxy.
    ok(&user, Way::SshConfig, "ussh --logout");
    let session = WORLD
        .unattended(
            &user,
            WORLD.password(&user),
            "export SSH_ASKPASS=/srv/counted USER=x; exec ssh web1 'echo here; read -r x'",
        )
        .unwrap();
    session.wait_for_output("here", SOON).unwrap();
    let processes = WORLD.host("laptop").run(["pgrep", "-u", &user, "-a", "ussh"]).unwrap().stdout;
    assert!(processes.lines().all(|line| line.contains("--agent --serve")), "{processes}");
}

#[test]
fn what_the_arguments_and_ssh_config_say_of_forwarding_holds_and_a_jump_host_brings_the_certificate() {
    let _watch = WORLD.lab().watch();
    let user = somebody(Way::SshConfig);
    let make = "mkdir -p -m 0700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/beside && ssh-add -q .ssh/beside";
    ok(&user, Way::SshConfig, make);
    // The command line's ProxyJump goes before the written ProxyCommand: web1's own brings the certificate.
    assert_eq!(ok(&user, Way::SshConfig, "ssh -J web1 web13 sudo id -u"), "0\n");
    assert_eq!(questions(&user), 1);
    let count = "'test -z \"$SSH_AUTH_SOCK\" || ssh-add -l | wc -l'";
    for (options, wanted) in
        [("", "1\n"), ("-A", "1\n"), ("-a", ""), ("-o ForwardAgent=no", ""), ("-o ForwardAgent=$SSH_AUTH_SOCK", "2\n")]
    {
        assert_eq!(ok(&user, Way::SshConfig, &format!("ssh {options} web1 {count}")), wanted, "{options}");
    }
    ok(&user, Way::SshConfig, "sed -i '1iHost web1\\n  ForwardAgent no' .ssh/config");
    assert_eq!(ok(&user, Way::SshConfig, &format!("ssh web1 {count}")), "");
    ok(
        &user,
        Way::SshConfig,
        "ussh --remove-config && test \"$(cat .ssh/config)\" = \"$(printf 'Host web1\\n  ForwardAgent no')\"",
    );
}

#[test]
fn a_password_may_take_longer_than_connect_timeout() {
    let _watch = WORLD.lab().watch();
    let user = somebody(Way::SshConfig);
    let slow = "#!/bin/sh\nsleep 4\nprintf '%s\\n' \"$LAB_PASSWORD\"\n";
    WORLD.host("laptop").write_file("/srv/slow", 0o755, slow).unwrap();
    let with = |option: &str| {
        let script = format!("ssh-add -qD; SSH_ASKPASS=/srv/slow ssh -o ConnectTimeout=2 {option} web1 echo through");
        run(&user, Way::SshConfig, &script)
    };
    let output = with("");
    assert_eq!((output.status.code(), output.stdout.as_str()), (0, "through\n"), "{output}");
    let piped = with("-o ProxyUseFdpass=no");
    assert_eq!(piped.status.code(), 255, "through a pipe the prompt counts: {piped}");
    assert!(piped.stderr.contains("timed out during banner exchange"), "{piped}");
}

#[test]
fn as_a_pipe_it_carries_all_bytes_and_ends_with_either_side() {
    let _watch = WORLD.lab().watch();
    let user = somebody(Way::SshConfig);
    let piped = "ssh -o ProxyCommand='ussh --proxy %h %p' -o ProxyUseFdpass=no";
    for server in ["web1", "web13"] {
        let script = format!("head -c 3000000 /dev/urandom > noise && {piped} {server} cat < noise | cmp - noise");
        ok(&user, Way::SshConfig, &script);
    }
    assert_eq!(run(&user, Way::SshConfig, &format!("{piped} web1 'exit 7'")).status.code(), 7);
    wait_until(SOON, "the relays to end", || {
        let processes = WORLD.host("laptop").run(["pgrep", "-u", &user, "-a", "ussh"]).unwrap().stdout;
        processes.lines().all(|line| line.contains("--agent --serve"))
    })
    .unwrap();
}

#[test]
fn names_of_hosts_run_nothing_and_a_host_that_is_not_there_is_told() {
    let _watch = WORLD.lab().watch();
    let user = somebody(Way::SshConfig);
    for name in [
        "web$(touch /tmp/ran)",
        "web`touch /tmp/ran`",
        "web;touch /tmp/ran",
        "web|touch /tmp/ran",
        "web'\\''$(touch /tmp/ran)",
        "web\ntouch /tmp/ran",
    ] {
        let script = format!("ssh -- '{name}' true");
        assert_eq!(run(&user, Way::SshConfig, &script).status.code(), 255, "{name}");
        assert!(!WORLD.host("laptop").exists("/tmp/ran"), "{name}");
    }
    assert_eq!(questions(&user), 0);
    let gone = run(&user, Way::SshConfig, "ssh webnowhere true");
    assert_eq!(gone.status.code(), 255);
    assert!(gone.stderr.contains("ussh: webnowhere: "), "{gone}");
}

#[test]
fn where_no_ca_answers_plain_ssh_is_told_and_goes_on_with_what_else_it_has() {
    let _watch = WORLD.lab().watch();
    let user = somebody(Way::SshConfig);
    let output = run(&user, Way::SshConfig, "USSH_CA=127.0.0.1:1 ssh web1 true");
    assert_eq!(output.status.code(), 255);
    for said in ["ussh: ssh goes on without a certificate", "Permission denied"] {
        assert!(output.stderr.contains(said), "{said}: {output}");
    }
    let stops = "mkdir -p .config/ussh && echo 'on_ca_failure = \"stop\"' > .config/ussh/ussh.toml && USSH_CA=127.0.0.1:1 ssh web1 true";
    let output = run(&user, Way::SshConfig, stops);
    assert!(output.status.code() == 255 && !output.stderr.contains("Permission denied"), "{output}");
}

#[test]
fn an_ssh_without_an_agent_is_told_which_there_is_and_nobody_is_asked_in_vain() {
    let _watch = WORLD.lab().watch();
    let user = somebody(Way::SshConfig);
    let without = |what: &str| run(&user, Way::SshConfig, &format!("{what} ssh web1 true"));
    for what in ["env -u SSH_AUTH_SOCK", "env SSH_AUTH_SOCK=/nowhere"] {
        let output = without(what);
        assert_eq!((output.status.code(), questions(&user)), (255, 0), "{output}");
        for said in ["ssh would not see a certificate", "or use `ussh HOST`, which does", "Permission denied"] {
            assert!(output.stderr.contains(said), "{said}: {output}");
        }
    }
    // The one that `ussh` starts is found, and holds a certificate: this ssh does not see it all the same.
    ok(&user, Way::SshConfig, "env -u SSH_AUTH_SOCK ussh web1 true");
    let output = without("env -u SSH_AUTH_SOCK");
    assert_eq!((output.status.code(), questions(&user)), (255, 1), "{output}");
    let socket =
        output.stderr.lines().find_map(|line| line.trim().strip_prefix("ussh: there is one: export ")).unwrap();
    assert_eq!(without(&format!("env {socket}")).status.code(), 0);
}

#[test]
fn the_system_wide_form_serves_everybody_and_goes_without_a_trace() {
    let _watch = WORLD.lab().watch();
    let laptop = WORLD.host("laptop");
    let all = "find /etc/ssh /etc/ussh -type f -exec md5sum {} + | sort -k2; stat -c '%n %a %u' /etc/ssh/ssh_config.d /etc/ussh";
    let before = laptop.script(all).unwrap().ok().unwrap().stdout;
    let shown = laptop.run(["ussh", "--write-config", "--system", "--dry-run"]).unwrap().ok().unwrap().stdout;
    assert!(shown.contains("+++ /etc/ssh/ssh_config.d/ussh-hosts.conf"), "{shown}");
    assert_eq!(laptop.script(all).unwrap().stdout, before, "a dry run");
    laptop.run(["ussh", "--write-config", "--system"]).unwrap().ok().unwrap();
    let user = WORLD.somebody().unwrap();
    assert_eq!(ok(&user, Way::SshConfig, "ssh web1 sudo id -u"), "0\n");
    assert_eq!(questions(&user), 1);
    laptop.run(["ussh", "--remove-config", "--system"]).unwrap().ok().unwrap();
    assert_eq!(laptop.script(all).unwrap().stdout, before);
}
