//! ussh-hostd on real hosts: a session lives as long as its certificate, or as a newer one of the same lineage in its own forwarded agent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use ussh_e2e::lab::{Signal, wait_for, wait_until};
use ussh_e2e::{CA_DIR, FEED, Forgery, PersonAgent, Shell, WAY_IN, World, WorldPlan, confined};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);
/// How late an end may come on a machine that is busy with many tests.
const LATE: Duration = Duration::from_secs(3);
/// A certificate that ends within the test.
const SHORT: &str = "-5m:+7s";

const HOSTD: &str = "\
warn_before_seconds = 3
look_before_seconds = 3
agent_timeout_seconds = 1
grace_seconds = 1

[sync]
source = \"file:/srv/ussh-feed\"
every_seconds = 86400
";
const ENDS_IN: &str = "your certificate runs out in ";
const HAS_ENDED: &str =
    "your certificate has run out: this session ends now. Run `ussh` on your own machine and connect again.";
const NOT_ACCEPTED: &str = "your certificate is no longer accepted here: this session ends now. For a new one run `ussh --login` on your own machine; if that does not help, ask your administrators.";

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = WorldPlan::new("guard").people(32, "admins").start().unwrap();
    for host in ["web1", "web2"] {
        quicken(&world, host);
    }
    world
});

/// Starts ussh-hostd anew, with times that fit a test.
fn quicken(world: &World, host: &str) {
    world.host(host).write_file("/etc/ussh/hostd.toml", 0o644, HOSTD).unwrap();
    start_hostd(world, host);
}

fn start_hostd(world: &World, host: &str) {
    let host = world.host(host);
    host.command(confined(&["ussh-hostd", "run"]))
        .service("ussh-hostd")
        .unwrap()
        .wait_for_output("Watching ", SOON)
        .unwrap();
}

/// Somebody else each time, with an empty agent.
fn somebody(world: &World) -> PersonAgent<'_> {
    world.new_agent(&world.somebody().unwrap()).unwrap()
}

fn add(agent: &PersonAgent<'_>, forgery: impl Fn(Forgery) -> Forgery) -> u64 {
    let forged = agent.world().forge(&forgery(Forgery::of(agent.user()))).unwrap();
    forged.add_to(agent).unwrap();
    forged.serial
}

/// One person's session on a server, with the certificate it began with.
struct Session<'world> {
    agent: PersonAgent<'world>,
    shell: Shell,
    host: String,
    serial: u64,
    /// When that ends.
    valid_before: SystemTime,
}

/// Somebody logs in to `host` with a certificate of this validity; `ssh` is the command before the host's name.
fn session<'world>(world: &'world World, host: &str, validity: &str, ssh: &str) -> Session<'world> {
    let agent = somebody(world);
    let serial = add(&agent, |good| good.validity(validity));
    begin(agent, host, serial, &format!("{ssh} {host}"))
}

fn begin<'world>(agent: PersonAgent<'world>, host: &str, serial: u64, ssh: &str) -> Session<'world> {
    let shell = agent.shell(ssh).unwrap();
    let row = wait_for(SOON, "the session in ussh-hostd's list", || row_of(agent.world(), host, serial)).unwrap();
    let end = Duration::from_secs(row["certificate"]["valid_before"].as_u64().unwrap());
    Session { shell, host: host.to_owned(), serial, valid_before: UNIX_EPOCH + end, agent }
}

