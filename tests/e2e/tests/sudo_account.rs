//! `account required pam_ussh.so` in sudo: a ticket lets nobody past the end of a certificate, and root's own work is not held up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::lab::{trixie_root, wait_until};
use ussh_e2e::{Forgery, PersonAgent, Shell, WAY_IN, World, WorldPlan};

const SOON: Duration = Duration::from_secs(20);
const NOT_GOOD: &str = "No certificate that is good for this: see \"ssh-add -l\"";

/// sudo keeps tickets, and one command needs no password.
const SUDOERS: &str = "\
Defaults timestamp_timeout=15, passwd_tries=1
%admins ALL=(ALL) ALL
%admins ALL=(ALL) NOPASSWD: /usr/bin/whoami
";

const LINES: &str = "\
auth    required pam_ussh.so ca_file=/etc/ssh/trusted_user_ca revoked_keys=/etc/ssh/revoked_keys
account required pam_ussh.so ca_file=/etc/ssh/trusted_user_ca revoked_keys=/etc/ssh/revoked_keys account_exempt_group=rescue";

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = WorldPlan::new("sudo-account").without_servers().server("web1").people(8, "admins").start().unwrap();
    world.host("web1").script("groupadd rescue").unwrap();
    world.host("web1").write_file("/etc/sudoers.d/ussh", 0o440, SUDOERS).unwrap();
    world.sudo_pam("web1", LINES).unwrap();
    world
});

/// Somebody at a shell on web1, with a certificate that is good until it is not.
struct Desk {
    agent: PersonAgent<'static>,
    shell: Shell,
    serial: u64,
}

fn desk(forgery: impl Fn(Forgery) -> Forgery) -> Desk {
    let name = WORLD.somebody().unwrap();
    WORLD.make_way_in(&name, "web1").unwrap();
    let agent = WORLD.new_agent(&name).unwrap();
    let forged = WORLD.forge(&forgery(Forgery::of(&name))).unwrap();
    forged.add_to(&agent).unwrap();
    let shell = agent.shell(&format!("{WAY_IN} web1")).unwrap();
    Desk { agent, shell, serial: forged.serial }
}

impl Desk {
    /// What a command showed, and what pam_ussh logged of this person meanwhile.
    fn run(&self, command: &str) -> (String, Vec<String>) {
        let before = WORLD.log_position("web1");
        let shown = self.shell.run(command).unwrap();
        let log = WORLD.logged_since("web1", before).unwrap();
        let by = format!("ruser {}", self.agent.user());
        let mine = log.lines().filter(|line| line.contains("pam_ussh[") && line.contains(&by));
        (shown, mine.filter_map(|line| Some(line.split_once("]: ")?.1.to_owned())).collect())
    }

    /// The first sudo: `auth` makes the proof, `account` takes it, and sudo keeps a ticket.
    fn take_ticket(&self) {
        let (shown, log) = self.run("sudo id -u");
        assert_eq!(shown, "0\n", "{log:?}");
        let [auth, account] = &log[..] else { panic!("{log:?}") };
        let serial = format!("(serial {}) ", self.serial);
        assert!(auth.starts_with("Accepted certificate ") && auth.contains(&serial), "{auth}");
        assert!(!auth.contains("(account)"), "{auth}");
        assert!(account.starts_with("Accepted certificate ") && account.contains(&serial), "{account}");
        assert!(account.contains(" via sudo (account) ") && account.ends_with(": proof made by auth"), "{account}");
    }

    /// `auth` is skipped, and `account` alone lets the command through by a proof of its own.
    fn passes_by_account(&self, command: &str, shown: &str) {
        let (seen, log) = self.run(command);
        assert_eq!(seen, shown, "{log:?}");
        let [line] = &log[..] else { panic!("{log:?}") };
        assert!(line.starts_with("Accepted certificate ") && line.contains(" via sudo (account) "), "{line}");
        assert!(!line.contains("proof made by auth"), "{line}");
    }

