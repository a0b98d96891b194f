//! `bind_session=yes`: sudo takes only a certificate of the lineage that opened the very connection in which it is typed, from that connection's own agent.
//! Beside each attack stands a control: without the option the same command, at the same place, becomes root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{trixie_root, wait_until};
use ussh_e2e::{Forged, Forgery, Leftover, PersonAgent, SPOOL, Shell, WAY_IN, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);
const LINE: &str = "auth required pam_ussh.so ca_file=/etc/ssh/both_cas revoked_keys=/etc/ssh/revoked_keys debug";
/// A CA beside ours, which sudo trusts as well.
const OTHER_CA: &str = "/srv/other_ca";

/// What the user reads.
const NO_LOGIN: &str = "This shell does not belong to a login that is known: open a new one (ssh -A, ussh) and run this there, outside of an older tmux or screen.";
const NOT_RECORDED: &str = "This host keeps no record of its logins, and this needs one: please tell its administrator (pam-ussh-check --stack /etc/pam.d/* says what is missing).";
const OTHER_AGENT: &str = "The SSH agent of this shell is not that of its own login: unset SSH_AUTH_SOCK, or open a new login (ssh -A, ussh), and run this there.";
const NO_CERTIFICATE: &str = "This login was made without a certificate of yours: open a new one with \"ussh\", or \"ssh -A\", and run this there.";
const NOT_GOOD: &str = "No certificate that is good for this: see \"ssh-add -l\"";
const NOT_CHECKED: &str = "Your certificate could not be checked on this host: please tell its administrator.";

/// web1 is Debian 12 (OpenSSH 9.2), web13 Debian 13 (OpenSSH 10.0); on web2 records and stacks are meddled with. `team` is an account that many share.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("bound-sudo").person("team", "secret", &["admins"]).people(32, "admins");
    let world = plan.server_on("web13", trixie_root().unwrap()).start().unwrap();
    world.forge(&Forgery::of("nobody").signed_by(OTHER_CA)).unwrap();
    let ca = world.host("ca");
    let other = ca.read_file(&format!("{OTHER_CA}.pub")).unwrap();
    for server in ["web1", "web2", "web13"] {
        let host = world.host(server);
        let ours = host.read_file("/etc/ssh/trusted_user_ca").unwrap();
        if server == "web2" {
            // It would put to rights what is to be wrong.
            host.forget_service("ussh-hostd").unwrap();
        }
        host.write_file("/etc/ssh/both_cas", 0o644, format!("{ours}\n{other}")).unwrap();
        // The control.
        world.sudo_pam(server, LINE).unwrap();
        host.write_file("/etc/pam.d/sudo-i", 0o644, host.read_file("/etc/pam.d/sudo").unwrap()).unwrap();
        world.sudo_pam(server, &format!("{LINE} bind_session=yes")).unwrap();
        host.write_file(
            "/etc/sudoers.d/ussh",
            0o440,
            "Defaults timestamp_timeout=0, passwd_tries=1\n%admins ALL=(ALL) ALL\n",
        )
        .unwrap();
        host.write_file("/etc/pam.d/su", 0o644, format!("{LINE} bind_session=yes\n@include common-account\n")).unwrap();
    }
    world
});

/// Somebody else each time, whose agent holds a certificate that gets in and gives root.
fn somebody() -> (PersonAgent<'static>, u64) {
    let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
    let serial = add(&agent, |good| good).serial;
    (agent, serial)
}

fn add(agent: &PersonAgent<'_>, forgery: impl Fn(Forgery) -> Forgery) -> Forged {
    let forged = WORLD.forge(&forgery(Forgery::of(agent.user()))).unwrap();
    forged.add_to(agent).unwrap();
    forged
}

/// One connection with a shell in it.
struct Login<'a> {
    shell: Shell,
    server: &'a str,
    user: String,
    /// SSH_AUTH_SOCK in it.
    socket: String,
}

impl<'a> Login<'a> {
    fn new(agent: &PersonAgent<'_>, server: &'a str) -> Self {
        Login::by(agent, "ssh -A", server, agent.user())
    }

