//! What does not move the limit of a session, and what a hook that hangs does not hold up.

use std::time::Instant;

use super::glass::*;
use super::*;

/// Says nothing, never ends, and has a child that does not either.
const HANGS: &str = "#!/bin/sh\necho x >> /tmp/hook\nsleep 600 &\nsleep 600\n";

/// The newest certificates of the key `good`, of the same name: one that has seconds left, and one of a year.
fn short_and_long(seconds: u64) {
    let make = format!(
        "cd bg && for key in short long; do cp good $key && cp good.pub $key.pub; done
         ssh-keygen -q -s ca -n alice -I alice@break-glass -z 20 -V -5m:+{seconds}s short.pub
         ssh-keygen -q -s ca -n alice -I alice@break-glass -z 21 -V -5m:+52w long.pub"
    );
    laptop(&make).ok().unwrap();
}

#[test]
fn no_newer_certificate_no_later_channel_and_no_hook_that_hangs_moves_the_limit() {
    let _watch = WORLD.lab().watch();
    let host = cut_off("glass3");
    host.write_file("/usr/local/sbin/hook", 0o755, HANGS).unwrap();
    host.write_file("/etc/ussh/hostd.toml", 0o644, format!("{CONFIG}look_before_seconds = 6\n")).unwrap();
    let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
    daemon.wait_for_output("Watching ", SOON).unwrap();
    let agent = WORLD.new_agent("alice").unwrap();
    let in_home = |script: &str| format!("cd; {script}");
    short_and_long(9);
    let began = Instant::now();
    let first = ssh("short", "-A -f -o ControlMaster=yes -o ControlPath=bg/way", "glass3", "sleep 100 >/dev/null 2>&1");
    agent.sh(&in_home(&first)).unwrap().ok().unwrap();
    agent.sh(&in_home(&format!("ssh-add -q -S {PROVIDER} bg/long"))).unwrap().ok().unwrap();
    wait_until(SOON, "the hook to hang", || host.exists("/tmp/hook")).unwrap();
    daemon.wait_for_output("Renewed session with certificate ID \"alice@break-glass\"", SOON).unwrap();
    // While the hook hangs: others come in, and a channel is opened over the first connection.
    assert_eq!(log_in("good", "glass3").stdout, "alice\n");
    let later = agent.terminal(&in_home(&ssh("none", "-tt -S bg/way", "glass3", "'echo la''ter; sleep 100'"))).unwrap();
    later.expect("later", SOON).unwrap();
    assert!(began.elapsed() < Duration::from_secs(LIMIT), "this machine is too slow for the test");
    later.expect("this session has lasted as long as it may here: it ends now.", SOON).unwrap();
    later.expect_exit(SOON).unwrap();
    let lasted = began.elapsed();
    let in_time = Duration::from_secs(LIMIT - 1)..Duration::from_secs(LIMIT + 4);
    assert!(in_time.contains(&lasted), "{lasted:?}");
    wait_until(SOON, "the whole connection to be gone", || {
        !agent.sh("cd; ssh -S bg/way -O check glass3").unwrap().success()
    })
    .unwrap();
    assert_eq!(hostd(&host, "sessions --json").stdout, "[]\n");
    assert!(hostd(&host, "report").stderr.contains("another run is at it"), "the hook has hung all that time");
    assert_eq!(host.read_file("/tmp/hook").unwrap(), "x\n");
    host.stop_service("ussh-hostd").unwrap();
}

#[test]
fn a_login_by_a_plain_key_ends_on_time_where_the_policy_says_so_and_its_user_is_warned() {
    let _watch = WORLD.lab().watch();
    let host = cut_off("glass4");
    WORLD.make_way_in("alice", "glass4").unwrap();
    let daemon = |limit: &str| {
        host.write_file("/etc/ussh/hostd.toml", 0o644, format!("warn_before_seconds = [4]\n{limit}")).unwrap();
        let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
        daemon.wait_for_output("Watching ", SOON).unwrap();
        daemon
    };
    let agent = WORLD.new_agent("alice").unwrap();
    let began = Instant::now();
    let open = || agent.shell(&format!("{} glass4", ussh_e2e::WAY_IN)).unwrap();
    let first = daemon("");
    let shell = open();
    first.wait_for_output("Session without a certificate, left alone: ", SOON).unwrap();
    host.stop_service("ussh-hostd").unwrap();
    host.forget_service("ussh-hostd").unwrap();
    let second = daemon("without_certificate_limit_seconds = 10\n");
    second.wait_for_output("Session without a certificate, for another ", SOON).unwrap();
    shell.terminal().expect("this session ends in 4 s: it may last no longer here.", SOON).unwrap();
    shell.terminal().expect("this session has lasted as long as it may here: it ends now.", SOON).unwrap();
    shell.terminal().expect_exit(SOON).unwrap();
    let lasted = began.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(16)).contains(&lasted), "{lasted:?}");
    assert_eq!(notes(&host), [""; 0], "a plain key is no break-glass");
    host.stop_service("ussh-hostd").unwrap();
}
