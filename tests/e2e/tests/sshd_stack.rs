//! pam_ussh in sshd's own stack: `auth` behind publickey, and the `session` line that records every login for ussh-hostd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{Output, SSHD_CONFIG, wait_until};
use ussh_e2e::{Forged, Forgery, PersonAgent, SPOOL, SSHD_WITH_CERTIFICATES, WAY_IN, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);
/// Writes down what modules behind pam_env see of the login.
const WITNESS: &str = "/usr/local/sbin/witness";

/// web1 as the README sets it up; web2 demands keyboard-interactive with our line in `auth` behind publickey; web3 runs no ussh-hostd.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = WorldPlan::new("sshd-stack").server("web3").people(24, "admins").start().unwrap();
    for host in ["web1", "web2", "web3"] {
        let host = world.host(host);
        let pam = host.read_file("/etc/pam.d/sshd").unwrap();
        host.write_file("/etc/pam.d/sshd", 0o644, format!("{pam}session optional pam_exec.so {WITNESS}\n")).unwrap();
        host.write_file(WITNESS, 0o755, "#!/bin/sh\necho \"$SSH_AUTH_INFO_0\" > /run/seen-$PAM_TYPE-$PAM_USER\n")
            .unwrap();
    }
    let web2 = world.host("web2");
    let pam = web2.read_file("/etc/pam.d/sshd").unwrap();
    // Its list is not sshd's, so that one can be seen without the other.
    let line = "auth required pam_ussh.so max_validity=1d revoked_keys=/etc/ssh/pam_revoked";
    web2.write_file("/etc/pam.d/sshd", 0o644, pam.replace("@include common-auth", line)).unwrap();
    web2.script(
        "echo serial: 7000000007 > /tmp/l; ssh-keygen -q -k -f /etc/ssh/pam_revoked -s /etc/ssh/trusted_user_ca /tmp/l",
    )
    .unwrap();
    // Who sshd itself lets in as bob: whoever's certificate says ops.
    web2.write_file("/etc/ssh/principals/bob", 0o644, "ops\n").unwrap();
    let config = SSHD_CONFIG.replace("KbdInteractiveAuthentication no", "KbdInteractiveAuthentication yes");
    let methods = "AuthenticationMethods publickey,keyboard-interactive:pam";
    let bobs = "Match User bob\n  AuthorizedPrincipalsFile /etc/ssh/principals/%u";
    web2.stop_service("sshd").unwrap();
    web2.start_sshd(&format!("{config}{SSHD_WITH_CERTIFICATES}{methods}\n{bobs}\n")).unwrap();
    world.host("web3").stop_service("ussh-hostd").unwrap();
    world
});

/// Somebody else each time, with an empty agent.
fn somebody() -> PersonAgent<'static> {
    WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap()
}

fn add(agent: &PersonAgent<'_>, forgery: impl Fn(Forgery) -> Forgery) -> Forged {
    let forged = WORLD.forge(&forgery(Forgery::of(agent.user()))).unwrap();
    forged.add_to(agent).unwrap();
    forged
}

/// What became of one login, and what pam_ussh logged of it.
#[derive(Debug)]
struct Login {
    output: Output,
    log: Vec<String>,
}

fn log_in(agent: &PersonAgent<'_>, user: &str, options: &str) -> Login {
    let before = WORLD.log_position("web2");
    let output = agent.sh(&format!("ssh {options} {user}@web2 hostname </dev/null")).unwrap();
    Login { output, log: WORLD.said_of_logins("web2", user, before).unwrap() }
}

impl Login {
    fn accepted(&self, serial: u64) {
        assert_eq!((self.output.status.code(), self.output.stdout.as_str()), (0, "web2\n"), "{self:?}");
        assert_eq!(self.log.len(), 1, "{self:?}");
        assert!(
            self.log[0].contains("Accepted certificate ID ") && self.log[0].contains(&format!("(serial {serial}) ")),
            "{self:?}"
        );
    }

    /// pam_ussh was asked, and said no.
    fn refused(&self, reason: &str) {
        self.kept_out();
        // sshd asks three times (MaxAuthTries would allow more; the client gives up after NumberOfPasswordPrompts).
        assert!(!self.log.is_empty(), "{self:?}");
        for line in &self.log {
            assert!(line.contains("Refusing ") && line.ends_with(&format!(": {reason}")), "{reason}: {self:?}");
        }
    }

