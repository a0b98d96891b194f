//! What a lab host is: files, accounts, network, terminals, sshd, sudo, su.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ussh_lab::{HostPlan, Lab, SSHD_CONFIG, Signal, Status, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// One lab for all tests here that leave it as it was.
static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let lab = Lab::new("shared")
        .laptop("laptop")
        .host("web1")
        .host("web2")
        .user("alice", "secret", &["admins"])
        .user("bob", "hunter2", &[])
        .start()
        .unwrap();
    for name in ["web1", "web2"] {
        let host = lab.host(name);
        host.start_sshd(SSHD_CONFIG).unwrap();
        host.write_file("/etc/sudoers.d/admins", 0o440, "Defaults timestamp_timeout=0\n%admins ALL=(ALL) ALL\n")
            .unwrap();
    }
    let known: String = ["web1", "web2"]
        .iter()
        .map(|name| format!("{name} {}", lab.host(name).read_file("/etc/ssh/ssh_host_ed25519_key.pub").unwrap()))
        .collect();
    lab.host("laptop").write_file("/etc/ssh/ssh_known_hosts", 0o644, known).unwrap();
    lab
});

#[test]
fn a_host_with_sshd_is_up_in_no_time() {
    let start = Instant::now();
    let lab = Lab::new("quick").host("web1").start().unwrap();
    let made = start.elapsed();
    lab.host("web1").start_sshd(SSHD_CONFIG).unwrap();
    let up = start.elapsed();
    let start = Instant::now();
    for _ in 0..20 {
        lab.host("web1").run(["true"]).unwrap().ok().unwrap();
    }
    let run = start.elapsed() / 20;
    let start = Instant::now();
    drop(lab);
    let end = start.elapsed();
    println!("host made after {made:?}, sshd up after {up:?}, a command takes {run:?}, the end {end:?}");
    assert!(up < Duration::from_secs(5), "host with sshd up after {up:?}");
}

#[test]
fn a_person_logs_in_with_a_password() {
    let _watch = LAB.watch();
    let ssh = LAB.host("laptop").pty_as("alice", ["ssh", "web1", "id -un; hostname; echo $SSH_CONNECTION"]).unwrap();
    ssh.expect("alice@web1's password:", SOON).unwrap();
    ssh.send("secret\n").unwrap();
    let (laptop, web1) = (LAB.host("laptop").address(), LAB.host("web1").address());
    ssh.expect("alice\r\nweb1\r\n", SOON).unwrap();
    ssh.expect(&laptop.to_string(), SOON).unwrap();
    ssh.expect(&format!("{web1} 22"), SOON).unwrap();
    assert_eq!(ssh.expect_exit(SOON).unwrap(), Status::Exited(0));
    assert!(LAB.host("web1").log().contains("Accepted password for alice from"));
}

#[test]
fn a_wrong_password_does_not_get_in() {
    let _watch = LAB.watch();
    let ssh = LAB.host("laptop").pty_as("bob", ["ssh", "-o", "NumberOfPasswordPrompts=1", "web2", "id"]).unwrap();
    ssh.expect("assword:", SOON).unwrap();
    ssh.send("secret\n").unwrap();
    ssh.expect("Permission denied", SOON).unwrap();
    assert_eq!(ssh.expect_exit(SOON).unwrap(), Status::Exited(255));
    let log = LAB.host("web2").log();
    assert!(log.contains("pam_unix(sshd:auth): authentication failure"), "{log}");
    assert!(log.contains("Failed password for bob"), "{log}");
}