    fn by(agent: &PersonAgent<'_>, ssh: &str, server: &'a str, user: &str) -> Self {
        let shell = agent.shell(&format!("{ssh} {user}@{server}")).unwrap();
        let socket = shell.run("echo $SSH_AUTH_SOCK").unwrap().trim().to_owned();
        Login { shell, server, user: user.into(), socket }
    }

    fn run(&self, command: &str) -> Attempt {
        attempt(self.server, &self.user, || self.shell.run(command).unwrap())
    }

    /// The same with another agent: refused, and a way to root without the option.
    fn refuses_agent(&self, socket: &str, why: &str) {
        let refused = self.run(&format!("SSH_AUTH_SOCK={socket} sudo id -u"));
        refused.refused(OTHER_AGENT, &format!("agent: {socket}: not that of the login of pid "));
        refused.refused(OTHER_AGENT, why);
        self.control(&format!("SSH_AUTH_SOCK={socket}"));
    }

    fn control(&self, environment: &str) {
        let control = self.run(&format!("{environment} sudo -i id -u"));
        assert_eq!(control.text, "0\n", "without the option: {control:?}");
    }
}

/// What became of one attempt, and what pam_ussh logged of it.
#[derive(Debug)]
struct Attempt {
    text: String,
    log: Vec<String>,
}

fn attempt(server: &str, user: &str, run: impl FnOnce() -> String) -> Attempt {
    let before = WORLD.log_position(server);
    let text = run();
    let by = format!("ruser {user}");
    let log = WORLD.logged_since(server, before).unwrap();
    let mine = log.lines().filter(|line| line.contains("pam_ussh[") && line.contains(&by));
    Attempt { text, log: mine.map(str::to_owned).collect() }
}

fn in_leftover(left: &Leftover, server: &str, user: &str, command: &str) -> Attempt {
    attempt(server, user, || left.run(command).unwrap().1)
}

impl Attempt {
    fn decisions(&self) -> Vec<&String> {
        self.log.iter().filter(|line| !line.contains("debug: ")).collect()
    }

    fn accepted(&self, serial: u64) {
        assert_eq!(self.text, "0\n", "{self:?}");
        let line = self.decisions().pop().unwrap();
        assert!(line.contains("Accepted certificate ID ") && line.contains(&format!("(serial {serial}) ")), "{self:?}");
        assert!(line.contains("of its own login, pid "), "{self:?}");
    }

    /// One sentence for the user, and one line with the reason.
    fn refused(&self, sentence: &str, reason: &str) {
        assert!(!self.text.lines().any(|line| line == "0"), "{self:?}");
        assert_eq!(self.text.matches(sentence).count(), 1, "{self:?}");
        let decisions = self.decisions();
        assert_eq!(decisions.len(), 1, "{self:?}");
        assert!(decisions[0].contains("Refusing ") && decisions[0].contains(reason), "{reason}: {self:?}");
    }

    fn told(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains("debug: ") && line.contains(text))
    }
}

fn takes_its_own(server: &str) {
    let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
    let user = agent.user();
    let serial = add(&agent, |good| good.principals(&[user, "root"])).serial;
    let login = Login::new(&agent, server);
    // A second connection changes nothing.
    let other = Login::new(&agent, server);
    for command in
        ["sudo id -u", "su root -c 'id -u'", "bash -c 'sh -c \"sudo id -u; true\"; true'", "setsid -w sudo id -u"]
    {
        login.run(command).accepted(serial);
    }
    for environment in ["env -u SSH_AUTH_SOCK", "SSH_AUTH_SOCK=/run/none"] {
        let found = login.run(&format!("{environment} sudo id -u"));
        found.accepted(serial);
        assert!(found.told("searching this login: 1 sockets"), "{found:?}");
        assert!(found.told(&format!("asking the agent at {}, of pid ", login.socket)), "{found:?}");
    }
    // Root at work in it is asked for nothing.
    assert_eq!(login.run("sudo sh -c 'sudo id -u'").text, "0\n");
    other.run("sudo id -u").accepted(serial);
    // A command without a shell or a terminal.
    let told = attempt(server, user, || agent.sh(&format!("ssh -A {server} sudo id -u")).unwrap().stdout);
    told.accepted(serial);

    // One more session over the same connection.
    for _ in 0..2 {
        let master = format!("-o ControlMaster=auto -o ControlPath=~/{server} -o ControlPersist=30");
        let told = attempt(server, user, || agent.sh(&format!("ssh -A {master} {server} sudo id -u")).unwrap().stdout);
        told.accepted(serial);
    }
    agent.sh(&format!("ssh -o ControlPath=~/{server} -O exit {server}")).unwrap().ok().unwrap();

    // Renewed: another certificate of the same lineage.
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    login.run("sudo id -u").refused(NOT_GOOD, ": no certificate");
    let newer = add(&agent, |good| good).serial;
    login.run("sudo id -u").accepted(newer);
}