    fn kept_out(&self) {
        assert_eq!((self.output.status.code(), self.output.stdout.as_str()), (255, ""), "{self:?}");
    }
}

fn records(host: &str, user: &str) -> Vec<Value> {
    WORLD.session_records(host, user).unwrap()
}

fn wait_for_no_record(host: &str, user: &str) {
    wait_until(SOON, "the record to go", || records(host, user).is_empty()).unwrap();
}

/// What ssh-keygen says of the certificate in a record.
fn serial_of(record: &Value) -> u64 {
    let line = record["certificate"].as_str().unwrap();
    let shown = WORLD.host("laptop").command(["ssh-keygen", "-Lf", "-"]).stdin(format!("{line}\n")).run().unwrap().ok();
    ussh_e2e::shown_certificates(&shown.unwrap().stdout)[0].serial
}

#[test]
fn the_certificate_gets_in_and_the_same_key_without_it_does_not() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    let user = agent.user();
    let forged = add(&agent, |good| good);
    log_in(&agent, user, "").accepted(forged.serial);

    let web2 = WORLD.host("web2");
    web2.make_folder_as(user, &format!("/home/{user}/.ssh"), 0o700).unwrap();
    web2.write_file_as(user, &format!("/home/{user}/.ssh/authorized_keys"), 0o600, forged.public()).unwrap();
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    forged.add_plain_to(&agent).unwrap();
    let before = WORLD.log_position("web2");
    log_in(&agent, user, "").refused("no certificate");
    let log = WORLD.logged_since("web2", before).unwrap();
    assert!(log.contains(&format!("Partial publickey for {user} ")), "sshd itself took the key: {log}");
    assert!(!log.contains(&format!("session opened for user {user}")), "{log}");
}

#[test]
fn refuses_a_validity_that_is_longer_than_the_line_allows() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    add(&agent, |good| good.validity("-1m:+1439m"));
    assert_eq!(log_in(&agent, agent.user(), "").output.status.code(), 0);
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    add(&agent, |good| good.validity("-1m:+1440m"));
    log_in(&agent, agent.user(), "").refused("certificate is valid for 86460 s, longer than the 86400 s allowed");
}

#[test]
fn refuses_a_certificate_that_sshd_takes_and_that_does_not_name_the_user() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    add(&agent, |good| good.principals(&["ops"]));
    log_in(&agent, "bob", "").refused("certificate does not name a demanded principal: bob, the user's own");
    let serial = add(&agent, |good| good.principals(&["ops", "bob"])).serial;
    agent.sh("ssh-add -L | head -n 1 > ~/first.pub; ssh-add -q -d ~/first.pub").unwrap().ok().unwrap();
    log_in(&agent, "bob", "").accepted(serial);
}

#[test]
fn what_sshd_refuses_does_not_come_to_pam() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    let forged = add(&agent, |good| good.principals(&["carol"]));
    let before = WORLD.log_position("web2");
    let login = log_in(&agent, agent.user(), "");
    login.kept_out();
    assert_eq!(login.log, Vec::<String>::new());
    let log = WORLD.logged_since("web2", before).unwrap();
    assert!(log.contains("name is not a listed principal") && log.contains(&forged.serial.to_string()), "{log}");
}

#[test]
fn refuses_a_certificate_that_only_the_lines_own_list_revokes() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    let user = agent.user();
    WORLD.host("ca").script("install -d /srv/revoked; cd /srv/revoked; ssh-keygen -q -t ed25519 -N '' -f k").unwrap();
    let sign = format!(
        "cd /srv/revoked; ssh-keygen -q -s {}/state/user_ca -I {user} -n {user} -V -5m:+1h -z",
        ussh_e2e::CA_DIR
    );
    for (serial, is_revoked) in [(7_000_000_006_u64, false), (7_000_000_007, true)] {
        WORLD.host("ca").script(&format!("{sign} {serial} k.pub")).unwrap();
        for file in ["k", "k-cert.pub"] {
            let bytes = WORLD.host("ca").read_bytes(&format!("/srv/revoked/{file}")).unwrap();
            WORLD.host("laptop").write_file_as(user, &format!("/home/{user}/{file}"), 0o600, bytes).unwrap();
        }
        let login = log_in(&agent, user, "-o IdentitiesOnly=yes -i ~/k");
        if is_revoked {
            login.refused("certificate is revoked");
            assert!(login.log[0].contains("(serial 7000000007) "), "{login:?}");
        } else {
            login.accepted(serial);
        }
    }
}