impl Session<'_> {
    fn user(&self) -> &str {
        self.agent.user()
    }

    /// Its lines in the log.
    fn log(&self) -> Vec<String> {
        let log = self.agent.world().logged_since(&self.host, 0).unwrap();
        let user = format!(" user {} ", self.user());
        log.lines().filter(|l| l.contains("ussh-hostd[") && l.contains(&user)).map(str::to_owned).collect()
    }

    /// Lines that tell of a certificate.
    fn told(&self, what: &str, serial: u64) -> Vec<String> {
        let begin = format!("]: {what} certificate ID ");
        let of = format!("(serial {serial}) ");
        self.log().into_iter().filter(|line| line.contains(&begin) && line.contains(&of)).collect()
    }

    /// It ends, with its terminal and its utmp entry, when its certificate does; and neither sooner nor by force.
    fn ends_on_time(&self) {
        let status = self.shell.terminal().expect_exit(SOON).unwrap();
        self.was_in_time();
        assert_eq!(status.code(), 255, "{}", self.shell.terminal().transcript());
        self.is_gone();
        let log = self.log();
        let ending = self.told("Ending session of", self.serial);
        assert_eq!(ending.len(), 1, "{log:?}");
        assert!(ending[0].contains(": it has run out and is not renewed; terminals told: "), "{ending:?}");
        assert!(!log.iter().any(|line| line.contains("Killing")), "{log:?}");
    }

    fn was_in_time(&self) {
        let now = SystemTime::now();
        assert!(now >= self.valid_before, "before its end");
        let late = now.duration_since(self.valid_before).unwrap();
        assert!(late < LATE, "{late:?} late");
    }

    fn is_gone(&self) {
        let world = self.agent.world();
        wait_until(SOON, "the utmp entry to go", || !is_in_utmp(world, &self.host, self.user())).unwrap();
        wait_until(SOON, "the record to go", || rows(world, &self.host).iter().all(|row| row["user"] != self.user()))
            .unwrap();
        wait_until(SOON, "its end in the log", || {
            self.log().iter().any(|line| line.contains("]: Session ended after "))
        })
        .unwrap();
    }

    fn answers(&self) -> bool {
        self.shell.run("echo still here").unwrap().contains("still here")
    }

    fn wait_for_end_of_certificate(&self) {
        wait_until(SOON, "the certificate's end", || SystemTime::now() > self.valid_before + LATE).unwrap();
    }
}

/// `ussh-hostd sessions --json`.
fn rows(world: &World, host: &str) -> Vec<Value> {
    let printed = world.host(host).run(["ussh-hostd", "sessions", "--json"]).unwrap().ok().unwrap().stdout;
    serde_json::from_str(&printed).unwrap()
}

fn row_of(world: &World, host: &str, serial: u64) -> Option<Value> {
    rows(world, host).into_iter().find(|row| row["certificate"]["serial"].as_str() == Some(serial.to_string().as_str()))
}

fn is_in_utmp(world: &World, host: &str, user: &str) -> bool {
    let who = world.host(host).run(["who"]).unwrap().ok().unwrap().stdout;
    who.lines().any(|line| line.split(' ').next() == Some(user))
}

fn listens(host: &str, port: u16) -> bool {
    let listening = WORLD.host(host).run(["ss", "-Hltn", &format!("sport = :{port}")]).unwrap().ok().unwrap();
    !listening.stdout.is_empty()
}

#[test]
fn a_session_is_warned_and_ends_with_its_certificate_and_so_do_its_forwards() {
    let _watch = WORLD.lab().watch();
    let session = session(&WORLD, "web1", SHORT, "ssh -A -R 127.0.0.1:7001:127.0.0.1:22");
    let bare = session.agent.world().host("laptop");
    let without_terminal = bare
        .command(["ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:7002:127.0.0.1:22", "web1"])
        .user(session.user())
        .env("SSH_AUTH_SOCK", session.agent.socket())
        .spawn()
        .unwrap();
    wait_until(SOON, "both forwards", || listens("web1", 7001) && listens("web1", 7002)).unwrap();
    assert!(is_in_utmp(&WORLD, "web1", session.user()));

    session.shell.terminal().expect(ENDS_IN, SOON).unwrap();
    assert!(SystemTime::now() < session.valid_before, "warned before the end");
    session.shell.terminal().expect(HAS_ENDED, SOON).unwrap();
    let ended = without_terminal.wait(SOON).unwrap();
    assert_eq!(ended.status.code(), 255, "{ended}");
    session.shell.terminal().expect_exit(SOON).unwrap();
    session.was_in_time();
    session.is_gone();
    wait_until(SOON, "the ports to close", || !listens("web1", 7001) && !listens("web1", 7002)).unwrap();
    let endings = session.told("Ending session of", session.serial);
    assert_eq!(endings.len(), 2, "{endings:?}");
    for terminals in ["; terminals told: 0", "; terminals told: 1"] {
        assert!(endings.iter().any(|line| line.ends_with(terminals)), "{endings:?}");
    }
    assert!(!session.log().iter().any(|line| line.contains("Killing")), "{:?}", session.log());
}