#[test]
fn sudo_and_su_take_the_certificate_and_the_agent_of_their_own_login() {
    let _watch = WORLD.lab().watch();
    takes_its_own("web1");
}

#[test]
fn openssh_10_and_sudo_rs_do_as_well() {
    let _watch = WORLD.lab().watch();
    let version = WORLD.host("web13").run(["ssh", "-V"]).unwrap().stderr;
    assert!(version.starts_with("OpenSSH_10."), "{version}");
    takes_its_own("web13");
    let (agent, serial) = somebody();
    let (login, other) = (Login::new(&agent, "web13"), Login::new(&agent, "web13"));
    login.run("sudo-rs id -u").accepted(serial);
    let refused = login.run(&format!("SSH_AUTH_SOCK={} sudo-rs id -u", other.socket));
    refused.refused(OTHER_AGENT, " is no sshd process of this connection");
}

/// Up to OpenSSH 9.7 the process that ran open_session serves root's login itself.
fn takes_roots_own(server: &str) {
    let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
    let serial = add(&agent, |good| good.principals(&["root"])).serial;
    let (login, other) = (Login::by(&agent, "ssh -A", server, "root"), Login::by(&agent, "ssh -A", server, "root"));
    login.run("su root -c 'id -u'").accepted(serial);
    login.run("env -u SSH_AUTH_SOCK su root -c 'id -u'").accepted(serial);
    let refused = login.run(&format!("SSH_AUTH_SOCK={} su root -c 'id -u'", other.socket));
    refused.refused(OTHER_AGENT, " is no sshd process of this connection");
    // In root's own session the tool may read what the module reads.
    let said = login.shell.run("pam-ussh-check --user root --service su").unwrap();
    assert!(said.contains("this login is ID \"") && said.contains("su for root: accepted"), "{said}");
}

#[test]
fn roots_login_is_one_too() {
    let _watch = WORLD.lab().watch();
    takes_roots_own("web1");
    takes_roots_own("web13");
}

#[test]
fn the_socket_of_a_second_login_with_the_same_certificate_is_refused() {
    let _watch = WORLD.lab().watch();
    for server in ["web1", "web13"] {
        let (agent, serial) = somebody();
        let (login, other) = (Login::new(&agent, server), Login::new(&agent, server));
        login.refuses_agent(&other.socket, " is no sshd process of this connection");
        login.run("sudo id -u").accepted(serial);
    }
}

#[test]
fn on_a_shared_account_each_has_the_agent_of_their_own_login() {
    let _watch = WORLD.lab().watch();
    for server in ["web1", "web13"] {
        let one = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
        let two = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
        let mine = add(&one, |good| good.principals(&["team"])).serial;
        let theirs = add(&two, |good| good.principals(&["team"]));
        let login = Login::by(&one, "ssh -A", server, "team");
        let other = Login::by(&two, "ssh -A", server, "team");
        login.refuses_agent(&other.socket, " is no sshd process of this connection");
        // Where others are logged in too, one's own is found all the same.
        let found = login.run("SSH_AUTH_SOCK= sudo id -u");
        found.accepted(mine);
        other.run("sudo id -u").accepted(theirs.serial);

        // Their certificate in one's own agent is of no use: it is not of the lineage that opened this login.
        one.sh("ssh-add -q -D").unwrap().ok().unwrap();
        theirs.add_to(&one).unwrap();
        let refused = login.run("sudo id -u");
        refused.refused(NOT_GOOD, &format!("not of the lineage of this login: ID \"{}\" of CA SHA256:", one.user()));
        refused.refused(NOT_GOOD, &format!("certificate ID \"{}\" (serial {}) ", two.user(), theirs.serial));
        login.control("");
    }
}

