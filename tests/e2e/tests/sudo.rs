//! sudo and su with `auth required pam_ussh.so`: whom they let through, what the log says of it, and what the user reads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::lab::{Output, trixie_root, wait_until};
use ussh_e2e::{Forgery, PersonAgent, WAY_IN, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

/// What the user reads, whatever the reason.
const NOT_GOOD: &str = "No certificate that is good for this: see \"ssh-add -l\", get a new one with \"ussh --login\" on your own machine, or log in again with \"ssh -A\".";
const NO_AGENT: &str = "There is no SSH agent in this session: log in again with \"ssh -A\", or with \"ussh\" if a [[host]] in ussh.toml names this host.";
const AGENT_SILENT: &str =
    "Your SSH agent does not answer: see \"ssh-add -l\", or log in again with \"ussh\" or \"ssh -A\".";

static WORLD: LazyLock<World> =
    LazyLock::new(|| WorldPlan::new("sudo").without_servers().server("web1").people(40, "admins").start().unwrap());

/// Somebody else each time, with an empty agent of their own and a way into web1 that needs no certificate.
fn somebody() -> PersonAgent<'static> {
    let name = WORLD.somebody().unwrap();
    WORLD.make_way_in(&name, "web1").unwrap();
    WORLD.new_agent(&name).unwrap()
}

/// Somebody whose agent holds this one certificate.
fn somebody_with(forgery: impl Fn(Forgery) -> Forgery) -> (PersonAgent<'static>, u64) {
    let agent = somebody();
    let serial = add(&agent, forgery);
    (agent, serial)
}

fn add(agent: &PersonAgent<'_>, forgery: impl Fn(Forgery) -> Forgery) -> u64 {
    let forged = agent.world().forge(&forgery(Forgery::of(agent.user()))).unwrap();
    forged.add_to(agent).unwrap();
    forged.serial
}

/// What became of one attempt.
#[derive(Debug)]
struct Attempt {
    user: String,
    output: Output,
    /// The lines of pam_ussh.
    log: Vec<String>,
}

/// Runs a command on web1 as this person, with their agent forwarded.
fn attempt(agent: &PersonAgent<'_>, command: &str) -> Attempt {
    attempt_by(agent, &format!("{WAY_IN} web1"), command)
}

fn attempt_by(agent: &PersonAgent<'_>, ssh: &str, command: &str) -> Attempt {
    let (world, server) = (agent.world(), ssh.split(' ').next_back().unwrap());
    let before = world.log_position(server);
    let output = agent.sh(&format!("{ssh} '{command}'")).unwrap();
    let by = format!("ruser {}", agent.user());
    let log = world.logged_since(server, before).unwrap();
    let mine = log.lines().filter(|line| line.contains("pam_ussh[") && line.contains(&by));
    Attempt { user: agent.user().to_owned(), output, log: mine.map(str::to_owned).collect() }
}

impl Attempt {
    /// It printed what `id -u` prints for root, and one line says by which certificate.
    fn accepted(&self, serial: u64) {
        assert_eq!((self.output.status.code(), self.output.stdout.as_str()), (0, "0\n"), "{self:?}");
        assert_eq!(self.output.stderr, "", "nothing is asked or said: {self:?}");
        assert_eq!(self.log.len(), 1, "{self:?}");
        assert!(
            self.log[0].contains(&format!("Accepted certificate ID \"{}\" (serial {serial}) ", self.user)),
            "{self:?}"
        );
    }

    /// It did not, one line says why, and the user reads one sentence that does not.
    fn refused(&self, sentence: &str, reason: &str) -> &str {
        assert_ne!(self.output.status.code(), 0, "{self:?}");
        assert!(!self.output.stdout.contains('0'), "{self:?}");
        assert_eq!(self.log.len(), 1, "one line: {self:?}");
        let line = &self.log[0];
        assert!(line.contains("Refusing ") && line.ends_with(&format!(": {reason}")), "{reason}: {self:?}");
        let said: Vec<&str> = self.output.stderr.lines().filter(|line| !line.is_empty() && !is_hosts(line)).collect();
        assert_eq!(said, [sentence], "{self:?}");
        assert!(!self.output.stderr.contains(reason), "{self:?}");
        line
    }