#[test]
fn a_renewed_session_lives_on_and_its_user_sees_nothing() {
    let _watch = WORLD.lab().watch();
    let session = session(&WORLD, "web1", SHORT, "ssh -A");
    let newer = add(&session.agent, |good| good.validity("-5m:+1h"));
    session.wait_for_end_of_certificate();
    assert!(session.answers());
    assert!(
        !session.shell.terminal().transcript().contains("your certificate"),
        "{}",
        session.shell.terminal().transcript()
    );
    let row = row_of(&WORLD, "web1", newer).unwrap();
    assert_eq!((&row["state"], &row["certificate"]["renewed"]), (&"live".into(), &true.into()));
    assert_eq!(session.told("Renewed session with", newer).len(), 1, "{:?}", session.log());
    session.shell.exit().unwrap();
    session_ends_quietly(&session);
}

fn session_ends_quietly(session: &Session<'_>) {
    wait_until(SOON, "the record to go", || {
        rows(&WORLD, &session.host).iter().all(|row| row["user"] != session.user())
    })
    .unwrap();
    assert!(session.told("Ending session of", session.serial).is_empty(), "{:?}", session.log());
}

#[test]
fn a_certificate_of_another_lineage_renews_nothing() {
    let _watch = WORLD.lab().watch();
    // Another CA, which web2 trusts as well.
    let other_ca = "/srv/trusted_too";
    WORLD.forge(&Forgery::of("alice").signed_by(other_ca)).unwrap();
    let web2 = WORLD.host("web2");
    let keys = [
        web2.read_bytes("/etc/ssh/trusted_user_ca").unwrap(),
        WORLD.host("ca").read_bytes(&format!("{other_ca}.pub")).unwrap(),
    ];
    web2.write_file("/etc/ssh/trusted_user_ca", 0o644, keys.concat()).unwrap();
    wait_until(SOON, "ussh-hostd to read it", || {
        web2.log().matches("Read the CA file and the revocation list").count() > 1
    })
    .unwrap();

    let session = session(&WORLD, "web2", SHORT, "ssh -A");
    let user = session.user().to_owned();
    add(&session.agent, |good| good.key_id("somebody else").validity("-5m:+1h"));
    add(&session.agent, |good| good.signed_by(other_ca).validity("-5m:+1h"));
    // Both others would be good for a login of their own.
    let log_in = session.agent.sh("ssh -o BatchMode=yes web2 id -un").unwrap().ok().unwrap();
    assert_eq!(log_in.stdout.trim(), user);
    session.ends_on_time();
}

#[test]
fn a_certificate_that_allows_less_than_the_login_renews_nothing() {
    let _watch = WORLD.lab().watch();
    let session = session(&WORLD, "web1", SHORT, "ssh -A");
    let user = session.user().to_owned();
    add(&session.agent, |good| good.principals(&["somebody"]).validity("-5m:+1h"));
    add(&session.agent, |good| good.principals(&[&user]).option("force-command=/bin/true").validity("-5m:+1h"));
    add(&session.agent, |good| good.principals(&[&user]).option("source-address=203.0.113.9/32").validity("-5m:+1h"));
    session.ends_on_time();
    assert!(session.log().iter().any(|line| line.contains("Session not renewed: ")), "{:?}", session.log());
}

