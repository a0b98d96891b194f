//! `agent_search`: where SSH_AUTH_SOCK leads nowhere (tmux, a reconnect), sudo and su find the same person's live forwarded agent, and nobody else's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use ussh_e2e::lab::{Signal, trixie_root, wait_until};
use ussh_e2e::{Forgery, Leftover, PersonAgent, Shell, WAY_IN, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);
const SPOOL: &str = "/run/ussh-hostd/sessions";
const LINE: &str =
    "auth required pam_ussh.so ca_file=/etc/ssh/trusted_user_ca revoked_keys=/etc/ssh/revoked_keys debug";
const AGENT_SILENT: &str =
    "Your SSH agent does not answer: see \"ssh-add -l\", or log in again with \"ussh\" or \"ssh -A\".";
const NO_AGENT: &str = "There is no SSH agent in this session: log in again with \"ssh -A\", or with \"ussh\" if a [[host]] in ussh.toml names this host.";

/// web1 is Debian 12 (OpenSSH 9.2), web13 Debian 13 (OpenSSH 10.0); web2 is for other lines. `team` is an account that many share.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("agent-search").person("team", "secret", &["admins"]).people(24, "admins");
    let world = plan.server_on("web13", trixie_root().unwrap()).start().unwrap();
    for server in ["web1", "web2", "web13"] {
        world.sudo_pam(server, LINE).unwrap();
        let sudo = world.host(server).read_file("/etc/pam.d/sudo").unwrap();
        world.host(server).write_file("/etc/pam.d/sudo-i", 0o644, sudo).unwrap();
        world.host(server).write_file("/etc/pam.d/su", 0o644, format!("{LINE}\n@include common-account\n")).unwrap();
    }
    world
});

/// Somebody else each time, whose agent holds a certificate that gets in and gives root.
fn somebody() -> (PersonAgent<'static>, u64) {
    let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
    let serial = add(&agent, |good| good);
    (agent, serial)
}

fn add(agent: &PersonAgent<'_>, forgery: impl Fn(Forgery) -> Forgery) -> u64 {
    let forged = WORLD.forge(&forgery(Forgery::of(agent.user()))).unwrap();
    forged.add_to(agent).unwrap();
    forged.serial
}

/// A shell of `user` on `server` whose connection has ended, and of which no record is left.
fn left_by(agent: &PersonAgent<'_>, server: &str, user: &str) -> Leftover {
    let shell = agent.shell(&format!("ssh -A {user}@{server}")).unwrap();
    let left = Leftover::of(&shell, &WORLD, server, user).unwrap();
    assert!(!left.socket.is_empty() && records(server, user) > 0);
    leave(&shell, server, user);
    left
}

fn leave(shell: &Shell, server: &str, user: &str) {
    let before = records(server, user);
    shell.exit().unwrap();
    wait_until(SOON, "the record to go", || records(server, user) < before).unwrap();
}

/// How many sessions of this user are recorded on a server.
fn records(server: &str, user: &str) -> usize {
    let host = WORLD.host(server);
    let names =
        host.list_folder(SPOOL).unwrap().into_iter().filter(|name| name.ends_with(".json") && !name.starts_with('.'));
    // One that is gone again is none.
    let records = names.filter_map(|name| host.read_file(&format!("{SPOOL}/{name}")).ok());
    records.filter_map(|text| serde_json::from_str::<Value>(&text).ok()).filter(|record| record["user"] == user).count()
}

/// What became of one attempt, and what pam_ussh logged of it.
#[derive(Debug)]
struct Attempt {
    code: i32,
    text: String,
    log: Vec<String>,
}

fn attempt(left: &Leftover, server: &str, user: &str, command: &str) -> Attempt {
    let before = WORLD.log_position(server);
    let (code, text) = left.run(command).unwrap();
    let by = format!("ruser {user}");
    let log = WORLD.logged_since(server, before).unwrap();
    let mine = log.lines().filter(|line| line.contains("pam_ussh[") && line.contains(&by));
    Attempt { code, text, log: mine.map(str::to_owned).collect() }
}

impl Attempt {
    fn accepted(&self, serial: u64) {
        assert_eq!((self.code, self.text.as_str()), (0, "0\n"), "{self:?}");
        let line = self.log.last().unwrap();
        assert!(line.contains("Accepted certificate ID ") && line.contains(&format!("(serial {serial}) ")), "{self:?}");
    }

