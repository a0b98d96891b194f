//! An enrolment that is killed: whoever comes next puts the host back to what it was, and a later enrolment leaves nothing of it.
//!
//! Where it is killed is no matter of luck: sshd's configuration includes a pipe, at which each sshd stands until it is let on.

use ussh_e2e::confined;
use ussh_e2e::lab::{Host, SSHD_CONFIG, wait_until};

use super::refused::tree;
use super::{DROP_IN, INCLUDE, SOON, WORLD, enroll, hostd, is_good_but_for_its_daemon, prepare, token};

const JOURNAL: &str = "/var/lib/ussh-hostd/enrolling.json";
const GATE: &str = "/etc/ssh/gate";

/// How many sshds read their configuration before the one at which it is killed: two before anything is asked of the CA, `sshd -t` and `sshd -T` with everything in place, and sshd itself.
#[derive(Clone, Copy, Debug)]
enum KilledAt {
    Test = 2,
    Effective = 3,
    Reload = 4,
}

fn config(rest: &str) -> String {
    format!("Include {GATE}\n{rest}")
}

fn usual() -> String {
    config(&format!("{INCLUDE}{SSHD_CONFIG}PasswordAuthentication no\n"))
}

/// `ussh-hostd enroll ca`, killed there.
fn killed(host: &Host, at: KilledAt, arguments: &str, token: &str) {
    host.write_file("/root/token", 0o600, token).unwrap();
    // The one that stands at the pipe goes on when its last writer is gone; the next one comes to another pipe.
    let script = format!(
        "mkfifo {GATE}; ussh-hostd enroll ca {arguments} </root/token & pid=$!; \
         for n in $(seq {}); do exec 3>{GATE}; mkfifo {GATE}.next; mv {GATE}.next {GATE}; exec 3>&-; done; \
         exec 3>{GATE}; kill -9 $pid; wait $pid; rm {GATE} /root/token; exec 3>&-",
        at as u8
    );
    host.run(["bash", "-c", &script]).unwrap().ok().unwrap();
    assert!(host.exists(DROP_IN), "{at:?}");
    // sshd that was told to read it anew has done so.
    let listens =
        || host.script("kill -0 $(cat $(sshd -T | sed -n 's/^pidfile //p'))").is_ok_and(|said| said.status.code() == 0);
    wait_until(SOON, "sshd to listen", || matches!(at, KilledAt::Test) || listens()).unwrap();
}

/// But for what sshd itself writes when it reads its configuration anew, and the folder that a daemon makes at its start.
fn files(host: &Host) -> String {
    let is_anothers = |line: &str| line.contains("sshd.pid") || line.starts_with("var/lib/ussh-hostd/break-glass ");
    tree(host).lines().filter(|line| !is_anothers(line)).map(|line| format!("{line}\n")).collect()
}

fn left_over(host: &Host) -> String {
    host.script("find /etc /var/lib /run -xdev -name '*.ussh-hostd-*' -o -xdev -name enrolling.json -o -xdev -name 'ussh-hostd.[0-9]*' | sort").unwrap().stdout
}

fn assert_check_speaks_of_it(host: &Host) {
    let said = hostd(host, "check");
    assert_eq!(said.status.code(), 1, "{said:?}");
    assert!(
        said.stderr.contains("an enrolment was cut short") && said.stderr.contains("systemctl restart"),
        "{said:?}"
    );
}

#[test]
fn wherever_an_enrolment_is_killed_the_next_that_comes_puts_everything_back() {
    let _watch = WORLD.lab().watch();
    let host = prepare("cut1");
    host.write_file("/etc/ssh/sshd_config", 0o644, usual()).unwrap();
    host.script("echo old >/etc/ssh/trusted_user_ca; touch -d '2020-01-01' /etc/ssh/trusted_user_ca").unwrap();
    let before = files(&host);
    for at in [KilledAt::Test, KilledAt::Effective, KilledAt::Reload] {
        for by in ["run", "sync"] {
            let arguments = if by == "run" { "" } else { "--new-keys" };
            killed(&host, at, arguments, &token("cut1"));
            assert!(host.exists(JOURNAL), "{at:?}");
            assert_check_speaks_of_it(&host);
            if by == "run" {
                let daemon = host.command(confined(&["ussh-hostd", "run"])).service("ussh-hostd").unwrap();
                daemon.wait_for_output("Watching ", SOON).unwrap();
                let said = daemon.stderr();
                assert!(said.find("An enrolment that was cut short is undone") < said.find("Watching "), "{said}");
                assert!(said.contains("An enrolment that was cut short is undone"), "{said}");
                host.stop_service("ussh-hostd").unwrap();
            } else {
                let said = hostd(&host, "sync");
                assert!(said.stderr.contains("An enrolment that was cut short is undone"), "{said:?}");
            }
            let after = files(&host);
            let changed: Vec<&str> = after.lines().filter(|line| !before.lines().any(|l| l == *line)).collect();
            assert_eq!((changed, before == after), (vec![], true), "{at:?} {by}");
        }
    }
    // And a second enrolment after one that was killed goes its way.
    killed(&host, KilledAt::Effective, "", &token("cut1"));
    let said = enroll(&host, "", &token("cut1")).ok().unwrap();
    assert!(said.stderr.contains("An enrolment that was cut short is undone"), "{said:?}");
    assert_eq!(left_over(&host), "");
    hostd(&host, "sync").ok().unwrap();
    is_good_but_for_its_daemon(&host);
}