#[test]
fn programs_without_a_terminal_end_with_their_session() {
    let _watch = WORLD.lab().watch();
    let session = session(&WORLD, "web1", SHORT, "ssh -A");
    let runs = |seconds: &str| {
        WORLD.host("web1").run(["pgrep", "-x", "-f", &format!("sleep {seconds}")]).unwrap().status.success()
    };
    let script = "sleep 4711 & nohup sleep 4712 & (sleep 4713 &) ; wait";
    let without_terminal = session
        .agent
        .world()
        .host("laptop")
        .command(["ssh", "-T", "web1", script])
        .user(session.user())
        .env("SSH_AUTH_SOCK", session.agent.socket())
        .spawn()
        .unwrap();
    wait_until(SOON, "its programs", || ["4711", "4712", "4713"].into_iter().all(runs)).unwrap();
    without_terminal.wait(SOON).unwrap();
    session.shell.terminal().expect_exit(SOON).unwrap();
    session.was_in_time();
    wait_until(SOON, "its programs to end", || !runs("4711") && !runs("4712")).unwrap();
    assert!(runs("4713"), "it had left the session: docs/sessions.md says that it goes on");
    WORLD.host("web1").run(["pkill", "-x", "-f", "sleep 4713"]).unwrap().ok().unwrap();
    let told = |line: &String| line.contains("]: Session ended after ") && line.contains(" processes with it; ");
    wait_until(SOON, "the end in the log", || session.log().iter().any(told)).unwrap();
}

#[test]
fn a_frozen_client_counts_as_no_and_delays_nobody() {
    let _watch = WORLD.lab().watch();
    let frozen = session(&WORLD, "web1", SHORT, "ssh -A");
    let newer = add(&frozen.agent, |good| good.validity("-5m:+1h"));
    // Before the first look: nothing has come back from the agent yet.
    frozen.shell.terminal().signal(Signal::SIGSTOP).unwrap();
    let neighbour = session(&WORLD, "web1", SHORT, "ssh -A");
    wait_until(SOON, "the end of the frozen one", || !is_in_utmp(&WORLD, "web1", frozen.user())).unwrap();
    frozen.was_in_time();
    frozen.is_gone();
    assert!(frozen.told("Renewed session with", newer).is_empty(), "{:?}", frozen.log());
    assert!(frozen.log().iter().any(|line| line.contains("no answer from the agent: ")), "{:?}", frozen.log());
    neighbour.ends_on_time();
    frozen.shell.terminal().signal(Signal::SIGCONT).unwrap();
    assert_eq!(frozen.shell.terminal().expect_exit(SOON).unwrap().code(), 255);
}

/// As where somebody has taken every process number of the host.
#[test]
fn a_session_is_renewed_where_neither_a_thread_nor_a_process_can_be_started() {
    let world = WorldPlan::new("no-process").without_servers().server("web1").people(2, "admins").start().unwrap();
    let _watch = world.lab().watch();
    quicken(&world, "web1");
    let session = session(&world, "web1", SHORT, "ssh -A");
    let web1 = world.host("web1");
    let pid = web1.service("ussh-hostd").unwrap().pid();
    let starts = "?fork,?vfork,clone,clone3";
    let refuse = format!("strace -f -qq -o /srv/starts -e trace={starts} -e inject={starts}:error=EAGAIN -p {pid}");
    let _refusing = web1.command(refuse.split(' ')).spawn().unwrap();
    let all_are_traced =
        format!("for task in /proc/{pid}/task/*; do grep -q '^TracerPid:.[1-9]' $task/status || exit 1; done");
    wait_until(SOON, "strace", || web1.script(&all_are_traced).is_ok()).unwrap();
    let newer = add(&session.agent, |good| good.validity("-5m:+1h"));
    session.wait_for_end_of_certificate();
    assert!(session.answers(), "{:?}", session.log());
    assert_eq!(session.told("Renewed session with", newer).len(), 1, "{:?}", session.log());
    let refused = web1.script("grep -c INJECTED /srv/starts").unwrap().stdout;
    assert!(refused.trim() != "0", "a process for the connect was tried");
}