#[test]
fn a_certificate_of_another_ca_with_the_same_key_id_is_refused() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let login = Login::new(&agent, "web1");
    let other = add(&agent, |good| good.signed_by(OTHER_CA)).serial;
    login.run("sudo id -u").accepted(serial);
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    let again = add(&agent, |good| good.signed_by(OTHER_CA)).serial;
    let refused = login.run("sudo id -u");
    refused.refused(NOT_GOOD, &format!("not of the lineage of this login: ID \"{}\" of CA SHA256:", agent.user()));
    refused.refused(NOT_GOOD, &format!("(serial {again}) "));
    assert_ne!(other, again);
    login.control("");
}

#[test]
fn a_copy_of_the_agent_on_the_host_is_refused() {
    let _watch = WORLD.lab().watch();
    let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
    let forged = add(&agent, |good| good);
    let login = Login::new(&agent, "web1");
    let copy = format!("/home/{}/copy", agent.user());
    forged.serve_at(&WORLD.host("web1"), agent.user(), &copy).unwrap();
    login.refuses_agent(&copy, " is no sshd process of this connection");
    // At the place of sshd's own, too, and at the end of a link.
    login.shell.run("mv $SSH_AUTH_SOCK $SSH_AUTH_SOCK.sshds; ln -s ~/copy $SSH_AUTH_SOCK").unwrap();
    login.refuses_agent(&login.socket, " is no sshd process of this connection");
    // One that has left its socket to a child: the number of who listened may be anybody's some day.
    let start = "SSH_AUTH_SOCK= ssh-agent -a ~/daemon > ~/daemon.sh; cat ~/daemon.sh";
    assert!(login.shell.run(start).unwrap().contains("SSH_AGENT_PID"));
    let refused = login.run("SSH_AUTH_SOCK=~/daemon sudo id -u");
    refused.refused(OTHER_AGENT, "the agent's process is not to be seen here");
    login.run("SSH_AUTH_SOCK=$SSH_AUTH_SOCK.sshds sudo id -u").accepted(forged.serial);
    login.shell.run(". ~/daemon.sh > /dev/null; kill $SSH_AGENT_PID").unwrap();
    WORLD.host("web1").forget_service(&copy).unwrap();
}

#[test]
fn a_relay_of_the_users_own_at_the_place_of_sshds_socket_is_refused_and_asked_nothing() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let login = Login::new(&agent, "web1");
    login.shell.run("mv $SSH_AUTH_SOCK $SSH_AUTH_SOCK.sshds").unwrap();
    let sshds = format!("{}.sshds", login.socket);
    let relay = WORLD.relay("web1", agent.user(), &login.socket, &sshds).unwrap();
    let refused = login.run("sudo id -u");
    refused.refused(OTHER_AGENT, " is no sshd process of this connection");
    // Where it is searched for, it is passed over.
    let refused = login.run("SSH_AUTH_SOCK= sudo id -u");
    refused.refused("There is no SSH agent in this session", "no SSH_AUTH_SOCK");
    assert!(refused.told("another process listens there"), "{refused:?}");
    assert_eq!(relay.seen().unwrap().1, 0, "it was asked nothing");
    login.control("");
    assert_eq!(relay.seen().unwrap().1, 1, "the witness sees what there is to see");
    // Under its other name it is sshd's still.
    login.run(&format!("SSH_AUTH_SOCK={sshds} sudo id -u")).accepted(serial);
}

