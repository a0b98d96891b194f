//! Break-glass: in while the CA is away, loudly and for a short time; and what does not get in by it. The security key is software's (own_key/sk_provider.c).

use std::process::Command;
use std::sync::Once;

use super::*;

pub(super) const PROVIDER: &str = "/usr/lib/sk-software.so";
pub(super) const NOTES: &str = "/var/lib/ussh-hostd/break-glass";
pub(super) const TRUSTED: &str = "/etc/ssh/trusted_user_ca";
/// What a session may last here, seconds.
pub(super) const LIMIT: u64 = 12;

pub(super) const CONFIG: &str = "\
break_glass_limit_seconds = 12
break_glass_hook = [\"/usr/local/sbin/hook\"]
break_glass_hook_user = \"nobody\"
warn_before_seconds = [8]
";

const SSHD_PAM: &str = "\
@include common-auth
@include common-account
session  requisite pam_ussh.so
@include common-session
@include common-password
";

const SUDO_PAM: &str = "\
auth     required  pam_ussh.so ca_file=/etc/ssh/trusted_user_ca revoked_keys=/etc/ssh/revoked_keys
@include common-account
@include common-session-noninteractive
";

/// What stands on the laptop: a security key, a plain one, and the CA with what it signed.
pub(super) fn laptop(script: &str) -> Output {
    static MADE: Once = Once::new();
    let run = |script: &str| WORLD.sh("laptop", "alice", &format!("cd; {script}")).unwrap();
    MADE.call_once(|| {
        let built = std::env::temp_dir().join(format!("ussh-glass-{}.so", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&built);
        cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/own_key/sk_provider.c")).arg("-l:libcrypto.so.3");
        assert!(cc.status().unwrap().success());
        WORLD.host("laptop").write_file(PROVIDER, 0o755, std::fs::read(&built).unwrap()).unwrap();
        std::fs::remove_file(built).unwrap();
        let make = format!(
            "mkdir -m 700 bg && cd bg && ssh-keygen -q -t ed25519 -N '' -C bg -f ca && ssh-keygen -q -t ed25519 -N '' -f soft
             for key in good lazy gone nobody; do ssh-keygen -q -t ed25519-sk -w {PROVIDER} -N '' -f $key; done
             sign() {{ ssh-keygen -q -s ca -n alice -V -5m:+52w \"$@\"; }}
             sign -I alice@break-glass -z 5 good.pub && sign -I soft@break-glass -z 6 soft.pub
             sign -I gone@break-glass -z 8 gone.pub && sign -I lazy@break-glass -z 7 -O no-touch-required lazy.pub
             sign -I '' -z 10 nobody.pub"
        );
        run(&make).ok().unwrap();
    });
    run(script)
}

pub(super) fn ssh(key: &str, options: &str, host: &str, command: &str) -> String {
    format!(
        "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes \
         -o SecurityKeyProvider={PROVIDER} -i bg/{key} {options} {host} {command}"
    )
}

pub(super) fn log_in(key: &str, host: &str) -> Output {
    laptop(&ssh(key, "-o IdentityAgent=none", host, "id -un"))
}

/// An enrolled host whose way to the CA is cut, and which was given the break-glass CA only then.
pub(super) fn cut_off(name: &str) -> Host {
    let host = prepare(name);
    host.write_file("/etc/pam.d/sshd", 0o644, SSHD_PAM).unwrap();
    host.write_file("/etc/pam.d/sudo", 0o644, SUDO_PAM).unwrap();
    host.write_file(
        "/etc/sudoers.d/glass",
        0o440,
        "Defaults timestamp_timeout=0, passwd_tries=1\nalice ALL=(ALL) ALL\n",
    )
    .unwrap();
    host.write_file("/etc/ussh/hostd.toml", 0o644, CONFIG).unwrap();
    host.write_file(
        "/usr/local/sbin/hook",
        0o755,
        "#!/bin/sh\necho \"$(id -un) $USSH_KEY_ID $USSH_USER $USSH_SERIAL\" >> /tmp/hook\n",
    )
    .unwrap();
    enroll(&host, "", &token(name)).ok().unwrap();
    host.script("cp /etc/hosts /root/hosts; sed -i 's/^[0-9.]*\\([ \\t].*\\bca\\b\\)/127.0.0.9\\1/' /root/hosts; cat /etc/hosts > /root/hosts.good; cat /root/hosts > /etc/hosts").unwrap().ok().unwrap();
    let refused = log_in("good", name);
    assert_eq!(refused.status.code(), 255, "before its CA is trusted: {refused:?}");
    let ca = laptop("cat bg/ca.pub").ok().unwrap().stdout;
    host.write_file("/etc/ussh/break_glass_ca.pub", 0o644, &ca).unwrap();
    let check = hostd(&host, "check");
    assert!(check.stderr.contains("is not trusted as such"), "{check:?}");
    let synced = hostd(&host, "sync");
    assert_eq!(synced.status.code(), 1, "the CA cannot be reached: {synced:?}");
    let trusted = host.read_file(TRUSTED).unwrap();
    assert_eq!((trusted.lines().count(), trusted.contains(" ussh-break-glass\n")), (2, true), "{trusted}");
    host
}

pub(super) fn notes(host: &Host) -> Vec<String> {
    let names = host.list_folder(NOTES).unwrap_or_default();
    let mut ends: Vec<String> = names.iter().filter_map(|name| Some(name.rsplit_once('.')?.1.to_owned())).collect();
    ends.sort();
    ends
}

#[test]
fn break_glass_works_without_the_ca_and_nobody_misses_it() {
    let _watch = WORLD.lab().watch();
    // OpenSSH 9.2 and 10.0.
    for name in ["glass1", "glass13"] {
        let host = cut_off(name);
        let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
        daemon.wait_for_output("Watching ", SOON).unwrap();
        let position = WORLD.log_position(name);
        let sudo = "'sudo id -un; echo there; sleep 100'";
        let agent = format!("eval $(ssh-agent -P '/usr/lib/*') >/dev/null; ssh-add -q -S {PROVIDER} bg/good; ");
        let script = format!("cd; {agent}{}; ssh-agent -k", ssh("good", "-A -tt", name, sudo));
        let began = std::time::Instant::now();
        let session = WORLD.host("laptop").spawn_as("alice", ["sh", "-c", &script]).unwrap();
        session.wait_for_output("root", SOON).unwrap();
        session.wait_for_output("there", SOON).unwrap();
        // Another one, of whom this one hears on the terminal.
        assert_eq!(log_in("good", name).stdout, "alice\n");
        session.wait_for_output("BREAK-GLASS: alice@break-glass has logged in as alice from ", SOON).unwrap();
        session.wait_for_output("this session ends in ", SOON).unwrap();
        let shown = hostd(&host, "sessions").stdout;
        assert!(shown.contains("alice@break-glass (serial 5, break-glass)"), "{shown}");
        session.wait_for_output("this session has lasted as long as it may here: it ends now.", SOON).unwrap();
        session.wait(SOON).unwrap();
        assert!(began.elapsed() >= Duration::from_secs(LIMIT - 1), "{:?}", began.elapsed());
        let logged = WORLD.logged_since(name, position).unwrap();
        assert!(logged.contains("BREAK-GLASS login by certificate ID \"alice@break-glass\" (serial 5)"), "{logged}");
        // Two logins, and the sudo in the first of them.
        assert_eq!(host.read_file("/tmp/hook").unwrap(), "nobody alice@break-glass alice 5\n".repeat(3));
        let three_each = ["ca-failed", "hook", "json", "wall"].map(|kind| [kind; 3]).concat();
        assert_eq!(notes(&host), three_each, "the CA was tried for each");
        // The daemon's own run may be at it.
        let report = |what: &str| {
            let mut said = String::new();
            let done = || {
                let output = hostd(&host, "report");
                said = output.stdout + &output.stderr;
                said.contains(what)
            };
            wait_until(SOON, what, done).unwrap();
            said
        };
        report("the CA does not have it: no way to the CA");

        // The CA is back.
        host.script("cat /root/hosts.good > /etc/hosts").unwrap();
        assert_eq!(report(": the CA has it\n").matches(": the CA has it\n").count(), 3);
        assert_eq!(notes(&host), [""; 0]);
        assert_eq!(hostd(&host, "report").ok().unwrap().stdout, "");
        let shown = WORLD.usshca(&format!("host show {name}")).unwrap().ok().unwrap().stdout;
        let lines: Vec<&str> = shown.lines().filter(|line| line.starts_with("break-glass ")).collect();
        assert!(lines.len() == 3 && lines[0].contains(" alice@break-glass as alice from "), "{shown}");
        hostd(&host, "sync").ok().unwrap();
        assert!(host.read_file(TRUSTED).unwrap().contains(" ussh-break-glass\n"), "a feed has taken it away");
        host.stop_service("ussh-hostd").unwrap();
    }
}

#[test]
fn what_is_against_the_rules_of_break_glass_gets_nowhere_and_a_full_disk_keeps_nobody_out() {
    let _watch = WORLD.lab().watch();
    let host = cut_off("glass2");
    let refused = |key: &str, why: &str| {
        let position = WORLD.log_position("glass2");
        let output = log_in(key, "glass2");
        assert!(!output.status.success() && !output.stdout.contains("alice"), "{key}: {output:?}");
        let logged = WORLD.logged_since("glass2", position).unwrap();
        assert!(logged.contains(why), "{key}: {logged}");
    };
    refused("soft", "break-glass certificate: its key is no security key");
    refused("lazy", "break-glass certificate: it does without a touch");
    refused("nobody", "break-glass certificate: its key ID names nobody");
    let gone = laptop("cat bg/gone.pub").ok().unwrap().stdout;
    host.write_file("/root/gone.pub", 0o644, &gone).unwrap();
    host.run(["ssh-keygen", "-q", "-k", "-u", "-f", "/etc/ssh/revoked_keys", "/root/gone.pub"]).unwrap().ok().unwrap();
    refused("gone", "revoked");
    assert_eq!(notes(&host), [""; 0], "none of these was a use");

    // The daemon is down: the note waits all the same.
    assert_eq!(log_in("good", "glass2").stdout, "alice\n");
    assert_eq!(notes(&host), ["json"]);
    host.script(&format!("rm {NOTES}/*; mount -t tmpfs -o size=4k,nr_inodes=1 none {NOTES}")).unwrap().ok().unwrap();
    let position = WORLD.log_position("glass2");
    assert_eq!(log_in("good", "glass2").stdout, "alice\n");
    let logged = WORLD.logged_since("glass2", position).unwrap();
    assert!(logged.contains("BREAK-GLASS login by") && logged.contains("no note left for the CA: "), "{logged}");

    // Revoked on the host itself, it stays so whatever a feed brings.
    host.script("cat /root/hosts.good > /etc/hosts; cat /root/gone.pub > /etc/ussh/revoked_here")
        .unwrap()
        .ok()
        .unwrap();
    for _ in 0..2 {
        let synced = hostd(&host, "sync").ok().unwrap().stdout;
        assert!(synced.contains("(1 line of /etc/ussh/revoked_here added)"), "{synced}");
        refused("gone", "revoked");
    }
    let check = hostd(&host, "check");
    assert!(!check.stderr.contains("revoked_here"), "{check:?}");

    // One key is not both CAs.
    let before = host.read_file(TRUSTED).unwrap();
    host.script(&format!("head -1 {TRUSTED} > /etc/ussh/break_glass_ca.pub")).unwrap();
    let refused = hostd(&host, "sync");
    assert!(refused.stderr.contains("break-glass needs a CA of its own"), "{refused:?}");
    assert_eq!(host.read_file(TRUSTED).unwrap(), before);
    // The wrong one of two files: the user CA stays the user CA, for pam_ussh and for the daemon, and the alarm says what is wrong.
    let check = hostd(&host, "check");
    assert!(check.stderr.contains("/etc/ussh/break_glass_ca.pub holds the user CA's key SHA256:"), "{check:?}");
    WORLD.forge(&Forgery::of("alice").validity("-5m:+1h")).unwrap().write(&WORLD, "alice", "wrong").unwrap();
    let by_certificate = |command: &str| {
        format!(
            "cd; ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             -o IdentityAgent=none -o IdentitiesOnly=yes -i wrong glass2 '{command}'"
        )
    };
    let position = WORLD.log_position("glass2");
    let session = WORLD
        .host("laptop")
        .spawn_as(
            "alice",
            ["sh", "-c", &by_certificate("echo there; until test -e /tmp/go; do sleep 0.1; done; echo on")],
        )
        .unwrap();
    session.wait_for_output("there", SOON).unwrap();
    let began = std::time::Instant::now();
    let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
    daemon.wait_for_output("Watching ", SOON).unwrap();
    assert_eq!(laptop(&by_certificate("id -un")).stdout, "alice\n");
    let shown = hostd(&host, "sessions").stdout;
    assert!(shown.contains("alice") && !shown.contains("break-glass"), "{shown}");
    let is_past = || began.elapsed() > Duration::from_secs(LIMIT + 1);
    wait_until(SOON, "the end of what a session by break-glass may last", is_past).unwrap();
    host.script("touch /tmp/go").unwrap().ok().unwrap();
    session.wait_for_output("on\n", SOON).unwrap();
    let logged = WORLD.logged_since("glass2", position).unwrap();
    assert!(!logged.contains("Refusing") && logged.contains("which stays the user CA's"), "{logged}");
    assert!(!logged.contains("BREAK-GLASS") && !logged.contains("Ending session"), "{logged}");
    host.stop_service("ussh-hostd").unwrap();
}