/// ussh-hostd and ussh as they are packaged: the first warning comes five minutes before the end.
#[test]
fn whoever_is_warned_first_gets_a_new_certificate_by_what_the_warning_says_and_by_ussh_alone() {
    let world = WorldPlan::new("warned").without_servers().server("web1").people(2, "admins").start().unwrap();
    let _watch = world.lab().watch();
    world
        .host("web1")
        .write_file("/etc/ussh/hostd.toml", 0o644, include_str!("../../../packaging/ussh/hostd.toml"))
        .unwrap();
    start_hostd(&world, "web1");
    let sessions = [(); 2].map(|()| session(&world, "web1", "-3h:+320s", "ssh -A"));

    let warning =
        format!("{ENDS_IN}5 min, and this session with it. To go on, run `ussh --login` on your own machine now.");
    for (session, command) in sessions.iter().zip(["ussh --login", "ussh"]) {
        session.shell.terminal().expect(&warning, Duration::from_secs(40)).unwrap();
        let login = session.agent.terminal(command).unwrap();
        login.expect("assword:", SOON).unwrap();
        login.send(&format!("{}\n", world.password(session.user()))).unwrap();
        login.expect("is in your agent.", SOON).unwrap();
        assert!(login.expect_exit(SOON).unwrap().success(), "{command}: {}", login.transcript());
    }
}