#[test]
fn a_shell_whose_login_has_ended_is_refused_with_whatever_agent() {
    let _watch = WORLD.lab().watch();
    for server in ["web1", "web13"] {
        let (agent, serial) = somebody();
        let user = agent.user();
        let first = Login::new(&agent, server);
        let left = Leftover::of(&first.shell, &WORLD, server, user).unwrap();
        // It has left its login as soon as it was started, and is nobody's child.
        in_leftover(&left, server, user, "sudo id -u")
            .refused(NO_LOGIN, "descends from no live login that is recorded");
        first.shell.exit().unwrap();
        wait_until(SOON, "the record to go", || WORLD.session_records(server, user).unwrap().is_empty()).unwrap();

        let today = Login::new(&agent, server);
        for environment in [format!("SSH_AUTH_SOCK={}", today.socket), "env -u SSH_AUTH_SOCK".into()] {
            let refused = in_leftover(&left, server, user, &format!("{environment} sudo id -u"));
            refused.refused(NO_LOGIN, "none of the processes above it is the sshd of a recorded connection");
            let control = in_leftover(&left, server, user, &format!("{environment} sudo -i id -u"));
            assert_eq!(control.text, "0\n", "{control:?}");
        }
        today.run("sudo id -u").accepted(serial);
    }
}

#[test]
fn tmux_is_no_part_of_the_login_in_which_it_is_looked_at() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let first = Login::new(&agent, "web1");
    first.shell.run("tmux -L work new-session -d 'exec bash --norc --noprofile'").unwrap();
    first.shell.exit().unwrap();
    let today = Login::new(&agent, "web1");
    let home = format!("/home/{}", agent.user());
    let type_there =
        format!("tmux -L work send-keys 'SSH_AUTH_SOCK={} sudo id -u > ~/as 2>&1; touch ~/done' Enter", today.socket);
    let refused = attempt("web1", agent.user(), || {
        today.shell.run(&type_there).unwrap();
        wait_until(SOON, "sudo in tmux", || WORLD.host("web1").exists(&format!("{home}/done"))).unwrap();
        // What sudo says stands on its terminal.
        let pane = today.shell.run("tmux -L work capture-pane -pJ -S -").unwrap();
        WORLD.host("web1").read_file(&format!("{home}/as")).unwrap() + &pane
    });
    refused.refused(NO_LOGIN, "descends from no live login that is recorded");
    today.run("sudo id -u").accepted(serial);
    today.shell.run("tmux -L work kill-server").unwrap();
}

/// By its name and its arguments sshd's monitor, by prctl(2) the parent of whatever is left behind below it. It runs the command at the end of its line, forked twice.
const FALSE_SSHD: &str = r#"
my $user = getpwuid $<; $0 = "sshd: $user [priv]"; syscall(157, 15, my $name = "sshd\0"); syscall(157, 36, 1) == 0 or die "subreaper: $!"; my $sshd = $$;
pipe(my $r, my $w);
unless (fork) { unless (fork) { close $r; select undef, undef, undef, 0.01 until getppid == $sshd; $0 = "sshd: $user\@pts/0"; open STDOUT, '>&', $w; open STDERR, '>&', $w;
  system @ARGV; exit } exit }
close $w; print while <$r>; 1 until wait == -1;
"#;