    /// As [`Attempt::refused`], with the certificate that was meant in the line.
    fn refused_certificate(&self, serial: u64, reason: &str) {
        let line = self.refused(NOT_GOOD, reason);
        assert!(line.contains(&format!("(serial {serial}) signed by ED25519 CA SHA256:")), "{line}");
    }
}

/// What sudo and su themselves say of a failure.
fn is_hosts(line: &str) -> bool {
    ["sudo: 1 incorrect password attempt", "sudo: PAM authentication error: ", "su: "]
        .iter()
        .any(|own| line.starts_with(own))
}

/// Somebody tries sudo with one certificate.
fn sudo_with(forgery: impl Fn(Forgery) -> Forgery) -> (Attempt, u64) {
    let (agent, serial) = somebody_with(forgery);
    (attempt(&agent, "sudo id -u"), serial)
}

fn is_refused(reason: &str, forgery: impl Fn(Forgery) -> Forgery) {
    let _watch = WORLD.lab().watch();
    let (attempt, serial) = sudo_with(forgery);
    attempt.refused_certificate(serial, reason);
}

#[test]
fn a_good_certificate_gives_root_without_a_password_and_one_line_says_so() {
    let _watch = WORLD.lab().watch();
    let (attempt, serial) = sudo_with(|good| good);
    attempt.accepted(serial);
    let shown = WORLD.host("web1").script("ssh-keygen -lf /etc/ssh/trusted_user_ca").unwrap().stdout;
    let (user, ca) = (&attempt.user, shown.split(' ').nth(1).unwrap());
    let told = format!(
        "Accepted certificate ID \"{user}\" (serial {serial}) signed by ED25519 CA {ca} for {user} via sudo ruser {user}"
    );
    assert!(attempt.log[0].ends_with(&told), "{told}: {attempt:?}");
}

#[test]
fn a_certificate_that_the_ca_issued_gives_root() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    let (code, seen) = WORLD.log_in(agent.user(), "-A web1 sudo id -u").unwrap();
    assert!(code == 0 && seen.ends_with("\n0\n"), "{seen}");
}

#[test]
fn refuses_without_forwarding() {
    let _watch = WORLD.lab().watch();
    let (agent, _) = somebody_with(|good| good);
    let without = WAY_IN.replace(" -A ", " -a ");
    attempt_by(&agent, &format!("{without} web1"), "sudo id -u").refused(NO_AGENT, "no SSH_AUTH_SOCK");
}

#[test]
fn refuses_with_an_emptied_agent() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody_with(|good| good);
    attempt(&agent, "sudo id -u").accepted(serial);
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    attempt(&agent, "sudo id -u").refused(NOT_GOOD, "no certificate");
}

#[test]
fn refuses_a_plain_key() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    WORLD.forge(&Forgery::of(agent.user())).unwrap().add_plain_to(&agent).unwrap();
    attempt(&agent, "sudo id -u").refused(NOT_GOOD, "no certificate");
}

#[test]
fn refuses_another_users_certificate_in_ones_own_agent() {
    let _watch = WORLD.lab().watch();
    let (attempt, serial) = sudo_with(|good| good.key_id("alice").principals(&["alice"]));
    let own = format!("certificate does not name a demanded principal: {}, the user's own", attempt.user);
    attempt.refused_certificate(serial, &own);
    assert!(attempt.log[0].contains("certificate ID \"alice\""), "{attempt:?}");
}