    /// One sentence for the user, one line with the reason, and a word on why nothing else was asked.
    fn refused(&self, sentence: &str, reason: &str, told: &str) {
        assert_ne!(self.code, 0, "{self:?}");
        assert_eq!(self.text.matches(sentence).count(), 1, "{self:?}");
        assert!(!self.text.contains("search"), "{self:?}");
        let decisions: Vec<&String> = self.log.iter().filter(|line| !line.contains("debug: ")).collect();
        assert_eq!(decisions.len(), 1, "{self:?}");
        assert!(decisions[0].contains("Refusing ") && decisions[0].contains(reason), "{reason}: {self:?}");
        assert!(self.told(told), "{told}: {self:?}");
    }

    fn told(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains("debug: ") && line.contains(text))
    }
}

fn finds_the_agent_of_a_later_connection(server: &str) {
    let (agent, serial) = somebody();
    let user = agent.user();
    let left = left_by(&agent, server, user);
    let sudo = |command: &str| attempt(&left, server, user, command);
    let nobody = "no search: no live session of this uid is recorded";
    sudo("sudo id -u").refused(AGENT_SILENT, "No such file or directory", nobody);
    sudo("env -u SSH_AUTH_SOCK sudo id -u").refused(NO_AGENT, "no SSH_AUTH_SOCK", nobody);

    let shell = agent.shell(&format!("ssh -A {server}")).unwrap();
    let live = shell.run("echo $SSH_AUTH_SOCK").unwrap().trim().to_owned();
    assert_ne!(live, left.socket);
    for command in ["sudo id -u", "env -u SSH_AUTH_SOCK sudo id -u", "SSH_AUTH_SOCK= sudo -i id -u"] {
        let found = sudo(command);
        found.accepted(serial);
        assert!(found.told(&format!("searching 1 live sessions of ID \"{user}\": 1 sockets")), "{found:?}");
        assert!(found.told(&format!("asking the agent at {live}, of pid ")), "{found:?}");
    }
    leave(&shell, server, user);
    sudo("sudo id -u").refused(AGENT_SILENT, "No such file or directory", nobody);
}

#[test]
fn a_shell_that_outlived_its_connection_finds_the_agent_of_the_next() {
    let _watch = WORLD.lab().watch();
    finds_the_agent_of_a_later_connection("web1");
}

#[test]
fn openssh_10_does_as_well() {
    let _watch = WORLD.lab().watch();
    let version = WORLD.host("web13").run(["ssh", "-V"]).unwrap().stderr;
    assert!(version.starts_with("OpenSSH_10."), "{version}");
    finds_the_agent_of_a_later_connection("web13");
}

#[test]
fn pam_ussh_check_says_to_a_user_that_sudo_may_find_an_agent_where_he_cannot() {
    let _watch = WORLD.lab().watch();
    let (agent, _) = somebody();
    let user = agent.user();
    let shell = agent.shell("ssh -A web1").unwrap();
    for (environment, reason) in
        [("SSH_AUTH_SOCK=/nonexistent", "agent: /nonexistent: "), ("SSH_AUTH_SOCK=", "no SSH_AUTH_SOCK")]
    {
        assert_eq!(shell.run(&format!("{environment} sudo id -u")).unwrap(), "0\n");
        let check = |options: &str| {
            let command = format!("{environment} pam-ussh-check --user {user} {options}; echo status $?");
            shell.run(&command).unwrap()
        };
        let said = check("");
        let line = format!("sudo for {user}: not decided: only root may read {SPOOL}; sudo may well accept");
        assert!(said.contains(&line) && said.contains(&format!("    without it: {reason}")), "{said}");
        assert!(said.contains("status 3") && !said.contains("the user reads"), "{said}");
        // Where nothing is searched there is nothing hidden.
        let said = check("agent_search=no");
        assert!(said.contains(&format!("sudo for {user}: refused: {reason}")), "{said}");
        assert!(said.contains("status 3") && said.contains("the user reads"), "{said}");
    }
    leave(&shell, "web1", user);
}

#[test]
fn in_tmux_sudo_works_after_a_reconnect() {
    let _watch = WORLD.lab().watch();
    let (agent, _) = somebody();
    let shell = agent.shell("ssh -A web1").unwrap();
    shell.run("tmux -L work new-session -d 'exec bash --norc --noprofile'").unwrap();
    leave(&shell, "web1", agent.user());
    let shell = agent.shell("ssh -A web1").unwrap();
    shell
        .run("tmux -L work send-keys 'sudo id -u > ~/as 2>&1; sudo -n id -un >> ~/as 2>&1; touch ~/done' Enter")
        .unwrap();
    let home = format!("/home/{}", agent.user());
    wait_until(SOON, "sudo in tmux", || WORLD.host("web1").exists(&format!("{home}/done"))).unwrap();
    assert_eq!(WORLD.host("web1").read_file(&format!("{home}/as")).unwrap(), "0\nroot\n");
    shell.run("tmux -L work kill-server").unwrap();
    shell.exit().unwrap();
}