#[test]
fn batch_mode_switches_keyboard_interactive_off_and_is_denied() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    add(&agent, |good| good);
    let login = log_in(&agent, agent.user(), "-o BatchMode=yes");
    login.kept_out();
    assert!(login.output.stderr.contains("Permission denied (keyboard-interactive)"), "{login:?}");
    assert_eq!(login.log, Vec::<String>::new());
}

#[test]
fn a_users_pam_environment_changes_neither_verdict_nor_record() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    let user = agent.user();
    let own = add(&agent, |good| good);
    let foreign = WORLD.forge(&Forgery::of(user).validity("-1m:+20h")).unwrap();
    foreign.write(&WORLD, user, "foreign").unwrap();
    let line = WORLD.host("laptop").read_file(&format!("/home/{user}/foreign-cert.pub")).unwrap();
    let mut words = line.split(' ');
    let claimed = format!("publickey {} {}", words.next().unwrap(), words.next().unwrap());
    for host in ["web1", "web2", "web3"] {
        let text = overriding(&claimed);
        WORLD.host(host).write_file_as(user, &format!("/home/{user}/.pam_environment"), 0o600, text).unwrap();
        let session = agent.shell(&format!("ssh -A {host}")).unwrap();
        let seen = WORLD.host(host).read_file(&format!("/run/seen-open_session-{user}")).unwrap();
        assert_eq!(seen.trim(), claimed, "the attack must work, or this shows nothing");
        let found = records(host, user);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(serial_of(&found[0]), own.serial);
        session.exit().unwrap();
        wait_for_no_record(host, user);
    }

    // A plain key does not become a certificate by it.
    WORLD.make_way_in(user, "web2").unwrap();
    let options = WAY_IN.strip_prefix("ssh ").unwrap();
    log_in(&agent, user, options).refused("no certificate");

    // What cannot be read does not keep the record from being removed; there is no daemon on web3 that would do it.
    let torn = overriding(&claimed[..claimed.len() - 9]);
    WORLD.host("web3").write_file_as(user, &format!("/home/{user}/.pam_environment"), 0o600, torn).unwrap();
    assert_eq!(agent.sh("ssh web3 hostname").unwrap().ok().unwrap().stdout, "web3\n");
    let seen = || WORLD.host("web3").read_file(&format!("/run/seen-close_session-{user}")).unwrap_or_default();
    wait_until(SOON, "the end of the session", || claimed.contains(seen().trim()) && !seen().is_empty()).unwrap();
    wait_for_no_record("web3", user);
}

/// A line of ~/.pam_environment; an @ would begin a variable there.
fn overriding(claimed: &str) -> String {
    format!("SSH_AUTH_INFO_0 OVERRIDE=\"{}\"\n", claimed.replace('@', "\\@"))
}

#[test]
fn copies_come_through_byte_by_byte() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    add(&agent, |good| good);
    agent.sh("head -c 300000 /dev/urandom > data").unwrap().ok().unwrap();
    for host in ["web1", "web2"] {
        for copy in [
            format!("scp -q data {host}:one && scp -q {host}:one back"),
            format!("scp -O -q data {host}:two && scp -O -q {host}:two back"),
            format!("printf 'put data three\\nget three back\\n' | sftp -q {host}"),
            format!("ssh {host} 'cat > four; cat four' < data > back"),
        ] {
            let copied = agent.sh(&format!("rm -f back; {copy}; echo $?; cmp data back && echo same")).unwrap();
            assert!(copied.stdout.ends_with("0\nsame\n") && copied.stderr.is_empty(), "{copied}");
        }
    }
}