#[test]
fn refuses_another_users_agent_even_if_its_owner_opens_the_door() {
    let _watch = WORLD.lab().watch();
    let (agent, neighbour) = (somebody(), somebody());
    // The neighbour's agent holds a certificate that would do.
    let user = agent.user().to_owned();
    add(&neighbour, |good| good.key_id(&user).principals(&[&user]));
    let theirs = neighbour.shell(&format!("{WAY_IN} web1")).unwrap();
    let socket = theirs.run("echo $SSH_AUTH_SOCK").unwrap().trim().to_owned();
    let sudo = format!("SSH_AUTH_SOCK={socket} sudo id -u");
    attempt(&agent, &sudo).refused(AGENT_SILENT, &format!("agent: {socket}: Permission denied (os error 13)"));
    theirs.run("chmod 755 $(dirname $SSH_AUTH_SOCK); chmod 666 $SSH_AUTH_SOCK").unwrap();
    let owner = theirs.run("id -u").unwrap();
    let reason = format!("agent: {socket}: the agent belongs to uid {}", owner.trim());
    attempt(&agent, &sudo).refused(AGENT_SILENT, &reason);
}

#[test]
fn refuses_sockets_that_are_none_or_roots() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody_with(|good| good);
    let web1 = WORLD.host("web1");
    web1.command(["ssh-agent", "-D", "-a", "/run/roots-agent"]).service("root's agent").unwrap();
    wait_until(SOON, "root's agent", || web1.exists("/run/roots-agent")).unwrap();
    web1.script("chmod 666 /run/roots-agent").unwrap();
    for (socket, why) in [
        ("/run/roots-agent", "the agent belongs to uid 0"),
        ("/tmp/nothing-here", "No such file or directory (os error 2)"),
        ("/etc/passwd", "Permission denied (os error 13)"),
        ("/home", "Permission denied (os error 13)"),
    ] {
        let reason = format!("agent: {socket}: {why}");
        attempt(&agent, &format!("SSH_AUTH_SOCK={socket} sudo id -u")).refused(AGENT_SILENT, &reason);
    }
    attempt(&agent, "SSH_AUTH_SOCK=agent sudo id -u").refused(AGENT_SILENT, "agent: agent: not a usable socket path");
    attempt(&agent, "SSH_AUTH_SOCK= sudo id -u").refused(NO_AGENT, "no SSH_AUTH_SOCK");
    attempt(&agent, "sudo id -u").accepted(serial);
}

#[test]
fn refuses_a_certificate_that_ran_out_while_the_agent_kept_it() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody_with(|good| good.validity("-5m:+4s"));
    attempt(&agent, "sudo id -u").accepted(serial);
    let end = agent.sh("ssh-add -L | ssh-keygen -Lf - | sed -n 's/.*Valid: .* to //p'").unwrap().stdout;
    let over = format!("test $(date +%s) -ge $(date -d {} +%s)", end.trim());
    wait_until(SOON, "its end", || agent.sh(&over).unwrap().success()).unwrap();
    let attempt = attempt(&agent, "sudo id -u");
    let line = attempt.log.first().cloned().unwrap_or_default();
    let reason = line
        .split_once(": certificate has expired (at ")
        .map(|(_, rest)| format!("certificate has expired (at {rest}"));
    attempt.refused_certificate(serial, &reason.unwrap_or_else(|| panic!("{attempt:?}")));
    assert!(agent.sh("ssh-add -l").unwrap().success(), "the agent still has it");
}

#[test]
fn refuses_a_certificate_that_is_not_yet_valid() {
    let _watch = WORLD.lab().watch();
    let (attempt, serial) = sudo_with(|good| good.validity("+1h:+2h"));
    let line = attempt.log.first().cloned().unwrap_or_default();
    let reason = line.split_once(": certificate is not yet valid (from ").map(|(_, rest)| rest.to_owned()).unwrap();
    attempt.refused_certificate(serial, &format!("certificate is not yet valid (from {reason}"));
}

#[test]
fn refuses_a_host_certificate() {
    is_refused("certificate is of the wrong type", Forgery::host);
}

#[test]
fn refuses_a_certificate_of_another_ca() {
    let _watch = WORLD.lab().watch();
    let (attempt, serial) = sudo_with(|good| good.signed_by("/srv/other_ca"));
    let shown = WORLD.host("ca").script("ssh-keygen -lf /srv/other_ca.pub").unwrap().stdout;
    attempt.refused_certificate(serial, &format!("CA {} is not trusted", shown.split(' ').nth(1).unwrap()));
}