    /// `auth` is skipped, and `account` alone refuses.
    fn refused_by_account(&self, command: &str, sentence: &str, reason: &str) {
        let (seen, log) = self.run(command);
        assert!(seen.contains(sentence) && !seen.contains(reason), "{seen}");
        assert!(!seen.lines().any(|line| line == "0" || line == "root"), "{seen}");
        let [line] = &log[..] else { panic!("{log:?}") };
        assert!(line.starts_with("Refusing ") && line.contains(" via sudo (account) "), "{line}");
        assert!(line.contains(&format!(": {reason}")), "{reason}: {line}");
    }
}

#[test]
fn a_ticket_needs_the_certificate_each_time_and_the_proof_once() {
    let _watch = WORLD.lab().watch();
    let desk = desk(|good| good);
    desk.take_ticket();
    desk.passes_by_account("sudo id -u", "0\n");
    desk.agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    desk.refused_by_account("sudo id -u", NOT_GOOD, "no certificate");
    desk.refused_by_account("SSH_AUTH_SOCK= sudo id -u", "There is no SSH agent in this session", "no SSH_AUTH_SOCK");
    let again = WORLD.forge(&Forgery::of(desk.agent.user())).unwrap();
    again.add_to(&desk.agent).unwrap();
    desk.passes_by_account("sudo id -u", "0\n");
}

/// As docs/pam_ussh.md ("Who asks") tells it: neither is an account locked nor does a password help.
#[test]
fn sudo_has_words_of_its_own_for_a_refusal_by_account() {
    let _watch = WORLD.lab().watch();
    let desk = desk(|good| good);
    desk.agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    for (command, own) in [
        ("sudo whoami", "sudo: account validation failure, is your account locked?"),
        (
            "SSH_AUTH_SOCK= sudo whoami",
            "sudo: PAM account management error: Authentication service cannot retrieve authentication info",
        ),
    ] {
        let (seen, _) = desk.run(command);
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines[1..], [own, "sudo: a password is required"], "{command}: {seen}");
    }
    let manual = include_str!("../../../docs/pam_ussh.md");
    for words in
        ["account validation failure, is your account locked?`", "PAM account management error:` and libpam's words"]
    {
        assert!(manual.contains(&format!("`sudo: {words}")), "{words}");
    }
}

#[test]
fn a_ticket_does_not_outlive_the_certificate() {
    let _watch = WORLD.lab().watch();
    let desk = desk(|good| good.validity("-5m:+6s"));
    desk.take_ticket();
    let end = desk.agent.sh("ssh-add -L | ssh-keygen -Lf - | sed -n 's/.*Valid: .* to //p'").unwrap().stdout;
    let over = format!("test $(date +%s) -ge $(date -d {} +%s)", end.trim());
    wait_until(SOON, "its end", || desk.agent.sh(&over).unwrap().success()).unwrap();
    desk.refused_by_account("sudo id -u", NOT_GOOD, "certificate has expired");
}

#[test]
fn a_ticket_does_not_outlive_a_revocation() {
    let _watch = WORLD.lab().watch();
    let desk = desk(|good| good);
    desk.take_ticket();
    WORLD.host("ca").write_file("/srv/spec", 0o644, format!("serial: {}\n", desk.serial)).unwrap();
    let (ca, web1) = (WORLD.host("ca"), WORLD.host("web1"));
    ca.script("ssh-keygen -q -k -f /srv/own-krl -s /var/lib/ca/public/user_ca.pub /srv/spec").unwrap();
    web1.write_file("/etc/ssh/own-krl", 0o644, ca.read_bytes("/srv/own-krl").unwrap()).unwrap();
    // A list of this test's own, for a service of its own: the others go on with theirs.
    web1.write_file(
        "/etc/pam.d/sudo-i",
        0o644,
        "auth required pam_deny.so\naccount required pam_ussh.so revoked_keys=/etc/ssh/own-krl\nsession required pam_permit.so\n",
    )
    .unwrap();
    let (seen, log) = desk.run("sudo -i id -u");
    assert!(seen.contains(NOT_GOOD), "{seen}");
    let [line] = &log[..] else { panic!("{log:?}") };
    assert!(line.contains(&format!("(serial {}) ", desk.serial)), "{line}");
    assert!(line.contains(" via sudo-i (account) ") && line.ends_with(": certificate is revoked"), "{line}");
    desk.passes_by_account("sudo id -u", "0\n");
}