#[test]
fn keys_an_agent_and_its_forwarding_work() {
    let _watch = LAB.watch();
    let laptop = LAB.host("laptop");
    let socket = "/home/alice/agent.sock";
    let _agent = laptop.spawn_as("alice", ["ssh-agent", "-D", "-a", socket]).unwrap();
    wait_until(SOON, "the agent's socket", || laptop.exists(socket)).unwrap();
    let as_alice = |argv: &[&str]| laptop.command(argv).user("alice").env("SSH_AUTH_SOCK", socket).run().unwrap();
    as_alice(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/home/alice/.ssh/id_ed25519"]).ok().unwrap();
    as_alice(&["ssh-add", "-q", "/home/alice/.ssh/id_ed25519"]).ok().unwrap();
    let public = laptop.read_file("/home/alice/.ssh/id_ed25519.pub").unwrap();
    for name in ["web1", "web2"] {
        let host = LAB.host(name);
        host.make_folder_as("alice", "/home/alice/.ssh", 0o700).unwrap();
        host.write_file_as("alice", "/home/alice/.ssh/authorized_keys", 0o600, &public).unwrap();
    }
    let hop = ["ssh", "-A", "-o", "BatchMode=yes", "web1", "ssh -o StrictHostKeyChecking=no web2 hostname"];
    assert_eq!(as_alice(&hop).ok().unwrap().stdout, "web2\n");
    let no_hop = ["ssh", "-a", "-o", "BatchMode=yes", "web1", "ssh -o BatchMode=yes web2 hostname"];
    as_alice(&no_hop).refused().unwrap();
}

#[test]
fn sudo_and_su_ask_for_the_right_password() {
    let _watch = LAB.watch();
    let web1 = LAB.host("web1");
    let sudo = web1.pty_as("alice", ["sudo", "id", "-u"]).unwrap();
    sudo.expect("password for alice:", SOON).unwrap();
    sudo.send("secret\n").unwrap();
    sudo.expect("\r\n0\r\n", SOON).unwrap();
    assert!(sudo.expect_exit(SOON).unwrap().success());

    let su = web1.pty_as("alice", ["su", "-", "bob", "-c", "id -un"]).unwrap();
    su.expect("assword:", SOON).unwrap();
    su.send("hunter2\n").unwrap();
    su.expect("bob", SOON).unwrap();
    assert!(su.expect_exit(SOON).unwrap().success());

    let denied = web1.pty_as("bob", ["sudo", "id", "-u"]).unwrap();
    denied.expect("password for bob:", SOON).unwrap();
    denied.send("hunter2\n").unwrap();
    denied.expect("bob is not in the sudoers file", SOON).unwrap();
    assert_eq!(denied.expect_exit(SOON).unwrap(), Status::Exited(1));
    let log = web1.log();
    assert!(log.contains("sudo") && log.contains("COMMAND=/usr/bin/id -u"), "{log}");
}

#[test]
fn a_command_runs_as_a_login_would_start_it() {
    let _watch = LAB.watch();
    let script = "id; umask; pwd; echo $HOME $USER $LOGNAME $SHELL $PATH; ps -o sid= -p $$; echo $$; cat";
    let output = LAB
        .host("web1")
        .command(["sh", "-c", script])
        .user("alice")
        .stdin("from the test")
        .run()
        .unwrap()
        .ok()
        .unwrap();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], "uid=1000(alice) gid=1000(alice) groups=1000(alice),3000(admins)");
    assert_eq!(lines[1..3], ["0022", "/home/alice"]);
    assert!(lines[3].starts_with("/home/alice alice alice /bin/bash /usr/local/bin:/usr/bin:/bin"), "{}", lines[3]);
    assert_eq!(lines[4].trim(), lines[5], "leads its session");
    assert_eq!(lines[6], "from the test");
}

#[test]
fn a_terminal_belongs_to_its_user_and_can_interrupt() {
    let _watch = LAB.watch();
    let shell = LAB.host("web1").pty_as("alice", ["bash", "--norc"]).unwrap();
    shell.send("stat -c '%U %G %a' $(tty); cat -n\n").unwrap();
    shell.expect("alice tty 620", SOON).unwrap();
    // Only when cat runs: the shell itself lets an interrupt pass.
    shell.send("typed\n").unwrap();
    shell.expect("1\ttyped", SOON).unwrap();
    shell.send("\u{3}").unwrap();
    // An interrupt throws away what is typed ahead: wait for the prompt.
    shell.expect("^C", SOON).unwrap();
    shell.expect("$ ", SOON).unwrap();
    shell.send("echo code $?\n").unwrap();
    shell.expect("code 130", SOON).unwrap();
    shell.send("exit 7\n").unwrap();
    assert_eq!(shell.expect_exit(SOON).unwrap(), Status::Exited(7));
    shell.expect_close(SOON).unwrap();
}