#[test]
fn refuses_a_certificate_without_principals() {
    is_refused("certificate lists no principals", |good| good.principals(&[]));
}

#[test]
fn refuses_a_principal_in_another_case_or_with_more_around_it() {
    for near_miss in [str::to_uppercase, |name: &str| format!("{name} "), |_: &str| "*".to_owned()] {
        let _watch = WORLD.lab().watch();
        let agent = somebody();
        let principal = near_miss(agent.user());
        let serial = add(&agent, |good| good.principals(&[&principal]));
        let own = format!("certificate does not name a demanded principal: {}, the user's own", agent.user());
        attempt(&agent, "sudo id -u").refused_certificate(serial, &own);
    }
}

#[test]
fn refuses_a_revoked_certificate_and_names_its_serial() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    let user = agent.user();
    let (code, seen) = WORLD.log_in(user, "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    let serial = WORLD.certificates(user).unwrap()[0].serial;
    let sudo = || {
        let before = WORLD.log_position("web1");
        let output = WORLD.sh("laptop", user, &format!("{WAY_IN} web1 sudo id -u")).unwrap();
        let log = WORLD.logged_since("web1", before).unwrap();
        let mine = log.lines().filter(|line| line.contains("pam_ussh[") && line.contains(user));
        Attempt { user: user.to_owned(), output, log: mine.map(str::to_owned).collect() }
    };
    sudo().accepted(serial);
    WORLD.usshca(&format!("revoke {serial} --reason lost")).unwrap().ok().unwrap();
    WORLD.carry_feed("web1").unwrap();
    WORLD.host("web1").run(["ussh-hostd", "sync"]).unwrap().ok().unwrap();
    sudo().refused_certificate(serial, "certificate is revoked");
}

#[test]
fn refuses_critical_options_that_it_cannot_honour() {
    is_refused("force-command cannot be honoured here", |good| good.option("force-command=/bin/true"));
    is_refused("source-address does not allow this origin", |good| good.option("source-address=192.0.2.0/24"));
    is_refused("unknown critical option perhaps@example.com", |good| good.option("critical:perhaps@example.com=1"));
    let _watch = WORLD.lab().watch();
    let (attempt, serial) = sudo_with(|good| good.option("extension:perhaps@example.com=1"));
    attempt.accepted(serial);
}

#[test]
fn finds_a_good_certificate_behind_bad_ones() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    add(&agent, |good| good.signed_by("/srv/other_ca"));
    add(&agent, |good| good.principals(&["alice"]));
    add(&agent, |good| good.validity("-2h:-1h"));
    add(&agent, |good| good.option("force-command=/bin/true"));
    WORLD.forge(&Forgery::of(agent.user())).unwrap().add_plain_to(&agent).unwrap();
    let refused = attempt(&agent, "sudo id -u");
    refused.refused(NOT_GOOD, "force-command cannot be honoured here (and 3 more tried)");
    let serial = add(&agent, |good| good);
    attempt(&agent, "sudo id -u").accepted(serial);
}

#[test]
fn a_key_id_with_control_characters_stays_inside_its_line() {
    let _watch = WORLD.lab().watch();
    let (attempt, serial) =
        sudo_with(|good| good.principals(&["alice"]).key_id("x\" (serial 1)\nAccepted certificate"));
    let own = format!("certificate does not name a demanded principal: {}, the user's own", attempt.user);
    let line = attempt.refused(NOT_GOOD, &own);
    let shown = format!("certificate ID \"x\\x22 (serial 1)\\x0aAccepted certificate\" (serial {serial}) ");
    assert!(line.contains(&shown), "{line}");
}