#[test]
fn nobody_becomes_the_child_of_a_login_by_a_name_an_orphanage_or_a_trace() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let user = agent.user();
    let web1 = WORLD.host("web1");
    web1.write_file_as(user, &format!("/home/{user}/sshd"), 0o755, FALSE_SSHD).unwrap();
    let first = Login::new(&agent, "web1");
    let left = Leftover::of(&first.shell, &WORLD, "web1", user).unwrap();
    first.shell.exit().unwrap();
    let today = Login::new(&agent, "web1");
    let with_today = format!("SSH_AUTH_SOCK={}", today.socket);

    let refused = in_leftover(&left, "web1", user, &format!("{with_today} perl ~/sshd sudo id -u"));
    refused.refused(NO_LOGIN, "none of the processes above it is the sshd of a recorded connection");
    let control = in_leftover(&left, "web1", user, &format!("{with_today} perl ~/sshd sudo -i id -u"));
    assert_eq!(control.text, "0\n", "{control:?}");
    // Below a login it is that login's, and has no other's agent.
    let other = Login::new(&agent, "web1");
    today.run("perl ~/sshd sudo id -u").accepted(serial);
    let refused = today.run(&format!("SSH_AUTH_SOCK={} perl ~/sshd sudo id -u", other.socket));
    refused.refused(OTHER_AGENT, " is no sshd process of this connection");

    // A shell of today traces the one that was left behind: to the kernel that is a parent, to proc(5) and to us it is not.
    let pid = left.run("echo $$").unwrap().1.trim().to_owned();
    let trace = "syscall(101, 0x4206, $p = shift() + 0, 0, 0) == 0 or die $!; print \"on\\n\"; while (waitpid(-1, 0x40000000) > 0) { syscall(101, 7, $p, 0, $? >> 8 & 0x7f) }";
    today.shell.run(&format!("perl -e '$| = 1; {}' {pid} > ~/trace & disown", trace.replace('\'', ""))).unwrap();
    wait_until(SOON, "the trace", || web1.read_file(&format!("/home/{user}/trace")).is_ok_and(|said| said == "on\n"))
        .unwrap();
    let tracer = web1.read_file(&format!("/proc/{pid}/status")).unwrap();
    assert!(tracer.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")), "{tracer}");
    let refused = in_leftover(&left, "web1", user, &format!("{with_today} sudo id -u"));
    refused.refused(NO_LOGIN, "none of the processes above it is the sshd of a recorded connection");
    today.shell.run("kill -9 $!").unwrap();
}

#[test]
fn a_login_without_a_certificate_is_refused() {
    let _watch = WORLD.lab().watch();
    for server in ["web1", "web13"] {
        let (agent, _) = somebody();
        WORLD.make_way_in(agent.user(), server).unwrap();
        let login = Login::by(&agent, WAY_IN, server, agent.user());
        let refused = login.run("sudo id -u");
        refused.refused(NO_CERTIFICATE, "the login that this process descends from (pid ");
        refused.refused(NO_CERTIFICATE, ") was made without a certificate");
        login.control("");
    }
}

#[test]
fn another_account_within_the_login_and_another_pid_namespace_are_refused() {
    let _watch = WORLD.lab().watch();
    let (agent, _) = somebody();
    let login = Login::new(&agent, "web1");
    let (other, other_serial) = somebody();
    let as_user = |user: &str| format!("setpriv --reuid {user} --regid {user} --init-groups");
    let elsewhere = Login::new(&other, "web1");
    let to_other = format!("sudo {} env SSH_AUTH_SOCK={} sudo id -u", as_user(other.user()), elsewhere.socket);
    let refused = attempt("web1", other.user(), || login.shell.run(&to_other).unwrap());
    refused.refused(NO_LOGIN, ") is of uid ");
    elsewhere.run("sudo id -u").accepted(other_serial);

    // Only root makes such a namespace where sudo is set-uid still.
    for (mount, why) in
        [("", "/proc is not that of this process's pid namespace"), ("--mount-proc", "none of the processes above it")]
    {
        let inside = format!("env SSH_AUTH_SOCK={} sudo id -u", login.socket);
        let command = format!("sudo unshare --pid --fork {mount} {} {inside} 2>&1", as_user(agent.user()));
        let before = login.run(&command);
        let decisions = before.decisions();
        assert!(decisions.len() == 2 && decisions[0].contains("Accepted ") && decisions[1].contains(why), "{before:?}");
        assert_eq!(before.text.matches(NO_LOGIN).count(), 1, "{before:?}");
        assert!(!before.text.lines().any(|line| line == "0"), "{before:?}");
    }
}

/// Of who changes what all others on web2 go by.
static WEB2: Mutex<()> = Mutex::new(());