#[test]
fn a_background_command_is_followed_and_ends_with_its_handle() {
    let _watch = LAB.watch();
    let web1 = LAB.host("web1");
    let ticker = web1.spawn_as("bob", ["sh", "-c", "echo ready; sleep 1234 & wait"]).unwrap();
    ticker.wait_for_output("ready", SOON).unwrap();
    assert_eq!(ticker.status().unwrap(), None);
    let alive = || web1.run(["pgrep", "-x", "-f", "sleep 1234"]).unwrap().success();
    assert!(alive());
    drop(ticker);
    wait_until(SOON, "the whole process group to be gone", || !alive()).unwrap();

    let trapped =
        web1.spawn_as("bob", ["sh", "-c", "trap 'exit 5' TERM; echo on; while :; do sleep 0.01; done"]).unwrap();
    trapped.wait_for_output("on", SOON).unwrap();
    trapped.signal(Signal::SIGTERM).unwrap();
    assert_eq!(trapped.wait(SOON).unwrap().status, Status::Exited(5));
}

#[test]
fn a_signal_has_been_sent_when_that_is_said() {
    let _watch = LAB.watch();
    let web1 = LAB.host("web1");
    let blocks = "my $all = POSIX::SigSet->new; $all->fillset; sigprocmask(SIG_BLOCK, $all); $| = 1; print qq(blocked\\n); select undef, undef, undef, 1234";
    // Each signal once: it stays pending.
    let signals = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTERM];
    for round in 0..16 {
        let deaf = web1.spawn_as("root", ["perl", "-MPOSIX", "-e", blocks]).unwrap();
        deaf.wait_for_output("blocked", SOON).unwrap();
        for signal in signals {
            deaf.signal(signal).unwrap();
            // Not by a command, which would come after the signal in any case.
            let status = web1.read_file(&format!("/proc/{}/status", deaf.pid())).unwrap();
            let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap().trim();
            let is_due = u64::from_str_radix(pending, 16).unwrap() >> (signal as u32 - 1) & 1 == 1;
            assert!(is_due, "{round}: {signal}: {status}");
        }
        deaf.signal(Signal::SIGKILL).unwrap();
        deaf.wait(SOON).unwrap();
    }
}

#[test]
fn what_goes_wrong_is_an_error_that_says_so() {
    let _watch = LAB.watch();
    let web1 = LAB.host("web1");
    let failed = web1.run(["sh", "-c", "echo out; echo err >&2; exit 3"]).unwrap().ok().unwrap_err().to_string();
    assert!(failed.contains("root@web1#") && failed.contains("exit 3"), "{failed}");
    assert!(failed.contains("out") && failed.contains("err"), "{failed}");
    let late = web1.command(["sh", "-c", "echo begun; sleep 1000"]).timeout(Duration::from_millis(300)).run();
    let late = late.unwrap_err().to_string();
    assert!(late.contains("begun") && late.contains("300ms"), "{late}");
    assert_eq!(web1.run_as("mallory", ["id"]).unwrap().status, Status::Exited(127));
    assert_eq!(web1.run(["no-such-program"]).unwrap().status, Status::Exited(127));
    assert_eq!(web1.run(["sh", "-c", "kill -9 $$"]).unwrap().status, Status::Signaled(9));
    let bash = web1.pty_as("bob", ["bash"]).unwrap();
    let unseen = bash.expect("never shown", Duration::from_millis(300)).unwrap_err().to_string();
    assert!(unseen.contains("never shown") && unseen.contains("bob@web1"), "{unseen}");
    let sshd = web1.start_sshd_as("broken", "/etc/ssh/broken", "NoSuchOption yes\n").unwrap_err().to_string();
    assert!(sshd.contains("NoSuchOption"), "{sshd}");
    web1.forget_service("broken").unwrap();
}