#[test]
fn on_a_shared_account_no_other_persons_agent_is_asked() {
    let _watch = WORLD.lab().watch();
    let (one, two) =
        (WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap(), WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap());
    let serial = add(&one, |good| good.principals(&["team"]));
    add(&two, |good| good.principals(&["team"]));
    let left = left_by(&one, "web2", "team");
    let mine = one.shell("ssh -A team@web2").unwrap();
    attempt(&left, "web2", "team", "sudo id -u").accepted(serial);

    // Behind the other's connection lies a witness of who is asked.
    let witness = format!("/home/{}/witness", two.user());
    let relay = WORLD.relay("laptop", two.user(), &witness, two.socket()).unwrap();
    let theirs = two.shell(&format!("ssh -o ForwardAgent={witness} team@web2")).unwrap();
    let refused = attempt(&left, "web2", "team", "sudo id -u");
    refused.refused(
        AGENT_SILENT,
        "No such file or directory",
        "no search: live sessions of this uid have different key IDs",
    );
    let refused = attempt(&left, "web2", "team", "env -u SSH_AUTH_SOCK sudo id -u");
    refused.refused(NO_AGENT, "no SSH_AUTH_SOCK", "no search: live sessions of this uid have different key IDs");
    assert_eq!(relay.seen().unwrap(), (0, 0));

    assert!(theirs.run("sudo id -u").unwrap().ends_with("0\n"));
    assert_eq!(relay.seen().unwrap(), (1, 1), "the witness sees what there is to see");
    leave(&theirs, "web2", "team");
    attempt(&left, "web2", "team", "sudo id -u").accepted(serial);
    mine.exit().unwrap();
}

#[test]
fn beside_a_session_without_a_certificate_nothing_is_searched() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let user = agent.user();
    WORLD.make_way_in(user, "web1").unwrap();
    let left = left_by(&agent, "web1", user);
    let _certified = agent.shell("ssh -A web1").unwrap();
    attempt(&left, "web1", user, "sudo id -u").accepted(serial);
    let plain = agent.shell(&format!("{WAY_IN} web1")).unwrap();
    let refused = attempt(&left, "web1", user, "sudo id -u");
    refused.refused(AGENT_SILENT, "No such file or directory", " of this uid logged in without a certificate");
    leave(&plain, "web1", user);
    attempt(&left, "web1", user, "sudo id -u").accepted(serial);
}

#[test]
fn a_socket_of_the_users_own_in_the_place_of_sshds_is_passed_over_and_asked_nothing() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let user = agent.user();
    let left = left_by(&agent, "web1", user);
    let shell = agent.shell("ssh -A web1").unwrap();
    let socket = shell.run("echo $SSH_AUTH_SOCK").unwrap().trim().to_owned();
    shell.run("mv $SSH_AUTH_SOCK $SSH_AUTH_SOCK.sshds").unwrap();
    let relay = WORLD.relay("web1", user, &socket, &format!("{socket}.sshds")).unwrap();
    let refused = attempt(&left, "web1", user, "sudo id -u");
    let told = format!("{socket}: another process listens there");
    refused.refused(AGENT_SILENT, &format!("agent: {}: No such file or directory", left.socket), &told);
    let (connections, questions) = relay.seen().unwrap();
    assert!(connections <= 1 && questions == 0, "{connections} {questions}");
    // The one that he names himself is asked, whatever lies behind it.
    assert_eq!(shell.run("sudo id -u").unwrap(), "0\n");
    assert_eq!(relay.seen().unwrap().1, 1);
    drop(relay);
    shell.run("mv $SSH_AUTH_SOCK.sshds $SSH_AUTH_SOCK").unwrap();
    attempt(&left, "web1", user, "sudo id -u").accepted(serial);
}

fn passes_over_other_forwards(server: &str) {
    let (agent, serial) = somebody();
    let user = agent.user();
    let left = left_by(&agent, server, user);
    // By its name it is an agent; behind it lies a service that says nothing.
    let (folder, mute) = (format!("/tmp/ssh-{user}"), format!("/home/{user}/mute"));
    WORLD.host(server).make_folder_as(user, &folder, 0o700).unwrap();
    let listen = "my $l = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $ARGV[0], Listen => 9) or die; my @all; while (1) { push @all, $l->accept }";
    let laptop = WORLD.host("laptop");
    let service = laptop.command(["perl", "-MIO::Socket::UNIX", "-e", listen, &mute]).user(user).spawn().unwrap();
    wait_until(SOON, "the mute service", || laptop.exists(&mute)).unwrap();
    let shell = agent.shell(&format!("ssh -A -R {folder}/agent.1:{mute} {server}")).unwrap();
    let found = attempt(&left, server, user, "sudo id -u");
    found.accepted(serial);
    assert!(found.told(": 2 sockets"), "{found:?}");
    // Its end closes the forwarded connection, for which ssh would wait.
    service.kill().unwrap();
    leave(&shell, server, user);
}