#[test]
fn a_revoked_session_ends_at_once_after_sync() {
    let _watch = WORLD.lab().watch();
    let name = WORLD.somebody().unwrap();
    let (code, seen) = WORLD.log_in(&name, "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    let serial = WORLD.certificates(&name).unwrap()[0].serial;
    let ssh = WORLD.terminal("laptop", &name, "exec ssh -A web1 -t bash --norc --noprofile --noediting").unwrap();
    ssh.expect("$ ", SOON).unwrap();
    let other = session(&WORLD, "web1", "-5m:+1h", "ssh -A");
    wait_until(SOON, "the session", || row_of(&WORLD, "web1", serial).is_some()).unwrap();

    WORLD.usshca(&format!("revoke {serial} --reason lost")).unwrap().ok().unwrap();
    WORLD.carry_feed("web1").unwrap();
    WORLD.host("web1").run(["ussh-hostd", "sync"]).unwrap().ok().unwrap();
    ssh.expect(NOT_ACCEPTED, LATE).unwrap();
    assert_eq!(ssh.expect_exit(LATE).unwrap().code(), 255);
    let log = WORLD.logged_since("web1", 0).unwrap();
    let ending = format!("Ending session of certificate ID \"{name}\" (serial {serial}) ");
    let line = log.lines().find(|line| line.contains(&ending)).unwrap();
    assert!(line.contains(": certificate is revoked; terminals told: 1"), "{line}");
    assert!(other.answers(), "nobody else is ended");
}

#[test]
fn a_list_that_came_while_a_folder_above_it_was_bad_ends_sessions_once_that_is_mended() {
    let world = WorldPlan::new("mended").without_servers().server("web1").people(4, "admins").start().unwrap();
    let _watch = world.lab().watch();
    let web1 = world.host("web1");
    // Nobody watches /srv/lists itself.
    web1.script("mkdir -p /srv/lists/web1 && cp /etc/ssh/revoked_keys /srv/lists/web1/krl").unwrap();
    let config = format!("revoked_keys = \"/srv/lists/web1/krl\"\n{HOSTD}");
    web1.write_file("/etc/ussh/hostd.toml", 0o644, config).unwrap();
    start_hostd(&world, "web1");
    let (code, seen) = world.log_in("alice", "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    let serial = world.certificates("alice").unwrap()[0].serial;
    let ssh = world.terminal("laptop", "alice", "exec ssh -A web1 -t bash --norc --noprofile --noediting").unwrap();
    ssh.expect("$ ", SOON).unwrap();
    wait_until(SOON, "the session", || row_of(&world, "web1", serial).is_some()).unwrap();
    let status = || {
        let output = web1.run(["ussh-hostd", "status", "--json"]).unwrap();
        (output.status.success(), serde_json::from_str::<Value>(&output.stdout).unwrap())
    };
    assert_eq!(status().1["daemon_problem"], Value::Null);

    web1.script("chmod g+w /srv/lists").unwrap();
    world.usshca(&format!("revoke {serial}")).unwrap().ok().unwrap();
    world.carry_feed("web1").unwrap();
    web1.script(&format!("cd /srv/lists/web1 && cp {FEED}/krl new && mv new krl")).unwrap();
    let problem = "/srv/lists: bad ownership or modes";
    let told = || status().1["daemon_problem"].as_str().is_some_and(|p| p.contains(problem));
    wait_until(SOON, "the daemon's complaint", told).unwrap();
    assert!(!status().0);
    let log = world.logged_since("web1", 0).unwrap();
    assert_eq!(log.matches(&format!("Renewing no session until this is mended: {problem}")).count(), 1, "{log}");
    web1.script("chmod g-w /srv/lists").unwrap();
    ssh.expect(NOT_ACCEPTED, SOON).unwrap();
    assert_eq!(ssh.expect_exit(SOON).unwrap().code(), 255);
    let (good, status) = status();
    assert!(good, "{status}");
    assert_eq!(status["daemon_problem"], Value::Null);
}

#[test]
fn a_killed_and_restarted_daemon_knows_every_session() {
    let world = WorldPlan::new("restart").without_servers().server("web1").people(4, "admins").start().unwrap();
    let _watch = world.lab().watch();
    quicken(&world, "web1");
    let ends = session(&world, "web1", "-5m:+10s", "ssh -A");
    let renewed = session(&world, "web1", "-5m:+6s", "ssh -A");
    let newer = add(&renewed.agent, |good| good.validity("-5m:+1h"));
    let without = somebody(&world);
    world.make_way_in(without.user(), "web1").unwrap();
    let without = without.shell(&format!("{WAY_IN} web1")).unwrap();
    wait_until(SOON, "the renewal", || !renewed.told("Renewed session with", newer).is_empty()).unwrap();

    let web1 = world.host("web1");
    web1.service("ussh-hostd").unwrap().kill().unwrap();
    let status = web1.run(["ussh-hostd", "status"]).unwrap();
    assert_eq!(status.status.code(), 69, "{status}");
    assert!(status.stdout.contains("does not run") && status.stdout.contains("sessions   3"), "{status}");
    // Down, it locks nobody out.
    let late = session(&world, "web1", "-5m:+1h", "ssh -A");
    ends.wait_for_end_of_certificate();
    assert!(ends.answers(), "nobody ends it meanwhile");
    assert_eq!(row_of(&world, "web1", ends.serial).unwrap()["state"], "expired");

    start_hostd(&world, "web1");
    web1.service("ussh-hostd").unwrap().wait_for_output("Watching 4 sessions in ", SOON).unwrap();
    ends.shell.terminal().expect(HAS_ENDED, SOON).unwrap();
    assert_eq!(ends.shell.terminal().expect_exit(SOON).unwrap().code(), 255);
    ends.is_gone();
    assert!(renewed.answers() && late.answers());
    assert!(without.run("echo still here").unwrap().contains("still here"));
    assert!(renewed.told("Watching session of", newer).len() == 1, "{:?}", renewed.log());
}

#[test]
fn a_user_who_puts_his_own_agent_in_place_of_the_forwarded_one_fools_nobody() {
    let _watch = WORLD.lab().watch();
    let session = session(&WORLD, "web1", SHORT, "ssh -A");
    let user = session.user();
    let newer = WORLD.forge(&Forgery::of(user).validity("-5m:+1h")).unwrap();
    newer.write(&WORLD, user, "newer").unwrap();
    for name in ["newer", "newer-cert.pub"] {
        let path = format!("/home/{user}/{name}");
        let bytes = WORLD.host("laptop").read_bytes(&path).unwrap();
        WORLD.host("web1").write_file_as(user, &path, 0o600, bytes).unwrap();
    }
    let own = "mv $SSH_AUTH_SOCK $SSH_AUTH_SOCK.sshds && ssh-agent -a $SSH_AUTH_SOCK > /dev/null && ssh-add -q newer && ssh-add -l";
    assert!(session.shell.run(own).unwrap().contains("ED25519-CERT"), "his agent answers at sshd's place");
    session.ends_on_time();
    let fooled = "no answer from the agent: another process listens at the agent's path";
    assert!(session.log().iter().any(|line| line.ends_with(fooled)), "{:?}", session.log());
    assert!(session.told("Renewed session with", newer.serial).is_empty());
}

#[test]
fn a_user_who_stops_his_sshd_is_ended_all_the_same() {
    let _watch = WORLD.lab().watch();
    let session = session(&WORLD, "web1", SHORT, "ssh -A");
    session.shell.terminal().send("kill -STOP $PPID\n").unwrap();
    wait_until(SOON, "the end", || !is_in_utmp(&WORLD, "web1", session.user())).unwrap();
    session.was_in_time();
    session.is_gone();
    let log = session.log();
    assert!(log.iter().any(|line| line.contains("Killing what SIGTERM has not ended")), "{log:?}");
    assert_eq!(session.shell.terminal().expect_exit(SOON).unwrap().code(), 255);
}

#[test]
fn a_session_without_a_certificate_is_left_alone() {
    let _watch = WORLD.lab().watch();
    let agent = somebody(&WORLD);
    WORLD.make_way_in(agent.user(), "web1").unwrap();
    let shell = agent.shell(&format!("{WAY_IN} web1")).unwrap();
    session(&WORLD, "web1", SHORT, "ssh -A").ends_on_time();
    assert!(shell.run("echo still here").unwrap().contains("still here"));
    let row = rows(&WORLD, "web1").into_iter().find(|row| row["user"] == agent.user()).unwrap();
    assert_eq!((&row["state"], &row["certificate"]), (&"no_certificate".into(), &Value::Null));
    let log = WORLD.logged_since("web1", 0).unwrap();
    assert!(log.contains(&format!("Session without a certificate, left alone: user {} ", agent.user())), "{log}");
    shell.exit().unwrap();
}

#[test]
fn roots_session_ends_as_well() {
    let _watch = WORLD.lab().watch();
    let agent = somebody(&WORLD);
    let serial = add(&agent, |good| good.principals(&["root"]).validity(SHORT));
    let session = begin(agent, "web1", serial, "ssh -A root@web1");
    assert_eq!(session.shell.run("id -u").unwrap().trim(), "0");
    session.shell.terminal().expect(ENDS_IN, SOON).unwrap();
    session.shell.terminal().expect(HAS_ENDED, SOON).unwrap();
    assert_eq!(session.shell.terminal().expect_exit(SOON).unwrap().code(), 255);
    session.was_in_time();
    wait_until(SOON, "the utmp entry to go", || !is_in_utmp(&WORLD, "web1", "root")).unwrap();
    let log = WORLD.logged_since("web1", 0).unwrap();
    let line =
        log.lines().find(|line| line.contains("Ending session of") && line.contains(&format!("(serial {serial}) ")));
    assert!(line.unwrap().contains(" user root from "), "{log}");
    assert!(!log.lines().any(|line| line.contains("Killing") && line.contains("user root ")), "{log}");
}

#[test]
fn sessions_and_status_say_what_is_true() {
    let _watch = WORLD.lab().watch();
    let session = session(&WORLD, "web1", "-5m:+150m", "ssh -A");
    let row = row_of(&WORLD, "web1", session.serial).unwrap();
    let address = WORLD.host("laptop").address().to_string();
    assert_eq!((row["user"].as_str(), row["from"].as_str()), (Some(session.user()), Some(address.as_str())));
    assert_eq!((&row["state"], &row["certificate"]["renewed"]), (&"live".into(), &false.into()));
    assert_eq!(row["certificate"]["key_id"], session.user());
    let opened = UNIX_EPOCH + Duration::from_secs(row["opened"].as_u64().unwrap());
    assert!(SystemTime::now().duration_since(opened).unwrap() < SOON);

    let web1 = WORLD.host("web1");
    let table = web1.run(["ussh-hostd", "sessions"]).unwrap().ok().unwrap().stdout;
    let line = table.lines().find(|line| line.contains(session.user())).unwrap();
    let certificate = format!("{} (serial {})", session.user(), session.serial);
    for cell in [row["pid"].to_string().as_str(), &address, &certificate, "  2 h ", "live"] {
        assert!(line.contains(cell), "{cell}: {line}");
    }

    let status = web1.run(["ussh-hostd", "status", "--json"]).unwrap().ok().unwrap().stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["daemon_pid"], web1.service("ussh-hostd").unwrap().pid());
    assert_eq!((&status["ca_keys"], &status["trust_problem"]), (&1.into(), &Value::Null));
    assert!(status["sessions"].as_u64().unwrap() >= 1 && status["krl_version"].as_u64().unwrap() > 0, "{status}");
    let text = web1.run(["ussh-hostd", "status"]).unwrap().ok().unwrap().stdout;
    assert!(text.contains("daemon     runs, pid ") && text.contains("CA keys    1\n"), "{text}");
    session.shell.exit().unwrap();
}

#[test]
fn sync_takes_all_of_a_feed_or_nothing() {
    let world = WorldPlan::new("sync").without_servers().server("web1").start().unwrap();
    let _watch = world.lab().watch();
    let web1 = world.host("web1");
    let installed =
        || ["trusted_user_ca", "revoked_keys"].map(|name| web1.read_bytes(&format!("/etc/ssh/{name}")).unwrap());
    let offer = |name: &str, content: &[u8]| web1.write_file(&format!("{FEED}/{name}"), 0o644, content).unwrap();
    let (ca, old) =
        (web1.read_bytes(&format!("{FEED}/user_ca.pub")).unwrap(), web1.read_bytes(&format!("{FEED}/krl")).unwrap());

    // A newer list, and one more CA key: what a whole feed would bring.
    let (code, _) = world.log_in("alice", "--login").unwrap();
    assert_eq!(code, 0);
    let serial = world.certificates("alice").unwrap()[0].serial;
    world.usshca(&format!("revoke {serial}")).unwrap().ok().unwrap();
    world.carry_feed("web1").unwrap();
    let new = web1.read_bytes(&format!("{FEED}/krl")).unwrap();
    world.host("ca").script("ssh-keygen -q -t ed25519 -N '' -f /srv/next").unwrap();
    let two = [ca.clone(), world.host("ca").read_bytes("/srv/next.pub").unwrap()].concat();

    let before = installed();
    let refused = |krl: &[u8], ca: &[u8], reason: &str| {
        offer("krl", krl);
        offer("user_ca.pub", ca);
        let position = world.log_position("web1");
        let sync = web1.run(["ussh-hostd", "sync"]).unwrap();
        assert_eq!(sync.status.code(), 1, "{reason}: {sync}");
        assert!(sync.stderr.contains(reason), "{reason}: {sync}");
        assert_eq!(installed(), before, "{reason}: something was changed");
        let log = world.logged_since("web1", position).unwrap();
        assert!(log.contains("Sync refused: ") && log.contains(reason), "{reason}: {log}");
    };
    refused(&new[..new.len() - 1], &two, "/krl: the revocation list is broken: ");
    refused(&new[..new.len() / 2], &two, "/krl: the revocation list is broken: ");
    refused(b"", &two, "/krl: the revocation list is empty");
    refused(b"nonsense\n", &two, "/krl: the revocation list is broken: ");
    refused(&two, &two, "/krl: a plain list of keys, not a KRL");
    refused(&new, b"", "/user_ca.pub: holds no CA key");
    refused(&new, &[&two[..], b"nonsense\n"].concat(), "/user_ca.pub: line 3 is no CA key: ");
    web1.script(&format!("mv {FEED}/krl {FEED}/elsewhere")).unwrap();
    let missing = web1.run(["ussh-hostd", "sync"]).unwrap();
    assert!(missing.status.code() == 1 && missing.stderr.contains("/krl: No such file"), "{missing}");
    assert_eq!(installed(), before);

    offer("krl", &new);
    offer("user_ca.pub", &two);
    web1.run(["ussh-hostd", "sync"]).unwrap().ok().unwrap();
    assert_eq!(installed(), [two.clone(), new.clone()]);
    assert_eq!(
        web1.run(["ssh-keygen", "-Qf", "/etc/ssh/revoked_keys", "/etc/ssh/trusted_user_ca"]).unwrap().status.code(),
        0
    );

    offer("krl", &old);
    offer("user_ca.pub", &ca);
    let back = web1.run(["ussh-hostd", "sync"]).unwrap();
    assert!(back.status.code() == 1 && back.stderr.contains("/krl: going back is refused: version "), "{back}");
    assert_eq!(installed(), [two, new]);
    assert!(world.host("ca").exists(&format!("{CA_DIR}/public/user_ca.pub")));
}