#[test]
fn files_are_written_whole_and_read_within_the_host() {
    let _watch = LAB.watch();
    let web2 = LAB.host("web2");
    web2.write_file_as("bob", "/srv/deep/file", 0o640, "one\n").unwrap();
    assert_eq!(web2.run(["stat", "-c", "%U %G %a", "/srv/deep/file"]).unwrap().stdout, "bob bob 640\n");
    // A link that is absolute points into the host, not into the machine.
    web2.run(["ln", "-s", "/etc/hostname", "/srv/link"]).unwrap().ok().unwrap();
    assert_eq!(web2.read_file("/srv/link").unwrap(), "web2\n");
    web2.write_file("/srv/link", 0o644, "replaced\n").unwrap();
    assert_eq!(web2.read_file("/etc/hostname").unwrap(), "web2\n");
    assert_eq!(web2.list_folder("/srv/deep").unwrap(), ["file"]);
    web2.remove_file("/srv/deep/file").unwrap();
    web2.remove_file("/srv/deep/file").unwrap();
    assert!(!web2.exists("/srv/deep/file"));
    assert!(web2.read_file("/srv/deep/file").is_err());
    assert!(!std::path::Path::new("/srv/link").exists(), "written to the machine");
}

#[test]
fn a_host_is_kept_from_the_machine() {
    let _watch = LAB.watch();
    let web1 = LAB.host("web1");
    for forbidden in [
        "date -s '2001-01-01'",
        "mknod /tmp/disk b 254 0",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "mkdir /sys/kernel/x",
        "ls /dev/vda /dev/sda /dev/mem",
        "cat /root/.bash_history /root/.ssh/* /etc/ssh/ssh_host_rsa_key",
    ] {
        web1.run(["sh", "-c", forbidden]).unwrap().refused().unwrap();
    }
    let links = web1.run(["ip", "-o", "link"]).unwrap().ok().unwrap().stdout;
    assert_eq!(links.lines().filter(|link| !link.contains("sit0") && !link.contains("tunl0")).count(), 2, "{links}");
    web1.run(["ip", "route", "get", "1.1.1.1"]).unwrap().refused().unwrap();
    let processes = web1.run(["ps", "-eo", "pid=,args="]).unwrap().ok().unwrap().stdout;
    assert!(processes.lines().count() < 100 && processes.contains("1 "), "{processes}");
    assert_eq!(web1.run(["cat", "/proc/1/comm"]).unwrap().stdout, "ussh-lab\n");
}

#[test]
fn a_host_has_a_cgroup_tree_of_its_own() {
    let _watch = LAB.watch();
    let script = "
        mkdir -p /sys/fs/cgroup/a/b
        sleep 1000 & echo $! > /sys/fs/cgroup/a/b/cgroup.procs
        cat /proc/$!/cgroup | grep ^0
        echo 1 > /sys/fs/cgroup/a/cgroup.kill
        wait $! || echo killed $?
        rmdir /sys/fs/cgroup/a/b /sys/fs/cgroup/a
    ";
    let output = LAB.host("web1").script(script).unwrap();
    assert!(output.stdout.contains("0::/a/b\n") && output.stdout.contains("killed 137"), "{}", output.stdout);
}

#[test]
fn syslog_keeps_a_message_in_its_line() {
    let _watch = LAB.watch();
    let web2 = LAB.host("web2");
    web2.run(["logger", "-p", "auth.warning", "-t", "forger", "one\ntwo"]).unwrap().ok().unwrap();
    wait_until(SOON, "the message", || web2.log().contains("auth.warning forger: one")).unwrap();
    assert!(web2.read_file("/var/log/auth.log").unwrap().contains("forger: one#012two\n"));
}

