//! Break-glass in sudo alone, in a login by something else: as loud as a login by it.

use super::glass::*;
use super::*;

/// `sudo id -u`, in a login of this way that has the security key in its forwarded agent.
fn sudo(way: &str, script: &str) -> Output {
    let agent = format!("eval $(ssh-agent -P '/usr/lib/*') > /dev/null; ssh-add -q -S {PROVIDER} bg/good");
    laptop(&format!(
        "{agent}; {way} -A -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null glass9 '{script}'; ssh-agent -k > /dev/null"
    ))
}

#[test]
fn a_use_in_sudo_alone_is_as_loud_as_a_login_and_one_in_a_login_by_it_is_told_besides() {
    let _watch = WORLD.lab().watch();
    let host = cut_off("glass9");
    WORLD.make_way_in("alice", "glass9").unwrap();
    WORLD.forge(&Forgery::of("alice").validity("-5m:+1h")).unwrap().write(&WORLD, "alice", "ord").unwrap();
    let by_key = format!("{} -o IdentityAgent=$SSH_AUTH_SOCK", ussh_e2e::WAY_IN);
    let by_certificate = "ssh -F none -i ord -o IdentitiesOnly=yes";
    let by_glass = ssh("good", "", "", "");

    let loud = "BREAK-GLASS sudo by certificate ID \"alice@break-glass\" (serial 5)";
    let hooked = |count: usize| {
        let line = "nobody alice@break-glass alice 5\n";
        let run = || host.read_file("/tmp/hook").is_ok_and(|text| text == line.repeat(count));
        wait_until(SOON, &format!("the hook to have run {count} times"), run).unwrap();
    };
    let run = || {
        let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
        daemon.wait_for_output("Watching ", SOON).unwrap();
    };

    // Nothing waits, so that nothing but the note itself has the daemon look.
    run();
    let no_host_key = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
    let way = ussh_e2e::WAY_IN.replace("-A", no_host_key);
    let watcher = format!("cd; {way} -tt glass9 'echo th''ere; sleep 100'");
    let watcher = WORLD.terminal("laptop", "alice", &watcher).unwrap();
    watcher.expect("there", SOON).unwrap();
    let is_at_rest = || host.script("pgrep -c ussh-hostd").unwrap().stdout == "1\n";
    wait_until(SOON, "its own first runs to end", is_at_rest).unwrap();
    let out = sudo(by_certificate, "sudo id -u");
    assert_eq!(out.stdout, "0\n", "{out:?}");
    watcher.expect("BREAK-GLASS: alice@break-glass has used sudo as alice from ", SOON).unwrap();
    hooked(1);
    host.stop_service("ussh-hostd").unwrap();
    host.forget_service("ussh-hostd").unwrap();

    // The daemon is down: the notes wait for it.
    let position = WORLD.log_position("glass9");
    let out = sudo(&by_key, "sudo id -u; sudo id -u");
    assert_eq!(out.stdout, "0\n0\n", "{out:?}");
    let logged = WORLD.logged_since("glass9", position).unwrap();
    assert_eq!((logged.matches(loud).count(), logged.contains("BREAK-GLASS login")), (2, false), "{logged}");
    assert_eq!(notes(&host).iter().filter(|end| *end == "json").count(), 3);
    run();
    hooked(3);
    // Both of a login by it.
    let out = sudo(&by_glass, "sudo id -u");
    assert_eq!(out.stdout, "0\n", "{out:?}");
    hooked(5);
    host.stop_service("ussh-hostd").unwrap();

    host.script("cat /root/hosts.good > /etc/hosts").unwrap();
    // The daemon's own run may be at it still.
    wait_until(SOON, "the CA to have all", || hostd(&host, "report").success() && notes(&host).is_empty()).unwrap();
    let shown = WORLD.usshca("host show glass9").unwrap().ok().unwrap().stdout;
    let uses: Vec<&str> = shown.lines().filter(|line| line.starts_with("break-glass ")).collect();
    let of_sudo = uses.iter().filter(|line| line.contains(" (sudo by alice") && !line.contains("unknown address"));
    assert_eq!((uses.len(), of_sudo.count()), (5, 4), "{shown}");

    // A disk that takes no note keeps nobody out.
    host.script(&format!("mount -t tmpfs -o size=4k,nr_inodes=1 none {NOTES}")).unwrap().ok().unwrap();
    let position = WORLD.log_position("glass9");
    assert_eq!(sudo(&by_key, "sudo id -u").stdout, "0\n");
    let logged = WORLD.logged_since("glass9", position).unwrap();
    assert!(logged.contains(loud) && logged.contains("no note left for the CA: "), "{logged}");
}