#[test]
fn records_that_are_missing_stale_or_others_to_change_are_no_login() {
    let _alone = WEB2.lock().unwrap_or_else(PoisonError::into_inner);
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let user = agent.user();
    let login = Login::new(&agent, "web2");
    login.run("sudo id -u").accepted(serial);
    let web2 = WORLD.host("web2");
    let record = WORLD.session_records("web2", user).unwrap().pop().unwrap();
    let name = |record: &Value| format!("{SPOOL}/{}-{}.json", record["pid"], record["start_time"]);
    let file = name(&record);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = record.clone();
        change(&mut changed);
        web2.remove_file(&file).unwrap();
        web2.write_file(&name(&changed), 0o600, changed.to_string()).unwrap();
        let refused = login.run("sudo id -u");
        web2.remove_file(&name(&changed)).unwrap();
        web2.write_file(&file, 0o600, record.to_string()).unwrap();
        refused
    };
    let none = "none of the processes above it is the sshd of a recorded connection";
    // The number is another process's by now.
    let start_time = record["start_time"].as_u64().unwrap();
    // This is a login, and no later one has a record: a new one would be no better, and its user is not sent in circles.
    with(&|record| record["start_time"] = (start_time - 1).into()).refused(NOT_RECORDED, none);
    with(&|record| record["boot_id"] = "another".into()).refused(NOT_RECORDED, none);
    let not_recorded = with(&|record| record["boot_id"] = "another".into());
    not_recorded.refused(NOT_RECORDED, &format!("; pid {} is the sshd of a connection that is not: ", record["pid"]));
    let later = Login::new(&agent, "web2");
    with(&|record| record["start_time"] = (start_time - 1).into()).refused(NO_LOGIN, none);
    later.shell.exit().unwrap();
    wait_until(SOON, "its record to go", || WORLD.session_records("web2", user).unwrap().len() == 1).unwrap();
    with(&|record| record["uid"] = 1.into()).refused(NO_LOGIN, ") is of uid 1");
    with(&|record| record["certificate"] = "ssh-new-cert-v01@openssh.com AAAA".into())
        .refused(NOT_CHECKED, "cannot check: certificate in the record of pid ");
    login.run("sudo id -u").accepted(serial);
    // Forged: the user's own file, and a folder in which he may put it.
    web2.run(["chown", user, &file]).unwrap().ok().unwrap();
    login.run("sudo id -u").refused(NOT_CHECKED, ": malformed record: bad ownership or modes");
    web2.run(["chown", "root", &file]).unwrap().ok().unwrap();
    for mode in ["0777", "1777", "0770"] {
        web2.run(["chmod", mode, SPOOL]).unwrap().ok().unwrap();
        login
            .run("sudo id -u")
            .refused(NOT_CHECKED, &format!("cannot check: records: {SPOOL}: bad ownership or modes"));
    }
    web2.run(["chmod", "0700", SPOOL]).unwrap().ok().unwrap();
    web2.run(["mv", SPOOL, "/run/elsewhere"]).unwrap().ok().unwrap();
    let missing = login.run("sudo id -u");
    web2.run(["mv", "/run/elsewhere", SPOOL]).unwrap().ok().unwrap();
    missing.refused(NOT_RECORDED, &format!("no connection is recorded in {SPOOL}"));
    login.run("sudo id -u").accepted(serial);
    login.control("");
}

#[test]
fn who_cannot_have_a_recorded_login_is_not_told_to_open_one() {
    let plan = WorldPlan::new("unrecorded").without_servers().server("web1").people(2, "admins");
    let world = plan.server_on("web13", trixie_root().unwrap()).start().unwrap();
    let _watch = world.lab().watch();
    for server in ["web1", "web13"] {
        let host = world.host(server);
        let line = LINE.replace("both_cas", "trusted_user_ca");
        world.sudo_pam(server, &format!("{line} bind_session=yes")).unwrap();
        let stack = host.read_file("/etc/pam.d/sshd").unwrap();
        let without: Vec<&str> =
            stack.lines().filter(|line| !(line.starts_with("session") && line.contains("pam_ussh.so"))).collect();
        assert_eq!(without.len() + 1, stack.lines().count(), "{stack}");
        host.write_file("/etc/pam.d/sshd", 0o644, without.join("\n") + "\n").unwrap();
        let agent = world.new_agent(&world.somebody().unwrap()).unwrap();
        world.forge(&Forgery::of(agent.user())).unwrap().add_to(&agent).unwrap();
        let log_in = || agent.shell(&format!("ssh -A {server}")).unwrap();
        let login = log_in();
        let sudo = |login: &Shell| {
            let before = world.log_position(server);
            (login.run("sudo id -u").unwrap(), world.logged_since(server, before).unwrap())
        };
        let (told, logged) = sudo(&login);
        assert_eq!(told.matches(NOT_RECORDED).count(), 1, "{server}: {told}");
        assert!(!told.lines().any(|line| line == "0"), "{told}");
        let reason = "is our session line in sshd's stack (`pam-ussh-check --stack /etc/pam.d/*`)?";
        assert!(logged.contains(reason), "{server}: {logged}");
        // Once that is mended, a new one is the way.
        host.write_file("/etc/pam.d/sshd", 0o644, &stack).unwrap();
        let new = log_in();
        assert_eq!(sudo(&new).0, "0\n");
        let (told, _) = sudo(&login);
        assert_eq!(told.matches(NO_LOGIN).count(), 1, "{server}: {told}");
    }
}