#[test]
fn a_login_is_recorded_with_its_certificate_until_it_ends() {
    let _watch = WORLD.lab().watch();
    // With the daemon and without it.
    for host in ["web1", "web3"] {
        let agent = somebody();
        let user = agent.user();
        let forged = add(&agent, |good| good);
        let session = agent.shell(&format!("ssh {host}")).unwrap();
        let found = records(host, user);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(serial_of(&found[0]), forged.serial);
        assert_eq!(found[0]["rhost"], WORLD.host("laptop").address().to_string());
        assert_eq!(session.run("id -u").unwrap().trim(), found[0]["uid"].to_string());
        let pid = found[0]["pid"].to_string();
        let monitor = WORLD.host(host).run(["ps", "-o", "args=", "-p", &pid]).unwrap().stdout;
        assert!(monitor.starts_with(&format!("sshd: {user} [priv]")), "{monitor}");
        session.exit().unwrap();
        wait_for_no_record(host, user);
    }
}

#[test]
fn a_login_without_a_certificate_is_recorded_as_one() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    let user = agent.user();
    WORLD.make_way_in(user, "web1").unwrap();
    let before = WORLD.log_position("web1");
    let session = agent.shell(&format!("{WAY_IN} web1")).unwrap();
    let found = records("web1", user);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["certificate"], Value::Null);
    wait_until(SOON, "ussh-hostd to see it", || {
        let log = WORLD.host("web1").log();
        log[before..].contains(&format!("Session without a certificate, left alone: user {user} "))
    })
    .unwrap();
    session.exit().unwrap();
    wait_for_no_record("web1", user);
}

#[test]
fn a_login_that_cannot_be_recorded_is_refused_unless_the_line_allows_it() {
    let world = WorldPlan::new("no-spool").without_servers().server("web1").start().unwrap();
    let _watch = world.lab().watch();
    let web1 = world.host("web1");
    let agent = world.new_agent("alice").unwrap();
    world.forge(&Forgery::of("alice")).unwrap().add_to(&agent).unwrap();
    let log_in = || {
        let before = world.log_position("web1");
        let output = agent.sh("ssh web1 hostname").unwrap();
        (output, world.logged_since("web1", before).unwrap())
    };
    web1.stop_service("ussh-hostd").unwrap();
    assert_eq!(log_in().0.ok().unwrap().stdout, "web1\n", "no daemon locks nobody out");

    let pam = web1.read_file("/etc/pam.d/sshd").unwrap();
    let allowing = pam.replace("session  requisite pam_ussh.so", "session  requisite pam_ussh.so spool_failure=allow");
    assert_ne!(pam, allowing);
    for (spoil, mend, reason) in [
        (
            "chmod 777 /run/ussh-hostd/sessions",
            "chmod 700 /run/ussh-hostd/sessions",
            "/run/ussh-hostd/sessions: bad ownership or modes (uid 0, mode 0777): it must belong to root",
        ),
        ("rm -r /run/ussh-hostd; : > /run/ussh-hostd", "rm /run/ussh-hostd", "(os error "),
    ] {
        web1.script(spoil).unwrap();
        let (refused, log) = log_in();
        assert!(!refused.success() && refused.stdout.is_empty(), "{refused}");
        let line = format!("cannot check: record in {SPOOL}: ");
        assert!(log.lines().any(|l| l.contains("pam_ussh[") && l.contains(&line) && l.contains(reason)), "{log}");

        web1.write_file("/etc/pam.d/sshd", 0o644, &allowing).unwrap();
        let (allowed, log) = log_in();
        assert_eq!(allowed.ok().unwrap().stdout, "web1\n");
        let unwatched = |l: &str| l.contains("Session goes on unwatched for alice via sshd ") && l.contains(&line);
        // It is not refused; that its record cannot be removed either is said at its end.
        let first = log.lines().find(|l| l.contains("pam_ussh[")).unwrap_or_default();
        assert!(unwatched(first), "{log}");
        web1.write_file("/etc/pam.d/sshd", 0o644, &pam).unwrap();
        web1.script(mend).unwrap();
        assert_eq!(log_in().0.ok().unwrap().stdout, "web1\n", "as it was");
    }

    let mistyped = pam.replace("session  requisite pam_ussh.so", "session  requisite pam_ussh.so spool_failure=alow");
    web1.write_file("/etc/pam.d/sshd", 0o644, mistyped).unwrap();
    let (refused, log) = log_in();
    assert!(!refused.success() && refused.stdout.is_empty(), "{refused}");
    assert!(log.contains("misconfigured: option spool_failure must be refuse or allow"), "{log}");
}