#[test]
fn other_forwards_of_the_same_connection_are_passed_over() {
    let _watch = WORLD.lab().watch();
    passes_over_other_forwards("web1");
    passes_over_other_forwards("web13");
}

/// Where sshd puts its socket since 10.1: `~/.ssh/agent/s.*.sshd.*`. Here sshd itself listens there too, told so by the client.
fn finds_the_later_place(server: &str) {
    let (agent, serial) = somebody();
    let user = agent.user();
    let left = left_by(&agent, server, user);
    let folder = format!("/home/{user}/.ssh/agent");
    for (path, mode) in [(format!("/home/{user}/.ssh"), 0o700), (folder.clone(), 0o700)] {
        WORLD.host(server).make_folder_as(user, &path, mode).unwrap();
    }
    let socket = format!("{folder}/s.AbCdEfGhIj.sshd.KlMnOpQrSt");
    let shell = agent.shell(&format!("ssh -a -R {socket}:{} {server}", agent.socket())).unwrap();
    let found = attempt(&left, server, user, "sudo id -u");
    found.accepted(serial);
    assert!(found.told(&format!("asking the agent at {socket}, of pid ")), "{found:?}");
    leave(&shell, server, user);
}

#[test]
fn the_place_of_openssh_10_1_is_found_too() {
    let _watch = WORLD.lab().watch();
    finds_the_later_place("web1");
    finds_the_later_place("web13");
}

#[test]
fn a_connection_that_was_lost_unnoticed_costs_half_of_the_time_only() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let user = agent.user();
    let lost = agent.shell("ssh -A web1").unwrap();
    let left = Leftover::of(&lost, &WORLD, "web1", user).unwrap();
    attempt(&left, "web1", user, "sudo id -u").accepted(serial);
    lost.terminal().signal(Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    let told = "no answer in time";
    attempt(&left, "web1", user, "sudo id -u").refused(AGENT_SILENT, told, "searching 1 live sessions");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());

    let shell = agent.shell("ssh -A web1").unwrap();
    let start = Instant::now();
    let found = attempt(&left, "web1", user, "sudo id -u");
    found.accepted(serial);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(found.told("searching 2 live sessions"), "{found:?}");
    shell.exit().unwrap();
    lost.terminal().signal(Signal::SIGCONT).unwrap();
}

#[test]
fn su_searches_among_the_callers_own_sessions_not_the_targets() {
    let _watch = WORLD.lab().watch();
    let (agent, _) = somebody();
    let user = agent.user();
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    let serial = add(&agent, |good| good.principals(&[user, "root"]));
    let left = left_by(&agent, "web1", user);
    // root is logged in with an agent that would do.
    let other = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
    add(&other, |good| good.principals(&["root"]));
    let roots = other.shell("ssh -A root@web1").unwrap();
    let su = |command: &str| attempt(&left, "web1", user, command);
    let nobody = "no search: no live session of this uid is recorded";
    su("su root -c \"id -u\"").refused(AGENT_SILENT, "No such file or directory", nobody);
    let _shell = agent.shell("ssh -A web1").unwrap();
    su("su root -c \"id -u\"").accepted(serial);
    su("su - root -c \"id -u\"").accepted(serial);
    roots.exit().unwrap();
}

#[test]
fn a_line_can_switch_it_off() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let user = agent.user();
    let shell = agent.shell("ssh -A web2").unwrap();
    let line = |options: &str| {
        let pam = format!("{LINE} {options}\n@include common-account\n@include common-session-noninteractive\n");
        WORLD.host("web2").write_file("/etc/pam.d/sudo-i", 0o644, pam).unwrap();
    };
    let left = Leftover::of(&shell, &WORLD, "web2", user).unwrap();
    let sudo = || attempt(&left, "web2", user, "SSH_AUTH_SOCK=/run/none sudo -i id -u");
    line("");
    sudo().accepted(serial);
    line("agent_search=no");
    sudo().refused(AGENT_SILENT, "agent: /run/none: No such file", "no search: agent_search is off");
    line("agent_socket=/run/never");
    sudo().refused(AGENT_SILENT, "agent: /run/never: No such file", "no search: agent_search is off");
    line("");
    shell.exit().unwrap();
}