#[test]
fn su_needs_the_principal_of_the_target() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody_with(|good| good);
    for su in ["su - root -c \"id -u\"", "su root -c \"id -u\""] {
        let refused = attempt(&agent, su);
        refused.refused_certificate(serial, "certificate does not name a demanded principal: root, the user's own");
        assert!(refused.log[0].contains(" for root via su"), "{refused:?}");
    }
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    let user = agent.user().to_owned();
    let serial = add(&agent, |good| good.principals(&[&user, "root"]));
    attempt(&agent, "su - root -c \"id -u\"").accepted(serial);
    attempt(&agent, "su root -c \"id -u\"").accepted(serial);
}

#[test]
fn roots_own_su_is_not_asked() {
    let _watch = WORLD.lab().watch();
    let agent = somebody();
    let web1 = WORLD.host("web1");
    assert_eq!(web1.run(["su", "-", agent.user(), "-c", "id -un"]).unwrap().ok().unwrap().stdout.trim(), agent.user());
    let log = WORLD.logged_since("web1", 0).unwrap();
    assert!(!log.lines().any(|line| line.contains("pam_ussh[") && line.contains(agent.user())), "{log}");
}

#[test]
fn sudo_i_is_asked_like_sudo() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody_with(|good| good);
    let accepted = attempt(&agent, "sudo -i id -u");
    accepted.accepted(serial);
    assert!(accepted.log[0].contains(" via sudo-i "), "{accepted:?}");
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    attempt(&agent, "sudo -i id -u").refused(NOT_GOOD, "no certificate");
}

#[test]
fn sudo_n_is_asked_as_well() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody_with(|good| good);
    attempt(&agent, "sudo -n id -u").accepted(serial);
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    attempt(&agent, "sudo -n id -u").refused(NOT_GOOD, "no certificate");
}

#[test]
fn on_a_terminal_it_asks_nothing_and_ends_every_time() {
    let _watch = WORLD.lab().watch();
    let (agent, _) = somebody_with(|good| good);
    let shell = agent.shell(&format!("{WAY_IN} web1")).unwrap();
    let many = "for i in $(seq 20); do timeout 10 sudo id -u || echo broke off: $?; done";
    assert_eq!(shell.run(many).unwrap(), "0\n".repeat(20));
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    let told = shell.run("sudo id -u").unwrap();
    assert_eq!(told.matches(NOT_GOOD).count(), 1, "{told}");
    assert!(!told.to_lowercase().contains("password for") && !told.contains("no certificate"), "{told}");
    assert!(shell.exit().is_ok());
}

#[test]
fn sudo_rs_and_openssh_10_do_as_well() {
    let plan = WorldPlan::new("sudo-rs").without_servers().server_on("web13", trixie_root().unwrap());
    let world = plan.start().unwrap();
    world.make_way_in("alice", "web13").unwrap();
    let web13 = world.host("web13");
    // sudo-rs does not know the other settings, and says so each time.
    web13
        .write_file(
            "/etc/sudoers.d/ussh",
            0o440,
            "Defaults timestamp_timeout=0, passwd_tries=1\n%admins ALL=(ALL) ALL\n",
        )
        .unwrap();
    let version = web13.run(["ssh", "-V"]).unwrap().stderr;
    assert!(version.starts_with("OpenSSH_10."), "{version}");
    let agent = world.new_agent("alice").unwrap();
    let serial = add(&agent, |good| good);
    let ssh = format!("{WAY_IN} web13");
    for sudo in ["sudo-rs id -u", "sudo id -u", "sudo-rs -i id -u"] {
        attempt_by(&agent, &ssh, sudo).accepted(serial);
    }
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    let serial = add(&agent, |good| good.principals(&["bob"]));
    for sudo in ["sudo-rs id -u", "sudo id -u"] {
        let refused = attempt_by(&agent, &ssh, sudo);
        assert_ne!(refused.output.status.code(), 0, "{refused:?}");
        assert!(!refused.output.stdout.contains('0'), "{refused:?}");
        assert_eq!(refused.log.len(), 1, "{refused:?}");
        assert!(refused.log[0].contains(&format!("(serial {serial}) ")), "{refused:?}");
        assert!(
            refused.log[0].ends_with(": certificate does not name a demanded principal: alice, the user's own"),
            "{refused:?}"
        );
    }
}