#[test]
fn killed_before_sshd_says_no_it_does_not_keep_sshd_from_starting_for_good() {
    let _watch = WORLD.lab().watch();
    let host = prepare("cut2");
    host.write_file("/etc/ssh/sshd_config", 0o644, config(&format!("{SSHD_CONFIG}Match User nobody\n{INCLUDE}")))
        .unwrap();
    killed(&host, KilledAt::Test, "", &token("cut2"));
    let bad = host.run(["sshd", "-t"]).unwrap();
    assert!(bad.stderr.contains("not allowed within a Match block"), "{bad:?}");
    assert_check_speaks_of_it(&host);
    // It is our own file that is in the way, and no longer is.
    let said = enroll(&host, "", &token("cut2"));
    assert!(said.stderr.contains("Everything is as it was before; the token is used up"), "{said:?}");
    host.run(["sshd", "-t"]).unwrap().ok().unwrap();
    assert_eq!((host.exists(DROP_IN), left_over(&host)), (false, String::new()));

    // Of one that was killed before there were journals, or when it was all but over.
    host.write_file("/etc/ssh/sshd_config", 0o644, usual()).unwrap();
    let left = [
        "/etc/ssh/.ssh_host_ed25519_key.ussh-hostd-before",
        "/etc/ssh/.gone.ussh-hostd-new",
        "/run/ussh-hostd.999999999/key",
    ];
    host.script("mkdir /run/ussh-hostd.999999999").unwrap();
    for file in left {
        host.write_file(file, 0o600, "a private key").unwrap();
    }
    enroll(&host, "", &token("cut2")).ok().unwrap();
    assert_eq!(left_over(&host), "");
}

#[test]
fn the_service_manager_is_told_when_what_was_cut_short_is_undone_and_that_the_daemon_comes_round_as_long_as_it_does() {
    const LISTENER: &str = r#"use Socket; $| = 1; socket(my $s, PF_UNIX, SOCK_DGRAM, 0) or die; bind($s, sockaddr_un($ARGV[0])) or die;
        print "bound\n"; recv($s, my $said, 4096, 0); print $said, -e $ARGV[1] ? " too early" : " in time", "\n";
        for (1 .. 3) { recv($s, $said, 4096, 0); print "$said no. $_\n" } vec(my $all, fileno $s, 1) = 1;
        recv($s, $said, 4096, 0) while select(my $has_come = $all, undef, undef, 2); print "silence\n"; recv($s, $said, 4096, 0); print "$said again\n";"#;
    // The thread that goes round, and no other, until this ends (ptrace(2), PTRACE_SEIZE and PTRACE_INTERRUPT).
    const HANG: &str = r#"$| = 1; my $ptrace = `uname -m` =~ /x86_64/ ? 101 : 117; my $pid = $ARGV[0] + 0;
        syscall($ptrace, $_, $pid, 0, 0) == 0 or die "$!" for 0x4206, 0x4207; print "it hangs\n"; sleep 600"#;
    let _watch = WORLD.lab().watch();
    let host = prepare("cut3");
    host.write_file("/etc/ssh/sshd_config", 0o644, usual()).unwrap();
    killed(&host, KilledAt::Test, "", &token("cut3"));
    let manager = host.command(["perl", "-e", LISTENER, "/run/notify.sock", JOURNAL]).spawn().unwrap();
    manager.wait_for_output("bound", SOON).unwrap();
    let daemon = confined(&["ussh-hostd", "run"]);
    // Microseconds: it has to be heard of twice in them.
    let daemon = host.command(daemon).env("NOTIFY_SOCKET", "/run/notify.sock").env("WATCHDOG_USEC", "1000000");
    let daemon = daemon.service("ussh-hostd").unwrap();
    manager.wait_for_output("READY=1 in time", SOON).unwrap();
    manager.wait_for_output("WATCHDOG=1 no. 3", SOON).unwrap();
    let hang = host.command(["perl", "-e", HANG, &daemon.pid().to_string()]).spawn().unwrap();
    hang.wait_for_output("it hangs", SOON).unwrap();
    manager.wait_for_output("silence", SOON).unwrap();
    hang.kill().unwrap();
    manager.wait_for_output("WATCHDOG=1 again", SOON).unwrap();
    host.stop_service("ussh-hostd").unwrap();
}