#[test]
fn account_binds_as_auth_does_and_takes_no_proof_that_was_made_without() {
    let _alone = WEB2.lock().unwrap_or_else(PoisonError::into_inner);
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let (login, other) = (Login::new(&agent, "web2"), Login::new(&agent, "web2"));
    let account = LINE.replace("auth ", "account ");
    let stack = |auth: &str, account: &str| {
        WORLD.sudo_pam("web2", &format!("{LINE} {auth}\n{account}")).unwrap();
    };
    let bound = format!("{account} bind_session=yes");
    stack("bind_session=yes", &bound);
    let both = login.run("sudo id -u");
    both.accepted(serial);
    assert!(
        both.decisions()[1].contains(" (account) ")
            && both.decisions()[1].contains(": proof made by auth, of its own login, pid "),
        "{both:?}"
    );
    // `auth` has taken another login's: what it has proved counts for nothing, and the agent is asked again.
    stack("", &bound);
    let own = login.run("sudo id -u");
    assert_eq!((own.text.as_str(), own.decisions().len()), ("0\n", 2), "{own:?}");
    assert!(own.decisions()[1].contains(": of its own login, pid "), "{own:?}");
    let refused = login.run(&format!("SSH_AUTH_SOCK={} sudo id -u", other.socket));
    assert!(refused.text.contains(OTHER_AGENT) && !refused.text.lines().any(|line| line == "0"), "{refused:?}");
    let decisions = refused.decisions();
    assert!(
        decisions[0].contains("Accepted ")
            && decisions[1].contains("Refusing ")
            && decisions[1].contains(" (account) "),
        "{refused:?}"
    );
    assert!(decisions[1].contains(": not that of the login of pid "), "{refused:?}");
    stack("bind_session=yes", "");
}

#[test]
fn pam_ussh_check_says_to_a_user_that_only_root_may_read_whose_login_it_is() {
    let _watch = WORLD.lab().watch();
    let (agent, serial) = somebody();
    let user = agent.user();
    let login = Login::new(&agent, "web1");
    login.run("sudo id -u").accepted(serial);
    let check = || login.shell.run(&format!("pam-ussh-check --user {user}; echo status $?")).unwrap();
    let said = check();
    let line = format!("sudo for {user}: not decided: only root may read {SPOOL}; sudo may well accept");
    assert!(said.contains(&line) && said.contains("status 3"), "{said}");
    assert!(said.contains("without it: cannot check: bind_session=yes, and only root may read which login"), "{said}");
    // What else refuses it is seen without.
    agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
    let said = check();
    assert!(said.contains(&format!("sudo for {user}: refused: no certificate")) && said.contains("status 1"), "{said}");
}

#[test]
fn the_manual_knows_what_a_refused_user_reads() {
    let manual = include_str!("../../../docs/trouble.md");
    for sentence in [NO_LOGIN, NOT_RECORDED, OTHER_AGENT, NO_CERTIFICATE] {
        let begins = sentence.split(':').next().unwrap();
        assert!(manual.contains(&format!("| `{begins}` |")), "{begins}");
    }
}