#[test]
fn auth_and_all_else_are_logged_apart_as_in_debian() {
    let _watch = LAB.watch();
    let web2 = LAB.host("web2");
    for facility in ["auth", "authpriv", "daemon", "user"] {
        web2.run(["logger", "-p", &format!("{facility}.info"), "-t", "apart", &format!("from-{facility}")]).unwrap();
    }
    wait_until(SOON, "the last message", || web2.log().contains("apart: from-user")).unwrap();
    for (file, here, not_here) in [
        ("/var/log/auth.log", ["from-auth\n", "from-authpriv\n"], ["from-daemon", "from-user"]),
        ("/var/log/syslog", ["from-daemon\n", "from-user\n"], ["from-auth\n", "from-authpriv"]),
    ] {
        let log = web2.read_file(file).unwrap();
        assert!(here.iter().all(|text| log.contains(text)), "{file}: {log}");
        assert!(!not_here.iter().any(|text| log.contains(text)), "{file}: {log}");
    }
}

#[test]
fn two_labs_stand_side_by_side() {
    let labs: Vec<Lab> = ["left", "right"]
        .iter()
        .map(|name| Lab::new(name).host("web1").user("alice", "secret", &[]).start().unwrap())
        .collect();
    for (number, lab) in labs.iter().enumerate() {
        let web1 = lab.host("web1");
        web1.start_sshd(SSHD_CONFIG).unwrap();
        web1.write_file("/srv/number", 0o644, number.to_string()).unwrap();
    }
    assert_eq!(labs[0].host("web1").address(), labs[1].host("web1").address());
    assert_eq!(labs[0].host("web1").read_file("/srv/number").unwrap(), "0");
    assert_eq!(labs[1].host("web1").read_file("/srv/number").unwrap(), "1");
}

#[test]
fn a_host_is_made_anew_at_its_old_address() {
    let lab = Lab::new("again").laptop("laptop").host("web1").start().unwrap();
    let (laptop, old) = (lab.host("laptop"), lab.host("web1"));
    let ping = || laptop.run(["ssh-keyscan", "-T", "5", "-t", "ed25519", "web1"]).unwrap().stdout;
    old.start_sshd(SSHD_CONFIG).unwrap();
    let old_key = ping();
    assert!(old_key.contains("ssh-ed25519"), "{old_key}");
    lab.remove_host("web1").unwrap();
    assert!(old.run(["true"]).is_err());
    assert!(old.log().contains("Server listening"), "the log outlives the host");
    let new = lab.add_host(HostPlan::new("web1")).unwrap();
    assert_eq!(new.address(), old.address());
    new.start_sshd(SSHD_CONFIG).unwrap();
    let new_key = ping();
    assert!(new_key.contains("ssh-ed25519") && new_key != old_key, "{new_key}");
    assert!(lab.add_host(HostPlan::new("web1")).unwrap_err().to_string().contains("already"));
}

#[test]
fn a_bind_is_seen_and_cannot_be_written() {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    let plan = HostPlan::new("web1").bind(&program, "/usr/lib/test/program").bind(folder, "/srv/build");
    let lab = Lab::new("binds").plan(plan).start().unwrap();
    let web1 = lab.host("web1");
    let name = program.file_name().unwrap().to_str().unwrap();
    web1.run(["cmp", "/usr/lib/test/program", &format!("/srv/build/{name}")]).unwrap().ok().unwrap();
    web1.run(["sh", "-c", "echo x >> /usr/lib/test/program"]).unwrap().refused().unwrap();
    web1.run(["touch", "/srv/build/x"]).unwrap().refused().unwrap();
    let missing = Lab::new("missing").plan(HostPlan::new("web1").bind("/no/such", "/srv/x")).start();
    assert!(missing.unwrap_err().to_string().contains("/no/such"));
}