#[test]
fn a_command_without_password_needs_the_certificate_all_the_same() {
    let _watch = WORLD.lab().watch();
    let desk = desk(|good| good);
    desk.passes_by_account("sudo whoami", "root\n");
    desk.agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    desk.refused_by_account("sudo whoami", NOT_GOOD, "no certificate");
    desk.refused_by_account("sudo -n whoami", NOT_GOOD, "no certificate");
}

#[test]
fn roots_own_sudo_passes_without_an_agent() {
    let _watch = WORLD.lab().watch();
    let before = WORLD.log_position("web1");
    let web1 = WORLD.host("web1");
    assert_eq!(web1.run(["sudo", "-u", "nobody", "id", "-un"]).unwrap().ok().unwrap().stdout, "nobody\n");
    let log = WORLD.logged_since("web1", before).unwrap();
    let passed = "Exempted for root via sudo (account) ruser root: real uid 0 is not asked";
    assert!(log.lines().any(|line| line.ends_with(passed)), "{log}");
}

#[test]
fn members_of_the_exempt_group_pass_with_their_ticket() {
    let _watch = WORLD.lab().watch();
    let desk = desk(|good| good);
    WORLD.host("web1").script(&format!("usermod -aG rescue {}", desk.agent.user())).unwrap();
    desk.agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    let (seen, log) = desk.run("sudo whoami");
    assert_eq!((seen.as_str(), log.len()), ("root\n", 1), "{log:?}");
    assert!(log[0].starts_with("Exempted for ") && log[0].ends_with(": member of group rescue"), "{log:?}");
    // Of `auth` nobody is exempt.
    let (seen, log) = desk.run("sudo id -u");
    assert!(seen.contains(NOT_GOOD) && log.len() == 1 && log[0].starts_with("Refusing "), "{seen} {log:?}");
}

#[test]
fn sudo_rs_asks_account_as_well() {
    let plan = WorldPlan::new("sudo-rs-account").without_servers().server_on("web13", trixie_root().unwrap());
    let world = plan.start().unwrap();
    world.make_way_in("alice", "web13").unwrap();
    let web13 = world.host("web13");
    web13.write_file("/etc/sudoers.d/ussh", 0o440, SUDOERS).unwrap();
    web13.script("groupadd rescue").unwrap();
    world.sudo_pam("web13", LINES).unwrap();
    let agent = world.new_agent("alice").unwrap();
    world.forge(&Forgery::of("alice")).unwrap().add_to(&agent).unwrap();
    let shell = agent.shell(&format!("{WAY_IN} web13")).unwrap();
    let run = |command: &str| {
        let before = world.log_position("web13");
        let shown = shell.run(command).unwrap();
        let log = world.logged_since("web13", before).unwrap();
        let ours = log.lines().filter_map(|line| Some(line.split_once("pam_ussh[")?.1.split_once("]: ")?.1.to_owned()));
        (shown, ours.collect::<Vec<String>>())
    };
    let (shown, log) = run("sudo-rs id -u");
    assert_eq!(shown, "0\n", "{log:?}");
    assert!(log.len() == 2 && log[1].ends_with(": proof made by auth"), "{log:?}");
    let (shown, log) = run("sudo-rs id -u");
    assert_eq!(shown, "0\n", "{log:?}");
    assert!(log.len() == 1 && log[0].contains(" (account) ") && log[0].starts_with("Accepted "), "{log:?}");
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    let (shown, log) = run("sudo-rs id -u");
    assert!(shown.contains(NOT_GOOD) && !shown.lines().any(|line| line == "0"), "{shown}");
    assert!(log.len() == 1 && log[0].starts_with("Refusing ") && log[0].ends_with(": no certificate"), "{log:?}");
}
